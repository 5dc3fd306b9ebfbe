/* recycle.c - when a worker should make room for a new one. Pure. */
#include "memguard/recycle.h"

#include <math.h>

#include "internal.h"

static mg_status recycle_check(const char *name, double value, double max,
                               mg_error *err) {
  /* NaN is no number of the range either. */
  if (value >= 0.0 && value <= max) return MG_OK;
  return mg__fail(err, MG_ERANGE, "%s is %.10g, allowed: 0 to %.0f", name, value,
                  max);
}

mg_status mg_recycle_init(mg_recycle *out, const mg_recycle_options *options,
                          double now_ms, mg_error *err) {
  const struct {
    const char *name;
    double value, max;
  } rows[] = {{"sustain_ms", options->sustain_ms, MG_RECYCLE_MAX_MS},
              {"jitter_ms", options->jitter_ms, MG_RECYCLE_MAX_MS},
              {"min_age_ms", options->min_age_ms, MG_RECYCLE_MAX_MS},
              {"spread", options->spread, 1.0}};

  if (options->struct_bytes != sizeof *options)
    return mg__fail(err, MG_EINVAL, "struct_bytes is %zu, allowed: %zu",
                    options->struct_bytes, sizeof *options);
  if (options->limit_bytes < 1 || options->limit_bytes == MG_ABSENT)
    return mg__fail(err, MG_ERANGE, "limit_bytes is %llu, allowed: 1 or more",
                    (unsigned long long)options->limit_bytes);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mg_status st = recycle_check(rows[i].name, rows[i].value, rows[i].max, err);
    if (st != MG_OK) return st;
  }
  *out = (mg_recycle){.options = *options, .born_ms = now_ms, .last_ms = now_ms};
  return MG_OK;
}

mg_recycle_verdict mg_recycle_offer(mg_recycle *recycle, uint64_t rss_bytes,
                                    double now_ms) {
  const mg_recycle_options *options = &recycle->options;
  double needed_ms = options->sustain_ms + options->spread * options->jitter_ms;

  if (rss_bytes == MG_ABSENT || !isfinite(now_ms))
    return recycle->is_over ? MG_RECYCLE_OVER : MG_RECYCLE_KEEP;
  if (now_ms < recycle->last_ms) {
    recycle->is_over = false;
    recycle->born_ms = now_ms;
  }
  recycle->last_ms = now_ms;
  if (rss_bytes <= options->limit_bytes) {
    recycle->is_over = false;
    return MG_RECYCLE_KEEP;
  }
  if (!recycle->is_over) {
    recycle->is_over = true;
    recycle->over_ms = now_ms;
  }
  return now_ms - recycle->over_ms >= needed_ms &&
                 now_ms - recycle->born_ms >= options->min_age_ms
             ? MG_RECYCLE_DUE
             : MG_RECYCLE_OVER;
}

const char *mg_recycle_verdict_name(mg_recycle_verdict verdict) {
  static const char *const names[] = {
#define RECYCLE_NAME(id, name) name,
      MG_RECYCLE_MAP(RECYCLE_NAME)
#undef RECYCLE_NAME
  };
  return (unsigned)verdict < MG_RECYCLE_VERDICTS ? names[verdict] : "unknown";
}
