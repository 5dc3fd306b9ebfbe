/* monitor_support.h - what the tests of running monitors share. */
#ifndef MG_TESTS_MONITOR_SUPPORT_H
#define MG_TESTS_MONITOR_SUPPORT_H

#include "support.h"

#include <stdlib.h>
#include <time.h>

#define MB 1048576u
#define LONGEST_WAIT_MS 20000 /* a bound against hanging, never a measure */

static inline void sleep_ms(long ms) {
  struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

  nanosleep(&pause, NULL);
}

/* Memory that is really there: the compiler may not leave the writes out. */
static inline char *touched(size_t bytes) {
  char *block = malloc(bytes);

  assert_non_null(block);
  for (size_t at = 0; at < bytes; at += 4096) ((volatile char *)block)[at] = 1;
  return block;
}

static inline mg_monitor *opened(const mg_config *config,
                                 const mg_monitor_hooks *hooks) {
  mg_error err = MG_ERROR_INIT;
  mg_monitor *monitor;

  assert_ok(mg_monitor_open(&monitor, config, hooks, &err), &err);
  return monitor;
}

static inline void start(mg_monitor *monitor) {
  mg_error err = MG_ERROR_INIT;

  assert_ok(mg_monitor_start(monitor, &err), &err);
}

static inline uint64_t number_of(const mg_monitor *monitor) {
  mg_sample sample;

  mg_monitor_latest(monitor, &sample);
  return sample.number;
}

static inline bool reaches(const mg_monitor *monitor, uint64_t number) {
  for (int waited = 0; waited < LONGEST_WAIT_MS; waited += 5) {
    if (number_of(monitor) >= number) return true;
    sleep_ms(5);
  }
  return false;
}

#endif
