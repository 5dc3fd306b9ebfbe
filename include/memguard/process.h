/* memguard/process.h - readings of this process and its machine.
 *
 * Hot readings use descriptors that stay open (statm, the control group's files,
 * meminfo); they are opened on first use and again after a fork. What a
 * kernel or a container hides is MG_ABSENT.
 *
 * Threads: any. */
#ifndef MEMGUARD_PROCESS_H
#define MEMGUARD_PROCESS_H

#include "memguard/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The monotonic clock, that of samples and pauses: CLOCK_MONOTONIC. Does not
 *  jump, may stand still while suspended. Cheap, no system call as a rule. */
MG_API uint64_t mg_clock_ns(void);
/** The same in milliseconds. */
MG_API double mg_clock_ms(void);

/** Resident set of this process in bytes, read now (below 1 us); MG_ABSENT
 *  without /proc. */
MG_API uint64_t mg_rss_bytes(void);

/** Gives the pages that malloc holds but does not use back to the system. May take
 *  some ms; other threads wait only where they use malloc meanwhile. @return false
 *  if this C library cannot. */
MG_API bool mg_trim_malloc(void);

/** Bytes that malloc has given out and not got back, all threads; MG_ABSENT if this
 *  C library does not count them (glibc does from 2.33 on). Some us, up to a
 *  millisecond with a large heap; other threads wait as above. */
MG_API uint64_t mg_malloc_bytes(void);

/** The same, and what malloc holds for it, of one moment. Both MG_ABSENT if this C
 *  library does not count. */
MG_API void mg_malloc_read(uint64_t *out_used_bytes, uint64_t *out_total_bytes);

/** Everything of a reading that the kernel knows; the heap fields stay
 *  MG_ABSENT. About 20 us. */
MG_API void mg_read_process(mg_reading *out);

/** X(field, doc): readings too costly for every sample, through libproc2. */
#define MG_PROCESS_MAP(X)                                               \
  X(rss_peak_bytes, "highest resident set since the program started")   \
  X(rss_anonymous_bytes, "resident anonymous memory")                   \
  X(rss_file_bytes, "resident file-backed memory")                      \
  X(rss_shared_bytes, "resident shared memory")                         \
  X(swap_bytes, "memory swapped out")                                   \
  X(locked_bytes, "locked memory")                                      \
  X(major_faults, "page faults that needed I/O")                        \
  X(minor_faults, "page faults that needed none")                       \
  X(threads, "threads of the process")                                  \
  X(cpu_ms, "user and system time used, in milliseconds")               \
  X(machine_total_bytes, "memory of the machine")                       \
  X(machine_available_bytes, "memory the machine can still give out")   \
  X(machine_cached_bytes, "page cache of the machine")                  \
  X(machine_swap_total_bytes, "swap of the machine")                    \
  X(machine_swap_free_bytes, "swap not in use")

typedef struct mg_process_info {
#define MG_PROCESS_FIELD(field, doc) uint64_t field;
  MG_PROCESS_MAP(MG_PROCESS_FIELD)
#undef MG_PROCESS_FIELD
} mg_process_info;

/** The wide reading (some 100 us). libproc2 is loaded by the first call.
 *  @return MG_OK, MG_EABSENT (no usable libproc2; the error says what to
 *  install), MG_ESYS. */
MG_API mg_status mg_read_process_info(mg_process_info *out, mg_error *err);

/** Around fork(). A binding whose runtime has hooks for it calls
 *  mg_fork_prepare() before, then the matching one after; both stop and
 *  restart memguard's threads, so that fork() sees a process without them. In
 *  the parent mg_fork_parent() may be called later than at once: nothing is
 *  sampled in between. A plain fork() without these calls is safe too: the child
 *  has no sampler until mg_fork_child() or the next mg_monitor_start(). */
MG_API void mg_fork_prepare(void);
MG_API void mg_fork_parent(void);
MG_API void mg_fork_child(void);

#ifdef __cplusplus
}
#endif
#endif
