/* support.h - what the C tests share. */
#ifndef MG_TESTS_SUPPORT_H
#define MG_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "memguard.h"

/** Fails with the error's own words. */
#define assert_ok(status, err)                                             \
  do {                                                                     \
    mg_status support_status = (status);                                   \
    if (support_status != MG_OK)                                           \
      fail_msg("%s: %s", mg_status_name(support_status), (err)->text);     \
  } while (0)

/** Checked defaults, each pair (path, value) set on top, NULL ends the list. */
static inline mg_config support_config(const char *path, ...) {
  mg_error err = MG_ERROR_INIT;
  mg_config config;
  va_list args;

  mg_config_init(&config, MG_PROFILE_DEFAULT);
  va_start(args, path);
  for (; path != NULL; path = va_arg(args, const char *))
    assert_ok(mg_config_set_text(&config, path, va_arg(args, const char *), &err),
              &err);
  va_end(args);
  assert_ok(mg_config_check(&config, &err), &err);
  return config;
}

#endif
