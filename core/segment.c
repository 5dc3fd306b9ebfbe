/* segment.c - what this process publishes.
 *
 *   sampler thread   mg__segment_tick() opens, watches and reaps, with no lock of
 *                    the core held; mg__segment_offer() and mg__segment_publish()
 *                    write the samples of a pass
 *   any thread       collections (atomic words only), notes and types (the lock)
 *
 * The lock guards what opens and closes, notes and types. The fields of samples
 * belong to the sampler thread. `map` is what everybody writes through; it becomes
 * NULL first, but the memory behind it stays, for whoever read it before. */
#include "memguard/segment.h"

#include <stdatomic.h>
#include <string.h>

#include "internal.h"
#include "os.h"
#include "segment_parts.h"

#define SEGMENT_SECONDS_PER_MINUTE 60u
#define SEGMENT_NS_PER_MS 1000000u
#define SEGMENT_READINGS (sizeof(mg_reading) / sizeof(uint64_t))

_Static_assert(SEGMENT_READINGS <= MG_SEGMENT_READINGS,
               "room for readings is up: a new version of the layout");

/* ---- whole things ------------------------------------------------------- */

mg__publisher mg__self = {.tick_lock = MG__MUTEX_INIT,
                          .lock = MG__MUTEX_INIT};

/* Word by word, for those in this process who read while it is written. */
static void segment_store(void *out, const void *whole, size_t bytes) {
  const char *from = whole;
  uint64_t *to = out, word;

  for (size_t i = 0; i < bytes / sizeof word; i++) {
    memcpy(&word, from + i * sizeof word, sizeof word);
    __atomic_store_n(&to[i], word, __ATOMIC_RELAXED);
  }
}

void mg__segment_write(void *out, void *whole, size_t bytes) {
  uint64_t check = mg_segment_check(whole, bytes);

  memcpy((char *)whole + sizeof(uint64_t), &check, sizeof check);
  segment_store(out, whole, bytes);
}

/* ---- samples; the sampler thread ---------------------------------------- */

/* The water marks as mg_segment_life has them. */
static uint64_t segment_marks(const mg_config *config) {
  static const mg_config_id ids[MG_SEGMENT_MARKS] = {
      [MG_SEGMENT_LOW_WATER] = MG_CONFIG_LOW_WATER_MARK,
      [MG_SEGMENT_HIGH_WATER] = MG_CONFIG_HIGH_WATER_MARK,
      [MG_SEGMENT_ALERT_AT] = MG_CONFIG_ALERT_THRESHOLD,
      [MG_SEGMENT_FORCE_AT] = MG_CONFIG_FORCE_GC_THRESHOLD};
  uint64_t marks = 0;

  for (int i = 0; i < MG_SEGMENT_MARKS; i++)
    marks |= (uint64_t)(mg_config_get(config, ids[i]) * 100 + 0.5) << 16 * i;
  return marks;
}

void mg__segment_offer(const mg_config *config, const mg_sample *sample,
                       uint64_t live_bytes, double due_ms) {
  if (mg_config_get(config, MG_CONFIG_ENABLED) == 0) return;
  mg__self.is_wanted = true;
  mg__self.is_file_wanted |=
      mg_config_get(config, MG_CONFIG_SEGMENT_ENABLED) != 0;
  if (due_ms < mg__self.interval_ms || mg__self.sample.number == 0)
    mg__self.interval_ms = due_ms;
  if (mg__self.sample.number != 0 && sample->usage <= mg__self.sample.usage)
    return;
  mg__self.sample = *sample;
  if (sample->reading.heap_used_bytes == MG_ABSENT)
    mg__self.sample.reading.heap_used_bytes = live_bytes;
  mg__self.max_memory_mb = mg_config_get(config, MG_CONFIG_MAX_MEMORY_MB);
  mg__self.max_heap_mb = mg_config_get(config, MG_CONFIG_MAX_HEAP_MB);
  mg__self.marks = segment_marks(config);
}

/* As far as it is measured; the length of others. */
static uint64_t segment_gc_ns(const mg_segment_layout *map) {
  uint64_t sum_ns = 0, cpu_ns, wall_ns;

  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    if ((mg__self.phase_kinds & 1u << kind) != 0) continue;
    cpu_ns = __atomic_load_n(&map->gc[kind].cpu_ns, __ATOMIC_RELAXED);
    wall_ns = __atomic_load_n(&map->gc[kind].wall_ns, __ATOMIC_RELAXED);
    sum_ns += cpu_ns != 0 ? cpu_ns : wall_ns;
  }
  return sum_ns;
}

