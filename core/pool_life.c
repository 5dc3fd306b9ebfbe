/* pool_life.c - which pools there are; time, pressure, statistics and fork.
 *
 * Pools are used again after close, never freed, so that a late call finds a closed
 * pool and not somebody else's memory. */
#include "pool_parts.h"

#include <math.h>
#include <string.h>

#include "internal.h"

static struct {
  mg__mutex lock;
  mg_pool *open, *spare; /* by `next` */
  mg_pool *left;         /* closed, with rentals outstanding */
  mg_pool *shared;
  uint64_t serials;
  uint32_t seats;
  mg_level level; /* as all pools were told last */
  bool has_fork_handlers;
} life = {.lock = MG__MUTEX_INIT};

static void life_before_fork(void);
static void life_after_fork_in_parent(void);
static void life_after_fork_in_child(void);

void mg__registry_lock(void) { mg__lock(&life.lock); }

void mg__registry_unlock(void) { mg__unlock(&life.lock); }

bool mg__pool_is_open(const mg_pool *pool) {
  return MG__LOAD(pool->serial) != 0;
}

/* ---- lists; the lock is held --------------------------------------------------- */

static void life_link(mg_pool **list, mg_pool *pool) {
  pool->before = NULL;
  pool->next = *list;
  if (*list != NULL) (*list)->before = pool;
  *list = pool;
}

static void life_unlink(mg_pool **list, mg_pool *pool) {
  if (pool->before != NULL)
    pool->before->next = pool->next;
  else
    *list = pool->next;
  if (pool->next != NULL) pool->next->before = pool->before;
}

/* ---- locks of a pool -------------------------------------------------------------- */

static void life_each_lock(mg_pool *pool, void (*act)(mg__mutex *lock)) {
  act(&pool->tick_lock);
  act(&pool->leak.lock);
  for (uint32_t class = 0; class < MG__CLASSES; class++)
    act(&pool->depot[class].lock);
  act(&pool->huge.lock);
}

/* ---- opening ------------------------------------------------------------------------ */

void mg_pool_configure(mg_pool *pool, const mg_config *config) {
  MG__STORE(pool->is_enabled, mg_config_get(config, MG_CONFIG_POOL_ENABLED) != 0);
  MG__STORE(pool->max_bytes,
            (uint64_t)(mg_config_get(config, MG_CONFIG_POOL_MAX_MB) *
                       MG_BYTES_PER_MB));
  MG__STORE(pool->cache_bytes,
            (uint64_t)(mg_config_get(config, MG_CONFIG_POOL_THREAD_CACHE_MB) *
                       MG_BYTES_PER_MB));
  MG__STORE(pool->huge_bytes,
            (uint64_t)(mg_config_get(config, MG_CONFIG_POOL_HUGE_CACHE_MB) *
                       MG_BYTES_PER_MB));
  MG__STORE(pool->leak_check,
            (uint32_t)mg_config_get(config, MG_CONFIG_POOL_LEAK_CHECK));
  MG__STORE(pool->suspect_ms,
            (uint64_t)mg_config_get(config, MG_CONFIG_POOL_SUSPECT_AFTER));
  mg__lock(&pool->tick_lock);
  MG__BUMP(pool->epoch, 1);
  mg__unlock(&pool->tick_lock);
}

/* A pool's memory, used before or new. The lock is held. */
static mg_pool *life_take(void) {
  mg_pool *pool = life.spare;

  if (pool == NULL) {
    pool = mg__meta_alloc(sizeof *pool);
    if (pool == NULL) return NULL;
    pool->seat = life.seats++ % MG__SEATS;
    life_each_lock(pool, mg__mutex_reset);
  } else {
    uint32_t seat = pool->seat;
    life_unlink(&life.spare, pool);
    memset(pool, 0, sizeof *pool);
    pool->seat = seat;
    life_each_lock(pool, mg__mutex_reset);
  }
  pool->leak.first_free = UINT32_MAX;
  return pool;
}

static mg_status life_prepare(mg_error *err) {
  mg_status st = mg__cache_open_key(err);

  if (st != MG_OK || life.has_fork_handlers) return st;
  st = mg__os_add_fork_handlers(life_before_fork, life_after_fork_in_parent,
                                life_after_fork_in_child, err);
  life.has_fork_handlers = st == MG_OK;
  return st;
}

