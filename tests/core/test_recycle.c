/* test_recycle.c - the rows of tests/vectors/recycle.json. */
#include "vectors.h"

#include <math.h>
#include <string.h>

#include "memguard/recycle.h"

static mg_recycle_options options_of(const cJSON *row) {
  const cJSON *given = item_of(row, "options");
  mg_recycle_options options = MG_RECYCLE_OPTIONS_INIT;

  options.limit_bytes = (uint64_t)number_of(given, "limit_bytes");
  options.sustain_ms = number_of(given, "sustain_ms");
  options.jitter_ms = number_of(given, "jitter_ms");
  options.min_age_ms = number_of(given, "min_age_ms");
  options.spread = number_of(given, "spread");
  return options;
}

static void check_steps(const cJSON *row, const mg_recycle_options *options) {
  mg_error err = MG_ERROR_INIT;
  mg_recycle recycle;
  const cJSON *step;

  assert_ok(mg_recycle_init(&recycle, options, number_of(row, "born_ms"), &err),
            &err);
  cJSON_ArrayForEach(step, item_of(row, "steps")) {
    const cJSON *rss = cJSON_GetArrayItem(step, 1);
    double now_ms = cJSON_GetArrayItem(step, 0)->valuedouble;
    mg_recycle_verdict verdict = mg_recycle_offer(
        &recycle, cJSON_IsNull(rss) ? MG_ABSENT : (uint64_t)rss->valuedouble,
        now_ms);
    if (strcmp(mg_recycle_verdict_name(verdict),
               cJSON_GetArrayItem(step, 2)->valuestring) != 0)
      fail_msg("%s: %s at %g", text_of(row, "name"),
               mg_recycle_verdict_name(verdict), now_ms);
  }
}

static void test_rows(void **state) {
  cJSON *document, *rows = load_rows("recycle.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    mg_recycle_options options = options_of(row);
    const char *error = text_of(row, "error");
    mg_error err = MG_ERROR_INIT;
    mg_recycle recycle;
    if (error == NULL) {
      check_steps(row, &options);
      continue;
    }
    assert_int_equal(mg_recycle_init(&recycle, &options, 0, &err), MG_ERANGE);
    assert_string_equal(err.text, error);
  }
  cJSON_Delete(document);
}

static void test_bad_input(void **state) {
  mg_recycle_options options = MG_RECYCLE_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_recycle recycle;

  (void)state;
  options.limit_bytes = 100;
  options.sustain_ms = NAN;
  assert_int_equal(mg_recycle_init(&recycle, &options, 0, NULL), MG_ERANGE);
  options.sustain_ms = 0;
  options.min_age_ms = options.jitter_ms = 0;
  options.struct_bytes = 1;
  assert_int_equal(mg_recycle_init(&recycle, &options, 0, &err), MG_EINVAL);
  options.struct_bytes = sizeof options;
  assert_ok(mg_recycle_init(&recycle, &options, 0, &err), &err);
  assert_int_equal(mg_recycle_offer(&recycle, 101, NAN), MG_RECYCLE_KEEP);
  assert_int_equal(mg_recycle_offer(&recycle, 101, 1), MG_RECYCLE_DUE);
  assert_string_equal(mg_recycle_verdict_name(MG_RECYCLE_VERDICTS), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),
                                     cmocka_unit_test(test_bad_input)};
  return cmocka_run_group_tests_name("recycle", tests, NULL, NULL);
}
