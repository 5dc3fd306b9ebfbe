/* os/linux_segment.c - identity of a process, and files that others read.
 *
 * A file is made under another name, locked, its blocks allocated (a full tmpfs
 * is an error here and no SIGBUS later), filled, and renamed: whoever finds it
 * finds it whole and locked. */
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "internal.h"

#define SHARED_PATH_BYTES (MG__PATH_BYTES + 8)

/* ---- Identity ------------------------------------------------------------ */

static void segment_read_file(const char *path, char *out, size_t out_bytes) {
  mg__file file;

  out[0] = '\0';
  if (!mg__file_open(&file, path, O_RDONLY)) return;
  (void)mg__file_read(file.fd, out, out_bytes);
  mg__file_close(&file);
}

/* Its first line. */
static void segment_read_text(const char *path, char *out, size_t out_bytes) {
  segment_read_file(path, out, out_bytes);
  out[strcspn(out, "\n")] = '\0';
}

/* Field 22 of stat; the second, a name in parentheses, may hold anything. */
static uint64_t segment_parse_start(const char *stat_text) {
  const char *at = strrchr(stat_text, ')');
  uint64_t ticks = 0;
  int field = 2;

  if (at == NULL || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X') return 0;
  for (; *at != '\0' && field < 22; at++)
    if (*at == ' ') field++;
  return mg__parse_u64(at, &ticks) ? ticks : 0;
}

uint64_t mg__os_start_time(uint32_t pid) {
  char path[64], text[1024];

  snprintf(path, sizeof path, "/proc/%u/stat", pid);
  segment_read_text(path, text, sizeof text);
  return segment_parse_start(text);
}

static void segment_read_boot(char out[40]) {
  char text[64];
  size_t used = 0;

  memset(out, 0, 40);
  segment_read_text("/proc/sys/kernel/random/boot_id", text, sizeof text);
  for (const char *at = text; *at != '\0' && used < 32; at++)
    if ((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f'))
      out[used++] = *at;
  while (used < 32) out[used++] = '0';
}

static uint64_t segment_hash_arguments(void) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  unsigned char bytes[4096];
  mg__file file;
  ssize_t got;

  if (!mg__file_open(&file, "/proc/self/cmdline", O_RDONLY)) return 0;
  while ((got = read(file.fd, bytes, sizeof bytes)) > 0)
    for (ssize_t i = 0; i < got; i++)
      hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
  mg__file_close(&file);
  return hash;
}

void mg__os_identify(mg__os_identity *out) {
  struct stat info;

  *out = (mg__os_identity){.pid = (uint32_t)getpid(),
                           .uid = (uint32_t)geteuid()};
  out->start_time = mg__os_start_time(out->pid);
  if (stat("/proc/self/ns/pid", &info) == 0) out->pid_namespace = info.st_ino;
  out->argv_hash = segment_hash_arguments();
  segment_read_boot(out->boot_id);
  segment_read_text("/proc/self/comm", out->program, sizeof out->program);
}

bool mg__os_is_of_group(uint32_t pid) {
  return getpgid((pid_t)pid) == getpgrp();
}

uint32_t mg__os_user(void) { return (uint32_t)geteuid(); }

uint64_t mg__os_oom_kills(const char *path) {
  struct statfs system;
  char text[2048];

  /* The path may come out of a file that somebody else wrote. */
  if (path[0] == '\0' || statfs(path, &system) != 0 ||
      (system.f_type != CGROUP_SUPER_MAGIC &&
       system.f_type != CGROUP2_SUPER_MAGIC))
    return MG_ABSENT;
  segment_read_file(path, text, sizeof text);
  return mg__parse_keyed(text, "oom_kill");
}

/* ---- Directory ----------------------------------------------------------- */

static mg_status segment_check_directory(int fd, const char *path,
                                         mg_error *err) {
  struct statfs system;
  struct stat info;

  if (fstat(fd, &info) != 0 || fstatfs(fd, &system) != 0)
    return mg__fail_errno(err, errno, "%s", path);
  if (info.st_uid != geteuid() && info.st_uid != 0)
    return mg__fail(err, MG_EINVAL, "%s belongs to user %u, need %u or root",
                    path, (unsigned)info.st_uid, (unsigned)geteuid());
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
      (info.st_mode & S_ISVTX) == 0)
    return mg__fail(err, MG_EINVAL,
                    "%s has mode %03o: others could replace files, need 700",
                    path, (unsigned)info.st_mode & 0777u);
  /* A mapping that is written to disk would stop the host now and then. */
  if (system.f_type != TMPFS_MAGIC && system.f_type != RAMFS_MAGIC)
    return mg__fail(err, MG_EINVAL, "%s is not in a tmpfs", path);
  return MG_OK;
}

mg_status mg__os_make_directory(const char *path, mg_error *err) {
  mg_status st;
  int fd;

  if (mkdir(path, 0700) != 0 && errno != EEXIST && errno != EROFS)
    return mg__fail_errno(err, errno, "cannot make %s", path);
  fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return mg__fail_errno(err, errno, "cannot open %s", path);
  st = segment_check_directory(fd, path, err);
  close(fd);
  return st;
}

/* ---- The file this process writes ---------------------------------------- */

static void segment_new_path(char out[SHARED_PATH_BYTES], const char *path) {
  snprintf(out, SHARED_PATH_BYTES, "%s.new", path);
}

static int segment_create(const char *path) {
  return open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* A former program of this process may have left one when it was replaced by
 * exec; it does not hold the lock. */
static int segment_create_anew(const char *path) {
  int fd = segment_create(path), former;
  bool is_free;

  if (fd >= 0 || errno != EEXIST) return fd;
  former = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  is_free = former >= 0 && flock(former, LOCK_EX | LOCK_NB) == 0;
  if (is_free) unlink(path);
  if (former >= 0) close(former);
  if (is_free) return segment_create(path);
  errno = EEXIST;
  return -1;
}

static void *segment_map(void *where, int fd, size_t bytes) {
  int flags = MAP_SHARED | (where == NULL ? 0 : MAP_FIXED);
  void *map = mmap(where, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

  return map == MAP_FAILED ? NULL : map;
}

/* Maps what `fd` is, and closes it: the mapping keeps the file open, and with it
 * the lock. @return 0 or errno. */
static int segment_take(mg__os_shared *shared, int fd, size_t bytes) {
  void *map = NULL;
  struct stat info;
  int error;

  if (fstat(fd, &info) == 0) map = segment_map(shared->map, fd, bytes);
  error = map == NULL ? errno : 0;
  if (error == 0)
    *shared = (mg__os_shared){map, bytes, info.st_dev, info.st_ino};
  close(fd);
  return error;
}

mg_status mg__os_shared_make(mg__os_shared *shared, const char *path,
                             size_t bytes, mg_error *err) {
  char name[SHARED_PATH_BYTES];
  int fd, error;

  segment_new_path(name, path);
  fd = segment_create_anew(name);
  if (fd < 0 && errno == EEXIST)
    return mg__fail(err, MG_EEXISTS, "%s is being made", path);
  if (fd < 0) return mg__fail_errno(err, errno, "cannot make %s", name);
  error = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  if (error == 0) error = posix_fallocate(fd, 0, (off_t)bytes);
  if (error == 0)
    error = segment_take(shared, fd, bytes);
  else
    close(fd);
  if (error == 0) return MG_OK;
  unlink(name);
  return mg__fail_errno(err, error, "cannot keep %zu bytes in %s", bytes, name);
}

mg_status mg__os_shared_keep(mg__os_shared *shared, size_t bytes,
                             mg_error *err) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  void *map;

  if (shared->map != NULL) flags |= MAP_FIXED;
  map = mmap(shared->map, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (map == MAP_FAILED)
    return mg__fail(err, MG_ENOMEM, "cannot map %zu bytes", bytes);
  shared->map = map;
  shared->bytes = bytes;
  return MG_OK;
}

/* Whether another copy of the library, in this process, shows a file there. */
static bool segment_is_taken(const char *path) {
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  bool is_taken;

  if (fd < 0) return false;
  is_taken = flock(fd, LOCK_EX | LOCK_NB) != 0;
  close(fd);
  return is_taken;
}

mg_status mg__os_shared_show(mg__os_shared *shared, const char *path,
                             mg_error *err) {
  char name[SHARED_PATH_BYTES];
  mg_status st = MG_OK;

  segment_new_path(name, path);
  if (segment_is_taken(path))
    st = mg__fail(err, MG_EEXISTS, "%s is written by another copy of memguard",
                  path);
  else if (rename(name, path) != 0)
    st = mg__fail_errno(err, errno, "cannot rename %s", name);
  if (st == MG_OK) return MG_OK;
  unlink(name);
  mg__os_shared_leave(shared);
  return st;
}

bool mg__os_shared_is_at(const mg__os_shared *shared, const char *path) {
  struct stat info;

  return lstat(path, &info) == 0 && info.st_dev == shared->device &&
         info.st_ino == shared->inode;
}

/* Opens the file again that was mapped last. @return -1 if it is not there. */
static int segment_reopen(const mg__os_shared *shared, const char *path) {
  int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat info;

  if (fd < 0) return -1;
  if (fstat(fd, &info) == 0 && info.st_dev == shared->device &&
      info.st_ino == shared->inode && info.st_size == (off_t)shared->bytes)
    return fd;
  close(fd);
  return -1;
}

void mg__os_shared_write(const mg__os_shared *shared, const char *path,
                         const void *data, size_t bytes, uint64_t offset) {
  int fd = segment_reopen(shared, path);

  if (fd < 0) return;
  (void)mg__os_write_at(fd, data, bytes, offset);
  close(fd);
}

bool mg__os_shared_resume(mg__os_shared *shared, const char *path) {
  int fd = segment_reopen(shared, path);

  if (fd < 0) return false;
  if (mg__os_lock(fd, true))
    return segment_take(shared, fd, shared->bytes) == 0;
  close(fd);
  return false;
}

void mg__os_shared_leave(mg__os_shared *shared) {
  void *map;

  if (shared->map == NULL) return;
  map = mmap(shared->map, shared->bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  /* A kernel without memory for that leaves a file which is not written any more
   * but for a collection now and then. */
  (void)map;
}

/* ---- Files of others ----------------------------------------------------- */

mg_status mg__os_open_plain(mg__file *out, const char *path, mg_error *err) {
  struct stat info;

  /* A FIFO must not make us wait. */
  if (!mg__file_open(out, path, O_RDONLY | O_NONBLOCK | O_NOCTTY)) {
    if (errno == ENOENT) return mg__fail(err, MG_ENOTFOUND, "%s is gone", path);
    return mg__fail_errno(err, errno, "cannot open %s", path);
  }
  if (fstat(out->fd, &info) == 0 && S_ISREG(info.st_mode)) return MG_OK;
  mg__file_close(out);
  return mg__fail(err, MG_EFOREIGN, "%s is no plain file", path);
}

long mg__os_read_at(int fd, void *out, size_t bytes, uint64_t offset) {
  ssize_t got;

  do {
    got = pread(fd, out, bytes, (off_t)offset);
  } while (got < 0 && errno == EINTR);
  return (long)got;
}

bool mg__os_write_at(int fd, const void *data, size_t bytes, uint64_t offset) {
  ssize_t done;

  do {
    done = pwrite(fd, data, bytes, (off_t)offset);
  } while (done < 0 && errno == EINTR);
  return done == (ssize_t)bytes;
}

uint64_t mg__os_file_bytes(int fd) {
  struct stat info;

  return fstat(fd, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

bool mg__os_lock(int fd, bool is_exclusive) {
  return flock(fd, (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0;
}

void mg__os_unlock(int fd) { flock(fd, LOCK_UN); }

/* ---- Directories --------------------------------------------------------- */

struct mg__os_listing {
  DIR *directory;
};

mg_status mg__os_list(mg__os_listing **out, const char *path, mg_error *err) {
  mg__os_listing *listing = mg__alloc(sizeof *listing);
  int error;

  *out = NULL;
  if (listing == NULL) return mg__fail(err, MG_ENOMEM, "listing of %s", path);
  listing->directory = opendir(path);
  if (listing->directory != NULL) {
    *out = listing;
    return MG_OK;
  }
  error = errno;
  mg__free(listing);
  if (error == ENOENT) return mg__fail(err, MG_ENOTFOUND, "no %s", path);
  if (error == ENOMEM) return mg__fail(err, MG_ENOMEM, "listing of %s", path);
  return mg__fail_errno(err, error, "cannot list %s", path);
}

const char *mg__os_list_next(mg__os_listing *listing) {
  const struct dirent *entry = readdir(listing->directory);

  return entry == NULL ? NULL : entry->d_name;
}

void mg__os_list_close(mg__os_listing *listing) {
  if (listing == NULL) return;
  closedir(listing->directory);
  mg__free(listing);
}

bool mg__os_list_open(const mg__os_listing *listing, const char *name,
                      mg__file *out, bool is_written) {
  int flags = (is_written ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOFOLLOW;

  *out = mg__file_own(
      openat(dirfd(listing->directory), name, flags | O_CLOEXEC));
  return out->fd >= 0;
}

bool mg__os_list_remove(const mg__os_listing *listing, const char *name,
                        const mg__file *file) {
  int fd = dirfd(listing->directory);
  struct stat info;

  if (fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
      info.st_dev != file->device || info.st_ino != file->inode)
    return false;
  return unlinkat(fd, name, 0) == 0;
}

void mg__os_list_drop(const mg__os_listing *listing, const char *name) {
  unlinkat(dirfd(listing->directory), name, 0);
}

bool mg__os_list_has(const mg__os_listing *listing, const char *name) {
  struct stat info;

  return fstatat(dirfd(listing->directory), name, &info,
                 AT_SYMLINK_NOFOLLOW) == 0;
}

bool mg__os_open_own(const char *path, mg__file *out) {
  *out = mg__file_own(
      open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  return out->fd >= 0;
}

uint64_t mg__os_written_unix_ms(int fd) {
  struct stat info;

  if (fstat(fd, &info) != 0 || info.st_mtim.tv_sec < 0) return 0;
  return (uint64_t)info.st_mtim.tv_sec * 1000u +
         (uint64_t)info.st_mtim.tv_nsec / 1000000u;
}
