/* tune.c - advice on V8's spaces, and when to collect at idle. */
#include "memguard_node.h"

#include "memguard/advice.h"
#include "memguard/tune.h"

/* A whole number for the core; what is none becomes 0, which it refuses. */
static uint32_t tune_major(double number) {
  return number >= 0 && number <= UINT32_MAX ? (uint32_t)number : 0;
}

/* v8Advice(Float64Array view, Float64Array out)
 * view: limit_bytes, node_major, headroom, share
 * out: old_space_mb, semi_space_mb, young_mb, is_capped, is_tight,
 * takes_semi_option */
static napi_value tune_advice(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mg_v8_advice advice;
  double *in, *out;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  in = mgn_doubles_of(env, v[0], 4, NULL);
  if (in == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], 6, NULL);
  if (out == NULL) return NULL;
  if (mg_v8_advise(&advice,
                   &(mg_v8_view){.limit_bytes = mgn_to_u64(in[0]),
                                 .node_major = tune_major(in[1]),
                                 .headroom = in[2],
                                 .share = in[3]},
                   &err) != MG_OK)
    return mgn_throw(env, &err);
  out[0] = mgn_from_u64(advice.old_space_mb);
  out[1] = advice.semi_space_mb;
  out[2] = advice.young_mb;
  out[3] = advice.is_capped;
  out[4] = advice.is_tight;
  out[5] = advice.takes_semi_option;
  return mgn_undefined(env);
}

/* idleDue(config, Float64Array state, Float64Array view) -> boolean
 * state: is_idle, since_ms, collected_ms, has_collected; zeros at first
 * view: now_ms, load (NaN: unknown), expected_ms, is_worth */
static napi_value tune_idle_due(napi_env env, napi_callback_info info) {
  const mg_config *config;
  double *state, *in;
  napi_value v[3];
  mg_idle idle;
  bool is_due;

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  state = mgn_doubles_of(env, v[1], 4, NULL);
  if (state == NULL) return NULL;
  in = mgn_doubles_of(env, v[2], 4, NULL);
  if (in == NULL) return NULL;
  idle = (mg_idle){.is_idle = state[0] != 0,
                   .since_ms = state[1],
                   .collected_ms = state[2],
                   .has_collected = state[3] != 0};
  is_due = mg_idle_due(&idle, config,
                       &(mg_idle_view){.now_ms = in[0],
                                       .load = in[1],
                                       .expected_ms = in[2],
                                       .is_worth = in[3] != 0});
  state[0] = idle.is_idle;
  state[1] = idle.since_ms;
  state[2] = idle.collected_ms;
  state[3] = idle.has_collected;
  return mgn_boolean(env, is_due);
}

napi_status mgn_tune_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {{"v8Advice", tune_advice},
                                           {"idleDue", tune_idle_due}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
