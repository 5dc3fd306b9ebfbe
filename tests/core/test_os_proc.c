/* The reader on the machine itself, and the small things of os/linux.c: clock,
 * mutexes, threads, fork, files. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "os.h"

static mg__os *open_real(void) {
  mg__os *os;

  assert_int_equal(mg__os_open(&os, "", NULL), MG_OK);
  return os;
}

/* ---- The reader ---------------------------------------------------------- */

static void test_numbers_are_there(void **state) {
  mg_reading reading;
  mg__os *os = open_real();
  (void)state;
  mg__os_read(os, &reading);
  assert_true(reading.rss_bytes > 0 && reading.rss_bytes != MG_ABSENT);
  assert_true(reading.shared_bytes <= reading.rss_bytes);
  assert_true(reading.virtual_bytes >= reading.rss_bytes);
  assert_true(reading.data_bytes <= reading.virtual_bytes);
  assert_true(reading.machine_total_bytes != MG_ABSENT);
  assert_true(reading.machine_available_bytes <= reading.machine_total_bytes);
  assert_true(reading.rss_bytes < reading.machine_total_bytes);
  assert_int_equal(reading.heap_used_bytes, MG_ABSENT);
  assert_int_equal(reading.heap_total_bytes, MG_ABSENT);
  assert_int_equal(reading.heap_limit_bytes, MG_ABSENT);
  assert_int_equal(reading.external_bytes, MG_ABSENT);
  assert_int_equal(reading.array_buffer_bytes, MG_ABSENT);
  mg__os_close(os);
}

static void test_rss_grows_and_shrinks(void **state) {
  mg_reading before, after;
  mg__os *os = open_real();
  char *block;
  (void)state;
  mg__os_read(os, &before);
  block = fixture_touch(64u * MIB);
  assert_non_null(block);
  mg__os_read(os, &after);
  assert_true(after.rss_bytes >= before.rss_bytes + 60u * MIB);
  assert_true(after.virtual_bytes >= before.virtual_bytes + 60u * MIB);
  assert_true(after.data_bytes >= before.data_bytes + 60u * MIB);
  assert_true(mg__os_rss(os) >= before.rss_bytes + 60u * MIB);
  fixture_release(block, 64u * MIB);
  assert_true(mg__os_rss(os) <= after.rss_bytes - 60u * MIB);
  mg__os_close(os);
}

static void test_descriptors_are_counted(void **state) {
  mg__os *os = open_real();
  uint64_t before = mg__os_fd_count(os);
  int fds[3];
  (void)state;
  for (int index = 0; index < 3; index++) {
    fds[index] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fds[index] >= 0);
  }
  assert_int_equal(mg__os_fd_count(os), before + 3);
  close(fds[1]);
  assert_int_equal(mg__os_fd_count(os), before + 2);
  close(fds[0]);
  close(fds[2]);
  assert_int_equal(mg__os_fd_count(os), before);
  mg__os_close(os);
}

typedef struct gate {
  atomic_bool open;
} gate;

static void wait_at_gate(void *ctx) {
  gate *shut = ctx;

  while (!atomic_load(&shut->open))
    usleep(1000);
}

static void test_threads_are_counted(void **state) {
  mg_reading before, after;
  mg__thread threads[2];
  gate shut = {false};
  mg__os *os = open_real();
  (void)state;
  /* A sanitizer starts a thread of its own with the first one. */
  assert_int_equal(mg__thread_start(&threads[0], "first", 0, wait_at_gate,
                                    &(gate){true}, NULL),
                   MG_OK);
  mg__thread_join(&threads[0]);
  mg__os_read(os, &before);
  for (int index = 0; index < 2; index++)
    assert_int_equal(mg__thread_start(&threads[index], "counted", 0,
                                      wait_at_gate, &shut, NULL),
                     MG_OK);
  mg__os_read(os, &after);
  assert_int_equal(after.thread_count, before.thread_count + 2);
  atomic_store(&shut.open, true);
  for (int index = 0; index < 2; index++)
    mg__thread_join(&threads[index]);
  mg__os_close(os);
}

