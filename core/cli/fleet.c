/* fleet.c - keeps the segments of a directory open and reads them.
 *
 * A file is known by its name and inode: a process that starts to publish anew
 * replaces its file under the same name. */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FLEET_TRIES 3

mg_status fleet_open(fleet *out, mg_error *err) {
  memset(out, 0, sizeof *out);
  return mg_segment_directory(out->directory, sizeof out->directory, err);
}

static void fleet_drop(fleet_item *item) {
  if (item == NULL) return;
  mg_segment_close(item->segment);
  free(item);
}

void fleet_close(fleet *f) {
  for (size_t i = 0; i < f->items; i++) fleet_drop(f->item[i]);
  free(f->item);
  free(f->list);
  memset(f, 0, sizeof *f);
}

/* ---- opening what is there now ------------------------------------------------ */

/* @return NULL if it is gone, no segment of this version, or not to be had. */
static fleet_item *fleet_open_item(const char *path, const char *name,
                                   const struct stat *status) {
  fleet_item *item = calloc(1, sizeof *item);

  if (item == NULL) return NULL;
  if (mg_segment_open(&item->segment, path, NULL) != MG_OK) {
    free(item);
    return NULL;
  }
  item->device = status->st_dev;
  item->inode = status->st_ino;
  memcpy(item->name, name, strlen(name) + 1);
  return item;
}

/* The item of a name: the old one if it is still that file. */
static fleet_item *fleet_renew(const fleet *f, fleet_item *old, const char *name) {
  char path[MG_SEGMENT_PATH_BYTES + MG_SEGMENT_NAME_BYTES];
  struct stat status;

  snprintf(path, sizeof path, "%s/%s", f->directory, name);
  if (stat(path, &status) != 0) {
    fleet_drop(old);
    return NULL;
  }
  if (old != NULL && old->device == status.st_dev && old->inode == status.st_ino)
    return old;
  fleet_drop(old);
  return fleet_open_item(path, name, &status);
}

/* Both are sorted by name. @return false if there is no memory. */
static bool fleet_follow(fleet *f, const mg_segment_names *names) {
  size_t count = names->count < FLEET_MAX ? names->count : FLEET_MAX, items = 0;
  fleet_item **item = calloc(count + 1, sizeof(fleet_item *)), *old;
  size_t at = 0;

  if (item == NULL) return false;
  for (size_t i = 0; i < count; i++) {
    for (; at < f->items && strcmp(f->item[at]->name, names->name[i]) < 0; at++)
      fleet_drop(f->item[at]);
    old = at < f->items && strcmp(f->item[at]->name, names->name[i]) == 0
              ? f->item[at++]
              : NULL;
    item[items] = fleet_renew(f, old, names->name[i]);
    if (item[items] != NULL) items++;
  }
  for (; at < f->items; at++) fleet_drop(f->item[at]);
  free(f->item);
  f->item = item;
  f->items = items;
  return true;
}

/* ---- reading it ---------------------------------------------------------------- */

static int fleet_order(const void *left, const void *right) {
  const mg_segment_header *a = ((const mg_metrics_process *)left)->header;
  const mg_segment_header *b = ((const mg_metrics_process *)right)->header;

  return a->pid != b->pid ? (a->pid > b->pid) - (a->pid < b->pid)
                          : (a->start_time > b->start_time) -
                                (a->start_time < b->start_time);
}

static void fleet_read(fleet *f) {
  f->count = 0;
  for (size_t i = 0; i < f->items; i++) {
    fleet_item *one = f->item[i];
    one->is_whole = mg_segment_read(one->segment, &one->view, NULL) == MG_OK;
    if (!one->is_whole) continue;
    f->list[f->count++] = (mg_metrics_process){
        .segment = one->segment,
        .header = mg_segment_header_of(one->segment),
        .view = &one->view,
        .is_alive = mg_segment_is_alive(one->segment)};
  }
  qsort(f->list, f->count, sizeof *f->list, fleet_order);
}

/* A process that is added to its service's sums in between would be counted twice,
 * or not at all: then all is read again. */
static void fleet_read_consistently(fleet *f) {
  static mg_segment_service before[MG_SEGMENT_SERVICES];
  size_t count;

  for (int i = 0; i < FLEET_TRIES; i++) {
    count = mg_segment_services(f->directory, before, MG_SEGMENT_SERVICES);
    fleet_read(f);
    f->services =
        mg_segment_services(f->directory, f->service, MG_SEGMENT_SERVICES);
    if (count == f->services &&
        memcmp(before, f->service, count * sizeof *before) == 0)
      return;
  }
}

mg_status fleet_look(fleet *f, mg_error *err) {
  mg_segment_names names;
  mg_metrics_process *list;
  mg_status st;

  f->count = f->services = 0;
  st = mg_segment_list(&names, f->directory, err);
  if (st != MG_OK) return st;
  list = realloc(f->list, (names.count + 1) * sizeof *list);
  if (list != NULL) f->list = list;
  if (list == NULL || !fleet_follow(f, &names)) st = MG_ENOMEM;
  mg_segment_names_free(&names);
  if (st == MG_OK) fleet_read_consistently(f);
  return st;
}

bool fleet_socket_path(const fleet *f, size_t index,
                       char out[MG_SEGMENT_PATH_BYTES]) {
  for (size_t i = 0; i < f->items; i++)
    if (f->item[i]->segment == f->list[index].segment)
      return snprintf(out, MG_SEGMENT_PATH_BYTES, "%s/%s.sock", f->directory,
                      f->item[i]->name) < (int)MG_SEGMENT_PATH_BYTES;
  return false;
}
