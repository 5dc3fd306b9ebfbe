/* web_record.c - what the recorder of a process keeps, as JSON. */
#include "memguard/web.h"

#include "web_parts.h"

/* ---- history ------------------------------------------------------------------ */

static void record_write_fields(mg__json *json) {
  static const char *const fields[] = {
      "unix_ms",   "rss_bytes", "heap_used_bytes", "external_bytes",
      "cgroup_used_bytes", "gc_wall_ns", "gc_count", "usage_ppm",
      "fd_count",  "thread_count", "level", "domain"};

  mg__json_array(json, "fields");
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    mg__json_text(json, NULL, fields[i]);
  mg__json_end(json);
}

static void record_write_u32(mg__json *json, uint32_t value) {
  mg__json_uint(json, NULL, value == UINT32_MAX ? MG_ABSENT : value);
}

static void record_write_point(mg__json *json, const mg_segment_point *point) {
  mg__json_array(json, NULL);
  mg__json_uint(json, NULL, point->unix_ms);
  mg__json_uint(json, NULL, point->rss_bytes);
  mg__json_uint(json, NULL, point->heap_used_bytes);
  mg__json_uint(json, NULL, point->external_bytes);
  mg__json_uint(json, NULL, point->cgroup_used_bytes);
  mg__json_uint(json, NULL, point->gc_wall_ns);
  mg__json_uint(json, NULL, point->gc_count);
  mg__json_uint(json, NULL, point->usage_ppm);
  record_write_u32(json, point->fd_count);
  record_write_u32(json, point->thread_count);
  mg__json_text(json, NULL, mg_level_name((mg_level)point->level));
  mg__json_text(json, NULL, mg_domain_name((mg_domain)point->domain));
  mg__json_end(json);
}

void mg__web_write_history(mg__json *json, const mg_metrics_process *process,
                           const mg_web_job *job) {
  mg_segment_point *points =
      mg__alloc_untouched(MG_SEGMENT_SECONDS * sizeof *points);
  size_t count;

  if (points == NULL) {
    json->has_failed = true;
    return;
  }
  count = mg_segment_points(process->segment, job->ring, points, job->max);
  mg__json_object(json, NULL);
  mg__json_uint(json, "pid", process->header->pid);
  mg__json_text(json, "ring",
                job->ring == MG_SEGMENT_BY_MINUTE ? "minute" : "second");
  record_write_fields(json);
  mg__json_array(json, "points");
  for (size_t i = 0; i < count; i++)
    if (points[i].unix_ms > job->since_unix_ms)
      record_write_point(json, &points[i]);
  mg__json_end(json);
  mg__json_end(json);
  mg__free(points);
}

/* ---- notes --------------------------------------------------------------------- */

