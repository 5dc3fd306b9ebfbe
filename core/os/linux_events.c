/* os/linux_events.c - what wakes the sampler before its timer does.
 *
 * One poll() over the waker and these sources, each of which may be missing:
 *
 *   PSI trigger    the kernel tells when tasks were stalled for memory for
 *                  100 ms in 2 s: the span an unprivileged process may ask for;
 *                  closing one takes the kernel some 10 ms, so it is only asked
 *                  for by mg__os_events_arm()
 *   stream         a FIFO or socket a service manager writes to instead
 *   memory.events  v2: a group met its own high or max; one file per level
 *   threshold      v1: use of a group crossed a share of its limit; one eventfd
 *                  serves all levels
 *
 * Once a source became ready they are all left out of poll() for
 * MG__OS_EVENT_GAP_MS, so none, however busy or broken, can make us spin. */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define EVENTS_NS_PER_MS 1e6
/* No poll is longer: should the host close the waker, the flag still counts. */
#define EVENTS_LONGEST_MS 1000.0

typedef enum events_kind {
  EVENTS_PSI = 1,
  EVENTS_GROUP = 2,
  EVENTS_THRESHOLD = 4,
  EVENTS_STREAM = 8
} events_kind;

typedef struct events_source {
  mg__file file;
  events_kind kind;
  uint64_t seen; /* total of PSI or sum of memory.events when last told */
} events_source;

#define EVENTS_SOURCES (2 + MG__CGROUP_LEVELS)

struct mg__os_events {
  atomic_bool asked;
  mg__file waker;  /* does not change: mg__os_events_wake() holds no lock */
  bool waker_lost; /* only the waiting thread looks */
  bool is_armed;
  int count;
  events_source source[EVENTS_SOURCES];
  uint64_t quiet_until_ns;        /* sources are not polled before */
  char path[MG__PATH_BYTES + 32]; /* scratch of open */
};

/* ---- PSI ----------------------------------------------------------------- */

static uint64_t events_read_stall(int fd) {
  char text[512];

  if (mg__file_read(fd, text, sizeof text) != 0) return MG_ABSENT;
  return mg__parse_psi_total(text);
}

static bool events_write(int fd, const void *data, size_t bytes) {
  ssize_t done;

  do {
    done = write(fd, data, bytes);
  } while (done < 0 && errno == EINTR);
  return done == (ssize_t)bytes;
}

static void events_add(mg__os_events *events, mg__file file, events_kind kind,
                       uint64_t seen) {
  events->source[events->count++] = (events_source){file, kind, seen};
}

static bool events_add_trigger(mg__os_events *events, const char *path,
                               const void *trigger, size_t bytes) {
  mg__file file;
  uint64_t seen;

  if (!mg__file_open(&file, path, O_RDWR | O_NONBLOCK)) return false;
  seen = events_read_stall(file.fd);
  if (!events_write(file.fd, trigger, bytes)) {
    mg__file_close(&file); /* not allowed, or the kernel has none left */
    return false;
  }
  events_add(events, file, EVENTS_PSI, seen);
  return true;
}

/* ---- $MEMORY_PRESSURE_WATCH and _WRITE ----------------------------------- */

static int events_base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

long mg__parse_base64(const char *text, char *out, size_t out_bytes) {
  size_t length = strcspn(text, "="), index, used = 0;
  unsigned bits = 0;

  for (index = 0; index < length; index++) {
    int digit = events_base64_digit(text[index]);
    if (digit < 0) return -1;
    bits = bits << 6 | (unsigned)digit;
    if (index % 4 == 0) continue;
    if (used == out_bytes) return -1;
    out[used++] = (char)(bits >> (6 - index % 4 * 2) & 0xff);
  }
  return length % 4 == 1 ? -1 : (long)used;
}

static bool events_connect(mg__file *out, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};

  *out = (mg__file)MG__FILE_NONE;
  if (strlen(path) >= sizeof address.sun_path) return false;
  memcpy(address.sun_path, path, strlen(path));
  *out = mg__file_own(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (out->fd < 0) return false;
  if (connect(out->fd, (const struct sockaddr *)&address, sizeof address) == 0)
    return true;
  mg__file_close(out);
  return false;
}

/* Does what the service manager asks for. @return whether it has a say: the
 * group's and the machine's own files are then left alone. */