static uint32_t segment_gc_ppm(const mg_segment_layout *map,
                               const mg_sample *s) {
  uint64_t since_us = map->header.opened_cpu_us, cpu_us = s->reading.cpu_us;
  double ppm;

  if (cpu_us == MG_ABSENT || cpu_us <= since_us) return UINT32_MAX;
  ppm = 1e3 * (double)segment_gc_ns(map) / (double)(cpu_us - since_us);
  return ppm < 1e6 ? (uint32_t)ppm : 1000000u;
}

static void segment_fill_now(mg_segment_now *now, const mg_sample *s) {
  *now = (mg_segment_now){
      .number = ++mg__self.number,
      .clock_ns = s->clock_ns,
      .unix_ms = s->unix_ms,
      .usage = s->usage,
      .pressure = s->pressure,
      .level = (uint32_t)s->level,
      .domain = (uint32_t)s->domain,
      .peak_rss_bytes = s->peak_rss_bytes,
      .max_memory_bytes = (uint64_t)(mg__self.max_memory_mb * MG_BYTES_PER_MB),
      .max_heap_bytes = (uint64_t)(mg__self.max_heap_mb * MG_BYTES_PER_MB),
      .rounds = atomic_load(&mg__self.rounds),
      .freed_bytes = atomic_load(&mg__self.freed_bytes),
      .alerts = atomic_load(&mg__self.alerts),
      .pools = mg__self.pools.pools,
      .pool_rented = mg__self.pools.rented,
      .pool_rented_bytes = mg__self.pools.rented_bytes,
      .pool_held_bytes = mg__self.pools.held_bytes,
      .pool_suspected = mg__self.pools.suspected,
      .gc_ppm = segment_gc_ppm(mg__segment_map(), s),
      .readings = SEGMENT_READINGS};
  memcpy(now->reading, &s->reading, sizeof s->reading);
}

static uint32_t segment_u32(uint64_t value) {
  return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

static void segment_fill_point(mg_segment_point *point, const mg_sample *s,
                               const mg_segment_layout *map) {
  double ppm = s->usage * 1e6;

  *point = (mg_segment_point){
      .unix_ms = s->unix_ms,
      .rss_bytes = s->reading.rss_bytes,
      .heap_used_bytes = s->reading.heap_used_bytes,
      .external_bytes = s->reading.external_bytes,
      .cgroup_used_bytes = s->reading.cgroup_used_bytes,
      .usage_ppm = ppm < (double)UINT32_MAX ? (uint32_t)ppm : UINT32_MAX,
      .fd_count = segment_u32(s->reading.fd_count),
      .thread_count = segment_u32(s->reading.thread_count),
      .level = (uint32_t)s->level,
      .domain = (uint32_t)s->domain};
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    if ((mg__self.phase_kinds & 1u << kind) != 0) continue;
    point->gc_wall_ns +=
        __atomic_load_n(&map->gc[kind].wall_ns, __ATOMIC_RELAXED);
    point->gc_count += (uint32_t)__atomic_load_n(&map->gc[kind].count,
                                                 __ATOMIC_RELAXED);
  }
}

static void segment_record(mg_segment_layout *map, const mg_sample *s) {
  uint64_t second = s->clock_ns / UINT64_C(1000000000);
  uint64_t minute = second / SEGMENT_SECONDS_PER_MINUTE;
  mg_segment_point point;

  if (second == mg__self.last_second) return;
  mg__self.last_second = second;
  segment_fill_point(&point, s, map);
  if (minute != mg__self.last_minute && mg__self.highest.unix_ms != 0) {
    mg__self.highest.number = ++mg__self.minute_number;
    mg__segment_write(&map->minute[mg__self.minute_number % MG_SEGMENT_MINUTES],
                  &mg__self.highest, sizeof mg__self.highest);
    mg__self.highest = (mg_segment_point){0};
  }
  mg__self.last_minute = minute;
  if (mg__self.highest.unix_ms == 0 ||
      point.usage_ppm >= mg__self.highest.usage_ppm)
    mg__self.highest = point;
  point.number = ++mg__self.second_number;
  mg__segment_write(&map->second[mg__self.second_number % MG_SEGMENT_SECONDS],
                &point, sizeof point);
}

/* Of all threads that sampled: each has a clock of its own. */
static void segment_show_cost(mg_segment_layout *map) {
  uint64_t cpu_us = mg__os_cpu_us(true);

  if (cpu_us < mg__self.thread_cpu_us) mg__self.thread_cpu_us = 0;
  mg__self.own_cpu_us += cpu_us - mg__self.thread_cpu_us;
  mg__self.thread_cpu_us = cpu_us;
  __atomic_store_n(&map->life.own_cpu_us, mg__self.own_cpu_us,
                   __ATOMIC_RELAXED);
  __atomic_store_n(&map->life.events_lost, mg__events_lost(),
                   __ATOMIC_RELAXED);
}

