/* web_request.c - the words of a request: headers, host names, query. */
#include "memguard/web.h"

#include <string.h>

#include "web_parts.h"

#define REQUEST_NUMBER_MAX 9007199254740991u /* what JavaScript counts to */
#define REQUEST_SHOWN 60                     /* of a foreign text in an error */

/* ---- slices ------------------------------------------------------------------ */

mg__slice mg__slice_of(const char *text) {
  return (mg__slice){text, strlen(text)};
}

static bool request_is_space(char c) { return c == ' ' || c == '\t'; }

mg__slice mg__slice_trim(mg__slice span) {
  while (span.bytes > 0 && request_is_space(span.at[0])) {
    span.at++;
    span.bytes--;
  }
  while (span.bytes > 0 && request_is_space(span.at[span.bytes - 1]))
    span.bytes--;
  return span;
}

bool mg__slice_is(mg__slice span, const char *text) {
  for (size_t i = 0; i < span.bytes; i++)
    if (text[i] == '\0' ||
        mg__config_lower(span.at[i]) != mg__config_lower(text[i]))
      return false;
  return text[span.bytes] == '\0';
}

/* Takes what comes before `separator` off the front; all if there is none. */
static mg__slice request_next(mg__slice *rest, char separator) {
  const char *found =
      rest->bytes == 0 ? NULL : memchr(rest->at, separator, rest->bytes);
  mg__slice part = *rest;

  if (found != NULL) part.bytes = (size_t)(found - rest->at);
  rest->at += part.bytes;
  rest->bytes -= part.bytes;
  if (found != NULL) {
    rest->at++;
    rest->bytes--;
  }
  return part;
}

/* ---- headers ------------------------------------------------------------------ */

mg__slice mg__web_header(const mg_web_request *request, const char *name,
                        size_t *out_count) {
  mg__slice value = {NULL, 0};
  size_t count = 0;

  for (size_t i = 0; i < request->header_count; i++) {
    const mg_web_header *header = &request->header[i];
    if (!mg__slice_is(mg__slice_of(header->name), name)) continue;
    if (count++ == 0) value = mg__slice_trim(mg__slice_of(header->value));
  }
  if (out_count != NULL) *out_count = count;
  return value;
}

static bool request_is_port(mg__slice port) {
  for (size_t i = 0; i < port.bytes; i++)
    if (port.at[i] < '0' || port.at[i] > '9') return false;
  return port.bytes <= 5;
}

mg__slice mg__web_host_name(mg__slice host) {
  const mg__slice none = {NULL, 0};
  mg__slice name = host, rest;
  const char *end;

  if (host.bytes == 0) return none;
  end = memchr(host.at, host.at[0] == '[' ? ']' : ':', host.bytes);
  if (host.at[0] == '[') {
    if (end == NULL) return none;
    end++;
  }
  if (end != NULL) name.bytes = (size_t)(end - host.at);
  rest = (mg__slice){host.at + name.bytes, host.bytes - name.bytes};
  if (rest.bytes == 0) return name;
  if (rest.at[0] != ':') return none;
  rest = (mg__slice){rest.at + 1, rest.bytes - 1};
  return request_is_port(rest) ? name : none;
}

/* The weight of a media range in thousandths: "text/plain; q=0.5" is 500. */
static uint32_t request_weight(mg__slice parameters) {
  while (parameters.bytes > 0) {
    mg__slice part = mg__slice_trim(request_next(&parameters, ';'));
    uint32_t weight = 0, unit = 1000;
    if (part.bytes < 3 || (part.at[0] != 'q' && part.at[0] != 'Q') ||
        part.at[1] != '=')
      continue;
    for (size_t i = 2; i < part.bytes && unit > 0; i++) {
      char c = part.at[i];
      if (c == '.' && i == 3) continue;
      if (c < '0' || c > '9') return 0;
      weight += (uint32_t)(c - '0') * unit;
      unit /= 10;
    }
    return weight;
  }
  return 1000;
}

bool mg__web_prefers_openmetrics(const mg_web_request *request) {
  uint32_t openmetrics = 0, plain = 0, weight;

  for (size_t i = 0; i < request->header_count; i++) {
    mg__slice rest = mg__slice_of(request->header[i].value);
    if (!mg__slice_is(mg__slice_of(request->header[i].name), "accept")) continue;
    while (rest.bytes > 0) {
      mg__slice range = request_next(&rest, ',');
      mg__slice type = mg__slice_trim(request_next(&range, ';'));
      weight = request_weight(range);
      if (mg__slice_is(type, "application/openmetrics-text") &&
          weight > openmetrics)
        openmetrics = weight;
      if (mg__slice_is(type, "text/plain") && weight > plain) plain = weight;
    }
  }
  return openmetrics > 0 && openmetrics >= plain;
}

