/* allocator.c - counts the bytes of large blocks, and tells when they grew.
 *
 * CPython decides by the number of objects when to collect garbage; a dead cycle
 * that holds a megabyte counts as much as one that holds nothing. pymalloc hands
 * every request of more than 512 bytes to the raw domain, so wrapping that domain
 * alone sees the bytes and leaves small objects as fast as they were. Arenas, of
 * which small objects are cut, are counted by a hook of their own.
 *
 *   thread A -> slot 1 -+
 *   thread B -> slot 2 -+-> sum = live bytes; growth beyond a listener's
 *   others   -> slot 0 -+   budget -> listener.due()
 *
 * Each thread adds to a slot of its own with plain loads and stores; slot 0, for
 * threads that found none free, is added to atomically. So no count is lost and
 * none waits in a batch. Growth is judged whenever ALLOCATOR_STEP_BYTES came into
 * a slot.
 *
 * The raw domain may be used without the GIL, by any thread, before and after
 * anything: the functions here take no lock, allocate nothing and call no Python.
 * CPython may copy an allocator while it is replaced; the context stays that of
 * the original and the wrappers call a copy of the original, so each mixture of
 * both is right. Once in place the wrappers stay: what they count for may come
 * and go, other wrappers (tracemalloc) may lie on top of them. */
#include "memguard_python.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sched.h>
#include <string.h>

#define ALLOCATOR_SLOTS 64 /* the first is for all threads without one */
#define ALLOCATOR_LISTENERS 16
#define ALLOCATOR_STEP_BYTES (1024 * 1024)
#define ALLOCATOR_AGAIN 16 /* told again after a further 1/16 of the budget */
#define ALLOCATOR_PROBE_BYTES 4096

/* A variable of the thread, found without a call where the loader allows it. */
#ifdef __GLIBC__
#define ALLOCATOR_THREAD \
  _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define ALLOCATOR_THREAD _Thread_local
#endif

typedef struct allocator_slot {
  _Alignas(64) _Atomic int64_t live_bytes; /* may be negative: freed for others */
  _Atomic uint64_t total_bytes;            /* ever allocated */
  _Atomic bool is_taken;
} allocator_slot;

typedef struct allocator_listener {
  _Atomic bool is_open;
  _Atomic uint32_t readers; /* threads inside its functions */
  mgpy_listener to;
  _Atomic int64_t baseline_bytes; /* live after the last full collection */
  _Atomic int64_t told_bytes;     /* live when it was told last */
} allocator_listener;

static PyMemAllocatorEx allocator_raw;
static PyObjectArenaAllocator allocator_arena;
static bool allocator_is_debug; /* blocks carry the header of debug hooks */
static bool allocator_is_installed; /* the installer's lock */
static _Atomic bool allocator_counts;
static allocator_slot allocator_slots[ALLOCATOR_SLOTS];
static _Atomic int allocator_used = 1; /* slots up to here were ever taken */
static ALLOCATOR_THREAD allocator_slot *allocator_mine;
static pthread_key_t allocator_key; /* its destructor gives the slot back */
static allocator_listener allocator_listeners[ALLOCATOR_LISTENERS];
static _Atomic int64_t allocator_arena_bytes;
static int64_t allocator_base_bytes; /* given out by malloc before we counted */

/* ---- slots ------------------------------------------------------------- */

static void allocator_leave(void *slot) {
  allocator_mine = &allocator_slots[0];
  atomic_store_explicit(&((allocator_slot *)slot)->is_taken, false,
                        memory_order_release);
}

static allocator_slot *allocator_take(void) {
  int used = atomic_load(&allocator_used);

  for (int i = 1; i < ALLOCATOR_SLOTS; i++) {
    allocator_slot *slot = &allocator_slots[i];
    if (atomic_load_explicit(&slot->is_taken, memory_order_relaxed) ||
        atomic_exchange_explicit(&slot->is_taken, true, memory_order_acquire))
      continue;
    allocator_mine = slot;
    while (used <= i &&
           !atomic_compare_exchange_weak(&allocator_used, &used, i + 1)) {
    }
    if (pthread_setspecific(allocator_key, slot) != 0) allocator_leave(slot);
    return allocator_mine;
  }
  return allocator_mine = &allocator_slots[0];
}

