/* web_asset.c - the files of the dashboard, as bytes inside the library.
 *
 * core/web/embed.py makes web_assets.h of core/web/ and of npm's uPlot when the
 * core is built, or the sdist brings it along. Without it (uPlot is needed for
 * development only) the dashboard is left out; everything else is as it was. */
#include "memguard/web.h"

#include <string.h>

#if defined(__has_include)
#if __has_include("web_assets.h")
#include "web_assets.h"
#endif
#endif

#ifndef WEB_ASSETS
#define WEB_ASSETS 0u
static const mg_web_file web_assets[1] = {{NULL, NULL, NULL, NULL, 0}};
#endif

const mg_web_file *mg_web_asset(const char *name) {
  size_t count = WEB_ASSETS;

  for (size_t i = 0; i < count; i++)
    if (strcmp(web_assets[i].name, name) == 0) return &web_assets[i];
  return NULL;
}
