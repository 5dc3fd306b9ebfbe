/* alert_text.c - alerts in words and as JSON: pure, whatever the locale. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "alert_parts.h"
#include "memguard/alert.h"
#include "memguard/leak.h"

typedef struct text_row {
  const char *name, *unit, *title, *doc;
} text_row;

static const text_row text_rows[] = {
#define TEXT_ROW(id, name, severity, unit, title, doc) {name, unit, title, doc},
    MG_ALERT_MAP(TEXT_ROW)
#undef TEXT_ROW
};

static const text_row text_unknown = {"unknown", "unknown", "unknown",
                                      "unknown"};

static const text_row *text_of(mg_alert_kind kind) {
  return (unsigned)kind < MG_ALERTS ? &text_rows[kind] : &text_unknown;
}

const char *mg_alert_name(mg_alert_kind kind) { return text_of(kind)->name; }
const char *mg_alert_unit(mg_alert_kind kind) { return text_of(kind)->unit; }
const char *mg_alert_title(mg_alert_kind kind) { return text_of(kind)->title; }
const char *mg_alert_doc(mg_alert_kind kind) { return text_of(kind)->doc; }

const char *mg_severity_name(mg_severity severity) {
  static const char *const names[] = {
#define TEXT_NAME(id, name) name,
      MG_SEVERITY_MAP(TEXT_NAME)};
  return (unsigned)severity < MG_SEVERITIES ? names[severity] : "unknown";
}

const char *mg_alert_state_name(mg_alert_state state) {
  static const char *const names[] = {MG_ALERT_STATE_MAP(TEXT_NAME)};
#undef TEXT_NAME
  return (unsigned)state < MG_ALERT_STATES ? names[state] : "unknown";
}

void mg__alert_copy(char *out, size_t out_bytes, const char *text) {
  size_t length = 0, bytes;

  /* What is no UTF-8 is copied byte by byte; it is mended when it is written. */
  for (; text[length] != '\0'; length += bytes) {
    bytes = mg__utf8_bytes(text + length, strlen(text + length));
    if (bytes == 0) bytes = 1;
    if (length + bytes >= out_bytes) break;
  }
  memset(out, 0, out_bytes);
  memcpy(out, text, length);
}

/* ---- numbers ------------------------------------------------------------- */

#define TEXT_NUMBER_BYTES 32

static bool text_is_bytes(const mg_alert *a) {
  for (uint32_t i = 0; i < MG_LEAK_SIGNALS; i++)
    if (strcmp(mg_detector_signal_name(i), a->subject) == 0)
      return strcmp(mg_leak_series_unit(i), "bytes") == 0;
  return false;
}

static bool text_is_leak(const mg_alert *a) {
  return a->kind == MG_ALERT_MEMORY_LEAK ||
         (a->kind == MG_ALERT_FD_LEAK && a->subject[0] != '\0');
}

const char *mg__alert_unit_of(const mg_alert *a) {
  if (!text_is_leak(a)) return mg_alert_unit((mg_alert_kind)a->kind);
  return text_is_bytes(a) ? "bytes_per_minute" : "count_per_minute";
}

/* With one decimal, or three below 1. */
static void alert_number(char out[TEXT_NUMBER_BYTES], double value) {
  double scale = fabs(value) < 1.0 ? 1000.0 : 10.0;
  double scaled = round(fabs(value) * scale);
  unsigned long long whole, rest;

  if (!(scaled < 1e15)) {
    snprintf(out, TEXT_NUMBER_BYTES, "%s", isnan(value) ? "unknown" : "huge");
    return;
  }
  whole = (unsigned long long)(scaled / scale);
  rest = (unsigned long long)(scaled - (double)whole * scale);
  snprintf(out, TEXT_NUMBER_BYTES, scale > 10.0 ? "%s%llu.%03llu" : "%s%llu.%llu",
           value < 0 && scaled > 0 ? "-" : "", whole, rest);
}

