/* segment_reap.c - lists segments; ends what is left of dead processes.
 *
 * A dead one is locked by whoever deals with it, so that of several reapers one
 * adds its counters, once, and removes it. What is kept is a list of the newest;
 * each further one drives out the oldest, so a directory of any size is through
 * after one look. */
#include "memguard/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "os.h"
#include "segment_parts.h"

#define REAP_ORPHAN_MS 60000u /* what is half made is older than that by chance */

typedef struct reap_kept {
  char name[MG_SEGMENT_NAME_BYTES];
  uint64_t unix_ms;
} reap_kept;

struct mg__reaper {
  mg__os_listing *listing;
  const char *directory; /* [borrowed] */
  double keep_ms;
  size_t keep, count;
  uint64_t previous_ms; /* when the latest run of our program ended; 0: none */
  mg_postmortem_report previous;
  reap_kept kept[];
};

/* ---- list ----------------------------------------------------------------- */

static int reap_compare(const void *a, const void *b) {
  return strcmp(a, b);
}

static mg_status reap_add_name(mg_segment_names *names, size_t *room,
                               const char *name, mg_error *err) {
  size_t wanted = *room == 0 ? 64 : *room * 2;
  void *larger;

  if (names->count == *room) {
    larger = mg__resize(names->name, wanted * MG_SEGMENT_NAME_BYTES);
    if (larger == NULL)
      return mg__fail(err, MG_ENOMEM, "names of %zu segments", wanted);
    names->name = larger;
    *room = wanted;
  }
  memcpy(names->name[names->count++], name, strlen(name) + 1);
  return MG_OK;
}

mg_status mg_segment_list(mg_segment_names *out, const char *directory,
                          mg_error *err) {
  mg__os_listing *listing;
  size_t room = 0;
  const char *name;
  mg_status st = mg__os_list(&listing, directory, err);

  *out = (mg_segment_names){0, NULL};
  if (st == MG_ENOTFOUND) return MG_OK;
  if (st != MG_OK) return st;
  while (st == MG_OK && (name = mg__os_list_next(listing)) != NULL)
    if (mg__segment_is_name(name)) st = reap_add_name(out, &room, name, err);
  mg__os_list_close(listing);
  if (st != MG_OK)
    mg_segment_names_free(out);
  else if (out->count > 1)
    qsort(out->name, out->count, MG_SEGMENT_NAME_BYTES, reap_compare);
  return st;
}

void mg_segment_names_free(mg_segment_names *names) {
  mg__free(names->name);
  *names = (mg_segment_names){0, NULL};
}

/* ---- accumulators ---------------------------------------------------------- */

#define REAP_SERVICE_PREFIX "service-"
#define REAP_SERVICE_NAME_BYTES 32

typedef struct reap_account {
  char magic[8];
  uint32_t version, bytes;
  mg_segment_service total;
  uint32_t reserved, crc;
} reap_account;

static uint32_t reap_account_crc(const reap_account *account) {
  return mg__segment_crc(account, offsetof(reap_account, crc));
}

static bool reap_account_is_valid(const reap_account *account) {
  return memcmp(account->magic, MG_SEGMENT_MAGIC, sizeof account->magic) == 0 &&
         account->version == MG_SEGMENT_VERSION &&
         account->bytes == sizeof *account &&
         account->crc == reap_account_crc(account);
}

static void reap_service_name(char out[REAP_SERVICE_NAME_BYTES],
                              const char *runtime, const char *program) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);

  for (const char *at = runtime; *at != '\0'; at++)
    hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
  hash = (hash ^ 0xffu) * UINT64_C(0x100000001b3);
  for (const char *at = program; *at != '\0'; at++)
    hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
  snprintf(out, REAP_SERVICE_NAME_BYTES, REAP_SERVICE_PREFIX "%016llx",
           (unsigned long long)hash);
}

static bool reap_is_service(const char *name) {
  size_t prefix = strlen(REAP_SERVICE_PREFIX);

  return strncmp(name, REAP_SERVICE_PREFIX, prefix) == 0 &&
         strspn(name + prefix, "0123456789abcdef") == 16 &&
         name[prefix + 16] == '\0';
}

static size_t reap_count_services(const char *directory) {
  mg__os_listing *listing;
  const char *name;
  size_t count = 0;

  if (mg__os_list(&listing, directory, NULL) != MG_OK)
    return MG_SEGMENT_SERVICES;
  while ((name = mg__os_list_next(listing)) != NULL)
    if (reap_is_service(name)) count++;
  mg__os_list_close(listing);
  return count;
}

