/* exporter.c - the command `memguard exporter`: the site of all processes of this
 * host, which goes on while they are busy, stopped or dead. */
#include "exporter.h"

#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli.h"
#include "listen.h"
#include "microhttpd.h"

#define EXPORTER_LISTEN "127.0.0.1:9479"
#define EXPORTER_MMAP_BYTES 131072
#define EXPORTER_FILES 4096u

typedef struct exporter_options {
  const char *listen, *unix_path, *token_file;
  const char *host[MG_WEB_HOSTS];
  size_t hosts;
  bool allow_remote, read_token, is_list, is_json;
  double ready_below;
} exporter_options;

/* ---- options ------------------------------------------------------------------ */

static int exporter_add_host(exporter_options *o, const char *name) {
  /* Two are ours: the address and the name of this machine. */
  if (o->hosts + 2 >= MG_WEB_HOSTS)
    return cli_usage("--allow-host: at most %u of them", MG_WEB_HOSTS - 2);
  o->host[o->hosts++] = name;
  return CLI_OK;
}

static int exporter_take_option(exporter_options *o, int option, int argc,
                                char **argv) {
  switch (option) {
    case 'l': o->listen = optarg; return CLI_OK;
    case 'u': o->unix_path = optarg; return CLI_OK;
    case 't': o->token_file = optarg; return CLI_OK;
    case 'r': o->allow_remote = true; return CLI_OK;
    case 'R': o->read_token = true; return CLI_OK;
    case 'a': return exporter_add_host(o, optarg);
    case 'm': o->is_list = true; return CLI_OK;
    case 'j': o->is_json = true; return CLI_OK;
    case 'b':
      return cli_number("--ready-below", optarg, 0, 1000, &o->ready_below)
                 ? CLI_OK
                 : CLI_USAGE;
    case 'h': return cli_help() == CLI_OK ? -1 : CLI_SYSTEM;
    default: return cli_bad_option(argc, argv);
  }
}

/* @return CLI_OK; -1: help was printed; else what was said. */
static int exporter_read_options(exporter_options *o, int argc, char **argv) {
  static const struct option longs[] = {
      {"listen", required_argument, NULL, 'l'},
      {"unix", required_argument, NULL, 'u'},
      {"token-file", required_argument, NULL, 't'},
      {"allow-remote", no_argument, NULL, 'r'},
      {"read-token", no_argument, NULL, 'R'},
      {"allow-host", required_argument, NULL, 'a'},
      {"ready-below", required_argument, NULL, 'b'},
      {"list-metrics", no_argument, NULL, 'm'},
      {"json", no_argument, NULL, 'j'},
      {"help", no_argument, NULL, 'h'},
      {NULL, 0, NULL, 0}};
  int option, code = CLI_OK;

  *o = (exporter_options){.listen = NULL};
  opterr = 0;
  while (code == CLI_OK &&
         (option = getopt_long(argc, argv, "h", longs, NULL)) != -1)
    code = exporter_take_option(o, option, argc, argv);
  if (code != CLI_OK) return code;
  if (optind < argc) return cli_usage("unexpected word \"%s\"", argv[optind]);
  if (o->is_list || o->is_json)
    return o->is_list && argc == 2 + o->is_json
               ? CLI_OK
               : cli_usage("--list-metrics goes alone, or with --json, which needs it");
  if (o->listen != NULL && o->unix_path != NULL)
    return cli_usage("--listen or --unix, not both");
  if (o->listen == NULL) o->listen = EXPORTER_LISTEN;
  return CLI_OK;
}

/* ---- opening -------------------------------------------------------------------- */

