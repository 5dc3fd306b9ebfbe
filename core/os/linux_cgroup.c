/* os/linux_cgroup.c - the memory control group of the process: v1, v2, hybrid.
 *
 * Where the group lies takes two texts. /proc/self/cgroup names it inside its
 * hierarchy, mountinfo says which part of the hierarchy is mounted where:
 *
 *   4:memory:/box/task        30 24 0:27 /box /sys/fs/cgroup/memory ... cgroup
 *            `-- path                    |    `-- point
 *                                        `-- mounted root
 *
 * gives point + (path without the mounted root) = /sys/fs/cgroup/memory/task,
 * and the levels from there up to the mount point are what can be seen. */
#include "os.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

/* v1 rounds INT64_MAX down to its page size; 64 KiB is the largest in use. */
#define CGROUP_V1_UNLIMITED (UINT64_C(0x7fffffffffffffff) & ~UINT64_C(0xffff))

/* ---- Parsers ------------------------------------------------------------- */

static bool cgroup_is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool mg__parse_u64(const char *text, uint64_t *out) {
  uint64_t value = 0;
  const char *at = text;

  for (; *at >= '0' && *at <= '9'; at++) {
    uint64_t digit = (uint64_t)(*at - '0');
    /* Eighteen digits always fit. */
    if (at - text >= 18 && value > (MG_ABSENT - 1 - digit) / 10) return false;
    value = value * 10 + digit;
  }
  if (at == text || (*at != '\0' && !cgroup_is_space(*at))) return false;
  *out = value;
  return true;
}

/* @return the start of the next line, or NULL at the end. */
static const char *cgroup_next_line(const char *line) {
  const char *end = strchr(line, '\n');

  return end == NULL ? NULL : end + 1;
}

uint64_t mg__parse_keyed(const char *text, const char *key) {
  size_t key_bytes = strlen(key);
  const char *line, *unit;
  uint64_t value;

  for (line = text; line != NULL; line = cgroup_next_line(line)) {
    if (strncmp(line, key, key_bytes) != 0) continue;
    line += key_bytes;
    if (*line != ' ' && *line != ':') continue;
    line++;
    line += strspn(line, " \t");
    if (!mg__parse_u64(line, &value)) return MG_ABSENT;
    unit = line + strspn(line, "0123456789");
    if (strncmp(unit, " kB", 3) != 0) return value;
    return value > (MG_ABSENT - 1) / 1024 ? MG_ABSENT : value * 1024;
  }
  return MG_ABSENT;
}

bool mg__parse_cgroup_limit(const char *text, uint64_t *out) {
  uint64_t value;

  if (strncmp(text, "max", 3) == 0 &&
      (text[3] == '\0' || cgroup_is_space(text[3]))) {
    *out = MG_ABSENT;
    return true;
  }
  if (!mg__parse_u64(text, &value)) return false;
  *out = value >= CGROUP_V1_UNLIMITED ? MG_ABSENT : value;
  return true;
}

/* A part of a line, not terminated. */
typedef struct cgroup_span {
  const char *at;
  size_t bytes;
} cgroup_span;

static bool cgroup_span_is(cgroup_span span, const char *text) {
  return strlen(text) == span.bytes && memcmp(span.at, text, span.bytes) == 0;
}

/* Takes the part up to `separator` or the line's end and moves behind it.
 * @return false at the end of the line. */
static bool cgroup_take(const char **line, char separator, cgroup_span *out) {
  const char *at = *line;

  if (*at == '\0' || *at == '\n') return false;
  while (**line != '\0' && **line != '\n' && **line != separator)
    (*line)++;
  *out = (cgroup_span){at, (size_t)(*line - at)};
  if (**line == separator) (*line)++;
  return true;
}

static bool cgroup_lists_memory(cgroup_span list) {
  const char *end = list.at + list.bytes, *at = list.at;

  while (at < end) {
    const char *comma = memchr(at, ',', (size_t)(end - at));
    const char *stop = comma == NULL ? end : comma;
    if (cgroup_span_is((cgroup_span){at, (size_t)(stop - at)}, "memory"))
      return true;
    at = stop + 1;
  }
  return false;
}

