/* memguard_python.h - shared by the files of the extension module memguard._core.
 *
 * The module is thin: C where the core is called, where a buffer must change in
 * one step, and on the hot paths; policy that a host sees (which callback runs,
 * what is logged) is Python, in python/memguard.
 *
 * One mgpy_state per interpreter. Objects keep a pointer to it: an instance keeps
 * its type alive, the type its module, the module its state.
 *
 * Threads: with the GIL, or in a free-threaded build with the critical sections
 * named below, unless a comment says otherwise. */
#ifndef MEMGUARD_PYTHON_H
#define MEMGUARD_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdatomic.h>
#include <structmember.h>

#include "memguard/control.h"
#include "memguard/manager.h"
#include "memguard/pause.h"
#include "memguard/process.h"
#include "memguard/reclaim.h"
#include "memguard/segment.h"

/* Function pointers in slot tables: the C API asks for a conversion that ISO C
 * does not know. */
#define MGPY_SLOT(slot, function) \
  { slot, __extension__(void *)(function) }
#define MGPY_METHOD(function) ((PyCFunction)(void (*)(void))(function))

#if PY_VERSION_HEX >= 0x030D0000
#define MGPY_CRITICAL_BEGIN(object) Py_BEGIN_CRITICAL_SECTION(object)
#define MGPY_CRITICAL_END() Py_END_CRITICAL_SECTION()
#else
#define MGPY_CRITICAL_BEGIN(object) {
#define MGPY_CRITICAL_END() }
#endif

#define MGPY_STATUS_COUNT(name, value, code, text) +1
enum { MGPY_STATUSES = 0 MG_STATUS_MAP(MGPY_STATUS_COUNT) };

enum { MGPY_GC_LINES = 5 }; /* long pauses told one by one in a delivery */

/* Collections of one interpreter (gc.c). */
typedef struct mgpy_gc {
  mg_pauses *pauses;  /* NULL until the first monitor starts; never replaced */
  PyObject *callback; /* as `pauses` */
  PyObject *list;     /* gc.callbacks, as the interpreter reads it */
  PyObject *generation_name, *collected_name; /* keys; interned */
  _Atomic bool is_running;                    /* between start and stop */
  _Atomic uint64_t count;                     /* recorded so far */
  _Atomic uint64_t began_ns, began_cpu_ns;
  _Atomic uint64_t long_ns;    /* a longer pause is told; 0: none is */
  _Atomic uint64_t long_count; /* such pauses so far; written last */
  _Atomic uint64_t long_told;  /* how many of them are told */
  _Atomic uint64_t quiet_ns;   /* no more are told until then */
  mg_pause long_pauses[MGPY_GC_LINES]; /* number `n` in slot `n % LINES` */
} mgpy_gc;

/* The oldest generation, to be collected in parts (roll.c). */
typedef struct mgpy_roll {
  void *oldest;   /* NULL: not known */
  PyObject *mark; /* where a lap began */
} mgpy_roll;

/* An action that the worker hands to the main thread. */
typedef struct mgpy_job {
  mg_action action;
  mg_reason reason;
  double share;
  uint64_t rss_bytes; /* before a RELEASE */
  mg_outcome out;
} mgpy_job;

typedef enum mgpy_job_state {
  MGPY_JOB_NONE,
  MGPY_JOB_ASKED, /* may be taken, or withdrawn */
  MGPY_JOB_TAKEN,
  MGPY_JOB_DONE
} mgpy_job_state;

/* What reclaims the memory of one interpreter (reclaim.c). */
typedef struct mgpy_reclaim {
  mg_reclaim *engine; /* NULL until the first monitor opens; never replaced */
  PyInterpreterState *interpreter;
  pthread_mutex_t turn;   /* held by the worker inside the interpreter */
  _Atomic bool may_enter; /* whether it may go there */
  pthread_mutex_t hand;   /* guards job, job_state and changes of listener */
  pthread_cond_t handed;
  mgpy_job job;
  mgpy_job_state job_state;
  _Atomic bool is_pending;  /* a pending call waits, because bytes grew */
  _Atomic bool is_host_off; /* gc.disable(), when last looked at */
  _Atomic int runs;         /* monitors that sample in the background */
  _Atomic int listener;     /* number with the allocator, or -1 */
} mgpy_reclaim;

