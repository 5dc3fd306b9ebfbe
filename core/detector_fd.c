/* detector_fd.c - the watch over the number of descriptors. Pure.
 *
 * Growth is told between the least numbers of quarters of a minute: descriptors
 * that come and go, however many at once, do not raise it. */
#include "memguard/detector.h"

#include <math.h>
#include <string.h>

#include "detector_parts.h"

#define FD_SLOT_MS 15000.0
/* Below this share of the threshold the next time is told again. */
#define FD_FEW 0.9
#define FD_SLOW 0.5

double mg__fd_watch_growth(const mg__fd_watch *watch) {
  if (watch->slots < MG__FD_SLOTS) return NAN;
  return (double)watch->least[MG__FD_SLOTS - 1] - (double)watch->least[0];
}

static void fd_begin(mg__fd_watch *w, uint64_t count, double now_ms) {
  w->slots = 0;
  w->least_now = count;
  w->slot_ms = now_ms;
  w->has_begun = true;
}

static void fd_end_slot(mg__fd_watch *w) {
  if (w->slots == MG__FD_SLOTS) {
    memmove(w->least, w->least + 1, (MG__FD_SLOTS - 1) * sizeof *w->least);
    w->slots--;
  }
  w->least[w->slots++] = w->least_now;
}

static void fd_follow(mg__fd_watch *w, uint64_t count, double now_ms) {
  double gone_ms = now_ms - w->slot_ms;

  /* A clock that went back, or a quarter that nobody looked at. */
  if (!w->has_begun || !(gone_ms >= 0) || gone_ms >= 2 * FD_SLOT_MS) {
    fd_begin(w, count, now_ms);
    return;
  }
  if (gone_ms >= FD_SLOT_MS) {
    fd_end_slot(w);
    w->slot_ms += FD_SLOT_MS;
    w->least_now = count;
  }
  if (count < w->least_now) w->least_now = count;
}

/* @return whether `value` reached `threshold` for the first time since it was
 * clearly below. */
static bool fd_rose(bool *is_told, double value, double threshold,
                    double calm) {
  bool rose = !*is_told && value >= threshold;

  if (rose) *is_told = true;
  if (value < calm * threshold) *is_told = false;
  return rose;
}

bool mg__fd_watch_note(mg__fd_watch *w, uint64_t count, double now_ms,
                       double many, double fast) {
  double growth;
  bool rose;

  if (count == MG_ABSENT) return false;
  fd_follow(w, count, now_ms);
  rose = fd_rose(&w->is_many, (double)count, many, FD_FEW);
  growth = mg__fd_watch_growth(w);
  if (!isnan(growth) && fd_rose(&w->is_growing, growth, fast, FD_SLOW))
    rose = true;
  return rose;
}
