/* pool_writer.c - memguard._core.PooledBufferWriter: rented bytes that grow.
 *
 * It owns a PooledBuffer. Growing rents one of twice the size and returns the
 * former, whose memory stays where it is while views of it live. */
#include "pool_parts.h"

#include <string.h>

typedef struct writer_object {
  PyObject_HEAD
  mgpy_pool *pool;
  mgpy_pooled *buffer; /* NULL once disposed of */
  Py_ssize_t written;
  Py_ssize_t max_bytes;
} writer_object;

/* ---- life ------------------------------------------------------------------------- */

PyObject *mgpy_writer_new(mgpy_pool *pool, Py_ssize_t size_hint,
                          Py_ssize_t max_bytes) {
  PyTypeObject *type = pool->state->writer_type;
  Py_ssize_t length = size_hint < max_bytes ? size_hint : max_bytes;
  writer_object *self = (writer_object *)type->tp_alloc(type, 0);

  if (self == NULL) return NULL;
  self->pool = mgpy_pool_share(pool);
  self->max_bytes = max_bytes;
  self->buffer = mgpy_pool_rent(pool, length > 0 ? length : 1);
  if (self->buffer == NULL) Py_CLEAR(self);
  return (PyObject *)self;
}

/* What it still has is forgotten, and reported by the buffer's own end. */
static void writer_dealloc(PyObject *object) {
  writer_object *self = (writer_object *)object;
  PyTypeObject *type = Py_TYPE(object);

  Py_CLEAR(self->buffer);
  mgpy_pool_release(self->pool);
  type->tp_free(object);
  Py_DECREF(type);
}

/* @return whether it may be used; else an error is set. Through a view's `obj` the
 * buffer can be had and returned, and must not be written to then. */
static bool writer_check(writer_object *self) {
  bool is_returned = self->buffer != NULL &&
                     (atomic_load(&self->buffer->state) & MGPY_POOLED_RETURNED) != 0;

  if (self->buffer != NULL && !is_returned) return true;
  if (is_returned)
    mgpy_raise_format(self->pool->state, MG_ERETURNED,
                      "the memory of a PooledBufferWriter was returned");
  else
    mgpy_raise_format(self->pool->state, MG_ECLOSED,
                      "PooledBufferWriter used after dispose() or detach()");
  return false;
}

/* All that is there may be written, up to max_bytes. */
static Py_ssize_t writer_capacity(const writer_object *self) {
  Py_ssize_t capacity = (Py_ssize_t)self->buffer->capacity;

  return capacity < self->max_bytes ? capacity : self->max_bytes;
}

/* ---- growing; inside its critical section --------------------------------------- */

static int writer_grow(writer_object *self, Py_ssize_t least) {
  Py_ssize_t length = writer_capacity(self);
  mgpy_pooled *former = self->buffer, *made;

  length = length <= self->max_bytes / 2 ? 2 * length : self->max_bytes;
  made = mgpy_pool_rent(self->pool, length < least ? least : length);
  if (made == NULL) return -1;
  memcpy(made->data, former->data, (size_t)self->written);
  self->buffer = made;
  mgpy_pooled_return(former);
  Py_DECREF(former);
  return 0;
}

/* Makes room for `bytes` more. @return 0, or -1 and an error. */
static int writer_reserve(writer_object *self, Py_ssize_t bytes) {
  if (!writer_check(self)) return -1;
  if (bytes > self->max_bytes - self->written) {
    mgpy_raise_format(self->pool->state, MG_ERANGE,
                      "%zd bytes after the first %zd, allowed: %zd in all", bytes,
                      self->written, self->max_bytes);
    return -1;
  }
  if (bytes <= writer_capacity(self) - self->written) return 0;
  if (atomic_load(&self->pool->is_closed)) {
    mgpy_raise_format(self->pool->state, MG_ECLOSED,
                      "a PooledBufferWriter cannot grow: its pool is closed");
    return -1;
  }
  return writer_grow(self, self->written + bytes);
}

/* A view of bytes `from` to `to` of the buffer: it may lie behind its length. */
static PyObject *writer_view(writer_object *self, Py_ssize_t from,
                             Py_ssize_t to) {
  PyObject *whole, *first, *last, *slice, *made = NULL;

  if (!writer_check(self)) return NULL;
  self->buffer->length = (Py_ssize_t)self->buffer->capacity;
  whole = PyMemoryView_FromObject((PyObject *)self->buffer);
  first = PyLong_FromSsize_t(from);
  last = PyLong_FromSsize_t(to);
  slice = first == NULL || last == NULL ? NULL : PySlice_New(first, last, NULL);
  if (whole != NULL && slice != NULL) made = PyObject_GetItem(whole, slice);
  Py_XDECREF(whole);
  Py_XDECREF(first);
  Py_XDECREF(last);
  Py_XDECREF(slice);
  return made;
}

/* ---- writing ------------------------------------------------------------------------ */

