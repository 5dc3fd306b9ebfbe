/* pool_buffer.c - memguard._core.PooledBuffer: one rental.
 *
 * Its owner's return ends the rental at once for the owner; while views of the
 * memory live, the pool gets it when the last one goes. The views keep the object
 * alive, so its end means that there are none. */
#include "pool_parts.h"

/* ---- the state, in one step ----------------------------------------------------- */

/* Marks it returned. @return the state before. */
static inline uint32_t pooled_mark(mgpy_pooled *self) {
#ifdef Py_GIL_DISABLED
  return atomic_fetch_or(&self->state, MGPY_POOLED_RETURNED);
#else
  uint32_t before =
      atomic_load_explicit(&self->state, memory_order_relaxed);

  atomic_store_explicit(&self->state, before | MGPY_POOLED_RETURNED,
                        memory_order_relaxed);
  return before;
#endif
}

static inline bool pooled_is_returned(mgpy_pooled *self) {
  return (atomic_load_explicit(&self->state, memory_order_relaxed) &
          MGPY_POOLED_RETURNED) != 0;
}

/* One view more, unless it was returned. */
static bool pooled_export(mgpy_pooled *self) {
  uint32_t before = atomic_load(&self->state);

  do {
    if ((before & MGPY_POOLED_RETURNED) != 0) return false;
  } while (!atomic_compare_exchange_weak(&self->state, &before, before + 1));
  return true;
}

/* ---- life -------------------------------------------------------------------------- */

static mgpy_pooled *pooled_take(mgpy_state *state) {
#ifndef Py_GIL_DISABLED
  mgpy_pools *pools = state->pools;

  if (pools->spare_count > 0) {
    mgpy_pooled *self = pools->spare[--pools->spare_count];
    PyObject_Init((PyObject *)self, state->pooled_type);
    return self;
  }
#endif
  return PyObject_New(mgpy_pooled, state->pooled_type);
}

static void pooled_put(mgpy_state *state, mgpy_pooled *self) {
#ifndef Py_GIL_DISABLED
  mgpy_pools *pools = state->pools;

  if (pools->spare_count < MGPY_POOLED_SPARE) {
    pools->spare[pools->spare_count++] = self;
    return;
  }
#endif
  (void)state;
  PyObject_Free(self);
}

void mgpy_pooled_free_list(mgpy_pools *pools) {
  while (pools->spare_count > 0)
    PyObject_Free(pools->spare[--pools->spare_count]);
}

mgpy_pooled *mgpy_pooled_new(mgpy_pool *pool, const mg_rental *rental,
                             Py_ssize_t length) {
  mgpy_pooled *self = pooled_take(pool->state);
  uint64_t site = 0;

  if (self == NULL) {
    mg_pool_return(pool->core, rental->handle, NULL);
    return NULL;
  }
  self->pool = mgpy_pool_share(pool);
  self->data = rental->data;
  self->length = length;
  self->capacity = rental->capacity;
  self->handle = rental->handle;
  atomic_init(&self->state, 0);
  self->site = 0;
  if (rental->wants_site) {
    self->site = mgpy_site_enter(pool->state->pools->sites, &site);
    if (self->site != 0) mg_pool_set_site(pool->core, rental->handle, site);
  }
  return self;
}

/* The stack may be forgotten. */
static inline void pooled_leave_site(mgpy_pooled *self) {
  if (self->site == 0) return;
  mgpy_site_leave(self->pool->state->pools->sites, self->site);
  self->site = 0;
}

static mg_status pooled_give(mgpy_pooled *self, mg_error *err) {
  mgpy_pool *pool = self->pool;
  mg_status st;

  MGPY_POOL_ENTER(pool);
  st = mg_pool_return(pool->core, self->handle, err);
  MGPY_POOL_LEAVE(pool);
  pooled_leave_site(self);
  return st;
}

/* Its owner went away without returning it. May run inside a collection. */
static void pooled_lose(mgpy_pooled *self) {
  mgpy_pool *pool = self->pool;
  mgpy_sites *sites = pool->state->pools->sites;
  mg_finding finding;
  mg_status st;

  /* Who ends with everything else has lost nothing. */
  if (atomic_load(&pool->state->is_exiting) || atomic_load(&pool->is_closed)) {
    pooled_give(self, NULL);
    return;
  }
  MGPY_POOL_ENTER(pool);
  st = mg_pool_lost(pool->core, self->handle, &finding, NULL);
  MGPY_POOL_LEAVE(pool);
  if (st == MG_OK)
    mgpy_site_lost(sites, pool, finding.site, finding.capacity);
  pooled_leave_site(self);
}

static void pooled_dealloc(PyObject *object) {
  mgpy_pooled *self = (mgpy_pooled *)object;
  PyTypeObject *type = Py_TYPE(object);
  mgpy_state *state = self->pool->state;

  if (!pooled_is_returned(self)) pooled_lose(self);
  mgpy_pool_release(self->pool);
  pooled_put(state, self);
  Py_DECREF(type);
}

/* ---- returning ------------------------------------------------------------------ */

static int pooled_refuse(mgpy_pooled *self) {
  mgpy_pool *pool = self->pool;

  MGPY_POOL_ENTER(pool);
  if (!atomic_load(&pool->is_closed))
    mg_pool_again(pool->core, self->handle, NULL);
  MGPY_POOL_LEAVE(pool);
  mgpy_raise_format(pool->state, MG_ERETURNED,
                    "a buffer of %zd bytes was returned before", self->length);
  return -1;
}

