/* detector_wide.c - what costs too much for each sample: private memory, kinds of
 * descriptors, mappings, rentals, counters; and the limits that go with them. */
#include "memguard/detector.h"

#include <math.h>
#include <string.h>

#include "detector_parts.h"

#define WIDE_NS_PER_MS 1e6
#define WIDE_SHARE 100.0 /* wide readings take one part of so many of the time; */
#define WIDE_SHARE_MIN 4.0 /* where time is compressed, of fewer */
#define WIDE_COUNTER_PREFIX "counter:"

/* ---- reading; no lock ----------------------------------------------------------- */

/* @return whether the heap is that of this moment, else as told last. */
static bool wide_read_heap(const mg_detector *d, const mg_monitor *monitor,
                           mg_heap *out) {
  mg_reading reading;

  *out = (mg_heap)MG_HEAP_INIT;
  if (d->options.read_heap != NULL) d->options.read_heap(d->options.ctx, out);
  if (out->total_bytes != MG_ABSENT) return true;
  mg__monitor_add_heap(monitor, &reading);
  out->total_bytes = reading.heap_total_bytes;
  out->external_bytes = reading.external_bytes;
  out->limit_bytes = reading.heap_limit_bytes;
  return false;
}

void mg__wide_read(mg_detector *d, const mg_monitor *monitor, mg__wide *out) {
  uint64_t began_ns = mg_clock_ns();
  mg__pools_total pools;

  mg__footprint_read(&d->footprint, &out->held);
  out->is_heap_now = wide_read_heap(d, monitor, &out->heap);
  mg__pools_read_total(&pools);
  out->rentals = pools.rented;
  mg__os_read_limits(&out->fd_limit, &out->thread_limit);
  out->now_ms = mg_clock_ms();
  out->took_ms = (double)(mg_clock_ns() - began_ns) / WIDE_NS_PER_MS;
}

/* What the heap reserved and owns. */
static uint64_t wide_heap_bytes(const mg__wide *wide) {
  uint64_t heap = wide->heap.total_bytes;

  if (heap == MG_ABSENT || wide->heap.external_bytes == MG_ABSENT) return heap;
  return heap + wide->heap.external_bytes;
}

/* Memory beside the heap; MG_ABSENT if either is not known. What the heap holds
 * need not be resident, so there may seem to be less than none: the deficit is
 * remembered, and growth is seen from there on. */
static uint64_t wide_beside(mg_detector *d, uint64_t held, uint64_t heap) {
  if (held == MG_ABSENT || heap == MG_ABSENT) return MG_ABSENT;
  if (heap > held && heap - held > d->native_slack)
    d->native_slack = heap - held;
  return held + d->native_slack - heap;
}

/* A heap that is told now and then has grown unseen since: the last reading is
 * taken with the larger one of what was told before and after it. */
static uint64_t wide_native(mg_detector *d, const mg__wide *wide) {
  uint64_t held = wide->held.private_bytes, heap = wide_heap_bytes(wide);
  uint64_t held_before = d->held_before, heap_before = d->heap_before;

  d->held_before = held;
  d->heap_before = heap;
  if (wide->is_heap_now) return wide_beside(d, held, heap);
  if (heap != MG_ABSENT && heap_before != MG_ABSENT && heap < heap_before)
    heap = heap_before;
  return wide_beside(d, held_before, heap);
}

/* A counter of the host is a series of its own; a name that leak.c would cut
 * could be another one's. */
void mg__wide_note_counters(mg_detector *d, const mg_monitor *monitor,
                            double now_ms) {
  char name[sizeof WIDE_COUNTER_PREFIX + MG_COUNTER_KEY_BYTES];
  const size_t prefix = sizeof WIDE_COUNTER_PREFIX - 1;
  uint32_t series;
  uint64_t value;

  memcpy(name, WIDE_COUNTER_PREFIX, prefix);
  for (size_t i = 0; mg_monitor_counter_at(monitor, i, name + prefix, &value);
       i++) {
    if (strlen(name) >= MG_LEAK_NAME_BYTES) continue;
    mg__lock(&d->lock);
    if (mg_leak_name(d->leak, name, &series, NULL) == MG_OK)
      mg__detector_note(d, series, value, now_ms);
    mg__unlock(&d->lock);
  }
}

/* ---- for the judgement; the caller holds the lock --------------------------- */

void mg__wide_note(mg_detector *d, const mg__wide *wide) {
  const mg__holdings *held = &wide->held;
  mg_detector_stats *stats = &d->stats;

  stats->private_bytes = held->private_bytes;
  stats->native_bytes = wide_native(d, wide);
  stats->sockets = held->sockets;
  stats->pipes = held->pipes;
  stats->files = held->files;
  stats->others = held->others;
  stats->mappings = held->mappings;
  stats->wide++;
  stats->wide_ms = wide->took_ms;
  mg__detector_note(d, MG_LEAK_NATIVE, stats->native_bytes, wide->now_ms);
  mg__detector_note(d, MG_LEAK_FD_SOCKETS, held->sockets, wide->now_ms);
  mg__detector_note(d, MG_LEAK_FD_PIPES, held->pipes, wide->now_ms);
  mg__detector_note(d, MG_LEAK_FD_FILES, held->files, wide->now_ms);
  mg__detector_note(d, MG_LEAK_FD_OTHERS, held->others, wide->now_ms);
  mg__detector_note(d, MG_LEAK_MAPPINGS, held->mappings, wide->now_ms);
  mg__detector_note(d, MG_LEAK_RENTALS, wide->rentals, wide->now_ms);
}

/* @return the lesser of two limits, of which 0 and MG_ABSENT are none. */
static double wide_least(double limit, uint64_t other) {
  if (other == 0 || other == MG_ABSENT) return limit;
  return limit == 0 ? (double)other : fmin(limit, (double)other);
}

mg_leak_limits mg__wide_limits(const mg_detector *d, const mg__wide *wide) {
  const mg_reading *r = &d->sample.reading;
  uint64_t used = r->rss_bytes;
  double max_mb = mg_config_get(&d->config, MG_CONFIG_MAX_MEMORY_MB);
  double heap_mb = mg_config_get(&d->config, MG_CONFIG_MAX_HEAP_MB);
  mg_leak_limits limits = {.memory_bytes = max_mb * MG_BYTES_PER_MB,
                           .heap_bytes = heap_mb * MG_BYTES_PER_MB,
                           .fds = (double)wide->fd_limit,
                           .threads = (double)wide->thread_limit};

  limits.memory_bytes = wide_least(limits.memory_bytes, r->cgroup_limit_bytes);
  limits.memory_bytes = wide_least(limits.memory_bytes, r->machine_total_bytes);
  limits.heap_bytes = wide_least(limits.heap_bytes, wide->heap.limit_bytes);
  if (limits.memory_bytes == (double)r->cgroup_limit_bytes)
    used = r->cgroup_used_bytes; /* others of the group count too */
  if (used != MG_ABSENT) limits.memory_used_bytes = (double)used;
  return limits;
}

double mg__wide_every_ms(const mg_detector *d) {
  double scale = mg_config_get(&d->config, MG_CONFIG_LEAK_TIME_SCALE);
  double every_ms = fmin(MG_DETECTOR_WIDE_MS / scale,
                         d->settings.window_ms / MG__WIDE_BLOCKS);

  every_ms = fmax(every_ms, d->stats.wide_ms *
                                fmax(WIDE_SHARE / scale, WIDE_SHARE_MIN));
  return fmax(every_ms, MG__WIDE_LEAST_MS);
}
