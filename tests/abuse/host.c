/* host.c - a program that uses libmemguard, whatever the system says.
 *
 * Opens, samples, asks, closes; ends with 0 if nothing of it is left: no thread, no
 * descriptor. */
#include <dirent.h>
#include <stdio.h>
#include <time.h>

#include "memguard.h"

#define HOST_LOOKS 60

static int host_entries(const char *path) {
  DIR *folder = opendir(path);
  int count = 0;

  if (folder == NULL) return -1;
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

static void host_sleep_ms(long ms) {
  struct timespec time = {0, ms * 1000000};

  nanosleep(&time, NULL);
}

static mg_status host_run(void *ctx, mg_control_command command,
                          const char *arguments, mg_control_reply *reply,
                          mg_error *err) {
  (void)ctx;
  (void)command;
  (void)arguments;
  return mg_control_answer(reply, "{}", 2, err);
}

/* Whatever is refused: everything else is asked all the same. */
static void host_live(mg_monitor *monitor) {
  mg_detector_options options = MG_DETECTOR_OPTIONS_INIT;
  mg_control_hooks hooks = MG_CONTROL_HOOKS_INIT;
  mg_detector *detector = NULL;
  mg_control *control = NULL;
  char path[MG_SEGMENT_PATH_BYTES];
  mg_process_info info;
  mg_sample sample;

  hooks.run = host_run;
  (void)mg_detector_open(&detector, monitor, &options, NULL);
  (void)mg_control_open(&control, &hooks, NULL);
  (void)mg_monitor_start(monitor, NULL);
  for (int look = 0; look < HOST_LOOKS; look++) {
    mg_monitor_latest(monitor, &sample);
    if (sample.number >= 4 && mg_segment_path(path, sizeof path) > 0) break;
    host_sleep_ms(5);
  }
  mg_monitor_pass(monitor, true, &sample);
  (void)mg_read_process_info(&info, NULL);
  (void)mg_trim_malloc();
  (void)mg_monitor_health(monitor, NULL);
  if (detector != NULL) mg_detector_check(detector);
  mg_control_close(control);
  mg_detector_close(detector);
}

int main(void) {
  mg_config config;
  mg_monitor *monitor;
  int fds, threads;

  fds = host_entries("/proc/self/fd");
  mg_config_init(&config, MG_PROFILE_DEFAULT);
  if (mg_config_set_text(&config, "sample_interval", "10ms", NULL) != MG_OK)
    return 2;
  for (int round = 0; round < 2; round++) {
    if (mg_monitor_open(&monitor, &config, NULL, NULL) != MG_OK) continue;
    host_live(monitor);
    mg_monitor_close(monitor);
  }
  threads = host_entries("/proc/self/task") - 2;
  if (threads != 1 || host_entries("/proc/self/fd") > fds + 1) {
    fprintf(stderr, "left: %d threads, %d descriptors of %d\n", threads,
            host_entries("/proc/self/fd"), fds);
    return 1;
  }
  return 0;
}
