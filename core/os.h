/* os.h - what the core needs of an operating system; one implementation each
 * under os/. Includes flow one way: os/X.c includes this header, nothing else
 * of the core but internal.h.
 *
 * Contract of all functions: no global state beyond what is documented, no
 * signal is ever handled or unblocked, descriptors are close-on-exec, threads
 * run with all signals blocked. Readings that do not exist are MG_ABSENT. */
#ifndef MG_CORE_OS_H
#define MG_CORE_OS_H

#include <pthread.h>
#include <semaphore.h>

#include "memguard/census.h"
#include "memguard/process.h"

/* ---- os/linux.c: time (mg_clock_ns: process.h), threads, fork --------- */

/** Wall clock, milliseconds since 1970. */
uint64_t mg__os_unix_ms(void);
void mg__os_sleep_ms(double ms);
/** CPU time of the process, or of the calling thread, in microseconds. */
uint64_t mg__os_cpu_us(bool of_thread);

typedef struct mg__mutex {
  pthread_mutex_t native;
} mg__mutex;
#define MG__MUTEX_INIT {PTHREAD_MUTEX_INITIALIZER}
mg_status mg__mutex_init(mg__mutex *mutex, mg_error *err);
void mg__mutex_destroy(mg__mutex *mutex);
void mg__lock(mg__mutex *mutex);
/** @return whether it was free, and is held now. */
bool mg__try_lock(mg__mutex *mutex);
void mg__unlock(mg__mutex *mutex);
/** Brings a mutex that was held across fork() back to unlocked in the child. */
void mg__mutex_reset(mg__mutex *mutex);

typedef struct mg__cond {
  pthread_cond_t native;
} mg__cond;
#define MG__COND_INIT {PTHREAD_COND_INITIALIZER}
/** Waits with `mutex` held; may return early, so wait in a loop. */
void mg__cond_wait(mg__cond *cond, mg__mutex *mutex);
/** As above, for at most `ms`. */
void mg__cond_wait_ms(mg__cond *cond, mg__mutex *mutex, double ms);
void mg__cond_wake_all(mg__cond *cond);
/** In a forked child: forgets waiters that did not come along. */
void mg__cond_reset(mg__cond *cond);

/** A counter to wait for: posting takes no lock, so it is safe inside an
 *  allocator and in a signal handler. Each post ends one wait, earlier or later. */
typedef struct mg__signal {
  sem_t native;
} mg__signal;
/** Sets the count to 0; also in a forked child. */
void mg__signal_reset(mg__signal *signal);
void mg__signal_post(mg__signal *signal);
/** May return early, so wait in a loop. */
void mg__signal_wait(mg__signal *signal);

typedef struct mg__thread {
  pthread_t native;
} mg__thread;
/** Starts `run(ctx)` with all signals blocked. @param name at most 15 bytes.
 *  @param stack_bytes what `run` may use; libc's own share comes on top.
 *  0: the system's default.
 *  @return MG_OK, MG_ENOMEM, MG_ESYS. */
mg_status mg__thread_start(mg__thread *out, const char *name,
                           size_t stack_bytes, void (*run)(void *), void *ctx,
                           mg_error *err);
void mg__thread_join(mg__thread *thread);
/** Instead of a join: what the thread holds is freed when it ends. */
void mg__thread_detach(mg__thread *thread);
mg__thread mg__thread_self(void);
/** @return whether this is the calling thread. */
bool mg__thread_is_self(const mg__thread *thread);

/** Registers fork handlers (pthread_atfork order rules). Only the first call of
 *  a process registers; later ones do nothing.
 *  @return MG_OK, MG_ENOMEM. */
mg_status mg__os_at_fork(void (*before)(void), void (*parent)(void),
                         void (*child)(void), mg_error *err);

/** The same, each time it is called: the caller keeps count. */
mg_status mg__os_add_fork_handlers(void (*before)(void), void (*parent)(void),
                                   void (*child)(void), mg_error *err);