static void check_soft_limits(void *ctx) {
  struct rlimit address, data;
  mg_reading reading;
  mg__os *os;
  (void)ctx;
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  CHECK(getrlimit(RLIMIT_AS, &address) == 0);
  CHECK(getrlimit(RLIMIT_DATA, &data) == 0);
  address.rlim_cur = UINT64_C(1) << 46;
  data.rlim_cur = UINT64_C(1) << 40;
  CHECK(setrlimit(RLIMIT_AS, &address) == 0);
  CHECK(setrlimit(RLIMIT_DATA, &data) == 0);
  mg__os_read(os, &reading);
  CHECK(reading.address_limit_bytes == UINT64_C(70368744177664));
  CHECK(reading.data_limit_bytes == UINT64_C(1099511627776));
  address.rlim_cur = address.rlim_max;
  CHECK(setrlimit(RLIMIT_AS, &address) == 0);
  mg__os_read(os, &reading);
  CHECK(reading.address_limit_bytes ==
        (address.rlim_max == RLIM_INFINITY ? MG_ABSENT : address.rlim_max));
  mg__os_close(os);
}

static void test_soft_limits(void **state) {
  (void)state;
  assert_int_equal(fixture_child(check_soft_limits, NULL), 0);
}

static void read_from_two_sides(void *ctx) {
  const mg__os *os = ctx;

  for (int round = 0; round < 2000; round++)
    if (mg__os_rss(os) == MG_ABSENT) abort();
}

static void test_rss_beside_read(void **state) {
  mg__os *os = open_real();
  mg__thread thread;
  mg_reading reading;
  (void)state;
  assert_int_equal(
      mg__thread_start(&thread, "beside", 65536, read_from_two_sides, os, NULL),
      MG_OK);
  for (int round = 0; round < 500; round++) {
    mg__os_read(os, &reading);
    mg__os_refresh(os);
  }
  mg__thread_join(&thread);
  mg__os_close(os);
}

static void read_in_child(void *ctx) {
  mg__os *parents = ctx, *own;
  uint64_t before = mg__os_rss(parents);
  char *block = fixture_touch(64u * MIB);

  CHECK(block != NULL);
  CHECK(mg__os_open(&own, "", NULL) == MG_OK);
  CHECK(mg__os_rss(own) >= 64u * MIB);
  /* What was open before the fork still tells of the parent. */
  CHECK(mg__os_rss(parents) < before + 32u * MIB);
  mg__os_close(parents);
  CHECK(mg__os_rss(own) >= 64u * MIB);
  mg__os_close(own);
  fixture_release(block, 64u * MIB);
}

static void test_child_reads_itself(void **state) {
  mg__os *os = open_real();
  (void)state;
  assert_int_equal(fixture_child(read_in_child, os), 0);
  assert_true(mg__os_rss(os) != MG_ABSENT);
  mg__os_close(os);
}

static void lose_descriptors(void *ctx) {
  mg__os *os = ctx;
  mg_reading reading;
  struct stat info;
  char path[] = "/tmp/memguard-test-XXXXXX";
  int used[64];

  /* A host that turns into a daemon: all closed, then its own files. */
  mg__os_close(os);
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  for (int fd = 3; fd < 64; fd++)
    close(fd);
  mg__os_read(os, &reading);
  CHECK(reading.rss_bytes == MG_ABSENT);
  CHECK(reading.fd_count == MG_ABSENT);
  CHECK(reading.thread_count == MG_ABSENT);
  used[0] = mkstemp(path);
  CHECK(used[0] >= 0 && unlink(path) == 0);
  for (int index = 1; index < 40; index++)
    CHECK((used[index] = dup(used[0])) >= 0);
  mg__os_refresh(os);
  mg__os_read(os, &reading);
  CHECK(reading.rss_bytes != MG_ABSENT);
  CHECK(reading.fd_count != MG_ABSENT);
  CHECK(reading.thread_count != MG_ABSENT);
  CHECK(mg__os_rss(os) != MG_ABSENT);
  mg__os_close(os);
  for (int index = 0; index < 40; index++)
    CHECK(fstat(used[index], &info) == 0); /* the host's are untouched */
}

static void test_host_closes_everything(void **state) {
  mg__os *os = open_real();
  (void)state;
  assert_int_equal(fixture_child(lose_descriptors, os), 0);
  mg__os_close(os);
}

