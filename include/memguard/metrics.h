/* memguard/metrics.h - what segments say, as metrics.
 *
 * One table, MG_METRIC_MAP, names all of them: name, type, unit, help and group.
 * The canonical group is `memguard_*` and passes the linter of Prometheus; the
 * compatible group repeats the numbers under names that hosts had before, three of
 * which the linter does not like (memory_gc_pause_ns, memory_total_alloc_bytes,
 * memory_growth_rate_mb_per_minute).
 *
 * What is not known is left out: never 0, never NaN. So is a process that shows no
 * sample yet, but for its `memguard_process_info` and `memguard_process_up`.
 *
 *   labels     of everything a process shows: pid, program, runtime
 *   heap       alloc <= inuse <= sys, idle + inuse = sys. CPython: arenas and the
 *              blocks in them; V8: total, used and physical size of the heap
 *   alloc      heap_alloc + external memory + use of the C allocator as far as the
 *              runtime tells of them; sys: the same of what is reserved
 *   pauses     counters and histograms of one text agree: collections are the
 *              histogram's count, their time is its sum. A pause is counted at the
 *              first bound that its bucket (pause.h) does not reach over, so that
 *              a quantile is never too low
 *   gc share   CPU time of collections (their length where it is not measured)
 *              / CPU time of the process, both since its segment was made and up
 *              to the sample, at most 1
 *   growth     Theil-Sen slope (trend.h) of the resident set over the last
 *              MG_METRICS_GROWTH_MS; absent until that is filled
 *   services   sums over all processes of a program and runtime that ever were:
 *              accumulators of the dead (mg_segment_services) and what the listed
 *              processes show that are not in them, so they never fall
 *
 * Of a dead process only that it is down is shown by itself; its counters go on in
 * those of its service.
 *
 * Texts follow the Prometheus text format 0.0.4 and OpenMetrics 1.0.0. Label values
 * are escaped; control characters become U+FFFD, so does what is no UTF-8.
 *
 * Threads: pure but for the reading of segments, each of which belongs to one
 * thread at a time. */
#ifndef MEMGUARD_METRICS_H
#define MEMGUARD_METRICS_H

#include "memguard/segment.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_METRICS_PROCESSES 1024u /* shown of one list; the rest is counted */
#define MG_METRICS_BOUNDS 15u      /* of a histogram, without +Inf */
#define MG_METRICS_LABELS 5u       /* of one point at most */
#define MG_METRICS_GROWTH_MS 600000u

/** X(ID, name) */
#define MG_METRIC_TYPE_MAP(X) \
  X(GAUGE, "gauge")           \
  X(COUNTER, "counter")       \
  X(HISTOGRAM, "histogram")

typedef enum mg_metric_type {
#define MG_METRIC_TYPE_ENUM(id, name) MG_METRIC_##id,
  MG_METRIC_TYPE_MAP(MG_METRIC_TYPE_ENUM)
#undef MG_METRIC_TYPE_ENUM
      MG_METRIC_TYPES
} mg_metric_type;

/** Which metrics: a sum of bits. */
typedef enum mg_metrics_group {
  MG_METRICS_CANONICAL = 1,
  MG_METRICS_COMPATIBLE = 2,
  MG_METRICS_ALL = 3
} mg_metrics_group;

/** X(ID, type, group, name, unit, help). Unit: as OpenMetrics has it, "" if there
 *  is none. Labels besides those of the process stand in brackets of the help. */
