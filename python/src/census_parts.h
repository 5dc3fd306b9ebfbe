/* census_parts.h - what the files of the census share: a walk over all objects that
 * the collector tracks, and the names of types.
 *
 * Threads: with the GIL. No function here runs Python code or makes an object that
 * the collector tracks, unless it says so: a collection must not come between. */
#ifndef MEMGUARD_CENSUS_PARTS_H
#define MEMGUARD_CENSUS_PARTS_H

#include "gc_lists.h"
#include "memguard/census.h"

/* ---- census_walk.c --------------------------------------------------------- */

#define MGPY_SLICE_OBJECTS 50000  /* of one slice at most */
#define MGPY_SLICE_NS 1500000u    /* a slice ends when it took that */
#define MGPY_AT_ONCE_MOST 1000000 /* objects of a walk that cannot be sliced */
#define MGPY_WALK_RESTARTS 2
#define MGPY_WALK_SLICES 4000

typedef enum mgpy_walk_state {
  MGPY_WALK_MORE,   /* call again */
  MGPY_WALK_ANEW,   /* call again; forget what was seen, it begins anew */
  MGPY_WALK_DONE
} mgpy_walk_state;

typedef struct mgpy_walk {
  mgpy_state *state;
  mgpy_generation *lists; /* NULL: all at once */
  PyObject *cursor;  /* an empty list of ours; NULL unless under way in slices */
  PyObject *mark;    /* the same: the youngest object when the walk began */
  int part;          /* of the four lists, oldest first */
  Py_ssize_t full_collections;
  bool had_frozen;
  bool is_done;
  bool is_exact; /* nothing can have been counted twice or passed over */
  bool is_whole; /* false: stopped at one of the bounds above */
  uint32_t slices, restarts;
  uint64_t visited;       /* objects, since it began anew */
  uint64_t largest_slice; /* objects */
  uint64_t held_ns, longest_ns; /* with the GIL: all slices, the longest */
} mgpy_walk;

/** Looks at `object` [borrowed]. @return false to end the slice after it. */
typedef bool (*mgpy_walk_visit)(PyObject *object, void *ctx);

/** @param in_slices false: all at once, as where slices are impossible. Runs,
 *  the first time, what gc.get_threshold and gc.get_stats are. @return 0, or -1 and an error:
 *  AbsentError if this interpreter cannot be walked at all. */
int mgpy_walk_open(mgpy_walk *out, mgpy_state *state, bool in_slices);
/** Visits at most `most` more objects, for at most about MGPY_SLICE_NS. */
mgpy_walk_state mgpy_walk_slice(mgpy_walk *walk, Py_ssize_t most,
                                mgpy_walk_visit visit, void *ctx);
/** Notes that a slice and what belongs to it held the GIL since then. */
void mgpy_walk_held(mgpy_walk *walk, uint64_t since_ns);
/** Lets other threads have the GIL for a moment. */
void mgpy_walk_rest(void);
void mgpy_walk_close(mgpy_walk *walk);

/* ---- census_type.c --------------------------------------------------------- */

typedef struct mgpy_types mgpy_types;
/** Counts into `census`. @return [owned] mgpy_types_close(); NULL and an error. */
mgpy_types *mgpy_types_open(mg_census *census);
void mgpy_types_close(mgpy_types *types);
mgpy_walk_state mgpy_types_slice(mgpy_types *types, mgpy_walk *walk,
                                 Py_ssize_t most);

/* ---- census_name.c --------------------------------------------------------- */

/** "module.Qualname", without "builtins.". Reads nothing but the type's own fields
 *  and cuts to what fits. */
void mgpy_type_name(char out[MG_CENSUS_NAME_BYTES], PyTypeObject *type);
/** Copies a str as UTF-8, as much as fits; surrogates become '?'. @return length. */
size_t mgpy_text(char *out, size_t out_bytes, PyObject *text);

/* ---- census_referrers.c ------------------------------------------------------ */

/** referrers(type_name, limit): see memguard.census. */
PyObject *mgpy_census_referrers(PyObject *module, PyObject *args);

#endif
