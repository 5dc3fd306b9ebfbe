/* census.c - a table of names, and the difference of two.
 *
 *   slots: open addressing, index + 1 of a row, 0 = empty; at most half full
 *   rows:  {name, hash, count, bytes} in order of appearance
 *   names: blocks that never move, as rows are handed out with pointers to them
 *
 * Nothing here can fail once the table is open: what finds no memory is counted
 * in the one row that is part of the table. */
#include "memguard/census.h"

#include <string.h>

#include "internal.h"

#define CENSUS_SLOTS_LEAST 64u
#define CENSUS_BLOCK_BYTES 16000u

typedef struct census_row {
  const char *name;
  uint64_t hash, count, bytes;
} census_row;

typedef struct census_block {
  struct census_block *next;
  size_t used;
  char text[CENSUS_BLOCK_BYTES];
} census_block;

struct mg_census {
  uint32_t *slots;
  size_t slot_count; /* a power of two */
  census_row *rows;
  size_t row_count, row_room, max_names;
  census_block *blocks; /* the one being filled first */
  bool is_cut;
  uint64_t other_count, other_bytes;
};

/* ---- names --------------------------------------------------------------- */

/* @return length of `out`, cut and made printable. */
static size_t census_clean(char out[MG_CENSUS_NAME_BYTES], const char *name) {
  size_t length = 0;

  for (; length < MG_CENSUS_NAME_BYTES - 1 && name[length] != '\0'; length++) {
    unsigned char byte = (unsigned char)name[length];
    out[length] = byte < 0x20 || byte == 0x7F ? '?' : name[length];
  }
  if (name[length] != '\0') /* not through a character of UTF-8 */
    while (length > 0 && ((unsigned char)name[length] & 0xC0) == 0x80) length--;
  if (length == 0) out[length++] = '?';
  out[length] = '\0';
  return length;
}

/* FNV-1a. */
static uint64_t census_hash(const char *name, size_t length) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);

  for (size_t i = 0; i < length; i++)
    hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
  return hash ^ hash >> 32;
}

static const char *census_keep(mg_census *census, const char *name,
                               size_t length) {
  census_block *block = census->blocks;

  if (block == NULL || block->used + length + 1 > CENSUS_BLOCK_BYTES) {
    block = mg__alloc_untouched(sizeof *block);
    if (block == NULL) return NULL;
    block->next = census->blocks;
    block->used = 0;
    census->blocks = block;
  }
  char *kept = block->text + block->used;
  memcpy(kept, name, length + 1);
  block->used += length + 1;
  return kept;
}

static void census_free_blocks(mg_census *census) {
  while (census->blocks != NULL) {
    census_block *next = census->blocks->next;
    mg__free(census->blocks);
    census->blocks = next;
  }
}

/* ---- table --------------------------------------------------------------- */

/* The slot of `name`, or the empty one where it belongs. */
static uint32_t *census_slot(const mg_census *census, const char *name,
                             uint64_t hash) {
  for (size_t at = (size_t)hash;; at++) {
    uint32_t *slot = &census->slots[at & (census->slot_count - 1)];
    const census_row *row;
    if (*slot == 0) return slot;
    row = &census->rows[*slot - 1];
    if (row->hash == hash && strcmp(row->name, name) == 0) return slot;
  }
}

/* Makes room for one more row. @return false if there is no memory: all is as it
 * was. */
static bool census_grow(mg_census *census) {
  if (census->row_count == census->row_room) {
    size_t room = census->row_room * 2;
    census_row *rows = mg__resize(census->rows, room * sizeof *rows);
    if (rows == NULL) return false;
    census->rows = rows;
    census->row_room = room;
  }
  if (census->row_count * 2 < census->slot_count) return true;
  size_t slot_count = census->slot_count * 2;
  uint32_t *slots = mg__alloc(slot_count * sizeof *slots);
  if (slots == NULL) return false;
  mg__free(census->slots);
  census->slots = slots;
  census->slot_count = slot_count;
  for (size_t i = 0; i < census->row_count; i++)
    *census_slot(census, census->rows[i].name, census->rows[i].hash) =
        (uint32_t)i + 1;
  return true;
}

mg_status mg_census_open(mg_census **out, size_t max_names, mg_error *err) {
  mg_census *census;

  *out = NULL;
  if (max_names == 0) max_names = MG_CENSUS_NAMES_MAX;
  if (max_names > MG_CENSUS_NAMES_MAX)
    return mg__fail(err, MG_ERANGE, "census of %zu names, allowed: 1 to %u",
                    max_names, MG_CENSUS_NAMES_MAX);
  census = mg__alloc(sizeof *census);
  if (census == NULL) goto fail;
  census->max_names = max_names;
  census->slot_count = CENSUS_SLOTS_LEAST;
  census->row_room = CENSUS_SLOTS_LEAST / 2;
  census->slots = mg__alloc(census->slot_count * sizeof *census->slots);
  if (census->slots == NULL) goto fail_census;
  census->rows = mg__alloc(census->row_room * sizeof *census->rows);
  if (census->rows == NULL) goto fail_slots;
  *out = census;
  return MG_OK;

fail_slots:
  mg__free(census->slots);
fail_census:
  mg__free(census);
fail:
  return mg__fail(err, MG_ENOMEM, "census table");
}

void mg_census_close(mg_census *census) {
  if (census == NULL) return;
  census_free_blocks(census);
  mg__free(census->rows);
  mg__free(census->slots);
  mg__free(census);
}

