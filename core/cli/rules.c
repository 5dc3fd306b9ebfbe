/* rules.c - the command `memguard rules`: alerting rules for Prometheus. */
#include "rules.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "grafana.h"

#define RULES_RSS_MB 1024.0
#define RULES_CHOSEN 16
#define RULES_URL_BYTES 2048
/* The exporter that saw it serves the runbook, too. */
#define RULES_RUNBOOK "http://{{ $labels.instance }}/assets/runbook.html"

typedef struct rule {
  const char *group, *alert, *kind, *severity, *wait, *expression, *summary,
      *description;
} rule;

static const rule rules[] = {
#define RULES_ROW(...) {__VA_ARGS__},
    RULES_MAP(RULES_ROW)
#undef RULES_ROW
};
#define RULES_COUNT (sizeof rules / sizeof rules[0])

typedef struct rules_options {
  const char *group[RULES_CHOSEN], *label[RULES_CHOSEN];
  size_t groups, labels;
  const char *runbook;
  uint64_t rss_bytes;
  bool is_grafana; /* the dashboard, not the rules */
} rules_options;

/* ---- options -------------------------------------------------------------- */

static bool rules_is_group(const char *name) {
  for (size_t i = 0; i < RULES_COUNT; i++)
    if (strcmp(rules[i].group, name) == 0) return true;
  return false;
}

static int rules_add_group(rules_options *o, const char *name) {
  if (!rules_is_group(name))
    return cli_usage("--group \"%s\": memguard-memory, memguard-gc, memguard-leaks "
                     "or memguard-processes", name);
  if (o->groups == RULES_CHOSEN)
    return cli_usage("--group: at most %d of them", RULES_CHOSEN);
  o->group[o->groups++] = name;
  return CLI_OK;
}

/* A label's name is a word; its value must stand in one line of YAML. */
static int rules_add_label(rules_options *o, const char *text) {
  static const char *letters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
  size_t name = strspn(text, letters);

  if (name == 0 || text[name] != '=' || (text[0] >= '0' && text[0] <= '9') ||
      strncmp(text, "severity=", 9) == 0)
    return cli_usage("--label \"%s\": NAME=VALUE, with a name of letters, digits "
                     "and _ that is not \"severity\"", text);
  for (const char *at = text + name; *at != '\0'; at++)
    if ((unsigned char)*at < ' ' || *at == 0x7f)
      return cli_usage("--label %.*s: its value has control characters", (int)name,
                       text);
  if (o->labels == RULES_CHOSEN)
    return cli_usage("--label: at most %d of them", RULES_CHOSEN);
  o->label[o->labels++] = text;
  return CLI_OK;
}

static int rules_set_runbook(rules_options *o, const char *url) {
  if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
    return cli_usage("--runbook \"%s\": a URL that begins with http:// or https://",
                     url);
  if (strlen(url) >= RULES_URL_BYTES)
    return cli_usage("--runbook: at most %d bytes", RULES_URL_BYTES - 1);
  for (const char *at = url; *at != '\0'; at++)
    if ((unsigned char)*at <= ' ' || *at == 0x7f)
      return cli_usage("--runbook: a URL has no white space");
  o->runbook = url;
  return CLI_OK;
}

/* @return CLI_OK; -1: help was printed; else what was said. */
static int rules_read_options(rules_options *o, int argc, char **argv) {
  static const struct option longs[] = {{"group", required_argument, NULL, 'g'},
                                        {"label", required_argument, NULL, 'l'},
                                        {"rss", required_argument, NULL, 'r'},
                                        {"runbook", required_argument, NULL, 'b'},
                                        {"grafana", no_argument, NULL, 'd'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  double rss_mb = RULES_RSS_MB;
  int option, code = CLI_OK;

  *o = (rules_options){.runbook = RULES_RUNBOOK};
  opterr = 0;
  while (code == CLI_OK &&
         (option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
    switch (option) {
      case 'g': code = rules_add_group(o, optarg); break;
      case 'l': code = rules_add_label(o, optarg); break;
      case 'r':
        if (!cli_number("--rss", optarg, 1, 1e9, &rss_mb)) return CLI_USAGE;
        break;
      case 'b': code = rules_set_runbook(o, optarg); break;
      case 'd': o->is_grafana = true; break;
      case 'h': return cli_help() == CLI_OK ? -1 : CLI_SYSTEM;
      default: return cli_bad_option(argc, argv);
    }
  }
  if (code != CLI_OK) return code;
  if (optind < argc) return cli_usage("unexpected word \"%s\"", argv[optind]);
  if (o->is_grafana && argc > 2)
    return cli_usage("--grafana: no other option goes with it");
  o->rss_bytes = (uint64_t)(rss_mb * MG_BYTES_PER_MB);
  return CLI_OK;
}

/* ---- YAML ------------------------------------------------------------------ */

/* In single quotes, where only these are special. */
static void rules_print_quoted(const char *text) {
  putchar('\'');
  for (; *text != '\0'; text++) {
    if (*text == '\'') putchar('\'');
    putchar(*text);
  }
  puts("'");
}

static void rules_print_expression(const char *text, uint64_t rss_bytes) {
  const char *mark = strstr(text, "@RSS@");

  puts("        expr: |-");
  if (mark != NULL) {
    printf("          %.*s%" PRIu64 "%s\n", (int)(mark - text), text, rss_bytes,
           mark + strlen("@RSS@"));
    return;
  }
  fputs("          ", stdout);
  for (; *text != '\0'; text++)
    fputs(*text == '\n' ? "\n          " : (char[]){*text, '\0'}, stdout);
  putchar('\n');
}

static void rules_print_rule(const rule *r, const rules_options *o) {
  char runbook[RULES_URL_BYTES + 64];

  printf("      - alert: %s\n", r->alert);
  rules_print_expression(r->expression, o->rss_bytes);
  if (r->wait[0] != '\0') printf("        for: %s\n", r->wait);
  printf("        labels:\n          severity: %s\n", r->severity);
  for (size_t i = 0; i < o->labels; i++) {
    const char *value = strchr(o->label[i], '=') + 1;
    printf("          %.*s: ", (int)(value - 1 - o->label[i]), o->label[i]);
    rules_print_quoted(value);
  }
  fputs("        annotations:\n          summary: ", stdout);
  rules_print_quoted(r->summary);
  fputs("          description: ", stdout);
  rules_print_quoted(r->description);
  snprintf(runbook, sizeof runbook, "%s#%s", o->runbook, r->kind);
  fputs("          runbook_url: ", stdout);
  rules_print_quoted(runbook);
}

static bool rules_is_wanted(const rules_options *o, const rule *r) {
  for (size_t i = 0; i < o->groups; i++)
    if (strcmp(o->group[i], r->group) == 0) return true;
  return o->groups == 0;
}

int cli_rules(int argc, char **argv) {
  rules_options options;
  const char *group = "";
  int code = rules_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  if (options.is_grafana) return grafana_print();
  puts("# Alerting rules for Prometheus on the metrics of memguard " MG_VERSION
       "; made by `memguard rules`.\ngroups:");
  for (size_t i = 0; i < RULES_COUNT; i++) {
    if (!rules_is_wanted(&options, &rules[i])) continue;
    if (strcmp(group, rules[i].group) != 0)
      printf("  - name: %s\n    rules:\n", rules[i].group);
    group = rules[i].group;
    rules_print_rule(&rules[i], &options);
  }
  return CLI_OK;
}
