/* detector.c - the leak detector of a manager, one at most.
 *
 * A finding is read by its number, its numbers in one row of doubles and its texts
 * one by one. V8's hooks tell full collections of the isolate by themselves, also
 * inside a collection; gc.js does where those are missing. */
#include "memguard_node.h"

#include <stdlib.h>
#include <string.h>

enum {
  FINDING_SERIES,
  FINDING_TIER,
  FINDING_PREVIOUS,
  FINDING_IS_CRITICAL,
  FINDING_SEVERITY,
  FINDING_GROWTH,
  FINDING_GROWTH_PER_MINUTE,
  FINDING_BASE,
  FINDING_LATEST,
  FINDING_TO_LIMIT_MS,
  FINDING_OCTAVES,
  FINDING_WINDOW_MS,
  FINDING_SINCE_UNIX_MS,
  FINDING_UPDATE_UNIX_MS,
  FINDING_CULPRITS,
  FINDING_VALUES
};

enum {
  CULPRIT_KIND,
  CULPRIT_GROWTH,
  CULPRIT_GROWTH_BYTES,
  CULPRIT_COUNT,
  CULPRIT_SHARE,
  CULPRIT_VALUES
};

/* X(field): in the order of detectorStats() */
#define DETECTOR_STATS(X)                                                     \
  X(samples) X(collections) X(wide) X(findings) X(withdrawn) X(alarms)        \
  X(private_bytes) X(native_bytes) X(sockets) X(pipes) X(files) X(others)     \
  X(mappings)

#define DETECTOR_COUNTED(field) +1
enum { DETECTOR_STATS_VALUES = 3 DETECTOR_STATS(DETECTOR_COUNTED) };

void mgn_detectors_collected(mgn_env *self, uint64_t live_bytes,
                             uint64_t wall_ns) {
  for (const mgn_manager *m = self->managers; m != NULL; m = m->next)
    if (m->detector != NULL)
      mg_detector_collected(m->detector, live_bytes, MG_ABSENT,
                            (double)wall_ns / 1e6, true);
}

void mgn_detector_end(mgn_manager *self) {
  mg_detector *detector = self->detector;

  self->detector = NULL; /* the hooks do not find it any more */
  mg_detector_close(detector);
}

/* Reads `count` arguments, the first of which is a manager with a detector.
 * @return NULL after throwing. */
static mg_detector *detector_given(napi_env env, napi_callback_info info,
                                   size_t count, napi_value *values) {
  mgn_manager *self;

  if (!mgn_arguments(env, info, count, values, NULL)) return NULL;
  self = mgn_manager_of(env, values[0]);
  if (self == NULL) return NULL;
  if (self->detector == NULL)
    mgn_throw_text(env, MG_ECLOSED, "the leak detector is closed");
  return self->detector;
}

/* detectorOpen(manager, bits of requests that will be answered) */
static napi_value detector_open(napi_env env, napi_callback_info info) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_detector *detector;
  mgn_manager *self;
  uint64_t answers;
  napi_value v[2];

  if (!mgn_arguments(env, info, 2, v, NULL)) return NULL;
  self = mgn_manager_of(env, v[0]);
  if (self == NULL || !mgn_count_of(env, v[1], &answers)) return NULL;
  options.runtime = MG_RUNTIME_NODE;
  options.answers = (uint32_t)answers;
  if (mg_detector_open(&detector, mg_manager_monitor(self->core), &options,
                       &err) != MG_OK)
    return mgn_throw(env, &err);
  self->detector = detector;
  return mgn_undefined(env);
}

/* detectorClose(manager): nothing if it is closed, or the manager is */
static napi_value detector_close(napi_env env, napi_callback_info info) {
  mgn_manager *self;
  napi_value value;

  if (!mgn_arguments(env, info, 1, &value, NULL)) return NULL;
  self = mgn_manager_peek(env, value);
  if (self != NULL) mgn_detector_end(self);
  return mgn_undefined(env);
}

/* detectorSetActive(manager, active) */
static napi_value detector_set_active(napi_env env, napi_callback_info info) {
  mg_detector *detector;
  napi_value v[2];
  bool active;

  detector = detector_given(env, info, 2, v);
  if (detector == NULL || !mgn_bool_of(env, v[1], &active)) return NULL;
  mg_detector_set_active(detector, active);
  return mgn_undefined(env);
}

/* detectorIsActive(manager) */
static napi_value detector_is_active(napi_env env, napi_callback_info info) {
  mg_detector *detector;
  napi_value value;

  detector = detector_given(env, info, 1, &value);
  return detector == NULL ? NULL
                          : mgn_boolean(env, mg_detector_is_active(detector));
}

