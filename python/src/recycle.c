/* recycle.c - memguard._core.Recycle: when a worker should make room. */
#include "memguard_python.h"

#include "memguard/recycle.h"

typedef struct recycle_object {
  PyObject_HEAD
  mg_recycle recycle;
} recycle_object;

static PyObject *recycle_new(PyTypeObject *type, PyObject *args,
                             PyObject *keywords) {
  static char *names[] = {"limit_bytes", "sustain_ms", "jitter_ms",
                          "min_age_ms",  "spread",     "now_ms",
                          NULL};
  mg_recycle_options options = MG_RECYCLE_OPTIONS_INIT;
  mgpy_state *state = mgpy_state_of(type);
  mg_error err = MG_ERROR_INIT;
  recycle_object *self;
  PyObject *limit;
  double now_ms;

  if (!PyArg_ParseTupleAndKeywords(
          args, keywords, "Oddddd:Recycle", names, &limit, &options.sustain_ms,
          &options.jitter_ms, &options.min_age_ms, &options.spread, &now_ms) ||
      state == NULL || mgpy_number_read(limit, &options.limit_bytes) < 0)
    return NULL;
  self = (recycle_object *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  if (mg_recycle_init(&self->recycle, &options, now_ms, &err) != MG_OK) {
    Py_DECREF(self);
    return mgpy_raise(state, &err);
  }
  return (PyObject *)self;
}

static void recycle_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *recycle_offer(PyObject *self, PyObject *args) {
  mg_recycle_verdict verdict;
  uint64_t rss_bytes;
  PyObject *rss;
  double now_ms;

  if (!PyArg_ParseTuple(args, "Od:offer", &rss, &now_ms) ||
      mgpy_number_read(rss, &rss_bytes) < 0)
    return NULL;
  MGPY_CRITICAL_BEGIN(self)
  verdict =
      mg_recycle_offer(&((recycle_object *)self)->recycle, rss_bytes, now_ms);
  MGPY_CRITICAL_END()
  return PyUnicode_FromString(mg_recycle_verdict_name(verdict));
}

static PyMethodDef recycle_methods[] = {
    {"offer", recycle_offer, METH_VARARGS,
     "offer(rss_bytes, now_ms)\n--\n\nTakes in a reading; the verdict."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot recycle_slots[] = {
    MGPY_SLOT(Py_tp_new, recycle_new),
    MGPY_SLOT(Py_tp_dealloc, recycle_dealloc),
    {Py_tp_methods, recycle_methods},
    {Py_tp_doc, (void *)"Base of memguard.decide.Recycle."},
    {0, NULL}};

static PyType_Spec recycle_spec = {
    "memguard._core.Recycle", sizeof(recycle_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, recycle_slots};

int mgpy_add_recycle(PyObject *module, mgpy_state *state) {
  PyTypeObject *type;
  (void)state;

  if (mgpy_add_type(module, &recycle_spec, &type) < 0) return -1;
  Py_DECREF(type); /* the module keeps it */
  return 0;
}
