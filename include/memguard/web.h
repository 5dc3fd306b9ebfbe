/* memguard/web.h - the HTTP site of memguard without the sockets.
 *
 * A server (of Python, of Node, of the memguard tool) reads a request off the
 * wire and gives it to a site as words; what comes back is a whole response. In
 * between the server may have to do one thing, which depends on where it stands:
 *
 *   mg_web_plan(web, &request, &job) -> job.kind
 *     MG_WEB_RESPOND  job.response is it: an error, a file of the dashboard
 *     MG_WEB_READ     mg_web_read() renders it from segments: no process is asked
 *     MG_WEB_ASK      job.command is to be run with job.arguments in a process (in
 *                     that very process by its binding; from outside by
 *                     mg_control_ask()); mg_web_answered() turns what came of it
 *                     into the response. This may take seconds: an event loop
 *                     leaves it to a thread or a callback
 *
 * A server inside the process that it shows calls mg_web_serve(), which plans and
 * reads at once and leaves nothing but RESPOND or ASK.
 *
 * Paths, relative to where the site is mounted. `pid=N` in the query chooses a
 * process; without it the only one that is alive (of none: the only one):
 *
 *   GET  /  /assets/NAME               the dashboard
 *   GET  /livez /readyz /health        see mg_web_options
 *   GET  /metrics                      Prometheus text, or OpenMetrics by Accept
 *   GET  /api/v1/processes             all, living and dead
 *   GET  /api/v1/memory/stats          the 15 numbers of a memory monitor, null
 *                                      where unknown, and the process
 *   GET  /api/v1/memory/history        ?ring=second|minute &since_unix_ms=N &max=N
 *   GET  /api/v1/memory/alerts         active, and the recorder's
 *   GET  /api/v1/memory/optimizations  rounds of the reclaim engine
 *   GET  /api/v1/memory/leaks          active leak alerts, types that grow
 *   GET  /api/v1/memory/config         all settings by section
 *   PUT  /api/v1/memory/config         body: settings by path or section, all or none
 *   POST /api/v1/memory/gc             body: {} or {"kind": "young"|"full"|"release"}
 *   POST /api/v1/memory/optimize       body: {} or nothing
 *
 * HEAD is allowed wherever GET is. JSON is UTF-8 in one line; an error is {"error":
 * "what, its value, what is allowed"}. Statuses: 400 request, query, JSON or
 * settings; 401 token; 403 foreign Origin, no X-Memguard, no token configured; 404;
 * 405; 410 the process has ended; 413, 414, 431 too large; 421 foreign Host; 429; 500
 * the runtime failed; 502 the process broke off; 503 nobody there, no memory, not
 * well; 504.
 *
 * Who may: Host must be localhost, 127.0.0.1, [::1] or a name of the options (a page
 * of another name cannot reach the site through DNS), Origin, if there is one, the
 * same as Host. POST and PUT need `Authorization: Bearer TOKEN`, compared in constant
 * time, and `X-Memguard: 1`, which no foreign page can send. GET needs the token if
 * the options say so; /livez and the dashboard's own files, which tell nothing, never
 * do. Nothing of a refused request is done.
 *
 * Threads: a site may be used by any number of threads at once; a job and a response
 * belong to one. Nothing here waits, but for reading segments (some 100 us of a
 * process, from memory). */
#ifndef MEMGUARD_WEB_H
#define MEMGUARD_WEB_H

#include "memguard/control.h"
#include "memguard/segment.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Limits. A server refuses by itself, through mg_web_refuse(), what would not fit
 * before it has read it all. */
#define MG_WEB_TARGET_BYTES 2048u  /* path and query: 414 */
#define MG_WEB_BODY_BYTES 65536u   /* 413 */
#define MG_WEB_HEADERS 100u        /* lines: 431 */
#define MG_WEB_HEADER_BYTES 16384u /* all of them together: 431 */
#define MG_WEB_TOKEN_MIN 16u       /* characters of a token */
#define MG_WEB_TOKEN_MAX 256u
#define MG_WEB_HOSTS 16u           /* names of the options */
#define MG_WEB_WRITES_PER_MINUTE 60u
#define MG_WEB_STALE_MS 10000.0    /* a heartbeat may be that late */

/* ---- token ---------------------------------------------------------------- */

/** Checks a token: MG_WEB_TOKEN_MIN to MG_WEB_TOKEN_MAX characters from '!' to '~'.
 *  @return MG_OK, MG_EINVAL (the error does not tell the token). */
MG_API mg_status mg_web_check_token(const char *token, mg_error *err);
/** Finds the token of this machine's operator: the first line of the file `path`; if
 *  that is NULL, $MEMGUARD_WEB_TOKEN, else the first line of the file
 *  $MEMGUARD_WEB_TOKEN_FILE. An empty text if none of them is set.
 *  @return MG_OK, MG_EINVAL (no good token), MG_ESYS (the file). */
MG_API mg_status mg_web_find_token(char out[MG_WEB_TOKEN_MAX + 1],
                                   const char *path, mg_error *err);

