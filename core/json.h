/* json.h - writes JSON, and tells whether a text is JSON. Internal.
 *
 * A writer grows a text; without memory it goes on without writing and says so at
 * the end. Keys are [borrowed] ASCII without anything to escape, NULL inside an
 * array. Commas come by themselves. Texts may hold any bytes: control characters are
 * escaped, so that the result is one line, and what is no UTF-8 becomes U+FFFD.
 *
 * Threads: a writer belongs to one. */
#ifndef MG_CORE_JSON_H
#define MG_CORE_JSON_H

#include "internal.h"

#define MG__JSON_DEPTH 64u

typedef struct mg__json {
  char *text; /* [owned] NUL-terminated */
  size_t bytes, capacity;
  uint32_t depth;
  char closing[MG__JSON_DEPTH];
  bool has_failed;
} mg__json;

/** All zero is a valid start. */
#define MG__JSON_INIT {NULL, 0, 0, 0, {0}, false}

/** A key of any bytes; the next value has none of its own. */
void mg__json_key(mg__json *json, const char *key);
void mg__json_object(mg__json *json, const char *key);
void mg__json_array(mg__json *json, const char *key);
/** Ends the innermost of these. */
void mg__json_end(mg__json *json);
void mg__json_text(mg__json *json, const char *key, const char *text);
void mg__json_bool(mg__json *json, const char *key, bool value);
void mg__json_null(mg__json *json, const char *key);
/** MG_ABSENT is null. All digits, whatever a reader can hold. */
void mg__json_uint(mg__json *json, const char *key, uint64_t value);
void mg__json_int(mg__json *json, const char *key, int64_t value);
/** The shortest of 15 or 17 digits that reads as the same; NaN and infinities are
 *  null. In any locale. */
void mg__json_number(mg__json *json, const char *key, double value);
/** A JSON value as it is. */
void mg__json_raw(mg__json *json, const char *key, const char *text,
                  size_t bytes);
/** A line end behind the whole. */
void mg__json_line(mg__json *json);
/** Ends the writing. @return [owned] mg__free(); NULL without memory. */
char *mg__json_take(mg__json *json, size_t *out_bytes);

/** Whether `bytes` of `text` are one JSON value (RFC 8259) in UTF-8, not nested
 *  deeper than MG__JSON_DEPTH, and nothing else. @param out_at [may be NULL] the
 *  offset of what is wrong. */
bool mg__json_check(const char *text, size_t bytes, size_t *out_at);
/** Bytes of the UTF-8 character at the start of `text`; 0 if there is none. */
size_t mg__utf8_bytes(const char *text, size_t bytes);

#endif
