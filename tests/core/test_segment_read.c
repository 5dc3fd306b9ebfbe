/* test_segment_read.c - segments that are damaged, foreign, changing or dead. */
#include "segment_support.h"

#include <sys/wait.h>

#include "fixture.h"
#include "segment_parts.h"

static mg_segment_layout *whole; /* what a process published */

static int publish(void **state) {
  mg_config config = support_config("sample_interval", "10ms", "rss_warning",
                                    "1MB", "monitor_interval", "10ms", NULL);
  mg_segment_type type = {.name = "dict", .count = 9};
  mg_monitor *monitor;

  if (segment_setup(state) != 0) return -1;
  monitor = opened(&config, NULL);
  start(monitor);
  if (segment_awaited() == NULL || !reaches(monitor, 20)) return -1;
  for (uint64_t i = 1; i <= 10; i++)
    mg_segment_note_gc(&(mg_pause){.wall_ns = i * 1000, .collected = MG_ABSENT});
  mg_segment_note_types(&type, 1, 1000);
  mg_segment_note_types(&type, 1, 2000);
  mg_monitor_stop(monitor);
  mg_monitor_close(monitor);
  {
    mg_segment_names names;
    char path[400];
    if (mg_segment_list(&names, segment_directory, NULL) != MG_OK) return -1;
    snprintf(path, sizeof path, "%s/%s", segment_directory, names.name[0]);
    whole = segment_copied(path);
    unlink(path);
    mg_segment_names_free(&names);
  }
  return 0;
}

static int unpublish(void **state) {
  free(whole);
  return segment_teardown(state);
}

static mg_segment_layout *copied(void) {
  mg_segment_layout *copy = malloc(sizeof *copy);

  assert_non_null(copy);
  memcpy(copy, whole, sizeof *copy);
  return copy;
}

static void seal(mg_segment_layout *layout) {
  layout->header.crc =
      mg__segment_crc(&layout->header, offsetof(mg_segment_header, crc));
}

/* Everything the reader can be asked. @return points. */
static size_t read_all(mg_segment *segment) {
  static mg_segment_point points[MG_SEGMENT_SECONDS];
  static mg_segment_note notes[MG_SEGMENT_NOTES];
  static mg_segment_gc_event events[MG_SEGMENT_GC_EVENTS];
  mg_postmortem_report report;
  mg_postmortem_facts facts;
  mg_segment_types types;
  mg_segment_view view;
  mg_pause_stats stats;
  size_t count;

  (void)mg_segment_read(segment, &view, NULL);
  count = mg_segment_notes(segment, notes, MG_SEGMENT_NOTES);
  for (size_t i = 0; i < count; i++) assert_true(notes[i].event < MG_EVENTS);
  count = mg_segment_gc_events(segment, events, MG_SEGMENT_GC_EVENTS);
  for (size_t i = 0; i < count; i++)
    assert_true(events[i].kind < MG_PAUSE_KINDS);
  mg_segment_read_types(segment, &types);
  assert_true(types.count <= MG_SEGMENT_TYPES);
  mg_segment_gc_stats(segment, MG_PAUSE_KINDS, &stats);
  if (mg_segment_facts(segment, &facts, NULL) == MG_OK)
    mg_postmortem(&facts, &report);
  (void)mg_segment_points(segment, MG_SEGMENT_BY_MINUTE, points, 10);
  count = mg_segment_points(segment, MG_SEGMENT_BY_SECOND, points,
                            MG_SEGMENT_SECONDS);
  for (size_t i = 1; i < count; i++)
    assert_true(points[i].number > points[i - 1].number);
  return count;
}

static mg_status opening(const void *bytes, size_t count) {
  mg_segment *segment;
  mg_status st = mg_segment_open_bytes(&segment, bytes, count, NULL);

  if (st == MG_OK) (void)read_all(segment);
  mg_segment_close(segment);
  return st;
}

static void test_whole(void **state) {
  mg_segment *segment;
  mg_segment_view view;
  mg_error err = MG_ERROR_INIT;

  (void)state;
  assert_ok(mg_segment_open_bytes(&segment, whole, sizeof *whole, &err), &err);
  assert_true(read_all(segment) >= 1);
  view = segment_view_of(segment);
  assert_true(view.sample.number >= 20);
  assert_int_equal(view.gc[0].count, 10);
  mg_segment_close(segment);
}

static void test_cut_off_or_longer(void **state) {
  char *longer = calloc(1, sizeof *whole + 4096);

  (void)state;
  assert_non_null(longer);
  memcpy(longer, whole, sizeof *whole);
  for (size_t count = 0; count < sizeof *whole; count += 509) {
    /* Of exactly that size, so that a read past it is found. */
    char *exact = malloc(count + 1);
    assert_non_null(exact);
    memcpy(exact, whole, count);
    assert_int_equal(opening(exact, count), MG_EFOREIGN);
    free(exact);
  }
  assert_int_equal(opening(longer, sizeof *whole + 1), MG_EFOREIGN);
  assert_int_equal(opening(longer, sizeof *whole), MG_OK);
  free(longer);
}

