/* memguard/leak.h - whether a number that grows is a leak.
 *
 * A detector holds one series per signal and judges each by itself. It takes
 * values and times and returns findings: no clock, no I/O, no thread. Memory is
 * taken when it is opened and when a name is new: some 4 KB per series, however
 * long it lives; a value costs O(1).
 *
 * What is kept. The life of a series is cut into ticks, a 16th of the shortest
 * window (leak_window, 4 minutes: 15 s). The least value of a tick is its floor:
 * what garbage and bursts stand on. For each octave k the floors of the newest 16
 * blocks of 2^k ticks are kept, so windows of 4, 8, 16, ... minutes, up to 23
 * days, are at hand.
 *
 * What counts as growth, in a window of at least 8 floors:
 *  - Mann-Kendall, one-sided p < 0.001, its variance corrected for autocorrelation
 *    (Hamed and Rao, J. Hydrology 204, 1998), and the lower 99 % bound of the
 *    Theil-Sen slope above 0 (Sen, JASA 63, 1968);
 *  - growth of at least the least that counts (leak_min_growth_mb; 8 of a count),
 *    5 % of what was there, and 5 times the scatter around the line;
 *  - at least half of it above everything before the window;
 *  - the slope of the second half at least 0.6 of that of the first.
 * That is SUSPECT, and all that RSS and the number of mappings can be. At 0.8 it is
 * called even. NATIVE is what one number leaves of another: it is even only if RSS
 * rises half as fast at least, over the same window.
 *
 * CODE is that part of HEAP which a runtime made of the program's text: a heap is
 * judged without what that has grown by. Text is loaded and made fast for many
 * minutes, then it is all there; what makes more of it for ever still shows as
 * CODE, which is told apart in windows of a quarter of an hour and longer.
 *
 * The warm-up is not looked at. It lasts for 11 ticks at least; up to 48 while
 * growth falls off with a time constant of a window or less; and a fifth of life.
 *
 * Two ways lead from there to LIKELY.
 *  - Steep: the window alone. Growth of 3 to 5 % of what is left to the limit, more
 *    in windows of an hour and longer; scatter below 1 to 5 % of it; and straight:
 *    second half as steep as the first within the error of measurement, or the
 *    growth that is left by Aitken's extrapolation enough for half of the way to
 *    the limit. Twice the window has to look alike, if there is one after the
 *    warm-up, and the time before, back to four windows, must not have been
 *    steeper: a cache that fills slows down, a leak does not. In mid-life windows
 *    of less than a quarter of an hour do not count.
 *  - Slow: a row of 3 octaves that are even, the longest of 17 hours or more, with
 *    growth of 3 % of what is left or half of what was there.
 * CONFIRMED is steep growth that is the last of a row of 3 octaves and twice as
 * large as makes it likely; or slow growth in a row of 4, 34 hours or more. What
 * explains half of the growth (mg_leak_explain) saves an octave. Requiring
 * consecutive octaves is what tells a leak from a plateau: both look alike until
 * one of them stops.
 *
 * A finding is kept while growth goes on, if more slowly, and falls as far as the
 * data say when a window in which it would show has less than a quarter of its
 * slope left, or when the value falls below its base.
 *
 * How often it is wrong, simulated over 10 010 days without a leak and of shapes
 * that are made to look like one, and how soon it is right: bench/README.md,
 * `leak_sim`. Growth that is straight, large, and stops by itself (a cache of more
 * than some 5 % of the limit that fills at a steady pace right after the start) is
 * LIKELY until it stops; nobody could know.
 *
 * Threads: one at a time; the owner's lock. Pure functions from any. */
#ifndef MEMGUARD_LEAK_H
#define MEMGUARD_LEAK_H

#include "memguard/base.h"
#include "memguard/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/** X(ID, name, unit, may be more than suspected). Numbers of series; named ones
 *  follow from MG_LEAK_SIGNALS on. */
