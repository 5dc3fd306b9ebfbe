/* metrics_series.c - walks the table and gives each time series its number. */
#include "memguard/metrics.h"

#include <math.h>
#include <string.h>

#include "metrics_parts.h"

#define SERIES_MOST 1e12 /* what a ratio or a slope is held inside */

/* Where the series of a walk go. */
typedef struct series_walk {
  const mg__metrics_all *all;
  mg__metrics_visit visit;
  void *ctx;
  bool is_over; /* a visit ended it */
} series_walk;

/* ---- numbers ------------------------------------------------------------------ */

double mg__metrics_value(const mg__metrics_number *n) {
  static const double scale[] = {1e0, 1e1, 1e2, 1e3, 1e4,
                                 1e5, 1e6, 1e7, 1e8, 1e9};
  double value = (double)n->units / scale[n->decimals];

  return n->is_negative ? -value : value;
}

static mg__metrics_number series_exact(uint64_t units, uint32_t decimals) {
  return (mg__metrics_number){units, decimals, false};
}

static mg__metrics_number series_real(double value, uint32_t decimals) {
  double held = fmin(fabs(value), SERIES_MOST);

  return (mg__metrics_number){(uint64_t)llround(held * pow(10, decimals)),
                              decimals, value < 0};
}

/* ---- one number of a process ------------------------------------------------ */

/* What the compatible names stand for. */
static mg_metric series_meant(mg_metric metric) {
  switch ((int)metric) {
    case MG_METRIC_MEMORY_ALLOC: return MG_METRIC_ALLOC;
    case MG_METRIC_MEMORY_TOTAL_ALLOC: return MG_METRIC_TOTAL_ALLOC;
    case MG_METRIC_MEMORY_SYS: return MG_METRIC_SYS;
    case MG_METRIC_MEMORY_HEAP_ALLOC: return MG_METRIC_HEAP_ALLOC;
    case MG_METRIC_MEMORY_HEAP_SYS: return MG_METRIC_HEAP_SYS;
    case MG_METRIC_MEMORY_HEAP_IDLE: return MG_METRIC_HEAP_IDLE;
    case MG_METRIC_MEMORY_HEAP_INUSE: return MG_METRIC_HEAP_INUSE;
    case MG_METRIC_MEMORY_HEAP_OBJECTS: return MG_METRIC_HEAP_OBJECTS;
    case MG_METRIC_MEMORY_GC_FRACTION: return MG_METRIC_GC_SHARE;
    case MG_METRIC_PROCESS_RSS: return MG_METRIC_RSS;
    case MG_METRIC_MEMORY_PEAK_RSS: return MG_METRIC_PEAK_RSS;
    case MG_METRIC_GC_PAUSE_DURATION: return MG_METRIC_GC_PAUSE;
    case MG_METRIC_GC_BY_GENERATION: return MG_METRIC_GC_COLLECTIONS;
    case MG_METRIC_PROCESS_FDS: return MG_METRIC_FDS;
    case MG_METRIC_ACTIVE_CONNECTIONS: return MG_METRIC_CONNECTIONS;
    default: return metric;
  }
}

static uint64_t series_reading(const mg_reading *r, mg_metric metric) {
  switch ((int)metric) {
    case MG_METRIC_RSS: return r->rss_bytes;
    case MG_METRIC_SHARED: return r->shared_bytes;
    case MG_METRIC_VIRTUAL: return r->virtual_bytes;
    case MG_METRIC_FDS: return r->fd_count;
    case MG_METRIC_THREADS: return r->thread_count;
    case MG_METRIC_CONNECTIONS: return r->active_connections;
    case MG_METRIC_TOTAL_ALLOC: return r->total_alloc_bytes;
    case MG_METRIC_HEAP_LIMIT: return r->heap_limit_bytes;
    case MG_METRIC_HEAP_OBJECTS: return r->heap_objects;
    case MG_METRIC_EXTERNAL: return r->external_bytes;
    case MG_METRIC_ARRAY_BUFFERS: return r->array_buffer_bytes;
    default: return MG_ABSENT;
  }
}

