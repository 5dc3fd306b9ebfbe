/* alert_watch.c - brings the alerts of a monitor the facts, and what changes to the
 * segment. Samples that find nothing wrong cost a few loads; CPU time and findings
 * of the detector are asked for once in a window of MG__ALERT_GC_WINDOW_MS. */
#include "alert_watch.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "alert_parts.h"
#include "monitor_parts.h"
#include "os.h"
#include "segment_parts.h"

#define WATCH_PAUSES 64u /* long ones kept until a sample looks */
#define WATCH_NS_PER_MS 1e6
#define WATCH_CHANGES 16u

/* ---- collections of the process: no lock --------------------------------- */

static struct {
  _Atomic uint64_t gc_ns; /* all but the phases */
  _Atomic uint64_t long_ns;  /* what any monitor calls long, at least; 0: none yet */
  _Atomic uint64_t count;    /* of long ones; number n is at n % WATCH_PAUSES */
  _Atomic uint64_t pause_ns[WATCH_PAUSES];
  _Atomic uint32_t phase_kinds;
  _Atomic uint64_t previous; /* bits of a usage; 0: no such run */
} watched;

void mg__alert_note_phases(uint32_t phase_kinds) {
  atomic_store(&watched.phase_kinds, phase_kinds);
}

void mg__alert_note_previous(double usage) {
  uint64_t bits;

  usage = usage > 0 ? usage : 0x1p-1000; /* told, but not how much */
  memcpy(&bits, &usage, sizeof bits);
  atomic_store(&watched.previous, bits);
}

void mg__alert_note_gc(const mg_pause *pause) {
  uint32_t phases =
      atomic_load_explicit(&watched.phase_kinds, memory_order_relaxed);
  uint64_t number, long_ns;

  if (pause->kind < MG_PAUSE_KINDS && (phases & 1u << pause->kind) != 0) return;
  atomic_fetch_add_explicit(
      &watched.gc_ns,
      pause->cpu_ns != MG_ABSENT ? pause->cpu_ns : pause->wall_ns,
      memory_order_relaxed);
  long_ns = atomic_load_explicit(&watched.long_ns, memory_order_relaxed);
  if (long_ns == 0 || pause->wall_ns <= long_ns) return;
  number = atomic_load_explicit(&watched.count, memory_order_relaxed) + 1;
  atomic_store_explicit(&watched.pause_ns[number % WATCH_PAUSES],
                        pause->wall_ns, memory_order_relaxed);
  atomic_fetch_add_explicit(&watched.count, 1, memory_order_release);
}

/* The longest since this monitor looked last. */
static double watch_longest_ms(mg__alert_watch *w, double long_ms) {
  uint64_t count = atomic_load_explicit(&watched.count, memory_order_acquire);
  uint64_t now_ns = atomic_load_explicit(&watched.long_ns,
                                         memory_order_relaxed);
  uint64_t long_ns = (uint64_t)(long_ms * WATCH_NS_PER_MS), longest_ns = 0;

  if (long_ns == 0) long_ns = 1;
  if (now_ns == 0 || long_ns < now_ns) atomic_store(&watched.long_ns, long_ns);
  if (w->slow_ms == 0) w->pauses = count; /* what was before it is not its own */
  if (count > w->pauses + WATCH_PAUSES) w->pauses = count - WATCH_PAUSES;
  while (w->pauses < count) {
    uint64_t ns = atomic_load_explicit(
        &watched.pause_ns[++w->pauses % WATCH_PAUSES], memory_order_relaxed);
    if (ns > longest_ns) longest_ns = ns;
  }
  return (double)longest_ns / WATCH_NS_PER_MS;
}

static double watch_previous(mg__alert_watch *w) {
  uint64_t bits = atomic_load_explicit(&watched.previous,
                                       memory_order_relaxed);
  double usage;

  if (bits == 0 || w->told_previous) return (double)NAN;
  w->told_previous = true;
  memcpy(&usage, &bits, sizeof usage);
  return usage;
}

/* ---- events -------------------------------------------------------------- */

static void watch_add_finding(mg__alert_watch *w, const mg_event *event) {
  bool is_critical = event->kind == MG_EVENT_LEAK_CRITICAL;

  w->has_findings_due = true;
  for (uint32_t i = 0; i < w->findings; i++)
    if (w->finding[i].number == event->finding) {
      w->finding[i].is_critical |= is_critical;
      return;
    }
  if (w->findings < MG_DETECTOR_FINDINGS)
    w->finding[w->findings++] =
        (mg__alert_finding){.number = event->finding,
                            .is_critical = is_critical};
}

