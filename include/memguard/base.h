/* memguard/base.h - status codes, error detail, version, allocator.
 *
 * Conventions of every header here:
 *  - A function that can fail returns mg_status. Detail goes to an mg_error the
 *    caller supplies; NULL is allowed and costs nothing.
 *  - Out-parameters are named `out` and come first. What is stored through one
 *    is yours ([owned]); what is returned by value or marked [borrowed] is not.
 *  - Units stand in names: _bytes, _mb (1 MB = 1 048 576 bytes), _ns, _ms,
 *    _percent (0 to 100). A ratio without a unit runs from 0.0 to 1.0.
 *  - A reading that cannot be had is MG_ABSENT, never a made-up number.
 *
 * Threads: everything in this header may be called from any thread, except
 * mg_set_allocator. */
#ifndef MEMGUARD_BASE_H
#define MEMGUARD_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(MG_STATIC)
#define MG_API
#elif defined(__GNUC__)
#define MG_API __attribute__((visibility("default")))
#else
#define MG_API
#endif

#if defined(__GNUC__)
#define MG_PRINTF(format_at, args_at) \
  __attribute__((format(printf, format_at, args_at)))
#else
#define MG_PRINTF(format_at, args_at)
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MG_VERSION "0.1.0"

/** Every status: X(name, value, Node/Python code, text). Bindings build their
 *  exception tables from this list; values never change once released. */
#define MG_STATUS_MAP(X)                                              \
  X(OK, 0, "OK", "success")                                           \
  X(EINVAL, 1, "ERR_MEMGUARD_INVALID", "invalid argument")            \
  X(ENOMEM, 2, "ERR_MEMGUARD_NO_MEMORY", "out of memory")             \
  X(ESYS, 3, "ERR_MEMGUARD_SYSTEM", "system call failed")             \
  X(EKEY, 4, "ERR_MEMGUARD_UNKNOWN_KEY", "unknown configuration key") \
  X(ETYPE, 5, "ERR_MEMGUARD_TYPE", "wrong type")                      \
  X(ERANGE, 6, "ERR_MEMGUARD_RANGE", "value out of range")            \
  X(ECONFLICT, 7, "ERR_MEMGUARD_CONFLICT", "values contradict")       \
  X(ECLOSED, 8, "ERR_MEMGUARD_CLOSED", "used after close")            \
  X(EABSENT, 9, "ERR_MEMGUARD_ABSENT", "not available here")          \
  X(EEXISTS, 10, "ERR_MEMGUARD_EXISTS", "already exists")             \
  X(ENOTFOUND, 11, "ERR_MEMGUARD_NOT_FOUND", "not found")             \
  X(EHOST, 12, "ERR_MEMGUARD_HOST", "a callback of the host failed")  \
  X(ETIMEOUT, 13, "ERR_MEMGUARD_TIMEOUT", "waited too long")          \
  X(ERETURNED, 14, "ERR_MEMGUARD_RETURNED", "returned already")       \
  X(EFOREIGN, 15, "ERR_MEMGUARD_FOREIGN", "not of this pool")         \
  X(EENCODING, 16, "ERR_MEMGUARD_ENCODING", "wrongly encoded")         \
  X(EBROKEN, 17, "ERR_MEMGUARD_BROKEN", "connection broke")           \
  X(ELEAK, 18, "ERR_MEMGUARD_LEAK", "memory leak detected")

typedef enum mg_status {
#define MG_STATUS_ENUM(name, value, code, text) MG_##name = value,
  MG_STATUS_MAP(MG_STATUS_ENUM)
#undef MG_STATUS_ENUM
} mg_status;

#define MG_ERROR_TEXT_BYTES 320

/** What went wrong, in words. Written only on failure. */
typedef struct mg_error {
  mg_status status;
  int system_errno;                /* errno of the failed call, else 0 */
  char text[MG_ERROR_TEXT_BYTES];  /* one line, NUL-terminated, UTF-8 */
} mg_error;
#define MG_ERROR_INIT {MG_OK, 0, {0}}

/** A reading that does not exist on this machine or is not known yet. */
#define MG_ABSENT UINT64_MAX

#define MG_BYTES_PER_MB 1048576.0

/** @return "EINVAL" for MG_EINVAL and so on; "UNKNOWN" for a foreign value. */
MG_API const char *mg_status_name(mg_status status);
/** @return the code bindings put on their errors, e.g. "ERR_MEMGUARD_RANGE". */
MG_API const char *mg_status_code(mg_status status);
/** @return the status of such a code; MG_EHOST for a foreign one. */
MG_API mg_status mg_status_of_code(const char *code);
/** @return a short English text, e.g. "value out of range". */
MG_API const char *mg_status_text(mg_status status);
/** Frees text that a function of this library made for its caller. NULL allowed. */
MG_API void mg_free_text(char *text);
/** @return the version of the library at run time, e.g. "0.1.0". */
MG_API const char *mg_version(void);

/** Where the core takes its own memory from. All three or none. `ctx` is handed
 *  back on each call. `take` returns NULL when there is none: the core then
 *  fails with MG_ENOMEM and stays usable. */
typedef struct mg_allocator {
  void *(*take)(void *ctx, size_t bytes);
  void *(*resize)(void *ctx, void *block, size_t bytes);
  void (*give)(void *ctx, void *block);
  void *ctx;
} mg_allocator;

/** Replaces the allocator; NULL restores malloc.
 *  Threads: call before anything else of memguard, or while nothing of it is
 *  open: blocks are given back to the allocator in force at that time. */
MG_API void mg_set_allocator(const mg_allocator *allocator);

#ifdef __cplusplus
}
#endif
#endif
