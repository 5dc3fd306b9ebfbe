/* reclaim.c - asks the policy, has the binding act, measures, keeps the record.
 *
 *   sample -> mg__reclaim_offer -> due -> worker or mg_reclaim_poll()
 *                                          -> reclaim_act, action by action
 *
 * The lock guards everything but the atomics; `busy` says that a thread is at it,
 * and is held while a hook runs, when the lock is not. Lock order: sampler ->
 * monitor -> reclaim. Readings need the sampler's lock, so they are taken
 * without ours. */
#include "memguard/reclaim.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "internal.h"
#include "memguard/optimize.h"
#include "memguard/pool.h"
#include "os.h"

#define RECLAIM_NS_PER_MS 1e6
#define RECLAIM_LEAD_MS 60000.0 /* a monitor silent for longer leads no more */
#define RECLAIM_USEFUL 0.01     /* of what was in use */
#define RECLAIM_ROUNDS_AT_ONCE 4

struct mg_reclaim {
  mg__engine seat;
  mg_reclaim_hooks hooks;
  mg__mutex lock;
  mg__cond changed; /* `busy` ended */
  bool busy;
  mg__thread actor; /* who is at it, while busy */
  mg_policy policy;
  mg_decision decision; /* decided by a sample, not yet acted on */

  /* The monitor whose usage is highest, as its last sample said. */
  mg_monitor *lead;
  mg_config config;
  mg_sample sample;

  mg_round round[MG_ROUNDS]; /* number `n` in slot (n - 1) % MG_ROUNDS */
  mg_reclaim_stats stats;

  _Atomic bool due;   /* `decision` waits */
  _Atomic bool asked; /* mg_reclaim_notify() was called */
  _Atomic uint64_t budget_bytes;
  _Atomic uint64_t rounds; /* as stats.rounds */
  _Atomic uint64_t collections;
};

/* ---- life -------------------------------------------------------------- */

mg_status mg_reclaim_open(mg_reclaim **out, const mg_reclaim_hooks *hooks,
                          mg_error *err) {
  mg_reclaim *r;
  mg_status st;

  *out = NULL;
  if (hooks->struct_bytes != sizeof *hooks)
    return mg__fail(err, MG_EINVAL,
                    "mg_reclaim_hooks has %zu bytes, need %zu: header and "
                    "library differ",
                    hooks->struct_bytes, sizeof *hooks);
  r = mg__alloc(sizeof *r);
  if (r == NULL)
    return mg__fail(err, MG_ENOMEM, "reclaim engine, %zu bytes", sizeof *r);
  r->hooks = *hooks;
  r->seat.reclaim = r;
  r->seat.is_urgent = hooks->grown_bytes != NULL;
  r->changed = (mg__cond)MG__COND_INIT;
  atomic_store(&r->budget_bytes, MG_ABSENT);
  mg_policy_init(&r->policy);
  st = mg__mutex_init(&r->lock, err);
  if (st != MG_OK) goto fail_reclaim;
  st = mg__sampler_add_engine(&r->seat, err);
  if (st != MG_OK) goto fail_lock;
  *out = r;
  return MG_OK;

fail_lock:
  mg__mutex_destroy(&r->lock);
fail_reclaim:
  mg__free(r);
  return st;
}

void mg_reclaim_close(mg_reclaim *r) {
  if (r == NULL) return;
  mg__sampler_remove_engine(&r->seat);
  mg__lock(&r->lock);
  while (r->busy) mg__cond_wait(&r->changed, &r->lock);
  mg__unlock(&r->lock);
  mg__mutex_destroy(&r->lock);
  mg__free(r);
}

void mg__reclaim_leave(mg_reclaim *r, const mg_monitor *monitor) {
  mg__lock(&r->lock);
  if (r->lead == monitor) {
    r->lead = NULL;
    atomic_store(&r->due, false); /* decided by its settings */
  }
  mg__unlock(&r->lock);
}

/* ---- asking the policy; the caller holds the lock ---------------------- */

static uint64_t reclaim_least(uint64_t a, uint64_t b) {
  return b != 0 && b < a ? b : a;
}

/* What all memory of the process has to fit into, whichever domain is nearest
 * its limit at the moment: MG_ABSENT is the largest number. */
