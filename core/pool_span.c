/* pool_span.c - mappings cut into blocks, and the data about them.
 *
 * The data about a span is never freed, only used again for a span of the same
 * class: a stale or made-up handle always finds something to be compared with.
 * When a span is unmapped the pages of its slots are given back as well; the
 * highest generation is kept, and the next blocks begin there, so that no handle
 * comes twice (before 2^31 rentals of one block).
 *
 * Slots of a page and more have pages of their own for that; of large classes, with
 * few blocks each, a span has less than a page, and it stays.
 *
 * A block that is given up ("cold") holds no memory of its own any more, except on
 * pages it shares with blocks in use. Each page counts its cold units. */
#include "pool_parts.h"

#include <string.h>

#include "internal.h"

#define SPAN_BYTES 1048576u      /* of a span, about */
#define SPAN_BLOCKS_LEAST 16u
#define SPAN_BLOCKS_PAGE 256u    /* their slots fill a page of 4096 bytes */
#define SPAN_BLOCKS_MOST 1024u
#define SPAN_UNIT_BYTES 64u
#define SPAN_REGION_BYTES 262144u /* of data about spans, mapped at a time */

_Atomic(mg__span *) mg__span_at[MG__SPANS];

/* ---- memory for the data about spans ------------------------------------- */

typedef struct span_region {
  unsigned char *at;
  size_t left_bytes;
} span_region;

static struct {
  mg__mutex lock;
  span_region packed, paged;
  uint32_t spans;
  mg__span *spare[MG__CLASSES];
} span_meta = {.lock = MG__MUTEX_INIT};

static void *span_cut(span_region *region, size_t bytes) {
  unsigned char *made;

  bytes = (bytes + 63) & ~(size_t)63;
  if (region->left_bytes < bytes) {
    unsigned char *mapped = mg__os_map(SPAN_REGION_BYTES);
    if (mapped == NULL) return NULL;
    *region = (span_region){mapped, SPAN_REGION_BYTES};
  }
  made = region->at;
  region->at += bytes;
  region->left_bytes -= bytes;
  return made;
}

void *mg__meta_alloc(size_t bytes) {
  void *made;

  mg__lock(&span_meta.lock);
  made = span_cut(&span_meta.packed, bytes);
  mg__unlock(&span_meta.lock);
  return made;
}

void mg__meta_before_fork(void) { mg__lock(&span_meta.lock); }

void mg__meta_after_fork(void (*release)(mg__mutex *lock)) {
  release(&span_meta.lock);
}

static size_t span_page_bytes(void) {
  static _Atomic size_t known;
  size_t bytes = MG__LOAD(known);

  if (bytes == 0) {
    bytes = mg__os_page_bytes();
    MG__STORE(known, bytes);
  }
  return bytes;
}

static uint32_t span_blocks(uint32_t class) {
  uint32_t blocks;

  if (class == MG__CLASS_SINGLE) return SPAN_BLOCKS_MOST;
  blocks = SPAN_BYTES / mg__class_bytes[class];
  if (blocks > SPAN_BLOCKS_MOST) return SPAN_BLOCKS_MOST;
  if (blocks >= SPAN_BLOCKS_PAGE) return blocks;
  return blocks < SPAN_BLOCKS_LEAST ? SPAN_BLOCKS_LEAST : SPAN_BLOCKS_PAGE;
}

/* Of the mapping: whole pages. */
static size_t span_bytes(const mg__span *span) {
  size_t page = span_page_bytes();

  return ((size_t)span->blocks * span->block_bytes + page - 1) / page * page;
}

static bool span_shares_pages(const mg__span *span) {
  return span->block_bytes % span_page_bytes() != 0;
}

static uint16_t *span_pages(const mg__span *span) {
  return (uint16_t *)(void *)&span->slot[span->blocks];
}

mg__single *mg__span_single(mg__span *span, uint32_t block) {
  return (mg__single *)(void *)&span->slot[span->blocks] + block;
}

static size_t span_slots_bytes(const mg__span *span) {
  size_t page = span_page_bytes(), bytes = span->blocks * sizeof(mg__slot);

  if (span->class == MG__CLASS_SINGLE)
    bytes += span->blocks * sizeof(mg__single);
  else if (span_shares_pages(span))
    bytes += span_bytes(span) / page * sizeof(uint16_t);
  return bytes < page ? bytes : (bytes + page - 1) / page * page;
}

