/* json.c - writes JSON, and tells whether a text is JSON. */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_FIRST_BYTES 1024u
#define JSON_NUMBER_BYTES 48u

/* ---- UTF-8 ------------------------------------------------------------------ */

size_t mg__utf8_bytes(const char *text, size_t bytes) {
  const unsigned char *at = (const unsigned char *)text;
  size_t need = bytes == 0      ? 0
                : at[0] < 0x80  ? 1
                : at[0] < 0xC2  ? 0
                : at[0] < 0xE0  ? 2
                : at[0] < 0xF0  ? 3
                : at[0] <= 0xF4 ? 4
                                : 0;

  if (need > bytes) return 0;
  for (size_t i = 1; i < need; i++)
    if ((at[i] & 0xC0) != 0x80) return 0;
  /* Overlong forms, surrogates, beyond U+10FFFF. */
  if (need == 3 && ((at[0] == 0xE0 && at[1] < 0xA0) ||
                    (at[0] == 0xED && at[1] > 0x9F)))
    return 0;
  if (need == 4 && ((at[0] == 0xF0 && at[1] < 0x90) ||
                    (at[0] == 0xF4 && at[1] > 0x8F)))
    return 0;
  return need;
}

/* ---- writing ----------------------------------------------------------------- */

static void json_put(mg__json *json, const char *text, size_t bytes) {
  size_t need = json->bytes + bytes + 1, capacity = json->capacity;
  char *grown;

  if (json->has_failed) return;
  if (need > capacity) {
    capacity = capacity == 0 ? JSON_FIRST_BYTES : capacity * 2;
    if (capacity < need) capacity = need;
    grown = mg__resize(json->text, capacity);
    if (grown == NULL) {
      json->has_failed = true;
      return;
    }
    json->text = grown;
    json->capacity = capacity;
  }
  if (bytes > 0) memcpy(json->text + json->bytes, text, bytes);
  json->bytes += bytes;
  json->text[json->bytes] = '\0';
}

static void json_put_text(mg__json *json, const char *text) {
  json_put(json, text, strlen(text));
}

/* What comes before a value. No value ends in an opening bracket or a colon. */
static void json_begin(mg__json *json, const char *key) {
  char last = json->bytes > 0 ? json->text[json->bytes - 1] : '[';

  if (last != '[' && last != '{' && last != ':') json_put(json, ",", 1);
  if (key == NULL) return;
  json_put(json, "\"", 1);
  json_put_text(json, key);
  json_put(json, "\":", 2);
}

static void json_open(mg__json *json, const char *key, const char *opening,
                      char closing) {
  json_begin(json, key);
  if (json->depth == MG__JSON_DEPTH) {
    json->has_failed = true;
    return;
  }
  json_put(json, opening, 1);
  json->closing[json->depth++] = closing;
}

void mg__json_object(mg__json *json, const char *key) {
  json_open(json, key, "{", '}');
}

void mg__json_array(mg__json *json, const char *key) {
  json_open(json, key, "[", ']');
}

void mg__json_end(mg__json *json) {
  if (json->depth > 0) json_put(json, &json->closing[--json->depth], 1);
}

void mg__json_raw(mg__json *json, const char *key, const char *text,
                  size_t bytes) {
  json_begin(json, key);
  json_put(json, text, bytes);
}

void mg__json_null(mg__json *json, const char *key) {
  mg__json_raw(json, key, "null", 4);
}

void mg__json_bool(mg__json *json, const char *key, bool value) {
  mg__json_raw(json, key, value ? "true" : "false", value ? 4 : 5);
}

static void json_put_escaped(mg__json *json, unsigned char c) {
  char escape[8];

  switch (c) {
    case '"': json_put(json, "\\\"", 2); return;
    case '\\': json_put(json, "\\\\", 2); return;
    case '\n': json_put(json, "\\n", 2); return;
    case '\t': json_put(json, "\\t", 2); return;
    default: break;
  }
  snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
  json_put(json, escape, 6);
}

