/* os/linux_footprint.c - what the process holds: private memory, mappings, and
 * descriptors by kind.
 *
 * The files stay open because they matter most when no descriptor is left to
 * open them with. Where a descriptor leads is read as the text of its link: to
 * ask for its status could wait for a file system that does not answer. */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "internal.h"

#define FOOTPRINT_FDS_MAX 32768u /* looked at; with more, kinds are not told */
#define FOOTPRINT_CHUNK_BYTES 16384

static void footprint_open(mg__footprint *out) {
  static const char *const paths[MG__FOOTPRINT_FILES] = {
      "/proc/self/smaps_rollup", "/proc/self/maps", "/proc/self/fd"};
  char path[MG__PATH_BYTES];

  for (int i = 0; i < MG__FOOTPRINT_FILES; i++) {
    if (mg__file_is_ours(&out->file[i])) continue;
    mg__file_close(&out->file[i]);
    snprintf(path, sizeof path, "%s%s", out->root, paths[i]);
    mg__file_open(&out->file[i], path,
                  i == MG__FOOTPRINT_FDS ? O_RDONLY | O_DIRECTORY : O_RDONLY);
  }
}

void mg__footprint_close(mg__footprint *footprint) {
  for (int i = 0; i < MG__FOOTPRINT_FILES; i++)
    mg__file_close(&footprint->file[i]);
}

void mg__os_read_limits(uint64_t *out_fds, uint64_t *out_threads) {
  struct rlimit limit;

  *out_fds = *out_threads = 0;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
      limit.rlim_cur != RLIM_INFINITY)
    *out_fds = limit.rlim_cur;
  if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    *out_threads = limit.rlim_cur;
}

/* ---- private memory and mappings ------------------------------------------ */

uint64_t mg__parse_private(const char *text) {
  uint64_t clean = mg__parse_keyed(text, "Private_Clean");
  uint64_t dirty = mg__parse_keyed(text, "Private_Dirty");

  if (clean == MG_ABSENT || dirty == MG_ABSENT || clean > MG_ABSENT - dirty)
    return MG_ABSENT;
  return clean + dirty;
}

static uint64_t footprint_read_private(int fd) {
  char text[4096];

  return mg__file_read(fd, text, sizeof text) == 0 ? mg__parse_private(text)
                                                   : MG_ABSENT;
}

/* A mapping is a line. */
static uint64_t footprint_count_lines(int fd) {
  char chunk[FOOTPRINT_CHUNK_BYTES];
  uint64_t lines = 0;
  ssize_t got;
  off_t at = 0;

  if (fd < 0) return MG_ABSENT;
  for (;;) {
    got = pread(fd, chunk, sizeof chunk, at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    at += got;
    for (ssize_t i = 0; i < got; i++) lines += chunk[i] == '\n';
  }
  return got < 0 || lines == 0 ? MG_ABSENT : lines;
}

/* ---- descriptors ------------------------------------------------------------ */

typedef struct footprint_walk {
  int folder;
  uint32_t seen;
  mg__holdings *holdings;
} footprint_walk;

static bool footprint_count_fd(void *context, const char *name) {
  footprint_walk *walk = context;
  mg__holdings *out = walk->holdings;
  char target[16]; /* the beginning tells the kind */
  ssize_t length;

  if (++walk->seen > FOOTPRINT_FDS_MAX) return false;
  length = readlinkat(walk->folder, name, target, sizeof target);
  if (length <= 0) return true; /* closed meanwhile */
  if (length > 7 && memcmp(target, "socket:", 7) == 0)
    out->sockets++;
  else if (length > 5 && memcmp(target, "pipe:", 5) == 0)
    out->pipes++;
  else if (target[0] == '/')
    out->files++;
  else
    out->others++;
  return true;
}

/* @return whether all were looked at. */
static bool footprint_count_fds(int fd, mg__holdings *out) {
  footprint_walk walk = {.folder = fd, .holdings = out};

  return fd >= 0 && mg__os_each_name(fd, footprint_count_fd, &walk) == 0 &&
         walk.seen <= FOOTPRINT_FDS_MAX;
}

void mg__footprint_read(mg__footprint *footprint, mg__holdings *out) {
  mg__file *file = footprint->file;

  *out = (mg__holdings){0};
  footprint_open(footprint);
  out->private_bytes = footprint_read_private(file[MG__FOOTPRINT_ROLLUP].fd);
  out->mappings = footprint_count_lines(file[MG__FOOTPRINT_MAPS].fd);
  if (!footprint_count_fds(file[MG__FOOTPRINT_FDS].fd, out))
    out->sockets = out->pipes = out->files = out->others = MG_ABSENT;
}
