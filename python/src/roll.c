/* roll.c - the oldest objects go through the collector again, a part at a time.
 *
 * A full collection of CPython's generations looks at all that is alive, at once.
 * But a collection of the young takes whatever is in the young list, and an object
 * that is untracked and tracked again (both are public) lands there. So the first
 * objects of the oldest generation are put among the young, a collection of the
 * young frees those that are garbage, and the others go to the end of the list they
 * came from: a full collection in parts of any size.
 *
 *   oldest generation:  head -> a b c d ... x y -> head
 *   take 3:             head -> d ... x y -> head         young: ... a b c
 *   collected:          head -> d ... x y a c -> head     b was garbage
 *
 * Cycles that lie in one part are found. As the list is in order of age, that is
 * most of those which a program makes in a while; what is left finds a whole pass.
 *
 * The lists are not public (gc_lists.h). The header of an object just tracked is the
 * last of the young, so the next of it is the list's head, the first of an array. All
 * that is checked by what is known of it before it is used; nothing is written here.
 *
 * Threads: under the GIL, like the collector. */
#include "gc_lists.h"

#define ROLL_OLDEST (MGPY_GENERATIONS - 1)
#define ROLL_MOST 1000000
#define ROLL_NEAR 128 /* objects that go with one */
#define ROLL_LOOK 512 /* references looked at for that */

#if MGPY_LISTS_KNOWN

/* @return 1 if `generations` has those of gc.get_threshold(), 0 if not, -1. */
static int roll_has_thresholds(const mgpy_generation *generations) {
  PyObject *collector = PyImport_ImportModule("gc"), *now = NULL;
  int t[MGPY_GENERATIONS], st = -1;

  if (collector != NULL)
    now = PyObject_CallMethod(collector, "get_threshold", NULL);
  if (now != NULL && PyArg_ParseTuple(now, "iii", &t[0], &t[1], &t[2])) {
    st = 1;
    for (int i = 0; i < MGPY_GENERATIONS; i++)
      if (generations[i].threshold != t[i]) st = 0;
  }
  Py_XDECREF(now);
  Py_XDECREF(collector);
  return st;
}

/* The head of the young: what is after an object that was tracked just now. */
static mgpy_link *roll_young(PyObject *mark) {
  PyObject_GC_UnTrack(mark);
  PyObject_GC_Track(mark);
  return mgpy_link_of(((mgpy_link *)mark - 1)->next);
}

/* Looks at a list's links only once the array is known to be one. @return -1 with
 * an exception; else state->roll.oldest is set if all is as expected. */
static int roll_learn(mgpy_state *state) {
  mgpy_generation *generations;
  PyObject *mark;
  int has;

  if (!mgpy_lists_are_kept()) return 0;
  mark = PyList_New(0);
  if (mark == NULL) return -1;
  generations = (mgpy_generation *)roll_young(mark);
  has = roll_has_thresholds(generations);
  for (int i = 0; has == 1 && i < MGPY_GENERATIONS; i++)
    if (!mgpy_is_linked(&generations[i].head)) has = 0;
  Py_XSETREF(state->roll.mark, mark);
  if (has == 1) state->roll.oldest = &generations[ROLL_OLDEST];
  return has < 0 ? -1 : 0;
}

int mgpy_lists_find(mgpy_state *state, mgpy_generation **out) {
  *out = NULL;
  if (state->roll.oldest == NULL && roll_learn(state) < 0) return -1;
  if (state->roll.oldest != NULL)
    *out = (mgpy_generation *)state->roll.oldest - ROLL_OLDEST;
  return 0;
}

/* ---- a part -------------------------------------------------------------- */

/* What was put among the young, as a hash table, and what a walk has still to look
 * into. Full collections leave the list in the order in which they came upon the
 * objects, so those of one cycle may be far apart: with each object goes what it
 * leads to, within bounds, as cycles mostly are small. */
typedef struct roll_part {
  PyObject **seen;
  size_t mask; /* slots less one */
  Py_ssize_t taken;
  PyObject *waiting[ROLL_NEAR];
  int waits, found, looked; /* found and looked at since the walk's start */
} roll_part;

