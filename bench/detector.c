/* detector.c - what a leak detector adds to a sample, and what a wide reading
 * takes. Nothing leaks and nothing asks: the common case.
 *
 * Prints one line per figure: NAME OURS_NS PEER_NS PEER. The detector's part of a
 * sample is the difference between passes with and without it, in turn and in
 * either order; its peer is the pass itself. */
#include <stdio.h>

#include "median.h"
#include "memguard.h"

#define BENCH_ROUNDS 2001 /* short ones: what disturbs some is not the median */
#define BENCH_PASSES 20

static double pass_ns(mg_monitor *monitor) {
  double began = (double)mg_clock_ns();

  for (int i = 0; i < BENCH_PASSES; i++) mg_monitor_pass(monitor, false, NULL);
  return ((double)mg_clock_ns() - began) / BENCH_PASSES;
}

static double check_ns(mg_detector *detector) {
  double began = (double)mg_clock_ns();

  mg_detector_check(detector);
  return (double)mg_clock_ns() - began;
}

static double with[BENCH_ROUNDS], without[BENCH_ROUNDS], added[BENCH_ROUNDS],
    checks[BENCH_ROUNDS];

int main(void) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  mg_monitor *plain, *watched;
  mg_detector *detector;
  mg_config config;

  mg_config_init(&config, MG_PROFILE_DEFAULT);
  if (mg_monitor_open(&plain, &config, NULL, NULL) != MG_OK ||
      mg_monitor_open(&watched, &config, NULL, NULL) != MG_OK ||
      mg_detector_open(&detector, watched, &options, NULL) != MG_OK)
    return 1;
  pass_ns(plain);
  pass_ns(watched);
  for (int round = 0; round < BENCH_ROUNDS; round++) {
    if (round % 2 == 0) without[round] = pass_ns(plain);
    with[round] = pass_ns(watched);
    if (round % 2 != 0) without[round] = pass_ns(plain);
    added[round] = with[round] - without[round];
    checks[round] = check_ns(detector);
  }
  printf("leaks.idle %.1f %.1f sample\n", bench_median(added, BENCH_ROUNDS),
         bench_median(without, BENCH_ROUNDS));
  printf("leaks.wide %.1f - -\n", bench_median(checks, BENCH_ROUNDS));
  mg_detector_close(detector);
  mg_monitor_close(watched);
  mg_monitor_close(plain);
  return 0;
}
