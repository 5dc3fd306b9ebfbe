/* buffers.c - memguard._core.Buffers, the base of memguard.BufferManager: buffers
 * by name.
 *
 * Methods that start with an underscore are for python/memguard only. */
#include "memguard_python.h"

/* ---- life -------------------------------------------------------------- */

static mgpy_core *buffers_core(PyObject *self) {
  mgpy_buffers *b = (mgpy_buffers *)self;

  return mgpy_core_check(b->state, b->core, "BufferManager") ? b->core : NULL;
}

static PyObject *buffers_new(PyTypeObject *type, PyObject *args,
                             PyObject *keywords) {
  mgpy_state *state = mgpy_state_of(type);
  mgpy_buffers *self;
  (void)args;
  (void)keywords;

  if (state == NULL) return NULL;
  self = (mgpy_buffers *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->state = state;
  self->stats = PyDict_New();
  self->lists = PyDict_New();
  if (self->stats == NULL || self->lists == NULL) Py_CLEAR(self);
  return (PyObject *)self;
}

/* No tp_clear: methods rely on the dicts, which break their own cycles. */
static int buffers_traverse(PyObject *self, visitproc visit, void *arg) {
  mgpy_buffers *b = (mgpy_buffers *)self;

  Py_VISIT(Py_TYPE(self));
  Py_VISIT(b->stats);
  Py_VISIT(b->lists);
  return 0;
}

static void buffers_dealloc(PyObject *self) {
  mgpy_buffers *b = (mgpy_buffers *)self;
  PyTypeObject *type = Py_TYPE(self);

  PyObject_GC_UnTrack(self);
  if (b->weak_references != NULL) PyObject_ClearWeakRefs(self);
  Py_CLEAR(b->stats);
  Py_CLEAR(b->lists);
  mgpy_core_release(b->core);
  type->tp_free(self);
  Py_DECREF(type);
}

/* _open(source): source is a Settings for a table of its own, or a Manager. */
static PyObject *buffers_open(PyObject *self, PyObject *source) {
  mgpy_buffers *b = (mgpy_buffers *)self;
  const mg_config *config;

  if (b->core != NULL)
    return mgpy_raise_format(b->state, MG_ECONFLICT, "already open");
  if (PyObject_TypeCheck(source, b->state->manager_type)) {
    mgpy_core *core = ((mgpy_manager *)source)->core;
    if (!mgpy_core_check(b->state, core, "ResourceManager")) return NULL;
    b->core = mgpy_core_share(core);
    Py_RETURN_NONE;
  }
  config = mgpy_settings_get(b->state, source);
  if (config == NULL) return NULL;
  b->core = mgpy_core_open(b->state, MGPY_BUFFERS, config);
  return b->core == NULL ? NULL : Py_NewRef(Py_None);
}

/* ---- interface ------------------------------------------------ */

/* @return a new reference to buffer `name`; NULL and ENOTFOUND or ETYPE. */
static mgpy_buffer *buffers_find(mgpy_buffers *self, PyObject *name) {
  PyObject *found = NULL;

  if (!PyUnicode_Check(name)) {
    mgpy_name(self->state, name, "name of a buffer");
    return NULL;
  }
#if PY_VERSION_HEX >= 0x030D0000
  if (PyDict_GetItemRef(self->stats, name, &found) < 0) return NULL;
#else
  found = PyDict_GetItemWithError(self->stats, name);
  if (found == NULL && PyErr_Occurred()) return NULL;
  Py_XINCREF(found);
#endif
  if (found == NULL)
    mgpy_raise_format(self->state, MG_ENOTFOUND,
                      "there is no buffer %R; make it with create_buffer()",
                      name);
  return (mgpy_buffer *)found;
}

int mgpy_buffers_should_flush(mgpy_buffers *self, PyObject *name,
                              const double *pressure) {
  mgpy_buffer *buffer = buffers_find(self, name);
  int should = 0;

  if (buffer == NULL) return -1;
  MGPY_CRITICAL_BEGIN(buffer);
  if (buffer->buffer != NULL) {
    uint64_t length = (uint64_t)PyList_GET_SIZE(buffer->items);
    should = pressure == NULL
                 ? mg_buffer_should_flush(buffer->buffer, length)
                 : mg_buffer_should_flush_at(buffer->buffer, length, *pressure);
  }
  MGPY_CRITICAL_END();
  Py_DECREF(buffer);
  return should;
}

/* Reads a pressure, 0.0 to 1.0. @return 0, or -1 and an error. */
static int buffers_pressure(mgpy_state *state, PyObject *object, double *out) {
  *out = PyFloat_AsDouble(object);
  if (*out == -1.0 && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) return -1;
    PyErr_Clear();
    mgpy_raise_format(state, MG_ETYPE,
                      "memory_pressure is %R, allowed: a number", object);
    return -1;
  }
  if (*out >= 0.0 && *out <= 1.0) return 0;
  mgpy_raise_format(state, MG_ERANGE,
                    "memory_pressure is %R, allowed: 0.0 to 1.0", object);
  return -1;
}

