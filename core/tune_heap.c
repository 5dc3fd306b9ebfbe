/* tune_heap.c - when to freeze the heap, and when to collect at idle. Pure. */
#include <math.h>
#include <string.h>

#include "memguard/tune.h"

#include "internal.h"

#define FREEZE_STEADY 0.05      /* difference of the low points */
#define FREEZE_COSTLY 0.05      /* share of the time in full collections */
#define FREEZE_COSTLY_MS 20.0   /* and so long at least */
#define FREEZE_USELESS 0.1      /* of the heap freed by them */
#define FREEZE_GROWN 0.15
#define FREEZE_FILLED 0.25 /* growth that makes it a heap being filled */
#define FREEZE_GROWN_IDLE 0.05
#define FREEZE_GROWN_SHORT 0.02 /* memory is short: level high or critical */
#define FREEZE_SWEEP 0.05
#define FREEZE_SWEEP_EAGER 0.02
#define FREEZE_THAW 0.05
#define FREEZE_ESCAPED 0.3 /* parts do not keep up */
#define FREEZE_SHARE 0.02       /* of the time that steps of a kind may take */
#define FREEZE_NEVER (-1e300)

void mg_freeze_init(mg_freeze *out) {
  *out = (mg_freeze){.pass_ms = FREEZE_NEVER,
                     .step_ms = FREEZE_NEVER,
                     .swept_ms = FREEZE_NEVER,
                     .thaw_ms = FREEZE_NEVER,
                     .pass_every_ms = MG_FREEZE_PASS_MS,
                     .thaw_every_ms = MG_FREEZE_THAW_MS};
}

/* ---- the span: points of at most MG_FREEZE_SPAN_MS ----------------------- */

static void freeze_forget_oldest(mg_freeze *f) {
  f->points--;
  memmove(f->at_ms, f->at_ms + 1, f->points * sizeof *f->at_ms);
  memmove(f->live, f->live + 1, f->points * sizeof *f->live);
}

/* Keeps one point older than the span, so that it is known to be covered. */
static void freeze_note(mg_freeze *f, const mg_freeze_view *v) {
  while (f->points > 1 && v->now_ms - f->at_ms[1] >= MG_FREEZE_SPAN_MS)
    freeze_forget_oldest(f);
  if (f->points == MG_FREEZE_POINTS) freeze_forget_oldest(f);
  f->at_ms[f->points] = v->now_ms;
  f->live[f->points] = v->live;
  f->points++;
}

static bool freeze_covers_span(const mg_freeze *f, double now_ms) {
  return f->points >= 3 && now_ms - f->at_ms[0] >= MG_FREEZE_SPAN_MS;
}

/* What lives on: garbage that waits for a collection is above it. */
static uint64_t freeze_low(const mg_freeze *f, uint32_t from, uint32_t end) {
  uint64_t low = f->live[from];

  for (uint32_t i = from + 1; i < end; i++)
    if (f->live[i] < low) low = f->live[i];
  return low;
}

static uint64_t freeze_high(const mg_freeze *f) {
  uint64_t high = 0;

  for (uint32_t i = 0; i < f->points; i++)
    if (f->live[i] > high) high = f->live[i];
  return high;
}

static bool freeze_is_steady(const mg_freeze *f) {
  uint32_t half = f->points / 2;
  double before = (double)freeze_low(f, 0, half);
  double after = (double)freeze_low(f, half, f->points);

  return fabs(after - before) <= FREEZE_STEADY * fmax(before, after);
}

/* ---- decisions ----------------------------------------------------------- */

static bool freeze_may_pass(const mg_freeze *f, const mg_freeze_view *v) {
  double gone_ms = v->now_ms - f->pass_ms;
  double least_ms =
      v->level >= MG_LEVEL_HIGH ? MG_FREEZE_PASS_MS : f->pass_every_ms;

  return gone_ms >= least_ms &&
         f->pass_took_ms <= FREEZE_SHARE * gone_ms;
}

static bool freeze_may_sweep(const mg_freeze *f, const mg_freeze_view *v) {
  double gone_ms = v->now_ms - f->swept_ms;

  return gone_ms >= MG_FREEZE_SWEEP_MS &&
         f->swept_took_ms <= FREEZE_SHARE * gone_ms;
}

/* Growth from `before` to `now`, as a ratio. */
static double freeze_growth(uint64_t before, uint64_t now) {
  if (before == 0) return now == 0 ? 0.0 : INFINITY;
  return (double)now / (double)before - 1.0;
}

static bool freeze_is_eager(const mg_freeze_view *v) {
  return v->is_idle || v->level >= MG_LEVEL_HIGH;
}

static double freeze_pass_at(const mg_freeze_view *v) {
  if (v->level >= MG_LEVEL_HIGH) return FREEZE_GROWN_SHORT;
  return v->is_idle ? FREEZE_GROWN_IDLE : FREEZE_GROWN;
}

/* Full collections of the time since the last call. */
typedef struct freeze_cost {
  bool is_costly, is_useless;
} freeze_cost;

