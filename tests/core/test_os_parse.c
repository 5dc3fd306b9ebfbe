/* The parsers of the operating-system layer: literal texts, then garbage. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"

static void test_u64(void **state) {
  static const struct {
    const char *text;
    bool valid;
    uint64_t value;
  } rows[] = {
      {"0", true, 0},
      {"7\n", true, 7},
      {"12 34", true, 12},
      {"12\t", true, 12},
      {"0007", true, 7},
      {"18446744073709551614", true, UINT64_C(18446744073709551614)},
      {"18446744073709551615", false, 0}, /* that is MG_ABSENT */
      {"18446744073709551616", false, 0},
      {"99999999999999999999999999", false, 0},
      {"", false, 0},
      {"\n", false, 0},
      {" 1", false, 0},
      {"-1", false, 0},
      {"+1", false, 0},
      {"12abc", false, 0},
      {"1.5", false, 0},
      {"0x10", false, 0},
      {"\xff\xfe", false, 0},
      {"1\xff", false, 0},
  };
  (void)state;
  for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
    uint64_t value = 5;
    assert_int_equal(mg__parse_u64(rows[row].text, &value), rows[row].valid);
    assert_int_equal(value, rows[row].valid ? rows[row].value : 5);
  }
}

static void test_keyed(void **state) {
  static const char meminfo[] =
      "MemTotal:       24683108 kB\n"
      "MemFree:        15823456 kB\n"
      "MemAvailable:   23845400 kB\n"
      "HugePages_Total:       3\n";
  static const char stat[] =
      "inactive_file 4096\nactive_file 12288\nfile 7\ntotal_active_file 99";
  (void)state;
  assert_int_equal(mg__parse_keyed(meminfo, "MemTotal"), UINT64_C(25275502592));
  assert_int_equal(mg__parse_keyed(meminfo, "MemAvailable"),
                   UINT64_C(24417689600));
  assert_int_equal(mg__parse_keyed(meminfo, "HugePages_Total"), 3);
  assert_int_equal(mg__parse_keyed(meminfo, "Mem"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed(meminfo, "Total"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed(stat, "active_file"), 12288);
  assert_int_equal(mg__parse_keyed(stat, "inactive_file"), 4096);
  assert_int_equal(mg__parse_keyed(stat, "file"), 7);
  /* the last line has no newline */
  assert_int_equal(mg__parse_keyed(stat, "total_active_file"), 99);
  assert_int_equal(mg__parse_keyed("", "file"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed("file", "file"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed("file ", "file"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed("file x\n", "file"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed("file -1\n", "file"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed("a\n\n\nfile:\t 8\n", "file"), 8);
  /* 2^54 KiB are 2^64 bytes: one too many */
  assert_int_equal(mg__parse_keyed("k: 18014398509481984 kB", "k"), MG_ABSENT);
  assert_int_equal(mg__parse_keyed("k: 18014398509481983 kB", "k"),
                   UINT64_C(18446744073709550592));
}

static void test_limit(void **state) {
  static const struct {
    const char *text;
    bool valid;
    uint64_t value;
  } rows[] = {
      {"max\n", true, MG_ABSENT},
      {"max", true, MG_ABSENT},
      {"0\n", true, 0},
      {"67108864\n", true, 67108864},
      {"9223372036854771712\n", true, MG_ABSENT}, /* 4 KiB pages */
      {"9223372036854710272\n", true, MG_ABSENT}, /* 64 KiB pages */
      {"9223372036854775807\n", true, MG_ABSENT}, /* INT64_MAX */
      {"9223372036854644736\n", true, UINT64_C(9223372036854644736)},
      {"18446744073709551615", false, 0},
      {"maximum\n", false, 0},
      {"", false, 0},
      {"-1\n", false, 0},
      {"lots\n", false, 0},
  };
  (void)state;
  for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
    uint64_t value = 5;
    assert_int_equal(mg__parse_cgroup_limit(rows[row].text, &value),
                     rows[row].valid);
    assert_int_equal(value, rows[row].valid ? rows[row].value : 5);
  }
}

static void test_cgroup_path(void **state) {
  static const struct {
    const char *text;
    int version;
    const char *path; /* NULL: none */
  } rows[] = {
      {"0::/user.slice/a\n", 2, "/user.slice/a"},
      {"0::/\n", 2, "/"},
      {"0::/no/newline", 2, "/no/newline"},
      {"4:memory:/box\n0::/x\n", 1, "/box"},
      {"4:memory:/box\n0::/x\n", 2, "/x"},
      {"9:cpu,memory,pids:/a b:c\n", 1, "/a b:c"},
      {"9:cpu,memory\n4:memory:/x\n", 1, "/x"},
      {"9:memory2:/a\n8:xmemory:/b\n7:name=memory:/c\n", 1, NULL},
      {"1:cpu:/a\n", 1, NULL},
      {"1:cpu:/a\n", 2, NULL},
      {"0::relative\n", 2, NULL},
      {"0::\n", 2, NULL},
      {"0:\n", 2, NULL},
      {"0", 2, NULL},
      {"\n\n::::\n", 2, NULL},
      {"", 1, NULL},
      {"\xff\xfe:memory:/\xc3\xa4\n", 1, "/\xc3\xa4"},
      {"4:memory:/sixteen-bytes-0\n", 1, NULL}, /* does not fit below */
      {"4:memory:/fifteen-bytes-\n", 1, "/fifteen-bytes-"},
      {"4:memory:/g (deleted)\n", 1, "/g (deleted)"},
  };
  (void)state;
  for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
    char path[16] = "";
    assert_int_equal(mg__parse_cgroup_path(rows[row].text, rows[row].version,
                                           path, sizeof path),
                     rows[row].path != NULL);
    if (rows[row].path != NULL) assert_string_equal(path, rows[row].path);
  }
}

static const char hybrid_mounts[] =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:9 master:2 - cgroup "
    "cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

static void check_mount(const char *text, int version, const char *path,
                        const char *root, const char *point) {
  char found_root[64], found_point[64];

  if (!mg__parse_cgroup_mount(text, version, path, found_root, found_point,
                              sizeof found_root)) {
    assert_null(root);
    return;
  }
  assert_non_null(root);
  assert_string_equal(found_root, root);
  assert_string_equal(found_point, point);
}

static void test_cgroup_mount(void **state) {
  static const char escaped[] =
      "35 31 0:32 /a\\040b /mnt/c\\011d\\134e rw - cgroup2 none rw\n";
  static const char several[] =
      "1 0 0:1 /box/task /a rw - cgroup2 c rw\n"
      "2 0 0:1 /other /b rw - cgroup2 c rw\n"
      "3 0 0:1 /box /c rw - cgroup2 c rw\n"
      "4 0 0:1 /box /d rw - cgroup2 c rw\n";
  (void)state;
  check_mount(hybrid_mounts, 1, "/x", "/", "/sys/fs/cgroup/memory");
  check_mount(hybrid_mounts, 2, "/x", "/", "/sys/fs/cgroup/unified");
  check_mount(escaped, 2, "/a b/x", "/a b", "/mnt/c\td\\e");
  /* most ancestors wins, the first of equals */
  check_mount(several, 2, "/box/task/x", "/box", "/c");
  check_mount(several, 2, "/other", "/other", "/b");
  check_mount(several, 2, "/otherwise", NULL, NULL);
  check_mount(several, 1, "/box", NULL, NULL);
  /* an empty source leaves two spaces */
  check_mount("1 0 0:1 / /m rw - cgroup  rw,cpu,memory\n", 1, "/", "/", "/m");
  check_mount("1 0 0:1 / /m rw - cgroup c rw,memory", 1, "/", "/", "/m");
  check_mount("1 0 0:1 / /m rw - cgroup c rw,memoryx\n", 1, "/", NULL, NULL);
  check_mount("1 0 0:1 / /memory rw - tmpfs cgroup2 rw,memory\n", 2, "/", NULL,
              NULL);
  check_mount("1 0 0:1 / /m rw - cgroup2", 2, "/", "/", "/m");
  check_mount("1 0 0:1 / /m rw -", 2, "/", NULL, NULL);
  check_mount("1 0 0:1 /\n", 2, "/", NULL, NULL);
  check_mount("\n\n - \n", 2, "/", NULL, NULL);
  check_mount("", 1, "/", NULL, NULL);
  /* a mounted root above the namespace's, whose names are not known */
  check_mount("1 0 0:1 /../.. /m rw - cgroup2 c rw\n", 2, "/", NULL, NULL);
  /* \000 and an escape that is none */
  check_mount("1 0 0:1 / /m\\000 rw - cgroup2 c rw\n", 2, "/", NULL, NULL);
  check_mount("1 0 0:1 / /m\\9 rw - cgroup2 c rw\n", 2, "/", "/", "/m\\9");
  /* a point of 64 bytes does not fit, one of 63 does */
  check_mount(
      "1 0 0:1 / /23456789012345678901234567890123456789012345678901234"
      "56789012345 rw - cgroup2 c rw\n",
      2, "/", NULL, NULL);
  check_mount(
      "1 0 0:1 / /23456789012345678901234567890123456789012345678901234"
      "567890123 rw - cgroup2 c rw\n",
      2, "/", "/",
      "/23456789012345678901234567890123456789012345678901234567890123");
}

static void test_psi(void **state) {
  (void)state;
  assert_int_equal(
      mg__parse_psi_total("some avg10=0.00 avg60=1.50 avg300=0.00 total=1234\n"
                          "full avg10=0.00 avg60=0.00 avg300=0.00 total=99\n"),
      1234);
  assert_int_equal(mg__parse_psi_total("full total=99\nsome total=7"), 7);
  assert_int_equal(mg__parse_psi_total("full total=99\n"), MG_ABSENT);
  assert_int_equal(mg__parse_psi_total("some avg10=0.00\ntotal=4\n"),
                   MG_ABSENT);
  assert_int_equal(mg__parse_psi_total("some total=\n"), MG_ABSENT);
  assert_int_equal(mg__parse_psi_total("some total=-4\n"), MG_ABSENT);
  assert_int_equal(mg__parse_psi_total("something total=4\n"), MG_ABSENT);
  assert_int_equal(mg__parse_psi_total("some"), MG_ABSENT);
  assert_int_equal(mg__parse_psi_total(""), MG_ABSENT);
  assert_int_equal(mg__parse_psi_total("\xff\xff some total=1\n"), MG_ABSENT);
}

/* Texts put together at random from what the formats are made of: sanitizers
 * see every access, and what a parser accepts must be well formed. */
static void test_garbage(void **state) {
  static const char *const parts[] = {
      "some ",     "total=",
      "memory",    "0::",
      "/",         "\n",
      " - ",       "cgroup",
      "cgroup2",   ",",
      ":",         " ",
      "kB",        "max",
      "\\040",     "\\",
      "1 0 0",     "99999999",
      "/..",       "\xff",
      "file ",     "18446744073709551615",
      "rw,memory", "1 0 0:1 / /m rw - cgroup2 c rw\n"};
  uint32_t seed = 12345;
  (void)state;
  for (int round = 0; round < 20000; round++) {
    char text[256] = "", root[16], point[16], path[16];
    uint64_t value = 0;
    size_t length = 0, room = sizeof text - 40;
    seed = seed * 1664525 + 1013904223;
    for (uint32_t count = seed >> 27; count > 0 && length < room; count--) {
      seed = seed * 1664525 + 1013904223;
      length += (size_t)snprintf(
          text + length, sizeof text - length, "%s",
          parts[(seed >> 8) % (sizeof parts / sizeof parts[0])]);
    }
    /* An exact block, so that a read beyond the end is seen. */
    char *exact = strdup(text);
    assert_non_null(exact);
    for (int version = 1; version <= 2; version++) {
      if (mg__parse_cgroup_path(exact, version, path, sizeof path)) {
        assert_int_equal(path[0], '/');
        assert_true(strlen(path) < sizeof path);
      }
      if (mg__parse_cgroup_mount(exact, version, "/", root, point, sizeof root))
        assert_string_equal(root, "/");
    }
    if (mg__parse_u64(exact, &value)) assert_true(value < MG_ABSENT);
    mg__parse_cgroup_limit(exact, &value);
    mg__parse_keyed(exact, "file");
    mg__parse_psi_total(exact);
    free(exact);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_u64),          cmocka_unit_test(test_keyed),
      cmocka_unit_test(test_limit),        cmocka_unit_test(test_cgroup_path),
      cmocka_unit_test(test_cgroup_mount), cmocka_unit_test(test_psi),
      cmocka_unit_test(test_garbage),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
