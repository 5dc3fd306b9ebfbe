/* pool.c - renting and returning.
 *
 * The short way: a block from the thread's own stack, its handle made odd with a
 * plain store, since nobody else can name it; at the return one compare-and-swap of
 * the handle, which settles whose return it was, and a push. Everything else
 * leaves through *_slowly. */
#include "memguard/pool.h"

#include <string.h>

#include "internal.h"
#include "pool_parts.h"

/* ---- renting --------------------------------------------------------------------- */

/* From now on the block is the caller's. */
static inline void pool_hand_out(mg_rental *out, const mg_pool *pool,
                                 mg__slot *slot, void *data, size_t capacity) {
  uint32_t generation = MG__LOAD(slot->generation) + 1;

  if (MG__LOAD(slot->stamp) != MG__LOAD(pool->stamp)) /* a store less */
    MG__STORE(slot->stamp, MG__LOAD(pool->stamp));
  atomic_store_explicit(&slot->generation, generation, memory_order_release);
  *out = (mg_rental){data, capacity, mg__handle_of(slot->id, generation), false};
}

/* What a rental is served from when the short way is closed. */
typedef struct pool_source {
  mg__slot *slot;
  unsigned char *data;
  size_t capacity;
  bool is_hit; /* the thread had it */
} pool_source;

static bool pool_from_single(pool_source *out, mg_pool *pool,
                             mg__single_kind kind, size_t capacity) {
  mg__single single;

  out->slot = mg__single_take(pool, kind, capacity, &single);
  out->data = single.data;
  out->capacity = single.capacity;
  out->is_hit = false;
  return out->slot != NULL;
}

static bool pool_from_class(pool_source *out, mg_pool *pool, mg__cache *cache,
                            uint32_t class) {
  mg__bin *bin = cache == NULL ? NULL : &cache->bin[class];
  mg__entry entry;

  out->is_hit = bin != NULL && bin->count > 0;
  if (out->is_hit || (bin != NULL && mg__cache_refill(cache, class))) {
    entry = bin->entry[--bin->count];
    if (bin->count < bin->low) bin->low = bin->count;
  } else if (mg__depot_take(pool, class, &entry, 1) == 0) {
    return false;
  }
  out->slot = entry.slot;
  out->data = entry.data;
  out->capacity = mg__class_bytes[class];
  return true;
}

static bool pool_is_plain(const mg_pool *pool) {
  return !MG__LOAD(pool->is_enabled) ||
         MG__LOAD(pool->level) >= MG_LEVEL_CRITICAL;
}

static bool pool_find_source(pool_source *out, mg_pool *pool, mg__cache *cache,
                             size_t bytes, bool is_guarded) {
  size_t capacity = (size_t)mg_pool_capacity(bytes);

  if (!pool_is_plain(pool)) {
    if (is_guarded &&
        pool_from_single(out, pool, MG__SINGLE_GUARDED, capacity))
      return true;
    if (bytes > MG_POOL_CLASS_MAX_BYTES) {
      if (pool_from_single(out, pool, MG__SINGLE_HUGE, capacity)) return true;
    } else if (pool_from_class(out, pool, cache, mg__pool_class_of(bytes))) {
      return true;
    }
  }
  return pool_from_single(out, pool, MG__SINGLE_PLAIN, capacity);
}

/* Whether this rental of the thread is a sampled one; and a guarded one. */
static bool pool_draw_sample(mg_pool *pool, mg__cache *cache, size_t bytes,
                             bool *out_guarded) {
  uint32_t check = MG__LOAD(pool->leak_check), step;
  uint32_t class = mg_pool_class(bytes);

  *out_guarded = false;
  if (cache == NULL || class == MG__CLASS_SINGLE)
    return check == MG_LEAK_CHECK_PARANOID;
  if (MG__LOAD(cache->bin[class].rented) < cache->bin[class].sample_at)
    return false;
  mg__cache_next_sample(cache, &cache->bin[class]);
  if (check == MG_LEAK_CHECK_DISABLED) return false;
  step = check == MG_LEAK_CHECK_PARANOID ? 1 : MG_POOL_SAMPLE;
  if (check >= MG_LEAK_CHECK_ADVANCED) {
    *out_guarded = cache->until_guard <= step;
    cache->until_guard =
        *out_guarded ? MG_POOL_GUARD : cache->until_guard - step;
  }
  return true;
}

