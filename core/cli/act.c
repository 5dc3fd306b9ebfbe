/* act.c - the commands `memguard gc` and `memguard optimize`: a running process
 * does something now, and what that changed is measured from outside as well. */
#include <string.h>

#include "pid.h"

#define ACT_TIMEOUT_MS 30000.0

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
  pid_options options;
  cJSON *answer;
  int code = pid_read_options(&options, argc, argv, true);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  code = process_find(&before, options.pid);
  if (code != CLI_OK) return code;
  code = process_ask(&answer, &before, command, "", ACT_TIMEOUT_MS);
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
