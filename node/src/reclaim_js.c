/* reclaim_js.c - the engine of an isolate as JS sees it: rounds as rows of
 * numbers. What it does there is in reclaim.c. */
#include "memguard_node.h"

#include <string.h>

enum {
  RECLAIM_ROUND_VALUES = 15,
  RECLAIM_STEP_VALUES = 5,
  RECLAIM_ROW_VALUES =
      RECLAIM_ROUND_VALUES + RECLAIM_STEP_VALUES * (int)MG_ROUND_STEPS,
  RECLAIM_STATS_VALUES = 8 + MG_ACTIONS
};

static void reclaim_write_round(double *out, const mg_round *round) {
  const double values[RECLAIM_ROUND_VALUES] = {
      (double)round->number,
      (double)round->unix_ms,
      (double)round->reason,
      (double)round->level,
      round->took_ms,
      round->gc_ms,
      round->usage_before,
      round->usage_after,
      mgn_from_u64(round->rss_before_bytes),
      mgn_from_u64(round->rss_after_bytes),
      mgn_from_u64(round->heap_before_bytes),
      mgn_from_u64(round->heap_after_bytes),
      (double)round->freed_bytes,
      round->is_unreclaimable ? 1 : 0,
      (double)round->steps};

  memcpy(out, values, sizeof values);
  out += RECLAIM_ROUND_VALUES;
  for (uint32_t i = 0; i < round->steps; i++) {
    const mg_step *step = &round->step[i];
    *out++ = (double)step->action;
    *out++ = step->was_done ? 1 : 0;
    *out++ = step->took_ms;
    *out++ = step->gc_ms;
    *out++ = (double)step->freed_bytes;
  }
}

/* The engine of the calling environment. Throws if there is none. */
static mg_reclaim *reclaim_given(napi_env env, napi_callback_info info,
                                 size_t count, napi_value *values,
                                 mgn_env **out) {
  mg_reclaim *engine;

  if (!mgn_arguments(env, info, count, values, out)) return NULL;
  engine = mgn_reclaim_engine(*out);
  if (engine == NULL)
    mgn_throw_text(env, MG_ESYS, "no memory is reclaimed here: there was no "
                                 "room for the engine");
  return engine;
}

/* reclaimOpen(act, Float64Array row, byPressure) -> whether there is an engine
 * now, for this environment and those that share its isolate
 * act(action, reason, share) -> whether it was done; row: bytes freed, bytes in use
 * before, ms of collection
 * byPressure: false has act() collect */
static napi_value reclaim_js_open(napi_env env, napi_callback_info info) {
  mgn_env *owner;
  napi_value v[3];
  bool by_pressure;

  if (!mgn_arguments(env, info, 3, v, &owner) ||
      !mgn_bool_of(env, v[2], &by_pressure))
    return NULL;
  if (owner->reclaim.engine != NULL) return mgn_boolean(env, true);
  MGN_TRY(env, napi_create_reference(env, v[0], 1, &owner->reclaim.act));
  MGN_TRY(env, napi_create_reference(env, v[1], 1, &owner->reclaim.row));
  return mgn_boolean(env, mgn_reclaim_open(owner, by_pressure));
}

/* reclaimWake(is): from now on the worker may call this environment and its
 * isolate; or may not, and does not */
static napi_value reclaim_js_wake(napi_env env, napi_callback_info info) {
  napi_value value;
  mgn_env *owner;
  bool is_awake;

  if (!mgn_arguments(env, info, 1, &value, &owner) ||
      !mgn_bool_of(env, value, &is_awake))
    return NULL;
  mgn_reclaim_wake(owner, is_awake);
  return mgn_undefined(env);
}

/* reclaimRun(bits of actions, reason, share, Float64Array row)
 * row: a round */
static napi_value reclaim_js_run(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  uint64_t actions, reason;
  mg_round round;
  mgn_env *owner;
  napi_value v[4];
  double share, *row;

  if (reclaim_given(env, info, 4, v, &owner) == NULL ||
      !mgn_count_of(env, v[0], &actions) ||
      !mgn_count_of(env, v[1], &reason) || !mgn_number_of(env, v[2], &share))
    return NULL;
  row = mgn_doubles_of(env, v[3], RECLAIM_ROW_VALUES, NULL);
  if (row == NULL) return NULL;
  if (mgn_reclaim_run(owner, (uint32_t)actions, (mg_reason)reason, share,
                      &round, &err) != MG_OK)
    return mgn_throw(env, &err);
  reclaim_write_round(row, &round);
  return mgn_undefined(env);
}

