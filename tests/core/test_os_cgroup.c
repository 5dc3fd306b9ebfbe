/* The reader and the events in a real memory control group, made for the test.
 *
 * Needs a hierarchy in which this user may make groups that count memory. Where
 * there is none the same facts are asserted the other way round: no limit is
 * made up, nothing fails. */
#include "fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os.h"

#define LIMIT_BYTES 134217728u /* 128 MiB */

typedef struct real_group {
  int version;      /* 0: none could be made */
  char base[4096];  /* the group to go back to */
  char outer[4200]; /* limited to LIMIT_BYTES */
  char inner[4300]; /* below outer, limited to twice that */
  char reason[4300];
} real_group;

static real_group group;

static const char *file_of(const char *directory, const char *v1,
                           const char *v2) {
  static char path[4400];

  snprintf(path, sizeof path, "%s/%s", directory, group.version == 1 ? v1 : v2);
  return path;
}

static int set_limit(const char *directory, const char *bytes) {
  return fixture_put(file_of(directory, "memory.limit_in_bytes", "memory.max"),
                     bytes);
}

static int enter(const char *directory) {
  return fixture_put(file_of(directory, "cgroup.procs", "cgroup.procs"), "0");
}

/* A group that held memory a moment ago may be busy for another moment. */
static int remove_group(const char *directory) {
  for (int round = 0; round < 200; round++) {
    if (rmdir(directory) == 0 || errno == ENOENT) return 0;
    usleep(10000);
  }
  return errno;
}

static bool make_group(void) {
  const char *step = "mkdir";
  int error = 0;

  if (mkdir(group.outer, 0755) != 0) {
    error = errno;
  } else {
    step = "set a limit in";
    error = set_limit(group.outer, "134217728");
    /* On v2 a group passes its controller on only when told to. */
    if (error == 0 && group.version == 2)
      error = fixture_put(file_of(group.outer, "", "cgroup.subtree_control"),
                          "+memory");
    if (error == 0 && mkdir(group.inner, 0755) != 0) error = errno;
    if (error == 0) error = set_limit(group.inner, "268435456");
  }
  if (error == 0) return true;
  snprintf(group.reason, sizeof group.reason, "cannot %s %s: %s", step,
           group.outer, strerror(error));
  remove_group(group.inner);
  remove_group(group.outer);
  return false;
}

/* v1: below the group this process is in. v2: a group with processes cannot
 * pass controllers on, so below the mount point. */
static int set_up(void **state) {
  mg__os *os;
  const mg__cgroup *own;
  (void)state;
  if (mg__os_open(&os, "", NULL) != MG_OK) return -1;
  own = mg__os_cgroup(os);
  group.version = own->version;
  snprintf(group.base, sizeof group.base, "%s", own->directory);
  snprintf(group.reason, sizeof group.reason,
           "no memory control group is mounted");
  if (own->version != 0) {
    int bytes =
        own->version == 1 ? (int)strlen(own->directory) : (int)own->top_bytes;
    snprintf(group.outer, sizeof group.outer, "%.*s/memguard-test-%d", bytes,
             own->directory, (int)getpid());
    snprintf(group.inner, sizeof group.inner, "%s/inner", group.outer);
    if (!make_group()) group.version = 0;
  }
  mg__os_close(os);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  if (group.version == 0) return 0;
  return remove_group(group.inner) == 0 && remove_group(group.outer) == 0 ? 0
                                                                          : -1;
}

/* What holds also where no group can be made. */
static void check_without_group(void) {
  mg_reading reading;
  mg__os *os;

  print_message("no control group to test in: %s\n", group.reason);
  assert_int_equal(mg__os_open(&os, "", NULL), MG_OK);
  mg__os_read(os, &reading);
  assert_int_equal(reading.cgroup_used_bytes == MG_ABSENT,
                   reading.cgroup_limit_bytes == MG_ABSENT);
  if (reading.cgroup_limit_bytes != MG_ABSENT)
    assert_true(reading.cgroup_limit_bytes <= reading.machine_total_bytes);
  assert_true(reading.rss_bytes != MG_ABSENT);
  mg__os_close(os);
}

static void run(void (*body)(void *)) {
  if (group.version == 0)
    check_without_group();
  else
    assert_int_equal(fixture_child(body, NULL), 0);
}

/* ---- The limit ----------------------------------------------------------- */

