/* os/linux_proc.c - the reader: what /proc and the control group say about this
 * process and its machine, through descriptors that stay open.
 *
 * Opening a file under /proc costs more than reading it, hence the descriptors.
 * The counts of threads and descriptors come without reading anything: /proc
 * states them as link count and size of two directories. */
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "internal.h"

#ifndef __GLIBC__ /* musl: 64 bits everywhere, and since 1.2.4 no second name */
#define dirent64 dirent
#define getdents64 getdents
#endif

enum {
  PROC_STATM,
  PROC_MEMINFO,
  PROC_DESCRIPTORS,
  PROC_TASKS,
  PROC_GROUP,
  PROC_FILES
};

static const char *const proc_paths[PROC_FILES] = {
    "/proc/self/statm", "/proc/meminfo", "/proc/self/fd", "/proc/self/task",
    "/proc/self/cgroup"};

#define PROC_ROOT_BYTES 1024

struct mg__os {
  char root[PROC_ROOT_BYTES];
  char path[MG__PATH_BYTES + 32]; /* scratch of refresh */
  mg__file file[PROC_FILES];
  mg__file stall; /* memory.pressure of the group, or the machine's */
  /* The number of file[PROC_STATM] once more: mg__os_rss() holds no lock. */
  atomic_int statm_fd;
  bool sizes_count; /* the size of the descriptor directory is its count */
  uint64_t page_bytes;
  uint64_t group_digest, limit_digest; /* as of the last refresh */
  uint64_t refreshed_ns;
  uint32_t epoch;
  mg__cgroup group;
};

/* ---- Opening ------------------------------------------------------------- */

/* FNV-1a, goes on from `digest`. */
static uint64_t proc_digest(uint64_t digest, const void *data, size_t bytes) {
  const unsigned char *at = data;
  size_t index;

  for (index = 0; index < bytes; index++)
    digest = (digest ^ at[index]) * UINT64_C(0x100000001b3);
  return digest;
}

#define PROC_DIGEST_START UINT64_C(0xcbf29ce484222325)

/* Says whether the process is in the group it was in, whatever the length of
 * the text, without memory. */
static uint64_t proc_digest_group(const mg__os *os) {
  uint64_t digest = PROC_DIGEST_START;
  char part[1024];
  ssize_t got;
  off_t at = 0;

  while ((got = pread(os->file[PROC_GROUP].fd, part, sizeof part, at)) > 0) {
    digest = proc_digest(digest, part, (size_t)got);
    at += got;
  }
  return digest;
}

static uint64_t proc_digest_limits(const mg__os *os) {
  uint64_t digest = PROC_DIGEST_START, limit;
  int index;

  for (index = 0; index < os->group.count; index++) {
    limit = mg__cgroup_limit(&os->group.level[index]);
    digest = proc_digest(digest, &limit, sizeof limit);
  }
  return digest;
}

static uint64_t proc_read_stall(int fd) {
  char text[512];

  if (fd < 0 || mg__file_read(fd, text, sizeof text) != 0) return MG_ABSENT;
  return mg__parse_psi_total(text);
}

/* The group's own file is there also where another hierarchy counts memory, but
 * can be switched off; then it reads as nothing. */
static void proc_open_stall(mg__os *os) {
  if (os->group.unified[0] != '\0') {
    snprintf(os->path, sizeof os->path, "%s/memory.pressure",
             os->group.unified);
    if (mg__file_open(&os->stall, os->path, O_RDONLY) &&
        proc_read_stall(os->stall.fd) != MG_ABSENT)
      return;
    mg__file_close(&os->stall);
  }
  snprintf(os->path, sizeof os->path, "%s/proc/pressure/memory", os->root);
  mg__file_open(&os->stall, os->path, O_RDONLY);
}

