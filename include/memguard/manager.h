/* memguard/manager.h - one ResourceManager: a monitor, buffers and resources.
 *
 * The manager wires the parts together: samples drive the buffers' thresholds, a
 * configuration change reaches all parts or none. It runs nothing of the host
 * by itself; the binding flushes buffers and asks for clean-up on the runtime's
 * own threads.
 *
 * Threads: as in the headers of the parts; mg_manager_close() comes last. */
#ifndef MEMGUARD_MANAGER_H
#define MEMGUARD_MANAGER_H

#include "memguard/monitor.h"
#include "memguard/resource.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What a runtime brings. */
typedef struct mg_runtime {
  size_t struct_bytes; /* sizeof(mg_runtime), set by the macro below */
  mg_monitor_hooks monitor;
  mg_resource_hooks resources;
} mg_runtime;
#define MG_RUNTIME_INIT \
  {sizeof(mg_runtime), MG_MONITOR_HOOKS_INIT, {NULL, NULL, NULL, NULL}}

typedef struct mg_manager mg_manager;

typedef struct mg_manager_stats {
  uint64_t rss_bytes;          /* read now; MG_ABSENT without /proc */
  uint64_t peak_rss_bytes;     /* highest seen by any sample of this manager */
  uint64_t fd_count;           /* open descriptors, read now, or MG_ABSENT */
  uint64_t buffer_count;
  uint64_t temp_file_count;
  uint64_t collections;        /* asked for through this manager, or made by the
                                  engine that its monitor has joined, since then */
  uint64_t last_cleanup_unix_ms; /* 0: never cleaned up */
} mg_manager_stats;

/** @param out [owned] @param config [borrowed] checked. @param runtime
 *  [borrowed] copied. @return MG_OK, MG_EINVAL, MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_manager_open(mg_manager **out, const mg_config *config,
                                 const mg_runtime *runtime, mg_error *err);
/** Stops the monitor, drops (does not run) resources, frees. NULL allowed. */
MG_API void mg_manager_close(mg_manager *manager);

/** The parts [borrowed] until mg_manager_close(). */
MG_API mg_monitor *mg_manager_monitor(mg_manager *manager);
MG_API mg_buffers *mg_manager_buffers(mg_manager *manager);
MG_API mg_resources *mg_manager_resources(mg_manager *manager);

/** Puts a checked configuration in force in all parts, or in none.
 *  @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_manager_configure(mg_manager *manager,
                                      const mg_config *config, mg_error *err);

/** Counts a collection that the host asked for, past the engine. */
MG_API void mg_manager_collected(mg_manager *manager);
MG_API void mg_manager_read_stats(mg_manager *manager, mg_manager_stats *out);

/** Runs every resource (resource.h) and notes the time. The binding has flushed
 *  and dropped the buffers before. @param out [may be NULL] */
MG_API void mg_manager_cleanup(mg_manager *manager, mg_cleanup_report *out);
/** For a forked child: gives up resources that the parent owns. */
MG_API void mg_manager_disown(mg_manager *manager);

#ifdef __cplusplus
}
#endif
#endif
