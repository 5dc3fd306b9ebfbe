/* detector_count.c - descriptors by target and private memory by mapping, counted
 * when they are suspected: no binding is needed for these. */
#include "memguard/detector.h"

#include <string.h>

#include "detector_parts.h"

#define COUNT_NAMES 4096u

typedef struct count_kind {
  mg_culprit_kind culprit;
  mg_census_by by;
  mg_status (*count)(mg_census *census, mg_error *err);
  uint32_t series;
} count_kind;

static const count_kind count_kinds[MG__TALLIES] = {
    [MG__TALLY_FDS] = {MG_CULPRIT_FD, MG_CENSUS_BY_COUNT, mg_census_fds,
                       MG__SERIES_BIT(FDS) | MG__SERIES_BIT(FD_SOCKETS) |
                           MG__SERIES_BIT(FD_PIPES) | MG__SERIES_BIT(FD_FILES) |
                           MG__SERIES_BIT(FD_OTHERS) |
                           MG__SERIES_BIT(CONNECTIONS)},
    [MG__TALLY_MAPS] = {MG_CULPRIT_MAPPING, MG_CENSUS_BY_BYTES, mg_census_maps,
                        MG__SERIES_BIT(NATIVE) | MG__SERIES_BIT(MAPPINGS)}};

void mg__detector_drop_counts(mg_detector *d) {
  for (int i = 0; i < MG__TALLIES; i++) {
    mg_census_close(d->tally[i].base);
    d->tally[i] = (mg__tally){.base = NULL};
  }
}

/* @return [owned] NULL if it cannot be had now. */
static mg_census *count_now(const count_kind *kind) {
  mg_census *census;

  if (mg_census_open(&census, COUNT_NAMES, NULL) != MG_OK) return NULL;
  if (kind->count(census, NULL) == MG_OK) return census;
  mg_census_close(census);
  return NULL;
}

/* Whether a descriptor's target is of the kind that `series` counts. */
static bool count_belongs(const char *name, uint32_t series) {
  bool is_socket = strncmp(name, "socket", 6) == 0;
  bool is_pipe = strcmp(name, "pipe") == 0;
  bool is_file = strncmp(name, "file ", 5) == 0;

  switch (series) {
    case MG_LEAK_FD_SOCKETS:
    case MG_LEAK_CONNECTIONS: return is_socket;
    case MG_LEAK_FD_PIPES: return is_pipe;
    case MG_LEAK_FD_FILES: return is_file;
    case MG_LEAK_FD_OTHERS: return !is_socket && !is_pipe && !is_file;
    default: return true;
  }
}

/* The caller holds the lock. */
static void count_tell(mg_detector *d, const count_kind *kind,
                       const mg_culprit *grown, size_t count) {
  mg_culprit own[MG_CULPRITS_MAX];

  for (uint32_t series = 0; series < MG_LEAK_SIGNALS; series++) {
    size_t owned = 0;
    if ((kind->series >> series & 1) == 0) continue;
    for (size_t i = 0; i < count; i++)
      if (count_belongs(grown[i].name, series)) own[owned++] = grown[i];
    (void)mg__detector_put_culprits(d, series, own, owned, NULL);
  }
}

static void count_compare(mg_detector *d, const mg__tally *tally,
                          const count_kind *kind) {
  mg_culprit grown[MG_CULPRITS_MAX];
  mg_census *now = count_now(kind);
  size_t count;

  if (now == NULL) return;
  count = mg_census_diff(tally->base, now, kind->culprit, kind->by, grown,
                         MG_CULPRITS_MAX);
  mg_census_close(now);
  mg__lock(&d->lock);
  count_tell(d, kind, grown, count);
  mg__unlock(&d->lock);
}

static mg__count count_decide(mg_detector *d, mg__tally *tally,
                              const count_kind *kind, double now_ms) {
  mg__count decision;

  mg__lock(&d->lock);
  decision = mg__inquiry_next(&tally->inquiry,
                              mg__detector_target(d, kind->series), now_ms);
  mg__unlock(&d->lock);
  return decision;
}

void mg__detector_count(mg_detector *d, double now_ms) {
  for (int i = 0; i < MG__TALLIES; i++) {
    const count_kind *kind = &count_kinds[i];
    mg__tally *tally = &d->tally[i];
    mg__count decision = count_decide(d, tally, kind, now_ms);
    if (decision == MG__COUNT_AGAIN && tally->base != NULL) {
      count_compare(d, tally, kind);
    } else if (decision != MG__COUNT_NOTHING) {
      mg_census_close(tally->base);
      tally->base = count_now(kind);
    } else if (!tally->inquiry.has_base) {
      mg_census_close(tally->base);
      tally->base = NULL;
    }
  }
}
