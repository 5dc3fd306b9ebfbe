/* recycle.c - when a worker should make room for a new one. */
#include "memguard_node.h"

#include "memguard/recycle.h"

enum {
  RECYCLE_LIMIT,
  RECYCLE_SUSTAIN,
  RECYCLE_JITTER,
  RECYCLE_MIN_AGE,
  RECYCLE_SPREAD,
  RECYCLE_BORN,
  RECYCLE_OVER_SINCE,
  RECYCLE_LAST,
  RECYCLE_IS_OVER,
  RECYCLE_VALUES
};

/* limit_bytes counts as 0, which the core refuses, where it is no number. */
static mg_recycle_options recycle_options(const double *state) {
  mg_recycle_options options = MG_RECYCLE_OPTIONS_INIT;
  uint64_t limit_bytes = mgn_to_u64(state[RECYCLE_LIMIT]);

  options.limit_bytes = limit_bytes == MG_ABSENT ? 0 : limit_bytes;
  options.sustain_ms = state[RECYCLE_SUSTAIN];
  options.jitter_ms = state[RECYCLE_JITTER];
  options.min_age_ms = state[RECYCLE_MIN_AGE];
  options.spread = state[RECYCLE_SPREAD];
  return options;
}

/* recycleInit(Float64Array state): limit_bytes, sustain_ms, jitter_ms, min_age_ms,
 * spread, born_ms are given; over_ms, last_ms, is_over follow */
static napi_value recycle_init(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mg_recycle_options options;
  mg_recycle recycle;
  napi_value value;
  double *state;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  state = mgn_doubles_of(env, value, RECYCLE_VALUES, NULL);
  if (state == NULL) return NULL;
  options = recycle_options(state);
  if (mg_recycle_init(&recycle, &options, state[RECYCLE_BORN], &err) != MG_OK)
    return mgn_throw(env, &err);
  state[RECYCLE_OVER_SINCE] = 0;
  state[RECYCLE_LAST] = recycle.last_ms;
  state[RECYCLE_IS_OVER] = 0;
  return mgn_undefined(env);
}

/* recycleOffer(Float64Array state, Float64Array reading) -> index of the verdict
 * reading: rss_bytes (NaN: unknown), now_ms */
static napi_value recycle_offer(napi_env env, napi_callback_info info) {
  mg_recycle_verdict verdict;
  mg_recycle recycle;
  napi_value v[2], made;
  double *state, *in;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  state = mgn_doubles_of(env, v[0], RECYCLE_VALUES, NULL);
  if (state == NULL) return NULL;
  in = mgn_doubles_of(env, v[1], 2, NULL);
  if (in == NULL) return NULL;
  recycle = (mg_recycle){.options = recycle_options(state),
                         .born_ms = state[RECYCLE_BORN],
                         .over_ms = state[RECYCLE_OVER_SINCE],
                         .last_ms = state[RECYCLE_LAST],
                         .is_over = state[RECYCLE_IS_OVER] != 0};
  verdict = mg_recycle_offer(&recycle, mgn_to_u64(in[0]), in[1]);
  state[RECYCLE_BORN] = recycle.born_ms;
  state[RECYCLE_OVER_SINCE] = recycle.over_ms;
  state[RECYCLE_LAST] = recycle.last_ms;
  state[RECYCLE_IS_OVER] = recycle.is_over;
  MGN_TRY(env, napi_create_uint32(env, verdict, &made));
  return made;
}

napi_status mgn_recycle_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {{"recycleInit", recycle_init},
                                           {"recycleOffer", recycle_offer}};
#define RECYCLE_ENTRY(id, name) name,
  static const char *const verdicts[] = {MG_RECYCLE_MAP(RECYCLE_ENTRY)};
#undef RECYCLE_ENTRY
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  return st == napi_ok ? mgn_define_names(env, exports, "recycleNames",
                                          verdicts, MGN_COUNT_OF(verdicts))
                       : st;
}