#define MG_LEAK_SIGNAL_MAP(X)               \
  X(HEAP, "heap", "bytes", 1)               \
  X(BLOCKS, "blocks", "count", 1)           \
  X(NATIVE, "native", "bytes", 1)           \
  X(RSS, "rss", "bytes", 0)                 \
  X(FDS, "fds", "count", 1)                 \
  X(FD_SOCKETS, "fd_sockets", "count", 1)   \
  X(FD_PIPES, "fd_pipes", "count", 1)       \
  X(FD_FILES, "fd_files", "count", 1)       \
  X(FD_OTHERS, "fd_others", "count", 1)     \
  X(THREADS, "threads", "count", 1)         \
  X(MAPPINGS, "mappings", "count", 0)       \
  X(CONNECTIONS, "connections", "count", 1) \
  X(RENTALS, "rentals", "count", 1)         \
  X(HANDLES, "handles", "count", 1)         \
  X(CODE, "code", "bytes", 1)

typedef enum mg_leak_signal {
#define MG_LEAK_SIGNAL_ENUM(id, name, unit, may_confirm) MG_LEAK_##id,
  MG_LEAK_SIGNAL_MAP(MG_LEAK_SIGNAL_ENUM)
#undef MG_LEAK_SIGNAL_ENUM
      MG_LEAK_SIGNALS /* how many there are */
} mg_leak_signal;

typedef enum mg_leak_tier {
  MG_LEAK_NONE,
  MG_LEAK_SUSPECT,  /* worth a look: a census, a collection; no alarm */
  MG_LEAK_LIKELY,   /* an alarm */
  MG_LEAK_CONFIRMED
} mg_leak_tier;

typedef enum mg_leak_severity {
  MG_LEAK_LOW,
  MG_LEAK_MEDIUM,
  MG_LEAK_HIGH
} mg_leak_severity;

#define MG_LEAK_WINDOW_MIN_MS 16.0
#define MG_LEAK_BLOCK_BYTES 64.0 /* a limit of bytes is one of blocks of so many */
#define MG_LEAK_LEAST_COUNT 8.0  /* growth of a count that counts */
#define MG_LEAK_LEAST_BLOCKS 10000.0
/** Where no limit is known: so many times what there is, and at least so much. */
#define MG_LEAK_ASSUMED_TIMES 8.0
#define MG_LEAK_ASSUMED_BYTES 4294967296.0
#define MG_LEAK_ASSUMED_COUNT 1000.0

#define MG_LEAK_NAMED_MAX 256u
#define MG_LEAK_SERIES_MAX ((size_t)MG_LEAK_SIGNALS + MG_LEAK_NAMED_MAX)
#define MG_LEAK_NAME_BYTES 64

typedef struct mg_leak mg_leak;

typedef struct mg_leak_settings {
  size_t struct_bytes; /* set by the macro below */
  double window_ms;    /* the shortest; MG_LEAK_WINDOW_MIN_MS or more */
  double warmup_ms;    /* 0: recognised from the data */
  double critical_within_ms;
  double min_growth_bytes;
} mg_leak_settings;
#define MG_LEAK_SETTINGS_INIT \
  {sizeof(mg_leak_settings), 240000.0, 0.0, 21600000.0, 4194304.0}

/** What the settings of section "leak" say, all times divided by time_scale, the
 *  window no less than MG_LEAK_WINDOW_MIN_MS. */
MG_API mg_leak_settings mg_leak_settings_of(const mg_config *config);

/** What there is to use up. Not known: 0, a negative number, NaN or INFINITY. */
typedef struct mg_leak_limits {
  double memory_bytes;      /* limit of the process's memory */
  double memory_used_bytes; /* of that, now */
  double heap_bytes;        /* limit of the runtime's heap */
  double fds, threads, mappings;
} mg_leak_limits;

typedef struct mg_leak_finding {
  uint32_t series;
  mg_leak_tier tier, previous; /* previous: as told last */
  mg_leak_severity severity;
  uint32_t octaves;   /* windows in a row that show it, each twice the last */
  bool is_critical;   /* likely at least, and the limit is near in time */
  char name[MG_LEAK_NAME_BYTES];
  double growth;            /* since the base, in the unit of the series */
  double growth_per_minute; /* real time, whatever the time scale */
  double base, latest;
  double since_ms;    /* start of the growth, on the clock of the notes */
  double to_limit_ms; /* INFINITY: no limit known, or none reached */
  double window_ms;   /* the longest window that shows it */
} mg_leak_finding;

