/* memguard/recycle.h - when a worker of a service should make room for a new one.
 *
 * A worker that needs more memory than it should is replaced, not killed: it
 * finishes what it is at and ends, and its service starts another. It is due
 * once its resident set was over the limit
 *
 *   in every reading of the last sustain_ms: a peak is no reason;
 *   for spread * jitter_ms more, spread being each worker's own share, drawn
 *     once: workers that fill alike do not leave together;
 *   and the worker is min_age_ms old: where even a new one is over its limit,
 *     the service does not spend its time on starting workers.
 *
 * Readings that are not known neither make it due nor begin anew; a clock that
 * goes back begins anew.
 *
 * Threads: pure functions; one state belongs to one thread at a time. */
#ifndef MEMGUARD_RECYCLE_H
#define MEMGUARD_RECYCLE_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The longest of each time. */
#define MG_RECYCLE_MAX_MS 86400000.0

/** X(ID, name) */
#define MG_RECYCLE_MAP(X) \
  X(KEEP, "keep")         \
  X(OVER, "over")         \
  X(DUE, "due")

/** KEEP: not over its limit, as far as known. OVER: not for long enough. DUE: it
 *  should end after what it is at. */
typedef enum mg_recycle_verdict {
#define MG_RECYCLE_ENUM(id, name) MG_RECYCLE_##id,
  MG_RECYCLE_MAP(MG_RECYCLE_ENUM)
#undef MG_RECYCLE_ENUM
      MG_RECYCLE_VERDICTS
} mg_recycle_verdict;

typedef struct mg_recycle_options {
  size_t struct_bytes;  /* sizeof(mg_recycle_options), set by the macro below */
  uint64_t limit_bytes; /* resident set; at least 1 */
  double sustain_ms, jitter_ms, min_age_ms; /* 0 to MG_RECYCLE_MAX_MS */
  double spread; /* 0 to 1: this worker's share of jitter_ms */
} mg_recycle_options;
#define MG_RECYCLE_OPTIONS_INIT \
  {sizeof(mg_recycle_options), 0, 30000.0, 30000.0, 60000.0, 0.0}

typedef struct mg_recycle {
  mg_recycle_options options;
  double born_ms, over_ms, last_ms; /* over_ms counts if is_over */
  bool is_over;
} mg_recycle;

/** Begins to judge a worker.
 *  @param now_ms when it began, of any monotonic origin.
 *  @return MG_OK, MG_EINVAL (foreign struct size), MG_ERANGE (the error names the
 *  option, its value and its range); then `out` is unchanged. */
MG_API mg_status mg_recycle_init(mg_recycle *out,
                                 const mg_recycle_options *options,
                                 double now_ms, mg_error *err);
/** Takes in a reading. @param rss_bytes or MG_ABSENT. */
MG_API mg_recycle_verdict mg_recycle_offer(mg_recycle *recycle,
                                           uint64_t rss_bytes, double now_ms);
/** @return "keep" and so on; "unknown" for a foreign value. */
MG_API const char *mg_recycle_verdict_name(mg_recycle_verdict verdict);

#ifdef __cplusplus
}
#endif
#endif
