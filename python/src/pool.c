/* pool.c - memguard._core.Pool, the base of memguard.MemoryPool.
 *
 * Methods that start with an underscore are for python/memguard only. What is said
 * of lost rentals is said by the next call of the program, never where they are
 * found, which may be inside a collection. */
#include "pool_parts.h"

#include <stddef.h>

#define POOL_MANY 1048576 /* rentals at once */

/* ---- what rentals share with it ------------------------------------------------ */

void mgpy_pool_free(mgpy_pool *pool) {
  pthread_rwlock_destroy(&pool->use);
  PyMem_RawFree(pool);
}

static mgpy_pool *pool_new(mgpy_state *state, mg_pool *core, bool is_shared) {
  mgpy_pool *pool = PyMem_RawCalloc(1, sizeof *pool);

  if (pool == NULL) return NULL;
  pool->core = core;
  pool->state = state;
  pool->is_shared = is_shared;
  pthread_rwlock_init(&pool->use, NULL);
  atomic_init(&pool->users, 1);
  return pool;
}

/* The process's own pool serves other interpreters too: it stays open. Idle
 * memory goes first, which takes longest, without the GIL. */
static void pool_close(mgpy_pool *pool) {
  if (atomic_exchange(&pool->is_closed, true)) return;
  Py_BEGIN_ALLOW_THREADS
  pthread_rwlock_rdlock(&pool->use);
  mg_pool_relieve(pool->core, 1.0);
  pthread_rwlock_unlock(&pool->use);
  Py_END_ALLOW_THREADS
  if (pool->is_shared) return;
  pthread_rwlock_wrlock(&pool->use);
  mg_pool_close(pool->core);
  pthread_rwlock_unlock(&pool->use);
}

/* ---- life ----------------------------------------------------------------------- */

static PyObject *pool_make(PyTypeObject *type, PyObject *args,
                           PyObject *keywords) {
  mgpy_state *state = mgpy_state_of(type);
  mgpy_pool_object *self;
  (void)args;
  (void)keywords;

  if (state == NULL) return NULL;
  self = (mgpy_pool_object *)type->tp_alloc(type, 0);
  if (self != NULL) self->state = state;
  return (PyObject *)self;
}

static int pool_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static void pool_dealloc(PyObject *object) {
  mgpy_pool_object *self = (mgpy_pool_object *)object;
  PyTypeObject *type = Py_TYPE(object);

  PyObject_GC_UnTrack(object);
  if (self->weak_references != NULL) PyObject_ClearWeakRefs(object);
  if (self->pool != NULL) {
    if (!self->pool->is_shared) pool_close(self->pool);
    mgpy_pool_release(self->pool);
  }
  type->tp_free(object);
  Py_DECREF(type);
}

/* _open(settings): None opens the pool that the process shares */
static PyObject *pool_open(PyObject *object, PyObject *settings) {
  mgpy_pool_object *self = (mgpy_pool_object *)object;
  bool is_shared = settings == Py_None;
  mg_error err = MG_ERROR_INIT;
  const mg_config *config;
  mg_pool *core = NULL;

  if (self->pool != NULL)
    return mgpy_raise_format(self->state, MG_ECONFLICT, "already open");
  if (is_shared) {
    core = mg_pool_shared();
  } else {
    config = mgpy_settings_get(self->state, settings);
    if (config == NULL) return NULL;
    if (mg_pool_open(&core, config, &err) != MG_OK)
      return mgpy_raise(self->state, &err);
  }
  if (core != NULL) self->pool = pool_new(self->state, core, is_shared);
  if (self->pool != NULL) Py_RETURN_NONE;
  if (!is_shared) mg_pool_close(core);
  return PyErr_NoMemory();
}

/* ---- calls ----------------------------------------------------------------------- */

int mgpy_pool_number(mgpy_state *state, PyObject *object, const char *what,
                     Py_ssize_t least, Py_ssize_t most, Py_ssize_t *out) {
  PyObject *number;

  if (PyBool_Check(object) || !PyIndex_Check(object)) {
    mgpy_raise_format(state, MG_ETYPE, "%s is %R, allowed: a whole number",
                      what, object);
    return -1;
  }
  number = PyNumber_Index(object);
  if (number == NULL) return -1;
  *out = PyLong_AsSsize_t(number);
  Py_DECREF(number);
  if (*out == -1 && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return -1;
    PyErr_Clear();
    *out = least - 1; /* in no range */
  }
  if (*out >= least && *out <= most) return 0;
  mgpy_raise_format(state, MG_ERANGE, "%s is %R, allowed: %zd to %zd", what,
                    object, least, most);
  return -1;
}

