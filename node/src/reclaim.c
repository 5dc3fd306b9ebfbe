/* reclaim.c - one engine per isolate, and what can be done there.
 *
 * V8 collects when it is told that memory is short, and any thread may tell it
 * (v8::Isolate::MemoryPressureNotification): an idle event loop is woken for it, a
 * busy one is interrupted, so a loop that is blocked is collected too.
 *
 *   moderate  starts marking beside JS and ends with a short pause; the heap's
 *             free pages go back to the system. FULL on the worker, unless forced
 *             or behind a blocked loop.
 *   critical  stops JS, collects all there is, compacts, and gives external
 *             memory back at once. RELEASE.
 *
 * What malloc still holds after either, the blocks of dead Buffers above all, goes
 * back by malloc_trim(), which stops JS only where it allocates meanwhile. Caches,
 * pools, shedding and a young collection need JS: the worker asks for them through
 * the environment's door and waits a moment. A blocked loop answers later: all but
 * the collection are done then, each once, however often it was asked for.
 *
 * The worker calls V8 and the doors with the engine's lock held, and only while an
 * environment of the isolate is awake, that is while one of its monitors runs. An
 * environment that ends takes that lock and waits for no JS. */
#include "memguard_node.h"

#include <stdlib.h>
#include <time.h>

#define RECLAIM_TICK_NS 1000000
#define RECLAIM_JS_MS 50.0     /* for an answer of the event loop */
#define RECLAIM_BLOCKED_MS 5.0 /* the same, after it did not come last time */
#define RECLAIM_GC_MS 1000.0   /* for a collection to end */
#define RECLAIM_SWEEP_MS 10.0  /* after it V8 frees Buffers in a thread of its own */
#define RECLAIM_WAIT_MS 1000.0 /* JS for the worker */
#define RECLAIM_NS_PER_MS 1e6
#define RECLAIM_THOROUGH 16 /* v8::kGCCallbackFlagCollectAllAvailableGarbage */

/* What JS is asked for and may still do when nobody waits for it any more. */
#define RECLAIM_LASTING                                                 \
  (MG_ACTION_BIT(MG_ACTION_CACHES) | MG_ACTION_BIT(MG_ACTION_POOLS) | \
   MG_ACTION_BIT(MG_ACTION_SHED))

/* What act() of node/lib/reclaim.js writes. */
enum { RECLAIM_FREED, RECLAIM_USED, RECLAIM_GC, RECLAIM_VALUES };

typedef struct reclaim_request {
  mg_reason reason;
  double share;
} reclaim_request;

struct mgn_reclaim {
  mgn_reclaim *next; /* guarded by reclaim_all_lock */
  void *isolate;     /* NULL: V8's functions are not to be had, and the engine is
                        that of one environment */
  mg_reclaim *engine;
  mgn_env *caller;  /* JS thread only: whose call acts */
  uint64_t used_before; /* JS thread only: live when a collection began */
  pthread_mutex_t lock; /* guards the following; JS reads `envs` without it */
  mgn_env *envs;
  reclaim_request request[MG_ACTIONS];
  mg_action awaited; /* by the worker, from `open` environments */
  uint32_t open;
  mg_outcome answer;
  _Atomic bool is_blocked;  /* the event loop left the last ring unanswered */
  _Atomic uint32_t awake;   /* environments; changes with the lock held */
  _Atomic int hurried;      /* JS waits for the worker, so for JS nobody may */
  /* Told by V8's hooks and by JS. */
  _Atomic uint64_t live_bytes;
  _Atomic uint64_t collections, thorough; /* full ones that ended */
  _Atomic uint64_t gc_ns, freed_bytes, used_bytes; /* sums; of the last */
};

static pthread_mutex_t reclaim_all_lock = PTHREAD_MUTEX_INITIALIZER;
static mgn_reclaim *reclaim_all;

/* ---- what collections do; in V8's hooks, on the JS thread --------------- */

/* Of several environments one tells. */
static mgn_reclaim *reclaim_told_by(const mgn_env *env) {
  mgn_reclaim *self = env->reclaim.engine;

  return self != NULL && self->envs == env ? self : NULL;
}

