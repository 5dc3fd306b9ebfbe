/* census_referrers.c - who holds objects of a type: a few of them are picked, and
 * the heap is walked once for each step backwards, in slices like the census.
 *
 *   picked  <- list    <- dict of a module: "list <- app.cache.sessions"
 *
 * An object refers to what its tp_traverse visits; nothing else is asked of it. What
 * is found is held on to, so that it can be looked for in its turn, and not looked
 * for twice. Modules and types end a path, and the names of attributes are told of
 * these two alone: the keys of other dicts are data. */
#include "census_parts.h"

#define REF_NODES 256
#define REF_SLOTS 1024u /* a power of two, four times the nodes */
#define REF_HOLDERS 3   /* of one object that are followed */
#define REF_STEPS 6
#define REF_SAMPLES 20
#define REF_CACHE 256u /* a power of two */
#define REF_MODULES 4096
#define REF_CHUNK 50000 /* elements of a large list or dict looked at in a slice */
#define REF_VISITS 500000      /* references of one object that are looked at */
#define REF_SLICE_VISITS 200000 /* of a slice; ends it */
/* Variables of running functions and C code hold too. */
#define REF_NONE "(nobody that the collector knows)"
#define REF_SEED UINT64_C(0x9E3779B97F4A7C15)

typedef struct ref_node {
  PyObject *object; /* held once `is_held` */
  bool is_held;
  bool is_root; /* ends a path */
  int holder[REF_HOLDERS], holders; /* nodes that refer to it */
} ref_node;

typedef struct ref_module {
  const void *dict; /* never followed */
  char name[96];
} ref_module;

typedef struct ref_type {
  PyTypeObject *type;
  bool is_wanted;
} ref_type;

typedef struct ref_search {
  mgpy_state *state;
  const char *type_name;
  /* picking */
  PyObject *sample[REF_SAMPLES], *held[REF_SAMPLES];
  int samples_most;
  uint64_t seen, chance;
  ref_type cache[REF_CACHE]; /* within a slice */
  ref_module module[REF_MODULES];
  size_t modules;
  /* stepping backwards */
  ref_node node[REF_NODES];
  int samples; /* the first nodes */
  int nodes, first, last; /* looked for: from `first` to below `last` */
  uint16_t slot[REF_SLOTS]; /* number + 1 of a node looked for */
  PyObject *looking_at;
  uint32_t visits, slice_visits;
  PyObject *large; /* [held] list or dict that takes more than a slice */
  Py_ssize_t large_at;
} ref_search;

/* ---- picking -------------------------------------------------------------------- */

static bool ref_is_wanted(ref_search *search, PyTypeObject *type) {
  ref_type *known =
      &search->cache[((uintptr_t)type >> 5) & (REF_CACHE - 1)];
  char name[MG_CENSUS_NAME_BYTES];

  if (known->type != type) {
    mgpy_type_name(name, type);
    known->type = type;
    known->is_wanted = strcmp(name, search->type_name) == 0;
  }
  return known->is_wanted;
}

/* Any of those seen with the same chance (Vitter, ACM TOMS 11(1), 1985,
 * algorithm R); chance is xorshift, begun alike each time. */
static void ref_pick(ref_search *search, PyObject *object) {
  uint64_t at = search->seen++;

  if (at >= (uint64_t)search->samples_most) {
    search->chance ^= search->chance << 13;
    search->chance ^= search->chance >> 7;
    search->chance ^= search->chance << 17;
    at = search->chance % search->seen;
  }
  if (at < (uint64_t)search->samples_most) search->sample[at] = object;
}

static void ref_note_module(ref_search *search, PyObject *object) {
  PyObject *dict = PyModule_GetDict(object), *key, *value;
  ref_module *module = &search->module[search->modules];
  Py_ssize_t at = 0;

  if (dict == NULL || search->modules == REF_MODULES) return;
  for (int i = 0; i < 16 && PyDict_Next(dict, &at, &key, &value); i++) {
    char text[16];
    if (mgpy_text(text, sizeof text, key) != 8 || strcmp(text, "__name__") != 0)
      continue;
    if (mgpy_text(module->name, sizeof module->name, value) == 0) return;
    module->dict = dict;
    search->modules++;
    return;
  }
}

static bool ref_visit_pick(PyObject *object, void *ctx) {
  ref_search *search = ctx;

  if (PyModule_CheckExact(object)) ref_note_module(search, object);
  if (Py_REFCNT(object) > 0 && ref_is_wanted(search, Py_TYPE(object)))
    ref_pick(search, object);
  return true;
}

