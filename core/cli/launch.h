/* launch.h - starts a command as a child of the tool, for as long as the tool needs
 * it. */
#ifndef MG_CLI_LAUNCH_H
#define MG_CLI_LAUNCH_H

#include <sys/resource.h>
#include <sys/types.h>

#include "cli.h"

typedef struct launch {
  pid_t pid; /* of the child; but with LAUNCH_SHARED it leads a process group */
  int pid_fd;
  bool is_over, signalled; /* signalled: the tool was told to end meanwhile */
  int status;          /* of wait(), once it ended */
  struct rusage usage; /* then, with that of the children it waited for */
} launch;

typedef enum launch_how {
  LAUNCH_PLAIN = 0,
  LAUNCH_WATCHED = 1,   /* with the variables of `memguard run` */
  LAUNCH_TO_STDERR = 2, /* its stdout: the tool's own is for the result */
  LAUNCH_SHARED = 4, /* the tool's process group: it may read from the terminal */
} launch_how;

/** Starts `command`. @param how bits of launch_how. SIGINT, SIGTERM and SIGHUP are
 *  handed on to it until launch_end().
 *  @return CLI_OK; CLI_NO_COMMAND, CLI_NOT_RUNNABLE, CLI_SYSTEM: said on stderr. */
int launch_start(launch *out, char **command, unsigned how);
/** Waits until it publishes its segment, at most LAUNCH_PUBLISH_MS.
 *  @return CLI_OK; CLI_NOT_FOUND (it ended, or is no program of ours): said. */
#define LAUNCH_PUBLISH_MS 20000
int launch_wait_published(launch *started);
/** Waits for its end. @return whether it has ended. */
bool launch_wait(launch *started, int timeout_ms);
/** Ends it unless it has ended: SIGTERM, after LAUNCH_END_S SIGKILL, to its group. */
#define LAUNCH_END_S 10.0
void launch_end(launch *started);
/** Its exit code, or 128 + the signal that ended it. */
int launch_code(const launch *started);

/* ---- run.c ---------------------------------------------------------------- */

/** Sets the variables of `memguard run` in this process. */
int run_prepare_default(void);
/** Finds start.js of the npm package, beside this program or in a node_modules of the
 *  folder or one above. @param out of PATH_MAX bytes. */
bool run_find_node(char *out);

#endif
