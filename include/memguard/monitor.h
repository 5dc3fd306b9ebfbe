/* memguard/monitor.h - watches the process and says what it sees.
 *
 * One sampler thread serves all monitors of a process. It starts with the
 * first mg_monitor_start() and is gone after the last mg_monitor_stop(). It
 * wakes by timer (sample_interval; earlier while memory fills fast) and by the
 * kernel where the kernel offers it: a PSI trigger, memory.events of cgroup v2,
 * a usage threshold of cgroup v1. Each wake-up is one pass: one reading of the
 * process, judged by every monitor against its own configuration, published,
 * and turned into events.
 *
 * Events wait in a bounded queue (MG_EVENT_QUEUE, per monitor) until the
 * binding takes them on the runtime's own thread with mg_monitor_next_event().
 * A newer event of a kind that states the present (stats, threshold, growth,
 * pressure, level, alert: there are changes, see alert.h) replaces a waiting one of that kind; a leak event is kept per
 * counter, one of a round per round; what a full queue evicts is counted.
 *
 * Threads: any thread may call any function on an open monitor;
 * mg_monitor_close() comes last and must not be called from a hook. No function
 * calls a hook with a lock held that another function here would wait for. */
#ifndef MEMGUARD_MONITOR_H
#define MEMGUARD_MONITOR_H

#include "memguard/buffer.h"
#include "memguard/reclaim.h"
#include "memguard/sample.h"
#include "memguard/trend.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_EVENT_QUEUE 64u
#define MG_COUNTER_KEY_BYTES 64 /* with its NUL */
#define MG_COUNTERS_MAX 256u

/** X(ID, name) */
#define MG_EVENT_MAP(X)                \
  X(STARTED, "monitoring:started")     \
  X(STOPPED, "monitoring:stopped")     \
  X(STATS, "stats:collected")          \
  X(THRESHOLD, "threshold:exceeded")   \
  X(RAPID_GROWTH, "trend:rapid-growth") \
  X(LEAK_WARNING, "leak:warning")      \
  X(LEAK_CRITICAL, "leak:critical")    \
  X(LEVEL, "level:changed")            \
  X(PRESSURE, "pressure")              \
  X(OPTIMIZATION, "optimization:automatic") \
  X(UNRECLAIMABLE, "memory:unreclaimable") \
  X(LEAK_SUSPECTED, "leak:suspected")  \
  X(LEAK_WITHDRAWN, "leak:withdrawn")  \
  X(FD_WARNING, "fd:warning")          \
  X(ALERT, "alert")

typedef enum mg_event_kind {
#define MG_EVENT_ENUM(id, name) MG_EVENT_##id,
  MG_EVENT_MAP(MG_EVENT_ENUM)
#undef MG_EVENT_ENUM
      MG_EVENTS
} mg_event_kind;

/** X(ID, bit, name, text): what a threshold event or a health check found. The
 *  name is the `type` of an alert; the text is advice, one sentence. */
#define MG_ISSUE_MAP(X)                                                       \
  X(HEAP_WARNING, 0, "heap_warning",                                          \
    "Heap use passed its warning threshold: look for caches to bound.")       \
  X(HEAP_CRITICAL, 1, "heap_critical",                                        \
    "Heap use is critical: collect garbage, shed load or raise the limit.")   \
  X(RSS_WARNING, 2, "rss_warning",                                            \
    "Resident memory passed its warning threshold: flush buffers and trim "   \
    "pools.")                                                                 \
  X(RSS_CRITICAL, 3, "rss_critical",                                          \
    "Resident memory is critical: shed load or restart soon.")                \
  X(LEVEL_HIGH, 4, "usage_high",                                              \
    "Usage is above alert_threshold of the limit that is nearest.")           \
  X(LEVEL_CRITICAL, 5, "usage_critical",                                      \
    "Usage is above force_gc_threshold of the limit that is nearest.")        \
  X(GROWTH, 6, "rapid_growth",                                                \
    "Memory grows faster than rapid_growth_mb_per_minute.")                   \
  X(LEAK, 7, "object_counter",                                                \
    "A registered object counter passed its threshold: objects are not "      \
    "released.")

