/* test_control.c - requests from outside, and peers that misbehave. */
#include "segment_support.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "control_parts.h"
#include "fixture.h"

#define ASK_MS 20000.0

static mg_monitor *monitor;
static mg_control *registered;
static char socket_path[MG_SEGMENT_PATH_BYTES + 8];
static _Atomic int calls;
static _Atomic bool is_held; /* the hook waits while it is */

/* census: absent; snapshot: a long answer; others repeat what they got. */
static mg_status serve(void *ctx, mg_control_command command,
                       const char *arguments, mg_control_reply *reply,
                       mg_error *err) {
  char text[400];
  char *large;
  mg_status st;

  (void)ctx;
  atomic_fetch_add(&calls, 1);
  while (atomic_load(&is_held)) sleep_ms(1);
  if (command == MG_CONTROL_CENSUS) {
    snprintf(err->text, sizeof err->text, "no census here");
    return MG_EABSENT;
  }
  if (command == MG_CONTROL_SNAPSHOT) {
    large = malloc(MG_CONTROL_REPLY_BYTES);
    if (large == NULL) return MG_ENOMEM;
    memset(large, 'x', MG_CONTROL_REPLY_BYTES);
    st = mg_control_answer(reply, large, MG_CONTROL_REPLY_BYTES, err);
    free(large);
    return st;
  }
  snprintf(text, sizeof text, "%s %.200s", mg_control_name(command), arguments);
  return mg_control_answer(reply, text, strlen(text), err);
}

static bool is_listening(void) {
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    if (access(socket_path, F_OK) == 0) return true;
    sleep_ms(5);
  }
  return false;
}

static int begin(void **state) {
  mg_config config = support_config("sample_interval", "20ms", NULL);
  mg_control_hooks hooks = MG_CONTROL_HOOKS_INIT;
  mg_error err = MG_ERROR_INIT;

  if (segment_setup(state) != 0) return -1;
  atomic_store(&calls, 0);
  monitor = opened(&config, NULL);
  hooks.run = serve;
  assert_ok(mg_control_open(&registered, &hooks, &err), &err);
  start(monitor);
  if (segment_awaited() == NULL) return -1;
  snprintf(socket_path, sizeof socket_path, "%s.sock", segment_awaited());
  return is_listening() ? 0 : -1;
}

static int end(void **state) {
  atomic_store(&is_held, false);
  mg_control_close(registered);
  mg_monitor_close(monitor);
  if (access(socket_path, F_OK) == 0) return -1;
  return segment_teardown(state);
}

static mg_status ask(mg_control_command command, const char *arguments,
                     char *out, size_t out_bytes) {
  mg_error err = MG_ERROR_INIT;
  char *answer;
  mg_status st =
      mg_control_ask(&answer, socket_path, command, arguments, ASK_MS, &err);

  snprintf(out, out_bytes, "%.*s", (int)out_bytes - 1,
           st == MG_OK ? answer : err.text);
  mg_free_text(answer);
  return st;
}

static void assert_served(void) {
  char text[400];

  assert_int_equal(ask(MG_CONTROL_COLLECT, "{}", text, sizeof text), MG_OK);
  assert_string_equal(text, "collect {}");
}

static void test_requests(void **state) {
  char text[400];
  struct stat info;

  (void)state;
  assert_served();
  assert_int_equal(ask(MG_CONTROL_PING, NULL, text, sizeof text), MG_OK);
  assert_string_equal(text, "{}");
  assert_int_equal(ask(MG_CONTROL_READ_CONFIG, NULL, text, sizeof text), MG_OK);
  assert_string_equal(text, "read_config ");
  assert_int_equal(ask(MG_CONTROL_CENSUS, NULL, text, sizeof text), MG_EABSENT);
  assert_string_equal(text, "no census here");
  assert_int_equal(ask((mg_control_command)99, NULL, text, sizeof text),
                   MG_EINVAL);
  assert_string_equal(text, "unknown command");
  assert_int_equal(ask(MG_CONTROL_COLLECT, "\xff", text, sizeof text),
                   MG_EENCODING);
  assert_int_equal(atomic_load(&calls), 3);
  assert_int_equal(stat(socket_path, &info), 0);
  assert_int_equal(info.st_mode & 0777, 0600);
}