#define MG_METRIC_MAP(X)                                                      \
  X(INFO, GAUGE, CANONICAL, "memguard_process_info", "",                      \
    "1, with the versions as labels [runtime_version, library_version].")     \
  X(UP, GAUGE, CANONICAL, "memguard_process_up", "",                          \
    "Whether the process is alive: 1 or 0.")                                  \
  X(SAMPLE_TIME, GAUGE, CANONICAL, "memguard_process_sample_timestamp_seconds", \
    "seconds", "When the process was sampled last, in seconds since 1970.")   \
  X(OPEN_TIME, GAUGE, CANONICAL, "memguard_process_recording_timestamp_seconds", \
    "seconds", "Since when collections, rounds and alerts are counted, in "   \
    "seconds since 1970.")                                                    \
  X(SAMPLES, COUNTER, CANONICAL, "memguard_process_samples_total", "",        \
    "Samples taken.")                                                         \
  X(CPU, COUNTER, CANONICAL, "memguard_process_cpu_seconds_total", "seconds", \
    "CPU time of the process, user and system.")                              \
  X(RSS, GAUGE, CANONICAL, "memguard_process_resident_memory_bytes", "bytes", \
    "Resident set.")                                                          \
  X(PEAK_RSS, GAUGE, CANONICAL, "memguard_process_resident_memory_peak_bytes", \
    "bytes", "Largest resident set of any sample.")                           \
  X(SHARED, GAUGE, CANONICAL, "memguard_process_shared_memory_bytes", "bytes", \
    "Part of the resident set that is backed by files or shared.")            \
  X(VIRTUAL, GAUGE, CANONICAL, "memguard_process_virtual_memory_bytes",       \
    "bytes", "Mapped address space.")                                         \
  X(FDS, GAUGE, CANONICAL, "memguard_process_open_fds", "",                   \
    "Open file descriptors.")                                                 \
  X(THREADS, GAUGE, CANONICAL, "memguard_process_threads", "", "Threads.")    \
  X(CONNECTIONS, GAUGE, CANONICAL, "memguard_active_connections", "",         \
    "Connections in use of all connection pools of the process.")             \
  X(ALLOC, GAUGE, CANONICAL, "memguard_allocated_memory_bytes", "bytes",      \
    "Memory in use: heap, external memory and C allocator, as far as known.") \
  X(TOTAL_ALLOC, COUNTER, CANONICAL, "memguard_allocated_bytes_total",        \
    "bytes", "Bytes allocated so far, freed ones included.")                  \
  X(SYS, GAUGE, CANONICAL, "memguard_reserved_memory_bytes", "bytes",         \
    "Memory reserved for heap, external memory and C allocator.")             \
  X(HEAP_ALLOC, GAUGE, CANONICAL, "memguard_heap_allocated_bytes", "bytes",   \
    "Bytes on the runtime's heap that are in use.")                           \
  X(HEAP_SYS, GAUGE, CANONICAL, "memguard_heap_reserved_bytes", "bytes",      \
    "Bytes reserved for the runtime's heap.")                                 \
  X(HEAP_IDLE, GAUGE, CANONICAL, "memguard_heap_idle_bytes", "bytes",         \
    "Reserved heap without anything in it.")                                  \
  X(HEAP_INUSE, GAUGE, CANONICAL, "memguard_heap_inuse_bytes", "bytes",       \
    "Reserved heap with something in it.")                                    \
  X(HEAP_LIMIT, GAUGE, CANONICAL, "memguard_heap_limit_bytes", "bytes",       \
    "Largest heap the runtime allows itself.")                                \
  X(HEAP_OBJECTS, GAUGE, CANONICAL, "memguard_heap_objects", "",              \
    "Objects or blocks alive on the runtime's heap.")                         \
  X(EXTERNAL, GAUGE, CANONICAL, "memguard_external_memory_bytes", "bytes",    \
    "Memory outside the heap that objects on it own.")                        \
  X(ARRAY_BUFFERS, GAUGE, CANONICAL, "memguard_array_buffer_memory_bytes",    \
    "bytes", "Part of the external memory that array buffers hold.")          \
  X(GROWTH, GAUGE, CANONICAL, "memguard_resident_memory_growth_bytes_per_second", \
    "", "Slope of the resident set over the last ten minutes.")               \
  X(GC_COLLECTIONS, COUNTER, CANONICAL, "memguard_gc_collections_total", "",  \
    "Garbage collections [kind].")                                            \
  X(GC_SECONDS, COUNTER, CANONICAL, "memguard_gc_seconds_total", "seconds",   \
    "Time spent in garbage collections [kind].")                              \
  X(GC_CPU, COUNTER, CANONICAL, "memguard_gc_cpu_seconds_total", "seconds",   \
    "CPU time of the collecting thread, where it is measured [kind].")        \
  X(GC_COLLECTED, COUNTER, CANONICAL, "memguard_gc_collected_objects_total",  \
    "", "Objects that collections freed, where the runtime tells [kind].")    \
  X(GC_PAUSE_MAX, GAUGE, CANONICAL, "memguard_gc_pause_longest_seconds",      \
    "seconds", "Longest collection [kind].")                                  \
  X(GC_PAUSE, HISTOGRAM, CANONICAL, "memguard_gc_pause_seconds", "seconds",   \
    "Length of garbage collections [kind].")                                  \
  X(GC_SHARE, GAUGE, CANONICAL, "memguard_gc_cpu_ratio", "ratio",             \
    "Share of collections in the CPU time of the process.")                        \
  X(USAGE, GAUGE, CANONICAL, "memguard_memory_usage_ratio", "ratio",          \
    "Use of the limit that is nearest; above 1 beyond it.")                   \
  X(PRESSURE, GAUGE, CANONICAL, "memguard_memory_pressure_ratio", "ratio",    \
    "The same, held inside 0 to 1.")                                          \
  X(LEVEL, GAUGE, CANONICAL, "memguard_memory_level", "",                     \
    "1 for the level in force, 0 for the others [level].")                    \
  X(LIMIT, GAUGE, CANONICAL, "memguard_memory_limit_bytes", "bytes",          \
    "Limits of memory [domain].")                                             \
  X(LIMIT_USED, GAUGE, CANONICAL, "memguard_memory_limit_used_bytes", "bytes", \
    "What counts against that limit [domain].")                               \
  X(LIMIT_NEAREST, GAUGE, CANONICAL, "memguard_memory_limit_nearest", "",     \
    "1 for the limit that usage is of, 0 for the others [domain].")           \
  X(POOLS, GAUGE, CANONICAL, "memguard_pools", "", "Open pools of buffers.")  \
  X(POOL_RENTED, GAUGE, CANONICAL, "memguard_pool_rented_buffers", "",        \
    "Buffers that are rented.")                                               \
  X(POOL_RENTED_BYTES, GAUGE, CANONICAL, "memguard_pool_rented_bytes",        \
    "bytes", "Bytes that are rented.")                                        \
  X(POOL_HELD_BYTES, GAUGE, CANONICAL, "memguard_pool_held_bytes", "bytes",   \
    "Bytes that pools hold, rented or idle.")                                 \
  X(POOL_SUSPECTED, GAUGE, CANONICAL, "memguard_pool_suspected_rentals", "",  \
    "Rentals that look forgotten.")                                           \
  X(ROUNDS, COUNTER, CANONICAL, "memguard_reclaim_rounds_total", "",          \
    "Rounds of reclaiming memory.")                                           \
  X(FREED, COUNTER, CANONICAL, "memguard_reclaim_freed_bytes_total", "bytes", \
    "What these rounds freed, measured.")                                     \
  X(ALERTS, COUNTER, CANONICAL, "memguard_alerts_total", "",                  \
    "Alerts raised, repeats included.")                                       \
  X(ALERTS_ACTIVE, GAUGE, CANONICAL, "memguard_alerts_active", "",            \
    "Alerts that fire now, only what there is of [kind, severity].")          \
  X(EVENTS_LOST, COUNTER, CANONICAL, "memguard_events_lost_total", "",        \
    "Events that a full queue evicted before the host took them.")            \
  X(OWN_CPU, COUNTER, CANONICAL, "memguard_own_cpu_seconds_total", "seconds", \
    "CPU time of memguard's sampling thread.")                                \
  X(ENDS, COUNTER, CANONICAL, "memguard_process_ends_total", "",              \
    "Processes of the service that ended [verdict].")                         \
  X(SERVICE_GC, COUNTER, CANONICAL, "memguard_service_gc_collections_total",  \
    "", "Garbage collections of all processes of the service [kind].")        \
  X(SERVICE_GC_SECONDS, COUNTER, CANONICAL,                                   \
    "memguard_service_gc_seconds_total", "seconds",                           \
    "Time of garbage collections of all processes of the service [kind].")    \
  X(SERVICE_ROUNDS, COUNTER, CANONICAL,                                       \
    "memguard_service_reclaim_rounds_total", "",                              \
    "Rounds of reclaiming memory of all processes of the service.")           \
  X(SERVICE_FREED, COUNTER, CANONICAL,                                        \
    "memguard_service_reclaim_freed_bytes_total", "bytes",                    \
    "What these rounds freed.")                                               \
  X(SERVICE_ALERTS, COUNTER, CANONICAL, "memguard_service_alerts_total", "",  \
    "Alerts of all processes of the service.")                                \
  X(OMITTED, GAUGE, CANONICAL, "memguard_processes_omitted", "",              \
    "Processes left out here because there are too many.")                    \
  X(MEMORY_ALLOC, GAUGE, COMPATIBLE, "memory_alloc_bytes", "bytes",           \
    "As memguard_allocated_memory_bytes.")                                    \
  X(MEMORY_TOTAL_ALLOC, COUNTER, COMPATIBLE, "memory_total_alloc_bytes",      \
    "bytes", "As memguard_allocated_bytes_total.")                            \
  X(MEMORY_SYS, GAUGE, COMPATIBLE, "memory_sys_bytes", "bytes",               \
    "As memguard_reserved_memory_bytes.")                                     \
  X(MEMORY_HEAP_ALLOC, GAUGE, COMPATIBLE, "memory_heap_alloc_bytes", "bytes", \
    "As memguard_heap_allocated_bytes.")                                      \
  X(MEMORY_HEAP_SYS, GAUGE, COMPATIBLE, "memory_heap_sys_bytes", "bytes",     \
    "As memguard_heap_reserved_bytes.")                                       \
  X(MEMORY_HEAP_IDLE, GAUGE, COMPATIBLE, "memory_heap_idle_bytes", "bytes",   \
    "As memguard_heap_idle_bytes.")                                           \
  X(MEMORY_HEAP_INUSE, GAUGE, COMPATIBLE, "memory_heap_inuse_bytes", "bytes", \
    "As memguard_heap_inuse_bytes.")                                          \
  X(MEMORY_HEAP_OBJECTS, GAUGE, COMPATIBLE, "memory_heap_objects", "",        \
    "As memguard_heap_objects.")                                              \
  X(MEMORY_GC_PAUSE, HISTOGRAM, COMPATIBLE, "memory_gc_pause_ns", "ns",       \
    "Length of garbage collections of all kinds, in nanoseconds.")            \
  X(MEMORY_GC_COUNT, COUNTER, COMPATIBLE, "memory_gc_count_total", "",        \
    "Garbage collections of all kinds.")                                      \
  X(MEMORY_GC_FRACTION, GAUGE, COMPATIBLE, "memory_gc_cpu_fraction", "",      \
    "As memguard_gc_cpu_ratio.")                                              \
  X(PROCESS_RSS, GAUGE, COMPATIBLE, "process_memory_rss_bytes", "bytes",      \
    "As memguard_process_resident_memory_bytes.")                             \
  X(MEMORY_GROWTH, GAUGE, COMPATIBLE, "memory_growth_rate_mb_per_minute", "", \
    "As memguard_resident_memory_growth_bytes_per_second, in MiB a minute.")  \
  X(MEMORY_PEAK_RSS, GAUGE, COMPATIBLE, "memory_peak_rss_bytes", "bytes",     \
    "As memguard_process_resident_memory_peak_bytes.")                        \
  X(GC_PAUSE_DURATION, HISTOGRAM, COMPATIBLE, "gc_pause_duration_seconds",    \
    "seconds", "As memguard_gc_pause_seconds [generation].")                  \
  X(GC_BY_GENERATION, COUNTER, COMPATIBLE,                                    \
    "gc_collections_by_generation_total", "",                                 \
    "As memguard_gc_collections_total [generation].")                         \
  X(PROCESS_FDS, GAUGE, COMPATIBLE, "process_open_fds", "",                   \
    "As memguard_process_open_fds.")                                          \
  X(ACTIVE_CONNECTIONS, GAUGE, COMPATIBLE, "active_connections", "",          \
    "As memguard_active_connections.")

