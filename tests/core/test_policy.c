/* test_policy.c - the rows of tests/vectors/policy.json; the README there says how
 * they are made. tests/python/policy_rows.py and tests/node/policy_rows.js do the
 * same. */
#include "vectors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MB 1048576.0
#define ROWS_KB 1024
#define ROWS_ASKED 60

/* A number, or one of the words "nan", "inf" and "-inf". */
static double rows_value(const cJSON *item) {
  return cJSON_IsString(item) ? strtod(item->valuestring, NULL)
                              : item->valuedouble;
}

static double rows_number(const cJSON *object, const char *key,
                          double fallback) {
  const cJSON *item = item_of(object, key);

  return item == NULL ? fallback : rows_value(item);
}

static uint64_t rows_bytes(const cJSON *item) {
  return cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : MG_ABSENT;
}

static mg_action rows_action(const char *name) {
  mg_action action = MG_ACTION_NONE;

  while (action < MG_ACTIONS && strcmp(name, mg_action_name(action)) != 0)
    action++;
  if (action == MG_ACTIONS) fail_msg("no action %s", name);
  return action;
}

static mg_level rows_level(const char *name) {
  mg_level level = MG_LEVEL_NORMAL;

  while (level < MG_LEVELS && strcmp(name, mg_level_name(level)) != 0) level++;
  if (level == MG_LEVELS) fail_msg("no level %s", name);
  return level;
}

/* ---- rows with `steps` --------------------------------------------------- */

typedef struct rows_steps {
  const mg_config *config;
  mg_policy policy;
  mg_policy_view view;
  cJSON *outcomes; /* by action, and for "all" */
  const char *where;
} rows_steps;

static void rows_fail(const rows_steps *s, const cJSON *step, const char *got) {
  fail_msg("%s: %s: got %s", s->where, cJSON_PrintUnformatted(step), got);
}

static void rows_see(rows_steps *s, const cJSON *step) {
  const cJSON *item, *name;

  s->view.now_ms = rows_number(step, "now_ms", s->view.now_ms);
  s->view.usage = rows_number(step, "usage", s->view.usage);
  item = item_of(step, "level");
  if (item != NULL) s->view.level = rows_level(item->valuestring);
  item = item_of(step, "limit_bytes");
  if (item != NULL) s->view.limit_bytes = rows_bytes(item);
  item = item_of(step, "grown_bytes");
  if (item != NULL) s->view.grown_bytes = rows_bytes(item);
  item = item_of(step, "available");
  if (item != NULL) s->view.available = 0;
  cJSON_ArrayForEach(name, item) {
    s->view.available |= MG_ACTION_BIT(rows_action(name->valuestring));
  }
  cJSON_ArrayForEach(item, item_of(step, "outcomes")) {
    cJSON_DeleteItemFromObjectCaseSensitive(s->outcomes, item->string);
    cJSON_AddItemToObject(s->outcomes, item->string, cJSON_Duplicate(item, 1));
  }
}

/* What the row says of `key` for this action, or for all. */
static const cJSON *rows_outcome(const rows_steps *s, mg_action action,
                                 const char *key) {
  const cJSON *item =
      item_of(item_of(s->outcomes, mg_action_name(action)), key);

  return item != NULL ? item : item_of(item_of(s->outcomes, "all"), key);
}

static void rows_done(rows_steps *s, mg_action action) {
  mg_outcome o = {true, 1.0, 0.0, 0, (uint64_t)(100.0 * ROWS_MB), NAN};
  const cJSON *item;

  if ((item = rows_outcome(s, action, "was_done")) != NULL)
    o.was_done = cJSON_IsTrue(item);
  if ((item = rows_outcome(s, action, "took_ms")) != NULL)
    o.took_ms = rows_value(item);
  if ((item = rows_outcome(s, action, "gc_ms")) != NULL)
    o.gc_ms = rows_value(item);
  if ((item = rows_outcome(s, action, "freed_bytes")) != NULL)
    o.freed_bytes = rows_bytes(item);
  if ((item = rows_outcome(s, action, "used_bytes")) != NULL)
    o.used_bytes = rows_bytes(item);
  if ((item = rows_outcome(s, action, "usage_after")) != NULL)
    s->view.usage = o.usage_after = rows_value(item);
  if ((item = rows_outcome(s, action, "grown_after")) != NULL)
    s->view.grown_bytes = rows_bytes(item);
  if (o.took_ms > 0 && isfinite(o.took_ms)) s->view.now_ms += o.took_ms;
  mg_policy_done(&s->policy, s->config, action, &o, s->view.now_ms);
}

