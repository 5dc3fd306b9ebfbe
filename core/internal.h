/* internal.h - prototypes shared inside the core, grouped by the file that owns
 * them. Every core file includes its own public header first, then this. */
#ifndef MG_CORE_INTERNAL_H
#define MG_CORE_INTERNAL_H

#include <stdatomic.h>

#include "memguard/buffer.h"
#include "memguard/detector.h"
#include "memguard/history.h"
#include "memguard/monitor.h"
#include "memguard/pause.h"
#include "memguard/policy.h"

/* ---- base.c ------------------------------------------------------------ */

/** Fills `err` (NULL allowed) and returns `status`, so that a function can end
 *  with `return mg__fail(err, MG_EINVAL, "...", ...)`. */
mg_status mg__fail(mg_error *err, mg_status status, const char *format, ...)
    MG_PRINTF(3, 4);
/** The same for a failed system call; adds the text of `system_errno`. */
mg_status mg__fail_errno(mg_error *err, int system_errno, const char *format,
                         ...) MG_PRINTF(3, 4);

/** The core's allocator. Zeroed; NULL when there is no memory. */
void *mg__alloc(size_t bytes);
/** Not zeroed, so that pages never used stay unmapped. */
void *mg__alloc_untouched(size_t bytes);
void *mg__resize(void *block, size_t bytes);
/** NULL allowed. */
void mg__free(void *block);
/** Copies a string. NULL when there is no memory. */
char *mg__strdup(const char *text);

/* ---- config_text.c ----------------------------------------------------- */

#define MG__CONFIG_NAME_BYTES 128 /* a normalised path; longer ones are unknown */

/** ASCII only, whatever the locale. */
char mg__config_lower(char c);
/** Lower-cases `bytes` of `text` and leaves '_' and '-' out, so that names of
 *  all styles compare equal. @return the length; 0 if empty or too long. */
size_t mg__config_normalise(char out[MG__CONFIG_NAME_BYTES], const char *text,
                            size_t bytes);
/** Reads a setting of `type`. @param bare_ms a duration without a unit is in
 *  milliseconds, else in seconds. @return false if it is not one. */
bool mg__config_parse(const char *text, mg_config_type type, bool bare_ms,
                      double *out);

/* ---- policy_rate.c ----------------------------------------------------- */

/** Moves the clock, to which `now_ms` may be no number: leaks the bucket. */
void mg__policy_advance(mg_policy *policy, const mg_config *config,
                        mg_level level, double now_ms);
/** Adds collection time. */
void mg__policy_charge(mg_policy *policy, double gc_ms);
/** Time that a collection is expected to take. */
double mg__policy_expected_ms(const mg_policy *policy, mg_action action);
/** Whether that fits into a bucket that holds `bucket_ms` already. */
bool mg__policy_fits(double bucket_ms, double gc_ms, double capacity_ms);
/** Bytes per ms to expect. */
double mg__policy_worth(const mg_policy *policy, mg_action action);
/** Learns from an action that was done. */
void mg__policy_learn(mg_policy *policy, mg_action action,
                      const mg_outcome *outcome);
/** Remembers the usage just seen for the slopes. */
void mg__policy_remember(mg_policy *policy);
/** Whether the limit is near. */
bool mg__policy_is_near(const mg_policy *policy, const mg_config *config);

/* ---- trend.c ----------------------------------------------------------- */

/** Puts the k-th smallest value at place k. None may be NaN. */
void mg__select(double *values, size_t count, size_t k);

/* ---- buffer.c ---------------------------------------------------------- */

/** Around fork(): hold the lock; release it in the parent and in the child. */
void mg__buffers_before_fork(mg_buffers *buffers);
void mg__buffers_after_fork(mg_buffers *buffers);

/* ---- event.c ----------------------------------------------------------- */

/** Bounded queue of events; the owner's lock. */
typedef struct mg__events {
  mg_event *ring; /* MG_EVENT_QUEUE of them */
  uint32_t first, count;
  uint64_t lost;
} mg__events;

mg_status mg__events_open(mg__events *out, mg_error *err);
void mg__events_close(mg__events *events);
/** Adds a copy; takes the place of a waiting event that says the same of an
 *  earlier moment; evicts the oldest of a full queue. */
void mg__events_push(mg__events *events, const mg_event *event);
bool mg__events_pop(mg__events *events, mg_event *out);
void mg__events_clear(mg__events *events);
/** Lost by all queues of the process so far. */
uint64_t mg__events_lost(void);

/* ---- counter.c --------------------------------------------------------- */

typedef struct mg__counter {
  char key[MG_COUNTER_KEY_BYTES];
  uint64_t value;
  mg_health raised; /* the level already reported */
} mg__counter;

