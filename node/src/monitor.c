/* monitor.c - the monitor inside a manager: start, passes, events, history. */
#include "memguard_node.h"

#include <math.h>
#include <stdlib.h>

/* What follows the sample in a row of monitorNextEvent(). */
enum {
  MONITOR_KIND = MG_PAGE_VALUES,
  MONITOR_SEVERITY,
  MONITOR_PREVIOUS,
  MONITOR_ISSUES,
  MONITOR_GROWTH_IS_HEAP,
  MONITOR_MB_PER_MINUTE,
  MONITOR_COUNT,
  MONITOR_THRESHOLD,
  MONITOR_ROUND,
  MONITOR_FINDING,
  MONITOR_GROWTH_PER_MINUTE,
  MONITOR_EVENT_VALUES
};

#define MONITOR_ISSUES_MAX 32

/* Reads `count` arguments, the first of which is a manager.
 * @return its monitor; NULL after throwing. */
static mg_monitor *monitor_given(napi_env env, napi_callback_info info,
                                 size_t count, napi_value *values) {
  mgn_manager *self;

  if (!mgn_arguments(env, info, count, values, NULL)) return NULL;
  self = mgn_manager_of(env, values[0]);
  return self == NULL ? NULL : mg_manager_monitor(self->core);
}

/* monitorStart(manager) */
static napi_value monitor_start(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mgn_manager *self;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  self = mgn_manager_of(env, value);
  if (self == NULL || !mgn_env_open_door(env, self->owner)) return NULL;
  if (mg_monitor_start(mg_manager_monitor(self->core), &err) != MG_OK)
    return mgn_throw(env, &err);
  return mgn_undefined(env);
}

static napi_value monitor_stop(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  self = mgn_manager_of(env, value);
  if (self == NULL) return NULL;
  mgn_reclaim_hurry(self->owner, 1);
  mgn_control_hurry(self->owner, 1);
  mg_monitor_stop(mg_manager_monitor(self->core));
  mgn_control_hurry(self->owner, -1);
  mgn_reclaim_hurry(self->owner, -1);
  return mgn_undefined(env);
}

static napi_value monitor_is_running(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  napi_value value;

  monitor = monitor_given(env, info, 1, &value);
  return monitor == NULL ? NULL
                         : mgn_boolean(env, mg_monitor_is_running(monitor));
}

/* monitorPass(manager, record): one pass, now */
static napi_value monitor_pass(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  napi_value v[2];
  bool record;

  monitor = monitor_given(env, info, 2, v);
  if (monitor == NULL || !mgn_bool_of(env, v[1], &record)) return NULL;
  mg_monitor_pass(monitor, record, NULL);
  return mgn_undefined(env);
}

/* monitorCheck(manager): a pass unless the latest sample is very young */
static napi_value monitor_check(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  napi_value value;

  monitor = monitor_given(env, info, 1, &value);
  if (monitor == NULL) return NULL;
  mg_monitor_check(monitor);
  return mgn_undefined(env);
}

/* monitorGlance(manager): the cheaper check, for every so many operations */
static napi_value monitor_glance(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  napi_value value;

  monitor = monitor_given(env, info, 1, &value);
  if (monitor == NULL) return NULL;
  mg_monitor_glance(monitor);
  return mgn_undefined(env);
}

/* monitorLatest(manager, Float64Array out) */
static napi_value monitor_latest(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  mg_sample sample;
  napi_value v[2];
  double *out;

  monitor = monitor_given(env, info, 2, v);
  if (monitor == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], MG_PAGE_VALUES, NULL);
  if (out == NULL) return NULL;
  mg_monitor_latest(monitor, &sample);
  mgn_sample_write(out, &sample);
  return mgn_undefined(env);
}

/* monitorSetHeap(manager, used, total, limit, external, arrayBuffers, physical,
 * malloced, allocated so far), NaN for what V8 does not tell */
