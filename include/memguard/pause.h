/* memguard/pause.h - every garbage collection, recorded without a lock.
 *
 * One recorder per heap (an interpreter, an isolate). Recording is a few plain
 * additions on atomics: no lock, no allocation, no call out, so it may happen
 * inside a runtime's collection callback. Pauses go into a histogram of 16
 * steps per power of two from 1 us to 137 s: a quantile is at most 6.25 % above
 * the truth and never below it; count, total and maximum are exact.
 *
 * A plain P95 over collections misleads where many tiny collections hide few
 * long ones. So the longest pause of each second is kept as well, and
 * mg_pauses_seconds() gives the quantile over seconds of the longest pause.
 *
 * Source of the histogram: G. Tene's HdrHistogram.
 *
 * Threads: one thread records at a time (a heap is collected by one thread at a
 * time); any thread reads at any time. */
#ifndef MEMGUARD_PAUSE_H
#define MEMGUARD_PAUSE_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_PAUSE_KINDS 8u      /* generations or kinds of one recorder */
#define MG_PAUSE_SECONDS 1024u /* seconds whose longest pause is kept */
#define MG_PAUSE_EVENTS 256u   /* last collections kept one by one */

typedef struct mg_pauses mg_pauses;

/** One collection. */
typedef struct mg_pause {
  uint64_t number;    /* 1 for a recorder's first */
  uint64_t began_ns;  /* monotonic clock */
  uint64_t wall_ns;   /* from start to end, finalizers included */
  uint64_t cpu_ns;    /* of the collecting thread; MG_ABSENT if not measured */
  uint64_t collected; /* objects freed; MG_ABSENT if the runtime does not tell */
  uint32_t kind;      /* generation or kind, below MG_PAUSE_KINDS */
} mg_pause;

/** What one kind, or all kinds together, did so far. */
typedef struct mg_pause_stats {
  uint64_t count;
  uint64_t wall_ns, cpu_ns; /* totals */
  uint64_t collected;       /* total of what was told */
  uint64_t p50_ns, p95_ns, p99_ns, max_ns, last_ns; /* wall; 0 if none */
} mg_pause_stats;

/** @param out [owned] release with mg_pauses_close(). @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_pauses_open(mg_pauses **out, mg_error *err);
/** NULL is allowed. Nothing may record any more. */
MG_API void mg_pauses_close(mg_pauses *pauses);

/** Records one collection; `pause->number` is given by the recorder. A kind of
 *  MG_PAUSE_KINDS or more counts as the last one. Some 20 ns. */
MG_API void mg_pauses_record(mg_pauses *pauses, const mg_pause *pause);

/** @param kind MG_PAUSE_KINDS: all together. */
MG_API void mg_pauses_read(const mg_pauses *pauses, uint32_t kind,
                           mg_pause_stats *out);
/** @return collections recorded, of all kinds. */
MG_API uint64_t mg_pauses_count(const mg_pauses *pauses);

/** Copies the newest collections after number `after`, oldest first, at most
 *  `max` of them; what has been overwritten meanwhile is left out.
 *  @return how many. */
MG_API size_t mg_pauses_events(const mg_pauses *pauses, uint64_t after,
                               mg_pause *out, size_t max);

/** Quantile (0 to 1) over the last `seconds` whole seconds before `now_ns` of
 *  the longest pause in each; a second without a collection counts as 0.
 *  @param seconds 1 to MG_PAUSE_SECONDS - 1, held inside. @return ns. */
MG_API uint64_t mg_pauses_seconds(const mg_pauses *pauses, uint64_t now_ns,
                                  uint32_t seconds, double quantile);

#ifdef __cplusplus
}
#endif
#endif
