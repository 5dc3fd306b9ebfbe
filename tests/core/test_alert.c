/* test_alert.c - the rows of tests/vectors/alert.json, words, and outboxes. */
#include "vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE_UNIX_MS 1700000000000.0

/* ---- rows ---------------------------------------------------------------- */

static double fact_of(const cJSON *facts, const char *name, double otherwise) {
  const cJSON *item = item_of(facts, name);

  return item == NULL ? otherwise : item->valuedouble;
}

static uint32_t series_named(const char *name) {
  uint32_t series = 0;

  while (strcmp(mg_detector_signal_name(series), name) != 0) {
    assert_true(series < MG_LEAK_SIGNALS);
    series++;
  }
  return series;
}

static void fill_row(double *row, const cJSON *step) {
  const cJSON *at = cJSON_GetArrayItem(step, 0);
  const cJSON *facts = cJSON_GetArrayItem(step, 1);
  double now_ms = cJSON_IsNumber(at) ? at->valuedouble : (double)NAN;

  row[MG_ALERT_FACT_now_ms] = now_ms;
  row[MG_ALERT_FACT_unix_ms] = BASE_UNIX_MS + now_ms;
  row[MG_ALERT_FACT_usage] = fact_of(facts, "usage", 0.5);
#define FACT(name, otherwise) \
  row[MG_ALERT_FACT_##name] = fact_of(facts, #name, otherwise);
  FACT(level, 0)
  FACT(gc_ms, (double)NAN)
  FACT(cpu_ms, (double)NAN)
  FACT(pause_ms, 0)
  FACT(unreclaimable, 0)
  FACT(rss_growth, (double)NAN)
  FACT(heap_growth, (double)NAN)
  FACT(fd_count, 10)
  FACT(fd_warned, 0)
  FACT(previous_oom, (double)NAN)
#undef FACT
  row[MG_ALERT_FACTS] = (double)NAN;
  if (item_of(facts, "leak") != NULL)
    row[MG_ALERT_FACTS] = series_named(text_of(facts, "leak"));
  row[MG_ALERT_FACTS + 1] = fact_of(facts, "severity", 0);
  row[MG_ALERT_FACTS + 2] = fact_of(facts, "growth", 0);
  row[MG_ALERT_FACTS + 3] = fact_of(facts, "over", 0);
}

static void check_change(const char *name, const cJSON *want,
                         const cJSON *got) {
  static const char *const texts[] = {"kind", "subject", "state", "severity"};

  for (int i = 0; i < 4; i++)
    if (strcmp(cJSON_GetArrayItem(want, i)->valuestring,
               text_of(got, texts[i])) != 0)
      fail_msg("%s: %s is %s", name, texts[i], text_of(got, texts[i]));
  if (number_of(got, "since_unix_ms") - BASE_UNIX_MS !=
          cJSON_GetArrayItem(want, 4)->valuedouble ||
      number_of(got, "repeats") != cJSON_GetArrayItem(want, 5)->valuedouble ||
      fabs(number_of(got, "value") - cJSON_GetArrayItem(want, 6)->valuedouble) >
          1e-12)
    fail_msg("%s: %s", name, cJSON_PrintUnformatted(got));
}

static void check_row(const cJSON *row) {
  const cJSON *steps = item_of(row, "steps"), *expect = item_of(row, "expect");
  const int count = cJSON_GetArraySize(steps);
  const mg_config config = config_of(row);
  const char *name = text_of(row, "name");
  double *rows = calloc((size_t)count, MG_ALERT_ROW * sizeof *rows);
  mg_error err = MG_ERROR_INIT;
  const cJSON *changes, *stat;
  cJSON *got;
  char *text;

  assert_non_null(rows);
  for (int i = 0; i < count; i++)
    fill_row(rows + i * MG_ALERT_ROW, cJSON_GetArrayItem(steps, i));
  assert_ok(mg_alert_replay(&config, rows, (size_t)count, &text, &err), &err);
  got = cJSON_Parse(text);
  assert_non_null(got);
  changes = item_of(got, "changes");
  if (cJSON_GetArraySize(changes) != cJSON_GetArraySize(expect))
    fail_msg("%s: %s", name, text);
  for (int i = 0; i < cJSON_GetArraySize(expect); i++)
    check_change(name, cJSON_GetArrayItem(expect, i),
                 cJSON_GetArrayItem(changes, i));
  cJSON_ArrayForEach(stat, item_of(row, "stats")) {
    if (number_of(item_of(got, "stats"), stat->string) != stat->valuedouble)
      fail_msg("%s: %s in %s", name, stat->string, text);
  }
  cJSON_Delete(got);
  mg_free_text(text);
  free(rows);
}

static void test_rows(void **state) {
  cJSON *document, *rows = load_rows("alert.json", &document), *row;
  int count = 0;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    check_row(row);
    count++;
  }
  assert_true(count >= 20);
  cJSON_Delete(document);
}

