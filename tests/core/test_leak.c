/* test_leak.c - the rows of tests/vectors/leak.json through the C API, and what a
 * detector does with bad input, without memory and in a long life. */
#include "vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memguard/leak.h"

#define POINTS_MAX 8192
#define CHANGES_MAX 64
#define MIB 1048576.0
#define TICK_MS 15000.0 /* the shortest window divided by 16 */

/* ---- rows ------------------------------------------------------------------ */

typedef struct recorded {
  mg_leak_point point[POINTS_MAX];
  int order[POINTS_MAX]; /* of the series */
  size_t count;
} recorded;

static double optional_of(const cJSON *item, const char *key) {
  const cJSON *found = item_of(item, key);

  return found == NULL ? 0.0 : found->valuedouble;
}

/* i * 7919 mod 1009 takes the place of chance: the same in all languages. */
static double ripple_of(const cJSON *series, long i) {
  const cJSON *tooth = item_of(series, "tooth");
  double value = (double)(i * 7919 % 1009) * optional_of(series, "noise");

  if (tooth == NULL) return value;
  return value + (double)(i % (long)cJSON_GetArrayItem(tooth, 0)->valuedouble) *
                     cJSON_GetArrayItem(tooth, 1)->valuedouble;
}

static void record_series(recorded *out, const cJSON *series, int order) {
  double value = number_of(series, "start"), now_ms;
  const cJSON *piece;
  long i = 0;

  cJSON_ArrayForEach(piece, item_of(series, "pieces")) {
    const cJSON *step = cJSON_GetArrayItem(piece, 1);
    long until = i + (long)cJSON_GetArrayItem(piece, 0)->valuedouble;
    for (; i < until; i++) {
      if (cJSON_IsNull(step)) continue;
      assert_true(out->count < POINTS_MAX);
      now_ms = (double)i * number_of(series, "every_ms");
      if (!cJSON_IsString(step)) value += step->valuedouble;
      out->order[out->count] = order;
      out->point[out->count++] = (mg_leak_point){
          now_ms,
          cJSON_IsString(step) ? (double)NAN : value + ripple_of(series, i),
          text_of(series, "name")};
    }
  }
}

/* By time, then by the order of the series; insertion keeps it stable. */
static void sort_recorded(recorded *r) {
  for (size_t i = 1; i < r->count; i++)
    for (size_t k = i; k > 0 && r->point[k].now_ms < r->point[k - 1].now_ms; k--) {
      mg_leak_point moved = r->point[k];
      r->point[k] = r->point[k - 1];
      r->point[k - 1] = moved;
    }
}

static void check_change(const char *row, const cJSON *expected,
                         const mg_leak_change *got) {
  const mg_leak_finding *f = &got->finding;

  if (got->now_ms != cJSON_GetArrayItem(expected, 0)->valuedouble ||
      strcmp(f->name, cJSON_GetArrayItem(expected, 1)->valuestring) != 0 ||
      strcmp(mg_leak_tier_name(f->tier),
             cJSON_GetArrayItem(expected, 2)->valuestring) != 0 ||
      f->is_critical != (cJSON_IsTrue(cJSON_GetArrayItem(expected, 3)) != 0) ||
      strcmp(mg_leak_severity_name(f->severity),
             cJSON_GetArrayItem(expected, 4)->valuestring) != 0)
    fail_msg("%s: at %.0f ms %s %s %d %s", row, got->now_ms, f->name,
             mg_leak_tier_name(f->tier), f->is_critical,
             mg_leak_severity_name(f->severity));
}

static mg_leak_limits limits_of(const cJSON *row) {
  const cJSON *item = item_of(row, "limits");

  return (mg_leak_limits){
      optional_of(item, "memory_bytes"), optional_of(item, "memory_used_bytes"),
      optional_of(item, "heap_bytes"),   optional_of(item, "fds"),
      optional_of(item, "threads"),      optional_of(item, "mappings")};
}

