/* manager.c - handles on mg_manager. A MemoryMonitor or BufferManager that
 * stands alone is a manager too, of which it uses one part. */
#include "memguard_node.h"

#include <stdlib.h>

static const napi_type_tag manager_tag = {0x6d656d6775617264u,
                                          0x6d616e6167650001u};

/* About what a manager holds in the core: V8 is told, or it would not hurry to
 * collect handles that were dropped without close(). */
#define MANAGER_BYTES (64 * 1024)

/* ---- lifetime ------------------------------------------------------------- */

static void manager_link(mgn_manager *self) {
  mgn_env *owner = self->owner;

  self->previous = NULL;
  self->next = owner->managers;
  if (self->next != NULL) self->next->previous = self;
  owner->managers = self;
}

static void manager_tell_v8(napi_env env, int64_t bytes) {
  int64_t total;

  /* Only a hint: without it collections come later. */
  (void)napi_adjust_external_memory(env, bytes, &total);
}

static void manager_unlink(mgn_manager *self) {
  if (self->previous != NULL)
    self->previous->next = self->next;
  else
    self->owner->managers = self->next;
  if (self->next != NULL) self->next->previous = self->previous;
}

/* The sampler does not write the page or wake us once the core is closed. */
static void manager_close(napi_env env, mgn_manager *self) {
  mgn_detector_end(self);
  mgn_reclaim_hurry(self->owner, 1);
  mgn_control_hurry(self->owner, 1);
  mg_manager_close(self->core);
  mgn_control_hurry(self->owner, -1);
  mgn_reclaim_hurry(self->owner, -1);
  self->core = NULL;
  manager_unlink(self);
  free(self->buffers);
  self->buffers = NULL;
  self->buffer_slots = 0;
  (void)napi_delete_reference(env, self->page);
  (void)napi_delete_reference(env, self->dispatch);
  manager_tell_v8(env, -MANAGER_BYTES);
}

void mgn_manager_shut(napi_env env, mgn_manager *self) {
  mg_cleanup_report report;

  mgn_reclaim_hurry(self->owner, 1);
  mgn_control_hurry(self->owner, 1);
  mg_monitor_stop(mg_manager_monitor(self->core));
  mgn_control_hurry(self->owner, -1);
  mgn_reclaim_hurry(self->owner, -1);
  mg_manager_cleanup(self->core, &report);
  manager_close(env, self);
}

static void manager_finalize(napi_env env, void *data, void *hint) {
  mgn_manager *self = data;

  (void)hint;
  if (self->core != NULL) mgn_manager_shut(env, self);
  mgn_env_release(self->owner);
  free(self);
}

mgn_manager *mgn_manager_peek(napi_env env, napi_value value) {
  mgn_manager *self = mgn_unwrap(env, value, &manager_tag);

  return self == NULL || self->core == NULL ? NULL : self;
}

mgn_manager *mgn_manager_of(napi_env env, napi_value value) {
  mgn_manager *self = mgn_unwrap(env, value, &manager_tag);

  if (self == NULL) {
    mgn_throw_text(env, MG_ETYPE, "expected a manager");
    return NULL;
  }
  if (self->core != NULL && !self->close_wanted) return self;
  mgn_throw_text(env, MG_ECLOSED, "used after close()");
  return NULL;
}

/* ---- opening -------------------------------------------------------------- */

static mg_page *manager_page(napi_env env, napi_value value) {
  void *data = NULL;
  size_t bytes = 0;

  if (napi_get_arraybuffer_info(env, value, &data, &bytes) == napi_ok &&
      data != NULL && bytes >= sizeof(mg_page) &&
      (uintptr_t)data % sizeof(double) == 0)
    return data;
  mgn_throw_text(env, MG_ETYPE, "expected an ArrayBuffer that holds a page");
  return NULL;
}

static napi_status manager_wrap(napi_env env, mgn_manager *self,
                                napi_value page, napi_value dispatch,
                                napi_value *handle) {
  napi_status st = napi_create_object(env, handle);

  if (st == napi_ok) st = napi_type_tag_object(env, *handle, &manager_tag);
  if (st == napi_ok) st = napi_create_reference(env, page, 1, &self->page);
  if (st == napi_ok)
    st = napi_create_reference(env, dispatch, 1, &self->dispatch);
  return st == napi_ok
             ? napi_wrap(env, *handle, self, manager_finalize, NULL, NULL)
             : st;
}

/* managerOpen(config, ArrayBuffer page, dispatch) -> handle
 * dispatch() is called on the JS thread when events wait. */