static PyObject *buffers_should_flush(PyObject *self, PyObject *args,
                                      PyObject *keywords) {
  static char *names[] = {"name", "memory_pressure", NULL};
  PyObject *name, *pressure_object = Py_None;
  mgpy_core *core = buffers_core(self);
  double pressure = 0;
  int should;

  if (core == NULL ||
      !PyArg_ParseTupleAndKeywords(args, keywords, "O|O:should_flush_buffer",
                                   names, &name, &pressure_object))
    return NULL;
  if (pressure_object != Py_None) {
    if (buffers_pressure(core->state, pressure_object, &pressure) < 0)
      return NULL;
    /* Alone, the host's pressure is all there is to size buffers by. */
    if (core->monitor == NULL)
      mg_buffers_update(core->buffers, pressure, mg_clock_ms());
  }
  should = mgpy_buffers_should_flush(
      (mgpy_buffers *)self, name, pressure_object == Py_None ? NULL : &pressure);
  return should < 0 ? NULL : PyBool_FromLong(should);
}

static PyObject *buffers_flush(PyObject *self, PyObject *name) {
  mgpy_buffer *buffer;
  PyObject *result;

  if (buffers_core(self) == NULL) return NULL;
  buffer = buffers_find((mgpy_buffers *)self, name);
  if (buffer == NULL) return NULL;
  result = mgpy_buffer_flush(buffer);
  Py_DECREF(buffer);
  return result;
}

/* An existing buffer: its list, unless another sink is asked for. */
static PyObject *buffers_again(mgpy_buffer *buffer, PyObject *name,
                               PyObject *sink) {
  int same = sink == NULL;

  if (!same && buffer->sink != NULL)
    same = PyObject_RichCompareBool(buffer->sink, sink, Py_EQ);
  if (same < 0) return NULL;
  if (!same)
    return mgpy_raise_format(buffer->state, MG_ECONFLICT,
                             "buffer %R exists already with %s sink", name,
                             buffer->sink == NULL ? "no" : "another");
  return Py_NewRef(buffer->items);
}

static PyObject *buffers_add(mgpy_buffers *self, PyObject *name,
                             PyObject *sink) {
  const char *text = mgpy_name(self->state, name, "name of a buffer");
  mg_error err = MG_ERROR_INIT;
  mgpy_buffer *made;
  mg_buffer *buffer;
  PyObject *items;

  if (text == NULL) return NULL;
  if (mg_buffers_add(&buffer, self->core->buffers, text, &err) != MG_OK)
    return mgpy_raise(self->state, &err);
  made = mgpy_buffer_new(self->state, self->core, buffer, sink);
  if (made == NULL) {
    mg_buffers_drop(self->core->buffers, buffer);
    return NULL;
  }
  items = Py_NewRef(made->items);
  if (PyDict_SetItem(self->stats, name, (PyObject *)made) < 0) goto fail_made;
  if (PyDict_SetItem(self->lists, name, items) < 0) goto fail_stats;
  Py_DECREF(made);
  return items;

fail_stats:
  if (PyDict_DelItem(self->stats, name) < 0) PyErr_Clear();
fail_made:
  mgpy_buffer_detach(made);
  Py_DECREF(made);
  Py_DECREF(items);
  return NULL;
}

