/* policy.c - rounds: when one begins, what it tries, what it taught.
 *
 * mg_policy_next() takes up what is new, goes on with the round under way or ends
 * it, and then asks the reasons in turn whether one of them begins the next. */
#include "memguard/policy.h"

#include <math.h>

#include "internal.h"

#define POLICY_STEP 0.01  /* of the limit: forced steps */
#define POLICY_SWING 0.05 /* of the limit: begins things anew */
#define POLICY_USEFUL 0.01
#define POLICY_TINY 1e-9 /* 0.95 + 0.01 is no exact sum */

#define POLICY_HEAVY                   \
  (MG_ACTION_BIT(MG_ACTION_FULL) | MG_ACTION_BIT(MG_ACTION_RELEASE))
#define POLICY_ALL (MG_ACTION_BIT(MG_ACTION_SHED) - 2u) /* below SHED, not NONE */

void mg_policy_init(mg_policy *out) {
  *out = (mg_policy){.last_ms = NAN,
                     .acted_ms = NAN,
                     .shed_ms = NAN,
                     .limit_bytes = MG_ABSENT,
                     .backoff = {.since_ms = NAN},
                     .full_backoff = {.since_ms = NAN}};
  for (int action = 0; action < MG_ACTIONS; action++)
    out->worth[action] = (mg_policy_worth){0.0, NAN, NAN};
}

static double policy_ratio(const mg_config *config, mg_config_id id) {
  return mg_config_get(config, id) / 100.0;
}

static bool policy_has_passed(double since_ms, double wait_ms, double now_ms) {
  return !(now_ms - since_ms < wait_ms); /* NaN: there is nothing to wait for */
}

/* ---- taking up what is new ------------------------------------------------ */

static mg_policy_view policy_clean(const mg_policy *p,
                                   const mg_policy_view *given) {
  mg_policy_view v = *given;

  if (!isfinite(v.now_ms)) v.now_ms = isnan(p->last_ms) ? 0.0 : p->last_ms;
  if (!(v.usage >= 0) || isinf(v.usage)) v.usage = p->usage;
  if ((unsigned)v.level >= MG_LEVELS) v.level = MG_LEVEL_NORMAL;
  return v;
}

static void policy_lift(mg_policy_backoff *b, double usage) {
  if (usage >= b->usage + POLICY_SWING - POLICY_TINY) b->ms = 0;
}

static void policy_see(mg_policy *p, const mg_config *config,
                       const mg_policy_view *v) {
  double threshold = policy_ratio(config, MG_CONFIG_FORCE_GC_THRESHOLD);
  bool is_critical = v->level == MG_LEVEL_CRITICAL;

  if (v->limit_bytes != p->limit_bytes) p->points = 0;
  p->limit_bytes = v->limit_bytes;
  p->usage = v->usage;
  p->level = v->level;
  mg__policy_remember(p);
  if (v->usage <= p->forced_usage - POLICY_SWING + POLICY_TINY ||
      (!is_critical && v->usage < threshold)) {
    p->forced_usage = 0;
    p->is_owed = false;
  }
  if (!is_critical || (p->is_unreclaimable &&
                       v->usage <= p->given_up_usage - POLICY_SWING +
                                       POLICY_TINY)) {
    p->is_unreclaimable = false;
    p->is_owed = false;
    p->useless_critical = 0;
    p->was_useful_critical = false;
    p->critical_usage = 0;
  }
  if (v->level == MG_LEVEL_NORMAL) p->eased_level = MG_LEVEL_NORMAL;
  policy_lift(&p->backoff, v->usage);
  policy_lift(&p->full_backoff, v->usage);
  if (v->grown_bytes < p->left_bytes) p->left_bytes = v->grown_bytes;
}

/* The level that counts: one higher while the limit is near. */
static mg_level policy_level(const mg_policy *p, const mg_config *config,
                             const mg_policy_view *v) {
  if (v->level < MG_LEVEL_CRITICAL && mg__policy_is_near(p, config))
    return v->level + 1;
  return v->level;
}

/* ---- one action of a round ------------------------------------------------ */

