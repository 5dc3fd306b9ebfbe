/* fuzz/os.c - any text as what the system tells: control groups, mounts, pressure,
 * memory; and as base64, as the service manager writes its trigger.
 *
 * Input: a byte that says how much room there is for what comes out, then the text. */
#include <stdlib.h>
#include <string.h>

#include "memguard.h"
#include "os.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool is_true) {
  if (!is_true) abort();
}

/* Blocks of just that size, so that a byte too many is seen. */
static void check_cgroup(const char *text, size_t room) {
  char *root = malloc(room), *point = malloc(room), *path = malloc(room);

  must(root != NULL && point != NULL && path != NULL);
  for (int version = 1; version <= 2; version++) {
    bool found = mg__parse_cgroup_path(text, version, path, room);
    if (found) must(path[0] == '/' && strlen(path) < room);
    if (!mg__parse_cgroup_mount(text, version, found ? path : "/", root, point,
                                room))
      continue;
    must(strlen(root) < room && strlen(point) < room);
    if (found) must(strncmp(path, root, 1) == 0);
  }
  free(root);
  free(point);
  free(path);
}

static void check_numbers(const char *text) {
  uint64_t value = 0;

  if (mg__parse_u64(text, &value)) {
    must(value < MG_ABSENT);
    must(text[0] >= '0' && text[0] <= '9');
  }
  (void)mg__parse_cgroup_limit(text, &value);
  (void)mg__parse_keyed(text, "MemAvailable");
  (void)mg__parse_keyed(text, "oom_kill");
  (void)mg__parse_psi_total(text);
  (void)mg__parse_private(text);
}

/* Three bytes of four characters: never more, and none of what is not base64. */
static void check_base64(const char *text, size_t room) {
  char *out = malloc(room);
  long count;

  must(out != NULL);
  count = mg__parse_base64(text, out, room);
  must(count >= -1 && count <= (long)room);
  if (count >= 0) must((size_t)count <= strlen(text) / 4 * 3 + 2);
  if (strcspn(text, " \n-_") < strcspn(text, "=")) must(count == -1);
  free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  size_t room = bytes == 0 ? 1 : (size_t)data[0] + 1;
  char *text = malloc(bytes + 1);

  must(text != NULL);
  if (bytes > 0) memcpy(text, data + 1, bytes - 1);
  text[bytes > 0 ? bytes - 1 : 0] = '\0';
  check_cgroup(text, room);
  check_numbers(text);
  check_base64(text, room);
  free(text);
  return 0;
}
