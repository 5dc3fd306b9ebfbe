/* sample.c - reading samples from C, beside libproc2.
 *
 * Prints one line per figure: NAME OURS_NS PEER_NS PEER. Each is the median of
 * BENCH_NS_ROUNDS rounds. */
#include <libproc2/pids.h>
#include <stdio.h>
#include <unistd.h>

#include "median.h"
#include "memguard.h"

static mg_monitor *monitor;
static struct pids_info *pids;
static volatile uint64_t sink;

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
  peer = bench_median_ns(read_libproc2, 5000);
  printf("sample.read.c %.2f %.1f libproc2\n",
         bench_median_ns(read_latest, 2000000), peer);
  printf("sample.rss.c %.2f %.1f libproc2\n", bench_median_ns(read_rss, 100000),
         peer);
  printf("sample.pass %.1f - -\n", bench_median_ns(make_pass, 10000));
  mg_monitor_close(monitor);
  procps_pids_unref(&pids);
  return 0;
}
