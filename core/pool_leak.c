/* pool_leak.c - records of the rentals that are watched, and what was found.
 *
 * A rental is watched when it is sampled, large or suspected. Its slot's mark then
 * names its record. Records are made and ended under the lock; a mark that does
 * not lead to a record of the very same handle means nothing.
 *
 * A sampled block is filled with a pattern when it comes back, at its ends if it is
 * long, and waits in a queue. Where the pattern is broken when it leaves the queue,
 * somebody wrote to what was not theirs any more. */
#include "pool_parts.h"

#include <math.h>
#include <string.h>

#include "internal.h"

#define LEAK_ROOM_LEAST 64u
#define LEAK_NO_RECORD UINT32_MAX
#define LEAK_EDGE_BYTES 128u
#define LEAK_PATTERN 0xd9
#define LEAK_AT_ONCE 64u /* slots looked at before the lock is let go */

/* ---- records; the lock is held ----------------------------------------------- */

static bool leak_grow(mg__leak *leak) {
  uint32_t room = leak->room == 0 ? LEAK_ROOM_LEAST : 2 * leak->room;
  mg__record *resized = mg__resize(leak->record, room * sizeof *resized);

  if (resized == NULL) return false;
  leak->record = resized;
  leak->room = room;
  return true;
}

/* NULL without memory, and where the block is not that rental any more. */
static mg__record *leak_add(mg__leak *leak, mg__slot *slot, uint64_t handle) {
  uint32_t index = leak->first_free, none = MG__MARK_NONE;
  mg__record *record;

  if (index == LEAK_NO_RECORD) {
    if (leak->count == leak->room && !leak_grow(leak)) return NULL;
    index = leak->count;
  }
  /* In one order with the step that ends the rental: who ends it after this
   * sees the mark. */
  if (!atomic_compare_exchange_strong(&slot->mark, &none, index + 1))
    return NULL;
  record = &leak->record[index];
  if (index == leak->count)
    leak->count++;
  else
    leak->first_free = record->next_free;
  *record = (mg__record){
      .handle = handle, .stamp = MG__LOAD(slot->stamp), .is_used = true};
  leak->kept++;
  return record;
}

static mg__record *leak_find(mg__leak *leak, const mg__slot *slot,
                             uint64_t handle) {
  uint32_t mark = atomic_load(&slot->mark);

  if (mark == MG__MARK_NONE || mark > leak->count) return NULL;
  if (!leak->record[mark - 1].is_used || leak->record[mark - 1].handle != handle)
    return NULL;
  return &leak->record[mark - 1];
}

static void leak_drop(mg__leak *leak, mg__slot *slot, mg__record *record) {
  uint32_t index = (uint32_t)(record - leak->record), mark = index + 1;

  /* A block that went on meanwhile has another mark, which stays. */
  atomic_compare_exchange_strong(&slot->mark, &mark, MG__MARK_NONE);
  *record = (mg__record){.next_free = leak->first_free};
  leak->first_free = index;
  leak->kept--;
}

bool mg__leak_keep(mg_pool *pool, mg__slot *slot, uint64_t handle,
                   bool is_sampled) {
  mg__record *record;

  mg__lock(&pool->leak.lock);
  record = leak_add(&pool->leak, slot, handle);
  if (record != NULL) record->is_sampled = is_sampled;
  mg__unlock(&pool->leak.lock);
  return record != NULL;
}

/* ---- findings ------------------------------------------------------------------- */

static void leak_report_locked(mg__leak *leak, const mg_finding *finding) {
  leak->kinds[finding->kind]++;
  for (uint32_t i = 0; i < leak->finding_count; i++) {
    mg_finding *known =
        &leak->finding[(leak->finding_first + i) % MG_POOL_FINDINGS];
    if (known->kind != finding->kind || known->site != finding->site ||
        known->capacity != finding->capacity)
      continue;
    known->count++;
    known->handle = finding->handle;
    known->age_ms = finding->age_ms;
    return;
  }
  if (leak->finding_count == MG_POOL_FINDINGS) {
    leak->finding_first = (leak->finding_first + 1) % MG_POOL_FINDINGS;
    leak->finding_count--;
    leak->findings_lost++;
  }
  leak->finding[(leak->finding_first + leak->finding_count) %
                MG_POOL_FINDINGS] = *finding;
  leak->finding_count++;
}

