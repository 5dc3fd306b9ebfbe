/* sample.c - samples as rows of numbers; usage, level and their names. */
#include "memguard_node.h"

#include "memguard/level.h"

void mgn_sample_write(double out[MG_PAGE_VALUES], const mg_sample *sample) {
  out[MG_PAGE_number] = (double)sample->number;
  out[MG_PAGE_unix_ms] = (double)sample->unix_ms;
  out[MG_PAGE_usage] = sample->usage;
  out[MG_PAGE_pressure] = sample->pressure;
  out[MG_PAGE_domain] = (double)sample->domain;
  out[MG_PAGE_level] = (double)sample->level;
  out[MG_PAGE_peak_rss_bytes] = mgn_from_u64(sample->peak_rss_bytes);
#define SAMPLE_WRITE(field, doc) \
  out[MG_PAGE_##field] = mgn_from_u64(sample->reading.field);
  MG_READING_MAP(SAMPLE_WRITE)
#undef SAMPLE_WRITE
}

/* usage(config, Float64Array reading, Float64Array out) -> domain
 * out: usage */
static napi_value sample_usage(napi_env env, napi_callback_info info) {
  const mg_config *config;
  mg_reading reading;
  mg_domain domain;
  double *in, *out;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  in = mgn_doubles_of(env, v[1], MG_PAGE_VALUES - MG_PAGE_peak_rss_bytes - 1,
                      NULL);
  if (in == NULL) return NULL;
  out = mgn_doubles_of(env, v[2], 1, NULL);
  if (out == NULL) return NULL;
  mg_reading_init(&reading);
#define SAMPLE_READ(field, doc) reading.field = mgn_to_u64(*in++);
  MG_READING_MAP(SAMPLE_READ)
#undef SAMPLE_READ
  *out = mg_usage(&reading, config, &domain);
  return mgn_number(env, (double)domain);
}

/* levelUpdate(config, Float64Array state, usage, nowMs) -> level
 * state: level, below, since_ms */
static napi_value sample_level(napi_env env, napi_callback_info info) {
  mg_level_tracker tracker = MG_LEVEL_TRACKER_INIT;
  const mg_config *config;
  double *state, usage, now_ms;
  napi_value v[4];

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  state = mgn_doubles_of(env, v[1], 3, NULL);
  if (state == NULL || !mgn_number_of(env, v[2], &usage) ||
      !mgn_number_of(env, v[3], &now_ms))
    return NULL;
  if (state[0] >= 0 && state[0] < MG_LEVELS)
    tracker.level = (mg_level)state[0];
  tracker.below = state[1] != 0;
  tracker.since_ms = state[2];
  mg_level_update(&tracker, config, usage, now_ms);
  state[0] = (double)tracker.level;
  state[1] = tracker.below ? 1 : 0;
  state[2] = tracker.since_ms;
  return mgn_number(env, state[0]);
}

/* sampleDueMs(usage, ratePerMs, longestMs) */
static napi_value sample_due_ms(napi_env env, napi_callback_info info) {
  double usage, rate, longest;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL) ||
      !mgn_number_of(env, v[0], &usage) || !mgn_number_of(env, v[1], &rate) ||
      !mgn_number_of(env, v[2], &longest))
    return NULL;
  return mgn_number(env, mg_sample_due_ms(usage, rate, longest));
}

/* sampleFields: names in the order of the page; readingFields: those of a
 * reading, which are its end. */
napi_status mgn_sample_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {{"usage", sample_usage},
                                           {"levelUpdate", sample_level},
                                           {"sampleDueMs", sample_due_ms}};
  static const char *const fields[] = {
#define SAMPLE_NAME(field) #field,
#define SAMPLE_READING_NAME(field, doc) #field,
      MG_PAGE_MAP(SAMPLE_NAME) MG_READING_MAP(SAMPLE_READING_NAME)};
  static const char *const reading_fields[] = {
      MG_READING_MAP(SAMPLE_READING_NAME)
#undef SAMPLE_NAME
#undef SAMPLE_READING_NAME
  };
#define SAMPLE_ENTRY(id, name) name,
  static const char *const domains[] = {MG_DOMAIN_MAP(SAMPLE_ENTRY)};
  static const char *const levels[] = {MG_LEVEL_MAP(SAMPLE_ENTRY)};
#undef SAMPLE_ENTRY
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok)
    st = mgn_define_names(env, exports, "sampleFields", fields,
                          MGN_COUNT_OF(fields));
  if (st == napi_ok)
    st = mgn_define_names(env, exports, "readingFields", reading_fields,
                          MGN_COUNT_OF(reading_fields));
  if (st == napi_ok)
    st = mgn_define_names(env, exports, "domainNames", domains,
                          MGN_COUNT_OF(domains));
  return st == napi_ok ? mgn_define_names(env, exports, "levelNames", levels,
                                          MGN_COUNT_OF(levels))
                       : st;
}