int mgpy_pooled_return(mgpy_pooled *self) {
  mg_error err = MG_ERROR_INIT;
  uint32_t before = pooled_mark(self);
  mgpy_pool *pool = self->pool;

  if (before == 0) {
    if (pooled_give(self, NULL) == MG_OK) return 0;
    mg_pool_return(pool->core, self->handle, &err);
    mgpy_raise(pool->state, &err);
    return -1;
  }
  if ((before & MGPY_POOLED_RETURNED) != 0) return pooled_refuse(self);
  atomic_fetch_add(&pool->deferred, 1);
  atomic_fetch_add(&pool->deferred_now, 1);
  return 0;
}

static PyObject *pooled_return(PyObject *self, PyObject *unused) {
  (void)unused;
  if (mgpy_pooled_return((mgpy_pooled *)self) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *pooled_enter(PyObject *self, PyObject *unused) {
  (void)unused;
  return Py_NewRef(self);
}

/* Inside the block it may have been returned, or handed on and returned. */
static PyObject *pooled_exit(PyObject *self, PyObject *const *args,
                             Py_ssize_t count) {
  (void)args;
  (void)count;
  if (!pooled_is_returned((mgpy_pooled *)self) &&
      mgpy_pooled_return((mgpy_pooled *)self) < 0)
    return NULL;
  Py_RETURN_NONE;
}

/* ---- memory ----------------------------------------------------------------------- */

static int pooled_refuse_use(mgpy_pooled *self) {
  mgpy_raise_format(self->pool->state, MG_ERETURNED,
                    "a buffer of %zd bytes is used after its return",
                    self->length);
  return -1;
}

static int pooled_get_buffer(PyObject *object, Py_buffer *view, int flags) {
  mgpy_pooled *self = (mgpy_pooled *)object;

  view->obj = NULL;
  if (!pooled_export(self)) return pooled_refuse_use(self);
  if (PyBuffer_FillInfo(view, object, self->data, self->length, 0, flags) == 0)
    return 0;
  atomic_fetch_sub(&self->state, 1);
  return -1;
}

static void pooled_release_buffer(PyObject *object, Py_buffer *view) {
  mgpy_pooled *self = (mgpy_pooled *)object;
  (void)view;

  if (atomic_fetch_sub(&self->state, 1) != MGPY_POOLED_RETURNED + 1) return;
  atomic_fetch_sub(&self->pool->deferred_now, 1);
  pooled_give(self, NULL);
}

static PyObject *pooled_get_memory(PyObject *self, void *closure) {
  (void)closure;
  return PyMemoryView_FromObject(self);
}

static PyObject *pooled_get_capacity(PyObject *self, void *closure) {
  (void)closure;
  return PyLong_FromSize_t(((mgpy_pooled *)self)->capacity);
}

static PyObject *pooled_get_returned(PyObject *self, void *closure) {
  (void)closure;
  return PyBool_FromLong(pooled_is_returned((mgpy_pooled *)self));
}

static Py_ssize_t pooled_length(PyObject *self) {
  return ((mgpy_pooled *)self)->length;
}

static PyObject *pooled_repr(PyObject *object) {
  mgpy_pooled *self = (mgpy_pooled *)object;

  return PyUnicode_FromFormat(
      "<PooledBuffer of %zd bytes%s at %p>", self->length,
      pooled_is_returned(self) ? ", returned," : "", object);
}

/* ---- type -------------------------------------------------------------------------- */

static PyMethodDef pooled_methods[] = {
    {"return_", pooled_return, METH_NOARGS,
     "return_()\n--\n\n"
     "Ends the rental; the memory serves others from now on. While views of it\n"
     "live (memoryview, numpy array) the pool gets it when the last one goes.\n"
     "Raises ReturnedError the second time. Any thread."},
    {"release", pooled_return, METH_NOARGS,
     "release()\n--\n\nThe same as return_()."},
    {"__enter__", pooled_enter, METH_NOARGS, NULL},
    {"__exit__", MGPY_METHOD(pooled_exit), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef pooled_attributes[] = {
    {"memory", pooled_get_memory, NULL,
     "A writable memoryview of the bytes. Raises ReturnedError after the return.",
     NULL},
    {"capacity", pooled_get_capacity, NULL,
     "Bytes the pool set aside for it; at least len().", NULL},
    {"returned", pooled_get_returned, NULL, "Whether it was returned.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot pooled_slots[] = {
    MGPY_SLOT(Py_tp_dealloc, pooled_dealloc),
    MGPY_SLOT(Py_tp_repr, pooled_repr),
    MGPY_SLOT(Py_mp_length, pooled_length),
    MGPY_SLOT(Py_bf_getbuffer, pooled_get_buffer),
    MGPY_SLOT(Py_bf_releasebuffer, pooled_release_buffer),
    {Py_tp_methods, pooled_methods},
    {Py_tp_getset, pooled_attributes},
    {Py_tp_doc,
     (void *)"Bytes rented from a MemoryPool: a writable buffer (memoryview(b),\n"
             "numpy.frombuffer(b), file.readinto(b)) of exactly the length asked\n"
             "for, whose contents are what an earlier owner left. Give it back\n"
             "with return_(), or use it as a context manager. One that is\n"
             "forgotten goes back by itself and is reported as a leak."},
    {0, NULL}};

static PyType_Spec pooled_spec = {
    "memguard._core.PooledBuffer", sizeof(mgpy_pooled), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    pooled_slots};

int mgpy_add_pooled(PyObject *module, mgpy_state *state) {
  return mgpy_add_type(module, &pooled_spec, &state->pooled_type);
}
