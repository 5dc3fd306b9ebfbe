/* web_guard.c - who may ask what, and how often. */
#include "memguard/web.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"
#include "web_parts.h"

/* ---- token ------------------------------------------------------------------ */

mg_status mg_web_check_token(const char *token, mg_error *err) {
  size_t length = strlen(token);

  for (size_t i = 0; i < length; i++)
    if (token[i] < '!' || token[i] > '~')
      return mg__fail(err, MG_EINVAL,
                      "character %zu of the token is not from ! to ~", i + 1);
  if (length < MG_WEB_TOKEN_MIN || length > MG_WEB_TOKEN_MAX)
    return mg__fail(err, MG_EINVAL,
                    "the token has %zu characters, allowed: %u to %u", length,
                    MG_WEB_TOKEN_MIN, MG_WEB_TOKEN_MAX);
  return MG_OK;
}

/* A token without what may stand around it in a file. */
static mg_status guard_take_token(char out[MG_WEB_TOKEN_MAX + 1], char *text,
                                  const char *source, mg_error *err) {
  mg_error why = MG_ERROR_INIT;

  text[strcspn(text, "\r\n")] = '\0';
  if (mg_web_check_token(text, &why) != MG_OK)
    return mg__fail(err, MG_EINVAL, "%s: %s", source, why.text);
  snprintf(out, MG_WEB_TOKEN_MAX + 1, "%s", text);
  return MG_OK;
}

static mg_status guard_read_token(char out[MG_WEB_TOKEN_MAX + 1],
                                  const char *path, mg_error *err) {
  char text[MG_WEB_TOKEN_MAX + 4] = "";
  mg_error why = MG_ERROR_INIT;
  mg__file file;
  mg_status st = mg__os_open_plain(&file, path, &why);
  long got;

  if (st != MG_OK)
    return mg__fail(err, MG_ESYS, "the token file cannot be read: %s", why.text);
  got = mg__os_read_at(file.fd, text, sizeof text - 1, 0);
  if (got < 0)
    st = mg__fail_errno(err, errno, "token file %s", path);
  else
    st = guard_take_token(out, text, path, err);
  mg__file_close(&file);
  return st;
}

mg_status mg_web_find_token(char out[MG_WEB_TOKEN_MAX + 1], const char *path,
                            mg_error *err) {
  const char *token = getenv("MEMGUARD_WEB_TOKEN");
  char text[MG_WEB_TOKEN_MAX + 4];

  out[0] = '\0';
  if (path == NULL && token != NULL && token[0] != '\0') {
    snprintf(text, sizeof text, "%s", token);
    return guard_take_token(out, text, "MEMGUARD_WEB_TOKEN", err);
  }
  if (path == NULL) path = getenv("MEMGUARD_WEB_TOKEN_FILE");
  return path == NULL || path[0] == '\0' ? MG_OK
                                         : guard_read_token(out, path, err);
}

/* In a time that depends on the length of what was given alone. */
static bool guard_is_token(const mg_web *web, mg__slice given) {
  size_t length = strlen(web->token);
  unsigned char differs = given.bytes != length;

  for (size_t i = 0; i < given.bytes; i++)
    differs |= (unsigned char)(given.at[i] ^ web->token[i % (length + 1)]);
  return differs == 0;
}

/* ---- site -------------------------------------------------------------------- */

bool mg_web_is_loopback(const char *address) {
  unsigned part[4];
  char rest;

  if (strcmp(address, "::1") == 0 ||
      mg__slice_is(mg__slice_of(address), "localhost"))
    return true;
  return strspn(address, "0123456789.") == strlen(address) &&
         sscanf(address, "%3u.%3u.%3u.%3u%c", &part[0], &part[1], &part[2],
                &part[3], &rest) == 4 &&
         part[0] == 127 && part[1] < 256 && part[2] < 256 && part[3] < 256;
}

static bool guard_knows_host(const mg_web *web, mg__slice name) {
  static const char *const own[] = {"localhost", "127.0.0.1", "[::1]"};

  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    if (mg__slice_is(name, own[i])) return true;
  for (size_t i = 0; i < web->host_count; i++)
    if (mg__slice_is(name, web->host[i])) return true;
  return web->has_any_host;
}

