/* detector.c - brings numbers to leak.c and carries its verdicts out.
 *
 *   sample (monitor's lock)  -> mg__detector_sample: notes, watches descriptors
 *   between samples, no lock -> mg__detectors_work: wide reading -> judgement ->
 *                               events of the monitor, requests to the binding
 *
 * One registry of all detectors links them to monitors and pins those at work,
 * so that either side may be closed at any moment. Lock order: sampler ->
 * registry -> monitor -> detector; pools and readings are asked without ours. */
#include "memguard/detector.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "detector_parts.h"
#include "memguard/pool.h"

#define DETECTOR_NS_PER_MS 1e6
#define DETECTOR_SAMPLES 4.0 /* of a block */
#define DETECTOR_LEAST_WINDOW_MS (MG__WIDE_BLOCKS * MG__WIDE_LEAST_MS)

static struct {
  mg__mutex lock;
  mg__cond changed; /* a pin was dropped */
  mg_detector *list;
} registry = {.lock = MG__MUTEX_INIT, .changed = MG__COND_INIT};

/* Reading functions take a const detector; its lock is not part of what they
 * promise to leave alone. */
static mg__mutex *detector_lock_of(const mg_detector *d) {
  return (mg__mutex *)&d->lock;
}

/* ---- life ------------------------------------------------------------------ */

static mg_status detector_alloc(mg_detector **out, mg_error *err) {
  mg_detector *d = mg__alloc(sizeof *d);

  *out = d;
  if (d == NULL)
    return mg__fail(err, MG_ENOMEM, "leak detector, %zu bytes", sizeof *d);
  d->record = mg__alloc(MG_DETECTOR_FINDINGS * sizeof *d->record);
  d->found = mg__alloc_untouched(MG_LEAK_SERIES_MAX * sizeof *d->found);
  if (d->record == NULL || d->found == NULL)
    return mg__fail(err, MG_ENOMEM, "findings of a leak detector, %zu bytes",
                    MG_DETECTOR_FINDINGS * sizeof *d->record +
                        MG_LEAK_SERIES_MAX * sizeof *d->found);
  return MG_OK;
}

static void detector_free(mg_detector *d) {
  if (d == NULL) return;
  mg__footprint_close(&d->footprint);
  mg__detector_drop_counts(d);
  mg_leak_close(d->leak);
  mg__free(d->found);
  mg__free(d->record);
  mg__free(d);
}

static void detector_init(mg_detector *d, const mg_detector_options *options) {
  d->options = *options;
  d->footprint = (mg__footprint)MG__FOOTPRINT_INIT("");
  d->collected_ms = -1.0;
  d->held_before = d->heap_before = MG_ABSENT;
  d->stats.private_bytes = d->stats.native_bytes = d->stats.mappings =
      MG_ABSENT;
  d->stats.sockets = d->stats.pipes = d->stats.files = d->stats.others =
      MG_ABSENT;
  atomic_init(&d->collection.live_bytes, MG_ABSENT);
  atomic_init(&d->collection.live_blocks, MG_ABSENT);
  atomic_init(&d->collection.duration_ns, MG_ABSENT);
  for (int i = 0; i < MG_LEAK_SIGNALS; i++) atomic_init(&d->told[i], MG_ABSENT);
}

/* A window of less could not be filled, whatever the time scale. */
static mg_leak_settings detector_settings(const mg_config *config) {
  mg_leak_settings settings = mg_leak_settings_of(config);

  settings.window_ms = fmax(settings.window_ms, DETECTOR_LEAST_WINDOW_MS);
  return settings;
}

static mg_status detector_link(mg_detector *d, mg_monitor *monitor,
                               mg_error *err) {
  mg_status st = MG_OK;

  mg__lock(&registry.lock);
  d->monitor = monitor;
  if (mg__monitor_detect(monitor, d)) {
    d->next = registry.list;
    registry.list = d;
  } else {
    st = mg__fail(err, MG_EEXISTS, "the monitor has a leak detector already");
  }
  mg__unlock(&registry.lock);
  return st;
}

