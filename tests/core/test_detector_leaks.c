/* test_detector_leaks.c - leaks that are real, or told as such, and the way from
 * suspicion to culprit and back. Times are compressed; every wait is bounded. */
#include "detector_support.h"

#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- told by a binding ----------------------------------------------------- */

static double heap_began_ms;
static uint64_t live_bytes;

static void heap_stays(const watched *w) {
  mg_detector_collected(w->detector, live_bytes, MG_ABSENT, 1.0, true);
}

static void heap_grows(const watched *w) {
  live_bytes = 20 * MB + grown(&heap_began_ms, 500e3);
  heap_stays(w);
}

static uint64_t heap_until(const watched *w, mg_event_kind kind,
                           void (*step)(const watched *)) {
  heap_began_ms = 0.0;
  return step_until(w, kind, "heap", step);
}

/* What was asked for so far. */
static uint32_t asked;
static uint32_t asked_for;

static void heap_grows_and_asks(const watched *w) {
  uint32_t series, bits;

  heap_grows(w);
  bits = mg_detector_request(w->detector, &series);
  if (bits != 0) asked_for = series;
  asked |= bits;
}

static void test_a_heap_that_grows(void **state) {
  watched w = watch(NULL);
  mg_detector_finding finding, all[4];
  uint64_t number;

  (void)state;
  asked = 0;
  number = heap_until(&w, MG_EVENT_LEAK_WARNING, heap_grows_and_asks);
  assert_int_not_equal(number, 0);
  assert_true(mg_detector_finding_at(w.detector, number, &finding));
  assert_int_equal(finding.number, number);
  assert_true(finding.leak.tier >= MG_LEAK_LIKELY);
  assert_true(finding.leak.growth >= 4.0 * MB);
  assert_true(finding.since_unix_ms > 1700000000000u);
  assert_true(mg_detector_findings(w.detector, all, 4) >= 1);
  heap_grows_and_asks(&w);
  assert_true((asked & MG_REQUEST_CENSUS_BASE) != 0);
  assert_int_equal(asked_for, MG_LEAK_HEAP);
  assert_false(mg_detector_has_request(w.detector));
  unwatch(&w);
}

static void test_a_heap_that_stops_growing(void **state) {
  watched w = watch(NULL);
  mg_detector_finding finding;
  mg_detector_stats stats;
  uint64_t number, over;

  (void)state;
  number = heap_until(&w, MG_EVENT_LEAK_WARNING, heap_grows);
  assert_int_not_equal(number, 0);
  over = step_until(&w, MG_EVENT_LEAK_WITHDRAWN, "heap", heap_stays);
  assert_int_equal(over, number);
  assert_true(mg_detector_finding_at(w.detector, number, &finding));
  assert_int_equal(finding.leak.tier, MG_LEAK_NONE);
  assert_int_not_equal(finding.leak.previous, MG_LEAK_NONE);
  mg_detector_read_stats(w.detector, &stats);
  assert_true(stats.withdrawn >= 1 && stats.alarms >= 1);
  assert_int_equal(mg_detector_culprits(w.detector, MG_LEAK_HEAP, NULL, 0, NULL),
                   MG_ENOTFOUND);
  unwatch(&w);
}

/* All of its growth is code, which was told with it. */
static void code_grows(const watched *w) {
  mg_error err = MG_ERROR_INIT;
  uint64_t code_bytes = grown(&heap_began_ms, 500e3);

  assert_ok(mg_detector_tell(w->detector, MG_LEAK_CODE, code_bytes, &err), &err);
  mg_detector_collected(w->detector, 20 * MB + code_bytes, MG_ABSENT, 1.0, true);
}

static void test_code_is_not_the_heap(void **state) {
  watched w = watch(NULL);
  mg_detector_finding found[4];
  size_t count;

  (void)state;
  heap_began_ms = 0.0;
  assert_int_not_equal(
      step_until(&w, MG_EVENT_LEAK_WARNING, "code", code_grows), 0);
  count = mg_detector_findings(w.detector, found, 4);
  for (size_t i = 0; i < count; i++)
    assert_int_not_equal(found[i].leak.series, MG_LEAK_HEAP);
  unwatch(&w);
}

static void test_a_limit_that_is_near(void **state) {
  watched w = watch(NULL);
  mg_detector_finding finding;
  mg_error err = MG_ERROR_INIT;
  uint64_t number;

  (void)state;
  assert_ok(mg_config_set_text(&w.config, "leak.critical_within", "6h", &err),
            &err);
  assert_ok(mg_monitor_configure(w.monitor, &w.config, &err), &err);
  number = heap_until(&w, MG_EVENT_LEAK_CRITICAL, heap_grows);
  assert_int_not_equal(number, 0);
  assert_true(mg_detector_finding_at(w.detector, number, &finding));
  assert_true(finding.leak.is_critical);
  assert_true(finding.leak.to_limit_ms <= 21600.0);
  unwatch(&w);
}

