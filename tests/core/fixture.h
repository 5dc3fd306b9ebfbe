/* fixture.h - what the tests of the operating-system layer share: a directory
 * tree of their own, and child processes that check something. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>

#define MIB (1024u * 1024u)

/** A directory that stands for "/"; readable by every user. */
typedef struct fixture_tree {
  char root[64];
} fixture_tree;

void fixture_open(fixture_tree *out);
void fixture_close(fixture_tree *tree);
/** Writes a file and the directories above it. */
void fixture_write(const fixture_tree *tree, const char *path,
                   const char *text);
/** Removes a file or a directory with all that is in it. */
void fixture_remove(const fixture_tree *tree, const char *path);
/** [borrowed] until the next call */
const char *fixture_path(const fixture_tree *tree, const char *path);

/** Writes to a file that exists. @return 0 or errno. */
int fixture_put(const char *path, const char *text);

/** There, the resident set is not what the program takes. */
bool fixture_on_valgrind(void);
/** Ends a forked child, in place of _exit(). */
_Noreturn void fixture_leave(int code);
/** Runs `body` in a child that a signal ends after a minute.
 *  @return 0 if every CHECK held. */
int fixture_child(void (*body)(void *), void *ctx);
/** In a child, where cmocka's assertions would return into the parent's run. */
#define CHECK(condition)                                            \
  do {                                                              \
    if (!(condition)) fixture_fail(__FILE__, __LINE__, #condition); \
  } while (0)
void fixture_fail(const char *file, int line, const char *condition);

/** Maps and touches memory, so that it counts as resident. @return or NULL. */
char *fixture_touch(size_t bytes);
void fixture_release(char *block, size_t bytes);

/** Lets the core's allocation number `index` (0: the next) fail, once. */
void fixture_fail_allocation(long index);
/** Restores the allocator. @return whether the failure took place. */
bool fixture_allocation_failed(void);

#endif