/* Between slices a sample must stay what it is. What is let go of may be freed
 * here, with what the program does then: the cursor is in its place again. */
static void ref_hold_samples(ref_search *search) {
  PyObject *old[REF_SAMPLES];

  for (int i = 0; i < REF_SAMPLES; i++) {
    Py_XINCREF(search->sample[i]);
    old[i] = search->held[i];
    search->held[i] = search->sample[i];
  }
  memset(search->cache, 0, sizeof search->cache);
  for (int i = 0; i < REF_SAMPLES; i++) Py_XDECREF(old[i]);
}

/* All at once it would take too long. @return 0, or -1 and an error. */
static int ref_open_walk(ref_search *search, mgpy_walk *out) {
  if (mgpy_walk_open(out, search->state, true) < 0) return -1;
  if (out->lists != NULL) return 0;
  mgpy_walk_close(out);
  mgpy_raise_format(search->state, MG_EABSENT,
                    "referrers cannot be looked for in this Python");
  return -1;
}

static int ref_find_samples(ref_search *search) {
  mgpy_walk walk;
  mgpy_walk_state st;

  if (ref_open_walk(search, &walk) < 0) return -1;
  do {
    st = mgpy_walk_slice(&walk, MGPY_SLICE_OBJECTS, ref_visit_pick, search);
    if (st == MGPY_WALK_ANEW) {
      memset(search->sample, 0, sizeof search->sample);
      search->seen = search->modules = 0;
    }
    ref_hold_samples(search);
    mgpy_walk_rest();
  } while (st != MGPY_WALK_DONE);
  mgpy_walk_close(&walk);
  return 0;
}

/* ---- nodes ------------------------------------------------------------------------ */

static uint16_t *ref_slot(ref_search *search, const PyObject *object) {
  size_t at = ((uintptr_t)object >> 4) * (size_t)REF_SEED >> 40;

  for (;; at++) {
    uint16_t *slot = &search->slot[at & (REF_SLOTS - 1)];
    if (*slot == 0 || search->node[*slot - 1].object == object) return slot;
  }
}

/* @return its number, -1 if it is none. */
static int ref_number(const ref_search *search, const PyObject *object) {
  for (int i = 0; i < search->nodes; i++)
    if (search->node[i].object == object) return i;
  return -1;
}

/* The name of the attribute of a module or type under which `value` is. */
static void ref_attribute(char *out, size_t out_bytes, PyObject *dict,
                          const PyObject *value) {
  PyObject *key, *one;
  Py_ssize_t at = 0;

  out[0] = '\0';
  for (int i = 0; i < REF_CHUNK && PyDict_Next(dict, &at, &key, &one); i++)
    if (one == value) {
      mgpy_text(out, out_bytes, key);
      return;
    }
}

static const ref_module *ref_module_of(const ref_search *search,
                                       const PyObject *dict) {
  for (size_t i = 0; i < search->modules; i++)
    if (search->module[i].dict == dict) return &search->module[i];
  return NULL;
}

static bool ref_is_root(const ref_search *search, PyObject *object) {
  return PyType_Check(object) || PyModule_Check(object) ||
         (PyDict_CheckExact(object) && ref_module_of(search, object) != NULL);
}

/* `looking_at` refers to node `below`. */
static void ref_found(ref_search *search, int below) {
  ref_node *node = &search->node[below];
  int above = ref_number(search, search->looking_at);

  if (above == below || node->holders >= REF_HOLDERS) return;
  for (int i = 0; i < node->holders; i++)
    if (node->holder[i] == above) return;
  if (above < 0) {
    if (search->nodes == REF_NODES || Py_REFCNT(search->looking_at) <= 0) return;
    above = search->nodes++;
    search->node[above] =
        (ref_node){.object = search->looking_at,
                   .is_root = ref_is_root(search, search->looking_at)};
  }
  node->holder[node->holders++] = above;
}

/* ---- a step backwards ----------------------------------------------------------------- */

static void ref_look(ref_search *search, const PyObject *object) {
  uint16_t number = *ref_slot(search, object);

  if (number != 0) ref_found(search, number - 1);
}

static int ref_visit_reference(PyObject *object, void *ctx) {
  ref_search *search = ctx;

  ref_look(search, object);
  return ++search->visits >= REF_VISITS;
}

static Py_ssize_t ref_length(PyObject *object) {
  if (PyList_CheckExact(object)) return PyList_GET_SIZE(object);
  return PyDict_CheckExact(object) ? PyDict_GET_SIZE(object) : 0;
}

