/* leak_window.c - the trend in one window: Theil-Sen slope and its lower bound,
 * Mann-Kendall test with the correction for autocorrelation by Hamed and Rao,
 * evenness of the two halves, scatter around the line.
 *
 * At most MG__LEAK_BLOCKS points: all pairs fit on the stack. */
#include "leak_parts.h"

#include <math.h>

#include "internal.h"

#define WINDOW_PAIRS (MG__LEAK_BLOCKS * (MG__LEAK_BLOCKS - 1) / 2)
#define WINDOW_Z99 2.576    /* two-sided 99 % */
#define WINDOW_Z95 1.96     /* autocorrelation below it counts as none */
#define WINDOW_MIN_POINTS 4u

typedef struct window_points {
  const double *at, *floors;
  uint32_t count;
} window_points;

/* Slopes of all pairs; `out_agreement`: rising pairs less falling ones. */
static size_t window_slopes(const window_points *p, double slope[WINDOW_PAIRS],
                            double *out_agreement) {
  size_t pairs = 0;
  long agreement = 0;

  for (uint32_t i = 0; i + 1 < p->count; i++)
    for (uint32_t j = i + 1; j < p->count; j++) {
      double rise = p->floors[j] - p->floors[i];
      slope[pairs++] = rise / (p->at[j] - p->at[i]);
      agreement += (rise > 0) - (rise < 0);
    }
  if (out_agreement != NULL) *out_agreement = (double)agreement;
  return pairs;
}

static double window_median(double *values, size_t count) {
  double upper, lower;

  mg__select(values, count, count / 2);
  upper = values[count / 2];
  if (count % 2 == 1) return upper;
  lower = values[0];
  for (size_t i = 1; i < count / 2; i++) lower = fmax(lower, values[i]);
  return (lower + upper) / 2.0;
}

static double window_slope_of(const double *at, const double *floors,
                              uint32_t count) {
  const window_points part = {at, floors, count};
  double slope[WINDOW_PAIRS];
  size_t pairs = window_slopes(&part, slope, NULL);

  return pairs == 0 ? 0.0 : window_median(slope, pairs);
}

/* How much larger the variance of the Mann-Kendall statistic is than that of
 * independent values: ranks of what is left of the values without the slope,
 * those autocorrelations of them that are significant. At least 1. */
static double window_inflation(const double *left, uint32_t count) {
  double rank[MG__LEAK_BLOCKS], n = count, mean = (n + 1.0) / 2.0;
  double variance = 0.0, sum = 0.0;

  for (uint32_t i = 0; i < count; i++) {
    rank[i] = 1.0;
    for (uint32_t j = 0; j < count; j++)
      rank[i] += (left[j] < left[i]) + (j != i && left[j] == left[i]) * 0.5;
    variance += (rank[i] - mean) * (rank[i] - mean);
  }
  if (variance <= 0.0) return 1.0;
  for (uint32_t lag = 1; lag + 3 < count; lag++) {
    double r = 0.0, k = lag;
    for (uint32_t i = 0; i + lag < count; i++)
      r += (rank[i] - mean) * (rank[i + lag] - mean);
    r /= variance;
    if (fabs(r) > WINDOW_Z95 / sqrt(n))
      sum += (n - k) * (n - k - 1.0) * (n - k - 2.0) * r;
  }
  return fmax(1.0, 1.0 + 2.0 * sum / (n * (n - 1.0) * (n - 2.0)));
}

void mg__leak_look(mg__leak_view *out, const double *at, const double *floors,
                   uint32_t count) {
  const window_points p = {at, floors, count};
  double slope[WINDOW_PAIRS], left[MG__LEAK_BLOCKS], sorted[MG__LEAK_BLOCKS];
  double agreement, deviation, n = count, squares = 0.0, level;
  uint32_t half = count / 2;
  size_t pairs, low;

  *out = (mg__leak_view){.points = count};
  if (count < WINDOW_MIN_POINTS) return;
  pairs = window_slopes(&p, slope, &agreement);
  out->slope = window_median(slope, pairs);
  for (uint32_t i = 0; i < count; i++)
    sorted[i] = left[i] = floors[i] - out->slope * (at[i] - at[0]);
  level = window_median(sorted, count);
  for (uint32_t i = 0; i < count; i++)
    squares += (left[i] - level) * (left[i] - level);
  deviation = sqrt(n * (n - 1.0) * (2.0 * n + 5.0) / 18.0 *
                   window_inflation(left, count));
  out->z = agreement > 0.0 ? (agreement - 1.0) / deviation : 0.0;
  low = (size_t)fmax(0.0, ((double)pairs - WINDOW_Z99 * deviation) / 2.0);
  mg__select(slope, pairs, low);
  out->lower = slope[low];
  out->scatter = sqrt(squares / n);
  out->span = (uint32_t)(at[count - 1] - at[0]) + 1u;
  out->growth = out->slope * (at[count - 1] - at[0]);
  out->first = at[0];
  out->start = level;
  out->end = level + out->growth;
  out->early = window_slope_of(at, floors, half);
  out->late = window_slope_of(at + count - half, floors + count - half, half);
}
