/* memguard/config.h - the one table of settings and the rules around it.
 *
 * A configuration is a flat set of numbers. Each key has one row in
 * MG_CONFIG_MAP: section, name, type, default, range, the values of the named
 * profiles, other names it is known by, and a line of documentation. Bindings,
 * the reference page and the checks are all derived from these rows.
 *
 * Naming a key. A path is "section.name" ("memory.max_memory_mb") or the bare
 * name where only one section has it. Case, '_' and '-' are ignored when names
 * are compared, so `maxMemoryMb`, `max_memory_mb` and `MAX_MEMORY_MB` are one
 * key. Aliases are paths too ("memoryOptimization.intervalMs").
 *
 * Precedence, lowest first: defaults, profile, file, environment, the mapping
 * given by the program. A change is prepared on a copy and takes effect whole
 * or not at all: copy, set…, mg_config_check(), then hand the copy over.
 *
 * Threads: pure functions on the caller's data. No I/O, no allocation. */
#ifndef MEMGUARD_CONFIG_H
#define MEMGUARD_CONFIG_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mg_config_type {
  MG_CONFIG_BOOL,     /* stored as 0 or 1 */
  MG_CONFIG_COUNT,    /* whole number */
  MG_CONFIG_MB,       /* megabytes; text may say "512MB", "2GB", "1.5 GiB" */
  MG_CONFIG_PERCENT,  /* 0 to 100; text may say "85%" */
  MG_CONFIG_RATIO,    /* 0 to 1; text may say "80%" */
  MG_CONFIG_DURATION, /* stored in ms; a bare number is seconds unless the
                         name used ends in "ms"; text: "250ms" "30s" "5m" "2h" */
  MG_CONFIG_RATE,     /* MB per minute */
  MG_CONFIG_LEAK_CHECK /* 0 to 3; text: "disabled" "simple" "advanced"
                          "paranoid" */
} mg_config_type;

typedef enum mg_profile {
  MG_PROFILE_DEFAULT,
  MG_PROFILE_DEVELOPMENT,
  MG_PROFILE_PRODUCTION,
  MG_PROFILE_HIGH_LOAD,
  MG_PROFILE_QUEUE_DEVELOPMENT,
  MG_PROFILE_QUEUE_PRODUCTION,
  MG_PROFILES /* how many there are */
} mg_profile;

/* A profile cell that keeps the default. */
#define MG_KEEP (-1.0)
#define MG_TIB_MB 1048576.0
#define MG_DAY_MS 86400000.0

/** X(ID, section, name, type, default, min, max,
 *    development, production, high_load, queue_development, queue_production,
 *    aliases separated by spaces, doc) */
