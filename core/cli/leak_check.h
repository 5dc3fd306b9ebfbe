/* leak_check.h - `memguard run --leak-check`: runs a command with leak detection on
 * in each Python and Node of it, and says what leaked once it has ended.
 *
 * Each watched process keeps a file <pid>.json in the folder MEMGUARD_VERDICT_DIR:
 *
 *   {"pid": 7, "program": "app.py", "findings": [...]}
 *
 * its findings so far, each as bad as it ever was; replaced whole whenever one
 * changes, so that it is there whichever way the process ends. A finding has the
 * fields of LeakFinding.as_dict(), with `alarm_unix_s` if it was an alarm (likely or
 * worse) and `is_withdrawn` if it grew no more. */
#ifndef MG_CLI_LEAK_CHECK_H
#define MG_CLI_LEAK_CHECK_H

#include "cli.h"
#include "memguard/config.h"

#define LEAK_CHECK_VARIABLE "MEMGUARD_VERDICT_DIR"

/** Detection on; collections that are as slow as ever while time goes faster. */
void leak_check_settings(mg_config *config);
/** Runs the command, whose variables are set, to its end; tells the verdict on
 *  stderr and, as JSON, in a file. @param json NULL: no file; "-": stdout.
 *  @return CLI_FOUND for an alarm, else the command's own code; CLI_NOT_FOUND if that
 *  is 0 and no process came under memguard. */
int leak_check_run(char **command, const mg_config *config, const char *json);

#endif