static mg_status life_open(mg_pool **out, const mg_config *config,
                           mg_error *err) {
  mg_status st = life_prepare(err);
  mg_pool *pool;

  *out = NULL;
  if (st != MG_OK) return st;
  pool = life_take();
  if (pool == NULL)
    return mg__fail(err, MG_ENOMEM, "pool, %zu bytes", sizeof *pool);
  mg_pool_configure(pool, config);
  MG__STORE(pool->level, (uint32_t)life.level);
  MG__STORE(pool->serial, ++life.serials);
  life_link(&life.open, pool);
  *out = pool;
  return MG_OK;
}

mg_status mg_pool_open(mg_pool **out, const mg_config *config, mg_error *err) {
  mg_status st;

  mg__lock(&life.lock);
  st = life_open(out, config, err);
  mg__unlock(&life.lock);
  return st;
}

mg_pool *mg_pool_shared(void) {
  mg_config config;
  mg_pool *shared;

  mg__lock(&life.lock);
  if (life.shared == NULL) {
    mg_config_init(&config, MG_PROFILE_DEFAULT);
    life_open(&life.shared, &config, NULL);
  }
  shared = life.shared;
  mg__unlock(&life.lock);
  return shared;
}

/* ---- closing -------------------------------------------------------------------------- */

static uint64_t life_current(const mg_pool *pool) {
  uint64_t current = MG__LOAD(pool->huge_rented) - MG__LOAD(pool->huge_returned);

  for (uint32_t class = 0; class < MG__CLASSES; class++)
    current += MG__LOAD(pool->rented[class]) - MG__LOAD(pool->returned[class]) -
               MG__LOAD(pool->lost_of[class]);
  return current;
}

static void life_end(mg_pool *pool) {
  for (uint32_t class = 0; class < MG__CLASSES; class++)
    mg__depot_close(pool, class);
  mg__leak_close(pool);
  life_link(&life.spare, pool);
}

void mg_pool_close(mg_pool *pool) {
  if (pool == NULL || MG__LOAD(pool->serial) == 0) return;
  mg__leak_release(pool);
  mg__lock(&life.lock);
  while (pool->caches != NULL) mg__cache_close(pool->caches);
  life_unlink(&life.open, pool);
  if (life.shared == pool) life.shared = NULL;
  MG__STORE(pool->serial, 0);
  mg__single_release(pool);
  mg__single_relieve(pool, 1.0);
  for (uint32_t class = 0; class < MG__CLASSES; class++)
    mg__depot_close(pool, class);
  MG__STORE(pool->outstanding, life_current(pool));
  if (MG__LOAD(pool->outstanding) == 0)
    life_end(pool);
  else
    life_link(&life.left, pool);
  mg__unlock(&life.lock);
}

void mg__pool_left(mg_pool *pool) {
  if (atomic_fetch_sub(&pool->outstanding, 1) != 1) return;
  mg__lock(&life.lock);
  life_unlink(&life.left, pool);
  life_end(pool);
  mg__unlock(&life.lock);
}

/* ---- time and pressure -------------------------------------------------------------- */

/* Has every thread look at the pool; this one at once. */
static void life_call_threads(mg_pool *pool, bool empties) {
  uint32_t epoch = MG__LOAD(pool->epoch) + 1;
  mg__cache *cache;

  if (empties) MG__STORE(pool->emptied_epoch, epoch);
  atomic_store_explicit(&pool->epoch, epoch, memory_order_release);
  cache = mg__cache_here(pool);
  if (cache != NULL) mg__cache_catch_up(cache);
}

static void life_trim(mg_pool *pool) {
  mg__leak_release(pool);
  life_call_threads(pool, false);
  for (uint32_t class = 0; class < MG__CLASSES; class++)
    mg__depot_trim(pool, class);
  mg__single_trim(pool);
}

