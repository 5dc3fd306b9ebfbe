/* compare_format.c - prints a comparison for people, for CI and for machines. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "compare.h"

#define FORMAT_CELL 32

static const char *format_summary(const compare_result *result) {
  if (result->worse > 0) return "worse";
  if (result->unsure > 0) return "inconclusive";
  return result->better > 0 ? "better" : "no regression";
}

static char *format_number(char out[FORMAT_CELL], double value) {
  if (isnan(value))
    memcpy(out, "-", 2);
  else
    snprintf(out, FORMAT_CELL, fabs(value) < 10 ? "%.2f" : "%.1f", value);
  return out;
}

static char *format_percent(char out[FORMAT_CELL], double value) {
  if (isnan(value))
    memcpy(out, "-", 2);
  else
    snprintf(out, FORMAT_CELL, "%+.1f %%", value);
  return out;
}

/* "median 41.3 to 52.9 MB (+28.1 %, allowed 15 %), p 0.0079, 5 and 5 runs" */
static void format_sentence(char *out, size_t room, const compare_result *result,
                            int id) {
  const metric_change *change = &result->change[id];
  char base[FORMAT_CELL], now[FORMAT_CELL], percent[FORMAT_CELL];

  snprintf(out, room,
           "median %s to %s %s (%s, allowed %g %%), p %.4f, %zu and %zu runs",
           format_number(base, change->base), format_number(now, change->now),
           metric_rows[id].unit, format_percent(percent, change->percent),
           result->threshold_percent[id], change->p, change->base_count,
           change->now_count);
}

/* ---- text and Markdown ----------------------------------------------------- */

static void format_rows(const compare_result *result, const char *format) {
  char base[FORMAT_CELL], now[FORMAT_CELL], percent[FORMAT_CELL];
  char p[FORMAT_CELL], name[FORMAT_CELL * 2];

  for (int id = 0; id < METRICS; id++) {
    const metric_change *change = &result->change[id];
    if (change->base_count == 0 && change->now_count == 0) continue;
    snprintf(name, sizeof name, "%s (%s)", metric_rows[id].name,
             metric_rows[id].unit);
    snprintf(p, sizeof p, "%.4f", change->p);
    printf(format, name, format_number(base, change->base),
           format_number(now, change->now),
           format_percent(percent, change->percent), p,
           metric_verdict_name(change->verdict));
  }
}

int compare_print_text(const compare_result *result) {
  printf("%-24s %10s %10s %10s %8s  %s\n", "metric", "base", "new", "change", "p",
         "verdict");
  format_rows(result, "%-24s %10s %10s %10s %8s  %s\n");
  printf("\n%s: %zu worse, %zu inconclusive, %zu better; %zu and %zu runs\n",
         format_summary(result), result->worse, result->unsure, result->better,
         result->base->runs.count, result->now->runs.count);
  if (result->unsure > 0)
    printf("inconclusive: moved by more than is allowed, but the runs do not agree; "
           "%d runs a side are the least that can\n", METRIC_RUNS_LEAST);
  return CLI_OK;
}

int compare_print_md(const compare_result *result) {
  printf("### memguard: %s\n\n", format_summary(result));
  puts("| metric | base | new | change | p | verdict |\n"
       "|---|---:|---:|---:|---:|---|");
  format_rows(result, "| %s | %s | %s | %s | %s | %s |\n");
  printf("\nMedians of %zu and %zu runs; p by the Mann-Whitney test, two-sided.\n",
         result->base->runs.count, result->now->runs.count);
  return CLI_OK;
}

/* ---- JSON ------------------------------------------------------------------ */

static void format_add(cJSON *object, const char *name, double value) {
  if (isnan(value))
    cJSON_AddNullToObject(object, name);
  else
    cJSON_AddNumberToObject(object, name, value);
}

