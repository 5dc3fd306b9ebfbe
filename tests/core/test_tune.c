/* test_tune.c - the rows of tests/vectors/tune.json through the C API, and what
 * no row can hold. */
#include "vectors.h"

#include <math.h>
#include <string.h>

#include "memguard/tune.h"

static uint64_t count_of(const cJSON *row, const char *key) {
  const cJSON *item = item_of(row, key);

  return cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : MG_ABSENT;
}

static mg_gc_profile profile_of(const char *name) {
  mg_error err = MG_ERROR_INIT;
  mg_gc_profile profile;

  assert_ok(mg_gc_profile_find(&profile, name, &err), &err);
  return profile;
}

/* Runs `run` with each row of operation `op`; at least one is there. */
static void each_row(const char *op, void (*run)(const cJSON *row)) {
  cJSON *document, *rows = load_rows("tune.json", &document), *row;
  int count = 0;

  cJSON_ArrayForEach(row, rows) {
    if (strcmp(text_of(row, "op"), op) != 0) continue;
    run(row);
    count++;
  }
  assert_true(count > 0);
  cJSON_Delete(document);
}

/* ---- profiles ------------------------------------------------------------ */

static void thresholds_row(const cJSON *row) {
  const cJSON *item;
  uint32_t t[3];
  int count = 0;

  cJSON_ArrayForEach(item, item_of(row, "expect")) {
    mg_gc_profile_thresholds(profile_of(item->string), t);
    for (int i = 0; i < 3; i++)
      assert_int_equal(t[i], cJSON_GetArrayItem(item, i)->valueint);
    assert_string_equal(mg_gc_profile_name((mg_gc_profile)count++),
                        item->string);
  }
  assert_int_equal(count, MG_GC_PROFILES);
}

static void test_thresholds(void **state) {
  (void)state;
  each_row("thresholds", thresholds_row);
}

/* ---- trial --------------------------------------------------------------- */

static void trial_check(const cJSON *row, const mg_trial *t) {
  const cJSON *item;

  cJSON_ArrayForEach(item, item_of(row, "scores")) {
    double score = t->score[profile_of(item->string)];
    if (fabs(score - item->valuedouble) > 1e-12)
      fail_msg("%s: %s scores %.17g", text_of(row, "name"), item->string,
               score);
  }
  cJSON_ArrayForEach(item, item_of(row, "verdicts")) assert_string_equal(
      mg_trial_verdict_name(t->verdict[profile_of(item->string)]),
      item->valuestring);
}

static void trial_row(const cJSON *row) {
  const cJSON *step, *name, *expect;
  uint32_t profiles = 0;
  mg_trial t;

  cJSON_ArrayForEach(name, item_of(row, "profiles")) profiles |=
      MG_GC_PROFILE_BIT(profile_of(name->valuestring));
  mg_trial_init(&t, profiles, profile_of(text_of(row, "reference")));
  if (cJSON_IsTrue(item_of(row, "try_all"))) mg_trial_try_all(&t);
  cJSON_ArrayForEach(step, item_of(row, "steps")) {
    mg_trial_window w = {.seconds = number_of(step, "seconds"),
                         .collections = count_of(step, "collections"),
                         .pause_ms = number_of(step, "pause_ms"),
                         .gc_ms = number_of(step, "gc_ms"),
                         .peak_rss_bytes = count_of(step, "peak_rss_bytes"),
                         .operations = count_of(step, "operations")};
    mg_gc_profile next = mg_trial_next(&t, &w, number_of(step, "now_ms"));
    expect = item_of(step, "expect");
    assert_int_equal(next, t.current);
    if (strcmp(mg_gc_profile_name(next),
               cJSON_GetArrayItem(expect, 0)->valuestring) != 0 ||
        strcmp(mg_trial_phase_name(t.phase),
               cJSON_GetArrayItem(expect, 1)->valuestring) != 0)
      fail_msg("%s: %s, %s at %g", text_of(row, "name"),
               mg_gc_profile_name(next), mg_trial_phase_name(t.phase),
               number_of(step, "now_ms"));
  }
  trial_check(row, &t);
}

static void test_trial(void **state) {
  (void)state;
  each_row("trial", trial_row);
}