static void rows_expect_next(rows_steps *s, const cJSON *step) {
  mg_decision d = mg_policy_next(&s->policy, s->config, &s->view);
  cJSON *got = cJSON_CreateObject();
  const cJSON *wanted;

  cJSON_AddStringToObject(got, "action", mg_action_name(d.action));
  cJSON_AddStringToObject(got, "reason", mg_reason_name(d.reason));
  cJSON_AddStringToObject(got, "level", mg_level_name(d.level));
  cJSON_AddNumberToObject(got, "share", d.share);
  cJSON_AddBoolToObject(got, "begins_round", d.begins_round);
  cJSON_AddBoolToObject(got, "ended_round", d.ended_round);
  cJSON_ArrayForEach(wanted, item_of(step, "next")) {
    if (!cJSON_Compare(item_of(got, wanted->string), wanted, true))
      rows_fail(s, step, cJSON_PrintUnformatted(got));
  }
  cJSON_Delete(got);
}

/* Acts as an engine does until nothing is left to do. */
static void rows_expect_rounds(rows_steps *s, const cJSON *step) {
  cJSON *got = cJSON_CreateArray(), *round = NULL;
  mg_decision d;

  for (int asked = 0; asked < ROWS_ASKED; asked++) {
    d = mg_policy_next(&s->policy, s->config, &s->view);
    if (d.action == MG_ACTION_NONE) break;
    if (d.begins_round || round == NULL) {
      const char *reason =
          d.begins_round ? mg_reason_name(d.reason) : "continued";
      round = cJSON_CreateArray();
      cJSON_AddItemToArray(got, round);
      cJSON_AddItemToArray(round, cJSON_CreateString(reason));
      cJSON_AddItemToArray(round, cJSON_CreateString(mg_level_name(d.level)));
    }
    cJSON_AddItemToArray(round, cJSON_CreateString(mg_action_name(d.action)));
    rows_done(s, d.action);
  }
  if (d.action != MG_ACTION_NONE ||
      !cJSON_Compare(got, item_of(step, "rounds"), true))
    rows_fail(s, step, cJSON_PrintUnformatted(got));
  cJSON_Delete(got);
}

static void rows_expect_state(rows_steps *s, const cJSON *step) {
  const cJSON *item = item_of(step, "may_collect");
  double ms = mg_policy_time_to_limit_ms(&s->policy);

  if (item != NULL) {
    bool may = mg_policy_may_collect(
        &s->policy, s->config,
        rows_level(cJSON_GetArrayItem(item, 0)->valuestring),
        cJSON_GetArrayItem(item, 1)->valuedouble, s->view.now_ms);
    if (may != (bool)cJSON_IsTrue(cJSON_GetArrayItem(item, 2)))
      rows_fail(s, step, may ? "true" : "false");
  }
  item = item_of(step, "time_to_limit_ms");
  if (item != NULL &&
      fabs(ms - (cJSON_IsNull(item) ? -1.0 : item->valuedouble)) > 1e-6)
    rows_fail(s, step, "another time");
  item = item_of(step, "is_unreclaimable");
  if (item != NULL && s->policy.is_unreclaimable != (bool)cJSON_IsTrue(item))
    rows_fail(s, step, "the opposite");
}

static void rows_run_steps(const cJSON *row, const mg_config *config) {
  rows_steps s = {.config = config,
                  .view = {.limit_bytes = MG_ABSENT,
                           .grown_bytes = MG_ABSENT,
                           .available = UINT32_MAX},
                  .outcomes = cJSON_CreateObject(),
                  .where = item_of(row, "name")->valuestring};
  const cJSON *step;

  mg_policy_init(&s.policy);
  cJSON_ArrayForEach(step, item_of(row, "steps")) {
    rows_see(&s, step);
    if (item_of(step, "spent") != NULL)
      mg_policy_spent(&s.policy, rows_number(step, "spent", 0));
    if (item_of(step, "next") != NULL) rows_expect_next(&s, step);
    if (item_of(step, "done") != NULL)
      rows_done(&s, rows_action(item_of(step, "done")->valuestring));
    if (item_of(step, "rounds") != NULL) rows_expect_rounds(&s, step);
    rows_expect_state(&s, step);
  }
  cJSON_Delete(s.outcomes);
}

/* ---- rows with `simulate` ------------------------------------------------ */

/* A process that allocates, seen by an engine, for hours. Whole numbers only, so
 * that it goes alike in every language. */
