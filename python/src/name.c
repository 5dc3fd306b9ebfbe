/* name.c - names of the core's lists, as the host gives them. */
#include "memguard_python.h"

#include <string.h>

const char *mgpy_name(mgpy_state *state, PyObject *object, const char *what) {
  const char *text;
  Py_ssize_t bytes;

  if (!PyUnicode_Check(object)) {
    mgpy_raise_format(state, MG_ETYPE, "%s is %R, allowed: a str", what,
                      object);
    return NULL;
  }
  text = PyUnicode_AsUTF8AndSize(object, &bytes);
  if (text != NULL && strlen(text) == (size_t)bytes) return text;
  if (text == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeError)) return NULL;
  PyErr_Clear();
  mgpy_raise_format(state, MG_EINVAL,
                    "%s is %R, allowed: text without NUL and surrogates", what,
                    object);
  return NULL;
}

int mgpy_name_find(mgpy_state *state, PyObject *object, const char *what,
                   const char *(*name_of)(int), int first, int count) {
  const char *name = mgpy_name(state, object, what);
  PyObject *allowed;

  if (name == NULL) return -1;
  for (int i = first; i < count; i++)
    if (strcmp(name_of(i), name) == 0) return i;
  allowed = PyUnicode_FromString(name_of(first));
  for (int i = first + 1; allowed != NULL && i < count; i++) {
    PyObject *longer = PyUnicode_FromFormat("%U, %s", allowed, name_of(i));
    Py_DECREF(allowed);
    allowed = longer;
  }
  if (allowed != NULL)
    mgpy_raise_format(state, MG_EINVAL, "%s is %R, allowed: %U", what, object,
                      allowed);
  Py_XDECREF(allowed);
  return -1;
}

/* ---- lists that several functions take --------------------------------- */

static const char *name_of_level(int level) {
  return mg_level_name((mg_level)level);
}

static const char *name_of_action(int action) {
  return mg_action_name((mg_action)action);
}

int mgpy_level_read(mgpy_state *state, PyObject *object, mg_level *out) {
  int level = mgpy_name_find(state, object, "level", name_of_level,
                             MG_LEVEL_NORMAL, MG_LEVELS);

  if (level < 0) return -1;
  *out = (mg_level)level;
  return 0;
}

int mgpy_action_read(mgpy_state *state, PyObject *object, mg_action *out) {
  int action = mgpy_name_find(state, object, "action", name_of_action,
                              MG_ACTION_NONE + 1, MG_ACTIONS);

  if (action < 0) return -1;
  *out = (mg_action)action;
  return 0;
}

int mgpy_actions_read(mgpy_state *state, PyObject *object, const char *refusal,
                      uint32_t *out) {
  PyObject *names = PySequence_Fast(object, refusal);
  mg_action action;
  int st = 0;

  if (names == NULL) return -1;
  *out = 0;
  for (Py_ssize_t i = 0; st == 0 && i < PySequence_Fast_GET_SIZE(names); i++) {
    st = mgpy_action_read(state, PySequence_Fast_GET_ITEM(names, i), &action);
    if (st == 0) *out |= MG_ACTION_BIT(action);
  }
  Py_DECREF(names);
  return st;
}
