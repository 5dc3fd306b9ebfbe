/* memguard/policy.h - which reclaim action now, if any.
 *
 * The policy is asked at each sample and after each action, and answers with one
 * action or none. It works in rounds: a round begins for a reason, takes one
 * action after the other, the one that promises most bytes per millisecond
 * first, each at most once, and ends when usage is below low_water_mark_percent
 * (a round by bytes: when growth is below half its budget) or when nothing is
 * left to try; a collection makes the lesser ones needless. TRIM alone comes a
 * second time, at the end, if the round did something after the first: what is
 * freed goes to the allocator, not yet to the system.
 *
 *   reason         a round begins when
 *   unreclaimable  see below
 *   forced         usage is at or above force_gc_threshold: once when it gets
 *                  there, then once for each further 1 % of the limit. It comes
 *                  in the place of a round under way
 *   water_mark     the level is elevated or higher, and gc_interval has passed
 *                  since the last action, or the level is higher than that of the
 *                  last round. A level that was normal in between and comes back
 *                  before gc_interval has passed gets a round without
 *                  collections, which counts for nothing that follows
 *   forecast       the same, for a level that counts as one higher because the
 *                  limit is near
 *   bytes          large blocks grew by more than their budget (CPython counts
 *                  objects, not bytes); collections only. What a round leaves is
 *                  looked at again after half a budget more, or when a full
 *                  collection is possible that was not before. These rounds
 *                  neither wait for gc_interval nor count for it
 *
 * What a round may do depends on its level, which rises with the level while it
 * is under way: elevated CACHES, POOLS, TRIM, YOUNG, FULL; high and critical
 * RELEASE as well.
 *
 *   worth       bytes per millisecond of an action: a seed, then a moving average
 *               of what it brought, the newest weighing MG_POLICY_WEIGHT. Left
 *               untried it drifts back to the seed, half the way in
 *               MG_POLICY_FORGET_MS, so that what once was useless is tried again.
 *   budget      YOUNG, FULL and RELEASE spend collection time. It fills a bucket
 *               of MG_POLICY_BUCKET_MS that leaks at gc_budget_percent of real
 *               time (gc_budget_critical_percent while critical). A collection is
 *               not begun while the time it is expected to take does not fit; one
 *               expected to take longer than the bucket needs an empty bucket.
 *               Idle time earns nothing beyond an empty bucket. So collections
 *               take at most that share of any span of time plus one bucket (or
 *               one collection that is longer), plus what one took longer than
 *               expected. Expected is the longest of late (rises at once, falls
 *               slowly); before the first one, that of FULL, or else
 *               MG_POLICY_UNKNOWN_MS. Rounds by bytes leave half
 *               of the bucket to the others, and the better of YOUNG and FULL
 *               waits for room: the lesser one does not use up what it waits for.
 *               In other rounds YOUNG gives way to a FULL that would not fit
 *               after it. At critical a FULL that did not fit is made up for in
 *               a round of its own as soon as it does; until then none by bytes
 *               begins.
 *   back-off    a round that freed less than 1 % of the memory in use is useless.
 *               After one, rounds by water mark or forecast at the same level
 *               wait MG_POLICY_BACKOFF_MS more, doubled by each further one up
 *               to MG_POLICY_BACKOFF_MAX_MS. A useful round, or usage 5 % of the
 *               limit above where it was, ends that. FULL by bytes waits in the
 *               same way, on a count of its own. A round in which nothing could
 *               be done is repeated after the back-off without gc_interval.
 *   unreclaimable  after MG_POLICY_USELESS_ROUNDS useless rounds at critical in a
 *               row; after one, while the limit is reached or less than
 *               MG_POLICY_BRINK_MS away. Here a round is useless too if usage,
 *               when the next one begins, is 1 % of the limit higher than when it
 *               began: what it freed did not last. (One that lacked room for FULL
 *               is not counted.) Other rounds stop then. SHED is asked
 *               for at once and again at each further 1 % of the limit or every
 *               MG_POLICY_SHED_MS, followed by the actions of a round, because
 *               what the host lets go has to be collected. (Without a host's SHED
 *               that is the round alone, not at once.) Ends when the level falls
 *               below critical, or usage 5 % of the limit below where it began.
 *   forecast    time to limit = (1 - usage) / slope over 5 s. Near is below
 *               MG_POLICY_NEAR_MS, if the slope over 60 s (over what there is, 5 s
 *               at least) is positive too and usage is at or above
 *               low_water_mark_percent.
 *
 * A clock that jumps back moves all remembered times along: no time has passed.
 * A gap of more than MG_POLICY_GAP_MS (suspend) forgets the slopes and the round
 * under way. A limit that changes forgets the slopes; the rest follows from the
 * usage it brings: forced steps, too, begin anew once usage is 5 % of the limit
 * below the last one. (Not from the number itself: where two limits are about as
 * near, it changes with every sample.) So none of these makes a storm of
 * collections nor ends them. A usage that is negative or no number counts as
 * unchanged.
 *
 * Sources: the limiter is that of Go's GC (runtime/mgclimit.go: a leaky bucket
 * without idle credit); forced steps and back-off follow oomd and earlyoom.
 *
 * Threads: pure; the state is the caller's. Time is an argument. */
