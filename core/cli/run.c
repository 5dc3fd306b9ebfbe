/* run.c - the command `memguard run`: starts a program under memguard.
 *
 * It sets variables by which each Python and Node below loads memguard when it
 * starts, then becomes the command: signals, exit code, terminal and process
 * number are the command's own.
 *
 *   PYTHONPATH      a folder with a sitecustomize of ours in front
 *   NODE_OPTIONS    --require of ours, and sizes of V8's spaces for the limit
 *   MEMGUARD_*      profile and settings
 *
 * With --leak-check it stays beside the command instead, see leak_check.h. */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memguard/advice.h"
#include "memguard/process.h"
#include "launch.h"
#include "leak_check.h"
#include "settings.h"

#define RUN_NODE_MAJOR 20u /* advice is alike from 18 on */

typedef struct run_options {
  mg_config config;
  bool no_python, no_node, leak_check;
  const char *json; /* of the leak check */
  char **command;
} run_options;

/* ---- options ---------------------------------------------------------------- */

enum {
  RUN_MAX_MEMORY = 256,
  RUN_NO_PYTHON,
  RUN_NO_NODE,
  RUN_LEAK_CHECK,
  RUN_TIME_SCALE,
  RUN_JSON
};

static int run_take_profile(mg_config *config, const char *name) {
  mg_error err = MG_ERROR_INIT;
  mg_profile profile;

  if (mg_profile_find(&profile, name, &err) != MG_OK)
    return cli_usage("%s", err.text);
  mg_config_init(config, profile);
  return CLI_OK;
}

static int run_take_key(mg_config *config, const char *option, const char *key) {
  mg_error err = MG_ERROR_INIT;

  if (mg_config_set_text(config, key, optarg, &err) != MG_OK)
    return cli_usage("%s: %s", option, err.text);
  return CLI_OK;
}

/* The profile comes first, then the file, then what is set by hand, in whichever
 * order they are given: three rounds over the same words. */
static int run_take(run_options *out, int option, int round) {
  switch (option) {
    case 'p': return round == 0 ? run_take_profile(&out->config, optarg) : CLI_OK;
    case 'c': return round == 1 ? settings_load(&out->config, optarg) : CLI_OK;
    case 's': return round == 2 ? settings_take(&out->config, optarg) : CLI_OK;
    case RUN_MAX_MEMORY:
      return round < 2 ? CLI_OK
                       : run_take_key(&out->config, "--max-memory",
                                      "memory.max_memory_mb");
    case RUN_TIME_SCALE:
      return round < 2 ? CLI_OK
                       : run_take_key(&out->config, "--time-scale",
                                      "leak.time_scale");
    case RUN_LEAK_CHECK: out->leak_check = true; return CLI_OK;
    case RUN_JSON: out->json = optarg; return CLI_OK;
    case RUN_NO_PYTHON: out->no_python = true; return CLI_OK;
    case RUN_NO_NODE: out->no_node = true; return CLI_OK;
    default: return -1;
  }
}

static int run_read_options(run_options *out, int argc, char **argv) {
  static const struct option longs[] = {
      {"profile", required_argument, NULL, 'p'},
      {"config", required_argument, NULL, 'c'},
      {"set", required_argument, NULL, 's'},
      {"max-memory", required_argument, NULL, RUN_MAX_MEMORY},
      {"no-python", no_argument, NULL, RUN_NO_PYTHON},
      {"no-node", no_argument, NULL, RUN_NO_NODE},
      {"leak-check", no_argument, NULL, RUN_LEAK_CHECK},
      {"time-scale", required_argument, NULL, RUN_TIME_SCALE},
      {"json", required_argument, NULL, RUN_JSON},
      {"help", no_argument, NULL, 'h'},
      {NULL, 0, NULL, 0}};
  mg_error err = MG_ERROR_INIT;
  int option, code;

  mg_config_init(&out->config, MG_PROFILE_DEFAULT);
  for (int round = 0; round < 3; round++) {
    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "+p:c:s:h", longs, NULL)) != -1) {
      if (option == 'h') return cli_help(), -1;
      code = run_take(out, option, round);
      if (code < 0) return cli_bad_option(argc, argv);
      if (code != CLI_OK) return code;
    }
  }
  if (mg_config_check(&out->config, &err) != MG_OK) return cli_usage("%s", err.text);
  if (out->json != NULL && !out->leak_check)
    return cli_usage("--json is for --leak-check");
  if (optind == argc) return cli_usage("a command to run is needed after --");
  out->command = argv + optind;
  return CLI_OK;
}