void mg_pool_tick(mg_pool *pool, double now_ms) {
  bool is_due;

  if (MG__LOAD(pool->serial) == 0 || !(now_ms >= 0)) return;
  mg__lock(&pool->tick_lock);
  MG__STORE(pool->stamp, mg__leak_stamp(now_ms));
  is_due = !pool->has_ticked || now_ms < pool->tick_ms ||
           now_ms - pool->tick_ms >= MG_POOL_TICK_MS;
  if (is_due) {
    pool->tick_ms = now_ms;
    pool->has_ticked = true;
    life_trim(pool);
  }
  mg__unlock(&pool->tick_lock);
}

static uint64_t life_relieve(mg_pool *pool, double share) {
  uint64_t before = MG__LOAD(pool->given_back_bytes);

  if (MG__LOAD(pool->serial) == 0 || !(share > 0)) return 0;
  if (share > 1.0) share = 1.0;
  mg__lock(&pool->tick_lock);
  if (share >= 1.0) {
    mg__leak_release(pool);
    mg__single_release(pool);
    life_call_threads(pool, true);
  }
  for (uint32_t class = 0; class < MG__CLASSES; class++)
    mg__depot_relieve(pool, class, share);
  mg__single_relieve(pool, share);
  mg__unlock(&pool->tick_lock);
  return MG__LOAD(pool->given_back_bytes) - before;
}

uint64_t mg_pool_relieve(mg_pool *pool, double share) {
  return life_relieve(pool, share);
}

uint64_t mg_pool_relieve_level(mg_pool *pool, mg_level level) {
  uint64_t given = 0;

  if (MG__LOAD(pool->serial) == 0) return 0;
  MG__STORE(pool->level, (uint32_t)level);
  if (level >= MG_LEVEL_CRITICAL) return life_relieve(pool, 1.0);
  mg__lock(&pool->tick_lock);
  life_call_threads(pool, false); /* they take the new limits */
  for (uint32_t class = 0; level > MG_LEVEL_NORMAL && class < MG__CLASSES;
       class++)
    given += mg__depot_relieve(pool, class, 1.0);
  if (level > MG_LEVEL_NORMAL) given += mg__single_relieve(pool, 1.0);
  mg__unlock(&pool->tick_lock);
  return given;
}

void mg_pools_tick(double now_ms) {
  mg__lock(&life.lock);
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next)
    mg_pool_tick(pool, now_ms);
  mg__unlock(&life.lock);
}

void mg__pools_stop_time(void) {
  mg__lock(&life.lock);
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next)
    MG__STORE(pool->stamp, 0);
  mg__unlock(&life.lock);
}

uint64_t mg_pools_relieve(double share) {
  uint64_t given = 0;

  mg__lock(&life.lock);
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next)
    given += mg_pool_relieve(pool, share);
  mg__unlock(&life.lock);
  return given;
}

uint64_t mg_pools_relieve_level(mg_level level) {
  uint64_t given = 0;

  mg__lock(&life.lock);
  life.level = level;
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next)
    given += mg_pool_relieve_level(pool, level);
  mg__unlock(&life.lock);
  return given;
}

/* ---- statistics ---------------------------------------------------------------------- */

typedef struct life_count {
  uint64_t rented, returned;
} life_count;

/* The lock is held. */
static life_count life_count_class(const mg_pool *pool, uint32_t class) {
  life_count sum = {MG__LOAD(pool->rented[class]),
                    MG__LOAD(pool->returned[class])};

  for (const mg__cache *c = pool->caches; c != NULL; c = c->pool_next) {
    /* In this order: never more returned than rented. */
    sum.returned += MG__LOAD(c->bin[class].returned);
    sum.rented += MG__LOAD(c->bin[class].rented);
  }
  return sum;
}

static void life_add_tier(mg_pool_stats *out, mg_pool_tier tier,
                          life_count count, uint64_t lost) {
  mg_pool_tier_stats *t = &out->tier[tier];

  t->rented += count.rented;
  t->returned += count.returned;
  t->current += count.rented - count.returned - lost;
  out->rented += count.rented;
  out->returned += count.returned;
  out->current += count.rented - count.returned - lost;
}

