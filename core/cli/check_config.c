/* check_config.c - the command `memguard check-config`. */
#include <getopt.h>
#include <string.h>

#include "settings.h"

static const char *check_unit(mg_config_type type) {
  switch (type) {
    case MG_CONFIG_MB: return "MB";
    case MG_CONFIG_PERCENT: return "%";
    case MG_CONFIG_DURATION: return "ms";
    case MG_CONFIG_RATE: return "MB/min";
    default: return "";
  }
}

static int check_print_json(const mg_config *config) {
  cJSON *document = cJSON_CreateObject(), *settings;

  cJSON_AddTrueToObject(document, "valid");
  cJSON_AddStringToObject(document, "profile", mg_profile_name(config->profile));
  settings = cJSON_AddObjectToObject(document, "settings");
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const mg_config_row *row = mg_config_row_at((mg_config_id)id);
    cJSON *setting = cJSON_AddObjectToObject(settings, row->name);
    cJSON_AddNumberToObject(setting, "value", config->value[id]);
    cJSON_AddStringToObject(setting, "unit", check_unit(row->type));
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
             check_unit(row->type));
  }
  return CLI_OK;
}

int cli_check_config(int argc, char **argv) {
  static const struct option longs[] = {{"profile", required_argument, NULL, 'p'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  mg_profile profile = MG_PROFILE_DEFAULT;
  mg_error err = MG_ERROR_INIT;
  mg_config config;
  bool is_json = false;
  int option, code;

  opterr = 0;
  while ((option = getopt_long(argc, argv, "p:jh", longs, NULL)) != -1) {
    switch (option) {
      case 'p':
        if (mg_profile_find(&profile, optarg, &err) != MG_OK)
          return cli_usage("%s", err.text);
        break;
      case 'j': is_json = true; break;
      case 'h': return cli_help();
      default: return cli_bad_option(argc, argv);
    }
  }
  if (argc - optind != 1) return cli_usage("one FILE is needed");
  mg_config_init(&config, profile);
  code = settings_load(&config, argv[optind]);
  if (code != CLI_OK) return code;
  if (mg_config_check(&config, &err) != MG_OK)
    return cli_fail(CLI_USAGE, "%s: %s", argv[optind], err.text);
  return is_json ? check_print_json(&config)
                 : check_print_text(&config, argv[optind]);
}
