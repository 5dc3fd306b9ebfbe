/* monitor.c - memguard._core.Monitor, the base of memguard.MemoryMonitor.
 *
 * Methods that start with an underscore are for python/memguard only. */
#include "memguard_python.h"

static mgpy_core *monitor_core(PyObject *self) {
  mgpy_monitor *m = (mgpy_monitor *)self;

  return mgpy_core_check(m->state, m->core, "MemoryMonitor") ? m->core : NULL;
}

/* ---- life -------------------------------------------------------------- */

static PyObject *monitor_new(PyTypeObject *type, PyObject *args,
                             PyObject *keywords) {
  mgpy_state *state = mgpy_state_of(type);
  mgpy_monitor *self;
  (void)args;
  (void)keywords;

  if (state == NULL) return NULL;
  self = (mgpy_monitor *)type->tp_alloc(type, 0);
  if (self != NULL) self->state = state;
  return (PyObject *)self;
}

static int monitor_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static void monitor_dealloc(PyObject *self) {
  mgpy_monitor *m = (mgpy_monitor *)self;
  PyTypeObject *type = Py_TYPE(self);

  PyObject_GC_UnTrack(self);
  if (m->weak_references != NULL) PyObject_ClearWeakRefs(self);
  mgpy_core_release(m->core);
  type->tp_free(self);
  Py_DECREF(type);
}

/* _open(source): source is a Settings for a monitor of its own, or a Manager. */
static PyObject *monitor_open(PyObject *self, PyObject *source) {
  mgpy_monitor *m = (mgpy_monitor *)self;
  const mg_config *config;

  if (m->core != NULL)
    return mgpy_raise_format(m->state, MG_ECONFLICT, "already open");
  if (PyObject_TypeCheck(source, m->state->manager_type)) {
    mgpy_core *core = ((mgpy_manager *)source)->core;
    if (!mgpy_core_check(m->state, core, "ResourceManager")) return NULL;
    m->core = mgpy_core_share(core);
  } else {
    config = mgpy_settings_get(m->state, source);
    if (config == NULL) return NULL;
    m->core = mgpy_core_open(m->state, MGPY_MONITOR, config);
    if (m->core == NULL) return NULL;
  }
  m->core->monitor_ref = PyWeakref_NewRef(self, NULL);
  if (m->core->monitor_ref == NULL) return NULL;
  Py_RETURN_NONE;
}

static PyObject *monitor_start(PyObject *self, PyObject *unused) {
  mgpy_core *core = monitor_core(self);
  mg_error err = MG_ERROR_INIT;
  mg_status st;
  (void)unused;

  if (core == NULL) return NULL;
  if (atomic_load(&core->state->is_exiting)) Py_RETURN_NONE;
  mgpy_segment_begin(core->state);
  mgpy_metrics_look();
  Py_BEGIN_ALLOW_THREADS
  st = mg_monitor_start(core->monitor, &err);
  Py_END_ALLOW_THREADS
  mgpy_reclaim_note_running(core);
  return st == MG_OK ? Py_NewRef(Py_None) : mgpy_raise(core->state, &err);
}

static PyObject *monitor_stop(PyObject *self, PyObject *unused) {
  mgpy_core *core = monitor_core(self);
  (void)unused;

  if (core == NULL) return NULL;
  Py_BEGIN_ALLOW_THREADS
  mg_monitor_stop(core->monitor);
  Py_END_ALLOW_THREADS
  mgpy_reclaim_note_running(core);
  Py_RETURN_NONE;
}

/* ---- readings ---------------------------------------------------------- */

static PyObject *monitor_check(PyObject *self, PyObject *unused) {
  mgpy_core *core = monitor_core(self);
  (void)unused;

  if (core == NULL) return NULL;
  mgpy_resume();
  (void)mg_monitor_operation(core->monitor);
  mg_monitor_check(core->monitor);
  if (mgpy_monitor_deliver(core, self) < 0) return NULL;
  return PyFloat_FromDouble(mg_monitor_pressure(core->monitor));
}

