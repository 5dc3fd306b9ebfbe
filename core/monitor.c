/* monitor.c - judges readings for one manager, publishes what it finds and
 * queues events. The lock guards everything but what publish.c publishes. */
#include "memguard/monitor.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "internal.h"
#include "monitor_parts.h"

#define MONITOR_FRESH_NS 20000000u   /* a younger sample spares a check */
#define MONITOR_STILL_NS 100000000u  /* so does this, if nothing moved since */
#define MONITOR_GLANCE_NS 2000000u   /* between two looks at whether it did */
#define MONITOR_STILL_PART 64u /* a resident set that moved by less than that part */
#define MONITOR_NS_PER_MS 1e6

/* ---- life -------------------------------------------------------------- */

static void monitor_note_config(mg_monitor *m, const mg_config *config) {
  m->config = *config;
  atomic_store(&m->operation_interval,
               (uint32_t)mg_config_get(config, MG_CONFIG_MONITORING_INTERVAL));
}

static size_t monitor_history_size(const mg_config *config) {
  return (size_t)mg_config_get(config, MG_CONFIG_HISTORY_SIZE);
}

mg_status mg_monitor_open(mg_monitor **out, const mg_config *config,
                          const mg_monitor_hooks *hooks, mg_error *err) {
  mg_monitor *m = mg__alloc(sizeof *m);
  mg_status st;

  *out = NULL;
  if (m == NULL)
    return mg__fail(err, MG_ENOMEM, "monitor, %zu bytes", sizeof *m);
  monitor_note_config(m, config);
  mg_monitor_set_heap(m, &(mg_heap)MG_HEAP_INIT);
  m->interest = UINT32_MAX;
  m->seat.monitor = m;
  if (hooks != NULL) m->seat.hooks = *hooks;
  st = mg__mutex_init(&m->lock, err);
  if (st != MG_OK) goto fail_monitor;
  st = mg_history_open(&m->history, monitor_history_size(config), err);
  if (st != MG_OK) goto fail_lock;
  st = mg__events_open(&m->events, err);
  if (st != MG_OK) goto fail_history;
  st = mg_alerts_open(&m->alerts.alerts, err);
  if (st != MG_OK) goto fail_events;
  st = mg__sampler_add(&m->seat, err);
  if (st != MG_OK) goto fail_alerts;
  *out = m;
  return MG_OK;

fail_alerts:
  mg_alerts_close(m->alerts.alerts);
fail_events:
  mg__events_close(&m->events);
fail_history:
  mg_history_close(m->history);
fail_lock:
  mg__mutex_destroy(&m->lock);
fail_monitor:
  mg__free(m);
  return st;
}

/* It stopped: what it saw last holds no more. */
static void monitor_leave_pools(mg_monitor *m) {
  mg__lock(&m->lock);
  mg__pools_move(&m->pool_level, MG_LEVEL_NORMAL);
  mg__unlock(&m->lock);
  mg__pools_follow();
}

void mg_monitor_close(mg_monitor *m) {
  if (m == NULL) return;
  mg__sampler_remove(&m->seat);
  mg__detector_orphan(m);
  mg_monitor_join(m, NULL);
  monitor_leave_pools(m);
  mg__alert_watch_close(&m->alerts);
  mg__counters_close(&m->counters);
  mg__events_close(&m->events);
  mg_history_close(m->history);
  mg__mutex_destroy(&m->lock);
  mg__free(m);
}

/* ---- events; the caller holds the lock --------------------------------- */

static void monitor_raise(mg_monitor *m, mg_event *event,
                          const mg_sample *sample) {
  bool is_wanted = (m->interest & UINT32_C(1) << event->kind) != 0;

  if (mg_config_get(&m->config, MG_CONFIG_ENABLED) == 0) return;
  mg__segment_note_event(event, sample);
  mg__alert_watch_event(&m->alerts, event);
  if (!is_wanted) return;
  event->sample = *sample;
  mg__events_push(&m->events, event);
}

