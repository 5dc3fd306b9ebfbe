/* decide.c - the pure decisions of the core, as functions for memguard.decide. */
#include "memguard_python.h"

#include "memguard/advice.h"
#include "memguard/leak.h"
#include "memguard/level.h"
#include "memguard/policy.h"
#include "memguard/pool.h"

static mgpy_state *decide_state(PyObject *module) {
  return PyModule_GetState(module);
}

/* ---- usage and pace ---------------------------------------------------- */

/* Fills one field; a missing key or None is absent. @return 0 or -1. */
static int decide_read_field(PyObject *mapping, const char *name,
                             uint64_t *out) {
  PyObject *value = PyMapping_GetItemString(mapping, name);
  int st;

  if (value == NULL) {
    if (!PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
    PyErr_Clear();
  }
  st = mgpy_number_read(value, out);
  Py_XDECREF(value);
  return st;
}

static int decide_read_reading(PyObject *mapping, mg_reading *out) {
  mg_reading_init(out);
#define DECIDE_FIELD(field, doc) \
  if (decide_read_field(mapping, #field, &out->field) < 0) return -1;
  MG_READING_MAP(DECIDE_FIELD)
#undef DECIDE_FIELD
  return 0;
}

static PyObject *decide_usage(PyObject *module, PyObject *args) {
  mgpy_state *state = decide_state(module);
  PyObject *mapping, *settings;
  const mg_config *config;
  mg_reading reading;
  mg_domain domain;
  double usage;

  if (!PyArg_ParseTuple(args, "OO:usage", &mapping, &settings)) return NULL;
  config = mgpy_settings_get(state, settings);
  if (config == NULL || decide_read_reading(mapping, &reading) < 0) return NULL;
  usage = mg_usage(&reading, config, &domain);
  return Py_BuildValue("(dO)", usage, state->domains[domain]);
}

static PyObject *decide_sample_due_ms(PyObject *module, PyObject *args) {
  double usage, rate_per_ms, longest_ms;
  (void)module;

  if (!PyArg_ParseTuple(args, "ddd:sample_due_ms", &usage, &rate_per_ms,
                        &longest_ms))
    return NULL;
  return PyFloat_FromDouble(mg_sample_due_ms(usage, rate_per_ms, longest_ms));
}

static PyObject *decide_budget_bytes(PyObject *module, PyObject *args) {
  PyObject *limit;
  uint64_t limit_bytes;
  double usage;
  (void)module;

  if (!PyArg_ParseTuple(args, "Od:budget_bytes", &limit, &usage) ||
      mgpy_number_read(limit, &limit_bytes) < 0)
    return NULL;
  return mgpy_number(mg_policy_budget_bytes(limit_bytes, usage));
}

static PyObject *decide_v8_advice(PyObject *module, PyObject *args) {
  mg_v8_view view = {MG_ABSENT, 0, 0.0, 0.0};
  mg_error err = MG_ERROR_INIT;
  mg_v8_advice advice;
  PyObject *limit;
  unsigned major;

  if (!PyArg_ParseTuple(args, "OIdd:v8_advice", &limit, &major, &view.headroom,
                        &view.share) ||
      mgpy_number_read(limit, &view.limit_bytes) < 0)
    return NULL;
  view.node_major = major;
  if (mg_v8_advise(&advice, &view, &err) != MG_OK)
    return mgpy_raise(decide_state(module), &err);
  return Py_BuildValue(
      "{sNsIsIsOsOsO}", "old_space_mb", mgpy_number(advice.old_space_mb),
      "semi_space_mb", (unsigned)advice.semi_space_mb, "young_mb",
      (unsigned)advice.young_mb, "is_capped",
      advice.is_capped ? Py_True : Py_False, "is_tight",
      advice.is_tight ? Py_True : Py_False, "takes_semi_option",
      advice.takes_semi_option ? Py_True : Py_False);
}

/* ---- buffer sizes ------------------------------------------------------ */

typedef uint32_t (*decide_size_function)(uint32_t, double, const mg_config *);

static PyObject *decide_size(PyObject *module, PyObject *args,
                             decide_size_function decide) {
  const mg_config *config;
  PyObject *settings;
  unsigned int size;
  double pressure;

  if (!PyArg_ParseTuple(args, "IdO", &size, &pressure, &settings)) return NULL;
  config = mgpy_settings_get(decide_state(module), settings);
  if (config == NULL) return NULL;
  return PyLong_FromUnsignedLong(decide(size, pressure, config));
}

static PyObject *decide_buffer_size_next(PyObject *module, PyObject *args) {
  return decide_size(module, args, mg_buffer_size_next);
}

static PyObject *decide_buffer_flush_at(PyObject *module, PyObject *args) {
  return decide_size(module, args, mg_buffer_flush_at);
}

/* ---- trend ------------------------------------------------------------- */

static int decide_read_point(PyObject *point, double *time_ms,
                             uint64_t *bytes) {
  PyObject *pair = PySequence_Fast(point, "a point is (time_ms, bytes)");
  int st = -1;

  if (pair == NULL) return -1;
  if (PySequence_Fast_GET_SIZE(pair) != 2) {
    PyErr_SetString(PyExc_TypeError, "a point is (time_ms, bytes)");
  } else {
    *time_ms = PyFloat_AsDouble(PySequence_Fast_GET_ITEM(pair, 0));
    if (*time_ms != -1.0 || !PyErr_Occurred())
      st = mgpy_number_read(PySequence_Fast_GET_ITEM(pair, 1), bytes);
  }
  Py_DECREF(pair);
  return st;
}

static int decide_read_points(PyObject *points, double *time_ms,
                              uint64_t *bytes) {
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(points); i++)
    if (decide_read_point(PySequence_Fast_GET_ITEM(points, i), &time_ms[i],
                          &bytes[i]) < 0)
      return -1;
  return 0;
}

static PyObject *decide_trend(PyObject *module, PyObject *points_object) {
  PyObject *points = PySequence_Fast(points_object, "points must be a list");
  PyObject *made = NULL;
  double *time_ms = NULL;
  uint64_t *bytes = NULL;
  mg_trend trend;
  size_t count;
  (void)module;

  if (points == NULL) return NULL;
  count = (size_t)PySequence_Fast_GET_SIZE(points);
  time_ms = PyMem_New(double, count + 1);
  bytes = PyMem_New(uint64_t, count + 1);
  if (time_ms == NULL || bytes == NULL) {
    PyErr_NoMemory();
  } else if (decide_read_points(points, time_ms, bytes) == 0) {
    mg_trend_of(&trend, time_ms, bytes, count);
    made = Py_BuildValue("(sddI)", mg_direction_name(trend.direction),
                         trend.mb_per_minute, trend.tau, trend.points);
  }
  PyMem_Free(time_ms);
  PyMem_Free(bytes);
  Py_DECREF(points);
  return made;
}

/* ---- leaks ------------------------------------------------------------- */

#define DECIDE_CHANGES 64u

static PyObject *decide_changes(const mg_leak_change *changes, size_t count) {
  PyObject *list = PyList_New(0);

  for (size_t i = 0; list != NULL && i < count; i++) {
    const mg_leak_finding *f = &changes[i].finding;
    PyObject *row = Py_BuildValue(
        "(dsssOsdddddddI)", changes[i].now_ms, f->name,
        mg_leak_tier_name(f->tier), mg_leak_tier_name(f->previous),
        f->is_critical ? Py_True : Py_False, mg_leak_severity_name(f->severity),
        f->growth, f->growth_per_minute, f->base, f->latest, f->since_ms,
        f->to_limit_ms, f->window_ms, (unsigned)f->octaves);
    if (row == NULL || PyList_Append(list, row) < 0) Py_CLEAR(list);
    Py_XDECREF(row);
  }
  return list;
}

/* Names are borrowed from `points`, which has to outlive `out`. */
static int decide_leak_points(PyObject *points, mg_leak_point *out) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(points); i++) {
    PyObject *point = PyTuple_GET_ITEM(points, i);
    if (!PyTuple_Check(point)) {
      PyErr_SetString(PyExc_TypeError, "a point is (name, now_ms, value)");
      return -1;
    }
    if (!PyArg_ParseTuple(point, "sdd;a point is (name, now_ms, value)",
                          &out[i].name, &out[i].now_ms, &out[i].value))
      return -1;
  }
  return 0;
}