/* The meta lock is held. */
static mg__span *span_meta_new(uint32_t class) {
  mg__span *span;

  if (span_meta.spans + 1 == MG__SPANS) return NULL;
  span = span_cut(&span_meta.packed, sizeof *span);
  if (span == NULL) return NULL;
  span->blocks = span_blocks(class);
  span->class = class;
  span->block_bytes = class == MG__CLASS_SINGLE ? 0 : mg__class_bytes[class];
  span->slots_bytes = span_slots_bytes(span);
  span->slot = span_cut(span->slots_bytes < span_page_bytes() ? &span_meta.packed
                                                              : &span_meta.paged,
                        span->slots_bytes);
  if (span->slot == NULL) return NULL; /* the few bytes of the span are lost */
  span->number = ++span_meta.spans;
  atomic_store_explicit(&mg__span_at[span->number], span, memory_order_release);
  return span;
}

/* The data about a span, used before or new. */
static mg__span *span_meta_take(uint32_t class) {
  mg__span *span;

  mg__lock(&span_meta.lock);
  span = span_meta.spare[class];
  if (span != NULL)
    span_meta.spare[class] = span->after;
  else
    span = span_meta_new(class);
  mg__unlock(&span_meta.lock);
  return span;
}

static void span_meta_give(mg__span *span) {
  mg__lock(&span_meta.lock);
  span->after = span_meta.spare[span->class];
  span_meta.spare[span->class] = span;
  mg__unlock(&span_meta.lock);
}

/* ---- cold units of pages -------------------------------------------------- */

typedef struct span_range {
  size_t from, to; /* bytes of the span */
} span_range;

static uint32_t span_page_units(void) {
  return (uint32_t)(span_page_bytes() / SPAN_UNIT_BYTES);
}

/* The part of a block on one page, in units; 0 if it has the page to itself. */
static uint32_t span_shared_units(span_range block, size_t page_index) {
  size_t page = span_page_bytes(), from = page_index * page, to = from + page;

  if (block.from <= from && block.to >= to) return 0;
  if (block.from > from) from = block.from;
  if (block.to < to) to = block.to;
  return (uint32_t)((to - from) / SPAN_UNIT_BYTES);
}

static span_range span_block_range(const mg__span *span, uint32_t block) {
  size_t from = (size_t)block * span->block_bytes;

  return (span_range){from, from + span->block_bytes};
}

static void span_warm_up(mg__span *span, uint32_t block) {
  span_range range = span_block_range(span, block);
  size_t first = range.from / span_page_bytes();
  size_t last = (range.to - 1) / span_page_bytes();
  uint16_t *pages = span_pages(span);

  pages[first] =
      (uint16_t)(pages[first] - span_shared_units(range, first));
  if (last != first)
    pages[last] = (uint16_t)(pages[last] - span_shared_units(range, last));
}

/* Gives back the pages on which nothing but cold blocks is left. */
static uint64_t span_cool_down(mg__span *span, uint32_t block) {
  span_range range = span_block_range(span, block);
  size_t page = span_page_bytes();
  size_t first = range.from / page, end = (range.to - 1) / page + 1;

  if (span_shares_pages(span)) {
    uint16_t *pages = span_pages(span);
    size_t last = end - 1;
    pages[first] = (uint16_t)(pages[first] + span_shared_units(range, first));
    if (last != first)
      pages[last] = (uint16_t)(pages[last] + span_shared_units(range, last));
    if (pages[last] < span_page_units()) end--;
    if (pages[first] < span_page_units()) first++;
  }
  if (end <= first) return 0;
  mg__os_discard(MG__LOAD(span->base) + first * page, (end - first) * page);
  return (end - first) * page;
}

/* ---- opening and retiring -------------------------------------------------- */

static void span_link(mg__depot *depot, mg__span *span) {
  span->before = NULL;
  span->after = depot->open;
  if (depot->open != NULL) depot->open->before = span;
  depot->open = span;
  span->is_open = true;
}

static void span_unlink(mg__depot *depot, mg__span *span) {
  if (span->before != NULL)
    span->before->after = span->after;
  else
    depot->open = span->after;
  if (span->after != NULL) span->after->before = span->before;
  span->is_open = false;
}