static void proc_open_files(mg__os *os) {
  struct statfs system;
  int index;

  for (index = 0; index < PROC_FILES; index++) {
    if (mg__file_is_ours(&os->file[index])) continue;
    snprintf(os->path, sizeof os->path, "%s%s", os->root, proc_paths[index]);
    mg__file_open(&os->file[index], os->path, O_RDONLY);
  }
  atomic_store(&os->statm_fd, os->file[PROC_STATM].fd);
  /* Elsewhere the size of a directory means something else. */
  os->sizes_count = fstatfs(os->file[PROC_DESCRIPTORS].fd, &system) == 0 &&
                    system.f_type == PROC_SUPER_MAGIC;
}

static bool proc_group_is_ours(const mg__os *os) {
  const mg__cgroup *group = &os->group;
  int index;

  for (index = 0; index < group->count; index++)
    if (!mg__file_is_ours(&group->level[index].usage) ||
        !mg__file_is_ours(&group->level[index].limit))
      return false;
  return group->count > 0;
}

void mg__os_refresh(mg__os *os) {
  uint64_t digest, limits;

  proc_open_files(os);
  digest = proc_digest_group(os);
  if (digest != os->group_digest || !proc_group_is_ours(os)) {
    mg__cgroup_close(&os->group);
    mg__cgroup_open(&os->group, os->root);
  }
  if (digest != os->group_digest || !mg__file_is_ours(&os->stall)) {
    mg__file_close(&os->stall);
    proc_open_stall(os);
  }
  limits = proc_digest_limits(os);
  if (digest != os->group_digest || limits != os->limit_digest) os->epoch++;
  os->group_digest = digest;
  os->limit_digest = limits;
  os->refreshed_ns = mg_clock_ns();
}

mg_status mg__os_open(mg__os **out, const char *root, mg_error *err) {
  mg__os *os;
  int index;

  *out = NULL;
  if (strlen(root) >= PROC_ROOT_BYTES)
    return mg__fail(err, MG_EINVAL,
                    "root is %zu bytes long, at most %d allowed", strlen(root),
                    PROC_ROOT_BYTES - 1);
  os = mg__alloc(sizeof *os);
  if (os == NULL)
    return mg__fail(err, MG_ENOMEM, "reader, %zu bytes", sizeof *os);
  snprintf(os->root, sizeof os->root, "%s", root);
  for (index = 0; index < PROC_FILES; index++)
    os->file[index] = (mg__file)MG__FILE_NONE;
  os->stall = (mg__file)MG__FILE_NONE;
  os->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
  mg__os_refresh(os);
  *out = os;
  return MG_OK;
}

void mg__os_close(mg__os *os) {
  int index;

  if (os == NULL) return;
  for (index = 0; index < PROC_FILES; index++)
    mg__file_close(&os->file[index]);
  mg__file_close(&os->stall);
  mg__cgroup_close(&os->group);
  mg__free(os);
}

/* ---- Reading ------------------------------------------------------------- */

enum {
  PROC_SIZE,
  PROC_RESIDENT,
  PROC_SHARED,
  PROC_DATA = 5,
  PROC_STATM_FIELDS
};

/* The first `fields` of statm, in bytes; MG_ABSENT what cannot be read. */
static void proc_read_statm(int fd, uint64_t page_bytes, int fields,
                            uint64_t *out) {
  char text[192];
  const char *at = text;
  uint64_t pages;
  int index;

  for (index = 0; index < fields; index++)
    out[index] = MG_ABSENT;
  if (mg__file_read(fd, text, sizeof text) != 0) return;
  for (index = 0; index < fields; index++) {
    if (!mg__parse_u64(at, &pages)) return;
    if (pages < MG_ABSENT / page_bytes) out[index] = pages * page_bytes;
    at += strcspn(at, " ");
    at += strspn(at, " ");
  }
}

uint64_t mg__os_rss(const mg__os *os) {
  uint64_t statm[PROC_RESIDENT + 1];

  proc_read_statm(atomic_load(&os->statm_fd), os->page_bytes, PROC_RESIDENT + 1,
                  statm);
  return statm[PROC_RESIDENT];
}

