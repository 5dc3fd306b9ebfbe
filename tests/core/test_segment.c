/* test_segment.c - what a running process publishes, and what is left of it. */
#include "segment_support.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "fixture.h"

/* ---- a process that runs -------------------------------------------------- */

static mg_monitor *publishing(void) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);

  start(monitor);
  assert_non_null(segment_awaited());
  assert_true(reaches(monitor, 2)); /* by then the first is published */
  return monitor;
}

static void test_shows_the_process(void **state) {
  mg_segment_identity who = MG_SEGMENT_IDENTITY_INIT;
  const mg_segment_header *header;
  mg_error err = MG_ERROR_INIT;
  mg_monitor *monitor;
  mg_segment *segment;
  mg_segment_view view;
  struct stat info;

  (void)state;
  who.runtime = "python";
  who.runtime_version = "3.12.1";
  who.program = "a program with a name that is longer than sixty-three bytes \xc3\xa9\xc3\xa9\xc3\xa9";
  who.kind[0] = "generation0";
  assert_ok(mg_segment_describe(&who, &err), &err);
  monitor = publishing();
  segment = segment_opened(segment_awaited());
  header = mg_segment_header_of(segment);
  assert_int_equal(header->pid, getpid());
  assert_string_equal(header->runtime, "python");
  assert_string_equal(header->runtime_version, "3.12.1");
  /* Cut off between characters. */
  assert_string_equal(
      header->program,
      "a program with a name that is longer than sixty-three bytes \xc3\xa9");
  assert_string_equal(header->kind[0], "generation0");
  assert_string_equal(header->kind[1], "");
  assert_string_equal(header->library_version, MG_VERSION);
  assert_int_equal(strlen(header->boot_id), 32);
  view = segment_view_of(segment);
  assert_int_equal(view.state, MG_SEGMENT_RUNNING);
  assert_true(view.sample.number >= 1);
  assert_true(view.sample.reading.rss_bytes > 100000);
  assert_int_equal(view.now.max_memory_bytes, 2048u * UINT64_C(1048576));
  assert_true(mg_segment_is_alive(segment));
  assert_int_equal(stat(segment_awaited(), &info), 0);
  assert_int_equal(info.st_mode & 0777, 0600);
  mg_segment_close(segment);
  mg_monitor_close(monitor);
}

static void test_samples_go_on(void **state) {
  mg_monitor *monitor = publishing();
  mg_segment *segment = segment_opened(segment_awaited());
  uint64_t number = 0, before = 0;

  (void)state;
  for (int waited = 0; waited < LONGEST_WAIT_MS && number < 5; waited++) {
    number = segment_view_of(segment).sample.number;
    assert_true(number >= before);
    before = number;
    sleep_ms(1);
  }
  assert_true(number >= 5);
  mg_segment_close(segment);
  mg_monitor_close(monitor);
}

static void test_collections(void **state) {
  mg_monitor *monitor = publishing();
  mg_segment *segment = segment_opened(segment_awaited());
  mg_segment_gc_event events[MG_SEGMENT_GC_EVENTS];
  mg_pause_stats stats;
  size_t count;

  (void)state;
  for (uint32_t i = 1; i <= 300; i++)
    mg_segment_note_gc(&(mg_pause){.began_ns = mg_clock_ns(),
                                   .wall_ns = i * UINT64_C(1000000),
                                   .cpu_ns = MG_ABSENT,
                                   .collected = i,
                                   .kind = i % 3});
  count = mg_segment_gc_events(segment, events, MG_SEGMENT_GC_EVENTS);
  assert_int_equal(count, 256);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(events[i].number, 45 + i);
    assert_int_equal(events[i].wall_ns, (45 + i) * 1000000);
    assert_int_equal(events[i].kind, (45 + i) % 3);
  }
  assert_int_equal(mg_segment_gc_events(segment, events, 2), 2);
  assert_int_equal(events[1].number, 300);
  mg_segment_gc_stats(segment, 0, &stats);
  assert_int_equal(stats.count, 100);
  assert_int_equal(stats.max_ns, 300000000);
  mg_segment_gc_stats(segment, MG_PAUSE_KINDS, &stats);
  assert_int_equal(stats.count, 300);
  assert_int_equal(stats.wall_ns, UINT64_C(45150000000));
  assert_int_equal(stats.collected, 45150);
  assert_int_equal(stats.cpu_ns, 0);
  /* At most 6.25 % above the truth, never below. */
  assert_in_range(stats.p95_ns, 285000000, 303000000);
  mg_segment_close(segment);
  mg_monitor_close(monitor);
}

