/* heap.c - the heap of this interpreter, from the allocator's own accounting.
 *
 * CPython tells these numbers only as text: _PyObject_DebugMallocStats() is
 * private, but exported by all versions we know. It is looked up when needed, so
 * a version without it gives absent numbers rather than a module that does not
 * load. */
#include "memguard_python.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*heap_stats_function)(FILE *);

static heap_stats_function heap_find(void) {
  /* A data pointer becomes a function pointer: POSIX warrants it for dlsym. */
  heap_stats_function found;
  void *symbol = dlsym(RTLD_DEFAULT, "_PyObject_DebugMallocStats");

  memcpy(&found, &symbol, sizeof found);
  return found;
}

/* The number at the end of the line that starts with `label`, as in
 * "# bytes in allocated blocks        =            1,234,567". */
static uint64_t heap_line(const char *text, const char *label) {
  const char *at = strstr(text, label), *end;
  uint64_t value = 0;

  if (at == NULL) return MG_ABSENT;
  end = strchr(at, '\n');
  at = strchr(at, '=');
  if (at == NULL || (end != NULL && at > end)) return MG_ABSENT;
  for (; *at != '\0' && *at != '\n'; at++)
    if (*at >= '0' && *at <= '9') value = value * 10 + (uint64_t)(*at - '0');
  return value;
}

/* @return what CPython tells [owned: free()], or NULL. */
static char *heap_text(void) {
  heap_stats_function print = heap_find();
  char *text = NULL;
  size_t bytes = 0;
  FILE *stream;

  if (print == NULL) return NULL;
  stream = open_memstream(&text, &bytes);
  if (stream == NULL) return NULL;
  print(stream);
  if (fclose(stream) == 0) return text;
  free(text);
  return NULL;
}

void mgpy_heap_read(mg_heap *out) {
  char *text = heap_text();

  *out = (mg_heap)MG_HEAP_INIT;
  if (text == NULL) return;
  out->used_bytes = heap_line(text, "# bytes in allocated blocks");
  out->total_bytes = heap_line(text, " arenas * ");
  free(text);
}

void mgpy_heap_look(mg_heap_look *out) {
  char *text = heap_text();

  if (text == NULL) return;
  out->block_bytes = heap_line(text, "# bytes in allocated blocks");
  out->block_total_bytes = heap_line(text, " arenas * ");
  out->block_idle_bytes = heap_line(text, " unused pools * ");
  free(text);
}
