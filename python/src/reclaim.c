/* reclaim.c - one reclaim engine per interpreter, and what it does in CPython.
 *
 *   allocator: bytes grew -> pending call -> main thread, between two bytecodes
 *                         -> notify ------> worker, if that has not come to it
 *   sample: level rose    --------------> worker, or a call of the program
 *
 * Collections run finalizers, and those may belong to the main thread (a window,
 * a database handle), so the worker asks the main thread first and collects by
 * itself only if that is blocked. What runs other code of the program (caches,
 * shedding) never runs in a pending call: the main thread may hold its locks.
 *
 * The engine is opened with the first monitor and stays until the module goes;
 * without a monitor that runs it has no work. At exit mgpy_reclaim_end() waits,
 * without the GIL, for a worker inside the interpreter and lets none in again.
 *
 * Threads: `turn` is held by the worker while it is in the interpreter; `hand`
 * guards what worker and main thread hand each other. */
#include "memguard_python.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define RECLAIM_GRACE_MS 2.0
#define RECLAIM_WAIT_MS 5000.0 /* by hand, while another thread is at it */
#define RECLAIM_NS_PER_MS 1e6

/* A call into the engine, by the thread that makes it. */
typedef struct reclaim_call {
  struct reclaim_call *outer;
  PyThreadState *thread; /* saved while the GIL is released, else NULL */
  PyObject *interrupt;   /* first exception that is no Exception */
} reclaim_call;

static _Thread_local reclaim_call *reclaim_calling;
/* The engine that pending calls are for: only the main interpreter has them. */
static mgpy_reclaim *reclaim_main;

static mgpy_state *reclaim_state(mgpy_reclaim *r) {
  return (mgpy_state *)((char *)r - offsetof(mgpy_state, reclaim));
}

/* ---- what is measured -------------------------------------------------- */

static uint64_t reclaim_sum(uint64_t a, uint64_t b) {
  return a == MG_ABSENT || b == MG_ABSENT ? MG_ABSENT : a + b;
}

/* Known without work: small objects by their arenas. */
static uint64_t reclaim_live_bytes(void *ctx) {
  mgpy_allocator bytes;
  (void)ctx;

  mgpy_allocator_read(&bytes);
  return reclaim_sum(bytes.large_bytes, bytes.arena_bytes);
}

/* Not told while the host has its collector off: nothing would follow. */
static uint64_t reclaim_grown_bytes(void *ctx) {
  mgpy_reclaim *r = ctx;

  if (atomic_load(&r->is_host_off)) return MG_ABSENT;
  return mgpy_allocator_grown_bytes(atomic_load(&r->listener));
}

/* To the block, by a walk over all pools. With the GIL. */
static uint64_t reclaim_blocks_bytes(void) {
  mgpy_allocator bytes;
  mg_heap heap;

  mgpy_allocator_read(&bytes);
  mgpy_heap_read(&heap);
  return reclaim_sum(bytes.large_bytes, heap.used_bytes);
}

/* ---- actions; with the GIL --------------------------------------------- */

/* Whether the host allows it: who turned its collector off is not overruled
 * before memory is critical. */
static bool reclaim_may_collect(mg_reason reason) {
  return PyGC_IsEnabled() || reason == MG_REASON_FORCED ||
         reason == MG_REASON_UNRECLAIMABLE || reason == MG_REASON_MANUAL;
}

/* MODULE.NAME(argument). The name is interned, or each call would leave its copy in
 * the interpreter's method cache. @param argument [owned, may be NULL]. */
static PyObject *reclaim_call_python(const char *module_name, const char *name,
                                     PyObject *argument) {
  PyObject *method = PyUnicode_InternFromString(name), *made = NULL;
  PyObject *module = PyImport_ImportModule(module_name);

  if (module != NULL && method != NULL && argument != NULL)
    made = PyObject_CallMethodOneArg(module, method, argument);
  Py_XDECREF(module);
  Py_XDECREF(method);
  Py_XDECREF(argument);
  return made;
}

