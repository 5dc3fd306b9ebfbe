/* test_census.c - tables of names, their difference, and what this process holds. */
#include "fixture.h"
#include "os.h"
#include "vectors.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static mg_census *opened(size_t max_names) {
  mg_error err = MG_ERROR_INIT;
  mg_census *census;

  assert_ok(mg_census_open(&census, max_names, &err), &err);
  return census;
}

static uint64_t count_of(const mg_census *census, const char *name) {
  mg_census_row row;

  return mg_census_find(census, name, &row) ? row.count : 0;
}

static uint64_t bytes_of(const mg_census *census, const char *name) {
  mg_census_row row;

  return mg_census_find(census, name, &row) ? row.bytes : 0;
}

/* ---- tables ------------------------------------------------------------------- */

static void test_table(void **state) {
  mg_census *census = opened(0);
  mg_census_row row;

  (void)state;
  assert_int_equal(mg_census_size(census), 0);
  assert_false(mg_census_at(census, 0, &row));
  mg_census_add(census, "dict", 2, 128);
  mg_census_add(census, "list", 1, 56);
  mg_census_add(census, "dict", 3, 192);
  assert_int_equal(mg_census_size(census), 2);
  assert_true(mg_census_at(census, 0, &row));
  assert_string_equal(row.name, "dict");
  assert_int_equal(row.count, 5);
  assert_int_equal(row.bytes, 320);
  assert_true(mg_census_find(census, "list", NULL));
  assert_false(mg_census_find(census, "set", NULL));
  mg_census_add(census, "list", UINT64_MAX, UINT64_MAX);
  assert_true(count_of(census, "list") == UINT64_MAX);
  mg_census_clear(census);
  assert_int_equal(mg_census_size(census), 0);
  assert_false(mg_census_find(census, "dict", NULL));
  mg_census_add(census, "dict", 1, 1);
  assert_int_equal(count_of(census, "dict"), 1);
  mg_census_close(census);
  mg_census_close(NULL);
}

static void test_is_bounded(void **state) {
  mg_census *census = opened(0);
  mg_error err = MG_ERROR_INIT;
  char name[32];

  (void)state;
  for (unsigned i = 0; i < 100003; i++) {
    snprintf(name, sizeof name, "type %u", i);
    mg_census_add(census, name, 2, 10);
  }
  assert_int_equal(mg_census_size(census), 100001);
  assert_true(mg_census_is_cut(census));
  assert_int_equal(count_of(census, MG_CENSUS_OTHER), 6);
  assert_int_equal(bytes_of(census, MG_CENSUS_OTHER), 30);
  assert_int_equal(count_of(census, "type 99999"), 2);
  assert_false(mg_census_find(census, "type 100000", NULL));
  mg_census_close(census);
  assert_int_equal(mg_census_open(&census, 100001, &err), MG_ERANGE);
  assert_string_equal(err.text, "census of 100001 names, allowed: 1 to 100000");
  assert_null(census);
}

/* Whatever allocation fails: an error at opening, later a row less, no count lost. */
static void test_no_memory(void **state) {
  (void)state;
  for (long index = 0;; index++) {
    mg_error err = MG_ERROR_INIT;
    mg_census *census;
    uint64_t sum = 0;
    mg_census_row row;
    char name[64];
    mg_status st;

    fixture_fail_allocation(index);
    st = mg_census_open(&census, 0, &err);
    if (st != MG_OK) {
      assert_int_equal(st, MG_ENOMEM);
      assert_true(fixture_allocation_failed());
      continue;
    }
    for (unsigned i = 0; i < 1000; i++) {
      snprintf(name, sizeof name, "a name that is of some length %u", i);
      mg_census_add(census, name, 1, 8);
    }
    bool has_failed = fixture_allocation_failed();
    for (size_t i = 0; mg_census_at(census, i, &row); i++) sum += row.count;
    assert_int_equal(sum, 1000);
    assert_true(mg_census_is_cut(census) == has_failed);
    mg_census_close(census);
    if (!has_failed) return;
  }
}

/* ---- difference ---------------------------------------------------------------- */

static mg_census *filled(const cJSON *row, const char *key) {
  const cJSON *max_names = item_of(row, "max_names"), *one;
  mg_census *census =
      opened(max_names == NULL ? 0 : (size_t)max_names->valuedouble);

  cJSON_ArrayForEach(one, item_of(row, key))
    mg_census_add(census, cJSON_GetArrayItem(one, 0)->valuestring,
                  (uint64_t)cJSON_GetArrayItem(one, 1)->valuedouble,
                  (uint64_t)cJSON_GetArrayItem(one, 2)->valuedouble);
  return census;
}

