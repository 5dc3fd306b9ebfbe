/* test_metrics.c - segments as metrics. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "memguard/metrics.h"
#include "segment_parts.h"
#include "vectors.h"

/* ---- segments of literals ------------------------------------------------------ */

static void put(mg_segment_layout *layout, size_t at, const void *data,
                size_t bytes) {
  assert_true(at + bytes <= sizeof *layout);
  memcpy((char *)layout + at, data, bytes);
}

static void put_hex(mg_segment_layout *layout, size_t at, const char *hex) {
  for (unsigned value; sscanf(hex, "%2x", &value) == 1; hex += 2) {
    unsigned char byte = (unsigned char)value;
    put(layout, at++, &byte, 1);
  }
}

/* [offset, type, value, name] */
static void put_field(mg_segment_layout *layout, const cJSON *field) {
  const cJSON *value = cJSON_GetArrayItem(field, 2);
  const char *type = cJSON_GetArrayItem(field, 1)->valuestring;
  size_t at = (size_t)cJSON_GetArrayItem(field, 0)->valuedouble;
  double real = value->valuedouble;
  uint64_t whole = cJSON_IsNull(value) ? MG_ABSENT : (uint64_t)real;
  uint32_t half = (uint32_t)whole;

  if (strcmp(type, "u32") == 0) put(layout, at, &half, sizeof half);
  if (strcmp(type, "u64") == 0) put(layout, at, &whole, sizeof whole);
  if (strcmp(type, "f64") == 0) put(layout, at, &real, sizeof real);
  if (strcmp(type, "hex") == 0) put_hex(layout, at, value->valuestring);
  if (strcmp(type, "text") == 0)
    put(layout, at, value->valuestring, strlen(value->valuestring));
}

static void seal(mg_segment_layout *layout) {
  mg_segment_header *h = &layout->header;

  memcpy(h->magic, MG_SEGMENT_MAGIC, sizeof h->magic);
  h->byte_order = MG_SEGMENT_BYTE_ORDER;
  h->version = MG_SEGMENT_VERSION;
  h->header_bytes = sizeof *h;
  h->segment_bytes = sizeof *layout;
  for (int i = 0; i < 2; i++)
    layout->now[i].check =
        mg_segment_check(&layout->now[i], sizeof layout->now[i]);
  h->crc = mg__segment_crc(h, offsetof(mg_segment_header, crc));
}

/* A process of the kind that tests change. [owned] */
static mg_segment_layout *made(uint32_t pid, const char *program) {
  mg_segment_layout *layout = calloc(1, sizeof *layout);
  mg_segment_now *now = &layout->now[1];

  assert_non_null(layout);
  layout->header.pid = pid;
  layout->header.opened_unix_ms = 1790000000000;
  mg__segment_copy_text(layout->header.program, sizeof layout->header.program,
                        program);
  mg__segment_copy_text(layout->header.runtime, sizeof layout->header.runtime,
                        "python");
  mg__segment_copy_text(layout->header.kind[0], sizeof layout->header.kind[0],
                        "generation0");
  now->number = 1;
  now->domain = MG_DOMAIN_MAX_MEMORY;
  now->readings = sizeof(mg_reading) / sizeof(uint64_t);
  memset(now->reading, 0xff, sizeof now->reading);
  now->reading[0] = 1000; /* rss_bytes */
  now->gc_ppm = UINT32_MAX;
  layout->gc[0].count = 2;
  layout->gc[0].wall_ns = 3000000000;
  layout->gc_bucket[0][100] = 2;
  return layout;
}

typedef struct shown {
  mg_metrics_process process;
  mg_segment_view view;
} shown;

static void show(shown *out, mg_segment_layout *layout, bool is_alive) {
  mg_error err = MG_ERROR_INIT;

  seal(layout);
  assert_ok(mg_segment_open_bytes(&out->process.segment, layout,
                                  sizeof *layout, &err),
            &err);
  assert_ok(mg_segment_read(out->process.segment, &out->view, &err), &err);
  out->process.header = mg_segment_header_of(out->process.segment);
  out->process.view = &out->view;
  out->process.is_alive = is_alive;
}

/* [owned] mg_free_text() it. */
static char *rendered(const mg_metrics_process *list, size_t count,
                      const mg_segment_service *services, size_t service_count,
                      mg_metrics_format format, uint32_t groups) {
  mg_error err = MG_ERROR_INIT;
  size_t bytes;
  char *text;

  assert_ok(mg_metrics_render(&text, &bytes, list, count, services,
                              service_count, format, groups, &err),
            &err);
  assert_int_equal(strlen(text), bytes);
  return text;
}

