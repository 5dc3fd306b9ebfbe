/* test_web_read.c - what the site renders from segments: of processes that live, died,
 * stopped sampling, carry hostile names; and without memory. */
#include "segment_support.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "memguard/metrics.h"
#include "segment_parts.h"

#define NOW_MS 1700000000000u

/* ---- processes made by hand --------------------------------------------------- */

typedef struct shown {
  mg_segment_layout *layout;
  mg_segment_view view;
} shown;

static void fill(mg_segment_layout *l, uint32_t pid) {
  mg_segment_now *now = &l->now[1];

  memcpy(l->header.magic, MG_SEGMENT_MAGIC, sizeof l->header.magic);
  l->header.byte_order = MG_SEGMENT_BYTE_ORDER;
  l->header.version = MG_SEGMENT_VERSION;
  l->header.header_bytes = sizeof l->header;
  l->header.segment_bytes = sizeof *l;
  l->header.pid = pid;
  l->header.start_time = pid;
  l->header.opened_unix_ms = NOW_MS - 60000;
  snprintf(l->header.program, sizeof l->header.program, "app.py");
  snprintf(l->header.runtime, sizeof l->header.runtime, "python");
  snprintf(l->header.kind[0], sizeof l->header.kind[0], "generation0");
  l->life.heartbeat_unix_ms = NOW_MS - 500;
  l->life.next_unix_ms = NOW_MS + 500;
  l->life.marks = 6000u | UINT64_C(8050) << 16 | UINT64_C(9000) << 32;
  l->gc[0] = (mg_segment_gc){.count = 3, .wall_ns = 4500000, .max_ns = 2000000,
                             .last_ns = 1250000, .last_unix_ms = NOW_MS};
  l->gc_bucket[0][100] = 3;
  now->number = 1;
  now->unix_ms = NOW_MS - 500;
  now->usage = 0.25;
  now->domain = MG_DOMAIN_MAX_MEMORY;
  now->max_memory_bytes = 512u << 20;
  now->readings = 1;
  now->reading[0] = 128u << 20; /* rss_bytes */
}

static void seal(mg_segment_layout *l) {
  mg_segment_now *now = &l->now[1];

  now->check = mg_segment_check(now, sizeof *now);
  for (size_t i = 0; i < 3; i++) {
    mg_segment_point *point = &l->second[i + 1];
    *point = (mg_segment_point){.number = i + 1,
                                .unix_ms = NOW_MS - 3000 + 1000 * i,
                                .rss_bytes = (100 + i) << 20,
                                .heap_used_bytes = MG_ABSENT,
                                .external_bytes = MG_ABSENT,
                                .cgroup_used_bytes = MG_ABSENT,
                                .gc_count = (uint32_t)i,
                                .usage_ppm = 250000,
                                .fd_count = UINT32_MAX,
                                .thread_count = 2};
    point->check = mg_segment_check(point, sizeof *point);
  }
  l->header.crc = mg__segment_crc(&l->header, offsetof(mg_segment_header, crc));
}

static mg_metrics_process process_of(shown *s, bool is_alive) {
  mg_metrics_process one = {.view = &s->view, .is_alive = is_alive};
  mg_error err = MG_ERROR_INIT;

  seal(s->layout);
  assert_ok(mg_segment_open_bytes(&one.segment, s->layout, sizeof *s->layout, &err),
            &err);
  assert_ok(mg_segment_read(one.segment, &s->view, &err), &err);
  one.header = mg_segment_header_of(one.segment);
  return one;
}

static mg_metrics_process made(shown *s, uint32_t pid, bool is_alive) {
  s->layout = calloc(1, sizeof *s->layout);
  assert_non_null(s->layout);
  fill(s->layout, pid);
  return process_of(s, is_alive);
}

static void unmake(shown *s, mg_metrics_process *one) {
  mg_segment_close(one->segment);
  free(s->layout);
}

/* ---- asking ---------------------------------------------------------------------- */

