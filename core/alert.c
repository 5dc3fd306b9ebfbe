/* alert.c - the tracker: which alerts fire. Pure; see alert.h for the machine.
 *
 * A slot is taken when a condition first holds and given back when it is idle again,
 * so while nothing is wrong there is nothing to look at. */
#include "memguard/alert.h"

#include <math.h>
#include <string.h>

#include "alert_parts.h"

typedef enum alert_phase {
  ALERT_PENDING,
  ALERT_FIRES,
  ALERT_CLEARING,
  ALERT_COOLING,
  ALERT_WAITING
} alert_phase;

typedef struct alert_slot {
  mg_alert alert;
  alert_phase phase;
  bool holds;        /* the condition, as told last */
  bool has_news;     /* more severe, or with a culprit, than was told */
  double phase_ms;   /* when the phase began */
  double cool_ms;    /* end of the cooldown */
  double for_ms;     /* to hold before it fires */
  uint32_t held;     /* came back within the cooldown */
} alert_slot;

typedef struct alert_window {
  bool has_begun, is_high;
  double began_ms, gc_ms, cpu_ms, share;
} alert_window;

struct mg_alerts {
  alert_slot *slot[MG_ALERT_SLOTS]; /* NULL: free */
  uint32_t used;
  mg_alert *ring; /* number n at (n - 1) % capacity */
  size_t capacity;
  mg_alerts_stats stats;
  alert_window gc;
  double growth[2]; /* rss, heap: rapid, or 0 */
  bool is_stuck;    /* nothing gives memory back */
  double stuck_level;
};

/* What is true now. */
typedef struct alert_condition {
  mg_alert_kind kind;
  bool holds;
  double value, threshold, for_ms;
  mg_severity severity;
  const char *subject, *culprit; /* NULL: none */
} alert_condition;

/* ---- life ---------------------------------------------------------------- */

mg_status mg_alerts_open(mg_alerts **out, mg_error *err) {
  *out = mg__alloc(sizeof **out);
  if (*out == NULL)
    return mg__fail(err, MG_ENOMEM, "alerts, %zu bytes", sizeof **out);
  return MG_OK;
}

void mg_alerts_close(mg_alerts *a) {
  if (a == NULL) return;
  for (uint32_t i = 0; i < MG_ALERT_SLOTS; i++) mg__free(a->slot[i]);
  mg__free(a->ring);
  mg__free(a);
}

/* ---- history ------------------------------------------------------------- */

static uint64_t alert_oldest(const mg_alerts *a) {
  return a->stats.changes > a->capacity ? a->stats.changes - a->capacity + 1 : 1;
}

/* Makes room for `capacity` changes; without memory it stays as it is. */
static void alert_resize(mg_alerts *a, size_t capacity) {
  mg_alert *ring;

  if (capacity == a->capacity) return;
  ring = mg__alloc_untouched(capacity * sizeof *ring);
  if (ring == NULL) return;
  for (uint64_t n = alert_oldest(a); n <= a->stats.changes; n++)
    if (a->stats.changes - n < capacity)
      ring[(n - 1) % capacity] = a->ring[(n - 1) % a->capacity];
  mg__free(a->ring);
  a->ring = ring;
  a->capacity = capacity;
}

static void alert_push(mg_alerts *a, const mg_config *config, mg_alert *alert) {
  alert_resize(a, (size_t)mg_config_get(config, MG_CONFIG_ALERT_HISTORY_SIZE));
  alert->number = ++a->stats.changes;
  if (a->capacity > 0) a->ring[(alert->number - 1) % a->capacity] = *alert;
  a->stats.evicted = alert_oldest(a) - 1;
}

/* ---- one slot ------------------------------------------------------------ */

bool mg__alert_is_same(const mg_alert *a, const mg_alert *b) {
  return a->kind == b->kind && strcmp(a->subject, b->subject) == 0;
}

static uint64_t alert_unix(double unix_ms) {
  return unix_ms > 0 && unix_ms < 1e15 ? (uint64_t)unix_ms : 0;
}