/** A key whose `ended` runs, with the value, on a thread that set one and ends.
 *  @return MG_OK, MG_ESYS. */
typedef struct mg__thread_key {
  pthread_key_t native;
} mg__thread_key;
mg_status mg__thread_key_open(mg__thread_key *out, void (*ended)(void *),
                              mg_error *err);
void mg__thread_key_close(mg__thread_key *key);
/** @return whether there was memory for it. */
bool mg__thread_key_set(mg__thread_key *key, const void *value);

/** Makes `path` absolute.
 *  @return MG_OK, MG_EINVAL (empty, too long), MG_ESYS. */
mg_status mg__os_absolute_path(char *out, size_t out_bytes, const char *path,
                               mg_error *err);
/** Removes a file. @return 0 or errno; a file already gone is 0. */
int mg__os_unlink(const char *path);

/* Hosts that turn into daemons close every descriptor, ours too, and open their
 * own under the same numbers. So a file remembers what it opened, and is never
 * closed once its number belongs to somebody else. */
typedef struct mg__file {
  int fd; /* -1: not open */
  uint64_t device, inode;
} mg__file;
#define MG__FILE_NONE {-1, 0, 0}
/* Descriptors that the program has left, whatever we would like to read: the last
 * so many of its limit, or half of it. */
#define MG__FILES_LEFT 16u
/** @param flags of open(2); close-on-exec is added.
 *  @return whether it opened; errno is EMFILE if the program would run short. */
bool mg__file_open(mg__file *out, const char *path, int flags);
/** Remembers what `fd` (-1 allowed) is and owns it from now on. */
mg__file mg__file_own(int fd);
/** @return false also for a file that is not open. */
bool mg__file_is_ours(const mg__file *file);
void mg__file_close(mg__file *file);
/** Reads text from the start into `out`, NUL-terminated. What does not fit is
 *  cut off after the last whole line.
 *  @return 0 or errno; `out` is empty unless 0. */
int mg__file_read(int fd, char *out, size_t out_bytes);
/** The whole text of a file. @return [owned] mg__free(); NULL if it cannot be
 *  read, is longer than 4 MiB, or there is no memory. */
char *mg__file_text(const char *path);

/* ---- os/linux_memory.c: pages ------------------------------------------ */

size_t mg__os_page_bytes(void);
/** Whole pages, readable, writable, zero, not yet resident.
 *  @return NULL when there are none. */
void *mg__os_map(size_t bytes);
/** @return false if the system cannot (it keeps too many pieces apart): the
 *  pages are as they were. */
bool mg__os_unmap(void *block, size_t bytes);
/** Gives whole pages back; they stay mapped and read as zero afterwards. */
void mg__os_discard(void *block, size_t bytes);
/** From now on any access ends the process. @return false if not possible. */
bool mg__os_forbid(void *block, size_t bytes);

/* ---- os/linux_proc.c: the reader --------------------------------------- */

/** Descriptors kept open under /proc/self, on meminfo, the control group and
 *  PSI. After a fork they describe the parent: close, open again.
 *  Threads: the caller's lock, except mg__os_rss(), which any thread may call
 *  at the same time as anything but open and close. */
typedef struct mg__os mg__os;

/** @param root prefix of every /proc and /sys path, "" in production; tests
 *  point it at a directory tree of their own.
 *  Never fails for want of files: what cannot be opened is MG_ABSENT and tried
 *  again now and then (a control group may appear later).
 *  @return MG_OK, MG_ENOMEM, MG_EINVAL (root too long). */
mg_status mg__os_open(mg__os **out, const char *root, mg_error *err);
void mg__os_close(mg__os *os);
/** Fills the kernel's part of a reading; heap fields become MG_ABSENT. Opens
 *  control-group files again when the process moved to another group (looked at
 *  at most every MG__OS_REOPEN_MS), reads limits every time. */
