/* memguard/buffer.h - how many items a host's buffer should hold.
 *
 * A buffer is the host's own list; the core knows its name, its target size and
 * statistics, never its items. Sizes follow the pressure:
 *   above 0.9 (full)            any content should be flushed; a resize brings
 *                               the size to min_buffer_size
 *   from pressure_threshold     half the size is enough to flush, but not less
 *                               than min_buffer_size; a resize halves the size
 *   below 3/4 of the threshold  a resize grows it by a quarter (at least 1)
 * Resizes happen at most once per MG_BUFFER_RESIZE_MS and buffer, only with
 * auto_resize, and stay inside min_buffer_size to max_buffer_size. A new buffer
 * does not grow in its first MG_BUFFER_RESIZE_MS.
 *
 * Threads: mg_buffer_size_* are pure. An mg_buffers table may be used from any
 * thread; mg_buffer_should_flush() takes no lock. */
#ifndef MEMGUARD_BUFFER_H
#define MEMGUARD_BUFFER_H

#include "memguard/config.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_BUFFER_FULL_PRESSURE 0.9
#define MG_BUFFER_RESIZE_MS 1000.0
#define MG_BUFFER_NAME_BYTES 256 /* longest name with its NUL, UTF-8 */

/** The size after one resize step at `pressure`. */
MG_API uint32_t mg_buffer_size_next(uint32_t size, double pressure,
                                    const mg_config *config);
/** The length from which a buffer of `size` should be flushed at `pressure`;
 *  at least 1: an empty buffer never needs a flush. */
MG_API uint32_t mg_buffer_flush_at(uint32_t size, double pressure,
                                   const mg_config *config);

typedef struct mg_buffers mg_buffers;
typedef struct mg_buffer mg_buffer;

typedef struct mg_buffer_stats {
  uint64_t created_unix_ms;
  uint64_t max_size_reached; /* longest length seen by a check or a flush */
  uint64_t flush_count;      /* flushes that took at least one item */
  uint64_t flushed_items;
  uint32_t current_size;     /* target size now */
  uint32_t flush_at;         /* length from which it should be flushed now */
} mg_buffer_stats;

/** @param out [owned] release with mg_buffers_close().
 *  @return MG_OK, MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_buffers_open(mg_buffers **out, const mg_config *config,
                                 mg_error *err);
/** Frees the table and every buffer in it. NULL is allowed. */
MG_API void mg_buffers_close(mg_buffers *buffers);

/** Adds a buffer of default_buffer_size.
 *  @param name [borrowed] UTF-8, 1 to 255 bytes, unique in the table.
 *  @param out  [borrowed] valid until mg_buffers_drop() or mg_buffers_close().
 *  @return MG_OK, MG_EEXISTS, MG_EINVAL (empty or too long), MG_ENOMEM. */
MG_API mg_status mg_buffers_add(mg_buffer **out, mg_buffers *buffers,
                                const char *name, mg_error *err);
MG_API void mg_buffers_drop(mg_buffers *buffers, mg_buffer *buffer);
MG_API size_t mg_buffers_count(const mg_buffers *buffers);

/** Applies a pressure to every buffer: flush thresholds at once, sizes at most
 *  once per MG_BUFFER_RESIZE_MS. A monitor does this on each sample. */
MG_API void mg_buffers_update(mg_buffers *buffers, double pressure,
                              double now_ms);
/** Puts new limits in force; sizes move inside them. */
MG_API void mg_buffers_configure(mg_buffers *buffers, const mg_config *config);

/** A number that changes whenever a flush threshold of the table may have
 *  changed, so that a binding can keep thresholds where its hot path sees them
 *  (a page of monitor.h carries it). */
MG_API uint32_t mg_buffers_generation(const mg_buffers *buffers);

/** Whether `length` items are enough to flush now. No lock, no call out. */
MG_API bool mg_buffer_should_flush(mg_buffer *buffer, uint64_t length);
/** The same for a pressure the caller names. */
MG_API bool mg_buffer_should_flush_at(mg_buffer *buffer, uint64_t length,
                                      double pressure);
/** Counts a flush of `items`. */
MG_API void mg_buffer_flushed(mg_buffer *buffer, uint64_t items);
MG_API void mg_buffer_read_stats(const mg_buffer *buffer, mg_buffer_stats *out);

#ifdef __cplusplus
}
#endif
#endif
