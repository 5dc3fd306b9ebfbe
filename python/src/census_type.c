/* census_type.c - objects counted by their type.
 *
 * During a slice by the type's address, in a small table; when it ends, that is
 * added up by name, as a type may be gone before the next slice, and another one be
 * where it was. Bytes are those of the object with its collector's header, the
 * array of a list, the table of a dict or a set; not what it refers to. */
#include "census_parts.h"

#include <structmember.h>

#define TYPE_SLOTS 4096u /* a power of two */
#define TYPE_MOST 1024u  /* types of a slice; ends it */
#define TYPE_ROOM (TYPE_MOST + 16u)

typedef enum type_sizing {
  TYPE_BASIC,
  TYPE_TUPLE,
  TYPE_LIST,
  TYPE_DICT,
  TYPE_SET
} type_sizing;

typedef struct type_slot {
  PyTypeObject *type; /* NULL: empty */
  uint64_t count, bytes;
  uint32_t basic_bytes;
  type_sizing sizing;
} type_slot;

struct mgpy_types {
  type_slot slot[TYPE_SLOTS];
  uint16_t used[TYPE_ROOM]; /* slots in use */
  size_t used_count;
  type_slot *last;
  PyCFunction dict_size; /* dict.__sizeof__, in C; NULL: not found */
  mg_census *census;
  uint64_t passed_over; /* objects of types for which there was no room */
};

/* ---- sizes -------------------------------------------------------------------- */

/* What a program put in its place does not matter: this is the function itself. */
static PyCFunction type_dict_size(void) {
  PyMethodDef *method = PyDict_Type.tp_methods;

  for (; method != NULL && method->ml_name != NULL; method++)
    if (strcmp(method->ml_name, "__sizeof__") == 0 &&
        method->ml_flags == METH_NOARGS)
      return method->ml_meth;
  return NULL;
}

static type_sizing type_sizing_of(PyTypeObject *type) {
#ifndef Py_GIL_DISABLED /* where looking inside would need locks */
  if (PyType_HasFeature(type, Py_TPFLAGS_TUPLE_SUBCLASS)) return TYPE_TUPLE;
  if (PyType_HasFeature(type, Py_TPFLAGS_LIST_SUBCLASS)) return TYPE_LIST;
  if (PyType_HasFeature(type, Py_TPFLAGS_DICT_SUBCLASS)) return TYPE_DICT;
  if (type == &PySet_Type || type == &PyFrozenSet_Type) return TYPE_SET;
#else
  (void)type;
#endif
  return TYPE_BASIC;
}

static uint32_t type_basic_bytes(PyTypeObject *type) {
  Py_ssize_t bytes = type->tp_basicsize + 2 * (Py_ssize_t)sizeof(void *);

#ifdef Py_TPFLAGS_PREHEADER
  if (PyType_HasFeature(type, Py_TPFLAGS_PREHEADER))
    bytes += 2 * (Py_ssize_t)sizeof(void *);
#elif defined(Py_TPFLAGS_MANAGED_DICT)
  if (PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT))
    bytes += 2 * (Py_ssize_t)sizeof(void *);
#endif
  return bytes < 0 || bytes > INT32_MAX ? 0 : (uint32_t)bytes;
}

static uint64_t type_dict_bytes(const mgpy_types *types,
                                const type_slot *slot, PyObject *dict) {
  PyObject *size;
  Py_ssize_t bytes = 0;

  /* One that is being freed may have no table any more. */
  if (types->dict_size == NULL || Py_REFCNT(dict) <= 0)
    return slot->basic_bytes;
  size = types->dict_size(dict, NULL);
  if (size == NULL) {
    PyErr_Clear();
    return slot->basic_bytes;
  }
  bytes = PyLong_AsSsize_t(size);
  Py_DECREF(size);
  return (uint64_t)bytes + 2 * sizeof(void *);
}

