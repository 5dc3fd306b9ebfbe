/* segment.c - what this process shows of itself, and requests from outside.
 *
 * An environment registers for requests when its first monitor starts. The core
 * calls control_run() on its worker thread, which leaves the request at the door,
 * rings, and waits for JS: a moment for it to be taken (the event loop may be busy,
 * and the worker has other work), longer for the answer. Whatever makes JS wait
 * for the worker ends that wait first. */
#include "memguard_node.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONTROL_TAKE_MS 2000
#define CONTROL_ANSWER_MS 10000

enum { CONTROL_NONE, CONTROL_ASKED, CONTROL_TAKEN, CONTROL_DONE };

/* Shared by JS and the worker; lives as long as its environment. */
struct mgn_control {
  mg_control *handle;
  mgn_env *owner;
  napi_ref serve; /* JS: (id, command, arguments) */
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int state;
  int hurried;  /* JS waits for the worker */
  uint32_t id;  /* of the request under way */
  mg_control_command command;
  const char *arguments;   /* [borrowed] of the hook that waits */
  mg_control_reply *reply; /* the same */
  mg_error *err;           /* the same */
  mg_status status;
};

/* ---- the worker ---------------------------------------------------------- */

static mg_status control_fail(mg_error *err, mg_status status,
                              const char *text) {
  err->status = status;
  strncpy(err->text, text, sizeof err->text - 1);
  err->text[sizeof err->text - 1] = '\0';
  return status;
}

static struct timespec control_deadline(long ms) {
  struct timespec at;

  clock_gettime(CLOCK_MONOTONIC, &at);
  at.tv_sec += ms / 1000;
  return at;
}

/* Waits while the state is `state`. The lock is held. */
static void control_wait(mgn_control *c, int state, long ms) {
  struct timespec until = control_deadline(ms);

  while (c->state == state && c->hurried == 0)
    if (pthread_cond_timedwait(&c->changed, &c->lock, &until) != 0) return;
}

static mg_status control_run(void *ctx, mg_control_command command,
                             const char *arguments, mg_control_reply *reply,
                             mg_error *err) {
  mgn_control *c = ctx;
  mg_status st;

  pthread_mutex_lock(&c->lock);
  c->id++;
  c->command = command;
  c->arguments = arguments;
  c->reply = reply;
  c->err = err;
  c->state = CONTROL_ASKED;
  if (c->hurried == 0) {
    mgn_env_ring(c->owner);
    control_wait(c, CONTROL_ASKED, CONTROL_TAKE_MS);
    control_wait(c, CONTROL_TAKEN, CONTROL_ANSWER_MS);
  }
  if (c->state == CONTROL_DONE)
    st = c->status;
  else if (c->hurried > 0)
    st = control_fail(err, MG_EABSENT, "the monitor stops");
  else
    st = control_fail(err, MG_ETIMEOUT, "the event loop is busy");
  c->state = CONTROL_NONE;
  pthread_mutex_unlock(&c->lock);
  return st;
}

void mgn_control_hurry(mgn_env *self, int change) {
  mgn_control *c = self->control;

  if (c == NULL) return;
  pthread_mutex_lock(&c->lock);
  c->hurried += change;
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
}

/* ---- life; the JS thread --------------------------------------------------- */

static mgn_control *control_new(mgn_env *self) {
  mgn_control *c = calloc(1, sizeof *c);
  pthread_condattr_t monotonic;

  if (c == NULL) return NULL;
  c->owner = self;
  pthread_mutex_init(&c->lock, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&c->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  return c;
}

void mgn_control_end(mgn_env *self) {
  mgn_control *c = self->control;

  if (c == NULL) return;
  mgn_control_hurry(self, 1);
  mg_control_close(c->handle);
  (void)napi_delete_reference(self->env, c->serve);
  pthread_cond_destroy(&c->changed);
  pthread_mutex_destroy(&c->lock);
  free(c);
  self->control = NULL;
}

/* controlServe(serve): from now on serve(id, command, arguments) is called for
 * requests. The door is open. Without memory nobody serves. */
static napi_value control_serve(napi_env env, napi_callback_info info) {
  mg_control_hooks hooks = MG_CONTROL_HOOKS_INIT;
  napi_value serve;
  mgn_control *c;
  mgn_env *self;

  if (!mgn_arguments(env, info, 1, &serve, &self)) return NULL;
  if (self->control != NULL || self->door == NULL) return mgn_undefined(env);
  c = control_new(self);
  if (c == NULL) return mgn_undefined(env);
  self->control = c;
  hooks.run = control_run;
  hooks.ctx = c;
  if (napi_create_reference(env, serve, 1, &c->serve) != napi_ok ||
      mg_control_open(&c->handle, &hooks, NULL) != MG_OK)
    mgn_control_end(self);
  return mgn_undefined(env);
}

/* ---- requests; the JS thread ------------------------------------------------ */

/* @return whether there was one; its values are those of JS. */
static bool control_take(mgn_control *c, napi_env env, napi_value out[3]) {
  bool is_taken = false;

  pthread_mutex_lock(&c->lock);
  if (c->state == CONTROL_ASKED &&
      napi_create_uint32(env, c->id, &out[0]) == napi_ok &&
      napi_create_string_utf8(env, mg_control_name(c->command),
                              NAPI_AUTO_LENGTH, &out[1]) == napi_ok &&
      napi_create_string_utf8(env, c->arguments, NAPI_AUTO_LENGTH, &out[2]) ==
          napi_ok) {
    c->state = CONTROL_TAKEN;
    is_taken = true;
  }
  pthread_mutex_unlock(&c->lock);
  return is_taken;
}

void mgn_control_answer(mgn_env *self) {
  napi_value values[3], receiver, serve, ignored;
  napi_env env = self->env;
  bool pending = false;

  if (self->control == NULL || !control_take(self->control, env, values) ||
      napi_get_undefined(env, &receiver) != napi_ok ||
      napi_get_reference_value(env, self->control->serve, &serve) != napi_ok ||
      napi_call_function(env, receiver, serve, 3, values, NULL) == napi_ok)
    return;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending)
    (void)napi_get_and_clear_last_exception(env, &ignored);
}