static void monitor_raise_threshold(mg_monitor *m, const mg_sample *s) {
  uint32_t issues = mg__health_issues(&m->config, &s->reading);
  mg_event event = {.kind = MG_EVENT_THRESHOLD,
                    .issues = issues,
                    .severity = mg__health_severity(issues)};

  if (issues != 0) monitor_raise(m, &event, s);
}

static void monitor_raise_growth(mg_monitor *m, const mg_sample *s) {
  static const mg__series series[2] = {MG__SERIES_RSS, MG__SERIES_HEAP};

  for (int i = 0; i < 2; i++) {
    mg_event event = {.kind = MG_EVENT_RAPID_GROWTH,
                      .severity = MG_HEALTH_WARNING,
                      .growth_is_heap = series[i] == MG__SERIES_HEAP};
    if (mg__growth_is_rapid(m->history, &m->config, series[i],
                            &event.mb_per_minute))
      monitor_raise(m, &event, s);
  }
}

void mg__monitor_raise_leak(mg_monitor *m, mg__counter *counter,
                            const mg_sample *s) {
  mg_event event = {.count = counter->value};
  bool critical;

  if (!mg__counter_has_news(counter, &m->config)) return;
  critical = counter->raised == MG_HEALTH_CRITICAL;
  event.kind = critical ? MG_EVENT_LEAK_CRITICAL : MG_EVENT_LEAK_WARNING;
  event.severity = counter->raised;
  event.threshold = (uint64_t)mg_config_get(
      &m->config,
      critical ? MG_CONFIG_LEAK_CRITICAL_COUNT : MG_CONFIG_LEAK_WARNING_COUNT);
  memcpy(event.counter, counter->key, sizeof event.counter);
  monitor_raise(m, &event, s);
}

static void monitor_raise_alerts(mg_monitor *m, const mg_sample *s) {
  mg_event event = {.kind = MG_EVENT_ALERT};

  if (mg__alert_watch_sample(&m->alerts, &m->config, s, m->detector,
                             &event.severity))
    monitor_raise(m, &event, s);
}

static void monitor_record(mg_monitor *m, const mg_sample *s) {
  mg_event event = {.kind = MG_EVENT_STATS};

  mg__alert_watch_record(&m->alerts);
  mg_history_add(m->history, s);
  monitor_raise(m, &event, s);
  monitor_raise_threshold(m, s);
  monitor_raise_growth(m, s);
}

static void monitor_raise_sampled(mg_monitor *m, const mg_sample *s,
                                  mg_level before) {
  mg_event event = {.kind = MG_EVENT_LEVEL, .previous = before};
  double threshold = mg_config_get(&m->config, MG_CONFIG_PRESSURE_THRESHOLD);

  if (s->level != before) monitor_raise(m, &event, s);
  event = (mg_event){.kind = MG_EVENT_PRESSURE};
  if (s->pressure >= threshold || s->pressure > MG_BUFFER_FULL_PRESSURE)
    monitor_raise(m, &event, s);
}

/* Rounds since the last sample, one event each. */
static void monitor_raise_rounds(mg_monitor *m, const mg_sample *s) {
  uint64_t count = m->reclaim == NULL ? 0 : mg__reclaim_count(m->reclaim);
  mg_round round;

  if (count > m->rounds + MG_ROUNDS) m->rounds = count - MG_ROUNDS;
  while (m->rounds < count) {
    mg_event event = {.kind = MG_EVENT_OPTIMIZATION, .round = ++m->rounds};
    monitor_raise(m, &event, s);
    if (!mg_reclaim_round(m->reclaim, m->rounds, &round)) continue;
    mg__segment_note_round(&round);
    event.kind = MG_EVENT_UNRECLAIMABLE;
    event.severity = MG_HEALTH_CRITICAL;
    if (round.is_unreclaimable) monitor_raise(m, &event, s);
  }
}

/* @return whether the detector asks for something. */
static bool monitor_detect(mg_monitor *m, const mg_sample *s) {
  bool has_event, wants;
  mg_event event;

  if (m->detector == NULL) return false;
  wants = mg__detector_sample(m->detector, &m->config, s, &event, &has_event);
  if (has_event) monitor_raise(m, &event, s);
  return wants;
}

