/* leak_parts.h - what the files of the leak detector share.
 *
 * A series keeps, for each octave k, the floors (least values) of its newest
 * MG__LEAK_BLOCKS blocks of 2^k ticks; a tick is the shortest window divided by
 * MG__LEAK_BLOCKS. Each tick that ends is put into all octaves, so a value costs
 * O(1) and a series a fixed amount of memory, however long it lives.
 *
 *     octave 0   |.|.|.|.|.|.|.|.|  the last window
 *     octave 1   |. .|. .|. .|. .|  the last two
 *     octave 2   |. . . .|. . . .|  the last four, ... */
#ifndef MG_LEAK_PARTS_H
#define MG_LEAK_PARTS_H

#include "memguard/leak.h"

#define MG__LEAK_BLOCKS 16u
#define MG__LEAK_OCTAVES 14u /* 23 days from a shortest window of 4 minutes */

/* ---- leak_window.c ------------------------------------------------------- */

/** What one window shows. Slopes are per block. */
typedef struct mg__leak_view {
  uint32_t points, span; /* floors known; blocks from the first to the last */
  double slope, lower;   /* Theil-Sen; its 99 % lower bound */
  double z;              /* Mann-Kendall, autocorrelation taken into account */
  double growth;         /* of the line, first to last floor */
  double early, late;    /* slope of the first half, of the second */
  double scatter;        /* root mean square around the line */
  double first;          /* block number */
  double start, end;     /* the line at the first floor and at the last */
} mg__leak_view;

/** @param at block numbers, rising. @param count at most MG__LEAK_BLOCKS. */
void mg__leak_look(mg__leak_view *out, const double *at, const double *floors,
                   uint32_t count);

/* ---- leak_series.c ------------------------------------------------------- */

typedef struct mg__leak_octave {
  double floors[MG__LEAK_BLOCKS]; /* by block number modulo; NaN: none */
  double before;                  /* the highest floor that left */
  int64_t newest;                 /* block number; -1: none yet */
} mg__leak_octave;

typedef struct mg__leak_blocks {
  mg__leak_octave octave[MG__LEAK_OCTAVES];
  double began_ms, latest_ms, latest;
  double lowest; /* of the tick that runs */
  int64_t tick;  /* that runs; -1: nothing noted yet */
} mg__leak_blocks;

void mg__leak_blocks_init(mg__leak_blocks *blocks);
/** @param began_ms when tick 0 began; counts at the first value. */
void mg__leak_blocks_note(mg__leak_blocks *blocks, double tick_ms,
                          double began_ms, double value, double now_ms);
/** The complete blocks of an octave that begin `skip_ticks` after the start or
 *  later, oldest first. @return how many. */
uint32_t mg__leak_blocks_read(const mg__leak_blocks *blocks, uint32_t octave,
                              double skip_ticks, double at[MG__LEAK_BLOCKS],
                              double floors[MG__LEAK_BLOCKS]);

/* ---- leak_rule.c --------------------------------------------------------- */

typedef struct mg__leak_verdict {
  mg__leak_view view;
  int64_t seen;  /* block that ran when it was judged */
  bool grows;    /* there is a trend that is no chance, and it counts */
  bool is_even;  /* and it does not slow down much */
  bool is_steep; /* and it will reach the limit soon, in a straight line */
  bool rises;    /* it ends higher than it began, trend or not */
} mg__leak_verdict;

/** Times in ticks. */
typedef struct mg__leak_trend {
  double since, base, slope, window;
  uint32_t octaves;
} mg__leak_trend;

typedef struct mg__leak_series {
  char name[MG_LEAK_NAME_BYTES];
  mg__leak_blocks blocks;
  mg__leak_verdict verdict[MG__LEAK_OCTAVES];
  double anchor, anchor_tick; /* first floor after the warm-up */
  double warm; /* ticks: end of the warm-up, as far as known */
  bool has_anchor;
  mg_leak_tier tier, told;
  bool told_critical;
  uint32_t lowest;      /* octave that shows the growth first */
  mg__leak_trend trend; /* while the tier is above NONE */
  double share;         /* of the growth that is explained */
  mg_leak_finding now;
} mg__leak_series;

typedef struct mg__leak_rule {
  double room;   /* what is left to use up */
  double least;  /* growth that counts */
  double warmup; /* ticks; 0: recognised from the data */
  bool may_confirm;
  uint32_t shortest; /* octave of the shortest window that may be steep */
  const mg__leak_series *witness; /* NULL, or what must grow along with it */
} mg__leak_rule;

/** Judges the windows that have a new block. */
void mg__leak_series_judge(mg__leak_series *series, const mg__leak_rule *rule);

#endif
