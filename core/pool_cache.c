/* pool_cache.c - what each thread keeps for itself.
 *
 * A thread finds its cache of a pool in one of MG__SEATS seats, by the pool's
 * number; more pools share a seat and take turns. A seat names the pool's serial
 * number, which is never used twice, so seats of closed pools need no clearing.
 *
 * Structures are used again, never freed: a thread may look at its seats at any
 * time. Only the stacks of entries come from the allocator. */
#include "pool_parts.h"

#include <string.h>

#include "internal.h"

_Thread_local mg__pool_thread *mg__pool_self MG__TLS_INITIAL;

/* The registry's lock. */
static struct {
  bool has_key;
  mg__thread_key key;
  mg__pool_thread *spare_threads;
  mg__cache *spare_caches; /* by thread_next */
  uint32_t seed;
} cache_all;

/* ---- threads -------------------------------------------------------------------- */

/* The registry's lock is held. */
static void cache_end_thread(mg__pool_thread *thread) {
  memset(thread, 0, sizeof *thread);
  thread->next_spare = cache_all.spare_threads;
  cache_all.spare_threads = thread;
}

static void cache_thread_ended(void *value) {
  mg__pool_thread *self = value;

  mg__registry_lock();
  while (self->caches != NULL) mg__cache_close(self->caches);
  cache_end_thread(self);
  mg__registry_unlock();
  mg__pool_self = NULL;
}

mg_status mg__cache_open_key(mg_error *err) {
  mg_status st;

  if (cache_all.has_key) return MG_OK;
  st = mg__thread_key_open(&cache_all.key, cache_thread_ended, err);
  cache_all.has_key = st == MG_OK;
  return st;
}

#if defined(__GNUC__)
/* A host may close the library while its threads live on: what they would call
 * at their end would be gone. */
__attribute__((destructor)) static void cache_close_key(void) {
  if (cache_all.has_key) mg__thread_key_close(&cache_all.key);
  cache_all.has_key = false;
}
#endif

/* The registry's lock is held. */
static mg__pool_thread *cache_thread(void) {
  mg__pool_thread *self = mg__pool_self;

  if (self != NULL) return self;
  self = cache_all.spare_threads;
  if (self != NULL)
    cache_all.spare_threads = self->next_spare;
  else
    self = mg__meta_alloc(sizeof *self);
  if (self == NULL) return NULL;
  self->next_spare = NULL;
  if (!cache_all.has_key || !mg__thread_key_set(&cache_all.key, self)) {
    self->next_spare = cache_all.spare_threads;
    cache_all.spare_threads = self;
    return NULL; /* its end would go unseen */
  }
  mg__pool_self = self;
  return self;
}

/* ---- opening and closing --------------------------------------------------------- */

static uint32_t cache_random(mg__cache *cache) {
  uint32_t x = cache->random; /* xorshift32, Marsaglia 2003 */

  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return cache->random = x;
}

void mg__cache_next_sample(mg__cache *cache, mg__bin *bin) {
  switch (MG__LOAD(cache->pool->leak_check)) {
    case MG_LEAK_CHECK_DISABLED:
      bin->sample_at = UINT64_MAX;
      break;
    case MG_LEAK_CHECK_PARANOID:
      bin->sample_at = 0;
      break;
    default: /* not in step with what the host does */
      bin->sample_at = MG__LOAD(bin->rented) + MG_POOL_SAMPLE / 2 +
                       cache_random(cache) % MG_POOL_SAMPLE;
  }
}

/* Limits as the pool's settings and level have them now. */
static void cache_set_limits(mg__cache *cache) {
  const mg_pool *pool = cache->pool;
  uint32_t check = MG__LOAD(pool->leak_check);

  for (uint32_t class = 0; class < MG_POOL_CLASSES; class++) {
    mg__bin *bin = &cache->bin[class];
    bin->bytes = mg__class_bytes[class];
    bin->limit = mg_pool_cache_limit(mg__class_bytes[class],
                                     MG__LOAD(pool->cache_bytes),
                                     (mg_level)MG__LOAD(pool->level));
    if (!MG__LOAD(pool->is_enabled)) bin->limit = 0;
    if (bin->capacity > bin->limit) bin->capacity = bin->limit;
    if (cache->leak_check != check) mg__cache_next_sample(cache, bin);
  }
  cache->leak_check = check;
}