static void test_types(void **state) {
  mg_segment_type types[20] = {{.name = "dict", .count = 7, .grown_count = 3}};
  mg_monitor *monitor = publishing();
  mg_segment *segment = segment_opened(segment_awaited());
  mg_segment_types out;

  (void)state;
  mg_segment_read_types(segment, &out);
  assert_int_equal(out.count, 0);
  mg_segment_note_types(types, 20, 5000);
  mg_segment_read_types(segment, &out);
  assert_int_equal(out.count, 16);
  assert_int_equal(out.span_ms, 5000);
  assert_string_equal(out.type[0].name, "dict");
  assert_int_equal(out.type[0].grown_count, 3);
  memcpy(types[0].name, "list", 5);
  mg_segment_note_types(types, 1, 6000);
  mg_segment_read_types(segment, &out);
  assert_int_equal(out.count, 1);
  assert_string_equal(out.type[0].name, "list");
  mg_segment_close(segment);
  mg_monitor_close(monitor);
}

/* Counted where it was raised again, one entry for each that says something else. */
static void test_alerts(void **state) {
  mg_config config =
      support_config("sample_interval", "10ms", "monitor_interval", "10ms",
                     "rss_warning", "1MB", "rss_critical", "2MB",
                     "leak_warning_count", "2", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_segment_note notes[MG_SEGMENT_NOTES];
  mg_error err = MG_ERROR_INIT;
  mg_segment *segment;
  size_t count = 0, thresholds = 0, leaks = 0;

  (void)state;
  mg_monitor_set_interest(monitor, 0); /* nobody listens: it is recorded */
  start(monitor);
  segment = segment_opened(segment_awaited());
  assert_ok(mg_monitor_counter_register(monitor, "sockets", &err), &err);
  assert_ok(mg_monitor_counter_add(monitor, "sockets", 3, NULL, &err), &err);
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    count = mg_segment_notes(segment, notes, MG_SEGMENT_NOTES);
    if (count >= 2 && notes[0].repeats + notes[1].repeats >= 3) break;
    sleep_ms(5);
  }
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(notes[i].kind, MG_SEGMENT_ALERT);
    if (notes[i].event == MG_EVENT_THRESHOLD) {
      thresholds++;
      assert_int_equal(notes[i].severity, MG_HEALTH_CRITICAL);
      assert_int_equal(notes[i].issues & MG_ISSUE_RSS_CRITICAL,
                       MG_ISSUE_RSS_CRITICAL);
      assert_true(notes[i].last_unix_ms >= notes[i].unix_ms);
    } else if (notes[i].event == MG_EVENT_LEAK_WARNING) {
      leaks++;
      assert_string_equal(notes[i].counter, "sockets");
      assert_int_equal(notes[i].count, 3);
      assert_int_equal(notes[i].threshold, 2);
    }
  }
  assert_int_equal(thresholds, 1);
  assert_int_equal(leaks, 1);
  mg_segment_close(segment);
  mg_monitor_close(monitor);
}

static size_t count_files(const char *end) {
  DIR *directory = opendir(segment_directory);
  const struct dirent *entry;
  size_t count = 0, length;

  assert_non_null(directory);
  while ((entry = readdir(directory)) != NULL) {
    length = strlen(entry->d_name);
    if (length >= strlen(end) &&
        strcmp(entry->d_name + length - strlen(end), end) == 0)
      count++;
  }
  closedir(directory);
  return count - (end[0] == '\0' ? 2 : 0);
}

static void test_stop_and_restart(void **state) {
  mg_monitor *monitor = publishing();
  mg_segment *segment = segment_opened(segment_awaited());
  uint64_t number = segment_view_of(segment).sample.number;
  char path[MG_SEGMENT_PATH_BYTES], name[MG_SEGMENT_PATH_BYTES];

  (void)state;
  memcpy(name, segment_awaited(), sizeof name);
  mg_monitor_stop(monitor);
  assert_int_equal(mg_segment_path(path, sizeof path), 0);
  assert_string_equal(path, "");
  assert_int_equal(segment_view_of(segment).state, MG_SEGMENT_STOPPED);
  assert_true(mg_segment_is_alive(segment)); /* the process is */
  mg_segment_note_gc(&(mg_pause){.wall_ns = 1}); /* goes nowhere */
  start(monitor);
  assert_string_equal(segment_awaited(), name);
  assert_int_equal(segment_view_of(segment).state, MG_SEGMENT_RUNNING);
  assert_true(segment_view_of(segment).sample.number >= number);
  assert_int_equal(count_files(""), 1);
  mg_segment_close(segment);
  mg_monitor_close(monitor);
}

