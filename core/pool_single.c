/* pool_single.c - buffers with memory of their own: plain ones from the allocator,
 * huge ones mapped and kept for the next, guarded ones that end at a page which
 * nobody may touch.
 *
 * Their slots are blocks of spans without memory, so that handles and checks are
 * those of all others. */
#include "pool_parts.h"

#include <math.h>
#include <string.h>

#include "internal.h"

#define SINGLE_ALIGNMENT 64u
#define SINGLE_FITS_PERCENT 125u /* of the need: what may serve a huge request */

static size_t single_pages(size_t bytes) {
  size_t page = mg__os_page_bytes();

  return (bytes + page - 1) / page * page;
}

/* ---- memory by kind --------------------------------------------------------- */

static bool single_open_plain(mg_pool *pool, mg__single *out, size_t capacity) {
  uintptr_t at;

  out->block_bytes = capacity + SINGLE_ALIGNMENT - 1;
  out->block = mg__alloc_untouched(out->block_bytes);
  if (out->block == NULL) return false;
  at = ((uintptr_t)out->block + SINGLE_ALIGNMENT - 1) &
       ~(uintptr_t)(SINGLE_ALIGNMENT - 1);
  out->data = (unsigned char *)out->block + (at - (uintptr_t)out->block);
  MG__ADD(pool->plain, 1);
  return true;
}

static bool single_map(mg_pool *pool, mg__single *out, size_t bytes) {
  out->block_bytes = bytes;
  out->block = mg__os_map(bytes);
  if (out->block == NULL) return false;
  out->data = out->block;
  MG__ADD(pool->os_maps, 1);
  MG__ADD(pool->os_bytes, bytes);
  return true;
}

/* @return bytes given back. */
static uint64_t single_unmap(mg_pool *pool, const mg__single *single) {
  if (mg__os_unmap(single->block, single->block_bytes))
    MG__SUB(pool->os_bytes, single->block_bytes);
  else
    mg__os_discard(single->block, single->block_bytes);
  MG__SUB(pool->held_bytes, single->block_bytes);
  MG__ADD(pool->given_back_bytes, single->block_bytes);
  return single->block_bytes;
}

/* ---- huge: the cache --------------------------------------------------------- */

static mg__single single_remove_idle(mg__huge *huge, uint32_t index) {
  mg__single single = huge->idle[index];

  huge->idle_count--;
  memmove(&huge->idle[index], &huge->idle[index + 1],
          (huge->idle_count - index) * sizeof single);
  huge->idle_bytes -= single.block_bytes;
  if (huge->idle_count < huge->idle_low) huge->idle_low = huge->idle_count;
  return single;
}

/* The smallest that is large enough and not much larger. */
static bool single_find_idle(mg__huge *huge, mg__single *out, size_t capacity) {
  size_t best_bytes = capacity / 100 * SINGLE_FITS_PERCENT;
  uint32_t best = UINT32_MAX;

  mg__lock(&huge->lock);
  for (uint32_t i = 0; i < huge->idle_count; i++) {
    size_t bytes = huge->idle[i].capacity;
    if (bytes < capacity || bytes > best_bytes) continue;
    best_bytes = bytes;
    best = i;
  }
  if (best != UINT32_MAX) *out = single_remove_idle(huge, best);
  mg__unlock(&huge->lock);
  return best != UINT32_MAX;
}

static bool single_open_huge(mg_pool *pool, mg__single *out, size_t capacity) {
  size_t bytes = single_pages(capacity);

  if (single_find_idle(&pool->huge, out, capacity)) return true;
  if (!mg__pool_hold(pool, bytes)) return false;
  out->capacity = bytes;
  if (single_map(pool, out, bytes)) return true;
  MG__SUB(pool->held_bytes, bytes);
  return false;
}

/* Takes the oldest out while the idle ones are more than `most_bytes`, or no place
 * is left. @return bytes given back. */
static uint64_t single_shrink(mg_pool *pool, uint64_t most_bytes,
                              uint32_t most_count) {
  mg__huge *huge = &pool->huge;
  uint64_t given = 0;
  mg__single oldest;
  bool found;

  do {
    mg__lock(&huge->lock);
    found = huge->idle_count > 0 &&
            (huge->idle_bytes > most_bytes || huge->idle_count > most_count);
    if (found) oldest = single_remove_idle(huge, 0);
    mg__unlock(&huge->lock);
    if (found) given += single_unmap(pool, &oldest);
  } while (found);
  return given;
}

static void single_close_huge(mg_pool *pool, const mg__single *single) {
  uint64_t most = MG__LOAD(pool->huge_bytes);
  mg__huge *huge = &pool->huge;
  bool kept = false;

  if (MG__LOAD(pool->level) >= MG_LEVEL_CRITICAL || MG__LOAD(pool->serial) == 0)
    most = 0;
  if (single->block_bytes <= most) {
    single_shrink(pool, most - single->block_bytes, MG__HUGE_MOST - 1);
    mg__lock(&huge->lock);
    kept = huge->idle_count < MG__HUGE_MOST;
    if (kept) huge->idle[huge->idle_count++] = *single;
    if (kept) huge->idle_bytes += single->block_bytes;
    mg__unlock(&huge->lock);
  }
  if (!kept) single_unmap(pool, single);
}

