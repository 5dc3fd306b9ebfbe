/* settings.c - reads configuration files, hands settings to what is started. */
#include "settings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define SETTINGS_PATH_BYTES 256
#define SETTINGS_DEPTH 8

static int settings_wrong(const char *path, size_t line, const mg_error *err) {
  return cli_fail(CLI_USAGE, "%s:%zu: %s", path, line, err->text);
}

/* ---- YAML ------------------------------------------------------------------- */

typedef struct settings_walk {
  mg_config *config;
  const char *file;
  char path[SETTINGS_PATH_BYTES];      /* of the mapping that is read */
  size_t ends[SETTINGS_DEPTH], depth;  /* where the path was shorter */
} settings_walk;

static bool settings_enter(settings_walk *walk, const char *key) {
  size_t end = strlen(walk->path);
  int more = snprintf(walk->path + end, sizeof walk->path - end, "%s%s",
                      end == 0 ? "" : ".", key);

  if (walk->depth == SETTINGS_DEPTH || more < 0 ||
      (size_t)more >= sizeof walk->path - end) {
    walk->path[end] = '\0';
    return false;
  }
  walk->ends[walk->depth++] = end;
  return true;
}

static void settings_leave(settings_walk *walk) {
  walk->path[walk->ends[--walk->depth]] = '\0';
}

static int settings_refuse(settings_walk *walk, const yaml_node_t *node,
                           const char *kind) {
  mg_error err = MG_ERROR_INIT;

  mg_config_refuse(walk->path, kind, &err);
  return settings_wrong(walk->file, node->start_mark.line + 1, &err);
}

static int settings_scalar(settings_walk *walk, const yaml_node_t *node) {
  const char *text = (const char *)node->data.scalar.value;
  mg_error err = MG_ERROR_INIT;
  bool is_plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

  if (is_plain && (*text == '\0' || strcmp(text, "~") == 0 ||
                   strcmp(text, "null") == 0))
    return settings_refuse(walk, node, "null");
  if (mg_config_set_text(walk->config, walk->path, text, &err) != MG_OK)
    return settings_wrong(walk->file, node->start_mark.line + 1, &err);
  return CLI_OK;
}

static int settings_mapping(settings_walk *walk, yaml_document_t *document,
                            const yaml_node_t *mapping);

static int settings_node(settings_walk *walk, yaml_document_t *document,
                         const yaml_node_t *node) {
  if (node->type == YAML_SCALAR_NODE) return settings_scalar(walk, node);
  if (node->type == YAML_SEQUENCE_NODE)
    return settings_refuse(walk, node, "a list");
  if (!mg_config_is_section(walk->path))
    return settings_refuse(walk, node, "a mapping");
  return settings_mapping(walk, document, node);
}

static int settings_pair(settings_walk *walk, yaml_document_t *document,
                         const yaml_node_pair_t *pair) {
  const yaml_node_t *key = yaml_document_get_node(document, pair->key);
  const yaml_node_t *value = yaml_document_get_node(document, pair->value);
  int code;

  if (key->type != YAML_SCALAR_NODE)
    return cli_fail(CLI_USAGE, "%s:%zu: a key must be text", walk->file,
                    key->start_mark.line + 1);
  if (!settings_enter(walk, (const char *)key->data.scalar.value))
    return cli_fail(CLI_USAGE, "%s:%zu: nested too deep, or the key is too long",
                    walk->file, key->start_mark.line + 1);
  code = settings_node(walk, document, value);
  settings_leave(walk);
  return code;
}

static int settings_mapping(settings_walk *walk, yaml_document_t *document,
                            const yaml_node_t *mapping) {
  const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
  int code = CLI_OK;

  while (code == CLI_OK && pair < mapping->data.mapping.pairs.top)
    code = settings_pair(walk, document, pair++);
  return code;
}

