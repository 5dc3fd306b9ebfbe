/* pool_support.h - what the tests of pools share. */
#ifndef MG_TESTS_POOL_SUPPORT_H
#define MG_TESTS_POOL_SUPPORT_H

#include "support.h"

#include <string.h>

/* Sanitizers keep memory of their own for each byte that is written. */
#define POOL_RSS_IS_OURS 1
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#undef POOL_RSS_IS_OURS
#define POOL_RSS_IS_OURS 0
#endif
#endif

static inline mg_pool *pool_with(const char *path, const char *value,
                                 const char *path2, const char *value2) {
  mg_config config = path2 != NULL
                         ? support_config(path, value, path2, value2, NULL)
                         : support_config(path, value, NULL);
  mg_error err = MG_ERROR_INIT;
  mg_pool *pool;

  assert_ok(mg_pool_open(&pool, &config, &err), &err);
  return pool;
}

static inline mg_rental pool_rented(mg_pool *pool, size_t bytes) {
  mg_error err = MG_ERROR_INIT;
  mg_rental rental;

  assert_ok(mg_pool_rent(&rental, pool, bytes, &err), &err);
  assert_true(rental.capacity >= bytes);
  assert_int_equal((uintptr_t)rental.data % 64, 0);
  return rental;
}

static inline void pool_returned(mg_pool *pool, uint64_t handle) {
  mg_error err = MG_ERROR_INIT;

  assert_ok(mg_pool_return(pool, handle, &err), &err);
}

static inline mg_pool_stats pool_stats(mg_pool *pool) {
  mg_pool_stats stats;

  mg_pool_read_stats(pool, &stats);
  return stats;
}

#endif
