/* pool_fork.c - pools in a forked child.
 *
 * Other threads stand still in the middle of what they did: a block may be in a
 * stack and rented, or in none. Depots and spans are in order, because their locks
 * were held, and so are the handles. So free lists are made anew: what is neither
 * rented nor cold is idle, and the counters are made to agree with the handles. */
#include "pool_parts.h"

#include "internal.h"

typedef struct fork_count {
  uint64_t rented[MG__CLASSES], huge_bytes;
} fork_count;

static void fork_count_rental(fork_count *count, mg__span *span,
                              uint32_t block) {
  uint64_t capacity = span->block_bytes;
  uint32_t class;

  if (span->class == MG__CLASS_SINGLE)
    capacity = mg__span_single(span, block)->capacity;
  class = mg_pool_class(capacity);
  count->rented[class]++;
  if (class == MG__CLASS_SINGLE) count->huge_bytes += capacity;
}

static void fork_rebuild_span(mg_pool *pool, mg__span *span,
                              fork_count *count) {
  for (uint32_t block = 0; block < span->fresh; block++) {
    uint32_t id = span->number << 16 | block;
    if (MG__LOAD(span->slot[block].generation) % 2 == 1) {
      fork_count_rental(count, span, block);
    } else if (MG__LOAD(span->slot[block].mark) != MG__MARK_COLD) {
      MG__STORE(span->slot[block].mark, MG__MARK_NONE);
      if (span->class == MG__CLASS_SINGLE)
        mg__span_give(pool, span->class, id);
      else
        mg__depot_push(pool, span->class, id);
    }
  }
}

static void fork_agree(mg_pool *pool, const fork_count *count) {
  for (uint32_t class = 0; class < MG_POOL_CLASSES; class++) {
    uint64_t rented = MG__LOAD(pool->rented[class]), own = 0;
    for (const mg__cache *c = pool->caches; c != NULL; c = c->pool_next) {
      rented += MG__LOAD(c->bin[class].rented);
      own += MG__LOAD(c->bin[class].returned);
    }
    MG__STORE(pool->returned[class], rented - own -
                                         MG__LOAD(pool->lost_of[class]) -
                                         count->rented[class]);
  }
  MG__STORE(pool->huge_returned, MG__LOAD(pool->huge_rented) -
                                     MG__LOAD(pool->lost_of[MG__CLASS_SINGLE]) -
                                     count->rented[MG__CLASS_SINGLE]);
  MG__STORE(pool->huge_bytes_now, count->huge_bytes);
}

void mg__pool_rebuild(mg_pool *pool) {
  mg__cache *cache = pool->caches, *next;
  fork_count count = {{0}, 0};

  for (; cache != NULL; cache = next) {
    next = cache->pool_next;
    mg__cache_forget(cache);
  }
  mg__leak_after_fork(&pool->leak);
  for (uint32_t class = 0; class < MG__CLASSES; class++)
    pool->depot[class].count = 0;
  for (uint32_t number = 1; number < MG__SPANS; number++) {
    mg__span *span = mg__span_of(number << 16);
    if (span == NULL) break;
    if (MG__LOAD(span->pool) == pool) fork_rebuild_span(pool, span, &count);
  }
  fork_agree(pool, &count);
}
