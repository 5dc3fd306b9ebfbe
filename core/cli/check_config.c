/* check_config.c - the command `memguard check-config`: what a file amounts to, and
 * with --keys the table of all settings. */
#include <getopt.h>
#include <math.h>
#include <string.h>

#include "settings.h"

static int check_print_json(const mg_config *config) {
  cJSON *document = cJSON_CreateObject(), *settings;

  cJSON_AddTrueToObject(document, "valid");
  cJSON_AddStringToObject(document, "profile", mg_profile_name(config->profile));
  settings = cJSON_AddObjectToObject(document, "settings");
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const mg_config_row *row = mg_config_row_at((mg_config_id)id);
    cJSON *setting = cJSON_AddObjectToObject(settings, row->name);
    cJSON_AddNumberToObject(setting, "value", config->value[id]);
    cJSON_AddStringToObject(setting, "unit", mg_config_unit(row->type));
    cJSON_AddBoolToObject(setting, "is_set", config->is_set[id]);
  }
  return cli_print_json(document);
}

static int check_print_text(const mg_config *config, const char *path) {
  size_t count = 0;

  for (int id = 0; id < MG_CONFIG_IDS; id++) count += config->is_set[id];
  printf("%s: good, %zu settings, profile %s\n", path, count,
         mg_profile_name(config->profile));
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const mg_config_row *row = mg_config_row_at((mg_config_id)id);
    if (config->is_set[id])
      printf("  %s.%s = %g %s\n", row->section, row->name, config->value[id],
             mg_config_unit(row->type));
  }
  return CLI_OK;
}

/* A number as people write it for that type. */
static const char *check_value(char out[64], mg_config_type type, double value) {
  static const struct {
    double ms;
    const char *unit;
  } times[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}};
  size_t i = 0;

  if (type == MG_CONFIG_BOOL) {
    snprintf(out, 64, "%s", value != 0 ? "true" : "false");
  } else if (type == MG_CONFIG_DURATION) {
    while (i < 4 && (value < times[i].ms || fmod(value, times[i].ms) != 0)) i++;
    if (value == 0)
      snprintf(out, 64, "0");
    else
      snprintf(out, 64, "%.15g%s", i < 4 ? value / times[i].ms : value,
               i < 4 ? times[i].unit : "ms");
  } else {
    snprintf(out, 64, "%.15g", value);
  }
  return out;
}

static cJSON *check_key(const mg_config_row *row) {
  cJSON *key = cJSON_CreateObject(), *profiles;
  char text[64];

  cJSON_AddStringToObject(key, "section", row->section);
  cJSON_AddStringToObject(key, "name", row->name);
  cJSON_AddStringToObject(key, "value", mg_config_expected(row->type));
  cJSON_AddStringToObject(key, "unit", mg_config_unit(row->type));
  cJSON_AddStringToObject(key, "default",
                          check_value(text, row->type, row->fallback));
  cJSON_AddStringToObject(key, "least", check_value(text, row->type, row->min));
  cJSON_AddStringToObject(key, "most", check_value(text, row->type, row->max));
  profiles = cJSON_AddObjectToObject(key, "profiles");
  for (int p = MG_PROFILE_DEFAULT + 1; p < MG_PROFILES; p++)
    if (row->profile[p] != row->fallback)
      cJSON_AddStringToObject(profiles, mg_profile_name((mg_profile)p),
                              check_value(text, row->type, row->profile[p]));
  cJSON_AddStringToObject(key, "aliases", row->aliases);
  cJSON_AddStringToObject(key, "doc", row->doc);
  return key;
}

static int check_list_json(void) {
  cJSON *document = cJSON_CreateObject();
  cJSON *keys = cJSON_AddArrayToObject(document, "keys");

  for (int id = 0; id < MG_CONFIG_IDS; id++)
    cJSON_AddItemToArray(keys, check_key(mg_config_row_at((mg_config_id)id)));
  return cli_print_json(document);
}

static int check_list_text(void) {
  char text[64];

  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const mg_config_row *row = mg_config_row_at((mg_config_id)id);
    const char *unit = row->type == MG_CONFIG_DURATION ? "" : mg_config_unit(row->type);
    printf("%s.%s = %s%s%s\n    %s\n", row->section, row->name,
           check_value(text, row->type, row->fallback), *unit == '\0' ? "" : " ", unit,
           row->doc);
  }
  return CLI_OK;
}

int cli_check_config(int argc, char **argv) {
  static const struct option longs[] = {{"profile", required_argument, NULL, 'p'},
                                        {"keys", no_argument, NULL, 'k'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  mg_profile profile = MG_PROFILE_DEFAULT;
  mg_error err = MG_ERROR_INIT;
  mg_config config;
  bool is_json = false, is_list = false;
  int option, code;

  opterr = 0;
  while ((option = getopt_long(argc, argv, "p:kjh", longs, NULL)) != -1) {
    switch (option) {
      case 'p':
        if (mg_profile_find(&profile, optarg, &err) != MG_OK)
          return cli_usage("%s", err.text);
        break;
      case 'k': is_list = true; break;
      case 'j': is_json = true; break;
      case 'h': return cli_help();
      default: return cli_bad_option(argc, argv);
    }
  }
  if (is_list && argc == optind)
    return is_json ? check_list_json() : check_list_text();
  if (argc - optind != 1 || is_list)
    return cli_usage("one FILE is needed, or --keys alone");
  mg_config_init(&config, profile);
  code = settings_load(&config, argv[optind]);
  if (code != CLI_OK) return code;
  if (mg_config_check(&config, &err) != MG_OK)
    return cli_fail(CLI_USAGE, "%s: %s", argv[optind], err.text);
  return is_json ? check_print_json(&config)
                 : check_print_text(&config, argv[optind]);
}
