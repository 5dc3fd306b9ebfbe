/* memguard/optimize.h - when an optimization is due, what it does, whether it may.
 *
 * An optimization is what a host asks for, or what a service starts for it: the
 * actions of policy.h together with clean-ups, connection pools and strategies of
 * the host, measured and reported as one. The engine (reclaim.h) acts by itself
 * and needs none of this.
 *
 *   reason      an optimization starts by itself when
 *   emergency   the level is critical: at once, then for each further 1 % of the
 *               limit, or MG_OPTIMIZE_AGAIN_MS after the last one
 *   scheduled   usage is at or above high_water_mark_percent and gc_interval has
 *               passed since anything acted, an optimization or the engine
 *   preventive  memory grows rapidly or the limit is near (MG_POLICY_NEAR_MS),
 *               usage is at or above low_water_mark_percent, and gc_interval or
 *               MG_OPTIMIZE_PREVENTIVE_MS has passed, the shorter one
 *
 * None starts within MG_OPTIMIZE_APART_MS of anything that acted: the engine has
 * just done what could be done.
 *
 *   strategy    what it does, round by round
 *   standard    caches 0.25, pools 0.25, full collection, clean-ups; then trim
 *   aggressive  caches 1.0, pools 1.0, full collection, release, clean-ups, flushed
 *               buffers; then the same without the host's part, while the last
 *               round freed at least 1 % of what was in use: MG_OPTIMIZE_ROUNDS at
 *               most, none begun after MG_OPTIMIZE_MS
 *   preventive  pools 0.25, young collection; then trim
 *   gc          full collection
 *
 *   degraded    after MG_OPTIMIZE_FAILURES failures in a row nothing starts by
 *               itself for MG_OPTIMIZE_PAUSE_MS, what is asked for as scheduled or
 *               preventive is refused, emergency too unless forced. Monitoring
 *               goes on. After the pause the next one is tried: a success ends the
 *               mode, a failure doubles the pause up to MG_OPTIMIZE_PAUSE_MAX_MS.
 *
 * A clock that jumps back moves all remembered times along: no time has passed.
 *
 * Threads: pure; the state is the caller's. Time is an argument. */
#ifndef MEMGUARD_OPTIMIZE_H
#define MEMGUARD_OPTIMIZE_H

#include "memguard/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_OPTIMIZE_REPORTS 100u /* what a service keeps of reports, snapshots */
#define MG_OPTIMIZE_ROUNDS 5u
#define MG_OPTIMIZE_MS 2000.0
#define MG_OPTIMIZE_AGAIN_MS 30000.0
#define MG_OPTIMIZE_APART_MS 2000.0
#define MG_OPTIMIZE_PREVENTIVE_MS 60000.0
#define MG_OPTIMIZE_FAILURES 3
#define MG_OPTIMIZE_PAUSE_MS 60000.0
#define MG_OPTIMIZE_PAUSE_MAX_MS 3600000.0

/** X(ID, name): why; NONE is no reason. */
#define MG_OPTIMIZE_REASON_MAP(X) \
  X(NONE, "none")                 \
  X(MANUAL, "manual")             \
  X(SCHEDULED, "scheduled")       \
  X(EMERGENCY, "emergency")       \
  X(PREVENTIVE, "preventive")

typedef enum mg_optimize_reason {
#define MG_OPTIMIZE_REASON_ENUM(id, name) MG_OPTIMIZE_##id,
  MG_OPTIMIZE_REASON_MAP(MG_OPTIMIZE_REASON_ENUM)
#undef MG_OPTIMIZE_REASON_ENUM
      MG_OPTIMIZE_REASONS
} mg_optimize_reason;

/** X(ID, name) */
#define MG_STRATEGY_MAP(X)      \
  X(STANDARD, "standard")       \
  X(AGGRESSIVE, "aggressive")   \
  X(PREVENTIVE, "preventive")   \
  X(GC, "gc")

typedef enum mg_strategy {
#define MG_STRATEGY_ENUM(id, name) MG_STRATEGY_##id,
  MG_STRATEGY_MAP(MG_STRATEGY_ENUM)
#undef MG_STRATEGY_ENUM
      MG_STRATEGIES
} mg_strategy;

/** X(field): all that is remembered; statistics first. All double, so that a
 *  binding can hold it as a row of numbers: counts are exact up to 2^53. */
