/* Files of the dashboard: found by their exact name, whole, and nothing else. */
#include <string.h>

#include "support.h"

static void test_page_is_built_in(void **state) {
  const mg_web_file *page = mg_web_asset("index.html");

  (void)state;
  assert_non_null(page);
  assert_string_equal(page->type, "text/html; charset=utf-8");
  assert_true(page->count > 15);
  assert_memory_equal(page->bytes, "<!doctype html>", 15);
  assert_int_equal(page->etag[0], '"');
  assert_int_equal(strlen(page->etag), 18);
}

static void test_types(void **state) {
  static const char *const row[][2] = {
      {"app.js", "text/javascript; charset=utf-8"},
      {"style.css", "text/css; charset=utf-8"},
      {"favicon.svg", "image/svg+xml"},
      {"runbook.html", "text/html; charset=utf-8"},
      {"uplot.js", "text/javascript; charset=utf-8"},
      {"uplot.css", "text/css; charset=utf-8"},
      {"uplot-licence.txt", "text/plain; charset=utf-8"},
  };

  (void)state;
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    const mg_web_file *file = mg_web_asset(row[i][0]);
    assert_non_null(file);
    assert_string_equal(file->name, row[i][0]);
    assert_string_equal(file->type, row[i][1]);
    assert_true(file->count > 100);
  }
}

static void test_etags_tell_files_apart(void **state) {
  (void)state;
  assert_string_not_equal(mg_web_asset("index.html")->etag, mg_web_asset("uplot.js")->etag);
}

static void test_nothing_else_is_found(void **state) {
  static const char *const path[] = {
      "",    "/",        "index",  "/index.html", "assets/app.js", "app.jsx",
      "..",  "embed.py", "APP.JS", "app.js/",     "%61pp.js",      "./app.js",
  };

  (void)state;
  for (size_t i = 0; i < sizeof path / sizeof *path; i++)
    assert_null(mg_web_asset(path[i]));
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
