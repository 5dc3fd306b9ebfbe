/* test_detector.c - what a leak detector is told, tells and asks for. */
#include "detector_support.h"

#include "fixture.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "detector_parts.h"

/* ---- life ---------------------------------------------------------------- */

static void test_one_detector_for_a_monitor(void **state) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  watched w = watch(NULL);
  mg_error err = MG_ERROR_INIT;
  mg_detector *other;

  (void)state;
  assert_int_equal(mg_detector_open(&other, w.monitor, &options, &err),
                   MG_EEXISTS);
  assert_null(other);
  assert_string_equal(err.text, "the monitor has a leak detector already");
  mg_detector_leave(w.detector);
  mg_detector_leave(w.detector);
  assert_false(mg_detector_is_active(w.detector));
  assert_int_equal(mg_detector_open(&other, w.monitor, &options, &err), MG_OK);
  assert_true(mg_detector_is_active(other));
  mg_detector_close(other);
  options.struct_bytes = 8;
  assert_int_equal(mg_detector_open(&other, w.monitor, &options, &err),
                   MG_EINVAL);
  unwatch(&w);
  mg_detector_close(NULL);
}

static void test_the_monitor_may_go_first(void **state) {
  watched w = watch(NULL);
  mg_detector_stats stats;

  (void)state;
  pass(&w);
  mg_monitor_close(w.monitor);
  assert_false(mg_detector_is_active(w.detector));
  mg_detector_check(w.detector);
  mg_detector_read_stats(w.detector, &stats);
  assert_int_equal(stats.wide, 1);
  assert_int_equal(mg_detector_findings(w.detector, NULL, 0), 0);
  mg_detector_close(w.detector);
}

/* ---- readings -------------------------------------------------------------- */

static mg_detector_stats checked(const watched *w) {
  mg_detector_stats stats;

  mg_detector_check(w->detector);
  mg_detector_read_stats(w->detector, &stats);
  return stats;
}

static void test_descriptors_are_told_apart(void **state) {
  watched w = watch(NULL);
  mg_detector_stats before, after;
  int pipes[2], sockets[2], file;

  (void)state;
  before = checked(&w);
  assert_int_equal(pipe(pipes), 0);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  file = open("/dev/null", O_RDONLY);
  after = checked(&w);
  assert_int_equal(after.pipes - before.pipes, 2);
  assert_int_equal(after.sockets - before.sockets, 2);
  assert_int_equal(after.files - before.files, 1);
  assert_int_equal(after.others, before.others);
  assert_true(after.mappings > 10 && after.mappings < 100000);
  close(file);
  for (int i = 0; i < 2; i++) close(pipes[i]), close(sockets[i]);
  unwatch(&w);
}

static uint64_t told_heap = 1000;

static void tell_heap(void *ctx, mg_heap *out) {
  (void)ctx;
  out->total_bytes = told_heap;
  out->external_bytes = 24;
}

static void test_native_is_private_less_heap(void **state) {
  watched w = watch(tell_heap);
  mg_detector_stats stats = checked(&w);

  (void)state;
  assert_true(stats.private_bytes > 100000);
  assert_int_equal(stats.private_bytes - stats.native_bytes, 1024);
  unwatch(&w);
}

/* More heap than memory, as of blocks never touched: counted from the least. */
static void test_native_below_nothing_is_nothing(void **state) {
  watched w = watch(tell_heap);
  mg_detector_stats stats;

  (void)state;
  told_heap = (uint64_t)1 << 50;
  stats = checked(&w);
  told_heap = 1000;
  assert_int_equal(stats.native_bytes, 0);
  unwatch(&w);
}

static void test_without_a_heap_native_is_absent(void **state) {
  watched w = watch(NULL);

  (void)state;
  assert_true(checked(&w).native_bytes == MG_ABSENT);
  unwatch(&w);
}

static void test_the_text_of_smaps_rollup(void **state) {
  (void)state;
  assert_int_equal(mg__parse_private("Rss: 9 kB\nPrivate_Clean:  3 kB\n"
                                     "Private_Dirty:  4 kB\n"),
                   7 * 1024);
  assert_true(mg__parse_private("Private_Clean: 3 kB\n") == MG_ABSENT);
  assert_true(mg__parse_private("Private_Clean: x\nPrivate_Dirty: 4 kB\n") ==
              MG_ABSENT);
  assert_true(mg__parse_private("") == MG_ABSENT);
}

