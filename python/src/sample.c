/* sample.c - memguard._core.Sample, a copy of one mg_sample.
 *
 * Attributes are made when asked for: taking the latest sample and reading one
 * number of it is what hosts do often. */
#include "memguard_python.h"

#include <stddef.h>

typedef struct sample_object {
  PyObject_HEAD
  mgpy_state *state;
  mg_sample sample;
} sample_object;

PyObject *mgpy_number(uint64_t value) {
  if (value == MG_ABSENT) Py_RETURN_NONE;
  return PyLong_FromUnsignedLongLong(value);
}

int mgpy_number_read(PyObject *object, uint64_t *out) {
  unsigned long long value;

  *out = MG_ABSENT;
  if (object == NULL || object == Py_None) return 0;
  value = PyLong_AsUnsignedLongLong(object);
  if (value == (unsigned long long)-1 && PyErr_Occurred()) return -1;
  *out = value;
  return 0;
}

PyObject *mgpy_sample_new(mgpy_state *state, const mg_sample *sample) {
  sample_object *self = PyObject_New(sample_object, state->sample_type);

  if (self == NULL) return NULL;
  self->state = state;
  self->sample = *sample;
  return (PyObject *)self;
}

static void sample_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  PyObject_Free(self);
  Py_DECREF(type);
}

/* ---- attributes -------------------------------------------------------- */

static PyObject *sample_get_number(PyObject *self, void *offset) {
  const char *sample = (const char *)&((sample_object *)self)->sample;

  return mgpy_number(*(const uint64_t *)(sample + (uintptr_t)offset));
}

static PyObject *sample_get_ratio(PyObject *self, void *offset) {
  const char *sample = (const char *)&((sample_object *)self)->sample;

  return PyFloat_FromDouble(*(const double *)(sample + (uintptr_t)offset));
}

static PyObject *sample_get_domain(PyObject *self, void *closure) {
  const sample_object *s = (const sample_object *)self;
  (void)closure;
  return Py_NewRef(s->state->domains[s->sample.domain]);
}

static PyObject *sample_get_level(PyObject *self, void *closure) {
  const sample_object *s = (const sample_object *)self;
  (void)closure;
  return Py_NewRef(s->state->levels[s->sample.level]);
}

#define SAMPLE_OFFSET(field) ((void *)offsetof(mg_sample, field))

static PyGetSetDef sample_attributes[] = {
    {"number", sample_get_number, NULL,
     "1 for the first sample of a monitor; 0: there is none yet",
     SAMPLE_OFFSET(number)},
    {"clock_ns", sample_get_number, NULL,
     "monotonic clock in nanoseconds, as time.monotonic_ns()",
     SAMPLE_OFFSET(clock_ns)},
    {"unix_ms", sample_get_number, NULL,
     "wall clock, milliseconds since 1970", SAMPLE_OFFSET(unix_ms)},
    {"peak_rss_bytes", sample_get_number, NULL,
     "highest resident set in any sample so far",
     SAMPLE_OFFSET(peak_rss_bytes)},
    {"usage", sample_get_ratio, NULL,
     "highest ratio of use to limit over the domains; may exceed 1.0",
     SAMPLE_OFFSET(usage)},
    {"pressure", sample_get_ratio, NULL, "usage held inside 0.0 to 1.0",
     SAMPLE_OFFSET(pressure)},
    {"domain", sample_get_domain, NULL,
     "the domain that usage comes from, e.g. \"cgroup\"", NULL},
    {"level", sample_get_level, NULL,
     "\"normal\", \"elevated\", \"high\" or \"critical\"", NULL},
#define SAMPLE_READING(field, doc)         \
  {#field, sample_get_number, NULL, doc ", or None if it is not known", \
   SAMPLE_OFFSET(reading.field)},
    MG_READING_MAP(SAMPLE_READING)
#undef SAMPLE_READING
    {NULL, NULL, NULL, NULL, NULL}};

static PyObject *sample_as_dict(PyObject *self, PyObject *unused) {
  PyObject *made = PyDict_New();
  (void)unused;

  if (made == NULL) return NULL;
  for (const PyGetSetDef *row = sample_attributes; row->name != NULL; row++) {
    PyObject *value = row->get(self, row->closure);
    int failed = value == NULL || PyDict_SetItemString(made, row->name, value);
    Py_XDECREF(value);
    if (failed) goto fail_made;
  }
  return made;

fail_made:
  Py_DECREF(made);
  return NULL;
}

static PyObject *sample_repr(PyObject *self) {
  const sample_object *s = (const sample_object *)self;
  PyObject *usage = PyFloat_FromDouble(s->sample.usage), *made;

  if (usage == NULL) return NULL;
  made = PyUnicode_FromFormat(
      "<memguard.Sample %llu usage=%R domain=%U level=%U>",
      (unsigned long long)s->sample.number, usage,
      s->state->domains[s->sample.domain], s->state->levels[s->sample.level]);
  Py_DECREF(usage);
  return made;
}

static PyMethodDef sample_methods[] = {
    {"as_dict", sample_as_dict, METH_NOARGS,
     "as_dict()\n--\n\nEvery attribute in a new dict, by name."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot sample_slots[] = {
    MGPY_SLOT(Py_tp_dealloc, sample_dealloc),
    MGPY_SLOT(Py_tp_repr, sample_repr),
    {Py_tp_getset, sample_attributes},
    {Py_tp_methods, sample_methods},
    {Py_tp_doc,
     (void *)"What was known about the process at one moment. Immutable; "
             "usable from any thread."},
    {0, NULL}};

static PyType_Spec sample_spec = {
    "memguard._core.Sample", sizeof(sample_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    sample_slots};

int mgpy_add_sample(PyObject *module, mgpy_state *state) {
  for (int level = 0; level < MG_LEVELS; level++) {
    state->levels[level] =
        PyUnicode_InternFromString(mg_level_name((mg_level)level));
    if (state->levels[level] == NULL) return -1;
  }
  for (int domain = 0; domain < MG_DOMAINS; domain++) {
    state->domains[domain] =
        PyUnicode_InternFromString(mg_domain_name((mg_domain)domain));
    if (state->domains[domain] == NULL) return -1;
  }
  return mgpy_add_type(module, &sample_spec, &state->sample_type);
}