/* detectorCheck(manager): a wide reading and a judgement now */
static napi_value detector_check(napi_env env, napi_callback_info info) {
  mg_detector *detector;
  napi_value value;

  detector = detector_given(env, info, 1, &value);
  if (detector == NULL) return NULL;
  mg_detector_check(detector);
  return mgn_undefined(env);
}

/* detectorTell(manager, series, value; NaN: not known any more) */
static napi_value detector_tell(napi_env env, napi_callback_info info) {
  mg_error err = MG_ERROR_INIT;
  mg_detector *detector;
  uint64_t series;
  napi_value v[3];
  double value;

  detector = detector_given(env, info, 3, v);
  if (detector == NULL || !mgn_count_of(env, v[1], &series) ||
      !mgn_number_of(env, v[2], &value))
    return NULL;
  if (series > UINT32_MAX) series = UINT32_MAX;
  if (mg_detector_tell(detector, (uint32_t)series, mgn_to_u64(value), &err) !=
      MG_OK)
    return mgn_throw(env, &err);
  return mgn_undefined(env);
}

/* detectorCollected(manager, liveBytes, liveBlocks, durationMs): a full collection
 * that V8's hooks did not tell; NaN: not known */
static napi_value detector_collected(napi_env env, napi_callback_info info) {
  mg_detector *detector;
  double number[3];
  napi_value v[4];

  detector = detector_given(env, info, 4, v);
  if (detector == NULL) return NULL;
  for (int i = 0; i < 3; i++)
    if (!mgn_number_of(env, v[i + 1], &number[i])) return NULL;
  mg_detector_collected(detector, mgn_to_u64(number[0]), mgn_to_u64(number[1]),
                        number[2], true);
  return mgn_undefined(env);
}

/* detectorRequest(manager, Float64Array out) -> bits of requests, taken
 * out: series that culprits are to be told for */
static napi_value detector_request(napi_env env, napi_callback_info info) {
  mg_detector *detector;
  uint32_t bits, series;
  napi_value v[2];
  double *out;

  detector = detector_given(env, info, 2, v);
  if (detector == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], 1, NULL);
  if (out == NULL) return NULL;
  bits = mg_detector_request(detector, &series);
  *out = (double)series;
  return mgn_number(env, bits);
}

/* ---- culprits ---------------------------------------------------------------- */

static bool culprit_read(napi_env env, napi_value names, uint32_t index,
                         const double *row, mg_culprit *out) {
  napi_value name;
  size_t bytes;

  *out = (mg_culprit){.kind = (mg_culprit_kind)row[CULPRIT_KIND],
                      .growth = (int64_t)row[CULPRIT_GROWTH],
                      .growth_bytes = (int64_t)row[CULPRIT_GROWTH_BYTES],
                      .count = mgn_to_u64(row[CULPRIT_COUNT]),
                      .share = row[CULPRIT_SHARE]};
  /* Cut at a character's border by Node. */
  if (napi_get_element(env, names, index, &name) == napi_ok &&
      napi_get_value_string_utf8(env, name, out->name, sizeof out->name,
                                 &bytes) == napi_ok)
    return true;
  mgn_fail_napi(env);
  return false;
}

/* Numbers of JS may be anything: what is no kind or does not fit is refused. */
static bool culprit_fits(const double *row) {
  const double most = 9007199254740992.0;

  return row[CULPRIT_KIND] >= 0 && row[CULPRIT_KIND] < MG_CULPRITS &&
         row[CULPRIT_GROWTH] >= -most && row[CULPRIT_GROWTH] <= most &&
         row[CULPRIT_GROWTH_BYTES] >= -most &&
         row[CULPRIT_GROWTH_BYTES] <= most;
}

/* detectorCulprits(manager, series, names, Float64Array rows) -> whether there is a
 * finding for it; rows: of each kind, growth, growth in bytes, count, share */
static napi_value detector_culprits(napi_env env, napi_callback_info info) {
  mg_culprit culprits[MG_CULPRITS_MAX];
  uint32_t count;
  mg_detector *detector;
  uint64_t series;
  napi_value v[4];
  double *rows;

  detector = detector_given(env, info, 4, v);
  if (detector == NULL || !mgn_count_of(env, v[1], &series)) return NULL;
  MGN_TRY(env, napi_get_array_length(env, v[2], &count));
  if (count > MG_CULPRITS_MAX) count = MG_CULPRITS_MAX;
  rows = mgn_doubles_of(env, v[3], (size_t)count * CULPRIT_VALUES, NULL);
  if (rows == NULL || series > UINT32_MAX) return NULL;
  for (uint32_t i = 0; i < count; i++, rows += CULPRIT_VALUES) {
    if (!culprit_fits(rows))
      return mgn_throw_text(env, MG_ERANGE, "numbers of a culprit");
    if (!culprit_read(env, v[2], i, rows, &culprits[i])) return NULL;
  }
  return mgn_boolean(env,
                     mg_detector_culprits(detector, (uint32_t)series, culprits,
                                          count, NULL) == MG_OK);
}