static uint64_t reclaim_limit(const mg_reclaim *r) {
  const mg_reading *reading = &r->sample.reading;
  double max_mb = mg_config_get(&r->config, MG_CONFIG_MAX_MEMORY_MB);
  uint64_t limit = (uint64_t)(max_mb * MG_BYTES_PER_MB);

  limit = reclaim_least(limit, reading->cgroup_limit_bytes);
  return reclaim_least(limit, reading->machine_total_bytes);
}

static uint64_t reclaim_grown(const mg_reclaim *r) {
  if (r->hooks.grown_bytes == NULL ||
      mg_config_get(&r->config, MG_CONFIG_BYTE_AWARE_GC) == 0)
    return MG_ABSENT;
  return r->hooks.grown_bytes(r->hooks.ctx);
}

static uint64_t reclaim_live(const mg_reclaim *r) {
  return r->hooks.live_bytes == NULL ? MG_ABSENT
                                     : r->hooks.live_bytes(r->hooks.ctx);
}

uint64_t mg__reclaim_live_bytes(const mg_reclaim *r) {
  return r == NULL ? MG_ABSENT : reclaim_live(r);
}

static mg_decision reclaim_ask(mg_reclaim *r) {
  mg_policy_view view = {.now_ms = mg_clock_ms(),
                         .usage = r->sample.usage,
                         .level = r->sample.level,
                         .limit_bytes = reclaim_limit(r),
                         .grown_bytes = reclaim_grown(r),
                         .available = r->hooks.actions};

  return mg_policy_next(&r->policy, &r->config, &view);
}

/* @return whether the samples of `monitor` count. */
static bool reclaim_leads(const mg_reclaim *r, const mg_monitor *monitor,
                          const mg_sample *sample) {
  double silent_ms =
      ((double)sample->clock_ns - (double)r->sample.clock_ns) /
      RECLAIM_NS_PER_MS;

  return r->lead == NULL || r->lead == monitor ||
         sample->usage > r->sample.usage || silent_ms > RECLAIM_LEAD_MS;
}

bool mg__reclaim_offer(mg_reclaim *r, mg_monitor *monitor,
                       const mg_config *config, const mg_sample *sample) {
  bool is_due = false;

  mg__lock(&r->lock);
  if (reclaim_leads(r, monitor, sample)) {
    r->lead = monitor;
    r->config = *config;
    r->sample = *sample;
    atomic_store_explicit(
        &r->budget_bytes,
        mg_policy_budget_bytes(reclaim_limit(r), sample->usage),
        memory_order_relaxed);
    if (!r->busy && !atomic_load(&r->due)) {
      r->decision = reclaim_ask(r);
      is_due = r->decision.action != MG_ACTION_NONE;
      atomic_store(&r->due, is_due);
    }
  }
  mg__unlock(&r->lock);
  return is_due;
}

/* ---- one action; no lock ------------------------------------------------- */

/* Usage now, by the settings of the lead. */
static double reclaim_usage(mg_reclaim *r, mg_reading *out) {
  mg_domain domain;
  double usage;

  mg_read_process(out);
  mg__lock(&r->lock);
  if (r->lead != NULL) mg__monitor_add_heap(r->lead, out);
  usage = mg_usage(out, &r->config, &domain);
  mg__unlock(&r->lock);
  return usage;
}

static bool reclaim_collects(mg_action action) {
  return (MG_COLLECTIONS & MG_ACTION_BIT(action)) != 0;
}

/* What the hook could not measure itself. */
static void reclaim_measure(const mg_reclaim *r, mg_action action,
                            uint64_t rss_before, uint64_t live_before,
                            uint64_t rss_after, mg_outcome *out) {
  uint64_t live_after = reclaim_live(r);

  if (!out->was_done) return;
  if (!reclaim_collects(action)) {
    out->used_bytes = rss_before == MG_ABSENT ? 0 : rss_before;
    out->freed_bytes = mg_fall_bytes(rss_before, rss_after);
  } else if (out->used_bytes == 0) {
    bool is_known = live_before != MG_ABSENT;
    uint64_t used = is_known ? live_before : rss_before;
    out->used_bytes = used == MG_ABSENT ? 0 : used;
    out->freed_bytes = is_known ? mg_fall_bytes(live_before, live_after)
                                : mg_fall_bytes(rss_before, rss_after);
  }
}