#define MG_OPTIMIZER_MAP(X)                                                \
  X(total)                                                                 \
  X(succeeded)                                                             \
  X(manual) X(scheduled) X(emergency) X(preventive) /* `total` by reason */ \
  X(refused)                                                               \
  X(freed_bytes)                                                           \
  X(took_ms)                                                               \
  X(longest_ms)                                                            \
  X(failures)         /* in a row */                                       \
  X(is_degraded)      /* 0 or 1 */                                         \
  X(pause_ms)         /* of the degraded mode; 0: normal mode */           \
  X(resume_ms)        /* end of that pause */                              \
  X(seen_ms)          /* time of the last call; -1: none yet */            \
  X(acted_ms)         /* end of the last optimization; -1: none yet */     \
  X(emergency_ms)     /* when the last emergency became due; -1: none yet */ \
  X(emergency_usage)  /* usage then; 0: the level has been lower since */

typedef struct mg_optimizer {
#define MG_OPTIMIZER_FIELD(field) double field;
  MG_OPTIMIZER_MAP(MG_OPTIMIZER_FIELD)
#undef MG_OPTIMIZER_FIELD
} mg_optimizer;

/** What is known when the scheduler is asked. */
typedef struct mg_optimizer_view {
  double now_ms; /* any monotonic origin */
  double usage;  /* of the nearest limit, 0 to 1 and above */
  mg_level level;
  bool is_growing;          /* rapidly, as MG_EVENT_RAPID_GROWTH says */
  double time_to_limit_ms;  /* below 0: not growing, or unknown */
  double engine_acted_ms;   /* how long ago the engine acted; below 0: never */
} mg_optimizer_view;

/** An optimizer that has seen nothing. */
MG_API void mg_optimizer_init(mg_optimizer *out);

/** Whether an optimization is due, and why. The answer EMERGENCY is remembered:
 *  the same state of things gives it once. With `enabled` or enable_auto_gc false
 *  the answer is always MG_OPTIMIZE_NONE. */
MG_API mg_optimize_reason mg_optimizer_due(mg_optimizer *optimizer,
                                           const mg_config *config,
                                           const mg_optimizer_view *view);

/** Whether one that is asked for may run now. A refusal is counted.
 *  @param is_forced run it whatever the mode. */
MG_API bool mg_optimizer_may(mg_optimizer *optimizer, mg_optimize_reason reason,
                             bool is_forced, double now_ms);

/** How an optimization went; `now_ms` is its end. */
MG_API void mg_optimizer_done(mg_optimizer *optimizer,
                              mg_optimize_reason reason, bool is_success,
                              uint64_t freed_bytes, double took_ms,
                              double now_ms);

/** Aggressive if asked for and in an emergency, preventive if that is the reason,
 *  else standard. */
MG_API mg_strategy mg_strategy_for(mg_optimize_reason reason,
                                   bool is_aggressive);

/** What one round of a strategy does. */
typedef struct mg_plan {
  uint32_t actions; /* MG_ACTION_BIT of each; 0: the strategy is through */
  double share;     /* of caches and pools to give up */
  bool cleans;      /* clean-ups and connection pools of the host as well */
  bool flushes;     /* and buffers that have a sink */
} mg_plan;

/** What was measured so far. */
typedef struct mg_progress {
  uint32_t round;       /* rounds done; 0: the strategy begins */
  double elapsed_ms;    /* since it began */
  uint64_t freed_bytes; /* by the last round */
  uint64_t used_bytes;  /* in use before that round; MG_ABSENT: unknown */
} mg_progress;

/** What an optimization does next, by what it has done so far. Pure. */
MG_API mg_plan mg_strategy_plan(mg_strategy strategy,
                                const mg_progress *progress);

/** Memory in use, in the two measures that a collection can change; MG_ABSENT
 *  where unknown. The heap counts live bytes, with what it owns outside. */
typedef struct mg_measure {
  uint64_t rss_bytes, heap_bytes;
} mg_measure;

/** @return what resident set or heap fell by, the larger one; 0 if neither did. */
MG_API uint64_t mg_freed_bytes(const mg_measure *before,
                               const mg_measure *after);

/** Names as both runtimes show them. */
MG_API const char *mg_optimize_reason_name(mg_optimize_reason reason);
MG_API const char *mg_strategy_name(mg_strategy strategy);

#ifdef __cplusplus
}
#endif
#endif
