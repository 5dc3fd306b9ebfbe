/* test_pool.c - renting, returning, limits, trimming, life and fork of pools. */
#include "pool_support.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "fixture.h"

#define MB 1048576u

static void test_sizes(void **state) {
  static const size_t asked[] = {1,    64,   65,    513,   577,   1025,
                                 4097, 5000, 33000, 65536, MB,    MB + 1,
                                 3 * MB};
  static const size_t given[] = {64,   64,   128,   576,   1024,  1152,
                                 4608, 8192, 36864, 65536, MB,    MB + MB / 8,
                                 3 * MB};
  mg_pool *pool = pool_with("pool.max_mb", "64", NULL, NULL);

  (void)state;
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    mg_rental rental = pool_rented(pool, asked[i]);
    assert_int_equal(rental.capacity, given[i]);
    memset(rental.data, 0x5a, rental.capacity);
    pool_returned(pool, rental.handle);
  }
  mg_pool_close(pool);
}

static void test_blocks_do_not_overlap(void **state) {
  static const size_t sizes[] = {64, 576, 4608, 36864, 300000, 2 * MB};
  mg_pool *pool = pool_with("pool.max_mb", "64", NULL, NULL);
  mg_rental rental[6][40];

  (void)state;
  for (int i = 0; i < 40; i++)
    for (int s = 0; s < 6; s++) {
      rental[s][i] = pool_rented(pool, sizes[s]);
      memset(rental[s][i].data, s * 40 + i, rental[s][i].capacity);
    }
  for (int i = 0; i < 40; i++)
    for (int s = 0; s < 6; s++) {
      const unsigned char *data = rental[s][i].data;
      assert_int_equal(data[0], s * 40 + i);
      assert_memory_equal(data, data + 1, rental[s][i].capacity - 1);
      pool_returned(pool, rental[s][i].handle);
    }
  mg_pool_close(pool);
}