static void reclaim_do(mg_reclaim *r, mg_action action, mg_reason reason,
                       double share, bool on_worker, mg_outcome *out) {
  uint64_t rss_before = mg_rss_bytes(), live_before = reclaim_live(r);
  double began_ms = mg_clock_ms();
  mg_reading reading;

  *out = (mg_outcome){.was_done = false};
  r->hooks.act(r->hooks.ctx, action, reason, share, on_worker, out);
  if (action == MG_ACTION_POOLS && mg_pools_relieve(share) > 0)
    out->was_done = true;
  out->took_ms = mg_clock_ms() - began_ms;
  out->usage_after = reclaim_usage(r, &reading);
  reclaim_measure(r, action, rss_before, live_before, reading.rss_bytes, out);
}

/* ---- a round ------------------------------------------------------------ */

/* Holds the lock on entry and return, not while it reads. */
static void reclaim_begin_round(mg_reclaim *r, mg_round *out, mg_reason reason,
                                mg_level level) {
  mg_reading reading;

  *out = (mg_round){.reason = reason, .level = level};
  mg__unlock(&r->lock);
  out->unix_ms = mg__os_unix_ms();
  out->usage_before = out->usage_after = reclaim_usage(r, &reading);
  out->rss_before_bytes = reading.rss_bytes;
  out->heap_before_bytes = reclaim_live(r);
  mg__lock(&r->lock);
}

/* Holds the lock. */
static void reclaim_note_step(mg_reclaim *r, mg_round *round, mg_action action,
                              const mg_outcome *outcome) {
  round->took_ms += outcome->took_ms;
  round->gc_ms += outcome->gc_ms;
  round->usage_after = outcome->usage_after;
  if (outcome->was_done)
    r->stats.actions[action]++;
  else
    r->stats.failed++;
  if (outcome->was_done && reclaim_collects(action))
    atomic_fetch_add_explicit(&r->collections, 1, memory_order_relaxed);
  if (round->steps == MG_ROUND_STEPS) return;
  round->step[round->steps++] = (mg_step){.action = action,
                                          .was_done = outcome->was_done,
                                          .took_ms = outcome->took_ms,
                                          .gc_ms = outcome->gc_ms,
                                          .freed_bytes = outcome->freed_bytes};
}

/* Holds the lock on entry and return, not while it reads. */
static void reclaim_finish_round(mg_reclaim *r, mg_round *round) {
  mg__unlock(&r->lock);
  round->rss_after_bytes = mg_rss_bytes();
  round->heap_after_bytes = reclaim_live(r);
  mg__lock(&r->lock);
  round->freed_bytes = mg_freed_bytes(
      &(mg_measure){round->rss_before_bytes, round->heap_before_bytes},
      &(mg_measure){round->rss_after_bytes, round->heap_after_bytes});
  round->number = ++r->stats.rounds;
  r->stats.freed_bytes += round->freed_bytes;
  r->stats.took_ms += round->took_ms;
  r->stats.gc_ms += round->gc_ms;
  if (round->rss_before_bytes != MG_ABSENT &&
      (double)round->freed_bytes >=
          RECLAIM_USEFUL * (double)round->rss_before_bytes)
    r->stats.useful_rounds++;
  r->round[(round->number - 1) % MG_ROUNDS] = *round;
  atomic_store_explicit(&r->rounds, round->number, memory_order_release);
}

/* Holds the lock on entry and return, not while it acts. @return the decision
 * that follows: none, or the first of another round. */
static mg_decision reclaim_run_round(mg_reclaim *r, mg_decision decision,
                                     uint32_t actions, bool on_worker) {
  bool was_unreclaimable = r->policy.is_unreclaimable;
  mg_outcome outcome;
  mg_round round;

  reclaim_begin_round(r, &round, decision.reason, decision.level);
  do {
    outcome = (mg_outcome){.usage_after = r->sample.usage};
    if ((actions & MG_ACTION_BIT(decision.action)) != 0) {
      mg__unlock(&r->lock);
      reclaim_do(r, decision.action, decision.reason, decision.share, on_worker,
                 &outcome);
      mg__lock(&r->lock);
    }
    mg_policy_done(&r->policy, &r->config, decision.action, &outcome,
                   mg_clock_ms());
    reclaim_note_step(r, &round, decision.action, &outcome);
    r->sample.usage = outcome.usage_after;
    decision = reclaim_ask(r);
  } while (decision.action != MG_ACTION_NONE && !decision.begins_round);
  round.is_unreclaimable = r->policy.is_unreclaimable && !was_unreclaimable;
  reclaim_finish_round(r, &round);
  return decision;
}

