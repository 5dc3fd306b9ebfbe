/* os/linux_census.c - the descriptors and mappings of this process, counted.
 *
 * /proc/self/fd names a socket by a number only; whom it is connected with the
 * socket itself tells. Whether it was accepted does nobody: it was if its own port
 * is one that this process listens on, or if only the peer's is of the range that
 * the kernel gives to those who connect. */
#include "os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"

#define CENSUS_PORTS 64
#define CENSUS_FIRST_EPHEMERAL 32768 /* Linux's default */

/* Ports that this process listens on. */
typedef struct census_ports {
  uint16_t port[CENSUS_PORTS];
  size_t count;
} census_ports;

typedef union census_address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
  struct sockaddr_un local;
  struct sockaddr_storage room;
} census_address;

/* ---- sockets ---------------------------------------------------------------- */

static int census_option(int fd, int option) {
  int value = -1;
  socklen_t bytes = sizeof value;

  return getsockopt(fd, SOL_SOCKET, option, &value, &bytes) == 0 ? value : -1;
}

static bool census_name_of(int fd, bool is_peer, census_address *out,
                           socklen_t *out_bytes) {
  memset(out, 0, sizeof *out);
  *out_bytes = sizeof *out;
  return (is_peer ? getpeername(fd, &out->any, out_bytes)
                  : getsockname(fd, &out->any, out_bytes)) == 0;
}

/* -1 if the address has none. */
static int census_port(const census_address *address) {
  if (address->any.sa_family == AF_INET) return ntohs(address->v4.sin_port);
  if (address->any.sa_family == AF_INET6) return ntohs(address->v6.sin6_port);
  return -1;
}

static bool census_is_listening(int fd) {
  return census_option(fd, SO_ACCEPTCONN) == 1;
}

static bool census_was_accepted(const census_ports *ports, int own, int peer) {
  for (size_t i = 0; i < ports->count; i++)
    if (ports->port[i] == own) return true;
  return peer >= CENSUS_FIRST_EPHEMERAL && own < CENSUS_FIRST_EPHEMERAL;
}

static const char *census_protocol(int fd) {
  switch (census_option(fd, SO_PROTOCOL)) {
    case IPPROTO_TCP: return "tcp";
    case IPPROTO_UDP: return "udp";
    case IPPROTO_SCTP: return "sctp";
    default: return "raw";
  }
}

static void census_inet(char out[MG_CENSUS_NAME_BYTES], int fd,
                        const census_ports *ports) {
  const char *protocol = census_protocol(fd);
  char text[INET6_ADDRSTRLEN] = "?";
  census_address own, peer;
  socklen_t bytes;
  int own_port, peer_port;
  const size_t room = MG_CENSUS_NAME_BYTES;

  own_port = census_name_of(fd, false, &own, &bytes) ? census_port(&own) : -1;
  if (census_is_listening(fd)) {
    snprintf(out, room, "socket %s listening :%d", protocol, own_port);
  } else if (!census_name_of(fd, true, &peer, &bytes)) {
    snprintf(out, room, "socket %s unconnected", protocol);
  } else {
    peer_port = census_port(&peer);
    if (census_was_accepted(ports, own_port, peer_port)) {
      snprintf(out, room, "socket %s on :%d", protocol, own_port);
    } else if (peer.any.sa_family == AF_INET6) {
      inet_ntop(AF_INET6, &peer.v6.sin6_addr, text, sizeof text);
      snprintf(out, room, "socket %s [%s]:%d", protocol, text, peer_port);
    } else {
      inet_ntop(AF_INET, &peer.v4.sin_addr, text, sizeof text);
      snprintf(out, room, "socket %s %s:%d", protocol, text, peer_port);
    }
  }
}