/* The time between rounds doubles, up to an hour. */
static void test_quiet_time(void **state) {
  const mg_trial_window good = {1, 9, 9, 5, MG_ABSENT, MG_ABSENT};
  const mg_trial_window bad = {1, 99, 99, 95, MG_ABSENT, MG_ABSENT};
  const double expected_ms[] = {60e3,  120e3,  240e3,  480e3,
                                960e3, 1920e3, 3600e3, 3600e3};
  double now_ms = 0;
  mg_trial t;

  (void)state;
  mg_trial_init(&t, MG_GC_PROFILE_BIT(MG_GC_THROUGHPUT), MG_GC_DEFAULT);
  for (size_t i = 0; i < sizeof expected_ms / sizeof *expected_ms; i++) {
    mg_trial_next(&t, &bad, now_ms);
    mg_trial_next(&t, &good, now_ms);
    assert_int_equal(t.phase, MG_TRIAL_KEPT);
    for (int n = 0; n < 3; n++) mg_trial_next(&t, &bad, now_ms);
    mg_trial_next(&t, &bad, now_ms + expected_ms[i] - 1);
    assert_int_equal(t.phase, MG_TRIAL_RESTING);
    now_ms += expected_ms[i];
    mg_trial_next(&t, &bad, now_ms);
    assert_int_equal(t.phase, MG_TRIAL_TRYING);
  }
}

static void test_restart(void **state) {
  const mg_trial_window w = {1, 9, 9, 5, MG_ABSENT, MG_ABSENT};
  mg_trial t;

  (void)state;
  mg_trial_init(&t, MG_GC_PROFILE_BIT(MG_GC_STEADY), MG_GC_AGGRESSIVE);
  assert_int_equal(mg_trial_next(&t, &w, 0), MG_GC_STEADY);
  assert_int_equal(mg_trial_restart(&t), MG_GC_AGGRESSIVE);
  assert_int_equal(t.measured, 0);
  assert_int_equal(mg_trial_next(&t, &w, 0), MG_GC_STEADY);
  assert_int_equal(mg_trial_next(&t, &w, 0), MG_GC_AGGRESSIVE);
}

/* ---- freeze and idle ----------------------------------------------------- */

static mg_level level_of(const cJSON *step) {
  const char *name = text_of(step, "level");
  mg_level level = MG_LEVEL_NORMAL;

  while (name != NULL && strcmp(mg_level_name(level), name) != 0) level++;
  return level;
}

/* @return what the row says of the laps, NULL: nothing. */
static const mg_roll *laps_of(const cJSON *step, mg_roll *out) {
  const cJSON *laps = item_of(step, "laps"), *low;

  if (laps == NULL) return NULL;
  low = cJSON_GetArrayItem(laps, 1);
  *out = (mg_roll){
      .laps = (uint32_t)cJSON_GetArrayItem(laps, 0)->valueint,
      .lap_end_low = cJSON_IsNumber(low) ? (uint64_t)low->valuedouble : MG_ABSENT,
      .lap_yield = cJSON_GetArrayItem(laps, 2)->valuedouble,
      .rich_ms = cJSON_GetArrayItem(laps, 3)->valuedouble};
  return out;
}

static void freeze_row(const cJSON *row) {
  const cJSON *step;
  mg_roll roll;
  mg_freeze f;

  mg_freeze_init(&f);
  cJSON_ArrayForEach(step, item_of(row, "steps")) {
    mg_freeze_view v = {.now_ms = number_of(step, "now_ms"),
                        .live = count_of(step, "live"),
                        .full_ms = number_of(step, "full_ms"),
                        .full_collected = count_of(step, "full_collected"),
                        .level = level_of(step),
                        .is_idle = cJSON_IsTrue(item_of(step, "is_idle")),
                        .roll = laps_of(step, &roll)};
    mg_freeze_step got = mg_freeze_next(&f, &v);
    const cJSON *took = item_of(step, "took_ms");
    if (strcmp(mg_freeze_step_name(got), text_of(step, "expect")) != 0)
      fail_msg("%s: %s at %g", text_of(row, "name"), mg_freeze_step_name(got),
               v.now_ms);
    if (item_of(step, "live_after") != NULL)
      v.live = count_of(step, "live_after");
    mg_freeze_done(&f, got, &v, took == NULL ? 0.0 : took->valuedouble);
  }
}

