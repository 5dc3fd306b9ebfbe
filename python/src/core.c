/* core.c - opening, sharing and closing of one core object.
 *
 * A ResourceManager, its MemoryMonitor and its BufferManager are three Python
 * objects over one mg_manager. Each holds the mgpy_core, none holds the others'
 * lives: whichever a host keeps longest stays safe to call and raises
 * ClosedError after close().
 *
 * The core calls two hooks from threads of its own. `core_wake` only sets a
 * flag. `core_deliver` enters the interpreter; closing a core forbids that and
 * waits until a running one is over, so none is left when the interpreter
 * ends. */
#include "memguard_python.h"

/* The core whose callbacks this thread runs as memguard's worker. */
static _Thread_local const mgpy_core *core_delivering;

/* Cores to be closed later, because a hook must not close its own monitor. */
static pthread_mutex_t core_later_lock = PTHREAD_MUTEX_INITIALIZER;
static mgpy_core *core_later;

/* ---- hooks, called by memguard's threads ------------------------------- */

static void core_wake(void *ctx) {
  mgpy_core *core = ctx;

  atomic_store_explicit(&core->is_waiting, true, memory_order_release);
}

/* @return a new reference to the Python monitor, NULL if it is gone. */
static PyObject *core_monitor(mgpy_core *core) {
  PyObject *monitor = NULL;

  if (core->monitor_ref == NULL) return NULL;
#if PY_VERSION_HEX >= 0x030D0000
  if (PyWeakref_GetRef(core->monitor_ref, &monitor) < 0) PyErr_Clear();
#else
  monitor = PyWeakref_GetObject(core->monitor_ref);
  monitor = monitor == NULL || monitor == Py_None ? NULL : Py_NewRef(monitor);
#endif
  return monitor;
}

/* With the GIL. */
static void core_call(mgpy_core *core,
                      int (*call)(mgpy_core *core, PyObject *monitor)) {
  PyObject *monitor = core_monitor(core);

  if (monitor == NULL) return;
  if (call(core, monitor) < 0) PyErr_WriteUnraisable(monitor);
  Py_DECREF(monitor);
}

static void core_enter(mgpy_core *core,
                       int (*call)(mgpy_core *core, PyObject *monitor)) {
  PyThreadState *thread;

  pthread_mutex_lock(&core->delivery);
  if (atomic_load(&core->may_deliver)) {
    thread = PyThreadState_New(core->interpreter);
    if (thread != NULL) {
      core_delivering = core;
      PyEval_RestoreThread(thread);
      core_call(core, call);
      PyThreadState_Clear(thread);
      PyThreadState_DeleteCurrent();
      core_delivering = NULL;
    }
  }
  pthread_mutex_unlock(&core->delivery);
}

static void core_deliver(void *ctx) {
  mgpy_core *core = ctx;

  atomic_store_explicit(&core->is_waiting, true, memory_order_release);
  core_enter(core, mgpy_monitor_deliver);
}