void mg__json_text(mg__json *json, const char *key, const char *text) {
  size_t left = strlen(text), plain = 0;

  json_begin(json, key);
  json_put(json, "\"", 1);
  while (left > 0) {
    unsigned char c = (unsigned char)text[plain];
    size_t bytes = mg__utf8_bytes(text + plain, left);
    if (bytes > 0 && c >= ' ' && c != '"' && c != '\\' && c != 0x7F) {
      plain += bytes;
      left -= bytes;
      continue;
    }
    json_put(json, text, plain);
    if (bytes == 0)
      json_put(json, "\xEF\xBF\xBD", 3);
    else
      json_put_escaped(json, c);
    text += plain + 1;
    plain = 0;
    left--;
  }
  json_put(json, text, plain);
  json_put(json, "\"", 1);
}

void mg__json_key(mg__json *json, const char *key) {
  mg__json_text(json, NULL, key);
  json_put(json, ":", 1);
}

void mg__json_uint(mg__json *json, const char *key, uint64_t value) {
  char text[JSON_NUMBER_BYTES];

  if (value == MG_ABSENT) {
    mg__json_null(json, key);
    return;
  }
  snprintf(text, sizeof text, "%" PRIu64, value);
  mg__json_raw(json, key, text, strlen(text));
}

void mg__json_int(mg__json *json, const char *key, int64_t value) {
  char text[JSON_NUMBER_BYTES];

  snprintf(text, sizeof text, "%" PRId64, value);
  mg__json_raw(json, key, text, strlen(text));
}

/* The decimal point of the host's locale may be any text: what is no part of a number
 * is the point. */
static void json_make_point(char *text) {
  char *to = text;
  bool is_point = false;

  for (const char *at = text; *at != '\0'; at++) {
    bool is_number = (*at >= '0' && *at <= '9') || *at == '-' || *at == '+' ||
                     *at == 'e';
    if (is_number) *to++ = *at;
    if (!is_number && !is_point) *to++ = '.';
    is_point = !is_number;
  }
  *to = '\0';
}

void mg__json_number(mg__json *json, const char *key, double value) {
  char text[JSON_NUMBER_BYTES];

  if (!isfinite(value)) {
    mg__json_null(json, key);
    return;
  }
  snprintf(text, sizeof text, "%.15g", value);
  if (strtod(text, NULL) != value) snprintf(text, sizeof text, "%.17g", value);
  json_make_point(text);
  mg__json_raw(json, key, text, strlen(text));
}

void mg__json_line(mg__json *json) { json_put(json, "\n", 1); }

char *mg__json_take(mg__json *json, size_t *out_bytes) {
  char *text = json->text;

  if (json->has_failed) {
    mg__free(text);
    text = NULL;
  }
  *out_bytes = text == NULL ? 0 : json->bytes;
  *json = (mg__json)MG__JSON_INIT;
  return text;
}

/* ---- checking ------------------------------------------------------------------ */

typedef struct json_reader {
  const char *text;
  size_t at, bytes;
} json_reader;

/* '\0' at the end; a NUL in the text is no part of JSON either. */
static char json_peek(const json_reader *r) {
  return r->at < r->bytes ? r->text[r->at] : '\0';
}

static void json_skip_space(json_reader *r) {
  char c = json_peek(r);

  while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
    r->at++;
    c = json_peek(r);
  }
}

static bool json_take(json_reader *r, char c) {
  if (json_peek(r) != c || r->at >= r->bytes) return false;
  r->at++;
  return true;
}

static bool json_take_word(json_reader *r, const char *word) {
  size_t length = strlen(word);

  if (r->bytes - r->at < length || memcmp(r->text + r->at, word, length) != 0)
    return false;
  r->at += length;
  return true;
}

static bool json_is_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
         (c >= 'A' && c <= 'F');
}

