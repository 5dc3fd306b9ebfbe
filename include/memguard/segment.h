/* memguard/segment.h - what a process shows of itself, and what outlives it.
 *
 * Every process with a running monitor publishes one file of sizeof(mg_segment_
 * layout) bytes in tmpfs: its present state, and a flight recorder that is still
 * there after a SIGKILL. Nobody asks the process for it: readers read the file.
 *
 *   directory  $MEMGUARD_DIR, else /dev/shm/memguard-<uid>; mode 0700
 *   file       <boot id, 32 hex digits>-<pid namespace>-<pid>-<start time>; 0600
 *   socket     the same name and ".sock", see control.h
 *   service-*  what the recorders of dead processes added up to, see below
 *
 * Layout, version 2. All numbers are little-endian (a machine that is not does
 * not publish) and naturally aligned; texts are UTF-8, NUL-terminated, cut off
 * where they do not fit.
 *
 *   header     written once, CRC-32 over what stands before the CRC
 *   life       single words, each whole by itself
 *   now[2]     the latest sample; number n is written to now[n % 2], so that one
 *              of both is whole at any time
 *   group[2]   as now: where OOM kills are counted
 *   gc         per generation or kind: totals, single words
 *   types[2]   as now: the types that grow most, while a leak is looked for
 *   note       ring of alerts and actions; number n at n % MG_SEGMENT_NOTES
 *   gc_event   ring of collections, in the same way
 *   second     ring of points, one a second at most
 *   minute     ring of points, the highest of each minute
 *   gc_bucket  histogram of pauses by kind: buckets of pause.h
 *   alerts[2]  as now: the alerts that fire, and those that did
 *
 * What changes as a whole has a sequence number and a check value in its first 16
 * bytes: check = mg_segment_check(whole, bytes). A reader copies first and then
 * looks at the check: torn, damaged and foreign content does not pass; of the
 * present it takes the other half, or tries again a bounded number of times.
 * Readers never map the file, so one that shrinks cannot hurt them.
 *
 * Life of a file. It appears whole (made under another name, locked, renamed)
 * and its writer holds an exclusive flock() until it stops. A process is dead if
 * that lock can be had and it is not found under its pid and start time; where its
 * pid means nothing (another namespace), if its heartbeat is stale as well. Dead
 * ones are looked through when a process starts publishing and every
 * MG_SEGMENT_REAP_MS: their counters are added to the accumulator of their
 * service (program and runtime) once, and the file is kept MG_SEGMENT_KEEP_MS, of
 * one with a clean exit MG_SEGMENT_KEEP_CLEAN_MS, at most MG_SEGMENT_KEEP of all.
 * A forked child leaves its parent's file alone and has one of its own.
 *
 * Prior art: JVM hsperfdata, Varnish VSM, VPP stats segment.
 *
 * Threads: writers' functions as they say; a reader belongs to one thread at a
 * time. */
#ifndef MEMGUARD_SEGMENT_H
#define MEMGUARD_SEGMENT_H

#include "memguard/alert.h"
#include "memguard/pause.h"
#include "memguard/reclaim.h"
#include "memguard/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_SEGMENT_MAGIC "MGSEG\r\n\x1a" /* 8 bytes, without a NUL */
#define MG_SEGMENT_VERSION 2u
#define MG_SEGMENT_BYTE_ORDER 0x01020304u

#define MG_SEGMENT_SECONDS 600u
#define MG_SEGMENT_MINUTES 360u
#define MG_SEGMENT_GC_EVENTS 256u
#define MG_SEGMENT_NOTES 64u
#define MG_SEGMENT_TYPES 16u
#define MG_SEGMENT_ALERTS 16u
#define MG_SEGMENT_READINGS 32u /* room; `readings` says how many are written */
#define MG_SEGMENT_BUCKETS 384u /* of one histogram */

#define MG_SEGMENT_REAP_MS 600000.0
#define MG_SEGMENT_KEEP_MS 21600000.0
#define MG_SEGMENT_KEEP_CLEAN_MS 600000.0
#define MG_SEGMENT_KEEP 64u
#define MG_SEGMENT_SERVICES 64u /* accumulators of one directory */