static PyObject *monitor_pass(PyObject *self, PyObject *record) {
  mgpy_core *core = monitor_core(self);
  mg_sample sample;
  int is_recorded;

  if (core == NULL) return NULL;
  is_recorded = PyObject_IsTrue(record);
  if (is_recorded < 0) return NULL;
  mg_monitor_pass(core->monitor, is_recorded, &sample);
  return mgpy_sample_new(core->state, &sample);
}

/* _collect(): a recorded pass that carries the heap as it is now. */
static PyObject *monitor_collect(PyObject *self, PyObject *unused) {
  static const mg_heap unknown = MG_HEAP_INIT;
  mgpy_core *core = monitor_core(self);
  mg_sample sample;
  mg_heap heap;
  (void)unused;

  if (core == NULL) return NULL;
  mgpy_heap_read(&heap);
  mg_monitor_set_heap(core->monitor, &heap);
  mg_monitor_pass(core->monitor, true, &sample);
  /* Later samples must not carry numbers of another time. */
  mg_monitor_set_heap(core->monitor, &unknown);
  return mgpy_sample_new(core->state, &sample);
}

static PyObject *monitor_get_latest(PyObject *self, void *closure) {
  mgpy_core *core = monitor_core(self);
  mg_sample sample;
  (void)closure;

  if (core == NULL) return NULL;
  mg_monitor_latest(core->monitor, &sample);
  return mgpy_sample_new(core->state, &sample);
}

static PyObject *monitor_get_pressure(PyObject *self, void *closure) {
  mgpy_core *core = monitor_core(self);
  (void)closure;
  return core == NULL ? NULL
                      : PyFloat_FromDouble(mg_monitor_pressure(core->monitor));
}

static PyObject *monitor_get_operations(PyObject *self, void *closure) {
  mgpy_core *core = monitor_core(self);
  (void)closure;
  return core == NULL ? NULL
                      : PyLong_FromUnsignedLongLong(
                            mg_monitor_operations(core->monitor));
}

static PyObject *monitor_get_running(PyObject *self, void *closure) {
  mgpy_monitor *m = (mgpy_monitor *)self;
  (void)closure;
  return PyBool_FromLong(mgpy_core_usable(m->core) &&
                         mg_monitor_is_running(m->core->monitor));
}

static PyObject *monitor_get_closed(PyObject *self, void *closure) {
  (void)closure;
  return PyBool_FromLong(!mgpy_core_usable(((mgpy_monitor *)self)->core));
}

static PyObject *monitor_get_lost(PyObject *self, void *closure) {
  mgpy_core *core = monitor_core(self);
  (void)closure;
  return core == NULL ? NULL
                      : PyLong_FromUnsignedLongLong(
                            mg_monitor_events_lost(core->monitor));
}

/* _history(since_unix_ms, max): list of Sample, oldest first. */
static PyObject *monitor_history(PyObject *self, PyObject *args) {
  unsigned long long since_unix_ms;
  mgpy_core *core = monitor_core(self);
  Py_ssize_t max, count;
  mg_sample *samples;
  PyObject *made;

  if (core == NULL ||
      !PyArg_ParseTuple(args, "Kn:_history", &since_unix_ms, &max))
    return NULL;
  count = (Py_ssize_t)mg_monitor_history(core->monitor, since_unix_ms, NULL, 0);
  if (count > max) count = max;
  if (count <= 0) return PyList_New(0);
  samples = PyMem_New(mg_sample, (size_t)count);
  if (samples == NULL) return PyErr_NoMemory();
  count = (Py_ssize_t)mg_monitor_history(core->monitor, since_unix_ms, samples,
                                         (size_t)count);
  made = PyList_New(count);
  for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
    PyObject *sample = mgpy_sample_new(core->state, &samples[i]);
    if (sample == NULL) Py_CLEAR(made);
    else PyList_SET_ITEM(made, i, sample);
  }
  PyMem_Free(samples);
  return made;
}