static uint32_t policy_open(const mg_policy_round *r, uint32_t available) {
  uint32_t mask = r->allowed & available;

  if (r->level < MG_LEVEL_HIGH) mask &= ~MG_ACTION_BIT(MG_ACTION_RELEASE);
  return mask;
}

static bool policy_has_room(const mg_policy *p, mg_action action,
                            double capacity_ms) {
  return mg__policy_fits(p->bucket_ms, mg__policy_expected_ms(p, action),
                         capacity_ms);
}

/* Whether a full collection fits now, and would not after a young one. */
static bool policy_is_in_the_way(const mg_policy *p, uint32_t open) {
  double young_ms = mg__policy_expected_ms(p, MG_ACTION_YOUNG);
  double full_ms = p->worth[MG_ACTION_FULL].gc_ms;

  return (open & MG_ACTION_BIT(MG_ACTION_FULL)) && !isnan(full_ms) &&
         mg__policy_fits(p->bucket_ms, full_ms, MG_POLICY_BUCKET_MS) &&
         !mg__policy_fits(p->bucket_ms + young_ms, full_ms,
                          MG_POLICY_BUCKET_MS);
}

static bool policy_is_refused(const mg_policy *p, mg_action action,
                              uint32_t open) {
  if (!(MG_COLLECTIONS & MG_ACTION_BIT(action))) return false;
  return !policy_has_room(p, action, MG_POLICY_BUCKET_MS) ||
         (action == MG_ACTION_YOUNG && policy_is_in_the_way(p, open));
}

static mg_action policy_best(mg_policy *p, uint32_t open, bool skips_refused) {
  mg_action best = MG_ACTION_NONE;
  double most = -1.0;

  for (int i = MG_ACTION_CACHES; i < MG_ACTION_SHED; i++) {
    mg_action action = (mg_action)i;
    double worth = mg__policy_worth(p, action);
    if (!(open & MG_ACTION_BIT(action)) || worth <= most) continue;
    if (skips_refused && policy_is_refused(p, action, open)) {
      p->round.was_refused = true;
      continue;
    }
    best = action;
    most = worth;
  }
  return best;
}

static mg_action policy_pick(mg_policy *p, const mg_policy_view *v) {
  mg_policy_round *r = &p->round;
  uint32_t may = policy_open(r, v->available), open = may & ~r->tried;
  bool by_bytes = r->reason == MG_REASON_BYTES;
  mg_action best;

  r->was_refused = false;
  if (open & MG_ACTION_BIT(MG_ACTION_SHED)) return MG_ACTION_SHED;
  best = policy_best(p, open, !by_bytes);
  if (best == MG_ACTION_NONE && r->is_trim_due &&
      (may & MG_ACTION_BIT(MG_ACTION_TRIM)))
    return MG_ACTION_TRIM;
  if (by_bytes && best != MG_ACTION_NONE &&
      !policy_has_room(p, best, MG_POLICY_BUCKET_MS / 2.0))
    return MG_ACTION_NONE;
  return best;
}

/* An action that nobody took up was not tried. */
static void policy_take_back(mg_policy *p) {
  if (p->pending == MG_ACTION_NONE) return;
  p->round.tried &= ~MG_ACTION_BIT(p->pending) | p->round.done;
  p->pending = MG_ACTION_NONE;
}

static double policy_share(mg_action action, mg_level level) {
  static const double shares[MG_LEVELS] = {0.25, 0.25, 0.5, 1.0};

  if (action == MG_ACTION_SHED) return 1.0;
  return action == MG_ACTION_CACHES || action == MG_ACTION_POOLS ? shares[level]
                                                                 : 0.0;
}

static void policy_take(mg_policy *p, mg_action action, mg_decision *out) {
  out->begins_round = p->round.tried == 0;
  p->round.tried |= MG_ACTION_BIT(action);
  if (action == MG_ACTION_TRIM) p->round.is_trim_due = false;
  p->pending = action;
  out->action = action;
  out->reason = p->round.reason;
  out->level = p->round.level;
  out->share = policy_share(action, p->round.level);
}

/* ---- the full collection that did not fit --------------------------------- */