void mg__alert_watch_event(mg__alert_watch *w, const mg_event *event) {
  if (event->kind == MG_EVENT_RAPID_GROWTH) {
    *(event->growth_is_heap ? &w->heap_growth : &w->rss_growth) =
        event->mb_per_minute;
  } else if (event->kind == MG_EVENT_UNRECLAIMABLE) {
    w->unreclaimable = 1.0;
  } else if (event->kind == MG_EVENT_FD_WARNING) {
    w->fd_warned = true;
  } else if ((event->kind == MG_EVENT_LEAK_WARNING ||
              event->kind == MG_EVENT_LEAK_CRITICAL) &&
             event->finding != 0) {
    watch_add_finding(w, event);
  } else if (event->kind == MG_EVENT_LEAK_WITHDRAWN) {
    w->has_findings_due = true;
  }
}

void mg__alert_watch_record(mg__alert_watch *w) {
  w->rss_growth = w->heap_growth = 0.0;
}

/* ---- findings ------------------------------------------------------------ */

/* "type Session, site app.py:12" */
static void watch_culprits(const mg_detector_finding *f,
                           char out[MG_ALERT_CULPRIT_BYTES]) {
  char text[2 * MG_CENSUS_NAME_BYTES + 64];
  size_t length = 0;

  text[0] = '\0';
  for (uint32_t i = 0; i < f->culprits && i < 2; i++) {
    int added = snprintf(text + length, sizeof text - length, "%s%s %s",
                         i == 0 ? "" : ", ",
                         mg_culprit_name(f->culprit[i].kind),
                         f->culprit[i].name);
    if (added < 0 || (size_t)added >= sizeof text - length) break;
    length += (size_t)added;
  }
  mg__alert_copy(out, MG_ALERT_CULPRIT_BYTES, text);
}

static bool watch_is_descriptors(const mg_leak_finding *leak) {
  return leak->series >= MG_LEAK_FDS && leak->series <= MG_LEAK_FD_OTHERS;
}

/* @return whether it is over. */
static bool watch_finding(mg__alert_watch *w, mg__alert_finding *known,
                          const mg_config *config, mg_detector *detector,
                          mg_alert_leak *leak) {
  char culprit[MG_ALERT_CULPRIT_BYTES];
  mg_detector_finding found;
  bool is_there =
      detector != NULL &&
      mg_detector_finding_at(detector, known->number, &found) &&
      found.leak.tier != MG_LEAK_NONE;

  if (is_there) {
    mg__alert_copy(known->signal, sizeof known->signal, found.leak.name);
    watch_culprits(&found, culprit);
    leak->growth_per_minute = found.leak.growth_per_minute;
    leak->is_descriptors = watch_is_descriptors(&found.leak);
    leak->culprit = culprit;
  } else {
    leak->culprit = NULL;
    leak->is_descriptors = strncmp(known->signal, "fd", 2) == 0;
  }
  leak->is_over = !is_there;
  leak->signal = known->signal;
  leak->severity =
      known->is_critical ? MG_SEVERITY_CRITICAL : MG_SEVERITY_WARNING;
  (void)mg_alerts_leak(w->alerts, config, leak);
  leak->culprit = NULL;
  return !is_there;
}

static void watch_findings(mg__alert_watch *w, const mg_config *config,
                           const mg_alert_facts *f, mg_detector *detector) {
  mg_alert_leak leak = {.now_ms = f->now_ms, .unix_ms = f->unix_ms};
  uint32_t kept = 0;

  w->has_findings_due = false;
  for (uint32_t i = 0; i < w->findings; i++) {
    mg__alert_finding known = w->finding[i];
    if (!watch_finding(w, &known, config, detector, &leak))
      w->finding[kept++] = known;
  }
  w->findings = kept;
}

/* ---- a sample ------------------------------------------------------------ */

static void watch_show(mg__alert_watch *w, uint64_t before,
                       mg_health *out_severity) {
  mg_alert change[WATCH_CHANGES];
  size_t count;

  *out_severity = MG_HEALTH_HEALTHY;
  do {
    count = mg_alerts_changes(w->alerts, before, change, WATCH_CHANGES);
    mg__segment_note_alerts(w, change, count);
    for (size_t i = 0; i < count; i++) {
      before = change[i].number;
      if (change[i].state == MG_ALERT_FIRING &&
          change[i].severity > (uint32_t)*out_severity)
        *out_severity = (mg_health)change[i].severity;
    }
  } while (count == WATCH_CHANGES);
  atomic_store(&w->newest, before);
}

