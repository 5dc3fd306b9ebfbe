/* pool.c - the pool's decisions as functions of numbers, its tables, and memory
 * that is given up at once instead of by the next collection. */
#include "memguard_node.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

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

/* poolDetach(memories): frees an array of ArrayBuffers now, not when V8 next
 * collects; views that somebody kept are empty from then on. @return bytes freed */
static napi_value pool_detach(napi_env env, napi_callback_info info) {
  napi_value memories, memory;
  uint32_t count;
  bool is_array;
  double freed_bytes = 0;

  if (!mgn_arguments(env, info, 1, &memories, NULL)) return NULL;
  MGN_TRY(env, napi_is_array(env, memories, &is_array));
  if (!is_array)
    return mgn_throw_text(env, MG_ETYPE, "memories must be an array");
  MGN_TRY(env, napi_get_array_length(env, memories, &count));
  for (uint32_t i = 0; i < count; i++) {
    napi_handle_scope scope;
    size_t bytes = 0;
    MGN_TRY(env, napi_open_handle_scope(env, &scope));
    /* What cannot be detached is left to the collector. */
    if (napi_get_element(env, memories, i, &memory) == napi_ok &&
        napi_get_arraybuffer_info(env, memory, NULL, &bytes) == napi_ok &&
        napi_detach_arraybuffer(env, memory) == napi_ok)
      freed_bytes += (double)bytes;
    MGN_TRY(env, napi_close_handle_scope(env, scope));
  }
  return mgn_number(env, freed_bytes);
}

/* poolSettle(): what was freed goes from the allocator to the system. */
static napi_value pool_settle(napi_env env, napi_callback_info info) {
  (void)info;
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return mgn_undefined(env);
}

/* poolSweep(): has V8 collect in steps and make its heap smaller; nothing where it
 * cannot be told to. */
static napi_value pool_sweep(napi_env env, napi_callback_info info) {
  mgn_env *self;
  void *isolate;

  if (!mgn_arguments(env, info, 0, NULL, &self)) return NULL;
  isolate = mgn_gc_pressable(self);
  if (isolate != NULL) {
    mgn_gc_press(isolate, MGN_PRESSURE_MODERATE);
    mgn_gc_press(isolate, MGN_PRESSURE_NONE);
  }
  return mgn_undefined(env);
}

/* poolConstants: { name: number }, and the sizes of all classes. */
static napi_status pool_define_tables(napi_env env, napi_value exports) {
  static const struct {
    const char *name;
    double value;
  } constants[] = {{"maxBytes", (double)MG_POOL_MAX_BYTES},
                   {"sample", MG_POOL_SAMPLE},
                   {"guard", MG_POOL_GUARD},
                   {"siteBytes", MG_POOL_SITE_BYTES},
                   {"tickMs", MG_POOL_TICK_MS},
                   {"findings", MG_POOL_FINDINGS}};
  napi_value object, array;
  napi_status st = napi_create_object(env, &object);

  for (size_t i = 0; i < MGN_COUNT_OF(constants) && st == napi_ok; i++)
    st = napi_set_named_property(env, object, constants[i].name,
                                 mgn_number(env, constants[i].value));
  if (st == napi_ok)
    st = napi_create_array_with_length(env, MG_POOL_CLASSES, &array);
  for (uint32_t i = 0; i < MG_POOL_CLASSES && st == napi_ok; i++)
    st = napi_set_element(
        env, array, i, mgn_number(env, (double)mg_pool_class_bytes(i)));
  if (st == napi_ok)
    st = napi_set_named_property(env, object, "classBytes", array);
  return st == napi_ok
             ? napi_set_named_property(env, exports, "poolConstants", object)
             : st;
}

napi_status mgn_pool_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"poolDetach", pool_detach},
      {"poolSettle", pool_settle},
      {"poolSweep", pool_sweep},
      {"poolCapacity", pool_capacity},
      {"poolTier", pool_tier},
      {"poolTrim", pool_trim},
      {"poolCacheLimit", pool_cache_limit},
      {"poolCacheNext", pool_cache_next}};
#define POOL_TIER_NAME(id, name, bytes) name,
  static const char *const tiers[] = {MG_POOL_TIER_MAP(POOL_TIER_NAME)};
#undef POOL_TIER_NAME
#define POOL_FINDING_NAME(id, name) name,
  static const char *const findings[] = {MG_FINDING_MAP(POOL_FINDING_NAME)};
#undef POOL_FINDING_NAME
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok) st = pool_define_tables(env, exports);
  if (st == napi_ok)
    st = mgn_define_names(env, exports, "poolTierNames", tiers,
                          MGN_COUNT_OF(tiers));
  if (st != napi_ok) return st;
  return mgn_define_names(env, exports, "poolFindingNames", findings,
                          MGN_COUNT_OF(findings));
}