static int64_t allocator_live(void) {
  int used = atomic_load_explicit(&allocator_used, memory_order_relaxed);
  int64_t sum = 0;

  for (int i = 0; i < used; i++)
    sum += atomic_load_explicit(&allocator_slots[i].live_bytes,
                                memory_order_relaxed);
  return sum;
}

/* ---- growth ------------------------------------------------------------ */

/* Lowers `mark` to `live`: what was freed without a collection must not make room
 * for garbage, nor may a mark of the past hide growth from a lower place. */
static int64_t allocator_lower(_Atomic int64_t *mark, int64_t live) {
  int64_t was = atomic_load_explicit(mark, memory_order_relaxed);

  while (live < was)
    if (atomic_compare_exchange_weak_explicit(
            mark, &was, live, memory_order_relaxed, memory_order_relaxed))
      return live;
  return was;
}

static void allocator_judge_for(allocator_listener *l, int64_t live) {
  int64_t baseline = allocator_lower(&l->baseline_bytes, live);
  int64_t told = allocator_lower(&l->told_bytes, live), budget;
  uint64_t allowed = l->to.budget_bytes(l->to.ctx);

  if (allowed > (uint64_t)INT64_MAX / 2) return; /* also MG_ABSENT */
  budget = (int64_t)allowed;
  if (live - baseline < budget) return;
  if (told != baseline && live - told < budget / ALLOCATOR_AGAIN) return;
  atomic_store_explicit(&l->told_bytes, live, memory_order_relaxed);
  l->to.due(l->to.ctx);
}

static void allocator_judge(void) {
  int64_t live = allocator_live();

  for (int i = 0; i < ALLOCATOR_LISTENERS; i++) {
    allocator_listener *l = &allocator_listeners[i];
    if (!atomic_load_explicit(&l->is_open, memory_order_relaxed)) continue;
    atomic_fetch_add(&l->readers, 1);
    if (atomic_load(&l->is_open)) allocator_judge_for(l, live);
    atomic_fetch_sub(&l->readers, 1);
  }
}

/* ---- counting ---------------------------------------------------------- */

static inline int64_t allocator_size(const void *block) {
  uint64_t bytes;

  if (!allocator_is_debug) return (int64_t)malloc_usable_size((void *)block);
  /* As documented for PyMem_SetupDebugHooks(): p[-2*S:-S] is the size that was
   * asked for, most significant byte first. */
  memcpy(&bytes, (const char *)block - 2 * sizeof bytes, sizeof bytes);
  return (int64_t)(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
                       ? __builtin_bswap64(bytes)
                       : bytes);
}

/* Only the thread that has a slot writes it; slot 0 has all the others.
 * @return the sum. */
#define ALLOCATOR_ADD(slot, field, bytes)                                   \
  (slot == &allocator_slots[0]                                              \
       ? atomic_fetch_add_explicit(&slot->field, bytes,                     \
                                   memory_order_relaxed) +                  \
             bytes                                                          \
       : (atomic_store_explicit(                                            \
              &slot->field,                                                 \
              atomic_load_explicit(&slot->field, memory_order_relaxed) +    \
                  bytes,                                                    \
              memory_order_relaxed),                                        \
          atomic_load_explicit(&slot->field, memory_order_relaxed)))

static inline void allocator_came(const void *block) {
  int64_t bytes = allocator_size(block);
  allocator_slot *slot = allocator_mine;
  uint64_t total;

  if (slot == NULL) slot = allocator_take();
  ALLOCATOR_ADD(slot, live_bytes, bytes);
  total = ALLOCATOR_ADD(slot, total_bytes, (uint64_t)bytes);
  /* Where the sum enters another step. */
  if (total % ALLOCATOR_STEP_BYTES < (uint64_t)bytes) allocator_judge();
}

static inline void allocator_went(int64_t bytes) {
  allocator_slot *slot = allocator_mine;

  if (slot == NULL) slot = allocator_take();
  ALLOCATOR_ADD(slot, live_bytes, -bytes);
}

static void *allocator_malloc(void *ctx, size_t bytes) {
  void *block = allocator_raw.malloc(allocator_raw.ctx, bytes);
  (void)ctx;

  if (block != NULL) allocator_came(block);
  return block;
}

static void *allocator_calloc(void *ctx, size_t count, size_t bytes) {
  void *block = allocator_raw.calloc(allocator_raw.ctx, count, bytes);
  (void)ctx;

  if (block != NULL) allocator_came(block);
  return block;
}