/* The registry's lock is held. */
static mg__cache *cache_open(mg_pool *pool, mg__pool_thread *thread) {
  mg__cache *cache = cache_all.spare_caches;

  if (cache != NULL)
    cache_all.spare_caches = cache->thread_next;
  else
    cache = mg__meta_alloc(sizeof *cache);
  if (cache == NULL) return NULL;
  memset(cache, 0, sizeof *cache);
  cache_all.seed += 0x9e3779b9u;
  cache->pool = pool;
  cache->serial = MG__LOAD(pool->serial);
  cache->epoch = MG__LOAD(pool->epoch);
  cache->leak_check = MG_LEAK_CHECKS; /* none: samples are to be chosen */
  cache->random = cache_all.seed | 1u;
  cache->until_guard = MG_POOL_GUARD / 2 + cache_random(cache) % MG_POOL_GUARD;
  cache->thread = thread;
  cache->thread_next = thread->caches;
  thread->caches = cache;
  cache->pool_next = pool->caches;
  if (pool->caches != NULL) pool->caches->pool_before = cache;
  pool->caches = cache;
  cache_set_limits(cache);
  return cache;
}

mg__cache *mg__cache_find(mg_pool *pool) {
  mg__cache *cache = mg__cache_here(pool);
  mg__pool_thread *thread;

  if (cache != NULL || MG__LOAD(pool->serial) == 0) return cache;
  mg__registry_lock();
  thread = cache_thread();
  if (thread != NULL && mg__pool_is_open(pool)) {
    for (cache = thread->caches; cache != NULL; cache = cache->thread_next)
      if (cache->pool == pool) break;
    if (cache == NULL) cache = cache_open(pool, thread);
  }
  if (cache != NULL) {
    thread->seat[pool->seat].serial = cache->serial;
    thread->seat[pool->seat].cache = cache;
  }
  mg__registry_unlock();
  return cache;
}

static void cache_fold_counters(mg__cache *cache) {
  mg_pool *pool = cache->pool;

  for (uint32_t class = 0; class < MG__CLASSES; class++) {
    MG__ADD(pool->rented[class], MG__LOAD(cache->bin[class].rented));
    MG__ADD(pool->returned[class], MG__LOAD(cache->bin[class].returned));
  }
  MG__ADD(pool->misses, MG__LOAD(cache->misses));
}

static void cache_unlink(mg__cache *cache) {
  mg__cache **at = &cache->thread->caches;

  while (*at != cache) at = &(*at)->thread_next;
  *at = cache->thread_next;
  if (cache->pool_before != NULL)
    cache->pool_before->pool_next = cache->pool_next;
  else
    cache->pool->caches = cache->pool_next;
  if (cache->pool_next != NULL)
    cache->pool_next->pool_before = cache->pool_before;
}

static void cache_end(mg__cache *cache) {
  cache_fold_counters(cache);
  for (uint32_t class = 0; class < MG_POOL_CLASSES; class++)
    mg__free(cache->bin[class].entry);
  cache_unlink(cache);
  cache->pool = NULL;
  cache->serial = 0;
  cache->thread_next = cache_all.spare_caches;
  cache_all.spare_caches = cache;
}

static void cache_empty(mg__cache *cache) {
  for (uint32_t class = 0; class < MG_POOL_CLASSES; class++) {
    mg__bin *bin = &cache->bin[class];
    if (bin->count > 0)
      mg__depot_put(cache->pool, class, bin->entry, bin->count);
    bin->count = bin->low = 0;
  }
}

