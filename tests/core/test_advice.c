/* test_advice.c - the rows of tests/vectors/advice.json. */
#include "vectors.h"

#include <string.h>

#include "memguard/advice.h"

static uint64_t bytes_of(const cJSON *item) {
  return cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : MG_ABSENT;
}

static bool is_true(const cJSON *row, const char *key) {
  return cJSON_IsTrue(item_of(row, key)) != 0;
}

static void check_advice(const char *name, const cJSON *expect,
                         const mg_v8_advice *got) {
  if (got->old_space_mb != bytes_of(item_of(expect, "old_space_mb")) ||
      got->semi_space_mb != number_of(expect, "semi_space_mb") ||
      got->young_mb != number_of(expect, "young_mb") ||
      got->is_capped != is_true(expect, "is_capped") ||
      got->is_tight != is_true(expect, "is_tight") ||
      got->takes_semi_option != is_true(expect, "takes_semi_option"))
    fail_msg("%s: old %llu semi %u young %u %d%d%d", name,
             (unsigned long long)got->old_space_mb, (unsigned)got->semi_space_mb,
             (unsigned)got->young_mb, got->is_capped, got->is_tight,
             got->takes_semi_option);
}

static void test_advice(void **state) {
  cJSON *document, *rows = load_rows("advice.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    const char *error = text_of(row, "error");
    const mg_v8_view view = {bytes_of(item_of(row, "limit_bytes")),
                             (uint32_t)number_of(row, "node_major"),
                             number_of(row, "headroom"),
                             number_of(row, "share")};
    mg_error err = MG_ERROR_INIT;
    mg_v8_advice advice;
    mg_status st = mg_v8_advise(&advice, &view, &err);
    if (error == NULL) {
      assert_ok(st, &err);
      check_advice(text_of(row, "name"), item_of(row, "expect"), &advice);
    } else {
      assert_int_equal(st, MG_ERANGE);
      assert_string_equal(err.text, error);
    }
  }
  cJSON_Delete(document);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_advice)};
  return cmocka_run_group_tests_name("advice", tests, NULL, NULL);
}
