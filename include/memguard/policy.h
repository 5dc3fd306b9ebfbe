/* memguard/policy.h - which reclaim action now, if any.
 *
 * The policy is asked at each sample and after each action, and answers with one
 * action or none. It works in rounds: a round begins for a reason, takes one
 * action after the other, the one that promises most bytes per millisecond
 * first, and ends when usage is below low_water_mark_percent (a round by bytes:
 * when growth is below half its budget) or when nothing is left to try.
 *
 *   reason      a round begins when
 *   bytes       large blocks grew by more than their budget since the last
 *               collection (CPython counts objects, not bytes); collections only
 *   water_mark  the level is elevated or higher and gc_interval has passed since
 *               the last action, or the level is higher than that of the last
 *               round; the level counts as one higher while the limit is near
 *               (reason forecast)
 *   forced      usage is at or above force_gc_threshold: once when it gets there,
 *               then once for each further 1 % of the limit
 *
 * What a round may do depends on its level: elevated CACHES, POOLS, TRIM, YOUNG,
 * FULL; high and critical RELEASE as well. SHED is no part of a round: it is asked
 * for when memory is unreclaimable.
 *
 *   budget      YOUNG, FULL and RELEASE spend collection time. It fills a bucket
 *               of MG_POLICY_BUCKET_MS that leaks at gc_budget_percent of real
 *               time (gc_budget_critical_percent while critical). A collection is
 *               not begun while its predicted time does not fit; one predicted
 *               to be longer than the bucket needs an empty bucket. Idle time
 *               earns nothing beyond an empty bucket.
 *   back-off    a round that freed less than 1 % of the memory in use is useless.
 *               After one, rounds by water mark or forecast and FULL by bytes
 *               wait MG_POLICY_BACKOFF_MS more, doubled by each further useless
 *               round up to MG_POLICY_BACKOFF_MAX_MS. A useful round, or usage 5 %
 *               of the limit above where it was, ends that.
 *   unreclaimable  after MG_POLICY_USELESS_ROUNDS useless rounds at critical in
 *               a row: collecting stops, SHED is asked for at once and again at
 *               each further 1 % of the limit or every MG_POLICY_SHED_MS. Ends
 *               when the level falls below critical or the limit changes.
 *   forecast    time to limit = (1 - usage) / slope over 5 s. Near is below
 *               MG_POLICY_NEAR_MS, if the slope over 60 s (over what there is, 5 s
 *               at least) is positive too and usage is at or above
 *               low_water_mark_percent.
 *
 * A clock that jumps back moves all remembered times along: no time has passed.
 * A gap of more than MG_POLICY_GAP_MS (suspend) forgets the slopes. A changed
 * limit forgets slopes, back-off, the forced steps and unreclaimable. So neither
 * makes a storm of collections nor ends them.
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
#define MG_POLICY_GAP_MS 10000.0
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
  uint64_t grown_bytes; /* large blocks: growth since the last collection;
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
                           round, nothing is learned from it */
  double took_ms;       /* wall time */
  double gc_ms;         /* part of it spent collecting */
  uint64_t freed_bytes; /* measured: live bytes for a collection, resident set for
                           the others */
  uint64_t used_bytes;  /* in use before, in the same measure; 0: unknown */
  double usage_after;
} mg_outcome;

typedef struct mg_policy_point {
  double at_ms, usage;
} mg_policy_point;

/** All that the policy remembers. Read the fields, change none. */
typedef struct mg_policy {
  double last_ms;          /* time of the last call */
  double acted_ms;         /* end of the last action; below 0: none yet */
  double bucket_ms;        /* collection time not yet leaked away */
  double backoff_ms, backoff_until_ms;
  double backoff_usage;    /* usage of the round that began the back-off */
  double forced_usage;     /* usage of the last forced step; 0: not forced */
  double shed_ms, shed_usage; /* of the last SHED */
  uint64_t limit_bytes;    /* as last seen */
  uint32_t useless_critical; /* rounds in a row */
  bool is_unreclaimable;
  mg_level acted_level;    /* of the last round; normal once the level was */
  /* the round under way */
  mg_reason round;         /* MG_REASON_NONE: none */
  mg_level round_level;
  uint32_t tried;          /* bits */
  uint64_t round_freed_bytes, round_used_bytes;
  double round_usage;      /* when it began */
  /* what actions are worth: moving averages */
  double bytes_per_ms[MG_ACTIONS];
  double expected_ms[MG_ACTIONS]; /* 0: never done */
  /* slopes */
  mg_policy_point point[MG_POLICY_POINTS];
  uint32_t first_point, points;
} mg_policy;

/** A policy that has seen nothing. */
MG_API void mg_policy_init(mg_policy *out);

/** What to do now. Ask again after mg_policy_done() until the answer is
 *  MG_ACTION_NONE, then at the next sample. With enable_auto_gc false the answer
 *  is always MG_ACTION_NONE. */
MG_API mg_decision mg_policy_next(mg_policy *policy, const mg_config *config,
                                  const mg_policy_view *view);

/** Tells how the action of the last decision went; `now_ms` is its end. */
MG_API void mg_policy_done(mg_policy *policy, const mg_config *config,
                           mg_action action, const mg_outcome *outcome,
                           double now_ms);

/** Counts collection time spent without asking (manual, idle). */
MG_API void mg_policy_spent(mg_policy *policy, double gc_ms);

/** Whether a collection that takes `gc_ms` fits into the budget now. */
MG_API bool mg_policy_may_collect(const mg_policy *policy,
                                  const mg_config *config, mg_level level,
                                  double gc_ms, double now_ms);

/** Growth of large blocks that makes a collection due: half of what is left
 *  below the limit, held inside a sixteenth and a quarter of the limit, and
 *  inside 4 MiB and 256 MiB. @return MG_ABSENT if the limit is. */
MG_API uint64_t mg_policy_budget_bytes(uint64_t limit_bytes, double usage);

/** Time to the limit by the slopes, in ms; a negative number if usage does not
 *  grow or too little is known. */
MG_API double mg_policy_time_to_limit_ms(const mg_policy *policy);

MG_API const char *mg_action_name(mg_action action);
MG_API const char *mg_reason_name(mg_reason reason);

#ifdef __cplusplus
}
#endif
#endif
