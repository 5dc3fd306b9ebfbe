/* test_json.c - the JSON that the core writes and checks. */
#include "support.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

static void check_taken(mg__json *json, const char *expected) {
  size_t bytes;
  char *text = mg__json_take(json, &bytes);

  assert_non_null(text);
  assert_string_equal(text, expected);
  assert_int_equal(bytes, strlen(expected));
  assert_true(mg__json_check(text, bytes, NULL));
  mg__free(text);
}

static void test_structure(void **state) {
  mg__json json = MG__JSON_INIT;
  (void)state;

  mg__json_object(&json, NULL);
  mg__json_uint(&json, "a", 1);
  mg__json_array(&json, "b");
  mg__json_bool(&json, NULL, true);
  mg__json_bool(&json, NULL, false);
  mg__json_null(&json, NULL);
  mg__json_object(&json, NULL);
  mg__json_end(&json);
  mg__json_array(&json, NULL);
  mg__json_end(&json);
  mg__json_end(&json);
  mg__json_raw(&json, "c", "{\"x\":1}", 7);
  mg__json_key(&json, "d\"\n");
  mg__json_int(&json, NULL, -2);
  mg__json_end(&json);
  check_taken(&json, "{\"a\":1,\"b\":[true,false,null,{},[]],\"c\":{\"x\":1},"
                     "\"d\\\"\\n\":-2}");
}

static void test_texts(void **state) {
  static const struct {
    const char *text, *expected;
  } rows[] = {
      {"", "\"\""},
      {"plain", "\"plain\""},
      {"\"\\/", "\"\\\"\\\\/\""},
      {"a\nb\tc\r\x01\x1f\x7f", "\"a\\nb\\tc\\u000d\\u0001\\u001f\\u007f\""},
      {"\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80",
       "\"\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80\""},
      /* What is no UTF-8: a lone byte, cut off, overlong, surrogate, too large. */
      {"x\x80y", "\"x\xEF\xBF\xBDy\""},
      {"\xC3", "\"\xEF\xBF\xBD\""},
      {"\xC0\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
      {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
      {"\xF4\x90\x80\x80",
       "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
      {"\xFF\xFE", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
      {"<script>", "\"<script>\""}};
  (void)state;

  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mg__json json = MG__JSON_INIT;
    mg__json_text(&json, NULL, rows[i].text);
    check_taken(&json, rows[i].expected);
  }
}

static void check_numbers(void) {
  mg__json json = MG__JSON_INIT;

  mg__json_array(&json, NULL);
  mg__json_number(&json, NULL, 0.5);
  mg__json_number(&json, NULL, 0.1);
  mg__json_number(&json, NULL, 1.0 / 3);
  mg__json_number(&json, NULL, 1e300);
  mg__json_number(&json, NULL, -2.5e-8);
  mg__json_number(&json, NULL, 100);
  mg__json_number(&json, NULL, (double)NAN);
  mg__json_number(&json, NULL, (double)INFINITY);
  mg__json_uint(&json, NULL, UINT64_MAX - 1);
  mg__json_uint(&json, NULL, MG_ABSENT);
  mg__json_int(&json, NULL, INT64_MIN);
  mg__json_end(&json);
  check_taken(&json, "[0.5,0.1,0.33333333333333331,1e+300,-2.5e-08,100,null,"
                     "null,18446744073709551614,null,-9223372036854775808]");
}

static void test_numbers(void **state) {
  static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ps_AF"};
  (void)state;

  check_numbers();
  for (size_t i = 0; i < sizeof locales / sizeof *locales; i++)
    if (setlocale(LC_ALL, locales[i]) != NULL) check_numbers();
  setlocale(LC_ALL, "C");
}

static void test_depth(void **state) {
  mg__json json = MG__JSON_INIT;
  size_t bytes;
  (void)state;

  for (uint32_t i = 0; i <= MG__JSON_DEPTH; i++) mg__json_array(&json, NULL);
  assert_null(mg__json_take(&json, &bytes));
  assert_int_equal(bytes, 0);
}

static void test_check(void **state) {
  static const struct {
    const char *text;
    bool is_good;
  } rows[] = {
      {"{}", true}, {"[]", true}, {" [ ] ", true}, {"1", true}, {"\"x\"", true},
      {"null", true}, {"-0.5e-7", true}, {"{\"a\":{\"b\":[1,[],{}]},\"c\":2}", true},
      {"[1,2,[3,[4]],5]", true}, {"\"\\ud800\"", true}, {"0", true},
      {"", false}, {" ", false}, {"{", false}, {"}", false}, {"[", false},
      {"[1,]", false}, {"[,1]", false}, {"[1 2]", false}, {"{\"a\"}", false},
      {"{\"a\":}", false}, {"{1:2}", false}, {"[}", false}, {"{]", false},
      {"[1}", false}, {"{\"a\":1]", false}, {"nul", false}, {"nulll", false},
      {"True", false}, {"01", false}, {"-", false}, {"1e", false}, {".5", false},
      {"\"x", false}, {"\"\\u12g4\"", false}, {"\"\x80\"", false},
      {"{} x", false}, {"[[]", false}, {"[]]", false}, {"{\"a\":1,}", false},
      {"{,}", false}, {"[1,,2]", false}, {"\xEF\xBB\xBF{}", false}};
  size_t at;
  (void)state;

  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (mg__json_check(rows[i].text, strlen(rows[i].text), &at) != rows[i].is_good)
      fail_msg("%s is judged wrongly", rows[i].text);
  assert_false(mg__json_check("{}\0", 3, &at));
  assert_int_equal(at, 2);
  assert_false(mg__json_check("[1,2", 3, &at)); /* not a byte more than given */
  assert_int_equal(at, 3);
}

static void test_check_deep(void **state) {
  char text[2 * MG__JSON_DEPTH + 3];
  (void)state;

  memset(text, '[', MG__JSON_DEPTH);
  memset(text + MG__JSON_DEPTH, ']', MG__JSON_DEPTH);
  assert_true(mg__json_check(text, 2 * MG__JSON_DEPTH, NULL));
  memset(text, '[', MG__JSON_DEPTH + 1);
  memset(text + MG__JSON_DEPTH + 1, ']', MG__JSON_DEPTH + 1);
  assert_false(mg__json_check(text, 2 * MG__JSON_DEPTH + 2, NULL));
}

/* ---- without memory ------------------------------------------------------------ */

static int left;

static void *take(void *ctx, size_t bytes) {
  (void)ctx;
  return left-- > 0 ? malloc(bytes) : NULL;
}

static void *resize(void *ctx, void *block, size_t bytes) {
  (void)ctx;
  return left-- > 0 ? realloc(block, bytes) : NULL;
}

static void give(void *ctx, void *block) {
  (void)ctx;
  free(block);
}

static void test_no_memory(void **state) {
  const mg_allocator scarce = {take, resize, give, NULL};
  mg__json json = MG__JSON_INIT;
  size_t bytes;
  (void)state;

  mg_set_allocator(&scarce);
  for (int allowed = 0; allowed < 4; allowed++) {
    left = allowed;
    mg__json_array(&json, NULL);
    for (int i = 0; i < 10000; i++) mg__json_text(&json, NULL, "word");
    mg__json_end(&json);
    assert_null(mg__json_take(&json, &bytes));
    assert_int_equal(bytes, 0);
  }
  mg_set_allocator(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_structure), cmocka_unit_test(test_texts),
      cmocka_unit_test(test_numbers), cmocka_unit_test(test_depth),
      cmocka_unit_test(test_check), cmocka_unit_test(test_check_deep),
      cmocka_unit_test(test_no_memory)};
  return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
