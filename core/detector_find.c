/* detector_find.c - findings by number, the events they are told with, and what
 * the binding is asked for. The caller holds the detector's lock. */
#include "memguard/detector.h"

#include <math.h>
#include <string.h>

#include "detector_parts.h"

#define FIND_TRACE_MS 30000.0      /* of a trace, divided by time_scale */
#define FIND_TRACE_LEAST_MS 1000.0 /* the same, undivided */
#define FIND_SHARE 0.01     /* of the time that forced collections may take; */
#define FIND_SHARE_MOST 0.25 /* if they are short, or time is compressed */

/* ---- records ---------------------------------------------------------------- */

static bool find_is_over(const mg__case *r) {
  return r->finding.leak.tier == MG_LEAK_NONE;
}

mg__case *mg__detector_record_of(mg_detector *d, uint32_t series) {
  for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS; i++) {
    mg__case *r = &d->record[i];
    if (r->finding.number != 0 && !find_is_over(r) &&
        r->finding.leak.series == series)
      return r;
  }
  return NULL;
}

/* A free record, else the oldest that is over. */
static mg__case *find_room(mg_detector *d) {
  mg__case *oldest = NULL;

  for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS; i++) {
    mg__case *r = &d->record[i];
    if (r->finding.number == 0) return r;
    if (find_is_over(r) &&
        (oldest == NULL || r->finding.number < oldest->finding.number))
      oldest = r;
  }
  return oldest;
}

/* @return NULL if there is no room. */
static mg__case *find_begin(mg_detector *d, uint64_t unix_ms) {
  mg__case *r = find_room(d);

  if (r == NULL) return NULL;
  memset(r, 0, sizeof *r);
  r->finding.number = ++d->stats.findings;
  r->finding.since_unix_ms = unix_ms;
  return r;
}

/* ---- events ------------------------------------------------------------------ */

static mg__told find_tell_as(const mg_leak_finding *leak) {
  if (leak->is_critical ||
      (leak->tier == MG_LEAK_CONFIRMED && leak->severity == MG_LEAK_HIGH))
    return MG__TOLD_CRITICAL;
  return leak->tier >= MG_LEAK_LIKELY ? MG__TOLD_WARNING : MG__TOLD_SUSPECTED;
}

static mg_event find_event(const mg__case *r, mg_event_kind kind) {
  const mg_leak_finding *leak = &r->finding.leak;
  mg_event event = {.kind = kind,
                    .finding = r->finding.number,
                    .growth_per_minute = leak->growth_per_minute};

  event.severity = kind == MG_EVENT_LEAK_CRITICAL  ? MG_HEALTH_CRITICAL
                   : kind == MG_EVENT_LEAK_WARNING ? MG_HEALTH_WARNING
                                                   : MG_HEALTH_HEALTHY;
  return event;
}

/* @return whether there is something to tell: each rise once. A confirmation is
 * told anew, its critical limit not twice. */
static bool find_follow(mg_detector *d, mg__case *r,
                        const mg_leak_finding *leak, uint64_t unix_ms,
                        mg_event *out) {
  static const mg_event_kind kinds[] = {
      [MG__TOLD_SUSPECTED] = MG_EVENT_LEAK_SUSPECTED,
      [MG__TOLD_WARNING] = MG_EVENT_LEAK_WARNING,
      [MG__TOLD_CRITICAL] = MG_EVENT_LEAK_CRITICAL};
  mg_leak_tier before = r->finding.leak.tier;
  mg__told told = find_tell_as(leak);
  bool has_news = told > r->told ||
                  (told == r->told && told == MG__TOLD_WARNING &&
                   leak->tier > before);

  r->finding.leak = *leak;
  if (leak->tier != before || has_news) r->finding.update_unix_ms = unix_ms;
  if (!has_news) return false;
  r->told = told;
  if (told >= MG__TOLD_WARNING) d->stats.alarms++;
  *out = find_event(r, kinds[told]);
  return true;
}

