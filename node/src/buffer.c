/* buffer.c - sizes and statistics of the host's arrays, by number.
 *
 * JS knows a buffer of a manager by the number of its slot. Whether one should
 * be flushed is answered in JS, from thresholds that bufferReadThresholds()
 * copies whenever the page's generation has changed. */
#include "memguard_node.h"

#include <stdlib.h>

/* ---- slots ---------------------------------------------------------------- */

/* @return a free slot, or buffer_slots without memory for one more. */
static size_t buffer_free_slot(mgn_manager *self) {
  size_t slot = 0, more;
  mg_buffer **grown;

  while (slot < self->buffer_slots && self->buffers[slot] != NULL) slot++;
  if (slot < self->buffer_slots) return slot;
  more = self->buffer_slots == 0 ? 8 : 2 * self->buffer_slots;
  grown = realloc(self->buffers, more * sizeof *grown);
  if (grown == NULL) return slot;
  for (size_t i = slot; i < more; i++) grown[i] = NULL;
  self->buffers = grown;
  self->buffer_slots = more;
  return slot;
}

/* The buffer that arguments `v` = (manager, slot) name. Throws. */
static mg_buffer *buffer_of(napi_env env, napi_value *v, mgn_manager **out) {
  uint64_t slot;

  *out = mgn_manager_of(env, v[0]);
  if (*out == NULL || !mgn_count_of(env, v[1], &slot)) return NULL;
  if (slot < (*out)->buffer_slots && (*out)->buffers[slot] != NULL)
    return (*out)->buffers[slot];
  mgn_throw_text(env, MG_ENOTFOUND, "no such buffer");
  return NULL;
}

/* ---- interface ------------------------------------------------------------ */

/* bufferAdd(manager, name) -> slot */
static napi_value buffer_add(napi_env env, napi_callback_info info) {
  char name[4 * MG_BUFFER_NAME_BYTES];
  mg_error err = MG_ERROR_INIT;
  mgn_manager *self;
  mg_buffer *buffer;
  napi_value v[2];
  size_t slot;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL ||
      !mgn_text_of(env, v[1], "the name of a buffer", name, sizeof name))
    return NULL;
  slot = buffer_free_slot(self);
  if (slot == self->buffer_slots)
    return mgn_throw_text(env, MG_ENOMEM, "no memory for one more buffer");
  if (mg_buffers_add(&buffer, mg_manager_buffers(self->core), name, &err) !=
      MG_OK)
    return mgn_throw(env, &err);
  self->buffers[slot] = buffer;
  return mgn_number(env, (double)slot);
}

/* bufferDrop(manager, slot) */
static napi_value buffer_drop(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  mg_buffer *buffer;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  buffer = buffer_of(env, v, &self);
  if (buffer == NULL) return NULL;
  for (size_t slot = 0; slot < self->buffer_slots; slot++)
    if (self->buffers[slot] == buffer) self->buffers[slot] = NULL;
  mg_buffers_drop(mg_manager_buffers(self->core), buffer);
  return mgn_undefined(env);
}

/* bufferFlushed(manager, slot, items) */
static napi_value buffer_flushed(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  mg_buffer *buffer;
  uint64_t items;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  buffer = buffer_of(env, v, &self);
  if (buffer == NULL || !mgn_count_of(env, v[2], &items)) return NULL;
  mg_buffer_flushed(buffer, items);
  return mgn_undefined(env);
}

/* bufferShouldFlushAt(manager, slot, length, pressure) -> boolean */
static napi_value buffer_should_flush_at(napi_env env,
                                         napi_callback_info info) {
  mgn_manager *self;
  mg_buffer *buffer;
  double pressure;
  uint64_t length;
  napi_value v[4];

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  buffer = buffer_of(env, v, &self);
  if (buffer == NULL || !mgn_count_of(env, v[2], &length) ||
      !mgn_number_of(env, v[3], &pressure))
    return NULL;
  return mgn_boolean(env, mg_buffer_should_flush_at(buffer, length, pressure));
}

/* buffersUpdate(manager, pressure): for buffers that no monitor drives */
static napi_value buffers_update(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  double pressure;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL || !mgn_number_of(env, v[1], &pressure)) return NULL;
  mg_buffers_update(mg_manager_buffers(self->core), pressure, mg_clock_ms());
  return mgn_undefined(env);
}

/* bufferStats(manager, slot, Float64Array out)
 * out: created_unix_ms, max_size_reached, flush_count, flushed_items,
 *      current_size, flush_at */
static napi_value buffer_stats(napi_env env, napi_callback_info info) {
  mg_buffer_stats stats;
  mgn_manager *self;
  mg_buffer *buffer;
  napi_value v[3];
  double *out;

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  buffer = buffer_of(env, v, &self);
  if (buffer == NULL) return NULL;
  out = mgn_doubles_of(env, v[2], 6, NULL);
  if (out == NULL) return NULL;
  mg_buffer_read_stats(buffer, &stats);
  out[0] = (double)stats.created_unix_ms;
  out[1] = (double)stats.max_size_reached;
  out[2] = (double)stats.flush_count;
  out[3] = (double)stats.flushed_items;
  out[4] = (double)stats.current_size;
  out[5] = (double)stats.flush_at;
  return mgn_undefined(env);
}

/* bufferReadThresholds(manager, Float64Array out): flush_at by slot */
static napi_value buffer_read_thresholds(napi_env env,
                                         napi_callback_info info) {
  mg_buffer_stats stats;
  mgn_manager *self;
  napi_value v[2];
  size_t count;
  double *out;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], 1, &count);
  if (out == NULL) return NULL;
  for (size_t slot = 0; slot < self->buffer_slots && slot < count; slot++) {
    if (self->buffers[slot] == NULL) continue;
    mg_buffer_read_stats(self->buffers[slot], &stats);
    out[slot] = (double)stats.flush_at;
  }
  return mgn_undefined(env);
}

/* ---- decisions ------------------------------------------------------------- */

/* Reads (config, size, pressure). */
static const mg_config *buffer_decision(napi_env env, napi_callback_info info,
                                        uint32_t *size, double *pressure) {
  const mg_config *config;
  uint64_t number;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL || !mgn_count_of(env, v[1], &number) ||
      !mgn_number_of(env, v[2], pressure))
    return NULL;
  if (number > UINT32_MAX) {
    mgn_throw_text(env, MG_ERANGE, "size is above 4294967295");
    return NULL;
  }
  *size = (uint32_t)number;
  return config;
}

static napi_value buffer_size_next(napi_env env, napi_callback_info info) {
  uint32_t size;
  double pressure;
  const mg_config *config = buffer_decision(env, info, &size, &pressure);

  if (config == NULL) return NULL;
  return mgn_number(env, mg_buffer_size_next(size, pressure, config));
}

static napi_value buffer_flush_at(napi_env env, napi_callback_info info) {
  uint32_t size;
  double pressure;
  const mg_config *config = buffer_decision(env, info, &size, &pressure);

  if (config == NULL) return NULL;
  return mgn_number(env, mg_buffer_flush_at(size, pressure, config));
}

napi_status mgn_buffer_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"bufferAdd", buffer_add},
      {"bufferDrop", buffer_drop},
      {"bufferFlushed", buffer_flushed},
      {"bufferShouldFlushAt", buffer_should_flush_at},
      {"buffersUpdate", buffers_update},
      {"bufferStats", buffer_stats},
      {"bufferReadThresholds", buffer_read_thresholds},
      {"bufferSizeNext", buffer_size_next},
      {"bufferFlushAt", buffer_flush_at}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