static void test_without_proc_nothing_is_found(void **state) {
  watched w = watch(tell_heap);
  mg_detector_stats stats;
  mg_event event;

  (void)state;
  w.detector->footprint.root = "/nowhere";
  for (int i = 0; i < 50; i++) pass(&w), mg_detector_check(w.detector);
  mg_detector_read_stats(w.detector, &stats);
  assert_true(stats.private_bytes == MG_ABSENT);
  assert_true(stats.native_bytes == MG_ABSENT);
  assert_true(stats.sockets == MG_ABSENT && stats.mappings == MG_ABSENT);
  assert_int_equal(stats.alarms, 0);
  while (mg_monitor_next_event(w.monitor, &event))
    assert_int_not_equal(event.kind, MG_EVENT_LEAK_WARNING);
  unwatch(&w);
}

/* ---- the watch over descriptors: pure --------------------------------------- */

static void test_many_descriptors_are_told_once(void **state) {
  mg__fd_watch fds = {0};

  (void)state;
  assert_false(mg__fd_watch_note(&fds, 799, 0, 800, 50));
  assert_true(mg__fd_watch_note(&fds, 800, 1, 800, 50));
  assert_false(mg__fd_watch_note(&fds, 900, 2, 800, 50));
  assert_false(mg__fd_watch_note(&fds, 730, 3, 800, 50)); /* not clearly below */
  assert_false(mg__fd_watch_note(&fds, 801, 4, 800, 50));
  assert_false(mg__fd_watch_note(&fds, 719, 5, 800, 50));
  assert_true(mg__fd_watch_note(&fds, 800, 6, 800, 50));
  assert_false(mg__fd_watch_note(&fds, MG_ABSENT, 7, 800, 50));
}

/* `count` descriptors a second apart, from `from_ms` on.
 * @return how many warnings. */
static int note_seconds(mg__fd_watch *fds, double from_ms, int seconds,
                        uint64_t (*count)(int second)) {
  int warnings = 0;

  for (int second = 0; second < seconds; second++) {
    double now_ms = from_ms + second * 1000.0;
    warnings += mg__fd_watch_note(fds, count((int)(now_ms / 1000.0)), now_ms,
                                  100000, 50);
  }
  return warnings;
}

static uint64_t one_a_second(int second) { return 100 + (uint64_t)second; }

static uint64_t burst_each_minute(int second) {
  return second % 60 < 10 ? 400 : 100;
}

static void test_growth_of_descriptors(void **state) {
  mg__fd_watch fds = {0};

  (void)state;
  assert_true(isnan(mg__fd_watch_growth(&fds)));
  assert_int_equal(note_seconds(&fds, 0, 75, one_a_second), 0);
  assert_true(isnan(mg__fd_watch_growth(&fds)));
  assert_int_equal(note_seconds(&fds, 75000, 600, one_a_second), 1);
  assert_true(mg__fd_watch_growth(&fds) == 60.0);
  fds = (mg__fd_watch){0};
  assert_int_equal(note_seconds(&fds, 0, 600, burst_each_minute), 0);
}

static void test_gaps_begin_the_watch_anew(void **state) {
  mg__fd_watch fds = {0};

  (void)state;
  note_seconds(&fds, 0, 90, one_a_second);
  assert_true(mg__fd_watch_growth(&fds) == 60.0);
  mg__fd_watch_note(&fds, 5000, 900000, 100000, 50); /* a suspended process */
  assert_true(isnan(mg__fd_watch_growth(&fds)));
  note_seconds(&fds, 900000, 90, one_a_second);
  mg__fd_watch_note(&fds, 1, 10, 100000, 50); /* a clock that went back */
  assert_true(isnan(mg__fd_watch_growth(&fds)));
}

/* ---- when to count: pure ------------------------------------------------------ */

