/* What wakes the sampler: the waker, the timer, the kernel, the service
 * manager; and that no descriptor, whatever became of it, makes it spin. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os.h"

static fixture_tree tree;
static mg__os *os;
static mg__os_events *events;

/* An empty tree: the waker is all there is, until a test adds something. */
static int set_up(void **state) {
  (void)state;
  unsetenv("MEMORY_PRESSURE_WATCH");
  unsetenv("MEMORY_PRESSURE_WRITE");
  fixture_open(&tree);
  fixture_write(&tree, "/proc/self/statm", "5 2 1 1 0 1 0\n");
  os = NULL;
  events = NULL;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  mg__os_events_close(events);
  mg__os_close(os);
  fixture_close(&tree);
  unsetenv("MEMORY_PRESSURE_WATCH");
  unsetenv("MEMORY_PRESSURE_WRITE");
  return 0;
}

static uint32_t open_events(void) {
  assert_int_equal(mg__os_open(&os, tree.root, NULL), MG_OK);
  assert_int_equal(mg__os_events_open(&events, os, 0.5, NULL), MG_OK);
  mg__os_events_arm(events, os);
  mg__os_events_arm(events, os);
  return mg__os_events_kinds(events);
}

static void check_file(const char *path, const char *bytes, size_t length) {
  char text[128];
  int fd = open(fixture_path(&tree, path), O_RDONLY | O_CLOEXEC);
  ssize_t got;

  assert_true(fd >= 0);
  got = read(fd, text, sizeof text);
  close(fd);
  assert_int_equal(got, length);
  assert_memory_equal(text, bytes, length);
}

/* ---- Timer and waker ----------------------------------------------------- */

static void test_timer(void **state) {
  uint64_t start;
  (void)state;
  assert_int_equal(open_events(), 0);
  assert_int_equal(mg__os_events_wait(events, 0), MG__WAKE_TIMER);
  start = mg_clock_ns();
  assert_int_equal(mg__os_events_wait(events, 20.5), MG__WAKE_TIMER);
  assert_true(mg_clock_ns() - start >= 20500000);
}

static void test_wake_before_wait(void **state) {
  (void)state;
  open_events();
  mg__os_events_wake(events);
  mg__os_events_wake(events);
  assert_int_equal(mg__os_events_wait(events, -1), MG__WAKE_ASKED);
  /* Both were for that wait. */
  assert_int_equal(mg__os_events_wait(events, 1), MG__WAKE_TIMER);
  mg__os_events_wake(events);
  assert_int_equal(mg__os_events_wait(events, 1e300), MG__WAKE_ASKED);
}

static void wake_later(void *ctx) {
  usleep(20000);
  mg__os_events_wake(ctx);
}

static void test_wake_from_thread(void **state) {
  mg__thread thread;
  (void)state;
  open_events();
  assert_int_equal(
      mg__thread_start(&thread, "waker", 65536, wake_later, events, NULL),
      MG_OK);
  assert_int_equal(mg__os_events_wait(events, -1), MG__WAKE_ASKED);
  mg__thread_join(&thread);
}

static void wake_from_handler(int number) {
  (void)number;
  mg__os_events_wake(events);
}

static void test_wake_from_signal_handler(void **state) {
  struct sigaction action = {.sa_handler = wake_from_handler}, before;
  (void)state;
  open_events();
  assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
  alarm(1);
  errno = 0;
  assert_int_equal(mg__os_events_wait(events, -1), MG__WAKE_ASKED);
  sigaction(SIGALRM, &before, NULL);
}

static void do_nothing(int number) {
  (void)number;
}

static void test_signals_do_not_shorten(void **state) {
  struct sigaction action = {.sa_handler = do_nothing}, before;
  uint64_t start;
  (void)state;
  open_events();
  assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
  start = mg_clock_ns();
  ualarm(5000, 5000);
  assert_int_equal(mg__os_events_wait(events, 60), MG__WAKE_TIMER);
  ualarm(0, 0);
  assert_true(mg_clock_ns() - start >= 60000000);
  sigaction(SIGALRM, &before, NULL);
}