/* leak_replay(settings, tuple of (name, now_ms, value) tuples, limits) -> list of
 * (now_ms, fields of a finding) */
static PyObject *decide_leak_replay(PyObject *module, PyObject *args) {
  mg_leak_change changes[DECIDE_CHANGES];
  mg_error err = MG_ERROR_INIT;
  mg_leak_settings leak_settings;
  PyObject *settings, *points, *made = NULL;
  const mg_config *config;
  mg_leak_point *copied;
  mg_leak_limits limits;
  size_t count;
  mg_status st;

  if (!PyArg_ParseTuple(args, "OO!(dddddd):leak_replay", &settings,
                        &PyTuple_Type, &points, &limits.memory_bytes,
                        &limits.memory_used_bytes, &limits.heap_bytes,
                        &limits.fds, &limits.threads, &limits.mappings))
    return NULL;
  config = mgpy_settings_get(decide_state(module), settings);
  if (config == NULL) return NULL;
  copied = PyMem_New(mg_leak_point, (size_t)PyTuple_GET_SIZE(points) + 1);
  if (copied == NULL) return PyErr_NoMemory();
  if (decide_leak_points(points, copied) == 0) {
    leak_settings = mg_leak_settings_of(config);
    st = mg_leak_replay(&leak_settings, &limits, copied,
                        (size_t)PyTuple_GET_SIZE(points), changes,
                        DECIDE_CHANGES, &count, &err);
    if (count > DECIDE_CHANGES) count = DECIDE_CHANGES;
    made = st == MG_OK ? decide_changes(changes, count)
                       : mgpy_raise(decide_state(module), &err);
  }
  PyMem_Free(copied);
  return made;
}