static void test_freeze(void **state) {
  (void)state;
  each_row("freeze", freeze_row);
}

static void roll_row(const cJSON *row) {
  const cJSON *step;
  mg_roll r;

  mg_roll_init(&r);
  cJSON_ArrayForEach(step, item_of(row, "steps")) {
    double now_ms = number_of(step, "now_ms");
    uint64_t got = mg_roll_next(&r, now_ms, count_of(step, "live"));
    if (got != count_of(step, "expect"))
      fail_msg("%s: %llu at %g", text_of(row, "name"), (unsigned long long)got,
               now_ms);
    if (item_of(step, "took_ms") != NULL)
      mg_roll_done(&r, &(mg_roll_part){
                           .now_ms = now_ms,
                           .took_ms = number_of(step, "took_ms"),
                           .live = count_of(step, "live_after"),
                           .taken = count_of(step, "taken"),
                           .collected = count_of(step, "collected"),
                           .is_lap = cJSON_IsTrue(item_of(step, "is_lap"))});
    if (item_of(step, "wait_ms") != NULL &&
        mg_roll_wait_ms(&r) != number_of(step, "wait_ms"))
      fail_msg("%s: waits %g at %g", text_of(row, "name"), mg_roll_wait_ms(&r),
               now_ms);
  }
}

static void test_roll(void **state) {
  (void)state;
  each_row("roll", roll_row);
}

/* Asked far too often, the span still covers its two seconds in the end. */
static void test_freeze_asked_often(void **state) {
  mg_freeze_view v = {.live = 500000};
  mg_freeze f;

  (void)state;
  mg_freeze_init(&f);
  for (int i = 0; i < 100; i++, v.now_ms += 10)
    assert_int_equal(mg_freeze_next(&f, &v), MG_FREEZE_NONE);
  for (int i = 0; i < 10; i++, v.now_ms += 500)
    if (mg_freeze_next(&f, &v) == MG_FREEZE_PASS) return;
  fail_msg("never frozen");
}

static void idle_row(const cJSON *row) {
  mg_config config = config_of(row);
  mg_idle idle = MG_IDLE_INIT;
  const cJSON *step;

  cJSON_ArrayForEach(step, item_of(row, "steps")) {
    const cJSON *load = cJSON_GetArrayItem(step, 1);
    mg_idle_view v = {cJSON_GetArrayItem(step, 0)->valuedouble,
                      cJSON_IsNull(load) ? (double)NAN : load->valuedouble,
                      cJSON_GetArrayItem(step, 2)->valuedouble,
                      cJSON_IsTrue(cJSON_GetArrayItem(step, 3))};
    bool due = mg_idle_due(&idle, &config, &v);
    if (due != (bool)cJSON_IsTrue(cJSON_GetArrayItem(step, 4)))
      fail_msg("%s: %d at %g", text_of(row, "name"), due, v.now_ms);
  }
}

static void test_idle(void **state) {
  (void)state;
  each_row("idle", idle_row);
}

static void test_names(void **state) {
  mg_error err = MG_ERROR_INIT;
  mg_gc_profile profile;

  (void)state;
  assert_int_equal(mg_gc_profile_find(&profile, "hasty", &err), MG_EINVAL);
  assert_string_equal(err.text,
                      "GC profile \"hasty\", allowed: default high-frequency "
                      "conservative aggressive rolling steady throughput");
  assert_string_equal(mg_gc_profile_name(MG_GC_PROFILES), "unknown");
  assert_string_equal(mg_trial_phase_name((mg_trial_phase)99), "unknown");
  assert_string_equal(mg_trial_verdict_name((mg_trial_verdict)99), "unknown");
  assert_string_equal(mg_freeze_step_name((mg_freeze_step)99), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_thresholds), cmocka_unit_test(test_trial),
      cmocka_unit_test(test_quiet_time), cmocka_unit_test(test_restart),
      cmocka_unit_test(test_freeze),
      cmocka_unit_test(test_roll),     cmocka_unit_test(test_freeze_asked_often),
      cmocka_unit_test(test_idle),       cmocka_unit_test(test_names)};
  return cmocka_run_group_tests_name("tune", tests, NULL, NULL);
}