static PyObject *monitor_trend_dict(const mg_trend *trend) {
  return Py_BuildValue("{s:s,s:d,s:d,s:I}", "direction",
                       mg_direction_name(trend->direction), "mb_per_minute",
                       trend->mb_per_minute, "tau", trend->tau, "points",
                       trend->points);
}

/* _trends(count): (resident set, heap). */
static PyObject *monitor_trends(PyObject *self, PyObject *count_object) {
  mgpy_core *core = monitor_core(self);
  mg_trend rss, heap;
  Py_ssize_t count;

  if (core == NULL) return NULL;
  count = PyNumber_AsSsize_t(count_object, PyExc_OverflowError);
  if (count == -1 && PyErr_Occurred()) return NULL;
  mg_monitor_trends(core->monitor, count < 0 ? 0 : (size_t)count, &rss, &heap);
  return Py_BuildValue("(NN)", monitor_trend_dict(&rss),
                       monitor_trend_dict(&heap));
}

/* ---- settings ---------------------------------------------------------- */

static PyObject *monitor_read_settings(PyObject *self, PyObject *unused) {
  mgpy_core *core = monitor_core(self);
  mg_config config;
  (void)unused;

  if (core == NULL) return NULL;
  mg_monitor_read_config(core->monitor, &config);
  return mgpy_settings_new(core->state, &config);
}

/* Settings that are attributes; `closure` is one of these. */
static const struct monitor_setting {
  const char *name;
  mg_config_id id;
} monitor_settings[] = {{"max_memory_mb", MG_CONFIG_MAX_MEMORY_MB},
                        {"pressure_threshold", MG_CONFIG_PRESSURE_THRESHOLD},
                        {"monitoring_interval", MG_CONFIG_MONITORING_INTERVAL}};

static PyObject *monitor_get_setting(PyObject *self, void *closure) {
  const struct monitor_setting *setting = closure;
  mgpy_core *core = monitor_core(self);
  double value;

  if (core == NULL) return NULL;
  value = mg_monitor_setting(core->monitor, setting->id);
  return mg_config_row_at(setting->id)->type == MG_CONFIG_COUNT
             ? PyLong_FromDouble(value)
             : PyFloat_FromDouble(value);
}

static int monitor_set_setting(PyObject *self, PyObject *value, void *closure) {
  const struct monitor_setting *setting = closure;
  PyObject *done;

  if (value == NULL) {
    PyErr_Format(PyExc_AttributeError, "%s cannot be deleted", setting->name);
    return -1;
  }
  done = PyObject_CallMethod(self, "update_config", "({sO})", setting->name,
                             value);
  Py_XDECREF(done);
  return done != NULL ? 0 : -1;
}

/* _configure(settings): for the whole manager if there is one. */
static PyObject *monitor_configure(PyObject *self, PyObject *settings) {
  mgpy_core *core = monitor_core(self);
  const mg_config *config;
  mg_error err = MG_ERROR_INIT;
  mg_status st;

  if (core == NULL) return NULL;
  config = mgpy_settings_get(core->state, settings);
  if (config == NULL) return NULL;
  Py_BEGIN_ALLOW_THREADS
  st = core->manager != NULL
           ? mg_manager_configure(core->manager, config, &err)
           : mg_monitor_configure(core->monitor, config, &err);
  Py_END_ALLOW_THREADS
  mgpy_reclaim_note_running(core);
  return st == MG_OK ? Py_NewRef(Py_None) : mgpy_raise(core->state, &err);
}

static PyObject *monitor_reset(PyObject *self, PyObject *unused) {
  mgpy_core *core = monitor_core(self);
  (void)unused;

  if (core == NULL) return NULL;
  mg_monitor_reset(core->monitor);
  Py_RETURN_NONE;
}

/* _collected(): one collection more, for the manager's statistics. */
static PyObject *monitor_collected(PyObject *self, PyObject *unused) {
  mgpy_core *core = monitor_core(self);
  (void)unused;

  if (core == NULL) return NULL;
  if (core->manager != NULL) mg_manager_collected(core->manager);
  Py_RETURN_NONE;
}