typedef struct mgpy_pools mgpy_pools; /* pool_parts.h */

/* Open leak detectors of one interpreter (detector.c). */
typedef struct mgpy_detectors {
  pthread_mutex_t lock;
  struct mgpy_detector *first;
  _Atomic int count; /* read without the lock */
} mgpy_detectors;
/* Requests from outside (segment.c). */
typedef struct mgpy_control {
  _Atomic(mg_control *) handle; /* NULL until the first monitor starts */
  PyInterpreterState *interpreter;
} mgpy_control;

typedef struct mgpy_state {
  PyObject *error_base;            /* MemguardError */
  PyObject *errors[MGPY_STATUSES]; /* by mg_status; [MG_OK] is NULL */
  PyTypeObject *settings_type;
  PyTypeObject *sample_type;
  PyTypeObject *monitor_type;
  PyTypeObject *buffer_type;
  PyTypeObject *buffers_type;
  PyTypeObject *manager_type;
  PyTypeObject *level_tracker_type;
  PyTypeObject *policy_type;
  PyTypeObject *tuner_type;
  PyTypeObject *pool_type;
  PyTypeObject *pooled_type;
  PyTypeObject *writer_type;
  PyTypeObject *census_type;
  PyTypeObject *detector_type;
  PyTypeObject *site_type;
  PyObject *levels[MG_LEVELS];   /* names, interned */
  PyObject *domains[MG_DOMAINS]; /* names, interned */
  /* Methods that C calls; interned, or each call would leave its copy of the
   * name in the interpreter's method cache. */
  PyObject *deliver_name, *run_entry_name, *unlink_failed_name, *tick_name;
  mgpy_gc gc;
  mgpy_reclaim reclaim;
  mgpy_pools *pools; /* what all pools of the interpreter share */
  mgpy_roll roll;
  void *lists; /* of the collector; NULL: not known (census_walk.c) */
  int walks;   /* of them, under way */
  mgpy_detectors detectors;
  mgpy_control control;
  _Atomic bool is_exiting; /* the interpreter ends: no more threads of ours */
} mgpy_state;

/* ---- module.c ---------------------------------------------------------- */

extern struct PyModuleDef mgpy_module;
/** @return the state behind one of our types or a subclass; NULL and an error
 *  once the interpreter has taken the type apart. */
mgpy_state *mgpy_state_of(PyTypeObject *type);
/** Makes a heap type and adds it to the module. @return 0, or -1 and an error. */
int mgpy_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out);
/** Restarts memguard's threads if a fork stopped them and they are still due. */
void mgpy_resume(void);

/* ---- error.c ----------------------------------------------------------- */

int mgpy_add_errors(PyObject *module, mgpy_state *state);
/** Raises the class of `err->status`. @return NULL. */
PyObject *mgpy_raise(mgpy_state *state, const mg_error *err);
/** Raises the class of `status`; `format` is PyUnicode_FromFormat's.
 *  @return NULL. */
PyObject *mgpy_raise_format(mgpy_state *state, mg_status status,
                            const char *format, ...);

/** KeyboardInterrupt and its like must not end work halfway: keeps the raised
 *  exception in `first`, unless one is there already, for the end of it. */
void mgpy_keep_interrupt(PyObject **first);
/** Raises what was kept. @param interrupt [owned, may be NULL]. @return 0 or -1. */
int mgpy_raise_interrupt(PyObject *interrupt);

/* ---- name.c ------------------------------------------------------------ */

/** A name given by the host as UTF-8 [borrowed from `object`]. Raises ETYPE if it
 *  is not a str, EINVAL for a NUL or a surrogate in it. @return NULL on error. */
