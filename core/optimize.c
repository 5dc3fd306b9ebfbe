/* optimize.c - the scheduler, the degraded mode and the plans of optimizations.
 * Pure. */
#include "memguard/optimize.h"

#include <math.h>

#include "internal.h"

#define OPTIMIZE_NEVER (-1.0)
#define OPTIMIZE_STEP 0.01   /* of the limit: one more emergency */
#define OPTIMIZE_USEFUL 0.01 /* of what was in use: worth another round */

void mg_optimizer_init(mg_optimizer *out) {
  *out = (mg_optimizer){.seen_ms = OPTIMIZE_NEVER,
                        .acted_ms = OPTIMIZE_NEVER,
                        .emergency_ms = OPTIMIZE_NEVER};
}

/* ---- time -------------------------------------------------------------- */

/* A remembered time stays as long ago as it was; the origin is any, so a time
 * may be below 0 only as OPTIMIZE_NEVER. */
static void optimize_move(double *at_ms, double by_ms) {
  if (*at_ms >= 0) *at_ms = fmax(*at_ms + by_ms, 0.0);
}

static void optimize_see(mg_optimizer *o, double now_ms) {
  double by_ms = now_ms - o->seen_ms;

  if (o->seen_ms >= 0 && by_ms < 0) {
    optimize_move(&o->acted_ms, by_ms);
    optimize_move(&o->emergency_ms, by_ms);
    o->resume_ms += by_ms;
  }
  o->seen_ms = now_ms;
}

static double optimize_since(double at_ms, double now_ms) {
  return at_ms < 0 ? INFINITY : now_ms - at_ms;
}

/* ---- the scheduler ----------------------------------------------------- */

static bool optimize_is_emergency(const mg_optimizer *o,
                                  const mg_optimizer_view *v) {
  if (v->level < MG_LEVEL_CRITICAL) return false;
  return v->usage >= o->emergency_usage + OPTIMIZE_STEP ||
         optimize_since(o->emergency_ms, v->now_ms) >= MG_OPTIMIZE_AGAIN_MS;
}

static bool optimize_is_preventive(const mg_config *config,
                                   const mg_optimizer_view *v,
                                   double since_ms) {
  double low = mg_config_get(config, MG_CONFIG_LOW_WATER_MARK) / 100.0;
  double interval_ms = mg_config_get(config, MG_CONFIG_GC_INTERVAL);
  bool is_near =
      v->time_to_limit_ms >= 0 && v->time_to_limit_ms < MG_POLICY_NEAR_MS;

  return (v->is_growing || is_near) && v->usage >= low &&
         since_ms >= fmin(interval_ms, MG_OPTIMIZE_PREVENTIVE_MS);
}

static bool optimize_is_scheduled(const mg_config *config,
                                  const mg_optimizer_view *v,
                                  double since_ms) {
  double high = mg_config_get(config, MG_CONFIG_HIGH_WATER_MARK) / 100.0;

  return v->usage >= high &&
         since_ms >= mg_config_get(config, MG_CONFIG_GC_INTERVAL);
}

static bool optimize_is_paused(const mg_optimizer *o, double now_ms) {
  return o->is_degraded != 0 && now_ms < o->resume_ms;
}

mg_optimize_reason mg_optimizer_due(mg_optimizer *o, const mg_config *config,
                                    const mg_optimizer_view *v) {
  double since_ms = INFINITY;

  optimize_see(o, v->now_ms);
  if (v->level < MG_LEVEL_CRITICAL) o->emergency_usage = 0;
  if (mg_config_get(config, MG_CONFIG_ENABLED) == 0 ||
      mg_config_get(config, MG_CONFIG_ENABLE_AUTO_GC) == 0 ||
      optimize_is_paused(o, v->now_ms))
    return MG_OPTIMIZE_NONE;
  if (v->engine_acted_ms >= 0) since_ms = v->engine_acted_ms;
  since_ms = fmin(since_ms, optimize_since(o->acted_ms, v->now_ms));
  if (since_ms < MG_OPTIMIZE_APART_MS) return MG_OPTIMIZE_NONE;
  if (optimize_is_emergency(o, v)) {
    o->emergency_ms = v->now_ms;
    o->emergency_usage = v->usage;
    return MG_OPTIMIZE_EMERGENCY;
  }
  if (optimize_is_scheduled(config, v, since_ms)) return MG_OPTIMIZE_SCHEDULED;
  return optimize_is_preventive(config, v, since_ms) ? MG_OPTIMIZE_PREVENTIVE
                                                     : MG_OPTIMIZE_NONE;
}

/* ---- the mode and the statistics --------------------------------------- */

bool mg_optimizer_may(mg_optimizer *o, mg_optimize_reason reason,
                      bool is_forced, double now_ms) {
  optimize_see(o, now_ms);
  if (is_forced || reason == MG_OPTIMIZE_MANUAL ||
      !optimize_is_paused(o, now_ms))
    return true;
  o->refused++;
  return false;
}

static void optimize_count(mg_optimizer *o, mg_optimize_reason reason) {
  o->total++;
  switch (reason) {
    case MG_OPTIMIZE_MANUAL: o->manual++; break;
    case MG_OPTIMIZE_SCHEDULED: o->scheduled++; break;
    case MG_OPTIMIZE_EMERGENCY: o->emergency++; break;
    case MG_OPTIMIZE_PREVENTIVE: o->preventive++; break;
    case MG_OPTIMIZE_NONE:
    case MG_OPTIMIZE_REASONS: break;
  }
}

