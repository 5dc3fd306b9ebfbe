/* pause.c - histogram, seconds and last events of collections.
 *
 * A bucket is found from the bits of the time in units of 2^-4 steps per octave:
 *
 *   ns >> 10          about microseconds; below 16: its own bucket
 *   bucket            octave * 16 + the four bits after the leading one
 *
 * The one writer stores with plain loads and relaxed stores, which readers on
 * other threads may see a moment late. Events are a ring of seqlocked slots. */
#include "memguard/pause.h"

#include <stdatomic.h>

#include "internal.h"

#define PAUSE_UNIT_BITS 10u /* 1.024 us */
#define PAUSE_STEP_BITS 4u
#define PAUSE_STEPS (1u << PAUSE_STEP_BITS)
#define PAUSE_OCTAVES 24u /* up to 2^37 ns = 137 s */
#define PAUSE_BUCKETS (PAUSE_OCTAVES * PAUSE_STEPS)
#define PAUSE_NS_PER_SECOND 1000000000u

_Static_assert(PAUSE_BUCKETS == MG__PAUSE_BUCKETS, "as others see it");

typedef struct pause_kind {
  _Atomic uint64_t count, wall_ns, cpu_ns, collected, max_ns, last_ns;
  _Atomic uint32_t bucket[PAUSE_BUCKETS];
} pause_kind;

typedef struct pause_second {
  _Atomic uint64_t second, longest_ns;
} pause_second;

typedef struct pause_slot {
  _Atomic uint64_t number; /* 0 while being written */
  _Atomic uint64_t began_ns, wall_ns, cpu_ns, collected, kind;
} pause_slot;

struct mg_pauses {
  _Atomic uint64_t count;
  pause_kind kind[MG_PAUSE_KINDS];
  pause_second second[MG_PAUSE_SECONDS];
  pause_slot event[MG_PAUSE_EVENTS];
};

mg_status mg_pauses_open(mg_pauses **out, mg_error *err) {
  *out = mg__alloc(sizeof **out);
  if (*out == NULL)
    return mg__fail(err, MG_ENOMEM, "pause recorder, %zu bytes", sizeof **out);
  return MG_OK;
}

void mg_pauses_close(mg_pauses *pauses) { mg__free(pauses); }

/* ---- buckets ----------------------------------------------------------- */

uint32_t mg__pause_bucket(uint64_t ns) {
  uint64_t units = ns >> PAUSE_UNIT_BITS;
  uint32_t octave = 0, bucket;

  if (units < PAUSE_STEPS) return (uint32_t)units;
  while (units >> (octave + PAUSE_STEP_BITS + 1) != 0) octave++;
  bucket = (octave + 1) * PAUSE_STEPS +
           (uint32_t)((units >> octave) & (PAUSE_STEPS - 1));
  return bucket < PAUSE_BUCKETS ? bucket : PAUSE_BUCKETS - 1;
}

uint64_t mg__pause_bucket_end(uint32_t bucket) {
  uint32_t octave = bucket / PAUSE_STEPS, step = bucket % PAUSE_STEPS;
  uint64_t units = octave == 0 ? step
                               : ((uint64_t)(PAUSE_STEPS + step)
                                  << (octave - 1)) +
                                     ((UINT64_C(1) << (octave - 1)) - 1);

  return (units << PAUSE_UNIT_BITS) + ((UINT64_C(1) << PAUSE_UNIT_BITS) - 1);
}

/* ---- recording --------------------------------------------------------- */

#define PAUSE_LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define PAUSE_STORE(field, value) \
  atomic_store_explicit(&(field), value, memory_order_relaxed)

static void pause_add(_Atomic uint64_t *total, uint64_t value) {
  if (value != MG_ABSENT) PAUSE_STORE(*total, PAUSE_LOAD(*total) + value);
}

