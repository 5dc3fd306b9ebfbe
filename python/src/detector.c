/* detector.c - memguard._core.Detector: a leak detector joined to a monitor.
 *
 * All detectors of an interpreter are in one list, so that the callback of gc.c
 * can tell them of full collections. It is guarded by a lock that the callback
 * only tries: a collection that meets an opening or a closing is not told. */
#include "memguard_python.h"

#include "memguard/detector.h"

typedef struct mgpy_detector {
  PyObject_HEAD
  PyObject *weak_references;
  mgpy_state *state;
  mgpy_core *core;
  mg_detector *detector; /* NULL until opened; freed with the object */
  _Atomic bool is_closed;
  uint64_t collections;  /* told of blocks after so many */
  struct mgpy_detector *next;
} mgpy_detector;

static mgpy_detector *detector_of(PyObject *self) {
  mgpy_detector *d = (mgpy_detector *)self;

  if (d->detector != NULL && !atomic_load(&d->is_closed)) return d;
  mgpy_raise_format(d->state, MG_ECLOSED,
                    d->detector == NULL ? "LeakDetector was not opened"
                                        : "LeakDetector is closed");
  return NULL;
}

/* ---- collections ----------------------------------------------------------- */

static void detector_heap(void *ctx, mg_heap *out) {
  mgpy_allocator counted;
  (void)ctx;

  mgpy_allocator_read(&counted);
  if (counted.arena_bytes == MG_ABSENT) return;
  out->total_bytes = counted.arena_bytes + counted.large_bytes;
}

/* Of a heap that was just collected, what its arenas and large blocks hold is
 * alive, but for holes. */
void mgpy_detectors_collected(mgpy_state *state, uint64_t took_ns) {
  mg_heap heap = MG_HEAP_INIT;

  if (atomic_load_explicit(&state->detectors.count, memory_order_relaxed) == 0 ||
      pthread_mutex_trylock(&state->detectors.lock) != 0)
    return;
  detector_heap(NULL, &heap);
  for (mgpy_detector *d = state->detectors.first; d != NULL; d = d->next)
    mg_detector_collected(d->detector, heap.total_bytes, MG_ABSENT,
                          (double)took_ns / 1e6, true);
  pthread_mutex_unlock(&state->detectors.lock);
}

static void detector_link(mgpy_detector *d) {
  mgpy_detectors *list = &d->state->detectors;

  pthread_mutex_lock(&list->lock);
  d->next = list->first;
  list->first = d;
  atomic_fetch_add(&list->count, 1);
  pthread_mutex_unlock(&list->lock);
}

static void detector_unlink(mgpy_detector *d) {
  mgpy_detectors *list = &d->state->detectors;
  mgpy_detector **at = (mgpy_detector **)&list->first;

  pthread_mutex_lock(&list->lock);
  while (*at != d) at = &(*at)->next;
  *at = d->next;
  atomic_fetch_sub(&list->count, 1);
  pthread_mutex_unlock(&list->lock);
}

/* sys.getallocatedblocks() takes 0.1 ms and gives an object: not for a collector's
 * callback. So blocks are told at the first call after a full collection. */
static int detector_tell_blocks(mgpy_detector *d) {
  PyObject *count, *function = PySys_GetObject("getallocatedblocks");
  mg_detector_stats stats;
  long long blocks;

  mg_detector_read_stats(d->detector, &stats);
  if (function == NULL || stats.collections == d->collections) return 0;
  d->collections = stats.collections;
  count = PyObject_CallNoArgs(function);
  if (count == NULL) return -1;
  blocks = PyLong_AsLongLong(count);
  Py_DECREF(count);
  if (blocks == -1 && PyErr_Occurred()) return -1;
  if (blocks > 0)
    mg_detector_collected(d->detector, MG_ABSENT, (uint64_t)blocks, -1.0, true);
  return 0;
}

/* ---- life -------------------------------------------------------------------- */

static PyObject *detector_new(PyTypeObject *type, PyObject *args,
                              PyObject *keywords) {
  mgpy_state *state = mgpy_state_of(type);
  mgpy_detector *self;
  (void)args;
  (void)keywords;

  if (state == NULL) return NULL;
  self = (mgpy_detector *)type->tp_alloc(type, 0);
  if (self != NULL) self->state = state;
  return (PyObject *)self;
}

