/* memguard/advice.h - how large V8's spaces should be under a memory limit.
 *
 * V8 sizes itself by the machine or container it finds, to a quarter of it at
 * most, and gives its young generation what the version's authors chose. This
 * says what to start it with instead:
 *
 *   memory      limit x (1 - headroom) x share: V8's part. Headroom is for what
 *               is not V8's heap: buffers, code, stacks, the addon's and libc's
 *   semi space  a twelfth of that, as a power of two (V8 rounds up to one), from
 *               1 MB to 16 MB. With a headroom of a quarter that is a sixteenth
 *               of the limit, and 16 MB from 256 MiB on. A scavenge copies what
 *               is alive, and more is in a larger space: with 64 MB two programs
 *               paused twice as long, took 60 % more resident memory and were not
 *               faster; with 8 MB they lost 6 and 14 % of their speed
 *   young       three semi spaces, which is what V8 reserves for it
 *   old space   the rest; at least 16 MB, which Node still starts with, at
 *               most 4096 MB: what V8 allows itself where memory is plentiful.
 *               A heap beyond that is a choice of the host's
 *
 * An unknown limit leaves the old space to V8.
 *
 * Source: V8's own division of its heap (Heap::ConfigureHeap), and measured
 * pauses, throughput and time in GC with semi spaces of 8 to 64 MB on Node 20.
 *
 * Threads: pure. */
#ifndef MEMGUARD_ADVICE_H
#define MEMGUARD_ADVICE_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_V8_NODE_LEAST 16u  /* oldest major version advised */
#define MG_V8_HEADROOM 0.25   /* unless the host says otherwise */
#define MG_V8_HEADROOM_MAX 0.9
#define MG_V8_SEMI_MAX_MB 16u
#define MG_V8_OLD_LEAST_MB 16u
#define MG_V8_OLD_MAX_MB 4096u

typedef struct mg_v8_view {
  uint64_t limit_bytes; /* MG_ABSENT: unknown */
  uint32_t node_major;  /* at least MG_V8_NODE_LEAST */
  double headroom;      /* 0 to MG_V8_HEADROOM_MAX */
  double share;         /* of V8's part, for one isolate; above 0, to 1 */
} mg_v8_view;

typedef struct mg_v8_advice {
  uint64_t old_space_mb;  /* --max-old-space-size; MG_ABSENT: leave it to V8 */
  uint32_t semi_space_mb; /* --max-semi-space-size */
  uint32_t young_mb;      /* maxYoungGenerationSizeMb of a Worker */
  bool is_capped;         /* the old space could be larger than is advised */
  bool is_tight;          /* there is less than the least old space */
  bool takes_semi_option; /* Node takes the semi space in NODE_OPTIONS (18 on) */
} mg_v8_advice;

/** @return MG_OK, MG_ERANGE (the error names the value and what is allowed). */
MG_API mg_status mg_v8_advise(mg_v8_advice *out, const mg_v8_view *view,
                              mg_error *err);

#ifdef __cplusplus
}
#endif
#endif
