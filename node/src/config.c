/* config.c - handles on mg_config, built up key by key. */
#include "memguard_node.h"

#include <stdlib.h>

static const napi_type_tag config_tag = {0x6d656d6775617264u,
                                         0x636f6e6669670001u};

#define CONFIG_PATH_BYTES 1024
#define CONFIG_TEXT_BYTES 1024
#define CONFIG_VARIABLES_MAX 512

static void config_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

mg_config *mgn_config_of(napi_env env, napi_value value) {
  mg_config *config = mgn_unwrap(env, value, &config_tag);

  if (config == NULL) mgn_throw_text(env, MG_ETYPE, "expected a configuration");
  return config;
}

static napi_value config_wrap(napi_env env, const mg_config *config) {
  mg_config *copy = malloc(sizeof *copy);
  napi_value handle;

  if (copy == NULL)
    return mgn_throw_text(env, MG_ENOMEM, "no memory for a configuration");
  *copy = *config;
  if (napi_create_object(env, &handle) != napi_ok ||
      napi_type_tag_object(env, handle, &config_tag) != napi_ok ||
      napi_wrap(env, handle, copy, config_finalize, NULL, NULL) != napi_ok) {
    free(copy);
    return mgn_fail_napi(env);
  }
  return handle;
}

/* configOpen(profile) -> handle with the values of that profile */
static napi_value config_open(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  char name[CONFIG_TEXT_BYTES];
  mg_profile profile;
  mg_config config;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL) ||
      !mgn_text_of(env, value, "profile", name, sizeof name))
    return NULL;
  if (mg_profile_find(&profile, name, &err) != MG_OK)
    return mgn_throw(env, &err);
  mg_config_init(&config, profile);
  return config_wrap(env, &config);
}

static napi_value config_copy(napi_env env, napi_callback_info info) {
  const mg_config *config;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  config = mgn_config_of(env, value);
  return config == NULL ? NULL : config_wrap(env, config);
}

/* A failure with an empty `err` is thrown, or to be thrown, by Node-API. */
static mg_status config_set_value(napi_env env, mg_config *config,
                                  const char *path, napi_value value,
                                  mg_error *err) {
  char text[CONFIG_TEXT_BYTES];
  napi_valuetype type;
  double number;
  bool truth;

  if (napi_typeof(env, value, &type) != napi_ok) return MG_EINVAL;
  switch (type) {
    case napi_number:
      if (napi_get_value_double(env, value, &number) != napi_ok)
        return MG_EINVAL;
      return mg_config_set_number(config, path, number, err);
    case napi_boolean:
      if (napi_get_value_bool(env, value, &truth) != napi_ok) return MG_EINVAL;
      return mg_config_set_bool(config, path, truth, err);
    case napi_string:
      if (!mgn_text_of(env, value, path, text, sizeof text)) return MG_EINVAL;
      return mg_config_set_text(config, path, text, err);
    default:
      return mg_config_refuse(path, "value", err);
  }
}

/* configSet(handle, path, number | boolean | string) */
static napi_value config_set(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  char path[CONFIG_PATH_BYTES];
  mg_config *config;
  napi_value v[3];
  mg_status st;

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL ||
      !mgn_text_of(env, v[1], "a configuration key", path, sizeof path))
    return NULL;
  st = config_set_value(env, config, path, v[2], &err);
  if (st == MG_OK) return mgn_undefined(env);
  return err.status == MG_OK ? mgn_fail_napi(env) : mgn_throw(env, &err);
}

/* configRefuse(path, kind): throws what is wrong with such a value there */
static napi_value config_refuse(napi_env env, napi_callback_info info) {
  char path[CONFIG_PATH_BYTES], kind[CONFIG_TEXT_BYTES];
  mg_error err = MG_ERROR_INIT;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL) ||
      !mgn_text_of(env, v[0], "a configuration key", path, sizeof path) ||
      !mgn_text_of(env, v[1], "kind", kind, sizeof kind))
    return NULL;
  mg_config_refuse(path, kind, &err);
  return mgn_throw(env, &err);
}

