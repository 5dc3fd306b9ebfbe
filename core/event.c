/* event.c - names of what a monitor reports, and the queue it waits in. */
#include "memguard/monitor.h"

#include <string.h>

#include "internal.h"

const char *mg_event_name(mg_event_kind kind) {
  static const char *const names[] = {
#define EVENT_NAME(id, name) name,
      MG_EVENT_MAP(EVENT_NAME)
#undef EVENT_NAME
  };
  return (unsigned)kind < MG_EVENTS ? names[kind] : "unknown";
}

static _Atomic uint64_t event_lost_total;

uint64_t mg__events_lost(void) { return atomic_load(&event_lost_total); }

/* ---- queue ------------------------------------------------------------- */

mg_status mg__events_open(mg__events *out, mg_error *err) {
  size_t bytes = MG_EVENT_QUEUE * sizeof *out->ring;

  *out = (mg__events){mg__alloc_untouched(bytes), 0, 0, 0};
  if (out->ring == NULL)
    return mg__fail(err, MG_ENOMEM, "event queue, %zu bytes", bytes);
  return MG_OK;
}

void mg__events_close(mg__events *events) {
  mg__free(events->ring);
  events->ring = NULL;
}

static mg_event *event_at(const mg__events *events, uint32_t index) {
  return &events->ring[(events->first + index) % MG_EVENT_QUEUE];
}

static bool event_says_same(const mg_event *a, const mg_event *b) {
  if (a->kind != b->kind) return false;
  switch (a->kind) {
    case MG_EVENT_STATS:
    case MG_EVENT_THRESHOLD:
    case MG_EVENT_LEVEL:
    case MG_EVENT_PRESSURE:
    case MG_EVENT_FD_WARNING:
    case MG_EVENT_ALERT:
      return true;
    case MG_EVENT_RAPID_GROWTH:
      return a->growth_is_heap == b->growth_is_heap;
    case MG_EVENT_LEAK_WARNING:
    case MG_EVENT_LEAK_CRITICAL:
    case MG_EVENT_LEAK_SUSPECTED:
    case MG_EVENT_LEAK_WITHDRAWN:
      return a->finding == b->finding && strcmp(a->counter, b->counter) == 0;
    case MG_EVENT_STARTED:
    case MG_EVENT_STOPPED:
    case MG_EVENT_OPTIMIZATION:
    case MG_EVENT_UNRECLAIMABLE:
    case MG_EVENTS:
      break;
  }
  return false;
}

void mg__events_push(mg__events *events, const mg_event *event) {
  for (uint32_t i = 0; i < events->count; i++) {
    mg_event *waiting = event_at(events, i);
    mg_level previous = waiting->previous;
    if (!event_says_same(waiting, event)) continue;
    *waiting = *event;
    waiting->previous = previous; /* a level event tells the whole way */
    return;
  }
  if (events->count == MG_EVENT_QUEUE) {
    events->first = (events->first + 1) % MG_EVENT_QUEUE;
    events->count--;
    events->lost++;
    atomic_fetch_add(&event_lost_total, 1);
  }
  *event_at(events, events->count++) = *event;
}

bool mg__events_pop(mg__events *events, mg_event *out) {
  if (events->count == 0) return false;
  *out = *event_at(events, 0);
  events->first = (events->first + 1) % MG_EVENT_QUEUE;
  events->count--;
  return true;
}

void mg__events_clear(mg__events *events) { events->first = events->count = 0; }