void mg_census_clear(mg_census *census) {
  census_free_blocks(census);
  memset(census->slots, 0, census->slot_count * sizeof *census->slots);
  census->row_count = 0;
  census->is_cut = false;
  census->other_count = census->other_bytes = 0;
}

static uint64_t census_sum(uint64_t a, uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* @return the row of `name`, made if need be; NULL if it finds no room. */
static census_row *census_row_of(mg_census *census, const char *name,
                                 size_t length) {
  uint64_t hash = census_hash(name, length);
  uint32_t *slot = census_slot(census, name, hash);
  const char *kept;

  if (*slot != 0) return &census->rows[*slot - 1];
  if (census->row_count >= census->max_names || !census_grow(census))
    return NULL;
  kept = census_keep(census, name, length);
  if (kept == NULL) return NULL;
  census->rows[census->row_count++] = (census_row){.name = kept, .hash = hash};
  *census_slot(census, name, hash) = (uint32_t)census->row_count;
  return &census->rows[census->row_count - 1];
}

void mg_census_add(mg_census *census, const char *name, uint64_t count,
                   uint64_t bytes) {
  char clean[MG_CENSUS_NAME_BYTES];
  size_t length = census_clean(clean, name);
  census_row *row = NULL;

  if (strcmp(clean, MG_CENSUS_OTHER) != 0)
    row = census_row_of(census, clean, length);
  if (row != NULL) {
    row->count = census_sum(row->count, count);
    row->bytes = census_sum(row->bytes, bytes);
    return;
  }
  census->is_cut = true;
  census->other_count = census_sum(census->other_count, count);
  census->other_bytes = census_sum(census->other_bytes, bytes);
}

size_t mg_census_size(const mg_census *census) {
  return census->row_count + (census->is_cut ? 1 : 0);
}

bool mg_census_at(const mg_census *census, size_t index, mg_census_row *out) {
  if (index < census->row_count) {
    const census_row *row = &census->rows[index];
    *out = (mg_census_row){row->name, row->count, row->bytes};
    return true;
  }
  if (index > census->row_count || !census->is_cut) return false;
  *out = (mg_census_row){MG_CENSUS_OTHER, census->other_count,
                         census->other_bytes};
  return true;
}

bool mg_census_find(const mg_census *census, const char *name,
                    mg_census_row *out) {
  char clean[MG_CENSUS_NAME_BYTES];
  size_t length = census_clean(clean, name), index = census->row_count;
  mg_census_row row;

  if (strcmp(clean, MG_CENSUS_OTHER) != 0) {
    uint32_t slot = *census_slot(census, clean, census_hash(clean, length));
    if (slot == 0) return false;
    index = slot - 1;
  }
  return mg_census_at(census, index, out != NULL ? out : &row);
}

bool mg_census_is_cut(const mg_census *census) {
  return census->is_cut;
}

/* ---- difference ------------------------------------------------------------ */

static int64_t census_growth(uint64_t before, uint64_t after) {
  uint64_t apart = after > before ? after - before : before - after;
  int64_t growth = apart > INT64_MAX ? INT64_MAX : (int64_t)apart;

  return after > before ? growth : -growth;
}

static bool census_is_worse(const mg_culprit *a, const mg_culprit *b,
                            mg_census_by by) {
  int64_t left = by == MG_CENSUS_BY_BYTES ? a->growth_bytes : a->growth;
  int64_t right = by == MG_CENSUS_BY_BYTES ? b->growth_bytes : b->growth;

  return left != right ? left > right : strcmp(a->name, b->name) < 0;
}

/* Puts `culprit` in its place among the worst so far. @return how many there are. */
static size_t census_rank(mg_culprit *out, size_t count, size_t max,
                          const mg_culprit *culprit, mg_census_by by) {
  size_t at = count;

  if (max == 0) return 0;
  if (count == max) {
    if (!census_is_worse(culprit, &out[max - 1], by)) return count;
    at = max - 1;
  } else {
    count++;
  }
  for (; at > 0 && census_is_worse(culprit, &out[at - 1], by); at--)
    out[at] = out[at - 1];
  out[at] = *culprit;
  return count;
}

size_t mg_census_diff(const mg_census *before, const mg_census *after,
                      mg_culprit_kind kind, mg_census_by by, mg_culprit *out,
                      size_t max) {
  double whole = 0.0;
  size_t found = 0;
  mg_census_row now, then;

  for (size_t i = 0; mg_census_at(after, i, &now); i++) {
    bool is_other = i == after->row_count;
    mg_culprit culprit = {.kind = kind, .count = now.count};
    if (!mg_census_find(before, now.name, &then))
      then = (mg_census_row){NULL, before->other_count, before->other_bytes};
    culprit.growth = census_growth(then.count, now.count);
    culprit.growth_bytes = census_growth(then.bytes, now.bytes);
    int64_t growth =
        by == MG_CENSUS_BY_BYTES ? culprit.growth_bytes : culprit.growth;
    if (growth <= 0) continue;
    whole += (double)growth;
    if (is_other) continue;
    memcpy(culprit.name, now.name, strlen(now.name) + 1);
    found = census_rank(out, found, max, &culprit, by);
  }
  for (size_t i = 0; i < found; i++)
    out[i].share = (double)(by == MG_CENSUS_BY_BYTES ? out[i].growth_bytes
                                                     : out[i].growth) /
                   whole;
  return found;
}

const char *mg_culprit_name(mg_culprit_kind kind) {
  static const char *const names[] = {
#define CENSUS_NAME(id, name) name,
      MG_CULPRIT_MAP(CENSUS_NAME)
#undef CENSUS_NAME
  };
  return (unsigned)kind < MG_CULPRITS ? names[kind] : "unknown";
}
