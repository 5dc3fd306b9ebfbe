/* fuzz/web.c - any bytes as requests to the site, and as answers of a process.
 *
 * Input: a byte that chooses the site, then lines: method, target, headers
 * ("name:value") up to an empty line; the rest is the body. A NUL ends nothing: it
 * is cut out before, as servers do. */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "memguard.h"
#include "memguard/metrics.h"
#include "segment_parts.h"

#define TOKEN "0123456789abcdef"
#define HEADERS 128u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool is_true) {
  if (!is_true) abort();
}

/* ---- what every response keeps ----------------------------------------------- */

static const char *header_of(const mg_web_response *r, const char *name) {
  for (size_t i = 0; i < r->header_count; i++)
    if (strcmp(r->header[i].name, name) == 0) return r->header[i].value;
  return NULL;
}

static void check_response(const mg_web_response *r) {
  const char *type = header_of(r, "Content-Type");

  must(strcmp(mg_web_status_text(r->status), "Unknown") != 0);
  must(r->header_count <= MG_WEB_RESPONSE_HEADERS && type != NULL);
  must(header_of(r, "Content-Security-Policy") != NULL);
  must(strcmp(header_of(r, "X-Content-Type-Options"), "nosniff") == 0);
  for (size_t i = 0; i < r->header_count; i++)
    must(strpbrk(r->header[i].value, "\r\n") == NULL);
  if (strncmp(type, "application/json", 16) != 0) return;
  must(mg__json_check(r->body, r->body_bytes, NULL));
  if (r->status >= 400)
    must(memchr(r->body, '\n', r->body_bytes) == r->body + r->body_bytes - 1);
}

/* ---- sites and a process -------------------------------------------------------- */

static mg_web *opened(bool has_token, bool is_fleet) {
  static const char *const hosts[] = {"memguard.example.com"};
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  mg_web *web;

  if (has_token) options.token = TOKEN;
  options.is_fleet = is_fleet;
  options.hosts = hosts;
  options.host_count = 1;
  options.writes_per_minute = 1000000;
  options.ready_below_percent = 50;
  must(mg_web_open(&web, &options, NULL) == MG_OK);
  return web;
}

static mg_metrics_process shown(void) {
  static mg_segment_layout layout;
  static mg_segment_view view;
  mg_segment_header *h = &layout.header;
  mg_metrics_process one = {.view = &view, .is_alive = true};

  memcpy(h->magic, MG_SEGMENT_MAGIC, sizeof h->magic);
  h->byte_order = MG_SEGMENT_BYTE_ORDER;
  h->version = MG_SEGMENT_VERSION;
  h->header_bytes = sizeof *h;
  h->segment_bytes = sizeof layout;
  h->pid = 7;
  memcpy(h->program, "<b>\x1b\xff\"", 6);
  h->crc = mg__segment_crc(h, offsetof(mg_segment_header, crc));
  layout.now[1].number = 1;
  layout.now[1].check = mg_segment_check(&layout.now[1], sizeof layout.now[1]);
  must(mg_segment_open_bytes(&one.segment, &layout, sizeof layout, NULL) == MG_OK);
  must(mg_segment_read(one.segment, &view, NULL) == MG_OK);
  one.header = mg_segment_header_of(one.segment);
  return one;
}

/* ---- a request --------------------------------------------------------------------- */

/* Cuts a line off, which becomes a text. */
static char *next_line(char **at) {
  char *line = *at, *end = strchr(line, '\n');

  *at = end == NULL ? line + strlen(line) : end + 1;
  if (end != NULL) *end = '\0';
  return line;
}

static size_t read_headers(char **at, mg_web_header *out) {
  size_t count = 0;

  while (**at != '\0' && count < HEADERS) {
    char *line = next_line(at), *colon = strchr(line, ':');
    if (line[0] == '\0') break;
    out[count].name = line;
    out[count].value = colon == NULL ? "" : colon + 1;
    if (colon != NULL) *colon = '\0';
    count++;
  }
  return count;
}

static void check_asked(mg_web *web, const mg_web_job *job,
                        const mg_web_request *request, bool has_token) {
  bool is_write = job->command != MG_CONTROL_READ_CONFIG;
  mg_web_response response;

  must(!is_write || has_token);
  if (is_write)
    must(mg__json_check(job->arguments, strlen(job->arguments), NULL));
  mg_web_answered(web, job, (mg_status)(request->body_bytes % 19), request->body,
                  &response);
  check_response(&response);
  mg_web_response_free(&response);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  static mg_web *site[4];
  static mg_metrics_process process;
  mg_web_header header[HEADERS];
  mg_web_request request = {.header = header, .clock_ms = 1e12, .unix_ms = 1};
  mg_web_response response;
  mg_web_job job;
  int which = bytes == 0 ? 0 : data[0] % 4;
  char *text = calloc(bytes + 1, 1), *at = text;

  must(text != NULL);
  if (site[0] == NULL) {
    for (int i = 0; i < 4; i++) site[i] = opened(i % 2 == 1, i >= 2);
    process = shown();
  }
  for (size_t i = 1, n = 0; i < bytes; i++)
    if (data[i] != 0) text[n++] = (char)data[i];
  request.method = next_line(&at);
  request.target = next_line(&at);
  request.header_count = read_headers(&at, header);
  request.body = at;
  request.body_bytes = strlen(at);
  mg_web_plan(site[which], &request, &job);
  if (job.kind == MG_WEB_RESPOND) {
    check_response(&job.response);
  } else if (job.kind == MG_WEB_READ) {
    mg_web_read(site[which], &job, &process, 1, NULL, 0, &response);
    check_response(&response);
    mg_web_response_free(&response);
  } else {
    check_asked(site[which], &job, &request, which % 2 == 1);
  }
  mg_web_job_free(&job);
  free(text);
  return 0;
}