static void test_bad_sizes(void **state) {
  mg_pool *pool = pool_with("pool.max_mb", "64", NULL, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_rental rental = {pool, 1, 1, true};

  (void)state;
  assert_int_equal(mg_pool_rent(&rental, pool, 0, &err), MG_ERANGE);
  assert_string_equal(err.text, "rent 0 bytes, allowed: 1 to 1099511627776");
  assert_null(rental.data);
  assert_int_equal(rental.handle, 0);
  assert_int_equal(mg_pool_rent(&rental, pool, SIZE_MAX, &err), MG_ERANGE);
  assert_int_equal(mg_pool_rent(&rental, pool, MG_POOL_MAX_BYTES + 1, NULL),
                   MG_ERANGE);
  assert_int_equal(pool_stats(pool).rented, 0);
  mg_pool_close(pool);
}

static void test_statistics(void **state) {
  mg_pool *pool = pool_with("pool.max_mb", "64", NULL, NULL);
  mg_rental small = pool_rented(pool, 100), huge = pool_rented(pool, 2 * MB);
  mg_rental medium = pool_rented(pool, 65536), large;
  mg_pool_stats s;

  (void)state;
  large = pool_rented(pool, 70000);
  pool_returned(pool, small.handle);
  s = pool_stats(pool);
  assert_int_equal(s.rented, 4);
  assert_int_equal(s.returned, 1);
  assert_int_equal(s.current, 3);
  assert_int_equal(s.current_bytes, 2 * MB + 65536 + 131072);
  assert_int_equal(s.tier[MG_POOL_TIER_SMALL].rented, 1);
  assert_int_equal(s.tier[MG_POOL_TIER_SMALL].returned, 1);
  assert_int_equal(s.tier[MG_POOL_TIER_MEDIUM].current_bytes, 65536);
  assert_int_equal(s.tier[MG_POOL_TIER_LARGE].current_bytes, 131072);
  assert_int_equal(s.tier[MG_POOL_TIER_HUGE].current_bytes, 2 * MB);
  assert_int_equal(s.cache_hits, 0);
  for (int i = 0; i < 50; i++) pool_returned(pool, pool_rented(pool, 100).handle);
  assert_int_equal(pool_stats(pool).cache_hits, 50);
  assert_int_equal(pool_stats(pool).os_maps, s.os_maps);
  pool_returned(pool, medium.handle);
  pool_returned(pool, large.handle);
  pool_returned(pool, huge.handle);
  assert_int_equal(pool_stats(pool).current_bytes, 0);
  mg_pool_close(pool);
}

static void test_many(void **state) {
  enum { COUNT = 200 };
  mg_pool *pool = pool_with("pool.max_mb", "64", NULL, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_rental rental[COUNT];
  uint64_t handle[COUNT];
  size_t wrong = 99;

  (void)state;
  assert_ok(mg_pool_rent_many(rental, COUNT, pool, 1000, &err), &err);
  for (int i = 0; i < COUNT; i++) handle[i] = rental[i].handle;
  handle[7] = handle[6]; /* one of them twice, so one is left over */
  assert_int_equal(mg_pool_return_many(pool, handle, COUNT, &wrong, &err),
                   MG_ERETURNED);
  assert_int_equal(wrong, 1);
  assert_int_equal(pool_stats(pool).current, 1);
  assert_int_equal(mg_pool_return_many(pool, &rental[7].handle, 1, &wrong, &err),
                   MG_OK);
  assert_int_equal(wrong, 0);
  assert_int_equal(mg_pool_rent_many(rental, COUNT, pool, 0, &err), MG_ERANGE);
  assert_null(rental[0].data);
  assert_int_equal(pool_stats(pool).current, 0);
  mg_pool_close(pool);
}

/* ---- limits ------------------------------------------------------------------ */

static void test_above_the_cap_buffers_are_plain(void **state) {
  enum { COUNT = 48 };
  mg_pool *pool = pool_with("pool.max_mb", "2", NULL, NULL);
  mg_rental rental[COUNT];
  mg_pool_stats s;

  (void)state;
  for (int i = 0; i < COUNT; i++) {
    rental[i] = pool_rented(pool, 65536); /* 3 MB in all */
    memset(rental[i].data, i, rental[i].capacity);
  }
  s = pool_stats(pool);
  assert_int_equal(s.held_bytes, 2 * MB);
  assert_int_equal(s.plain, 16);
  assert_int_equal(s.current, COUNT);
  assert_int_equal(s.current_bytes, 3 * MB);
  for (int i = 0; i < COUNT; i++) {
    assert_int_equal(((unsigned char *)rental[i].data)[65535], i);
    pool_returned(pool, rental[i].handle);
    assert_int_equal(mg_pool_return(pool, rental[i].handle, NULL),
                     MG_ERETURNED);
  }
  assert_int_equal(pool_stats(pool).current_bytes, 0);
  mg_pool_close(pool);
}

static void test_disabled_keeps_nothing(void **state) {
  mg_pool *pool = pool_with("pool.enabled", "false", NULL, NULL);
  mg_rental small = pool_rented(pool, 100), huge = pool_rented(pool, 2 * MB);
  mg_pool_stats s = pool_stats(pool);

  (void)state;
  memset(small.data, 1, small.capacity);
  memset(huge.data, 1, huge.capacity);
  assert_int_equal(s.plain, 2);
  assert_int_equal(s.held_bytes, 0);
  assert_int_equal(s.os_bytes, 0);
  assert_int_equal(s.current, 2);
  pool_returned(pool, small.handle);
  pool_returned(pool, huge.handle);
  assert_int_equal(mg_pool_return(pool, small.handle, NULL), MG_ERETURNED);
  assert_int_equal(mg_pool_return(pool, huge.handle, NULL), MG_ERETURNED);
  assert_int_equal(pool_stats(pool).current, 0);
  mg_pool_close(pool);
}

static void test_switched_off_while_running(void **state) {
  mg_pool *pool = pool_with("pool.max_mb", "64", NULL, NULL);
  mg_config off = support_config("pool.enabled", "false", NULL);
  mg_config on = support_config("pool.enabled", "true", NULL);
  mg_rental rental = pool_rented(pool, 1000);

  (void)state;
  mg_pool_configure(pool, &off);
  pool_returned(pool, rental.handle);
  rental = pool_rented(pool, 1000);
  assert_int_equal(pool_stats(pool).plain, 1);
  mg_pool_configure(pool, &on);
  pool_returned(pool, rental.handle);
  rental = pool_rented(pool, 1000);
  assert_int_equal(pool_stats(pool).plain, 1);
  pool_returned(pool, rental.handle);
  mg_pool_close(pool);
}

static void test_huge_cache_is_capped(void **state) {
  mg_pool *pool = pool_with("pool.huge_cache_mb", "5", NULL, NULL);
  mg_rental rental[4];
  uint64_t maps;

  (void)state;
  for (int i = 0; i < 4; i++) rental[i] = pool_rented(pool, 2 * MB);
  for (int i = 0; i < 4; i++) pool_returned(pool, rental[i].handle);
  assert_int_equal(pool_stats(pool).held_bytes, 4 * MB);
  maps = pool_stats(pool).os_maps;
  rental[0] = pool_rented(pool, 2 * MB - 5000); /* fits into an idle one */
  assert_int_equal(rental[0].capacity, 2 * MB);
  assert_int_equal(pool_stats(pool).os_maps, maps);
  rental[1] = pool_rented(pool, MB + 5); /* too small for an idle one */
  assert_int_equal(pool_stats(pool).os_maps, maps + 1);
  pool_returned(pool, rental[0].handle);
  pool_returned(pool, rental[1].handle);
  mg_pool_close(pool);
}

/* ---- trimming ------------------------------------------------------------------ */

static void rent_and_return(mg_pool *pool, size_t bytes, int count) {
  mg_rental *rental = calloc((size_t)count, sizeof *rental);

  assert_non_null(rental);
  for (int i = 0; i < count; i++) {
    rental[i] = pool_rented(pool, bytes);
    memset(rental[i].data, 1, rental[i].capacity);
  }
  for (int i = 0; i < count; i++) pool_returned(pool, rental[i].handle);
  free(rental);
}

static void test_ticks_give_back_what_is_not_needed(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "disabled", NULL, NULL);
  uint64_t held;

  (void)state;
  rent_and_return(pool, 65536, 64);
  assert_int_equal(pool_stats(pool).held_bytes, 4 * MB);
  mg_pool_tick(pool, 1000);
  mg_pool_tick(pool, 1500); /* too early to count */
  held = pool_stats(pool).held_bytes;
  mg_pool_tick(pool, 2000);
  assert_true(pool_stats(pool).held_bytes < held);
  assert_true(pool_stats(pool).held_bytes >= held / 4);
  for (int i = 3; i < 30; i++) mg_pool_tick(pool, 1000.0 * i);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  assert_int_equal(pool_stats(pool).os_bytes, 0);
  assert_int_equal(pool_stats(pool).given_back_bytes, 4 * MB);
  rent_and_return(pool, 65536, 64); /* and works on */
  mg_pool_close(pool);
}

static void test_ticks_keep_what_is_used(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "disabled", NULL, NULL);
  uint64_t maps;

  (void)state;
  rent_and_return(pool, 65536, 64);
  maps = pool_stats(pool).os_maps;
  for (int i = 1; i < 30; i++) {
    rent_and_return(pool, 65536, 64);
    mg_pool_tick(pool, 1000.0 * i);
  }
  assert_int_equal(pool_stats(pool).os_maps, maps);
  assert_int_equal(pool_stats(pool).held_bytes, 4 * MB);
  mg_pool_close(pool);
}

