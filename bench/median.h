/* median.h - medians for the benchmarks in C. */
#ifndef MG_BENCH_MEDIAN_H
#define MG_BENCH_MEDIAN_H

#include <stdlib.h>

#include "memguard/process.h"

#define BENCH_NS_ROUNDS 9

static inline int bench_compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;

  return (x > y) - (x < y);
}

/** Sorts `values`. */
static inline double bench_median(double *values, size_t count) {
  qsort(values, count, sizeof *values, bench_compare);
  return values[count / 2];
}

/** Time of one `run`, in ns: the median of some rounds of `calls`. */
static inline double bench_median_ns(void (*run)(void), int calls) {
  double round_ns[BENCH_NS_ROUNDS];

  for (int round = 0; round < BENCH_NS_ROUNDS; round++) {
    double began = (double)mg_clock_ns();
    for (int i = 0; i < calls; i++) run();
    round_ns[round] = ((double)mg_clock_ns() - began) / calls;
  }
  return bench_median(round_ns, BENCH_NS_ROUNDS);
}

#endif
