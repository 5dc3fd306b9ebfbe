/* monitor_state.c - what a monitor is told and asked. */
#include "memguard/monitor.h"

#include <string.h>

#include "internal.h"
#include "memguard/history.h"
#include "monitor_parts.h"

/* ---- state, under the lock --------------------------------------------- */

/* Reading functions take a const monitor; its lock is not part of what they
 * promise to leave alone. */
static mg__mutex *monitor_lock_of(const mg_monitor *m) {
  return (mg__mutex *)&m->lock;
}

void mg_monitor_read_config(const mg_monitor *m, mg_config *out) {
  mg__lock(monitor_lock_of(m));
  *out = m->config;
  mg__unlock(monitor_lock_of(m));
}

double mg_monitor_setting(const mg_monitor *m, mg_config_id id) {
  double value;

  mg__lock(monitor_lock_of(m));
  value = mg_config_get(&m->config, id);
  mg__unlock(monitor_lock_of(m));
  return value;
}

void mg_monitor_follow(mg_monitor *m, mg_buffers *buffers) {
  mg__lock(&m->lock);
  m->follow = buffers;
  mg__unlock(&m->lock);
}

void mg_monitor_join(mg_monitor *m, mg_reclaim *reclaim) {
  mg__lock(&m->lock);
  if (m->reclaim != NULL) mg__reclaim_leave(m->reclaim, m);
  if (reclaim != NULL) {
    m->rounds = mg__reclaim_count(reclaim);
    m->collections_before = mg__reclaim_collections(reclaim);
  }
  m->reclaim = reclaim;
  mg__unlock(&m->lock);
}

bool mg__monitor_detect(mg_monitor *m, mg_detector *detector) {
  bool is_free;

  mg__lock(&m->lock);
  is_free = detector == NULL || m->detector == NULL;
  if (is_free) m->detector = detector;
  mg__unlock(&m->lock);
  return is_free;
}

uint64_t mg__monitor_collections(const mg_monitor *m) {
  uint64_t count = 0;

  mg__lock(monitor_lock_of(m));
  if (m->reclaim != NULL)
    count = mg__reclaim_collections(m->reclaim) - m->collections_before;
  mg__unlock(monitor_lock_of(m));
  return count;
}

void mg_monitor_set_heap(mg_monitor *m, const mg_heap *heap) {
#define MONITOR_HEAP(field, value) \
  atomic_store_explicit(&m->field, value, memory_order_relaxed);
  MONITOR_HEAP(heap_used_bytes, heap->used_bytes)
  MONITOR_HEAP(heap_total_bytes, heap->total_bytes)
  MONITOR_HEAP(heap_limit_bytes, heap->limit_bytes)
  MONITOR_HEAP(external_bytes, heap->external_bytes)
  MONITOR_HEAP(array_buffer_bytes, heap->array_buffer_bytes)
#undef MONITOR_HEAP
}

void mg_monitor_set_page(mg_monitor *m, mg_page *page) {
  mg_sample latest;

  mg_monitor_latest(m, &latest);
  mg__lock(&m->lock);
  m->page = page;
  mg__monitor_mirror(m, &latest);
  mg__unlock(&m->lock);
}

void mg_monitor_set_interest(mg_monitor *m, uint32_t kinds) {
  mg__lock(&m->lock);
  m->interest = kinds;
  mg__unlock(&m->lock);
}

bool mg_monitor_next_event(mg_monitor *m, mg_event *out) {
  bool found;

  mg__lock(&m->lock);
  found = mg__events_pop(&m->events, out);
  mg__unlock(&m->lock);
  return found;
}

uint64_t mg_monitor_events_lost(const mg_monitor *m) {
  uint64_t lost;

  mg__lock(monitor_lock_of(m));
  lost = m->events.lost;
  mg__unlock(monitor_lock_of(m));
  return lost;
}

size_t mg_monitor_history(const mg_monitor *m, uint64_t since_unix_ms,
                          mg_sample *out, size_t max) {
  size_t held, first, count = 0;

  mg__lock(monitor_lock_of(m));
  held = mg_history_count(m->history);
  for (first = 0; first < held; first++)
    if (mg_history_at(m->history, first)->unix_ms >= since_unix_ms) break;
  count = held - first;
  if (out != NULL && count > max) {
    first += count - max;
    count = max;
  }
  for (size_t i = 0; out != NULL && i < count; i++)
    out[i] = *mg_history_at(m->history, first + i);
  mg__unlock(monitor_lock_of(m));
  return count;
}

