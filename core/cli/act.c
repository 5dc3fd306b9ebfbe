/* act.c - the commands `memguard gc` and `memguard optimize`: a running process
 * does something now, and what that changed is measured from outside as well. */
#include <getopt.h>
#include <string.h>

#include "pid.h"

#define ACT_TIMEOUT_S 30.0
#define ACT_TIMEOUT_MOST_S 3600.0

typedef struct act_options {
  bool is_json;
  double timeout_s;
  long pid;
} act_options;

static int act_read_options(act_options *out, int argc, char **argv) {
  static const struct option longs[] = {{"timeout", required_argument, NULL, 't'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  int option;

  *out = (act_options){false, ACT_TIMEOUT_S, 0};
  opterr = 0;
  while ((option = getopt_long(argc, argv, "t:jh", longs, NULL)) != -1) {
    switch (option) {
      case 't':
        if (!cli_number("--timeout", optarg, 0.1, ACT_TIMEOUT_MOST_S,
                        &out->timeout_s))
          return CLI_USAGE;
        break;
      case 'j': out->is_json = true; break;
      case 'h': cli_help(); return -1;
      default: return cli_bad_option(argc, argv);
    }
  }
  if (argc - optind != 1) return cli_usage("one PID is needed");
  return pid_take(&out->pid, argv[optind]) ? CLI_OK : CLI_USAGE;
}

static double act_number(const cJSON *object, const char *name) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);

  return cJSON_IsNumber(value) ? value->valuedouble : -1;
}

static void act_print(const process *before, const process *after,
                      const cJSON *answer) {
  char from[CLI_BYTES_TEXT], to[CLI_BYTES_TEXT], freed[CLI_BYTES_TEXT];
  uint64_t rss_before = before->view.sample.reading.rss_bytes;
  uint64_t rss_after = after->view.sample.reading.rss_bytes;
  double took_ms = act_number(answer, "duration_ms");

  if (took_ms < 0) took_ms = act_number(answer, "durationMs");
  printf("%u ", before->header->pid);
  cli_print_safe(stdout, before->header->program, 0);
  printf(": resident %s, before %s, freed %s", cli_bytes(to, rss_after),
         cli_bytes(from, rss_before),
         cli_bytes(freed, mg_fall_bytes(rss_before, rss_after)));
  if (took_ms >= 0) printf(", in %.1f ms", took_ms);
  putchar('\n');
}

static int act(int argc, char **argv, const char *command) {
  process before, after;
  act_options options;
  cJSON *answer;
  int code = act_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  code = process_find(&before, options.pid);
  if (code != CLI_OK) return code;
  code = process_ask(&answer, &before, command, "",
                     1e3 * options.timeout_s);
  if (code != CLI_OK) goto fail_before;
  if (options.is_json) {
    code = cli_print_json(answer);
    goto fail_before;
  }
  code = process_find(&after, options.pid);
  if (code == CLI_OK) {
    act_print(&before, &after, answer);
    process_close(&after);
  }
  cJSON_Delete(answer);

fail_before:
  process_close(&before);
  return code;
}

int cli_gc(int argc, char **argv) { return act(argc, argv, "collect"); }

int cli_optimize(int argc, char **argv) { return act(argc, argv, "optimize"); }
