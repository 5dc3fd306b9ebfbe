/* cli.h - what the commands of the memguard tool share.
 *
 *   memguard COMMAND [OPTION...] [ARGUMENT...]
 *
 * main.c finds the command in CLI_COMMANDS and calls its function, which lives in
 * the file of its name. Each prints its result on stdout, as text or with --json
 * as one JSON document, and what went wrong on stderr as one line
 * "memguard COMMAND: ...". It returns an exit code of CLI_EXIT_MAP.
 *
 * The tool is a process of its own: it may use libraries (cJSON, libyaml, ncurses)
 * that no host process ever loads. */
#ifndef MG_CLI_H
#define MG_CLI_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "memguard/base.h"

/** X(ID, code, text). `run` and `baseline` pass on the exit code of what they
 *  run; they use 126 and 127 as a shell does where it cannot be started. */
#define CLI_EXIT_MAP(X)                                                      \
  X(OK, 0, "done, nothing wrong found")                                      \
  X(FOUND, 1, "found: a regression, a leak, a process that is not healthy")  \
  X(USAGE, 2, "wrong command line, file or configuration")                   \
  X(INCONCLUSIVE, 3, "compare: moved, but the runs are too few or too noisy") \
  X(NOT_FOUND, 4, "no such process, file or folder")                         \
  X(REFUSED, 5, "the process does not answer, or refuses")                   \
  X(SYSTEM, 6, "a system call failed or memory ran out")                     \
  X(NOT_RUNNABLE, 126, "the command was found but cannot be executed")       \
  X(NO_COMMAND, 127, "the command to run was not found")

typedef enum cli_exit {
#define CLI_EXIT_ENUM(id, code, text) CLI_##id = (code),
  CLI_EXIT_MAP(CLI_EXIT_ENUM)
#undef CLI_EXIT_ENUM
} cli_exit;

/** X(ID, name, summary, usage, examples): in the order in which help lists them. */
#define CLI_COMMANDS(X)                                                        \
  X(run, "run", "start a Python or Node program under memguard",               \
    "[--profile NAME] [--config FILE] [--set KEY=VALUE]...\n"                   \
    "             [--max-memory SIZE] [--no-python] [--no-node]\n"             \
    "             [--leak-check [--time-scale K] [--json FILE]]\n"             \
    "             -- COMMAND [ARGUMENT...]",                                   \
    "memguard run -- gunicorn --workers 4 app:app\n"                           \
    "memguard run --max-memory 512MB -- node server.js\n"                      \
    "memguard run --leak-check --time-scale 60 --json - -- python app.py") \
  X(top, "top", "watch the processes under memguard",                           \
    "[--sort COLUMN] [--interval S] [--all] [--once] [--json]",                \
    "memguard top --sort rss\n"                                                \
    "memguard top --once --json")                                              \
  X(ps, "ps", "list the processes under memguard", "[--all] [--json]",          \
    "memguard ps --json")                                                      \
  X(stats, "stats", "show the memory of one process", "PID [--json]",          \
    "memguard stats 4711")                                                     \
  X(health, "health", "tell whether processes are well", "[PID] [--json]",      \
    "memguard health || systemctl restart app")                                \
  X(gc, "gc", "have a process collect garbage now",                            \
    "[--timeout S] [--json] PID",                                              \
    "memguard gc 4711")                                                        \
  X(optimize, "optimize", "have a process free all it can now",                \
    "[--timeout S] [--json] PID",                                              \
    "memguard optimize 4711")                                                  \
  X(gc_profile, "gc-profile", "measure and tune the collections of a process",  \
    "[--duration S] [--optimize [--settle S]]\n"                               \
    "             [--prometheus|--json] (PID | -- COMMAND...)",                                      \
    "memguard gc-profile --duration 60 4711\n"                                 \
    "memguard gc-profile --duration 20 --optimize -- python app.py")           \
  X(snapshot, "snapshot", "save what a process holds, as JSON",                \
    "PID [--top N] [--continuous N --interval S]\n"                            \
    "             [--save FILE]",                                             \
    "memguard snapshot 4711 --top 20\n"                                        \
    "memguard snapshot 4711 --continuous 30 --interval 60 --save day.json")    \
  X(postmortem, "postmortem", "tell why processes ended", "[FOLDER|FILE] [--json]", \
    "memguard postmortem")                                                     \
  X(baseline, "baseline", "measure a command or process, to compare with later", \
    "--save FILE [--runs N]\n"                                                 \
    "             (--pid PID --duration S | [--watched] -- COMMAND...)",       \
    "memguard baseline --runs 5 --save main.json -- python job.py")            \
  X(compare, "compare", "tell whether one baseline is worse than another",     \
    "BASE NEW [--threshold PERCENT]\n             [--metric NAME=PERCENT]...\n"              \
    "             [--format text|md|json|github|junit|openmetrics]",           \
    "memguard compare main.json branch.json --threshold 15 --format github")   \
  X(watch, "watch", "act when a process stays above a bound",                  \
    "(--rss MB | --level LEVEL) [--for S] [--interval S]\n" \
    "             [--snapshot FILE] [--exec COMMAND] [--keep]\n"                                 \
    "             (--pid PID | [--restart] [--restarts N] -- COMMAND...)",     \
    "memguard watch --rss 800 --for 60 --snapshot big.json --pid 4711\n"       \
    "memguard watch --level high --for 300 --restart -- python worker.py")     \
  X(stress, "stress", "call a function for hours and judge its memory",        \
    "[--hours H] [--time-scale K] (MODULE:FUNCTION | FILE.js)",                \
    "memguard stress --hours 8 --time-scale 480 app.jobs:handle")              \
  X(exporter, "exporter", "serve metrics, API and dashboard of all processes",  \
    "[--listen ADDRESS:PORT | --unix PATH]\n"                                   \
    "             [--token-file FILE] [--read-token] [--allow-remote]\n"        \
    "             [--allow-host NAME]... [--ready-below PERCENT]\n"            \
    "             --list-metrics [--json]",                                     \
    "memguard exporter\n"                                                      \
    "memguard exporter --listen 0.0.0.0:9479 --allow-remote --token-file FILE\n" \
    "memguard exporter --list-metrics")                                        \
  X(rules, "rules", "print alerting rules for Prometheus, or a dashboard",     \
    "[--group NAME]... [--rss MB] [--label NAME=VALUE]...\n"                    \
    "             [--runbook URL]\n"                                            \
    "             --grafana",                                                   \
    "memguard rules > memguard.rules.yml\n"                                    \
    "memguard rules --group memguard-leaks --label team=core\n"                \
    "memguard rules --grafana > memguard.json")                                \
  X(check_config, "check-config", "check a configuration file",                \
    "FILE [--profile NAME] [--json]\n"                                          \
    "             --keys [--json]",                                            \
    "memguard check-config memguard.yaml --profile production\n"                \
    "memguard check-config --keys")