/* ---- words --------------------------------------------------------------- */

static mg_alert alert_of(mg_alert_kind kind, double value, double threshold) {
  return (mg_alert){.number = 1,
                    .kind = (uint32_t)kind,
                    .severity = MG_SEVERITY_WARNING,
                    .since_unix_ms = 1700000000000u,
                    .last_unix_ms = 1700000001000u,
                    .value = value,
                    .threshold = threshold};
}

static void check_summary(const mg_alert *alert, const char *want) {
  char text[MG_ALERT_TEXT_BYTES];

  assert_int_equal(mg_alert_summary(alert, text), strlen(want));
  assert_string_equal(text, want);
}

static void test_summary(void **state) {
  mg_alert a = alert_of(MG_ALERT_HIGH_USAGE, 0.9123, 0.9);

  (void)state;
  check_summary(&a, "Memory use is high: 91.2 % (from 90.0 %)");
  a = alert_of(MG_ALERT_LONG_PAUSE, 0.0315, 0.02);
  check_summary(&a, "A collection took long: 31.5 ms (from 20.0 ms)");
  a = alert_of(MG_ALERT_FD_LEAK, 812, 800);
  check_summary(&a, "Descriptors are not closed: 812.0 (from 800.0)");
  a = alert_of(MG_ALERT_MEMORY_LEAK, 1572864, (double)NAN);
  strcpy(a.subject, "heap");
  strcpy(a.culprit, "type Session");
  check_summary(&a, "Memory leaks (heap): 1.5 MB more per minute; type Session");
  strcpy(a.subject, "threads");
  check_summary(&a,
                "Memory leaks (threads): 1572864.0 more per minute; type Session");
  a = alert_of(MG_ALERT_PREVIOUS_OOM, (double)NAN, (double)NAN);
  check_summary(&a, "The previous run ended out of memory");
  a = alert_of(MG_ALERT_RAPID_GROWTH, 1e300, 10);
  strcpy(a.subject, "rss");
  check_summary(&a,
                "Memory grows fast (rss): huge MB per minute (from 10.0 MB per "
                "minute)");
}

static void test_summary_fits(void **state) {
  char text[MG_ALERT_TEXT_BYTES], json[MG_ALERT_JSON_BYTES];
  mg_alert a;

  (void)state;
  for (int kind = 0; kind < MG_ALERTS + 1; kind++) {
    a = alert_of((mg_alert_kind)kind, -1e14, -1e14);
    memset(a.subject, 1, sizeof a.subject - 1);
    memset(a.culprit, 1, sizeof a.culprit - 1);
    assert_true(mg_alert_summary(&a, text) < sizeof text);
    assert_true(mg_alert_json(&a, json, sizeof json) < sizeof json);
    assert_true(json[0] == '{');
  }
}

static void test_json(void **state) {
  mg_alert a = alert_of(MG_ALERT_GC_HIGH, 0.25, (double)NAN);
  char out[MG_ALERT_JSON_BYTES], small[8];
  cJSON *got;

  (void)state;
  strcpy(a.culprit, "\"<b>\n\xff\xc3\xa9\"");
  a.state = MG_ALERT_RESOLVED;
  a.resolved_unix_ms = 1700000002000u;
  assert_true(mg_alert_json(&a, out, sizeof out) > 0);
  got = cJSON_Parse(out);
  assert_non_null(got);
  assert_string_equal(text_of(got, "kind"), "gc_high");
  assert_string_equal(text_of(got, "state"), "resolved");
  assert_string_equal(text_of(got, "unit"), "ratio");
  assert_string_equal(text_of(got, "culprit"),
                      "\"<b>\n\xef\xbf\xbd\xc3\xa9\"");
  assert_true(number_of(got, "resolved_unix_ms") == 1700000002000.0);
  assert_true(cJSON_IsNull(item_of(got, "threshold")));
  cJSON_Delete(got);
  assert_true(mg_alert_json(&a, small, sizeof small) > sizeof small);
  assert_string_equal(small, "");
}