#ifndef MEMGUARD_POLICY_H
#define MEMGUARD_POLICY_H

#include "memguard/config.h"
#include "memguard/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_POLICY_BUCKET_MS 1000.0
#define MG_POLICY_BACKOFF_MS 1000.0
#define MG_POLICY_BACKOFF_MAX_MS 60000.0
#define MG_POLICY_USELESS_ROUNDS 3u
#define MG_POLICY_SHED_MS 30000.0
#define MG_POLICY_NEAR_MS 30000.0
#define MG_POLICY_BRINK_MS 5000.0
#define MG_POLICY_GAP_MS 10000.0
#define MG_POLICY_FORGET_MS 600000.0
#define MG_POLICY_UNKNOWN_MS 900.0
#define MG_POLICY_WEIGHT 0.3
#define MG_POLICY_POINTS 64u /* usage, at most one a second */

/** X(ID, name, bytes per ms it is taken to free at first, is a collection) in the
 *  order in which they are tried as long as nothing else is known */
#define MG_ACTION_MAP(X)                       \
  X(NONE, "none", 0.0, false)                  \
  X(CACHES, "caches", 64.0 * 1048576.0, false) \
  X(POOLS, "pools", 29.0 * 1048576.0, false)   \
  X(TRIM, "trim", 10.0 * 1048576.0, false)     \
  X(YOUNG, "young", 5.0 * 1048576.0, true)     \
  X(FULL, "full", 1.0 * 1048576.0, true)       \
  X(RELEASE, "release", 0.5 * 1048576.0, true) \
  X(SHED, "shed", 0.0, false)

typedef enum mg_action {
#define MG_ACTION_ENUM(id, name, bytes_per_ms, collects) MG_ACTION_##id,
  MG_ACTION_MAP(MG_ACTION_ENUM)
#undef MG_ACTION_ENUM
      MG_ACTIONS
} mg_action;