static void find_limit(void *ctx) {
  mg_reading before, after;
  mg__os *os;
  char *block;
  (void)ctx;
  CHECK(enter(group.inner) == 0);
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  CHECK(mg__os_cgroup(os)->version == group.version);
  CHECK(strcmp(mg__os_cgroup(os)->directory, group.inner) == 0);
  CHECK(mg__os_cgroup(os)->count >= 2);
  block = fixture_touch(32u * MIB);
  CHECK(block != NULL);
  mg__os_read(os, &before);
  /* Both hold the same memory, so the smaller limit is nearer. */
  CHECK(before.cgroup_limit_bytes == LIMIT_BYTES);
  CHECK(before.cgroup_limit_bytes < before.machine_total_bytes);
  CHECK(before.cgroup_used_bytes >= 30u * MIB);
  CHECK(before.cgroup_used_bytes <= LIMIT_BYTES);
  fixture_release(block, 32u * MIB);
  block = fixture_touch(64u * MIB);
  CHECK(block != NULL);
  mg__os_read(os, &after);
  CHECK(after.cgroup_used_bytes >= before.cgroup_used_bytes + 28u * MIB);
  fixture_release(block, 64u * MIB);
  mg__os_close(os);
}

static void test_limit_is_found(void **state) {
  (void)state;
  run(find_limit);
}

static void judge_usage(void *ctx) {
  mg_reading reading;
  mg_config config;
  mg_domain domain = MG_DOMAIN_NONE;
  mg__os *os;
  char *block;
  (void)ctx;
  CHECK(enter(group.inner) == 0);
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  block = fixture_touch(64u * MIB);
  CHECK(block != NULL);
  mg__os_read(os, &reading);
  /* max_memory_mb is 2048 by default: the group's 128 MiB are far below. */
  mg_config_init(&config, MG_PROFILE_DEFAULT);
  CHECK(mg_usage(&reading, &config, &domain) >= 0.5);
  CHECK(domain == MG_DOMAIN_CGROUP);
  fixture_release(block, 64u * MIB);
  mg__os_close(os);
}

static void test_group_wins_over_max_memory(void **state) {
  (void)state;
  run(judge_usage);
}

static void change_limit(void *ctx) {
  mg_reading reading;
  mg__os *os;
  char *block;
  (void)ctx;
  CHECK(enter(group.inner) == 0);
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  block = fixture_touch(32u * MIB);
  CHECK(block != NULL);
  CHECK(set_limit(group.inner, "67108864") == 0);
  mg__os_read(os, &reading);
  CHECK(reading.cgroup_limit_bytes == 67108864);
  CHECK(set_limit(group.inner, "268435456") == 0);
  mg__os_read(os, &reading);
  CHECK(reading.cgroup_limit_bytes == LIMIT_BYTES);
  fixture_release(block, 32u * MIB);
  mg__os_close(os);
}

static void test_limit_changes(void **state) {
  (void)state;
  run(change_limit);
}

/* ---- Moving -------------------------------------------------------------- */

static void leave_and_remove(void *ctx) {
  mg_reading reading;
  mg__os *os;
  char *block;
  uint32_t epoch;
  (void)ctx;
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  epoch = mg__os_epoch(os);
  CHECK(enter(group.inner) == 0);
  mg__os_refresh(os);
  CHECK(mg__os_epoch(os) == epoch + 1);
  block = fixture_touch(32u * MIB);
  CHECK(block != NULL);
  mg__os_read(os, &reading);
  CHECK(reading.cgroup_limit_bytes == LIMIT_BYTES);
  fixture_release(block, 32u * MIB);

  /* Gone with its descriptors still open: read as absent, without an error. */
  CHECK(enter(group.base) == 0);
  CHECK(remove_group(group.inner) == 0);
  CHECK(remove_group(group.outer) == 0);
  mg__os_read(os, &reading);
  CHECK(reading.cgroup_limit_bytes != LIMIT_BYTES);
  CHECK(reading.rss_bytes != MG_ABSENT);
  mg__os_refresh(os);
  CHECK(mg__os_epoch(os) == epoch + 2);
  CHECK(strcmp(mg__os_cgroup(os)->directory, group.base) == 0);
  mg__os_read(os, &reading);
  CHECK(reading.cgroup_limit_bytes != LIMIT_BYTES);
  mg__os_close(os);
}

static void test_group_vanishes(void **state) {
  (void)state;
  run(leave_and_remove);
}

/* ---- Events -------------------------------------------------------------- */