/* @return whether there is a path or an abstract name, which begins with '@'. */
static bool census_local_path(int fd, bool is_peer, char *out,
                              size_t out_bytes) {
  census_address address;
  socklen_t bytes;
  char path[sizeof address.local.sun_path + 1] = {0};
  const size_t start = offsetof(struct sockaddr_un, sun_path);

  if (!census_name_of(fd, is_peer, &address, &bytes) || bytes <= start)
    return false;
  memcpy(path, address.local.sun_path,
         bytes - start < sizeof path - 1 ? bytes - start : sizeof path - 1);
  if (path[0] == '\0') path[0] = '@';
  if (path[1] == '\0') return false;
  mg__census_unnumber(out, out_bytes, path);
  return true;
}

static void census_unix(char out[MG_CENSUS_NAME_BYTES], int fd) {
  const char *how = census_is_listening(fd) ? "listening " : "";
  char path[128];
  const size_t room = MG_CENSUS_NAME_BYTES;

  if (census_local_path(fd, true, path, sizeof path))
    snprintf(out, room, "socket unix %s", path);
  else if (census_local_path(fd, false, path, sizeof path))
    snprintf(out, room, "socket unix %s%s%s", *how ? "" : "on ", how, path);
  else
    snprintf(out, room, "socket unix");
}

static void census_socket(char out[MG_CENSUS_NAME_BYTES], int fd,
                          const census_ports *ports) {
  int family = census_option(fd, SO_DOMAIN);

  switch (family) {
    case AF_INET:
    case AF_INET6: census_inet(out, fd, ports); break;
    case AF_UNIX: census_unix(out, fd); break;
    case AF_NETLINK: snprintf(out, MG_CENSUS_NAME_BYTES, "socket netlink"); break;
    default: snprintf(out, MG_CENSUS_NAME_BYTES, "socket"); break;
  }
}

/* ---- descriptors -------------------------------------------------------------- */

typedef struct census_walk census_walk;
struct census_walk {
  int folder; /* .../proc/self/fd */
  void (*note)(census_walk *walk, const char *name, int fd);
  census_ports ports;
  mg_census *census;
};

static bool census_link(const census_walk *walk, const char *name, char *out,
                        size_t out_bytes) {
  ssize_t got = readlinkat(walk->folder, name, out, out_bytes - 1);

  if (got <= 0) return false; /* closed meanwhile */
  out[got] = '\0';
  return true;
}

/* What is no socket fails at the first call. */
static void census_note_port(census_walk *walk, const char *name, int fd) {
  census_address own;
  socklen_t bytes;
  int port;

  (void)name;
  if (!census_is_listening(fd) || !census_name_of(fd, false, &own, &bytes))
    return;
  port = census_port(&own);
  if (port > 0 && walk->ports.count < CENSUS_PORTS)
    walk->ports.port[walk->ports.count++] = (uint16_t)port;
}

static void census_note_fd(census_walk *walk, const char *number, int fd) {
  char name[MG_CENSUS_NAME_BYTES], link[PATH_MAX];

  if (!census_link(walk, number, link, sizeof link)) return;
  if (strncmp(link, "socket:", 7) == 0)
    census_socket(name, fd, &walk->ports);
  else
    mg__census_target(name, link);
  mg_census_add(walk->census, name, 1, 0);
}

static bool census_note(void *context, const char *name) {
  census_walk *walk = context;
  uint64_t fd;

  if (mg__parse_u64(name, &fd) && fd <= INT_MAX && (int)fd != walk->folder)
    walk->note(walk, name, (int)fd);
  return true;
}

/* Calls `note` with the name in the folder and the number of each descriptor but our
 * own. @return 0 or errno. */
static int census_each_fd(census_walk *walk,
                          void (*note)(census_walk *, const char *, int)) {
  walk->note = note;
  return mg__os_each_name(walk->folder, census_note, walk);
}