/* ---- who is at it; the caller holds the lock ---------------------------- */

static void reclaim_enter(mg_reclaim *r) {
  r->busy = true;
  r->actor = mg__thread_self();
  atomic_store(&r->due, false);
  atomic_store(&r->asked, false);
}

static void reclaim_exit(mg_reclaim *r) {
  r->busy = false;
  mg__cond_wake_all(&r->changed);
}

/* Whether this thread can begin with it; else it is kept for the worker. */
static bool reclaim_accepts(mg_reclaim *r, const mg_decision *decision,
                            uint32_t actions) {
  if (decision->action == MG_ACTION_NONE ||
      (actions & MG_ACTION_BIT(decision->action)) != 0)
    return true;
  r->decision = *decision;
  atomic_store(&r->due, true);
  mg__sampler_post(&r->seat);
  return false;
}

/* @return whether anything was done. */
static bool reclaim_work_off(mg_reclaim *r, uint32_t actions, bool on_worker) {
  mg_decision decision = {.action = MG_ACTION_NONE};
  uint64_t done = r->stats.rounds;

  if (r->busy || r->lead == NULL) return false;
  if (atomic_load(&r->due)) decision = r->decision;
  reclaim_enter(r);
  if (decision.action == MG_ACTION_NONE) decision = reclaim_ask(r);
  for (int round = 0; decision.action != MG_ACTION_NONE; round++) {
    if (!reclaim_accepts(r, &decision, actions)) break;
    /* What is left then is decided by the next sample. */
    if (round == RECLAIM_ROUNDS_AT_ONCE) break;
    decision = reclaim_run_round(r, decision, actions, on_worker);
  }
  reclaim_exit(r);
  return r->stats.rounds != done;
}

/* ---- doors --------------------------------------------------------------- */

bool mg_reclaim_is_due(const mg_reclaim *r) {
  return atomic_load_explicit(&r->due, memory_order_relaxed) ||
         atomic_load_explicit(&r->asked, memory_order_relaxed);
}

static bool reclaim_visit(mg_reclaim *r, uint32_t actions, bool on_worker) {
  bool was_done;

  if (!mg_reclaim_is_due(r)) return false;
  mg__lock(&r->lock);
  was_done = reclaim_work_off(r, actions, on_worker);
  mg__unlock(&r->lock);
  if (was_done) mg__sampler_nudge(); /* monitors tell of it, and judge anew */
  return was_done;
}

bool mg_reclaim_poll(mg_reclaim *r) {
  return reclaim_visit(r, UINT32_MAX, false);
}

bool mg_reclaim_poll_for(mg_reclaim *r, uint32_t actions) {
  return reclaim_visit(r, actions, false);
}

void mg__reclaim_work(mg_reclaim *r) {
  if (r->hooks.grace_ms < 0) return;
  if (r->hooks.grace_ms > 0) mg__os_sleep_ms(r->hooks.grace_ms);
  reclaim_visit(r, UINT32_MAX, true);
}

void mg_reclaim_notify(mg_reclaim *r) {
  if (!atomic_exchange(&r->asked, true)) mg__sampler_post(&r->seat);
}

uint64_t mg_reclaim_budget_bytes(const mg_reclaim *r) {
  return atomic_load_explicit(&r->budget_bytes, memory_order_relaxed);
}

/* ---- by hand ------------------------------------------------------------- */

/* Holds the lock on entry and return. */
static mg_status reclaim_wait(mg_reclaim *r, double wait_ms, mg_error *err) {
  double until_ms = mg_clock_ms() + wait_ms;

  while (r->busy) {
    double left_ms = until_ms - mg_clock_ms();
    if (mg__thread_is_self(&r->actor))
      return mg__fail(err, MG_ECONFLICT,
                      "memory is being reclaimed by this very thread: not "
                      "again from inside an action");
    if (left_ms <= 0)
      return mg__fail(err, MG_ECONFLICT,
                      "memory is being reclaimed by another thread, and was "
                      "not finished within %g ms",
                      wait_ms);
    mg__cond_wait_ms(&r->changed, &r->lock, left_ms);
  }
  return MG_OK;
}

