/* test_monitor.c - a monitor on the real process: samples, events, history,
 * counters, the page. Its threads are in test_sampler.c. */
#include "monitor_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Takes events until one of `kind`; others are passed over. */
static bool next_of(mg_monitor *monitor, mg_event_kind kind, mg_event *out) {
  while (mg_monitor_next_event(monitor, out))
    if (out->kind == kind) return true;
  return false;
}

/* ---- samples ------------------------------------------------------------- */

static void test_a_pass_reads_this_process(void **state) {
  mg_config config = support_config("max_memory_mb", "1000000", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_sample before, after;
  char *block;

  (void)state;
  mg_monitor_latest(monitor, &before);
  assert_int_equal(before.number, 0);
  mg_monitor_pass(monitor, false, &before);
  block = touched(64 * MB);
  mg_monitor_pass(monitor, false, NULL);
  mg_monitor_latest(monitor, &after);
  assert_int_equal(before.number, 1);
  assert_int_equal(after.number, 2);
  assert_true(after.reading.rss_bytes > before.reading.rss_bytes + 60 * MB);
  assert_true(after.peak_rss_bytes >= after.reading.rss_bytes);
  assert_true(after.unix_ms > 1700000000000u);
  assert_true(after.usage > 0.0 && after.usage < 1.0);
  assert_true(after.pressure == after.usage);
  assert_int_equal(after.level, MG_LEVEL_NORMAL);
  assert_true(mg_monitor_pressure(monitor) == after.pressure);
  free(block);
  mg_monitor_close(monitor);
}

static void test_heap_is_carried_by_the_next_sample(void **state) {
  mg_config config = support_config(NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_heap heap = {990, 1000, 1000, 7, 3};
  mg_sample sample;

  (void)state;
  mg_monitor_pass(monitor, false, &sample);
  assert_int_equal(sample.reading.heap_used_bytes, MG_ABSENT);
  mg_monitor_set_heap(monitor, &heap);
  mg_monitor_pass(monitor, false, &sample);
  assert_int_equal(sample.reading.heap_used_bytes, 990);
  assert_int_equal(sample.reading.array_buffer_bytes, 3);
  assert_int_equal(sample.domain, MG_DOMAIN_HEAP);
  assert_int_equal(sample.level, MG_LEVEL_CRITICAL);
  mg_monitor_close(monitor);
}

static void test_disabled(void **state) {
  mg_config config = support_config("enabled", "false", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_event event;

  (void)state;
  start(monitor);
  assert_false(mg_monitor_is_running(monitor));
  mg_monitor_pass(monitor, true, NULL);
  assert_int_equal(number_of(monitor), 1);
  assert_int_equal(mg_monitor_history(monitor, 0, NULL, 0), 1);
  assert_false(mg_monitor_next_event(monitor, &event));
  mg_monitor_close(monitor);
}

/* ---- events -------------------------------------------------------------- */

static void test_life_and_stats_events(void **state) {
  mg_config config = support_config("sample_interval", "10ms",
                                    "monitor_interval", "20ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_event event;

  (void)state;
  start(monitor);
  assert_true(reaches(monitor, 8));
  mg_monitor_stop(monitor);
  assert_true(next_of(monitor, MG_EVENT_STARTED, &event));
  assert_true(next_of(monitor, MG_EVENT_STATS, &event));
  assert_true(event.sample.number >= 1);
  assert_true(next_of(monitor, MG_EVENT_STOPPED, &event));
  assert_false(mg_monitor_next_event(monitor, &event));
  assert_true(mg_monitor_history(monitor, 0, NULL, 0) >= 2);
  mg_monitor_close(monitor);
}

static void test_level_and_pressure_events(void **state) {
  mg_config config = support_config("max_memory_mb", "1", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_sample sample;
  mg_event event;

  (void)state;
  mg_monitor_pass(monitor, false, &sample);
  assert_int_equal(sample.domain, MG_DOMAIN_MAX_MEMORY);
  assert_true(sample.usage > 1.0);
  assert_true(sample.pressure == 1.0);
  mg_monitor_pass(monitor, false, NULL);
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_LEVEL);
  assert_int_equal(event.previous, MG_LEVEL_NORMAL);
  assert_int_equal(event.sample.level, MG_LEVEL_CRITICAL);
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_PRESSURE);
  assert_int_equal(event.sample.number, 2); /* the newer one took its place */
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_ALERT);
  assert_false(mg_monitor_next_event(monitor, &event));
  mg_monitor_close(monitor);
}

static void test_threshold_event(void **state) {
  mg_config config = support_config("thresholds.rssWarning", "1",
                                    "thresholds.rssCritical", "1000000", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_heap heap = {86, 100, 100, 0, 0};
  uint32_t issues;
  mg_event event;

  (void)state;
  assert_int_equal(mg_monitor_health(monitor, &issues), MG_HEALTH_HEALTHY);
  assert_int_equal(issues, 0);
  mg_monitor_pass(monitor, true, NULL);
  assert_true(next_of(monitor, MG_EVENT_THRESHOLD, &event));
  assert_int_equal(event.issues, MG_ISSUE_RSS_WARNING);
  assert_int_equal(event.severity, MG_HEALTH_WARNING);
  mg_monitor_set_heap(monitor, &heap);
  mg_monitor_pass(monitor, true, NULL);
  assert_true(next_of(monitor, MG_EVENT_THRESHOLD, &event));
  assert_int_equal(event.issues, MG_ISSUE_RSS_WARNING | MG_ISSUE_HEAP_CRITICAL);
  assert_int_equal(event.severity, MG_HEALTH_CRITICAL);
  assert_int_equal(mg_monitor_health(monitor, &issues), MG_HEALTH_CRITICAL);
  assert_int_equal(issues, MG_ISSUE_RSS_WARNING | MG_ISSUE_HEAP_CRITICAL);
  mg_monitor_close(monitor);
}

static void test_only_events_of_interest_are_raised(void **state) {
  mg_config config = support_config("max_memory_mb", "1", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_event event;

  (void)state;
  mg_monitor_set_interest(monitor, 1u << MG_EVENT_PRESSURE);
  mg_monitor_pass(monitor, true, NULL);
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_PRESSURE);
  assert_false(mg_monitor_next_event(monitor, &event));
  assert_int_equal(mg_monitor_history(monitor, 0, NULL, 0), 1);
  mg_monitor_close(monitor);
}

static void test_rapid_growth(void **state) {
  mg_config config = support_config("monitor_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_trend rss, heap_trend;
  mg_event event;
  uint32_t issues;

  (void)state;
  for (uint64_t i = 0; i < 6; i++) {
    mg_heap heap = {i * 100 * MB, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT};
    mg_monitor_set_heap(monitor, &heap);
    mg_monitor_pass(monitor, true, NULL);
    sleep_ms(10);
  }
  do { /* the resident set may have grown as well */
    assert_true(next_of(monitor, MG_EVENT_RAPID_GROWTH, &event));
  } while (!event.growth_is_heap);
  assert_true(event.mb_per_minute > 10.0);
  mg_monitor_trends(monitor, 10, &rss, &heap_trend);
  assert_int_equal(heap_trend.direction, MG_DIRECTION_INCREASING);
  assert_int_equal(heap_trend.points, 6);
  assert_true(mg_monitor_health(monitor, &issues) >= MG_HEALTH_WARNING);
  assert_true(issues & MG_ISSUE_GROWTH);
  mg_monitor_close(monitor);
}

static void test_a_moment_is_no_growth(void **state) {
  mg_config config = support_config(NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_event event;
  uint32_t issues;

  (void)state;
  for (uint64_t i = 0; i < 6; i++) { /* within the 30 s of one interval */
    mg_heap heap = {i * 4096, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT};
    mg_monitor_set_heap(monitor, &heap);
    mg_monitor_pass(monitor, true, NULL);
  }
  assert_false(next_of(monitor, MG_EVENT_RAPID_GROWTH, &event));
  mg_monitor_health(monitor, &issues);
  assert_int_equal(issues & MG_ISSUE_GROWTH, 0);
  mg_monitor_close(monitor);
}

static void test_full_pressure_is_told_below_a_high_threshold(void **state) {
  mg_config config = support_config("pressure_threshold", "1", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_heap heap = {95, 100, 100, 0, 0};
  mg_event event;

  (void)state;
  mg_monitor_set_heap(monitor, &heap);
  mg_monitor_pass(monitor, false, NULL);
  assert_true(next_of(monitor, MG_EVENT_PRESSURE, &event));
  mg_monitor_close(monitor);
}

static void test_a_full_queue_counts_what_it_evicts(void **state) {
  mg_config config = support_config("leak_warning_count", "1",
                                    "leak_critical_count", "1000", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  char key[16];
  mg_event event;
  int taken = 0;

  (void)state;
  for (int i = 0; i < 70; i++) {
    snprintf(key, sizeof key, "key%d", i);
    assert_int_equal(mg_monitor_counter_register(monitor, key, NULL), MG_OK);
    assert_int_equal(mg_monitor_counter_add(monitor, key, 1, NULL, NULL),
                     MG_OK);
  }
  assert_int_equal(mg_monitor_events_lost(monitor), 6);
  while (mg_monitor_next_event(monitor, &event)) taken++;
  assert_int_equal(taken, 64);
  assert_string_equal(event.counter, "key69");
  mg_monitor_close(monitor);
}

/* ---- counters ------------------------------------------------------------ */

static uint64_t counted(mg_monitor *monitor, int64_t delta) {
  mg_error err = MG_ERROR_INIT;
  uint64_t value = 0;

  assert_ok(mg_monitor_counter_add(monitor, "sockets", delta, &value, &err),
            &err);
  return value;
}

static void test_counters(void **state) {
  mg_config config = support_config(NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_error err = MG_ERROR_INIT;
  char key[MG_COUNTER_KEY_BYTES];
  uint64_t value;
  mg_event event;

  (void)state;
  assert_int_equal(mg_monitor_counter_add(monitor, "sockets", 1, NULL, &err),
                   MG_ENOTFOUND);
  assert_string_equal(err.text, "object counter \"sockets\" is not registered");
  assert_int_equal(mg_monitor_counter_register(monitor, "", &err), MG_EINVAL);
  assert_ok(mg_monitor_counter_register(monitor, "sockets", &err), &err);
  assert_ok(mg_monitor_counter_register(monitor, "sockets", &err), &err);
  assert_int_equal(counted(monitor, 99), 99);
  assert_false(mg_monitor_next_event(monitor, &event));
  assert_int_equal(counted(monitor, 1), 100);
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_LEAK_WARNING);
  assert_string_equal(event.counter, "sockets");
  assert_int_equal(event.count, 100);
  assert_int_equal(event.threshold, 100);
  assert_int_equal(counted(monitor, 1), 101); /* said once */
  assert_false(mg_monitor_next_event(monitor, &event));
  assert_int_equal(counted(monitor, 400), 501);
  assert_true(mg_monitor_next_event(monitor, &event));
  assert_int_equal(event.kind, MG_EVENT_LEAK_CRITICAL);
  assert_int_equal(event.threshold, 500);
  assert_int_equal(mg_monitor_health(monitor, NULL), MG_HEALTH_CRITICAL);
  assert_int_equal(counted(monitor, -600), 0); /* never below nothing */
  assert_int_equal(counted(monitor, 100), 100);
  assert_true(mg_monitor_next_event(monitor, &event)); /* said again */
  assert_ok(mg_monitor_counter_reset(monitor, "sockets", &err), &err);
  assert_true(mg_monitor_counter_at(monitor, 0, key, &value));
  assert_string_equal(key, "sockets");
  assert_int_equal(value, 0);
  assert_false(mg_monitor_counter_at(monitor, 1, key, &value));
  mg_monitor_close(monitor);
}

static void test_counters_are_bounded(void **state) {
  mg_config config = support_config(NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_error err = MG_ERROR_INIT;
  char key[80];

  (void)state;
  for (int i = 0; i < 256; i++) {
    snprintf(key, sizeof key, "key%d", i);
    assert_ok(mg_monitor_counter_register(monitor, key, &err), &err);
  }
  assert_int_equal(mg_monitor_counter_register(monitor, "one more", &err),
                   MG_ERANGE);
  assert_string_equal(err.text, "257 object counters, allowed: at most 256");
  memset(key, 'k', 64);
  key[64] = '\0';
  assert_int_equal(mg_monitor_counter_register(monitor, key, NULL), MG_EINVAL);
  mg_monitor_close(monitor);
}

/* ---- history, operations, configuration ---------------------------------- */

static void test_history_is_bounded_and_ordered(void **state) {
  mg_config config = support_config("history_size", "5", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_sample sample[10];

  (void)state;
  for (int i = 0; i < 12; i++) mg_monitor_pass(monitor, true, NULL);
  mg_monitor_pass(monitor, false, NULL);
  assert_int_equal(mg_monitor_history(monitor, 0, sample, 10), 5);
  assert_int_equal(sample[0].number, 8);
  assert_int_equal(sample[4].number, 12);
  assert_int_equal(mg_monitor_history(monitor, 0, sample, 2), 2);
  assert_int_equal(sample[0].number, 11);
  assert_int_equal(mg_monitor_history(monitor, UINT64_MAX, sample, 10), 0);
  config = support_config("history_size", "3", NULL);
  assert_ok(mg_monitor_configure(monitor, &config, &err), &err);
  assert_int_equal(mg_monitor_history(monitor, 0, sample, 10), 3);
  assert_int_equal(sample[0].number, 10);
  mg_monitor_reset(monitor);
  assert_int_equal(mg_monitor_history(monitor, 0, sample, 10), 0);
  mg_monitor_close(monitor);
}

static void test_operations(void **state) {
  mg_config config = support_config("monitoring_interval", "3", NULL);
  mg_monitor *monitor = opened(&config, NULL);

  (void)state;
  assert_false(mg_monitor_operation(monitor));
  assert_false(mg_monitor_operation(monitor));
  assert_true(mg_monitor_operation(monitor));
  assert_false(mg_monitor_operation(monitor));
  assert_int_equal(mg_monitor_operations(monitor), 4);
  mg_monitor_check(monitor);
  assert_int_equal(number_of(monitor), 1);
  sleep_ms(25);
  mg_monitor_check(monitor);
  assert_int_equal(number_of(monitor), 2);
  mg_monitor_close(monitor);
}

/* Whether a glance takes a sample; one may find the lock held. */
static bool is_taken(mg_monitor *monitor) {
  uint64_t before = number_of(monitor);

  for (int i = 0; i < 1200 && number_of(monitor) == before; i++) {
    mg_monitor_glance(monitor);
    if (number_of(monitor) == before) sleep_ms(5);
  }
  return number_of(monitor) > before;
}

/* Whether a glance at a sample of 20 to 100 ms finds it good enough. */
static bool is_spared(mg_monitor *monitor) {
  for (int i = 0; i < 1200; i++) {
    uint64_t before;
    mg_monitor_glance(monitor);
    before = number_of(monitor);
    sleep_ms(25);
    mg_monitor_glance(monitor);
    if (number_of(monitor) == before) return true;
  }
  return false;
}

/* Whether glances take samples because the resident set has grown, and not because
 * the latest one is 100 ms old: on a busy machine only some come in time. Two, one
 * after the other: the sampler takes one of its own every few seconds. */
static bool sees_growth(mg_monitor *monitor) {
  const uint64_t ms = 1000000u;
  int seen = 0;

  for (int i = 0; i < 200 && seen < 2; i++) {
    uint64_t began = mg_clock_ns(), before;
    char *block;
    mg_monitor_pass(monitor, false, NULL);
    before = number_of(monitor);
    block = touched(40 * MB); /* more than malloc ever keeps */
    while (mg_clock_ns() - began < 25 * ms) sleep_ms(1);
    mg_monitor_glance(monitor);
    if (number_of(monitor) == before)
      seen = 0;
    else if (mg_clock_ns() - began < 90 * ms)
      seen++;
    free(block);
  }
  return seen == 2;
}

static void test_a_glance(void **state) {
  mg_config config = support_config("max_memory_mb", "1000000",
                                    "sample_interval", "1h", NULL);
  mg_monitor *monitor = opened(&config, NULL);

  (void)state;
  mg_monitor_glance(monitor);
  sleep_ms(25);
  mg_monitor_glance(monitor);
  assert_int_equal(number_of(monitor), 2); /* nothing in the background */
  start(monitor);
  assert_true(is_spared(monitor));
  assert_true(sees_growth(monitor));
  sleep_ms(120);
  assert_true(is_taken(monitor)); /* that was long ago */
  mg_monitor_close(monitor);
}

static void test_configure_while_running(void **state) {
  mg_config config = support_config("sample_interval", "1h", "monitor_interval",
                                    "1h", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_config read;

  (void)state;
  start(monitor);
  assert_true(reaches(monitor, 1));
  config = support_config("sample_interval", "10ms", NULL);
  assert_ok(mg_monitor_configure(monitor, &config, &err), &err);
  assert_true(reaches(monitor, 5)); /* did not sleep out its hour */
  mg_monitor_read_config(monitor, &read);
  assert_true(mg_config_get(&read, MG_CONFIG_SAMPLE_INTERVAL) == 10.0);
  mg_monitor_close(monitor);
}

static void test_buffers_follow(void **state) {
  mg_config config = support_config("max_memory_mb", "1", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_buffers *buffers;
  mg_buffer *buffer;

  (void)state;
  assert_int_equal(mg_buffers_open(&buffers, &config, NULL), MG_OK);
  assert_int_equal(mg_buffers_add(&buffer, buffers, "b", NULL), MG_OK);
  mg_monitor_follow(monitor, buffers);
  assert_false(mg_buffer_should_flush(buffer, 1));
  mg_monitor_pass(monitor, false, NULL);
  assert_true(mg_buffer_should_flush(buffer, 1));
  mg_monitor_follow(monitor, NULL);
  mg_monitor_close(monitor);
  mg_buffers_close(buffers);
}

static void test_page(void **state) {
  mg_config config = support_config("max_memory_mb", "1", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_page page;
  mg_sample sample;

  (void)state;
  memset(&page, 0, sizeof page);
  mg_monitor_set_page(monitor, &page);
  mg_monitor_pass(monitor, false, &sample);
  assert_int_equal(page.sequence % 2, 0);
  assert_true(page.value[MG_PAGE_number] == 1.0);
  assert_true(page.value[MG_PAGE_rss_bytes] ==
              (double)sample.reading.rss_bytes);
  assert_true(page.value[MG_PAGE_pressure] == 1.0);
  assert_true(page.value[MG_PAGE_level] == (double)MG_LEVEL_CRITICAL);
  assert_true(page.value[MG_PAGE_heap_used_bytes] !=
              page.value[MG_PAGE_heap_used_bytes]); /* NaN: not known */
  mg_monitor_set_page(monitor, NULL);
  mg_monitor_pass(monitor, false, NULL);
  assert_true(page.value[MG_PAGE_number] == 1.0);
  mg_monitor_close(monitor);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_pass_reads_this_process),
      cmocka_unit_test(test_heap_is_carried_by_the_next_sample),
      cmocka_unit_test(test_disabled),
      cmocka_unit_test(test_life_and_stats_events),
      cmocka_unit_test(test_level_and_pressure_events),
      cmocka_unit_test(test_threshold_event),
      cmocka_unit_test(test_only_events_of_interest_are_raised),
      cmocka_unit_test(test_rapid_growth),
      cmocka_unit_test(test_a_moment_is_no_growth),
      cmocka_unit_test(test_full_pressure_is_told_below_a_high_threshold),
      cmocka_unit_test(test_a_full_queue_counts_what_it_evicts),
      cmocka_unit_test(test_counters),
      cmocka_unit_test(test_counters_are_bounded),
      cmocka_unit_test(test_history_is_bounded_and_ordered),
      cmocka_unit_test(test_operations),
      cmocka_unit_test(test_a_glance),
      cmocka_unit_test(test_configure_while_running),
      cmocka_unit_test(test_buffers_follow),
      cmocka_unit_test(test_page)};
  return cmocka_run_group_tests_name("monitor", tests, NULL, NULL);
}