static void test_a_clock_that_jumps(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "disabled", NULL, NULL);

  (void)state;
  rent_and_return(pool, 65536, 64);
  mg_pool_tick(pool, 1e9);
  for (int i = 0; i < 30; i++) mg_pool_tick(pool, 1000.0 * i);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  mg_pool_tick(pool, -5);
  mg_pool_tick(pool, 0.0 / (double)(pool == NULL));
  mg_pool_close(pool);
}

/* The oldest blocks of a page go while its youngest is rented: the page stays. */
static void test_pages_shared_with_a_rental_stay(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "disabled", NULL, NULL);
  mg_rental kept = pool_rented(pool, 64);

  (void)state;
  memset(kept.data, 0x77, 64);
  rent_and_return(pool, 64, 2000);
  mg_pool_relieve(pool, 1.0);
  assert_int_equal(pool_stats(pool).held_bytes, 64);
  for (int i = 0; i < 64; i++)
    assert_int_equal(((unsigned char *)kept.data)[i], 0x77);
  rent_and_return(pool, 64, 2000);
  pool_returned(pool, kept.handle);
  mg_pool_relieve(pool, 1.0);
  assert_int_equal(pool_stats(pool).os_bytes, 0);
  mg_pool_close(pool);
}

/* Rents 1 GB, returns it, ticks for a calm minute. */
static void burst(size_t bytes) {
  size_t count = ((size_t)1 << 30) / bytes;
  mg_pool *pool = pool_with("pool.max_mb", "2048", NULL, NULL);
  mg_rental *rental = (void *)fixture_touch(count * sizeof *rental);
  uint64_t before, full, after;

  rent_and_return(pool, bytes, 10);
  mg_pool_relieve(pool, 1.0);
  before = mg_rss_bytes();
  for (size_t i = 0; i < count; i++) {
    rental[i] = pool_rented(pool, bytes);
    for (size_t at = 0; at < bytes; at += 4096)
      ((unsigned char *)rental[i].data)[at] = 1;
  }
  full = mg_rss_bytes();
  assert_true(full > before + 1000u * MB);
  for (size_t i = 0; i < count; i++) pool_returned(pool, rental[i].handle);
  for (int second = 1; second <= 60; second++)
    mg_pool_tick(pool, 1000.0 * second);
  after = mg_rss_bytes();
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  assert_int_equal(pool_stats(pool).os_bytes, 0);
  if (POOL_RSS_IS_OURS && !fixture_on_valgrind() && after > before + before / 10)
    fail_msg("%zu: %llu bytes before, %llu after", bytes,
             (unsigned long long)before, (unsigned long long)after);
  fixture_release((char *)rental, count * sizeof *rental);
  mg_pool_close(pool);
}

