/* error.c - failures, arguments and results of the addon's functions. */
#include "memguard_node.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- failures ----------------------------------------------------------- */

static napi_status error_create(napi_env env, mg_status status, napi_value code,
                                napi_value text, napi_value *out) {
  switch (status) {
    case MG_EINVAL:
    case MG_ETYPE:
      return napi_create_type_error(env, code, text, out);
    case MG_ERANGE:
      return napi_create_range_error(env, code, text, out);
    default:
      return napi_create_error(env, code, text, out);
  }
}

napi_value mgn_throw(napi_env env, const mg_error *err) {
  const char *name = mg_status_code(err->status);
  const char *text =
      err->text[0] != '\0' ? err->text : mg_status_text(err->status);
  napi_value code, message, error, number;

  MGN_TRY(env, napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code));
  MGN_TRY(env, napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message));
  MGN_TRY(env, error_create(env, err->status, code, message, &error));
  if (err->system_errno != 0) {
    MGN_TRY(env, napi_create_int32(env, err->system_errno, &number));
    MGN_TRY(env, napi_set_named_property(env, error, "errno", number));
  }
  MGN_TRY(env, napi_throw(env, error));
  return NULL;
}

napi_value mgn_throw_text(napi_env env, mg_status status, const char *text) {
  mg_error err = MG_ERROR_INIT;

  err.status = status;
  strncpy(err.text, text, sizeof err.text - 1);
  return mgn_throw(env, &err);
}

napi_value mgn_fail_napi(napi_env env) {
  const napi_extended_error_info *info = NULL;
  const char *text = "a call of Node-API failed";
  bool pending = false;

  if (napi_get_last_error_info(env, &info) == napi_ok && info != NULL &&
      info->error_message != NULL)
    text = info->error_message;
  if (napi_is_exception_pending(env, &pending) != napi_ok || pending)
    return NULL;
  /* Refused while the environment is going down; there is no one to tell. */
  (void)napi_throw_error(env, mg_status_code(MG_ESYS), text);
  return NULL;
}

/* ---- arguments ---------------------------------------------------------- */

bool mgn_arguments(napi_env env, napi_callback_info info, size_t count,
                   napi_value *values, mgn_env **out) {
  void *data = NULL;
  size_t given = count;

  if (napi_get_cb_info(env, info, &given, values, NULL, &data) != napi_ok) {
    mgn_fail_napi(env);
    return false;
  }
  if (given < count) {
    mgn_throw_text(env, MG_EINVAL, "too few arguments");
    return false;
  }
  if (out != NULL) *out = data;
  return true;
}

bool mgn_number_of(napi_env env, napi_value value, double *out) {
  if (napi_get_value_double(env, value, out) == napi_ok) return true;
  mgn_throw_text(env, MG_ETYPE, "expected a number");
  return false;
}

bool mgn_bool_of(napi_env env, napi_value value, bool *out) {
  if (napi_get_value_bool(env, value, out) == napi_ok) return true;
  mgn_throw_text(env, MG_ETYPE, "expected true or false");
  return false;
}

bool mgn_count_of(napi_env env, napi_value value, uint64_t *out) {
  double number;

  if (!mgn_number_of(env, value, &number)) return false;
  if (number >= 0 && number <= 9007199254740992.0 && number == floor(number)) {
    *out = (uint64_t)number;
    return true;
  }
  mgn_throw_text(env, MG_ERANGE, "expected a whole number that is not negative");
  return false;
}

bool mgn_text_of(napi_env env, napi_value value, const char *what, char *out,
                 size_t out_bytes) {
  mg_error err = MG_ERROR_INIT;
  size_t bytes = 0;

  if (napi_get_value_string_utf8(env, value, NULL, 0, &bytes) != napi_ok) {
    err.status = MG_ETYPE;
    snprintf(err.text, sizeof err.text, "%s must be a string", what);
  } else if (bytes >= out_bytes) {
    err.status = MG_EINVAL;
    snprintf(err.text, sizeof err.text,
             "%s is %zu bytes long; at most %zu are allowed", what, bytes,
             out_bytes - 1);
  } else if (napi_get_value_string_utf8(env, value, out, out_bytes, &bytes) !=
             napi_ok) {
    mgn_fail_napi(env);
    return false;
  } else if (strlen(out) != bytes) {
    err.status = MG_EINVAL;
    snprintf(err.text, sizeof err.text, "%s must not contain a NUL character",
             what);
  }
  if (err.status == MG_OK) return true;
  mgn_throw(env, &err);
  return false;
}

