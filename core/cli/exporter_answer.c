/* exporter_answer.c - between the bytes of the server and the meaning of the site.
 *
 * What is read off segments is rendered once for all who ask for the same within
 * EXPORTER_KEPT_MS: any number of readers costs no more than ten renderings a
 * second. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "exporter.h"
#include "memguard/process.h"

/* ---- responses ------------------------------------------------------------- */

static void exporter_give(void *owner) {
  mg_web_response_free(owner);
  free(owner);
}

/* Takes the response over. @return NULL if there is no memory. */
static server_answer *exporter_answer(exporter *e, mg_web_response *response) {
  mg_web_response *owner = malloc(sizeof *owner);
  server_answer *answer;

  if (owner == NULL) {
    mg_web_response_free(response);
    return NULL;
  }
  *owner = *response;
  memset(response, 0, sizeof *response);
  answer = server_answer_new(e->server, owner->status, owner->body,
                             owner->body_bytes, owner, exporter_give);
  for (size_t i = 0; answer != NULL && i < owner->header_count; i++) {
    if (server_answer_header(answer, owner->header[i].name, owner->header[i].value))
      continue;
    server_answer_drop(answer);
    return NULL;
  }
  return answer;
}

static void exporter_send(exporter *e, server_exchange *exchange,
                          mg_web_response *response) {
  server_answer *answer = exporter_answer(e, response);

  server_answer_with(exchange, answer);
  server_answer_drop(answer);
}

static void exporter_refuse(exporter *e, server_exchange *exchange,
                            uint32_t status, const char *text) {
  mg_web_response response;

  mg_web_refuse(status, text, &response);
  exporter_send(e, exchange, &response);
}

/* ---- READ -------------------------------------------------------------------- */

static exporter_key exporter_key_of(const mg_web_job *job) {
  return (exporter_key){.route = job->route,
                        .ring = job->ring,
                        .since_unix_ms = job->since_unix_ms,
                        .pid = job->has_pid ? job->pid : 0,
                        .max = job->max,
                        .wants_openmetrics = job->wants_openmetrics};
}

static bool exporter_is_same(const exporter_key *a, const exporter_key *b) {
  return a->route == b->route && a->ring == b->ring &&
         a->since_unix_ms == b->since_unix_ms && a->pid == b->pid &&
         a->max == b->max && a->wants_openmetrics == b->wants_openmetrics;
}

static void exporter_forget(exporter *e) {
  for (int i = 0; i < EXPORTER_KEPT; i++) {
    server_answer_drop(e->kept[i].answer);
    e->kept[i].answer = NULL;
  }
}

/* @return [borrowed] NULL: there is none that is fresh. */
static server_answer *exporter_find(exporter *e, const exporter_key *key) {
  double now_ms = mg_clock_ms();

  for (int i = 0; i < EXPORTER_KEPT; i++) {
    exporter_kept *kept = &e->kept[i];
    if (kept->answer == NULL) continue;
    if (kept->until_ms < now_ms) {
      server_answer_drop(kept->answer);
      kept->answer = NULL;
    } else if (exporter_is_same(&kept->key, key)) {
      return kept->answer;
    }
  }
  return NULL;
}

/* In the place of an empty one, or of that which ends first. */
static void exporter_keep(exporter *e, const exporter_key *key,
                          server_answer *answer) {
  exporter_kept *to = &e->kept[0];

  for (int i = 0; i < EXPORTER_KEPT && to->answer != NULL; i++)
    if (e->kept[i].answer == NULL || e->kept[i].until_ms < to->until_ms)
      to = &e->kept[i];
  server_answer_drop(to->answer);
  *to = (exporter_kept){*key, server_answer_keep(answer),
                        mg_clock_ms() + EXPORTER_KEPT_MS};
}

/* @return whether the processes could be looked at; else it is answered. */
static bool exporter_look(exporter *e, server_exchange *exchange) {
  mg_error err = MG_ERROR_INIT;

  if (fleet_look(&e->fleet, &err) == MG_OK) return true;
  exporter_refuse(e, exchange, 503, err.text);
  return false;
}

static void exporter_read(exporter *e, server_exchange *exchange,
                          const mg_web_job *job) {
  exporter_key key = exporter_key_of(job);
  server_answer *answer = exporter_find(e, &key);
  mg_web_response response;

  if (answer != NULL) {
    server_answer_with(exchange, answer);
    return;
  }
  if (!exporter_look(e, exchange)) return;
  mg_web_read(e->web, job, e->fleet.list, e->fleet.count, e->fleet.service,
              e->fleet.services, &response);
  answer = exporter_answer(e, &response);
  if (answer != NULL) exporter_keep(e, &key, answer);
  server_answer_with(exchange, answer);
  server_answer_drop(answer);
}

