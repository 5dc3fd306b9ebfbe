/* test_vectors.c - every row of tests/vectors/ through the C API. */
#include "vectors.h"

#include <math.h>
#include <string.h>

static void expect_error(const cJSON *row, const cJSON *expected, mg_status st,
                         const mg_error *err) {
  const cJSON *part;

  assert_string_equal(mg_status_name(st), text_of(expected, "status"));
  assert_int_equal(err->status, st);
  cJSON_ArrayForEach(part,
                     cJSON_GetObjectItemCaseSensitive(expected, "contains")) {
    if (strstr(err->text, part->valuestring) == NULL)
      fail_msg("%s: \"%s\" lacks \"%s\"", text_of(row, "name"), err->text,
               part->valuestring);
  }
}

static void test_config(void **state) {
  cJSON *document, *rows = load_rows("config.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(row, "error"), *item;
    mg_error err = MG_ERROR_INIT;
    mg_config config;
    mg_status st = resolve(&config, row, &err);
    if (error != NULL) {
      expect_error(row, error, st, &err);
      continue;
    }
    if (st != MG_OK) fail_msg("%s: %s", text_of(row, "name"), err.text);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(row, "expect")) {
      mg_config_id id;
      assert_ok(mg_config_find(&id, item->string, &err), &err);
      if (mg_config_get(&config, id) != item->valuedouble)
        fail_msg("%s: %s is %.17g, not %.17g", text_of(row, "name"),
                 item->string, mg_config_get(&config, id), item->valuedouble);
    }
  }
  cJSON_Delete(document);
}

static void read_reading(mg_reading *out, const cJSON *mapping) {
  const cJSON *item;

  mg_reading_init(out);
#define READ_FIELD(field, doc)                              \
  item = cJSON_GetObjectItemCaseSensitive(mapping, #field); \
  if (item != NULL) out->field = (uint64_t)item->valuedouble;
  MG_READING_MAP(READ_FIELD)
#undef READ_FIELD
}

static void test_usage(void **state) {
  cJSON *document, *rows = load_rows("usage.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    mg_config config = config_of(row);
    mg_reading reading;
    mg_domain domain;
    double usage;
    read_reading(&reading, cJSON_GetObjectItemCaseSensitive(row, "reading"));
    usage = mg_usage(&reading, &config, &domain);
    if (fabs(usage - number_of(row, "usage")) > 1e-12)
      fail_msg("%s: usage %.17g", text_of(row, "name"), usage);
    assert_string_equal(mg_domain_name(domain), text_of(row, "domain"));
  }
  cJSON_Delete(document);
}

static void test_level(void **state) {
  cJSON *document, *rows = load_rows("level.json", &document), *row, *step;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    mg_level_tracker tracker = MG_LEVEL_TRACKER_INIT;
    mg_config config = config_of(row);
    cJSON_ArrayForEach(step, cJSON_GetObjectItemCaseSensitive(row, "steps")) {
      double now_ms = cJSON_GetArrayItem(step, 0)->valuedouble;
      mg_level level = mg_level_update(
          &tracker, &config, cJSON_GetArrayItem(step, 1)->valuedouble, now_ms);
      if (strcmp(mg_level_name(level),
                 cJSON_GetArrayItem(step, 2)->valuestring) != 0)
        fail_msg("%s: %s at %g", text_of(row, "name"), mg_level_name(level),
                 now_ms);
    }
  }
  cJSON_Delete(document);
}

static void test_due(void **state) {
  cJSON *document, *rows = load_rows("due.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    double due =
        mg_sample_due_ms(number_of(row, "usage"), number_of(row, "rate_per_ms"),
                         number_of(row, "longest_ms"));
    if (fabs(due - number_of(row, "expect")) > 1e-9)
      fail_msg("%s: %.17g", text_of(row, "name"), due);
  }
  cJSON_Delete(document);
}

