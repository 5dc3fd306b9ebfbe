/* top.h - the rows of `memguard top` and their order. */
#ifndef MG_CLI_TOP_H
#define MG_CLI_TOP_H

#include "process.h"

/** X(ID, key, name, width, header): the columns, in their order on the screen; `key`
 *  sorts by it. A negative width is left-aligned. */
#define TOP_COLUMNS(X)                        \
  X(PID, 'p', "pid", 7, "PID")                \
  X(KIND, 'k', "kind", -6, "KIND")            \
  X(RSS, 'm', "rss", 8, "RSS")                \
  X(HEAP, 'e', "heap", 8, "HEAP")             \
  X(NATIVE, 'n', "native", 8, "NATIVE")       \
  X(USAGE, 'u', "usage", 18, "USAGE")         \
  X(LEVEL, 'l', "level", -8, "LEVEL")         \
  X(GC, 'c', "gc", 8, "GC/S")                 \
  X(PAUSE, 'w', "pause", 8, "LAST MS")        \
  X(SPARK, 0, "trend", -20, "RSS, LAST MINUTE") \
  X(PROGRAM, 'a', "program", -24, "PROGRAM")

typedef enum top_column {
#define TOP_COLUMN_ENUM(id, key, name, width, header) TOP_##id,
  TOP_COLUMNS(TOP_COLUMN_ENUM)
#undef TOP_COLUMN_ENUM
      TOP_COLUMN_COUNT
} top_column;

typedef struct top_column_row {
  const char *name, *header;
  int width;
  char key;
} top_column_row;

extern const top_column_row top_columns[TOP_COLUMN_COUNT];

/** @return TOP_COLUMN_COUNT for a foreign name, and for what has no order. */
top_column top_column_find(const char *name);

typedef struct top_order {
  top_column column;
  bool is_reversed; /* largest first, but for texts and pids */
} top_order;

#define TOP_CELL 96

/** Sorts living and dead processes. Equal ones stay in order of their pid. */
void top_sort(processes *list, top_order order);
/** The text of a cell into `out`. @param ascii no character beyond ASCII. */
void top_cell(char out[TOP_CELL], const process *one, top_column column, bool ascii);
/** Collections of all kinds a second, over the last ten of the recorder. */
double top_gc_rate(const process *one);

/** The live screen, to its end by the user. @return an exit code. */
int top_screen(top_order order, bool with_dead, double interval_s);

#endif
