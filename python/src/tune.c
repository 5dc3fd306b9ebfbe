/* tune.c - the decisions of tune.h as one object: the base of
 * memguard.decide.Tuner, and what memguard.tuning runs. */
#include "memguard_python.h"

#include <math.h>

#include "memguard/tune.h"

typedef struct tune_object {
  PyObject_HEAD
  mgpy_state *state;
  mg_config config;
  mg_trial trial;
  mg_freeze freeze;
  mg_idle idle;
  mg_roll roll;
} tune_object;

/* ---- names --------------------------------------------------------------- */

static int tune_read_profile(mgpy_state *state, PyObject *object,
                             mg_gc_profile *out) {
  const char *name = mgpy_name(state, object, "a GC profile");
  mg_error err = MG_ERROR_INIT;

  if (name == NULL) return -1;
  if (mg_gc_profile_find(out, name, &err) == MG_OK) return 0;
  mgpy_raise(state, &err);
  return -1;
}

static int tune_read_profiles(mgpy_state *state, PyObject *object,
                              uint32_t *out) {
  PyObject *names = PySequence_Fast(object, "profiles must be a sequence");
  mg_gc_profile profile;
  int st = 0;

  if (names == NULL) return -1;
  *out = 0;
  for (Py_ssize_t i = 0; st == 0 && i < PySequence_Fast_GET_SIZE(names); i++) {
    st = tune_read_profile(state, PySequence_Fast_GET_ITEM(names, i), &profile);
    if (st == 0) *out |= MG_GC_PROFILE_BIT(profile);
  }
  Py_DECREF(names);
  return st;
}

static const char *tune_step_name(int step) {
  return mg_freeze_step_name((mg_freeze_step)step);
}

static int tune_read_step(mgpy_state *state, PyObject *object,
                          mg_freeze_step *out) {
  int step = mgpy_name_find(state, object, "step", tune_step_name,
                            MG_FREEZE_PASS, MG_FREEZE_THAW + 1);

  if (step < 0) return -1;
  *out = (mg_freeze_step)step;
  return 0;
}

/* (laps, lap_low, lap_yield, rich_ms), None where there are none.
 * @return `out`, NULL for None; with an exception if it is neither. */
static const mg_roll *tune_read_laps(PyObject *object, mg_roll *out) {
  unsigned int laps;
  PyObject *low;

  *out = (mg_roll){0};
  if (object == Py_None || !PyArg_ParseTuple(object, "IOdd", &laps, &low,
                                             &out->lap_yield, &out->rich_ms))
    return NULL;
  out->laps = laps;
  return mgpy_number_read(low, &out->lap_end_low) < 0 ? NULL : out;
}

/* ---- life ---------------------------------------------------------------- */

static PyObject *tune_new(PyTypeObject *type, PyObject *args,
                          PyObject *keywords) {
  static char *names[] = {"settings", "profiles", "reference", NULL};
  mgpy_state *state = mgpy_state_of(type);
  PyObject *settings, *profiles, *reference;
  mg_gc_profile reference_profile;
  const mg_config *config;
  tune_object *self;
  uint32_t bits;

  if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO:Tuner", names,
                                   &settings, &profiles, &reference) ||
      state == NULL)
    return NULL;
  config = mgpy_settings_get(state, settings);
  if (config == NULL || tune_read_profiles(state, profiles, &bits) < 0 ||
      tune_read_profile(state, reference, &reference_profile) < 0)
    return NULL;
  self = (tune_object *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->state = state;
  self->config = *config;
  mg_trial_init(&self->trial, bits, reference_profile);
  mg_freeze_init(&self->freeze);
  mg_roll_init(&self->roll);
  return (PyObject *)self;
}

static void tune_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *tune_configure(PyObject *object, PyObject *settings) {
  tune_object *self = (tune_object *)object;
  const mg_config *config = mgpy_settings_get(self->state, settings);

  if (config == NULL) return NULL;
  self->config = *config;
  Py_RETURN_NONE;
}

/* ---- trial --------------------------------------------------------------- */

static PyObject *tune_profile_name(mg_gc_profile profile) {
  return PyUnicode_FromString(mg_gc_profile_name(profile));
}

/* _trial(now_ms, seconds, collections, pause_ms, gc_ms, peak_rss_bytes,
 *        operations) -> profile for the next window */
