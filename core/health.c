/* health.c - what a reading means by the thresholds, and how to say it. */
#include "memguard/monitor.h"

#include "internal.h"

const char *mg_health_name(mg_health health) {
  static const char *const names[] = {
#define HEALTH_NAME(id, name) name,
      MG_HEALTH_MAP(HEALTH_NAME)
#undef HEALTH_NAME
  };
  return (unsigned)health < sizeof names / sizeof *names ? names[health]
                                                         : "unknown";
}

const char *mg_issue_name(mg_issue issue) {
  switch (issue) {
#define HEALTH_ISSUE_NAME(id, bit, name, text) \
  case MG_ISSUE_##id:                         \
    return name;
    MG_ISSUE_MAP(HEALTH_ISSUE_NAME)
#undef HEALTH_ISSUE_NAME
  }
  return "unknown";
}

const char *mg_issue_text(mg_issue issue) {
  switch (issue) {
#define HEALTH_ISSUE_TEXT(id, bit, name, text) \
  case MG_ISSUE_##id:                         \
    return text;
    MG_ISSUE_MAP(HEALTH_ISSUE_TEXT)
#undef HEALTH_ISSUE_TEXT
  }
  return "unknown";
}

static uint32_t health_heap_issue(const mg_config *config, const mg_reading *r) {
  double percent;

  if (r->heap_used_bytes == MG_ABSENT || r->heap_limit_bytes == MG_ABSENT ||
      r->heap_limit_bytes == 0)
    return 0;
  percent = 100.0 * (double)r->heap_used_bytes / (double)r->heap_limit_bytes;
  if (percent >= mg_config_get(config, MG_CONFIG_HEAP_USED_CRITICAL))
    return MG_ISSUE_HEAP_CRITICAL;
  if (percent >= mg_config_get(config, MG_CONFIG_HEAP_USED_WARNING))
    return MG_ISSUE_HEAP_WARNING;
  return 0;
}

static uint32_t health_rss_issue(const mg_config *config, const mg_reading *r) {
  double mb;

  if (r->rss_bytes == MG_ABSENT) return 0;
  mb = (double)r->rss_bytes / MG_BYTES_PER_MB;
  if (mb >= mg_config_get(config, MG_CONFIG_RSS_CRITICAL))
    return MG_ISSUE_RSS_CRITICAL;
  if (mb >= mg_config_get(config, MG_CONFIG_RSS_WARNING))
    return MG_ISSUE_RSS_WARNING;
  return 0;
}

#define HEALTH_CRITICAL_ISSUES                      \
  ((uint32_t)(MG_ISSUE_HEAP_CRITICAL | MG_ISSUE_RSS_CRITICAL | \
              MG_ISSUE_LEVEL_CRITICAL))

mg_health mg__health_severity(uint32_t issues) {
  if (issues & HEALTH_CRITICAL_ISSUES) return MG_HEALTH_CRITICAL;
  return issues != 0 ? MG_HEALTH_WARNING : MG_HEALTH_HEALTHY;
}

uint32_t mg__health_issues(const mg_config *config, const mg_reading *r) {
  return health_heap_issue(config, r) | health_rss_issue(config, r);
}