/** Bit of an action in a mask. */
#define MG_ACTION_BIT(action) (UINT32_C(1) << (action))
/** Mask of all actions that are collections. */
#define MG_COLLECTIONS (UINT32_C(0) MG_ACTION_MAP(MG_ACTION_IF_COLLECTION))
#define MG_ACTION_IF_COLLECTION(id, name, bytes_per_ms, collects) \
  | ((collects) ? MG_ACTION_BIT(MG_ACTION_##id) : UINT32_C(0))

/** X(ID, name): why a round began. The policy itself gives the first six, MANUAL
 *  and IDLE are for those who act without asking it. */
#define MG_REASON_MAP(X)                  \
  X(NONE, "none")                         \
  X(BYTES, "bytes")                       \
  X(WATER_MARK, "water_mark")             \
  X(FORECAST, "forecast")                 \
  X(FORCED, "forced")                     \
  X(UNRECLAIMABLE, "unreclaimable")       \
  X(MANUAL, "manual")                     \
  X(IDLE, "idle")

typedef enum mg_reason {
#define MG_REASON_ENUM(id, name) MG_REASON_##id,
  MG_REASON_MAP(MG_REASON_ENUM)
#undef MG_REASON_ENUM
      MG_REASONS
} mg_reason;

/** What is known when the policy is asked. */
typedef struct mg_policy_view {
  double now_ms;        /* any monotonic origin */
  double usage;         /* of the nearest limit, 0 to 1 and above */
  mg_level level;       /* by level.h */
  uint64_t limit_bytes; /* the limit that usage refers to; MG_ABSENT if unknown */
  uint64_t grown_bytes; /* large blocks: how much more there is than after the
                           last full collection (ours or the runtime's own);
                           MG_ABSENT where the runtime does not count bytes */
  uint32_t available;   /* MG_ACTION_BIT of what can be done */
} mg_policy_view;

/** The answer. */
typedef struct mg_decision {
  mg_action action;   /* MG_ACTION_NONE: nothing now */
  mg_reason reason;   /* of the round the action belongs to */
  mg_level level;     /* the level the round acts at, forecast included */
  double share;       /* CACHES, POOLS: which share to give up: 0.25 elevated,
                         0.5 high, 1.0 critical; SHED: 1.0; else 0 */
  bool begins_round, ended_round; /* this action is the first; the answer ends the
                                     round that was under way */
} mg_decision;

/** How an action went. */
typedef struct mg_outcome {
  bool was_done;        /* false: it could not be done now; not tried again in this
                           round, nothing is learned from it but its gc_ms */
  double took_ms;       /* wall time */
  double gc_ms;         /* part of it spent collecting */
  uint64_t freed_bytes; /* measured: live bytes for a collection, resident set for
                           the others */
  uint64_t used_bytes;  /* in use before, in the same measure; 0: unknown, then
                           what usage fell by is taken */
  double usage_after;   /* NaN: unknown */
} mg_outcome;

typedef struct mg_policy_point {
  double at_ms, usage;
} mg_policy_point;

typedef struct mg_policy_worth {
  double bytes_per_ms; /* average of what it brought */
  double gc_ms;        /* collection time to expect; NaN: never done */
  double done_ms;      /* when last; NaN: never */
} mg_policy_worth;

typedef struct mg_policy_backoff {
  double ms;       /* 0: none */
  double since_ms; /* end of the last useless round; NaN: none */
  double usage;    /* when the round began that began the back-off */
} mg_policy_backoff;

typedef struct mg_policy_round {
  mg_reason reason; /* MG_REASON_NONE: none is under way */
  mg_level level;
  uint32_t allowed, tried, done; /* bits of actions */
  uint32_t trims;                /* done */
  bool is_trim_due;              /* something was done after the first */
  bool was_refused;              /* a collection did not fit */
  double usage;                  /* when it began */
  double freed_share;            /* of the memory in use, all actions */
  uint64_t grown_bytes, freed_bytes, budget_bytes; /* by bytes; grown: before */
} mg_policy_round;

/** All that the policy remembers. Read the fields, change none. */
typedef struct mg_policy {
  double last_ms;       /* time of the last call; NaN: none yet */
  double bucket_ms;     /* collection time not yet leaked away */
  double usage;         /* as last seen, as are the next two */
  mg_level level;
  uint64_t limit_bytes;
  bool is_unreclaimable;

  mg_action pending;    /* asked for and not heard of; MG_ACTION_NONE: none */
  mg_policy_round round;
  /* rounds other than by bytes */
  double acted_ms;      /* end of the last action of one that may collect; NaN: none */
  mg_level acted_level; /* of the last such round */
  mg_level eased_level; /* of the last one; normal once the level was */
  mg_policy_backoff backoff;
  double forced_usage;  /* of the last forced step; 0: none */
  bool is_owed;         /* a full collection at critical, for want of room */
  uint32_t useless_critical; /* rounds in a row */
  double critical_usage;     /* when the last one at critical began; 0: none */
  bool was_useful_critical;  /* the last one freed something */
  double given_up_usage;     /* when it became unreclaimable */
  double shed_ms, shed_usage; /* of the last SHED; NaN: none */
  /* rounds by bytes */
  uint64_t left_bytes;  /* growth that the last one left */
  mg_policy_backoff full_backoff;

  mg_policy_worth worth[MG_ACTIONS];
  mg_policy_point point[MG_POLICY_POINTS]; /* a ring */
  uint32_t first_point, points;
} mg_policy;

/** A policy that has seen nothing. */
MG_API void mg_policy_init(mg_policy *out);

/** What to do now. Do it, tell mg_policy_done(), and ask again until the answer is
 *  MG_ACTION_NONE; then at the next sample. With enable_auto_gc false the answer
 *  is always MG_ACTION_NONE. */
MG_API mg_decision mg_policy_next(mg_policy *policy, const mg_config *config,
                                  const mg_policy_view *view);

/** Tells how the action of the last decision went; `now_ms` is its end. To ask
 *  again before says that nobody took it up: it was not tried, and the answer is
 *  found anew. An outcome that comes after that still counts for the budget and
 *  for what the action is worth. */
MG_API void mg_policy_done(mg_policy *policy, const mg_config *config,
                           mg_action action, const mg_outcome *outcome,
                           double now_ms);

/** Counts collection time spent without asking (manual, idle). However much that
 *  is, no more than one bucket and the last collection are waited for. */
MG_API void mg_policy_spent(mg_policy *policy, double gc_ms);

/** Whether a collection that takes `gc_ms` fits into the budget now. */
MG_API bool mg_policy_may_collect(const mg_policy *policy,
                                  const mg_config *config, mg_level level,
                                  double gc_ms, double now_ms);

/** Growth of large blocks that makes a collection due: half of what is left
 *  below the limit, held inside a sixteenth and a quarter of the limit, and
 *  inside 4 MiB and 256 MiB. @return MG_ABSENT if the limit is. */
MG_API uint64_t mg_policy_budget_bytes(uint64_t limit_bytes, double usage);

/** Time to the limit by the slope over 5 s, in ms: 0 once it is reached, a
 *  negative number if usage does not grow or too little is known. */
MG_API double mg_policy_time_to_limit_ms(const mg_policy *policy);

/** Names as both runtimes show them. */
MG_API const char *mg_action_name(mg_action action);
MG_API const char *mg_reason_name(mg_reason reason);

#ifdef __cplusplus
}
#endif
#endif
