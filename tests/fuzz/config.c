/* fuzz/config.c - any texts as settings.
 *
 * Input: a byte that chooses the profile, then lines "PATH=TEXT". The first byte of a
 * line says how it is set: as text, number, truth or variable of the environment. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memguard.h"

#define LINE_BYTES 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool is_true) {
  if (!is_true) abort();
}

static void check_error(mg_status st, const mg_error *err) {
  must(st == err->status);
  must(memchr(err->text, '\0', sizeof err->text) != NULL && err->text[0] != '\0');
}

/* As a JSON file's number would come: any double. */
static double number_of(const char *text) {
  double value = strtod(text, NULL);
  size_t bytes = strlen(text);

  if (text[0] == '#' && bytes > sizeof value)
    memcpy(&value, text + 1, sizeof value);
  return value;
}

static mg_status set(mg_config *config, const char *line, char *equals,
                     mg_error *err) {
  char variable[LINE_BYTES + 16] = "MEMGUARD_";
  const char *block[] = {variable, NULL};
  const char *path = line + 1, *text = equals + 1;

  strcat(variable, path);
  *equals = '\0';
  switch (line[0]) {
    case 'n':
      return mg_config_set_number(config, path, number_of(text), err);
    case 'b':
      return mg_config_set_bool(config, path, text[0] == 't', err);
    case 'e':
      return mg_config_set_environment(config, block, err);
    default:
      return mg_config_set_text(config, path, text, err);
  }
}

/* What is refused leaves the settings as they were. */
static void run_line(mg_config *config, char *line) {
  mg_config before = *config;
  mg_error err = MG_ERROR_INIT;
  char *equals = strchr(line, '=');
  mg_config_id id;
  mg_status st;

  if (line[0] == '\0' || equals == NULL || equals == line) return;
  st = set(config, line, equals, &err);
  if (mg_config_find(&id, line + 1, NULL) == MG_OK)
    must((unsigned)id < MG_CONFIG_IDS);
  if (st == MG_OK) return;
  check_error(st, &err);
  must(memcmp(before.value, config->value, sizeof before.value) == 0);
  must(memcmp(before.is_set, config->is_set, sizeof before.is_set) == 0);
}

/* Every value that was taken is one of its row. */
static void check_values(const mg_config *config) {
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const mg_config_row *row = mg_config_row_at((mg_config_id)id);
    double value = config->value[id];
    must(!isnan(value));
    if (config->is_set[id]) must(value >= row->min && value <= row->max);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  mg_error err = MG_ERROR_INIT;
  char line[LINE_BYTES];
  mg_config config;
  size_t length = 0;
  mg_status st;

  if (bytes == 0) return 0;
  mg_config_init(&config, (mg_profile)(data[0] % (MG_PROFILES + 1)));
  for (size_t at = 1; at <= bytes; at++) {
    char c = at < bytes ? (char)data[at] : '\n';
    if (c != '\n' && c != '\0' && length + 1 < sizeof line) {
      line[length++] = c;
      continue;
    }
    line[length] = '\0';
    run_line(&config, line);
    length = 0;
  }
  check_values(&config);
  st = mg_config_check(&config, &err);
  if (st != MG_OK) check_error(st, &err);
  check_values(&config);
  return 0;
}
