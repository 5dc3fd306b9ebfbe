/* control.c - serves the control socket of this process.
 *
 *   sampler thread   listens, moves bytes, ends slow peers: never waits for one
 *   worker thread    runs the one request under way, with the hook pinned
 *
 * A client is reading (a request comes in), waiting (for its turn, then for the
 * worker) or writing (its reply goes out). The lock guards all of it; no call
 * under it blocks. Lock order: sampler -> server. */
#include "memguard/control.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "control_parts.h"
#include "internal.h"
#include "os.h"

#define CONTROL_ACCEPTS 16 /* at a time */
#define CONTROL_CHUNK_BYTES 16384u

typedef enum control_state {
  CONTROL_FREE,
  CONTROL_READING,
  CONTROL_WAITING,
  CONTROL_WRITING
} control_state;

typedef struct control_client {
  control_state state;
  mg__file file;
  mg__frame request;
  double until_ms;  /* then it is closed; READING, WRITING */
  uint64_t turn;    /* WAITING: who asked first */
  uint64_t serial;  /* tells clients of one place apart */
  uint8_t head[MG_CONTROL_HEADER_BYTES]; /* of the reply */
  char *reply;      /* [owned] may be NULL */
  size_t reply_bytes, sent; /* of head and reply */
} control_client;

struct mg_control_reply {
  char *text; /* [owned] */
  size_t bytes;
};

struct mg_control {
  mg_control *next;
  mg_control_hooks hooks;
  uint32_t pins;
  bool is_closed; /* while pinned: freed by whoever unpins */
};

static struct {
  mg__mutex lock;
  mg__cond changed; /* a pin was dropped */
  mg_control *list; /* the oldest first */
  mg__file listener;
  char path[MG__PATH_BYTES + 8];
  control_client client[MG_CONTROL_CLIENTS];
  double quiet_until_ms, listen_due_ms;
  uint64_t turns, serials;
  bool is_running; /* a request, on the worker */
  _Atomic bool has_job;
} server = {.lock = MG__MUTEX_INIT,
             .changed = MG__COND_INIT,
             .listener = MG__FILE_NONE};

/* The control whose hook runs on this thread. */
static _Thread_local const mg_control *control_inside;

/* ---- registering ----------------------------------------------------------- */

mg_status mg_control_answer(mg_control_reply *reply, const char *text,
                            size_t bytes, mg_error *err) {
  char *copy;

  if (bytes > MG_CONTROL_REPLY_BYTES)
    return mg__fail(err, MG_ERANGE, "answer of %zu bytes, at most %u allowed",
                    bytes, MG_CONTROL_REPLY_BYTES);
  copy = mg__alloc_untouched(bytes + 1);
  if (copy == NULL)
    return mg__fail(err, MG_ENOMEM, "answer of %zu bytes", bytes);
  memcpy(copy, text, bytes);
  copy[bytes] = '\0';
  mg__free(reply->text);
  *reply = (mg_control_reply){copy, bytes};
  return MG_OK;
}

mg_status mg_control_open(mg_control **out, const mg_control_hooks *hooks,
                          mg_error *err) {
  mg_control *c, **at = &server.list;

  *out = NULL;
  if (hooks->struct_bytes != sizeof *hooks)
    return mg__fail(err, MG_EINVAL,
                    "mg_control_hooks has %zu bytes, need %zu: header and "
                    "library differ",
                    hooks->struct_bytes, sizeof *hooks);
  c = mg__alloc(sizeof *c);
  if (c == NULL) return mg__fail(err, MG_ENOMEM, "control hooks");
  c->hooks = *hooks;
  mg__lock(&server.lock);
  while (*at != NULL) at = &(*at)->next;
  *at = c;
  mg__unlock(&server.lock);
  *out = c;
  return MG_OK;
}

void mg_control_close(mg_control *c) {
  mg_control **at = &server.list;
  bool is_free;

  if (c == NULL) return;
  mg__lock(&server.lock);
  while (*at != c) at = &(*at)->next;
  *at = c->next;
  if (control_inside == c) {
    c->is_closed = true;
  } else {
    while (c->pins > 0) mg__cond_wait(&server.changed, &server.lock);
  }
  is_free = c->pins == 0;
  mg__unlock(&server.lock);
  if (is_free) mg__free(c);
}

