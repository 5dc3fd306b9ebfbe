/* profile.c - sums up collections and advises. */
#include "profile.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROFILE_LONG_MS 20.0    /* a pause that is told of, as long_pause */
#define PROFILE_SHARE 5.0       /* percent of the time that is much */
#define PROFILE_SHARE_LITTLE 1.0
#define PROFILE_YOUNG_RATE 20.0 /* young collections a second that are many */

const double profile_bucket_s[PROFILE_BUCKETS] = {0.00001, 0.0001, 0.0005, 0.001,
                                                  0.005,   0.01,   0.02,   0.05,
                                                  0.1,     0.5};

static int profile_order(const void *left, const void *right) {
  const profile_event *a = left, *b = right;

  return a->kind != b->kind ? (a->kind > b->kind) - (a->kind < b->kind)
                            : (a->wall_ms > b->wall_ms) - (a->wall_ms < b->wall_ms);
}

static int profile_order_numbers(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;

  return (a > b) - (a < b);
}

/* Nearest rank. */
static size_t profile_rank(size_t count, double ratio) {
  size_t rank = (size_t)ceil(ratio * (double)count);

  return rank == 0 ? 0 : rank - 1;
}

static double profile_over_seconds(const profile_event *events, size_t count,
                                   double seconds) {
  size_t all = seconds < 1 ? 1 : (size_t)seconds;
  double *longest, p95;

  if (all > PROFILE_SECONDS) all = PROFILE_SECONDS;
  longest = calloc(all, sizeof *longest);
  if (longest == NULL) return (double)NAN;
  for (size_t i = 0; i < count; i++) {
    size_t at = events[i].at_s <= 0 ? 0 : (size_t)events[i].at_s;
    if (at >= all) at = all - 1; /* the part of a second at the end */
    longest[at] = fmax(longest[at], events[i].wall_ms);
  }
  qsort(longest, all, sizeof *longest, profile_order_numbers);
  p95 = longest[profile_rank(all, 0.95)];
  free(longest);
  return p95;
}

static void profile_add(profile *out, const profile_event *event) {
  profile_kind *kind = &out->kind[event->kind];
  int bucket = 0;

  out->count++;
  out->total_ms += event->wall_ms;
  out->max_ms = fmax(out->max_ms, event->wall_ms);
  kind->count++;
  kind->total_ms += event->wall_ms;
  kind->max_ms = fmax(kind->max_ms, event->wall_ms);
  while (bucket < PROFILE_BUCKETS && event->wall_ms > 1e3 * profile_bucket_s[bucket])
    bucket++;
  out->bucket[bucket]++;
}

void profile_of(profile *out, profile_event *events, size_t count, double seconds) {
  size_t first = 0;

  memset(out, 0, sizeof *out);
  out->seconds = seconds;
  out->seconds_p95_ms = profile_over_seconds(events, count, seconds);
  qsort(events, count, sizeof *events, profile_order);
  for (size_t i = 0; i < count; i++) profile_add(out, &events[i]);
  for (int id = 0; id < (int)MG_PAUSE_KINDS; id++) {
    profile_kind *kind = &out->kind[id];
    if (kind->count == 0) continue;
    kind->mean_ms = kind->total_ms / (double)kind->count;
    kind->p95_ms =
        events[first + profile_rank((size_t)kind->count, 0.95)].wall_ms;
    first += (size_t)kind->count;
  }
  if (out->count > 0) out->mean_ms = out->total_ms / (double)out->count;
  if (seconds <= 0) return;
  out->per_second = (double)out->count / seconds;
  out->share_percent = out->total_ms / seconds / 10;
}

/* ---- advice -------------------------------------------------------------------- */

static void profile_say(char out[PROFILE_ADVICE_BYTES], const char *format, ...)
    MG_PRINTF(2, 3);

static void profile_say(char out[PROFILE_ADVICE_BYTES], const char *format, ...) {
  size_t at = strlen(out);
  va_list args;

  va_start(args, format);
  /* NOLINTNEXTLINE(clang-analyzer-valist*): it is started */
  vsnprintf(out + at, PROFILE_ADVICE_BYTES - at, format, args);
  va_end(args);
}

static void profile_advise_python(char out[PROFILE_ADVICE_BYTES],
                                  const profile *seen) {
  const profile_kind *young = &seen->kind[0], *full = &seen->kind[2];
  double rate = (double)young->count / fmax(seen->seconds, 1e-3);

  if (full->p95_ms > PROFILE_LONG_MS ||
      (full->total_ms > seen->total_ms / 2 && seen->share_percent > PROFILE_SHARE))
    profile_say(out, "Full collections take %.1f ms each (P95): gc.freeze() what "
                     "lives for long after the warm-up, then "
                     "gc.set_threshold(50000, 5, 2).\n", full->p95_ms);
  else if (rate > PROFILE_YOUNG_RATE && seen->share_percent > PROFILE_SHARE_LITTLE)
    profile_say(out, "%.0f young collections a second: gc.set_threshold(%.0f, 10, 10) "
                     "makes it some %.0f.\n", rate,
                fmin(50000, 700 * ceil(rate / PROFILE_YOUNG_RATE)),
                PROFILE_YOUNG_RATE);
}

static void profile_advise_node(char out[PROFILE_ADVICE_BYTES], const profile *seen) {
  const profile_kind *scavenge = &seen->kind[0];
  double rest = seen->total_ms - scavenge->total_ms;

  if (scavenge->total_ms / fmax(seen->seconds, 1e-3) / 10 > PROFILE_SHARE)
    profile_say(out, "Scavenges take %.1f %% of the time: start it with "
                     "--max-semi-space-size=16, or allocate less.\n",
                scavenge->total_ms / seen->seconds / 10);
  if (rest / fmax(seen->seconds, 1e-3) / 10 > PROFILE_SHARE)
    profile_say(out, "Collections of the old space take %.1f %% of the time: the heap "
                     "is near its limit; raise --max-old-space-size, or hold less.\n",
                rest / seen->seconds / 10);
}

void profile_advise(char out[PROFILE_ADVICE_BYTES], const profile *seen,
                    bool is_node) {
  *out = '\0';
  if (is_node)
    profile_advise_node(out, seen);
  else
    profile_advise_python(out, seen);
  if (*out == '\0')
    profile_say(out, seen->count == 0 ? "Nothing was collected.\n"
                                      : "Collections cost little: nothing to set.\n");
  else if (!is_node)
    profile_say(out, "memguard chooses by itself with auto_tune, or now with "
                     "--optimize.\n");
}
