/* base.c - status texts, error detail and the core's allocator. */
#include "memguard/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static void *base_take(void *ctx, size_t bytes) {
  (void)ctx;
  return malloc(bytes);
}

static void *base_resize(void *ctx, void *block, size_t bytes) {
  (void)ctx;
  return realloc(block, bytes);
}

static void base_give(void *ctx, void *block) {
  (void)ctx;
  free(block);
}

static const mg_allocator base_malloc = {base_take, base_resize, base_give,
                                         NULL};
static mg_allocator base_allocator = {base_take, base_resize, base_give, NULL};

void mg_set_allocator(const mg_allocator *allocator) {
  base_allocator = allocator == NULL ? base_malloc : *allocator;
}

void *mg__alloc(size_t bytes) {
  void *block = base_allocator.take(base_allocator.ctx, bytes);

  if (block != NULL) memset(block, 0, bytes);
  return block;
}

void *mg__alloc_untouched(size_t bytes) {
  return base_allocator.take(base_allocator.ctx, bytes);
}

void *mg__resize(void *block, size_t bytes) {
  return base_allocator.resize(base_allocator.ctx, block, bytes);
}

void mg__free(void *block) {
  if (block != NULL) base_allocator.give(base_allocator.ctx, block);
}

void mg_free_text(char *text) { mg__free(text); }

char *mg__strdup(const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = mg__alloc_untouched(bytes);

  if (copy != NULL) memcpy(copy, text, bytes);
  return copy;
}

/* GNU's strerror_r may return a static text instead of filling the buffer; that of
 * POSIX, which musl has, fills it and returns a number. */
static const char *base_reason(int system_errno, char *buffer, size_t bytes) {
#ifdef __GLIBC__
  return strerror_r(system_errno, buffer, bytes);
#else
  return strerror_r(system_errno, buffer, bytes) == 0 ? buffer : "unknown";
#endif
}

static void base_write(mg_error *err, mg_status status, int system_errno,
                       const char *format, va_list args) {
  int length;

  err->status = status;
  err->system_errno = system_errno;
  length = vsnprintf(err->text, sizeof err->text, format, args);
  if (length < 0) length = 0;
  if (system_errno != 0 && (size_t)length < sizeof err->text) {
    char reason[128];
    snprintf(err->text + length, sizeof err->text - (size_t)length, ": %s",
             base_reason(system_errno, reason, sizeof reason));
  }
}

mg_status mg__fail(mg_error *err, mg_status status, const char *format, ...) {
  va_list args;

  if (err == NULL) return status;
  va_start(args, format);
  base_write(err, status, 0, format, args);
  va_end(args);
  return status;
}

mg_status mg__fail_errno(mg_error *err, int system_errno, const char *format,
                         ...) {
  va_list args;

  if (err == NULL) return MG_ESYS;
  va_start(args, format);
  base_write(err, MG_ESYS, system_errno, format, args);
  va_end(args);
  return MG_ESYS;
}

const char *mg_status_name(mg_status status) {
  switch (status) {
#define BASE_NAME(name, value, code, text) \
  case MG_##name:                          \
    return #name;
    MG_STATUS_MAP(BASE_NAME)
#undef BASE_NAME
  }
  return "UNKNOWN";
}

const char *mg_status_code(mg_status status) {
  switch (status) {
#define BASE_CODE(name, value, code, text) \
  case MG_##name:                          \
    return code;
    MG_STATUS_MAP(BASE_CODE)
#undef BASE_CODE
  }
  return "ERR_MEMGUARD_UNKNOWN";
}

mg_status mg_status_of_code(const char *code) {
#define BASE_STATUS_OF(name, value, text_code, text) \
  if (strcmp(code, text_code) == 0) return MG_##name;
  MG_STATUS_MAP(BASE_STATUS_OF)
#undef BASE_STATUS_OF
  return MG_EHOST;
}

const char *mg_status_text(mg_status status) {
  switch (status) {
#define BASE_TEXT(name, value, code, text) \
  case MG_##name:                          \
    return text;
    MG_STATUS_MAP(BASE_TEXT)
#undef BASE_TEXT
  }
  return "unknown status";
}

const char *mg_version(void) { return MG_VERSION; }