/* Tells of lost rentals: has Python log them. An exception of the logging is no
 * business of the caller, an interrupt is. @return 0 or -1. */
static int pool_tell(mgpy_pool_object *self) {
  PyObject *told = PyObject_CallMethodNoArgs(
      (PyObject *)self, self->state->pools->tell_name);

  if (told != NULL) {
    Py_DECREF(told);
    return 0;
  }
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
  PyErr_WriteUnraisable((PyObject *)self);
  return 0;
}

static bool pool_is_open(mgpy_state *state, const mgpy_pool *pool) {
  if (pool != NULL && !atomic_load(&pool->is_closed)) return true;
  mgpy_raise_format(state, MG_ECLOSED,
                    pool == NULL
                        ? "MemoryPool was not opened: its __init__ did not run"
                        : "MemoryPool is closed");
  return false;
}

/* Telling runs code of the program, which may close the pool. */
mgpy_pool *mgpy_pool_get(PyObject *object) {
  mgpy_pool_object *self = (mgpy_pool_object *)object;

  if (!pool_is_open(self->state, self->pool)) return NULL;
  if (atomic_load(&self->pool->is_lost_due) &&
      (pool_tell(self) < 0 || !pool_is_open(self->state, self->pool)))
    return NULL;
  return self->pool;
}

static mgpy_pooled *pool_raise(mgpy_pool *pool, const mg_error *err) {
  mgpy_raise(pool->state, err);
  return NULL;
}

mgpy_pooled *mgpy_pool_rent(mgpy_pool *pool, Py_ssize_t length) {
  mg_error err = MG_ERROR_INIT;
  mg_rental rental;
  mg_status st;

  /* Reading the arguments may have run code too. */
  if (!pool_is_open(pool->state, pool)) return NULL;
  MGPY_POOL_ENTER(pool);
  st = mg_pool_rent(&rental, pool->core, (size_t)length, &err);
  MGPY_POOL_LEAVE(pool);
  return st == MG_OK ? mgpy_pooled_new(pool, &rental, length)
                     : pool_raise(pool, &err);
}

static PyObject *pool_rent_slowly(PyObject *object, PyObject *size) {
  mgpy_pool *pool = mgpy_pool_get(object);
  Py_ssize_t length;

  if (pool == NULL ||
      mgpy_pool_number(pool->state, size, "n", 1,
                       (Py_ssize_t)MG_POOL_MAX_BYTES, &length) < 0)
    return NULL;
  return (PyObject *)mgpy_pool_rent(pool, length);
}

/* rent(n): here the common case, which tells nothing and refuses nothing. */
static PyObject *pool_rent(PyObject *object, PyObject *size) {
  mgpy_pool *pool = ((mgpy_pool_object *)object)->pool;
  mg_rental rental;
  Py_ssize_t length;
  mg_status st;

  if (!PyLong_CheckExact(size) || pool == NULL ||
      atomic_load_explicit(&pool->is_closed, memory_order_relaxed) ||
      atomic_load_explicit(&pool->is_lost_due, memory_order_relaxed))
    return pool_rent_slowly(object, size);
  length = PyLong_AsSsize_t(size);
  if (length <= 0) {
    PyErr_Clear();
    return pool_rent_slowly(object, size);
  }
  MGPY_POOL_ENTER(pool);
  st = mg_pool_rent(&rental, pool->core, (size_t)length, NULL);
  MGPY_POOL_LEAVE(pool);
  if (st != MG_OK) return pool_rent_slowly(object, size);
  return (PyObject *)mgpy_pooled_new(pool, &rental, length);
}

