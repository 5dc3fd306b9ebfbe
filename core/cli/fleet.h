/* fleet.h - the processes of the host, kept open between two looks.
 *
 * For `memguard exporter`: one thread has it. A look lists the directory again,
 * opens what is new or was replaced and reads what each process shows now. */
#ifndef MG_CLI_FLEET_H
#define MG_CLI_FLEET_H

#include <sys/types.h>

#include "memguard/metrics.h"

#define FLEET_MAX 2048u /* processes of one look; others are not shown */

typedef struct fleet_item {
  char name[MG_SEGMENT_NAME_BYTES];
  dev_t device; /* of the file, before it was opened */
  ino_t inode;
  mg_segment *segment; /* [owned] */
  mg_segment_view view;
  bool is_whole; /* the last look could read it */
} fleet_item;

typedef struct fleet {
  char directory[MG_SEGMENT_PATH_BYTES];
  fleet_item **item; /* [owned] sorted by name */
  size_t items;
  /* What the last look found, sorted by pid. */
  mg_metrics_process *list; /* [owned] */
  size_t count;
  mg_segment_service service[MG_SEGMENT_SERVICES];
  size_t services;
} fleet;

/** @return MG_OK, MG_EINVAL ($MEMGUARD_DIR). */
mg_status fleet_open(fleet *out, mg_error *err);
void fleet_close(fleet *f);

/** Looks again. Without a directory there is nobody.
 *  @return MG_OK, MG_ENOMEM, MG_ESYS: `list` is empty then. */
mg_status fleet_look(fleet *f, mg_error *err);

/** Path of the control socket of a process of `list`. @return whether it fits. */
bool fleet_socket_path(const fleet *f, size_t index,
                       char out[MG_SEGMENT_PATH_BYTES]);

#endif
