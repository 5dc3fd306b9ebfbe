/* history.c - ring of samples.
 *
 *   ring   [ s7 | s8 | s4 | s5 | s6 ]      next = 2, count = 5 = capacity
 *   index    3    4    0    1    2         0 = oldest */
#include "memguard/history.h"

#include <string.h>

#include "internal.h"

#define HISTORY_MAX 100000u

struct mg_history {
  mg_sample *ring;
  size_t capacity, next, count;
  uint64_t dropped;
};

static mg_status history_take(mg_sample **out, size_t capacity, mg_error *err) {
  *out = NULL;
  if (capacity < 1 || capacity > HISTORY_MAX)
    return mg__fail(err, MG_ERANGE,
                    "history of %zu samples, allowed: 1 to %u", capacity,
                    HISTORY_MAX);
  *out = mg__alloc_untouched(capacity * sizeof **out);
  if (*out == NULL)
    return mg__fail(err, MG_ENOMEM, "history, %zu bytes",
                    capacity * sizeof **out);
  return MG_OK;
}

mg_status mg_history_open(mg_history **out, size_t capacity, mg_error *err) {
  mg_history *history = mg__alloc(sizeof *history);
  mg_status st;

  *out = NULL;
  if (history == NULL)
    return mg__fail(err, MG_ENOMEM, "history header, %zu bytes",
                    sizeof *history);
  st = history_take(&history->ring, capacity, err);
  if (st != MG_OK) goto fail_header;
  history->capacity = capacity;
  *out = history;
  return MG_OK;

fail_header:
  mg__free(history);
  return st;
}

void mg_history_close(mg_history *history) {
  if (history == NULL) return;
  mg__free(history->ring);
  mg__free(history);
}

void mg_history_add(mg_history *h, const mg_sample *sample) {
  h->ring[h->next] = *sample;
  h->next = (h->next + 1) % h->capacity;
  if (h->count < h->capacity)
    h->count++;
  else
    h->dropped++;
}

size_t mg_history_count(const mg_history *history) { return history->count; }

uint64_t mg_history_dropped(const mg_history *history) {
  return history->dropped;
}

const mg_sample *mg_history_at(const mg_history *h, size_t index) {
  if (index >= h->count) return NULL;
  return &h->ring[(h->next + h->capacity - h->count + index) % h->capacity];
}

void mg_history_clear(mg_history *history) {
  history->next = history->count = 0;
  history->dropped = 0;
}

mg_status mg_history_resize(mg_history *h, size_t capacity, mg_error *err) {
  size_t kept = h->count < capacity ? h->count : capacity;
  mg_sample *ring;
  mg_status st;

  if (capacity == h->capacity) return MG_OK;
  st = history_take(&ring, capacity, err);
  if (st != MG_OK) return st;
  for (size_t i = 0; i < kept; i++)
    ring[i] = *mg_history_at(h, h->count - kept + i);
  h->dropped += h->count - kept;
  mg__free(h->ring);
  h->ring = ring;
  h->capacity = capacity;
  h->count = kept;
  h->next = kept % capacity;
  return MG_OK;
}
