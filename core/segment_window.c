/* segment_window.c - parts of a segment as metrics take them: a window of points, all
 * collections at once. */
#include "memguard/segment.h"

#include "internal.h"
#include "segment_parts.h"

/* ---- points --------------------------------------------------------------- */

/* The newest number of a ring whose numbers rise from slot to slot up to it. Slot 0 is
 * empty until the ring is full for the first time. */
static uint64_t window_newest(const mg_segment_point *ring) {
  uint64_t first = ring[0].number;
  size_t low = 0, high = MG_SEGMENT_SECONDS, middle;

  while (high - low > 1) {
    middle = low + (high - low) / 2;
    if (ring[middle].number - first == middle)
      low = middle;
    else
      high = middle;
  }
  return first + low;
}

/* The point of that number, NULL if it is not there whole. */
static const mg_segment_point *window_point(const mg_segment_point *ring,
                                            uint64_t number) {
  const mg_segment_point *point = &ring[number % MG_SEGMENT_SECONDS];

  if (number == 0 || point->number != number ||
      point->check != mg_segment_check(point, sizeof *point))
    return NULL;
  return point;
}

/* The oldest number in a window that ends with number `newest`. */
static uint64_t window_begin(const mg_segment_point *ring, uint64_t newest,
                             uint64_t window_ms) {
  uint64_t low = newest >= MG_SEGMENT_SECONDS ? newest - MG_SEGMENT_SECONDS + 1
                                              : 1;
  uint64_t end_ms = ring[newest % MG_SEGMENT_SECONDS].unix_ms, high = newest;

  while (low < high) {
    uint64_t middle = low + (high - low) / 2;
    if (ring[middle % MG_SEGMENT_SECONDS].unix_ms + window_ms >= end_ms)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

size_t mg__segment_thin_points(mg_segment *s, uint64_t window_ms,
                               mg_segment_point *out, size_t max) {
  const size_t bytes = MG_SEGMENT_SECONDS * sizeof *out;
  mg_segment_point *ring = mg__alloc_untouched(bytes);
  const mg_segment_point *point;
  uint64_t newest = 0, first, step;
  size_t count = 0;

  if (ring != NULL &&
      mg__segment_copy(s, ring, bytes, offsetof(mg_segment_layout, second)))
    newest = window_newest(ring);
  if (newest > 1 && window_point(ring, newest) == NULL) newest--; /* in writing */
  if (newest > 0 && max > 0) {
    first = window_begin(ring, newest, window_ms);
    step = (newest - first) / max + 1;
    /* Counted by i: a number may be the largest there is. */
    for (size_t i = 0; i <= (newest - first) / step; i++) {
      point = window_point(ring, newest - (newest - first) / step * step +
                                   i * step);
      if (point != NULL && count < max) out[count++] = *point;
    }
  }
  mg__free(ring);
  return count;
}

/* ---- collections ------------------------------------------------------------ */

bool mg__segment_read_gc(mg_segment *s, mg_segment_gc gc[MG_PAUSE_KINDS],
                         uint32_t bucket[][MG_SEGMENT_BUCKETS]) {
  return mg__segment_copy(s, gc, MG_PAUSE_KINDS * sizeof *gc,
                    offsetof(mg_segment_layout, gc)) &&
         (bucket == NULL ||
          mg__segment_copy(s, bucket, MG_PAUSE_KINDS * sizeof *bucket,
                     offsetof(mg_segment_layout, gc_bucket)));
}
