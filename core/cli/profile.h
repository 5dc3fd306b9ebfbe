/* profile.h - what a while of garbage collections was like, and what to do. Pure.
 *
 * A plain P95 over collections misleads where many tiny ones hide few long ones:
 * the measure is the P95 over seconds of the longest pause in each, as in pause.h. */
#ifndef MG_CLI_PROFILE_H
#define MG_CLI_PROFILE_H

#include "memguard/base.h"
#include "memguard/pause.h"

#define PROFILE_EVENTS 100000u /* later ones count in the totals only */
#define PROFILE_SECONDS 86400u
#define PROFILE_BUCKETS 10

extern const double profile_bucket_s[PROFILE_BUCKETS]; /* upper bounds */

typedef struct profile_event {
  double at_s; /* since the profile began */
  double wall_ms;
  uint32_t kind;
} profile_event;

typedef struct profile_kind {
  uint64_t count;
  double total_ms, mean_ms, p95_ms, max_ms;
} profile_kind;

typedef struct profile {
  double seconds;
  uint64_t count;
  double total_ms, mean_ms, max_ms;
  double per_second;      /* collections */
  double share_percent;   /* of the time */
  double seconds_p95_ms;  /* P95 over seconds of the longest pause */
  profile_kind kind[MG_PAUSE_KINDS];
  uint64_t bucket[PROFILE_BUCKETS + 1]; /* each alone; the last: above all */
} profile;

/** Sums up `count` events of a profile of `seconds`. Orders `events` anew. */
void profile_of(profile *out, profile_event *events, size_t count, double seconds);

/** Advice in words, one sentence a line. @param is_node rather than CPython. */
#define PROFILE_ADVICE_BYTES 1024
void profile_advise(char out[PROFILE_ADVICE_BYTES], const profile *seen, bool is_node);

#endif