/* At critical it is made up for as soon as it fits. Where there is none, any is. */
static uint32_t policy_wanted(const mg_policy_view *v) {
  uint32_t heavy = v->available & POLICY_HEAVY;

  return heavy != 0 ? heavy : v->available & MG_COLLECTIONS;
}

static bool policy_is_made_up(const mg_policy *p, const mg_policy_view *v) {
  uint32_t wanted = policy_wanted(v);

  if (!p->is_owed) return false;
  for (int i = MG_ACTION_YOUNG; i <= MG_ACTION_RELEASE; i++)
    if ((wanted & MG_ACTION_BIT(i)) &&
        policy_has_room(p, (mg_action)i, MG_POLICY_BUCKET_MS))
      return true;
  return false;
}

/* What a round may do that makes up for it: the rest was done. */
static uint32_t policy_made_up(const mg_policy_view *v) {
  return policy_wanted(v) | MG_ACTION_BIT(MG_ACTION_TRIM);
}

/* ---- the end of a round --------------------------------------------------- */

static void policy_judge(mg_policy_backoff *b, bool is_useful, double usage,
                         double now_ms) {
  if (is_useful) {
    b->ms = 0;
    return;
  }
  if (b->ms == 0) b->usage = usage;
  b->ms = b->ms == 0 ? MG_POLICY_BACKOFF_MS
                     : fmin(2.0 * b->ms, MG_POLICY_BACKOFF_MAX_MS);
  b->since_ms = now_ms;
}

static void policy_judge_critical(mg_policy *p, const mg_policy_round *r,
                                  const mg_policy_view *v, bool is_useful) {
  bool has_climbed = p->critical_usage > 0 &&
                     r->usage >= p->critical_usage + POLICY_STEP - POLICY_TINY;
  double left_ms = mg_policy_time_to_limit_ms(p);
  bool is_brink = left_ms >= 0 && left_ms < MG_POLICY_BRINK_MS;
  bool can_shed = (v->available & MG_ACTION_BIT(MG_ACTION_SHED)) != 0;

  /* What the last one freed has lasted, or it has not. */
  if (p->was_useful_critical)
    p->useless_critical = has_climbed ? p->useless_critical + 1 : 0;
  if (!is_useful && !p->is_owed) p->useless_critical++;
  p->was_useful_critical = is_useful;
  p->critical_usage = r->usage;
  if (p->useless_critical < MG_POLICY_USELESS_ROUNDS &&
      (is_useful || !is_brink))
    return;
  p->is_unreclaimable = true;
  p->given_up_usage = v->usage;
  p->shed_ms = can_shed ? NAN : v->now_ms;
  p->shed_usage = v->usage;
}

/* Growth that a round by bytes has left. A young collection may begin the count
 * anew without having freed what was there: what it freed is looked at as well. */
static uint64_t policy_left(const mg_policy_round *r, const mg_policy_view *v) {
  uint64_t now = v->grown_bytes == MG_ABSENT ? 0 : v->grown_bytes, left = 0;

  if (r->done & MG_ACTION_BIT(MG_ACTION_FULL)) return now;
  if (r->freed_bytes < r->grown_bytes) left = r->grown_bytes - r->freed_bytes;
  return left > now ? left : now;
}

static void policy_end_bytes(mg_policy *p, const mg_policy_round *r,
                             const mg_policy_view *v) {
  uint32_t full = MG_ACTION_BIT(MG_ACTION_FULL);
  bool is_useful = (r->done & full) && r->freed_share >= POLICY_USEFUL;

  p->left_bytes = v->grown_bytes == MG_ABSENT ? 0 : v->grown_bytes;
  if (r->tried & full)
    policy_judge(&p->full_backoff, is_useful, r->usage, v->now_ms);
}

