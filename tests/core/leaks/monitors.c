/* monitors.c - loops over monitors and what lives on them. */
#include "leaks.h"

#include "memguard/reclaim.h"

static mg_config quick(void) {
  return support_config("sample_interval", "10ms", NULL);
}

static void noted(void *ctx) { (void)ctx; }

static void readings(void) {
  uint64_t used, total;
  mg_process_info info;
  mg_reading reading;

  (void)mg_clock_ns();
  (void)mg_clock_ms();
  assert_true(mg_rss_bytes() > 0);
  (void)mg_trim_malloc();
  (void)mg_malloc_bytes();
  mg_malloc_read(&used, &total);
  mg_read_process(&reading);
  (void)mg_read_process_info(&info, NULL);
}

/* What a host asks of a monitor that does not run. */
static void asked(void) {
  mg_config config = quick();
  mg_heap heap = MG_HEAP_INIT;
  mg_heap_look look = MG_HEAP_LOOK_INIT;
  mg_monitor_hooks hooks = {noted, noted, NULL};
  mg_monitor *one;
  mg_trend rss, heaps;
  mg_sample sample;
  uint32_t issues;
  mg_page page;
  char *text;

  assert_int_equal(mg_monitor_open(&one, &config, &hooks, NULL), MG_OK);
  mg_monitor_set_page(one, &page);
  mg_monitor_set_heap(one, &heap);
  mg_monitor_set_look(one, &look);
  mg_monitor_set_tick(one, noted, 50.0);
  mg_monitor_read_config(one, &config);
  (void)mg_monitor_setting(one, MG_CONFIG_SAMPLE_INTERVAL);
  for (int i = 0; i < 5; i++) mg_monitor_pass(one, true, &sample);
  mg_monitor_latest(one, &sample);
  (void)mg_monitor_pressure(one);
  (void)mg_monitor_operation(one);
  (void)mg_monitor_operations(one);
  mg_monitor_check(one);
  mg_monitor_glance(one);
  assert_true(mg_monitor_history(one, 0, &sample, 1) > 0);
  mg_monitor_trends(one, 5, &rss, &heaps);
  (void)mg_monitor_health(one, &issues);
  assert_int_equal(mg_monitor_alerts(one, 0, &text, NULL), MG_OK);
  mg_free_text(text);
  (void)mg_monitor_alert_number(one);
  mg_monitor_reset(one);
  mg_monitor_set_page(one, NULL);
  mg_monitor_set_tick(one, NULL, 50.0);
  mg_monitor_close(one);
}

static void events_and_counters(void) {
  mg_config config = support_config("max_memory_mb", "1", NULL);
  char key[MG_COUNTER_KEY_BYTES];
  mg_monitor *one;
  mg_event event;
  uint64_t value;

  assert_int_equal(mg_monitor_open(&one, &config, NULL, NULL), MG_OK);
  mg_monitor_set_interest(one, UINT32_MAX);
  assert_int_equal(mg_monitor_counter_register(one, "rows", NULL), MG_OK);
  assert_int_equal(mg_monitor_counter_add(one, "rows", 5, &value, NULL), MG_OK);
  assert_true(mg_monitor_counter_at(one, 0, key, &value));
  assert_int_equal(mg_monitor_counter_reset(one, "rows", NULL), MG_OK);
  mg_monitor_pass(one, true, NULL);
  assert_true(mg_monitor_next_event(one, &event));
  while (mg_monitor_next_event(one, &event)) continue;
  (void)mg_monitor_events_lost(one);
  mg_monitor_close(one);
}

static void running(void) {
  mg_config config = quick(), other = support_config("sample_interval", "20ms", NULL);
  mg_buffers *buffers;
  mg_monitor *one;

  assert_int_equal(mg_buffers_open(&buffers, &config, NULL), MG_OK);
  assert_int_equal(mg_monitor_open(&one, &config, NULL, NULL), MG_OK);
  mg_monitor_follow(one, buffers);
  assert_int_equal(mg_monitor_start(one, NULL), MG_OK);
  assert_true(mg_monitor_is_running(one));
  assert_true(reaches(one, 1));
  assert_int_equal(mg_monitor_configure(one, &other, NULL), MG_OK);
  mg_fork_prepare();
  mg_fork_parent();
  mg_monitor_stop(one);
  assert_int_equal(mg_monitor_start(one, NULL), MG_OK);
  mg_monitor_follow(one, NULL);
  mg_monitor_close(one);
  mg_buffers_close(buffers);
}

/* As a child would, which is what memguard of this process then takes it for. */
static void forked(void) {
  mg_fork_prepare();
  mg_fork_child();
}

static void outbox_of_monitor(void) {
  mg_outbox_options options = MG_OUTBOX_OPTIONS_INIT;
  mg_config config = support_config("max_memory_mb", "1", NULL);
  mg_monitor *one;
  mg_outbox *box;

  assert_int_equal(mg_monitor_open(&one, &config, NULL, NULL), MG_OK);
  assert_int_equal(mg_outbox_open(&box, &options, NULL), MG_OK);
  mg_monitor_pass(one, true, NULL);
  mg_outbox_begin(box, one, true, 1.0);
  mg_monitor_pass(one, true, NULL);
  mg_outbox_follow(box, one, 2.0);
  mg_outbox_close(box);
  mg_monitor_close(one);
}

static void read_heap(void *ctx, mg_heap *out) {
  (void)ctx;
  *out = (mg_heap)MG_HEAP_INIT;
}