typedef enum mg_metric {
#define MG_METRIC_ENUM(id, ...) MG_METRIC_##id,
  MG_METRIC_MAP(MG_METRIC_ENUM)
#undef MG_METRIC_ENUM
      MG_METRICS /* how many there are */
} mg_metric;

/** One row of the table. All strings are static. */
typedef struct mg_metric_row {
  mg_metric_type type;
  mg_metrics_group group;
  const char *name, *unit, *help;
} mg_metric_row;

/** @return row `metric` [borrowed, static]; NULL if out of range. */
MG_API const mg_metric_row *mg_metric_row_at(mg_metric metric);
/** @return the name of the list above, or "unknown". */
MG_API const char *mg_metric_type_name(mg_metric_type type);
/** @return bound `index` of all histograms, in ns; UINT64_MAX from
 *  MG_METRICS_BOUNDS on (+Inf). */
MG_API uint64_t mg_metrics_bound_ns(uint32_t index);

/** A process to show. */
typedef struct mg_metrics_process {
  mg_segment *segment; /* [borrowed] histograms and points are read from it */
  const mg_segment_header *header; /* [borrowed] mg_segment_header_of() */
  const mg_segment_view *view;     /* [borrowed] mg_segment_read() */
  bool is_alive;                   /* mg_segment_is_alive() */
} mg_metrics_process;