static void run_row(const cJSON *row) {
  static mg_leak_change change[CHANGES_MAX];
  mg_config config = config_of(row);
  mg_leak_settings settings = mg_leak_settings_of(&config);
  mg_leak_limits limits = limits_of(row);
  const cJSON *expect = item_of(row, "expect"), *series;
  mg_error err = MG_ERROR_INIT;
  recorded *r = calloc(1, sizeof *r);
  size_t count, wanted = (size_t)cJSON_GetArraySize(expect);
  int order = 0;

  assert_non_null(r);
  cJSON_ArrayForEach(series, item_of(row, "series"))
    record_series(r, series, order++);
  sort_recorded(r);
  assert_ok(mg_leak_replay(&settings, &limits, r->point, r->count, change,
                           CHANGES_MAX, &count, &err),
            &err);
  for (size_t i = 0; i < count && i < wanted; i++)
    check_change(text_of(row, "name"), cJSON_GetArrayItem(expect, (int)i),
                 &change[i]);
  if (count != wanted)
    fail_msg("%s: %zu changes, not %zu", text_of(row, "name"), count, wanted);
  free(r);
}

static void test_rows(void **state) {
  cJSON *document, *rows = load_rows("leak.json", &document), *row;

  (void)state;
  assert_true(cJSON_GetArraySize(rows) > 20);
  cJSON_ArrayForEach(row, rows) run_row(row);
  cJSON_Delete(document);
}

/* ---- a detector by hand ---------------------------------------------------- */

static const mg_leak_limits two_gib = {.memory_bytes = 2048 * MIB};

static mg_leak *open_detector(void) {
  mg_leak_settings settings = MG_LEAK_SETTINGS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_leak *leak;

  assert_ok(mg_leak_open(&leak, &settings, &err), &err);
  return leak;
}

/* Ticks of growth by `step`. @return the highest tier told. */
static mg_leak_tier grow(mg_leak *leak, uint32_t series, int from, int to,
                         double start, double step) {
  mg_leak_finding found[MG_LEAK_SIGNALS];
  mg_leak_tier highest = MG_LEAK_NONE;

  for (int i = from; i < to; i++) {
    size_t count;
    mg_leak_note(leak, series, start + step * (i - from), i * TICK_MS);
    count = mg_leak_judge(leak, i * TICK_MS, &two_gib, found, MG_LEAK_SIGNALS);
    for (size_t k = 0; k < count; k++)
      if (found[k].tier > highest) highest = found[k].tier;
  }
  return highest;
}

static void test_finding(void **state) {
  mg_leak *leak = open_detector();
  mg_leak_finding found[4];

  (void)state;
  /* 5 MB each 15 s, from 200 MB on: 20 MB a minute. */
  assert_int_equal(grow(leak, MG_LEAK_HEAP, 0, 40, 200 * MIB, 5 * MIB),
                   MG_LEAK_LIKELY);
  assert_int_equal(mg_leak_findings(leak, found, 4), 1);
  assert_string_equal(found[0].name, "heap");
  assert_int_equal(found[0].series, MG_LEAK_HEAP);
  assert_int_equal(found[0].severity, MG_LEAK_HIGH);
  assert_true(found[0].is_critical);
  assert_true(fabs(found[0].growth_per_minute - 20 * MIB) < 1.0);
  assert_true(found[0].latest == 395 * MIB);
  assert_true(found[0].since_ms >= 2 * 60000.0 && found[0].since_ms < 5 * 60000.0);
  /* From 395 to 2048 MB, as nobody told what else is in use. */
  assert_true(fabs(found[0].to_limit_ms - 82.65 * 60000.0) < 100.0);
  assert_true(found[0].base + found[0].growth <= found[0].latest);
  assert_int_equal(mg_leak_findings(leak, found, 0), 0);
  mg_leak_close(leak);
}

static void test_explained(void **state) {
  mg_leak *leak = open_detector();

  (void)state;
  mg_leak_explain(leak, MG_LEAK_HEAP, 0.9); /* nothing is suspected: no effect */
  mg_leak_explain(leak, 9999, 0.9);
  assert_int_equal(grow(leak, MG_LEAK_HEAP, 0, 40, 200 * MIB, 5 * MIB),
                   MG_LEAK_LIKELY);
  mg_leak_explain(leak, MG_LEAK_HEAP, 0.4);
  assert_int_equal(grow(leak, MG_LEAK_HEAP, 40, 46, 400 * MIB, 5 * MIB),
                   MG_LEAK_NONE);
  mg_leak_explain(leak, MG_LEAK_HEAP, 0.6);
  assert_int_equal(grow(leak, MG_LEAK_HEAP, 46, 54, 430 * MIB, 5 * MIB),
                   MG_LEAK_CONFIRMED);
  mg_leak_close(leak);
}