static void test_resident_memory_comes_back(void **state) {
  (void)state;
  burst(65536);
  burst(4096);
  burst(MB);
  burst(4 * MB);
}

/* ---- pressure -------------------------------------------------------------------- */

static void test_relieve_gives_up_a_share(void **state) {
  mg_pool *pool = pool_with("pool.thread_cache_mb", "0", "leak_check", "disabled");

  (void)state;
  rent_and_return(pool, 65536, 64);
  assert_int_equal(mg_pool_relieve(pool, 0), 0);
  assert_int_equal(mg_pool_relieve(pool, 0.25), MB);
  assert_int_equal(pool_stats(pool).held_bytes, 3 * MB);
  assert_int_equal(mg_pool_relieve(pool, 0.5), 3 * MB / 2);
  mg_pool_relieve(pool, 7);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  assert_int_equal(mg_pool_relieve(pool, 0.0 / (double)(pool == NULL)), 0);
  mg_pool_close(pool);
}

typedef struct sleeper {
  mg_pool *pool;
  pthread_barrier_t barrier;
} sleeper;

/* Has idle blocks of its own, and uses the pool once more after the relief. */
static void *sleep_with_blocks(void *ctx) {
  sleeper *s = ctx;

  rent_and_return(s->pool, 4096, 64);
  pthread_barrier_wait(&s->barrier);
  pthread_barrier_wait(&s->barrier);
  rent_and_return(s->pool, 64, 1);
  pthread_barrier_wait(&s->barrier);
  pthread_barrier_wait(&s->barrier);
  return NULL;
}

static void test_critical_reaches_other_threads(void **state) {
  sleeper s = {.pool = pool_with("pool.leak_check", "disabled", NULL, NULL)};
  pthread_t thread;
  mg_rental rental;

  (void)state;
  pthread_barrier_init(&s.barrier, NULL, 2);
  assert_int_equal(pthread_create(&thread, NULL, sleep_with_blocks, &s), 0);
  pthread_barrier_wait(&s.barrier);
  mg_pool_relieve_level(s.pool, MG_LEVEL_CRITICAL);
  assert_int_equal(pool_stats(s.pool).held_bytes, 64 * 4096); /* it sleeps */
  pthread_barrier_wait(&s.barrier);
  pthread_barrier_wait(&s.barrier);
  assert_int_equal(pool_stats(s.pool).held_bytes, 0);
  assert_int_equal(pool_stats(s.pool).plain, 1);
  pthread_barrier_wait(&s.barrier);
  pthread_join(thread, NULL);
  pthread_barrier_destroy(&s.barrier);
  rental = pool_rented(s.pool, 4096); /* still critical */
  assert_int_equal(pool_stats(s.pool).plain, 2);
  mg_pool_relieve_level(s.pool, MG_LEVEL_NORMAL);
  pool_returned(s.pool, rental.handle);
  rent_and_return(s.pool, 4096, 64);
  assert_int_equal(pool_stats(s.pool).plain, 2);
  assert_int_equal(pool_stats(s.pool).held_bytes, 64 * 4096);
  mg_pool_close(s.pool);
}

