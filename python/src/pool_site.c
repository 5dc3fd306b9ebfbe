/* pool_site.c - where rentals were made: a bounded table of stacks.
 *
 * A stack is noted as code objects and offsets, which costs about a microsecond;
 * it becomes text when somebody asks. A place is used again when no rental of its
 * stack is out; last of all one whose rental was lost, for a finding may name it.
 * What was told is remembered by the hash of the stack alone.
 *
 * The lock is held without Python code running and without anything being freed.
 * Code objects take part in no cycle, so the table needs no garbage collection. */
#include "pool_parts.h"

#include <string.h>

enum { SITE_FRAMES = 8, SITES = 256, SITE_NEAR = 8, SITES_TOLD = 1024 };

typedef struct site_stack {
  uint32_t depth;
  int offset[SITE_FRAMES]; /* of the instruction */
  PyCodeObject *code[SITE_FRAMES];
} site_stack;

typedef struct site_place {
  uint64_t id, hash; /* id 0: empty */
  uint32_t live;     /* rentals out */
  bool had_loss;
  site_stack stack;
} site_place;

struct mgpy_sites {
  pthread_mutex_t lock;
  site_place place[SITES];
  uint64_t told[SITES_TOLD]; /* hashes; the oldest make room */
  uint32_t told_count, told_next;
};

/* Of the process: a number means the same in all interpreters or nothing. */
static _Atomic uint64_t site_ids;

mgpy_sites *mgpy_sites_new(void) {
  mgpy_sites *sites = PyMem_RawCalloc(1, sizeof *sites);

  if (sites != NULL) pthread_mutex_init(&sites->lock, NULL);
  return sites;
}

static void site_release(site_stack *stack) {
  for (uint32_t i = 0; i < stack->depth; i++) Py_DECREF(stack->code[i]);
  stack->depth = 0;
}

void mgpy_sites_free(mgpy_sites *sites) {
  if (sites == NULL) return;
  for (int i = 0; i < SITES; i++) site_release(&sites->place[i].stack);
  pthread_mutex_destroy(&sites->lock);
  PyMem_RawFree(sites);
}

void mgpy_sites_after_fork(mgpy_sites *sites) {
  pthread_mutex_init(&sites->lock, NULL);
}

/* ---- noting ------------------------------------------------------------------ */

static void site_capture(site_stack *out) {
  PyFrameObject *frame = PyEval_GetFrame(), *back;

  out->depth = 0;
  Py_XINCREF(frame);
  while (frame != NULL) {
    out->code[out->depth] = PyFrame_GetCode(frame);
    out->offset[out->depth++] = PyFrame_GetLasti(frame);
    back = out->depth < SITE_FRAMES ? PyFrame_GetBack(frame) : NULL;
    Py_DECREF(frame);
    frame = back;
  }
}

static uint64_t site_hash(const site_stack *stack) {
  uint64_t hash = stack->depth;

  for (uint32_t i = 0; i < stack->depth; i++) {
    hash ^= (uint64_t)(uintptr_t)stack->code[i] ^ (uint64_t)stack->offset[i] << 48;
    hash = (hash ^ hash >> 31) * UINT64_C(0x9e3779b97f4a7c15);
  }
  return hash;
}

static bool site_is_same(const site_stack *a, const site_stack *b) {
  return a->depth == b->depth &&
         memcmp(a->code, b->code, a->depth * sizeof *a->code) == 0 &&
         memcmp(a->offset, b->offset, a->depth * sizeof *a->offset) == 0;
}

/* Whether `a` is the better one to be used again. */
static bool site_is_rather(const site_place *a, const site_place *b) {
  if (a->live > 0) return false;
  return b == NULL || (b->had_loss && (!a->had_loss || a->id < b->id));
}

/* The place of a stack, or one to take, or NULL. The lock is held. */
static site_place *site_find(mgpy_sites *sites, const site_stack *stack,
                             uint64_t hash) {
  site_place *spare = NULL;

  for (uint32_t i = 0; i < SITE_NEAR; i++) {
    site_place *place = &sites->place[((hash >> 32) + i) % SITES];
    if (place->id != 0 && place->hash == hash &&
        site_is_same(&place->stack, stack))
      return place;
    if (site_is_rather(place, spare)) spare = place;
  }
  return spare;
}

