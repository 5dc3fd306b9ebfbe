/* pool_pressure.c - pools follow the monitors of the process: its highest level is
 * theirs, and time goes on for them with each pass of the sampler.
 *
 * Monitors are counted by level, so that a change takes no lock: it happens with a
 * monitor's lock held. The pools are told afterwards, by whoever comes by without a
 * lock, one thread at a time. */
#include <stdatomic.h>

#include "internal.h"
#include "memguard/pool.h"

static struct {
  _Atomic uint32_t monitors[MG_LEVELS]; /* above normal only */
  _Atomic uint32_t told;                /* the pools, last */
  _Atomic bool is_telling;
} pressure;

void mg__pools_move(mg_level *level, mg_level to) {
  if (*level == to) return;
  if (to != MG_LEVEL_NORMAL) atomic_fetch_add(&pressure.monitors[to], 1);
  if (*level != MG_LEVEL_NORMAL)
    atomic_fetch_sub(&pressure.monitors[*level], 1);
  *level = to;
}

static mg_level pressure_highest(void) {
  mg_level level = MG_LEVEL_CRITICAL;

  while (level > MG_LEVEL_NORMAL && atomic_load(&pressure.monitors[level]) == 0)
    level--;
  return level;
}

void mg__pools_follow(void) {
  for (;;) {
    mg_level level = pressure_highest();
    if (atomic_load(&pressure.told) == (uint32_t)level) return;
    /* Whoever is at it looks again afterwards. */
    if (atomic_exchange(&pressure.is_telling, true)) return;
    mg_pools_relieve_level(level);
    atomic_store(&pressure.told, (uint32_t)level);
    atomic_store(&pressure.is_telling, false);
  }
}

void mg__pools_after_fork_in_child(void) {
  atomic_store(&pressure.is_telling, false);
}