static uint64_t series_held(const mg__metrics_facts *f, mg_metric metric) {
  switch ((int)metric) {
    case MG_METRIC_ALLOC: return f->alloc;
    case MG_METRIC_SYS: return f->sys;
    case MG_METRIC_HEAP_ALLOC: return f->heap_alloc;
    case MG_METRIC_HEAP_SYS: return f->heap_sys;
    case MG_METRIC_HEAP_IDLE: return f->heap_idle;
    case MG_METRIC_HEAP_INUSE: return f->heap_inuse;
    case MG_METRIC_PEAK_RSS: return f->from->view->sample.peak_rss_bytes;
    case MG_METRIC_POOLS: return f->from->view->now.pools;
    case MG_METRIC_POOL_RENTED: return f->from->view->now.pool_rented;
    case MG_METRIC_POOL_RENTED_BYTES:
      return f->from->view->now.pool_rented_bytes;
    case MG_METRIC_POOL_HELD_BYTES: return f->from->view->now.pool_held_bytes;
    case MG_METRIC_POOL_SUSPECTED: return f->from->view->now.pool_suspected;
    default: return series_reading(&f->from->view->sample.reading, metric);
  }
}

/* What counts while a monitor records. */
static uint64_t series_counted(const mg__metrics_facts *f, mg_metric metric) {
  switch ((int)metric) {
    case MG_METRIC_SAMPLES: return f->from->view->now.number;
    case MG_METRIC_ROUNDS: return f->from->view->now.rounds;
    case MG_METRIC_FREED: return f->from->view->now.freed_bytes;
    case MG_METRIC_ALERTS: return f->from->view->now.alerts;
    case MG_METRIC_EVENTS_LOST: return f->from->view->events_lost;
    case MG_METRIC_MEMORY_GC_COUNT:
      return f->has_kinds ? f->all_gc.count : MG_ABSENT;
    default: return MG_ABSENT;
  }
}

static bool series_real_of(const mg__metrics_facts *f, mg_metric metric,
                           mg__metrics_number *out) {
  const mg_sample *s = &f->from->view->sample;
  double mb = f->growth_mb_per_minute, value = (double)NAN;

  switch ((int)metric) {
    case MG_METRIC_USAGE:
      value = s->domain == MG_DOMAIN_NONE ? (double)NAN : s->usage;
      break;
    case MG_METRIC_PRESSURE:
      value = s->domain == MG_DOMAIN_NONE ? (double)NAN : s->pressure;
      break;
    case MG_METRIC_GC_SHARE: value = f->gc_share; break;
    case MG_METRIC_GROWTH: value = mb * MG_BYTES_PER_MB / 60.0; break;
    case MG_METRIC_MEMORY_GROWTH: value = mb; break;
    default: break;
  }
  if (isnan(value)) return false;
  *out = series_real(value, 6);
  return true;
}

static bool series_time_of(const mg__metrics_facts *f, mg_metric metric,
                           mg__metrics_number *out) {
  const mg_segment_view *view = f->from->view;
  uint64_t cpu_us = view->sample.reading.cpu_us;

  switch ((int)metric) {
    case MG_METRIC_SAMPLE_TIME:
      *out = series_exact(view->sample.unix_ms, 3);
      return true;
    case MG_METRIC_OPEN_TIME:
      *out = series_exact(f->from->header->opened_unix_ms, 3);
      return f->is_recorded;
    case MG_METRIC_CPU:
      *out = series_exact(cpu_us, 6);
      return cpu_us != MG_ABSENT;
    case MG_METRIC_OWN_CPU:
      *out = series_exact(view->own_cpu_us, 6);
      return f->is_recorded;
    default: return false;
  }
}

/* @return false if it is not known. */
static bool series_single(const mg__metrics_facts *f, mg_metric metric,
                          mg__metrics_number *out) {
  uint64_t units = series_held(f, metric);

  if (units == MG_ABSENT && f->is_recorded) units = series_counted(f, metric);
  *out = series_exact(units, 0);
  return units != MG_ABSENT || series_time_of(f, metric, out) ||
         (f->is_recorded && series_real_of(f, metric, out));
}

/* ---- visits ------------------------------------------------------------------- */