/* @return whether it is new. Never full: there are twice as many slots. */
static bool roll_add(roll_part *part, PyObject *object) {
  size_t slot = ((uintptr_t)object >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 20;

  for (;; slot++) {
    PyObject **at = &part->seen[slot & part->mask];
    if (*at == object) return false;
    if (*at != NULL) continue;
    *at = object;
    return true;
  }
}

static void roll_move(roll_part *part, PyObject *object) {
  PyObject_GC_UnTrack(object);
  PyObject_GC_Track(object);
  part->taken++;
  part->waiting[part->waits++] = object;
}

/* Types and modules lead to everything. @return not 0 to look no further. */
static int roll_visit(PyObject *object, void *opaque) {
  roll_part *part = opaque;

  if (part->found >= ROLL_NEAR || part->looked++ >= ROLL_LOOK) return 1;
  if (!PyObject_GC_IsTracked(object) || PyType_Check(object) ||
      PyModule_Check(object) || !roll_add(part, object))
    return 0;
  part->found++;
  roll_move(part, object);
  return 0;
}

static void roll_walk(roll_part *part, PyObject *first) {
  part->waits = 0;
  part->found = 1;
  part->looked = 0;
  roll_add(part, first);
  roll_move(part, first);
  while (part->waits > 0) {
    PyObject *object = part->waiting[--part->waits];
    traverseproc traverse = Py_TYPE(object)->tp_traverse;
    if (traverse != NULL && traverse(object, roll_visit, part) != 0) break;
  }
}

/* Moves about `most` objects, those at the front and what they lead to. */
static bool roll_take(mgpy_state *state, roll_part *part, Py_ssize_t most) {
  mgpy_link *list = &((mgpy_generation *)state->roll.oldest)->head;
  bool is_lap = false;

  while (part->taken < most) {
    mgpy_link *first = mgpy_link_of(list->next);
    PyObject *object = (PyObject *)(first + 1);
    if (first == list || mgpy_link_of(first->previous) != list) return true;
    if (object == state->roll.mark) is_lap = true;
    roll_walk(part, object);
  }
  return is_lap;
}

/* Nothing that could start a collection comes between. */
static PyObject *roll_collect(mgpy_state *state, PyObject *collect,
                              PyObject *young, Py_ssize_t most,
                              roll_part *part, bool *is_lap) {
  size_t slots = 64;

  while (slots < 2 * ((size_t)most + ROLL_NEAR)) slots *= 2;
  part->seen = PyMem_RawCalloc(slots, sizeof *part->seen);
  if (part->seen == NULL) return PyErr_NoMemory();
  part->mask = slots - 1;
  *is_lap = roll_take(state, part, most);
  PyMem_RawFree(part->seen);
  return PyObject_CallOneArg(collect, young);
}

#endif

/* _gc_can_roll() -> bool; false in a sub-interpreter, where memguard acts too seldom
 * for that. */
static PyObject *roll_can(PyObject *module, PyObject *unused) {
  (void)unused;
#if MGPY_LISTS_KNOWN
  mgpy_state *state = PyModule_GetState(module);
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) Py_RETURN_FALSE;
  if (state->roll.oldest == NULL && roll_learn(state) < 0) return NULL;
  return PyBool_FromLong(state->roll.oldest != NULL);
#else
  (void)module;
  Py_RETURN_FALSE;
#endif
}

#if MGPY_LISTS_KNOWN
static PyObject *roll_run(mgpy_state *state, Py_ssize_t most) {
  PyObject *collector = PyImport_ImportModule("gc"), *collect = NULL;
  PyObject *young = PyLong_FromLong(1), *collected = NULL;
  roll_part part = {0};
  bool is_lap = true;

  if (collector != NULL) collect = PyObject_GetAttrString(collector, "collect");
  if (collect != NULL && young != NULL)
    collected = roll_collect(state, collect, young, most, &part, &is_lap);
  Py_XDECREF(collector);
  Py_XDECREF(collect);
  Py_XDECREF(young);
  if (collected == NULL) return NULL;
  return Py_BuildValue("(nNO)", part.taken, collected,
                       is_lap ? Py_True : Py_False);
}
#endif

/* _gc_roll(most) -> (objects put among the young, objects collected, whether all
 * had their turn since the mark was set). (0, 0, True) while a collection or a
 * census runs. */
static PyObject *roll_roll(PyObject *module, PyObject *most_object) {
  Py_ssize_t most = PyLong_AsSsize_t(most_object);

  if (most == -1 && PyErr_Occurred()) return NULL;
#if MGPY_LISTS_KNOWN
  mgpy_state *state = PyModule_GetState(module);
  if (most > ROLL_MOST) most = ROLL_MOST;
  /* A census counts on the order of the list. */
  if (state->roll.oldest != NULL && !atomic_load(&state->gc.is_running) &&
      state->walks == 0)
    return roll_run(state, most);
#else
  (void)module;
#endif
  return Py_BuildValue("(iiO)", 0, 0, Py_True);
}

/* _gc_roll_mark(): a lap begins with what is old now. */
static PyObject *roll_mark(PyObject *module, PyObject *unused) {
  (void)unused;
#if MGPY_LISTS_KNOWN
  mgpy_state *state = PyModule_GetState(module);
  if (state->roll.mark != NULL) roll_young(state->roll.mark);
#else
  (void)module;
#endif
  Py_RETURN_NONE;
}

static PyMethodDef roll_functions[] = {
    {"_gc_can_roll", roll_can, METH_NOARGS, NULL},
    {"_gc_roll", roll_roll, METH_O, NULL},
    {"_gc_roll_mark", roll_mark, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_roll(PyObject *module, mgpy_state *state) {
  (void)state;
  return PyModule_AddFunctions(module, roll_functions);
}