static bool events_add_watch(mg__os_events *events) {
  const char *path = getenv("MEMORY_PRESSURE_WATCH");
  const char *encoded = getenv("MEMORY_PRESSURE_WRITE");
  char data[256];
  struct stat info;
  mg__file file;
  long bytes = encoded == NULL ? 0 : mg__parse_base64(encoded, data, sizeof data);
  bool opened;

  if (path == NULL || path[0] == '\0') return false;
  if (strcmp(path, "/dev/null") == 0) return true; /* wants no monitoring */
  if (bytes < 0 || stat(path, &info) != 0) return false;
  if (S_ISREG(info.st_mode))
    return events_add_trigger(events, path, data, (size_t)bytes);
  if (S_ISSOCK(info.st_mode))
    opened = events_connect(&file, path);
  else
    opened = S_ISFIFO(info.st_mode) &&
             mg__file_open(&file, path, O_RDWR | O_NONBLOCK);
  if (!opened) return false;
  if (bytes > 0 && !events_write(file.fd, data, (size_t)bytes)) {
    mg__file_close(&file);
    return false;
  }
  events_add(events, file, EVENTS_STREAM, 0);
  return true;
}

static void events_add_psi(mg__os_events *events, const mg__os *os) {
  static const char trigger[] = "some 100000 2000000";
  const char *unified = mg__os_cgroup(os)->unified;

  if (events_add_watch(events)) return;
  if (unified[0] != '\0') {
    snprintf(events->path, sizeof events->path, "%s/memory.pressure", unified);
    if (events_add_trigger(events, events->path, trigger, sizeof trigger))
      return;
  }
  snprintf(events->path, sizeof events->path, "%s/proc/pressure/memory",
           mg__os_root(os));
  events_add_trigger(events, events->path, trigger, sizeof trigger);
}

/* ---- Control groups ------------------------------------------------------ */

/* Times a limit of the group was met. */
static uint64_t events_read_group(int fd) {
  static const char *const keys[] = {"high", "max", "oom"};
  char text[512];
  uint64_t sum = 0, value;
  size_t index;

  if (mg__file_read(fd, text, sizeof text) != 0) return MG_ABSENT;
  for (index = 0; index < sizeof keys / sizeof keys[0]; index++) {
    value = mg__parse_keyed(text, keys[index]);
    if (value != MG_ABSENT) sum += value;
  }
  return sum;
}

static const char *events_level_path(mg__os_events *events,
                                     const mg__cgroup *group, int index,
                                     const char *name) {
  size_t length;

  mg__cgroup_directory(group, index, events->path, MG__PATH_BYTES);
  length = strlen(events->path);
  snprintf(events->path + length, sizeof events->path - length, "/%s", name);
  return events->path;
}

/* A limit met is told to the group that has it and to those above, so each
 * level is watched, and there (where the kernel can) without those below it. */
static void events_add_groups(mg__os_events *events, const mg__cgroup *group) {
  static const char *const names[] = {"memory.events.local", "memory.events"};
  int level, name;
  mg__file file;

  for (level = 0; level < group->count; level++)
    for (name = 0; name < 2; name++) {
      if (!mg__file_open(&file,
                         events_level_path(events, group, level, names[name]),
                         O_RDONLY | O_NONBLOCK))
        continue;
      /* Reading is also what arms it. */
      events_add(events, file, EVENTS_GROUP, events_read_group(file.fd));
      break;
    }
}

static bool events_register(mg__os_events *events, const mg__cgroup *group,
                            int index, int event_fd, double ratio) {
  const mg__cgroup_level *level = &group->level[index];
  uint64_t limit = mg__cgroup_limit(level);
  char request[64];
  mg__file control;
  bool done;

  if (limit == MG_ABSENT || limit == 0) return false;
  if (!mg__file_open(
          &control,
          events_level_path(events, group, index, "cgroup.event_control"),
          O_WRONLY))
    return false;
  snprintf(request, sizeof request, "%d %d %.0f", event_fd, level->usage.fd,
           ratio * (double)limit);
  done = events_write(control.fd, request, strlen(request) + 1);
  mg__file_close(&control);
  return done;
}

