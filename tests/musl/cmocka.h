/* cmocka.h - as much of cmocka as the core's tests use, for musl.
 *
 * Debian has cmocka for glibc alone. Here the first assertion that does not hold ends
 * the program, so that threads and children may assert, too. */
#ifndef MG_TESTS_MUSL_CMOCKA_H
#define MG_TESTS_MUSL_CMOCKA_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
  const char *name;
  void (*test)(void **state);
  CMFixtureFunction setup, teardown;
};

#define print_message(...) printf(__VA_ARGS__)

#define fail_msg(...)                                 \
  do {                                                \
    fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);   \
    fprintf(stderr, __VA_ARGS__);                     \
    fputc('\n', stderr);                              \
    abort();                                          \
  } while (0)

#define assert_true(what)                             \
  do {                                                \
    if (!(what)) fail_msg("%s does not hold", #what); \
  } while (0)
#define assert_false(what)       assert_true(!(what))
#define assert_null(what)        assert_true((what) == NULL)
#define assert_non_null(what)    assert_true((what) != NULL)
#define assert_ptr_equal(a, b)   assert_true((a) == (b))
#define assert_string_not_equal(a, b) assert_true(strcmp((a), (b)) != 0)
#define assert_memory_equal(a, b, bytes) assert_true(memcmp((a), (b), (bytes)) == 0)

#define assert_string_equal(a, b)                                              \
  do {                                                                         \
    const char *cmocka_a = (a), *cmocka_b = (b);                               \
    if (strcmp(cmocka_a, cmocka_b) != 0)                                       \
      fail_msg("%s: \"%s\" is not \"%s\"", #a, cmocka_a, cmocka_b);            \
  } while (0)

/* Numbers as the widest of their kind, as cmocka compares them. */
#define cmocka_numbers(a, sign, b)                                             \
  do {                                                                         \
    uintmax_t cmocka_a = (uintmax_t)(a), cmocka_b = (uintmax_t)(b);            \
    if (!(cmocka_a sign cmocka_b))                                             \
      fail_msg("%s: not %" PRIuMAX " %s %" PRIuMAX, #a, cmocka_a, #sign,       \
               cmocka_b);                                                      \
  } while (0)
#define assert_int_equal(a, b)     cmocka_numbers(a, ==, b)
#define assert_int_not_equal(a, b) cmocka_numbers(a, !=, b)
#define assert_in_range(what, least, most)                                     \
  do {                                                                         \
    cmocka_numbers(what, >=, least);                                           \
    cmocka_numbers(what, <=, most);                                            \
  } while (0)

#define cmocka_unit_test_setup_teardown(test, setup, teardown) \
  {#test, test, setup, teardown}
#define cmocka_unit_test(test) cmocka_unit_test_setup_teardown(test, NULL, NULL)

/* The core's tests take any process to have more than 1 MB resident, which a static
 * one may not have. */
static inline void cmocka_grow(void) {
  static char ballast[4 * 1024 * 1024];

  memset(ballast, 1, sizeof ballast);
  __asm__ volatile("" : : "r"(ballast) : "memory");
}

/** @return 0; it does not return if anything fails. */
static inline int cmocka_run(const struct CMUnitTest *tests, size_t count,
                             CMFixtureFunction setup, CMFixtureFunction teardown) {
  void *state = NULL;

  cmocka_grow();
  if (setup != NULL) assert_int_equal(setup(&state), 0);
  for (size_t i = 0; i < count; i++) {
    void *own = state;
    printf("%s\n", tests[i].name);
    fflush(stdout);
    if (tests[i].setup != NULL) assert_int_equal(tests[i].setup(&own), 0);
    tests[i].test(&own);
    if (tests[i].teardown != NULL) assert_int_equal(tests[i].teardown(&own), 0);
  }
  if (teardown != NULL) assert_int_equal(teardown(&state), 0);
  return 0;
}

#define cmocka_run_group_tests(tests, setup, teardown) \
  cmocka_run(tests, sizeof(tests) / sizeof *(tests), setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown) \
  cmocka_run_group_tests(tests, setup, teardown)

#endif
