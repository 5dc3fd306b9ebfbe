/* metrics.c - metrics of this process, and the looks at the heap that they need.
 *
 * CPython tells its heap only to who holds the GIL and walks it (some 0.3 ms). So
 * it is looked at when the first monitor starts, when metrics are asked for here,
 * and after a full collection, which cost far more: from the main thread's eval
 * loop, since a collector's callback must not allocate. */
#include "memguard_python.h"

#include <string.h>

#include "memguard/metrics.h"

#define METRICS_LOOK_NS UINT64_C(5000000000) /* at most so often by itself */

static _Atomic uint64_t metrics_looked_ns;
static _Atomic bool metrics_is_due;

/* ---- looks ---------------------------------------------------------------- */

static uint64_t metrics_objects(void) {
  PyObject *count = PySys_GetObject("getallocatedblocks"); /* borrowed */
  unsigned long long number = 0;

  Py_XINCREF(count);
  if (count != NULL) {
    PyObject *made = PyObject_CallNoArgs(count);
    number = made == NULL ? 0 : PyLong_AsUnsignedLongLong(made);
    Py_XDECREF(made);
    Py_DECREF(count);
  }
  if (PyErr_Occurred()) {
    PyErr_Clear();
    return MG_ABSENT;
  }
  return number == 0 ? MG_ABSENT : (uint64_t)number; /* 0: another allocator */
}

void mgpy_metrics_look(void) {
  mg_heap_look look = MG_HEAP_LOOK_INIT;

  /* Interpreters have heaps of their own, of which the main one's is shown. */
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) return;
  atomic_store(&metrics_looked_ns, mg_clock_ns());
  mgpy_heap_look(&look);
  if (look.block_total_bytes != MG_ABSENT) look.heap_objects = metrics_objects();
  mg_malloc_read(&look.malloc_used_bytes, &look.malloc_total_bytes);
  mg_monitor_set_look(NULL, &look);
}

static int metrics_look_pending(void *unused) {
  (void)unused;
  atomic_store(&metrics_is_due, false);
  mgpy_metrics_look();
  return 0;
}

void mgpy_metrics_collected(void) {
  if (mg_clock_ns() - atomic_load(&metrics_looked_ns) < METRICS_LOOK_NS ||
      atomic_exchange(&metrics_is_due, true))
    return;
  if (Py_AddPendingCall(metrics_look_pending, NULL) < 0)
    atomic_store(&metrics_is_due, false); /* full: after the next one */
}

/* ---- text ----------------------------------------------------------------- */

static void metrics_prepare(void) {
  mgpy_segment_describe();
  mgpy_metrics_look();
}

static uint32_t metrics_groups(int compatible) {
  return compatible ? MG_METRICS_ALL : MG_METRICS_CANONICAL;
}

/* _metrics_text(openmetrics, compatible) */
static PyObject *metrics_text(PyObject *module, PyObject *args) {
  mg_error err = MG_ERROR_INIT;
  int openmetrics, compatible;
  PyObject *made;
  size_t bytes;
  char *text;

  if (!PyArg_ParseTuple(args, "pp:_metrics_text", &openmetrics, &compatible))
    return NULL;
  metrics_prepare();
  if (mg_metrics_render_own(
          &text, &bytes,
          openmetrics ? MG_METRICS_OPENMETRICS : MG_METRICS_PROMETHEUS,
          metrics_groups(compatible), &err) != MG_OK)
    return mgpy_raise(PyModule_GetState(module), &err);
  made = PyUnicode_DecodeUTF8(text, (Py_ssize_t)bytes, NULL);
  mg_free_text(text);
  return made;
}

/* ---- points ---------------------------------------------------------------- */

typedef struct metrics_list {
  PyObject *families;
  PyObject *samples; /* [borrowed] of the last family */
  mg_metric metric;  /* of that; MG_METRICS: none */
} metrics_list;

static PyObject *metrics_labels(const mg_metrics_point *point) {
  PyObject *made = PyDict_New(), *value;

  for (uint32_t i = 0; made != NULL && i < point->labels; i++) {
    value = PyUnicode_FromString(point->label[i].value);
    if (value == NULL ||
        PyDict_SetItemString(made, point->label[i].name, value) < 0)
      Py_CLEAR(made);
    Py_XDECREF(value);
  }
  return made;
}

/* Bounds in the unit of the metric. */
static PyObject *metrics_buckets(const mg_metrics_point *point) {
  const char *unit = mg_metric_row_at(point->metric)->unit;
  double scale = strcmp(unit, "ns") == 0 ? 1.0 : 1e9;
  PyObject *made = PyList_New(MG_METRICS_BOUNDS + 1), *pair;

  for (uint32_t i = 0; made != NULL && i <= MG_METRICS_BOUNDS; i++) {
    double bound = i == MG_METRICS_BOUNDS
                       ? Py_HUGE_VAL
                       : (double)mg_metrics_bound_ns(i) / scale;
    pair = Py_BuildValue("(dK)", bound,
                         (unsigned long long)point->histogram->bucket[i]);
    if (pair == NULL)
      Py_CLEAR(made);
    else
      PyList_SET_ITEM(made, i, pair);
  }
  return made;
}

/* (labels, value, None) or (labels, sum, buckets). */
static PyObject *metrics_sample(const mg_metrics_point *point) {
  PyObject *buckets = point->histogram != NULL ? metrics_buckets(point)
                                               : Py_NewRef(Py_None);

  /* N gives the references away, NULL makes it fail. */
  return Py_BuildValue("(NdN)", metrics_labels(point), point->value, buckets);
}

