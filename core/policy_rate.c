/* policy_rate.c - what the policy measures by: time, the bucket of collection
 * time, what actions are worth, how fast usage grows. */
#include "memguard/policy.h"

#include <math.h>

#include "internal.h"

#define POLICY_POINT_MS 1000.0 /* between two points */
#define POLICY_SHORT_MS 5000.0
#define POLICY_LONG_MS 60000.0
#define POLICY_LEAST_TOOK_MS 0.1
#define POLICY_BYTES_MIN (4.0 * 1048576.0)
#define POLICY_BYTES_MAX (256.0 * 1048576.0)

/* ---- time ---------------------------------------------------------------- */

static mg_policy_point *rate_point(mg_policy *p, uint32_t i) {
  return &p->point[(p->first_point + i) % MG_POLICY_POINTS];
}

/* The clock jumped by `ms`: all that is remembered keeps its age. NaN stays. */
static void rate_shift(mg_policy *p, double ms) {
  p->acted_ms += ms;
  p->shed_ms += ms;
  p->backoff.since_ms += ms;
  p->full_backoff.since_ms += ms;
  for (int action = 0; action < MG_ACTIONS; action++)
    p->worth[action].done_ms += ms;
  for (uint32_t i = 0; i < p->points; i++) rate_point(p, i)->at_ms += ms;
}

static double rate_leaked(const mg_policy *p, const mg_config *config,
                          mg_level level, double passed_ms) {
  mg_config_id id = level == MG_LEVEL_CRITICAL ? MG_CONFIG_GC_BUDGET_CRITICAL
                                               : MG_CONFIG_GC_BUDGET;

  return fmax(p->bucket_ms - passed_ms * mg_config_get(config, id) / 100.0,
              0.0);
}

void mg__policy_advance(mg_policy *p, const mg_config *config, mg_level level,
                        double now_ms) {
  double passed_ms = now_ms - p->last_ms; /* NaN at first */

  if (!isfinite(now_ms)) return;
  if (passed_ms < 0) rate_shift(p, passed_ms);
  if (passed_ms > 0) p->bucket_ms = rate_leaked(p, config, level, passed_ms);
  if (passed_ms > MG_POLICY_GAP_MS) p->points = 0;
  p->last_ms = now_ms;
}

/* ---- collection time ----------------------------------------------------- */

void mg__policy_charge(mg_policy *p, double gc_ms) {
  double least = fmin(p->bucket_ms, MG_POLICY_BUCKET_MS);

  if (gc_ms > 0 && isfinite(gc_ms))
    p->bucket_ms = fmax(p->bucket_ms, least + gc_ms);
}

void mg_policy_spent(mg_policy *policy, double gc_ms) {
  mg__policy_charge(policy, gc_ms);
}

bool mg__policy_fits(double bucket_ms, double gc_ms, double capacity_ms) {
  return bucket_ms <= 0 || bucket_ms + gc_ms <= capacity_ms;
}

double mg__policy_expected_ms(const mg_policy *p, mg_action action) {
  double gc_ms = p->worth[action].gc_ms;

  if (isnan(gc_ms)) gc_ms = p->worth[MG_ACTION_FULL].gc_ms;
  return isnan(gc_ms) ? MG_POLICY_UNKNOWN_MS : gc_ms;
}

bool mg_policy_may_collect(const mg_policy *policy, const mg_config *config,
                           mg_level level, double gc_ms, double now_ms) {
  double passed_ms = fmax(now_ms - policy->last_ms, 0.0); /* 0 for NaN */

  if (isinf(now_ms)) passed_ms = 0;
  return mg__policy_fits(rate_leaked(policy, config, level, passed_ms),
                         fmax(gc_ms, 0.0), MG_POLICY_BUCKET_MS);
}

/* ---- what actions are worth ---------------------------------------------- */

static double rate_seed(mg_action action) {
  static const double seeds[] = {
#define RATE_SEED(id, name, bytes_per_ms, collects) bytes_per_ms,
      MG_ACTION_MAP(RATE_SEED)
#undef RATE_SEED
  };
  return seeds[action];
}

double mg__policy_worth(const mg_policy *p, mg_action action) {
  const mg_policy_worth *w = &p->worth[action];
  double seed = rate_seed(action);

  if (isnan(w->done_ms)) return seed;
  return seed + (w->bytes_per_ms - seed) /
                    (1.0 + (p->last_ms - w->done_ms) / MG_POLICY_FORGET_MS);
}

void mg__policy_learn(mg_policy *p, mg_action action,
                      const mg_outcome *outcome) {
  mg_policy_worth *w = &p->worth[action];
  double average = mg__policy_worth(p, action), gc_ms = outcome->gc_ms;
  double brought = (double)outcome->freed_bytes /
                   fmax(outcome->took_ms, POLICY_LEAST_TOOK_MS);

  w->bytes_per_ms = average + MG_POLICY_WEIGHT * (brought - average);
  w->done_ms = p->last_ms;
  if (isnan(w->gc_ms) || gc_ms > w->gc_ms)
    w->gc_ms = gc_ms;
  else
    w->gc_ms += MG_POLICY_WEIGHT * (gc_ms - w->gc_ms);
}

/* ---- slopes ---------------------------------------------------------------- */

void mg__policy_remember(mg_policy *p) {
  if (p->points > 0 &&
      p->last_ms - rate_point(p, p->points - 1)->at_ms < POLICY_POINT_MS)
    return;
  if (p->points == MG_POLICY_POINTS) {
    p->first_point = (p->first_point + 1) % MG_POLICY_POINTS;
    p->points--;
  }
  *rate_point(p, p->points++) = (mg_policy_point){p->last_ms, p->usage};
}

/* Growth of usage per ms since the youngest point that is at least `span_ms` old,
 * or else since the oldest. 0 if that is younger than `least_ms`. */
static double rate_slope(const mg_policy *p, double span_ms, double least_ms) {
  const mg_policy_point *from = NULL;

  for (uint32_t i = p->points; i-- > 0;) {
    from = &p->point[(p->first_point + i) % MG_POLICY_POINTS];
    if (p->last_ms - from->at_ms >= span_ms) break;
  }
  if (from == NULL || p->last_ms - from->at_ms < least_ms) return 0.0;
  return (p->usage - from->usage) / (p->last_ms - from->at_ms);
}

double mg_policy_time_to_limit_ms(const mg_policy *policy) {
  double slope = rate_slope(policy, POLICY_SHORT_MS, POLICY_SHORT_MS);

  if (policy->usage >= 1.0) return 0.0;
  return slope > 0 ? (1.0 - policy->usage) / slope : -1.0;
}

bool mg__policy_is_near(const mg_policy *p, const mg_config *config) {
  double low = mg_config_get(config, MG_CONFIG_LOW_WATER_MARK) / 100.0;
  double left_ms = mg_policy_time_to_limit_ms(p);

  return p->usage >= low && left_ms >= 0 && left_ms < MG_POLICY_NEAR_MS &&
         rate_slope(p, POLICY_LONG_MS, POLICY_SHORT_MS) > 0;
}

/* ---- bytes ----------------------------------------------------------------- */

uint64_t mg_policy_budget_bytes(uint64_t limit_bytes, double usage) {
  double limit = (double)limit_bytes, half, budget;

  if (limit_bytes == MG_ABSENT) return MG_ABSENT;
  half = fmax(1.0 - usage, 0.0) * limit / 2.0; /* 0 for NaN */
  budget = fmin(fmax(half, limit / 16.0), limit / 4.0);
  return (uint64_t)fmin(fmax(budget, POLICY_BYTES_MIN), POLICY_BYTES_MAX);
}