/* All of them as objects, or none. */
static PyObject *pool_list(mgpy_pool *pool, const mg_rental *rentals,
                           Py_ssize_t count, Py_ssize_t length) {
  PyObject *made = PyList_New(count);
  Py_ssize_t done = 0;

  for (; made != NULL && done < count; done++) {
    mgpy_pooled *one = mgpy_pooled_new(pool, &rentals[done], length);
    if (one == NULL) break;
    PyList_SET_ITEM(made, done, (PyObject *)one);
  }
  if (made != NULL && done == count) return made;
  for (Py_ssize_t i = 0; i < done; i++)
    mgpy_pooled_return((mgpy_pooled *)PyList_GET_ITEM(made, i));
  for (Py_ssize_t i = made == NULL ? 0 : done + 1; i < count; i++)
    mg_pool_return(pool->core, rentals[i].handle, NULL);
  Py_XDECREF(made);
  return NULL;
}

static PyObject *pool_rent_many(PyObject *object, PyObject *args) {
  mgpy_pool *pool = mgpy_pool_get(object);
  PyObject *count_object, *size, *made = NULL;
  mg_error err = MG_ERROR_INIT;
  Py_ssize_t count, length;
  mg_rental *rentals;
  mg_status st;

  if (pool == NULL ||
      !PyArg_ParseTuple(args, "OO:rent_many", &count_object, &size) ||
      mgpy_pool_number(pool->state, count_object, "count", 0, POOL_MANY,
                       &count) < 0 ||
      mgpy_pool_number(pool->state, size, "n", 1,
                       (Py_ssize_t)MG_POOL_MAX_BYTES, &length) < 0)
    return NULL;
  rentals = PyMem_New(mg_rental, (size_t)count + 1);
  if (rentals == NULL) return PyErr_NoMemory();
  MGPY_POOL_ENTER(pool);
  st = mg_pool_rent_many(rentals, (size_t)count, pool->core, (size_t)length,
                         &err);
  MGPY_POOL_LEAVE(pool);
  if (st == MG_OK)
    made = pool_list(pool, rentals, count, length);
  else
    mgpy_raise(pool->state, &err);
  PyMem_Free(rentals);
  return made;
}

static PyObject *pool_rent_writer(PyObject *object, PyObject *args,
                                  PyObject *keywords) {
  static char *names[] = {"size_hint", "max_bytes", NULL};
  Py_ssize_t size_hint = 256, max_bytes = (Py_ssize_t)MG_POOL_MAX_BYTES;
  PyObject *hint = NULL, *max = Py_None;
  mgpy_pool *pool = mgpy_pool_get(object);

  if (pool == NULL ||
      !PyArg_ParseTupleAndKeywords(args, keywords, "|OO:rent_writer", names,
                                   &hint, &max))
    return NULL;
  if (max != Py_None &&
      mgpy_pool_number(pool->state, max, "max_bytes", 1,
                       (Py_ssize_t)MG_POOL_MAX_BYTES, &max_bytes) < 0)
    return NULL;
  if (hint != NULL &&
      mgpy_pool_number(pool->state, hint, "size_hint", 0,
                       (Py_ssize_t)MG_POOL_MAX_BYTES, &size_hint) < 0)
    return NULL;
  return mgpy_writer_new(pool, size_hint, max_bytes);
}

/* return_(buffer) */
static PyObject *pool_return(PyObject *object, PyObject *given) {
  mgpy_pool_object *self = (mgpy_pool_object *)object;
  mg_error err = MG_ERROR_INIT;
  mgpy_pooled *buffer;
  mgpy_pool *pool = self->pool;

  if (!PyObject_TypeCheck(given, self->state->pooled_type))
    return mgpy_raise_format(self->state, MG_ETYPE,
                             "%R is returned, allowed: a PooledBuffer", given);
  buffer = (mgpy_pooled *)given;
  if (pool != NULL && buffer->pool->core == pool->core &&
      (buffer->pool == pool || pool->is_shared)) {
    if (mgpy_pooled_return(buffer) < 0) return NULL;
    Py_RETURN_NONE;
  }
  pool = mgpy_pool_get(object);
  if (pool == NULL) return NULL;
  MGPY_POOL_ENTER(pool);
  mg_pool_return(pool->core, buffer->handle, &err); /* refuses and reports it */
  MGPY_POOL_LEAVE(pool);
  return mgpy_raise_format(
      pool->state, MG_EFOREIGN,
      "a buffer of %zd bytes was returned to a pool it is not of",
      buffer->length);
}