/* Any one bit of the header: refused. */
static void test_bits_of_the_header(void **state) {
  (void)state;
  for (size_t bit = 0; bit < sizeof(mg_segment_header) * 8; bit++) {
    mg_segment_layout *copy = copied();
    ((uint8_t *)copy)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(opening(copy, sizeof *copy), MG_EFOREIGN);
    free(copy);
  }
}

/* Any one bit of the latest sample: the one before it is given. */
static void test_bits_of_the_present(void **state) {
  size_t newer = whole->now[0].number > whole->now[1].number ? 0 : 1;
  uint64_t former = whole->now[1 - newer].number;
  mg_segment_layout *copy = copied();
  uint8_t *now = (uint8_t *)&copy->now[newer];

  (void)state;
  for (size_t bit = 0; bit < sizeof(mg_segment_now) * 8; bit++) {
    mg_segment *segment;
    now[bit / 8] ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(
        mg_segment_open_bytes(&segment, copy, sizeof *copy, NULL), MG_OK);
    assert_int_equal(segment_view_of(segment).sample.number, former);
    mg_segment_close(segment);
    now[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  free(copy);
}

static void test_no_whole_sample(void **state) {
  mg_segment_layout *copy = copied();
  mg_error err = MG_ERROR_INIT;
  mg_segment_view view;
  mg_segment *segment;

  (void)state;
  copy->now[0].clock_ns ^= 1;
  copy->now[1].clock_ns ^= 1;
  assert_int_equal(mg_segment_open_bytes(&segment, copy, sizeof *copy, NULL),
                   MG_OK);
  assert_int_equal(mg_segment_read(segment, &view, &err), MG_EFOREIGN);
  assert_string_equal(err.text, "no whole sample: cut off or damaged");
  mg_segment_close(segment);
  free(copy);
}

/* A point that was torn is left out, the others stay in order. */
static void test_torn_point(void **state) {
  mg_segment_layout *copy = copied();
  mg_segment *segment;
  size_t count;

  (void)state;
  assert_int_equal(mg_segment_open_bytes(&segment, copy, sizeof *copy, NULL),
                   MG_OK);
  count = read_all(segment);
  copy->second[1].rss_bytes ^= 64; /* number 1 */
  assert_int_equal(read_all(segment), count - 1);
  mg_segment_close(segment);
  free(copy);
}

/* Any bytes behind a valid header. */
static void test_noise(void **state) {
  uint32_t seed = 12345;

  (void)state;
  for (int round = 0; round < 60; round++) {
    mg_segment_layout *copy = copied();
    uint8_t *bytes = (uint8_t *)copy;
    for (size_t i = sizeof copy->header; i < sizeof *copy; i++) {
      seed = seed * 1664525u + 1013904223u;
      if (round % 3 == 0 || seed >> 24 < 8) bytes[i] = (uint8_t)(seed >> 16);
    }
    (void)opening(copy, sizeof *copy);
    free(copy);
  }
}

/* A ring whose newest number is the largest there is, properly checked. */
static void test_last_number(void **state) {
  mg_segment_layout *copy = copied();
  mg_segment_point *last =
      &copy->second[UINT64_MAX % MG_SEGMENT_SECONDS], out[2];
  mg_segment *segment;

  (void)state;
  last->number = UINT64_MAX;
  last->check = mg_segment_check(last, sizeof *last);
  assert_int_equal(mg_segment_open_bytes(&segment, copy, sizeof *copy, NULL),
                   MG_OK);
  assert_int_equal(read_all(segment), 1);
  assert_int_equal(mg_segment_points(segment, MG_SEGMENT_BY_SECOND, out, 2), 1);
  assert_true(out[0].number == UINT64_MAX);
  mg_segment_close(segment);
  free(copy);
}

static void test_foreign(void **state) {
  mg_segment_layout *copy = copied();
  mg_error err = MG_ERROR_INIT;
  mg_segment *segment;

  (void)state;
  copy->header.version = 3;
  seal(copy);
  assert_int_equal(mg_segment_open_bytes(&segment, copy, sizeof *copy, &err),
                   MG_EFOREIGN);
  assert_string_equal(err.text,
                      "a segment of version 3, need 2: use the memguard that "
                      "wrote it");
  assert_null(segment);
  copy->header.version = 2;
  copy->header.byte_order = 0x04030201;
  seal(copy);
  assert_int_equal(mg_segment_open_bytes(&segment, copy, sizeof *copy, &err),
                   MG_EFOREIGN);
  assert_string_equal(err.text, "a segment of another byte order");
  copy->header.byte_order = 0x01020304;
  copy->header.segment_bytes = 64;
  seal(copy);
  assert_int_equal(mg_segment_open_bytes(&segment, copy, sizeof *copy, &err),
                   MG_EFOREIGN);
  assert_int_equal(mg_segment_open(&segment, "/dev/null", &err), MG_EFOREIGN);
  assert_string_equal(err.text, "/dev/null is no plain file");
  assert_int_equal(mg_segment_open(&segment, "/proc/self/nothing", &err),
                   MG_ENOTFOUND);
  assert_int_equal(mg_segment_open(&segment, "/proc/self/status", &err),
                   MG_EFOREIGN);
  free(copy);
}

/* ---- files ------------------------------------------------------------------ */

/* Writes the first pages of a segment whose process was `pid`, the rest a hole. */
static void write_dead(uint32_t pid, uint64_t heartbeat_ms, char *out_path,
                       size_t path_bytes) {
  static const size_t front = 8192;
  mg_segment_layout *copy = copied();
  char name[MG_SEGMENT_NAME_BYTES];
  int fd;

  copy->header.pid = pid;
  copy->header.start_time = 1;
  copy->life.state = MG_SEGMENT_RUNNING;
  copy->life.heartbeat_unix_ms = heartbeat_ms;
  copy->life.next_unix_ms = heartbeat_ms + 1000;
  copy->life.ended_unix_ms = 0;
  seal(copy);
  mg__segment_name(name, copy->header.boot_id, copy->header.pid_namespace, pid,
                   1);
  snprintf(out_path, path_bytes, "%s/%s", segment_directory, name);
  fd = open(out_path, O_WRONLY | O_CREAT, 0600);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, copy, front), front);
  assert_int_equal(ftruncate(fd, sizeof *copy), 0);
  close(fd);
  free(copy);
}

