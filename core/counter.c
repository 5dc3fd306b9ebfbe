/* counter.c - object counters that the host keeps: opened minus closed.
 *
 * A few dozen keys at most, so a list in order of registration is the fastest
 * map there is. */
#include "memguard/monitor.h"

#include <string.h>

#include "internal.h"

#define COUNTER_FIRST_CAPACITY 8u

void mg__counters_close(mg__counters *counters) {
  mg__free(counters->list);
  *counters = (mg__counters){NULL, 0, 0};
}

static mg_status counter_make_room(mg__counters *c, mg_error *err) {
  size_t capacity = c->capacity == 0 ? COUNTER_FIRST_CAPACITY : 2 * c->capacity;
  mg__counter *list;

  if (c->count < c->capacity) return MG_OK;
  if (c->count == MG_COUNTERS_MAX)
    return mg__fail(err, MG_ERANGE, "%zu object counters, allowed: at most %u",
                    c->count + 1, MG_COUNTERS_MAX);
  list = mg__resize(c->list, capacity * sizeof *list);
  if (list == NULL)
    return mg__fail(err, MG_ENOMEM, "object counters, %zu bytes",
                    capacity * sizeof *list);
  c->list = list;
  c->capacity = capacity;
  return MG_OK;
}

static mg__counter *counter_lookup(const mg__counters *c, const char *key) {
  for (size_t i = 0; i < c->count; i++)
    if (strcmp(c->list[i].key, key) == 0) return &c->list[i];
  return NULL;
}

mg_status mg__counters_register(mg__counters *c, const char *key,
                                mg_error *err) {
  size_t bytes = strlen(key);
  mg_status st;

  if (bytes == 0 || bytes >= MG_COUNTER_KEY_BYTES)
    return mg__fail(err, MG_EINVAL,
                    "key of an object counter has %zu bytes, allowed: 1 to %d",
                    bytes, MG_COUNTER_KEY_BYTES - 1);
  if (counter_lookup(c, key) != NULL) return MG_OK;
  st = counter_make_room(c, err);
  if (st != MG_OK) return st;
  c->list[c->count] = (mg__counter){.raised = MG_HEALTH_HEALTHY};
  memcpy(c->list[c->count].key, key, bytes + 1);
  c->count++;
  return MG_OK;
}

mg__counter *mg__counters_find(const mg__counters *c, const char *key,
                               mg_error *err) {
  mg__counter *counter = counter_lookup(c, key);

  if (counter == NULL)
    mg__fail(err, MG_ENOTFOUND, "object counter \"%.63s\" is not registered",
             key);
  return counter;
}

void mg__counter_add(mg__counter *counter, int64_t delta) {
  uint64_t size = delta < 0 ? 0 - (uint64_t)delta : (uint64_t)delta;

  if (delta < 0)
    counter->value = size > counter->value ? 0 : counter->value - size;
  else
    counter->value =
        size > UINT64_MAX - counter->value ? UINT64_MAX : counter->value + size;
}

mg_health mg__counter_health(const mg__counter *counter,
                             const mg_config *config) {
  double value = (double)counter->value;

  if (value >= mg_config_get(config, MG_CONFIG_LEAK_CRITICAL_COUNT))
    return MG_HEALTH_CRITICAL;
  if (value >= mg_config_get(config, MG_CONFIG_LEAK_WARNING_COUNT))
    return MG_HEALTH_WARNING;
  return MG_HEALTH_HEALTHY;
}

bool mg__counter_has_news(mg__counter *counter, const mg_config *config) {
  mg_health health = mg__counter_health(counter, config);
  bool rose = health > counter->raised;

  counter->raised = health;
  return rose;
}