static PyObject *buffers_create(PyObject *self, PyObject *args,
                                PyObject *keywords) {
  static char *names[] = {"name", "sink", NULL};
  mgpy_buffers *b = (mgpy_buffers *)self;
  PyObject *name, *sink = Py_None, *known, *items = NULL;

  if (buffers_core(self) == NULL ||
      !PyArg_ParseTupleAndKeywords(args, keywords, "O|O:create_buffer", names,
                                   &name, &sink))
    return NULL;
  if (mgpy_name(b->state, name, "name of a buffer") == NULL) return NULL;
  if (sink != Py_None && !PyCallable_Check(sink))
    return mgpy_raise_format(b->state, MG_ETYPE,
                             "sink is %R, allowed: a callable or None", sink);
  if (sink == Py_None) sink = NULL;
  MGPY_CRITICAL_BEGIN(self);
  known = PyDict_GetItemWithError(b->stats, name);
  if (known != NULL) items = buffers_again((mgpy_buffer *)known, name, sink);
  else if (!PyErr_Occurred()) items = buffers_add(b, name, sink);
  MGPY_CRITICAL_END();
  return items;
}

/* _drop(name): forgets a buffer; its list is the host's. */
static PyObject *buffers_drop(PyObject *self, PyObject *name) {
  mgpy_buffers *b = (mgpy_buffers *)self;
  mgpy_buffer *buffer = buffers_find(b, name);

  if (buffer == NULL) return NULL;
  if (PyDict_DelItem(b->stats, name) < 0 || PyDict_DelItem(b->lists, name) < 0)
    PyErr_Clear(); /* another thread was faster */
  mgpy_buffer_detach(buffer);
  Py_DECREF(buffer);
  Py_RETURN_NONE;
}

static PyObject *buffers_after_fork(PyObject *self, PyObject *unused) {
  mgpy_buffers *b = (mgpy_buffers *)self;
  PyObject *name, *buffer;
  Py_ssize_t at = 0;
  (void)unused;

  while (PyDict_Next(b->stats, &at, &name, &buffer)) {
    Py_INCREF(buffer);
    if (mgpy_buffer_after_fork((mgpy_buffer *)buffer) < 0) PyErr_Clear();
    Py_DECREF(buffer);
  }
  Py_RETURN_NONE;
}

/* _read_settings(): the manager's, or None for buffers that stand alone. */
static PyObject *buffers_read_settings(PyObject *self, PyObject *unused) {
  mgpy_core *core = ((mgpy_buffers *)self)->core;
  mg_config config;
  (void)unused;

  if (core == NULL || core->monitor == NULL) Py_RETURN_NONE;
  mg_monitor_read_config(core->monitor, &config);
  return mgpy_settings_new(core->state, &config);
}

/* _configure(settings): for the whole manager if there is one. */
static PyObject *buffers_configure(PyObject *self, PyObject *settings) {
  mgpy_core *core = buffers_core(self);
  const mg_config *config;
  mg_error err = MG_ERROR_INIT;

  if (core == NULL) return NULL;
  config = mgpy_settings_get(core->state, settings);
  if (config == NULL) return NULL;
  if (core->manager == NULL) {
    mg_buffers_configure(core->buffers, config);
  } else if (mg_manager_configure(core->manager, config, &err) != MG_OK) {
    return mgpy_raise(core->state, &err);
  }
  Py_RETURN_NONE;
}