static freeze_cost freeze_cost_of(const mg_freeze *f, const mg_freeze_view *v) {
  double took_ms = v->full_ms - f->full_ms, gone_ms = v->now_ms - f->last_ms;
  double freed = (double)(v->full_collected - f->full_collected);

  return (freeze_cost){
      .is_costly =
          took_ms >= FREEZE_COSTLY_MS && took_ms >= FREEZE_COSTLY * gone_ms,
      .is_useless = freed < FREEZE_USELESS * (double)v->live};
}

static mg_freeze_step freeze_first(const mg_freeze *f, const mg_freeze_view *v,
                                   freeze_cost cost) {
  if (freeze_low(f, 0, f->points) < MG_FREEZE_LEAST) return MG_FREEZE_NONE;
  if (cost.is_costly) return cost.is_useless ? MG_FREEZE_YOUNG : MG_FREEZE_PASS;
  return freeze_covers_span(f, v->now_ms) && freeze_is_steady(f)
             ? MG_FREEZE_PASS
             : MG_FREEZE_NONE;
}

static mg_freeze_step freeze_again(const mg_freeze *f, const mg_freeze_view *v,
                                   freeze_cost cost) {
  double grown = freeze_growth(f->swept_live, v->live);

  if (cost.is_costly && cost.is_useless && grown >= FREEZE_FILLED)
    return v->now_ms - f->step_ms >= MG_FREEZE_YOUNG_MS ? MG_FREEZE_YOUNG
                                                        : MG_FREEZE_NONE;
  if (freeze_growth(f->frozen_live, f->swept_live) >= freeze_pass_at(v) &&
      freeze_may_pass(f, v))
    return MG_FREEZE_PASS;
  if (grown >= (freeze_is_eager(v) ? FREEZE_SWEEP_EAGER : FREEZE_SWEEP) &&
      v->live - f->swept_live >= MG_FREEZE_SWEEP_LEAST &&
      freeze_may_sweep(f, v))
    return MG_FREEZE_SWEEP;
  return MG_FREEZE_NONE;
}

/* ---- where the old are collected in parts -------------------------------- */

static bool freeze_is_pass_due(const mg_freeze *f, const mg_freeze_view *v,
                               uint64_t live) {
  return freeze_growth(f->passed_live, live) >= freeze_pass_at(v) &&
         freeze_may_pass(f, v);
}

/* What grows although all that is not frozen had its turn is frozen garbage, or
 * alive: to find out, the frozen have their turn, too. */
static mg_freeze_step freeze_rolls(mg_freeze *f, const mg_freeze_view *v) {
  if (freeze_is_eager(v) && freeze_is_pass_due(f, v, v->live))
    return MG_FREEZE_PASS;
  if (freeze_growth(f->passed_live, v->live) >= FREEZE_ESCAPED &&
      freeze_may_pass(f, v))
    return MG_FREEZE_PASS;
  if (v->roll->laps == f->laps) return MG_FREEZE_NONE;
  f->laps = v->roll->laps;
  return v->now_ms - v->roll->rich_ms >= MG_FREEZE_THAW_MS &&
                 freeze_growth(f->frozen_live, v->roll->lap_end_low) >=
                     FREEZE_THAW &&
                 v->now_ms - f->thaw_ms >= f->thaw_every_ms
             ? MG_FREEZE_THAW
             : MG_FREEZE_NONE;
}

/* Whose objects die although they lived for long is not frozen again for now. */
static mg_freeze_step freeze_thawed(mg_freeze *f, const mg_freeze_view *v) {
  uint32_t laps = v->roll->laps - f->laps;

  if (laps < MG_FREEZE_THAW_LAPS && !freeze_is_eager(v) &&
      freeze_growth(f->thaw_live, v->live) < FREEZE_GROWN)
    return MG_FREEZE_NONE;
  if (freeze_is_pass_due(f, v, laps > 1 ? v->roll->lap_end_low : v->live))
    return MG_FREEZE_PASS;
  return laps >= MG_FREEZE_THAW_LAPS &&
                 (v->roll->lap_yield < MG_ROLL_RICH ||
                  v->now_ms - f->thaw_ms >= MG_FREEZE_PASS_MAX_MS)
             ? MG_FREEZE_YOUNG
             : MG_FREEZE_NONE;
}

static void freeze_remember(mg_freeze *f, const mg_freeze_view *v) {
  f->last_ms = v->now_ms;
  f->full_ms = v->full_ms;
  f->full_collected = v->full_collected;
}

/* The first view, a clock or counts that went back, a heap that is not known. */
static bool freeze_starts_anew(const mg_freeze *f, const mg_freeze_view *v) {
  return v->live == MG_ABSENT || f->points == 0 || v->now_ms < f->last_ms ||
         v->full_ms < f->full_ms || v->full_collected < f->full_collected;
}

/* Less is alive than was thought: what the program's own collections found, or
 * what it let go. Half of the heap gone is measured anew. */