static void wait_for_threshold(void *ctx) {
  mg__os_events *events;
  mg__os *os;
  char *block;
  (void)ctx;
  CHECK(unsetenv("MEMORY_PRESSURE_WATCH") == 0);
  CHECK(enter(group.inner) == 0);
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  CHECK(mg__os_events_open(&events, os, 0.5, NULL) == MG_OK);
  if (group.version == 2) {
    /* Past memory.high the kernel raises memory.events. */
    CHECK(mg__os_events_kinds(events) & 2);
    CHECK(fixture_put(file_of(group.inner, "", "memory.high"), "33554432") ==
          0);
  } else {
    CHECK(mg__os_events_kinds(events) & 4);
  }
  CHECK(mg__os_events_wait(events, 0) == MG__WAKE_TIMER);
  block = fixture_touch(96u * MIB); /* 0.75 of the outer limit */
  CHECK(block != NULL);
  CHECK(mg__os_events_wait(events, 30000) == MG__WAKE_KERNEL);
  fixture_release(block, 96u * MIB);
  mg__os_events_close(events);

  /* A group that goes away while it is watched ends nothing. */
  CHECK(mg__os_events_open(&events, os, 0.5, NULL) == MG_OK);
  CHECK(enter(group.base) == 0);
  CHECK(remove_group(group.inner) == 0);
  CHECK(remove_group(group.outer) == 0);
  while (mg__os_events_wait(events, 200) == MG__WAKE_KERNEL)
    continue;
  mg__os_events_wake(events);
  CHECK(mg__os_events_wait(events, -1) == MG__WAKE_ASKED);
  mg__os_events_close(events);
  mg__os_close(os);
}

static void test_threshold_wakes(void **state) {
  (void)state;
  run(wait_for_threshold);
}

/* ---- Notices without news ------------------------------------------------ */

/* cgroup.events of a v2 group, in place of memory.events: the kernel raises it
 * when the first process comes and the last one goes, and no limit is met. */
static void watch_comings(void *ctx) {
  const fixture_tree *tree = ctx;
  mg__os_events *events;
  mg__os *os;
  CHECK(unsetenv("MEMORY_PRESSURE_WATCH") == 0);
  CHECK(mg__os_open(&os, tree->root, NULL) == MG_OK);
  CHECK(mg__os_events_open(&events, os, 0.5, NULL) == MG_OK);
  CHECK(mg__os_events_kinds(events) == 2);
  CHECK(enter(group.outer) == 0);
  CHECK(mg__os_events_wait(events, 100) == MG__WAKE_TIMER);
  CHECK(enter(group.base) == 0);
  CHECK(mg__os_events_wait(events, 100) == MG__WAKE_TIMER);
  CHECK(mg__os_events_kinds(events) == 2);
  /* A group that is gone is ready for ever: dropped. */
  CHECK(remove_group(group.outer) == 0);
  CHECK(mg__os_events_wait(events, 100) == MG__WAKE_TIMER);
  CHECK(mg__os_events_kinds(events) == 0);
  mg__os_events_close(events);
  mg__os_close(os);
}

static void test_notice_without_news(void **state) {
  fixture_tree tree;
  char target[4400];
  mg__os *os;
  int status;
  (void)state;
  assert_int_equal(mg__os_open(&os, "", NULL), MG_OK);
  snprintf(group.base, sizeof group.base, "%s", mg__os_cgroup(os)->unified);
  mg__os_close(os);
  snprintf(group.outer, sizeof group.outer, "%s/memguard-test-%d", group.base,
           (int)getpid());
  if (group.base[0] == '\0' || mkdir(group.outer, 0755) != 0) {
    snprintf(group.reason, sizeof group.reason, "no v2 group can be made");
    check_without_group();
    return;
  }
  fixture_open(&tree);
  fixture_write(&tree, "/proc/self/cgroup", "0::/\n");
  fixture_write(&tree, "/proc/self/mountinfo",
                "41 31 0:38 / /c rw - cgroup2 cgroup2 rw\n");
  fixture_write(&tree, "/c/memory.current", "1\n");
  fixture_write(&tree, "/c/memory.max", "2\n");
  snprintf(target, sizeof target, "%s/cgroup.events", group.outer);
  assert_int_equal(symlink(target, fixture_path(&tree, "/c/memory.events")), 0);
  status = fixture_child(watch_comings, &tree);
  remove_group(group.outer);
  fixture_close(&tree);
  assert_int_equal(status, 0);
}

#define GROUP_TEST(name) \
  cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      GROUP_TEST(test_limit_is_found),
      GROUP_TEST(test_group_wins_over_max_memory),
      GROUP_TEST(test_limit_changes),
      GROUP_TEST(test_group_vanishes),
      GROUP_TEST(test_threshold_wakes),
      cmocka_unit_test(test_notice_without_news),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
