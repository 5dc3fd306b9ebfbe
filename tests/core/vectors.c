/* vectors.c - what the tests that run rows of tests/vectors/ share. */
#include "vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cJSON *load_rows(const char *file, cJSON **out_document) {
  const char *directory = getenv("MG_VECTORS");
  char path[4096], *text;
  FILE *stream;
  long bytes;

  assert_non_null(directory);
  snprintf(path, sizeof path, "%s/%s", directory, file);
  stream = fopen(path, "rb");
  assert_non_null(stream);
  fseek(stream, 0, SEEK_END);
  bytes = ftell(stream);
  rewind(stream);
  text = malloc((size_t)bytes + 1);
  assert_non_null(text);
  assert_int_equal(fread(text, 1, (size_t)bytes, stream), bytes);
  text[bytes] = '\0';
  fclose(stream);
  *out_document = cJSON_Parse(text);
  free(text);
  assert_non_null(*out_document);
  return cJSON_GetObjectItemCaseSensitive(*out_document, "rows");
}

const cJSON *item_of(const cJSON *row, const char *key) {
  return cJSON_GetObjectItemCaseSensitive(row, key);
}

const char *text_of(const cJSON *row, const char *key) {
  return cJSON_GetStringValue(item_of(row, key));
}

double number_of(const cJSON *row, const char *key) {
  const cJSON *item = item_of(row, key);

  if (!cJSON_IsNumber(item)) fail_msg("%s: no number %s", text_of(row, "name"), key);
  return item->valuedouble;
}

/* ---- resolving a host's mapping, as the bindings do ---------------------- */

static mg_status set_leaf(mg_config *config, const char *path,
                          const cJSON *value, mg_error *err) {
  if (cJSON_IsBool(value))
    return mg_config_set_bool(config, path, cJSON_IsTrue(value), err);
  if (cJSON_IsNumber(value))
    return mg_config_set_number(config, path, value->valuedouble, err);
  if (cJSON_IsString(value))
    return mg_config_set_text(config, path, value->valuestring, err);
  return mg_config_refuse(path, cJSON_IsNull(value) ? "null" : "a list", err);
}

static mg_status set_mapping(mg_config *config, const cJSON *mapping,
                             mg_error *err) {
  const cJSON *item, *leaf;
  char path[256];

  cJSON_ArrayForEach(item, mapping) {
    mg_status st = MG_OK;
    if (!cJSON_IsObject(item)) st = set_leaf(config, item->string, item, err);
    if (st != MG_OK) return st;
    if (!cJSON_IsObject(item)) continue;
    cJSON_ArrayForEach(leaf, item) {
      snprintf(path, sizeof path, "%s.%s", item->string, leaf->string);
      st = set_leaf(config, path, leaf, err);
      if (st != MG_OK) return st;
    }
  }
  return MG_OK;
}

static mg_status set_environ(mg_config *config, const cJSON *environ,
                             mg_error *err) {
  static char text[16][256];
  const char *block[17];
  const cJSON *item;
  int count = 0;

  cJSON_ArrayForEach(item, environ) {
    snprintf(text[count], sizeof text[count], "%s=%s", item->string,
             item->valuestring);
    block[count] = text[count];
    count++;
  }
  block[count] = NULL;
  return mg_config_set_environment(config, block, err);
}

mg_status resolve(mg_config *out, const cJSON *row, mg_error *err) {
  const char *name = text_of(row, "profile");
  mg_profile profile = MG_PROFILE_DEFAULT;
  mg_status st = MG_OK;

  if (name != NULL) st = mg_profile_find(&profile, name, err);
  if (st != MG_OK) return st;
  mg_config_init(out, profile);
  st = set_environ(out, item_of(row, "environ"), err);
  if (st != MG_OK) return st;
  st = set_mapping(out, item_of(row, "config"), err);
  return st != MG_OK ? st : mg_config_check(out, err);
}

mg_config config_of(const cJSON *row) {
  mg_error err = MG_ERROR_INIT;
  mg_config config;

  assert_ok(resolve(&config, row, &err), &err);
  return config;
}