static bool metrics_begin(metrics_list *list, mg_metric metric) {
  const mg_metric_row *row = mg_metric_row_at(metric);
  PyObject *samples = PyList_New(0), *family;
  int done;

  family = Py_BuildValue("(ssssO)", row->name, mg_metric_type_name(row->type),
                         row->unit, row->help, samples);
  Py_XDECREF(samples);
  if (family == NULL) return false;
  done = PyList_Append(list->families, family);
  Py_DECREF(family);
  list->metric = metric;
  list->samples = samples;
  return done == 0;
}

static bool metrics_visit(void *ctx, const mg_metrics_point *point) {
  metrics_list *list = ctx;
  PyObject *sample;
  int done;

  if (list->metric != point->metric && !metrics_begin(list, point->metric))
    return false;
  sample = metrics_sample(point);
  done = sample == NULL ? -1 : PyList_Append(list->samples, sample);
  Py_XDECREF(sample);
  return done == 0;
}

/* _metrics_collect(compatible, workers): [(name, type, unit, help, [sample, ...]),
 * ...], with those of the process group. */
static PyObject *metrics_collect(PyObject *module, PyObject *args) {
  metrics_list list = {.metric = MG_METRICS};
  mg_error err = MG_ERROR_INIT;
  int is_compatible, workers = 0;

  if (!PyArg_ParseTuple(args, "p|p:_metrics_collect", &is_compatible, &workers))
    return NULL;
  list.families = PyList_New(0);
  if (list.families == NULL) return NULL;
  metrics_prepare();
  if ((workers ? mg_metrics_each_group : mg_metrics_each_own)(
          metrics_groups(is_compatible), metrics_visit, &list, &err) != MG_OK)
    mgpy_raise(PyModule_GetState(module), &err);
  if (PyErr_Occurred()) Py_CLEAR(list.families);
  return list.families;
}

/* _metrics_rows(): [(name, type, unit, help, is canonical), ...]: the table. */
static PyObject *metrics_rows(PyObject *module, PyObject *unused) {
  PyObject *made = PyList_New(MG_METRICS);
  (void)module;
  (void)unused;

  for (int metric = 0; made != NULL && metric < MG_METRICS; metric++) {
    const mg_metric_row *row = mg_metric_row_at((mg_metric)metric);
    PyObject *one = Py_BuildValue(
        "(ssssO)", row->name, mg_metric_type_name(row->type), row->unit,
        row->help, row->group == MG_METRICS_CANONICAL ? Py_True : Py_False);
    if (one == NULL)
      Py_CLEAR(made);
    else
      PyList_SET_ITEM(made, metric, one);
  }
  return made;
}

/* ---- others ------------------------------------------------------------------ */

static PyObject *metrics_add_connections(PyObject *module, PyObject *change) {
  long long number = PyLong_AsLongLong(change);
  (void)module;

  if (number == -1 && PyErr_Occurred()) return NULL;
  mg_metrics_add_connections(number);
  Py_RETURN_NONE;
}

/* _metrics_read(bytes, openmetrics, groups): text of a segment in memory, with
 * what its service comes to. For tests. */
static PyObject *metrics_read(PyObject *module, PyObject *args) {
  mg_error err = MG_ERROR_INIT;
  mg_metrics_process process = {.is_alive = true};
  mg_segment_view view;
  Py_buffer bytes;
  PyObject *made = NULL;
  int openmetrics;
  unsigned groups;
  size_t count;
  char *text;

  if (!PyArg_ParseTuple(args, "y*pI:_metrics_read", &bytes, &openmetrics,
                        &groups))
    return NULL;
  if (mg_segment_open_bytes(&process.segment, bytes.buf, (size_t)bytes.len,
                            &err) == MG_OK &&
      mg_segment_read(process.segment, &view, &err) == MG_OK) {
    process.header = mg_segment_header_of(process.segment);
    process.view = &view;
    if (mg_metrics_render(&text, &count, &process, 1, NULL, 0,
                          openmetrics ? MG_METRICS_OPENMETRICS
                                      : MG_METRICS_PROMETHEUS,
                          groups, &err) == MG_OK) {
      made = PyUnicode_DecodeUTF8(text, (Py_ssize_t)count, NULL);
      mg_free_text(text);
    }
  }
  mg_segment_close(process.segment);
  PyBuffer_Release(&bytes);
  if (made == NULL && !PyErr_Occurred())
    mgpy_raise(PyModule_GetState(module), &err);
  return made;
}

static PyMethodDef metrics_methods[] = {
    {"_metrics_text", metrics_text, METH_VARARGS, NULL},
    {"_metrics_collect", metrics_collect, METH_VARARGS, NULL},
    {"_metrics_rows", metrics_rows, METH_NOARGS, NULL},
    {"_metrics_read", metrics_read, METH_VARARGS, NULL},
    {"_metrics_add_connections", metrics_add_connections, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_metrics(PyObject *module, mgpy_state *state) {
  PyObject *layout = Py_BuildValue("(kk)", (unsigned long)MG_SEGMENT_VERSION,
                                   sizeof(mg_segment_layout));
  int done = PyModule_AddObjectRef(module, "_SEGMENT_LAYOUT", layout);

  (void)state;
  Py_XDECREF(layout);
  return done < 0 ? done : PyModule_AddFunctions(module, metrics_methods);
}
