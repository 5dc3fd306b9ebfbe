/* memguard/pool.h - buffers that are rented and returned instead of allocated.
 *
 * A rental is a block of memory with a handle. The handle, not the address, is
 * what is returned, so that a mistake is told apart from a rental at any time.
 *
 * Sizes. Requests are rounded up to a class: powers of two from 64 bytes to 1 MiB
 * and, from 512 bytes to 32 KiB, the power of two plus an eighth (a message that is
 * a power of two with a header in front). Classes form the tiers small (to
 * 4 KiB), medium (to 64 KiB) and large (to 1 MiB); larger requests are huge: they
 * are mapped one by one and kept, after their return, in a cache capped by bytes.
 *
 *   thread A              thread B
 *   +---------------+     +---------------+   a stack per class, no lock; its
 *   | cache         |     | cache         |   depth follows the demand up to
 *   +---------------+     +---------------+   thread_cache_mb per class
 *       |  ^ batches of up to 32  |  ^
 *       v  |                      v  |
 *   +-------------------------------------+   a stack per class, one lock each;
 *   | depot: idle buffers, still resident |   each tick gives up half of what
 *   +-------------------------------------+   nobody needed since the last one
 *       |  ^
 *       v  |
 *   +-------------------------------------+   whole pages with nothing in use are
 *   | spans: mapped from the system       |   given back at once, empty spans
 *   +-------------------------------------+   unmapped
 *
 *   handle: | span 16 bits | block 16 bits | generation 32 bits, odd = rented |
 *
 * The data about blocks lies beside them, never inside, so writing past the end
 * of a buffer cannot damage it. A return compares and changes the whole handle in
 * one atomic step: returning twice, to another pool or a made-up handle is always
 * found, also when two threads do it at the same moment.
 *
 * Ownership. Whoever holds the handle may write `capacity` bytes at `data` until
 * the return. Contents are not cleared: a buffer may show what an earlier owner
 * wrote. `data` is aligned to 64 bytes. Any thread may return, the buffer then
 * serves the returning thread next. A thread may end with rentals outstanding.
 *
 * Limits. Above max_mb of its own memory a pool allocates plainly, and so it does
 * with enabled false or at the critical level: same calls, same checks, same
 * statistics, memory returned to the allocator at once.
 *
 * Mistakes. Besides the returns above, which are refused with a status:
 *   lost       the owner went away without returning it, told by the binding with
 *              mg_pool_lost(): a certain leak; the buffer is reclaimed
 *   suspected  rented for longer than suspect_after; no longer once returned
 *   written after return  found for a sample of rentals, which are filled with a
 *              pattern and held back for a while
 * What is looked for is chosen by leak_check: disabled; simple: one rental of 128
 * (MG_POOL_SAMPLE) and each of 512 KiB and more has its site kept; advanced: as
 * simple, and one rental of about 4000 has memory of its own that ends at a page
 * nobody may touch and is taken away whole after the return, so that a wrong
 * access ends the process where it happens; paranoid: as advanced, every rental
 * has its site kept and is checked. A site is a number of the binding's choice
 * (an index of a stack it noted); memguard never looks behind it.
 *
 * Sources: tiers and batches after Bonwick's magazines (USENIX 2001), low-water
 * trimming as in tcmalloc, levels of leak_check as in Netty's
 * ResourceLeakDetector, guarded samples as in GWP-ASan.
 *
 * Threads: any thread may call any function on an open pool. mg_pool_close() must
 * not run at the same time as another call on that pool; returns may follow it.
 * Nothing here calls back. Fork: the child has its own copy of every rental, and
 * pools ready for use. */
#ifndef MEMGUARD_POOL_H
#define MEMGUARD_POOL_H

#include "memguard/config.h"
#include "memguard/level.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_POOL_CLASS_MIN_BYTES 64u
#define MG_POOL_CLASS_MAX_BYTES 1048576u
#define MG_POOL_CLASSES 22u
#define MG_POOL_BATCH 32u
#define MG_POOL_SAMPLE 128u
#define MG_POOL_GUARD 4000u
#define MG_POOL_SITE_BYTES 524288u /* from here every rental has its site kept */
#define MG_POOL_TICK_MS 1000.0     /* least time between two trims */
#define MG_POOL_FINDINGS 64u       /* kept until taken; the oldest go first */
/** Largest rental, 1 TiB. */
#define MG_POOL_MAX_BYTES (UINT64_C(1) << 40)

/** X(ID, name, largest capacity) */
#define MG_POOL_TIER_MAP(X)        \
  X(SMALL, "small", 4096)          \
  X(MEDIUM, "medium", 65536)       \
  X(LARGE, "large", 1048576)       \
  X(HUGE, "huge", MG_POOL_MAX_BYTES)

typedef enum mg_pool_tier {
#define MG_POOL_TIER_ENUM(id, name, bytes) MG_POOL_TIER_##id,
  MG_POOL_TIER_MAP(MG_POOL_TIER_ENUM)
#undef MG_POOL_TIER_ENUM
      MG_POOL_TIERS
} mg_pool_tier;

