/* sampler.c - the one sampler thread of a process, and its worker.
 *
 *   sampler   waits (timer, kernel, asked) -> reads the process once -> every
 *             running monitor judges it -> hooks.wake of those that have news
 *   worker    started by the first delivery; calls hooks.deliver, which may
 *             block, so that a slow host never stops the sampling
 *
 * One lock guards the seats, the threads' states and the reader. It is never
 * held while a hook runs; a pin keeps the seat alive meanwhile. Lock order:
 * sampler -> detectors -> monitor -> buffers.
 *
 * fork(): the handlers below hold every lock across the fork, so the child finds
 * whole data. The child closes the descriptors that describe its parent and
 * has no threads until mg_fork_child() or the next start. */
#include "internal.h"

#include <math.h>

#include "control_parts.h"
#include "memguard/pool.h"
#include "os.h"
#include "segment_parts.h"

#define SAMPLER_STACK_BYTES (128u * 1024u)
#define SAMPLER_IDLE_MS 5000.0
#define SAMPLER_LEAST_TICK_MS 10.0
#define SAMPLER_NS_PER_MS 1e6

static struct {
  mg__mutex lock;
  mg__cond changed; /* a pin was dropped, a thread ended */
  mg__signal work;  /* the worker has something to do */
  mg__seat *seats;
  mg__engine *engines;
  mg__os *os;
  mg__os_events *events;
  uint32_t events_epoch; /* of the control group that `events` watches */
  mg__thread thread, worker;
  bool thread_up, worker_up;
  bool stopping;  /* threads are being joined; starts wait */
  bool suspended; /* between mg_fork_prepare() and its counterpart */
  bool has_fork_handlers;
  uint32_t forks; /* how many forks away this process is from the first */
} sampler = {.lock = MG__MUTEX_INIT, .changed = MG__COND_INIT};

/* ---- reading; the caller holds the lock -------------------------------- */

static void sampler_before_fork(void);
static void sampler_after_fork_in_parent(void);
static void sampler_after_fork_in_child(void);

static mg_status sampler_handle_fork(mg_error *err) {
  mg_status st;

  if (sampler.has_fork_handlers) return MG_OK;
  st = mg__os_at_fork(sampler_before_fork, sampler_after_fork_in_parent,
                      sampler_after_fork_in_child, err);
  if (st == MG_OK) mg__signal_reset(&sampler.work);
  sampler.has_fork_handlers = st == MG_OK;
  return st;
}

/* NULL without memory: then readings are absent. */
static mg__os *sampler_os(void) {
  if (sampler.os == NULL && sampler_handle_fork(NULL) == MG_OK)
    mg__os_open(&sampler.os, "", NULL);
  return sampler.os;
}

static void sampler_read(mg_reading *out) {
  mg__os *os = sampler_os();

  mg_reading_init(out);
  if (os != NULL) mg__os_read(os, out);
  mg__look_at_process(out);
}

/* ---- sampler thread ---------------------------------------------------- */

/* Calls with the pin and without the lock. A hook that forked returns in the child
 * too, where this thread is none of ours and the seat may be gone: false. */
static bool sampler_call(uint32_t *pins, void (*call)(void *), void *ctx) {
  uint32_t forks = sampler.forks;

  ++*pins;
  mg__unlock(&sampler.lock);
  call(ctx);
  mg__lock(&sampler.lock);
  if (sampler.forks != forks) return false;
  --*pins;
  mg__cond_wake_all(&sampler.changed);
  return true;
}

/* Calls the hooks of seats with news. Holds the lock on entry and return. */
static void sampler_wake_hosts(void) {
  for (mg__seat *seat = sampler.seats; seat != NULL;) {
    bool is_due = seat->wake_due;
    seat->wake_due = false;
    if (is_due && !sampler_call(&seat->pins, seat->hooks.wake, seat->hooks.ctx))
      return;
    seat = is_due ? sampler.seats : seat->next; /* the list may have changed */
  }
}

/* @return ms until the next tick is due. */
static double sampler_tick(mg__seat *seat, double now_ms) {
  if (seat->tick == NULL) return SAMPLER_IDLE_MS;
  if (now_ms >= seat->tick_at_ms) {
    seat->tick_due = true;
    seat->tick_at_ms = now_ms + seat->tick_every_ms;
  }
  return seat->tick_at_ms - now_ms;
}

