/* level.c - hysteresis over usage, and how soon to look again. */
#include "memguard/level.h"

#include <math.h>

#include "internal.h"

#define LEVEL_SHORTEST_MS 50.0
#define LEVEL_FRACTION_OF_FILL 0.1
#define LEVEL_NEAR 0.5 /* share left of the limit from which on it is near */

static double level_enter(const mg_config *config, mg_level level) {
  switch (level) {
    case MG_LEVEL_CRITICAL:
      return mg_config_get(config, MG_CONFIG_FORCE_GC_THRESHOLD) / 100.0;
    case MG_LEVEL_HIGH:
      return mg_config_get(config, MG_CONFIG_ALERT_THRESHOLD) / 100.0;
    case MG_LEVEL_ELEVATED:
      return mg_config_get(config, MG_CONFIG_HIGH_WATER_MARK) / 100.0;
    case MG_LEVEL_NORMAL:
    case MG_LEVELS:
      break;
  }
  return -INFINITY;
}

static double level_leave(const mg_config *config, mg_level level) {
  double low = mg_config_get(config, MG_CONFIG_LOW_WATER_MARK) / 100.0;

  if (level == MG_LEVEL_NORMAL) return -INFINITY;
  if (level == MG_LEVEL_ELEVATED) return low;
  return fmax(level_enter(config, level) - MG_LEVEL_GAP_PERCENT / 100.0, low);
}

static mg_level level_entered(const mg_config *config, double usage) {
  mg_level level = MG_LEVEL_CRITICAL;

  while (level > MG_LEVEL_NORMAL && usage < level_enter(config, level)) level--;
  return level;
}

/* The highest level at or below the present one that `usage` does not leave. */
static mg_level level_kept(const mg_config *config, mg_level level,
                           double usage) {
  while (level > MG_LEVEL_NORMAL && usage < level_leave(config, level)) level--;
  return level;
}

mg_level mg_level_update(mg_level_tracker *t, const mg_config *config,
                         double usage, double now_ms) {
  mg_level entered = level_entered(config, usage);

  if (entered > t->level) {
    t->level = entered;
    t->below = false;
    return t->level;
  }
  if (usage >= level_leave(config, t->level)) {
    t->below = false;
    return t->level;
  }
  if (!t->below || now_ms < t->since_ms) { /* begins, or the clock went back */
    t->below = true;
    t->since_ms = now_ms;
    return t->level;
  }
  if (now_ms - t->since_ms < MG_LEVEL_HOLD_MS) return t->level;
  t->level = level_kept(config, t->level, usage);
  t->below = false;
  return t->level;
}

double mg_sample_due_ms(double usage, double rate_per_ms, double longest_ms) {
  double left = fmax(1.0 - usage, 0.0);
  double near = fmin(left / LEVEL_NEAR, 1.0);
  double due_ms = longest_ms * near * near;

  if (longest_ms <= LEVEL_SHORTEST_MS) return longest_ms;
  if (rate_per_ms > 0)
    due_ms = fmin(due_ms, left / rate_per_ms * LEVEL_FRACTION_OF_FILL);
  return fmax(due_ms, LEVEL_SHORTEST_MS);
}
