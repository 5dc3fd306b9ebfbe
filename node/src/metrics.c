/* metrics.c - metrics of this process. */
#include "memguard/metrics.h"

#include <string.h>

#include "memguard_node.h"

/* ---- text ------------------------------------------------------------------ */

static napi_value metrics_owned_text(napi_env env, char *text, size_t bytes) {
  napi_value made = NULL;
  napi_status st = napi_create_string_utf8(env, text, bytes, &made);

  mg_free_text(text);
  MGN_TRY(env, st);
  return made;
}

static mg_metrics_format metrics_format(bool is_open) {
  return is_open ? MG_METRICS_OPENMETRICS : MG_METRICS_PROMETHEUS;
}

/* metricsText(openMetrics, groups) */
static napi_value metrics_text(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  uint64_t groups;
  napi_value v[2];
  bool is_open;
  size_t bytes;
  char *text;

  if (!mgn_arguments(env, info, 2, v, NULL) ||
      !mgn_bool_of(env, v[0], &is_open) || !mgn_count_of(env, v[1], &groups))
    return NULL;
  if (mg_metrics_render_own(&text, &bytes, metrics_format(is_open),
                            (uint32_t)groups, &err) != MG_OK)
    return mgn_throw(env, &err);
  return metrics_owned_text(env, text, bytes);
}

/* metricsRead(Uint8Array, openMetrics, groups) -> text of a segment in memory */
static napi_value metrics_read(napi_env env, napi_callback_info info) {
  mg_metrics_process process = {.is_alive = true};
  mg_error err = MG_ERROR_INIT;
  mg_segment_view view;
  uint64_t groups;
  napi_value v[3];
  size_t bytes, length;
  char *text = NULL;
  bool is_open;
  void *data;

  if (!mgn_arguments(env, info, 3, v, NULL) ||
      !mgn_bool_of(env, v[1], &is_open) || !mgn_count_of(env, v[2], &groups))
    return NULL;
  MGN_TRY(env, napi_get_buffer_info(env, v[0], &data, &length));
  if (mg_segment_open_bytes(&process.segment, data, length, &err) == MG_OK &&
      mg_segment_read(process.segment, &view, &err) == MG_OK) {
    process.header = mg_segment_header_of(process.segment);
    process.view = &view;
    (void)mg_metrics_render(&text, &bytes, &process, 1, NULL, 0,
                            metrics_format(is_open), (uint32_t)groups, &err);
  }
  mg_segment_close(process.segment);
  return text == NULL ? mgn_throw(env, &err)
                      : metrics_owned_text(env, text, bytes);
}

/* ---- points ---------------------------------------------------------------- */

typedef struct metrics_list {
  napi_env env;
  napi_value visit; /* JS: (family, labels, value, counts of buckets) */
  napi_status status;
} metrics_list;

static napi_status metrics_labels(napi_env env, const mg_metrics_point *point,
                                  napi_value *out) {
  napi_status st = napi_create_object(env, out);

  for (uint32_t i = 0; st == napi_ok && i < point->labels; i++) {
    napi_value value;
    st = napi_create_string_utf8(env, point->label[i].value, NAPI_AUTO_LENGTH,
                                 &value);
    if (st == napi_ok)
      st = napi_set_named_property(env, *out, point->label[i].name, value);
  }
  return st;
}

static napi_status metrics_counts(napi_env env, const mg_metrics_point *point,
                                  napi_value *out) {
  napi_status st;

  if (point->histogram == NULL) return napi_get_null(env, out);
  st = napi_create_array_with_length(env, MG_METRICS_BOUNDS + 1, out);
  for (uint32_t i = 0; st == napi_ok && i <= MG_METRICS_BOUNDS; i++) {
    napi_value count;
    st = napi_create_double(env, (double)point->histogram->bucket[i], &count);
    if (st == napi_ok) st = napi_set_element(env, *out, i, count);
  }
  return st;
}

static bool metrics_visit(void *ctx, const mg_metrics_point *point) {
  metrics_list *list = ctx;
  napi_handle_scope scope;
  napi_value v[4], undefined;

  list->status = napi_open_handle_scope(list->env, &scope);
  if (list->status != napi_ok) return false;
  list->status = napi_create_uint32(list->env, (uint32_t)point->metric, &v[0]);
  if (list->status == napi_ok)
    list->status = metrics_labels(list->env, point, &v[1]);
  if (list->status == napi_ok)
    list->status = napi_create_double(list->env, point->value, &v[2]);
  if (list->status == napi_ok)
    list->status = metrics_counts(list->env, point, &v[3]);
  if (list->status == napi_ok)
    list->status = napi_get_undefined(list->env, &undefined);
  if (list->status == napi_ok)
    list->status = napi_call_function(list->env, undefined, list->visit, 4, v,
                                      NULL);
  (void)napi_close_handle_scope(list->env, scope);
  return list->status == napi_ok;
}

