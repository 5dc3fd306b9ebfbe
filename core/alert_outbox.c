/* alert_outbox.c - what one receiver still has to be told: pure.
 *
 * An entry per kind and subject. It is told as firing first, also where the alert is
 * over by then, so that an outage of the receiver hides no alert; then as resolved,
 * and then forgotten. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "alert_parts.h"
#include "memguard/alert.h"

#define OUTBOX_TEXT_BYTES 256
#define OUTBOX_ENDS_AFTER 4.0 /* times resend_ms; as Prometheus does it */

typedef enum outbox_flight {
  OUTBOX_HERE,
  OUTBOX_AS_FIRING,
  OUTBOX_AS_BOTH, /* firing and resolved in one body */
  OUTBOX_AS_RESOLVED
} outbox_flight;

typedef struct outbox_entry {
  mg_alert alert;
  bool is_used;
  bool is_known;  /* the receiver knows it as firing */
  bool is_told;   /* it knows this state */
  double known_ms, sent_ms; /* when it learned that; when it was told last */
  double put_ms;
  outbox_flight flight;  /* what of it is in the request under way */
  uint64_t flown_number; /* of the alert in it */
} outbox_entry;

struct mg_outbox {
  mg_outbox_options options;
  char service[OUTBOX_TEXT_BYTES], program[OUTBOX_TEXT_BYTES],
      runtime[OUTBOX_TEXT_BYTES], instance[OUTBOX_TEXT_BYTES],
      runbook[OUTBOX_TEXT_BYTES];
  outbox_entry entry[MG_OUTBOX_ALERTS];
  bool is_flying;
  double retry_ms; /* not before, after a failure */
  uint64_t seen;   /* number of the newest change taken from a monitor */
  mg_outbox_stats stats;
};

/* ---- life ---------------------------------------------------------------- */

static bool outbox_is_span(double ms) { return ms >= 0 && ms <= MG_DAY_MS; }

mg_status mg_outbox_open(mg_outbox **out, const mg_outbox_options *options,
                         mg_error *err) {
  mg_outbox *box;

  *out = NULL;
  if (options->struct_bytes != sizeof *options)
    return mg__fail(err, MG_EINVAL, "options of an outbox: foreign size");
  if ((unsigned)options->format >= MG_OUTBOX_FORMATS)
    return mg__fail(err, MG_EINVAL, "format is %d, allowed: webhook, alertmanager",
                    (int)options->format);
  if (!outbox_is_span(options->resend_ms) || !outbox_is_span(options->least_ms) ||
      !outbox_is_span(options->retry_first_ms) ||
      !outbox_is_span(options->retry_most_ms))
    return mg__fail(err, MG_ERANGE,
                    "times of an outbox, allowed: 0 to 86400000 ms");
  box = mg__alloc(sizeof *box);
  if (box == NULL)
    return mg__fail(err, MG_ENOMEM, "outbox, %zu bytes", sizeof *box);
  box->options = *options;
#define OUTBOX_TEXT(field)                            \
  mg__alert_copy(box->field, sizeof box->field,       \
                 options->field == NULL ? "" : options->field); \
  box->options.field = box->field;
  OUTBOX_TEXT(service)
  OUTBOX_TEXT(program)
  OUTBOX_TEXT(runtime)
  OUTBOX_TEXT(instance)
  OUTBOX_TEXT(runbook)
#undef OUTBOX_TEXT
  box->retry_ms = -INFINITY;
  *out = box;
  return MG_OK;
}

void mg_outbox_close(mg_outbox *box) { mg__free(box); }

/* ---- taking in ----------------------------------------------------------- */

/* The entry that a new one may take the place of: what was never told goes last. */
static outbox_entry *outbox_oldest(mg_outbox *box) {
  outbox_entry *oldest = NULL;

  for (uint32_t i = 0; i < MG_OUTBOX_ALERTS; i++) {
    outbox_entry *e = &box->entry[i];
    if (!e->is_used) return e;
    if (oldest == NULL || (e->is_told && !oldest->is_told) ||
        (e->is_told == oldest->is_told && e->put_ms < oldest->put_ms))
      oldest = e;
  }
  if (!oldest->is_told) box->stats.overflow++;
  return oldest;
}