static void test_foreign_names(void **state) {
  (void)state;
  assert_string_equal(mg_alert_name((mg_alert_kind)99), "unknown");
  assert_string_equal(mg_severity_name((mg_severity)99), "unknown");
  assert_string_equal(mg_alert_state_name((mg_alert_state)99), "unknown");
  assert_string_equal(mg_alert_name(MG_ALERT_PREVIOUS_OOM), "previous_oom");
}

/* More subjects than slots are counted, not lost without a word. */
static void test_overflow(void **state) {
  const mg_config config = support_config(NULL, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_alerts_stats stats;
  mg_alerts *alerts;
  char name[8];

  (void)state;
  assert_ok(mg_alerts_open(&alerts, &err), &err);
  for (int i = 0; i < 40; i++) {
    const mg_alert_leak leak = {.now_ms = i, .unix_ms = 1, .signal = name,
                                .severity = MG_SEVERITY_WARNING};
    snprintf(name, sizeof name, "n%d", i);
    mg_alerts_leak(alerts, &config, &leak);
  }
  mg_alerts_read_stats(alerts, &stats);
  assert_int_equal(stats.fired, 32);
  assert_int_equal(stats.overflow, 8);
  assert_int_equal(mg_alerts_active(alerts, NULL, 0), 32);
  mg_alerts_close(alerts);
  mg_alerts_close(NULL);
}

/* ---- outboxes ------------------------------------------------------------ */

static mg_outbox *box_opened(mg_outbox_format format, double resend_ms,
                             double least_ms) {
  mg_outbox_options options = MG_OUTBOX_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_outbox *box;

  options.format = format;
  options.resend_ms = resend_ms;
  options.least_ms = least_ms;
  options.pid = 42;
  options.service = "orders";
  options.program = "worker";
  options.runtime = "python";
  options.instance = "host-1";
  options.runbook = "https://runbooks.example/memory";
  assert_ok(mg_outbox_open(&box, &options, &err), &err);
  return box;
}

/* The body that is due, parsed; NULL if none is. [owned] */
static cJSON *taken(mg_outbox *box, double now_ms, bool is_last) {
  mg_error err = MG_ERROR_INIT;
  cJSON *got = NULL;
  char *text;

  assert_ok(mg_outbox_take(box, now_ms, BASE_UNIX_MS + now_ms, is_last, &text,
                           &err),
            &err);
  if (text != NULL) {
    got = cJSON_Parse(text);
    assert_non_null(got);
  }
  mg_free_text(text);
  return got;
}

static void expect_states(mg_outbox *box, double now_ms, const char *states) {
  cJSON *got = taken(box, now_ms, false), *alert;
  char text[128] = "";

  cJSON_ArrayForEach(alert, item_of(got, "alerts")) {
    strcat(text, text_of(alert, "kind"));
    strcat(text, ":");
    strcat(text, text_of(alert, "state"));
    strcat(text, " ");
  }
  assert_string_equal(text, states);
  cJSON_Delete(got);
}

static mg_alert resolved(mg_alert alert) {
  alert.number++;
  alert.state = MG_ALERT_RESOLVED;
  alert.resolved_unix_ms = alert.since_unix_ms + 5000;
  return alert;
}

static void test_outbox_delivers(void **state) {
  mg_outbox *box = box_opened(MG_OUTBOX_WEBHOOK, 0, 0);
  const mg_alert a = alert_of(MG_ALERT_CRITICAL, 0.96, 0.95), b = resolved(a);
  mg_outbox_stats stats;

  (void)state;
  assert_true(isinf(mg_outbox_due_ms(box, 0)));
  mg_outbox_put(box, &a, 0);
  assert_true(mg_outbox_due_ms(box, 0) == 0);
  expect_states(box, 0, "critical:firing ");
  expect_states(box, 1, ""); /* not answered yet */
  mg_outbox_done(box, true, 0, 2);
  assert_true(isinf(mg_outbox_due_ms(box, 3)));
  mg_outbox_put(box, &b, 10);
  expect_states(box, 10, "critical:resolved ");
  mg_outbox_done(box, true, 0, 11);
  mg_outbox_read_stats(box, &stats);
  assert_int_equal(stats.waiting, 0);
  assert_int_equal(stats.sent, 2);
  assert_int_equal(stats.delivered, 2);
  assert_int_equal(stats.failures, 0);
  mg_outbox_close(box);
}

/* The receiver is down: retried after 1, 2, 4, … 60 s, and both states are told. */
static void test_outbox_backs_off(void **state) {
  static const double wait_ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000,
                                   60000};
  mg_outbox *box = box_opened(MG_OUTBOX_WEBHOOK, 0, 0);
  const mg_alert a = alert_of(MG_ALERT_CRITICAL, 0.96, 0.95), b = resolved(a);
  mg_outbox_stats stats;
  double now_ms = 0;

  (void)state;
  mg_outbox_put(box, &a, 0);
  for (int i = 0; i < 8; i++) {
    expect_states(box, now_ms, i < 4 ? "critical:firing "
                                     : "critical:firing critical:resolved ");
    mg_outbox_done(box, false, 0, now_ms);
    if (i == 3) mg_outbox_put(box, &b, now_ms);
    assert_true(mg_outbox_due_ms(box, now_ms) == wait_ms[i]);
    now_ms += wait_ms[i];
  }
  mg_outbox_read_stats(box, &stats);
  assert_int_equal(stats.failures_in_a_row, 8);
  assert_int_equal(stats.waiting, 1);
  expect_states(box, now_ms, "critical:firing critical:resolved ");
  mg_outbox_done(box, true, 0, now_ms);
  mg_outbox_read_stats(box, &stats);
  assert_int_equal(stats.failures_in_a_row, 0);
  assert_int_equal(stats.waiting, 0);
  assert_true(isinf(mg_outbox_due_ms(box, now_ms)));
  mg_outbox_close(box);
}

