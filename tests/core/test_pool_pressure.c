/* test_pool_pressure.c - pools follow the monitors of the process by themselves:
 * degrade with the level, come back, are trimmed as time goes on. */
#include "fixture.h"
#include "monitor_support.h"
#include "pool_support.h"

#include <sys/wait.h>
#include <unistd.h>

#include "memguard/reclaim.h"

static void set_usage(mg_monitor *monitor, uint64_t percent) {
  mg_heap heap = {percent, 100, 100, 0, 0};

  mg_monitor_set_heap(monitor, &heap);
  mg_monitor_pass(monitor, false, NULL);
}

/* @return whether a rental comes from the allocator now. */
static bool is_plain(mg_pool *pool) {
  uint64_t before = pool_stats(pool).plain;

  pool_returned(pool, pool_rented(pool, 1000).handle);
  return pool_stats(pool).plain != before;
}

/* Levels are left after a hold time. */
static bool is_pooled_again(mg_monitor *monitor, mg_pool *pool) {
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 50) {
    set_usage(monitor, 1);
    if (!is_plain(pool)) return true;
    sleep_ms(50);
  }
  return false;
}

static void test_pools_degrade_and_come_back(void **state) {
  mg_config config = support_config(NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_pool *pool = pool_with(NULL, NULL, NULL, NULL), *later;
  mg_rental kept = pool_rented(pool, 100000);

  (void)state;
  pool_returned(pool, pool_rented(pool, 200000).handle);
  assert_false(is_plain(pool));
  set_usage(monitor, 99);
  assert_true(is_plain(pool));
  later = pool_with(NULL, NULL, NULL, NULL);
  assert_true(is_plain(later));
  memset(kept.data, 7, kept.capacity); /* still its owner's */
  pool_returned(pool, kept.handle);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  assert_true(is_pooled_again(monitor, pool));
  assert_false(is_plain(later));
  mg_monitor_close(monitor);
  mg_pool_close(pool);
  mg_pool_close(later);
}

static void test_the_highest_monitor_counts(void **state) {
  mg_config config = support_config(NULL);
  mg_config off = support_config("enabled", "false", NULL);
  mg_monitor *calm = opened(&config, NULL), *full = opened(&config, NULL);
  mg_monitor *other = opened(&config, NULL), *silent = opened(&off, NULL);
  mg_pool *pool = pool_with(NULL, NULL, NULL, NULL);

  (void)state;
  set_usage(silent, 99); /* is not asked */
  assert_false(is_plain(pool));
  set_usage(full, 99);
  set_usage(other, 99);
  set_usage(calm, 1);
  assert_true(is_plain(pool));
  mg_monitor_close(full);
  assert_true(is_plain(pool));
  mg_monitor_close(other); /* nobody is left who would take it back */
  assert_false(is_plain(pool));
  mg_monitor_close(calm);
  mg_monitor_close(silent);
  mg_pool_close(pool);
}

static void test_a_stopped_monitor_counts_no_more(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_pool *pool = pool_with(NULL, NULL, NULL, NULL);

  (void)state;
  start(monitor);
  set_usage(monitor, 99);
  assert_true(is_plain(pool));
  mg_monitor_stop(monitor);
  assert_false(is_plain(pool));
  mg_monitor_close(monitor);
  mg_pool_close(pool);
}

/* Nobody but the sampler is there to tell the pools. */
static void test_the_sampler_tells_and_ticks(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_heap heap = {99, 100, 100, 0, 0};
  mg_monitor *monitor = opened(&config, NULL);
  mg_pool *pool = pool_with(NULL, NULL, NULL, NULL);
  mg_rental rental[64];
  int waited = 0;

  (void)state;
  for (int i = 0; i < 64; i++) rental[i] = pool_rented(pool, 1048576);
  for (int i = 0; i < 64; i++) pool_returned(pool, rental[i].handle);
  assert_true(pool_stats(pool).held_bytes >= 60 * MB);
  start(monitor);
  while (pool_stats(pool).held_bytes > 20 * MB && waited++ < LONGEST_WAIT_MS / 5)
    sleep_ms(5);
  assert_true(pool_stats(pool).held_bytes <= 20 * MB); /* trimmed by ticks */
  mg_monitor_set_heap(monitor, &heap);
  for (waited = 0; waited < LONGEST_WAIT_MS && !is_plain(pool); waited += 5)
    sleep_ms(5);
  assert_true(is_plain(pool));
  mg_monitor_close(monitor);
  assert_false(is_plain(pool));
  mg_pool_close(pool);
}

/* Time that nobody told of makes no rental old. */
static void test_no_age_without_a_sampler(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_pool *pool = pool_with("pool.suspect_after", "10s", NULL, NULL);
  mg_monitor *monitor = opened(&config, NULL);
  double now_ms = mg_clock_ms();
  mg_rental during, after;
  mg_finding found[2];

  (void)state;
  start(monitor);
  assert_true(reaches(monitor, 3));
  during = pool_rented(pool, 100);
  mg_monitor_stop(monitor);
  after = pool_rented(pool, 100);
  assert_int_equal(mg_pool_suspects(pool, now_ms + 60000, found, 2), 1);
  assert_int_equal(found[0].handle, during.handle);
  assert_int_equal(mg_pool_suspects(pool, now_ms + 61000, found, 2), 1);
  assert_int_equal(mg_pool_suspects(pool, now_ms + 80000, found, 2), 2);
  pool_returned(pool, during.handle);
  pool_returned(pool, after.handle);
  mg_monitor_close(monitor);
  mg_pool_close(pool);
}

/* ---- the engine ------------------------------------------------------------- */

static void act_nothing(void *ctx, mg_action action, mg_reason reason,
                        double share, bool on_worker, mg_outcome *out) {
  (void)ctx, (void)action, (void)reason, (void)share, (void)on_worker;
  (void)out;
}

static void test_reclaiming_relieves_pools(void **state) {
  mg_reclaim_hooks hooks = MG_RECLAIM_HOOKS_INIT;
  mg_pool *pool = pool_with(NULL, NULL, NULL, NULL);
  uint32_t pools = MG_ACTION_BIT(MG_ACTION_POOLS);
  mg_error err = MG_ERROR_INIT;
  mg_rental rental[8];
  mg_reclaim *reclaim;
  mg_round round;

  (void)state;
  hooks.actions = pools;
  hooks.act = act_nothing;
  assert_ok(mg_reclaim_open(&reclaim, &hooks, &err), &err);
  for (int i = 0; i < 8; i++) rental[i] = pool_rented(pool, 1048576);
  for (int i = 0; i < 8; i++) pool_returned(pool, rental[i].handle);
  assert_ok(mg_reclaim_run(reclaim, pools, MG_REASON_MANUAL, 1.0, 0, &round,
                           &err),
            &err);
  assert_int_equal(round.steps, 1);
  assert_true(round.step[0].was_done);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  assert_ok(mg_reclaim_run(reclaim, pools, MG_REASON_MANUAL, 1.0, 0, &round,
                           &err),
            &err);
  assert_false(round.step[0].was_done); /* nothing idle any more */
  mg_reclaim_close(reclaim);
  mg_pool_close(pool);
}

/* ---- fork -------------------------------------------------------------------- */

static void test_a_forked_child_follows_its_own(void **state) {
  mg_config config = support_config(NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_pool *pool = pool_with(NULL, NULL, NULL, NULL);
  int status = 0;
  pid_t child;

  (void)state;
  set_usage(monitor, 99);
  child = fork();
  if (child == 0) {
    if (!is_plain(pool)) fixture_leave(1);
    mg_monitor_close(monitor);
    fixture_leave(is_plain(pool) ? 2 : 0);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_true(is_plain(pool));
  mg_monitor_close(monitor);
  mg_pool_close(pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pools_degrade_and_come_back),
      cmocka_unit_test(test_the_highest_monitor_counts),
      cmocka_unit_test(test_a_stopped_monitor_counts_no_more),
      cmocka_unit_test(test_the_sampler_tells_and_ticks),
      cmocka_unit_test(test_no_age_without_a_sampler),
      cmocka_unit_test(test_reclaiming_relieves_pools),
      cmocka_unit_test(test_a_forked_child_follows_its_own)};
  return cmocka_run_group_tests_name("pool pressure", tests, NULL, NULL);
}