mg_status mg__census_fds(mg_census *census, const char *root, mg_error *err) {
  census_walk walk = {.census = census};
  char path[MG__PATH_BYTES];
  int failed;

  snprintf(path, sizeof path, "%s/proc/self/fd", root);
  walk.folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (walk.folder < 0) {
    if (errno == ENOENT || errno == EACCES || errno == EPERM)
      return mg__fail(err, MG_EABSENT, "%s cannot be read", path);
    return mg__fail_errno(err, errno, "open %s", path);
  }
  failed = census_each_fd(&walk, census_note_port);
  if (failed == 0) failed = census_each_fd(&walk, census_note_fd);
  close(walk.folder);
  return failed == 0 ? MG_OK : mg__fail_errno(err, failed, "read %s", path);
}

mg_status mg_census_fds(mg_census *census, mg_error *err) {
  return mg__census_fds(census, "", err);
}

/* ---- mappings ------------------------------------------------------------------ */

typedef struct census_mapping {
  char name[MG_CENSUS_NAME_BYTES]; /* empty: none yet */
  uint64_t bytes;
} census_mapping;

/* "7f0c8000-7f0c9000 rw-p 00000000 00:00 0    /path": past five words. */
static const char *census_path_of(const char *line) {
  for (int word = 0; word < 5; word++) {
    line += strcspn(line, " ");
    line += strspn(line, " ");
  }
  return line;
}

/* MG_ABSENT for a line that tells something else. */
static uint64_t census_private(const char *line) {
  static const char *const keys[] = {"Private_Clean", "Private_Dirty",
                                     "Private_Hugetlb"};

  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (strncmp(line, keys[i], strlen(keys[i])) == 0)
      return mg__parse_keyed(line, keys[i]);
  return MG_ABSENT;
}

/* "7f0c8000-7f0c9000 ..." */
static bool census_is_address(const char *line) {
  const char *end = line + strspn(line, "0123456789abcdef");

  return end != line && *end == '-';
}

/* The lines of a mapping: one that begins with its address, then "Key: value". The
 * end is an empty line. */
static void census_note_line(mg_census *census, census_mapping *mapping,
                             const char *line) {
  uint64_t bytes;

  if (*line != '\0' && !census_is_address(line)) {
    bytes = census_private(line);
    if (bytes != MG_ABSENT) mapping->bytes += bytes;
    return;
  }
  if (mapping->name[0] != '\0')
    mg_census_add(census, mapping->name, 1, mapping->bytes);
  mapping->bytes = 0;
  mapping->name[0] = '\0';
  if (*line != '\0') mg__census_mapping(mapping->name, census_path_of(line));
}

/* What a read brought, and the start of a line that was cut by its end. */
typedef struct census_text {
  size_t used;
  char line[MG__PATH_BYTES + 128];
} census_text;

static void census_feed(mg_census *census, census_mapping *mapping,
                        census_text *text, const char *piece, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    if (piece[i] != '\n') {
      if (text->used + 1 < sizeof text->line)
        text->line[text->used++] = piece[i];
      continue;
    }
    text->line[text->used] = '\0';
    text->used = 0;
    if (text->line[0] != '\0') census_note_line(census, mapping, text->line);
  }
}

mg_status mg__census_maps(mg_census *census, const char *root, mg_error *err) {
  char path[MG__PATH_BYTES], piece[8192];
  census_mapping mapping = {{0}, 0};
  census_text text = {0};
  ssize_t got;
  int file, failed = 0;

  snprintf(path, sizeof path, "%s/proc/self/smaps", root);
  file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    if (errno == ENOENT || errno == EACCES || errno == EPERM)
      return mg__fail(err, MG_EABSENT, "%s cannot be read", path);
    return mg__fail_errno(err, errno, "open %s", path);
  }
  while ((got = read(file, piece, sizeof piece)) != 0) {
    if (got > 0) census_feed(census, &mapping, &text, piece, (size_t)got);
    else if (errno != EINTR) break;
  }
  if (got < 0) failed = errno;
  close(file);
  census_note_line(census, &mapping, "");
  return failed == 0 ? MG_OK : mg__fail_errno(err, failed, "read %s", path);
}

mg_status mg_census_maps(mg_census *census, mg_error *err) {
  return mg__census_maps(census, "", err);
}