/** Values of the setting pool.leak_check. */
typedef enum mg_leak_check {
  MG_LEAK_CHECK_DISABLED,
  MG_LEAK_CHECK_SIMPLE,
  MG_LEAK_CHECK_ADVANCED,
  MG_LEAK_CHECK_PARANOID,
  MG_LEAK_CHECKS
} mg_leak_check;

typedef struct mg_pool mg_pool;

typedef struct mg_rental {
  void *data;
  size_t capacity; /* bytes at `data`, at least what was asked for */
  uint64_t handle; /* never 0 */
  bool wants_site; /* sampled: tell its site with mg_pool_set_site() */
} mg_rental;

/** X(ID, name): what is found wrong. */
#define MG_FINDING_MAP(X)                   \
  X(LOST, "lost")                           \
  X(SUSPECTED, "suspected")                 \
  X(DOUBLE_RETURN, "double_return")         \
  X(FOREIGN_RETURN, "foreign_return")       \
  X(WRITE_AFTER_RETURN, "write_after_return")

typedef enum mg_finding_kind {
#define MG_FINDING_ENUM(id, name) MG_FINDING_##id,
  MG_FINDING_MAP(MG_FINDING_ENUM)
#undef MG_FINDING_ENUM
      MG_FINDING_KINDS
} mg_finding_kind;

/** The same mistake at the same site with the same size is one finding. */
typedef struct mg_finding {
  mg_finding_kind kind;
  uint64_t count;    /* times it happened */
  uint64_t site;     /* 0: not known */
  uint64_t handle;   /* of the latest one */
  uint64_t capacity; /* bytes; 0: not known */
  double age_ms;     /* lost, suspected: since the rental, to one tick; else 0 */
} mg_finding;

typedef struct mg_pool_tier_stats {
  uint64_t rented, returned; /* since the pool was opened */
  uint64_t current;          /* rented, neither returned nor lost */
  uint64_t current_bytes;    /* their capacity */
} mg_pool_tier_stats;

typedef struct mg_pool_stats {
  uint64_t rented, returned, lost;
  uint64_t current;       /* rented - returned - lost */
  uint64_t current_bytes;
  uint64_t held_bytes;    /* the pool's own memory: rented or idle, not what was
                             given back to the system */
  uint64_t peak_held_bytes;
  uint64_t cache_hits;    /* rentals that took no lock */
  uint64_t plain;         /* rentals served by the allocator */
  uint64_t os_maps;       /* mappings asked from the system */
  uint64_t os_bytes;      /* mapped now, resident or not */
  uint64_t given_back_bytes; /* released to the system in all */
  uint64_t sites_kept;    /* rentals with their site kept, now */
  uint64_t suspected;     /* now */
  uint64_t withdrawn;     /* suspected, then returned after all */
  uint64_t double_returns, foreign_returns, writes_after_return;
  uint64_t findings_lost; /* not taken in time */
  mg_pool_tier_stats tier[MG_POOL_TIERS];
} mg_pool_stats;

/* ---- decisions: pure -------------------------------------------------------- */

/** Capacity of a rental of `bytes` (at least 1): the class, or for a huge one the
 *  next eighth of a power of two. */
MG_API uint64_t mg_pool_capacity(uint64_t bytes);
/** Class of a request. @return 0 to MG_POOL_CLASSES - 1; MG_POOL_CLASSES: huge. */
MG_API uint32_t mg_pool_class(uint64_t bytes);
/** Bytes of class `index`; 0 if out of range. */
MG_API uint64_t mg_pool_class_bytes(uint32_t index);
MG_API mg_pool_tier mg_pool_tier_of(uint64_t capacity);
/** How many of the idle buffers to give up, if `low_water` is the fewest there
 *  were since the last tick: half, rounded up. */
MG_API uint32_t mg_pool_trim(uint32_t low_water);
/** The most buffers of `class_bytes` that a thread's cache may hold: the bytes at
 *  normal level, half at elevated, a quarter at high, none at critical; none from
 *  MG_POOL_SITE_BYTES on. */
MG_API uint32_t mg_pool_cache_limit(uint64_t class_bytes, uint64_t cache_bytes,
                                    mg_level level);
/** The capacity of a thread's cache after demand was seen: doubled for a miss
 *  (empty when asked, or full), within a batch and `limit`; else lowered by what
 *  a trim takes, down to a batch. */
MG_API uint32_t mg_pool_cache_next(uint32_t capacity, uint32_t limit,
                                   uint32_t misses, uint32_t low_water);

/** Names as both runtimes show them, and as the setting is written. */
MG_API const char *mg_pool_tier_name(mg_pool_tier tier);
MG_API const char *mg_finding_name(mg_finding_kind kind);
MG_API const char *mg_leak_check_name(mg_leak_check level);

/* ---- life ------------------------------------------------------------------- */

/** Opens an empty pool with the settings of section `pool`.
 *  @param out [owned] NULL unless MG_OK; end it with mg_pool_close().
 *  @param config [borrowed] checked.
 *  @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_pool_open(mg_pool **out, const mg_config *config,
                              mg_error *err);
/** Gives all idle memory back. Rentals outstanding stay valid and may still be
 *  returned with this pool; the last return frees the rest. Later use, other than
 *  that, is MG_ECLOSED until another pool is opened. NULL is allowed. */
