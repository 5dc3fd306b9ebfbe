/* web_render.c - renders what is read from segments, and what a process answered. */
#include "memguard/web.h"

#include <math.h>
#include <string.h>

#include "web_parts.h"

/* ---- which process -------------------------------------------------------------- */

/* The process of that pid: the living one, else the youngest. */
static size_t render_find(const mg_web_job *job, const mg_metrics_process *list,
                          size_t count) {
  size_t best = count;

  for (size_t i = 0; i < count; i++) {
    const mg_metrics_process *one = &list[i], *other = &list[best];
    if (one->header->pid != job->pid) continue;
    if (best == count ||
        (one->is_alive == other->is_alive
             ? one->header->start_time >= other->header->start_time
             : one->is_alive))
      best = i;
  }
  return best;
}

static bool render_choose(const mg_web_job *job, const mg_metrics_process *list,
                          size_t count, size_t *out, mg_web_response *response) {
  size_t alive = 0;

  *out = job->has_pid ? render_find(job, list, count) : 0;
  for (size_t i = 0; i < count; i++) alive += list[i].is_alive;
  if (job->has_pid) {
    if (*out < count) return true;
    mg__web_error(response, 404, job->is_head,
                  "query pid is %u, allowed: a process that GET "
                  "/api/v1/processes lists", job->pid);
    return false;
  }
  if (count == 0) {
    mg__web_error(response, 503, job->is_head, "no process shows itself");
    return false;
  }
  if (alive != 1 && count != 1) {
    mg__web_error(response, 400, job->is_head,
                  "query pid is missing, allowed: one of %zu processes that GET "
                  "/api/v1/processes lists", count);
    return false;
  }
  while (alive == 1 && !list[*out].is_alive) ++*out;
  return true;
}

bool mg_web_choose(mg_web *web, const mg_web_job *job,
                   const mg_metrics_process *list, size_t count, size_t *out,
                   mg_web_response *response) {
  (void)web;
  if (!render_choose(job, list, count, out, response)) return false;
  if (list[*out].is_alive) return true;
  mg__web_error(response, 410, job->is_head,
                "process %u has ended, allowed: one that is alive",
                list[*out].header->pid);
  return false;
}

/* ---- stats ------------------------------------------------------------------------ */

/* Numbers that a memory monitor shows, as far as they are metrics. */
static bool render_take_point(void *ctx, const mg_metrics_point *point) {
  double *value = ctx;

  if (point->process != SIZE_MAX) value[point->metric] = point->value;
  return true;
}

static void render_mark(mg__json *json, const char *key, double percent) {
  if (percent > 0)
    mg__json_number(json, key, percent);
  else
    mg__json_null(json, key);
}

static void render_memory(mg__json *json, const mg_metrics_process *one) {
  const mg_segment_view *view = one->view;
  double value[MG_METRICS];
  bool has_sample = view->sample.number != 0;

  for (int i = 0; i < MG_METRICS; i++) value[i] = (double)NAN;
  if (mg_metrics_each(one, 1, NULL, 0, MG_METRICS_COMPATIBLE, render_take_point,
                      value, NULL) != MG_OK)
    json->has_failed = true;
  mg__json_object(json, "memory");
  mg__json_number(json, "alloc_bytes", value[MG_METRIC_MEMORY_ALLOC]);
  mg__json_number(json, "total_alloc_bytes", value[MG_METRIC_MEMORY_TOTAL_ALLOC]);
  mg__json_number(json, "sys_bytes", value[MG_METRIC_MEMORY_SYS]);
  mg__json_number(json, "heap_alloc_bytes", value[MG_METRIC_MEMORY_HEAP_ALLOC]);
  mg__json_number(json, "heap_sys_bytes", value[MG_METRIC_MEMORY_HEAP_SYS]);
  mg__json_number(json, "heap_idle_bytes", value[MG_METRIC_MEMORY_HEAP_IDLE]);
  mg__json_number(json, "heap_inuse_bytes", value[MG_METRIC_MEMORY_HEAP_INUSE]);
  mg__json_number(json, "heap_objects", value[MG_METRIC_MEMORY_HEAP_OBJECTS]);
  mg__json_number(json, "gc_count", value[MG_METRIC_MEMORY_GC_COUNT]);
  mg__json_number(json, "gc_cpu_fraction", value[MG_METRIC_MEMORY_GC_FRACTION]);
  mg__json_number(json, "usage_percent",
                  has_sample ? 100 * view->sample.usage : (double)NAN);
  mg__json_number(json, "max_memory_mb",
                  has_sample ? (double)view->now.max_memory_bytes / MG_BYTES_PER_MB
                             : (double)NAN);
  render_mark(json, "high_water_mark", view->mark_percent[MG_SEGMENT_HIGH_WATER]);
  render_mark(json, "low_water_mark", view->mark_percent[MG_SEGMENT_LOW_WATER]);
  render_mark(json, "alert_threshold", view->mark_percent[MG_SEGMENT_ALERT_AT]);
  mg__json_end(json);
}