static void test_long_texts(void **state) {
  mg_error err = MG_ERROR_INIT;
  char *arguments = malloc(MG_CONTROL_REQUEST_BYTES + 2), *answer;

  (void)state;
  assert_non_null(arguments);
  memset(arguments, ' ', MG_CONTROL_REQUEST_BYTES + 1);
  arguments[MG_CONTROL_REQUEST_BYTES + 1] = '\0';
  assert_int_equal(mg_control_ask(&answer, socket_path, MG_CONTROL_COLLECT,
                                  arguments, ASK_MS, &err),
                   MG_ERANGE);
  arguments[MG_CONTROL_REQUEST_BYTES] = '\0';
  assert_ok(mg_control_ask(&answer, socket_path, MG_CONTROL_COLLECT, arguments,
                           ASK_MS, &err),
            &err);
  mg_free_text(answer);
  assert_ok(mg_control_ask(&answer, socket_path, MG_CONTROL_SNAPSHOT, NULL,
                           ASK_MS, &err),
            &err);
  assert_int_equal(strlen(answer), MG_CONTROL_REPLY_BYTES);
  mg_free_text(answer);
  free(arguments);
}

static void test_nobody_listens(void **state) {
  mg_error err = MG_ERROR_INIT;
  char *answer;

  (void)state;
  assert_int_equal(mg_control_ask(&answer, "/dev/shm/no-such.sock",
                                  MG_CONTROL_PING, NULL, 100, &err),
                   MG_ENOTFOUND);
  assert_null(answer);
}

static void test_timeout(void **state) {
  mg_error err = MG_ERROR_INIT;
  char *answer;

  (void)state;
  atomic_store(&is_held, true);
  assert_int_equal(mg_control_ask(&answer, socket_path, MG_CONTROL_COLLECT,
                                  NULL, 50, &err),
                   MG_ETIMEOUT);
  atomic_store(&is_held, false);
  assert_served();
}

/* ---- peers that misbehave ------------------------------------------------------ */

static int connected(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  snprintf(address.sun_path, sizeof address.sun_path, "%.100s", socket_path);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

/* A write to a peer that has gone must not end the test. */
static void put(int fd, const void *data, size_t bytes) {
  (void)!send(fd, data, bytes, MSG_NOSIGNAL);
}

/* Whether the server ends the connection, within the time of a test. */
static bool is_ended(int fd) {
  struct timeval limit = {LONGEST_WAIT_MS / 1000, 0};
  char bytes[4096];
  ssize_t got;

  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0) {
  }
  close(fd);
  return got == 0 || errno == ECONNRESET;
}

static void test_broken_frames(void **state) {
  uint8_t head[MG_CONTROL_HEADER_BYTES];
  int fd = connected();

  (void)state;
  put(fd, "GET / HTTP/1.1\r\nHost: here\r\n\r\n", 30);
  assert_true(is_ended(fd));
  fd = connected();
  mg__frame_write_header(head, MG_CONTROL_REQUEST_BYTES + 1, 1, 1);
  put(fd, head, sizeof head);
  assert_true(is_ended(fd));
  fd = connected();
  mg__frame_write_header(head, UINT32_MAX, 1, 1);
  put(fd, head, sizeof head);
  assert_true(is_ended(fd));
  /* Two at a time. */
  fd = connected();
  {
    uint8_t two[2 * MG_CONTROL_HEADER_BYTES];
    mg__frame_write_header(two, 0, 0, 1);
    mg__frame_write_header(two + MG_CONTROL_HEADER_BYTES, 0, 0, 2);
    put(fd, two, sizeof two);
  }
  assert_true(is_ended(fd));
  assert_int_equal(atomic_load(&calls), 0);
  assert_served();
}

/* A request that never becomes whole. */
static void test_slow_peer(void **state) {
  uint8_t head[MG_CONTROL_HEADER_BYTES];
  int fd = connected();

  (void)state;
  mg__frame_write_header(head, 1000, 1, 1);
  put(fd, head, 7);
  assert_served();
  assert_true(is_ended(fd));
}

/* As many connections as there is room for say nothing: others wait for nobody. */
static void test_silent_peers(void **state) {
  int silent[MG_CONTROL_CLIENTS], surplus;
  bool is_refused;

  (void)state;
  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++) silent[i] = connected();
  sleep_ms(100);
  surplus = connected();
  is_refused = is_ended(surplus);
  assert_true(is_refused);
  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++)
    assert_true(is_ended(silent[i]));
  assert_served();
}

static void test_flood(void **state) {
  uint8_t head[MG_CONTROL_HEADER_BYTES];

  (void)state;
  mg__frame_write_header(head, 0, MG_CONTROL_PING, 1);
  for (int i = 0; i < 400; i++) {
    int fd = connected();
    if (fd < 0) continue;
    put(fd, head, sizeof head);
    close(fd);
  }
  assert_true(reaches(monitor, number_of(monitor) + 3)); /* sampling goes on */
  assert_served();
}

