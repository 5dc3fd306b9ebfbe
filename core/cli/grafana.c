/* grafana.c - prints a Grafana dashboard of memguard's metrics. */
#include "grafana.h"

#include <string.h>

#include "cli.h"

#define GRAFANA_SCHEMA 39
#define GRAFANA_COLUMNS 24
#define GRAFANA_STAT_WIDTH 6
#define GRAFANA_STAT_HEIGHT 4
#define GRAFANA_GRAPH_WIDTH 12
#define GRAFANA_GRAPH_HEIGHT 8
#define GRAFANA_KNOWN "memguard_process_info"

typedef struct panel {
  const char *type, *title, *unit, *description;
  const char *query[2], *legend[2];
} panel;

static const panel panels[] = {
#define GRAFANA_ROW(type, title, unit, description, one, legend, two, legend_two) \
  {type, title, unit, description, {one, two}, {legend, legend_two}},
    GRAFANA_MAP(GRAFANA_ROW)
#undef GRAFANA_ROW
};
#define GRAFANA_PANELS (sizeof panels / sizeof *panels)

/* Where the next panel goes. */
typedef struct grafana_place {
  int x, y, height; /* of what stands in this line */
} grafana_place;

/* ---- variables -------------------------------------------------------------- */

static void grafana_add_source(cJSON *to) {
  cJSON *source = cJSON_AddObjectToObject(to, "datasource");

  cJSON_AddStringToObject(source, "type", "prometheus");
  cJSON_AddStringToObject(source, "uid", "${datasource}");
}

static void grafana_add_variable(cJSON *list, const char *name,
                                 const char *label, const char *filter) {
  char query[256];
  cJSON *made = cJSON_CreateObject(), *current;

  snprintf(query, sizeof query, "label_values(" GRAFANA_KNOWN "%s, %s)", filter,
           name);
  cJSON_AddItemToArray(list, made);
  cJSON_AddStringToObject(made, "name", name);
  cJSON_AddStringToObject(made, "label", label);
  cJSON_AddStringToObject(made, "type", "query");
  grafana_add_source(made);
  cJSON_AddStringToObject(made, "query", query);
  cJSON_AddStringToObject(made, "definition", query);
  cJSON_AddBoolToObject(made, "multi", true);
  cJSON_AddBoolToObject(made, "includeAll", true);
  cJSON_AddStringToObject(made, "allValue", ".+");
  cJSON_AddNumberToObject(made, "refresh", 2); /* when the time changes */
  cJSON_AddNumberToObject(made, "sort", 1);
  current = cJSON_AddObjectToObject(made, "current");
  cJSON_AddStringToObject(current, "text", "All");
  cJSON_AddStringToObject(current, "value", "$__all");
}

static void grafana_add_variables(cJSON *dashboard) {
  cJSON *list = cJSON_AddArrayToObject(
            cJSON_AddObjectToObject(dashboard, "templating"), "list"),
        *source = cJSON_CreateObject();

  cJSON_AddItemToArray(list, source);
  cJSON_AddStringToObject(source, "name", "datasource");
  cJSON_AddStringToObject(source, "label", "Data source");
  cJSON_AddStringToObject(source, "type", "datasource");
  cJSON_AddStringToObject(source, "query", "prometheus");
  grafana_add_variable(list, "job", "Job", "");
  grafana_add_variable(list, "instance", "Instance", "{job=~\"$job\"}");
  grafana_add_variable(list, "program", "Program",
                       "{job=~\"$job\",instance=~\"$instance\"}");
}

/* ---- panels ------------------------------------------------------------------ */

static void grafana_add_place(cJSON *made, grafana_place *place, int width,
                              int height) {
  cJSON *grid = cJSON_AddObjectToObject(made, "gridPos");

  if (place->x + width > GRAFANA_COLUMNS) {
    place->x = 0;
    place->y += place->height;
    place->height = 0;
  }
  cJSON_AddNumberToObject(grid, "x", place->x);
  cJSON_AddNumberToObject(grid, "y", place->y);
  cJSON_AddNumberToObject(grid, "w", width);
  cJSON_AddNumberToObject(grid, "h", height);
  place->x += width;
  place->height = height;
}

