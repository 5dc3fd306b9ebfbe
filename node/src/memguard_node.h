/* memguard_node.h - what the files of the Node addon share.
 *
 * A function of the addon parses its arguments, makes one call of the core and
 * converts the answer; node/lib is its only caller. One mgn_env exists per
 * napi_env: each Worker has its own, and so has a second require() on the same
 * isolate (jest). Everything here runs on that environment's JS thread, except
 * what says otherwise.
 *
 * No call of Node-API is trusted to work: while worker.terminate() is at work
 * any of them may refuse. A function then returns NULL with nothing leaked. */
#ifndef MEMGUARD_NODE_H
#define MEMGUARD_NODE_H

#include <node_api.h>
#include <pthread.h>
#include <stdatomic.h>

#include "memguard.h"

/* Leaves a napi_callback when a call of Node-API fails. */
#define MGN_TRY(env, call) \
  do {                     \
    if ((call) != napi_ok) return mgn_fail_napi(env); \
  } while (0)

#define MGN_COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- gc.c: what the collector did, recorded by V8's own hooks ----------- */

/* Kinds of v8::GCType in its order: three collections, then phases of one. */
#define MGN_GC_KINDS 5
#define MGN_GC_LONG 5 /* long pauses kept until JS comes by */

typedef struct mgn_gc_clocks {
  uint64_t wall_ns, cpu_ns;
} mgn_gc_clocks;

typedef struct mgn_gc_long {
  uint64_t kind, wall_ns;
} mgn_gc_long;

typedef struct mgn_gc {
  void *isolate; /* NULL: hooks are not installed */
  bool knows_heap; /* V8's heap statistics can be read in the hooks */
  bool lacks_minor; /* V8 before 10 has no second kind */
  mg_pauses *pauses; /* every pause by kind; NULL: nothing is recorded */
  mg_pauses *collections; /* the same without the phases, for totals */
  mgn_gc_clocks began[MGN_GC_KINDS]; /* wall 0: none under way */
  uint64_t long_ns;                  /* a longer pause is kept for JS */
  uint64_t long_count;               /* all since JS came by */
  mgn_gc_long longs[MGN_GC_LONG];    /* the first of them */
  bool is_teller; /* of the environments of an isolate one tells the segment */
  struct mgn_gc *next; /* of all with hooks; under a lock */
  uint64_t allocated_bytes; /* on the heap since `knows_heap`, up to `left_bytes` */
  uint64_t left_bytes;      /* used when that was counted last */
  uint64_t base_bytes, told_bytes; /* what V8 counts more; what was told last */
} mgn_gc;

struct mgn_env;

/** Records pauses from now on, and after each collection tells the heap to the
 *  monitors of `self`. Installs nothing where V8's hooks cannot be found, and
 *  records nothing if memory is short. */
void mgn_gc_install(struct mgn_env *self);
void mgn_gc_remove(struct mgn_env *self);
napi_status mgn_gc_define(napi_env env, napi_value exports, void *data);

/* v8::MemoryPressureLevel */
typedef enum mgn_pressure {
  MGN_PRESSURE_NONE,
  MGN_PRESSURE_MODERATE,
  MGN_PRESSURE_CRITICAL
} mgn_pressure;

/** @return the isolate of `self` if mgn_gc_press() works on it; else NULL. */
void *mgn_gc_pressable(const struct mgn_env *self);
/** Tells V8 that memory is short. Any thread, while the isolate lives. */
void mgn_gc_press(void *isolate, mgn_pressure pressure);
/** Bytes allocated on the heap so far. @param v8_bytes what V8 counted itself, or
 *  MG_ABSENT. @return MG_ABSENT if neither knows. */
uint64_t mgn_gc_allocated_bytes(mgn_gc *gc, uint64_t used_bytes,
                                uint64_t v8_bytes);
/** Heap and external memory in use, MG_ABSENT if V8 does not tell. */
uint64_t mgn_gc_live_bytes(const struct mgn_env *self);

/* ---- reclaim.c: the engine of an isolate -------------------------------- */

typedef struct mgn_reclaim mgn_reclaim;
typedef struct mgn_manager mgn_manager;

/* An environment's place with the engine. */
typedef struct mgn_reclaim_seat {
  mgn_reclaim *engine;   /* NULL until opened, and at the end */
  struct mgn_env *next;  /* of the engine; guarded by its lock */
  bool is_awake;         /* the worker may call; guarded by it */
  _Atomic uint32_t asked; /* bits of actions that JS is asked for */
  napi_ref act, row;     /* of JS: does an action, and tells of it */
} mgn_reclaim_seat;

/** What V8's hooks know: heap and external memory now; a full collection begins;
 *  it ended, or a first part of it. JS thread, also inside a hook. */