/* It asks for much and takes nothing. */
static void test_peer_that_does_not_read(void **state) {
  uint8_t head[MG_CONTROL_HEADER_BYTES];
  int fd = connected();

  (void)state;
  mg__frame_write_header(head, 0, MG_CONTROL_SNAPSHOT, 1);
  put(fd, head, sizeof head);
  assert_served();
  while (atomic_load(&calls) < 2) sleep_ms(1);
  sleep_ms((long)MG_CONTROL_PEER_MS + 500);
  assert_served();
  assert_true(is_ended(fd));
}

static void child_of_another_user(void *ctx) {
  uint8_t head[MG_CONTROL_HEADER_BYTES];
  int fd;

  (void)ctx;
  CHECK(setresuid(65534, 65534, 65534) == 0);
  fd = connected();
  CHECK(fd >= 0);
  mg__frame_write_header(head, 0, MG_CONTROL_PING, 1);
  put(fd, head, sizeof head);
  CHECK(recv(fd, head, sizeof head, 0) <= 0);
  close(fd);
}

/* Even where the modes would let it in. */
static void test_other_user(void **state) {
  (void)state;
  if (geteuid() != 0) return; /* nobody else can be made to ask */
  assert_int_equal(chmod(segment_directory, 0755), 0);
  assert_int_equal(chmod(socket_path, 0666), 0);
  assert_int_equal(fixture_child(child_of_another_user, NULL), 0);
  assert_served();
}

/* ---- life ----------------------------------------------------------------------- */

static void *ask_in_thread(void *unused) {
  char text[400];

  (void)unused;
  (void)ask(MG_CONTROL_OPTIMIZE, NULL, text, sizeof text);
  return NULL;
}

static void *let_go(void *unused) {
  (void)unused;
  sleep_ms(100);
  atomic_store(&is_held, false);
  return NULL;
}

/* Closing waits for the call under way; whoever asks then is told. */
static void test_close_waits(void **state) {
  pthread_t asking, letting;
  char text[400];

  (void)state;
  atomic_store(&is_held, true);
  assert_int_equal(pthread_create(&asking, NULL, ask_in_thread, NULL), 0);
  while (atomic_load(&calls) == 0) sleep_ms(1);
  assert_int_equal(pthread_create(&letting, NULL, let_go, NULL), 0);
  mg_control_close(registered);
  registered = NULL;
  assert_false(atomic_load(&is_held));
  pthread_join(asking, NULL);
  pthread_join(letting, NULL);
  assert_int_not_equal(ask(MG_CONTROL_COLLECT, NULL, text, sizeof text), MG_OK);
  assert_int_equal(atomic_load(&calls), 1);
}

static void child_asks_itself(void *ctx) {
  mg_error err = MG_ERROR_INIT;
  char own[MG_SEGMENT_PATH_BYTES + 8], *answer = NULL;
  (void)ctx;

  CHECK(mg_segment_path(own, MG_SEGMENT_PATH_BYTES) == 0);
  mg_fork_child();
  CHECK(segment_awaited() != NULL);
  snprintf(own, sizeof own, "%s.sock", segment_awaited());
  CHECK(strcmp(own, socket_path) != 0);
  for (int i = 0; i < 400 && access(own, F_OK) != 0; i++) sleep_ms(50);
  CHECK(mg_control_ask(&answer, own, MG_CONTROL_COLLECT, "1", ASK_MS, &err) ==
        MG_OK);
  CHECK(strcmp(answer, "collect 1") == 0);
  mg_free_text(answer);
  mg_control_close(registered);
  mg_monitor_close(monitor);
}

static void test_fork(void **state) {
  (void)state;
  assert_int_equal(fixture_child(child_asks_itself, NULL), 0);
  assert_served(); /* the parent's socket is still there */
}

/* An allocator that fails once, for several threads. */
static _Atomic long allocations_left;

static void *take(void *ctx, size_t bytes) {
  (void)ctx;
  return atomic_fetch_sub(&allocations_left, 1) == 0 ? NULL : malloc(bytes);
}

static void *resize(void *ctx, void *block, size_t bytes) {
  (void)ctx;
  return atomic_fetch_sub(&allocations_left, 1) == 0 ? NULL
                                                     : realloc(block, bytes);
}

static void give(void *ctx, void *block) {
  (void)ctx;
  free(block);
}

/* Opens, serves a request and closes all. Nothing may hang or leak. */
static void serve_once(void) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_control_hooks hooks = MG_CONTROL_HOOKS_INIT;
  mg_control *control = NULL;
  char path[MG_SEGMENT_PATH_BYTES], text[400];
  mg_monitor *one;

  hooks.run = serve;
  if (mg_monitor_open(&one, &config, NULL, NULL) != MG_OK) return;
  (void)mg_control_open(&control, &hooks, NULL);
  if (mg_monitor_start(one, NULL) == MG_OK &&
      reaches(one, 2) && mg_segment_path(path, sizeof path) > 0) {
    snprintf(socket_path, sizeof socket_path, "%s.sock", path);
    for (int i = 0; i < 40 && access(socket_path, F_OK) != 0; i++) sleep_ms(5);
    (void)ask(MG_CONTROL_COLLECT, "{}", text, sizeof text);
    (void)ask(MG_CONTROL_CENSUS, NULL, text, sizeof text);
  }
  mg_control_close(control);
  mg_monitor_close(one);
}

