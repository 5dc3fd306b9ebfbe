/* pool_look.c - what a Pool tells: numbers, findings, suspects. */
#include "pool_parts.h"

#include <stddef.h>

/* Steals `value`. @return 0 or -1. */
static int pool_set(PyObject *dict, const char *name, PyObject *value) {
  int st = value == NULL ? -1 : PyDict_SetItemString(dict, name, value);

  Py_XDECREF(value);
  return st;
}

typedef struct pool_field {
  const char *name;
  size_t offset;
} pool_field;

#define POOL_FIELD(name) {#name, offsetof(mg_pool_stats, name)}
static const pool_field pool_fields[] = {
    POOL_FIELD(rented),         POOL_FIELD(returned),
    POOL_FIELD(lost),           POOL_FIELD(current),
    POOL_FIELD(current_bytes),  POOL_FIELD(held_bytes),
    POOL_FIELD(peak_held_bytes), POOL_FIELD(cache_hits),
    POOL_FIELD(plain),          POOL_FIELD(os_maps),
    POOL_FIELD(os_bytes),       POOL_FIELD(given_back_bytes),
    POOL_FIELD(sites_kept),     POOL_FIELD(suspected),
    POOL_FIELD(withdrawn),      POOL_FIELD(double_returns),
    POOL_FIELD(foreign_returns), POOL_FIELD(writes_after_return),
    POOL_FIELD(findings_lost)};

static PyObject *pool_tiers(const mg_pool_stats *stats) {
  PyObject *made = PyDict_New();

  for (int tier = 0; made != NULL && tier < MG_POOL_TIERS; tier++) {
    const mg_pool_tier_stats *t = &stats->tier[tier];
    PyObject *row = Py_BuildValue(
        "{s:K,s:K,s:K,s:K}", "rented", (unsigned long long)t->rented,
        "returned", (unsigned long long)t->returned, "current",
        (unsigned long long)t->current, "current_bytes",
        (unsigned long long)t->current_bytes);
    if (pool_set(made, mg_pool_tier_name((mg_pool_tier)tier), row) < 0)
      Py_CLEAR(made);
  }
  return made;
}

PyObject *mgpy_pool_stats(PyObject *object, PyObject *unused) {
  mgpy_pool *pool = mgpy_pool_get(object);
  PyObject *made;
  mg_pool_stats stats;
  int st;
  (void)unused;

  if (pool == NULL) return NULL;
  MGPY_POOL_ENTER(pool);
  mg_pool_read_stats(pool->core, &stats);
  MGPY_POOL_LEAVE(pool);
  made = PyDict_New();
  if (made == NULL) return NULL;
  st = pool_set(made, "tiers", pool_tiers(&stats));
  for (size_t i = 0; i < sizeof pool_fields / sizeof *pool_fields; i++) {
    const char *at = (const char *)&stats + pool_fields[i].offset;
    unsigned long long value = *(const uint64_t *)(const void *)at;
    if (st == 0)
      st = pool_set(made, pool_fields[i].name,
                    PyLong_FromUnsignedLongLong(value));
  }
  if (st == 0)
    st = pool_set(made, "deferred",
                  PyLong_FromUnsignedLongLong(atomic_load(&pool->deferred)));
  if (st == 0)
    st = pool_set(made, "deferred_now",
                  PyLong_FromUnsignedLongLong(atomic_load(&pool->deferred_now)));
  if (st < 0) Py_CLEAR(made);
  return made;
}

static PyObject *pool_finding(mgpy_pool *pool, const mg_finding *finding) {
  PyObject *site = mgpy_site_text(pool->state->pools->sites, finding->site);
  PyObject *capacity;

  if (site == NULL) return NULL;
  capacity = mgpy_number(finding->capacity == 0 ? MG_ABSENT : finding->capacity);
  return Py_BuildValue("{s:s,s:K,s:N,s:d,s:N}", "kind",
                       mg_finding_name(finding->kind), "count",
                       (unsigned long long)finding->count, "capacity", capacity,
                       "age_ms", finding->age_ms, "site", site);
}

static PyObject *pool_findings_of(mgpy_pool *pool, const mg_finding *findings,
                                  size_t count) {
  PyObject *made = PyList_New(0);

  for (size_t i = 0; made != NULL && i < count; i++) {
    PyObject *one = pool_finding(pool, &findings[i]);
    if (one == NULL || PyList_Append(made, one) < 0) Py_CLEAR(made);
    Py_XDECREF(one);
  }
  return made;
}

PyObject *mgpy_pool_findings(PyObject *object, PyObject *unused) {
  mgpy_pool *pool = mgpy_pool_get(object);
  mg_finding findings[MG_POOL_FINDINGS];
  size_t count;
  (void)unused;

  if (pool == NULL) return NULL;
  MGPY_POOL_ENTER(pool);
  count = mg_pool_take_findings(pool->core, findings, MG_POOL_FINDINGS);
  MGPY_POOL_LEAVE(pool);
  return pool_findings_of(pool, findings, count);
}

/* A time given by a test, or now. @return 0 or -1. */
static int pool_time(PyObject *args, double *out) {
  PyObject *given = Py_None;

  if (!PyArg_ParseTuple(args, "|O", &given)) return -1;
  *out = given == Py_None ? mg_clock_ms() : PyFloat_AsDouble(given);
  return *out == -1.0 && PyErr_Occurred() ? -1 : 0;
}

PyObject *mgpy_pool_suspects(PyObject *object, PyObject *args) {
  mgpy_pool *pool = mgpy_pool_get(object);
  mg_finding findings[MG_POOL_FINDINGS];
  double now_ms;
  size_t count;

  if (pool == NULL || pool_time(args, &now_ms) < 0) return NULL;
  MGPY_POOL_ENTER(pool);
  count = mg_pool_suspects(pool->core, now_ms, findings, MG_POOL_FINDINGS);
  MGPY_POOL_LEAVE(pool);
  if (count > MG_POOL_FINDINGS) count = MG_POOL_FINDINGS;
  return pool_findings_of(pool, findings, count);
}

PyObject *mgpy_pool_tick(PyObject *object, PyObject *args) {
  mgpy_pool *pool = mgpy_pool_get(object);
  double now_ms;

  if (pool == NULL || pool_time(args, &now_ms) < 0) return NULL;
  MGPY_POOL_ENTER(pool);
  mg_pool_tick(pool->core, now_ms);
  MGPY_POOL_LEAVE(pool);
  Py_RETURN_NONE;
}

PyObject *mgpy_pool_take_lost(PyObject *object, PyObject *unused) {
  mgpy_pool_object *self = (mgpy_pool_object *)object;
  mgpy_lost lost[MGPY_LOST_WAITING];
  PyObject *made = PyList_New(0);
  mgpy_sites *sites = self->state->pools->sites;
  uint32_t count = 0;
  (void)unused;

  if (made != NULL && self->pool != NULL)
    count = mgpy_site_take_lost(sites, self->pool, lost);
  for (uint32_t i = 0; made != NULL && i < count; i++) {
    PyObject *site = mgpy_site_text(sites, lost[i].site), *row;
    row = site == NULL ? NULL
                       : Py_BuildValue("(KN)", (unsigned long long)lost[i].capacity,
                                       site);
    if (row == NULL || PyList_Append(made, row) < 0) Py_CLEAR(made);
    Py_XDECREF(row);
  }
  return made;
}
