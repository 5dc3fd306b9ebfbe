/* test_pool_leak.c - what pools say about mistakes: wrong returns, lost, suspected
 * and written after their return. */
#include "pool_support.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

#define MB 1048576u

static mg_pool *pool_at(const char *leak_check) {
  return pool_with("pool.leak_check", leak_check, "pool.suspect_after", "10s");
}

static size_t count_findings(mg_pool *pool, mg_finding_kind kind) {
  mg_finding finding[MG_POOL_FINDINGS];
  size_t count = mg_pool_take_findings(pool, finding, MG_POOL_FINDINGS), sum = 0;

  for (size_t i = 0; i < count; i++)
    if (finding[i].kind == kind) sum += finding[i].count;
  return sum;
}

/* ---- wrong returns ------------------------------------------------------------- */

typedef struct remote {
  mg_pool *pool;
  uint64_t handle;
  mg_status status;
} remote;

static void *return_elsewhere(void *ctx) {
  remote *r = ctx;

  r->status = mg_pool_return(r->pool, r->handle, NULL);
  return NULL;
}

static mg_status on_other_thread(mg_pool *pool, uint64_t handle) {
  remote r = {pool, handle, MG_OK};
  pthread_t thread;

  assert_int_equal(pthread_create(&thread, NULL, return_elsewhere, &r), 0);
  pthread_join(thread, NULL);
  return r.status;
}

static mg_status on_this_thread(mg_pool *pool, uint64_t handle) {
  return mg_pool_return(pool, handle, NULL);
}

static mg_status in_a_batch(mg_pool *pool, uint64_t handle) {
  size_t wrong = 0;
  mg_status st = mg_pool_return_many(pool, &handle, 1, &wrong, NULL);

  assert_int_equal(wrong, st == MG_OK ? 0 : 1);
  return st;
}

/* What lies between the first return and the second. */
static void nothing(mg_pool *pool) { (void)pool; }

static void rented_again(mg_pool *pool) {
  for (int i = 0; i < 300; i++) {
    mg_rental rental = pool_rented(pool, 100);
    pool_returned(pool, rental.handle);
  }
}

static void given_to_the_system(mg_pool *pool) { mg_pool_relieve(pool, 1.0); }

static void gone_and_back(mg_pool *pool) {
  mg_pool_relieve(pool, 1.0);
  rented_again(pool);
}

typedef mg_status (*way)(mg_pool *pool, uint64_t handle);
typedef void (*interval)(mg_pool *pool);

/* 24 ways to return twice: size or kind, first and second way, what lies between. */
static void test_every_double_return_is_found(void **state) {
  static const way ways[] = {on_this_thread, on_other_thread, in_a_batch};
  static const interval intervals[] = {nothing, rented_again,
                                       given_to_the_system, gone_and_back};
  static const size_t sizes[] = {100, 2 * MB};
  mg_pool *pool = pool_at("simple");
  uint64_t found = 0;

  (void)state;
  for (int s = 0; s < 2; s++)
    for (int i = 0; i < 4; i++)
      for (int w = 0; w < 3; w++) {
        mg_rental rental = pool_rented(pool, sizes[s]);
        assert_int_equal(ways[w](pool, rental.handle), MG_OK);
        intervals[i](pool);
        assert_int_equal(ways[(w + i) % 3](pool, rental.handle), MG_ERETURNED);
        assert_int_equal(pool_stats(pool).double_returns, ++found);
      }
  assert_int_equal(found, 24);
  assert_int_equal(pool_stats(pool).current, 0);
  mg_pool_close(pool);
}

/* One that the binding found, while views keep the rental. */
static void test_a_double_return_that_is_told(void **state) {
  mg_pool *pool = pool_at("simple");
  mg_rental rental = pool_rented(pool, 100);
  mg_error err = MG_ERROR_INIT;

  (void)state;
  assert_int_equal(mg_pool_again(pool, rental.handle, &err), MG_ERETURNED);
  assert_non_null(strstr(err.text, "was returned before"));
  assert_int_equal(pool_stats(pool).double_returns, 1);
  assert_int_equal(count_findings(pool, MG_FINDING_DOUBLE_RETURN), 1);
  pool_returned(pool, rental.handle);
  mg_pool_close(pool);
  assert_int_equal(mg_pool_again(pool, rental.handle, NULL), MG_ERETURNED);
}

/* The memory goes to the system and comes back: the old handle stays an old one, also
 * while the block is rented again. */