/* ---- health ------------------------------------------------------------------------ */

static void render_life(mg_web_response *out, const mg_web_job *job,
                        const mg_metrics_process *one, uint32_t status,
                        const char *word) {
  mg__json json = MG__JSON_INIT;

  mg__json_object(&json, NULL);
  mg__json_text(&json, "status", word);
  if (one != NULL) {
    mg__json_uint(&json, "heartbeat_unix_ms", one->view->heartbeat_unix_ms);
    mg__json_number(&json, "usage_percent", 100 * one->view->sample.usage);
  }
  mg__json_end(&json);
  mg__web_finish(out, status, job->is_head, &json);
}

static void render_livez(mg_web_response *out, const mg_web_job *job,
                         const mg_metrics_process *one) {
  if (mg__web_is_live(one, job->unix_ms))
    render_life(out, job, NULL, 200, "ok");
  else
    render_life(out, job, one, 503,
                !one->is_alive ? "ended"
                : one->view->state == MG_SEGMENT_RUNNING ? "stale"
                                                         : "stopped");
}

static void render_readyz(const mg_web *web, mg_web_response *out,
                          const mg_web_job *job, const mg_metrics_process *one) {
  double most = web->ready_below_percent;

  if (!mg__web_is_live(one, job->unix_ms))
    render_livez(out, job, one);
  else if (most > 0 && 100 * one->view->sample.usage >= most)
    render_life(out, job, one, 503, "memory");
  else
    render_life(out, job, NULL, 200, "ok");
}

static void render_health(mg_web_response *out, const mg_web_job *job,
                          const mg_metrics_process *list, size_t count) {
  mg__json json = MG__JSON_INIT;
  const char *word = "ok";

  for (size_t i = 0; i < count; i++)
    if (!mg__web_is_well(&list[i], job->unix_ms)) word = "warning";
  mg__json_object(&json, NULL);
  mg__json_text(&json, "status", word);
  mg__json_uint(&json, "time", job->unix_ms / 1000);
  mg__json_object(&json, "services");
  mg__json_text(&json, "memory", word);
  mg__json_end(&json);
  mg__json_end(&json);
  mg__web_finish(out, 200, job->is_head, &json);
}

/* Of the living ones: what ended is no news every time. */
static void render_fleet_health(mg_web_response *out, const mg_web_job *job,
                                const mg_metrics_process *list, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (list[i].is_alive && !mg__web_is_well(&list[i], job->unix_ms)) {
      render_health(out, job, &list[i], 1);
      return;
    }
  render_health(out, job, NULL, 0);
}

/* ---- one process, or all ------------------------------------------------------------ */

static void render_one(const mg_web *web, mg_web_response *out,
                       const mg_web_job *job, const mg_metrics_process *one) {
  mg__json json = MG__JSON_INIT;

  switch (job->route) {
    case MG_WEB_LIVEZ: render_livez(out, job, one); return;
    case MG_WEB_READYZ: render_readyz(web, out, job, one); return;
    case MG_WEB_HEALTH: render_health(out, job, one, 1); return;
    case MG_WEB_HISTORY: mg__web_write_history(&json, one, job); break;
    case MG_WEB_ALERTS: mg__web_write_alerts(&json, one); break;
    case MG_WEB_OPTIMIZATIONS: mg__web_write_optimizations(&json, one); break;
    case MG_WEB_LEAKS: mg__web_write_leaks(&json, one); break;
    default:
      mg__json_object(&json, NULL);
      render_memory(&json, one);
      mg__web_write_process(&json, "process", one);
      mg__json_end(&json);
  }
  mg__web_finish(out, 200, job->is_head, &json);
}

