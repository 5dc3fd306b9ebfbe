/* asker.c - a few threads, a bounded list of questions. */
#include "asker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli.h"

#define ASKER_STACK_BYTES 262144u
#define ASKER_MOMENT_S 0.05
#define ASKER_MOMENTS 20

typedef enum asker_state { FREE, WAITING, WORKING, ANSWERED } asker_state;

typedef struct asker_slot {
  asker_state state;
  uint64_t number; /* order of arrival */
  asker_question *question;
} asker_slot;

struct asker {
  int fd;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  /* The lock's. */
  asker_slot slot[ASKER_WAITING];
  uint64_t number;
  bool is_stopping, must_reap;
  char reap_directory[MG_SEGMENT_PATH_BYTES];
  /* The caller's. */
  int threads;
};

/* A process shows itself before it listens: one that is not there yet is asked
 * again, for a moment. */
static void asker_answer(asker_question *q) {
  char *pong;

  for (int i = 0; i < ASKER_MOMENTS; i++) {
    if (i > 0) cli_sleep_s(ASKER_MOMENT_S);
    q->status = mg_control_ask(&pong, q->socket_path, MG_CONTROL_PING, NULL,
                               ASKER_PING_MS, &q->err);
    if (q->status != MG_ENOTFOUND) break;
  }
  if (q->status != MG_OK) return;
  mg_free_text(pong);
  q->status = mg_control_ask(&q->text, q->socket_path, q->command, q->arguments,
                             MG_CONTROL_RUN_MS, &q->err);
}

/* ---- threads; with the lock ------------------------------------------------- */

static bool asker_is_busy(const asker *a, const char *socket_path) {
  for (int i = 0; i < ASKER_WAITING; i++)
    if (a->slot[i].state == WORKING &&
        strcmp(a->slot[i].question->socket_path, socket_path) == 0)
      return true;
  return false;
}

/* The oldest whose process has none under way. */
static asker_slot *asker_next(asker *a) {
  asker_slot *oldest = NULL;

  for (int i = 0; i < ASKER_WAITING; i++)
    if (a->slot[i].state == WAITING &&
        (oldest == NULL || a->slot[i].number < oldest->number) &&
        !asker_is_busy(a, a->slot[i].question->socket_path))
      oldest = &a->slot[i];
  return oldest;
}

/* A process that does not answer one is not asked again for the others. */
static void asker_give_up(asker *a, const asker_question *late) {
  for (int i = 0; i < ASKER_WAITING; i++) {
    asker_slot *slot = &a->slot[i];
    if (slot->state != WAITING ||
        strcmp(slot->question->socket_path, late->socket_path) != 0)
      continue;
    slot->question->status = late->status;
    slot->question->err = late->err;
    slot->state = ANSWERED;
  }
}

static void asker_work(asker *a, asker_slot *slot) {
  slot->state = WORKING;
  pthread_mutex_unlock(&a->lock);
  asker_answer(slot->question);
  pthread_mutex_lock(&a->lock);
  if (slot->question->status == MG_ETIMEOUT) asker_give_up(a, slot->question);
  slot->state = ANSWERED;
  eventfd_write(a->fd, 1);
  pthread_cond_broadcast(&a->changed); /* its process is free for others */
}

static void asker_look_at_dead(asker *a) {
  char directory[MG_SEGMENT_PATH_BYTES];
  mg_segment_reaped counts;

  a->must_reap = false;
  memcpy(directory, a->reap_directory, sizeof directory);
  pthread_mutex_unlock(&a->lock);
  (void)mg_segment_reap(directory, MG_SEGMENT_KEEP_MS, MG_SEGMENT_KEEP, &counts, NULL);
  pthread_mutex_lock(&a->lock);
}

static void *asker_thread(void *ctx) {
  asker *a = ctx;
  asker_slot *slot;

  pthread_mutex_lock(&a->lock);
  while (!a->is_stopping) {
    slot = asker_next(a);
    if (slot != NULL)
      asker_work(a, slot);
    else if (a->must_reap)
      asker_look_at_dead(a);
    else
      pthread_cond_wait(&a->changed, &a->lock);
  }
  pthread_mutex_unlock(&a->lock);
  return NULL;
}

/* ---- the caller --------------------------------------------------------------- */

asker *asker_open(void) {
  asker *a = calloc(1, sizeof *a);

  if (a == NULL) return NULL;
  a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (a->fd < 0) {
    free(a);
    return NULL;
  }
  pthread_mutex_init(&a->lock, NULL);
  pthread_cond_init(&a->changed, NULL);
  return a;
}

int asker_fd(const asker *a) { return a->fd; }

/* @return whether there is one at least. */
static bool asker_start(asker *a) {
  pthread_attr_t attributes;
  pthread_t thread;

  if (a->threads == ASKER_THREADS) return true;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, ASKER_STACK_BYTES);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&thread, &attributes, asker_thread, a) == 0) a->threads++;
  pthread_attr_destroy(&attributes);
  return a->threads > 0;
}

bool asker_put(asker *a, asker_question *question) {
  asker_slot *to = NULL;
  int same = 0;

  if (!asker_start(a)) return false;
  pthread_mutex_lock(&a->lock);
  for (int i = 0; i < ASKER_WAITING; i++) {
    if (a->slot[i].state == FREE)
      to = &a->slot[i];
    else
      same += strcmp(a->slot[i].question->socket_path, question->socket_path) == 0;
  }
  if (same >= ASKER_WAITING_ONE) to = NULL;
  if (to != NULL) {
    *to = (asker_slot){WAITING, ++a->number, question};
    pthread_cond_signal(&a->changed);
  }
  pthread_mutex_unlock(&a->lock);
  return to != NULL;
}

/* With the lock. One that nobody began to work at is over once all stops. */
static asker_question *asker_take_from(const asker *a, asker_slot *slot) {
  if (slot->state == WAITING && a->is_stopping)
    slot->question->status = MG_ECLOSED;
  else if (slot->state != ANSWERED)
    return NULL;
  slot->state = FREE;
  return slot->question;
}

asker_question *asker_take(asker *a) {
  asker_question *question = NULL;
  eventfd_t count;

  (void)eventfd_read(a->fd, &count);
  pthread_mutex_lock(&a->lock);
  for (int i = 0; i < ASKER_WAITING && question == NULL; i++)
    question = asker_take_from(a, &a->slot[i]);
  pthread_mutex_unlock(&a->lock);
  return question;
}

void asker_question_free(asker_question *question) {
  if (question == NULL) return;
  free(question->arguments);
  mg_free_text(question->text);
  free(question);
}

void asker_reap(asker *a, const char *directory) {
  if (!asker_start(a)) return;
  pthread_mutex_lock(&a->lock);
  a->must_reap = true;
  snprintf(a->reap_directory, sizeof a->reap_directory, "%s", directory);
  pthread_cond_signal(&a->changed);
  pthread_mutex_unlock(&a->lock);
}

void asker_stop(asker *a) {
  pthread_mutex_lock(&a->lock);
  a->is_stopping = true;
  pthread_cond_broadcast(&a->changed);
  pthread_mutex_unlock(&a->lock);
}
