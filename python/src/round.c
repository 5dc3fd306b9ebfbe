/* round.c - what the reclaim engine did, as dicts, and having it act by hand.
 *
 * Keys are the fields of mg_round, mg_step and mg_reclaim_stats; None is absent. */
#include "memguard_python.h"

static mgpy_core *round_core(PyObject *self) {
  mgpy_monitor *m = (mgpy_monitor *)self;

  return mgpy_core_check(m->state, m->core, "MemoryMonitor") ? m->core : NULL;
}

/* ---- dicts -------------------------------------------------------------- */

static PyObject *round_step(const mg_step *step) {
  return Py_BuildValue("{s:s,s:O,s:d,s:d,s:K}", "action",
                       mg_action_name(step->action), "was_done",
                       step->was_done ? Py_True : Py_False, "took_ms",
                       step->took_ms, "gc_ms", step->gc_ms, "freed_bytes",
                       (unsigned long long)step->freed_bytes);
}

static PyObject *round_steps(const mg_round *round) {
  PyObject *made = PyList_New((Py_ssize_t)round->steps);

  for (uint32_t i = 0; made != NULL && i < round->steps; i++) {
    PyObject *step = round_step(&round->step[i]);
    if (step == NULL) Py_CLEAR(made);
    else PyList_SET_ITEM(made, (Py_ssize_t)i, step);
  }
  return made;
}

static PyObject *round_dict(const mg_round *round) {
  return Py_BuildValue(
      "{s:K,s:K,s:s,s:s,s:d,s:d,s:d,s:d,s:N,s:N,s:N,s:N,s:K,s:O,s:N}", "number",
      (unsigned long long)round->number, "unix_ms",
      (unsigned long long)round->unix_ms, "reason",
      mg_reason_name(round->reason), "level", mg_level_name(round->level),
      "took_ms", round->took_ms, "gc_ms", round->gc_ms, "usage_before",
      round->usage_before, "usage_after", round->usage_after,
      "rss_before_bytes", mgpy_number(round->rss_before_bytes),
      "rss_after_bytes", mgpy_number(round->rss_after_bytes),
      "heap_before_bytes", mgpy_number(round->heap_before_bytes),
      "heap_after_bytes", mgpy_number(round->heap_after_bytes), "freed_bytes",
      (unsigned long long)round->freed_bytes, "is_unreclaimable",
      round->is_unreclaimable ? Py_True : Py_False, "steps",
      round_steps(round));
}

PyObject *mgpy_round_find(mgpy_state *state, uint64_t number) {
  mg_reclaim *engine = state->reclaim.engine;
  mg_round round;

  if (engine == NULL || !mg_reclaim_round(engine, number, &round))
    Py_RETURN_NONE;
  return round_dict(&round);
}

static PyObject *round_actions(const mg_reclaim_stats *stats) {
  PyObject *made = PyDict_New();

  for (int action = MG_ACTION_CACHES; made != NULL && action < MG_ACTIONS;
       action++) {
    PyObject *count = mgpy_number(stats->actions[action]);
    if (count == NULL ||
        PyDict_SetItemString(made, mg_action_name((mg_action)action), count) < 0)
      Py_CLEAR(made);
    Py_XDECREF(count);
  }
  return made;
}

static const char *round_reason_name(int reason) {
  return mg_reason_name((mg_reason)reason);
}

/* ---- methods of Monitor -------------------------------------------------- */

/* _reclaim(actions, reason, share): the round. */
PyObject *mgpy_monitor_reclaim(PyObject *self, PyObject *args) {
  mgpy_core *core = round_core(self);
  PyObject *actions, *reason_object;
  mg_round round;
  uint32_t bits;
  double share;
  int reason;

  if (core == NULL || !PyArg_ParseTuple(args, "OOd:_reclaim", &actions,
                                        &reason_object, &share))
    return NULL;
  if (mgpy_actions_read(core->state, actions, "actions must be a sequence",
                        &bits) < 0)
    return NULL;
  if (bits == 0)
    return mgpy_raise_format(core->state, MG_EINVAL, "no action is given");
  reason = mgpy_name_find(core->state, reason_object, "reason",
                          round_reason_name, MG_REASON_NONE + 1, MG_REASONS);
  if (reason < 0) return NULL;
  if (!(share >= 0.0 && share <= 1.0))
    return mgpy_raise_format(core->state, MG_ERANGE,
                             "share is %R, allowed: 0.0 to 1.0",
                             PyTuple_GET_ITEM(args, 2));
  if (core->state->reclaim.engine == NULL)
    return mgpy_raise_format(core->state, MG_ECLOSED, "the interpreter ends");
  if (mgpy_reclaim_run(&core->state->reclaim, bits, (mg_reason)reason, share,
                       &round) < 0)
    return NULL;
  return round_dict(&round);
}

/* _rounds(max): the newest, oldest first. */
PyObject *mgpy_monitor_rounds(PyObject *self, PyObject *max_object) {
  mgpy_core *core = round_core(self);
  mg_round rounds[MG_ROUNDS];
  Py_ssize_t max, count = 0;
  PyObject *made;

  if (core == NULL) return NULL;
  max = PyNumber_AsSsize_t(max_object, PyExc_OverflowError);
  if (max == -1 && PyErr_Occurred()) return NULL;
  if (max > (Py_ssize_t)MG_ROUNDS) max = MG_ROUNDS;
  if (max > 0 && core->state->reclaim.engine != NULL)
    count = (Py_ssize_t)mg_reclaim_rounds(core->state->reclaim.engine, rounds,
                                          (size_t)max);
  made = PyList_New(count);
  for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
    PyObject *one = round_dict(&rounds[i]);
    if (one == NULL) Py_CLEAR(made);
    else PyList_SET_ITEM(made, i, one);
  }
  return made;
}

PyObject *mgpy_monitor_reclaim_stats(PyObject *self, PyObject *unused) {
  mgpy_core *core = round_core(self);
  mg_reclaim_stats s = {.time_to_limit_ms = -1.0};
  (void)unused;

  if (core == NULL) return NULL;
  if (core->state->reclaim.engine != NULL)
    mg_reclaim_read_stats(core->state->reclaim.engine, &s);
  return Py_BuildValue(
      "{s:K,s:K,s:N,s:K,s:K,s:d,s:d,s:O,s:N}", "rounds",
      (unsigned long long)s.rounds, "useful_rounds",
      (unsigned long long)s.useful_rounds, "actions", round_actions(&s),
      "failed", (unsigned long long)s.failed, "freed_bytes",
      (unsigned long long)s.freed_bytes, "took_ms", s.took_ms, "gc_ms", s.gc_ms,
      "is_unreclaimable", s.is_unreclaimable ? Py_True : Py_False,
      "time_to_limit_ms",
      s.time_to_limit_ms < 0 ? Py_NewRef(Py_None)
                             : PyFloat_FromDouble(s.time_to_limit_ms));
}

/* _spent(gc_ms): collection time of the program's own, for the budget. */
PyObject *mgpy_monitor_spent(PyObject *self, PyObject *gc_ms_object) {
  mgpy_core *core = round_core(self);
  double gc_ms = PyFloat_AsDouble(gc_ms_object);

  if (core == NULL || (gc_ms == -1.0 && PyErr_Occurred())) return NULL;
  if (core->state->reclaim.engine != NULL && gc_ms > 0)
    mg_reclaim_spent(core->state->reclaim.engine, gc_ms);
  Py_RETURN_NONE;
}