#define MG_CONFIG_MAP(X)                                                      \
  X(ENABLED, "memory", "enabled", BOOL, 1, 0, 1,                              \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "memoryOptimization.enabled",                                             \
    "false: nothing is sampled in the background and no event is "            \
    "raised; explicit calls still work")                                      \
  X(MAX_MEMORY_MB, "memory", "max_memory_mb", MB, 2048, 1, 16 * MG_TIB_MB,    \
    512, 2048, 4096, 2048, 8192,                                              \
    "memory_monitor.max_memory_mb memoryOptimization.maxRSSSizeMB",           \
    "resident memory the process is meant to stay under; the default "        \
    "counts, too; a lower limit of a control group or an rlimit wins")        \
  X(MAX_HEAP_MB, "memory", "max_heap_mb", MB, 0, 0, 16 * MG_TIB_MB,           \
    256, 1024, 2048, 1024, 4096,                                              \
    "memoryOptimization.maxHeapSizeMB",                                       \
    "heap of the runtime that is meant to be enough; 0: only the "            \
    "runtime's own limit counts")                                             \
  X(MONITOR_INTERVAL, "memory", "monitor_interval", DURATION, 30000, 10, MG_DAY_MS, \
    MG_KEEP, MG_KEEP, 15000, 30000, 60000,                                    \
    "memoryOptimization.intervalMs memory.monitor_interval_ms",               \
    "time between entries of the history and `stats:collected` events")       \
  X(SAMPLE_INTERVAL, "memory", "sample_interval", DURATION, 1000, 10, 3600000, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "memory.sample_interval_ms",                                              \
    "longest time between two samples of the sampler thread; it samples"      \
    " earlier when memory fills fast, is more than half full or the kernel"   \
    " reports pressure")                                                      \
  X(LOW_WATER_MARK, "memory", "low_water_mark_percent", PERCENT, 60, 0, 100,  \
    MG_KEEP, 50, 40, MG_KEEP, MG_KEEP,                                        \
    "",                                                                       \
    "usage below which the level is normal again")                            \
  X(HIGH_WATER_MARK, "memory", "high_water_mark_percent", PERCENT, 80, 1, 100, \
    MG_KEEP, 75, 70, 75, 85,                                                  \
    "memoryOptimization.threshold",                                           \
    "usage from which the level is elevated")                                 \
  X(ALERT_THRESHOLD, "memory", "alert_threshold", PERCENT, 90, 1, 100,        \
    MG_KEEP, 85, 80, MG_KEEP, MG_KEEP,                                        \
    "memory.alert_threshold_percent",                                         \
    "usage from which the level is high")                                     \
  X(FORCE_GC_THRESHOLD, "memory", "force_gc_threshold", PERCENT, 95, 1, 100,  \
    MG_KEEP, 90, 85, MG_KEEP, MG_KEEP,                                        \
    "memory.force_gc_threshold_percent",                                      \
    "usage from which the level is critical")                                 \
  X(ENABLE_AUTO_GC, "memory", "enable_auto_gc", BOOL, 1, 0, 1,                \
    MG_KEEP, MG_KEEP, MG_KEEP, 0, MG_KEEP,                                    \
    "memoryOptimization.autoOptimization",                                    \
    "whether memguard may reclaim memory by itself: collect, shrink "         \
    "caches, give memory back, call shed callbacks; buffers and pools "       \
    "follow the pressure in any case")                                        \
  X(GC_INTERVAL, "memory", "gc_interval", DURATION, 300000, 0, MG_DAY_MS,     \
    MG_KEEP, 600000, 180000, MG_KEEP, MG_KEEP,                                \
    "memory.gc_interval_ms",                                                  \
    "least time between two rounds of reclaiming at the same level; a "       \
    "higher level, a forced step at force_gc_threshold and byte_aware_gc "    \
    "do not wait for it")                                                     \
  X(HISTORY_SIZE, "memory", "history_size", COUNT, 1000, 2, 100000,           \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "memory.max_history",                                                     \
    "samples kept; the oldest are dropped")                                   \
  X(RAPID_GROWTH, "memory", "rapid_growth_mb_per_minute", RATE, 10, 0.1, MG_TIB_MB, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "growth of resident memory or heap from which `trend:rapid-growth` "      \
    "and the alert `rapid_growth` are raised")                                \
  X(LONG_PAUSE, "memory", "long_pause", DURATION, 20, 0.001, 60000,           \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "memory.long_pause_ms",                                                   \
    "a garbage collection that takes longer is logged, and raises the "       \
    "alert `long_pause`")                                                     \
  X(GC_BUDGET, "memory", "gc_budget_percent", PERCENT, 5, 0.1, 100,           \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "share of time that collections started by memguard may take")            \
  X(GC_BUDGET_CRITICAL, "memory", "gc_budget_critical_percent", PERCENT, 20, 0.1, 100, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "the same while the level is critical")                                   \
  X(BYTE_AWARE_GC, "memory", "byte_aware_gc", BOOL, 1, 0, 1,                  \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "CPython: whether growth of large blocks makes a collection due")         \
  X(AUTO_TUNE, "memory", "auto_tune", BOOL, 0, 0, 1,                          \
    MG_KEEP, MG_KEEP, 1, MG_KEEP, MG_KEEP,                                    \
    "",                                                                       \
    "whether memguard may tune the collector: CPython, freeze the heap "      \
    "and choose thresholds by what it measures; Node, collect while the "     \
    "event loop is idle")                                                     \
  X(IDLE_LOAD, "memory", "idle_load", RATIO, 0.3, 0, 1,                       \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "reported load below which idle moments are used to collect; 0: never")   \
  X(STRATEGY_TIMEOUT, "memory", "strategy_timeout", DURATION, 2000, 1, 600000, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "memory.strategy_timeout_ms",                                             \
    "longest time one strategy of an optimization may take before the "       \
    "next one runs")                                                          \
  X(BACKGROUND_CALLBACKS, "memory", "background_callbacks", BOOL, 0, 0, 1,    \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "CPython: true lets pressure callbacks and sinks also run on "            \
    "memguard's own thread; false runs them only inside calls the "           \
    "program makes")                                                          \
  X(PRESSURE_THRESHOLD, "memory_monitor", "pressure_threshold", RATIO, 0.8, 0.01, 1, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "memory.pressure_threshold",                                              \
    "pressure from which pressure callbacks run and buffers are halved; "     \
    "above 0.9 callbacks run and buffers are flushed and shrink to "          \
    "min_buffer_size, whatever it says")                                      \
  X(MONITORING_INTERVAL, "memory_monitor", "monitoring_interval", COUNT, 100, 1, 1e9, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "memory.monitoring_interval",                                             \
    "operations of the program between two checks of the pressure")           \
  X(DEFAULT_BUFFER_SIZE, "buffer_manager", "default_buffer_size", COUNT, 100, 1, 1e9, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "items a new buffer holds before it should be flushed")                   \
  X(MAX_BUFFER_SIZE, "buffer_manager", "max_buffer_size", COUNT, 1000, 1, 1e9, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "largest size a buffer grows to")                                         \
  X(MIN_BUFFER_SIZE, "buffer_manager", "min_buffer_size", COUNT, 10, 1, 1e9,  \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "smallest size a buffer shrinks to")                                      \
  X(AUTO_RESIZE, "buffer_manager", "auto_resize", BOOL, 1, 0, 1,              \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "whether buffer sizes follow the pressure")                               \
  X(HEAP_USED_WARNING, "thresholds", "heap_used_warning", PERCENT, 70, 1, 100, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "thresholds.heap_used_warning_percent",                                   \
    "heap use, of the heap's real limit, that raises a warning")              \
  X(HEAP_USED_CRITICAL, "thresholds", "heap_used_critical", PERCENT, 85, 1, 100, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "thresholds.heap_used_critical_percent",                                  \
    "heap use, of the heap's real limit, that is critical")                   \
  X(RSS_WARNING, "thresholds", "rss_warning", MB, 512, 1, 16 * MG_TIB_MB,     \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "thresholds.rss_warning_mb",                                              \
    "resident memory that raises a warning")                                  \
  X(RSS_CRITICAL, "thresholds", "rss_critical", MB, 1024, 1, 16 * MG_TIB_MB,  \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "thresholds.rss_critical_mb",                                             \
    "resident memory that is critical")                                       \
  X(LEAK_WARNING_COUNT, "thresholds", "leak_warning_count", COUNT, 100, 1, 1e12, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "value of a registered object counter that raises `leak:warning`")        \
  X(LEAK_CRITICAL_COUNT, "thresholds", "leak_critical_count", COUNT, 500, 1, 1e12, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "value of a registered object counter that raises `leak:critical`")       \
  X(POOL_ENABLED, "pool", "pool_enabled", BOOL, 1, 0, 1,                      \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "pool.enabled",                                                           \
    "false: pools allocate each buffer plainly, with the same checks")        \
  X(POOL_MAX_MB, "pool", "max_pool_mb", MB, 1024, 1, 16 * MG_TIB_MB,          \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "pool.max_mb",                                                            \
    "memory a pool keeps, rented or idle; beyond it buffers are "             \
    "allocated plainly")                                                      \
  X(POOL_THREAD_CACHE_MB, "pool", "thread_cache_mb", MB, 0.25, 0, 1024,       \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "pool.thread_cache",                                                      \
    "idle buffers of one size that a thread keeps for itself at most")        \
  X(POOL_HUGE_CACHE_MB, "pool", "huge_cache_mb", MB, 64, 0, 16 * MG_TIB_MB,   \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "pool.huge_cache",                                                        \
    "idle buffers above 1 MB that a pool keeps at most")                      \
  X(POOL_LEAK_CHECK, "pool", "leak_check", LEAK_CHECK, 1, 0, 3,               \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "how closely rentals are watched: disabled, simple (samples), "           \
    "advanced (and guard pages: a wrong access ends the process), "           \
    "paranoid (every rental)")                                                \
  X(POOL_SUSPECT_AFTER, "pool", "suspect_after", DURATION, 300000, 1, MG_DAY_MS, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "pool.suspect_after_ms",                                                  \
    "age from which a rental is suspected to be forgotten")                   \
  X(LEAK_DETECTION, "leak", "leak_detection", BOOL, 1, 0, 1,                  \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "leak.enabled",                                                           \
    "whether leaks are looked for while the manager runs")                    \
  X(LEAK_TIME_SCALE, "leak", "time_scale", COUNT, 1, 1, 1e6,                  \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "leak.leak_time_scale",                                                   \
    "what the leak detector divides each of its times by; for tests")         \
  X(LEAK_WINDOW, "leak", "leak_window", DURATION, 240000, 1000, MG_DAY_MS,    \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "leak.leak_window_ms",                                                    \
    "the shortest time in which growth is judged; the others are its "        \
    "doublings")                                                              \
  X(LEAK_WARMUP, "leak", "leak_warmup", DURATION, 0, 0, 7 * MG_DAY_MS,        \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "leak.leak_warmup_ms",                                                    \
    "time after the start in which growth is never a leak; 0: as long as "    \
    "the data show")                                                          \
  X(LEAK_CRITICAL_WITHIN, "leak", "critical_within", DURATION, 21600000, 0, 7 * MG_DAY_MS, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "leak.leak_critical_within leak.critical_within_ms",                      \
    "a leak that reaches its limit within this time is critical")             \
  X(LEAK_MIN_GROWTH_MB, "leak", "leak_min_growth_mb", MB, 4, 0.001, MG_TIB_MB, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "growth of memory below which nothing is said")                           \
  X(LEAK_CENSUS, "leak", "leak_census", BOOL, 1, 0, 1,                        \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "whether a suspicion may be followed by a census of the objects")         \
  X(LEAK_COLLECT, "leak", "leak_collect", DURATION, 100, 0, 60000,            \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "leak.leak_collect_ms",                                                   \
    "a full collection that last took no longer than this may be forced "     \
    "while memory rises, in 25 % of the time at most; a longer one while a "  \
    "leak is suspected, in 1 % (under a time_scale as a short one); 0: none") \
  X(LEAK_TRACE, "leak", "leak_trace", BOOL, 0, 0, 1,                          \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "whether a suspicion may be followed by a short trace of allocations")    \
  X(LEAK_FD_WARNING_COUNT, "leak", "fd_warning_count", COUNT, 800, 1, 1e9,    \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "open descriptors that raise `fd:warning`")                               \
  X(LEAK_FD_GROWTH, "leak", "fd_growth_per_minute", COUNT, 50, 1, 1e9,        \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "new descriptors in a minute that raise `fd:warning`")                    \
  X(ALERTS_ENABLED, "alert", "alerts_enabled", BOOL, 1, 0, 1,                 \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "alert.enabled",                                                          \
    "whether a running monitor raises alerts")                                \
  X(ALERT_COOLDOWN, "alert", "alert_cooldown", DURATION, 300000, 0, MG_DAY_MS, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "alert.cooldown alert.cooldown_ms alert.alert_cooldown_ms",               \
    "least time between the end of an alert and its return; what comes "      \
    "back earlier is counted")                                                \
  X(ALERT_RESOLVE_AFTER, "alert", "alert_resolve_after", DURATION, 60000, 0, MG_DAY_MS, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "alert.resolve_after alert.resolve_after_ms alert.alert_resolve_after_ms", \
    "time without its condition after which an alert is over")                \
  X(ALERT_HISTORY_SIZE, "alert", "alert_history_size", COUNT, 200, 1, 10000,  \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "alert.history_size",                                                     \
    "changes of alerts kept; the oldest are dropped and counted")             \
  X(HIGH_USAGE_FOR, "alert", "high_usage_for", DURATION, 10000, 0, MG_DAY_MS, \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "alert.high_usage_for_ms",                                                \
    "time at or above alert_threshold before `high_usage` is raised")         \
  X(CRITICAL_FOR, "alert", "critical_for", DURATION, 0, 0, MG_DAY_MS,         \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "alert.critical_for_ms",                                                  \
    "time at or above force_gc_threshold before `critical` is raised")        \
  X(GC_HIGH_PERCENT, "alert", "gc_high_percent", PERCENT, 10, 0.1, 100,       \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "",                                                                       \
    "share of the process's CPU time in collections that is too much")        \
  X(GC_HIGH_FOR, "alert", "gc_high_for", DURATION, 180000, 0, MG_DAY_MS,      \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "alert.gc_high_for_ms",                                                   \
    "time above gc_high_percent before `gc_high` is raised")                  \
  X(SEGMENT_ENABLED, "segment", "segment_enabled", BOOL, 1, 0, 1,             \
    MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP, MG_KEEP,                              \
    "segment.enabled",                                                        \
    "whether a running monitor shows the process to the memguard tool, in "   \
    "a small file in memory that outlives it")