mg_status mg_detector_open(mg_detector **out, mg_monitor *monitor,
                           const mg_detector_options *options, mg_error *err) {
  mg_detector *d = NULL;
  mg_status st;

  *out = NULL;
  if (options->struct_bytes != sizeof *options)
    return mg__fail(err, MG_EINVAL,
                    "mg_detector_options has %zu bytes, need %zu: header and "
                    "library differ",
                    options->struct_bytes, sizeof *options);
  st = detector_alloc(&d, err);
  if (st != MG_OK) goto fail_detector;
  detector_init(d, options);
  mg_monitor_read_config(monitor, &d->config);
  d->settings = detector_settings(&d->config);
  st = mg_leak_open(&d->leak, &d->settings, err);
  if (st != MG_OK) goto fail_detector;
  st = mg__mutex_init(&d->lock, err);
  if (st != MG_OK) goto fail_detector;
  st = detector_link(d, monitor, err);
  if (st != MG_OK) goto fail_lock;
  *out = d;
  return MG_OK;

fail_lock:
  mg__mutex_destroy(&d->lock);
fail_detector:
  detector_free(d);
  return st;
}

/* Waits until nobody works for it, and parts it from its monitor. The registry is
 * locked. */
static void detector_part(mg_detector *d) {
  while (d->pins > 0) mg__cond_wait(&registry.changed, &registry.lock);
  if (d->monitor == NULL) return;
  mg__monitor_detect(d->monitor, NULL);
  d->monitor = NULL;
  mg__footprint_close(&d->footprint);
}

void mg_detector_leave(mg_detector *d) {
  mg__lock(&registry.lock);
  detector_part(d);
  mg__unlock(&registry.lock);
}

void mg_detector_close(mg_detector *d) {
  mg_detector **at;

  if (d == NULL) return;
  mg__lock(&registry.lock);
  detector_part(d);
  for (at = &registry.list; *at != d; at = &(*at)->next) {
  }
  *at = d->next;
  mg__unlock(&registry.lock);
  mg__mutex_destroy(&d->lock);
  detector_free(d);
}

void mg__detector_orphan(mg_monitor *monitor) {
  mg_detector *d;

  mg__lock(&registry.lock);
  d = registry.list;
  while (d != NULL) {
    if (d->monitor == monitor) {
      detector_part(d);
      d = registry.list; /* it may have changed meanwhile */
    } else {
      d = d->next;
    }
  }
  mg__unlock(&registry.lock);
}

void mg__detectors_rest(const mg_monitor *monitor) {
  mg__lock(&registry.lock);
  for (mg_detector *d = registry.list; d != NULL; d = d->next)
    if (d->monitor == monitor && !d->is_working)
      mg__footprint_close(&d->footprint);
  mg__unlock(&registry.lock);
}

/* ---- what is in force; the caller holds the lock ----------------------------- */

static bool detector_is_on(const mg_detector *d) {
  return !d->is_paused && !d->is_off;
}

static bool detector_same(const mg_leak_settings *a,
                          const mg_leak_settings *b) {
  return a->window_ms == b->window_ms && a->warmup_ms == b->warmup_ms &&
         a->critical_within_ms == b->critical_within_ms &&
         a->min_growth_bytes == b->min_growth_bytes;
}

/* What was known holds no more: the next work begins anew. */
static void detector_outdate(mg_detector *d) {
  d->is_stale = true;
  d->wide_due_ms = 0.0;
}

static bool detector_wants_off(const mg_config *config) {
  return mg_config_get(config, MG_CONFIG_LEAK_DETECTION) == 0 ||
         mg_config_get(config, MG_CONFIG_ENABLED) == 0;
}

static void detector_note_config(mg_detector *d, const mg_config *config) {
  bool is_off = detector_wants_off(config);
  mg_leak_settings settings;

  d->config = *config;
  if (d->is_off && !is_off) detector_outdate(d);
  d->is_off = is_off;
  settings = detector_settings(config);
  if (!d->is_stale && !detector_same(&settings, &d->settings))
    detector_outdate(d);
}

/* Begins anew. Without memory for it what is there goes on, under the settings it
 * was opened with, until the next attempt. */
