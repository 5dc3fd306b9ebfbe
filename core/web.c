/* web.c - the site: opened once, judges each request. */
#include "memguard/web.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "os.h"
#include "web_parts.h"

/* ---- open ----------------------------------------------------------------------- */

/* A name without port, as Host has it. */
static mg_status web_add_host(mg_web *web, const char *name, mg_error *err) {
  mg__slice text = mg__slice_of(name);
  mg__slice host = mg__web_host_name(text);

  if (strcmp(name, "*") == 0) {
    web->has_any_host = true;
    return MG_OK;
  }
  for (size_t i = 0; i < text.bytes; i++)
    if (name[i] <= ' ' || name[i] > '~') host.at = NULL;
  if (host.at == NULL || host.bytes != text.bytes ||
      text.bytes >= MG__WEB_HOST_BYTES)
    return mg__fail(err, MG_EINVAL,
                    "host is \"%.100s\", allowed: a name or address without "
                    "port, or *", name);
  memcpy(web->host[web->host_count++], name, text.bytes + 1);
  return MG_OK;
}

static mg_status web_take_options(mg_web *web, const mg_web_options *o,
                                  mg_error *err) {
  mg_status st;

  if (o->token != NULL && o->token[0] != '\0') {
    st = mg_web_check_token(o->token, err);
    if (st != MG_OK) return st;
    memcpy(web->token, o->token, strlen(o->token) + 1);
  }
  if (o->read_needs_token && web->token[0] == '\0')
    return mg__fail(err, MG_ECONFLICT,
                    "read_needs_token is true, allowed only with a token");
  if (o->writes_per_minute < 1 || o->writes_per_minute > 1000000)
    return mg__fail(err, MG_ERANGE,
                    "writes_per_minute is %u, allowed: 1 to 1000000",
                    o->writes_per_minute);
  if (!(o->ready_below_percent >= 0 && o->ready_below_percent <= 100))
    return mg__fail(err, MG_ERANGE,
                    "ready_below_percent is %g, allowed: 0 to 100",
                    o->ready_below_percent);
  if (o->host_count > MG_WEB_HOSTS)
    return mg__fail(err, MG_ERANGE, "hosts are %zu, allowed: at most %u",
                    o->host_count, MG_WEB_HOSTS);
  for (size_t i = 0; i < o->host_count; i++) {
    st = web_add_host(web, o->hosts[i], err);
    if (st != MG_OK) return st;
  }
  return MG_OK;
}

mg_status mg_web_open(mg_web **out, const mg_web_options *options,
                      mg_error *err) {
  mg_web *web;
  mg_status st;

  *out = NULL;
  if (options->struct_bytes != sizeof *options)
    return mg__fail(err, MG_EINVAL,
                    "mg_web_options has %zu bytes, need %zu: header and library "
                    "differ", options->struct_bytes, sizeof *options);
  web = mg__alloc(sizeof *web);
  if (web == NULL) return mg__fail(err, MG_ENOMEM, "site");
  st = web_take_options(web, options, err);
  if (st != MG_OK) {
    mg_web_close(web);
    return st;
  }
  web->read_needs_token = options->read_needs_token;
  web->is_fleet = options->is_fleet;
  web->ready_below_percent = options->ready_below_percent;
  web->write_us = 60000000u / options->writes_per_minute;
  web->burst_us = web->write_us * ((options->writes_per_minute - 1) / 2);
  *out = web;
  return MG_OK;
}

void mg_web_close(mg_web *web) {
  if (web == NULL) return;
  memset(web->token, 0, sizeof web->token);
  mg__free(web);
}

/* ---- routes ----------------------------------------------------------------------- */

typedef struct web_route_row {
  const char *path;
  mg_web_kind kind;
  bool has_get, has_post, has_put;
} web_route_row;