/* ---- rows ------------------------------------------------------------------------ */

static void check_lines(const char *text, const cJSON *lines) {
  const cJSON *line;

  cJSON_ArrayForEach(line, lines) {
    size_t bytes = strlen(line->valuestring);
    char *found = strndup(text, bytes);
    assert_non_null(found);
    assert_string_equal(found, line->valuestring);
    free(found);
    text += bytes;
    if (*text == '\n') text++;
  }
  assert_string_equal(text, "");
}

static void test_rows(void **state) {
  cJSON *document, *rows = load_rows("metrics.json", &document), *row;
  (void)state;

  cJSON_ArrayForEach(row, rows) {
    mg_segment_layout *layout = calloc(1, sizeof *layout);
    const cJSON *field;
    shown one;
    char *text;
    assert_non_null(layout);
    cJSON_ArrayForEach(field, item_of(row, "set")) put_field(layout, field);
    show(&one, layout, true);
    text = rendered(&one.process, 1, NULL, 0,
                    cJSON_IsTrue(item_of(row, "openmetrics"))
                        ? MG_METRICS_OPENMETRICS
                        : MG_METRICS_PROMETHEUS,
                    (uint32_t)number_of(row, "groups"));
    check_lines(text, item_of(row, "expect"));
    mg_free_text(text);
    mg_segment_close(one.process.segment);
    free(layout);
  }
  cJSON_Delete(document);
}

/* ---- the table --------------------------------------------------------------------- */

static void test_table(void **state) {
  static const char *const exact[] = {
      "memory_alloc_bytes", "memory_total_alloc_bytes", "memory_sys_bytes",
      "memory_heap_alloc_bytes", "memory_heap_sys_bytes",
      "memory_heap_idle_bytes", "memory_heap_inuse_bytes",
      "memory_heap_objects", "memory_gc_pause_ns", "memory_gc_count_total",
      "memory_gc_cpu_fraction", "process_memory_rss_bytes",
      "memory_growth_rate_mb_per_minute", "memory_peak_rss_bytes",
      "gc_pause_duration_seconds", "gc_collections_by_generation_total",
      "process_open_fds", "active_connections"};
  size_t found = 0;
  (void)state;

  for (int id = 0; id < MG_METRICS; id++) {
    const mg_metric_row *row = mg_metric_row_at((mg_metric)id);
    if (row->group == MG_METRICS_CANONICAL) {
      assert_int_equal(strncmp(row->name, "memguard_", 9), 0);
      continue;
    }
    assert_true(found < sizeof exact / sizeof *exact);
    assert_string_equal(row->name, exact[found]);
    found++;
  }
  assert_int_equal(found, 18);
  assert_null(mg_metric_row_at(MG_METRICS));
  assert_string_equal(mg_metric_type_name(MG_METRIC_HISTOGRAM), "histogram");
  assert_string_equal(mg_metric_type_name(MG_METRIC_TYPES), "unknown");
  assert_string_equal(mg_metrics_content_type(MG_METRICS_PROMETHEUS),
                      "text/plain; version=0.0.4; charset=utf-8");
  assert_int_equal(mg_metrics_bound_ns(0), 10000);
  assert_int_equal(mg_metrics_bound_ns(14), UINT64_C(5000000000));
  assert_true(mg_metrics_bound_ns(15) == UINT64_MAX);
}

/* ---- many processes ------------------------------------------------------------------ */