static void test_changes_without_room_are_told_later(void **state) {
  mg_leak *leak = open_detector();
  mg_leak_finding found[2];

  (void)state;
  for (int i = 0; i < 40; i++) {
    mg_leak_note(leak, MG_LEAK_HEAP, (200 + 5 * i) * MIB, i * TICK_MS);
    assert_int_equal(mg_leak_judge(leak, i * TICK_MS, &two_gib, found, 0), 0);
  }
  assert_int_equal(mg_leak_judge(leak, 40 * TICK_MS, &two_gib, found, 2), 1);
  assert_int_equal(found[0].tier, MG_LEAK_LIKELY);
  assert_int_equal(found[0].previous, MG_LEAK_NONE);
  assert_int_equal(mg_leak_judge(leak, 40 * TICK_MS, &two_gib, found, 2), 0);
  mg_leak_close(leak);
}

/* Native memory grows by 5 MB a tick. @return the highest tier told of it. */
static mg_leak_tier grow_beside(double rss_step) {
  mg_leak *leak = open_detector();
  mg_leak_finding found[MG_LEAK_SIGNALS];
  mg_leak_tier highest = MG_LEAK_NONE;

  for (int i = 0; i < 60; i++) {
    size_t count;
    mg_leak_note(leak, MG_LEAK_RSS, 500 * MIB + rss_step * i, i * TICK_MS);
    mg_leak_note(leak, MG_LEAK_NATIVE, (20 + 5 * i) * MIB, i * TICK_MS);
    count = mg_leak_judge(leak, i * TICK_MS, &two_gib, found, MG_LEAK_SIGNALS);
    for (size_t k = 0; k < count; k++)
      if (found[k].series == MG_LEAK_NATIVE && found[k].tier > highest)
        highest = found[k].tier;
  }
  mg_leak_close(leak);
  return highest;
}

/* It is what one number leaves of another: a heap that shrinks inside its pages
 * makes it grow, and the process does not. */
static void test_native_memory_needs_a_witness(void **state) {
  (void)state;
  assert_int_equal(grow_beside(0.0), MG_LEAK_SUSPECT);
  assert_int_equal(grow_beside(1 * MIB), MG_LEAK_SUSPECT);
  assert_int_equal(grow_beside(4 * MIB), MG_LEAK_LIKELY);
}

static void test_mappings_are_never_likely(void **state) {
  mg_leak *leak = open_detector();

  (void)state;
  assert_int_equal(grow(leak, MG_LEAK_MAPPINGS, 0, 200, 500, 50),
                   MG_LEAK_SUSPECT);
  mg_leak_explain(leak, MG_LEAK_MAPPINGS, 1.0);
  assert_int_equal(grow(leak, MG_LEAK_MAPPINGS, 200, 400, 10500, 50),
                   MG_LEAK_NONE); /* nothing new is told */
  mg_leak_close(leak);
}

/* The heap is judged without its code, its limit is one for both. */
static void test_code_takes_room_of_the_heap(void **state) {
  static const mg_leak_limits limits = {.memory_bytes = 2048 * MIB,
                                        .heap_bytes = 1024 * MIB};
  mg_leak *leak = open_detector();
  mg_leak_finding found[4];

  (void)state;
  for (int i = 0; i < 40; i++) {
    double code = i == 0 ? 0.0 : 100 * MIB;
    mg_leak_note(leak, MG_LEAK_CODE, code, i * TICK_MS);
    mg_leak_note(leak, MG_LEAK_HEAP, (200 + 5 * i) * MIB + code, i * TICK_MS);
    mg_leak_judge(leak, i * TICK_MS, &limits, found, 4);
  }
  assert_int_equal(mg_leak_findings(leak, found, 4), 1);
  assert_string_equal(found[0].name, "heap");
  assert_true(fabs(found[0].growth_per_minute - 20 * MIB) < 1.0);
  assert_true(found[0].latest == 395 * MIB);
  /* From 495 to 1024 MB. */
  assert_true(fabs(found[0].to_limit_ms - 26.45 * 60000.0) < 100.0);
  mg_leak_close(leak);
}

