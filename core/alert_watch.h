/* alert_watch.h - what a monitor knows of its alerts. */
#ifndef MG_CORE_ALERT_WATCH_H
#define MG_CORE_ALERT_WATCH_H

#include "internal.h"
#include "memguard/alert.h"

typedef struct mg__alert_finding {
  uint64_t number;
  bool is_critical;
  char signal[MG_ALERT_SUBJECT_BYTES];
} mg__alert_finding;

/** What a monitor remembers between two samples; its lock guards it, but for
 *  `newest`. */
typedef struct mg__alert_watch {
  mg_alerts *alerts; /* [owned] */
  uint32_t forks;    /* as of the last sample */
  uint64_t pauses;   /* looked at so far */
  double slow_ms;    /* when what costs more is due */
  double unreclaimable, rss_growth, heap_growth; /* facts of this sample */
  bool fd_warned, told_previous, has_findings_due;
  uint32_t findings; /* that are alerts */
  mg__alert_finding finding[MG_DETECTOR_FINDINGS];
  _Atomic uint64_t newest; /* change */
} mg__alert_watch;

void mg__alert_watch_close(mg__alert_watch *watch);
/** What an event of the monitor says of alerts. */
void mg__alert_watch_event(mg__alert_watch *watch, const mg_event *event);
/** Growth is judged with this sample. */
void mg__alert_watch_record(mg__alert_watch *watch);
/** Judges a sample, after its events. @param detector [borrowed, may be NULL]
 *  @return whether there are changes, as severe as `out_severity`. */
bool mg__alert_watch_sample(mg__alert_watch *watch, const mg_config *config,
                            const mg_sample *sample, mg_detector *detector,
                            mg_health *out_severity);

#endif
