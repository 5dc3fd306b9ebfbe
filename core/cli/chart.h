/* chart.h - small charts of text. */
#ifndef MG_CLI_CHART_H
#define MG_CLI_CHART_H

#include "cli.h"

#define CHART_MAX 128 /* columns */

/** A line of bars of eight heights into `out` (UTF-8, 3 bytes a column), scaled from
 *  0 to `top`, or to the highest value if that is 0. Absent values (NaN) are blank.
 *  More values than columns are put together by their highest. @param ascii draws with
 *  ASCII. */
void chart_spark(char *out, size_t room, const double *values, size_t count,
                 size_t columns, double top, bool ascii);
/** Prints a chart of `rows` lines with its scale on the left and what the ends of
 *  the time axis are; a line of '-' at `limit` where it is in sight (NaN: none).
 *  At most 80 columns wide. */
void chart_print(FILE *file, const double *values, size_t count, size_t rows,
                 double limit, const char *unit, const char *from, const char *to);

#endif