static void lose_waker(void *ctx) {
  mg__thread thread;
  int used[8];
  char bytes[8];
  (void)ctx;
  for (int fd = 3; fd < 64; fd++)
    close(fd);
  for (int pair = 0; pair < 8; pair += 2)
    CHECK(pipe2(used + pair, O_NONBLOCK | O_CLOEXEC) == 0);
  CHECK(mg__os_events_wait(events, 1) == MG__WAKE_TIMER);
  CHECK(mg__thread_start(&thread, "waker", 65536, wake_later, events, NULL) ==
        MG_OK);
  CHECK(mg__os_events_wait(events, -1) == MG__WAKE_ASKED);
  mg__thread_join(&thread);
  mg__os_events_close(events);
  /* Nothing was written into what the host opened, nothing of it closed. */
  for (int pair = 0; pair < 8; pair += 2)
    CHECK(read(used[pair], bytes, sizeof bytes) == -1 && errno == EAGAIN);
}

static void test_host_closes_waker(void **state) {
  (void)state;
  open_events();
  assert_int_equal(fixture_child(lose_waker, NULL), 0);
}

/* ---- The service manager's pipe or socket -------------------------------- */

static int open_fifo(void) {
  int fd;

  assert_int_equal(mkfifo(fixture_path(&tree, "/fifo"), 0600), 0);
  setenv("MEMORY_PRESSURE_WATCH", fixture_path(&tree, "/fifo"), 1);
  fd = open(fixture_path(&tree, "/fifo"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  assert_true(fd >= 0);
  return fd;
}

static void test_fifo(void **state) {
  int fd = open_fifo();
  (void)state;
  assert_int_equal(open_events(), 1);
  assert_int_equal(mg__os_events_wait(events, 1), MG__WAKE_TIMER);
  assert_int_equal(write(fd, "x", 1), 1);
  assert_int_equal(mg__os_events_wait(events, 10000), MG__WAKE_KERNEL);
  assert_int_equal(mg__os_events_wait(events, 60), MG__WAKE_TIMER);
  assert_int_equal(write(fd, "xyz", 3), 3);
  assert_int_equal(mg__os_events_wait(events, 10000), MG__WAKE_KERNEL);
  close(fd);
}

static void test_asked_comes_first(void **state) {
  int fd = open_fifo();
  (void)state;
  open_events();
  assert_int_equal(write(fd, "x", 1), 1);
  mg__os_events_wake(events);
  assert_int_equal(mg__os_events_wait(events, 10000), MG__WAKE_ASKED);
  assert_int_equal(mg__os_events_wait(events, 10000), MG__WAKE_KERNEL);
  close(fd);
}

typedef struct flood {
  int fd;
  atomic_bool over;
} flood;

static void write_without_end(void *ctx) {
  flood *pipe = ctx;
  ssize_t done = 0;

  while (!atomic_load(&pipe->over)) {
    done += write(pipe->fd, "xxxxxxxx", 8);
    usleep(100);
  }
  if (done == 0) abort();
}

static void test_one_notice_per_gap(void **state) {
  flood pipe = {open_fifo(), false};
  mg__thread thread;
  uint64_t before;
  (void)state;
  open_events();
  assert_int_equal(
      mg__thread_start(&thread, "flood", 65536, write_without_end, &pipe, NULL),
      MG_OK);
  before = mg_clock_ns();
  assert_int_equal(mg__os_events_wait(events, 10000), MG__WAKE_KERNEL);
  for (int round = 0; round < 5; round++) {
    uint64_t start = before;
    before = mg_clock_ns();
    assert_int_equal(mg__os_events_wait(events, 10000), MG__WAKE_KERNEL);
    /* The notice before was taken after `start`. */
    assert_true(mg_clock_ns() - start >= 50000000);
  }
  atomic_store(&pipe.over, true);
  mg__thread_join(&thread);
  close(pipe.fd);
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  assert_true(fd >= 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(listen(fd, 1), 0);
  return fd;
}

static void test_socket_that_hangs_up(void **state) {
  char greeting[32];
  int listener, peer;
  (void)state;
  listener = listen_at(fixture_path(&tree, "/socket"));
  setenv("MEMORY_PRESSURE_WATCH", fixture_path(&tree, "/socket"), 1);
  setenv("MEMORY_PRESSURE_WRITE", "aGVsbG8=", 1);
  assert_int_equal(open_events(), 1);
  peer = accept(listener, NULL, NULL);
  assert_true(peer >= 0);
  assert_int_equal(read(peer, greeting, sizeof greeting), 5);
  assert_memory_equal(greeting, "hello", 5);
  assert_int_equal(write(peer, "x", 1), 1);
  assert_int_equal(mg__os_events_wait(events, 10000), MG__WAKE_KERNEL);
  close(peer);
  close(listener);
  /* Readable for ever now: dropped, not reported. */
  assert_int_equal(mg__os_events_wait(events, 120), MG__WAKE_TIMER);
  assert_int_equal(mg__os_events_kinds(events), 0);
}

static void test_socket_nobody_listens_at(void **state) {
  int listener = listen_at(fixture_path(&tree, "/socket"));
  (void)state;
  close(listener);
  setenv("MEMORY_PRESSURE_WATCH", fixture_path(&tree, "/socket"), 1);
  assert_int_equal(open_events(), 0);
  assert_int_equal(mg__os_events_wait(events, 1), MG__WAKE_TIMER);
}

/* ---- PSI ----------------------------------------------------------------- */

#define STALLED "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"

static void test_trigger_on_machine(void **state) {
  (void)state;
  fixture_write(&tree, "/proc/pressure/memory", "");
  assert_int_equal(open_events(), 1);
  check_file("/proc/pressure/memory", "some 100000 2000000\0", 20);
  assert_int_equal(mg__os_events_wait(events, 1), MG__WAKE_TIMER);
}

static void test_trigger_on_own_group(void **state) {
  (void)state;
  fixture_write(&tree, "/proc/self/cgroup", "0::/job\n");
  fixture_write(&tree, "/proc/self/mountinfo",
                "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  fixture_write(&tree, "/sys/fs/cgroup/job/memory.pressure", "");
  fixture_write(&tree, "/proc/pressure/memory", STALLED);
  assert_int_equal(open_events(), 1);
  check_file("/sys/fs/cgroup/job/memory.pressure", "some 100000 2000000\0", 20);
  check_file("/proc/pressure/memory", STALLED, sizeof STALLED - 1);
}

static void test_trigger_the_manager_asks_for(void **state) {
  (void)state;
  fixture_write(&tree, "/watched", "");
  fixture_write(&tree, "/proc/pressure/memory", STALLED);
  setenv("MEMORY_PRESSURE_WATCH", fixture_path(&tree, "/watched"), 1);
  /* "some 200000 2000000" and its NUL */
  setenv("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=", 1);
  assert_int_equal(open_events(), 1);
  check_file("/watched", "some 200000 2000000\0", 20);
  check_file("/proc/pressure/memory", STALLED, sizeof STALLED - 1);
}

static void test_manager_wants_none(void **state) {
  (void)state;
  fixture_write(&tree, "/proc/pressure/memory", STALLED);
  setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
  assert_int_equal(open_events(), 0);
  check_file("/proc/pressure/memory", STALLED, sizeof STALLED - 1);
}

static void test_manager_asks_for_nonsense(void **state) {
  static const struct {
    const char *watch, *write; /* NULL: a file that could be written */
  } rows[] = {
      {"/no/such/file", "c29tZQ=="}, {"/usr", "c29tZQ=="},
      {"/dev/zero", "c29tZQ=="},     {"", "c29tZQ=="},
      {NULL, "not base64!"},         {NULL, "abcde"},
  };
  (void)state;
  fixture_write(&tree, "/watched", "untouched");
  for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
    const char *watch = rows[row].watch;
    setenv("MEMORY_PRESSURE_WATCH",
           watch != NULL ? watch : fixture_path(&tree, "/watched"), 1);
    setenv("MEMORY_PRESSURE_WRITE", rows[row].write, 1);
    fixture_write(&tree, "/proc/pressure/memory", "");
    assert_int_equal(open_events(), 1); /* the machine's instead */
    check_file("/proc/pressure/memory", "some 100000 2000000\0", 20);
    check_file("/watched", "untouched", 9);
    mg__os_events_close(events);
    mg__os_close(os);
    os = NULL;
    events = NULL;
  }
}

static void open_unprivileged(void *ctx) {
  (void)ctx;
  CHECK(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
  CHECK(mg__os_open(&os, tree.root, NULL) == MG_OK);
  CHECK(mg__os_events_open(&events, os, 0.5, NULL) == MG_OK);
  mg__os_events_arm(events, os);
  CHECK(mg__os_events_kinds(events) == 0);
  CHECK(mg__os_events_wait(events, 1) == MG__WAKE_TIMER);
  mg__os_events_wake(events);
  CHECK(mg__os_events_wait(events, -1) == MG__WAKE_ASKED);
}

static void test_trigger_not_permitted(void **state) {
  (void)state;
  fixture_write(&tree, "/proc/pressure/memory", STALLED);
  chmod(fixture_path(&tree, "/proc/pressure/memory"), 0400);
  assert_int_equal(fixture_child(open_unprivileged, NULL), 0);
}

/* On this machine, whatever it has: a new trigger has nothing to tell yet. */
static void test_real_sources(void **state) {
  mg_reading before, after;
  mg__wake wake;
  (void)state;
  assert_int_equal(mg__os_open(&os, "", NULL), MG_OK);
  assert_int_equal(mg__os_events_open(&events, os, 0.9, NULL), MG_OK);
  mg__os_events_arm(events, os);
  assert_true(mg__os_events_kinds(events) <= 7);
  if (access("/proc/pressure/memory", W_OK) == 0)
    assert_true(mg__os_events_kinds(events) & 1);
  mg__os_read(os, &before);
  wake = mg__os_events_wait(events, 100);
  mg__os_read(os, &after);
  /* A notice is real only if something stalled meanwhile or a limit was met. */
  if (wake != MG__WAKE_TIMER) {
    assert_int_equal(wake, MG__WAKE_KERNEL);
    assert_true(after.stall_total_us != before.stall_total_us ||
                mg__os_events_kinds(events) != 1);
  }
}

/* ---- Control groups ------------------------------------------------------ */

static void test_v1_threshold_request(void **state) {
  char text[64];
  int fd, event_fd, usage_fd, bytes = 0;
  (void)state;
  fixture_write(&tree, "/proc/self/cgroup", "4:memory:/box\n");
  fixture_write(&tree, "/proc/self/mountinfo",
                "35 31 0:32 / /sys/m rw - cgroup cgroup rw,memory\n");
  fixture_write(&tree, "/sys/m/box/memory.usage_in_bytes", "10\n");
  fixture_write(&tree, "/sys/m/box/memory.limit_in_bytes", "67108864\n");
  fixture_write(&tree, "/sys/m/box/cgroup.event_control", "");
  fixture_write(&tree, "/sys/m/memory.usage_in_bytes", "10\n");
  fixture_write(&tree, "/sys/m/memory.limit_in_bytes", "9223372036854771712\n");
  fixture_write(&tree, "/sys/m/cgroup.event_control", "");
  assert_int_equal(open_events(), 4);
  check_file("/sys/m/cgroup.event_control", "", 0); /* unlimited */
  fd = open(fixture_path(&tree, "/sys/m/box/cgroup.event_control"), O_RDONLY);
  bytes = (int)read(fd, text, sizeof text);
  close(fd);
  assert_true(bytes > 0 && text[bytes - 1] == '\0');
  assert_int_equal(
      sscanf(text, "%d %d 33554432%n", &event_fd, &usage_fd, &bytes), 2);
  assert_int_equal(text[bytes], '\0');
  assert_int_equal(usage_fd, mg__os_cgroup(os)->level[0].usage.fd);
  assert_int_equal(fcntl(event_fd, F_GETFD), FD_CLOEXEC);
}

static void test_v1_without_event_control(void **state) {
  (void)state;
  fixture_write(&tree, "/proc/self/cgroup", "4:memory:/box\n");
  fixture_write(&tree, "/proc/self/mountinfo",
                "35 31 0:32 / /sys/m rw - cgroup cgroup rw,memory\n");
  fixture_write(&tree, "/sys/m/box/memory.usage_in_bytes", "10\n");
  fixture_write(&tree, "/sys/m/box/memory.limit_in_bytes", "67108864\n");
  assert_int_equal(open_events(), 0);
}

static void test_v2_events_of_each_level(void **state) {
  (void)state;
  fixture_write(&tree, "/proc/self/cgroup", "0::/a/b\n");
  fixture_write(&tree, "/proc/self/mountinfo",
                "41 31 0:38 / /sys/c rw - cgroup2 cgroup2 rw\n");
  fixture_write(&tree, "/sys/c/a/memory.current", "1\n");
  fixture_write(&tree, "/sys/c/a/memory.max", "max\n");
  fixture_write(&tree, "/sys/c/a/memory.events", "low 0\nhigh 0\nmax 0\n");
  fixture_write(&tree, "/sys/c/a/b/memory.current", "1\n");
  fixture_write(&tree, "/sys/c/a/b/memory.max", "8\n");
  fixture_write(&tree, "/sys/c/a/b/memory.events.local", "high 0\nmax 0\n");
  assert_int_equal(open_events(), 2);
  /* Plain files raise nothing; they must not keep the thread busy either. */
  assert_int_equal(mg__os_events_wait(events, 5), MG__WAKE_TIMER);
}

/* ---- Memory and descriptors ---------------------------------------------- */

static void test_no_memory(void **state) {
  mg_error err = MG_ERROR_INIT;
  mg_status st;
  (void)state;
  assert_int_equal(mg__os_open(&os, tree.root, NULL), MG_OK);
  fixture_fail_allocation(0);
  st = mg__os_events_open(&events, os, 0.5, &err);
  assert_true(fixture_allocation_failed());
  assert_int_equal(st, MG_ENOMEM);
  assert_null(events);
}

static void open_without_descriptors(void *ctx) {
  mg_error err = MG_ERROR_INIT;
  uint64_t before;
  (void)ctx;
  CHECK(mg__os_open(&os, "", NULL) == MG_OK);
  before = mg__os_fd_count(os);
  while (dup(2) >= 0)
    continue;
  CHECK(mg__os_events_open(&events, os, 0.5, &err) == MG_ESYS);
  CHECK(err.system_errno == EMFILE);
  CHECK(events == NULL);
  CHECK(mg__os_fd_count(os) > before);
}

static void test_no_descriptors(void **state) {
  (void)state;
  assert_int_equal(fixture_child(open_without_descriptors, NULL), 0);
}

static void test_nothing_stays_open(void **state) {
  uint64_t before;
  mg__os *reader;
  (void)state;
  assert_int_equal(mg__os_open(&reader, "", NULL), MG_OK);
  before = mg__os_fd_count(reader);
  for (int round = 0; round < 10; round++) {
    mg__os_events *more;
    assert_int_equal(mg__os_events_open(&more, reader, 0.5, NULL), MG_OK);
    mg__os_events_arm(more, reader);
    mg__os_events_close(more);
  }
  assert_int_equal(mg__os_fd_count(reader), before);
  mg__os_close(reader);
}

#define EVENT_TEST(name) \
  cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      EVENT_TEST(test_timer),
      EVENT_TEST(test_wake_before_wait),
      EVENT_TEST(test_wake_from_thread),
      EVENT_TEST(test_wake_from_signal_handler),
      EVENT_TEST(test_signals_do_not_shorten),
      EVENT_TEST(test_host_closes_waker),
      EVENT_TEST(test_fifo),
      EVENT_TEST(test_asked_comes_first),
      EVENT_TEST(test_one_notice_per_gap),
      EVENT_TEST(test_socket_that_hangs_up),
      EVENT_TEST(test_socket_nobody_listens_at),
      EVENT_TEST(test_trigger_on_machine),
      EVENT_TEST(test_trigger_on_own_group),
      EVENT_TEST(test_trigger_the_manager_asks_for),
      EVENT_TEST(test_manager_wants_none),
      EVENT_TEST(test_manager_asks_for_nonsense),
      EVENT_TEST(test_trigger_not_permitted),
      EVENT_TEST(test_real_sources),
      EVENT_TEST(test_v1_threshold_request),
      EVENT_TEST(test_v1_without_event_control),
      EVENT_TEST(test_v2_events_of_each_level),
      EVENT_TEST(test_no_memory),
      EVENT_TEST(test_no_descriptors),
      EVENT_TEST(test_nothing_stays_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
