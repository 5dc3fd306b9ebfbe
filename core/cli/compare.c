/* compare.c - the command `memguard compare`. */
#include "compare.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define COMPARE_THRESHOLD 15.0

typedef int (*compare_print)(const compare_result *result);

static const struct {
  const char *name;
  compare_print print;
} compare_formats[] = {
#define COMPARE_FORMAT(name) {#name, compare_print_##name},
    COMPARE_FORMATS(COMPARE_FORMAT)
#undef COMPARE_FORMAT
};
#define COMPARE_FORMAT_COUNT (sizeof compare_formats / sizeof compare_formats[0])

static int compare_find_format(compare_print *out, const char *name) {
  for (size_t i = 0; i < COMPARE_FORMAT_COUNT; i++) {
    if (strcmp(compare_formats[i].name, name) != 0) continue;
    *out = compare_formats[i].print;
    return CLI_OK;
  }
  return cli_usage("--format \"%s\": text, md, json, github, junit and openmetrics "
                   "are known", name);
}

static bool compare_metric(compare_result *result, const char *word,
                           bool own[METRICS]) {
  const char *equals = strchr(word, '=');
  char name[64];
  metric_id id;

  if (equals == NULL || equals - word >= (long)sizeof name) {
    cli_usage("--metric \"%s\": NAME=PERCENT is expected", word);
    return false;
  }
  snprintf(name, sizeof name, "%.*s", (int)(equals - word), word);
  id = metric_find(name);
  if (id == METRICS) {
    cli_usage("--metric \"%s\": there is no such metric; known are peak_rss, "
              "mean_rss, growth, wall, cpu, fds, threads, gc_count, gc_total and "
              "gc_pause_max", name);
    return false;
  }
  own[id] = true;
  return cli_number("--metric", equals + 1, 0.1, 1e6,
                    &result->threshold_percent[id]);
}

static bool compare_threshold(compare_result *result, const char *word,
                              const bool own[METRICS]) {
  double value;

  if (!cli_number("--threshold", word, 0.1, 1e6, &value)) return false;
  for (int id = 0; id < METRICS; id++)
    if (!own[id]) result->threshold_percent[id] = value;
  return true;
}

/* --metric wins over --threshold, in whichever order they come. */
static int compare_read_options(compare_result *result, compare_print *out,
                                int argc, char **argv) {
  static const struct option longs[] = {{"threshold", required_argument, NULL, 't'},
                                        {"metric", required_argument, NULL, 'm'},
                                        {"format", required_argument, NULL, 'f'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  bool own[METRICS] = {false}, good = true;
  int option;

  opterr = 0;
  *out = compare_print_text;
  while ((option = getopt_long(argc, argv, "t:m:f:jh", longs, NULL)) != -1) {
    switch (option) {
      case 't': good = compare_threshold(result, optarg, own); break;
      case 'm': good = compare_metric(result, optarg, own); break;
      case 'f':
        if (compare_find_format(out, optarg) != CLI_OK) return CLI_USAGE;
        break;
      case 'j': *out = compare_print_json; break;
      case 'h': cli_help(); return -1;
      default: return cli_bad_option(argc, argv);
    }
    if (!good) return CLI_USAGE;
  }
  if (argc - optind != 2) return cli_usage("two files are needed: BASE and NEW");
  return CLI_OK;
}

static void compare_judge(compare_result *result) {
  for (int id = 0; id < METRICS; id++) {
    metric_change *change = &result->change[id];
    metric_judge(change, (metric_id)id, &result->base->runs, &result->now->runs,
                 result->threshold_percent[id]);
    result->worse += change->verdict == METRIC_WORSE;
    result->unsure += change->verdict == METRIC_UNSURE;
    result->better += change->verdict == METRIC_BETTER;
  }
}

int cli_compare(int argc, char **argv) {
  static baseline base, now; /* too large for a stack */
  compare_result result = {.base = &base, .now = &now};
  compare_print print;
  int code;

  for (int id = 0; id < METRICS; id++)
    result.threshold_percent[id] = COMPARE_THRESHOLD;
  code = compare_read_options(&result, &print, argc, argv);
  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  code = baseline_load(&base, argv[optind]);
  if (code == CLI_OK) code = baseline_load(&now, argv[optind + 1]);
  if (code != CLI_OK) return code;
  compare_judge(&result);
  code = print(&result);
  if (code != CLI_OK) return code;
  return result.worse > 0 ? CLI_FOUND : result.unsure > 0 ? CLI_INCONCLUSIVE : CLI_OK;
}
