/* module.c - memguard._core: one state per interpreter, the types and the
 * functions of the process. */
#include "memguard_python.h"

mgpy_state *mgpy_state_of(PyTypeObject *type) {
  PyObject *module = PyType_GetModuleByDef(type, &mgpy_module);

  return module == NULL ? NULL : PyModule_GetState(module);
}

int mgpy_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out) {
  PyObject *made = PyType_FromModuleAndSpec(module, spec, NULL);

  if (made == NULL) return -1;
  *out = (PyTypeObject *)made;
  return PyModule_AddType(module, *out);
}

/* ---- functions --------------------------------------------------------- */

static PyObject *module_rss_bytes(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  return mgpy_number(mg_rss_bytes());
}

static PyObject *module_process_info(PyObject *module, PyObject *unused) {
  mg_error err = MG_ERROR_INIT;
  mg_process_info info;
  PyObject *made;
  mg_status st;
  (void)unused;

  Py_BEGIN_ALLOW_THREADS
  st = mg_read_process_info(&info, &err);
  Py_END_ALLOW_THREADS
  if (st != MG_OK) return mgpy_raise(PyModule_GetState(module), &err);
  made = PyDict_New();
#define MODULE_FIELD(field, doc)                                       \
  if (made != NULL) {                                                  \
    PyObject *value = mgpy_number(info.field);                         \
    if (value == NULL || PyDict_SetItemString(made, #field, value) < 0) \
      Py_CLEAR(made);                                                  \
    Py_XDECREF(value);                                                 \
  }
  MG_PROCESS_MAP(MODULE_FIELD)
#undef MODULE_FIELD
  return made;
}

/* ---- fork and exit ----------------------------------------------------- */

static _Atomic bool module_is_resume_due;

static PyObject *module_fork_prepare(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  Py_BEGIN_ALLOW_THREADS
  mg_fork_prepare();
  Py_END_ALLOW_THREADS
  Py_RETURN_NONE;
}

void mgpy_resume(void) {
  if (!atomic_load_explicit(&module_is_resume_due, memory_order_relaxed) ||
      !atomic_exchange(&module_is_resume_due, false))
    return;
  Py_BEGIN_ALLOW_THREADS
  mg_fork_parent();
  Py_END_ALLOW_THREADS
}

static int module_resume(void *unused) {
  (void)unused;
  mgpy_resume();
  return 0;
}

/* os.fork() counts threads after this hook (from 3.13 on) and warns if there is
 * more than one, so ours come back a moment later: from the main thread's eval
 * loop, or from the next check if that comes first. */
static PyObject *module_fork_parent(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  atomic_store(&module_is_resume_due, true);
  Py_AddPendingCall(module_resume, NULL); /* a full queue: the next check */
  Py_RETURN_NONE;
}

static PyObject *module_fork_child(PyObject *module, PyObject *unused) {
  mgpy_state *state = PyModule_GetState(module);
  (void)unused;
  atomic_store(&module_is_resume_due, false);
  mgpy_allocator_after_fork();
  mgpy_reclaim_after_fork(&state->reclaim);
  mgpy_pools_after_fork(state);
  state->walks = 0; /* by threads that did not come along */
  mgpy_detectors_after_fork(state);
  mg_fork_child();
  Py_RETURN_NONE;
}

/* _begin_exit(): from now on no thread of ours enters this interpreter, and no
 * collection of it enters us. */
static PyObject *module_begin_exit(PyObject *module, PyObject *unused) {
  mgpy_state *state = PyModule_GetState(module);
  (void)unused;

  atomic_store(&state->is_exiting, true);
  mgpy_gc_end(state);
  mgpy_reclaim_end(&state->reclaim);
  mgpy_segment_end(state);
  mgpy_core_sweep();
  Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"rss_bytes", module_rss_bytes, METH_NOARGS,
     "rss_bytes()\n--\n\n"
     "Resident set of this process in bytes, read now; None without /proc.\n"
     "Any thread."},
    {"process_info", module_process_info, METH_NOARGS,
     "process_info()\n--\n\n"
     "Readings of the process and the machine that are too costly for every\n"
     "sample, by name; None where one is not known. Takes some 100 us. Raises\n"
     "AbsentError if libproc2 cannot be used. Any thread."},
    {"_fork_prepare", module_fork_prepare, METH_NOARGS, NULL},
    {"_fork_parent", module_fork_parent, METH_NOARGS, NULL},
    {"_fork_child", module_fork_child, METH_NOARGS, NULL},
    {"_begin_exit", module_begin_exit, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

/* ---- module ------------------------------------------------------------ */

/* The names in order of their kinds. */
static PyObject *module_event_names(void) {
  PyObject *made = PyTuple_New(MG_EVENTS);

  for (int kind = 0; made != NULL && kind < MG_EVENTS; kind++) {
    PyObject *name = PyUnicode_FromString(mg_event_name((mg_event_kind)kind));
    if (name == NULL) Py_CLEAR(made);
    else PyTuple_SET_ITEM(made, kind, name);
  }
  return made;
}

static int module_exec(PyObject *module) {
  static int (*const parts[])(PyObject *, mgpy_state *) = {
      mgpy_add_errors, mgpy_add_settings, mgpy_add_sample,
      mgpy_add_monitor, mgpy_add_buffer, mgpy_add_buffers,
      mgpy_add_manager, mgpy_add_level_tracker, mgpy_add_policy,
      mgpy_add_gc, mgpy_add_optimize, mgpy_add_tuner, mgpy_add_roll,
      mgpy_add_pools, mgpy_add_encoding, mgpy_add_census, mgpy_add_detector,
      mgpy_add_segment, mgpy_add_recycle, mgpy_add_metrics,
      mgpy_add_alert, mgpy_add_web};
  mgpy_state *state = PyModule_GetState(module);
  PyObject *events;
  int st;

  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (parts[i](module, state) < 0) return -1;
  if (PyModule_AddFunctions(module, mgpy_decide_methods) < 0 ||
      PyModule_AddFunctions(module, mgpy_allocator_methods) < 0)
    return -1;
  events = module_event_names();
  st = PyModule_AddObjectRef(module, "EVENTS", events);
  Py_XDECREF(events);
  if (st < 0) return -1;
  return PyModule_AddStringConstant(module, "version", mg_version());
}

#define MODULE_TYPES(X)                                           \
  X(settings_type) X(sample_type) X(monitor_type) X(buffer_type) \
  X(buffers_type) X(manager_type) X(level_tracker_type) \
  X(policy_type) X(tuner_type) X(pool_type) X(pooled_type) \
  X(writer_type) X(census_type) X(detector_type) X(site_type)

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
  mgpy_state *state = PyModule_GetState(module);

  Py_VISIT(state->error_base);
  for (int i = 0; i < MGPY_STATUSES; i++) Py_VISIT(state->errors[i]);
#define MODULE_VISIT(field) Py_VISIT(state->field);
  MODULE_TYPES(MODULE_VISIT)
#undef MODULE_VISIT
  return mgpy_gc_traverse(state, visit, arg);
}

/* There is no m_clear: objects may be used until the module goes, and the types
 * let go of it by themselves. */
static void module_free(void *module) {
  mgpy_state *state = PyModule_GetState(module);

  Py_CLEAR(state->error_base);
  for (int i = 0; i < MGPY_STATUSES; i++) Py_CLEAR(state->errors[i]);
#define MODULE_CLEAR(field) Py_CLEAR(state->field);
  MODULE_TYPES(MODULE_CLEAR)
#undef MODULE_CLEAR
  mgpy_segment_end(state);
  mgpy_pools_free(state);
  mgpy_reclaim_free(&state->reclaim);
  mgpy_gc_free(state);
  Py_CLEAR(state->roll.mark);
  Py_CLEAR(state->deliver_name);
  Py_CLEAR(state->tick_name);
  Py_CLEAR(state->run_entry_name);
  Py_CLEAR(state->unlink_failed_name);
  for (int i = 0; i < MG_LEVELS; i++) Py_CLEAR(state->levels[i]);
  for (int i = 0; i < MG_DOMAINS; i++) Py_CLEAR(state->domains[i]);
}

static PyModuleDef_Slot module_slots[] = {
    MGPY_SLOT(Py_mod_exec, module_exec),
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL}};

struct PyModuleDef mgpy_module = {
    PyModuleDef_HEAD_INIT,
    "_core",
    "What of memguard is written in C. Import memguard instead.",
    sizeof(mgpy_state),
    module_methods,
    module_slots,
    module_traverse,
    NULL,
    module_free};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&mgpy_module); }
