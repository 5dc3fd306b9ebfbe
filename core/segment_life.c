/* segment_life.c - the file of this process: who writes it, when it is opened, what
 * becomes of it at a stop, a fork and the end. */
#include "memguard/monitor.h"
#include "memguard/segment.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "os.h"
#include "segment_parts.h"

#define OWN_TICK_MS 1000.0
#define OWN_RETRY_MS 60000.0 /* after a failure to open */
#define OWN_WATCH_MS 5000.0  /* the file, the OOM kills */
#define OWN_REAP_NAMES 128u  /* looked at per tick */

/* ---- who publishes ------------------------------------------------------ */

static void own_take(char *out, size_t bytes, const char *text) {
  if (text != NULL) mg__segment_copy_text(out, bytes, text);
}

mg_status mg_segment_describe(const mg_segment_identity *who, mg_error *err) {
  mg__segment_texts *t = &mg__self.texts;

  if (who->struct_bytes != sizeof *who)
    return mg__fail(err, MG_EINVAL,
                    "mg_segment_identity has %zu bytes, need %zu: header and "
                    "library differ",
                    who->struct_bytes, sizeof *who);
  mg__lock(&mg__self.lock);
  own_take(t->runtime, sizeof t->runtime, who->runtime);
  own_take(t->runtime_version, sizeof t->runtime_version,
               who->runtime_version);
  own_take(t->program, sizeof t->program, who->program);
  for (size_t i = 0; i < MG_PAUSE_KINDS; i++)
    own_take(t->kind[i], sizeof t->kind[i], who->kind[i]);
  t->phase_kinds = who->phase_kinds;
  mg__alert_note_phases(who->phase_kinds);
  mg__unlock(&mg__self.lock);
  return MG_OK;
}

void mg__segment_fill_header(mg_segment_header *h,
                             const mg__os_identity *who) {
  const mg__segment_texts *t = &mg__self.texts;

  memcpy(h->magic, MG_SEGMENT_MAGIC, sizeof h->magic);
  h->byte_order = MG_SEGMENT_BYTE_ORDER;
  h->version = MG_SEGMENT_VERSION;
  h->header_bytes = sizeof *h;
  h->segment_bytes = sizeof(mg_segment_layout);
  h->pid = who->pid;
  h->uid = who->uid;
  h->pid_namespace = who->pid_namespace;
  h->start_time = who->start_time;
  h->opened_unix_ms = mg__os_unix_ms();
  h->opened_cpu_us = mg__os_cpu_us(false);
  h->argv_hash = who->argv_hash;
  memcpy(h->boot_id, who->boot_id, sizeof h->boot_id);
  memcpy(h->runtime, t->runtime, sizeof h->runtime);
  memcpy(h->runtime_version, t->runtime_version, sizeof h->runtime_version);
  mg__segment_copy_text(h->program, sizeof h->program,
                        t->program[0] != '\0' ? t->program : who->program);
  mg__segment_copy_text(h->library_version, sizeof h->library_version,
                        mg_version());
  memcpy(h->kind, t->kind, sizeof h->kind);
  h->phase_kinds = t->phase_kinds;
  h->crc = mg__segment_crc(h, offsetof(mg_segment_header, crc));
}

/* ---- opening; the lock is held ------------------------------------------ */

static void own_begin(mg_segment_layout *map) {
  const uint64_t now_ms = mg__os_unix_ms();

  mg__self.note_number = mg__self.types_number = 0;
  mg__self.number = mg__self.second_number = mg__self.minute_number = 0;
  mg__self.group_number = mg__self.last_round = mg__self.last_round_ms = 0;
  mg__self.last_second = mg__self.last_minute = 0;
  mg__self.group_path[0] = '\0';
  mg__self.phase_kinds = mg__self.texts.phase_kinds;
  mg__segment_begin_alerts(map);
  mg__self.highest = (mg_segment_point){0};
  atomic_store(&mg__self.gc_number, 0);
  atomic_store(&mg__self.rounds, 0);
  atomic_store(&mg__self.freed_bytes, 0);
  atomic_store(&mg__self.alerts, 0);
  __atomic_store_n(&map->life.oom_kills, MG_ABSENT, __ATOMIC_RELAXED);
  __atomic_store_n(&map->life.heartbeat_unix_ms, now_ms, __ATOMIC_RELAXED);
  __atomic_store_n(&map->life.next_unix_ms, now_ms, __ATOMIC_RELAXED);
}