static void test_services(void **state) {
  mg_segment_layout *alive = made(1, "a"), *dead = made(2, "a");
  mg_segment_layout *folded = made(3, "a"), *other = made(4, "b");
  mg_segment_service account = {.runtime = "python",
                                .program = "a",
                                .kind = {"generation0"},
                                .gc_count = {10},
                                .gc_wall_ns = {500000000},
                                .rounds = 4,
                                .freed_bytes = 9,
                                .alerts = 1};
  mg_metrics_process list[4];
  shown one[4];
  char *text;
  (void)state;

  account.ended[MG_VERDICT_OOM_LIKELY] = 6;
  dead->life.state = MG_SEGMENT_EXITED;
  folded->life.is_folded = 1;
  show(&one[0], alive, true);
  show(&one[1], dead, false);
  show(&one[2], folded, false);
  show(&one[3], other, true);
  for (int i = 0; i < 4; i++) list[i] = one[i].process;
  text = rendered(list, 4, &account, 1, MG_METRICS_PROMETHEUS,
                  MG_METRICS_CANONICAL);
#define HAS(line) assert_non_null(strstr(text, line "\n"))
  HAS("memguard_process_up{pid=\"1\",program=\"a\",runtime=\"python\"} 1");
  HAS("memguard_process_up{pid=\"2\",program=\"a\",runtime=\"python\"} 0");
  HAS("memguard_process_ends_total{program=\"a\",runtime=\"python\","
      "verdict=\"OOM likely\"} 6");
  HAS("memguard_process_ends_total{program=\"a\",runtime=\"python\","
      "verdict=\"clean exit\"} 1");
  HAS("memguard_process_ends_total{program=\"b\",runtime=\"python\","
      "verdict=\"clean exit\"} 0");
  HAS("memguard_service_gc_collections_total{program=\"a\","
      "runtime=\"python\",kind=\"generation0\"} 14");
  HAS("memguard_service_gc_seconds_total{program=\"a\",runtime=\"python\","
      "kind=\"generation0\"} 6.5");
  HAS("memguard_service_reclaim_rounds_total{program=\"a\","
      "runtime=\"python\"} 4");
  HAS("memguard_processes_omitted 0");
  assert_null(strstr(text, "memguard_gc_collections_total{pid=\"2\""));
  assert_null(strstr(text, "memguard_process_info{pid=\"2\""));
  mg_free_text(text);
  for (int i = 0; i < 4; i++) mg_segment_close(one[i].process.segment);
  free(alive);
  free(dead);
  free(folded);
  free(other);
}

/* Names of 10000 processes, of which some are shown. */
static void test_too_many(void **state) {
  enum { COUNT = 10000 };
  mg_metrics_process *list = calloc(COUNT, sizeof *list);
  mg_segment_layout *layout = made(1, "many");
  mg_segment_service none;
  mg_segment_header *headers = calloc(COUNT, sizeof *headers);
  size_t lines = 0;
  shown one;
  char *text;
  (void)state;

  assert_non_null(list);
  assert_non_null(headers);
  show(&one, layout, true);
  for (int i = 0; i < COUNT; i++) {
    headers[i] = *one.process.header;
    headers[i].pid = (uint32_t)i;
    snprintf(headers[i].program, sizeof headers[i].program, "name-%d", i % 300);
    list[i] = one.process;
    list[i].header = &headers[i];
  }
  text = rendered(list, COUNT, &none, 0, MG_METRICS_OPENMETRICS,
                  MG_METRICS_CANONICAL);
  HAS("memguard_processes_omitted 8976");
  HAS("memguard_service_alerts_total{program=\"name-299\",runtime=\"python\"} 0");
  for (const char *at = text; (at = strstr(at, "\nmemguard_process_up{")); at++)
    lines++;
  assert_int_equal(lines, 1024);
  mg_free_text(text);
  mg_segment_close(one.process.segment);
  free(layout);
  free(headers);
  free(list);
}

/* ---- collections ------------------------------------------------------------------------ */

/* What a bucket reaches over counts further up; the ends agree with the counters. */
static void test_buckets(void **state) {
  mg_segment_layout *layout = made(1, "x");
  uint64_t ns[] = {1, 9000, 10001, 4000000, 6000000000, UINT64_C(1) << 40};
  uint64_t sum_ns = 0;
  shown one;
  char *text;
  (void)state;

  layout->gc_bucket[0][100] = 0;
  for (size_t i = 0; i < sizeof ns / sizeof *ns; i++) {
    layout->gc_bucket[0][mg__pause_bucket(ns[i])]++;
    sum_ns += ns[i];
  }
  layout->gc[0].count = 6;
  layout->gc[0].wall_ns = sum_ns;
  show(&one, layout, true);
  text = rendered(&one.process, 1, NULL, 0, MG_METRICS_PROMETHEUS,
                  MG_METRICS_COMPATIBLE);
#define LABELS "{pid=\"1\",program=\"x\",runtime=\"python\""
  HAS("memory_gc_pause_ns_bucket" LABELS ",le=\"10000.0\"} 2");
  HAS("memory_gc_pause_ns_bucket" LABELS ",le=\"30000.0\"} 3");
  HAS("memory_gc_pause_ns_bucket" LABELS ",le=\"3e+06\"} 3");
  HAS("memory_gc_pause_ns_bucket" LABELS ",le=\"5e+06\"} 4");
  HAS("memory_gc_pause_ns_bucket" LABELS ",le=\"5e+09\"} 4");
  HAS("memory_gc_pause_ns_bucket" LABELS ",le=\"+Inf\"} 6");
  HAS("memory_gc_pause_ns_count" LABELS "} 6");
  HAS("memory_gc_pause_ns_sum" LABELS "} 1105515646778");
  HAS("gc_pause_duration_seconds_sum" LABELS
      ",generation=\"0\"} 1105.515646778");
  HAS("gc_collections_by_generation_total" LABELS ",generation=\"0\"} 6");
  mg_free_text(text);
  mg_segment_close(one.process.segment);
  free(layout);
}

