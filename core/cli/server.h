/* server.h - moves the bytes of HTTP for `memguard exporter`, by libmicrohttpd.
 *
 * One thread runs it: server_run() waits and serves until somebody says stop. What
 * a request means is the handler's business, which answers at once, or later from
 * server_run()'s `on_wake`.
 *
 * What a peer may cost:
 *
 *   connections      SERVER_CLIENTS; one more closes the one that waited longest,
 *                    so idle ones never keep others out
 *   a request        whole within SERVER_REQUEST_MS of the connection, within
 *                    SERVER_IDLE_MS of the answer before it
 *   its head         SERVER_HEAD_BYTES; its body MG_WEB_BODY_BYTES
 *   an answer        taken within SERVER_ANSWER_MS
 *   all answers      SERVER_HELD_BYTES; more closes those that are taken slowest
 *
 * A request that its handler has not answered keeps its connection. */
#ifndef MG_CLI_SERVER_H
#define MG_CLI_SERVER_H

#include "memguard/web.h"

#define SERVER_CLIENTS 256u
#define SERVER_REQUEST_MS 10000.0
#define SERVER_IDLE_MS 75000.0
#define SERVER_ANSWER_MS 30000.0
#define SERVER_HEAD_BYTES 65536u /* room for one that is refused in words */
#define SERVER_DRAIN_BYTES 16777216u /* of a body too long, read so that the peer
                                        gets to see the answer */
#define SERVER_PARTING_MS 500.0
#define SERVER_HELD_BYTES 16777216u

typedef struct server server;
typedef struct server_exchange server_exchange;
/** An answer; any number of exchanges can have it at once. */
typedef struct server_answer server_answer;

typedef struct server_hooks {
  /** A whole request came. Calls server_answer_with() now or later; until then
   *  the exchange is valid. */
  void (*on_request)(void *ctx, server_exchange *exchange);
  /** `wake_fd` can be read. */
  void (*on_wake)(void *ctx);
  /** About once a second. */
  void (*on_tick)(void *ctx);
  int wake_fd;
  void *ctx;
} server_hooks;

/** @param listen_fd non-blocking, [borrowed until the close].
 *  @param hooks [borrowed until the close]
 *  @return NULL if there is no memory or no descriptor. */
server *server_open(int listen_fd, const server_hooks *hooks);
/** Serves until `stop_fd` can be read. */
void server_run(server *s, int stop_fd);
/** Once everything is answered: gives peers a moment to take it, then breaks off.
 *  NULL allowed. */
void server_close(server *s);

/* ---- a request ------------------------------------------------------------- */

const char *server_method(const server_exchange *exchange);
/** As it came, escapes and query included. */
const char *server_target(const server_exchange *exchange);
/** Copies the header lines, in their order, at most `max`. @return how many there
 *  are; SIZE_MAX if a value holds a NUL. */
size_t server_headers(const server_exchange *exchange, mg_web_header *out,
                      size_t max);
/** NULL if none came, or one longer than MG_WEB_BODY_BYTES.
 *  @param out_bytes how long it is, or says to be. */
const char *server_body(const server_exchange *exchange, size_t *out_bytes);

/* ---- an answer --------------------------------------------------------------- */

/** @param owner [owned] of the body, also on failure; `give` takes it back once
 *  nobody has the answer any more. @return NULL if there is no memory. */
server_answer *server_answer_new(server *s, unsigned status, const char *body,
                                 size_t bytes, void *owner,
                                 void (*give)(void *owner));
/** @return false if there is no memory, or what it says is no header. */
bool server_answer_header(server_answer *answer, const char *name,
                          const char *value);
server_answer *server_answer_keep(server_answer *answer);
/** NULL allowed. */
void server_answer_drop(server_answer *answer);
/** @param answer [borrowed] NULL: the connection is closed. */
void server_answer_with(server_exchange *exchange, server_answer *answer);

#endif