/* ---- guarded ------------------------------------------------------------------ */

static bool single_open_guarded(mg_pool *pool, mg__single *out,
                                size_t capacity) {
  size_t page = mg__os_page_bytes(), bytes = single_pages(capacity) + page;

  if (!mg__pool_hold(pool, bytes)) return false;
  if (!single_map(pool, out, bytes)) goto fail_hold;
  if (!mg__os_forbid((unsigned char *)out->block + bytes - page, page))
    goto fail_map;
  out->data = (unsigned char *)out->block + bytes - page - capacity;
  return true;

fail_map:
  single_unmap(pool, out);
  return false;
fail_hold:
  MG__SUB(pool->held_bytes, bytes);
  return false;
}

/* From now on a touch is fatal; the address is used again much later. */
static void single_close_guarded(mg_pool *pool, const mg__single *single) {
  mg__huge *huge = &pool->huge;
  mg__single oldest = *single;
  bool evicts;

  mg__os_discard(single->block, single->block_bytes);
  if (!mg__os_forbid(single->block, single->block_bytes) ||
      MG__LOAD(pool->serial) == 0) {
    single_unmap(pool, single);
    return;
  }
  mg__lock(&huge->lock);
  evicts = huge->guarded_count == MG__GUARDED_MOST;
  if (evicts) {
    oldest = huge->guarded[0];
    memmove(huge->guarded, huge->guarded + 1,
            (MG__GUARDED_MOST - 1) * sizeof oldest);
    huge->guarded_count--;
  }
  huge->guarded[huge->guarded_count++] = *single;
  mg__unlock(&huge->lock);
  if (evicts) single_unmap(pool, &oldest);
}

void mg__single_release(mg_pool *pool) {
  mg__huge *huge = &pool->huge;
  mg__single last;
  bool found;

  do {
    mg__lock(&huge->lock);
    found = huge->guarded_count > 0;
    if (found) last = huge->guarded[--huge->guarded_count];
    mg__unlock(&huge->lock);
    if (found) single_unmap(pool, &last);
  } while (found);
}

/* ---- slots ---------------------------------------------------------------------- */

static bool single_open(mg_pool *pool, mg__single *out, mg__single_kind kind,
                        size_t capacity) {
  *out = (mg__single){.capacity = capacity, .kind = kind};
  switch (kind) {
    case MG__SINGLE_PLAIN:
      return single_open_plain(pool, out, capacity);
    case MG__SINGLE_HUGE:
      return single_open_huge(pool, out, capacity);
    case MG__SINGLE_GUARDED:
      return single_open_guarded(pool, out, capacity);
  }
  return false;
}

mg__slot *mg__single_take(mg_pool *pool, mg__single_kind kind, size_t capacity,
                          mg__single *out) {
  mg__depot *depot = &pool->depot[MG__CLASS_SINGLE];
  mg__span *span;
  uint32_t id, got;

  if (!single_open(pool, out, kind, capacity)) return NULL;
  mg__lock(&depot->lock);
  got = mg__span_take(pool, MG__CLASS_SINGLE, &id, 1);
  mg__unlock(&depot->lock);
  if (got == 0) goto fail_memory;
  span = mg__span_of(id);
  *mg__span_single(span, id & 0xffff) = *out;
  return &span->slot[id & 0xffff];

fail_memory:
  if (kind == MG__SINGLE_PLAIN)
    mg__free(out->block);
  else
    single_unmap(pool, out);
  return NULL;
}

void mg__single_give(mg_pool *pool, mg__span *span, uint32_t block) {
  mg__depot *depot = &pool->depot[MG__CLASS_SINGLE];
  mg__single single = *mg__span_single(span, block);

  switch (single.kind) {
    case MG__SINGLE_PLAIN:
      mg__free(single.block);
      break;
    case MG__SINGLE_HUGE:
      single_close_huge(pool, &single);
      break;
    case MG__SINGLE_GUARDED:
      single_close_guarded(pool, &single);
      break;
  }
  mg__lock(&depot->lock);
  mg__span_give(pool, MG__CLASS_SINGLE, span->number << 16 | block);
  mg__unlock(&depot->lock);
}

uint64_t mg__single_relieve(mg_pool *pool, double share) {
  mg__huge *huge = &pool->huge;
  uint32_t count;

  mg__lock(&huge->lock);
  count = (uint32_t)ceil(share * (double)huge->idle_count);
  count = count < huge->idle_count ? huge->idle_count - count : 0;
  mg__unlock(&huge->lock);
  return single_shrink(pool, UINT64_MAX, count);
}

void mg__single_trim(mg_pool *pool) {
  mg__huge *huge = &pool->huge;
  uint32_t count;

  mg__lock(&huge->lock);
  count = huge->idle_count - mg_pool_trim(huge->idle_low);
  mg__unlock(&huge->lock);
  single_shrink(pool, UINT64_MAX, count);
  mg__lock(&huge->lock);
  huge->idle_low = huge->idle_count;
  mg__unlock(&huge->lock);
}
