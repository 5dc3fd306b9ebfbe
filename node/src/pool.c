/* pool.c - the pool's decisions as functions of numbers. */
#include "memguard_node.h"

#include "memguard/pool.h"

/* Reads `count` whole numbers. @return false with a JS error pending. */
static bool pool_counts(napi_env env, napi_callback_info info, size_t count,
                        uint64_t out[4]) {
  napi_value v[4];

  if (!mgn_arguments(env, info, count, v, NULL)) return false;
  for (size_t i = 0; i < count; i++)
    if (!mgn_count_of(env, v[i], &out[i])) return false;
  return true;
}

static uint32_t pool_small(uint64_t count) {
  return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

static napi_value pool_capacity(napi_env env, napi_callback_info info) {
  uint64_t n[4];

  if (!pool_counts(env, info, 1, n)) return NULL;
  return mgn_number(env, (double)mg_pool_capacity(n[0]));
}

static napi_value pool_tier(napi_env env, napi_callback_info info) {
  uint64_t n[4];

  if (!pool_counts(env, info, 1, n)) return NULL;
  return mgn_number(env, mg_pool_tier_of(n[0]));
}

static napi_value pool_trim(napi_env env, napi_callback_info info) {
  uint64_t n[4];

  if (!pool_counts(env, info, 1, n)) return NULL;
  return mgn_number(env, mg_pool_trim(pool_small(n[0])));
}

/* poolCacheLimit(classBytes, cacheBytes, level as a number) */
static napi_value pool_cache_limit(napi_env env, napi_callback_info info) {
  uint64_t n[4];

  if (!pool_counts(env, info, 3, n)) return NULL;
  return mgn_number(env, mg_pool_cache_limit(n[0], n[1], (mg_level)n[2]));
}

static napi_value pool_cache_next(napi_env env, napi_callback_info info) {
  uint64_t n[4];

  if (!pool_counts(env, info, 4, n)) return NULL;
  return mgn_number(env, mg_pool_cache_next(pool_small(n[0]), pool_small(n[1]),
                                            pool_small(n[2]),
                                            pool_small(n[3])));
}

napi_status mgn_pool_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"poolCapacity", pool_capacity},
      {"poolTier", pool_tier},
      {"poolTrim", pool_trim},
      {"poolCacheLimit", pool_cache_limit},
      {"poolCacheNext", pool_cache_next}};
#define POOL_TIER_NAME(id, name, bytes) name,
  static const char *const tiers[] = {MG_POOL_TIER_MAP(POOL_TIER_NAME)};
#undef POOL_TIER_NAME
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st != napi_ok) return st;
  return mgn_define_names(env, exports, "poolTierNames", tiers,
                          MGN_COUNT_OF(tiers));
}