void mgn_reclaim_tell(mgn_env *env, uint64_t live_bytes) {
  if (env->reclaim.engine != NULL)
    atomic_store(&env->reclaim.engine->live_bytes, live_bytes);
}

void mgn_reclaim_began(mgn_env *env, uint64_t live_bytes) {
  mgn_reclaim *self = reclaim_told_by(env);

  if (self != NULL) self->used_before = live_bytes;
}

void mgn_reclaim_ended(mgn_env *env, uint64_t wall_ns, bool is_whole,
                       int flags) {
  mgn_reclaim *self = reclaim_told_by(env);
  uint64_t live;

  if (self == NULL) return;
  atomic_fetch_add(&self->gc_ns, wall_ns);
  if (!is_whole) return;
  live = atomic_load(&self->live_bytes);
  if (self->used_before != MG_ABSENT && live != MG_ABSENT) {
    atomic_store(&self->used_bytes, self->used_before);
    atomic_fetch_add(&self->freed_bytes,
                     mg_fall_bytes(self->used_before, live));
  }
  if ((flags & RECLAIM_THOROUGH) != 0) atomic_fetch_add(&self->thorough, 1);
  atomic_fetch_add(&self->collections, 1); /* last: it ends a wait */
}

/* ---- measuring ------------------------------------------------------------ */

/* Sums before an action. */
typedef struct reclaim_mark {
  uint64_t rss_bytes, freed_bytes, gc_ns, collections, thorough;
} reclaim_mark;

static reclaim_mark reclaim_mark_now(const mgn_reclaim *self) {
  return (reclaim_mark){mg_rss_bytes(), atomic_load(&self->freed_bytes),
                        atomic_load(&self->gc_ns),
                        atomic_load(&self->collections),
                        atomic_load(&self->thorough)};
}

/* V8 counts Buffers as external memory until it has swept them, after the
 * collection: where the resident set fell by more, that is what was freed. In use
 * is what is resident: the heap can be a small part of it, of which some garbage is
 * a large share. */
static void reclaim_weigh(mg_outcome *out, const reclaim_mark *before) {
  uint64_t rss = mg_rss_bytes(), fall = mg_fall_bytes(before->rss_bytes, rss);

  if (rss == MG_ABSENT || before->rss_bytes == MG_ABSENT) return;
  if (fall > out->freed_bytes) out->freed_bytes = fall;
  if (before->rss_bytes > out->used_bytes)
    out->used_bytes = before->rss_bytes;
}

static void reclaim_take_collection(const mgn_reclaim *self, mg_outcome *out,
                                    const reclaim_mark *before) {
  out->was_done = true;
  out->gc_ms = (double)(atomic_load(&self->gc_ns) - before->gc_ns) /
               RECLAIM_NS_PER_MS;
  out->freed_bytes = atomic_load(&self->freed_bytes) - before->freed_bytes;
  out->used_bytes = atomic_load(&self->used_bytes);
}

static bool reclaim_collects(mg_action action) {
  return (MG_COLLECTIONS & MG_ACTION_BIT(action)) != 0;
}

/* ---- on the worker --------------------------------------------------------- */

/* One turn of a wait for the JS thread. @return whether it is worth another. */
static bool reclaim_goes_on(mgn_reclaim *self, double until_ms) {
  const struct timespec tick = {0, RECLAIM_TICK_NS};

  nanosleep(&tick, NULL);
  return atomic_load(&self->awake) != 0 && atomic_load(&self->hurried) == 0 &&
         mg_clock_ms() < until_ms;
}

static void reclaim_let_sweep(mgn_reclaim *self) {
  double until_ms = mg_clock_ms() + RECLAIM_SWEEP_MS;

  while (reclaim_goes_on(self, until_ms)) continue;
}

/* Holds the lock. @return environments asked to do `action`. */
static uint32_t reclaim_ask(mgn_reclaim *self, mg_action action) {
  uint32_t count = 0;

  for (mgn_env *env = self->envs; env != NULL; env = env->reclaim.next) {
    if (!env->reclaim.is_awake) continue;
    atomic_fetch_or(&env->reclaim.asked, MG_ACTION_BIT(action));
    mgn_env_ring(env);
    count++;
  }
  return count;
}