static void render_processes(mg_web_response *out, const mg_web_job *job,
                             const mg_metrics_process *list, size_t count) {
  mg__json json = MG__JSON_INIT;

  mg__json_object(&json, NULL);
  mg__json_uint(&json, "unix_ms", job->unix_ms);
  mg__json_array(&json, "processes");
  for (size_t i = 0; i < count; i++)
    if (!job->has_pid || list[i].header->pid == job->pid)
      mg__web_write_process(&json, NULL, &list[i]);
  mg__json_end(&json);
  mg__json_end(&json);
  mg__web_finish(out, 200, job->is_head, &json);
}

static void render_metrics(mg_web_response *out, const mg_web_job *job,
                           const mg_metrics_process *list, size_t count,
                           const mg_segment_service *services,
                           size_t service_count) {
  mg_metrics_format format = job->wants_openmetrics ? MG_METRICS_OPENMETRICS
                                                    : MG_METRICS_PROMETHEUS;
  char *text = NULL;
  size_t bytes = 0;

  (void)mg_metrics_render(&text, &bytes, list, count, services, service_count,
                          format, MG_METRICS_ALL, NULL);
  mg__web_begin(out, 200, job->is_head, mg_metrics_content_type(format));
  mg__web_own(out, text, bytes);
}

void mg_web_read(mg_web *web, const mg_web_job *job,
                 const mg_metrics_process *list, size_t count,
                 const mg_segment_service *services, size_t service_count,
                 mg_web_response *out) {
  bool is_site = web->is_fleet && !job->has_pid;
  size_t at;

  if (job->route == MG_WEB_PROCESSES)
    render_processes(out, job, list, count);
  else if (job->route == MG_WEB_METRICS && !job->has_pid)
    render_metrics(out, job, list, count, services, service_count);
  else if (is_site && job->route == MG_WEB_HEALTH)
    render_fleet_health(out, job, list, count);
  else if (is_site && (job->route == MG_WEB_LIVEZ || job->route == MG_WEB_READYZ))
    render_life(out, job, NULL, 200, "ok");
  else if (!render_choose(job, list, count, &at, out))
    return;
  else if (job->route == MG_WEB_METRICS)
    render_metrics(out, job, &list[at], 1, NULL, 0);
  else
    render_one(web, out, job, &list[at]);
}

/* ---- answers -------------------------------------------------------------------------- */

static uint32_t render_status(mg_status status) {
  switch (status) {
    case MG_OK: return 200;
    case MG_EINVAL:
    case MG_EKEY:
    case MG_ETYPE:
    case MG_ERANGE:
    case MG_ECONFLICT:
    case MG_EENCODING: return 400;
    case MG_EBROKEN: return 502;
    case MG_ENOMEM:
    case MG_EABSENT:
    case MG_ENOTFOUND: /* nobody listens there, so far or any more */
    case MG_ECLOSED: return 503;
    case MG_ETIMEOUT: return 504;
    default: return 500;
  }
}

void mg_web_answered(mg_web *web, const mg_web_job *job, mg_status status,
                     const char *text, mg_web_response *out) {
  mg__json json = MG__JSON_INIT;
  size_t bytes;

  (void)web;
  if (text == NULL) text = "";
  bytes = strlen(text);
  if (status != MG_OK) {
    mg__web_error(out, render_status(status), job->is_head, "%s",
                  text[0] != '\0' ? text : mg_status_text(status));
    return;
  }
  if (!mg__json_check(text, bytes, NULL)) {
    mg__web_error(out, 502, job->is_head, "the process answered no JSON");
    return;
  }
  if (job->route == MG_WEB_COLLECT) {
    mg__json_object(&json, NULL);
    mg__json_text(&json, "message", "Garbage collection completed");
    mg__json_raw(&json, "round", text, bytes);
    mg__json_end(&json);
  } else {
    mg__json_raw(&json, NULL, text, bytes);
  }
  mg__web_finish(out, 200, job->is_head, &json);
}
