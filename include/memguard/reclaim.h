/* memguard/reclaim.h - does what the policy decides, and reports what it brought.
 *
 * One engine per heap: an interpreter, an isolate. Monitors join it. While several
 * are joined, the one whose usage is highest decides: its settings, its level.
 * Each sample of a joined monitor asks the policy (policy.h). Actions then run
 * one at a time, on memguard's worker thread or on the thread of whoever calls
 * mg_reclaim_poll() first, so the sampler never waits for them.
 *
 * The engine knows no runtime: the binding's hooks do the work and measure the
 * heap, the engine measures resident set and time around them. Nothing is
 * estimated. Each round is kept (MG_ROUNDS of them) and raised as the event
 * MG_EVENT_OPTIMIZATION, failing ones too; MG_EVENT_UNRECLAIMABLE is raised when
 * the policy gives up.
 *
 * Threads: any thread may call any function on an open engine, also from inside
 * a hook; mg_reclaim_close() comes last and not from a hook. mg_reclaim_notify()
 * takes no lock, allocates nothing and may be called anywhere, in a signal
 * handler and inside an allocator too. No lock is held while a hook runs. */
#ifndef MEMGUARD_RECLAIM_H
#define MEMGUARD_RECLAIM_H

#include "memguard/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_ROUNDS 64u       /* kept by an engine */
#define MG_ROUND_STEPS 8u   /* actions of one round */

typedef struct mg_reclaim mg_reclaim;

/** One action of a round. */
typedef struct mg_step {
  mg_action action;
  bool was_done;
  double took_ms, gc_ms;
  uint64_t freed_bytes; /* as mg_outcome */
} mg_step;

/** What one round did. Bytes are MG_ABSENT where unknown. */
typedef struct mg_round {
  uint64_t number; /* 1 for an engine's first */
  uint64_t unix_ms; /* when it began */
  mg_reason reason;
  mg_level level;
  double took_ms, gc_ms;
  double usage_before, usage_after;
  uint64_t rss_before_bytes, rss_after_bytes;
  uint64_t heap_before_bytes, heap_after_bytes; /* live, as the runtime counts */
  uint64_t freed_bytes; /* what resident set or live heap fell by, the larger */
  bool is_unreclaimable; /* the policy gave up with it */
  uint32_t steps;
  mg_step step[MG_ROUND_STEPS];
} mg_round;

/** What the engine did so far. */
typedef struct mg_reclaim_stats {
  uint64_t rounds, useful_rounds; /* useful: freed at least 1 % */
  uint64_t actions[MG_ACTIONS];   /* done, by action */
  uint64_t failed;                /* actions that could not be done */
  uint64_t freed_bytes;
  double took_ms, gc_ms;
  bool is_unreclaimable;
  double time_to_limit_ms; /* below 0: not growing */
} mg_reclaim_stats;

typedef struct mg_reclaim_hooks {
  size_t struct_bytes; /* sizeof(mg_reclaim_hooks), set by the macro below */
  uint32_t actions;    /* MG_ACTION_BIT of what `act` can do at all */
  /** Does `action` to its end on the calling thread and fills the outcome's
   *  was_done, gc_ms; for a collection also freed_bytes and used_bytes (live
   *  bytes). May block, within reason. The engine fills the rest, and for
   *  MG_ACTION_POOLS relieves the pools of the core (pool.h) itself, afterwards.
   *  @param share of caches or pools to give up.
   *  @param on_worker it is memguard's thread, which knows no runtime yet. */
  void (*act)(void *ctx, mg_action action, mg_reason reason, double share,
              bool on_worker, mg_outcome *out);
  /** Growth of large blocks since the last collection, or MG_ABSENT. May be
   *  called from any thread, takes no lock. NULL: not counted. */
  uint64_t (*grown_bytes)(void *ctx);
  /** Live bytes of the heap as far as known without work, or MG_ABSENT; as
   *  above. NULL: unknown. */
  uint64_t (*live_bytes)(void *ctx);
  /** How long the worker leaves an action to the runtime's own threads
   *  (mg_reclaim_poll) before it does it itself, in ms. 0: not at all; below 0:
   *  for ever. */
  double grace_ms;
  void *ctx;
} mg_reclaim_hooks;
#define MG_RECLAIM_HOOKS_INIT \
  {sizeof(mg_reclaim_hooks), 0, NULL, NULL, NULL, 0.0, NULL}

/** @param out [owned] @param hooks [borrowed] copied.
 *  @return MG_OK, MG_EINVAL (foreign struct size), MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_reclaim_open(mg_reclaim **out, const mg_reclaim_hooks *hooks,
                                 mg_error *err);
/** Waits for an action under way. No monitor may be joined any more, or call
 *  into it. NULL allowed. */
MG_API void mg_reclaim_close(mg_reclaim *reclaim);

/** Does on this thread what is due, if the policy says so and no other thread is
 *  at it. Cheap when nothing is: one atomic load. @return whether it did. */
MG_API bool mg_reclaim_poll(mg_reclaim *reclaim);
/** The same on a thread that can do only `actions` (bits) where it is: what begins
 *  with another one is left to the worker. */
MG_API bool mg_reclaim_poll_for(mg_reclaim *reclaim, uint32_t actions);
/** Whether mg_reclaim_poll() would have something to do: one atomic load. */
MG_API bool mg_reclaim_is_due(const mg_reclaim *reclaim);

/** Asks for the policy to be asked soon, because bytes grew by the budget. */
MG_API void mg_reclaim_notify(mg_reclaim *reclaim);
/** The budget for growth of large blocks that holds now: one atomic load;
 *  MG_ABSENT while no monitor has sampled. */
MG_API uint64_t mg_reclaim_budget_bytes(const mg_reclaim *reclaim);

/** Does `actions` (bits) now, on this thread, in the ladder's order, whatever
 *  policy and budget say; the time is charged to the budget. From inside a hook,
 *  or while another thread is at it for longer than `wait_ms`, nothing is done.
 *  @param out [may be NULL] the round. @return MG_OK, MG_ECONFLICT (busy; the
 *  error says what with). */
MG_API mg_status mg_reclaim_run(mg_reclaim *reclaim, uint32_t actions,
                                mg_reason reason, double share, double wait_ms,
                                mg_round *out, mg_error *err);

/** Charges collection time that the host spent by itself to the budget. */
MG_API void mg_reclaim_spent(mg_reclaim *reclaim, double gc_ms);

/** Copies the numbers since it was opened. */
MG_API void mg_reclaim_read_stats(const mg_reclaim *reclaim,
                                  mg_reclaim_stats *out);
/** Copies the newest rounds, oldest first. @return how many. */
MG_API size_t mg_reclaim_rounds(const mg_reclaim *reclaim, mg_round *out,
                                size_t max);
/** One round by its number, as an event names it. @return false if it is not
 *  kept any more. */
MG_API bool mg_reclaim_round(const mg_reclaim *reclaim, uint64_t number,
                             mg_round *out);

#ifdef __cplusplus
}
#endif
#endif
