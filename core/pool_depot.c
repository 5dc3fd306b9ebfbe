/* pool_depot.c - idle blocks of a pool by class, one lock each.
 *
 * Blocks are named by numbers, a twelfth of a cache's entry: a depot may hold
 * many. Batches come from and go to the top, trims take from the bottom, where
 * lies what was not used for longest. */
#include "pool_parts.h"

#include <math.h>
#include <string.h>

#include "internal.h"

#define DEPOT_ROOM_LEAST 64u
#define DEPOT_AT_ONCE 256u /* blocks given back before the lock is let go */

uint32_t mg__depot_batch(const mg_pool *pool, uint32_t class) {
  uint32_t half = mg_pool_cache_limit(mg__class_bytes[class],
                                      MG__LOAD(pool->cache_bytes),
                                      MG_LEVEL_NORMAL) / 2;

  if (half == 0) return 1;
  return half < MG_POOL_BATCH ? half : MG_POOL_BATCH;
}

static void depot_note_low(mg__depot *depot) {
  if (depot->count < depot->low) depot->low = depot->count;
}

static bool depot_make_room(mg__depot *depot, uint32_t room) {
  uint32_t *resized;

  if (room < DEPOT_ROOM_LEAST) room = DEPOT_ROOM_LEAST;
  resized = mg__resize(depot->id, room * sizeof *resized);
  if (resized == NULL) return false;
  depot->id = resized;
  depot->room = room;
  return true;
}

static mg__entry depot_entry(uint32_t id) {
  mg__span *span = mg__span_of(id);
  uint32_t block = id & 0xffff;

  MG__PREFETCH_TO_WRITE(&span->slot[block]);
  return (mg__entry){&span->slot[block], mg__span_data(span, block)};
}

uint32_t mg__depot_take(mg_pool *pool, uint32_t class, mg__entry *out,
                        uint32_t want) {
  mg__depot *depot = &pool->depot[class];
  uint32_t id[MG_POOL_BATCH], count = want;

  mg__lock(&depot->lock);
  if (count > depot->count) count = depot->count;
  if (count > 0) {
    depot->count -= count;
    memcpy(id, depot->id + depot->count, count * sizeof *id);
  } else {
    count = mg__span_take(pool, class, id, want);
  }
  depot_note_low(depot);
  mg__unlock(&depot->lock);
  for (uint32_t i = 0; i < count; i++) out[i] = depot_entry(id[i]);
  return count;
}

void mg__depot_push(mg_pool *pool, uint32_t class, uint32_t id) {
  mg__depot *depot = &pool->depot[class];

  if (depot->count == depot->room && !depot_make_room(depot, 2 * depot->room))
    mg__span_give(pool, class, id);
  else
    depot->id[depot->count++] = id;
}

void mg__depot_put(mg_pool *pool, uint32_t class, const mg__entry *entries,
                   uint32_t count) {
  mg__depot *depot = &pool->depot[class];
  uint32_t *top;

  mg__lock(&depot->lock);
  if (depot->room - depot->count >= count ||
      depot_make_room(depot, 2 * (depot->count + count))) {
    top = depot->id + depot->count;
    for (uint32_t i = 0; i < count; i++) top[i] = entries[i].slot->id;
    depot->count += count;
  } else {
    for (uint32_t i = 0; i < count; i++)
      mg__span_give(pool, class, entries[i].slot->id);
  }
  mg__unlock(&depot->lock);
}

/* Gives the `count` oldest back to the system. The lock is held. */
static uint64_t depot_give_back(mg_pool *pool, uint32_t class, uint32_t count) {
  mg__depot *depot = &pool->depot[class];
  uint64_t given = 0;

  for (uint32_t i = 0; i < count; i++)
    given += mg__span_give(pool, class, depot->id[i]);
  depot->count -= count;
  memmove(depot->id, depot->id + count, depot->count * sizeof *depot->id);
  depot_note_low(depot);
  return given;
}

/* Takes turns with threads that need the lock. `count` goes down with what they
 * take meanwhile. */
static uint64_t depot_give_back_slowly(mg_pool *pool, uint32_t class,
                                       uint32_t count) {
  mg__depot *depot = &pool->depot[class];
  uint64_t given = 0;

  while (count > 0) {
    uint32_t now = count < DEPOT_AT_ONCE ? count : DEPOT_AT_ONCE;
    mg__lock(&depot->lock);
    if (now > depot->count) now = count = depot->count;
    given += depot_give_back(pool, class, now);
    count -= now;
    if (count == 0) {
      mg__span_retire(pool, class);
      if (depot->room > DEPOT_ROOM_LEAST && depot->count < depot->room / 4)
        depot_make_room(depot, depot->room / 2 > depot->count * 2
                                   ? depot->count * 2
                                   : depot->room / 2);
    }
    mg__unlock(&depot->lock);
  }
  return given;
}

uint64_t mg__depot_relieve(mg_pool *pool, uint32_t class, double share) {
  mg__depot *depot = &pool->depot[class];
  uint32_t count;

  mg__lock(&depot->lock);
  count = share >= 1.0 ? depot->count
                       : (uint32_t)ceil(share * (double)depot->count);
  if (count == 0) mg__span_retire(pool, class);
  mg__unlock(&depot->lock);
  return depot_give_back_slowly(pool, class, count);
}

void mg__depot_trim(mg_pool *pool, uint32_t class) {
  mg__depot *depot = &pool->depot[class];
  uint32_t count;

  mg__lock(&depot->lock);
  count = mg_pool_trim(depot->low);
  if (count == 0) mg__span_retire(pool, class);
  mg__unlock(&depot->lock);
  depot_give_back_slowly(pool, class, count);
  mg__lock(&depot->lock);
  depot->low = depot->count;
  mg__unlock(&depot->lock);
}

void mg__depot_close(mg_pool *pool, uint32_t class) {
  mg__depot *depot = &pool->depot[class];

  mg__depot_relieve(pool, class, 1.0);
  mg__free(depot->id);
  depot->id = NULL;
  depot->room = 0;
}
