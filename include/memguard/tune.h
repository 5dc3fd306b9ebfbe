/* memguard/tune.h - which GC settings, when to freeze, when to collect at idle.
 *
 * Four decisions about a collector that counts objects (CPython), each with a
 * state of its own that the caller owns.
 *
 * Trial: which profile of thresholds. It is fed what was measured while one
 * profile was in force, a window at a time, and says which is in force for the
 * next window. The first profile of a round is the reference: what the host had.
 *
 *   score     0.5 pause + 0.4 GC + 0.1 collections per second, each as a ratio
 *             to the reference's (so that scores 1.0; lower is better). Pause is
 *             the P95 over seconds of the longest pause in each; GC is time in
 *             collections over the time left besides. Where operations are
 *             counted the sum is multiplied by the reference's rate over the
 *             window's, held inside 0.5 and 2. Added to both sides of a ratio are
 *             1 ms, 0.5 % and 1 a second, so that noise around nothing decides
 *             nothing.
 *   out       more than 10 % above the reference's peak resident set
 *   kept      the lowest score. One that holds garbage longer (later in the
 *             table) must be 10 % below the best one before it, all must be 10 %
 *             below the reference; else the reference stays
 *   enough    a score of 0.5 or less is kept at once: what might still be gained
 *             is not worth what trying costs (unless all are to be tried)
 *   fades     half of the gain is gone in three windows in a row (of a kept
 *             reference: its score is above 1.5): the reference is in force
 *             again, and a new round begins, but not before a minute since the
 *             last one's end; that time doubles with each round up to an hour
 *
 * Freeze: when what lives for long is worth hiding from the collector
 * (gc.freeze). `live` is any count of what is alive (objects, blocks), garbage not
 * found yet included.
 *
 *   PASS      unfreeze, collect everything, freeze the rest: once when the heap
 *             is steady (its low points over two seconds differ by at most 5 %)
 *             or full collections take over 5 % of the time; and again when 15 %
 *             more are alive since, as garbage among the frozen is not found
 *             otherwise. When idle 5 % are enough, when memory is short 2 %. Not
 *             sooner than 10 s after the last, and for 2 % of the time at most;
 *             while it frees less than a tenth, the 10 s double each time, up to
 *             MG_FREEZE_PASS_MAX_MS, unless memory is short
 *   YOUNG     collect the young, freeze what is there: instead, when the full
 *             collections of the last moment took over 5 % of the time and freed
 *             less than a tenth of the heap (it is being filled): those passes
 *             were made already; at most once a second
 *   SWEEP     collect what is not frozen, which is cheap: when `live` grew by 5 %
 *             since the last step (2 % when idle or memory is short). So large
 *             thresholds do not hold much garbage. Not sooner than 1 s after the
 *             last, and for 2 % of the time at most
 *
 *   THAW      unfreeze, where the old are collected in parts (below): when 5 % more
 *             are alive although all that is not frozen had its turn in vain, and no
 *             part found anything for a second. Two laps later what was frozen had
 *             its turn: less than 3 % garbage, and YOUNG freezes it again (the least
 *             time to the next THAW, a second at first, doubles up to ten minutes);
 *             else that is left for ten minutes
 *
 *   With parts there is no SWEEP, and PASS is what is left when they do not help: 30 %
 *   more are alive, 15 % of a thawed heap, or memory is short, or it is idle.
 *
 * Roll: the oldest objects are collected in parts, where a runtime can do that. How
 * many now? When `live` grew by 2 % since its lowest (20 000 at least), until it is
 * there again:
 *
 *   size      what takes 10 ms by what objects cost so far, 20 ms when far behind
 *   rest      after each part. Of the time, half of the share of garbage that parts
 *             found (a moving average) may be spent, and 2 % if they found none; up to
 *             four times as much when behind by 5 % and more; 10 % after a THAW
 *   lap       all had their turn. If less than 3 % was garbage, growth was none: it is
 *             counted from what was alive then
 *
 * Idle: collect now, because nobody waits. Load is 0 to 1. Idle begins below
 * idle_load and ends 0.1 above it; after one second of it a collection is due if
 * there is something to collect, 5 s went by since the last one, and its expected
 * time is at most gc_budget_percent of the time since.
 *
 * Source of the pause measure and of freeze: published production figures for
 * CPython services (gc.freeze after warm-up, threshold 50 000); of parts: what
 * incremental collectors do, for one that is not; the trial is a plain successive comparison with hysteresis.
 *
 * Threads: pure; the state is the caller's. Time is an argument of any monotonic
 * origin; a clock that jumps back restarts spans and decides nothing. */
