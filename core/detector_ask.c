/* detector_ask.c - what a binding asks a detector, and answers it. */
#include "memguard/detector.h"
#include "memguard/segment.h"

#include <math.h>
#include <string.h>

#include "detector_parts.h"

/* Reading functions take a const detector; its lock is not part of what they
 * promise to leave alone. */
static mg__mutex *ask_lock_of(const mg_detector *d) {
  return (mg__mutex *)&d->lock;
}

/* ---- requests ----------------------------------------------------------------- */

uint32_t mg_detector_request(mg_detector *d, uint32_t *out_series) {
  uint32_t requests = atomic_exchange(&d->requests, 0);

  if (out_series != NULL) *out_series = atomic_load(&d->request_series);
  return requests;
}

bool mg_detector_has_request(const mg_detector *d) {
  return atomic_load_explicit(&d->requests, memory_order_relaxed) != 0;
}

/* ---- culprits: the caller holds the lock ----------------------------------------- */

/* Whether `kind` is counted in the unit of `series`, so that its share is one of
 * the growth of that signal. */
static bool ask_explains(mg_culprit_kind kind, uint32_t series) {
  switch (kind) {
    case MG_CULPRIT_TYPE:
    case MG_CULPRIT_SITE:
      return series == MG_LEAK_HEAP || series == MG_LEAK_BLOCKS;
    case MG_CULPRIT_FD:
      return series >= MG_LEAK_FDS && series <= MG_LEAK_FD_OTHERS;
    case MG_CULPRIT_MAPPING:
      return series == MG_LEAK_NATIVE || series == MG_LEAK_MAPPINGS;
    case MG_CULPRIT_RENTAL:
      return series == MG_LEAK_RENTALS;
    case MG_CULPRIT_COUNTER:
    case MG_CULPRITS:
      break;
  }
  return false;
}

static bool ask_has_kind(const mg_culprit *culprits, size_t count,
                         mg_culprit_kind kind) {
  for (size_t i = 0; i < count; i++)
    if (culprits[i].kind == kind) return true;
  return false;
}

/* Out go the culprits of kinds that are told now. */
static uint32_t ask_keep_others(mg_detector_finding *f,
                                const mg_culprit *culprits, size_t count) {
  uint32_t kept = 0;

  for (uint32_t i = 0; i < f->culprits; i++)
    if (!ask_has_kind(culprits, count, f->culprit[i].kind))
      f->culprit[kept++] = f->culprit[i];
  return kept;
}

/* A binding may hand over anything: one line, ended, no control bytes. */
static void ask_clean(mg_culprit *c) {
  c->name[sizeof c->name - 1] = '\0';
  for (char *at = c->name; *at != '\0'; at++)
    if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
  if (!(c->share >= 0.0)) c->share = 0.0;
  c->share = fmin(c->share, 1.0);
}

/* New ones come first; of the others the last ones give way. */
static void ask_put(mg_detector_finding *f, const mg_culprit *culprits,
                    size_t count) {
  uint32_t kept = ask_keep_others(f, culprits, count);
  uint32_t added = count < MG_CULPRITS_MAX ? (uint32_t)count : MG_CULPRITS_MAX;

  if (kept > MG_CULPRITS_MAX - added) kept = MG_CULPRITS_MAX - added;
  memmove(f->culprit + added, f->culprit, kept * sizeof *f->culprit);
  memcpy(f->culprit, culprits, added * sizeof *culprits);
  for (uint32_t i = 0; i < added; i++) ask_clean(&f->culprit[i]);
  f->culprits = kept + added;
  f->update_unix_ms = mg__os_unix_ms();
}

static void ask_explain(mg_detector *d, const mg_detector_finding *f) {
  for (uint32_t i = 0; i < f->culprits; i++)
    if (f->culprit[i].growth > 0 &&
        ask_explains(f->culprit[i].kind, f->leak.series))
      mg_leak_explain(d->leak, f->leak.series, f->culprit[i].share);
}

static bool ask_is_heap(uint32_t series) {
  return series == MG_LEAK_HEAP || series == MG_LEAK_BLOCKS ||
         series == MG_LEAK_CODE;
}

/* What is found for one of heap, blocks and code is found for all. */
static bool ask_is_same(uint32_t told_for, uint32_t series) {
  return told_for == series || (ask_is_heap(told_for) && ask_is_heap(series));
}

typedef struct ask_shown {
  mg_segment_type row[MG_SEGMENT_TYPES];
  size_t count;
} ask_shown;

