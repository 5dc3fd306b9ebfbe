/* leak_check.c - the verdict of `memguard run --leak-check`. */
#include "leak_check.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"

#define LEAK_CHECK_COLLECT_MS 1000.0
#define LEAK_CHECK_LOOK_MS 1000.0 /* of the processes, for what has no event */
#define LEAK_CHECK_SAMPLES 64     /* in the shortest time that growth is judged by */
#define LEAK_CHECK_SAMPLE_LEAST_MS 10.0
#define LEAK_CHECK_WAIT_MS 1000

typedef struct leak_check {
  char folder[PATH_MAX];
  double began_unix_s, seconds;
  cJSON *findings; /* of all processes */
  int processes;
  bool has_leaked;
} leak_check;

/* What the user has set stays. */
static void leak_check_set(mg_config *config, mg_config_id id, double value) {
  if (config->is_set[id]) return;
  config->value[id] = value;
  config->is_set[id] = true;
}

void leak_check_settings(mg_config *config) {
  double sample_ms = mg_config_get(config, MG_CONFIG_LEAK_WINDOW) /
                     mg_config_get(config, MG_CONFIG_LEAK_TIME_SCALE) /
                     LEAK_CHECK_SAMPLES;

  config->value[MG_CONFIG_LEAK_DETECTION] = 1;
  config->is_set[MG_CONFIG_LEAK_DETECTION] = true;
  leak_check_set(config, MG_CONFIG_LEAK_COLLECT, LEAK_CHECK_COLLECT_MS);
  leak_check_set(config, MG_CONFIG_MONITOR_INTERVAL, LEAK_CHECK_LOOK_MS);
  leak_check_set(config, MG_CONFIG_BACKGROUND_CALLBACKS, 1);
  if (sample_ms < mg_config_get(config, MG_CONFIG_SAMPLE_INTERVAL))
    leak_check_set(config, MG_CONFIG_SAMPLE_INTERVAL,
                   fmax(sample_ms, LEAK_CHECK_SAMPLE_LEAST_MS));
}

/* ---- what the processes told -------------------------------------------------- */

/* A finding as it is told: when its alarm was given counts from the beginning. */
static void leak_check_take(leak_check *check, cJSON *finding, const cJSON *process) {
  const cJSON *pid = cJSON_GetObjectItemCaseSensitive(process, "pid");
  const cJSON *program = cJSON_GetObjectItemCaseSensitive(process, "program");
  cJSON *alarm =
      cJSON_DetachItemFromObjectCaseSensitive(finding, "alarm_unix_s");

  cJSON_AddNumberToObject(finding, "pid", cJSON_IsNumber(pid) ? pid->valuedouble : 0);
  cJSON_AddStringToObject(finding, "program",
                          cJSON_IsString(program) ? program->valuestring : "");
  cJSON_AddBoolToObject(finding, "is_alarm", cJSON_IsNumber(alarm));
  if (cJSON_IsNumber(alarm)) {
    double after_s = fmax(alarm->valuedouble - check->began_unix_s, 0);
    check->has_leaked = true;
    cJSON_AddNumberToObject(finding, "seconds", round(after_s * 10) / 10);
  } else {
    cJSON_AddNullToObject(finding, "seconds");
  }
  cJSON_Delete(alarm);
  cJSON_AddItemToArray(check->findings, finding);
}

static void leak_check_read(leak_check *check, const char *path) {
  cJSON *process, *findings;
  char *text;

  if (cli_read_file(&text, NULL, path) != CLI_OK) return;
  process = cJSON_Parse(text);
  free(text);
  findings = cJSON_GetObjectItemCaseSensitive(process, "findings");
  if (cJSON_IsArray(findings)) {
    check->processes++;
    while (findings->child != NULL) {
      cJSON *finding = cJSON_DetachItemViaPointer(findings, findings->child);
      if (cJSON_IsObject(finding))
        leak_check_take(check, finding, process);
      else
        cJSON_Delete(finding);
    }
  }
  cJSON_Delete(process);
}

/* Reads and removes all that is in the folder, and the folder. */
static void leak_check_gather(leak_check *check) {
  char path[PATH_MAX + NAME_MAX + 2];
  DIR *folder = opendir(check->folder);
  const struct dirent *entry;

  while (folder != NULL && (entry = readdir(folder)) != NULL) {
    const char *dot = strrchr(entry->d_name, '.');
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", check->folder, entry->d_name);
    if (dot != NULL && strcmp(dot, ".json") == 0) leak_check_read(check, path);
    unlink(path);
  }
  if (folder != NULL) closedir(folder);
  rmdir(check->folder);
}

/* ---- the verdict ---------------------------------------------------------------- */

static const char *leak_check_text(const cJSON *object, const char *name) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);

  return cJSON_IsString(value) ? value->valuestring : "?";
}

static double leak_check_number(const cJSON *object, const char *name) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);

  return cJSON_IsNumber(value) ? value->valuedouble : 0;
}

static const cJSON *leak_check_first(const cJSON *object, const char *name) {
  const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name);

  return cJSON_IsArray(list) ? list->child : NULL;
}