static void events_add_thresholds(mg__os_events *events,
                                  const mg__cgroup *group, double ratio) {
  mg__file file = mg__file_own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  int index, registered = 0;

  if (file.fd < 0) return;
  for (index = 0; index < group->count; index++)
    if (events_register(events, group, index, file.fd, ratio)) registered++;
  if (registered > 0)
    events_add(events, file, EVENTS_THRESHOLD, 0);
  else
    mg__file_close(&file);
}

/* ---- Life ---------------------------------------------------------------- */

mg_status mg__os_events_open(mg__os_events **out, const mg__os *os,
                             double threshold_ratio, mg_error *err) {
  const mg__cgroup *group = mg__os_cgroup(os);
  mg__os_events *events;
  int fd, error;

  *out = NULL;
  events = mg__alloc(sizeof *events);
  if (events == NULL)
    return mg__fail(err, MG_ENOMEM, "event sources, %zu bytes", sizeof *events);
  fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) {
    error = errno;
    mg__free(events);
    return mg__fail_errno(err, error, "eventfd");
  }
  events->waker = mg__file_own(fd);
  if (group->version == 2) events_add_groups(events, group);
  if (group->version == 1)
    events_add_thresholds(events, group, threshold_ratio);
  *out = events;
  return MG_OK;
}

void mg__os_events_arm(mg__os_events *events, const mg__os *os) {
  if (events->is_armed) return;
  events->is_armed = true;
  events_add_psi(events, os);
}

void mg__os_events_close(mg__os_events *events) {
  if (events == NULL) return;
  while (events->count > 0)
    mg__file_close(&events->source[--events->count].file);
  mg__file_close(&events->waker);
  mg__free(events);
}

void mg__os_events_wake(mg__os_events *events) {
  const uint64_t one = 1;
  int saved = errno;
  ssize_t done;

  atomic_store(&events->asked, true);
  if (mg__file_is_ours(&events->waker)) {
    /* Fails only when the counter is full: then it is readable anyway. */
    done = write(events->waker.fd, &one, sizeof one);
    (void)done;
  }
  errno = saved;
}

uint32_t mg__os_events_kinds(const mg__os_events *events) {
  uint32_t kinds = 0;
  int index;

  for (index = 0; index < events->count; index++) {
    events_kind kind = events->source[index].kind;
    kinds |= kind == EVENTS_STREAM ? (uint32_t)EVENTS_PSI : (uint32_t)kind;
  }
  return kinds;
}

/* ---- Waiting ------------------------------------------------------------- */

/* Takes what a ready source has to say.
 * @return whether it is news; *out_alive is false if it never will be again. */
static bool events_take(events_source *source, short ready, bool *out_alive) {
  int fd = source->file.fd;
  uint64_t now;
  char bytes[4096];
  ssize_t got;

  *out_alive = false;
  if (ready & POLLNVAL) return false;
  switch (source->kind) {
    case EVENTS_PSI:
    case EVENTS_GROUP:
      /* memory.events raises POLLERR with each notice, so only reading tells
       * whether the group is gone. A trigger raises it when it is gone. */
      now = source->kind == EVENTS_PSI ? events_read_stall(fd)
                                       : events_read_group(fd);
      if (now == MG_ABSENT) return false;
      *out_alive = source->kind == EVENTS_GROUP || !(ready & POLLERR);
      if (now == source->seen) return false; /* a trigger's first is false */
      source->seen = now;
      return true;
    case EVENTS_THRESHOLD:
      *out_alive = !(ready & (POLLERR | POLLHUP));
      return read(fd, &now, sizeof now) == (ssize_t)sizeof now;
    case EVENTS_STREAM:
      got = read(fd, bytes, sizeof bytes);
      *out_alive = got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
      return got > 0;
  }
  return false;
}

/* Sources that are ready; those that are dead are dropped.
 * @return whether one had news. */
static bool events_take_all(mg__os_events *events,
                            const struct pollfd *polled) {
  bool news = false, alive;
  int index, kept = 0;

  for (index = 0; index < events->count; index++) {
    events_source source = events->source[index];
    alive = true;
    if (polled[index].revents != 0) {
      events->quiet_until_ns =
          mg_clock_ns() +
          (uint64_t)(MG__OS_EVENT_GAP_MS * EVENTS_NS_PER_MS);
      if (!mg__file_is_ours(&source.file))
        alive = false;
      else if (events_take(&source, polled[index].revents, &alive))
        news = true;
    }
    if (alive)
      events->source[kept++] = source;
    else
      mg__file_close(&source.file);
  }
  events->count = kept;
  return news;
}

