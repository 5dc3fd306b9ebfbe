/* census.c - tables of names for JS: the process's descriptors and mappings, and what
 * grew between two tables that JS filled. A row is [name, count, bytes]. */
#include "memguard_node.h"

#include <stdlib.h>

#define CENSUS_CULPRITS_MOST 1000u

static napi_value census_row(napi_env env, const mg_census_row *row) {
  napi_value made, part[3];

  part[0] = mgn_text(env, row->name);
  part[1] = mgn_number(env, (double)row->count);
  part[2] = mgn_number(env, (double)row->bytes);
  MGN_TRY(env, napi_create_array_with_length(env, 3, &made));
  for (uint32_t i = 0; i < 3; i++) {
    if (part[i] == NULL) return NULL;
    MGN_TRY(env, napi_set_element(env, made, i, part[i]));
  }
  return made;
}

static napi_value census_rows(napi_env env, const mg_census *census) {
  napi_value made, one;
  mg_census_row row;

  MGN_TRY(env, napi_create_array(env, &made));
  for (uint32_t i = 0; mg_census_at(census, i, &row); i++) {
    one = census_row(env, &row);
    if (one == NULL) return NULL;
    MGN_TRY(env, napi_set_element(env, made, i, one));
  }
  return made;
}

static napi_value census_read(napi_env env,
                              mg_status (*read)(mg_census *, mg_error *)) {
  mg_error err = MG_ERROR_INIT;
  napi_value made = NULL;
  mg_census *census;
  mg_status st = mg_census_open(&census, 0, &err);

  if (st == MG_OK) st = read(census, &err);
  made = st == MG_OK ? census_rows(env, census) : mgn_throw(env, &err);
  mg_census_close(census);
  return made;
}

/* censusFds() -> rows */
static napi_value census_fds(napi_env env, napi_callback_info info) {
  (void)info;
  return census_read(env, mg_census_fds);
}

/* censusMaps() -> rows */
static napi_value census_maps(napi_env env, napi_callback_info info) {
  (void)info;
  return census_read(env, mg_census_maps);
}

/* @return false if something is thrown. */
static bool census_add_row(napi_env env, mg_census *census, napi_value row) {
  char name[2 * MG_CENSUS_NAME_BYTES];
  uint64_t number[2];
  napi_value part;
  size_t length;

  /* Cut, not refused: names of classes may be long. */
  if (napi_get_element(env, row, 0, &part) != napi_ok ||
      napi_get_value_string_utf8(env, part, name, sizeof name, &length) !=
          napi_ok) {
    mgn_throw_text(env, MG_ETYPE, "a row must be [name, count, bytes]");
    return false;
  }
  for (uint32_t i = 0; i < 2; i++) {
    if (napi_get_element(env, row, i + 1, &part) != napi_ok) {
      mgn_fail_napi(env);
      return false;
    }
    if (!mgn_count_of(env, part, &number[i])) return false;
  }
  mg_census_add(census, name, number[0], number[1]);
  return true;
}

/* @return [owned] a table of `rows`; NULL if something is thrown. */
static mg_census *census_of(napi_env env, napi_value rows, uint64_t max_names) {
  mg_error err = MG_ERROR_INIT;
  mg_census *census;
  uint32_t count, i;
  napi_value row;

  if (mg_census_open(&census, (size_t)max_names, &err) != MG_OK) {
    mgn_throw(env, &err);
    return NULL;
  }
  if (napi_get_array_length(env, rows, &count) != napi_ok) goto fail_napi;
  for (i = 0; i < count; i++) {
    if (napi_get_element(env, rows, i, &row) != napi_ok) goto fail_napi;
    if (!census_add_row(env, census, row)) goto fail_census;
  }
  return census;

fail_napi:
  mgn_fail_napi(env);
fail_census:
  mg_census_close(census);
  return NULL;
}

static napi_value census_culprit(napi_env env, const mg_culprit *culprit) {
  napi_value made, part[5];

  part[0] = mgn_text(env, culprit->name);
  part[1] = mgn_number(env, (double)culprit->growth);
  part[2] = mgn_number(env, (double)culprit->growth_bytes);
  part[3] = mgn_number(env, (double)culprit->count);
  part[4] = mgn_number(env, culprit->share);
  MGN_TRY(env, napi_create_array_with_length(env, 5, &made));
  for (uint32_t i = 0; i < 5; i++) {
    if (part[i] == NULL) return NULL;
    MGN_TRY(env, napi_set_element(env, made, i, part[i]));
  }
  return made;
}

static napi_value census_compare(napi_env env, const mg_census *before,
                                 const mg_census *after, mg_census_by by,
                                 size_t limit) {
  mg_culprit *found = calloc(limit + 1, sizeof *found);
  napi_value made = NULL, one;
  size_t count;

  if (found == NULL) return mgn_throw_text(env, MG_ENOMEM, "culprits");
  count = mg_census_diff(before, after, MG_CULPRIT_TYPE, by, found, limit);
  if (napi_create_array(env, &made) != napi_ok) goto fail_found;
  for (size_t i = 0; i < count; i++) {
    one = census_culprit(env, &found[i]);
    if (one == NULL ||
        napi_set_element(env, made, (uint32_t)i, one) != napi_ok)
      goto fail_found;
  }
  free(found);
  return made;

fail_found:
  free(found);
  return mgn_fail_napi(env);
}

/* censusDifference(before, after, byBytes, limit, maxNames) -> [name, growth,
 * growthBytes, count, share] of what grew most, that first. */
static napi_value census_difference(napi_env env, napi_callback_info info) {
  napi_value v[5], made = NULL;
  uint64_t limit, max_names;
  mg_census *before, *after;
  bool by_bytes;

  if (!mgn_arguments(env, info, 5, v, NULL) ||
      !mgn_bool_of(env, v[2], &by_bytes) || !mgn_count_of(env, v[3], &limit) ||
      !mgn_count_of(env, v[4], &max_names))
    return NULL;
  if (limit > CENSUS_CULPRITS_MOST)
    return mgn_throw_text(env, MG_ERANGE, "limit must be at most 1000");
  before = census_of(env, v[0], max_names);
  if (before == NULL) return NULL;
  after = census_of(env, v[1], max_names);
  if (after != NULL)
    made = census_compare(env, before, after,
                          by_bytes ? MG_CENSUS_BY_BYTES : MG_CENSUS_BY_COUNT,
                          (size_t)limit);
  mg_census_close(after);
  mg_census_close(before);
  return made;
}

napi_status mgn_census_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"censusFds", census_fds},
      {"censusMaps", census_maps},
      {"censusDifference", census_difference}};

  return mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));
}
