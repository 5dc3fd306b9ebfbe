/* tree.c - reads a process and its descendants. */
#include "tree.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t tree_file(char *out, size_t room, const char *format, long pid) {
  char path[64];
  FILE *file;
  size_t bytes;

  snprintf(path, sizeof path, format, pid, pid);
  file = fopen(path, "re");
  if (file == NULL) return 0;
  bytes = fread(out, 1, room - 1, file);
  fclose(file);
  out[bytes] = '\0';
  return bytes;
}

static uint64_t tree_fds(long pid) {
  char path[64];
  uint64_t count = 0;
  DIR *folder;

  snprintf(path, sizeof path, "/proc/%ld/fd", pid);
  folder = opendir(path);
  if (folder == NULL) return 0;
  for (struct dirent *e = readdir(folder); e != NULL; e = readdir(folder))
    count += e->d_name[0] != '.';
  closedir(folder);
  return count;
}

/* Adds one process. @return false if there is none, or it is a zombie. */
static bool tree_add(tree_reading *out, long pid) {
  unsigned long user, system;
  char text[1024], state;
  long threads, pages;
  const char *after;

  if (tree_file(text, sizeof text, "/proc/%ld/stat", pid) == 0) return false;
  after = strrchr(text, ')'); /* the name before it may hold anything */
  if (after == NULL ||
      sscanf(after + 1,
             " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d "
             "%*d %ld %*d %*u %*u %ld",
             &state, &user, &system, &threads, &pages) != 5 ||
      state == 'Z')
    return false;
  out->processes++;
  out->rss_bytes += (uint64_t)(pages * sysconf(_SC_PAGESIZE));
  out->threads += (uint64_t)threads;
  out->fds += tree_fds(pid);
  out->cpu_seconds += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
  return true;
}

/* Threads may each have started some. @return the new count of `pids`. */
static size_t tree_children(long *pids, size_t count, long pid) {
  char path[64], text[4096];
  DIR *folder;

  snprintf(path, sizeof path, "/proc/%ld/task", pid);
  folder = opendir(path);
  if (folder == NULL) return count;
  for (struct dirent *e = readdir(folder); e != NULL; e = readdir(folder)) {
    char *at = text, *end;
    FILE *file;
    size_t bytes;
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%ld/task/%.20s/children", pid, e->d_name);
    file = fopen(path, "re");
    if (file == NULL) continue;
    bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    for (long child = strtol(at, &end, 10); end != at && count < TREE_MAX;
         at = end, child = strtol(at, &end, 10))
      pids[count++] = child;
  }
  closedir(folder);
  return count;
}

bool tree_read(tree_reading *out, long pid, long *pids) {
  long own[TREE_MAX];
  size_t count = 1;

  memset(out, 0, sizeof *out);
  if (pids == NULL) pids = own;
  pids[0] = pid;
  if (!tree_add(out, pid)) return false;
  for (size_t i = 0; i < count; i++) {
    if (i > 0) tree_add(out, pids[i]);
    count = tree_children(pids, count, pids[i]);
  }
  return true;
}