#define MG_SEGMENT_NAME_BYTES 96  /* of a file, with its NUL */
#define MG_SEGMENT_PATH_BYTES 4096
#define MG_SEGMENT_TYPE_BYTES 64

/* ---- layout ------------------------------------------------------------ */

/** 800 bytes at offset 0. Sizes are checked by the reader before all else. */
typedef struct mg_segment_header {
  char magic[8];
  uint32_t byte_order; /* MG_SEGMENT_BYTE_ORDER as the writer stores it */
  uint32_t version;
  uint32_t header_bytes, segment_bytes;
  uint32_t pid, uid;
  uint64_t pid_namespace;  /* inode of /proc/self/ns/pid */
  uint64_t start_time;     /* of the process, clock ticks since boot */
  uint64_t opened_unix_ms; /* when this file was made; 0: mg_segment_open_own()
                              while nothing is recorded */
  uint64_t argv_hash;      /* FNV-1a, 64 bits, of /proc/self/cmdline */
  char boot_id[40];        /* 32 hex digits */
  char runtime[16];        /* "python", "node" */
  char runtime_version[32];
  char program[64]; /* name of the program without its arguments */
  char library_version[16];
  char kind[MG_PAUSE_KINDS][24]; /* names of generations or kinds; may be empty */
  uint32_t phase_kinds; /* bits of kinds that are parts of other collections */
  uint32_t reserved_word;
  uint64_t opened_cpu_us; /* CPU time of the process when this file was made */
  char reserved[356];
  uint32_t crc; /* of all before */
} mg_segment_header;

/** X(ID, name) */
#define MG_SEGMENT_STATE_MAP(X) \
  X(RUNNING, "running")         \
  X(STOPPED, "stopped")         \
  X(EXITED, "exited")

/** RUNNING: it publishes. STOPPED: the host stopped its last monitor. EXITED: the
 *  process came to an orderly end. */
typedef enum mg_segment_state {
#define MG_SEGMENT_STATE_ENUM(id, name) MG_SEGMENT_##id,
  MG_SEGMENT_STATE_MAP(MG_SEGMENT_STATE_ENUM)
#undef MG_SEGMENT_STATE_ENUM
      MG_SEGMENT_STATES
} mg_segment_state;

/** Single words. */
typedef struct mg_segment_life {
  uint32_t state;             /* mg_segment_state */
  uint32_t is_folded;         /* 1: added to the accumulator by a reaper */
  uint64_t heartbeat_unix_ms; /* of the last sample */
  uint64_t next_unix_ms;      /* when the next one is due at the latest */
  uint64_t oom_kills;  /* of its control group, when last read; or MG_ABSENT */
  uint64_t ended_unix_ms;     /* when it left RUNNING; 0 while it runs */
  uint64_t events_lost;       /* evicted unread from queues of its monitors */
  uint64_t own_cpu_us;        /* CPU time of the thread that writes this */
  uint64_t marks; /* mg_segment_mark: 16 bits each, in hundredths of a percent */
} mg_segment_life;

/** Settings that usage is judged by, the lowest bits first. */
typedef enum mg_segment_mark {
  MG_SEGMENT_LOW_WATER,
  MG_SEGMENT_HIGH_WATER,
  MG_SEGMENT_ALERT_AT,
  MG_SEGMENT_FORCE_AT,
  MG_SEGMENT_MARKS
} mg_segment_mark;

/** Where OOM kills of its control group are counted. */
typedef struct mg_segment_group {
  uint64_t number, check;
  char file[384]; /* has a line "oom_kill N"; empty if there is none */
} mg_segment_group;