static void test_disabled(void **state) {
  mg_config config = support_config("sample_interval", "10ms",
                                    "segment_enabled", "false", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  char path[MG_SEGMENT_PATH_BYTES];
  mg_error err = MG_ERROR_INIT;

  (void)state;
  start(monitor);
  assert_true(reaches(monitor, 10));
  assert_int_equal(mg_segment_path(path, sizeof path), 0);
  config = support_config("sample_interval", "10ms", NULL);
  assert_ok(mg_monitor_configure(monitor, &config, &err), &err);
  assert_non_null(segment_awaited());
  mg_monitor_close(monitor);
}

/* Somebody cleans /dev/shm: a new file is made. */
static void test_removed_file(void **state) {
  mg_monitor *monitor = publishing();
  char path[MG_SEGMENT_PATH_BYTES];
  bool is_back = false;

  (void)state;
  memcpy(path, segment_awaited(), sizeof path);
  assert_int_equal(unlink(path), 0);
  for (int waited = 0; waited < LONGEST_WAIT_MS && !is_back; waited += 20) {
    is_back = access(path, F_OK) == 0;
    sleep_ms(20);
  }
  assert_true(is_back);
  mg_monitor_close(monitor);
}

/* ---- a directory that cannot be used --------------------------------------- */

static bool problem_comes(mg_error *out) {
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    if (mg_segment_take_problem(out)) return true;
    sleep_ms(5);
  }
  return false;
}

/* In a child of its own: a process tells once. */
static void child_meets_problem(const char *expected) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = NULL;
  mg_error err = MG_ERROR_INIT;
  mg_sample sample;

  CHECK(mg_monitor_open(&monitor, &config, NULL, &err) == MG_OK);
  CHECK(mg_monitor_start(monitor, &err) == MG_OK);
  CHECK(problem_comes(&err));
  CHECK(strstr(err.text, expected) != NULL);
  CHECK(!mg_segment_take_problem(&err));
  CHECK(reaches(monitor, 5)); /* the host goes on */
  mg_monitor_latest(monitor, &sample);
  CHECK(sample.reading.rss_bytes > 100000);
  mg_monitor_close(monitor);
  CHECK(!mg_segment_take_problem(&err));
}

static void child_relative(void *ctx) {
  (void)ctx;
  CHECK(setenv("MEMGUARD_DIR", "relative/path", 1) == 0);
  child_meets_problem("need an absolute path");
}

static void child_unwritable(void *ctx) {
  (void)ctx;
  CHECK(setenv("MEMGUARD_DIR", "/proc/memguard", 1) == 0);
  child_meets_problem("cannot make /proc/memguard");
}

static void child_on_disk(void *ctx) {
  (void)ctx;
  CHECK(setenv("MEMGUARD_DIR", "/proc", 1) == 0);
  child_meets_problem("/proc is not in a tmpfs");
}

static void child_open_to_all(void *ctx) {
  (void)ctx;
  CHECK(chmod(segment_directory, 0777) == 0);
  child_meets_problem("others could replace files");
}

/* Somebody else may make it lead elsewhere. */
static void child_linked(void *ctx) {
  char path[MG_SEGMENT_PATH_BYTES];

  (void)ctx;
  snprintf(path, sizeof path, "%s/link", segment_directory);
  CHECK(symlink(segment_directory, path) == 0);
  CHECK(setenv("MEMGUARD_DIR", path, 1) == 0);
  child_meets_problem("cannot open");
  CHECK(unlink(path) == 0);
}

/* As a full tmpfs: there is no room for the blocks. */
static void child_full(void *ctx) {
  struct rlimit limit = {4096, 4096};

  (void)ctx;
  signal(SIGXFSZ, SIG_IGN);
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  child_meets_problem("cannot keep 139360 bytes");
  CHECK(count_files("") == 0);
}

static void test_problems_are_told_once(void **state) {
  (void)state;
  assert_int_equal(fixture_child(child_relative, NULL), 0);
  assert_int_equal(fixture_child(child_unwritable, NULL), 0);
  assert_int_equal(fixture_child(child_on_disk, NULL), 0);
  assert_int_equal(fixture_child(child_linked, NULL), 0);
  assert_int_equal(fixture_child(child_full, NULL), 0);
  assert_int_equal(fixture_child(child_open_to_all, NULL), 0);
}

/* ---- fork and ends ----------------------------------------------------------- */