/* What fires is the parent's business; what is true here will be raised again. */
static void watch_start_over(mg__alert_watch *w) {
  w->forks = mg__sampler_forks();
  w->findings = 0;
  w->fd_warned = false;
  mg__alerts_forget(w->alerts);
}

bool mg__alert_watch_sample(mg__alert_watch *w, const mg_config *config,
                            const mg_sample *s, mg_detector *detector,
                            mg_health *out_severity) {
  const uint64_t before = atomic_load(&w->newest);
  mg_alert_facts f = {
      .now_ms = (double)s->clock_ns / WATCH_NS_PER_MS,
      .unix_ms = (double)s->unix_ms,
      .usage = s->usage,
      .level = (double)s->level,
      .gc_ms = (double)NAN,
      .cpu_ms = (double)NAN,
      .pause_ms =
          watch_longest_ms(w, mg_config_get(config, MG_CONFIG_LONG_PAUSE)),
      .unreclaimable = w->unreclaimable,
      .rss_growth = w->rss_growth,
      .heap_growth = w->heap_growth,
      .fd_count = s->reading.fd_count == MG_ABSENT
                      ? (double)NAN
                      : (double)s->reading.fd_count,
      .previous_oom = watch_previous(w)};
  bool is_slow = !(f.now_ms < w->slow_ms);
  mg_alerts_stats stats;

  if (w->forks != mg__sampler_forks()) watch_start_over(w);
  w->unreclaimable = 0.0;
  w->rss_growth = w->heap_growth = (double)NAN;
  if (w->fd_warned)
    w->fd_warned = detector != NULL && mg__detector_fds_warned(detector);
  f.fd_warned = w->fd_warned ? 1.0 : 0.0;
  if (is_slow) {
    w->slow_ms = f.now_ms + MG__ALERT_GC_WINDOW_MS;
    f.gc_ms = (double)atomic_load(&watched.gc_ns) / WATCH_NS_PER_MS;
    f.cpu_ms = (double)mg__os_cpu_us(false) / 1000.0;
  }
  if (mg_config_get(config, MG_CONFIG_LEAK_DETECTION) == 0 && w->findings > 0) {
    w->has_findings_due = true;
    detector = NULL; /* what it found is not looked at any more */
  }
  if (w->findings > 0 && (is_slow || w->has_findings_due))
    watch_findings(w, config, &f, detector);
  (void)mg_alerts_judge(w->alerts, config, &f);
  mg_alerts_read_stats(w->alerts, &stats);
  if (stats.changes == before) return false;
  watch_show(w, before, out_severity);
  return true;
}

void mg__alert_watch_close(mg__alert_watch *w) {
  mg__segment_forget_alerts(w);
  mg_alerts_close(w->alerts);
  w->alerts = NULL;
}

/* ---- asking -------------------------------------------------------------- */

static mg__mutex *watch_lock_of(const mg_monitor *m) {
  return (mg__mutex *)&m->lock;
}

/* The alerts, not those of a parent. The caller holds the lock. */
static const mg_alerts *watch_asked(const mg_monitor *m) {
  if (m->alerts.forks != mg__sampler_forks())
    watch_start_over((mg__alert_watch *)&m->alerts);
  return m->alerts.alerts;
}

uint64_t mg_monitor_alert_number(const mg_monitor *m) {
  return atomic_load(&m->alerts.newest);
}

mg_status mg_monitor_alerts(const mg_monitor *m, uint64_t after, char **out,
                            mg_error *err) {
  mg_status st;

  mg__lock(watch_lock_of(m));
  st = mg__alerts_text(watch_asked(m), after, out, err);
  mg__unlock(watch_lock_of(m));
  return st;
}

void mg_outbox_begin(mg_outbox *box, const mg_monitor *m, bool with_active,
                     double now_ms) {
  mg__lock(watch_lock_of(m));
  mg__outbox_skip_changes(box, watch_asked(m), with_active, now_ms);
  mg__unlock(watch_lock_of(m));
}

void mg_outbox_follow(mg_outbox *box, const mg_monitor *m, double now_ms) {
  mg__lock(watch_lock_of(m));
  mg__outbox_take_changes(box, watch_asked(m), now_ms);
  mg__unlock(watch_lock_of(m));
}
