/* memguard/alert.h - what is wrong now, said once, and until it is over.
 *
 * Three parts, all pure but for the functions of a monitor at the end:
 *
 *   tracker   facts of each sample -> alerts. One state machine for each kind and
 *             subject (which signal leaks, which memory grows):
 *
 *               idle --true--> pending --`for`--> firing --false--> clearing
 *                                                    ^                 |  clear for
 *                                                    +------true-------+  resolve_after
 *               waiting <--true-- cooling <--resolved------------------+
 *
 *             A flapping condition stays one alert that counts its `repeats`. One
 *             that comes back within `cooldown` of its end waits: it fires, with
 *             all of that counted, when the cooldown is over and it is still true.
 *             Nothing else is held back.
 *   history   every change (firing, more severe, resolved) has a number. The newest
 *             alert_history_size are kept, what is evicted is counted.
 *   outbox    what one receiver still has to be told: the latest state of each alert,
 *             retried with back-off, re-sent while it fires if the receiver forgets.
 *
 * Threads: trackers and outboxes belong to one thread at a time; functions that take
 * a mg_monitor may be called by any. Nothing here does I/O or calls back. */
#ifndef MEMGUARD_ALERT_H
#define MEMGUARD_ALERT_H

#include "memguard/config.h"
#include "memguard/level.h"
#include "memguard/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_ALERT_SLOTS 32u        /* kinds and subjects followed at the same time */
#define MG_ALERT_SUBJECT_BYTES 32 /* with its NUL, as the others */
#define MG_ALERT_CULPRIT_BYTES 160
#define MG_ALERT_TEXT_BYTES 320   /* holds any summary */

/** X(ID, name, severity, unit of value and threshold, title, doc) */
#define MG_ALERT_MAP(X)                                                       \
  X(HIGH_USAGE, "high_usage", WARNING, "ratio", "Memory use is high",         \
    "Usage of the nearest limit is above alert_threshold.")                   \
  X(CRITICAL, "critical", CRITICAL, "ratio", "Memory use is critical",        \
    "Usage of the nearest limit is above force_gc_threshold.")                \
  X(GC_HIGH, "gc_high", WARNING, "ratio", "Collections take much time",       \
    "Garbage collections take more than gc_high_percent of the process's "    \
    "CPU time.")                                                              \
  X(MEMORY_LEAK, "memory_leak", WARNING, "per_minute", "Memory leaks",        \
    "The leak detector finds growth that does not end; the value is the "     \
    "growth in bytes, blocks or objects.")                                    \
  X(OUT_OF_MEMORY, "out_of_memory", CRITICAL, "ratio", "Memory is used up",   \
    "The limit is reached, or usage is critical and nothing that can be "     \
    "done gives memory back.")                                                \
  X(RAPID_GROWTH, "rapid_growth", WARNING, "mb_per_minute",                   \
    "Memory grows fast",                                                      \
    "Resident memory or heap grows faster than rapid_growth_mb_per_minute.")  \
  X(FD_LEAK, "fd_leak", WARNING, "descriptors", "Descriptors are not closed", \
    "Open descriptors are many, or become more all the time.")                \
  X(LONG_PAUSE, "long_pause", WARNING, "seconds",                             \
    "A collection took long",                                                 \
    "A garbage collection took longer than long_pause.")                      \
  X(UNRECLAIMABLE, "unreclaimable", CRITICAL, "ratio",                        \
    "Memory cannot be given back",                                            \
    "Everything that memguard may do was tried and freed next to nothing.")   \
  X(PREVIOUS_OOM, "previous_oom", WARNING, "ratio",                           \
    "The previous run ended out of memory",                                   \
    "The run of this program before this one ended without notice at its "    \
    "memory limit, or together with an OOM kill in its control group.")

typedef enum mg_alert_kind {
#define MG_ALERT_ENUM(id, name, severity, unit, title, doc) MG_ALERT_##id,
  MG_ALERT_MAP(MG_ALERT_ENUM)
#undef MG_ALERT_ENUM
      MG_ALERTS
} mg_alert_kind;

/** X(ID, name) in rising order */
#define MG_SEVERITY_MAP(X) \
  X(INFO, "info")          \
  X(WARNING, "warning")    \
  X(CRITICAL, "critical")