static void child_of_fork(void *ctx) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = NULL;
  mg_error err = MG_ERROR_INIT;
  const char *parent = ctx;
  char path[MG_SEGMENT_PATH_BYTES];

  CHECK(mg_segment_path(path, sizeof path) == 0);
  mg_segment_note_gc(&(mg_pause){.wall_ns = 1}); /* not into the parent's */
  mg_segment_mark_exit();                        /* nor this */
  CHECK(mg_monitor_open(&monitor, &config, NULL, &err) == MG_OK);
  CHECK(mg_monitor_start(monitor, &err) == MG_OK);
  CHECK(segment_awaited() != NULL);
  CHECK(strcmp(segment_awaited(), parent) != 0);
  mg_monitor_close(monitor);
}

static void test_fork(void **state) {
  mg_monitor *monitor = publishing();
  mg_segment *segment = segment_opened(segment_awaited());
  char path[MG_SEGMENT_PATH_BYTES];
  mg_pause_stats stats;

  (void)state;
  memcpy(path, segment_awaited(), sizeof path);
  assert_int_equal(fixture_child(child_of_fork, path), 0);
  assert_int_equal(segment_view_of(segment).state, MG_SEGMENT_RUNNING);
  assert_true(mg_segment_is_alive(segment));
  mg_segment_gc_stats(segment, MG_PAUSE_KINDS, &stats);
  assert_int_equal(stats.count, 0);
  mg_segment_close(segment);
  mg_monitor_close(monitor);
}

/* Starts a process that publishes and then waits, or ends by exit(). */
static pid_t child_started(bool exits) {
  mg_error err = MG_ERROR_INIT;
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = NULL;
  pid_t pid = fork();

  if (pid != 0) return pid;
  alarm(60);
  if (mg_monitor_open(&monitor, &config, NULL, &err) != MG_OK ||
      mg_monitor_start(monitor, &err) != MG_OK || segment_awaited() == NULL)
    fixture_leave(2);
  if (exits) exit(0); /* with the monitor running */
  for (;;) pause();
}

/* Its segment, once it has a sample. [owned] */
static mg_segment *segment_of_child(pid_t pid) {
  mg_segment_names names;
  mg_segment *found = NULL, *segment;
  mg_error err = MG_ERROR_INIT;
  char path[400];

  for (int waited = 0; waited < LONGEST_WAIT_MS && found == NULL;
       waited += 5) {
    assert_ok(mg_segment_list(&names, segment_directory, &err), &err);
    for (size_t i = 0; i < names.count; i++) {
      snprintf(path, sizeof path, "%s/%s", segment_directory, names.name[i]);
      segment = segment_opened(path);
      if (found == NULL && mg_segment_header_of(segment)->pid == (uint32_t)pid &&
          segment_view_of(segment).sample.number > 0)
        found = segment;
      else
        mg_segment_close(segment);
    }
    mg_segment_names_free(&names);
    if (found == NULL) sleep_ms(5);
  }
  assert_non_null(found);
  return found;
}

static mg_verdict verdict_of(mg_segment *segment) {
  mg_postmortem_report report;
  mg_postmortem_facts facts;
  mg_error err = MG_ERROR_INIT;

  assert_ok(mg_segment_facts(segment, &facts, &err), &err);
  mg_postmortem(&facts, &report);
  return report.verdict;
}

static void test_killed(void **state) {
  pid_t pid = child_started(false);
  mg_segment *segment = segment_of_child(pid);
  int status;

  (void)state;
  assert_int_equal(verdict_of(segment), MG_VERDICT_RUNNING);
  assert_int_equal(kill(pid, SIGKILL), 0);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_false(mg_segment_is_alive(segment));
  assert_int_equal(segment_view_of(segment).state, MG_SEGMENT_RUNNING);
  assert_int_equal(verdict_of(segment), MG_VERDICT_KILLED);
  mg_segment_close(segment);
}

static void test_clean_exit(void **state) {
  pid_t pid = child_started(true);
  mg_segment *segment;
  int status;

  (void)state;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  segment = segment_of_child(pid);
  assert_int_equal(segment_view_of(segment).state, MG_SEGMENT_EXITED);
  assert_int_equal(verdict_of(segment), MG_VERDICT_CLEAN_EXIT);
  mg_segment_close(segment);
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, segment_setup, segment_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_shows_the_process), TEST(test_samples_go_on),
      TEST(test_collections),       TEST(test_types),
      TEST(test_alerts),            TEST(test_stop_and_restart),
      TEST(test_disabled),          TEST(test_removed_file),
      TEST(test_problems_are_told_once), TEST(test_fork),
      TEST(test_killed),            TEST(test_clean_exit)};

  return cmocka_run_group_tests(tests, NULL, NULL);
}
