/* vectors.h - rows of tests/vectors/ for the C tests. */
#ifndef MG_TESTS_VECTORS_H
#define MG_TESTS_VECTORS_H

#include "support.h"

#include <cjson/cJSON.h>

/** The rows of a file. @param out_document [owned] cJSON_Delete() it. */
cJSON *load_rows(const char *file, cJSON **out_document);
/** NULL if there is none. */
const cJSON *item_of(const cJSON *row, const char *key);
const char *text_of(const cJSON *row, const char *key);
/** Fails if there is none. */
double number_of(const cJSON *row, const char *key);
/** Resolves `profile`, `environ` and `config` of a row, as the bindings do. */
mg_status resolve(mg_config *out, const cJSON *row, mg_error *err);
/** The same; fails on an error. */
mg_config config_of(const cJSON *row);

#endif
