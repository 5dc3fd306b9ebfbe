/* segment.c - publishing and reading segments.
 *
 * Prints one line per figure: NAME OURS_NS PEER_NS PEER. Each is the median of
 * BENCH_NS_ROUNDS rounds.
 *
 *   segment.publish   a sample into the segment: the present, and once a second a
 *                     point. Peer: the same readings as text for a metrics agent,
 *                     written to a file in the same tmpfs and renamed
 *   segment.gc        a collection into the segment. Peer: into our own recorder
 *   segment.read      what one process shows now, its file open already. Peer:
 *                     /proc/PID/status, kept open, two lines parsed
 *   segment.list200   the names of 200 live processes, each opened, read, asked
 *                     whether it is alive, closed. Peer: their status files opened,
 *                     parsed and closed */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "median.h"
#include "memguard.h"
#include "segment_parts.h"

#define PROCESSES 200

static char directory[64], path[MG_SEGMENT_PATH_BYTES];
static mg_config config;
static mg_sample sample;
static mg_segment *segment;
static mg_pauses *pauses;
static int status_fd;
static pid_t children[PROCESSES];
static volatile uint64_t sink;

/* ---- publishing ---------------------------------------------------------- */

/* A second goes by with each: the dearest case. */
static void publish(void) {
  sample.number++;
  sample.clock_ns += 1000000000u;
  sample.unix_ms += 1000;
  mg__segment_begin_pass();
  mg__segment_offer(&config, &sample, MG_ABSENT, 1000.0);
  mg__segment_publish();
}