const char *mgpy_name(mgpy_state *state, PyObject *object, const char *what);
/** The number of the name that `object` is, from `first` to below `count`.
 *  @return -1 and an error that tells `what` it is and the names allowed. */
int mgpy_name_find(mgpy_state *state, PyObject *object, const char *what,
                   const char *(*name_of)(int), int first, int count);
/** @return 0, or -1 and an error. */
int mgpy_level_read(mgpy_state *state, PyObject *object, mg_level *out);
int mgpy_action_read(mgpy_state *state, PyObject *object, mg_action *out);
/** A sequence of names, as a mask. @param refusal what to raise if it is none. */
int mgpy_actions_read(mgpy_state *state, PyObject *object, const char *refusal,
                      uint32_t *out);

/* ---- config.c ---------------------------------------------------------- */

int mgpy_add_settings(PyObject *module, mgpy_state *state);
/** @return a Settings object with a copy of `config`. */
PyObject *mgpy_settings_new(mgpy_state *state, const mg_config *config);
/** @return the configuration inside a Settings object [borrowed]; NULL and an
 *  error if `object` is none. */
const mg_config *mgpy_settings_get(mgpy_state *state, PyObject *object);

/* ---- sample.c ---------------------------------------------------------- */

int mgpy_add_sample(PyObject *module, mgpy_state *state);
PyObject *mgpy_sample_new(mgpy_state *state, const mg_sample *sample);
/** An int, or None for MG_ABSENT. */
PyObject *mgpy_number(uint64_t value);
/** Reads an int or None. @return 0, or -1 and an error. */
int mgpy_number_read(PyObject *object, uint64_t *out);

/* ---- core.c: one open core object -------------------------------------- */

/** Shared by the Python objects that stand for a manager and its parts; the last
 *  one to let go closes it. `is_closed` ends its use earlier. */
typedef struct mgpy_core mgpy_core;
struct mgpy_core {
  mgpy_state *state;
  mg_manager *manager; /* NULL: a part that stands alone */
  mg_monitor *monitor; /* NULL: buffers that stand alone */
  mg_buffers *buffers; /* NULL: a monitor that stands alone */
  mg_resources *resources;
  PyInterpreterState *interpreter;
  PyObject *monitor_ref;     /* weak reference to the Python monitor */
  pthread_mutex_t delivery;  /* held while memguard's thread runs callbacks */
  _Atomic bool may_deliver;
  _Atomic bool is_waiting;   /* events wait; set by the core on any thread */
  _Atomic uint64_t full_number; /* the sample of full pressure last delivered */
  _Atomic bool is_closed;
  _Atomic bool runs; /* counted in mgpy_reclaim.runs */
  _Atomic uint32_t users;
  mgpy_core *next;           /* in the list of cores to be closed later */
};

typedef enum mgpy_part { MGPY_MANAGER, MGPY_MONITOR, MGPY_BUFFERS } mgpy_part;

/** @return a core with one user, or NULL and an error. */
mgpy_core *mgpy_core_open(mgpy_state *state, mgpy_part part,
                          const mg_config *config);
mgpy_core *mgpy_core_share(mgpy_core *core);
/** NULL is allowed. May release the GIL. */
void mgpy_core_release(mgpy_core *core);
/** Ends use and background work; waits, without the GIL, for callbacks that run
 *  on memguard's thread unless this is that thread. */
void mgpy_core_close(mgpy_core *core);
/** Calls the Python monitor's _tick(); on memguard's thread, see
 *  mg_monitor_set_tick(). */
void mgpy_core_tick(void *ctx);
/** In a forked child. */
void mgpy_core_after_fork(mgpy_core *core);
/** Whether memguard's threads may enter `interpreter`. */
bool mgpy_may_enter(const PyInterpreterState *interpreter);
/** Closes cores whose last user went away on memguard's own thread. */
void mgpy_core_sweep(void);
/** Raises ECLOSED unless `core` is in use. @return whether it is. */
bool mgpy_core_check(mgpy_state *state, const mgpy_core *core,
                     const char *what);

