/* segment_alert.c - the alerts that a process shows: written and read. */
#include <math.h>
#include <string.h>

#include "internal.h"
#include "memguard/segment.h"
#include "segment_parts.h"

/* ---- reading: hostile input ---------------------------------------------- */

static uint32_t segment_held(uint32_t value, uint32_t count, uint32_t otherwise) {
  return value < count ? value : otherwise;
}

static void segment_hold_alert(mg_alert *a) {
  a->kind = segment_held(a->kind, MG_ALERTS, MG_ALERT_HIGH_USAGE);
  a->severity = segment_held(a->severity, MG_SEVERITIES, MG_SEVERITY_INFO);
  a->state = segment_held(a->state, MG_ALERT_STATES, MG_ALERT_RESOLVED);
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
      segment_held(out->count, MG_SEGMENT_ALERTS + 1, MG_SEGMENT_ALERTS);
  out->active = 0;
  for (uint32_t i = 0; i < out->count; i++) {
    segment_hold_alert(&out->alert[i]);
    if (out->alert[i].state == MG_ALERT_FIRING) out->active++;
  }
}