static int exporter_open_web(exporter *e, exporter_options *o, const char *host) {
  mg_web_options options = MG_WEB_OPTIONS_INIT;
  char token[MG_WEB_TOKEN_MAX + 1], machine[256] = "";
  bool is_remote = host != NULL && !mg_web_is_loopback(host);
  mg_error err = MG_ERROR_INIT;

  if (mg_web_find_token(token, o->token_file, &err) != MG_OK)
    return cli_fail(CLI_USAGE, "%s", err.text);
  if (is_remote && !o->allow_remote)
    return cli_usage("%s can be reached by other machines, which needs "
                     "--allow-remote and a token", host);
  if (is_remote && token[0] == '\0')
    return cli_usage("%s can be reached by other machines, which needs a token: "
                     "--token-file, or MEMGUARD_WEB_TOKEN or MEMGUARD_WEB_TOKEN_FILE "
                     "in the environment", host);
  if (o->read_token && token[0] == '\0')
    return cli_usage("--read-token needs a token: --token-file, or "
                     "MEMGUARD_WEB_TOKEN or MEMGUARD_WEB_TOKEN_FILE in the "
                     "environment");
  if (is_remote) {
    o->host[o->hosts++] = host;
    if (gethostname(machine, sizeof machine - 1) == 0 && machine[0] != '\0')
      o->host[o->hosts++] = machine;
  }
  options.token = token;
  options.read_needs_token = o->read_token || is_remote;
  options.is_fleet = true;
  options.hosts = o->host;
  options.host_count = o->hosts;
  options.ready_below_percent = o->ready_below;
  if (mg_web_open(&e->web, &options, &err) != MG_OK)
    return cli_fail(err.status == MG_ENOMEM ? CLI_SYSTEM : CLI_USAGE, "%s", err.text);
  return CLI_OK;
}

/* Says where it listens. @return CLI_OK, or what was said on stderr. */
static int exporter_listen(exporter *e, exporter_options *o, int *out_fd) {
  char host[LISTEN_HOST_BYTES], port[8], url[LISTEN_URL_BYTES];
  int code;

  if (o->unix_path != NULL) {
    code = exporter_open_web(e, o, NULL);
    if (code == CLI_OK) code = listen_unix(out_fd, o->unix_path);
    snprintf(url, sizeof url, "unix:%.300s", o->unix_path);
  } else {
    code = listen_split(o->listen, host, port);
    if (code == CLI_OK) code = exporter_open_web(e, o, host);
    if (code == CLI_OK) code = listen_tcp(out_fd, host, port, url);
  }
  if (code != CLI_OK) return code;
  printf("memguard exporter: listening at %s\n", url);
  fflush(stdout);
  clearerr(stdout); /* it serves even if nobody reads that */
  return CLI_OK;
}

/* Each process takes one, each connection one. */
static void exporter_allow_files(void) {
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= EXPORTER_FILES)
    return;
  limit.rlim_cur = limit.rlim_max < EXPORTER_FILES ? limit.rlim_max : EXPORTER_FILES;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* @return a descriptor that can be read when it is time to end; -1 */
static int exporter_catch_signals(void) {
  sigset_t wanted;

  sigemptyset(&wanted);
  sigaddset(&wanted, SIGINT);
  sigaddset(&wanted, SIGTERM);
  sigaddset(&wanted, SIGHUP);
  signal(SIGPIPE, SIG_IGN);
  if (sigprocmask(SIG_BLOCK, &wanted, NULL) != 0) return -1;
  return signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int exporter_serve(exporter *e, int listen_fd, int stop_fd) {
  e->asker = asker_open();
  if (e->asker == NULL) return cli_fail(CLI_SYSTEM, "no descriptor is left");
  exporter_init(e);
  e->server = server_open(listen_fd, &e->hooks);
  if (e->server == NULL) return cli_fail(CLI_SYSTEM, "the server does not start");
  server_run(e->server, stop_fd);
  exporter_stop(e);
  server_close(e->server);
  return CLI_OK;
}

int cli_exporter(int argc, char **argv) {
  exporter_options options;
  static exporter e; /* a thread that is left behind may still look at it */
  mg_error err = MG_ERROR_INIT;
  int stop_fd, listen_fd = -1, code = exporter_read_options(&options, argc, argv);

  if (code != CLI_OK) return code < 0 ? CLI_OK : code;
  if (options.is_list) return exporter_list(options.is_json);
  /* Large answers go back to the system, each by itself. */
  mallopt(M_MMAP_THRESHOLD, EXPORTER_MMAP_BYTES);
  exporter_allow_files();
  if (fleet_open(&e.fleet, &err) != MG_OK)
    return cli_fail(CLI_USAGE, "%s", err.text);
  if (!microhttpd_load()) return CLI_SYSTEM;
  stop_fd = exporter_catch_signals(); /* before anybody knows of us */
  if (stop_fd < 0) return cli_fail(CLI_SYSTEM, "no descriptor is left");
  code = exporter_listen(&e, &options, &listen_fd);
  if (code == CLI_OK) {
    code = exporter_serve(&e, listen_fd, stop_fd);
    close(listen_fd);
    if (options.unix_path != NULL) unlink(options.unix_path);
  }
  close(stop_fd);
  fleet_close(&e.fleet);
  mg_web_close(e.web);
  return code;
}