static bool ref_visit_object(PyObject *object, void *ctx) {
  ref_search *search = ctx;
  traverseproc traverse = Py_TYPE(object)->tp_traverse;

  search->looking_at = object;
  search->visits = 0;
  if (ref_length(object) > REF_CHUNK) {
    if (Py_REFCNT(object) <= 0) return true;
    search->large = Py_NewRef(object);
    search->large_at = 0;
    return false;
  }
  if (traverse != NULL) (void)traverse(object, ref_visit_reference, search);
  search->slice_visits += search->visits;
  return search->slice_visits < REF_SLICE_VISITS;
}

/* A part of the large one, which the program may have changed since. @return
 * whether there is more. */
static bool ref_look_at_large(ref_search *search) {
  PyObject *object = search->large, *key, *value;

  search->looking_at = object;
  for (int i = 0; i < REF_CHUNK; i++) {
    if (PyList_CheckExact(object)) {
      if (search->large_at >= PyList_GET_SIZE(object)) return false;
      ref_look(search, PyList_GET_ITEM(object, search->large_at++));
    } else {
      if (!PyDict_Next(object, &search->large_at, &key, &value)) return false;
      ref_look(search, key);
      ref_look(search, value);
    }
  }
  return true;
}

static void ref_hold_nodes(ref_search *search) {
  for (int i = 0; i < search->nodes; i++) {
    if (!search->node[i].is_held) Py_INCREF(search->node[i].object);
    search->node[i].is_held = true;
  }
}

static void ref_end_large(ref_search *search) {
  while (search->large != NULL) {
    bool is_more = ref_look_at_large(search);
    ref_hold_nodes(search);
    if (!is_more) Py_CLEAR(search->large);
    mgpy_walk_rest();
  }
}

/* @return 0, or -1 and an error. */
static int ref_step(ref_search *search) {
  mgpy_walk walk;
  mgpy_walk_state st;

  memset(search->slot, 0, sizeof search->slot);
  for (int i = search->first; i < search->last; i++)
    if (!search->node[i].is_root || i < search->samples)
      *ref_slot(search, search->node[i].object) = (uint16_t)(i + 1);
  if (ref_open_walk(search, &walk) < 0) return -1;
  do { /* one that begins anew finds what it knows already */
    search->slice_visits = 0;
    st = mgpy_walk_slice(&walk, MGPY_SLICE_OBJECTS, ref_visit_object, search);
    ref_hold_nodes(search);
    mgpy_walk_rest();
    ref_end_large(search);
  } while (st != MGPY_WALK_DONE);
  mgpy_walk_close(&walk);
  return 0;
}

/* ---- paths ------------------------------------------------------------------------------ */

typedef struct ref_path {
  int node[REF_STEPS + 1], length; /* the sample first */
  bool is_rooted;
} ref_path;

static bool ref_is_better(const ref_path *a, const ref_path *b) {
  if (a->is_rooted != b->is_rooted) return a->is_rooted;
  return a->is_rooted ? a->length < b->length : a->length > b->length;
}

/* Goes up from the end of `path` to the best that there is: the shortest that ends in
 * a root, else the longest. */
static void ref_climb(const ref_search *search, ref_path *path, ref_path *best) {
  const ref_node *node = &search->node[path->node[path->length - 1]];

  path->is_rooted = node->is_root && path->length > 1;
  if (ref_is_better(path, best)) *best = *path;
  if (path->is_rooted || path->length > REF_STEPS) return;
  for (int i = 0; i < node->holders; i++) {
    bool is_circle = false;
    for (int j = 0; j < path->length; j++)
      if (path->node[j] == node->holder[i]) is_circle = true;
    if (is_circle) continue;
    path->node[path->length++] = node->holder[i];
    ref_climb(search, path, best);
    path->length--;
  }
}

/* What a node is called that holds `held`. */
static void ref_label(const ref_search *search, PyObject *object,
                      const PyObject *held, char out[MG_CENSUS_NAME_BYTES]) {
  const ref_module *module = NULL;
  const size_t room = MG_CENSUS_NAME_BYTES;
  char text[80];

  if (PyDict_CheckExact(object)) module = ref_module_of(search, object);
  if (module != NULL) {
    ref_attribute(text, sizeof text, object, held);
    PyOS_snprintf(out, room, "%.70s.%.70s", module->name, text);
  } else if (PyType_Check(object)) {
    mgpy_type_name(out, (PyTypeObject *)object);
  } else if (PyFunction_Check(object)) {
    const PyFunctionObject *function = (PyFunctionObject *)object;
    size_t used = mgpy_text(text, sizeof text, function->func_module);
    PyOS_snprintf(out, room, "function %s%s", text, used > 0 ? "." : "");
    used = strlen(out);
    mgpy_text(out + used, room - used, function->func_qualname);
  } else {
    mgpy_type_name(out, Py_TYPE(object));
  }
}

