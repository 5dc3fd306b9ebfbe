/* watch.c - the command `memguard watch`: a watchdog beside a process.
 *
 *   over      resident memory above --rss, or level at least --level
 *   trips     when it was over in every look for --for seconds: never on one spike
 *   acts      --snapshot: saves what the process holds
 *             --exec: runs a command; WATCH_PID and WATCH_REASON tell about whom
 *             --restart, of a command it supervises: SIGTERM, SIGKILL if that does not
 *             help, and started again, also when it ended by itself with a code that
 *             is not 0. After 1 s, twice that each time up to 60 s; 1 s again once it
 *             ran for 10 minutes
 *
 * With neither --restart nor --keep it ends at the first trip. */
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"
#include "pid.h"
#include "tree.h"

#define WATCH_BACK_OFF_S 1.0
#define WATCH_BACK_OFF_MAX_S 60.0
#define WATCH_GOOD_S 600.0
#define WATCH_RUN_S 60.0

typedef struct watch_options {
  long pid;
  char **command;
  double rss_mb, for_s, interval_s, restarts;
  int level; /* -1: not asked for */
  const char *snapshot, *exec;
  bool restart, keep;
} watch_options;

typedef struct watch {
  const watch_options *options;
  double over_since_s; /* 0: it is not over */
  char reason[128];
} watch;

static volatile sig_atomic_t watch_is_over;

static void watch_note_signal(int number) {
  (void)number;
  watch_is_over = 1;
}

/* ---- looking ----------------------------------------------------------------- */

/* @return whether the process is there; `is_over` and the reason are told. */
static bool watch_look(watch *w, long pid, bool *is_over) {
  tree_reading now;
  process one;

  *is_over = false;
  if (!tree_read(&now, pid, NULL)) return false;
  if (w->options->rss_mb > 0 &&
      (double)now.rss_bytes > w->options->rss_mb * MG_BYTES_PER_MB) {
    *is_over = true;
    snprintf(w->reason, sizeof w->reason, "%.0f MB resident, allowed %.0f",
             (double)now.rss_bytes / MG_BYTES_PER_MB, w->options->rss_mb);
  }
  if (w->options->level < 0 || *is_over || !process_try_pid(&one, pid)) return true;
  if ((int)one.view.sample.level >= w->options->level) {
    *is_over = true;
    snprintf(w->reason, sizeof w->reason, "level %s, %.0f %% of its limit",
             mg_level_name(one.view.sample.level), 100 * one.view.sample.usage);
  }
  process_close(&one);
  return true;
}

/* @return whether it has been over for long enough. */
static bool watch_trips(watch *w, bool is_over) {
  double now_s = cli_now_s();

  if (!is_over) {
    w->over_since_s = 0;
    return false;
  }
  if (w->over_since_s == 0) w->over_since_s = now_s;
  return now_s - w->over_since_s >= w->options->for_s;
}

/* ---- acting ------------------------------------------------------------------- */

static void watch_say(long pid, const char *what) {
  fprintf(stderr, "memguard watch: process %ld: %s\n", pid, what);
}

/* Runs one of the tool's own commands or the user's; never waits for ever. */
static void watch_run(const watch *w, const char *pid, char *const argv[]) {
  double end_s = cli_now_s() + WATCH_RUN_S;
  pid_t child = fork();

  if (child == 0) {
    setenv("WATCH_PID", pid, 1);
    setenv("WATCH_REASON", w->reason, 1);
    execvp(argv[0], argv);
    _exit(CLI_NO_COMMAND);
  }
  if (child < 0) return;
  while (waitpid(child, NULL, WNOHANG) == 0) {
    if (cli_now_s() > end_s) kill(child, SIGKILL);
    cli_sleep_s(0.05);
  }
}

static void watch_act(const watch *w, long pid) {
  char number[24];

  watch_say(pid, w->reason);
  snprintf(number, sizeof number, "%ld", pid);
  if (w->options->snapshot != NULL)
    watch_run(w, number,
              (char *const[]){"/proc/self/exe", "snapshot", "--save",
                              (char *)(uintptr_t)w->options->snapshot, number, NULL});
  if (w->options->exec != NULL)
    watch_run(w, number,
              (char *const[]){"/bin/sh", "-c", (char *)(uintptr_t)w->options->exec,
                              NULL});
}

/* ---- a process that is there --------------------------------------------------- */

static int watch_process(watch *w) {
  long pid = w->options->pid;
  bool is_over;

  if (!watch_look(w, pid, &is_over))
    return cli_fail(CLI_NOT_FOUND, "there is no process %ld", pid);
  while (watch_is_over == 0) {
    if (!watch_look(w, pid, &is_over)) {
      watch_say(pid, "has ended");
      return CLI_OK;
    }
    if (watch_trips(w, is_over)) {
      watch_act(w, pid);
      if (!w->options->keep) return CLI_FOUND;
      w->over_since_s = 0;
    }
    cli_sleep_s(w->options->interval_s);
  }
  return CLI_OK;
}