/* ---- site ----------------------------------------------------------------- */

typedef struct mg_web mg_web;

typedef struct mg_web_options {
  size_t struct_bytes; /* sizeof(mg_web_options), set by the macro below */
  /** NULL or empty: POST and PUT are refused (403). */
  const char *token;
  /** Whether GET needs the token as well. Needs a token. */
  bool read_needs_token;
  /** Whether the site shows many processes. Then /livez, /readyz and /health
   *  without a pid speak of the site: alive; ready; the worst of its processes. */
  bool is_fleet;
  /** Names that Host may have besides those of loopback, without port; "*": any
   *  (for a site inside an application that checks Host itself). */
  const char *const *hosts;
  size_t host_count; /* at most MG_WEB_HOSTS */
  /** POST and PUT a minute, for all clients together, 1 to 1 000 000; half of them
   *  may come at once. */
  uint32_t writes_per_minute;
  /** /readyz fails (503) from this usage of the limit on, in percent; 0: never. */
  double ready_below_percent;
} mg_web_options;
#define MG_WEB_OPTIONS_INIT                                       \
  {sizeof(mg_web_options), NULL, false, false, NULL, 0,           \
   MG_WEB_WRITES_PER_MINUTE, 0.0}

/** @param options [borrowed] copied. @param out [owned] mg_web_close().
 *  @return MG_OK, MG_EINVAL (foreign struct size, bad token or host name),
 *  MG_ERANGE, MG_ECONFLICT (read_needs_token without a token), MG_ENOMEM. */
MG_API mg_status mg_web_open(mg_web **out, const mg_web_options *options,
                             mg_error *err);
/** No call is under way. NULL allowed. */
MG_API void mg_web_close(mg_web *web);

/** Whether an address to listen at is loopback: "localhost", "127.x.y.z", "::1".
 *  Servers listen elsewhere only if told so and with a token. Pure. */
MG_API bool mg_web_is_loopback(const char *address);

/* ---- request and response -------------------------------------------------- */

/** One header line. Names in any case; texts are NUL-terminated bytes without line
 *  ends. One whose value holds a NUL is no request: mg_web_refuse() it with 400. */
typedef struct mg_web_header {
  const char *name, *value;
} mg_web_header;

/** A request as it came; all [borrowed] during the call. */
typedef struct mg_web_request {
  const char *method; /* as sent: "GET" */
  const char *target; /* path and query as sent, not decoded: "/metrics?x=1";
                         without the part where the site is mounted */
  const mg_web_header *header;
  size_t header_count;
  const char *body; /* NULL allowed if body_bytes is 0; need not end in a NUL */
  size_t body_bytes;
  double clock_ms;  /* mg_clock_ms(); 0: the call looks itself */
  uint64_t unix_ms; /* since 1970; 0: the call looks itself */
} mg_web_request;

#define MG_WEB_RESPONSE_HEADERS 12u
#define MG_WEB_VALUE_BYTES 256u

typedef struct mg_web_response_header {
  const char *name; /* static */
  char value[MG_WEB_VALUE_BYTES];
} mg_web_response_header;

/** A whole response. May be copied; one of the copies is freed. The server adds
 *  Content-Length (body_bytes), Date and Connection. */
typedef struct mg_web_response {
  uint32_t status;
  bool is_head;     /* the body is not sent; Content-Length says its bytes all the
                       same */
  size_t header_count;
  mg_web_response_header header[MG_WEB_RESPONSE_HEADERS];
  const char *body; /* [borrowed until mg_web_response_free()] */
  size_t body_bytes;
  char *owned;      /* what of it is to be freed */
} mg_web_response;

/** NULL allowed; a zeroed response may be freed, a freed one again. */
MG_API void mg_web_response_free(mg_web_response *response);
/** @return the standard's words, "Not Found"; "Unknown" for a status that no
 *  response here has. */
MG_API const char *mg_web_status_text(uint32_t status);

/** What a server refuses before it has a request: 400, 408, 413, 414, 431, 503 and
 *  so on. Needs no site; never fails.
 *  @param text [borrowed] one line that tells why. */
MG_API void mg_web_refuse(uint32_t status, const char *text,
                          mg_web_response *out);

/* ---- plan ------------------------------------------------------------------- */

typedef enum mg_web_kind { MG_WEB_RESPOND, MG_WEB_READ, MG_WEB_ASK } mg_web_kind;

