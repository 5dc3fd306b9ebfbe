/* alert.c - alerts as text, and outboxes, which Python holds as capsules. An outbox
 * belongs to one thread at a time: its channel has a lock. */
#include "memguard_python.h"

#include "memguard/alert.h"
#include "memguard/detector.h"

#define ALERT_CAPSULE "memguard.outbox"

/* @return the text, which is freed; NULL and an error for a failure. */
static PyObject *alert_text(mgpy_state *state, mg_status st, char *text,
                            const mg_error *err) {
  PyObject *made;

  if (st != MG_OK) return mgpy_raise(state, err);
  if (text == NULL) Py_RETURN_NONE;
  made = PyUnicode_FromString(text);
  mg_free_text(text);
  return made;
}

/* ---- a monitor's --------------------------------------------------------- */

static mgpy_core *alert_core(PyObject *monitor) {
  mgpy_monitor *m = (mgpy_monitor *)monitor;

  return mgpy_core_check(m->state, m->core, "the monitor") ? m->core : NULL;
}

/* _alerts(after): JSON. */
PyObject *mgpy_monitor_alerts(PyObject *self, PyObject *after) {
  unsigned long long number = PyLong_AsUnsignedLongLong(after);
  mgpy_core *core = alert_core(self);
  mg_error err = MG_ERROR_INIT;
  char *text = NULL;
  mg_status st;

  if (core == NULL || PyErr_Occurred()) return NULL;
  st = mg_monitor_alerts(core->monitor, number, &text, &err);
  return alert_text(core->state, st, text, &err);
}

/* _alert_number(): of the newest change. */
PyObject *mgpy_monitor_alert_number(PyObject *self, PyObject *unused) {
  mgpy_core *core = alert_core(self);
  (void)unused;

  return core == NULL ? NULL
                      : PyLong_FromUnsignedLongLong(
                            mg_monitor_alert_number(core->monitor));
}

/* ---- outboxes ------------------------------------------------------------ */

static mg_outbox *alert_outbox_of(PyObject *capsule) {
  return PyCapsule_GetPointer(capsule, ALERT_CAPSULE);
}

static void alert_outbox_free(PyObject *capsule) {
  mg_outbox_close(PyCapsule_GetPointer(capsule, ALERT_CAPSULE));
}

/* _outbox_open(format, resend_ms, least_ms, retry_first_ms, retry_most_ms, pid,
 * service, program, runtime, instance, runbook) */
static PyObject *alert_outbox_open(PyObject *module, PyObject *args) {
  mg_outbox_options options = MG_OUTBOX_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  unsigned int pid, format;
  PyObject *capsule;
  mg_outbox *box;

  if (!PyArg_ParseTuple(args, "IddddIsssss:_outbox_open", &format,
                        &options.resend_ms, &options.least_ms,
                        &options.retry_first_ms, &options.retry_most_ms, &pid,
                        &options.service, &options.program, &options.runtime,
                        &options.instance, &options.runbook))
    return NULL;
  options.format = (mg_outbox_format)format;
  options.pid = pid;
  if (mg_outbox_open(&box, &options, &err) != MG_OK)
    return mgpy_raise(PyModule_GetState(module), &err);
  capsule = PyCapsule_New(box, ALERT_CAPSULE, alert_outbox_free);
  if (capsule == NULL) mg_outbox_close(box);
  return capsule;
}

/* _outbox_begin(outbox, monitor, with_active, now_ms) */
static PyObject *alert_outbox_begin(PyObject *module, PyObject *args) {
  mgpy_state *state = PyModule_GetState(module);
  PyObject *capsule, *monitor;
  int with_active;
  mgpy_core *core;
  mg_outbox *box;
  double now_ms;

  if (!PyArg_ParseTuple(args, "OO!pd:_outbox_begin", &capsule,
                        state->monitor_type, &monitor, &with_active, &now_ms))
    return NULL;
  box = alert_outbox_of(capsule);
  core = box == NULL ? NULL : alert_core(monitor);
  if (core == NULL) return NULL;
  mg_outbox_begin(box, core->monitor, with_active != 0, now_ms);
  Py_RETURN_NONE;
}

/* _outbox_follow(outbox, monitor, now_ms) */
static PyObject *alert_outbox_follow(PyObject *module, PyObject *args) {
  mgpy_state *state = PyModule_GetState(module);
  PyObject *capsule, *monitor;
  mgpy_core *core;
  mg_outbox *box;
  double now_ms;

  if (!PyArg_ParseTuple(args, "OO!d:_outbox_follow", &capsule,
                        state->monitor_type, &monitor, &now_ms))
    return NULL;
  box = alert_outbox_of(capsule);
  core = box == NULL ? NULL : alert_core(monitor);
  if (core == NULL) return NULL;
  mg_outbox_follow(box, core->monitor, now_ms);
  Py_RETURN_NONE;
}

/* _outbox_due(outbox, now_ms) -> ms; inf: never */
static PyObject *alert_outbox_due(PyObject *module, PyObject *args) {
  PyObject *capsule;
  mg_outbox *box;
  double now_ms;
  (void)module;

  if (!PyArg_ParseTuple(args, "Od:_outbox_due", &capsule, &now_ms)) return NULL;
  box = alert_outbox_of(capsule);
  return box == NULL ? NULL
                     : PyFloat_FromDouble(mg_outbox_due_ms(box, now_ms));
}