/* ---- where memguard's packages are -------------------------------------------- */

static bool run_is_readable(const char *path) { return access(path, R_OK) == 0; }

/* The folder of this program, with links followed. */
static bool run_home(char out[PATH_MAX]) {
  ssize_t bytes = readlink("/proc/self/exe", out, PATH_MAX - 1);

  if (bytes <= 0) return false;
  out[bytes] = '\0';
  dirname(out);
  return true;
}

/* The first file of `patterns` (NULL ends them), each below this program's folder.
 * An asterisk stands for any name. */
static bool run_find(char out[PATH_MAX], const char *const *patterns) {
  char home[PATH_MAX], pattern[2 * PATH_MAX];

  if (!run_home(home)) return false;
  for (; *patterns != NULL; patterns++) {
    glob_t found;
    bool good;
    snprintf(pattern, sizeof pattern, "%s/%s", home, *patterns);
    if (glob(pattern, 0, NULL, &found) != 0) continue;
    good = run_is_readable(found.gl_pathv[0]) &&
           realpath(found.gl_pathv[0], out) != NULL;
    globfree(&found);
    if (good) return true;
  }
  return false;
}

/* Of the Python package that this program is part of; of a Python installation that
 * it stands in; of the checkout it was built in. */
static bool run_find_python(char out[PATH_MAX]) {
  static const char *const patterns[] = {
      "../start/sitecustomize.py",
      "../lib/python3*/site-packages/memguard/start/sitecustomize.py",
      "../lib/python3*/dist-packages/memguard/start/sitecustomize.py",
      "../../python/memguard/start/sitecustomize.py", NULL};

  if (!run_find(out, patterns)) return false;
  dirname(out);
  return true;
}

/* In the npm package that this program is part of; of the checkout; else in the
 * node_modules of the folder where it is called, or of one above. */
bool run_find_node(char *out) {
  static const char *const patterns[] = {"../../node/start.js", NULL};
  char folder[PATH_MAX - 64];

  if (run_find(out, patterns)) return true;
  if (getcwd(folder, sizeof folder) == NULL) return false;
  for (;;) {
    snprintf(out, PATH_MAX, "%s/node_modules/memguard/node/start.js", folder);
    if (run_is_readable(out)) return true;
    if (strcmp(folder, "/") == 0) return false;
    dirname(folder);
  }
}

/* ---- variables ------------------------------------------------------------------ */

/* Puts `text` in front of or behind what the variable holds. */
static int run_add(const char *name, const char *text, const char *between,
                   bool in_front) {
  const char *former = getenv(name);
  char *value;
  int code = CLI_OK;

  if (former == NULL || *former == '\0') {
    if (setenv(name, text, 1) != 0) code = CLI_SYSTEM;
  } else if (asprintf(&value, "%s%s%s", in_front ? text : former, between,
                      in_front ? former : text) >= 0) {
    if (setenv(name, value, 1) != 0) code = CLI_SYSTEM;
    free(value);
  } else {
    code = CLI_SYSTEM;
  }
  return code == CLI_OK ? CLI_OK : cli_fail(CLI_SYSTEM, "out of memory");
}

