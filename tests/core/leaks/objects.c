/* objects.c - loops over what is opened and closed, without a monitor. */
#include "leaks.h"

static void text_and_allocator(void) {
  mg_set_allocator(leaks_allocator());
  mg_free_text(NULL);
}

static void alerts(void) {
  mg_config config = support_config(NULL);
  mg_alert_leak leak = {1.0, 1.0, "heap", MG_SEVERITY_WARNING, false, false, 5.0,
                        "dict"};
  mg_alert_facts facts = {0};
  char summary[MG_ALERT_TEXT_BYTES], json[MG_ALERT_JSON_BYTES];
  mg_alerts_stats stats;
  mg_alerts *one;
  mg_alert found[4];

  assert_int_equal(mg_alerts_open(&one, NULL), MG_OK);
  (void)mg_alerts_judge(one, &config, &facts);
  assert_true(mg_alerts_leak(one, &config, &leak));
  assert_true(mg_alerts_active(one, found, 4) > 0);
  (void)mg_alerts_changes(one, 0, found, 4);
  (void)mg_alert_summary(&found[0], summary);
  (void)mg_alert_json(&found[0], json, sizeof json);
  mg_alerts_read_stats(one, &stats);
  mg_alerts_close(one);
}

static void alert_replay(void) {
  mg_config config = support_config(NULL);
  const double row[MG_ALERT_ROW] = {0};
  char *text;

  assert_int_equal(mg_alert_replay(&config, row, 1, &text, NULL), MG_OK);
  mg_free_text(text);
}

static void outbox(void) {
  mg_outbox_options options = MG_OUTBOX_OPTIONS_INIT;
  mg_alert alert = {.number = 1, .kind = MG_ALERT_CRITICAL};
  mg_outbox_stats stats;
  mg_outbox *one;
  char *text;

  options.service = "leaks";
  assert_int_equal(mg_outbox_open(&one, &options, NULL), MG_OK);
  for (int i = 0; i < 3; i++) {
    mg_outbox_put(one, &alert, 1.0);
    alert.number++;
  }
  (void)mg_outbox_due_ms(one, 2.0);
  assert_int_equal(mg_outbox_take(one, 2.0, 2.0, false, &text, NULL), MG_OK);
  assert_non_null(text);
  mg_free_text(text);
  mg_outbox_done(one, false, 0.0, 3.0);
  mg_outbox_read_stats(one, &stats);
  mg_outbox_close(one);
}

static void buffers(void) {
  mg_config config = support_config(NULL);
  mg_buffer_stats stats;
  mg_buffers *all;
  mg_buffer *one, *other;

  assert_int_equal(mg_buffers_open(&all, &config, NULL), MG_OK);
  assert_int_equal(mg_buffers_add(&one, all, "rows", NULL), MG_OK);
  assert_int_equal(mg_buffers_add(&other, all, "others", NULL), MG_OK);
  assert_int_equal(mg_buffers_count(all), 2);
  mg_buffers_update(all, 0.5, 1.0);
  mg_buffers_configure(all, &config);
  (void)mg_buffers_generation(all);
  (void)mg_buffer_should_flush(one, 5);
  (void)mg_buffer_should_flush_at(one, 5, 0.5);
  mg_buffer_flushed(one, 5);
  mg_buffer_read_stats(one, &stats);
  mg_buffers_drop(all, one);
  mg_buffers_close(all);
}

static void census(void) {
  mg_culprit culprit[4];
  mg_census_row row;
  mg_census *before, *after;

  assert_int_equal(mg_census_open(&before, 100, NULL), MG_OK);
  assert_int_equal(mg_census_open(&after, 100, NULL), MG_OK);
  mg_census_add(before, "dict", 1, 100);
  mg_census_add(after, "dict", 1000, 100000);
  (void)mg_census_size(after);
  assert_true(mg_census_at(after, 0, &row));
  assert_true(mg_census_find(after, "dict", &row));
  (void)mg_census_is_cut(after);
  assert_int_equal(mg_census_diff(before, after, (mg_culprit_kind)0,
                                  MG_CENSUS_BY_COUNT, culprit, 4),
                   1);
  mg_census_clear(after);
  assert_int_equal(mg_census_fds(after, NULL), MG_OK);
  mg_census_clear(after);
  assert_int_equal(mg_census_maps(after, NULL), MG_OK);
  mg_census_close(after);
  mg_census_close(before);
}