/* ---- ASK ----------------------------------------------------------------------- */

static bool exporter_put(exporter *e, server_exchange *exchange, mg_web_job *job,
                         size_t index) {
  exporter_pending *pending = calloc(1, sizeof *pending);
  asker_question *question = calloc(1, sizeof *question);

  if (pending == NULL || question == NULL ||
      !fleet_socket_path(&e->fleet, index, question->socket_path))
    goto fail_question;
  question->command = job->command;
  if (job->arguments != NULL) {
    question->arguments = strdup(job->arguments);
    if (question->arguments == NULL) goto fail_question;
  }
  question->tag = pending;
  if (!asker_put(e->asker, question)) goto fail_question;
  *pending = (exporter_pending){
      .next = e->pending,
      .exchange = exchange,
      .job = {.route = job->route, .is_head = job->is_head}};
  e->pending = pending;
  return true;

fail_question:
  asker_question_free(question);
  free(pending);
  return false;
}

static void exporter_ask(exporter *e, server_exchange *exchange, mg_web_job *job) {
  mg_web_response response;
  size_t index;

  if (!exporter_look(e, exchange)) return;
  if (!mg_web_choose(e->web, job, e->fleet.list, e->fleet.count, &index,
                     &response)) {
    exporter_send(e, exchange, &response);
    return;
  }
  if (!exporter_put(e, exchange, job, index))
    exporter_refuse(e, exchange, 503,
                    "too many requests to processes wait for their answer");
}

static void exporter_unlink(exporter *e, const exporter_pending *pending) {
  exporter_pending **at = &e->pending;

  while (*at != pending) at = &(*at)->next;
  *at = pending->next;
}

static void exporter_take_answer(exporter *e, const asker_question *question) {
  exporter_pending *pending = question->tag;
  const char *text =
      question->status == MG_OK ? question->text : question->err.text;
  mg_web_response response;

  if (pending->exchange != NULL) {
    mg_web_answered(e->web, &pending->job, question->status, text, &response);
    exporter_send(e, pending->exchange, &response);
  }
  exporter_unlink(e, pending);
  free(pending);
}

/* ---- hooks ------------------------------------------------------------------------ */

static void exporter_on_request(void *ctx, server_exchange *exchange) {
  exporter *e = ctx;
  mg_web_header header[MG_WEB_HEADERS];
  size_t count = server_headers(exchange, header, MG_WEB_HEADERS), body_bytes;
  const char *body = server_body(exchange, &body_bytes);
  mg_web_request request = {.method = server_method(exchange),
                            .target = server_target(exchange),
                            .header = header,
                            .header_count = count,
                            .body = body,
                            .body_bytes = body_bytes};
  mg_web_job job;

  if (count == SIZE_MAX) {
    exporter_refuse(e, exchange, 400, "a header holds a NUL");
  } else if (count > MG_WEB_HEADERS) {
    exporter_refuse(e, exchange, 431, "at most 100 header lines are allowed");
  } else if (body_bytes > MG_WEB_BODY_BYTES) {
    exporter_refuse(e, exchange, 413, "a body of at most 65536 bytes is allowed");
  } else {
    mg_web_plan(e->web, &request, &job);
    switch (job.kind) {
      case MG_WEB_READ: exporter_read(e, exchange, &job); break;
      case MG_WEB_ASK: exporter_ask(e, exchange, &job); break;
      case MG_WEB_RESPOND: exporter_send(e, exchange, &job.response); break;
    }
    mg_web_job_free(&job);
  }
}

/* What was asked for may have changed all that is shown. */
static void exporter_on_wake(void *ctx) {
  exporter *e = ctx;
  asker_question *question;

  while ((question = asker_take(e->asker)) != NULL) {
    exporter_forget(e);
    exporter_take_answer(e, question);
    asker_question_free(question);
  }
}

static void exporter_on_tick(void *ctx) {
  exporter *e = ctx;
  double now_ms = mg_clock_ms();

  if (now_ms < e->reap_ms) return;
  e->reap_ms = now_ms + EXPORTER_REAP_MS;
  asker_reap(e->asker, e->fleet.directory);
}

void exporter_init(exporter *e) {
  e->hooks = (server_hooks){exporter_on_request, exporter_on_wake, exporter_on_tick,
                            asker_fd(e->asker), e};
}

void exporter_stop(exporter *e) {
  asker_stop(e->asker);
  for (exporter_pending *p = e->pending; p != NULL; p = p->next) {
    exporter_refuse(e, p->exchange, 503, "memguard exporter is about to end");
    p->exchange = NULL;
  }
  exporter_on_wake(e);
  exporter_forget(e);
}