static uint64_t run_limit_bytes(const mg_config *config) {
  uint64_t limit = MG_ABSENT, own;
  mg_reading reading;

  mg_read_process(&reading);
  if (reading.cgroup_limit_bytes != MG_ABSENT) limit = reading.cgroup_limit_bytes;
  if (!config->is_set[MG_CONFIG_MAX_MEMORY_MB]) return limit;
  own = (uint64_t)(mg_config_get(config, MG_CONFIG_MAX_MEMORY_MB) * MG_BYTES_PER_MB);
  return own < limit ? own : limit;
}

/* Only the old space: every Node from 16 on takes it in NODE_OPTIONS, and one that
 * refuses an option would not start. */
static int run_advise_v8(const mg_config *config) {
  mg_v8_view view = {.limit_bytes = run_limit_bytes(config),
                     .node_major = RUN_NODE_MAJOR,
                     .headroom = MG_V8_HEADROOM,
                     .share = 1};
  const char *former = getenv("NODE_OPTIONS");
  mg_v8_advice advice;
  char text[64];

  if (former != NULL && (strstr(former, "max-old-space-size") != NULL ||
                         strstr(former, "max_old_space_size") != NULL))
    return CLI_OK; /* the host has chosen */
  if (mg_v8_advise(&advice, &view, NULL) != MG_OK ||
      advice.old_space_mb == MG_ABSENT || advice.is_tight || advice.is_capped)
    return CLI_OK;
  snprintf(text, sizeof text, "--max-old-space-size=%llu",
           (unsigned long long)advice.old_space_mb);
  return run_add("NODE_OPTIONS", text, " ", false);
}

/* A path in NODE_OPTIONS may stand in quotes, with quotes and backslashes escaped. */
static int run_require_node(const char *path) {
  char text[2 * PATH_MAX + 16];
  size_t at = (size_t)snprintf(text, sizeof text, "--require=\"");

  for (; *path != '\0' && at + 3 < sizeof text; path++) {
    if (*path == '"' || *path == '\\') text[at++] = '\\';
    text[at++] = *path;
  }
  text[at++] = '"';
  text[at] = '\0';
  return run_add("NODE_OPTIONS", text, " ", false);
}

static int run_prepare(const run_options *options) {
  char path[PATH_MAX];
  bool found = false;
  int code = settings_export(&options->config);

  if (code == CLI_OK && !options->no_python && run_find_python(path)) {
    found = true;
    code = run_add("PYTHONPATH", path, ":", true);
  }
  if (code == CLI_OK && !options->no_node && run_find_node(path)) {
    found = true;
    code = run_require_node(path);
    if (code == CLI_OK) code = run_advise_v8(&options->config);
  }
  if (code == CLI_OK && !found && !(options->no_python && options->no_node))
    return cli_fail(CLI_NOT_FOUND, "neither memguard's Python package nor its npm "
                                   "package is beside this program");
  return code;
}

int run_prepare_default(void) {
  run_options options = {.no_python = false};
  mg_error err = MG_ERROR_INIT;
  const char *profile = getenv("MEMGUARD_PROFILE");
  mg_profile id = MG_PROFILE_DEFAULT;

  if (profile != NULL && mg_profile_find(&id, profile, &err) != MG_OK)
    return cli_usage("MEMGUARD_PROFILE: %s", err.text);
  mg_config_init(&options.config, id);
  return run_prepare(&options);
}

int cli_run(int argc, char **argv) {
  static run_options options;
  int code = run_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  if (options.leak_check) leak_check_settings(&options.config);
  code = run_prepare(&options);
  if (code != CLI_OK) return code;
  if (options.leak_check)
    return leak_check_run(options.command, &options.config, options.json);
  execvp(options.command[0], options.command);
  return cli_fail(errno == ENOENT ? CLI_NO_COMMAND : CLI_NOT_RUNNABLE, "%s: %s",
                  options.command[0], strerror(errno));
}
