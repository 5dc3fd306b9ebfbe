/* os/linux.c - clock, mutexes, threads, fork handlers, files. */
#include "os.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* ---- Time ---------------------------------------------------------------- */

static uint64_t linux_clock_ns(clockid_t clock) {
  struct timespec now;

  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct timespec linux_timespec(uint64_t ns) {
  return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                           .tv_nsec = (long)(ns % 1000000000u)};
}

uint64_t mg_clock_ns(void) { return linux_clock_ns(CLOCK_MONOTONIC); }

double mg_clock_ms(void) { return (double)mg_clock_ns() / 1e6; }

uint64_t mg__os_unix_ms(void) {
  return linux_clock_ns(CLOCK_REALTIME) / 1000000u;
}

uint64_t mg__os_cpu_us(bool of_thread) {
  return linux_clock_ns(of_thread ? CLOCK_THREAD_CPUTIME_ID
                                  : CLOCK_PROCESS_CPUTIME_ID) /
         1000u;
}

void mg__os_sleep_ms(double ms) {
  struct timespec time = linux_timespec((uint64_t)(ms * 1e6));

  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

/* ---- Mutexes ------------------------------------------------------------- */

mg_status mg__mutex_init(mg__mutex *mutex, mg_error *err) {
  int error = pthread_mutex_init(&mutex->native, NULL);

  if (error != 0) return mg__fail_errno(err, error, "mutex");
  return MG_OK;
}

void mg__mutex_destroy(mg__mutex *mutex) {
  pthread_mutex_destroy(&mutex->native);
}

void mg__lock(mg__mutex *mutex) {
  pthread_mutex_lock(&mutex->native);
}

bool mg__try_lock(mg__mutex *mutex) {
  return pthread_mutex_trylock(&mutex->native) == 0;
}

void mg__unlock(mg__mutex *mutex) {
  pthread_mutex_unlock(&mutex->native);
}

void mg__mutex_reset(mg__mutex *mutex) {
  /* Its owner does not exist in the child, so nobody could unlock it. */
  pthread_mutex_init(&mutex->native, NULL);
}

/* ---- Threads ------------------------------------------------------------- */

typedef struct linux_start {
  void (*run)(void *);
  void *ctx;
  char name[16];
} linux_start;

static void *linux_run(void *argument) {
  linux_start start = *(linux_start *)argument;

  mg__free(argument);
  prctl(PR_SET_NAME, start.name, 0, 0, 0);
  start.run(start.ctx);
  return NULL;
}

void mg__cond_wait(mg__cond *cond, mg__mutex *mutex) {
  pthread_cond_wait(&cond->native, &mutex->native);
}

/* By the wall clock, which is the default of a condition: a clock set back makes
 * it wait longer, by as much, unless it is woken. */
void mg__cond_wait_ms(mg__cond *cond, mg__mutex *mutex, double ms) {
  uint64_t until_ns =
      linux_clock_ns(CLOCK_REALTIME) + (uint64_t)(ms > 0 ? ms * 1e6 : 0);
  struct timespec until = linux_timespec(until_ns);

  pthread_cond_timedwait(&cond->native, &mutex->native, &until);
}

void mg__cond_wake_all(mg__cond *cond) {
  pthread_cond_broadcast(&cond->native);
}

void mg__cond_reset(mg__cond *cond) {
  *cond = (mg__cond)MG__COND_INIT;
}

void mg__signal_reset(mg__signal *signal) { sem_init(&signal->native, 0, 0); }

void mg__signal_post(mg__signal *signal) { sem_post(&signal->native); }

void mg__signal_wait(mg__signal *signal) { sem_wait(&signal->native); }

/* glibc takes the thread's static TLS, as large as the host's libraries make
 * it, out of the stack size asked for. Its function that tells how much is not
 * in a header, so it is looked for and done without where it is missing. */
static size_t linux_stack_bytes(const pthread_attr_t *attr, size_t wanted) {
  size_t (*least)(const pthread_attr_t *) = NULL;
  void *found = dlsym(RTLD_DEFAULT, "__pthread_get_minstack");

  memcpy(&least, &found, sizeof least);
  return wanted + (least != NULL ? least(attr) : (size_t)PTHREAD_STACK_MIN);
}

mg_status mg__thread_start(mg__thread *out, const char *name,
                           size_t stack_bytes, void (*run)(void *), void *ctx,
                           mg_error *err) {
  linux_start *start = mg__alloc(sizeof *start);
  pthread_attr_t attr;
  sigset_t all, before;
  int error;

  if (start == NULL)
    return mg__fail(err, MG_ENOMEM, "thread %s, %zu bytes", name,
                    sizeof *start);
  *start = (linux_start){.run = run, .ctx = ctx};
  snprintf(start->name, sizeof start->name, "%s", name);
  error = pthread_attr_init(&attr);
  if (error != 0) goto fail_start;
  if (stack_bytes != 0)
    pthread_attr_setstacksize(&attr, linux_stack_bytes(&attr, stack_bytes));

  /* The thread inherits the mask: no signal can reach it even at its start. */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  error = pthread_create(&out->native, &attr, linux_run, start);
  if (error == EINVAL) /* a stack this libc finds too small */
    error = pthread_create(&out->native, NULL, linux_run, start);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  if (error != 0) goto fail_start;
  return MG_OK;

fail_start:
  mg__free(start);
  return mg__fail_errno(err, error, "cannot start thread %s", name);
}

void mg__thread_join(mg__thread *thread) {
  pthread_join(thread->native, NULL);
}

void mg__thread_detach(mg__thread *thread) {
  pthread_detach(thread->native);
}

mg__thread mg__thread_self(void) {
  return (mg__thread){pthread_self()};
}

bool mg__thread_is_self(const mg__thread *thread) {
  return pthread_equal(thread->native, pthread_self()) != 0;
}

mg_status mg__os_at_fork(void (*before)(void), void (*parent)(void),
                         void (*child)(void), mg_error *err) {
  static atomic_flag registered = ATOMIC_FLAG_INIT;

  if (atomic_flag_test_and_set(&registered)) return MG_OK;
  if (mg__os_add_fork_handlers(before, parent, child, err) == MG_OK)
    return MG_OK;
  atomic_flag_clear(&registered);
  return MG_ENOMEM;
}

mg_status mg__os_add_fork_handlers(void (*before)(void), void (*parent)(void),
                                   void (*child)(void), mg_error *err) {
  if (pthread_atfork(before, parent, child) == 0) return MG_OK;
  return mg__fail(err, MG_ENOMEM, "no memory for fork handlers");
}

mg_status mg__thread_key_open(mg__thread_key *out, void (*ended)(void *),
                              mg_error *err) {
  int error = pthread_key_create(&out->native, ended);

  if (error != 0) return mg__fail_errno(err, error, "thread key");
  return MG_OK;
}

void mg__thread_key_close(mg__thread_key *key) {
  pthread_key_delete(key->native);
}

bool mg__thread_key_set(mg__thread_key *key, const void *value) {
  return pthread_setspecific(key->native, value) == 0;
}

/* ---- Files --------------------------------------------------------------- */

mg_status mg__os_absolute_path(char *out, size_t out_bytes, const char *path,
                               mg_error *err) {
  char here[PATH_MAX];
  int length;

  if (path[0] == '\0') return mg__fail(err, MG_EINVAL, "path is empty");
  here[0] = '\0';
  if (path[0] != '/' && getcwd(here, sizeof here) == NULL)
    return mg__fail_errno(err, errno, "cannot tell the current directory");
  length = here[0] == '\0' ? snprintf(out, out_bytes, "%s", path)
                           : snprintf(out, out_bytes, "%s/%s",
                                      here[1] == '\0' ? "" : here, path);
  if (length < 0 || (size_t)length >= out_bytes)
    return mg__fail(err, MG_EINVAL,
                    "path is %d bytes long, at most %zu allowed", length,
                    out_bytes - 1);
  return MG_OK;
}

int mg__os_unlink(const char *path) {
  if (unlink(path) == 0 || errno == ENOENT) return 0;
  return errno;
}

mg__file mg__file_own(int fd) {
  struct stat info;

  if (fd < 0 || fstat(fd, &info) != 0) return (mg__file)MG__FILE_NONE;
  return (mg__file){fd, info.st_dev, info.st_ino};
}

/* Whether a descriptor is among the last that the process may have: they are the
 * program's. The lowest free number is given out, so its size tells. */
static bool file_is_scarce(int fd) {
  struct rlimit limit;
  rlim_t kept;

  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  kept = limit.rlim_cur / 2 < MG__FILES_LEFT ? limit.rlim_cur / 2 : MG__FILES_LEFT;
  return (rlim_t)fd >= limit.rlim_cur - kept;
}

bool mg__file_open(mg__file *out, const char *path, int flags) {
  int fd;

  do {
    fd = open(path, flags | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  if (fd >= 0 && file_is_scarce(fd)) {
    close(fd);
    errno = EMFILE;
    fd = -1;
  }
  *out = mg__file_own(fd);
  return out->fd >= 0;
}

bool mg__file_is_ours(const mg__file *file) {
  struct stat info;

  return file->fd >= 0 && fstat(file->fd, &info) == 0 &&
         info.st_dev == file->device && info.st_ino == file->inode;
}

void mg__file_close(mg__file *file) {
  if (mg__file_is_ours(file)) close(file->fd);
  *file = (mg__file)MG__FILE_NONE;
}

int mg__file_read(int fd, char *out, size_t out_bytes) {
  /* One call is enough: the kernel writes these files as one record. */
  ssize_t got;

  out[0] = '\0';
  if (fd < 0) return EBADF;
  do {
    got = pread(fd, out, out_bytes - 1, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    out[0] = '\0';
    return errno;
  }
  out[got] = '\0';
  if ((size_t)got == out_bytes - 1) {
    char *last = strrchr(out, '\n');
    out[last == NULL ? 0 : last - out + 1] = '\0';
  }
  return 0;
}

char *mg__file_text(const char *path) {
  const size_t most = 4u << 20;
  size_t room = 8192, length = 0;
  char *text = mg__alloc_untouched(room), *larger;
  mg__file file = MG__FILE_NONE;
  ssize_t got;

  if (text == NULL || !mg__file_open(&file, path, O_RDONLY)) goto fail_text;
  while ((got = read(file.fd, text + length, room - length - 1)) != 0) {
    if (got < 0 && errno != EINTR) goto fail_text;
    if (got > 0) length += (size_t)got;
    if (length + 1 < room) continue;
    room *= 2;
    larger = room > most ? NULL : mg__resize(text, room);
    if (larger == NULL) goto fail_text;
    text = larger;
  }
  text[length] = '\0';
  mg__file_close(&file);
  return text;

fail_text:
  mg__file_close(&file);
  mg__free(text);
  return NULL;
}