static inline bool mgpy_core_usable(const mgpy_core *core) {
  return core != NULL &&
         !atomic_load_explicit(&core->is_closed, memory_order_acquire);
}

/* ---- monitor.c, buffer.c, buffers.c, resource.c, manager.c ------------- */

typedef struct mgpy_monitor {
  PyObject_HEAD
  PyObject *weak_references;
  mgpy_state *state;
  mgpy_core *core;
} mgpy_monitor;

typedef struct mgpy_buffer {
  PyObject_HEAD
  mgpy_state *state;
  mgpy_core *core;
  mg_buffer *buffer;    /* NULL once dropped */
  mg_buffer_stats last; /* its numbers when it was dropped */
  PyObject *items;      /* the list; never NULL */
  PyObject *sink;       /* NULL: none */
  PyThread_type_lock turn;     /* held while the buffer is flushed */
  _Atomic unsigned long owner; /* thread that has the turn; 0: none */
} mgpy_buffer;

typedef struct mgpy_buffers {
  PyObject_HEAD
  PyObject *weak_references;
  mgpy_state *state;
  mgpy_core *core;
  PyObject *stats; /* dict: name -> Buffer */
  PyObject *lists; /* dict: name -> list */
} mgpy_buffers;

typedef struct mgpy_manager {
  PyObject_HEAD
  PyObject *weak_references;
  mgpy_state *state;
  mgpy_core *core;
  PyObject *monitor; /* mgpy_monitor; NULL until attached */
  PyObject *buffers; /* mgpy_buffers; NULL until attached */
} mgpy_manager;

int mgpy_add_monitor(PyObject *module, mgpy_state *state);
/** Runs the Python monitor's callbacks if events wait. @return 0, or -1 and an
 *  error (only what is no Exception, such as KeyboardInterrupt). */
int mgpy_monitor_deliver(mgpy_core *core, PyObject *monitor);

int mgpy_add_buffer(PyObject *module, mgpy_state *state);
/** @return a Buffer for `buffer`; or NULL, then `buffer` stays the caller's.
 *  @param sink NULL: none. */
mgpy_buffer *mgpy_buffer_new(mgpy_state *state, mgpy_core *core,
                             mg_buffer *buffer, PyObject *sink);
/** Takes the buffer out of the core; its last numbers stay readable. */
void mgpy_buffer_detach(mgpy_buffer *self);
/** @return what flush_buffer() returns. */
PyObject *mgpy_buffer_flush(mgpy_buffer *self);
/** In a forked child: what waits in the list is the parent's to flush, and the
 *  thread that had the turn may not have come along. @return 0 or -1. */
int mgpy_buffer_after_fork(mgpy_buffer *self);

int mgpy_add_buffers(PyObject *module, mgpy_state *state);
/** @return whether buffer `name` should be flushed: 1, 0, or -1 and an error.
 *  @param pressure NULL: the monitor's. */
int mgpy_buffers_should_flush(mgpy_buffers *buffers, PyObject *name,
                              const double *pressure);

/** What the core calls to run a resource (resource.c). */
extern const mg_resource_hooks mgpy_resource_hooks;
/** Where those calls find the manager that asks for them; lives on the stack of
 *  the asking function. */
typedef struct mgpy_asking {
  struct mgpy_asking *outer;
  PyObject *manager;         /* [borrowed] */
  PyThreadState *thread;     /* saved while the GIL is released */
  PyObject *interrupt;       /* first exception that is no Exception */
} mgpy_asking;
/** Releases the GIL; the hooks take it while they run Python. */
void mgpy_ask_begin(mgpy_asking *asking, PyObject *manager);
/** Takes the GIL back. @return 0, or -1 and the interrupting exception. */
int mgpy_ask_end(mgpy_asking *asking);

int mgpy_add_manager(PyObject *module, mgpy_state *state);

