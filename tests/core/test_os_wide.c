/* The wide reading, from a copy of its source made here: the test sees the
 * parts and can look for a library that does not exist. */
#include "fixture.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os.h"

#define mg_read_process_info own_read_process_info
#include "os/linux_wide.c"
#undef mg_read_process_info

/* libproc2 does not free what it allocated for threads that ended;
 * test_many_threads() shows that only a few ever ask it. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
  return "leak:libproc2";
}

/* test_fork() has children that inherit a thread nobody can join there. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
  return "report_thread_leaks=0";
}

static mg_process_info read_info(void) {
  mg_error err = MG_ERROR_INIT;
  mg_process_info info;
  mg_status st = own_read_process_info(&info, &err);

  if (st != MG_OK) fail_msg("%s: %s", mg_status_name(st), err.text);
  return info;
}

static void test_numbers(void **state) {
  mg_process_info info = read_info();
  mg_reading reading;
  uint64_t sum =
      info.rss_anonymous_bytes + info.rss_file_bytes + info.rss_shared_bytes;
  mg__os *os;
  (void)state;
  assert_int_equal(mg__os_open(&os, "", NULL), MG_OK);
  mg__os_read(os, &reading);
  mg__os_close(os);
#define CHECK_THERE(field, doc) assert_true(info.field != MG_ABSENT);
  MG_PROCESS_MAP(CHECK_THERE)
#undef CHECK_THERE
  assert_int_equal(info.machine_total_bytes, reading.machine_total_bytes);
  assert_true(info.machine_available_bytes <= info.machine_total_bytes);
  assert_true(info.machine_swap_free_bytes <= info.machine_swap_total_bytes);
  assert_int_equal(info.threads, reading.thread_count);
  /* Taken one after the other. */
  assert_true(sum <= reading.rss_bytes + 16u * MIB);
  assert_true(reading.rss_bytes <= sum + 16u * MIB);
  assert_true(info.rss_peak_bytes + MIB >= sum);
}

static void test_they_follow(void **state) {
  mg_process_info before = read_info(), grown, shrunk;
  char *block = fixture_touch(64u * MIB);
  (void)state;
  assert_non_null(block);
  grown = read_info();
  fixture_release(block, 64u * MIB);
  shrunk = read_info();
  assert_true(grown.rss_anonymous_bytes >=
              before.rss_anonymous_bytes + 60u * MIB);
  assert_true(grown.minor_faults > before.minor_faults);
  assert_true(grown.rss_peak_bytes >= before.rss_anonymous_bytes + 60u * MIB);
  assert_true(shrunk.rss_anonymous_bytes <=
              grown.rss_anonymous_bytes - 60u * MIB);
  /* The kernel takes the peak from counters that lag a little. */
  assert_true(shrunk.rss_peak_bytes + MIB >= grown.rss_peak_bytes);
  assert_true(shrunk.cpu_ms >= before.cpu_ms);
}

static void read_often(void *ctx) {
  int *failures = ctx;

  for (int round = 0; round < 50; round++) {
    mg_process_info info;
    if (own_read_process_info(&info, NULL) != MG_OK) (*failures)++;
    if (info.threads < 2) (*failures)++;
  }
}

static void test_threads(void **state) {
  mg__thread threads[4];
  int failures[4] = {0};
  (void)state;
  for (int index = 0; index < 4; index++)
    assert_int_equal(mg__thread_start(&threads[index], "wide", 0, read_often,
                                      &failures[index], NULL),
                     MG_OK);
  for (int index = 0; index < 4; index++) {
    mg__thread_join(&threads[index]);
    assert_int_equal(failures[index], 0);
  }
}

static void read_in_child(void *ctx) {
  const mg_process_info *parents = ctx;
  mg_process_info info;
  char *block = fixture_touch(64u * MIB);

  CHECK(block != NULL);
  CHECK(own_read_process_info(&info, NULL) == MG_OK);
  CHECK(info.threads == 1 || info.threads == 2 /* a sanitizer's */);
  CHECK(info.rss_anonymous_bytes >=
        parents->rss_anonymous_bytes / 2 + 32u * MIB);
  fixture_release(block, 64u * MIB);
}

static void read_slowly(void *ctx) {
  atomic_bool *reading = ctx;

  wide_take();
  atomic_store(reading, true);
  usleep(50000);
  wide_give();
}

static void test_fork(void **state) {
  mg_process_info info = read_info();
  atomic_bool reading = false;
  mg__thread thread;
  (void)state;
  assert_int_equal(fixture_child(read_in_child, &info), 0);
  /* In the middle of another thread's reading. */
  assert_int_equal(
      mg__thread_start(&thread, "wide", 0, read_slowly, &reading, NULL), MG_OK);
  while (!atomic_load(&reading))
    usleep(100);
  assert_int_equal(fixture_child(read_in_child, &info), 0);
  mg__thread_join(&thread);
}

