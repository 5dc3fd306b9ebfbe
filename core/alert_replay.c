/* alert_replay.c - alerts of a tracker as text, and a tracker of recorded facts. */
#include <math.h>
#include <string.h>

#include "alert_parts.h"
#include "memguard/alert.h"
#include "memguard/leak.h"

#define REPLAY_CHANGES 16u
#define REPLAY_LEAK MG_ALERT_FACTS /* where the numbers of a leak begin */

static void replay_write_changes(mg__json *json, const mg_alerts *alerts,
                                 uint64_t after) {
  mg_alert change[REPLAY_CHANGES];
  size_t count;

  mg__json_array(json, "changes");
  do {
    count = mg_alerts_changes(alerts, after, change, REPLAY_CHANGES);
    for (size_t i = 0; i < count; i++) mg__alert_write(json, NULL, &change[i]);
    if (count > 0) after = change[count - 1].number;
  } while (count == REPLAY_CHANGES);
  mg__json_end(json);
}

static void replay_write_stats(mg__json *json, const mg_alerts_stats *stats) {
  mg__json_object(json, "stats");
#define REPLAY_STAT(field) mg__json_uint(json, #field, stats->field);
  REPLAY_STAT(changes)
  REPLAY_STAT(evicted)
  REPLAY_STAT(fired)
  REPLAY_STAT(resolved)
  REPLAY_STAT(repeats)
  REPLAY_STAT(held)
  REPLAY_STAT(overflow)
#undef REPLAY_STAT
  mg__json_end(json);
}

mg_status mg__alerts_text(const mg_alerts *alerts, uint64_t after, char **out,
                          mg_error *err) {
  mg_alert active[MG_ALERT_SLOTS];
  mg__json json = MG__JSON_INIT;
  mg_alerts_stats stats;
  size_t count = mg_alerts_active(alerts, active, MG_ALERT_SLOTS), bytes;

  mg_alerts_read_stats(alerts, &stats);
  mg__json_object(&json, NULL);
  mg__json_array(&json, "active");
  for (size_t i = 0; i < count; i++) mg__alert_write(&json, NULL, &active[i]);
  mg__json_end(&json);
  replay_write_changes(&json, alerts, after);
  mg__json_uint(&json, "lost",
                stats.evicted > after ? stats.evicted - after : 0);
  replay_write_stats(&json, &stats);
  mg__json_end(&json);
  *out = mg__json_take(&json, &bytes);
  return *out != NULL ? MG_OK : mg__fail(err, MG_ENOMEM, "alerts as text");
}

static mg_severity replay_severity(double number) {
  return number >= (double)MG_SEVERITY_CRITICAL  ? MG_SEVERITY_CRITICAL
         : number >= (double)MG_SEVERITY_WARNING ? MG_SEVERITY_WARNING
                                         : MG_SEVERITY_INFO;
}

static void replay_row(mg_alerts *alerts, const mg_config *config,
                       const double *row) {
  const double *told = row + REPLAY_LEAK;
  mg_alert_facts facts;
  mg_alert_leak leak;
  uint32_t series;

  memcpy(&facts, row, sizeof facts);
  if (!isnan(told[0])) {
    series = told[0] >= 0 && told[0] < (double)MG_LEAK_SIGNALS ? (uint32_t)told[0] : 0;
    leak = (mg_alert_leak){
        .now_ms = facts.now_ms,
        .unix_ms = facts.unix_ms,
        .signal = mg_detector_signal_name(series),
        .severity = replay_severity(told[1]),
        .growth_per_minute = told[2],
        .is_over = told[3] > 0,
        .is_descriptors = series >= MG_LEAK_FDS && series <= MG_LEAK_FD_OTHERS};
    (void)mg_alerts_leak(alerts, config, &leak);
  }
  (void)mg_alerts_judge(alerts, config, &facts);
}

mg_status mg_alert_replay(const mg_config *config, const double *rows,
                          size_t count, char **out, mg_error *err) {
  mg_alerts *alerts;
  mg_status st = mg_alerts_open(&alerts, err);

  *out = NULL;
  if (st != MG_OK) return st;
  for (size_t i = 0; i < count; i++)
    replay_row(alerts, config, rows + i * MG_ALERT_ROW);
  st = mg__alerts_text(alerts, 0, out, err);
  mg_alerts_close(alerts);
  return st;
}
