/* process.h - the processes that publish segments, as the tool sees them. */
#ifndef MG_CLI_PROCESS_H
#define MG_CLI_PROCESS_H

#include "cli.h"
#include "memguard/segment.h"

/** One process, alive or dead. */
typedef struct process {
  char path[MG_SEGMENT_PATH_BYTES]; /* of its segment */
  mg_segment *segment;              /* [owned] */
  const mg_segment_header *header;  /* [borrowed] of the segment */
  mg_segment_view view;
  bool is_alive;
} process;

typedef struct processes {
  process *item; /* [owned] */
  size_t count;
  size_t unreadable; /* files that are no whole segment of this version */
} processes;

/** Reads all segments of the directory in use, sorted by pid.
 *  @param with_dead also those of processes that ended.
 *  @return CLI_OK, or what was said on stderr. */
int processes_read(processes *out, bool with_dead);
void processes_free(processes *list);

/** Reads the process `pid`; of several the living one, then the youngest.
 *  @return CLI_OK; CLI_NOT_FOUND, CLI_SYSTEM: said on stderr. */
int process_find(process *out, long pid);
/** As above, without a word. @return whether there is one. */
bool process_try_pid(process *out, long pid);
/** Opens a segment by its path. @return as process_find(). */
int process_open(process *out, const char *path);
void process_close(process *one);

/** Asks a living process through its control socket.
 *  @param out [owned] JSON, cJSON_Delete(). @return CLI_OK, or what was said. */
int process_ask(cJSON **out, const process *one, const char *command,
                const char *arguments, double timeout_ms);
/** As above, without a word. @param err [may be NULL] why not. */
bool process_try_ask(cJSON **out, const process *one, const char *command,
                     const char *arguments, double timeout_ms, mg_error *err);

/** What it is in one word: its level while it lives, else how it ended ("killed" if
 *  it did not say). */
const char *process_state_name(const process *one);
/** The last pause by a collection, in ms; NaN without one. */
double process_last_pause_ms(const process *one);
/** Resident memory beside the heap: what native code, buffers and the program's own
 *  code take. MG_ABSENT if unknown. */
uint64_t process_native_bytes(const process *one);
/** The limit that its usage is judged by, in bytes; MG_ABSENT if there is none. */
uint64_t process_limit_bytes(const process *one);
/** Everything a segment says now, as one JSON object [owned]: what the HTTP site
 *  lists. */
cJSON *process_json(const process *one);

#endif