/* metricsCollect(groups, visit): visit(index of the family, labels, value, counts
 * of buckets or null) for each time series */
static napi_value metrics_collect(napi_env env, napi_callback_info info) {
  metrics_list list = {.env = env, .status = napi_ok};
  mg_error err = MG_ERROR_INIT;
  uint64_t groups;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL) ||
      !mgn_count_of(env, v[0], &groups))
    return NULL;
  list.visit = v[1];
  if (mg_metrics_each_own((uint32_t)groups, metrics_visit, &list, &err) !=
      MG_OK)
    return mgn_throw(env, &err);
  MGN_TRY(env, list.status);
  return mgn_undefined(env);
}

/* ---- others ------------------------------------------------------------------ */

/* metricsAddConnections(change) */
static napi_value metrics_add_connections(napi_env env,
                                          napi_callback_info info) {
  napi_value value;
  double change;
  mgn_env *self;

  if (!mgn_arguments(env, info, 1, &value, &self) ||
      !mgn_number_of(env, value, &change))
    return NULL;
  self->connections += (int64_t)change;
  mg_metrics_add_connections((int64_t)change);
  return mgn_undefined(env);
}

/* metricNames, metricTypes, metricUnits, metricHelps: the table by index;
 * metricContentTypes: by format */
static napi_status metrics_define_table(napi_env env, napi_value exports) {
  const char *names[MG_METRICS], *types[MG_METRICS], *units[MG_METRICS],
      *helps[MG_METRICS], *formats[MG_METRICS_FORMATS];
  const struct {
    const char *name, **list;
    size_t count;
  } lists[] = {{"metricNames", names, MG_METRICS},
               {"metricTypes", types, MG_METRICS},
               {"metricUnits", units, MG_METRICS},
               {"metricHelps", helps, MG_METRICS},
               {"metricContentTypes", formats, MG_METRICS_FORMATS}};
  napi_status st = napi_ok;

  for (int id = 0; id < MG_METRICS; id++) {
    const mg_metric_row *row = mg_metric_row_at((mg_metric)id);
    names[id] = row->name;
    types[id] = mg_metric_type_name(row->type);
    units[id] = row->unit;
    helps[id] = row->help;
  }
  for (int id = 0; id < MG_METRICS_FORMATS; id++)
    formats[id] = mg_metrics_content_type((mg_metrics_format)id);
  for (size_t i = 0; i < MGN_COUNT_OF(lists) && st == napi_ok; i++)
    st = mgn_define_names(env, exports, lists[i].name, lists[i].list,
                          lists[i].count);
  return st;
}

static napi_status metrics_define_bounds(napi_env env, napi_value exports) {
  napi_value list, bound;
  napi_status st =
      napi_create_array_with_length(env, MG_METRICS_BOUNDS, &list);

  for (uint32_t i = 0; st == napi_ok && i < MG_METRICS_BOUNDS; i++) {
    st = napi_create_double(env, (double)mg_metrics_bound_ns(i), &bound);
    if (st == napi_ok) st = napi_set_element(env, list, i, bound);
  }
  if (st == napi_ok)
    st = napi_set_named_property(env, exports, "metricBoundsNs", list);
  if (st == napi_ok) st = napi_create_uint32(env, MG_SEGMENT_VERSION, &bound);
  if (st == napi_ok)
    st = napi_set_named_property(env, exports, "segmentVersion", bound);
  if (st == napi_ok)
    st = napi_create_uint32(env, sizeof(mg_segment_layout), &bound);
  return st == napi_ok
             ? napi_set_named_property(env, exports, "segmentBytes", bound)
             : st;
}

napi_status mgn_metrics_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"metricsText", metrics_text},
      {"metricsRead", metrics_read},
      {"metricsCollect", metrics_collect},
      {"metricsAddConnections", metrics_add_connections}};
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok) st = metrics_define_table(env, exports);
  return st == napi_ok ? metrics_define_bounds(env, exports) : st;
}