static int detector_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

/* It leaves the monitor; who is in a call of it may go on. */
static void detector_end(mgpy_detector *d) {
  if (d->detector == NULL || atomic_exchange(&d->is_closed, true)) return;
  detector_unlink(d);
  Py_BEGIN_ALLOW_THREADS
  mg_detector_leave(d->detector);
  Py_END_ALLOW_THREADS
}

static void detector_dealloc(PyObject *self) {
  mgpy_detector *d = (mgpy_detector *)self;
  PyTypeObject *type = Py_TYPE(self);

  PyObject_GC_UnTrack(self);
  if (d->weak_references != NULL) PyObject_ClearWeakRefs(self);
  detector_end(d);
  mg_detector_close(d->detector);
  mgpy_core_release(d->core);
  type->tp_free(self);
  Py_DECREF(type);
}

/* Names of requests, as bits. @return 0, or -1 and an error. */
static int detector_read_answers(mgpy_state *state, PyObject *names,
                                 uint32_t *out) {
  PyObject *list = PySequence_Fast(names, "answers must be a sequence of names");
  int st = list == NULL ? -1 : 0;

  *out = 0;
  for (Py_ssize_t i = 0; st == 0 && i < PySequence_Fast_GET_SIZE(list); i++) {
    const char *name =
        mgpy_name(state, PySequence_Fast_GET_ITEM(list, i), "a request");
    uint32_t bit = 0;
    for (int at = 0; name != NULL && at < MG_REQUEST_BITS; at++)
      if (strcmp(name, mg_request_name((mg_request)(1 << at))) == 0)
        bit = UINT32_C(1) << at;
    if (name != NULL && bit == 0)
      mgpy_raise_format(state, MG_EINVAL, "unknown request \"%s\"", name);
    if (bit == 0) st = -1;
    *out |= bit;
  }
  Py_XDECREF(list);
  return st;
}

/* _open(monitor, answers) */
static PyObject *detector_open(PyObject *self, PyObject *args) {
  mgpy_detector *d = (mgpy_detector *)self;
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  PyObject *monitor, *answers;
  mgpy_core *core;

  if (!PyArg_ParseTuple(args, "O!O:_open", d->state->monitor_type, &monitor,
                        &answers))
    return NULL;
  if (d->core != NULL)
    return mgpy_raise_format(d->state, MG_ECONFLICT, "already open");
  core = ((mgpy_monitor *)monitor)->core;
  if (!mgpy_core_check(d->state, core, "MemoryMonitor") ||
      detector_read_answers(d->state, answers, &options.answers) < 0)
    return NULL;
  options.read_heap = detector_heap;
  if (mg_detector_open(&d->detector, core->monitor, &options, &err) != MG_OK)
    return mgpy_raise(d->state, &err);
  d->core = mgpy_core_share(core);
  detector_link(d);
  Py_RETURN_NONE;
}

static PyObject *detector_close(PyObject *self, PyObject *unused) {
  (void)unused;
  detector_end((mgpy_detector *)self);
  Py_RETURN_NONE;
}

static PyObject *detector_get_closed(PyObject *self, void *closure) {
  (void)closure;
  return PyBool_FromLong(((mgpy_detector *)self)->detector == NULL ||
                         atomic_load(&((mgpy_detector *)self)->is_closed));
}

static PyObject *detector_get_active(PyObject *self, void *closure) {
  mgpy_detector *d = (mgpy_detector *)self;
  (void)closure;
  return PyBool_FromLong(d->detector != NULL && mgpy_core_usable(d->core) &&
                         mg_detector_is_active(d->detector));
}

static PyObject *detector_get_waiting(PyObject *self, void *closure) {
  mgpy_detector *d = (mgpy_detector *)self;
  (void)closure;
  return PyBool_FromLong(d->detector != NULL &&
                         mg_detector_has_request(d->detector));
}

static PyObject *detector_set_active(PyObject *self, PyObject *active) {
  mgpy_detector *d = detector_of(self);
  int is_active = PyObject_IsTrue(active);

  if (d == NULL || is_active < 0) return NULL;
  mg_detector_set_active(d->detector, is_active);
  Py_RETURN_NONE;
}

/* ---- telling and asking -------------------------------------------------------- */

