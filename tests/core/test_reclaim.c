/* test_reclaim.c - the engine with a runtime of the test's own: what is due is
 * done once, by one thread at a time, measured, recorded and told. */
#include "fixture.h"
#include "monitor_support.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memguard/reclaim.h"


/* A heap that is a number: collections take from it. */
typedef struct runtime {
  mg_reclaim *reclaim;
  _Atomic uint64_t live_bytes, grown_bytes;
  _Atomic uint64_t frees_bytes; /* what each collection frees */
  _Atomic int calls[MG_ACTIONS], worker_calls, inside, most_inside;
  _Atomic int sleeps_ms;
  _Atomic bool refuses, reenters;
  _Atomic int reentered; /* status of the call from inside, + 1 */
} runtime;

static void act(void *ctx, mg_action action, mg_reason reason, double share,
                bool on_worker, mg_outcome *out) {
  runtime *rt = ctx;
  int inside = ++rt->inside;

  (void)reason;
  (void)share;
  if (inside > rt->most_inside) rt->most_inside = inside;
  rt->calls[action]++;
  if (on_worker) rt->worker_calls++;
  if (rt->reenters)
    rt->reentered = 1 + (int)mg_reclaim_run(
                            rt->reclaim, MG_ACTION_BIT(MG_ACTION_FULL),
                            MG_REASON_MANUAL, 0, 1000, NULL, NULL);
  if (rt->sleeps_ms > 0) sleep_ms(rt->sleeps_ms);
  if (!rt->refuses) {
    uint64_t live = rt->live_bytes, freed = rt->frees_bytes;
    out->was_done = true;
    if (freed > live) freed = live;
    if (action == MG_ACTION_YOUNG || action == MG_ACTION_FULL ||
        action == MG_ACTION_RELEASE) {
      rt->live_bytes = live - freed;
      rt->grown_bytes = 0;
      out->gc_ms = 0.5;
    }
  }
  rt->inside--;
}

static uint64_t live_bytes(void *ctx) { return ((runtime *)ctx)->live_bytes; }

static uint64_t grown_bytes(void *ctx) { return ((runtime *)ctx)->grown_bytes; }

static mg_reclaim *engine(runtime *rt, uint32_t actions) {
  mg_reclaim_hooks hooks = MG_RECLAIM_HOOKS_INIT;
  mg_error err = MG_ERROR_INIT;

  hooks.actions = actions;
  hooks.act = act;
  hooks.live_bytes = live_bytes;
  hooks.grown_bytes = grown_bytes;
  hooks.ctx = rt;
  assert_int_equal(mg_reclaim_open(&rt->reclaim, &hooks, &err), MG_OK);
  return rt->reclaim;
}

#define YOUNG MG_ACTION_BIT(MG_ACTION_YOUNG)
#define FULL MG_ACTION_BIT(MG_ACTION_FULL)
#define TRIM MG_ACTION_BIT(MG_ACTION_TRIM)
#define SHED MG_ACTION_BIT(MG_ACTION_SHED)

static bool becomes(_Atomic int *value, int least) {
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    if (*value >= least) return true;
    sleep_ms(5);
  }
  return false;
}

/* ---- by hand ------------------------------------------------------------- */