static void test_when_a_census_is_made(void **state) {
  mg_leak_finding finding = {.tier = MG_LEAK_SUSPECT, .window_ms = 100};
  mg__inquiry q = {0};

  (void)state;
  assert_int_equal(mg__inquiry_next(&q, NULL, 0), MG__COUNT_NOTHING);
  assert_int_equal(mg__inquiry_next(&q, &finding, 10), MG__COUNT_BASE);
  assert_int_equal(mg__inquiry_next(&q, &finding, 50), MG__COUNT_NOTHING);
  assert_int_equal(mg__inquiry_next(&q, &finding, 110), MG__COUNT_AGAIN);
  assert_int_equal(mg__inquiry_next(&q, &finding, 150), MG__COUNT_NOTHING);
  finding.tier = MG_LEAK_LIKELY;
  assert_int_equal(mg__inquiry_next(&q, &finding, 160), MG__COUNT_AGAIN);
  assert_int_equal(mg__inquiry_next(&q, &finding, 300), MG__COUNT_NOTHING);
  assert_int_equal(mg__inquiry_next(&q, &finding, 310), MG__COUNT_AGAIN);
  assert_int_equal(mg__inquiry_next(&q, NULL, 320), MG__COUNT_NOTHING);
  assert_int_equal(mg__inquiry_next(&q, &finding, 330), MG__COUNT_BASE);
}

/* ---- when to collect: pure ------------------------------------------------------ */

static void test_how_long_forced_collections_may_take(void **state) {
  (void)state;
  /* A short one, or one of which nothing is known: soon again. */
  assert_true(mg__collection_fits(-1, 100, 0, 1, false));
  assert_true(mg__collection_fits(100, 100, 400, 1, false));
  assert_false(mg__collection_fits(100, 100, 399, 1, false));
  /* A long one: on suspicion, and then for 1 % of the time. */
  assert_false(mg__collection_fits(950, 100, 1e9, 1, false));
  assert_true(mg__collection_fits(950, 100, 95000, 1, true));
  assert_false(mg__collection_fits(950, 100, 94000, 1, true));
  /* Time that is compressed leaves no room for that. */
  assert_true(mg__collection_fits(950, 100, 3800, 30, false));
  assert_false(mg__collection_fits(950, 100, 3700, 30, true));
  /* The user wants none. */
  assert_false(mg__collection_fits(-1, 0, 1e9, 30, true));
}

/* ---- telling -------------------------------------------------------------------- */

static void test_what_a_binding_may_tell(void **state) {
  watched w = watch(NULL);
  mg_error err = MG_ERROR_INIT;

  (void)state;
  assert_int_equal(mg_detector_tell(w.detector, MG_LEAK_HANDLES, 5, &err), MG_OK);
  assert_int_equal(mg_detector_tell(w.detector, MG_LEAK_CONNECTIONS, MG_ABSENT,
                                    &err),
                   MG_OK);
  assert_int_equal(mg_detector_tell(w.detector, MG_LEAK_RSS, 5, &err), MG_EINVAL);
  assert_string_equal(err.text,
                      "series 3 is not told by a binding; allowed: connections "
                      "(11), handles (13), code (14)");
  assert_int_equal(mg_detector_tell(w.detector, UINT32_MAX, 5, NULL), MG_EINVAL);
  unwatch(&w);
}

static void test_only_full_collections_count(void **state) {
  watched w = watch(NULL);
  mg_detector_stats stats;

  (void)state;
  mg_detector_collected(w.detector, 1, 1, 0.5, false);
  mg_detector_collected(w.detector, 1, 1, 0.5, true);
  mg_detector_collected(w.detector, MG_ABSENT, 7, -1.0, true); /* belongs to it */
  mg_detector_collected(w.detector, MG_ABSENT, MG_ABSENT, NAN, true);
  mg_detector_read_stats(w.detector, &stats);
  assert_int_equal(stats.collections, 1);
  unwatch(&w);
}

/* ---- settings ----------------------------------------------------------------------- */

static void configure(watched *w, const char *path, const char *value) {
  mg_error err = MG_ERROR_INIT;

  assert_ok(mg_config_set_text(&w->config, path, value, &err), &err);
  assert_ok(mg_config_check(&w->config, &err), &err);
  assert_ok(mg_monitor_configure(w->monitor, &w->config, &err), &err);
  pass(w);
}

