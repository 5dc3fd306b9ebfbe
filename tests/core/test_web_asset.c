/* Files of the web page: found by their exact path, whole, and nothing else. */
#include "support.h"
#include "web_asset.h"

static const mg__web_file *asset(const char *path) {
  return mg__web_asset(path, strlen(path));
}

static void test_page_is_built_in(void **state) {
  const mg__web_file *page = asset("/");

  (void)state;
  assert_true(mg__web_has_page());
  assert_non_null(page);
  assert_string_equal(page->content_type, "text/html; charset=utf-8");
  assert_true(page->byte_count > 15);
  assert_memory_equal(page->bytes, "<!doctype html>", 15);
  assert_int_equal(page->etag[0], '"');
  assert_int_equal(strlen(page->etag), 18);
}

static void test_types(void **state) {
  static const char *const row[][2] = {
      {"/assets/app.js", "text/javascript; charset=utf-8"},
      {"/assets/style.css", "text/css; charset=utf-8"},
      {"/assets/favicon.svg", "image/svg+xml"},
      {"/assets/uplot.js", "text/javascript; charset=utf-8"},
      {"/assets/uplot.css", "text/css; charset=utf-8"},
      {"/assets/uplot-licence.txt", "text/plain; charset=utf-8"},
  };

  (void)state;
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    const mg__web_file *file = asset(row[i][0]);
    assert_non_null(file);
    assert_string_equal(file->path, row[i][0]);
    assert_string_equal(file->content_type, row[i][1]);
    assert_true(file->byte_count > 100);
  }
}

static void test_etags_tell_files_apart(void **state) {
  (void)state;
  assert_string_not_equal(asset("/")->etag, asset("/assets/uplot.js")->etag);
}

static void test_nothing_else_is_found(void **state) {
  static const char *const path[] = {
      "",          "/assets",           "/assets/",
      "/assets/x", "/index.html",       "/assets/index.html",
      "//",        "/assets/../",       "/assets/embed.py",
      "/assets/%61pp.js", "/assets/APP.JS", "/assets/app.js/",
  };

  (void)state;
  for (size_t i = 0; i < sizeof path / sizeof *path; i++)
    assert_null(asset(path[i]));
  assert_null(mg__web_asset("/assets/app.js", 5));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_page_is_built_in),
      cmocka_unit_test(test_types),
      cmocka_unit_test(test_etags_tell_files_apart),
      cmocka_unit_test(test_nothing_else_is_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