static void *allocator_realloc(void *ctx, void *block, size_t bytes) {
  int64_t was_bytes = block == NULL ? 0 : allocator_size(block);
  void *moved = allocator_raw.realloc(allocator_raw.ctx, block, bytes);
  (void)ctx;

  if (moved == NULL) return NULL;
  allocator_went(was_bytes);
  allocator_came(moved);
  return moved;
}

static void allocator_free(void *ctx, void *block) {
  (void)ctx;
  if (block != NULL) allocator_went(allocator_size(block));
  allocator_raw.free(allocator_raw.ctx, block);
}

static void *allocator_arena_alloc(void *ctx, size_t bytes) {
  void *arena = allocator_arena.alloc(allocator_arena.ctx, bytes);
  (void)ctx;

  if (arena != NULL)
    atomic_fetch_add_explicit(&allocator_arena_bytes, (int64_t)bytes,
                              memory_order_relaxed);
  return arena;
}

static void allocator_arena_free(void *ctx, void *arena, size_t bytes) {
  (void)ctx;
  allocator_arena.free(allocator_arena.ctx, arena, bytes);
  atomic_fetch_sub_explicit(&allocator_arena_bytes, (int64_t)bytes,
                            memory_order_relaxed);
}

/* ---- installing; with the GIL ------------------------------------------ */

/* Whether the size of a block can be told: it comes from the C allocator itself,
 * or from CPython's debug hooks over it. Under wrappers of others it cannot. */
static bool allocator_can_size(void) {
  const char *(*name_of)(void), *name;
  void *symbol = dlsym(RTLD_DEFAULT, "_PyMem_GetCurrentAllocatorName");

  if (symbol == NULL) return false;
  memcpy(&name_of, &symbol, sizeof name_of);
  name = name_of();
  allocator_is_debug = name != NULL && strcmp(name, "pymalloc_debug") == 0;
  return allocator_is_debug || (name != NULL && strcmp(name, "pymalloc") == 0);
}

/* Whether large objects come by: else the numbers would be of little. */
static bool allocator_sees_objects(void) {
  allocator_slot *slot = allocator_mine != NULL ? allocator_mine : allocator_take();
  uint64_t before = atomic_load(&slot->total_bytes);
  void *block = PyObject_Malloc(ALLOCATOR_PROBE_BYTES);
  uint64_t after = atomic_load(&slot->total_bytes);

  PyObject_Free(block);
  return after - before >= ALLOCATOR_PROBE_BYTES;
}

static void allocator_note_base(void) {
  uint64_t given_bytes = mg_malloc_bytes();
  mg_heap heap;

  mgpy_heap_read(&heap);
  if (heap.total_bytes != MG_ABSENT)
    atomic_store(&allocator_arena_bytes, (int64_t)heap.total_bytes);
  if (given_bytes != MG_ABSENT) allocator_base_bytes = (int64_t)given_bytes;
}

static void allocator_wrap(void) {
  PyMemAllocatorEx raw = {NULL, allocator_malloc, allocator_calloc,
                          allocator_realloc, allocator_free};
  PyObjectArenaAllocator arena = {NULL, allocator_arena_alloc,
                                  allocator_arena_free};

  PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &allocator_raw);
  PyObject_GetArenaAllocator(&allocator_arena);
  raw.ctx = allocator_raw.ctx;
  arena.ctx = allocator_arena.ctx;
  atomic_thread_fence(memory_order_seq_cst);
  PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &raw);
  PyObject_SetArenaAllocator(&arena);
}

bool mgpy_allocator_install(void) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

  /* Interpreters may have a GIL each. Nothing in here gives it up. */
  pthread_mutex_lock(&lock);
  if (!allocator_is_installed && allocator_can_size() &&
      pthread_key_create(&allocator_key, allocator_leave) == 0) {
    allocator_note_base();
    allocator_wrap();
    allocator_is_installed = true;
    atomic_store(&allocator_counts, allocator_sees_objects());
  }
  pthread_mutex_unlock(&lock);
  return atomic_load(&allocator_counts);
}

void mgpy_allocator_after_fork(void) {
  /* Threads that did not come along use their slots and readers no more. */
  for (int i = 1; i < ALLOCATOR_SLOTS; i++)
    atomic_store(&allocator_slots[i].is_taken,
                 &allocator_slots[i] == allocator_mine);
  for (int i = 0; i < ALLOCATOR_LISTENERS; i++)
    atomic_store(&allocator_listeners[i].readers, 0);
}

