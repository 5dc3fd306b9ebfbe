/* test_optimize.c - the rows of tests/vectors/optimize.json through the C API. */
#include "vectors.h"

#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static int index_of(const char *const *names, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0) return (int)i;
  fail_msg("unknown name %s", name);
  return -1;
}

#define ENTRY(id, name) name,
#define ACTION_ENTRY(id, name, rate, collects) name,
static const char *const reasons[] = {MG_OPTIMIZE_REASON_MAP(ENTRY)};
static const char *const strategies[] = {MG_STRATEGY_MAP(ENTRY)};
static const char *const levels[] = {MG_LEVEL_MAP(ENTRY)};
static const char *const actions[] = {MG_ACTION_MAP(ACTION_ENTRY)};

static mg_optimize_reason reason_of(const cJSON *item) {
  return (mg_optimize_reason)index_of(reasons, COUNT_OF(reasons),
                                      item->valuestring);
}

static mg_strategy strategy_of(const char *name) {
  return (mg_strategy)index_of(strategies, COUNT_OF(strategies), name);
}

static double optional_of(const cJSON *view, const char *key, double fallback) {
  const cJSON *item = item_of(view, key);

  return item == NULL ? fallback : item->valuedouble;
}

static uint64_t bytes_of(const cJSON *list, int index) {
  const cJSON *item = cJSON_GetArrayItem(list, index);

  return cJSON_IsNull(item) ? MG_ABSENT : (uint64_t)item->valuedouble;
}

/* ---- one optimizer, step by step ----------------------------------------- */

static mg_optimizer_view view_of(const cJSON *item) {
  return (mg_optimizer_view){
      .now_ms = number_of(item, "now_ms"),
      .usage = number_of(item, "usage"),
      .level = (mg_level)index_of(levels, COUNT_OF(levels),
                                  text_of(item, "level")),
      .is_growing = cJSON_IsTrue(item_of(item, "is_growing")),
      .time_to_limit_ms = optional_of(item, "time_to_limit_ms", -1),
      .engine_acted_ms = optional_of(item, "engine_acted_ms", -1)};
}

static void run_step(mg_optimizer *optimizer, const mg_config *config,
                     const cJSON *step, const char *row) {
  const char *op = cJSON_GetArrayItem(step, 0)->valuestring;
  const cJSON *v[6];

  for (int i = 1; i < 6; i++) v[i] = cJSON_GetArrayItem(step, i);
  if (strcmp(op, "due") == 0) {
    mg_optimizer_view view = view_of(v[1]);
    mg_optimize_reason got = mg_optimizer_due(optimizer, config, &view);
    if (got != reason_of(v[2]))
      fail_msg("%s: %s at %g", row, mg_optimize_reason_name(got), view.now_ms);
  } else if (strcmp(op, "may") == 0) {
    bool got = mg_optimizer_may(optimizer, reason_of(v[1]), cJSON_IsTrue(v[2]),
                                v[3]->valuedouble);
    if (got != (bool)cJSON_IsTrue(v[4]))
      fail_msg("%s: may is %d at %g", row, got, v[3]->valuedouble);
  } else {
    assert_string_equal(op, "done");
    mg_optimizer_done(optimizer, reason_of(v[1]), cJSON_IsTrue(v[2]),
                      (uint64_t)v[3]->valuedouble, v[4]->valuedouble,
                      v[5]->valuedouble);
  }
}

static double field_of(const mg_optimizer *optimizer, const char *name) {
#define FIELD(field) \
  if (strcmp(name, #field) == 0) return optimizer->field;
  MG_OPTIMIZER_MAP(FIELD)
#undef FIELD
  fail_msg("unknown field %s", name);
  return 0;
}

static void run_row(const cJSON *row) {
  mg_config config = config_of(row);
  mg_optimizer optimizer;
  const cJSON *item;

  mg_optimizer_init(&optimizer);
  cJSON_ArrayForEach(item, item_of(row, "steps"))
      run_step(&optimizer, &config, item, text_of(row, "name"));
  cJSON_ArrayForEach(item, item_of(row, "state")) {
    double got = field_of(&optimizer, item->string);
    if (got != item->valuedouble)
      fail_msg("%s: %s is %.17g", text_of(row, "name"), item->string, got);
  }
}

/* ---- the functions ------------------------------------------------------- */

static void plan_row(const cJSON *row) {
  const cJSON *p = item_of(row, "progress");
  const cJSON *expected = item_of(row, "expect");
  const cJSON *action;
  mg_progress progress = {(uint32_t)cJSON_GetArrayItem(p, 0)->valuedouble,
                          cJSON_GetArrayItem(p, 1)->valuedouble,
                          bytes_of(p, 2), bytes_of(p, 3)};
  mg_plan plan =
      mg_strategy_plan(strategy_of(text_of(row, "strategy")), &progress);
  uint32_t wanted = 0;

  cJSON_ArrayForEach(action, item_of(expected, "actions"))
      wanted |= MG_ACTION_BIT(
          index_of(actions, COUNT_OF(actions), action->valuestring));
  if (plan.actions != wanted)
    fail_msg("%s: %x", text_of(row, "name"), (unsigned)plan.actions);
  assert_true(plan.share == number_of(expected, "share"));
  assert_int_equal(plan.cleans, cJSON_IsTrue(item_of(expected, "cleans")));
  assert_int_equal(plan.flushes, cJSON_IsTrue(item_of(expected, "flushes")));
}

static void freed_row(const cJSON *row) {
  const cJSON *before = item_of(row, "before");
  const cJSON *after = item_of(row, "after");
  mg_measure was = {bytes_of(before, 0), bytes_of(before, 1)};
  mg_measure is = {bytes_of(after, 0), bytes_of(after, 1)};

  assert_int_equal(mg_freed_bytes(&was, &is), number_of(row, "expect"));
}

static void strategy_row(const cJSON *row) {
  mg_strategy got = mg_strategy_for(reason_of(item_of(row, "reason")),
                                    cJSON_IsTrue(item_of(row, "aggressive")));

  assert_string_equal(mg_strategy_name(got), text_of(row, "expect"));
}

static void test_rows(void **state) {
  cJSON *document, *rows = load_rows("optimize.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    const char *op = text_of(row, "op");
    if (strcmp(op, "run") == 0) run_row(row);
    else if (strcmp(op, "plan") == 0) plan_row(row);
    else if (strcmp(op, "freed") == 0) freed_row(row);
    else if (strcmp(op, "strategy") == 0) strategy_row(row);
    else fail_msg("unknown op %s", op);
  }
  cJSON_Delete(document);
}

static void test_foreign_values(void **state) {
  mg_progress progress = {0, 0, MG_ABSENT, MG_ABSENT};

  (void)state;
  assert_int_equal(mg_strategy_plan((mg_strategy)99, &progress).actions, 0);
  assert_string_equal(mg_strategy_name((mg_strategy)99), "unknown");
  assert_string_equal(mg_optimize_reason_name((mg_optimize_reason)99),
                      "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),
                                     cmocka_unit_test(test_foreign_values)};
  return cmocka_run_group_tests_name("optimize", tests, NULL, NULL);
}
