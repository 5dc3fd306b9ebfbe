/* memguard/sample.h - what is known about the process at one moment.
 *
 * A reading is raw: numbers as the kernel and the runtime give them. A sample
 * is a reading judged against one manager's limits: usage, level, pressure.
 *
 * Usage is the highest ratio over separate domains, and the domain that won is
 * named. Rates of different things are never added up:
 *   cgroup       (used - reclaimable page cache) / limit, worst level to the root
 *   machine      1 - available / total
 *   address      mapped address space / RLIMIT_AS
 *   data         data segment / RLIMIT_DATA
 *   heap         heap used / limit of the runtime (V8: heap_size_limit)
 *   max_heap     heap used / max_heap_mb
 *   max_memory   resident set / max_memory_mb
 *
 * Threads: pure functions on the caller's data. */
#ifndef MEMGUARD_SAMPLE_H
#define MEMGUARD_SAMPLE_H

#include "memguard/base.h"
#include "memguard/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/** X(field, doc): every number of a reading, all uint64_t, MG_ABSENT if unknown.
 *  Bindings build their attribute tables from this list. */
#define MG_READING_MAP(X)                                                     \
  X(rss_bytes, "resident set of the process")                                 \
  X(shared_bytes, "part of the resident set backed by files or shared")       \
  X(virtual_bytes, "mapped address space")                                    \
  X(data_bytes, "data and stack, as counted against RLIMIT_DATA")             \
  X(machine_available_bytes, "memory the machine can still give out")         \
  X(machine_total_bytes, "memory of the machine")                             \
  X(cgroup_used_bytes, "use of the control group that is nearest its limit, " \
                       "without reclaimable page cache")                      \
  X(cgroup_limit_bytes, "limit of that control group")                        \
  X(address_limit_bytes, "soft RLIMIT_AS")                                    \
  X(data_limit_bytes, "soft RLIMIT_DATA")                                     \
  X(stall_total_us, "time some task of the group or machine was stalled "     \
                    "for memory, in microseconds since boot")                 \
  X(fd_count, "open file descriptors")                                        \
  X(thread_count, "threads of the process")                                   \
  X(heap_used_bytes, "runtime heap in use")                                   \
  X(heap_total_bytes, "runtime heap reserved")                                \
  X(heap_limit_bytes, "largest heap the runtime allows itself")               \
  X(external_bytes, "memory outside the heap owned by heap objects")          \
  X(array_buffer_bytes, "part of external memory held by array buffers")       \
  X(block_bytes, "bytes on the runtime's own heap in use, when last looked at")  \
  X(block_total_bytes, "bytes reserved for that heap, at the same moment")      \
  X(block_idle_bytes, "part of them without anything in it")                    \
  X(heap_objects, "objects or blocks on that heap, at the same moment")         \
  X(malloc_used_bytes, "bytes in use of the C allocator, as told with that")    \
  X(malloc_total_bytes, "bytes reserved by the C allocator, at the same moment") \
  X(total_alloc_bytes, "bytes the runtime allocated so far, freed ones too")    \
  X(cpu_us, "CPU time of the process, in microseconds")                         \
  X(active_connections, "connections in use of the program's pools")

typedef struct mg_reading {
#define MG_READING_FIELD(field, doc) uint64_t field;
  MG_READING_MAP(MG_READING_FIELD)
#undef MG_READING_FIELD
} mg_reading;

/** X(ID, name) */
#define MG_DOMAIN_MAP(X)       \
  X(NONE, "none")              \
  X(CGROUP, "cgroup")          \
  X(MACHINE, "machine")        \
  X(ADDRESS, "address")        \
  X(DATA, "data")              \
  X(HEAP, "heap")              \
  X(MAX_HEAP, "max_heap")      \
  X(MAX_MEMORY, "max_memory")

typedef enum mg_domain {
#define MG_DOMAIN_ENUM(id, name) MG_DOMAIN_##id,
  MG_DOMAIN_MAP(MG_DOMAIN_ENUM)
#undef MG_DOMAIN_ENUM
      MG_DOMAINS
} mg_domain;

/** X(ID, name) in rising order */
#define MG_LEVEL_MAP(X)     \
  X(NORMAL, "normal")       \
  X(ELEVATED, "elevated")   \
  X(HIGH, "high")           \
  X(CRITICAL, "critical")

typedef enum mg_level {
#define MG_LEVEL_ENUM(id, name) MG_LEVEL_##id,
  MG_LEVEL_MAP(MG_LEVEL_ENUM)
#undef MG_LEVEL_ENUM
      MG_LEVELS
} mg_level;

typedef struct mg_sample {
  uint64_t number;    /* 1 for a manager's first sample; 0 = no sample yet */
  uint64_t clock_ns;  /* monotonic clock */
  uint64_t unix_ms;   /* wall clock, milliseconds since 1970 */
  uint64_t peak_rss_bytes; /* highest resident set in any sample so far */
  double usage;       /* highest ratio over the domains; may exceed 1 */
  double pressure;    /* usage held inside 0.0 to 1.0 */
  mg_domain domain;   /* the domain `usage` comes from */
  mg_level level;
  mg_reading reading;
} mg_sample;

/** A reading with every field MG_ABSENT. */
MG_API void mg_reading_init(mg_reading *out);

/** The highest ratio of `reading` over the domains, against the limits of
 *  `config`. A domain whose numbers are absent, or whose limit is 0, has no
 *  vote; without any, usage is 0 and the domain is MG_DOMAIN_NONE. The first
 *  domain of the list wins a tie. */
MG_API double mg_usage(const mg_reading *reading, const mg_config *config,
                       mg_domain *out_domain);

/** @return what a number of bytes fell by; 0 if it did not, or either is
 *  MG_ABSENT. */
MG_API uint64_t mg_fall_bytes(uint64_t before, uint64_t after);

/** @return the name of the list above, or "unknown". */
MG_API const char *mg_domain_name(mg_domain domain);
MG_API const char *mg_level_name(mg_level level);

#ifdef __cplusplus
}
#endif
#endif