/** Object counters in order of registration; the owner's lock. */
typedef struct mg__counters {
  mg__counter *list;
  size_t count, capacity;
} mg__counters;

void mg__counters_close(mg__counters *counters);
mg_status mg__counters_register(mg__counters *counters, const char *key,
                                mg_error *err);
/** @return NULL if unknown (then `err` says so). */
mg__counter *mg__counters_find(const mg__counters *counters, const char *key,
                               mg_error *err);
/** Adds `delta`, held inside 0 to UINT64_MAX. */
void mg__counter_add(mg__counter *counter, int64_t delta);
/** What `value` means by the thresholds of `config`. */
mg_health mg__counter_health(const mg__counter *counter,
                             const mg_config *config);
/** @return whether `counter` rose to a level not reported yet; notes it. */
bool mg__counter_has_news(mg__counter *counter, const mg_config *config);

/* ---- health.c ---------------------------------------------------------- */

/** mg_issue bits of heap and resident set by the thresholds. */
uint32_t mg__health_issues(const mg_config *config, const mg_reading *reading);
mg_health mg__health_severity(uint32_t issues);

/* ---- look.c ------------------------------------------------------------ */

/** What was told last of a heap. No lock: the fields are of one moment, but for one
 *  who reads while they are told. */
typedef struct mg__look {
  _Atomic bool is_told;
  _Atomic uint64_t block_bytes, block_total_bytes, block_idle_bytes,
      heap_objects, malloc_used_bytes, malloc_total_bytes, total_alloc_bytes;
} mg__look;

/** Sets the fields of the reading if anything was told. */
void mg__look_read(const mg__look *look, mg_reading *out);
/** The same of the process, its CPU time and what is counted for it. */
void mg__look_at_process(mg_reading *out);

/* ---- growth.c ---------------------------------------------------------- */

typedef enum mg__series { MG__SERIES_RSS, MG__SERIES_HEAP } mg__series;

/** Trend of the newest `count` samples (at most MG_TREND_POINTS). */
void mg__growth_trend(const mg_history *history, size_t count,
                      mg__series series, mg_trend *out);
/** Whether that is more than rapid_growth_mb_per_minute, and lasts. */
bool mg__growth_is_rapid(const mg_history *history, const mg_config *config,
                         mg__series series, double *out_mb_per_minute);

/* ---- publish.c --------------------------------------------------------- */

#define MG__SAMPLE_WORDS (sizeof(mg_sample) / sizeof(uint64_t))

/** All zero is a valid start: sample number 0. */
typedef struct mg__published {
  _Atomic uint32_t sequence; /* odd while the words change */
  _Atomic uint64_t word[MG__SAMPLE_WORDS];
  _Atomic uint64_t pressure_bits, clock_ns;
} mg__published;

/** One writer at a time; the others from any thread. */
void mg__publish(mg__published *published, const mg_sample *sample);
void mg__published_latest(const mg__published *published, mg_sample *out);
double mg__published_pressure(const mg__published *published);
uint64_t mg__published_clock_ns(const mg__published *published);
void mg__page_write(mg_page *page, const mg_sample *sample,
                    uint32_t generation);

/* ---- pause.c ------------------------------------------------------------ */

#define MG__PAUSE_BUCKETS 384u
/** Bucket of a time; below MG__PAUSE_BUCKETS. No call out. */
uint32_t mg__pause_bucket(uint64_t ns);
/** Largest time of a bucket, in ns. */
uint64_t mg__pause_bucket_end(uint32_t bucket);

/* ---- control.c ---------------------------------------------------------- */

/** Listens beside the segment while there is one and somebody registered; "":
 *  there is none. The sampler thread. */
void mg__control_follow(const char *segment_path, double now_ms);
/** Closes all. The sampler thread is not there. */
void mg__control_rest(void);
/** Whether mg__control_work() would run something: one atomic load. */
bool mg__control_has_job(void);
/** Runs a request. The worker thread, no lock is held. */
void mg__control_work(void *unused);
/** Around fork(). */
void mg__control_before_fork(void);
void mg__control_after_fork(void);
void mg__control_after_fork_in_child(void);

/* ---- segment.c ---------------------------------------------------------- */

/** A pass of the sampler thread: begins; offers the sample of one monitor that is
 *  to be sampled again in `due_ms`, with the live bytes its engine knows; writes the one whose usage is highest. */
void mg__segment_begin_pass(void);
void mg__segment_offer(const mg_config *config, const mg_sample *sample,
                       uint64_t live_bytes, double due_ms);
void mg__segment_publish(void);
/** For the recorder. Any thread, a monitor's lock may be held. */
void mg__segment_note_event(const mg_event *event, const mg_sample *sample);
void mg__segment_note_round(const mg_round *round);