void mg__leak_report(mg_pool *pool, const mg_finding *finding) {
  mg__lock(&pool->leak.lock);
  leak_report_locked(&pool->leak, finding);
  mg__unlock(&pool->leak.lock);
}

size_t mg_pool_take_findings(mg_pool *pool, mg_finding *out, size_t max) {
  mg__leak *leak = &pool->leak;
  size_t count = 0;

  mg__lock(&leak->lock);
  for (; count < max && leak->finding_count > 0; count++) {
    out[count] = leak->finding[leak->finding_first];
    leak->finding_first = (leak->finding_first + 1) % MG_POOL_FINDINGS;
    leak->finding_count--;
  }
  mg__unlock(&leak->lock);
  return count;
}

/* ---- blocks held back ------------------------------------------------------------- */

static unsigned char *leak_data(mg__span *span, uint32_t id) {
  return mg__span_data(span, id & 0xffff);
}

static void leak_fill(unsigned char *data, size_t bytes) {
  if (bytes <= 2 * LEAK_EDGE_BYTES) {
    memset(data, LEAK_PATTERN, bytes);
    return;
  }
  memset(data, LEAK_PATTERN, LEAK_EDGE_BYTES);
  memset(data + bytes - LEAK_EDGE_BYTES, LEAK_PATTERN, LEAK_EDGE_BYTES);
}

static bool leak_is_filled(const unsigned char *data, size_t bytes) {
  /* All alike, if each byte is as the one before it. */
  return data[0] == LEAK_PATTERN && memcmp(data, data + 1, bytes - 1) == 0;
}

static bool leak_is_whole(const unsigned char *data, size_t bytes) {
  if (bytes <= 2 * LEAK_EDGE_BYTES) return leak_is_filled(data, bytes);
  return leak_is_filled(data, LEAK_EDGE_BYTES) &&
         leak_is_filled(data + bytes - LEAK_EDGE_BYTES, LEAK_EDGE_BYTES);
}

/* Checks the oldest and takes it out. @return its number. */
static uint32_t leak_leave(mg__leak *leak) {
  uint32_t id = leak->held_back[leak->held_first].id;
  mg__span *span = mg__span_of(id);
  mg_finding finding = {.kind = MG_FINDING_WRITE_AFTER_RETURN,
                        .count = 1,
                        .site = leak->held_back[leak->held_first].site,
                        .handle = leak->held_back[leak->held_first].handle,
                        .capacity = span->block_bytes};

  if (!leak_is_whole(leak_data(span, id), span->block_bytes))
    leak_report_locked(leak, &finding);
  leak->held_bytes -= span->block_bytes;
  leak->held_first = (leak->held_first + 1) % MG__HELD_BACK_MOST;
  leak->held_count--;
  return id;
}

/* Takes out the oldest if there are more than so many. The lock is held.
 * @return its number, or 0. */
static uint32_t leak_choose(mg__leak *leak, uint32_t most_count,
                            uint64_t most_bytes) {
  if (leak->held_count == 0 ||
      (leak->held_count <= most_count && leak->held_bytes <= most_bytes))
    return 0;
  return leak_leave(leak);
}

static void leak_use_again(mg_pool *pool, uint32_t id) {
  mg__span *span = mg__span_of(id);

  mg__pool_take_back(pool, span, &span->slot[id & 0xffff]);
}

/* One that comes makes one that is oldest go: a long one waits only where there
 * are bytes for it. */