typedef enum mg_severity {
#define MG_SEVERITY_ENUM(id, name) MG_SEVERITY_##id,
  MG_SEVERITY_MAP(MG_SEVERITY_ENUM)
#undef MG_SEVERITY_ENUM
      MG_SEVERITIES
} mg_severity;

/** X(ID, name): what others see. Pending and waiting ones are nobody's business. */
#define MG_ALERT_STATE_MAP(X) \
  X(FIRING, "firing")         \
  X(RESOLVED, "resolved")

typedef enum mg_alert_state {
#define MG_ALERT_STATE_ENUM(id, name) MG_ALERT_##id,
  MG_ALERT_STATE_MAP(MG_ALERT_STATE_ENUM)
#undef MG_ALERT_STATE_ENUM
      MG_ALERT_STATES
} mg_alert_state;

/** One alert as it is, or as it was at a change. 256 bytes, without padding: it
 *  stands in segments as it is. */
typedef struct mg_alert {
  uint64_t number;   /* of its latest change; 1 for a tracker's first */
  uint32_t kind;     /* mg_alert_kind */
  uint32_t severity; /* mg_severity */
  uint32_t state;    /* mg_alert_state */
  uint32_t repeats;  /* times the condition came back before it was over */
  uint64_t since_unix_ms;    /* when the condition began to hold */
  uint64_t last_unix_ms;     /* when it held last */
  uint64_t resolved_unix_ms; /* 0 while it fires */
  double value, threshold;   /* worst value so far; NaN: unknown */
  char subject[MG_ALERT_SUBJECT_BYTES]; /* memory_leak: signal; rapid_growth:
                                           "rss", "heap"; else "" */
  char culprit[MG_ALERT_CULPRIT_BYTES]; /* who it is, where that is known */
} mg_alert;

/** Names of the lists above; "unknown" for a foreign value. */
MG_API const char *mg_alert_name(mg_alert_kind kind);
MG_API const char *mg_alert_unit(mg_alert_kind kind);
MG_API const char *mg_alert_title(mg_alert_kind kind);
MG_API const char *mg_alert_doc(mg_alert_kind kind);
MG_API const char *mg_severity_name(mg_severity severity);
MG_API const char *mg_alert_state_name(mg_alert_state state);

/** One line that says it all: "Memory use is high: 91.2 % (from 90.0 %)". Pure.
 *  @return its length. */
MG_API size_t mg_alert_summary(const mg_alert *alert,
                               char out[MG_ALERT_TEXT_BYTES]);

/** The alert as a JSON object: kind, severity, state, since_unix_ms,
 *  last_unix_ms, resolved_unix_ms (null while it fires), value, threshold (null
 *  if unknown), unit, summary, culprit ("" if unknown), subject, repeats, number.
 *  Any bytes in texts come out as valid JSON in UTF-8. Pure.
 *  @return its length without the NUL, 0 without memory; `out` holds it if that is
 *  less than `out_bytes`, else nothing. MG_ALERT_JSON_BYTES are always enough. */
#define MG_ALERT_JSON_BYTES 4096
MG_API size_t mg_alert_json(const mg_alert *alert, char *out,
                            size_t out_bytes);

/* ---- tracker ----------------------------------------------------------- */

/** X(name): what is known at one moment, as numbers; NaN: unknown.
 *  usage, level          ratio of the nearest limit; mg_level
 *  gc_ms, cpu_ms         spent collecting, and CPU time of the process, so far; NaN:
 *                        not told now
 *  pause_ms              longest collection since the facts before; 0: none
 *  unreclaimable         1: a round just gave up; else 0
 *  rss_growth, heap_growth  MB per minute where that is rapid growth, 0 where it is
 *                        not; NaN: not judged now, so as before
 *  fd_count              open descriptors
 *  fd_warned             1: the detector warns of them; 0: it does not
 *  previous_oom          usage at the end of a run before this one that ended "OOM
 *                        likely", told once; NaN: none */
#define MG_ALERT_FACT_MAP(X)                                      \
  X(now_ms) X(unix_ms) X(usage) X(level) X(gc_ms) X(cpu_ms)       \
  X(pause_ms) X(unreclaimable) X(rss_growth) X(heap_growth)       \
  X(fd_count) X(fd_warned) X(previous_oom)