/** The latest sample: that of the monitor whose usage is highest. */
typedef struct mg_segment_now {
  uint64_t number, check; /* 1 for the first sample of the file */
  uint64_t clock_ns, unix_ms;
  double usage, pressure;
  uint32_t level, domain; /* mg_level, mg_domain */
  uint64_t peak_rss_bytes;
  uint64_t max_memory_bytes, max_heap_bytes; /* of the settings; 0: no limit */
  uint64_t rounds, freed_bytes; /* reclaim rounds noted in this file, and what
                                   they freed in all */
  uint64_t alerts;              /* noted in this file, repeats included */
  uint64_t pools, pool_rented, pool_rented_bytes, pool_held_bytes,
      pool_suspected; /* of all pools together */
  uint32_t readings;
  uint32_t gc_ppm; /* millionths of the CPU time since the file was made that
                      collections took; UINT32_MAX if unknown */
  uint64_t reading[MG_SEGMENT_READINGS]; /* in the order of MG_READING_MAP */
} mg_segment_now;

typedef struct mg_segment_gc {
  uint64_t count, wall_ns, cpu_ns, collected, max_ns, last_ns, last_unix_ms;
  uint64_t reserved;
} mg_segment_gc;

/** A collection, as mg_pause. */
typedef struct mg_segment_gc_event {
  uint64_t number, check;
  uint64_t began_unix_ms, wall_ns, cpu_ns, collected;
  uint32_t kind, reserved;
} mg_segment_gc_event;

/** What the recorder keeps of a moment. Bytes are MG_ABSENT where unknown. */
typedef struct mg_segment_point {
  uint64_t number, check;
  uint64_t unix_ms;
  uint64_t rss_bytes, heap_used_bytes, external_bytes, cgroup_used_bytes;
  uint64_t gc_wall_ns;  /* spent collecting since the file was made; without
                           phases */
  uint32_t gc_count;    /* collections since then, modulo 2^32 */
  uint32_t usage_ppm;   /* millionths of the nearest limit */
  uint32_t fd_count, thread_count; /* UINT32_MAX if unknown */
  uint32_t level, domain;
} mg_segment_point;

/** X(ID, name) */
#define MG_SEGMENT_NOTE_MAP(X) \
  X(ALERT, "alert")            \
  X(ACTION, "action")

typedef enum mg_segment_note_kind {
#define MG_SEGMENT_NOTE_ENUM(id, name) MG_SEGMENT_##id,
  MG_SEGMENT_NOTE_MAP(MG_SEGMENT_NOTE_ENUM)
#undef MG_SEGMENT_NOTE_ENUM
      MG_SEGMENT_NOTE_KINDS
} mg_segment_note_kind;

/** An alert (an event of a monitor) or an action (a round of an engine). An alert
 *  that says the same as a newer one of its kind is counted there. */
typedef struct mg_segment_note {
  uint64_t number, check;
  uint64_t unix_ms, last_unix_ms; /* first and latest time */
  uint32_t kind;     /* mg_segment_note_kind */
  uint32_t repeats;  /* times it came again */
  uint32_t event;    /* ALERT: mg_event_kind of monitor.h */
  uint32_t severity; /* ALERT: mg_health of monitor.h */
  uint32_t level, previous;        /* mg_level */
  uint32_t issues;   /* ALERT: mg_issue bits */
  uint32_t reason;   /* ACTION: mg_reason */
  uint32_t actions;  /* ACTION: MG_ACTION_BIT of what was done */
  uint32_t growth_is_heap;         /* ALERT of growth */
  double mb_per_minute;            /* ALERT of growth */
  double took_ms, gc_ms;           /* ACTION */
  double usage_before, usage_after; /* ALERT: usage, twice */
  uint64_t rss_bytes;              /* then; ACTION: after it */
  uint64_t freed_bytes;            /* ACTION */
  uint64_t count, threshold;       /* ALERT of a counter */
  uint64_t round;                  /* ACTION: its number */
  char counter[64];                /* ALERT of a counter: its key */
} mg_segment_note;

typedef struct mg_segment_type {
  char name[MG_SEGMENT_TYPE_BYTES];
  uint64_t count, bytes;            /* alive now; MG_ABSENT if unknown */
  int64_t grown_count, grown_bytes; /* over `span_ms`; 0 if unknown */
} mg_segment_type;

typedef struct mg_segment_types {
  uint64_t number, check;
  uint64_t unix_ms, span_ms;
  uint32_t count, reserved;
  mg_segment_type type[MG_SEGMENT_TYPES]; /* what grew most comes first */
} mg_segment_types;

