/* gc_lists.h - the collector's lists of CPython 3.11 to 3.14, which are not public.
 *
 *   head <-> object's header <-> object's header <-> head
 *
 * A header is two words before its object, next and previous, with flags in the low
 * bits. The heads of the generations are in one array, each with its threshold and
 * its count (roll.c finds and checks it); after it come a pointer to the first of
 * them, what gc.freeze() put aside, and the figures of gc.get_stats(), from 3.14 on
 * with the pointer last. The array itself need not be on a whole word: it is on half
 * a one in Debian's 3.13.5.
 *
 * 3.14.0 to 3.14.4 have an array that looks alike, but they collect increments and
 * keep the lists otherwise. A build for 3.14 runs on all of 3.14, so which it is
 * shows at run time only. */
#ifndef MEMGUARD_GC_LISTS_H
#define MEMGUARD_GC_LISTS_H

#include "memguard_python.h"

#if PY_VERSION_HEX < 0x030F0000 && !defined(Py_GIL_DISABLED) && \
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

typedef Py_ssize_t mgpy_figures[3]; /* collections, collected, uncollectable */

/* What comes after the array, from the next whole word on. */
#if PY_VERSION_HEX < 0x030E0000
typedef struct mgpy_after {
  mgpy_link *youngest;
  mgpy_generation frozen;
  mgpy_figures stats[MGPY_GENERATIONS];
} mgpy_after;
#define MGPY_IN_ARRAY MGPY_GENERATIONS
#else /* `frozen` goes on where the array ends */
typedef struct mgpy_after {
  mgpy_figures stats[MGPY_GENERATIONS];
  uintptr_t others[8];
  mgpy_link *youngest;
} mgpy_after;
#define MGPY_IN_ARRAY (MGPY_GENERATIONS + 1)
#endif

static inline mgpy_after *mgpy_after_of(const mgpy_generation *first) {
  uintptr_t end = (uintptr_t)(first + MGPY_IN_ARRAY);
  uintptr_t past = sizeof(void *) - 1;

  return (mgpy_after *)((end + past) & ~past);
}

static inline mgpy_generation *mgpy_frozen_of(mgpy_generation *first) {
#if PY_VERSION_HEX < 0x030E0000
  return &mgpy_after_of(first)->frozen;
#else
  return first + MGPY_GENERATIONS;
#endif
}

/* Whether this interpreter keeps generations. */
static inline bool mgpy_lists_are_kept(void) {
  return Py_Version < 0x030E0000 || Py_Version >= 0x030E0500;
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