static napi_value config_is_section(napi_env env, napi_callback_info info) {
  char name[CONFIG_PATH_BYTES];
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL) ||
      !mgn_text_of(env, value, "a configuration key", name, sizeof name))
    return NULL;
  return mgn_boolean(env, mg_config_is_section(name));
}

/* Reads an array of strings into a NULL-terminated block. @return false with
 * `block` untouched or to be freed from its start; something is thrown. */
static bool config_read_block(napi_env env, napi_value array, char **block,
                              uint32_t count) {
  napi_value text;
  size_t bytes;

  for (uint32_t i = 0; i < count; i++) {
    if (napi_get_element(env, array, i, &text) != napi_ok ||
        napi_get_value_string_utf8(env, text, NULL, 0, &bytes) != napi_ok)
      goto fail;
    block[i] = malloc(bytes + 1);
    if (block[i] == NULL) {
      mgn_throw_text(env, MG_ENOMEM, "no memory for the environment");
      return false;
    }
    if (napi_get_value_string_utf8(env, text, block[i], bytes + 1, &bytes) !=
        napi_ok)
      goto fail;
  }
  return true;

fail:
  mgn_fail_napi(env);
  return false;
}

/* configSetEnvironment(handle, ["NAME=value", ...]) */
static napi_value config_set_environment(napi_env env,
                                         napi_callback_info info) {
  char *block[CONFIG_VARIABLES_MAX + 1] = {NULL};
  mg_error err = MG_ERROR_INIT;
  mg_config *config;
  uint32_t count = 0;
  napi_value v[2];
  bool read;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  MGN_TRY(env, napi_get_array_length(env, v[1], &count));
  if (count > CONFIG_VARIABLES_MAX)
    return mgn_throw_text(env, MG_ERANGE, "more than 512 MEMGUARD_ variables");
  read = config_read_block(env, v[1], block, count);
  if (read)
    mg_config_set_environment(config, (const char *const *)block, &err);
  for (uint32_t i = 0; i < count; i++) free(block[i]);
  if (!read) return NULL;
  return err.status == MG_OK ? mgn_undefined(env) : mgn_throw(env, &err);
}

static napi_value config_check(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mg_config *config;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  config = mgn_config_of(env, value);
  if (config == NULL) return NULL;
  if (mg_config_check(config, &err) != MG_OK) return mgn_throw(env, &err);
  return mgn_undefined(env);
}

/* configRead(handle, Float64Array out) -> name of the profile */
static napi_value config_read(napi_env env, napi_callback_info info) {
  const mg_config *config;
  napi_value v[2];
  double *out;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  config = mgn_config_of(env, v[0]);
  if (config == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], MG_CONFIG_IDS, NULL);
  if (out == NULL) return NULL;
  for (int id = 0; id < MG_CONFIG_IDS; id++)
    out[id] = mg_config_get(config, (mg_config_id)id);
  return mgn_text(env, mg_profile_name(config->profile));
}

/* configKeys: "section.name" in the order of configRead(), and which of them
 * are true or false. */
napi_status mgn_config_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"configOpen", config_open},
      {"configCopy", config_copy},
      {"configSet", config_set},
      {"configRefuse", config_refuse},
      {"configIsSection", config_is_section},
      {"configSetEnvironment", config_set_environment},
      {"configCheck", config_check},
      {"configRead", config_read}};
  static const char *const keys[] = {
#define CONFIG_KEY(id, section, name, ...) section "." name,
      MG_CONFIG_MAP(CONFIG_KEY)
#undef CONFIG_KEY
  };
  static const char *const types[] = {
#define CONFIG_TYPE(id, section, name, type, ...) #type,
      MG_CONFIG_MAP(CONFIG_TYPE)
#undef CONFIG_TYPE
  };
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  if (st == napi_ok)
    st = mgn_define_names(env, exports, "configKeys", keys, MGN_COUNT_OF(keys));
  return st == napi_ok ? mgn_define_names(env, exports, "configTypes", types,
                                          MGN_COUNT_OF(types))
                       : st;
}