MG_API void mg_pool_close(mg_pool *pool);
/** The pool that the whole process shares, with default settings. Opened by the
 *  first call; after a close the next call opens it anew.
 *  @return [borrowed] NULL when there is no memory for it. */
MG_API mg_pool *mg_pool_shared(void);
/** Puts settings in force: limits at once, depth of caches from their next use. */
MG_API void mg_pool_configure(mg_pool *pool, const mg_config *config);

/* ---- renting ---------------------------------------------------------------- */

/** Rents at least `bytes`.
 *  @return MG_OK, MG_ERANGE (0 or above MG_POOL_MAX_BYTES), MG_ENOMEM,
 *  MG_ECLOSED. `out` is all zero unless MG_OK. */
MG_API mg_status mg_pool_rent(mg_rental *out, mg_pool *pool, size_t bytes,
                              mg_error *err);
/** Ends a rental.
 *  @return MG_OK; MG_ERETURNED (it was returned before), MG_EFOREIGN (not of this
 *  pool), MG_ECLOSED: nothing happened. */
MG_API mg_status mg_pool_return(mg_pool *pool, uint64_t handle, mg_error *err);
/** Reports a second return that the binding found by itself: of a rental that its
 *  owner returned, and that goes on for views of it. @return MG_ERETURNED. */
MG_API mg_status mg_pool_again(mg_pool *pool, uint64_t handle, mg_error *err);
/** Rents `count` buffers of `bytes`, all or none. @return as mg_pool_rent(). */
MG_API mg_status mg_pool_rent_many(mg_rental *out, size_t count, mg_pool *pool,
                                   size_t bytes, mg_error *err);
/** Returns each of `count` handles; faster than one by one when another thread
 *  rented them. Wrong ones do not keep the others from being returned.
 *  @param out_wrong [may be NULL] how many were wrong.
 *  @return MG_OK, else the first failure. */
MG_API mg_status mg_pool_return_many(mg_pool *pool, const uint64_t *handles,
                                     size_t count, size_t *out_wrong,
                                     mg_error *err);

/* ---- keeping the size right --------------------------------------------------- */

/** Lets time go on: trims what was not needed since the last tick, if that is at
 *  least MG_POOL_TICK_MS ago. Call it about once a second. The calling thread's
 *  cache is trimmed at once, those of others at their next use.
 *  @param now_ms of any monotonic origin; a jump back begins anew. */
MG_API void mg_pool_tick(mg_pool *pool, double now_ms);
/** Gives up `share` (0 to 1) of what is idle in depot and huge cache; from 1.0
 *  also the calling thread's cache, and those of other threads at their next use.
 *  @return bytes given back to the system. */
MG_API uint64_t mg_pool_relieve(mg_pool *pool, double share);
/** Tells the level of memory pressure: elevated and high empty the depot and make
 *  caches smaller, critical gives up all that is idle and allocates plainly from
 *  then on; normal ends all that. @return bytes given back. */
MG_API uint64_t mg_pool_relieve_level(mg_pool *pool, mg_level level);
/** The same for every open pool of the process; for a level also those opened
 *  later. Monitors do this by themselves: one that runs lets time go on with each
 *  sample; the highest level of those that are enabled is told when it changes,
 *  and a monitor that is stopped or closed counts no more (monitor.h); reclaiming
 *  relieves pools by the policy (reclaim.h). */
MG_API void mg_pools_tick(double now_ms);
MG_API uint64_t mg_pools_relieve(double share);
MG_API uint64_t mg_pools_relieve_level(mg_level level);

/* ---- looking ------------------------------------------------------------------ */

/** Sums the threads' counters. Exact when no call is under way. */
MG_API void mg_pool_read_stats(mg_pool *pool, mg_pool_stats *out);
/** Keeps `site` for a rental that wants one; for others nothing happens. */
MG_API void mg_pool_set_site(mg_pool *pool, uint64_t handle, uint64_t site);
/** The owner of a rental went away without returning it: reclaims the buffer and
 *  reports a certain leak. Nobody may touch `data` any more.
 *  @param out [may be NULL] the finding, with the rental's site if kept.
 *  @return as mg_pool_return(); what was returned before is no finding here. */
MG_API mg_status mg_pool_lost(mg_pool *pool, uint64_t handle, mg_finding *out,
                              mg_error *err);
/** Looks for rentals older than suspect_after.
 *  @param now_ms as for mg_pool_tick().
 *  @param out room for `max`; the first found.
 *  @return how many there are. */
MG_API size_t mg_pool_suspects(mg_pool *pool, double now_ms, mg_finding *out,
                               size_t max);
/** Takes findings out, oldest first; suspected ones are not among them.
 *  @return how many. */
MG_API size_t mg_pool_take_findings(mg_pool *pool, mg_finding *out, size_t max);

#ifdef __cplusplus
}
#endif
#endif