/** X(ID, content type) */
#define MG_METRICS_FORMAT_MAP(X)                                         \
  X(PROMETHEUS, "text/plain; version=0.0.4; charset=utf-8")              \
  X(OPENMETRICS,                                                         \
    "application/openmetrics-text; version=1.0.0; charset=utf-8")

typedef enum mg_metrics_format {
#define MG_METRICS_FORMAT_ENUM(id, type) MG_METRICS_##id,
  MG_METRICS_FORMAT_MAP(MG_METRICS_FORMAT_ENUM)
#undef MG_METRICS_FORMAT_ENUM
      MG_METRICS_FORMATS
} mg_metrics_format;

/** @return the Content-Type of a format [borrowed, static]. */
MG_API const char *mg_metrics_content_type(mg_metrics_format format);

/** Renders a list of processes and services as one text.
 *  @param out [owned] NUL-terminated; release with mg_free_text(). NULL unless
 *  MG_OK.
 *  @param out_bytes [may be NULL] its length without the NUL.
 *  @param list [borrowed, may be NULL if count is 0] the first
 *  MG_METRICS_PROCESSES are shown.
 *  @param services [borrowed, may be NULL] of mg_segment_services(). With NULL
 *  nothing is said of services: a process renders itself so.
 *  @param groups MG_METRICS_CANONICAL, _COMPATIBLE or _ALL.
 *  @return MG_OK, MG_EINVAL (foreign format, no group), MG_ENOMEM. */
