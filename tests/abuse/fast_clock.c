/* fast_clock.c - lets time go CLOCK_RATE times as fast for one program, for LD_PRELOAD.
 *
 * Clocks of the world (not those of CPU time) run faster from the program's begin;
 * what waits for a time or for some time waits that much less. A time that is waited
 * for tells its own clock: seconds since 1970 are more than any time since boot. */
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FAST_NS 1000000000ll
#define FAST_SINCE_1970_S 1000000000ll

static long long fast_rate = 1;
static long long fast_began[2]; /* monotonic, real; ns */

/* Where a symbol has an old version too, dlsym() may find that one. */
static void *fast_next(const char *name) {
  void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");

  return found != NULL ? found : dlsym(RTLD_NEXT, name);
}
#define FAST_NEXT(name) \
  static __typeof__(&name) next; \
  if (next == NULL) *(void **)&next = fast_next(#name)

static long long fast_ns(const struct timespec *time) {
  return (long long)time->tv_sec * FAST_NS + time->tv_nsec;
}

static struct timespec fast_time(long long ns) {
  if (ns < 0) ns = 0;
  return (struct timespec){(time_t)(ns / FAST_NS), (long)(ns % FAST_NS)};
}

static struct timespec fast_less(const struct timespec *some_time) {
  return fast_time(fast_ns(some_time) / fast_rate);
}

/* The true time at which that fast time comes. */
static struct timespec fast_true(const struct timespec *at) {
  long long began = fast_began[at->tv_sec > FAST_SINCE_1970_S];

  return fast_time(began + (fast_ns(at) - began) / fast_rate);
}

/* Never 0 for some time: that would be a busy loop. */
static int fast_ms(int ms) {
  long long less = ms / fast_rate;

  return ms <= 0 ? ms : less > 0 ? (int)less : 1;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  FAST_NEXT(clock_gettime);
  int code = next(clock, out);
  int real = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;

  if (code != 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock < 0 ||
      clock == CLOCK_THREAD_CPUTIME_ID || fast_began[0] == 0)
    return code;
  *out = fast_time(fast_began[real] + (fast_ns(out) - fast_began[real]) * fast_rate);
  return 0;
}

int gettimeofday(struct timeval *out, void *zone) {
  struct timespec now;

  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  *out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

int nanosleep(const struct timespec *time, struct timespec *left) {
  FAST_NEXT(nanosleep);
  struct timespec less = fast_less(time);

  return next(&less, left);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                    struct timespec *left) {
  FAST_NEXT(clock_nanosleep);
  struct timespec less =
      (flags & TIMER_ABSTIME) != 0 ? fast_true(time) : fast_less(time);

  return next(clock, flags, &less, left);
}

int poll(struct pollfd *fds, nfds_t count, int ms) {
  FAST_NEXT(poll);
  return next(fds, count, fast_ms(ms));
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *time,
          const sigset_t *mask) {
  FAST_NEXT(ppoll);
  struct timespec less;

  if (time != NULL) less = fast_less(time);
  return next(fds, count, time == NULL ? NULL : &less, mask);
}

int epoll_wait(int fd, struct epoll_event *out, int most, int ms) {
  FAST_NEXT(epoll_wait);
  return next(fd, out, most, fast_ms(ms));
}

int epoll_pwait(int fd, struct epoll_event *out, int most, int ms,
                const sigset_t *mask) {
  FAST_NEXT(epoll_pwait);
  return next(fd, out, most, fast_ms(ms), mask);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock,
                           const struct timespec *until) {
  FAST_NEXT(pthread_cond_timedwait);
  struct timespec at = fast_true(until);

  return next(cond, lock, &at);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *lock,
                           clockid_t clock, const struct timespec *until) {
  FAST_NEXT(pthread_cond_clockwait);
  struct timespec at = fast_true(until);

  return next(cond, lock, clock, &at);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
  FAST_NEXT(sem_timedwait);
  struct timespec at = fast_true(until);

  return next(semaphore, &at);
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
  FAST_NEXT(sem_clockwait);
  struct timespec at = fast_true(until);

  return next(semaphore, clock, &at);
}

__attribute__((constructor)) static void fast_begin(void) {
  const char *rate = getenv("CLOCK_RATE");
  struct timespec now;

  if (rate == NULL || atoll(rate) < 1) return;
  clock_gettime(CLOCK_REALTIME, &now);
  fast_began[1] = fast_ns(&now);
  clock_gettime(CLOCK_MONOTONIC, &now);
  fast_began[0] = fast_ns(&now); /* last: from now on they are fast */
  fast_rate = atoll(rate);
}