static uint64_t type_more_bytes(const mgpy_types *types,
                                const type_slot *slot, PyObject *object) {
  switch (slot->sizing) {
    case TYPE_TUPLE:
      return (uint64_t)Py_SIZE(object) * sizeof(PyObject *) + slot->basic_bytes;
    case TYPE_LIST:
      return (uint64_t)((PyListObject *)object)->allocated *
                 sizeof(PyObject *) +
             slot->basic_bytes;
    case TYPE_SET: {
      const PySetObject *set = (PySetObject *)object;
      uint64_t table = set->table == set->smalltable
                           ? 0
                           : ((uint64_t)set->mask + 1) * sizeof(setentry);
      return table + slot->basic_bytes;
    }
    case TYPE_DICT: return type_dict_bytes(types, slot, object);
    case TYPE_BASIC: break;
  }
  return slot->basic_bytes;
}

/* ---- a slice -------------------------------------------------------------------- */

/* @return NULL if there is no room. */
static type_slot *type_find(mgpy_types *types, PyTypeObject *type) {
  size_t at = (size_t)((uintptr_t)type >> 4) * 0x9E3779B1u >> 8;

  for (;; at++) {
    type_slot *slot = &types->slot[at & (TYPE_SLOTS - 1)];
    if (slot->type == type) return slot;
    if (slot->type != NULL) continue;
    if (types->used_count >= TYPE_ROOM) return NULL;
    *slot = (type_slot){.type = type,
                        .basic_bytes = type_basic_bytes(type),
                        .sizing = type_sizing_of(type)};
#ifdef Py_GIL_DISABLED
    Py_INCREF(type); /* until the world goes on and its name can be read */
#endif
    types->used[types->used_count++] = (uint16_t)(at & (TYPE_SLOTS - 1));
    return slot;
  }
}

static void type_add_up(mgpy_types *types) {
  char name[MG_CENSUS_NAME_BYTES];

  for (size_t i = 0; i < types->used_count; i++) {
    type_slot *slot = &types->slot[types->used[i]];
    mgpy_type_name(name, slot->type);
    mg_census_add(types->census, name, slot->count, slot->bytes);
#ifdef Py_GIL_DISABLED
    Py_DECREF(slot->type);
#endif
    slot->type = NULL;
  }
  types->used_count = 0;
  types->last = NULL;
  if (types->passed_over > 0)
    mg_census_add(types->census, MG_CENSUS_OTHER, types->passed_over, 0);
  types->passed_over = 0;
}

static bool type_visit(PyObject *object, void *ctx) {
  mgpy_types *types = ctx;
  PyTypeObject *type = Py_TYPE(object);
  type_slot *slot = types->last;

  if (slot == NULL || slot->type != type) {
    slot = type_find(types, type);
    if (slot == NULL) {
      types->passed_over++;
      return false;
    }
    types->last = slot;
  }
  slot->count++;
  slot->bytes += slot->sizing == TYPE_BASIC
                     ? slot->basic_bytes
                     : type_more_bytes(types, slot, object);
  return types->used_count < TYPE_MOST;
}

/* For a walk that goes on whatever type_visit() says. */
static bool type_visit_at_once(PyObject *object, void *ctx) {
#ifndef Py_GIL_DISABLED
  if (!type_visit(object, ctx)) type_add_up(ctx);
  return true;
#else
  return type_visit(object, ctx);
#endif
}

mgpy_types *mgpy_types_open(mg_census *census) {
  mgpy_types *types = PyMem_RawCalloc(1, sizeof *types);

  if (types == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  types->census = census;
  types->dict_size = type_dict_size();
  return types;
}

void mgpy_types_close(mgpy_types *types) {
  PyMem_RawFree(types);
}

mgpy_walk_state mgpy_types_slice(mgpy_types *types, mgpy_walk *walk,
                                 Py_ssize_t most) {
  uint64_t began_ns = mg_clock_ns();
  mgpy_walk_state st = mgpy_walk_slice(
      walk, most, walk->lists == NULL ? type_visit_at_once : type_visit, types);

  type_add_up(types);
  if (st == MGPY_WALK_ANEW) mg_census_clear(types->census);
  mgpy_walk_held(walk, began_ns);
  return st;
}
