/* test_resource.c - newest first, each exactly once, whatever callbacks do. */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Tokens are letters; what ran and what was dropped is written down. */
typedef struct journal {
  mg_resources *registry;
  char ran[64], dropped[64];
  int unlink_failures, last_errno;
  bool re_enter, register_more;
} journal;

static void note(char *list, char letter) {
  size_t n = strlen(list);

  assert_true(n + 1 < 64);
  list[n] = letter;
  list[n + 1] = '\0';
}

static mg_status run(void *ctx, mg_resource_kind kind, void *token) {
  journal *j = ctx;
  char letter = *(const char *)token;

  (void)kind;
  note(j->ran, letter);
  if (j->re_enter) mg_resources_cleanup(j->registry, NULL);
  if (j->register_more && letter == 'a')
    assert_int_equal(mg_resources_add(j->registry, MG_RESOURCE_CALLBACK,
                                      (void *)"z", NULL, NULL),
                     MG_OK);
  return letter == 'f' ? MG_EHOST : MG_OK;
}

static void drop(void *ctx, mg_resource_kind kind, void *token) {
  (void)kind;
  note(((journal *)ctx)->dropped, *(const char *)token);
}

static void unlink_failed(void *ctx, const char *path, int system_errno) {
  (void)path;
  ((journal *)ctx)->unlink_failures++;
  ((journal *)ctx)->last_errno = system_errno;
}

static void open_journal(journal *j) {
  mg_resource_hooks hooks = {run, drop, unlink_failed, j};
  mg_error err = MG_ERROR_INIT;

  memset(j, 0, sizeof *j);
  assert_ok(mg_resources_open(&j->registry, &hooks, &err), &err);
}

static uint64_t add(journal *j, const char *letter) {
  mg_error err = MG_ERROR_INIT;
  uint64_t id = 0;

  assert_ok(mg_resources_add(j->registry, MG_RESOURCE_CALLBACK, (void *)letter,
                             &id, &err),
            &err);
  return id;
}

static void test_newest_first_each_once(void **state) {
  mg_cleanup_report report;
  journal j;

  (void)state;
  open_journal(&j);
  add(&j, "a");
  add(&j, "f");
  add(&j, "c");
  mg_resources_cleanup(j.registry, &report);
  assert_string_equal(j.ran, "cfa");
  assert_int_equal(report.run, 3);
  assert_int_equal(report.failed, 1);
  assert_int_equal(report.left, 0);
  mg_resources_cleanup(j.registry, &report);
  assert_string_equal(j.ran, "cfa");
  assert_int_equal(report.run, 0);
  mg_resources_close(j.registry);
  assert_string_equal(j.dropped, "");
}

static void test_one_at_a_time(void **state) {
  uint64_t a, b;
  journal j;

  (void)state;
  open_journal(&j);
  a = add(&j, "a");
  b = add(&j, "b");
  assert_int_equal(mg_resources_run(j.registry, a), MG_OK);
  assert_int_equal(mg_resources_run(j.registry, a), MG_ENOTFOUND);
  assert_int_equal(mg_resources_run(j.registry, add(&j, "f")), MG_EHOST);
  assert_true(mg_resources_drop(j.registry, b));
  assert_false(mg_resources_drop(j.registry, b));
  assert_int_equal(mg_resources_run(j.registry, 0), MG_ENOTFOUND);
  mg_resources_cleanup(j.registry, NULL);
  assert_string_equal(j.ran, "af");
  assert_string_equal(j.dropped, "b");
  mg_resources_close(j.registry);
}

static void test_cleanup_inside_a_callback(void **state) {
  mg_cleanup_report report;
  journal j;

  (void)state;
  open_journal(&j);
  j.re_enter = true;
  add(&j, "a");
  add(&j, "b");
  mg_resources_cleanup(j.registry, &report);
  assert_string_equal(j.ran, "ba");
  assert_int_equal(report.run, 2);
  mg_resources_close(j.registry);
}

static void test_registered_during_cleanup(void **state) {
  journal j;

  (void)state;
  open_journal(&j);
  j.register_more = true;
  add(&j, "a");
  add(&j, "b");
  mg_resources_cleanup(j.registry, NULL);
  assert_string_equal(j.ran, "baz");
  mg_resources_close(j.registry);
}

static mg_status run_forever(void *ctx, mg_resource_kind kind, void *token) {
  return mg_resources_add(((journal *)ctx)->registry, kind, token, NULL, NULL);
}

static void drop_quietly(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx, (void)kind, (void)token;
}

static void test_endless_registration_ends(void **state) {
  mg_resource_hooks hooks = {run_forever, drop_quietly, NULL, NULL};
  mg_cleanup_report report;
  journal j;

  (void)state;
  memset(&j, 0, sizeof j);
  hooks.ctx = &j;
  assert_int_equal(mg_resources_open(&j.registry, &hooks, NULL), MG_OK);
  add(&j, "a");
  mg_resources_cleanup(j.registry, &report);
  assert_int_equal(report.run, 10001);
  assert_int_equal(report.left, 1);
  mg_resources_close(j.registry);
}

static void test_closing_and_disowning_run_nothing(void **state) {
  journal j;

  (void)state;
  open_journal(&j);
  add(&j, "a");
  add(&j, "b");
  mg_resources_disown(j.registry);
  assert_string_equal(j.dropped, "ba");
  add(&j, "c");
  mg_resources_close(j.registry);
  mg_resources_close(NULL);
  assert_string_equal(j.dropped, "bac");
  assert_string_equal(j.ran, "");
}

/* ---- files --------------------------------------------------------------- */