/* ---- clients; the lock is held ---------------------------------------------- */

static void control_note_jobs(void) {
  bool has_job = false;

  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++)
    has_job |= server.client[i].state == CONTROL_WAITING;
  atomic_store(&server.has_job, has_job && !server.is_running);
}

static void control_drop(control_client *c) {
  mg__file_close(&c->file);
  mg__frame_reset(&c->request);
  mg__free(c->reply);
  *c = (control_client){.state = CONTROL_FREE, .file = MG__FILE_NONE};
}

/* Takes over `text`. */
static void control_reply(control_client *c, mg_status status, char *text,
                          size_t bytes, double now_ms) {
  mg__frame_write_header(c->head, (uint32_t)bytes, (uint32_t)status,
                         c->request.number);
  mg__frame_reset(&c->request);
  c->reply = text;
  c->reply_bytes = bytes;
  c->sent = 0;
  c->state = CONTROL_WRITING;
  c->until_ms = now_ms + MG_CONTROL_PEER_MS;
}

static void control_refuse(control_client *c, mg_status status,
                           const char *text, double now_ms) {
  char *copy = mg__strdup(text);

  control_reply(c, status, copy, copy == NULL ? 0 : strlen(copy), now_ms);
}

static void control_begin(control_client *c, double now_ms) {
  mg__frame *f = &c->request;

  if (f->code == MG_CONTROL_PING)
    control_refuse(c, MG_OK, "{}", now_ms);
  else if (f->code >= MG_CONTROL_COMMANDS)
    control_refuse(c, MG_EINVAL, "unknown command", now_ms);
  else if (f->payload != NULL && !mg__control_is_text(f->payload, f->bytes))
    control_refuse(c, MG_EENCODING, "arguments are no UTF-8", now_ms);
  else if (server.list == NULL)
    control_refuse(c, MG_EABSENT, "nobody serves requests", now_ms);
  else {
    c->state = CONTROL_WAITING;
    c->turn = ++server.turns;
  }
}

/* One chunk of a request. */
static void control_read(control_client *c, double now_ms) {
  char chunk[CONTROL_CHUNK_BYTES];
  size_t used = 0;
  long got = mg__os_socket_receive(&c->file, chunk, sizeof chunk);
  mg__frame_state state;

  if (got == 0) return;
  if (got < 0) {
    control_drop(c);
    return;
  }
  /* The time of a request runs from its first byte. */
  if (c->request.have == 0) c->until_ms = now_ms + MG_CONTROL_PEER_MS;
  state = mg__frame_feed(&c->request, chunk, (size_t)got,
                         MG_CONTROL_REQUEST_BYTES, &used);
  /* What comes after a whole request came too early: one at a time. */
  if (state == MG__FRAME_WHOLE && used == (size_t)got)
    control_begin(c, now_ms);
  else if (state != MG__FRAME_MORE)
    control_drop(c);
}

static void control_write(control_client *c, double now_ms) {
  const size_t head = sizeof c->head;
  long done;

  while (c->sent < head + c->reply_bytes) {
    if (c->sent < head)
      done = mg__os_socket_send(&c->file, c->head + c->sent, head - c->sent);
    else
      done = mg__os_socket_send(&c->file, c->reply + (c->sent - head),
                                head + c->reply_bytes - c->sent);
    if (done < 0) control_drop(c);
    if (done <= 0) return;
    c->sent += (size_t)done;
  }
  mg__free(c->reply);
  c->reply = NULL;
  c->state = CONTROL_READING;
  c->until_ms = now_ms + MG_CONTROL_IDLE_MS;
}

static control_client *control_free_place(void) {
  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++)
    if (server.client[i].state == CONTROL_FREE) return &server.client[i];
  return NULL;
}