/* ---- findings ------------------------------------------------------------------ */

/* detectorFindings(manager, Float64Array out) -> how many are not over; out: their
 * numbers, oldest first, at most as many as fit */
static napi_value detector_findings(napi_env env, napi_callback_info info) {
  mg_detector_finding *found;
  mg_detector *detector;
  napi_value v[2];
  size_t room, count;
  double *out;

  detector = detector_given(env, info, 2, v);
  if (detector == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], 0, &room);
  if (out == NULL) return NULL;
  found = calloc(MG_DETECTOR_FINDINGS, sizeof *found);
  if (found == NULL) return mgn_throw_text(env, MG_ENOMEM, "findings");
  count = mg_detector_findings(detector, found, MG_DETECTOR_FINDINGS);
  for (size_t i = 0; i < count && i < room; i++)
    out[i] = (double)found[i].number;
  free(found);
  return mgn_number(env, (double)count);
}

static void finding_write(double *row, const mg_detector_finding *f) {
  row[FINDING_SERIES] = f->leak.series;
  row[FINDING_TIER] = (double)f->leak.tier;
  row[FINDING_PREVIOUS] = (double)f->leak.previous;
  row[FINDING_IS_CRITICAL] = f->leak.is_critical ? 1 : 0;
  row[FINDING_SEVERITY] = (double)f->leak.severity;
  row[FINDING_GROWTH] = f->leak.growth;
  row[FINDING_GROWTH_PER_MINUTE] = f->leak.growth_per_minute;
  row[FINDING_BASE] = f->leak.base;
  row[FINDING_LATEST] = f->leak.latest;
  row[FINDING_TO_LIMIT_MS] = f->leak.to_limit_ms;
  row[FINDING_OCTAVES] = f->leak.octaves;
  row[FINDING_WINDOW_MS] = f->leak.window_ms;
  row[FINDING_SINCE_UNIX_MS] = (double)f->since_unix_ms;
  row[FINDING_UPDATE_UNIX_MS] = (double)f->update_unix_ms;
  row[FINDING_CULPRITS] = f->culprits;
}

/* Reads a finding by manager and number, the first two of `count` arguments.
 * @return 1; 0 if it is not remembered; -1 after throwing. */
static int finding_given(napi_env env, napi_callback_info info, size_t count,
                         napi_value *values, mg_detector_finding *out) {
  mg_detector *detector = detector_given(env, info, count, values);
  uint64_t number;

  if (detector == NULL || !mgn_count_of(env, values[1], &number)) return -1;
  return mg_detector_finding_at(detector, number, out);
}

/* findingAt(manager, number, Float64Array row) -> name of its signal, false if it
 * is not remembered; row: FINDING_VALUES in order */
static napi_value finding_at(napi_env env, napi_callback_info info) {
  mg_detector_finding finding;
  napi_value v[3];
  int found = finding_given(env, info, 3, v, &finding);
  double *row;

  if (found <= 0) return found < 0 ? NULL : mgn_boolean(env, false);
  row = mgn_doubles_of(env, v[2], FINDING_VALUES, NULL);
  if (row == NULL) return NULL;
  finding_write(row, &finding);
  return mgn_text(env, finding.leak.name);
}

/* findingCulprit(manager, number, index, Float64Array row) -> name, false beyond
 * the last; row: as for detectorCulprits() */
static napi_value finding_culprit(napi_env env, napi_callback_info info) {
  mg_detector_finding finding;
  const mg_culprit *culprit;
  uint64_t index;
  napi_value v[4];
  int found = finding_given(env, info, 4, v, &finding);
  double *row;

  if (found < 0 || !mgn_count_of(env, v[2], &index)) return NULL;
  row = mgn_doubles_of(env, v[3], CULPRIT_VALUES, NULL);
  if (row == NULL) return NULL;
  if (found == 0 || index >= finding.culprits) return mgn_boolean(env, false);
  culprit = &finding.culprit[index];
  row[CULPRIT_KIND] = (double)culprit->kind;
  row[CULPRIT_GROWTH] = (double)culprit->growth;
  row[CULPRIT_GROWTH_BYTES] = (double)culprit->growth_bytes;
  row[CULPRIT_COUNT] = mgn_from_u64(culprit->count);
  row[CULPRIT_SHARE] = culprit->share;
  return mgn_text(env, culprit->name);
}