static void expect_culprit(const char *row, const mg_culprit *culprit,
                           const cJSON *expected) {
  double numbers[4];

  for (int i = 0; i < 4; i++)
    numbers[i] = cJSON_GetArrayItem(expected, i + 1)->valuedouble;
  if (strcmp(culprit->name, cJSON_GetArrayItem(expected, 0)->valuestring) != 0 ||
      culprit->kind != MG_CULPRIT_TYPE ||
      (double)culprit->growth != numbers[0] ||
      (double)culprit->growth_bytes != numbers[1] ||
      (double)culprit->count != numbers[2] ||
      fabs(culprit->share - numbers[3]) > 1e-12)
    fail_msg("%s: %s %lld %lld %llu %.17g", row, culprit->name,
             (long long)culprit->growth, (long long)culprit->growth_bytes,
             (unsigned long long)culprit->count, culprit->share);
}

static void test_difference(void **state) {
  cJSON *document, *rows = load_rows("census.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    mg_census *before = filled(row, "before"), *after = filled(row, "after");
    const cJSON *expected = item_of(row, "expect");
    mg_culprit found[8];
    size_t count = mg_census_diff(
        before, after, MG_CULPRIT_TYPE,
        strcmp(text_of(row, "by"), "bytes") == 0 ? MG_CENSUS_BY_BYTES
                                                 : MG_CENSUS_BY_COUNT,
        found, (size_t)number_of(row, "limit"));
    if (count != (size_t)cJSON_GetArraySize(expected))
      fail_msg("%s: %zu culprits", text_of(row, "name"), count);
    for (size_t i = 0; i < count; i++)
      expect_culprit(text_of(row, "name"), &found[i],
                     cJSON_GetArrayItem(expected, (int)i));
    mg_census_close(before);
    mg_census_close(after);
  }
  cJSON_Delete(document);
}

static void test_kinds(void **state) {
  (void)state;
  assert_string_equal(mg_culprit_name(MG_CULPRIT_TYPE), "type");
  assert_string_equal(mg_culprit_name(MG_CULPRIT_MAPPING), "mapping");
  assert_string_equal(mg_culprit_name(MG_CULPRITS), "unknown");
}

/* ---- names ------------------------------------------------------------------------ */

static void test_targets(void **state) {
  static const char *const rows[][2] = {
      {"/tmp/x123", "file /tmp/x#"},
      {"/tmp/x123 (deleted)", "file /tmp/x# (deleted)"},
      {"/tmp/tmpk3_9xq2a", "file /tmp/tmp#"},
      {"/tmp/tmp3k_9xq2a.call", "file /tmp/tmp#.call"}, /* a digit comes first */
      {"/tmp/tmpk3_9xq2a/part-00001.csv", "file /tmp/tmp#/part-#.csv"},
      {"/tmp/tmp.Ab3dE9xYz1", "file /tmp/tmp#"},
      {"/tmp/tmpfile", "file /tmp/tmpfile"},
      {"/srv/9f86d081884c7d65.bin", "file /srv/#.bin"},
      {"/srv/cafebabe", "file /srv/cafebabe"}, /* a word: it has no digit */
      {"/srv/550e8400-e29b-41d4-a716-446655440000", "file /srv/#-e#b-#d#-a#-#"},
      {"/dev/null", "file /dev/null"},
      {"/memfd:buffer7 (deleted)", "memfd buffer# (deleted)"},
      {"pipe:[123]", "pipe"},
      {"anon_inode:[eventfd]", "anon eventfd"},
      {"anon_inode:inotify", "anon inotify"},
      {"net:[4026531840]", "net"},
      {"", ""}};
  char name[MG_CENSUS_NAME_BYTES], *longest;

  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mg__census_target(name, rows[i][0]);
    assert_string_equal(name, rows[i][1]);
  }
  longest = malloc(5000);
  assert_non_null(longest);
  memset(longest, 'x', 4999);
  longest[0] = '/';
  longest[4999] = '\0';
  mg__census_target(name, longest);
  assert_true(strlen(name) < MG_CENSUS_NAME_BYTES);
  longest[0] = 'x';
  mg__census_target(name, longest);
  mg__census_mapping(name, longest);
  assert_true(strlen(name) < MG_CENSUS_NAME_BYTES);
  free(longest);
}

