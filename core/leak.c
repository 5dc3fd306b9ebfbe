/* leak.c - series of a detector, their tiers, and what is said of them. */
#include "memguard/leak.h"

#include <math.h>
#include <string.h>

#include "internal.h"
#include "leak_parts.h"

#define LEAKS_MS_PER_MINUTE 60000.0
#define LEAKS_CODE_OCTAVE 2u /* a program compiles for minutes, not for hours */

struct mg_leak {
  mg_leak_settings settings;
  double tick_ms, judged_ms, began_ms;
  bool has_begun; /* a signal was noted */
  double first_code_bytes; /* what HEAP is judged without is counted from it */
  mg_leak_limits limits;
  mg__leak_series *series[MG_LEAK_SERIES_MAX];
  uint32_t count;
};

static const struct {
  const char *name, *unit;
  bool may_confirm;
} leaks_signals[] = {
#define LEAKS_ROW(id, name, unit, may_confirm) {name, unit, may_confirm},
    MG_LEAK_SIGNAL_MAP(LEAKS_ROW)
#undef LEAKS_ROW
};

mg_leak_settings mg_leak_settings_of(const mg_config *config) {
  mg_leak_settings made = MG_LEAK_SETTINGS_INIT;
  double scale = mg_config_get(config, MG_CONFIG_LEAK_TIME_SCALE);

  made.window_ms = fmax(mg_config_get(config, MG_CONFIG_LEAK_WINDOW) / scale,
                        MG_LEAK_WINDOW_MIN_MS);
  made.warmup_ms = mg_config_get(config, MG_CONFIG_LEAK_WARMUP) / scale;
  made.critical_within_ms =
      mg_config_get(config, MG_CONFIG_LEAK_CRITICAL_WITHIN) / scale;
  made.min_growth_bytes =
      mg_config_get(config, MG_CONFIG_LEAK_MIN_GROWTH_MB) * MG_BYTES_PER_MB;
  return made;
}

/* ---- life ---------------------------------------------------------------- */

static mg_status leaks_add(mg_leak *leak, const char *name, mg_error *err) {
  mg__leak_series *made = mg__alloc(sizeof *made);

  if (made == NULL)
    return mg__fail(err, MG_ENOMEM, "series, %zu bytes", sizeof *made);
  strncpy(made->name, name, sizeof made->name - 1);
  mg__leak_blocks_init(&made->blocks);
  for (uint32_t k = 0; k < MG__LEAK_OCTAVES; k++) made->verdict[k].seen = -1;
  leak->series[leak->count++] = made;
  return MG_OK;
}

static mg_status leaks_check(const mg_leak_settings *s, mg_error *err) {
  if (s->struct_bytes != sizeof *s)
    return mg__fail(err, MG_EINVAL, "settings of %zu bytes, need %zu",
                    s->struct_bytes, sizeof *s);
  if (!(s->window_ms >= MG_LEAK_WINDOW_MIN_MS) || !isfinite(s->window_ms))
    return mg__fail(err, MG_EINVAL, "window of %g ms, need >= %g",
                    s->window_ms, MG_LEAK_WINDOW_MIN_MS);
  if (!(s->warmup_ms >= 0.0) || !(s->critical_within_ms >= 0.0) ||
      !(s->min_growth_bytes >= 0.0))
    return mg__fail(err, MG_EINVAL, "warmup %g ms, critical within %g ms, "
                    "growth %g: need numbers >= 0", s->warmup_ms,
                    s->critical_within_ms, s->min_growth_bytes);
  return MG_OK;
}

mg_status mg_leak_open(mg_leak **out, const mg_leak_settings *settings,
                       mg_error *err) {
  mg_status st = leaks_check(settings, err);
  mg_leak *leak;

  *out = NULL;
  if (st != MG_OK) return st;
  leak = mg__alloc(sizeof *leak);
  if (leak == NULL)
    return mg__fail(err, MG_ENOMEM, "detector, %zu bytes", sizeof *leak);
  leak->settings = *settings;
  leak->tick_ms = settings->window_ms / MG__LEAK_BLOCKS;
  while (st == MG_OK && leak->count < MG_LEAK_SIGNALS)
    st = leaks_add(leak, leaks_signals[leak->count].name, err);
  if (st != MG_OK) goto fail_leak;
  *out = leak;
  return MG_OK;

fail_leak:
  mg_leak_close(leak);
  return st;
}

