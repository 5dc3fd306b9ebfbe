/* statistics.c - median, quantiles and Mann-Whitney's U. */
#include "statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int statistics_order(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;

  return (a > b) - (a < b);
}

static size_t statistics_sorted(double *out, const double *values, size_t count) {
  if (count > STATISTICS_MAX) count = STATISTICS_MAX;
  if (count == 0) return 0;
  memcpy(out, values, count * sizeof *out);
  qsort(out, count, sizeof *out, statistics_order);
  return count;
}

double statistics_median(const double *values, size_t count) {
  double sorted[STATISTICS_MAX];

  count = statistics_sorted(sorted, values, count);
  if (count == 0) return (double)NAN;
  return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

/* ---- Mann-Whitney --------------------------------------------------------- */

/* Twice the ranks of all values, so that ties have whole ones too. */
typedef struct statistics_pool {
  double twice_rank[2 * STATISTICS_MAX]; /* of side a first, then of b */
  double ties;                           /* sum of t^3 - t */
  size_t a_count, count;
} statistics_pool;

static void statistics_rank(statistics_pool *pool, const double *a,
                            const double *b) {
  double all[2 * STATISTICS_MAX], seen_ties = 0;

  memcpy(all, a, pool->a_count * sizeof *all);
  memcpy(all + pool->a_count, b, (pool->count - pool->a_count) * sizeof *all);
  for (size_t i = 0; i < pool->count; i++) {
    double below = 0, same = 0;
    for (size_t j = 0; j < pool->count; j++) {
      below += all[j] < all[i];
      same += all[j] == all[i];
    }
    pool->twice_rank[i] = 2 * below + same + 1;
    seen_ties += same * same - 1; /* each of t adds t^2 - 1 */
  }
  pool->ties = seen_ties;
}

/* Counts the ways to choose `left` of the ranks from `at` on by how far their sum
 * would be from what is expected. */
static void statistics_count(const statistics_pool *pool, size_t at, size_t left,
                             double sum, double expected, double seen,
                             double *out_extreme, double *out_all) {
  if (left == 0) {
    *out_all += 1;
    *out_extreme += fabs(sum - expected) >= seen - 0.5;
    return;
  }
  for (size_t i = at; i + left <= pool->count; i++)
    statistics_count(pool, i + 1, left - 1, sum + pool->twice_rank[i], expected,
                     seen, out_extreme, out_all);
}

static double statistics_splits(double count, double chosen) {
  return exp(lgamma(count + 1) - lgamma(chosen + 1) - lgamma(count - chosen + 1));
}

static double statistics_normal_p(const statistics_pool *pool, double away) {
  double n = (double)pool->count, a = (double)pool->a_count, b = n - a;
  double variance = a * b / 12 * (n + 1 - pool->ties / (n * (n - 1)));

  if (variance <= 0) return 1;
  return fmin(erfc(fmax(away / 2 - 0.5, 0) / sqrt(2 * variance)), 1);
}

double statistics_mann_whitney(const double *a, size_t a_count, const double *b,
                               size_t b_count) {
  double sum = 0, expected, away, extreme = 0, all = 0;
  statistics_pool pool = {.ties = 0};

  if (a_count > STATISTICS_MAX) a_count = STATISTICS_MAX;
  if (b_count > STATISTICS_MAX) b_count = STATISTICS_MAX;
  if (a_count == 0 || b_count == 0) return 1;
  pool.a_count = a_count;
  pool.count = a_count + b_count;
  statistics_rank(&pool, a, b);
  for (size_t i = 0; i < a_count; i++) sum += pool.twice_rank[i];
  expected = (double)a_count * (double)(pool.count + 1);
  away = fabs(sum - expected);
  if (statistics_splits((double)pool.count, (double)a_count) > STATISTICS_EXACT)
    return statistics_normal_p(&pool, away);
  statistics_count(&pool, 0, a_count, 0, expected, away, &extreme, &all);
  return extreme / all;
}
