/* test_sampler.c - the sampler's threads: none too many, none left behind, none
 * lost by fork(). */
#include "fixture.h"
#include "monitor_support.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Threads of ours, by name: a sanitizer may run some of its own. */
static int count_threads(void) {
  DIR *tasks = opendir("/proc/self/task");
  const struct dirent *task;
  char path[300], name[32];
  int count = 0;

  assert_non_null(tasks);
  while ((task = readdir(tasks)) != NULL) {
    FILE *comm;
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    comm = fopen(path, "r");
    if (comm == NULL) continue;
    if (fgets(name, sizeof name, comm) != NULL &&
        strncmp(name, "memguard", 8) == 0)
      count++;
    fclose(comm);
  }
  closedir(tasks);
  return count;
}

/* A joined thread may be listed for a moment longer. */
static bool threads_become(int expected) {
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    if (count_threads() == expected) return true;
    sleep_ms(5);
  }
  return false;
}

static void test_background_sampling(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  uint64_t stopped_at;

  (void)state;
  start(monitor);
  start(monitor);
  assert_true(mg_monitor_is_running(monitor));
  assert_true(threads_become(1));
  assert_true(reaches(monitor, 5));
  mg_monitor_stop(monitor);
  mg_monitor_stop(monitor);
  assert_false(mg_monitor_is_running(monitor));
  assert_true(threads_become(0));
  stopped_at = number_of(monitor);
  sleep_ms(50);
  assert_int_equal(number_of(monitor), stopped_at);
  start(monitor);
  assert_true(reaches(monitor, stopped_at + 2));
  mg_monitor_close(monitor);
  assert_true(threads_become(0));
}

static void test_one_thread_serves_many(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor[20];

  (void)state;
  for (int i = 0; i < 20; i++) start(monitor[i] = opened(&config, NULL));
  assert_true(threads_become(1));
  for (int i = 0; i < 20; i++) assert_true(reaches(monitor[i], 2));
  for (int i = 0; i < 20; i++) mg_monitor_close(monitor[i]);
  assert_true(threads_become(0));
}

/* ---- hooks and threads --------------------------------------------------- */

typedef struct hook_counts {
  _Atomic int wakes, deliveries;
  _Atomic(mg_monitor *) monitor;
} hook_counts;

static void count_wake(void *ctx) { ((hook_counts *)ctx)->wakes++; }

static void count_delivery(void *ctx) {
  hook_counts *counts = ctx;
  mg_event event;

  while (mg_monitor_next_event(counts->monitor, &event)) counts->deliveries++;
}

static int count_descriptors(void) {
  DIR *descriptors = opendir("/proc/self/fd");
  int count = 0;

  assert_non_null(descriptors);
  while (readdir(descriptors) != NULL) count++;
  closedir(descriptors);
  return count;
}

static void test_no_descriptor_stays(void **state) {
  mg_config config = support_config(NULL);
  mg_monitor *monitor = opened(&config, NULL);
  int before = count_descriptors();

  (void)state;
  for (int round = 0; round < 3; round++) {
    start(monitor);
    assert_true(reaches(monitor, number_of(monitor) + 1));
    assert_true(count_descriptors() > before);
    mg_monitor_stop(monitor);
    assert_int_equal(count_descriptors(), before);
  }
  assert_true(mg_rss_bytes() != MG_ABSENT);
  mg_monitor_close(monitor);
  assert_int_equal(count_descriptors(), before);
}

static void test_hooks(void **state) {
  mg_config config = support_config("sample_interval", "10ms",
                                    "background_callbacks", "true", NULL);
  hook_counts counts = {0};
  mg_monitor_hooks hooks = {count_wake, count_delivery, &counts};
  mg_monitor *monitor = opened(&config, &hooks);

  (void)state;
  counts.monitor = monitor;
  start(monitor);
  for (int waited = 0; waited < LONGEST_WAIT_MS && counts.deliveries < 2;
       waited += 5)
    sleep_ms(5);
  mg_monitor_close(monitor);
  assert_true(counts.wakes >= 1);
  assert_true(counts.deliveries >= 2);
  assert_true(threads_become(0));
}

static void count_tick(void *ctx) { ((hook_counts *)ctx)->wakes++; }