static PyObject *writer_advance(PyObject *object, PyObject *count_object) {
  writer_object *self = (writer_object *)object;
  PyObject *made = NULL;
  Py_ssize_t count;

  MGPY_CRITICAL_BEGIN(object);
  if (writer_check(self) &&
      mgpy_pool_number(self->pool->state, count_object, "count", 0,
                       writer_capacity(self) - self->written, &count) == 0) {
    self->written += count;
    made = Py_NewRef(Py_None);
  }
  MGPY_CRITICAL_END();
  return made;
}

static PyObject *writer_get_span(PyObject *object, PyObject *const *args,
                                 Py_ssize_t count) {
  writer_object *self = (writer_object *)object;
  PyObject *made = NULL;
  Py_ssize_t hint = 0;

  if (count > 1) {
    PyErr_SetString(PyExc_TypeError, "get_span() takes one argument at most");
    return NULL;
  }
  if (count == 1 &&
      mgpy_pool_number(self->pool->state, args[0], "size_hint", 0,
                       (Py_ssize_t)MG_POOL_MAX_BYTES, &hint) < 0)
    return NULL;
  MGPY_CRITICAL_BEGIN(object);
  /* Without a hint: some room, unless there can be none. */
  if (hint == 0 && self->written < self->max_bytes) hint = 1;
  if (writer_reserve(self, hint) == 0)
    made = writer_view(self, self->written, writer_capacity(self));
  MGPY_CRITICAL_END();
  return made;
}

/* The bytes may be the writer's own: then a view of them keeps them in place. */
static int writer_append(writer_object *self, const void *bytes,
                         Py_ssize_t count) {
  int st;

  MGPY_CRITICAL_BEGIN(self);
  st = writer_reserve(self, count);
  if (st == 0 && count > 0) {
    memmove((char *)self->buffer->data + self->written, bytes, (size_t)count);
    self->written += count;
  }
  MGPY_CRITICAL_END();
  return st;
}

static PyObject *writer_write(PyObject *object, PyObject *bytes) {
  writer_object *self = (writer_object *)object;
  Py_ssize_t count;
  Py_buffer view;
  int st;

  if (PyBytes_CheckExact(bytes)) {
    count = PyBytes_GET_SIZE(bytes);
    st = writer_append(self, PyBytes_AS_STRING(bytes), count);
    return st < 0 ? NULL : PyLong_FromSsize_t(count);
  }
  if (!PyObject_CheckBuffer(bytes))
    return mgpy_raise_format(self->pool->state, MG_ETYPE,
                             "write() of %s, allowed: bytes or what has a buffer",
                             Py_TYPE(bytes)->tp_name);
  if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) < 0) return NULL;
  count = view.len;
  st = writer_append(self, view.buf, count);
  PyBuffer_Release(&view);
  return st < 0 ? NULL : PyLong_FromSsize_t(count);
}

static PyObject *writer_clear(PyObject *object, PyObject *unused) {
  writer_object *self = (writer_object *)object;
  (void)unused;

  if (!writer_check(self)) return NULL;
  self->written = 0;
  Py_RETURN_NONE;
}

/* ---- the end -------------------------------------------------------------------------- */

/* @return [owned] what it had; NULL if it had nothing. */
static mgpy_pooled *writer_take(writer_object *self) {
  mgpy_pooled *buffer;

  MGPY_CRITICAL_BEGIN(self);
  buffer = self->buffer;
  self->buffer = NULL;
  if (buffer != NULL) buffer->length = self->written;
  MGPY_CRITICAL_END();
  return buffer;
}

static PyObject *writer_detach(PyObject *object, PyObject *unused) {
  writer_object *self = (writer_object *)object;
  mgpy_pooled *buffer = writer_take(self);
  (void)unused;

  if (buffer == NULL) (void)writer_check(self);
  return (PyObject *)buffer;
}