MG_API mg_status mg_metrics_render(char **out, size_t *out_bytes,
                                   const mg_metrics_process *list, size_t count,
                                   const mg_segment_service *services,
                                   size_t service_count,
                                   mg_metrics_format format, uint32_t groups,
                                   mg_error *err);

/** A label as it is: escaped only in texts. */
typedef struct mg_metrics_label {
  const char *name, *value;
} mg_metrics_label;

/** A histogram. bucket[i] counts pauses of at most bound i, bucket[0] to
 *  bucket[i] together; the last one is +Inf and equals `count`. */
typedef struct mg_metrics_histogram {
  uint64_t count, sum_ns;
  uint64_t bucket[MG_METRICS_BOUNDS + 1];
} mg_metrics_histogram;

/** One time series at this moment. [all borrowed until the visit returns] */
typedef struct mg_metrics_point {
  mg_metric metric;
  size_t process;      /* index in the list; SIZE_MAX: of a service or of none */
  uint32_t labels;     /* of a process, its own three come first */
  mg_metrics_label label[MG_METRICS_LABELS];
  double value;        /* in the metric's unit; of a histogram its sum */
  const mg_metrics_histogram *histogram; /* NULL if it is none */
} mg_metrics_point;

/** The same as points, for bridges: family by family in the order of the table.
 *  @param visit returns false to end it. Must not use the segments.
 *  @return MG_OK (also when a visit ended it), MG_EINVAL, MG_ENOMEM. */
MG_API mg_status mg_metrics_each(const mg_metrics_process *list, size_t count,
                                 const mg_segment_service *services,
                                 size_t service_count, uint32_t groups,
                                 bool (*visit)(void *ctx,
                                               const mg_metrics_point *point),
                                 void *ctx, mg_error *err);

/** This process alone, read just now: mg_segment_open_own() and the above. Any
 *  thread. */
MG_API mg_status mg_metrics_render_own(char **out, size_t *out_bytes,
                                       mg_metrics_format format,
                                       uint32_t groups, mg_error *err);
MG_API mg_status mg_metrics_each_own(uint32_t groups,
                                     bool (*visit)(void *ctx,
                                                   const mg_metrics_point *),
                                     void *ctx, mg_error *err);
/** The same for all living processes of this one's process group and user that show
 *  themselves: what was started together, as a server and its workers. Each is in it
 *  once. Others come in no order after this one. Any thread. */
MG_API mg_status mg_metrics_each_group(uint32_t groups,
                                       bool (*visit)(void *ctx,
                                                     const mg_metrics_point *),
                                       void *ctx, mg_error *err);

/** Counts connections of the host's pools in use, up or down; the next samples
 *  carry their sum. Any thread, no lock. */
MG_API void mg_metrics_add_connections(int64_t change);

#ifdef __cplusplus
}
#endif
#endif