void mg_leak_close(mg_leak *leak) {
  if (leak == NULL) return;
  for (uint32_t i = 0; i < leak->count; i++) mg__free(leak->series[i]);
  mg__free(leak);
}

mg_status mg_leak_name(mg_leak *leak, const char *name, uint32_t *out_series,
                       mg_error *err) {
  mg_status st;

  for (uint32_t i = 0; i < leak->count; i++)
    if (strncmp(leak->series[i]->name, name, MG_LEAK_NAME_BYTES - 1) == 0) {
      *out_series = i;
      return MG_OK;
    }
  if (leak->count == MG_LEAK_SERIES_MAX)
    return mg__fail(err, MG_ERANGE, "%u named series, allowed: no more",
                    MG_LEAK_NAMED_MAX);
  st = leaks_add(leak, name, err);
  if (st == MG_OK) *out_series = leak->count - 1;
  return st;
}

/* The code that the heap is judged without; 0: none is told. */
static double leaks_code_bytes(const mg_leak *leak) {
  const mg__leak_blocks *code = &leak->series[MG_LEAK_CODE]->blocks;

  return code->tick < 0 ? 0.0 : code->latest - leak->first_code_bytes;
}

void mg_leak_note(mg_leak *leak, uint32_t series, double value,
                  double now_ms) {
  bool is_signal = series < MG_LEAK_SIGNALS;

  if (series >= leak->count || !(value >= 0.0) || !isfinite(value) ||
      !isfinite(now_ms))
    return;
  if (is_signal && !leak->has_begun) {
    leak->has_begun = true;
    leak->began_ms = now_ms;
  }
  if (series == MG_LEAK_CODE && leak->series[series]->blocks.tick < 0)
    leak->first_code_bytes = value;
  if (series == MG_LEAK_HEAP) value = fmax(0.0, value - leaks_code_bytes(leak));
  mg__leak_blocks_note(&leak->series[series]->blocks, leak->tick_ms,
                       is_signal ? leak->began_ms : now_ms, value, now_ms);
}

/* ---- limits -------------------------------------------------------------- */

static bool leaks_is_known(double limit) {
  return limit > 0.0 && isfinite(limit);
}

static bool leaks_is_bytes(uint32_t series) {
  return series == MG_LEAK_HEAP || series == MG_LEAK_NATIVE ||
         series == MG_LEAK_RSS || series == MG_LEAK_CODE;
}

/* What is left of `limit` when `used` is in use; NAN: not known. */
static double leaks_left(double limit, double used) {
  return leaks_is_known(limit) ? fmax(0.0, limit - used) : (double)NAN;
}

static double leaks_room(const mg_leak *leak, uint32_t series) {
  const mg_leak_limits *l = &leak->limits;
  bool is_heap = series == MG_LEAK_HEAP || series == MG_LEAK_CODE;
  double latest = is_heap ? leak->series[MG_LEAK_HEAP]->blocks.latest +
                                leaks_code_bytes(leak)
                          : leak->series[series]->blocks.latest;
  double used = leaks_is_known(l->memory_used_bytes)
                    ? l->memory_used_bytes
                    : fmax(leak->series[MG_LEAK_RSS]->blocks.latest,
                           leaks_is_bytes(series) ? latest : 0.0);
  double memory = leaks_left(l->memory_bytes, used);

  switch (series) {
    case MG_LEAK_HEAP:
    case MG_LEAK_CODE: /* fmin() passes over NAN */
      return fmin(memory, leaks_left(l->heap_bytes, latest));
    case MG_LEAK_NATIVE:
    case MG_LEAK_RSS:
      return memory;
    case MG_LEAK_BLOCKS:
      return memory / MG_LEAK_BLOCK_BYTES;
    case MG_LEAK_FDS:
    case MG_LEAK_FD_SOCKETS:
    case MG_LEAK_FD_PIPES:
    case MG_LEAK_FD_FILES:
    case MG_LEAK_FD_OTHERS:
      return leaks_left(l->fds,
                        fmax(latest, leak->series[MG_LEAK_FDS]->blocks.latest));
    case MG_LEAK_THREADS:
      return leaks_left(l->threads, latest);
    case MG_LEAK_MAPPINGS:
      return leaks_left(l->mappings, latest);
    default:
      return (double)NAN;
  }
}