/* ---- gc.c -------------------------------------------------------------- */

int mgpy_add_gc(PyObject *module, mgpy_state *state);
/** Takes the callback out of gc.callbacks; what was recorded stays. */
void mgpy_gc_end(mgpy_state *state);
/** Whether the callback is where CPython calls it. */
bool mgpy_gc_observes(const mgpy_gc *gc);
int mgpy_gc_traverse(mgpy_state *state, visitproc visit, void *arg);
void mgpy_gc_free(mgpy_state *state);
/** Whether a long pause is to be told now. */
static inline bool mgpy_gc_is_due(mgpy_state *state) {
  return atomic_load_explicit(&state->gc.long_count, memory_order_relaxed) !=
             atomic_load_explicit(&state->gc.long_told, memory_order_relaxed) &&
         mg_clock_ns() >=
             atomic_load_explicit(&state->gc.quiet_ns, memory_order_relaxed);
}

/* ---- allocator.c ------------------------------------------------------- */

/** Told of growth; its functions are called inside the allocator, on any thread,
 *  with or without the GIL: no lock that is held for long, no allocation. */
typedef struct mgpy_listener {
  uint64_t (*budget_bytes)(void *ctx); /* growth to be told of, or MG_ABSENT */
  void (*due)(void *ctx); /* live large blocks grew by that since the last full
                             collection; again for each further 1/16 of it */
  void *ctx;
} mgpy_listener;

/** Bytes of the process; all MG_ABSENT where large blocks are not counted. */
typedef struct mgpy_allocator {
  uint64_t large_bytes; /* given out by malloc when counting began, and what the
                           large blocks of Python changed since */
  uint64_t total_bytes; /* allocated for those since, freed ones too */
  uint64_t arena_bytes; /* arenas, which small objects live in */
} mgpy_allocator;

/** Has large blocks counted from now on, for the life of the process. @return
 *  false where that cannot be done: another allocator is in use. With the GIL. */
bool mgpy_allocator_install(void);
void mgpy_allocator_read(mgpy_allocator *out);
/** @return a number for the functions below; -1 if not counted, or too many. */
int mgpy_allocator_listen(const mgpy_listener *listener);
/** When it returns no function of the listener runs or will run. -1 allowed. */
void mgpy_allocator_unlisten(int number);
/** The heap of the listener has been collected in full. No lock. -1 allowed. */
void mgpy_allocator_collected(int number);
/** Growth since then, less what was freed below; MG_ABSENT for -1. No lock. */
uint64_t mgpy_allocator_grown_bytes(int number);
/** In a forked child. */
void mgpy_allocator_after_fork(void);
extern PyMethodDef mgpy_allocator_methods[];

/* ---- reclaim.c, round.c ------------------------------------------------ */

/** Has the engine of this interpreter act by the samples of core's monitor; opens
 *  it with the first. @return MG_OK, MG_ENOMEM, MG_ESYS. */
mg_status mgpy_reclaim_join(mgpy_core *core, mg_error *err);
void mgpy_reclaim_leave(mgpy_core *core);
/** After core's monitor was started, stopped or configured: large blocks are
 *  listened to while a monitor runs. */
void mgpy_reclaim_note_running(mgpy_core *core);
/** Whether there is something to do now. */
static inline bool mgpy_reclaim_is_due(const mgpy_reclaim *reclaim) {
  return reclaim->engine != NULL && mg_reclaim_is_due(reclaim->engine);
}
/** Does it, in this thread, for a call that the program made. @return 0, or -1
 *  and an exception that is no Exception. */
int mgpy_reclaim_poll(mgpy_reclaim *reclaim);
/** mg_reclaim_run(). @return 0, or -1 and an exception. */
int mgpy_reclaim_run(mgpy_reclaim *reclaim, uint32_t actions, mg_reason reason,
                     double share, mg_round *out);