/* One pass over all monitors. Holds the lock. @return ms until the next. */
static double sampler_pass(void) {
  double due_ms = SAMPLER_IDLE_MS, now_ms;
  bool is_tight = false;
  mg_reading reading;
  uint64_t clock_ns, unix_ms;

  sampler_read(&reading);
  mg__segment_follow_group(sampler.os);
  clock_ns = mg_clock_ns();
  unix_ms = mg__os_unix_ms();
  now_ms = (double)clock_ns / SAMPLER_NS_PER_MS;
  mg__segment_begin_pass();
  for (mg__seat *seat = sampler.seats; seat != NULL; seat = seat->next) {
    mg__verdict verdict;
    if (!seat->running) continue;
    verdict = mg__monitor_judge(seat->monitor, &reading, clock_ns, unix_ms,
                                MG__PASS_BACKGROUND, NULL);
    if (verdict.due_ms < due_ms) due_ms = verdict.due_ms;
    due_ms = fmin(due_ms, sampler_tick(seat, now_ms));
    is_tight |= verdict.is_tight;
    seat->wake_due |= verdict.wake && seat->hooks.wake != NULL;
    seat->deliver_due |= verdict.deliver && seat->hooks.deliver != NULL;
  }
  mg__segment_publish();
  if (is_tight && sampler.os != NULL)
    mg__os_events_arm(sampler.events, sampler.os);
  return due_ms;
}

static void sampler_start_worker(void);

static mg__seat *sampler_next_delivery(void) {
  mg__seat *seat = sampler.seats;

  while (seat != NULL && !seat->deliver_due && !seat->tick_due)
    seat = seat->next;
  return seat;
}

static bool sampler_needs_worker(void) {
  if (sampler_next_delivery() != NULL) return true;
  for (const mg__engine *e = sampler.engines; e != NULL; e = e->next)
    if (e->is_urgent || mg_reclaim_is_due(e->reclaim)) return true;
  return mg__control_has_job();
}

/* Wakes the worker if there is something for it. Holds the lock. */
static void sampler_put_to_work(void) {
  bool is_due = mg__control_has_job();

  for (mg__engine *e = sampler.engines; e != NULL; e = e->next)
    if (mg_reclaim_is_due(e->reclaim) && !atomic_exchange(&e->due, true))
      is_due = true;
  if (sampler_needs_worker()) sampler_start_worker();
  if (is_due || sampler_next_delivery() != NULL) mg__signal_post(&sampler.work);
}

static double sampler_notice_ratio(void) {
  double ratio = 1.0;

  for (const mg__seat *seat = sampler.seats; seat != NULL; seat = seat->next) {
    double wanted = mg__monitor_notice_ratio(seat->monitor);
    if (wanted < ratio) ratio = wanted;
  }
  return ratio;
}

static mg_status sampler_open_events(mg__os_events **out, mg_error *err) {
  mg__os *os = sampler_os();

  *out = NULL;
  if (os == NULL) return mg__fail(err, MG_ENOMEM, "reader of the process");
  sampler.events_epoch = mg__os_epoch(os);
  return mg__os_events_open(out, os, sampler_notice_ratio(), err);
}

/* Watches the new group when the process moved or a limit changed. Holds the
 * lock but while it closes what watched the former one; on the only thread that
 * waits. Failing leaves that in place. */
static void sampler_follow_group(void) {
  mg__os_events *events, *former;

  if (sampler.os == NULL || mg__os_epoch(sampler.os) == sampler.events_epoch)
    return;
  if (sampler_open_events(&events, NULL) != MG_OK) return;
  former = sampler.events;
  sampler.events = events;
  mg__unlock(&sampler.lock);
  mg__os_events_close(former);
  mg__lock(&sampler.lock);
}

static void sampler_run(void *ctx) {
  (void)ctx;
  mg__lock(&sampler.lock);
  while (!sampler.stopping) {
    double due_ms = sampler_pass();
    mg__os_events *events;
    sampler_follow_group();
    sampler_put_to_work();
    sampler_wake_hosts();
    if (sampler.stopping) break;
    events = sampler.events;
    mg__unlock(&sampler.lock);
    mg__pools_follow();
    mg_pools_tick(mg_clock_ms());
    mg__segment_tick(mg_clock_ms());
    if (mg__detectors_work()) due_ms = 0.0; /* the next pass tells of it */
    mg__control_wait(events, due_ms);
    mg__lock(&sampler.lock);
  }
  mg__unlock(&sampler.lock);
  mg__pools_stop_time();
}

