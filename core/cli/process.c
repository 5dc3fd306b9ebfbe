/* process.c - finds the processes that publish segments. */
#include "process.h"

#include <stdlib.h>
#include <string.h>

#include "memguard/control.h"
#include "memguard/metrics.h"
#include "memguard/monitor.h"
#include "memguard/web.h"

#define PROCESS_MOMENT_MS 50
#define PROCESS_MOMENTS 20

static int process_directory(char out[MG_SEGMENT_PATH_BYTES]) {
  mg_error err = MG_ERROR_INIT;

  if (mg_segment_directory(out, MG_SEGMENT_PATH_BYTES, &err) != MG_OK)
    return cli_fail(CLI_USAGE, "%s", err.text);
  return CLI_OK;
}

/* @return whether it is whole; says nothing. */
static bool process_try(process *out, const char *path, mg_error *err) {
  if (mg_segment_open(&out->segment, path, err) != MG_OK) return false;
  if (mg_segment_read(out->segment, &out->view, err) != MG_OK) {
    mg_segment_close(out->segment);
    return false;
  }
  snprintf(out->path, sizeof out->path, "%s", path);
  out->header = mg_segment_header_of(out->segment);
  out->is_alive = mg_segment_is_alive(out->segment);
  return true;
}

static int process_order(const void *left, const void *right) {
  const process *a = left, *b = right;

  return a->header->pid != b->header->pid
             ? (a->header->pid > b->header->pid) - (a->header->pid < b->header->pid)
             : (a->header->start_time > b->header->start_time) -
                   (a->header->start_time < b->header->start_time);
}

static void processes_add(processes *list, const char *directory, const char *name,
                          bool with_dead) {
  process *at = &list->item[list->count];
  mg_error err = MG_ERROR_INIT;
  char path[MG_SEGMENT_PATH_BYTES];

  if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
    return;
  if (!process_try(at, path, &err)) {
    list->unreadable += err.status == MG_EFOREIGN;
    return;
  }
  if (at->is_alive || with_dead)
    list->count++;
  else
    process_close(at);
}

int processes_read(processes *out, bool with_dead) {
  char directory[MG_SEGMENT_PATH_BYTES];
  mg_segment_names names;
  mg_error err = MG_ERROR_INIT;
  int code = process_directory(directory);

  memset(out, 0, sizeof *out);
  if (code != CLI_OK) return code;
  if (mg_segment_list(&names, directory, &err) != MG_OK)
    return cli_fail(CLI_SYSTEM, "%s", err.text);
  out->item = calloc(names.count + 1, sizeof *out->item);
  if (out->item == NULL) {
    mg_segment_names_free(&names);
    return cli_fail(CLI_SYSTEM, "out of memory");
  }
  for (size_t i = 0; i < names.count; i++)
    processes_add(out, directory, names.name[i], with_dead);
  mg_segment_names_free(&names);
  qsort(out->item, out->count, sizeof *out->item, process_order);
  return CLI_OK;
}

void processes_free(processes *list) {
  for (size_t i = 0; i < list->count; i++) process_close(&list->item[i]);
  free(list->item);
  memset(list, 0, sizeof *list);
}

void process_close(process *one) {
  mg_segment_close(one->segment);
  one->segment = NULL;
}

int process_open(process *out, const char *path) {
  mg_error err = MG_ERROR_INIT;

  if (process_try(out, path, &err)) return CLI_OK;
  return cli_fail(err.status == MG_ENOTFOUND ? CLI_NOT_FOUND : CLI_USAGE, "%s",
                  err.text);
}

/* @return CLI_OK, CLI_NOT_FOUND without a word, or what was said. */
static int process_look_for(process *out, long pid) {
  processes all;
  size_t best = SIZE_MAX;
  int code = processes_read(&all, true);

  if (code != CLI_OK) return code;
  for (size_t i = 0; i < all.count; i++)
    if (all.item[i].header->pid == (uint32_t)pid &&
        (best == SIZE_MAX || all.item[i].is_alive || !all.item[best].is_alive))
      best = i;
  if (best != SIZE_MAX) {
    *out = all.item[best];
    all.item[best].segment = NULL; /* handed on */
  }
  processes_free(&all);
  return best != SIZE_MAX ? CLI_OK : CLI_NOT_FOUND;
}

bool process_try_pid(process *out, long pid) {
  return process_look_for(out, pid) == CLI_OK;
}

int process_find(process *out, long pid) {
  int code = process_look_for(out, pid);

  return code != CLI_NOT_FOUND
             ? code
             : cli_fail(CLI_NOT_FOUND, "no process %ld shows itself; `memguard ps "
                                       "--all` lists those that do", pid);
}

/* A process shows itself before it listens: one that is not there yet is asked
 * again, for a moment. */
static mg_status process_ask_patiently(char **out, const char *socket_path,
                                       mg_control_command command,
                                       const char *arguments, double timeout_ms,
                                       mg_error *err) {
  mg_status st;

  for (int i = 0;; i++) {
    st = mg_control_ask(out, socket_path, command, arguments, timeout_ms, err);
    if (st != MG_ENOTFOUND || i == PROCESS_MOMENTS) return st;
    cli_sleep_s(PROCESS_MOMENT_MS / 1e3);
  }
}

bool process_try_ask(cJSON **out, const process *one, const char *command,
                     const char *arguments, double timeout_ms, mg_error *err) {
  char socket_path[MG_SEGMENT_PATH_BYTES + 8], *text;
  mg_control_command number;

  *out = NULL;
  snprintf(socket_path, sizeof socket_path, "%s.sock", one->path);
  if (mg_control_find(&number, command, err) != MG_OK ||
      process_ask_patiently(&text, socket_path, number, arguments, timeout_ms, err) !=
          MG_OK)
    return false;
  *out = cJSON_Parse(text);
  mg_free_text(text);
  if (*out == NULL && err != NULL)
    snprintf(err->text, sizeof err->text, "its answer is no JSON");
  return *out != NULL;
}

int process_ask(cJSON **out, const process *one, const char *command,
                const char *arguments, double timeout_ms) {
  mg_error err = MG_ERROR_INIT;

  if (!one->is_alive)
    return cli_fail(CLI_NOT_FOUND, "process %u has ended; `memguard postmortem` tells "
                                   "what it left", one->header->pid);
  if (process_try_ask(out, one, command, arguments, timeout_ms, &err)) return CLI_OK;
  return cli_fail(CLI_REFUSED, "process %u: %s", one->header->pid, err.text);
}

const char *process_state_name(const process *one) {
  if (one->is_alive) return mg_level_name(one->view.sample.level);
  return one->view.state == MG_SEGMENT_RUNNING
             ? "killed"
             : mg_segment_state_name(one->view.state);
}

double process_last_pause_ms(const process *one) {
  return mg_segment_last_pause_ms(&one->view);
}

uint64_t process_native_bytes(const process *one) {
  return mg_segment_native_bytes(&one->view);
}

uint64_t process_limit_bytes(const process *one) {
  return mg_segment_limit_bytes(&one->view);
}

cJSON *process_json(const process *one) {
  const mg_metrics_process shown = {.segment = one->segment,
                                    .header = one->header,
                                    .view = &one->view,
                                    .is_alive = one->is_alive};
  cJSON *object = NULL;
  char *text;

  if (mg_web_process(&text, &shown, NULL) == MG_OK) {
    object = cJSON_Parse(text);
    mg_free_text(text);
  }
  return object != NULL ? object : cJSON_CreateObject();
}
