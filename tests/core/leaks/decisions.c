/* decisions.c - loops over what is pure: names, settings, rules. */
#include "leaks.h"

static void names(void) {
  mg_reading reading;

  (void)mg_status_name(MG_OK);
  (void)mg_status_code(MG_OK);
  (void)mg_status_text(MG_OK);
  assert_int_equal(mg_status_of_code("ERR_MEMGUARD_RANGE"), MG_ERANGE);
  assert_string_equal(mg_version(), MG_VERSION);
  (void)mg_alert_name(MG_ALERT_MEMORY_LEAK);
  (void)mg_alert_unit(MG_ALERT_MEMORY_LEAK);
  (void)mg_alert_title(MG_ALERT_MEMORY_LEAK);
  (void)mg_alert_doc(MG_ALERT_MEMORY_LEAK);
  (void)mg_severity_name((mg_severity)0);
  (void)mg_alert_state_name((mg_alert_state)0);
  (void)mg_culprit_name((mg_culprit_kind)0);
  (void)mg_control_name(MG_CONTROL_PING);
  (void)mg_detector_signal_name(0);
  (void)mg_request_name(MG_REQUEST_COLLECT);
  (void)mg_leak_series_unit(0);
  (void)mg_leak_tier_name(MG_LEAK_LIKELY);
  (void)mg_leak_severity_name(MG_LEAK_HIGH);
  (void)mg_event_name((mg_event_kind)0);
  (void)mg_health_name((mg_health)0);
  (void)mg_issue_name((mg_issue)1);
  (void)mg_issue_text((mg_issue)1);
  (void)mg_optimize_reason_name((mg_optimize_reason)0);
  (void)mg_strategy_name((mg_strategy)0);
  (void)mg_action_name((mg_action)0);
  (void)mg_reason_name((mg_reason)0);
  (void)mg_recycle_verdict_name((mg_recycle_verdict)0);
  (void)mg_resource_kind_name((mg_resource_kind)0);
  (void)mg_domain_name((mg_domain)0);
  (void)mg_level_name(MG_LEVEL_NORMAL);
  (void)mg_direction_name((mg_direction)0);
  mg_reading_init(&reading);
  assert_true(reading.rss_bytes == MG_ABSENT);
}

static void more_names(void) {
  (void)mg_segment_state_name((mg_segment_state)0);
  (void)mg_segment_note_name((mg_segment_note_kind)0);
  (void)mg_verdict_name((mg_verdict)0);
  (void)mg_verdict_text((mg_verdict)0);
  (void)mg_gc_profile_name((mg_gc_profile)0);
  (void)mg_trial_phase_name((mg_trial_phase)0);
  (void)mg_trial_verdict_name((mg_trial_verdict)0);
  (void)mg_freeze_step_name((mg_freeze_step)0);
  (void)mg_pool_tier_name((mg_pool_tier)0);
  (void)mg_finding_name((mg_finding_kind)0);
  (void)mg_leak_check_name(MG_LEAK_CHECK_SIMPLE);
  (void)mg_metric_row_at((mg_metric)0);
  (void)mg_metric_type_name((mg_metric_type)0);
  (void)mg_metrics_bound_ns(0);
  (void)mg_metrics_content_type(MG_METRICS_PROMETHEUS);
  (void)mg_web_status_text(404);
  assert_true(mg_web_is_loopback("127.0.0.1"));
  assert_null(mg_web_asset("no such page"));
}

static void settings(void) {
  static const char *const block[] = {"MEMGUARD_MAX_MEMORY_MB=512", NULL};
  mg_error err = MG_ERROR_INIT;
  mg_config config;
  mg_config_id id;
  mg_profile profile;

  assert_ok(mg_profile_find(&profile, "production", &err), &err);
  (void)mg_profile_name(profile);
  mg_config_init(&config, profile);
  assert_ok(mg_config_find(&id, "memory.maxMemoryMb", &err), &err);
  (void)mg_config_row_at(id);
  assert_true(mg_config_is_section("memory"));
  assert_ok(mg_config_set_number(&config, "max_memory_mb", 64.0, &err), &err);
  assert_ok(mg_config_set_bool(&config, "segment_enabled", true, &err), &err);
  assert_ok(mg_config_set_text(&config, "gc_interval", "5m", &err), &err);
  assert_ok(mg_config_set_environment(&config, block, &err), &err);
  assert_ok(mg_config_check(&config, &err), &err);
  (void)mg_config_expected(MG_CONFIG_DURATION);
  (void)mg_config_unit(MG_CONFIG_DURATION);
  assert_int_equal(mg_config_refuse("max_memory_mb", "a list", &err), MG_ETYPE);
  assert_int_equal(mg_config_set_number(&config, "nonsense", 1.0, &err), MG_EKEY);
}

