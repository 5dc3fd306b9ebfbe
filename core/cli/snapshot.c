/* snapshot.c - the command `memguard snapshot`: what a process holds, as JSON.
 *
 *   {"timestamp": "2026-11-21T18:20:01Z", "unix_ms": 1763749201000,
 *    "process": {...}, "memory_stats": {...}, "leak_detection": [...],
 *    "types": [...]}
 *
 * `process` is read from the segment, which works while the process is busy; the
 * others are asked for. What a process cannot tell is left out. */
#include <getopt.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "pid.h"

#define SNAPSHOT_TIMEOUT_MS 30000.0

typedef struct snapshot_options {
  long pid;
  double top, count, interval_s;
  const char *save;
} snapshot_options;

static int snapshot_read_options(snapshot_options *out, int argc, char **argv) {
  static const struct option longs[] = {{"top", required_argument, NULL, 't'},
                                        {"continuous", required_argument, NULL, 'c'},
                                        {"interval", required_argument, NULL, 'i'},
                                        {"save", required_argument, NULL, 's'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  bool good = true;
  int option;

  *out = (snapshot_options){.top = 10, .count = 1, .interval_s = 10};
  opterr = 0;
  while ((option = getopt_long(argc, argv, "t:c:i:s:jh", longs, NULL)) != -1) {
    switch (option) {
      case 't': good = cli_number("--top", optarg, 0, 1000, &out->top); break;
      case 'c': good = cli_number("--continuous", optarg, 1, 1e6, &out->count); break;
      case 'i':
        good = cli_number("--interval", optarg, 0.1, 86400, &out->interval_s);
        break;
      case 's': out->save = optarg; break;
      case 'j': break; /* it always is */
      case 'h': cli_help(); return -1;
      default: return cli_bad_option(argc, argv);
    }
    if (!good) return CLI_USAGE;
  }
  if (argc - optind != 1) return cli_usage("one PID is needed");
  return pid_take(&out->pid, argv[optind]) ? CLI_OK : CLI_USAGE;
}

static void snapshot_stamp(cJSON *to) {
  double unix_ms = floor(cli_unix_ms());
  time_t seconds = (time_t)(unix_ms / 1e3);
  struct tm parts;
  char text[32];

  gmtime_r(&seconds, &parts);
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  cJSON_AddStringToObject(to, "timestamp", text);
  cJSON_AddNumberToObject(to, "unix_ms", unix_ms);
}

/* Moves all members of `from` into `to`. */
static void snapshot_merge(cJSON *to, cJSON *from) {
  while (from->child != NULL) {
    cJSON *item = cJSON_DetachItemViaPointer(from, from->child);
    cJSON_AddItemToObject(to, item->string, item);
  }
  cJSON_Delete(from);
}

static int snapshot_take(cJSON **out, const snapshot_options *options) {
  char arguments[32];
  process one;
  cJSON *answer;
  int code = process_find(&one, options->pid);

  if (code != CLI_OK) return code;
  if (!one.is_alive) {
    code = cli_fail(CLI_NOT_FOUND, "process %ld has ended; `memguard postmortem` "
                                   "tells what it left", options->pid);
    goto fail_one;
  }
  code = process_ask(&answer, &one, "snapshot", "", SNAPSHOT_TIMEOUT_MS);
  if (code != CLI_OK) goto fail_one;
  *out = cJSON_CreateObject();
  snapshot_stamp(*out);
  cJSON_AddItemToObject(*out, "process", process_json(&one));
  snapshot_merge(*out, answer);
  snprintf(arguments, sizeof arguments, "{\"top\": %.0f}", options->top);
  if (options->top > 0 &&
      process_try_ask(&answer, &one, "census", arguments, SNAPSHOT_TIMEOUT_MS, NULL))
    cJSON_AddItemToObject(*out, "types", answer);

fail_one:
  process_close(&one);
  return code;
}

/* The latest document, or in a file a list of all: one that grows is whole at any
 * time. */
static int snapshot_put(const cJSON *all, const snapshot_options *options) {
  bool is_list = options->save != NULL && options->count > 1;
  const cJSON *shown =
      is_list ? all : cJSON_GetArrayItem(all, cJSON_GetArraySize(all) - 1);
  int code = cli_write_json(options->save == NULL ? "-" : options->save, shown);

  fflush(stdout);
  return code;
}

int cli_snapshot(int argc, char **argv) {
  snapshot_options options;
  cJSON *all, *one = NULL;
  int code = snapshot_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  all = cJSON_CreateArray();
  for (double i = 0; code == CLI_OK && i < options.count; i++) {
    if (i > 0) cli_sleep_s(options.interval_s);
    code = snapshot_take(&one, &options);
    if (code != CLI_OK) break;
    cJSON_AddItemToArray(all, one);
    code = snapshot_put(all, &options);
  }
  cJSON_Delete(all);
  return code;
}