/* The account of a service; once there are enough, that of all others. */
static bool reap_open_account(const mg__reaper *r, mg_segment_service *who,
                              mg__file *out) {
  char name[REAP_SERVICE_NAME_BYTES], path[MG_SEGMENT_PATH_BYTES + 64];

  reap_service_name(name, who->runtime, who->program);
  if (!mg__os_list_has(r->listing, name) &&
      reap_count_services(r->directory) >= MG_SEGMENT_SERVICES - 1) {
    memset(who->runtime, 0, sizeof who->runtime);
    memset(who->kind, 0, sizeof who->kind);
    who->phase_kinds = 0;
    mg__segment_copy_text(who->program, sizeof who->program, "other");
    reap_service_name(name, who->runtime, who->program);
  }
  snprintf(path, sizeof path, "%s/%s", r->directory, name);
  return mg__os_open_own(path, out);
}

static void reap_add(mg_segment_service *total, const mg_segment_view *view,
                     mg_verdict verdict, uint64_t unix_ms) {
  total->ended[verdict]++;
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    total->gc_count[kind] += view->gc[kind].count;
    total->gc_wall_ns[kind] += view->gc[kind].wall_ns;
  }
  total->rounds += view->now.rounds;
  total->freed_bytes += view->now.freed_bytes;
  total->alerts += view->now.alerts;
  if (unix_ms > total->last_unix_ms) total->last_unix_ms = unix_ms;
}

static void reap_write_account(int fd, const mg_segment_service *who,
                               const mg_segment_view *view, mg_verdict verdict,
                               uint64_t unix_ms) {
  reap_account account;

  if (mg__os_read_at(fd, &account, sizeof account, 0) !=
          (long)sizeof account ||
      !reap_account_is_valid(&account)) {
    account = (reap_account){.version = MG_SEGMENT_VERSION,
                             .bytes = sizeof account,
                             .total = *who};
    memcpy(account.magic, MG_SEGMENT_MAGIC, sizeof account.magic);
  }
  reap_add(&account.total, view, verdict, unix_ms);
  account.crc = reap_account_crc(&account);
  (void)mg__os_write_at(fd, &account, sizeof account, 0);
}

/* Rather lost than counted twice: the mark comes first. The segment is locked.
 * @return whether it is folded now. */
static bool reap_fold(const mg__reaper *r, mg_segment *s,
                      const mg_segment_view *view, uint64_t unix_ms) {
  const uint32_t yes = 1;
  mg_segment_service who = {.last_unix_ms = 0};
  mg_postmortem_facts facts;
  mg_postmortem_report report;
  mg__file file;
  bool done = false;

  memcpy(who.runtime, s->header.runtime, sizeof who.runtime);
  memcpy(who.program, s->header.program, sizeof who.program);
  memcpy(who.kind, s->header.kind, sizeof who.kind);
  who.phase_kinds = s->header.phase_kinds;
  if (mg_segment_facts(s, &facts, NULL) != MG_OK) return false;
  facts.is_alive = false;
  mg_postmortem(&facts, &report);
  if (!reap_open_account(r, &who, &file)) return false;
  if (mg__os_lock(file.fd, true)) {
    done = mg__os_write_at(s->file.fd, &yes, sizeof yes,
                           offsetof(mg_segment_layout, life) +
                               offsetof(mg_segment_life, is_folded));
    if (done)
      reap_write_account(file.fd, &who, view, report.verdict, unix_ms);
  }
  mg__file_close(&file);
  return done;
}

static bool reap_read_service(const mg__os_listing *listing, const char *name,
                              mg_segment_service *out) {
  reap_account account;
  mg__file file;
  bool is_read;

  if (!reap_is_service(name) ||
      !mg__os_list_open(listing, name, &file, false))
    return false;
  is_read = mg__os_read_at(file.fd, &account, sizeof account, 0) ==
                (long)sizeof account &&
            reap_account_is_valid(&account);
  mg__file_close(&file);
  if (!is_read) return false;
  *out = account.total;
  out->runtime[sizeof out->runtime - 1] = '\0';
  out->program[sizeof out->program - 1] = '\0';
  for (size_t i = 0; i < MG_PAUSE_KINDS; i++)
    out->kind[i][sizeof out->kind[i] - 1] = '\0';
  return true;
}