static void test_outbox_retry_after(void **state) {
  mg_outbox *box = box_opened(MG_OUTBOX_WEBHOOK, 0, 0);
  const mg_alert a = alert_of(MG_ALERT_CRITICAL, 0.96, 0.95);

  (void)state;
  mg_outbox_put(box, &a, 0);
  expect_states(box, 0, "critical:firing ");
  mg_outbox_done(box, false, 30000, 0);
  assert_true(mg_outbox_due_ms(box, 0) == 30000);
  expect_states(box, 29999, "");
  expect_states(box, 30000, "critical:firing ");
  mg_outbox_done(box, false, 1e12, 30000); /* an hour and more is too long */
  assert_true(mg_outbox_due_ms(box, 30000) == 60000);
  mg_outbox_close(box);
}

/* Alertmanager is told again while it fires, and as firing before it is over. */
static void test_outbox_resends(void **state) {
  mg_outbox *box = box_opened(MG_OUTBOX_ALERTMANAGER, 60000, 90000);
  const mg_alert a = alert_of(MG_ALERT_CRITICAL, 0.96, 0.95), b = resolved(a);
  const cJSON *posted, *labels;
  cJSON *got;

  (void)state;
  mg_outbox_put(box, &a, 0);
  mg_outbox_put(box, &b, 0); /* over before it could be sent */
  got = taken(box, 0, false);
  posted = cJSON_GetArrayItem(got, 0);
  labels = item_of(posted, "labels");
  assert_string_equal(text_of(labels, "alertname"), "critical");
  assert_string_equal(text_of(labels, "severity"), "warning");
  assert_string_equal(text_of(labels, "service"), "orders");
  assert_string_equal(text_of(labels, "pid"), "42");
  assert_null(item_of(labels, "subject"));
  assert_string_equal(text_of(posted, "startsAt"), "2023-11-14T22:13:20.000Z");
  assert_string_equal(text_of(posted, "endsAt"), "2023-11-14T22:17:20.000Z");
  assert_string_equal(text_of(item_of(posted, "annotations"), "runbook_url"),
                      "https://runbooks.example/memory#critical");
  cJSON_Delete(got);
  mg_outbox_done(box, true, 0, 0);
  assert_true(mg_outbox_due_ms(box, 0) == 60000);
  got = taken(box, 60000, false);
  assert_string_equal(text_of(cJSON_GetArrayItem(got, 0), "endsAt"),
                      "2023-11-14T22:18:20.000Z");
  cJSON_Delete(got);
  mg_outbox_done(box, true, 0, 60000);
  assert_true(mg_outbox_due_ms(box, 60000) == 30000);
  got = taken(box, 90000, false);
  assert_string_equal(text_of(cJSON_GetArrayItem(got, 0), "endsAt"),
                      "2023-11-14T22:13:25.000Z");
  cJSON_Delete(got);
  mg_outbox_done(box, true, 0, 90000);
  assert_true(isinf(mg_outbox_due_ms(box, 90000)));
  mg_outbox_close(box);
}

