/* The reader on directory trees that stand for other machines: control groups
 * v1, v2 and hybrid, nested, namespaced, bind-mounted, incomplete, changing. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os.h"

static fixture_tree tree;

static int set_up(void **state) {
  (void)state;
  fixture_open(&tree);
  fixture_write(&tree, "/proc/meminfo",
                "MemTotal:       1048576 kB\nMemFree: 1 kB\n"
                "MemAvailable:    262144 kB\n");
  fixture_write(&tree, "/proc/self/statm", "1000 200 50 10 0 300 0\n");
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  fixture_close(&tree);
  return 0;
}

/* One v2 or v1 group; NULL: no such file. */
static void write_group(const char *directory, int version, const char *usage,
                        const char *limit, const char *stat) {
  static const char *const names[2][3] = {
      {"memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat"},
      {"memory.current", "memory.max", "memory.stat"}};
  const char *texts[3] = {usage, limit, stat};
  char path[512];

  for (int file = 0; file < 3; file++) {
    snprintf(path, sizeof path, "%s/%s", directory, names[version - 1][file]);
    if (texts[file] != NULL) fixture_write(&tree, path, texts[file]);
  }
}

static void write_self(const char *groups, const char *mounts) {
  fixture_write(&tree, "/proc/self/cgroup", groups);
  fixture_write(&tree, "/proc/self/mountinfo", mounts);
}

static mg_reading read_once(void) {
  mg_reading reading;
  mg__os *os;

  assert_int_equal(mg__os_open(&os, tree.root, NULL), MG_OK);
  mg__os_read(os, &reading);
  mg__os_close(os);
  return reading;
}

static void check_group(uint64_t used, uint64_t limit) {
  mg_reading reading = read_once();

  assert_int_equal(reading.cgroup_used_bytes, used);
  assert_int_equal(reading.cgroup_limit_bytes, limit);
}

#define V2_MOUNT "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
#define V1_MOUNT \
  "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
#define HYBRID_MOUNT \
  V1_MOUNT "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
#define UNLIMITED "9223372036854771712\n"

static void test_process_numbers(void **state) {
  mg_reading reading = read_once();
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  (void)state;
  assert_int_equal(reading.rss_bytes, 200 * page);
  assert_int_equal(reading.shared_bytes, 50 * page);
  assert_int_equal(reading.virtual_bytes, 1000 * page);
  assert_int_equal(reading.data_bytes, 300 * page);
  assert_int_equal(reading.machine_total_bytes, 1073741824);
  assert_int_equal(reading.machine_available_bytes, 268435456);
  assert_int_equal(reading.cgroup_used_bytes, MG_ABSENT);
  assert_int_equal(reading.cgroup_limit_bytes, MG_ABSENT);
  assert_int_equal(reading.stall_total_us, MG_ABSENT);
  assert_int_equal(reading.fd_count, MG_ABSENT);
  assert_int_equal(reading.thread_count, MG_ABSENT);
  assert_int_equal(reading.heap_used_bytes, MG_ABSENT);
  assert_int_equal(reading.heap_limit_bytes, MG_ABSENT);
}

static void test_counts_entries(void **state) {
  mg_reading reading;
  (void)state;
  fixture_write(&tree, "/proc/self/fd/0", "");
  fixture_write(&tree, "/proc/self/fd/1", "");
  fixture_write(&tree, "/proc/self/fd/17", "");
  fixture_write(&tree, "/proc/self/task/100/comm", "");
  fixture_write(&tree, "/proc/self/task/101/comm", "");
  reading = read_once();
  /* Not /proc, so the directory's size is not the count. */
  assert_int_equal(reading.fd_count, 3);
  assert_true(reading.thread_count == 2 ||
              reading.thread_count ==
                  MG_ABSENT /* btrfs links no directories */);
}

static void test_v2(void **state) {
  (void)state;
  write_self("0::/app.slice/job\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/app.slice/job", 2, "100000\n", "200000\n",
              "anon 1\nfile 40000\nactive_file 10000\ninactive_file 20000\n"
              "slab_reclaimable 5000\n");
  check_group(65000, 200000);
}

static void test_v2_high_below_max(void **state) {
  (void)state;
  write_self("0::/job\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/job", 2, "100000", "200000", "active_file 1\n");
  fixture_write(&tree, "/sys/fs/cgroup/job/memory.high", "150000\n");
  check_group(99999, 150000);
  fixture_write(&tree, "/sys/fs/cgroup/job/memory.high", "max\n");
  check_group(99999, 200000);
  fixture_write(&tree, "/sys/fs/cgroup/job/memory.max", "max\n");
  fixture_write(&tree, "/sys/fs/cgroup/job/memory.high", "120000\n");
  check_group(99999, 120000);
}