/* _check(): a wide reading and a judgement now */
static PyObject *detector_check(PyObject *self, PyObject *unused) {
  mgpy_detector *d = detector_of(self);
  (void)unused;

  if (d == NULL || detector_tell_blocks(d) < 0) return NULL;
  mg_detector_check(d->detector);
  Py_RETURN_NONE;
}

static const char *detector_signal_name(int series) {
  return mg_detector_signal_name((uint32_t)series);
}

static int detector_signal(mgpy_state *state, PyObject *name) {
  return mgpy_name_find(state, name, "a signal", detector_signal_name, 0,
                        MG_LEAK_SIGNALS);
}

/* _tell(signal, value) */
static PyObject *detector_tell(PyObject *self, PyObject *args) {
  mgpy_detector *d = detector_of(self);
  mg_error err = MG_ERROR_INIT;
  PyObject *name, *number;
  uint64_t value;
  int series;

  if (d == NULL || !PyArg_ParseTuple(args, "OO:_tell", &name, &number))
    return NULL;
  series = detector_signal(d->state, name);
  if (series < 0 || mgpy_number_read(number, &value) < 0) return NULL;
  if (mg_detector_tell(d->detector, (uint32_t)series, value, &err) != MG_OK)
    return mgpy_raise(d->state, &err);
  Py_RETURN_NONE;
}

/* _collected(live_bytes, live_blocks, duration_ms): what gc.c tells by itself,
 * for a program that collects in its own way. */
static PyObject *detector_collected(PyObject *self, PyObject *args) {
  mgpy_detector *d = detector_of(self);
  PyObject *bytes_object, *blocks_object;
  uint64_t bytes, blocks;
  double duration_ms;

  if (d == NULL || !PyArg_ParseTuple(args, "OOd:_collected", &bytes_object,
                                     &blocks_object, &duration_ms))
    return NULL;
  if (mgpy_number_read(bytes_object, &bytes) < 0 ||
      mgpy_number_read(blocks_object, &blocks) < 0)
    return NULL;
  mg_detector_collected(d->detector, bytes, blocks, duration_ms, true);
  Py_RETURN_NONE;
}

static PyObject *detector_requests(uint32_t bits, uint32_t series) {
  PyObject *names = PyList_New(0);

  for (int at = 0; names != NULL && at < MG_REQUEST_BITS; at++) {
    PyObject *name;
    if ((bits >> at & 1) == 0) continue;
    name = PyUnicode_FromString(mg_request_name((mg_request)(1 << at)));
    if (name == NULL || PyList_Append(names, name) < 0) Py_CLEAR(names);
    Py_XDECREF(name);
  }
  if (names == NULL) return NULL;
  return Py_BuildValue("(Ns)", names, detector_signal_name((int)series));
}

/* _request(): (names of requests, signal) */
static PyObject *detector_request(PyObject *self, PyObject *unused) {
  mgpy_detector *d = detector_of(self);
  uint32_t series, bits;
  (void)unused;

  if (d == NULL || detector_tell_blocks(d) < 0) return NULL;
  bits = mg_detector_request(d->detector, &series);
  return detector_requests(bits, series);
}

static const char *detector_culprit_name(int kind) {
  return mg_culprit_name((mg_culprit_kind)kind);
}

/* One (kind, name, growth, growth_bytes, count, share). */
static int detector_read_culprit(mgpy_state *state, PyObject *row,
                                 mg_culprit *out) {
  long long growth, growth_bytes;
  unsigned long long count;
  PyObject *kind_object;
  const char *name;
  double share;
  int kind;

  if (!PyTuple_Check(row)) {
    PyErr_SetString(PyExc_TypeError, "a culprit must be a tuple");
    return -1;
  }
  if (!PyArg_ParseTuple(row, "OsLLKd:culprit", &kind_object, &name, &growth,
                        &growth_bytes, &count, &share))
    return -1;
  kind = mgpy_name_find(state, kind_object, "a culprit's kind",
                        detector_culprit_name, 0, MG_CULPRITS);
  if (kind < 0) return -1;
  *out = (mg_culprit){.kind = (mg_culprit_kind)kind,
                      .growth = growth,
                      .growth_bytes = growth_bytes,
                      .count = count,
                      .share = share};
  PyOS_snprintf(out->name, sizeof out->name, "%s", name);
  return 0;
}