static PyObject *tune_trial(PyObject *object, PyObject *args) {
  tune_object *self = (tune_object *)object;
  PyObject *collections, *rss, *operations;
  mg_trial_window w = {0};
  double now_ms;

  if (!PyArg_ParseTuple(args, "ddOddOO:_trial", &now_ms, &w.seconds,
                        &collections, &w.pause_ms, &w.gc_ms, &rss,
                        &operations) ||
      mgpy_number_read(collections, &w.collections) < 0 ||
      mgpy_number_read(rss, &w.peak_rss_bytes) < 0 ||
      mgpy_number_read(operations, &w.operations) < 0)
    return NULL;
  if (w.collections == MG_ABSENT) w.collections = 0;
  return tune_profile_name(mg_trial_next(&self->trial, &w, now_ms));
}

static PyObject *tune_restart(PyObject *object, PyObject *unused) {
  (void)unused;
  return tune_profile_name(mg_trial_restart(&((tune_object *)object)->trial));
}

static PyObject *tune_try_all(PyObject *object, PyObject *unused) {
  (void)unused;
  mg_trial_try_all(&((tune_object *)object)->trial);
  Py_RETURN_NONE;
}

static PyObject *tune_row(const mg_trial *t, mg_gc_profile p) {
  const mg_trial_window *w = &t->window[p];
  const char *name = mg_gc_profile_name(p);
  const char *verdict = mg_trial_verdict_name(t->verdict[p]);

  if ((t->measured & MG_GC_PROFILE_BIT(p)) == 0)
    return Py_BuildValue("(ssOO)", name, verdict, Py_None, Py_None);
  return Py_BuildValue("(ssd(dKddNN))", name, verdict, t->score[p], w->seconds,
                       (unsigned long long)w->collections, w->pause_ms,
                       w->gc_ms, mgpy_number(w->peak_rss_bytes),
                       mgpy_number(w->operations));
}

/* _trial_state() -> (current, phase, rounds, rows) */
static PyObject *tune_trial_state(PyObject *object, PyObject *unused) {
  const mg_trial *t = &((tune_object *)object)->trial;
  PyObject *rows = PyList_New(0);
  (void)unused;

  for (int p = 0; rows != NULL && p < MG_GC_PROFILES; p++) {
    PyObject *row;
    if ((t->profiles & MG_GC_PROFILE_BIT(p)) == 0) continue;
    row = tune_row(t, (mg_gc_profile)p);
    if (row == NULL || PyList_Append(rows, row) < 0) Py_CLEAR(rows);
    Py_XDECREF(row);
  }
  if (rows == NULL) return NULL;
  return Py_BuildValue("(ssIN)", mg_gc_profile_name(t->current),
                       mg_trial_phase_name(t->phase), t->rounds, rows);
}

/* ---- freeze and idle ----------------------------------------------------- */

/* _freeze(now_ms, live, full_ms, full_collected, level, is_idle, laps) -> step */
static PyObject *tune_freeze(PyObject *object, PyObject *args) {
  tune_object *self = (tune_object *)object;
  PyObject *live, *collected, *level, *laps;
  mg_freeze_view v = {0};
  mg_roll roll;
  int is_idle;

  if (!PyArg_ParseTuple(args, "dOdOOpO:_freeze", &v.now_ms, &live, &v.full_ms,
                        &collected, &level, &is_idle, &laps) ||
      mgpy_number_read(live, &v.live) < 0 ||
      mgpy_number_read(collected, &v.full_collected) < 0 ||
      mgpy_level_read(self->state, level, &v.level) < 0)
    return NULL;
  v.is_idle = is_idle != 0;
  v.roll = tune_read_laps(laps, &roll);
  if (PyErr_Occurred()) return NULL;
  return PyUnicode_FromString(
      mg_freeze_step_name(mg_freeze_next(&self->freeze, &v)));
}

/* _frozen(step, now_ms, live, full_ms, full_collected, took_ms, laps) */
static PyObject *tune_frozen(PyObject *object, PyObject *args) {
  tune_object *self = (tune_object *)object;
  PyObject *name, *live, *collected, *laps;
  mg_freeze_view v = {0};
  mg_freeze_step step;
  double took_ms;
  mg_roll roll;

  if (!PyArg_ParseTuple(args, "OdOdOdO:_frozen", &name, &v.now_ms, &live,
                        &v.full_ms, &collected, &took_ms, &laps) ||
      tune_read_step(self->state, name, &step) < 0 ||
      mgpy_number_read(live, &v.live) < 0 ||
      mgpy_number_read(collected, &v.full_collected) < 0)
    return NULL;
  v.roll = tune_read_laps(laps, &roll);
  if (PyErr_Occurred()) return NULL;
  mg_freeze_done(&self->freeze, step, &v, took_ms);
  Py_RETURN_NONE;
}

