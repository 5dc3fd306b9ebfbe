/* gc.c - every garbage collection of this interpreter, recorded.
 *
 * CPython calls what is in gc.callbacks before and after each collection. Ours
 * reads two clocks, two ints out of the info dict, and adds them up: no lock, no
 * allocation, no log, no exception. What a host should hear of waits for the next
 * delivery.
 *
 * One recorder per interpreter, opened when its first monitor starts. The
 * callback refers to the module, so the module's state outlives the callback.
 *
 * Threads: an interpreter runs one collection at a time. The fields are atomic
 * because a host may call the callback itself; such calls count at most as
 * collections. */
#include "memguard_python.h"

#include <time.h>

#define GC_SECONDS 60u /* window of longest_per_second_p95_ms */
#define GC_NS_PER_MS 1e6
#define GC_NS_PER_S 1e9
#define GC_OLDEST 2u /* the generation whose collection is a full one */
/* Reading a thread's CPU clock is a system call, dearer than most collections:
 * of one shorter than this the wall time is taken for it, too much by at most
 * as much. */
#define GC_SHORT_NS 50000u

/* ---- the callback ------------------------------------------------------ */

static uint64_t gc_cpu_clock_ns(void) {
  struct timespec now;

  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) return MG_ABSENT;
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* MG_ABSENT if the clock failed or went back: a finalizer may fork, and the CPU
 * clock of the child's thread starts anew. */
static uint64_t gc_since_ns(uint64_t began_ns, uint64_t now_ns) {
  if (began_ns == MG_ABSENT || now_ns == MG_ABSENT || now_ns < began_ns)
    return MG_ABSENT;
  return now_ns - began_ns;
}

/* @return the int under `name`; MG_ABSENT if there is none, or one below 0. */
static uint64_t gc_info(PyObject *info, PyObject *name) {
  PyObject *value = NULL;
  long long number = -1;
  int overflow = 0;

#if PY_VERSION_HEX >= 0x030D0000
  if (PyDict_GetItemRef(info, name, &value) < 0) PyErr_Clear();
#else
  value = Py_XNewRef(PyDict_GetItemWithError(info, name));
  if (value == NULL) PyErr_Clear();
#endif
  if (value != NULL && PyLong_Check(value))
    number = PyLong_AsLongLongAndOverflow(value, &overflow);
  Py_XDECREF(value);
  return number < 0 ? MG_ABSENT : (uint64_t)number;
}

static uint64_t gc_cpu_ns(mgpy_gc *gc, uint64_t wall_ns) {
  uint64_t began_ns, cpu_ns;

  if (wall_ns < GC_SHORT_NS) return wall_ns;
  began_ns = atomic_load_explicit(&gc->began_cpu_ns, memory_order_relaxed);
  cpu_ns = gc_since_ns(began_ns, gc_cpu_clock_ns());
  /* The clocks are read one after the other. */
  return cpu_ns != MG_ABSENT && cpu_ns > wall_ns ? wall_ns : cpu_ns;
}

static void gc_started(mgpy_gc *gc) {
  atomic_store_explicit(&gc->began_cpu_ns, gc_cpu_clock_ns(),
                        memory_order_relaxed);
  atomic_store_explicit(&gc->began_ns, mg_clock_ns(), memory_order_relaxed);
  atomic_store_explicit(&gc->is_running, true, memory_order_release);
}

/* The first ones since the last delivery are kept whole, the rest counted. */
static void gc_note_long(mgpy_gc *gc, const mg_pause *pause) {
  uint64_t count = atomic_load_explicit(&gc->long_count, memory_order_relaxed);
  uint64_t told = atomic_load_explicit(&gc->long_told, memory_order_acquire);

  if (count - told < MGPY_GC_LINES)
    gc->long_pauses[count % MGPY_GC_LINES] = *pause;
  atomic_store_explicit(&gc->long_count, count + 1, memory_order_release);
}