static void control_accept(double now_ms) {
  control_client *c;
  mg__file file;

  for (int i = 0; i < CONTROL_ACCEPTS; i++) {
    if (!mg__os_socket_accept(&server.listener, &file)) return;
    c = control_free_place();
    if (c == NULL || file.fd < 0) {
      mg__file_close(&file);
      continue;
    }
    *c = (control_client){.state = CONTROL_READING,
                          .file = file,
                          .serial = ++server.serials,
                          .until_ms = now_ms + MG_CONTROL_IDLE_MS};
    control_read(c, now_ms);
  }
}

static void control_serve(control_client *c, double now_ms) {
  if (c->state == CONTROL_FREE) return;
  if (!mg__file_is_ours(&c->file)) control_drop(c);
  if (c->state == CONTROL_READING) control_read(c, now_ms);
  if (c->state == CONTROL_WRITING) control_write(c, now_ms);
  if ((c->state == CONTROL_READING || c->state == CONTROL_WRITING) &&
      now_ms >= c->until_ms)
    control_drop(c);
}

/* ---- the sampler thread ------------------------------------------------------ */

static void control_shut(void) {
  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++)
    if (server.client[i].state != CONTROL_FREE)
      control_drop(&server.client[i]);
  mg__file_close(&server.listener);
  control_note_jobs();
}

static void control_unlink(void) {
  if (server.path[0] != '\0') (void)mg__os_unlink(server.path);
  server.path[0] = '\0';
}

void mg__control_follow(const char *segment_path, double now_ms) {
  char path[sizeof server.path];

  mg__lock(&server.lock);
  path[0] = '\0';
  if (segment_path[0] != '\0' && server.list != NULL)
    snprintf(path, sizeof path, "%s.sock", segment_path);
  if (strcmp(path, server.path) != 0 ||
      (path[0] != '\0' && !mg__file_is_ours(&server.listener))) {
    control_shut();
    control_unlink();
    if (path[0] != '\0' && now_ms >= server.listen_due_ms) {
      server.listen_due_ms = now_ms + MG_CONTROL_IDLE_MS;
      if (mg__os_socket_listen(&server.listener, path, NULL) == MG_OK)
        memcpy(server.path, path, sizeof path);
    }
  }
  mg__unlock(&server.lock);
}

void mg__control_rest(void) {
  mg__lock(&server.lock);
  control_shut();
  control_unlink();
  server.listen_due_ms = 0.0;
  mg__unlock(&server.lock);
}

static void control_watch(mg__peers *out, const mg__file *file, bool to_send) {
  out->peer[out->count++] = (mg__peer){file->fd, to_send};
}

static void control_peers(mg__peers *out, double now_ms) {
  bool is_quiet;

  *out = (mg__peers){.due_ms = -1.0};
  mg__lock(&server.lock);
  is_quiet = now_ms < server.quiet_until_ms;
  if (is_quiet) out->due_ms = server.quiet_until_ms - now_ms;
  if (!is_quiet && mg__file_is_ours(&server.listener))
    control_watch(out, &server.listener, false);
  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++) {
    const control_client *c = &server.client[i];
    double left_ms = c->until_ms - now_ms;
    if (c->state != CONTROL_READING && c->state != CONTROL_WRITING) continue;
    if (!is_quiet) control_watch(out, &c->file, c->state == CONTROL_WRITING);
    if (left_ms < 0) left_ms = 0;
    if (!is_quiet && (out->due_ms < 0 || left_ms < out->due_ms))
      out->due_ms = left_ms;
  }
  mg__unlock(&server.lock);
}

static bool control_serve_all(double now_ms) {
  bool has_job;

  mg__lock(&server.lock);
  if (now_ms >= server.quiet_until_ms && server.path[0] != '\0') {
    for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++)
      control_serve(&server.client[i], now_ms);
    control_accept(now_ms);
    server.quiet_until_ms = now_ms + MG_CONTROL_GAP_MS;
    control_note_jobs();
  }
  has_job = atomic_load(&server.has_job);
  mg__unlock(&server.lock);
  return has_job;
}

