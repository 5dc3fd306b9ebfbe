/* metric.c - judges whether a metric moved. */
#include "metric.h"

#include <math.h>
#include <string.h>

const metric_row metric_rows[METRICS] = {
#define METRIC_ROW(id, name, unit, floor, doc) {name, unit, doc, floor},
    METRIC_MAP(METRIC_ROW)
#undef METRIC_ROW
};

metric_id metric_find(const char *name) {
  int id = 0;

  while (id < METRICS && strcmp(metric_rows[id].name, name) != 0) id++;
  return (metric_id)id;
}

const char *metric_verdict_name(metric_verdict verdict) {
  static const char *const names[] = {"same", "better", "worse", "inconclusive",
                                      "missing"};

  return names[verdict];
}

static size_t metric_values(double *out, const metric_runs *runs, metric_id id) {
  size_t count = 0;

  for (size_t i = 0; i < runs->count; i++)
    if (!isnan(runs->value[id][i])) out[count++] = runs->value[id][i];
  return count;
}

void metric_judge(metric_change *out, metric_id id, const metric_runs *base,
                  const metric_runs *now, double threshold_percent) {
  double a[STATISTICS_MAX], b[STATISTICS_MAX], moved, needed;

  out->base_count = metric_values(a, base, id);
  out->now_count = metric_values(b, now, id);
  out->base = statistics_median(a, out->base_count);
  out->now = statistics_median(b, out->now_count);
  out->p = statistics_mann_whitney(a, out->base_count, b, out->now_count);
  moved = out->now - out->base;
  out->percent = out->base == 0 ? (double)NAN : 100 * moved / fabs(out->base);
  needed = fmax(fabs(out->base) * threshold_percent / 100, metric_rows[id].floor);
  if (out->base_count == 0 || out->now_count == 0)
    out->verdict = METRIC_MISSING;
  else if (fabs(moved) <= needed)
    out->verdict = METRIC_SAME;
  else if (out->p < METRIC_P)
    out->verdict = moved > 0 ? METRIC_WORSE : METRIC_BETTER;
  else /* to be better by chance hurts nobody */
    out->verdict = moved > 0 ? METRIC_UNSURE : METRIC_SAME;
}
