/* top.c - the command `memguard top`: its rows, and what it prints --once. */
#include "top.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chart.h"

#define TOP_SPARK_COLUMNS 20
#define TOP_SPARK_SECONDS 60
#define TOP_BAR_COLUMNS 10
#define TOP_RATE_POINTS 10

const top_column_row top_columns[TOP_COLUMN_COUNT] = {
#define TOP_COLUMN_ROW(id, key, name, width, header) {name, header, width, key},
    TOP_COLUMNS(TOP_COLUMN_ROW)
#undef TOP_COLUMN_ROW
};

top_column top_column_find(const char *name) {
  int column = 0;

  while (column < TOP_COLUMN_COUNT &&
         (top_columns[column].key == 0 || strcmp(top_columns[column].name, name) != 0))
    column++;
  return (top_column)column;
}

/* ---- figures ------------------------------------------------------------------ */

double top_gc_rate(const process *one) {
  mg_segment_point points[TOP_RATE_POINTS];
  size_t count = mg_segment_points(one->segment, MG_SEGMENT_BY_SECOND, points,
                                   TOP_RATE_POINTS);
  const mg_segment_point *first = points, *last = points + count - 1;

  if (count < 2 || last->unix_ms <= first->unix_ms) return 0;
  return (double)(last->gc_count - first->gc_count) * 1e3 /
         (double)(last->unix_ms - first->unix_ms);
}

/* ---- order --------------------------------------------------------------------- */

static double top_known(uint64_t value) {
  return value == MG_ABSENT ? -1 : (double)value;
}

static double top_weight(const process *one, top_column column) {
  const mg_sample *sample = &one->view.sample;
  double pause;

  switch (column) {
    case TOP_RSS: return top_known(sample->reading.rss_bytes);
    case TOP_HEAP: return top_known(sample->reading.heap_used_bytes);
    case TOP_NATIVE: return top_known(process_native_bytes(one));
    case TOP_USAGE: return sample->usage;
    case TOP_LEVEL: return (double)sample->level + one->is_alive;
    case TOP_GC: return top_gc_rate(one);
    case TOP_PAUSE:
      pause = process_last_pause_ms(one);
      return isnan(pause) ? -1 : pause;
    default: return 0;
  }
}

static top_order top_sorting; /* qsort() hands nothing on */

static int top_compare(const void *left, const void *right) {
  const process *a = left, *b = right;
  int order = 0;

  if (top_sorting.column == TOP_KIND)
    order = strcmp(a->header->runtime, b->header->runtime);
  else if (top_sorting.column == TOP_PROGRAM)
    order = strcmp(a->header->program, b->header->program);
  else if (top_sorting.column != TOP_PID) {
    double x = top_weight(a, top_sorting.column);
    double y = top_weight(b, top_sorting.column);
    order = (x < y) - (x > y);
  }
  if (order == 0)
    order = (a->header->pid > b->header->pid) - (a->header->pid < b->header->pid);
  return top_sorting.is_reversed ? -order : order;
}

void top_sort(processes *list, top_order order) {
  top_sorting = order;
  qsort(list->item, list->count, sizeof *list->item, top_compare);
}

/* ---- cells ------------------------------------------------------------------------ */

/* "[####......]  42%" */
static void top_bar(char out[TOP_CELL], double usage) {
  double filled = round(usage * TOP_BAR_COLUMNS);
  char bar[TOP_BAR_COLUMNS + 1];

  for (int i = 0; i < TOP_BAR_COLUMNS; i++) bar[i] = i < filled ? '#' : '.';
  bar[TOP_BAR_COLUMNS] = '\0';
  snprintf(out, TOP_CELL, "[%s] %4.0f%%", bar, fmin(100 * usage, 9999));
}

static void top_spark(char out[TOP_CELL], const process *one, bool ascii) {
  mg_segment_point points[TOP_SPARK_SECONDS];
  double values[TOP_SPARK_SECONDS];
  size_t count = mg_segment_points(one->segment, MG_SEGMENT_BY_SECOND, points,
                                   TOP_SPARK_SECONDS);

  for (size_t i = 0; i < count; i++)
    values[i] = points[i].rss_bytes == MG_ABSENT ? (double)NAN
                                                 : (double)points[i].rss_bytes;
  chart_spark(out, TOP_CELL, values, count, TOP_SPARK_COLUMNS, 0, ascii);
}

static void top_text(char out[TOP_CELL], const char *text) {
  size_t at = 0;

  for (; *text != '\0' && at + 1 < TOP_CELL; text++)
    out[at++] = *text >= ' ' && *text != 0x7F ? *text : '?';
  out[at] = '\0';
}

