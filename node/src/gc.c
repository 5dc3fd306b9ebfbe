/* gc.c - what V8's collector does: counts and times per kind of collection, and
 * the heap that each one leaves.
 *
 * Node-API has no hook for it, so V8's public functions are looked up in the
 * running program by their mangled names, which are the same from Node 16 on.
 * Where they are missing (another runtime, another compiler) nothing is
 * installed and node/lib/gc.js falls back to a PerformanceObserver.
 *
 * A hook may not allocate on the heap, run JS or call Node-API: these take a
 * clock reading, add, and read V8's heap statistics, as Node's own GC profiler
 * does there. So a monitor knows the heap without waking the event loop for it.
 * That object's layout is V8's own: its first words have been the same from Node
 * 16 on, and are trusted only after they agreed with what JS was told. V8 tells hooks apart by function and data, so two
 * environments on one isolate, each with its own counters, do not meet. */
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
  bool complete, has_statistics;
} gc_v8;

/* v8::HeapStatistics; its tail differs from version to version. */
typedef struct gc_statistics {
  size_t total_bytes, executable_bytes, physical_bytes, available_bytes,
      used_bytes, limit_bytes, malloced_bytes, external_bytes;
  size_t tail[24];
} gc_statistics;

#define GC_HOOK_TYPE "EPFvPS0_NS_6GCTypeENS_15GCCallbackFlagsEPvES4_"
#define GC_COLLECTIONS 3 /* the other kinds are phases of one */
#define GC_ALL_KINDS ((1 << MGN_GC_KINDS) - 1)

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
}

static uint64_t gc_now_ns(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Index of the one bit of `kind`; MGN_GC_KINDS for a kind we do not know. */
static int gc_index(int kind) {
  int index = 0;

  while (index < MGN_GC_KINDS && kind != 1 << index) index++;
  return index;
}

static void gc_read_heap(void *isolate, gc_statistics *out) {
  memset(out, 0, sizeof *out);
  gc_found.make_statistics(out);
  gc_found.read_statistics(isolate, out);
}

static void gc_tell_heap(const mgn_env *self) {
  gc_statistics statistics;
  mg_heap heap;

  if (!self->gc.knows_heap || self->managers == NULL) return;
  gc_read_heap(self->gc.isolate, &statistics);
  heap = (mg_heap){statistics.used_bytes, statistics.total_bytes,
                   statistics.limit_bytes, statistics.external_bytes, 0};
  for (const mgn_manager *m = self->managers; m != NULL; m = m->next) {
    if (m->core == NULL) continue;
    heap.array_buffer_bytes = m->array_buffer_bytes;
    mg_monitor_set_heap(mg_manager_monitor(m->core), &heap);
  }
}

static void gc_began(void *isolate, int kind, int flags, void *data) {
  mgn_gc *gc = &((mgn_env *)data)->gc;
  int index = gc_index(kind);

  (void)isolate;
  (void)flags;
  if (index < MGN_GC_KINDS) gc->began_ns[index] = gc_now_ns();
}

static void gc_ended(void *isolate, int kind, int flags, void *data) {
  mgn_env *self = data;
  mgn_gc *gc = &self->gc;
  int index = gc_index(kind);
  uint64_t ns;

  (void)isolate;
  (void)flags;
  /* A collection that was under way at installation has no beginning. */
  if (index == MGN_GC_KINDS || gc->began_ns[index] == 0) return;
  ns = gc_now_ns() - gc->began_ns[index];
  gc->began_ns[index] = 0;
  gc->count[index]++;
  gc->total_ns[index] += ns;
  gc->last_ns[index] = ns;
  if (ns > gc->max_ns[index]) gc->max_ns[index] = ns;
  if (index < GC_COLLECTIONS) gc_tell_heap(self);
}

void mgn_gc_install(mgn_env *self) {
  mgn_gc *gc = &self->gc;

  if (pthread_once(&gc_once, gc_find) != 0 || !gc_found.complete) return;
  gc->isolate = gc_found.current();
  if (gc->isolate == NULL) return;
  gc_found.add_prologue(gc->isolate, gc_began, self, GC_ALL_KINDS);
  gc_found.add_epilogue(gc->isolate, gc_ended, self, GC_ALL_KINDS);
}

void mgn_gc_remove(mgn_env *self) {
  mgn_gc *gc = &self->gc;

  if (gc->isolate == NULL) return;
  gc_found.remove_prologue(gc->isolate, gc_began, self);
  gc_found.remove_epilogue(gc->isolate, gc_ended, self);
  gc->isolate = NULL;
}

static bool gc_is_near(size_t ours, double told) {
  double difference = (double)ours - told;

  return difference * 64 < told && -difference * 64 < told;
}

/* gcTrustHeap(used, total, limit) as v8.getHeapStatistics() just told them ->
 * whether each collection tells the heap to the monitors from now on */
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
  gc_read_heap(self->gc.isolate, &statistics);
  self->gc.knows_heap = gc_is_near(statistics.used_bytes, told[0]) &&
                        gc_is_near(statistics.total_bytes, told[1]) &&
                        (double)statistics.limit_bytes == told[2];
  return mgn_boolean(env, self->gc.knows_heap);
}

/* gcRead(Float64Array out) -> whether the hooks are installed
 * per kind: count, total ns, max ns, last ns */
static napi_value gc_read(napi_env env, napi_callback_info info) {
  napi_value argument;
  mgn_env *self;
  double *out;

  if (!mgn_arguments(env, info, 1, &argument, &self)) return NULL;
  out = mgn_doubles_of(env, argument, 4 * MGN_GC_KINDS, NULL);
  if (out == NULL) return NULL;
  for (int i = 0; i < MGN_GC_KINDS; i++) {
    *out++ = (double)self->gc.count[i];
    *out++ = (double)self->gc.total_ns[i];
    *out++ = (double)self->gc.max_ns[i];
    *out++ = (double)self->gc.last_ns[i];
  }
  return mgn_boolean(env, self->gc.isolate != NULL);
}

napi_status mgn_gc_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {{"gcRead", gc_read},
                                           {"gcTrustHeap", gc_trust_heap}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
