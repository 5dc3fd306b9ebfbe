/* sample.c - reading samples from C, beside libproc2.
 *
 * Prints one line per figure: NAME OURS_NS PEER_NS PEER. Each is the median of
 * BENCH_ROUNDS rounds. */
#include <libproc2/pids.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "memguard.h"

#define BENCH_ROUNDS 9

static mg_monitor *monitor;
static struct pids_info *pids;
static volatile uint64_t sink;

static double now_ns(void) { return (double)mg_clock_ns(); }

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;

  return (x > y) - (x < y);
}

static double median_ns(void (*run)(void), int calls) {
  double round_ns[BENCH_ROUNDS];

  for (int round = 0; round < BENCH_ROUNDS; round++) {
    double began = now_ns();
    for (int i = 0; i < calls; i++) run();
    round_ns[round] = (now_ns() - began) / calls;
  }
  qsort(round_ns, BENCH_ROUNDS, sizeof *round_ns, compare);
  return round_ns[BENCH_ROUNDS / 2];
}

static void read_latest(void) {
  mg_sample sample;

  mg_monitor_latest(monitor, &sample);
  sink = sample.reading.rss_bytes;
}

static void read_rss(void) { sink = mg_rss_bytes(); }

static void make_pass(void) { mg_monitor_pass(monitor, false, NULL); }

static void read_libproc2(void) {
  const struct pids_fetch *fetched =
      procps_pids_select(pids, (unsigned[]){(unsigned)getpid()}, 1,
                         PIDS_SELECT_PID);

  sink = fetched->stacks[0]->head[0].result.ul_int;
}

static int open_peers(void) {
  enum pids_item items[] = {PIDS_MEM_RES};
  mg_config config;

  mg_config_init(&config, MG_PROFILE_DEFAULT);
  return mg_monitor_open(&monitor, &config, NULL, NULL) == MG_OK &&
         mg_monitor_start(monitor, NULL) == MG_OK &&
         procps_pids_new(&pids, items, 1) == 0;
}

int main(void) {
  double peer;

  if (!open_peers()) return 1;
  make_pass();
  peer = median_ns(read_libproc2, 5000);
  printf("sample.read.c %.2f %.1f libproc2\n", median_ns(read_latest, 2000000),
         peer);
  printf("sample.rss.c %.2f %.1f libproc2\n", median_ns(read_rss, 100000),
         peer);
  printf("sample.pass %.1f - -\n", median_ns(make_pass, 10000));
  mg_monitor_close(monitor);
  procps_pids_unref(&pids);
  return 0;
}