static void leak_check_print_culprit(const cJSON *culprit) {
  fputs("    ", stderr);
  cli_print_safe(stderr, leak_check_text(culprit, "kind"), 0);
  fputc(' ', stderr);
  cli_print_safe(stderr, leak_check_text(culprit, "name"), 0);
  fprintf(stderr, ": +%.0f", leak_check_number(culprit, "growth"));
  if (leak_check_number(culprit, "share") > 0)
    fprintf(stderr, ", %.0f %% of the growth",
            100 * leak_check_number(culprit, "share"));
  fputc('\n', stderr);
}

static void leak_check_print_finding(const cJSON *finding) {
  const char *unit = leak_check_text(finding, "unit");
  double rate = leak_check_number(finding, "growth_per_minute");
  char bytes[CLI_BYTES_TEXT];
  const cJSON *row;

  fprintf(stderr, "  %.0f ", leak_check_number(finding, "pid"));
  cli_print_safe(stderr, leak_check_text(finding, "program"), 0);
  fprintf(stderr, ": %s: ", leak_check_text(finding, "signal"));
  if (strcmp(unit, "bytes") == 0)
    fprintf(stderr, "%s a minute", cli_bytes(bytes, (uint64_t)fmax(rate, 0)));
  else
    fprintf(stderr, "%.1f a minute", rate);
  fprintf(stderr, ", %s", leak_check_text(finding, "tier"));
  if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(finding, "is_alarm")))
    fprintf(stderr, " after %.0f s", leak_check_number(finding, "seconds"));
  if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(finding, "is_withdrawn")))
    fputs(", withdrawn later", stderr);
  fputc('\n', stderr);
  row = leak_check_first(finding, "culprits");
  for (; row != NULL; row = row->next) leak_check_print_culprit(row);
  row = leak_check_first(finding, "advice");
  for (; row != NULL; row = row->next) {
    fputs("    next: ", stderr);
    cli_print_safe(stderr, cJSON_IsString(row) ? row->valuestring : "", 0);
    fputc('\n', stderr);
  }
}

static void leak_check_print(const leak_check *check, bool is_enough) {
  const cJSON *finding = check->findings->child;

  fprintf(stderr, "memguard run: %s in %.1f s (processes watched: %d)%s\n",
          check->has_leaked ? "it leaks" : "no leak found", check->seconds,
          check->processes,
          is_enough || check->has_leaked
              ? ""
              : "; too short to tell, see --time-scale");
  for (; finding != NULL; finding = finding->next) leak_check_print_finding(finding);
}

static int leak_check_save(const leak_check *check, const char *path, int exit_code,
                           bool is_enough) {
  cJSON *verdict = cJSON_CreateObject();
  int code;

  cJSON_AddBoolToObject(verdict, "leaked", check->has_leaked);
  cJSON_AddNumberToObject(verdict, "seconds", round(check->seconds * 10) / 10);
  cJSON_AddBoolToObject(verdict, "is_long_enough", is_enough);
  cJSON_AddNumberToObject(verdict, "processes", check->processes);
  cJSON_AddNumberToObject(verdict, "exit_code", exit_code);
  cJSON_AddItemReferenceToObject(verdict, "findings", check->findings);
  code = cli_write_json(path, verdict);
  cJSON_Delete(verdict);
  return code;
}

static int leak_check_tell(const leak_check *check, const mg_config *config,
                           const char *json, int exit_code) {
  double judged_s = check->seconds * mg_config_get(config, MG_CONFIG_LEAK_TIME_SCALE);
  bool is_enough =
      judged_s * 1e3 >= mg_config_get(config, MG_CONFIG_LEAK_WINDOW);
  int code = CLI_OK;

  leak_check_print(check, is_enough);
  if (json != NULL) code = leak_check_save(check, json, exit_code, is_enough);
  if (check->has_leaked) return CLI_FOUND;
  if (exit_code != 0) return exit_code;
  if (check->processes == 0)
    return cli_fail(CLI_NOT_FOUND, "no process came under memguard: is a Python or "
                                   "Node program among them?");
  return code;
}

int leak_check_run(char **command, const mg_config *config, const char *json) {
  const char *place = getenv("TMPDIR");
  leak_check check = {.processes = 0};
  double began_s = cli_now_s();
  launch started;
  int code;

  snprintf(check.folder, sizeof check.folder, "%s/memguard-verdict-XXXXXX",
           place == NULL || *place != '/' ? "/tmp" : place);
  if (mkdtemp(check.folder) == NULL)
    return cli_fail(CLI_SYSTEM, "%s: %s", check.folder, strerror(errno));
  check.began_unix_s = cli_unix_ms() / 1e3;
  if (setenv(LEAK_CHECK_VARIABLE, check.folder, 1) != 0) {
    code = cli_fail(CLI_SYSTEM, "out of memory");
    goto fail_folder;
  }
  code = launch_start(&started, command, LAUNCH_SHARED);
  if (code != CLI_OK) goto fail_folder;
  while (!launch_wait(&started, LEAK_CHECK_WAIT_MS)) continue;
  launch_end(&started);
  check.seconds = cli_now_s() - began_s;
  check.findings = cJSON_CreateArray();
  leak_check_gather(&check);
  code = leak_check_tell(&check, config, json, launch_code(&started));
  cJSON_Delete(check.findings);
  return code;

fail_folder:
  rmdir(check.folder);
  return code;
}
