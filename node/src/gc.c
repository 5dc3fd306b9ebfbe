/* gc.c - what V8's collector does: every pause recorded, and the heap that each
 * collection leaves.
 *
 * Node-API has no hook for it, so V8's public functions are looked up in the
 * running program by their mangled names, which are the same from Node 16 on.
 * Where they are missing (another runtime, another compiler) nothing is
 * installed and node/lib/gc.js falls back to a PerformanceObserver, which records
 * through gcRecord().
 *
 * A hook may not allocate on the heap, run JS or call Node-API: these read
 * clocks, record, and read V8's heap statistics, as Node's own GC profiler does
 * there. So a monitor knows the heap without waking the event loop for it. That
 * object's layout is V8's own: its first words have been the same from Node 16
 * on, and are trusted only after they agreed with what JS was told. V8 tells
 * hooks apart by function and data, so two environments on one isolate, each
 * with its own recorders, do not meet.
 *
 * A collection may begin inside another one, so beginnings are kept by kind. */
#include "memguard_node.h"

#include <dlfcn.h>
#include <string.h>
#include <time.h>

typedef void (*gc_hook)(void *isolate, int kind, int flags, void *data);
/* C++ member functions; `this` is the first argument on the ABIs of Linux. */
typedef void (*gc_add)(void *isolate, gc_hook hook, void *data, int kinds);
typedef void (*gc_remove)(void *isolate, gc_hook hook, void *data);

typedef struct gc_v8 {
  void *(*current)(void);
  gc_add add_prologue, add_epilogue;
  gc_remove remove_prologue, remove_epilogue;
  void (*make_statistics)(void *statistics);
  void (*read_statistics)(void *isolate, void *statistics);
  void (*press)(void *isolate, int pressure); /* may be missing */
  bool complete, has_statistics;
} gc_v8;

/* v8::HeapStatistics; its tail differs from version to version. */
typedef struct gc_statistics {
  size_t total_bytes, executable_bytes, physical_bytes, available_bytes,
      used_bytes, limit_bytes, malloced_bytes, external_bytes;
  size_t tail[24];
} gc_statistics;

#define GC_HOOK_TYPE "EPFvPS0_NS_6GCTypeENS_15GCCallbackFlagsEPvES4_"
#define GC_MINORS 2 /* kinds of the young generation */
#define GC_COLLECTIONS 3 /* the other kinds are phases of one */
#define GC_FULL 2    /* the kind that collects all of the heap */
#define GC_MARKING 3 /* its beginning, where it marks beside JS */
#define GC_ALL_TYPES ((1 << MGN_GC_KINDS) - 1)
#define GC_MINOR_SINCE_NODE 18 /* the minor mark-sweep took the second bit */
#define GC_VALUES 8 /* of a kind, as gcRead() tells them */
#define GC_WINDOW_SECONDS 60

static gc_v8 gc_found;
static pthread_once_t gc_once = PTHREAD_ONCE_INIT;

/* ISO C has no cast from an object's address to a function's. */
static bool gc_symbol(void *out, const char *name) {
  void *address = dlsym(RTLD_DEFAULT, name);

  memcpy(out, &address, sizeof address);
  return address != NULL;
}

static void gc_find(void) {
  gc_found.complete =
      gc_symbol(&gc_found.current, "_ZN2v87Isolate10GetCurrentEv") &&
      gc_symbol(&gc_found.add_prologue,
                "_ZN2v87Isolate21AddGCPrologueCallback" GC_HOOK_TYPE "S2_") &&
      gc_symbol(&gc_found.add_epilogue,
                "_ZN2v87Isolate21AddGCEpilogueCallback" GC_HOOK_TYPE "S2_") &&
      gc_symbol(&gc_found.remove_prologue,
                "_ZN2v87Isolate24RemoveGCPrologueCallback" GC_HOOK_TYPE) &&
      gc_symbol(&gc_found.remove_epilogue,
                "_ZN2v87Isolate24RemoveGCEpilogueCallback" GC_HOOK_TYPE);
  gc_found.has_statistics =
      gc_symbol(&gc_found.make_statistics, "_ZN2v814HeapStatisticsC1Ev") &&
      gc_symbol(&gc_found.read_statistics,
                "_ZN2v87Isolate17GetHeapStatisticsEPNS_14HeapStatisticsE");
  (void)gc_symbol(&gc_found.press,
                  "_ZN2v87Isolate26MemoryPressureNotificationENS_"
                  "19MemoryPressureLevelE");
}

