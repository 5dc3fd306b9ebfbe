/* encoding.c - text and base64 into rented memory, for memguard.encoding.
 *
 * base64 is RFC 4648, section 4 (standard) and 5 (URL-safe), always padded. What is
 * decoded is valid to the last bit, or refused with the position of the first
 * mistake; nothing is skipped. */
#include "pool_parts.h"

#include <string.h>

#define NOT_BASE64 0xffu

static const char encoding_standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char encoding_url_safe[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ---- arguments ------------------------------------------------------------- */

static bool encoding_has(const char *name, Py_ssize_t count, Py_ssize_t wanted) {
  if (count == wanted) return true;
  PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments", name, wanted);
  return false;
}

/* @return the open pool behind a MemoryPool, or NULL and an error. */
static mgpy_pool *encoding_pool(mgpy_state *state, PyObject *object) {
  if (PyObject_TypeCheck(object, state->pool_type)) return mgpy_pool_get(object);
  mgpy_raise_format(state, MG_ETYPE, "pool is of type %s, allowed: MemoryPool",
                    Py_TYPE(object)->tp_name);
  return NULL;
}

/* @return a PooledBuffer of `length` bytes, also of none, or NULL and an error. */
static mgpy_pooled *encoding_rent(mgpy_pool *pool, Py_ssize_t length) {
  mgpy_pooled *made = mgpy_pool_rent(pool, length > 0 ? length : 1);

  if (made != NULL) made->length = length;
  return made;
}

/* Takes the view of `object`; PyBuffer_Release() it.
 * @return 0, or -1 and ConfigTypeError. */
static int encoding_view(mgpy_state *state, PyObject *object, const char *what,
                         int flags, Py_buffer *out) {
  if (PyObject_GetBuffer(object, out, flags) == 0) return 0;
  if (PyErr_ExceptionMatches(PyExc_TypeError) ||
      PyErr_ExceptionMatches(PyExc_BufferError)) {
    PyErr_Clear();
    mgpy_raise_format(state, MG_ETYPE, "%s is of type %s, allowed: %s bytes", what,
                      Py_TYPE(object)->tp_name,
                      (flags & PyBUF_WRITABLE) != 0 ? "contiguous writable"
                                                    : "contiguous");
  }
  return -1;
}

/* As the view of a str: its characters, which are base64 or are not ASCII. */
static int encoding_text_view(mgpy_state *state, PyObject *object,
                              Py_buffer *out) {
  Py_ssize_t at = 0;

  if (!PyUnicode_Check(object))
    return encoding_view(state, object, "data", PyBUF_SIMPLE, out);
  if (PyUnicode_IS_ASCII(object))
    return PyBuffer_FillInfo(out, object, PyUnicode_DATA(object),
                             PyUnicode_GET_LENGTH(object), 1, PyBUF_SIMPLE);
  while (PyUnicode_READ_CHAR(object, at) < 0x80) at++;
  mgpy_raise_format(state, MG_EENCODING,
                    "not base64: position %zd is not of the alphabet", at);
  return -1;
}

/* ---- copies and UTF-8 ------------------------------------------------------ */

/* pooled_copy(pool, data) */
static PyObject *encoding_copy(PyObject *module, PyObject *const *args,
                               Py_ssize_t count) {
  mgpy_state *state = PyModule_GetState(module);
  mgpy_pooled *made;
  mgpy_pool *pool;
  Py_buffer view;

  if (!encoding_has("pooled_copy", count, 2)) return NULL;
  pool = encoding_pool(state, args[0]);
  if (pool == NULL ||
      encoding_view(state, args[1], "data", PyBUF_SIMPLE, &view) < 0)
    return NULL;
  made = encoding_rent(pool, view.len);
  if (made != NULL) memcpy(made->data, view.buf, (size_t)view.len);
  PyBuffer_Release(&view);
  return (PyObject *)made;
}

/* Raises EncodingError for the UnicodeEncodeError that is set. */
static void encoding_raise_text(mgpy_state *state) {
  PyObject *error, *type = NULL, *trace = NULL;
  Py_ssize_t at = 0;

  if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return;
#if PY_VERSION_HEX >= 0x030C0000
  error = PyErr_GetRaisedException();
#else
  PyErr_Fetch(&type, &error, &trace);
  PyErr_NormalizeException(&type, &error, &trace);
#endif
  PyUnicodeEncodeError_GetStart(error, &at);
  Py_XDECREF(type);
  Py_XDECREF(error);
  Py_XDECREF(trace);
  mgpy_raise_format(state, MG_EENCODING,
                    "a lone surrogate at position %zd of the text cannot become "
                    "UTF-8",
                    at);
}

/* The text in UTF-8. ASCII is that already. Other text is encoded by Python into
 * an object that is not kept, as PyUnicode_AsUTF8() would keep it in the text.
 * @param out_owner [owned] NULL if there is none.
 * @return NULL and an error. */
static const char *encoding_utf8(mgpy_state *state, PyObject *text,
                                 Py_ssize_t *out_length, PyObject **out_owner) {
  *out_owner = NULL;
  if (!PyUnicode_Check(text)) {
    mgpy_raise_format(state, MG_ETYPE, "text is of type %s, allowed: a str",
                      Py_TYPE(text)->tp_name);
    return NULL;
  }
  if (PyUnicode_IS_ASCII(text)) {
    *out_length = PyUnicode_GET_LENGTH(text);
    return PyUnicode_DATA(text);
  }
  *out_owner = PyUnicode_AsUTF8String(text);
  if (*out_owner == NULL) {
    encoding_raise_text(state);
    return NULL;
  }
  *out_length = PyBytes_GET_SIZE(*out_owner);
  return PyBytes_AS_STRING(*out_owner);
}

/* encode_utf8(pool, text) */
static PyObject *encoding_encode_utf8(PyObject *module, PyObject *const *args,
                                      Py_ssize_t count) {
  mgpy_state *state = PyModule_GetState(module);
  mgpy_pooled *made = NULL;
  Py_ssize_t length;
  const char *bytes;
  PyObject *owner;
  mgpy_pool *pool;

  if (!encoding_has("encode_utf8", count, 2)) return NULL;
  pool = encoding_pool(state, args[0]);
  if (pool == NULL) return NULL;
  bytes = encoding_utf8(state, args[1], &length, &owner);
  if (bytes == NULL) return NULL;
  made = encoding_rent(pool, length);
  if (made != NULL) memcpy(made->data, bytes, (size_t)length);
  Py_XDECREF(owner);
  return (PyObject *)made;
}

/* encode_utf8_into(text, destination): bytes needed, which is more than there is
 * room for if nothing was written. */
static PyObject *encoding_utf8_into(PyObject *module, PyObject *const *args,
                                    Py_ssize_t count) {
  mgpy_state *state = PyModule_GetState(module);
  Py_ssize_t length;
  const char *bytes;
  PyObject *owner;
  Py_buffer view;

  if (!encoding_has("encode_utf8_into", count, 2) ||
      encoding_view(state, args[1], "destination", PyBUF_WRITABLE, &view) < 0)
    return NULL;
  bytes = encoding_utf8(state, args[0], &length, &owner);
  if (bytes != NULL && length <= view.len)
    memcpy(view.buf, bytes, (size_t)length);
  PyBuffer_Release(&view);
  Py_XDECREF(owner);
  return bytes == NULL ? NULL : PyLong_FromSsize_t(length);
}

/* ---- base64 ---------------------------------------------------------------- */

static void encoding_encode_block(uint8_t *out, const uint8_t *in, size_t length,
                                  const char *alphabet) {
  size_t at;

  for (at = 0; at + 3 <= length; at += 3, out += 4) {
    uint32_t bits =
        (uint32_t)in[at] << 16 | (uint32_t)in[at + 1] << 8 | in[at + 2];

    out[0] = (uint8_t)alphabet[bits >> 18];
    out[1] = (uint8_t)alphabet[bits >> 12 & 63];
    out[2] = (uint8_t)alphabet[bits >> 6 & 63];
    out[3] = (uint8_t)alphabet[bits & 63];
  }
  if (at == length) return;
  out[0] = (uint8_t)alphabet[in[at] >> 2];
  if (at + 1 == length) {
    out[1] = (uint8_t)alphabet[(in[at] & 3) << 4];
    out[2] = '=';
  } else {
    out[1] = (uint8_t)alphabet[(in[at] & 3) << 4 | in[at + 1] >> 4];
    out[2] = (uint8_t)alphabet[(in[at + 1] & 15) << 2];
  }
  out[3] = '=';
}

/* encode_base64(pool, data, url_safe) */
static PyObject *encoding_encode_base64(PyObject *module, PyObject *const *args,
                                        Py_ssize_t count) {
  mgpy_state *state = PyModule_GetState(module);
  mgpy_pooled *made = NULL;
  mgpy_pool *pool;
  Py_buffer view;

  if (!encoding_has("encode_base64", count, 3)) return NULL;
  pool = encoding_pool(state, args[0]);
  if (pool == NULL ||
      encoding_view(state, args[1], "data", PyBUF_SIMPLE, &view) < 0)
    return NULL;
  if (view.len > PY_SSIZE_T_MAX / 2)
    mgpy_raise_format(state, MG_ERANGE, "data has %zd bytes", view.len);
  else
    made = encoding_rent(pool, (view.len + 2) / 3 * 4);
  if (made != NULL)
    encoding_encode_block(
        made->data, view.buf, (size_t)view.len,
        args[2] == Py_True ? encoding_url_safe : encoding_standard);
  PyBuffer_Release(&view);
  return (PyObject *)made;
}

/* What each character stands for. */
static void encoding_fill_table(uint8_t table[256], const char *alphabet) {
  memset(table, NOT_BASE64, 256);
  for (uint8_t value = 0; value < 64; value++)
    table[(uint8_t)alphabet[value]] = value;
}

/* Decodes `length` characters, a multiple of 4, without padding: up to the first
 * four that are not all of the alphabet. @return how many were decoded. */
static size_t encoding_decode_block(uint8_t *out, const uint8_t *in,
                                    size_t length, const uint8_t table[256]) {
  size_t at;

  for (at = 0; at < length; at += 4, out += 3) {
    uint32_t a = table[in[at]], b = table[in[at + 1]], c = table[in[at + 2]],
             d = table[in[at + 3]];

    if (((a | b | c | d) & 0x80) != 0) break;
    a = a << 18 | b << 12 | c << 6 | d;
    out[0] = (uint8_t)(a >> 16);
    out[1] = (uint8_t)(a >> 8);
    out[2] = (uint8_t)a;
  }
  return at;
}

/* Decodes all. @return where it goes wrong, with the reason; -1: nowhere. */
static Py_ssize_t encoding_decode_all(uint8_t *out, const uint8_t *in,
                                      size_t length, size_t padding,
                                      const uint8_t table[256],
                                      const char **out_reason) {
  size_t end = length - padding, whole = end / 4 * 4, at;
  uint8_t last[4] = {'A', 'A', 'A', 'A'}, three[3];

  at = encoding_decode_block(out, in, whole, table);
  while (at < end && table[in[at]] != NOT_BASE64) at++;
  if (at < end) {
    *out_reason = in[at] == '=' ? "padding" : "not of the alphabet";
    return (Py_ssize_t)at;
  }
  if (length % 4 != 0) {
    *out_reason = "the end, but the length is no multiple of 4";
    return (Py_ssize_t)length;
  }
  if (padding == 0) return -1;
  memcpy(last, in + whole, 4 - padding);
  encoding_decode_block(three, last, 4, table);
  if (three[3 - padding] != 0 || three[2] != 0) {
    *out_reason = "a character with bits that are not zero before the padding";
    return (Py_ssize_t)end - 1;
  }
  memcpy(out + whole / 4 * 3, three, 3 - padding);
  return -1;
}

/* decode_base64(pool, data, url_safe) */
static PyObject *encoding_decode_base64(PyObject *module, PyObject *const *args,
                                        Py_ssize_t count) {
  mgpy_state *state = PyModule_GetState(module);
  const char *reason = NULL;
  mgpy_pooled *made = NULL;
  size_t padding = 0;
  uint8_t table[256];
  Py_ssize_t wrong;
  mgpy_pool *pool;
  Py_buffer view;

  if (!encoding_has("decode_base64", count, 3)) return NULL;
  pool = encoding_pool(state, args[0]);
  if (pool == NULL || encoding_text_view(state, args[1], &view) < 0) return NULL;
  while (padding < 2 && padding < (size_t)view.len &&
         ((const char *)view.buf)[(size_t)view.len - 1 - padding] == '=')
    padding++;
  /* With room for the whole groups, also when the last is cut off. */
  made = encoding_rent(pool, view.len / 4 * 3 + 3);
  if (made != NULL) {
    encoding_fill_table(
        table, args[2] == Py_True ? encoding_url_safe : encoding_standard);
    wrong = encoding_decode_all(made->data, view.buf, (size_t)view.len, padding,
                                table, &reason);
    made->length = view.len / 4 * 3 - (Py_ssize_t)padding;
    if (wrong >= 0) {
      mgpy_pooled_return(made);
      Py_CLEAR(made);
      mgpy_raise_format(state, MG_EENCODING,
                        "not base64: position %zd is %s", wrong, reason);
    }
  }
  PyBuffer_Release(&view);
  return (PyObject *)made;
}

/* ---- module ---------------------------------------------------------------- */

static PyMethodDef encoding_functions[] = {
    {"pooled_copy", MGPY_METHOD(encoding_copy), METH_FASTCALL,
     "pooled_copy(pool, data, /)\n--\n\n"
     "A PooledBuffer with the bytes of `data`, also of none."},
    {"encode_utf8", MGPY_METHOD(encoding_encode_utf8), METH_FASTCALL, NULL},
    {"encode_utf8_into", MGPY_METHOD(encoding_utf8_into), METH_FASTCALL, NULL},
    {"encode_base64", MGPY_METHOD(encoding_encode_base64), METH_FASTCALL, NULL},
    {"decode_base64", MGPY_METHOD(encoding_decode_base64), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

int mgpy_add_encoding(PyObject *module, mgpy_state *state) {
  (void)state;
  return PyModule_AddFunctions(module, encoding_functions);
}
