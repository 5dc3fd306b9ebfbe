/* detector_parts.h - what the files of the detector have in common. */
#ifndef MG_CORE_DETECTOR_PARTS_H
#define MG_CORE_DETECTOR_PARTS_H

#include "internal.h"
#include "memguard/detector.h"
#include "os.h"

/* ---- detector_fd.c: pure ------------------------------------------------- */

#define MG__FD_SLOTS 5u /* a minute, and the quarter before it */

/** Watches a count of descriptors. All zero is a valid start. */
typedef struct mg__fd_watch {
  uint64_t least[MG__FD_SLOTS]; /* of the quarters of a minute, oldest first */
  uint32_t slots;               /* how many of them are known */
  uint64_t least_now;           /* of the quarter under way */
  double slot_ms;               /* when that began */
  bool has_begun, is_many, is_growing; /* said so already */
} mg__fd_watch;

/** @param now_ms scaled already.
 *  @return whether to warn: there are `many` or more, or `fast` or more new ones
 *  in the last minute, and that was not said yet. */
bool mg__fd_watch_note(mg__fd_watch *watch, uint64_t count, double now_ms,
                       double many, double fast);
/** Growth of the last full minute; NaN until there is one. */
double mg__fd_watch_growth(const mg__fd_watch *watch);

/* ---- detector_find.c: findings and requests; the caller holds the lock ----- */

/** What a finding was last told as. */
typedef enum mg__told {
  MG__TOLD_NOTHING,
  MG__TOLD_SUSPECTED,
  MG__TOLD_WARNING,
  MG__TOLD_CRITICAL
} mg__told;

typedef struct mg__case {
  mg_detector_finding finding; /* number 0: free */
  mg__told told;
} mg__case;

/** When the binding is asked to count or to trace, times of mg_clock_ms(). */
typedef struct mg__inquiry {
  bool has_base, is_tracing;
  double base_ms; /* when the base was asked for */
  double next_ms; /* not before this, but for a tier that rose */
  double trace_end_ms;
  mg_leak_tier tier; /* highest when asked last */
} mg__inquiry;

#define MG__SERIES_BIT(id) (UINT32_C(1) << MG_LEAK_##id)

typedef enum mg__count {
  MG__COUNT_NOTHING,
  MG__COUNT_BASE, /* count, and keep it */
  MG__COUNT_AGAIN /* count, and compare with the base */
} mg__count;

/** Whether one that takes `took_ms`, as the last one did, may be forced `ago_ms`
 *  after the last forced one. `most_ms`: leak_collect. */
bool mg__collection_fits(double took_ms, double most_ms, double ago_ms,
                         double scale, bool is_suspected);

/** What to do now for `target`; NULL: nothing is suspected any more. Pure. */
mg__count mg__inquiry_next(mg__inquiry *inquiry, const mg_leak_finding *target,
                           double now_ms);

/* ---- detector_count.c ------------------------------------------------------- */

/** A kind of thing that the core itself counts by name. */
typedef struct mg__tally {
  mg__inquiry inquiry;
  mg_census *base;
} mg__tally;

enum { MG__TALLY_FDS, MG__TALLY_MAPS, MG__TALLIES };

/* ---- detector.c ------------------------------------------------------------ */

/** What mg_detector_collected() told, MG_ABSENT once a sample took it. No lock. */
typedef struct mg__collection {
  _Atomic uint64_t live_bytes, live_blocks;
  _Atomic uint64_t duration_ns, number; /* of the last one; of all */
} mg__collection;

struct mg_detector {
  /* Guarded by the registry. */
  mg_detector *next;
  mg_monitor *monitor; /* NULL once closed */
  uint32_t pins;       /* threads at work for it outside the lock */
  bool is_working;     /* one of them reads and judges */

  mg_detector_options options;
  mg__footprint footprint; /* of who works, as is `tally` */
  mg__tally tally[MG__TALLIES];

  mg__mutex lock; /* guards what follows */
  mg_leak *leak;
  mg_leak_settings settings; /* of `leak` */
  mg_config config;          /* the monitor's, as of the last sample */
  mg_sample sample;          /* the last one */
  bool is_paused, is_off, is_stale; /* by the user, the settings; begin anew */
  double collected_ms; /* duration of the last full one; below 0: unknown */
  double forced_ms;    /* when one was asked for last */
  double wide_due_ms;
  uint64_t samples_judged;
  uint64_t held_before, heap_before, native_slack; /* bytes, see detector.c */
  mg__fd_watch fds;
  mg__inquiry inquiry;
  mg__case *record; /* MG_DETECTOR_FINDINGS */
  mg_leak_finding *found; /* scratch: MG_LEAK_SERIES_MAX */
  mg_detector_stats stats;

  mg__collection collection;
  _Atomic uint64_t told[MG_LEAK_SIGNALS]; /* by the binding, or MG_ABSENT */
  _Atomic uint32_t requests, request_series;
};

/** Notes a value; MG_ABSENT is passed over. The caller holds the lock. */
void mg__detector_note(mg_detector *detector, uint32_t series, uint64_t value,
                       double now_ms);

/* ---- detector_wide.c ---------------------------------------------------------- */

#define MG__WIDE_BLOCKS 16.0   /* of a window: one wide reading each */
#define MG__WIDE_LEAST_MS 10.0 /* between two, whatever the time scale */

/** What is read without a lock. */
typedef struct mg__wide {
  mg__holdings held;
  mg_heap heap;
  bool is_heap_now;
  uint64_t rentals, fd_limit, thread_limit;
  double now_ms, took_ms;
} mg__wide;

/** By who works, without the lock. */
void mg__wide_read(mg_detector *detector, const mg_monitor *monitor,
                   mg__wide *out);
/** The same; takes the lock for each counter. */
void mg__wide_note_counters(mg_detector *detector, const mg_monitor *monitor,
                            double now_ms);
/** The caller holds the lock. */
void mg__wide_note(mg_detector *detector, const mg__wide *wide);
mg_leak_limits mg__wide_limits(const mg_detector *detector,
                               const mg__wide *wide);
/** Time to the next wide reading. */
double mg__wide_every_ms(const mg_detector *detector);

/* ---- detector_find.c ---------------------------------------------------------- */

/** Drops what is known, findings too. */
void mg__detector_forget(mg_detector *detector);
/** Brings the records up to what `leak` judged last.
 *  @param out events to raise, room for MG_DETECTOR_EVENTS. @return how many. */
#define MG__DETECTOR_EVENTS 32u
size_t mg__detector_update(mg_detector *detector, uint64_t unix_ms,
                           mg_event *out);
/** Decides what to ask the binding for. */
void mg__detector_inquire(mg_detector *detector, double now_ms);
/** @return the finding of the highest tier among `series`, MG__SERIES_BIT each;
 *  NULL if none is suspected. */
const mg_leak_finding *mg__detector_target(const mg_detector *detector,
                                           uint32_t series);
/** Counts descriptors and mappings where they are suspected, and names culprits.
 *  By who works, without the lock. */
void mg__detector_count(mg_detector *detector, double now_ms);
void mg__detector_drop_counts(mg_detector *detector);
/** @return NULL if `series` is not suspected. */
mg__case *mg__detector_record_of(mg_detector *detector, uint32_t series);

/* ---- detector_ask.c ---------------------------------------------------------- */

/** mg_detector_culprits() for one that holds the lock. */
mg_status mg__detector_put_culprits(mg_detector *detector, uint32_t series,
                                    const mg_culprit *culprits, size_t count,
                                    mg_error *err);

#endif
