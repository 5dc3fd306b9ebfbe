/* text.c - messages, numbers and safe output of the memguard tool. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static void text_complain(const char *format, va_list args) {
  fflush(stdout);
  fprintf(stderr, "memguard %s: ", cli_current->name);
  /* NOLINTNEXTLINE(clang-analyzer-valist*): the callers have started it */
  vfprintf(stderr, format, args);
}

int cli_fail(cli_exit code, const char *format, ...) {
  va_list args;

  va_start(args, format);
  text_complain(format, args);
  va_end(args);
  fputc('\n', stderr);
  return (int)code;
}

int cli_usage(const char *format, ...) {
  va_list args;

  va_start(args, format);
  text_complain(format, args);
  va_end(args);
  fprintf(stderr, " (`memguard %s --help`)\n", cli_current->name);
  return CLI_USAGE;
}

int cli_bad_option(int argc, char **argv) {
  const char *word = optind > 1 && optind <= argc ? argv[optind - 1] : "";

  return optopt != 0 && strncmp(word, "--", 2) != 0
             ? cli_usage("unknown option or missing value: \"-%c\"", optopt)
             : cli_usage("unknown option or missing value: \"%s\"", word);
}

bool cli_number(const char *what, const char *text, double min, double max,
                double *out) {
  char *end;
  double value;

  errno = 0;
  value = strtod(text, &end);
  if (end == text || *end != '\0' || errno != 0 || !isfinite(value) ||
      value < min || value > max) {
    cli_usage("%s \"%s\": a number from %g to %g is allowed", what, text, min,
              max);
    return false;
  }
  *out = value;
  return true;
}

bool cli_has_colour(void) {
  const char *off = getenv("NO_COLOR");

  return isatty(STDOUT_FILENO) && (off == NULL || *off == '\0');
}

/* @return bytes of the UTF-8 character at `text`, 0 if it is none to print. */
static size_t text_character(const unsigned char *text) {
  size_t bytes = text[0] < 0x80   ? 1
                 : text[0] < 0xC2 ? 0
                 : text[0] < 0xE0 ? 2
                 : text[0] < 0xF0 ? 3
                 : text[0] < 0xF5 ? 4
                                  : 0;

  if (bytes == 1) return text[0] >= ' ' && text[0] != 0x7F;
  for (size_t i = 1; i < bytes; i++)
    if ((text[i] & 0xC0) != 0x80) return 0;
  /* C1 controls, overlong forms and surrogates. */
  if (bytes == 2 && text[0] == 0xC2 && text[1] < 0xA0) return 0;
  if (bytes == 3 && ((text[0] == 0xE0 && text[1] < 0xA0) ||
                     (text[0] == 0xED && text[1] > 0x9F)))
    return 0;
  if (bytes == 4 && ((text[0] == 0xF0 && text[1] < 0x90) ||
                     (text[0] == 0xF4 && text[1] > 0x8F)))
    return 0;
  return bytes;
}

void cli_print_safe(FILE *file, const char *text, size_t width) {
  size_t columns = 0;

  while (*text != '\0' && (width == 0 || columns < width)) {
    size_t bytes = text_character((const unsigned char *)text);
    if (bytes == 0) {
      fputc('?', file);
      bytes = 1;
    } else {
      fwrite(text, 1, bytes, file);
    }
    text += bytes;
    columns++;
  }
}

char *cli_bytes(char out[CLI_BYTES_TEXT], uint64_t bytes) {
  static const char units[][3] = {"B", "KB", "MB", "GB", "TB"};
  double value = (double)bytes;
  size_t unit = 0;

  if (bytes == MG_ABSENT) return memcpy(out, "-", 2);
  while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
    value /= 1024;
    unit++;
  }
  snprintf(out, CLI_BYTES_TEXT, value < 10 && unit > 0 ? "%.1f %s" : "%.0f %s",
           value, units[unit]);
  return out;
}

int cli_print_json(cJSON *document) {
  int code = cli_write_json("-", document);

  cJSON_Delete(document);
  return code;
}
