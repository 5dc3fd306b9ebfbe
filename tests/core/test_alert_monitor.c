/* test_alert_monitor.c - alerts of monitors, and in the segment. */
#include "fixture.h"
#include "segment_support.h"

#include <signal.h>
#include <sys/wait.h>

#include "memguard/alert.h"

#define TIGHT                                                              \
  "max_memory_mb", "1", "sample_interval", "10ms", "high_usage_for", "0s", \
      "alert_resolve_after", "0s"

static bool has_alert(mg_segment *segment, mg_alert_kind kind,
                      mg_alert_state alert_state, mg_alert *out) {
  mg_segment_alerts shown;

  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    mg_segment_read_alerts(segment, &shown);
    for (uint32_t i = 0; i < shown.count; i++) {
      *out = shown.alert[i];
      if (out->kind == (uint32_t)kind && out->state == (uint32_t)alert_state)
        return true;
    }
    sleep_ms(5);
  }
  return false;
}

static char *text_of_alerts(const mg_monitor *monitor, uint64_t after) {
  mg_error err = MG_ERROR_INIT;
  char *text;

  assert_ok(mg_monitor_alerts(monitor, after, &text, &err), &err);
  return text;
}

static void test_events(void **state) {
  mg_config config = support_config(TIGHT, NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_event event = {.kind = MG_EVENT_STARTED};
  mg_error err = MG_ERROR_INIT;
  char *text;

  (void)state;
  mg_monitor_set_interest(monitor, 1u << MG_EVENT_ALERT);
  mg_monitor_pass(monitor, false, NULL);
  mg_monitor_pass(monitor, false, NULL);
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_ALERT);
  assert_int_equal(event.severity, MG_HEALTH_CRITICAL);
  assert_false(mg_monitor_next_event(monitor, &event)); /* once, not per sample */
  assert_int_equal(mg_monitor_alert_number(monitor), 3);
  text = text_of_alerts(monitor, 0);
  assert_non_null(strstr(text, "\"kind\":\"high_usage\""));
  assert_non_null(strstr(text, "\"kind\":\"critical\""));
  assert_non_null(strstr(text, "\"kind\":\"out_of_memory\""));
  mg_free_text(text);
  config = support_config("max_memory_mb", "100000", "alert_resolve_after",
                          "0s", "alerts_enabled", "false", NULL);
  assert_ok(mg_monitor_configure(monitor, &config, &err), &err);
  mg_monitor_pass(monitor, false, NULL);
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_ALERT);
  assert_int_equal(mg_monitor_alert_number(monitor), 6);
  text = text_of_alerts(monitor, 3);
  assert_non_null(strstr(text, "\"active\":[]"));
  assert_non_null(strstr(text, "\"state\":\"resolved\""));
  assert_null(strstr(text, "\"state\":\"firing\""));
  mg_free_text(text);
  mg_monitor_close(monitor);
}