/* The path of a file for this process, and its directory. */
static mg_status own_place(mg__os_identity *who, mg_error *err) {
  char name[MG_SEGMENT_NAME_BYTES];
  int length;
  mg_status st = mg_segment_directory(mg__self.directory,
                                      sizeof mg__self.directory, err);

  if (st == MG_OK) st = mg__os_make_directory(mg__self.directory, err);
  if (st != MG_OK) return st;
  mg__os_identify(who);
  if (who->start_time == 0)
    return mg__fail(err, MG_EABSENT, "/proc does not tell of this process");
  mg__segment_name(name, who->boot_id, who->pid_namespace, who->pid,
                   who->start_time);
  length = snprintf(mg__self.path, sizeof mg__self.path, "%s/%s",
                    mg__self.directory, name);
  if (length < 0 || (size_t)length >= sizeof mg__self.path)
    return mg__fail(err, MG_EINVAL, "path of the directory is too long");
  return MG_OK;
}

static mg_status own_make(const mg__os_identity *who, mg_error *err) {
  mg_segment_layout *map;
  mg_status st;

  st = mg__os_shared_make(&mg__self.shared, mg__self.path, sizeof *map, err);
  if (st != MG_OK) return st;
  map = mg__self.shared.map;
  mg__segment_fill_header(&map->header, who);
  own_begin(map);
  return mg__os_shared_show(&mg__self.shared, mg__self.path, err);
}

/* @return whether the file that a stop left goes on. */
static bool own_resume(const char *path) {
  mg_segment_layout *map;

  if (!mg__os_shared_resume(&mg__self.shared, path)) return false;
  map = mg__self.shared.map;
  __atomic_store_n(&map->life.next_unix_ms, mg__os_unix_ms(), __ATOMIC_RELAXED);
  return true;
}

static void own_run(void) {
  mg_segment_layout *map = mg__self.shared.map;

  __atomic_store_n(&map->life.ended_unix_ms, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&map->life.state, MG_SEGMENT_RUNNING, __ATOMIC_RELEASE);
  mg__self.is_shared = true;
  atomic_store_explicit(&mg__self.map, map, memory_order_release);
}

/* After a stop the same file goes on, unless it was removed meanwhile or belongs
 * elsewhere by now. */
static mg_status own_open(mg_error *err) {
  char former[MG_SEGMENT_PATH_BYTES];
  mg__os_identity who;
  mg_status st;

  if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
    return mg__fail(err, MG_EABSENT, "segments are for little-endian machines");
  memcpy(former, mg__self.path, sizeof former);
  st = own_place(&who, err);
  if (st == MG_OK && (strcmp(former, mg__self.path) != 0 ||
                      !own_resume(former)))
    st = own_make(&who, err);
  if (st != MG_OK) {
    mg__self.path[0] = '\0';
    return st;
  }
  own_run();
  return MG_OK;
}

/* Where there is no file: for readers in this process alone. */
static mg_status own_keep(mg_error *err) {
  mg__os_identity who;
  mg_segment_layout *map;
  mg_status st = mg__os_shared_keep(&mg__self.shared, sizeof *map, err);

  if (st != MG_OK) return st;
  map = mg__self.shared.map;
  mg__self.is_shared = false;
  mg__os_identify(&who);
  mg__segment_fill_header(&map->header, &who);
  own_begin(map);
  atomic_store_explicit(&mg__self.map, map, memory_order_release);
  return MG_OK;
}

static void own_note_problem(const mg_error *err) {
  if (mg__self.told_problem) return;
  mg__self.told_problem = true;
  mg__self.problem = *err;
  atomic_store(&mg__self.has_problem, true);
}

bool mg_segment_take_problem(mg_error *out) {
  if (!atomic_load_explicit(&mg__self.has_problem, memory_order_relaxed))
    return false;
  mg__lock(&mg__self.lock);
  *out = mg__self.problem;
  mg__unlock(&mg__self.lock);
  return atomic_exchange(&mg__self.has_problem, false);
}

size_t mg_segment_path(char *out, size_t out_bytes) {
  size_t length = 0;

  if (out_bytes == 0) return 0;
  mg__lock(&mg__self.lock);
  if (mg__segment_map() != NULL && mg__self.is_shared)
    length = strlen(mg__self.path);
  if (length >= out_bytes) length = 0;
  memcpy(out, mg__self.path, length);
  mg__unlock(&mg__self.lock);
  out[length] = '\0';
  return length;
}

static bool own_has_file(void) {
  return mg__segment_map() != NULL && mg__self.is_shared;
}

/* ---- watching; the sampler thread, no lock is held ----------------------- */