static void test_a_round_by_hand(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = 30 * MIB};
  mg_reclaim *reclaim = engine(&rt, YOUNG | FULL | TRIM);
  mg_error err = MG_ERROR_INIT;
  mg_reclaim_stats stats;
  mg_round round, kept[2];

  (void)state;
  assert_int_equal(mg_reclaim_run(reclaim, FULL | TRIM | SHED, MG_REASON_MANUAL,
                                  1.0, 0, &round, &err),
                   MG_OK);
  assert_int_equal(rt.calls[MG_ACTION_FULL], 1);
  assert_int_equal(rt.calls[MG_ACTION_TRIM], 1);
  assert_int_equal(rt.calls[MG_ACTION_SHED], 0); /* not among its actions */
  assert_int_equal(rt.worker_calls, 0);
  assert_int_equal(round.number, 1);
  assert_int_equal(round.reason, MG_REASON_MANUAL);
  assert_int_equal(round.steps, 2);
  assert_int_equal(round.step[0].action, MG_ACTION_TRIM);
  assert_int_equal(round.step[1].action, MG_ACTION_FULL);
  assert_int_equal(round.step[1].freed_bytes, 30 * MIB);
  assert_int_equal(round.heap_before_bytes, 80 * MIB);
  assert_int_equal(round.heap_after_bytes, 50 * MIB);
  assert_true(round.freed_bytes >= 30 * MIB);
  assert_true(round.gc_ms == 1.0 || round.gc_ms == 0.5);
  assert_true(round.rss_before_bytes != MG_ABSENT);
  mg_reclaim_read_stats(reclaim, &stats);
  assert_int_equal(stats.rounds, 1);
  assert_int_equal(stats.useful_rounds, 1);
  assert_int_equal(stats.actions[MG_ACTION_FULL], 1);
  assert_int_equal(stats.failed, 0);
  assert_false(stats.is_unreclaimable);
  assert_int_equal(mg_reclaim_rounds(reclaim, kept, 2), 1);
  assert_int_equal(kept[0].number, 1);
  assert_true(mg_reclaim_round(reclaim, 1, &round));
  assert_false(mg_reclaim_round(reclaim, 0, &round));
  assert_false(mg_reclaim_round(reclaim, 2, &round));
  mg_reclaim_close(reclaim);
}

static void test_only_the_newest_rounds_are_kept(void **state) {
  runtime rt = {.live_bytes = 1};
  mg_reclaim *reclaim = engine(&rt, FULL);
  mg_round kept[MG_ROUNDS + 1];

  (void)state;
  for (int i = 0; i < 70; i++)
    assert_int_equal(mg_reclaim_run(reclaim, FULL, MG_REASON_IDLE, 0, 0, NULL,
                                    NULL),
                     MG_OK);
  assert_int_equal(mg_reclaim_rounds(reclaim, kept, MG_ROUNDS + 1), 64);
  assert_int_equal(kept[0].number, 7);
  assert_int_equal(kept[63].number, 70);
  assert_false(mg_reclaim_round(reclaim, 6, kept));
  assert_true(mg_reclaim_round(reclaim, 7, kept));
  mg_reclaim_close(reclaim);
}

static void test_foreign_hooks_are_refused(void **state) {
  mg_reclaim_hooks hooks = MG_RECLAIM_HOOKS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_reclaim *reclaim;

  (void)state;
  hooks.struct_bytes = 8;
  assert_int_equal(mg_reclaim_open(&reclaim, &hooks, &err), MG_EINVAL);
  assert_null(reclaim);
  assert_non_null(strstr(err.text, "mg_reclaim_hooks has 8 bytes"));
}

static void test_from_inside_an_action_is_refused(void **state) {
  runtime rt = {.reenters = true};
  mg_reclaim *reclaim = engine(&rt, FULL);

  (void)state;
  assert_int_equal(
      mg_reclaim_run(reclaim, FULL, MG_REASON_MANUAL, 0, 0, NULL, NULL), MG_OK);
  assert_int_equal(rt.calls[MG_ACTION_FULL], 1);
  assert_int_equal(rt.reentered, 1 + MG_ECONFLICT);
  mg_reclaim_close(reclaim);
}

static void *run_twenty(void *ctx) {
  runtime *rt = ctx;

  for (int i = 0; i < 20; i++)
    if (mg_reclaim_run(rt->reclaim, FULL, MG_REASON_MANUAL, 0, 60000, NULL,
                       NULL) != MG_OK)
      abort();
  return NULL;
}

static void test_many_threads_one_at_a_time(void **state) {
  runtime rt = {.live_bytes = 1000 * MIB, .frees_bytes = 1};
  mg_reclaim *reclaim = engine(&rt, FULL);
  pthread_t thread[8];
  mg_error err = MG_ERROR_INIT;

  (void)state;
  for (int i = 0; i < 8; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, run_twenty, &rt), 0);
  for (int i = 0; i < 8; i++) pthread_join(thread[i], NULL);
  assert_int_equal(rt.calls[MG_ACTION_FULL], 160);
  assert_int_equal(rt.most_inside, 1);

  rt.sleeps_ms = 300;
  assert_int_equal(pthread_create(&thread[0], NULL, run_twenty, &rt), 0);
  assert_true(becomes(&rt.inside, 1));
  assert_int_equal(
      mg_reclaim_run(reclaim, FULL, MG_REASON_MANUAL, 0, 1, NULL, &err),
      MG_ECONFLICT);
  assert_non_null(strstr(err.text, "within 1 ms"));
  rt.sleeps_ms = 0;
  pthread_join(thread[0], NULL);
  mg_reclaim_close(reclaim);
}