/* ---- worker thread ----------------------------------------------------- */

static bool sampler_is_wanted(void) {
  for (const mg__seat *seat = sampler.seats; seat != NULL; seat = seat->next)
    if (seat->running) return true;
  return false;
}

static bool sampler_deliver(mg__seat *seat) {
  void (*call)(void *) = seat->deliver_due ? seat->hooks.deliver : seat->tick;

  if (seat->deliver_due)
    seat->deliver_due = false;
  else
    seat->tick_due = false;
  if (call == NULL) return true; /* no ticks any more */
  return sampler_call(&seat->pins, call, seat->hooks.ctx);
}

static void sampler_reclaim(void *reclaim) { mg__reclaim_work(reclaim); }

static mg__engine *sampler_next_engine(void) {
  mg__engine *engine = sampler.engines;

  while (engine != NULL && !atomic_exchange(&engine->due, false))
    engine = engine->next;
  return engine;
}

/* Holds the lock. A hook may stop everything, which cannot join the thread it
 * is on: then the worker ends by itself. */
static void sampler_work_until_stopped(void) {
  while (!sampler.stopping) {
    mg__seat *seat = sampler_next_delivery();
    mg__engine *engine = sampler_next_engine();
    bool is_asked = mg__control_has_job();
    uint32_t pins = 0; /* of the control it takes care itself */
    if (seat != NULL && !sampler_deliver(seat)) return;
    if (engine != NULL &&
        !sampler_call(&engine->pins, sampler_reclaim, engine->reclaim))
      return;
    if (is_asked && !sampler_call(&pins, mg__control_work, NULL)) return;
    if (seat != NULL || engine != NULL || is_asked) continue;
    if (!sampler_is_wanted()) {
      mg__thread_detach(&sampler.worker);
      sampler.worker_up = false;
      return;
    }
    mg__unlock(&sampler.lock);
    mg__signal_wait(&sampler.work);
    mg__lock(&sampler.lock);
  }
}

static void sampler_work(void *ctx) {
  (void)ctx;
  mg__lock(&sampler.lock);
  sampler_work_until_stopped();
  mg__unlock(&sampler.lock);
}

static bool sampler_is_worker(void) {
  return sampler.worker_up && mg__thread_is_self(&sampler.worker);
}

/* Holds the lock. Without a worker, events wait for the host to ask. */
static void sampler_start_worker(void) {
  if (sampler.worker_up || sampler.stopping || sampler.suspended) return;
  sampler.worker_up = mg__thread_start(&sampler.worker, "memguard-work", 0,
                                       sampler_work, NULL, NULL) == MG_OK;
}

/* ---- starting and stopping; the caller holds the lock ------------------ */

static mg_status sampler_start_thread(mg_error *err) {
  mg_status st;

  /* Whoever stops the threads waits for the worker, and starts them again if
   * they are wanted by then. */
  if (sampler.stopping && sampler_is_worker()) return MG_OK;
  while (sampler.stopping) mg__cond_wait(&sampler.changed, &sampler.lock);
  if (sampler.thread_up || sampler.suspended) return MG_OK;
  st = sampler_open_events(&sampler.events, err);
  if (st != MG_OK) return st;
  st = mg__thread_start(&sampler.thread, "memguard", SAMPLER_STACK_BYTES,
                        sampler_run, NULL, err);
  if (st != MG_OK) goto fail_events;
  sampler.thread_up = true;
  return MG_OK;

fail_events:
  mg__os_events_close(sampler.events);
  sampler.events = NULL;
  return st;
}

/* Joins what runs; releases the lock meanwhile. */
static void sampler_join(bool thread_up, bool worker_up) {
  sampler.stopping = true;
  mg__signal_post(&sampler.work);
  if (thread_up) mg__os_events_wake(sampler.events);
  mg__unlock(&sampler.lock);
  if (thread_up) mg__thread_join(&sampler.thread);
  if (worker_up) mg__thread_join(&sampler.worker);
  mg__os_events_close(sampler.events); /* nobody starts or wakes meanwhile */
  mg__lock(&sampler.lock);
  sampler.thread_up = false;
  if (worker_up) sampler.worker_up = false;
  sampler.events = NULL;
  sampler.stopping = false;
  mg__cond_wake_all(&sampler.changed);
}

