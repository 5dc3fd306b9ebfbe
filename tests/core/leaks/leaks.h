/* leaks.h - what the loops of test_leaks.c share.
 *
 * leaks_calls.h is made from the public headers when CMake configures: it numbers
 * each public function and makes a call of it set `leaks_called` of that number. A
 * function that no loop calls fails test_leaks by name. */
#ifndef MG_TESTS_LEAKS_H
#define MG_TESTS_LEAKS_H

#include "segment_support.h"

#include "leaks_calls.h"

extern bool leaks_called[LEAKS_FUNCTIONS];
extern const char *const leaks_function[LEAKS_FUNCTIONS];

typedef struct leaks_loop {
  const char *name;
  void (*once)(void); /* leaves nothing behind */
} leaks_loop;

/* Each ends with a NULL name. */
extern const leaks_loop leaks_decisions[];
extern const leaks_loop leaks_objects[];
extern const leaks_loop leaks_pools[];
extern const leaks_loop leaks_monitors[];
extern const leaks_loop leaks_segments[];

/* The allocator that counts. [borrowed] */
const mg_allocator *leaks_allocator(void);

#endif