static alert_slot *alert_find(mg_alerts *a, mg_alert_kind kind,
                              const char *subject, uint32_t *out_free) {
  *out_free = MG_ALERT_SLOTS;
  for (uint32_t i = 0; i < MG_ALERT_SLOTS; i++) {
    alert_slot *s = a->slot[i];
    if (s == NULL) {
      if (*out_free == MG_ALERT_SLOTS) *out_free = i;
    } else if (s->alert.kind == (uint32_t)kind &&
               strcmp(s->alert.subject, subject) == 0) {
      return s;
    }
  }
  return NULL;
}

static void alert_free(mg_alerts *a, uint32_t at) {
  mg__free(a->slot[at]);
  a->slot[at] = NULL;
  a->used--;
}

/* A slot for what just began to hold; NULL if there is none. */
static alert_slot *alert_begin(mg_alerts *a, const alert_condition *c,
                               uint32_t at, double now_ms, double unix_ms) {
  alert_slot *s = at < MG_ALERT_SLOTS ? mg__alloc(sizeof *s) : NULL;

  if (s == NULL) {
    a->stats.overflow++;
    return NULL;
  }
  s->alert.kind = (uint32_t)c->kind;
  mg__alert_copy(s->alert.subject, sizeof s->alert.subject, c->subject);
  s->alert.since_unix_ms = alert_unix(unix_ms);
  s->alert.value = (double)NAN;
  s->phase = ALERT_PENDING;
  s->phase_ms = now_ms;
  a->slot[at] = s;
  a->used++;
  return s;
}

/* Takes a condition in; alert_step() draws the conclusion. */
static void alert_note(mg_alerts *a, const alert_condition *c, double now_ms,
                       double unix_ms) {
  const char *subject = c->subject == NULL ? "" : c->subject;
  const char *culprit = c->culprit == NULL ? "" : c->culprit;
  alert_condition named = *c;
  alert_slot *s;
  uint32_t at;

  if (!c->holds && a->used == 0) return;
  named.subject = subject;
  s = alert_find(a, c->kind, subject, &at);
  if (s == NULL && c->holds) s = alert_begin(a, &named, at, now_ms, unix_ms);
  if (s == NULL) return;
  s->holds = c->holds;
  if (!c->holds) return;
  s->for_ms = c->for_ms;
  s->alert.last_unix_ms = alert_unix(unix_ms);
  s->alert.threshold = c->threshold;
  if (!(s->alert.value >= c->value)) s->alert.value = c->value;
  if ((uint32_t)c->severity > s->alert.severity) {
    s->alert.severity = (uint32_t)c->severity;
    s->has_news = true;
  }
  if (*culprit != '\0') {
    s->has_news |= s->alert.culprit[0] == '\0';
    mg__alert_copy(s->alert.culprit, sizeof s->alert.culprit, culprit);
  }
}

static void alert_enter(alert_slot *s, alert_phase phase, double now_ms) {
  s->phase = phase;
  s->phase_ms = now_ms;
}

static void alert_fire(mg_alerts *a, const mg_config *config, alert_slot *s,
                       double now_ms) {
  alert_enter(s, ALERT_FIRES, now_ms);
  s->alert.state = MG_ALERT_FIRING;
  s->alert.resolved_unix_ms = 0;
  s->alert.repeats = s->held;
  s->held = 0;
  s->has_news = false;
  a->stats.fired++;
  alert_push(a, config, &s->alert);
}

static void alert_resolve(mg_alerts *a, const mg_config *config, alert_slot *s,
                          double now_ms, double unix_ms) {
  alert_enter(s, ALERT_COOLING, now_ms);
  s->cool_ms = now_ms + mg_config_get(config, MG_CONFIG_ALERT_COOLDOWN);
  s->alert.state = MG_ALERT_RESOLVED;
  s->alert.resolved_unix_ms = alert_unix(unix_ms);
  a->stats.resolved++;
  alert_push(a, config, &s->alert);
  /* What comes after the end is another alert. */
  s->alert.value = (double)NAN;
  s->alert.severity = 0;
  s->alert.culprit[0] = '\0';
}