static void series_tell(series_walk *w, mg__metrics_series *series) {
  if (!w->is_over && !w->visit(w->ctx, series)) w->is_over = true;
}

static mg__metrics_series series_of(const series_walk *w,
                                    const mg__metrics_facts *f,
                                    mg_metric metric) {
  return (mg__metrics_series){.metric = metric,
                              .process = (size_t)(f - w->all->facts),
                              .owner = &f->owner};
}

static void series_info(series_walk *w, const mg__metrics_facts *f) {
  mg__metrics_series s = series_of(w, f, MG_METRIC_INFO);

  s.extra[0] = (mg_metrics_label){"runtime_version", f->runtime_version};
  s.extra[1] = (mg_metrics_label){"library_version", f->library_version};
  s.extras = 2;
  s.number = series_exact(1, 0);
  series_tell(w, &s);
}

static void series_flag(series_walk *w, mg__metrics_series *s, const char *name,
                        const char *value, bool is_on) {
  s->extra[0] = (mg_metrics_label){name, value};
  s->extras = 1;
  s->number = series_exact(is_on, 0);
  series_tell(w, s);
}

static void series_level(series_walk *w, const mg__metrics_facts *f) {
  mg__metrics_series s = series_of(w, f, MG_METRIC_LEVEL);

  for (int level = 0; level < MG_LEVELS; level++)
    series_flag(w, &s, "level", mg_level_name((mg_level)level),
                f->from->view->sample.level == (mg_level)level);
}

/* @return false: there is no such limit. */
static bool series_limit(const mg_segment_view *view, mg_domain domain,
                         uint64_t *used, uint64_t *limit) {
  const mg_reading *r = &view->sample.reading;
  const uint64_t pairs[MG_DOMAINS][2] = {
      [MG_DOMAIN_NONE] = {0, 0},
      [MG_DOMAIN_CGROUP] = {r->cgroup_used_bytes, r->cgroup_limit_bytes},
      [MG_DOMAIN_MACHINE] =
          {r->machine_available_bytes == MG_ABSENT
               ? MG_ABSENT
               : mg_fall_bytes(r->machine_total_bytes,
                               r->machine_available_bytes),
           r->machine_total_bytes},
      [MG_DOMAIN_ADDRESS] = {r->virtual_bytes, r->address_limit_bytes},
      [MG_DOMAIN_DATA] = {r->data_bytes, r->data_limit_bytes},
      [MG_DOMAIN_HEAP] = {r->heap_used_bytes, r->heap_limit_bytes},
      [MG_DOMAIN_MAX_HEAP] = {r->heap_used_bytes, view->now.max_heap_bytes},
      [MG_DOMAIN_MAX_MEMORY] = {r->rss_bytes, view->now.max_memory_bytes}};

  *used = pairs[domain][0];
  *limit = pairs[domain][1];
  return *limit != 0 && *limit != MG_ABSENT;
}

static void series_limits(series_walk *w, const mg__metrics_facts *f,
                          mg_metric metric) {
  const mg_segment_view *view = f->from->view;
  mg__metrics_series s = series_of(w, f, metric);
  uint64_t used, limit, units;

  s.extras = 1;
  for (int domain = 0; domain < MG_DOMAINS; domain++) {
    if (!series_limit(view, (mg_domain)domain, &used, &limit)) continue;
    units = metric == MG_METRIC_LIMIT        ? limit
            : metric == MG_METRIC_LIMIT_USED ? used
                : view->sample.domain == (mg_domain)domain;
    if (units == MG_ABSENT) continue;
    s.extra[0] = (mg_metrics_label){"domain", mg_domain_name((mg_domain)domain)};
    s.number = series_exact(units, 0);
    series_tell(w, &s);
  }
}

/* Not told by the runtime, or not measured: 0 for ever. */
static uint64_t series_if_any(uint64_t value) {
  return value == 0 ? MG_ABSENT : value;
}

