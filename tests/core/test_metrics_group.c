/* test_metrics_group.c - metrics of processes that were started together: real
 * children, one of them in a group of its own. */
#include "segment_support.h"

#include <signal.h>
#include <sys/wait.h>

#include "fixture.h"
#include "memguard/metrics.h"
#include "memguard/process.h"

typedef struct seen {
  int count;
  long pid[8];
} seen;

static bool note_up(void *ctx, const mg_metrics_point *point) {
  seen *all = ctx;

  if (point->metric == MG_METRIC_UP && all->count < 8)
    all->pid[all->count++] = strtol(point->label[0].value, NULL, 10);
  return true;
}

static seen told(void) {
  mg_error err = MG_ERROR_INIT;
  seen all = {0, {0}};

  assert_ok(mg_metrics_each_group(MG_METRICS_CANONICAL, note_up, &all, &err),
            &err);
  return all;
}

/* A process that shows itself until it is killed; it says so through a pipe. */
static pid_t started(bool has_own_group) {
  int ends[2];
  char ready;
  pid_t child;

  assert_int_equal(pipe(ends), 0);
  mg_fork_prepare();
  child = fork();
  if (child == 0) {
    mg_config config = support_config("sample_interval", "10ms", NULL);
    mg_monitor *monitor;
    mg_fork_child();
    if (has_own_group) setpgid(0, 0);
    if (mg_monitor_open(&monitor, &config, NULL, NULL) != MG_OK ||
        mg_monitor_start(monitor, NULL) != MG_OK || segment_awaited() == NULL ||
        write(ends[1], "r", 1) != 1)
      fixture_leave(1);
    for (;;) pause();
  }
  mg_fork_parent();
  assert_true(child > 0);
  assert_int_equal(read(ends[0], &ready, 1), 1);
  close(ends[0]);
  close(ends[1]);
  return child;
}

static void ended(pid_t child) {
  kill(child, SIGKILL);
  assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_children(void **state) {
  pid_t mine = started(false), other = started(true);
  seen all = told();
  (void)state;

  assert_int_equal(all.count, 2);
  assert_int_equal(all.pid[0], getpid());
  assert_int_equal(all.pid[1], mine);
  ended(mine);
  all = told(); /* what it left behind is no process */
  assert_int_equal(all.count, 1);
  assert_int_equal(all.pid[0], getpid());
  ended(other);
}

static void test_no_memory(void **state) {
  mg_error err = MG_ERROR_INIT;
  long index = 0;
  mg_status st;
  (void)state;

  do {
    seen all = {0, {0}};
    fixture_fail_allocation(index++);
    st = mg_metrics_each_group(MG_METRICS_ALL, note_up, &all, &err);
    if (st != MG_OK) assert_int_equal(st, MG_ENOMEM);
  } while (fixture_allocation_failed());
  assert_int_equal(st, MG_OK);
  assert_true(index > 4);
}

static void test_no_directory(void **state) {
  (void)state;
  setenv("MEMGUARD_DIR", "relative", 1);
  assert_int_equal(told().count, 1);
  setenv("MEMGUARD_DIR", "/proc/nowhere", 1);
  assert_int_equal(told().count, 1);
  setenv("MEMGUARD_DIR", segment_directory, 1);
}

static void test_no_group(void **state) {
  mg_error err = MG_ERROR_INIT;
  seen all = {0, {0}};

  (void)state;
  assert_int_equal(mg_metrics_each_group(0, note_up, &all, &err), MG_EINVAL);
  assert_int_equal(all.count, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_children, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_no_memory, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_no_directory, segment_setup,
                                      segment_teardown),
      cmocka_unit_test_setup_teardown(test_no_group, segment_setup,
                                      segment_teardown)};

  return cmocka_run_group_tests_name("metrics_group", tests, NULL, NULL);
}
