/* publish.c - the latest sample for readers without a lock.
 *
 * A seqlock of atomic words: readers on any thread copy a whole sample or try
 * again, without a data race (Boehm, "Can seqlocks get along with programming
 * language memory models?", MSPC 2012). Each word is stored with release and
 * loaded with acquire, so a reader that saw any new word also sees the odd
 * sequence; no fence is needed, which thread sanitizers could not follow. A page
 * is the same for a binding that reads memory of its own, as doubles. */
#include "memguard/monitor.h"

#include <math.h>
#include <string.h>

#include "internal.h"

_Static_assert(sizeof(mg_sample) % sizeof(uint64_t) == 0, "whole words");
_Static_assert(offsetof(mg_page, value) == 8, "layout given to bindings");

void mg__publish(mg__published *p, const mg_sample *sample) {
  uint32_t sequence = atomic_load_explicit(&p->sequence, memory_order_relaxed);
  uint64_t word[MG__SAMPLE_WORDS], pressure_bits;

  memcpy(word, sample, sizeof word);
  memcpy(&pressure_bits, &sample->pressure, sizeof pressure_bits);
  atomic_store_explicit(&p->sequence, sequence + 1, memory_order_relaxed);
  for (size_t i = 0; i < MG__SAMPLE_WORDS; i++)
    atomic_store_explicit(&p->word[i], word[i], memory_order_release);
  atomic_store_explicit(&p->sequence, sequence + 2, memory_order_release);
  atomic_store_explicit(&p->pressure_bits, pressure_bits, memory_order_relaxed);
  atomic_store_explicit(&p->clock_ns, sample->clock_ns, memory_order_relaxed);
}

void mg__published_latest(const mg__published *p, mg_sample *out) {
  uint64_t word[MG__SAMPLE_WORDS];
  uint32_t before, after;

  do {
    before = atomic_load_explicit(&p->sequence, memory_order_acquire);
    for (size_t i = 0; i < MG__SAMPLE_WORDS; i++)
      word[i] = atomic_load_explicit(&p->word[i], memory_order_acquire);
    after = atomic_load_explicit(&p->sequence, memory_order_relaxed);
  } while (before != after || before % 2 != 0);
  memcpy(out, word, sizeof *out);
}

double mg__published_pressure(const mg__published *p) {
  uint64_t bits = atomic_load_explicit(&p->pressure_bits, memory_order_relaxed);
  double pressure;

  memcpy(&pressure, &bits, sizeof pressure);
  return pressure;
}

uint64_t mg__published_clock_ns(const mg__published *p) {
  return atomic_load_explicit(&p->clock_ns, memory_order_relaxed);
}

/* ---- page -------------------------------------------------------------- */

static void publish_store(mg_page *page, uint32_t at, double value) {
  uint64_t bits;

  memcpy(&bits, &value, sizeof bits);
  __atomic_store_n((uint64_t *)(void *)&page->value[at], bits,
                   __ATOMIC_RELEASE);
}

static void publish_fill(mg_page *page, const mg_sample *s) {
#define PUBLISH_FIELD(field) \
  publish_store(page, MG_PAGE_##field, (double)s->field);
  MG_PAGE_MAP(PUBLISH_FIELD)
#undef PUBLISH_FIELD
#define PUBLISH_FIELD(field, doc)                       \
  publish_store(page, MG_PAGE_##field,                  \
                s->reading.field == MG_ABSENT           \
                    ? (double)NAN                       \
                    : (double)s->reading.field);
  MG_READING_MAP(PUBLISH_FIELD)
#undef PUBLISH_FIELD
}

void mg__page_write(mg_page *page, const mg_sample *sample,
                    uint32_t generation) {
  uint32_t sequence = __atomic_load_n(&page->sequence, __ATOMIC_RELAXED);

  __atomic_store_n(&page->sequence, sequence + 1, __ATOMIC_RELAXED);
  publish_fill(page, sample);
  __atomic_store_n(&page->generation, generation, __ATOMIC_RELEASE);
  __atomic_store_n(&page->sequence, sequence + 2, __ATOMIC_RELEASE);
}
