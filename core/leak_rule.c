/* leak_rule.c - from windows to a tier.
 *
 * The numbers were found by bench/leak_sim: the rate of false alarms and the time
 * to detect are what they trade. Ticks are those of leak_parts.h. */
#include "leak_parts.h"

#include <math.h>

#include "internal.h"

/* Growth at all. */
#define RULE_POINTS 8u       /* floors that make a trend */
#define RULE_Z 3.09          /* one-sided p < 0.001 */
#define RULE_BASE_SHARE 0.05 /* it is at least that part of what was there, */
#define RULE_SCATTERS 5.0    /* so many times the scatter around the line, */
#define RULE_NEW_HIGH 0.5    /* and that part of it is above all before */
#define RULE_KEEPS 0.6       /* second half by first half: suspected; even */
#define RULE_EVEN 0.8

/* The start of life. */
#define RULE_LIFE 0.18    /* part of life that is never looked at */
#define RULE_WARM 11.0    /* ticks: the warm-up lasts so long at least, */
#define RULE_FIRST 4.0      /* ticks before which nothing is known */
#define RULE_WARM_LOOK 12.0
#define RULE_WARM_MAX 48.0 /* and at most, */
#define RULE_WARM_TAU 16.0 /* while growth falls off at least as fast */

/* Steep: a straight line towards the limit. */
#define RULE_SPAN 14u       /* blocks of the window that are needed */
#define RULE_STEEP_ROOT 4u  /* beyond this octave the share grows by this factor */
#define RULE_STEEP_MORE 1.3
#define RULE_STEEP_EVEN 0.95
#define RULE_STEEP_EVEN_MIN 0.84
#define RULE_FIRST_EVEN 0.83
#define RULE_STEEP_ERROR 3.0 /* error of second by first half, in scatters */
#define RULE_REACH 0.5       /* part of the room that slowing growth reaches */
#define RULE_MID_OCTAVE 2u   /* shortest window that counts in mid-life, */
#define RULE_MID_AGE 8.0     /* which begins after so many windows */
#define RULE_LIKE_BEFORE 0.85 /* slopes of two windows are that much alike */
#define RULE_CONFIRM 2.0     /* times the growth that makes it likely */

/* Slow: octave after octave. */
#define RULE_SLOW_OCTAVE 8u
#define RULE_SLOW_ROW 3u
#define RULE_SLOW_EVEN 0.9
#define RULE_SLOW_SCATTER 0.1
#define RULE_SLOW_SHARE 0.03 /* growth, of the room; or */
#define RULE_SLOW_BASE 0.5   /* of what was there */
#define RULE_BACK 4.0        /* windows that growth is compared with */
#define RULE_BACK_SLOPE 0.85

#define RULE_WITNESS 0.5 /* of its slope, by what must grow along with it */
#define RULE_RISE 0.25   /* of what counts as growth: worth a fresh value */
#define RULE_STOPPED 0.25 /* of the slope: growth has stopped */
#define RULE_EXPLAINED 0.5

/* By octave: growth as a share of the room, scatter as a share of the growth. The
 * first row is what lets 1 % of the limit per minute be told in one window, the
 * fourth is for 0.1 % in eight; between and beyond them there is more time. */
static const struct {
  double share, scatter;
} rule_steep[RULE_STEEP_ROOT + 1] = {
    {0.037, 0.05}, {0.05, 0.033}, {0.05, 0.033}, {0.031, 0.034}, {0.055, 0.013}};

static double rule_ticks(uint32_t octave) { return (double)(1u << octave); }

static const mg__leak_view *rule_view(const mg__leak_series *s,
                                      uint32_t octave) {
  return &s->verdict[octave].view;
}

/* ---- the start of life ----------------------------------------------------- */

/* The warm-up lasts while growth falls off as fast as that of a program that
 * loads its code and fills its first caches; a leak beside it shows as growth
 * that does not. */
static void rule_follow_warmup(mg__leak_series *s, const mg__leak_rule *rule) {
  double at[MG__LEAK_BLOCKS], floors[MG__LEAK_BLOCKS];
  double tick = (double)s->blocks.tick;
  mg__leak_view v;
  uint32_t count;

  if (rule->warmup > 0.0) {
    s->warm = rule->warmup;
    return;
  }
  s->warm = fmax(s->warm, RULE_WARM);
  if (tick > RULE_WARM_MAX) return;
  count = mg__leak_blocks_read(&s->blocks, 0, fmax(RULE_FIRST, tick - RULE_WARM_LOOK), at,
                               floors);
  mg__leak_look(&v, at, floors, count);
  if (count >= RULE_POINTS && v.z >= RULE_Z && v.growth >= rule->least &&
      v.late < v.early * exp(-0.5 * v.span / RULE_WARM_TAU))
    s->warm = fmax(s->warm, tick - 0.5 * v.span);
}