typedef enum mg_config_id {
#define MG_CONFIG_ENUM(id, ...) MG_CONFIG_##id,
  MG_CONFIG_MAP(MG_CONFIG_ENUM)
#undef MG_CONFIG_ENUM
      MG_CONFIG_IDS /* how many there are */
} mg_config_id;

/** One row of the table. All strings are static. */
typedef struct mg_config_row {
  const char *section;
  const char *name;
  mg_config_type type;
  double fallback;    /* the default */
  double min, max;    /* both allowed */
  double profile[MG_PROFILES];  /* by mg_profile; the default already filled in */
  const char *aliases; /* paths separated by one space; may be empty */
  const char *doc;
} mg_config_row;

/** The settings in force. Read with mg_config_get(); change only through the
 *  functions below, which keep every value inside its range. */
typedef struct mg_config {
  double value[MG_CONFIG_IDS];
  bool is_set[MG_CONFIG_IDS]; /* named by a file, the environment or a mapping */
  mg_profile profile;
} mg_config;

/** A value in force, in the unit of its row; a choice or a flag as its number. */
static inline double mg_config_get(const mg_config *config, mg_config_id id) {
  return config->value[id];
}

/** @return row `id` [borrowed, static]; NULL if out of range. */
MG_API const mg_config_row *mg_config_row_at(mg_config_id id);

