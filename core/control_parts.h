/* control_parts.h - frames, which both ends of a control socket read and write. */
#ifndef MG_CORE_CONTROL_PARTS_H
#define MG_CORE_CONTROL_PARTS_H

#include "internal.h"
#include "memguard/control.h"
#include "os.h"

/* ---- control_frame.c ----------------------------------------------------- */

typedef enum mg__frame_state {
  MG__FRAME_MORE,   /* not whole yet */
  MG__FRAME_WHOLE,
  MG__FRAME_BROKEN, /* breaks a rule */
  MG__FRAME_NOMEM
} mg__frame_state;

/** A frame as it comes in; all zero is an empty one. */
typedef struct mg__frame {
  uint8_t header[MG_CONTROL_HEADER_BYTES];
  size_t have;   /* bytes of header and payload so far */
  uint32_t bytes, code, number; /* of the header, once that is whole */
  char *payload; /* [owned] NUL-terminated once whole; NULL if there is none */
} mg__frame;

/** Takes what belongs to the frame.
 *  @param most bytes that a payload may have.
 *  @param out_used bytes taken. */
mg__frame_state mg__frame_feed(mg__frame *frame, const void *data, size_t bytes,
                               uint32_t most, size_t *out_used);
/** Frees the payload and begins anew. */
void mg__frame_reset(mg__frame *frame);
void mg__frame_write_header(uint8_t out[MG_CONTROL_HEADER_BYTES],
                            uint32_t bytes, uint32_t code, uint32_t number);
/** Whether all of it is UTF-8 without a NUL. */
bool mg__control_is_text(const char *text, size_t bytes);

/* ---- control.c ----------------------------------------------------------- */

/** Waits as mg__os_events_wait() and serves peers meanwhile; ends early when a
 *  request is there for the worker. */
void mg__control_wait(mg__os_events *events, double timeout_ms);

#endif