/* ---- alert_watch.c ------------------------------------------------------ */

/** A collection ended: no lock, no allocation, no call out. */
void mg__alert_note_gc(const mg_pause *pause);
/** Which kinds are parts of other collections, and count for nothing here. */
void mg__alert_note_phases(uint32_t phase_kinds);
/** A run of this program before this one ended out of memory, with this usage. */
void mg__alert_note_previous(double usage);

/* ---- segment_life.c ----------------------------------------------------- */

/** Opens what is wanted, watches it, goes on reaping. The sampler thread, no lock
 *  is held. `now_ms` is monotonic; cheap as long as nothing is due. */
void mg__segment_tick(double now_ms);
/** `monitor` runs now: if it wants the file, one that a stop left says so before
 *  the first sample. The sampler's lock is held. */
void mg__segment_resume(const mg_monitor *monitor);
/** Nothing is watched any more. The sampler thread is not there. */
void mg__segment_rest(void);
/** Around fork(). */
void mg__segment_before_fork(void);
void mg__segment_after_fork(void);
void mg__segment_after_fork_in_child(void);

/* ---- metrics.c ---------------------------------------------------------- */

/** Connections in use of all pools; MG_ABSENT while none was ever counted. */
uint64_t mg__connections_read(void);
void mg__connections_after_fork_in_child(void);

/* ---- reclaim.c --------------------------------------------------------- */

/** Offers a sample; called with the monitor's lock held.
 *  @return whether there is something to do now. */
bool mg__reclaim_offer(mg_reclaim *reclaim, mg_monitor *monitor,
                       const mg_config *config, const mg_sample *sample);
/** Forgets `monitor`; when it returns, the engine does not look at it. */
void mg__reclaim_leave(mg_reclaim *reclaim, const mg_monitor *monitor);
/** What is due, on the worker. */
void mg__reclaim_work(mg_reclaim *reclaim);
/** Live bytes of the heap as far as known without work, or MG_ABSENT. No lock. */
uint64_t mg__reclaim_live_bytes(const mg_reclaim *reclaim);
/** @return number of the newest finished round. */
uint64_t mg__reclaim_count(const mg_reclaim *reclaim);
/** @return collections made so far, by itself or by hand. */
uint64_t mg__reclaim_collections(const mg_reclaim *reclaim);
/** Around fork(): hold the lock; release it. */
void mg__reclaim_before_fork(mg_reclaim *reclaim);
void mg__reclaim_after_fork(mg_reclaim *reclaim);
void mg__reclaim_after_fork_in_child(mg_reclaim *reclaim);

/* ---- pool_life.c -------------------------------------------------------- */

/** Nobody ticks any more: what is rented from now on has no known age. */
void mg__pools_stop_time(void);
/** Sums over all open pools. */
typedef struct mg__pools_total {
  uint64_t pools, rented, rented_bytes, held_bytes, suspected;
} mg__pools_total;
void mg__pools_read_total(mg__pools_total *out);

/* ---- pool_pressure.c --------------------------------------------------- */

/** A monitor goes from `*level` to another one. No lock. */
void mg__pools_move(mg_level *level, mg_level to);
/** Tells all pools the highest level, if it is another one than they were told
 *  last. No lock may be held. */
void mg__pools_follow(void);
void mg__pools_after_fork_in_child(void);

/* ---- monitor.c --------------------------------------------------------- */

typedef struct mg__verdict {
  double due_ms; /* until this monitor wants the next sample */
  bool is_tight; /* usage is above the low water mark */
  bool wake;     /* events wait: call hooks.wake */
  bool deliver;  /* events wait for the worker thread */
  bool reclaim;  /* the engine has something to do */
} mg__verdict;

typedef enum mg__pass {
  MG__PASS_CHECK,     /* asked for by the host, not recorded */
  MG__PASS_RECORD,    /* asked for by the host, recorded */
  MG__PASS_BACKGROUND /* the sampler's; recorded when monitor_interval is over */
} mg__pass;

/** Judges one reading for one monitor, publishes the sample, queues events. */
mg__verdict mg__monitor_judge(mg_monitor *monitor, const mg_reading *reading,
                              uint64_t clock_ns, uint64_t unix_ms,
                              mg__pass pass, mg_sample *out);
/** Sets the heap fields to what the runtime told last. No lock. */
void mg__monitor_add_heap(const mg_monitor *monitor, mg_reading *out);
/** Collections of the engine since it was joined. */
uint64_t mg__monitor_collections(const mg_monitor *monitor);
/** Queues MG_EVENT_STARTED or MG_EVENT_STOPPED. */
void mg__monitor_note_life(mg_monitor *monitor, mg_event_kind kind);
/** Share of the limit at which the kernel should tell of a cgroup v1. */
double mg__monitor_notice_ratio(const mg_monitor *monitor);
/** Around fork(): hold the lock; release it in the parent and in the child. */
void mg__monitor_before_fork(mg_monitor *monitor);
void mg__monitor_after_fork(mg_monitor *monitor);

