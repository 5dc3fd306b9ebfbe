/* buffer.c - target sizes and flush thresholds of the host's buffers.
 *
 * The table's lock guards the list and the sizes. Thresholds and statistics are
 * atomics, so that the host's hot path (should_flush) takes no lock while the
 * sampler changes thresholds under it. */
#include "memguard/buffer.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "internal.h"
#include "os.h"

struct mg_buffer {
  mg_buffer *next;
  mg_buffers *table;
  char *name;
  uint64_t created_unix_ms;
  double resized_ms; /* when the size last could move; NaN: never yet */
  _Atomic uint32_t size;
  _Atomic uint32_t flush_at;
  _Atomic uint64_t max_size_reached, flush_count, flushed_items;
};

struct mg_buffers {
  mg__mutex lock;
  mg_buffer *first;
  size_t count;
  mg_config config;
  double pressure;
  _Atomic uint32_t generation;
};

/* ---- decisions --------------------------------------------------------- */

static uint32_t buffer_limit(const mg_config *config, mg_config_id id) {
  return (uint32_t)mg_config_get(config, id);
}

static uint32_t buffer_clamp(uint32_t size, const mg_config *config) {
  uint32_t low = buffer_limit(config, MG_CONFIG_MIN_BUFFER_SIZE);
  uint32_t high = buffer_limit(config, MG_CONFIG_MAX_BUFFER_SIZE);

  return size < low ? low : size > high ? high : size;
}

uint32_t mg_buffer_size_next(uint32_t size, double pressure,
                             const mg_config *config) {
  double threshold = mg_config_get(config, MG_CONFIG_PRESSURE_THRESHOLD);

  if (mg_config_get(config, MG_CONFIG_AUTO_RESIZE) == 0) return size;
  if (pressure > MG_BUFFER_FULL_PRESSURE) size = 0;
  else if (pressure >= threshold) size /= 2;
  else if (pressure < 0.75 * threshold) size += size / 4 > 0 ? size / 4 : 1;
  return buffer_clamp(size, config);
}

uint32_t mg_buffer_flush_at(uint32_t size, double pressure,
                            const mg_config *config) {
  uint32_t low = buffer_limit(config, MG_CONFIG_MIN_BUFFER_SIZE);
  uint32_t at = size;

  if (pressure > MG_BUFFER_FULL_PRESSURE) return 1;
  if (pressure >= mg_config_get(config, MG_CONFIG_PRESSURE_THRESHOLD)) {
    at = size / 2;
    if (at < low) at = low < size ? low : size;
  }
  return at > 0 ? at : 1;
}

/* ---- the table --------------------------------------------------------- */

mg_status mg_buffers_open(mg_buffers **out, const mg_config *config,
                          mg_error *err) {
  mg_buffers *table = mg__alloc(sizeof *table);
  mg_status st;

  *out = NULL;
  if (table == NULL)
    return mg__fail(err, MG_ENOMEM, "buffer table, %zu bytes", sizeof *table);
  st = mg__mutex_init(&table->lock, err);
  if (st != MG_OK) goto fail_table;
  table->config = *config;
  *out = table;
  return MG_OK;

fail_table:
  mg__free(table);
  return st;
}

static void buffer_free(mg_buffer *buffer) {
  mg__free(buffer->name);
  mg__free(buffer);
}

void mg_buffers_close(mg_buffers *table) {
  if (table == NULL) return;
  while (table->first != NULL) {
    mg_buffer *buffer = table->first;
    table->first = buffer->next;
    buffer_free(buffer);
  }
  mg__mutex_destroy(&table->lock);
  mg__free(table);
}

/* Caller holds the lock. @return whether the threshold moved. */
static bool buffer_apply(mg_buffers *table, mg_buffer *buffer) {
  uint32_t size = atomic_load_explicit(&buffer->size, memory_order_relaxed);
  uint32_t at = mg_buffer_flush_at(size, table->pressure, &table->config);

  return atomic_exchange_explicit(&buffer->flush_at, at,
                                  memory_order_relaxed) != at;
}

static void buffer_announce(mg_buffers *table) {
  atomic_fetch_add_explicit(&table->generation, 1, memory_order_release);
}

static bool buffer_is_known(const mg_buffers *table, const char *name) {
  for (const mg_buffer *b = table->first; b != NULL; b = b->next)
    if (strcmp(b->name, name) == 0) return true;
  return false;
}

static mg_status buffer_open(mg_buffer **out, mg_buffers *table,
                             const char *name, mg_error *err) {
  mg_buffer *buffer = mg__alloc(sizeof *buffer);

  *out = NULL;
  if (buffer == NULL)
    return mg__fail(err, MG_ENOMEM, "buffer, %zu bytes", sizeof *buffer);
  buffer->name = mg__strdup(name);
  if (buffer->name == NULL) goto fail_buffer;
  buffer->table = table;
  buffer->created_unix_ms = mg__os_unix_ms();
  buffer->resized_ms = NAN;
  *out = buffer;
  return MG_OK;

fail_buffer:
  mg__free(buffer);
  return mg__fail(err, MG_ENOMEM, "name of a buffer");
}