void *mgn_gc_pressable(const mgn_env *self) {
  return gc_found.press == NULL ? NULL : self->gc.isolate;
}

void mgn_gc_press(void *isolate, mgn_pressure pressure) {
  gc_found.press(isolate, (int)pressure);
}

static uint64_t gc_cpu_clock_ns(void) {
  struct timespec now;

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A thread's CPU clock is a system call: two of them cost a minor collection,
 * of which there are thousands, four times what all the rest does. */
static mgn_gc_clocks gc_clocks(uint32_t kind) {
  return (mgn_gc_clocks){mg_clock_ns(),
                         kind < GC_MINORS ? MG_ABSENT : gc_cpu_clock_ns()};
}

/* Kind of a v8::GCType, which is one bit; MGN_GC_KINDS or more if unknown. */
static uint32_t gc_kind_of(const mgn_gc *gc, uint32_t type) {
  uint32_t kind = 0;

  while (kind < MGN_GC_KINDS && type != 1u << kind) kind++;
  return gc->lacks_minor && kind > 0 ? kind + 1 : kind;
}

static void gc_note(mgn_gc *gc, const mg_pause *pause) {
  if (gc->pauses == NULL) return;
  mg_pauses_record(gc->pauses, pause);
  if (gc->is_teller) mg_segment_note_gc(pause);
  if (pause->kind < GC_COLLECTIONS) mg_pauses_record(gc->collections, pause);
  if (pause->wall_ns <= gc->long_ns) return;
  if (gc->long_count < MGN_GC_LONG)
    gc->longs[gc->long_count] = (mgn_gc_long){pause->kind, pause->wall_ns};
  gc->long_count++;
}

static void gc_read_heap(void *isolate, gc_statistics *out) {
  memset(out, 0, sizeof *out);
  gc_found.make_statistics(out);
  gc_found.read_statistics(isolate, out);
}

uint64_t mgn_gc_live_bytes(const mgn_env *self) {
  gc_statistics statistics;

  if (!self->gc.knows_heap) return MG_ABSENT;
  gc_read_heap(self->gc.isolate, &statistics);
  return statistics.used_bytes + statistics.external_bytes;
}

uint64_t mgn_gc_allocated_bytes(mgn_gc *gc, uint64_t used_bytes,
                                uint64_t v8_bytes) {
  uint64_t own;

  if (gc->knows_heap) {
    if (used_bytes > gc->left_bytes)
      gc->allocated_bytes += used_bytes - gc->left_bytes;
    gc->left_bytes = used_bytes;
  }
  if (v8_bytes != MG_ABSENT)
    gc->base_bytes = v8_bytes - gc->allocated_bytes;
  else if (!gc->knows_heap)
    return MG_ABSENT;
  own = gc->base_bytes + gc->allocated_bytes;
  if (own > gc->told_bytes) gc->told_bytes = own; /* it never falls */
  return gc->told_bytes;
}

static mg_heap_look gc_look(mgn_gc *gc, const gc_statistics *s) {
  mg_heap_look look = MG_HEAP_LOOK_INIT;

  look.block_bytes = s->used_bytes;
  look.block_total_bytes = s->total_bytes;
  look.block_idle_bytes = mg_fall_bytes(s->total_bytes, s->physical_bytes);
  look.malloc_used_bytes = look.malloc_total_bytes = s->malloced_bytes;
  look.total_alloc_bytes =
      mgn_gc_allocated_bytes(gc, s->used_bytes, MG_ABSENT);
  return look;
}

static void gc_tell_heap(mgn_env *self) {
  gc_statistics statistics;
  mg_heap_look look;
  mg_heap heap;

  if (!self->gc.knows_heap || self->managers == NULL) return;
  gc_read_heap(self->gc.isolate, &statistics);
  mgn_reclaim_tell(self, statistics.used_bytes + statistics.external_bytes);
  /* What is gone was counted before: only growth counts, from here. */
  self->gc.left_bytes = statistics.used_bytes;
  look = gc_look(&self->gc, &statistics);
  heap = (mg_heap){statistics.used_bytes, statistics.total_bytes,
                   statistics.limit_bytes, statistics.external_bytes, 0};
  for (const mgn_manager *m = self->managers; m != NULL; m = m->next) {
    if (m->core == NULL) continue;
    heap.array_buffer_bytes = m->array_buffer_bytes;
    mg_monitor_set_heap(mg_manager_monitor(m->core), &heap);
    mg_monitor_set_look(mg_manager_monitor(m->core), &look);
  }
}

/* What was allocated since the former collection. */
static void gc_count_allocated(mgn_gc *gc) {
  gc_statistics statistics;

  if (!gc->knows_heap) return;
  gc_read_heap(gc->isolate, &statistics);
  (void)mgn_gc_allocated_bytes(gc, statistics.used_bytes, MG_ABSENT);
}

static void gc_began(void *isolate, int type, int flags, void *data) {
  mgn_env *self = data;
  uint32_t kind = gc_kind_of(&self->gc, (uint32_t)type);

  (void)isolate;
  (void)flags;
  if (kind < GC_COLLECTIONS) gc_count_allocated(&self->gc);
  if (kind < MGN_GC_KINDS) self->gc.began[kind] = gc_clocks(kind);
  if (kind == GC_FULL && self->reclaim.engine != NULL)
    mgn_reclaim_began(self, mgn_gc_live_bytes(self));
}

static void gc_ended(void *isolate, int type, int flags, void *data) {
  mgn_env *self = data;
  mgn_gc *gc = &self->gc;
  uint32_t kind = gc_kind_of(gc, (uint32_t)type);
  mgn_gc_clocks began, now;

  (void)isolate;
  /* A collection that was under way at installation has no beginning. */
  if (kind >= MGN_GC_KINDS || gc->began[kind].wall_ns == 0) return;
  now = gc_clocks(kind);
  began = gc->began[kind];
  gc->began[kind].wall_ns = 0;
  gc_note(gc, &(mg_pause){.began_ns = began.wall_ns,
                          .wall_ns = now.wall_ns - began.wall_ns,
                          .cpu_ns = kind < GC_MINORS
                                        ? MG_ABSENT
                                        : now.cpu_ns - began.cpu_ns,
                          .collected = MG_ABSENT,
                          .kind = kind});
  if (kind < GC_COLLECTIONS) gc_tell_heap(self);
  if (kind == GC_FULL) /* how much of it this thread ran, on a busy machine */
    mgn_detectors_collected(self, mgn_gc_live_bytes(self),
                            now.cpu_ns - began.cpu_ns);
  if (kind == GC_FULL || kind == GC_MARKING)
    mgn_reclaim_ended(self, now.wall_ns - began.wall_ns, kind == GC_FULL, flags);
}

static void gc_open(mgn_env *self) {
  const napi_node_version *version;
  mgn_gc *gc = &self->gc;
  mg_error ignored = MG_ERROR_INIT;

  gc->long_ns = UINT64_MAX;
  gc->lacks_minor =
      napi_get_node_version(self->env, &version) == napi_ok &&
      version->major < GC_MINOR_SINCE_NODE;
  if (mg_pauses_open(&gc->collections, &ignored) != MG_OK) return;
  if (mg_pauses_open(&gc->pauses, &ignored) == MG_OK) return;
  mg_pauses_close(gc->collections);
  gc->collections = NULL;
}

/* ---- who tells the segment: one of the environments of an isolate ---------- */

static pthread_mutex_t gc_tellers_lock = PTHREAD_MUTEX_INITIALIZER;
static mgn_gc *gc_tellers;

/* The lock is held. */
static void gc_name_teller(const void *isolate) {
  for (const mgn_gc *gc = gc_tellers; gc != NULL; gc = gc->next)
    if (gc->isolate == isolate && gc->is_teller) return;
  for (mgn_gc *gc = gc_tellers; gc != NULL; gc = gc->next)
    if (gc->isolate == isolate) {
      gc->is_teller = true;
      return;
    }
}

static void gc_join_tellers(mgn_gc *gc) {
  pthread_mutex_lock(&gc_tellers_lock);
  gc->next = gc_tellers;
  gc_tellers = gc;
  gc_name_teller(gc->isolate);
  pthread_mutex_unlock(&gc_tellers_lock);
}

/* They are all on the thread of their isolate, so none tells meanwhile. */
static void gc_leave_tellers(mgn_gc *gc) {
  mgn_gc **at = &gc_tellers;

  pthread_mutex_lock(&gc_tellers_lock);
  while (*at != gc) at = &(*at)->next;
  *at = gc->next;
  gc->is_teller = false;
  gc_name_teller(gc->isolate);
  pthread_mutex_unlock(&gc_tellers_lock);
}

void mgn_gc_install(mgn_env *self) {
  mgn_gc *gc = &self->gc;

  gc_open(self);
  gc->is_teller = true; /* an observer may see what hooks do not */
  if (pthread_once(&gc_once, gc_find) != 0 || !gc_found.complete) return;
  gc->isolate = gc_found.current();
  if (gc->isolate == NULL) return;
  gc->is_teller = false;
  gc_join_tellers(gc);
  gc_found.add_prologue(gc->isolate, gc_began, self, GC_ALL_TYPES);
  gc_found.add_epilogue(gc->isolate, gc_ended, self, GC_ALL_TYPES);
}

static void gc_uninstall(mgn_env *self) {
  mgn_gc *gc = &self->gc;

  if (gc->isolate == NULL) return;
  gc_found.remove_prologue(gc->isolate, gc_began, self);
  gc_found.remove_epilogue(gc->isolate, gc_ended, self);
  gc_leave_tellers(gc);
  gc->isolate = NULL;
}

void mgn_gc_remove(mgn_env *self) {
  mgn_gc *gc = &self->gc;

  gc_uninstall(self);
  mg_pauses_close(gc->pauses);
  mg_pauses_close(gc->collections);
  gc->pauses = NULL;
  gc->collections = NULL;
}

static bool gc_is_near(size_t ours, double told) {
  double difference = (double)ours - told;

  return difference * 64 < told && -difference * 64 < told;
}

/* gcTrustHeap(used, total, limit) as v8.getHeapStatistics() just told them ->
 * whether each collection tells the heap to the monitors from now on. A layout
 * that was right once stays so. */
static napi_value gc_trust_heap(napi_env env, napi_callback_info info) {
  gc_statistics statistics;
  napi_value v[3];
  double told[3];
  mgn_env *self;

  if (!mgn_arguments(env, info, 3, v, &self)) return NULL;
  for (int i = 0; i < 3; i++)
    if (!mgn_number_of(env, v[i], &told[i])) return NULL;
  if (self->gc.isolate == NULL || !gc_found.has_statistics)
    return mgn_boolean(env, false);
  if (self->gc.knows_heap) return mgn_boolean(env, true);
  gc_read_heap(self->gc.isolate, &statistics);
  self->gc.knows_heap = gc_is_near(statistics.used_bytes, told[0]) &&
                        gc_is_near(statistics.total_bytes, told[1]) &&
                        (double)statistics.limit_bytes == told[2];
  return mgn_boolean(env, self->gc.knows_heap);
}

static double *gc_write(double *out, const mg_pauses *pauses, uint32_t kind) {
  mg_pause_stats s;

  mg_pauses_read(pauses, kind, &s);
  *out++ = (double)s.count;
  *out++ = (double)s.wall_ns;
  *out++ = (double)s.cpu_ns;
  *out++ = (double)s.p50_ns;
  *out++ = (double)s.p95_ns;
  *out++ = (double)s.p99_ns;
  *out++ = (double)s.max_ns;
  *out++ = (double)s.last_ns;
  return out;
}

/* gcRead(Float64Array out)
 * out: per kind, then of all collections together: count, ns in all, CPU ns in
 * all, p50, p95, p99, max and last ns; then the P95 over seconds, ns */
static napi_value gc_read(napi_env env, napi_callback_info info) {
  napi_value argument;
  mgn_env *self;
  mgn_gc *gc;
  double *out;

  if (!mgn_arguments(env, info, 1, &argument, &self)) return NULL;
  out = mgn_doubles_of(env, argument, GC_VALUES * (MGN_GC_KINDS + 1) + 1, NULL);
  if (out == NULL) return NULL;
  gc = &self->gc;
  if (gc->pauses == NULL) return mgn_undefined(env);
  for (uint32_t kind = 0; kind < MGN_GC_KINDS; kind++)
    out = gc_write(out, gc->pauses, kind);
  out = gc_write(out, gc->collections, MG_PAUSE_KINDS);
  *out = (double)mg_pauses_seconds(gc->pauses, mg_clock_ns(),
                                   GC_WINDOW_SECONDS, 0.95);
  return mgn_undefined(env);
}

/* gcHooked() -> whether the hooks record; undefined: nothing can be recorded */
static napi_value gc_hooked(napi_env env, napi_callback_info info) {
  mgn_env *self;

  if (!mgn_arguments(env, info, 0, NULL, &self)) return NULL;
  if (self->gc.pauses == NULL) return mgn_undefined(env);
  return mgn_boolean(env, self->gc.isolate != NULL);
}

/* gcRecord(type, agoNs, durationNs): a pause that began `agoNs` ago */
static napi_value gc_record(napi_env env, napi_callback_info info) {
  uint64_t now_ns = mg_clock_ns(), type, ago_ns, wall_ns;
  napi_value v[3];
  uint32_t kind;
  mgn_env *self;

  if (!mgn_arguments(env, info, 3, v, &self) ||
      !mgn_count_of(env, v[0], &type) || !mgn_count_of(env, v[1], &ago_ns) ||
      !mgn_count_of(env, v[2], &wall_ns))
    return NULL;
  kind = type < UINT32_MAX ? gc_kind_of(&self->gc, (uint32_t)type)
                           : MGN_GC_KINDS;
  if (kind < MGN_GC_KINDS)
    gc_note(&self->gc,
            &(mg_pause){.began_ns = ago_ns < now_ns ? now_ns - ago_ns : 0,
                        .wall_ns = wall_ns,
                        .cpu_ns = MG_ABSENT,
                        .collected = MG_ABSENT,
                        .kind = kind});
  if (kind == GC_FULL)
    mgn_detectors_collected(self, mgn_gc_live_bytes(self), wall_ns);
  return mgn_undefined(env);
}

/* gcTakeLong(longNs, Float64Array out) -> pauses that were long since the last
 * call; from now on those of more than `longNs` are
 * out: of the first of them: kind, ns */
static napi_value gc_take_long(napi_env env, napi_callback_info info) {
  uint64_t count, long_ns;
  napi_value v[2];
  mgn_env *self;
  double *out;

  if (!mgn_arguments(env, info, 2, v, &self) ||
      !mgn_count_of(env, v[0], &long_ns))
    return NULL;
  out = mgn_doubles_of(env, v[1], 2 * MGN_GC_LONG, NULL);
  if (out == NULL) return NULL;
  count = self->gc.long_count;
  for (uint64_t i = 0; i < count && i < MGN_GC_LONG; i++) {
    *out++ = (double)self->gc.longs[i].kind;
    *out++ = (double)self->gc.longs[i].wall_ns;
  }
  self->gc.long_count = 0;
  self->gc.long_ns = long_ns;
  return mgn_number(env, (double)count);
}

napi_status mgn_gc_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {{"gcHooked", gc_hooked},
                                           {"gcRead", gc_read},
                                           {"gcRecord", gc_record},
                                           {"gcTakeLong", gc_take_long},
                                           {"gcTrustHeap", gc_trust_heap}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
