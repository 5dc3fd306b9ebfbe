/* tune_heap.c - when to freeze the heap, and when to collect at idle. Pure. */
#include <math.h>
#include <string.h>

#include "memguard/tune.h"

#include "internal.h"

#define FREEZE_STEADY 0.05      /* difference of the low points */
#define FREEZE_COSTLY 0.05      /* share of the time in full collections */
#define FREEZE_COSTLY_MS 20.0   /* and so long at least */
#define FREEZE_USELESS 0.1      /* of the heap freed by them */
#define FREEZE_GROWN 0.25
#define FREEZE_GROWN_IDLE 0.05
#define FREEZE_GROWN_SHORT 0.02 /* memory is short: level high or critical */
#define FREEZE_PASS_SHARE 0.02  /* of the time that passes may take */
#define FREEZE_NEVER (-1e300)

void mg_freeze_init(mg_freeze *out) {
  *out = (mg_freeze){.pass_ms = FREEZE_NEVER, .step_ms = FREEZE_NEVER};
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

static bool freeze_may_pass(const mg_freeze *f, double now_ms) {
  double gone_ms = now_ms - f->pass_ms;

  return gone_ms >= MG_FREEZE_PASS_MS &&
         f->pass_took_ms <= FREEZE_PASS_SHARE * gone_ms;
}

/* By how much the low point since point `from` lies above what was frozen; 0: not
 * enough is there to be worth a step. */
static double freeze_grown(const mg_freeze *f, uint32_t from) {
  double low = (double)freeze_low(f, from, f->points), frozen;

  if (!f->is_frozen) return low >= MG_FREEZE_LEAST ? INFINITY : 0.0;
  frozen = (double)f->frozen_live;
  return frozen > 0 ? fmax(low / frozen - 1.0, 0.0) : INFINITY;
}

static double freeze_wanted(const mg_freeze_view *v) {
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

static mg_freeze_step freeze_decide(const mg_freeze *f,
                                    const mg_freeze_view *v,
                                    freeze_cost cost) {
  double grown = freeze_grown(f, 0);
  bool has_grown = grown >= FREEZE_GROWN;

  /* A heap that is filled grows through the span: its last points tell. */
  if (cost.is_costly && cost.is_useless &&
      freeze_grown(f, f->points - 2) >= FREEZE_GROWN)
    return v->now_ms - f->step_ms >= MG_FREEZE_YOUNG_MS ? MG_FREEZE_YOUNG
                                                        : MG_FREEZE_NONE;
  if (!freeze_may_pass(f, v->now_ms)) return MG_FREEZE_NONE;
  if (!f->is_frozen)
    return has_grown && (cost.is_costly || (freeze_covers_span(f, v->now_ms) &&
                                            freeze_is_steady(f)))
               ? MG_FREEZE_PASS
               : MG_FREEZE_NONE;
  if (!freeze_covers_span(f, v->now_ms)) return MG_FREEZE_NONE;
  return grown >= freeze_wanted(v) ? MG_FREEZE_PASS : MG_FREEZE_NONE;
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

mg_freeze_step mg_freeze_next(mg_freeze *f, const mg_freeze_view *v) {
  mg_freeze_step step;

  if (freeze_starts_anew(f, v)) {
    f->points = 0;
    f->step_ms = fmin(f->step_ms, v->now_ms);
    f->pass_ms = fmin(f->pass_ms, v->now_ms);
    if (v->live != MG_ABSENT) freeze_note(f, v);
    freeze_remember(f, v);
    return MG_FREEZE_NONE;
  }
  freeze_note(f, v);
  /* Half of the heap went: what comes is measured against what is left. */
  if (f->is_frozen && freeze_covers_span(f, v->now_ms) &&
      freeze_high(f) < f->frozen_live / 2)
    f->frozen_live = freeze_high(f);
  step = freeze_decide(f, v, freeze_cost_of(f, v));
  freeze_remember(f, v);
  return step;
}

void mg_freeze_done(mg_freeze *f, mg_freeze_step step, const mg_freeze_view *v,
                    double took_ms) {
  if (step == MG_FREEZE_NONE) return;
  f->is_frozen = true;
  f->frozen_live = v->live == MG_ABSENT ? 0 : v->live;
  f->step_ms = v->now_ms;
  if (step == MG_FREEZE_PASS) {
    f->pass_ms = v->now_ms;
    f->pass_took_ms = took_ms;
  }
  f->points = 0;
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