/* ---- by samples ------------------------------------------------------------ */

/* Any process is above 1 MB of resident memory: usage is far above 1. */
static mg_config tight(void) {
  return support_config("sample_interval", "10ms", "max_memory_mb", "1MB",
                        NULL);
}

static void test_pressure_makes_the_worker_act(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = MIB};
  mg_reclaim *reclaim = engine(&rt, FULL | SHED);
  mg_config config = tight();
  mg_monitor *monitor = opened(&config, NULL);
  bool told = false, gave_up = false;
  mg_event event;

  (void)state;
  mg_monitor_join(monitor, reclaim);
  start(monitor);
  assert_true(becomes(&rt.calls[MG_ACTION_FULL], 1));
  assert_true(rt.worker_calls > 0);
  for (int waited = 0; waited < LONGEST_WAIT_MS && !told; waited += 5) {
    while (mg_monitor_next_event(monitor, &event)) {
      if (event.kind == MG_EVENT_OPTIMIZATION && event.round == 1) told = true;
      gave_up |= event.kind == MG_EVENT_UNRECLAIMABLE;
    }
    sleep_ms(5);
  }
  assert_true(told);
  (void)gave_up;
  mg_monitor_close(monitor);
  mg_reclaim_close(reclaim);
}

static void test_disabled_it_does_nothing(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = MIB};
  mg_reclaim *reclaim = engine(&rt, FULL);
  mg_config config = support_config("sample_interval", "10ms", "max_memory_mb",
                                    "1MB", "enable_auto_gc", "false", NULL);
  mg_monitor *monitor = opened(&config, NULL);

  (void)state;
  mg_monitor_join(monitor, reclaim);
  start(monitor);
  assert_true(reaches(monitor, 10));
  assert_false(mg_reclaim_is_due(reclaim));
  assert_false(mg_reclaim_poll(reclaim));
  assert_int_equal(rt.calls[MG_ACTION_FULL], 0);
  mg_monitor_close(monitor);
  mg_reclaim_close(reclaim);
}

static void test_without_threads_the_host_polls(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = MIB};
  mg_reclaim *reclaim = engine(&rt, FULL);
  mg_config config = tight();
  mg_monitor *monitor = opened(&config, NULL);

  (void)state;
  mg_monitor_join(monitor, reclaim);
  assert_false(mg_reclaim_poll(reclaim));
  mg_monitor_pass(monitor, false, NULL);
  assert_true(mg_reclaim_is_due(reclaim));
  assert_true(mg_reclaim_poll(reclaim));
  assert_false(mg_reclaim_is_due(reclaim));
  /* Of 1 MB, a few pages more are the next forced step. */
  assert_true(rt.calls[MG_ACTION_FULL] >= 1);
  assert_int_equal(rt.worker_calls, 0);
  mg_monitor_join(monitor, NULL);
  mg_monitor_pass(monitor, false, NULL);
  assert_false(mg_reclaim_is_due(reclaim));
  mg_monitor_close(monitor);
  mg_reclaim_close(reclaim);
}

/* A thread that cannot do what a round begins with leaves it alone, a worker that
 * must not does too. */
static void test_some_threads_do_some_actions(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = MIB};
  mg_config config = tight();
  mg_reclaim_hooks hooks = MG_RECLAIM_HOOKS_INIT;
  mg_monitor *monitor = opened(&config, NULL);
  mg_reclaim *reclaim;

  (void)state;
  hooks.actions = FULL | SHED;
  hooks.act = act;
  hooks.live_bytes = live_bytes;
  hooks.grace_ms = -1.0;
  hooks.ctx = &rt;
  assert_int_equal(mg_reclaim_open(&reclaim, &hooks, NULL), MG_OK);
  mg_monitor_join(monitor, reclaim);
  start(monitor);
  for (int ms = 0; ms < LONGEST_WAIT_MS && !mg_reclaim_is_due(reclaim); ms += 5)
    sleep_ms(5);
  sleep_ms(100); /* the worker had its chance */
  assert_int_equal(rt.worker_calls, 0);
  assert_false(mg_reclaim_poll_for(reclaim, TRIM));
  assert_int_equal(rt.calls[MG_ACTION_FULL], 0);
  assert_true(mg_reclaim_is_due(reclaim)); /* kept */
  assert_true(mg_reclaim_poll_for(reclaim, TRIM | FULL));
  assert_true(rt.calls[MG_ACTION_FULL] >= 1);
  assert_int_equal(rt.calls[MG_ACTION_SHED], 0);
  mg_monitor_close(monitor);
  mg_reclaim_close(reclaim);
}