bool mg__parse_cgroup_path(const char *text, int version, char *out,
                           size_t out_bytes) {
  const char *line, *at;
  cgroup_span id, controllers;
  size_t bytes;

  for (line = text; line != NULL; line = cgroup_next_line(line)) {
    at = line;
    if (!cgroup_take(&at, ':', &id) || *at == '\0' || *at == '\n') continue;
    controllers = (cgroup_span){at, 0};
    if (*at == ':')
      at++; /* an empty list: the unified hierarchy */
    else if (!cgroup_take(&at, ':', &controllers))
      continue;
    if (version == 2 ? !cgroup_span_is(id, "0") || controllers.bytes != 0
                     : !cgroup_lists_memory(controllers))
      continue;
    bytes = strcspn(at, "\n");
    if (*at != '/') continue;
    if (bytes >= out_bytes) return false;
    memcpy(out, at, bytes);
    out[bytes] = '\0';
    return true;
  }
  return false;
}

/* mountinfo writes space, tab, newline and backslash as \ooo.
 * @return false if that is not an absolute path. */
static bool cgroup_unescape(cgroup_span span, char *out, size_t out_bytes) {
  size_t from, to = 0;

  if (span.bytes == 0 || span.at[0] != '/') return false;
  for (from = 0; from < span.bytes; from++, to++) {
    const char *at = span.at + from;
    if (to + 1 >= out_bytes) return false;
    out[to] = *at;
    if (*at == '\\' && span.bytes - from > 3 && at[1] >= '0' && at[1] <= '3' &&
        at[2] >= '0' && at[2] <= '7' && at[3] >= '0' && at[3] <= '7') {
      out[to] = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + at[3] - '0');
      from += 3;
    }
    if (out[to] == '\0') return false;
  }
  out[to] = '\0';
  return true;
}

/* @return bytes of `path` that `mounted_root` covers, or -1 if `path` is not
 * below it. */
static long cgroup_covers(const char *mounted_root, const char *path) {
  size_t bytes = strlen(mounted_root);

  if (strcmp(mounted_root, "/") == 0) return 0;
  if (strncmp(path, mounted_root, bytes) != 0) return -1;
  return path[bytes] == '\0' || path[bytes] == '/' ? (long)bytes : -1;
}

/* Fields of a mountinfo line: id, parent, device, mounted root, point, options,
 * any number of tags, "-", type, source, options of the file system. An empty
 * source is possible, so those options are found as the last field. */
static bool cgroup_is_memory_mount(const char *line, int version,
                                   cgroup_span *out_root,
                                   cgroup_span *out_point) {
  cgroup_span field, type = {line, 0}, last = {line, 0};
  int index, type_index = -1;

  *out_root = *out_point = type;
  for (index = 0; cgroup_take(&line, ' ', &field); index++) {
    if (index == 3) *out_root = field;
    if (index == 4) *out_point = field;
    if (index == type_index) type = field;
    if (index > 5 && type_index < 0 && cgroup_span_is(field, "-"))
      type_index = index + 1;
    last = field;
  }
  if (version == 2) return cgroup_span_is(type, "cgroup2");
  return cgroup_span_is(type, "cgroup") && cgroup_lists_memory(last);
}

bool mg__parse_cgroup_mount(const char *text, int version, const char *path,
                            char *out_root, char *out_point, size_t out_bytes) {
  const char *line;
  cgroup_span root, point, best_root = {text, 0}, best_point = {text, 0};
  long best = -1, covers;

  for (line = text; line != NULL; line = cgroup_next_line(line)) {
    if (!cgroup_is_memory_mount(line, version, &root, &point)) continue;
    if (!cgroup_unescape(root, out_root, out_bytes)) continue;
    covers = cgroup_covers(out_root, path);
    if (covers < 0 || (best >= 0 && covers >= best)) continue;
    best = covers;
    best_root = root;
    best_point = point;
  }
  return best >= 0 && cgroup_unescape(best_root, out_root, out_bytes) &&
         cgroup_unescape(best_point, out_point, out_bytes);
}

uint64_t mg__parse_psi_total(const char *text) {
  const char *line, *at;
  uint64_t value;

  for (line = text; line != NULL; line = cgroup_next_line(line)) {
    cgroup_span field;
    at = line;
    if (!cgroup_take(&at, ' ', &field) || !cgroup_span_is(field, "some"))
      continue;
    while (cgroup_take(&at, ' ', &field))
      if (strncmp(field.at, "total=", 6) == 0)
        return mg__parse_u64(field.at + 6, &value) ? value : MG_ABSENT;
  }
  return MG_ABSENT;
}

/* ---- Finding the group --------------------------------------------------- */