static void pool_count_rented(mg_pool *pool, mg__cache *cache,
                              size_t capacity, bool is_hit) {
  uint32_t class = mg_pool_class(capacity);

  if (!is_hit && cache != NULL) MG__BUMP(cache->misses, 1);
  if (cache == NULL) MG__ADD(pool->misses, 1);

  if (class == MG_POOL_CLASSES) {
    MG__ADD(pool->huge_rented, 1);
    MG__ADD(pool->huge_bytes_now, capacity);
  } else if (cache != NULL) {
    MG__BUMP(cache->bin[class].rented, 1);
  } else {
    MG__ADD(pool->rented[class], 1);
  }
}

static MG__COLD mg_status pool_rent_slowly(mg_rental *out, mg_pool *pool,
                                           size_t bytes, mg_error *err) {
  bool is_guarded, is_sampled;
  pool_source source;
  mg__cache *cache;

  *out = (mg_rental){NULL, 0, 0, false};
  if (bytes == 0 || bytes > MG_POOL_MAX_BYTES)
    return mg__fail(err, MG_ERANGE, "rent %zu bytes, allowed: 1 to %llu", bytes,
                    (unsigned long long)MG_POOL_MAX_BYTES);
  if (MG__LOAD(pool->serial) == 0)
    return mg__fail(err, MG_ECLOSED, "the pool is closed");
  cache = mg__cache_find(pool);
  if (cache != NULL) mg__cache_catch_up(cache);
  is_sampled = pool_draw_sample(pool, cache, bytes, &is_guarded);
  if (!pool_find_source(&source, pool, cache, bytes, is_guarded))
    return mg__fail(err, MG_ENOMEM, "rent %zu bytes", bytes);
  pool_hand_out(out, pool, source.slot, source.data, source.capacity);
  pool_count_rented(pool, cache, source.capacity, source.is_hit);
  if (is_sampled || (source.capacity >= MG_POOL_SITE_BYTES &&
                     MG__LOAD(pool->leak_check) != MG_LEAK_CHECK_DISABLED))
    out->wants_site =
        mg__leak_keep(pool, source.slot, out->handle, is_sampled);
  return MG_OK;
}

static MG__INLINE mg_status pool_rent(mg_rental *out, mg_pool *pool,
                                  mg__cache *cache, size_t bytes,
                                  mg_error *err) {
  if (MG__LIKELY(cache != NULL && bytes - 1 < MG_POOL_CLASS_MAX_BYTES)) {
    uint32_t class = mg__pool_class_of(bytes);
    mg__bin *bin = &cache->bin[class];
    if (MG__LIKELY(bin->count > 0 && cache->epoch == MG__LOAD(pool->epoch) &&
                   MG__LOAD(bin->rented) < bin->sample_at)) {
      mg__entry entry = bin->entry[--bin->count];
      if (bin->count < bin->low) bin->low = bin->count;
      MG__BUMP(bin->rented, 1);
      pool_hand_out(out, pool, entry.slot, entry.data, bin->bytes);
      return MG_OK;
    }
  }
  return pool_rent_slowly(out, pool, bytes, err);
}

mg_status mg_pool_rent(mg_rental *out, mg_pool *pool, size_t bytes,
                       mg_error *err) {
  return pool_rent(out, pool, mg__cache_here(pool), bytes, err);
}

mg_status mg_pool_rent_many(mg_rental *out, size_t count, mg_pool *pool,
                            size_t bytes, mg_error *err) {
  mg__cache *cache = mg__cache_here(pool);

  for (size_t i = 0; i < count; i++) {
    mg_status st = pool_rent(&out[i], pool, cache, bytes, err);
    if (cache == NULL) cache = mg__cache_here(pool);
    if (st == MG_OK) continue;
    while (i > 0) mg_pool_return(pool, out[--i].handle, NULL);
    memset(out, 0, count * sizeof *out);
    return st;
  }
  return MG_OK;
}

/* ---- returning ------------------------------------------------------------------- */

/* Whether a handle that names no rental did so once. Which pool it was is not known
 * any more when the memory serves another one by now. */
static bool pool_knows(const mg_pool *pool, uint64_t handle) {
  uint32_t block = mg__handle_id(handle) & 0xffff;
  mg__span *span = mg__span_of(mg__handle_id(handle));
  uint32_t ahead;

  if (span == NULL || block >= span->blocks || handle % 2 == 0) return false;
  if (MG__LOAD(span->last) != pool) return false;
  ahead = (uint32_t)handle - MG__LOAD(span->slot[block].generation);
  return MG__LOAD(span->pool) == NULL || (int32_t)ahead < 0;
}

