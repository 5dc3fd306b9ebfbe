/* baseline.h - a file of measured runs, and how a run is measured.
 *
 * The file is JSON:
 *   {"memguard_baseline": 1, "version": "0.1.0", "program": "python3",
 *    "created_unix_ms": 1763740000000, "cpus": 2, "memory_mb": 24064,
 *    "runs": [{"peak_rss": 41.3, "wall": 2.02, ...}, ...]}
 * Each process run is one sample; a metric that a run does not have is left out.
 * It names the program, not its arguments. */
#ifndef MG_CLI_BASELINE_H
#define MG_CLI_BASELINE_H

#include "cli.h"
#include "metric.h"

#define BASELINE_FORMAT 1

typedef struct baseline {
  char program[256];
  metric_runs runs;
} baseline;

/** Reads and checks a file. @return CLI_OK, or what was said on stderr. */
int baseline_load(baseline *out, const char *path);
/** @param path "-" is stdout. */
int baseline_save(const baseline *from, const char *path);

/* ---- measure.c ------------------------------------------------------------ */

/** Runs a command and measures it and its children to its end.
 *  @param how as for launch_start(). @param out_code its exit code, 128 + the signal that ended it.
 *  @return CLI_OK; CLI_NO_COMMAND, CLI_NOT_RUNNABLE, CLI_SYSTEM: said on stderr. */
int measure_command(double out[METRICS], int *out_code, char **command,
                    unsigned how);
/** Watches a running process and its children for `seconds`.
 *  @return CLI_OK; CLI_NOT_FOUND, CLI_REFUSED (it ended before): said on stderr. */
int measure_process(double out[METRICS], long pid, double seconds);

#endif