/* From an alarm on collections may be rare: what goes on is not withdrawn. */
static void test_an_alarm_stays_while_values_are_rare(void **state) {
  mg_leak *leak = open_detector();
  mg_leak_finding found[4];

  (void)state;
  (void)grow(leak, MG_LEAK_HEAP, 0, 40, 200 * MIB, 5 * MIB);
  mg_leak_explain(leak, MG_LEAK_HEAP, 0.6);
  assert_int_equal(grow(leak, MG_LEAK_HEAP, 40, 54, 400 * MIB, 5 * MIB),
                   MG_LEAK_CONFIRMED);
  for (int i = 54; i < 300; i++) {
    if (i % 12 == 0)
      mg_leak_note(leak, MG_LEAK_HEAP, (200 + 5 * i) * MIB, i * TICK_MS);
    assert_int_equal(mg_leak_judge(leak, i * TICK_MS, &two_gib, found, 4), 0);
  }
  assert_int_equal(mg_leak_findings(leak, found, 4), 1);
  assert_int_equal(found[0].tier, MG_LEAK_CONFIRMED);
  mg_leak_close(leak);
}

static void test_wants_a_fresh_value(void **state) {
  mg_leak *leak = open_detector();

  (void)state;
  assert_false(mg_leak_wants_collection(leak, MG_LEAK_HEAP));
  (void)grow(leak, MG_LEAK_RSS, 0, 40, 200 * MIB, 0.0);
  assert_false(mg_leak_wants_collection(leak, MG_LEAK_HEAP));
  /* A quarter of what counts, long before anything is suspected. */
  (void)grow(leak, MG_LEAK_RSS, 40, 44, 200 * MIB, 2 * MIB);
  assert_true(mg_leak_wants_collection(leak, MG_LEAK_HEAP));
  /* The resident set rises: worth a collection, and a reading, once a tick. */
  (void)grow(leak, MG_LEAK_RSS, 44, 60, 208 * MIB, 5 * MIB);
  assert_true(mg_leak_wants_collection(leak, MG_LEAK_HEAP));
  assert_true(mg_leak_wants_collection(leak, MG_LEAK_NATIVE));
  assert_false(mg_leak_wants_collection(leak, MG_LEAK_FDS));
  assert_false(mg_leak_wants_collection(leak, 9999));
  mg_leak_note(leak, MG_LEAK_HEAP, 1e8, 59 * TICK_MS);
  assert_false(mg_leak_wants_collection(leak, MG_LEAK_HEAP));
  assert_true(mg_leak_wants_collection(leak, MG_LEAK_NATIVE));
  (void)grow(leak, MG_LEAK_RSS, 60, 62, 300 * MIB, 5 * MIB);
  assert_true(mg_leak_wants_collection(leak, MG_LEAK_HEAP));
  mg_leak_close(leak);
}

/* Nobody collects by chance: the live heap is known only when it is asked for. */
static void test_a_heap_that_is_read_on_request(void **state) {
  mg_leak *leak = open_detector();
  mg_leak_finding found[4];
  int readings = 0, likely_at = -1;

  (void)state;
  for (int i = 0; i < 60 && likely_at < 0; i++) {
    mg_leak_note(leak, MG_LEAK_RSS, (300 + 5 * i) * MIB, i * TICK_MS);
    (void)mg_leak_judge(leak, i * TICK_MS, &two_gib, found, 4);
    if (!mg_leak_wants_collection(leak, MG_LEAK_HEAP)) continue;
    mg_leak_note(leak, MG_LEAK_HEAP, (200 + 5 * i) * MIB, i * TICK_MS);
    readings++;
    for (size_t k = 0, n = mg_leak_findings(leak, found, 4); k < n; k++)
      if (found[k].series == MG_LEAK_HEAP && found[k].tier >= MG_LEAK_LIKELY)
        likely_at = i;
  }
  assert_in_range(likely_at, 20, 40);
  assert_in_range(readings, 14, 24);
  mg_leak_close(leak);
}

static void test_bad_values(void **state) {
  const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY, -1.0};
  mg_leak *leak = open_detector();
  mg_leak_finding found[4];

  (void)state;
  for (int i = 0; i < 2000; i++) {
    double now_ms = i * TICK_MS;
    /* Late, early, twice, never; growing all the while: none of it counts. */
    mg_leak_note(leak, MG_LEAK_HEAP, bad[i % 4], now_ms);
    mg_leak_note(leak, MG_LEAK_HEAP, 1e8, now_ms + 1.0);
    mg_leak_note(leak, MG_LEAK_HEAP, 1e8 + 1e7 * i, now_ms - TICK_MS);
    mg_leak_note(leak, MG_LEAK_HEAP, 1e8 + 1e7 * i, now_ms + 1.0);
    mg_leak_note(leak, MG_LEAK_HEAP, 1e8 + 1e7 * i, (double)NAN);
    mg_leak_note(leak, 9999, 1e8 + 1e7 * i, now_ms + 2.0);
    assert_int_equal(mg_leak_judge(leak, now_ms, &two_gib, found, 4), 0);
  }
  mg_leak_close(leak);
}

