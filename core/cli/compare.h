/* compare.h - the result of a comparison and how it is printed. */
#ifndef MG_CLI_COMPARE_H
#define MG_CLI_COMPARE_H

#include "baseline.h"

typedef struct compare_result {
  const baseline *base, *now;
  double threshold_percent[METRICS];
  metric_change change[METRICS];
  size_t worse, unsure, better;
} compare_result;

/** X(name): `--format` */
#define COMPARE_FORMATS(X) X(text) X(md) X(json) X(github) X(junit) X(openmetrics)

/* compare_format.c: each prints the result on stdout. @return an exit code. */
#define COMPARE_DECLARE(name) int compare_print_##name(const compare_result *result);
COMPARE_FORMATS(COMPARE_DECLARE)
#undef COMPARE_DECLARE

#endif
