/* segment_support.h - a directory of segments of the test's own, in memory. */
#ifndef MG_TESTS_SEGMENT_SUPPORT_H
#define MG_TESTS_SEGMENT_SUPPORT_H

#include "monitor_support.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char segment_directory[64];

static inline int segment_setup(void **state) {
  (void)state;
  snprintf(segment_directory, sizeof segment_directory,
           "/dev/shm/memguard-test-XXXXXX");
  if (mkdtemp(segment_directory) == NULL) return -1;
  return setenv("MEMGUARD_DIR", segment_directory, 1);
}

static inline int segment_teardown(void **state) {
  DIR *directory = opendir(segment_directory);
  const struct dirent *entry;
  char path[400];

  (void)state;
  while (directory != NULL && (entry = readdir(directory)) != NULL) {
    snprintf(path, sizeof path, "%s/%s", segment_directory, entry->d_name);
    unlink(path);
  }
  if (directory != NULL) closedir(directory);
  return rmdir(segment_directory);
}

/* The path of this process's file, once there is one. */
static inline const char *segment_awaited(void) {
  static char path[MG_SEGMENT_PATH_BYTES];

  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    if (mg_segment_path(path, sizeof path) > 0) return path;
    sleep_ms(5);
  }
  return NULL;
}

static inline mg_segment *segment_opened(const char *path) {
  mg_error err = MG_ERROR_INIT;
  mg_segment *segment;

  assert_ok(mg_segment_open(&segment, path, &err), &err);
  return segment;
}

static inline mg_segment_view segment_view_of(mg_segment *segment) {
  mg_error err = MG_ERROR_INIT;
  mg_segment_view view;

  assert_ok(mg_segment_read(segment, &view, &err), &err);
  return view;
}

/* A copy of the file's bytes. [owned] */
static inline mg_segment_layout *segment_copied(const char *path) {
  mg_segment_layout *bytes = malloc(sizeof *bytes);
  int fd = open(path, O_RDONLY);

  assert_non_null(bytes);
  assert_true(fd >= 0);
  assert_int_equal(read(fd, bytes, sizeof *bytes), sizeof *bytes);
  close(fd);
  return bytes;
}

#endif