/* The first floor after the warm-up is what later growth is compared with. */
static void rule_drop_anchor(mg__leak_series *s) {
  double at[MG__LEAK_BLOCKS], floors[MG__LEAK_BLOCKS];

  if (s->has_anchor && s->anchor_tick >= s->warm) return;
  if (mg__leak_blocks_read(&s->blocks, 0, s->warm, at, floors) == 0) return;
  s->has_anchor = true;
  s->anchor = floors[0];
  s->anchor_tick = at[0];
}

/* ---- steep growth ---------------------------------------------------------- */

static double rule_share(uint32_t octave) {
  if (octave <= RULE_STEEP_ROOT) return rule_steep[octave].share;
  return rule_steep[RULE_STEEP_ROOT].share *
         pow(RULE_STEEP_MORE, octave - RULE_STEEP_ROOT);
}

/* How much it would still grow if it went on to slow down as it does: Aitken's
 * extrapolation from the two halves. */
static double rule_reach(const mg__leak_view *v) {
  double ratio = v->early > 0.0 ? v->late / v->early : 0.0;

  if (ratio >= 1.0) return (double)INFINITY;
  return ratio <= 0.0 ? 0.0 : 0.5 * v->growth * ratio / (1.0 - ratio);
}

/* The more exactly the slopes of the halves are known, the more alike they have
 * to be. In the shortest window the load itself makes them differ. */
static bool rule_is_straight(const mg__leak_rule *rule, uint32_t octave,
                             const mg__leak_view *v) {
  uint32_t row = octave < RULE_STEEP_ROOT ? octave : RULE_STEEP_ROOT;
  double error = RULE_STEEP_ERROR * v->scatter / v->growth;
  double even = octave == 0 ? RULE_FIRST_EVEN
                            : fmax(RULE_STEEP_EVEN_MIN, RULE_STEEP_EVEN - error);

  return v->scatter <= rule_steep[row].scatter * v->growth &&
         (v->late >= even * v->early ||
          rule_reach(v) >= RULE_REACH * rule->room);
}

/* Twice the window shows a curve better, and growth that began in mid-life has to
 * last for that long. Soon after the warm-up there is no more than the window. */
static bool rule_is_straight_before(const mg__leak_series *s,
                                    const mg__leak_rule *rule, uint32_t octave,
                                    double skip) {
  double at[MG__LEAK_BLOCKS], floors[MG__LEAK_BLOCKS];
  const mg__leak_view *v = rule_view(s, octave);
  mg__leak_view twice;
  uint32_t count;

  if (octave + 1 == MG__LEAK_OCTAVES) return false;
  count = mg__leak_blocks_read(&s->blocks, octave + 1, skip, at, floors);
  if (count <= RULE_POINTS) return rule_is_straight(rule, octave, v);
  mg__leak_look(&twice, at, floors, count);
  return rule_is_straight(rule, octave, &twice) &&
         2.0 * v->slope >= RULE_LIKE_BEFORE * twice.slope &&
         twice.slope >= RULE_LIKE_BEFORE * 2.0 * v->slope;
}

static bool rule_is_steep(const mg__leak_series *s, const mg__leak_rule *rule,
                          uint32_t octave, double skip) {
  const mg__leak_view *v = rule_view(s, octave);
  double age = (double)s->blocks.tick / rule_ticks(octave) / MG__LEAK_BLOCKS;

  if (octave < rule->shortest ||
      (octave < RULE_MID_OCTAVE && age > RULE_MID_AGE))
    return false;
  return v->span >= RULE_SPAN && v->growth >= rule_share(octave) * rule->room &&
         rule_is_straight_before(s, rule, octave, skip);
}

/* ---- windows --------------------------------------------------------------- */

/* Whether it grew faster on the average of the time before, back to four windows
 * ago or to the warm-up: a slow fill is straight in each short window. */
static bool rule_is_slowing(const mg__leak_series *s, uint32_t octave) {
  double at[MG__LEAK_BLOCKS], floors[MG__LEAK_BLOCKS];
  const mg__leak_view *v = rule_view(s, octave);
  double end = (v->first + v->span - 1.0) * rule_ticks(octave);
  double from = end - RULE_BACK * v->span * rule_ticks(octave);
  double began = s->anchor_tick, value = s->anchor;

  if (from > began && octave + 2 < MG__LEAK_OCTAVES &&
      mg__leak_blocks_read(&s->blocks, octave + 2, began, at, floors) > 0) {
    began = at[0] * rule_ticks(octave + 2);
    value = floors[0];
  }
  return began < end && v->slope / rule_ticks(octave) <
                            RULE_BACK_SLOPE * (v->end - value) / (end - began);
}