static void make_file(char *path, size_t bytes, const char *directory) {
  int fd;

  snprintf(path, bytes, "%s/file-XXXXXX", directory);
  fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
}

static void test_files(void **state) {
  char directory[] = "/tmp/memguard-test-XXXXXX", a[64], b[64], listed[4096];
  mg_error err = MG_ERROR_INIT;
  uint64_t first, again;
  journal j;

  (void)state;
  open_journal(&j);
  assert_non_null(mkdtemp(directory));
  make_file(a, sizeof a, directory);
  make_file(b, sizeof b, directory);
  assert_ok(mg_resources_add_file(j.registry, a, &first, &err), &err);
  assert_ok(mg_resources_add_file(j.registry, b, NULL, &err), &err);
  assert_ok(mg_resources_add_file(j.registry, a, &again, &err), &err);
  assert_int_equal(first, again);
  assert_int_equal(mg_resources_count(j.registry, MG_RESOURCE_TEMP_FILE), 2);
  assert_int_equal(mg_resources_file_at(j.registry, 1, listed, sizeof listed),
                   strlen(b));
  assert_string_equal(listed, b);
  assert_int_equal(mg_resources_file_at(j.registry, 2, listed, sizeof listed),
                   0);
  unlink(b); /* already gone: no failure */
  mg_resources_cleanup(j.registry, NULL);
  assert_int_equal(access(a, F_OK), -1);
  assert_int_equal(j.unlink_failures, 0);
  mg_resources_close(j.registry);
  assert_int_equal(rmdir(directory), 0);
}

static void test_a_file_that_cannot_be_removed(void **state) {
  char directory[] = "/tmp/memguard-test-XXXXXX";
  mg_cleanup_report report;
  journal j;

  (void)state;
  open_journal(&j);
  assert_non_null(mkdtemp(directory));
  /* unlink() of a directory fails for every user, root included. */
  assert_int_equal(mg_resources_add_file(j.registry, directory, NULL, NULL),
                   MG_OK);
  add(&j, "a");
  mg_resources_cleanup(j.registry, &report);
  assert_string_equal(j.ran, "a");
  assert_int_equal(report.run, 2);
  assert_int_equal(report.failed, 1);
  assert_int_equal(j.unlink_failures, 1);
  assert_int_equal(j.last_errno, EISDIR);
  mg_resources_close(j.registry);
  assert_int_equal(rmdir(directory), 0);
}

static void test_a_relative_path_means_where_it_was_given(void **state) {
  char directory[] = "/tmp/memguard-test-XXXXXX", before[4096];
  mg_error err = MG_ERROR_INIT;
  FILE *stream;
  journal j;

  (void)state;
  open_journal(&j);
  assert_non_null(mkdtemp(directory));
  assert_non_null(getcwd(before, sizeof before));
  assert_int_equal(chdir(directory), 0);
  stream = fopen("relative", "w");
  assert_non_null(stream);
  fclose(stream);
  assert_ok(mg_resources_add_file(j.registry, "relative", NULL, &err), &err);
  assert_int_equal(chdir(before), 0);
  mg_resources_cleanup(j.registry, NULL);
  assert_int_equal(rmdir(directory), 0);
  assert_int_equal(mg_resources_add_file(j.registry, "", NULL, &err),
                   MG_EINVAL);
  mg_resources_close(j.registry);
}

/* ---- threads ------------------------------------------------------------- */

#define RACE_ENTRIES 2000

typedef struct race {
  mg_resources *registry;
  int runs[RACE_ENTRIES];
} race;

static mg_status race_run(void *ctx, mg_resource_kind kind, void *token) {
  (void)ctx, (void)kind;
  __atomic_add_fetch((int *)token, 1, __ATOMIC_RELAXED);
  return MG_OK;
}

static void *race_cleanup(void *ctx) {
  for (int i = 0; i < 50; i++) mg_resources_cleanup(ctx, NULL);
  return NULL;
}

static void test_threads_run_each_once(void **state) {
  mg_resource_hooks hooks = {race_run, drop_quietly, NULL, NULL};
  pthread_t thread[2];
  race r;

  (void)state;
  memset(&r, 0, sizeof r);
  assert_int_equal(mg_resources_open(&r.registry, &hooks, NULL), MG_OK);
  for (int i = 0; i < 2; i++)
    assert_int_equal(
        pthread_create(&thread[i], NULL, race_cleanup, r.registry), 0);
  for (int i = 0; i < RACE_ENTRIES; i++) {
    uint64_t id;
    assert_int_equal(mg_resources_add(r.registry, MG_RESOURCE_OBJECT,
                                      &r.runs[i], &id, NULL),
                     MG_OK);
    mg_resources_run(r.registry, id);
  }
  for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
  mg_resources_cleanup(r.registry, NULL);
  for (int i = 0; i < RACE_ENTRIES; i++) assert_int_equal(r.runs[i], 1);
  mg_resources_close(r.registry);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_newest_first_each_once),
      cmocka_unit_test(test_one_at_a_time),
      cmocka_unit_test(test_cleanup_inside_a_callback),
      cmocka_unit_test(test_registered_during_cleanup),
      cmocka_unit_test(test_endless_registration_ends),
      cmocka_unit_test(test_closing_and_disowning_run_nothing),
      cmocka_unit_test(test_files),
      cmocka_unit_test(test_a_file_that_cannot_be_removed),
      cmocka_unit_test(test_a_relative_path_means_where_it_was_given),
      cmocka_unit_test(test_threads_run_each_once)};
  return cmocka_run_group_tests_name("resource", tests, NULL, NULL);
}