static int core_tick_in(mgpy_core *core, PyObject *monitor) {
  PyObject *done = PyObject_CallMethodNoArgs(monitor, core->state->tick_name);

  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

void mgpy_core_tick(void *ctx) { core_enter(ctx, core_tick_in); }

/* A sub-interpreter may be without a thread of its own between two calls into it.
 * Before 3.14 CPython can abort when a thread then enters it while the last one
 * leaves (gh-126914): there, events wait for a call of the program. */
bool mgpy_may_enter(const PyInterpreterState *interpreter) {
  return interpreter == PyInterpreterState_Main() || Py_Version >= 0x030E0000;
}

/* ---- open -------------------------------------------------------------- */

static mg_status core_open_part(mgpy_core *core, mgpy_part part,
                                const mg_config *config, mg_error *err) {
  mg_runtime runtime = MG_RUNTIME_INIT;
  mg_status st = MG_OK;

  runtime.monitor = (mg_monitor_hooks){core_wake, core_deliver, core};
  runtime.resources = mgpy_resource_hooks;
  switch (part) {
    case MGPY_MANAGER:
      st = mg_manager_open(&core->manager, config, &runtime, err);
      if (st != MG_OK) return st;
      core->monitor = mg_manager_monitor(core->manager);
      core->buffers = mg_manager_buffers(core->manager);
      core->resources = mg_manager_resources(core->manager);
      return MG_OK;
    case MGPY_MONITOR:
      return mg_monitor_open(&core->monitor, config, &runtime.monitor, err);
    case MGPY_BUFFERS:
      return mg_buffers_open(&core->buffers, config, err);
  }
  return MG_EINVAL;
}

static void core_close_part(mgpy_core *core) {
  if (core->manager != NULL) {
    mg_manager_close(core->manager);
  } else {
    mg_monitor_close(core->monitor);
    mg_buffers_close(core->buffers);
  }
}

mgpy_core *mgpy_core_open(mgpy_state *state, mgpy_part part,
                          const mg_config *config) {
  mg_error err = MG_ERROR_INIT;
  mgpy_core *core;

  mgpy_core_sweep();
  core = PyMem_RawCalloc(1, sizeof *core);
  if (core == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  core->state = state;
  core->interpreter = PyInterpreterState_Get();
  atomic_init(&core->users, 1);
  atomic_init(&core->may_deliver, !atomic_load(&state->is_exiting) &&
                                      mgpy_may_enter(core->interpreter));
  if (pthread_mutex_init(&core->delivery, NULL) != 0) {
    mgpy_raise_format(state, MG_ENOMEM, "no mutex for a monitor");
    goto fail_core;
  }
  if (core_open_part(core, part, config, &err) != MG_OK) {
    mgpy_raise(state, &err);
    goto fail_delivery;
  }
  if (mgpy_reclaim_join(core, &err) != MG_OK) {
    mgpy_raise(state, &err);
    goto fail_part;
  }
  return core;

fail_part:
  core_close_part(core);
fail_delivery:
  pthread_mutex_destroy(&core->delivery);
fail_core:
  PyMem_RawFree(core);
  return NULL;
}

mgpy_core *mgpy_core_share(mgpy_core *core) {
  atomic_fetch_add(&core->users, 1);
  return core;
}

/* ---- close ------------------------------------------------------------- */

/* Without the GIL: waits for hooks that run. */
static void core_free(mgpy_core *core) {
  core_close_part(core);
  pthread_mutex_destroy(&core->delivery);
  PyMem_RawFree(core);
}

void mgpy_core_release(mgpy_core *core) {
  if (core == NULL || atomic_fetch_sub(&core->users, 1) != 1) return;
  atomic_store(&core->may_deliver, false);
  atomic_store(&core->is_closed, true);
  Py_CLEAR(core->monitor_ref);
  mgpy_reclaim_leave(core);
  if (core_delivering != NULL) {
    pthread_mutex_lock(&core_later_lock);
    core->next = core_later;
    core_later = core;
    pthread_mutex_unlock(&core_later_lock);
    return;
  }
  Py_BEGIN_ALLOW_THREADS
  core_free(core);
  Py_END_ALLOW_THREADS
}

void mgpy_core_sweep(void) {
  mgpy_core *core, *next;

  if (core_delivering != NULL) return;
  pthread_mutex_lock(&core_later_lock);
  core = core_later;
  core_later = NULL;
  pthread_mutex_unlock(&core_later_lock);
  if (core == NULL) return;
  Py_BEGIN_ALLOW_THREADS
  for (; core != NULL; core = next) {
    next = core->next;
    core_free(core);
  }
  Py_END_ALLOW_THREADS
}

void mgpy_core_close(mgpy_core *core) {
  if (core == NULL) return;
  atomic_store(&core->may_deliver, false);
  atomic_store(&core->is_closed, true);
  Py_BEGIN_ALLOW_THREADS
  if (core_delivering != core) {
    pthread_mutex_lock(&core->delivery);
    pthread_mutex_unlock(&core->delivery);
  }
  if (core->monitor != NULL) mg_monitor_stop(core->monitor);
  Py_END_ALLOW_THREADS
  mgpy_reclaim_leave(core);
}

void mgpy_core_after_fork(mgpy_core *core) {
  /* The thread that held it, if any, did not come along. */
  pthread_mutex_init(&core->delivery, NULL);
}

bool mgpy_core_check(mgpy_state *state, const mgpy_core *core,
                     const char *what) {
  if (mgpy_core_usable(core)) return true;
  mgpy_raise_format(state, MG_ECLOSED,
                    core == NULL ? "%s was not opened: its __init__ did not run"
                                 : "%s is closed",
                    what);
  return false;
}