/** Alerts of all monitors of the process. Where MG_SEGMENT_ALERTS are not enough, a
 *  resolved one goes first, then the oldest of the least severe; both are counted. */
typedef struct mg_segment_alerts {
  uint64_t number, check;
  uint64_t unix_ms;  /* when that changed last */
  uint64_t fired;    /* alerts so far */
  uint64_t evicted;  /* of them, no longer here */
  uint32_t count, active; /* how many are below, and of these fire */
  mg_alert alert[MG_SEGMENT_ALERTS]; /* what changed last comes first */
} mg_segment_alerts;

typedef struct mg_segment_layout {
  mg_segment_header header;
  mg_segment_life life;
  mg_segment_now now[2];
  mg_segment_group group[2];
  mg_segment_gc gc[MG_PAUSE_KINDS];
  mg_segment_types types[2];
  mg_segment_note note[MG_SEGMENT_NOTES];
  mg_segment_gc_event gc_event[MG_SEGMENT_GC_EVENTS];
  mg_segment_point second[MG_SEGMENT_SECONDS];
  mg_segment_point minute[MG_SEGMENT_MINUTES];
  uint32_t gc_bucket[MG_PAUSE_KINDS][MG_SEGMENT_BUCKETS];
  mg_segment_alerts alerts[2];
} mg_segment_layout;

/** Check value of a whole of `bytes` (a multiple of 8) whose second word is its
 *  check, which does not count: h = (h ^ word) * 0x9e3779b97f4a7c15, then
 *  h ^= h >> 32, from h = bytes on. Each step can be undone, so no change of a
 *  single word goes unseen. Pure. */
MG_API uint64_t mg_segment_check(const void *whole, size_t bytes);

/* ---- the writer: this process ------------------------------------------ */

/** Who publishes; texts are copied. NULL leaves what is there. */
typedef struct mg_segment_identity {
  size_t struct_bytes; /* sizeof(mg_segment_identity), set by the macro below */
  const char *runtime, *runtime_version, *program;
  const char *kind[MG_PAUSE_KINDS];
  uint32_t phase_kinds; /* bits of kinds that are parts of other collections */
} mg_segment_identity;
#define MG_SEGMENT_IDENTITY_INIT \
  {sizeof(mg_segment_identity), NULL, NULL, NULL, {NULL}, 0}

/** Says so before the first monitor starts; what comes after that holds for the
 *  next file (after a fork). Without it the program is the name of the main
 *  thread. Any thread. @return MG_OK, MG_EINVAL (foreign struct size). */
MG_API mg_status mg_segment_describe(const mg_segment_identity *identity,
                                     mg_error *err);
/** Path of the file this process publishes. Any thread.
 *  @return its length; 0 (and an empty text) if it publishes none. */
MG_API size_t mg_segment_path(char *out, size_t out_bytes);
/** Why nothing is published, once: a second call, or one while all is well, returns
 *  false. Any thread; one atomic load when there is nothing to say. */
MG_API bool mg_segment_take_problem(mg_error *out);
/** Records one collection: no lock, no allocation, no call out, so it may stand in
 *  a runtime's collection callback. Some 100 ns; nothing while there is no file. Any
 *  thread. */
MG_API void mg_segment_note_gc(const mg_pause *pause);
/** Shows the types that grow; the first MG_SEGMENT_TYPES are kept. Any thread. */
MG_API void mg_segment_note_types(const mg_segment_type *types, size_t count,
                                  uint64_t span_ms);
/** The process is about to end in an orderly way. Called by itself at exit(); for
 *  ends that do without (_exit). Any thread; async-signal-safe. */
MG_API void mg_segment_mark_exit(void);

/* ---- the reader -------------------------------------------------------- */

/** The directory that this process uses, whether it exists or not.
 *  @return MG_OK, MG_EINVAL ($MEMGUARD_DIR is no absolute path or too long). */
MG_API mg_status mg_segment_directory(char *out, size_t out_bytes,
                                      mg_error *err);