static void test_trend(void **state) {
  cJSON *document, *rows = load_rows("trend.json", &document), *row, *point;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    double time_ms[MG_TREND_POINTS];
    uint64_t bytes[MG_TREND_POINTS];
    size_t count = 0;
    mg_trend trend;
    cJSON_ArrayForEach(point, cJSON_GetObjectItemCaseSensitive(row, "points")) {
      const cJSON *value = cJSON_GetArrayItem(point, 1);
      time_ms[count] = cJSON_GetArrayItem(point, 0)->valuedouble;
      bytes[count++] =
          cJSON_IsNull(value) ? MG_ABSENT : (uint64_t)value->valuedouble;
    }
    mg_trend_of(&trend, time_ms, bytes, count);
    assert_string_equal(mg_direction_name(trend.direction),
                        text_of(row, "direction"));
    assert_int_equal(trend.points, (int)number_of(row, "points_used"));
    if (fabs(trend.mb_per_minute - number_of(row, "mb_per_minute")) > 1e-9 ||
        fabs(trend.tau - number_of(row, "tau")) > 1e-9)
      fail_msg("%s: %.17g, tau %.17g", text_of(row, "name"),
               trend.mb_per_minute, trend.tau);
  }
  cJSON_Delete(document);
}

static void test_buffer(void **state) {
  cJSON *document, *rows = load_rows("buffer.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    bool next = strcmp(text_of(row, "op"), "size_next") == 0;
    uint32_t size = (uint32_t)number_of(row, "size"), got;
    double pressure = number_of(row, "pressure");
    mg_config config = config_of(row);
    got = next ? mg_buffer_size_next(size, pressure, &config)
               : mg_buffer_flush_at(size, pressure, &config);
    if (got != (uint32_t)number_of(row, "expect"))
      fail_msg("%s: %u", text_of(row, "name"), got);
  }
  cJSON_Delete(document);
}

static double pool_number(const cJSON *row, int index) {
  return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(row, "of"), index)
      ->valuedouble;
}

static mg_level pool_level(const cJSON *row, int index) {
  const char *name = cJSON_GetStringValue(
      cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(row, "of"), index));
  int level = 0;

  while (level < MG_LEVELS && strcmp(mg_level_name((mg_level)level), name) != 0)
    level++;
  assert_int_not_equal(level, MG_LEVELS);
  return (mg_level)level;
}

static uint64_t pool_decide(const cJSON *row) {
  const char *op = text_of(row, "op");

  if (strcmp(op, "capacity") == 0)
    return mg_pool_capacity((uint64_t)pool_number(row, 0));
  if (strcmp(op, "trim") == 0) return mg_pool_trim((uint32_t)pool_number(row, 0));
  if (strcmp(op, "cache_limit") == 0)
    return mg_pool_cache_limit((uint64_t)pool_number(row, 0),
                               (uint64_t)pool_number(row, 1), pool_level(row, 2));
  assert_string_equal(op, "cache_next");
  return mg_pool_cache_next(
      (uint32_t)pool_number(row, 0), (uint32_t)pool_number(row, 1),
      (uint32_t)pool_number(row, 2), (uint32_t)pool_number(row, 3));
}

static void test_pool(void **state) {
  cJSON *document, *rows = load_rows("pool.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    if (strcmp(text_of(row, "op"), "tier") == 0)
      assert_string_equal(
          mg_pool_tier_name(mg_pool_tier_of((uint64_t)pool_number(row, 0))),
          text_of(row, "expect"));
    else if (pool_decide(row) != (uint64_t)number_of(row, "expect"))
      fail_msg("%s: %llu", text_of(row, "name"),
               (unsigned long long)pool_decide(row));
  }
  cJSON_Delete(document);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_config), cmocka_unit_test(test_usage),
      cmocka_unit_test(test_level),  cmocka_unit_test(test_due),
      cmocka_unit_test(test_trend),  cmocka_unit_test(test_buffer),
      cmocka_unit_test(test_pool)};
  return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
