/* web.c - the core's HTTP site: words of a request in, a whole response out.
 *
 * A response is [status, is_head, body, name, value, name, value, ...]; what is to
 * be asked of the monitor first is [route, is_head, command, arguments], and comes
 * back through webAnswered(). */
#include "memguard_node.h"

#include <stdlib.h>
#include <string.h>

static const napi_type_tag web_tag = {0x6d656d6775617264u, 0x7765620000000001u};

#define WEB_HOST_BYTES 256
#define WEB_LEAST_WORDS 2u /* method and target stand before the headers */

/* ---- site ----------------------------------------------------------------- */

static void web_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  mg_web_close(data);
}

/* @return the site behind a handle [borrowed]; NULL if something is thrown. */
static mg_web *web_of(napi_env env, napi_value value) {
  mg_web *web = mgn_unwrap(env, value, &web_tag);

  if (web == NULL) mgn_throw_text(env, MG_ETYPE, "expected a site");
  return web;
}

static napi_value web_wrap(napi_env env, const mg_web_options *options) {
  mg_error err = MG_ERROR_INIT;
  napi_value handle;
  mg_web *web;

  if (mg_web_open(&web, options, &err) != MG_OK) return mgn_throw(env, &err);
  if (napi_create_object(env, &handle) != napi_ok ||
      napi_type_tag_object(env, handle, &web_tag) != napi_ok ||
      napi_wrap(env, handle, web, web_finalize, NULL, NULL) != napi_ok) {
    mg_web_close(web);
    return mgn_fail_napi(env);
  }
  return handle;
}

/* One too many is kept, so that the core refuses them. @return false if thrown. */
static bool web_hosts(napi_env env, napi_value array,
                      char text[MG_WEB_HOSTS + 1][WEB_HOST_BYTES],
                      size_t *out) {
  uint32_t count = 0;
  napi_value host;

  if (napi_get_array_length(env, array, &count) != napi_ok) {
    mgn_throw_text(env, MG_ETYPE, "allowedHosts must be an array of strings");
    return false;
  }
  if (count > MG_WEB_HOSTS + 1) count = MG_WEB_HOSTS + 1;
  for (uint32_t i = 0; i < count; i++) {
    if (napi_get_element(env, array, i, &host) != napi_ok) {
      mgn_fail_napi(env);
      return false;
    }
    if (!mgn_text_of(env, host, "a name in allowedHosts", text[i],
                     WEB_HOST_BYTES))
      return false;
  }
  *out = count;
  return true;
}

/* webOpen(token or "", readNeedsToken, [host, ...], writesPerMinute,
 * readyBelowPercent) -> handle */
static napi_value web_open(napi_env env, napi_callback_info info) {
  char token[MG_WEB_TOKEN_MAX + 1], host[MG_WEB_HOSTS + 1][WEB_HOST_BYTES];
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  const char *names[MG_WEB_HOSTS + 1];
  uint64_t writes;
  napi_value v[5];

  if (!mgn_arguments(env, info, 5, v, NULL) ||
      !mgn_text_of(env, v[0], "token", token, sizeof token) ||
      !mgn_bool_of(env, v[1], &options.read_needs_token) ||
      !web_hosts(env, v[2], host, &options.host_count) ||
      !mgn_count_of(env, v[3], &writes) ||
      !mgn_number_of(env, v[4], &options.ready_below_percent))
    return NULL;
  for (size_t i = 0; i < options.host_count; i++) names[i] = host[i];
  options.token = token;
  options.hosts = names;
  options.writes_per_minute =
      writes > UINT32_MAX ? UINT32_MAX : (uint32_t)writes;
  return web_wrap(env, &options);
}

/* webFindToken(path or "") -> token or "" */
static napi_value web_find_token(napi_env env, napi_callback_info info) {
  char path[4096], token[MG_WEB_TOKEN_MAX + 1];
  mg_error err = MG_ERROR_INIT;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL) ||
      !mgn_text_of(env, value, "tokenFile", path, sizeof path))
    return NULL;
  if (mg_web_find_token(token, path[0] == '\0' ? NULL : path, &err) != MG_OK)
    return mgn_throw(env, &err);
  return mgn_text(env, token);
}