#ifndef MEMGUARD_TUNE_H
#define MEMGUARD_TUNE_H

#include "memguard/config.h"
#include "memguard/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

/** X(ID, name, threshold0, threshold1, threshold2), in the order in which they
 *  are tried. "default" stands for what the interpreter has by itself: its
 *  binding reads that and uses the numbers here where it cannot. "rolling" goes
 *  with parts: full collections are left to them, but for one now and then. "steady"
 *  and "throughput" go with freezing: then full collections are cheap, and frequent
 *  ones keep pauses short and garbage few. */
#define MG_GC_PROFILE_MAP(X)                        \
  X(DEFAULT, "default", 700, 10, 10)                \
  X(HIGH_FREQUENCY, "high-frequency", 600, 8, 8)    \
  X(CONSERVATIVE, "conservative", 900, 15, 12)      \
  X(AGGRESSIVE, "aggressive", 1200, 20, 15)         \
  X(ROLLING, "rolling", 700, 10, 5000)              \
  X(STEADY, "steady", 10000, 1, 1)                  \
  X(THROUGHPUT, "throughput", 50000, 5, 2)

typedef enum mg_gc_profile {
#define MG_GC_PROFILE_ENUM(id, name, t0, t1, t2) MG_GC_##id,
  MG_GC_PROFILE_MAP(MG_GC_PROFILE_ENUM)
#undef MG_GC_PROFILE_ENUM
      MG_GC_PROFILES
} mg_gc_profile;

#define MG_GC_PROFILE_BIT(profile) (UINT32_C(1) << (profile))

/** The name a program asks for, and the thresholds it stands for. */
MG_API const char *mg_gc_profile_name(mg_gc_profile profile);
MG_API void mg_gc_profile_thresholds(mg_gc_profile profile, uint32_t out[3]);
/** @return MG_OK, MG_EINVAL (the error lists the names). */
MG_API mg_status mg_gc_profile_find(mg_gc_profile *out, const char *name,
                                    mg_error *err);

/* ---- trial --------------------------------------------------------------- */

#define MG_TRIAL_FADED_WINDOWS 3u
#define MG_TRIAL_QUIET_MS 60000.0
#define MG_TRIAL_QUIET_MAX_MS 3600000.0

/** What was measured while one profile was in force. */
typedef struct mg_trial_window {
  double seconds;          /* above 0 */
  uint64_t collections;    /* of all generations */
  double pause_ms;         /* P95 over seconds of the longest pause */
  double gc_ms;            /* in all collections */
  uint64_t peak_rss_bytes; /* MG_ABSENT: unknown */
  uint64_t operations;     /* of the host; MG_ABSENT: not counted */
} mg_trial_window;

/** X(ID, name) */
#define MG_TRIAL_PHASE_MAP(X) \
  X(TRYING, "trying")         \
  X(KEPT, "kept")             \
  X(RESTING, "resting") /* faded; the reference is in force, a round is near */

typedef enum mg_trial_phase {
#define MG_TRIAL_PHASE_ENUM(id, name) MG_TRIAL_##id,
  MG_TRIAL_PHASE_MAP(MG_TRIAL_PHASE_ENUM)
#undef MG_TRIAL_PHASE_ENUM
} mg_trial_phase;

/** X(ID, name): what a round found about a profile */
#define MG_TRIAL_VERDICT_MAP(X)       \
  X(UNTRIED, "untried")               \
  X(REFERENCE, "reference")           \
  X(BEST, "best")                     \
  X(NO_GAIN, "no gain")               \
  X(MEMORY, "too much memory")        \
  X(WORSE, "another one is better")

