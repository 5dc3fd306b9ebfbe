#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif

#include "memguard/base.h"

void fixture_open(fixture_tree *out) {
  snprintf(out->root, sizeof out->root, "/tmp/memguard-test-XXXXXX");
  if (mkdtemp(out->root) == NULL || chmod(out->root, 0755) != 0)
    fail_msg("mkdtemp: %s", strerror(errno));
}

static int fixture_remove_one(const char *path, const struct stat *info,
                              int kind, struct FTW *walk) {
  (void)info;
  (void)kind;
  (void)walk;
  return remove(path);
}

void fixture_close(fixture_tree *tree) {
  fixture_remove(tree, "");
}

void fixture_remove(const fixture_tree *tree, const char *path) {
  nftw(fixture_path(tree, path), fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fixture_path(const fixture_tree *tree, const char *path) {
  static char full[4096 + 256];

  snprintf(full, sizeof full, "%s%s", tree->root, path);
  return full;
}

void fixture_write(const fixture_tree *tree, const char *path,
                   const char *text) {
  char full[4096 + 256];
  char *slash;
  FILE *file;

  snprintf(full, sizeof full, "%s", fixture_path(tree, path));
  for (slash = strchr(full + 1, '/'); slash != NULL;
       slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(full, 0755) != 0 && errno != EEXIST)
      fail_msg("mkdir %s: %s", full, strerror(errno));
    *slash = '/';
  }
  file = fopen(full, "w");
  if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
    fail_msg("write %s: %s", full, strerror(errno));
}

int fixture_put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  int error = 0;

  if (fd < 0) return errno;
  if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) error = errno;
  close(fd);
  return error;
}

/* Where coverage is measured: what a child reached counts too. */
extern void __gcov_dump(void) __attribute__((weak));

bool fixture_on_valgrind(void) {
#ifdef RUNNING_ON_VALGRIND
  return RUNNING_ON_VALGRIND != 0;
#else
  return false;
#endif
}

/* A forked child has what the frames and the threads of its parent held, but not
 * those: valgrind would call that lost when it ends. It ends as another program. */
_Noreturn void fixture_leave(int code) {
  if (__gcov_dump != NULL) __gcov_dump();
#ifdef RUNNING_ON_VALGRIND
  if (fixture_on_valgrind() && VALGRIND_COUNT_ERRORS == 0) {
    char text[24];
    snprintf(text, sizeof text, "exit %d", code);
    execl("/bin/sh", "sh", "-c", text, (char *)NULL);
  }
#endif
  _exit(code);
}

int fixture_child(void (*body)(void *), void *ctx) {
  int status = -1;
  pid_t pid;

  fflush(NULL);
  pid = fork();
  if (pid == 0) {
    alarm(60);
    body(ctx);
    fixture_leave(0);
  }
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
  return status;
}

void fixture_fail(const char *file, int line, const char *condition) {
  dprintf(2, "%s:%d: in a child: %s does not hold\n", file, line, condition);
  _exit(1);
}

char *fixture_touch(size_t bytes) {
  /* Past the sanitizers: they keep freed blocks back, and use memory of their
   * own for each byte they see written. */
  long block = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

  return block == -1 ? NULL : (char *)block;
}

void fixture_release(char *block, size_t bytes) {
  syscall(SYS_munmap, block, bytes);
}

/* ---- An allocator that fails once ---------------------------------------- */

static long fixture_calls_left;

static bool fixture_fails_now(void) {
  return fixture_calls_left-- == 0;
}

static void *fixture_take(void *ctx, size_t bytes) {
  (void)ctx;
  return fixture_fails_now() ? NULL : malloc(bytes);
}

static void *fixture_resize(void *ctx, void *block, size_t bytes) {
  (void)ctx;
  return fixture_fails_now() ? NULL : realloc(block, bytes);
}

static void fixture_give(void *ctx, void *block) {
  (void)ctx;
  free(block);
}

void fixture_fail_allocation(long index) {
  static const mg_allocator failing = {fixture_take, fixture_resize,
                                       fixture_give, NULL};

  fixture_calls_left = index;
  mg_set_allocator(&failing);
}

bool fixture_allocation_failed(void) {
  mg_set_allocator(NULL);
  return fixture_calls_left < 0;
}