/* ---- a command that is supervised ----------------------------------------------- */

/* Watches one life of the command. @return whether it is to be started again. */
static bool watch_life(watch *w, launch *started, int *out_code) {
  bool is_over, has_tripped = false;

  w->over_since_s = 0;
  while (!launch_wait(started, (int)(w->options->interval_s * 1e3))) {
    if (!watch_look(w, started->pid, &is_over) || !watch_trips(w, is_over)) continue;
    watch_act(w, started->pid);
    has_tripped = true;
    w->over_since_s = 0;
    if (w->options->restart || !w->options->keep) break;
  }
  launch_end(started);
  *out_code = launch_code(started);
  if (has_tripped && !w->options->restart) *out_code = CLI_FOUND;
  return w->options->restart && (has_tripped || *out_code != 0);
}

static int watch_command(watch *w) {
  double back_off_s = WATCH_BACK_OFF_S;
  int code = CLI_OK;

  for (double lives = 0;; lives++) {
    double began_s = cli_now_s();
    launch started;
    bool again;
    code = launch_start(&started, w->options->command, LAUNCH_WATCHED);
    if (code != CLI_OK) return code;
    again = watch_life(w, &started, &code);
    /* launch_end() has given the signals back. */
    if (started.signalled || !again || lives >= w->options->restarts) return code;
    if (cli_now_s() - began_s > WATCH_GOOD_S) back_off_s = WATCH_BACK_OFF_S;
    fprintf(stderr, "memguard watch: starts it again in %.0f s\n", back_off_s);
    cli_sleep_s(back_off_s);
    back_off_s = fmin(2 * back_off_s, WATCH_BACK_OFF_MAX_S);
  }
}

/* ---- the command ------------------------------------------------------------------ */

static int watch_level(const char *name) {
  for (int level = 0; level < MG_LEVELS; level++)
    if (strcmp(mg_level_name((mg_level)level), name) == 0) return level;
  return -1;
}

enum { WATCH_KEEP = 256, WATCH_RESTARTS };

static bool watch_take(watch_options *out, int option) {
  switch (option) {
    case 'r': return cli_number("--rss", optarg, 1, 1e9, &out->rss_mb);
    case 'f': return cli_number("--for", optarg, 0, 86400, &out->for_s);
    case 'i': return cli_number("--interval", optarg, 0.05, 3600, &out->interval_s);
    case 'p': return pid_take(&out->pid, optarg);
    case 's': out->snapshot = optarg; return true;
    case 'x': out->exec = optarg; return true;
    case 'R': out->restart = true; return true;
    case WATCH_KEEP: out->keep = true; return true;
    case WATCH_RESTARTS:
      out->restart = true;
      return cli_number("--restarts", optarg, 0, 1e9, &out->restarts);
    default:
      out->level = watch_level(optarg);
      if (out->level >= 0) return true;
      cli_usage("--level \"%s\": normal, elevated, high and critical are known",
                optarg);
      return false;
  }
}

static int watch_check(const watch_options *options) {
  if ((options->command != NULL) == (options->pid != 0))
    return cli_usage("either a command after -- or --pid PID is needed");
  if (options->rss_mb == 0 && options->level < 0)
    return cli_usage("--rss MB or --level LEVEL is needed");
  if (options->restart && options->command == NULL)
    return cli_usage("--restart needs a command: only what it started is started "
                     "again");
  return CLI_OK;
}

static int watch_read_options(watch_options *out, int argc, char **argv) {
  static const struct option longs[] = {
      {"rss", required_argument, NULL, 'r'},
      {"level", required_argument, NULL, 'l'},
      {"for", required_argument, NULL, 'f'},
      {"interval", required_argument, NULL, 'i'},
      {"pid", required_argument, NULL, 'p'},
      {"snapshot", required_argument, NULL, 's'},
      {"exec", required_argument, NULL, 'x'},
      {"restart", no_argument, NULL, 'R'},
      {"restarts", required_argument, NULL, WATCH_RESTARTS},
      {"keep", no_argument, NULL, WATCH_KEEP},
      {"help", no_argument, NULL, 'h'},
      {NULL, 0, NULL, 0}};
  int option;

  *out = (watch_options){
      .for_s = 30, .interval_s = 1, .restarts = (double)INFINITY, .level = -1};
  opterr = 0;
  while ((option = getopt_long(argc, argv, "+r:l:f:i:p:s:x:h", longs, NULL)) != -1) {
    if (option == 'h') return cli_help(), -1;
    if (option == '?') return cli_bad_option(argc, argv);
    if (!watch_take(out, option)) return CLI_USAGE;
  }
  if (optind < argc) out->command = argv + optind;
  return watch_check(out);
}

int cli_watch(int argc, char **argv) {
  struct sigaction to = {.sa_handler = watch_note_signal};
  watch_options options;
  watch w = {.options = &options};
  int code = watch_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  if (options.command != NULL) return watch_command(&w);
  sigaction(SIGINT, &to, NULL);
  sigaction(SIGTERM, &to, NULL);
  return watch_process(&w);
}
