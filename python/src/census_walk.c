/* census_walk.c - all objects that the collector tracks, a slice at a time, while
 * the program goes on between slices.
 *
 * To find the place again, an object of ours lies in the collector's list, an empty
 * list that nobody else knows: the cursor. It is put behind the last object visited.
 * What comes and goes around it between slices does not matter, and when a
 * collection moves it to the next generation it goes together with what was behind
 * it, in order: the walk goes on from there to the end of whatever list that is.
 *
 *   slice:   head <-> a <-> b <-> c <-> d <-> head     visits a b
 *   between: head <-> a <-> b <-> cursor <-> c <-> d <-> head
 *
 * The lists are walked from the oldest to the youngest: frozen, 2, 1, 0. What is
 * promoted meanwhile comes either behind the cursor, so it is visited there, or its
 * list was done already, as it comes from one that is younger. So each object that
 * lives throughout is visited once. A second list of ours, the mark, is the youngest
 * object when the walk begins: what is behind it is new, and the walk ends there, so
 * a program that makes objects faster than they are visited cannot keep it going. Two
 * things break that: a full collection, which
 * may change the order, and gc.freeze() or unfreeze(), which join lists. Both are
 * noticed, and the walk begins anew, at most MGPY_WALK_RESTARTS times; then it goes on,
 * is called inexact, and ends after MGPY_WALK_SLICES at the latest.
 *
 * This writes links, unlike roll.c: its own cursor's and those of its neighbours, as
 * tracking an object does. CPython leaves its lists in order whenever it lets go of
 * the GIL, in finalizers during a collection too.
 *
 * Where the lists are unknown (3.14.0 to 3.14.4, free threading), the interpreter's own
 * PyUnstable_GC_VisitObjects goes over them at once, holding the GIL: bounded by
 * MGPY_AT_ONCE_MOST objects, some 15 ms. */
#include "census_parts.h"

#include <time.h>

#define WALK_PARTS (MGPY_GENERATIONS + 1)
#define WALK_FULL (MGPY_GENERATIONS - 1)
#define WALK_CLOCK 256 /* objects between two looks at the clock */
#define WALK_REST_NS 20000

#if MGPY_LISTS_KNOWN

/* ---- lists ------------------------------------------------------------------ */

/* @return 1 if the figures are those of gc.get_stats(), 0 if not, -1. */
static int walk_has_stats(const mgpy_after *after) {
  PyObject *collector = PyImport_ImportModule("gc"), *all = NULL;
  int st = -1;

  if (collector != NULL) all = PyObject_CallMethod(collector, "get_stats", NULL);
  Py_XDECREF(collector);
  if (all == NULL) return -1;
  st = PyList_Check(all) && PyList_GET_SIZE(all) == MGPY_GENERATIONS;
  for (int i = 0; st == 1 && i < MGPY_GENERATIONS; i++) {
    PyObject *one = PyList_GET_ITEM(all, i), *count = NULL;
    if (PyDict_Check(one)) count = PyDict_GetItemString(one, "collections");
    if (count == NULL || PyLong_AsSsize_t(count) != after->stats[i][0]) st = 0;
  }
  Py_DECREF(all);
  if (st == 0) PyErr_Clear();
  return st;
}

/* Looked for once. @return 0, or -1 and an error; walk->lists stays NULL if they are
 * not known. */
static int walk_find_lists(mgpy_walk *walk) {
  mgpy_generation *lists, *frozen;
  mgpy_after *after;
  int has;

  walk->lists = walk->state->lists;
  if (walk->lists != NULL) return 0;
  if (mgpy_lists_find(walk->state, &lists) < 0) return -1;
  if (lists == NULL) return 0;
  after = mgpy_after_of(lists);
  frozen = mgpy_frozen_of(lists);
  if (after->youngest != &lists[0].head || frozen->threshold != 0 ||
      !mgpy_is_linked(&frozen->head))
    return 0;
  has = walk_has_stats(after);
  if (has == 1) walk->lists = walk->state->lists = lists;
  return has < 0 ? -1 : 0;
}

/* Oldest first. */
static mgpy_link *walk_head(mgpy_generation *lists, int part) {
  return part == 0 ? &mgpy_frozen_of(lists)->head
                   : &lists[MGPY_GENERATIONS - part].head;
}

static bool walk_is_head(mgpy_generation *lists, const mgpy_link *link) {
  uintptr_t end = (uintptr_t)(mgpy_frozen_of(lists) + 1);

  return (uintptr_t)link - (uintptr_t)lists < end - (uintptr_t)lists;
}

