/* memguard/detector.h - watches one monitor's process for leaks.
 *
 * leak.h decides; a detector brings it the numbers and carries its verdicts out:
 *
 *   each sample       (under a time_scale four in a block of the smallest window,
 *                     whatever sample_interval says) resident set, descriptors, threads; heap and blocks once a
 *                     full collection was told
 *   wide reading      private memory, descriptors by kind, mappings, counters of the
 *                     monitor (keys of up to 55 bytes), rentals; then the
 *                     judgement. As often as the smallest window needs it, MG_DETECTOR_WIDE_MS at most apart
 *                     (divided by leak.time_scale), and never more than one
 *                     hundredth of the time is spent on it (a quarter at most
 *                     where a time scale compresses time)
 *   native            private memory - heap reserved - memory that the heap owns,
 *                     counted from the least it ever was if that is below 0
 *
 *   memory rises      the binding is asked for a full collection in each block, if
 *                     the last one was short (leak_collect; by processor time, where
 *                     that is told)
 *   suspect           for longer ones too, in 1 % of the time (25 % under a
 *                     time_scale); and for a census
 *   suspect and up    descriptors and mappings are counted by name, twice; the
 *                     difference names the culprits
 *   change of tier    an event of the monitor: leak:suspected, leak:warning (likely
 *                     or confirmed), leak:critical (the limit is near, or confirmed
 *                     with severity high), leak:withdrawn; each with the number of
 *                     its finding
 *
 * Descriptors are watched by themselves too: fd:warning when fd_warning_count is
 * reached, or their least number in a quarter of a minute grew by more than
 * fd_growth_per_minute against the minute before. Once, until it is over.
 *
 * Wide readings and judgements run on the sampler thread between samples, with no
 * lock of a monitor held; without a running sampler, inside mg_monitor_pass().
 *
 * Fork: the child starts anew. Without /proc its signals are absent: no alarm.
 *
 * Threads: any thread may call any function on an open detector, and open and
 * close one while its monitor samples. A monitor that is closed first leaves the
 * detector behind: it then sees nothing more and is closed as ever. */
#ifndef MEMGUARD_DETECTOR_H
#define MEMGUARD_DETECTOR_H

#include "memguard/census.h"
#include "memguard/leak.h"
#include "memguard/monitor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_DETECTOR_WIDE_MS 60000.0
#define MG_DETECTOR_FINDINGS 32u /* remembered: a new one takes the place of the
                                    oldest that is over, and waits if none is */
#define MG_CULPRITS_MAX 8u      /* kept with a finding */
#define MG_ADVICE_BYTES 512      /* holds any advice */

/** X(ID, bit, name): what a binding may be asked for.
 *  collect      a full collection, told with mg_detector_collected()
 *  census_base  count by type now and keep it
 *  census       count by type and tell what grew since the base, largest first
 *  trace_start  note allocation sites from now on
 *  trace_stop   stop, and tell the sites that hold what was not freed */
#define MG_REQUEST_MAP(X)              \
  X(COLLECT, 0, "collect")             \
  X(CENSUS_BASE, 1, "census_base")     \
  X(CENSUS, 2, "census")               \
  X(TRACE_START, 3, "trace_start")     \
  X(TRACE_STOP, 4, "trace_stop")

typedef enum mg_request {
#define MG_REQUEST_ENUM(id, bit, name) MG_REQUEST_##id = 1 << (bit),
  MG_REQUEST_MAP(MG_REQUEST_ENUM)
#undef MG_REQUEST_ENUM
} mg_request;
#define MG_REQUEST_BITS 5

typedef enum mg_runtime_kind {
  MG_RUNTIME_PYTHON,
  MG_RUNTIME_NODE
} mg_runtime_kind;

typedef struct mg_detector_options {
  size_t struct_bytes; /* sizeof(mg_detector_options), set by the macro below */
  mg_runtime_kind runtime;
  uint32_t answers; /* mg_request bits that the binding will answer */
  /** The heap as it is now, for `native`: total and external bytes. Called on any
   *  thread without a lock of memguard: must not block or take the runtime's
   *  lock. NULL, or MG_ABSENT as total: what mg_monitor_set_heap() told. */
  void (*read_heap)(void *ctx, mg_heap *out);
  void *ctx;
} mg_detector_options;
#define MG_DETECTOR_OPTIONS_INIT \
  {sizeof(mg_detector_options), MG_RUNTIME_PYTHON, 0, NULL, NULL}

/** What is told of a suspicion. */
typedef struct mg_detector_finding {
  uint64_t number; /* 1 for the first; one for each time a signal is suspected */
  mg_leak_finding leak; /* its tier is MG_LEAK_NONE once withdrawn */
  uint64_t since_unix_ms;  /* when it was first suspected */
  uint64_t update_unix_ms; /* when its tier or culprits changed last */
  uint32_t culprits;       /* how many there are below */
  mg_culprit culprit[MG_CULPRITS_MAX]; /* largest share first, by kind told */
} mg_detector_finding;

typedef struct mg_detector_stats {
  uint64_t samples;     /* taken in */
  uint64_t collections; /* full ones told */
  uint64_t wide;        /* wide readings, each with a judgement */
  uint64_t findings;    /* suspicions so far */
  uint64_t withdrawn;   /* of them over */
  uint64_t alarms;      /* leak:warning and leak:critical so far */
  uint64_t private_bytes, native_bytes; /* of the last wide reading, or
                                           MG_ABSENT */
  uint64_t sockets, pipes, files, others, mappings; /* the same */
  double wide_ms;              /* what it took */
  double wide_every_ms;        /* time to the next one */
  double fd_growth_per_minute; /* as fd:warning tells; NaN: not known yet */
} mg_detector_stats;