void mg__os_read(mg__os *os, mg_reading *out);
uint64_t mg__os_rss(const mg__os *os);
uint64_t mg__os_fd_count(const mg__os *os);
/** Calls `note` with each name in the open folder but hidden ones, "." and "..",
 *  until it returns false. Allocates nothing. @return 0 or errno. */
int mg__os_each_name(int folder, bool (*note)(void *context, const char *name),
                     void *context);
/** Most descriptors and threads that the process may have; 0: not known. */
void mg__os_read_limits(uint64_t *out_fds, uint64_t *out_threads);
#define MG__OS_REOPEN_MS 5000.0
/** What mg__os_read() does every MG__OS_REOPEN_MS, now: opens what is missing
 *  or was closed by the host, follows the process into another group. */
void mg__os_refresh(mg__os *os);
/** Changes when the control group or one of its limits did, as seen by the last
 *  refresh: mg__os_events opened before are out of date. */
uint32_t mg__os_epoch(const mg__os *os);
/** [borrowed] */
const char *mg__os_root(const mg__os *os);

/* ---- os/linux_footprint.c: what the process holds ---------------------- */

enum {
  MG__FOOTPRINT_ROLLUP,
  MG__FOOTPRINT_MAPS,
  MG__FOOTPRINT_FDS,
  MG__FOOTPRINT_FILES
};

/** Kept-open files. After a fork they describe the parent: close. Threads: the
 *  caller's lock. */
typedef struct mg__footprint {
  const char *root; /* [borrowed] as of mg__os_open() */
  mg__file file[MG__FOOTPRINT_FILES];
} mg__footprint;
#define MG__FOOTPRINT_INIT(root) \
  {root, {MG__FILE_NONE, MG__FILE_NONE, MG__FILE_NONE}}

/** All MG_ABSENT if not known. */
typedef struct mg__holdings {
  uint64_t private_bytes; /* pages that no other process shares */
  uint64_t mappings;
  uint64_t sockets, pipes, files, others; /* descriptors by kind */
} mg__holdings;

/** Opened again by the next reading. */
void mg__footprint_close(mg__footprint *footprint);
/** Opens what is not open; what cannot be opened is absent. Some 100 us and more: it grows with resident memory, mappings, descriptors. */
void mg__footprint_read(mg__footprint *footprint, mg__holdings *out);
/** Private_Clean + Private_Dirty of an smaps_rollup text; MG_ABSENT if either is
 *  missing. Pure. */
uint64_t mg__parse_private(const char *text);

/* ---- os/linux_cgroup.c: control groups v1, v2, hybrid ------------------ */

#define MG__CGROUP_LEVELS 16
#define MG__PATH_BYTES 4096

typedef struct mg__cgroup_level {
  mg__file usage, limit;
  mg__file high, stat; /* may be missing */
  int steps_up;        /* directories above level[0] */
} mg__cgroup_level;

/** The process's memory control group and its ancestors, innermost first. A
 *  level that shows no usage or no limit is left out. */
typedef struct mg__cgroup {
  int version; /* 0 none found, 1, 2 */
  int count;
  mg__cgroup_level level[MG__CGROUP_LEVELS];
  char directory[MG__PATH_BYTES]; /* of level[0]; empty if none */
  size_t top_bytes;               /* part of `directory` not to be left */
  char unified[MG__PATH_BYTES];   /* v2 group of the process, also where v1
                                     counts memory; empty if none */
} mg__cgroup;

/** Finds the group through <root>/proc/self/cgroup and mountinfo: v2, v1 and
 *  hybrid (the v1 memory controller wins where it is mounted); a container that
 *  sees its own group as the root of the mount; bind-mounted sub-trees. */
