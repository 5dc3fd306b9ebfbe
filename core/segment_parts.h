/* segment_parts.h - what the files that write and read segments have in common. */
#ifndef MG_CORE_SEGMENT_PARTS_H
#define MG_CORE_SEGMENT_PARTS_H

#include <stddef.h>

#include "internal.h"
#include "memguard/segment.h"
#include "os.h"

_Static_assert(sizeof(mg_segment_layout) == 139360, "layout of version 2");
_Static_assert(sizeof(mg_segment_header) == 800, "layout of version 2");
_Static_assert(sizeof(mg_alert) == 256, "layout of version 2");
_Static_assert(offsetof(mg_segment_layout, second) % 8 == 0, "aligned");

/* What the published things begin with: number, then check. */
#define MG__SEGMENT_PREFIX_BYTES 16u

/** CRC-32 (IEEE 802.3), as of zlib. */
uint32_t mg__segment_crc(const void *data, size_t bytes);
/** Name of the file of a process; MG_SEGMENT_NAME_BYTES. */
void mg__segment_name(char *out, const char *boot_id, uint64_t pid_namespace,
                      uint32_t pid, uint64_t start_time);
/** Whether a name is of that form. */
bool mg__segment_is_name(const char *name);
/** Copies a text into a field, cut off between characters, the rest zero. */
void mg__segment_copy_text(char *out, size_t out_bytes, const char *text);

/* ---- segment.c ---------------------------------------------------------- */

typedef struct mg__segment_texts {
  char runtime[16], runtime_version[32], program[64];
  char kind[MG_PAUSE_KINDS][24];
  uint32_t phase_kinds;
} mg__segment_texts;

typedef struct mg__reaper mg__reaper;

/** What this process publishes. */
typedef struct mg__publisher {
  mg__mutex tick_lock; /* held while a tick works, before all others here */

  /* The lock's. */
  mg__mutex lock;
  mg__segment_texts texts;
  mg__os_shared shared;
  char path[MG_SEGMENT_PATH_BYTES]; /* empty: no file yet */
  bool is_shared; /* `map`, if there is one, is that file */
  char directory[MG_SEGMENT_PATH_BYTES];
  mg_error problem;
  bool told_problem;
  uint64_t note_number, types_number, last_round_ms, last_round;

  /* Anybody's. */
  _Atomic(mg_segment_layout *) map; /* NULL: nothing is published */
  _Atomic bool has_problem;
  _Atomic uint64_t gc_number, rounds, freed_bytes, alerts;
  _Atomic int64_t unix_offset_ns; /* wall clock - monotonic clock */

  /* The sampler thread's. */
  mg_sample sample; /* of this pass; number 0: none */
  double max_memory_mb, max_heap_mb, interval_ms;
  uint64_t marks;
  bool is_wanted, is_file_wanted;
  uint32_t phase_kinds; /* of the open file */
  uint64_t own_cpu_us, thread_cpu_us;
  uint64_t number, second_number, minute_number, group_number;
  uint64_t last_second, last_minute;
  mg_segment_point highest; /* of this minute */
  mg__pools_total pools;
  mg__reaper *reaper;
  double tick_due_ms, open_due_ms, watch_due_ms, reap_due_ms;
  char group_path[384]; /* as shown in the file */
  char wanted_group[384];
  const mg__os *group_os; /* which reader told, */
  uint32_t group_epoch;   /* and when */
} mg__publisher;

extern mg__publisher mg__self;

/** Where OOM kills of the process are counted, if that changed. The sampler
 *  thread. @param os [borrowed, may be NULL] */
void mg__segment_follow_group(const mg__os *os);

static inline mg_segment_layout *mg__segment_map(void) {
  return atomic_load_explicit(&mg__self.map, memory_order_acquire);
}

/** Fills a header from what was told of this process. The lock is held. */
void mg__segment_fill_header(mg_segment_header *out,
                             const mg__os_identity *who);

/** Writes `whole`, whose number is set, over `out`. A process that is killed in
 *  between leaves a wrong check. */
void mg__segment_write(void *out, void *whole, size_t bytes);

/* ---- segment_read.c ----------------------------------------------------- */

struct mg_segment {
  mg__file file;        /* fd -1: bytes in memory */
  const uint8_t *bytes; /* of those */
  bool is_live;         /* they are being written by this process */
  void *owned;          /* freed with it; may be NULL */
  size_t count;
  mg_segment_header header;
};

/** Takes a descriptor, also on failure. As mg_segment_open(). */
mg_status mg__segment_open_file(mg_segment *out, mg__file file,
                                mg_error *err);

/** A number of a file that stands for one of `count` names. */
static inline uint32_t mg__segment_held(uint32_t value, uint32_t count,
                                        uint32_t otherwise) {
  return value < count ? value : otherwise;
}

/** Reads the two halves, `bytes` each, of a part at `at`; tries again where both are
 *  torn. @return the half that is current, or -1. */
int mg__segment_halves(mg_segment *segment, void *halves, size_t bytes,
                       size_t at);
/** Copies out of a segment. @return whether all of it is there. */
bool mg__segment_copy(const mg_segment *segment, void *out, size_t bytes,
                      size_t offset);

/* ---- segment_window.c --------------------------------------------------- */

/** Counters of all kinds of collections, and of `bucket` unless it is NULL.
 *  @return false if the file is cut off. */
bool mg__segment_read_gc(mg_segment *segment, mg_segment_gc gc[MG_PAUSE_KINDS],
                         uint32_t bucket[][MG_SEGMENT_BUCKETS]);
/** Points by the second not older than `window_ms` before the newest, oldest first:
 *  at most `max` of them, evenly from all. @return how many. */
size_t mg__segment_thin_points(mg_segment *segment, uint64_t window_ms,
                               mg_segment_point *out, size_t max);

/* ---- segment_alert.c ---------------------------------------------------- */

/** Shows what there is in a new file. The lock is held. */
void mg__segment_begin_alerts(mg_segment_layout *map);
/** Ends what `owner` shows as firing; NULL: forgets all (the lock is held then). */
void mg__segment_forget_alerts(const void *owner);
/** Changes of the alerts of `owner`, oldest first. */
void mg__segment_note_alerts(const void *owner, const mg_alert *changes,
                             size_t count);

/* ---- segment_reap.c ----------------------------------------------------- */

/** Looks through a directory in steps.
 *  @return MG_OK, MG_ENOTFOUND (no directory), MG_ENOMEM, MG_ESYS. */
mg_status mg__reaper_open(mg__reaper **out, const char *directory,
                          double keep_ms, size_t keep, mg_error *err);
/** Looks at `names` more. @return false when it is through. */
bool mg__reaper_step(mg__reaper *reaper, uint32_t names,
                     mg_segment_reaped *counts);
/** Whether the run of this program before this one, which has just begun, ended out
 *  of memory. @param out_usage at its end. */
bool mg__reaper_has_previous(const mg__reaper *reaper, double *out_usage);
void mg__reaper_close(mg__reaper *reaper);

#endif
