/* optimize.c - the decisions about optimizations. An optimizer is a row of
 * numbers in a bytearray that Python holds: every function here is pure. Reasons,
 * strategies, levels and actions are indices into the lists of names. */
#include "memguard_python.h"

#include <string.h>

#include "memguard/optimize.h"

/* The bytes of an optimizer, copied: a bytearray need not be aligned. */
static int optimize_state(Py_buffer *buffer, mg_optimizer *out) {
  if (buffer->len == (Py_ssize_t)sizeof *out) {
    memcpy(out, buffer->buf, sizeof *out);
    return 0;
  }
  PyErr_SetString(PyExc_ValueError, "not the bytes of an optimizer");
  PyBuffer_Release(buffer);
  return -1;
}

static void optimize_keep(Py_buffer *buffer, const mg_optimizer *optimizer) {
  memcpy(buffer->buf, optimizer, sizeof *optimizer);
  PyBuffer_Release(buffer);
}

/* _optimizer_init() -> bytearray */
static PyObject *optimize_init(PyObject *module, PyObject *unused) {
  mg_optimizer optimizer;
  (void)module;
  (void)unused;

  mg_optimizer_init(&optimizer);
  return PyByteArray_FromStringAndSize((const char *)&optimizer,
                                       sizeof optimizer);
}

/* _optimizer_read(state) -> tuple of float in the order of OPTIMIZER_FIELDS */
static PyObject *optimize_read(PyObject *module, PyObject *args) {
  mg_optimizer optimizer;
  Py_buffer buffer;
  (void)module;

  if (!PyArg_ParseTuple(args, "w*:_optimizer_read", &buffer) ||
      optimize_state(&buffer, &optimizer) < 0)
    return NULL;
  PyBuffer_Release(&buffer);
#define OPTIMIZE_FORMAT(field) "d"
#define OPTIMIZE_VALUE(field) , optimizer.field
  return Py_BuildValue("(" MG_OPTIMIZER_MAP(OPTIMIZE_FORMAT) ")"
                       MG_OPTIMIZER_MAP(OPTIMIZE_VALUE));
#undef OPTIMIZE_FORMAT
#undef OPTIMIZE_VALUE
}

/* _optimizer_due(state, settings, now_ms, usage, level, is_growing,
 *                time_to_limit_ms, engine_acted_ms) -> reason */
static PyObject *optimize_due(PyObject *module, PyObject *args) {
  mg_optimizer_view view = {.level = MG_LEVEL_NORMAL};
  mg_optimizer optimizer;
  mg_optimize_reason reason;
  const mg_config *config;
  Py_buffer buffer;
  PyObject *settings;
  int level, is_growing;

  if (!PyArg_ParseTuple(args, "w*Oddipdd:_optimizer_due", &buffer, &settings,
                        &view.now_ms, &view.usage, &level, &is_growing,
                        &view.time_to_limit_ms, &view.engine_acted_ms) ||
      optimize_state(&buffer, &optimizer) < 0)
    return NULL;
  config = mgpy_settings_get(PyModule_GetState(module), settings);
  if (config == NULL) {
    PyBuffer_Release(&buffer);
    return NULL;
  }
  if (level >= 0 && level < MG_LEVELS) view.level = (mg_level)level;
  view.is_growing = is_growing != 0;
  reason = mg_optimizer_due(&optimizer, config, &view);
  optimize_keep(&buffer, &optimizer);
  return PyLong_FromLong(reason);
}

/* _optimizer_may(state, reason, is_forced, now_ms) -> bool */
static PyObject *optimize_may(PyObject *module, PyObject *args) {
  mg_optimizer optimizer;
  Py_buffer buffer;
  int reason, is_forced;
  double now_ms;
  bool may;
  (void)module;

  if (!PyArg_ParseTuple(args, "w*ipd:_optimizer_may", &buffer, &reason,
                        &is_forced, &now_ms) ||
      optimize_state(&buffer, &optimizer) < 0)
    return NULL;
  may = mg_optimizer_may(&optimizer, (mg_optimize_reason)reason,
                         is_forced != 0, now_ms);
  optimize_keep(&buffer, &optimizer);
  return PyBool_FromLong(may);
}

/* _optimizer_done(state, reason, is_success, freed_bytes, took_ms, now_ms) */
static PyObject *optimize_done(PyObject *module, PyObject *args) {
  unsigned long long freed_bytes;
  mg_optimizer optimizer;
  Py_buffer buffer;
  int reason, is_success;
  double took_ms, now_ms;
  (void)module;

  if (!PyArg_ParseTuple(args, "w*ipKdd:_optimizer_done", &buffer, &reason,
                        &is_success, &freed_bytes, &took_ms, &now_ms) ||
      optimize_state(&buffer, &optimizer) < 0)
    return NULL;
  mg_optimizer_done(&optimizer, (mg_optimize_reason)reason, is_success != 0,
                    freed_bytes, took_ms, now_ms);
  optimize_keep(&buffer, &optimizer);
  Py_RETURN_NONE;
}

/* strategy_for(reason, is_aggressive) -> strategy */
static PyObject *optimize_strategy(PyObject *module, PyObject *args) {
  int reason, is_aggressive;
  (void)module;

  if (!PyArg_ParseTuple(args, "ip:_strategy_for", &reason, &is_aggressive))
    return NULL;
  return PyLong_FromLong(
      mg_strategy_for((mg_optimize_reason)reason, is_aggressive != 0));
}

/* _strategy_plan(strategy, round, elapsed_ms, freed_bytes, used_bytes) ->
 * (tuple of actions' names, share, cleans, flushes) */
