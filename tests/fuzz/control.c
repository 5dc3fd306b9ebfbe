/* fuzz/control.c - any bytes as frames of the control socket.
 *
 * Input: the first byte says how many bytes arrive at a time, the rest arrives. */
#include <stdlib.h>
#include <string.h>

#include "control_parts.h"
#include "memguard.h"

#define MOST 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool is_true) {
  if (!is_true) abort();
}

/* What was read as a frame, written again, is what came in. */
static void check_whole(const mg__frame *frame, const uint8_t *from) {
  uint8_t head[MG_CONTROL_HEADER_BYTES];

  must(frame->bytes <= MOST && (frame->payload != NULL) == (frame->bytes > 0));
  mg__frame_write_header(head, frame->bytes, frame->code, frame->number);
  must(memcmp(head, from, sizeof head) == 0);
  if (frame->bytes == 0) return;
  must(memcmp(frame->payload, from + sizeof head, frame->bytes) == 0);
  must(frame->payload[frame->bytes] == '\0');
  if (mg__control_is_text(frame->payload, frame->bytes))
    must(strlen(frame->payload) == frame->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  size_t step = bytes == 0 ? 1 : (size_t)data[0] + 1, at = 1, begin = 1, used;
  mg__frame frame = {.have = 0};
  mg_control_command command;

  while (at < bytes) {
    size_t length = bytes - at < step ? bytes - at : step;
    mg__frame_state state =
        mg__frame_feed(&frame, data + at, length, MOST, &used);
    must(used <= length);
    at += used;
    if (state == MG__FRAME_BROKEN || state == MG__FRAME_NOMEM) break;
    if (state == MG__FRAME_MORE) {
      must(used == length);
      continue;
    }
    check_whole(&frame, data + begin);
    if (frame.payload != NULL)
      (void)mg_control_find(&command, frame.payload, NULL);
    mg__frame_reset(&frame);
    begin = at;
  }
  mg__frame_reset(&frame);
  return 0;
}