static void test_mapping_names(void **state) {
  static const char *const rows[][2] = {
      {"", "anon"},
      {"[heap]", "heap"},
      {"[stack]", "stack"},
      {"[anon:glibc: malloc]", "anon glibc: malloc"},
      {"[vdso]", "special vdso"},
      {"/usr/lib/libssl.so.3", "/usr/lib/libssl.so.3"},
      {"/usr/lib/python3/_x.cpython-311-x86_64-linux-gnu.so",
       "/usr/lib/python3/_x.cpython-311-x86_64-linux-gnu.so"},
      {"/data/segment-00012.dat", "/data/segment-#.dat"},
      {"/dev/zero (deleted)", "anon"},
      {"/dev/shm/memguard-0/0123456789abcdef0123456789abcdef-4026531836-71-99",
       ""},
      {"/dev/shm/memguard-0/other", "/dev/shm/memguard-#/other"}};
  char name[MG_CENSUS_NAME_BYTES];

  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mg__census_mapping(name, rows[i][0]);
    assert_string_equal(name, rows[i][1]);
  }
}

/* ---- this process ------------------------------------------------------------------ */

static mg_census *fds(void) {
  mg_error err = MG_ERROR_INIT;
  mg_census *census = opened(0);

  assert_ok(mg_census_fds(census, &err), &err);
  return census;
}

/* What there is more of under `name` than in `before`. */
static void expect_more(const mg_census *before, const mg_census *after,
                        const char *name, uint64_t more) {
  if (count_of(after, name) - count_of(before, name) != more)
    fail_msg("%s: %llu, not %llu more", name,
             (unsigned long long)(count_of(after, name) -
                                  count_of(before, name)),
             (unsigned long long)more);
}

static void test_plain_fds(void **state) {
  mg_census *before = fds(), *after, *last;
  int pipes[2], event, files[3];
  char path[3][40];

  (void)state;
  assert_int_equal(pipe(pipes), 0);
  event = eventfd(0, EFD_CLOEXEC);
  for (int i = 0; i < 3; i++) {
    snprintf(path[i], sizeof path[i], "/tmp/memguard-census%d", 10 + i);
    files[i] = open(path[i], O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(files[i] >= 0);
  }
  after = fds();
  expect_more(before, after, "pipe", 2);
  expect_more(before, after, "anon eventfd", 1);
  expect_more(before, after, "file /tmp/memguard-census#", 3);
  close(pipes[0]);
  close(pipes[1]);
  close(event);
  for (int i = 0; i < 3; i++) {
    close(files[i]);
    unlink(path[i]);
  }
  last = fds();
  expect_more(before, last, "pipe", 0);
  expect_more(before, last, "file /tmp/memguard-census#", 0);
  mg_census_close(before);
  mg_census_close(after);
  mg_census_close(last);
}

static int listening(struct sockaddr_in *out) {
  socklen_t bytes = sizeof *out;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  *out = (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  assert_int_equal(bind(fd, (struct sockaddr *)out, sizeof *out), 0);
  assert_int_equal(listen(fd, 4), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)out, &bytes), 0);
  return fd;
}

static void test_tcp(void **state) {
  struct sockaddr_in address;
  mg_census *before = fds(), *after;
  int server = listening(&address), client[2], accepted[2];
  unsigned port = ntohs(address.sin_port);
  char name[80];

  (void)state;
  for (int i = 0; i < 2; i++) {
    client[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        connect(client[i], (struct sockaddr *)&address, sizeof address), 0);
    accepted[i] = accept(server, NULL, NULL);
    assert_true(accepted[i] >= 0);
  }
  after = fds();
  snprintf(name, sizeof name, "socket tcp listening :%u", port);
  expect_more(before, after, name, 1);
  snprintf(name, sizeof name, "socket tcp on :%u", port);
  expect_more(before, after, name, 2);
  snprintf(name, sizeof name, "socket tcp 127.0.0.1:%u", port);
  expect_more(before, after, name, 2);
  for (int i = 0; i < 2; i++) {
    close(client[i]);
    close(accepted[i]);
  }
  close(server);
  mg_census_close(before);
  mg_census_close(after);
}

static void test_other_sockets(void **state) {
  struct sockaddr_un address = {.sun_family = AF_UNIX,
                                .sun_path = "/tmp/memguard-census1.sock"};
  mg_census *before = fds(), *after;
  int pair[2], udp, tcp, server, client;

  (void)state;
  unlink(address.sun_path);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  udp = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(listen(server, 1), 0);
  client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address),
                   0);
  after = fds();
  expect_more(before, after, "socket unix", 2);
  expect_more(before, after, "socket unix listening /tmp/memguard-census#.sock",
              1);
  expect_more(before, after, "socket unix /tmp/memguard-census#.sock", 1);
  expect_more(before, after, "socket tcp unconnected", 1);
  if (udp >= 0) { /* a machine may have no v6 */
    expect_more(before, after, "socket udp unconnected", 1);
    close(udp);
  }
  close(pair[0]);
  close(pair[1]);
  close(tcp);
  close(client);
  close(server);
  unlink(address.sun_path);
  mg_census_close(before);
  mg_census_close(after);
}

