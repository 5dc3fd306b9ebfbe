/* growth.c - which way the recorded samples go. Pure. */
#include "memguard/history.h"

#include <math.h>

#include "internal.h"

#define GROWTH_SAMPLES 10u /* recorded samples behind rapid growth */
#define GROWTH_MS 10000.0  /* it lasts so long, or three intervals */
#define GROWTH_MB 1.0      /* and amounts to so much */
#define GROWTH_MS_PER_MINUTE 60000.0
#define GROWTH_NS_PER_MS 1e6

static uint64_t growth_value(const mg_sample *s, mg__series series) {
  return series == MG__SERIES_HEAP ? s->reading.heap_used_bytes
                                   : s->reading.rss_bytes;
}

void mg__growth_trend(const mg_history *history, size_t count,
                      mg__series series, mg_trend *out) {
  size_t held = mg_history_count(history);
  double time_ms[MG_TREND_POINTS];
  uint64_t bytes[MG_TREND_POINTS];

  if (count > MG_TREND_POINTS) count = MG_TREND_POINTS;
  if (count > held) count = held;
  for (size_t i = 0; i < count; i++) {
    const mg_sample *s = mg_history_at(history, held - count + i);
    time_ms[i] = (double)s->clock_ns / GROWTH_NS_PER_MS;
    bytes[i] = growth_value(s, series);
  }
  mg_trend_of(out, time_ms, bytes, count);
}

/* Samples close together extrapolate a page fault to megabytes a minute, so
 * growth must last and amount to something before it is called rapid. */
bool mg__growth_is_rapid(const mg_history *history, const mg_config *config,
                         mg__series series, double *out_mb_per_minute) {
  double interval_ms = mg_config_get(config, MG_CONFIG_MONITOR_INTERVAL);
  double least_ms = fmin(GROWTH_MS, 3.0 * interval_ms), grown_mb;
  mg_trend trend;

  mg__growth_trend(history, GROWTH_SAMPLES, series, &trend);
  *out_mb_per_minute = trend.mb_per_minute;
  grown_mb = trend.mb_per_minute * trend.span_ms / GROWTH_MS_PER_MINUTE;
  return trend.direction == MG_DIRECTION_INCREASING &&
         trend.span_ms >= least_ms && grown_mb >= GROWTH_MB &&
         trend.mb_per_minute > mg_config_get(config, MG_CONFIG_RAPID_GROWTH);
}