typedef enum mg_trial_verdict {
#define MG_TRIAL_VERDICT_ENUM(id, name) MG_TRIAL_##id,
  MG_TRIAL_VERDICT_MAP(MG_TRIAL_VERDICT_ENUM)
#undef MG_TRIAL_VERDICT_ENUM
} mg_trial_verdict;

/** All that a trial remembers. Read the fields, change none. */
typedef struct mg_trial {
  uint32_t profiles;       /* bits of those to try; the reference always is */
  bool tries_all;          /* also when one is good enough */
  mg_gc_profile reference;
  mg_gc_profile current;   /* in force */
  mg_trial_phase phase;
  uint32_t rounds;         /* completed */
  uint32_t faded;          /* windows in a row */
  double ended_ms, quiet_ms; /* of the last round; until the next */
  uint32_t measured;       /* bits of those with a window in this round */
  mg_trial_window window[MG_GC_PROFILES];
  double score[MG_GC_PROFILES];
  mg_trial_verdict verdict[MG_GC_PROFILES];
} mg_trial;

/** Begins a round with `reference` in force. */
MG_API void mg_trial_init(mg_trial *out, uint32_t profiles,
                          mg_gc_profile reference);
/** From now on all profiles are tried, also after one that is good enough. */
MG_API void mg_trial_try_all(mg_trial *trial);
/** Takes what was measured with `current` in force. @return the profile for the
 *  next window, which is `current` from now on. */
MG_API mg_gc_profile mg_trial_next(mg_trial *trial,
                                   const mg_trial_window *window,
                                   double now_ms);
/** Begins a round now, whatever the quiet time. */
MG_API mg_gc_profile mg_trial_restart(mg_trial *trial);
/** Score of a window against a reference's. */
MG_API double mg_trial_score(const mg_trial_window *reference,
                             const mg_trial_window *window);
MG_API const char *mg_trial_phase_name(mg_trial_phase phase);
MG_API const char *mg_trial_verdict_name(mg_trial_verdict verdict);

/* ---- roll ---------------------------------------------------------------- */

#define MG_ROLL_MS 10.0 /* that a part shall take */
#define MG_ROLL_FAR 4.0 /* times as much of the time when far behind */
#define MG_ROLL_LEAST 20000u /* of `live`, more than at the low point */
#define MG_ROLL_FEWEST 1000u /* objects of a part */
#define MG_ROLL_MOST 500000u
#define MG_ROLL_RICH 0.03/* garbage among those looked at */
#define MG_ROLL_SOON_MS 10.0
#define MG_ROLL_WATCH_MS 50.0
#define MG_ROLL_LATER_MS 500.0

/** Read the fields, change none. */
typedef struct mg_roll {
  uint64_t low;     /* live at its lowest; MG_ABSENT before the first */
  bool is_behind;   /* since live grew by two percent, until it is at `low` */
  bool is_growing;
  double ended_ms, took_ms; /* the last part */
  double rich_ms;   /* the last part with some garbage */
  double yield;     /* share of garbage, moving average */
  double object_ms; /* for an object, moving average */
  uint64_t lap_taken, lap_collected, lap_low; /* of this lap so far */
  uint32_t laps;    /* completed */
  uint32_t laps_owed; /* to complete, whether live grew or not */
  uint64_t lap_end_low; /* lap_low of the last completed one */
  double lap_yield; /* its share of garbage */
} mg_roll;

/** What became of a part. */
typedef struct mg_roll_part {
  double now_ms, took_ms;
  uint64_t live;             /* after it */
  uint64_t taken, collected; /* objects */
  bool is_lap;               /* all had their turn */
} mg_roll_part;

/** Begins: nothing had its turn. */
MG_API void mg_roll_init(mg_roll *out);
/** @return how many of the oldest objects to collect now, 0: none. */
MG_API uint64_t mg_roll_next(mg_roll *roll, double now_ms, uint64_t live);
MG_API void mg_roll_done(mg_roll *roll, const mg_roll_part *part);
/** Has everything have its turn so often, in any case. */
MG_API void mg_roll_owe(mg_roll *roll, uint32_t laps);
/** When to ask again. */
MG_API double mg_roll_wait_ms(const mg_roll *roll);

/* ---- freeze -------------------------------------------------------------- */