/* Memory beside the heap also grows when the heap shrinks and keeps its pages. */
static bool rule_is_witnessed(const mg__leak_rule *rule, uint32_t octave,
                              double skip, const mg__leak_view *v) {
  double at[MG__LEAK_BLOCKS], floors[MG__LEAK_BLOCKS];
  mg__leak_view seen;
  uint32_t count;

  if (rule->witness == NULL) return true;
  count = mg__leak_blocks_read(&rule->witness->blocks, octave, skip, at, floors);
  mg__leak_look(&seen, at, floors, count);
  return count < RULE_POINTS || seen.slope >= RULE_WITNESS * v->slope;
}

/* Whether a fresh value is worth its cost before anything is suspected. The first
 * ticks count but for the very first, so that values are there in time. */
static bool rule_rises(const mg__leak_series *s, const mg__leak_rule *rule,
                       uint32_t octave) {
  double at[MG__LEAK_BLOCKS], floors[MG__LEAK_BLOCKS];
  uint32_t count =
      mg__leak_blocks_read(&s->blocks, octave, RULE_FIRST, at, floors);

  return count > 1 &&
         floors[count - 1] - floors[0] >=
             RULE_RISE * fmax(rule->least, RULE_BASE_SHARE * floors[0]);
}

/* Most windows show nothing; that is to cost nothing. Of what is suspected the
 * slope is needed in any case: what counts grows with the level. */
static bool rule_is_worth_a_look(const mg__leak_series *s,
                                 const mg__leak_rule *rule,
                                 const double *floors, uint32_t count) {
  return count >= RULE_POINTS &&
         (s->tier != MG_LEAK_NONE ||
          floors[count - 1] - floors[0] >=
              0.5 * fmax(rule->least, RULE_BASE_SHARE * floors[0]));
}

static void rule_weigh(mg__leak_series *s, const mg__leak_rule *rule,
                       uint32_t octave, double skip) {
  mg__leak_verdict *verdict = &s->verdict[octave];
  double at[MG__LEAK_BLOCKS], floors[MG__LEAK_BLOCKS], least;
  mg__leak_view *v = &verdict->view;
  uint32_t count = mg__leak_blocks_read(&s->blocks, octave, skip, at, floors);

  verdict->grows = verdict->is_even = verdict->is_steep = false;
  verdict->rises = rule_rises(s, rule, octave);
  if (!rule_is_worth_a_look(s, rule, floors, count)) {
    *v = (mg__leak_view){.points = count};
    return;
  }
  mg__leak_look(v, at, floors, count);
  least = fmax(fmax(rule->least, RULE_BASE_SHARE * v->start),
               RULE_SCATTERS * v->scatter);
  verdict->grows =
      v->z >= RULE_Z && v->lower > 0.0 && v->growth >= least &&
      v->late >= RULE_KEEPS * v->early &&
      v->end - s->blocks.octave[octave].before >= RULE_NEW_HIGH * v->growth;
  verdict->is_even = verdict->grows && v->late >= RULE_EVEN * v->early &&
                     rule_is_witnessed(rule, octave, skip, v);
  verdict->is_steep = verdict->is_even &&
                      rule_is_steep(s, rule, octave, skip) &&
                      !rule_is_slowing(s, octave);
}

/* ---- tiers ----------------------------------------------------------------- */

/* The longest row of octaves that grow evenly; `top`: its longest window, or
 * the shortest that grows at all where there is no row. */
typedef struct rule_row {
  uint32_t count, top;
  bool grows, is_steep, is_steep_long;
} rule_row;

/* Steep growth is confirmed when it is steep in a window that is the last of a
 * row, and is more than makes it likely. */
static bool rule_is_steep_long(const mg__leak_series *s,
                               const mg__leak_rule *rule, uint32_t octave,
                               uint32_t row) {
  double likely = rule_share(octave) * rule->room;

  if (!s->verdict[octave].is_steep) return false;
  if (s->share >= RULE_EXPLAINED) return row >= RULE_SLOW_ROW - 1;
  return row >= RULE_SLOW_ROW &&
         rule_view(s, octave)->growth >= RULE_CONFIRM * likely;
}

