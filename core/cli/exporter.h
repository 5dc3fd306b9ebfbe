/* exporter.h - what `memguard exporter` answers, without its options. */
#ifndef MG_CLI_EXPORTER_H
#define MG_CLI_EXPORTER_H

#include "asker.h"
#include "fleet.h"
#include "server.h"

#define EXPORTER_KEPT 8          /* answers that may be given again, */
#define EXPORTER_KEPT_MS 100.0   /* for so long */
#define EXPORTER_REAP_MS 60000.0 /* the dead are looked at so often */

/** What makes two jobs of kind READ the same. */
typedef struct exporter_key {
  mg_web_route route;
  mg_segment_ring ring;
  uint64_t since_unix_ms;
  uint32_t pid, max; /* pid 0: none is named */
  bool wants_openmetrics;
} exporter_key;

typedef struct exporter_kept {
  exporter_key key;
  server_answer *answer; /* [owned] NULL: empty */
  double until_ms;
} exporter_kept;

/** A question under way, and whom to give the answer. */
typedef struct exporter_pending {
  struct exporter_pending *next;
  server_exchange *exchange; /* NULL: answered already */
  mg_web_job job;            /* of it, route and is_head */
} exporter_pending;

typedef struct exporter {
  mg_web *web;
  fleet fleet;
  asker *asker;
  server *server;
  server_hooks hooks;
  exporter_pending *pending; /* [owned] all of them */
  exporter_kept kept[EXPORTER_KEPT];
  double reap_ms;
} exporter;

/** Fills `hooks`, so that a server can be opened with them. */
void exporter_init(exporter *e);
/** Answers what is under way, before the server is closed. */
void exporter_stop(exporter *e);

/** exporter_list.c: prints the table of all metrics. @return an exit code. */
int exporter_list(bool is_json);

#endif