double *mgn_doubles_of(napi_env env, napi_value value, size_t least,
                       size_t *out_count) {
  napi_typedarray_type type = napi_int8_array;
  void *data = NULL;
  size_t count = 0;

  if (napi_get_typedarray_info(env, value, &type, &count, &data, NULL, NULL) !=
          napi_ok ||
      type != napi_float64_array || count < least || data == NULL) {
    mgn_throw_text(env, MG_ETYPE, "expected a Float64Array that is large enough");
    return NULL;
  }
  if (out_count != NULL) *out_count = count;
  return data;
}

void *mgn_unwrap(napi_env env, napi_value value, const napi_type_tag *tag) {
  napi_valuetype type;
  void *data = NULL;
  bool ours = false;

  /* The tag of null or undefined cannot be asked for without an exception. */
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object ||
      napi_check_object_type_tag(env, value, tag, &ours) != napi_ok || !ours ||
      napi_unwrap(env, value, &data) != napi_ok)
    return NULL;
  return data;
}

/* ---- results ------------------------------------------------------------ */

double mgn_from_u64(uint64_t value) {
  return value == MG_ABSENT ? (double)NAN : (double)value;
}

uint64_t mgn_to_u64(double value) {
  return value >= 0 && value < 18446744073709551615.0 ? (uint64_t)value
                                                      : MG_ABSENT;
}

napi_value mgn_undefined(napi_env env) {
  napi_value result = NULL;

  MGN_TRY(env, napi_get_undefined(env, &result));
  return result;
}

napi_value mgn_number(napi_env env, double value) {
  napi_value result = NULL;

  MGN_TRY(env, napi_create_double(env, value, &result));
  return result;
}

napi_value mgn_boolean(napi_env env, bool value) {
  napi_value result = NULL;

  MGN_TRY(env, napi_get_boolean(env, value, &result));
  return result;
}

napi_value mgn_text(napi_env env, const char *text) {
  napi_value result = NULL;

  MGN_TRY(env, napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result));
  return result;
}

/* ---- definitions -------------------------------------------------------- */

napi_status mgn_define(napi_env env, napi_value exports, void *data,
                       const mgn_function *functions, size_t count) {
  napi_status st = napi_ok;
  napi_value function;

  for (size_t i = 0; i < count && st == napi_ok; i++) {
    st = napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH,
                              functions[i].call, data, &function);
    if (st == napi_ok)
      st = napi_set_named_property(env, exports, functions[i].name, function);
  }
  return st;
}

napi_status mgn_define_names(napi_env env, napi_value exports,
                             const char *name, const char *const *names,
                             size_t count) {
  napi_value array, text;
  napi_status st = napi_create_array_with_length(env, count, &array);

  for (uint32_t i = 0; i < count && st == napi_ok; i++) {
    st = napi_create_string_utf8(env, names[i], NAPI_AUTO_LENGTH, &text);
    if (st == napi_ok) st = napi_set_element(env, array, i, text);
  }
  return st == napi_ok ? napi_set_named_property(env, exports, name, array)
                       : st;
}

napi_status mgn_error_define(napi_env env, napi_value exports, void *data) {
  static const char *const names[] = {
#define ERROR_NAME(name, value, code, text) #name,
      MG_STATUS_MAP(ERROR_NAME)
#undef ERROR_NAME
  };
  static const char *const codes[] = {
#define ERROR_CODE(name, value, code, text) code,
      MG_STATUS_MAP(ERROR_CODE)
#undef ERROR_CODE
  };
  napi_status st = mgn_define_names(env, exports, "statusNames", names,
                                    MGN_COUNT_OF(names));

  (void)data;
  return st == napi_ok ? mgn_define_names(env, exports, "statusCodes", codes,
                                          MGN_COUNT_OF(codes))
                       : st;
}
