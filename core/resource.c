/* resource.c - registry of clean-ups, a doubly linked list in order of age.
 *
 *   oldest <-> ... <-> newest      run from the newest end
 *
 * An entry leaves the list under the lock and is run after it is released, so
 * exactly one caller runs it, and a callback may use the registry freely. */
#include "memguard/resource.h"

#include <limits.h>
#include <string.h>

#include "internal.h"
#include "os.h"

typedef struct resource_entry resource_entry;
struct resource_entry {
  resource_entry *older, *newer;
  uint64_t id;
  mg_resource_kind kind;
  void *token; /* the binding's; NULL for a file */
  char *path;  /* a file's; NULL for a token */
};

struct mg_resources {
  mg__mutex lock;
  resource_entry *oldest, *newest;
  size_t count[MG_RESOURCE_KINDS];
  uint64_t last_id;
  bool cleaning;
  mg_resource_hooks hooks;
};

const char *mg_resource_kind_name(mg_resource_kind kind) {
  static const char *const names[] = {
#define RESOURCE_NAME(id, name) name,
      MG_RESOURCE_MAP(RESOURCE_NAME)
#undef RESOURCE_NAME
  };
  return (unsigned)kind < MG_RESOURCE_KINDS ? names[kind] : "unknown";
}

mg_status mg_resources_open(mg_resources **out, const mg_resource_hooks *hooks,
                            mg_error *err) {
  mg_resources *registry = mg__alloc(sizeof *registry);
  mg_status st;

  *out = NULL;
  if (registry == NULL)
    return mg__fail(err, MG_ENOMEM, "resource registry, %zu bytes",
                    sizeof *registry);
  st = mg__mutex_init(&registry->lock, err);
  if (st != MG_OK) goto fail_registry;
  registry->hooks = *hooks;
  *out = registry;
  return MG_OK;

fail_registry:
  mg__free(registry);
  return st;
}

/* ---- the list; the caller holds the lock ------------------------------- */

static void resource_link(mg_resources *r, resource_entry *entry) {
  entry->id = ++r->last_id;
  entry->older = r->newest;
  if (r->newest != NULL)
    r->newest->newer = entry;
  else
    r->oldest = entry;
  r->newest = entry;
  r->count[entry->kind]++;
}

static void resource_unlink(mg_resources *r, resource_entry *entry) {
  if (entry->older != NULL)
    entry->older->newer = entry->newer;
  else
    r->oldest = entry->newer;
  if (entry->newer != NULL)
    entry->newer->older = entry->older;
  else
    r->newest = entry->older;
  r->count[entry->kind]--;
}

static resource_entry *resource_find(const mg_resources *r, uint64_t id) {
  resource_entry *entry = r->newest;

  while (entry != NULL && entry->id != id) entry = entry->older;
  return entry;
}

static const resource_entry *resource_find_file(const mg_resources *r,
                                                const char *path) {
  const resource_entry *entry = r->newest;

  while (entry != NULL &&
         (entry->path == NULL || strcmp(entry->path, path) != 0))
    entry = entry->older;
  return entry;
}

/* ---- one entry, outside the lock --------------------------------------- */

static void resource_free(resource_entry *entry) {
  mg__free(entry->path);
  mg__free(entry);
}

static mg_status resource_run(mg_resources *r, resource_entry *entry) {
  mg_status st = MG_OK;
  int failed;

  if (entry->path == NULL) {
    st = r->hooks.run(r->hooks.ctx, entry->kind, entry->token);
  } else {
    failed = mg__os_unlink(entry->path);
    if (failed != 0) st = MG_ESYS;
    if (failed != 0 && r->hooks.unlink_failed != NULL)
      r->hooks.unlink_failed(r->hooks.ctx, entry->path, failed);
  }
  resource_free(entry);
  return st;
}

static void resource_drop(mg_resources *r, resource_entry *entry) {
  if (entry->path == NULL)
    r->hooks.drop(r->hooks.ctx, entry->kind, entry->token);
  resource_free(entry);
}

/* ---- interface --------------------------------------------------------- */

mg_status mg_resources_add(mg_resources *r, mg_resource_kind kind, void *token,
                           uint64_t *out_id, mg_error *err) {
  resource_entry *entry = mg__alloc(sizeof *entry);

  if (entry == NULL)
    return mg__fail(err, MG_ENOMEM, "resource, %zu bytes", sizeof *entry);
  entry->kind = kind;
  entry->token = token;
  mg__lock(&r->lock);
  resource_link(r, entry);
  if (out_id != NULL) *out_id = entry->id;
  mg__unlock(&r->lock);
  return MG_OK;
}

