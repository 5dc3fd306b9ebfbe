/* leak_series.c - floors of blocks of doubling length. */
#include "leak_parts.h"

#include <math.h>

#include "internal.h"

static void floors_clear(mg__leak_octave *octave) {
  for (uint32_t i = 0; i < MG__LEAK_BLOCKS; i++)
    octave->floors[i] = (double)NAN;
  octave->newest = -1;
  octave->before = -(double)INFINITY;
}

void mg__leak_blocks_init(mg__leak_blocks *blocks) {
  for (uint32_t k = 0; k < MG__LEAK_OCTAVES; k++)
    floors_clear(&blocks->octave[k]);
  blocks->tick = -1;
  blocks->began_ms = blocks->latest_ms = blocks->latest = 0.0;
  blocks->lowest = (double)INFINITY;
}

static void floors_put(mg__leak_octave *octave, int64_t block, double value) {
  double *slot = &octave->floors[block % MG__LEAK_BLOCKS];

  if (block > octave->newest) {
    int64_t missed = block - octave->newest;
    if (missed > (int64_t)MG__LEAK_BLOCKS) missed = MG__LEAK_BLOCKS;
    for (int64_t at = block - missed + 1; at <= block; at++) {
      double *left = &octave->floors[at % MG__LEAK_BLOCKS];
      if (*left > octave->before) octave->before = *left; /* false for NaN */
      *left = (double)NAN;
    }
    octave->newest = block;
    *slot = value;
  } else if (!(value >= *slot)) {
    *slot = value;
  }
}

void mg__leak_blocks_note(mg__leak_blocks *blocks, double tick_ms,
                          double began_ms, double value, double now_ms) {
  bool is_first = blocks->tick < 0;
  int64_t tick;

  if (is_first)
    blocks->began_ms = fmin(began_ms, now_ms);
  else if (now_ms <= blocks->latest_ms)
    return;
  /* A clock that jumps to the end of time must not overflow the number. */
  tick = (int64_t)fmin((now_ms - blocks->began_ms) / tick_ms, 4e18);
  if (tick > blocks->tick && !is_first)
    for (uint32_t k = 0; k < MG__LEAK_OCTAVES; k++)
      floors_put(&blocks->octave[k], blocks->tick >> k, blocks->lowest);
  if (tick > blocks->tick || value < blocks->lowest) blocks->lowest = value;
  blocks->tick = tick;
  blocks->latest = value;
  blocks->latest_ms = now_ms;
}

uint32_t mg__leak_blocks_read(const mg__leak_blocks *blocks, uint32_t octave,
                              double skip_ticks, double at[MG__LEAK_BLOCKS],
                              double floors[MG__LEAK_BLOCKS]) {
  const mg__leak_octave *o = &blocks->octave[octave];
  int64_t last = (blocks->tick >> octave) - 1, block; /* the last complete one */
  uint32_t count = 0;

  if (blocks->tick < 0 || last > o->newest) last = o->newest;
  block = o->newest - (int64_t)MG__LEAK_BLOCKS + 1;
  for (block = block < 0 ? 0 : block; block <= last; block++) {
    double value = o->floors[block % MG__LEAK_BLOCKS];
    if (isnan(value) || (double)block * (double)(1ull << octave) < skip_ticks)
      continue;
    at[count] = (double)block;
    floors[count++] = value;
  }
  return count;
}
