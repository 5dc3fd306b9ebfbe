/* test_web.c - requests that the site answers by itself, and who may ask. */
#include "vectors.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_HEADERS 200

/* ---- rows of web.json ------------------------------------------------------------ */

static const char *row_name;

static void check_text(const char *what, const char *got, const char *expected) {
  if (strcmp(got, expected) != 0)
    fail_msg("%s: %s is \"%s\", expected \"%s\"", row_name, what, got, expected);
}

/* `text` and, if `more` is given, a character as often as it says. [owned] */
static char *text_with(const char *text, const cJSON *more) {
  size_t length = text == NULL ? 0 : strlen(text);
  size_t count = more == NULL
                     ? 0
                     : (size_t)cJSON_GetArrayItem(more, 1)->valuedouble;
  char *made = malloc(length + count + 1);

  assert_non_null(made);
  if (length > 0) memcpy(made, text, length);
  if (count > 0)
    memset(made + length, cJSON_GetArrayItem(more, 0)->valuestring[0], count);
  made[length + count] = '\0';
  return made;
}

static mg_web *site_of(const cJSON *row) {
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  const cJSON *given = item_of(row, "options"), *host;
  const char *hosts[MG_WEB_HOSTS];
  mg_error err = MG_ERROR_INIT;
  mg_web *web;

  options.hosts = hosts;
  options.token = given == NULL ? NULL : text_of(given, "token");
  options.read_needs_token =
      given != NULL && cJSON_IsTrue(item_of(given, "read_needs_token"));
  if (given != NULL && item_of(given, "writes_per_minute") != NULL)
    options.writes_per_minute =
        (uint32_t)number_of(given, "writes_per_minute");
  if (given != NULL)
    cJSON_ArrayForEach(host, item_of(given, "allowed_hosts"))
      hosts[options.host_count++] = host->valuestring;
  assert_ok(mg_web_open(&web, &options, &err), &err);
  return web;
}

static size_t read_headers(const cJSON *request, mg_web_header *out) {
  const cJSON *list = item_of(request, "headers"), *pair;
  size_t count = 0;

  if (list == NULL) {
    out[0] = (mg_web_header){"Host", "localhost"};
    return 1;
  }
  cJSON_ArrayForEach(pair, list) {
    assert_true(count < MOST_HEADERS);
    out[count++] = (mg_web_header){cJSON_GetArrayItem(pair, 0)->valuestring,
                                   cJSON_GetArrayItem(pair, 1)->valuestring};
  }
  return count;
}

static void check_error(const cJSON *texts, const mg_web_response *response) {
  cJSON *body = cJSON_ParseWithLength(response->body, response->body_bytes);
  const char *newline = memchr(response->body, '\n', response->body_bytes);
  const cJSON *text;

  assert_ptr_equal(newline, response->body + response->body_bytes - 1);
  if (body == NULL || text_of(body, "error") == NULL)
    fail_msg("%s: no error in %s", row_name, response->body);
  cJSON_ArrayForEach(text, texts)
    if (strstr(text_of(body, "error"), text->valuestring) == NULL)
      fail_msg("%s: \"%s\" is not in \"%s\"", row_name, text->valuestring,
               text_of(body, "error"));
  cJSON_Delete(body);
}

static void check_header(const mg_web_response *response, const char *name,
                         const char *value) {
  for (size_t i = 0; i < response->header_count; i++)
    if (strcmp(response->header[i].name, name) == 0) {
      check_text(name, response->header[i].value, value);
      return;
    }
  fail_msg("%s: no header %s", row_name, name);
}

static void check_response(const cJSON *row, const mg_web_response *response) {
  const cJSON *header;

  if (response->status != (uint32_t)number_of(row, "status"))
    fail_msg("%s: %u %s", row_name, response->status, response->body);
  assert_string_not_equal(mg_web_status_text(response->status), "Unknown");
  assert_int_equal(response->is_head,
                   strcmp(text_of(item_of(row, "request"), "method"), "HEAD") == 0);
  cJSON_ArrayForEach(header, item_of(row, "headers"))
    check_header(response, header->string, header->valuestring);
  if (text_of(row, "body") != NULL) {
    check_text("body", response->body, text_of(row, "body"));
    assert_int_equal(response->body_bytes, strlen(text_of(row, "body")));
  }
  if (response->status >= 400) check_error(item_of(row, "error"), response);
}