void mg__cache_close(mg__cache *cache) {
  cache_empty(cache);
  cache_end(cache);
}

void mg__cache_forget(mg__cache *cache) {
  mg__pool_thread *thread = cache->thread;

  if (thread != mg__pool_self) {
    cache_end(cache);
    if (thread->caches == NULL) cache_end_thread(thread);
    return;
  }
  for (uint32_t class = 0; class < MG_POOL_CLASSES; class++)
    cache->bin[class].count = cache->bin[class].low = 0;
}

/* ---- depth ------------------------------------------------------------------------- */

/* Moves the `count` oldest to the depot. */
static void cache_put_oldest(mg__cache *cache, uint32_t class, uint32_t count) {
  mg__bin *bin = &cache->bin[class];

  if (count == 0) return;
  mg__depot_put(cache->pool, class, bin->entry, count);
  bin->count -= count;
  memmove(bin->entry, bin->entry + count, bin->count * sizeof *bin->entry);
  if (bin->count < bin->low) bin->low = bin->count;
}

/* Lets `bin` hold up to `capacity`, as far as there is memory. */
static void cache_set_capacity(mg__bin *bin, uint32_t capacity) {
  if (capacity > bin->room) {
    mg__entry *resized =
        mg__resize(bin->entry, capacity * sizeof *resized);
    if (resized == NULL) {
      if (bin->capacity > bin->room) bin->capacity = bin->room;
      return;
    }
    bin->entry = resized;
    bin->room = capacity;
  }
  bin->capacity = capacity;
}

static void cache_miss(mg__bin *bin) {
  bin->misses++;
  cache_set_capacity(bin,
                     mg_pool_cache_next(bin->capacity, bin->limit, 1, 0));
}

void mg__cache_make_room(mg__cache *cache, uint32_t class) {
  mg__bin *bin = &cache->bin[class];
  uint32_t batch = mg__depot_batch(cache->pool, class);

  cache_miss(bin);
  if (bin->count < bin->capacity) return;
  if (batch > bin->count) batch = bin->count;
  bin->count -= batch; /* the newest: nothing has to move up */
  if (bin->count < bin->low) bin->low = bin->count;
  if (batch > 0)
    mg__depot_put(cache->pool, class, bin->entry + bin->count, batch);
}

bool mg__cache_refill(mg__cache *cache, uint32_t class) {
  mg__bin *bin = &cache->bin[class];
  uint32_t batch = mg__depot_batch(cache->pool, class);

  cache_miss(bin);
  bin->low = 0;
  if (batch > bin->capacity) batch = bin->capacity;
  if (batch == 0) return false;
  bin->count = mg__depot_take(cache->pool, class, bin->entry, batch);
  return bin->count > 0;
}

static void cache_trim(mg__cache *cache) {
  for (uint32_t class = 0; class < MG_POOL_CLASSES; class++) {
    mg__bin *bin = &cache->bin[class];
    uint32_t capacity = mg_pool_cache_next(bin->capacity, bin->limit,
                                           bin->misses, bin->low);
    cache_put_oldest(cache, class, mg_pool_trim(bin->low));
    if (bin->misses == 0 && bin->capacity > 0) bin->capacity = capacity;
    if (bin->count > bin->capacity)
      cache_put_oldest(cache, class, bin->count - bin->capacity);
    bin->low = bin->count;
    bin->misses = 0;
  }
}

void mg__cache_catch_up(mg__cache *cache) {
  const mg_pool *pool = cache->pool;
  uint32_t epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire);
  uint32_t emptied = MG__LOAD(pool->emptied_epoch);

  if (epoch == cache->epoch) return;
  cache_set_limits(cache);
  if ((int32_t)(emptied - cache->epoch) > 0) {
    cache_empty(cache);
    for (uint32_t class = 0; class < MG_POOL_CLASSES; class++)
      mg__depot_relieve(cache->pool, class, 1.0);
  } else {
    cache_trim(cache);
  }
  cache->epoch = epoch;
}
