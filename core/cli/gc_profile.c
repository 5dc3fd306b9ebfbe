/* gc_profile.c - the command `memguard gc-profile`: watches the collections of a
 * process for a while, reports, advises, and has them tuned with --optimize.
 *
 * Collections are taken from the recorder's ring of the process, often enough that
 * at MG_SEGMENT_GC_EVENTS in GC_PROFILE_POLL_MS none is missed; what is missed all
 * the same is counted and told. */
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"
#include "pid.h"
#include "profile.h"

#define GC_PROFILE_POLL_MS 50
#define GC_PROFILE_ASK_MS 10000.0
#define GC_PROFILE_SETTLE_S 10.0 /* the tuner tries and settles */

typedef struct gc_options {
  long pid;
  double seconds, settle_s;
  bool optimize, prometheus, is_json;
  char **command;
} gc_options;

typedef struct gc_watch {
  process *one;
  profile_event *events;
  size_t count;
  uint64_t last_number, missed;
} gc_watch;

/* ---- watching ------------------------------------------------------------------ */

static void gc_take(gc_watch *watch, double began_unix_ms) {
  mg_segment_gc_event events[MG_SEGMENT_GC_EVENTS];
  size_t count = mg_segment_gc_events(watch->one->segment, events,
                                      MG_SEGMENT_GC_EVENTS);

  for (size_t i = 0; i < count; i++) {
    const mg_segment_gc_event *e = &events[i];
    if (e->number <= watch->last_number) continue;
    if (watch->last_number != 0) watch->missed += e->number - watch->last_number - 1;
    watch->last_number = e->number;
    if ((double)e->began_unix_ms < began_unix_ms) continue;
    if (watch->count == PROFILE_EVENTS || e->kind >= MG_PAUSE_KINDS) {
      watch->missed++;
      continue;
    }
    watch->events[watch->count++] = (profile_event){
        .at_s = ((double)e->began_unix_ms - began_unix_ms) / 1e3,
        .wall_ms = (double)e->wall_ns / 1e6,
        .kind = e->kind};
  }
}

/* @return CLI_OK, also when the process ended meanwhile: `out` says how long. */
static int gc_watch_for(profile *out, uint64_t *out_missed, process *one,
                        double seconds) {
  double began_s = cli_now_s(), began_unix_ms = cli_unix_ms();
  gc_watch watch = {.one = one};

  watch.events = calloc(PROFILE_EVENTS, sizeof *watch.events);
  if (watch.events == NULL) return cli_fail(CLI_SYSTEM, "out of memory");
  while (cli_now_s() - began_s < seconds && mg_segment_is_alive(one->segment)) {
    cli_sleep_s(GC_PROFILE_POLL_MS / 1e3);
    gc_take(&watch, began_unix_ms);
  }
  profile_of(out, watch.events, watch.count, cli_now_s() - began_s);
  *out_missed = watch.missed;
  free(watch.events);
  return CLI_OK;
}

/* ---- reports --------------------------------------------------------------------- */

static void gc_print(const profile *seen, const process *one, uint64_t missed) {
  printf("duration      %10.1f s\n"
         "collections   %10" PRIu64 "    %.2f a second\n"
         "pause in all  %10.1f ms  %.2f %% of the time\n"
         "pause, mean   %10.3f ms\n"
         "pause, worst  %10.3f ms\n"
         "P95 over seconds of the longest pause: %.3f ms\n\n",
         seen->seconds, seen->count, seen->per_second, seen->total_ms,
         seen->share_percent, seen->mean_ms, seen->max_ms, seen->seconds_p95_ms);
  printf("%-20s %9s %10s %10s %10s\n", "kind", "count", "mean ms", "P95 ms",
         "max ms");
  for (int id = 0; id < (int)MG_PAUSE_KINDS; id++) {
    const profile_kind *kind = &seen->kind[id];
    if (kind->count == 0) continue;
    printf("%-20s %9" PRIu64 " %10.3f %10.3f %10.3f\n", one->header->kind[id],
           kind->count, kind->mean_ms, kind->p95_ms, kind->max_ms);
  }
  if (missed > 0)
    printf("%" PRIu64 " collections came too fast to be seen one by one\n", missed);
}