/* ---- pools ------------------------------------------------------------- */

static PyObject *decide_pool_capacity(PyObject *module, PyObject *args) {
  unsigned long long bytes;
  (void)module;

  if (!PyArg_ParseTuple(args, "K:pool_capacity", &bytes)) return NULL;
  return PyLong_FromUnsignedLongLong(mg_pool_capacity(bytes));
}

static PyObject *decide_pool_tier(PyObject *module, PyObject *args) {
  unsigned long long capacity;
  (void)module;

  if (!PyArg_ParseTuple(args, "K:pool_tier", &capacity)) return NULL;
  return PyUnicode_FromString(mg_pool_tier_name(mg_pool_tier_of(capacity)));
}

static PyObject *decide_pool_trim(PyObject *module, PyObject *args) {
  unsigned int low_water;
  (void)module;

  if (!PyArg_ParseTuple(args, "I:pool_trim", &low_water)) return NULL;
  return PyLong_FromUnsignedLong(mg_pool_trim(low_water));
}

static PyObject *decide_pool_cache_limit(PyObject *module, PyObject *args) {
  unsigned long long class_bytes, cache_bytes;
  PyObject *name;
  mg_level level;

  if (!PyArg_ParseTuple(args, "KKO:pool_cache_limit", &class_bytes,
                        &cache_bytes, &name) ||
      mgpy_level_read(PyModule_GetState(module), name, &level) < 0)
    return NULL;
  return PyLong_FromUnsignedLongLong(
      mg_pool_cache_limit(class_bytes, cache_bytes, level));
}

