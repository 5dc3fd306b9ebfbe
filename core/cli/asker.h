/* asker.h - asks processes through their control sockets, on threads of its own.
 *
 * A process that is stopped answers late or never, so whoever serves others must not
 * wait for it. One question at a time goes to one process; how many wait is bounded,
 * for each and in all. A process that does not even answer a ping is given up after
 * ASKER_PING_MS.
 *
 * Threads: all functions but what runs inside belong to one thread. */
#ifndef MG_CLI_ASKER_H
#define MG_CLI_ASKER_H

#include "memguard/control.h"
#include "memguard/segment.h"

#define ASKER_THREADS 4
#define ASKER_WAITING 32   /* questions that have no answer yet */
#define ASKER_WAITING_ONE 4 /* of them, for one process */
#define ASKER_PING_MS 5000.0

typedef struct asker asker;

typedef struct asker_question {
  char socket_path[MG_SEGMENT_PATH_BYTES];
  mg_control_command command;
  char *arguments; /* [owned] free(); may be NULL */
  void *tag;       /* the caller's */
  /* The answer. */
  mg_status status;
  char *text; /* [owned] mg_free_text(); NULL unless MG_OK */
  mg_error err;
} asker_question;

/** @return NULL if there is no memory or no descriptor. */
asker *asker_open(void);
/** Can be read when there are answers. */
int asker_fd(const asker *a);
/** Hands a question over. @param question [owned] if true is returned.
 *  @return false if too many wait, or no thread can be started. */
bool asker_put(asker *a, asker_question *question);
/** @return a question with its answer [owned] asker_question_free(); NULL: none. */
asker_question *asker_take(asker *a);
void asker_question_free(asker_question *question);
/** Looks through the dead of a directory, in the background. */
void asker_reap(asker *a, const char *directory);
/** Threads that still wait for an answer are left behind; the process is about to
 *  end. Questions without an answer come from asker_take() afterwards. */
void asker_stop(asker *a);

#endif