static void test_no_handle_comes_twice(void **state) {
  static const size_t sizes[] = {64, 4096, 100000, 3 * MB};
  mg_pool *pool = pool_at("disabled");

  (void)state;
  for (int i = 0; i < 4; i++) {
    mg_rental first = pool_rented(pool, sizes[i]), second;
    pool_returned(pool, first.handle);
    mg_pool_relieve(pool, 1.0);
    assert_int_equal(pool_stats(pool).os_bytes, 0);
    second = pool_rented(pool, sizes[i]);
    assert_int_not_equal(second.handle, first.handle);
    assert_int_equal(mg_pool_return(pool, first.handle, NULL), MG_ERETURNED);
    pool_returned(pool, second.handle);
  }
  mg_pool_close(pool);
}

/* Both look at `round` until it changes, so that they start within a few ns. */
typedef struct racers {
  mg_pool *pool;
  uint64_t handle;
  _Atomic int round, done; /* round < 0: the end */
  _Atomic int succeeded;
} racers;

static void race_once(racers *r) {
  if (mg_pool_return(r->pool, r->handle, NULL) == MG_OK) r->succeeded++;
}

static void *race(void *ctx) {
  racers *r = ctx;

  for (int round = 1;; round++) {
    int now;
    for (int spins = 0; (now = r->round) != round; spins++) {
      if (now < 0) return NULL;
      if (spins % 1024 == 1023) sched_yield();
    }
    race_once(r);
    r->done = round;
  }
}

/* Two threads return the same rental at the same moment: one of them did. */
static void test_double_returns_at_the_same_moment(void **state) {
  enum { ROUNDS = 100000 };
  racers r = {.pool = pool_at("disabled")};
  pthread_t thread;

  (void)state;
  assert_int_equal(pthread_create(&thread, NULL, race, &r), 0);
  for (int i = 1; i <= ROUNDS; i++) {
    r.handle = pool_rented(r.pool, 256).handle;
    r.round = i;
    for (volatile int wait = i % 512; wait > 0; wait--) continue; /* it is late */
    race_once(&r);
    for (int spins = 1; r.done != i; spins++)
      if (spins % 1024 == 0) sched_yield();
    assert_int_equal(r.succeeded, i);
  }
  r.round = -1;
  pthread_join(thread, NULL);
  assert_int_equal(pool_stats(r.pool).double_returns, ROUNDS);
  mg_pool_close(r.pool);
}

static void test_foreign_handles(void **state) {
  static const uint64_t made_up[] = {0, 1, 2, UINT64_MAX, UINT64_C(1) << 63,
                                     UINT64_C(0xffff00000001)};
  mg_pool *pool = pool_at("simple"), *other = pool_at("simple");
  mg_rental rental = pool_rented(pool, 100);
  mg_error err = MG_ERROR_INIT;

  (void)state;
  for (size_t i = 0; i < sizeof made_up / sizeof *made_up; i++)
    assert_int_equal(mg_pool_return(pool, made_up[i], &err), MG_EFOREIGN);
  assert_int_equal(mg_pool_return(other, rental.handle, &err), MG_EFOREIGN);
  assert_int_equal(mg_pool_lost(other, rental.handle, NULL, &err), MG_EFOREIGN);
  /* a bit changed in each place: never the rental */
  for (int bit = 0; bit < 64; bit++)
    assert_int_not_equal(
        mg_pool_return(pool, rental.handle ^ (UINT64_C(1) << bit), &err), MG_OK);
  assert_int_equal(pool_stats(other).foreign_returns, 1);
  assert_int_equal(pool_stats(pool).current, 1);
  pool_returned(pool, rental.handle);
  mg_pool_close(pool);
  mg_pool_close(other);
}

static void test_the_same_mistake_is_one_finding(void **state) {
  mg_pool *pool = pool_at("simple");
  mg_rental rental = pool_rented(pool, 100);
  mg_finding finding[4];

  (void)state;
  pool_returned(pool, rental.handle);
  for (int i = 0; i < 5; i++)
    assert_int_equal(mg_pool_return(pool, rental.handle, NULL), MG_ERETURNED);
  assert_int_equal(mg_pool_take_findings(pool, finding, 4), 1);
  assert_int_equal(finding[0].kind, MG_FINDING_DOUBLE_RETURN);
  assert_int_equal(finding[0].count, 5);
  assert_int_equal(finding[0].capacity, 128);
  assert_int_equal(finding[0].handle, rental.handle);
  assert_string_equal(mg_finding_name(finding[0].kind), "double_return");
  assert_int_equal(mg_pool_take_findings(pool, finding, 4), 0);
  mg_pool_close(pool);
}

/* ---- lost ------------------------------------------------------------------------ */