/* ---- query --------------------------------------------------------------------- */

typedef enum request_key {
  REQUEST_PID,
  REQUEST_RING,
  REQUEST_SINCE,
  REQUEST_MAX,
  REQUEST_KEYS
} request_key;

static const char *const request_keys[REQUEST_KEYS] = {"pid", "ring",
                                                       "since_unix_ms", "max"};

/* Digits and nothing else: query values need no decoding. */
static bool request_number(mg__slice text, uint64_t min, uint64_t max,
                           uint64_t *out) {
  uint64_t value = 0;

  if (text.bytes == 0 || text.bytes > 16) return false;
  for (size_t i = 0; i < text.bytes; i++) {
    if (text.at[i] < '0' || text.at[i] > '9') return false;
    value = value * 10 + (uint64_t)(text.at[i] - '0');
  }
  *out = value;
  return value >= min && value <= max;
}

static int request_shown(mg__slice text) {
  return text.bytes < REQUEST_SHOWN ? (int)text.bytes : REQUEST_SHOWN;
}

static bool request_set_number(mg__slice key, mg__slice text, uint64_t min,
                               uint64_t max, uint64_t *out, mg_error *err) {
  if (request_number(text, min, max, out)) return true;
  mg__fail(err, MG_ERANGE,
           "query %.*s is \"%.*s\", allowed: a whole number from %llu to %llu",
           request_shown(key), key.at, request_shown(text), text.at,
           (unsigned long long)min, (unsigned long long)max);
  return false;
}

static bool request_set_ring(mg_web_job *job, mg__slice text, mg_error *err) {
  bool by_minute = mg__slice_is(text, "minute");

  job->ring = by_minute ? MG_SEGMENT_BY_MINUTE : MG_SEGMENT_BY_SECOND;
  if (by_minute || mg__slice_is(text, "second")) return true;
  mg__fail(err, MG_EINVAL, "query ring is \"%.*s\", allowed: second, minute",
           request_shown(text), text.at);
  return false;
}

static bool request_set(mg_web_job *job, request_key which, mg__slice key,
                        mg__slice text, mg_error *err) {
  uint64_t number = 0;
  bool is_good;

  switch (which) {
    case REQUEST_RING: return request_set_ring(job, text, err);
    case REQUEST_SINCE:
      return request_set_number(key, text, 0, REQUEST_NUMBER_MAX,
                                &job->since_unix_ms, err);
    case REQUEST_MAX:
      is_good = request_set_number(key, text, 1, MG_SEGMENT_SECONDS, &number,
                                   err);
      job->max = (uint32_t)number;
      return is_good;
    default:
      is_good = request_set_number(key, text, 1, UINT32_MAX, &number, err);
      job->pid = (uint32_t)number;
      job->has_pid = true;
      return is_good;
  }
}

/* The key of a route; of all but the history that is the pid alone. */
static request_key request_find(const mg_web_job *job, mg__slice key) {
  for (int i = 0; i < REQUEST_KEYS; i++)
    if ((i == REQUEST_PID || job->route == MG_WEB_HISTORY) &&
        mg__slice_is(key, request_keys[i]))
      return (request_key)i;
  return REQUEST_KEYS;
}

bool mg__web_read_query(mg_web_job *job, mg__slice query, mg_error *err) {
  uint32_t seen = 0;

  job->max = MG_SEGMENT_SECONDS;
  while (query.bytes > 0) {
    mg__slice text = request_next(&query, '&'), key = request_next(&text, '=');
    request_key which = request_find(job, key);
    if (which == REQUEST_KEYS) {
      mg__fail(err, MG_EKEY, "query has the key \"%.*s\", allowed: %s",
               request_shown(key), key.at,
               job->route == MG_WEB_HISTORY ? "pid, ring, since_unix_ms, max"
                                            : "pid");
      return false;
    }
    if ((seen & 1u << which) != 0) {
      mg__fail(err, MG_EKEY, "query has the key \"%s\" twice, allowed: once",
               request_keys[which]);
      return false;
    }
    seen |= 1u << which;
    if (!request_set(job, which, key, text, err)) return false;
  }
  return true;
}
