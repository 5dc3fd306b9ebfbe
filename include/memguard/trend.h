/* memguard/trend.h - which way a series goes, robustly.
 *
 * Slope by Theil-Sen (median of all pairwise slopes), direction only if the
 * series agrees with itself: Kendall's tau of at least 0.3 and a slope of more
 * than 0.1 MB/minute. One outlier or a saw-tooth moves neither.
 * Sources: Sen, J. Am. Stat. Assoc. 63 (1968); Kendall, Biometrika 30 (1938).
 *
 * Threads: pure functions; no allocation. */
#ifndef MEMGUARD_TREND_H
#define MEMGUARD_TREND_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A longer series is judged by its newest points. */
#define MG_TREND_POINTS 64
#define MG_TREND_MIN_POINTS 3
#define MG_TREND_MIN_TAU 0.3
#define MG_TREND_MIN_MB_PER_MINUTE 0.1

/** X(ID, name) */
#define MG_DIRECTION_MAP(X)   \
  X(STABLE, "stable")         \
  X(INCREASING, "increasing") \
  X(DECREASING, "decreasing")

typedef enum mg_direction {
#define MG_DIRECTION_ENUM(id, name) MG_DIRECTION_##id,
  MG_DIRECTION_MAP(MG_DIRECTION_ENUM)
#undef MG_DIRECTION_ENUM
      MG_DIRECTIONS
} mg_direction;

typedef struct mg_trend {
  mg_direction direction;
  double mb_per_minute; /* Theil-Sen slope */
  double tau;           /* Kendall, -1 to 1 */
  double span_ms;       /* from the oldest point used to the newest */
  uint32_t points;      /* used; below MG_TREND_MIN_POINTS: stable, 0, 0 */
} mg_trend;

/** Judges `count` points of (time_ms, bytes) in order of time. Points of equal
 *  or falling time, and bytes of MG_ABSENT, are passed over. */
MG_API void mg_trend_of(mg_trend *out, const double *time_ms,
                        const uint64_t *bytes, size_t count);
MG_API const char *mg_direction_name(mg_direction direction);

#ifdef __cplusplus
}
#endif
#endif