static PyObject *pool_trim(PyObject *object, PyObject *args,
                           PyObject *keywords) {
  static char *names[] = {"share", NULL};
  mgpy_pool *pool = mgpy_pool_get(object);
  PyObject *share_object = NULL;
  double share = 1.0;
  uint64_t given;

  if (pool == NULL || !PyArg_ParseTupleAndKeywords(args, keywords, "|O:trim",
                                                   names, &share_object))
    return NULL;
  if (share_object != NULL) {
    share = PyFloat_AsDouble(share_object);
    if (PyErr_Occurred()) {
      if (!PyErr_ExceptionMatches(PyExc_TypeError)) return NULL;
      PyErr_Clear();
      return mgpy_raise_format(pool->state, MG_ETYPE,
                               "share is %R, allowed: a number", share_object);
    }
  }
  if (!(share >= 0.0 && share <= 1.0))
    return mgpy_raise_format(pool->state, MG_ERANGE,
                             "share is %R, allowed: 0.0 to 1.0", share_object);
  mgpy_pool_share(pool);
  Py_BEGIN_ALLOW_THREADS
  pthread_rwlock_rdlock(&pool->use);
  given = atomic_load(&pool->is_closed) ? 0
                                        : mg_pool_relieve(pool->core, share);
  pthread_rwlock_unlock(&pool->use);
  Py_END_ALLOW_THREADS
  mgpy_pool_release(pool);
  return PyLong_FromUnsignedLongLong(given);
}

/* ---- settings, end --------------------------------------------------------------- */

static PyObject *pool_configure(PyObject *object, PyObject *settings) {
  mgpy_pool *pool = mgpy_pool_get(object);
  const mg_config *config;

  if (pool == NULL) return NULL;
  config = mgpy_settings_get(pool->state, settings);
  if (config == NULL) return NULL;
  MGPY_POOL_ENTER(pool);
  mg_pool_configure(pool->core, config);
  MGPY_POOL_LEAVE(pool);
  Py_RETURN_NONE;
}

static PyObject *pool_close_method(PyObject *object, PyObject *unused) {
  mgpy_pool *pool = ((mgpy_pool_object *)object)->pool;
  (void)unused;

  if (pool != NULL) pool_close(pool);
  Py_RETURN_NONE;
}

static PyObject *pool_after_fork(PyObject *object, PyObject *unused) {
  mgpy_pool *pool = ((mgpy_pool_object *)object)->pool;
  (void)unused;

  /* Threads that held it did not come along. */
  if (pool != NULL) pthread_rwlock_init(&pool->use, NULL);
  Py_RETURN_NONE;
}

static PyObject *pool_get_closed(PyObject *object, void *closure) {
  const mgpy_pool *pool = ((mgpy_pool_object *)object)->pool;
  (void)closure;

  return PyBool_FromLong(pool == NULL || atomic_load(&pool->is_closed));
}

/* ---- type ------------------------------------------------------------------------- */