typedef struct mg_alert_facts {
#define MG_ALERT_FACT_FIELD(name) double name;
  MG_ALERT_FACT_MAP(MG_ALERT_FACT_FIELD)
#undef MG_ALERT_FACT_FIELD
} mg_alert_facts;

/** What a leak detector says of one signal. */
typedef struct mg_alert_leak {
  double now_ms, unix_ms;
  const char *signal;  /* [borrowed] its name: "heap", "rss", "fds", ... */
  mg_severity severity;
  bool is_over;        /* withdrawn */
  bool is_descriptors; /* an fd_leak, not a memory_leak */
  double growth_per_minute;
  const char *culprit; /* [borrowed, may be NULL] */
} mg_alert_leak;

typedef struct mg_alerts_stats {
  uint64_t changes;  /* number of the newest one */
  uint64_t evicted;  /* of them, no longer in the history */
  uint64_t fired, resolved;
  uint64_t repeats;  /* times a condition came back to an alert that was not over */
  uint64_t held;     /* times one came back within the cooldown */
  uint64_t overflow; /* times a subject found no slot: it was not followed */
} mg_alerts_stats;

typedef struct mg_alerts mg_alerts;

/** @param out [owned] @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_alerts_open(mg_alerts **out, mg_error *err);
MG_API void mg_alerts_close(mg_alerts *alerts);
/** Judges one moment under `config`. Some 100 ns where nothing happens. With
 *  alerts_enabled false all that fires is resolved.
 *  @return whether there are new changes. */
MG_API bool mg_alerts_judge(mg_alerts *alerts, const mg_config *config,
                            const mg_alert_facts *facts);
/** The same of a leak; in force until it is over. */
MG_API bool mg_alerts_leak(mg_alerts *alerts, const mg_config *config,
                           const mg_alert_leak *leak);
/** Copies what fires, in order of its beginning. @return how many there are. */
MG_API size_t mg_alerts_active(const mg_alerts *alerts, mg_alert *out,
                               size_t max);
/** Copies the changes after number `after`, oldest first: the oldest `max` that are
 *  still there. @param out [may be NULL] then all are counted. @return how many. */
MG_API size_t mg_alerts_changes(const mg_alerts *alerts, uint64_t after,
                                mg_alert *out, size_t max);
MG_API void mg_alerts_read_stats(const mg_alerts *alerts,
                                 mg_alerts_stats *out);

/* ---- outbox ------------------------------------------------------------ */

#define MG_OUTBOX_ALERTS 64u    /* kinds and subjects held at most */
#define MG_OUTBOX_FIRST_MS 1000.0 /* before the first try again, then doubled */
#define MG_OUTBOX_MOST_MS 60000.0

/** X(ID, name) What a receiver is sent.
 *  webhook       {"version":1,"service":…,"program":…,"runtime":…,"pid":…,
 *                "instance":…,"alerts":[as mg_alert_json()]}
 *  alertmanager  the array of POST /api/v2/alerts: labels alertname, severity,
 *                service, program, runtime, pid, instance, subject (if it has one);
 *                annotations summary, description, culprit, runbook_url */
#define MG_OUTBOX_MAP(X)   \
  X(WEBHOOK, "webhook")    \
  X(ALERTMANAGER, "alertmanager")

typedef enum mg_outbox_format {
#define MG_OUTBOX_ENUM(id, name) MG_OUTBOX_##id,
  MG_OUTBOX_MAP(MG_OUTBOX_ENUM)
#undef MG_OUTBOX_ENUM
      MG_OUTBOX_FORMATS
} mg_outbox_format;

/** Texts are copied, at most 255 bytes of each; NULL: empty. */
typedef struct mg_outbox_options {
  size_t struct_bytes; /* sizeof(mg_outbox_options), set by the macro below */
  mg_outbox_format format;
  double resend_ms; /* what fires is sent again this often; 0: never. Alertmanager is
                       told that an alert ends by itself after 4 of these. */
  double least_ms;  /* what fired is not called resolved before the receiver knew it
                       as firing for so long, so that one which groups alerts before
                       it notifies does not miss a short one */
  double retry_first_ms, retry_most_ms; /* back-off after a failure */
  uint32_t pid;
  const char *service, *program, *runtime, *instance;
  const char *runbook; /* URL; '#' and the kind are added to it */
} mg_outbox_options;
#define MG_OUTBOX_OPTIONS_INIT                                        \
  {sizeof(mg_outbox_options), MG_OUTBOX_WEBHOOK, 0.0, 0.0,            \
   MG_OUTBOX_FIRST_MS, MG_OUTBOX_MOST_MS, 0, NULL, NULL, NULL, NULL, NULL}

