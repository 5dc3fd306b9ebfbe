/* bridge.c - the points of metrics as Python objects, for libraries that have
 * metrics of their own. */
#include "memguard_python.h"

#include <math.h>

#include "memguard/metrics.h"

#define BRIDGE_NS_PER_SECOND 1e9

typedef struct bridge_list {
  PyObject *points; /* NULL once something failed */
} bridge_list;

/* (name, value) pairs. */
static PyObject *bridge_labels(const mg_metrics_point *point) {
  PyObject *made = PyDict_New();

  for (uint32_t i = 0; made != NULL && i < point->labels; i++) {
    const char *text = point->label[i].value;
    PyObject *value = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text),
                                           "replace");
    if (value == NULL ||
        PyDict_SetItemString(made, point->label[i].name, value) < 0)
      Py_CLEAR(made);
    Py_XDECREF(value);
  }
  return made;
}

/* [(upper bound in the metric's unit, count up to there), ...]; None if it is no
 * histogram. */
static PyObject *bridge_buckets(const mg_metrics_point *point,
                                const mg_metric_row *row) {
  double unit = strcmp(row->unit, "ns") == 0 ? 1.0 : BRIDGE_NS_PER_SECOND;
  PyObject *made;

  if (point->histogram == NULL) Py_RETURN_NONE;
  made = PyList_New(MG_METRICS_BOUNDS + 1);
  for (uint32_t i = 0; made != NULL && i <= MG_METRICS_BOUNDS; i++) {
    double bound = i < MG_METRICS_BOUNDS
                       ? (double)mg_metrics_bound_ns(i) / unit
                       : (double)INFINITY;
    PyObject *pair = Py_BuildValue(
        "(dK)", bound, (unsigned long long)point->histogram->bucket[i]);
    if (pair == NULL)
      Py_CLEAR(made);
    else
      PyList_SET_ITEM(made, i, pair);
  }
  return made;
}

/* @return NULL on failure. */
static PyObject *bridge_point(const mg_metrics_point *point) {
  const mg_metric_row *row = mg_metric_row_at(point->metric);
  PyObject *labels = bridge_labels(point);
  PyObject *buckets = labels == NULL ? NULL : bridge_buckets(point, row);

  if (buckets == NULL) {
    Py_XDECREF(labels);
    return NULL;
  }
  return Py_BuildValue("(ssssNdN)", row->name, mg_metric_type_name(row->type),
                       row->unit, row->help, labels, point->value, buckets);
}

static bool bridge_visit(void *ctx, const mg_metrics_point *point) {
  bridge_list *list = ctx;
  PyObject *made = bridge_point(point);

  if (made == NULL || PyList_Append(list->points, made) < 0)
    Py_CLEAR(list->points);
  Py_XDECREF(made);
  return list->points != NULL;
}

/* metrics_points(groups, with_group) -> list of (name, type, unit, help, labels,
 * value, buckets or None). Reading takes some 100 us a process, with the GIL. */
static PyObject *bridge_metrics_points(PyObject *module, PyObject *args) {
  mg_error err = MG_ERROR_INIT;
  bridge_list list;
  unsigned groups;
  int with_group;
  mg_status st;

  if (!PyArg_ParseTuple(args, "Ip:_metrics_points", &groups, &with_group))
    return NULL;
  list.points = PyList_New(0);
  if (list.points == NULL) return NULL;
  st = (with_group ? mg_metrics_each_group : mg_metrics_each_own)(
      groups, bridge_visit, &list, &err);
  if (list.points == NULL) return NULL;
  if (st == MG_OK) return list.points;
  Py_DECREF(list.points);
  return mgpy_raise(PyModule_GetState(module), &err);
}

/* metrics_rows() -> list of (name, type, unit, help, group): the table. */
static PyObject *bridge_metrics_rows(PyObject *module, PyObject *unused) {
  PyObject *made = PyList_New(0);
  (void)module;
  (void)unused;

  for (int metric = 0; made != NULL && metric < MG_METRICS; metric++) {
    const mg_metric_row *row = mg_metric_row_at((mg_metric)metric);
    PyObject *one = Py_BuildValue("(ssssI)", row->name,
                                  mg_metric_type_name(row->type), row->unit,
                                  row->help, (unsigned)row->group);
    if (one == NULL || PyList_Append(made, one) < 0) Py_CLEAR(made);
    Py_XDECREF(one);
  }
  return made;
}

static PyMethodDef bridge_methods[] = {
    {"_metrics_rows", bridge_metrics_rows, METH_NOARGS, NULL},
    {"_metrics_points", bridge_metrics_points, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_bridge(PyObject *module, mgpy_state *state) {
  (void)state;
  return PyModule_AddFunctions(module, bridge_methods);
}