void top_cell(char out[TOP_CELL], const process *one, top_column column, bool ascii) {
  const mg_sample *sample = &one->view.sample;
  double pause;

  switch (column) {
    case TOP_PID: snprintf(out, TOP_CELL, "%u", one->header->pid); break;
    case TOP_KIND: top_text(out, one->header->runtime); break;
    case TOP_RSS: cli_bytes(out, sample->reading.rss_bytes); break;
    case TOP_HEAP: cli_bytes(out, sample->reading.heap_used_bytes); break;
    case TOP_NATIVE: cli_bytes(out, process_native_bytes(one)); break;
    case TOP_USAGE: top_bar(out, sample->usage); break;
    case TOP_LEVEL:
      top_text(out, process_state_name(one));
      break;
    case TOP_GC: snprintf(out, TOP_CELL, "%.1f", top_gc_rate(one)); break;
    case TOP_PAUSE:
      pause = process_last_pause_ms(one);
      snprintf(out, TOP_CELL, isnan(pause) ? "-" : "%.2f", pause);
      break;
    case TOP_SPARK: top_spark(out, one, ascii); break;
    default: top_text(out, one->header->program);
  }
}

/* ---- once ---------------------------------------------------------------------------- */

static int top_print(const processes *list) {
  for (int column = 0; column < TOP_COLUMN_COUNT; column++)
    if (column != TOP_SPARK)
      printf("%*s ", top_columns[column].width, top_columns[column].header);
  putchar('\n');
  for (size_t i = 0; i < list->count; i++) {
    for (int column = 0; column < TOP_COLUMN_COUNT; column++) {
      char cell[TOP_CELL];
      if (column == TOP_SPARK) continue;
      top_cell(cell, &list->item[i], (top_column)column, true);
      printf("%*s ", top_columns[column].width, cell);
    }
    putchar('\n');
  }
  return CLI_OK;
}

static int top_print_json(const processes *list) {
  cJSON *document = cJSON_CreateObject();
  cJSON *rows = cJSON_AddArrayToObject(document, "processes");

  for (size_t i = 0; i < list->count; i++) {
    cJSON *one = process_json(&list->item[i]);
    cJSON_AddNumberToObject(one, "gc_per_second", top_gc_rate(&list->item[i]));
    cJSON_AddItemToArray(rows, one);
  }
  cJSON_AddNumberToObject(document, "unreadable", (double)list->unreadable);
  return cli_print_json(document);
}

typedef struct top_options {
  top_order order;
  bool is_once, is_json, with_dead;
  double interval_s;
} top_options;

static int top_once(const top_options *options) {
  processes list;
  int code = processes_read(&list, options->with_dead);

  if (code != CLI_OK) return code;
  top_sort(&list, options->order);
  code = options->is_json ? top_print_json(&list) : top_print(&list);
  processes_free(&list);
  return code;
}

static int top_read_options(top_options *out, int argc, char **argv) {
  static const struct option longs[] = {{"once", no_argument, NULL, 'o'},
                                        {"all", no_argument, NULL, 'a'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"sort", required_argument, NULL, 's'},
                                        {"interval", required_argument, NULL, 'i'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  int option;

  *out = (top_options){.order = {TOP_RSS, false}, .interval_s = 1};
  opterr = 0;
  while ((option = getopt_long(argc, argv, "oajs:i:h", longs, NULL)) != -1) {
    switch (option) {
      case 'o': out->is_once = true; break;
      case 'a': out->with_dead = true; break;
      case 'j': out->is_json = out->is_once = true; break;
      case 's':
        out->order.column = top_column_find(optarg);
        if (out->order.column == TOP_COLUMN_COUNT)
          return cli_usage("--sort \"%s\": pid, kind, rss, heap, native, usage, "
                           "level, gc, pause and program are known", optarg);
        break;
      case 'i':
        if (!cli_number("--interval", optarg, 0.1, 3600, &out->interval_s))
          return CLI_USAGE;
        break;
      case 'h': cli_help(); return -1;
      default: return cli_bad_option(argc, argv);
    }
  }
  if (optind < argc) return cli_usage("unexpected word \"%s\"", argv[optind]);
  return CLI_OK;
}

int cli_top(int argc, char **argv) {
  top_options options;
  int code = top_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  if (options.is_once) return top_once(&options);
  if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
    return cli_usage("there is no terminal; --once prints one table");
  return top_screen(options.order, options.with_dead, options.interval_s);
}