static void events_drain_waker(mg__os_events *events, short ready) {
  uint64_t count;

  if (ready == 0) return;
  if (read(events->waker.fd, &count, sizeof count) < 0 && errno != EAGAIN)
    events->waker_lost = true; /* ready for ever, and not for us */
}

static struct timespec events_timespec(double ms) {
  double seconds = ms / 1000.0;
  struct timespec time = {.tv_sec = (time_t)seconds};

  time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
  return time;
}

/* @return whether a peer is ready. */
static bool events_has_peer(const struct pollfd *polled, int count) {
  for (int i = 0; i < count; i++)
    if (polled[i].revents != 0) return true;
  return false;
}

/* The waker, then peers, then sources. */
static void events_fill(const mg__os_events *events, const mg__peers *peers,
                        struct pollfd *polled) {
  bool has_waker = !events->waker_lost && mg__file_is_ours(&events->waker);

  *polled++ = (struct pollfd){has_waker ? events->waker.fd : -1, POLLIN, 0};
  for (int i = 0; i < peers->count; i++)
    *polled++ = (struct pollfd){peers->peer[i].fd,
                                peers->peer[i].to_send ? POLLOUT : POLLIN, 0};
  for (int i = 0; i < events->count; i++) {
    const events_source *source = &events->source[i];
    bool readable = source->kind & (EVENTS_THRESHOLD | EVENTS_STREAM);
    *polled++ =
        (struct pollfd){source->file.fd, readable ? POLLIN : POLLPRI, 0};
  }
}

/* One poll of at most `most_ms`. @return MG__WAKE_TIMER: nothing. */
static mg__wake events_poll(mg__os_events *events, double most_ms,
                            const mg__peers *peers) {
  struct pollfd polled[1 + MG__PEERS + EVENTS_SOURCES];
  uint64_t now = mg_clock_ns();
  bool quiet = now < events->quiet_until_ns;
  int first = 1 + peers->count;
  struct timespec timeout;

  if (quiet) {
    double left_ms = (double)(events->quiet_until_ns - now) / EVENTS_NS_PER_MS;
    if (left_ms < most_ms) most_ms = left_ms;
  }
  timeout = events_timespec(most_ms);
  events_fill(events, peers, polled);
  if (ppoll(polled, (nfds_t)(quiet ? first : first + events->count), &timeout,
            NULL) < 0) {
    /* No memory in the kernel: still keep to the time asked for. */
    if (errno != EINTR) nanosleep(&timeout, NULL);
    return MG__WAKE_TIMER;
  }
  events_drain_waker(events, polled[0].revents);
  if (!quiet && events_take_all(events, polled + first)) return MG__WAKE_KERNEL;
  return events_has_peer(polled + 1, peers->count) ? MG__WAKE_PEER
                                                   : MG__WAKE_TIMER;
}

mg__wake mg__os_events_wait_with(mg__os_events *events, double timeout_ms,
                                 const mg__peers *peers) {
  uint64_t start = mg_clock_ns();
  mg__wake wake = MG__WAKE_TIMER;
  double gone_ms = 0.0, left_ms;

  for (;;) {
    bool over = timeout_ms >= 0 && gone_ms >= timeout_ms;
    bool is_due = peers->due_ms >= 0 && gone_ms >= peers->due_ms;
    if (atomic_exchange(&events->asked, false)) return MG__WAKE_ASKED;
    if (wake != MG__WAKE_TIMER) return wake;
    if (is_due && gone_ms > 0) return MG__WAKE_PEER;
    if (over && gone_ms > 0) return MG__WAKE_TIMER;
    left_ms = EVENTS_LONGEST_MS; /* 0: one look at the sources even so */
    if (timeout_ms >= 0) left_ms = fmin(left_ms, timeout_ms - gone_ms);
    if (peers->due_ms >= 0) left_ms = fmin(left_ms, peers->due_ms - gone_ms);
    wake = events_poll(events, fmax(left_ms, 0.0), peers);
    gone_ms = (double)(mg_clock_ns() - start) / EVENTS_NS_PER_MS;
  }
}

mg__wake mg__os_events_wait(mg__os_events *events, double timeout_ms) {
  static const mg__peers none = {.count = 0, .due_ms = -1.0};

  return mg__os_events_wait_with(events, timeout_ms, &none);
}