static void grafana_add_targets(cJSON *made, const panel *p) {
  cJSON *targets = cJSON_AddArrayToObject(made, "targets");

  for (int i = 0; i < 2 && p->query[i][0] != '\0'; i++) {
    cJSON *target = cJSON_CreateObject();
    cJSON_AddItemToArray(targets, target);
    grafana_add_source(target);
    cJSON_AddStringToObject(target, "refId", i == 0 ? "A" : "B");
    cJSON_AddStringToObject(target, "expr", p->query[i]);
    cJSON_AddStringToObject(target, "legendFormat", p->legend[i]);
  }
}

static void grafana_add_look(cJSON *made, const panel *p) {
  cJSON *defaults = cJSON_AddObjectToObject(
            cJSON_AddObjectToObject(made, "fieldConfig"), "defaults"),
        *options = cJSON_AddObjectToObject(made, "options");
  bool is_graph = strcmp(p->type, "timeseries") == 0;

  cJSON_AddStringToObject(defaults, "unit", p->unit);
  cJSON_AddNumberToObject(defaults, "min", 0);
  if (strcmp(p->title, "Growth") == 0) /* memory shrinks, too */
    cJSON_DeleteItemFromObject(defaults, "min");
  if (!is_graph) return;
  options = cJSON_AddObjectToObject(options, "tooltip");
  cJSON_AddStringToObject(options, "mode", "multi");
  cJSON_AddStringToObject(options, "sort", "desc");
}

static void grafana_add_panel(cJSON *list, const panel *p, int id,
                              grafana_place *place) {
  cJSON *made = cJSON_CreateObject();

  cJSON_AddItemToArray(list, made);
  cJSON_AddNumberToObject(made, "id", id);
  cJSON_AddStringToObject(made, "type", p->type);
  cJSON_AddStringToObject(made, "title", p->title);
  if (strcmp(p->type, "row") == 0) {
    cJSON_AddBoolToObject(made, "collapsed", false);
    cJSON_AddArrayToObject(made, "panels");
    grafana_add_place(made, place, GRAFANA_COLUMNS, 1);
    return;
  }
  cJSON_AddStringToObject(made, "description", p->description);
  grafana_add_source(made);
  if (strcmp(p->type, "stat") == 0)
    grafana_add_place(made, place, GRAFANA_STAT_WIDTH, GRAFANA_STAT_HEIGHT);
  else
    grafana_add_place(made, place, GRAFANA_GRAPH_WIDTH, GRAFANA_GRAPH_HEIGHT);
  grafana_add_targets(made, p);
  grafana_add_look(made, p);
}

int grafana_print(void) {
  static const char *const tags[] = {"memguard", "memory"};
  cJSON *dashboard = cJSON_CreateObject(), *list, *time;
  grafana_place place = {0, 0, 0};

  if (dashboard == NULL) return cli_fail(CLI_SYSTEM, "no memory");
  cJSON_AddStringToObject(dashboard, "uid", "memguard");
  cJSON_AddStringToObject(dashboard, "title", "memguard");
  cJSON_AddStringToObject(dashboard, "description",
                          "Memory of Python and Node processes, by memguard "
                          MG_VERSION);
  cJSON_AddItemToObject(dashboard, "tags", cJSON_CreateStringArray(tags, 2));
  cJSON_AddBoolToObject(dashboard, "editable", false);
  cJSON_AddNumberToObject(dashboard, "schemaVersion", GRAFANA_SCHEMA);
  cJSON_AddNumberToObject(dashboard, "graphTooltip", 1); /* one cursor for all */
  cJSON_AddStringToObject(dashboard, "refresh", "30s");
  cJSON_AddStringToObject(dashboard, "timezone", "browser");
  time = cJSON_AddObjectToObject(dashboard, "time");
  cJSON_AddStringToObject(time, "from", "now-1h");
  cJSON_AddStringToObject(time, "to", "now");
  grafana_add_variables(dashboard);
  list = cJSON_AddArrayToObject(dashboard, "panels");
  for (size_t i = 0; i < GRAFANA_PANELS; i++)
    grafana_add_panel(list, &panels[i], (int)i + 1, &place);
  return cli_print_json(dashboard);
}