static void life_read_counters(const mg_pool *pool, mg_pool_stats *out) {
  uint64_t misses = MG__LOAD(pool->misses);
  life_count huge = {MG__LOAD(pool->huge_rented),
                     MG__LOAD(pool->huge_returned)};

  for (uint32_t class = 0; class < MG_POOL_CLASSES; class++) {
    mg_pool_tier tier = mg_pool_tier_of(mg__class_bytes[class]);
    uint64_t lost = MG__LOAD(pool->lost_of[class]);
    life_count count = life_count_class(pool, class);
    life_add_tier(out, tier, count, lost);
    out->tier[tier].current_bytes +=
        (count.rented - count.returned - lost) * mg__class_bytes[class];
  }
  for (const mg__cache *c = pool->caches; c != NULL; c = c->pool_next)
    misses += MG__LOAD(c->misses);
  life_add_tier(out, MG_POOL_TIER_HUGE, huge,
                MG__LOAD(pool->lost_of[MG__CLASS_SINGLE]));
  out->cache_hits = out->rented > misses ? out->rented - misses : 0;
  out->tier[MG_POOL_TIER_HUGE].current_bytes = MG__LOAD(pool->huge_bytes_now);
  for (int tier = 0; tier < MG_POOL_TIERS; tier++)
    out->current_bytes += out->tier[tier].current_bytes;
}

static void life_read_leaks(mg__leak *leak, mg_pool_stats *out) {
  mg__lock(&leak->lock);
  out->sites_kept = leak->kept;
  out->suspected = leak->suspected;
  out->withdrawn = leak->withdrawn;
  out->double_returns = leak->kinds[MG_FINDING_DOUBLE_RETURN];
  out->foreign_returns = leak->kinds[MG_FINDING_FOREIGN_RETURN];
  out->writes_after_return = leak->kinds[MG_FINDING_WRITE_AFTER_RETURN];
  out->findings_lost = leak->findings_lost;
  mg__unlock(&leak->lock);
}

void mg_pool_read_stats(mg_pool *pool, mg_pool_stats *out) {
  memset(out, 0, sizeof *out);
  mg__lock(&life.lock);
  life_read_counters(pool, out);
  mg__unlock(&life.lock);
  out->lost = MG__LOAD(pool->lost);
  out->held_bytes = MG__LOAD(pool->held_bytes);
  out->peak_held_bytes = MG__LOAD(pool->peak_held_bytes);
  out->plain = MG__LOAD(pool->plain);
  out->os_maps = MG__LOAD(pool->os_maps);
  out->os_bytes = MG__LOAD(pool->os_bytes);
  out->given_back_bytes = MG__LOAD(pool->given_back_bytes);
  life_read_leaks(&pool->leak, out);
}

void mg__pools_read_total(mg__pools_total *out) {
  mg_pool_stats one;

  *out = (mg__pools_total){0};
  mg__lock(&life.lock);
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next) {
    memset(&one, 0, sizeof one);
    life_read_counters(pool, &one);
    life_read_leaks(&pool->leak, &one);
    out->pools++;
    out->rented += one.current;
    out->rented_bytes += one.current_bytes;
    out->held_bytes += MG__LOAD(pool->held_bytes);
    out->suspected += one.suspected;
  }
  mg__unlock(&life.lock);
}

/* ---- fork ------------------------------------------------------------------------------ */

static void life_before_fork(void) {
  mg__lock(&life.lock);
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next)
    life_each_lock(pool, mg__lock);
  for (mg_pool *pool = life.left; pool != NULL; pool = pool->next)
    life_each_lock(pool, mg__lock);
  mg__meta_before_fork();
}

static void life_after_fork(void (*release)(mg__mutex *lock)) {
  for (mg_pool *pool = life.left; pool != NULL; pool = pool->next)
    life_each_lock(pool, release);
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next)
    life_each_lock(pool, release);
}

static void life_after_fork_in_parent(void) {
  mg__meta_after_fork(mg__unlock);
  life_after_fork(mg__unlock);
  mg__unlock(&life.lock);
}

static void life_after_fork_in_child(void) {
  mg__meta_after_fork(mg__mutex_reset);
  life_after_fork(mg__mutex_reset);
  mg__mutex_reset(&life.lock);
  for (mg_pool *pool = life.open; pool != NULL; pool = pool->next)
    mg__pool_rebuild(pool);
}