size_t mg_segment_services(const char *directory, mg_segment_service *out,
                           size_t max) {
  mg__os_listing *listing;
  const char *name;
  size_t count = 0;

  if (mg__os_list(&listing, directory, NULL) != MG_OK) return 0;
  while (count < max && (name = mg__os_list_next(listing)) != NULL)
    if (reap_read_service(listing, name, &out[count])) count++;
  mg__os_list_close(listing);
  return count;
}

/* ---- one dead process ------------------------------------------------------- */

/* With its socket. The file is locked. */
static void reap_remove(const mg__reaper *r, const char *name,
                        const mg__file *file, mg_segment_reaped *counts) {
  char other[MG_SEGMENT_NAME_BYTES + 8];

  if (!mg__os_list_remove(r->listing, name, file)) return;
  counts->removed++;
  snprintf(other, sizeof other, "%s.sock", name);
  mg__os_list_drop(r->listing, other);
}

static void reap_remove_name(const mg__reaper *r, const char *name,
                             mg_segment_reaped *counts) {
  mg__file file;

  if (!mg__os_list_open(r->listing, name, &file, true)) return;
  if (mg__os_lock(file.fd, true)) reap_remove(r, name, &file, counts);
  mg__file_close(&file);
}

/* Keeps one of a known age, drives out the oldest if there is no room. It must not
 * be locked by us: what is driven out may be itself. */
static void reap_keep(mg__reaper *r, const char *name, uint64_t unix_ms,
                      mg_segment_reaped *counts) {
  reap_kept fresh = {.unix_ms = unix_ms}, *oldest = &fresh, driven;

  memcpy(fresh.name, name, strlen(name) + 1);
  if (r->count < r->keep) {
    r->kept[r->count++] = fresh;
    return;
  }
  for (size_t i = 0; i < r->count; i++)
    if (r->kept[i].unix_ms < oldest->unix_ms) oldest = &r->kept[i];
  driven = *oldest;
  *oldest = fresh;
  reap_remove_name(r, driven.name, counts);
}

/* When it was last seen alive. */
static uint64_t reap_time(const mg_segment *s, const mg_segment_view *view,
                          uint64_t now_ms) {
  uint64_t at = view->heartbeat_unix_ms;

  if (view->ended_unix_ms > at) at = view->ended_unix_ms;
  if (at == 0 || at > now_ms) at = s->header.opened_unix_ms;
  return at > now_ms ? now_ms : at;
}

/* Whether it is the latest run of this program that was over when ours began. One
 * that others looked through before may hide a later one that is gone by now. */
static void reap_note_previous(mg__reaper *r, mg_segment *s,
                               const mg_segment_view *view, uint64_t ended_ms) {
  const mg_segment_layout *own = mg__segment_map();
  mg_postmortem_facts facts;

  if (own == NULL || own->header.argv_hash != s->header.argv_hash ||
      strcmp(own->header.program, s->header.program) != 0 ||
      strcmp(own->header.runtime, s->header.runtime) != 0 ||
      ended_ms > own->header.opened_unix_ms || ended_ms < r->previous_ms)
    return;
  if (view->is_folded &&
      (double)(mg__os_unix_ms() - ended_ms) > MG_SEGMENT_KEEP_CLEAN_MS)
    return;
  if (mg_segment_facts(s, &facts, NULL) != MG_OK) return;
  facts.is_alive = false;
  mg_postmortem(&facts, &r->previous);
  r->previous_ms = ended_ms;
}

/* @return whether it stays, last seen at `*out_unix_ms`. */
static bool reap_dead(mg__reaper *r, mg_segment *s, const char *name,
                      uint64_t *out_unix_ms, mg_segment_reaped *counts) {
  uint64_t now_ms = mg__os_unix_ms();
  double keep_ms = r->keep_ms;
  mg_segment_view view;

  counts->dead++;
  if (!mg__os_lock(s->file.fd, true)) return false; /* somebody else is at it */
  if (mg_segment_read(s, &view, NULL) != MG_OK) {
    *out_unix_ms = mg__os_written_unix_ms(s->file.fd);
    return true;
  }
  *out_unix_ms = reap_time(s, &view, now_ms);
  if (r == mg__self.reaper) reap_note_previous(r, s, &view, *out_unix_ms);
  if (!view.is_folded && reap_fold(r, s, &view, *out_unix_ms))
    counts->folded++;
  if (view.state != MG_SEGMENT_RUNNING && keep_ms > MG_SEGMENT_KEEP_CLEAN_MS)
    keep_ms = MG_SEGMENT_KEEP_CLEAN_MS;
  if ((double)(now_ms - *out_unix_ms) <= keep_ms) return true;
  reap_remove(r, name, &s->file, counts);
  return false;
}

