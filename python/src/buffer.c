/* buffer.c - memguard._core.Buffer: one buffer, its flushes, its statistics.
 *
 * A buffer is a Python list that the host appends to. A flush takes all items in
 * one step: nothing that can run Python or let another thread in happens between
 * copying them and cutting them off. Flushes of one buffer take turns, so that
 * its sink sees the items in the order they were appended.
 *
 * A thread that is inside a sink never waits for a turn, which rules out two
 * sinks waiting for each other; it gets an empty list and nothing is lost. */
#include "memguard_python.h"

/* How many sinks this thread is inside of. */
static _Thread_local int buffer_sinks_entered;

/* ---- life ------------------------------------------------------ */

static int buffer_traverse(PyObject *self, visitproc visit, void *arg) {
  mgpy_buffer *b = (mgpy_buffer *)self;

  Py_VISIT(Py_TYPE(self));
  Py_VISIT(b->items);
  Py_VISIT(b->sink);
  return 0;
}

/* The list stays: methods rely on it, and it breaks its own cycles. */
static int buffer_clear(PyObject *self) {
  Py_CLEAR(((mgpy_buffer *)self)->sink);
  return 0;
}

static void buffer_dealloc(PyObject *self) {
  mgpy_buffer *b = (mgpy_buffer *)self;
  PyTypeObject *type = Py_TYPE(self);

  PyObject_GC_UnTrack(self);
  Py_CLEAR(b->items);
  Py_CLEAR(b->sink);
  if (b->turn != NULL) PyThread_free_lock(b->turn);
  mgpy_core_release(b->core);
  type->tp_free(self);
  Py_DECREF(type);
}

mgpy_buffer *mgpy_buffer_new(mgpy_state *state, mgpy_core *core,
                             mg_buffer *buffer, PyObject *sink) {
  PyTypeObject *type = state->buffer_type;
  mgpy_buffer *self = (mgpy_buffer *)type->tp_alloc(type, 0);

  if (self == NULL) return NULL;
  self->state = state;
  self->core = mgpy_core_share(core);
  self->sink = Py_XNewRef(sink);
  self->items = PyList_New(0);
  self->turn = PyThread_allocate_lock();
  if (self->turn == NULL) PyErr_NoMemory();
  if (self->items == NULL || self->turn == NULL) goto fail_self;
  self->buffer = buffer;
  return self;

fail_self:
  Py_DECREF(self);
  return NULL;
}

void mgpy_buffer_detach(mgpy_buffer *self) {
  MGPY_CRITICAL_BEGIN(self);
  if (self->buffer != NULL) {
    mg_buffer_read_stats(self->buffer, &self->last);
    mg_buffers_drop(self->core->buffers, self->buffer);
    self->buffer = NULL;
  }
  MGPY_CRITICAL_END();
}

/* ---- flush ----------------------------------------------------- */

/* @return 1: this thread has the turn, 0: it must not wait, -1: an error. */
static int buffer_take_turn(mgpy_buffer *self) {
  unsigned long me = PyThread_get_thread_ident();
  PyLockStatus got;

  if (atomic_load(&self->owner) == me) return 0;
  got = PyThread_acquire_lock_timed(self->turn, 0, 0);
  if (got == PY_LOCK_FAILURE && buffer_sinks_entered > 0) return 0;
  while (got != PY_LOCK_ACQUIRED) {
    Py_BEGIN_ALLOW_THREADS
    got = PyThread_acquire_lock_timed(self->turn, -1, 1);
    Py_END_ALLOW_THREADS
    if (got == PY_LOCK_INTR && Py_MakePendingCalls() < 0) return -1;
  }
  atomic_store(&self->owner, me);
  return 1;
}

/* @return 1: moved the first `count` items of `list` into `taken`, 0: it has
 * become shorter, -1: an error. */
static int buffer_move_items(PyObject *taken, PyObject *list,
                             Py_ssize_t count) {
  int st = 0;

  MGPY_CRITICAL_BEGIN(list);
  if (PyList_GET_SIZE(list) >= count) {
    for (Py_ssize_t i = 0; i < count; i++)
      PyList_SET_ITEM(taken, i, Py_NewRef(PyList_GET_ITEM(list, i)));
    st = count == 0 || PyList_SetSlice(list, 0, count, NULL) == 0 ? 1 : -1;
  }
  MGPY_CRITICAL_END();
  return st;
}