/* Killed between bucket and counter: both say what the buckets do. */
static void test_torn_collection(void **state) {
  mg_segment_layout *layout = made(1, "x");
  shown one;
  char *text;
  (void)state;

  layout->gc[0].count = 1;
  show(&one, layout, true);
  text = rendered(&one.process, 1, NULL, 0, MG_METRICS_PROMETHEUS,
                  MG_METRICS_ALL);
  HAS("memguard_gc_collections_total" LABELS ",kind=\"generation0\"} 2");
  HAS("memguard_gc_pause_seconds_count" LABELS ",kind=\"generation0\"} 2");
  HAS("memory_gc_count_total" LABELS "} 2");
  mg_free_text(text);
  mg_segment_close(one.process.segment);
  free(layout);
}

/* ---- growth ------------------------------------------------------------------------------- */

/* Points from number `first` on, one a second, growing by 1 MiB a minute. */
static void put_points(mg_segment_layout *layout, uint64_t first,
                       uint64_t count) {
  for (uint64_t number = first; number < first + count; number++) {
    mg_segment_point *p = &layout->second[number % MG_SEGMENT_SECONDS];
    *p = (mg_segment_point){.number = number,
                            .unix_ms = 1790000000000 + number * 1000,
                            .rss_bytes = 100000000 + number * 1048576 / 60};
    p->check = mg_segment_check(p, sizeof *p);
  }
}

static bool has_growth(mg_segment_layout *layout, const char *value) {
  char line[200], *text;
  bool is_there;
  shown one;

  show(&one, layout, true);
  text = rendered(&one.process, 1, NULL, 0, MG_METRICS_PROMETHEUS,
                  MG_METRICS_COMPATIBLE);
  snprintf(line, sizeof line, "\nmemory_growth_rate_mb_per_minute" LABELS "} %s",
           value);
  is_there = strstr(text, line) != NULL;
  mg_free_text(text);
  mg_segment_close(one.process.segment);
  return is_there;
}

static void test_growth(void **state) {
  mg_segment_layout *layout = made(1, "x");
  (void)state;

  assert_false(has_growth(layout, ""));
  put_points(layout, 1, 530);
  assert_false(has_growth(layout, "")); /* the window is not filled */
  put_points(layout, 1, 599);
  assert_true(has_growth(layout, "1\n") || has_growth(layout, "0.99999"));
  put_points(layout, 1, 600);
  assert_true(has_growth(layout, "1\n") || has_growth(layout, "0.99999"));
  put_points(layout, 400, 1100); /* round and round */
  assert_true(has_growth(layout, "1\n") || has_growth(layout, "0.99999"));
  memset(&layout->second[1499 % MG_SEGMENT_SECONDS], 0xa5, 20); /* torn */
  assert_true(has_growth(layout, "1\n") || has_growth(layout, "0.99999"));
  memset(layout->second, 0xff, sizeof layout->second); /* damaged */
  assert_false(has_growth(layout, ""));
  free(layout);
}

/* ---- invariants over random content ----------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static uint64_t random_u64(void) { /* Marsaglia's xorshift */
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  return random_state ^= random_state << 17;
}

typedef struct heap_values {
  double of[MG_METRICS];
  uint64_t count[2]; /* of collections: counter and histogram */
} heap_values;

static bool take_value(void *ctx, const mg_metrics_point *point) {
  heap_values *values = ctx;

  assert_true(point->value == point->value); /* never NaN */
  values->of[point->metric] = point->value;
  if (point->metric == MG_METRIC_MEMORY_GC_COUNT)
    values->count[0] = (uint64_t)point->value;
  if (point->metric == MG_METRIC_MEMORY_GC_PAUSE) {
    values->count[1] = point->histogram->count;
    for (uint32_t i = 0; i < MG_METRICS_BOUNDS; i++)
      assert_true(point->histogram->bucket[i] <=
                  point->histogram->bucket[i + 1]);
  }
  return true;
}