/* Of another version, damaged, not ours to judge: kept for as long as others. */
static void reap_foreign(mg__reaper *r, const char *name,
                         mg_segment_reaped *counts) {
  uint64_t now_ms = mg__os_unix_ms(), written_ms;
  bool stays = false;
  mg__file file;

  if (!mg__os_list_open(r->listing, name, &file, true)) return;
  written_ms = mg__os_written_unix_ms(file.fd);
  if (mg__os_lock(file.fd, true)) {
    counts->dead++;
    stays = written_ms > now_ms || (double)(now_ms - written_ms) <= r->keep_ms;
    if (!stays) reap_remove(r, name, &file, counts);
  }
  mg__file_close(&file);
  if (stays) reap_keep(r, name, written_ms, counts);
}

static void reap_segment(mg__reaper *r, const char *name,
                         mg_segment_reaped *counts) {
  uint64_t unix_ms = 0;
  bool stays = false;
  mg_segment s;
  mg__file file;

  if (!mg__os_list_open(r->listing, name, &file, true)) return;
  if (mg__segment_open_file(&s, file, NULL) != MG_OK) {
    reap_foreign(r, name, counts);
    return;
  }
  if (mg_segment_is_alive(&s))
    counts->alive++;
  else
    stays = reap_dead(r, &s, name, &unix_ms, counts);
  mg__file_close(&s.file);
  if (stays) reap_keep(r, name, unix_ms, counts);
}

/* What a process left half made, and sockets without a segment. */
static void reap_rest(const mg__reaper *r, const char *name) {
  const char *end = strrchr(name, '.');
  char base[MG_SEGMENT_NAME_BYTES];
  mg__file file;

  if (end == NULL || (size_t)(end - name) >= sizeof base) return;
  memcpy(base, name, (size_t)(end - name));
  base[end - name] = '\0';
  if (!mg__segment_is_name(base)) return;
  if (strcmp(end, ".sock") == 0 && !mg__os_list_has(r->listing, base))
    mg__os_list_drop(r->listing, name);
  if (strcmp(end, ".new") != 0 ||
      !mg__os_list_open(r->listing, name, &file, true))
    return;
  if (mg__os_written_unix_ms(file.fd) + REAP_ORPHAN_MS < mg__os_unix_ms() &&
      mg__os_lock(file.fd, true))
    mg__os_list_remove(r->listing, name, &file);
  mg__file_close(&file);
}

/* ---- a directory ------------------------------------------------------------- */

mg_status mg__reaper_open(mg__reaper **out, const char *directory,
                          double keep_ms, size_t keep, mg_error *err) {
  mg__reaper *r = mg__alloc(sizeof *r + keep * sizeof *r->kept);
  mg_status st;

  *out = NULL;
  if (r == NULL)
    return mg__fail(err, MG_ENOMEM, "reaper, %zu segments to keep", keep);
  r->directory = directory;
  r->keep_ms = keep_ms;
  r->keep = keep;
  st = mg__os_list(&r->listing, directory, err);
  if (st == MG_OK)
    *out = r;
  else
    mg__free(r);
  return st;
}

bool mg__reaper_step(mg__reaper *r, uint32_t names, mg_segment_reaped *counts) {
  const char *name = NULL;

  for (uint32_t i = 0; i < names; i++) {
    name = mg__os_list_next(r->listing);
    if (name == NULL) return false;
    if (mg__segment_is_name(name))
      reap_segment(r, name, counts);
    else
      reap_rest(r, name);
  }
  return true;
}

bool mg__reaper_has_previous(const mg__reaper *r, double *out_usage) {
  *out_usage = r->previous.usage;
  return r->previous_ms != 0 && r->previous.verdict == MG_VERDICT_OOM_LIKELY;
}

void mg__reaper_close(mg__reaper *r) {
  if (r == NULL) return;
  mg__os_list_close(r->listing);
  mg__free(r);
}

mg_status mg_segment_reap(const char *directory, double keep_ms, size_t keep,
                          mg_segment_reaped *out, mg_error *err) {
  mg__reaper *r;
  mg_status st = mg__reaper_open(&r, directory, keep_ms, keep, err);

  *out = (mg_segment_reaped){0};
  if (st == MG_ENOTFOUND) return MG_OK;
  if (st != MG_OK) return st;
  while (mg__reaper_step(r, UINT32_MAX, out)) {
  }
  mg__reaper_close(r);
  return MG_OK;
}
