/* test_vectors.c - every row of tests/vectors/ through the C API. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "memguard/level.h"

static cJSON *load_rows(const char *file, cJSON **out_document) {
  const char *directory = getenv("MG_VECTORS");
  char path[4096], *text;
  FILE *stream;
  long bytes;

  assert_non_null(directory);
  snprintf(path, sizeof path, "%s/%s", directory, file);
  stream = fopen(path, "rb");
  assert_non_null(stream);
  fseek(stream, 0, SEEK_END);
  bytes = ftell(stream);
  rewind(stream);
  text = malloc((size_t)bytes + 1);
  assert_non_null(text);
  assert_int_equal(fread(text, 1, (size_t)bytes, stream), bytes);
  text[bytes] = '\0';
  fclose(stream);
  *out_document = cJSON_Parse(text);
  free(text);
  assert_non_null(*out_document);
  return cJSON_GetObjectItemCaseSensitive(*out_document, "rows");
}

static const char *text_of(const cJSON *row, const char *key) {
  return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, key));
}

static double number_of(const cJSON *row, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, key);

  if (!cJSON_IsNumber(item)) fail_msg("%s: no number %s", text_of(row, "name"), key);
  return item->valuedouble;
}

/* ---- resolving a host's mapping, as the bindings do ---------------------- */

static mg_status set_leaf(mg_config *config, const char *path,
                          const cJSON *value, mg_error *err) {
  if (cJSON_IsBool(value))
    return mg_config_set_bool(config, path, cJSON_IsTrue(value), err);
  if (cJSON_IsNumber(value))
    return mg_config_set_number(config, path, value->valuedouble, err);
  if (cJSON_IsString(value))
    return mg_config_set_text(config, path, value->valuestring, err);
  return mg_config_refuse(path, cJSON_IsNull(value) ? "null" : "a list", err);
}

static mg_status set_mapping(mg_config *config, const cJSON *mapping,
                             mg_error *err) {
  const cJSON *item, *leaf;
  char path[256];

  cJSON_ArrayForEach(item, mapping) {
    mg_status st = MG_OK;
    if (!cJSON_IsObject(item)) st = set_leaf(config, item->string, item, err);
    if (st != MG_OK) return st;
    if (!cJSON_IsObject(item)) continue;
    cJSON_ArrayForEach(leaf, item) {
      snprintf(path, sizeof path, "%s.%s", item->string, leaf->string);
      st = set_leaf(config, path, leaf, err);
      if (st != MG_OK) return st;
    }
  }
  return MG_OK;
}

static mg_status set_environ(mg_config *config, const cJSON *environ,
                             mg_error *err) {
  static char text[16][256];
  const char *block[17];
  const cJSON *item;
  int count = 0;

  cJSON_ArrayForEach(item, environ) {
    snprintf(text[count], sizeof text[count], "%s=%s", item->string,
             item->valuestring);
    block[count] = text[count];
    count++;
  }
  block[count] = NULL;
  return mg_config_set_environment(config, block, err);
}

static mg_status resolve(mg_config *out, const cJSON *row, mg_error *err) {
  const char *name = text_of(row, "profile");
  mg_profile profile = MG_PROFILE_DEFAULT;
  mg_status st = MG_OK;

  if (name != NULL) st = mg_profile_find(&profile, name, err);
  if (st != MG_OK) return st;
  mg_config_init(out, profile);
  st = set_environ(out, cJSON_GetObjectItemCaseSensitive(row, "environ"), err);
  if (st != MG_OK) return st;
  st = set_mapping(out, cJSON_GetObjectItemCaseSensitive(row, "config"), err);
  return st != MG_OK ? st : mg_config_check(out, err);
}

static mg_config config_of(const cJSON *row) {
  mg_error err = MG_ERROR_INIT;
  mg_config config;

  assert_ok(resolve(&config, row, &err), &err);
  return config;
}

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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_config), cmocka_unit_test(test_usage),
      cmocka_unit_test(test_level),  cmocka_unit_test(test_due),
      cmocka_unit_test(test_trend),  cmocka_unit_test(test_buffer)};
  return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