static void detector_renew(mg_detector *d) {
  mg_leak_settings settings = detector_settings(&d->config);
  mg_leak *leak;

  if (mg_leak_open(&leak, &settings, NULL) != MG_OK) return;
  mg_leak_close(d->leak);
  d->leak = leak;
  d->settings = settings;
  d->is_stale = false;
  d->wide_due_ms = 0.0;
  atomic_store(&d->told[MG_LEAK_CODE], MG_ABSENT);
  atomic_store(&d->collection.live_bytes, MG_ABSENT);
  atomic_store(&d->collection.live_blocks, MG_ABSENT);
  d->native_slack = 0;
  d->held_before = d->heap_before = MG_ABSENT;
  mg__detector_forget(d);
}

void mg_detector_set_active(mg_detector *d, bool is_active) {
  mg__lock(&d->lock);
  if (is_active && d->is_paused) detector_outdate(d);
  d->is_paused = !is_active;
  if (!is_active) atomic_store(&d->requests, 0);
  mg__unlock(&d->lock);
}

/* By the settings of now: what the last sample saw may be older. */
bool mg_detector_is_active(const mg_detector *d) {
  bool is_active = false;
  mg_config config;

  mg__lock(&registry.lock);
  if (d->monitor != NULL) {
    mg_monitor_read_config(d->monitor, &config);
    is_active = !detector_wants_off(&config);
  }
  mg__unlock(&registry.lock);
  mg__lock(detector_lock_of(d));
  is_active = is_active && !d->is_paused;
  mg__unlock(detector_lock_of(d));
  return is_active;
}

/* ---- telling; no lock ---------------------------------------------------------- */

void mg_detector_collected(mg_detector *d, uint64_t live_bytes,
                           uint64_t live_blocks, double duration_ms,
                           bool is_full) {
  mg__collection *c = &d->collection;
  bool is_time = duration_ms >= 0 && duration_ms < 1e9;

  if (!is_full) return;
  if (live_bytes != MG_ABSENT)
    atomic_store_explicit(&c->live_bytes, live_bytes, memory_order_release);
  if (live_blocks != MG_ABSENT)
    atomic_store_explicit(&c->live_blocks, live_blocks, memory_order_relaxed);
  if (!is_time) return;
  atomic_store_explicit(&c->duration_ns,
                        (uint64_t)(duration_ms * DETECTOR_NS_PER_MS),
                        memory_order_relaxed);
  atomic_fetch_add_explicit(&c->number, 1, memory_order_relaxed);
}

mg_status mg_detector_tell(mg_detector *d, uint32_t series, uint64_t value,
                           mg_error *err) {
  if (series != MG_LEAK_CONNECTIONS && series != MG_LEAK_HANDLES &&
      series != MG_LEAK_CODE)
    return mg__fail(err, MG_EINVAL,
                    "series %u is not told by a binding; allowed: connections "
                    "(%d), handles (%d), code (%d)",
                    series, MG_LEAK_CONNECTIONS, MG_LEAK_HANDLES, MG_LEAK_CODE);
  atomic_store_explicit(&d->told[series], value, memory_order_relaxed);
  return MG_OK;
}

/* ---- each sample; the caller holds the lock ------------------------------------ */

void mg__detector_note(mg_detector *d, uint32_t series, uint64_t value,
                       double now_ms) {
  if (value != MG_ABSENT) mg_leak_note(d->leak, series, (double)value, now_ms);
}

/* Each number told is noted once; code before the heap that it is part of, which is
 * told after it and so taken before. */
static void detector_note_collection(mg_detector *d, double now_ms) {
  mg__collection *c = &d->collection;
  uint64_t live_bytes = atomic_exchange(&c->live_bytes, MG_ABSENT);
  uint64_t took_ns;

  mg__detector_note(d, MG_LEAK_CODE,
                    atomic_exchange(&d->told[MG_LEAK_CODE], MG_ABSENT), now_ms);
  mg__detector_note(d, MG_LEAK_HEAP, live_bytes, now_ms);
  mg__detector_note(d, MG_LEAK_BLOCKS, atomic_exchange(&c->live_blocks, MG_ABSENT),
                now_ms);
  took_ns = atomic_load_explicit(&c->duration_ns, memory_order_relaxed);
  if (took_ns != MG_ABSENT)
    d->collected_ms = (double)took_ns / DETECTOR_NS_PER_MS;
}

