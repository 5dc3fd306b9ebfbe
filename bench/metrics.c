/* metrics.c - segments as a text for a scraper.
 *
 * Prints one line per figure: NAME OURS_NS. Each is the median of BENCH_ROUNDS
 * rounds. The segments are files in tmpfs as a Python process leaves them after ten
 * minutes: three kinds of collections, a full ring of points.
 *
 *   metrics.render    one process, its file open: read, and both groups of names
 *                     written
 *   metrics.render200 the same of 200 processes together, per process
 *   metrics.scrape200 200 files listed, opened, read, looked up whether they are
 *                     alive, with their services, rendered and closed */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memguard.h"
#include "segment_parts.h"

#define BENCH_ROUNDS 9
#define PROCESSES 200

static char directory[64];
static mg_metrics_process shown[PROCESSES];
static mg_segment_view view[PROCESSES];
static volatile size_t sink;

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;

  return (x > y) - (x < y);
}

static double median_ns(void (*run)(void), int calls) {
  double round_ns[BENCH_ROUNDS];

  for (int round = 0; round < BENCH_ROUNDS; round++) {
    double began = (double)mg_clock_ns();
    for (int i = 0; i < calls; i++) run();
    round_ns[round] = ((double)mg_clock_ns() - began) / calls;
  }
  qsort(round_ns, BENCH_ROUNDS, sizeof *round_ns, compare);
  return round_ns[BENCH_ROUNDS / 2];
}

/* ---- segments --------------------------------------------------------------- */

static void fill_points(mg_segment_layout *layout) {
  for (uint64_t number = 1; number <= MG_SEGMENT_SECONDS; number++) {
    mg_segment_point *p = &layout->second[number % MG_SEGMENT_SECONDS];
    *p = (mg_segment_point){.number = number,
                            .unix_ms = 1790000000000u + number * 1000,
                            .rss_bytes = 100000000 + number * 7919 % 100000};
    p->check = mg_segment_check(p, sizeof *p);
  }
}

static void fill_collections(mg_segment_layout *layout) {
  for (uint32_t kind = 0; kind < 3; kind++) {
    snprintf(layout->header.kind[kind], sizeof layout->header.kind[kind],
             "generation%u", kind);
    layout->gc[kind] = (mg_segment_gc){.count = MG_SEGMENT_BUCKETS * 10,
                                       .wall_ns = 123456789012,
                                       .cpu_ns = 123456789,
                                       .collected = 4711,
                                       .max_ns = 99999999};
    for (uint32_t i = 0; i < MG_SEGMENT_BUCKETS; i++)
      layout->gc_bucket[kind][i] = 10;
  }
}

static void fill(mg_segment_layout *layout, uint32_t pid) {
  mg_segment_header *h = &layout->header;
  mg_segment_now *now = &layout->now[1];

  memset(layout, 0, sizeof *layout);
  memcpy(h->magic, MG_SEGMENT_MAGIC, sizeof h->magic);
  h->byte_order = MG_SEGMENT_BYTE_ORDER;
  h->version = MG_SEGMENT_VERSION;
  h->header_bytes = sizeof *h;
  h->segment_bytes = sizeof *layout;
  h->pid = pid;
  h->opened_unix_ms = 1790000000000u;
  snprintf(h->runtime, sizeof h->runtime, "python");
  snprintf(h->program, sizeof h->program, "worker-%u.py", pid % 10);
  fill_points(layout);
  fill_collections(layout);
  h->crc = mg__segment_crc(h, offsetof(mg_segment_header, crc));
  *now = (mg_segment_now){.number = 1,
                          .usage = 0.25,
                          .domain = MG_DOMAIN_MAX_MEMORY,
                          .max_memory_bytes = 1 << 30,
                          .readings = sizeof(mg_reading) / sizeof(uint64_t)};
  for (uint32_t i = 0; i < now->readings; i++)
    now->reading[i] = 1000000007u * (i + 1);
  now->check = mg_segment_check(now, sizeof *now);
}

static bool write_segment(uint32_t number, const mg_segment_layout *layout) {
  char path[256];
  bool is_written;
  int fd;

  snprintf(path, sizeof path, "%s/%032x-1-%u-1", directory, 0, number + 1);
  fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  is_written =
      write(fd, layout, sizeof *layout) == (ssize_t)sizeof *layout;
  close(fd);
  return is_written && mg_segment_open(&shown[number].segment, path, NULL) == MG_OK;
}

static bool write_segments(void) {
  mg_segment_layout *layout = malloc(sizeof *layout);
  bool is_done = layout != NULL;

  for (uint32_t i = 0; i < PROCESSES && is_done; i++) {
    fill(layout, i + 1);
    is_done = write_segment(i, layout);
  }
  free(layout);
  return is_done;
}

/* ---- rendering --------------------------------------------------------------- */

static void render(size_t count) {
  size_t bytes;
  char *text;

  for (size_t i = 0; i < count; i++) {
    (void)mg_segment_read(shown[i].segment, &view[i], NULL);
    shown[i].header = mg_segment_header_of(shown[i].segment);
    shown[i].view = &view[i];
    shown[i].is_alive = true;
  }
  if (mg_metrics_render(&text, &bytes, shown, count, NULL, 0,
                        MG_METRICS_PROMETHEUS, MG_METRICS_ALL, NULL) == MG_OK)
    sink += bytes;
  mg_free_text(text);
}

static void render_one(void) { render(1); }
static void render_all(void) { render(PROCESSES); }

/* All that a scrape of an exporter without a memory costs. */
static void scrape(void) {
  static mg_metrics_process list[PROCESSES];
  static mg_segment_service services[MG_SEGMENT_SERVICES];
  size_t count = 0, bytes, known;
  char path[512], *text;
  mg_segment_names names;

  if (mg_segment_list(&names, directory, NULL) != MG_OK) return;
  for (size_t i = 0; i < names.count && count < PROCESSES; i++) {
    mg_metrics_process *p = &list[count];
    snprintf(path, sizeof path, "%s/%s", directory, names.name[i]);
    if (mg_segment_open(&p->segment, path, NULL) != MG_OK) continue;
    (void)mg_segment_read(p->segment, &view[count], NULL);
    p->header = mg_segment_header_of(p->segment);
    p->view = &view[count++];
    /* None of them is: what the question costs counts, not its answer. */
    p->is_alive = !mg_segment_is_alive(p->segment);
  }
  known = mg_segment_services(directory, services, MG_SEGMENT_SERVICES);
  if (mg_metrics_render(&text, &bytes, list, count, services, known,
                        MG_METRICS_PROMETHEUS, MG_METRICS_ALL, NULL) == MG_OK)
    sink += bytes;
  mg_free_text(text);
  for (size_t i = 0; i < count; i++) mg_segment_close(list[i].segment);
  mg_segment_names_free(&names);
}

static void clean_up(void) {
  char command[128];

  for (size_t i = 0; i < PROCESSES; i++) mg_segment_close(shown[i].segment);
  snprintf(command, sizeof command, "rm -rf %s", directory);
  sink += (size_t)system(command);
}

int main(void) {
  bool is_ready;

  snprintf(directory, sizeof directory, "/dev/shm/memguard-bench-XXXXXX");
  if (mkdtemp(directory) == NULL) return 1;
  is_ready = write_segments();
  if (is_ready) {
    printf("metrics.render %.1f\n", median_ns(render_one, 2000));
    printf("metrics.render200 %.1f\n", median_ns(render_all, 10) / PROCESSES);
    printf("metrics.scrape200 %.1f\n", median_ns(scrape, 5));
  }
  clean_up();
  return is_ready ? 0 : 1;
}