int compare_print_json(const compare_result *result) {
  cJSON *document = cJSON_CreateObject(), *metrics;

  cJSON_AddStringToObject(document, "verdict", format_summary(result));
  cJSON_AddNumberToObject(document, "base_runs", (double)result->base->runs.count);
  cJSON_AddNumberToObject(document, "new_runs", (double)result->now->runs.count);
  metrics = cJSON_AddArrayToObject(document, "metrics");
  for (int id = 0; id < METRICS; id++) {
    const metric_change *change = &result->change[id];
    cJSON *metric = cJSON_CreateObject();
    cJSON_AddStringToObject(metric, "name", metric_rows[id].name);
    cJSON_AddStringToObject(metric, "unit", metric_rows[id].unit);
    cJSON_AddStringToObject(metric, "verdict",
                            metric_verdict_name(change->verdict));
    format_add(metric, "base", change->base);
    format_add(metric, "new", change->now);
    format_add(metric, "change_percent", change->percent);
    format_add(metric, "threshold_percent", result->threshold_percent[id]);
    format_add(metric, "floor", metric_rows[id].floor);
    format_add(metric, "p", change->p);
    cJSON_AddItemToArray(metrics, metric);
  }
  return cli_print_json(document);
}

/* ---- GitHub annotations ------------------------------------------------------ */

/* A workflow command is one line; '%' begins an escape. */
static void format_print_escaped(const char *text) {
  for (; *text != '\0'; text++) {
    if (*text == '%')
      fputs("%25", stdout);
    else
      putchar(*text);
  }
}

int compare_print_github(const compare_result *result) {
  char text[256];

  for (int id = 0; id < METRICS; id++) {
    metric_verdict verdict = result->change[id].verdict;
    if (verdict != METRIC_WORSE && verdict != METRIC_UNSURE) continue;
    format_sentence(text, sizeof text, result, id);
    printf("::%s title=memguard %s %s::", verdict == METRIC_WORSE ? "error" : "warning",
           metric_rows[id].name, metric_verdict_name(verdict));
    format_print_escaped(text);
    putchar('\n');
  }
  if (result->worse == 0 && result->unsure == 0)
    printf("::notice title=memguard::%s in %zu against %zu runs\n",
           format_summary(result), result->now->runs.count,
           result->base->runs.count);
  return CLI_OK;
}

/* ---- JUnit ------------------------------------------------------------------- */

int compare_print_junit(const compare_result *result) {
  size_t tests = 0, missing = 0;
  char text[256];

  for (int id = 0; id < METRICS; id++) {
    const metric_change *change = &result->change[id];
    tests += change->base_count + change->now_count > 0;
    missing += change->base_count + change->now_count > 0 &&
               change->verdict == METRIC_MISSING;
  }
  printf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
         "<testsuites>\n"
         "  <testsuite name=\"memguard\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" "
         "skipped=\"%zu\">\n", tests, result->worse, missing + result->unsure);
  for (int id = 0; id < METRICS; id++) {
    const metric_change *change = &result->change[id];
    if (change->base_count + change->now_count == 0) continue;
    format_sentence(text, sizeof text, result, id);
    printf("    <testcase classname=\"memguard.compare\" name=\"%s\">",
           metric_rows[id].name);
    if (change->verdict == METRIC_WORSE)
      printf("<failure message=\"worse: %s\"/>", text);
    else if (change->verdict == METRIC_UNSURE || change->verdict == METRIC_MISSING)
      printf("<skipped message=\"%s: %s\"/>", metric_verdict_name(change->verdict),
             text);
    printf("</testcase>\n");
  }
  puts("  </testsuite>\n</testsuites>");
  return CLI_OK;
}

/* ---- OpenMetrics --------------------------------------------------------------- */

static void format_gauge(const compare_result *result, const char *name,
                         const char *help, double (*of)(const metric_change *)) {
  printf("# TYPE %s gauge\n# HELP %s %s\n", name, name, help);
  for (int id = 0; id < METRICS; id++) {
    double value = of(&result->change[id]);
    if (!isnan(value))
      printf("%s{metric=\"%s\",unit=\"%s\"} %.17g\n", name, metric_rows[id].name,
             metric_rows[id].unit, value);
  }
}

static double format_base(const metric_change *change) { return change->base; }
static double format_now(const metric_change *change) { return change->now; }
static double format_worse(const metric_change *change) {
  return change->verdict == METRIC_MISSING ? (double)NAN
                                           : change->verdict == METRIC_WORSE;
}

int compare_print_openmetrics(const compare_result *result) {
  format_gauge(result, "memguard_baseline_median", "Median of the base's runs.",
               format_base);
  format_gauge(result, "memguard_compare_median", "Median of the new runs.",
               format_now);
  format_gauge(result, "memguard_compare_regression",
               "1 if the metric got worse, else 0.", format_worse);
  puts("# EOF");
  return CLI_OK;
}