static void detector_note_told(mg_detector *d, uint32_t series, double now_ms) {
  mg__detector_note(d, series,
                atomic_load_explicit(&d->told[series], memory_order_relaxed),
                now_ms);
}

static void detector_take(mg_detector *d, const mg_sample *s, double now_ms) {
  d->stats.samples++;
  d->sample = *s;
  mg__detector_note(d, MG_LEAK_RSS, s->reading.rss_bytes, now_ms);
  mg__detector_note(d, MG_LEAK_FDS, s->reading.fd_count, now_ms);
  mg__detector_note(d, MG_LEAK_THREADS, s->reading.thread_count, now_ms);
  detector_note_collection(d, now_ms);
  detector_note_told(d, MG_LEAK_CONNECTIONS, now_ms);
  detector_note_told(d, MG_LEAK_HANDLES, now_ms);
}

static bool detector_watch_fds(mg_detector *d, const mg_sample *s,
                               double now_ms, mg_event *out) {
  double scale = mg_config_get(&d->config, MG_CONFIG_LEAK_TIME_SCALE);
  double many = mg_config_get(&d->config, MG_CONFIG_LEAK_FD_WARNING_COUNT);
  double fast = mg_config_get(&d->config, MG_CONFIG_LEAK_FD_GROWTH);

  if (!mg__fd_watch_note(&d->fds, s->reading.fd_count, now_ms * scale, many,
                         fast))
    return false;
  *out = (mg_event){.kind = MG_EVENT_FD_WARNING,
                    .severity = MG_HEALTH_WARNING,
                    .count = s->reading.fd_count,
                    .threshold = (uint64_t)many,
                    .growth_per_minute = mg__fd_watch_growth(&d->fds)};
  return true;
}

bool mg__detector_fds_warned(mg_detector *d) {
  bool is_warned;

  mg__lock(&d->lock);
  is_warned = detector_is_on(d) && (d->fds.is_many || d->fds.is_growing);
  mg__unlock(&d->lock);
  return is_warned;
}

/* Who compresses time is not left to shorten sample_interval along with it. At
 * its own pace time leaves room for any sensible one. */
double mg__detector_due_ms(mg_detector *d) {
  double due_ms = (double)INFINITY;

  mg__lock(&d->lock);
  if (detector_is_on(d) &&
      mg_config_get(&d->config, MG_CONFIG_LEAK_TIME_SCALE) > 1.0)
    due_ms = d->settings.window_ms / MG__WIDE_BLOCKS / DETECTOR_SAMPLES;
  mg__unlock(&d->lock);
  return fmax(due_ms, MG__WIDE_LEAST_MS);
}

bool mg__detector_sample(mg_detector *d, const mg_config *config,
                         const mg_sample *sample, mg_event *out_event,
                         bool *out_has_event) {
  double now_ms = (double)sample->clock_ns / DETECTOR_NS_PER_MS;

  *out_has_event = false;
  mg__lock(&d->lock);
  detector_note_config(d, config);
  if (detector_is_on(d) && !d->is_stale) {
    detector_take(d, sample, now_ms);
    *out_has_event = detector_watch_fds(d, sample, now_ms, out_event);
  }
  mg__unlock(&d->lock);
  return mg_detector_has_request(d);
}

/* ---- judging; the caller holds the lock -------------------------------------- */

/* @return how many events there are to raise. */
static size_t detector_judge(mg_detector *d, const mg__wide *wide,
                             mg_event *out) {
  mg_leak_limits limits = mg__wide_limits(d, wide);
  size_t events;

  (void)mg_leak_judge(d->leak, wide->now_ms, &limits, d->found,
                      MG_LEAK_SERIES_MAX);
  events = mg__detector_update(d, mg__os_unix_ms(), out);
  mg__detector_inquire(d, wide->now_ms);
  d->samples_judged = d->stats.samples;
  d->stats.wide_every_ms = mg__wide_every_ms(d);
  d->wide_due_ms = wide->now_ms + d->stats.wide_every_ms;
  return events;
}

