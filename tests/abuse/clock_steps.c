/* clock_steps.c - adds the seconds in the file CLOCK_FILE, which may change at any
 * moment, to the time of day, for LD_PRELOAD. The monotonic clock goes on. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static const volatile long *clock_step;

__attribute__((constructor)) static void clock_begin(void) {
  const char *path = getenv("CLOCK_FILE");
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  void *map = fd < 0 ? MAP_FAILED
                     : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);

  if (map != MAP_FAILED) clock_step = map;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  static int (*next)(clockid_t, struct timespec *);
  int code;

  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
  code = next(clock, out);
  if (clock == CLOCK_REALTIME && clock_step != NULL) out->tv_sec += *clock_step;
  return code;
}