static mg_web *site(bool is_fleet, double ready_below_percent) {
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_web *web;

  options.is_fleet = is_fleet;
  options.ready_below_percent = ready_below_percent;
  assert_ok(mg_web_open(&web, &options, &err), &err);
  return web;
}

static mg_web_job planned(mg_web *web, const char *target) {
  const mg_web_header host = {"Host", "localhost"};
  const mg_web_request request = {.method = "GET",
                                  .target = target,
                                  .header = &host,
                                  .header_count = 1,
                                  .unix_ms = NOW_MS};
  mg_web_job job;

  mg_web_plan(web, &request, &job);
  return job;
}

static mg_web_response got(mg_web *web, const char *target,
                           const mg_metrics_process *list, size_t count) {
  mg_web_job job = planned(web, target);
  mg_web_response response;

  assert_int_equal(job.kind, MG_WEB_READ);
  mg_web_read(web, &job, list, count, NULL, 0, &response);
  mg_web_job_free(&job);
  return response;
}

static void gives(mg_web *web, const char *target, const mg_metrics_process *list,
                  size_t count, uint32_t status, const char *body) {
  mg_web_response response = got(web, target, list, count);

  if (response.status != status || strcmp(response.body, body) != 0)
    fail_msg("%s: %u %s", target, response.status, response.body);
  mg_web_response_free(&response);
}

/* ---- tests -------------------------------------------------------------------------- */

static void test_one_process(void **state) {
  mg_web *web = site(false, 0);
  shown s;
  mg_metrics_process one = made(&s, 7, true);
  (void)state;

  gives(web, "/livez", &one, 1, 200, "{\"status\":\"ok\"}\n");
  gives(web, "/readyz", &one, 1, 200, "{\"status\":\"ok\"}\n");
  gives(web, "/health", &one, 1, 200,
        "{\"status\":\"ok\",\"time\":1700000000,\"services\":{\"memory\":\"ok\"}}\n");
  gives(web, "/api/v1/memory/history?since_unix_ms=1699999998000", &one, 1, 200,
        "{\"pid\":7,\"ring\":\"second\",\"fields\":[\"unix_ms\",\"rss_bytes\","
        "\"heap_used_bytes\",\"external_bytes\",\"cgroup_used_bytes\","
        "\"gc_wall_ns\",\"gc_count\",\"usage_ppm\",\"fd_count\",\"thread_count\","
        "\"level\",\"domain\"],\"points\":[[1699999999000,106954752,null,null,null,"
        "0,2,250000,null,2,\"normal\",\"none\"]]}\n");
  gives(web, "/api/v1/memory/leaks", &one, 1, 200,
        "{\"leaks\":[],\"types\":[],\"span_ms\":null}\n");
  gives(web, "/api/v1/memory/optimizations", &one, 1, 200,
        "{\"optimizations\":[]}\n");
  gives(web, "/api/v1/memory/stats?pid=8", &one, 1, 404,
        "{\"error\":\"query pid is 8, allowed: a process that GET /api/v1/processes "
        "lists\"}\n");
  unmake(&s, &one);
  mg_web_close(web);
}

static void test_stats(void **state) {
  mg_web *web = site(false, 0);
  shown s;
  mg_metrics_process one = made(&s, 7, true);
  mg_web_response response = got(web, "/api/v1/memory/stats?pid=7", &one, 1);
  cJSON *body = cJSON_Parse(response.body);
  const cJSON *memory = cJSON_GetObjectItem(body, "memory");
  const cJSON *process = cJSON_GetObjectItem(body, "process");
  char *alone;
  (void)state;

  assert_int_equal(response.status, 200);
  assert_int_equal(cJSON_GetArraySize(memory), 15);
  assert_true(cJSON_GetObjectItem(memory, "usage_percent")->valuedouble == 25);
  assert_true(cJSON_GetObjectItem(memory, "max_memory_mb")->valuedouble == 512);
  assert_true(cJSON_GetObjectItem(memory, "high_water_mark")->valuedouble == 80.5);
  assert_true(cJSON_GetObjectItem(memory, "low_water_mark")->valuedouble == 60);
  assert_true(cJSON_GetObjectItem(memory, "alert_threshold")->valuedouble == 90);
  assert_true(cJSON_GetObjectItem(memory, "gc_count")->valuedouble == 3);
  assert_true(cJSON_IsNull(cJSON_GetObjectItem(memory, "heap_alloc_bytes")));
  assert_true(cJSON_GetObjectItem(process, "last_pause_ms")->valuedouble == 1.25);
  assert_true(cJSON_GetObjectItem(process, "limit_bytes")->valuedouble == 512 << 20);
  assert_string_equal(cJSON_GetObjectItem(process, "verdict")->valuestring,
                      "running");
  assert_int_equal(mg_web_process(&alone, &one, NULL), MG_OK);
  assert_non_null(strstr(response.body, alone));
  mg_free_text(alone);
  cJSON_Delete(body);
  mg_web_response_free(&response);
  unmake(&s, &one);
  mg_web_close(web);
}