static void control_finish(mgn_control *c, uint32_t id, mg_status status,
                           const char *text, size_t bytes) {
  pthread_mutex_lock(&c->lock);
  if (c->state == CONTROL_TAKEN && c->id == id) {
    c->status = status == MG_OK
                    ? mg_control_answer(c->reply, text, bytes, c->err)
                    : control_fail(c->err, status, text);
    c->state = CONTROL_DONE;
    pthread_cond_broadcast(&c->changed);
  }
  pthread_mutex_unlock(&c->lock);
}

/* controlAnswer(id, code, text): code "OK" or that of an error */
static napi_value control_answer(napi_env env, napi_callback_info info) {
  char code[64], *text;
  napi_value v[3];
  mgn_env *self;
  uint64_t id;
  size_t bytes;

  if (!mgn_arguments(env, info, 3, v, &self) || !mgn_count_of(env, v[0], &id) ||
      !mgn_text_of(env, v[1], "a code", code, sizeof code))
    return NULL;
  if (self->control == NULL) return mgn_undefined(env);
  MGN_TRY(env, napi_get_value_string_utf8(env, v[2], NULL, 0, &bytes));
  text = malloc(bytes + 1);
  if (text == NULL) return mgn_throw_text(env, MG_ENOMEM, "an answer");
  if (napi_get_value_string_utf8(env, v[2], text, bytes + 1, &bytes) != napi_ok) {
    free(text);
    return mgn_fail_napi(env);
  }
  control_finish(self->control, (uint32_t)id, mg_status_of_code(code), text,
                 bytes);
  free(text);
  return mgn_undefined(env);
}

/* ---- the segment ------------------------------------------------------------ */

/* segmentDescribe(program, version, [kind, ...], number of kinds that are whole
 * collections): before a monitor starts */
static napi_value segment_describe(napi_env env, napi_callback_info info) {
  mg_segment_identity who = MG_SEGMENT_IDENTITY_INIT;
  char program[256], version[64], kind[MGN_GC_KINDS][24];
  uint64_t whole;
  napi_value v[4], name;

  if (!mgn_arguments(env, info, 4, v, NULL) ||
      !mgn_text_of(env, v[0], "a program", program, sizeof program) ||
      !mgn_text_of(env, v[1], "a version", version, sizeof version) ||
      !mgn_count_of(env, v[3], &whole))
    return NULL;
  for (uint32_t i = 0; i < MGN_GC_KINDS; i++) {
    MGN_TRY(env, napi_get_element(env, v[2], i, &name));
    if (!mgn_text_of(env, name, "a kind", kind[i], sizeof kind[i])) return NULL;
    who.kind[i] = kind[i];
    if (i >= whole) who.phase_kinds |= 1u << i;
  }
  who.runtime = "node";
  who.runtime_version = version;
  who.program = program;
  (void)mg_segment_describe(&who, NULL);
  return mgn_undefined(env);
}

/* segmentPath() -> "" if nothing is published */
static napi_value segment_path(napi_env env, napi_callback_info info) {
  char path[MG_SEGMENT_PATH_BYTES];

  (void)info;
  (void)mg_segment_path(path, sizeof path);
  return mgn_text(env, path);
}

/* segmentProblem() -> why nothing is published, once; else "" */
static napi_value segment_problem(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;

  (void)info;
  return mgn_text(env, mg_segment_take_problem(&err) ? err.text : "");
}

napi_status mgn_segment_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"controlServe", control_serve},
      {"controlAnswer", control_answer},
      {"segmentDescribe", segment_describe},
      {"segmentPath", segment_path},
      {"segmentProblem", segment_problem}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
