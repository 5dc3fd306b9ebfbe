/* postmortem.c - the command `memguard postmortem`: why a process ended. */
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "chart.h"
#include "memguard/monitor.h"
#include "process.h"

#define POSTMORTEM_NOTES 10
#define POSTMORTEM_TYPES 5
#define POSTMORTEM_ROWS 8

typedef struct postmortem {
  process one;
  mg_postmortem_report report;
  mg_segment_point second[MG_SEGMENT_SECONDS];
  size_t seconds;
  mg_segment_note note[MG_SEGMENT_NOTES];
  size_t notes;
  mg_segment_types types;
} postmortem;

static int postmortem_read(postmortem *out, const char *path) {
  mg_error err = MG_ERROR_INIT;
  mg_postmortem_facts facts;
  int code = process_open(&out->one, path);

  if (code != CLI_OK) return code;
  if (mg_segment_facts(out->one.segment, &facts, &err) != MG_OK) {
    process_close(&out->one);
    return cli_fail(CLI_USAGE, "%s", err.text);
  }
  mg_postmortem(&facts, &out->report);
  out->seconds = mg_segment_points(out->one.segment, MG_SEGMENT_BY_SECOND,
                                   out->second, MG_SEGMENT_SECONDS);
  out->notes =
      mg_segment_notes(out->one.segment, out->note, MG_SEGMENT_NOTES);
  mg_segment_read_types(out->one.segment, &out->types);
  return CLI_OK;
}

/* ---- text ------------------------------------------------------------------ */

static void postmortem_time(char out[32], uint64_t unix_ms) {
  time_t seconds = (time_t)(unix_ms / 1000);
  struct tm parts;

  if (localtime_r(&seconds, &parts) == NULL ||
      strftime(out, 32, "%H:%M:%S", &parts) == 0)
    memcpy(out, "?", 2);
}

static void postmortem_print_chart(const postmortem *p) {
  double values[MG_SEGMENT_SECONDS], limit = (double)NAN;
  uint64_t limit_bytes = process_limit_bytes(&p->one);
  char from[32], to[32];

  if (p->seconds < 2) return;
  for (size_t i = 0; i < p->seconds; i++)
    values[i] = p->second[i].rss_bytes == MG_ABSENT
                    ? (double)NAN
                    : (double)p->second[i].rss_bytes / MG_BYTES_PER_MB;
  if (limit_bytes != MG_ABSENT && limit_bytes != 0)
    limit = (double)limit_bytes / MG_BYTES_PER_MB;
  postmortem_time(from, p->second[0].unix_ms);
  postmortem_time(to, p->second[p->seconds - 1].unix_ms);
  puts("\nresident memory of its last minutes");
  chart_print(stdout, values, p->seconds, POSTMORTEM_ROWS, limit, "MB", from, to);
}

static void postmortem_print_note(const mg_segment_note *note) {
  char at[32], rss[CLI_BYTES_TEXT], freed[CLI_BYTES_TEXT];

  postmortem_time(at, note->last_unix_ms);
  printf("  %s  ", at);
  if (note->kind == MG_SEGMENT_ACTION)
    printf("reclaim round %" PRIu64 " at %.0f %%: freed %s in %.0f ms\n", note->round,
           100 * note->usage_before, cli_bytes(freed, note->freed_bytes),
           note->took_ms);
  else
    printf("%s, level %s, %s resident%s\n",
           mg_event_name((mg_event_kind)note->event),
           mg_level_name((mg_level)note->level), cli_bytes(rss, note->rss_bytes),
           note->repeats > 0 ? ", again and again" : "");
}

static void postmortem_print_types(const mg_segment_types *types) {
  char grown[CLI_BYTES_TEXT];

  if (types->count == 0) return;
  puts("\nwhat was growing");
  for (uint32_t i = 0; i < types->count && i < POSTMORTEM_TYPES; i++) {
    const mg_segment_type *type = &types->type[i];
    printf("  ");
    cli_print_safe(stdout, type->name, 0);
    if (type->grown_count != 0) printf("  %+" PRId64 " objects", type->grown_count);
    if (type->grown_bytes > 0)
      printf("  +%s", cli_bytes(grown, (uint64_t)type->grown_bytes));
    putchar('\n');
  }
}

static int postmortem_print(const postmortem *p) {
  const process *one = &p->one;
  size_t first = p->notes > POSTMORTEM_NOTES ? p->notes - POSTMORTEM_NOTES : 0;
  char rss[CLI_BYTES_TEXT], peak[CLI_BYTES_TEXT];

  printf("%u ", one->header->pid);
  cli_print_safe(stdout, one->header->program, 0);
  printf(", %s %s: %s\n%s\n\n", one->header->runtime, one->header->runtime_version,
         mg_verdict_name(p->report.verdict), mg_verdict_text(p->report.verdict));
  printf("  last: %s resident (%s at most), %.0f %% of the limit that kills (%s), "
         "level %s\n",
         cli_bytes(rss, one->view.sample.reading.rss_bytes),
         cli_bytes(peak, one->view.sample.peak_rss_bytes), 100 * p->report.usage,
         mg_domain_name(p->report.domain), mg_level_name(one->view.sample.level));
  if (p->report.has_oom_kill) puts("  the kernel counted an OOM kill in its group");
  postmortem_print_chart(p);
  if (p->notes > 0) puts("\nlast alerts and actions");
  for (size_t i = first; i < p->notes; i++) postmortem_print_note(&p->note[i]);
  postmortem_print_types(&p->types);
  return CLI_OK;
}

/* ---- JSON -------------------------------------------------------------------- */