static void gc_stopped(mgpy_state *state, PyObject *info) {
  mgpy_gc *gc = &state->gc;
  mg_pause pause = {0};
  uint64_t generation, long_ns, now_ns = mg_clock_ns();

  /* A host may have put the callback twice into its list: it counts once. */
  if (!atomic_exchange_explicit(&gc->is_running, false, memory_order_acquire))
    return;
  generation = gc_info(info, gc->generation_name);
  pause.began_ns = atomic_load_explicit(&gc->began_ns, memory_order_relaxed);
  pause.wall_ns = gc_since_ns(pause.began_ns, now_ns);
  if (generation == MG_ABSENT || pause.wall_ns == MG_ABSENT) return;
  pause.cpu_ns = gc_cpu_ns(gc, pause.wall_ns);
  pause.collected = gc_info(info, gc->collected_name);
  pause.kind = generation < MG_PAUSE_KINDS ? (uint32_t)generation
                                           : MG_PAUSE_KINDS - 1;
  mg_pauses_record(gc->pauses, &pause);
  mg_segment_note_gc(&pause);
  atomic_fetch_add(&gc->count, 1);
  if (pause.kind == GC_OLDEST) {
    mgpy_metrics_collected();
    mgpy_allocator_collected(atomic_load(&state->reclaim.listener));
    mgpy_detectors_collected(state, pause.cpu_ns == MG_ABSENT ? pause.wall_ns
                                                              : pause.cpu_ns);
  }
  long_ns = atomic_load_explicit(&gc->long_ns, memory_order_relaxed);
  if (long_ns != 0 && pause.wall_ns > long_ns) gc_note_long(gc, &pause);
}

static PyObject *gc_callback(PyObject *module, PyObject *const *args,
                             Py_ssize_t count) {
  mgpy_state *state = PyModule_GetState(module);

  if (count == 2 && PyUnicode_Check(args[0]) && PyDict_Check(args[1])) {
    if (PyUnicode_CompareWithASCIIString(args[0], "start") == 0)
      gc_started(&state->gc);
    else if (PyUnicode_CompareWithASCIIString(args[0], "stop") == 0)
      gc_stopped(state, args[1]);
  }
  Py_RETURN_NONE;
}

static PyMethodDef gc_callback_method = {
    "memguard_gc_callback", MGPY_METHOD(gc_callback), METH_FASTCALL,
    "Records each collection for memguard.MemoryMonitor.get_gc_stats()."};

/* ---- the list of callbacks --------------------------------------------- */

/* By identity: the callbacks of a host may compare in any way.
 * @return its index, or -1. */
static Py_ssize_t gc_find(PyObject *list, const PyObject *callback) {
  Py_ssize_t found = -1;

  if (list == NULL || callback == NULL) return -1;
  MGPY_CRITICAL_BEGIN(list)
  for (Py_ssize_t i = 0; found < 0 && i < PyList_GET_SIZE(list); i++)
    if (PyList_GET_ITEM(list, i) == callback) found = i;
  MGPY_CRITICAL_END()
  return found;
}

bool mgpy_gc_observes(const mgpy_gc *gc) {
  return gc_find(gc->list, gc->callback) >= 0;
}

/* The recorder and the callback. @return 0, or -1 and an error. */
static int gc_prepare(PyObject *module, mgpy_state *state, PyObject *list) {
  mg_error err = MG_ERROR_INIT;
  mgpy_gc *gc = &state->gc;
  int st = 0;

  MGPY_CRITICAL_BEGIN(module)
  if (gc->pauses == NULL && mg_pauses_open(&gc->pauses, &err) != MG_OK) {
    mgpy_raise(state, &err);
    st = -1;
  }
  if (st == 0 && gc->callback == NULL) {
    gc->callback = PyCFunction_New(&gc_callback_method, module);
    st = gc->callback == NULL ? -1 : 0;
  }
  if (st == 0 && gc->list == NULL) gc->list = Py_NewRef(list);
  MGPY_CRITICAL_END()
  return st;
}

/* The list is looked up once and kept: a host that binds gc.callbacks to another
 * one does not change which the interpreter reads. */