static void history(void) {
  mg_sample sample = {.number = 1};
  mg_history *one;

  assert_int_equal(mg_history_open(&one, 3, NULL), MG_OK);
  for (int i = 0; i < 5; i++) mg_history_add(one, &sample);
  assert_int_equal(mg_history_count(one), 3);
  (void)mg_history_dropped(one);
  assert_non_null(mg_history_at(one, 0));
  assert_int_equal(mg_history_resize(one, 50, NULL), MG_OK);
  mg_history_clear(one);
  mg_history_close(one);
}

static void leak(void) {
  mg_config config = support_config(NULL);
  mg_leak_settings settings = mg_leak_settings_of(&config);
  mg_leak_limits limits = {0};
  mg_leak_finding found[4];
  uint32_t mine;
  mg_leak *one;

  assert_int_equal(mg_leak_open(&one, &settings, NULL), MG_OK);
  assert_int_equal(mg_leak_name(one, "mine", &mine, NULL), MG_OK);
  for (int i = 0; i < 60; i++) {
    mg_leak_note(one, 0, 1e8 + 1e6 * i, 15e3 * i);
    mg_leak_note(one, mine, i, 15e3 * i);
    (void)mg_leak_judge(one, 15e3 * i, &limits, found, 4);
  }
  assert_true(mg_leak_findings(one, found, 4) > 0);
  mg_leak_explain(one, 0, 0.9);
  (void)mg_leak_wants_collection(one, 0);
  assert_string_equal(mg_leak_series_name(one, mine), "mine");
  mg_leak_close(one);
}

static void leak_replay(void) {
  mg_leak_settings settings = MG_LEAK_SETTINGS_INIT;
  mg_leak_limits limits = {0};
  mg_leak_point point[30];
  mg_leak_change change[8];
  size_t count;

  for (int i = 0; i < 30; i++)
    point[i] = (mg_leak_point){15e3 * i, 1e8 + 2e7 * i, "heap"};
  assert_int_equal(
      mg_leak_replay(&settings, &limits, point, 30, change, 8, &count, NULL),
      MG_OK);
}

static void pauses(void) {
  mg_pause pause = {.began_ns = 1, .wall_ns = 1000}, found[4];
  mg_pause_stats stats;
  mg_pauses *one;

  assert_int_equal(mg_pauses_open(&one, NULL), MG_OK);
  for (int i = 0; i < 300; i++) mg_pauses_record(one, &pause);
  mg_pauses_read(one, 0, &stats);
  assert_int_equal(mg_pauses_count(one), 300);
  (void)mg_pauses_events(one, 0, found, 4);
  (void)mg_pauses_seconds(one, 1000, 10, 0.5);
  mg_pauses_close(one);
}

static mg_status ran(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx;
  (void)kind;
  (void)token;
  return MG_OK;
}
static void dropped(void *ctx, mg_resource_kind kind, void *token) {
  (void)ran(ctx, kind, token);
}
static void not_unlinked(void *ctx, const char *path, int system_errno) {
  (void)ctx;
  (void)path;
  (void)system_errno;
}

static void resources(void) {
  static const mg_resource_hooks hooks = {ran, dropped, not_unlinked, NULL};
  mg_cleanup_report report;
  mg_resources *one;
  uint64_t id[4];
  char path[400];

  assert_int_equal(mg_resources_open(&one, &hooks, NULL), MG_OK);
  for (int i = 0; i < 3; i++)
    assert_int_equal(mg_resources_add(one, (mg_resource_kind)0, path, &id[i], NULL),
                     MG_OK);
  assert_int_equal(mg_resources_add_file(one, "/dev/shm/no such", &id[3], NULL),
                   MG_OK);
  (void)mg_resources_count(one, (mg_resource_kind)0);
  assert_true(mg_resources_file_at(one, 0, path, sizeof path) > 0);
  assert_int_equal(mg_resources_run(one, id[0]), MG_OK);
  assert_true(mg_resources_drop(one, id[1]));
  mg_resources_cleanup(one, &report);
  assert_int_equal(mg_resources_add(one, (mg_resource_kind)0, path, &id[0], NULL),
                   MG_OK);
  mg_resources_disown(one);
  mg_resources_close(one);
}

const leaks_loop leaks_objects[] = {
    {"text and allocator", text_and_allocator},
    {"alerts", alerts},
    {"alert replay", alert_replay},
    {"outbox", outbox},
    {"buffers", buffers},
    {"census", census},
    {"history", history},
    {"leak", leak},
    {"leak replay", leak_replay},
    {"pauses", pauses},
    {"resources", resources},
    {NULL, NULL},
};
