/* main.c - the memguard tool: finds the command and gives it its arguments. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const cli_command commands[] = {
#define MAIN_COMMAND(id, name, summary, usage, examples) \
  {name, summary, usage, examples, cli_##id},
    CLI_COMMANDS(MAIN_COMMAND)
#undef MAIN_COMMAND
};
#define MAIN_COMMAND_COUNT (sizeof commands / sizeof commands[0])

const cli_command *cli_current;

static void main_print_exit_codes(void) {
  puts("\nexit codes:");
#define MAIN_EXIT(id, code, text) printf("  %3d  %s\n", code, text);
  CLI_EXIT_MAP(MAIN_EXIT)
#undef MAIN_EXIT
}

static int main_flush(void) {
  return fflush(stdout) == 0 && !ferror(stdout) ? CLI_OK : CLI_SYSTEM;
}

static int main_help(void) {
  puts("usage: memguard COMMAND [OPTION...]\n"
       "\n"
       "Watches, measures and starts Python and Node programs under memguard.\n"
       "\n"
       "commands:");
  for (size_t i = 0; i < MAIN_COMMAND_COUNT; i++)
    printf("  %-13s %s\n", commands[i].name, commands[i].summary);
  puts("\n`memguard COMMAND --help` tells more; `man memguard` tells all.");
  main_print_exit_codes();
  return main_flush();
}

int cli_help(void) {
  const char *line = cli_current->examples, *end;

  printf("usage: memguard %s %s\n\n%s\n\nexamples:\n", cli_current->name,
         cli_current->usage, cli_current->summary);
  for (; line != NULL; line = *end == '\n' ? end + 1 : NULL) {
    end = strchrnul(line, '\n');
    printf("  %.*s\n", (int)(end - line), line);
  }
  return main_flush();
}

static const cli_command *main_find(const char *name) {
  for (size_t i = 0; i < MAIN_COMMAND_COUNT; i++)
    if (strcmp(commands[i].name, name) == 0) return &commands[i];
  return NULL;
}

int main(int argc, char **argv) {
  const char *name = argc < 2 ? "--help" : argv[1];
  int code;

  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
      strcmp(name, "help") == 0)
    return argc < 2 ? (main_help(), CLI_USAGE) : main_help();
  if (strcmp(name, "--version") == 0) {
    printf("memguard %s\n", mg_version());
    return main_flush();
  }
  cli_current = main_find(name);
  if (cli_current == NULL) {
    fprintf(stderr, "memguard: there is no command \"%s\"; `memguard --help` "
                    "lists them\n", name);
    return CLI_USAGE;
  }
  code = cli_current->run(argc - 1, argv + 1);
  return code == CLI_OK && main_flush() != CLI_OK ? CLI_SYSTEM : code;
}