void mgn_reclaim_tell(struct mgn_env *env, uint64_t live_bytes);
void mgn_reclaim_began(struct mgn_env *env, uint64_t live_bytes);
void mgn_reclaim_ended(struct mgn_env *env, uint64_t wall_ns, bool is_whole,
                       int flags);
/** Does what the worker asked this environment for. */
void mgn_reclaim_answer(struct mgn_env *env);
/** Has the engine follow the manager's monitor, if there is one. */
void mgn_reclaim_join(mgn_manager *manager);
/** Opens or joins the engine of the isolate. @param by_pressure false: JS collects,
 *  not V8 by its own. @return false if there is no room. */
bool mgn_reclaim_open(struct mgn_env *env, bool by_pressure);
/** @return NULL until opened. */
mg_reclaim *mgn_reclaim_engine(const struct mgn_env *env);
/** Whether the worker may call this environment and its isolate. Waits for such a
 *  call to end, which takes microseconds. */
void mgn_reclaim_wake(struct mgn_env *env, bool is_awake);
/** 1 before and -1 after what makes the JS thread wait for the worker: meanwhile
 *  the worker does not wait for JS. */
void mgn_reclaim_hurry(struct mgn_env *env, int change);
/** mg_reclaim_run() and mg_reclaim_poll() on the JS thread, once opened. */
mg_status mgn_reclaim_run(struct mgn_env *env, uint32_t actions,
                          mg_reason reason, double share, mg_round *out,
                          mg_error *err);
bool mgn_reclaim_poll(struct mgn_env *env);
/** At the end of an environment: waits for no JS. */
void mgn_reclaim_leave(struct mgn_env *env);
napi_status mgn_reclaim_define(napi_env env, napi_value exports, void *data);

/* ---- addon.c: one environment ------------------------------------------- */

typedef struct mgn_control mgn_control;

typedef struct mgn_env {
  napi_env env;
  uint32_t holders; /* instance data and open managers; 0 frees */
  pthread_t thread; /* the JS thread */
  napi_threadsafe_function door; /* NULL until the first start */
  _Atomic bool door_rung;        /* an answer is under way */
  mgn_manager *managers;         /* open ones */
  mgn_gc gc;
  mgn_reclaim_seat reclaim;
  mgn_control *control; /* NULL until the first start */
  int64_t connections;  /* in use, of those counted for the process */
} mgn_env;

mgn_env *mgn_env_hold(mgn_env *self);
void mgn_env_release(mgn_env *self);
/** Opens the way from other threads to the managers' `dispatch`. Throws. */
bool mgn_env_open_door(napi_env env, mgn_env *self);
/** Has door_answer() run on the JS thread. Any thread, while the door is open. */
void mgn_env_ring(mgn_env *self);
/** mg_monitor_hooks.wake with an mgn_manager. Any thread. */
void mgn_wake(void *ctx);

/* ---- segment.c: requests from outside ----------------------------------- */

/** Hands a waiting request to JS. */
void mgn_control_answer(mgn_env *self);
/** 1 before and -1 after what makes the JS thread wait for the worker: a request
 *  does not wait for JS meanwhile. */
void mgn_control_hurry(mgn_env *self, int change);
/** Takes no more requests. Before the door closes. */
void mgn_control_end(mgn_env *self);

/* ---- error.c: failures and arguments ------------------------------------ */

/** Throws an Error, TypeError or RangeError with the `code` of `status`.
 *  @return NULL, for `return mgn_throw(...)`. */
napi_value mgn_throw(napi_env env, const mg_error *err);
napi_value mgn_throw_text(napi_env env, mg_status status, const char *text);
/** For a failed call of Node-API: throws unless something is thrown already. */
napi_value mgn_fail_napi(napi_env env);
napi_status mgn_error_define(napi_env env, napi_value exports, void *data);

/** Reads exactly `count` arguments. Throws if there are fewer. */
bool mgn_arguments(napi_env env, napi_callback_info info, size_t count,
                   napi_value *values, mgn_env **out);
bool mgn_number_of(napi_env env, napi_value value, double *out);
bool mgn_bool_of(napi_env env, napi_value value, bool *out);
/** A whole number of 0 to 2^53. */
bool mgn_count_of(napi_env env, napi_value value, uint64_t *out);
/** A string as UTF-8. Throws when it does not fit or holds a NUL.
 *  @param what named by the error. */
bool mgn_text_of(napi_env env, napi_value value, const char *what, char *out,
                 size_t out_bytes);
/** The numbers of a Float64Array of at least `least` elements [borrowed while
 *  the argument lives]. */
double *mgn_doubles_of(napi_env env, napi_value value, size_t least,
                       size_t *out_count);

/** What is wrapped in `value`, if that is a handle of kind `tag`; else NULL. */
void *mgn_unwrap(napi_env env, napi_value value, const napi_type_tag *tag);

