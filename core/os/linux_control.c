/* os/linux_control.c - local sockets that never make anybody wait.
 *
 * Addresses are reached through /proc/self/fd, so a directory's path may be longer
 * than the 107 bytes an address holds. */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"

/* The directory of `path`, opened, and its address below there.
 * @return a descriptor to close, or -1 with errno set. */
static int socket_address(struct sockaddr_un *out, const char *path) {
  const char *name = strrchr(path, '/');
  char directory[MG__PATH_BYTES];
  int fd, length;

  *out = (struct sockaddr_un){.sun_family = AF_UNIX};
  errno = ENAMETOOLONG;
  if (name == NULL || (size_t)(name - path) >= sizeof directory) return -1;
  memcpy(directory, path, (size_t)(name - path));
  directory[name - path] = '\0';
  fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  length = snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d%s",
                    fd, name);
  if (length > 0 && (size_t)length < sizeof out->sun_path) return fd;
  close(fd);
  errno = ENAMETOOLONG;
  return -1;
}

/* Nobody can connect before listen(), so the mode comes early enough. */
static bool socket_serve(int fd, const struct sockaddr_un *at,
                         const char *path) {
  unlink(path);
  return bind(fd, (const struct sockaddr *)at, sizeof *at) == 0 &&
         chmod(path, 0600) == 0 && listen(fd, 8) == 0;
}

static bool socket_call(int fd, const struct sockaddr_un *at,
                        const char *path) {
  (void)path;
  return connect(fd, (const struct sockaddr *)at, sizeof *at) == 0;
}

/* A new socket that `join` has put to the address `path`.
 * @return 0, else an errno. */
static int socket_open(mg__file *out, const char *path,
                       bool (*join)(int fd, const struct sockaddr_un *at,
                                    const char *path)) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  struct sockaddr_un address;
  int directory, error;

  *out = (mg__file)MG__FILE_NONE;
  if (fd < 0) return errno;
  directory = socket_address(&address, path);
  if (directory < 0) goto fail_address;
  if (!join(fd, &address, path)) goto fail_join;
  close(directory);
  *out = mg__file_own(fd);
  return 0;

fail_join:
  error = errno;
  close(directory);
  errno = error;
fail_address:
  error = errno;
  close(fd);
  return error;
}

mg_status mg__os_socket_listen(mg__file *out, const char *path, mg_error *err) {
  int error = socket_open(out, path, socket_serve);

  if (error == 0) return MG_OK;
  return mg__fail_errno(err, error, "cannot listen on %s", path);
}

mg_status mg__os_socket_connect(mg__file *out, const char *path,
                                mg_error *err) {
  int error = socket_open(out, path, socket_call);

  if (error == 0) return MG_OK;
  if (error == ENOENT || error == ECONNREFUSED)
    return mg__fail(err, MG_ENOTFOUND, "nobody listens on %s", path);
  if (error == EAGAIN) /* its queue of connections is full */
    return mg__fail(err, MG_ETIMEOUT, "%s is busy", path);
  return mg__fail_errno(err, error, "cannot connect to %s", path);
}

bool mg__os_socket_accept(const mg__file *listener, mg__file *out) {
  struct ucred peer;
  socklen_t bytes = sizeof peer;
  int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

  *out = (mg__file)MG__FILE_NONE;
  if (fd < 0) return false;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
      (peer.uid == geteuid() || peer.uid == 0))
    *out = mg__file_own(fd);
  else
    close(fd);
  return true;
}

long mg__os_socket_receive(const mg__file *file, void *out, size_t bytes) {
  ssize_t got = recv(file->fd, out, bytes, MSG_DONTWAIT);

  if (got > 0) return (long)got;
  if (got == 0) return -1;
  return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

long mg__os_socket_send(const mg__file *file, const void *data, size_t bytes) {
  ssize_t done = send(file->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

  if (done >= 0) return (long)done;
  return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

bool mg__os_socket_wait(const mg__file *file, bool to_send, double ms) {
  struct pollfd one = {file->fd, to_send ? POLLOUT : POLLIN, 0};

  return poll(&one, 1, ms > 0 ? (int)ms + 1 : 0) > 0;
}
