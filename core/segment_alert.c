/* segment_alert.c - the alerts that a process shows: written and read. */
#include <math.h>
#include <string.h>

#include "internal.h"
#include "memguard/segment.h"
#include "segment_parts.h"

/* ---- writing: the lock of the segment ------------------------------------ */

/* What is shown; it outlives a file that somebody removed. */
static struct {
  mg_segment_alerts whole;
  const void *owner[MG_SEGMENT_ALERTS];
} shown;

static void segment_write_alerts(mg_segment_layout *map) {
  mg_segment_alerts whole = shown.whole;

  shown.whole.number++;
  shown.whole.unix_ms = mg__os_unix_ms();
  shown.whole.active = 0;
  for (uint32_t i = 0; i < shown.whole.count; i++)
    if (shown.whole.alert[i].state == MG_ALERT_FIRING) shown.whole.active++;
  if (map == NULL) return;
  whole = shown.whole; /* the check is of the copy */
  mg__segment_write(&map->alerts[whole.number % 2], &whole, sizeof whole);
}

/* The one whose place is taken: resolved, or the least severe; the oldest of them. */
static uint32_t segment_least(void) {
  uint32_t least = 0;

  for (uint32_t i = 1; i < shown.whole.count; i++) {
    const mg_alert *a = &shown.whole.alert[i], *b = &shown.whole.alert[least];
    bool is_over = a->state == MG_ALERT_RESOLVED;
    bool was_over = b->state == MG_ALERT_RESOLVED;
    if (is_over != was_over ? is_over : a->severity <= b->severity || is_over)
      least = i;
  }
  return least;
}

static void segment_remove(uint32_t at) {
  for (shown.whole.count--; at < shown.whole.count; at++) {
    shown.whole.alert[at] = shown.whole.alert[at + 1];
    shown.owner[at] = shown.owner[at + 1];
  }
}

static void segment_put_alert(const void *owner, const mg_alert *alert) {
  uint32_t at = 0;

  while (at < shown.whole.count &&
         (shown.owner[at] != owner ||
          shown.whole.alert[at].kind != alert->kind ||
          strcmp(shown.whole.alert[at].subject, alert->subject) != 0))
    at++;
  if (alert->state == MG_ALERT_FIRING &&
      (at == shown.whole.count ||
       shown.whole.alert[at].state == MG_ALERT_RESOLVED))
    shown.whole.fired++;
  if (at < shown.whole.count) {
    segment_remove(at);
  } else if (at == MG_SEGMENT_ALERTS) {
    segment_remove(segment_least());
    shown.whole.evicted++;
  }
  for (uint32_t i = shown.whole.count++; i > 0; i--) {
    shown.whole.alert[i] = shown.whole.alert[i - 1];
    shown.owner[i] = shown.owner[i - 1];
  }
  shown.whole.alert[0] = *alert;
  shown.owner[0] = owner;
}

void mg__segment_note_alerts(const void *owner, const mg_alert *changes,
                             size_t count) {
  if (count == 0) return;
  mg__lock(&mg__self.lock);
  for (size_t i = 0; i < count; i++) segment_put_alert(owner, &changes[i]);
  segment_write_alerts(mg__segment_map());
  mg__unlock(&mg__self.lock);
}

static void segment_end_alerts(const void *owner) {
  uint64_t now_ms = mg__os_unix_ms();
  bool has_changed = false;

  for (uint32_t i = 0; i < shown.whole.count; i++) {
    if (shown.owner[i] != owner) continue;
    shown.owner[i] = NULL; /* another monitor may get its address */
    if (shown.whole.alert[i].state == MG_ALERT_RESOLVED) continue;
    shown.whole.alert[i].state = MG_ALERT_RESOLVED;
    shown.whole.alert[i].resolved_unix_ms = now_ms;
    has_changed = true;
  }
  if (has_changed) segment_write_alerts(mg__segment_map());
}

void mg__segment_forget_alerts(const void *owner) {
  if (owner == NULL) {
    memset(&shown, 0, sizeof shown);
    return;
  }
  mg__lock(&mg__self.lock);
  segment_end_alerts(owner);
  mg__unlock(&mg__self.lock);
}

void mg__segment_begin_alerts(mg_segment_layout *map) {
  shown.whole.number = 0;
  if (shown.whole.count > 0) segment_write_alerts(map);
}

/* ---- reading: hostile input ---------------------------------------------- */

static void segment_hold_alert(mg_alert *a) {
  a->kind = mg__segment_held(a->kind, MG_ALERTS, MG_ALERT_HIGH_USAGE);
  a->severity = mg__segment_held(a->severity, MG_SEVERITIES, MG_SEVERITY_INFO);
  a->state = mg__segment_held(a->state, MG_ALERT_STATES, MG_ALERT_RESOLVED);
  if (!isfinite(a->value)) a->value = (double)NAN;
  if (!isfinite(a->threshold)) a->threshold = (double)NAN;
  a->subject[sizeof a->subject - 1] = '\0';
  a->culprit[sizeof a->culprit - 1] = '\0';
}

void mg_segment_read_alerts(mg_segment *s, mg_segment_alerts *out) {
  mg_segment_alerts half[2];
  int newer = mg__segment_halves(s, half, sizeof *half,
                                 offsetof(mg_segment_layout, alerts));

  memset(out, 0, sizeof *out);
  if (newer < 0) return;
  *out = half[newer];
  out->count =
      mg__segment_held(out->count, MG_SEGMENT_ALERTS + 1, MG_SEGMENT_ALERTS);
  out->active = 0;
  for (uint32_t i = 0; i < out->count; i++) {
    segment_hold_alert(&out->alert[i]);
    if (out->alert[i].state == MG_ALERT_FIRING) out->active++;
  }
}
