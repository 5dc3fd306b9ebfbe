/* web.c - the HTTP site for Python: judges requests and renders responses; sockets
 * and the running of commands are Python, in memguard.web.
 *
 * A response is (status, reason, [(name, value)], body, is_head). */
#include "memguard_python.h"

#include <string.h>

#include "memguard/web.h"

typedef struct web_object {
  PyObject_HEAD
  mgpy_state *state;
  mg_web *web;
} web_object;

/* ---- responses --------------------------------------------------------------- */

static PyObject *web_headers(const mg_web_response *r) {
  PyObject *made = PyList_New((Py_ssize_t)r->header_count);

  for (size_t i = 0; made != NULL && i < r->header_count; i++) {
    PyObject *pair = Py_BuildValue("(ss)", r->header[i].name, r->header[i].value);
    if (pair == NULL)
      Py_CLEAR(made);
    else
      PyList_SET_ITEM(made, (Py_ssize_t)i, pair);
  }
  return made;
}

/* Takes over the response. */
static PyObject *web_response(mg_web_response *r) {
  PyObject *headers = web_headers(r), *made = NULL;

  if (headers != NULL)
    made = Py_BuildValue("(IsNy#O)", r->status, mg_web_status_text(r->status),
                         headers, r->body, (Py_ssize_t)r->body_bytes,
                         r->is_head ? Py_True : Py_False);
  mg_web_response_free(r);
  return made;
}

static PyObject *web_refused(unsigned status, const char *text) {
  mg_web_response response;

  mg_web_refuse(status, text, &response);
  return web_response(&response);
}

/* _web_refuse(status, text) -> response */
static PyObject *web_refuse(PyObject *module, PyObject *args) {
  const char *text;
  unsigned status;
  (void)module;

  if (!PyArg_ParseTuple(args, "Is:_web_refuse", &status, &text)) return NULL;
  return web_refused(status, text);
}

/* ---- requests ---------------------------------------------------------------- */

/* A str without NUL and surrogates. @return whether it is one. */
static bool web_text(PyObject *object, const char **out) {
  Py_ssize_t bytes;

  *out = PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &bytes) : NULL;
  if (*out == NULL) PyErr_Clear();
  return *out != NULL && strlen(*out) == (size_t)bytes;
}

/* (name, value) pairs; one more than is allowed is enough to be refused.
 * @return whether all of them are texts. */
static bool web_read_headers(PyObject *pairs, mg_web_header *out,
                             size_t *out_count) {
  Py_ssize_t count = PyTuple_GET_SIZE(pairs);

  if (count > (Py_ssize_t)MG_WEB_HEADERS + 1) count = MG_WEB_HEADERS + 1;
  *out_count = (size_t)count;
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *pair = PyTuple_GET_ITEM(pairs, i);
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
        !web_text(PyTuple_GET_ITEM(pair, 0), &out[i].name) ||
        !web_text(PyTuple_GET_ITEM(pair, 1), &out[i].value))
      return false;
  }
  return true;
}

/* The job as (response, None) or (None, (command, arguments, key)). */
static PyObject *web_job(mg_web_job *job) {
  PyObject *made;

  if (job->kind == MG_WEB_RESPOND) {
    PyObject *response = web_response(&job->response);
    made = response == NULL ? NULL : Py_BuildValue("(NO)", response, Py_None);
  } else {
    made = Py_BuildValue("(O(ssi))", Py_None, mg_control_name(job->command),
                         job->arguments == NULL ? "" : job->arguments,
                         (int)job->route * 2 + job->is_head);
  }
  mg_web_job_free(job);
  return made;
}

/* With the headers as a tuple that nobody else changes. */
static PyObject *web_run(web_object *self, PyObject *method, PyObject *target,
                         PyObject *headers, mg_web_request *request) {
  mg_web_header header[MG_WEB_HEADERS + 1];
  mg_web_job job;

  if (!web_text(method, &request->method) ||
      !web_text(target, &request->target) ||
      !web_read_headers(headers, header, &request->header_count)) {
    mg_web_refuse(400, "the request has a NUL or a lone surrogate in it",
                  &job.response);
    return Py_BuildValue("(NO)", web_response(&job.response), Py_None);
  }
  request->header = header;
  Py_BEGIN_ALLOW_THREADS
  mg_web_serve(self->web, request, &job);
  Py_END_ALLOW_THREADS
  return web_job(&job);
}

static PyObject *web_serve(PyObject *object, PyObject *args) {
  PyObject *method, *target, *headers, *pairs, *made;
  mg_web_request request = {0};
  Py_ssize_t bytes;

  if (!PyArg_ParseTuple(args, "UUOy#|d:serve", &method, &target, &headers,
                        &request.body, &bytes, &request.clock_ms))
    return NULL;
  request.body_bytes = (size_t)bytes;
  pairs = PySequence_Tuple(headers);
  if (pairs == NULL) return NULL;
  made = web_run((web_object *)object, method, target, pairs, &request);
  Py_DECREF(pairs);
  return made;
}

static mg_status web_status_of(const char *code) {
#define WEB_STATUS(name, value, text_code, text) \
  if (strcmp(code, text_code) == 0) return MG_##name;
  MG_STATUS_MAP(WEB_STATUS)
#undef WEB_STATUS
  return MG_EHOST;
}

static PyObject *web_answered(PyObject *object, PyObject *args) {
  mg_web_response response;
  const char *code, *text;
  mg_web_job job = {0};
  int key;

  if (!PyArg_ParseTuple(args, "iss:answered", &key, &code, &text)) return NULL;
  job.route = (mg_web_route)(key / 2);
  job.is_head = key % 2 != 0;
  mg_web_answered(((web_object *)object)->web, &job, web_status_of(code), text,
                  &response);
  return web_response(&response);
}

