/* pool_parts.h - the insides of pools, shared by core/pool*.c and nothing else.
 *
 * Locks, in the order in which they are taken:
 *   registry   which pools and caches there are
 *   tick       of one pool: one tick at a time
 *   leak       records of sampled rentals, findings
 *   a class    its depot and its spans
 *   huge       idle huge buffers, guarded ones
 *   meta       memory for the data about spans
 * A block belongs to whoever changed its handle last: the thread that rented it,
 * the one that returned it, then the cache, depot or span it is put into. */
#ifndef MG_CORE_POOL_PARTS_H
#define MG_CORE_POOL_PARTS_H

#include <stdatomic.h>

#include "memguard/pool.h"
#include "os.h"

#if defined(__GNUC__)
#define MG__LIKELY(x) __builtin_expect(!!(x), 1)
#define MG__COLD __attribute__((noinline, cold))
#define MG__INLINE inline __attribute__((always_inline))
#if defined(__x86_64__) /* the builtin fetches to read, unless told the machine */
#define MG__PREFETCH_TO_WRITE(p) __asm__ volatile("prefetchw %0" : : "m"(*(p)))
#else
#define MG__PREFETCH_TO_WRITE(p) __builtin_prefetch(p, 1)
#endif
/* Where the library is opened at run time, the general model costs a call. The
 * room that libc keeps for this one is small: one pointer is all we take. */
#define MG__TLS_INITIAL \
  __attribute__((tls_model("initial-exec"), visibility("hidden")))
#else
#define MG__LIKELY(x) (x)
#define MG__COLD
#define MG__INLINE inline
#define MG__PREFETCH_TO_WRITE(p) ((void)(p))
#define MG__TLS_INITIAL
#endif

#define MG__LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define MG__STORE(field, value) \
  atomic_store_explicit(&(field), value, memory_order_relaxed)
/** For a counter with one writer: readers on other threads see it late. */
#define MG__BUMP(field, by) MG__STORE(field, MG__LOAD(field) + (by))
/** For a counter with many. */
#define MG__ADD(field, by) \
  atomic_fetch_add_explicit(&(field), by, memory_order_relaxed)
#define MG__SUB(field, by) \
  atomic_fetch_sub_explicit(&(field), by, memory_order_relaxed)

/* ---- pool_class.c ------------------------------------------------------ */

#define MG__CLASS_ROWS 15u
#define MG__CLASS_SINGLE MG_POOL_CLASSES /* buffers with memory of their own */
#define MG__CLASSES (MG_POOL_CLASSES + 1u)
#define MG__CACHE_MOST 4096u /* buffers of one class in a thread's cache */

typedef struct mg__class_row {
  uint32_t first, limit;
} mg__class_row;
extern const mg__class_row mg__class_rows[MG__CLASS_ROWS];
extern const uint32_t mg__class_bytes[MG_POOL_CLASSES];

/** @param bytes 1 to MG_POOL_CLASS_MAX_BYTES. */
static inline uint32_t mg__pool_class_of(size_t bytes) {
  uint64_t n = (bytes - 1) | 63u;
#if defined(__GNUC__)
  uint32_t row = 58u - (uint32_t)__builtin_clzll(n);
#else
  uint32_t row = 0;
  while (n >> (row + 6u) != 0) row++;
#endif
  return mg__class_rows[row].first + (bytes > mg__class_rows[row].limit);
}

/* ---- pool_span.c: where blocks come from ------------------------------- */

#define MG__SPANS 65536u  /* of the process; number 0 is never used */
#define MG__MARK_NONE 0u
#define MG__MARK_COLD UINT32_MAX
#define MG__NO_BLOCK UINT32_MAX

/** What is known of one block. */
typedef struct mg__slot {
  _Atomic uint32_t generation; /* odd: rented */
  uint32_t id;                 /* span and block; the handle's other half */
  _Atomic uint32_t stamp;      /* rented: time; cold: next one of the span */
  _Atomic uint32_t mark;       /* none, cold, or number of its record */
} mg__slot;

/** Memory of its own of a block of MG__CLASS_SINGLE. */
typedef enum mg__single_kind {
  MG__SINGLE_PLAIN,
  MG__SINGLE_HUGE,
  MG__SINGLE_GUARDED
} mg__single_kind;