/* ---- judging; the caller holds the lock -------------------------------- */

void mg__monitor_add_heap(const mg_monitor *m, mg_reading *out) {
#define MONITOR_HEAP(field) \
  out->field = atomic_load_explicit(&m->field, memory_order_relaxed);
  MONITOR_HEAP(heap_used_bytes)
  MONITOR_HEAP(heap_total_bytes)
  MONITOR_HEAP(heap_limit_bytes)
  MONITOR_HEAP(external_bytes)
  MONITOR_HEAP(array_buffer_bytes)
#undef MONITOR_HEAP
  mg__look_read(&m->look, out);
}

static void monitor_follow_rate(mg_monitor *m, double usage, double now_ms) {
  double gone_ms = now_ms - m->last_ms;

  /* The first sample has no rate; too short a step has a noisy one. */
  m->rate_per_ms = m->number > 1 && gone_ms > 1.0
                       ? (usage - m->last_usage) / gone_ms
                       : 0.0;
  m->last_usage = usage;
  m->last_ms = now_ms;
}

static bool monitor_is_due(mg_monitor *m, mg__pass pass, double now_ms) {
  if (pass == MG__PASS_RECORD) return true;
  if (pass == MG__PASS_CHECK || now_ms < m->record_due_ms) return false;
  m->record_due_ms =
      now_ms + mg_config_get(&m->config, MG_CONFIG_MONITOR_INTERVAL);
  return true;
}

static double monitor_due_ms(const mg_monitor *m, double now_ms) {
  double sample_ms =
      mg_sample_due_ms(m->last_usage, m->rate_per_ms,
                       mg_config_get(&m->config, MG_CONFIG_SAMPLE_INTERVAL));

  if (m->detector != NULL)
    sample_ms = fmin(sample_ms, mg__detector_due_ms(m->detector));
  return fmax(fmin(sample_ms, m->record_due_ms - now_ms), 0.0);
}

void mg__monitor_mirror(mg_monitor *m, const mg_sample *s) {
  uint32_t generation = m->follow == NULL ? 0 : mg_buffers_generation(m->follow);

  if (m->page != NULL) mg__page_write(m->page, s, generation);
}

/* @return whether the engine now has something to do. */
static bool monitor_offer(mg_monitor *m, const mg_sample *s) {
  if (m->reclaim == NULL || mg_config_get(&m->config, MG_CONFIG_ENABLED) == 0)
    return false;
  return mg__reclaim_offer(m->reclaim, m, &m->config, s);
}

mg__verdict mg__monitor_judge(mg_monitor *m, const mg_reading *reading,
                              uint64_t clock_ns, uint64_t unix_ms,
                              mg__pass pass, mg_sample *out) {
  double now_ms = (double)clock_ns / MONITOR_NS_PER_MS;
  mg_sample s = {.clock_ns = clock_ns, .unix_ms = unix_ms};
  mg__verdict verdict;
  mg_level before;
  bool asks;

  mg__lock(&m->lock);
  s.reading = *reading;
  mg__monitor_add_heap(m, &s.reading);
  s.number = ++m->number;
  s.usage = mg_usage(&s.reading, &m->config, &s.domain);
  s.pressure = fmin(s.usage, 1.0);
  before = m->level.level;
  s.level = mg_level_update(&m->level, &m->config, s.usage, now_ms);
  mg__pools_move(&m->pool_level,
                 mg_config_get(&m->config, MG_CONFIG_ENABLED) == 0
                     ? MG_LEVEL_NORMAL
                     : s.level);
  if (reading->rss_bytes != MG_ABSENT && reading->rss_bytes > m->peak_rss_bytes)
    m->peak_rss_bytes = reading->rss_bytes;
  s.peak_rss_bytes = m->peak_rss_bytes;
  monitor_follow_rate(m, s.usage, now_ms);
  if (m->follow != NULL) mg_buffers_update(m->follow, s.pressure, now_ms);
  mg__publish(&m->published, &s);
  mg__monitor_mirror(m, &s);
  monitor_raise_sampled(m, &s, before);
  monitor_raise_rounds(m, &s);
  asks = monitor_detect(m, &s);
  verdict.reclaim = monitor_offer(m, &s);
  if (monitor_is_due(m, pass, now_ms)) monitor_record(m, &s);
  monitor_raise_alerts(m, &s);
  verdict.due_ms = monitor_due_ms(m, now_ms);
  if (pass == MG__PASS_BACKGROUND)
    mg__segment_offer(&m->config, &s, mg__reclaim_live_bytes(m->reclaim),
                      verdict.due_ms);
  verdict.is_tight =
      s.usage >= mg_config_get(&m->config, MG_CONFIG_LOW_WATER_MARK) / 100.0;
  verdict.wake = asks || m->events.count > 0;
  verdict.deliver =
      verdict.wake &&
      mg_config_get(&m->config, MG_CONFIG_BACKGROUND_CALLBACKS) != 0.0;
  mg__unlock(&m->lock);
  if (out != NULL) *out = s;
  return verdict;
}