/* Behind a backslash. A lone surrogate is allowed by the grammar. */
static bool json_take_escape(json_reader *r) {
  char c = json_peek(r);

  if (c == '\0' || strchr("\"\\/bfnrtu", c) == NULL) return false;
  r->at++;
  for (int i = 0; c == 'u' && i < 4; i++) {
    if (!json_is_hex(json_peek(r))) return false;
    r->at++;
  }
  return true;
}

static bool json_take_string(json_reader *r) {
  if (!json_take(r, '"')) return false;
  while (r->at < r->bytes) {
    size_t bytes = mg__utf8_bytes(r->text + r->at, r->bytes - r->at);
    if (json_take(r, '"')) return true;
    if (json_take(r, '\\')) {
      if (!json_take_escape(r)) return false;
      continue;
    }
    if (bytes == 0 || (unsigned char)json_peek(r) < ' ') return false;
    r->at += bytes;
  }
  return false;
}

static bool json_take_digits(json_reader *r) {
  size_t begin = r->at;

  while (json_peek(r) >= '0' && json_peek(r) <= '9') r->at++;
  return r->at > begin;
}

static bool json_take_number(json_reader *r) {
  (void)json_take(r, '-');
  if (!json_take(r, '0') && !json_take_digits(r)) return false;
  if (json_take(r, '.') && !json_take_digits(r)) return false;
  if (json_take(r, 'e') || json_take(r, 'E')) {
    if (!json_take(r, '+')) (void)json_take(r, '-');
    return json_take_digits(r);
  }
  return true;
}

static bool json_take_scalar(json_reader *r) {
  switch (json_peek(r)) {
    case '"': return json_take_string(r);
    case 't': return json_take_word(r, "true");
    case 'f': return json_take_word(r, "false");
    case 'n': return json_take_word(r, "null");
    default: return json_take_number(r);
  }
}

static bool json_take_key(json_reader *r) {
  json_skip_space(r);
  if (!json_take_string(r)) return false;
  json_skip_space(r);
  return json_take(r, ':');
}

/* A value up to its end or into its first part; what is open stands in `closing`.
 * Without recursion: a text decides how deep it is. */
static bool json_take_value(json_reader *r, char *closing, size_t *depth) {
  char c;

  json_skip_space(r);
  c = json_peek(r);
  if (c != '{' && c != '[') return json_take_scalar(r);
  if (*depth == MG__JSON_DEPTH) return false;
  closing[(*depth)++] = c == '{' ? '}' : ']';
  r->at++;
  return true;
}

/* After the opening bracket or a value: what comes next inside of what is open.
 * @return whether there is a value to be read. */
static bool json_go_on(json_reader *r, const char *closing, size_t *depth,
                       bool is_first, bool *out_is_wrong) {
  *out_is_wrong = false;
  while (*depth > 0) {
    char end = closing[*depth - 1];
    json_skip_space(r);
    if (json_take(r, end)) {
      --*depth;
      is_first = false;
      continue;
    }
    *out_is_wrong = (!is_first && !json_take(r, ',')) ||
                    (end == '}' && !json_take_key(r));
    return !*out_is_wrong;
  }
  return false;
}

bool mg__json_check(const char *text, size_t bytes, size_t *out_at) {
  json_reader reader = {text, 0, bytes};
  char closing[MG__JSON_DEPTH];
  size_t depth = 0, before;
  bool is_wrong = false, goes_on = true;

  while (goes_on) {
    before = depth;
    is_wrong = !json_take_value(&reader, closing, &depth);
    if (is_wrong) break;
    goes_on = json_go_on(&reader, closing, &depth, depth > before, &is_wrong);
  }
  if (!is_wrong) {
    json_skip_space(&reader);
    is_wrong = reader.at != bytes;
  }
  if (out_at != NULL) *out_at = reader.at;
  return !is_wrong;
}