static mg__metrics_number series_gc_number(const mg_segment_gc *gc,
                                           mg_metric metric) {
  switch ((int)metric) {
    case MG_METRIC_GC_COLLECTIONS: return series_exact(gc->count, 0);
    case MG_METRIC_GC_SECONDS: return series_exact(gc->wall_ns, 9);
    case MG_METRIC_GC_CPU: return series_exact(series_if_any(gc->cpu_ns), 9);
    case MG_METRIC_GC_COLLECTED:
      return series_exact(series_if_any(gc->collected), 0);
    case MG_METRIC_GC_PAUSE_MAX:
      return series_exact(series_if_any(gc->max_ns), 9);
    default: return series_exact(gc->wall_ns, 9); /* the histogram's sum */
  }
}

/* The user's label for what CPython calls a generation: its number. */
static const char *series_generation(const char *kind) {
  const char *prefix = "generation";
  size_t bytes = strlen(prefix);

  return strncmp(kind, prefix, bytes) == 0 && kind[bytes] != '\0' ? kind + bytes
                                                                 : kind;
}

static void series_gc(series_walk *w, const mg__metrics_facts *f,
                      mg_metric metric) {
  mg_metric meant = series_meant(metric);
  mg__metrics_series s = series_of(w, f, metric);

  s.extras = 1;
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    if (f->kind[kind][0] == '\0') continue;
    s.extra[0] =
        meant == metric
            ? (mg_metrics_label){"kind", f->kind[kind]}
            : (mg_metrics_label){"generation", series_generation(f->kind[kind])};
    s.number = series_gc_number(&f->gc[kind], meant);
    if (s.number.units == MG_ABSENT) continue;
    s.histogram = meant == MG_METRIC_GC_PAUSE ? &f->pause[kind] : NULL;
    series_tell(w, &s);
  }
}

static void series_pause_ns(series_walk *w, const mg__metrics_facts *f) {
  mg__metrics_series s = series_of(w, f, MG_METRIC_MEMORY_GC_PAUSE);

  s.number = series_exact(f->all_pauses.sum_ns, 0);
  s.histogram = &f->all_pauses;
  series_tell(w, &s);
}

static bool series_is_gc(mg_metric metric) {
  switch ((int)series_meant(metric)) {
    case MG_METRIC_GC_COLLECTIONS:
    case MG_METRIC_GC_SECONDS:
    case MG_METRIC_GC_CPU:
    case MG_METRIC_GC_COLLECTED:
    case MG_METRIC_GC_PAUSE_MAX:
    case MG_METRIC_GC_PAUSE: return true;
    default: return false;
  }
}

/* What a living process shows under one name. */
/* By kind and severity, where there are any. */
static void series_alerts(series_walk *w, const mg__metrics_facts *f) {
  mg__metrics_series s = series_of(w, f, MG_METRIC_ALERTS_ACTIVE);
  uint32_t count[MG_ALERTS][MG_SEVERITIES] = {{0}};
  mg_segment_alerts alerts;

  mg_segment_read_alerts(f->from->segment, &alerts);
  for (uint32_t i = 0; i < alerts.count; i++)
    if (alerts.alert[i].state == MG_ALERT_FIRING)
      count[alerts.alert[i].kind][alerts.alert[i].severity]++;
  s.extras = 2;
  for (int kind = 0; kind < (int)MG_ALERTS; kind++)
    for (int severity = 0; severity < (int)MG_SEVERITIES; severity++) {
      if (count[kind][severity] == 0) continue;
      s.extra[0] = (mg_metrics_label){"kind", mg_alert_name((mg_alert_kind)kind)};
      s.extra[1] = (mg_metrics_label){"severity",
                                      mg_severity_name((mg_severity)severity)};
      s.number = series_exact(count[kind][severity], 0);
      series_tell(w, &s);
    }
}

static void series_alive(series_walk *w, const mg__metrics_facts *f,
                         mg_metric metric) {
  mg__metrics_series s = series_of(w, f, metric);

  if (metric == MG_METRIC_INFO) {
    series_info(w, f);
  } else if (series_is_gc(metric)) {
    if (f->is_recorded) series_gc(w, f, metric);
  } else if (metric == MG_METRIC_MEMORY_GC_PAUSE) {
    if (f->has_kinds) series_pause_ns(w, f);
  } else if (metric == MG_METRIC_ALERTS_ACTIVE) {
    if (f->is_recorded) series_alerts(w, f);
  } else if (!f->has_sample) {
    return;
  } else if (metric == MG_METRIC_LEVEL) {
    if (f->from->view->sample.domain != MG_DOMAIN_NONE) series_level(w, f);
  } else if (metric == MG_METRIC_LIMIT || metric == MG_METRIC_LIMIT_USED ||
             (metric == MG_METRIC_LIMIT_NEAREST && f->is_recorded)) {
    series_limits(w, f, metric);
  } else if (series_single(f, series_meant(metric), &s.number)) {
    series_tell(w, &s);
  }
}