typedef struct mg__single {
  unsigned char *data;
  void *block;           /* what is to be given back, and its size */
  size_t block_bytes;
  size_t capacity;
  mg__single_kind kind;
} mg__single;

/** Blocks of one class in one mapping. Lives for ever, so that a stale handle
 *  finds it; while it serves no pool, `pool` is NULL and its slots read as zero or
 *  as they were.
 *
 *    slot[blocks] | cold units of each page, or mg__single[blocks]
 */
typedef struct mg__span mg__span;
struct mg__span {
  _Atomic(mg_pool *) pool;
  _Atomic(mg_pool *) last; /* the same, kept when it is unmapped */
  mg__slot *slot;
  _Atomic(unsigned char *) base; /* NULL for singles */
  uint32_t blocks, class, block_bytes;
  uint32_t number;      /* index into mg__span_at */
  size_t slots_bytes;   /* with what follows them; whole pages, or less than one */
  /* the class's lock */
  uint32_t fresh;       /* blocks from here on were never used */
  uint32_t cold, cold_first; /* how many were given up, and a list of them */
  uint32_t generation;  /* even; what fresh blocks begin with */
  bool is_open;         /* in the class's list of spans with blocks to take */
  mg__span *before, *after;
};

extern _Atomic(mg__span *) mg__span_at[MG__SPANS];

static inline mg__span *mg__span_of(uint32_t id) {
  return atomic_load_explicit(&mg__span_at[id >> 16], memory_order_acquire);
}
/** As a number first: it may be asked for a span that has just been unmapped. */
static inline unsigned char *mg__span_data(const mg__span *span,
                                           uint32_t block) {
  return (unsigned char *)((uintptr_t)MG__LOAD(span->base) +
                           (size_t)block * span->block_bytes);
}
static inline uint64_t mg__handle_of(uint32_t id, uint32_t generation) {
  return (uint64_t)id << 32 | generation;
}
static inline uint32_t mg__handle_id(uint64_t handle) {
  return (uint32_t)(handle >> 32);
}

/** Takes up to `want` blocks that hold no memory yet. The class's lock is held.
 *  @return how many; 0 above max_mb or when the system has no memory. */
uint32_t mg__span_take(mg_pool *pool, uint32_t class, uint32_t *out_ids,
                       uint32_t want);
/** Puts a block back and its memory to the system, as far as whole pages have
 *  nothing else on them. The class's lock is held. @return bytes given back. */
uint64_t mg__span_give(mg_pool *pool, uint32_t class, uint32_t id);
/** Unmaps spans of which nothing is in use. The class's lock is held. */
void mg__span_retire(mg_pool *pool, uint32_t class);
/** Counts `bytes` as held. @return false if that would be above max_mb. */
bool mg__pool_hold(mg_pool *pool, uint64_t bytes);
mg__single *mg__span_single(mg__span *span, uint32_t block);
/** Memory for ever, zeroed, aligned to 64; NULL when there is none. */
void *mg__meta_alloc(size_t bytes);
void mg__meta_before_fork(void);
void mg__meta_after_fork(void (*release)(mg__mutex *lock));

/* ---- the pool ---------------------------------------------------------- */

/** A block in a thread's cache. */
typedef struct mg__entry {
  mg__slot *slot;
  unsigned char *data;
} mg__entry;

/** A thread's blocks of one class; only that thread touches it. */
typedef struct mg__bin {
  _Alignas(64) mg__entry *entry;
  uint32_t count, capacity, low; /* low: fewest since the last look */
  uint32_t bytes;                /* of a block */
  uint32_t misses, room, limit;
  _Atomic uint64_t rented, returned; /* written by the thread, read by all */
  uint64_t sample_at;     /* rentals after which one is sampled */
} mg__bin;

/** One thread's part of one pool. */
typedef struct mg__cache mg__cache;
struct mg__cache {
  _Alignas(64) mg_pool *pool;
  uint64_t serial;        /* of the pool */
  uint32_t epoch;         /* the pool's, as last seen */
  uint32_t until_guard;   /* rentals to the next guarded one, about */
  uint32_t random;
  uint32_t leak_check;    /* the pool's, as last seen */
  _Atomic uint64_t misses;
  struct mg__pool_thread *thread;
  mg__cache *thread_next, *pool_next, *pool_before; /* the registry's lock */
  /* one more than classes: singles have no room, so they go the slow way */
  mg__bin bin[MG__CLASSES];
};

