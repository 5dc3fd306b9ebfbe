/* manager.c - memguard._core.Manager, the base of memguard.ResourceManager.
 *
 * Methods that start with an underscore are for python/memguard only. */
#include "memguard_python.h"

#include <limits.h>
#include <string.h>

static mgpy_core *manager_core(PyObject *self) {
  mgpy_manager *m = (mgpy_manager *)self;

  return mgpy_core_check(m->state, m->core, "ResourceManager") ? m->core : NULL;
}

/* ---- life -------------------------------------------------------------- */

static PyObject *manager_new(PyTypeObject *type, PyObject *args,
                             PyObject *keywords) {
  mgpy_state *state = mgpy_state_of(type);
  mgpy_manager *self;
  (void)args;
  (void)keywords;

  if (state == NULL) return NULL;
  self = (mgpy_manager *)type->tp_alloc(type, 0);
  if (self != NULL) self->state = state;
  return (PyObject *)self;
}

/* No tp_clear: methods rely on both parts, and neither refers to the manager. */
static int manager_traverse(PyObject *self, visitproc visit, void *arg) {
  mgpy_manager *m = (mgpy_manager *)self;

  Py_VISIT(Py_TYPE(self));
  Py_VISIT(m->monitor);
  Py_VISIT(m->buffers);
  return 0;
}