static void usage_and_levels(void) {
  static const double time_ms[] = {0, 60000, 120000};
  static const uint64_t grown[] = {100 * MB, 101 * MB, 102 * MB};
  mg_level_tracker tracker = MG_LEVEL_TRACKER_INIT;
  mg_config config = support_config(NULL);
  mg_v8_view view = {.limit_bytes = 1u << 30, .node_major = 24, .headroom = 0.25,
                     .share = 1.0};
  mg_v8_advice advice;
  mg_domain domain;
  mg_reading reading;
  mg_trend trend;

  mg_reading_init(&reading);
  reading.rss_bytes = MB;
  (void)mg_usage(&reading, &config, &domain);
  assert_int_equal(mg_fall_bytes(3, 1), 2);
  (void)mg_level_update(&tracker, &config, 0.5, 1.0);
  (void)mg_sample_due_ms(0.5, 0.0, 1000.0);
  (void)mg_buffer_size_next(10, 0.5, &config);
  (void)mg_buffer_flush_at(10, 0.5, &config);
  mg_trend_of(&trend, time_ms, grown, 3);
  assert_int_equal(mg_v8_advise(&advice, &view, NULL), MG_OK);
}

static void optimizer(void) {
  mg_config config = support_config(NULL);
  mg_optimizer_view view = {.now_ms = 1.0, .usage = 0.99};
  mg_measure before = {2, 2}, after = {1, 1};
  mg_progress progress = {0, 0.0, 0, MB};
  mg_optimizer one;

  mg_optimizer_init(&one);
  (void)mg_optimizer_due(&one, &config, &view);
  (void)mg_optimizer_may(&one, (mg_optimize_reason)1, true, 1.0);
  mg_optimizer_done(&one, (mg_optimize_reason)1, true, 5, 1.0, 2.0);
  (void)mg_strategy_plan(mg_strategy_for((mg_optimize_reason)1, false),
                         &progress);
  assert_int_equal(mg_freed_bytes(&before, &after), 1);
}

static void policy(void) {
  mg_config config = support_config(NULL);
  mg_policy_view view = {.now_ms = 1.0, .usage = 0.99, .limit_bytes = 512 * MB,
                         .available = MG_COLLECTIONS};
  mg_outcome outcome = {.was_done = true, .took_ms = 1.0, .gc_ms = 1.0};
  mg_policy one;
  mg_decision decision;

  mg_policy_init(&one);
  decision = mg_policy_next(&one, &config, &view);
  mg_policy_done(&one, &config, decision.action, &outcome, 2.0);
  mg_policy_spent(&one, 1.0);
  (void)mg_policy_may_collect(&one, &config, MG_LEVEL_NORMAL, 1.0, 3.0);
  (void)mg_policy_budget_bytes(512 * MB, 0.5);
  (void)mg_policy_time_to_limit_ms(&one);
}

static void recycle(void) {
  mg_recycle_options options = MG_RECYCLE_OPTIONS_INIT;
  mg_recycle one;

  options.limit_bytes = MB;
  assert_int_equal(mg_recycle_init(&one, &options, 1.0, NULL), MG_OK);
  (void)mg_recycle_offer(&one, 2 * MB, 2.0);
}

static void tuning(void) {
  mg_trial_window window = {.seconds = 10.0, .collections = 5, .pause_ms = 1.0,
                            .gc_ms = 2.0, .peak_rss_bytes = MB, .operations = 9};
  mg_config config = support_config(NULL);
  mg_idle idle = MG_IDLE_INIT;
  mg_idle_view load = {1.0, 0.0, 1.0, true};
  mg_roll_part part = {1.0, 1.0, 100000, 1000, 10, true};
  mg_freeze_view view = {.now_ms = 1.0, .live = 200000};
  mg_gc_profile profile;
  uint32_t thresholds[3];
  mg_freeze freeze;
  mg_trial trial;
  mg_roll roll;

  assert_int_equal(mg_gc_profile_find(&profile, "steady", NULL), MG_OK);
  mg_gc_profile_thresholds(profile, thresholds);
  mg_trial_init(&trial, 7, profile);
  mg_trial_try_all(&trial);
  (void)mg_trial_next(&trial, &window, 1.0);
  (void)mg_trial_restart(&trial);
  (void)mg_trial_score(&window, &window);
  mg_roll_init(&roll);
  (void)mg_roll_next(&roll, 1.0, 100000);
  mg_roll_done(&roll, &part);
  mg_roll_owe(&roll, 2);
  (void)mg_roll_wait_ms(&roll);
  view.roll = &roll;
  mg_freeze_init(&freeze);
  mg_freeze_done(&freeze, mg_freeze_next(&freeze, &view), &view, 1.0);
  (void)mg_idle_due(&idle, &config, &load);
}

static void pool_rules(void) {
  (void)mg_pool_capacity(1000);
  (void)mg_pool_class_bytes(mg_pool_class(1000));
  (void)mg_pool_tier_of(1024);
  (void)mg_pool_trim(5);
  (void)mg_pool_cache_limit(1024, MB, MG_LEVEL_NORMAL);
  (void)mg_pool_cache_next(4, 8, 1, 0);
}

const leaks_loop leaks_decisions[] = {
    {"names", names},
    {"more names", more_names},
    {"settings", settings},
    {"usage and levels", usage_and_levels},
    {"optimizer", optimizer},
    {"policy", policy},
    {"recycle", recycle},
    {"tuning", tuning},
    {"pool rules", pool_rules},
    {NULL, NULL},
};