/* ---- working; pinned, no lock ---------------------------------------------------------- */

/* @return whether it may go on: active, and brought up to its settings. */
static bool detector_begin(mg_detector *d) {
  bool is_on;

  mg__lock(&d->lock);
  is_on = detector_is_on(d);
  if (is_on && d->is_stale) detector_renew(d);
  mg__unlock(&d->lock);
  return is_on;
}

/* @return whether the monitor has news. */
static bool detector_work(mg_detector *d, mg_monitor *monitor) {
  mg_event events[MG__DETECTOR_EVENTS];
  mg__wide wide;
  size_t count = 0;

  if (!detector_begin(d)) return false;
  mg__wide_read(d, monitor, &wide);
  mg__wide_note_counters(d, monitor, wide.now_ms);
  mg__lock(&d->lock);
  mg__wide_note(d, &wide);
  count = detector_judge(d, &wide, events);
  mg__unlock(&d->lock);
  mg__detector_count(d, wide.now_ms);
  if (count > 0) mg__monitor_raise(monitor, events, count);
  return count > 0 || mg_detector_has_request(d);
}

/* ---- whose turn it is ------------------------------------------------------------------ */

/* A sample came since the last wide reading, and that is long enough ago. */
static bool detector_is_due(mg_detector *d, double now_ms) {
  bool is_due;

  mg__lock(&d->lock);
  is_due = d->monitor != NULL && !d->is_working && detector_is_on(d) &&
           now_ms >= d->wide_due_ms &&
           (d->is_stale || d->stats.samples != d->samples_judged);
  mg__unlock(&d->lock);
  return is_due;
}

/* Works for one that is pinned already; releases and takes the registry. */
static bool detector_turn(mg_detector *d) {
  mg_monitor *monitor = d->monitor;
  bool has_news;

  d->is_working = true;
  mg__unlock(&registry.lock);
  has_news = detector_work(d, monitor);
  mg__lock(&registry.lock);
  d->is_working = false;
  return has_news;
}

static void detector_unpin(mg_detector *d) {
  d->pins--;
  mg__cond_wake_all(&registry.changed);
}

bool mg__detectors_work(void) {
  double now_ms = mg_clock_ms();
  bool has_news = false;
  mg_detector *d;

  mg__lock(&registry.lock);
  d = registry.list;
  while (d != NULL) {
    if (!detector_is_due(d, now_ms)) {
      d = d->next;
      continue;
    }
    d->pins++;
    has_news |= detector_turn(d);
    detector_unpin(d);
    d = registry.list; /* it may have changed meanwhile */
  }
  mg__unlock(&registry.lock);
  return has_news;
}

void mg_detector_check(mg_detector *d) {
  mg_monitor *monitor;

  mg__lock(&registry.lock);
  while (d->is_working) mg__cond_wait(&registry.changed, &registry.lock);
  monitor = d->monitor;
  if (monitor != NULL) {
    d->pins++;
    if (detector_turn(d)) {
      mg__unlock(&registry.lock);
      mg__monitor_tell_news(monitor);
      mg__lock(&registry.lock);
    }
    detector_unpin(d);
  }
  mg__unlock(&registry.lock);
}

/* ---- fork ---------------------------------------------------------------------------- */

void mg__detectors_lock(void) { mg__lock(&registry.lock); }

void mg__detectors_before_fork(void) {
  for (mg_detector *d = registry.list; d != NULL; d = d->next)
    mg__lock(&d->lock);
}

void mg__detectors_after_fork(void) {
  for (mg_detector *d = registry.list; d != NULL; d = d->next)
    mg__unlock(&d->lock);
  mg__unlock(&registry.lock);
}

/* Who was at work did not come along; the files are the parent's. */
void mg__detectors_after_fork_in_child(void) {
  for (mg_detector *d = registry.list; d != NULL; d = d->next) {
    d->pins = 0;
    d->is_working = false;
    mg__footprint_close(&d->footprint);
    detector_outdate(d);
  }
  mg__cond_reset(&registry.changed);
  mg__detectors_after_fork();
}