static void test_nothing_stays_open(void **state) {
  mg__os *os = open_real(), *more;
  uint64_t before = mg__os_fd_count(os);
  (void)state;
  for (int round = 0; round < 20; round++) {
    assert_int_equal(mg__os_open(&more, "", NULL), MG_OK);
    mg__os_refresh(more);
    mg__os_close(more);
  }
  assert_int_equal(mg__os_fd_count(os), before);
  mg__os_close(os);
  mg__os_close(NULL);
}

/* ---- Clock, mutex, threads, fork ----------------------------------------- */

static void test_clock(void **state) {
  uint64_t first = mg_clock_ns(), unix_ms = mg__os_unix_ms();
  (void)state;
  usleep(2000);
  assert_true(mg_clock_ns() >= first + 2000000);
  assert_true(mg_clock_ms() >= (double)first / 1e6 + 2.0);
  assert_true(unix_ms > UINT64_C(1700000000000)); /* November 2023 */
}

static bool is_free(mg__mutex *mutex) {
  return pthread_mutex_trylock(&mutex->native) == 0;
}

static void try_locked(void *ctx) {
  if (is_free(ctx)) abort();
}

static void use_after_reset(void *ctx) {
  mg__mutex *mutex = ctx;

  mg__mutex_reset(mutex);
  CHECK(is_free(mutex));
  mg__unlock(mutex);
}

static void test_mutex(void **state) {
  mg__mutex mutex;
  mg__thread thread;
  (void)state;
  assert_int_equal(mg__mutex_init(&mutex, NULL), MG_OK);
  mg__lock(&mutex);
  assert_int_equal(
      mg__thread_start(&thread, "try", 0, try_locked, &mutex, NULL), MG_OK);
  mg__thread_join(&thread);
  assert_int_equal(fixture_child(use_after_reset, &mutex), 0);
  mg__unlock(&mutex);
  assert_true(is_free(&mutex));
  mg__unlock(&mutex);
  mg__mutex_destroy(&mutex);
}

typedef struct thread_facts {
  sigset_t mask;
  char name[16];
  bool is_self;
  const mg__thread *thread;
  pthread_t native;
} thread_facts;

static void collect_facts(void *ctx) {
  thread_facts *facts = ctx;
  volatile char deep[48 * 1024];

  for (size_t at = 0; at < sizeof deep; at += 1024)
    deep[at] = 1;
  pthread_sigmask(SIG_SETMASK, NULL, &facts->mask);
  prctl(PR_GET_NAME, facts->name, 0, 0, 0);
  facts->native = pthread_self();
}

static void test_thread(void **state) {
  thread_facts facts = {.is_self = false};
  mg__thread thread;
  sigset_t mine;
  (void)state;
  assert_int_equal(mg__thread_start(&thread, "fifteen-bytes-x-and-more", 65536,
                                    collect_facts, &facts, NULL),
                   MG_OK);
  assert_false(mg__thread_is_self(&thread));
  mg__thread_join(&thread);
  assert_true(pthread_equal(facts.native, thread.native));
  assert_string_equal(facts.name, "fifteen-bytes-x");
  assert_true(sigismember(&facts.mask, SIGINT));
  assert_true(sigismember(&facts.mask, SIGTERM));
  assert_true(sigismember(&facts.mask, SIGPROF));
  assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mine), 0);
  assert_false(sigismember(&mine, SIGTERM)); /* the caller's is as it was */
}

static void find_self(void *ctx) {
  thread_facts *facts = ctx;

  facts->is_self = mg__thread_is_self(facts->thread);
}

static void test_thread_knows_itself(void **state) {
  mg__thread here = {pthread_self()};
  thread_facts facts = {.thread = &here};
  mg__thread thread;
  (void)state;
  assert_true(mg__thread_is_self(&here));
  assert_int_equal(
      mg__thread_start(&thread, "other", 0, find_self, &facts, NULL), MG_OK);
  mg__thread_join(&thread);
  assert_false(facts.is_self);
}

static void test_thread_without_memory(void **state) {
  mg_error err = MG_ERROR_INIT;
  mg__thread thread;
  mg_status st;
  (void)state;
  fixture_fail_allocation(0);
  st = mg__thread_start(&thread, "none", 0, find_self, NULL, &err);
  assert_true(fixture_allocation_failed());
  assert_int_equal(st, MG_ENOMEM);
  assert_non_null(strstr(err.text, "thread none"));
}