static void test_a_clock_that_jumps(void **state) {
  const double jumps[] = {1e300, -1e300, 0.0, 1e18};
  mg_leak_finding found[4];

  (void)state;
  for (int i = 0; i < 4; i++) {
    mg_leak *leak = open_detector();
    (void)grow(leak, MG_LEAK_HEAP, 0, 40, 200 * MIB, 5 * MIB);
    mg_leak_note(leak, MG_LEAK_HEAP, 900 * MIB, jumps[i]);
    (void)mg_leak_judge(leak, jumps[i], &two_gib, found, 4);
    mg_leak_note(leak, MG_LEAK_HEAP, 901 * MIB, 2.0 * jumps[i]);
    (void)mg_leak_judge(leak, (double)NAN, &two_gib, found, 4);
    assert_true(mg_leak_findings(leak, found, 4) <= 1);
    mg_leak_close(leak);
  }
}

static void test_unknown_limits(void **state) {
  const double unknown[] = {0.0, -5.0, (double)NAN, (double)INFINITY};
  mg_leak_finding found[4];

  (void)state;
  for (int k = 0; k < 4; k++) {
    const double u = unknown[k];
    const mg_leak_limits limits = {u, u, u, u, u, u};
    mg_leak *leak = open_detector();
    for (int i = 0; i < 60; i++) {
      mg_leak_note(leak, MG_LEAK_HEAP, (200 + 20 * i) * MIB, i * TICK_MS);
      mg_leak_note(leak, MG_LEAK_FDS, 40 + 20 * i, i * TICK_MS);
      (void)mg_leak_judge(leak, i * TICK_MS, &limits, found, 4);
    }
    assert_int_equal(mg_leak_findings(leak, found, 4), 2);
    for (int i = 0; i < 2; i++) {
      assert_true(found[i].tier >= MG_LEAK_LIKELY);
      assert_true(isinf(found[i].to_limit_ms));
      assert_false(found[i].is_critical);
    }
    mg_leak_close(leak);
  }
}

/* 40 days: every octave has been filled and has lost blocks. */
static void test_a_long_life(void **state) {
  mg_leak *leak = open_detector();
  const int days_40 = 40 * 24 * 240;

  (void)state;
  assert_int_equal(grow(leak, MG_LEAK_HEAP, 0, days_40, 200 * MIB, 0.0),
                   MG_LEAK_NONE);
  assert_int_equal(
      grow(leak, MG_LEAK_HEAP, days_40, days_40 + 120, 200 * MIB, 5 * MIB),
      MG_LEAK_CONFIRMED);
  mg_leak_close(leak);
}

/* ---- names, settings, memory ----------------------------------------------- */

static void test_names(void **state) {
  char name[2 * MG_LEAK_NAME_BYTES];
  mg_leak *leak = open_detector();
  mg_error err = MG_ERROR_INIT;
  uint32_t first, again, rss;

  (void)state;
  assert_ok(mg_leak_name(leak, "counter:sessions", &first, &err), &err);
  assert_ok(mg_leak_name(leak, "counter:sessions", &again, &err), &err);
  assert_int_equal(first, MG_LEAK_SIGNALS);
  assert_int_equal(again, first);
  assert_ok(mg_leak_name(leak, "rss", &rss, &err), &err);
  assert_int_equal(rss, MG_LEAK_RSS);
  assert_string_equal(mg_leak_series_name(leak, first), "counter:sessions");
  assert_string_equal(mg_leak_series_name(leak, 9999), "unknown");
  assert_string_equal(mg_leak_series_unit(MG_LEAK_HEAP), "bytes");
  assert_string_equal(mg_leak_series_unit(first), "count");
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  assert_ok(mg_leak_name(leak, name, &first, &err), &err);
  assert_int_equal(strlen(mg_leak_series_name(leak, first)),
                   MG_LEAK_NAME_BYTES - 1);
  assert_ok(mg_leak_name(leak, name, &again, &err), &err);
  assert_int_equal(again, first);
  for (unsigned i = 2; i < MG_LEAK_NAMED_MAX; i++) {
    snprintf(name, sizeof name, "counter:%u", i);
    assert_ok(mg_leak_name(leak, name, &first, &err), &err);
  }
  assert_int_equal(mg_leak_name(leak, "one more", &first, &err), MG_ERANGE);
  assert_string_equal(mg_leak_tier_name((mg_leak_tier)7), "unknown");
  assert_string_equal(mg_leak_severity_name((mg_leak_severity)7), "unknown");
  mg_leak_close(leak);
  mg_leak_close(NULL);
}