typedef struct mg_outbox_stats {
  uint64_t waiting;   /* alerts whose latest state was not delivered yet */
  uint64_t sent;      /* requests that were accepted */
  uint64_t delivered; /* alerts in them */
  uint64_t failures;  /* requests that were not */
  uint64_t failures_in_a_row;
  uint64_t overflow;  /* alerts given up undelivered because of
                         MG_OUTBOX_ALERTS newer ones */
} mg_outbox_stats;

typedef struct mg_outbox mg_outbox;

/** @param out [owned] @return MG_OK, MG_EINVAL, MG_ENOMEM. */
MG_API mg_status mg_outbox_open(mg_outbox **out,
                                const mg_outbox_options *options,
                                mg_error *err);
MG_API void mg_outbox_close(mg_outbox *outbox);
/** The latest state of an alert; it takes the place of the one before. */
MG_API void mg_outbox_put(mg_outbox *outbox, const mg_alert *alert,
                          double now_ms);
/** Time until mg_outbox_take() has something: 0 if it has, INFINITY if never. */
MG_API double mg_outbox_due_ms(const mg_outbox *outbox, double now_ms);
/** The body of a request with all that is due, back-off or not if `is_last`.
 *  Answer with mg_outbox_done().
 *  @param out [owned] release with mg_free_text(); NULL: nothing is due, or the
 *  request before was not answered yet. @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_outbox_take(mg_outbox *outbox, double now_ms,
                                double unix_ms, bool is_last, char **out,
                                mg_error *err);
/** How that request ended. @param wait_ms what the receiver asked for (Retry-After),
 *  held inside retry_most_ms; 0: nothing. */
MG_API void mg_outbox_done(mg_outbox *outbox, bool was_accepted, double wait_ms,
                           double now_ms);
MG_API void mg_outbox_read_stats(const mg_outbox *outbox,
                                 mg_outbox_stats *out);

/* ---- a monitor's ------------------------------------------------------- */

struct mg_monitor;

/** The alerts of a monitor as one JSON object: "active": [as mg_alert_json()],
 *  "changes": [those after number `after`, oldest first], "lost": how many of
 *  these are no longer in the history, and "stats": the fields of mg_alerts_stats.
 *  Any thread. @param out [owned] release with mg_free_text().
 *  @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_monitor_alerts(const struct mg_monitor *monitor,
                                   uint64_t after, char **out, mg_error *err);
/** Number of the newest change. Any thread, one atomic load. */
MG_API uint64_t mg_monitor_alert_number(const struct mg_monitor *monitor);
/** What changed so far is not news to this outbox; what fires now is, if
 *  `with_active`. Monitor: any thread. */
MG_API void mg_outbox_begin(mg_outbox *outbox,
                            const struct mg_monitor *monitor,
                            bool with_active, double now_ms);
/** Puts all that changed since the last call into an outbox; of what the history
 *  does not hold any more, what still fires. Monitor: any thread. */
MG_API void mg_outbox_follow(mg_outbox *outbox,
                             const struct mg_monitor *monitor, double now_ms);

/** A row of mg_alert_replay(): MG_ALERT_FACTS numbers in the order of the map, then
 *  four of a leak: signal (mg_leak_signal; NaN: no leak is told), severity,
 *  growth_per_minute, is_over. */
enum {
#define MG_ALERT_FACT_ENUM(name) MG_ALERT_FACT_##name,
  MG_ALERT_FACT_MAP(MG_ALERT_FACT_ENUM)
#undef MG_ALERT_FACT_ENUM
      MG_ALERT_FACTS,
  MG_ALERT_ROW = MG_ALERT_FACTS + 4
};
/** What a tracker makes of facts, for tests and for who wants to know beforehand.
 *  As mg_monitor_alerts() with all changes. Pure.
 *  @param out [owned] mg_free_text(). @return MG_OK, MG_ENOMEM. */
MG_API mg_status mg_alert_replay(const mg_config *config, const double *rows,
                                 size_t count, char **out, mg_error *err);

#ifdef __cplusplus
}
#endif
#endif
