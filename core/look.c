/* look.c - what a look at the heap brought, for the samples that follow. */
#include "memguard/monitor.h"

#include "internal.h"
#include "monitor_parts.h"

/** X(field) */
#define LOOK_MAP(X)    \
  X(block_bytes)       \
  X(block_total_bytes) \
  X(block_idle_bytes)  \
  X(heap_objects)      \
  X(malloc_used_bytes) \
  X(malloc_total_bytes) \
  X(total_alloc_bytes)

static mg__look look_of_process;

void mg_monitor_set_look(mg_monitor *m, const mg_heap_look *look) {
  mg__look *to = m == NULL ? &look_of_process : &m->look;

#define LOOK_STORE(field) \
  atomic_store_explicit(&to->field, look->field, memory_order_relaxed);
  LOOK_MAP(LOOK_STORE)
#undef LOOK_STORE
  atomic_store_explicit(&to->is_told, true, memory_order_release);
}

void mg__look_read(const mg__look *look, mg_reading *out) {
  if (!atomic_load_explicit(&look->is_told, memory_order_acquire)) return;
#define LOOK_LOAD(field) \
  out->field = atomic_load_explicit(&look->field, memory_order_relaxed);
  LOOK_MAP(LOOK_LOAD)
#undef LOOK_LOAD
}

void mg__look_at_process(mg_reading *out) {
  out->cpu_us = mg__os_cpu_us(false);
  out->active_connections = mg__connections_read();
  mg__look_read(&look_of_process, out);
}