/* Ends and joins both threads; on the worker, only the sampler. */
static void sampler_stop_threads(void) {
  bool worker_up;

  if (sampler.stopping && sampler_is_worker()) return; /* under way */
  while (sampler.stopping) mg__cond_wait(&sampler.changed, &sampler.lock);
  worker_up = sampler.worker_up && !sampler_is_worker();
  if (!sampler.thread_up && !worker_up) return;
  sampler_join(sampler.thread_up, worker_up);
  if (sampler_is_wanted()) sampler_start_thread(NULL);
}

/* ---- fork -------------------------------------------------------------- */

static void sampler_before_fork(void) {
  mg__lock(&sampler.lock);
  mg__detectors_lock();
  for (mg__seat *seat = sampler.seats; seat != NULL; seat = seat->next)
    mg__monitor_before_fork(seat->monitor);
  mg__detectors_before_fork();
  for (mg__engine *e = sampler.engines; e != NULL; e = e->next)
    mg__reclaim_before_fork(e->reclaim);
  mg__segment_before_fork();
}

/* The thread that forked holds the locks in the child as well. */
static void sampler_release_after_fork(void) {
  for (mg__seat *seat = sampler.seats; seat != NULL; seat = seat->next)
    mg__monitor_after_fork(seat->monitor);
  mg__unlock(&sampler.lock);
}

static void sampler_after_fork_in_parent(void) {
  mg__segment_after_fork();
  for (mg__engine *e = sampler.engines; e != NULL; e = e->next)
    mg__reclaim_after_fork(e->reclaim);
  mg__detectors_after_fork();
  sampler_release_after_fork();
}

static void sampler_after_fork_in_child(void) {
  mg__segment_after_fork_in_child();
  for (mg__seat *seat = sampler.seats; seat != NULL; seat = seat->next)
    seat->pins = 0;
  for (mg__engine *e = sampler.engines; e != NULL; e = e->next) {
    e->pins = 0;
    atomic_store(&e->due, false);
    mg__reclaim_after_fork_in_child(e->reclaim);
  }
  mg__detectors_after_fork_in_child();
  mg__pools_after_fork_in_child();
  mg__cond_reset(&sampler.changed);
  mg__signal_reset(&sampler.work);
  sampler.thread_up = sampler.worker_up = sampler.stopping = false;
  sampler.forks++;
  mg__os_events_close(sampler.events);
  mg__os_close(sampler.os);
  sampler.events = NULL;
  sampler.os = NULL;
  sampler_release_after_fork();
}

void mg_fork_prepare(void) {
  mg__lock(&sampler.lock);
  sampler.suspended = true;
  sampler_stop_threads();
  mg__unlock(&sampler.lock);
}

static void sampler_resume(void) {
  mg__lock(&sampler.lock);
  sampler.suspended = false;
  if (sampler_is_wanted()) sampler_start_thread(NULL);
  mg__unlock(&sampler.lock);
}

void mg_fork_parent(void) { sampler_resume(); }
void mg_fork_child(void) { sampler_resume(); }

uint32_t mg__sampler_forks(void) { return sampler.forks; }

/* ---- seats ------------------------------------------------------------- */

mg_status mg__sampler_add(mg__seat *seat, mg_error *err) {
  mg_status st;

  mg__lock(&sampler.lock);
  st = sampler_handle_fork(err);
  if (st == MG_OK) {
    seat->next = sampler.seats;
    sampler.seats = seat;
  }
  mg__unlock(&sampler.lock);
  return st;
}

/* With nothing to watch, neither threads nor descriptors stay; a later reading
 * opens what it needs again. Holds the lock. */
static void sampler_rest(void) {
  if (sampler_is_wanted()) return;
  sampler_stop_threads();
  if (sampler_is_wanted() || sampler.thread_up || sampler.stopping) return;
  mg__segment_rest();
  mg__os_close(sampler.os);
  sampler.os = NULL;
}

void mg__sampler_remove(mg__seat *seat) {
  mg__seat **at;

  mg__lock(&sampler.lock);
  seat->running = seat->wake_due = seat->deliver_due = seat->tick_due = false;
  while (seat->pins > 0) mg__cond_wait(&sampler.changed, &sampler.lock);
  for (at = &sampler.seats; *at != seat; at = &(*at)->next) {
  }
  *at = seat->next;
  sampler_rest();
  mg__unlock(&sampler.lock);
}