void mg__cgroup_open(mg__cgroup *out, const char *root);
void mg__cgroup_close(mg__cgroup *group);
/** The level with the highest used / limit, limit = min(max, high) on v2, held
 *  to `machine_total`; unlimited levels ("max", or at least the page-rounded
 *  INT64_MAX of v1) have no vote. used = usage - active_file - inactive_file -
 *  slab_reclaimable, not below 0. Both MG_ABSENT if no level is limited. */
void mg__cgroup_read(const mg__cgroup *group, uint64_t machine_total,
                     uint64_t *out_used, uint64_t *out_limit);
/** min(max, high) of one level as it is now. @return MG_ABSENT if unlimited or
 *  not readable. */
uint64_t mg__cgroup_limit(const mg__cgroup_level *level);
/** Directory of level `index`; `out` empty if it does not fit. */
void mg__cgroup_directory(const mg__cgroup *group, int index, char *out,
                          size_t out_bytes);
/** mg__os's group. [borrowed] valid until its next read, refresh or close. */
const mg__cgroup *mg__os_cgroup(const mg__os *os);

/* Pure parsers, fuzzed: any bytes, NUL-terminated. */

/** Unsigned decimal at the start of `text`, ended by white space or the end.
 *  @return false if there is none, or it does not fit below MG_ABSENT. */
bool mg__parse_u64(const char *text, uint64_t *out);
/** Value after "key " or "key:" at a line start. One with the unit kB
 *  ("MemAvailable:  123 kB") comes out in bytes.
 *  @return MG_ABSENT if there is no such line or it holds no number. */
uint64_t mg__parse_keyed(const char *text, const char *key);
/** "max" or a number; MG_ABSENT = unlimited. @return false if neither. */
bool mg__parse_cgroup_limit(const char *text, uint64_t *out);
/** Path of the group in /proc/self/cgroup text: version 2 = the "0::" line,
 *  1 = the line with the memory controller. @return false if there is none. */
bool mg__parse_cgroup_path(const char *text, int version, char *out,
                           size_t out_bytes);
/** Mount point and mounted root of the cgroup2 (version 2) or v1 memory
 *  hierarchy in mountinfo text, octal escapes undone. Of several mounts the one
 *  that shows the most ancestors of `path` is taken; one that does not show
 *  `path` at all is of no use. @return false if there is none. */
bool mg__parse_cgroup_mount(const char *text, int version, const char *path,
                            char *out_root, char *out_point, size_t out_bytes);
/** total= of the "some" line of a PSI file, in us; MG_ABSENT if none. */
uint64_t mg__parse_psi_total(const char *text);

/* ---- os/linux_events.c: what wakes the sampler ------------------------- */

/** Padding may be missing. Pure, fuzzed. @return bytes decoded, or -1 if `text` is not
 *  base64 or does not fit. */
long mg__parse_base64(const char *text, char *out, size_t out_bytes);

/** A waker and the kernel's notices about memory, the best there are: once armed
 *  a PSI trigger ($MEMORY_PRESSURE_WATCH, own group, machine), memory.events of
 *  v2, a usage threshold of v1. All but the waker may be missing. */
typedef struct mg__os_events mg__os_events;

typedef enum mg__wake {
  MG__WAKE_TIMER,
  MG__WAKE_ASKED,
  MG__WAKE_KERNEL,
  MG__WAKE_PEER
} mg__wake;

/** @param os [borrowed] during the call, for root and control group.
 *  @param threshold_ratio share of the v1 limit at which to be told (0 to 1).
 *  @return MG_OK, MG_ENOMEM, MG_ESYS (not even the waker). */
mg_status mg__os_events_open(mg__os_events **out, const mg__os *os,
                             double threshold_ratio, mg_error *err);
/** May take some 10 ms once armed: not with a lock held that a host waits for. */
void mg__os_events_close(mg__os_events *events);
/** Adds the notices of PSI; later calls do nothing. On the waiting thread. */
void mg__os_events_arm(mg__os_events *events, const mg__os *os);
/** Sleeps until something happens or `timeout_ms` (< 0: no end) goes by. A
 *  descriptor that reports an error or hangs up is dropped, never spun on; the
 *  kernel's notices are taken at most once per MG__OS_EVENT_GAP_MS. */