static void test_no_memory(void **state) {
  static const mg_allocator failing = {take, resize, give, NULL};
  long index = 0, left;

  (void)state;
  do {
    atomic_store(&allocations_left, index++);
    mg_set_allocator(&failing);
    serve_once();
    left = atomic_load(&allocations_left);
    mg_set_allocator(NULL);
  } while (left < 0 && index < 200);
  assert_true(index > 10 && index < 200);
}

static void test_foreign_hooks(void **state) {
  mg_control_hooks hooks = MG_CONTROL_HOOKS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_control *other;

  (void)state;
  hooks.struct_bytes = 8;
  assert_int_equal(mg_control_open(&other, &hooks, &err), MG_EINVAL);
  assert_null(other);
}

/* ---- frames: pure ----------------------------------------------------------------- */

static void test_frame_by_bytes(void **state) {
  uint8_t bytes[MG_CONTROL_HEADER_BYTES + 3] = {0};
  mg__frame frame = {.have = 0};
  size_t used;

  (void)state;
  mg__frame_write_header(bytes, 3, 7, 0x01020304);
  memcpy(bytes, "MGC1", 4);
  memcpy(bytes + MG_CONTROL_HEADER_BYTES, "abc", 3);
  for (size_t i = 0; i < sizeof bytes - 1; i++)
    assert_int_equal(mg__frame_feed(&frame, bytes + i, 1, 3, &used),
                     MG__FRAME_MORE);
  assert_int_equal(mg__frame_feed(&frame, "cdef", 4, 3, &used),
                   MG__FRAME_WHOLE);
  assert_int_equal(used, 1);
  assert_int_equal(frame.code, 7);
  assert_int_equal(frame.number, 0x01020304);
  assert_string_equal(frame.payload, "abc");
  mg__frame_reset(&frame);
  assert_int_equal(mg__frame_feed(&frame, bytes, sizeof bytes, 2, &used),
                   MG__FRAME_BROKEN);
  mg__frame_reset(&frame);
  bytes[0] = 'm';
  assert_int_equal(mg__frame_feed(&frame, bytes, sizeof bytes, 3, &used),
                   MG__FRAME_BROKEN);
  mg__frame_reset(&frame);
}

static void test_text(void **state) {
  static const struct {
    const char *text;
    size_t bytes;
    bool is_text;
  } rows[] = {{"", 0, true},
              {"plain", 5, true},
              {"a\0b", 3, false},
              {"\xc3\xa9", 2, true},
              {"\xc3", 1, false},
              {"\xc0\x80", 2, false},
              {"\xe2\x82\xac", 3, true},
              {"\xe0\x80\x80", 3, false},
              {"\xed\xa0\x80", 3, false},
              {"\xf0\x9f\x98\x80", 4, true},
              {"\xf4\x90\x80\x80", 4, false},
              {"\xff", 1, false},
              {"\x80", 1, false}};

  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    assert_int_equal(mg__control_is_text(rows[i].text, rows[i].bytes),
                     rows[i].is_text);
}

static void test_commands(void **state) {
  mg_error err = MG_ERROR_INIT;
  mg_control_command command;

  (void)state;
  assert_ok(mg_control_find(&command, "update_config", &err), &err);
  assert_int_equal(command, 6);
  assert_string_equal(mg_control_name(command), "update_config");
  assert_string_equal(mg_control_name((mg_control_command)55), "unknown");
  assert_int_equal(mg_control_find(&command, "reboot", &err), MG_EINVAL);
  assert_string_equal(err.text,
                      "unknown command \"reboot\", allowed: ping collect "
                      "optimize snapshot census read_config update_config ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_requests),      TEST(test_long_texts),
      TEST(test_nobody_listens), TEST(test_timeout),
      TEST(test_broken_frames), TEST(test_slow_peer),
      TEST(test_silent_peers),  TEST(test_flood),
      TEST(test_peer_that_does_not_read),
      TEST(test_other_user),    TEST(test_close_waits),
      TEST(test_fork),
      cmocka_unit_test_setup_teardown(test_no_memory, segment_setup,
                                      segment_teardown),
      TEST(test_foreign_hooks), cmocka_unit_test(test_frame_by_bytes),
      cmocka_unit_test(test_text), cmocka_unit_test(test_commands)};

  return cmocka_run_group_tests(tests, NULL, NULL);
}