/* @param is_complete it has tried all it could or wanted to. */
static void policy_end(mg_policy *p, const mg_policy_view *v,
                       bool is_complete) {
  mg_policy_round r = p->round;
  bool is_useful = r.freed_share >= POLICY_USEFUL;

  p->round = (mg_policy_round){.reason = MG_REASON_NONE};
  if (r.reason == MG_REASON_BYTES) {
    policy_end_bytes(p, &r, v);
    return;
  }
  if (r.reason == MG_REASON_FORCED || r.reason == MG_REASON_UNRECLAIMABLE)
    p->is_owed = r.was_refused && !(r.tried & policy_wanted(v));
  if (r.reason == MG_REASON_FORCED && is_useful)
    p->forced_usage = fmin(p->forced_usage, v->usage);
  if ((r.done == 0 && !is_complete) || !(r.allowed & MG_COLLECTIONS)) return;
  policy_judge(&p->backoff, is_useful, r.usage, v->now_ms);
  if (r.done == 0) p->acted_ms = NAN;
  if (r.done != 0 && r.level == MG_LEVEL_CRITICAL && v->level == MG_LEVEL_CRITICAL &&
           r.reason != MG_REASON_UNRECLAIMABLE)
    policy_judge_critical(p, &r, v, is_useful);
}

/* Without a judgement. What it did not come to do is due again.
 * @return whether there was one. */
static bool policy_drop(mg_policy *p) {
  mg_policy_round r = p->round;

  p->round = (mg_policy_round){.reason = MG_REASON_NONE};
  if (r.done == 0 && r.reason == MG_REASON_FORCED) p->forced_usage = 0;
  if (r.done == 0 && r.reason == MG_REASON_UNRECLAIMABLE) p->shed_ms = NAN;
  return r.reason != MG_REASON_NONE;
}

/* ---- the beginning of a round --------------------------------------------- */

static bool policy_is_forced(const mg_policy *p, const mg_config *config,
                             const mg_policy_view *v) {
  if (v->usage < policy_ratio(config, MG_CONFIG_FORCE_GC_THRESHOLD))
    return false;
  return p->forced_usage <= 0 ||
         v->usage >= p->forced_usage + POLICY_STEP - POLICY_TINY;
}

static bool policy_is_shed_due(const mg_policy *p, const mg_policy_view *v) {
  return policy_has_passed(p->shed_ms, MG_POLICY_SHED_MS, v->now_ms) ||
         v->usage >= p->shed_usage + POLICY_STEP - POLICY_TINY;
}

/* What a round by water mark or forecast may do at `level`. */
static uint32_t policy_marked(const mg_policy *p, const mg_config *config,
                              const mg_policy_view *v, mg_level level) {
  double wait_ms = mg_config_get(config, MG_CONFIG_GC_INTERVAL) + p->backoff.ms;

  if (level == MG_LEVEL_NORMAL) return 0;
  if (!policy_has_passed(p->backoff.since_ms, p->backoff.ms, v->now_ms) &&
      level <= p->acted_level)
    return 0;
  if (policy_has_passed(p->acted_ms, wait_ms, v->now_ms) ||
      level > p->acted_level)
    return POLICY_ALL;
  return v->level > p->eased_level ? POLICY_ALL & ~MG_COLLECTIONS : 0;
}

/* What a round by bytes may do. */
static uint32_t policy_grown(const mg_policy *p, const mg_config *config,
                             const mg_policy_view *v) {
  uint64_t budget = mg_policy_budget_bytes(v->limit_bytes, v->usage);
  uint32_t mask = 0;

  if (p->is_owed) return 0;
  if (mg_config_get(config, MG_CONFIG_BYTE_AWARE_GC) == 0 ||
      v->grown_bytes == MG_ABSENT || v->grown_bytes < budget)
    return 0;
  if (v->grown_bytes - p->left_bytes >= budget / 2)
    mask |= MG_ACTION_BIT(MG_ACTION_YOUNG);
  if (policy_has_passed(p->full_backoff.since_ms, p->full_backoff.ms,
                        v->now_ms))
    mask |= MG_ACTION_BIT(MG_ACTION_FULL);
  return mask;
}