static PyObject *monitor_close(PyObject *self, PyObject *unused) {
  (void)unused;
  mgpy_core_close(((mgpy_monitor *)self)->core);
  Py_RETURN_NONE;
}

static PyObject *monitor_after_fork(PyObject *self, PyObject *unused) {
  mgpy_core *core = ((mgpy_monitor *)self)->core;
  (void)unused;
  if (core != NULL) mgpy_core_after_fork(core);
  Py_RETURN_NONE;
}

/* ---- object counters --------------------------------------------------- */

static PyObject *monitor_counter_do(PyObject *self, PyObject *key,
                                    mg_status (*act)(mg_monitor *, const char *,
                                                     mg_error *)) {
  mgpy_core *core = monitor_core(self);
  mg_error err = MG_ERROR_INIT;
  const char *name;

  if (core == NULL) return NULL;
  name = mgpy_name(core->state, key, "key of an object counter");
  if (name == NULL) return NULL;
  if (act(core->monitor, name, &err) != MG_OK)
    return mgpy_raise(core->state, &err);
  Py_RETURN_NONE;
}

static PyObject *monitor_counter_register(PyObject *self, PyObject *key) {
  return monitor_counter_do(self, key, mg_monitor_counter_register);
}

static PyObject *monitor_counter_reset(PyObject *self, PyObject *key) {
  return monitor_counter_do(self, key, mg_monitor_counter_reset);
}

/* _counter_add(key, delta): the new value. */
static PyObject *monitor_counter_add(PyObject *self, PyObject *args) {
  mgpy_core *core = monitor_core(self);
  mg_error err = MG_ERROR_INIT;
  const char *name;
  uint64_t value;
  PyObject *key;
  long long delta;

  if (core == NULL || !PyArg_ParseTuple(args, "OL:_counter_add", &key, &delta))
    return NULL;
  name = mgpy_name(core->state, key, "key of an object counter");
  if (name == NULL) return NULL;
  if (mg_monitor_counter_add(core->monitor, name, delta, &value, &err) != MG_OK)
    return mgpy_raise(core->state, &err);
  return PyLong_FromUnsignedLongLong(value);
}

static PyObject *monitor_get_counters(PyObject *self, void *closure) {
  mgpy_core *core = monitor_core(self);
  char key[MG_COUNTER_KEY_BYTES];
  PyObject *made, *number;
  uint64_t value;
  (void)closure;

  if (core == NULL) return NULL;
  made = PyDict_New();
  for (size_t i = 0; made != NULL; i++) {
    if (!mg_monitor_counter_at(core->monitor, i, key, &value)) break;
    number = PyLong_FromUnsignedLongLong(value);
    if (number == NULL || PyDict_SetItemString(made, key, number) < 0)
      Py_CLEAR(made);
    Py_XDECREF(number);
  }
  return made;
}

/* ---- events ------------------------------------------------------------ */

/* [(name, text), ...] of the bits set in `issues`. */
static PyObject *monitor_issues(uint32_t issues) {
  PyObject *made = PyList_New(0);

  for (int bit = 0; made != NULL && bit < 32; bit++) {
    mg_issue issue = (mg_issue)(issues & (1u << bit));
    PyObject *row;
    if (issue == 0) continue;
    row = Py_BuildValue("(ss)", mg_issue_name(issue), mg_issue_text(issue));
    if (row == NULL || PyList_Append(made, row) < 0) Py_CLEAR(made);
    Py_XDECREF(row);
  }
  return made;
}

