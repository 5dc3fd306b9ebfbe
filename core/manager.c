/* manager.c - a monitor, buffers and resources under one roof. */
#include "memguard/manager.h"

#include <stdatomic.h>

#include "internal.h"
#include "memguard/process.h"
#include "os.h"

struct mg_manager {
  mg_monitor *monitor;
  mg_buffers *buffers;
  mg_resources *resources;
  _Atomic uint64_t collections, last_cleanup_unix_ms;
};

static mg_status manager_open_parts(mg_manager *m, const mg_config *config,
                                    const mg_runtime *runtime, mg_error *err) {
  mg_status st = mg_buffers_open(&m->buffers, config, err);

  if (st == MG_OK)
    st = mg_resources_open(&m->resources, &runtime->resources, err);
  if (st == MG_OK)
    st = mg_monitor_open(&m->monitor, config, &runtime->monitor, err);
  return st;
}

mg_status mg_manager_open(mg_manager **out, const mg_config *config,
                          const mg_runtime *runtime, mg_error *err) {
  mg_manager *m;
  mg_status st;

  *out = NULL;
  if (runtime->struct_bytes != sizeof *runtime)
    return mg__fail(err, MG_EINVAL,
                    "mg_runtime has %zu bytes, need %zu: header and library "
                    "differ",
                    runtime->struct_bytes, sizeof *runtime);
  m = mg__alloc(sizeof *m);
  if (m == NULL)
    return mg__fail(err, MG_ENOMEM, "manager, %zu bytes", sizeof *m);
  st = manager_open_parts(m, config, runtime, err);
  if (st != MG_OK) goto fail_parts;
  mg_monitor_follow(m->monitor, m->buffers);
  *out = m;
  return MG_OK;

fail_parts:
  mg_manager_close(m);
  return st;
}

void mg_manager_close(mg_manager *m) {
  if (m == NULL) return;
  mg_monitor_close(m->monitor);
  mg_resources_close(m->resources);
  mg_buffers_close(m->buffers);
  mg__free(m);
}

mg_monitor *mg_manager_monitor(mg_manager *m) { return m->monitor; }

mg_buffers *mg_manager_buffers(mg_manager *m) { return m->buffers; }

mg_resources *mg_manager_resources(mg_manager *m) { return m->resources; }

mg_status mg_manager_configure(mg_manager *m, const mg_config *config,
                               mg_error *err) {
  mg_status st = mg_monitor_configure(m->monitor, config, err);

  if (st == MG_OK) mg_buffers_configure(m->buffers, config);
  return st;
}

void mg_manager_collected(mg_manager *m) {
  atomic_fetch_add_explicit(&m->collections, 1, memory_order_relaxed);
}

void mg_manager_read_stats(mg_manager *m, mg_manager_stats *out) {
  mg_sample latest;

  mg_monitor_latest(m->monitor, &latest);
  out->rss_bytes = mg_rss_bytes();
  out->peak_rss_bytes = latest.peak_rss_bytes;
  if (out->rss_bytes != MG_ABSENT && out->rss_bytes > out->peak_rss_bytes)
    out->peak_rss_bytes = out->rss_bytes;
  out->fd_count = mg__sampler_fd_count();
  out->buffer_count = mg_buffers_count(m->buffers);
  out->temp_file_count =
      mg_resources_count(m->resources, MG_RESOURCE_TEMP_FILE);
  out->collections =
      atomic_load(&m->collections) + mg__monitor_collections(m->monitor);
  out->last_cleanup_unix_ms = atomic_load(&m->last_cleanup_unix_ms);
}

void mg_manager_cleanup(mg_manager *m, mg_cleanup_report *out) {
  mg_resources_cleanup(m->resources, out);
  atomic_store(&m->last_cleanup_unix_ms, mg__os_unix_ms());
}

void mg_manager_disown(mg_manager *m) { mg_resources_disown(m->resources); }