static MG__COLD mg_status pool_refuse(mg_pool *pool, uint64_t handle,
                                      mg_error *err, bool is_reported) {
  mg_finding finding = {.kind = MG_FINDING_FOREIGN_RETURN, .count = 1,
                        .handle = handle};
  bool is_known = pool_knows(pool, handle);

  if (MG__LOAD(pool->serial) == 0)
    return mg__fail(err, MG_ECLOSED, "the pool is closed");
  if (is_known) {
    finding.kind = MG_FINDING_DOUBLE_RETURN;
    finding.capacity = mg__span_of(mg__handle_id(handle))->block_bytes;
  }
  if (is_reported) mg__leak_report(pool, &finding);
  if (is_known)
    return mg__fail(err, MG_ERETURNED, "rental %#llx was returned before",
                    (unsigned long long)handle);
  return mg__fail(err, MG_EFOREIGN, "%#llx is no rental of this pool",
                  (unsigned long long)handle);
}

mg_status mg_pool_again(mg_pool *pool, uint64_t handle, mg_error *err) {
  mg_finding finding = {
      .kind = MG_FINDING_DOUBLE_RETURN, .count = 1, .handle = handle};
  const mg__span *span = mg__span_of(mg__handle_id(handle));

  if (span != NULL) finding.capacity = span->block_bytes;
  if (MG__LOAD(pool->serial) != 0) mg__leak_report(pool, &finding);
  return mg__fail(err, MG_ERETURNED, "rental %#llx was returned before",
                  (unsigned long long)handle);
}

/* The slot a handle names, if it can be a rental of this pool. */
static inline mg__slot *pool_find(const mg_pool *pool, uint64_t handle,
                                  mg__span **out_span) {
  uint32_t id = mg__handle_id(handle);
  mg__span *span = mg__span_of(id);

  *out_span = span;
  if (!MG__LIKELY(span != NULL && (id & 0xffff) < span->blocks &&
                  MG__LOAD(span->pool) == pool && handle % 2 == 1))
    return NULL;
  return &span->slot[id & 0xffff];
}

/* Ends a rental. @return whether it was one. */
static inline bool pool_end(mg__slot *slot, uint64_t handle) {
  uint32_t generation = (uint32_t)handle;

  return atomic_compare_exchange_strong(&slot->generation, &generation,
                                        generation + 1);
}

static void pool_count_returned(mg_pool *pool, mg__cache *cache,
                                size_t capacity, bool is_lost) {
  uint32_t class = mg_pool_class(capacity);

  if (class == MG_POOL_CLASSES) MG__SUB(pool->huge_bytes_now, capacity);
  if (is_lost) {
    MG__ADD(pool->lost, 1);
    MG__ADD(pool->lost_of[class], 1);
  } else if (class == MG_POOL_CLASSES) {
    MG__ADD(pool->huge_returned, 1);
  } else if (cache != NULL) {
    MG__BUMP(cache->bin[class].returned, 1);
  } else {
    MG__ADD(pool->returned[class], 1);
  }
}

/* After close, or with nowhere to keep it. */
static void pool_give_back(mg_pool *pool, mg__span *span, mg__slot *slot) {
  mg__depot *depot = &pool->depot[span->class];

  mg__lock(&depot->lock);
  mg__span_give(pool, span->class,
                slot->id);
  if (MG__LOAD(pool->serial) == 0) mg__span_retire(pool, span->class);
  mg__unlock(&depot->lock);
}

void mg__pool_take_back(mg_pool *pool, mg__span *span, mg__slot *slot) {
  uint32_t block = slot->id & 0xffff;
  mg__entry entry = {slot, NULL};
  mg__cache *cache;
  mg__bin *bin;

  if (span->class == MG__CLASS_SINGLE) {
    mg__single_give(pool, span, block);
    return;
  }
  if (MG__LOAD(pool->serial) == 0 || pool_is_plain(pool)) {
    pool_give_back(pool, span, slot);
    return;
  }
  entry.data = mg__span_data(span, block);
  cache = mg__cache_here(pool);
  bin = cache == NULL ? NULL : &cache->bin[span->class];
  if (bin != NULL && bin->count == bin->capacity)
    mg__cache_make_room(cache, span->class);
  if (bin != NULL && bin->count < bin->capacity)
    bin->entry[bin->count++] = entry;
  else
    mg__depot_put(pool, span->class, &entry, 1);
}

