/* postmortem.c - what an end looks like: pure. */
#include "internal.h"
#include "memguard/segment.h"

static const char *const postmortem_names[] = {
#define POSTMORTEM_NAME(id, name, text) name,
    MG_VERDICT_MAP(POSTMORTEM_NAME)
#undef POSTMORTEM_NAME
};

static const char *const postmortem_texts[] = {
#define POSTMORTEM_TEXT(id, name, text) text,
    MG_VERDICT_MAP(POSTMORTEM_TEXT)
#undef POSTMORTEM_TEXT
};

const char *mg_verdict_name(mg_verdict verdict) {
  return (unsigned)verdict < MG_VERDICTS ? postmortem_names[verdict]
                                         : "unknown";
}

const char *mg_verdict_text(mg_verdict verdict) {
  return (unsigned)verdict < MG_VERDICTS ? postmortem_texts[verdict]
                                         : "unknown";
}

const char *mg_segment_state_name(mg_segment_state state) {
  static const char *const names[] = {
#define POSTMORTEM_NAME(id, name) name,
      MG_SEGMENT_STATE_MAP(POSTMORTEM_NAME)};
  return (unsigned)state < MG_SEGMENT_STATES ? names[state] : "unknown";
}

const char *mg_segment_note_name(mg_segment_note_kind kind) {
  static const char *const names[] = {MG_SEGMENT_NOTE_MAP(POSTMORTEM_NAME)};
#undef POSTMORTEM_NAME
  return (unsigned)kind < MG_SEGMENT_NOTE_KINDS ? names[kind] : "unknown";
}

static mg_verdict postmortem_judge(const mg_postmortem_facts *facts,
                                   const mg_postmortem_report *report) {
  if (facts->is_alive) return MG_VERDICT_RUNNING;
  if (facts->state != MG_SEGMENT_RUNNING) return MG_VERDICT_CLEAN_EXIT;
  if (report->has_oom_kill || report->usage >= MG_VERDICT_USAGE)
    return MG_VERDICT_OOM_LIKELY;
  return MG_VERDICT_KILLED;
}

void mg_postmortem(const mg_postmortem_facts *facts,
                   mg_postmortem_report *out) {
  mg_config config;

  /* Without settings that limit, the domains are those that kill. */
  mg_config_init(&config, MG_PROFILE_DEFAULT);
  config.value[MG_CONFIG_MAX_MEMORY_MB] = 0.0;
  config.value[MG_CONFIG_MAX_HEAP_MB] = 0.0;
  *out = (mg_postmortem_report){.domain = MG_DOMAIN_NONE};
  out->usage = mg_usage(&facts->last, &config, &out->domain);
  out->has_oom_kill = facts->oom_kills_then != MG_ABSENT &&
                      facts->oom_kills_after != MG_ABSENT &&
                      facts->oom_kills_after > facts->oom_kills_then;
  out->verdict = postmortem_judge(facts, out);
}
