/* metrics_text.c - time series as text: Prometheus 0.0.4 and OpenMetrics 1.0.0.
 *
 * Numbers are written from integers, not by printf(): exactly as they are known,
 * and the same in every locale. */
#include "memguard/metrics.h"

#include <string.h>

#include "metrics_parts.h"

#define TEXT_FIRST_BYTES 16384u
#define TEXT_DIGITS 20u

/* Bounds as both formats want them: shortest form, with a point or an exponent. */
static const char *const text_bound[MG_METRICS_BOUNDS + 1] = {
    "1e-05", "3e-05", "0.0001", "0.0003", "0.001", "0.003", "0.005", "0.01",
    "0.02",  "0.05",  "0.1",    "0.2",    "0.5",   "1.0",   "5.0",   "+Inf"};
static const char *const text_bound_ns[MG_METRICS_BOUNDS + 1] = {
    "10000.0", "30000.0", "100000.0", "300000.0", "1e+06", "3e+06",
    "5e+06",   "1e+07",   "2e+07",    "5e+07",    "1e+08", "2e+08",
    "5e+08",   "1e+09",   "5e+09",    "+Inf"};

typedef struct text_buffer {
  char *bytes;
  size_t count, room;
  bool has_failed; /* no memory */
  mg_metrics_format format;
  mg_metric told; /* whose head is written; MG_METRICS: none */
} text_buffer;

/* ---- the buffer ---------------------------------------------------------------- */

static bool text_grow(text_buffer *b, size_t more) {
  size_t wanted = b->room == 0 ? TEXT_FIRST_BYTES : b->room * 2;
  char *larger;

  while (wanted - b->count < more) wanted *= 2;
  larger = mg__resize(b->bytes, wanted);
  b->has_failed = larger == NULL;
  if (b->has_failed) return false;
  b->bytes = larger;
  b->room = wanted;
  return true;
}

static void text_put(text_buffer *b, const char *text, size_t bytes) {
  if (b->has_failed || (b->room - b->count < bytes && !text_grow(b, bytes)))
    return;
  memcpy(b->bytes + b->count, text, bytes);
  b->count += bytes;
}

static void text_say(text_buffer *b, const char *text) {
  text_put(b, text, strlen(text));
}

/* Once more what was written from `begin` on. */
static void text_repeat(text_buffer *b, size_t begin, size_t bytes) {
  if (b->has_failed || (b->room - b->count < bytes && !text_grow(b, bytes)))
    return;
  memcpy(b->bytes + b->count, b->bytes + begin, bytes);
  b->count += bytes;
}

static void text_count(text_buffer *b, uint64_t number) {
  char digit[TEXT_DIGITS];
  size_t at = sizeof digit;

  do digit[--at] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  text_put(b, digit + at, sizeof digit - at);
}

/* What stands behind the point, without zeros at its end. */
static void text_fraction(text_buffer *b, uint64_t fraction,
                          uint32_t decimals) {
  char digit[TEXT_DIGITS];
  size_t used = decimals;

  digit[0] = '.';
  for (size_t i = decimals; i > 0; i--, fraction /= 10)
    digit[i] = (char)('0' + fraction % 10);
  while (used > 0 && digit[used] == '0') used--;
  if (used > 0) text_put(b, digit, used + 1);
}

static void text_number(text_buffer *b, const mg__metrics_number *n) {
  uint64_t scale = 1;

  for (uint32_t i = 0; i < n->decimals; i++) scale *= 10;
  if (n->is_negative && n->units > 0) text_say(b, "-");
  text_count(b, n->units / scale);
  text_fraction(b, n->units % scale, n->decimals);
}

/* ---- labels --------------------------------------------------------------------- */

/* Of clean texts only the quote and the backslash need escaping. */
static size_t text_escape(char *out, size_t room, const char *text) {
  size_t used = 0;

  for (; *text != '\0' && used + 2 <= room; text++) {
    if (*text == '"' || *text == '\\') out[used++] = '\\';
    out[used++] = *text;
  }
  return used;
}

void mg__metrics_prefix(mg__metrics_owner *owner) {
  char *out = owner->prefix;
  size_t used = 0, bytes;

  for (uint32_t i = 0; i < owner->labels; i++) {
    bytes = strlen(owner->label[i].name);
    if (i > 0) out[used++] = ',';
    memcpy(out + used, owner->label[i].name, bytes);
    used += bytes;
    out[used++] = '=';
    out[used++] = '"';
    used += text_escape(out + used, sizeof owner->prefix - used - 64,
                        owner->label[i].value);
    out[used++] = '"';
  }
  owner->prefix_bytes = used;
}

static void text_label(text_buffer *b, const mg_metrics_label *label) {
  char escaped[2 * MG__METRICS_CLEAN(64)];

  text_say(b, label->name);
  text_put(b, "=\"", 2);
  text_put(b, escaped, text_escape(escaped, sizeof escaped, label->value));
  text_put(b, "\"", 1);
}