static int gc_open(PyObject *module, mgpy_state *state) {
  PyObject *collector = PyImport_ImportModule("gc"), *list = NULL;
  int st = -1;

  if (collector != NULL) list = PyObject_GetAttrString(collector, "callbacks");
  Py_XDECREF(collector);
  if (list != NULL) st = PyList_Check(list) ? gc_prepare(module, state, list) : 0;
  Py_XDECREF(list);
  return st;
}

static PyObject *gc_observe(PyObject *module, PyObject *unused) {
  mgpy_state *state = PyModule_GetState(module);
  mgpy_gc *gc = &state->gc;
  (void)unused;

  if (atomic_load(&state->is_exiting)) Py_RETURN_NONE;
  if (gc->list == NULL && gc_open(module, state) < 0) return NULL;
  if (gc->list != NULL && gc_find(gc->list, gc->callback) < 0 &&
      PyList_Append(gc->list, gc->callback) < 0)
    return NULL;
  Py_RETURN_NONE;
}

void mgpy_gc_end(mgpy_state *state) {
  PyObject *list = state->gc.list;
  Py_ssize_t at;

  while ((at = gc_find(list, state->gc.callback)) >= 0)
    if (PyList_SetSlice(list, at, at + 1, NULL) < 0) {
      PyErr_Clear();
      return;
    }
}

/* ---- what was recorded ------------------------------------------------- */

static double gc_ms(uint64_t ns) { return (double)ns / GC_NS_PER_MS; }

/* Of all kinds the seconds are known too; of one they are not. */
static PyObject *gc_seconds(const mg_pauses *pauses, uint32_t kind) {
  if (kind < MG_PAUSE_KINDS) Py_RETURN_NONE;
  if (pauses == NULL) return PyFloat_FromDouble(0);
  return PyFloat_FromDouble(
      gc_ms(mg_pauses_seconds(pauses, mg_clock_ns(), GC_SECONDS, 0.95)));
}

/* _gc_pauses(generation or None): the dict of get_gc_stats(). */
static PyObject *gc_pauses(PyObject *module, PyObject *generation) {
  const mg_pauses *pauses =
      ((mgpy_state *)PyModule_GetState(module))->gc.pauses;
  uint32_t kind = MG_PAUSE_KINDS;
  mg_pause_stats s = {0};
  unsigned long given;

  if (generation != Py_None) {
    given = PyLong_AsUnsignedLong(generation);
    if (given == (unsigned long)-1 && PyErr_Occurred()) return NULL;
    kind = given < MG_PAUSE_KINDS ? (uint32_t)given : MG_PAUSE_KINDS - 1;
  }
  if (pauses != NULL) mg_pauses_read(pauses, kind, &s);
  return Py_BuildValue(
      "{s:K,s:d,s:d,s:K,s:d,s:d,s:d,s:d,s:d,s:N}", "count",
      (unsigned long long)s.count, "total_ms", gc_ms(s.wall_ns), "cpu_ms",
      gc_ms(s.cpu_ns), "collected", (unsigned long long)s.collected, "p50_ms",
      gc_ms(s.p50_ns), "p95_ms", gc_ms(s.p95_ns), "p99_ms", gc_ms(s.p99_ns),
      "max_ms", gc_ms(s.max_ns), "last_ms", gc_ms(s.last_ns),
      "longest_per_second_p95_ms", gc_seconds(pauses, kind));
}

static PyObject *gc_is_observed(PyObject *module, PyObject *unused) {
  mgpy_gc *gc = &((mgpy_state *)PyModule_GetState(module))->gc;
  (void)unused;

  return PyBool_FromLong(mgpy_gc_observes(gc));
}

/* ---- long pauses ------------------------------------------------------- */

static PyObject *gc_set_long(PyObject *module, PyObject *ms_object) {
  mgpy_gc *gc = &((mgpy_state *)PyModule_GetState(module))->gc;
  double ms = PyFloat_AsDouble(ms_object);

  if (ms == -1.0 && PyErr_Occurred()) return NULL;
  atomic_store(&gc->long_ns, ms > 0 ? (uint64_t)(ms * GC_NS_PER_MS) : 0);
  Py_RETURN_NONE;
}