static void test_ticks(void **state) {
  mg_config config = support_config("sample_interval", "1h", NULL);
  hook_counts counts = {0}, none = {0};
  mg_monitor_hooks hooks = {NULL, NULL, &counts};
  mg_monitor_hooks other_hooks = {NULL, NULL, &none};
  mg_monitor *monitor = opened(&config, &hooks);
  mg_monitor *other = opened(&config, &other_hooks);
  int before;

  (void)state;
  mg_monitor_set_tick(monitor, count_tick, 10);
  sleep_ms(30);
  assert_int_equal(counts.wakes, 0); /* not while it does not run */
  start(monitor);
  start(other);
  for (int waited = 0; waited < LONGEST_WAIT_MS && counts.wakes < 3; waited += 5)
    sleep_ms(5);
  assert_true(counts.wakes >= 3);
  mg_monitor_stop(monitor);
  start(monitor); /* the worker was joined or is over with the last one */
  mg_monitor_set_tick(monitor, NULL, 0);
  sleep_ms(30); /* for one under way */
  before = counts.wakes;
  sleep_ms(60);
  assert_int_equal(counts.wakes, before);
  assert_int_equal(none.wakes, 0);
  mg_monitor_close(monitor);
  mg_monitor_close(other);
  assert_true(threads_become(0));
}

static _Atomic bool churn_over;

static void *churn_reader(void *ctx) {
  uint64_t last = 0;
  mg_sample s;

  while (!churn_over) {
    mg_monitor_latest(ctx, &s);
    assert_true(s.number >= last); /* never torn, never backwards */
    assert_true(s.number == 0 || s.peak_rss_bytes >= s.reading.rss_bytes);
    last = s.number;
  }
  return NULL;
}

static void *churn_lives(void *ctx) {
  mg_config config = support_config("sample_interval", "10ms", NULL);

  (void)ctx;
  for (int i = 0; i < 100; i++) {
    mg_monitor *monitor = opened(&config, NULL);
    start(monitor);
    mg_monitor_pass(monitor, true, NULL);
    mg_monitor_close(monitor);
  }
  return NULL;
}

static void test_threads(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  pthread_t reader, lives[2];
  mg_event event;

  (void)state;
  churn_over = false;
  start(monitor);
  assert_int_equal(pthread_create(&reader, NULL, churn_reader, monitor), 0);
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&lives[i], NULL, churn_lives, NULL), 0);
  for (int i = 0; i < 500; i++) {
    mg_heap heap = {(uint64_t)i, 1000, 2000, 0, 0};
    mg_monitor_set_heap(monitor, &heap);
    mg_monitor_pass(monitor, i % 10 == 0, NULL);
    while (mg_monitor_next_event(monitor, &event)) {
    }
  }
  for (int i = 0; i < 2; i++) pthread_join(lives[i], NULL);
  churn_over = true;
  pthread_join(reader, NULL);
  mg_monitor_close(monitor);
}

/* ---- fork ---------------------------------------------------------------- */

static void expect_child_passes(pid_t child) {
  int status = 0;

  assert_true(child > 0);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_fork_with_hooks(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  uint64_t number;
  pid_t child;

  (void)state;
  start(monitor);
  assert_true(reaches(monitor, 2));
  mg_fork_prepare();
  assert_true(threads_become(0));
  child = fork();
  if (child == 0) {
    const char *block;
    uint64_t small;
    mg_fork_child();
    number = number_of(monitor);
    if (!reaches(monitor, number + 3)) fixture_leave(1);
    small = mg_rss_bytes();
    block = touched(64 * MB);
    if (mg_rss_bytes() < small + 60 * MB) fixture_leave(2); /* its own, not the parent's */
    mg_monitor_close(monitor);
    fixture_leave(threads_become(0) && block[MB] == 1 ? 0 : 3);
  }
  mg_fork_parent();
  number = number_of(monitor);
  assert_true(reaches(monitor, number + 3));
  expect_child_passes(child);
  mg_monitor_close(monitor);
}

static void test_fork_without_hooks(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  pid_t child;

  (void)state;
  start(monitor);
  assert_true(reaches(monitor, 2));
  child = fork();
  if (child == 0) {
    uint64_t number = number_of(monitor);
    if (!threads_become(0)) fixture_leave(1);
    mg_monitor_pass(monitor, true, NULL);
    if (number_of(monitor) != number + 1) fixture_leave(2);
#if !defined(__SANITIZE_THREAD__) /* cannot follow a thread made after fork */
    if (mg_monitor_start(monitor, NULL) != MG_OK) fixture_leave(3);
    if (!reaches(monitor, number + 4)) fixture_leave(4);
#endif
    mg_monitor_close(monitor);
    fixture_leave(threads_become(0) ? 0 : 5);
  }
  expect_child_passes(child);
  mg_monitor_close(monitor);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_background_sampling),
      cmocka_unit_test(test_one_thread_serves_many),
      cmocka_unit_test(test_no_descriptor_stays),
      cmocka_unit_test(test_hooks),
      cmocka_unit_test(test_ticks),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_fork_with_hooks),
      cmocka_unit_test(test_fork_without_hooks)};
  return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