static void optimize_fail(mg_optimizer *o, double now_ms) {
  o->failures++;
  if (o->failures < MG_OPTIMIZE_FAILURES) return;
  /* One that failed during the pause was asked for, and proves nothing new. */
  if (optimize_is_paused(o, now_ms)) return;
  o->pause_ms = o->is_degraded == 0
                    ? MG_OPTIMIZE_PAUSE_MS
                    : fmin(o->pause_ms * 2, MG_OPTIMIZE_PAUSE_MAX_MS);
  o->is_degraded = 1;
  o->resume_ms = now_ms + o->pause_ms;
}

void mg_optimizer_done(mg_optimizer *o, mg_optimize_reason reason,
                       bool is_success, uint64_t freed_bytes, double took_ms,
                       double now_ms) {
  optimize_see(o, now_ms);
  optimize_count(o, reason);
  if (freed_bytes != MG_ABSENT) o->freed_bytes += (double)freed_bytes;
  o->took_ms += took_ms;
  o->longest_ms = fmax(o->longest_ms, took_ms);
  o->acted_ms = now_ms;
  if (!is_success) {
    optimize_fail(o, now_ms);
    return;
  }
  o->succeeded++;
  o->failures = o->is_degraded = o->pause_ms = o->resume_ms = 0;
}

/* ---- strategies -------------------------------------------------------- */

mg_strategy mg_strategy_for(mg_optimize_reason reason, bool is_aggressive) {
  if (is_aggressive || reason == MG_OPTIMIZE_EMERGENCY)
    return MG_STRATEGY_AGGRESSIVE;
  return reason == MG_OPTIMIZE_PREVENTIVE ? MG_STRATEGY_PREVENTIVE
                                          : MG_STRATEGY_STANDARD;
}

#define OPTIMIZE_BIT(id) MG_ACTION_BIT(MG_ACTION_##id)

/* By strategy: its first round and the others. Pages that a collection freed go
 * back to the system only after it, so trimming is a round of its own. */
static const mg_plan optimize_plans[MG_STRATEGIES][2] = {
    [MG_STRATEGY_STANDARD] =
        {{OPTIMIZE_BIT(CACHES) | OPTIMIZE_BIT(POOLS) | OPTIMIZE_BIT(FULL), 0.25,
          true, false},
         {OPTIMIZE_BIT(TRIM), 0.0, false, false}},
    [MG_STRATEGY_AGGRESSIVE] =
        {{OPTIMIZE_BIT(CACHES) | OPTIMIZE_BIT(POOLS) | OPTIMIZE_BIT(FULL) |
              OPTIMIZE_BIT(RELEASE),
          1.0, true, true},
         {OPTIMIZE_BIT(CACHES) | OPTIMIZE_BIT(POOLS) | OPTIMIZE_BIT(FULL) |
              OPTIMIZE_BIT(RELEASE),
          1.0, false, false}},
    [MG_STRATEGY_PREVENTIVE] =
        {{OPTIMIZE_BIT(POOLS) | OPTIMIZE_BIT(YOUNG), 0.25, false, false},
         {OPTIMIZE_BIT(TRIM), 0.0, false, false}},
    [MG_STRATEGY_GC] = {{OPTIMIZE_BIT(FULL), 0.0, false, false}},
};

static bool optimize_goes_on(mg_strategy strategy, const mg_progress *p) {
  if (strategy != MG_STRATEGY_AGGRESSIVE) return p->round < 2;
  if (p->round == 0) return true;
  if (p->round >= MG_OPTIMIZE_ROUNDS || p->elapsed_ms >= MG_OPTIMIZE_MS ||
      p->freed_bytes == 0 || p->freed_bytes == MG_ABSENT)
    return false;
  return p->used_bytes == MG_ABSENT ||
         (double)p->freed_bytes >= OPTIMIZE_USEFUL * (double)p->used_bytes;
}

mg_plan mg_strategy_plan(mg_strategy strategy, const mg_progress *progress) {
  if ((unsigned)strategy >= MG_STRATEGIES ||
      !optimize_goes_on(strategy, progress))
    return (mg_plan){0};
  return optimize_plans[strategy][progress->round > 0];
}

/* ---- measuring --------------------------------------------------------- */

uint64_t mg_freed_bytes(const mg_measure *before, const mg_measure *after) {
  uint64_t rss = mg_fall_bytes(before->rss_bytes, after->rss_bytes);
  uint64_t heap = mg_fall_bytes(before->heap_bytes, after->heap_bytes);

  return rss > heap ? rss : heap;
}

const char *mg_optimize_reason_name(mg_optimize_reason reason) {
  static const char *const names[] = {
#define OPTIMIZE_NAME(id, name) name,
      MG_OPTIMIZE_REASON_MAP(OPTIMIZE_NAME)};
  return (unsigned)reason < MG_OPTIMIZE_REASONS ? names[reason] : "unknown";
}

const char *mg_strategy_name(mg_strategy strategy) {
  static const char *const names[] = {MG_STRATEGY_MAP(OPTIMIZE_NAME)};
#undef OPTIMIZE_NAME
  return (unsigned)strategy < MG_STRATEGIES ? names[strategy] : "unknown";
}
