/* trend.c - the trend of a series handed in by JS. */
#include "memguard_node.h"

#include <stdlib.h>

#include "memguard/trend.h"

/* trendOf(Float64Array timeMs, Float64Array bytes, Float64Array out)
 * out: direction, MB per minute, tau, points */
static napi_value trend_of(napi_env env, napi_callback_info info) {
  double *time_ms, *numbers, *out;
  size_t count, bytes_count;
  uint64_t *bytes;
  mg_trend trend;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  out = mgn_doubles_of(env, v[2], 4, NULL);
  if (out == NULL) return NULL;
  time_ms = mgn_doubles_of(env, v[0], 1, &count);
  if (time_ms == NULL) return NULL;
  numbers = mgn_doubles_of(env, v[1], count, &bytes_count);
  if (numbers == NULL) return NULL;
  bytes = calloc(count, sizeof *bytes);
  if (bytes == NULL) return mgn_throw_text(env, MG_ENOMEM, "series");
  for (size_t i = 0; i < count; i++) bytes[i] = mgn_to_u64(numbers[i]);
  mg_trend_of(&trend, time_ms, bytes, count);
  free(bytes);
  out[0] = (double)trend.direction;
  out[1] = trend.mb_per_minute;
  out[2] = trend.tau;
  out[3] = trend.points;
  return mgn_undefined(env);
}

napi_status mgn_trend_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {{"trendOf", trend_of}};
#define TREND_ENTRY(id, name) name,
  static const char *const directions[] = {MG_DIRECTION_MAP(TREND_ENTRY)};
#undef TREND_ENTRY
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  return st == napi_ok ? mgn_define_names(env, exports, "directionNames",
                                          directions, MGN_COUNT_OF(directions))
                       : st;
}