static PyObject *writer_dispose(PyObject *object, PyObject *unused) {
  mgpy_pooled *buffer = writer_take((writer_object *)object);
  int st = 0;
  (void)unused;

  if (buffer != NULL) {
    st = mgpy_pooled_return(buffer);
    Py_DECREF(buffer);
  }
  return st < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *writer_enter(PyObject *object, PyObject *unused) {
  (void)unused;
  return writer_check((writer_object *)object) ? Py_NewRef(object) : NULL;
}

static PyObject *writer_exit(PyObject *object, PyObject *const *args,
                             Py_ssize_t count) {
  (void)args;
  (void)count;
  return writer_dispose(object, NULL);
}

/* ---- as a file --------------------------------------------------------------------- */

static PyObject *writer_flush(PyObject *object, PyObject *unused) {
  (void)unused;
  return writer_check((writer_object *)object) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *writer_tell(PyObject *object, PyObject *unused) {
  writer_object *self = (writer_object *)object;
  (void)unused;

  return writer_check(self) ? PyLong_FromSsize_t(self->written) : NULL;
}

static PyObject *writer_yes(PyObject *object, PyObject *unused) {
  (void)object;
  (void)unused;
  Py_RETURN_TRUE;
}

static PyObject *writer_no(PyObject *object, PyObject *unused) {
  (void)object;
  (void)unused;
  Py_RETURN_FALSE;
}

static PyObject *writer_get_closed(PyObject *object, void *closure) {
  (void)closure;
  return PyBool_FromLong(((writer_object *)object)->buffer == NULL);
}

static PyObject *writer_get_written(PyObject *object, void *closure) {
  PyObject *made;
  (void)closure;

  MGPY_CRITICAL_BEGIN(object);
  made = writer_view((writer_object *)object, 0,
                     ((writer_object *)object)->written);
  MGPY_CRITICAL_END();
  return made;
}

static PyObject *writer_get_count(PyObject *object, void *closure) {
  (void)closure;
  return writer_tell(object, NULL);
}

static PyObject *writer_get_capacity(PyObject *object, void *closure) {
  writer_object *self = (writer_object *)object;
  (void)closure;

  return writer_check(self) ? PyLong_FromSsize_t(writer_capacity(self)) : NULL;
}

/* ---- type ------------------------------------------------------------------------------ */

static PyMethodDef writer_methods[] = {
    {"advance", writer_advance, METH_O,
     "advance(count, /)\n--\n\n"
     "Counts the next `count` bytes of the span as written. Raises RangeError if\n"
     "there are fewer, ConfigTypeError, ClosedError."},
    {"get_span", MGPY_METHOD(writer_get_span), METH_FASTCALL,
     "get_span(size_hint=0, /)\n--\n\n"
     "A writable memoryview of the free space, of `size_hint` bytes at least:\n"
     "write there, then advance(). It is the writer's until the next get_span()\n"
     "or write(): one that grows leaves it behind. Raises RangeError past\n"
     "max_bytes, ConfigTypeError, NoMemoryError, ClosedError."},
    {"write", writer_write, METH_O,
     "write(data, /)\n--\n\n"
     "Appends bytes, or what has a contiguous buffer. Returns their number.\n"
     "Raises RangeError past max_bytes, and then has written nothing;\n"
     "ConfigTypeError, BufferError, NoMemoryError, ClosedError."},
    {"clear", writer_clear, METH_NOARGS,
     "clear()\n--\n\nForgets what was written; the room stays. Raises ClosedError."},
    {"detach", writer_detach, METH_NOARGS,
     "detach()\n--\n\n"
     "What was written as a PooledBuffer of written_count bytes, which is the\n"
     "caller's to return; nothing is copied. The writer is disposed of. Raises\n"
     "ClosedError."},
    {"dispose", writer_dispose, METH_NOARGS,
     "dispose()\n--\n\n"
     "Returns its memory; views of it stay valid. Later use raises ClosedError.\n"
     "Idempotent."},
    {"return_", writer_dispose, METH_NOARGS,
     "return_()\n--\n\nThe same as dispose()."},
    {"close", writer_dispose, METH_NOARGS,
     "close()\n--\n\nThe same as dispose()."},
    {"flush", writer_flush, METH_NOARGS,
     "flush()\n--\n\nDoes nothing, as a file in memory. Raises ClosedError."},
    {"tell", writer_tell, METH_NOARGS,
     "tell()\n--\n\nThe same as written_count."},
    {"writable", writer_yes, METH_NOARGS, "writable()\n--\n\nTrue."},
    {"readable", writer_no, METH_NOARGS, "readable()\n--\n\nFalse."},
    {"seekable", writer_no, METH_NOARGS, "seekable()\n--\n\nFalse."},
    {"__enter__", writer_enter, METH_NOARGS, NULL},
    {"__exit__", MGPY_METHOD(writer_exit), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef writer_attributes[] = {
    {"written", writer_get_written, NULL,
     "A memoryview of what was written. Raises ClosedError.", NULL},
    {"written_count", writer_get_count, NULL,
     "Bytes written. Raises ClosedError.", NULL},
    {"capacity", writer_get_capacity, NULL,
     "Bytes there is room for without growing. Raises ClosedError.", NULL},
    {"closed", writer_get_closed, NULL, "Whether it was disposed of.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot writer_slots[] = {
    MGPY_SLOT(Py_tp_dealloc, writer_dealloc),
    {Py_tp_methods, writer_methods},
    {Py_tp_getset, writer_attributes},
    {Py_tp_doc,
     (void *)"A binary file, to be written, in memory rented from a MemoryPool.\n"
             "It grows by doubling. dispose() or a `with` block gives the memory\n"
             "back, detach() hands it on. One thread at a time writes."},
    {0, NULL}};

static PyType_Spec writer_spec = {
    "memguard._core.PooledBufferWriter", sizeof(writer_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    writer_slots};

int mgpy_add_writer(PyObject *module, mgpy_state *state) {
  return mgpy_add_type(module, &writer_spec, &state->writer_type);
}
