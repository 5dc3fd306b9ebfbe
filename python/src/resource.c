/* resource.c - how the core runs what a host registered for clean-up.
 *
 * The core holds a number for each resource; what belongs to it, Python keeps in
 * the manager, where the garbage collector sees it. So a manager that its own
 * callbacks refer to can still be collected.
 *
 * A function that asks the core to run resources releases the GIL, because
 * removing a file may take long, and puts an mgpy_asking on its stack for the
 * hooks, which the core calls on the same thread. */
#include "memguard_python.h"

static _Thread_local mgpy_asking *resource_asking;

void mgpy_ask_begin(mgpy_asking *asking, PyObject *manager) {
  asking->outer = resource_asking;
  asking->manager = manager;
  asking->interrupt = NULL;
  resource_asking = asking;
  asking->thread = PyEval_SaveThread();
}

int mgpy_ask_end(mgpy_asking *asking) {
  PyEval_RestoreThread(asking->thread);
  resource_asking = asking->outer;
  return mgpy_raise_interrupt(asking->interrupt);
}

/* Takes the GIL for the asking function, and gives it back. */
static mgpy_asking *resource_enter(void) {
  mgpy_asking *asking = resource_asking;

  PyEval_RestoreThread(asking->thread);
  return asking;
}

static void resource_leave(mgpy_asking *asking) {
  asking->thread = PyEval_SaveThread();
}

static mgpy_state *resource_state(const mgpy_asking *asking) {
  return ((mgpy_manager *)asking->manager)->state;
}

static mg_status resource_run(void *ctx, mg_resource_kind kind, void *token) {
  mgpy_asking *asking = resource_enter();
  PyObject *number, *worked = NULL;
  mg_status st;
  (void)ctx;
  (void)kind;

  number = PyLong_FromUnsignedLongLong((uintptr_t)token);
  if (number != NULL)
    worked = PyObject_CallMethodOneArg(
        asking->manager, resource_state(asking)->run_entry_name, number);
  if (worked == NULL) mgpy_keep_interrupt(&asking->interrupt);
  st = worked == Py_True ? MG_OK : MG_EHOST;
  Py_XDECREF(worked);
  Py_XDECREF(number);
  resource_leave(asking);
  return st;
}

static void resource_drop(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx; /* Python forgets its entries by itself */
  (void)kind;
  (void)token;
}

static void resource_unlink_failed(void *ctx, const char *path,
                                   int system_errno) {
  mgpy_asking *asking = resource_enter();
  PyObject *name, *number, *done = NULL;
  (void)ctx;

  name = PyUnicode_DecodeFSDefault(path);
  number = PyLong_FromLong(system_errno);
  if (name != NULL && number != NULL)
    done = PyObject_CallMethodObjArgs(
        asking->manager, resource_state(asking)->unlink_failed_name, name,
        number, NULL);
  if (done == NULL) mgpy_keep_interrupt(&asking->interrupt);
  Py_XDECREF(done);
  Py_XDECREF(number);
  Py_XDECREF(name);
  resource_leave(asking);
}

const mg_resource_hooks mgpy_resource_hooks = {resource_run, resource_drop,
                                               resource_unlink_failed, NULL};
