/* test_pause.c - none lost, quantiles within a step, seconds, concurrent reads. */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "memguard/pause.h"

#define MS 1000000u
#define SECOND 1000000000u

static mg_pauses *opened_pauses(void) {
  mg_error err = MG_ERROR_INIT;
  mg_pauses *pauses;

  assert_ok(mg_pauses_open(&pauses, &err), &err);
  return pauses;
}

static void record(mg_pauses *pauses, uint32_t kind, uint64_t began_ns,
                   uint64_t wall_ns) {
  mg_pause pause = {0, began_ns, wall_ns, wall_ns / 2, 3, kind};

  mg_pauses_record(pauses, &pause);
}

static void test_nothing_yet(void **state) {
  mg_pauses *pauses = opened_pauses();
  mg_pause_stats stats;
  mg_pause event;

  (void)state;
  mg_pauses_read(pauses, 0, &stats);
  assert_int_equal(stats.count, 0);
  assert_int_equal(stats.p95_ns, 0);
  assert_int_equal(mg_pauses_events(pauses, 0, &event, 1), 0);
  assert_int_equal(mg_pauses_seconds(pauses, 5000 * (uint64_t)SECOND, 60, 0.95),
                   0);
  mg_pauses_close(pauses);
  mg_pauses_close(NULL);
}

static void test_totals_are_exact(void **state) {
  mg_pauses *pauses = opened_pauses();
  mg_pause_stats stats;

  (void)state;
  record(pauses, 0, 1000, 100);
  record(pauses, 2, 2000, 70 * MS);
  record(pauses, 2, 3000, 30 * MS);
  mg_pauses_read(pauses, 2, &stats);
  assert_int_equal(stats.count, 2);
  assert_int_equal(stats.wall_ns, 100 * MS);
  assert_int_equal(stats.cpu_ns, 50 * MS);
  assert_int_equal(stats.collected, 6);
  assert_int_equal(stats.max_ns, 70 * MS);
  assert_int_equal(stats.last_ns, 30 * MS);
  mg_pauses_read(pauses, MG_PAUSE_KINDS, &stats);
  assert_int_equal(stats.count, 3);
  assert_int_equal(stats.wall_ns, 100 * MS + 100);
  assert_int_equal(stats.last_ns, 30 * MS);
  assert_int_equal(mg_pauses_count(pauses), 3);
  mg_pauses_close(pauses);
}

static void test_quantiles_are_within_a_step(void **state) {
  mg_pauses *pauses = opened_pauses();
  mg_pause_stats stats;

  (void)state;
  for (uint64_t i = 1; i <= 1000; i++) record(pauses, 1, i, i * 100000);
  mg_pauses_read(pauses, 1, &stats);
  assert_in_range(stats.p50_ns, 50 * MS, 53200000);   /* truth: 50.0 ms */
  assert_in_range(stats.p95_ns, 95 * MS, 100 * MS);   /* truth: 95.0 ms */
  assert_in_range(stats.p99_ns, 99 * MS, 100 * MS);   /* truth: 99.0 ms */
  assert_int_equal(stats.max_ns, 100 * MS);
  mg_pauses_close(pauses);
}

static void test_extremes_have_a_place(void **state) {
  mg_pauses *pauses = opened_pauses();
  mg_pause_stats stats;

  (void)state;
  record(pauses, 0, 0, 0);
  record(pauses, 0, 0, UINT64_MAX - 1);
  record(pauses, 4000000000u, 0, 5);
  mg_pauses_read(pauses, 0, &stats);
  assert_int_equal(stats.count, 2);
  assert_int_equal(stats.max_ns, UINT64_MAX - 1);
  mg_pauses_read(pauses, MG_PAUSE_KINDS - 1, &stats);
  assert_int_equal(stats.count, 1);
  mg_pauses_close(pauses);
}

static void test_unmeasured_adds_nothing(void **state) {
  mg_pauses *pauses = opened_pauses();
  mg_pause pause = {0, 1, 10, MG_ABSENT, MG_ABSENT, 0};
  mg_pause_stats stats;

  (void)state;
  mg_pauses_record(pauses, &pause);
  mg_pauses_read(pauses, 0, &stats);
  assert_int_equal(stats.cpu_ns, 0);
  assert_int_equal(stats.collected, 0);
  mg_pauses_close(pauses);
}