/* The condition holds. */
static void alert_step_true(mg_alerts *a, const mg_config *config,
                            alert_slot *s, double now_ms, double unix_ms) {
  if (s->phase == ALERT_CLEARING) {
    s->phase = ALERT_FIRES;
    s->alert.repeats++;
    a->stats.repeats++;
  }
  if (s->phase == ALERT_COOLING) {
    alert_enter(s, ALERT_WAITING, now_ms);
    s->alert.since_unix_ms = alert_unix(unix_ms);
    if (now_ms < s->cool_ms) {
      s->held++;
      a->stats.held++;
    }
  }
  if (s->phase == ALERT_FIRES) {
    if (s->has_news) alert_push(a, config, &s->alert);
    s->has_news = false;
  } else if (now_ms - s->phase_ms >= s->for_ms &&
             (s->phase == ALERT_PENDING || now_ms >= s->cool_ms)) {
    alert_fire(a, config, s, now_ms);
  }
}

/* It does not. @return whether the slot is needed no more. */
static bool alert_step_false(mg_alerts *a, const mg_config *config,
                             alert_slot *s, double now_ms, double unix_ms) {
  if (s->phase == ALERT_PENDING) return true;
  if (s->phase == ALERT_WAITING) alert_enter(s, ALERT_COOLING, now_ms);
  if (s->phase == ALERT_FIRES) alert_enter(s, ALERT_CLEARING, now_ms);
  if (s->phase == ALERT_CLEARING &&
      now_ms - s->phase_ms >=
          mg_config_get(config, MG_CONFIG_ALERT_RESOLVE_AFTER))
    alert_resolve(a, config, s, now_ms, unix_ms);
  return s->phase == ALERT_COOLING && now_ms >= s->cool_ms;
}

static void alert_step(mg_alerts *a, const mg_config *config, double now_ms,
                       double unix_ms) {
  for (uint32_t i = 0; i < MG_ALERT_SLOTS && a->used > 0; i++) {
    alert_slot *s = a->slot[i];
    if (s == NULL) continue;
    if (s->holds)
      alert_step_true(a, config, s, now_ms, unix_ms);
    else if (alert_step_false(a, config, s, now_ms, unix_ms))
      alert_free(a, i);
  }
}

/* ---- what is true -------------------------------------------------------- */

static bool alert_is_level(const mg_alert_facts *f, mg_level least) {
  return f->level >= (double)least;
}

static void alert_note_usage(mg_alerts *a, const mg_config *config,
                             const mg_alert_facts *f) {
  double critical = mg_config_get(config, MG_CONFIG_FORCE_GC_THRESHOLD) / 100.0;
  alert_condition c = {
      .kind = MG_ALERT_HIGH_USAGE,
      .holds = alert_is_level(f, MG_LEVEL_HIGH),
      .value = f->usage,
      .threshold = mg_config_get(config, MG_CONFIG_ALERT_THRESHOLD) / 100.0,
      .for_ms = mg_config_get(config, MG_CONFIG_HIGH_USAGE_FOR),
      .severity = MG_SEVERITY_WARNING};

  if (f->unreclaimable > 0) {
    a->is_stuck = true;
    a->stuck_level = f->level;
  } else if (!(f->level >= a->stuck_level) ||
             !alert_is_level(f, MG_LEVEL_ELEVATED)) {
    a->is_stuck = false;
  }
  alert_note(a, &c, f->now_ms, f->unix_ms);
  c.severity = MG_SEVERITY_CRITICAL;
  c.kind = MG_ALERT_CRITICAL;
  c.holds = alert_is_level(f, MG_LEVEL_CRITICAL);
  c.threshold = critical;
  c.for_ms = mg_config_get(config, MG_CONFIG_CRITICAL_FOR);
  alert_note(a, &c, f->now_ms, f->unix_ms);
  c.for_ms = 0.0;
  c.kind = MG_ALERT_UNRECLAIMABLE;
  c.holds = a->is_stuck;
  alert_note(a, &c, f->now_ms, f->unix_ms);
  c.kind = MG_ALERT_OUT_OF_MEMORY;
  c.holds = f->usage >= 1.0 || (a->is_stuck && alert_is_level(f, MG_LEVEL_CRITICAL));
  c.threshold = 1.0;
  alert_note(a, &c, f->now_ms, f->unix_ms);
}

