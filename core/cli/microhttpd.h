/* microhttpd.h - libmicrohttpd, opened when it is needed.
 *
 * Linking it would load ten libraries more (it brings TLS) with every command, and
 * would keep all commands from running where it is not installed. */
#ifndef MG_CLI_MICROHTTPD_H
#define MG_CLI_MICROHTTPD_H

#include <microhttpd.h>
#include <stdbool.h>

#define MICROHTTPD_SONAME "libmicrohttpd.so.12"

#define MICROHTTPD_MAP(X)                                                       \
  X(start_daemon) X(stop_daemon) X(run) X(get_timeout) X(get_daemon_info)       \
  X(add_connection) X(get_connection_info) X(suspend_connection)                \
  X(resume_connection) X(get_connection_values_n) X(lookup_connection_value)    \
  X(queue_response) X(add_response_header) X(destroy_response)                  \
  X(create_response_from_buffer_with_free_callback_cls)

typedef struct microhttpd {
#define MICROHTTPD_FIELD(name) __typeof__(MHD_##name) *name;
  MICROHTTPD_MAP(MICROHTTPD_FIELD)
#undef MICROHTTPD_FIELD
} microhttpd;

/** Set by microhttpd_load(). */
extern microhttpd mhd;

/** @return whether it is there, and new enough; else it was said on stderr. */
bool microhttpd_load(void);

#endif