static PyObject *optimize_plan(PyObject *module, PyObject *args) {
  PyObject *freed, *used, *actions, *made;
  mg_progress progress;
  int strategy;
  mg_plan plan;
  (void)module;

  if (!PyArg_ParseTuple(args, "iIdOO:_strategy_plan", &strategy,
                        &progress.round, &progress.elapsed_ms, &freed,
                        &used) ||
      mgpy_number_read(freed, &progress.freed_bytes) < 0 ||
      mgpy_number_read(used, &progress.used_bytes) < 0)
    return NULL;
  plan = mg_strategy_plan((mg_strategy)strategy, &progress);
  actions = PyList_New(0);
  for (unsigned i = 0; actions != NULL && i < MG_ACTIONS; i++) {
    PyObject *name;
    if ((plan.actions & MG_ACTION_BIT(i)) == 0) continue;
    name = PyUnicode_FromString(mg_action_name((mg_action)i));
    if (name == NULL || PyList_Append(actions, name) < 0) Py_CLEAR(actions);
    Py_XDECREF(name);
  }
  if (actions == NULL) return NULL;
  made = Py_BuildValue("(NdNN)", PyList_AsTuple(actions), plan.share,
                       PyBool_FromLong(plan.cleans),
                       PyBool_FromLong(plan.flushes));
  Py_DECREF(actions);
  return made;
}

/* _freed_bytes(rss_before, heap_before, rss_after, heap_after) -> int */
static PyObject *optimize_freed(PyObject *module, PyObject *args) {
  PyObject *rss_before, *heap_before, *rss_after, *heap_after;
  mg_measure before, after;
  (void)module;

  if (!PyArg_ParseTuple(args, "OOOO:_freed_bytes", &rss_before, &heap_before,
                        &rss_after, &heap_after) ||
      mgpy_number_read(rss_before, &before.rss_bytes) < 0 ||
      mgpy_number_read(heap_before, &before.heap_bytes) < 0 ||
      mgpy_number_read(rss_after, &after.rss_bytes) < 0 ||
      mgpy_number_read(heap_after, &after.heap_bytes) < 0)
    return NULL;
  return PyLong_FromUnsignedLongLong(mg_freed_bytes(&before, &after));
}

/* _measure() -> (resident set, heap in use), in bytes, read now */
static PyObject *optimize_measure(PyObject *module, PyObject *unused) {
  mg_heap heap;
  (void)module;
  (void)unused;

  mgpy_heap_read(&heap);
  return Py_BuildValue("(NN)", mgpy_number(mg_rss_bytes()),
                       mgpy_number(heap.used_bytes));
}

static PyMethodDef optimize_methods[] = {
    {"_optimizer_init", optimize_init, METH_NOARGS, NULL},
    {"_optimizer_read", optimize_read, METH_VARARGS, NULL},
    {"_optimizer_due", optimize_due, METH_VARARGS, NULL},
    {"_optimizer_may", optimize_may, METH_VARARGS, NULL},
    {"_optimizer_done", optimize_done, METH_VARARGS, NULL},
    {"_strategy_for", optimize_strategy, METH_VARARGS, NULL},
    {"_strategy_plan", optimize_plan, METH_VARARGS, NULL},
    {"_freed_bytes", optimize_freed, METH_VARARGS, NULL},
    {"_measure", optimize_measure, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static int optimize_add_names(PyObject *module, const char *name,
                              const char *const *names, size_t count) {
  PyObject *made = PyTuple_New((Py_ssize_t)count);
  int st;

  for (size_t i = 0; made != NULL && i < count; i++) {
    PyObject *text = PyUnicode_FromString(names[i]);
    if (text == NULL) Py_CLEAR(made);
    else PyTuple_SET_ITEM(made, (Py_ssize_t)i, text);
  }
  st = PyModule_AddObjectRef(module, name, made);
  Py_XDECREF(made);
  return st;
}

int mgpy_add_optimize(PyObject *module, mgpy_state *state) {
#define OPTIMIZE_FIELD(field) #field,
#define OPTIMIZE_ENTRY(id, name) name,
  static const char *const fields[] = {MG_OPTIMIZER_MAP(OPTIMIZE_FIELD)};
  static const char *const reasons[] = {
      MG_OPTIMIZE_REASON_MAP(OPTIMIZE_ENTRY)};
  static const char *const strategies[] = {MG_STRATEGY_MAP(OPTIMIZE_ENTRY)};
  static const char *const levels[] = {MG_LEVEL_MAP(OPTIMIZE_ENTRY)};
#undef OPTIMIZE_FIELD
#undef OPTIMIZE_ENTRY
#define OPTIMIZE_COUNT(array) (sizeof(array) / sizeof *(array))
  (void)state;

  if (PyModule_AddFunctions(module, optimize_methods) < 0 ||
      optimize_add_names(module, "OPTIMIZER_FIELDS", fields,
                         OPTIMIZE_COUNT(fields)) < 0 ||
      optimize_add_names(module, "OPTIMIZE_REASONS", reasons,
                         OPTIMIZE_COUNT(reasons)) < 0 ||
      optimize_add_names(module, "STRATEGIES", strategies,
                         OPTIMIZE_COUNT(strategies)) < 0 ||
      optimize_add_names(module, "LEVELS", levels, OPTIMIZE_COUNT(levels)) < 0)
    return -1;
#undef OPTIMIZE_COUNT
  return PyModule_AddIntConstant(module, "OPTIMIZE_REPORTS",
                                 (long)MG_OPTIMIZE_REPORTS);
}