/* @param is_open ends where the bound of a bucket follows. */
static void text_labels(text_buffer *b, const mg__metrics_series *s,
                        bool is_open) {
  bool is_first = s->owner->prefix_bytes == 0;

  if (is_first && s->extras == 0) return;
  text_put(b, "{", 1);
  text_put(b, s->owner->prefix, s->owner->prefix_bytes);
  for (uint32_t i = 0; i < s->extras; i++) {
    if (!is_first) text_put(b, ",", 1);
    is_first = false;
    text_label(b, &s->extra[i]);
  }
  text_say(b, is_open ? ",le=\"" : "}");
}

/* ---- heads ---------------------------------------------------------------------- */

/* OpenMetrics wants the family without what counters end in, and `unknown` for one
 * that does not end so. */
static size_t text_family(const text_buffer *b, const mg_metric_row *row,
                          const char **out_type) {
  const char *total = "_total";
  size_t bytes = strlen(row->name), end = strlen(total);

  *out_type = mg_metric_type_name(row->type);
  if (b->format != MG_METRICS_OPENMETRICS || row->type != MG_METRIC_COUNTER)
    return bytes;
  if (strcmp(row->name + bytes - end, total) == 0) return bytes - end;
  *out_type = "unknown";
  return bytes;
}

static void text_head_line(text_buffer *b, const char *what, const char *name,
                           size_t name_bytes, const char *text) {
  text_say(b, what);
  text_put(b, name, name_bytes);
  text_put(b, " ", 1);
  text_say(b, text);
  text_put(b, "\n", 1);
}

static void text_head(text_buffer *b, const mg_metric_row *row) {
  const char *type;
  size_t bytes = text_family(b, row, &type), unit = strlen(row->unit);

  text_head_line(b, "# HELP ", row->name, bytes, row->help);
  text_head_line(b, "# TYPE ", row->name, bytes, type);
  if (b->format == MG_METRICS_OPENMETRICS && unit > 0 && bytes > unit &&
      memcmp(row->name + bytes - unit, row->unit, unit) == 0)
    text_head_line(b, "# UNIT ", row->name, bytes, row->unit);
}

/* ---- series --------------------------------------------------------------------- */

static void text_histogram(text_buffer *b, const mg__metrics_series *s,
                           const char *name) {
  const char *const *bound =
      s->metric == MG_METRIC_MEMORY_GC_PAUSE ? text_bound_ns : text_bound;
  size_t begin = b->count, bytes;

  text_say(b, name);
  text_say(b, "_bucket");
  text_labels(b, s, true);
  bytes = b->count - begin;
  for (uint32_t i = 0; i <= MG_METRICS_BOUNDS; i++) {
    if (i > 0) text_repeat(b, begin, bytes);
    text_say(b, bound[i]);
    text_put(b, "\"} ", 3);
    text_count(b, s->histogram->bucket[i]);
    text_put(b, "\n", 1);
  }
  text_say(b, name);
  text_say(b, "_sum");
  text_labels(b, s, false);
  text_put(b, " ", 1);
  text_number(b, &s->number);
  text_put(b, "\n", 1);
  text_say(b, name);
  text_say(b, "_count");
  text_labels(b, s, false);
  text_put(b, " ", 1);
  text_count(b, s->histogram->count);
  text_put(b, "\n", 1);
}

static bool text_visit(void *ctx, const mg__metrics_series *s) {
  text_buffer *b = ctx;
  const mg_metric_row *row = mg_metric_row_at(s->metric);

  if (b->told != s->metric) text_head(b, row);
  b->told = s->metric;
  if (s->histogram != NULL) {
    text_histogram(b, s, row->name);
  } else {
    text_say(b, row->name);
    text_labels(b, s, false);
    text_put(b, " ", 1);
    text_number(b, &s->number);
    text_put(b, "\n", 1);
  }
  return !b->has_failed;
}

mg_status mg_metrics_render(char **out, size_t *out_bytes,
                            const mg_metrics_process *list, size_t count,
                            const mg_segment_service *services,
                            size_t service_count, mg_metrics_format format,
                            uint32_t groups, mg_error *err) {
  text_buffer b = {.format = format, .told = MG_METRICS};
  mg_status st;

  *out = NULL;
  if (out_bytes != NULL) *out_bytes = 0;
  if ((unsigned)format >= MG_METRICS_FORMATS)
    return mg__fail(err, MG_EINVAL, "format is %d, need 0 to %d", (int)format,
                    MG_METRICS_FORMATS - 1);
  st = mg__metrics_tell(list, count, services, service_count, groups,
                        text_visit, &b, err);
  if (format == MG_METRICS_OPENMETRICS) text_say(&b, "# EOF\n");
  text_put(&b, "", 1);
  if (st == MG_OK && b.has_failed)
    st = mg__fail(err, MG_ENOMEM, "metrics, %zu bytes", 2 * b.room);
  if (st != MG_OK) {
    mg__free(b.bytes);
    return st;
  }
  *out = b.bytes;
  if (out_bytes != NULL) *out_bytes = b.count - 1;
  return MG_OK;
}
