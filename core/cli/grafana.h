/* grafana.h - the Grafana dashboard that the tool prints, as a table.
 *
 * It follows the conventions of Grafana's dashboard linter: the data source, job and
 * instance are variables, each query names job and instance, rates are taken over
 * $__rate_interval, each panel has a title, a description and a unit. */
#ifndef MG_CLI_GRAFANA_H
#define MG_CLI_GRAFANA_H

/* What every query selects by; queries may add labels behind it. */
#define GRAFANA_BY \
  "job=~\"$job\",instance=~\"$instance\",program=~\"$program\""
#define GRAFANA_ALL "{" GRAFANA_BY "}"
#define GRAFANA_WHO "{{program}} {{pid}}"
#define GRAFANA_RATE(name) "rate(" name GRAFANA_ALL "[$__rate_interval])"
#define GRAFANA_PAUSE(quantile)                                              \
  "histogram_quantile(" quantile ", sum by (job, instance, program, pid, le) " \
  "(" GRAFANA_RATE("memguard_gc_pause_seconds_bucket") "))"

/** X(type, title, unit, description, query, legend, second query, its legend): a
 *  row's title alone begins a row; "" where there is no second query. Four panels of
 *  type stat fill a line, else two. */
#define GRAFANA_MAP(X)                                                         \
  X("row", "Now", "", "", "", "", "", "")                                      \
  X("stat", "Processes", "none", "Processes under memguard that are alive.",   \
    "sum(memguard_process_up" GRAFANA_ALL ")", "alive", "", "")                \
  X("stat", "Resident memory", "bytes", "Resident sets of all of them.",       \
    "sum(memguard_process_resident_memory_bytes" GRAFANA_ALL ")", "resident",  \
    "", "")                                                                    \
  X("stat", "Highest use of a limit", "percentunit",                           \
    "Of the process that is nearest to its limit: its control group, the "     \
    "machine, an rlimit, its heap or its own setting.",                        \
    "max(memguard_memory_usage_ratio" GRAFANA_ALL ")", "usage", "", "")        \
  X("stat", "Largest share of time in collections", "percentunit",             \
    "Of CPU time, since the process is watched.",                              \
    "max(memguard_gc_cpu_ratio" GRAFANA_ALL ")", "share", "", "")              \
  X("row", "Memory", "", "", "", "", "", "")                                   \
  X("timeseries", "Resident memory of each process", "bytes",                  \
    "Resident set, and the largest there was.",                                \
    "memguard_process_resident_memory_bytes" GRAFANA_ALL, GRAFANA_WHO,         \
    "memguard_process_resident_memory_peak_bytes" GRAFANA_ALL,                 \
    GRAFANA_WHO " peak")                                                       \
  X("timeseries", "Use of the nearest limit", "percentunit",                   \
    "Memory is short from 80 % on, and critical from 95 % on, unless set "     \
    "otherwise.",                                                              \
    "memguard_memory_usage_ratio" GRAFANA_ALL, GRAFANA_WHO, "", "")            \
  X("timeseries", "Heap", "bytes",                                             \
    "Bytes on the runtime's heap that are in use, and those reserved for it.", \
    "memguard_heap_allocated_bytes" GRAFANA_ALL, GRAFANA_WHO " used",          \
    "memguard_heap_reserved_bytes" GRAFANA_ALL, GRAFANA_WHO " reserved")       \
  X("timeseries", "Resident memory that is not heap", "bytes",                 \
    "Native code, buffers, stacks, and what the C allocator keeps. What "      \
    "grows here and not in the heap is no object of the runtime.",             \
    "clamp_min(memguard_process_resident_memory_bytes" GRAFANA_ALL             \
    " - memguard_heap_reserved_bytes" GRAFANA_ALL ", 0)", GRAFANA_WHO, "", "") \
  X("timeseries", "Objects on the heap", "short",                              \
    "Objects or blocks alive, where the runtime tells.",                       \
    "memguard_heap_objects" GRAFANA_ALL, GRAFANA_WHO, "", "")                  \
  X("timeseries", "Growth", "Bps",                                             \
    "Slope of the resident set over ten minutes; absent until they are over.", \
    "memguard_resident_memory_growth_bytes_per_second" GRAFANA_ALL,            \
    GRAFANA_WHO, "", "")                                                       \
  X("row", "Collections", "", "", "", "", "", "")                              \
  X("timeseries", "Length of collections", "s",                                \
    "95 and 99 of 100 collections are not longer.",                            \
    GRAFANA_PAUSE("0.95"), GRAFANA_WHO " P95", GRAFANA_PAUSE("0.99"),          \
    GRAFANA_WHO " P99")                                                        \
  X("timeseries", "Collections by kind", "ops",                                \
    "Collections a second, by generation (Python) or kind (Node).",            \
    "sum by (job, instance, program, kind) ("                                  \
    GRAFANA_RATE("memguard_gc_collections_total") ")", "{{program}} {{kind}}", \
    "", "")                                                                    \
  X("timeseries", "Time in collections", "percentunit",                        \
    "Share of the time that passed.",                                          \
    "sum by (job, instance, program, pid) ("                                   \
    GRAFANA_RATE("memguard_gc_seconds_total") ")", GRAFANA_WHO, "", "")        \
  X("timeseries", "CPU time", "percentunit",                                   \
    "User and system, in processors; and that of memguard's own thread.",      \
    GRAFANA_RATE("memguard_process_cpu_seconds_total"), GRAFANA_WHO,           \
    GRAFANA_RATE("memguard_own_cpu_seconds_total"), GRAFANA_WHO " memguard")   \
  X("row", "What memguard did", "", "", "", "", "", "")                        \
  X("timeseries", "Rounds of reclaiming memory", "ops",                        \
    "Rounds a second.", GRAFANA_RATE("memguard_reclaim_rounds_total"),         \
    GRAFANA_WHO, "", "")                                                       \
  X("timeseries", "Memory given back", "Bps", "Measured, a second.",           \
    GRAFANA_RATE("memguard_reclaim_freed_bytes_total"), GRAFANA_WHO, "", "")   \
  X("timeseries", "Alerts", "ops", "Alerts a second, repeats included.",       \
    GRAFANA_RATE("memguard_alerts_total"), GRAFANA_WHO, "", "")                \
  X("timeseries", "Ends of processes", "short",                                \
    "Processes that ended, by how: known to the exporter, which finds what "   \
    "they left behind.",                                                       \
    "sum by (job, program, verdict) (increase(memguard_process_ends_total"     \
    GRAFANA_ALL "[$__rate_interval]))", "{{program}} {{verdict}}", "", "")     \
  X("row", "Resources", "", "", "", "", "", "")                                \
  X("timeseries", "Open file descriptors", "short", "Descriptors in use.",     \
    "memguard_process_open_fds" GRAFANA_ALL, GRAFANA_WHO, "", "")              \
  X("timeseries", "Threads and connections", "short",                          \
    "Threads, and connections in use of connection pools.",                    \
    "memguard_process_threads" GRAFANA_ALL, GRAFANA_WHO " threads",            \
    "memguard_active_connections" GRAFANA_ALL, GRAFANA_WHO " connections")     \
  X("timeseries", "Pools of buffers", "bytes", "Bytes rented, and held in all.", \
    "memguard_pool_rented_bytes" GRAFANA_ALL, GRAFANA_WHO " rented",           \
    "memguard_pool_held_bytes" GRAFANA_ALL, GRAFANA_WHO " held")               \
  X("timeseries", "Rentals that look forgotten", "short",                      \
    "Buffers that were rented long ago and never returned.",                   \
    "memguard_pool_suspected_rentals" GRAFANA_ALL, GRAFANA_WHO, "", "")

/** Prints it as one JSON document, to be imported into Grafana. @return an exit
 *  code. */
int grafana_print(void);

#endif