/* Large, so not on the sampler's small stack. */
typedef struct cgroup_finder {
  char *groups, *mounts;
  char path[MG__PATH_BYTES];
  char mounted_root[MG__PATH_BYTES];
  char point[MG__PATH_BYTES];
  char file[MG__PATH_BYTES];
} cgroup_finder;

/* @return bytes of the part of `out` that ends in the mount point, 0 if the
 * group is not found. */
static size_t cgroup_locate(cgroup_finder *finder, const char *root,
                            int version, char *out) {
  long covers;
  int top, length;

  if (!mg__parse_cgroup_path(finder->groups, version, finder->path,
                             sizeof finder->path) ||
      !mg__parse_cgroup_mount(finder->mounts, version, finder->path,
                              finder->mounted_root, finder->point,
                              sizeof finder->point))
    return 0;
  covers = cgroup_covers(finder->mounted_root, finder->path);
  /* The process has been moved out of its control-group namespace: its group is
   * not below the mount. */
  if (strncmp(finder->path + covers, "/..", 3) == 0) return 0;
  top = snprintf(out, MG__PATH_BYTES, "%s%s", root, finder->point);
  length = snprintf(out, MG__PATH_BYTES, "%s%s%s", root, finder->point,
                    finder->path + covers);
  if (length >= MG__PATH_BYTES) return 0;
  while (length > top && out[length - 1] == '/')
    out[--length] = '\0';
  return (size_t)top;
}

typedef struct cgroup_names {
  const char *usage, *limit, *high;
} cgroup_names;

static const cgroup_names cgroup_files[] = {
    {NULL, NULL, NULL},
    {"memory.usage_in_bytes", "memory.limit_in_bytes", NULL},
    {"memory.current", "memory.max", "memory.high"}};

static mg__file cgroup_open_file(cgroup_finder *finder, const char *directory,
                                 const char *name) {
  mg__file file = MG__FILE_NONE;
  int length;

  if (name == NULL) return file;
  length =
      snprintf(finder->file, sizeof finder->file, "%s/%s", directory, name);
  if (length > 0 && (size_t)length < sizeof finder->file)
    mg__file_open(&file, finder->file, O_RDONLY);
  return file;
}

static void cgroup_close_level(mg__cgroup_level *level) {
  mg__file_close(&level->usage);
  mg__file_close(&level->limit);
  mg__file_close(&level->high);
  mg__file_close(&level->stat);
}

static bool cgroup_open_level(mg__cgroup_level *out, cgroup_finder *finder,
                              const char *directory, int version) {
  const cgroup_names *names = &cgroup_files[version];

  out->usage = cgroup_open_file(finder, directory, names->usage);
  out->limit = cgroup_open_file(finder, directory, names->limit);
  out->high = cgroup_open_file(finder, directory, names->high);
  out->stat = cgroup_open_file(finder, directory, "memory.stat");
  if (out->usage.fd >= 0 && out->limit.fd >= 0) return true;
  cgroup_close_level(out);
  return false;
}

/* On old kernels a v1 group may not count what its children use; its limit then
 * says nothing about them. */
static bool cgroup_counts_children(cgroup_finder *finder, const char *directory,
                                   int version) {
  char text[32];
  mg__file file;
  uint64_t value;
  bool counts = true;

  if (version != 1) return true;
  file = cgroup_open_file(finder, directory, "memory.use_hierarchy");
  if (mg__file_read(file.fd, text, sizeof text) == 0 &&
      mg__parse_u64(text, &value))
    counts = value != 0;
  mg__file_close(&file);
  return counts;
}

/* Cuts the last name off. @return false if `directory` is the top already. */
static bool cgroup_go_up(char *directory, size_t top_bytes) {
  char *slash = strrchr(directory, '/');

  if (slash == NULL || (size_t)(slash - directory) < top_bytes) return false;
  *slash = '\0';
  return true;
}

static bool cgroup_open_levels(mg__cgroup *group, cgroup_finder *finder,
                               const char *root, int version) {
  char *directory = finder->mounted_root; /* free again once located */
  size_t top_bytes = cgroup_locate(finder, root, version, group->directory);
  int steps = 0;

  if (top_bytes == 0) return false;
  group->top_bytes = top_bytes;
  snprintf(directory, MG__PATH_BYTES, "%s", group->directory);
  do {
    mg__cgroup_level *level = &group->level[group->count];
    if (group->count > 0 && !cgroup_counts_children(finder, directory, version))
      break;
    steps++;
    if (!cgroup_open_level(level, finder, directory, version)) continue;
    if (group->count == 0) steps = 0;
    level->steps_up = steps;
    if (group->count++ == 0)
      snprintf(group->directory, MG__PATH_BYTES, "%s", directory);
  } while (group->count < MG__CGROUP_LEVELS &&
           cgroup_go_up(directory, top_bytes));
  if (group->count == 0) return false;
  group->version = version;
  return true;
}

