/* web_process.c - what a process shows of itself, as JSON. */
#include "memguard/web.h"

#include <math.h>

#include "web_parts.h"

static void process_write_gc(mg__json *json, const mg_metrics_process *process) {
  mg__json_object(json, "gc");
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    const mg_segment_gc *gc = &process->view->gc[kind];
    mg_pause_stats stats;
    if (gc->count == 0) continue;
    mg_segment_gc_stats(process->segment, kind, &stats);
    mg__json_key(json, process->header->kind[kind]);
    mg__json_object(json, NULL);
    mg__json_uint(json, "count", gc->count);
    mg__json_number(json, "total_ms", (double)gc->wall_ns / 1e6);
    mg__json_number(json, "p95_ms", (double)stats.p95_ns / 1e6);
    mg__json_number(json, "max_ms", (double)gc->max_ns / 1e6);
    mg__json_uint(json, "collected", gc->collected);
    mg__json_end(json);
  }
  mg__json_end(json);
}

static void process_write_reading(mg__json *json, const mg_reading *reading) {
  mg__json_object(json, "reading");
#define PROCESS_READING(field, doc) mg__json_uint(json, #field, reading->field);
  MG_READING_MAP(PROCESS_READING)
#undef PROCESS_READING
  mg__json_end(json);
}

/* How it ended, or that it did not. */
static const char *process_verdict(const mg_metrics_process *process) {
  mg_postmortem_report report;
  mg_postmortem_facts facts;

  if (process->is_alive) return mg_verdict_name(MG_VERDICT_RUNNING);
  if (mg_segment_facts(process->segment, &facts, NULL) != MG_OK)
    return mg_verdict_name(MG_VERDICTS);
  facts.is_alive = false;
  mg_postmortem(&facts, &report);
  return mg_verdict_name(report.verdict);
}

void mg__web_write_active(mg__json *json, const char *key,
                          const mg_segment_alerts *alerts, int kind) {
  char text[MG_ALERT_JSON_BYTES];

  mg__json_array(json, key);
  for (uint32_t i = 0; i < alerts->count; i++) {
    const mg_alert *alert = &alerts->alert[i];
    size_t bytes;
    if (alert->state != MG_ALERT_FIRING ||
        (kind >= 0 && alert->kind != (uint32_t)kind))
      continue;
    bytes = mg_alert_json(alert, text, sizeof text);
    if (bytes < sizeof text) mg__json_raw(json, NULL, text, bytes);
  }
  mg__json_end(json);
}

static void process_write_counts(mg__json *json, const mg_segment_now *now) {
  mg__json_uint(json, "alerts", now->alerts);
  mg__json_uint(json, "rounds", now->rounds);
  mg__json_uint(json, "freed_bytes", now->freed_bytes);
  mg__json_uint(json, "pool_held_bytes", now->pool_held_bytes);
  mg__json_uint(json, "pool_rented", now->pool_rented);
}

void mg__web_write_process(mg__json *json, const char *key,
                           const mg_metrics_process *process) {
  const mg_segment_header *header = process->header;
  const mg_segment_view *view = process->view;
  mg_segment_alerts alerts;

  mg__json_object(json, key);
  mg__json_uint(json, "pid", header->pid);
  mg__json_text(json, "program", header->program);
  mg__json_text(json, "runtime", header->runtime);
  mg__json_text(json, "runtime_version", header->runtime_version);
  mg__json_bool(json, "alive", process->is_alive);
  mg__json_text(json, "state", mg_segment_state_name(view->state));
  mg__json_text(json, "verdict", process_verdict(process));
  mg__json_uint(json, "heartbeat_unix_ms", view->heartbeat_unix_ms);
  mg__json_text(json, "level", mg_level_name(view->sample.level));
  mg__json_number(json, "usage_percent", 100 * view->sample.usage);
  mg__json_text(json, "domain", mg_domain_name(view->sample.domain));
  mg__json_uint(json, "limit_bytes", mg_segment_limit_bytes(view));
  mg__json_uint(json, "native_bytes", mg_segment_native_bytes(view));
  mg__json_uint(json, "peak_rss_bytes", view->sample.peak_rss_bytes);
  process_write_reading(json, &view->sample.reading);
  process_write_gc(json, process);
  mg__json_number(json, "last_pause_ms", mg_segment_last_pause_ms(view));
  process_write_counts(json, &view->now);
  mg_segment_read_alerts(process->segment, &alerts);
  mg__web_write_active(json, "alerts_active", &alerts, -1);
  mg__json_end(json);
}

mg_status mg_web_process(char **out, const mg_metrics_process *process,
                         mg_error *err) {
  mg__json json = MG__JSON_INIT;
  size_t bytes;

  mg__web_write_process(&json, NULL, process);
  *out = mg__json_take(&json, &bytes);
  return *out != NULL ? MG_OK : mg__fail(err, MG_ENOMEM, "JSON of a process");
}

bool mg__web_is_live(const mg_metrics_process *process, uint64_t unix_ms) {
  const mg_segment_view *view = process->view;
  uint64_t due_unix_ms = view->heartbeat_unix_ms != 0
                             ? view->next_unix_ms
                             : process->header->opened_unix_ms; /* the first */

  return process->is_alive && view->state == MG_SEGMENT_RUNNING &&
         (double)unix_ms <= (double)due_unix_ms + MG_WEB_STALE_MS;
}

bool mg__web_is_well(const mg_metrics_process *process, uint64_t unix_ms) {
  mg_segment_alerts alerts;

  if (!mg__web_is_live(process, unix_ms) ||
      process->view->sample.level != MG_LEVEL_NORMAL)
    return false;
  mg_segment_read_alerts(process->segment, &alerts);
  for (uint32_t i = 0; i < alerts.count; i++)
    if (alerts.alert[i].state == MG_ALERT_FIRING &&
        alerts.alert[i].severity >= MG_SEVERITY_WARNING)
      return false;
  return true;
}