/* Finds out whether the event loop turns: an answer ends `is_blocked`. */
static void reclaim_ring(mgn_reclaim *self) {
  pthread_mutex_lock(&self->lock);
  atomic_store(&self->is_blocked, true);
  (void)reclaim_ask(self, MG_ACTION_NONE);
  pthread_mutex_unlock(&self->lock);
}

/* @return whether V8 was told. */
static bool reclaim_tell_v8(mgn_reclaim *self, mgn_pressure pressure) {
  bool is_awake;

  pthread_mutex_lock(&self->lock);
  is_awake = atomic_load(&self->awake) != 0;
  if (is_awake) mgn_gc_press(self->isolate, pressure);
  pthread_mutex_unlock(&self->lock);
  return is_awake;
}

/* Waits for a collection, a thorough one if it is critical; as soon as the event
 * loop turns out to be blocked, makes it so, for marking beside JS ends in a turn of
 * the loop or where JS allocates. */
static bool reclaim_await_v8(mgn_reclaim *self, bool is_critical,
                             const reclaim_mark *before) {
  double began_ms = mg_clock_ms();

  while (is_critical
             ? atomic_load(&self->thorough) == before->thorough
             : atomic_load(&self->collections) == before->collections) {
    if (!reclaim_goes_on(self, began_ms + RECLAIM_GC_MS)) return false;
    if (is_critical || !atomic_load(&self->is_blocked) ||
        mg_clock_ms() < began_ms + RECLAIM_JS_MS)
      continue;
    is_critical = true;
    if (!reclaim_tell_v8(self, MGN_PRESSURE_CRITICAL)) return false;
  }
  return true;
}

/* Has V8 collect. Where JS is in the middle of something that cannot be
 * interrupted, V8 does so later. */
static void reclaim_press(mgn_reclaim *self, bool is_critical,
                          mg_outcome *out) {
  reclaim_mark before = reclaim_mark_now(self);

  reclaim_ring(self);
  if (!reclaim_tell_v8(self, is_critical ? MGN_PRESSURE_CRITICAL
                                         : MGN_PRESSURE_MODERATE) ||
      !reclaim_await_v8(self, is_critical, &before))
    return;
  reclaim_let_sweep(self);
  (void)mg_trim_malloc();
  reclaim_take_collection(self, out, &before);
  reclaim_weigh(out, &before);
}

/* Holds the lock. Nobody waits any more. */
static void reclaim_withdraw(mgn_reclaim *self, mg_action action) {
  self->awaited = MG_ACTION_NONE;
  if ((RECLAIM_LASTING & MG_ACTION_BIT(action)) != 0) return;
  for (mgn_env *env = self->envs; env != NULL; env = env->reclaim.next)
    atomic_fetch_and(&env->reclaim.asked, ~MG_ACTION_BIT(action));
}

static bool reclaim_is_answered(mgn_reclaim *self) {
  bool is_answered;

  pthread_mutex_lock(&self->lock);
  is_answered = self->open == 0;
  pthread_mutex_unlock(&self->lock);
  return is_answered;
}

/* Has JS do it, if the event loop is free to. */
static void reclaim_post(mgn_reclaim *self, mg_action action, mg_reason reason,
                         double share, mg_outcome *out) {
  double until_ms =
      mg_clock_ms() + (atomic_load(&self->is_blocked) ? RECLAIM_BLOCKED_MS
                                                      : RECLAIM_JS_MS);

  pthread_mutex_lock(&self->lock);
  self->request[action] = (reclaim_request){reason, share};
  self->awaited = action;
  self->answer = (mg_outcome){.was_done = false};
  self->open = reclaim_ask(self, action);
  pthread_mutex_unlock(&self->lock);
  while (!reclaim_is_answered(self) && reclaim_goes_on(self, until_ms))
    continue;
  pthread_mutex_lock(&self->lock);
  if (self->open == 0)
    *out = self->answer;
  else
    atomic_store(&self->is_blocked, true);
  reclaim_withdraw(self, action);
  pthread_mutex_unlock(&self->lock);
}

