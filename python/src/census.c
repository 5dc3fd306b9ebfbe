/* census.c - Census: a table of names that is filled with the objects of this
 * interpreter, its descriptors, its mappings, or by hand; and the difference of two.
 *
 * What takes long lets go of the GIL. A table is used by one thread at a time, which
 * is seen to here: the second one gets a ConflictError. */
#include "census_parts.h"

#define CENSUS_NS_PER_MS 1e6
#define CENSUS_CULPRITS_MOST 1000

typedef struct census_object {
  PyObject_HEAD
  mgpy_state *state;
  mg_census *table;
  mgpy_types *types; /* NULL unless objects are being counted */
  mgpy_walk walk;
  _Atomic bool is_busy;
} census_object;

/* ---- turns -------------------------------------------------------------------- */

static bool census_take(census_object *self) {
  if (!atomic_exchange(&self->is_busy, true)) return true;
  mgpy_raise_format(self->state, MG_ECONFLICT,
                    "the census is used by another thread");
  return false;
}

static void census_give(census_object *self) {
  atomic_store(&self->is_busy, false);
}

/* ---- life ----------------------------------------------------------------------- */

static PyObject *census_new(PyTypeObject *type, PyObject *args,
                            PyObject *keywords) {
  mgpy_state *state = mgpy_state_of(type);
  mg_error err = MG_ERROR_INIT;
  Py_ssize_t max_names = 0;
  census_object *self;

  if (state == NULL) return NULL;
  if (keywords != NULL && PyDict_GET_SIZE(keywords) > 0) {
    PyErr_SetString(PyExc_TypeError, "Census() takes no keyword arguments");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "|n:Census", &max_names)) return NULL;
  self = (census_object *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->state = state;
  if (mg_census_open(&self->table, (size_t)max_names, &err) == MG_OK)
    return (PyObject *)self;
  Py_DECREF(self);
  return mgpy_raise(state, &err);
}

static void census_end_types(census_object *self) {
  if (self->types == NULL) return;
  mgpy_walk_close(&self->walk);
  mgpy_types_close(self->types);
  self->types = NULL;
}

static void census_dealloc(PyObject *object) {
  census_object *self = (census_object *)object;
  PyTypeObject *type = Py_TYPE(object);

  census_end_types(self);
  mg_census_close(self->table);
  type->tp_free(object);
  Py_DECREF(type);
}

/* ---- objects ---------------------------------------------------------------------- */

static PyObject *census_begin(PyObject *object, PyObject *args) {
  census_object *self = (census_object *)object;
  int in_slices = 1;
  mgpy_walk walk;

  if (!PyArg_ParseTuple(args, "|p:begin", &in_slices)) return NULL;
  /* May run Python, so before the turn. */
  if (mgpy_walk_open(&walk, self->state, in_slices) < 0) return NULL;
  if (!census_take(self)) goto fail_walk;
  census_end_types(self);
  mg_census_clear(self->table);
  self->types = mgpy_types_open(self->table);
  if (self->types == NULL) goto fail_turn;
  self->walk = walk;
  census_give(self);
  Py_RETURN_NONE;

fail_turn:
  census_give(self);
fail_walk:
  mgpy_walk_close(&walk);
  return NULL;
}

static PyObject *census_step(PyObject *object, PyObject *args) {
  census_object *self = (census_object *)object;
  Py_ssize_t most = MGPY_SLICE_OBJECTS;
  mgpy_walk_state st = MGPY_WALK_DONE;

  if (!PyArg_ParseTuple(args, "|n:step", &most) || !census_take(self))
    return NULL;
  if (self->types != NULL) {
    st = mgpy_types_slice(self->types, &self->walk, most);
    if (st == MGPY_WALK_DONE) census_end_types(self);
    else mgpy_walk_rest();
  }
  census_give(self);
  return PyBool_FromLong(st != MGPY_WALK_DONE);
}