uint32_t mgpy_site_enter(mgpy_sites *sites, uint64_t *out_id) {
  site_stack stack, left;
  site_place *place;
  uint64_t hash;

  *out_id = 0;
  site_capture(&stack);
  if (stack.depth == 0) return 0;
  hash = site_hash(&stack);
  left = stack; /* to be let go of, unless the table keeps it */
  pthread_mutex_lock(&sites->lock);
  place = site_find(sites, &stack, hash);
  if (place != NULL && (place->id == 0 || place->hash != hash ||
                        !site_is_same(&place->stack, &stack))) {
    left = place->stack;
    *place = (site_place){.id = 1 + atomic_fetch_add(&site_ids, 1),
                          .hash = hash,
                          .stack = stack};
  }
  if (place != NULL) {
    place->live++;
    *out_id = place->id;
  }
  pthread_mutex_unlock(&sites->lock);
  site_release(&left);
  return place == NULL ? 0 : (uint32_t)(place - sites->place) + 1;
}

void mgpy_site_leave(mgpy_sites *sites, uint32_t place) {
  pthread_mutex_lock(&sites->lock);
  sites->place[place - 1].live--;
  pthread_mutex_unlock(&sites->lock);
}

/* ---- lost rentals --------------------------------------------------------------- */

/* The lock is held. */
static site_place *site_by_id(mgpy_sites *sites, uint64_t id) {
  for (int i = 0; id != 0 && i < SITES; i++)
    if (sites->place[i].id == id) return &sites->place[i];
  return NULL;
}

/* Whether this stack is to be told; notes that it was. The lock is held. */
static bool site_is_news(mgpy_sites *sites, uint64_t hash) {
  for (uint32_t i = 0; i < sites->told_count; i++)
    if (sites->told[i] == hash) return false;
  sites->told[sites->told_next] = hash;
  sites->told_next = (sites->told_next + 1) % SITES_TOLD;
  if (sites->told_count < SITES_TOLD) sites->told_count++;
  return true;
}

void mgpy_site_lost(mgpy_sites *sites, mgpy_pool *pool, uint64_t id,
                    uint64_t capacity) {
  site_place *place;
  bool is_news;

  pthread_mutex_lock(&sites->lock);
  place = site_by_id(sites, id);
  is_news = pool->lost_count < MGPY_LOST_WAITING;
  if (place != NULL) {
    place->had_loss = true;
    is_news = is_news && site_is_news(sites, place->hash);
  } else {
    is_news = is_news && !pool->told_unknown;
    pool->told_unknown = pool->told_unknown || is_news;
  }
  if (is_news) {
    pool->lost[pool->lost_count++] =
        (mgpy_lost){place == NULL ? 0 : id, capacity};
    atomic_store(&pool->is_lost_due, true);
  }
  pthread_mutex_unlock(&sites->lock);
}

uint32_t mgpy_site_take_lost(mgpy_sites *sites, mgpy_pool *pool,
                             mgpy_lost out[MGPY_LOST_WAITING]) {
  uint32_t count;

  pthread_mutex_lock(&sites->lock);
  count = pool->lost_count;
  memcpy(out, pool->lost, count * sizeof *out);
  pool->lost_count = 0;
  atomic_store(&pool->is_lost_due, false);
  pthread_mutex_unlock(&sites->lock);
  return count;
}

/* ---- as text -------------------------------------------------------------------- */

static PyObject *site_line(PyCodeObject *code, int offset) {
  PyObject *name = PyObject_GetAttrString((PyObject *)code, "co_qualname");
  PyObject *file = PyObject_GetAttrString((PyObject *)code, "co_filename");
  PyObject *made = NULL, *base;
  Py_ssize_t length, slash;

  if (name == NULL || file == NULL) goto done;
  length = PyUnicode_GetLength(file);
  slash = PyUnicode_FindChar(file, '/', 0, length, -1);
  if (slash < -1) goto done;
  base = PyUnicode_Substring(file, slash + 1, length);
  if (base == NULL) goto done;
  made = PyUnicode_FromFormat("%U (%U:%d)", name, base,
                              PyCode_Addr2Line(code, offset));
  Py_DECREF(base);

done:
  Py_XDECREF(name);
  Py_XDECREF(file);
  return made;
}

PyObject *mgpy_site_text(mgpy_sites *sites, uint64_t id) {
  site_stack stack = {.depth = 0};
  const site_place *place;
  PyObject *made;

  pthread_mutex_lock(&sites->lock);
  place = site_by_id(sites, id);
  if (place != NULL) stack = place->stack;
  for (uint32_t i = 0; i < stack.depth; i++) Py_INCREF(stack.code[i]);
  pthread_mutex_unlock(&sites->lock);
  if (place == NULL) Py_RETURN_NONE;
  made = PyList_New(0);
  for (uint32_t i = 0; made != NULL && i < stack.depth; i++) {
    PyObject *line = site_line(stack.code[i], stack.offset[i]);
    if (line == NULL || PyList_Append(made, line) < 0) Py_CLEAR(made);
    Py_XDECREF(line);
  }
  site_release(&stack);
  return made;
}