static void reclaim_act_far(mgn_reclaim *self, mg_action action,
                            mg_reason reason, double share, mg_outcome *out) {
  reclaim_mark before = reclaim_mark_now(self);

  if (self->isolate != NULL &&
      (action == MG_ACTION_FULL || action == MG_ACTION_RELEASE)) {
    /* At the brink marking beside JS, which goes on allocating, takes too long. */
    reclaim_press(self,
                  action == MG_ACTION_RELEASE || reason == MG_REASON_FORCED ||
                      reason == MG_REASON_UNRECLAIMABLE,
                  out);
    return;
  }
  reclaim_post(self, action, reason, share, out);
  if (!out->was_done || !reclaim_collects(action)) return;
  (void)mg_trim_malloc();
  reclaim_weigh(out, &before);
}

/* ---- on the JS thread -------------------------------------------------------- */

static bool reclaim_get(napi_env env, napi_ref ref, napi_value *out) {
  return ref != NULL && napi_get_reference_value(env, ref, out) == napi_ok &&
         *out != NULL;
}

/* act() catches all there is; left are a stack overflow and terminate(). */
static void reclaim_call(mgn_env *owner, mg_action action, mg_reason reason,
                         double share, mg_outcome *out) {
  napi_value function, receiver, result, row, values[3];
  napi_env env = owner->env;
  bool pending = false;
  double *numbers;

  if (!reclaim_get(env, owner->reclaim.act, &function) ||
      !reclaim_get(env, owner->reclaim.row, &row) ||
      napi_get_undefined(env, &receiver) != napi_ok ||
      napi_create_uint32(env, action, &values[0]) != napi_ok ||
      napi_create_uint32(env, reason, &values[1]) != napi_ok ||
      napi_create_double(env, share, &values[2]) != napi_ok)
    return;
  if (napi_call_function(env, receiver, function, 3, values, &result) !=
      napi_ok) {
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending)
      (void)napi_get_and_clear_last_exception(env, &result);
    return;
  }
  if (napi_get_value_bool(env, result, &out->was_done) != napi_ok ||
      !out->was_done)
    return;
  numbers = mgn_doubles_of(env, row, RECLAIM_VALUES, NULL);
  if (numbers == NULL) return;
  out->freed_bytes = (uint64_t)numbers[RECLAIM_FREED];
  out->used_bytes = (uint64_t)numbers[RECLAIM_USED];
  out->gc_ms = numbers[RECLAIM_GC];
}

static void reclaim_answer(mgn_reclaim *self, mg_action action,
                           const mg_outcome *outcome) {
  pthread_mutex_lock(&self->lock);
  if (self->awaited == action && self->open > 0) {
    self->open--;
    self->answer.was_done |= outcome->was_done;
    self->answer.freed_bytes += outcome->freed_bytes;
    self->answer.used_bytes += outcome->used_bytes;
    self->answer.gc_ms += outcome->gc_ms;
  }
  pthread_mutex_unlock(&self->lock);
}

void mgn_reclaim_answer(mgn_env *env) {
  uint32_t asked = atomic_exchange(&env->reclaim.asked, 0);
  mgn_reclaim *self = env->reclaim.engine;
  reclaim_request request;

  if (self == NULL) return;
  atomic_store(&self->is_blocked, false);
  for (mg_action action = MG_ACTION_CACHES; action < MG_ACTIONS; action++) {
    mg_outcome outcome = {.was_done = false};
    if ((asked & MG_ACTION_BIT(action)) == 0) continue;
    pthread_mutex_lock(&self->lock);
    request = self->request[action];
    pthread_mutex_unlock(&self->lock);
    reclaim_call(env, action, request.reason, request.share, &outcome);
    reclaim_answer(self, action, &outcome);
  }
}

/* Collects all there is, now. A request of the worker that waits to be seen would
 * make V8 ignore this one. */