static void read_once(void *ctx) {
  *(mg_process_info *)ctx = read_info();
}

static void test_many_threads(void **state) {
  mg_process_info info = {.threads = 0};
  (void)state;
  for (int round = 0; round < 50; round++) {
    mg__thread thread;
    assert_int_equal(
        mg__thread_start(&thread, "one of many", 0, read_once, &info, NULL),
        MG_OK);
    mg__thread_join(&thread);
    assert_true(info.threads >= 2 && info.threads != MG_ABSENT);
  }
  assert_int_equal(wide_threads, 8);
}

/* The two ways to the process's numbers lead to the same. */
static void test_files_agree(void **state) {
  mg_process_info through, files = {.threads = 0};
  (void)state;
  wide_may_ask = true;
  through = read_info();
  wide_read_process_files(&files);
  assert_true(files.rss_anonymous_bytes <= through.rss_anonymous_bytes + MIB);
  assert_true(through.rss_anonymous_bytes <= files.rss_anonymous_bytes + MIB);
  assert_true(files.rss_file_bytes <= through.rss_file_bytes + MIB);
  assert_true(through.rss_file_bytes <= files.rss_file_bytes + MIB);
  assert_int_equal(files.rss_shared_bytes, through.rss_shared_bytes);
  assert_int_equal(files.swap_bytes, through.swap_bytes);
  assert_int_equal(files.locked_bytes, through.locked_bytes);
  assert_int_equal(files.threads, through.threads);
  assert_true(files.minor_faults >= through.minor_faults);
  assert_true(files.minor_faults <= through.minor_faults + 2000);
  assert_true(files.major_faults <= through.major_faults + 100);
  assert_true(files.cpu_ms + 20 >= through.cpu_ms); /* a tick is 10 ms */
}

static void test_library_absent(void **state) {
  const size_t count = sizeof wide_sonames / sizeof wide_sonames[0];
  const char *names[sizeof wide_sonames / sizeof wide_sonames[0]];
  mg_error err = MG_ERROR_INIT;
  mg_process_info info;
  (void)state;
  memcpy(names, wide_sonames, sizeof names);
  for (size_t index = 0; index < count; index++)
    wide_sonames[index] = "libproc2-that-is-not-there.so.0";
  memset(&info, 0, sizeof info);
  assert_int_equal(own_read_process_info(&info, &err), MG_EABSENT);
  assert_int_equal(err.status, MG_EABSENT);
  assert_non_null(strstr(err.text, "libproc2 cannot be loaded"));
  assert_non_null(strstr(err.text, "install libproc2-0"));
#define CHECK_ABSENT(field, doc) assert_int_equal(info.field, MG_ABSENT);
  MG_PROCESS_MAP(CHECK_ABSENT)
#undef CHECK_ABSENT
  assert_int_equal(own_read_process_info(&info, NULL), MG_EABSENT);
  /* Once it is there, it is found. */
  memcpy(wide_sonames, names, sizeof names);
  assert_int_equal(own_read_process_info(&info, &err), MG_OK);
}

/* What a libproc2 with other numbers would answer. */
static void test_foreign_numbers(void **state) {
  struct pids_result good[WIDE_PIDS_ITEMS], value[WIDE_PIDS_ITEMS];
  (void)state;
  memset(good, 0, sizeof good);
  good[WIDE_PIDS_PID].result.s_int = (int)getpid();
  good[WIDE_PIDS_RSS].result.ul_int = 60;
  good[WIDE_PIDS_RSS_ANON].result.ul_int = 10;
  good[WIDE_PIDS_RSS_FILE].result.ul_int = 20;
  good[WIDE_PIDS_RSS_SHARED].result.ul_int = 30;
  good[WIDE_PIDS_SWAP].result.ul_int = 7;
  good[WIDE_PIDS_RSS_AND_SWAP].result.ul_int = 67;
  good[WIDE_PIDS_THREADS].result.s_int = 1;
  assert_true(wide_process_fits(good));

  memcpy(value, good, sizeof good);
  value[WIDE_PIDS_PID].result.s_int++;
  assert_false(wide_process_fits(value));
  memcpy(value, good, sizeof good);
  value[WIDE_PIDS_RSS_SHARED].result.ul_int = 31;
  assert_false(wide_process_fits(value));
  memcpy(value, good, sizeof good);
  value[WIDE_PIDS_SWAP].result.ul_int = 0;
  assert_false(wide_process_fits(value));
  memcpy(value, good, sizeof good);
  value[WIDE_PIDS_THREADS].result.s_int = 0;
  assert_false(wide_process_fits(value));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_library_absent),
      cmocka_unit_test(test_foreign_numbers),
      cmocka_unit_test(test_numbers),
      cmocka_unit_test(test_they_follow),
      cmocka_unit_test(test_files_agree),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_many_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
