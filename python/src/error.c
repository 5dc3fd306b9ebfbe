/* error.c - one exception class per status, generated from MG_STATUS_MAP.
 *
 * A row names the class and the builtin that users expect to catch. Leaving one
 * out for a new status does not compile. */
#include "memguard_python.h"

#include <string.h>

#define ERROR_CLASS_OK NULL
#define ERROR_CLASS_EINVAL "InvalidError"
#define ERROR_CLASS_ENOMEM "NoMemoryError"
#define ERROR_CLASS_ESYS "SystemCallError"
#define ERROR_CLASS_EKEY "ConfigKeyError"
#define ERROR_CLASS_ETYPE "ConfigTypeError"
#define ERROR_CLASS_ERANGE "RangeError"
#define ERROR_CLASS_ECONFLICT "ConflictError"
#define ERROR_CLASS_ECLOSED "ClosedError"
#define ERROR_CLASS_EABSENT "AbsentError"
#define ERROR_CLASS_EEXISTS "ExistsError"
#define ERROR_CLASS_ENOTFOUND "NotFoundError"
#define ERROR_CLASS_EHOST "HostError"
#define ERROR_CLASS_ETIMEOUT "WaitTimeoutError"
#define ERROR_CLASS_ERETURNED "ReturnedError"
#define ERROR_CLASS_EFOREIGN "ForeignError"
#define ERROR_CLASS_EENCODING "EncodingError"
#define ERROR_CLASS_EBROKEN "BrokenConnectionError"
#define ERROR_CLASS_ELEAK "MemoryLeakDetected"

#define ERROR_BASE_OK NULL
#define ERROR_BASE_EINVAL &PyExc_ValueError
#define ERROR_BASE_ENOMEM &PyExc_MemoryError
#define ERROR_BASE_ESYS &PyExc_OSError
#define ERROR_BASE_EKEY &PyExc_KeyError
#define ERROR_BASE_ETYPE &PyExc_TypeError
#define ERROR_BASE_ERANGE &PyExc_ValueError
#define ERROR_BASE_ECONFLICT &PyExc_ValueError
#define ERROR_BASE_ECLOSED NULL
#define ERROR_BASE_EABSENT NULL
#define ERROR_BASE_EEXISTS &PyExc_ValueError
#define ERROR_BASE_ENOTFOUND &PyExc_KeyError
#define ERROR_BASE_EHOST NULL
#define ERROR_BASE_ETIMEOUT &PyExc_TimeoutError
#define ERROR_BASE_ERETURNED &PyExc_ValueError
#define ERROR_BASE_EFOREIGN &PyExc_ValueError
#define ERROR_BASE_EENCODING &PyExc_ValueError
#define ERROR_BASE_EBROKEN &PyExc_ConnectionError
#define ERROR_BASE_ELEAK &PyExc_AssertionError

typedef struct error_row {
  const char *class_name; /* NULL: no error */
  PyObject **base;        /* NULL: MemguardError alone */
  const char *code, *text;
} error_row;

static const error_row error_rows[MGPY_STATUSES] = {
#define ERROR_ROW(name, value, code, text) \
  [value] = {ERROR_CLASS_##name, ERROR_BASE_##name, code, text},
    MG_STATUS_MAP(ERROR_ROW)
#undef ERROR_ROW
};

/* A class whose str() is the plain message, also below KeyError, which would
 * quote it. */
static PyObject *error_class(const char *class_name, const char *doc,
                             const char *code, PyObject *bases) {
  PyObject *text, *attributes, *made = NULL;
  char full_name[64];

  text = PyObject_GetAttrString(PyExc_BaseException, "__str__");
  if (text == NULL) return NULL;
  attributes = Py_BuildValue("{s:s,s:N}", "code", code, "__str__", text);
  if (attributes == NULL) return NULL;
  PyOS_snprintf(full_name, sizeof full_name, "memguard.%s", class_name);
  made = PyErr_NewExceptionWithDoc(full_name, doc, bases, attributes);
  Py_DECREF(attributes);
  return made;
}

static PyObject *error_class_of(const error_row *row, PyObject *base) {
  PyObject *bases, *made;

  bases = row->base == NULL ? PyTuple_Pack(1, base)
                            : PyTuple_Pack(2, base, *row->base);
  if (bases == NULL) return NULL;
  made = error_class(row->class_name, row->text, row->code, bases);
  Py_DECREF(bases);
  return made;
}

int mgpy_add_errors(PyObject *module, mgpy_state *state) {
  state->error_base = error_class(
      "MemguardError",
      "Base of all errors of memguard. `code` is a stable string, the same in "
      "Node, e.g. \"ERR_MEMGUARD_RANGE\".",
      "ERR_MEMGUARD", PyExc_RuntimeError);
  if (state->error_base == NULL ||
      PyModule_AddObjectRef(module, "MemguardError", state->error_base) < 0)
    return -1;
  for (int status = 0; status < MGPY_STATUSES; status++) {
    const error_row *row = &error_rows[status];
    if (row->class_name == NULL) continue;
    state->errors[status] = error_class_of(row, state->error_base);
    if (state->errors[status] == NULL ||
        PyModule_AddObjectRef(module, row->class_name,
                              state->errors[status]) < 0)
      return -1;
  }
  return 0;
}

static PyObject *error_class_for(mgpy_state *state, mg_status status) {
  PyObject *found = NULL;

  if (status > MG_OK && (int)status < MGPY_STATUSES)
    found = state->errors[status];
  /* The state is empty while the interpreter takes the module apart. */
  return found != NULL ? found : PyExc_RuntimeError;
}

/* Steals `message`, which may be NULL with an error set. */
static PyObject *error_raise(mgpy_state *state, mg_status status,
                             int system_errno, PyObject *message) {
  PyObject *class = error_class_for(state, status), *error, *number;

  if (message == NULL) return NULL;
  error = PyObject_CallOneArg(class, message);
  Py_DECREF(message);
  if (error == NULL) return NULL;
  if (system_errno != 0) {
    number = PyLong_FromLong(system_errno);
    if (number == NULL || PyObject_SetAttrString(error, "errno", number) < 0)
      PyErr_Clear();
    Py_XDECREF(number);
  }
  PyErr_SetObject(class, error);
  Py_DECREF(error);
  return NULL;
}

PyObject *mgpy_raise(mgpy_state *state, const mg_error *err) {
  /* A path inside the text may hold any bytes. */
  PyObject *message = PyUnicode_DecodeUTF8(
      err->text, (Py_ssize_t)strnlen(err->text, sizeof err->text),
      "backslashreplace");

  return error_raise(state, err->status, err->system_errno, message);
}

PyObject *mgpy_raise_format(mgpy_state *state, mg_status status,
                            const char *format, ...) {
  PyObject *message;
  va_list args;

  va_start(args, format);
  message = PyUnicode_FromFormatV(format, args);
  va_end(args);
  return error_raise(state, status, 0, message);
}

/* ---- interruptions ----------------------------------------------------- */

void mgpy_keep_interrupt(PyObject **first) {
  PyObject *type, *value, *traceback;

  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (value != NULL && traceback != NULL)
    PyException_SetTraceback(value, traceback);
  if (*first == NULL) *first = Py_XNewRef(value);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
}

int mgpy_raise_interrupt(PyObject *interrupt) {
  if (interrupt == NULL) return 0;
  PyErr_SetObject((PyObject *)Py_TYPE(interrupt), interrupt);
  Py_DECREF(interrupt);
  return -1;
}
