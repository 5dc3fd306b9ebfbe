/* metrics.c - the table of metrics, the doors to them, and what is counted for
 * them beside segments. */
#include "memguard/metrics.h"

#include <stdatomic.h>
#include <string.h>

#include "metrics_parts.h"

/* ---- names ---------------------------------------------------------------------- */

const mg_metric_row *mg_metric_row_at(mg_metric metric) {
  static const mg_metric_row rows[] = {
#define METRICS_ROW(id, type, group, name, unit, help) \
  {MG_METRIC_##type, MG_METRICS_##group, name, unit, help},
      MG_METRIC_MAP(METRICS_ROW)
#undef METRICS_ROW
  };
  return (unsigned)metric < MG_METRICS ? &rows[metric] : NULL;
}

const char *mg_metric_type_name(mg_metric_type type) {
  static const char *const names[] = {
#define METRICS_NAME(id, name) name,
      MG_METRIC_TYPE_MAP(METRICS_NAME)};
  return (unsigned)type < MG_METRIC_TYPES ? names[type] : "unknown";
}

const char *mg_metrics_content_type(mg_metrics_format format) {
  static const char *const types[] = {MG_METRICS_FORMAT_MAP(METRICS_NAME)};
#undef METRICS_NAME
  return (unsigned)format < MG_METRICS_FORMATS ? types[format] : "unknown";
}

uint64_t mg_metrics_bound_ns(uint32_t index) {
  static const uint64_t bounds[MG_METRICS_BOUNDS] = {
      10000,    30000,    100000,    300000,    1000000,
      3000000,  5000000,  10000000,  20000000,  50000000,
      100000000, 200000000, 500000000, 1000000000, 5000000000};
  return index < MG_METRICS_BOUNDS ? bounds[index] : UINT64_MAX;
}

/* ---- connections ------------------------------------------------------------------ */

static _Atomic int64_t metrics_connections;
static _Atomic bool metrics_has_connections;

void mg_metrics_add_connections(int64_t change) {
  atomic_fetch_add(&metrics_connections, change);
  atomic_store(&metrics_has_connections, true);
}

uint64_t mg__connections_read(void) {
  int64_t count = atomic_load(&metrics_connections);

  if (!atomic_load(&metrics_has_connections)) return MG_ABSENT;
  return count > 0 ? (uint64_t)count : 0;
}

/* Those of the parent are not its own. */
void mg__connections_after_fork_in_child(void) {
  atomic_store(&metrics_connections, 0);
}

/* ---- telling ---------------------------------------------------------------------- */

/* Processes as far as they are shown, and all that was said of services. */
static mg_status metrics_gather(mg__metrics_all *all,
                                const mg_metrics_process *list,
                                mg__metrics_facts **out_facts, mg_error *err) {
  mg__metrics_facts *facts =
      mg__alloc_untouched((all->count + 1) * sizeof *facts);

  *out_facts = facts;
  if (facts == NULL)
    return mg__fail(err, MG_ENOMEM, "metrics of %zu processes", all->count);
  for (size_t i = 0; i < all->count; i++)
    mg__metrics_gather(&facts[i], &list[i]);
  all->facts = facts;
  return MG_OK;
}

mg_status mg__metrics_tell(const mg_metrics_process *list, size_t count,
                           const mg_segment_service *services,
                           size_t service_count, uint32_t groups,
                           mg__metrics_visit visit, void *ctx, mg_error *err) {
  mg__metrics_all all = {.count = count, .groups = groups};
  mg__metrics_service *made = NULL;
  mg__metrics_facts *facts;
  mg_status st;

  if (groups == 0 || (groups & ~(uint32_t)MG_METRICS_ALL) != 0)
    return mg__fail(err, MG_EINVAL, "groups is %u, need 1 to %d", groups,
                    MG_METRICS_ALL);
  if (all.count > MG_METRICS_PROCESSES) all.count = MG_METRICS_PROCESSES;
  all.omitted = count - all.count;
  st = metrics_gather(&all, list, &facts, err);
  if (st != MG_OK) return st;
  if (services != NULL)
    st = mg__metrics_services(&made, &all.service_count, list, count, services,
                              service_count, err);
  all.services = made;
  if (st == MG_OK) mg__metrics_walk(&all, visit, ctx);
  mg__free(made);
  mg__free(facts);
  return st;
}

/* ---- points ------------------------------------------------------------------------- */

typedef struct metrics_points {
  bool (*visit)(void *ctx, const mg_metrics_point *point);
  void *ctx;
} metrics_points;

static bool metrics_point(void *ctx, const mg__metrics_series *s) {
  const metrics_points *to = ctx;
  mg_metrics_point point = {.metric = s->metric,
                            .process = s->process,
                            .labels = s->owner->labels + s->extras,
                            .value = mg__metrics_value(&s->number),
                            .histogram = s->histogram};

  for (uint32_t i = 0; i < s->owner->labels; i++)
    point.label[i] = s->owner->label[i];
  for (uint32_t i = 0; i < s->extras; i++)
    point.label[s->owner->labels + i] = s->extra[i];
  return to->visit(to->ctx, &point);
}

mg_status mg_metrics_each(const mg_metrics_process *list, size_t count,
                          const mg_segment_service *services,
                          size_t service_count, uint32_t groups,
                          bool (*visit)(void *, const mg_metrics_point *),
                          void *ctx, mg_error *err) {
  metrics_points to = {visit, ctx};

  return mg__metrics_tell(list, count, services, service_count, groups,
                          metrics_point, &to, err);
}

/* ---- this process -------------------------------------------------------------------- */

typedef struct metrics_own {
  mg_segment *segment;
  mg_segment_view view;
  mg_metrics_process process;
} metrics_own;

static mg_status metrics_open_own(metrics_own *own, mg_error *err) {
  mg_status st = mg_segment_open_own(&own->segment, err);

  if (st != MG_OK) return st;
  st = mg_segment_read(own->segment, &own->view, err);
  own->process = (mg_metrics_process){
      .segment = own->segment,
      .header = mg_segment_header_of(own->segment),
      .view = &own->view,
      .is_alive = true};
  if (st != MG_OK) mg_segment_close(own->segment);
  return st;
}

mg_status mg_metrics_render_own(char **out, size_t *out_bytes,
                                mg_metrics_format format, uint32_t groups,
                                mg_error *err) {
  metrics_own own;
  mg_status st = metrics_open_own(&own, err);

  *out = NULL;
  if (st != MG_OK) return st;
  st = mg_metrics_render(out, out_bytes, &own.process, 1, NULL, 0, format,
                         groups, err);
  mg_segment_close(own.segment);
  return st;
}

mg_status mg_metrics_each_own(uint32_t groups,
                              bool (*visit)(void *, const mg_metrics_point *),
                              void *ctx, mg_error *err) {
  metrics_own own;
  mg_status st = metrics_open_own(&own, err);

  if (st != MG_OK) return st;
  st = mg_metrics_each(&own.process, 1, NULL, 0, groups, visit, ctx, err);
  mg_segment_close(own.segment);
  return st;
}
