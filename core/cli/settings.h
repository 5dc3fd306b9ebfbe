/* settings.h - configuration files and settings of the command line.
 *
 * Threads: one. */
#ifndef MG_CLI_SETTINGS_H
#define MG_CLI_SETTINGS_H

#include "cli.h"
#include "memguard/config.h"

/** Takes the settings of a YAML or JSON file (by its suffix) into `config`. The
 *  rules between keys are not checked: mg_config_check() comes when all is set.
 *  @return CLI_OK, or what was said on stderr, with the line of the file. */
int settings_load(mg_config *config, const char *path);
/** Takes "KEY=VALUE". @return CLI_OK, CLI_USAGE: said on stderr. */
int settings_take(mg_config *config, const char *word);
/** Sets the variables by which a program started from here finds the settings that
 *  are set in `config`, and its profile. @return CLI_OK, CLI_SYSTEM. */
int settings_export(const mg_config *config);

#endif
