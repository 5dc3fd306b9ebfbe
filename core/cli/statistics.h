/* statistics.h - the few statistics by which two sets of runs are compared. Pure.
 *
 * Mann-Whitney's U tells whether values of one side tend to be larger than those
 * of the other, whatever their distribution. With up to STATISTICS_EXACT ways to
 * split the pooled values its two-sided p is exact (every split is counted, ties
 * with half a win), beyond that by the normal approximation with the correction for
 * ties and continuity. The smallest p of 5 against 5 runs is 2/252 = 0.0079, of 3
 * against 3 it is 0.1.
 * Source: Mann and Whitney, Ann. Math. Stat. 18 (1947). */
#ifndef MG_CLI_STATISTICS_H
#define MG_CLI_STATISTICS_H

#include <stddef.h>

#define STATISTICS_EXACT 200000.0
#define STATISTICS_MAX 100 /* values of a side */

/** The median; NaN without values. Leaves `values` as it is. */
double statistics_median(const double *values, size_t count);
/** The two-sided p of both sides being alike; 1 if a side is empty. Sides of more
 *  than STATISTICS_MAX values are judged by their first ones. */
double statistics_mann_whitney(const double *a, size_t a_count, const double *b,
                               size_t b_count);

#endif
