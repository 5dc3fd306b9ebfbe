/* control_frame.c - frames of the control socket and names of commands: pure. */
#include <string.h>

#include "control_parts.h"
#include "internal.h"
#include "json.h"

#define FRAME_MAGIC UINT32_C(0x3143474d) /* MG_CONTROL_MAGIC */

static uint32_t frame_u32(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
         (uint32_t)at[3] << 24;
}

static void frame_put_u32(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

void mg__frame_write_header(uint8_t out[MG_CONTROL_HEADER_BYTES],
                            uint32_t bytes, uint32_t code, uint32_t number) {
  frame_put_u32(out, FRAME_MAGIC);
  frame_put_u32(out + 4, bytes);
  frame_put_u32(out + 8, code);
  frame_put_u32(out + 12, number);
}

static mg__frame_state frame_begin(mg__frame *f, uint32_t most) {
  if (frame_u32(f->header) != FRAME_MAGIC) return MG__FRAME_BROKEN;
  f->bytes = frame_u32(f->header + 4);
  f->code = frame_u32(f->header + 8);
  f->number = frame_u32(f->header + 12);
  if (f->bytes > most) return MG__FRAME_BROKEN;
  if (f->bytes == 0) return MG__FRAME_WHOLE;
  f->payload = mg__alloc_untouched((size_t)f->bytes + 1);
  return f->payload == NULL ? MG__FRAME_NOMEM : MG__FRAME_MORE;
}

static size_t frame_take(void *to, size_t room, const void *data,
                         size_t bytes) {
  size_t taken = bytes < room ? bytes : room;

  memcpy(to, data, taken);
  return taken;
}

mg__frame_state mg__frame_feed(mg__frame *f, const void *data, size_t bytes,
                               uint32_t most, size_t *out_used) {
  const size_t head = MG_CONTROL_HEADER_BYTES;
  mg__frame_state state = MG__FRAME_MORE;
  size_t used = 0;

  *out_used = 0;
  if (f->have < head) {
    used = frame_take(f->header + f->have, head - f->have, data, bytes);
    f->have += used;
    *out_used = used;
    if (f->have < head) return MG__FRAME_MORE;
    state = frame_begin(f, most);
  }
  if (state != MG__FRAME_MORE) return state;
  used = frame_take(f->payload + (f->have - head), f->bytes - (f->have - head),
                    (const char *)data + used, bytes - used);
  f->have += used;
  *out_used += used;
  if (f->have - head < f->bytes) return MG__FRAME_MORE;
  f->payload[f->bytes] = '\0';
  return MG__FRAME_WHOLE;
}

void mg__frame_reset(mg__frame *f) {
  mg__free(f->payload);
  *f = (mg__frame){.have = 0};
}

bool mg__control_is_text(const char *text, size_t bytes) {
  for (size_t length; bytes > 0; text += length, bytes -= length) {
    length = mg__utf8_bytes(text, bytes);
    if (length == 0 || text[0] == '\0') return false;
  }
  return true;
}

/* ---- commands -------------------------------------------------------------- */

static const char *const frame_commands[] = {
#define FRAME_COMMAND(id, value, name, doc) [value] = name,
    MG_CONTROL_MAP(FRAME_COMMAND)
#undef FRAME_COMMAND
};

const char *mg_control_name(mg_control_command command) {
  return (unsigned)command < MG_CONTROL_COMMANDS ? frame_commands[command]
                                                 : "unknown";
}

mg_status mg_control_find(mg_control_command *out, const char *name,
                          mg_error *err) {
  for (unsigned i = 0; i < MG_CONTROL_COMMANDS; i++)
    if (strcmp(frame_commands[i], name) == 0) {
      *out = (mg_control_command)i;
      return MG_OK;
    }
  return mg__fail(err, MG_EINVAL,
                  "unknown command \"%.40s\", allowed: "
#define FRAME_LIST(id, value, text, doc) text " "
                  MG_CONTROL_MAP(FRAME_LIST),
#undef FRAME_LIST
                  name);
}