static void start_too_many(void *ctx) {
  struct rlimit none = {0, 0};
  mg_error err = MG_ERROR_INIT;
  mg__thread thread;
  (void)ctx;
  /* Root is not held to it. */
  CHECK(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
  CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
  CHECK(mg__thread_start(&thread, "more", 0, find_self, NULL, &err) == MG_ESYS);
  CHECK(err.system_errno == EAGAIN);
  CHECK(strstr(err.text, "cannot start thread more") != NULL);
}

static void test_thread_refused(void **state) {
  (void)state;
  assert_int_equal(fixture_child(start_too_many, NULL), 0);
}

static int before_count, parent_count, child_count;
static void count_before(void) {
  before_count++;
}
static void count_parent(void) {
  parent_count++;
}
static void count_child(void) {
  child_count++;
}

static void check_fork_counts(void *ctx) {
  (void)ctx;
  CHECK(before_count == 1 && parent_count == 0 && child_count == 1);
}

static void test_fork_handlers(void **state) {
  (void)state;
  assert_int_equal(
      mg__os_at_fork(count_before, count_parent, count_child, NULL), MG_OK);
  assert_int_equal(
      mg__os_at_fork(count_before, count_parent, count_child, NULL), MG_OK);
  assert_int_equal(fixture_child(check_fork_counts, NULL), 0);
  assert_int_equal(before_count, 1);
  assert_int_equal(parent_count, 1);
  assert_int_equal(child_count, 0);
}

/* ---- Files --------------------------------------------------------------- */

static void test_absolute_path(void **state) {
  mg_error err = MG_ERROR_INIT;
  char here[4096], out[4096], wanted[4200], small[8];
  (void)state;
  assert_non_null(getcwd(here, sizeof here));
  assert_int_equal(chdir("/usr"), 0);
  assert_int_equal(mg__os_absolute_path(out, sizeof out, "a/b", &err), MG_OK);
  assert_string_equal(out, "/usr/a/b");
  assert_int_equal(chdir("/"), 0);
  assert_int_equal(mg__os_absolute_path(out, sizeof out, "a", &err), MG_OK);
  assert_string_equal(out, "/a");
  assert_int_equal(mg__os_absolute_path(out, sizeof out, "/x/y", &err), MG_OK);
  assert_string_equal(out, "/x/y");
  assert_int_equal(mg__os_absolute_path(small, sizeof small, "/123456", &err),
                   MG_OK);
  assert_string_equal(small, "/123456");
  assert_int_equal(mg__os_absolute_path(small, sizeof small, "/1234567", &err),
                   MG_EINVAL);
  assert_string_equal(err.text, "path is 8 bytes long, at most 7 allowed");
  assert_int_equal(mg__os_absolute_path(out, sizeof out, "", &err), MG_EINVAL);
  assert_string_equal(err.text, "path is empty");
  snprintf(wanted, sizeof wanted, "%s", here);
  assert_int_equal(chdir(wanted), 0);
}

static void path_without_directory(void *ctx) {
  mg_error err = MG_ERROR_INIT;
  fixture_tree tree;
  char out[4096];
  (void)ctx;
  fixture_open(&tree);
  CHECK(chdir(tree.root) == 0);
  fixture_close(&tree);
  CHECK(mg__os_absolute_path(out, sizeof out, "a", &err) == MG_ESYS);
  CHECK(err.system_errno == ENOENT);
  CHECK(mg__os_absolute_path(out, sizeof out, "/a", &err) == MG_OK);
}

static void test_path_without_directory(void **state) {
  (void)state;
  assert_int_equal(fixture_child(path_without_directory, NULL), 0);
}

static void test_unlink(void **state) {
  fixture_tree tree;
  (void)state;
  fixture_open(&tree);
  fixture_write(&tree, "/a/b", "x");
  assert_int_equal(mg__os_unlink(fixture_path(&tree, "/a/b")), 0);
  assert_int_equal(access(fixture_path(&tree, "/a/b"), F_OK), -1);
  assert_int_equal(mg__os_unlink(fixture_path(&tree, "/a/b")), 0);
  assert_int_equal(mg__os_unlink(fixture_path(&tree, "/a")), EISDIR);
  fixture_close(&tree);
}

static void test_file_read(void **state) {
  fixture_tree tree;
  mg__file file;
  char text[8];
  (void)state;
  fixture_open(&tree);
  fixture_write(&tree, "/short", "ab\ncd");
  fixture_write(&tree, "/long", "ab\ncdefghij\n");
  fixture_write(&tree, "/line", "abcdefghij\n");
  assert_true(mg__file_open(&file, fixture_path(&tree, "/short"), O_RDONLY));
  assert_int_equal(fcntl(file.fd, F_GETFD), FD_CLOEXEC);
  assert_int_equal(mg__file_read(file.fd, text, sizeof text), 0);
  assert_string_equal(text, "ab\ncd");
  assert_int_equal(mg__file_read(file.fd, text, sizeof text), 0);
  assert_string_equal(text, "ab\ncd"); /* from the start each time */
  mg__file_close(&file);
  assert_int_equal(file.fd, -1);
  mg__file_close(&file);
  assert_true(mg__file_open(&file, fixture_path(&tree, "/long"), O_RDONLY));
  assert_int_equal(mg__file_read(file.fd, text, sizeof text), 0);
  assert_string_equal(text, "ab\n"); /* never half a number */
  mg__file_close(&file);
  assert_true(mg__file_open(&file, fixture_path(&tree, "/line"), O_RDONLY));
  assert_int_equal(mg__file_read(file.fd, text, sizeof text), 0);
  assert_string_equal(text, "");
  mg__file_close(&file);
  assert_false(mg__file_open(&file, fixture_path(&tree, "/none"), O_RDONLY));
  assert_int_equal(mg__file_read(file.fd, text, sizeof text), EBADF);
  assert_string_equal(text, "");
  fixture_close(&tree);
}

static void test_file_text(void **state) {
  fixture_tree tree;
  char *large = malloc(5u * MIB), *text;
  (void)state;
  assert_non_null(large);
  fixture_open(&tree);
  memset(large, 'x', 5u * MIB);
  large[8191] = '\0';
  fixture_write(&tree, "/a", large);
  text = mg__file_text(fixture_path(&tree, "/a"));
  assert_non_null(text);
  assert_int_equal(strlen(text), 8191);
  mg__free(text);
  large[8191] = 'x';
  large[100000] = '\0';
  fixture_write(&tree, "/a", large);
  text = mg__file_text(fixture_path(&tree, "/a"));
  assert_non_null(text);
  assert_string_equal(text, large);
  mg__free(text);
  large[100000] = 'x';
  large[5u * MIB - 1] = '\0';
  fixture_write(&tree, "/a", large);
  assert_null(mg__file_text(fixture_path(&tree, "/a")));
  fixture_write(&tree, "/a", "");
  text = mg__file_text(fixture_path(&tree, "/a"));
  assert_string_equal(text, "");
  mg__free(text);
  assert_null(mg__file_text(fixture_path(&tree, "/none")));
  assert_null(mg__file_text(tree.root));
  fixture_close(&tree);
  free(large);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_numbers_are_there),
      cmocka_unit_test(test_rss_grows_and_shrinks),
      cmocka_unit_test(test_descriptors_are_counted),
      cmocka_unit_test(test_threads_are_counted),
      cmocka_unit_test(test_soft_limits),
      cmocka_unit_test(test_rss_beside_read),
      cmocka_unit_test(test_child_reads_itself),
      cmocka_unit_test(test_host_closes_everything),
      cmocka_unit_test(test_nothing_stays_open),
      cmocka_unit_test(test_clock),
      cmocka_unit_test(test_mutex),
      cmocka_unit_test(test_thread),
      cmocka_unit_test(test_thread_knows_itself),
      cmocka_unit_test(test_thread_without_memory),
      cmocka_unit_test(test_thread_refused),
      cmocka_unit_test(test_fork_handlers),
      cmocka_unit_test(test_absolute_path),
      cmocka_unit_test(test_path_without_directory),
      cmocka_unit_test(test_unlink),
      cmocka_unit_test(test_file_read),
      cmocka_unit_test(test_file_text),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
