/* gc_lists.h - the collector's lists of CPython before 3.14, which are not public.
 *
 *   head <-> object's header <-> object's header <-> head
 *
 * A header is two words before its object, next and previous, with flags in the low
 * bits. The heads of the generations are in one array, each with its threshold and
 * its count (roll.c finds and checks it); after it, on the next whole word, come a
 * pointer to the first of them, what gc.freeze() put aside, and the figures of
 * gc.get_stats(). The array itself need not be on a whole word: it is on half a one
 * in Debian's 3.13.5. */
#ifndef MEMGUARD_GC_LISTS_H
#define MEMGUARD_GC_LISTS_H

#include "memguard_python.h"

#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED) && \
    !defined(Py_TRACE_REFS)
#define MGPY_LISTS_KNOWN 1
#else /* has no such lists, or others */
#define MGPY_LISTS_KNOWN 0
#endif

#define MGPY_GENERATIONS 3

#define MGPY_HALF_WORDS __attribute__((packed, aligned(4)))

typedef struct MGPY_HALF_WORDS mgpy_link {
  uintptr_t next, previous;
} mgpy_link;

/* Of the array the youngest is the first. */
typedef struct MGPY_HALF_WORDS mgpy_generation {
  mgpy_link head;
  int threshold, count;
} mgpy_generation;

/* What comes after the array. */
typedef struct mgpy_after {
  mgpy_link *youngest;
  mgpy_generation frozen;
  Py_ssize_t stats[MGPY_GENERATIONS][3]; /* collections, collected, uncollectable */
} mgpy_after;

static inline mgpy_after *mgpy_after_of(const mgpy_generation *first) {
  uintptr_t end = (uintptr_t)(first + MGPY_GENERATIONS);
  uintptr_t past = sizeof(void *) - 1;

  return (mgpy_after *)((end + past) & ~past);
}

#define MGPY_LINK_FLAGS ((uintptr_t)3)

static inline mgpy_link *mgpy_link_of(uintptr_t link) {
  return (mgpy_link *)(link & ~MGPY_LINK_FLAGS);
}

/* Whether both neighbours know it. Only for what surely is a list's head. */
static inline bool mgpy_is_linked(mgpy_link *head) {
  mgpy_link *next = mgpy_link_of(head->next);
  mgpy_link *previous = mgpy_link_of(head->previous);

  return next != NULL && previous != NULL &&
         mgpy_link_of(next->previous) == head &&
         mgpy_link_of(previous->next) == head;
}

/** The generations of this interpreter, learned at the first call; `out` NULL if
 *  they are not where they should be (roll.c). @return 0, or -1 and an error. */
int mgpy_lists_find(mgpy_state *state, mgpy_generation **out);

#endif
