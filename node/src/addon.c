/* addon.c - one environment of the addon: start, door for other threads, end.
 *
 * Order at the end of an environment: its clean-up hooks run newest first, then
 * Node finalizes what is wrapped. The hook that closes the managers is added
 * right after the thread-safe function, so it runs before Node destroys that
 * function; the sampler cannot call it afterwards, because mg_manager_close()
 * returns only when no hook of the core runs or will run. */
#include "memguard_node.h"

#include <stdlib.h>

/* ---- lifetime ----------------------------------------------------------- */

mgn_env *mgn_env_hold(mgn_env *self) {
  self->holders++;
  return self;
}

void mgn_env_release(mgn_env *self) {
  if (--self->holders == 0) free(self);
}

static void env_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  mgn_env_release(data);
}

static void env_end_gc(void *data) {
  mgn_env *self = data;

  mgn_reclaim_leave(self);
  mgn_gc_remove(self);
  mg_metrics_add_connections(-self->connections);
}

static void env_end_managers(void *data) {
  mgn_env *self = data;

  mgn_reclaim_leave(self);
  mgn_control_end(self);
  while (self->managers != NULL)
    mgn_manager_shut(self->env, self->managers);
  /* Fails only for a function that is gone already. */
  (void)napi_release_threadsafe_function(self->door, napi_tsfn_abort);
  self->door = NULL;
}

/* ---- door: from any thread to `dispatch` on the JS thread ---------------- */

/* dispatch catches all there is; left are a stack overflow and terminate(). */
static void door_call(napi_env env, mgn_manager *manager) {
  napi_value receiver, function, ignored;
  bool pending = false;

  if (napi_get_undefined(env, &receiver) != napi_ok ||
      napi_get_reference_value(env, manager->dispatch, &function) != napi_ok ||
      napi_call_function(env, receiver, function, 0, NULL, NULL) == napi_ok)
    return;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending)
    (void)napi_get_and_clear_last_exception(env, &ignored);
}

/* The list is walked from its start each time: dispatch() may open and close
 * managers. Each manager is called once, so a busy one cannot hold the loop. */
static void door_answer(napi_env env, napi_value function, void *ctx,
                        void *data) {
  mgn_env *self = ctx;
  mgn_manager *manager;
  size_t calls = 0;

  (void)function;
  (void)data;
  if (env == NULL) return; /* the queue is emptied at the end; ctx may be gone */
  /* Before the calls: what arrives from here on rings again. */
  atomic_store(&self->door_rung, false);
  mgn_reclaim_answer(self);
  mgn_control_answer(self);
  for (manager = self->managers; manager != NULL; manager = manager->next)
    calls++;
  for (; calls > 0; calls--) {
    manager = self->managers;
    while (manager != NULL && !atomic_exchange(&manager->rung, false))
      manager = manager->next;
    if (manager == NULL) return;
    door_call(env, manager);
  }
}

bool mgn_env_open_door(napi_env env, mgn_env *self) {
  napi_value name;

  if (self->door != NULL) return true;
  if (napi_create_string_utf8(env, "memguard", NAPI_AUTO_LENGTH, &name) !=
          napi_ok ||
      napi_create_threadsafe_function(env, NULL, NULL, name, 2, 1, NULL, NULL,
                                      self, door_answer,
                                      &self->door) != napi_ok)
    goto fail;
  if (napi_add_env_cleanup_hook(env, env_end_managers, self) != napi_ok)
    goto fail_door;
  /* A monitor never keeps a process alive. */
  if (napi_unref_threadsafe_function(env, self->door) != napi_ok)
    goto fail_hook;
  return true;

fail_hook:
  (void)napi_remove_env_cleanup_hook(env, env_end_managers, self);
fail_door:
  (void)napi_release_threadsafe_function(self->door, napi_tsfn_abort);
fail:
  self->door = NULL;
  mgn_fail_napi(env);
  return false;
}

void mgn_env_ring(mgn_env *self) {
  if (atomic_exchange(&self->door_rung, true)) return;
  if (napi_call_threadsafe_function(self->door, NULL, napi_tsfn_nonblocking) !=
      napi_ok)
    atomic_store(&self->door_rung, false);
}

void mgn_wake(void *ctx) {
  mgn_manager *manager = ctx;
  mgn_env *self = manager->owner;

  /* Events of a pass made by JS are taken by JS right after the pass. */
  if (pthread_equal(pthread_self(), self->thread)) return;
  atomic_store(&manager->rung, true);
  mgn_env_ring(self);
}

/* ---- start --------------------------------------------------------------- */

static napi_status env_define(napi_env env, napi_value exports, mgn_env *self) {
  static napi_status (*const parts[])(napi_env, napi_value, void *) = {
      mgn_error_define,  mgn_config_define,   mgn_sample_define,
      mgn_trend_define,  mgn_process_define,  mgn_gc_define,
      mgn_buffer_define, mgn_resource_define, mgn_monitor_define,
      mgn_manager_define, mgn_policy_define,  mgn_optimize_define,
      mgn_reclaim_define, mgn_pool_define,    mgn_tune_define,
      mgn_detector_define, mgn_census_define, mgn_leak_replay_define,
      mgn_segment_define, mgn_recycle_define, mgn_metrics_define,
      mgn_alert_define, mgn_web_define};
  napi_value version;
  napi_status st = napi_ok;

  for (size_t i = 0; i < MGN_COUNT_OF(parts) && st == napi_ok; i++)
    st = parts[i](env, exports, self);
  if (st != napi_ok) return st;
  st = napi_create_string_utf8(env, mg_version(), NAPI_AUTO_LENGTH, &version);
  return st == napi_ok
             ? napi_set_named_property(env, exports, "version", version)
             : st;
}

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  mgn_env *self = calloc(1, sizeof *self);

  if (self == NULL)
    return mgn_throw_text(env, MG_ENOMEM, "no memory for the addon");
  self->env = env;
  self->holders = 1;
  self->thread = pthread_self();
  if (napi_set_instance_data(env, self, env_finalize, NULL) != napi_ok) {
    mgn_env_release(self);
    return mgn_fail_napi(env);
  }
  MGN_TRY(env, napi_add_env_cleanup_hook(env, env_end_gc, self));
  MGN_TRY(env, env_define(env, exports, self));
  mgn_gc_install(self);
  return exports;
}