static void test_events_are_the_newest_in_order(void **state) {
  mg_pauses *pauses = opened_pauses();
  mg_pause event[300];

  (void)state;
  for (uint64_t i = 1; i <= 1000; i++) record(pauses, 0, i, 7);
  assert_int_equal(mg_pauses_events(pauses, 0, event, 300), 256);
  assert_int_equal(event[0].number, 745);
  assert_int_equal(event[255].number, 1000);
  assert_int_equal(event[255].began_ns, 1000);
  assert_int_equal(mg_pauses_events(pauses, 998, event, 300), 2);
  assert_int_equal(event[0].number, 999);
  assert_int_equal(mg_pauses_events(pauses, 1000, event, 300), 0);
  assert_int_equal(mg_pauses_events(pauses, 0, event, 1), 1);
  assert_int_equal(event[0].number, 1000);
  mg_pauses_close(pauses);
}

static void test_longest_of_each_second(void **state) {
  mg_pauses *pauses = opened_pauses();
  uint64_t start = 5000;

  (void)state;
  /* 100 seconds of a thousand tiny pauses each; in five of them a long one. */
  for (uint64_t s = 0; s < 100; s++) {
    for (uint64_t i = 0; i < 1000; i++)
      record(pauses, 0, (start + s) * SECOND + i * MS, 50000);
    if (s % 20 == 0) record(pauses, 2, (start + s) * SECOND + 1, 150 * MS);
  }
  assert_int_equal(
      mg_pauses_seconds(pauses, (start + 100) * SECOND, 100, 0.95), 50000);
  assert_int_equal(
      mg_pauses_seconds(pauses, (start + 100) * SECOND, 100, 0.96), 150 * MS);
  assert_int_equal(
      mg_pauses_seconds(pauses, (start + 100) * SECOND, 19, 1.0), 50000);
  assert_int_equal(
      mg_pauses_seconds(pauses, (start + 100) * SECOND, 20, 1.0), 150 * MS);
  /* ten quiet minutes later nothing of it is in the window */
  assert_int_equal(
      mg_pauses_seconds(pauses, (start + 700) * SECOND, 100, 1.0), 0);
  mg_pauses_close(pauses);
}

static _Atomic bool reading_over;

static void *read_on(void *ctx) {
  mg_pause event[MG_PAUSE_EVENTS];
  mg_pause_stats stats;

  while (!reading_over) {
    size_t count = mg_pauses_events(ctx, 0, event, MG_PAUSE_EVENTS);
    for (size_t i = 0; i < count; i++) {
      /* one writer's record is whole: its parts fit together */
      assert_int_equal(event[i].began_ns, event[i].number * 10);
      assert_int_equal(event[i].wall_ns, event[i].number * 3);
    }
    mg_pauses_read(ctx, MG_PAUSE_KINDS, &stats);
    assert_true(stats.p99_ns <= stats.max_ns);
  }
  return NULL;
}

static void test_read_while_recording(void **state) {
  mg_pauses *pauses = opened_pauses();
  pthread_t reader;

  (void)state;
  reading_over = false;
  assert_int_equal(pthread_create(&reader, NULL, read_on, pauses), 0);
  for (uint64_t i = 1; i <= 200000; i++)
    record(pauses, (uint32_t)(i % 3), i * 10, i * 3);
  reading_over = true;
  pthread_join(reader, NULL);
  assert_int_equal(mg_pauses_count(pauses), 200000);
  mg_pauses_close(pauses);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_nothing_yet),
      cmocka_unit_test(test_totals_are_exact),
      cmocka_unit_test(test_quantiles_are_within_a_step),
      cmocka_unit_test(test_extremes_have_a_place),
      cmocka_unit_test(test_unmeasured_adds_nothing),
      cmocka_unit_test(test_events_are_the_newest_in_order),
      cmocka_unit_test(test_longest_of_each_second),
      cmocka_unit_test(test_read_while_recording)};
  return cmocka_run_group_tests_name("pause", tests, NULL, NULL);
}
