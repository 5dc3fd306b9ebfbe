/* web_asset.c - finds a file of the web page. */
#include "web_asset.h"

#include <string.h>

#if defined(__has_include)
#if __has_include("web_assets.h")
#include "web_assets.h"
#endif
#endif

#ifndef WEB_ASSETS
#define WEB_ASSETS 0
static const mg__web_file web_assets[1];
#endif

const mg__web_file *mg__web_asset(const char *path, size_t path_bytes) {
  for (size_t i = 0; i < WEB_ASSETS; i++)
    if (strlen(web_assets[i].path) == path_bytes &&
        memcmp(web_assets[i].path, path, path_bytes) == 0)
      return &web_assets[i];
  return NULL;
}

bool mg__web_has_page(void) { return WEB_ASSETS > 0; }