static void test_high_empties_depot_and_cache_of_huge(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "disabled", NULL, NULL);

  (void)state;
  rent_and_return(pool, 4096, 1000);
  rent_and_return(pool, 2 * MB, 3);
  assert_int_equal(pool_stats(pool).held_bytes, 1024 * 4096 + 6 * MB);
  assert_true(mg_pools_relieve_level(MG_LEVEL_HIGH) >= 6 * MB);
  assert_true(pool_stats(pool).held_bytes <= 65536); /* a quarter of a cache */
  rent_and_return(pool, 4096, 1000);
  assert_int_equal(pool_stats(pool).plain, 0);
  mg_pools_relieve_level(MG_LEVEL_NORMAL);
  assert_true(mg_pools_relieve(1.0) > 0);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  mg_pool_close(pool);
}

/* ---- life ---------------------------------------------------------------------------- */

static void test_close_with_rentals_outstanding(void **state) {
  mg_pool *pool = pool_with("pool.max_mb", "64", NULL, NULL);
  mg_rental small = pool_rented(pool, 100), huge = pool_rented(pool, 2 * MB);
  mg_rental lost = pool_rented(pool, 4096), other;

  (void)state;
  mg_pool_close(pool);
  memset(small.data, 1, small.capacity); /* still theirs */
  memset(huge.data, 1, huge.capacity);
  assert_int_equal(mg_pool_rent(&other, pool, 100, NULL), MG_ECLOSED);
  pool_returned(pool, small.handle);
  assert_int_equal(mg_pool_return(pool, small.handle, NULL), MG_ECLOSED);
  assert_int_equal(mg_pool_lost(pool, lost.handle, NULL, NULL), MG_OK);
  mg_pool_close(pool); /* a second time */
  pool_returned(pool, huge.handle);
  assert_int_equal(mg_pool_return(pool, huge.handle, NULL), MG_ECLOSED);
  mg_pool_close(NULL);
}

static void test_more_pools_than_seats(void **state) {
  enum { POOLS = 40 };
  mg_pool *pool[POOLS];
  mg_rental rental[POOLS];

  (void)state;
  for (int i = 0; i < POOLS; i++)
    pool[i] = pool_with("pool.max_mb", "16", NULL, NULL);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < POOLS; i++) rental[i] = pool_rented(pool[i], 512);
    for (int i = 0; i < POOLS; i++) {
      assert_int_equal(
          mg_pool_return(pool[(i + 1) % POOLS], rental[i].handle, NULL),
          MG_EFOREIGN);
      pool_returned(pool[i], rental[i].handle);
    }
  }
  for (int i = 0; i < POOLS; i++) {
    assert_int_equal(pool_stats(pool[i]).rented, 3);
    assert_int_equal(pool_stats(pool[i]).current, 0);
    mg_pool_close(pool[i]);
  }
}

static void test_shared(void **state) {
  mg_pool *pool = mg_pool_shared();
  mg_rental rental = pool_rented(pool, 100);

  (void)state;
  assert_ptr_equal(mg_pool_shared(), pool);
  pool_returned(pool, rental.handle);
  mg_pools_tick(1000);
  mg_pool_close(pool);
  rental = pool_rented(mg_pool_shared(), 100); /* a new one */
  pool_returned(mg_pool_shared(), rental.handle);
  assert_int_equal(pool_stats(mg_pool_shared()).rented, 1);
  mg_pool_close(mg_pool_shared());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_resident_memory_comes_back),
      cmocka_unit_test(test_sizes),
      cmocka_unit_test(test_blocks_do_not_overlap),
      cmocka_unit_test(test_bad_sizes),
      cmocka_unit_test(test_statistics),
      cmocka_unit_test(test_many),
      cmocka_unit_test(test_above_the_cap_buffers_are_plain),
      cmocka_unit_test(test_disabled_keeps_nothing),
      cmocka_unit_test(test_switched_off_while_running),
      cmocka_unit_test(test_huge_cache_is_capped),
      cmocka_unit_test(test_ticks_give_back_what_is_not_needed),
      cmocka_unit_test(test_ticks_keep_what_is_used),
      cmocka_unit_test(test_a_clock_that_jumps),
      cmocka_unit_test(test_pages_shared_with_a_rental_stay),
      cmocka_unit_test(test_relieve_gives_up_a_share),
      cmocka_unit_test(test_critical_reaches_other_threads),
      cmocka_unit_test(test_high_empties_depot_and_cache_of_huge),
      cmocka_unit_test(test_close_with_rentals_outstanding),
      cmocka_unit_test(test_more_pools_than_seats),
      cmocka_unit_test(test_shared)};
  return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
