/* ps.c - the commands `memguard ps` and `memguard stats`. */
#include <getopt.h>
#include <inttypes.h>
#include <math.h>

#include "pid.h"

static uint64_t ps_collections(const process *one) {
  uint64_t count = 0;

  for (int kind = 0; kind < (int)MG_PAUSE_KINDS; kind++)
    count += one->view.gc[kind].count;
  return count;
}

static void ps_print_row(const process *one) {
  char rss[CLI_BYTES_TEXT], heap[CLI_BYTES_TEXT], native[CLI_BYTES_TEXT];
  const mg_sample *sample = &one->view.sample;
  double pause_ms = process_last_pause_ms(one);

  printf("%7u %-6s %8s %8s %8s %5.0f%% %-8s %8" PRIu64 " %8.1f  ",
         one->header->pid, one->header->runtime,
         cli_bytes(rss, sample->reading.rss_bytes),
         cli_bytes(heap, sample->reading.heap_used_bytes),
         cli_bytes(native, process_native_bytes(one)), 100 * sample->usage,
         process_state_name(one), ps_collections(one), isnan(pause_ms) ? 0 : pause_ms);
  cli_print_safe(stdout, one->header->program, 24);
  putchar('\n');
}

static int ps_print(const processes *list) {
  printf("%7s %-6s %8s %8s %8s %6s %-8s %8s %8s  %s\n", "PID", "KIND", "RSS", "HEAP",
         "NATIVE", "USAGE", "LEVEL", "GCS", "GC MS", "PROGRAM");
  for (size_t i = 0; i < list->count; i++) ps_print_row(&list->item[i]);
  if (list->unreadable > 0)
    fprintf(stderr, "memguard ps: %zu files are no segments of this version\n",
            list->unreadable);
  return CLI_OK;
}

static int ps_print_json(const processes *list) {
  cJSON *document = cJSON_CreateObject(), *rows;

  rows = cJSON_AddArrayToObject(document, "processes");
  for (size_t i = 0; i < list->count; i++)
    cJSON_AddItemToArray(rows, process_json(&list->item[i]));
  cJSON_AddNumberToObject(document, "unreadable", (double)list->unreadable);
  return cli_print_json(document);
}

int cli_ps(int argc, char **argv) {
  static const struct option longs[] = {{"all", no_argument, NULL, 'a'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  bool with_dead = false, is_json = false;
  processes list;
  int option, code;

  opterr = 0;
  while ((option = getopt_long(argc, argv, "ajh", longs, NULL)) != -1) {
    switch (option) {
      case 'a': with_dead = true; break;
      case 'j': is_json = true; break;
      case 'h': return cli_help();
      default: return cli_bad_option(argc, argv);
    }
  }
  if (optind < argc) return cli_usage("unexpected word \"%s\"", argv[optind]);
  code = processes_read(&list, with_dead);
  if (code != CLI_OK) return code;
  code = is_json ? ps_print_json(&list) : ps_print(&list);
  processes_free(&list);
  return code;
}

/* ---- stats ------------------------------------------------------------------ */

static void ps_line(const char *name, uint64_t bytes, const char *note) {
  char text[CLI_BYTES_TEXT];

  printf("  %-22s %10s  %s\n", name, cli_bytes(text, bytes), note);
}

static void ps_print_gc(const process *one) {
  for (uint32_t kind = 0; kind < MG_PAUSE_KINDS; kind++) {
    mg_pause_stats stats;
    if (one->view.gc[kind].count == 0) continue;
    mg_segment_gc_stats(one->segment, kind, &stats);
    printf("  %-22s %10" PRIu64 "  P95 %.2f ms, longest %.2f ms, in all %.0f ms\n",
           one->header->kind[kind], stats.count, (double)stats.p95_ns / 1e6,
           (double)stats.max_ns / 1e6, (double)stats.wall_ns / 1e6);
  }
}

static int ps_print_stats(const process *one) {
  const mg_sample *sample = &one->view.sample;
  char limit[CLI_BYTES_TEXT];

  printf("%u ", one->header->pid);
  cli_print_safe(stdout, one->header->program, 0);
  printf(", %s %s, %s\n\nmemory\n", one->header->runtime,
         one->header->runtime_version,
         one->is_alive ? "running" : process_state_name(one));
  ps_line("resident", sample->reading.rss_bytes, "");
  ps_line("resident at most", sample->peak_rss_bytes, "");
  ps_line("heap in use", sample->reading.heap_used_bytes, "");
  ps_line("heap reserved", sample->reading.heap_total_bytes, "");
  ps_line("beside the heap", process_native_bytes(one), "");
  printf("  %-22s %9.1f%%  of %s (%s), level %s\n", "usage", 100 * sample->usage,
         cli_bytes(limit, process_limit_bytes(one)), mg_domain_name(sample->domain),
         mg_level_name(sample->level));
  printf("\ncollections\n");
  ps_print_gc(one);
  printf("\nothers\n");
  if (sample->reading.fd_count != MG_ABSENT)
    printf("  %-22s %10" PRIu64 "\n", "file descriptors", sample->reading.fd_count);
  if (sample->reading.thread_count != MG_ABSENT)
    printf("  %-22s %10" PRIu64 "\n", "threads", sample->reading.thread_count);
  printf("  %-22s %10" PRIu64 "\n", "alerts", one->view.now.alerts);
  printf("  %-22s %10" PRIu64 "\n", "reclaim rounds", one->view.now.rounds);
  ps_line("freed by them", one->view.now.freed_bytes, "");
  return CLI_OK;
}

int cli_stats(int argc, char **argv) {
  pid_options options;
  process one;
  int code = pid_read_options(&options, argc, argv, true);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  code = process_find(&one, options.pid);
  if (code != CLI_OK) return code;
  code = options.is_json ? cli_print_json(process_json(&one)) : ps_print_stats(&one);
  process_close(&one);
  return code;
}