void mg__cgroup_open(mg__cgroup *out, const char *root) {
  cgroup_finder *finder = mg__alloc_untouched(sizeof *finder);

  *out = (mg__cgroup){.version = 0};
  if (finder == NULL) return;
  snprintf(finder->file, sizeof finder->file, "%s/proc/self/cgroup", root);
  finder->groups = mg__file_text(finder->file);
  snprintf(finder->file, sizeof finder->file, "%s/proc/self/mountinfo", root);
  finder->mounts = mg__file_text(finder->file);
  if (finder->groups != NULL && finder->mounts != NULL) {
    if (cgroup_locate(finder, root, 2, out->unified) == 0)
      out->unified[0] = '\0';
    if (!cgroup_open_levels(out, finder, root, 1) &&
        !cgroup_open_levels(out, finder, root, 2))
      out->directory[0] = '\0';
  }
  mg__free(finder->groups);
  mg__free(finder->mounts);
  mg__free(finder);
}

void mg__cgroup_close(mg__cgroup *group) {
  int index;

  for (index = 0; index < group->count; index++)
    cgroup_close_level(&group->level[index]);
  group->count = 0;
  group->version = 0;
  group->directory[0] = group->unified[0] = '\0';
}

/* ---- Reading it ---------------------------------------------------------- */

static uint64_t cgroup_read_limit(const mg__file *file) {
  char text[32];
  uint64_t value;

  if (file->fd < 0 || mg__file_read(file->fd, text, sizeof text) != 0 ||
      !mg__parse_cgroup_limit(text, &value))
    return MG_ABSENT;
  return value;
}

uint64_t mg__cgroup_limit(const mg__cgroup_level *level) {
  uint64_t max = cgroup_read_limit(&level->limit);
  uint64_t high = cgroup_read_limit(&level->high);

  return max < high ? max : high; /* MG_ABSENT is the largest number */
}

/* Page cache and slab the kernel gives back before it calls the group full. */
static uint64_t cgroup_reclaimable(const mg__cgroup_level *level, int version) {
  static const char *const keys[2][3] = {
      {"total_active_file", "total_inactive_file", NULL},
      {"active_file", "inactive_file", "slab_reclaimable"}};
  char text[6144];
  uint64_t sum = 0, value;
  int index;

  if (mg__file_read(level->stat.fd, text, sizeof text) != 0) return 0;
  for (index = 0; index < 3; index++) {
    const char *key = keys[version - 1][index];
    value = key == NULL ? MG_ABSENT : mg__parse_keyed(text, key);
    if (value != MG_ABSENT && sum + value >= sum) sum += value;
  }
  return sum;
}

void mg__cgroup_read(const mg__cgroup *group, uint64_t machine_total,
                     uint64_t *out_used, uint64_t *out_limit) {
  double highest = -1.0;
  int index;

  *out_used = *out_limit = MG_ABSENT;
  for (index = 0; index < group->count; index++) {
    const mg__cgroup_level *level = &group->level[index];
    uint64_t limit = mg__cgroup_limit(level), used, reclaimable;
    char text[32];

    if (limit == MG_ABSENT || limit == 0) continue;
    if (limit > machine_total && machine_total > 0) limit = machine_total;
    if (mg__file_read(level->usage.fd, text, sizeof text) != 0 ||
        !mg__parse_u64(text, &used))
      continue;
    /* memory.stat costs more than all else here: not read for a level that
     * would not win even if nothing of it could be reclaimed. */
    if ((double)used / (double)limit <= highest) continue;
    reclaimable = cgroup_reclaimable(level, group->version);
    used = used > reclaimable ? used - reclaimable : 0;
    if ((double)used / (double)limit <= highest) continue;
    highest = (double)used / (double)limit;
    *out_used = used;
    *out_limit = limit;
  }
}

void mg__cgroup_directory(const mg__cgroup *group, int index, char *out,
                          size_t out_bytes) {
  int length = snprintf(out, out_bytes, "%s", group->directory);
  int steps = group->level[index].steps_up;

  if (length < 0 || (size_t)length >= out_bytes) out[0] = '\0';
  while (steps-- > 0 && cgroup_go_up(out, group->top_bytes))
    continue;
}
