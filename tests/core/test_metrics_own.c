/* test_metrics_own.c - what a process shows of itself, as metrics. */
#include "segment_support.h"

#include "fixture.h"
#include "memguard/metrics.h"

/* [owned] once `text` is in it. */
static char *own_awaited(const char *text) {
  mg_error err = MG_ERROR_INIT;
  char *own = NULL;

  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    assert_ok(mg_metrics_render_own(&own, NULL, MG_METRICS_PROMETHEUS,
                                    MG_METRICS_ALL, &err),
              &err);
    if (strstr(own, text) != NULL) return own;
    mg_free_text(own);
    sleep_ms(5);
  }
  fail_msg("never shown: %s", text);
  return NULL;
}

static void note_collections(int count) {
  for (int i = 0; i < count; i++)
    mg_segment_note_gc(&(mg_pause){.wall_ns = 1000, .collected = MG_ABSENT});
}

static void test_no_memory(void **state) {
  mg_error err = MG_ERROR_INIT;
  long index = 0;
  mg_status st;
  char *text;
  (void)state;

  do {
    fixture_fail_allocation(index++);
    st = mg_metrics_render_own(&text, NULL, MG_METRICS_PROMETHEUS,
                               MG_METRICS_ALL, &err);
    if (st != MG_OK) assert_int_equal(st, MG_ENOMEM);
    mg_free_text(text);
  } while (fixture_allocation_failed());
  assert_true(index > 4);
}

static void test_own_plain(void **state) {
  char *own = own_awaited("memguard_process_resident_memory_bytes");
  (void)state;

  assert_null(strstr(own, "memguard_reclaim_rounds_total"));
  assert_null(strstr(own, "memguard_memory_level"));
  assert_non_null(strstr(own, "\nmemguard_process_cpu_seconds_total{"));
  assert_null(strstr(own, "active_connections"));
  mg_free_text(own);
}

/* Wherever the file goes, collections are counted. */
static void count_own(const char *enabled, bool has_file) {
  mg_config config = support_config("sample_interval", "10ms", "segment_enabled",
                                    enabled, NULL);
  mg_monitor *monitor = opened(&config, NULL);
  char path[MG_SEGMENT_PATH_BYTES];

  start(monitor);
  mg_free_text(own_awaited("memguard_process_samples_total"));
  note_collections(3);
  mg_free_text(own_awaited("memory_gc_count_total"));
  assert_int_equal(mg_segment_path(path, sizeof path) > 0, has_file);
  {
    char *own = own_awaited("\nmemory_gc_pause_ns_count{");
    assert_non_null(strstr(own, "kind=\"kind0\"} 3\n"));
    mg_free_text(own);
  }
  mg_monitor_stop(monitor);
  mg_monitor_close(monitor);
}

/* Nothing fits into a megabyte. */
static void test_alerts_active(void **state) {
  mg_config config = support_config("sample_interval", "10ms", "max_memory_mb",
                                    "1", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  char *own;
  (void)state;

  start(monitor);
  own = own_awaited("\nmemguard_alerts_active{");
  assert_non_null(strstr(own, "# TYPE memguard_alerts_active gauge\n"));
  assert_non_null(strstr(own, "severity=\"critical\"} 1\n"));
  mg_free_text(own);
  mg_monitor_stop(monitor);
  mg_monitor_close(monitor);
}

static void test_own_file(void **state) {
  (void)state;
  count_own("true", true);
  /* What the last monitor showed is still there. */
  mg_free_text(own_awaited("kind=\"kind0\"} 3\n"));
}

static void test_own_without_file(void **state) {
  mg_error problem = MG_ERROR_INIT;
  (void)state;
  count_own("false", false);
  setenv("MEMGUARD_DIR", "/proc/nowhere", 1);
  count_own("true", false);
  setenv("MEMGUARD_DIR", segment_directory, 1);
  assert_true(mg_segment_take_problem(&problem));
}

static void test_connections(void **state) {
  char *own;
  (void)state;

  mg_metrics_add_connections(3);
  mg_metrics_add_connections(-1);
  own = own_awaited("\nactive_connections{");
  assert_int_equal(
      strncmp(strchr(strstr(own, "\nactive_connections{"), '}'), "} 2\n", 4), 0);
  mg_free_text(own);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_own_plain, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_no_memory, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_own_without_file, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_own_file, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_alerts_active, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_connections, segment_setup,
                                      segment_teardown)};

  return cmocka_run_group_tests(tests, NULL, NULL);
}