/* "list <- app.Registry.items", nearest first. The dict of a type is called by its
 * attribute. */
static void ref_write(const ref_search *search, const ref_path *path, char *out,
                      size_t out_bytes) {
  size_t used = 0;

  out[0] = '\0';
  for (int i = 1; i < path->length && used + 8 < out_bytes; i++) {
    PyObject *object = search->node[path->node[i]].object;
    const PyObject *held = search->node[path->node[i - 1]].object;
    char label[MG_CENSUS_NAME_BYTES], attribute[80] = {0};
    if (i + 1 < path->length && PyDict_CheckExact(object) &&
        PyType_Check(search->node[path->node[i + 1]].object)) {
      ref_attribute(attribute, sizeof attribute, object, held);
      object = search->node[path->node[++i]].object;
    }
    ref_label(search, object, held, label);
    PyOS_snprintf(out + used, out_bytes - used, "%s%s%s%s",
                  used > 0 ? " <- " : "", label, attribute[0] ? "." : "",
                  attribute);
    used = strlen(out);
  }
}

static PyObject *ref_paths(const ref_search *search, mg_census *census) {
  PyObject *made;
  mg_census_row row;

  for (int i = 0; i < search->samples; i++) {
    char text[MG_CENSUS_NAME_BYTES];
    ref_path path = {.node = {i}, .length = 1}, best = path;
    ref_climb(search, &path, &best);
    ref_write(search, &best, text, sizeof text);
    mg_census_add(census, text[0] != '\0' ? text : REF_NONE, 1, 0);
  }
  made = PyList_New(0);
  for (size_t i = 0; made != NULL && mg_census_at(census, i, &row); i++) {
    PyObject *name = PyUnicode_DecodeUTF8(
        row.name, (Py_ssize_t)strlen(row.name), "replace");
    PyObject *one = name == NULL ? NULL
                                 : Py_BuildValue("(NK)", name,
                                                 (unsigned long long)row.count);
    if (one == NULL || PyList_Append(made, one) < 0) Py_CLEAR(made);
    Py_XDECREF(one);
  }
  return made;
}

/* ---- the function ------------------------------------------------------------------------ */

static int ref_run(ref_search *search) {
  if (ref_find_samples(search) < 0) return -1;
  for (int i = 0; i < REF_SAMPLES; i++)
    if (search->held[i] != NULL)
      search->node[search->nodes++] = (ref_node){
          .object = Py_NewRef(search->held[i]), .is_held = true};
  search->samples = search->nodes;
  for (int step = 0; step < REF_STEPS; step++) {
    search->first = search->last;
    search->last = search->nodes;
    if (search->first == search->last) break;
    if (ref_step(search) < 0) return -1;
  }
  return 0;
}

static void ref_close(ref_search *search) {
  for (int i = 0; i < REF_SAMPLES; i++) Py_XDECREF(search->held[i]);
  for (int i = 0; i < search->nodes; i++)
    if (search->node[i].is_held) Py_DECREF(search->node[i].object);
  PyMem_RawFree(search);
}

/* census_referrers(type_name, limit) -> [(path, samples)] */
PyObject *mgpy_census_referrers(PyObject *module, PyObject *args) {
  mgpy_state *state = PyModule_GetState(module);
  mg_error err = MG_ERROR_INIT;
  mg_census *census = NULL;
  ref_search *search;
  PyObject *made = NULL;
  PyObject *name_object;
  const char *type_name;
  int limit;

  if (!PyArg_ParseTuple(args, "Oi:census_referrers", &name_object, &limit))
    return NULL;
  type_name = mgpy_name(state, name_object, "type_name");
  if (type_name == NULL) return NULL;
  if (limit < 1 || limit > REF_SAMPLES)
    return mgpy_raise_format(state, MG_ERANGE,
                             "limit is %d, allowed: 1 to %d", limit,
                             REF_SAMPLES);
  if (mg_census_open(&census, 0, &err) != MG_OK) return mgpy_raise(state, &err);
  search = PyMem_RawCalloc(1, sizeof *search);
  if (search == NULL) {
    mg_census_close(census);
    return PyErr_NoMemory();
  }
  search->state = state;
  search->type_name = type_name;
  search->samples_most = limit;
  search->chance = REF_SEED;
  if (ref_run(search) == 0) made = ref_paths(search, census);
  ref_close(search);
  mg_census_close(census);
  return made;
}