static napi_value monitor_set_heap(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  mg_heap_look look = MG_HEAP_LOOK_INIT;
  double number[8];
  napi_value v[9];
  mg_heap heap;

  if (!mgn_arguments(env, info, 9, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL) return NULL;
  for (int i = 0; i < 8; i++)
    if (!mgn_number_of(env, v[i + 1], &number[i])) return NULL;
  self->array_buffer_bytes = mgn_to_u64(number[4]);
  heap = (mg_heap){mgn_to_u64(number[0]), mgn_to_u64(number[1]),
                   mgn_to_u64(number[2]), mgn_to_u64(number[3]),
                   self->array_buffer_bytes};
  mg_monitor_set_heap(mg_manager_monitor(self->core), &heap);
  look.block_bytes = heap.used_bytes;
  look.block_total_bytes = heap.total_bytes;
  look.block_idle_bytes =
      mg_fall_bytes(heap.total_bytes, mgn_to_u64(number[5]));
  look.malloc_used_bytes = look.malloc_total_bytes = mgn_to_u64(number[6]);
  look.total_alloc_bytes = mgn_gc_allocated_bytes(
      &self->owner->gc, heap.used_bytes, mgn_to_u64(number[7]));
  mg_monitor_set_look(mg_manager_monitor(self->core), &look);
  mgn_reclaim_tell(self->owner, heap.used_bytes + heap.external_bytes);
  return mgn_undefined(env);
}

/* monitorNextEvent(manager, Float64Array row) -> key of the counter, "" for an
 * event without one; false if none waits */
static napi_value monitor_next_event(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  mg_event event;
  napi_value v[2];
  double *out;

  monitor = monitor_given(env, info, 2, v);
  if (monitor == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], MONITOR_EVENT_VALUES, NULL);
  if (out == NULL) return NULL;
  if (!mg_monitor_next_event(monitor, &event)) return mgn_boolean(env, false);
  mgn_sample_write(out, &event.sample);
  out[MONITOR_KIND] = (double)event.kind;
  out[MONITOR_SEVERITY] = (double)event.severity;
  out[MONITOR_PREVIOUS] = (double)event.previous;
  out[MONITOR_ISSUES] = (double)event.issues;
  out[MONITOR_GROWTH_IS_HEAP] = event.growth_is_heap ? 1 : 0;
  out[MONITOR_MB_PER_MINUTE] = event.mb_per_minute;
  out[MONITOR_COUNT] = (double)event.count;
  out[MONITOR_THRESHOLD] = (double)event.threshold;
  out[MONITOR_ROUND] = (double)event.round;
  out[MONITOR_FINDING] = (double)event.finding;
  out[MONITOR_GROWTH_PER_MINUTE] = event.growth_per_minute;
  return mgn_text(env, event.counter);
}

/* monitorSetInterest(manager, bits of event kinds) */
static napi_value monitor_set_interest(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  napi_value v[2];
  uint64_t kinds;

  monitor = monitor_given(env, info, 2, v);
  if (monitor == NULL || !mgn_count_of(env, v[1], &kinds)) return NULL;
  mg_monitor_set_interest(monitor, (uint32_t)kinds);
  return mgn_undefined(env);
}

static napi_value monitor_events_lost(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  napi_value value;

  monitor = monitor_given(env, info, 1, &value);
  return monitor == NULL
             ? NULL
             : mgn_number(env, (double)mg_monitor_events_lost(monitor));
}

/* monitorHistory(manager, sinceUnixMs, Float64Array rows or null) -> samples
 * written, oldest first; with null: how many there are */