static void postmortem_add_points(cJSON *to, const postmortem *p) {
  cJSON *points = cJSON_AddArrayToObject(to, "last_seconds");

  for (size_t i = 0; i < p->seconds; i++) {
    cJSON *point = cJSON_CreateObject();
    cJSON_AddNumberToObject(point, "unix_ms", (double)p->second[i].unix_ms);
    if (p->second[i].rss_bytes != MG_ABSENT)
      cJSON_AddNumberToObject(point, "rss_bytes", (double)p->second[i].rss_bytes);
    if (p->second[i].heap_used_bytes != MG_ABSENT)
      cJSON_AddNumberToObject(point, "heap_used_bytes",
                              (double)p->second[i].heap_used_bytes);
    cJSON_AddNumberToObject(point, "usage_percent",
                            (double)p->second[i].usage_ppm / 1e4);
    cJSON_AddItemToArray(points, point);
  }
}

static void postmortem_add_notes(cJSON *to, const postmortem *p) {
  cJSON *notes = cJSON_AddArrayToObject(to, "notes");

  for (size_t i = 0; i < p->notes; i++) {
    const mg_segment_note *note = &p->note[i];
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(
        row, "kind", mg_segment_note_name((mg_segment_note_kind)note->kind));
    cJSON_AddNumberToObject(row, "unix_ms", (double)note->last_unix_ms);
    if (note->kind == MG_SEGMENT_ALERT)
      cJSON_AddStringToObject(row, "event",
                              mg_event_name((mg_event_kind)note->event));
    else
      cJSON_AddNumberToObject(row, "freed_bytes", (double)note->freed_bytes);
    cJSON_AddItemToArray(notes, row);
  }
}

static void postmortem_add_types(cJSON *to, const mg_segment_types *types) {
  cJSON *rows = cJSON_AddArrayToObject(to, "growing");

  for (uint32_t i = 0; i < types->count; i++) {
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "name", types->type[i].name);
    cJSON_AddNumberToObject(row, "grown_count", (double)types->type[i].grown_count);
    cJSON_AddNumberToObject(row, "grown_bytes", (double)types->type[i].grown_bytes);
    cJSON_AddItemToArray(rows, row);
  }
}

static cJSON *postmortem_json(const postmortem *p) {
  cJSON *object = process_json(&p->one);

  cJSON_AddNumberToObject(object, "deadly_usage_percent", 100 * p->report.usage);
  cJSON_AddStringToObject(object, "deadly_domain",
                          mg_domain_name(p->report.domain));
  cJSON_AddBoolToObject(object, "oom_kill_counted", p->report.has_oom_kill);
  postmortem_add_points(object, p);
  postmortem_add_notes(object, p);
  postmortem_add_types(object, &p->types);
  return object;
}

/* ---- the command --------------------------------------------------------------- */

static int postmortem_one(const char *path, bool is_json, cJSON *to) {
  postmortem *p = calloc(1, sizeof *p);
  int code;

  if (p == NULL) return cli_fail(CLI_SYSTEM, "out of memory");
  code = postmortem_read(p, path);
  if (code == CLI_OK) {
    if (is_json)
      cJSON_AddItemToArray(to, postmortem_json(p));
    else
      postmortem_print(p);
    process_close(&p->one);
  }
  free(p);
  return code;
}

/* All that ended, oldest first; one that cannot be read does not hide the others. */
static int postmortem_directory(const char *directory, bool is_json, cJSON *to) {
  mg_error err = MG_ERROR_INIT;
  mg_segment_names names;
  size_t told = 0;

  if (mg_segment_list(&names, directory, &err) != MG_OK)
    return cli_fail(CLI_NOT_FOUND, "%s", err.text);
  for (size_t i = 0; i < names.count; i++) {
    char path[MG_SEGMENT_PATH_BYTES];
    mg_segment *segment;
    bool is_dead;
    snprintf(path, sizeof path, "%s/%s", directory, names.name[i]);
    if (mg_segment_open(&segment, path, NULL) != MG_OK) continue;
    is_dead = !mg_segment_is_alive(segment);
    mg_segment_close(segment);
    if (!is_dead) continue;
    if (told++ > 0 && !is_json) puts("\n----\n");
    postmortem_one(path, is_json, to);
  }
  mg_segment_names_free(&names);
  if (told == 0 && !is_json) printf("%s: no process ended\n", directory);
  return CLI_OK;
}

static int postmortem_tell(const char *path, bool is_json, cJSON *to) {
  char directory[MG_SEGMENT_PATH_BYTES];
  mg_error err = MG_ERROR_INIT;
  struct stat status;

  if (path == NULL) {
    if (mg_segment_directory(directory, sizeof directory, &err) != MG_OK)
      return cli_fail(CLI_USAGE, "%s", err.text);
    path = directory;
    if (stat(path, &status) != 0) return postmortem_directory(path, is_json, to);
  }
  if (stat(path, &status) != 0)
    return cli_fail(CLI_NOT_FOUND, "%s: no such file or folder", path);
  return S_ISDIR(status.st_mode) ? postmortem_directory(path, is_json, to)
                                 : postmortem_one(path, is_json, to);
}

int cli_postmortem(int argc, char **argv) {
  static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  cJSON *document, *rows;
  bool is_json = false;
  int option, code;

  opterr = 0;
  while ((option = getopt_long(argc, argv, "jh", longs, NULL)) != -1) {
    switch (option) {
      case 'j': is_json = true; break;
      case 'h': return cli_help();
      default: return cli_bad_option(argc, argv);
    }
  }
  if (argc - optind > 1) return cli_usage("one folder or file at most");
  document = cJSON_CreateObject();
  rows = cJSON_AddArrayToObject(document, "processes");
  code = postmortem_tell(argv[optind], is_json, rows);
  if (is_json && code == CLI_OK) return cli_print_json(document);
  cJSON_Delete(document);
  return code;
}