/** Absent readings are NaN in JS. */
double mgn_from_u64(uint64_t value);
uint64_t mgn_to_u64(double value);
napi_value mgn_undefined(napi_env env);
napi_value mgn_number(napi_env env, double value);
napi_value mgn_boolean(napi_env env, bool value);
napi_value mgn_text(napi_env env, const char *text);

/** Defines functions `names[i]` = `functions[i]`. */
typedef struct mgn_function {
  const char *name;
  napi_callback call;
} mgn_function;
napi_status mgn_define(napi_env env, napi_value exports, void *data,
                       const mgn_function *functions, size_t count);
/** Defines an array of strings. */
napi_status mgn_define_names(napi_env env, napi_value exports,
                             const char *name, const char *const *names,
                             size_t count);

/* ---- pool.c ------------------------------------------------------------- */

napi_status mgn_pool_define(napi_env env, napi_value exports, void *data);

/* ---- config.c ----------------------------------------------------------- */

/** The configuration behind a handle [borrowed]. Throws. */
mg_config *mgn_config_of(napi_env env, napi_value value);
napi_status mgn_config_define(napi_env env, napi_value exports, void *data);

/* ---- manager.c ---------------------------------------------------------- */

/* JS functions that a clean-up calls, alive while its call lasts. */
typedef struct mgn_call {
  napi_env env;
  napi_value run;    /* (token) -> whether it went well */
  napi_value failed; /* (path, system_errno) */
} mgn_call;

struct mgn_manager {
  mgn_env *owner;
  mgn_manager *previous, *next; /* in owner->managers */
  mg_manager *core;             /* NULL once closed */
  mg_detector *detector;        /* NULL: none is open */
  napi_ref page;                /* keeps the page's ArrayBuffer */
  napi_ref dispatch;            /* JS function that takes waiting events */
  _Atomic bool rung;            /* events wait since `dispatch` was called */
  uint64_t array_buffer_bytes;  /* as JS last told: V8 does not count them */
  mgn_call *call;               /* the clean-up under way, innermost */
  bool close_wanted;            /* close() came from inside a clean-up */
  mg_buffer **buffers;          /* by the number JS knows them by; may be NULL */
  size_t buffer_slots;
};

/** The manager behind a handle [borrowed]. Throws if it is closed. */
mgn_manager *mgn_manager_of(napi_env env, napi_value value);
/** The same without throwing: NULL if it is none, or closed. */
mgn_manager *mgn_manager_peek(napi_env env, napi_value value);
/** Stops, removes temporary files, drops the rest; runs no JS. */
void mgn_manager_shut(napi_env env, mgn_manager *self);
/** Runs `work` with the JS functions `run` and `failed` in place. */
void mgn_manager_call(mgn_manager *self, mgn_call *call,
                      void (*work)(mgn_manager *self, void *ctx), void *ctx);
napi_status mgn_manager_define(napi_env env, napi_value exports, void *data);

/* ---- detector.c ---------------------------------------------------------- */

/** A full collection ended. JS thread, also inside one. */
void mgn_detectors_collected(mgn_env *env, uint64_t live_bytes,
                             uint64_t wall_ns);
/** Closes the manager's detector, if there is one. */
void mgn_detector_end(mgn_manager *manager);
napi_status mgn_detector_define(napi_env env, napi_value exports, void *data);

/* ---- the other domains -------------------------------------------------- */

napi_status mgn_alert_define(napi_env env, napi_value exports, void *data);
napi_status mgn_census_define(napi_env env, napi_value exports, void *data);
napi_status mgn_leak_replay_define(napi_env env, napi_value exports,
                                   void *data);
napi_status mgn_buffer_define(napi_env env, napi_value exports, void *data);
napi_status mgn_monitor_define(napi_env env, napi_value exports, void *data);
napi_status mgn_optimize_define(napi_env env, napi_value exports, void *data);
napi_status mgn_policy_define(napi_env env, napi_value exports, void *data);
napi_status mgn_tune_define(napi_env env, napi_value exports, void *data);
napi_status mgn_process_define(napi_env env, napi_value exports, void *data);
napi_status mgn_resource_define(napi_env env, napi_value exports, void *data);
napi_status mgn_segment_define(napi_env env, napi_value exports, void *data);

/* ---- metrics.c ---------------------------------------------------------- */

napi_status mgn_metrics_define(napi_env env, napi_value exports, void *data);
napi_status mgn_sample_define(napi_env env, napi_value exports, void *data);
napi_status mgn_recycle_define(napi_env env, napi_value exports, void *data);
napi_status mgn_trend_define(napi_env env, napi_value exports, void *data);
napi_status mgn_web_define(napi_env env, napi_value exports, void *data);

/** Hooks of mg_resources with an mgn_manager; see resource.c. */
extern const mg_resource_hooks mgn_resource_hooks;

/** Writes a sample in the order of mg_page.value. */
void mgn_sample_write(double out[MG_PAGE_VALUES], const mg_sample *sample);

#endif
