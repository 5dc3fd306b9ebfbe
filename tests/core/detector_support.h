/* detector_support.h - what the tests of the leak detector share: a detector on a
 * monitor whose times are short, and steps that let it see growth. */
#ifndef MG_TESTS_DETECTOR_SUPPORT_H
#define MG_TESTS_DETECTOR_SUPPORT_H

#include "monitor_support.h"

#include <string.h>

/* Windows of 240 ms and more: a leak is found within seconds. */
#define TIME_SCALE "1000"
#define ALL_ANSWERS                                                     \
  (MG_REQUEST_COLLECT | MG_REQUEST_CENSUS_BASE | MG_REQUEST_CENSUS |    \
   MG_REQUEST_TRACE_START | MG_REQUEST_TRACE_STOP)

typedef struct watched {
  mg_config config;
  mg_monitor *monitor;
  mg_detector *detector;
} watched;

static inline mg_detector *detector_on(mg_monitor *monitor,
                                       void (*read_heap)(void *, mg_heap *)) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  mg_error err = MG_ERROR_INIT;
  mg_detector *detector;

  options.answers = ALL_ANSWERS;
  options.read_heap = read_heap;
  assert_ok(mg_detector_open(&detector, monitor, &options, &err), &err);
  return detector;
}

/* Nothing is critical that fast growth brings near its limit. */
static inline mg_config short_times(void) {
  return support_config("sample_interval", "10ms", "leak.time_scale",
                        TIME_SCALE, "leak.critical_within", "0s", NULL);
}

static inline watched watch(void (*read_heap)(void *, mg_heap *)) {
  watched w = {.config = short_times()};

  w.monitor = opened(&w.config, NULL);
  w.detector = detector_on(w.monitor, read_heap);
  return w;
}

static inline void unwatch(watched *w) {
  mg_detector_close(w->detector);
  mg_monitor_close(w->monitor);
}

/* What grows does so with time, however often somebody comes by.
 * @return `per_ms` for each ms since `*began_ms`, which is now if it is 0. */
static inline uint64_t grown(double *began_ms, double per_ms) {
  if (*began_ms == 0.0) *began_ms = mg_clock_ms();
  return (uint64_t)((mg_clock_ms() - *began_ms) * per_ms);
}

static inline void pass(const watched *w) {
  mg_monitor_pass(w->monitor, false, NULL);
}

/* Takes events until one of `kind` comes whose finding is of `signal`.
 * @return its number; 0 if none waits. */
static inline uint64_t take_finding(const watched *w, mg_event_kind kind,
                                    const char *signal) {
  mg_detector_finding finding;
  mg_event event;

  while (mg_monitor_next_event(w->monitor, &event))
    if (event.kind == kind && event.finding != 0 &&
        mg_detector_finding_at(w->detector, event.finding, &finding) &&
        strcmp(finding.leak.name, signal) == 0)
      return event.finding;
  return 0;
}

/* Calls `step` and makes a pass, again and again, until that event comes.
 * @return number of the finding; 0 if it took too long. */
static inline uint64_t step_until(const watched *w, mg_event_kind kind,
                                  const char *signal,
                                  void (*step)(const watched *w)) {
  uint64_t number = 0;

  for (int waited = 0; number == 0 && waited < LONGEST_WAIT_MS; waited += 5) {
    if (step != NULL) step(w);
    pass(w);
    number = take_finding(w, kind, signal);
    sleep_ms(5);
  }
  return number;
}

#endif
