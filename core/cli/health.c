/* health.c - the command `memguard health`: is anything wrong, in one word.
 *
 *   ok        samples come, level normal or elevated
 *   warning   level high; or no sample for three times its interval and 5 s
 *   critical  level critical */
#include <string.h>

#include "memguard/monitor.h"
#include "pid.h"

#define HEALTH_LATE_MS 5000u

typedef struct health_verdict {
  mg_health health;
  const char *reason;
} health_verdict;

static health_verdict health_of(const process *one, uint64_t now_ms) {
  const mg_segment_view *view = &one->view;
  uint64_t interval = view->next_unix_ms > view->heartbeat_unix_ms
                          ? view->next_unix_ms - view->heartbeat_unix_ms
                          : 0;
  uint64_t late_ms = view->heartbeat_unix_ms + 3 * interval + HEALTH_LATE_MS;

  if (view->sample.level == MG_LEVEL_CRITICAL)
    return (health_verdict){MG_HEALTH_CRITICAL, "memory is critical"};
  if (view->sample.level == MG_LEVEL_HIGH)
    return (health_verdict){MG_HEALTH_WARNING, "memory is high"};
  if (view->state == MG_SEGMENT_RUNNING && now_ms > late_ms)
    return (health_verdict){MG_HEALTH_WARNING, "it has not sampled for a while"};
  return (health_verdict){MG_HEALTH_HEALTHY, "memory is as it should be"};
}

static void health_print(const process *one, const health_verdict *verdict) {
  printf("%-8s %7u  ", mg_health_name(verdict->health), one->header->pid);
  cli_print_safe(stdout, one->header->program, 24);
  printf("  %s, %.0f %% of its limit (%s)\n", verdict->reason,
         100 * one->view.sample.usage, mg_domain_name(one->view.sample.domain));
}

static cJSON *health_json(const process *one, const health_verdict *verdict) {
  cJSON *row = cJSON_CreateObject();

  cJSON_AddNumberToObject(row, "pid", one->header->pid);
  cJSON_AddStringToObject(row, "program", one->header->program);
  cJSON_AddStringToObject(row, "status", mg_health_name(verdict->health));
  cJSON_AddStringToObject(row, "reason", verdict->reason);
  cJSON_AddStringToObject(row, "level", mg_level_name(one->view.sample.level));
  cJSON_AddNumberToObject(row, "usage_percent", 100 * one->view.sample.usage);
  return row;
}

/* Only living processes are ill or well; a dead one that was asked for is said so. */
static int health_check(const process *items, size_t count, bool is_json) {
  cJSON *document = cJSON_CreateObject();
  cJSON *rows = cJSON_AddArrayToObject(document, "processes");
  mg_health worst = MG_HEALTH_HEALTHY;
  uint64_t now_ms = (uint64_t)cli_unix_ms();

  for (size_t i = 0; i < count; i++) {
    health_verdict verdict = health_of(&items[i], now_ms);
    if (verdict.health > worst) worst = verdict.health;
    if (is_json)
      cJSON_AddItemToArray(rows, health_json(&items[i], &verdict));
    else
      health_print(&items[i], &verdict);
  }
  cJSON_AddStringToObject(document, "status", mg_health_name(worst));
  if (is_json)
    cli_print_json(document);
  else
    cJSON_Delete(document);
  if (count == 0 && !is_json) puts("no process is under memguard");
  return worst == MG_HEALTH_HEALTHY ? CLI_OK : CLI_FOUND;
}

int cli_health(int argc, char **argv) {
  pid_options options;
  processes list;
  process one;
  int code = pid_read_options(&options, argc, argv, false);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  if (options.pid == 0) {
    code = processes_read(&list, false);
    if (code != CLI_OK) return code;
    code = health_check(list.item, list.count, options.is_json);
    processes_free(&list);
    return code;
  }
  code = process_find(&one, options.pid);
  if (code != CLI_OK) return code;
  if (one.is_alive)
    code = health_check(&one, 1, options.is_json);
  else
    code = cli_fail(CLI_FOUND, "process %ld has ended; `memguard postmortem` tells why",
                    options.pid);
  process_close(&one);
  return code;
}