/* The share of CPU time, of one window after the other. */
static void alert_note_gc(mg_alerts *a, const mg_config *config,
                          const mg_alert_facts *f) {
  const double most = mg_config_get(config, MG_CONFIG_GC_HIGH_PERCENT) / 100.0;
  alert_window *w = &a->gc;
  double gone_ms = f->now_ms - w->began_ms;
  bool is_known = !isnan(f->gc_ms) && !isnan(f->cpu_ms);
  alert_condition c = {.kind = MG_ALERT_GC_HIGH,
                       .threshold = most,
                       .severity = MG_SEVERITY_WARNING,
                       .for_ms = mg_config_get(config, MG_CONFIG_GC_HIGH_FOR)};

  if (is_known && (!w->has_begun || !(gone_ms >= 0))) {
    *w = (alert_window){is_known, false, f->now_ms, f->gc_ms, f->cpu_ms, 0.0};
  } else if (is_known && gone_ms >= MG__ALERT_GC_WINDOW_MS) {
    double cpu_ms = f->cpu_ms - w->cpu_ms, gc_ms = f->gc_ms - w->gc_ms;
    double share = cpu_ms > 0 ? fmin(gc_ms / cpu_ms, 1.0) : 0.0;
    bool is_high = cpu_ms >= MG__ALERT_GC_LEAST_CPU * gone_ms && share > most;
    *w = (alert_window){true, is_high, f->now_ms, f->gc_ms, f->cpu_ms, share};
  }
  c.holds = w->is_high;
  c.value = w->share;
  alert_note(a, &c, f->now_ms, f->unix_ms);
}

static void alert_note_growth(mg_alerts *a, const mg_config *config,
                              const mg_alert_facts *f) {
  static const char *const subjects[2] = {"rss", "heap"};
  const double told[2] = {f->rss_growth, f->heap_growth};

  for (int i = 0; i < 2; i++) {
    alert_condition c = {
        .kind = MG_ALERT_RAPID_GROWTH,
        .subject = subjects[i],
        .threshold = mg_config_get(config, MG_CONFIG_RAPID_GROWTH),
        .severity = MG_SEVERITY_WARNING};
    if (!isnan(told[i])) a->growth[i] = told[i];
    c.holds = a->growth[i] > 0;
    c.value = a->growth[i];
    alert_note(a, &c, f->now_ms, f->unix_ms);
  }
}

static void alert_note_rest(mg_alerts *a, const mg_config *config,
                            const mg_alert_facts *f) {
  double pause_ms = mg_config_get(config, MG_CONFIG_LONG_PAUSE);
  double many = mg_config_get(config, MG_CONFIG_LEAK_FD_WARNING_COUNT);
  alert_condition c = {.kind = MG_ALERT_LONG_PAUSE,
                       .severity = MG_SEVERITY_WARNING,
                       .holds = f->pause_ms > pause_ms,
                       .value = f->pause_ms / 1000.0,
                       .threshold = pause_ms / 1000.0};

  alert_note(a, &c, f->now_ms, f->unix_ms);
  c.kind = MG_ALERT_FD_LEAK;
  c.holds = f->fd_warned > 0 || f->fd_count >= many;
  c.value = f->fd_count;
  c.threshold = many;
  alert_note(a, &c, f->now_ms, f->unix_ms);
  c.kind = MG_ALERT_PREVIOUS_OOM;
  c.holds = !isnan(f->previous_oom);
  c.value = f->previous_oom;
  c.threshold = (double)NAN;
  alert_note(a, &c, f->now_ms, f->unix_ms);
}