#define CLI_COMMAND_DECLARE(id, name, summary, usage, examples) \
  int cli_##id(int argc, char **argv);
CLI_COMMANDS(CLI_COMMAND_DECLARE)
#undef CLI_COMMAND_DECLARE

/** What a command knows of itself, for its messages and its help. */
typedef struct cli_command {
  const char *name, *summary, *usage, *examples; /* one example a line */
  int (*run)(int argc, char **argv);
} cli_command;

/** The command that runs. */
extern const cli_command *cli_current;

/** Prints "memguard COMMAND: text" on stderr. @return `code`. */
int cli_fail(cli_exit code, const char *format, ...) MG_PRINTF(2, 3);
/** As above with a hint where help is. @return CLI_USAGE. */
int cli_usage(const char *format, ...) MG_PRINTF(1, 2);
/** For an option that getopt_long() refused. @return CLI_USAGE. */
int cli_bad_option(int argc, char **argv);
/** Prints the help of the current command. @return CLI_OK, or CLI_SYSTEM if it
 *  cannot be written. */
int cli_help(void);

/** Takes a whole number or a real one out of an argument, or says what is wrong
 *  with it. `what` names the option. @return whether it could. */
bool cli_number(const char *what, const char *text, double min, double max,
                double *out);

/* ---- text.c: output ------------------------------------------------------ */

/** Whether colour is wanted: stdout is a terminal and NO_COLOR is not set. */
bool cli_has_colour(void);
/** Prints `text` so that a terminal shows it and nothing else: control bytes and
 *  broken UTF-8 become '?'. @param width 0: as long as it is, else at most this
 *  many columns. */
void cli_print_safe(FILE *file, const char *text, size_t width);
/** "1.5 GB", "12.3 MB", "640 KB" into `out`; "-" for MG_ABSENT. @return out. */
#define CLI_BYTES_TEXT 16
char *cli_bytes(char out[CLI_BYTES_TEXT], uint64_t bytes);
/** Prints a JSON document and frees it. @return CLI_OK or CLI_SYSTEM. */
int cli_print_json(cJSON *document);

/* ---- clock.c --------------------------------------------------------------- */

/** Monotonic, and since 1970. */
double cli_now_s(void);
double cli_unix_ms(void);
/** A signal ends it early. */
void cli_sleep_s(double seconds);

/* ---- file.c: whole files -------------------------------------------------- */

#define CLI_FILE_MAX (16u * 1024u * 1024u)
/** Reads a file of at most CLI_FILE_MAX bytes. @param out [owned] NUL-terminated,
 *  free(). @return CLI_OK, or what was said on stderr. */
int cli_read_file(char **out, size_t *out_bytes, const char *path);
/** Replaces a file at once (a temporary one, renamed); "-" is stdout. */
int cli_write_file(const char *path, const char *text);
/** The same with a JSON document, a newline at its end. @param document [borrowed] */
int cli_write_json(const char *path, const cJSON *document);

#endif
