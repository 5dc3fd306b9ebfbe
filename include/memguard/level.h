/* memguard/level.h - from usage to a level, without flapping.
 *
 * A level is entered at once and left late. Entered: elevated from
 * high_water_mark_percent, high from alert_threshold, critical from
 * force_gc_threshold. Left: elevated below low_water_mark_percent; high and
 * critical 5 points below their mark, but never below low_water_mark_percent;
 * always only after MG_LEVEL_HOLD_MS without interruption. A signal that swings
 * around a mark therefore changes the level at most once per hold time and
 * direction.
 *
 * Threads: pure; the tracker is the caller's. Time is an argument. A clock that
 * jumps back restarts the hold time and changes nothing else. */
#ifndef MEMGUARD_LEVEL_H
#define MEMGUARD_LEVEL_H

#include "memguard/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_LEVEL_HOLD_MS 2000.0
#define MG_LEVEL_GAP_PERCENT 5.0

typedef struct mg_level_tracker {
  mg_level level;
  bool below;      /* usage is below the mark to leave `level` */
  double since_ms; /* when that began; meaningful if `below` */
} mg_level_tracker;
#define MG_LEVEL_TRACKER_INIT {MG_LEVEL_NORMAL, false, 0.0}

/** Feeds one usage (ratio) taken at `now_ms` (any monotonic origin).
 *  @return the level in force from now on. */
MG_API mg_level mg_level_update(mg_level_tracker *tracker,
                                const mg_config *config, double usage,
                                double now_ms);

/** Time until the next sample is due. Fast fill is sampled often: a tenth of
 *  the time in which `rate_per_ms` (usage per ms, <= 0: not filling) would
 *  reach usage 1. So is what holds still near the limit, as it may begin to fill
 *  at any moment: from usage 0.5 on, `longest_ms` shrinks with the square of what
 *  is left (0.75: a quarter, 0.9: a 25th). Held inside 50 ms and `longest_ms`.
 *  Source: earlyoom's sleep by fill rate and headroom. */
MG_API double mg_sample_due_ms(double usage, double rate_per_ms,
                               double longest_ms);

#ifdef __cplusplus
}
#endif
#endif
