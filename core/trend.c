/* trend.c - Theil-Sen slope and Kendall's tau over a short series.
 *
 * All pairs of at most MG_TREND_POINTS points fit on the stack (2016 slopes),
 * so a trend needs no memory and no more than some 50 us. */
#include "memguard/trend.h"

#include <math.h>
#include <string.h>

#include "internal.h"

#define TREND_PAIRS (MG_TREND_POINTS * (MG_TREND_POINTS - 1) / 2)
#define TREND_MS_PER_MINUTE 60000.0

typedef struct trend_points {
  double time_ms[MG_TREND_POINTS];
  double bytes[MG_TREND_POINTS];
  size_t count;
} trend_points;

/* Keeps the newest usable points; out of order or absent ones are passed over.
 * Reads backwards so that a long series costs no more than a short one. */
static void trend_collect(trend_points *out, const double *time_ms,
                          const uint64_t *bytes, size_t count) {
  size_t at = MG_TREND_POINTS;

  while (count-- > 0 && at > 0) {
    bool later = at == MG_TREND_POINTS || time_ms[count] < out->time_ms[at];
    if (bytes[count] == MG_ABSENT || !isfinite(time_ms[count]) || !later)
      continue;
    at--;
    out->time_ms[at] = time_ms[count];
    out->bytes[at] = (double)bytes[count];
  }
  out->count = MG_TREND_POINTS - at;
  memmove(out->time_ms, out->time_ms + at, out->count * sizeof(double));
  memmove(out->bytes, out->bytes + at, out->count * sizeof(double));
}

/* Hoare, CACM 4(7), 1961. qsort() would do, but may allocate. */
void mg__select(double *values, size_t count, size_t k) {
  size_t low = 0, high = count - 1;

  while (low < high) {
    double pivot = values[k];
    size_t i = low, j = high;
    do {
      while (values[i] < pivot) i++;
      while (pivot < values[j]) j--;
      if (i > j) break;
      double swapped = values[i];
      values[i++] = values[j];
      values[j] = swapped;
      if (j > 0) j--; /* j == 0 ends the loop below all the same */
    } while (i <= j);
    if (j < k) low = i;
    if (k < i) high = j;
  }
}

static double trend_median(double *values, size_t count) {
  size_t middle = count / 2;
  double upper, lower;

  mg__select(values, count, middle);
  upper = values[middle];
  if (count % 2 == 1) return upper;
  lower = values[0];
  for (size_t i = 1; i < middle; i++)
    if (values[i] > lower) lower = values[i];
  return (lower + upper) / 2.0;
}

void mg_trend_of(mg_trend *out, const double *time_ms, const uint64_t *bytes,
                 size_t count) {
  double slope[TREND_PAIRS];
  size_t pairs = 0;
  long agreement = 0;
  trend_points p;

  trend_collect(&p, time_ms, bytes, count);
  *out = (mg_trend){.points = (uint32_t)p.count};
  if (p.count < MG_TREND_MIN_POINTS) return;
  out->span_ms = p.time_ms[p.count - 1] - p.time_ms[0];
  for (size_t i = 0; i + 1 < p.count; i++)
    for (size_t j = i + 1; j < p.count; j++) {
      double rise = p.bytes[j] - p.bytes[i];
      slope[pairs++] = rise / (p.time_ms[j] - p.time_ms[i]);
      agreement += (rise > 0) - (rise < 0);
    }
  out->tau = (double)agreement / (double)pairs;
  out->mb_per_minute =
      trend_median(slope, pairs) * TREND_MS_PER_MINUTE / MG_BYTES_PER_MB;
  if (fabs(out->tau) < MG_TREND_MIN_TAU ||
      fabs(out->mb_per_minute) <= MG_TREND_MIN_MB_PER_MINUTE)
    return;
  if (out->mb_per_minute > 0 && out->tau > 0)
    out->direction = MG_DIRECTION_INCREASING;
  if (out->mb_per_minute < 0 && out->tau < 0)
    out->direction = MG_DIRECTION_DECREASING;
}

const char *mg_direction_name(mg_direction direction) {
  static const char *const names[] = {
#define TREND_NAME(id, name) name,
      MG_DIRECTION_MAP(TREND_NAME)
#undef TREND_NAME
  };
  return (unsigned)direction < MG_DIRECTIONS ? names[direction] : "unknown";
}