/* What follows the end of a rental in all but the commonest case. */
static MG__COLD mg_status pool_return_slowly(mg_pool *pool, uint64_t handle,
                                             mg_finding *lost) {
  mg__cache *cache = mg__cache_find(pool);
  uint32_t block = mg__handle_id(handle) & 0xffff;
  mg__span *span = mg__span_of(mg__handle_id(handle));
  mg__slot *slot = &span->slot[block];
  size_t capacity = span->block_bytes;
  bool is_held = false;

  if (span->class == MG__CLASS_SINGLE)
    capacity = mg__span_single(span, block)->capacity;
  if (lost != NULL) lost->capacity = capacity;
  if (cache != NULL) mg__cache_catch_up(cache);
  if (atomic_load(&slot->mark) != MG__MARK_NONE)
    is_held = mg__leak_end(pool, span, slot, handle, lost);
  pool_count_returned(pool, cache, capacity, lost != NULL);
  if (!is_held) mg__pool_take_back(pool, span, slot);
  if (MG__LOAD(pool->serial) == 0) mg__pool_left(pool);
  return MG_OK;
}

static MG__INLINE mg_status pool_return(mg_pool *pool, mg__cache *cache,
                                        uint64_t handle, mg_error *err) {
  mg__entry entry = {NULL, NULL}, *top = NULL;
  mg__bin *bin = NULL;
  mg__span *span;

  /* All that can be known before the swap is found out before it, because what
   * comes after has to wait for it. */
  entry.slot = pool_find(pool, handle, &span);
  if (!MG__LIKELY(entry.slot != NULL))
    return pool_refuse(pool, handle, err, true);
  if (MG__LIKELY(cache != NULL && cache->epoch == MG__LOAD(pool->epoch))) {
    bin = &cache->bin[span->class];
    if (MG__LIKELY(bin->count < bin->capacity)) top = &bin->entry[bin->count];
    entry.data = mg__span_data(span, mg__handle_id(handle) & 0xffff);
  }
  if (!MG__LIKELY(pool_end(entry.slot, handle)))
    return pool_refuse(pool, handle, err, true);
  /* In one order with the swap: see leak_add(). */
  if (MG__LIKELY(top != NULL) &&
      MG__LIKELY(atomic_load(&entry.slot->mark) == MG__MARK_NONE)) {
    *top = entry;
    bin->count++;
    MG__BUMP(bin->returned, 1);
    return MG_OK;
  }
  return pool_return_slowly(pool, handle, NULL);
}

mg_status mg_pool_return(mg_pool *pool, uint64_t handle, mg_error *err) {
  return pool_return(pool, mg__cache_here(pool), handle, err);
}

/* How far ahead slots are fetched that another thread wrote last. */
#define POOL_AHEAD 16u

static inline void pool_fetch(uint64_t handle) {
  uint32_t id = mg__handle_id(handle);
  mg__span *span = mg__span_of(id);

  if (span != NULL && (id & 0xffff) < span->blocks)
    MG__PREFETCH_TO_WRITE(&span->slot[id & 0xffff]);
}

mg_status mg_pool_return_many(mg_pool *pool, const uint64_t *handles,
                              size_t count, size_t *out_wrong, mg_error *err) {
  mg__cache *cache = mg__cache_here(pool);
  mg_status first = MG_OK;
  size_t wrong = 0;

  for (size_t i = 0; i < count && i < POOL_AHEAD; i++) pool_fetch(handles[i]);
  for (size_t i = 0; i < count; i++) {
    mg_status st;
    if (i + POOL_AHEAD < count) pool_fetch(handles[i + POOL_AHEAD]);
    st = pool_return(pool, cache, handles[i], first == MG_OK ? err : NULL);
    if (cache == NULL) cache = mg__cache_here(pool);
    if (st == MG_OK) continue;
    if (first == MG_OK) first = st;
    wrong++;
  }
  if (out_wrong != NULL) *out_wrong = wrong;
  return first;
}

mg_status mg_pool_lost(mg_pool *pool, uint64_t handle, mg_finding *out,
                       mg_error *err) {
  mg_finding finding = {.kind = MG_FINDING_LOST, .count = 1, .handle = handle};
  mg__span *span;
  mg__slot *slot = pool_find(pool, handle, &span);

  if (slot == NULL || !pool_end(slot, handle))
    return pool_refuse(pool, handle, err, false);
  finding.age_ms =
      mg__leak_age_ms(MG__LOAD(pool->stamp), MG__LOAD(slot->stamp));
  pool_return_slowly(pool, handle, &finding);
  mg__leak_report(pool, &finding);
  if (out != NULL) *out = finding;
  return MG_OK;
}
