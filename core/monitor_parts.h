/* monitor_parts.h - what monitor.c, which judges, and monitor_state.c, which
 * answers, have in common. */
#ifndef MG_CORE_MONITOR_PARTS_H
#define MG_CORE_MONITOR_PARTS_H

#include "alert_watch.h"
#include "internal.h"
#include "memguard/level.h"
#include "os.h"

struct mg_monitor {
  mg__seat seat;
  mg__mutex lock;
  mg_config config;
  mg_level_tracker level;
  mg_level pool_level; /* what it counts for with the pools */
  mg_history *history;
  mg_buffers *follow;
  mg_reclaim *reclaim;
  mg_detector *detector;
  mg__alert_watch alerts;
  uint64_t rounds; /* of `reclaim`, raised so far */
  uint64_t collections_before; /* of `reclaim`, when it was joined */
  mg_page *page;
  mg__events events;
  uint32_t interest; /* bits of mg_event_kind */
  mg__counters counters;
  uint64_t number, peak_rss_bytes;
  double last_usage, last_ms, rate_per_ms; /* usage per ms between samples */
  double record_due_ms;

  mg__published published;
  /* No lock: mg_monitor_set_heap() may run inside a collection. */
  _Atomic uint64_t heap_used_bytes, heap_total_bytes, heap_limit_bytes,
      external_bytes, array_buffer_bytes;
  mg__look look;
  _Atomic uint64_t operations;
  _Atomic uint64_t glanced_ns; /* when the resident set was last looked at alone */
  _Atomic uint32_t operation_interval;
};

/** Copies a sample to the page, if there is one. The caller holds the lock. */
void mg__monitor_mirror(mg_monitor *monitor, const mg_sample *sample);
/** Raises a leak event if `counter` has news. The caller holds the lock. */
void mg__monitor_raise_leak(mg_monitor *monitor, mg__counter *counter,
                            const mg_sample *sample);
/** Calls the hooks for what a pass of the host's own thread found. No lock. */
void mg__monitor_tell(mg_monitor *monitor, const mg__verdict *verdict);

#endif
