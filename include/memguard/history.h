/* memguard/history.h - the last samples, bounded.
 *
 * A ring: the newest sample replaces the oldest once `capacity` is reached.
 * Memory is taken at once and touched only as the ring fills.
 *
 * Threads: the caller's lock; a monitor brings its own. */
#ifndef MEMGUARD_HISTORY_H
#define MEMGUARD_HISTORY_H

#include "memguard/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mg_history mg_history;

/** @param out [owned] release with mg_history_close().
 *  @param capacity samples kept, 1 to 100 000.
 *  @return MG_OK, MG_ERANGE, MG_ENOMEM. */
MG_API mg_status mg_history_open(mg_history **out, size_t capacity,
                                 mg_error *err);
/** NULL is allowed. */
MG_API void mg_history_close(mg_history *history);

/** Takes a sample in; the oldest goes when there is no room. */
MG_API void mg_history_add(mg_history *history, const mg_sample *sample);
/** @return samples held. */
MG_API size_t mg_history_count(const mg_history *history);
/** @return samples dropped to make room since it was opened or emptied. */
MG_API uint64_t mg_history_dropped(const mg_history *history);
/** @return sample `index` [borrowed until the next add], 0 = oldest; NULL
 *  beyond the end. */
MG_API const mg_sample *mg_history_at(const mg_history *history, size_t index);
MG_API void mg_history_clear(mg_history *history);

/** Changes the capacity and keeps the newest samples that fit. On failure
 *  nothing has changed.
 *  @return MG_OK, MG_ERANGE, MG_ENOMEM. */
MG_API mg_status mg_history_resize(mg_history *history, size_t capacity,
                                   mg_error *err);

#ifdef __cplusplus
}
#endif
#endif