static void publish_text(void) {
  char text[4096], name[100], new_name[104];
  size_t used = 0;
  int fd;

#define TEXT(field, doc)                                             \
  used += (size_t)snprintf(text + used, sizeof text - used,          \
                           "process_%s %" PRIu64 "\n", #field,       \
                           sample.reading.field);
  MG_READING_MAP(TEXT)
#undef TEXT
  snprintf(name, sizeof name, "%s/metrics.prom", directory);
  snprintf(new_name, sizeof new_name, "%s.new", name);
  fd = open(new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  sink = (uint64_t)write(fd, text, used);
  close(fd);
  rename(new_name, name);
}

static const mg_pause pause_seen = {.began_ns = 1000000000u,
                                    .wall_ns = 250000,
                                    .cpu_ns = 240000,
                                    .collected = 17,
                                    .kind = 1};

static void note_gc(void) { mg_segment_note_gc(&pause_seen); }

static void record_gc(void) { mg_pauses_record(pauses, &pause_seen); }

/* ---- reading -------------------------------------------------------------- */

static void read_one(void) {
  mg_segment_view view;

  (void)mg_segment_read(segment, &view, NULL);
  sink = view.sample.reading.rss_bytes;
}

static uint64_t line_of(const char *text, const char *label) {
  const char *at = strstr(text, label);

  return at == NULL ? 0 : strtoull(at + strlen(label), NULL, 10);
}

static void parse_status(int fd) {
  char text[4096];
  ssize_t got = pread(fd, text, sizeof text - 1, 0);

  text[got > 0 ? got : 0] = '\0';
  sink = line_of(text, "VmRSS:") + line_of(text, "Threads:");
}

static void read_status(void) { parse_status(status_fd); }

static void list_all(void) {
  char file[MG_SEGMENT_PATH_BYTES + MG_SEGMENT_NAME_BYTES];
  mg_segment_names names;
  mg_segment *one;
  mg_segment_view view;

  if (mg_segment_list(&names, directory, NULL) != MG_OK) return;
  for (size_t i = 0; i < names.count; i++) {
    snprintf(file, sizeof file, "%s/%s", directory, names.name[i]);
    if (mg_segment_open(&one, file, NULL) != MG_OK) continue;
    if (mg_segment_read(one, &view, NULL) == MG_OK)
      sink += view.sample.reading.rss_bytes + mg_segment_is_alive(one);
    mg_segment_close(one);
  }
  mg_segment_names_free(&names);
}

static void list_statuses(void) {
  char file[64];

  for (int i = 0; i < PROCESSES; i++) {
    int fd;
    snprintf(file, sizeof file, "/proc/%d/status", (int)children[i]);
    fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    parse_status(fd);
    close(fd);
  }
}

/* ---- a process that publishes ----------------------------------------------- */

static bool start_publishing(mg_monitor **out) {
  if (mg_monitor_open(out, &config, NULL, NULL) != MG_OK ||
      mg_monitor_start(*out, NULL) != MG_OK)
    return false;
  for (int i = 0; i < 20000; i++) {
    if (mg_segment_path(path, sizeof path) > 0) return true;
    usleep(1000);
  }
  return false;
}

static void run_child(void) {
  mg_monitor *monitor;

  if (!start_publishing(&monitor)) _exit(1);
  for (;;) pause();
}

static bool are_all_up(void) {
  mg_segment_names names;
  size_t count = 0;

  for (int i = 0; i < 30000 && count < PROCESSES; i++) {
    if (mg_segment_list(&names, directory, NULL) != MG_OK) return false;
    count = names.count;
    mg_segment_names_free(&names);
    usleep(1000);
  }
  return count == PROCESSES;
}

static void end_children(void) {
  for (int i = 0; i < PROCESSES; i++)
    if (children[i] > 0) kill(children[i], SIGKILL);
  for (int i = 0; i < PROCESSES; i++)
    if (children[i] > 0) waitpid(children[i], NULL, 0);
}

static void measure_list(void) {
  for (int i = 0; i < PROCESSES; i++) {
    children[i] = fork();
    if (children[i] == 0) run_child();
  }
  if (are_all_up())
    printf("segment.list200 %.0f %.0f /proc/PID/status,_200_of_them\n",
           bench_median_ns(list_all, 5), bench_median_ns(list_statuses, 5));
  end_children();
}

static bool measure_one(void) {
  char status[64];
  mg_monitor *monitor;

  config.value[MG_CONFIG_SAMPLE_INTERVAL] = 3600000; /* nobody else publishes */
  snprintf(status, sizeof status, "/proc/%d/status", (int)getpid());
  status_fd = open(status, O_RDONLY | O_CLOEXEC);
  if (!start_publishing(&monitor) || status_fd < 0 ||
      mg_pauses_open(&pauses, NULL) != MG_OK ||
      mg_segment_open(&segment, path, NULL) != MG_OK)
    return false;
  usleep(100000); /* the first pass is over */
  mg_monitor_pass(monitor, false, &sample);
  printf("segment.publish %.1f %.1f metrics_file_in_tmpfs\n",
         bench_median_ns(publish, 100000), bench_median_ns(publish_text, 2000));
  printf("segment.gc %.1f %.1f mg_pauses_record\n",
         bench_median_ns(note_gc, 500000), bench_median_ns(record_gc, 500000));
  printf("segment.read %.1f %.1f /proc/PID/status\n",
         bench_median_ns(read_one, 50000), bench_median_ns(read_status, 5000));
  mg_segment_close(segment);
  mg_pauses_close(pauses);
  mg_monitor_close(monitor);
  return true;
}

static void clean_up(void) {
  char command[128];

  snprintf(command, sizeof command, "rm -rf %s", directory);
  sink = (uint64_t)system(command);
}

int main(void) {
  bool done;

  snprintf(directory, sizeof directory, "/dev/shm/memguard-bench-XXXXXX");
  if (mkdtemp(directory) == NULL || setenv("MEMGUARD_DIR", directory, 1) != 0)
    return 1;
  mg_config_init(&config, MG_PROFILE_DEFAULT);
  measure_list();
  done = measure_one();
  clean_up();
  return done ? 0 : 1;
}
