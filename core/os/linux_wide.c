/* os/linux_wide.c - the wide reading, through libproc2.
 *
 * libproc2 is loaded by the first reading, not linked: its shared library
 * brings others along that would cost every host resident memory. Its numbers
 * for what to read differ between its versions, so a library of another version
 * is found out by asking for things whose answers are known.
 *
 * For each thread that asks about a process libproc2 allocates 260 KB and never
 * frees them, also when the thread ends. So only WIDE_THREADS threads ask;
 * later ones read the same numbers where libproc2 does. */
#include "memguard/process.h"

#include "internal.h"
#include "os.h"

#if defined(__has_include)
#if __has_include(<libproc2/pids.h>) && __has_include(<libproc2/meminfo.h>)
#define WIDE_HAS_HEADERS 1
#endif
#endif

#ifndef WIDE_HAS_HEADERS

mg_status mg_read_process_info(mg_process_info *out, mg_error *err) {
  (void)out;
  return mg__fail(err, MG_EABSENT,
                  "memguard was built without the headers of libproc2; install "
                  "libproc2-dev and build again");
}

#else

#include <dlfcn.h>
#include <fcntl.h>
#include <libproc2/meminfo.h>
#include <libproc2/pids.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define WIDE_THREADS 8
#define WIDE_TRIES 3

/* What is asked for, in the order of the answers. */
#define WIDE_PIDS_MAP(X)            \
  X(PID, PIDS_ID_PID)               \
  X(RSS, PIDS_VM_RSS)               \
  X(RSS_ANON, PIDS_VM_RSS_ANON)     \
  X(RSS_FILE, PIDS_VM_RSS_FILE)     \
  X(RSS_SHARED, PIDS_VM_RSS_SHARED) \
  X(SWAP, PIDS_VM_SWAP)             \
  X(RSS_AND_SWAP, PIDS_VM_USED)     \
  X(LOCKED, PIDS_VM_RSS_LOCKED)     \
  X(MAJOR, PIDS_FLT_MAJ)            \
  X(MINOR, PIDS_FLT_MIN)            \
  X(THREADS, PIDS_NLWP)             \
  X(TICKS, PIDS_TICS_ALL)

#define WIDE_MEMORY_MAP(X)            \
  X(TOTAL, MEMINFO_MEM_TOTAL)         \
  X(AVAILABLE, MEMINFO_MEM_AVAILABLE) \
  X(CACHED, MEMINFO_MEM_CACHED)       \
  X(SWAP_TOTAL, MEMINFO_SWAP_TOTAL)   \
  X(SWAP_FREE, MEMINFO_SWAP_FREE)

#define WIDE_PIDS_INDEX(name, item)   WIDE_PIDS_##name,
#define WIDE_MEMORY_INDEX(name, item) WIDE_MEMORY_##name,
#define WIDE_ITEM(name, item)         item,
enum { WIDE_PIDS_MAP(WIDE_PIDS_INDEX) WIDE_PIDS_ITEMS };
enum { WIDE_MEMORY_MAP(WIDE_MEMORY_INDEX) WIDE_MEMORY_ITEMS };

/** X(returned type, function, parameters): what is used of libproc2. */
#define WIDE_FUNCTION_MAP(X)                                            \
  X(int, procps_pids_new, (struct pids_info **, enum pids_item *, int)) \
  X(int, procps_pids_unref, (struct pids_info **))                      \
  X(struct pids_fetch *, procps_pids_select,                            \
    (struct pids_info *, unsigned *, int, enum pids_select_type))       \
  X(int, procps_meminfo_new, (struct meminfo_info **))                  \
  X(int, procps_meminfo_unref, (struct meminfo_info **))                \
  X(struct meminfo_stack *, procps_meminfo_select,                      \
    (struct meminfo_info *, enum meminfo_item *, int))

typedef struct wide_library {
  void *handle; /* never closed */
#define WIDE_FUNCTION(type, name, parameters) type(*name) parameters;
  WIDE_FUNCTION_MAP(WIDE_FUNCTION)
#undef WIDE_FUNCTION
} wide_library;

/* Not const: a test looks for a library that is not there. */
static const char *wide_sonames[] = {
#ifdef MG_LIBPROC2_SONAME
    MG_LIBPROC2_SONAME
#else
    "libproc2.so.0", "libproc2.so.1"
#endif
};

/* Guards what is static here and every call into the library. */
static mg__mutex wide_lock = MG__MUTEX_INIT;
static wide_library wide_loaded;
static int wide_threads; /* that have asked about a process */
static _Thread_local bool wide_may_ask;

static void wide_take(void) {
  mg__lock(&wide_lock);
}
static void wide_give(void) {
  mg__unlock(&wide_lock);
}