/* @return whether a collection took place: CPython ignores one inside another. */
static bool reclaim_collect(mgpy_reclaim *r, int generation, double *gc_ms) {
  mgpy_gc *gc = &reclaim_state(r)->gc;
  uint64_t before = atomic_load(&gc->count);
  double began_ms = mg_clock_ms();
  PyObject *found;

  if (atomic_load(&gc->is_running)) return false;
  found = reclaim_call_python("gc", "collect", PyLong_FromLong(generation));
  if (found == NULL) return false;
  Py_DECREF(found);
  if (before == atomic_load(&gc->count) && mgpy_gc_observes(gc)) return false;
  if (generation == 2) mgpy_allocator_collected(atomic_load(&r->listener));
  *gc_ms += mg_clock_ms() - began_ms;
  return true;
}

static void reclaim_do_collection(mgpy_reclaim *r, mgpy_job *job) {
  mg_outcome *out = &job->out;
  bool by_blocks = job->reason != MG_REASON_BYTES;
  uint64_t before = by_blocks ? reclaim_blocks_bytes() : MG_ABSENT;
  int generation = job->action == MG_ACTION_YOUNG ? 1 : 2;

  if (!reclaim_may_collect(job->reason)) return;
  out->was_done = reclaim_collect(r, generation, &out->gc_ms);
  if (!out->was_done || before == MG_ABSENT) return;
  out->used_bytes = before;
  out->freed_bytes = mg_fall_bytes(before, reclaim_blocks_bytes());
}

/* Whether it did anything, it tells itself. */
static bool reclaim_do_python(const char *name, PyObject *argument) {
  PyObject *done = reclaim_call_python("memguard._reclaim", name, argument);
  bool was_done = done == Py_True;

  Py_XDECREF(done);
  return was_done;
}

/* What is no Exception (KeyboardInterrupt) stays set, for the caller to raise. */
static void reclaim_settle_error(void) {
  if (PyErr_Occurred() != NULL && PyErr_ExceptionMatches(PyExc_Exception))
    PyErr_WriteUnraisable(NULL);
}

static void reclaim_do(mgpy_reclaim *r, mgpy_job *job) {
  switch (job->action) {
    case MG_ACTION_CACHES:
      job->out.was_done =
          reclaim_do_python("caches", PyFloat_FromDouble(job->share));
      break;
    case MG_ACTION_POOLS:
      job->out.was_done =
          reclaim_do_python("pools", PyFloat_FromDouble(job->share));
      break;
    case MG_ACTION_YOUNG:
    case MG_ACTION_FULL:
      reclaim_do_collection(r, job);
      break;
    case MG_ACTION_RELEASE:
      job->rss_bytes = mg_rss_bytes();
      reclaim_do_collection(r, job); /* reclaim_trim() follows */
      break;
    case MG_ACTION_SHED:
      job->out.was_done = reclaim_do_python(
          "shed", PyUnicode_FromString(mg_reason_name(job->reason)));
      break;
    case MG_ACTION_TRIM: /* reclaim_trim() alone */
    case MG_ACTION_NONE:
    case MG_ACTIONS:
      break;
  }
  reclaim_settle_error();
}

/* ---- from the worker to the main thread -------------------------------- */

/* Before Python 3.12 a pending call added by a thread that is inside another
 * interpreter runs there: it is left to the worker then. */

/* A pending call. */
static int reclaim_take_over(void *unused) {
  mgpy_reclaim *r = reclaim_main;
  bool is_taken;
  (void)unused;

  if (r == NULL || PyInterpreterState_Get() != r->interpreter) return 0;
  pthread_mutex_lock(&r->hand);
  is_taken = r->job_state == MGPY_JOB_ASKED;
  if (is_taken) r->job_state = MGPY_JOB_TAKEN;
  pthread_mutex_unlock(&r->hand);
  if (!is_taken) return 0;
  reclaim_do(r, &r->job);
  pthread_mutex_lock(&r->hand);
  r->job_state = MGPY_JOB_DONE;
  pthread_cond_broadcast(&r->handed);
  pthread_mutex_unlock(&r->hand);
  return PyErr_Occurred() == NULL ? 0 : -1;
}

static struct timespec reclaim_deadline(double ms) {
  uint64_t at_ns = mg_clock_ns() + (uint64_t)(ms * RECLAIM_NS_PER_MS);

  return (struct timespec){.tv_sec = (time_t)(at_ns / 1000000000u),
                           .tv_nsec = (long)(at_ns % 1000000000u)};
}