static void test_segment(void **state) {
  mg_config config = support_config(TIGHT, NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_segment *segment;
  mg_alert alert;

  (void)state;
  start(monitor);
  segment = segment_opened(segment_awaited());
  assert_true(has_alert(segment, MG_ALERT_CRITICAL, MG_ALERT_FIRING, &alert));
  assert_int_equal(alert.severity, MG_SEVERITY_CRITICAL);
  assert_true(alert.value > 1.0);
  assert_true(alert.threshold == 0.95);
  assert_true(alert.since_unix_ms > 0);
  mg_monitor_close(monitor); /* nobody looks any more */
  assert_true(has_alert(segment, MG_ALERT_CRITICAL, MG_ALERT_RESOLVED, &alert));
  assert_true(alert.resolved_unix_ms >= alert.since_unix_ms);
  mg_segment_close(segment);
}

static void test_long_pause(void **state) {
  const mg_config config =
      support_config("sample_interval", "10ms", "long_pause", "50ms",
                     "alert_resolve_after", "0s", NULL);
  mg_pause pause = {.wall_ns = 80000000u, .cpu_ns = MG_ABSENT,
                    .collected = MG_ABSENT};
  mg_monitor *monitor = opened(&config, NULL);
  char *text;

  (void)state;
  mg_segment_note_gc(&pause); /* before the monitor looks: not its own */
  mg_monitor_pass(monitor, false, NULL);
  assert_int_equal(mg_monitor_alert_number(monitor), 0);
  mg_segment_note_gc(&pause);
  pause.wall_ns = 90000000u;
  mg_segment_note_gc(&pause);
  pause.wall_ns = 40000000u;
  mg_segment_note_gc(&pause);
  mg_monitor_pass(monitor, false, NULL);
  text = text_of_alerts(monitor, 0);
  assert_non_null(strstr(text, "\"kind\":\"long_pause\""));
  assert_non_null(strstr(text, "\"value\":0.09,"));
  mg_free_text(text);
  mg_monitor_pass(monitor, false, NULL);
  assert_int_equal(mg_monitor_alert_number(monitor), 2); /* resolved */
  mg_monitor_close(monitor);
}

static void test_outbox_follows(void **state) {
  const mg_config config = support_config(TIGHT, NULL);
  mg_outbox_options options = MG_OUTBOX_OPTIONS_INIT;
  mg_monitor *monitor = opened(&config, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_outbox *box;
  char *body;

  (void)state;
  assert_ok(mg_outbox_open(&box, &options, &err), &err);
  mg_outbox_follow(box, monitor, 0);
  assert_ok(mg_outbox_take(box, 0, 0, false, &body, &err), &err);
  assert_null(body);
  mg_monitor_pass(monitor, false, NULL);
  mg_outbox_follow(box, monitor, 1);
  mg_outbox_follow(box, monitor, 1);
  assert_ok(mg_outbox_take(box, 1, 1, false, &body, &err), &err);
  assert_non_null(body);
  assert_non_null(strstr(body, "\"kind\":\"out_of_memory\""));
  mg_free_text(body);
  mg_outbox_close(box);
  mg_monitor_close(monitor);
}

/* A child of fork raises its own alerts, and shows none of its parent's. */
static void test_fork(void **state) {
  const mg_config config = support_config(TIGHT, NULL);
  mg_monitor *monitor = opened(&config, NULL);
  int status;
  pid_t pid;

  (void)state;
  mg_monitor_pass(monitor, false, NULL);
  assert_int_equal(mg_monitor_alert_number(monitor), 3);
  pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    mg_monitor_pass(monitor, false, NULL);
    fixture_leave(mg_monitor_alert_number(monitor) == 6 ? 0 : 1);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  mg_monitor_pass(monitor, false, NULL);
  assert_int_equal(mg_monitor_alert_number(monitor), 3);
  mg_monitor_close(monitor);
}

/* ---- the run before this one --------------------------------------------- */

/* A process that is killed with usage of a limit that kills; the child of a fork has
 * the command line of its parent, as a restarted program has. */
static void run_before(bool is_oom) {
  const mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_heap heap = {is_oom ? 99u * MB : 10u * MB, 99u * MB, 100u * MB, 0, 0};

  mg_monitor_set_heap(monitor, &heap);
  start(monitor);
  if (segment_awaited() != NULL && reaches(monitor, number_of(monitor) + 3))
    kill(getpid(), SIGKILL);
  fixture_leave(1);
}

/* @return 10: the next run tells of it; 11: it does not. */
static int tells_previous(bool is_oom) {
  const mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_segment *segment;
  mg_monitor *monitor;
  mg_alert alert;
  bool is_told;
  int status;
  pid_t pid = fork();

  assert_true(pid >= 0);
  if (pid == 0) run_before(is_oom);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status));
  pid = fork();
  assert_true(pid >= 0);
  if (pid > 0) {
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
  }
  monitor = opened(&config, NULL);
  start(monitor);
  segment = segment_opened(segment_awaited());
  if (!is_oom) { /* it has looked by now */
    bool looked = reaches(monitor, number_of(monitor) + 100);
    fixture_leave(looked && mg_monitor_alert_number(monitor) == 0 ? 11 : 12);
  }
  is_told =
      has_alert(segment, MG_ALERT_PREVIOUS_OOM, MG_ALERT_FIRING, &alert);
  fixture_leave(is_told && alert.value == 0.99 ? 10 : 12);
}

static void test_previous_oom(void **state) {
  (void)state;
  assert_int_equal(tells_previous(true), 10);
  assert_int_equal(tells_previous(false), 11);
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, segment_setup, segment_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_events),         TEST(test_segment), TEST(test_long_pause),
      TEST(test_outbox_follows), TEST(test_fork),    TEST(test_previous_oom)};
  return cmocka_run_group_tests_name("alert_monitor", tests, NULL, NULL);
}