static void pause_note_kind(pause_kind *k, const mg_pause *p) {
  _Atomic uint32_t *bucket = &k->bucket[mg__pause_bucket(p->wall_ns)];

  PAUSE_STORE(*bucket, PAUSE_LOAD(*bucket) + 1);
  pause_add(&k->wall_ns, p->wall_ns);
  pause_add(&k->cpu_ns, p->cpu_ns);
  pause_add(&k->collected, p->collected);
  if (p->wall_ns > PAUSE_LOAD(k->max_ns)) PAUSE_STORE(k->max_ns, p->wall_ns);
  PAUSE_STORE(k->last_ns, p->wall_ns);
  pause_add(&k->count, 1);
}

static void pause_note_second(mg_pauses *pauses, const mg_pause *p) {
  uint64_t now = (p->began_ns + p->wall_ns) / PAUSE_NS_PER_SECOND;
  pause_second *slot = &pauses->second[now % MG_PAUSE_SECONDS];

  if (PAUSE_LOAD(slot->second) != now) {
    PAUSE_STORE(slot->longest_ns, 0);
    PAUSE_STORE(slot->second, now);
  }
  if (p->wall_ns > PAUSE_LOAD(slot->longest_ns))
    PAUSE_STORE(slot->longest_ns, p->wall_ns);
}

static void pause_note_event(mg_pauses *pauses, const mg_pause *p,
                             uint64_t number) {
  pause_slot *slot = &pauses->event[number % MG_PAUSE_EVENTS];

  PAUSE_STORE(slot->number, 0);
  atomic_store_explicit(&slot->began_ns, p->began_ns, memory_order_release);
  atomic_store_explicit(&slot->wall_ns, p->wall_ns, memory_order_release);
  atomic_store_explicit(&slot->cpu_ns, p->cpu_ns, memory_order_release);
  atomic_store_explicit(&slot->collected, p->collected, memory_order_release);
  atomic_store_explicit(&slot->kind, p->kind, memory_order_release);
  atomic_store_explicit(&slot->number, number, memory_order_release);
}

void mg_pauses_record(mg_pauses *pauses, const mg_pause *pause) {
  uint64_t number = PAUSE_LOAD(pauses->count) + 1;
  uint32_t kind =
      pause->kind < MG_PAUSE_KINDS ? pause->kind : MG_PAUSE_KINDS - 1;

  pause_note_kind(&pauses->kind[kind], pause);
  pause_note_second(pauses, pause);
  pause_note_event(pauses, pause, number);
  atomic_store_explicit(&pauses->count, number, memory_order_release);
}

/* ---- reading ----------------------------------------------------------- */

typedef struct pause_range {
  uint32_t first, end; /* kinds */
} pause_range;

static pause_range pause_range_of(uint32_t kind) {
  if (kind >= MG_PAUSE_KINDS) return (pause_range){0, MG_PAUSE_KINDS};
  return (pause_range){kind, kind + 1};
}

static uint64_t pause_in_bucket(const mg_pauses *p, pause_range r,
                                uint32_t bucket) {
  uint64_t sum = 0;

  for (uint32_t kind = r.first; kind < r.end; kind++)
    sum += PAUSE_LOAD(p->kind[kind].bucket[bucket]);
  return sum;
}

/* The time that at least `quantile` of the collections do not exceed. */
static uint64_t pause_quantile(const mg_pauses *p, pause_range r,
                               const mg_pause_stats *s, double quantile) {
  double wanted = quantile * (double)s->count;
  uint64_t seen = 0, end;

  for (uint32_t bucket = 0; bucket < PAUSE_BUCKETS; bucket++) {
    seen += pause_in_bucket(p, r, bucket);
    if (seen == 0 || (double)seen < wanted) continue;
    end = mg__pause_bucket_end(bucket);
    return end < s->max_ns ? end : s->max_ns;
  }
  return s->max_ns;
}

