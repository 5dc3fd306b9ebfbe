/* control_ask.c - the asking end of a control socket. */
#include "memguard/control.h"

#include <string.h>

#include "control_parts.h"
#include "internal.h"
#include "os.h"

#define ASK_CHUNK_BYTES 16384u

static mg_status ask_late(mg_error *err) {
  return mg__fail(err, MG_ETIMEOUT, "no answer in time");
}

static mg_status ask_broken(mg_error *err, const char *what) {
  return mg__fail(err, MG_EBROKEN, "%s", what);
}

static mg_status ask_send(const mg__file *file, const void *data, size_t bytes,
                          double until_ms, mg_error *err) {
  const char *at = data;
  long done;

  while (bytes > 0) {
    done = mg__os_socket_send(file, at, bytes);
    if (done < 0) return ask_broken(err, "the process broke off");
    at += done;
    bytes -= (size_t)done;
    if (done == 0 &&
        !mg__os_socket_wait(file, true, until_ms - mg_clock_ms()) &&
        mg_clock_ms() >= until_ms)
      return ask_late(err);
  }
  return MG_OK;
}

static mg_status ask_receive(const mg__file *file, mg__frame *frame,
                             double until_ms, mg_error *err) {
  char chunk[ASK_CHUNK_BYTES];
  size_t used;
  long got;

  for (;;) {
    if (!mg__os_socket_wait(file, false, until_ms - mg_clock_ms()) &&
        mg_clock_ms() >= until_ms)
      return ask_late(err);
    got = mg__os_socket_receive(file, chunk, sizeof chunk);
    if (got < 0) return ask_broken(err, "the process broke off");
    if (got == 0) continue;
    switch (mg__frame_feed(frame, chunk, (size_t)got, MG_CONTROL_REPLY_BYTES,
                           &used)) {
      case MG__FRAME_WHOLE:
        if (used == (size_t)got) return MG_OK;
        return ask_broken(err, "the answer is longer than it says");
      case MG__FRAME_BROKEN:
        return ask_broken(err, "the answer is no frame");
      case MG__FRAME_NOMEM:
        return mg__fail(err, MG_ENOMEM, "answer of %u bytes", frame->bytes);
      case MG__FRAME_MORE:
        break;
    }
  }
}

static mg_status ask_status_of(uint32_t code) {
#define ASK_STATUS(name, value, text_code, text) \
  if (code == (value)) return MG_##name;
  MG_STATUS_MAP(ASK_STATUS)
#undef ASK_STATUS
  return MG_EBROKEN;
}

/* Takes the payload over. */
static mg_status ask_result(char **out, mg__frame *frame, mg_error *err) {
  mg_status st = ask_status_of(frame->code);
  const char *text = frame->payload == NULL ? "" : frame->payload;

  if (!mg__control_is_text(text, frame->payload == NULL ? 0 : frame->bytes))
    return ask_broken(err, "the answer is no UTF-8");
  if (st != MG_OK) return mg__fail(err, st, "%s", text);
  *out = frame->payload == NULL ? mg__strdup("") : frame->payload;
  frame->payload = NULL;
  return *out == NULL ? mg__fail(err, MG_ENOMEM, "answer") : MG_OK;
}

mg_status mg_control_ask(char **out, const char *socket_path,
                         mg_control_command command, const char *arguments,
                         double timeout_ms, mg_error *err) {
  double until_ms = mg_clock_ms() + timeout_ms;
  size_t bytes = arguments == NULL ? 0 : strlen(arguments);
  uint8_t head[MG_CONTROL_HEADER_BYTES];
  mg__frame frame = {.have = 0};
  mg__file file;
  mg_status st;

  *out = NULL;
  if (bytes > MG_CONTROL_REQUEST_BYTES)
    return mg__fail(err, MG_ERANGE,
                    "arguments of %zu bytes, at most %u allowed", bytes,
                    MG_CONTROL_REQUEST_BYTES);
  st = mg__os_socket_connect(&file, socket_path, err);
  if (st != MG_OK) return st;
  mg__frame_write_header(head, (uint32_t)bytes, (uint32_t)command, 1);
  st = ask_send(&file, head, sizeof head, until_ms, err);
  if (st == MG_OK && bytes > 0)
    st = ask_send(&file, arguments, bytes, until_ms, err);
  if (st == MG_OK) st = ask_receive(&file, &frame, until_ms, err);
  if (st == MG_OK && frame.number != 1)
    st = ask_broken(err, "the answer is to another request");
  if (st == MG_OK) st = ask_result(out, &frame, err);
  mg__frame_reset(&frame);
  mg__file_close(&file);
  return st;
}