static uint64_t now_ms(void) {
  struct timespec now;

  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Its pid is that of this process, which began at another time. */
static void test_reused_pid(void **state) {
  mg_segment *segment;
  char path[400];

  (void)state;
  write_dead((uint32_t)getpid(), now_ms(), path, sizeof path);
  segment = segment_opened(path);
  assert_false(mg_segment_is_alive(segment));
  mg_segment_close(segment);
  unlink(path);
}

static void test_shrinks_and_vanishes(void **state) {
  mg_error err = MG_ERROR_INIT;
  mg_segment *segment;
  mg_segment_view view;
  char path[400];

  (void)state;
  write_dead(77, now_ms(), path, sizeof path);
  segment = segment_opened(path);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mg_segment_read(segment, &view, &err), MG_OK);
  mg_segment_close(segment);
  write_dead(77, now_ms(), path, sizeof path);
  segment = segment_opened(path);
  assert_int_equal(truncate(path, 1000), 0);
  assert_int_equal(mg_segment_read(segment, &view, &err), MG_EFOREIGN);
  assert_int_equal(read_all(segment), 0);
  mg_segment_close(segment);
  unlink(path);
}

static void test_list(void **state) {
  mg_segment_names names;
  mg_error err = MG_ERROR_INIT;
  char path[400], other[500];

  (void)state;
  assert_ok(mg_segment_list(&names, "/dev/shm/no-such-directory", &err), &err);
  assert_int_equal(names.count, 0);
  write_dead(200, now_ms(), path, sizeof path);
  write_dead(100, now_ms(), path, sizeof path);
  snprintf(other, sizeof other, "%s.sock", path);
  close(open(other, O_WRONLY | O_CREAT, 0600));
  snprintf(other, sizeof other, "%s/readme", segment_directory);
  close(open(other, O_WRONLY | O_CREAT, 0600));
  assert_ok(mg_segment_list(&names, segment_directory, &err), &err);
  assert_int_equal(names.count, 2);
  assert_non_null(strstr(names.name[0], "-100-1"));
  assert_non_null(strstr(names.name[1], "-200-1"));
  mg_segment_names_free(&names);
}

/* ---- reaping ----------------------------------------------------------------- */

static void clear(void) {
  assert_int_equal(segment_teardown(NULL), 0);
  assert_int_equal(mkdir(segment_directory, 0700), 0);
}

static mg_segment_reaped reaped(double keep_ms, size_t keep) {
  mg_segment_reaped counts;
  mg_error err = MG_ERROR_INIT;

  assert_ok(mg_segment_reap(segment_directory, keep_ms, keep, &counts, &err),
            &err);
  return counts;
}