/* What the host spent counts: its collection of 10 s leaves none to the engine. */
static void test_time_of_the_hosts_own_is_charged(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = MIB};
  mg_reclaim *reclaim = engine(&rt, FULL);
  mg_config config = tight();
  mg_monitor *monitor = opened(&config, NULL);

  (void)state;
  mg_monitor_join(monitor, reclaim);
  mg_reclaim_spent(reclaim, 10000.0);
  mg_monitor_pass(monitor, true, NULL);
  assert_false(mg_reclaim_poll(reclaim));
  assert_int_equal(rt.calls[MG_ACTION_FULL], 0);
  mg_monitor_close(monitor);
  mg_reclaim_close(reclaim);
}

/* ---- by bytes -------------------------------------------------------------- */

static runtime *asked_runtime;

static void ask(int signal_number) {
  (void)signal_number;
  mg_reclaim_notify(asked_runtime->reclaim);
}

static void test_a_signal_handler_may_ask(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = MIB};
  mg_reclaim *reclaim = engine(&rt, YOUNG | FULL);
  mg_config config = support_config("sample_interval", "1h", "max_memory_mb",
                                    "1TB", NULL);
  mg_monitor *monitor = opened(&config, NULL);

  (void)state;
  assert_true(mg_reclaim_budget_bytes(reclaim) == MG_ABSENT);
  mg_monitor_join(monitor, reclaim);
  start(monitor);
  assert_true(reaches(monitor, 1));
  assert_int_equal(mg_reclaim_budget_bytes(reclaim), 256 * MIB);
  rt.grown_bytes = 300 * MIB;
  asked_runtime = &rt;
  signal(SIGUSR1, ask);
  for (int i = 0; i < 100; i++) raise(SIGUSR1);
  assert_true(becomes(&rt.calls[MG_ACTION_YOUNG], 1));
  signal(SIGUSR1, SIG_DFL);
  mg_monitor_close(monitor);
  mg_reclaim_close(reclaim);
}

/* ---- fork ------------------------------------------------------------------ */

static void test_a_child_starts_afresh(void **state) {
  runtime rt = {.live_bytes = 80 * MIB, .frees_bytes = MIB, .sleeps_ms = 200};
  mg_reclaim *reclaim = engine(&rt, FULL);
  mg_config config = tight();
  mg_monitor *monitor = opened(&config, NULL);
  int status = -1;
  pid_t child;

  (void)state;
  mg_monitor_join(monitor, reclaim);
  start(monitor);
  assert_true(becomes(&rt.inside, 1)); /* the worker is at it */
  child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    bool is_right;
    alarm(20);
    rt.sleeps_ms = 0;
    is_right = mg_reclaim_run(reclaim, FULL, MG_REASON_MANUAL, 0, 0, NULL,
                              NULL) == MG_OK;
    mg_monitor_close(monitor);
    mg_reclaim_close(reclaim);
    fixture_leave(is_right ? 0 : 1);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  rt.sleeps_ms = 0;
  mg_monitor_close(monitor);
  mg_reclaim_close(reclaim);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_round_by_hand),
      cmocka_unit_test(test_only_the_newest_rounds_are_kept),
      cmocka_unit_test(test_foreign_hooks_are_refused),
      cmocka_unit_test(test_from_inside_an_action_is_refused),
      cmocka_unit_test(test_many_threads_one_at_a_time),
      cmocka_unit_test(test_pressure_makes_the_worker_act),
      cmocka_unit_test(test_disabled_it_does_nothing),
      cmocka_unit_test(test_without_threads_the_host_polls),
      cmocka_unit_test(test_some_threads_do_some_actions),
      cmocka_unit_test(test_time_of_the_hosts_own_is_charged),
      cmocka_unit_test(test_a_signal_handler_may_ask),
      cmocka_unit_test(test_a_child_starts_afresh),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