static mgpy_link *walk_cursor(const mgpy_walk *walk) {
  return (mgpy_link *)walk->cursor - 1;
}

static bool walk_is_mark(const mgpy_walk *walk, const mgpy_link *link) {
  return link == (mgpy_link *)walk->mark - 1;
}

static uintptr_t walk_joined(uintptr_t old, const mgpy_link *to) {
  return (uintptr_t)to | (old & MGPY_LINK_FLAGS);
}

static bool walk_is_end(const mgpy_walk *walk, const mgpy_link *link) {
  return walk_is_head(walk->lists, link) || walk_is_mark(walk, link);
}

static void walk_put(mgpy_walk *walk, mgpy_link *after) {
  mgpy_link *cursor = walk_cursor(walk);
  mgpy_link *next = mgpy_link_of(cursor->next);
  mgpy_link *previous = mgpy_link_of(cursor->previous);

  if (after == cursor) return;
  previous->next = walk_joined(previous->next, next);
  next->previous = walk_joined(next->previous, previous);
  next = mgpy_link_of(after->next);
  cursor->next = (uintptr_t)next;
  cursor->previous = walk_joined(cursor->previous, after);
  after->next = walk_joined(after->next, cursor);
  next->previous = walk_joined(next->previous, cursor);
}

/* ---- slices ----------------------------------------------------------------- */

static bool walk_has_frozen(mgpy_generation *lists) {
  const mgpy_link *frozen = &mgpy_frozen_of(lists)->head;

  return mgpy_link_of(frozen->next) != frozen;
}

static void walk_begin(mgpy_walk *walk) {
  walk->part = 0;
  walk->visited = 0;
  walk->had_frozen = walk_has_frozen(walk->lists);
  walk->full_collections = mgpy_after_of(walk->lists)->stats[WALK_FULL][0];
  PyObject_GC_UnTrack(walk->mark);
  PyObject_GC_Track(walk->mark);
  walk_put(walk, walk_head(walk->lists, 0));
}

static bool walk_is_disturbed(const mgpy_walk *walk) {
  return walk->full_collections != mgpy_after_of(walk->lists)->stats[WALK_FULL][0] ||
         (walk->had_frozen && walk->part > 0 && !walk_has_frozen(walk->lists));
}

/* The cursor came to the end of a list. @return false if that is not one to which
 * collections of the young bring it: somebody joined lists. */
static bool walk_may_end(const mgpy_walk *walk, const mgpy_link *head) {
  if (walk->part == 0) return head == walk_head(walk->lists, 0);
  for (int part = 1; part <= walk->part; part++)
    if (head == walk_head(walk->lists, part)) return true;
  return false;
}

/* @return whether to go on; `walk` begins anew or gives up being exact. */
static mgpy_walk_state walk_anew(mgpy_walk *walk) {
  if (walk->restarts >= MGPY_WALK_RESTARTS) {
    walk->is_exact = false;
    walk->full_collections = mgpy_after_of(walk->lists)->stats[WALK_FULL][0];
    walk->had_frozen = walk_has_frozen(walk->lists);
    return MGPY_WALK_MORE;
  }
  walk->restarts++;
  walk_begin(walk);
  return MGPY_WALK_ANEW;
}

static void walk_end(mgpy_walk *walk) {
  if (walk->cursor == NULL) return;
  if (walk->state->walks > 0) walk->state->walks--;
  Py_CLEAR(walk->cursor);
  Py_CLEAR(walk->mark);
}

/* Visits from the cursor on. @return the last object visited, or the head or mark
 * that is behind it. */
static mgpy_link *walk_visit(mgpy_walk *walk, uint64_t most, uint64_t until_ns,
                             mgpy_walk_visit visit, void *ctx,
                             uint64_t *out_count) {
  mgpy_link *at = walk_cursor(walk), *next = mgpy_link_of(at->next);
  uint64_t count = 0;
  bool goes_on = true;

  while (goes_on && count < most && !walk_is_end(walk, next)) {
    at = next;
    next = mgpy_link_of(at->next);
    __builtin_prefetch(next);
    if (++count % WALK_CLOCK == 0 && mg_clock_ns() >= until_ns) goes_on = false;
    if (!visit((PyObject *)(at + 1), ctx)) goes_on = false;
  }
  *out_count = count;
  return walk_is_end(walk, next) ? next : at;
}