void mg_monitor_trends(const mg_monitor *m, size_t count, mg_trend *out_rss,
                       mg_trend *out_heap) {
  mg__lock(monitor_lock_of(m));
  mg__growth_trend(m->history, count, MG__SERIES_RSS, out_rss);
  mg__growth_trend(m->history, count, MG__SERIES_HEAP, out_heap);
  mg__unlock(monitor_lock_of(m));
}

mg_status mg_monitor_counter_register(mg_monitor *m, const char *key,
                                      mg_error *err) {
  mg_status st;

  mg__lock(&m->lock);
  st = mg__counters_register(&m->counters, key, err);
  mg__unlock(&m->lock);
  return st;
}

mg_status mg_monitor_counter_add(mg_monitor *m, const char *key, int64_t delta,
                                 uint64_t *out_value, mg_error *err) {
  mg__verdict verdict = {.wake = false};
  mg__counter *counter;
  mg_sample latest;

  mg_monitor_latest(m, &latest);
  mg__lock(&m->lock);
  counter = mg__counters_find(&m->counters, key, err);
  if (counter != NULL) {
    mg__counter_add(counter, delta);
    mg__monitor_raise_leak(m, counter, &latest);
    if (out_value != NULL) *out_value = counter->value;
    verdict.wake = m->events.count > 0;
  }
  mg__unlock(&m->lock);
  mg__monitor_tell(m, &verdict);
  return counter == NULL ? MG_ENOTFOUND : MG_OK;
}

mg_status mg_monitor_counter_reset(mg_monitor *m, const char *key,
                                   mg_error *err) {
  mg__counter *counter;

  mg__lock(&m->lock);
  counter = mg__counters_find(&m->counters, key, err);
  if (counter != NULL) {
    counter->value = 0;
    counter->raised = MG_HEALTH_HEALTHY;
  }
  mg__unlock(&m->lock);
  return counter == NULL ? MG_ENOTFOUND : MG_OK;
}

bool mg_monitor_counter_at(const mg_monitor *m, size_t index,
                           char key[MG_COUNTER_KEY_BYTES],
                           uint64_t *out_value) {
  bool found;

  mg__lock(monitor_lock_of(m));
  found = index < m->counters.count;
  if (found) {
    memcpy(key, m->counters.list[index].key, MG_COUNTER_KEY_BYTES);
    *out_value = m->counters.list[index].value;
  }
  mg__unlock(monitor_lock_of(m));
  return found;
}

mg_health mg_monitor_health(const mg_monitor *m, uint32_t *out_issues) {
  mg_health health = MG_HEALTH_HEALTHY, counter;
  double rate;
  uint32_t issues = 0;
  mg_sample s;

  mg_monitor_latest(m, &s);
  mg__lock(monitor_lock_of(m));
  if (s.number > 0) issues |= mg__health_issues(&m->config, &s.reading);
  if (s.level == MG_LEVEL_HIGH) issues |= MG_ISSUE_LEVEL_HIGH;
  if (s.level == MG_LEVEL_CRITICAL) issues |= MG_ISSUE_LEVEL_CRITICAL;
  if (mg__growth_is_rapid(m->history, &m->config, MG__SERIES_RSS, &rate) ||
      mg__growth_is_rapid(m->history, &m->config, MG__SERIES_HEAP, &rate))
    issues |= MG_ISSUE_GROWTH;
  for (size_t i = 0; i < m->counters.count; i++) {
    counter = mg__counter_health(&m->counters.list[i], &m->config);
    if (counter != MG_HEALTH_HEALTHY) issues |= MG_ISSUE_LEAK;
    if (counter > health) health = counter;
  }
  mg__unlock(monitor_lock_of(m));
  if (mg__health_severity(issues) > health) health = mg__health_severity(issues);
  if (out_issues != NULL) *out_issues = issues;
  return health;
}

void mg_monitor_reset(mg_monitor *m) {
  mg__lock(&m->lock);
  mg_history_clear(m->history);
  mg__events_clear(&m->events);
  m->peak_rss_bytes = 0;
  for (size_t i = 0; i < m->counters.count; i++) {
    m->counters.list[i].value = 0;
    m->counters.list[i].raised = MG_HEALTH_HEALTHY;
  }
  atomic_store_explicit(&m->operations, 0, memory_order_relaxed);
  mg__unlock(&m->lock);
}