static PyMethodDef pool_methods[] = {
    {"_open", pool_open, METH_O, NULL},
    {"_configure", pool_configure, METH_O, NULL},
    {"_tick", mgpy_pool_tick, METH_VARARGS, NULL},
    {"_suspects", mgpy_pool_suspects, METH_VARARGS, NULL},
    {"_take_lost", mgpy_pool_take_lost, METH_NOARGS, NULL},
    {"_close", pool_close_method, METH_NOARGS, NULL},
    {"_after_fork", pool_after_fork, METH_NOARGS, NULL},
    {"rent", pool_rent, METH_O,
     "rent(n, /)\n--\n\n"
     "A PooledBuffer of `n` bytes, 1 to 2**40, not cleared: give it back with\n"
     "return_(). Raises ConfigTypeError (not a whole number), RangeError,\n"
     "NoMemoryError and ClosedError. Any thread."},
    {"rent_memory", pool_rent, METH_O,
     "rent_memory(n, /)\n--\n\nThe same as rent()."},
    {"rent_many", pool_rent_many, METH_VARARGS,
     "rent_many(count, n, /)\n--\n\n"
     "A list of `count` (0 to 1048576) PooledBuffers of `n` bytes each; all of\n"
     "them, or an exception as rent() raises. Any thread."},
    {"rent_writer", MGPY_METHOD(pool_rent_writer), METH_VARARGS | METH_KEYWORDS,
     "rent_writer(size_hint=256, max_bytes=None)\n--\n\n"
     "A PooledBufferWriter with room for `size_hint` bytes, which grows up to\n"
     "`max_bytes` (None: 2**40). Raises as rent(). Any thread."},
    {"return_", pool_return, METH_O,
     "return_(buffer, /)\n--\n\n"
     "buffer.return_(), for a buffer of this pool. Raises ReturnedError (it was\n"
     "returned before), ForeignError (it is of another pool), ConfigTypeError.\n"
     "Any thread."},
    {"trim", MGPY_METHOD(pool_trim), METH_VARARGS | METH_KEYWORDS,
     "trim(share=1.0)\n--\n\n"
     "Gives that share of the idle memory back to the system, the oldest first.\n"
     "Returns the bytes given back. Raises RangeError, ConfigTypeError and\n"
     "ClosedError. Any thread."},
    {"stats", mgpy_pool_stats, METH_NOARGS,
     "stats()\n--\n\n"
     "Numbers since the pool was opened, by name: rented, returned, lost;\n"
     "current (rented - returned - lost), current_bytes; held_bytes (the pool's\n"
     "own memory, rented or idle), peak_held_bytes; cache_hits (rentals that\n"
     "took no lock), plain (rentals served by the allocator); os_maps, os_bytes,\n"
     "given_back_bytes; sites_kept, suspected, withdrawn (suspected, then\n"
     "returned after all); double_returns, foreign_returns,\n"
     "writes_after_return, findings_lost (not asked for in time); deferred\n"
     "(returned while views lived), deferred_now (their views live still);\n"
     "tiers: rented, returned, current, current_bytes of small, medium, large\n"
     "and huge. Raises ClosedError. Any thread."},
    {"findings", mgpy_pool_findings, METH_NOARGS,
     "findings()\n--\n\n"
     "What was found wrong since the last call, oldest first; 64 are kept.\n\n"
     "Each is a dict: kind (lost, double_return, foreign_return,\n"
     "write_after_return), count (the same mistake at the same place is one\n"
     "finding), capacity (bytes; None: not known), age_ms (lost: since the\n"
     "rental), site (where it was rented, \"function (file:line)\" innermost\n"
     "first; None: not kept, see leak_check). Raises ClosedError. Any thread."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef pool_attributes[] = {
    {"closed", pool_get_closed, NULL, "Whether it can no longer be used.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef pool_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mgpy_pool_object, weak_references),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot pool_slots[] = {
    MGPY_SLOT(Py_tp_new, pool_make),
    MGPY_SLOT(Py_tp_dealloc, pool_dealloc),
    MGPY_SLOT(Py_tp_traverse, pool_traverse),
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_attributes},
    {Py_tp_members, pool_members},
    {Py_tp_doc, (void *)"Base of memguard.MemoryPool."},
    {0, NULL}};

static PyType_Spec pool_spec = {
    "memguard._core.Pool", sizeof(mgpy_pool_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, pool_slots};

int mgpy_add_pools(PyObject *module, mgpy_state *state) {
  mgpy_pools *pools = PyMem_RawCalloc(1, sizeof *pools);

  if (pools == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  state->pools = pools;
  pools->sites = mgpy_sites_new();
  if (pools->sites == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  pools->tell_name = PyUnicode_InternFromString("_tell_lost");
  if (pools->tell_name == NULL ||
      mgpy_add_type(module, &pool_spec, &state->pool_type) < 0 ||
      mgpy_add_pooled(module, state) < 0)
    return -1;
  return mgpy_add_writer(module, state);
}

void mgpy_pools_free(mgpy_state *state) {
  mgpy_pools *pools = state->pools;

  if (pools == NULL) return;
  state->pools = NULL;
  mgpy_pooled_free_list(pools);
  mgpy_sites_free(pools->sites);
  Py_CLEAR(pools->tell_name);
  PyMem_RawFree(pools);
}

void mgpy_pools_after_fork(mgpy_state *state) {
  if (state->pools != NULL) mgpy_sites_after_fork(state->pools->sites);
}
