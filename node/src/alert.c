/* alert.c - alerts as text, and outboxes behind handles. */
#include "memguard_node.h"

#include "memguard/alert.h"

#define ALERT_TEXT_BYTES 1024 /* of a text for an outbox; the core cuts it */

static const napi_type_tag outbox_tag = {0x6d656d6775617264u,
                                         0x6f7574626f780001u};

/* @return the text, which is freed; null if there is none; NULL after throwing. */
static napi_value alert_text(napi_env env, mg_status st, char *text,
                             const mg_error *err) {
  napi_value made;

  if (st != MG_OK) return mgn_throw(env, err);
  if (text == NULL) {
    MGN_TRY(env, napi_get_null(env, &made));
    return made;
  }
  made = mgn_text(env, text);
  mg_free_text(text);
  return made;
}

/* ---- a monitor's --------------------------------------------------------- */

/* alertsText(manager, after) -> JSON */
static napi_value alert_read(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mgn_manager *self;
  uint64_t after;
  napi_value v[2];
  char *text = NULL;
  mg_status st;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL || !mgn_count_of(env, v[1], &after)) return NULL;
  st = mg_monitor_alerts(mg_manager_monitor(self->core), after, &text, &err);
  return alert_text(env, st, text, &err);
}

/* alertNumber(manager) -> number of the newest change */
static napi_value alert_number(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  self = mgn_manager_of(env, value);
  return self == NULL ? NULL
                      : mgn_number(env, (double)mg_monitor_alert_number(
                                            mg_manager_monitor(self->core)));
}

/* ---- outboxes ------------------------------------------------------------ */

static mg_outbox *outbox_of(napi_env env, napi_value value) {
  mg_outbox *box = mgn_unwrap(env, value, &outbox_tag);

  if (box == NULL) mgn_throw_text(env, MG_ETYPE, "not an outbox");
  return box;
}

static void outbox_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  mg_outbox_close(data);
}

static napi_value outbox_wrap(napi_env env, mg_outbox *box) {
  napi_value handle;

  if (napi_create_object(env, &handle) != napi_ok ||
      napi_type_tag_object(env, handle, &outbox_tag) != napi_ok ||
      napi_wrap(env, handle, box, outbox_finalize, NULL, NULL) != napi_ok) {
    mg_outbox_close(box);
    return mgn_fail_napi(env);
  }
  return handle;
}

/* outboxOpen(Float64Array numbers, service, program, runtime, instance, runbook)
 * numbers: format, resend_ms, least_ms, retry_first_ms, retry_most_ms, pid */
static napi_value outbox_open(napi_env env, napi_callback_info info) {
  mg_outbox_options options = MG_OUTBOX_OPTIONS_INIT;
  char text[5][ALERT_TEXT_BYTES];
  mg_error err = MG_ERROR_INIT;
  mg_outbox *box;
  napi_value v[6];
  double *in;

  if (!mgn_arguments(env, info, 6, v, NULL)) return NULL;
  in = mgn_doubles_of(env, v[0], 6, NULL);
  if (in == NULL) return NULL;
  for (int i = 0; i < 5; i++)
    if (!mgn_text_of(env, v[i + 1], "a text of an alert channel", text[i],
                     sizeof text[i]))
      return NULL;
  options.format = in[0] == MG_OUTBOX_ALERTMANAGER ? MG_OUTBOX_ALERTMANAGER
                                                   : MG_OUTBOX_WEBHOOK;
  options.resend_ms = in[1];
  options.least_ms = in[2];
  options.retry_first_ms = in[3];
  options.retry_most_ms = in[4];
  options.pid = in[5] >= 0 && in[5] <= UINT32_MAX ? (uint32_t)in[5] : 0;
  options.service = text[0];
  options.program = text[1];
  options.runtime = text[2];
  options.instance = text[3];
  options.runbook = text[4];
  if (mg_outbox_open(&box, &options, &err) != MG_OK) return mgn_throw(env, &err);
  return outbox_wrap(env, box);
}

/* outboxBegin(outbox, manager, withActive, nowMs) */
static napi_value outbox_begin(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  mg_outbox *box;
  bool with_active;
  double now_ms;
  napi_value v[4];

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  box = outbox_of(env, v[0]);
  self = box == NULL ? NULL : mgn_manager_of(env, v[1]);
  if (self == NULL || !mgn_bool_of(env, v[2], &with_active) ||
      !mgn_number_of(env, v[3], &now_ms))
    return NULL;
  mg_outbox_begin(box, mg_manager_monitor(self->core), with_active, now_ms);
  return mgn_undefined(env);
}