static void freeze_follow_down(mg_freeze *f, const mg_freeze_view *v) {
  if (v->live < f->swept_live) f->swept_live = v->live;
  if (freeze_covers_span(f, v->now_ms) && freeze_high(f) < f->frozen_live / 2)
    f->frozen_live = freeze_high(f);
}

mg_freeze_step mg_freeze_next(mg_freeze *f, const mg_freeze_view *v) {
  mg_freeze_step step;

  if (freeze_starts_anew(f, v)) {
    f->points = 0;
    f->step_ms = fmin(f->step_ms, v->now_ms);
    f->pass_ms = fmin(f->pass_ms, v->now_ms);
    f->swept_ms = fmin(f->swept_ms, v->now_ms);
    if (v->live != MG_ABSENT) freeze_note(f, v);
    freeze_remember(f, v);
    return MG_FREEZE_NONE;
  }
  freeze_note(f, v);
  if (f->is_frozen) freeze_follow_down(f, v);
  if (v->roll != NULL && (f->is_frozen || f->is_thawed))
    step = f->is_frozen ? freeze_rolls(f, v) : freeze_thawed(f, v);
  else
    step = f->is_frozen ? freeze_again(f, v, freeze_cost_of(f, v))
                        : freeze_first(f, v, freeze_cost_of(f, v));
  freeze_remember(f, v);
  return step;
}

/* ---- what became of it --------------------------------------------------- */

static void freeze_learn(mg_freeze *f, uint64_t live) {
  bool is_known = f->points > 0 && live != MG_ABSENT;
  double before = is_known ? (double)f->live[f->points - 1] : 0.0;

  if (is_known && before - (double)live < FREEZE_USELESS * before)
    f->pass_every_ms = fmin(2.0 * f->pass_every_ms, MG_FREEZE_PASS_MAX_MS);
  else
    f->pass_every_ms = MG_FREEZE_PASS_MS;
}

/* What was thawed was alive after all. */
static void freeze_after_thaw(mg_freeze *f, bool is_useless) {
  f->is_thawed = false;
  f->thaw_every_ms =
      is_useless ? fmin(2.0 * f->thaw_every_ms, MG_FREEZE_PASS_MAX_MS)
                 : MG_FREEZE_THAW_MS;
}

static void freeze_froze(mg_freeze *f, mg_freeze_step step,
                         const mg_freeze_view *v, uint64_t live) {
  if (step == MG_FREEZE_PASS || !f->is_thawed) f->passed_live = live;
  if (f->is_thawed)
    freeze_after_thaw(f, v->roll != NULL && v->roll->lap_yield < MG_ROLL_RICH);
  f->is_frozen = true;
  f->frozen_live = live;
  f->points = 0;
}

void mg_freeze_done(mg_freeze *f, mg_freeze_step step, const mg_freeze_view *v,
                    double took_ms) {
  uint64_t live = v->live == MG_ABSENT ? 0 : v->live;

  if (step == MG_FREEZE_NONE) return;
  if (step == MG_FREEZE_PASS) {
    freeze_learn(f, v->live);
    f->pass_ms = v->now_ms;
    f->pass_took_ms = took_ms;
  }
  f->swept_live = live;
  f->swept_ms = v->now_ms;
  f->swept_took_ms = step == MG_FREEZE_SWEEP ? took_ms : 0.0;
  if (step == MG_FREEZE_PASS || step == MG_FREEZE_YOUNG)
    freeze_froze(f, step, v, live);
  if (step == MG_FREEZE_THAW) {
    f->is_frozen = false;
    f->is_thawed = true;
    f->thaw_ms = v->now_ms;
    f->thaw_live = live;
  }
  if (v->roll != NULL) f->laps = v->roll->laps;
  f->step_ms = v->now_ms;
  freeze_remember(f, v);
}

/* ---- idle ---------------------------------------------------------------- */

static bool idle_follows(mg_idle *i, double idle_load, const mg_idle_view *v) {
  bool was_idle = i->is_idle;

  if (v->now_ms < i->since_ms) was_idle = false; /* the clock went back */
  i->is_idle =
      v->load < (was_idle ? idle_load + MG_IDLE_GAP : idle_load) &&
      idle_load > 0.0;
  if (!was_idle) i->since_ms = v->now_ms;
  return i->is_idle;
}

bool mg_idle_due(mg_idle *i, const mg_config *config, const mg_idle_view *v) {
  double share = mg_config_get(config, MG_CONFIG_GC_BUDGET) / 100.0;
  double idle_load = mg_config_get(config, MG_CONFIG_IDLE_LOAD);
  double gone_ms;

  if (i->has_collected && v->now_ms < i->collected_ms)
    i->collected_ms = v->now_ms;
  if (!idle_follows(i, idle_load, v) || !v->is_worth ||
      v->now_ms - i->since_ms < MG_IDLE_HOLD_MS)
    return false;
  gone_ms = v->now_ms - i->collected_ms;
  if (i->has_collected &&
      (gone_ms < MG_IDLE_INTERVAL_MS || v->expected_ms > share * gone_ms))
    return false;
  i->has_collected = true;
  i->collected_ms = v->now_ms;
  return true;
}