/** Queues events of a detector, with the latest sample. Takes the lock. */
void mg__monitor_raise(mg_monitor *monitor, const mg_event *events,
                       size_t count);
/** Calls the hooks if events or requests wait. No lock. */
void mg__monitor_tell_news(mg_monitor *monitor);
/** Joins or leaves (NULL) a detector. Takes the lock.
 *  @return false: it has one already, nothing has changed. */
bool mg__monitor_detect(mg_monitor *monitor, mg_detector *detector);

/* ---- detector.c -------------------------------------------------------- */

/** Takes a sample in; called with the monitor's lock held. @param out_event the
 *  warning of descriptors, if `out_has_event`. @return whether a request waits. */
bool mg__detector_sample(mg_detector *detector, const mg_config *config,
                         const mg_sample *sample, mg_event *out_event,
                         bool *out_has_event);
/** Whether what it warned of last, of descriptors, is still so. */
bool mg__detector_fds_warned(mg_detector *detector);
/** ms between two samples that it needs at most; INFINITY: whatever they are. */
double mg__detector_due_ms(mg_detector *detector);
/** What is due of all detectors: wide readings, judgements. No lock may be held.
 *  @return whether a monitor has news by it. */
bool mg__detectors_work(void);
/** `monitor` is closed: returns when no detector looks at it. */
void mg__detector_orphan(mg_monitor *monitor);
/** Closes files that nobody reads for now. */
void mg__detectors_rest(const mg_monitor *monitor);
/** Around fork(): the registry, before the lock of any monitor; then each
 *  detector. */
void mg__detectors_lock(void);
void mg__detectors_before_fork(void);
void mg__detectors_after_fork(void);
void mg__detectors_after_fork_in_child(void);

/* ---- sampler.c --------------------------------------------------------- */

/** A monitor's place with the process-wide sampler; guarded by its lock. */
typedef struct mg__seat mg__seat;
struct mg__seat {
  mg__seat *next;
  mg_monitor *monitor;
  mg_monitor_hooks hooks;
  uint32_t pins; /* hooks being called right now */
  bool running, wake_due, deliver_due, tick_due;
  void (*tick)(void *ctx); /* NULL: none wanted */
  double tick_every_ms, tick_at_ms;
};

/** An engine's place with the worker thread; guarded by the sampler's lock but
 *  for `due`. */
typedef struct mg__engine mg__engine;
struct mg__engine {
  mg__engine *next;
  mg_reclaim *reclaim;
  uint32_t pins;
  bool is_urgent; /* it may be asked from where no thread can be started: the
                     worker is up as long as the sampler is */
  _Atomic bool due;
};

/** @return MG_OK, MG_ENOMEM (fork handlers). */
mg_status mg__sampler_add(mg__seat *seat, mg_error *err);
/** Stops the seat; returns when none of its hooks runs. */
void mg__sampler_remove(mg__seat *seat);
/** Notes MG_EVENT_STARTED before the first sample, if it did not run before
 *  (`out_began`). @return MG_OK, MG_ESYS, MG_ENOMEM. */
mg_status mg__sampler_start(mg__seat *seat, bool *out_began, mg_error *err);
/** @return whether it ran. */
bool mg__sampler_stop(mg__seat *seat);
bool mg__sampler_is_running(const mg__seat *seat);
/** The resident set, MG_ABSENT if no samples are taken in the background. Never
 *  waits: a thread that has the lock may have no CPU.
 *  @return false if a thread is reading anew at this moment. */
bool mg__sampler_try_rss(const mg__seat *seat, uint64_t *out_bytes);
uint64_t mg__sampler_fd_count(void);
/** Has the worker thread call hooks.deliver. */
void mg__sampler_deliver(mg__seat *seat);
/** @return MG_OK, MG_ENOMEM (fork handlers). */
mg_status mg__sampler_add_engine(mg__engine *engine, mg_error *err);
/** Returns when the worker is not at it. */
void mg__sampler_remove_engine(mg__engine *engine);
/** Has the worker call mg__reclaim_work(). No lock, safe in a signal handler. */
void mg__sampler_post(mg__engine *engine);
/** Has the worker look at all engines, if anything runs in the background. */
void mg__sampler_work_off(void);
/** Makes the sampler look at its monitors' intervals again. */
void mg__sampler_nudge(void);
/** How many forks this process is away from the first; no lock. */
uint32_t mg__sampler_forks(void);

#endif
