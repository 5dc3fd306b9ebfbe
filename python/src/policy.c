/* policy.c - mg_policy as an object, for memguard.decide. */
#include "memguard_python.h"

#include "memguard/policy.h"

typedef struct policy_object {
  PyObject_HEAD
  mgpy_state *state;
  mg_config config;
  mg_policy policy;
} policy_object;

static PyObject *policy_new(PyTypeObject *type, PyObject *args,
                            PyObject *keywords) {
  static char *names[] = {"settings", NULL};
  mgpy_state *state = mgpy_state_of(type);
  const mg_config *config;
  policy_object *self;
  PyObject *settings;

  if (!PyArg_ParseTupleAndKeywords(args, keywords, "O:Policy", names,
                                   &settings) ||
      state == NULL)
    return NULL;
  config = mgpy_settings_get(state, settings);
  if (config == NULL) return NULL;
  self = (policy_object *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->state = state;
  self->config = *config;
  mg_policy_init(&self->policy);
  return (PyObject *)self;
}

static void policy_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  type->tp_free(self);
  Py_DECREF(type);
}

/* ---- methods ------------------------------------------------------------- */

/* _next(now_ms, usage, level, limit_bytes, grown_bytes, available) */
static PyObject *policy_next(PyObject *object, PyObject *args) {
  policy_object *self = (policy_object *)object;
  PyObject *level, *limit, *grown, *available;
  mg_decision d;
  mg_policy_view v = {0};

  if (!PyArg_ParseTuple(args, "ddOOOO:_next", &v.now_ms, &v.usage, &level,
                        &limit, &grown, &available) ||
      mgpy_level_read(self->state, level, &v.level) < 0 ||
      mgpy_number_read(limit, &v.limit_bytes) < 0 ||
      mgpy_number_read(grown, &v.grown_bytes) < 0 ||
      mgpy_actions_read(self->state, available, "available must be a sequence",
                        &v.available) < 0)
    return NULL;
  d = mg_policy_next(&self->policy, &self->config, &v);
  return Py_BuildValue("(ssOdNN)", mg_action_name(d.action),
                       mg_reason_name(d.reason), self->state->levels[d.level],
                       d.share, PyBool_FromLong(d.begins_round),
                       PyBool_FromLong(d.ended_round));
}

/* _done(action, was_done, took_ms, gc_ms, freed_bytes, used_bytes, usage_after,
 *       now_ms) */
static PyObject *policy_done(PyObject *object, PyObject *args) {
  policy_object *self = (policy_object *)object;
  PyObject *name, *freed, *used;
  mg_outcome o = {0};
  mg_action action;
  double now_ms;
  int was_done;

  if (!PyArg_ParseTuple(args, "OpddOOdd:_done", &name, &was_done, &o.took_ms,
                        &o.gc_ms, &freed, &used, &o.usage_after, &now_ms) ||
      mgpy_action_read(self->state, name, &action) < 0 ||
      mgpy_number_read(freed, &o.freed_bytes) < 0 ||
      mgpy_number_read(used, &o.used_bytes) < 0)
    return NULL;
  o.was_done = was_done != 0;
  mg_policy_done(&self->policy, &self->config, action, &o, now_ms);
  Py_RETURN_NONE;
}

static PyObject *policy_spent(PyObject *object, PyObject *args) {
  double gc_ms;

  if (!PyArg_ParseTuple(args, "d:spent", &gc_ms)) return NULL;
  mg_policy_spent(&((policy_object *)object)->policy, gc_ms);
  Py_RETURN_NONE;
}

static PyObject *policy_may_collect(PyObject *object, PyObject *args) {
  policy_object *self = (policy_object *)object;
  double gc_ms, now_ms;
  PyObject *name;
  mg_level level;

  if (!PyArg_ParseTuple(args, "Odd:may_collect", &name, &gc_ms, &now_ms) ||
      mgpy_level_read(self->state, name, &level) < 0)
    return NULL;
  return PyBool_FromLong(mg_policy_may_collect(&self->policy, &self->config,
                                               level, gc_ms, now_ms));
}

static PyObject *policy_get_time_to_limit(PyObject *object, void *closure) {
  double ms = mg_policy_time_to_limit_ms(&((policy_object *)object)->policy);
  (void)closure;

  if (ms < 0) Py_RETURN_NONE;
  return PyFloat_FromDouble(ms);
}

static PyObject *policy_get_is_unreclaimable(PyObject *object, void *closure) {
  (void)closure;
  return PyBool_FromLong(((policy_object *)object)->policy.is_unreclaimable);
}

static PyMethodDef policy_methods[] = {
    {"_next", policy_next, METH_VARARGS, NULL},
    {"_done", policy_done, METH_VARARGS, NULL},
    {"spent", policy_spent, METH_VARARGS,
     "spent(gc_ms)\n--\n\n"
     "Counts collection time that was spent without asking."},
    {"may_collect", policy_may_collect, METH_VARARGS,
     "may_collect(level, gc_ms, now_ms)\n--\n\n"
     "Whether a collection that takes gc_ms fits into the budget now."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef policy_attributes[] = {
    {"time_to_limit_ms", policy_get_time_to_limit, NULL,
     "time to the limit at the present pace; 0 once it is reached, None if "
     "usage does not grow or too little is known",
     NULL},
    {"is_unreclaimable", policy_get_is_unreclaimable, NULL,
     "whether it has given up collecting", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot policy_slots[] = {
    MGPY_SLOT(Py_tp_new, policy_new),
    MGPY_SLOT(Py_tp_dealloc, policy_dealloc),
    {Py_tp_methods, policy_methods},
    {Py_tp_getset, policy_attributes},
    {Py_tp_doc, (void *)"Base of memguard.decide.Policy."},
    {0, NULL}};

static PyType_Spec policy_spec = {
    "memguard._core.Policy", sizeof(policy_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, policy_slots};

int mgpy_add_policy(PyObject *module, mgpy_state *state) {
  return mgpy_add_type(module, &policy_spec, &state->policy_type);
}