mg_status mg_buffers_add(mg_buffer **out, mg_buffers *table, const char *name,
                         mg_error *err) {
  size_t bytes = strlen(name);
  mg_buffer *buffer;
  mg_status st;

  *out = NULL;
  if (bytes == 0 || bytes >= MG_BUFFER_NAME_BYTES)
    return mg__fail(err, MG_EINVAL,
                    "name of a buffer has %zu bytes, allowed: 1 to %d", bytes,
                    MG_BUFFER_NAME_BYTES - 1);
  st = buffer_open(&buffer, table, name, err);
  if (st != MG_OK) return st;
  mg__lock(&table->lock);
  if (buffer_is_known(table, name)) {
    mg__unlock(&table->lock);
    buffer_free(buffer);
    return mg__fail(err, MG_EEXISTS, "buffer \"%s\" exists already", name);
  }
  buffer->size = buffer_clamp(
      buffer_limit(&table->config, MG_CONFIG_DEFAULT_BUFFER_SIZE),
      &table->config);
  buffer_apply(table, buffer);
  buffer->next = table->first;
  table->first = buffer;
  table->count++;
  buffer_announce(table);
  mg__unlock(&table->lock);
  *out = buffer;
  return MG_OK;
}

void mg_buffers_drop(mg_buffers *table, mg_buffer *buffer) {
  mg_buffer **at;

  mg__lock(&table->lock);
  for (at = &table->first; *at != buffer; at = &(*at)->next) {
  }
  *at = buffer->next;
  table->count--;
  buffer_announce(table);
  mg__unlock(&table->lock);
  buffer_free(buffer);
}

size_t mg_buffers_count(const mg_buffers *table) {
  mg__mutex *lock = (mg__mutex *)&table->lock;
  size_t count;

  mg__lock(lock);
  count = table->count;
  mg__unlock(lock);
  return count;
}

/* Caller holds the lock. */
static void buffer_apply_all(mg_buffers *table) {
  bool moved = false;

  for (mg_buffer *b = table->first; b != NULL; b = b->next)
    moved |= buffer_apply(table, b);
  if (moved) buffer_announce(table);
}

/* Shrinking is never put off. Growth waits MG_BUFFER_RESIZE_MS, also after the
 * buffer was made, so that a new buffer starts out at its default size. */
static void buffer_resize(mg_buffer *b, const mg_config *config,
                          double pressure, double now_ms) {
  uint32_t next = mg_buffer_size_next(b->size, pressure, config);
  bool first = isnan(b->resized_ms), back = now_ms < b->resized_ms;
  bool due = first || back || now_ms - b->resized_ms >= MG_BUFFER_RESIZE_MS;

  if (!due) return;
  b->resized_ms = now_ms;
  if (next < b->size || !(first || back)) b->size = next;
}

void mg_buffers_update(mg_buffers *table, double pressure, double now_ms) {
  mg__lock(&table->lock);
  table->pressure = pressure;
  for (mg_buffer *b = table->first; b != NULL; b = b->next)
    buffer_resize(b, &table->config, pressure, now_ms);
  buffer_apply_all(table);
  mg__unlock(&table->lock);
}

void mg_buffers_configure(mg_buffers *table, const mg_config *config) {
  mg__lock(&table->lock);
  table->config = *config;
  for (mg_buffer *b = table->first; b != NULL; b = b->next)
    b->size = buffer_clamp(b->size, config);
  buffer_apply_all(table);
  mg__unlock(&table->lock);
}

uint32_t mg_buffers_generation(const mg_buffers *table) {
  return atomic_load_explicit(&table->generation, memory_order_acquire);
}

void mg__buffers_before_fork(mg_buffers *table) { mg__lock(&table->lock); }

void mg__buffers_after_fork(mg_buffers *table) { mg__unlock(&table->lock); }

/* ---- one buffer -------------------------------------------------------- */

static void buffer_note_length(mg_buffer *b, uint64_t length) {
  /* Two threads may race here; a maximum that is a moment late does no harm. */
  if (length > atomic_load_explicit(&b->max_size_reached, memory_order_relaxed))
    atomic_store_explicit(&b->max_size_reached, length, memory_order_relaxed);
}

bool mg_buffer_should_flush(mg_buffer *b, uint64_t length) {
  buffer_note_length(b, length);
  return length >= atomic_load_explicit(&b->flush_at, memory_order_relaxed);
}

bool mg_buffer_should_flush_at(mg_buffer *b, uint64_t length, double pressure) {
  uint32_t at;

  buffer_note_length(b, length);
  mg__lock(&b->table->lock);
  at = mg_buffer_flush_at(b->size, pressure, &b->table->config);
  mg__unlock(&b->table->lock);
  return length >= at;
}

void mg_buffer_flushed(mg_buffer *b, uint64_t items) {
  if (items == 0) return;
  buffer_note_length(b, items);
  atomic_fetch_add_explicit(&b->flush_count, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&b->flushed_items, items, memory_order_relaxed);
}

void mg_buffer_read_stats(const mg_buffer *b, mg_buffer_stats *out) {
  *out = (mg_buffer_stats){b->created_unix_ms, b->max_size_reached,
                           b->flush_count,     b->flushed_items,
                           b->size,            b->flush_at};
}