static const web_route_row web_routes[MG_WEB_ROUTES] = {
#define WEB_ROUTE(id, path, kind, get, post, put) \
  {path, MG_WEB_##kind, get, post, put},
    MG_WEB_ROUTE_MAP(WEB_ROUTE)
#undef WEB_ROUTE
};

static mg_web_route web_find(mg__slice path) {
  size_t length = strlen(web_routes[MG_WEB_ASSET].path);

  if (path.bytes > length &&
      memcmp(path.at, web_routes[MG_WEB_ASSET].path, length) == 0)
    return MG_WEB_ASSET;
  for (int route = 0; route < MG_WEB_ROUTES; route++) {
    const char *known = web_routes[route].path;
    if (route != MG_WEB_ASSET && strlen(known) == path.bytes &&
        memcmp(path.at, known, path.bytes) == 0)
      return (mg_web_route)route;
  }
  return MG_WEB_ROUTES;
}

static bool web_allows(const web_route_row *row, const char *method) {
  bool is_read = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

  return (is_read && row->has_get) ||
         (strcmp(method, "POST") == 0 && row->has_post) ||
         (strcmp(method, "PUT") == 0 && row->has_put);
}

static void web_refuse_method(mg_web_job *out, const char *method) {
  const web_route_row *row = &web_routes[out->route];
  const char *allowed = row->has_post  ? "POST"
                        : row->has_put ? "GET, HEAD, PUT"
                                       : "GET, HEAD";

  mg__web_error(&out->response, 405, out->is_head,
                "method is \"%.20s\", allowed: %s", method, allowed);
  mg__web_add(&out->response, "Allow", allowed);
}

/* ---- the request as a whole ---------------------------------------------------------- */

/* @return whether its sizes and characters are in order. */
static bool web_is_sound(const mg_web_request *request, mg_web_job *out) {
  size_t target = strlen(request->target), bytes = 0;
  uint32_t status = 0;
  const char *why = "";

  for (size_t i = 0; i < request->header_count; i++)
    bytes += strlen(request->header[i].name) + strlen(request->header[i].value);
  if (target > MG_WEB_TARGET_BYTES) {
    status = 414;
    why = "the target is too long, allowed: 2048 bytes";
  } else if (request->header_count > MG_WEB_HEADERS ||
             bytes > MG_WEB_HEADER_BYTES) {
    status = 431;
    why = "the headers are too large, allowed: 100 lines, 16384 bytes";
  } else if (request->body_bytes > MG_WEB_BODY_BYTES) {
    status = 413;
    why = "the body is too large, allowed: 65536 bytes";
  } else if (request->target[0] != '/') {
    status = 400;
    why = "the target is no path, allowed: one that begins with /";
  }
  for (size_t i = 0; status == 0 && i < target; i++)
    if (request->target[i] <= ' ' || request->target[i] > '~') {
      status = 400;
      why = "the target has a character that is not plain ASCII";
    }
  if (status != 0) mg__web_error(&out->response, status, out->is_head, "%s", why);
  return status == 0;
}

/* Path and query. @return whether they name something. */
static bool web_read_target(const mg_web_request *request, mg_web_job *out,
                            mg__slice *path) {
  size_t length = strcspn(request->target, "?");
  mg__slice query = {request->target + length, strlen(request->target + length)};
  mg_error err = MG_ERROR_INIT;

  if (query.bytes > 0) query = (mg__slice){query.at + 1, query.bytes - 1};
  *path = (mg__slice){request->target, length};
  out->route = web_find(*path);
  if (out->route == MG_WEB_ROUTES) {
    mg__web_error(&out->response, 404, out->is_head,
                  "path is \"%.*s\", allowed: /, /livez, /readyz, /health, "
                  "/metrics, /api/v1/processes, /api/v1/memory/...",
                  length < 100 ? (int)length : 100, request->target);
    return false;
  }
  if (!web_allows(&web_routes[out->route], request->method)) {
    web_refuse_method(out, request->method);
    return false;
  }
  /* What a page makes of its own address is its own affair. */
  if (out->route == MG_WEB_DASHBOARD || out->route == MG_WEB_ASSET) return true;
  if (mg__web_read_query(out, query, &err)) return true;
  mg__web_error(&out->response, 400, out->is_head, "%s", err.text);
  return false;
}

static const mg_control_command web_commands[MG_WEB_ROUTES] = {
    [MG_WEB_CONFIG] = MG_CONTROL_READ_CONFIG,
    [MG_WEB_COLLECT] = MG_CONTROL_COLLECT,
    [MG_WEB_OPTIMIZE] = MG_CONTROL_OPTIMIZE};

/* The body becomes the arguments. @return whether it is an object, or may be absent. */
static bool web_take_body(const mg_web_request *request, bool is_put,
                          mg_web_job *out) {
  const char *body = request->body_bytes == 0 ? "{}" : request->body;
  size_t bytes = request->body_bytes == 0 ? 2 : request->body_bytes, at, first = 0;

  while (first < bytes && (body[first] == ' ' || body[first] == '\t' ||
                           body[first] == '\r' || body[first] == '\n'))
    first++;
  if (!mg__json_check(body, bytes, &at) || body[first] != '{' ||
      (is_put && request->body_bytes == 0)) {
    mg__web_error(&out->response, 400, out->is_head,
                  request->body_bytes == 0
                      ? "the body is empty, allowed: a JSON object"
                      : "the body is wrong at byte %zu, allowed: a JSON object",
                  first < bytes && body[first] != '{' ? first : at);
    return false;
  }
  out->arguments = mg__alloc_untouched(bytes + 1);
  if (out->arguments == NULL) {
    mg__web_error(&out->response, 503, out->is_head, "out of memory");
    return false;
  }
  memcpy(out->arguments, body, bytes);
  out->arguments[bytes] = '\0';
  out->command = is_put ? MG_CONTROL_UPDATE_CONFIG : web_commands[out->route];
  return true;
}

static void web_give_file(const mg_web_request *request, mg__slice path,
                          mg_web_job *out) {
  size_t prefix = strlen(web_routes[MG_WEB_ASSET].path);
  const mg_web_file *file = NULL;
  char name[64] = "index.html";
  mg__slice known;

  if (out->route == MG_WEB_ASSET)
    snprintf(name, sizeof name, "%.*s", (int)(path.bytes - prefix),
             path.at + prefix);
  file = mg_web_asset(name);
  if (file == NULL) {
    if (out->route == MG_WEB_DASHBOARD)
      mg__web_error(&out->response, 404, out->is_head,
                    "memguard was built without its dashboard, which needs npm's "
                    "uplot then; /metrics and /api/v1/processes are there");
    else
      mg__web_error(&out->response, 404, out->is_head,
                    "the dashboard has no file \"%s\"", name);
    return;
  }
  mg__web_begin(&out->response, 200, out->is_head, file->type);
  mg__web_add(&out->response, "ETag", file->etag);
  known = mg__web_header(request, "if-none-match", NULL);
  if (known.at != NULL && mg__slice_is(known, file->etag)) {
    out->response.status = 304;
    return;
  }
  out->response.body = file->bytes;
  out->response.body_bytes = file->count;
}

/* ---- plan ------------------------------------------------------------------------------- */

void mg_web_job_free(mg_web_job *job) {
  if (job == NULL) return;
  mg__free(job->arguments);
  job->arguments = NULL;
  mg_web_response_free(&job->response);
}

/* @return whether it was refused, or is whole already. */
static bool web_settle(mg_web *web, const mg_web_request *request,
                       mg_web_job *out) {
  bool is_put = strcmp(request->method, "PUT") == 0;
  bool is_write = is_put || strcmp(request->method, "POST") == 0;
  double clock_ms = request->clock_ms > 0 ? request->clock_ms : mg_clock_ms();
  mg__slice path;

  if (!web_is_sound(request, out) || !mg__web_admits_site(web, request, out) ||
      !web_read_target(request, out, &path) ||
      !mg__web_admits_user(web, request, is_write, out) ||
      (is_write && !mg__web_admits_write(web, clock_ms, out)))
    return true;
  out->kind = web_routes[out->route].kind;
  out->wants_openmetrics =
      out->route == MG_WEB_METRICS && mg__web_prefers_openmetrics(request);
  if (out->kind == MG_WEB_RESPOND) {
    web_give_file(request, path, out);
    return true;
  }
  if (out->kind == MG_WEB_READ) return false;
  if (!is_write) out->command = web_commands[out->route];
  return is_write && !web_take_body(request, is_put, out);
}

void mg_web_plan(mg_web *web, const mg_web_request *request, mg_web_job *out) {
  *out = (mg_web_job){.kind = MG_WEB_RESPOND,
                      .route = MG_WEB_ROUTES,
                      .is_head = strcmp(request->method, "HEAD") == 0,
                      .unix_ms = request->unix_ms != 0 ? request->unix_ms
                                                       : mg__os_unix_ms()};
  if (web_settle(web, request, out)) out->kind = MG_WEB_RESPOND;
}

void mg_web_serve(mg_web *web, const mg_web_request *request, mg_web_job *out) {
  mg_metrics_process own = {NULL, NULL, NULL, true};
  mg_segment_view view;
  size_t at;

  mg_web_plan(web, request, out);
  if (out->kind == MG_WEB_RESPOND) return;
  if (mg_segment_open_own(&own.segment, NULL) != MG_OK ||
      mg_segment_read(own.segment, &view, NULL) != MG_OK) {
    mg__web_error(&out->response, 503, out->is_head,
                  "this process cannot read what it shows of itself");
    out->kind = MG_WEB_RESPOND;
  } else {
    own.header = mg_segment_header_of(own.segment);
    own.view = &view;
    if (out->kind == MG_WEB_READ) {
      mg_web_read(web, out, &own, 1, NULL, 0, &out->response);
      out->kind = MG_WEB_RESPOND;
    } else if (!mg_web_choose(web, out, &own, 1, &at, &out->response)) {
      out->kind = MG_WEB_RESPOND;
    }
  }
  mg_segment_close(own.segment);
}