static bool leak_hold_back(mg_pool *pool, mg__span *span, uint64_t handle,
                           uint64_t site) {
  mg__leak *leak = &pool->leak;
  uint32_t id = mg__handle_id(handle), at;

  if (span->class == MG__CLASS_SINGLE || MG__LOAD(pool->serial) == 0 ||
      leak->held_count == MG__HELD_BACK_MOST ||
      leak->held_bytes > MG__HELD_BACK_BYTES)
    return false;
  leak_fill(leak_data(span, id), span->block_bytes);
  at = (leak->held_first + leak->held_count++) % MG__HELD_BACK_MOST;
  leak->held_back[at].id = id;
  leak->held_back[at].site = site;
  leak->held_back[at].handle = handle;
  leak->held_bytes += span->block_bytes;
  return true;
}

uint32_t mg__leak_stamp(double now_ms) {
  double units = now_ms > 0 ? now_ms / MG__STAMP_MS : 0; /* NaN: 0 */
  uint32_t stamp = (uint32_t)fmod(units, 4294967296.0);

  return stamp > 0 ? stamp : 1;
}

double mg__leak_age_ms(uint32_t now, uint32_t stamp) {
  int32_t age = (int32_t)(now - stamp);

  return stamp == 0 || age < 0 ? 0.0 : age * MG__STAMP_MS;
}

bool mg__leak_end(mg_pool *pool, mg__span *span, mg__slot *slot,
                  uint64_t handle, mg_finding *lost) {
  mg__leak *leak = &pool->leak;
  mg__record *record;
  bool is_held = false;
  uint32_t oldest = 0;

  mg__lock(&leak->lock);
  record = leak_find(leak, slot, handle);
  if (record != NULL) {
    if (lost != NULL) lost->site = record->site;
    if (record->is_suspected) {
      leak->suspected--;
      if (lost == NULL) leak->withdrawn++;
    }
    if (record->is_sampled)
      is_held = leak_hold_back(pool, span, handle, record->site);
    leak_drop(leak, slot, record);
  }
  if (is_held)
    oldest = leak_choose(leak, MG__HELD_BACK_MOST / 2, MG__HELD_BACK_BYTES);
  mg__unlock(&leak->lock);
  if (oldest != 0) leak_use_again(pool, oldest);
  return is_held;
}

void mg__leak_release(mg_pool *pool) {
  mg__leak *leak = &pool->leak;
  uint32_t oldest;

  do {
    mg__lock(&leak->lock);
    oldest = leak_choose(leak, 0, 0);
    mg__unlock(&leak->lock);
    if (oldest != 0) leak_use_again(pool, oldest);
  } while (oldest != 0);
}

void mg__leak_close(mg_pool *pool) {
  mg__leak *leak = &pool->leak;

  mg__lock(&leak->lock);
  mg__free(leak->record);
  leak->record = NULL;
  leak->count = leak->room = leak->kept = 0;
  leak->first_free = LEAK_NO_RECORD;
  leak->suspected = 0;
  mg__unlock(&leak->lock);
}

void mg__leak_after_fork(mg__leak *leak) {
  leak->held_count = 0;
  leak->held_bytes = 0;
  for (uint32_t i = 0; i < leak->count; i++) {
    mg__record *record = &leak->record[i];
    uint32_t id = mg__handle_id(record->handle);
    mg__slot *slot;
    if (!record->is_used) continue;
    slot = &mg__span_of(id)->slot[id & 0xffff];
    if (MG__LOAD(slot->generation) == (uint32_t)record->handle) continue;
    if (record->is_suspected) leak->suspected--;
    leak_drop(leak, slot, record);
  }
}

/* ---- sites and suspects --------------------------------------------------------- */

void mg_pool_set_site(mg_pool *pool, uint64_t handle, uint64_t site) {
  mg__span *span = mg__span_of(mg__handle_id(handle));
  uint32_t block = mg__handle_id(handle) & 0xffff;
  mg__record *record;

  if (span == NULL || block >= span->blocks || MG__LOAD(span->pool) != pool)
    return;
  mg__lock(&pool->leak.lock);
  record = leak_find(&pool->leak, &span->slot[block], handle);
  if (record != NULL) record->site = site;
  mg__unlock(&pool->leak.lock);
}

