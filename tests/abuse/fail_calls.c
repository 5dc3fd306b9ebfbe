/* fail_calls.c - has the system refuse one call of libmemguard, for LD_PRELOAD.
 *
 * FAIL_AT=N fails the Nth call that comes from the library, whatever it is; at the end
 * the number of calls is written to descriptor 3. Calls of the program itself and of
 * the C library are never touched. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static _Atomic long fail_calls;

static bool fail_is_ours(const void *caller) {
  Dl_info info;

  return dladdr(caller, &info) != 0 && info.dli_fname != NULL &&
         strstr(info.dli_fname, "libmemguard") != NULL;
}

static bool fail_now(const void *caller) {
  const char *at = getenv("FAIL_AT");

  if (at == NULL || !fail_is_ours(caller)) return false;
  return ++fail_calls == atol(at);
}

static void fail_tell(void) {
  char text[32];
  int length = snprintf(text, sizeof text, "%ld\n", (long)fail_calls);

  if (getenv("FAIL_AT") != NULL && write(3, text, (size_t)length) < 0) _exit(9);
}
__attribute__((constructor)) static void fail_begin(void) { atexit(fail_tell); }

/* X(type, name, parameters, arguments, what it returns, errno) */
#define FAIL_MAP(X)                                                              \
  X(int, openat, (int at, const char *path, int flags, ...), (at, path, flags, 0600), -1, EMFILE) \
  X(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n), -1, EIO)            \
  X(ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), -1, EIO) \
  X(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at),              \
    (fd, from, n, at), -1, EIO)                                                  \
  X(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n), -1, EIO) \
  X(void *, mmap, (void *at, size_t n, int mode, int flags, int fd, off_t from),  \
    (at, n, mode, flags, fd, from), MAP_FAILED, ENOMEM)                          \
  X(int, flock, (int fd, int how), (fd, how), -1, ENOLCK)                         \
  X(int, rename, (const char *from, const char *to), (from, to), -1, ENOSPC)      \
  X(int, unlink, (const char *path), (path), -1, EACCES)                          \
  X(int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC)        \
  X(int, chmod, (const char *path, mode_t mode), (path, mode), -1, EPERM)         \
  X(int, fstat, (int fd, struct stat *to), (fd, to), -1, EIO)                     \
  X(int, stat, (const char *path, struct stat *to), (path, to), -1, EACCES)       \
  X(int, lstat, (const char *path, struct stat *to), (path, to), -1, EACCES)      \
  X(int, fstatfs, (int fd, struct statfs *to), (fd, to), -1, EIO)                 \
  X(int, statfs, (const char *path, struct statfs *to), (path, to), -1, EIO)      \
  X(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1, EMFILE) \
  X(int, bind, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n), -1, EADDRINUSE) \
  X(int, listen, (int fd, int backlog), (fd, backlog), -1, EADDRINUSE)            \
  X(int, connect, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n), -1, ECONNREFUSED) \
  X(int, accept4, (int fd, struct sockaddr *from, socklen_t *n, int flags),       \
    (fd, from, n, flags), -1, EMFILE)                                            \
  X(ssize_t, recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags), -1, ECONNRESET) \
  X(ssize_t, send, (int fd, const void *from, size_t n, int flags),               \
    (fd, from, n, flags), -1, EPIPE)                                             \
  X(int, getsockopt, (int fd, int level, int name, void *to, socklen_t *n),       \
    (fd, level, name, to, n), -1, EINVAL)                                        \
  X(int, fstatat, (int at, const char *path, struct stat *to, int flags),         \
    (at, path, to, flags), -1, EACCES)                                           \
  X(ssize_t, readlinkat, (int at, const char *path, char *to, size_t n),          \
    (at, path, to, n), -1, EACCES)                                               \
  X(ssize_t, getdents64, (int fd, void *to, size_t n), (fd, to, n), -1, EIO)      \
  X(off_t, lseek, (int fd, off_t at, int from), (fd, at, from), -1, EIO)          \
  X(DIR *, opendir, (const char *path), (path), NULL, EMFILE)                     \
  X(int, madvise, (void *at, size_t n, int how), (at, n, how), -1, ENOMEM)        \
  X(int, mprotect, (void *at, size_t n, int how), (at, n, how), -1, ENOMEM)       \
  X(int, getrusage, (__rusage_who_t who, struct rusage *to), (who, to), -1, EFAULT)          \
  X(int, getrlimit, (__rlimit_resource_t what, struct rlimit *to), (what, to), -1, EPERM)         \
  X(int, poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms), -1, ENOMEM)  \
  X(int, ppoll, (struct pollfd *fds, nfds_t n, const struct timespec *time,       \
    const sigset_t *mask), (fds, n, time, mask), -1, ENOMEM)                     \
  X(int, eventfd, (unsigned initial, int flags), (initial, flags), -1, EMFILE)    \
  X(void *, dlopen, (const char *name, int flags), (name, flags), NULL, ENOENT)   \
  X(void *, malloc, (size_t n), (n), NULL, ENOMEM)                                \
  X(void *, realloc, (void *block, size_t n), (block, n), NULL, ENOMEM)

#define FAIL_FUNCTION(type, name, parameters, arguments, failed, error)   \
  type name parameters {                                                  \
    static type(*next) parameters;                                        \
    if (fail_now(__builtin_return_address(0))) {                          \
      errno = error;                                                      \
      return failed;                                                      \
    }                                                                     \
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name);          \
    return next arguments;                                                \
  }
FAIL_MAP(FAIL_FUNCTION)

/* O_CREAT has a mode. */
int open(const char *path, int flags, ...) {
  static int (*next)(const char *, int, ...);
  va_list list;
  mode_t mode;

  if (fail_now(__builtin_return_address(0))) {
    errno = EMFILE;
    return -1;
  }
  va_start(list, flags);
  mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "open");
  return next(path, flags, mode);
}

/* These return what went wrong. */
int pthread_create(pthread_t *out, const pthread_attr_t *attributes,
                   void *(*run)(void *), void *ctx) {
  static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

  if (fail_now(__builtin_return_address(0))) return EAGAIN;
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
  return next(out, attributes, run, ctx);
}

int posix_fallocate(int fd, off_t from, off_t bytes) {
  static int (*next)(int, off_t, off_t);

  if (fail_now(__builtin_return_address(0))) return ENOSPC;
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "posix_fallocate");
  return next(fd, from, bytes);
}