static void test_lost_with_its_site(void **state) {
  mg_pool *pool = pool_at("paranoid");
  mg_rental rental = pool_rented(pool, 3000);
  mg_finding finding;

  (void)state;
  assert_true(rental.wants_site);
  mg_pool_set_site(pool, rental.handle, 4711);
  mg_pool_tick(pool, 5000);
  assert_int_equal(mg_pool_lost(pool, rental.handle, &finding, NULL), MG_OK);
  assert_int_equal(finding.kind, MG_FINDING_LOST);
  assert_int_equal(finding.site, 4711);
  assert_int_equal(finding.capacity, 4096);
  assert_int_equal(pool_stats(pool).lost, 1);
  assert_int_equal(pool_stats(pool).current, 0);
  assert_int_equal(pool_stats(pool).sites_kept, 0);
  assert_int_equal(count_findings(pool, MG_FINDING_LOST), 1);
  /* a finaliser that runs after the return finds nothing to report */
  assert_int_equal(mg_pool_lost(pool, rental.handle, NULL, NULL), MG_ERETURNED);
  assert_int_equal(count_findings(pool, MG_FINDING_LOST), 0);
  assert_int_equal(pool_stats(pool).lost, 1);
  mg_pool_close(pool);
}

static void test_which_rentals_want_a_site(void **state) {
  static const char *const levels[] = {"disabled", "simple", "advanced",
                                       "paranoid"};
  static const unsigned least[] = {0, 40, 40, 10000};
  static const unsigned most[] = {0, 170, 170, 10000};

  (void)state;
  for (int level = 0; level < 4; level++) {
    mg_pool *pool = pool_at(levels[level]);
    unsigned wanted = 0;
    mg_rental large;
    for (int i = 0; i < 10000; i++) {
      mg_rental rental = pool_rented(pool, 1000);
      wanted += rental.wants_site;
      pool_returned(pool, rental.handle);
    }
    assert_in_range(wanted, least[level], most[level]);
    large = pool_rented(pool, 524288);
    assert_int_equal(large.wants_site, level != 0);
    pool_returned(pool, large.handle);
    large = pool_rented(pool, 3 * MB);
    assert_int_equal(large.wants_site, level != 0);
    pool_returned(pool, large.handle);
    assert_int_equal(pool_stats(pool).sites_kept, 0);
    mg_pool_close(pool);
  }
}

/* ---- suspected --------------------------------------------------------------------- */

static void test_suspected_and_withdrawn(void **state) {
  mg_pool *pool = pool_at("simple");
  mg_finding found[8];
  mg_rental old, young, large;

  (void)state;
  mg_pool_tick(pool, 1000);
  old = pool_rented(pool, 100);
  large = pool_rented(pool, MB);
  mg_pool_set_site(pool, large.handle, 9);
  mg_pool_tick(pool, 8000);
  young = pool_rented(pool, 100);
  assert_int_equal(mg_pool_suspects(pool, 10000, found, 8), 0);
  assert_int_equal(mg_pool_suspects(pool, 12000, found, 8), 2);
  assert_int_equal(mg_pool_suspects(pool, 12500, found, 1), 2); /* still two */
  assert_int_equal(found[0].kind, MG_FINDING_SUSPECTED);
  assert_true(found[0].age_ms >= 10000 && found[0].age_ms <= 12500);
  assert_true(found[0].handle == old.handle || found[0].site == 9);
  assert_int_equal(pool_stats(pool).suspected, 2);
  pool_returned(pool, old.handle);
  assert_int_equal(pool_stats(pool).suspected, 1);
  assert_int_equal(pool_stats(pool).withdrawn, 1);
  assert_int_equal(mg_pool_suspects(pool, 13000, found, 8), 1);
  assert_int_equal(found[0].handle, large.handle);
  assert_int_equal(found[0].site, 9);
  assert_int_equal(found[0].capacity, MB);
  assert_int_equal(mg_pool_lost(pool, large.handle, NULL, NULL), MG_OK);
  assert_int_equal(pool_stats(pool).suspected, 0);
  assert_int_equal(pool_stats(pool).withdrawn, 1); /* not that one */
  pool_returned(pool, young.handle);
  mg_pool_close(pool);
}

static void test_age_begins_with_the_first_look(void **state) {
  mg_pool *pool = pool_at("simple");
  mg_rental rental = pool_rented(pool, 100);
  mg_finding found;

  (void)state;
  assert_int_equal(mg_pool_suspects(pool, 1e9, &found, 1), 0);
  assert_int_equal(mg_pool_suspects(pool, 1e9 + 9000, &found, 1), 0);
  assert_int_equal(mg_pool_suspects(pool, 1e9 + 11000, &found, 1), 1);
  assert_int_equal(mg_pool_suspects(pool, 5, &found, 1), 0); /* jumped back */
  pool_returned(pool, rental.handle);
  mg_pool_close(pool);
}