static void series_process(series_walk *w, const mg__metrics_facts *f,
                           mg_metric metric) {
  mg__metrics_series s = series_of(w, f, metric);

  if (metric == MG_METRIC_UP) {
    s.number = series_exact(f->from->is_alive, 0);
    series_tell(w, &s);
  } else if (f->from->is_alive) {
    series_alive(w, f, metric);
  }
}

/* ---- services ----------------------------------------------------------------- */

static void series_ends(series_walk *w, const mg__metrics_service *service,
                        mg__metrics_series *s) {
  for (int verdict = MG_VERDICT_RUNNING + 1; verdict < MG_VERDICTS; verdict++) {
    s->extra[0] =
        (mg_metrics_label){"verdict", mg_verdict_name((mg_verdict)verdict)};
    s->extras = 1;
    s->number = series_exact(service->total.ended[verdict], 0);
    series_tell(w, s);
  }
}

static void series_service_gc(series_walk *w, const mg__metrics_service *service,
                              mg__metrics_series *s) {
  const mg_segment_service *total = &service->total;
  char name[MG__METRICS_CLEAN(24)];

  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    mg__metrics_kind(name, total->kind[kind], kind, total->gc_count[kind]);
    if (name[0] == '\0') continue;
    s->extra[0] = (mg_metrics_label){"kind", name};
    s->extras = 1;
    s->number = s->metric == MG_METRIC_SERVICE_GC
                    ? series_exact(total->gc_count[kind], 0)
                    : series_exact(total->gc_wall_ns[kind], 9);
    series_tell(w, s);
  }
}

/* Of one program. */
static void series_service(series_walk *w, const mg__metrics_service *service,
                           mg_metric metric) {
  mg__metrics_series s = {
      .metric = metric, .process = SIZE_MAX, .owner = &service->owner};

  switch ((int)metric) {
    case MG_METRIC_ENDS: series_ends(w, service, &s); return;
    case MG_METRIC_SERVICE_GC:
    case MG_METRIC_SERVICE_GC_SECONDS: series_service_gc(w, service, &s); return;
    case MG_METRIC_SERVICE_ROUNDS:
      s.number = series_exact(service->total.rounds, 0);
      break;
    case MG_METRIC_SERVICE_FREED:
      s.number = series_exact(service->total.freed_bytes, 0);
      break;
    default:
      s.number = series_exact(service->total.alerts, 0);
      break;
  }
  series_tell(w, &s);
}

static void series_services(series_walk *w, mg_metric metric) {
  static const mg__metrics_owner nobody;
  mg__metrics_series s = {
      .metric = metric, .process = SIZE_MAX, .owner = &nobody};

  if (w->all->services == NULL) return;
  if (metric == MG_METRIC_OMITTED) {
    s.number = series_exact(w->all->omitted, 0);
    series_tell(w, &s);
    return;
  }
  for (size_t i = 0; i < w->all->service_count; i++)
    series_service(w, &w->all->services[i], metric);
}

void mg__metrics_walk(const mg__metrics_all *all, mg__metrics_visit visit,
                      void *ctx) {
  series_walk w = {all, visit, ctx, false};

  for (int id = 0; id < MG_METRICS && !w.is_over; id++) {
    mg_metric metric = (mg_metric)id;
    if ((all->groups & (uint32_t)mg_metric_row_at(metric)->group) == 0)
      continue;
    if (metric >= MG_METRIC_ENDS && metric <= MG_METRIC_OMITTED) {
      series_services(&w, metric);
      continue;
    }
    for (size_t i = 0; i < all->count && !w.is_over; i++)
      series_process(&w, &all->facts[i], metric);
  }
}