/* webIsLoopback(address) -> boolean */
static napi_value web_is_loopback(napi_env env, napi_callback_info info) {
  char address[WEB_HOST_BYTES];
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL) ||
      !mgn_text_of(env, value, "host", address, sizeof address))
    return NULL;
  return mgn_boolean(env, mg_web_is_loopback(address));
}

/* ---- response --------------------------------------------------------------- */

static bool web_push(napi_env env, napi_value array, uint32_t at,
                     napi_value value) {
  return value != NULL && napi_set_element(env, array, at, value) == napi_ok;
}

/* Frees the response. */
static napi_value web_response(napi_env env, mg_web_response *response) {
  napi_value made, body;
  uint32_t at = 0;

  if (napi_create_array(env, &made) != napi_ok ||
      napi_create_buffer_copy(env, response->body_bytes,
                              response->body_bytes == 0 ? "" : response->body,
                              NULL, &body) != napi_ok ||
      !web_push(env, made, at++, mgn_number(env, response->status)) ||
      !web_push(env, made, at++, mgn_boolean(env, response->is_head)) ||
      !web_push(env, made, at++, body))
    goto fail_response;
  for (size_t i = 0; i < response->header_count; i++)
    if (!web_push(env, made, at++, mgn_text(env, response->header[i].name)) ||
        !web_push(env, made, at++, mgn_text(env, response->header[i].value)))
      goto fail_response;
  mg_web_response_free(response);
  return made;

fail_response:
  mg_web_response_free(response);
  return mgn_fail_napi(env);
}

static napi_value web_refusal(napi_env env, uint32_t status, const char *text) {
  mg_web_response response;

  mg_web_refuse(status, text, &response);
  return web_response(env, &response);
}

/* webRefuse(status, text) -> response */
static napi_value web_refuse(napi_env env, napi_callback_info info) {
  char text[512];
  uint64_t status;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL) ||
      !mgn_count_of(env, v[0], &status) ||
      !mgn_text_of(env, v[1], "a reason", text, sizeof text))
    return NULL;
  return web_refusal(env, (uint32_t)status, text);
}

/* ---- request ---------------------------------------------------------------- */

/* Texts of a request: a header line for each pair of them, method and target
 * first; the bytes follow in the same block. */
typedef struct web_words {
  mg_web_header *pair; /* [owned] */
  uint32_t count;      /* of single words */
  bool has_nul;
} web_words;

/* A word of JS is a line off the wire, one character a byte. */
static bool web_word(napi_env env, napi_value words, uint32_t at, char *out,
                     size_t out_bytes, size_t *bytes) {
  napi_value word;

  return napi_get_element(env, words, at, &word) == napi_ok &&
         napi_get_value_string_latin1(env, word, out, out_bytes, bytes) ==
             napi_ok;
}

/* @return false if there is no room, or if these are no words. */
static bool web_words_read(napi_env env, napi_value array, web_words *out) {
  size_t total = 0, bytes = 0;
  uint32_t pairs, i;
  char *text;

  *out = (web_words){NULL, 0, false};
  if (napi_get_array_length(env, array, &out->count) != napi_ok ||
      out->count < WEB_LEAST_WORDS || out->count % 2 != 0)
    return false;
  for (i = 0; i < out->count; i++) {
    if (!web_word(env, array, i, NULL, 0, &bytes)) return false;
    total += bytes + 1;
  }
  pairs = out->count / 2;
  out->pair = malloc(pairs * sizeof *out->pair + total);
  if (out->pair == NULL) return false;
  text = (char *)(out->pair + pairs);
  for (i = 0; i < out->count; i++) {
    if (!web_word(env, array, i, text, total, &bytes)) return false;
    if (i % 2 == 0)
      out->pair[i / 2].name = text;
    else
      out->pair[i / 2].value = text;
    if (strlen(text) != bytes) out->has_nul = true;
    text += bytes + 1;
    total -= bytes + 1;
  }
  return true;
}