/* findingAdvice(manager, number, index) -> command, false beyond the last */
static napi_value finding_advice(napi_env env, napi_callback_info info) {
  mg_detector_finding finding;
  char text[MG_ADVICE_BYTES];
  uint64_t index;
  napi_value v[3];
  int found = finding_given(env, info, 3, v, &finding);

  if (found < 0 || !mgn_count_of(env, v[2], &index)) return NULL;
  if (found == 0 ||
      !mg_detector_advice(&finding, MG_RUNTIME_NODE, (size_t)index, text))
    return mgn_boolean(env, false);
  return mgn_text(env, text);
}

/* detectorStats(manager, Float64Array out): DETECTOR_STATS in order, then ms of the
 * last wide reading, ms to the next one, growth of descriptors per minute */
static napi_value detector_stats(napi_env env, napi_callback_info info) {
  mg_detector_stats stats;
  mg_detector *detector;
  napi_value v[2];
  double *out;

  detector = detector_given(env, info, 2, v);
  if (detector == NULL) return NULL;
  out = mgn_doubles_of(env, v[1], DETECTOR_STATS_VALUES, NULL);
  if (out == NULL) return NULL;
  mg_detector_read_stats(detector, &stats);
#define DETECTOR_WRITE(field) *out++ = mgn_from_u64(stats.field);
  DETECTOR_STATS(DETECTOR_WRITE)
#undef DETECTOR_WRITE
  *out++ = stats.wide_ms;
  *out++ = stats.wide_every_ms;
  *out = stats.fd_growth_per_minute;
  return mgn_undefined(env);
}

/* ---- names ------------------------------------------------------------------------ */

/* leakSignalNames, leakSignalUnits, leakTierNames, leakSeverityNames,
 * culpritNames, requestNames (by bit) */
static napi_status detector_define_names(napi_env env, napi_value exports) {
#define DETECTOR_SIGNAL(id, name, unit, may_confirm) name,
#define DETECTOR_UNIT(id, name, unit, may_confirm)   unit,
#define DETECTOR_CULPRIT(id, name)                   name,
#define DETECTOR_REQUEST(id, bit, name)              name,
  static const char *const signals[] = {MG_LEAK_SIGNAL_MAP(DETECTOR_SIGNAL)};
  static const char *const units[] = {MG_LEAK_SIGNAL_MAP(DETECTOR_UNIT)};
  static const char *const culprits[] = {MG_CULPRIT_MAP(DETECTOR_CULPRIT)};
  static const char *const requests[] = {MG_REQUEST_MAP(DETECTOR_REQUEST)};
#undef DETECTOR_SIGNAL
#undef DETECTOR_UNIT
#undef DETECTOR_CULPRIT
#undef DETECTOR_REQUEST
  const char *tiers[MG_LEAK_CONFIRMED + 1], *severities[MG_LEAK_HIGH + 1];
  const struct {
    const char *name;
    const char *const *names;
    size_t count;
  } lists[] = {{"leakSignalNames", signals, MGN_COUNT_OF(signals)},
               {"leakSignalUnits", units, MGN_COUNT_OF(units)},
               {"culpritNames", culprits, MGN_COUNT_OF(culprits)},
               {"requestNames", requests, MGN_COUNT_OF(requests)},
               {"leakTierNames", tiers, MGN_COUNT_OF(tiers)},
               {"leakSeverityNames", severities, MGN_COUNT_OF(severities)}};
  napi_status st = napi_ok;

  for (int i = 0; i <= MG_LEAK_CONFIRMED; i++)
    tiers[i] = mg_leak_tier_name((mg_leak_tier)i);
  for (int i = 0; i <= MG_LEAK_HIGH; i++)
    severities[i] = mg_leak_severity_name((mg_leak_severity)i);
  for (size_t i = 0; i < MGN_COUNT_OF(lists) && st == napi_ok; i++)
    st = mgn_define_names(env, exports, lists[i].name, lists[i].names,
                          lists[i].count);
  return st;
}

napi_status mgn_detector_define(napi_env env, napi_value exports, void *data) {
  static const mgn_function functions[] = {
      {"detectorOpen", detector_open},
      {"detectorClose", detector_close},
      {"detectorSetActive", detector_set_active},
      {"detectorIsActive", detector_is_active},
      {"detectorCheck", detector_check},
      {"detectorTell", detector_tell},
      {"detectorCollected", detector_collected},
      {"detectorRequest", detector_request},
      {"detectorCulprits", detector_culprits},
      {"detectorFindings", detector_findings},
      {"detectorStats", detector_stats},
      {"findingAt", finding_at},
      {"findingCulprit", finding_culprit},
      {"findingAdvice", finding_advice}};
  napi_status st =
      mgn_define(env, exports, data, functions, MGN_COUNT_OF(functions));

  return st == napi_ok ? detector_define_names(env, exports) : st;
}