static napi_value monitor_history(napi_env env, napi_callback_info info) {
  size_t count, max;
  mg_monitor *monitor;
  mg_sample *samples;
  uint64_t since;
  napi_valuetype type;
  napi_value v[3];
  double *out;

  monitor = monitor_given(env, info, 3, v);
  if (monitor == NULL || !mgn_count_of(env, v[1], &since)) return NULL;
  MGN_TRY(env, napi_typeof(env, v[2], &type));
  if (type == napi_null)
    return mgn_number(env,
                      (double)mg_monitor_history(monitor, since, NULL, 0));
  out = mgn_doubles_of(env, v[2], MG_PAGE_VALUES, &count);
  if (out == NULL) return NULL;
  max = count / MG_PAGE_VALUES;
  samples = calloc(max, sizeof *samples);
  if (samples == NULL) return mgn_throw_text(env, MG_ENOMEM, "history");
  count = mg_monitor_history(monitor, since, samples, max);
  for (size_t i = 0; i < count; i++)
    mgn_sample_write(out + i * MG_PAGE_VALUES, &samples[i]);
  free(samples);
  return mgn_number(env, (double)count);
}

static void monitor_write_trend(double out[4], const mg_trend *trend) {
  out[0] = (double)trend->direction;
  out[1] = trend->mb_per_minute;
  out[2] = trend->tau;
  out[3] = trend->points;
}

/* monitorTrends(manager, count, Float64Array out): resident set, then heap, each
 * direction, MB per minute, tau, points */
static napi_value monitor_trends(napi_env env, napi_callback_info info) {
  mg_trend rss, heap;
  mg_monitor *monitor;
  uint64_t count;
  napi_value v[3];
  double *out;

  monitor = monitor_given(env, info, 3, v);
  if (monitor == NULL || !mgn_count_of(env, v[1], &count)) return NULL;
  out = mgn_doubles_of(env, v[2], 8, NULL);
  if (out == NULL) return NULL;
  mg_monitor_trends(monitor, (size_t)count, &rss, &heap);
  monitor_write_trend(out, &rss);
  monitor_write_trend(out + 4, &heap);
  return mgn_undefined(env);
}

/* monitorHealth(manager, Float64Array out) -> health; out: issues */
static napi_value monitor_health(napi_env env, napi_callback_info info) {
  uint32_t issues = 0;
  mg_monitor *monitor;
  mg_health health;
  napi_value v[2];
  double *out;

  monitor = monitor_given(env, info, 2, v);
  if (monitor == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], 1, NULL);
  if (out == NULL) return NULL;
  health = mg_monitor_health(monitor, &issues);
  *out = (double)issues;
  return mgn_number(env, (double)health);
}

static napi_value monitor_reset(napi_env env, napi_callback_info info) {
  mg_monitor *monitor;
  napi_value value;

  monitor = monitor_given(env, info, 1, &value);
  if (monitor == NULL) return NULL;
  mg_monitor_reset(monitor);
  return mgn_undefined(env);
}

/* ---- object counters ----------------------------------------------------- */

#define MONITOR_KEY_BYTES 1024 /* longer keys are refused by the core */

static napi_value counter_do(napi_env env, napi_callback_info info,
                             mg_status (*act)(mg_monitor *, const char *,
                                              mg_error *)) {
  char key[MONITOR_KEY_BYTES];
  mg_error err = MG_ERROR_INIT;
  mg_monitor *monitor;
  napi_value v[2];

  monitor = monitor_given(env, info, 2, v);
  if (monitor == NULL ||
      !mgn_text_of(env, v[1], "the key of an object counter", key, sizeof key))
    return NULL;
  if (act(monitor, key, &err) != MG_OK) return mgn_throw(env, &err);
  return mgn_undefined(env);
}

/* counterRegister(manager, key) */
static napi_value counter_register(napi_env env, napi_callback_info info) {
  return counter_do(env, info, mg_monitor_counter_register);
}

/* counterReset(manager, key) */
static napi_value counter_reset(napi_env env, napi_callback_info info) {
  return counter_do(env, info, mg_monitor_counter_reset);
}

