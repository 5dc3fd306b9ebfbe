/* test_buffer.c - the table of buffers under changing pressure. The decisions
 * themselves are in tests/vectors/buffer.json. */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static mg_buffers *opened(const mg_config *config) {
  mg_error err = MG_ERROR_INIT;
  mg_buffers *buffers;

  assert_ok(mg_buffers_open(&buffers, config, &err), &err);
  return buffers;
}

static mg_buffer *added(mg_buffers *buffers, const char *name) {
  mg_error err = MG_ERROR_INIT;
  mg_buffer *buffer;

  assert_ok(mg_buffers_add(&buffer, buffers, name, &err), &err);
  return buffer;
}

static uint32_t size_of(const mg_buffer *buffer) {
  mg_buffer_stats stats;

  mg_buffer_read_stats(buffer, &stats);
  return stats.current_size;
}

static void test_follows_the_pressure(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_buffer *buffer = added(buffers, "packets");

  (void)state;
  assert_false(mg_buffer_should_flush(buffer, 0));
  assert_false(mg_buffer_should_flush(buffer, 99));
  assert_true(mg_buffer_should_flush(buffer, 100));
  mg_buffers_update(buffers, 0.95, 0); /* full: any content */
  assert_false(mg_buffer_should_flush(buffer, 0));
  assert_true(mg_buffer_should_flush(buffer, 1));
  assert_int_equal(size_of(buffer), 10);
  mg_buffers_update(buffers, 0.1, 500); /* relief: threshold now, size later */
  assert_false(mg_buffer_should_flush(buffer, 9));
  assert_true(mg_buffer_should_flush(buffer, 10));
  mg_buffers_update(buffers, 0.1, 1000);
  assert_int_equal(size_of(buffer), 12);
  for (int second = 2; second < 60; second++)
    mg_buffers_update(buffers, 0.1, second * 1000.0);
  assert_int_equal(size_of(buffer), 1000);
  mg_buffers_close(buffers);
}

static void test_a_new_buffer_keeps_its_size_for_a_second(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_buffer *buffer = added(buffers, "packets");

  (void)state;
  mg_buffers_update(buffers, 0.1, 70000);
  mg_buffers_update(buffers, 0.1, 70999);
  assert_int_equal(size_of(buffer), 100);
  mg_buffers_update(buffers, 0.1, 71000);
  assert_int_equal(size_of(buffer), 125);
  mg_buffers_update(buffers, 0.85, 71500); /* too early to halve again */
  assert_int_equal(size_of(buffer), 125);
  assert_true(mg_buffer_should_flush(buffer, 62));
  assert_false(mg_buffer_should_flush(buffer, 61));
  mg_buffers_update(buffers, 0.85, 72000);
  assert_int_equal(size_of(buffer), 62);
  mg_buffers_close(buffers);
}

static void test_a_clock_that_goes_back_grows_nothing(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_buffer *buffer = added(buffers, "packets");

  (void)state;
  mg_buffers_update(buffers, 0.1, 9000);
  mg_buffers_update(buffers, 0.1, 1000);
  assert_int_equal(size_of(buffer), 100);
  mg_buffers_update(buffers, 0.1, 2000);
  assert_int_equal(size_of(buffer), 125);
  mg_buffers_close(buffers);
}

static void test_configure_moves_sizes_inside(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_buffer *buffer = added(buffers, "packets");
  uint32_t generation = mg_buffers_generation(buffers);

  (void)state;
  config = support_config("max_buffer_size", "40", NULL);
  mg_buffers_configure(buffers, &config);
  assert_int_equal(size_of(buffer), 40);
  assert_true(mg_buffer_should_flush(buffer, 40));
  assert_int_not_equal(mg_buffers_generation(buffers), generation);
  mg_buffers_close(buffers);
}

static void test_names(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_error err = MG_ERROR_INIT;
  mg_buffer *a = added(buffers, "a"), *other;
  char name[257];

  (void)state;
  assert_int_equal(mg_buffers_add(&other, buffers, "a", &err), MG_EEXISTS);
  assert_string_equal(err.text, "buffer \"a\" exists already");
  assert_null(other);
  assert_int_equal(mg_buffers_add(&other, buffers, "", &err), MG_EINVAL);
  memset(name, 'x', 256);
  name[256] = '\0';
  assert_int_equal(mg_buffers_add(&other, buffers, name, &err), MG_EINVAL);
  name[255] = '\0';
  other = added(buffers, name);
  assert_int_equal(mg_buffers_count(buffers), 2);
  mg_buffers_drop(buffers, a);
  mg_buffers_drop(buffers, other);
  assert_int_equal(mg_buffers_count(buffers), 0);
  added(buffers, "a");
  mg_buffers_close(buffers);
  mg_buffers_close(NULL);
}

static void test_statistics(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_buffer *buffer = added(buffers, "packets");
  mg_buffer_stats stats;

  (void)state;
  mg_buffer_should_flush(buffer, 70);
  mg_buffer_flushed(buffer, 0);
  mg_buffer_flushed(buffer, 30);
  mg_buffer_flushed(buffer, 20);
  mg_buffer_read_stats(buffer, &stats);
  assert_int_equal(stats.max_size_reached, 70);
  assert_int_equal(stats.flush_count, 2);
  assert_int_equal(stats.flushed_items, 50);
  assert_int_equal(stats.current_size, 100);
  assert_int_equal(stats.flush_at, 100);
  assert_true(stats.created_unix_ms > 1700000000000u);
  mg_buffers_close(buffers);
}

static void test_asked_with_a_pressure(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_buffer *buffer = added(buffers, "packets");

  (void)state;
  assert_true(mg_buffer_should_flush_at(buffer, 1, 0.91));
  assert_false(mg_buffer_should_flush_at(buffer, 0, 0.91));
  assert_true(mg_buffer_should_flush_at(buffer, 50, 0.85));
  assert_false(mg_buffer_should_flush_at(buffer, 99, 0.5));
  mg_buffers_close(buffers);
}

#define CHURN_ROUNDS 20000

static void *churn_pressure(void *ctx) {
  for (int i = 0; i < CHURN_ROUNDS; i++)
    mg_buffers_update(ctx, i % 2 == 0 ? 0.95 : 0.1, i);
  return NULL;
}

static void test_threads(void **state) {
  mg_config config = support_config(NULL);
  mg_buffers *buffers = opened(&config);
  mg_buffer *kept = added(buffers, "kept");
  pthread_t thread;

  (void)state;
  assert_int_equal(pthread_create(&thread, NULL, churn_pressure, buffers), 0);
  for (int i = 0; i < CHURN_ROUNDS; i++) {
    mg_buffer *passing = added(buffers, "passing");
    assert_false(mg_buffer_should_flush(kept, 0));
    assert_true(mg_buffer_should_flush(kept, 100000));
    mg_buffers_drop(buffers, passing);
  }
  pthread_join(thread, NULL);
  assert_int_equal(mg_buffers_count(buffers), 1);
  mg_buffers_close(buffers);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_follows_the_pressure),
      cmocka_unit_test(test_a_new_buffer_keeps_its_size_for_a_second),
      cmocka_unit_test(test_a_clock_that_goes_back_grows_nothing),
      cmocka_unit_test(test_configure_moves_sizes_inside),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_statistics),
      cmocka_unit_test(test_asked_with_a_pressure),
      cmocka_unit_test(test_threads)};
  return cmocka_run_group_tests_name("buffer", tests, NULL, NULL);
}
