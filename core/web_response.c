/* web_response.c - whole responses. */
#include "memguard/web.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "web_parts.h"

#define RESPONSE_JSON "application/json; charset=utf-8"
#define RESPONSE_TEXT_BYTES 512u
/* What a page of ours may do, whoever gets it to be shown. */
#define RESPONSE_POLICY                                                     \
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src "       \
  "'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "       \
  "frame-ancestors 'none'"

static const char response_no_memory[] = "{\"error\":\"out of memory\"}\n";

void mg__web_add(mg_web_response *out, const char *name, const char *value) {
  mg_web_response_header *header = &out->header[out->header_count];

  if (out->header_count == MG_WEB_RESPONSE_HEADERS) return;
  header->name = name;
  snprintf(header->value, sizeof header->value, "%s", value);
  out->header_count++;
}

void mg__web_begin(mg_web_response *out, uint32_t status, bool is_head,
                   const char *type) {
  *out = (mg_web_response){.status = status, .is_head = is_head, .body = ""};
  mg__web_add(out, "Content-Type", type);
  mg__web_add(out, "Cache-Control", "no-store");
  mg__web_add(out, "X-Content-Type-Options", "nosniff");
  mg__web_add(out, "Content-Security-Policy", RESPONSE_POLICY);
  mg__web_add(out, "Cross-Origin-Resource-Policy", "same-origin");
  mg__web_add(out, "Referrer-Policy", "no-referrer");
}

void mg__web_own(mg_web_response *out, char *body, size_t bytes) {
  if (body == NULL) {
    mg__web_begin(out, 503, out->is_head, RESPONSE_JSON);
    out->body = response_no_memory;
    out->body_bytes = sizeof response_no_memory - 1;
    return;
  }
  out->body = out->owned = body;
  out->body_bytes = bytes;
}

void mg__web_finish(mg_web_response *out, uint32_t status, bool is_head,
                    mg__json *json) {
  size_t bytes;
  char *text;

  mg__json_line(json);
  text = mg__json_take(json, &bytes);
  mg__web_begin(out, status, is_head, RESPONSE_JSON);
  mg__web_own(out, text, bytes);
}

void mg__web_error(mg_web_response *out, uint32_t status, bool is_head,
                   const char *format, ...) {
  mg__json json = MG__JSON_INIT;
  char text[RESPONSE_TEXT_BYTES];
  va_list args;

  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  mg__json_object(&json, NULL);
  mg__json_text(&json, "error", text);
  mg__json_end(&json);
  mg__web_finish(out, status, is_head, &json);
}

void mg_web_refuse(uint32_t status, const char *text, mg_web_response *out) {
  mg__web_error(out, status, false, "%s", text);
}

void mg_web_response_free(mg_web_response *response) {
  if (response == NULL) return;
  mg__free(response->owned);
  response->owned = NULL;
  response->body = "";
  response->body_bytes = 0;
}

const char *mg_web_status_text(uint32_t status) {
  switch (status) {
    case 200: return "OK";
    case 304: return "Not Modified";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
  }
}