/* Where no limit is known or it is far away, growth is measured against a size
 * at which somebody would ask: several times what there is, and not little. */
static double leaks_assumed_room(const mg_leak *leak, uint32_t series) {
  double latest = leak->series[series]->blocks.latest;

  return fmax(leaks_is_bytes(series) ? MG_LEAK_ASSUMED_BYTES
                                     : MG_LEAK_ASSUMED_COUNT,
              MG_LEAK_ASSUMED_TIMES * latest);
}

/* ---- judging ------------------------------------------------------------- */

static mg_leak_severity leaks_severity(const mg_leak *leak,
                                       const mg_leak_finding *f, double room) {
  double soon_ms = leak->settings.critical_within_ms;

  if (isnan(room)) /* no limit: by how much it is of what was there */
    return f->growth >= 2.0 * f->base  ? MG_LEAK_HIGH
           : f->growth >= 0.5 * f->base ? MG_LEAK_MEDIUM
                                        : MG_LEAK_LOW;
  return f->to_limit_ms <= soon_ms         ? MG_LEAK_HIGH
         : f->to_limit_ms <= 8.0 * soon_ms ? MG_LEAK_MEDIUM
                                           : MG_LEAK_LOW;
}

static void leaks_describe(const mg_leak *leak, uint32_t number) {
  mg__leak_series *s = leak->series[number];
  mg_leak_finding *f = &s->now;
  double room = leaks_room(leak, number), per_ms;

  f->series = number;
  memcpy(f->name, s->name, sizeof f->name);
  f->previous = s->told;
  f->latest = s->blocks.latest;
  if (s->tier == MG_LEAK_NONE) {
    f->tier = MG_LEAK_NONE;
    f->is_critical = false;
    return;
  }
  f->tier = s->tier;
  f->base = s->trend.base;
  f->growth = fmax(0.0, f->latest - f->base);
  per_ms = s->trend.slope / leak->tick_ms;
  f->growth_per_minute = per_ms * LEAKS_MS_PER_MINUTE;
  f->since_ms = s->blocks.began_ms + s->trend.since * leak->tick_ms;
  f->to_limit_ms =
      isnan(room) || per_ms <= 0.0 ? (double)INFINITY : room / per_ms;
  f->window_ms = s->trend.window * leak->tick_ms;
  f->octaves = s->trend.octaves;
  f->is_critical = f->tier >= MG_LEAK_LIKELY &&
                   f->to_limit_ms <= leak->settings.critical_within_ms;
  f->severity = leaks_severity(leak, f, room);
}

static void leaks_judge_one(mg_leak *leak, uint32_t number) {
  mg__leak_series *s = leak->series[number];
  double room = leaks_room(leak, number);
  mg__leak_rule rule = {
      .room = fmin(room, leaks_assumed_room(leak, number)), /* passes over NaN */
      .least = leaks_is_bytes(number) ? leak->settings.min_growth_bytes
                                      : MG_LEAK_LEAST_COUNT,
      .warmup = leak->settings.warmup_ms / leak->tick_ms,
      .may_confirm =
          number >= MG_LEAK_SIGNALS || leaks_signals[number].may_confirm};

  if (number == MG_LEAK_CODE) rule.shortest = LEAKS_CODE_OCTAVE;
  if (number == MG_LEAK_BLOCKS) rule.least = MG_LEAK_LEAST_BLOCKS;
  if (number == MG_LEAK_NATIVE) rule.witness = leak->series[MG_LEAK_RSS];
  mg__leak_series_judge(s, &rule);
  leaks_describe(leak, number);
}