static void record_write_issues(mg__json *json, uint32_t issues) {
  mg__json_array(json, "issues");
#define RECORD_ISSUE(id, bit, name, text) \
  if ((issues & MG_ISSUE_##id) != 0) mg__json_text(json, NULL, name);
  MG_ISSUE_MAP(RECORD_ISSUE)
#undef RECORD_ISSUE
  mg__json_end(json);
}

static void record_write_alert(mg__json *json, const mg_segment_note *note) {
  mg__json_object(json, NULL);
  mg__json_uint(json, "unix_ms", note->unix_ms);
  mg__json_uint(json, "last_unix_ms", note->last_unix_ms);
  mg__json_uint(json, "repeats", note->repeats);
  mg__json_text(json, "event", mg_event_name((mg_event_kind)note->event));
  mg__json_text(json, "severity", mg_health_name((mg_health)note->severity));
  mg__json_text(json, "level", mg_level_name((mg_level)note->level));
  mg__json_text(json, "previous", mg_level_name((mg_level)note->previous));
  record_write_issues(json, note->issues);
  mg__json_number(json, "usage_percent", 100 * note->usage_after);
  mg__json_uint(json, "rss_bytes", note->rss_bytes);
  if (note->event == MG_EVENT_RAPID_GROWTH) {
    mg__json_text(json, "growing", note->growth_is_heap != 0 ? "heap" : "rss");
    mg__json_number(json, "mb_per_minute", note->mb_per_minute);
  }
  if (note->counter[0] != '\0') {
    mg__json_text(json, "counter", note->counter);
    mg__json_uint(json, "count", note->count);
    mg__json_uint(json, "threshold", note->threshold);
  }
  mg__json_end(json);
}

static void record_write_actions(mg__json *json, uint32_t actions) {
  mg__json_array(json, "actions");
  for (int action = 0; action < MG_ACTIONS; action++)
    if ((actions & MG_ACTION_BIT(action)) != 0)
      mg__json_text(json, NULL, mg_action_name((mg_action)action));
  mg__json_end(json);
}

static void record_write_round(mg__json *json, const mg_segment_note *note) {
  mg__json_object(json, NULL);
  mg__json_uint(json, "unix_ms", note->unix_ms);
  mg__json_uint(json, "round", note->round);
  mg__json_text(json, "reason", mg_reason_name((mg_reason)note->reason));
  record_write_actions(json, note->actions);
  mg__json_number(json, "took_ms", note->took_ms);
  mg__json_number(json, "gc_ms", note->gc_ms);
  mg__json_number(json, "usage_before", note->usage_before);
  mg__json_number(json, "usage_after", note->usage_after);
  mg__json_uint(json, "freed_bytes", note->freed_bytes);
  mg__json_uint(json, "rss_bytes", note->rss_bytes);
  mg__json_end(json);
}

static void record_write_notes(mg__json *json, const char *key,
                               mg_segment *segment, mg_segment_note_kind kind,
                               void (*write)(mg__json *json,
                                             const mg_segment_note *note)) {
  mg_segment_note notes[MG_SEGMENT_NOTES];
  size_t count = mg_segment_notes(segment, notes, MG_SEGMENT_NOTES);

  mg__json_array(json, key);
  for (size_t i = 0; i < count; i++)
    if (notes[i].kind == (uint32_t)kind) write(json, &notes[i]);
  mg__json_end(json);
}

void mg__web_write_alerts(mg__json *json, const mg_metrics_process *process) {
  mg_segment_alerts alerts;

  mg_segment_read_alerts(process->segment, &alerts);
  mg__json_object(json, NULL);
  mg__web_write_active(json, "active", &alerts, -1);
  record_write_notes(json, "history", process->segment, MG_SEGMENT_ALERT,
                     record_write_alert);
  mg__json_end(json);
}

void mg__web_write_optimizations(mg__json *json,
                                 const mg_metrics_process *process) {
  mg__json_object(json, NULL);
  record_write_notes(json, "optimizations", process->segment, MG_SEGMENT_ACTION,
                     record_write_round);
  mg__json_end(json);
}

/* ---- leaks --------------------------------------------------------------------- */

void mg__web_write_leaks(mg__json *json, const mg_metrics_process *process) {
  mg_segment_alerts alerts;
  mg_segment_types types;

  mg_segment_read_alerts(process->segment, &alerts);
  mg_segment_read_types(process->segment, &types);
  mg__json_object(json, NULL);
  mg__web_write_active(json, "leaks", &alerts, MG_ALERT_MEMORY_LEAK);
  mg__json_array(json, "types");
  for (uint32_t i = 0; i < types.count; i++) {
    const mg_segment_type *type = &types.type[i];
    mg__json_object(json, NULL);
    mg__json_text(json, "name", type->name);
    mg__json_uint(json, "count", type->count);
    mg__json_uint(json, "bytes", type->bytes);
    mg__json_int(json, "grown_count", type->grown_count);
    mg__json_int(json, "grown_bytes", type->grown_bytes);
    mg__json_end(json);
  }
  mg__json_end(json);
  mg__json_uint(json, "span_ms", types.count == 0 ? MG_ABSENT : types.span_ms);
  mg__json_end(json);
}
