/* listen.c - opens listening sockets. */
#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"

#define LISTEN_BACKLOG 512

int listen_split(const char *text, char host[LISTEN_HOST_BYTES], char port[8]) {
  const char *colon = strrchr(text, ':');
  size_t bytes = colon == NULL ? 0 : (size_t)(colon - text);
  double number;

  if (bytes > 2 && text[0] == '[' && text[bytes - 1] == ']') {
    text++;
    bytes -= 2;
  } else if (memchr(text, ':', bytes) != NULL) {
    bytes = 0;
  }
  if (bytes == 0 || bytes >= LISTEN_HOST_BYTES)
    return cli_usage("--listen \"%s\": ADDRESS:PORT, such as 127.0.0.1:9479 or "
                     "[::1]:9479", text);
  if (!cli_number("the port of --listen", colon + 1, 0, 65535, &number))
    return CLI_USAGE;
  snprintf(host, LISTEN_HOST_BYTES, "%.*s", (int)bytes, text);
  snprintf(port, 8, "%u", (unsigned)number);
  return CLI_OK;
}

static void listen_tell(int fd, const char *host, char out[LISTEN_URL_BYTES]) {
  struct sockaddr_storage where = {.ss_family = AF_UNSPEC};
  socklen_t bytes = sizeof where;
  bool is_six = strchr(host, ':') != NULL;
  char port[8] = "?";

  if (getsockname(fd, (struct sockaddr *)&where, &bytes) == 0)
    (void)getnameinfo((struct sockaddr *)&where, bytes, NULL, 0, port, sizeof port,
                      NI_NUMERICSERV);
  snprintf(out, LISTEN_URL_BYTES, "http://%s%s%s:%s/", is_six ? "[" : "", host,
           is_six ? "]" : "", port);
}

int listen_tcp(int *out_fd, const char *host, const char *port,
               char out_url[LISTEN_URL_BYTES]) {
  struct addrinfo wanted = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
  struct addrinfo *found;
  const int yes = 1;
  int fd, code = getaddrinfo(host, port, &wanted, &found);

  if (code != 0)
    return cli_fail(CLI_USAGE, "--listen %s:%s: %s", host, port, gai_strerror(code));
  fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) goto fail_socket;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
      listen(fd, LISTEN_BACKLOG) != 0)
    goto fail_socket;
  listen_tell(fd, host, out_url);
  freeaddrinfo(found);
  *out_fd = fd;
  return CLI_OK;

fail_socket:
  cli_fail(CLI_SYSTEM, "cannot listen at %s:%s: %s", host, port, strerror(errno));
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  return CLI_SYSTEM;
}

/* Whether a socket is there that nobody listens at. */
static bool listen_is_left(const struct sockaddr_un *where) {
  struct stat status;
  bool is_left;
  int fd;

  if (lstat(where->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
    return false;
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  is_left = connect(fd, (const struct sockaddr *)where, sizeof *where) != 0 &&
            errno == ECONNREFUSED;
  close(fd);
  return is_left;
}

int listen_unix(int *out_fd, const char *path) {
  struct sockaddr_un where = {.sun_family = AF_UNIX};
  mode_t mask;
  int fd, code;

  if (path[0] == '\0' || strlen(path) >= sizeof where.sun_path)
    return cli_usage("--unix \"%s\": a path of at most %zu bytes", path,
                     sizeof where.sun_path - 1);
  memcpy(where.sun_path, path, strlen(path) + 1);
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) goto fail_socket;
  if (listen_is_left(&where)) unlink(path);
  mask = umask(0177);
  code = bind(fd, (struct sockaddr *)&where, sizeof where);
  umask(mask);
  if (code != 0 || listen(fd, LISTEN_BACKLOG) != 0) goto fail_socket;
  *out_fd = fd;
  return CLI_OK;

fail_socket:
  cli_fail(CLI_SYSTEM, "cannot listen at %s: %s", path, strerror(errno));
  if (fd >= 0) close(fd);
  return CLI_SYSTEM;
}