static void test_invariants(void **state) {
  mg_segment_layout *layout = made(1, "x");
  mg_error err = MG_ERROR_INIT;
  (void)state;

  for (int turn = 0; turn < 2000; turn++) {
    heap_values v = {.of = {0}};
    shown one;
    for (uint32_t i = 0; i < layout->now[1].readings; i++)
      layout->now[1].reading[i] =
          random_u64() % 4 == 0 ? MG_ABSENT : random_u64() >> random_u64() % 40;
    show(&one, layout, true);
    for (int id = 0; id < MG_METRICS; id++) v.of[id] = -1;
    assert_ok(mg_metrics_each(&one.process, 1, NULL, 0, MG_METRICS_ALL,
                              take_value, &v, &err),
              &err);
#define KNOWN(id) (v.of[MG_METRIC_##id] >= 0)
    if (KNOWN(HEAP_ALLOC) && KNOWN(HEAP_INUSE))
      assert_true(v.of[MG_METRIC_HEAP_ALLOC] <= v.of[MG_METRIC_HEAP_INUSE]);
    if (KNOWN(HEAP_INUSE)) {
      assert_true(v.of[MG_METRIC_HEAP_INUSE] <= v.of[MG_METRIC_HEAP_SYS]);
      assert_true(fabs(v.of[MG_METRIC_HEAP_IDLE] + v.of[MG_METRIC_HEAP_INUSE] -
                       v.of[MG_METRIC_HEAP_SYS]) <=
                  v.of[MG_METRIC_HEAP_SYS] * 1e-15);
    }
    if (KNOWN(ALLOC) && KNOWN(SYS))
      assert_true(v.of[MG_METRIC_ALLOC] <= v.of[MG_METRIC_SYS]);
    assert_int_equal(v.count[0], v.count[1]);
    mg_segment_close(one.process.segment);
  }
  free(layout);
}

/* ---- bad input, no memory ----------------------------------------------------------------------- */

static void test_refused(void **state) {
  mg_error err = MG_ERROR_INIT;
  char *text = (char *)&err;
  (void)state;

  assert_int_equal(mg_metrics_render(&text, NULL, NULL, 0, NULL, 0,
                                     MG_METRICS_FORMATS, 1, &err),
                   MG_EINVAL);
  assert_null(text);
  assert_string_equal(err.text, "format is 2, need 0 to 1");
  assert_int_equal(mg_metrics_render(&text, NULL, NULL, 0, NULL, 0,
                                     MG_METRICS_PROMETHEUS, 0, &err),
                   MG_EINVAL);
  assert_string_equal(err.text, "groups is 0, need 1 to 3");
  assert_int_equal(mg_metrics_render(&text, NULL, NULL, 0, NULL, 0,
                                     MG_METRICS_PROMETHEUS, 4, &err),
                   MG_EINVAL);
  assert_ok(mg_metrics_render(&text, NULL, NULL, 0, NULL, 0,
                              MG_METRICS_OPENMETRICS, 3, &err),
            &err);
  assert_string_equal(text, "# EOF\n");
  mg_free_text(text);
}

static void test_no_memory(void **state) {
  mg_segment_layout *layout = made(1, "x");
  mg_segment_service none;
  mg_error err = MG_ERROR_INIT;
  long index = 0;
  mg_status st;
  shown one;
  char *text;
  (void)state;

  show(&one, layout, true);
  do {
    fixture_fail_allocation(index++);
    st = mg_metrics_render(&text, NULL, &one.process, 1, &none, 0,
                           MG_METRICS_PROMETHEUS, MG_METRICS_ALL, &err);
    if (st != MG_OK) {
      assert_int_equal(st, MG_ENOMEM);
      assert_null(text);
    }
    mg_free_text(text);
  } while (fixture_allocation_failed());
  assert_true(index > 3);
  mg_segment_close(one.process.segment);
  free(layout);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows),
      cmocka_unit_test(test_table),
      cmocka_unit_test(test_services),
      cmocka_unit_test(test_too_many),
      cmocka_unit_test(test_buckets),
      cmocka_unit_test(test_torn_collection),
      cmocka_unit_test(test_growth),
      cmocka_unit_test(test_invariants),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_no_memory)};

  return cmocka_run_group_tests(tests, NULL, NULL);
}