/** Fills `out` with the defaults of `profile`. */
MG_API void mg_config_init(mg_config *out, mg_profile profile);

/** Finds a profile by name: "default", "development", "production", "high-load",
 *  "queue-development", "queue-production"; case, '_' and '-' are ignored.
 *  @return MG_OK, MG_EINVAL (the error lists the names). */
MG_API mg_status mg_profile_find(mg_profile *out, const char *name,
                                 mg_error *err);
MG_API const char *mg_profile_name(mg_profile profile);

/** Finds the key of a path.
 *  @return MG_OK, MG_EKEY (the error names the nearest known key), MG_ETYPE (the
 *  path is that of a section). */
MG_API mg_status mg_config_find(mg_config_id *out, const char *path,
                                mg_error *err);

/** @return whether `name` is the section of some key or alias, so that a
 *  binding may descend into a mapping of that name. */
MG_API bool mg_config_is_section(const char *name);

/** Sets one key. On failure nothing has changed.
 *  @return MG_OK, MG_EKEY, MG_ETYPE (wrong kind of value for the key), MG_ERANGE
 *  (the error names path, value and range; NaN and infinities are out of it). */
MG_API mg_status mg_config_set_number(mg_config *config, const char *path,
                                      double value, mg_error *err);
MG_API mg_status mg_config_set_bool(mg_config *config, const char *path,
                                    bool value, mg_error *err);