static void *wide_open_library(void) {
  const size_t count = sizeof wide_sonames / sizeof wide_sonames[0];
  void *handle = NULL;
  size_t index;

  for (index = 0; index < count && handle == NULL; index++)
    handle = dlopen(wide_sonames[index], RTLD_LAZY | RTLD_LOCAL);
  return handle;
}

static mg_status wide_load(mg_error *err) {
  wide_library library = {0};
  void *found;

  if (wide_loaded.handle != NULL) return MG_OK;
  library.handle = wide_open_library();
  if (library.handle == NULL)
    return mg__fail(err, MG_EABSENT,
                    "libproc2 cannot be loaded (%s); install libproc2-0",
                    dlerror());
#define WIDE_FUNCTION(type, name, parameters)                              \
  found = dlsym(library.handle, #name);                                    \
  if (found == NULL) {                                                     \
    dlclose(library.handle);                                               \
    return mg__fail(err, MG_EABSENT,                                       \
                    "libproc2 has no " #name                               \
                    "(); install the libproc2-0 memguard was built with"); \
  }                                                                        \
  memcpy(&library.name, &found, sizeof found);
  WIDE_FUNCTION_MAP(WIDE_FUNCTION)
#undef WIDE_FUNCTION
  /* A fork in the middle of a call would leave the child a library in disorder
   * and a lock that nobody holds. */
  if (pthread_atfork(wide_take, wide_give, wide_give) != 0) {
    dlclose(library.handle);
    return mg__fail(err, MG_ENOMEM, "no memory for fork handlers");
  }
  wide_loaded = library;
  return MG_OK;
}

static uint64_t wide_bytes(unsigned long kib) {
  return (uint64_t)kib * 1024;
}

static mg_status wide_mismatch(mg_error *err) {
  return mg__fail(err, MG_EABSENT,
                  "libproc2 gives other numbers than the version memguard was "
                  "built with; install that version or build again");
}

/* Whether the answers are to the questions asked: the numbers of libproc2's
 * items move when it gains one, so a sum of neighbours would not come out. */
static bool wide_process_fits(const struct pids_result *value) {
  unsigned long rss = value[WIDE_PIDS_RSS].result.ul_int;

  return value[WIDE_PIDS_PID].result.s_int == getpid() && rss > 0 &&
         rss == value[WIDE_PIDS_RSS_ANON].result.ul_int +
                    value[WIDE_PIDS_RSS_FILE].result.ul_int +
                    value[WIDE_PIDS_RSS_SHARED].result.ul_int &&
         value[WIDE_PIDS_RSS_AND_SWAP].result.ul_int ==
             rss + value[WIDE_PIDS_SWAP].result.ul_int &&
         value[WIDE_PIDS_THREADS].result.s_int > 0;
}

static mg_status wide_try_process(mg_process_info *out, mg_error *err) {
  enum pids_item items[] = {WIDE_PIDS_MAP(WIDE_ITEM)};
  unsigned pid = (unsigned)getpid();
  struct pids_info *info = NULL;
  const struct pids_result *value;
  const struct pids_fetch *fetch;
  mg_status st = MG_OK;
  int error = wide_loaded.procps_pids_new(&info, items, WIDE_PIDS_ITEMS);

  if (error < 0)
    return mg__fail_errno(err, -error, "libproc2 cannot read /proc");
  fetch = wide_loaded.procps_pids_select(info, &pid, 1, PIDS_SELECT_PID);
  if (fetch == NULL || fetch->counts->total != 1) {
    st = mg__fail(err, MG_EABSENT,
                  "libproc2 does not find this process in /proc");
    goto fail_info;
  }
  value = fetch->stacks[0]->head;
  if (!wide_process_fits(value)) {
    st = wide_mismatch(err);
    goto fail_info;
  }
  out->rss_anonymous_bytes =
      wide_bytes(value[WIDE_PIDS_RSS_ANON].result.ul_int);
  out->rss_file_bytes = wide_bytes(value[WIDE_PIDS_RSS_FILE].result.ul_int);
  out->rss_shared_bytes = wide_bytes(value[WIDE_PIDS_RSS_SHARED].result.ul_int);
  out->swap_bytes = wide_bytes(value[WIDE_PIDS_SWAP].result.ul_int);
  out->locked_bytes = wide_bytes(value[WIDE_PIDS_LOCKED].result.ul_int);
  out->major_faults = value[WIDE_PIDS_MAJOR].result.ul_int;
  out->minor_faults = value[WIDE_PIDS_MINOR].result.ul_int;
  out->threads = (uint64_t)value[WIDE_PIDS_THREADS].result.s_int;
  out->cpu_ms = value[WIDE_PIDS_TICKS].result.ull_int * 1000 /
                (uint64_t)sysconf(_SC_CLK_TCK);

fail_info:
  wide_loaded.procps_pids_unref(&info);
  return st;
}

/* It reads several files one after another: what changes in between makes numbers
 * that do not fit together, and a thread that ends a process that is not found. */
static mg_status wide_read_process(mg_process_info *out, mg_error *err) {
  mg_status st = MG_EABSENT;

  for (int try = 0; try < WIDE_TRIES && st == MG_EABSENT; try++)
    st = wide_try_process(out, err);
  return st;
}

static mg_status wide_read_machine(mg_process_info *out, mg_error *err) {
  enum meminfo_item items[] = {WIDE_MEMORY_MAP(WIDE_ITEM)};
  struct meminfo_info *info = NULL;
  const struct meminfo_stack *stack;
  mg_status st = MG_OK;
  int error = wide_loaded.procps_meminfo_new(&info);

  if (error < 0)
    return mg__fail_errno(err, -error, "libproc2 cannot read /proc/meminfo");
  stack = wide_loaded.procps_meminfo_select(info, items, WIDE_MEMORY_ITEMS);
  if (stack == NULL) {
    st = mg__fail(err, MG_EABSENT, "libproc2 cannot read /proc/meminfo");
    goto fail_info;
  }
#define WIDE_MEMORY(name) \
  wide_bytes(stack->head[WIDE_MEMORY_##name].result.ul_int)
  out->machine_total_bytes = WIDE_MEMORY(TOTAL);
  out->machine_available_bytes = WIDE_MEMORY(AVAILABLE);
  out->machine_cached_bytes = WIDE_MEMORY(CACHED);
  out->machine_swap_total_bytes = WIDE_MEMORY(SWAP_TOTAL);
  out->machine_swap_free_bytes = WIDE_MEMORY(SWAP_FREE);
#undef WIDE_MEMORY

fail_info:
  wide_loaded.procps_meminfo_unref(&info);
  return st;
}

static bool wide_thread_may_ask(void) {
  if (!wide_may_ask && wide_threads < WIDE_THREADS) {
    wide_may_ask = true;
    wide_threads++;
  }
  return wide_may_ask;
}

/* ---- Without libproc2 ---------------------------------------------------- */

static void wide_read_file(const char *path, char *out, size_t out_bytes) {
  mg__file file;

  mg__file_open(&file, path, O_RDONLY);
  mg__file_read(file.fd, out, out_bytes);
  mg__file_close(&file);
}

static uint64_t wide_ms(const struct timeval *time) {
  return (uint64_t)time->tv_sec * 1000 + (uint64_t)time->tv_usec / 1000;
}

static void wide_read_process_files(mg_process_info *out) {
  struct rusage usage;
  char text[4096];

  wide_read_file("/proc/self/status", text, sizeof text);
  out->rss_anonymous_bytes = mg__parse_keyed(text, "RssAnon");
  out->rss_file_bytes = mg__parse_keyed(text, "RssFile");
  out->rss_shared_bytes = mg__parse_keyed(text, "RssShmem");
  out->swap_bytes = mg__parse_keyed(text, "VmSwap");
  out->locked_bytes = mg__parse_keyed(text, "VmLck");
  out->threads = mg__parse_keyed(text, "Threads");
  if (getrusage(RUSAGE_SELF, &usage) != 0) return;
  out->major_faults = (uint64_t)usage.ru_majflt;
  out->minor_faults = (uint64_t)usage.ru_minflt;
  out->cpu_ms = wide_ms(&usage.ru_utime) + wide_ms(&usage.ru_stime);
}

/* The peak, which libproc2 has no item for. */
static uint64_t wide_read_peak(void) {
  char text[4096];

  wide_read_file("/proc/self/status", text, sizeof text);
  return mg__parse_keyed(text, "VmHWM");
}

/* The total, by which a libproc2 with other numbers is found out. */
static bool wide_machine_fits(const mg_process_info *info) {
  char text[512];

  wide_read_file("/proc/meminfo", text, sizeof text);
  return info->machine_total_bytes == mg__parse_keyed(text, "MemTotal") &&
         info->machine_available_bytes <= info->machine_total_bytes &&
         info->machine_swap_free_bytes <= info->machine_swap_total_bytes;
}

/* ---- All of it ----------------------------------------------------------- */

mg_status mg_read_process_info(mg_process_info *out, mg_error *err) {
  mg_process_info info;
  mg_status st;

#define WIDE_ABSENT(field, doc) info.field = MG_ABSENT;
  MG_PROCESS_MAP(WIDE_ABSENT)
#undef WIDE_ABSENT
  *out = info;
  wide_take();
  st = wide_load(err);
  if (st == MG_OK) st = wide_read_machine(&info, err);
  if (st == MG_OK && !wide_machine_fits(&info)) st = wide_mismatch(err);
  if (st == MG_OK && !wide_thread_may_ask())
    wide_read_process_files(&info);
  else if (st == MG_OK)
    st = wide_read_process(&info, err);
  wide_give();
  info.rss_peak_bytes = wide_read_peak();
  if (st == MG_OK) *out = info;
  return st;
}

#endif