static bool find_is_among(const mg_leak_finding *found, size_t count,
                          uint32_t series) {
  for (size_t i = 0; i < count; i++)
    if (found[i].series == series) return true;
  return false;
}

/* Those that `leak` holds no more. */
static size_t find_withdraw(mg_detector *d, size_t count, uint64_t unix_ms,
                            mg_event *out, size_t room) {
  size_t events = 0;

  for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS && events < room; i++) {
    mg__case *r = &d->record[i];
    if (r->finding.number == 0 || find_is_over(r) ||
        find_is_among(d->found, count, r->finding.leak.series))
      continue;
    r->finding.leak.previous = r->finding.leak.tier;
    r->finding.leak.tier = MG_LEAK_NONE;
    r->finding.leak.is_critical = false;
    r->finding.update_unix_ms = unix_ms;
    d->stats.withdrawn++;
    out[events++] = find_event(r, MG_EVENT_LEAK_WITHDRAWN);
  }
  return events;
}

/* What found no room among the events is told by the next judgement. */
size_t mg__detector_update(mg_detector *d, uint64_t unix_ms, mg_event *out) {
  size_t count = mg_leak_findings(d->leak, d->found, MG_LEAK_SERIES_MAX);
  size_t events = find_withdraw(d, count, unix_ms, out, MG__DETECTOR_EVENTS);

  for (size_t i = 0; i < count && events < MG__DETECTOR_EVENTS; i++) {
    mg__case *r = mg__detector_record_of(d, d->found[i].series);
    if (r == NULL) r = find_begin(d, unix_ms);
    if (r == NULL) break;
    if (find_follow(d, r, &d->found[i], unix_ms, &out[events])) events++;
  }
  return events;
}

void mg__detector_forget(mg_detector *d) {
  for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS; i++)
    d->record[i].finding.number = 0;
  d->inquiry = (mg__inquiry){0};
  mg__detector_drop_counts(d);
  d->fds = (mg__fd_watch){0};
  atomic_store(&d->requests, 0);
}

/* ---- requests ------------------------------------------------------------------ */

/* Growth of these may be that of objects of the runtime. */
#define FIND_OBJECTS                                                      \
  (MG__SERIES_BIT(HEAP) | MG__SERIES_BIT(BLOCKS) | MG__SERIES_BIT(NATIVE) | \
   MG__SERIES_BIT(HANDLES) | MG__SERIES_BIT(CODE))

/* Of the same tier the first one: of the heap rather than of blocks, of those
 * rather than of native memory. */
const mg_leak_finding *mg__detector_target(const mg_detector *d,
                                           uint32_t series) {
  const mg_leak_finding *target = NULL;

  for (uint32_t i = 0; i < MG_DETECTOR_FINDINGS; i++) {
    const mg__case *r = &d->record[i];
    const mg_leak_finding *leak = &r->finding.leak;
    if (r->finding.number == 0 || find_is_over(r) ||
        leak->series >= MG_LEAK_SIGNALS || (series >> leak->series & 1) == 0)
      continue;
    if (target == NULL || leak->tier > target->tier ||
        (leak->tier == target->tier && leak->series < target->series))
      target = leak;
  }
  return target;
}

static bool find_may(const mg_detector *d, mg_config_id id) {
  return mg_config_get(&d->config, id) != 0;
}

/* Pure. A limit that held for ever after one slow collection would leave the
 * detector blind: who waits long enough may. `took_ms` below 0: not known yet. */
bool mg__collection_fits(double took_ms, double most_ms, double ago_ms,
                         double scale, bool is_suspected) {
  bool is_cheap = took_ms <= most_ms;
  double share = is_cheap || scale > 1.0 ? FIND_SHARE_MOST : FIND_SHARE;

  if (most_ms <= 0.0) return false;
  if (!is_cheap && !is_suspected && scale <= 1.0) return false;
  return took_ms <= share * ago_ms;
}

