/* file.c - reads and replaces whole files for the memguard tool. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

int cli_read_file(char **out, size_t *out_bytes, const char *path) {
  FILE *file = fopen(path, "rbe");
  size_t bytes = 0, room = 65536;
  char *text = NULL;
  int code;

  if (file == NULL)
    return cli_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_USAGE, "%s: %s", path,
                    strerror(errno));
  for (;;) {
    char *grown = realloc(text, room + 1);
    if (grown == NULL) {
      code = cli_fail(CLI_SYSTEM, "%s: out of memory", path);
      goto fail_file;
    }
    text = grown;
    bytes += fread(text + bytes, 1, room - bytes, file);
    if (bytes < room || room > CLI_FILE_MAX) break;
    room *= 2;
  }
  if (ferror(file)) {
    code = cli_fail(CLI_SYSTEM, "%s: %s", path, strerror(errno));
    goto fail_file;
  }
  if (bytes > CLI_FILE_MAX) {
    code = cli_fail(CLI_USAGE, "%s: larger than %u MB", path,
                    CLI_FILE_MAX / 1048576u);
    goto fail_file;
  }
  fclose(file);
  text[bytes] = '\0';
  *out = text;
  if (out_bytes != NULL) *out_bytes = bytes;
  return CLI_OK;

fail_file:
  fclose(file);
  free(text);
  return code;
}

int cli_write_file(const char *path, const char *text) {
  char name[4096];
  FILE *file;
  int fd;

  if (strcmp(path, "-") == 0) {
    fputs(text, stdout);
    return CLI_OK;
  }
  if (snprintf(name, sizeof name, "%s.XXXXXX", path) >= (int)sizeof name)
    return cli_fail(CLI_USAGE, "the path is too long: %s", path);
  fd = mkostemp(name, O_CLOEXEC);
  if (fd < 0) return cli_fail(CLI_SYSTEM, "%s: %s", path, strerror(errno));
  file = fdopen(fd, "w");
  if (file == NULL) {
    close(fd);
    goto fail_name;
  }
  fputs(text, file);
  fchmod(fd, 0644);
  if (fclose(file) != 0 || rename(name, path) != 0) goto fail_name;
  return CLI_OK;

fail_name:
  cli_fail(CLI_SYSTEM, "%s: %s", path, strerror(errno));
  unlink(name);
  return CLI_SYSTEM;
}

int cli_write_json(const char *path, const cJSON *document) {
  char *text = cJSON_Print(document), *line;
  int code;

  if (text == NULL || asprintf(&line, "%s\n", text) < 0) {
    cJSON_free(text);
    return cli_fail(CLI_SYSTEM, "out of memory");
  }
  code = cli_write_file(path, line);
  free(line);
  cJSON_free(text);
  return code;
}
