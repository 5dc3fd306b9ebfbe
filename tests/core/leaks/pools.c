/* pools.c - loops over pools of memory. */
#include "leaks.h"

#define RENTALS 40u

/* Rentals of one size by hand and many, returned well and badly. */
static void rent_and_return(mg_pool *pool, size_t bytes) {
  mg_rental rental[RENTALS], more[RENTALS];
  uint64_t handle[RENTALS];
  mg_finding finding;
  size_t wrong;

  for (uint32_t i = 0; i < RENTALS; i++)
    assert_int_equal(mg_pool_rent(&rental[i], pool, bytes, NULL), MG_OK);
  assert_int_equal(mg_pool_rent_many(more, RENTALS, pool, bytes, NULL), MG_OK);
  mg_pool_set_site(pool, rental[0].handle, 7);
  assert_int_equal(mg_pool_lost(pool, rental[0].handle, &finding, NULL), MG_OK);
  for (uint32_t i = 1; i < RENTALS; i++)
    assert_int_equal(mg_pool_return(pool, rental[i].handle, NULL), MG_OK);
  for (uint32_t i = 0; i < RENTALS; i++) handle[i] = more[i].handle;
  assert_int_equal(mg_pool_return_many(pool, handle, RENTALS, &wrong, NULL),
                   MG_OK);
  (void)mg_pool_return(pool, handle[0], NULL);
  (void)mg_pool_again(pool, handle[0], NULL);
}

static void whole_life(const char *leak_check) {
  mg_config config = support_config("pool.leak_check", leak_check, NULL);
  mg_finding finding[MG_POOL_FINDINGS];
  mg_pool_stats stats;
  mg_pool *pool;

  assert_int_equal(mg_pool_open(&pool, &config, NULL), MG_OK);
  rent_and_return(pool, 100);
  rent_and_return(pool, 70000);
  rent_and_return(pool, 2 * MB);
  mg_pool_tick(pool, 1e9);
  (void)mg_pool_suspects(pool, 1e9, finding, MG_POOL_FINDINGS);
  assert_true(mg_pool_take_findings(pool, finding, MG_POOL_FINDINGS) > 0);
  mg_pool_read_stats(pool, &stats);
  assert_int_equal(stats.current, 0);
  mg_pool_configure(pool, &config);
  (void)mg_pool_relieve_level(pool, MG_LEVEL_CRITICAL);
  (void)mg_pool_relieve(pool, 1.0);
  mg_pool_close(pool);
}

static void simple(void) { whole_life("simple"); }
static void paranoid(void) { whole_life("paranoid"); }

static void shared(void) {
  mg_pool *pool = mg_pool_shared();
  mg_rental rental;

  assert_int_equal(mg_pool_rent(&rental, pool, 5000, NULL), MG_OK);
  assert_int_equal(mg_pool_return(pool, rental.handle, NULL), MG_OK);
  mg_pools_tick(1e9);
  (void)mg_pools_relieve_level(MG_LEVEL_HIGH);
  (void)mg_pools_relieve(1.0);
  mg_pool_close(pool); /* the next call opens it anew */
}

const leaks_loop leaks_pools[] = {
    {"pool", simple},
    {"pool, paranoid", paranoid},
    {"shared pool", shared},
    {NULL, NULL},
};