static uint64_t leak_capacity(mg__span *span, uint32_t block) {
  return span->class == MG__CLASS_SINGLE ? mg__span_single(span, block)->capacity
                                         : span->block_bytes;
}

/* Makes a record for a rental that is too old. @return whether it still was. */
static bool leak_suspect(mg_pool *pool, mg__span *span, uint64_t handle,
                         uint32_t now, mg_finding *out) {
  uint32_t block = mg__handle_id(handle) & 0xffff;
  mg__slot *slot = &span->slot[block];
  mg__leak *leak = &pool->leak;
  mg__record *record;
  bool is_rented;

  mg__lock(&leak->lock);
  record = leak_find(leak, slot, handle);
  if (record == NULL && atomic_load(&slot->generation) == (uint32_t)handle)
    record = leak_add(leak, slot, handle);
  is_rented = atomic_load(&slot->generation) == (uint32_t)handle;
  if (record != NULL) {
    if (!record->is_suspected) leak->suspected++;
    record->is_suspected = true;
    *out = (mg_finding){MG_FINDING_SUSPECTED, 1, record->site, handle, 0,
                        mg__leak_age_ms(now, record->stamp)};
    if (is_rented) out->capacity = leak_capacity(span, block);
    if (!is_rented) { /* it ended between the look and the record */
      leak->suspected--;
      leak_drop(leak, slot, record);
    }
  }
  mg__unlock(&leak->lock);
  return is_rented && record != NULL;
}

/* Finds old rentals among the slots from `*at` on, LEAK_AT_ONCE at a time. What
 * was rented before the first tick is as old as the first look at it. */
static uint32_t leak_scan(mg_pool *pool, mg__span *span, uint32_t *at,
                          uint32_t now, uint64_t out[LEAK_AT_ONCE]) {
  uint64_t suspect_ms = MG__LOAD(pool->suspect_ms);
  mg__depot *depot = &pool->depot[span->class];
  uint32_t count = 0, end;

  mg__lock(&depot->lock);
  end = MG__LOAD(span->pool) == pool ? span->fresh : 0;
  if (*at + LEAK_AT_ONCE < end) end = *at + LEAK_AT_ONCE;
  for (; *at < end; ++*at) {
    mg__slot *slot = &span->slot[*at];
    uint32_t generation = MG__LOAD(slot->generation);
    uint32_t stamp = MG__LOAD(slot->stamp);
    if (generation % 2 == 0) continue;
    if (stamp == 0) MG__STORE(slot->stamp, now);
    if (mg__leak_age_ms(now, stamp) >= (double)suspect_ms) out[count++] = mg__handle_of(slot->id, generation);
  }
  mg__unlock(&depot->lock);
  return count;
}

size_t mg_pool_suspects(mg_pool *pool, double now_ms, mg_finding *out,
                        size_t max) {
  uint32_t now = mg__leak_stamp(now_ms);
  uint64_t handle[LEAK_AT_ONCE];
  size_t total = 0;

  if (MG__LOAD(pool->leak_check) == MG_LEAK_CHECK_DISABLED) return 0;
  for (uint32_t number = 1; number < MG__SPANS; number++) {
    mg__span *span = mg__span_of(number << 16);
    uint32_t at = 0, before;
    if (span == NULL) break; /* numbers are given in order */
    if (MG__LOAD(span->pool) != pool) continue;
    do {
      uint32_t count;
      before = at;
      count = leak_scan(pool, span, &at, now, handle);
      for (uint32_t i = 0; i < count; i++) {
        mg_finding found;
        if (!leak_suspect(pool, span, handle[i], now, &found)) continue;
        if (total++ < max) out[total - 1] = found;
      }
    } while (at != before);
  }
  return total;
}