static void test_life(void **state) {
  mg_web *web = site(false, 20);
  shown s;
  mg_metrics_process one = made(&s, 7, true);
  (void)state;

  gives(web, "/readyz", &one, 1, 503,
        "{\"status\":\"memory\",\"heartbeat_unix_ms\":1699999999500,"
        "\"usage_percent\":25}\n");
  s.view.next_unix_ms = NOW_MS - 10001;
  gives(web, "/livez", &one, 1, 503,
        "{\"status\":\"stale\",\"heartbeat_unix_ms\":1699999999500,"
        "\"usage_percent\":25}\n");
  s.view.next_unix_ms = NOW_MS - 10000;
  gives(web, "/livez", &one, 1, 200, "{\"status\":\"ok\"}\n");
  s.view.sample.level = MG_LEVEL_ELEVATED;
  gives(web, "/livez", &one, 1, 200, "{\"status\":\"ok\"}\n");
  gives(web, "/health", &one, 1, 200,
        "{\"status\":\"warning\",\"time\":1700000000,"
        "\"services\":{\"memory\":\"warning\"}}\n");
  s.view.state = MG_SEGMENT_STOPPED;
  gives(web, "/livez", &one, 1, 503,
        "{\"status\":\"stopped\",\"heartbeat_unix_ms\":1699999999500,"
        "\"usage_percent\":25}\n");
  one.is_alive = false;
  gives(web, "/livez", &one, 1, 503,
        "{\"status\":\"ended\",\"heartbeat_unix_ms\":1699999999500,"
        "\"usage_percent\":25}\n");
  unmake(&s, &one);
  mg_web_close(web);
}

static void test_choice(void **state) {
  mg_web *web = site(true, 0);
  shown s[3];
  mg_metrics_process list[3] = {made(&s[0], 5, true), made(&s[1], 7, true),
                                made(&s[2], 7, false)};
  mg_web_job job = planned(web, "/api/v1/memory/config");
  mg_web_response response;
  size_t at = 9;
  (void)state;

  assert_int_equal(job.kind, MG_WEB_ASK);
  assert_false(mg_web_choose(web, &job, list, 3, &at, &response));
  assert_int_equal(response.status, 400);
  mg_web_response_free(&response);
  assert_false(mg_web_choose(web, &job, list, 0, &at, &response));
  assert_int_equal(response.status, 503);
  mg_web_response_free(&response);
  assert_true(mg_web_choose(web, &job, list + 1, 2, &at, &response));
  assert_int_equal(at, 0); /* the one that is alive */
  assert_false(mg_web_choose(web, &job, list + 2, 1, &at, &response));
  assert_int_equal(response.status, 410);
  mg_web_response_free(&response);
  job.has_pid = true;
  job.pid = 7;
  assert_true(mg_web_choose(web, &job, list, 3, &at, &response));
  assert_int_equal(at, 1);
  job.pid = 6;
  assert_false(mg_web_choose(web, &job, list, 3, &at, &response));
  assert_int_equal(response.status, 404);
  mg_web_response_free(&response);
  mg_web_job_free(&job);
  gives(web, "/livez", list, 3, 200, "{\"status\":\"ok\"}\n");
  gives(web, "/livez", NULL, 0, 200, "{\"status\":\"ok\"}\n");
  gives(web, "/health", list, 3, 200,
        "{\"status\":\"ok\",\"time\":1700000000,\"services\":{\"memory\":\"ok\"}}\n");
  gives(web, "/api/v1/processes", NULL, 0, 200,
        "{\"unix_ms\":1700000000000,\"processes\":[]}\n");
  gives(web, "/api/v1/memory/stats", NULL, 0, 503,
        "{\"error\":\"no process shows itself\"}\n");
  for (int i = 0; i < 3; i++) unmake(&s[i], &list[i]);
  mg_web_close(web);
}