/* What changes while a request is under way is told by the next one. */
static void test_outbox_overtaken(void **state) {
  mg_outbox *box = box_opened(MG_OUTBOX_WEBHOOK, 0, 0);
  const mg_alert a = alert_of(MG_ALERT_CRITICAL, 0.96, 0.95), b = resolved(a);
  mg_alert again = a;

  (void)state;
  mg_outbox_put(box, &a, 0);
  expect_states(box, 0, "critical:firing ");
  mg_outbox_put(box, &b, 1);
  mg_outbox_done(box, true, 0, 2);
  expect_states(box, 2, "critical:resolved ");
  again.number = 3;
  mg_outbox_put(box, &again, 3);
  mg_outbox_done(box, true, 0, 4);
  expect_states(box, 4, "critical:firing ");
  mg_outbox_done(box, true, 0, 5);
  assert_true(isinf(mg_outbox_due_ms(box, 5)));
  mg_outbox_close(box);
}

/* The last try takes no heed of the back-off, and repeats nothing. */
static void test_outbox_last_try(void **state) {
  mg_outbox *box = box_opened(MG_OUTBOX_ALERTMANAGER, 1000, 5000);
  const mg_alert a = alert_of(MG_ALERT_CRITICAL, 0.96, 0.95);
  cJSON *got;

  (void)state;
  mg_outbox_put(box, &a, 0);
  cJSON_Delete(taken(box, 0, false));
  mg_outbox_done(box, false, 0, 0);
  assert_null(taken(box, 1, false));
  got = taken(box, 1, true);
  assert_int_equal(cJSON_GetArraySize(got), 1);
  cJSON_Delete(got);
  mg_outbox_done(box, true, 0, 1);
  assert_null(taken(box, 5000, true));
  mg_outbox_close(box);
}

static void test_outbox_is_bounded(void **state) {
  mg_outbox *box = box_opened(MG_OUTBOX_WEBHOOK, 0, 0);
  mg_outbox_stats stats;
  cJSON *got;

  (void)state;
  for (int i = 0; i < 70; i++) {
    mg_alert a = alert_of(MG_ALERT_MEMORY_LEAK, 1, (double)NAN);
    snprintf(a.subject, sizeof a.subject, "n%d", i);
    mg_outbox_put(box, &a, i);
  }
  mg_outbox_read_stats(box, &stats);
  assert_int_equal(stats.waiting, 64);
  assert_int_equal(stats.overflow, 6);
  got = taken(box, 100, false);
  assert_int_equal(cJSON_GetArraySize(item_of(got, "alerts")), 64);
  cJSON_Delete(got);
  mg_outbox_close(box);
}

static void test_outbox_refuses(void **state) {
  mg_outbox_options options = MG_OUTBOX_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_outbox *box;

  (void)state;
  options.resend_ms = -1;
  assert_int_equal(mg_outbox_open(&box, &options, &err), MG_ERANGE);
  assert_null(box);
  options.resend_ms = (double)NAN;
  assert_int_equal(mg_outbox_open(&box, &options, &err), MG_ERANGE);
  options.resend_ms = 0;
  options.format = (mg_outbox_format)9;
  assert_int_equal(mg_outbox_open(&box, &options, &err), MG_EINVAL);
  options.format = MG_OUTBOX_WEBHOOK;
  options.struct_bytes = 1;
  assert_int_equal(mg_outbox_open(&box, &options, &err), MG_EINVAL);
}

#define TEST(name) cmocka_unit_test(name)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_rows),           TEST(test_summary),
      TEST(test_summary_fits),   TEST(test_json),
      TEST(test_foreign_names),  TEST(test_overflow),
      TEST(test_outbox_delivers), TEST(test_outbox_backs_off),
      TEST(test_outbox_retry_after), TEST(test_outbox_resends),
      TEST(test_outbox_overtaken), TEST(test_outbox_last_try),
      TEST(test_outbox_is_bounded), TEST(test_outbox_refuses)};
  return cmocka_run_group_tests_name("alert", tests, NULL, NULL);
}