void mg__segment_follow_group(const mg__os *os) {
  const mg__cgroup *group;
  char file[MG__PATH_BYTES + 32];
  size_t length;

  if (os == NULL || (mg__self.group_os == os &&
                     mg__self.group_epoch == mg__os_epoch(os)))
    return;
  mg__self.group_os = os;
  mg__self.group_epoch = mg__os_epoch(os);
  group = mg__os_cgroup(os);
  file[0] = '\0';
  if (group->count > 0) mg__cgroup_directory(group, 0, file, MG__PATH_BYTES);
  length = strlen(file);
  if (length > 0)
    snprintf(file + length, sizeof file - length, "/%s",
             group->version == 2 ? "memory.events" : "memory.oom_control");
  mg__segment_copy_text(mg__self.wanted_group, sizeof mg__self.wanted_group,
                        file);
}

static void own_show_group(mg_segment_layout *map) {
  mg_segment_group whole = {.number = ++mg__self.group_number};

  memcpy(mg__self.group_path, mg__self.wanted_group,
         sizeof mg__self.group_path);
  memcpy(whole.file, mg__self.group_path, sizeof whole.file);
  mg__segment_write(&map->group[whole.number % 2], &whole, sizeof whole);
}

/* Somebody may have removed the file. */
static void own_watch(void) {
  mg_segment_layout *map = mg__segment_map();
  bool is_there;

  if (map == NULL) return;
  mg__lock(&mg__self.lock);
  is_there = mg__os_shared_is_at(&mg__self.shared, mg__self.path);
  if (!is_there) {
    atomic_store(&mg__self.map, NULL);
    mg__os_shared_leave(&mg__self.shared);
    mg__self.path[0] = '\0';
  }
  mg__unlock(&mg__self.lock);
  if (!is_there) return;
  if (strcmp(mg__self.group_path, mg__self.wanted_group) != 0)
    own_show_group(map);
  __atomic_store_n(&map->life.oom_kills,
                   mg__os_oom_kills(mg__self.group_path), __ATOMIC_RELAXED);
}

static void own_reap(double now_ms) {
  mg_segment_reaped ignored = {0};
  double previous_usage;

  if (mg__self.reaper == NULL && now_ms >= mg__self.reap_due_ms) {
    mg__self.reap_due_ms = now_ms + MG_SEGMENT_REAP_MS;
    (void)mg__reaper_open(&mg__self.reaper, mg__self.directory,
                          MG_SEGMENT_KEEP_MS, MG_SEGMENT_KEEP, NULL);
  }
  if (mg__self.reaper == NULL ||
      mg__reaper_step(mg__self.reaper, OWN_REAP_NAMES, &ignored))
    return;
  if (mg__reaper_has_previous(mg__self.reaper, &previous_usage))
    mg__alert_note_previous(previous_usage);
  mg__reaper_close(mg__self.reaper);
  mg__self.reaper = NULL;
}

/* Shows a file or, where that cannot be, keeps the same in memory of our own. The
 * lock is held. @return whether there is something new to write to. */
static bool own_open_or_keep(double now_ms) {
  const mg_segment_layout *map = mg__segment_map();
  mg_error err = MG_ERROR_INIT;

  if (mg__self.is_file_wanted && now_ms >= mg__self.open_due_ms) {
    if (own_open(&err) == MG_OK) return true;
    own_note_problem(&err);
    mg__self.open_due_ms = now_ms + OWN_RETRY_MS;
    /* A file that came to nothing took the place of what was kept. */
    if (map != NULL && map->header.version == 0)
      atomic_store(&mg__self.map, NULL);
  }
  return mg__segment_map() == NULL && own_keep(NULL) == MG_OK;
}

static void own_try_open(double now_ms) {
  bool is_new;

  mg__lock(&mg__self.lock);
  is_new = own_open_or_keep(now_ms);
  mg__unlock(&mg__self.lock);
  if (!is_new) return;
  mg__self.watch_due_ms = 0.0;
  mg__segment_publish(); /* the pass that asked for it */
}

/* The file stays, unlocked; a restart goes on with it. The tick lock is held. */
static void own_stop(void) {
  mg_segment_layout *map;

  mg__lock(&mg__self.lock);
  map = mg__segment_map();
  atomic_store(&mg__self.map, NULL);
  if (map != NULL) {
    __atomic_store_n(&map->life.ended_unix_ms, mg__os_unix_ms(),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&map->life.state, MG_SEGMENT_STOPPED, __ATOMIC_RELEASE);
    mg__os_shared_leave(&mg__self.shared);
  }
  mg__unlock(&mg__self.lock);
  mg__self.group_path[0] = '\0';
  mg__reaper_close(mg__self.reaper);
  mg__self.reaper = NULL;
}

/* The tick lock is held. */
static void own_work(double now_ms) {
  if (own_has_file() && !mg__self.is_file_wanted) own_stop();
  if (!own_has_file()) own_try_open(now_ms);
  if (!own_has_file()) return;
  if (now_ms >= mg__self.watch_due_ms) {
    mg__self.watch_due_ms = now_ms + OWN_WATCH_MS;
    own_watch();
  }
  own_reap(now_ms);
}

