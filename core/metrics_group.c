/* metrics_group.c - the metrics of processes that were started together. */
#include "memguard/metrics.h"

#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "os.h"

typedef struct group_one {
  mg_segment *segment;
  mg_segment_view view;
} group_one;

typedef struct group_list {
  group_one *member;
  mg_metrics_process *process;
  size_t count, room;
} group_list;

static void group_add(group_list *list, mg_segment *segment) {
  group_one *member = &list->member[list->count];

  if (mg_segment_read(segment, &member->view, NULL) != MG_OK) {
    mg_segment_close(segment);
    return;
  }
  member->segment = segment;
  list->process[list->count++] =
      (mg_metrics_process){.segment = segment,
                           .header = mg_segment_header_of(segment),
                           .view = &member->view,
                           .is_alive = true};
}

/* Of another namespace nobody can say what group it is in. */
static bool group_has(const mg__os_identity *self, mg_segment *segment) {
  const mg_segment_header *header = mg_segment_header_of(segment);

  return header->pid != self->pid && header->uid == self->uid &&
         header->pid_namespace == self->pid_namespace &&
         mg__os_is_of_group(header->pid) && mg_segment_is_alive(segment);
}

/* What cannot be read shows nothing: it may have ended just now. */
static void group_add_others(group_list *list, const char *directory,
                             const mg_segment_names *names) {
  char path[MG_SEGMENT_PATH_BYTES];
  mg__os_identity self;

  mg__os_identify(&self);
  for (size_t i = 0; i < names->count && list->count < list->room; i++) {
    mg_segment *segment;
    int length = snprintf(path, sizeof path, "%s/%s", directory, names->name[i]);
    if (length >= (int)sizeof path ||
        mg_segment_open(&segment, path, NULL) != MG_OK)
      continue;
    if (group_has(&self, segment))
      group_add(list, segment);
    else
      mg_segment_close(segment);
  }
}

static mg_status group_open(group_list *list, size_t room, mg_error *err) {
  mg_segment *own;
  mg_status st;

  *list = (group_list){.room = room};
  list->member = mg__alloc_untouched(room * sizeof *list->member);
  list->process = mg__alloc_untouched(room * sizeof *list->process);
  if (list->member == NULL || list->process == NULL)
    return mg__fail(err, MG_ENOMEM, "metrics of %zu processes", room);
  st = mg_segment_open_own(&own, err);
  if (st == MG_OK) group_add(list, own);
  return st;
}

static void group_close(group_list *list) {
  for (size_t i = 0; i < list->count; i++)
    mg_segment_close(list->member[i].segment);
  mg__free(list->member);
  mg__free(list->process);
}

mg_status mg_metrics_each_group(uint32_t groups,
                                bool (*visit)(void *, const mg_metrics_point *),
                                void *ctx, mg_error *err) {
  mg_segment_names names = {0, NULL};
  char directory[MG_SEGMENT_PATH_BYTES];
  group_list list;
  size_t room;
  mg_status st;

  if (mg_segment_directory(directory, sizeof directory, NULL) != MG_OK ||
      mg_segment_list(&names, directory, NULL) != MG_OK)
    names = (mg_segment_names){0, NULL}; /* then nobody else shows anything */
  room = names.count + 1;
  if (room > MG_METRICS_PROCESSES) room = MG_METRICS_PROCESSES;
  st = group_open(&list, room, err);
  if (st == MG_OK) {
    group_add_others(&list, directory, &names);
    st = mg_metrics_each(list.process, list.count, NULL, 0, groups, visit, ctx,
                         err);
  }
  group_close(&list);
  mg_segment_names_free(&names);
  return st;
}