/** The interpreter ends: no thread of ours is inside, none will enter. */
void mgpy_reclaim_end(mgpy_reclaim *reclaim);
void mgpy_reclaim_free(mgpy_reclaim *reclaim);
/** In a forked child. */
void mgpy_reclaim_after_fork(mgpy_reclaim *reclaim);
/** Round `number` as a dict; None if it is not kept any more. */
PyObject *mgpy_round_find(mgpy_state *state, uint64_t number);
/** Methods of Monitor. */
PyObject *mgpy_monitor_reclaim(PyObject *self, PyObject *args);
PyObject *mgpy_monitor_rounds(PyObject *self, PyObject *max);
PyObject *mgpy_monitor_reclaim_stats(PyObject *self, PyObject *unused);
PyObject *mgpy_monitor_spent(PyObject *self, PyObject *gc_ms);

/* ---- alert.c ------------------------------------------------------------ */

int mgpy_add_alert(PyObject *module, mgpy_state *state);
/** Methods of Monitor. */
PyObject *mgpy_monitor_alerts(PyObject *self, PyObject *after);
PyObject *mgpy_monitor_alert_number(PyObject *self, PyObject *unused);

/* ---- heap.c, decide.c, policy.c ------------------------------------------ */

/** The heap of this interpreter; some 0.5 ms, more with a large heap. What this
 *  version of CPython does not tell is MG_ABSENT. */
void mgpy_heap_read(mg_heap *out);
/** Its blocks and arenas; the rest is left as it is. */
void mgpy_heap_look(mg_heap_look *out);
extern PyMethodDef mgpy_decide_methods[];
int mgpy_add_level_tracker(PyObject *module, mgpy_state *state);
int mgpy_add_policy(PyObject *module, mgpy_state *state);
int mgpy_add_tuner(PyObject *module, mgpy_state *state); /* tune.c */
int mgpy_add_roll(PyObject *module, mgpy_state *state);  /* roll.c */

/* ---- detector.c --------------------------------------------------------- */

int mgpy_add_detector(PyObject *module, mgpy_state *state);
/** A full collection ended. No allocation, waits for nothing: inside a
 *  collector's callback. */
void mgpy_detectors_collected(mgpy_state *state, uint64_t took_ns);
/** In a forked child. */
void mgpy_detectors_after_fork(mgpy_state *state);

/* ---- recycle.c ---------------------------------------------------------- */

int mgpy_add_recycle(PyObject *module, mgpy_state *state);

/* ---- optimize.c --------------------------------------------------------- */

int mgpy_add_optimize(PyObject *module, mgpy_state *state);

/* ---- pool.c ------------------------------------------------------------- */

int mgpy_add_pools(PyObject *module, mgpy_state *state);
void mgpy_pools_free(mgpy_state *state);
/** In a forked child. */
void mgpy_pools_after_fork(mgpy_state *state);

/* ---- census.c ----------------------------------------------------------- */

int mgpy_add_census(PyObject *module, mgpy_state *state);

/* ---- web.c -------------------------------------------------------------- */

int mgpy_add_web(PyObject *module, mgpy_state *state);

/* ---- encoding.c --------------------------------------------------------- */

int mgpy_add_encoding(PyObject *module, mgpy_state *state);

/* ---- segment.c ----------------------------------------------------------- */

int mgpy_add_segment(PyObject *module, mgpy_state *state);
/** Says who this is. With the GIL. */
void mgpy_segment_describe(void);
/** Before a monitor starts: says who publishes, and takes requests. */
void mgpy_segment_begin(mgpy_state *state);
/** No request enters the interpreter any more; waits for one under way. */
void mgpy_segment_end(mgpy_state *state);

/* ---- metrics.c ----------------------------------------------------------- */

int mgpy_add_metrics(PyObject *module, mgpy_state *state);
/** Looks at the heap for the samples that follow; some 0.3 ms. With the GIL. */
void mgpy_metrics_look(void);
/** After a full collection: has it looked at soon. No allocation. */
void mgpy_metrics_collected(void);

#endif