/* ---- site -------------------------------------------------------------------- */

/* The host names of a tuple. @return whether all are texts; else an error. */
static bool web_read_hosts(mgpy_state *state, PyObject *hosts,
                           const char **out) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(hosts); i++) {
    out[i] = mgpy_name(state, PyTuple_GET_ITEM(hosts, i), "an allowed host");
    if (out[i] == NULL) return false;
  }
  return true;
}

static PyObject *web_open(PyTypeObject *type, mgpy_state *state,
                          mg_web_options *options, PyObject *hosts) {
  const char *host[MG_WEB_HOSTS];
  mg_error err = MG_ERROR_INIT;
  web_object *self;

  options->host_count = (size_t)PyTuple_GET_SIZE(hosts);
  options->hosts = host;
  if (options->host_count > MG_WEB_HOSTS)
    return mgpy_raise_format(state, MG_ERANGE,
                             "allowed hosts are %zu, allowed: at most %u",
                             options->host_count, MG_WEB_HOSTS);
  if (!web_read_hosts(state, hosts, host)) return NULL;
  self = (web_object *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->state = state;
  if (mg_web_open(&self->web, options, &err) == MG_OK) return (PyObject *)self;
  Py_DECREF(self);
  return mgpy_raise(state, &err);
}

static PyObject *web_new(PyTypeObject *type, PyObject *args,
                         PyObject *keywords) {
  static char *names[] = {"token", "read_needs_token", "allowed_hosts",
                          "writes_per_minute", "ready_below_percent", NULL};
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  mgpy_state *state = mgpy_state_of(type);
  PyObject *token, *hosts, *list, *made;
  int read_needs_token;
  unsigned writes;

  if (!PyArg_ParseTupleAndKeywords(args, keywords, "OpOId:Site", names,
                                   &token, &read_needs_token, &list,
                                   &writes, &options.ready_below_percent) ||
      state == NULL)
    return NULL;
  if (token != Py_None) {
    options.token = mgpy_name(state, token, "the token");
    if (options.token == NULL) return NULL;
  }
  options.read_needs_token = read_needs_token != 0;
  options.writes_per_minute = writes;
  hosts = PySequence_Tuple(list);
  if (hosts == NULL) return NULL;
  made = web_open(type, state, &options, hosts);
  Py_DECREF(hosts);
  return made;
}

static void web_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);

  mg_web_close(((web_object *)object)->web);
  type->tp_free(object);
  Py_DECREF(type);
}

static PyMethodDef web_methods[] = {
    {"serve", web_serve, METH_VARARGS,
     "serve($self, method, target, headers, body, clock_ms=0.0, /)\n--\n\n"
     "Judges a request: (response, None), or (None, (command, arguments, key))\n"
     "where the process has to do something first."},
    {"answered", web_answered, METH_VARARGS,
     "answered($self, key, code, text, /)\n--\n\n"
     "The response to a command: its code (\"OK\" or that of an error) and text."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot web_slots[] = {
    MGPY_SLOT(Py_tp_new, web_new),
    MGPY_SLOT(Py_tp_dealloc, web_dealloc),
    {Py_tp_methods, web_methods},
    {Py_tp_doc, "Site(token, read_needs_token, allowed_hosts, "
                "writes_per_minute, ready_below_percent)\n--\n\n"
                "The HTTP site of this process, without sockets. Any thread."},
    {0, NULL}};

static PyType_Spec web_spec = {"memguard._core.Site", sizeof(web_object), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                               web_slots};

/* ---- functions ---------------------------------------------------------------- */

/* _web_find_token(path or None) -> str, or None */
static PyObject *web_find_token(PyObject *module, PyObject *path) {
  char token[MG_WEB_TOKEN_MAX + 1];
  mg_error err = MG_ERROR_INIT;
  PyObject *bytes = NULL, *made = NULL;

  if (path != Py_None && !PyUnicode_FSConverter(path, &bytes)) return NULL;
  if (mg_web_find_token(token, bytes == NULL ? NULL : PyBytes_AS_STRING(bytes),
                        &err) != MG_OK)
    (void)mgpy_raise(PyModule_GetState(module), &err);
  else
    made = token[0] == '\0' ? Py_NewRef(Py_None) : PyUnicode_FromString(token);
  Py_XDECREF(bytes);
  return made;
}

/* _web_is_loopback(address) -> bool */
static PyObject *web_is_loopback(PyObject *module, PyObject *address) {
  const char *text = mgpy_name(PyModule_GetState(module), address, "host");

  return text == NULL ? NULL : PyBool_FromLong(mg_web_is_loopback(text));
}

static PyMethodDef web_functions[] = {
    {"_web_refuse", web_refuse, METH_VARARGS, NULL},
    {"_web_find_token", web_find_token, METH_O, NULL},
    {"_web_is_loopback", web_is_loopback, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_web(PyObject *module, mgpy_state *state) {
  if (PyModule_AddFunctions(module, web_functions) < 0 ||
      PyModule_AddIntConstant(module, "WEB_BODY_BYTES", MG_WEB_BODY_BYTES) < 0 ||
      PyModule_AddIntConstant(module, "WEB_HEADER_BYTES",
                              MG_WEB_HEADER_BYTES) < 0)
    return -1;
  return mgpy_add_type(module, &web_spec, &state->site_type);
}