void mg_pauses_read(const mg_pauses *p, uint32_t kind, mg_pause_stats *out) {
  pause_range r = pause_range_of(kind);
  mg_pause newest;

  *out = (mg_pause_stats){0};
  for (uint32_t k = r.first; k < r.end; k++) {
    const pause_kind *one = &p->kind[k];
    uint64_t max_ns = PAUSE_LOAD(one->max_ns);
    out->count += PAUSE_LOAD(one->count);
    out->wall_ns += PAUSE_LOAD(one->wall_ns);
    out->cpu_ns += PAUSE_LOAD(one->cpu_ns);
    out->collected += PAUSE_LOAD(one->collected);
    if (max_ns > out->max_ns) out->max_ns = max_ns;
    if (r.end - r.first == 1) out->last_ns = PAUSE_LOAD(one->last_ns);
  }
  if (out->count == 0) return;
  if (r.end - r.first > 1 && mg_pauses_events(p, 0, &newest, 1) == 1)
    out->last_ns = newest.wall_ns;
  out->p50_ns = pause_quantile(p, r, out, 0.50);
  out->p95_ns = pause_quantile(p, r, out, 0.95);
  out->p99_ns = pause_quantile(p, r, out, 0.99);
}

uint64_t mg_pauses_count(const mg_pauses *p) {
  return atomic_load_explicit(&p->count, memory_order_acquire);
}

static bool pause_copy_event(const mg_pauses *p, uint64_t number,
                             mg_pause *out) {
  const pause_slot *slot = &p->event[number % MG_PAUSE_EVENTS];

  if (atomic_load_explicit(&slot->number, memory_order_acquire) != number)
    return false;
  out->number = number;
  out->began_ns = atomic_load_explicit(&slot->began_ns, memory_order_acquire);
  out->wall_ns = atomic_load_explicit(&slot->wall_ns, memory_order_acquire);
  out->cpu_ns = atomic_load_explicit(&slot->cpu_ns, memory_order_acquire);
  out->collected = atomic_load_explicit(&slot->collected, memory_order_acquire);
  out->kind =
      (uint32_t)atomic_load_explicit(&slot->kind, memory_order_acquire);
  return PAUSE_LOAD(slot->number) == number;
}

size_t mg_pauses_events(const mg_pauses *p, uint64_t after, mg_pause *out,
                        size_t max) {
  uint64_t newest = mg_pauses_count(p), number;
  size_t count = 0;

  if (max > MG_PAUSE_EVENTS) max = MG_PAUSE_EVENTS;
  number = newest > max ? newest - max : 0;
  if (number < after) number = after;
  while (number++ < newest)
    if (pause_copy_event(p, number, &out[count])) count++;
  return count;
}

/* ---- seconds ----------------------------------------------------------- */

static uint64_t pause_longest_in(const mg_pauses *p, uint64_t second) {
  const pause_second *slot = &p->second[second % MG_PAUSE_SECONDS];

  return PAUSE_LOAD(slot->second) == second ? PAUSE_LOAD(slot->longest_ns) : 0;
}

/* The k-th smallest of the window by bisection over its values' range: there is
 * no room to sort in, and the window is short. */
uint64_t mg_pauses_seconds(const mg_pauses *p, uint64_t now_ns,
                           uint32_t seconds, double quantile) {
  uint64_t now = now_ns / PAUSE_NS_PER_SECOND, low = 0, high = 0;

  if (seconds < 1) seconds = 1;
  if (seconds >= MG_PAUSE_SECONDS) seconds = MG_PAUSE_SECONDS - 1;
  if (seconds > now) seconds = (uint32_t)now;
  for (uint32_t i = 1; i <= seconds; i++) {
    uint64_t longest = pause_longest_in(p, now - i);
    if (longest > high) high = longest;
  }
  while (low < high) {
    uint64_t middle = low + (high - low) / 2;
    uint32_t within = 0;
    for (uint32_t i = 1; i <= seconds; i++)
      within += pause_longest_in(p, now - i) <= middle;
    if ((double)within >= quantile * seconds)
      high = middle;
    else
      low = middle + 1;
  }
  return high;
}