mg__wake mg__os_events_wait(mg__os_events *events, double timeout_ms);
#define MG__OS_EVENT_GAP_MS 50.0
/** Sockets to be looked at meanwhile. */
#define MG__PEERS 5
typedef struct mg__peer {
  int fd;
  bool to_send;
} mg__peer;
typedef struct mg__peers {
  int count;
  double due_ms; /* < 0: never */
  mg__peer peer[MG__PEERS];
} mg__peers;
/** The same; ends with MG__WAKE_PEER when one of `peers` is ready or its time is
 *  due. */
mg__wake mg__os_events_wait_with(mg__os_events *events, double timeout_ms,
                                 const mg__peers *peers);
/** Ends the current or the next wait. Any thread; async-signal-safe. */
void mg__os_events_wake(mg__os_events *events);
/** Bits: 1 PSI, 2 memory.events, 4 v1 threshold (for tests and reports). */
uint32_t mg__os_events_kinds(const mg__os_events *events);

/* ---- census_name.c, os/linux_census.c: what is open and mapped ----------- */

/** `path` with '#' for the numbers in it; see mg_census_fds(). */
void mg__census_unnumber(char *out, size_t out_bytes, const char *path);
/** The name for what a link in /proc/self/fd says; not for sockets. */
void mg__census_target(char out[MG_CENSUS_NAME_BYTES], const char *link);
/** The name for the path of a mapping in smaps; empty: that of a segment, which is
 *  ours. */
void mg__census_mapping(char out[MG_CENSUS_NAME_BYTES], const char *path);
/** @param root as mg__os_open(). */
mg_status mg__census_fds(mg_census *census, const char *root, mg_error *err);
mg_status mg__census_maps(mg_census *census, const char *root, mg_error *err);
/* ---- os/linux_segment.c: files that several processes see -------------- */

/** Which process this is, and which program. */
typedef struct mg__os_identity {
  uint32_t pid, uid;
  uint64_t pid_namespace, start_time; /* 0 if unknown */
  uint64_t argv_hash;
  char boot_id[40]; /* 32 hex digits, all 0 if unknown */
  char program[64];
} mg__os_identity;
void mg__os_identify(mg__os_identity *out);
/** Start time of a process that is there and is no zombie. @return 0 if none. */
uint64_t mg__os_start_time(uint32_t pid);

/** Whether a process is in the process group of this one. */
bool mg__os_is_of_group(uint32_t pid);

uint32_t mg__os_user(void);
/** The count in a file of a control group's file system; a path that leads
 *  elsewhere is not opened. @return MG_ABSENT if there is none. */
uint64_t mg__os_oom_kills(const char *path);

/** Makes `path` (mode 0700) if it is missing. It must be a directory in memory,
 *  of this user or root, where nobody else can write or remove our files.
 *  @return MG_OK, MG_EINVAL, MG_ESYS. */
mg_status mg__os_make_directory(const char *path, mg_error *err);

/** A locked file that is mapped to be written. No descriptor of it stays open:
 *  the mapping alone keeps the lock, whatever the host closes. */
typedef struct mg__os_shared {
  void *map; /* NULL: never mapped. Stays mapped for ever, because a collection
                callback may be writing: leaving puts memory of our own there */
  size_t bytes;
  uint64_t device, inode; /* of the file that was mapped last */
} mg__os_shared;
/** Makes `path` + ".new", locked, its blocks allocated, and maps it where
 *  `shared` was mapped before. @return MG_OK, MG_EEXISTS (somebody in this very
 *  process does the same), MG_ESYS. */
mg_status mg__os_shared_make(mg__os_shared *shared, const char *path,
                             size_t bytes, mg_error *err);