static mg_culprit culprit(mg_culprit_kind kind, const char *name,
                          double share) {
  mg_culprit made = {.kind = kind, .growth = 10, .count = 20, .share = share};

  snprintf(made.name, sizeof made.name, "%s", name);
  return made;
}

static void test_culprits_of_a_binding(void **state) {
  const mg_culprit types[] = {culprit(MG_CULPRIT_TYPE, "app\n.Session", 7.0),
                              culprit(MG_CULPRIT_TYPE, "dict", 0.0 / 0.0)};
  const mg_culprit site = culprit(MG_CULPRIT_SITE, "app.py:12", 0.5);
  const mg_culprit later = culprit(MG_CULPRIT_TYPE, "set", 0.25);
  mg_culprit many[12];
  mg_detector_finding f;
  char text[MG_ADVICE_BYTES], expected[MG_ADVICE_BYTES];
  watched w = watch(NULL);
  uint64_t number;

  (void)state;
  number = heap_until(&w, MG_EVENT_LEAK_WARNING, heap_grows);
  assert_int_not_equal(number, 0);
  mg_detector_culprits(w.detector, MG_LEAK_HEAP, types, 2, NULL);
  mg_detector_culprits(w.detector, MG_LEAK_BLOCKS, &site, 1, NULL);
  assert_true(mg_detector_finding_at(w.detector, number, &f));
  assert_int_equal(f.culprits, 3);
  assert_string_equal(f.culprit[0].name, "app.py:12");
  assert_string_equal(f.culprit[1].name, "app?.Session");
  assert_true(f.culprit[1].share == 1.0 && f.culprit[2].share == 0.0);
  mg_detector_culprits(w.detector, MG_LEAK_HEAP, &later, 1, NULL);
  assert_true(mg_detector_finding_at(w.detector, number, &f));
  assert_int_equal(f.culprits, 2); /* types make way for types */
  assert_string_equal(f.culprit[0].name, "set");
  assert_true(mg_detector_advice(&f, MG_RUNTIME_PYTHON, 1, text));
  snprintf(expected, sizeof expected,
           "in the process: import objgraph; objgraph.show_backrefs("
           "objgraph.by_type('set')[-3:], filename='backrefs-%d.png')",
           (int)getpid());
  assert_string_equal(text, expected);
  for (int i = 0; i < 12; i++) many[i] = culprit(MG_CULPRIT_TYPE, "list", 0.1);
  mg_detector_culprits(w.detector, MG_LEAK_HEAP, many, 12, NULL);
  assert_true(mg_detector_finding_at(w.detector, number, &f));
  assert_int_equal(f.culprits, 8);
  unwatch(&w);
}

/* ---- fed by the core itself --------------------------------------------------- */

static double sessions_began_ms;

static void sessions_grow(const watched *w) {
  int64_t wanted = (int64_t)grown(&sessions_began_ms, 2.0);
  uint64_t value = 0;

  mg_monitor_counter_add(w->monitor, "sessions", 0, &value, NULL);
  mg_monitor_counter_add(w->monitor, "sessions", wanted - (int64_t)value, NULL,
                         NULL);
}

static void test_a_counter_that_grows(void **state) {
  watched w = watch(NULL);
  mg_detector_finding finding;
  uint64_t number;

  (void)state;
  mg_monitor_counter_register(w.monitor, "sessions", NULL);
  number =
      step_until(&w, MG_EVENT_LEAK_WARNING, "counter:sessions", sessions_grow);
  assert_int_not_equal(number, 0);
  assert_true(mg_detector_finding_at(w.detector, number, &finding));
  assert_true(finding.leak.latest > finding.leak.base);
  unwatch(&w);
}

static mg_pool *pool;
static uint64_t handles[200000];
static size_t rented;
static double rentals_began_ms;

static void rentals_grow(const watched *w) {
  mg_rental rental;

  (void)w;
  while (rented < grown(&rentals_began_ms, 2.0) && rented < 200000) {
    assert_int_equal(mg_pool_rent(&rental, pool, 64, NULL), MG_OK);
    handles[rented++] = rental.handle;
  }
}

