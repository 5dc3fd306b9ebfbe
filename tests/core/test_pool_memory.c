/* test_pool_memory.c - pools in want of memory: every allocation and every mapping
 * failed in turn; an error comes back or a plainer way is taken, nothing is lost,
 * and the next attempt succeeds.
 *
 * This file is the pages of the operating system (os/linux_memory.c) for the pools
 * linked with it. */
#include "pool_support.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fixture.h"
#include "os.h"

#define MB 1048576u

static long maps_left = -1; /* before the one that fails; < 0: none does */
static bool unmaps_fail;
static size_t mapped_bytes;

size_t mg__os_page_bytes(void) { return 4096; }

void *mg__os_map(size_t bytes) {
  void *block;

  if (maps_left >= 0 && maps_left-- == 0) return NULL;
  block = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return NULL;
  mapped_bytes += bytes;
  return block;
}

bool mg__os_unmap(void *block, size_t bytes) {
  if (unmaps_fail || munmap(block, bytes) != 0) return false;
  mapped_bytes -= bytes;
  return true;
}

void mg__os_discard(void *block, size_t bytes) {
  madvise(block, bytes, MADV_DONTNEED);
}

bool mg__os_forbid(void *block, size_t bytes) {
  return mprotect(block, bytes, PROT_NONE) == 0;
}

/* ---- one whole life ------------------------------------------------------------- */

enum { RENTALS = 300 };

static const size_t life_sizes[] = {64, 1000, 5000, 40000, 600000, 3 * MB};

static void *other_thread(void *ctx) {
  mg_rental rental;

  if (mg_pool_rent(&rental, ctx, 100, NULL) == MG_OK)
    mg_pool_return(ctx, rental.handle, NULL);
  return NULL;
}

/* @return MG_OK or MG_ENOMEM. Whatever was rented has been returned. */
static mg_status use(mg_pool *pool, mg_error *err) {
  static mg_rental rental[RENTALS];
  mg_status st = MG_OK, one;
  mg_finding found[4];
  pthread_t thread;
  int count = 0;

  for (int i = 0; i < RENTALS; i++) {
    one = mg_pool_rent(&rental[count], pool, life_sizes[i % 6], err);
    if (one != MG_OK) {
      st = one;
      assert_null(rental[count].data);
      continue;
    }
    memset(rental[count].data, i, 64);
    rental[count].capacity = (size_t)i;
    mg_pool_set_site(pool, rental[count].handle, 1);
    count++;
  }
  mg_pool_tick(pool, 1000);
  mg_pool_suspects(pool, 1e7, found, 4);
  mg_pool_suspects(pool, 2e7, found, 4);
  assert_int_equal(pthread_create(&thread, NULL, other_thread, pool), 0);
  pthread_join(thread, NULL);
  for (int i = 0; i < count; i++) {
    assert_int_equal(((unsigned char *)rental[i].data)[63],
                     (unsigned char)rental[i].capacity);
    pool_returned(pool, rental[i].handle);
  }
  mg_pool_tick(pool, 2000);
  assert_int_equal(pool_stats(pool).current, 0);
  return st;
}

static mg_status life(const char *leak_check, mg_error *err) {
  mg_config config = support_config("pool.leak_check", leak_check,
                                    "max_pool_mb", "48", NULL);
  mg_pool *pool;
  mg_status st = mg_pool_open(&pool, &config, err);

  if (st != MG_OK) {
    assert_null(pool);
    return st;
  }
  st = use(pool, err);
  mg_pool_close(pool);
  return st;
}

static void check_error(mg_status st, const mg_error *err) {
  if (st == MG_OK) return;
  assert_int_equal(st, MG_ENOMEM);
  assert_int_equal(err->status, MG_ENOMEM);
  assert_true(err->text[0] != '\0');
}

static void test_every_allocation_failed_in_turn(void **state) {
  mg_error err = MG_ERROR_INIT;
  size_t before;
  long index = 0;
  bool failed;

  (void)state;
  assert_ok(life("paranoid", &err), &err);
  before = mapped_bytes;
  do {
    fixture_fail_allocation(index++);
    check_error(life("paranoid", &err), &err);
    failed = fixture_allocation_failed();
    assert_int_equal(mapped_bytes, before);
  } while (failed);
  assert_true(index > 20); /* so many places were failed, one by one */
  assert_ok(life("paranoid", &err), &err);
}

static void test_every_mapping_failed_in_turn(void **state) {
  mg_error err = MG_ERROR_INIT;
  long index = 0, failures = 0;
  size_t before;
  bool failed;

  (void)state;
  assert_ok(life("advanced", &err), &err);
  before = mapped_bytes;
  do {
    maps_left = index++;
    check_error(life("advanced", &err), &err);
    failed = maps_left < 0;
    maps_left = -1;
    failures += failed;
    assert_int_equal(mapped_bytes, before);
  } while (failed);
  assert_true(failures >= 15);
  assert_ok(life("advanced", &err), &err);
}

/* In a child, where the memory for the data about pools has not been mapped yet. */
static void start_without_memory(void *ctx) {
  mg_config config;
  mg_rental rental;
  mg_pool *pool;

  (void)ctx;
  mg_config_init(&config, MG_PROFILE_DEFAULT);
  maps_left = 0;
  CHECK(mg_pool_shared() == NULL);
  maps_left = 0;
  CHECK(mg_pool_open(&pool, &config, NULL) == MG_ENOMEM);
  CHECK(pool == NULL);
  CHECK(mg_pool_open(&pool, &config, NULL) == MG_OK);
  for (long index = 4; index >= 0; index--) {
    maps_left = index;
    if (mg_pool_rent(&rental, pool, 3 * MB, NULL) == MG_OK)
      CHECK(mg_pool_return(pool, rental.handle, NULL) == MG_OK);
  }
  maps_left = -1;
  CHECK(mg_pool_rent(&rental, pool, 100, NULL) == MG_OK);
  CHECK(mg_pool_return(pool, rental.handle, NULL) == MG_OK);
  mg_pool_close(pool);
  CHECK(mg_pool_shared() != NULL);
}

static void test_a_start_without_memory(void **state) {
  (void)state;
  assert_int_equal(fixture_child(start_without_memory, NULL), 0);
}

/* A process with too many mappings cannot unmap: memory is given back even so. */
static void test_unmapping_fails(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "disabled", NULL, NULL);
  mg_rental small = pool_rented(pool, 100), huge = pool_rented(pool, 3 * MB);

  (void)state;
  unmaps_fail = true;
  pool_returned(pool, small.handle);
  pool_returned(pool, huge.handle);
  mg_pool_relieve(pool, 1.0);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  small = pool_rented(pool, 100);
  assert_int_equal(((unsigned char *)small.data)[0], 0); /* given back, so zero */
  unmaps_fail = false;
  pool_returned(pool, small.handle);
  mg_pool_relieve(pool, 1.0);
  mg_pool_close(pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_start_without_memory),
      cmocka_unit_test(test_every_allocation_failed_in_turn),
      cmocka_unit_test(test_every_mapping_failed_in_turn),
      cmocka_unit_test(test_unmapping_fails)};
  return cmocka_run_group_tests_name("pool_memory", tests, NULL, NULL);
}
