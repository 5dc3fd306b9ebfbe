/* segment.c - what this process shows of itself, and requests from outside.
 *
 * An interpreter registers for requests when its first monitor starts. The core
 * calls control_run() on its worker thread, which enters the interpreter and has
 * memguard._control.run() do it. At the interpreter's end the registration is
 * closed, which waits for a request under way. */
#include "memguard_python.h"

#include <string.h>

/* ---- who publishes ------------------------------------------------------ */

/* The last part of a path; of a package that runs as a program, the package. */
static void segment_name_of(const char *path, char *out, size_t out_bytes) {
  static const char main_name[] = "/__main__.py";
  size_t length = strlen(path), first;

  if (length >= sizeof main_name &&
      strcmp(path + length - (sizeof main_name - 1), main_name) == 0)
    length -= sizeof main_name - 1;
  for (first = length; first > 0 && path[first - 1] != '/'; first--) {
  }
  PyOS_snprintf(out, out_bytes, "%.*s", (int)(length - first), path + first);
}

/* The script of sys.argv; an option of python ("-c") is none. */
static void segment_program(char *out, size_t out_bytes) {
  PyObject *arguments = PySys_GetObject("argv"), *first;
  const char *path = NULL;

  if (arguments != NULL && PyList_Check(arguments) &&
      PyList_GET_SIZE(arguments) > 0) {
    first = PyList_GET_ITEM(arguments, 0);
    if (PyUnicode_Check(first)) path = PyUnicode_AsUTF8(first);
    if (path == NULL) PyErr_Clear();
  }
  if (path == NULL || path[0] == '\0' || path[0] == '-') path = "python";
  segment_name_of(path, out, out_bytes);
}

void mgpy_segment_describe(void) {
  mg_segment_identity who = MG_SEGMENT_IDENTITY_INIT;
  char program[64], version[32];

  segment_program(program, sizeof program);
  PyOS_snprintf(version, sizeof version, "%s", Py_GetVersion());
  version[strcspn(version, " ")] = '\0';
  who.runtime = "python";
  who.runtime_version = version;
  who.program = program;
  who.kind[0] = "generation0";
  who.kind[1] = "generation1";
  who.kind[2] = "generation2";
  (void)mg_segment_describe(&who, NULL);
}

/* ---- requests ----------------------------------------------------------- */

static mg_status segment_fail(mg_error *err, mg_status status,
                              const char *text) {
  err->status = status;
  PyOS_snprintf(err->text, sizeof err->text, "%.300s", text);
  return status;
}

/* What run() returned: (code, text). */
static mg_status segment_take(PyObject *answer, mg_control_reply *reply,
                              mg_error *err) {
  const char *code, *text;
  Py_ssize_t bytes;
  mg_status st;

  if (!PyArg_ParseTuple(answer, "ss#", &code, &text, &bytes)) {
    PyErr_Clear();
    return segment_fail(err, MG_EHOST, "no answer");
  }
  st = mg_status_of_code(code);
  if (st != MG_OK) return segment_fail(err, st, text);
  return mg_control_answer(reply, text, (size_t)bytes, err);
}

/* With the GIL. Interrupts are for the main thread, so nothing is lost here. */
static mg_status segment_ask(const char *command, const char *arguments,
                             mg_control_reply *reply, mg_error *err) {
  PyObject *module = PyImport_ImportModule("memguard._control");
  PyObject *answer = NULL;
  mg_status st;

  if (module != NULL)
    answer = PyObject_CallMethod(module, "run", "ss", command, arguments);
  Py_XDECREF(module);
  if (answer == NULL) {
    PyErr_Clear();
    return segment_fail(err, MG_EHOST, "the request failed");
  }
  st = segment_take(answer, reply, err);
  Py_DECREF(answer);
  return st;
}

static mg_status segment_run(void *ctx, mg_control_command command,
                             const char *arguments, mg_control_reply *reply,
                             mg_error *err) {
  mgpy_state *state = ctx;
  PyThreadState *thread;
  mg_status st;

  if (atomic_load(&state->is_exiting) ||
      !mgpy_may_enter(state->control.interpreter))
    return segment_fail(err, MG_EABSENT, "the interpreter cannot be entered");
  thread = PyThreadState_New(state->control.interpreter);
  if (thread == NULL) return segment_fail(err, MG_ENOMEM, "thread state");
  PyEval_RestoreThread(thread);
  st = segment_ask(mg_control_name(command), arguments, reply, err);
  PyThreadState_Clear(thread);
  PyThreadState_DeleteCurrent();
  return st;
}

void mgpy_segment_begin(mgpy_state *state) {
  mg_control_hooks hooks = MG_CONTROL_HOOKS_INIT;
  mg_control *expected = NULL, *made = NULL;

  mgpy_segment_describe();
  if (atomic_load(&state->control.handle) != NULL ||
      atomic_load(&state->is_exiting))
    return;
  state->control.interpreter = PyInterpreterState_Get();
  hooks.run = segment_run;
  hooks.ctx = state;
  /* Without memory the process cannot be asked: it goes on. */
  if (mg_control_open(&made, &hooks, NULL) != MG_OK) return;
  if (!atomic_compare_exchange_strong(&state->control.handle, &expected, made))
    mg_control_close(made);
}

void mgpy_segment_end(mgpy_state *state) {
  mg_control *handle = atomic_exchange(&state->control.handle, NULL);

  if (handle == NULL) return;
  Py_BEGIN_ALLOW_THREADS
  mg_control_close(handle);
  Py_END_ALLOW_THREADS
}

/* ---- functions ---------------------------------------------------------- */

static PyObject *segment_path(PyObject *module, PyObject *unused) {
  char path[MG_SEGMENT_PATH_BYTES];
  (void)module;
  (void)unused;

  if (mg_segment_path(path, sizeof path) == 0) Py_RETURN_NONE;
  return PyUnicode_DecodeFSDefault(path);
}

/* _segment_problem(): why nothing is published, once; else None. */
static PyObject *segment_problem(PyObject *module, PyObject *unused) {
  mg_error err;
  (void)module;
  (void)unused;

  if (!mg_segment_take_problem(&err)) Py_RETURN_NONE;
  return PyUnicode_DecodeUTF8(err.text, (Py_ssize_t)strlen(err.text),
                              "replace");
}

static PyObject *segment_mark_exit(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  mg_segment_mark_exit();
  Py_RETURN_NONE;
}

static PyMethodDef segment_methods[] = {
    {"segment_path", segment_path, METH_NOARGS,
     "segment_path()\n--\n\n"
     "Path of the file in which this process shows itself to the memguard tool;\n"
     "None while it does not. Any thread."},
    {"_segment_problem", segment_problem, METH_NOARGS, NULL},
    {"_segment_mark_exit", segment_mark_exit, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_segment(PyObject *module, mgpy_state *state) {
  (void)state;
  return PyModule_AddFunctions(module, segment_methods);
}