/* What is remembered about a round of `reason` that has begun. */
static void policy_note(mg_policy *p, const mg_policy_view *v) {
  mg_policy_round *r = &p->round;

  switch (r->reason) {
    case MG_REASON_BYTES:
      r->grown_bytes = v->grown_bytes;
      r->budget_bytes = mg_policy_budget_bytes(v->limit_bytes, v->usage);
      return;
    case MG_REASON_UNRECLAIMABLE:
      if (r->allowed & MG_ACTION_BIT(MG_ACTION_SHED)) {
        p->shed_ms = v->now_ms;
        p->shed_usage = v->usage;
      }
      break;
    case MG_REASON_FORCED:
      p->forced_usage = v->usage;
      break;
    default:
      break;
  }
  p->eased_level = r->level;
  if (r->allowed & MG_COLLECTIONS) p->acted_level = r->level;
}

/* @return whether a round has begun: only with an action to try. */
static bool policy_begin(mg_policy *p, const mg_policy_view *v,
                         mg_reason reason, mg_level level, uint32_t allowed,
                         mg_decision *out) {
  mg_action action;

  p->round = (mg_policy_round){.reason = reason,
                               .level = level,
                               .allowed = allowed,
                               .usage = v->usage};
  action = policy_pick(p, v);
  if (action == MG_ACTION_NONE) {
    p->round = (mg_policy_round){.reason = MG_REASON_NONE};
    return false;
  }
  policy_note(p, v);
  policy_take(p, action, out);
  return true;
}

static bool policy_start_critical(mg_policy *p, const mg_config *config,
                                  const mg_policy_view *v, mg_decision *out) {
  uint32_t allowed = POLICY_ALL;
  mg_reason reason = MG_REASON_FORCED;
  bool is_due;

  if (p->is_unreclaimable) {
    reason = MG_REASON_UNRECLAIMABLE;
    allowed |= MG_ACTION_BIT(MG_ACTION_SHED);
    is_due = policy_is_shed_due(p, v);
  } else {
    is_due = policy_is_forced(p, config, v);
  }
  if (!is_due && !policy_is_made_up(p, v)) return false;
  return policy_begin(p, v, reason, MG_LEVEL_CRITICAL,
                      is_due ? allowed : policy_made_up(v), out);
}

static void policy_start(mg_policy *p, const mg_config *config,
                         const mg_policy_view *v, mg_level level,
                         mg_decision *out) {
  bool is_low = v->usage < policy_ratio(config, MG_CONFIG_LOW_WATER_MARK);
  mg_reason marked =
      level > v->level ? MG_REASON_FORECAST : MG_REASON_WATER_MARK;

  if (!is_low && policy_start_critical(p, config, v, out)) return;
  if (p->is_unreclaimable) return;
  /* Where gc_interval is 0, one round for each sample is enough. */
  if (!is_low && !out->ended_round &&
      policy_begin(p, v, marked, level, policy_marked(p, config, v, level),
                   out))
    return;
  policy_begin(p, v, MG_REASON_BYTES, level, policy_grown(p, config, v), out);
}

/* ---- the round under way -------------------------------------------------- */

static bool policy_is_enough(const mg_policy_round *r, const mg_config *config,
                             const mg_policy_view *v) {
  if (r->reason == MG_REASON_BYTES)
    return policy_left(r, v) < r->budget_bytes / 2;
  return v->usage < policy_ratio(config, MG_CONFIG_LOW_WATER_MARK);
}

/* @return whether it goes on; else it has ended. */
static bool policy_continue(mg_policy *p, const mg_config *config,
                            const mg_policy_view *v, mg_level level,
                            mg_decision *out) {
  mg_policy_round *r = &p->round;
  bool gives_way = r->reason != MG_REASON_FORCED &&
                   r->reason != MG_REASON_UNRECLAIMABLE &&
                   policy_is_forced(p, config, v);
  mg_action action = MG_ACTION_NONE;

  if (level > r->level && r->reason != MG_REASON_BYTES) {
    r->level = level;
    policy_note(p, v);
  }
  if (!gives_way && !policy_is_enough(r, config, v)) action = policy_pick(p, v);
  if (action == MG_ACTION_NONE) {
    policy_end(p, v, !gives_way);
    return false;
  }
  policy_take(p, action, out);
  return true;
}

/* ---- the two calls -------------------------------------------------------- */