static rule_row rule_find_row(const mg__leak_series *s,
                              const mg__leak_rule *rule) {
  rule_row found = {0, MG__LEAK_OCTAVES - 1, false, false, false};
  uint32_t row = 0;

  for (uint32_t k = 0; k < MG__LEAK_OCTAVES; k++) {
    const mg__leak_verdict *verdict = &s->verdict[k];
    if (verdict->grows && found.count == 0 && !found.grows) found.top = k;
    row = verdict->is_even ? row + 1 : 0;
    found.grows = found.grows || verdict->grows;
    found.is_steep = found.is_steep || verdict->is_steep;
    found.is_steep_long =
        found.is_steep_long || rule_is_steep_long(s, rule, k, row);
    if (row > 0 && row >= found.count) {
      found.count = row;
      found.top = k;
    }
  }
  return found;
}

static bool rule_is_slow_leak(const mg__leak_series *s,
                              const mg__leak_rule *rule, const rule_row *row) {
  const mg__leak_view *v = rule_view(s, row->top);

  return row->count >= RULE_SLOW_ROW && row->top >= RULE_SLOW_OCTAVE &&
         v->span >= RULE_SPAN && v->late >= RULE_SLOW_EVEN * v->early &&
         v->scatter <= RULE_SLOW_SCATTER * v->growth &&
         v->growth >= fmin(RULE_SLOW_SHARE * rule->room,
                           RULE_SLOW_BASE * v->start) &&
         !rule_is_slowing(s, row->top);
}

static mg_leak_tier rule_tier(const mg__leak_series *s,
                              const mg__leak_rule *rule, const rule_row *row) {
  bool is_slow, is_long;

  if (!row->grows) return MG_LEAK_NONE;
  if (!rule->may_confirm) return MG_LEAK_SUSPECT;
  is_slow = rule_is_slow_leak(s, rule, row);
  is_long = s->share >= RULE_EXPLAINED ||
            (row->count > RULE_SLOW_ROW && row->top > RULE_SLOW_OCTAVE);
  if (row->is_steep_long || (is_slow && is_long)) return MG_LEAK_CONFIRMED;
  return row->is_steep || is_slow ? MG_LEAK_LIKELY : MG_LEAK_SUSPECT;
}

/* Growth has stopped where the shortest window says so in which it would show. */
static bool rule_has_stopped(const mg__leak_series *s,
                             const mg__leak_rule *rule) {
  double least = 2.0 * fmax(rule->least, RULE_BASE_SHARE * s->trend.base);
  uint32_t octave = s->lowest;
  const mg__leak_view *v;

  while (octave + 1 < MG__LEAK_OCTAVES &&
         s->trend.slope * rule_ticks(octave) * RULE_SPAN < least)
    octave++;
  v = rule_view(s, octave);
  return s->blocks.latest < s->trend.base ||
         (v->points >= RULE_POINTS &&
          v->late <= RULE_STOPPED * s->trend.slope * rule_ticks(octave));
}

static void rule_note_trend(mg__leak_series *s, const rule_row *row) {
  const mg__leak_view *v = rule_view(s, row->top);
  double ticks = rule_ticks(row->top), since = v->first * ticks;
  uint32_t first = row->count == 0 ? row->top : row->top + 1 - row->count;

  if (s->tier == MG_LEAK_NONE || first < s->lowest) s->lowest = first;
  if (s->tier == MG_LEAK_NONE || since < s->trend.since) {
    s->trend.since = since;
    s->trend.base = v->start;
  }
  s->trend.slope = v->slope / ticks;
  s->trend.window = v->span * ticks;
  s->trend.octaves = row->count;
}

void mg__leak_series_judge(mg__leak_series *s, const mg__leak_rule *rule) {
  mg_leak_tier tier;
  rule_row row;
  double skip;

  if (s->blocks.tick < 0 || s->blocks.tick == s->verdict[0].seen) return;
  rule_follow_warmup(s, rule);
  rule_drop_anchor(s);
  skip = fmax(s->warm, RULE_LIFE * (double)s->blocks.tick);
  for (uint32_t k = 0; k < MG__LEAK_OCTAVES; k++) {
    int64_t block = s->blocks.tick >> k;
    if (block == s->verdict[k].seen) break; /* nor has any longer one ended */
    s->verdict[k].seen = block;
    rule_weigh(s, rule, k, skip);
  }
  row = rule_find_row(s, rule);
  tier = rule_tier(s, rule, &row);
  if (tier != MG_LEAK_NONE) rule_note_trend(s, &row);
  if (tier >= s->tier || rule_has_stopped(s, rule)) s->tier = tier;
  if (s->tier == MG_LEAK_NONE) s->share = 0.0;
}
