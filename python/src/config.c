/* config.c - memguard._core.Settings, one mg_config.
 *
 * python/memguard/config.py walks mappings and files; every rule about a key or
 * a value is the core's. */
#include "memguard_python.h"

#include <math.h>

typedef struct config_object {
  PyObject_HEAD
  mgpy_state *state;
  mg_config config;
} config_object;

static config_object *config_new(PyTypeObject *type) {
  mgpy_state *state = mgpy_state_of(type);
  config_object *self;

  if (state == NULL) return NULL;
  self = (config_object *)type->tp_alloc(type, 0);
  if (self != NULL) self->state = state;
  return self;
}

PyObject *mgpy_settings_new(mgpy_state *state, const mg_config *config) {
  config_object *self = config_new(state->settings_type);

  if (self != NULL) self->config = *config;
  return (PyObject *)self;
}

const mg_config *mgpy_settings_get(mgpy_state *state, PyObject *object) {
  if (PyObject_TypeCheck(object, state->settings_type))
    return &((config_object *)object)->config;
  mgpy_raise_format(state, MG_ETYPE, "%R is no Settings", object);
  return NULL;
}

/* Settings(profile="default") */
static PyObject *config_make(PyTypeObject *type, PyObject *args,
                             PyObject *keywords) {
  static char *names[] = {"profile", NULL};
  mg_profile profile = MG_PROFILE_DEFAULT;
  mg_error err = MG_ERROR_INIT;
  PyObject *name_object = NULL;
  config_object *self;
  const char *name;

  if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:Settings", names,
                                   &name_object))
    return NULL;
  self = config_new(type);
  if (self == NULL) return NULL;
  if (name_object != NULL) {
    name = mgpy_name(self->state, name_object, "profile");
    if (name == NULL) goto fail_self;
    if (mg_profile_find(&profile, name, &err) != MG_OK) {
      mgpy_raise(self->state, &err);
      goto fail_self;
    }
  }
  mg_config_init(&self->config, profile);
  return (PyObject *)self;

fail_self:
  Py_DECREF(self);
  return NULL;
}

static void config_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  type->tp_free(self);
  Py_DECREF(type);
}

/* ---- values ------------------------------------------------------------ */

/* A number of any type that converts; an int too large for a double counts as
 * infinite, which is out of every range. @return 0, or -1 and an error. */
static int config_number(PyObject *value, double *out) {
  PyObject *made = PyNumber_Float(value);

  if (made != NULL) {
    *out = PyFloat_AS_DOUBLE(made);
    Py_DECREF(made);
    return 0;
  }
  if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return -1;
  PyErr_Clear();
  *out = INFINITY;
  return 0;
}

static const char *config_kind(PyObject *value) {
  if (value == Py_None) return "None";
  if (PyDict_Check(value)) return "a mapping";
  return Py_TYPE(value)->tp_name;
}

static bool config_is_number(PyObject *value) {
  const PyNumberMethods *number = Py_TYPE(value)->tp_as_number;

  return number != NULL &&
         (number->nb_float != NULL || number->nb_index != NULL);
}

/* @return MG_OK, a failure with `err`, or a failure with a Python error set. */
static mg_status config_store(config_object *self, const char *path,
                              PyObject *value, mg_error *err) {
  const char *text;
  double number;

  if (PyBool_Check(value))
    return mg_config_set_bool(&self->config, path, value == Py_True, err);
  if (PyUnicode_Check(value)) {
    text = mgpy_name(self->state, value, path);
    return text == NULL ? MG_EINVAL
                        : mg_config_set_text(&self->config, path, text, err);
  }
  if (!config_is_number(value))
    return mg_config_refuse(path, config_kind(value), err);
  if (config_number(value, &number) < 0) return MG_EINVAL;
  return mg_config_set_number(&self->config, path, number, err);
}

static PyObject *config_set(PyObject *self, PyObject *args) {
  config_object *s = (config_object *)self;
  mg_error err = MG_ERROR_INIT;
  PyObject *path_object, *value;
  const char *path;

  if (!PyArg_ParseTuple(args, "OO:set", &path_object, &value)) return NULL;
  path = mgpy_name(s->state, path_object, "a configuration key");
  if (path == NULL) return NULL;
  if (config_store(s, path, value, &err) == MG_OK) Py_RETURN_NONE;
  return PyErr_Occurred() ? NULL : mgpy_raise(s->state, &err);
}

static PyObject *config_get(PyObject *self, PyObject *path_object) {
  config_object *s = (config_object *)self;
  mg_error err = MG_ERROR_INIT;
  mg_config_id id;
  const char *path;

  path = mgpy_name(s->state, path_object, "a configuration key");
  if (path == NULL) return NULL;
  if (mg_config_find(&id, path, &err) != MG_OK)
    return mgpy_raise(s->state, &err);
  return PyFloat_FromDouble(mg_config_get(&s->config, id));
}