static PyObject *buffers_close(PyObject *self, PyObject *unused) {
  (void)unused;
  mgpy_core_close(((mgpy_buffers *)self)->core);
  Py_RETURN_NONE;
}

static PyObject *buffers_get_closed(PyObject *self, void *closure) {
  (void)closure;
  return PyBool_FromLong(!mgpy_core_usable(((mgpy_buffers *)self)->core));
}

static PyObject *buffers_get_lists(PyObject *self, void *closure) {
  (void)closure;
  return PyDictProxy_New(((mgpy_buffers *)self)->lists);
}

static PyObject *buffers_get_stats(PyObject *self, void *closure) {
  (void)closure;
  return PyDictProxy_New(((mgpy_buffers *)self)->stats);
}

/* ---- type ----------------------------------------------------- */

static PyMethodDef buffers_methods[] = {
    {"_open", buffers_open, METH_O, NULL},
    {"_drop", buffers_drop, METH_O, NULL},
    {"_read_settings", buffers_read_settings, METH_NOARGS, NULL},
    {"_configure", buffers_configure, METH_O, NULL},
    {"_close", buffers_close, METH_NOARGS, NULL},
    {"_after_fork", buffers_after_fork, METH_NOARGS, NULL},
    {"create_buffer", MGPY_METHOD(buffers_create), METH_VARARGS | METH_KEYWORDS,
     "create_buffer(name, sink=None)\n--\n\n"
     "The list of buffer `name`, made if there is none: append to it.\n\n"
     "`sink(items)` gets the items of each flush as a list. The same name again\n"
     "gives the same list; with another sink it raises ConflictError. Also\n"
     "raises ConfigTypeError, InvalidError (a name of more than 255 bytes or\n"
     "none) and ClosedError. Any thread."},
    {"should_flush_buffer", MGPY_METHOD(buffers_should_flush),
     METH_VARARGS | METH_KEYWORDS,
     "should_flush_buffer(name, memory_pressure=None)\n--\n\n"
     "Whether the buffer is long enough to be flushed, at a pressure of 0.0 to\n"
     "1.0 or at the present one. Raises NotFoundError, RangeError,\n"
     "ConfigTypeError and ClosedError. Any thread."},
    {"flush_buffer", buffers_flush, METH_O,
     "flush_buffer(name)\n--\n\n"
     "Takes all items out of the buffer, in one step.\n\n"
     "Without a sink they are returned. With one they are given to it and an\n"
     "empty list is returned; if it raises, what it left in its list goes back\n"
     "to the front of the buffer and the exception goes on. Flushes of one\n"
     "buffer take turns; from inside a sink a flush that would have to wait\n"
     "returns an empty list at once. Raises NotFoundError and ClosedError.\n"
     "Any thread."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef buffers_attributes[] = {
    {"active_buffers", buffers_get_lists, NULL,
     "The lists by name: a read-only view that follows changes.", NULL},
    {"buffer_stats", buffers_get_stats, NULL,
     "Statistics by name: a read-only view that follows changes.", NULL},
    {"closed", buffers_get_closed, NULL, "Whether it can no longer be used.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef buffers_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mgpy_buffers, weak_references),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot buffers_slots[] = {
    MGPY_SLOT(Py_tp_new, buffers_new),
    MGPY_SLOT(Py_tp_dealloc, buffers_dealloc),
    MGPY_SLOT(Py_tp_traverse, buffers_traverse),
    {Py_tp_methods, buffers_methods},
    {Py_tp_getset, buffers_attributes},
    {Py_tp_members, buffers_members},
    {Py_tp_doc, (void *)"Base of memguard.BufferManager."},
    {0, NULL}};

static PyType_Spec buffers_spec = {
    "memguard._core.Buffers", sizeof(mgpy_buffers), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    buffers_slots};

int mgpy_add_buffers(PyObject *module, mgpy_state *state) {
  return mgpy_add_type(module, &buffers_spec, &state->buffers_type);
}
