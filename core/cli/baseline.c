/* baseline.c - the command `memguard baseline` and its file. */
#include "baseline.h"
#include "launch.h"

#include <getopt.h>
#include <libgen.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the file ------------------------------------------------------------- */

static cJSON *baseline_run_json(const metric_runs *runs, size_t at) {
  cJSON *run = cJSON_CreateObject();

  for (int id = 0; run != NULL && id < METRICS; id++)
    if (!isnan(runs->value[id][at]))
      cJSON_AddNumberToObject(run, metric_rows[id].name, runs->value[id][at]);
  return run;
}

static cJSON *baseline_json(const baseline *from) {
  cJSON *document = cJSON_CreateObject(), *runs;
  double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);

  cJSON_AddNumberToObject(document, "memguard_baseline", BASELINE_FORMAT);
  cJSON_AddStringToObject(document, "version", mg_version());
  cJSON_AddStringToObject(document, "program", from->program);
  cJSON_AddNumberToObject(document, "created_unix_ms", (double)time(NULL) * 1000);
  cJSON_AddNumberToObject(document, "cpus", (double)sysconf(_SC_NPROCESSORS_ONLN));
  cJSON_AddNumberToObject(document, "memory_mb", floor(memory / MG_BYTES_PER_MB));
  runs = cJSON_AddArrayToObject(document, "runs");
  for (size_t i = 0; i < from->runs.count; i++)
    cJSON_AddItemToArray(runs, baseline_run_json(&from->runs, i));
  return document;
}

int baseline_save(const baseline *from, const char *path) {
  cJSON *document = baseline_json(from);
  int code = cli_write_json(path, document);

  cJSON_Delete(document);
  return code;
}

static int baseline_bad(const char *path, const char *what) {
  return cli_fail(CLI_USAGE, "%s: not a baseline of memguard: %s", path, what);
}

static int baseline_take_run(baseline *out, const cJSON *run, const char *path) {
  size_t at = out->runs.count;

  if (!cJSON_IsObject(run)) return baseline_bad(path, "a run is no object");
  for (int id = 0; id < METRICS; id++) {
    const cJSON *value =
        cJSON_GetObjectItemCaseSensitive(run, metric_rows[id].name);
    out->runs.value[id][at] = (double)NAN;
    if (value == NULL) continue;
    if (!cJSON_IsNumber(value) || !isfinite(value->valuedouble))
      return baseline_bad(path, "a value of a run is no number");
    out->runs.value[id][at] = value->valuedouble;
  }
  out->runs.count++;
  return CLI_OK;
}

static int baseline_take(baseline *out, const cJSON *document, const char *path) {
  const cJSON *format =
      cJSON_GetObjectItemCaseSensitive(document, "memguard_baseline");
  const cJSON *runs = cJSON_GetObjectItemCaseSensitive(document, "runs");
  const cJSON *program = cJSON_GetObjectItemCaseSensitive(document, "program");
  const cJSON *run;

  if (!cJSON_IsNumber(format)) return baseline_bad(path, "no memguard_baseline");
  if ((int)format->valuedouble != BASELINE_FORMAT)
    return baseline_bad(path, "made by another version, format 1 is understood");
  if (!cJSON_IsArray(runs) || cJSON_GetArraySize(runs) == 0)
    return baseline_bad(path, "it has no runs");
  if (cJSON_GetArraySize(runs) > STATISTICS_MAX)
    return baseline_bad(path, "more than 100 runs");
  if (cJSON_IsString(program))
    snprintf(out->program, sizeof out->program, "%s", program->valuestring);
  cJSON_ArrayForEach(run, runs) {
    int code = baseline_take_run(out, run, path);
    if (code != CLI_OK) return code;
  }
  return CLI_OK;
}

int baseline_load(baseline *out, const char *path) {
  cJSON *document;
  char *text;
  size_t bytes;
  int code = cli_read_file(&text, &bytes, path);

  if (code != CLI_OK) return code;
  memset(out, 0, sizeof *out);
  document = cJSON_ParseWithLength(text, bytes);
  free(text);
  if (document == NULL) return baseline_bad(path, "no JSON");
  code = baseline_take(out, document, path);
  cJSON_Delete(document);
  return code;
}

