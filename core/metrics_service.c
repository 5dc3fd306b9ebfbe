/* metrics_service.c - what all processes of a program did, dead ones included. */
#include "memguard/metrics.h"

#include <string.h>

#include "metrics_parts.h"

static mg__metrics_service *service_of(mg__metrics_service *list, size_t *count,
                                       const char *runtime,
                                       const char *program) {
  mg__metrics_service *s;

  for (size_t i = 0; i < *count; i++)
    if (strcmp(list[i].total.runtime, runtime) == 0 &&
        strcmp(list[i].total.program, program) == 0)
      return &list[i];
  s = &list[(*count)++];
  memcpy(s->total.runtime, runtime, strlen(runtime) + 1);
  memcpy(s->total.program, program, strlen(program) + 1);
  mg__metrics_clean(s->runtime, sizeof s->runtime, runtime);
  mg__metrics_clean(s->program, sizeof s->program, program);
  s->owner.label[0] = (mg_metrics_label){"program", s->program};
  s->owner.label[1] = (mg_metrics_label){"runtime", s->runtime};
  s->owner.labels = 2;
  mg__metrics_prefix(&s->owner);
  return s;
}

static void service_add_account(mg_segment_service *to,
                                const mg_segment_service *account) {
  memcpy(to->kind, account->kind, sizeof to->kind);
  for (int verdict = 0; verdict < MG_VERDICTS; verdict++)
    to->ended[verdict] += account->ended[verdict];
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    to->gc_count[kind] += account->gc_count[kind];
    to->gc_wall_ns[kind] += account->gc_wall_ns[kind];
  }
  to->rounds += account->rounds;
  to->freed_bytes += account->freed_bytes;
  to->alerts += account->alerts;
}

static void service_add_process(mg_segment_service *to,
                                const mg_metrics_process *process) {
  const mg_segment_view *view = process->view;
  mg_postmortem_facts facts;
  mg_postmortem_report report;

  memcpy(to->kind, process->header->kind, sizeof to->kind);
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    to->gc_count[kind] += view->gc[kind].count;
    to->gc_wall_ns[kind] += view->gc[kind].wall_ns;
  }
  to->rounds += view->now.rounds;
  to->freed_bytes += view->now.freed_bytes;
  to->alerts += view->now.alerts;
  if (process->is_alive ||
      mg_segment_facts(process->segment, &facts, NULL) != MG_OK)
    return;
  facts.is_alive = false;
  mg_postmortem(&facts, &report);
  to->ended[report.verdict]++;
}

mg_status mg__metrics_services(mg__metrics_service **out, size_t *out_count,
                               const mg_metrics_process *list, size_t count,
                               const mg_segment_service *services,
                               size_t service_count, mg_error *err) {
  size_t most = count + service_count;
  mg__metrics_service *made = mg__alloc((most + 1) * sizeof *made);

  *out = made;
  *out_count = 0;
  if (made == NULL) return mg__fail(err, MG_ENOMEM, "%zu services", most);
  for (size_t i = 0; i < service_count; i++)
    service_add_account(&service_of(made, out_count, services[i].runtime,
                                    services[i].program)
                             ->total,
                        &services[i]);
  for (size_t i = 0; i < count; i++)
    if (!list[i].view->is_folded)
      service_add_process(&service_of(made, out_count, list[i].header->runtime,
                                      list[i].header->program)
                               ->total,
                          &list[i]);
  return MG_OK;
}