/* Without the GIL. @return whether the main thread did it. */
static bool reclaim_hand_over(mgpy_reclaim *r, mgpy_job *job) {
  struct timespec until = reclaim_deadline(RECLAIM_GRACE_MS);
  bool is_done;

  pthread_mutex_lock(&r->hand);
  r->job = *job;
  r->job_state = MGPY_JOB_ASKED;
  pthread_mutex_unlock(&r->hand);
  is_done = Py_AddPendingCall(reclaim_take_over, NULL) == 0;
  pthread_mutex_lock(&r->hand);
  while (is_done && r->job_state == MGPY_JOB_ASKED)
    if (pthread_cond_timedwait(&r->handed, &r->hand, &until) == ETIMEDOUT) break;
  while (r->job_state == MGPY_JOB_TAKEN) pthread_cond_wait(&r->handed, &r->hand);
  is_done = r->job_state == MGPY_JOB_DONE;
  if (is_done) *job = r->job;
  r->job_state = MGPY_JOB_NONE;
  pthread_mutex_unlock(&r->hand);
  return is_done;
}

/* The main thread had its time already when bytes grew. */
static bool reclaim_is_for_main(const mgpy_reclaim *r, mgpy_job *job) {
  return r == reclaim_main && job->reason != MG_REASON_BYTES &&
         (MG_COLLECTIONS & MG_ACTION_BIT(job->action)) != 0;
}

static void reclaim_do_on_worker(mgpy_reclaim *r, mgpy_job *job) {
  PyThreadState *thread;

  pthread_mutex_lock(&r->turn);
  if (atomic_load(&r->may_enter) &&
      !(reclaim_is_for_main(r, job) && reclaim_hand_over(r, job))) {
    thread = PyThreadState_New(r->interpreter);
    if (thread != NULL) {
      PyEval_RestoreThread(thread);
      atomic_store(&r->is_host_off, !PyGC_IsEnabled());
      reclaim_do(r, job);
      if (PyErr_Occurred() != NULL) PyErr_WriteUnraisable(NULL);
      PyThreadState_Clear(thread);
      PyThreadState_DeleteCurrent();
    }
  }
  pthread_mutex_unlock(&r->turn);
}

static void reclaim_do_in_call(mgpy_reclaim *r, mgpy_job *job) {
  reclaim_call *call = reclaim_calling;
  bool had_gil = call->thread == NULL;

  if (!had_gil) PyEval_RestoreThread(call->thread);
  call->thread = NULL;
  reclaim_do(r, job);
  if (PyErr_Occurred() != NULL) mgpy_keep_interrupt(&call->interrupt);
  if (!had_gil) call->thread = PyEval_SaveThread();
}

/* ---- without the GIL ----------------------------------------------------- */

/* The resident set is what RELEASE is for; garbage that stays in arenas counts
 * too. */
static void reclaim_trim(mgpy_job *job) {
  bool was_trimmed = mg_trim_malloc();
  uint64_t fall;

  if (job->action == MG_ACTION_TRIM) {
    job->out.was_done = was_trimmed;
    return;
  }
  if (!job->out.was_done) return;
  fall = mg_fall_bytes(job->rss_bytes, mg_rss_bytes());
  if (fall > job->out.freed_bytes) job->out.freed_bytes = fall;
  if (job->rss_bytes != MG_ABSENT) job->out.used_bytes = job->rss_bytes;
}

static void reclaim_trim_in_call(mgpy_job *job) {
  bool has_gil = reclaim_calling->thread == NULL;

  if (has_gil) reclaim_calling->thread = PyEval_SaveThread();
  reclaim_trim(job);
  if (!has_gil) return;
  PyEval_RestoreThread(reclaim_calling->thread);
  reclaim_calling->thread = NULL;
}

/* ---- hooks -------------------------------------------------------------- */

static void reclaim_act(void *ctx, mg_action action, mg_reason reason,
                        double share, bool on_worker, mg_outcome *out) {
  bool trims = action == MG_ACTION_TRIM || action == MG_ACTION_RELEASE;
  mgpy_job job = {action, reason, share, MG_ABSENT, *out};

  if (on_worker) {
    if (action != MG_ACTION_TRIM) reclaim_do_on_worker(ctx, &job);
    if (trims) reclaim_trim(&job);
  } else {
    if (action != MG_ACTION_TRIM) reclaim_do_in_call(ctx, &job);
    if (trims) reclaim_trim_in_call(&job);
  }
  *out = job.out;
}