static PyObject *decide_pool_cache_next(PyObject *module, PyObject *args) {
  unsigned int capacity, limit, misses, low_water;
  (void)module;

  if (!PyArg_ParseTuple(args, "IIII:pool_cache_next", &capacity, &limit,
                        &misses, &low_water))
    return NULL;
  return PyLong_FromUnsignedLong(
      mg_pool_cache_next(capacity, limit, misses, low_water));
}

PyMethodDef mgpy_decide_methods[] = {
    {"usage", decide_usage, METH_VARARGS, NULL},
    {"sample_due_ms", decide_sample_due_ms, METH_VARARGS, NULL},
    {"budget_bytes", decide_budget_bytes, METH_VARARGS, NULL},
    {"v8_advice", decide_v8_advice, METH_VARARGS, NULL},
    {"buffer_size_next", decide_buffer_size_next, METH_VARARGS, NULL},
    {"buffer_flush_at", decide_buffer_flush_at, METH_VARARGS, NULL},
    {"trend", decide_trend, METH_O, NULL},
    {"leak_replay", decide_leak_replay, METH_VARARGS, NULL},
    {"pool_capacity", decide_pool_capacity, METH_VARARGS, NULL},
    {"pool_tier", decide_pool_tier, METH_VARARGS, NULL},
    {"pool_trim", decide_pool_trim, METH_VARARGS, NULL},
    {"pool_cache_limit", decide_pool_cache_limit, METH_VARARGS, NULL},
    {"pool_cache_next", decide_pool_cache_next, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

/* ---- levels ------------------------------------------------------------ */

typedef struct decide_tracker {
  PyObject_HEAD
  mgpy_state *state;
  mg_config config;
  mg_level_tracker tracker;
} decide_tracker;

static PyObject *decide_tracker_new(PyTypeObject *type, PyObject *args,
                                    PyObject *keywords) {
  static char *names[] = {"settings", NULL};
  static const mg_level_tracker fresh = MG_LEVEL_TRACKER_INIT;
  mgpy_state *state = mgpy_state_of(type);
  const mg_config *config;
  decide_tracker *self;
  PyObject *settings;

  if (!PyArg_ParseTupleAndKeywords(args, keywords, "O:LevelTracker", names,
                                   &settings) ||
      state == NULL)
    return NULL;
  config = mgpy_settings_get(state, settings);
  if (config == NULL) return NULL;
  self = (decide_tracker *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->state = state;
  self->config = *config;
  self->tracker = fresh;
  return (PyObject *)self;
}

static void decide_tracker_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *decide_tracker_update(PyObject *self, PyObject *args) {
  decide_tracker *t = (decide_tracker *)self;
  double usage, now_ms;

  if (!PyArg_ParseTuple(args, "dd:update", &usage, &now_ms)) return NULL;
  return Py_NewRef(t->state->levels[mg_level_update(&t->tracker, &t->config,
                                                    usage, now_ms)]);
}

static PyMethodDef decide_tracker_methods[] = {
    {"update", decide_tracker_update, METH_VARARGS,
     "update(usage, now_ms)\n--\n\nThe level from now on."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot decide_tracker_slots[] = {
    MGPY_SLOT(Py_tp_new, decide_tracker_new),
    MGPY_SLOT(Py_tp_dealloc, decide_tracker_dealloc),
    {Py_tp_methods, decide_tracker_methods},
    {Py_tp_doc, (void *)"Base of memguard.decide.LevelTracker."},
    {0, NULL}};

static PyType_Spec decide_tracker_spec = {
    "memguard._core.LevelTracker", sizeof(decide_tracker), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, decide_tracker_slots};

int mgpy_add_level_tracker(PyObject *module, mgpy_state *state) {
  return mgpy_add_type(module, &decide_tracker_spec,
                       &state->level_tracker_type);
}