typedef enum mg_issue {
#define MG_ISSUE_ENUM(id, bit, name, text) MG_ISSUE_##id = 1 << (bit),
  MG_ISSUE_MAP(MG_ISSUE_ENUM)
#undef MG_ISSUE_ENUM
} mg_issue;

/** X(ID, name) in rising order */
#define MG_HEALTH_MAP(X)  \
  X(HEALTHY, "healthy")   \
  X(WARNING, "warning")   \
  X(CRITICAL, "critical")

typedef enum mg_health {
#define MG_HEALTH_ENUM(id, name) MG_HEALTH_##id,
  MG_HEALTH_MAP(MG_HEALTH_ENUM)
#undef MG_HEALTH_ENUM
} mg_health;

typedef struct mg_event {
  mg_event_kind kind;
  mg_health severity;    /* THRESHOLD, LEAK_*: warning or critical */
  mg_level previous;     /* LEVEL: the level before */
  uint32_t issues;       /* THRESHOLD: mg_issue bits */
  bool growth_is_heap;   /* RAPID_GROWTH: heap, else resident set */
  double mb_per_minute;  /* RAPID_GROWTH */
  uint64_t count;        /* LEAK_*: value of the counter; FD_WARNING: open
                            descriptors */
  uint64_t threshold;    /* LEAK_*: what it passed; FD_WARNING: the number to
                            warn of */
  uint64_t finding;      /* LEAK_*: number of a detector's finding (detector.h);
                            0: a counter passed its threshold */
  double growth_per_minute; /* LEAK_* with a finding: in the unit of its signal;
                               FD_WARNING: descriptors, NaN if not known yet */
  uint64_t round;        /* OPTIMIZATION, UNRECLAIMABLE: number of the round of
                            the joined engine */
  char counter[MG_COUNTER_KEY_BYTES]; /* LEAK_*: its key; "" with a finding */
  mg_sample sample;      /* the sample that raised it */
} mg_event;

typedef struct mg_monitor_hooks {
  /** Events wait. Called on whatever thread made the pass, most often the
   *  sampler: must not block, nor call the runtime or this monitor. May be NULL. */
  void (*wake)(void *ctx);
  /** Events wait, called on memguard's worker thread, which may block here (take
   *  the runtime's lock) and call this monitor. May be NULL. Used only while
   *  background_callbacks is true. */
  void (*deliver)(void *ctx);
  void *ctx;
} mg_monitor_hooks;
#define MG_MONITOR_HOOKS_INIT {NULL, NULL, NULL}

typedef struct mg_monitor mg_monitor;

/** Opens a monitor; nothing is sampled until mg_monitor_start() or a pass.
 *  @param out [owned] @param config [borrowed] copied; must have passed
 *  mg_config_check(). @param hooks [borrowed, may be NULL] copied.
 *  @return MG_OK, MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_monitor_open(mg_monitor **out, const mg_config *config,
                                 const mg_monitor_hooks *hooks, mg_error *err);
/** Stops and frees. When it returns no hook runs or will run. NULL allowed. */
MG_API void mg_monitor_close(mg_monitor *monitor);

/** Starts background sampling; does nothing if it runs already. With `enabled`
 *  false it succeeds and samples nothing. Raises MG_EVENT_STARTED.
 *  @return MG_OK, MG_ESYS (no thread could be started: everything else goes on
 *  working, sampled by passes). */
MG_API mg_status mg_monitor_start(mg_monitor *monitor, mg_error *err);
/** Stops background sampling of this monitor; raises MG_EVENT_STOPPED if it ran. */
MG_API void mg_monitor_stop(mg_monitor *monitor);
MG_API bool mg_monitor_is_running(const mg_monitor *monitor);

/** Puts a checked configuration in force, whole; also while running.
 *  @return MG_OK, MG_ENOMEM (then nothing has changed). */