#define MG_FREEZE_LEAST 100000u /* of `live`: below, full collections are cheap */
#define MG_FREEZE_SPAN_MS 2000.0
#define MG_FREEZE_PASS_MS 10000.0
#define MG_FREEZE_PASS_MAX_MS 600000.0
#define MG_FREEZE_YOUNG_MS 1000.0
#define MG_FREEZE_SWEEP_MS 1000.0
#define MG_FREEZE_SWEEP_LEAST 5000u /* of `live` */
#define MG_FREEZE_POINTS 16u
#define MG_FREEZE_THAW_MS 1000.0
#define MG_FREEZE_THAW_LAPS 2u /* then all that was frozen had its turn */

/** X(ID, name) */
#define MG_FREEZE_MAP(X) \
  X(NONE, "none")        \
  X(PASS, "pass")        \
  X(YOUNG, "young")      \
  X(SWEEP, "sweep")      \
  X(THAW, "thaw")

typedef enum mg_freeze_step {
#define MG_FREEZE_ENUM(id, name) MG_FREEZE_##id,
  MG_FREEZE_MAP(MG_FREEZE_ENUM)
#undef MG_FREEZE_ENUM
} mg_freeze_step;

typedef struct mg_freeze_view {
  double now_ms;
  uint64_t live;           /* MG_ABSENT: unknown; then nothing is frozen */
  double full_ms;          /* in full collections so far, all together */
  uint64_t full_collected; /* objects they freed so far */
  mg_level level;
  bool is_idle;
  const mg_roll *roll; /* NULL: the old are not collected in parts */
} mg_freeze_view;

typedef struct mg_freeze {
  bool is_frozen;
  uint64_t frozen_live;   /* live after the last PASS or YOUNG */
  double pass_ms;         /* end of the last PASS */
  double pass_took_ms;    /* how long that was */
  double pass_every_ms;   /* least time to the next */
  uint64_t swept_live;    /* live after the last step, or the least since */
  double swept_ms, swept_took_ms; /* end of the last step; of a SWEEP its time */
  double step_ms;         /* end of the last step */
  double last_ms, full_ms;
  uint64_t full_collected;
  bool is_thawed;
  uint64_t passed_live;   /* live after the last PASS, or the first freeze */
  uint64_t thaw_live;     /* live then */
  double thaw_ms, thaw_every_ms; /* the last THAW; least time to the next */
  uint32_t laps;          /* as seen last; of a thawed heap: when it was thawed */
  double at_ms[MG_FREEZE_POINTS]; /* the span, oldest first */
  uint64_t live[MG_FREEZE_POINTS];
  uint32_t points;
} mg_freeze;

/** Begins: nothing is frozen. */
MG_API void mg_freeze_init(mg_freeze *out);
/** To be asked each half second or so. */
MG_API mg_freeze_step mg_freeze_next(mg_freeze *freeze,
                                     const mg_freeze_view *view);
/** Tells that a step was done, or that the host froze by itself (PASS).
 *  @param view after it. @param took_ms of it. */
MG_API void mg_freeze_done(mg_freeze *freeze, mg_freeze_step step,
                           const mg_freeze_view *view, double took_ms);
MG_API const char *mg_freeze_step_name(mg_freeze_step step);

/* ---- idle ---------------------------------------------------------------- */

#define MG_IDLE_HOLD_MS 1000.0
#define MG_IDLE_INTERVAL_MS 5000.0
#define MG_IDLE_GAP 0.1

typedef struct mg_idle_view {
  double now_ms;
  double load;        /* 0 to 1; NaN: unknown, never idle */
  double expected_ms; /* how long a collection is taken to be */
  bool is_worth;      /* there is something to collect */
} mg_idle_view;

typedef struct mg_idle {
  bool is_idle;
  double since_ms;     /* when that began */
  double collected_ms; /* of the last collection; meaningful if `has_collected` */
  bool has_collected;
} mg_idle;
#define MG_IDLE_INIT {false, 0.0, 0.0, false}

/** @return whether to collect now, which is then taken as done. */
MG_API bool mg_idle_due(mg_idle *idle, const mg_config *config,
                        const mg_idle_view *view);

#ifdef __cplusplus
}
#endif
#endif
