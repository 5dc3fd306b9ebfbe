/* metrics_facts.c - what is known of one process, once, for all of its metrics.
 *
 * Collections are counted by the collecting thread while they are read. The count
 * changes last and the histogram first, so a copy is whole if both agree. */
#include "memguard/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "memguard/trend.h"
#include "metrics_parts.h"
#include "segment_parts.h"

#define FACTS_TRIES 4
#define FACTS_TREND_POINTS 40u     /* of those in the window: some 10 us */
#define FACTS_TREND_FILLED 0.9     /* of the window, from where it counts */
#define FACTS_PPM 1000000u

/* ---- texts ----------------------------------------------------------------- */

/* Bytes of the character at `at`; 0: none that may stand in a text. */
static size_t facts_character(const char *at) {
  const unsigned char *c = (const unsigned char *)at;
  size_t bytes = mg__utf8_bytes(at, strnlen(at, 4));
  bool is_control = c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0);

  return is_control ? 0 : bytes;
}

void mg__metrics_clean(char *out, size_t out_bytes, const char *text) {
  size_t room = out_bytes - 1, bytes;

  for (; *text != '\0' && room >= 3; text += bytes > 0 ? bytes : 1) {
    bytes = facts_character(text);
    if (bytes > room) break;
    memcpy(out, bytes > 0 ? text : "\xef\xbf\xbd",
           bytes > 0 ? bytes : 3);
    out += bytes > 0 ? bytes : 3;
    room -= bytes > 0 ? bytes : 3;
  }
  *out = '\0';
}

void mg__metrics_kind(char out[MG__METRICS_CLEAN(24)], const char *name,
                      uint32_t kind, uint64_t count) {
  if (name[0] != '\0')
    mg__metrics_clean(out, MG__METRICS_CLEAN(24), name);
  else if (count > 0) /* by a runtime that gave it no name */
    snprintf(out, MG__METRICS_CLEAN(24), "kind%u", kind);
  else
    out[0] = '\0';
}

static void facts_describe(mg__metrics_facts *f) {
  const mg_segment_header *h = f->from->header;

  snprintf(f->pid, sizeof f->pid, "%u", h->pid);
  mg__metrics_clean(f->program, sizeof f->program, h->program);
  mg__metrics_clean(f->runtime, sizeof f->runtime, h->runtime);
  mg__metrics_clean(f->runtime_version, sizeof f->runtime_version,
                    h->runtime_version);
  mg__metrics_clean(f->library_version, sizeof f->library_version,
                    h->library_version);
  f->owner.label[0] = (mg_metrics_label){"pid", f->pid};
  f->owner.label[1] = (mg_metrics_label){"program", f->program};
  f->owner.label[2] = (mg_metrics_label){"runtime", f->runtime};
  f->owner.labels = 3;
  mg__metrics_prefix(&f->owner);
}

/* ---- memory ------------------------------------------------------------------ */

static uint64_t facts_plus(uint64_t sum, uint64_t more) {
  if (sum == MG_ABSENT || more == MG_ABSENT) return sum;
  return more < MG_ABSENT - 1 - sum ? sum + more : MG_ABSENT - 1;
}

static uint64_t facts_most(uint64_t a, uint64_t b) {
  if (a == MG_ABSENT || b == MG_ABSENT) return a;
  return a > b ? a : b;
}

/* Parts of one look agree; those of two, or of a foreign segment, are held so. */
static void facts_memory(mg__metrics_facts *f) {
  const mg_reading *r = &f->from->view->sample.reading;
  uint64_t used;

  f->heap_alloc = r->block_bytes;
  f->heap_sys = facts_most(r->block_total_bytes, r->block_bytes);
  f->heap_idle = f->heap_inuse = MG_ABSENT;
  if (f->heap_sys != MG_ABSENT && r->block_idle_bytes != MG_ABSENT) {
    used = f->heap_alloc == MG_ABSENT ? 0 : f->heap_alloc;
    f->heap_idle = r->block_idle_bytes < f->heap_sys - used
                       ? r->block_idle_bytes
                       : f->heap_sys - used;
    f->heap_inuse = f->heap_sys - f->heap_idle;
  }
  f->alloc = facts_plus(facts_plus(f->heap_alloc, r->external_bytes),
                        r->malloc_used_bytes);
  f->sys = facts_plus(facts_plus(f->heap_sys, r->external_bytes),
                      r->malloc_total_bytes);
  f->sys = facts_most(f->sys, f->alloc);
}

/* ---- collections --------------------------------------------------------------- */

static uint64_t facts_sum(const uint32_t bucket[MG_SEGMENT_BUCKETS]) {
  uint64_t sum = 0;

  for (uint32_t i = 0; i < MG_SEGMENT_BUCKETS; i++) sum += bucket[i];
  return sum;
}

