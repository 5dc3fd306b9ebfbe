/* optimize.c - the decisions about optimizations. An optimizer is a row of
 * numbers, a Float64Array that JS holds: every function here is pure. */
#include "memguard_node.h"

#include <string.h>

#include "memguard/optimize.h"

enum { OPTIMIZER_VALUES = sizeof(mg_optimizer) / sizeof(double) };

static bool optimize_state(napi_env env, napi_value value, double **out_row,
                           mg_optimizer *out) {
  *out_row = mgn_doubles_of(env, value, OPTIMIZER_VALUES, NULL);
  if (*out_row == NULL) return false;
  memcpy(out, *out_row, sizeof *out);
  return true;
}

/* An index into a list of `count` names. Throws. */
static bool optimize_index(napi_env env, napi_value value, unsigned count,
                           unsigned *out) {
  uint64_t index;

  if (!mgn_count_of(env, value, &index)) return false;
  if (index >= count) {
    mgn_throw_text(env, MG_ERANGE, "no such reason, strategy or level");
    return false;
  }
  *out = (unsigned)index;
  return true;
}

/* optimizerInit(Float64Array state) */
static napi_value optimize_init(napi_env env, napi_callback_info info) {
  mg_optimizer optimizer;
  napi_value v[1];
  double *row;

  if (!mgn_arguments(env, info, 1, v, NULL)) return NULL;
  if (!optimize_state(env, v[0], &row, &optimizer)) return NULL;
  mg_optimizer_init(&optimizer);
  memcpy(row, &optimizer, sizeof optimizer);
  return mgn_undefined(env);
}

/* optimizerDue(state, config, Float64Array view) -> reason
 * view: now ms, usage, level, is growing, time to limit ms, engine acted ms */
static napi_value optimize_due(napi_env env, napi_callback_info info) {
  mg_optimizer_view view;
  mg_optimizer optimizer;
  mg_optimize_reason reason;
  const mg_config *config;
  double *row, *in;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL) ||
      !optimize_state(env, v[0], &row, &optimizer))
    return NULL;
  config = mgn_config_of(env, v[1]);
  if (config == NULL) return NULL;
  in = mgn_doubles_of(env, v[2], 6, NULL);
  if (in == NULL) return NULL;
  view = (mg_optimizer_view){.now_ms = in[0],
                             .usage = in[1],
                             .level = MG_LEVEL_NORMAL,
                             .is_growing = in[3] != 0,
                             .time_to_limit_ms = in[4],
                             .engine_acted_ms = in[5]};
  if (in[2] >= 0 && in[2] < MG_LEVELS) view.level = (mg_level)in[2];
  reason = mg_optimizer_due(&optimizer, config, &view);
  memcpy(row, &optimizer, sizeof optimizer);
  return mgn_number(env, (double)reason);
}

/* optimizerMay(state, reason, isForced, nowMs) -> boolean */
static napi_value optimize_may(napi_env env, napi_callback_info info) {
  mg_optimizer optimizer;
  unsigned reason;
  double *row, now_ms;
  bool is_forced, may;
  napi_value v[4];

  if (!mgn_arguments(env, info, 4, v, NULL) ||
      !optimize_state(env, v[0], &row, &optimizer) ||
      !optimize_index(env, v[1], MG_OPTIMIZE_REASONS, &reason) ||
      !mgn_bool_of(env, v[2], &is_forced) ||
      !mgn_number_of(env, v[3], &now_ms))
    return NULL;
  may = mg_optimizer_may(&optimizer, (mg_optimize_reason)reason, is_forced,
                         now_ms);
  memcpy(row, &optimizer, sizeof optimizer);
  return mgn_boolean(env, may);
}

/* optimizerDone(state, reason, isSuccess, freedBytes, tookMs, nowMs) */
static napi_value optimize_done(napi_env env, napi_callback_info info) {
  double *row, freed_bytes, took_ms, now_ms;
  mg_optimizer optimizer;
  unsigned reason;
  bool is_success;
  napi_value v[6];

  if (!mgn_arguments(env, info, 6, v, NULL) ||
      !optimize_state(env, v[0], &row, &optimizer) ||
      !optimize_index(env, v[1], MG_OPTIMIZE_REASONS, &reason) ||
      !mgn_bool_of(env, v[2], &is_success) ||
      !mgn_number_of(env, v[3], &freed_bytes) ||
      !mgn_number_of(env, v[4], &took_ms) || !mgn_number_of(env, v[5], &now_ms))
    return NULL;
  mg_optimizer_done(&optimizer, (mg_optimize_reason)reason, is_success,
                    mgn_to_u64(freed_bytes), took_ms, now_ms);
  memcpy(row, &optimizer, sizeof optimizer);
  return mgn_undefined(env);
}

