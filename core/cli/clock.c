/* clock.c - time of the memguard tool. */
#include <time.h>

#include "cli.h"
#include "memguard/process.h"

double cli_now_s(void) { return mg_clock_ms() / 1e3; }

double cli_unix_ms(void) {
  struct timespec now;

  clock_gettime(CLOCK_REALTIME, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

void cli_sleep_s(double seconds) {
  struct timespec time = {.tv_sec = (time_t)seconds};

  time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
  nanosleep(&time, NULL);
}