static int settings_document(settings_walk *walk, yaml_document_t *document) {
  const yaml_node_t *root = yaml_document_get_root_node(document);

  if (root == NULL) return CLI_OK; /* an empty file sets nothing */
  if (root->type != YAML_MAPPING_NODE)
    return cli_fail(CLI_USAGE, "%s: holds no mapping", walk->file);
  return settings_mapping(walk, document, root);
}

static int settings_parse(settings_walk *walk, const char *text, size_t bytes) {
  yaml_document_t document;
  yaml_parser_t parser;
  int code;

  if (!yaml_parser_initialize(&parser)) return cli_fail(CLI_SYSTEM, "out of memory");
  yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
  if (yaml_parser_load(&parser, &document)) {
    code = settings_document(walk, &document);
    yaml_document_delete(&document);
  } else {
    code = cli_fail(CLI_USAGE, "%s:%zu: %s", walk->file,
                    parser.problem_mark.line + 1,
                    parser.problem == NULL ? "out of memory" : parser.problem);
  }
  yaml_parser_delete(&parser);
  return code;
}

static bool settings_has_suffix(const char *path, const char *suffix) {
  size_t bytes = strlen(path), least = strlen(suffix);

  return bytes > least && strcasecmp(path + bytes - least, suffix) == 0;
}

int settings_load(mg_config *config, const char *path) {
  settings_walk walk = {.config = config, .file = path};
  char *text;
  size_t bytes;
  int code;

  if (settings_has_suffix(path, ".toml"))
    return cli_fail(CLI_USAGE, "%s: TOML is read by the runtimes only; this tool "
                               "reads .yaml, .yml and .json", path);
  if (!settings_has_suffix(path, ".yaml") && !settings_has_suffix(path, ".yml") &&
      !settings_has_suffix(path, ".json"))
    return cli_fail(CLI_USAGE, "%s is no configuration file, allowed: .yaml, .yml, "
                               ".json", path);
  code = cli_read_file(&text, &bytes, path);
  if (code != CLI_OK) return code;
  /* JSON is YAML, but for tabs, which cJSON would not tell the line of. */
  code = settings_parse(&walk, text, bytes);
  free(text);
  return code;
}

/* ---- the command line --------------------------------------------------------- */

int settings_take(mg_config *config, const char *word) {
  const char *equals = strchr(word, '=');
  char key[SETTINGS_PATH_BYTES];
  mg_error err = MG_ERROR_INIT;

  if (equals == NULL || equals == word || equals - word >= SETTINGS_PATH_BYTES)
    return cli_usage("--set \"%s\": KEY=VALUE is expected", word);
  snprintf(key, sizeof key, "%.*s", (int)(equals - word), word);
  if (mg_config_set_text(config, key, equals + 1, &err) != MG_OK)
    return cli_usage("%s", err.text);
  return CLI_OK;
}

/* ---- to what is started -------------------------------------------------------- */

static void settings_variable(char *out, size_t room, const char *section,
                              const char *name) {
  snprintf(out, room, "MEMGUARD_%s%s%s", section, *section == '\0' ? "" : "_", name);
  for (char *at = out; *at != '\0'; at++) *at = (char)toupper((unsigned char)*at);
}

static const char *settings_unit(mg_config_type type) {
  return type == MG_CONFIG_DURATION ? "ms" : type == MG_CONFIG_MB ? "MB" : "";
}

int settings_export(const mg_config *config) {
  char name[SETTINGS_PATH_BYTES], text[64];

  if (setenv("MEMGUARD_PROFILE", mg_profile_name(config->profile), 1) != 0)
    return cli_fail(CLI_SYSTEM, "out of memory");
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const mg_config_row *row = mg_config_row_at((mg_config_id)id);
    if (!config->is_set[id]) continue;
    settings_variable(name, sizeof name, "", row->name);
    unsetenv(name); /* the other name of the same key */
    settings_variable(name, sizeof name, row->section, row->name);
    snprintf(text, sizeof text, "%.17g%s", config->value[id],
             settings_unit(row->type));
    if (setenv(name, text, 1) != 0) return cli_fail(CLI_SYSTEM, "out of memory");
  }
  return CLI_OK;
}