mg_decision mg_policy_next(mg_policy *policy, const mg_config *config,
                           const mg_policy_view *view) {
  mg_policy_view v = policy_clean(policy, view);
  bool is_on = mg_config_get(config, MG_CONFIG_ENABLE_AUTO_GC) != 0;
  bool has_gap = v.now_ms - policy->last_ms > MG_POLICY_GAP_MS;
  mg_decision d = {.action = MG_ACTION_NONE, .reason = MG_REASON_NONE};

  mg__policy_advance(policy, config, v.level, v.now_ms);
  policy_see(policy, config, &v);
  d.level = policy_level(policy, config, &v);
  policy_take_back(policy);
  if (has_gap || !is_on) d.ended_round = policy_drop(policy);
  if (!is_on) return d;
  if (policy->round.reason != MG_REASON_NONE) {
    if (policy_continue(policy, config, &v, d.level, &d)) return d;
    d.ended_round = true;
  }
  policy_start(policy, config, &v, d.level, &d);
  return d;
}

static mg_outcome policy_clean_outcome(const mg_outcome *given) {
  mg_outcome o = *given;

  if (!(o.took_ms > 0) || isinf(o.took_ms)) o.took_ms = 0;
  if (!(o.gc_ms > 0) || isinf(o.gc_ms)) o.gc_ms = 0;
  if (o.freed_bytes == MG_ABSENT) o.freed_bytes = 0;
  if (o.used_bytes == MG_ABSENT) o.used_bytes = 0;
  if (!(o.usage_after >= 0) || isinf(o.usage_after)) o.usage_after = NAN;
  return o;
}

/* Which share of what was in use an action freed. */
static double policy_freed(const mg_policy *p, const mg_outcome *o) {
  if (o->used_bytes > 0)
    return fmin((double)o->freed_bytes / (double)o->used_bytes, 1.0);
  if (isnan(o->usage_after) || p->usage <= 0) return 0.0;
  return fmax(1.0 - o->usage_after / p->usage, 0.0);
}

static void policy_credit(mg_policy *p, mg_action action, const mg_outcome *o) {
  mg_policy_round *r = &p->round;

  r->done |= MG_ACTION_BIT(action);
  if (action == MG_ACTION_FULL || action == MG_ACTION_RELEASE)
    r->tried |= MG_COLLECTIONS & (MG_ACTION_BIT(action) - 1u); /* lesser */
  r->freed_share += policy_freed(p, o);
  r->freed_bytes += o->freed_bytes;
  if (action == MG_ACTION_TRIM) r->trims++;
  r->is_trim_due = r->trims == 1 && action != MG_ACTION_TRIM &&
                   action != MG_ACTION_RELEASE; /* which trims */
  if (r->reason != MG_REASON_BYTES && (r->allowed & MG_COLLECTIONS))
    p->acted_ms = p->last_ms;
}

void mg_policy_done(mg_policy *policy, const mg_config *config,
                    mg_action action, const mg_outcome *outcome,
                    double now_ms) {
  mg_outcome o = policy_clean_outcome(outcome);
  bool is_awaited = action == policy->pending;

  mg__policy_advance(policy, config, policy->level, now_ms);
  mg__policy_charge(policy, o.gc_ms);
  if (action == MG_ACTION_NONE || (unsigned)action >= MG_ACTIONS) return;
  if (is_awaited) policy->pending = MG_ACTION_NONE;
  if (o.was_done) {
    mg__policy_learn(policy, action, &o);
    if (is_awaited) policy_credit(policy, action, &o);
  }
  if (!isnan(o.usage_after)) policy->usage = o.usage_after;
}

const char *mg_action_name(mg_action action) {
  static const char *const names[] = {
#define POLICY_ACTION(id, name, bytes_per_ms, collects) name,
      MG_ACTION_MAP(POLICY_ACTION)
#undef POLICY_ACTION
  };
  return (unsigned)action < MG_ACTIONS ? names[action] : "unknown";
}

const char *mg_reason_name(mg_reason reason) {
  static const char *const names[] = {
#define POLICY_REASON(id, name) name,
      MG_REASON_MAP(POLICY_REASON)
#undef POLICY_REASON
  };
  return (unsigned)reason < MG_REASONS ? names[reason] : "unknown";
}