/* What a number is multiplied with to be read by people, and what follows it. */
static const char *text_unit(const mg_alert *a, double *out_factor) {
  *out_factor = 1.0;
  switch ((mg_alert_kind)a->kind) {
    case MG_ALERT_HIGH_USAGE:
    case MG_ALERT_CRITICAL:
    case MG_ALERT_GC_HIGH:
    case MG_ALERT_OUT_OF_MEMORY:
    case MG_ALERT_UNRECLAIMABLE:
    case MG_ALERT_PREVIOUS_OOM:
      *out_factor = 100.0;
      return " %";
    case MG_ALERT_RAPID_GROWTH:
      return " MB per minute";
    case MG_ALERT_LONG_PAUSE:
      *out_factor = 1000.0;
      return " ms";
    case MG_ALERT_MEMORY_LEAK:
    case MG_ALERT_FD_LEAK:
    case MG_ALERTS:
      break;
  }
  if (!text_is_leak(a)) return "";
  if (!text_is_bytes(a)) return " more per minute";
  *out_factor = 1.0 / MG_BYTES_PER_MB;
  return " MB more per minute";
}

size_t mg_alert_summary(const mg_alert *a, char out[MG_ALERT_TEXT_BYTES]) {
  char value[TEXT_NUMBER_BYTES], threshold[TEXT_NUMBER_BYTES];
  double factor;
  const char *unit = text_unit(a, &factor);
  int length;

  alert_number(value, a->value * factor);
  alert_number(threshold, a->threshold * factor);
  length = snprintf(out, MG_ALERT_TEXT_BYTES, "%s%s%s%s",
                    mg_alert_title((mg_alert_kind)a->kind),
                    a->subject[0] == '\0' ? "" : " (", a->subject,
                    a->subject[0] == '\0' ? "" : ")");
  if (!isnan(a->value))
    length += snprintf(out + length, MG_ALERT_TEXT_BYTES - (size_t)length,
                       ": %s%s", value, unit);
  if (!isnan(a->value) && !isnan(a->threshold))
    length += snprintf(out + length, MG_ALERT_TEXT_BYTES - (size_t)length,
                       " (from %s%s)", threshold, unit);
  if (a->culprit[0] != '\0')
    length += snprintf(out + length, MG_ALERT_TEXT_BYTES - (size_t)length,
                       "; %s", a->culprit);
  return (size_t)length;
}

/* ---- JSON ---------------------------------------------------------------- */

void mg__alert_write(mg__json *json, const char *key, const mg_alert *a) {
  char summary[MG_ALERT_TEXT_BYTES];

  mg_alert_summary(a, summary);
  mg__json_object(json, key);
  mg__json_text(json, "kind", mg_alert_name((mg_alert_kind)a->kind));
  mg__json_text(json, "severity", mg_severity_name((mg_severity)a->severity));
  mg__json_text(json, "state", mg_alert_state_name((mg_alert_state)a->state));
  mg__json_uint(json, "since_unix_ms", a->since_unix_ms);
  mg__json_uint(json, "last_unix_ms", a->last_unix_ms);
  mg__json_uint(json, "resolved_unix_ms",
                a->resolved_unix_ms == 0 ? MG_ABSENT : a->resolved_unix_ms);
  mg__json_number(json, "value", a->value);
  mg__json_number(json, "threshold", a->threshold);
  mg__json_text(json, "unit", mg__alert_unit_of(a));
  mg__json_text(json, "summary", summary);
  mg__json_text(json, "culprit", a->culprit);
  mg__json_text(json, "subject", a->subject);
  mg__json_uint(json, "repeats", a->repeats);
  mg__json_uint(json, "number", a->number);
  mg__json_end(json);
}

size_t mg_alert_json(const mg_alert *alert, char *out, size_t out_bytes) {
  mg__json json = MG__JSON_INIT;
  size_t length;
  char *text;

  mg__alert_write(&json, NULL, alert);
  text = mg__json_take(&json, &length);
  if (out_bytes > 0) out[0] = '\0';
  if (text != NULL && length < out_bytes) memcpy(out, text, length + 1);
  mg__free(text);
  return length;
}