static PyObject *monitor_event(mgpy_state *state, const mg_event *event) {
  return Py_BuildValue(
      "{s:s,s:s,s:O,s:N,s:s,s:d,s:K,s:K,s:K,s:d,s:s,s:N,s:N}", "event",
      mg_event_name(event->kind), "severity", mg_health_name(event->severity),
      "previous", state->levels[event->previous], "issues",
      monitor_issues(event->issues), "series",
      event->growth_is_heap ? "heap" : "rss", "mb_per_minute",
      event->mb_per_minute, "count", (unsigned long long)event->count,
      "threshold", (unsigned long long)event->threshold, "finding",
      (unsigned long long)event->finding, "growth_per_minute",
      event->growth_per_minute, "counter",
      event->counter, "sample", mgpy_sample_new(state, &event->sample), "round",
      mgpy_round_find(state, event->round));
}

/* _next_event(): a dict, or None if none waits. */
static PyObject *monitor_next_event(PyObject *self, PyObject *unused) {
  mgpy_monitor *m = (mgpy_monitor *)self;
  mg_event event;
  (void)unused;

  if (!mgpy_core_usable(m->core)) Py_RETURN_NONE;
  /* Before, not after: what comes in meanwhile sets it again. */
  atomic_store_explicit(&m->core->is_waiting, false, memory_order_release);
  if (!mg_monitor_next_event(m->core->monitor, &event)) Py_RETURN_NONE;
  atomic_store_explicit(&m->core->is_waiting, true, memory_order_release);
  return monitor_event(m->state, &event);
}

/* Full pressure needs no event, as the callbacks' threshold may be above it; one
 * delivery for each sample of it does. */
static bool monitor_is_full_anew(mgpy_core *core) {
  mg_sample sample;

  if (mg_monitor_pressure(core->monitor) <= MG_BUFFER_FULL_PRESSURE) return false;
  mg_monitor_latest(core->monitor, &sample);
  return atomic_exchange(&core->full_number, sample.number) != sample.number;
}