static void test_no_proc(void **state) {
  mg_census *census = opened(0);
  mg_error err = MG_ERROR_INIT;
  fixture_tree tree;

  (void)state;
  fixture_open(&tree);
  assert_int_equal(mg__census_fds(census, tree.root, &err), MG_EABSENT);
  assert_non_null(strstr(err.text, "/proc/self/fd cannot be read"));
  assert_int_equal(mg__census_maps(census, tree.root, NULL), MG_EABSENT);
  assert_int_equal(mg_census_size(census), 0);
  fixture_close(&tree);
  mg_census_close(census);
}

static void test_maps_text(void **state) {
  mg_census *census = opened(0);
  mg_error err = MG_ERROR_INIT;
  fixture_tree tree;

  (void)state;
  fixture_open(&tree);
  fixture_write(&tree, "/proc/self/smaps",
                "00400000-00500000 rw-p 00000000 00:00 0    [heap]\n"
                "Size:   100 kB\nPrivate_Clean:  4 kB\nPrivate_Dirty:  60 kB\n"
                "Private_Hugetlb: 0 kB\nVmFlags: rd wr\n"
                "7f00-7f10 rw-p 00000000 00:00 0 \n"
                "Private_Dirty:  8 kB\n"
                "7f20-7f30 rw-p 00000000 00:00 0\n"
                "Private_Dirty:  2048 kB\nPrivate_Hugetlb: 2048 kB\n"
                "7f40-7f50 r--s 00000000 08:01 12 /data/a b: 7.dat\n"
                "Private_Clean:  12 kB\nno such line\n: \nPrivate_Dirty: x\n");
  assert_ok(mg__census_maps(census, tree.root, &err), &err);
  assert_int_equal(bytes_of(census, "heap"), 64 * 1024);
  assert_int_equal(count_of(census, "anon"), 2);
  assert_int_equal(bytes_of(census, "anon"), (8 + 4096) * 1024);
  assert_int_equal(bytes_of(census, "/data/a b: #.dat"), 12 * 1024);
  fixture_close(&tree);
  mg_census_close(census);
}

static void test_maps(void **state) {
  mg_census *before = opened(0), *after = opened(0);
  mg_error err = MG_ERROR_INIT;
  mg_culprit worst[1];
  char *block;

  (void)state;
  assert_ok(mg_census_maps(before, &err), &err);
  block = fixture_touch(64 * MIB);
  assert_ok(mg_census_maps(after, &err), &err);
  fixture_release(block, 64 * MIB);
  assert_int_equal(mg_census_diff(before, after, MG_CULPRIT_MAPPING,
                                  MG_CENSUS_BY_BYTES, worst, 1),
                   1);
  assert_string_equal(worst[0].name, "anon");
  assert_true(worst[0].growth_bytes >= 60 * (int64_t)MIB);
  assert_true(worst[0].share > 0.5);
  mg_census_close(before);
  mg_census_close(after);
}

/* Others open and close meanwhile. */
static _Atomic bool churn_ends;

static void *churn(void *unused) {
  while (!churn_ends) {
    int pipes[2], fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pipe(pipes) == 0) {
      close(pipes[0]);
      close(pipes[1]);
    }
    if (fd >= 0) close(fd);
  }
  return unused;
}

static void test_fds_come_and_go(void **state) {
  pthread_t thread;

  (void)state;
  churn_ends = false;
  assert_int_equal(pthread_create(&thread, NULL, churn, NULL), 0);
  for (int i = 0; i < 200; i++) {
    mg_census *census = fds();
    assert_true(mg_census_size(census) > 0);
    mg_census_close(census);
  }
  churn_ends = true;
  pthread_join(thread, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table),
      cmocka_unit_test(test_is_bounded),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_difference),
      cmocka_unit_test(test_kinds),
      cmocka_unit_test(test_targets),
      cmocka_unit_test(test_mapping_names),
      cmocka_unit_test(test_plain_fds),
      cmocka_unit_test(test_tcp),
      cmocka_unit_test(test_other_sockets),
      cmocka_unit_test(test_no_proc),
      cmocka_unit_test(test_maps_text),
      cmocka_unit_test(test_maps),
      cmocka_unit_test(test_fds_come_and_go)};
  return cmocka_run_group_tests_name("census", tests, NULL, NULL);
}