static PyObject *census_walk(PyObject *object, PyObject *unused) {
  const mgpy_walk *walk = &((census_object *)object)->walk;
  (void)unused;

  return Py_BuildValue(
      "{sKsIsIsKsdsdsOsOsO}", "objects", (unsigned long long)walk->visited,
      "slices", walk->slices, "restarts", walk->restarts, "largest_slice",
      (unsigned long long)walk->largest_slice, "held_ms",
      (double)walk->held_ns / CENSUS_NS_PER_MS, "longest_ms",
      (double)walk->longest_ns / CENSUS_NS_PER_MS, "is_exact",
      walk->is_exact ? Py_True : Py_False, "is_whole",
      walk->is_whole ? Py_True : Py_False, "is_sliced",
      walk->lists != NULL ? Py_True : Py_False);
}

/* ---- process ---------------------------------------------------------------------- */

static PyObject *census_read(census_object *self,
                             mg_status (*read)(mg_census *, mg_error *)) {
  mg_error err = MG_ERROR_INIT;
  mg_status st;

  if (!census_take(self)) return NULL;
  Py_BEGIN_ALLOW_THREADS
  st = read(self->table, &err);
  Py_END_ALLOW_THREADS
  census_give(self);
  if (st != MG_OK) return mgpy_raise(self->state, &err);
  Py_RETURN_NONE;
}

static PyObject *census_read_fds(PyObject *self, PyObject *unused) {
  (void)unused;
  return census_read((census_object *)self, mg_census_fds);
}

static PyObject *census_read_maps(PyObject *self, PyObject *unused) {
  (void)unused;
  return census_read((census_object *)self, mg_census_maps);
}

/* ---- rows ------------------------------------------------------------------------- */

static PyObject *census_add(PyObject *object, PyObject *args) {
  census_object *self = (census_object *)object;
  PyObject *text, *count_object, *bytes_object;
  char name[MG_CENSUS_NAME_BYTES * 2];
  uint64_t count, bytes;

  if (!PyArg_ParseTuple(args, "UOO:add", &text, &count_object, &bytes_object) ||
      mgpy_number_read(count_object, &count) < 0 ||
      mgpy_number_read(bytes_object, &bytes) < 0)
    return NULL;
  mgpy_text(name, sizeof name, text);
  if (!census_take(self)) return NULL;
  mg_census_add(self->table, name, count == MG_ABSENT ? 0 : count,
                bytes == MG_ABSENT ? 0 : bytes);
  census_give(self);
  Py_RETURN_NONE;
}

static PyObject *census_row(const mg_census_row *row) {
  PyObject *name =
      PyUnicode_DecodeUTF8(row->name, (Py_ssize_t)strlen(row->name), "replace");

  if (name == NULL) return NULL;
  return Py_BuildValue("(NKK)", name, (unsigned long long)row->count,
                       (unsigned long long)row->bytes);
}

static PyObject *census_rows(PyObject *object, PyObject *args) {
  census_object *self = (census_object *)object;
  Py_ssize_t first, most;
  mg_census_row row;
  PyObject *made;

  if (!PyArg_ParseTuple(args, "nn:rows", &first, &most)) return NULL;
  made = PyList_New(0);
  if (made == NULL) return NULL;
  if (!census_take(self)) goto fail;
  for (; first >= 0 && most > 0; most--, first++) {
    PyObject *one;
    if (!mg_census_at(self->table, (size_t)first, &row)) break;
    one = census_row(&row);
    if (one == NULL || PyList_Append(made, one) < 0) {
      Py_XDECREF(one);
      goto fail_turn;
    }
    Py_DECREF(one);
  }
  census_give(self);
  return made;

fail_turn:
  census_give(self);
fail:
  Py_DECREF(made);
  return NULL;
}

static PyObject *census_get_is_cut(PyObject *self, void *unused) {
  (void)unused;
  return PyBool_FromLong(mg_census_is_cut(((census_object *)self)->table));
}

static Py_ssize_t census_length(PyObject *self) {
  return (Py_ssize_t)mg_census_size(((census_object *)self)->table);
}

