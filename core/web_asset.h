/* web_asset.h - the files of the web page, as bytes inside the library.
 *
 * core/web/embed.py makes web_assets.h of core/web/ and of npm's uPlot when the
 * core is built. Without uPlot (it is needed for development only) the page is
 * left out and there are no assets; everything else is as it was.
 *
 * Threads: pure functions on constants; any thread. */
#ifndef MG_CORE_WEB_ASSET_H
#define MG_CORE_WEB_ASSET_H

#include "memguard/base.h"

/** One file. All of it lives as long as the library. */
typedef struct mg__web_file {
  const char *path;         /* of the request: "/" or "/assets/NAME" */
  const char *content_type; /* with its charset, if it is text */
  const char *etag;         /* of its content, in its quotes */
  const unsigned char *bytes;
  size_t byte_count;
} mg__web_file;

/** Finds what is served under a path: exactly this text, nothing is decoded or
 *  resolved. @param path [borrowed] need not end in a NUL.
 *  @return [borrowed] NULL if there is no such file. */
const mg__web_file *mg__web_asset(const char *path, size_t path_bytes);
/** Whether the page was built in. */
bool mg__web_has_page(void);

#endif