/* Counters and buckets of all kinds of one moment, if there is one within some
 * tries; the buckets decide otherwise (of a process that died in between). */
static bool facts_read_gc(mg_segment *s, mg_segment_gc gc[MG_PAUSE_KINDS],
                          uint32_t bucket[][MG_SEGMENT_BUCKETS]) {
  mg_segment_gc before[MG_PAUSE_KINDS];
  bool is_whole = false;

  for (int i = 0; i < FACTS_TRIES && !is_whole; i++) {
    if (!mg__segment_read_gc(s, before, bucket) ||
        !mg__segment_read_gc(s, gc, NULL))
      return false;
    is_whole = memcmp(gc, before, sizeof before) == 0;
    for (uint32_t kind = 0; kind < MG_PAUSE_KINDS && is_whole; kind++)
      is_whole = (uint32_t)gc[kind].count == (uint32_t)facts_sum(bucket[kind]);
  }
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS && !is_whole; kind++)
    gc[kind].count = facts_sum(bucket[kind]);
  return true;
}

static void facts_fill(mg_metrics_histogram *out, const mg_segment_gc *gc,
                       const uint32_t bucket[MG_SEGMENT_BUCKETS]) {
  uint64_t seen = 0, bound_ns;
  uint32_t at = 0, end;

  for (uint32_t i = 0; i < MG_METRICS_BOUNDS; i++) {
    bound_ns = mg_metrics_bound_ns(i);
    end = mg__pause_bucket(bound_ns);
    if (mg__pause_bucket_end(end) <= bound_ns) end++;
    while (at < end) seen += bucket[at++];
    out->bucket[i] = seen;
  }
  out->count = gc->count;
  out->sum_ns = gc->wall_ns;
  out->bucket[MG_METRICS_BOUNDS] = gc->count;
}

static void facts_add(mg__metrics_facts *f, uint32_t kind) {
  const mg_metrics_histogram *h = &f->pause[kind];
  const mg_segment_gc *gc = &f->gc[kind];

  f->all_gc.count += gc->count;
  f->all_gc.wall_ns += gc->wall_ns;
  f->all_pauses.count += h->count;
  f->all_pauses.sum_ns += h->sum_ns;
  for (uint32_t i = 0; i <= MG_METRICS_BOUNDS; i++)
    f->all_pauses.bucket[i] += h->bucket[i];
}

static void facts_collections(mg__metrics_facts *f) {
  uint32_t bucket[MG_PAUSE_KINDS][MG_SEGMENT_BUCKETS];
  const mg_segment_header *header = f->from->header;

  if (!facts_read_gc(f->from->segment, f->gc, bucket)) return;
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    if (header->kind[kind][0] == '\0' && f->gc[kind].count == 0) continue;
    facts_fill(&f->pause[kind], &f->gc[kind], bucket[kind]);
    mg__metrics_kind(f->kind[kind], header->kind[kind], kind,
                     f->gc[kind].count);
    f->has_kinds = true;
    if ((header->phase_kinds & 1u << kind) == 0) facts_add(f, kind);
  }
}

/* ---- growth ------------------------------------------------------------------- */

/* Every so many of the points in the window, the newest among them. */
static void facts_growth(mg__metrics_facts *f) {
  mg_segment_point point[FACTS_TREND_POINTS];
  double time_ms[FACTS_TREND_POINTS];
  uint64_t bytes[FACTS_TREND_POINTS];
  mg_trend trend;
  size_t count = mg__segment_thin_points(f->from->segment,
                                         MG_METRICS_GROWTH_MS, point,
                                         FACTS_TREND_POINTS);

  for (size_t i = 0; i < count; i++) {
    time_ms[i] = (double)point[i].unix_ms;
    bytes[i] = point[i].rss_bytes;
  }
  mg_trend_of(&trend, time_ms, bytes, count);
  if (trend.points >= MG_TREND_MIN_POINTS &&
      trend.span_ms >= FACTS_TREND_FILLED * MG_METRICS_GROWTH_MS)
    f->growth_mb_per_minute = trend.mb_per_minute;
}

void mg__metrics_gather(mg__metrics_facts *f, const mg_metrics_process *from) {
  memset(f, 0, sizeof *f);
  f->from = from;
  f->gc_share = f->growth_mb_per_minute = (double)NAN;
  facts_describe(f);
  if (!from->is_alive) return;
  f->has_sample = from->view->sample.number != 0;
  f->is_recorded = from->header->opened_unix_ms != 0;
  if (f->is_recorded) facts_collections(f);
  if (!f->has_sample) return;
  facts_memory(f);
  if (!f->is_recorded) return;
  if (from->view->now.gc_ppm <= FACTS_PPM)
    f->gc_share = from->view->now.gc_ppm / (double)FACTS_PPM;
  facts_growth(f);
}
