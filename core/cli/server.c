/* server.c - runs libmicrohttpd in a loop of its own.
 *
 * The listening socket is ours, not the library's: who is let in, and who has to go
 * for that, is decided here. Connections stand in one list, the one whose state
 * changed longest ago first; a deadline is looked at from that end. */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "microhttpd.h"

#define SERVER_ACCEPTS 32 /* in a row, before what came is worked at */
#define SERVER_TICK_MS 1000
#define SERVER_MOMENT_S 0.005

/** RECEIVING: a request, or nothing. ASKING: the handler has it. SENDING: the answer.
 *  CLOSING: shut down, the library is about to notice. */
typedef enum server_state { RECEIVING, ASKING, SENDING, CLOSING } server_state;

typedef struct server_client {
  struct server_client *before, *after;
  int fd;
  server_state state;
  double until_ms;
} server_client;

struct server {
  struct MHD_Daemon *daemon;
  const server_hooks *hooks;
  server_client clients; /* head of the ring */
  size_t count, held_bytes;
  int listen_fd;
  bool is_paused; /* no descriptor is left to accept with */
};

struct server_answer {
  server *from;
  struct MHD_Response *response;
  void *owner; /* [owned] of the body */
  void (*give)(void *owner);
  size_t bytes;
  unsigned status, uses;
};

struct server_exchange {
  server *from;
  struct MHD_Connection *connection;
  server_client *client;
  char *target, *body, method[16];
  size_t body_bytes;
  server_answer *answer;
  bool is_seen, is_asked, is_suspended, is_done;
};

static double server_now_ms(void) { return cli_now_s() * 1e3; }

/* ---- clients ------------------------------------------------------------- */

static void server_unlink(server_client *c) {
  c->before->after = c->after;
  c->after->before = c->before;
}

static void server_link(server *s, server_client *c, server_state state,
                        double for_ms) {
  c->state = state;
  c->until_ms = server_now_ms() + for_ms;
  c->after = &s->clients;
  c->before = s->clients.before;
  c->before->after = s->clients.before = c;
}

static void server_enter(server *s, server_client *c, server_state state,
                         double for_ms) {
  if (c->state == CLOSING) return;
  server_unlink(c);
  server_link(s, c, state, for_ms);
}