typedef struct rows_simulation {
  const mg_config *config;
  const cJSON *setup;
  mg_policy policy;
  mg_level_tracker tracker;
  uint32_t random;
  int64_t now_ms, live_kb, garbage_kb, base_kb;
  bool was_unreclaimable;
  double balance_ms, least_ms; /* GC time less budget; its minimum */
  int64_t rounds[MG_REASONS], actions[MG_ACTIONS];
  int64_t gc_ms, gave_up, peak_percent;
} rows_simulation;

static int64_t rows_whole(const cJSON *object, const char *key) {
  const cJSON *item = item_of(object, key);

  if (!cJSON_IsNumber(item)) fail_msg("no number %s", key);
  return (int64_t)item->valuedouble;
}

/* Xorshift (Marsaglia, J. Stat. Soft. 8(14), 2003). */
static int64_t rows_chance(rows_simulation *m, int64_t below) {
  m->random ^= m->random << 13;
  m->random ^= m->random >> 17;
  m->random ^= m->random << 5;
  return (int64_t)m->random % below;
}

static double rows_usage(const rows_simulation *m) {
  return (double)(m->live_kb + m->garbage_kb) /
         (double)(rows_whole(m->setup, "limit_mb") * ROWS_KB);
}

static void rows_pass(rows_simulation *m, int64_t ms) {
  bool is_critical = m->tracker.level == MG_LEVEL_CRITICAL;
  const cJSON *percent =
      cJSON_GetArrayItem(item_of(m->setup, "budget"), is_critical ? 1 : 0);

  m->balance_ms -= (double)ms * percent->valuedouble / 100.0;
}

static const cJSON *rows_phase(const rows_simulation *m, int64_t step) {
  const cJSON *phases = item_of(m->setup, "phases"), *phase;
  int64_t steps = 0;

  cJSON_ArrayForEach(phase, phases) steps += rows_whole(phase, "steps");
  step %= steps;
  cJSON_ArrayForEach(phase, phases) {
    step -= rows_whole(phase, "steps");
    if (step < 0) break;
  }
  return phase;
}

static void rows_allocate(rows_simulation *m, int64_t step) {
  const cJSON *phase = rows_phase(m, step);
  int64_t most_kb = rows_whole(m->setup, "live_max_mb") * ROWS_KB;
  int64_t percent;

  m->live_kb += rows_whole(phase, "live_kb");
  if (m->live_kb > most_kb) m->live_kb = most_kb;
  if (m->live_kb < 0) m->live_kb = 0;
  m->garbage_kb += rows_whole(phase, "garbage_kb") +
                   rows_chance(m, rows_whole(phase, "noise_kb") + 1);
  percent = (int64_t)(rows_usage(m) * 100.0);
  if (percent > m->peak_percent) m->peak_percent = percent;
}

static void rows_act(rows_simulation *m, mg_action action) {
  const cJSON *takes =
      item_of(item_of(m->setup, "actions"), mg_action_name(action));
  int64_t freed_kb = m->garbage_kb * rows_whole(takes, "percent") / 100;
  int64_t gc_ms = rows_whole(takes, "gc_ms"), took_ms;
  int64_t used_kb = m->live_kb + m->garbage_kb;

  if (gc_ms > 0) gc_ms += rows_chance(m, rows_whole(takes, "jitter_ms") + 1);
  took_ms = gc_ms + rows_whole(takes, "other_ms");
  m->garbage_kb -= freed_kb;
  if (action == MG_ACTION_FULL || action == MG_ACTION_RELEASE)
    m->base_kb = used_kb - freed_kb;
  m->now_ms += took_ms;
  rows_pass(m, took_ms);
  m->least_ms = fmin(m->least_ms, m->balance_ms);
  m->balance_ms += (double)gc_ms;
  if (m->balance_ms - m->least_ms >
      MG_POLICY_BUCKET_MS + rows_number(m->setup, "overrun_ms", 0) + 1e-6)
    fail_msg("over the budget at %lld", (long long)m->now_ms);
  mg_policy_done(&m->policy, m->config, action,
                 &(mg_outcome){.was_done = true,
                               .took_ms = (double)took_ms,
                               .gc_ms = (double)gc_ms,
                               .freed_bytes = (uint64_t)freed_kb * ROWS_KB,
                               .used_bytes = (uint64_t)used_kb * ROWS_KB,
                               .usage_after = rows_usage(m)},
                 (double)m->now_ms);
  m->actions[action]++;
  m->gc_ms += gc_ms;
}

