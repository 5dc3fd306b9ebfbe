/* pool_parts.h - what the files pool*.c share.
 *
 * A rental is one object, PooledBuffer, that holds the handle. It keeps no
 * reference to the Python pool but to an mgpy_pool, so that no cycle can be made
 * of it and it needs no garbage collection.
 *
 * Threads: an operation of a pool holds `use` for reading where the GIL does not
 * keep others out: in free-threaded builds always, else where it releases the
 * GIL. Closing holds it for writing. Nothing is called back while it is held. */
#ifndef MEMGUARD_PYTHON_POOL_PARTS_H
#define MEMGUARD_PYTHON_POOL_PARTS_H

#include "memguard_python.h"

#include "memguard/pool.h"

#ifdef Py_GIL_DISABLED
#define MGPY_POOL_ENTER(pool) pthread_rwlock_rdlock(&(pool)->use)
#define MGPY_POOL_LEAVE(pool) pthread_rwlock_unlock(&(pool)->use)
#else
#define MGPY_POOL_ENTER(pool) ((void)(pool))
#define MGPY_POOL_LEAVE(pool) ((void)(pool))
#endif

/* Certain leaks that wait to be told. */
enum { MGPY_LOST_WAITING = 8 };
typedef struct mgpy_lost {
  uint64_t site, capacity;
} mgpy_lost;

/** One core pool; shared by its Python object and its rentals. */
typedef struct mgpy_pool {
  mg_pool *core;
  mgpy_state *state;
  pthread_rwlock_t use;
  _Atomic uint32_t users;
  _Atomic bool is_closed;
  _Atomic bool is_lost_due; /* something waits in `lost` */
  bool is_shared;           /* of the process: never closed from here */
  _Atomic uint64_t deferred, deferred_now; /* returned while views lived */
  bool told_unknown;        /* with the lock of the sites: the following too */
  uint32_t lost_count;
  mgpy_lost lost[MGPY_LOST_WAITING];
} mgpy_pool;

/* Above the count of exports: the owner returned it. */
#define MGPY_POOLED_RETURNED 0x80000000u

typedef struct mgpy_pooled {
  PyObject_HEAD
  mgpy_pool *pool;
  void *data;
  Py_ssize_t length;
  size_t capacity;
  uint64_t handle;
  _Atomic uint32_t state; /* exports, MGPY_POOLED_RETURNED */
  uint32_t site;          /* where its stack is kept; 0: it is not */
} mgpy_pooled;

/* ---- pool.c ---------------------------------------------------------------- */

typedef struct mgpy_pool_object {
  PyObject_HEAD
  PyObject *weak_references;
  mgpy_state *state;
  mgpy_pool *pool; /* NULL until opened */
} mgpy_pool_object;

/** What comes before all but the commonest calls. Tells of lost rentals, which runs
 *  code of the program. @return NULL and ClosedError, or the pool. */
mgpy_pool *mgpy_pool_get(PyObject *object);
/** Reads a whole number. @return 0, or -1 and ConfigTypeError or RangeError. */
int mgpy_pool_number(mgpy_state *state, PyObject *object, const char *what,
                     Py_ssize_t least, Py_ssize_t most, Py_ssize_t *out);
/** The last user left. */
void mgpy_pool_free(mgpy_pool *pool);
/** One user more or less: the GIL makes a plain step of it. */
static inline mgpy_pool *mgpy_pool_share(mgpy_pool *pool) {
#ifdef Py_GIL_DISABLED
  atomic_fetch_add(&pool->users, 1);
#else
  uint32_t users = atomic_load_explicit(&pool->users, memory_order_relaxed);
  atomic_store_explicit(&pool->users, users + 1, memory_order_relaxed);
#endif
  return pool;
}
static inline void mgpy_pool_release(mgpy_pool *pool) {
#ifdef Py_GIL_DISABLED
  uint32_t users = atomic_fetch_sub(&pool->users, 1);
#else
  uint32_t users = atomic_load_explicit(&pool->users, memory_order_relaxed);
  atomic_store_explicit(&pool->users, users - 1, memory_order_relaxed);
#endif
  if (users == 1) mgpy_pool_free(pool);
}
/** Rents; @return a PooledBuffer of `length` bytes, or NULL and an error. */
mgpy_pooled *mgpy_pool_rent(mgpy_pool *pool, Py_ssize_t length);

/* ---- pool_look.c: methods of Pool --------------------------------------------- */

PyObject *mgpy_pool_stats(PyObject *object, PyObject *unused);
PyObject *mgpy_pool_findings(PyObject *object, PyObject *unused);
/** _suspects(now_ms=None) */
PyObject *mgpy_pool_suspects(PyObject *object, PyObject *args);
/** _tick(now_ms=None): lets time go on. */
PyObject *mgpy_pool_tick(PyObject *object, PyObject *args);
/** _take_lost() -> [(capacity, site or None)]: lost rentals not told yet, also of a
 *  closed pool. */
PyObject *mgpy_pool_take_lost(PyObject *object, PyObject *unused);

/* ---- pool_buffer.c ---------------------------------------------------------- */

int mgpy_add_pooled(PyObject *module, mgpy_state *state);
/** Takes over `rental`; gives it back if that fails. */
mgpy_pooled *mgpy_pooled_new(mgpy_pool *pool, const mg_rental *rental,
                             Py_ssize_t length);
/** Ends the rental for its owner. @return 0, or -1 and ReturnedError. */
int mgpy_pooled_return(mgpy_pooled *self);
void mgpy_pooled_free_list(mgpy_pools *pools);

/* ---- pool_writer.c ---------------------------------------------------------- */

int mgpy_add_writer(PyObject *module, mgpy_state *state);
/** @return a PooledBufferWriter, or NULL and an error. */
PyObject *mgpy_writer_new(mgpy_pool *pool, Py_ssize_t size_hint,
                          Py_ssize_t max_bytes);

/* ---- pool_site.c: stacks of rentals ------------------------------------------ */

typedef struct mgpy_sites mgpy_sites;

/** @return NULL without memory. */
mgpy_sites *mgpy_sites_new(void);
/** NULL is allowed. */
void mgpy_sites_free(mgpy_sites *sites);
void mgpy_sites_after_fork(mgpy_sites *sites);
/** Notes the stack of the calling thread for one more rental.
 *  @param out_id what it is known by. @return its place, or 0: no room. */
uint32_t mgpy_site_enter(mgpy_sites *sites, uint64_t *out_id);
/** One rental less. */
void mgpy_site_leave(mgpy_sites *sites, uint32_t place);
/** Notes a rental that was lost, to be told if the site is new. No Python code
 *  runs, nothing is allocated. */
void mgpy_site_lost(mgpy_sites *sites, mgpy_pool *pool, uint64_t id,
                    uint64_t capacity);
/** Takes out what waits to be told. @return how many. */
uint32_t mgpy_site_take_lost(mgpy_sites *sites, mgpy_pool *pool,
                             mgpy_lost out[MGPY_LOST_WAITING]);
/** @return a list of "function (file:line)", innermost first; None if the site is
 *  not known; NULL and an error. */
PyObject *mgpy_site_text(mgpy_sites *sites, uint64_t id);

/* ---- what an interpreter has -------------------------------------------------- */

enum { MGPY_POOLED_SPARE = 128 };

struct mgpy_pools {
  mgpy_sites *sites;
  PyObject *tell_name; /* interned: the method that tells of lost rentals */
  uint32_t spare_count;
  mgpy_pooled *spare[MGPY_POOLED_SPARE]; /* memory of PooledBuffers, with the GIL */
};

#endif