/* outboxFollow(outbox, manager, nowMs) */
static napi_value outbox_follow(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  mg_outbox *box;
  double now_ms;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  box = outbox_of(env, v[0]);
  self = box == NULL ? NULL : mgn_manager_of(env, v[1]);
  if (self == NULL || !mgn_number_of(env, v[2], &now_ms)) return NULL;
  mg_outbox_follow(box, mg_manager_monitor(self->core), now_ms);
  return mgn_undefined(env);
}

/* outboxDue(outbox, nowMs) -> ms */
static napi_value outbox_due(napi_env env, napi_callback_info info) {
  mg_outbox *box;
  double now_ms;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  box = outbox_of(env, v[0]);
  if (box == NULL || !mgn_number_of(env, v[1], &now_ms)) return NULL;
  return mgn_number(env, mg_outbox_due_ms(box, now_ms));
}

/* outboxTake(outbox, nowMs, unixMs, isLast) -> body or null */
static napi_value outbox_take(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  double now_ms, unix_ms;
  char *text = NULL;
  mg_outbox *box;
  napi_value v[4];
  bool is_last;
  mg_status st;

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  box = outbox_of(env, v[0]);
  if (box == NULL || !mgn_number_of(env, v[1], &now_ms) ||
      !mgn_number_of(env, v[2], &unix_ms) || !mgn_bool_of(env, v[3], &is_last))
    return NULL;
  st = mg_outbox_take(box, now_ms, unix_ms, is_last, &text, &err);
  return alert_text(env, st, text, &err);
}

/* outboxDone(outbox, wasAccepted, waitMs, nowMs) */
static napi_value outbox_done(napi_env env, napi_callback_info info) {
  double wait_ms, now_ms;
  bool was_accepted;
  mg_outbox *box;
  napi_value v[4];

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  box = outbox_of(env, v[0]);
  if (box == NULL || !mgn_bool_of(env, v[1], &was_accepted) ||
      !mgn_number_of(env, v[2], &wait_ms) || !mgn_number_of(env, v[3], &now_ms))
    return NULL;
  mg_outbox_done(box, was_accepted, wait_ms, now_ms);
  return mgn_undefined(env);
}

/* outboxStats(outbox, Float64Array out): in the order of mg_outbox_stats */
static napi_value outbox_stats(napi_env env, napi_callback_info info) {
  mg_outbox_stats stats;
  mg_outbox *box;
  napi_value v[2];
  double *out;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  box = outbox_of(env, v[0]);
  out = box == NULL ? NULL : mgn_doubles_of(env, v[1], 6, NULL);
  if (out == NULL) return NULL;
  mg_outbox_read_stats(box, &stats);
  out[0] = (double)stats.waiting;
  out[1] = (double)stats.sent;
  out[2] = (double)stats.delivered;
  out[3] = (double)stats.failures;
  out[4] = (double)stats.failures_in_a_row;
  out[5] = (double)stats.overflow;
  return mgn_undefined(env);
}

/* ---- replay -------------------------------------------------------------- */

/* alertReplay(config, Float64Array rows) -> JSON. A last row is passed over, so
 * that there is always one. */
static napi_value replay(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  const mg_config *config;
  char *text = NULL;
  napi_value v[2];
  double *rows;
  size_t count;
  mg_status st;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  rows = mgn_doubles_of(env, v[1], MG_ALERT_ROW, &count);
  if (rows == NULL) return NULL;
  st = mg_alert_replay(config, rows, count / MG_ALERT_ROW - 1, &text, &err);
  return alert_text(env, st, text, &err);
}

napi_status mgn_alert_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"alertsText", alert_read},      {"alertNumber", alert_number},
      {"outboxOpen", outbox_open},     {"outboxBegin", outbox_begin},
      {"outboxFollow", outbox_follow},
      {"outboxDue", outbox_due},       {"outboxTake", outbox_take},
      {"outboxDone", outbox_done},     {"outboxStats", outbox_stats},
      {"alertReplay", replay}};
#define ALERT_NAME(name) #name,
  static const char *const facts[] = {MG_ALERT_FACT_MAP(ALERT_NAME)};
#undef ALERT_NAME
  const char *kinds[MG_ALERTS];
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  for (int i = 0; i < MG_ALERTS; i++) kinds[i] = mg_alert_name((mg_alert_kind)i);
  if (st == napi_ok)
    st = mgn_define_names(env, exports, "alertKinds", kinds,
                          MGN_COUNT_OF(kinds));
  return st == napi_ok ? mgn_define_names(env, exports, "alertFacts", facts,
                                          MGN_COUNT_OF(facts))
                       : st;
}
