/* chart.c - small charts of text: sparklines and bar charts with a scale. */
#include "chart.h"

#include <math.h>
#include <string.h>

#define CHART_COLUMNS 68 /* beside a scale of 10 */

static const char chart_ascii[][2] = {" ", ".", ".", ":", "-", "=", "+", "*", "#"};
static const char chart_bars[][4] = {" ", "\u2581", "\u2582", "\u2583", "\u2584",
                                     "\u2585", "\u2586", "\u2587", "\u2588"};

/* Puts values together until there are at most `columns`. @return how many. */
static size_t chart_fold(double *out, const double *values, size_t count,
                         size_t columns) {
  size_t used = count < columns ? count : columns;

  for (size_t i = 0; i < used; i++) {
    size_t from = i * count / used, to = (i + 1) * count / used;
    out[i] = (double)NAN;
    for (size_t j = from; j < to; j++)
      if (isnan(out[i]) || values[j] > out[i]) out[i] = values[j];
  }
  return used;
}

static double chart_highest(const double *values, size_t count) {
  double top = 0;

  for (size_t i = 0; i < count; i++)
    if (values[i] > top) top = values[i];
  return top;
}

/* Eighths of `height` that the value fills. */
static int chart_eighths(double value, double height) {
  double eighths = height > 0 ? round(8 * value / height) : 0;

  if (isnan(value) || eighths <= 0) return 0;
  return eighths >= 8 ? 8 : (int)eighths;
}

void chart_spark(char *out, size_t room, const double *values, size_t count,
                 size_t columns, double top, bool ascii) {
  double folded[CHART_MAX];
  size_t used = chart_fold(folded, values, count,
                           columns < CHART_MAX ? columns : CHART_MAX);

  if (top <= 0) top = chart_highest(folded, used);
  *out = '\0';
  for (size_t i = 0; i < used; i++) {
    int eighths = chart_eighths(folded[i], top);
    const char *bar;
    /* What is there but little must not look like nothing. */
    if (eighths == 0 && !isnan(folded[i]) && folded[i] > 0) eighths = 1;
    bar = ascii ? chart_ascii[eighths] : chart_bars[eighths];
    if (strlen(out) + strlen(bar) >= room) return;
    memcpy(out + strlen(out), bar, strlen(bar) + 1);
  }
}

static void chart_row(FILE *file, const double *values, size_t count, double low,
                      double step, bool is_limit) {
  for (size_t i = 0; i < count; i++) {
    int eighths = chart_eighths(values[i] - low, step);
    fputs(eighths == 0 && is_limit ? "-" : chart_bars[eighths], file);
  }
  fputc('\n', file);
}

void chart_print(FILE *file, const double *values, size_t count, size_t rows,
                 double limit, const char *unit, const char *from, const char *to) {
  double folded[CHART_MAX], top, step;
  size_t used = chart_fold(folded, values, count, CHART_COLUMNS);
  int gap;

  top = chart_highest(folded, used);
  if (!isnan(limit) && limit > top && limit < 2 * top) top = limit;
  if (top <= 0 || used == 0 || rows == 0) return;
  step = top / (double)rows;
  for (size_t row = rows; row-- > 0;) {
    double low = step * (double)row;
    bool is_limit = !isnan(limit) && limit > low && limit <= low + step;
    fprintf(file, "%7.0f %-3s", low + step, unit);
    chart_row(file, folded, used, low, step, is_limit);
  }
  gap = (int)used - (int)strlen(from) - (int)strlen(to);
  fprintf(file, "%11s%s%*s%s\n", "", from, gap > 1 ? gap : 1, "", to);
}