void mg__alerts_forget(mg_alerts *a) {
  for (uint32_t i = 0; i < MG_ALERT_SLOTS; i++)
    if (a->slot[i] != NULL) alert_free(a, i);
  a->gc.has_begun = a->gc.is_high = a->is_stuck = false;
  a->growth[0] = a->growth[1] = 0.0;
}

/* Nobody wants alerts: what fires ends now, what does not is forgotten. */
static void alert_end_all(mg_alerts *a, const mg_config *config, double now_ms,
                          double unix_ms) {
  for (uint32_t i = 0; i < MG_ALERT_SLOTS && a->used > 0; i++) {
    alert_slot *s = a->slot[i];
    if (s == NULL) continue;
    if (s->phase == ALERT_FIRES || s->phase == ALERT_CLEARING)
      alert_resolve(a, config, s, now_ms, unix_ms);
  }
  mg__alerts_forget(a);
}

static bool alert_is_wanted(const mg_config *config) {
  return mg_config_get(config, MG_CONFIG_ENABLED) != 0 &&
         mg_config_get(config, MG_CONFIG_ALERTS_ENABLED) != 0;
}

bool mg_alerts_judge(mg_alerts *a, const mg_config *config,
                     const mg_alert_facts *f) {
  uint64_t before = a->stats.changes;

  if (isnan(f->now_ms)) return false;
  if (!alert_is_wanted(config)) {
    alert_end_all(a, config, f->now_ms, f->unix_ms);
    return a->stats.changes != before;
  }
  alert_note_usage(a, config, f);
  alert_note_gc(a, config, f);
  alert_note_growth(a, config, f);
  alert_note_rest(a, config, f);
  alert_step(a, config, f->now_ms, f->unix_ms);
  return a->stats.changes != before;
}

bool mg_alerts_leak(mg_alerts *a, const mg_config *config,
                    const mg_alert_leak *leak) {
  uint64_t before = a->stats.changes;
  alert_condition c = {
      .kind = leak->is_descriptors ? MG_ALERT_FD_LEAK : MG_ALERT_MEMORY_LEAK,
      .holds = !leak->is_over,
      .value = leak->growth_per_minute,
      .threshold = (double)NAN,
      .severity = leak->severity,
      .subject = leak->signal,
      .culprit = leak->culprit};

  if (isnan(leak->now_ms) || !alert_is_wanted(config)) return false;
  alert_note(a, &c, leak->now_ms, leak->unix_ms);
  alert_step(a, config, leak->now_ms, leak->unix_ms);
  return a->stats.changes != before;
}

/* ---- asking -------------------------------------------------------------- */

static bool alert_is_firing(const alert_slot *s) {
  return s != NULL && (s->phase == ALERT_FIRES || s->phase == ALERT_CLEARING);
}

size_t mg_alerts_active(const mg_alerts *a, mg_alert *out, size_t max) {
  size_t count = 0, held = 0;

  for (uint32_t i = 0; i < MG_ALERT_SLOTS; i++) {
    size_t at = held;
    if (!alert_is_firing(a->slot[i])) continue;
    count++;
    if (out == NULL || held == max) continue;
    for (; at > 0 && out[at - 1].since_unix_ms >
                         a->slot[i]->alert.since_unix_ms; at--)
      out[at] = out[at - 1];
    out[at] = a->slot[i]->alert;
    held++;
  }
  return count;
}

size_t mg_alerts_changes(const mg_alerts *a, uint64_t after, mg_alert *out,
                         size_t max) {
  uint64_t first = alert_oldest(a);
  size_t count;

  if (after >= first) first = after + 1;
  if (first > a->stats.changes || a->capacity == 0) return 0;
  count = (size_t)(a->stats.changes - first + 1);
  if (out == NULL) return count;
  if (count > max) count = max;
  for (size_t i = 0; i < count; i++)
    out[i] = a->ring[(first + i - 1) % a->capacity];
  return count;
}

void mg_alerts_read_stats(const mg_alerts *a, mg_alerts_stats *out) {
  *out = a->stats;
}