static outbox_entry *outbox_find(mg_outbox *box, const mg_alert *alert) {
  for (uint32_t i = 0; i < MG_OUTBOX_ALERTS; i++)
    if (box->entry[i].is_used &&
        mg__alert_is_same(&box->entry[i].alert, alert))
      return &box->entry[i];
  return NULL;
}

void mg_outbox_put(mg_outbox *box, const mg_alert *alert, double now_ms) {
  outbox_entry *e = outbox_find(box, alert);
  uint64_t since;

  if (e == NULL) {
    e = outbox_oldest(box);
    *e = (outbox_entry){.is_used = true, .alert = *alert, .put_ms = now_ms};
    return;
  }
  since = e->alert.since_unix_ms;
  /* Another severity is another label, so another alert, to Alertmanager; what it
   * had before ends there by itself. */
  if (e->alert.severity != alert->severity &&
      box->options.format == MG_OUTBOX_ALERTMANAGER)
    e->is_known = false;
  e->alert = *alert;
  /* What was not told of the one before begins when that did. */
  if (!e->is_known && since != 0 && since < alert->since_unix_ms)
    e->alert.since_unix_ms = since;
  e->is_told = false;
  e->put_ms = now_ms;
}

void mg__outbox_skip_changes(mg_outbox *box, const mg_alerts *alerts,
                             bool with_active, double now_ms) {
  mg_alert active[MG_ALERT_SLOTS];
  mg_alerts_stats stats;
  size_t count = mg_alerts_active(alerts, active, MG_ALERT_SLOTS);

  mg_alerts_read_stats(alerts, &stats);
  box->seen = stats.changes;
  for (size_t i = 0; with_active && i < count; i++)
    mg_outbox_put(box, &active[i], now_ms);
}

void mg__outbox_take_changes(mg_outbox *box, const mg_alerts *alerts,
                             double now_ms) {
  mg_alert change[MG_ALERT_SLOTS];
  mg_alerts_stats stats;
  size_t count;

  mg_alerts_read_stats(alerts, &stats);
  if (stats.changes < box->seen) box->seen = 0; /* another monitor */
  if (stats.evicted > box->seen) {
    count = mg_alerts_active(alerts, change, MG_ALERT_SLOTS);
    for (size_t i = 0; i < count; i++) mg_outbox_put(box, &change[i], now_ms);
  }
  do {
    count = mg_alerts_changes(alerts, box->seen, change, MG_ALERT_SLOTS);
    for (size_t i = 0; i < count; i++) mg_outbox_put(box, &change[i], now_ms);
    if (count > 0) box->seen = change[count - 1].number;
  } while (count == MG_ALERT_SLOTS);
}

/* ---- what is due --------------------------------------------------------- */

static double outbox_entry_due(const mg_outbox *box, const outbox_entry *e) {
  double resend_ms = box->options.resend_ms;
  double again_ms = resend_ms > 0 ? e->sent_ms + resend_ms : INFINITY;

  if (!e->is_used) return INFINITY;
  if (!e->is_known) return -INFINITY;
  if (e->alert.state == MG_ALERT_FIRING)
    return e->is_told ? again_ms : -INFINITY;
  return fmin(e->known_ms + box->options.least_ms, again_ms);
}

double mg_outbox_due_ms(const mg_outbox *box, double now_ms) {
  double due_ms = INFINITY;

  if (box->is_flying) return INFINITY;
  for (uint32_t i = 0; i < MG_OUTBOX_ALERTS; i++)
    due_ms = fmin(due_ms, outbox_entry_due(box, &box->entry[i]));
  return fmax(fmax(due_ms, box->retry_ms) - now_ms, 0.0);
}

/* As what an entry is told now. */
static outbox_flight outbox_flight_of(const mg_outbox *box,
                                      const outbox_entry *e, double now_ms,
                                      bool is_last) {
  bool is_over = e->alert.state == MG_ALERT_RESOLVED;

  if (outbox_entry_due(box, e) > now_ms) return OUTBOX_HERE;
  if (is_last && e->is_told) return OUTBOX_HERE;
  if (!is_over) return OUTBOX_AS_FIRING;
  if (!e->is_known)
    return box->options.format == MG_OUTBOX_WEBHOOK && box->options.least_ms == 0
               ? OUTBOX_AS_BOTH
               : OUTBOX_AS_FIRING;
  return e->known_ms + box->options.least_ms <= now_ms ? OUTBOX_AS_RESOLVED
                                                       : OUTBOX_AS_FIRING;
}