#define MG__SEATS 16u
typedef struct mg__pool_thread {
  struct {
    uint64_t serial;
    mg__cache *cache;
  } seat[MG__SEATS]; /* by the pool's number; the thread's own */
  mg__cache *caches; /* the registry's lock; all pools */
  struct mg__pool_thread *next_spare;
} mg__pool_thread;

extern _Thread_local mg__pool_thread *mg__pool_self MG__TLS_INITIAL;

/** Idle blocks of one class. */
typedef struct mg__depot {
  _Alignas(64) mg__mutex lock;
  uint32_t *id;           /* a stack, the oldest first */
  uint32_t count, room, low;
  mg__span *open;         /* spans with blocks to take */
} mg__depot;

#define MG__HUGE_MOST 64u
#define MG__GUARDED_MOST 16u
#define MG__HELD_BACK_MOST 64u
#define MG__HELD_BACK_BYTES 1048576u

typedef struct mg__record {
  uint64_t handle, site;
  uint32_t stamp, next_free;
  bool is_used, is_sampled, is_suspected;
} mg__record;

typedef struct mg__leak {
  mg__mutex lock;
  mg__record *record;
  uint32_t count, room, first_free;
  uint32_t kept;
  struct {
    uint32_t id;
    uint64_t site, handle;
  } held_back[MG__HELD_BACK_MOST]; /* filled with a pattern, oldest first */
  uint32_t held_first, held_count;
  uint64_t held_bytes;
  mg_finding finding[MG_POOL_FINDINGS];
  uint32_t finding_first, finding_count;
  uint64_t suspected, withdrawn, findings_lost, kinds[MG_FINDING_KINDS];
} mg__leak;

typedef struct mg__huge {
  mg__mutex lock;
  mg__single idle[MG__HUGE_MOST], guarded[MG__GUARDED_MOST]; /* oldest first */
  uint32_t idle_count, idle_low, guarded_count;
  uint64_t idle_bytes;
} mg__huge;

struct mg_pool {
  /* read by each rental, written seldom */
  _Alignas(64) _Atomic uint64_t serial; /* 0: closed */
  uint32_t seat;                  /* where threads keep their cache of it */
  _Atomic uint32_t epoch;         /* changes when caches have something to do */
  _Atomic uint32_t emptied_epoch; /* the last at which all was to be given up */
  _Atomic uint32_t stamp;         /* time in units of MG__STAMP_MS */
  _Atomic uint64_t max_bytes, cache_bytes, huge_bytes, suspect_ms;
  _Atomic uint32_t leak_check, level; /* here a cache line is full */
  /* written now and then */
  _Atomic uint64_t held_bytes;
  _Atomic uint64_t peak_held_bytes, plain, os_maps, os_bytes, given_back_bytes;
  _Atomic uint64_t misses, lost;
  _Atomic uint64_t huge_rented, huge_returned, huge_bytes_now;
  _Atomic uint64_t lost_of[MG__CLASSES];
  _Atomic uint64_t rented[MG__CLASSES], returned[MG__CLASSES]; /* folded in */
  mg__mutex tick_lock;
  double tick_ms;             /* the tick lock */
  mg__cache *caches;          /* the registry's lock */
  mg_pool *next, *before;     /* the registry's lock */
  _Atomic uint64_t outstanding; /* after close */
  mg__leak leak;
  mg__huge huge;
  _Atomic bool is_enabled;
  bool has_ticked;            /* the tick lock */
  mg__depot depot[MG__CLASSES];
};

#define MG__STAMP_MS 64.0

/* ---- pool_depot.c ------------------------------------------------------ */

/** How many buffers of a class move at a time, 1 to MG_POOL_BATCH. */
uint32_t mg__depot_batch(const mg_pool *pool, uint32_t class);
/** Takes idle blocks, or new ones. @return how many, at most `want`. */
uint32_t mg__depot_take(mg_pool *pool, uint32_t class, mg__entry *out,
                        uint32_t want);
void mg__depot_put(mg_pool *pool, uint32_t class, const mg__entry *entries,
                   uint32_t count);
/** Gives `share` of the idle blocks, the oldest first, back to the system.
 *  @return bytes given back. */