/* _outbox_take(outbox, now_ms, unix_ms, is_last) -> body or None */
static PyObject *alert_outbox_take(PyObject *module, PyObject *args) {
  mg_error err = MG_ERROR_INIT;
  double now_ms, unix_ms;
  PyObject *capsule;
  mg_outbox *box;
  char *text = NULL;
  mg_status st;
  int is_last;

  if (!PyArg_ParseTuple(args, "Oddp:_outbox_take", &capsule, &now_ms, &unix_ms,
                        &is_last))
    return NULL;
  box = alert_outbox_of(capsule);
  if (box == NULL) return NULL;
  st = mg_outbox_take(box, now_ms, unix_ms, is_last != 0, &text, &err);
  return alert_text(PyModule_GetState(module), st, text, &err);
}

/* _outbox_done(outbox, was_accepted, wait_ms, now_ms) */
static PyObject *alert_outbox_done(PyObject *module, PyObject *args) {
  double wait_ms, now_ms;
  PyObject *capsule;
  mg_outbox *box;
  int accepted;
  (void)module;

  if (!PyArg_ParseTuple(args, "Opdd:_outbox_done", &capsule, &accepted,
                        &wait_ms, &now_ms))
    return NULL;
  box = alert_outbox_of(capsule);
  if (box == NULL) return NULL;
  mg_outbox_done(box, accepted != 0, wait_ms, now_ms);
  Py_RETURN_NONE;
}

static PyObject *alert_outbox_stats(PyObject *module, PyObject *capsule) {
  mg_outbox *box = alert_outbox_of(capsule);
  mg_outbox_stats stats;
  (void)module;

  if (box == NULL) return NULL;
  mg_outbox_read_stats(box, &stats);
  return Py_BuildValue(
      "{s:K,s:K,s:K,s:K,s:K,s:K}", "waiting", (unsigned long long)stats.waiting,
      "sent", (unsigned long long)stats.sent, "delivered",
      (unsigned long long)stats.delivered, "failures",
      (unsigned long long)stats.failures, "failures_in_a_row",
      (unsigned long long)stats.failures_in_a_row, "overflow",
      (unsigned long long)stats.overflow);
}

/* ---- replay -------------------------------------------------------------- */

/* @return the numbers of a tuple, PyMem_Free() it; NULL and an error. */
static double *alert_numbers(PyObject *tuple, size_t count) {
  double *numbers = PyMem_New(double, count + 1);

  if (numbers == NULL) PyErr_NoMemory();
  for (size_t i = 0; numbers != NULL && i < count; i++) {
    numbers[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(tuple, (Py_ssize_t)i));
    if (numbers[i] != -1.0 || !PyErr_Occurred()) continue;
    PyMem_Free(numbers);
    numbers = NULL;
  }
  return numbers;
}

/* alert_replay(settings, tuple of numbers, ALERT_ROW for each row) -> JSON */
static PyObject *alert_replay(PyObject *module, PyObject *args) {
  mgpy_state *state = PyModule_GetState(module);
  mg_error err = MG_ERROR_INIT;
  PyObject *settings, *tuple;
  const mg_config *config;
  char *text = NULL;
  double *rows;
  size_t count;
  mg_status st;

  if (!PyArg_ParseTuple(args, "OO!:alert_replay", &settings, &PyTuple_Type,
                        &tuple))
    return NULL;
  config = mgpy_settings_get(state, settings);
  if (config == NULL) return NULL;
  count = (size_t)PyTuple_GET_SIZE(tuple);
  rows = alert_numbers(tuple, count);
  if (rows == NULL) return NULL;
  st = mg_alert_replay(config, rows, count / MG_ALERT_ROW, &text, &err);
  PyMem_Free(rows);
  return alert_text(state, st, text, &err);
}

/* ---- module -------------------------------------------------------------- */

static PyMethodDef alert_methods[] = {
    {"_outbox_open", alert_outbox_open, METH_VARARGS, NULL},
    {"_outbox_begin", alert_outbox_begin, METH_VARARGS, NULL},
    {"_outbox_follow", alert_outbox_follow, METH_VARARGS, NULL},
    {"_outbox_due", alert_outbox_due, METH_VARARGS, NULL},
    {"_outbox_take", alert_outbox_take, METH_VARARGS, NULL},
    {"_outbox_done", alert_outbox_done, METH_VARARGS, NULL},
    {"_outbox_stats", alert_outbox_stats, METH_O, NULL},
    {"alert_replay", alert_replay, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static int alert_add_names(PyObject *module, const char *name, size_t count,
                           const char *(*name_of)(size_t)) {
  PyObject *made = PyTuple_New((Py_ssize_t)count);
  int st;

  for (size_t i = 0; made != NULL && i < count; i++) {
    PyObject *text = PyUnicode_FromString(name_of(i));
    if (text == NULL) Py_CLEAR(made);
    else PyTuple_SET_ITEM(made, (Py_ssize_t)i, text);
  }
  st = PyModule_AddObjectRef(module, name, made);
  Py_XDECREF(made);
  return st;
}

static const char *alert_fact_name(size_t i) {
#define ALERT_FACT(name) #name,
  static const char *const names[] = {MG_ALERT_FACT_MAP(ALERT_FACT)};
#undef ALERT_FACT
  return names[i];
}

static const char *alert_kind_name(size_t i) {
  return mg_alert_name((mg_alert_kind)i);
}

static const char *alert_signal_name(size_t i) {
  return mg_detector_signal_name((uint32_t)i);
}

int mgpy_add_alert(PyObject *module, mgpy_state *state) {
  (void)state;
  if (PyModule_AddFunctions(module, alert_methods) < 0 ||
      alert_add_names(module, "ALERT_FACTS", MG_ALERT_FACTS,
                      alert_fact_name) < 0 ||
      alert_add_names(module, "ALERTS", MG_ALERTS, alert_kind_name) < 0)
    return -1;
  return alert_add_names(module, "LEAK_SIGNALS", MG_LEAK_SIGNALS,
                         alert_signal_name);
}