static mg_status status_of(const char *name) {
#define TEST_STATUS(id, value, code, text) \
  if (strcmp(name, #id) == 0) return MG_##id;
  MG_STATUS_MAP(TEST_STATUS)
#undef TEST_STATUS
  fail_msg("no status %s", name);
  return MG_EINVAL;
}

static void check_job(mg_web *web, const cJSON *row, const mg_web_job *job) {
  const cJSON *ask = item_of(row, "ask"), *answer = item_of(row, "answer");
  const char *arguments;
  mg_web_response response;

  if (ask == NULL) {
    if (job->kind != MG_WEB_RESPOND) fail_msg("%s: no response", row_name);
    check_response(row, &job->response);
    return;
  }
  if (job->kind != MG_WEB_ASK)
    fail_msg("%s: %s", row_name, job->response.body);
  check_text("command", mg_control_name(job->command),
             cJSON_GetArrayItem(ask, 0)->valuestring);
  arguments = cJSON_GetStringValue(cJSON_GetArrayItem(ask, 1));
  if (arguments != NULL)
    check_text("arguments", job->arguments == NULL ? "" : job->arguments,
               arguments);
  if (answer == NULL) return;
  mg_web_answered(web, job, status_of(cJSON_GetArrayItem(answer, 0)->valuestring),
                  cJSON_GetArrayItem(answer, 1)->valuestring, &response);
  check_response(row, &response);
  mg_web_response_free(&response);
}

static void run_row(const cJSON *row) {
  const cJSON *given = item_of(row, "request");
  char *target = text_with(text_of(given, "target"), item_of(given, "target_more"));
  char *body = text_with(text_of(given, "body"), item_of(given, "body_more"));
  mg_web_header header[MOST_HEADERS];
  mg_web_request request = {.method = text_of(given, "method"),
                            .target = target,
                            .header = header,
                            .header_count = read_headers(given, header),
                            .body = body,
                            .body_bytes = strlen(body)};
  int times = item_of(given, "times") ? (int)number_of(given, "times") : 1;
  double step_ms = item_of(given, "clock_step_ms") != NULL
                       ? number_of(given, "clock_step_ms")
                       : 0;
  mg_web *web = site_of(row);
  mg_web_job job;

  row_name = text_of(row, "name");
  if (item_of(given, "clock_ms") != NULL)
    request.clock_ms = number_of(given, "clock_ms");
  for (int i = 1; i < times; i++) {
    mg_web_plan(web, &request, &job);
    mg_web_job_free(&job);
    request.clock_ms += step_ms;
  }
  mg_web_plan(web, &request, &job);
  check_job(web, row, &job);
  mg_web_job_free(&job);
  mg_web_job_free(&job);
  mg_web_close(web);
  free(target);
  free(body);
}

static void test_rows(void **state) {
  cJSON *document, *rows = load_rows("web.json", &document), *row;
  (void)state;

  assert_true(cJSON_GetArraySize(rows) > 100);
  cJSON_ArrayForEach(row, rows) run_row(row);
  cJSON_Delete(document);
}

/* ---- what JSON cannot say ----------------------------------------------------------- */

static void test_nul_in_body(void **state) {
  const mg_web_header header[] = {{"Host", "localhost"},
                                  {"Authorization", "Bearer 0123456789abcdef"},
                                  {"X-Memguard", "1"}};
  mg_web_request request = {.method = "PUT",
                            .target = "/api/v1/memory/config",
                            .header = header,
                            .header_count = 3,
                            .body = "{}\0",
                            .body_bytes = 3};
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  mg_web_job job;
  mg_web *web;
  (void)state;

  options.token = "0123456789abcdef";
  assert_int_equal(mg_web_open(&web, &options, NULL), MG_OK);
  mg_web_plan(web, &request, &job);
  assert_int_equal(job.response.status, 400);
  assert_non_null(strstr(job.response.body, "byte 2"));
  mg_web_job_free(&job);
  request.body_bytes = 2;
  mg_web_plan(web, &request, &job);
  assert_int_equal(job.kind, MG_WEB_ASK);
  assert_string_equal(job.arguments, "{}");
  mg_web_job_free(&job);
  mg_web_close(web);
}

static void test_refuse(void **state) {
  mg_web_response response;
  (void)state;

  mg_web_refuse(408, "too slow \"\n\x01", &response);
  assert_int_equal(response.status, 408);
  assert_string_equal(response.body,
                      "{\"error\":\"too slow \\\"\\n\\u0001\"}\n");
  assert_false(response.is_head);
  mg_web_response_free(&response);
  mg_web_response_free(&response);
  mg_web_response_free(NULL);
  mg_web_job_free(NULL);
  mg_web_close(NULL);
}

/* ---- open ------------------------------------------------------------------------------ */

static void refuses(const mg_web_options *options, mg_status expected,
                    const char *word) {
  mg_error err = MG_ERROR_INIT;
  mg_web *web = (mg_web *)1;

  assert_int_equal(mg_web_open(&web, options, &err), expected);
  assert_null(web);
  if (strstr(err.text, word) == NULL)
    fail_msg("\"%s\" is not in \"%s\"", word, err.text);
}

static void test_options(void **state) {
  static const char *const bad[] = {"a:80", "", "a b", "[::1", "x\n", "::1"};
  const mg_web_options good = MG_WEB_OPTIONS_INIT;
  mg_web_options options = good;
  (void)state;

  options.struct_bytes--;
  refuses(&options, MG_EINVAL, "header and library");
  options = good;
  options.read_needs_token = true;
  refuses(&options, MG_ECONFLICT, "read_needs_token");
  options = good;
  options.token = "0123456789abcde";
  refuses(&options, MG_EINVAL, "15 characters, allowed: 16 to 256");
  options.token = "0123456789 abcdef";
  refuses(&options, MG_EINVAL, "character 11");
  options = good;
  options.writes_per_minute = 0;
  refuses(&options, MG_ERANGE, "writes_per_minute is 0");
  options = good;
  options.ready_below_percent = 101;
  refuses(&options, MG_ERANGE, "ready_below_percent is 101");
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    options = good;
    options.hosts = &bad[i];
    options.host_count = 1;
    refuses(&options, MG_EINVAL, "host is");
  }
  options.host_count = MG_WEB_HOSTS + 1;
  refuses(&options, MG_ERANGE, "hosts are 17");
}

static void test_loopback(void **state) {
  static const char *const yes[] = {"localhost", "LOCALHOST", "127.0.0.1",
                                    "127.255.255.254", "::1"};
  static const char *const no[] = {"", "0.0.0.0", "::", "10.0.0.1", "128.0.0.1",
                                   "127.0.0.256", "127.0.0", "127.0.0.1.example.com",
                                   "127.0.0.1 ", "example.com", "[::1]", "127..0.1",
                                   "1270.0.0.1", "localhost.example.com"};
  (void)state;

  for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
    assert_true(mg_web_is_loopback(yes[i]));
  for (size_t i = 0; i < sizeof no / sizeof *no; i++)
    if (mg_web_is_loopback(no[i])) fail_msg("%s is loopback", no[i]);
}

/* ---- token -------------------------------------------------------------------------- */

static void write_token(const char *path, const char *text) {
  int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

  assert_true(fd >= 0);
  assert_int_equal(write(fd, text, strlen(text)), strlen(text));
  close(fd);
}

static void test_token_file(void **state) {
  char path[] = "/tmp/memguard-token-XXXXXX", token[MG_WEB_TOKEN_MAX + 1];
  int fd = mkstemp(path);
  mg_error err = MG_ERROR_INIT;
  (void)state;

  assert_true(fd >= 0);
  close(fd);
  write_token(path, "file-token-of-the-test\r\nsecond line\n");
  assert_ok(mg_web_find_token(token, path, &err), &err);
  assert_string_equal(token, "file-token-of-the-test");
  setenv("MEMGUARD_WEB_TOKEN_FILE", path, 1);
  assert_ok(mg_web_find_token(token, NULL, &err), &err);
  assert_string_equal(token, "file-token-of-the-test");
  setenv("MEMGUARD_WEB_TOKEN", "token-of-the-environment", 1);
  assert_ok(mg_web_find_token(token, NULL, &err), &err);
  assert_string_equal(token, "token-of-the-environment");
  assert_ok(mg_web_find_token(token, path, &err), &err);
  assert_string_equal(token, "file-token-of-the-test");
  write_token(path, "a secret\n");
  assert_int_equal(mg_web_find_token(token, path, &err), MG_EINVAL);
  assert_non_null(strstr(err.text, path));
  assert_null(strstr(err.text, "secret"));
  assert_string_equal(token, "");
  write_token(path, "");
  assert_int_equal(mg_web_find_token(token, path, &err), MG_EINVAL);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mg_web_find_token(token, path, &err), MG_ESYS);
  assert_int_equal(mg_web_find_token(token, "/dev/null", &err), MG_ESYS);
  unsetenv("MEMGUARD_WEB_TOKEN_FILE");
  unsetenv("MEMGUARD_WEB_TOKEN");
  assert_ok(mg_web_find_token(token, NULL, &err), &err);
  assert_string_equal(token, "");
}

static void test_token_of_257(void **state) {
  char path[] = "/tmp/memguard-token-XXXXXX", token[MG_WEB_TOKEN_MAX + 1];
  char text[MG_WEB_TOKEN_MAX + 2];
  int fd = mkstemp(path);
  (void)state;

  assert_true(fd >= 0);
  close(fd);
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  write_token(path, text);
  assert_int_equal(mg_web_find_token(token, path, NULL), MG_EINVAL);
  text[MG_WEB_TOKEN_MAX] = '\0';
  write_token(path, text);
  assert_int_equal(mg_web_find_token(token, path, NULL), MG_OK);
  assert_string_equal(token, text);
  assert_int_equal(unlink(path), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows),       cmocka_unit_test(test_nul_in_body),
      cmocka_unit_test(test_refuse),     cmocka_unit_test(test_options),
      cmocka_unit_test(test_loopback),   cmocka_unit_test(test_token_file),
      cmocka_unit_test(test_token_of_257)};
  return cmocka_run_group_tests_name("web", tests, NULL, NULL);
}