/* _gc_set_quiet(s): for so long, no long pause is due to be told. */
static PyObject *gc_set_quiet(PyObject *module, PyObject *s_object) {
  mgpy_gc *gc = &((mgpy_state *)PyModule_GetState(module))->gc;
  double s = PyFloat_AsDouble(s_object);

  if (s == -1.0 && PyErr_Occurred()) return NULL;
  atomic_store(&gc->quiet_ns,
               s > 0 ? mg_clock_ns() + (uint64_t)(s * GC_NS_PER_S) : 0);
  Py_RETURN_NONE;
}

static PyObject *gc_long_list(const mg_pause *pauses, uint64_t count) {
  PyObject *made = PyList_New(0);

  for (uint64_t i = 0; made != NULL && i < count; i++) {
    PyObject *one =
        Py_BuildValue("(IdN)", pauses[i].kind, gc_ms(pauses[i].wall_ns),
                      mgpy_number(pauses[i].collected));
    if (one == NULL || PyList_Append(made, one) < 0) Py_CLEAR(made);
    Py_XDECREF(one);
  }
  return made;
}

/* _gc_take_long(): None if nothing is due, else the first long pauses as
 * (generation, ms, collected), and how many more there were. */
static PyObject *gc_take_long(PyObject *module, PyObject *unused) {
  mgpy_state *state = PyModule_GetState(module);
  mgpy_gc *gc = &state->gc;
  uint64_t told = atomic_load(&gc->long_told);
  uint64_t count = atomic_load_explicit(&gc->long_count, memory_order_acquire);
  uint64_t kept = count - told < MGPY_GC_LINES ? count - told : MGPY_GC_LINES;
  mg_pause pauses[MGPY_GC_LINES];
  (void)unused;

  if (count == told || !mgpy_gc_is_due(state)) Py_RETURN_NONE;
  /* Copied before anything is allocated, which may collect. */
  for (uint64_t i = 0; i < kept; i++)
    pauses[i] = gc->long_pauses[(told + i) % MGPY_GC_LINES];
  /* Otherwise another thread was faster, and tells them. */
  if (!atomic_compare_exchange_strong(&gc->long_told, &told, count))
    Py_RETURN_NONE;
  return Py_BuildValue("(NK)", gc_long_list(pauses, kept),
                       (unsigned long long)(count - told - kept));
}

/* ---- module ------------------------------------------------------------ */

static PyMethodDef gc_methods[] = {
    {"_gc_observe", gc_observe, METH_NOARGS, NULL},
    {"_gc_is_observed", gc_is_observed, METH_NOARGS, NULL},
    {"_gc_pauses", gc_pauses, METH_O, NULL},
    {"_gc_set_long", gc_set_long, METH_O, NULL},
    {"_gc_set_quiet", gc_set_quiet, METH_O, NULL},
    {"_gc_take_long", gc_take_long, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_gc(PyObject *module, mgpy_state *state) {
  state->gc.generation_name = PyUnicode_InternFromString("generation");
  state->gc.collected_name = PyUnicode_InternFromString("collected");
  if (state->gc.generation_name == NULL || state->gc.collected_name == NULL)
    return -1;
  return PyModule_AddFunctions(module, gc_methods);
}

int mgpy_gc_traverse(mgpy_state *state, visitproc visit, void *arg) {
  Py_VISIT(state->gc.callback);
  Py_VISIT(state->gc.list);
  return 0;
}

void mgpy_gc_free(mgpy_state *state) {
  Py_CLEAR(state->gc.callback);
  Py_CLEAR(state->gc.list);
  Py_CLEAR(state->gc.generation_name);
  Py_CLEAR(state->gc.collected_name);
  mg_pauses_close(state->gc.pauses);
  state->gc.pauses = NULL;
}