size_t mg_leak_judge(mg_leak *leak, double now_ms,
                     const mg_leak_limits *limits, mg_leak_finding *out,
                     size_t max) {
  size_t count = 0;

  leak->limits = *limits;
  if (isfinite(now_ms)) leak->judged_ms = now_ms;
  for (uint32_t i = 0; i < leak->count; i++) {
    mg__leak_series *s = leak->series[i];
    leaks_judge_one(leak, i);
    if ((s->now.tier == s->told && s->now.is_critical == s->told_critical) ||
        count == max)
      continue;
    out[count++] = s->now;
    s->told = s->now.tier;
    s->told_critical = s->now.is_critical;
  }
  return count;
}

size_t mg_leak_findings(const mg_leak *leak, mg_leak_finding *out, size_t max) {
  size_t count = 0;

  for (uint32_t i = 0; i < leak->count && count < max; i++)
    if (leak->series[i]->now.tier != MG_LEAK_NONE)
      out[count++] = leak->series[i]->now;
  return count;
}

void mg_leak_explain(mg_leak *leak, uint32_t series, double share) {
  if (series < leak->count && leak->series[series]->tier != MG_LEAK_NONE &&
      share > leak->series[series]->share)
    leak->series[series]->share = share;
}

static bool leaks_is_memory(uint32_t series) {
  return series <= MG_LEAK_RSS || series == MG_LEAK_CODE;
}

/* The shortest octave that shows growth of a series; MG__LEAK_OCTAVES if none. */
static uint32_t leaks_first_octave(const mg__leak_series *s) {
  uint32_t octave = 0;

  while (octave < MG__LEAK_OCTAVES && !s->verdict[octave].rises) octave++;
  if (s->tier == MG_LEAK_NONE || s->lowest > octave) return octave;
  return s->lowest;
}

bool mg_leak_wants_collection(const mg_leak *leak, uint32_t series) {
  const mg__leak_series *s;
  uint32_t octave = MG__LEAK_OCTAVES;
  double block_ms, ago_ms;

  if (series >= leak->count) return false;
  s = leak->series[series];
  /* What grows is seen first by whatever is read often: any kind of memory
   * that grows makes all kinds worth a fresh value. */
  for (uint32_t i = 0; i < leak->count; i++) {
    bool counts = i == series || (leaks_is_memory(i) && leaks_is_memory(series));
    uint32_t first = counts ? leaks_first_octave(leak->series[i]) : octave;
    if (first < octave) octave = first;
  }
  if (octave == MG__LEAK_OCTAVES) return false;
  if (s->blocks.tick < 0) return series != MG_LEAK_CODE;
  block_ms = leak->tick_ms * (double)(1u << octave);
  ago_ms = leak->judged_ms - s->blocks.began_ms;
  return floor(ago_ms / block_ms) >
         floor((s->blocks.latest_ms - s->blocks.began_ms) / block_ms);
}

/* ---- names --------------------------------------------------------------- */

const char *mg_leak_series_name(const mg_leak *leak, uint32_t series) {
  return series < leak->count ? leak->series[series]->name : "unknown";
}

const char *mg_leak_series_unit(uint32_t series) {
  return series < MG_LEAK_SIGNALS ? leaks_signals[series].unit : "count";
}

const char *mg_leak_tier_name(mg_leak_tier tier) {
  static const char *const names[] = {"none", "suspect", "likely", "confirmed"};
  return (unsigned)tier <= MG_LEAK_CONFIRMED ? names[tier] : "unknown";
}

const char *mg_leak_severity_name(mg_leak_severity severity) {
  static const char *const names[] = {"low", "medium", "high"};
  return (unsigned)severity <= MG_LEAK_HIGH ? names[severity] : "unknown";
}