void mg__control_wait(mg__os_events *events, double timeout_ms) {
  double until_ms = mg_clock_ms() + timeout_ms, now_ms = mg_clock_ms();
  mg__peers peers;

  do {
    control_peers(&peers, now_ms);
    if (mg__os_events_wait_with(events, fmax(until_ms - now_ms, 0.0), &peers) !=
        MG__WAKE_PEER)
      return;
    now_ms = mg_clock_ms();
    if (control_serve_all(now_ms)) return; /* the worker has something to do */
  } while (now_ms < until_ms);
}

/* ---- the worker thread -------------------------------------------------------- */

bool mg__control_has_job(void) { return atomic_load(&server.has_job); }

/* The client whose turn it is. */
static control_client *control_next(void) {
  control_client *first = NULL;

  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++) {
    control_client *c = &server.client[i];
    if (c->state == CONTROL_WAITING && (first == NULL || c->turn < first->turn))
      first = c;
  }
  return first;
}

/* Gives up the pin. The lock is held. */
static void control_unpin(mg_control *c) {
  if (--c->pins == 0 && c->is_closed) mg__free(c);
  mg__cond_wake_all(&server.changed);
}

static void control_answer_client(uint64_t serial, mg_status status,
                                  mg_control_reply *reply,
                                  const mg_error *err) {
  double now_ms = mg_clock_ms();

  for (size_t i = 0; i < MG_CONTROL_CLIENTS; i++) {
    control_client *c = &server.client[i];
    if (c->state != CONTROL_WAITING || c->serial != serial) continue;
    if (status != MG_OK) {
      control_refuse(c, status, err->text, now_ms);
      continue;
    }
    control_reply(c, MG_OK, reply->text, reply->bytes, now_ms);
    reply->text = NULL;
  }
}

/* Runs a request without the lock, which is held on entry and on return.
 * @return false in a child that the hook forked: nothing here is true any more. */
static bool control_run(control_client *client) {
  mg_control *c = server.list;
  mg_control_command command = (mg_control_command)client->request.code;
  uint64_t serial = client->serial;
  mg_control_reply reply = {NULL, 0};
  mg_error err = MG_ERROR_INIT;
  char *arguments = client->request.payload; /* ours from now on */
  uint32_t forks = mg__sampler_forks();
  mg_status st;

  client->request.payload = NULL;
  c->pins++;
  server.is_running = true;
  control_note_jobs();
  mg__unlock(&server.lock);
  control_inside = c;
  st = c->hooks.run(c->hooks.ctx, command, arguments == NULL ? "" : arguments,
                    &reply, &err);
  control_inside = NULL;
  mg__free(arguments);
  mg__lock(&server.lock);
  if (mg__sampler_forks() != forks) {
    mg__free(reply.text);
    return false;
  }
  control_unpin(c);
  control_answer_client(serial, st, &reply, &err);
  server.is_running = false;
  control_note_jobs();
  mg__free(reply.text);
  return true;
}

void mg__control_work(void *unused) {
  control_client *client;
  bool done = false;
  (void)unused;

  mg__lock(&server.lock);
  client = server.is_running ? NULL : control_next();
  if (client != NULL && server.list == NULL)
    control_refuse(client, MG_EABSENT, "nobody serves requests", mg_clock_ms());
  else if (client != NULL)
    done = control_run(client);
  control_note_jobs();
  mg__unlock(&server.lock);
  if (done) mg__sampler_nudge(); /* it writes the reply */
}

/* ---- fork ----------------------------------------------------------------------- */

void mg__control_before_fork(void) { mg__lock(&server.lock); }

void mg__control_after_fork(void) { mg__unlock(&server.lock); }

/* The socket is the parent's; whoever registered did so here as well. */
void mg__control_after_fork_in_child(void) {
  server.path[0] = '\0';
  server.is_running = false;
  server.quiet_until_ms = server.listen_due_ms = 0.0;
  control_shut();
  for (mg_control *c = server.list; c != NULL; c = c->next) c->pins = 0;
  mg__cond_reset(&server.changed);
  mg__unlock(&server.lock);
}
