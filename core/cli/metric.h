/* metric.h - what a run is measured by: the one table of the tool's baselines.
 *
 * A metric got worse when the median of the new runs is above that of the base by
 * more than the threshold AND by more than the floor, AND Mann-Whitney's test says
 * so (p below METRIC_P). Without the test's word it is inconclusive. */
#ifndef MG_CLI_METRIC_H
#define MG_CLI_METRIC_H

#include "statistics.h"

#define METRIC_P 0.01
#define METRIC_RUNS_LEAST 5 /* a side, for which that p can be reached */

/** X(ID, name, unit, floor, doc): less is better in all of them. */
#define METRIC_MAP(X)                                                           \
  X(PEAK_RSS, "peak_rss", "MB", 2.0,                                            \
    "highest resident memory of the process and its children together")         \
  X(MEAN_RSS, "mean_rss", "MB", 2.0, "resident memory, mean over the run")      \
  X(GROWTH, "growth", "MB/min", 1.0,                                            \
    "slope of resident memory over the second half of a run of 10 s or more")   \
  X(WALL, "wall", "s", 0.1, "time from start to end")                           \
  X(CPU, "cpu", "s", 0.1, "processor time, user and system")                    \
  X(FDS, "fds", "fds", 5.0, "most open file descriptors seen")                  \
  X(THREADS, "threads", "threads", 5.0, "most threads seen")                    \
  X(GC_COUNT, "gc_count", "collections", 20.0, "collections of the runtime")    \
  X(GC_TOTAL, "gc_total", "ms", 20.0, "time in collections")                    \
  X(GC_PAUSE_MAX, "gc_pause_max", "ms", 5.0, "longest pause by a collection")

typedef enum metric_id {
#define METRIC_ENUM(id, name, unit, floor, doc) METRIC_##id,
  METRIC_MAP(METRIC_ENUM)
#undef METRIC_ENUM
      METRICS
} metric_id;

typedef struct metric_row {
  const char *name, *unit, *doc;
  double floor;
} metric_row;

extern const metric_row metric_rows[METRICS];

/** @return METRICS for a foreign name. */
metric_id metric_find(const char *name);

/** Values of all runs; NaN where a run has none. */
typedef struct metric_runs {
  size_t count;
  double value[METRICS][STATISTICS_MAX];
} metric_runs;

typedef enum metric_verdict {
  METRIC_SAME,
  METRIC_BETTER,
  METRIC_WORSE,
  METRIC_UNSURE, /* moved over threshold and floor, not significant */
  METRIC_MISSING /* one side has no value */
} metric_verdict;

typedef struct metric_change {
  metric_verdict verdict;
  double base, now; /* medians; NaN: missing */
  double percent;   /* of the base; NaN if that is 0 */
  double p;
  size_t base_count, now_count;
} metric_change;

/** "same", "better", "worse", "inconclusive", "missing". */
const char *metric_verdict_name(metric_verdict verdict);

/** Judges one metric. @param threshold_percent above 0. Pure. */
void metric_judge(metric_change *out, metric_id id, const metric_runs *base,
                  const metric_runs *now, double threshold_percent);

#endif