/* @return whether `file` is open and still what was opened. */
static bool proc_stat(const mg__file *file, struct stat *out) {
  return file->fd >= 0 && fstat(file->fd, out) == 0 &&
         out->st_dev == file->device && out->st_ino == file->inode;
}

int mg__os_each_name(int folder, bool (*note)(void *context, const char *name),
                     void *context) {
  union {
    char bytes[4096];
    struct dirent64 first; /* alignment */
  } block;
  ssize_t got;

  if (lseek(folder, 0, SEEK_SET) != 0) return errno;
  while ((got = getdents64(folder, (void *)block.bytes, sizeof block.bytes)) > 0)
    for (ssize_t at = 0; at < got;) {
      const struct dirent64 *entry = (const void *)(block.bytes + at);
      at += entry->d_reclen;
      if (entry->d_name[0] != '.' && !note(context, entry->d_name)) return 0;
    }
  return got < 0 ? errno : 0;
}

static bool proc_count_name(void *count, const char *name) {
  (void)name;
  ++*(uint64_t *)count;
  return true;
}

/* For kernels before 6.2, which do not count. */
static uint64_t proc_count_entries(int fd) {
  uint64_t count = 0;

  return mg__os_each_name(fd, proc_count_name, &count) == 0 ? count : MG_ABSENT;
}

uint64_t mg__os_fd_count(const mg__os *os) {
  const mg__file *file = &os->file[PROC_DESCRIPTORS];
  struct stat info;

  if (!proc_stat(file, &info)) return MG_ABSENT;
  /* Never 0 where it counts: `file` itself is one. */
  if (os->sizes_count && info.st_size > 0) return (uint64_t)info.st_size;
  return proc_count_entries(file->fd);
}

static uint64_t proc_count_threads(const mg__file *file) {
  struct stat info;

  /* A directory has two links and one from each directory in it. */
  if (!proc_stat(file, &info) || info.st_nlink <= 2) return MG_ABSENT;
  return (uint64_t)info.st_nlink - 2;
}

static uint64_t proc_soft_limit(int failed, const struct rlimit *limit) {
  return failed || limit->rlim_cur == RLIM_INFINITY ? MG_ABSENT
                                                    : limit->rlim_cur;
}

void mg__os_read(mg__os *os, mg_reading *out) {
  uint64_t statm[PROC_STATM_FIELDS];
  char text[512]; /* the lines wanted of meminfo are its first */
  struct rlimit limit;

  if ((double)(mg_clock_ns() - os->refreshed_ns) >= MG__OS_REOPEN_MS * 1e6)
    mg__os_refresh(os);
  mg_reading_init(out);
  proc_read_statm(os->file[PROC_STATM].fd, os->page_bytes, PROC_STATM_FIELDS,
                  statm);
  out->rss_bytes = statm[PROC_RESIDENT];
  out->shared_bytes = statm[PROC_SHARED];
  out->virtual_bytes = statm[PROC_SIZE];
  out->data_bytes = statm[PROC_DATA];
  if (mg__file_read(os->file[PROC_MEMINFO].fd, text, sizeof text) == 0) {
    out->machine_available_bytes = mg__parse_keyed(text, "MemAvailable");
    out->machine_total_bytes = mg__parse_keyed(text, "MemTotal");
  }
  mg__cgroup_read(&os->group, out->machine_total_bytes, &out->cgroup_used_bytes,
                  &out->cgroup_limit_bytes);
  out->address_limit_bytes =
      proc_soft_limit(getrlimit(RLIMIT_AS, &limit), &limit);
  out->data_limit_bytes =
      proc_soft_limit(getrlimit(RLIMIT_DATA, &limit), &limit);
  out->stall_total_us = proc_read_stall(os->stall.fd);
  out->fd_count = mg__os_fd_count(os);
  out->thread_count = proc_count_threads(&os->file[PROC_TASKS]);
}

uint32_t mg__os_epoch(const mg__os *os) {
  return os->epoch;
}

const char *mg__os_root(const mg__os *os) {
  return os->root;
}

const mg__cgroup *mg__os_cgroup(const mg__os *os) {
  return &os->group;
}