static PyObject *tune_forget(PyObject *object, PyObject *unused) {
  (void)unused;
  mg_freeze_init(&((tune_object *)object)->freeze);
  Py_RETURN_NONE;
}

/* _roll(now_ms, live) -> how many objects to take now */
static PyObject *tune_roll(PyObject *object, PyObject *args) {
  PyObject *live_object;
  uint64_t live;
  double now_ms;

  if (!PyArg_ParseTuple(args, "dO:_roll", &now_ms, &live_object) ||
      mgpy_number_read(live_object, &live) < 0)
    return NULL;
  return PyLong_FromUnsignedLongLong(
      mg_roll_next(&((tune_object *)object)->roll, now_ms, live));
}

/* _rolled(now_ms, took_ms, live, taken, collected, is_lap) */
static PyObject *tune_rolled(PyObject *object, PyObject *args) {
  mg_roll *roll = &((tune_object *)object)->roll;
  unsigned long long taken, collected;
  mg_roll_part part = {0};
  PyObject *live;
  int is_lap;

  if (!PyArg_ParseTuple(args, "ddOKKp:_rolled", &part.now_ms, &part.took_ms,
                        &live, &taken, &collected, &is_lap) ||
      mgpy_number_read(live, &part.live) < 0)
    return NULL;
  part.taken = taken;
  part.collected = collected;
  part.is_lap = is_lap != 0;
  mg_roll_done(roll, &part);
  Py_RETURN_NONE;
}

static PyObject *tune_roll_wait(PyObject *object, PyObject *unused) {
  (void)unused;
  return PyFloat_FromDouble(mg_roll_wait_ms(&((tune_object *)object)->roll));
}

static PyObject *tune_roll_owe(PyObject *object, PyObject *unused) {
  (void)unused;
  mg_roll_owe(&((tune_object *)object)->roll, MG_FREEZE_THAW_LAPS);
  Py_RETURN_NONE;
}

static PyObject *tune_get_laps(PyObject *object, void *closure) {
  const mg_roll *roll = &((tune_object *)object)->roll;
  (void)closure;
  return Py_BuildValue("(INdd)", roll->laps, mgpy_number(roll->lap_end_low),
                       roll->lap_yield, roll->rich_ms);
}

/* _idle(now_ms, load or None, expected_ms, is_worth) -> bool */
static PyObject *tune_idle(PyObject *object, PyObject *args) {
  tune_object *self = (tune_object *)object;
  mg_idle_view v = {0};
  PyObject *load;
  int is_worth;

  if (!PyArg_ParseTuple(args, "dOdp:_idle", &v.now_ms, &load, &v.expected_ms,
                        &is_worth))
    return NULL;
  v.load = load == Py_None ? (double)NAN : PyFloat_AsDouble(load);
  if (v.load == -1.0 && PyErr_Occurred()) return NULL;
  v.is_worth = is_worth != 0;
  return PyBool_FromLong(mg_idle_due(&self->idle, &self->config, &v));
}

static PyObject *tune_get_is_idle(PyObject *object, void *closure) {
  (void)closure;
  return PyBool_FromLong(((tune_object *)object)->idle.is_idle);
}

static PyObject *tune_get_is_frozen(PyObject *object, void *closure) {
  (void)closure;
  return PyBool_FromLong(((tune_object *)object)->freeze.is_frozen);
}

/* ---- type ---------------------------------------------------------------- */