/** X(ID, path, kind of GET, GET, POST, PUT). Order: that of mg_web_route. */
#define MG_WEB_ROUTE_MAP(X)                                              \
  X(DASHBOARD, "/", RESPOND, true, false, false)                         \
  X(ASSET, "/assets/", RESPOND, true, false, false)                      \
  X(LIVEZ, "/livez", READ, true, false, false)                           \
  X(READYZ, "/readyz", READ, true, false, false)                         \
  X(HEALTH, "/health", READ, true, false, false)                         \
  X(METRICS, "/metrics", READ, true, false, false)                       \
  X(PROCESSES, "/api/v1/processes", READ, true, false, false)            \
  X(STATS, "/api/v1/memory/stats", READ, true, false, false)             \
  X(HISTORY, "/api/v1/memory/history", READ, true, false, false)         \
  X(ALERTS, "/api/v1/memory/alerts", READ, true, false, false)           \
  X(OPTIMIZATIONS, "/api/v1/memory/optimizations", READ, true, false, false) \
  X(LEAKS, "/api/v1/memory/leaks", READ, true, false, false)             \
  X(CONFIG, "/api/v1/memory/config", ASK, true, false, true)             \
  X(COLLECT, "/api/v1/memory/gc", ASK, false, true, false)               \
  X(OPTIMIZE, "/api/v1/memory/optimize", ASK, false, true, false)

typedef enum mg_web_route {
#define MG_WEB_ROUTE_ENUM(id, ...) MG_WEB_##id,
  MG_WEB_ROUTE_MAP(MG_WEB_ROUTE_ENUM)
#undef MG_WEB_ROUTE_ENUM
      MG_WEB_ROUTES
} mg_web_route;

/** What is to be done for a request. */
typedef struct mg_web_job {
  mg_web_kind kind;
  mg_web_route route; /* MG_WEB_ROUTES: none of them */
  bool is_head;
  bool wants_openmetrics;   /* METRICS */
  bool has_pid;
  uint32_t pid;             /* if has_pid */
  mg_segment_ring ring;     /* HISTORY */
  uint64_t since_unix_ms;   /* HISTORY: points later than this */
  uint32_t max;             /* HISTORY: at most so many, the newest */
  uint64_t unix_ms;         /* when it was asked */
  mg_control_command command; /* ASK */
  char *arguments;          /* ASK: a JSON object. [owned] mg_web_job_free() */
  mg_web_response response; /* RESPOND. [owned] mg_web_job_free(), unless taken by
                               copying it out and zeroing it here */
} mg_web_job;

/** NULL allowed; a zeroed job may be freed, a freed one again. */
MG_API void mg_web_job_free(mg_web_job *job);

/** Judges a request. Never fails: what goes wrong is a response. Reads no file.
 *  @param out [owned] mg_web_job_free(). */
MG_API void mg_web_plan(mg_web *web, const mg_web_request *request,
                        mg_web_job *out);

/** A process as read from its segment, see metrics.h. */
typedef struct mg_metrics_process mg_metrics_process;

/** Renders a job of kind READ.
 *  @param list [borrowed] all processes that the site shows, living and dead;
 *  mg_segment_read() has filled their views.
 *  @param services [borrowed] NULL if there are none.
 *  @param out [owned] mg_web_response_free(). Always a whole response. */
MG_API void mg_web_read(mg_web *web, const mg_web_job *job,
                        const mg_metrics_process *list, size_t count,
                        const mg_segment_service *services,
                        size_t service_count, mg_web_response *out);

/** Chooses the process that a job of kind ASK is for, one that is alive.
 *  @param out_response [owned] written only if there is none: why.
 *  @return whether `*out` is its index in the list. */
MG_API bool mg_web_choose(mg_web *web, const mg_web_job *job,
                          const mg_metrics_process *list, size_t count,
                          size_t *out, mg_web_response *out_response);

/** The response to a job of kind ASK. Looks at `route` and `is_head` of the job
 *  alone, so that a server may keep just these.
 *  @param status what running the command came to, and
 *  @param text [borrowed] its JSON (MG_OK) or what went wrong. NULL is "".
 *  @param out [owned] mg_web_response_free(). Always a whole response. */
MG_API void mg_web_answered(mg_web *web, const mg_web_job *job,
                            mg_status status, const char *text,
                            mg_web_response *out);

/** mg_web_plan(), and for READ mg_web_read() of this very process: the job is
 *  RESPOND or ASK (of this process: a pid that is another one is 404).
 *  @param out [owned] mg_web_job_free(). */
MG_API void mg_web_serve(mg_web *web, const mg_web_request *request,
                         mg_web_job *out);

/* ---- parts that others use --------------------------------------------------- */

/** Everything a segment says of its process now, as a JSON object: what
 *  /api/v1/processes lists.
 *  @param out [owned] NUL-terminated; mg_free_text().
 *  @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_web_process(char **out, const mg_metrics_process *process,
                                mg_error *err);

/** A file of the dashboard; all of it static. */
typedef struct mg_web_file {
  const char *name; /* "index.html", "app.js" */
  const char *type; /* Content-Type: "text/javascript; charset=utf-8" */
  const char *etag; /* of the content, in its quotes */
  const char *bytes;
  size_t count;
} mg_web_file;

/** Finds a file by its name: "index.html" for the path "/", else what follows
 *  "/assets/". @return NULL if there is none. Pure. */
MG_API const mg_web_file *mg_web_asset(const char *name);

#ifdef __cplusplus
}
#endif
#endif