static void test_bad_settings(void **state) {
  const struct {
    mg_leak_settings settings;
    const char *text;
  } rows[] = {
      {{1, 1e5, 0, 1, 1}, "settings of 1 bytes"},
      {{sizeof(mg_leak_settings), 15.0, 0, 1, 1}, "window of 15 ms, need >= 16"},
      {{sizeof(mg_leak_settings), (double)NAN, 0, 1, 1}, "window of nan ms"},
      {{sizeof(mg_leak_settings), 1e5, -1, 1, 1}, "warmup -1 ms"},
      {{sizeof(mg_leak_settings), 1e5, 0, (double)NAN, 1}, "critical within nan"},
      {{sizeof(mg_leak_settings), 1e5, 0, 1, -2}, "growth -2"}};
  mg_error err = MG_ERROR_INIT;
  mg_leak *leak;

  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    assert_int_equal(mg_leak_open(&leak, &rows[i].settings, &err), MG_EINVAL);
    assert_null(leak);
    assert_non_null(strstr(err.text, rows[i].text));
  }
}

static int blocks_left; /* how many more are given; negative: all */
static int blocks_alive;

static void *scarce_take(void *ctx, size_t bytes) {
  (void)ctx;
  if (blocks_left == 0) return NULL;
  blocks_left--;
  blocks_alive++;
  return malloc(bytes);
}

static void *scarce_resize(void *ctx, void *block, size_t bytes) {
  (void)ctx;
  return realloc(block, bytes);
}

static void scarce_give(void *ctx, void *block) {
  (void)ctx;
  blocks_alive--;
  free(block);
}

static void test_without_memory(void **state) {
  const mg_allocator scarce = {scarce_take, scarce_resize, scarce_give, NULL};
  const mg_leak_settings settings = MG_LEAK_SETTINGS_INIT;
  const mg_leak_point point = {0.0, 1.0, "mine"};
  mg_leak_change change;
  mg_status st = MG_ENOMEM;
  int failures = 0;
  size_t count;

  (void)state;
  mg_set_allocator(&scarce);
  for (int blocks = 0; st != MG_OK && blocks < 100; blocks++) {
    mg_error err = MG_ERROR_INIT;
    blocks_left = blocks;
    st = mg_leak_replay(&settings, &two_gib, &point, 1, &change, 1, &count, &err);
    assert_int_equal(blocks_alive, 0);
    if (st == MG_OK) break;
    assert_int_equal(st, MG_ENOMEM);
    failures++;
  }
  mg_set_allocator(NULL);
  /* The detector, a series per signal, and the named one. */
  assert_int_equal(failures, 1 + MG_LEAK_SIGNALS + 1);
  assert_int_equal(st, MG_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows),
      cmocka_unit_test(test_finding),
      cmocka_unit_test(test_explained),
      cmocka_unit_test(test_changes_without_room_are_told_later),
      cmocka_unit_test(test_native_memory_needs_a_witness),
      cmocka_unit_test(test_mappings_are_never_likely),
      cmocka_unit_test(test_code_takes_room_of_the_heap),
      cmocka_unit_test(test_an_alarm_stays_while_values_are_rare),
      cmocka_unit_test(test_wants_a_fresh_value),
      cmocka_unit_test(test_a_heap_that_is_read_on_request),
      cmocka_unit_test(test_bad_values),
      cmocka_unit_test(test_a_clock_that_jumps),
      cmocka_unit_test(test_unknown_limits),
      cmocka_unit_test(test_a_long_life),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_bad_settings),
      cmocka_unit_test(test_without_memory)};
  return cmocka_run_group_tests_name("leak", tests, NULL, NULL);
}
