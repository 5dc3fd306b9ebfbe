/* leak_replay.c - recorded values through a detector of their own. */
#include "memguard/leak.h"

#include "internal.h"

#define REPLAY_FOUND 16u

mg_status mg_leak_replay(const mg_leak_settings *settings,
                         const mg_leak_limits *limits,
                         const mg_leak_point *points, size_t count,
                         mg_leak_change *out, size_t max, size_t *out_count,
                         mg_error *err) {
  mg_leak_finding found[REPLAY_FOUND];
  mg_leak *leak;
  mg_status st = mg_leak_open(&leak, settings, err);

  *out_count = 0;
  if (st != MG_OK) return st;
  for (size_t i = 0; i < count && st == MG_OK; i++) {
    size_t changes;
    uint32_t series;
    st = mg_leak_name(leak, points[i].name, &series, err);
    if (st != MG_OK) break;
    mg_leak_note(leak, series, points[i].value, points[i].now_ms);
    changes = mg_leak_judge(leak, points[i].now_ms, limits, found, REPLAY_FOUND);
    for (size_t k = 0; k < changes; k++, ++*out_count)
      if (*out_count < max)
        out[*out_count] = (mg_leak_change){points[i].now_ms, found[k]};
  }
  mg_leak_close(leak);
  return st;
}