/* Holds the lock. */
static void sampler_wake(void) {
  if (sampler.thread_up && !sampler.stopping) mg__os_events_wake(sampler.events);
}

mg_status mg__sampler_start(mg__seat *seat, bool *out_began, mg_error *err) {
  mg_status st;

  mg__lock(&sampler.lock);
  st = sampler_start_thread(err);
  *out_began = st == MG_OK && !seat->running;
  if (*out_began) {
    /* Before the lock is free: the thread cannot report earlier than this. */
    mg__monitor_note_life(seat->monitor, MG_EVENT_STARTED);
    seat->running = true;
    mg__segment_resume(seat->monitor);
  }
  if (st == MG_OK) sampler_wake();
  mg__unlock(&sampler.lock);
  return st;
}

bool mg__sampler_stop(mg__seat *seat) {
  bool ran;

  mg__lock(&sampler.lock);
  ran = seat->running;
  seat->running = false;
  if (ran) sampler_rest();
  mg__unlock(&sampler.lock);
  return ran;
}

bool mg__sampler_is_running(const mg__seat *seat) {
  bool running;

  mg__lock(&sampler.lock);
  running = seat->running;
  mg__unlock(&sampler.lock);
  return running;
}

void mg__sampler_deliver(mg__seat *seat) {
  if (seat->hooks.deliver == NULL) return;
  mg__lock(&sampler.lock);
  if (seat->running) {
    seat->deliver_due = true;
    sampler_put_to_work();
  }
  mg__unlock(&sampler.lock);
}

mg_status mg__sampler_add_engine(mg__engine *engine, mg_error *err) {
  mg_status st;

  mg__lock(&sampler.lock);
  st = sampler_handle_fork(err);
  if (st == MG_OK) {
    engine->next = sampler.engines;
    sampler.engines = engine;
  }
  mg__unlock(&sampler.lock);
  return st;
}

void mg__sampler_remove_engine(mg__engine *engine) {
  mg__engine **at;

  mg__lock(&sampler.lock);
  for (at = &sampler.engines; *at != engine; at = &(*at)->next) {
  }
  *at = engine->next;
  while (engine->pins > 0) mg__cond_wait(&sampler.changed, &sampler.lock);
  mg__unlock(&sampler.lock);
}

void mg__sampler_post(mg__engine *engine) {
  if (!atomic_exchange(&engine->due, true)) mg__signal_post(&sampler.work);
}

void mg__sampler_work_off(void) {
  mg__lock(&sampler.lock);
  if (sampler.thread_up && !sampler.stopping) sampler_put_to_work();
  mg__unlock(&sampler.lock);
}

void mg_monitor_set_tick(mg_monitor *monitor, void (*tick)(void *ctx),
                         double every_ms) {
  mg__lock(&sampler.lock);
  for (mg__seat *seat = sampler.seats; seat != NULL; seat = seat->next) {
    if (seat->monitor != monitor) continue;
    seat->tick = tick;
    seat->tick_every_ms = fmax(every_ms, SAMPLER_LEAST_TICK_MS);
    seat->tick_at_ms = 0.0;
    seat->tick_due = false;
  }
  sampler_wake();
  mg__unlock(&sampler.lock);
}

void mg__sampler_nudge(void) {
  mg__lock(&sampler.lock);
  sampler_wake();
  mg__unlock(&sampler.lock);
}

/* ---- readings ---------------------------------------------------------- */

void mg_read_process(mg_reading *out) {
  mg__lock(&sampler.lock);
  sampler_read(out);
  mg__unlock(&sampler.lock);
}

static uint64_t sampler_read_one(uint64_t (*read)(const mg__os *os)) {
  uint64_t value;

  mg__lock(&sampler.lock);
  value = sampler_os() != NULL ? read(sampler.os) : MG_ABSENT;
  mg__unlock(&sampler.lock);
  return value;
}

uint64_t mg__sampler_fd_count(void) { return sampler_read_one(mg__os_fd_count); }
uint64_t mg_rss_bytes(void) { return sampler_read_one(mg__os_rss); }

bool mg__sampler_try_rss(const mg__seat *seat, uint64_t *out_bytes) {
  *out_bytes = MG_ABSENT;
  if (!mg__try_lock(&sampler.lock)) return false;
  if (seat->running && sampler.thread_up && sampler.os != NULL)
    *out_bytes = mg__os_rss(sampler.os);
  mg__unlock(&sampler.lock);
  return true;
}
