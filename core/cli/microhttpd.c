/* microhttpd.c - finds the functions of libmicrohttpd at run time. */
#include "microhttpd.h"

#include <dlfcn.h>
#include <string.h>

#include "cli.h"

#define MICROHTTPD_NEED                                                       \
  "needs libmicrohttpd 0.9.73 or later (Debian 12: apt-get install "          \
  "libmicrohttpd12; Debian 13: apt-get install libmicrohttpd12t64): %s"

microhttpd mhd;

/* Through memcpy, because C has no cast from an object to a function. */
static bool microhttpd_find(void *library, void *to, const char *name) {
  void *found = dlsym(library, name);

  memcpy(to, &found, sizeof found);
  if (found == NULL) cli_fail(CLI_SYSTEM, MICROHTTPD_NEED, name);
  return found != NULL;
}

bool microhttpd_load(void) {
  void *library = dlopen(MICROHTTPD_SONAME, RTLD_NOW | RTLD_LOCAL);

  if (library == NULL) {
    cli_fail(CLI_SYSTEM, MICROHTTPD_NEED, dlerror());
    return false;
  }
#define MICROHTTPD_FIND(name) \
  if (!microhttpd_find(library, &mhd.name, "MHD_" #name)) return false;
  MICROHTTPD_MAP(MICROHTTPD_FIND)
#undef MICROHTTPD_FIND
  return true;
}
