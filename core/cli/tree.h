/* tree.h - a process and all it started, as /proc shows them. */
#ifndef MG_CLI_TREE_H
#define MG_CLI_TREE_H

#include "memguard/base.h"

#define TREE_MAX 1024 /* processes; more are left out */

typedef struct tree_reading {
  uint32_t processes;
  uint64_t rss_bytes, fds, threads; /* sums */
  double cpu_seconds;
} tree_reading;

/** Reads `pid` and its descendants. @param pids [may be NULL] room for TREE_MAX.
 *  @return false if it does not exist. */
bool tree_read(tree_reading *out, long pid, long *pids);

#endif
