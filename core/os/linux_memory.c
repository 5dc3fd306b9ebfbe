/* os/linux_memory.c - pages of the pool, and those that malloc holds. */
#include "os.h"

#ifdef __GLIBC__
#include <malloc.h>
#if __GLIBC_PREREQ(2, 33) /* asked inside: others do not have the question */
#define MEMORY_HAS_MALLINFO2
#endif
#endif
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

size_t mg__os_page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

void *mg__os_map(size_t bytes) {
  void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  return block == MAP_FAILED ? NULL : block;
}

bool mg__os_unmap(void *block, size_t bytes) {
  return munmap(block, bytes) == 0;
}

void mg__os_discard(void *block, size_t bytes) {
  madvise(block, bytes, MADV_DONTNEED);
}

bool mg__os_forbid(void *block, size_t bytes) {
  return mprotect(block, bytes, PROT_NONE) == 0;
}

bool mg_trim_malloc(void) {
#ifdef __GLIBC__
  malloc_trim(0);
  return true;
#else
  return false;
#endif
}

void mg_malloc_read(uint64_t *out_used_bytes, uint64_t *out_total_bytes) {
  *out_used_bytes = *out_total_bytes = MG_ABSENT;
#ifdef MEMORY_HAS_MALLINFO2
  struct mallinfo2 info = mallinfo2();

  *out_used_bytes = (uint64_t)info.uordblks + info.hblkhd;
  *out_total_bytes = (uint64_t)info.arena + info.hblkhd;
#endif
}

uint64_t mg_malloc_bytes(void) {
  uint64_t used_bytes, total_bytes;

  mg_malloc_read(&used_bytes, &total_bytes);
  return used_bytes;
}