static server_client *server_client_of(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = mhd.get_connection_info(
      connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

  return info == NULL ? NULL : info->socket_context;
}

static void server_notify(void *ctx, struct MHD_Connection *connection,
                          void **context, enum MHD_ConnectionNotificationCode code) {
  server *s = ctx;
  server_client *c = *context;

  if (code == MHD_CONNECTION_NOTIFY_STARTED) {
    const union MHD_ConnectionInfo *info = mhd.get_connection_info(
        connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    c = calloc(1, sizeof *c);
    *context = c;
    if (c == NULL) return;
    c->fd = info->connect_fd;
    server_link(s, c, RECEIVING, SERVER_REQUEST_MS);
    s->count++;
  } else if (c != NULL) {
    server_unlink(c);
    free(c);
    *context = NULL;
    s->count--;
  }
}

/* The library sees the end of the stream and closes. */
static void server_shut(server_client *c) {
  shutdown(c->fd, SHUT_RDWR);
  c->state = CLOSING;
}

/* @return whether one had to go that was in this state for longest. */
static bool server_evict(server *s, server_state state) {
  for (server_client *c = s->clients.after; c != &s->clients; c = c->after) {
    if (c->state != state) continue;
    server_shut(c);
    mhd.run(s->daemon);
    return true;
  }
  return false;
}

static void server_expire(server *s) {
  double now_ms = server_now_ms();

  for (server_client *c = s->clients.after; c != &s->clients; c = c->after)
    if (c->state != ASKING && c->state != CLOSING && c->until_ms < now_ms)
      server_shut(c);
}

/* ---- answers --------------------------------------------------------------- */

static void server_give_body(void *ctx) {
  server_answer *answer = ctx;

  answer->from->held_bytes -= answer->bytes;
  answer->give(answer->owner);
  free(answer);
}

server_answer *server_answer_new(server *s, unsigned status, const char *body,
                                 size_t bytes, void *owner,
                                 void (*give)(void *owner)) {
  server_answer *answer = calloc(1, sizeof *answer);

  if (answer == NULL) {
    give(owner);
    return NULL;
  }
  *answer = (server_answer){.from = s, .owner = owner, .give = give,
                            .bytes = bytes, .status = status, .uses = 1};
  s->held_bytes += bytes;
  answer->response = mhd.create_response_from_buffer_with_free_callback_cls(
      bytes, (void *)(uintptr_t)body, server_give_body, answer);
  if (answer->response == NULL) {
    server_give_body(answer);
    return NULL;
  }
  return answer;
}

bool server_answer_header(server_answer *answer, const char *name,
                          const char *value) {
  return mhd.add_response_header(answer->response, name, value) == MHD_YES;
}

server_answer *server_answer_keep(server_answer *answer) {
  answer->uses++;
  return answer;
}

/* The last one gives the response to the library, which frees it, and with it the
 * answer, once it is sent. */
void server_answer_drop(server_answer *answer) {
  if (answer != NULL && --answer->uses == 0)
    mhd.destroy_response(answer->response);
}

void server_answer_with(server_exchange *e, server_answer *answer) {
  e->is_done = true;
  if (answer != NULL) e->answer = server_answer_keep(answer);
  if (e->is_suspended) {
    e->is_suspended = false;
    mhd.resume_connection(e->connection);
  }
}

/* ---- requests --------------------------------------------------------------- */

const char *server_method(const server_exchange *e) { return e->method; }

const char *server_target(const server_exchange *e) { return e->target; }

typedef struct server_lines {
  mg_web_header *out;
  size_t count, max;
} server_lines;

static enum MHD_Result server_add_line(void *ctx, enum MHD_ValueKind kind,
                                       const char *name, size_t name_bytes,
                                       const char *value, size_t value_bytes) {
  server_lines *lines = ctx;

  (void)kind;
  if (value == NULL) value = "";
  if (strlen(name) != name_bytes || strlen(value) != value_bytes) {
    lines->count = SIZE_MAX;
    return MHD_NO;
  }
  if (lines->count < lines->max)
    lines->out[lines->count] = (mg_web_header){name, value};
  lines->count++;
  return MHD_YES;
}

size_t server_headers(const server_exchange *e, mg_web_header *out, size_t max) {
  server_lines lines = {out, 0, max};

  mhd.get_connection_values_n(e->connection, MHD_HEADER_KIND, server_add_line,
                              &lines);
  return lines.count;
}

const char *server_body(const server_exchange *e, size_t *out_bytes) {
  *out_bytes = e->body_bytes;
  return e->body_bytes > MG_WEB_BODY_BYTES ? NULL : e->body;
}

/* The only place where the target stands as it came. What is returned stays with
 * the request. */
static void *server_begin(void *ctx, const char *target,
                          struct MHD_Connection *connection) {
  server_exchange *e = calloc(1, sizeof *e);

  if (e == NULL) return NULL;
  *e = (server_exchange){.from = ctx,
                         .connection = connection,
                         .client = server_client_of(connection),
                         .target = strdup(target)};
  return e;
}

static void server_end(void *ctx, struct MHD_Connection *connection,
                       void **request, enum MHD_RequestTerminationCode code) {
  server_exchange *e = *request;

  (void)connection;
  (void)code;
  *request = NULL;
  if (e == NULL) return;
  if (e->client != NULL) server_enter(ctx, e->client, RECEIVING, SERVER_IDLE_MS);
  server_answer_drop(e->answer);
  free(e->target);
  free(e->body);
  free(e);
}

/* @return MHD_NO to close the connection. */
static enum MHD_Result server_take_body(server_exchange *e, const char *data,
                                        size_t bytes) {
  char *grown;

  if (e->body_bytes > SERVER_DRAIN_BYTES) return MHD_NO;
  if (e->body_bytes + bytes <= MG_WEB_BODY_BYTES) {
    grown = realloc(e->body, e->body_bytes + bytes + 1);
    if (grown == NULL) return MHD_NO;
    e->body = grown;
    memcpy(grown + e->body_bytes, data, bytes);
    grown[e->body_bytes + bytes] = '\0';
  }
  e->body_bytes += bytes;
  return MHD_YES;
}

/* What says to be longer than we would read is answered without reading. */
static bool server_is_hopeless(server_exchange *e) {
  const char *text = mhd.lookup_connection_value(
      e->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
  unsigned long long length = text == NULL ? 0 : strtoull(text, NULL, 10);

  if (length <= SERVER_DRAIN_BYTES) return false;
  e->body_bytes = SERVER_DRAIN_BYTES + 1;
  return true;
}

static enum MHD_Result server_queue(server_exchange *e) {
  enum MHD_Result done;

  if (e->answer == NULL) return MHD_NO;
  done = mhd.queue_response(e->connection, e->answer->status, e->answer->response);
  server_enter(e->from, e->client, SENDING, SERVER_ANSWER_MS);
  while (e->from->held_bytes > SERVER_HELD_BYTES) {
    server_client *c = e->from->clients.after;
    while (c != &e->from->clients && (c->state != SENDING || c == e->client))
      c = c->after;
    if (c == &e->from->clients) break;
    server_shut(c);
    break; /* the others when the next one is answered */
  }
  return done;
}

/* The library calls with the head, with each piece of the body, at its end, and
 * again after the answer was waited for. */
static enum MHD_Result server_access(void *ctx, struct MHD_Connection *connection,
                                     const char *path, const char *method,
                                     const char *version, const char *data,
                                     size_t *data_bytes, void **request) {
  server *s = ctx;
  server_exchange *e = *request;
  enum MHD_Result done;

  (void)connection;
  (void)path;
  (void)version;
  if (e == NULL || e->target == NULL || e->client == NULL) return MHD_NO;
  if (!e->is_seen) {
    e->is_seen = true;
    snprintf(e->method, sizeof e->method, "%s", method);
    if (!server_is_hopeless(e)) return MHD_YES;
  }
  if (*data_bytes > 0) {
    done = server_take_body(e, data, *data_bytes);
    *data_bytes = 0;
    return done;
  }
  if (!e->is_asked) {
    e->is_asked = true;
    server_enter(s, e->client, ASKING, 0);
    s->hooks->on_request(s->hooks->ctx, e);
  }
  if (e->is_done) return server_queue(e);
  e->is_suspended = true;
  mhd.suspend_connection(connection);
  return MHD_YES;
}

/* ---- life --------------------------------------------------------------------- */

server *server_open(int listen_fd, const server_hooks *hooks) {
  server *s = calloc(1, sizeof *s);

  if (s == NULL) return NULL;
  s->listen_fd = listen_fd;
  s->hooks = hooks;
  s->clients.before = s->clients.after = &s->clients;
  s->daemon = mhd.start_daemon(
      MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL,
      NULL, server_access, s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
      (size_t)SERVER_HEAD_BYTES, MHD_OPTION_CONNECTION_LIMIT, SERVER_CLIENTS + 16u,
      MHD_OPTION_NOTIFY_CONNECTION, server_notify, s, MHD_OPTION_NOTIFY_COMPLETED,
      server_end, s, MHD_OPTION_URI_LOG_CALLBACK, server_begin, s, MHD_OPTION_END);
  if (s->daemon == NULL) {
    free(s);
    return NULL;
  }
  return s;
}

static bool server_is_sending(const server *s) {
  for (const server_client *c = s->clients.after; c != &s->clients; c = c->after)
    if (c->state == ASKING || c->state == SENDING) return true;
  return false;
}

void server_close(server *s) {
  double until_ms = server_now_ms() + SERVER_PARTING_MS;

  if (s == NULL) return;
  do {
    mhd.run(s->daemon);
    if (!server_is_sending(s)) break;
    cli_sleep_s(SERVER_MOMENT_S);
  } while (server_now_ms() < until_ms);
  mhd.stop_daemon(s->daemon);
  free(s);
}

/* @return false when there is nobody to accept, or nothing to do it with. */
static bool server_accept(server *s) {
  struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
  socklen_t bytes = sizeof peer;
  int fd;

  if (s->count >= SERVER_CLIENTS && !server_evict(s, RECEIVING) &&
      !server_evict(s, SENDING))
    return false;
  fd = accept4(s->listen_fd, (struct sockaddr *)&peer, &bytes,
               SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    s->is_paused = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    if (s->is_paused) server_evict(s, RECEIVING);
    return errno == ECONNABORTED || errno == EINTR;
  }
  mhd.add_connection(s->daemon, fd, (struct sockaddr *)&peer, bytes);
  return true;
}

static int server_wait_ms(server *s) {
  MHD_UNSIGNED_LONG_LONG wanted;

  if (mhd.get_timeout(s->daemon, &wanted) != MHD_YES || wanted > SERVER_TICK_MS)
    return SERVER_TICK_MS;
  return (int)wanted;
}

void server_run(server *s, int stop_fd) {
  const union MHD_DaemonInfo *info =
      mhd.get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  struct pollfd look[] = {{stop_fd, POLLIN, 0},
                          {info->epoll_fd, POLLIN, 0},
                          {s->hooks->wake_fd, POLLIN, 0},
                          {s->listen_fd, POLLIN, 0}};
  double tick_ms = 0;

  for (;;) {
    look[3].fd = s->is_paused ? -1 : s->listen_fd;
    if (poll(look, 4, server_wait_ms(s)) < 0 && errno != EINTR) return;
    if (look[0].revents != 0) return;
    if (look[2].revents != 0) s->hooks->on_wake(s->hooks->ctx);
    if (look[3].revents != 0)
      for (int i = 0; i < SERVER_ACCEPTS && server_accept(s); i++) continue;
    mhd.run(s->daemon);
    if (server_now_ms() - tick_ms < SERVER_TICK_MS) continue;
    tick_ms = server_now_ms();
    s->is_paused = false;
    server_expire(s);
    s->hooks->on_tick(s->hooks->ctx);
  }
}
