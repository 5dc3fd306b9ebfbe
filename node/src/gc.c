/* gc.c - what V8's collector does: counts and times per kind of collection.
 *
 * Node-API has no hook for it, so V8's public functions are looked up in the
 * running program by their mangled names, which are the same from Node 16 on.
 * Where they are missing (another runtime, another compiler) nothing is
 * installed and node/lib/gc.js falls back to a PerformanceObserver.
 *
 * A hook may not allocate on the heap, run JS or call Node-API: these take a
 * clock reading and add. V8 tells hooks apart by function and data, so two
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
  bool complete;
} gc_v8;

#define GC_HOOK_TYPE "EPFvPS0_NS_6GCTypeENS_15GCCallbackFlagsEPvES4_"
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

static void gc_began(void *isolate, int kind, int flags, void *data) {
  mgn_gc *gc = data;
  int index = gc_index(kind);

  (void)isolate;
  (void)flags;
  if (index < MGN_GC_KINDS) gc->began_ns[index] = gc_now_ns();
}

static void gc_ended(void *isolate, int kind, int flags, void *data) {
  mgn_gc *gc = data;
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
}

void mgn_gc_install(mgn_gc *gc) {
  if (pthread_once(&gc_once, gc_find) != 0 || !gc_found.complete) return;
  gc->isolate = gc_found.current();
  if (gc->isolate == NULL) return;
  gc_found.add_prologue(gc->isolate, gc_began, gc, GC_ALL_KINDS);
  gc_found.add_epilogue(gc->isolate, gc_ended, gc, GC_ALL_KINDS);
}

void mgn_gc_remove(mgn_gc *gc) {
  if (gc->isolate == NULL) return;
  gc_found.remove_prologue(gc->isolate, gc_began, gc);
  gc_found.remove_epilogue(gc->isolate, gc_ended, gc);
  gc->isolate = NULL;
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
  static const mgn_function functions[] = {{"gcRead", gc_read}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