/* strategyFor(reason, isAggressive) -> strategy */
static napi_value optimize_strategy(napi_env env, napi_callback_info info) {
  bool is_aggressive;
  unsigned reason;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL) ||
      !optimize_index(env, v[0], MG_OPTIMIZE_REASONS, &reason) ||
      !mgn_bool_of(env, v[1], &is_aggressive))
    return NULL;
  return mgn_number(
      env, mg_strategy_for((mg_optimize_reason)reason, is_aggressive));
}

/* strategyPlan(strategy, Float64Array progress, Float64Array out) -> actions
 * progress: round, elapsed ms, freed bytes, used bytes
 * out: share, cleans, flushes */
static napi_value optimize_plan(napi_env env, napi_callback_info info) {
  mg_progress progress;
  unsigned strategy;
  double *in, *out;
  napi_value v[3];
  mg_plan plan;

  if (!mgn_arguments(env, info, 3, v, NULL) ||
      !optimize_index(env, v[0], MG_STRATEGIES, &strategy))
    return NULL;
  in = mgn_doubles_of(env, v[1], 4, NULL);
  if (in == NULL) return NULL;
  out = mgn_doubles_of(env, v[2], 3, NULL);
  if (out == NULL) return NULL;
  progress = (mg_progress){in[0] > 0 ? (uint32_t)in[0] : 0, in[1],
                           mgn_to_u64(in[2]), mgn_to_u64(in[3])};
  plan = mg_strategy_plan((mg_strategy)strategy, &progress);
  out[0] = plan.share;
  out[1] = plan.cleans ? 1 : 0;
  out[2] = plan.flushes ? 1 : 0;
  return mgn_number(env, plan.actions);
}

/* freedBytes(rssBefore, heapBefore, rssAfter, heapAfter) */
static napi_value optimize_freed(napi_env env, napi_callback_info info) {
  mg_measure before, after;
  napi_value v[4];
  double bytes[4];

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  for (size_t i = 0; i < 4; i++)
    if (!mgn_number_of(env, v[i], &bytes[i])) return NULL;
  before = (mg_measure){mgn_to_u64(bytes[0]), mgn_to_u64(bytes[1])};
  after = (mg_measure){mgn_to_u64(bytes[2]), mgn_to_u64(bytes[3])};
  return mgn_number(env, (double)mg_freed_bytes(&before, &after));
}

napi_status mgn_optimize_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"optimizerInit", optimize_init}, {"optimizerDue", optimize_due},
      {"optimizerMay", optimize_may},   {"optimizerDone", optimize_done},
      {"strategyFor", optimize_strategy}, {"strategyPlan", optimize_plan},
      {"freedBytes", optimize_freed}};
#define OPTIMIZE_FIELD(field) #field,
#define OPTIMIZE_ENTRY(id, name) name,
  static const char *const fields[] = {MG_OPTIMIZER_MAP(OPTIMIZE_FIELD)};
  static const char *const reasons[] = {
      MG_OPTIMIZE_REASON_MAP(OPTIMIZE_ENTRY)};
  static const char *const strategies[] = {MG_STRATEGY_MAP(OPTIMIZE_ENTRY)};
#undef OPTIMIZE_FIELD
#undef OPTIMIZE_ENTRY
  static const struct {
    const char *name;
    const char *const *names;
    size_t count;
  } lists[] = {
      {"optimizerFields", fields, MGN_COUNT_OF(fields)},
      {"optimizeReasons", reasons, MGN_COUNT_OF(reasons)},
      {"strategyNames", strategies, MGN_COUNT_OF(strategies)}};
  napi_value kept;
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  for (size_t i = 0; i < MGN_COUNT_OF(lists) && st == napi_ok; i++)
    st = mgn_define_names(env, exports, lists[i].name, lists[i].names,
                          lists[i].count);
  if (st == napi_ok) st = napi_create_uint32(env, MG_OPTIMIZE_REPORTS, &kept);
  return st == napi_ok
             ? napi_set_named_property(env, exports, "optimizeReports", kept)
             : st;
}