static void test_rentals_that_do_not_return(void **state) {
  mg_config config = support_config(NULL);
  watched w = watch(NULL);

  (void)state;
  assert_int_equal(mg_pool_open(&pool, &config, NULL), MG_OK);
  assert_int_not_equal(
      step_until(&w, MG_EVENT_LEAK_WARNING, "rentals", rentals_grow), 0);
  unwatch(&w);
  assert_int_equal(mg_pool_return_many(pool, handles, rented, NULL, NULL), MG_OK);
  mg_pool_close(pool);
}

/* ---- in a process of its own ----------------------------------------------------- */

/* In a child: waits, while `step` leaks and the sampler looks by itself.
 * @return whether the finding came. */
static bool comes(const watched *w, const char *signal, bool *out_fd_warning,
                  void (*step)(void), mg_detector_finding *out) {
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    mg_event event;
    step();
    while (mg_monitor_next_event(w->monitor, &event)) {
      if (event.kind == MG_EVENT_FD_WARNING) *out_fd_warning = true;
      if (event.kind != MG_EVENT_LEAK_WARNING ||
          !mg_detector_finding_at(w->detector, event.finding, out) ||
          strcmp(out->leak.name, signal) != 0)
        continue;
      return true;
    }
    sleep_ms(5);
  }
  return false;
}

/* The same without cmocka, whose assertions return into the parent's run. */
static bool watch_in_child(watched *w, void (*read_heap)(void *, mg_heap *)) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;

  options.read_heap = read_heap;
  return mg_monitor_open(&w->monitor, &w->config, NULL, NULL) == MG_OK &&
         mg_detector_open(&w->detector, w->monitor, &options, NULL) == MG_OK &&
         mg_monitor_start(w->monitor, NULL) == MG_OK;
}

#define MOST_DESCRIPTORS 4000

static void leak_some_descriptors(void) {
  static uint64_t leaked;
  static double began_ms;

  for (; leaked < grown(&began_ms, 0.5) && leaked < MOST_DESCRIPTORS; leaked++)
    (void)open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void leak_descriptors(void *config) {
  char text[MG_ADVICE_BYTES], expected[64];
  watched w = {.config = *(const mg_config *)config};
  bool is_fd_warned = false;
  mg_detector_finding f;
  struct rlimit limit;

  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(watch_in_child(&w, NULL));
  CHECK(comes(&w, "fds", &is_fd_warned, leak_some_descriptors, &f));
  CHECK(is_fd_warned);
  /* The culprit is known at the latest when more have gone. */
  for (int i = 0; i < 400 && f.culprits == 0; i++) {
    leak_some_descriptors();
    sleep_ms(10);
    CHECK(mg_detector_finding_at(w.detector, f.number, &f));
  }
  CHECK(f.culprits == 1);
  CHECK(f.culprit[0].kind == MG_CULPRIT_FD);
  CHECK(strcmp(f.culprit[0].name, "file /dev/null") == 0);
  CHECK(f.culprit[0].share > 0.5);
  CHECK(mg_detector_advice(&f, MG_RUNTIME_NODE, 0, text));
  snprintf(expected, sizeof expected, "lsof -nP -p %d", (int)getpid());
  CHECK(strcmp(text, expected) == 0);
  unwatch(&w);
}

static void test_descriptors_are_leaked(void **state) {
  mg_config config = support_config("sample_interval", "10ms", "leak.time_scale",
                                    TIME_SCALE, "fd_growth_per_minute", "5",
                                    "leak.critical_within", "0s", NULL);

  (void)state;
  assert_int_equal(fixture_child(leak_descriptors, &config), 0);
}

static void no_heap(void *ctx, mg_heap *out) {
  (void)ctx;
  out->total_bytes = 0;
}

#define PIECE 65536u
#define MOST_PIECES 8000u

static void leak_native_memory(void) {
  static uint64_t leaked;
  static double began_ms;

  for (; leaked < grown(&began_ms, 1.0) && leaked < MOST_PIECES; leaked++)
    (void)fixture_touch(PIECE);
}

static void leak_native(void *config) {
  watched w = {.config = *(const mg_config *)config};
  bool is_fd_warned = false;
  mg_detector_finding f;

  CHECK(watch_in_child(&w, no_heap));
  CHECK(comes(&w, "native", &is_fd_warned, leak_native_memory, &f));
  CHECK(!is_fd_warned);
  CHECK(f.leak.growth >= 4.0 * MB);
  for (int i = 0; i < 400 && f.culprits == 0; i++) {
    leak_native_memory();
    sleep_ms(10);
    CHECK(mg_detector_finding_at(w.detector, f.number, &f));
  }
  CHECK(f.culprits >= 1);
  CHECK(f.culprit[0].kind == MG_CULPRIT_MAPPING);
  CHECK(strcmp(f.culprit[0].name, "anon") == 0);
  unwatch(&w);
}

static void test_native_memory_is_leaked(void **state) {
  mg_config config =
      support_config("sample_interval", "10ms", "leak.time_scale", TIME_SCALE,
                     "leak.critical_within", "0s", "max_memory_mb", "512",
                     NULL);

  (void)state;
  assert_int_equal(fixture_child(leak_native, &config), 0);
}

/* ---- fork --------------------------------------------------------------------------- */

static void look_in_child(void *ctx) {
  watched *w = ctx;
  mg_detector_stats before, stats;
  int pipes[2];

  mg_detector_check(w->detector);
  mg_detector_read_stats(w->detector, &before);
  CHECK(mg_detector_findings(w->detector, NULL, 0) == 0); /* begun anew */
  CHECK(pipe(pipes) == 0);
  mg_detector_check(w->detector);
  mg_detector_read_stats(w->detector, &stats);
  CHECK(stats.pipes - before.pipes == 2); /* its own, not its parent's */
  mg_fork_child();
  CHECK(reaches(w->monitor, number_of(w->monitor) + 3));
  unwatch(w);
}

static void test_a_child_begins_anew(void **state) {
  watched w = watch(NULL);

  (void)state;
  assert_int_not_equal(heap_until(&w, MG_EVENT_LEAK_WARNING, heap_grows), 0);
  start(w.monitor);
  for (int i = 0; i < 5; i++) {
    mg_fork_prepare(); /* a sanitizer's allocator does not survive fork() */
    assert_int_equal(fixture_child(look_in_child, &w), 0);
    mg_fork_parent();
  }
  assert_true(mg_detector_findings(w.detector, NULL, 0) >= 1);
  unwatch(&w);
}

/* ---- threads ------------------------------------------------------------------------- */

static _Atomic bool is_over;

static void *ask_all(void *ctx) {
  const watched *w = ctx;
  mg_detector_finding found[4];
  mg_detector_stats stats;
  mg_culprit type = culprit(MG_CULPRIT_TYPE, "dict", 0.6);

  while (!is_over) {
    mg_detector_collected(w->detector, 1 * MB, 1000, 0.1, true);
    mg_detector_findings(w->detector, found, 4);
    mg_detector_read_stats(w->detector, &stats);
    mg_detector_request(w->detector, NULL);
    mg_detector_culprits(w->detector, MG_LEAK_HEAP, &type, 1, NULL);
    mg_detector_check(w->detector);
    mg_detector_set_active(w->detector, stats.samples % 7 != 0);
    mg_monitor_counter_add(w->monitor, "sessions", 1, NULL, NULL);
    sleep_ms(1);
  }
  return NULL;
}

static void test_all_at_once(void **state) {
  watched w = watch(NULL);
  pthread_t thread[3];

  (void)state;
  is_over = false;
  mg_monitor_counter_register(w.monitor, "sessions", NULL);
  start(w.monitor);
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, ask_all, &w), 0);
  assert_true(reaches(w.monitor, number_of(w.monitor) + 30));
  is_over = true;
  for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
  unwatch(&w);
}

