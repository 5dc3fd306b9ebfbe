/* metrics_parts.h - what the files of metrics have in common.
 *
 *   metrics_facts.c   reads and cleans: one mg__metrics_facts per process
 *   metrics_service.c sums over the processes of a program
 *   metrics_series.c  walks the table: one mg__metrics_series per time series
 *   metrics_text.c    writes them as text
 *   metrics.c         the table, and the doors */
#ifndef MG_CORE_METRICS_PARTS_H
#define MG_CORE_METRICS_PARTS_H

#include "internal.h"
#include "memguard/metrics.h"

/* A text of a segment with each bad byte replaced by the three of U+FFFD. */
#define MG__METRICS_CLEAN(bytes) (3u * (bytes))
#define MG__METRICS_PREFIX_BYTES 640u

/** A number as exact as it is known: units / 10^decimals. */
typedef struct mg__metrics_number {
  uint64_t units;
  uint32_t decimals; /* at most 9 */
  bool is_negative;
} mg__metrics_number;

double mg__metrics_value(const mg__metrics_number *number);

/** Who shows it: its labels, and how these look in a text. */
typedef struct mg__metrics_owner {
  mg_metrics_label label[3];
  uint32_t labels;
  char prefix[MG__METRICS_PREFIX_BYTES]; /* a="b",c="d" */
  size_t prefix_bytes;
} mg__metrics_owner;

/** Writes the prefix of its labels. */
void mg__metrics_prefix(mg__metrics_owner *owner);
/** Copies a text as UTF-8 without control characters. */
void mg__metrics_clean(char *out, size_t out_bytes, const char *text);

/* ---- metrics_facts.c ---------------------------------------------------- */

/** What is known of a process. Bytes are MG_ABSENT, reals NaN if unknown. */
typedef struct mg__metrics_facts {
  const mg_metrics_process *from; /* [borrowed] */
  mg__metrics_owner owner;
  bool has_sample, is_recorded; /* recorded: collections and the like count */
  bool has_kinds;               /* of collections */
  char pid[12];
  char program[MG__METRICS_CLEAN(64)], runtime[MG__METRICS_CLEAN(16)];
  char runtime_version[MG__METRICS_CLEAN(32)];
  char library_version[MG__METRICS_CLEAN(16)];
  char kind[MG_PAUSE_KINDS][MG__METRICS_CLEAN(24)]; /* "": not shown */
  uint64_t heap_alloc, heap_sys, heap_idle, heap_inuse, alloc, sys;
  double gc_share, growth_mb_per_minute;
  mg_segment_gc gc[MG_PAUSE_KINDS];
  mg_metrics_histogram pause[MG_PAUSE_KINDS];
  mg_segment_gc all_gc; /* without phases */
  mg_metrics_histogram all_pauses;
} mg__metrics_facts;

void mg__metrics_gather(mg__metrics_facts *out, const mg_metrics_process *from);
/** Name of a kind of collection as a label: "" if there is none of it. */
void mg__metrics_kind(char out[MG__METRICS_CLEAN(24)], const char *name,
                      uint32_t kind, uint64_t count);

/* ---- metrics_service.c -------------------------------------------------- */

typedef struct mg__metrics_service {
  mg__metrics_owner owner;
  char program[MG__METRICS_CLEAN(64)], runtime[MG__METRICS_CLEAN(16)];
  mg_segment_service total;
} mg__metrics_service;

/** Sums of all services of accumulators and processes. @param out [owned] release
 *  with mg__free(). @return MG_OK, MG_ENOMEM. */
mg_status mg__metrics_services(mg__metrics_service **out, size_t *out_count,
                               const mg_metrics_process *list, size_t count,
                               const mg_segment_service *services,
                               size_t service_count, mg_error *err);

/* ---- metrics_series.c --------------------------------------------------- */

typedef struct mg__metrics_series {
  mg_metric metric;
  size_t process; /* SIZE_MAX: none */
  const mg__metrics_owner *owner;
  mg_metrics_label extra[2];
  uint32_t extras;
  mg__metrics_number number; /* of a histogram its sum */
  const mg_metrics_histogram *histogram;
} mg__metrics_series;

/** @return whether to go on. */
typedef bool (*mg__metrics_visit)(void *ctx, const mg__metrics_series *series);

typedef struct mg__metrics_all {
  const mg__metrics_facts *facts;
  size_t count, omitted;
  const mg__metrics_service *services; /* NULL: nothing is said of them */
  size_t service_count;
  uint32_t groups;
} mg__metrics_all;

/** All series in the order of the table. */
void mg__metrics_walk(const mg__metrics_all *all, mg__metrics_visit visit,
                      void *ctx);
/** Gathers, walks, frees. As mg_metrics_each(). */
mg_status mg__metrics_tell(const mg_metrics_process *list, size_t count,
                           const mg_segment_service *services,
                           size_t service_count, uint32_t groups,
                           mg__metrics_visit visit, void *ctx, mg_error *err);

#endif