/** Maps memory of this process alone there instead, zeroed; the file that was left
 *  can still be resumed. @return MG_OK, MG_ENOMEM. */
mg_status mg__os_shared_keep(mg__os_shared *shared, size_t bytes,
                             mg_error *err);
/** Gives it its name. @return as above; then nothing of it is left. */
mg_status mg__os_shared_show(mg__os_shared *shared, const char *path,
                             mg_error *err);
/** Lets go of the file and its lock, at a stop and in a forked child. */
void mg__os_shared_leave(mg__os_shared *shared);
/** Locks and maps the file again that was left. @return false if it is not there
 *  any more. */
bool mg__os_shared_resume(mg__os_shared *shared, const char *path);
/** Writes to the file that was left. Async-signal-safe. */
void mg__os_shared_write(const mg__os_shared *shared, const char *path,
                         const void *data, size_t bytes, uint64_t offset);
/** Whether `path` is still that file. */
bool mg__os_shared_is_at(const mg__os_shared *shared, const char *path);

/** Opens a file to read. @return MG_OK, MG_ENOTFOUND, MG_EFOREIGN (no plain file),
 *  MG_ESYS. */
mg_status mg__os_open_plain(mg__file *out, const char *path, mg_error *err);
/** @return bytes read at `offset`, fewer at the end; -1: errno is set. */
long mg__os_read_at(int fd, void *out, size_t bytes, uint64_t offset);
bool mg__os_write_at(int fd, const void *data, size_t bytes, uint64_t offset);
uint64_t mg__os_file_bytes(int fd);
/** Tries for a lock without waiting. */
bool mg__os_lock(int fd, bool is_exclusive);
void mg__os_unlock(int fd);

/** Goes through the names of a directory, step by step. */
typedef struct mg__os_listing mg__os_listing;
/** @return MG_OK, MG_ENOTFOUND, MG_ENOMEM, MG_ESYS. */
mg_status mg__os_list(mg__os_listing **out, const char *path, mg_error *err);
/** @return the next name [borrowed until the next call]; NULL at the end. */
const char *mg__os_list_next(mg__os_listing *listing);
void mg__os_list_close(mg__os_listing *listing);
/** For the files of a listing: opens one, removes it if it is still that file. */
bool mg__os_list_open(const mg__os_listing *listing, const char *name,
                      mg__file *out, bool is_written);
bool mg__os_list_remove(const mg__os_listing *listing, const char *name,
                        const mg__file *file);
/** Removes a name, whatever it is but a directory. */
void mg__os_list_drop(const mg__os_listing *listing, const char *name);
bool mg__os_list_has(const mg__os_listing *listing, const char *name);
/** Opens a file to be written, and makes it (mode 0600) if it is missing. */
bool mg__os_open_own(const char *path, mg__file *out);
/** @return when a file was written last; 0 if unknown. */
uint64_t mg__os_written_unix_ms(int fd);

/* ---- os/linux_control.c: local sockets ---------------------------------- */

/** Listens on `path` (mode 0600); what is there is removed. None of these waits.
 *  @return MG_OK, MG_ESYS. */
mg_status mg__os_socket_listen(mg__file *out, const char *path, mg_error *err);
/** @return MG_OK, MG_ENOTFOUND, MG_ETIMEOUT (its queue is full), MG_ESYS. */
mg_status mg__os_socket_connect(mg__file *out, const char *path, mg_error *err);
/** Takes a connection; `out` is not open if its peer is neither of this user nor
 *  root. @return false if none waits. */
bool mg__os_socket_accept(const mg__file *listener, mg__file *out);
/** @return bytes; 0: none now; -1: it is over. */
long mg__os_socket_receive(const mg__file *file, void *out, size_t bytes);
long mg__os_socket_send(const mg__file *file, const void *data, size_t bytes);
/** Waits for at most `ms`. @return whether it is ready. */
bool mg__os_socket_wait(const mg__file *file, bool to_send, double ms);

#endif