static void *pass_always(void *ctx) {
  const watched *w = ctx;

  while (!is_over) pass(w);
  return NULL;
}

static void test_opened_and_closed_while_sampled(void **state) {
  watched w = watch(NULL);
  pthread_t thread;

  (void)state;
  is_over = false;
  start(w.monitor);
  assert_int_equal(pthread_create(&thread, NULL, pass_always, &w), 0);
  for (int i = 0; i < 50; i++) {
    mg_detector_close(w.detector);
    w.detector = detector_on(w.monitor, NULL);
    if (i % 3 == 0) mg_detector_check(w.detector);
    sleep_ms(2);
  }
  is_over = true;
  pthread_join(thread, NULL);
  mg_monitor_close(w.monitor); /* runs still, and goes first */
  mg_detector_close(w.detector);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_heap_that_grows),
      cmocka_unit_test(test_a_heap_that_stops_growing),
      cmocka_unit_test(test_code_is_not_the_heap),
      cmocka_unit_test(test_a_limit_that_is_near),
      cmocka_unit_test(test_culprits_of_a_binding),
      cmocka_unit_test(test_a_counter_that_grows),
      cmocka_unit_test(test_descriptors_are_leaked),
      cmocka_unit_test(test_native_memory_is_leaked),
      cmocka_unit_test(test_a_child_begins_anew),
      cmocka_unit_test(test_all_at_once),
      cmocka_unit_test(test_opened_and_closed_while_sampled),
      /* The last one: pools set their locks anew in a child, which looks to a
       * sanitizer as if they were held. */
      cmocka_unit_test(test_rentals_that_do_not_return),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