static mgpy_walk_state walk_slice(mgpy_walk *walk, uint64_t most,
                                  mgpy_walk_visit visit, void *ctx) {
  uint64_t until_ns = mg_clock_ns() + MGPY_SLICE_NS, done = 0, count;

  if (walk_is_disturbed(walk) && walk_anew(walk) == MGPY_WALK_ANEW)
    return MGPY_WALK_ANEW;
  for (;;) {
    mgpy_link *end =
        walk_visit(walk, most - done, until_ns, visit, ctx, &count);
    done += count;
    walk->visited += count;
    if (done > walk->largest_slice) walk->largest_slice = done;
    if (!walk_is_end(walk, end)) {
      walk_put(walk, end);
      if (walk->slices < MGPY_WALK_SLICES) return MGPY_WALK_MORE;
      walk->is_whole = false;
      break;
    }
    if (walk_is_mark(walk, end)) break;
    if (!walk_may_end(walk, end) && walk_anew(walk) == MGPY_WALK_ANEW)
      return MGPY_WALK_ANEW;
    if (++walk->part == WALK_PARTS) break;
    walk_put(walk, walk_head(walk->lists, walk->part));
  }
  walk_end(walk);
  walk->is_done = true;
  return MGPY_WALK_DONE;
}

#endif

/* ---- at once ------------------------------------------------------------------ */

#if PY_VERSION_HEX >= 0x030C0000

typedef struct walk_call {
  mgpy_walk *walk;
  mgpy_walk_visit visit;
  void *ctx;
} walk_call;

/* Another thread may have stopped inside of it in a free-threaded build: nothing
 * here takes a lock of Python. */
static int walk_visit_one(PyObject *object, void *opaque) {
  walk_call *call = opaque;

  if (call->walk->visited >= MGPY_AT_ONCE_MOST) {
    call->walk->is_whole = false;
    return 0;
  }
  call->walk->visited++;
  call->visit(object, call->ctx);
  return 1;
}

static void walk_at_once(mgpy_walk *walk, mgpy_walk_visit visit, void *ctx) {
  walk_call call = {walk, visit, ctx};

  PyUnstable_GC_VisitObjects(walk_visit_one, &call);
  walk->largest_slice = walk->visited;
  walk->is_done = true;
}

#endif

/* ---- the walk ----------------------------------------------------------------- */

int mgpy_walk_open(mgpy_walk *out, mgpy_state *state, bool in_slices) {
  *out = (mgpy_walk){.state = state, .is_exact = true, .is_whole = true};
#if MGPY_LISTS_KNOWN
  if (in_slices && walk_find_lists(out) < 0) return -1;
  if (out->lists != NULL) {
    out->cursor = PyList_New(0);
    out->mark = PyList_New(0);
    if (out->cursor == NULL || out->mark == NULL) {
      Py_CLEAR(out->cursor);
      Py_CLEAR(out->mark);
      return -1;
    }
    state->walks++;
    walk_begin(out);
    return 0;
  }
#else
  (void)in_slices;
#endif
#if PY_VERSION_HEX >= 0x030C0000
  return 0;
#else
  mgpy_raise_format(state, MG_EABSENT,
                    "the collector's lists cannot be walked in this Python");
  return -1;
#endif
}

mgpy_walk_state mgpy_walk_slice(mgpy_walk *walk, Py_ssize_t most,
                                mgpy_walk_visit visit, void *ctx) {
  mgpy_walk_state st = MGPY_WALK_DONE;

  (void)visit;
  (void)ctx;
  if (walk->is_done) return st;
  if (most < 1) most = 1;
  if (most > MGPY_SLICE_OBJECTS) most = MGPY_SLICE_OBJECTS;
#if MGPY_LISTS_KNOWN
  if (walk->lists != NULL) st = walk_slice(walk, (uint64_t)most, visit, ctx);
#endif
#if PY_VERSION_HEX >= 0x030C0000
  if (walk->lists == NULL) walk_at_once(walk, visit, ctx);
#endif
  walk->slices++;
  return st;
}

void mgpy_walk_held(mgpy_walk *walk, uint64_t since_ns) {
  uint64_t took_ns = mg_clock_ns() - since_ns;

  walk->held_ns += took_ns;
  if (took_ns > walk->longest_ns) walk->longest_ns = took_ns;
}

/* Letting go of the GIL is not enough: who waits for it must wake up first, and it
 * would be taken again by then. */
void mgpy_walk_rest(void) {
  const struct timespec moment = {0, WALK_REST_NS};

  Py_BEGIN_ALLOW_THREADS
  nanosleep(&moment, NULL);
  Py_END_ALLOW_THREADS
}

void mgpy_walk_close(mgpy_walk *walk) {
#if MGPY_LISTS_KNOWN
  walk_end(walk);
#else
  Py_CLEAR(walk->cursor);
#endif
  walk->is_done = true;
}