/** As above from text with a unit: "30s", "85%", "512MB", "true". Plain
 *  numbers work too. */
MG_API mg_status mg_config_set_text(mg_config *config, const char *path,
                                    const char *text, mg_error *err);

/** What values of a type may be, for people: "a whole number". */
MG_API const char *mg_config_expected(mg_config_type type);
/** Unit in which values of a type are stored: "MB", "%", "ms", "MB/minute"; of a
 *  type without one "". */
MG_API const char *mg_config_unit(mg_config_type type);

/** Reports a value of a kind no key takes (a list, null, an object).
 *  @return MG_EKEY if the key is unknown, else MG_ETYPE. */
MG_API mg_status mg_config_refuse(const char *path, const char *kind,
                                  mg_error *err);

/** Takes MEMGUARD_SECTION_NAME and MEMGUARD_NAME variables out of an
 *  environment block ("NAME=value" strings, NULL-terminated) together with
 *  MEMGUARD_PROFILE, which must have been looked up by the caller before. Names
 *  that memguard uses otherwise (MEMGUARD_PROFILE, MEMGUARD_CONFIG,
 *  MEMGUARD_DIR, MEMGUARD_PREBUILD, MEMGUARD_VERDICT_DIR, MEMGUARD_WEB_TOKEN,
 *  MEMGUARD_WEB_TOKEN_FILE) are passed over.
 *  @return MG_OK, or the first failure; the error names the variable. */
MG_API mg_status mg_config_set_environment(mg_config *config,
                                           const char *const *block,
                                           mg_error *err);

/** The rules between keys: low < high <= alert <= force water mark; warning <=
 *  critical; min <= default <= max buffer size. A key that nobody set moves to
 *  fit the one that somebody did; two that were set and contradict are an error.
 *  @return MG_OK, MG_ECONFLICT (the error names both keys and values). */
MG_API mg_status mg_config_check(mg_config *config, mg_error *err);

#ifdef __cplusplus
}
#endif
#endif