void mg__monitor_raise(mg_monitor *m, const mg_event *events, size_t count) {
  mg_sample latest;

  mg_monitor_latest(m, &latest);
  mg__lock(&m->lock);
  for (size_t i = 0; i < count; i++) {
    mg_event event = events[i];
    monitor_raise(m, &event, &latest);
  }
  mg__unlock(&m->lock);
}

double mg__monitor_notice_ratio(const mg_monitor *m) {
  mg_config config;

  mg_monitor_read_config(m, &config);
  return mg_config_get(&config, MG_CONFIG_HIGH_WATER_MARK) / 100.0;
}

void mg__monitor_before_fork(mg_monitor *m) {
  mg__lock(&m->lock);
  if (m->follow != NULL) mg__buffers_before_fork(m->follow);
}

void mg__monitor_after_fork(mg_monitor *m) {
  if (m->follow != NULL) mg__buffers_after_fork(m->follow);
  mg__unlock(&m->lock);
}

/* ---- passes on the host's threads -------------------------------------- */

/* The host is on its own thread here, so hooks can be called at once. */
void mg__monitor_tell(mg_monitor *m, const mg__verdict *verdict) {
  if (verdict->wake && m->seat.hooks.wake != NULL)
    m->seat.hooks.wake(m->seat.hooks.ctx);
  if (verdict->deliver) mg__sampler_deliver(&m->seat);
  if (verdict->reclaim) mg__sampler_work_off();
}

void mg__monitor_tell_news(mg_monitor *m) {
  mg__verdict verdict = {.reclaim = false};

  mg__lock(&m->lock);
  verdict.wake =
      m->events.count > 0 ||
      (m->detector != NULL && mg_detector_has_request(m->detector));
  verdict.deliver =
      verdict.wake &&
      mg_config_get(&m->config, MG_CONFIG_BACKGROUND_CALLBACKS) != 0.0;
  mg__unlock(&m->lock);
  mg__monitor_tell(m, &verdict);
}

static void monitor_pass(mg_monitor *m, mg__pass pass, mg_sample *out) {
  mg__verdict verdict;
  mg_reading reading;

  mg_read_process(&reading);
  verdict = mg__monitor_judge(m, &reading, mg_clock_ns(), mg__os_unix_ms(),
                              pass, out);
  mg__pools_follow();
  mg__monitor_tell(m, &verdict);
  /* With a sampler that runs, its thread does this. */
  if (!mg__sampler_is_running(&m->seat) && mg__detectors_work())
    mg__monitor_tell_news(m);
}

void mg_monitor_pass(mg_monitor *m, bool record, mg_sample *out) {
  monitor_pass(m, record ? MG__PASS_RECORD : MG__PASS_CHECK, out);
}

bool mg_monitor_operation(mg_monitor *m) {
  uint32_t interval =
      atomic_load_explicit(&m->operation_interval, memory_order_relaxed);
  uint64_t count =
      atomic_fetch_add_explicit(&m->operations, 1, memory_order_relaxed) + 1;

  return (uint32_t)count % interval == 0;
}