void mg__segment_publish(void) {
  mg_segment_layout *map = mg__segment_map();
  const mg_sample *s = &mg__self.sample;
  mg_segment_now now;

  if (map == NULL || s->number == 0) return;
  segment_fill_now(&now, s);
  mg__segment_write(&map->now[now.number % 2], &now, sizeof now);
  segment_record(map, s);
  segment_show_cost(map);
  atomic_store_explicit(
      &mg__self.unix_offset_ns,
      (int64_t)(s->unix_ms * SEGMENT_NS_PER_MS) - (int64_t)s->clock_ns,
      memory_order_relaxed);
  __atomic_store_n(&map->life.marks, mg__self.marks, __ATOMIC_RELAXED);
  __atomic_store_n(&map->life.next_unix_ms,
                   s->unix_ms + (uint64_t)mg__self.interval_ms,
                   __ATOMIC_RELAXED);
  __atomic_store_n(&map->life.heartbeat_unix_ms, s->unix_ms, __ATOMIC_RELEASE);
}

void mg__segment_begin_pass(void) {
  mg__self.is_wanted = mg__self.is_file_wanted = false;
  mg__self.sample.number = 0;
}

/* ---- collections: no lock, no allocation, no call out ------------------- */

static void segment_raise(uint64_t *most, uint64_t value) {
  uint64_t before = __atomic_load_n(most, __ATOMIC_RELAXED);

  while (value > before &&
         !__atomic_compare_exchange_n(most, &before, value, true,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

static void segment_add(uint64_t *total, uint64_t value) {
  if (value != MG_ABSENT) __atomic_fetch_add(total, value, __ATOMIC_RELAXED);
}

void mg_segment_note_gc(const mg_pause *pause) {
  mg_segment_layout *map = mg__segment_map();
  uint32_t kind =
      pause->kind < MG_PAUSE_KINDS ? pause->kind : MG_PAUSE_KINDS - 1;
  mg_segment_gc_event event = {.wall_ns = pause->wall_ns,
                               .cpu_ns = pause->cpu_ns,
                               .collected = pause->collected,
                               .kind = kind};
  mg_segment_gc *gc;

  mg__alert_note_gc(pause);
  if (map == NULL) return;
  gc = &map->gc[kind];
  event.began_unix_ms =
      (uint64_t)((int64_t)pause->began_ns +
                 atomic_load_explicit(&mg__self.unix_offset_ns,
                                      memory_order_relaxed)) /
      SEGMENT_NS_PER_MS;
  event.number = atomic_fetch_add_explicit(&mg__self.gc_number, 1,
                                           memory_order_relaxed) + 1;
  event.check = mg_segment_check(&event, sizeof event);
  segment_store(&map->gc_event[event.number % MG_SEGMENT_GC_EVENTS], &event,
                sizeof event);
  __atomic_fetch_add(&map->gc_bucket[kind][mg__pause_bucket(pause->wall_ns)],
                     1u, __ATOMIC_RELAXED);
  segment_add(&gc->wall_ns, pause->wall_ns);
  segment_add(&gc->cpu_ns, pause->cpu_ns);
  segment_add(&gc->collected, pause->collected);
  segment_raise(&gc->max_ns, pause->wall_ns);
  __atomic_store_n(&gc->last_ns, pause->wall_ns, __ATOMIC_RELAXED);
  __atomic_store_n(&gc->last_unix_ms, event.began_unix_ms, __ATOMIC_RELAXED);
  segment_add(&gc->count, 1);
}

/* ---- notes and types: the lock ------------------------------------------ */

static bool segment_is_alert(const mg_event *event) {
  switch (event->kind) {
    case MG_EVENT_THRESHOLD:
    case MG_EVENT_RAPID_GROWTH:
    case MG_EVENT_LEAK_WARNING:
    case MG_EVENT_LEAK_CRITICAL:
    case MG_EVENT_LEAK_SUSPECTED:
    case MG_EVENT_LEAK_WITHDRAWN:
    case MG_EVENT_FD_WARNING:
    case MG_EVENT_LEVEL:
    case MG_EVENT_UNRECLAIMABLE:
      return true;
    case MG_EVENT_STARTED:
    case MG_EVENT_STOPPED:
    case MG_EVENT_STATS:
    case MG_EVENT_PRESSURE:
    case MG_EVENT_OPTIMIZATION:
    case MG_EVENT_ALERT: /* tells of what the others here are raised for */
    case MG_EVENTS:
      break;
  }
  return false;
}

static bool segment_says_same(const mg_segment_note *a,
                              const mg_segment_note *b) {
  return a->kind == b->kind && a->event == b->event &&
         a->severity == b->severity && a->issues == b->issues &&
         a->growth_is_heap == b->growth_is_heap &&
         a->event != MG_EVENT_LEVEL && a->event != MG_EVENT_UNRECLAIMABLE &&
         memcmp(a->counter, b->counter, sizeof a->counter) == 0;
}

/* Counts it with one of the newest few, or adds it. The lock is held. */
static void segment_add_note(mg_segment_layout *map, mg_segment_note *note) {
  const uint64_t newest = mg__self.note_number;
  const uint64_t few = newest < 8 ? newest : 8;

  for (uint64_t i = 0; i < few && note->kind == MG_SEGMENT_ALERT; i++) {
    mg_segment_note *slot = &map->note[(newest - i) % MG_SEGMENT_NOTES];
    mg_segment_note former = *slot;
    if (!segment_says_same(&former, note)) continue;
    note->number = former.number;
    note->unix_ms = former.unix_ms;
    note->repeats = former.repeats + 1;
    mg__segment_write(slot, note, sizeof *note);
    return;
  }
  note->number = ++mg__self.note_number;
  mg__segment_write(&map->note[note->number % MG_SEGMENT_NOTES], note,
                sizeof *note);
}

void mg__segment_note_event(const mg_event *event, const mg_sample *s) {
  mg_segment_layout *map;
  mg_segment_note note = {.kind = MG_SEGMENT_ALERT,
                          .unix_ms = s->unix_ms,
                          .last_unix_ms = s->unix_ms,
                          .event = (uint32_t)event->kind,
                          .severity = (uint32_t)event->severity,
                          .level = (uint32_t)s->level,
                          .previous = (uint32_t)event->previous,
                          .issues = event->issues,
                          .growth_is_heap = event->growth_is_heap,
                          .mb_per_minute = event->mb_per_minute,
                          .usage_before = s->usage,
                          .usage_after = s->usage,
                          .rss_bytes = s->reading.rss_bytes,
                          .count = event->count,
                          .threshold = event->threshold,
                          .round = event->round};

  if (mg__segment_map() == NULL || !segment_is_alert(event)) return;
  mg__segment_copy_text(note.counter, sizeof note.counter, event->counter);
  mg__lock(&mg__self.lock);
  map = mg__segment_map();
  if (map != NULL) {
    segment_add_note(map, &note);
    atomic_fetch_add(&mg__self.alerts, 1);
  }
  mg__unlock(&mg__self.lock);
}

void mg__segment_note_round(const mg_round *round) {
  mg_segment_layout *map;
  mg_segment_note note = {.kind = MG_SEGMENT_ACTION,
                          .unix_ms = round->unix_ms,
                          .last_unix_ms = round->unix_ms,
                          .level = (uint32_t)round->level,
                          .previous = (uint32_t)round->level,
                          .reason = (uint32_t)round->reason,
                          .took_ms = round->took_ms,
                          .gc_ms = round->gc_ms,
                          .usage_before = round->usage_before,
                          .usage_after = round->usage_after,
                          .rss_bytes = round->rss_after_bytes,
                          .freed_bytes = round->freed_bytes,
                          .round = round->number};

  if (mg__segment_map() == NULL) return;
  for (uint32_t i = 0; i < round->steps; i++)
    if (round->step[i].was_done)
      note.actions |= MG_ACTION_BIT(round->step[i].action);
  mg__lock(&mg__self.lock);
  map = mg__segment_map();
  /* Each monitor that joined the engine tells of the same round. */
  if (map != NULL && (mg__self.last_round != round->number ||
                      mg__self.last_round_ms != round->unix_ms)) {
    mg__self.last_round = round->number;
    mg__self.last_round_ms = round->unix_ms;
    segment_add_note(map, &note);
    atomic_fetch_add(&mg__self.rounds, 1);
    if (round->freed_bytes != MG_ABSENT)
      atomic_fetch_add(&mg__self.freed_bytes, round->freed_bytes);
  }
  mg__unlock(&mg__self.lock);
}

void mg_segment_note_types(const mg_segment_type *types, size_t count,
                           uint64_t span_ms) {
  mg_segment_types whole = {.unix_ms = mg__os_unix_ms(), .span_ms = span_ms};
  mg_segment_layout *map;

  whole.count = (uint32_t)(count < MG_SEGMENT_TYPES ? count : MG_SEGMENT_TYPES);
  for (uint32_t i = 0; i < whole.count; i++) {
    whole.type[i] = types[i];
    mg__segment_copy_text(whole.type[i].name, sizeof whole.type[i].name,
                          types[i].name);
  }
  mg__lock(&mg__self.lock);
  map = mg__segment_map();
  if (map != NULL) {
    whole.number = ++mg__self.types_number;
    mg__segment_write(&map->types[whole.number % 2], &whole, sizeof whole);
  }
  mg__unlock(&mg__self.lock);
}