/* Whether an origin is that of the host itself. */
static bool guard_is_same(mg__slice origin, mg__slice host) {
  static const char *const schemes[] = {"http://", "https://"};

  for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
    size_t length = strlen(schemes[i]);
    mg__slice scheme = {origin.at, length};
    if (origin.bytes != length + host.bytes || !mg__slice_is(scheme, schemes[i]))
      continue;
    for (size_t k = 0; k < host.bytes; k++)
      if (mg__config_lower(origin.at[length + k]) !=
          mg__config_lower(host.at[k]))
        return false;
    return true;
  }
  return false;
}

bool mg__web_admits_site(const mg_web *web, const mg_web_request *request,
                         mg_web_job *out) {
  size_t hosts, origins;
  mg__slice host = mg__web_header(request, "host", &hosts), name;
  mg__slice origin = mg__web_header(request, "origin", &origins);

  if (hosts != 1) {
    mg__web_error(&out->response, 400, out->is_head,
                  "header Host is there %zu times, allowed: once", hosts);
    return false;
  }
  name = mg__web_host_name(host);
  if (name.at == NULL || !guard_knows_host(web, name)) {
    mg__web_error(&out->response, 421, out->is_head,
                  "header Host is \"%.100s\", allowed: localhost, 127.0.0.1, "
                  "[::1] or a name this site was opened with", host.at);
    return false;
  }
  if (origins > 1 || (origins == 1 && !guard_is_same(origin, host))) {
    mg__web_error(&out->response, 403, out->is_head,
                  "header Origin is \"%.100s\", allowed: the Host itself",
                  origin.at);
    return false;
  }
  return true;
}

/* ---- user ---------------------------------------------------------------------- */

static bool guard_has_token(const mg_web *web, const mg_web_request *request) {
  size_t count;
  mg__slice value = mg__web_header(request, "authorization", &count);
  mg__slice scheme = {value.at, 7};

  if (count != 1 || value.bytes < 7 || !mg__slice_is(scheme, "bearer "))
    return false;
  value = (mg__slice){value.at + 7, value.bytes - 7};
  return guard_is_token(web, mg__slice_trim(value));
}

bool mg__web_admits_user(const mg_web *web, const mg_web_request *request,
                         bool is_write, mg_web_job *out) {
  bool is_open = out->route == MG_WEB_DASHBOARD ||
                 out->route == MG_WEB_ASSET || out->route == MG_WEB_LIVEZ;

  if (is_write && web->token[0] == '\0') {
    mg__web_error(&out->response, 403, out->is_head,
                  "this site has no token, so it changes nothing: set "
                  "MEMGUARD_WEB_TOKEN or MEMGUARD_WEB_TOKEN_FILE where it runs");
    return false;
  }
  if ((is_write || (web->read_needs_token && !is_open)) &&
      !guard_has_token(web, request)) {
    mg__web_error(&out->response, 401, out->is_head,
                  "header Authorization is missing or wrong, allowed: Bearer "
                  "and the token of this site");
    mg__web_add(&out->response, "WWW-Authenticate", "Bearer realm=\"memguard\"");
    return false;
  }
  if (is_write &&
      !mg__slice_is(mg__web_header(request, "x-memguard", NULL), "1")) {
    mg__web_error(&out->response, 403, out->is_head,
                  "header X-Memguard is missing or wrong, allowed: 1");
    return false;
  }
  return true;
}

/* ---- rate ------------------------------------------------------------------------ */

/* A leaky bucket as one word, the time at which it is empty (GCRA, the generic cell
 * rate algorithm of ATM): no lock that a fork could leave taken. */
bool mg__web_admits_write(mg_web *web, double clock_ms, mg_web_job *out) {
  uint64_t now_us = (uint64_t)(clock_ms * 1e3), due_us, next_us;
  char seconds[24];

  due_us = atomic_load(&web->write_due_us);
  do {
    if (due_us > now_us + web->burst_us) {
      uint64_t wait_us = due_us - now_us - web->burst_us;
      snprintf(seconds, sizeof seconds, "%llu",
               (unsigned long long)((wait_us + 999999) / 1000000));
      mg__web_error(&out->response, 429, out->is_head,
                    "too many requests that change something, the next is "
                    "allowed in %s s", seconds);
      mg__web_add(&out->response, "Retry-After", seconds);
      return false;
    }
    next_us = (due_us > now_us ? due_us : now_us) + web->write_us;
  } while (
      !atomic_compare_exchange_weak(&web->write_due_us, &due_us, next_us));
  return true;
}