static void test_disabled_suspects_nobody(void **state) {
  mg_pool *pool = pool_at("disabled");
  mg_rental rental;
  mg_finding found;

  (void)state;
  mg_pool_tick(pool, 1000);
  rental = pool_rented(pool, 100);
  assert_int_equal(mg_pool_suspects(pool, 1e6, &found, 1), 0);
  pool_returned(pool, rental.handle);
  mg_pool_close(pool);
}

/* ---- written after return -------------------------------------------------------------- */

static void test_writes_after_return_are_found(void **state) {
  static const size_t sizes[] = {64, 500, 4096, 65536};
  mg_pool *pool = pool_at("paranoid");
  mg_finding found[8];

  (void)state;
  for (size_t i = 0; i < 4; i++) {
    mg_rental rental = pool_rented(pool, sizes[i]);
    mg_pool_set_site(pool, rental.handle, 100 + i);
    pool_returned(pool, rental.handle);
    ((unsigned char *)rental.data)[rental.capacity - 1] = 'x';
    mg_pool_tick(pool, 1000.0 * (double)(i + 1));
    assert_int_equal(pool_stats(pool).writes_after_return, i + 1);
  }
  assert_int_equal(mg_pool_take_findings(pool, found, 8), 4);
  assert_int_equal(found[2].kind, MG_FINDING_WRITE_AFTER_RETURN);
  assert_int_equal(found[2].site, 102);
  assert_int_equal(found[2].capacity, 4096);
  mg_pool_close(pool);
}

static void test_no_write_no_finding(void **state) {
  mg_pool *pool = pool_at("paranoid");

  (void)state;
  for (int i = 0; i < 20000; i++) {
    mg_rental rental = pool_rented(pool, (size_t)(i % 5000) + 1);
    memset(rental.data, i, rental.capacity);
    pool_returned(pool, rental.handle);
  }
  mg_pool_tick(pool, 1000);
  assert_int_equal(pool_stats(pool).writes_after_return, 0);
  assert_int_equal(count_findings(pool, MG_FINDING_LOST), 0);
  mg_pool_close(pool);
}

/* ---- guard pages -------------------------------------------------------------------------- */

/* A guarded one has neighbours that may not be touched: find it by its address,
 * which ends a page and not a block of its class. */
static mg_rental find_guarded(mg_pool *pool) {
  for (int i = 0; i < 20000; i++) {
    mg_rental rental;
    CHECK(mg_pool_rent(&rental, pool, 1000, NULL) == MG_OK);
    if (((uintptr_t)rental.data + rental.capacity) % 4096 == 0) {
      mg_pool_stats s;
      mg_pool_read_stats(pool, &s);
      if (s.os_maps > 1) return rental;
    }
    CHECK(mg_pool_return(pool, rental.handle, NULL) == MG_OK);
  }
  fixture_fail(__FILE__, __LINE__, "a guarded rental in 20000");
  return (mg_rental){NULL, 0, 0, false};
}

static void write_past_the_end(void *ctx) {
  mg_rental rental = find_guarded(ctx);

  signal(SIGSEGV, SIG_DFL);
  memset(rental.data, 1, rental.capacity); /* all that is ours */
  ((volatile char *)rental.data)[rental.capacity] = 1;
}

static void write_after_return(void *ctx) {
  mg_rental rental = find_guarded(ctx);

  signal(SIGSEGV, SIG_DFL);
  CHECK(mg_pool_return(ctx, rental.handle, NULL) == MG_OK);
  ((volatile char *)rental.data)[0] = 1;
}

static void test_guard_pages(void **state) {
  mg_pool *pool = pool_at("advanced");
  int status;

  (void)state;
  status = fixture_child(write_past_the_end, pool);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  status = fixture_child(write_after_return, pool);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  mg_pool_close(pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_double_return_is_found),
      cmocka_unit_test(test_a_double_return_that_is_told),
      cmocka_unit_test(test_no_handle_comes_twice),
      cmocka_unit_test(test_double_returns_at_the_same_moment),
      cmocka_unit_test(test_foreign_handles),
      cmocka_unit_test(test_the_same_mistake_is_one_finding),
      cmocka_unit_test(test_lost_with_its_site),
      cmocka_unit_test(test_which_rentals_want_a_site),
      cmocka_unit_test(test_suspected_and_withdrawn),
      cmocka_unit_test(test_age_begins_with_the_first_look),
      cmocka_unit_test(test_disabled_suspects_nobody),
      cmocka_unit_test(test_writes_after_return_are_found),
      cmocka_unit_test(test_no_write_no_finding),
      cmocka_unit_test(test_guard_pages)};
  return cmocka_run_group_tests_name("pool_leak", tests, NULL, NULL);
}
