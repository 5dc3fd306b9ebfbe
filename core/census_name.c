/* census_name.c - what descriptors and mappings are called. Pure text work.
 *
 * Files of one kind differ by numbers: a request's id, a random suffix. They must
 * come under one name, or a leak of them is a thousand names that each grew by
 * one. So numbers become '#':
 *   digits                       /tmp/x123          -> /tmp/x#
 *   8 and more hex digits        cache/9f86d081aa.bin -> cache/#.bin
 *   what mkstemp made up         /tmp/tmpk3_9xq2a   -> /tmp/tmp# */
#include "os.h"

#include <stdio.h>
#include <string.h>

#include "segment_parts.h"

#define NAME_HEX_LEAST 8u
#define NAME_RANDOM_BYTES 8u /* of Python's tempfile; mkstemp has 6 */

/* ASCII, whatever the locale. */
static bool name_is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool name_is_lower(char c) {
  return c >= 'a' && c <= 'z';
}

static bool name_is_hex(char c) {
  return name_is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool name_is_word(char c) {
  return name_is_digit(c) || name_is_lower(c) || (c >= 'A' && c <= 'Z');
}

/* Length of the number at `at`, at whose left `before` stands; 0 if none. */
static size_t name_number(const char *at, char before) {
  size_t length = 0, digits = 0;

  if (!name_is_word(before)) {
    for (; name_is_hex(at[length]); length++)
      digits += name_is_digit(at[length]);
    if (length >= NAME_HEX_LEAST && digits > 0 && !name_is_word(at[length]))
      return length;
  }
  for (length = 0; name_is_digit(at[length]); length++) continue;
  return length;
}

/* Length of what stands after "tmp" if it is made up: 8 of a-z, 0-9 and '_', as
 * Python does, or 6 letters and digits after a dot, as in "tmp.Ab3dE9". */
static size_t name_random(const char *at) {
  size_t length = 0;

  if (*at == '.') {
    for (length = 1; name_is_word(at[length]); length++) continue;
    return length >= 7 && length <= 11 ? length : 0;
  }
  while (length < NAME_RANDOM_BYTES &&
         (name_is_lower(at[length]) || name_is_digit(at[length]) ||
          at[length] == '_'))
    length++;
  return length == NAME_RANDOM_BYTES && !name_is_word(at[length]) ? length : 0;
}

void mg__census_unnumber(char *out, size_t out_bytes, const char *path) {
  size_t used = 0;
  char before = '/';

  while (*path != '\0' && used + 1 < out_bytes) {
    size_t number = 0;
    if (used >= 4 && memcmp(out + used - 4, "/tmp", 4) == 0)
      number = name_random(path);
    if (number == 0) number = name_number(path, before);
    before = path[number > 0 ? number - 1 : 0];
    out[used++] = number > 0 ? '#' : *path;
    path += number > 0 ? number : 1;
  }
  out[used] = '\0';
}

/* "libssl.so.3", "_core.cpython-311-x86_64-linux-gnu.so": their numbers say which
 * library it is. */
static bool name_is_library(const char *path) {
  const char *at = strstr(path, ".so");

  for (; at != NULL; at = strstr(at + 1, ".so"))
    if (at[3] == '\0' || at[3] == '.' || at[3] == ' ') return true;
  return false;
}

/* "prefix[inside]" without its brackets. */
static void name_inside(char *out, size_t out_bytes, const char *prefix,
                        const char *text) {
  size_t length = strlen(text);

  if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
    text++;
    length -= 2;
  }
  snprintf(out, out_bytes, "%s%.*s", prefix,
           (int)(length < 512 ? length : 512), text);
}

void mg__census_target(char out[MG_CENSUS_NAME_BYTES], const char *link) {
  const size_t room = MG_CENSUS_NAME_BYTES;
  char path[MG_CENSUS_NAME_BYTES - 8];
  const char *colon;

  if (strncmp(link, "anon_inode:", 11) == 0) {
    name_inside(out, room, "anon ", link + 11);
  } else if (strncmp(link, "/memfd:", 7) == 0) {
    mg__census_unnumber(path, sizeof path, link + 7);
    snprintf(out, room, "memfd %s", path);
  } else if (link[0] == '/') {
    mg__census_unnumber(path, sizeof path, link);
    snprintf(out, room, "file %s", path);
  } else { /* "pipe:[1234]", "net:[4026531840]" */
    colon = strchr(link, ':');
    size_t length = colon == NULL ? strlen(link) : (size_t)(colon - link);
    snprintf(out, room, "%.*s", (int)(length < room ? length : room), link);
  }
}

void mg__census_mapping(char out[MG_CENSUS_NAME_BYTES], const char *path) {
  const size_t room = MG_CENSUS_NAME_BYTES;
  const char *file = strrchr(path, '/');

  if (file != NULL && mg__segment_is_name(file + 1))
    out[0] = '\0'; /* our own: it is written to all the time, and of one size */
  else if (path[0] == '\0' || strncmp(path, "/dev/zero", 9) == 0)
    snprintf(out, room, "anon");
  else if (strcmp(path, "[heap]") == 0 || strcmp(path, "[stack]") == 0)
    name_inside(out, room, "", path);
  else if (strncmp(path, "[stack:", 7) == 0)
    snprintf(out, room, "stack");
  else if (strncmp(path, "[anon:", 6) == 0)
    snprintf(out, room, "anon %.*s", (int)strcspn(path + 6, "]"), path + 6);
  else if (path[0] == '[')
    name_inside(out, room, "special ", path);
  else if (name_is_library(path))
    snprintf(out, room, "%.*s", (int)room - 1, path);
  else
    mg__census_unnumber(out, room, path);
}