/* ---- bodies -------------------------------------------------------------- */

/* RFC 3339, UTC. Days to a date by Hinnant's "chrono-compatible low-level date
 * algorithms". */
static void outbox_time(mg__json *json, const char *key, double unix_ms) {
  uint64_t ms = unix_ms > 0 && unix_ms < 2.5e14 ? (uint64_t)unix_ms : 0;
  uint64_t second = ms / 1000, day = second / 86400 + 719468;
  uint64_t era = day / 146097, of_era = day % 146097;
  uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
  uint64_t shifted = (5 * of_year + 2) / 153;
  uint64_t month = shifted < 10 ? shifted + 3 : shifted - 9;
  uint64_t day_of_month = of_year - (153 * shifted + 2) / 5 + 1;
  uint64_t hour = second / 3600 % 24, minute = second / 60 % 60;
  uint64_t of_minute = second % 60, of_second = ms % 1000;
  char text[80];

  year += era * 400 + (month <= 2 ? 1 : 0);
  snprintf(text, sizeof text, "%04llu-%02llu-%02lluT%02llu:%02llu:%02llu.%03lluZ",
           (unsigned long long)year,
           (unsigned long long)month,
           (unsigned long long)day_of_month,
           (unsigned long long)hour, (unsigned long long)minute,
           (unsigned long long)of_minute, (unsigned long long)of_second);
  mg__json_text(json, key, text);
}

/* Alertmanager takes no empty label. */
static void outbox_label(mg__json *json, const char *name, const char *value) {
  if (*value != '\0') mg__json_text(json, name, value);
}

static void outbox_write_labels(const mg_outbox *box, const mg_alert *a,
                                mg__json *json) {
  char pid[16];

  snprintf(pid, sizeof pid, "%u", (unsigned)box->options.pid);
  mg__json_object(json, "labels");
  outbox_label(json, "alertname", mg_alert_name((mg_alert_kind)a->kind));
  outbox_label(json, "severity", mg_severity_name((mg_severity)a->severity));
  outbox_label(json, "service", box->service);
  outbox_label(json, "program", box->program);
  outbox_label(json, "runtime", box->runtime);
  outbox_label(json, "pid", pid);
  outbox_label(json, "instance", box->instance);
  outbox_label(json, "subject", a->subject);
  mg__json_end(json);
}

static void outbox_write_annotations(const mg_outbox *box, const mg_alert *a,
                                     mg__json *json) {
  char text[MG_ALERT_TEXT_BYTES + OUTBOX_TEXT_BYTES];

  mg__json_object(json, "annotations");
  mg_alert_summary(a, text);
  mg__json_text(json, "summary", text);
  mg__json_text(json, "description", mg_alert_doc((mg_alert_kind)a->kind));
  outbox_label(json, "culprit", a->culprit);
  if (box->runbook[0] != '\0') {
    snprintf(text, sizeof text, "%s#%s", box->runbook,
             mg_alert_name((mg_alert_kind)a->kind));
    mg__json_text(json, "runbook_url", text);
  }
  mg__json_end(json);
}

/* One of Alertmanager's. @param ends_ms when it ends by itself. */
static void outbox_write_posted(const mg_outbox *box, const mg_alert *a,
                                outbox_flight flight, double unix_ms,
                                mg__json *json) {
  double ends_ms = unix_ms + fmax(OUTBOX_ENDS_AFTER * box->options.resend_ms,
                                  box->options.least_ms);

  mg__json_object(json, NULL);
  outbox_write_labels(box, a, json);
  outbox_write_annotations(box, a, json);
  outbox_time(json, "startsAt", (double)a->since_unix_ms);
  if (flight == OUTBOX_AS_RESOLVED)
    outbox_time(json, "endsAt", fmin((double)a->resolved_unix_ms, unix_ms));
  else if (ends_ms > unix_ms)
    outbox_time(json, "endsAt", ends_ms);
  mg__json_end(json);
}