typedef struct mg_detector mg_detector;

/** Opens a detector and has the samples of `monitor` offered to it. Settings are
 *  those of the monitor, section `leak`; a change of them counts from the next
 *  sample on, one of times, of leak_detection or of leak_min_growth_mb starts
 *  anew.
 *  @param out [owned] @param monitor [borrowed] @param options [borrowed] copied.
 *  @return MG_OK, MG_EEXISTS (the monitor has one), MG_EINVAL, MG_ENOMEM. */
MG_API mg_status mg_detector_open(mg_detector **out, mg_monitor *monitor,
                                  const mg_detector_options *options,
                                  mg_error *err);
/** When it returns nothing of it runs. Not inside `read_heap`. NULL allowed. */
MG_API void mg_detector_close(mg_detector *detector);

/** Leaves the monitor, which may then get another detector; findings stay
 *  readable. When it returns nothing of it runs. What close() begins with. */
MG_API void mg_detector_leave(mg_detector *detector);

/** Pauses (false), or goes on and starts anew (true, as opened). Findings stay
 *  readable while it pauses. */
MG_API void mg_detector_set_active(mg_detector *detector, bool is_active);
/** Whether it takes samples in: active, leak_detection and enabled are on, and
 *  the monitor is open. */
MG_API bool mg_detector_is_active(const mg_detector *detector);

/* ---- telling ------------------------------------------------------------------- */

/** A collection ended. No lock, no allocation: may be called inside a runtime's
 *  collection callback. Partial ones are passed over.
 *  @param live_bytes heap in use, with memory it owns outside; or MG_ABSENT.
 *  @param live_blocks blocks or objects; or MG_ABSENT.
 *  @param duration_ms processor time if known. Below 0: these numbers were read after a collection that
 *  was told before. */
MG_API void mg_detector_collected(mg_detector *detector, uint64_t live_bytes,
                                  uint64_t live_blocks, double duration_ms,
                                  bool is_full);
/** A number that only the binding knows: MG_LEAK_CONNECTIONS, MG_LEAK_HANDLES.
 *  The next samples carry it until it is told anew; MG_ABSENT ends that.
 *  MG_LEAK_CODE, part of the heap, is told right after a full collection and noted
 *  once. No lock.
 *  @return MG_OK, MG_EINVAL (another series). */
MG_API mg_status mg_detector_tell(mg_detector *detector, uint32_t series,
                                  uint64_t value, mg_error *err);
/** A wide reading and a judgement now, on this thread, whether due or not. Raises
 *  events, calls the monitor's hooks. Nothing while it is not active. */
MG_API void mg_detector_check(mg_detector *detector);

/* ---- asking -------------------------------------------------------------------- */

/** Takes what the binding should do now, mg_request bits among its `answers`.
 *  Asked for when woken, on the runtime's own thread: the monitor's hooks are
 *  called when there is something.
 *  @param out_series [may be NULL] what culprits of a census or a trace are to be
 *  told for; undefined if the answer has no such bit. */
MG_API uint32_t mg_detector_request(mg_detector *detector,
                                    uint32_t *out_series);
/** Whether mg_detector_request() would answer. One atomic load. */
MG_API bool mg_detector_has_request(const mg_detector *detector);
/** Culprits found for `series`: they take the place of those of the same kinds.
 *  Where they are counted in the same unit as the signal (types and sites for heap
 *  and blocks, descriptors for descriptors, mappings for native memory), the
 *  largest share counts as an explanation (leak.h).
 *  @param culprits largest first; at most MG_CULPRITS_MAX are kept.
 *  @return MG_OK, MG_ENOTFOUND (no finding for it any more; nothing changed). */
MG_API mg_status mg_detector_culprits(mg_detector *detector, uint32_t series,
                                      const mg_culprit *culprits, size_t count,
                                      mg_error *err);

/** Copies the findings that are not over, oldest first. @param out [may be NULL]
 *  @return how many there are. */
MG_API size_t mg_detector_findings(const mg_detector *detector,
                                   mg_detector_finding *out, size_t max);
/** Finding `number`, also when it is over. @return false if not remembered. */
MG_API bool mg_detector_finding_at(const mg_detector *detector, uint64_t number,
                                   mg_detector_finding *out);
MG_API void mg_detector_read_stats(const mg_detector *detector,
                                   mg_detector_stats *out);

/** The exact command that looks deeper into a finding of this process, the best
 *  one first: one line for a shell, with the process id.
 *  @param index 0 for the first.
 *  @return false beyond the last; `out` is then empty. Pure but for the id. */
MG_API bool mg_detector_advice(const mg_detector_finding *finding,
                               mg_runtime_kind runtime, size_t index,
                               char out[MG_ADVICE_BYTES]);

/** @return "heap" and so on for a signal, "unknown" for another series. */
MG_API const char *mg_detector_signal_name(uint32_t series);
/** @return "collect" and so on; "unknown" for a foreign value. */
MG_API const char *mg_request_name(mg_request request);

#ifdef __cplusplus
}
#endif
#endif