static cJSON *gc_json(const profile *seen, const process *one, uint64_t missed) {
  cJSON *object = cJSON_CreateObject(), *kinds;

  cJSON_AddNumberToObject(object, "duration_s", seen->seconds);
  cJSON_AddNumberToObject(object, "collections", (double)seen->count);
  cJSON_AddNumberToObject(object, "missed", (double)missed);
  cJSON_AddNumberToObject(object, "total_pause_ms", seen->total_ms);
  cJSON_AddNumberToObject(object, "mean_pause_ms", seen->mean_ms);
  cJSON_AddNumberToObject(object, "max_pause_ms", seen->max_ms);
  cJSON_AddNumberToObject(object, "per_second", seen->per_second);
  cJSON_AddNumberToObject(object, "gc_share_percent", seen->share_percent);
  cJSON_AddNumberToObject(object, "seconds_p95_ms", seen->seconds_p95_ms);
  kinds = cJSON_AddObjectToObject(object, "kinds");
  for (int id = 0; id < (int)MG_PAUSE_KINDS; id++) {
    const profile_kind *kind = &seen->kind[id];
    cJSON *row;
    if (kind->count == 0) continue;
    row = cJSON_AddObjectToObject(kinds, one->header->kind[id]);
    cJSON_AddNumberToObject(row, "count", (double)kind->count);
    cJSON_AddNumberToObject(row, "mean_ms", kind->mean_ms);
    cJSON_AddNumberToObject(row, "p95_ms", kind->p95_ms);
    cJSON_AddNumberToObject(row, "max_ms", kind->max_ms);
  }
  return object;
}

static void gc_print_prometheus(const profile *seen, const process *one) {
  uint64_t sum = 0;

  puts("# HELP gc_pause_duration_seconds Pauses by collections while profiled.\n"
       "# TYPE gc_pause_duration_seconds histogram");
  for (int i = 0; i < PROFILE_BUCKETS; i++) {
    sum += seen->bucket[i];
    printf("gc_pause_duration_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
           profile_bucket_s[i], sum);
  }
  printf("gc_pause_duration_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
         "gc_pause_duration_seconds_sum %.9g\n"
         "gc_pause_duration_seconds_count %" PRIu64 "\n",
         seen->count, seen->total_ms / 1e3, seen->count);
  puts("# HELP gc_collections_by_generation_total Collections while profiled.\n"
       "# TYPE gc_collections_by_generation_total counter");
  for (int id = 0; id < (int)MG_PAUSE_KINDS; id++)
    if (seen->kind[id].count > 0)
      printf("gc_collections_by_generation_total{generation=\"%s\"} %" PRIu64 "\n",
             one->header->kind[id], seen->kind[id].count);
}

static void gc_print_change(const profile *before, const profile *after) {
  printf("\n%-42s %10s %10s\n", "", "before", "after");
  printf("%-42s %10.3f %10.3f\n", "P95 over seconds of the longest pause, ms",
         before->seconds_p95_ms, after->seconds_p95_ms);
  printf("%-42s %10.3f %10.3f\n", "mean pause, ms", before->mean_ms, after->mean_ms);
  printf("%-42s %10.3f %10.3f\n", "longest pause, ms", before->max_ms, after->max_ms);
  printf("%-42s %10.2f %10.2f\n", "collections a second", before->per_second,
         after->per_second);
  printf("%-42s %10.2f %10.2f\n", "time in collections, %", before->share_percent,
         after->share_percent);
}

/* ---- the command -------------------------------------------------------------------- */

static int gc_optimize(process *one) {
  cJSON *answer;
  int code = process_ask(&answer, one, "update_config",
                         "{\"memory\": {\"auto_tune\": true}}", GC_PROFILE_ASK_MS);

  cJSON_Delete(answer);
  return code;
}

typedef struct gc_result {
  profile before, after;
  uint64_t missed_before, missed_after;
  bool has_after;
} gc_result;