static void outbox_write_hooked(const mg_alert *a, outbox_flight flight,
                                mg__json *json) {
  mg_alert firing = *a;

  firing.state = MG_ALERT_FIRING;
  firing.resolved_unix_ms = 0;
  if (flight != OUTBOX_AS_RESOLVED) mg__alert_write(json, NULL, &firing);
  if (flight != OUTBOX_AS_FIRING) mg__alert_write(json, NULL, a);
}

static void outbox_begin_body(const mg_outbox *box, mg__json *json) {
  if (box->options.format == MG_OUTBOX_ALERTMANAGER) {
    mg__json_array(json, NULL);
    return;
  }
  mg__json_object(json, NULL);
  mg__json_uint(json, "version", 1);
  mg__json_text(json, "service", box->service);
  mg__json_text(json, "program", box->program);
  mg__json_text(json, "runtime", box->runtime);
  mg__json_uint(json, "pid", box->options.pid);
  mg__json_text(json, "instance", box->instance);
  mg__json_array(json, "alerts");
}

mg_status mg_outbox_take(mg_outbox *box, double now_ms, double unix_ms,
                         bool is_last, char **out, mg_error *err) {
  mg__json json = MG__JSON_INIT;
  uint32_t count = 0;
  size_t bytes;

  *out = NULL;
  if (box->is_flying || (!is_last && mg_outbox_due_ms(box, now_ms) > 0))
    return MG_OK;
  outbox_begin_body(box, &json);
  for (uint32_t i = 0; i < MG_OUTBOX_ALERTS; i++) {
    outbox_entry *e = &box->entry[i];
    e->flight = outbox_flight_of(box, e, now_ms, is_last);
    if (e->flight == OUTBOX_HERE) continue;
    e->flown_number = e->alert.number;
    count++;
    if (box->options.format == MG_OUTBOX_ALERTMANAGER)
      outbox_write_posted(box, &e->alert, e->flight, unix_ms, &json);
    else
      outbox_write_hooked(&e->alert, e->flight, &json);
  }
  while (json.depth > 0) mg__json_end(&json);
  *out = mg__json_take(&json, &bytes);
  if (*out == NULL) return mg__fail(err, MG_ENOMEM, "body of a request");
  if (count == 0) {
    mg__free(*out);
    *out = NULL;
    return MG_OK;
  }
  box->is_flying = true;
  return MG_OK;
}

/* ---- how it went --------------------------------------------------------- */

static void outbox_entry_done(mg_outbox *box, outbox_entry *e, double now_ms) {
  bool is_same = e->flown_number == e->alert.number;
  bool is_over = e->alert.state == MG_ALERT_RESOLVED;

  box->stats.delivered++;
  e->sent_ms = now_ms;
  if (e->flight != OUTBOX_AS_FIRING) {
    /* Something newer may have come meanwhile: then the receiver thinks it over. */
    if (is_same) e->is_used = false;
    e->is_known = false;
    return;
  }
  if (!e->is_known) e->known_ms = now_ms;
  e->is_known = true;
  e->is_told = is_same && !is_over;
}

void mg_outbox_done(mg_outbox *box, bool was_accepted, double wait_ms,
                    double now_ms) {
  const mg_outbox_options *o = &box->options;
  double back_off_ms;

  if (!box->is_flying) return;
  box->is_flying = false;
  for (uint32_t i = 0; i < MG_OUTBOX_ALERTS; i++) {
    outbox_entry *e = &box->entry[i];
    if (was_accepted && e->is_used && e->flight != OUTBOX_HERE)
      outbox_entry_done(box, e, now_ms);
    e->flight = OUTBOX_HERE;
  }
  if (was_accepted) {
    box->stats.sent++;
    box->stats.failures_in_a_row = 0;
    box->retry_ms = -INFINITY;
    return;
  }
  box->stats.failures++;
  back_off_ms = o->retry_first_ms *
                exp2(fmin((double)box->stats.failures_in_a_row++, 30.0));
  if (wait_ms > back_off_ms) back_off_ms = wait_ms;
  box->retry_ms = now_ms + fmin(back_off_ms, o->retry_most_ms);
}

void mg_outbox_read_stats(const mg_outbox *box, mg_outbox_stats *out) {
  *out = box->stats;
  out->waiting = 0;
  for (uint32_t i = 0; i < MG_OUTBOX_ALERTS; i++)
    if (box->entry[i].is_used && !box->entry[i].is_told) out->waiting++;
}