/* ---- calls into the engine; with the GIL ------------------------------- */

static void reclaim_begin(reclaim_call *call) {
  *call = (reclaim_call){.outer = reclaim_calling};
  reclaim_calling = call;
}

/* @return 0, or -1 and the exception that interrupted it. */
static int reclaim_end(reclaim_call *call) {
  reclaim_calling = call->outer;
  return mgpy_raise_interrupt(call->interrupt);
}

static int reclaim_poll_for(mgpy_reclaim *r, uint32_t actions) {
  reclaim_call call;

  atomic_store(&r->is_host_off, !PyGC_IsEnabled());
  if (!mgpy_reclaim_is_due(r) || atomic_load(&reclaim_state(r)->is_exiting) ||
      atomic_load(&reclaim_state(r)->gc.is_running))
    return 0;
  reclaim_begin(&call);
  mg_reclaim_poll_for(r->engine, actions);
  return reclaim_end(&call);
}

int mgpy_reclaim_poll(mgpy_reclaim *r) {
  return reclaim_poll_for(r, UINT32_MAX);
}

/* Without the GIL meanwhile: another thread that needs it may be at it. */
int mgpy_reclaim_run(mgpy_reclaim *r, uint32_t actions, mg_reason reason,
                     double share, mg_round *out) {
  mg_error err = MG_ERROR_INIT;
  reclaim_call call;
  mg_status st;

  reclaim_begin(&call);
  call.thread = PyEval_SaveThread();
  st = mg_reclaim_run(r->engine, actions, reason, share, RECLAIM_WAIT_MS, out,
                      &err);
  PyEval_RestoreThread(call.thread);
  if (reclaim_end(&call) < 0) return -1;
  if (st == MG_OK) return 0;
  mgpy_raise(reclaim_state(r), &err);
  return -1;
}

/* ---- growth, told by the allocator ------------------------------------- */

static bool reclaim_has_caches(void) {
  bool has = reclaim_do_python("has_caches", Py_NewRef(Py_None));

  if (PyErr_Occurred() != NULL) PyErr_Clear();
  return has;
}

/* A pending call. */
static int reclaim_bytes_grew(void *unused) {
  uint32_t actions = MG_COLLECTIONS | MG_ACTION_BIT(MG_ACTION_TRIM);
  mgpy_reclaim *r = reclaim_main;
  (void)unused;

  if (r == NULL) return 0;
  atomic_store(&r->is_pending, false);
  if (PyInterpreterState_Get() != r->interpreter || !mgpy_reclaim_is_due(r))
    return 0;
  /* Without caches there is nothing to wait for the worker for. */
  if (!reclaim_has_caches())
    actions |= MG_ACTION_BIT(MG_ACTION_CACHES) | MG_ACTION_BIT(MG_ACTION_POOLS);
  return reclaim_poll_for(r, actions);
}

static uint64_t reclaim_budget_bytes(void *ctx) {
  return mg_reclaim_budget_bytes(((mgpy_reclaim *)ctx)->engine);
}

/* Inside the allocator. */
static void reclaim_due(void *ctx) {
  mgpy_reclaim *r = ctx;

  mg_reclaim_notify(r->engine);
  if (r == reclaim_main && !atomic_exchange(&r->is_pending, true) &&
      Py_AddPendingCall(reclaim_bytes_grew, NULL) < 0)
    atomic_store(&r->is_pending, false); /* full: the worker does it */
}

static void reclaim_listen(mgpy_reclaim *r) {
  const mgpy_listener listener = {reclaim_budget_bytes, reclaim_due, r};

  pthread_mutex_lock(&r->hand);
  if (r->runs > 0 && atomic_load(&r->listener) < 0 && mgpy_allocator_install())
    atomic_store(&r->listener, mgpy_allocator_listen(&listener));
  pthread_mutex_unlock(&r->hand);
}

static void reclaim_unlisten(mgpy_reclaim *r) {
  pthread_mutex_lock(&r->hand);
  if (r->runs == 0) mgpy_allocator_unlisten(atomic_exchange(&r->listener, -1));
  pthread_mutex_unlock(&r->hand);
}

/* ---- monitors ----------------------------------------------------------- */