static void detector(void) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  mg_culprit culprit = {.name = "dict", .growth = 5};
  mg_detector_finding finding = {.number = 0};
  char advice[MG_ADVICE_BYTES];
  mg_config config = quick();
  mg_detector_stats stats;
  mg_monitor *monitor;
  mg_detector *one;
  uint32_t series;

  options.read_heap = read_heap;
  assert_int_equal(mg_monitor_open(&monitor, &config, NULL, NULL), MG_OK);
  assert_int_equal(mg_detector_open(&one, monitor, &options, NULL), MG_OK);
  mg_detector_set_active(one, true);
  assert_true(mg_detector_is_active(one));
  for (uint64_t i = 0; i < 20; i++) {
    mg_detector_collected(one, i * MB, i * 1000, 1.0, true);
    assert_int_equal(mg_detector_tell(one, MG_LEAK_CONNECTIONS, i, NULL), MG_OK);
    mg_monitor_pass(monitor, false, NULL);
  }
  mg_detector_check(one);
  (void)mg_detector_has_request(one);
  (void)mg_detector_request(one, &series);
  (void)mg_detector_culprits(one, 0, &culprit, 1, NULL);
  (void)mg_detector_findings(one, &finding, 1);
  assert_false(mg_detector_finding_at(one, 77, &finding));
  (void)mg_detector_advice(&finding, MG_RUNTIME_NODE, 0, advice);
  mg_detector_read_stats(one, &stats);
  mg_detector_leave(one);
  mg_detector_close(one);
  mg_monitor_close(monitor);
}

static void act(void *ctx, mg_action action, mg_reason reason, double share,
                bool on_worker, mg_outcome *out) {
  (void)ctx;
  (void)action;
  (void)reason;
  (void)share;
  (void)on_worker;
  *out = (mg_outcome){.was_done = true, .gc_ms = 1.0, .took_ms = 1.0};
}
static uint64_t live_bytes(void *ctx) {
  (void)ctx;
  return MB;
}

static void reclaim(void) {
  mg_reclaim_hooks hooks = MG_RECLAIM_HOOKS_INIT;
  mg_config config = support_config("max_memory_mb", "1", NULL);
  mg_reclaim_stats stats;
  mg_monitor *monitor;
  mg_round round;
  mg_reclaim *one;

  hooks.actions = MG_ACTION_BIT(MG_ACTION_YOUNG) | MG_ACTION_BIT(MG_ACTION_FULL);
  hooks.act = act;
  hooks.live_bytes = live_bytes;
  hooks.grown_bytes = live_bytes;
  assert_int_equal(mg_reclaim_open(&one, &hooks, NULL), MG_OK);
  assert_int_equal(mg_monitor_open(&monitor, &config, NULL, NULL), MG_OK);
  mg_monitor_join(monitor, one);
  mg_monitor_pass(monitor, true, NULL);
  (void)mg_reclaim_is_due(one);
  (void)mg_reclaim_poll(one);
  (void)mg_reclaim_poll_for(one, MG_COLLECTIONS);
  mg_reclaim_notify(one);
  (void)mg_reclaim_budget_bytes(one);
  assert_int_equal(mg_reclaim_run(one, MG_ACTION_BIT(MG_ACTION_FULL),
                                  (mg_reason)0, 1.0, 1000.0, &round, NULL),
                   MG_OK);
  mg_reclaim_spent(one, 1.0);
  mg_reclaim_read_stats(one, &stats);
  assert_true(mg_reclaim_rounds(one, &round, 1) > 0);
  assert_true(mg_reclaim_round(one, round.number, &round));
  mg_monitor_join(monitor, NULL);
  mg_monitor_close(monitor);
  mg_reclaim_close(one);
}

static mg_status run_none(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx;
  (void)kind;
  (void)token;
  return MG_OK;
}
static void drop_none(void *ctx, mg_resource_kind kind, void *token) {
  (void)run_none(ctx, kind, token);
}

static void manager(void) {
  mg_config config = quick();
  mg_runtime runtime = MG_RUNTIME_INIT;
  mg_cleanup_report report;
  mg_manager_stats stats;
  mg_manager *one;
  mg_buffer *rows;
  uint64_t id;

  runtime.resources = (mg_resource_hooks){run_none, drop_none, NULL, NULL};
  assert_int_equal(mg_manager_open(&one, &config, &runtime, NULL), MG_OK);
  assert_int_equal(mg_monitor_start(mg_manager_monitor(one), NULL), MG_OK);
  assert_int_equal(mg_buffers_add(&rows, mg_manager_buffers(one), "rows", NULL),
                   MG_OK);
  assert_int_equal(mg_resources_add(mg_manager_resources(one), (mg_resource_kind)0,
                                    NULL, &id, NULL),
                   MG_OK);
  assert_int_equal(mg_manager_configure(one, &config, NULL), MG_OK);
  mg_manager_collected(one);
  mg_manager_read_stats(one, &stats);
  mg_manager_cleanup(one, &report);
  mg_manager_disown(one);
  mg_manager_close(one);
}

const leaks_loop leaks_monitors[] = {
    {"readings", readings},
    {"monitor, asked", asked},
    {"events and counters", events_and_counters},
    {"monitor, running", running},
    {"outbox of a monitor", outbox_of_monitor},
    {"detector", detector},
    {"reclaim", reclaim},
    {"manager", manager},
    {"fork", forked},
    {NULL, NULL},
};
