/* memguard/resource.h - clean-up, last in first out, each exactly once.
 *
 * A resource is a path to remove or a token of the binding's (a callback, an
 * object with its clean-up). Each entry is taken out of the registry before it
 * is run, so that nothing runs twice: not when clean-up is called again, from
 * inside a callback, or from two threads. One failing entry never stops the
 * rest. Entries added while a clean-up runs are cleaned up by it too, up to
 * MG_RESOURCE_LATE_MAX of them.
 *
 * In a forked child the entries made before the fork belong to the parent:
 * they are dropped without running (mg_resources_disown()).
 *
 * Threads: any; no lock is held while an entry runs. */
#ifndef MEMGUARD_RESOURCE_H
#define MEMGUARD_RESOURCE_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_RESOURCE_LATE_MAX 10000u

/** X(ID, name): the kinds a host sees. */
#define MG_RESOURCE_MAP(X)        \
  X(MEMORY, "memory")             \
  X(FILE_HANDLE, "file_handle")   \
  X(TEMP_FILE, "temp_file")       \
  X(BUFFER, "buffer")             \
  X(NETWORK, "network")           \
  X(CALLBACK, "callback")         \
  X(OBJECT, "object")

typedef enum mg_resource_kind {
#define MG_RESOURCE_ENUM(id, name) MG_RESOURCE_##id,
  MG_RESOURCE_MAP(MG_RESOURCE_ENUM)
#undef MG_RESOURCE_ENUM
      MG_RESOURCE_KINDS
} mg_resource_kind;

/** Its name as both runtimes show it. */
MG_API const char *mg_resource_kind_name(mg_resource_kind kind);

/** How a binding runs and lets go of its tokens. Both are called on the thread
 *  that called into this header, never with a lock held. */
typedef struct mg_resource_hooks {
  /** Runs the clean-up behind `token` and lets go of it. A failure is the
   *  binding's to log; the status is only counted. */
  mg_status (*run)(void *ctx, mg_resource_kind kind, void *token);
  /** Lets go of `token` without running it. */
  void (*drop)(void *ctx, mg_resource_kind kind, void *token);
  /** A temporary file could not be removed (not for one already gone). May be
   *  NULL. */
  void (*unlink_failed)(void *ctx, const char *path, int system_errno);
  void *ctx;
} mg_resource_hooks;

typedef struct mg_resources mg_resources;

typedef struct mg_cleanup_report {
  uint32_t run;    /* entries run, failed ones included */
  uint32_t failed; /* of those, how many failed */
  uint32_t left;   /* added during clean-up beyond the limit, still registered */
} mg_cleanup_report;

/** @param hooks [borrowed] copied. @param out [owned]
 *  @return MG_OK, MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_resources_open(mg_resources **out,
                                   const mg_resource_hooks *hooks,
                                   mg_error *err);
/** Drops what is still registered, runs nothing. NULL is allowed. */
MG_API void mg_resources_close(mg_resources *resources);

/** Registers a token. @param out_id [may be NULL] never 0, never reused.
 *  @return MG_OK, MG_ENOMEM (the token stays the caller's). */
MG_API mg_status mg_resources_add(mg_resources *resources,
                                  mg_resource_kind kind, void *token,
                                  uint64_t *out_id, mg_error *err);
/** Registers a file to be removed; a relative path is made absolute now.
 *  A path that is registered already is not added twice.
 *  @return MG_OK, MG_EINVAL (empty, too long), MG_ENOMEM, MG_ESYS. */
MG_API mg_status mg_resources_add_file(mg_resources *resources,
                                       const char *path, uint64_t *out_id,
                                       mg_error *err);
/** Runs entry `id` now.
 *  @return MG_OK, MG_ENOTFOUND (ran or dropped already), MG_EHOST (it failed). */
MG_API mg_status mg_resources_run(mg_resources *resources, uint64_t id);
/** Takes entry `id` out without running it. @return whether it was there. */
MG_API bool mg_resources_drop(mg_resources *resources, uint64_t id);
/** @return entries registered of `kind`. */
MG_API size_t mg_resources_count(const mg_resources *resources,
                                 mg_resource_kind kind);
/** Writes path `index` (0 = oldest) of the temporary files into `path`.
 *  @return its length without the NUL, 0 beyond the end. */
MG_API size_t mg_resources_file_at(const mg_resources *resources, size_t index,
                                   char *path, size_t path_bytes);

/** Runs everything, newest first. A call during another clean-up of the same
 *  registry returns at once with an empty report. @param out [may be NULL] */
MG_API void mg_resources_cleanup(mg_resources *resources,
                                 mg_cleanup_report *out);
/** For a forked child: lets go of everything, runs nothing. */
MG_API void mg_resources_disown(mg_resources *resources);

#ifdef __cplusplus
}
#endif
#endif
