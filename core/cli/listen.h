/* listen.h - sockets that `memguard exporter` listens at. */
#ifndef MG_CLI_LISTEN_H
#define MG_CLI_LISTEN_H

#define LISTEN_HOST_BYTES 256
#define LISTEN_URL_BYTES 320

/** Splits "127.0.0.1:9479", "[::1]:9479" or "localhost:9479". @return CLI_OK, or
 *  what was said on stderr. */
int listen_split(const char *text, char host[LISTEN_HOST_BYTES], char port[8]);
/** @param out_fd a descriptor, non-blocking.
 *  @param out_url where it is, with the port that it got if 0 was asked for.
 *  @return CLI_OK, or what was said on stderr. */
int listen_tcp(int *out_fd, const char *host, const char *port,
               char out_url[LISTEN_URL_BYTES]);
/** Mode 0600. One that nobody listens at any more is replaced. */
int listen_unix(int *out_fd, const char *path);

#endif
