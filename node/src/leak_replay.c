/* leak_replay.c - recorded values, handed in by JS, through a leak detector. */
#include "memguard_node.h"

#include <stdlib.h>

#include "memguard/leak.h"

enum { REPLAY_CHANGES = 64, REPLAY_POINT = 3, REPLAY_LIMITS = 6 };

typedef char replay_name[4 * MG_LEAK_NAME_BYTES]; /* the core cuts it */

/* The strings of a JS array. @return NULL after throwing; free() it. */
static replay_name *replay_names(napi_env env, napi_value list,
                                 uint32_t *out_count) {
  replay_name *names;

  if (napi_get_array_length(env, list, out_count) != napi_ok) {
    mgn_fail_napi(env);
    return NULL;
  }
  names = calloc(*out_count + 1u, sizeof *names);
  if (names == NULL) mgn_throw_text(env, MG_ENOMEM, "names");
  for (uint32_t i = 0; names != NULL && i < *out_count; i++) {
    napi_value item;
    if (napi_get_element(env, list, i, &item) == napi_ok &&
        mgn_text_of(env, item, "name", names[i], sizeof *names))
      continue;
    mgn_fail_napi(env);
    free(names);
    return NULL;
  }
  return names;
}

/* A row: nowMs, then the fields of the finding. */
static napi_value replay_row(napi_env env, const mg_leak_change *change) {
  const mg_leak_finding *f = &change->finding;
  const napi_value values[] = {
      mgn_number(env, change->now_ms),
      mgn_text(env, f->name),
      mgn_text(env, mg_leak_tier_name(f->tier)),
      mgn_text(env, mg_leak_tier_name(f->previous)),
      mgn_boolean(env, f->is_critical),
      mgn_text(env, mg_leak_severity_name(f->severity)),
      mgn_number(env, f->growth),
      mgn_number(env, f->growth_per_minute),
      mgn_number(env, f->base),
      mgn_number(env, f->latest),
      mgn_number(env, f->since_ms),
      mgn_number(env, f->to_limit_ms),
      mgn_number(env, f->window_ms),
      mgn_number(env, f->octaves)};
  napi_value row;

  if (napi_create_array_with_length(env, MGN_COUNT_OF(values), &row) != napi_ok)
    return mgn_fail_napi(env);
  for (uint32_t i = 0; i < MGN_COUNT_OF(values); i++)
    if (values[i] == NULL || napi_set_element(env, row, i, values[i]) != napi_ok)
      return mgn_fail_napi(env);
  return row;
}

static napi_value replay_rows(napi_env env, const mg_leak_change *changes,
                              size_t count) {
  napi_value rows, row;

  if (napi_create_array(env, &rows) != napi_ok) return mgn_fail_napi(env);
  for (uint32_t i = 0; i < count; i++) {
    row = replay_row(env, &changes[i]);
    if (row == NULL || napi_set_element(env, rows, i, row) != napi_ok)
      return mgn_fail_napi(env);
  }
  return rows;
}

static napi_value replay_run(napi_env env, const mg_config *config,
                             const mg_leak_limits *limits,
                             const mg_leak_point *points, size_t count) {
  mg_leak_settings settings = mg_leak_settings_of(config);
  mg_leak_change changes[REPLAY_CHANGES];
  mg_error err = MG_ERROR_INIT;
  size_t found;

  if (mg_leak_replay(&settings, limits, points, count, changes, REPLAY_CHANGES,
                     &found, &err) != MG_OK)
    return mgn_throw(env, &err);
  return replay_rows(env, changes,
                     found < REPLAY_CHANGES ? found : REPLAY_CHANGES);
}

/* leakReplay(config, names, Float64Array points, Float64Array limits) -> rows
 * points: index of the name, now ms, value, ...; the last one is passed over, so
 * that there is always one. limits: in the order of mg_leak_limits. */
static napi_value replay(napi_env env, napi_callback_info info) {
  const mg_config *config;
  mg_leak_point *points;
  mg_leak_limits limits;
  replay_name *names;
  napi_value v[4], made = NULL;
  double *in, *of;
  uint32_t named;
  size_t count;

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  in = mgn_doubles_of(env, v[2], REPLAY_POINT, &count);
  if (in == NULL) return NULL;
  of = mgn_doubles_of(env, v[3], REPLAY_LIMITS, NULL);
  if (of == NULL) return NULL;
  limits = (mg_leak_limits){of[0], of[1], of[2], of[3], of[4], of[5]};
  names = replay_names(env, v[1], &named);
  if (names == NULL) return NULL;
  count = count / REPLAY_POINT - 1;
  points = calloc(count + 1, sizeof *points);
  for (size_t i = 0; points != NULL && i < count; i++) {
    double index = in[REPLAY_POINT * i];
    bool is_known = index >= 0.0 && index < named;
    points[i] = (mg_leak_point){in[REPLAY_POINT * i + 1],
                                in[REPLAY_POINT * i + 2],
                                names[is_known ? (size_t)index : named]};
  }
  if (points == NULL)
    mgn_throw_text(env, MG_ENOMEM, "points");
  else
    made = replay_run(env, config, &limits, points, count);
  free(points);
  free(names);
  return made;
}

napi_status mgn_leak_replay_define(napi_env env, napi_value exports,
                                   void *data) {
  static const mgn_function functions[] = {{"leakReplay", replay}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