static void test_hostile_names(void **state) {
  mg_web *web = site(true, 0);
  mg_web_response response;
  mg_metrics_process one;
  const cJSON *process;
  cJSON *body;
  shown s;
  (void)state;

  s.layout = calloc(1, sizeof *s.layout);
  assert_non_null(s.layout);
  fill(s.layout, 7);
  memcpy(s.layout->header.program, "<img src=x>\"\\\n\x1b\xff", 17);
  memcpy(s.layout->header.kind[0], "k\"\x01", 4);
  one = process_of(&s, true);
  response = got(web, "/api/v1/processes", &one, 1);
  body = cJSON_Parse(response.body);
  process = cJSON_GetArrayItem(cJSON_GetObjectItem(body, "processes"), 0);
  assert_string_equal(cJSON_GetObjectItem(process, "program")->valuestring,
                      "<img src=x>\"\\\n\x1b\xEF\xBF\xBD");
  assert_string_equal(cJSON_GetObjectItem(process, "gc")->child->string, "k\"\x01");
  assert_ptr_equal(memchr(response.body, '\n', response.body_bytes),
                   response.body + response.body_bytes - 1);
  cJSON_Delete(body);
  mg_web_response_free(&response);
  unmake(&s, &one);
  mg_web_close(web);
}

/* ---- without memory ------------------------------------------------------------------ */

static long left;

static void *take(void *ctx, size_t bytes) {
  (void)ctx;
  return left-- > 0 ? malloc(bytes) : NULL;
}

static void *resize(void *ctx, void *block, size_t bytes) {
  (void)ctx;
  return left-- > 0 ? realloc(block, bytes) : NULL;
}

static void give(void *ctx, void *block) {
  (void)ctx;
  free(block);
}

static void test_no_memory(void **state) {
  static const char *const targets[] = {
      "/metrics", "/health", "/api/v1/processes", "/api/v1/memory/stats",
      "/api/v1/memory/history", "/api/v1/memory/alerts", "/nothing"};
  const mg_allocator scarce = {take, resize, give, NULL};
  mg_web *web = site(false, 0);
  shown s;
  mg_metrics_process one = made(&s, 7, true);
  (void)state;

  mg_set_allocator(&scarce);
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    mg_web_response response = {.status = 503};
    long allowed;
    for (allowed = 0; response.status == 503; allowed++) {
      mg_web_job job;
      left = allowed;
      job = planned(web, targets[i]);
      if (job.kind == MG_WEB_READ)
        mg_web_read(web, &job, &one, 1, NULL, 0, &response);
      else
        response = job.response;
      if (response.status == 503)
        assert_string_equal(response.body, "{\"error\":\"out of memory\"}\n");
      assert_non_null(response.body);
      mg_web_response_free(&response);
    }
    assert_true(allowed > 1);
    assert_int_equal(response.status, i + 1 < sizeof targets / sizeof *targets
                                          ? 200
                                          : 404);
  }
  left = 1000;
  mg_set_allocator(NULL);
  unmake(&s, &one);
  mg_web_close(web);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_process),   cmocka_unit_test(test_stats),
      cmocka_unit_test(test_life),          cmocka_unit_test(test_choice),
      cmocka_unit_test(test_hostile_names), cmocka_unit_test(test_no_memory)};
  return cmocka_run_group_tests_name("web_read", tests, NULL, NULL);
}
