/* process.c - readings of this process. */
#include "memguard_node.h"

#include "memguard/process.h"

static napi_value process_rss_bytes(napi_env env, napi_callback_info info) {
  (void)info;
  return mgn_number(env, mgn_from_u64(mg_rss_bytes()));
}

#define PROCESS_FIELD(field, doc) #field,
static const char *const process_fields[] = {MG_PROCESS_MAP(PROCESS_FIELD)};
#undef PROCESS_FIELD

/* processInfo(Float64Array out): in the order of processFields */
static napi_value process_info(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mg_process_info read;
  napi_value value;
  double *out;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  out = mgn_doubles_of(env, value, MGN_COUNT_OF(process_fields), NULL);
  if (out == NULL) return NULL;
  if (mg_read_process_info(&read, &err) != MG_OK) return mgn_throw(env, &err);
#define PROCESS_WRITE(field, doc) *out++ = mgn_from_u64(read.field);
  MG_PROCESS_MAP(PROCESS_WRITE)
#undef PROCESS_WRITE
  return mgn_undefined(env);
}

/* trimMalloc() -> whether free memory was given back */
static napi_value process_trim(napi_env env, napi_callback_info info) {
  (void)info;
  return mgn_boolean(env, mg_trim_malloc());
}

napi_status mgn_process_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {{"rssBytes", process_rss_bytes},
                                           {"processInfo", process_info},
                                           {"trimMalloc", process_trim}};
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  return st == napi_ok
             ? mgn_define_names(env, exports, "processFields", process_fields,
                                MGN_COUNT_OF(process_fields))
             : st;
}
