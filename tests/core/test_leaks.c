/* test_leaks.c - every public function, called again and again, leaves nothing behind:
 * no block of the core's allocator, no descriptor, no thread, no mapped segment. */
#include "leaks/leaks.h"

#include <malloc.h>
#include <stdatomic.h>

#define TIMES 25
/* What a first call takes once, for good. */
#define WARM_UP 3

#define LEAKS_NAME(name) #name,
const char *const leaks_function[LEAKS_FUNCTIONS] = {LEAKS_MAP(LEAKS_NAME)};
bool leaks_called[LEAKS_FUNCTIONS];

/* ---- an allocator that counts --------------------------------------------------- */

static _Atomic long blocks, bytes;

static void *counted(void *block) {
  if (block == NULL) return NULL;
  blocks++;
  bytes += (long)malloc_usable_size(block);
  return block;
}

static void uncount(void *block) {
  if (block == NULL) return;
  blocks--;
  bytes -= (long)malloc_usable_size(block);
}

static void *take(void *ctx, size_t count) {
  (void)ctx;
  return counted(malloc(count));
}

static void *resize(void *ctx, void *block, size_t count) {
  void *moved;

  (void)ctx;
  uncount(block);
  moved = realloc(block, count);
  counted(moved != NULL ? moved : block);
  return moved;
}

static void give(void *ctx, void *block) {
  (void)ctx;
  uncount(block);
  free(block);
}

const mg_allocator *leaks_allocator(void) {
  static const mg_allocator counting = {take, resize, give, NULL};

  return &counting;
}

/* ---- what there is ---------------------------------------------------------------- */

typedef struct held {
  long blocks, bytes;
  int descriptors, threads, segments;
} held;

static int entries_of(const char *path) {
  DIR *directory = opendir(path);
  int count = 0;

  if (directory == NULL) return -1;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

static int mapped_segments(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  int count = 0;

  while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
    count += strstr(line, segment_directory) != NULL;
  if (maps != NULL) fclose(maps);
  return count;
}

static held held_now(void) {
  return (held){.blocks = blocks,
                .bytes = bytes,
                .descriptors = entries_of("/proc/self/fd"),
                .threads = entries_of("/proc/self/task"),
                .segments = mapped_segments()};
}

static bool is_more(const held *now, const held *before) {
  return now->blocks > before->blocks || now->bytes > before->bytes ||
         now->descriptors > before->descriptors ||
         now->threads > before->threads || now->segments > before->segments;
}

/* A thread that was waited for may be seen a moment longer. */
static int patience_ms = LONGEST_WAIT_MS;

static held held_after(const held *before) {
  held now = held_now();

  for (int waited = 0; is_more(&now, before) && waited < patience_ms; waited += 5) {
    sleep_ms(5);
    now = held_now();
  }
  return now;
}

/* Empty, or what the loop left. */
static const char *left_by(const leaks_loop *loop) {
  static char text[200];
  held before, now;

  for (int i = 0; i < WARM_UP; i++) loop->once();
  before = held_now();
  for (int i = 0; i < TIMES; i++) loop->once();
  now = held_after(&before);
  if (!is_more(&now, &before)) return "";
  snprintf(text, sizeof text,
           "%s: %ld blocks, %ld bytes, %d descriptors, %d threads, %d segments",
           loop->name, now.blocks - before.blocks, now.bytes - before.bytes,
           now.descriptors - before.descriptors, now.threads - before.threads,
           now.segments - before.segments);
  return text;
}

static void run_all(const leaks_loop *loop) {
  for (; loop->name != NULL; loop++) assert_string_equal(left_by(loop), "");
}

/* ---- the tests ---------------------------------------------------------------------- */

static void test_decisions(void **state) {
  (void)state;
  run_all(leaks_decisions);
}

static void test_objects(void **state) {
  (void)state;
  run_all(leaks_objects);
}

static void test_pools(void **state) {
  (void)state;
  run_all(leaks_pools);
}

static void test_monitors(void **state) {
  (void)state;
  run_all(leaks_monitors);
}

static void test_segments(void **state) {
  (void)state;
  run_all(leaks_segments);
}

static void leak_block(void) {
  /* The allocator's own, or a leak checker would find it too. */
  blocks++;
  bytes += 16;
}
static void leak_descriptor(void) { assert_true(dup(0) > 2); }

static void test_leaks_are_found(void **state) {
  static const leaks_loop block = {"block", leak_block},
                          descriptor = {"descriptor", leak_descriptor};
  int first = dup(0);
  (void)state;

  patience_ms = 0;
  assert_string_equal(
      left_by(&block),
      "block: 25 blocks, 400 bytes, 0 descriptors, 0 threads, 0 segments");
  blocks -= WARM_UP + TIMES;
  bytes -= (WARM_UP + TIMES) * 16;
  assert_string_equal(
      left_by(&descriptor),
      "descriptor: 0 blocks, 0 bytes, 25 descriptors, 0 threads, 0 segments");
  for (int i = 0; i <= WARM_UP + TIMES; i++) close(first + i);
  patience_ms = LONGEST_WAIT_MS;
}

/* Last: by then every loop has run. */
static void test_every_function_is_called(void **state) {
  int missing = 0;
  (void)state;

  for (size_t i = 0; i < LEAKS_FUNCTIONS; i++)
    if (!leaks_called[i]) {
      print_error("no loop calls %s\n", leaks_function[i]);
      missing++;
    }
  assert_int_equal(missing, 0);
}

static int begin(void **state) {
  mg_set_allocator(leaks_allocator());
  return segment_setup(state);
}

static int end(void **state) {
  mg_set_allocator(NULL);
  return segment_teardown(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_decisions),
      cmocka_unit_test(test_objects),
      cmocka_unit_test(test_pools),
      cmocka_unit_test(test_monitors),
      cmocka_unit_test(test_segments),
      cmocka_unit_test(test_leaks_are_found),
      cmocka_unit_test(test_every_function_is_called),
  };

  return cmocka_run_group_tests(tests, begin, end);
}