mg_status mg_resources_add_file(mg_resources *r, const char *path,
                                uint64_t *out_id, mg_error *err) {
  const resource_entry *known;
  char absolute[PATH_MAX];
  resource_entry *entry;
  mg_status st;

  st = mg__os_absolute_path(absolute, sizeof absolute, path, err);
  if (st != MG_OK) return st;
  entry = mg__alloc(sizeof *entry);
  if (entry == NULL)
    return mg__fail(err, MG_ENOMEM, "resource, %zu bytes", sizeof *entry);
  entry->kind = MG_RESOURCE_TEMP_FILE;
  entry->path = mg__strdup(absolute);
  if (entry->path == NULL) goto fail_entry;
  mg__lock(&r->lock);
  known = resource_find_file(r, absolute);
  if (known == NULL) resource_link(r, entry);
  if (out_id != NULL) *out_id = known == NULL ? entry->id : known->id;
  mg__unlock(&r->lock);
  if (known != NULL) resource_free(entry);
  return MG_OK;

fail_entry:
  mg__free(entry);
  return mg__fail(err, MG_ENOMEM, "path of a temporary file");
}

/* Takes entry `id`, or the newest for id 0, out of the list. NULL: none. */
static resource_entry *resource_take(mg_resources *r, uint64_t id) {
  resource_entry *entry;

  mg__lock(&r->lock);
  entry = id == 0 ? r->newest : resource_find(r, id);
  if (entry != NULL) resource_unlink(r, entry);
  mg__unlock(&r->lock);
  return entry;
}

mg_status mg_resources_run(mg_resources *r, uint64_t id) {
  resource_entry *entry = id == 0 ? NULL : resource_take(r, id);

  if (entry == NULL) return MG_ENOTFOUND;
  return resource_run(r, entry) == MG_OK ? MG_OK : MG_EHOST;
}

bool mg_resources_drop(mg_resources *r, uint64_t id) {
  resource_entry *entry = id == 0 ? NULL : resource_take(r, id);

  if (entry == NULL) return false;
  resource_drop(r, entry);
  return true;
}

size_t mg_resources_count(const mg_resources *r, mg_resource_kind kind) {
  mg__mutex *lock = (mg__mutex *)&r->lock;
  size_t count;

  if ((unsigned)kind >= MG_RESOURCE_KINDS) return 0;
  mg__lock(lock);
  count = r->count[kind];
  mg__unlock(lock);
  return count;
}

size_t mg_resources_file_at(const mg_resources *r, size_t index, char *path,
                            size_t path_bytes) {
  mg__mutex *lock = (mg__mutex *)&r->lock;
  const resource_entry *entry;
  size_t bytes = 0;

  mg__lock(lock);
  for (entry = r->oldest; entry != NULL; entry = entry->newer)
    if (entry->path != NULL && index-- == 0) break;
  if (entry != NULL && strlen(entry->path) < path_bytes) {
    bytes = strlen(entry->path);
    memcpy(path, entry->path, bytes + 1);
  }
  mg__unlock(lock);
  return bytes;
}

/* @return false if another clean-up is under way. */
static bool resource_begin(mg_resources *r, uint64_t *out_newest_id) {
  bool begins;

  mg__lock(&r->lock);
  begins = !r->cleaning;
  r->cleaning = true;
  *out_newest_id = r->last_id;
  mg__unlock(&r->lock);
  return begins;
}

static uint32_t resource_end(mg_resources *r) {
  size_t left = 0;

  mg__lock(&r->lock);
  r->cleaning = false;
  for (int kind = 0; kind < MG_RESOURCE_KINDS; kind++) left += r->count[kind];
  mg__unlock(&r->lock);
  return (uint32_t)left;
}

void mg_resources_cleanup(mg_resources *r, mg_cleanup_report *out) {
  mg_cleanup_report report = {0, 0, 0};
  resource_entry *entry;
  uint64_t newest_id;
  uint32_t late = 0;

  if (out != NULL) *out = report;
  if (!resource_begin(r, &newest_id)) return;
  while (late < MG_RESOURCE_LATE_MAX && (entry = resource_take(r, 0)) != NULL) {
    if (entry->id > newest_id) late++;
    report.run++;
    if (resource_run(r, entry) != MG_OK) report.failed++;
  }
  report.left = resource_end(r);
  if (out != NULL) *out = report;
}

void mg_resources_disown(mg_resources *r) {
  resource_entry *entry;

  mg__mutex_reset(&r->lock);
  r->cleaning = false;
  while ((entry = resource_take(r, 0)) != NULL) resource_drop(r, entry);
}

void mg_resources_close(mg_resources *r) {
  resource_entry *entry;

  if (r == NULL) return;
  while ((entry = resource_take(r, 0)) != NULL) resource_drop(r, entry);
  mg__mutex_destroy(&r->lock);
  mg__free(r);
}
