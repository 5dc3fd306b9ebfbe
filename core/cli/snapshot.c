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
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
  struct timespec now;
  struct tm parts;
  char text[32];

  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &parts);
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  cJSON_AddStringToObject(to, "timestamp", text);
  cJSON_AddNumberToObject(to, "unix_ms",
                          (double)now.tv_sec * 1e3 +
                              floor((double)now.tv_nsec / 1e6));
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

/* One document, or a list of all so far: a file that grows is whole at any time. */
static int snapshot_put(cJSON *all, const snapshot_options *options) {
  bool is_one = options->count <= 1;
  char *text = cJSON_Print(is_one ? cJSON_GetArrayItem(all, 0)
                                  : options->save == NULL
                                        ? cJSON_GetArrayItem(
                                              all, cJSON_GetArraySize(all) - 1)
                                        : all);
  char *line;
  int code = CLI_SYSTEM;

  if (text == NULL) return cli_fail(CLI_SYSTEM, "out of memory");
  if (asprintf(&line, "%s\n", text) >= 0) {
    code = cli_write_file(options->save == NULL ? "-" : options->save, line);
    free(line);
  }
  cJSON_free(text);
  fflush(stdout);
  return code;
}

static void snapshot_wait(double seconds) {
  struct timespec time = {.tv_sec = (time_t)seconds,
                          .tv_nsec = (long)((seconds - (double)(time_t)seconds) *
                                            1e9)};

  nanosleep(&time, NULL);
}

int cli_snapshot(int argc, char **argv) {
  snapshot_options options;
  cJSON *all, *one = NULL;
  int code = snapshot_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  all = cJSON_CreateArray();
  for (double i = 0; code == CLI_OK && i < options.count; i++) {
    if (i > 0) snapshot_wait(options.interval_s);
    code = snapshot_take(&one, &options);
    if (code != CLI_OK) break;
    cJSON_AddItemToArray(all, one);
    code = snapshot_put(all, &options);
  }
  cJSON_Delete(all);
  return code;
}