uint64_t mg_monitor_operations(const mg_monitor *m) {
  return atomic_load_explicit(&m->operations, memory_order_relaxed);
}

/* UINT64_MAX before the first sample, or if the clock went back. */
static uint64_t monitor_age_ns(const mg_monitor *m, uint64_t now) {
  uint64_t sampled = mg__published_clock_ns(&m->published);

  return sampled != 0 && now >= sampled ? now - sampled : UINT64_MAX;
}

void mg_monitor_check(mg_monitor *m) {
  if (monitor_age_ns(m, mg_clock_ns()) < MONITOR_FRESH_NS) return;
  monitor_pass(m, MG__PASS_CHECK, NULL);
}

/* Whether the latest sample still tells of now, or is just being replaced. */
static bool monitor_is_still(const mg_monitor *m) {
  mg_sample latest;
  uint64_t then, now;

  mg_monitor_latest(m, &latest);
  then = latest.reading.rss_bytes;
  if (then == MG_ABSENT) return false;
  if (!mg__sampler_try_rss(&m->seat, &now)) return true;
  return now != MG_ABSENT && now < then + then / MONITOR_STILL_PART &&
         now + then / MONITOR_STILL_PART > then;
}

void mg_monitor_glance(mg_monitor *m) {
  uint64_t now = mg_clock_ns();
  uint64_t age_ns = monitor_age_ns(m, now);

  if (age_ns < MONITOR_FRESH_NS) return;
  if (age_ns < MONITOR_STILL_NS) {
    if (now - atomic_load_explicit(&m->glanced_ns, memory_order_relaxed) <
        MONITOR_GLANCE_NS)
      return;
    atomic_store_explicit(&m->glanced_ns, now, memory_order_relaxed);
    if (monitor_is_still(m)) return;
  }
  monitor_pass(m, MG__PASS_CHECK, NULL);
}

/* ---- running ----------------------------------------------------------- */

void mg__monitor_note_life(mg_monitor *m, mg_event_kind kind) {
  mg_event event = {.kind = kind};
  mg_sample latest;

  mg_monitor_latest(m, &latest);
  mg__lock(&m->lock);
  monitor_raise(m, &event, &latest);
  mg__unlock(&m->lock);
}

mg_status mg_monitor_start(mg_monitor *m, mg_error *err) {
  const mg__verdict news = {.wake = true};
  mg_config config;
  bool began;
  mg_status st;

  mg_monitor_read_config(m, &config);
  if (mg_config_get(&config, MG_CONFIG_ENABLED) == 0) return MG_OK;
  st = mg__sampler_start(&m->seat, &began, err);
  if (st == MG_OK && began) mg__monitor_tell(m, &news);
  return st;
}

void mg_monitor_stop(mg_monitor *m) {
  const mg__verdict news = {.wake = true};

  if (!mg__sampler_stop(&m->seat)) return;
  mg__detectors_rest(m);
  monitor_leave_pools(m);
  mg__monitor_note_life(m, MG_EVENT_STOPPED);
  mg__monitor_tell(m, &news);
}

bool mg_monitor_is_running(const mg_monitor *m) {
  return mg__sampler_is_running(&m->seat);
}

mg_status mg_monitor_configure(mg_monitor *m, const mg_config *config,
                               mg_error *err) {
  mg_status st;

  mg__lock(&m->lock);
  st = mg_history_resize(m->history, monitor_history_size(config), err);
  if (st == MG_OK) {
    monitor_note_config(m, config);
    m->record_due_ms =
        fmin(m->record_due_ms,
             m->last_ms + mg_config_get(config, MG_CONFIG_MONITOR_INTERVAL));
  }
  mg__unlock(&m->lock);
  if (st == MG_OK) mg__sampler_nudge();
  return st;
}

/* ---- what is published, without the lock -------------------------------- */

void mg_monitor_latest(const mg_monitor *m, mg_sample *out) {
  mg__published_latest(&m->published, out);
}

double mg_monitor_pressure(const mg_monitor *m) {
  return mg__published_pressure(&m->published);
}