/** Names in a directory, sorted. */
typedef struct mg_segment_names {
  size_t count;
  char (*name)[MG_SEGMENT_NAME_BYTES];
} mg_segment_names;
/** Finds the segments of a directory by their names. A directory that is not there
 *  has none. @param out [owned] release with mg_segment_names_free().
 *  @return MG_OK, MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_segment_list(mg_segment_names *out, const char *directory,
                                 mg_error *err);
MG_API void mg_segment_names_free(mg_segment_names *names);

typedef struct mg_segment mg_segment;

/** Opens a segment to read. The descriptor stays open until the close.
 *  @param out [owned]
 *  @return MG_OK, MG_ENOTFOUND (gone), MG_EFOREIGN (no segment, another version or
 *  byte order, wrong size or CRC: the error says which), MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_segment_open(mg_segment **out, const char *path,
                                 mg_error *err);
/** The same for bytes in memory [borrowed until the close]. */
MG_API mg_status mg_segment_open_bytes(mg_segment **out, const void *bytes,
                                       size_t count, mg_error *err);
/** Opens what this process shows of itself, whether others can see it or not: where
 *  no file can be made (segment_enabled is off, no tmpfs, no room), the running
 *  monitors write to memory of this process instead. While no monitor runs it
 *  is what the last one showed, or else a sample of the process alone, without
 *  limits. Its process is alive. Any thread.
 *  @param out [owned] @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_segment_open_own(mg_segment **out, mg_error *err);
/** NULL allowed. */
MG_API void mg_segment_close(mg_segment *segment);

/** [borrowed until the close] Its texts end inside their fields. */
MG_API const mg_segment_header *mg_segment_header_of(const mg_segment *segment);

/** What a process shows now. */
typedef struct mg_segment_view {
  mg_segment_state state;
  bool is_folded;
  uint64_t heartbeat_unix_ms, next_unix_ms, ended_unix_ms, oom_kills;
  double mark_percent[MG_SEGMENT_MARKS]; /* by mg_segment_mark; 0: not said */
  uint64_t events_lost, own_cpu_us;
  mg_sample sample;    /* number 0: none yet */
  mg_segment_now now;  /* what else came with it */
  mg_segment_gc gc[MG_PAUSE_KINDS];
} mg_segment_view;

/** One read of some KiB, no lock. Enumerations hold known values only.
 *  @return MG_OK, MG_EFOREIGN (cut off, or no whole sample after some tries),
 *  MG_ESYS. */
MG_API mg_status mg_segment_read(mg_segment *segment, mg_segment_view *out,
                                 mg_error *err);

/** What a view comes to. Pure.
 *  limit   of its domain, that usage is judged by; MG_ABSENT if there is none
 *  native  resident memory beside the heap: what native code, buffers and the
 *          program's own code take; MG_ABSENT if unknown
 *  pause   the last one, in ms; NaN without one */
MG_API uint64_t mg_segment_limit_bytes(const mg_segment_view *view);
MG_API uint64_t mg_segment_native_bytes(const mg_segment_view *view);
MG_API double mg_segment_last_pause_ms(const mg_segment_view *view);

typedef enum mg_segment_ring {
  MG_SEGMENT_BY_SECOND,
  MG_SEGMENT_BY_MINUTE
} mg_segment_ring;

/** The parts of the recorder: what is whole, oldest first, at most `max` of the
 *  newest. @return how many; 0 if the file cannot be read. */
MG_API size_t mg_segment_points(mg_segment *segment, mg_segment_ring ring,
                                mg_segment_point *out, size_t max);
MG_API size_t mg_segment_gc_events(mg_segment *segment,
                                   mg_segment_gc_event *out, size_t max);
MG_API size_t mg_segment_notes(mg_segment *segment, mg_segment_note *out,
                               size_t max);
/** `out->count` is 0 if nobody said. */
MG_API void mg_segment_read_types(mg_segment *segment, mg_segment_types *out);
/** `out->count` is 0 if there was none. Enumerations hold known values only, texts
 *  end inside their fields. */
MG_API void mg_segment_read_alerts(mg_segment *segment,
                                   mg_segment_alerts *out);
