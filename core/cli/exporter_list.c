/* exporter_list.c - `memguard exporter --list-metrics`: the table of all metrics. */
#include "cli.h"
#include "exporter.h"
#include "memguard/metrics.h"

static const char *list_group(const mg_metric_row *row) {
  return row->group == MG_METRICS_CANONICAL ? "canonical" : "compatible";
}

static int list_json(void) {
  cJSON *document = cJSON_CreateObject();
  cJSON *metrics = cJSON_AddArrayToObject(document, "metrics");

  for (int i = 0; i < MG_METRICS; i++) {
    const mg_metric_row *row = mg_metric_row_at((mg_metric)i);
    cJSON *metric = cJSON_CreateObject();
    cJSON_AddStringToObject(metric, "name", row->name);
    cJSON_AddStringToObject(metric, "type", mg_metric_type_name(row->type));
    cJSON_AddStringToObject(metric, "unit", row->unit);
    cJSON_AddStringToObject(metric, "group", list_group(row));
    cJSON_AddStringToObject(metric, "help", row->help);
    cJSON_AddItemToArray(metrics, metric);
  }
  return cli_print_json(document);
}

int exporter_list(bool is_json) {
  if (is_json) return list_json();
  for (int i = 0; i < MG_METRICS; i++) {
    const mg_metric_row *row = mg_metric_row_at((mg_metric)i);
    printf("%s (%s%s%s)\n    %s\n", row->name, mg_metric_type_name(row->type),
           row->unit[0] == '\0' ? "" : ", ", row->unit, row->help);
  }
  return CLI_OK;
}
