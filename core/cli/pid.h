/* pid.h - what commands about one process have in common. */
#ifndef MG_CLI_PID_H
#define MG_CLI_PID_H

#include "process.h"

/** Options of a command: --json, --help, and one PID. */
typedef struct pid_options {
  bool is_json;
  long pid; /* 0: none was given */
} pid_options;

/** Reads "[--json] [PID]". @return CLI_OK, -1 after help was printed, CLI_USAGE. */
int pid_read_options(pid_options *out, int argc, char **argv, bool is_needed);
/** Takes a PID out of an argument. @return whether it is one; else said. */
bool pid_take(long *out, const char *text);

#endif