/** Pauses of one kind; MG_PAUSE_KINDS: of all but the phases. */
MG_API void mg_segment_gc_stats(mg_segment *segment, uint32_t kind,
                                mg_pause_stats *out);

/** Whether its process is alive, as far as can be told from here (see above); of
 *  bytes in memory: whether they say RUNNING. */
MG_API bool mg_segment_is_alive(mg_segment *segment);

/* ---- post mortem ------------------------------------------------------- */

/** X(ID, name, text) */
#define MG_VERDICT_MAP(X)                                                     \
  X(RUNNING, "running", "The process is running.")                            \
  X(CLEAN_EXIT, "clean exit", "The process came to an orderly end.")          \
  X(OOM_LIKELY, "OOM likely",                                                 \
    "The process ended without notice, at its memory limit or together with " \
    "an OOM kill in its control group.")                                      \
  X(KILLED, "killed, not memory",                                             \
    "The process ended without notice, with memory to spare.")

typedef enum mg_verdict {
#define MG_VERDICT_ENUM(id, name, text) MG_VERDICT_##id,
  MG_VERDICT_MAP(MG_VERDICT_ENUM)
#undef MG_VERDICT_ENUM
      MG_VERDICTS
} mg_verdict;

#define MG_VERDICT_USAGE 0.95 /* of a limit that kills, from which it is OOM */

/** What is known of an end. */
typedef struct mg_postmortem_facts {
  bool is_alive;
  mg_segment_state state;
  mg_reading last;          /* of the latest sample; MG_ABSENT where unknown */
  uint64_t oom_kills_then;  /* with it, or MG_ABSENT */
  uint64_t oom_kills_after; /* now, or MG_ABSENT (the group is gone) */
} mg_postmortem_facts;

typedef struct mg_postmortem_report {
  mg_verdict verdict;
  double usage;         /* highest ratio of a limit that kills; 0 if unknown */
  mg_domain domain;     /* of that */
  bool has_oom_kill;    /* the count rose */
} mg_postmortem_report;

/** Pure. Settings (max_memory_mb, max_heap_mb) kill nobody and do not count. */
MG_API void mg_postmortem(const mg_postmortem_facts *facts,
                          mg_postmortem_report *out);
/** Gathers the facts of a segment. @return as mg_segment_read(). */
MG_API mg_status mg_segment_facts(mg_segment *segment,
                                  mg_postmortem_facts *out, mg_error *err);
/** Names and text of the lists above; "unknown" for a foreign value. */
MG_API const char *mg_segment_state_name(mg_segment_state state);
MG_API const char *mg_segment_note_name(mg_segment_note_kind kind);
MG_API const char *mg_verdict_name(mg_verdict verdict);
MG_API const char *mg_verdict_text(mg_verdict verdict);

/* ---- dead ones --------------------------------------------------------- */

/** What the dead processes of one service did in all. A process is in it or shows
 *  itself with `is_folded` false, never both. */
typedef struct mg_segment_service {
  char runtime[16], program[64];
  char kind[MG_PAUSE_KINDS][24]; /* names and phases, as in a header */
  uint32_t phase_kinds, reserved;
  uint64_t ended[MG_VERDICTS]; /* by verdict; RUNNING stays 0 */
  uint64_t gc_count[MG_PAUSE_KINDS], gc_wall_ns[MG_PAUSE_KINDS];
  uint64_t rounds, freed_bytes, alerts;
  uint64_t last_unix_ms; /* of the latest of them */
} mg_segment_service;

/** @return how many were written to `out`, at most MG_SEGMENT_SERVICES exist. */
MG_API size_t mg_segment_services(const char *directory,
                                  mg_segment_service *out, size_t max);

typedef struct mg_segment_reaped {
  uint64_t alive, dead, folded, removed;
} mg_segment_reaped;
/** Looks through a directory as a starting process does, all at once.
 *  @param keep_ms, keep how long and how many; as the constants above.
 *  @return MG_OK, MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_segment_reap(const char *directory, double keep_ms,
                                 size_t keep, mg_segment_reaped *out,
                                 mg_error *err);

#ifdef __cplusplus
}
#endif
#endif