static int gc_measure(gc_result *out, process *one, const gc_options *options) {
  int code = gc_watch_for(&out->before, &out->missed_before, one, options->seconds);
  double until;

  if (code != CLI_OK || !options->optimize) return code;
  code = gc_optimize(one);
  if (code != CLI_OK) return code;
  until = cli_now_s() + options->settle_s;
  while (cli_now_s() < until && mg_segment_is_alive(one->segment))
    cli_sleep_s(GC_PROFILE_POLL_MS / 1e3);
  out->has_after = true;
  return gc_watch_for(&out->after, &out->missed_after, one, options->seconds);
}

static int gc_report(const gc_result *result, const process *one,
                     const gc_options *options) {
  bool is_node = strcmp(one->header->runtime, "node") == 0;
  char advice[PROFILE_ADVICE_BYTES];
  cJSON *document;

  profile_advise(advice, &result->before, is_node);
  if (options->prometheus) {
    gc_print_prometheus(result->has_after ? &result->after : &result->before, one);
    return CLI_OK;
  }
  if (!options->is_json) {
    gc_print(&result->before, one, result->missed_before);
    printf("\n%s", advice);
    if (result->has_after) gc_print_change(&result->before, &result->after);
    return CLI_OK;
  }
  document = gc_json(&result->before, one, result->missed_before);
  cJSON_AddStringToObject(document, "advice", advice);
  if (result->has_after)
    cJSON_AddItemToObject(document, "after",
                          gc_json(&result->after, one, result->missed_after));
  return cli_print_json(document);
}

static int gc_read_options(gc_options *out, int argc, char **argv) {
  static const struct option longs[] = {{"duration", required_argument, NULL, 'd'},
                                        {"settle", required_argument, NULL, 's'},
                                        {"optimize", no_argument, NULL, 'o'},
                                        {"prometheus", no_argument, NULL, 'p'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  bool good = true;
  int option;

  *out = (gc_options){.seconds = 30, .settle_s = GC_PROFILE_SETTLE_S};
  opterr = 0;
  while ((option = getopt_long(argc, argv, "+d:s:opjh", longs, NULL)) != -1) {
    switch (option) {
      case 'd': good = cli_number("--duration", optarg, 1, 86400, &out->seconds); break;
      case 's': good = cli_number("--settle", optarg, 0, 86400, &out->settle_s); break;
      case 'o': out->optimize = true; break;
      case 'p': out->prometheus = true; break;
      case 'j': out->is_json = true; break;
      case 'h': cli_help(); return -1;
      default: return cli_bad_option(argc, argv);
    }
    if (!good) return CLI_USAGE;
  }
  if (optind == argc) return cli_usage("a PID, or a command after --, is needed");
  if (strcmp(argv[optind - 1], "--") == 0) {
    out->command = argv + optind;
    return CLI_OK;
  }
  if (!pid_take(&out->pid, argv[optind])) return CLI_USAGE;
  /* Options may stand behind the PID as well. */
  if (optind + 1 == argc) return CLI_OK;
  return cli_usage("options come before the PID: unexpected \"%s\"",
                   argv[optind + 1]);
}

static int gc_profile_process(long pid, const gc_options *options) {
  gc_result *result = calloc(1, sizeof *result);
  process one;
  int code;

  if (result == NULL) return cli_fail(CLI_SYSTEM, "out of memory");
  code = process_find(&one, pid);
  if (code != CLI_OK) goto fail_result;
  if (!one.is_alive)
    code = cli_fail(CLI_NOT_FOUND, "process %ld has ended", pid);
  else
    code = gc_measure(result, &one, options);
  if (code == CLI_OK) code = gc_report(result, &one, options);
  process_close(&one);

fail_result:
  free(result);
  return code;
}

int cli_gc_profile(int argc, char **argv) {
  gc_options options;
  launch started;
  int code = gc_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  if (options.command == NULL) return gc_profile_process(options.pid, &options);
  code = launch_start(&started, options.command, LAUNCH_WATCHED | LAUNCH_TO_STDERR);
  if (code != CLI_OK) return code;
  code = launch_wait_published(&started);
  if (code == CLI_OK) code = gc_profile_process(started.pid, &options);
  launch_end(&started);
  return code;
}
