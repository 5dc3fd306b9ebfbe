/* test_history.c - the ring keeps the newest samples in order. */
#include "support.h"

#include <string.h>

static mg_sample numbered(uint64_t number) {
  mg_sample sample;

  memset(&sample, 0, sizeof sample);
  sample.number = number;
  return sample;
}

static void add(mg_history *history, uint64_t first, uint64_t last) {
  for (uint64_t number = first; number <= last; number++) {
    mg_sample sample = numbered(number);
    mg_history_add(history, &sample);
  }
}

static void expect_numbers(const mg_history *history, uint64_t first,
                           uint64_t last) {
  assert_int_equal(mg_history_count(history), last - first + 1);
  for (uint64_t number = first; number <= last; number++)
    assert_int_equal(mg_history_at(history, (size_t)(number - first))->number,
                     number);
  assert_null(mg_history_at(history, (size_t)(last - first + 1)));
}

static mg_history *opened(size_t capacity) {
  mg_error err = MG_ERROR_INIT;
  mg_history *history;

  assert_ok(mg_history_open(&history, capacity, &err), &err);
  return history;
}

static void test_empty(void **state) {
  mg_history *history = opened(3);

  (void)state;
  assert_int_equal(mg_history_count(history), 0);
  assert_null(mg_history_at(history, 0));
  mg_history_close(history);
  mg_history_close(NULL);
}

static void test_wraps(void **state) {
  mg_history *history = opened(3);

  (void)state;
  add(history, 1, 2);
  expect_numbers(history, 1, 2);
  assert_int_equal(mg_history_dropped(history), 0);
  add(history, 3, 8);
  expect_numbers(history, 6, 8);
  assert_int_equal(mg_history_dropped(history), 5);
  mg_history_clear(history);
  assert_int_equal(mg_history_count(history), 0);
  assert_int_equal(mg_history_dropped(history), 0);
  add(history, 9, 9);
  expect_numbers(history, 9, 9);
  mg_history_close(history);
}

static void test_resize_keeps_the_newest(void **state) {
  mg_history *history = opened(5);
  mg_error err = MG_ERROR_INIT;

  (void)state;
  add(history, 1, 7);
  assert_ok(mg_history_resize(history, 2, &err), &err);
  expect_numbers(history, 6, 7);
  assert_int_equal(mg_history_dropped(history), 5);
  assert_ok(mg_history_resize(history, 4, &err), &err);
  add(history, 8, 9);
  expect_numbers(history, 6, 9);
  add(history, 10, 10);
  expect_numbers(history, 7, 10);
  mg_history_close(history);
}

static void test_capacity_is_bounded(void **state) {
  mg_history *history;
  mg_error err = MG_ERROR_INIT;

  (void)state;
  assert_int_equal(mg_history_open(&history, 0, &err), MG_ERANGE);
  assert_null(history);
  assert_string_equal(err.text, "history of 0 samples, allowed: 1 to 100000");
  assert_int_equal(mg_history_open(&history, 100001, NULL), MG_ERANGE);
  history = opened(1);
  assert_int_equal(mg_history_resize(history, 0, &err), MG_ERANGE);
  add(history, 1, 2);
  expect_numbers(history, 2, 2);
  mg_history_close(history);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty), cmocka_unit_test(test_wraps),
      cmocka_unit_test(test_resize_keeps_the_newest),
      cmocka_unit_test(test_capacity_is_bounded)};
  return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
