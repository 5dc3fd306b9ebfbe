/* test_manager.c - the parts work together. */
#include "monitor_support.h"

#include <string.h>

static mg_status run(void *ctx, mg_resource_kind kind, void *token) {
  (void)kind, (void)token;
  ++*(int *)ctx;
  return MG_OK;
}

static void drop(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx, (void)kind, (void)token;
}

static mg_manager *opened_manager(const mg_config *config, int *runs) {
  mg_runtime runtime = MG_RUNTIME_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_manager *manager;

  runtime.resources = (mg_resource_hooks){run, drop, NULL, runs};
  assert_ok(mg_manager_open(&manager, config, &runtime, &err), &err);
  return manager;
}

static void test_statistics_and_cleanup(void **state) {
  mg_config config = support_config(NULL);
  mg_manager_stats stats;
  mg_cleanup_report report;
  mg_manager *manager;
  mg_buffer *buffer;
  int runs = 0;

  (void)state;
  manager = opened_manager(&config, &runs);
  assert_int_equal(mg_buffers_add(&buffer, mg_manager_buffers(manager), "a",
                                  NULL),
                   MG_OK);
  assert_int_equal(mg_resources_add(mg_manager_resources(manager),
                                    MG_RESOURCE_CALLBACK, &runs, NULL, NULL),
                   MG_OK);
  assert_int_equal(mg_resources_add_file(mg_manager_resources(manager),
                                         "/tmp/memguard-test-absent", NULL,
                                         NULL),
                   MG_OK);
  mg_manager_collected(manager);
  mg_manager_read_stats(manager, &stats);
  assert_true(stats.rss_bytes > 100000 && stats.rss_bytes != MG_ABSENT);
  assert_true(stats.peak_rss_bytes >= stats.rss_bytes);
  assert_true(stats.fd_count >= 3 && stats.fd_count < 10000);
  assert_int_equal(stats.buffer_count, 1);
  assert_int_equal(stats.temp_file_count, 1);
  assert_int_equal(stats.collections, 1);
  assert_int_equal(stats.last_cleanup_unix_ms, 0);
  mg_manager_cleanup(manager, &report);
  assert_int_equal(report.run, 2);
  assert_int_equal(runs, 1);
  mg_manager_read_stats(manager, &stats);
  assert_int_equal(stats.temp_file_count, 0);
  assert_true(stats.last_cleanup_unix_ms > 1700000000000u);
  mg_manager_close(manager);
  mg_manager_close(NULL);
}

static void test_samples_drive_the_buffers(void **state) {
  mg_config config = support_config("max_memory_mb", "1", NULL);
  mg_manager *manager;
  mg_buffer *buffer;
  int runs = 0;

  (void)state;
  manager = opened_manager(&config, &runs);
  assert_int_equal(mg_buffers_add(&buffer, mg_manager_buffers(manager), "a",
                                  NULL),
                   MG_OK);
  assert_false(mg_buffer_should_flush(buffer, 1));
  mg_monitor_pass(mg_manager_monitor(manager), false, NULL);
  assert_true(mg_buffer_should_flush(buffer, 1));
  config = support_config("max_memory_mb", "1000000", "default_buffer_size",
                          "20", "max_buffer_size", "20", NULL);
  assert_int_equal(mg_manager_configure(manager, &config, NULL), MG_OK);
  mg_monitor_pass(mg_manager_monitor(manager), false, NULL);
  assert_false(mg_buffer_should_flush(buffer, 9));
  assert_true(mg_buffer_should_flush(buffer, 20));
  mg_manager_close(manager);
}

static void test_a_forked_child_gives_up_what_the_parent_owns(void **state) {
  mg_config config = support_config(NULL);
  mg_manager *manager;
  int runs = 0;

  (void)state;
  manager = opened_manager(&config, &runs);
  mg_resources_add(mg_manager_resources(manager), MG_RESOURCE_CALLBACK, &runs,
                   NULL, NULL);
  mg_manager_disown(manager);
  mg_manager_cleanup(manager, NULL);
  assert_int_equal(runs, 0);
  mg_manager_close(manager);
}

static void test_a_runtime_of_another_version(void **state) {
  mg_config config = support_config(NULL);
  mg_runtime runtime = MG_RUNTIME_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_manager *manager;

  (void)state;
  runtime.struct_bytes = 8;
  assert_int_equal(mg_manager_open(&manager, &config, &runtime, &err),
                   MG_EINVAL);
  assert_null(manager);
  assert_non_null(strstr(err.text, "mg_runtime has 8 bytes"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_statistics_and_cleanup),
      cmocka_unit_test(test_samples_drive_the_buffers),
      cmocka_unit_test(test_a_forked_child_gives_up_what_the_parent_owns),
      cmocka_unit_test(test_a_runtime_of_another_version)};
  return cmocka_run_group_tests_name("manager", tests, NULL, NULL);
}