static mg__span *span_open(mg_pool *pool, uint32_t class) {
  mg__span *span = span_meta_take(class);
  size_t bytes;

  if (span == NULL) return NULL;
  bytes = span_bytes(span);
  if (bytes > 0) {
    void *base = mg__os_map(bytes);
    if (base == NULL) goto fail_meta;
    MG__STORE(span->base, base);
    MG__ADD(pool->os_maps, 1);
    MG__ADD(pool->os_bytes, bytes);
    if (span_shares_pages(span))
      for (size_t i = 0; i < bytes / span_page_bytes(); i++)
        span_pages(span)[i] = (uint16_t)span_page_units();
  }
  span->fresh = 0;
  span->cold = 0;
  span->cold_first = MG__NO_BLOCK;
  MG__STORE(span->pool, pool);
  MG__STORE(span->last, pool);
  span_link(&pool->depot[class], span);
  return span;

fail_meta:
  span_meta_give(span);
  return NULL;
}

/* Keeps the highest generation, gives the slots' memory back. */
static void span_forget_slots(mg__span *span) {
  uint32_t highest = 0;

  for (uint32_t i = 0; i < span->fresh; i++) {
    uint32_t ahead = MG__LOAD(span->slot[i].generation) - span->generation;
    if (ahead > highest) highest = ahead;
  }
  span->generation += highest;
  if (span->slots_bytes >= span_page_bytes())
    mg__os_discard(span->slot, span->slots_bytes);
}

/* @return whether it is gone. */
static bool span_close(mg_pool *pool, mg__span *span) {
  size_t bytes = span_bytes(span);

  if (bytes > 0) {
    if (!mg__os_unmap(MG__LOAD(span->base), bytes)) return false;
    MG__SUB(pool->os_bytes, bytes);
  }
  span_unlink(&pool->depot[span->class], span);
  MG__STORE(span->pool, NULL);
  MG__STORE(span->base, NULL);
  span_forget_slots(span);
  span_meta_give(span);
  return true;
}

void mg__span_retire(mg_pool *pool, uint32_t class) {
  mg__span *span = pool->depot[class].open, *after;

  for (; span != NULL; span = after) {
    after = span->after;
    if (span->cold == span->fresh) span_close(pool, span);
  }
}

/* ---- blocks ---------------------------------------------------------------- */

static uint32_t span_take_one(mg__depot *depot, mg__span *span) {
  uint32_t block;

  if (span->cold > 0) {
    block = span->cold_first;
    span->cold_first = MG__LOAD(span->slot[block].stamp);
    span->cold--;
  } else {
    block = span->fresh++;
    span->slot[block].id = span->number << 16 | block;
    MG__STORE(span->slot[block].generation, span->generation);
  }
  MG__STORE(span->slot[block].mark, MG__MARK_NONE);
  if (span->cold == 0 && span->fresh == span->blocks) span_unlink(depot, span);
  if (span_shares_pages(span)) span_warm_up(span, block);
  return span->slot[block].id;
}

bool mg__pool_hold(mg_pool *pool, uint64_t bytes) {
  uint64_t held = MG__ADD(pool->held_bytes, bytes) + bytes;

  if (held > MG__LOAD(pool->max_bytes)) {
    MG__SUB(pool->held_bytes, bytes);
    return false;
  }
  if (held > MG__LOAD(pool->peak_held_bytes))
    MG__STORE(pool->peak_held_bytes, held);
  return true;
}

uint32_t mg__span_take(mg_pool *pool, uint32_t class, uint32_t *out_ids,
                       uint32_t want) {
  mg__depot *depot = &pool->depot[class];
  uint32_t count = 0;

  for (; count < want; count++) {
    mg__span *span = depot->open;
    if (class != MG__CLASS_SINGLE && !mg__pool_hold(pool, mg__class_bytes[class]))
      break;
    if (span == NULL) span = span_open(pool, class);
    if (span == NULL) {
      if (class != MG__CLASS_SINGLE)
        MG__SUB(pool->held_bytes, mg__class_bytes[class]);
      break;
    }
    out_ids[count] = span_take_one(depot, span);
  }
  return count;
}

uint64_t mg__span_give(mg_pool *pool, uint32_t class, uint32_t id) {
  mg__span *span = mg__span_of(id);
  uint32_t block = id & 0xffff;
  uint64_t given = 0;

  MG__STORE(span->slot[block].mark, MG__MARK_COLD);
  MG__STORE(span->slot[block].stamp, span->cold_first);
  span->cold_first = block;
  span->cold++;
  if (!span->is_open) span_link(&pool->depot[class], span);
  if (class == MG__CLASS_SINGLE) return 0;
  given = span_cool_down(span, block);
  MG__SUB(pool->held_bytes, span->block_bytes);
  MG__ADD(pool->given_back_bytes, given);
  return given;
}
