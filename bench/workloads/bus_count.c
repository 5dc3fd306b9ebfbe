/* bus_count.c - counts the bytes that a program asks from malloc.
 *
 * To be preloaded, with PYTHONMALLOC=malloc so that small objects count too. A
 * block that grows counts with what it grew by. Memory that is mapped does not:
 * a pool maps what it has once. */
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(default) /* this is all that it is for */

/* glibc's own names of what is replaced here. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static _Atomic uint64_t count_bytes;

/* What was asked for so far. */
uint64_t bench_allocated_bytes(void);
uint64_t bench_allocated_bytes(void) {
  return atomic_load_explicit(&count_bytes, memory_order_relaxed);
}

static void count_add(size_t bytes) {
  atomic_fetch_add_explicit(&count_bytes, bytes, memory_order_relaxed);
}

void *malloc(size_t bytes) {
  count_add(bytes);
  return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
  count_add(count * bytes);
  return __libc_calloc(count, bytes);
}

void *realloc(void *block, size_t bytes) {
  size_t before = block == NULL ? 0 : malloc_usable_size(block);

  if (bytes > before) count_add(bytes - before);
  return __libc_realloc(block, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
  count_add(bytes);
  return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  return memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes) {
  void *made = memalign(alignment, bytes);

  if (made == NULL) return 12; /* ENOMEM */
  *out = made;
  return 0;
}
