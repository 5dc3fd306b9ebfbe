/* tune_roll.c - how many of the oldest objects go through the collector now. Pure. */
#include <math.h>

#include "memguard/tune.h"

#include "internal.h"

#define ROLL_GROWN 0.02      /* of `low`: there may be garbage */
#define ROLL_GROWING 0.005   /* worth a closer watch */
#define ROLL_FAR_GROWN 0.05  /* then longer pauses are in place */
#define ROLL_YIELD_SHARE 0.5 /* of the time, if all of it were garbage */
#define ROLL_MOST_SHARE 0.9
#define ROLL_LEAST_SHARE 0.02
#define ROLL_OWED_SHARE 0.1
#define ROLL_WEIGHT 0.5      /* of the newest in the moving averages */
#define ROLL_LONGER 2.0      /* pauses, when far behind */
#define ROLL_EASE 0.2        /* of a lower cost */
#define ROLL_FIRST_MS 0.002 /* for an object, until it is known */

void mg_roll_init(mg_roll *out) {
  *out = (mg_roll){.low = MG_ABSENT,
                   .lap_low = MG_ABSENT,
                   .yield = 1.0,
                   .rich_ms = -HUGE_VAL,
                   .object_ms = ROLL_FIRST_MS};
}

static uint64_t roll_grown(const mg_roll *r, uint64_t live) {
  return live > r->low ? live - r->low : 0;
}

static void roll_note(mg_roll *r, uint64_t live) {
  if (r->low == MG_ABSENT || live < r->low) r->low = live;
  if (r->lap_low == MG_ABSENT || live < r->lap_low) r->lap_low = live;
}

/* How far behind, 1 to MG_ROLL_FAR. */
static double roll_far(const mg_roll *r, uint64_t live) {
  double far_grown =
      (double)roll_grown(r, live) / (ROLL_FAR_GROWN * fmax((double)r->low, 1.0));

  return fmin(fmax(far_grown, 1.0), MG_ROLL_FAR);
}

/* As much of the time as is found among what was looked at, in part; of a program
 * that makes more garbage than that, more. */
static bool roll_may(const mg_roll *r, double now_ms, double far) {
  double least = r->laps_owed > 0 ? ROLL_OWED_SHARE : ROLL_LEAST_SHARE * far;
  double most = fmin(ROLL_YIELD_SHARE * far, ROLL_MOST_SHARE);
  double share = fmax(least, most * r->yield);

  return now_ms - r->ended_ms >= r->took_ms * (1.0 / share - 1.0);
}

uint64_t mg_roll_next(mg_roll *r, double now_ms, uint64_t live) {
  double far, objects;
  uint64_t grown;

  if (live == MG_ABSENT) return 0;
  if (now_ms < r->ended_ms) { /* the clock went back */
    r->ended_ms = now_ms;
    r->rich_ms = fmin(r->rich_ms, now_ms);
  }
  roll_note(r, live);
  grown = roll_grown(r, live);
  if (grown == 0) r->is_behind = false;
  r->is_growing = (double)grown >= ROLL_GROWING * (double)r->low;
  if (grown >= MG_ROLL_LEAST && (double)grown >= ROLL_GROWN * (double)r->low)
    r->is_behind = true;
  far = roll_far(r, live);
  if ((!r->is_behind && r->laps_owed == 0) || !roll_may(r, now_ms, far))
    return 0;
  objects = fmin(MG_ROLL_MS * fmin(far, ROLL_LONGER) / r->object_ms, (double)MG_ROLL_MOST);
  return objects < MG_ROLL_FEWEST ? MG_ROLL_FEWEST : (uint64_t)objects;
}

/* Everything had its turn: unless that found much, what is there is alive. */
static void roll_end_lap(mg_roll *r, uint64_t live) {
  r->lap_yield = r->lap_taken == 0
                     ? 0.0
                     : (double)r->lap_collected / (double)r->lap_taken;
  r->laps++;
  if (r->laps_owed > 0) r->laps_owed--;
  r->lap_end_low = r->lap_low;
  if (r->lap_yield < MG_ROLL_RICH) {
    r->low = r->lap_low;
    r->is_behind = false;
  }
  r->lap_low = live;
  r->lap_taken = r->lap_collected = 0;
}

void mg_roll_done(mg_roll *r, const mg_roll_part *part) {
  double yield = 0.0;

  if (part->live != MG_ABSENT) roll_note(r, part->live);
  r->ended_ms = part->now_ms;
  r->took_ms = part->took_ms;
  r->lap_taken += part->taken;
  r->lap_collected += part->collected;
  if (part->taken > 0) {
    double each_ms = part->took_ms / (double)part->taken;
    yield = fmin((double)part->collected / (double)part->taken, 1.0);
    /* Garbage costs several times as much: the next part may be all of it. */
    if (part->taken >= MG_ROLL_FEWEST / 2 && each_ms > 0)
      r->object_ms =
          fmax(each_ms, r->object_ms + ROLL_EASE * (each_ms - r->object_ms));
  }
  if (yield >= MG_ROLL_RICH) r->rich_ms = part->now_ms;
  r->yield += ROLL_WEIGHT * (yield - r->yield);
  /* There are not more objects than blocks: the end of the lap was missed. */
  if (part->is_lap || (part->live != MG_ABSENT && r->lap_taken > part->live))
    roll_end_lap(r, part->live);
}

void mg_roll_owe(mg_roll *r, uint32_t laps) { r->laps_owed = laps; }

double mg_roll_wait_ms(const mg_roll *r) {
  bool is_rich = r->yield >= MG_ROLL_RICH;

  if (r->is_behind && is_rich) return MG_ROLL_SOON_MS;
  return is_rich || r->is_growing || r->laps_owed > 0 ? MG_ROLL_WATCH_MS
                                                      : MG_ROLL_LATER_MS;
}
