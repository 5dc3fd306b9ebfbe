/* test_base.c - statuses and errors; and every allocation of the core failed in
 * turn: an error comes back, nothing crashes, nothing leaks, and the next
 * attempt succeeds. */
#include "monitor_support.h"

#include <stdatomic.h>
#include <string.h>

#include "internal.h"

static void test_statuses_have_texts(void **state) {
  (void)state;
  assert_string_equal(mg_status_name(MG_ERANGE), "ERANGE");
  assert_string_equal(mg_status_code(MG_ERANGE), "ERR_MEMGUARD_RANGE");
  assert_string_equal(mg_status_text(MG_ERANGE), "value out of range");
  assert_string_equal(mg_status_name((mg_status)99), "UNKNOWN");
  assert_string_equal(mg_status_code((mg_status)99), "ERR_MEMGUARD_UNKNOWN");
  assert_int_equal(mg_status_of_code("OK"), MG_OK);
  assert_int_equal(mg_status_of_code("ERR_MEMGUARD_RANGE"), MG_ERANGE);
  assert_int_equal(mg_status_of_code("ERR_OTHER"), MG_EHOST);
  assert_string_equal(mg_version(), "0.1.0");
}

static void test_errors(void **state) {
  mg_error err = MG_ERROR_INIT;
  char longest[1000];

  (void)state;
  assert_int_equal(mg__fail(NULL, MG_EKEY, "nobody reads this"), MG_EKEY);
  assert_int_equal(mg__fail_errno(&err, 2, "open %s", "x"), MG_ESYS);
  assert_string_equal(err.text, "open x: No such file or directory");
  assert_int_equal(err.system_errno, 2);
  memset(longest, 'y', sizeof longest - 1);
  longest[sizeof longest - 1] = '\0';
  mg__fail_errno(&err, 2, "%s", longest);
  assert_int_equal(strlen(err.text), MG_ERROR_TEXT_BYTES - 1);
}

/* ---- an allocator that fails the n-th request ------------------------------ */

typedef struct scarce {
  _Atomic long until_failure; /* requests before the one that fails; < 0: none */
  _Atomic long living;        /* blocks not given back */
} scarce;

static bool scarce_allows(scarce *s) {
  if (s->until_failure < 0) return true;
  return s->until_failure-- > 0;
}

static void *scarce_take(void *ctx, size_t bytes) {
  scarce *s = ctx;
  void *block = scarce_allows(s) ? malloc(bytes) : NULL;

  if (block != NULL) s->living++;
  return block;
}

static void *scarce_resize(void *ctx, void *block, size_t bytes) {
  scarce *s = ctx;
  void *resized = scarce_allows(s) ? realloc(block, bytes) : NULL;

  if (resized != NULL && block == NULL) s->living++;
  return resized;
}

static void scarce_give(void *ctx, void *block) {
  ((scarce *)ctx)->living--;
  free(block);
}

static mg_status run(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx, (void)kind, (void)token;
  return MG_OK;
}

static void drop(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx, (void)kind, (void)token;
}

/* Everything a host does, in one go; stops at the first failure. */
static mg_status whole_life(mg_manager *manager, mg_error *err) {
  mg_monitor *monitor = mg_manager_monitor(manager);
  mg_config config;
  mg_buffer *buffer;
  mg_status st;

  st = mg_monitor_start(monitor, err);
  if (st == MG_OK)
    st = mg_buffers_add(&buffer, mg_manager_buffers(manager), "rows", err);
  if (st == MG_OK)
    st = mg_resources_add(mg_manager_resources(manager), MG_RESOURCE_CALLBACK,
                          NULL, NULL, err);
  if (st == MG_OK)
    st = mg_resources_add_file(mg_manager_resources(manager),
                               "/tmp/memguard-test-absent", NULL, err);
  if (st == MG_OK) st = mg_monitor_counter_register(monitor, "sockets", err);
  config = support_config("history_size", "20", NULL);
  if (st == MG_OK) st = mg_manager_configure(manager, &config, err);
  mg_monitor_pass(monitor, true, NULL);
  mg_rss_bytes();
  mg_manager_cleanup(manager, NULL);
  return st;
}

static mg_status attempt(mg_error *err) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_runtime runtime = MG_RUNTIME_INIT;
  mg_manager *manager;
  mg_status st;

  runtime.resources = (mg_resource_hooks){run, drop, NULL, NULL};
  st = mg_manager_open(&manager, &config, &runtime, err);
  if (st != MG_OK) {
    assert_null(manager);
    return st;
  }
  st = whole_life(manager, err);
  mg_manager_close(manager);
  return st;
}

/* Fails request number `index`. @return whether there was such a request. */
static bool fails_at(scarce *s, long index, long *errors) {
  mg_error err = MG_ERROR_INIT;
  bool was_reached;
  mg_status st;

  s->until_failure = index;
  st = attempt(&err);
  was_reached = s->until_failure < 0;
  s->until_failure = -1;
  assert_int_equal(s->living, 0);
  if (st != MG_OK) {
    assert_int_equal(st, MG_ENOMEM);
    assert_int_equal(err.status, MG_ENOMEM);
    assert_true(err.text[0] != '\0');
    ++*errors;
  }
  assert_ok(attempt(&err), &err); /* it recovers */
  assert_int_equal(s->living, 0);
  return was_reached;
}

static void test_every_allocation_failed_in_turn(void **state) {
  scarce s = {-1, 0};
  mg_allocator allocator = {scarce_take, scarce_resize, scarce_give, &s};
  long index = 0, errors = 0;

  (void)state;
  mg_set_allocator(&allocator);
  while (fails_at(&s, index, &errors)) index++;
  mg_set_allocator(NULL);
  assert_true(index >= 18); /* so many places were failed, one by one */
  assert_true(errors >= 16); /* the others could be done without */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_statuses_have_texts),
      cmocka_unit_test(test_errors),
      cmocka_unit_test(test_every_allocation_failed_in_turn)};
  return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