/* counterAdd(manager, key, delta) -> value */
static napi_value counter_add(napi_env env, napi_callback_info info) {
  char key[MONITOR_KEY_BYTES];
  mg_error err = MG_ERROR_INIT;
  mg_monitor *monitor;
  uint64_t value = 0;
  napi_value v[3];
  double delta;

  monitor = monitor_given(env, info, 3, v);
  if (monitor == NULL ||
      !mgn_text_of(env, v[1], "the key of an object counter", key,
                   sizeof key) ||
      !mgn_number_of(env, v[2], &delta))
    return NULL;
  if (!(fabs(delta) <= 9007199254740992.0) || delta != floor(delta))
    return mgn_throw_text(env, MG_ERANGE, "delta must be a whole number");
  if (mg_monitor_counter_add(monitor, key, (int64_t)delta, &value, &err) !=
      MG_OK)
    return mgn_throw(env, &err);
  return mgn_number(env, (double)value);
}

/* counterAt(manager, index, Float64Array out) -> key, out: value; false beyond
 * the end */
static napi_value counter_at(napi_env env, napi_callback_info info) {
  char key[MG_COUNTER_KEY_BYTES];
  mg_monitor *monitor;
  uint64_t index, value;
  napi_value v[3];
  double *out;

  monitor = monitor_given(env, info, 3, v);
  if (monitor == NULL || !mgn_count_of(env, v[1], &index)) return NULL;
  out = mgn_doubles_of(env, v[2], 1, NULL);
  if (out == NULL) return NULL;
  if (!mg_monitor_counter_at(monitor, (size_t)index, key, &value))
    return mgn_boolean(env, false);
  *out = (double)value;
  return mgn_text(env, key);
}

/* ---- names ---------------------------------------------------------------- */

/* issueNames, issueTexts: by bit */
static napi_status monitor_define_issues(napi_env env, napi_value exports) {
  const char *names[MONITOR_ISSUES_MAX], *texts[MONITOR_ISSUES_MAX];
  size_t count = 0;
  napi_status st;

#define MONITOR_ISSUE(id, bit, name, text)                          \
  names[bit] = mg_issue_name(MG_ISSUE_##id);                        \
  texts[bit] = mg_issue_text(MG_ISSUE_##id);                        \
  if (count <= (bit)) count = (bit) + 1;
  MG_ISSUE_MAP(MONITOR_ISSUE)
#undef MONITOR_ISSUE
  st = mgn_define_names(env, exports, "issueNames", names, count);
  return st == napi_ok
             ? mgn_define_names(env, exports, "issueTexts", texts, count)
             : st;
}

napi_status mgn_monitor_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"monitorStart", monitor_start},
      {"monitorStop", monitor_stop},
      {"monitorIsRunning", monitor_is_running},
      {"monitorPass", monitor_pass},
      {"monitorCheck", monitor_check},
      {"monitorGlance", monitor_glance},
      {"monitorLatest", monitor_latest},
      {"monitorSetHeap", monitor_set_heap},
      {"monitorSetInterest", monitor_set_interest},
      {"monitorNextEvent", monitor_next_event},
      {"monitorEventsLost", monitor_events_lost},
      {"monitorHistory", monitor_history},
      {"monitorTrends", monitor_trends},
      {"monitorHealth", monitor_health},
      {"monitorReset", monitor_reset},
      {"counterRegister", counter_register},
      {"counterAdd", counter_add},
      {"counterReset", counter_reset},
      {"counterAt", counter_at}};
#define MONITOR_ENTRY(id, name) name,
  static const char *const events[] = {MG_EVENT_MAP(MONITOR_ENTRY)};
  static const char *const healths[] = {MG_HEALTH_MAP(MONITOR_ENTRY)};
#undef MONITOR_ENTRY
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok)
    st = mgn_define_names(env, exports, "eventNames", events,
                          MGN_COUNT_OF(events));
  if (st == napi_ok)
    st = mgn_define_names(env, exports, "healthNames", healths,
                          MGN_COUNT_OF(healths));
  return st == napi_ok ? monitor_define_issues(env, exports) : st;
}
