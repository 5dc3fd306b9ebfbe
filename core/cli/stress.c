/* stress.c - the command `memguard stress`: a function called for hours, or for as
 * long as those take when time is compressed, with a verdict on its memory.
 *
 * The runtimes have the helper (python -m memguard.stress, memguard/stress of the npm
 * package); this becomes it. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"

static bool stress_is_node(const char *word) {
  const char *dot = strrchr(word, '.');

  return dot != NULL && (strcmp(dot, ".js") == 0 || strcmp(dot, ".cjs") == 0 ||
                         strcmp(dot, ".mjs") == 0);
}

int cli_stress(int argc, char **argv) {
  char path[PATH_MAX], helper[PATH_MAX + 16];
  char *words[64] = {NULL};
  int count = 0;

  if (argc < 2) return cli_usage("MODULE:FUNCTION or FILE.js is needed");
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
    return cli_help();
  if (argc > 60) return cli_usage("too many words");
  if (stress_is_node(argv[argc - 1])) {
    if (!run_find_node(path)) return cli_fail(CLI_NOT_FOUND, "no npm package here");
    *strrchr(path, '/') = '\0';
    snprintf(helper, sizeof helper, "%s/stress.js", path);
    words[count++] = "node";
    words[count++] = helper;
  } else {
    words[count++] = "python3";
    words[count++] = "-m";
    words[count++] = "memguard.stress";
  }
  memcpy(&words[count], argv + 1, (size_t)(argc - 1) * sizeof *words);
  execvp(words[0], words);
  return cli_fail(CLI_NO_COMMAND, "%s: %s", words[0], strerror(errno));
}