static void manager_dealloc(PyObject *self) {
  mgpy_manager *m = (mgpy_manager *)self;
  PyTypeObject *type = Py_TYPE(self);

  PyObject_GC_UnTrack(self);
  if (m->weak_references != NULL) PyObject_ClearWeakRefs(self);
  Py_CLEAR(m->monitor);
  Py_CLEAR(m->buffers);
  mgpy_core_release(m->core);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *manager_open(PyObject *self, PyObject *settings) {
  mgpy_manager *m = (mgpy_manager *)self;
  const mg_config *config = mgpy_settings_get(m->state, settings);

  if (config == NULL) return NULL;
  if (m->core != NULL)
    return mgpy_raise_format(m->state, MG_ECONFLICT, "already open");
  m->core = mgpy_core_open(m->state, MGPY_MANAGER, config);
  return m->core == NULL ? NULL : Py_NewRef(Py_None);
}

/* _attach(monitor, buffers): the parts the hot path uses. */
static PyObject *manager_attach(PyObject *self, PyObject *args) {
  mgpy_manager *m = (mgpy_manager *)self;
  PyObject *monitor, *buffers;

  if (!PyArg_ParseTuple(args, "O!O!:_attach", m->state->monitor_type, &monitor,
                        m->state->buffers_type, &buffers))
    return NULL;
  Py_XSETREF(m->monitor, Py_NewRef(monitor));
  Py_XSETREF(m->buffers, Py_NewRef(buffers));
  Py_RETURN_NONE;
}

static PyObject *manager_close(PyObject *self, PyObject *unused) {
  (void)unused;
  mgpy_core_close(((mgpy_manager *)self)->core);
  Py_RETURN_NONE;
}

static PyObject *manager_get_closed(PyObject *self, void *closure) {
  (void)closure;
  return PyBool_FromLong(!mgpy_core_usable(((mgpy_manager *)self)->core));
}

/* ---- hot path ---------------------------------------------------------- */

static PyObject *manager_should_flush(PyObject *self, PyObject *name) {
  mgpy_manager *m = (mgpy_manager *)self;
  mgpy_core *core = m->core;
  bool is_due;
  int should;

  if (!mgpy_core_usable(core) || m->buffers == NULL) {
    if (manager_core(self) == NULL) return NULL;
    return mgpy_raise_format(m->state, MG_ECLOSED, "no buffers are attached");
  }
  is_due = mg_monitor_operation(core->monitor);
  if (is_due) {
    mgpy_resume();
    mg_monitor_glance(core->monitor);
  }
  if ((is_due || atomic_load_explicit(&core->is_waiting, memory_order_relaxed)) &&
      mgpy_monitor_deliver(core, m->monitor) < 0)
    return NULL;
  should = mgpy_buffers_should_flush((mgpy_buffers *)m->buffers, name, NULL);
  return should < 0 ? NULL : PyBool_FromLong(should);
}

/* ---- resources --------------------------------------------------------- */

/* _add(kind, token): an id for _run() and _drop(). */
static PyObject *manager_add(PyObject *self, PyObject *args) {
  mgpy_core *core = manager_core(self);
  mg_error err = MG_ERROR_INIT;
  unsigned long long token;
  const char *name;
  uint64_t id;
  int kind = 0;

  if (core == NULL || !PyArg_ParseTuple(args, "sK:_add", &name, &token))
    return NULL;
  while (kind < MG_RESOURCE_KINDS &&
         strcmp(mg_resource_kind_name((mg_resource_kind)kind), name) != 0)
    kind++;
  if (kind == MG_RESOURCE_KINDS)
    return mgpy_raise_format(core->state, MG_EINVAL,
                             "unknown kind of resource: %s", name);
  if (mg_resources_add(core->resources, (mg_resource_kind)kind,
                       (void *)(uintptr_t)token, &id, &err) != MG_OK)
    return mgpy_raise(core->state, &err);
  return PyLong_FromUnsignedLongLong(id);
}

/* _add_file(path: bytes) */
static PyObject *manager_add_file(PyObject *self, PyObject *path) {
  mgpy_core *core = manager_core(self);
  mg_error err = MG_ERROR_INIT;
  char *text;

  if (core == NULL || PyBytes_AsStringAndSize(path, &text, NULL) < 0)
    return NULL;
  if (mg_resources_add_file(core->resources, text, NULL, &err) != MG_OK)
    return mgpy_raise(core->state, &err);
  Py_RETURN_NONE;
}

/* _run(id): whether it was still to be run. */
static PyObject *manager_run(PyObject *self, PyObject *id_object) {
  mgpy_core *core = ((mgpy_manager *)self)->core;
  unsigned long long id = PyLong_AsUnsignedLongLong(id_object);
  mgpy_asking asking;
  mg_status st;

  if (id == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
  if (core == NULL) Py_RETURN_FALSE;
  mgpy_ask_begin(&asking, self);
  st = mg_resources_run(core->resources, id);
  if (mgpy_ask_end(&asking) < 0) return NULL;
  return PyBool_FromLong(st != MG_ENOTFOUND);
}

/* _cleanup(): (run, failed, left). Works on a closed manager too. */
static PyObject *manager_cleanup(PyObject *self, PyObject *unused) {
  mgpy_core *core = ((mgpy_manager *)self)->core;
  mg_cleanup_report report = {0, 0, 0};
  mgpy_asking asking;
  (void)unused;

  if (core != NULL) {
    mgpy_ask_begin(&asking, self);
    mg_manager_cleanup(core->manager, &report);
    if (mgpy_ask_end(&asking) < 0) return NULL;
  }
  return Py_BuildValue("(III)", report.run, report.failed, report.left);
}

/* _after_fork(): the resources are the parent's. */
static PyObject *manager_after_fork(PyObject *self, PyObject *unused) {
  mgpy_core *core = ((mgpy_manager *)self)->core;
  (void)unused;

  if (core != NULL) {
    mgpy_core_after_fork(core);
    mg_manager_disown(core->manager);
  }
  Py_RETURN_NONE;
}

static PyObject *manager_get_temp_files(PyObject *self, void *closure) {
  mgpy_core *core = ((mgpy_manager *)self)->core;
  char path[PATH_MAX];
  PyObject *made = PyList_New(0), *name;
  size_t bytes;
  (void)closure;

  for (size_t i = 0; core != NULL && made != NULL; i++) {
    bytes = mg_resources_file_at(core->resources, i, path, sizeof path);
    if (bytes == 0) break;
    name = PyUnicode_DecodeFSDefaultAndSize(path, (Py_ssize_t)bytes);
    if (name == NULL || PyList_Append(made, name) < 0) Py_CLEAR(made);
    Py_XDECREF(name);
  }
  return made;
}

static PyObject *manager_stats(PyObject *self, PyObject *unused) {
  mgpy_core *core = manager_core(self);
  mg_manager_stats stats;
  (void)unused;

  if (core == NULL) return NULL;
  mg_manager_read_stats(core->manager, &stats);
  return Py_BuildValue("{s:N,s:N,s:N,s:K,s:K,s:K,s:K}", "rss_bytes",
                       mgpy_number(stats.rss_bytes), "peak_rss_bytes",
                       mgpy_number(stats.peak_rss_bytes), "fd_count",
                       mgpy_number(stats.fd_count), "buffer_count",
                       (unsigned long long)stats.buffer_count,
                       "temp_file_count",
                       (unsigned long long)stats.temp_file_count, "collections",
                       (unsigned long long)stats.collections,
                       "last_cleanup_unix_ms",
                       (unsigned long long)stats.last_cleanup_unix_ms);
}

/* ---- type -------------------------------------------------------------- */

static PyMethodDef manager_methods[] = {
    {"_open", manager_open, METH_O, NULL},
    {"_attach", manager_attach, METH_VARARGS, NULL},
    {"_close", manager_close, METH_NOARGS, NULL},
    {"_add", manager_add, METH_VARARGS, NULL},
    {"_add_file", manager_add_file, METH_O, NULL},
    {"_run", manager_run, METH_O, NULL},
    {"_cleanup", manager_cleanup, METH_NOARGS, NULL},
    {"_after_fork", manager_after_fork, METH_NOARGS, NULL},
    {"_stats", manager_stats, METH_NOARGS, NULL},
    {"should_flush_buffer", manager_should_flush, METH_O,
     "should_flush_buffer(name, /)\n--\n\n"
     "Whether buffer `name` is long enough to be flushed at the present pressure.\n"
     "\n"
     "Cheap enough to be called for every item. Each call counts one operation;\n"
     "every `monitoring_interval` of them the pressure is read anew. Waiting\n"
     "callbacks run in this thread. Raises NotFoundError, ConfigTypeError and\n"
     "ClosedError. Any thread."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef manager_attributes[] = {
    {"temp_files", manager_get_temp_files, NULL,
     "Absolute paths of the registered temporary files, oldest first, in a new "
     "list.",
     NULL},
    {"closed", manager_get_closed, NULL, "Whether it can no longer be used.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef manager_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mgpy_manager, weak_references),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot manager_slots[] = {
    MGPY_SLOT(Py_tp_new, manager_new),
    MGPY_SLOT(Py_tp_dealloc, manager_dealloc),
    MGPY_SLOT(Py_tp_traverse, manager_traverse),
    {Py_tp_methods, manager_methods},
    {Py_tp_getset, manager_attributes},
    {Py_tp_members, manager_members},
    {Py_tp_doc, (void *)"Base of memguard.ResourceManager."},
    {0, NULL}};

static PyType_Spec manager_spec = {
    "memguard._core.Manager", sizeof(mgpy_manager), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    manager_slots};

int mgpy_add_manager(PyObject *module, mgpy_state *state) {
  state->run_entry_name = PyUnicode_InternFromString("_run_entry");
  state->unlink_failed_name = PyUnicode_InternFromString("_unlink_failed");
  if (state->run_entry_name == NULL || state->unlink_failed_name == NULL)
    return -1;
  return mgpy_add_type(module, &manager_spec, &state->manager_type);
}