static PyMethodDef census_methods[] = {
    {"begin", census_begin, METH_VARARGS, NULL},
    {"step", census_step, METH_VARARGS, NULL},
    {"walk", census_walk, METH_NOARGS, NULL},
    {"read_fds", census_read_fds, METH_NOARGS, NULL},
    {"read_maps", census_read_maps, METH_NOARGS, NULL},
    {"add", census_add, METH_VARARGS, NULL},
    {"rows", census_rows, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef census_attributes[] = {
    {"is_cut", census_get_is_cut, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot census_slots[] = {
    MGPY_SLOT(Py_tp_new, census_new),
    MGPY_SLOT(Py_tp_dealloc, census_dealloc),
    MGPY_SLOT(Py_sq_length, census_length),
    {Py_tp_methods, census_methods},
    {Py_tp_getset, census_attributes},
    {Py_tp_doc, (void *)"A bounded table of names, counts and bytes."},
    {0, NULL}};

static PyType_Spec census_spec = {"memguard._core.Census",
                                  sizeof(census_object), 0, Py_TPFLAGS_DEFAULT,
                                  census_slots};

/* ---- difference --------------------------------------------------------------------- */

static const char *census_kind_name(int kind) {
  return mg_culprit_name((mg_culprit_kind)kind);
}

static PyObject *census_culprits(const mg_culprit *culprits, size_t count) {
  PyObject *made = PyList_New((Py_ssize_t)count);

  for (size_t i = 0; made != NULL && i < count; i++) {
    const mg_culprit *one = &culprits[i];
    PyObject *name = PyUnicode_DecodeUTF8(
        one->name, (Py_ssize_t)strlen(one->name), "replace");
    PyObject *row =
        name == NULL ? NULL
                     : Py_BuildValue("(sNLLKd)", mg_culprit_name(one->kind),
                                     name, (long long)one->growth,
                                     (long long)one->growth_bytes,
                                     (unsigned long long)one->count, one->share);
    if (row == NULL) Py_CLEAR(made);
    else PyList_SET_ITEM(made, (Py_ssize_t)i, row);
  }
  return made;
}

static PyObject *census_compare(census_object *before, census_object *after,
                                mg_culprit_kind kind, mg_census_by by,
                                size_t max) {
  mg_culprit *found = PyMem_RawCalloc(max + 1, sizeof *found);
  PyObject *made;
  size_t count;

  if (found == NULL) return PyErr_NoMemory();
  Py_BEGIN_ALLOW_THREADS
  count = mg_census_diff(before->table, after->table, kind, by, found, max);
  Py_END_ALLOW_THREADS
  made = census_culprits(found, count);
  PyMem_RawFree(found);
  return made;
}

/* census_difference(before, after, kind, by_bytes, max) -> [(kind, name, growth,
 * growth_bytes, count, share)], the one that grew most first. */
static PyObject *census_difference(PyObject *module, PyObject *args) {
  mgpy_state *state = PyModule_GetState(module);
  census_object *before, *after;
  PyObject *kind_name, *made = NULL;
  int kind, by_bytes;
  Py_ssize_t max;

  if (!PyArg_ParseTuple(args, "O!O!Opn:census_difference", state->census_type,
                        &before, state->census_type, &after, &kind_name,
                        &by_bytes, &max))
    return NULL;
  kind = mgpy_name_find(state, kind_name, "kind", census_kind_name, 0,
                        MG_CULPRITS);
  if (kind < 0) return NULL;
  if (max < 0 || max > CENSUS_CULPRITS_MOST)
    return mgpy_raise_format(state, MG_ERANGE,
                             "limit is %zd, allowed: 0 to %d", max,
                             CENSUS_CULPRITS_MOST);
  if (!census_take(before)) return NULL;
  if (after == before || census_take(after)) {
    made = census_compare(before, after, (mg_culprit_kind)kind,
                          by_bytes ? MG_CENSUS_BY_BYTES : MG_CENSUS_BY_COUNT,
                          (size_t)max);
    if (after != before) census_give(after);
  }
  census_give(before);
  return made;
}

/* census_is_alone(): whether this is the only interpreter of the process. The main
 * one is the last of the list, for as long as the process lives. */
static PyObject *census_is_alone(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  return PyBool_FromLong(PyInterpreterState_Head() ==
                             PyInterpreterState_Main() &&
                         PyInterpreterState_Get() == PyInterpreterState_Main());
}

static PyMethodDef census_functions[] = {
    {"census_is_alone", census_is_alone, METH_NOARGS, NULL},
    {"census_difference", census_difference, METH_VARARGS, NULL},
    {"census_referrers", mgpy_census_referrers, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_census(PyObject *module, mgpy_state *state) {
  if (mgpy_add_type(module, &census_spec, &state->census_type) < 0) return -1;
  return PyModule_AddFunctions(module, census_functions);
}
