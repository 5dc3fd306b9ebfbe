/* segments.c - loops over what shows a process: segments, control, metrics, the site. */
#include "leaks.h"

#include "memguard/metrics.h"

/* One whose file is there. [owned] */
static mg_monitor *shown(void) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);

  start(monitor);
  assert_non_null(segment_awaited());
  return monitor;
}

static void written(void) {
  mg_segment_identity identity = MG_SEGMENT_IDENTITY_INIT;
  mg_segment_type type = {.name = "dict", .count = 5};
  mg_pause pause = {.wall_ns = 1000};
  mg_monitor *monitor;
  mg_error problem;
  char path[MG_SEGMENT_PATH_BYTES];

  identity.runtime = "c";
  assert_int_equal(mg_segment_describe(&identity, NULL), MG_OK);
  monitor = shown();
  mg_segment_note_gc(&pause);
  mg_segment_note_types(&type, 1, 1000);
  assert_true(mg_segment_path(path, sizeof path) > 0);
  assert_int_equal(mg_segment_directory(path, sizeof path, NULL), MG_OK);
  assert_string_equal(path, getenv("MEMGUARD_DIR"));
  (void)mg_segment_take_problem(&problem);
  mg_monitor_close(monitor);
  mg_segment_mark_exit();
}

static void read_all(mg_segment *segment) {
  static mg_segment_point points[MG_SEGMENT_SECONDS];
  static mg_segment_gc_event events[MG_SEGMENT_GC_EVENTS];
  static mg_segment_note notes[MG_SEGMENT_NOTES];
  static mg_segment_alerts alerts;
  static mg_segment_types types;
  mg_postmortem_report report;
  mg_postmortem_facts facts;
  mg_segment_view view;
  mg_pause_stats stats;

  assert_non_null(mg_segment_header_of(segment));
  assert_int_equal(mg_segment_read(segment, &view, NULL), MG_OK);
  (void)mg_segment_limit_bytes(&view);
  (void)mg_segment_native_bytes(&view);
  (void)mg_segment_last_pause_ms(&view);
  (void)mg_segment_points(segment, MG_SEGMENT_BY_SECOND, points,
                          MG_SEGMENT_SECONDS);
  (void)mg_segment_gc_events(segment, events, MG_SEGMENT_GC_EVENTS);
  (void)mg_segment_notes(segment, notes, MG_SEGMENT_NOTES);
  mg_segment_read_types(segment, &types);
  mg_segment_read_alerts(segment, &alerts);
  mg_segment_gc_stats(segment, 0, &stats);
  (void)mg_segment_is_alive(segment);
  assert_int_equal(mg_segment_facts(segment, &facts, NULL), MG_OK);
  mg_postmortem(&facts, &report);
  mg_segment_close(segment);
}

static void read_back(void) {
  mg_monitor *monitor = shown();
  mg_segment_service services[4];
  mg_segment_layout *copy;
  mg_segment_names names;
  mg_segment_reaped reaped;
  const char *directory = getenv("MEMGUARD_DIR");
  mg_segment *segment;

  assert_true(reaches(monitor, 1));
  assert_int_equal(mg_segment_list(&names, directory, NULL), MG_OK);
  assert_true(names.count > 0);
  mg_segment_names_free(&names);
  assert_int_equal(mg_segment_open(&segment, segment_awaited(), NULL), MG_OK);
  read_all(segment);
  copy = segment_copied(segment_awaited());
  assert_int_equal(mg_segment_open_bytes(&segment, copy, sizeof *copy, NULL),
                   MG_OK);
  read_all(segment);
  (void)mg_segment_check(&copy->now[0], sizeof copy->now[0]);
  free(copy);
  assert_int_equal(mg_segment_open_own(&segment, NULL), MG_OK);
  mg_segment_close(segment);
  mg_monitor_close(monitor);
  (void)mg_segment_services(directory, services, 4);
  assert_int_equal(mg_segment_reap(directory, 0.0, 0, &reaped, NULL),
                   MG_OK);
}

static mg_status serve(void *ctx, mg_control_command command,
                       const char *arguments, mg_control_reply *reply,
                       mg_error *err) {
  (void)ctx;
  (void)command;
  (void)arguments;
  return mg_control_answer(reply, "{}", 2, err);
}

static void control(void) {
  mg_control_hooks hooks = MG_CONTROL_HOOKS_INIT;
  char path[MG_SEGMENT_PATH_BYTES + 8];
  mg_control_command command;
  mg_status st = MG_ENOTFOUND;
  mg_control *one;
  mg_monitor *monitor;
  char *answer;

  hooks.run = serve;
  assert_int_equal(mg_control_find(&command, "collect", NULL), MG_OK);
  assert_int_equal(mg_control_open(&one, &hooks, NULL), MG_OK);
  monitor = shown();
  snprintf(path, sizeof path, "%s.sock", segment_awaited());
  /* It listens a moment after the segment is there. */
  for (int waited = 0; st != MG_OK && waited < LONGEST_WAIT_MS; waited += 5) {
    st = mg_control_ask(&answer, path, command, "{}", 20000.0, NULL);
    if (st != MG_OK) sleep_ms(5);
  }
  assert_int_equal(st, MG_OK);
  assert_string_equal(answer, "{}");
  mg_free_text(answer);
  mg_control_close(one);
  mg_monitor_close(monitor);
}