static mg_action rows_ask(rows_simulation *m, uint32_t available) {
  int64_t grown_kb = m->live_kb + m->garbage_kb - m->base_kb;
  mg_policy_view view = {.now_ms = (double)m->now_ms,
                         .usage = rows_usage(m),
                         .level = m->tracker.level,
                         .grown_bytes = MG_ABSENT,
                         .available = available};
  mg_decision d;

  view.limit_bytes =
      (uint64_t)rows_whole(m->setup, "limit_mb") * ROWS_KB * ROWS_KB;
  if (grown_kb < 0) grown_kb = 0;
  if (cJSON_IsTrue(item_of(m->setup, "counts_bytes")))
    view.grown_bytes = (uint64_t)grown_kb * ROWS_KB;
  d = mg_policy_next(&m->policy, m->config, &view);
  if (d.begins_round) m->rounds[d.reason]++;
  if (m->policy.is_unreclaimable && !m->was_unreclaimable) m->gave_up++;
  m->was_unreclaimable = m->policy.is_unreclaimable;
  return d.action;
}

static void rows_expect_count(const char *name, const cJSON *expected,
                              int64_t got) {
  int64_t wanted = expected == NULL ? 0 : (int64_t)expected->valuedouble;

  if (wanted != got)
    fail_msg("%s: %lld, not %lld", name, (long long)got, (long long)wanted);
}

static void rows_expect_found(const rows_simulation *m, const cJSON *expect) {
  for (int i = 0; i < MG_REASONS; i++) {
    const char *name = mg_reason_name((mg_reason)i);
    rows_expect_count(name, item_of(item_of(expect, "rounds"), name),
                      m->rounds[i]);
  }
  for (int i = 0; i < MG_ACTIONS; i++) {
    const char *name = mg_action_name((mg_action)i);
    rows_expect_count(name, item_of(item_of(expect, "actions"), name),
                      m->actions[i]);
  }
  rows_expect_count("gc_ms", item_of(expect, "gc_ms"), m->gc_ms);
  rows_expect_count("unreclaimable", item_of(expect, "unreclaimable"),
                    m->gave_up);
  rows_expect_count("peak_percent", item_of(expect, "peak_percent"),
                    m->peak_percent);
}

static void rows_run_simulation(const cJSON *row, const mg_config *config) {
  rows_simulation m = {.config = config,
                       .setup = item_of(row, "simulate"),
                       .random = 2463534242u};
  int64_t until_ms = rows_whole(m.setup, "minutes") * 60000, seen_ms = 0;
  uint32_t available = 0;
  const cJSON *item;
  mg_action action;

  cJSON_ArrayForEach(item, item_of(m.setup, "actions")) {
    available |= MG_ACTION_BIT(rows_action(item->string));
  }
  mg_policy_init(&m.policy);
  m.live_kb = m.base_kb = rows_whole(m.setup, "live_mb") * ROWS_KB;
  for (int64_t step = 0; m.now_ms < until_ms; step++) {
    rows_allocate(&m, step);
    mg_level_update(&m.tracker, config, rows_usage(&m), (double)m.now_ms);
    rows_pass(&m, m.now_ms - seen_ms);
    while ((action = rows_ask(&m, available)) != MG_ACTION_NONE)
      rows_act(&m, action);
    seen_ms = m.now_ms;
    m.now_ms += rows_whole(m.setup, "step_ms");
  }
  rows_expect_found(&m, item_of(row, "expect"));
}

/* ---- tests ---------------------------------------------------------------- */

static void test_policy(void **state) {
  cJSON *document, *rows = load_rows("policy.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    mg_config config = config_of(row);
    if (item_of(row, "simulate") != NULL)
      rows_run_simulation(row, &config);
    else
      rows_run_steps(row, &config);
  }
  cJSON_Delete(document);
}

static void test_budget_bytes(void **state) {
  cJSON *document, *rows = load_rows("budget_bytes.json", &document), *row;

  (void)state;
  cJSON_ArrayForEach(row, rows) {
    uint64_t got = mg_policy_budget_bytes(rows_bytes(item_of(row, "limit_bytes")),
                                          rows_number(row, "usage", 0));
    if (got != rows_bytes(item_of(row, "expect")))
      fail_msg("%s: %llu", text_of(row, "name"), (unsigned long long)got);
  }
  cJSON_Delete(document);
}

static void test_collections(void **state) {
  (void)state;
  assert_int_equal(MG_COLLECTIONS, MG_ACTION_BIT(MG_ACTION_YOUNG) |
                                       MG_ACTION_BIT(MG_ACTION_FULL) |
                                       MG_ACTION_BIT(MG_ACTION_RELEASE));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_policy),
                                     cmocka_unit_test(test_collections),
                                     cmocka_unit_test(test_budget_bytes)};
  return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