static void ask_add(ask_shown *shown, const mg_culprit *c) {
  mg_segment_type *row = &shown->row[shown->count];

  for (size_t i = 0; i < shown->count; i++)
    if (strcmp(shown->row[i].name, c->name) == 0) return;
  if (shown->count == MG_SEGMENT_TYPES) return;
  *row = (mg_segment_type){.count = c->count,
                           .bytes = MG_ABSENT,
                           .grown_count = c->growth,
                           .grown_bytes = c->growth_bytes};
  memcpy(row->name, c->name, sizeof row->name - 1);
  shown->count++;
}

/* The recorder of the process names them too, for whoever comes after its end: all
 * that are known now, the program's own types before what the kernel tells. */
static void ask_show(const mg_detector *d, uint64_t span_ms) {
  static const mg_culprit_kind kinds[] = {
      MG_CULPRIT_TYPE,   MG_CULPRIT_SITE,    MG_CULPRIT_FD,
      MG_CULPRIT_RENTAL, MG_CULPRIT_COUNTER, MG_CULPRIT_MAPPING};
  ask_shown shown = {.count = 0};

  for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
    for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS; i++) {
      const mg_detector_finding *f = &d->record[i].finding;
      if (f->number == 0 || f->leak.tier == MG_LEAK_NONE) continue;
      for (uint32_t c = 0; c < f->culprits; c++)
        if (f->culprit[c].kind == kinds[k]) ask_add(&shown, &f->culprit[c]);
    }
  mg_segment_note_types(shown.row, shown.count, span_ms);
}

mg_status mg__detector_put_culprits(mg_detector *d, uint32_t series,
                                    const mg_culprit *culprits, size_t count,
                                    mg_error *err) {
  bool found = false;

  for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS; i++) {
    mg_detector_finding *f = &d->record[i].finding;
    if (f->number == 0 || f->leak.tier == MG_LEAK_NONE ||
        !ask_is_same(series, f->leak.series))
      continue;
    found = true;
    if (count == 0) continue;
    ask_put(f, culprits, count);
    ask_explain(d, f);
    ask_show(d, f->update_unix_ms - f->since_unix_ms);
  }
  return found ? MG_OK
               : mg__fail(err, MG_ENOTFOUND, "series %u is not suspected",
                          series);
}

mg_status mg_detector_culprits(mg_detector *d, uint32_t series,
                               const mg_culprit *culprits, size_t count,
                               mg_error *err) {
  mg_status st;

  mg__lock(&d->lock);
  st = mg__detector_put_culprits(d, series, culprits, count, err);
  mg__unlock(&d->lock);
  return st;
}

/* ---- reading -------------------------------------------------------------------- */

/* @return the finding with the least number above `number`; NULL if none. */
static const mg_detector_finding *ask_next(const mg_detector *d,
                                           uint64_t number) {
  const mg_detector_finding *next = NULL;

  for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS; i++) {
    const mg_detector_finding *f = &d->record[i].finding;
    if (f->number > number && (next == NULL || f->number < next->number))
      next = f;
  }
  return next;
}

size_t mg_detector_findings(const mg_detector *d, mg_detector_finding *out,
                            size_t max) {
  const mg_detector_finding *f;
  size_t count = 0;

  mg__lock(ask_lock_of(d));
  for (f = ask_next(d, 0); f != NULL; f = ask_next(d, f->number)) {
    if (f->leak.tier == MG_LEAK_NONE) continue;
    if (out != NULL && count < max) out[count] = *f;
    count++;
  }
  mg__unlock(ask_lock_of(d));
  return count;
}

bool mg_detector_finding_at(const mg_detector *d, uint64_t number,
                            mg_detector_finding *out) {
  const mg_detector_finding *f;
  bool found;

  if (number == 0) return false;
  mg__lock(ask_lock_of(d));
  f = ask_next(d, number - 1);
  found = f != NULL && f->number == number;
  if (found) *out = *f;
  mg__unlock(ask_lock_of(d));
  return found;
}

void mg_detector_read_stats(const mg_detector *d, mg_detector_stats *out) {
  mg__lock(ask_lock_of(d));
  *out = d->stats;
  out->collections = atomic_load(&d->collection.number);
  out->fd_growth_per_minute = mg__fd_watch_growth(&d->fds);
  mg__unlock(ask_lock_of(d));
}

/* ---- names ------------------------------------------------------------------------ */

const char *mg_request_name(mg_request request) {
  switch (request) {
#define ASK_REQUEST(id, bit, name) \
  case MG_REQUEST_##id:            \
    return name;
    MG_REQUEST_MAP(ASK_REQUEST)
#undef ASK_REQUEST
  }
  return "unknown";
}

const char *mg_detector_signal_name(uint32_t series) {
  static const char *const names[] = {
#define ASK_SIGNAL(id, name, unit, may_confirm) name,
      MG_LEAK_SIGNAL_MAP(ASK_SIGNAL)
#undef ASK_SIGNAL
  };
  return series < MG_LEAK_SIGNALS ? names[series] : "unknown";
}