/* The strings of `variables`, owned by `encoded`, as the core wants them. */
static int config_environment(mgpy_state *state, mg_config *config,
                              PyObject *encoded) {
  Py_ssize_t count = PyList_GET_SIZE(encoded);
  const char **block = PyMem_New(const char *, (size_t)count + 1);
  mg_error err = MG_ERROR_INIT;
  mg_status st;

  if (block == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  for (Py_ssize_t i = 0; i < count; i++)
    block[i] = PyBytes_AS_STRING(PyList_GET_ITEM(encoded, i));
  block[count] = NULL;
  st = mg_config_set_environment(config, block, &err);
  PyMem_Free(block);
  if (st == MG_OK) return 0;
  mgpy_raise(state, &err);
  return -1;
}

/* set_environment(["NAME=value", ...]) */
static PyObject *config_set_environment(PyObject *self, PyObject *variables) {
  config_object *s = (config_object *)self;
  PyObject *encoded = PyList_New(0), *items;
  int st = -1;

  if (encoded == NULL) return NULL;
  items = PySequence_Fast(variables, "a list of \"NAME=value\" is needed");
  if (items == NULL) goto done;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items); i++) {
    PyObject *bytes =
        PyUnicode_EncodeFSDefault(PySequence_Fast_GET_ITEM(items, i));
    int added = bytes == NULL ? -1 : PyList_Append(encoded, bytes);
    Py_XDECREF(bytes);
    if (added < 0) goto done;
  }
  st = config_environment(s->state, &s->config, encoded);

done:
  Py_XDECREF(items);
  Py_DECREF(encoded);
  return st < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *config_check(PyObject *self, PyObject *unused) {
  config_object *s = (config_object *)self;
  mg_error err = MG_ERROR_INIT;
  (void)unused;

  if (mg_config_check(&s->config, &err) != MG_OK)
    return mgpy_raise(s->state, &err);
  Py_RETURN_NONE;
}

static PyObject *config_copy(PyObject *self, PyObject *unused) {
  config_object *s = (config_object *)self;
  (void)unused;
  return mgpy_settings_new(s->state, &s->config);
}

static PyObject *config_get_profile(PyObject *self, void *closure) {
  (void)closure;
  return PyUnicode_FromString(
      mg_profile_name(((config_object *)self)->config.profile));
}

static const char *config_type_name(mg_config_type type) {
  switch (type) {
    case MG_CONFIG_BOOL: return "bool";
    case MG_CONFIG_COUNT: return "count";
    case MG_CONFIG_MB: return "mb";
    case MG_CONFIG_PERCENT: return "percent";
    case MG_CONFIG_RATIO: return "ratio";
    case MG_CONFIG_DURATION: return "duration";
    case MG_CONFIG_RATE: return "rate";
    case MG_CONFIG_LEAK_CHECK: return "leak_check";
  }
  return "number";
}

static PyObject *config_rows(PyObject *self, PyObject *unused) {
  const mg_config *config = &((config_object *)self)->config;
  PyObject *made = PyList_New(0);
  (void)unused;

  for (int id = 0; made != NULL && id < MG_CONFIG_IDS; id++) {
    const mg_config_row *row = mg_config_row_at((mg_config_id)id);
    PyObject *item =
        Py_BuildValue("(sssd)", row->section, row->name,
                      config_type_name(row->type), config->value[id]);
    if (item == NULL || PyList_Append(made, item) < 0) Py_CLEAR(made);
    Py_XDECREF(item);
  }
  return made;
}

/* ---- names ------------------------------------------------------------- */

static PyObject *config_is_section(PyObject *type, PyObject *name_object) {
  mgpy_state *state = mgpy_state_of((PyTypeObject *)type);
  const char *name;

  if (state == NULL) return NULL;
  name = mgpy_name(state, name_object, "a configuration key");
  return name == NULL ? NULL : PyBool_FromLong(mg_config_is_section(name));
}

static PyObject *config_is_key(PyObject *type, PyObject *path_object) {
  mgpy_state *state = mgpy_state_of((PyTypeObject *)type);
  const char *path;
  mg_config_id id;

  if (state == NULL) return NULL;
  path = mgpy_name(state, path_object, "a configuration key");
  return path == NULL ? NULL
                      : PyBool_FromLong(mg_config_find(&id, path, NULL) == MG_OK);
}

/* ---- type -------------------------------------------------------------- */

static PyMethodDef config_methods[] = {
    {"set", config_set, METH_VARARGS,
     "set(path, value)\n--\n\nSets one key: a bool, a number or a str."},
    {"get", config_get, METH_O,
     "get(path)\n--\n\nThe stored number: durations in ms, booleans 0 or 1."},
    {"set_environment", config_set_environment, METH_O,
     "set_environment(variables)\n--\n\n"
     "Sets keys from a list of \"NAME=value\"; all or none."},
    {"check", config_check, METH_NOARGS,
     "check()\n--\n\nApplies the rules between keys; raises ConflictError."},
    {"copy", config_copy, METH_NOARGS, "copy()\n--\n\nAn independent copy."},
    {"rows", config_rows, METH_NOARGS,
     "rows()\n--\n\nA list of (section, name, type, stored number)."},
    {"is_section", config_is_section, METH_O | METH_CLASS,
     "is_section(name)\n--\n\nWhether keys may stand in a mapping so named."},
    {"is_key", config_is_key, METH_O | METH_CLASS,
     "is_key(path)\n--\n\nWhether there is such a key."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef config_attributes[] = {
    {"profile", config_get_profile, NULL, "Name of the profile below it all.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot config_slots[] = {
    MGPY_SLOT(Py_tp_new, config_make),
    MGPY_SLOT(Py_tp_dealloc, config_dealloc),
    {Py_tp_methods, config_methods},
    {Py_tp_getset, config_attributes},
    {Py_tp_doc, (void *)"One set of settings, starting out as a profile's."},
    {0, NULL}};

static PyType_Spec config_spec = {
    "memguard._core.Settings", sizeof(config_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, config_slots};

int mgpy_add_settings(PyObject *module, mgpy_state *state) {
  return mgpy_add_type(module, &config_spec, &state->settings_type);
}
