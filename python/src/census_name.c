/* census_name.c - names of types, read from their own fields.
 *
 * A type of the host may answer anything, or fail, when asked for its name; and a
 * lookup in its dict may run the __eq__ of a key. So nothing is asked: the qualified
 * name is a field, and the module is found by going over the dict. No exception is
 * made either, as that would be an object that can start a collection. */
#include "census_parts.h"

#define NAME_KEYS 64 /* of a type's dict that are looked at; it is among the first */

/* @return bytes of `c` in UTF-8 put at `out`, which has 4. */
static size_t name_encode(char *out, Py_UCS4 c) {
  if (c >= 0xD800 && c <= 0xDFFF) c = '?';
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = (char)(0xE0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3F));
    out[2] = (char)(0x80 | (c & 0x3F));
    return 3;
  }
  out[0] = (char)(0xF0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 0x3F));
  out[2] = (char)(0x80 | (c >> 6 & 0x3F));
  out[3] = (char)(0x80 | (c & 0x3F));
  return 4;
}

/* The kind that Python 3.11 still makes of old C code has no characters yet. */
static bool name_is_ready(PyObject *text) {
#if PY_VERSION_HEX < 0x030C0000
  return PyUnicode_IS_READY(text);
#else
  (void)text;
  return true;
#endif
}

size_t mgpy_text(char *out, size_t out_bytes, PyObject *text) {
  size_t used = 0;

  out[0] = '\0';
  if (text == NULL || !PyUnicode_Check(text) || !name_is_ready(text)) return 0;
  for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text); i++) {
    char one[4];
    size_t bytes = name_encode(one, PyUnicode_READ_CHAR(text, i));
    if (one[0] == '\0') one[0] = '?';
    if (used + bytes + 1 > out_bytes) break;
    memcpy(out + used, one, bytes);
    used += bytes;
  }
  out[used] = '\0';
  return used;
}

static bool name_is_module_key(PyObject *key) {
  return PyUnicode_CheckExact(key) && name_is_ready(key) &&
         PyUnicode_IS_ASCII(key) && PyUnicode_GET_LENGTH(key) == 10 &&
         memcmp(PyUnicode_1BYTE_DATA(key), "__module__", 10) == 0;
}

/* @return length; 0 if there is none, or it is that of the builtins. */
static size_t name_module(char *out, size_t out_bytes, PyTypeObject *type) {
  PyObject *key, *value;
  Py_ssize_t at = 0;
  size_t used = 0;

  if (type->tp_dict == NULL || !PyDict_Check(type->tp_dict)) return 0;
  for (int i = 0; i < NAME_KEYS; i++) {
    if (!PyDict_Next(type->tp_dict, &at, &key, &value)) return 0;
    if (!name_is_module_key(key)) continue;
    used = mgpy_text(out, out_bytes, value);
    return strcmp(out, "builtins") == 0 ? 0 : used;
  }
  return 0;
}

void mgpy_type_name(char out[MG_CENSUS_NAME_BYTES], PyTypeObject *type) {
  const size_t room = MG_CENSUS_NAME_BYTES;
  PyObject *qualified = NULL;
  size_t used;

  if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE))
    qualified = ((PyHeapTypeObject *)type)->ht_qualname;
  if (qualified == NULL) { /* of a static type: with its module, if it has one */
    PyOS_snprintf(out, room, "%.150s", type->tp_name ? type->tp_name : "?");
    return;
  }
  used = name_module(out, room - 1, type);
  if (used > 0) out[used++] = '.';
  if (mgpy_text(out + used, room - used, qualified) == 0)
    PyOS_snprintf(out + used, room - used, "?");
}