static void test_reap_by_age(void **state) {
  mg_segment_service service;
  mg_segment_reaped counts;
  char old[400], young[400], sock[500];

  (void)state;
  clear();
  write_dead(10, now_ms() - 7200000, old, sizeof old);
  write_dead(11, now_ms() - 1000, young, sizeof young);
  snprintf(sock, sizeof sock, "%s.sock", old);
  close(open(sock, O_WRONLY | O_CREAT, 0600));
  counts = reaped(3600000, 64);
  assert_int_equal(counts.dead, 2);
  assert_int_equal(counts.folded, 2);
  assert_int_equal(counts.removed, 1);
  assert_int_not_equal(access(old, F_OK), 0);
  assert_int_not_equal(access(sock, F_OK), 0);
  assert_int_equal(access(young, F_OK), 0);
  /* Counted once, however often somebody looks. */
  counts = reaped(3600000, 64);
  assert_int_equal(counts.folded, 0);
  assert_int_equal(mg_segment_services(segment_directory, &service, 1), 1);
  assert_int_equal(service.ended[MG_VERDICT_KILLED] +
                       service.ended[MG_VERDICT_OOM_LIKELY],
                   2);
  assert_int_equal(service.gc_count[0], 20);
  assert_string_equal(service.program, whole->header.program);
}

static void test_ten_thousand_stale(void **state) {
  mg_segment_service service;
  mg_segment_reaped counts;
  mg_segment_names names;
  mg_error err = MG_ERROR_INIT;
  char path[400];

  (void)state;
  clear();
  for (uint32_t i = 1; i <= 10000; i++)
    write_dead(100000 + i, now_ms() - 20000 + i, path, sizeof path);
  counts = reaped(MG_SEGMENT_KEEP_MS, MG_SEGMENT_KEEP);
  assert_int_equal(counts.dead, 10000);
  assert_int_equal(counts.folded, 10000);
  assert_int_equal(counts.removed, 9936);
  assert_ok(mg_segment_list(&names, segment_directory, &err), &err);
  assert_int_equal(names.count, 64);
  /* The newest. */
  assert_non_null(strstr(names.name[0], "-109937-1"));
  assert_non_null(strstr(names.name[63], "-110000-1"));
  mg_segment_names_free(&names);
  assert_int_equal(mg_segment_services(segment_directory, &service, 1), 1);
  assert_int_equal(service.gc_count[0], 100000);
}

static void test_reap_leaves_the_living(void **state) {
  mg_config config = support_config("sample_interval", "10ms", NULL);
  mg_monitor *monitor = opened(&config, NULL);
  mg_segment_reaped counts;
  char path[400];

  (void)state;
  clear();
  start(monitor);
  assert_non_null(segment_awaited());
  /* Damaged, of now: kept as long as the others. */
  write_dead(12, now_ms(), path, sizeof path);
  assert_int_equal(truncate(path, 100), 0);
  counts = reaped(0, 0);
  assert_int_equal(counts.alive, 1);
  assert_int_equal(access(segment_awaited(), F_OK), 0);
  mg_monitor_close(monitor);
}

/* ---- no memory ---------------------------------------------------------------- */

static void use_everything(const char *path) {
  mg_segment_reaped counts;
  mg_segment_names names;
  mg_segment *segment;

  if (mg_segment_open(&segment, path, NULL) == MG_OK) (void)read_all(segment);
  mg_segment_close(segment);
  (void)mg_segment_list(&names, segment_directory, NULL);
  mg_segment_names_free(&names);
  (void)mg_segment_reap(segment_directory, 1e9, 8, &counts, NULL);
}

static void test_no_memory(void **state) {
  char path[400];
  long index = 0;

  (void)state;
  clear();
  write_dead(13, now_ms(), path, sizeof path);
  do {
    fixture_fail_allocation(index++);
    use_everything(path);
  } while (fixture_allocation_failed());
  assert_true(index > 8);
  assert_int_equal(access(path, F_OK), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_whole),
      cmocka_unit_test(test_cut_off_or_longer),
      cmocka_unit_test(test_bits_of_the_header),
      cmocka_unit_test(test_bits_of_the_present),
      cmocka_unit_test(test_no_whole_sample),
      cmocka_unit_test(test_torn_point),
      cmocka_unit_test(test_noise),
      cmocka_unit_test(test_last_number),
      cmocka_unit_test(test_foreign),
      cmocka_unit_test(test_reused_pid),
      cmocka_unit_test(test_shrinks_and_vanishes),
      cmocka_unit_test(test_list),
      cmocka_unit_test(test_reap_by_age),
      cmocka_unit_test(test_ten_thousand_stale),
      cmocka_unit_test(test_reap_leaves_the_living),
      cmocka_unit_test(test_no_memory)};

  return cmocka_run_group_tests(tests, publish, unpublish);
}
