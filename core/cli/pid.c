/* pid.c - options of commands about one process. */
#include "pid.h"

#include <getopt.h>

bool pid_take(long *out, const char *text) {
  double value;

  if (!cli_number("PID", text, 1, 4194304, &value)) return false;
  *out = (long)value;
  return true;
}

int pid_read_options(pid_options *out, int argc, char **argv, bool is_needed) {
  static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  int option;

  *out = (pid_options){false, 0};
  opterr = 0;
  while ((option = getopt_long(argc, argv, "jh", longs, NULL)) != -1) {
    switch (option) {
      case 'j': out->is_json = true; break;
      case 'h': cli_help(); return -1;
      default: return cli_bad_option(argc, argv);
    }
  }
  if (argc - optind > 1 || (is_needed && optind == argc))
    return cli_usage("one PID is needed");
  if (optind < argc && !pid_take(&out->pid, argv[optind])) return CLI_USAGE;
  return CLI_OK;
}