static PyMethodDef tune_methods[] = {
    {"_configure", tune_configure, METH_O, NULL},
    {"_trial", tune_trial, METH_VARARGS, NULL},
    {"_try_all", tune_try_all, METH_NOARGS, NULL},
    {"_restart", tune_restart, METH_NOARGS, NULL},
    {"_trial_state", tune_trial_state, METH_NOARGS, NULL},
    {"_freeze", tune_freeze, METH_VARARGS, NULL},
    {"_frozen", tune_frozen, METH_VARARGS, NULL},
    {"_forget_frozen", tune_forget, METH_NOARGS, NULL},
    {"_roll", tune_roll, METH_VARARGS, NULL},
    {"_rolled", tune_rolled, METH_VARARGS, NULL},
    {"_roll_wait_ms", tune_roll_wait, METH_NOARGS, NULL},
    {"_roll_owe", tune_roll_owe, METH_NOARGS, NULL},
    {"_idle", tune_idle, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef tune_attributes[] = {
    {"_laps", tune_get_laps, NULL, NULL, NULL},
    {"is_idle", tune_get_is_idle, NULL,
     "whether the load was low when it was last told", NULL},
    {"is_frozen", tune_get_is_frozen, NULL, "whether a step was told as done",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot tune_slots[] = {
    MGPY_SLOT(Py_tp_new, tune_new),
    MGPY_SLOT(Py_tp_dealloc, tune_dealloc),
    {Py_tp_methods, tune_methods},
    {Py_tp_getset, tune_attributes},
    {Py_tp_doc, (void *)"Base of memguard.decide.Tuner."},
    {0, NULL}};

static PyType_Spec tune_spec = {
    "memguard._core.Tuner", sizeof(tune_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, tune_slots};

/* ---- functions ----------------------------------------------------------- */

#define TUNE_NS_PER_MS 1e6
#define TUNE_FULL 2u /* generation */

/* _gc_window(seconds) -> (collections, CPU ms in them, full ones, ms in full
 * ones, objects that full ones freed, P95 of the longest pause in each of the last
 * whole `seconds`); the first five since recording began. */
static PyObject *tune_window(PyObject *module, PyObject *seconds_object) {
  const mg_pauses *pauses =
      ((mgpy_state *)PyModule_GetState(module))->gc.pauses;
  mg_pause_stats all = {0}, full = {0};
  unsigned long seconds = PyLong_AsUnsignedLong(seconds_object);
  uint64_t longest_ns = 0;

  if (PyErr_Occurred()) return NULL;
  if (pauses != NULL) {
    mg_pauses_read(pauses, MG_PAUSE_KINDS, &all);
    mg_pauses_read(pauses, TUNE_FULL, &full);
    longest_ns =
        mg_pauses_seconds(pauses, mg_clock_ns(), (uint32_t)seconds, 0.95);
  }
  return Py_BuildValue("(KdKdKd)", (unsigned long long)all.count,
                       (double)all.cpu_ns / TUNE_NS_PER_MS,
                       (unsigned long long)full.count,
                       (double)full.wall_ns / TUNE_NS_PER_MS,
                       (unsigned long long)full.collected,
                       (double)longest_ns / TUNE_NS_PER_MS);
}

static int tune_run_pending(void *call) {
  PyObject *done = PyObject_CallNoArgs(call);

  Py_DECREF((PyObject *)call);
  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

/* _call_in_main(call) -> whether the main thread will do it when it next comes
 * by; false in a sub-interpreter and when too much waits already. */
static PyObject *tune_call_in_main(PyObject *module, PyObject *call) {
  (void)module;
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) Py_RETURN_FALSE;
  if (Py_AddPendingCall(tune_run_pending, Py_NewRef(call)) == 0) Py_RETURN_TRUE;
  Py_DECREF(call);
  Py_RETURN_FALSE;
}

static PyMethodDef tune_functions[] = {
    {"_gc_window", tune_window, METH_O, NULL},
    {"_call_in_main", tune_call_in_main, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

/* GC_DEFAULT: the thresholds when memguard was imported, which are the
 * interpreter's own unless the program was faster. */
static int tune_add_default(PyObject *module) {
  PyObject *collector = PyImport_ImportModule("gc"), *thresholds = NULL;
  int st;

  if (collector != NULL)
    thresholds = PyObject_CallMethod(collector, "get_threshold", NULL);
  st = PyModule_AddObjectRef(module, "GC_DEFAULT", thresholds);
  Py_XDECREF(thresholds);
  Py_XDECREF(collector);
  return st;
}

/* GC_PROFILES: name -> thresholds, in the table's order. */
static int tune_add_profiles(PyObject *module) {
  PyObject *made = PyDict_New();
  uint32_t t[3];
  int st = made == NULL ? -1 : 0;

  for (int p = 0; st == 0 && p < MG_GC_PROFILES; p++) {
    PyObject *thresholds;
    mg_gc_profile_thresholds((mg_gc_profile)p, t);
    thresholds = Py_BuildValue("(III)", t[0], t[1], t[2]);
    st = thresholds == NULL
             ? -1
             : PyDict_SetItemString(
                   made, mg_gc_profile_name((mg_gc_profile)p), thresholds);
    Py_XDECREF(thresholds);
  }
  if (st == 0) st = PyModule_AddObjectRef(module, "GC_PROFILES", made);
  Py_XDECREF(made);
  return st;
}

int mgpy_add_tuner(PyObject *module, mgpy_state *state) {
  if (tune_add_profiles(module) < 0 || tune_add_default(module) < 0 ||
      PyModule_AddFunctions(module, tune_functions) < 0)
    return -1;
  return mgpy_add_type(module, &tune_spec, &state->tuner_type);
}