static void test_v1(void **state) {
  (void)state;
  write_self("9:cpu:/x\n4:memory:/box\n", V1_MOUNT);
  /* v1 counts children in the total_ lines; slab is not in it */
  write_group("/sys/fs/cgroup/memory/box", 1, "100000\n", "200000\n",
              "active_file 1\ninactive_file 2\ntotal_active_file 10000\n"
              "total_inactive_file 20000\nslab_reclaimable 7\n");
  write_group("/sys/fs/cgroup/memory", 1, "900000\n", UNLIMITED, "");
  check_group(70000, 200000);
}

static void test_hybrid_prefers_v1(void **state) {
  (void)state;
  write_self("4:memory:/box\n0::/box\n", HYBRID_MOUNT);
  write_group("/sys/fs/cgroup/memory/box", 1, "100\n", "1000\n", "");
  fixture_write(&tree, "/sys/fs/cgroup/unified/box/memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=77\n");
  fixture_write(&tree, "/proc/pressure/memory", "some total=5\n");
  check_group(100, 1000);
  assert_int_equal(read_once().stall_total_us, 77);
  fixture_write(&tree, "/sys/fs/cgroup/unified/box/memory.pressure", "");
  assert_int_equal(read_once().stall_total_us, 5);
}

static void test_hybrid_with_v2_memory(void **state) {
  (void)state;
  write_self("4:cpu:/box\n0::/unit\n",
             "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
             "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  write_group("/sys/fs/cgroup/unified/unit", 2, "10\n", "40\n", "");
  check_group(10, 40);
}

static void test_middle_level_wins(void **state) {
  (void)state;
  write_self("0::/a/b/c\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a", 2, "600", "1000", "inactive_file 100\n");
  write_group("/sys/fs/cgroup/a/b", 2, "400", "450", "inactive_file 40\n");
  write_group("/sys/fs/cgroup/a/b/c", 2, "300", "1000", "inactive_file 0\n");
  check_group(360, 450); /* 0.8, against 0.5 above and 0.3 below */
}

static void test_cache_decides_between_levels(void **state) {
  (void)state;
  write_self("0::/a/b\n", V2_MOUNT);
  /* Inner: 0.95 full, but nearly all of it page cache. */
  write_group("/sys/fs/cgroup/a/b", 2, "950", "1000", "active_file 900\n");
  write_group("/sys/fs/cgroup/a", 2, "960", "2000", "active_file 800\n");
  check_group(160, 2000);
}

static void test_levels_without_files(void **state) {
  (void)state;
  write_self("0::/a/b/c\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a/b/c", 2, "300", NULL, ""); /* no limit */
  write_group("/sys/fs/cgroup/a/b", 2, NULL, "400", "");   /* no usage */
  write_group("/sys/fs/cgroup/a", 2, "250", "1000", NULL); /* no stat */
  check_group(250, 1000);
}

static void test_limits_that_have_no_vote(void **state) {
  static const char *const limits[] = {"max\n",  "0\n",  "",
                                       "lots\n", "-1\n", UNLIMITED};
  (void)state;
  write_self("0::/a\n", V2_MOUNT);
  for (size_t row = 0; row < sizeof limits / sizeof limits[0]; row++) {
    write_group("/sys/fs/cgroup/a", 2, "300\n", limits[row], "");
    check_group(MG_ABSENT, MG_ABSENT);
  }
  write_group("/sys/fs/cgroup/a", 2, "many\n", "1000\n", "");
  check_group(MG_ABSENT, MG_ABSENT);
}

static void test_limit_held_to_machine(void **state) {
  (void)state;
  write_self("0::/a\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a", 2, "300\n", "8000000000000\n", "");
  check_group(300, 1073741824);
  fixture_remove(&tree, "/proc/meminfo");
  check_group(300, UINT64_C(8000000000000));
}

static void test_more_cache_than_use(void **state) {
  (void)state;
  write_self("0::/a\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a", 2, "300\n", "1000\n",
              "active_file 200\ninactive_file 18446744073709551614\n");
  check_group(100, 1000); /* the sum that overflows is left out */
  write_group("/sys/fs/cgroup/a", 2, "300\n", "1000\n", "active_file 400\n");
  check_group(0, 1000);
}

static void test_namespaced_root(void **state) {
  (void)state;
  write_self("0::/\n", V2_MOUNT);
  write_group("/sys/fs/cgroup", 2, "30\n", "60\n", "");
  check_group(30, 60);
}

static void test_bind_mounted_subtree(void **state) {
  (void)state;
  /* A container without a namespace of its own: the path is the host's. */
  write_self("4:memory:/docker/abc/worker\n",
             "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup "
             "rw,memory\n");
  write_group("/sys/fs/cgroup/memory/worker", 1, "10\n", UNLIMITED, "");
  write_group("/sys/fs/cgroup/memory", 1, "20\n", "80\n", "");
  /* Above the mount point: not ours. */
  write_group("/sys/fs/cgroup", 1, "99\n", "100\n", "");
  check_group(20, 80);
}

static void test_mount_point_with_space(void **state) {
  (void)state;
  write_self("0::/my group\n",
             "41 31 0:38 / /mnt/c\\040g rw - cgroup2 cgroup2 rw\n");
  write_group("/mnt/c g/my group", 2, "30\n", "60\n", "");
  check_group(30, 60);
}

static void test_outside_of_namespace(void **state) {
  (void)state;
  write_self("0::/../sibling\n", V2_MOUNT);
  fixture_write(&tree, "/sys/fs/cgroup/cgroup.procs", "");
  write_group("/sys/fs/sibling", 2, "30\n", "60\n", "");
  check_group(MG_ABSENT, MG_ABSENT);
}

static void test_removed_group(void **state) {
  (void)state;
  write_self("0::/a/b (deleted)\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a", 2, "30\n", "60\n", "");
  check_group(30, 60);
}

static void test_v1_without_hierarchy(void **state) {
  (void)state;
  write_self("4:memory:/a/b\n", V1_MOUNT);
  write_group("/sys/fs/cgroup/memory/a/b", 1, "10\n", "100\n", "");
  write_group("/sys/fs/cgroup/memory/a", 1, "50\n", "60\n", "");
  fixture_write(&tree, "/sys/fs/cgroup/memory/a/memory.use_hierarchy", "1\n");
  check_group(50, 60);
  fixture_write(&tree, "/sys/fs/cgroup/memory/a/memory.use_hierarchy", "0\n");
  check_group(10, 100);
}

static void test_deep_nesting(void **state) {
  char path[256] = "/sys/fs/cgroup", groups[256] = "0::";
  (void)state;
  for (int level = 1; level <= 20; level++) {
    size_t length = strlen(path);
    snprintf(path + length, sizeof path - length, "/g%02d", level);
    write_group(path, 2, "10\n", level == 2 ? "20\n" : "1000\n", "");
  }
  snprintf(groups + 3, sizeof groups - 3, "%s\n",
           path + strlen("/sys/fs/cgroup"));
  write_self(groups, V2_MOUNT);
  check_group(10, 1000); /* the 16 innermost are read: g05 to g20 */
}

static void test_long_mountinfo(void **state) {
  size_t bytes = 3u * MIB;
  char *text = malloc(bytes + 256);
  (void)state;
  assert_non_null(text);
  memset(text, 'x', bytes);
  for (size_t at = 199; at < bytes; at += 200)
    text[at] = '\n';
  snprintf(text + bytes, 256, "\n" V2_MOUNT);
  write_self("0::/a\n", text);
  write_group("/sys/fs/cgroup/a", 2, "30\n", "60\n", "");
  check_group(30, 60);
  free(text);
}

static void test_garbage_files(void **state) {
  mg_reading reading;
  (void)state;
  write_self("\xff\xfe:::\n\n0:", "- - - cgroup2\n\x01\x02");
  fixture_write(&tree, "/proc/meminfo", "MemTotal: lots kB\nMemAvailable");
  fixture_write(&tree, "/proc/self/statm", "1000 many");
  fixture_write(&tree, "/proc/pressure/memory", "some\n");
  reading = read_once();
  assert_int_equal(reading.virtual_bytes,
                   1000 * (uint64_t)sysconf(_SC_PAGESIZE));
  assert_int_equal(reading.rss_bytes, MG_ABSENT);
  assert_int_equal(reading.data_bytes, MG_ABSENT);
  assert_int_equal(reading.machine_total_bytes, MG_ABSENT);
  assert_int_equal(reading.machine_available_bytes, MG_ABSENT);
  assert_int_equal(reading.cgroup_limit_bytes, MG_ABSENT);
  assert_int_equal(reading.stall_total_us, MG_ABSENT);
}

static void test_nothing_there(void **state) {
  mg_reading reading;
  (void)state;
  fixture_remove(&tree, "/proc");
  reading = read_once();
  assert_int_equal(reading.rss_bytes, MG_ABSENT);
  assert_int_equal(reading.machine_total_bytes, MG_ABSENT);
  assert_int_equal(reading.fd_count, MG_ABSENT);
}

static void test_root_too_long(void **state) {
  mg_error err = MG_ERROR_INIT;
  char root[1025];
  mg__os *os = (mg__os *)root;
  (void)state;
  memset(root, 'r', 1024);
  root[1024] = '\0';
  assert_int_equal(mg__os_open(&os, root, &err), MG_EINVAL);
  assert_null(os);
  assert_string_equal(err.text,
                      "root is 1024 bytes long, at most 1023 allowed");
}

/* ---- Unreadable: as a user whom permissions stop ------------------------- */

static void read_unprivileged(void *ctx) {
  mg_reading reading;
  mg__os *os;
  (void)ctx;
  CHECK(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
  CHECK(mg__os_open(&os, tree.root, NULL) == MG_OK);
  mg__os_read(os, &reading);
  CHECK(reading.rss_bytes == MG_ABSENT);
  CHECK(reading.virtual_bytes == MG_ABSENT);
  CHECK(reading.machine_total_bytes == 1073741824);
  CHECK(reading.cgroup_used_bytes == 20);
  CHECK(reading.cgroup_limit_bytes == 100);
  CHECK(reading.fd_count == MG_ABSENT);
  mg__os_close(os);
}

static void test_unreadable(void **state) {
  (void)state;
  write_self("0::/a/b\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a/b", 2, "50\n", "60\n", "");
  write_group("/sys/fs/cgroup/a", 2, "20\n", "100\n", "inactive_file 5\n");
  fixture_write(&tree, "/proc/self/fd/0", "");
  /* b's limit and a's cache are hidden: b has no vote, a counts its cache. */
  chmod(fixture_path(&tree, "/sys/fs/cgroup/a/b/memory.max"), 0);
  chmod(fixture_path(&tree, "/sys/fs/cgroup/a/memory.stat"), 0);
  chmod(fixture_path(&tree, "/proc/self/statm"), 0);
  chmod(fixture_path(&tree, "/proc/self/fd"), 0);
  assert_int_equal(fixture_child(read_unprivileged, NULL), 0);
}

static void test_directories_instead_of_files(void **state) {
  (void)state;
  write_self("0::/a\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a", 2, "20\n", NULL, "");
  fixture_write(&tree, "/sys/fs/cgroup/a/memory.max/x", "");
  fixture_remove(&tree, "/proc/self/statm");
  fixture_write(&tree, "/proc/self/statm/x", "");
  check_group(MG_ABSENT, MG_ABSENT);
  assert_int_equal(read_once().rss_bytes, MG_ABSENT);
}

/* ---- Changes while open -------------------------------------------------- */

static void test_changes_are_seen(void **state) {
  mg_reading reading;
  mg__os *os;
  uint32_t epoch;
  (void)state;
  write_self("0::/a\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a", 2, "20\n", "100\n", "");
  write_group("/sys/fs/cgroup/b", 2, "30\n", "900\n", "");
  assert_int_equal(mg__os_open(&os, tree.root, NULL), MG_OK);
  epoch = mg__os_epoch(os);

  /* use and limit: by the next read */
  write_group("/sys/fs/cgroup/a", 2, "21\n", "200\n", "");
  mg__os_read(os, &reading);
  assert_int_equal(reading.cgroup_used_bytes, 21);
  assert_int_equal(reading.cgroup_limit_bytes, 200);
  assert_int_equal(mg__os_epoch(os), epoch);
  mg__os_refresh(os);
  assert_int_equal(mg__os_epoch(os), epoch + 1);
  mg__os_refresh(os);
  assert_int_equal(mg__os_epoch(os), epoch + 1);

  /* the group: by the next refresh */
  fixture_write(&tree, "/proc/self/cgroup", "0::/b\n");
  mg__os_refresh(os);
  mg__os_read(os, &reading);
  assert_int_equal(reading.cgroup_used_bytes, 30);
  assert_int_equal(reading.cgroup_limit_bytes, 900);
  assert_int_equal(mg__os_epoch(os), epoch + 2);

  /* out of any group, and into one that appears later */
  fixture_write(&tree, "/proc/self/cgroup", "0::/c\n");
  mg__os_refresh(os);
  mg__os_read(os, &reading);
  assert_int_equal(reading.cgroup_limit_bytes, MG_ABSENT);
  assert_int_equal(mg__os_cgroup(os)->version, 0);
  write_group("/sys/fs/cgroup/c", 2, "1\n", "2\n", "");
  mg__os_refresh(os);
  mg__os_read(os, &reading);
  assert_int_equal(reading.cgroup_used_bytes, 1);
  assert_int_equal(reading.cgroup_limit_bytes, 2);
  mg__os_close(os);
}

static void test_files_that_appear(void **state) {
  mg_reading reading;
  mg__os *os;
  (void)state;
  fixture_remove(&tree, "/proc");
  assert_int_equal(mg__os_open(&os, tree.root, NULL), MG_OK);
  assert_int_equal(mg__os_rss(os), MG_ABSENT);
  fixture_write(&tree, "/proc/self/statm", "5 2 1 1 0 1 0\n");
  fixture_write(&tree, "/proc/pressure/memory", "some total=9\n");
  mg__os_refresh(os);
  assert_int_equal(mg__os_rss(os), 2 * (uint64_t)sysconf(_SC_PAGESIZE));
  mg__os_read(os, &reading);
  assert_int_equal(reading.stall_total_us, 9);
  mg__os_close(os);
}

static void test_level_directories(void **state) {
  const mg__cgroup *group;
  char directory[256];
  mg__os *os;
  (void)state;
  write_self("0::/a/b/c/d\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a/b/c", 2, "1\n", "2\n", "");
  write_group("/sys/fs/cgroup/a", 2, "1\n", "2\n", "");
  assert_int_equal(mg__os_open(&os, tree.root, NULL), MG_OK);
  group = mg__os_cgroup(os);
  assert_int_equal(group->version, 2);
  assert_int_equal(group->count, 2);
  mg__cgroup_directory(group, 0, directory, sizeof directory);
  assert_string_equal(directory, fixture_path(&tree, "/sys/fs/cgroup/a/b/c"));
  mg__cgroup_directory(group, 1, directory, sizeof directory);
  assert_string_equal(directory, fixture_path(&tree, "/sys/fs/cgroup/a"));
  assert_string_equal(group->unified,
                      fixture_path(&tree, "/sys/fs/cgroup/a/b/c/d"));
  mg__os_close(os);
}

static void test_no_memory(void **state) {
  bool failed = true;
  long index;
  (void)state;
  write_self("0::/a\n", V2_MOUNT);
  write_group("/sys/fs/cgroup/a", 2, "20\n", "100\n", "");
  for (index = 0; failed; index++) {
    mg_error err = MG_ERROR_INIT;
    mg_reading reading;
    mg_status st;
    mg__os *os;
    fixture_fail_allocation(index);
    st = mg__os_open(&os, tree.root, &err);
    failed = fixture_allocation_failed();
    assert_int_equal(st, index == 0 ? MG_ENOMEM : MG_OK);
    if (st != MG_OK) {
      assert_null(os);
      continue;
    }
    /* Where the group lies could not be found out; a refresh does. */
    mg__os_read(os, &reading);
    assert_int_equal(reading.cgroup_limit_bytes, failed ? MG_ABSENT : 100);
    mg__os_refresh(os);
    mg__os_read(os, &reading);
    assert_int_equal(reading.cgroup_limit_bytes, 100);
    mg__os_close(os);
  }
  assert_int_equal(index, 5); /* the reader, its finder, two texts; success */
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TREE_TEST(test_process_numbers),
      TREE_TEST(test_counts_entries),
      TREE_TEST(test_v2),
      TREE_TEST(test_v2_high_below_max),
      TREE_TEST(test_v1),
      TREE_TEST(test_hybrid_prefers_v1),
      TREE_TEST(test_hybrid_with_v2_memory),
      TREE_TEST(test_middle_level_wins),
      TREE_TEST(test_cache_decides_between_levels),
      TREE_TEST(test_levels_without_files),
      TREE_TEST(test_limits_that_have_no_vote),
      TREE_TEST(test_limit_held_to_machine),
      TREE_TEST(test_more_cache_than_use),
      TREE_TEST(test_namespaced_root),
      TREE_TEST(test_bind_mounted_subtree),
      TREE_TEST(test_mount_point_with_space),
      TREE_TEST(test_outside_of_namespace),
      TREE_TEST(test_removed_group),
      TREE_TEST(test_v1_without_hierarchy),
      TREE_TEST(test_deep_nesting),
      TREE_TEST(test_long_mountinfo),
      TREE_TEST(test_garbage_files),
      TREE_TEST(test_nothing_there),
      TREE_TEST(test_root_too_long),
      TREE_TEST(test_unreadable),
      TREE_TEST(test_directories_instead_of_files),
      TREE_TEST(test_changes_are_seen),
      TREE_TEST(test_files_that_appear),
      TREE_TEST(test_level_directories),
      TREE_TEST(test_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
