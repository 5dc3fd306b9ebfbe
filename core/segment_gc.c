/* segment_gc.c - the pauses of a process, out of its histograms. */
#include "memguard/segment.h"

#include <stddef.h>

#include "internal.h"
#include "segment_parts.h"

static uint64_t gc_quantile(const uint64_t *bucket, uint64_t count,
                            double quantile, uint64_t max_ns) {
  double wanted = quantile * (double)count;
  uint64_t seen = 0, end;

  for (uint32_t i = 0; i < MG_SEGMENT_BUCKETS; i++) {
    seen += bucket[i];
    if (seen == 0 || (double)seen < wanted) continue;
    end = mg__pause_bucket_end(i);
    return end < max_ns ? end : max_ns;
  }
  return max_ns;
}

/* @return collections in the histogram. */
static uint64_t gc_add_kind(mg_segment *s, uint32_t kind,
                            uint64_t bucket[MG_SEGMENT_BUCKETS],
                            uint64_t *latest_ms, mg_pause_stats *out) {
  uint32_t own[MG_SEGMENT_BUCKETS];
  uint64_t seen = 0;
  mg_segment_gc gc;

  if (!mg__segment_copy(s, &gc, sizeof gc,
                  offsetof(mg_segment_layout, gc) + kind * sizeof gc) ||
      !mg__segment_copy(s, own, sizeof own,
                  offsetof(mg_segment_layout, gc_bucket) + kind * sizeof own))
    return 0;
  for (uint32_t i = 0; i < MG_SEGMENT_BUCKETS; i++) {
    bucket[i] += own[i];
    seen += own[i];
  }
  out->count += gc.count;
  out->wall_ns += gc.wall_ns;
  out->cpu_ns += gc.cpu_ns;
  out->collected += gc.collected;
  if (gc.max_ns > out->max_ns) out->max_ns = gc.max_ns;
  if (gc.last_unix_ms >= *latest_ms) {
    *latest_ms = gc.last_unix_ms;
    if (gc.count > 0) out->last_ns = gc.last_ns;
  }
  return seen;
}

void mg_segment_gc_stats(mg_segment *s, uint32_t kind, mg_pause_stats *out) {
  uint64_t bucket[MG_SEGMENT_BUCKETS] = {0}, seen = 0, latest_ms = 0;

  *out = (mg_pause_stats){0};
  for (uint32_t k = 0; k < MG_PAUSE_KINDS; k++) {
    bool is_phase = (s->header.phase_kinds & 1u << k) != 0;
    if (kind < MG_PAUSE_KINDS ? k != kind : is_phase) continue;
    seen += gc_add_kind(s, k, bucket, &latest_ms, out);
  }
  if (seen == 0) return;
  out->p50_ns = gc_quantile(bucket, seen, 0.50, out->max_ns);
  out->p95_ns = gc_quantile(bucket, seen, 0.95, out->max_ns);
  out->p99_ns = gc_quantile(bucket, seen, 0.99, out->max_ns);
}
