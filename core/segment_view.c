/* segment_view.c - what a view of a segment comes to: pure. */
#include "memguard/segment.h"

#include <math.h>

#include "internal.h"

uint64_t mg_segment_limit_bytes(const mg_segment_view *view) {
  const mg_reading *reading = &view->sample.reading;

  switch (view->sample.domain) {
    case MG_DOMAIN_CGROUP: return reading->cgroup_limit_bytes;
    case MG_DOMAIN_MACHINE: return reading->machine_total_bytes;
    case MG_DOMAIN_ADDRESS: return reading->address_limit_bytes;
    case MG_DOMAIN_DATA: return reading->data_limit_bytes;
    case MG_DOMAIN_HEAP: return reading->heap_limit_bytes;
    case MG_DOMAIN_MAX_HEAP: return view->now.max_heap_bytes;
    case MG_DOMAIN_MAX_MEMORY: return view->now.max_memory_bytes;
    default: return MG_ABSENT;
  }
}

uint64_t mg_segment_native_bytes(const mg_segment_view *view) {
  const mg_reading *reading = &view->sample.reading;

  if (reading->rss_bytes == MG_ABSENT || reading->heap_total_bytes == MG_ABSENT)
    return MG_ABSENT;
  return mg_fall_bytes(reading->rss_bytes, reading->heap_total_bytes);
}

double mg_segment_last_pause_ms(const mg_segment_view *view) {
  const mg_segment_gc *last = NULL;

  for (size_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    const mg_segment_gc *gc = &view->gc[kind];
    if (gc->count > 0 && (last == NULL || gc->last_unix_ms >= last->last_unix_ms))
      last = gc;
  }
  return last == NULL ? (double)NAN : (double)last->last_ns / 1e6;
}