int mgpy_monitor_deliver(mgpy_core *core, PyObject *monitor) {
  PyObject *done;

  if (mgpy_reclaim_is_due(&core->state->reclaim) &&
      mgpy_reclaim_poll(&core->state->reclaim) < 0)
    return -1;
  if (!atomic_load_explicit(&core->is_waiting, memory_order_acquire) &&
      !mgpy_gc_is_due(core->state) &&
      !monitor_is_full_anew(core))
    return 0;
  done = PyObject_CallMethodNoArgs(monitor, core->state->deliver_name);
  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

/* _health(): ("healthy", [(issue, text), ...]). */
static PyObject *monitor_health(PyObject *self, PyObject *unused) {
  mgpy_core *core = monitor_core(self);
  mg_health health;
  uint32_t issues;
  (void)unused;

  if (core == NULL) return NULL;
  health = mg_monitor_health(core->monitor, &issues);
  return Py_BuildValue("(sN)", mg_health_name(health), monitor_issues(issues));
}

/* _set_tick(ms): has _tick() called so often on memguard's thread; 0: never. */
static PyObject *monitor_set_tick(PyObject *self, PyObject *ms) {
  double every_ms = PyFloat_AsDouble(ms);
  mgpy_core *core;

  if (every_ms == -1.0 && PyErr_Occurred()) return NULL;
  core = monitor_core(self);
  if (core == NULL) return NULL;
  mg_monitor_set_tick(core->monitor, every_ms > 0 ? mgpy_core_tick : NULL,
                      every_ms);
  Py_RETURN_NONE;
}

/* ---- type -------------------------------------------------------------- */

static PyMethodDef monitor_methods[] = {
    {"_set_tick", monitor_set_tick, METH_O, NULL},
    {"_open", monitor_open, METH_O, NULL},
    {"_start", monitor_start, METH_NOARGS, NULL},
    {"_stop", monitor_stop, METH_NOARGS, NULL},
    {"_pass", monitor_pass, METH_O, NULL},
    {"_collect", monitor_collect, METH_NOARGS, NULL},
    {"_history", monitor_history, METH_VARARGS, NULL},
    {"_trends", monitor_trends, METH_O, NULL},
    {"_read_settings", monitor_read_settings, METH_NOARGS, NULL},
    {"_configure", monitor_configure, METH_O, NULL},
    {"_reset", monitor_reset, METH_NOARGS, NULL},
    {"_collected", monitor_collected, METH_NOARGS, NULL},
    {"_close", monitor_close, METH_NOARGS, NULL},
    {"_after_fork", monitor_after_fork, METH_NOARGS, NULL},
    {"_counter_register", monitor_counter_register, METH_O, NULL},
    {"_counter_add", monitor_counter_add, METH_VARARGS, NULL},
    {"_counter_reset", monitor_counter_reset, METH_O, NULL},
    {"_next_event", monitor_next_event, METH_NOARGS, NULL},
    {"_health", monitor_health, METH_NOARGS, NULL},
    {"_reclaim", mgpy_monitor_reclaim, METH_VARARGS, NULL},
    {"_rounds", mgpy_monitor_rounds, METH_O, NULL},
    {"_reclaim_stats", mgpy_monitor_reclaim_stats, METH_NOARGS, NULL},
    {"_spent", mgpy_monitor_spent, METH_O, NULL},
    {"_alerts", mgpy_monitor_alerts, METH_O, NULL},
    {"_alert_number", mgpy_monitor_alert_number, METH_NOARGS, NULL},
    {"check_memory_pressure", monitor_check, METH_NOARGS,
     "check_memory_pressure()\n--\n\n"
     "The pressure now, 0.0 (none) to 1.0 (a limit is reached or passed).\n\n"
     "Reads the process unless that was done less than 20 ms ago, counts one\n"
     "operation, and runs waiting callbacks in this thread. Any thread.\n"
     "Raises ClosedError."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef monitor_attributes[] = {
    {"latest", monitor_get_latest, NULL,
     "The latest Sample; its `number` is 0 if there is none yet. Reads nothing.",
     NULL},
    {"pressure", monitor_get_pressure, NULL,
     "Pressure of the latest sample, 0.0 to 1.0. Reads nothing.", NULL},
    {"operation_count", monitor_get_operations, NULL,
     "Operations of the program counted so far.", NULL},
    {"is_monitoring", monitor_get_running, NULL,
     "Whether samples are taken in the background.", NULL},
    {"closed", monitor_get_closed, NULL, "Whether it can no longer be used.",
     NULL},
    {"events_lost", monitor_get_lost, NULL,
     "Events evicted from a full queue before anybody took them.", NULL},
    {"object_counters", monitor_get_counters, NULL,
     "Values of the registered object counters, by key, in a new dict.", NULL},
    {"max_memory_mb", monitor_get_setting, monitor_set_setting,
     "Resident memory to stay under, in MB. May be set.",
     (void *)&monitor_settings[0]},
    {"pressure_threshold", monitor_get_setting, monitor_set_setting,
     "Pressure from which callbacks run, 0.01 to 1.0. May be set.",
     (void *)&monitor_settings[1]},
    {"monitoring_interval", monitor_get_setting, monitor_set_setting,
     "Operations of the program between two checks. May be set.",
     (void *)&monitor_settings[2]},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef monitor_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mgpy_monitor, weak_references),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot monitor_slots[] = {
    MGPY_SLOT(Py_tp_new, monitor_new),
    MGPY_SLOT(Py_tp_dealloc, monitor_dealloc),
    MGPY_SLOT(Py_tp_traverse, monitor_traverse),
    {Py_tp_methods, monitor_methods},
    {Py_tp_getset, monitor_attributes},
    {Py_tp_members, monitor_members},
    {Py_tp_doc, (void *)"Base of memguard.MemoryMonitor."},
    {0, NULL}};

static PyType_Spec monitor_spec = {
    "memguard._core.Monitor", sizeof(mgpy_monitor), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    monitor_slots};

int mgpy_add_monitor(PyObject *module, mgpy_state *state) {
  state->deliver_name = PyUnicode_InternFromString("_deliver");
  state->tick_name = PyUnicode_InternFromString("_tick");
  if (state->deliver_name == NULL || state->tick_name == NULL) return -1;
  return mgpy_add_type(module, &monitor_spec, &state->monitor_type);
}