MG_API mg_status mg_monitor_configure(mg_monitor *monitor,
                                      const mg_config *config, mg_error *err);
MG_API void mg_monitor_read_config(const mg_monitor *monitor, mg_config *out);
/** One of its settings, without copying the others. */
MG_API double mg_monitor_setting(const mg_monitor *monitor, mg_config_id id);

/** Has memguard's worker thread call `tick` with the hooks' ctx each `every_ms`
 *  (10 at least) while the monitor runs; it may block there as in
 *  hooks.deliver. NULL ends that, but does not wait for one under way. */
MG_API void mg_monitor_set_tick(mg_monitor *monitor, void (*tick)(void *ctx),
                                double every_ms);

/** Keeps `buffers` at the pressure of each sample; NULL ends that.
 *  @param buffers [borrowed] until replaced or closed. */
MG_API void mg_monitor_follow(mg_monitor *monitor, mg_buffers *buffers);

/** Has each sample offered to `reclaim`, which acts by it, and its rounds raised
 *  as events of this monitor; NULL leaves.
 *  @param reclaim [borrowed] until replaced or closed. */
MG_API void mg_monitor_join(mg_monitor *monitor, mg_reclaim *reclaim);

/** The latest sample, without a lock. number is 0 if there is none yet. */
MG_API void mg_monitor_latest(const mg_monitor *monitor, mg_sample *out);
/** Only its pressure, 0.0 to 1.0: one atomic load. */
MG_API double mg_monitor_pressure(const mg_monitor *monitor);

/** One pass now, on this thread: read, judge, publish, raise events.
 *  @param record also append to the history and raise MG_EVENT_STATS.
 *  @param out [may be NULL] the sample. */
MG_API void mg_monitor_pass(mg_monitor *monitor, bool record, mg_sample *out);

/** Counts one operation of the host. @return whether monitoring_interval
 *  operations have gone by: then mg_monitor_glance() is due. A few ns. */
MG_API bool mg_monitor_operation(mg_monitor *monitor);
MG_API uint64_t mg_monitor_operations(const mg_monitor *monitor);
/** A pass, unless a sample younger than 20 ms is published already. */
MG_API void mg_monitor_check(mg_monitor *monitor);
/** As mg_monitor_check(), but while samples are taken in the background, one
 *  younger than 100 ms is enough if the resident set has moved by less than a
 *  64th since. That is looked at once in 2 ms, costs a tenth of a pass, and never
 *  waits for a lock. */
MG_API void mg_monitor_glance(mg_monitor *monitor);

/** What the runtime knows of its heap; the next samples carry it until it is told
 *  anew. Absent values are MG_ABSENT. No lock: may be called from inside a
 *  runtime's collection callback. */
typedef struct mg_heap {
  uint64_t used_bytes, total_bytes, limit_bytes, external_bytes,
      array_buffer_bytes;
} mg_heap;
#define MG_HEAP_INIT {MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT}
MG_API void mg_monitor_set_heap(mg_monitor *monitor, const mg_heap *heap);

/** What a look at the heap brings besides; all of one moment, MG_ABSENT if not
 *  known. The next samples carry it until it is told anew. */
typedef struct mg_heap_look {
  uint64_t block_bytes, block_total_bytes, block_idle_bytes, heap_objects,
      malloc_used_bytes, malloc_total_bytes, total_alloc_bytes;
} mg_heap_look;
#define MG_HEAP_LOOK_INIT \
  {MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT}
/** As mg_monitor_set_heap(). @param monitor NULL: of the whole process, for its
 *  monitors that were told of no heap of their own. */
MG_API void mg_monitor_set_look(mg_monitor *monitor, const mg_heap_look *look);

/** Which events are raised: bit 1 << mg_event_kind for each; all at first. What
 *  nobody listens to need not wake anybody. */
MG_API void mg_monitor_set_interest(mg_monitor *monitor, uint32_t kinds);
/** Takes the oldest waiting event. @return false if there is none. */
MG_API bool mg_monitor_next_event(mg_monitor *monitor, mg_event *out);
/** @return events evicted unread from a full queue. */
MG_API uint64_t mg_monitor_events_lost(const mg_monitor *monitor);