void mgpy_reclaim_note_running(mgpy_core *core) {
  mgpy_reclaim *r = &core->state->reclaim;
  bool runs = mgpy_core_usable(core) && mg_monitor_is_running(core->monitor);
  mg_config config;

  if (r->engine == NULL || core->monitor == NULL) return;
  if (atomic_exchange(&core->runs, runs) != runs)
    atomic_fetch_add(&r->runs, runs ? 1 : -1);
  if (!runs) {
    if (atomic_load(&r->runs) == 0) reclaim_unlisten(r);
    return;
  }
  mg_monitor_read_config(core->monitor, &config);
  if (mg_config_get(&config, MG_CONFIG_BYTE_AWARE_GC) != 0) reclaim_listen(r);
}

/* ---- life --------------------------------------------------------------- */

static int reclaim_locks(mgpy_reclaim *r) {
  pthread_condattr_t attributes;
  int st = pthread_condattr_init(&attributes);

  if (st != 0) return st;
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  st = pthread_cond_init(&r->handed, &attributes);
  pthread_condattr_destroy(&attributes);
  if (st == 0) st = pthread_mutex_init(&r->turn, NULL);
  return st == 0 ? pthread_mutex_init(&r->hand, NULL) : st;
}

static mg_status reclaim_open(mgpy_reclaim *r, mg_error *err) {
  mg_reclaim_hooks hooks = MG_RECLAIM_HOOKS_INIT;
  bool is_main = PyInterpreterState_Get() == PyInterpreterState_Main();
  mg_status st;

  r->interpreter = PyInterpreterState_Get();
  if (reclaim_locks(r) != 0) return MG_ENOMEM;
  atomic_init(&r->listener, -1);
  hooks.actions = MG_COLLECTIONS | MG_ACTION_BIT(MG_ACTION_CACHES) |
                  MG_ACTION_BIT(MG_ACTION_POOLS) |
                  MG_ACTION_BIT(MG_ACTION_TRIM) | MG_ACTION_BIT(MG_ACTION_SHED);
  hooks.act = reclaim_act;
  hooks.grown_bytes = reclaim_grown_bytes;
  hooks.live_bytes = reclaim_live_bytes;
  hooks.grace_ms = mgpy_may_enter(r->interpreter) ? RECLAIM_GRACE_MS : -1.0;
  hooks.ctx = r;
  st = mg_reclaim_open(&r->engine, &hooks, err);
  if (st != MG_OK) return st;
  atomic_store(&r->may_enter, mgpy_may_enter(r->interpreter));
  if (is_main) reclaim_main = r;
  return MG_OK;
}

mg_status mgpy_reclaim_join(mgpy_core *core, mg_error *err) {
  mgpy_reclaim *r = &core->state->reclaim;
  mg_status st = MG_OK;

  if (core->monitor == NULL || atomic_load(&core->state->is_exiting))
    return MG_OK;
  if (r->engine == NULL) st = reclaim_open(r, err);
  if (st == MG_OK) mg_monitor_join(core->monitor, r->engine);
  return st;
}

void mgpy_reclaim_leave(mgpy_core *core) {
  if (core->monitor == NULL) return;
  mg_monitor_join(core->monitor, NULL);
  mgpy_reclaim_note_running(core);
}

void mgpy_reclaim_end(mgpy_reclaim *r) {
  if (r->engine == NULL) return;
  atomic_store(&r->may_enter, false);
  atomic_store(&r->runs, 0);
  reclaim_unlisten(r);
  Py_BEGIN_ALLOW_THREADS
  pthread_mutex_lock(&r->turn);
  pthread_mutex_unlock(&r->turn);
  Py_END_ALLOW_THREADS
}

void mgpy_reclaim_free(mgpy_reclaim *r) {
  mg_reclaim *engine = r->engine;

  if (engine == NULL) return;
  mgpy_reclaim_end(r);
  if (reclaim_main == r) reclaim_main = NULL;
  r->engine = NULL;
  Py_BEGIN_ALLOW_THREADS
  mg_reclaim_close(engine);
  Py_END_ALLOW_THREADS
}

void mgpy_reclaim_after_fork(mgpy_reclaim *r) {
  /* Threads that held them did not come along, nor did the worker. */
  if (r->engine == NULL) return;
  reclaim_locks(r);
  if (r->job_state == MGPY_JOB_ASKED) r->job_state = MGPY_JOB_NONE;
  atomic_store(&r->is_pending, false);
}
