/* measure.c - measures one run of a command, or a while of a running process.
 *
 * The tree of processes is read each MEASURE_STEP_MS: short peaks in between are
 * missed, but for the command itself, whose highest resident memory the kernel
 * keeps and whose processor time it adds up. */
#include <math.h>
#include <string.h>

#include "baseline.h"
#include "launch.h"
#include "process.h"
#include "tree.h"

#define MEASURE_STEP_MS 20
#define MEASURE_POINTS 512 /* of resident memory over time; then every other */
#define MEASURE_GROWTH_LEAST_S 10.0

typedef struct measure {
  double began_s;
  uint64_t peak_rss_bytes, fds, threads;
  double rss_sum, rss_count, cpu_first_s, cpu_last_s;
  double at_s[MEASURE_POINTS], rss_mb[MEASURE_POINTS];
  size_t points, every, passed;
} measure;

static void measure_begin(measure *m) {
  memset(m, 0, sizeof *m);
  m->began_s = cli_now_s();
  m->every = 1;
  m->cpu_first_s = -1;
}

/* Keeps the series bounded: when it is full, every other point goes. */
static void measure_point(measure *m, double rss_mb) {
  if (m->passed++ % m->every != 0) return;
  if (m->points == MEASURE_POINTS) {
    for (size_t i = 0; i < MEASURE_POINTS / 2; i++) {
      m->at_s[i] = m->at_s[2 * i];
      m->rss_mb[i] = m->rss_mb[2 * i];
    }
    m->points /= 2;
    m->every *= 2;
  }
  m->at_s[m->points] = cli_now_s() - m->began_s;
  m->rss_mb[m->points++] = rss_mb;
}

static bool measure_step(measure *m, long pid) {
  tree_reading now;

  if (!tree_read(&now, pid, NULL)) return false;
  if (now.rss_bytes > m->peak_rss_bytes) m->peak_rss_bytes = now.rss_bytes;
  if (now.fds > m->fds) m->fds = now.fds;
  if (now.threads > m->threads) m->threads = now.threads;
  if (m->cpu_first_s < 0) m->cpu_first_s = now.cpu_seconds;
  m->cpu_last_s = now.cpu_seconds;
  m->rss_sum += (double)now.rss_bytes;
  m->rss_count++;
  measure_point(m, (double)now.rss_bytes / MG_BYTES_PER_MB);
  return true;
}

/* MB a minute by the median of slopes (Theil-Sen) over the second half. */
static double measure_growth(const measure *m) {
  double slopes[STATISTICS_MAX];
  size_t count = 0, from = m->points / 2, half = (m->points - from) / 2;

  if (m->points < 8 || m->at_s[m->points - 1] < MEASURE_GROWTH_LEAST_S)
    return (double)NAN;
  for (size_t i = from; i + half < m->points && count < STATISTICS_MAX; i++)
    slopes[count++] = (m->rss_mb[i + half] - m->rss_mb[i]) /
                      (m->at_s[i + half] - m->at_s[i]) * 60;
  return statistics_median(slopes, count);
}

static void measure_end(const measure *m, double out[METRICS]) {
  for (int i = 0; i < METRICS; i++) out[i] = (double)NAN;
  out[METRIC_WALL] = cli_now_s() - m->began_s;
  if (m->rss_count == 0) return;
  out[METRIC_PEAK_RSS] = (double)m->peak_rss_bytes / MG_BYTES_PER_MB;
  out[METRIC_MEAN_RSS] = m->rss_sum / m->rss_count / MG_BYTES_PER_MB;
  out[METRIC_FDS] = (double)m->fds;
  out[METRIC_THREADS] = (double)m->threads;
  out[METRIC_CPU] = m->cpu_last_s - m->cpu_first_s;
  out[METRIC_GROWTH] = measure_growth(m);
}

/* ---- a command ------------------------------------------------------------ */

static void measure_usage(double out[METRICS], const struct rusage *usage) {
  double peak_mb = (double)usage->ru_maxrss / 1024;

  out[METRIC_CPU] = (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
                    (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) /
                        1e6;
  if (isnan(out[METRIC_PEAK_RSS]) || peak_mb > out[METRIC_PEAK_RSS])
    out[METRIC_PEAK_RSS] = peak_mb;
}

/* The recorder of a program that ran under memguard outlives it. */
static void measure_collections(double out[METRICS], long pid) {
  process one;

  if (!process_try_pid(&one, pid)) return;
  out[METRIC_GC_COUNT] = out[METRIC_GC_TOTAL] = out[METRIC_GC_PAUSE_MAX] = 0;
  for (int kind = 0; kind < (int)MG_PAUSE_KINDS; kind++) {
    const mg_segment_gc *gc = &one.view.gc[kind];
    out[METRIC_GC_COUNT] += (double)gc->count;
    out[METRIC_GC_TOTAL] += (double)gc->wall_ns / 1e6;
    out[METRIC_GC_PAUSE_MAX] = fmax(out[METRIC_GC_PAUSE_MAX],
                                    (double)gc->max_ns / 1e6);
  }
  process_close(&one);
}

int measure_command(double out[METRICS], int *out_code, char **command,
                    unsigned how) {
  launch started;
  measure m;
  int code;

  measure_begin(&m);
  code = launch_start(&started, command, how);
  if (code != CLI_OK) return code;
  do {
    measure_step(&m, started.pid);
  } while (!launch_wait(&started, MEASURE_STEP_MS));
  measure_end(&m, out);
  launch_end(&started);
  measure_usage(out, &started.usage);
  measure_collections(out, started.pid);
  *out_code = launch_code(&started);
  return CLI_OK;
}

int measure_process(double out[METRICS], long pid, double seconds) {
  measure m;

  measure_begin(&m);
  if (!measure_step(&m, pid))
    return cli_fail(CLI_NOT_FOUND, "there is no process %ld", pid);
  while (cli_now_s() - m.began_s < seconds) {
    cli_sleep_s(MEASURE_STEP_MS / 1e3);
    if (!measure_step(&m, pid))
      return cli_fail(CLI_REFUSED, "process %ld ended after %.1f s", pid,
                      cli_now_s() - m.began_s);
  }
  measure_end(&m, out);
  return CLI_OK;
}
