/* memguard/census.h - who holds what: bounded tables of names with counts and
 * bytes, and what grew between two of them.
 *
 * A table takes what its owner counts (objects by type, timers by kind) or what
 * the process shows of itself: open descriptors by target, private memory by
 * mapping. Names hold types, sites and targets, never data of the host.
 *
 * Threads: one thread at a time per table; different tables need nothing. A table
 * that is not changed any more may be read by several threads at once. */
#ifndef MEMGUARD_CENSUS_H
#define MEMGUARD_CENSUS_H

#include "memguard/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MG_CENSUS_NAMES_MAX 100000u /* distinct names of a table */
#define MG_CENSUS_NAME_BYTES 160u   /* with its NUL; a longer name is cut */
/** What did not find room is counted under this name. */
#define MG_CENSUS_OTHER "(other)"

typedef struct mg_census mg_census;

/** One name of a table. */
typedef struct mg_census_row {
  const char *name; /* [borrowed] until the table is cleared or closed; UTF-8
                       unless it came from a path that is not */
  uint64_t count, bytes;
} mg_census_row;

/** @param out [owned] an empty table; mg_census_close() it.
 *  @param max_names 1 to MG_CENSUS_NAMES_MAX; 0 = MG_CENSUS_NAMES_MAX.
 *  @return MG_OK, MG_ERANGE, MG_ENOMEM. */
MG_API mg_status mg_census_open(mg_census **out, size_t max_names,
                                mg_error *err);
/** NULL allowed. */
MG_API void mg_census_close(mg_census *census);
/** Empties the table, keeps its memory. */
MG_API void mg_census_clear(mg_census *census);

/** Adds to `name`, which is cut to MG_CENSUS_NAME_BYTES at a character's border;
 *  control bytes become '?'. Sums stop at UINT64_MAX. A new name goes under
 *  MG_CENSUS_OTHER when the table is full or there is no memory, so this cannot
 *  fail. An empty name is "?". */
MG_API void mg_census_add(mg_census *census, const char *name, uint64_t count,
                          uint64_t bytes);
/** @return names in the table, MG_CENSUS_OTHER among them if it was needed. */
MG_API size_t mg_census_size(const mg_census *census);
/** Rows in order of their first appearance, MG_CENSUS_OTHER last.
 *  @return false if there is no row `index`. */
MG_API bool mg_census_at(const mg_census *census, size_t index,
                         mg_census_row *out);
/** @return whether `name` (as added) is in the table. `out` may be NULL. */
MG_API bool mg_census_find(const mg_census *census, const char *name,
                           mg_census_row *out);
/** Whether names were counted under MG_CENSUS_OTHER. */
MG_API bool mg_census_is_cut(const mg_census *census);

/* ---- what grew ------------------------------------------------------------ */

/** X(ID, name): what a culprit's name is the name of. */
#define MG_CULPRIT_MAP(X) \
  X(TYPE, "type")         \
  X(SITE, "site")         \
  X(FD, "fd")             \
  X(MAPPING, "mapping")   \
  X(RENTAL, "rental")     \
  X(COUNTER, "counter")

typedef enum mg_culprit_kind {
#define MG_CULPRIT_ENUM(id, name) MG_CULPRIT_##id,
  MG_CULPRIT_MAP(MG_CULPRIT_ENUM)
#undef MG_CULPRIT_ENUM
      MG_CULPRITS
} mg_culprit_kind;

/** @return "type" and so on; "unknown" for a foreign value. */
MG_API const char *mg_culprit_name(mg_culprit_kind kind);

typedef struct mg_culprit {
  mg_culprit_kind kind;
  char name[MG_CENSUS_NAME_BYTES];
  int64_t growth;       /* more of them than before */
  int64_t growth_bytes; /* more bytes than before; 0 where not counted */
  uint64_t count;       /* now */
  double share;         /* part of all growth, 0 to 1 */
} mg_culprit;

typedef enum mg_census_by {
  MG_CENSUS_BY_COUNT, /* ranks and shares by `growth` */
  MG_CENSUS_BY_BYTES  /* by `growth_bytes` */
} mg_census_by;

/** Names that grew from `before` to `after`, the one that grew most first, equal
 *  ones by name. All growth = the sum over the names that grew; what shrank takes
 *  nothing off. MG_CENSUS_OTHER has its part in that, but is nobody's name and
 *  never a culprit. A name that may have been under MG_CENSUS_OTHER before is
 *  taken to have been all of that. Pure; no allocation.
 *  @return culprits written, at most `max`. */
MG_API size_t mg_census_diff(const mg_census *before, const mg_census *after,
                             mg_culprit_kind kind, mg_census_by by,
                             mg_culprit *out, size_t max);

/* ---- this process ----------------------------------------------------------- */

/** Adds the open descriptors by target, 0 bytes each:
 *    "socket tcp 127.0.0.1:6379"  connected to that peer (tcp, udp, sctp; a v6
 *                                 address in brackets)
 *    "socket tcp on :8080"        accepted there, whoever the peer is
 *    "socket tcp listening :8080" waits for connections
 *    "socket tcp unconnected"     not yet, or not any more
 *    "socket unix /run/x.sock", "socket unix on ...", "socket unix listening ...",
 *    "socket unix", "socket netlink", "socket"
 *    "pipe", "anon eventfd", "memfd NAME", "file /path"
 *  In paths and names what numbers a file becomes '#': runs of digits, words of 8
 *  and more hexadecimal digits, the random part of tempfile and mkstemp names.
 *  " (deleted)" stays. Descriptors that other threads open or close meanwhile are
 *  counted or not. Some 5 us each, 15 us a socket.
 *  @return MG_OK, MG_EABSENT (no /proc), MG_ESYS. */
MG_API mg_status mg_census_fds(mg_census *census, mg_error *err);

/** Adds the mappings, with their private resident bytes (Private_Clean +
 *  Private_Dirty + Private_Hugetlb of smaps): "heap", "stack", "anon", "anon NAME",
 *  "special NAME" (vdso), else the file, numbered as above unless it is a library.
 *  The kernel walks the page tables for it: some 30 to 50 ms per GB; other threads
 *  that map memory may wait for that.
 *  @return MG_OK, MG_EABSENT (no smaps), MG_ESYS. */
MG_API mg_status mg_census_maps(mg_census *census, mg_error *err);

#ifdef __cplusplus
}
#endif
#endif