mg_status mg_reclaim_run(mg_reclaim *r, uint32_t actions, mg_reason reason,
                         double share, double wait_ms, mg_round *out,
                         mg_error *err) {
  mg_outcome outcome;
  mg_round round;
  mg_status st;

  mg__lock(&r->lock);
  st = reclaim_wait(r, wait_ms, err);
  if (st != MG_OK) {
    mg__unlock(&r->lock);
    return st;
  }
  reclaim_enter(r);
  reclaim_begin_round(r, &round, reason, r->sample.level);
  for (mg_action action = MG_ACTION_CACHES; action < MG_ACTIONS; action++) {
    if ((actions & r->hooks.actions & MG_ACTION_BIT(action)) == 0) continue;
    mg__unlock(&r->lock);
    reclaim_do(r, action, reason, share, false, &outcome);
    mg__lock(&r->lock);
    mg_policy_spent(&r->policy, outcome.gc_ms);
    reclaim_note_step(r, &round, action, &outcome);
    r->sample.usage = outcome.usage_after;
  }
  reclaim_finish_round(r, &round);
  reclaim_exit(r);
  mg__unlock(&r->lock);
  mg__sampler_nudge();
  if (out != NULL) *out = round;
  return MG_OK;
}

void mg_reclaim_spent(mg_reclaim *r, double gc_ms) {
  mg__lock(&r->lock);
  mg_policy_spent(&r->policy, gc_ms);
  mg__unlock(&r->lock);
}

/* ---- the record ---------------------------------------------------------- */

static mg__mutex *reclaim_lock_of(const mg_reclaim *r) {
  return (mg__mutex *)&r->lock;
}

void mg_reclaim_read_stats(const mg_reclaim *r, mg_reclaim_stats *out) {
  mg__lock(reclaim_lock_of(r));
  *out = r->stats;
  out->is_unreclaimable = r->policy.is_unreclaimable;
  out->time_to_limit_ms = mg_policy_time_to_limit_ms(&r->policy);
  mg__unlock(reclaim_lock_of(r));
}

size_t mg_reclaim_rounds(const mg_reclaim *r, mg_round *out, size_t max) {
  uint64_t count, first;

  mg__lock(reclaim_lock_of(r));
  count = r->stats.rounds < MG_ROUNDS ? r->stats.rounds : MG_ROUNDS;
  if (count > max) count = max;
  first = r->stats.rounds - count;
  for (uint64_t i = 0; i < count; i++)
    out[i] = r->round[(first + i) % MG_ROUNDS];
  mg__unlock(reclaim_lock_of(r));
  return (size_t)count;
}

bool mg_reclaim_round(const mg_reclaim *r, uint64_t number, mg_round *out) {
  bool is_kept;

  mg__lock(reclaim_lock_of(r));
  is_kept = number != 0 && number <= r->stats.rounds &&
            number + MG_ROUNDS > r->stats.rounds;
  if (is_kept) *out = r->round[(number - 1) % MG_ROUNDS];
  mg__unlock(reclaim_lock_of(r));
  return is_kept;
}

uint64_t mg__reclaim_count(const mg_reclaim *r) {
  return atomic_load_explicit(&r->rounds, memory_order_acquire);
}

uint64_t mg__reclaim_collections(const mg_reclaim *r) {
  return atomic_load_explicit(&r->collections, memory_order_relaxed);
}

/* ---- fork ---------------------------------------------------------------- */

void mg__reclaim_before_fork(mg_reclaim *r) { mg__lock(&r->lock); }

void mg__reclaim_after_fork(mg_reclaim *r) { mg__unlock(&r->lock); }

/* Another thread that was at it did not come along. */
void mg__reclaim_after_fork_in_child(mg_reclaim *r) {
  if (r->busy && !mg__thread_is_self(&r->actor)) r->busy = false;
  mg__cond_reset(&r->changed);
  mg_policy_init(&r->policy); /* the child's memory is another */
  atomic_store(&r->due, false);
  atomic_store(&r->asked, false);
  mg__unlock(&r->lock);
}