static napi_value manager_open(napi_env env, napi_callback_info info) {
  mg_runtime runtime = MG_RUNTIME_INIT;
  mg_error err = MG_ERROR_INIT;
  const mg_config *config;
  mgn_manager *self;
  mgn_env *owner;
  mg_page *page;
  napi_value v[3], handle;

  if (!mgn_arguments(env, info, 3, v, &owner)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  page = manager_page(env, v[1]);
  if (page == NULL) return NULL;
  self = calloc(1, sizeof *self);
  if (self == NULL) return mgn_throw_text(env, MG_ENOMEM, "manager");
  self->owner = owner;
  runtime.monitor.wake = mgn_wake;
  runtime.monitor.ctx = self;
  runtime.resources = mgn_resource_hooks;
  runtime.resources.ctx = self;
  if (mg_manager_open(&self->core, config, &runtime, &err) != MG_OK) goto fail;
  if (manager_wrap(env, self, v[1], v[2], &handle) != napi_ok) goto fail_core;
  mgn_env_hold(owner);
  manager_link(self);
  mgn_reclaim_join(self);
  mg_monitor_set_page(mg_manager_monitor(self->core), page);
  manager_tell_v8(env, MANAGER_BYTES);
  return handle;

fail_core:
  mg_manager_close(self->core);
  if (self->dispatch != NULL) (void)napi_delete_reference(env, self->dispatch);
  if (self->page != NULL) (void)napi_delete_reference(env, self->page);
fail:
  free(self);
  return err.status == MG_OK ? mgn_fail_napi(env) : mgn_throw(env, &err);
}

/* managerClose(manager): nothing if it is closed; from inside a clean-up it takes
 * effect when that one ends */
static napi_value manager_close_now(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  self = mgn_unwrap(env, value, &manager_tag);
  if (self == NULL) return mgn_throw_text(env, MG_ETYPE, "expected a manager");
  if (self->core == NULL) return mgn_undefined(env);
  if (self->call != NULL)
    self->close_wanted = true;
  else
    manager_close(env, self);
  return mgn_undefined(env);
}

void mgn_manager_call(mgn_manager *self, mgn_call *call,
                      void (*work)(mgn_manager *self, void *ctx), void *ctx) {
  mgn_call *outer = self->call;

  self->call = call;
  work(self, ctx);
  self->call = outer;
  if (outer == NULL && self->close_wanted) manager_close(call->env, self);
}

/* ---- interface ------------------------------------------------------------ */

/* managerConfigure(manager, config) */
static napi_value manager_configure(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  const mg_config *config;
  mgn_manager *self;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL) return NULL;
  config = mgn_config_of(env, v[1]);
  if (config == NULL) return NULL;
  if (mg_manager_configure(self->core, config, &err) != MG_OK)
    return mgn_throw(env, &err);
  return mgn_undefined(env);
}

/* managerCollected(manager): counts a collection that was asked for */
static napi_value manager_collected(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  self = mgn_manager_of(env, value);
  if (self == NULL) return NULL;
  mg_manager_collected(self->core);
  return mgn_undefined(env);
}

/* managerStats(manager, Float64Array out)
 * out: rss_bytes, peak_rss_bytes, fd_count, buffer_count, temp_file_count,
 *      collections, last_cleanup_unix_ms */
static napi_value manager_stats(napi_env env, napi_callback_info info) {
  mg_manager_stats stats;
  mgn_manager *self;
  napi_value v[2];
  double *out;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], 7, NULL);
  if (out == NULL) return NULL;
  mg_manager_read_stats(self->core, &stats);
  out[0] = mgn_from_u64(stats.rss_bytes);
  out[1] = mgn_from_u64(stats.peak_rss_bytes);
  out[2] = mgn_from_u64(stats.fd_count);
  out[3] = (double)stats.buffer_count;
  out[4] = (double)stats.temp_file_count;
  out[5] = (double)stats.collections;
  out[6] = (double)stats.last_cleanup_unix_ms;
  return mgn_undefined(env);
}

static void manager_run_cleanup(mgn_manager *self, void *ctx) {
  mg_manager_cleanup(self->core, ctx);
}

/* managerCleanup(manager, run, failed) -> entries left */
static napi_value manager_cleanup(napi_env env, napi_callback_info info) {
  mg_cleanup_report report = {0, 0, 0};
  mgn_manager *self;
  mgn_call call;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL) return NULL;
  call = (mgn_call){env, v[1], v[2]};
  mgn_manager_call(self, &call, manager_run_cleanup, &report);
  return mgn_number(env, report.left);
}

/* pageBytes: how large a page's ArrayBuffer must be */
napi_status mgn_manager_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"managerOpen", manager_open},
      {"managerClose", manager_close_now},
      {"managerConfigure", manager_configure},
      {"managerCollected", manager_collected},
      {"managerStats", manager_stats},
      {"managerCleanup", manager_cleanup}};
  napi_value bytes;
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok) st = napi_create_uint32(env, sizeof(mg_page), &bytes);
  return st == napi_ok
             ? napi_set_named_property(env, exports, "pageBytes", bytes)
             : st;
}