uint64_t mg__depot_relieve(mg_pool *pool, uint32_t class, double share);
/** Gives back half of what was never needed since the last time. */
void mg__depot_trim(mg_pool *pool, uint32_t class);
/** Has `count` more idle blocks; the lock is held. What finds no room goes to the
 *  system. */
void mg__depot_push(mg_pool *pool, uint32_t class, uint32_t id);
void mg__depot_close(mg_pool *pool, uint32_t class);

/* ---- pool_single.c: plain, huge and guarded buffers -------------------- */

/** Makes a rental-to-be with memory of its own. @return the slot, or NULL. */
mg__slot *mg__single_take(mg_pool *pool, mg__single_kind kind, size_t capacity,
                          mg__single *out);
/** Takes back the memory of a slot whose rental ended, and the slot. */
void mg__single_give(mg_pool *pool, mg__span *span, uint32_t block);
/** Gives up `share` of the idle ones. @return bytes given back. */
uint64_t mg__single_relieve(mg_pool *pool, double share);
void mg__single_trim(mg_pool *pool);
/** Gives up the guarded ones held back. */
void mg__single_release(mg_pool *pool);

/* ---- pool_leak.c ------------------------------------------------------- */

/** Keeps a record of a rental not yet handed out. @return whether it could. */
bool mg__leak_keep(mg_pool *pool, mg__slot *slot, uint64_t handle,
                   bool is_sampled);
/** Ends the record of a slot whose rental ended, if it has one.
 *  @param lost [may be NULL] is given the site.
 *  @return whether the block is held back: it is not to be used now. */
bool mg__leak_end(mg_pool *pool, mg__span *span, mg__slot *slot,
                  uint64_t handle, mg_finding *lost);
void mg__leak_report(mg_pool *pool, const mg_finding *finding);
/** Checks and gives on what was held back; at the end the records too. */
void mg__leak_release(mg_pool *pool);
void mg__leak_close(mg_pool *pool);
/** In a forked child: drops records and blocks held back that other threads had in
 *  hand. */
void mg__leak_after_fork(mg__leak *leak);
/** A time in units of MG__STAMP_MS, never 0, which is none. */
uint32_t mg__leak_stamp(double now_ms);
/** 0 if `stamp` is none, or later than now. */
double mg__leak_age_ms(uint32_t now, uint32_t stamp);

/* ---- pool_cache.c: threads --------------------------------------------- */

/** The calling thread's cache of a pool; made if needed; NULL without memory or
 *  when the pool is closed. */
mg__cache *mg__cache_find(mg_pool *pool);
/** Does what the pool's epoch asks for. */
void mg__cache_catch_up(mg__cache *cache);
/** Chooses the rental of a bin that is sampled next. */
void mg__cache_next_sample(mg__cache *cache, mg__bin *bin);
/** After a bin was full: makes it deeper, or moves some to the depot. */
void mg__cache_make_room(mg__cache *cache, uint32_t class);
/** Finds blocks after `bin` was empty. @return whether there are some now. */
bool mg__cache_refill(mg__cache *cache, uint32_t class);
/** Moves all idle blocks and the counters into the pool and ends the cache. The
 *  registry's lock is held. */
void mg__cache_close(mg__cache *cache);
/** In a forked child, the registry's lock held: ends the cache of a thread that did
 *  not come along, or empties the calling thread's. Blocks are left alone. */
void mg__cache_forget(mg__cache *cache);
/** Once per process. The registry's lock is held. */
mg_status mg__cache_open_key(mg_error *err);

static inline mg__cache *mg__cache_here(const mg_pool *pool) {
  mg__pool_thread *self = mg__pool_self;

  if (self == NULL || self->seat[pool->seat].serial != MG__LOAD(pool->serial))
    return NULL;
  return self->seat[pool->seat].cache;
}

/* ---- pool_life.c: which pools there are -------------------------------- */

void mg__registry_lock(void);
void mg__registry_unlock(void);
bool mg__pool_is_open(const mg_pool *pool);
/** After close: a rental ended. */
void mg__pool_left(mg_pool *pool);

/* ---- pool_fork.c ------------------------------------------------------- */

/** In a forked child: makes a pool fit for use again. */
void mg__pool_rebuild(mg_pool *pool);

/* ---- pool.c ------------------------------------------------------------ */

/** Puts a block whose rental ended where it serves again. */
void mg__pool_take_back(mg_pool *pool, mg__span *span, mg__slot *slot);

#endif