/** @param out [owned] NULL unless MG_OK. @param settings [borrowed] copied.
 *  @return MG_OK, MG_EINVAL, MG_ENOMEM. */
MG_API mg_status mg_leak_open(mg_leak **out, const mg_leak_settings *settings,
                              mg_error *err);
/** NULL allowed. */
MG_API void mg_leak_close(mg_leak *leak);

/** A series of a name of its own ("counter:KEY"), counted in pieces; the same
 *  one for a name known already, also that of a signal. Longer names are cut.
 *  @return MG_OK, MG_ENOMEM, MG_ERANGE (MG_LEAK_NAMED_MAX are there). */
MG_API mg_status mg_leak_name(mg_leak *leak, const char *name,
                              uint32_t *out_series, mg_error *err);

/** One value. O(1). A value that is no number or negative, or a time that does
 *  not advance, is passed over. CODE counts for values of HEAP noted after it. Life
 *  begins with the first value of any signal; that of a named series with its own
 *  first value. */
MG_API void mg_leak_note(mg_leak *leak, uint32_t series, double value,
                         double now_ms);

/** Judges what has changed since: worth calling once a tick; sooner costs little
 *  and says nothing new. @return how many findings it wrote: those whose tier or
 *  is_critical is another than was told last. A tier below `previous`: withdrawn,
 *  in part or (NONE) wholly. Room for all: MG_LEAK_SERIES_MAX; what found no room
 *  is told next time. */
MG_API size_t mg_leak_judge(mg_leak *leak, double now_ms,
                            const mg_leak_limits *limits, mg_leak_finding *out,
                            size_t max);
/** All above NONE, as judged last. */
MG_API size_t mg_leak_findings(const mg_leak *leak, mg_leak_finding *out,
                               size_t max);

/** Something was found that explains this share (0 to 1) of the growth: from a
 *  half on, one octave less is needed to confirm. Forgotten when withdrawn. */
MG_API void mg_leak_explain(mg_leak *leak, uint32_t series, double share);

/** Whether a fresh value would help now, which costs something to get: for HEAP
 *  and BLOCKS a full collection, for NATIVE a reading of smaps_rollup. True while
 *  any kind of memory (other series: they themselves) is suspected, or merely
 *  rises by a quarter of what counts within a window, and the block that runs has no value
 *  yet; blocks are those of the shortest window that shows it. Without values from
 *  before a suspicion, it would take another window to judge. "Now" is the time
 *  of the last judgement. For CODE (a full collection, too) false until it was
 *  noted once: not every runtime knows it. */
MG_API bool mg_leak_wants_collection(const mg_leak *leak, uint32_t series);

/** One value of a recorded series. */
typedef struct mg_leak_point {
  double now_ms, value;
  const char *name; /* of a signal, or any other */
} mg_leak_point;

typedef struct mg_leak_change {
  double now_ms;
  mg_leak_finding finding;
} mg_leak_change;

/** What a new detector would have said of recorded values, each judged when it was
 *  noted. @param out the first `max` changes. @param out_count how many there are.
 *  @return MG_OK, MG_EINVAL, MG_ENOMEM, MG_ERANGE (too many names). */
MG_API mg_status mg_leak_replay(const mg_leak_settings *settings,
                                const mg_leak_limits *limits,
                                const mg_leak_point *points, size_t count,
                                mg_leak_change *out, size_t max,
                                size_t *out_count, mg_error *err);

/** @return "heap", ...; the given name; "unknown". [borrowed] */
MG_API const char *mg_leak_series_name(const mg_leak *leak, uint32_t series);
/** @return "bytes" or "count". */
MG_API const char *mg_leak_series_unit(uint32_t series);
/** @return "none", "suspect", "likely", "confirmed"; "unknown". */
MG_API const char *mg_leak_tier_name(mg_leak_tier tier);
/** @return "low", "medium", "high"; "unknown". */
MG_API const char *mg_leak_severity_name(mg_leak_severity severity);

#ifdef __cplusplus
}
#endif
#endif