static void reclaim_release_here(mgn_reclaim *self, mg_outcome *out) {
  reclaim_mark before = reclaim_mark_now(self);
  uint64_t live = mgn_gc_live_bytes(self->caller), after;

  mgn_gc_press(self->isolate, MGN_PRESSURE_NONE);
  mgn_gc_press(self->isolate, MGN_PRESSURE_CRITICAL);
  if (atomic_load(&self->collections) == before.collections) return;
  reclaim_take_collection(self, out, &before);
  after = mgn_gc_live_bytes(self->caller);
  if (live != MG_ABSENT && after != MG_ABSENT) {
    out->used_bytes = live;
    out->freed_bytes = mg_fall_bytes(live, after);
    atomic_store(&self->live_bytes, after);
  }
  (void)mg_trim_malloc();
  reclaim_weigh(out, &before);
}

static void reclaim_act_here(mgn_reclaim *self, mg_action action,
                             mg_reason reason, double share, mg_outcome *out) {
  reclaim_mark before = reclaim_mark_now(self);

  if (action == MG_ACTION_RELEASE && self->isolate != NULL) {
    reclaim_release_here(self, out);
    return;
  }
  reclaim_call(self->caller, action, reason, share, out);
  if (!out->was_done || !reclaim_collects(action)) return;
  if (action == MG_ACTION_RELEASE) (void)mg_trim_malloc();
  reclaim_weigh(out, &before);
}

static void reclaim_act(void *ctx, mg_action action, mg_reason reason,
                        double share, bool on_worker, mg_outcome *out) {
  if (action == MG_ACTION_TRIM)
    out->was_done = mg_trim_malloc();
  else if (on_worker)
    reclaim_act_far(ctx, action, reason, share, out);
  else
    reclaim_act_here(ctx, action, reason, share, out);
}

static uint64_t reclaim_live_bytes(void *ctx) {
  return atomic_load(&((mgn_reclaim *)ctx)->live_bytes);
}

/* ---- life --------------------------------------------------------------------- */

static mgn_reclaim *reclaim_open(void *isolate) {
  mg_reclaim_hooks hooks = MG_RECLAIM_HOOKS_INIT;
  mgn_reclaim *self = calloc(1, sizeof *self);

  if (self == NULL) return NULL;
  self->isolate = isolate;
  self->used_before = MG_ABSENT;
  atomic_store(&self->live_bytes, MG_ABSENT);
  hooks.actions =
      MG_COLLECTIONS | MG_ACTION_BIT(MG_ACTION_CACHES) |
      MG_ACTION_BIT(MG_ACTION_POOLS) | MG_ACTION_BIT(MG_ACTION_TRIM) |
      MG_ACTION_BIT(MG_ACTION_SHED);
  hooks.act = reclaim_act;
  hooks.live_bytes = reclaim_live_bytes;
  hooks.ctx = self;
  if (pthread_mutex_init(&self->lock, NULL) != 0) goto fail;
  if (mg_reclaim_open(&self->engine, &hooks, NULL) != MG_OK) goto fail_lock;
  return self;

fail_lock:
  pthread_mutex_destroy(&self->lock);
fail:
  free(self);
  return NULL;
}

/* The engine of `isolate`, made if there is none. */
static mgn_reclaim *reclaim_of(void *isolate) {
  mgn_reclaim *self = NULL;

  pthread_mutex_lock(&reclaim_all_lock);
  if (isolate != NULL)
    for (self = reclaim_all; self != NULL && self->isolate != isolate;)
      self = self->next;
  if (self == NULL) {
    self = reclaim_open(isolate);
    if (self != NULL) {
      self->next = reclaim_all;
      reclaim_all = self;
    }
  }
  pthread_mutex_unlock(&reclaim_all_lock);
  return self;
}

/* No environment is left: the worker finds nothing to do, and does not wait. */
static void reclaim_close(mgn_reclaim *self) {
  mgn_reclaim **at = &reclaim_all;

  pthread_mutex_lock(&reclaim_all_lock);
  while (*at != self) at = &(*at)->next;
  *at = self->next;
  pthread_mutex_unlock(&reclaim_all_lock);
  mg_reclaim_close(self->engine);
  pthread_mutex_destroy(&self->lock);
  free(self);
}