static void test_how_often_it_needs_a_sample(void **state) {
  watched w = watch(NULL);

  (void)state;
  configure(&w, "leak.time_scale", "30"); /* a block is half a second */
  assert_true(mg__detector_due_ms(w.detector) == 125.0);
  configure(&w, "leak.time_scale", "1000000");
  assert_true(mg__detector_due_ms(w.detector) == 10.0);
  configure(&w, "leak.time_scale", "1"); /* sample_interval is the user's */
  assert_true(isinf(mg__detector_due_ms(w.detector)));
  configure(&w, "leak.time_scale", "30");
  mg_detector_set_active(w.detector, false);
  assert_true(isinf(mg__detector_due_ms(w.detector)));
  unwatch(&w);
}

static uint64_t samples_of(const watched *w) {
  mg_detector_stats stats;

  mg_detector_read_stats(w->detector, &stats);
  return stats.samples;
}

static void test_settings_count_at_once(void **state) {
  watched w = watch(NULL);
  uint64_t samples;

  (void)state;
  pass(&w);
  samples = samples_of(&w);
  configure(&w, "leak.leak_detection", "false");
  assert_false(mg_detector_is_active(w.detector));
  pass(&w);
  assert_int_equal(samples_of(&w), samples);
  configure(&w, "leak.leak_detection", "true");
  assert_true(mg_detector_is_active(w.detector));
  pass(&w);
  assert_int_equal(samples_of(&w), samples + 1); /* the first one began anew */
  configure(&w, "memory.enabled", "false");
  assert_false(mg_detector_is_active(w.detector));
  configure(&w, "memory.enabled", "true");
  configure(&w, "leak.time_scale", "1000000"); /* windows have a least length */
  pass(&w);
  assert_true(w.detector->settings.window_ms == 160.0);
  unwatch(&w);
}

static void test_a_pause(void **state) {
  watched w = watch(NULL);
  uint64_t samples;

  (void)state;
  pass(&w);
  samples = samples_of(&w);
  mg_detector_set_active(w.detector, false);
  assert_false(mg_detector_is_active(w.detector));
  pass(&w);
  mg_detector_check(w.detector);
  assert_int_equal(samples_of(&w), samples);
  mg_detector_set_active(w.detector, true);
  pass(&w);
  pass(&w);
  assert_int_equal(samples_of(&w), samples + 1);
  unwatch(&w);
}

/* ---- memory that fails ---------------------------------------------------------------- */

static bool works_without_allocation(long index) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  mg_config config = short_times();
  mg_monitor *monitor = opened(&config, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_detector *detector;
  bool failed;

  fixture_fail_allocation(index);
  if (mg_detector_open(&detector, monitor, &options, &err) != MG_OK) {
    assert_int_equal(err.status, MG_ENOMEM);
    assert_null(detector);
  } else {
    mg_monitor_counter_register(monitor, "sessions", NULL);
    mg_monitor_pass(monitor, false, NULL);
    mg_detector_set_active(detector, false);
    mg_detector_set_active(detector, true);
    mg_detector_check(detector);
    mg_monitor_pass(monitor, false, NULL);
    mg_detector_check(detector);
  }
  failed = fixture_allocation_failed();
  mg_detector_close(detector);
  mg_monitor_close(monitor);
  return failed;
}

static void test_each_allocation_fails(void **state) {
  long index = 0;

  (void)state;
  while (works_without_allocation(index)) index++;
  assert_true(index > 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_detector_for_a_monitor),
      cmocka_unit_test(test_the_monitor_may_go_first),
      cmocka_unit_test(test_descriptors_are_told_apart),
      cmocka_unit_test(test_native_is_private_less_heap),
      cmocka_unit_test(test_native_below_nothing_is_nothing),
      cmocka_unit_test(test_without_a_heap_native_is_absent),
      cmocka_unit_test(test_the_text_of_smaps_rollup),
      cmocka_unit_test(test_without_proc_nothing_is_found),
      cmocka_unit_test(test_many_descriptors_are_told_once),
      cmocka_unit_test(test_growth_of_descriptors),
      cmocka_unit_test(test_gaps_begin_the_watch_anew),
      cmocka_unit_test(test_when_a_census_is_made),
      cmocka_unit_test(test_how_often_it_needs_a_sample),
      cmocka_unit_test(test_how_long_forced_collections_may_take),
      cmocka_unit_test(test_what_a_binding_may_tell),
      cmocka_unit_test(test_only_full_collections_count),
      cmocka_unit_test(test_settings_count_at_once),
      cmocka_unit_test(test_a_pause),
      cmocka_unit_test(test_each_allocation_fails),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
