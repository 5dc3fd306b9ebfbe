/* alert_parts.h - what the files about alerts have in common. */
#ifndef MG_CORE_ALERT_PARTS_H
#define MG_CORE_ALERT_PARTS_H

#include "internal.h"
#include "json.h"
#include "memguard/alert.h"

#define MG__ALERT_GC_WINDOW_MS 10000.0 /* of which the share of CPU time is taken */
#define MG__ALERT_GC_LEAST_CPU 0.05    /* of it, in use; less is no load to speak of */

/** Unit of its value, by kind and subject. */
const char *mg__alert_unit_of(const mg_alert *alert);
/** As mg_alert_json(), with a key where it stands in an object. */
void mg__alert_write(mg__json *json, const char *key, const mg_alert *alert);
/** Whether both are the same kind and subject. */
bool mg__alert_is_same(const mg_alert *a, const mg_alert *b);
/** Copies a text into a field, cut off between characters, the rest zero. */
void mg__alert_copy(char *out, size_t out_bytes, const char *text);

/* ---- alert.c ------------------------------------------------------------ */

/** Follows nothing any more, without a word; the history stays. */
void mg__alerts_forget(mg_alerts *alerts);

/* ---- alert_replay.c ----------------------------------------------------- */

/** mg_monitor_alerts(), for one that holds the lock of the alerts. */
mg_status mg__alerts_text(const mg_alerts *alerts, uint64_t after, char **out,
                          mg_error *err);

/* ---- alert_outbox.c ----------------------------------------------------- */

/** mg_outbox_begin() and mg_outbox_follow(), for one that holds the lock of the alerts. */
void mg__outbox_skip_changes(mg_outbox *outbox, const mg_alerts *alerts,
                             bool with_active, double now_ms);
void mg__outbox_take_changes(mg_outbox *outbox, const mg_alerts *alerts,
                             double now_ms);

#endif