/* Holds the lock. */
static void reclaim_set_awake(mgn_env *env, bool is_awake) {
  if (is_awake && !env->reclaim.is_awake)
    atomic_fetch_add(&env->reclaim.engine->awake, 1);
  else if (!is_awake && env->reclaim.is_awake)
    atomic_fetch_sub(&env->reclaim.engine->awake, 1);
  env->reclaim.is_awake = is_awake;
}

void mgn_reclaim_join(mgn_manager *manager) {
  mgn_reclaim *self = manager->owner->reclaim.engine;

  if (self != NULL)
    mg_monitor_join(mg_manager_monitor(manager->core), self->engine);
}

void mgn_reclaim_leave(mgn_env *env) {
  mgn_reclaim *self = env->reclaim.engine;
  mgn_env **at;
  bool is_last;

  if (self == NULL) return;
  for (mgn_manager *m = env->managers; m != NULL; m = m->next)
    if (m->core != NULL) mg_monitor_join(mg_manager_monitor(m->core), NULL);
  pthread_mutex_lock(&self->lock);
  for (at = &self->envs; *at != env;) at = &(*at)->reclaim.next;
  *at = env->reclaim.next;
  reclaim_set_awake(env, false);
  /* It will not answer what it was asked for. */
  if (self->open > 0 &&
      (atomic_load(&env->reclaim.asked) & MG_ACTION_BIT(self->awaited)) != 0)
    self->open--;
  is_last = self->envs == NULL;
  pthread_mutex_unlock(&self->lock);
  env->reclaim.engine = NULL;
  if (env->reclaim.act != NULL)
    (void)napi_delete_reference(env->env, env->reclaim.act);
  if (env->reclaim.row != NULL)
    (void)napi_delete_reference(env->env, env->reclaim.row);
  env->reclaim.act = env->reclaim.row = NULL;
  if (is_last) reclaim_close(self);
}

/* ---- for reclaim_js.c ------------------------------------------------------------ */

mg_reclaim *mgn_reclaim_engine(const mgn_env *env) {
  return env->reclaim.engine == NULL ? NULL : env->reclaim.engine->engine;
}

bool mgn_reclaim_open(mgn_env *env, bool by_pressure) {
  mgn_reclaim *self = reclaim_of(by_pressure ? mgn_gc_pressable(env) : NULL);

  if (self == NULL) return false;
  pthread_mutex_lock(&self->lock);
  env->reclaim.engine = self;
  env->reclaim.next = self->envs;
  self->envs = env;
  pthread_mutex_unlock(&self->lock);
  return true;
}

void mgn_reclaim_wake(mgn_env *env, bool is_awake) {
  mgn_reclaim *self = env->reclaim.engine;

  if (self == NULL) return;
  pthread_mutex_lock(&self->lock);
  reclaim_set_awake(env, is_awake && env->door != NULL);
  pthread_mutex_unlock(&self->lock);
}

void mgn_reclaim_hurry(mgn_env *env, int change) {
  if (env->reclaim.engine != NULL)
    atomic_fetch_add(&env->reclaim.engine->hurried, change);
}

mg_status mgn_reclaim_run(mgn_env *env, uint32_t actions, mg_reason reason,
                          double share, mg_round *out, mg_error *err) {
  mgn_reclaim *self = env->reclaim.engine;
  mgn_env *outer = self->caller;
  mg_status st;

  self->caller = env;
  mgn_reclaim_hurry(env, 1);
  st = mg_reclaim_run(self->engine, actions, reason, share, RECLAIM_WAIT_MS,
                      out, err);
  mgn_reclaim_hurry(env, -1);
  self->caller = outer;
  return st;
}

bool mgn_reclaim_poll(mgn_env *env) {
  mgn_reclaim *self = env->reclaim.engine;
  mgn_env *outer = self->caller;
  bool was_done;

  self->caller = env;
  was_done = mg_reclaim_poll(self->engine);
  self->caller = outer;
  return was_done;
}
