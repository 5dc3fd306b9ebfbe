/* test_postmortem.c - verdicts on an end. */
#include "support.h"

#define MIB UINT64_C(1048576)

typedef struct row {
  const char *what;
  bool is_alive;
  mg_segment_state state;
  uint64_t cgroup_used, cgroup_limit, heap_used, heap_limit;
  uint64_t kills_then, kills_after;
  mg_verdict verdict;
  mg_domain domain;
} row;

static const row rows[] = {
    {"it runs", true, MG_SEGMENT_RUNNING, 99 * MIB, 100 * MIB, MG_ABSENT,
     MG_ABSENT, 0, 1, MG_VERDICT_RUNNING, MG_DOMAIN_CGROUP},
    {"exit()", false, MG_SEGMENT_EXITED, 99 * MIB, 100 * MIB, MG_ABSENT,
     MG_ABSENT, 0, 1, MG_VERDICT_CLEAN_EXIT, MG_DOMAIN_CGROUP},
    {"stopped before", false, MG_SEGMENT_STOPPED, 10 * MIB, 100 * MIB,
     MG_ABSENT, MG_ABSENT, 0, 0, MG_VERDICT_CLEAN_EXIT, MG_DOMAIN_CGROUP},
    {"at the limit", false, MG_SEGMENT_RUNNING, 95 * MIB, 100 * MIB, MG_ABSENT,
     MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_VERDICT_OOM_LIKELY, MG_DOMAIN_CGROUP},
    {"just below", false, MG_SEGMENT_RUNNING, 95 * MIB - 1, 100 * MIB,
     MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_VERDICT_KILLED,
     MG_DOMAIN_CGROUP},
    {"far below, but the kernel killed", false, MG_SEGMENT_RUNNING, 10 * MIB,
     100 * MIB, MG_ABSENT, MG_ABSENT, 3, 4, MG_VERDICT_OOM_LIKELY,
     MG_DOMAIN_CGROUP},
    {"killed others before", false, MG_SEGMENT_RUNNING, 10 * MIB, 100 * MIB,
     MG_ABSENT, MG_ABSENT, 3, 3, MG_VERDICT_KILLED, MG_DOMAIN_CGROUP},
    {"the group is gone", false, MG_SEGMENT_RUNNING, 10 * MIB, 100 * MIB,
     MG_ABSENT, MG_ABSENT, 3, MG_ABSENT, MG_VERDICT_KILLED, MG_DOMAIN_CGROUP},
    {"not known before", false, MG_SEGMENT_RUNNING, 10 * MIB, 100 * MIB,
     MG_ABSENT, MG_ABSENT, MG_ABSENT, 5, MG_VERDICT_KILLED, MG_DOMAIN_CGROUP},
    {"heap of the runtime", false, MG_SEGMENT_RUNNING, 10 * MIB, 100 * MIB,
     96 * MIB, 100 * MIB, 0, 0, MG_VERDICT_OOM_LIKELY, MG_DOMAIN_HEAP},
    {"nothing is known", false, MG_SEGMENT_RUNNING, MG_ABSENT, MG_ABSENT,
     MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_ABSENT, MG_VERDICT_KILLED,
     MG_DOMAIN_NONE},
};

static void test_verdicts(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const row *r = &rows[i];
    mg_postmortem_facts facts = {.is_alive = r->is_alive,
                                 .state = r->state,
                                 .oom_kills_then = r->kills_then,
                                 .oom_kills_after = r->kills_after};
    mg_postmortem_report report;
    mg_reading_init(&facts.last);
    facts.last.cgroup_used_bytes = r->cgroup_used;
    facts.last.cgroup_limit_bytes = r->cgroup_limit;
    facts.last.heap_used_bytes = r->heap_used;
    facts.last.heap_limit_bytes = r->heap_limit;
    mg_postmortem(&facts, &report);
    if (report.verdict != r->verdict || report.domain != r->domain)
      fail_msg("%s: %s, %s", r->what, mg_verdict_name(report.verdict),
               mg_domain_name(report.domain));
  }
}

/* max_memory_mb and max_heap_mb are wishes: passing them kills nobody. */
static void test_settings_do_not_count(void **state) {
  mg_postmortem_facts facts = {.state = MG_SEGMENT_RUNNING,
                               .oom_kills_then = MG_ABSENT,
                               .oom_kills_after = MG_ABSENT};
  mg_postmortem_report report;

  (void)state;
  mg_reading_init(&facts.last);
  facts.last.rss_bytes = 64 * 1024 * MIB;
  facts.last.heap_used_bytes = 64 * 1024 * MIB;
  mg_postmortem(&facts, &report);
  assert_int_equal(report.verdict, MG_VERDICT_KILLED);
  assert_true(report.usage == 0.0);
}

static void test_names(void **state) {
  (void)state;
  assert_string_equal(mg_verdict_name(MG_VERDICT_CLEAN_EXIT), "clean exit");
  assert_string_equal(mg_verdict_name(MG_VERDICT_OOM_LIKELY), "OOM likely");
  assert_string_equal(mg_verdict_name(MG_VERDICT_KILLED), "killed, not memory");
  assert_string_equal(mg_verdict_name((mg_verdict)77), "unknown");
  assert_string_equal(mg_verdict_text((mg_verdict)77), "unknown");
  assert_string_equal(mg_segment_state_name(MG_SEGMENT_STOPPED), "stopped");
  assert_string_equal(mg_segment_state_name((mg_segment_state)77), "unknown");
  assert_string_equal(mg_segment_note_name(MG_SEGMENT_ACTION), "action");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_verdicts),
      cmocka_unit_test(test_settings_do_not_count),
      cmocka_unit_test(test_names)};

  return cmocka_run_group_tests(tests, NULL, NULL);
}