/* ---- readings ---------------------------------------------------------- */

static uint64_t allocator_clamp(int64_t bytes) {
  return bytes > 0 ? (uint64_t)bytes : 0;
}

void mgpy_allocator_read(mgpy_allocator *out) {
  uint64_t total = 0;

  *out = (mgpy_allocator){MG_ABSENT, MG_ABSENT, MG_ABSENT};
  if (!atomic_load(&allocator_counts)) return;
  for (int i = 0; i < ALLOCATOR_SLOTS; i++)
    total += atomic_load_explicit(&allocator_slots[i].total_bytes,
                                  memory_order_relaxed);
  out->large_bytes = allocator_clamp(allocator_base_bytes + allocator_live());
  out->total_bytes = total;
  out->arena_bytes = allocator_clamp(
      atomic_load_explicit(&allocator_arena_bytes, memory_order_relaxed));
}

/* ---- listeners --------------------------------------------------------- */

int mgpy_allocator_listen(const mgpy_listener *listener) {
  if (!atomic_load(&allocator_counts)) return -1;
  for (int i = 0; i < ALLOCATOR_LISTENERS; i++) {
    allocator_listener *l = &allocator_listeners[i];
    /* Taken by whoever brings `readers` from 0 to 1 while it is closed. */
    uint32_t none = 0;
    if (atomic_load(&l->is_open) ||
        !atomic_compare_exchange_strong(&l->readers, &none, 1))
      continue;
    if (!atomic_load(&l->is_open)) {
      l->to = *listener;
      atomic_store(&l->is_open, true);
      mgpy_allocator_collected(i);
      atomic_fetch_sub(&l->readers, 1);
      return i;
    }
    atomic_fetch_sub(&l->readers, 1);
  }
  return -1;
}

void mgpy_allocator_unlisten(int number) {
  if (number < 0) return;
  atomic_store(&allocator_listeners[number].is_open, false);
  while (atomic_load(&allocator_listeners[number].readers) != 0) sched_yield();
}

void mgpy_allocator_collected(int number) {
  int64_t live = allocator_live();

  if (number < 0) return;
  atomic_store(&allocator_listeners[number].told_bytes, live);
  atomic_store(&allocator_listeners[number].baseline_bytes, live);
}

uint64_t mgpy_allocator_grown_bytes(int number) {
  int64_t live = allocator_live();

  if (number < 0) return MG_ABSENT;
  return (uint64_t)(live - allocator_lower(
                               &allocator_listeners[number].baseline_bytes,
                               live));
}

/* ---- module ------------------------------------------------------------ */

/* _allocator_install(): whether large blocks are counted from now on. */
static PyObject *allocator_py_install(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  return PyBool_FromLong(mgpy_allocator_install());
}

/* _allocator_read(): dict; None where not counted. */
static PyObject *allocator_py_read(PyObject *module, PyObject *unused) {
  mgpy_allocator bytes;
  (void)module;
  (void)unused;

  mgpy_allocator_read(&bytes);
  return Py_BuildValue("{s:N,s:N,s:N}", "large_bytes",
                       mgpy_number(bytes.large_bytes), "total_bytes",
                       mgpy_number(bytes.total_bytes), "arena_bytes",
                       mgpy_number(bytes.arena_bytes));
}

/* _malloc_bytes(): given out by malloc; None where not counted. */
static PyObject *allocator_malloc_bytes(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  return mgpy_number(mg_malloc_bytes());
}

/* _trim_malloc(): whether free pages could be given back. */
static PyObject *allocator_trim_malloc(PyObject *module, PyObject *unused) {
  bool was_trimmed;
  (void)module;
  (void)unused;

  Py_BEGIN_ALLOW_THREADS
  was_trimmed = mg_trim_malloc();
  Py_END_ALLOW_THREADS
  return PyBool_FromLong(was_trimmed);
}

PyMethodDef mgpy_allocator_methods[] = {
    {"_trim_malloc", allocator_trim_malloc, METH_NOARGS, NULL},
    {"_malloc_bytes", allocator_malloc_bytes, METH_NOARGS, NULL},
    {"_allocator_install", allocator_py_install, METH_NOARGS, NULL},
    {"_allocator_read", allocator_py_read, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};