/* The lock is held. @return whether there is a file of a stop to go on with. */
static bool own_resume_here(void) {
  char former[MG_SEGMENT_PATH_BYTES];
  mg__os_identity who;
  bool is_same;

  if (mg__segment_map() != NULL || mg__self.path[0] == '\0') return false;
  memcpy(former, mg__self.path, sizeof former);
  is_same = own_place(&who, NULL) == MG_OK && strcmp(former, mg__self.path) == 0;
  memcpy(mg__self.path, former, sizeof former);
  return is_same && own_resume(former);
}

void mg__segment_resume(const mg_monitor *monitor) {
  if (mg_monitor_setting(monitor, MG_CONFIG_SEGMENT_ENABLED) == 0) return;
  mg__lock(&mg__self.tick_lock);
  mg__lock(&mg__self.lock);
  if (own_resume_here()) own_run();
  mg__unlock(&mg__self.lock);
  mg__unlock(&mg__self.tick_lock);
}

/* Also whenever what is wanted has just come or gone. */
static bool own_is_due(double now_ms) {
  if (!mg__self.is_wanted) return mg__segment_map() != NULL;
  return now_ms >= mg__self.tick_due_ms || mg__segment_map() == NULL ||
         (mg__self.is_file_wanted && !own_has_file() &&
          now_ms >= mg__self.open_due_ms);
}

void mg__segment_tick(double now_ms) {
  bool is_wanted = mg__self.is_wanted;

  if (!own_is_due(now_ms)) return;
  mg__self.tick_due_ms = now_ms + OWN_TICK_MS;
  mg__lock(&mg__self.tick_lock);
  if (is_wanted)
    own_work(now_ms);
  else
    own_stop();
  mg__control_follow(own_has_file() ? mg__self.path : "", now_ms);
  mg__unlock(&mg__self.tick_lock);
  /* Takes locks of the pools, in front of which a fork may hold this one. */
  if (is_wanted) mg__pools_read_total(&mg__self.pools);
}

void mg__segment_rest(void) {
  mg__self.is_wanted = mg__self.is_file_wanted = false;
  mg__self.tick_due_ms = mg__self.open_due_ms = 0.0;
  mg__lock(&mg__self.tick_lock);
  own_stop();
  mg__control_rest();
  mg__unlock(&mg__self.tick_lock);
}

/* ---- the end ------------------------------------------------------------- */

void mg_segment_mark_exit(void) {
  mg_segment_layout *map = mg__segment_map();
  mg_segment_life life = {.state = MG_SEGMENT_EXITED};

  if (map != NULL && mg__self.is_shared) {
    __atomic_store_n(&map->life.ended_unix_ms, mg__os_unix_ms(),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&map->life.state, life.state, __ATOMIC_RELEASE);
  } else if (mg__self.path[0] != '\0') {
    /* Stopped before, and unmapped. */
    mg__os_shared_write(&mg__self.shared, mg__self.path, &life.state,
                        sizeof life.state, offsetof(mg_segment_layout, life));
  }
}

/* Runs at exit(), whatever the runtime does before; not when the process is
 * killed, aborts, or ends by _exit(). */
__attribute__((destructor)) static void own_at_exit(void) {
  mg_segment_mark_exit();
}

/* ---- fork ---------------------------------------------------------------- */

void mg__segment_before_fork(void) {
  mg__lock(&mg__self.tick_lock);
  mg__lock(&mg__self.lock);
  mg__control_before_fork();
}

void mg__segment_after_fork(void) {
  mg__control_after_fork();
  mg__unlock(&mg__self.lock);
  mg__unlock(&mg__self.tick_lock);
}

void mg__segment_after_fork_in_child(void) {
  atomic_store(&mg__self.map, NULL);
  mg__os_shared_leave(&mg__self.shared);
  mg__self.path[0] = '\0';
  mg__self.group_path[0] = '\0';
  mg__reaper_close(mg__self.reaper);
  mg__self.reaper = NULL;
  mg__segment_forget_alerts(NULL);
  mg__self.is_wanted = mg__self.is_file_wanted = false;
  mg__self.sample.number = 0;
  mg__self.own_cpu_us = mg__self.thread_cpu_us = 0;
  mg__self.group_os = NULL;
  mg__connections_after_fork_in_child();
  mg__self.tick_due_ms = mg__self.open_due_ms = mg__self.reap_due_ms = 0.0;
  mg__control_after_fork_in_child();
  mg__unlock(&mg__self.lock);
  mg__unlock(&mg__self.tick_lock);
}