static napi_value web_job(napi_env env, mg_web_job *job) {
  napi_value made = NULL, part[4];

  if (job->kind == MG_WEB_RESPOND) {
    made = web_response(env, &job->response);
    job->response = (mg_web_response){0};
  } else if (napi_create_array(env, &made) == napi_ok) {
    part[0] = mgn_number(env, job->route);
    part[1] = mgn_boolean(env, job->is_head);
    part[2] = mgn_text(env, mg_control_name(job->command));
    part[3] = mgn_text(env, job->arguments == NULL ? "" : job->arguments);
    for (uint32_t i = 0; i < MGN_COUNT_OF(part) && made != NULL; i++)
      if (!web_push(env, made, i, part[i])) made = NULL;
  }
  mg_web_job_free(job);
  return made == NULL ? mgn_fail_napi(env) : made;
}

/* webServe(handle, [method, target, name, value, ...], Uint8Array, monotonic ms or
 * 0 for now) -> response or what is to be asked first */
static napi_value web_serve(napi_env env, napi_callback_info info) {
  mg_web_request request = {0};
  napi_value v[4], made;
  web_words words;
  mg_web_job job;
  mg_web *web;
  void *body;

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  web = web_of(env, v[0]);
  if (web == NULL || !mgn_number_of(env, v[3], &request.clock_ms)) return NULL;
  MGN_TRY(env, napi_get_buffer_info(env, v[2], &body, &request.body_bytes));
  if (!web_words_read(env, v[1], &words)) {
    free(words.pair);
    return mgn_throw_text(env, MG_ENOMEM, "the words of a request");
  }
  if (words.has_nul) {
    made = web_refusal(env, 400, "the request holds a NUL character");
  } else {
    request.method = words.pair[0].name;
    request.target = words.pair[0].value;
    request.header = words.pair + 1;
    request.header_count = words.count / 2 - 1;
    request.body = body;
    mg_web_serve(web, &request, &job);
    made = web_job(env, &job);
  }
  free(words.pair);
  return made;
}

/* webAnswered(handle, route, isHead, index of the status, text) -> response */
static napi_value web_answered(napi_env env, napi_callback_info info) {
  static const mg_status statuses[] = {
#define WEB_STATUS(name, value, code, text) MG_##name,
      MG_STATUS_MAP(WEB_STATUS)
#undef WEB_STATUS
  };
  mg_web_response response;
  mg_web_job job = {0};
  uint64_t route, status;
  char *text = NULL;
  size_t bytes;
  napi_value v[5];
  mg_web *web;

  if (!mgn_arguments(env, info, 5, v, NULL)) return NULL;
  web = web_of(env, v[0]);
  if (web == NULL || !mgn_count_of(env, v[1], &route) ||
      !mgn_bool_of(env, v[2], &job.is_head) || !mgn_count_of(env, v[3], &status))
    return NULL;
  job.route = route < MG_WEB_ROUTES ? (mg_web_route)route : MG_WEB_ROUTES;
  MGN_TRY(env, napi_get_value_string_utf8(env, v[4], NULL, 0, &bytes));
  text = malloc(bytes + 1);
  if (text == NULL) return mgn_throw_text(env, MG_ENOMEM, "an answer");
  if (napi_get_value_string_utf8(env, v[4], text, bytes + 1, &bytes) !=
      napi_ok) {
    free(text);
    return mgn_fail_napi(env);
  }
  mg_web_answered(web, &job,
                  status < MGN_COUNT_OF(statuses) ? statuses[status] : MG_EHOST,
                  text, &response);
  free(text);
  return web_response(env, &response);
}

napi_status mgn_web_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"webOpen", web_open},           {"webFindToken", web_find_token},
      {"webIsLoopback", web_is_loopback}, {"webRefuse", web_refuse},
      {"webServe", web_serve},         {"webAnswered", web_answered}};
  static const char *const paths[] = {
#define WEB_PATH(id, path, ...) path,
      MG_WEB_ROUTE_MAP(WEB_PATH)
#undef WEB_PATH
  };
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
  napi_value number;

  if (st == napi_ok)
    st = mgn_define_names(env, exports, "webPaths", paths, MGN_COUNT_OF(paths));
  if (st == napi_ok) st = napi_create_uint32(env, MG_WEB_BODY_BYTES, &number);
  return st == napi_ok
             ? napi_set_named_property(env, exports, "webBodyBytes", number)
             : st;
}