static PyObject *buffer_take_items(PyObject *list) {
  for (;;) { /* making a list may collect garbage, which may run anything */
    Py_ssize_t count = PyList_GET_SIZE(list);
    PyObject *taken = PyList_New(count);
    int st = taken == NULL ? -1 : buffer_move_items(taken, list, count);
    if (st > 0) return taken;
    Py_XDECREF(taken);
    if (st < 0) return NULL;
  }
}

/* What a failed sink left in its list goes back to the front. Keeps the error
 * that is set. */
static void buffer_put_back(PyObject *list, PyObject *items) {
  PyObject *type, *value, *traceback;

  PyErr_Fetch(&type, &value, &traceback);
  if (PyList_SetSlice(list, 0, 0, items) < 0) {
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return; /* out of memory is the graver news */
  }
  PyErr_Restore(type, value, traceback);
}

/* @return 0, or -1 and the sink's error. */
static int buffer_send(mgpy_buffer *self, PyObject *items, bool *is_forked,
                       PyThread_type_lock turn) {
  PyObject *sink = Py_NewRef(self->sink), *result;

  buffer_sinks_entered++;
  result = PyObject_CallOneArg(sink, items);
  buffer_sinks_entered--;
  Py_DECREF(sink);
  /* A sink may fork: in the child these items are the parent's. */
  *is_forked = self->turn != turn;
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

static void buffer_count_flush(mgpy_buffer *self, Py_ssize_t items) {
  MGPY_CRITICAL_BEGIN(self);
  if (self->buffer != NULL && items > 0)
    mg_buffer_flushed(self->buffer, (uint64_t)items);
  MGPY_CRITICAL_END();
}

/* Has the turn. @return what the caller gets, a new list. */
static PyObject *buffer_flush_items(mgpy_buffer *self, bool *is_forked,
                                    PyThread_type_lock turn) {
  PyObject *items = buffer_take_items(self->items);
  Py_ssize_t count, left = 0;

  if (items == NULL) return NULL;
  count = PyList_GET_SIZE(items);
  if (self->sink == NULL || count == 0) {
    buffer_count_flush(self, count);
    return items;
  }
  if (buffer_send(self, items, is_forked, turn) < 0) {
    left = PyList_GET_SIZE(items);
    if (!*is_forked) buffer_put_back(self->items, items);
    Py_CLEAR(items);
  }
  buffer_count_flush(self, count - left);
  if (items == NULL) return NULL;
  Py_DECREF(items);
  return PyList_New(0);
}

PyObject *mgpy_buffer_flush(mgpy_buffer *self) {
  PyThread_type_lock turn = self->turn;
  bool is_forked = false;
  PyObject *result;
  int has_turn;

  has_turn = buffer_take_turn(self);
  if (has_turn <= 0) return has_turn < 0 ? NULL : PyList_New(0);
  result = buffer_flush_items(self, &is_forked, turn);
  if (!is_forked) {
    atomic_store(&self->owner, 0);
    PyThread_release_lock(turn);
  }
  return result;
}

int mgpy_buffer_after_fork(mgpy_buffer *self) {
  PyThread_type_lock fresh;

  if (PyThread_acquire_lock(self->turn, NOWAIT_LOCK)) {
    PyThread_release_lock(self->turn);
  } else {
    fresh = PyThread_allocate_lock();
    if (fresh == NULL) return PyErr_NoMemory() == NULL ? -1 : 0;
    self->turn = fresh; /* the old one is held for ever: left alone */
    atomic_store(&self->owner, 0);
  }
  return PyList_SetSlice(self->items, 0, PyList_GET_SIZE(self->items), NULL);
}

/* ---- statistics, as attributes and as a mapping ---------------- */

static void buffer_stats(mgpy_buffer *self, mg_buffer_stats *out) {
  MGPY_CRITICAL_BEGIN(self);
  if (self->buffer != NULL) mg_buffer_read_stats(self->buffer, out);
  else *out = self->last;
  MGPY_CRITICAL_END();
}

static PyObject *buffer_get_created(PyObject *self, void *closure) {
  mg_buffer_stats stats;
  (void)closure;
  buffer_stats((mgpy_buffer *)self, &stats);
  return PyFloat_FromDouble((double)stats.created_unix_ms / 1000.0);
}

#define BUFFER_NUMBER(name)                                          \
  static PyObject *buffer_get_##name(PyObject *self, void *closure) { \
    mg_buffer_stats stats;                                           \
    (void)closure;                                                   \
    buffer_stats((mgpy_buffer *)self, &stats);                     \
    return PyLong_FromUnsignedLongLong(stats.name);                  \
  }