/** Copies the newest `max` recorded samples not older than `since_unix_ms` (0:
 *  all), oldest first. @return how many. With out NULL: how many there are. */
MG_API size_t mg_monitor_history(const mg_monitor *monitor,
                                 uint64_t since_unix_ms, mg_sample *out,
                                 size_t max);
/** Trends over the newest `count` recorded samples (at most MG_TREND_POINTS). */
MG_API void mg_monitor_trends(const mg_monitor *monitor, size_t count,
                              mg_trend *out_rss, mg_trend *out_heap);

/** Object counters: the host counts objects it opens and closes; a value at or
 *  above leak_warning_count / leak_critical_count raises an event, once per
 *  level until it falls below again. A counter never falls below 0.
 *  @return MG_OK, MG_EINVAL (key empty or longer than 63 bytes), MG_ERANGE (over
 *  MG_COUNTERS_MAX keys), MG_ENOTFOUND (increment or read of an unknown key). */
MG_API mg_status mg_monitor_counter_register(mg_monitor *monitor,
                                             const char *key, mg_error *err);
MG_API mg_status mg_monitor_counter_add(mg_monitor *monitor, const char *key,
                                        int64_t delta, uint64_t *out_value,
                                        mg_error *err);
MG_API mg_status mg_monitor_counter_reset(mg_monitor *monitor, const char *key,
                                          mg_error *err);
/** Counter `index` in order of registration. @return false beyond the end. */
MG_API bool mg_monitor_counter_at(const mg_monitor *monitor, size_t index,
                                  char key[MG_COUNTER_KEY_BYTES],
                                  uint64_t *out_value);

/** What is wrong now, from the latest sample, the trends and the counters.
 *  @param out_issues [may be NULL] mg_issue bits. */
MG_API mg_health mg_monitor_health(const mg_monitor *monitor,
                                   uint32_t *out_issues);

/** Forgets history, peak, operations, counters' values and waiting events. */
MG_API void mg_monitor_reset(mg_monitor *monitor);

/** Values a binding may keep where its hot path reads them without a call. */
#define MG_PAGE_MAP(X) \
  X(number)            \
  X(unix_ms)           \
  X(usage)             \
  X(pressure)          \
  X(domain)            \
  X(level)             \
  X(peak_rss_bytes)

enum {
#define MG_PAGE_ENUM(field) MG_PAGE_##field,
#define MG_PAGE_READING_ENUM(field, doc) MG_PAGE_##field,
  MG_PAGE_MAP(MG_PAGE_ENUM) MG_READING_MAP(MG_PAGE_READING_ENUM)
#undef MG_PAGE_ENUM
#undef MG_PAGE_READING_ENUM
      MG_PAGE_VALUES
};

/** offset 0  sequence     odd while being written; changes with each sample
 *  offset 4  generation   of the followed buffers, see buffer.h
 *  offset 8  value[...]   doubles in the order of MG_PAGE_MAP, MG_READING_MAP;
 *                         NaN if absent */
typedef struct mg_page {
  uint32_t sequence;
  uint32_t generation;
  double value[MG_PAGE_VALUES];
} mg_page;

/** Mirrors each sample into `page`; NULL ends that. When the call returns the
 *  former page is not written again.
 *  @param page [borrowed] 8-byte aligned, until replaced or closed. */
MG_API void mg_monitor_set_page(mg_monitor *monitor, mg_page *page);

/** Names as both runtimes show them. @return [borrowed] "unknown" for a foreign
 *  one. */
MG_API const char *mg_event_name(mg_event_kind kind);
MG_API const char *mg_health_name(mg_health health);
/** Name and text of one issue bit; "unknown" for a foreign one. */
MG_API const char *mg_issue_name(mg_issue issue);
MG_API const char *mg_issue_text(mg_issue issue);

#ifdef __cplusplus
}
#endif
#endif
