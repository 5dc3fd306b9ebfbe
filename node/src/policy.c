/* policy.c - mg_policy behind a handle. */
#include "memguard_node.h"

#include <stdlib.h>

#include "memguard/policy.h"

static const napi_type_tag policy_tag = {0x6d656d6775617264u,
                                         0x706f6c6963790001u};

typedef struct policy_handle {
  mg_config config;
  mg_policy policy;
} policy_handle;

static void policy_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

static policy_handle *policy_of(napi_env env, napi_value value) {
  policy_handle *handle = mgn_unwrap(env, value, &policy_tag);

  if (handle == NULL) mgn_throw_text(env, MG_ETYPE, "expected a policy");
  return handle;
}

/* policyOpen(config) -> handle */
static napi_value policy_open(napi_env env, napi_callback_info info) {
  const mg_config *config;
  policy_handle *handle;
  napi_value value, made;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  config = mgn_config_of(env, value);
  if (config == NULL) return NULL;
  handle = malloc(sizeof *handle);
  if (handle == NULL)
    return mgn_throw_text(env, MG_ENOMEM, "no memory for a policy");
  handle->config = *config;
  mg_policy_init(&handle->policy);
  if (napi_create_object(env, &made) != napi_ok ||
      napi_type_tag_object(env, made, &policy_tag) != napi_ok ||
      napi_wrap(env, made, handle, policy_finalize, NULL, NULL) != napi_ok) {
    free(handle);
    return mgn_fail_napi(env);
  }
  return made;
}

/* policyNext(handle, Float64Array view, Float64Array out)
 * view: now_ms, usage, level, limit_bytes, grown_bytes, available
 * out: action, reason, level, share, begins_round, ended_round */
static napi_value policy_next(napi_env env, napi_callback_info info) {
  policy_handle *handle;
  const double *in;
  double *out;
  mg_decision d;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  handle = policy_of(env, v[0]);
  if (handle == NULL) return NULL;
  in = mgn_doubles_of(env, v[1], 6, NULL);
  if (in == NULL) return NULL;
  out = mgn_doubles_of(env, v[2], 6, NULL);
  if (out == NULL) return NULL;
  d = mg_policy_next(&handle->policy, &handle->config,
                     &(mg_policy_view){.now_ms = in[0],
                                       .usage = in[1],
                                       .level = (mg_level)(int)in[2],
                                       .limit_bytes = mgn_to_u64(in[3]),
                                       .grown_bytes = mgn_to_u64(in[4]),
                                       .available = (uint32_t)in[5]});
  out[0] = (double)d.action;
  out[1] = (double)d.reason;
  out[2] = (double)d.level;
  out[3] = d.share;
  out[4] = d.begins_round;
  out[5] = d.ended_round;
  return mgn_undefined(env);
}

/* policyDone(handle, action, Float64Array outcome)
 * outcome: was_done, took_ms, gc_ms, freed_bytes, used_bytes, usage_after,
 * now_ms */
static napi_value policy_done(napi_env env, napi_callback_info info) {
  policy_handle *handle;
  const double *in;
  uint64_t action;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  handle = policy_of(env, v[0]);
  if (handle == NULL || !mgn_count_of(env, v[1], &action)) return NULL;
  in = mgn_doubles_of(env, v[2], 7, NULL);
  if (in == NULL) return NULL;
  mg_policy_done(&handle->policy, &handle->config, (mg_action)action,
                 &(mg_outcome){.was_done = in[0] != 0,
                               .took_ms = in[1],
                               .gc_ms = in[2],
                               .freed_bytes = mgn_to_u64(in[3]),
                               .used_bytes = mgn_to_u64(in[4]),
                               .usage_after = in[5]},
                 in[6]);
  return mgn_undefined(env);
}

/* policySpent(handle, gcMs) */
static napi_value policy_spent(napi_env env, napi_callback_info info) {
  policy_handle *handle;
  napi_value v[2];
  double gc_ms;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  handle = policy_of(env, v[0]);
  if (handle == NULL || !mgn_number_of(env, v[1], &gc_ms)) return NULL;
  mg_policy_spent(&handle->policy, gc_ms);
  return mgn_undefined(env);
}

/* policyMayCollect(handle, level, gcMs, nowMs) -> boolean */
static napi_value policy_may_collect(napi_env env, napi_callback_info info) {
  policy_handle *handle;
  double gc_ms, now_ms;
  uint64_t level;
  napi_value v[4];

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  handle = policy_of(env, v[0]);
  if (handle == NULL || !mgn_count_of(env, v[1], &level) ||
      !mgn_number_of(env, v[2], &gc_ms) || !mgn_number_of(env, v[3], &now_ms))
    return NULL;
  return mgn_boolean(env, mg_policy_may_collect(
                              &handle->policy, &handle->config,
                              (mg_level)level, gc_ms, now_ms));
}

/* policyTimeToLimitMs(handle) */
static napi_value policy_time_to_limit(napi_env env, napi_callback_info info) {
  policy_handle *handle;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  handle = policy_of(env, value);
  if (handle == NULL) return NULL;
  return mgn_number(env, mg_policy_time_to_limit_ms(&handle->policy));
}

/* policyIsUnreclaimable(handle) */
static napi_value policy_is_unreclaimable(napi_env env,
                                          napi_callback_info info) {
  policy_handle *handle;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  handle = policy_of(env, value);
  if (handle == NULL) return NULL;
  return mgn_boolean(env, handle->policy.is_unreclaimable);
}

/* budgetBytes(limitBytes, usage); NaN: absent */
static napi_value policy_budget_bytes(napi_env env, napi_callback_info info) {
  double limit, usage;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL) ||
      !mgn_number_of(env, v[0], &limit) || !mgn_number_of(env, v[1], &usage))
    return NULL;
  return mgn_number(
      env, mgn_from_u64(mg_policy_budget_bytes(mgn_to_u64(limit), usage)));
}

napi_status mgn_policy_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"policyOpen", policy_open},
      {"policyNext", policy_next},
      {"policyDone", policy_done},
      {"policySpent", policy_spent},
      {"policyMayCollect", policy_may_collect},
      {"policyTimeToLimitMs", policy_time_to_limit},
      {"policyIsUnreclaimable", policy_is_unreclaimable},
      {"budgetBytes", policy_budget_bytes}};
  static const char *const actions[] = {
#define POLICY_ACTION(id, name, bytes_per_ms, collects) name,
      MG_ACTION_MAP(POLICY_ACTION)
#undef POLICY_ACTION
  };
  static const char *const reasons[] = {
#define POLICY_REASON(id, name) name,
      MG_REASON_MAP(POLICY_REASON)
#undef POLICY_REASON
  };
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok)
    st = mgn_define_names(env, exports, "actionNames", actions,
                          MGN_COUNT_OF(actions));
  return st == napi_ok ? mgn_define_names(env, exports, "reasonNames", reasons,
                                          MGN_COUNT_OF(reasons))
                       : st;
}
