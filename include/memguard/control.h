/* memguard/control.h - asks a running process to do something, from outside.
 *
 * A process that publishes a segment listens on a socket beside it (its name and
 * ".sock", mode 0600), while somebody serves requests. A peer must be of the same
 * user, or root. The sampler thread moves bytes, without ever waiting for a
 * peer; the worker thread runs the request, through the hooks of whoever registered
 * first. So requests run one at a time, and on the runtime's own terms.
 *
 * Frames, both ways; all numbers little-endian:
 *
 *   offset 0   "MGC1"
 *   offset 4   bytes of the payload (a request: MG_CONTROL_REQUEST_BYTES at most,
 *              a reply: MG_CONTROL_REPLY_BYTES)
 *   offset 8   request: mg_control_command; reply: mg_status
 *   offset 12  number of the request, repeated by the reply
 *   offset 16  payload, UTF-8: of a request its arguments, a JSON object or
 *              nothing; of a reply with status 0 a JSON value, else what went wrong
 *
 * A peer may have one request under way. What it may cost: MG_CONTROL_CLIENTS
 * connections at once (more are closed at once), a request must be whole within
 * MG_CONTROL_PEER_MS and its reply be taken within as much, a connection with
 * neither is closed after MG_CONTROL_IDLE_MS; sockets are looked at again not
 * before MG_CONTROL_GAP_MS. A frame that breaks a rule ends its connection.
 *
 * Threads: any, except where said otherwise. */
#ifndef MEMGUARD_CONTROL_H
#define MEMGUARD_CONTROL_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_CONTROL_MAGIC "MGC1"
#define MG_CONTROL_HEADER_BYTES 16u
#define MG_CONTROL_REQUEST_BYTES 65536u
#define MG_CONTROL_REPLY_BYTES 8388608u
#define MG_CONTROL_CLIENTS 4u
#define MG_CONTROL_PEER_MS 2000.0
#define MG_CONTROL_IDLE_MS 10000.0
#define MG_CONTROL_GAP_MS 10.0
#define MG_CONTROL_RUN_MS 30000.0 /* what a hook may take */

/** X(ID, value, name, arguments and answer). Values never change. */
#define MG_CONTROL_MAP(X)                                                     \
  X(PING, 0, "ping", "{} -> {}; answered without the runtime")                \
  X(COLLECT, 1, "collect",                                                    \
    "{\"kind\": \"young\"|\"full\"|\"release\"} (full) -> the round")         \
  X(OPTIMIZE, 2, "optimize", "{} -> the report of optimize()")                \
  X(SNAPSHOT, 3, "snapshot", "{} -> {\"memory_stats\": {...}, "                \
    "\"leak_detection\": [...]}")                                             \
  X(CENSUS, 4, "census", "{\"top\": N} (10) -> rows of types: "                 \
    "{\"type\", \"count\", Python: \"bytes\"}")                               \
  X(READ_CONFIG, 5, "read_config", "{} -> all settings by section")           \
  X(UPDATE_CONFIG, 6, "update_config",                                        \
    "settings by path or by section -> all settings; all or none")

typedef enum mg_control_command {
#define MG_CONTROL_ENUM(id, value, name, doc) MG_CONTROL_##id = value,
  MG_CONTROL_MAP(MG_CONTROL_ENUM)
#undef MG_CONTROL_ENUM
      MG_CONTROL_COMMANDS
} mg_control_command;

/** @return "collect" and so on; "unknown" for a foreign value. */
MG_API const char *mg_control_name(mg_control_command command);
/** @return MG_OK, MG_EINVAL (the error lists the names). */
MG_API mg_status mg_control_find(mg_control_command *out, const char *name,
                                 mg_error *err);

/* ---- the served process ------------------------------------------------ */

typedef struct mg_control_reply mg_control_reply;
/** Sets the text of the answer; a second call replaces the first.
 *  @return MG_OK, MG_ENOMEM, MG_ERANGE (longer than MG_CONTROL_REPLY_BYTES). */
MG_API mg_status mg_control_answer(mg_control_reply *reply, const char *text,
                                   size_t bytes, mg_error *err);

typedef struct mg_control_hooks {
  size_t struct_bytes; /* sizeof(mg_control_hooks), set by the macro below */
  /** Does what is asked and answers. On memguard's worker thread, no lock is
   *  held. Should end within MG_CONTROL_RUN_MS.
   *  @param arguments [borrowed] NUL-terminated UTF-8, may be empty.
   *  @return MG_OK with an answer, MG_EABSENT (this runtime cannot), or another
   *  failure, of which `err` tells the peer. */
  mg_status (*run)(void *ctx, mg_control_command command, const char *arguments,
                   mg_control_reply *reply, mg_error *err);
  void *ctx;
} mg_control_hooks;
#define MG_CONTROL_HOOKS_INIT {sizeof(mg_control_hooks), NULL, NULL}

typedef struct mg_control mg_control;

/** Registers; served while a monitor of the process runs and publishes.
 *  @param out [owned] @return MG_OK, MG_EINVAL (foreign struct size), MG_ENOMEM. */
MG_API mg_status mg_control_open(mg_control **out, const mg_control_hooks *hooks,
                                 mg_error *err);
/** When it returns, the hook does not run and will not; waits for a call under
 *  way, unless it is this very call. NULL allowed. */
MG_API void mg_control_close(mg_control *control);

/* ---- the asking process ------------------------------------------------ */

/** Asks and waits for the answer.
 *  @param socket_path of the process: path of its segment and ".sock".
 *  @param arguments [borrowed] JSON, NULL or empty for none.
 *  @param out [owned] JSON, NUL-terminated; release with mg_free_text(). NULL
 *  unless MG_OK.
 *  @return MG_OK; MG_ENOTFOUND (nobody listens there), MG_ETIMEOUT, MG_EBROKEN (the
 *  peer broke off, or broke the rules), MG_ERANGE (arguments too long), MG_ENOMEM,
 *  MG_ESYS; or what the process answered, with its words. */
MG_API mg_status mg_control_ask(char **out, const char *socket_path,
                                mg_control_command command,
                                const char *arguments, double timeout_ms,
                                mg_error *err);

#ifdef __cplusplus
}
#endif
#endif