/* ---- the command ----------------------------------------------------------- */

typedef struct baseline_options {
  const char *save;
  unsigned how; /* to start the command */
  double runs, pid, seconds;
  char **command; /* NULL: a process */
} baseline_options;

static int baseline_read_options(baseline_options *out, int argc, char **argv) {
  static const struct option longs[] = {{"save", required_argument, NULL, 's'},
                                        {"runs", required_argument, NULL, 'n'},
                                        {"pid", required_argument, NULL, 'p'},
                                        {"duration", required_argument, NULL, 'd'},
                                        {"watched", no_argument, NULL, 'w'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  bool good = true;
  int option;

  *out = (baseline_options){.runs = METRIC_RUNS_LEAST};
  opterr = 0;
  while ((option = getopt_long(argc, argv, "+s:n:p:d:wh", longs, NULL)) != -1) {
    switch (option) {
      case 's': out->save = optarg; break;
      case 'n':
        good = cli_number("--runs", optarg, 1, STATISTICS_MAX, &out->runs);
        break;
      case 'p': good = cli_number("--pid", optarg, 1, 4194304, &out->pid); break;
      case 'd':
        good = cli_number("--duration", optarg, 0.1, 1e6, &out->seconds);
        break;
      case 'w': out->how |= LAUNCH_WATCHED; break;
      case 'h': cli_help(); return -1;
      default: return cli_bad_option(argc, argv);
    }
    if (!good) return CLI_USAGE;
  }
  if (optind < argc) out->command = argv + optind;
  if (out->save == NULL) return cli_usage("--save FILE is needed");
  if (strcmp(out->save, "-") == 0) out->how |= LAUNCH_TO_STDERR;
  if ((out->command != NULL) == (out->pid != 0))
    return cli_usage("either a command after -- or --pid PID is needed");
  if (out->command == NULL && out->seconds == 0)
    return cli_usage("--pid needs --duration SECONDS");
  if (out->command != NULL && out->seconds != 0)
    return cli_usage("a command is measured to its end, without --duration");
  return CLI_OK;
}

static void baseline_progress(size_t done, size_t all) {
  if (isatty(STDERR_FILENO))
    fprintf(stderr, "\rmemguard baseline: run %zu of %zu%s", done, all,
            done == all ? "\n" : "");
}

static int baseline_measure(baseline *out, const baseline_options *options) {
  size_t all = (size_t)options->runs;

  while (out->runs.count < all) {
    double values[METRICS];
    int code, ended = 0;
    code = options->command == NULL
               ? measure_process(values, (long)options->pid, options->seconds)
               : measure_command(values, &ended, options->command, options->how);
    if (code != CLI_OK) return code;
    if (ended != 0)
      return cli_fail(CLI_FOUND, "the command ended with code %d in run %zu; "
                                 "nothing was saved", ended, out->runs.count + 1);
    for (int id = 0; id < METRICS; id++)
      out->runs.value[id][out->runs.count] = values[id];
    out->runs.count++;
    baseline_progress(out->runs.count, all);
  }
  return CLI_OK;
}

static void baseline_name(baseline *out, const baseline_options *options) {
  char text[sizeof out->program] = "";
  FILE *file;

  if (options->command != NULL) {
    snprintf(text, sizeof text, "%s", options->command[0]);
  } else {
    snprintf(text, sizeof text, "/proc/%ld/comm", (long)options->pid);
    file = fopen(text, "re");
    text[0] = '\0';
    if (file == NULL) return;
    if (fgets(text, sizeof text, file) != NULL) text[strcspn(text, "\n")] = '\0';
    fclose(file);
  }
  snprintf(out->program, sizeof out->program, "%s", basename(text));
}

int cli_baseline(int argc, char **argv) {
  static baseline measured;
  baseline_options options;
  int code = baseline_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  baseline_name(&measured, &options);
  code = baseline_measure(&measured, &options);
  return code == CLI_OK ? baseline_save(&measured, options.save) : code;
}