static bool find_wants_collection(const mg_detector *d, double now_ms) {
  const uint32_t memory = MG__SERIES_BIT(HEAP) | MG__SERIES_BIT(BLOCKS) |
                          MG__SERIES_BIT(NATIVE) | MG__SERIES_BIT(RSS) |
                          MG__SERIES_BIT(CODE);

  return find_may(d, MG_CONFIG_ENABLE_AUTO_GC) &&
         mg__collection_fits(
             d->collected_ms, mg_config_get(&d->config, MG_CONFIG_LEAK_COLLECT),
             now_ms - d->forced_ms,
             mg_config_get(&d->config, MG_CONFIG_LEAK_TIME_SCALE),
             mg__detector_target(d, memory) != NULL) &&
         (mg_leak_wants_collection(d->leak, MG_LEAK_HEAP) ||
          mg_leak_wants_collection(d->leak, MG_LEAK_BLOCKS) ||
          mg_leak_wants_collection(d->leak, MG_LEAK_CODE));
}

/* The difference when the tier rises, or enough time for a whole window went by;
 * again each time that time has doubled. */
mg__count mg__inquiry_next(mg__inquiry *q, const mg_leak_finding *target,
                           double now_ms) {
  if (target == NULL) {
    q->has_base = false;
    return MG__COUNT_NOTHING;
  }
  if (!q->has_base) {
    q->has_base = true;
    q->base_ms = now_ms;
    q->next_ms = now_ms + target->window_ms;
    q->tier = target->tier;
    return MG__COUNT_BASE;
  }
  if (target->tier <= q->tier && now_ms < q->next_ms) return MG__COUNT_NOTHING;
  q->tier = target->tier;
  q->next_ms = now_ms + fmax(now_ms - q->base_ms, target->window_ms);
  return MG__COUNT_AGAIN;
}

/* A short window at the first alarm, and with each census after it. */
static uint32_t find_trace(const mg_detector *d, mg__inquiry *q,
                           const mg_leak_finding *target, uint32_t asked,
                           double now_ms) {
  double scale = mg_config_get(&d->config, MG_CONFIG_LEAK_TIME_SCALE);

  if (q->is_tracing) {
    if (target != NULL && now_ms < q->trace_end_ms) return 0;
    q->is_tracing = false;
    return MG_REQUEST_TRACE_STOP;
  }
  if (target == NULL || target->tier < MG_LEAK_LIKELY ||
      (asked & MG_REQUEST_CENSUS) == 0 || !find_may(d, MG_CONFIG_LEAK_TRACE))
    return 0;
  q->is_tracing = true;
  q->trace_end_ms = now_ms + fmax(FIND_TRACE_MS / scale, FIND_TRACE_LEAST_MS);
  return MG_REQUEST_TRACE_START;
}

void mg__detector_inquire(mg_detector *d, double now_ms) {
  static const uint32_t requests[] = {
      [MG__COUNT_NOTHING] = 0,
      [MG__COUNT_BASE] = MG_REQUEST_CENSUS_BASE,
      [MG__COUNT_AGAIN] = MG_REQUEST_CENSUS};
  const mg_leak_finding *target = mg__detector_target(d, FIND_OBJECTS);
  mg__inquiry *q = &d->inquiry;
  uint32_t asked = 0, traced;

  if (find_wants_collection(d, now_ms)) asked |= MG_REQUEST_COLLECT;
  asked |= requests[mg__inquiry_next(q, target, now_ms)];
  traced = find_trace(d, q, target, asked, now_ms);
  if (!find_may(d, MG_CONFIG_LEAK_CENSUS))
    asked &= ~(uint32_t)(MG_REQUEST_CENSUS_BASE | MG_REQUEST_CENSUS);
  asked = (asked | traced) & d->options.answers;
  if (target != NULL) atomic_store(&d->request_series, target->series);
  if ((asked & MG_REQUEST_COLLECT) != 0) d->forced_ms = now_ms;
  if (asked != 0) atomic_fetch_or(&d->requests, asked);
}
