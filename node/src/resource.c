/* resource.c - clean-up entries of a manager; JS keeps what a token stands for. */
#include "memguard_node.h"

#include <limits.h>

/* ---- hooks of the core ---------------------------------------------------- */

/* A token is a number of JS's. Outside of a clean-up asked for by JS (the end of
 * an environment) no JS can run any more. */
static mg_status resource_run(void *ctx, mg_resource_kind kind, void *token) {
  const mgn_call *call = ((mgn_manager *)ctx)->call;
  napi_value receiver, number, result;
  napi_handle_scope scope;
  bool went_well = false;

  (void)kind;
  if (call == NULL || napi_open_handle_scope(call->env, &scope) != napi_ok)
    return MG_EHOST;
  if (napi_get_undefined(call->env, &receiver) != napi_ok ||
      napi_create_double(call->env, (double)(uintptr_t)token, &number) !=
          napi_ok ||
      napi_call_function(call->env, receiver, call->run, 1, &number, &result) !=
          napi_ok ||
      napi_get_value_bool(call->env, result, &went_well) != napi_ok)
    went_well = false;
  (void)napi_close_handle_scope(call->env, scope);
  return went_well ? MG_OK : MG_EHOST;
}

static void resource_drop_token(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx; /* JS forgets a token before it has it dropped */
  (void)kind;
  (void)token;
}

static void resource_unlink_failed(void *ctx, const char *path,
                                   int system_errno) {
  const mgn_call *call = ((mgn_manager *)ctx)->call;
  napi_value receiver, v[2];
  napi_handle_scope scope;

  if (call == NULL || napi_open_handle_scope(call->env, &scope) != napi_ok)
    return;
  if (napi_get_undefined(call->env, &receiver) == napi_ok &&
      napi_create_string_utf8(call->env, path, NAPI_AUTO_LENGTH, &v[0]) ==
          napi_ok &&
      napi_create_int32(call->env, system_errno, &v[1]) == napi_ok)
    (void)napi_call_function(call->env, receiver, call->failed, 2, v, NULL);
  (void)napi_close_handle_scope(call->env, scope);
}

const mg_resource_hooks mgn_resource_hooks = {
    resource_run, resource_drop_token, resource_unlink_failed, NULL};

/* ---- interface ------------------------------------------------------------ */

static mg_resources *resources_of(napi_env env, napi_value value) {
  mgn_manager *self = mgn_manager_of(env, value);

  return self == NULL ? NULL : mg_manager_resources(self->core);
}

/* resourceAdd(manager, kind, token) -> id */
static napi_value resource_add(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mg_resources *resources;
  uint64_t kind, token, id;
  napi_value v[3];

  if (!mgn_arguments(env, info, 3, v, NULL)) return NULL;
  resources = resources_of(env, v[0]);
  if (resources == NULL || !mgn_count_of(env, v[1], &kind) ||
      !mgn_count_of(env, v[2], &token))
    return NULL;
  if (kind >= MG_RESOURCE_KINDS || token > UINTPTR_MAX)
    return mgn_throw_text(env, MG_ERANGE, "no such kind of resource");
  if (mg_resources_add(resources, (mg_resource_kind)kind,
                       (void *)(uintptr_t)token, &id, &err) != MG_OK)
    return mgn_throw(env, &err);
  return mgn_number(env, (double)id);
}

/* resourceAddFile(manager, path) -> id */
static napi_value resource_add_file(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mg_resources *resources;
  char path[PATH_MAX];
  napi_value v[2];
  uint64_t id;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  resources = resources_of(env, v[0]);
  if (resources == NULL ||
      !mgn_text_of(env, v[1], "the path of a temporary file", path,
                   sizeof path))
    return NULL;
  if (mg_resources_add_file(resources, path, &id, &err) != MG_OK)
    return mgn_throw(env, &err);
  return mgn_number(env, (double)id);
}

typedef struct resource_one {
  uint64_t id;
  mg_status status;
} resource_one;

static void resource_run_one(mgn_manager *self, void *ctx) {
  resource_one *one = ctx;

  one->status = mg_resources_run(mg_manager_resources(self->core), one->id);
}

/* resourceRun(manager, id, run, failed) -> whether it was still registered */
static napi_value resource_run_now(napi_env env, napi_callback_info info) {
  resource_one one = {0, MG_OK};
  mgn_manager *self;
  mgn_call call;
  napi_value v[4];

  if (!mgn_arguments(env, info, 4, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL || !mgn_count_of(env, v[1], &one.id)) return NULL;
  call = (mgn_call){env, v[2], v[3]};
  mgn_manager_call(self, &call, resource_run_one, &one);
  return mgn_boolean(env, one.status != MG_ENOTFOUND);
}

/* resourceDrop(manager, id) -> whether it was still registered */
static napi_value resource_drop(napi_env env, napi_callback_info info) {
  mg_resources *resources;
  napi_value v[2];
  uint64_t id;

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  resources = resources_of(env, v[0]);
  if (resources == NULL || !mgn_count_of(env, v[1], &id)) return NULL;
  return mgn_boolean(env, mg_resources_drop(resources, id));
}

/* resourceFile(manager, index) -> path of a temporary file, "" beyond the end */
static napi_value resource_file(napi_env env, napi_callback_info info) {
  char path[PATH_MAX] = "";
  mg_resources *resources;
  uint64_t index;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  resources = resources_of(env, v[0]);
  if (resources == NULL || !mgn_count_of(env, v[1], &index)) return NULL;
  if (mg_resources_file_at(resources, (size_t)index, path, sizeof path) == 0)
    path[0] = '\0';
  return mgn_text(env, path);
}

napi_status mgn_resource_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"resourceAdd", resource_add},      {"resourceAddFile", resource_add_file},
      {"resourceRun", resource_run_now},  {"resourceDrop", resource_drop},
      {"resourceFile", resource_file}};
#define RESOURCE_ENTRY(id, name) name,
  static const char *const kinds[] = {MG_RESOURCE_MAP(RESOURCE_ENTRY)};
#undef RESOURCE_ENTRY
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  return st == napi_ok ? mgn_define_names(env, exports, "resourceKinds", kinds,
                                          MGN_COUNT_OF(kinds))
                       : st;
}