/* reclaimPoll() -> whether anything was done: what is due, here and now */
static napi_value reclaim_js_poll(napi_env env, napi_callback_info info) {
  mgn_env *owner;

  if (reclaim_given(env, info, 0, NULL, &owner) == NULL) return NULL;
  return mgn_boolean(env, mgn_reclaim_poll(owner));
}

/* reclaimSpent(gcMs): charges collection time to the budget */
static napi_value reclaim_js_spent(napi_env env, napi_callback_info info) {
  mg_reclaim *engine;
  napi_value value;
  mgn_env *owner;
  double gc_ms;

  engine = reclaim_given(env, info, 1, &value, &owner);
  if (engine == NULL || !mgn_number_of(env, value, &gc_ms)) return NULL;
  mg_reclaim_spent(engine, gc_ms);
  return mgn_undefined(env);
}

/* reclaimRounds(max, Float64Array rows) -> how many, oldest first */
static napi_value reclaim_js_rounds(napi_env env, napi_callback_info info) {
  mg_round rounds[MG_ROUNDS];
  mg_reclaim *engine;
  mgn_env *owner;
  napi_value v[2];
  uint64_t max;
  size_t count;
  double *out;

  engine = reclaim_given(env, info, 2, v, &owner);
  if (engine == NULL || !mgn_count_of(env, v[0], &max)) return NULL;
  if (max > MG_ROUNDS) max = MG_ROUNDS;
  out = mgn_doubles_of(env, v[1], (size_t)max * RECLAIM_ROW_VALUES, NULL);
  if (out == NULL) return NULL;
  count = mg_reclaim_rounds(engine, rounds, (size_t)max);
  for (size_t i = 0; i < count; i++)
    reclaim_write_round(out + i * RECLAIM_ROW_VALUES, &rounds[i]);
  return mgn_number(env, (double)count);
}

/* reclaimRound(number, Float64Array row) -> whether it is kept still */
static napi_value reclaim_js_round(napi_env env, napi_callback_info info) {
  mg_reclaim *engine;
  mg_round round;
  mgn_env *owner;
  napi_value v[2];
  uint64_t number;
  double *row;

  engine = reclaim_given(env, info, 2, v, &owner);
  if (engine == NULL || !mgn_count_of(env, v[0], &number)) return NULL;
  row = mgn_doubles_of(env, v[1], RECLAIM_ROW_VALUES, NULL);
  if (row == NULL) return NULL;
  if (!mg_reclaim_round(engine, number, &round))
    return mgn_boolean(env, false);
  reclaim_write_round(row, &round);
  return mgn_boolean(env, true);
}

/* reclaimStats(Float64Array out)
 * out: rounds, useful rounds, failed, freed bytes, took ms, gc ms, is
 *      unreclaimable, ms to the limit; then done, by action */
static napi_value reclaim_js_stats(napi_env env, napi_callback_info info) {
  mg_reclaim_stats stats;
  mg_reclaim *engine;
  napi_value value;
  mgn_env *owner;
  double *out;

  engine = reclaim_given(env, info, 1, &value, &owner);
  if (engine == NULL) return NULL;
  out = mgn_doubles_of(env, value, RECLAIM_STATS_VALUES, NULL);
  if (out == NULL) return NULL;
  mg_reclaim_read_stats(engine, &stats);
  *out++ = (double)stats.rounds;
  *out++ = (double)stats.useful_rounds;
  *out++ = (double)stats.failed;
  *out++ = (double)stats.freed_bytes;
  *out++ = stats.took_ms;
  *out++ = stats.gc_ms;
  *out++ = stats.is_unreclaimable ? 1 : 0;
  *out++ = stats.time_to_limit_ms;
  for (int i = 0; i < MG_ACTIONS; i++) *out++ = (double)stats.actions[i];
  return mgn_undefined(env);
}

static napi_status reclaim_define_count(napi_env env, napi_value exports,
                                        const char *name, uint32_t count) {
  napi_value value;
  napi_status st = napi_create_uint32(env, count, &value);

  return st == napi_ok ? napi_set_named_property(env, exports, name, value)
                       : st;
}

/* roundsKept, roundSteps: of an engine, of a round */
napi_status mgn_reclaim_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"reclaimOpen", reclaim_js_open},     {"reclaimWake", reclaim_js_wake},
      {"reclaimRun", reclaim_js_run},       {"reclaimPoll", reclaim_js_poll},
      {"reclaimRounds", reclaim_js_rounds}, {"reclaimRound", reclaim_js_round},
      {"reclaimSpent", reclaim_js_spent},   {"reclaimStats", reclaim_js_stats}};
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok)
    st = reclaim_define_count(env, exports, "roundsKept", MG_ROUNDS);
  return st == napi_ok ? reclaim_define_count(env, exports, "roundSteps",
                                              MG_ROUND_STEPS)
                       : st;
}