BUFFER_NUMBER(max_size_reached)
BUFFER_NUMBER(flush_count)
BUFFER_NUMBER(flushed_items)
BUFFER_NUMBER(current_size)
BUFFER_NUMBER(flush_at)

static PyObject *buffer_get_has_sink(PyObject *self, void *closure) {
  (void)closure;
  return PyBool_FromLong(((mgpy_buffer *)self)->sink != NULL);
}

static PyObject *buffer_get_is_flushing(PyObject *self, void *closure) {
  (void)closure;
  return PyBool_FromLong(atomic_load(&((mgpy_buffer *)self)->owner) != 0);
}

static PyGetSetDef buffer_attributes[] = {
    {"created_time", buffer_get_created, NULL,
     "when the buffer was made, seconds since 1970", NULL},
    {"max_size_reached", buffer_get_max_size_reached, NULL,
     "longest length seen by a check or a flush, in items", NULL},
    {"flush_count", buffer_get_flush_count, NULL,
     "flushes that took at least one item", NULL},
    {"flushed_items", buffer_get_flushed_items, NULL,
     "items taken by those flushes", NULL},
    {"current_size", buffer_get_current_size, NULL,
     "items the buffer is meant to hold now; follows the pressure", NULL},
    {"flush_at", buffer_get_flush_at, NULL,
     "length from which the buffer should be flushed now, in items", NULL},
    {"has_sink", buffer_get_has_sink, NULL,
     "whether flushed items go to a sink", NULL},
    {"is_flushing", buffer_get_is_flushing, NULL,
     "whether a flush is under way", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyObject *buffer_subscript(PyObject *self, PyObject *key) {
  mgpy_buffer *b = (mgpy_buffer *)self;

  for (const PyGetSetDef *row = buffer_attributes; row->name != NULL; row++)
    if (PyUnicode_Check(key) &&
        PyUnicode_CompareWithASCIIString(key, row->name) == 0)
      return row->get(self, row->closure);
  return mgpy_raise_format(b->state, MG_ENOTFOUND,
                           "%R is no statistic of a buffer", key);
}

static PyObject *buffer_keys(PyObject *self, PyObject *unused) {
  PyObject *made = PyList_New(0);
  (void)self;
  (void)unused;

  for (const PyGetSetDef *row = buffer_attributes;
       made != NULL && row->name != NULL; row++) {
    PyObject *name = PyUnicode_InternFromString(row->name);
    if (name == NULL || PyList_Append(made, name) < 0) Py_CLEAR(made);
    Py_XDECREF(name);
  }
  return made;
}

static PyObject *buffer_iter(PyObject *self) {
  PyObject *keys = buffer_keys(self, NULL), *made;

  if (keys == NULL) return NULL;
  made = PyObject_GetIter(keys);
  Py_DECREF(keys);
  return made;
}

static Py_ssize_t buffer_length(PyObject *self) {
  (void)self;
  return (Py_ssize_t)(sizeof buffer_attributes / sizeof *buffer_attributes) - 1;
}

static PyMethodDef buffer_methods[] = {
    {"keys", buffer_keys, METH_NOARGS,
     "keys()\n--\n\nNames of the statistics, which are attributes too."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot buffer_slots[] = {
    MGPY_SLOT(Py_tp_dealloc, buffer_dealloc),
    MGPY_SLOT(Py_tp_traverse, buffer_traverse),
    MGPY_SLOT(Py_tp_clear, buffer_clear),
    MGPY_SLOT(Py_tp_iter, buffer_iter),
    MGPY_SLOT(Py_mp_subscript, buffer_subscript),
    MGPY_SLOT(Py_mp_length, buffer_length),
    {Py_tp_methods, buffer_methods},
    {Py_tp_getset, buffer_attributes},
    {Py_tp_doc,
     (void *)"Statistics of one buffer, always as they are now; "
             "stats.flush_count and stats['flush_count'] are the same."},
    {0, NULL}};

static PyType_Spec buffer_spec = {
    "memguard._core.Buffer", sizeof(mgpy_buffer), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    buffer_slots};

int mgpy_add_buffer(PyObject *module, mgpy_state *state) {
  return mgpy_add_type(module, &buffer_spec, &state->buffer_type);
}