static bool seen(void *ctx, const mg_metrics_point *point) {
  (void)ctx;
  (void)point;
  return true;
}

static void metrics(void) {
  mg_metrics_process one = {.is_alive = true};
  mg_monitor *monitor = shown();
  mg_segment_view view;
  size_t bytes;
  char *text;

  assert_true(reaches(monitor, 1));
  assert_int_equal(mg_segment_open_own(&one.segment, NULL), MG_OK);
  assert_int_equal(mg_segment_read(one.segment, &view, NULL), MG_OK);
  one.view = &view;
  one.header = mg_segment_header_of(one.segment);
  assert_int_equal(mg_metrics_render(&text, &bytes, &one, 1, NULL, 0,
                                     MG_METRICS_PROMETHEUS, MG_METRICS_ALL, NULL),
                   MG_OK);
  mg_free_text(text);
  assert_int_equal(
      mg_metrics_each(&one, 1, NULL, 0, MG_METRICS_ALL, seen, NULL, NULL), MG_OK);
  assert_int_equal(mg_web_process(&text, &one, NULL), MG_OK);
  mg_free_text(text);
  mg_segment_close(one.segment);
  assert_int_equal(mg_metrics_render_own(&text, &bytes, MG_METRICS_PROMETHEUS,
                                         MG_METRICS_ALL, NULL),
                   MG_OK);
  mg_free_text(text);
  assert_int_equal(mg_metrics_each_own(MG_METRICS_ALL, seen, NULL, NULL), MG_OK);
  assert_int_equal(mg_metrics_each_group(MG_METRICS_ALL, seen, NULL, NULL), MG_OK);
  mg_metrics_add_connections(1);
  mg_metrics_add_connections(-1);
  mg_monitor_close(monitor);
}

static mg_web *site(bool is_fleet) {
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  mg_web *web;

  options.is_fleet = is_fleet;
  options.token = "0123456789abcdef";
  assert_int_equal(mg_web_check_token(options.token, NULL), MG_OK);
  assert_int_equal(mg_web_open(&web, &options, NULL), MG_OK);
  return web;
}

static mg_web_request request_of(const char *method, const char *target) {
  static const mg_web_header header[] = {
      {"Host", "localhost"},
      {"Authorization", "Bearer 0123456789abcdef"},
      {"Content-Type", "application/json"}};

  return (mg_web_request){.method = method, .target = target, .header = header,
                          .header_count = 3, .body = "{\"kind\":\"full\"}",
                          .body_bytes = 15, .unix_ms = 1700000000000u};
}

static void web_own(void) {
  static const char *const targets[] = {"/", "/metrics", "/api/v1/memory/stats",
                                        "/api/v1/memory/history", "/none"};
  mg_monitor *monitor = shown();
  mg_web *web = site(false);
  mg_web_response response;
  mg_web_request request;
  mg_web_job job;

  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    request = request_of("GET", targets[i]);
    mg_web_serve(web, &request, &job);
    mg_web_job_free(&job);
  }
  request = request_of("POST", "/api/v1/memory/gc");
  mg_web_serve(web, &request, &job);
  mg_web_answered(web, &job, MG_OK, "{}", &response);
  mg_web_response_free(&response);
  mg_web_job_free(&job);
  mg_web_refuse(413, "too much", &response);
  mg_web_response_free(&response);
  mg_web_close(web);
  mg_monitor_close(monitor);
}

static void web_fleet(void) {
  char token[MG_WEB_TOKEN_MAX + 1];
  mg_web_request request = request_of("GET", "/api/v1/processes");
  mg_web *web = site(true);
  mg_web_response response;
  mg_web_job job;
  size_t at;

  (void)mg_web_find_token(token, NULL, NULL);
  mg_web_plan(web, &request, &job);
  mg_web_read(web, &job, NULL, 0, NULL, 0, &response);
  mg_web_response_free(&response);
  mg_web_job_free(&job);
  request = request_of("GET", "/api/v1/memory/config");
  mg_web_plan(web, &request, &job);
  assert_false(mg_web_choose(web, &job, NULL, 0, &at, &response));
  mg_web_response_free(&response);
  mg_web_job_free(&job);
  mg_web_close(web);
}

const leaks_loop leaks_segments[] = {
    {"segment, written", written},
    {"segment, read", read_back},
    {"control", control},
    {"metrics", metrics},
    {"site of a process", web_own},
    {"site of all", web_fleet},
    {NULL, NULL},
};