/* _culprits(signal, [culprit, ...]): whether there is a finding for it */
static PyObject *detector_culprits(PyObject *self, PyObject *args) {
  mgpy_detector *d = detector_of(self);
  mg_culprit culprits[MG_CULPRITS_MAX];
  PyObject *name, *rows;
  Py_ssize_t count = 0;
  int series, st = 0;
  mg_status told;

  if (d == NULL || !PyArg_ParseTuple(args, "OO:_culprits", &name, &rows))
    return NULL;
  series = detector_signal(d->state, name);
  rows = series < 0 ? NULL : PySequence_Tuple(rows);
  if (rows == NULL) return NULL;
  while (st == 0 && count < PyTuple_GET_SIZE(rows) &&
         count < (Py_ssize_t)MG_CULPRITS_MAX) {
    st = detector_read_culprit(d->state, PyTuple_GET_ITEM(rows, count),
                               &culprits[count]);
    count++;
  }
  Py_DECREF(rows);
  if (st < 0) return NULL;
  told = mg_detector_culprits(d->detector, (uint32_t)series, culprits,
                              (size_t)count, NULL);
  return PyBool_FromLong(told == MG_OK);
}

/* ---- findings -------------------------------------------------------------------- */

static PyObject *detector_text(const char *text) {
  return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *detector_culprit_list(const mg_detector_finding *f) {
  PyObject *made = PyList_New(0);

  for (uint32_t i = 0; made != NULL && i < f->culprits; i++) {
    const mg_culprit *c = &f->culprit[i];
    PyObject *row = Py_BuildValue(
        "{s:s,s:N,s:L,s:L,s:K,s:d}", "kind", mg_culprit_name(c->kind), "name",
        detector_text(c->name), "growth", (long long)c->growth, "growth_bytes",
        (long long)c->growth_bytes, "count", (unsigned long long)c->count,
        "share", c->share);
    if (row == NULL || PyList_Append(made, row) < 0) Py_CLEAR(made);
    Py_XDECREF(row);
  }
  return made;
}

static PyObject *detector_advice_list(const mg_detector_finding *f) {
  PyObject *made = PyList_New(0);
  char text[MG_ADVICE_BYTES];

  for (size_t i = 0;
       made != NULL && mg_detector_advice(f, MG_RUNTIME_PYTHON, i, text); i++) {
    PyObject *line = detector_text(text);
    if (line == NULL || PyList_Append(made, line) < 0) Py_CLEAR(made);
    Py_XDECREF(line);
  }
  return made;
}

static PyObject *detector_dict(const mg_detector_finding *f) {
  const mg_leak_finding *leak = &f->leak;

  return Py_BuildValue(
      "{s:K,s:N,s:s,s:s,s:s,s:O,s:s,s:d,s:d,s:d,s:d,s:d,s:I,s:d,s:K,s:K,s:N,"
      "s:N}",
      "number", (unsigned long long)f->number, "signal",
      detector_text(leak->name), "unit", mg_leak_series_unit(leak->series),
      "tier", mg_leak_tier_name(leak->tier), "previous",
      mg_leak_tier_name(leak->previous), "is_critical",
      leak->is_critical ? Py_True : Py_False, "severity",
      mg_leak_severity_name(leak->severity), "growth", leak->growth,
      "growth_per_minute", leak->growth_per_minute, "base", leak->base,
      "latest", leak->latest, "to_limit_ms", leak->to_limit_ms, "octaves",
      (unsigned)leak->octaves, "window_ms", leak->window_ms, "since_unix_ms",
      (unsigned long long)f->since_unix_ms, "update_unix_ms",
      (unsigned long long)f->update_unix_ms, "culprits",
      detector_culprit_list(f), "advice", detector_advice_list(f));
}

/* _findings(): those that are not over, oldest first */
static PyObject *detector_findings(PyObject *self, PyObject *unused) {
  mgpy_detector *d = detector_of(self);
  mg_detector_finding *rows;
  PyObject *made;
  size_t count;
  (void)unused;

  if (d == NULL) return NULL;
  rows = PyMem_New(mg_detector_finding, MG_DETECTOR_FINDINGS);
  if (rows == NULL) return PyErr_NoMemory();
  count = mg_detector_findings(d->detector, rows, MG_DETECTOR_FINDINGS);
  made = PyList_New(0);
  for (size_t i = 0; made != NULL && i < count; i++) {
    PyObject *row = detector_dict(&rows[i]);
    if (row == NULL || PyList_Append(made, row) < 0) Py_CLEAR(made);
    Py_XDECREF(row);
  }
  PyMem_Free(rows);
  return made;
}

/* _finding(number): a dict, or None if it is not remembered */
static PyObject *detector_finding(PyObject *self, PyObject *number_object) {
  unsigned long long number = PyLong_AsUnsignedLongLong(number_object);
  mgpy_detector *d = detector_of(self);
  mg_detector_finding finding;

  if (PyErr_Occurred() || d == NULL) return NULL;
  if (!mg_detector_finding_at(d->detector, number, &finding)) Py_RETURN_NONE;
  return detector_dict(&finding);
}

static PyObject *detector_stats(PyObject *self, PyObject *unused) {
  mgpy_detector *d = detector_of(self);
  mg_detector_stats s;
  (void)unused;

  if (d == NULL) return NULL;
  mg_detector_read_stats(d->detector, &s);
  return Py_BuildValue(
      "{s:K,s:K,s:K,s:K,s:K,s:K,s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:d,s:d,s:d}",
      "samples", (unsigned long long)s.samples, "collections",
      (unsigned long long)s.collections, "wide", (unsigned long long)s.wide,
      "findings", (unsigned long long)s.findings, "withdrawn",
      (unsigned long long)s.withdrawn, "alarms", (unsigned long long)s.alarms,
      "private_bytes", mgpy_number(s.private_bytes), "native_bytes",
      mgpy_number(s.native_bytes), "sockets", mgpy_number(s.sockets), "pipes",
      mgpy_number(s.pipes), "files", mgpy_number(s.files), "others",
      mgpy_number(s.others), "mappings", mgpy_number(s.mappings), "wide_ms",
      s.wide_ms, "wide_every_ms", s.wide_every_ms, "fd_growth_per_minute",
      s.fd_growth_per_minute);
}

/* ---- type ------------------------------------------------------------------------ */

static PyMethodDef detector_methods[] = {
    {"_open", detector_open, METH_VARARGS, NULL},
    {"_close", detector_close, METH_NOARGS, NULL},
    {"_set_active", detector_set_active, METH_O, NULL},
    {"_check", detector_check, METH_NOARGS, NULL},
    {"_tell", detector_tell, METH_VARARGS, NULL},
    {"_collected", detector_collected, METH_VARARGS, NULL},
    {"_request", detector_request, METH_NOARGS, NULL},
    {"_culprits", detector_culprits, METH_VARARGS, NULL},
    {"_findings", detector_findings, METH_NOARGS, NULL},
    {"_finding", detector_finding, METH_O, NULL},
    {"_stats", detector_stats, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef detector_attributes[] = {
    {"_closed", detector_get_closed, NULL, NULL, NULL},
    {"_active", detector_get_active, NULL, NULL, NULL},
    {"_has_request", detector_get_waiting, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef detector_members[] = {
    {"__weaklistoffset__", T_PYSSIZET,
     offsetof(mgpy_detector, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot detector_slots[] = {
    MGPY_SLOT(Py_tp_new, detector_new),
    MGPY_SLOT(Py_tp_dealloc, detector_dealloc),
    MGPY_SLOT(Py_tp_traverse, detector_traverse),
    {Py_tp_methods, detector_methods},
    {Py_tp_getset, detector_attributes},
    {Py_tp_members, detector_members},
    {Py_tp_doc, (void *)"Base of memguard.LeakDetector."},
    {0, NULL}};

static PyType_Spec detector_spec = {
    "memguard._core.Detector", sizeof(mgpy_detector), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    detector_slots};

void mgpy_detectors_after_fork(mgpy_state *state) {
  pthread_mutex_init(&state->detectors.lock, NULL);
}

int mgpy_add_detector(PyObject *module, mgpy_state *state) {
  if (pthread_mutex_init(&state->detectors.lock, NULL) != 0) {
    PyErr_NoMemory();
    return -1;
  }
  return mgpy_add_type(module, &detector_spec, &state->detector_type);
}
