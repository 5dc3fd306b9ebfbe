/* config_text.c - settings written as text: "512MB", "1h30m", "85%", "yes". */
#include "memguard/config.h"

#include <math.h>
#include <string.h>

#include "internal.h"

char mg__config_lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

size_t mg__config_normalise(char out[MG__CONFIG_NAME_BYTES], const char *text,
                            size_t bytes) {
  size_t n = 0;

  for (size_t i = 0; i < bytes; i++) {
    if (text[i] == '_' || text[i] == '-') continue;
    if (n + 1 >= MG__CONFIG_NAME_BYTES) {
      n = 0;
      break;
    }
    out[n++] = mg__config_lower(text[i]);
  }
  out[n] = '\0';
  return n;
}

typedef struct config_unit_row {
  mg_config_type type;
  const char *name;
  double factor;
} config_unit_row;

static const config_unit_row config_units[] = {
    {MG_CONFIG_MB, "b", 1.0 / 1048576},   {MG_CONFIG_MB, "k", 1.0 / 1024},
    {MG_CONFIG_MB, "kb", 1.0 / 1024},     {MG_CONFIG_MB, "kib", 1.0 / 1024},
    {MG_CONFIG_MB, "m", 1},               {MG_CONFIG_MB, "mb", 1},
    {MG_CONFIG_MB, "mib", 1},             {MG_CONFIG_MB, "g", 1024},
    {MG_CONFIG_MB, "gb", 1024},           {MG_CONFIG_MB, "gib", 1024},
    {MG_CONFIG_MB, "t", 1048576},         {MG_CONFIG_MB, "tb", 1048576},
    {MG_CONFIG_MB, "tib", 1048576},       {MG_CONFIG_PERCENT, "%", 1},
    {MG_CONFIG_RATIO, "%", 0.01},         {MG_CONFIG_DURATION, "ms", 1},
    {MG_CONFIG_DURATION, "s", 1000},      {MG_CONFIG_DURATION, "m", 60000},
    {MG_CONFIG_DURATION, "min", 60000},   {MG_CONFIG_DURATION, "h", 3600000},
    {MG_CONFIG_DURATION, "d", 86400000.0}};

static const char *config_skip_space(const char *at) {
  while (*at == ' ' || *at == '\t') at++;
  return at;
}

static bool config_is_digit(char c) { return c >= '0' && c <= '9'; }

/* Decimal number without the locale's opinion on the point: strtod() of a
 * program that called setlocale() may want a comma. */
static bool config_decimal(const char **at, double *out) {
  const char *p = *at;
  double value = 0, scale = 1;
  bool negative = *p == '-', digits = false;

  if (*p == '-' || *p == '+') p++;
  for (; config_is_digit(*p); p++, digits = true)
    value = value * 10 + (*p - '0');
  if (*p == '.')
    for (p++; config_is_digit(*p); p++, digits = true) {
      value = value * 10 + (*p - '0');
      scale *= 10;
    }
  if (!digits) return false;
  value /= scale; /* one rounding only: "0.85" is the double 0.85 */
  if ((*p == 'e' || *p == 'E') &&
      (config_is_digit(p[1]) ||
       ((p[1] == '+' || p[1] == '-') && config_is_digit(p[2])))) {
    bool down = p[1] == '-';
    int exponent = 0;
    for (p += config_is_digit(p[1]) ? 1 : 2; config_is_digit(*p); p++)
      if (exponent < 1000) exponent = exponent * 10 + (*p - '0');
    value *= pow(10, down ? -exponent : exponent);
  }
  *out = negative ? -value : value;
  *at = p;
  return true;
}

static const config_unit_row *config_find_unit(mg_config_type type,
                                               const char **at) {
  size_t n = 0;

  while ((*at)[n] != '\0' && (*at)[n] != ' ' && !config_is_digit((*at)[n])) n++;
  for (size_t i = 0; i < sizeof config_units / sizeof *config_units; i++) {
    const config_unit_row *row = &config_units[i];
    size_t k = 0;
    if (row->type != type || strlen(row->name) != n) continue;
    while (k < n && mg__config_lower((*at)[k]) == row->name[k]) k++;
    if (k < n) continue;
    *at += n;
    return row;
  }
  return NULL;
}

/* "512MB", "1h30m", "85%", "3". Only durations may have several parts. */
static bool config_quantity(const char *text, mg_config_type type, bool bare_ms,
                            double *out) {
  const char *at = config_skip_space(text);
  double total = 0, part;
  bool first = true;

  do {
    const config_unit_row *unit;
    if (!config_decimal(&at, &part)) return false;
    at = config_skip_space(at);
    if (*at == '\0' && first) {
      *out = type == MG_CONFIG_DURATION && !bare_ms ? part * 1000 : part;
      return true;
    }
    unit = config_find_unit(type, &at);
    if (unit == NULL) return false;
    total += part * unit->factor;
    at = config_skip_space(at);
    first = false;
  } while (*at != '\0' && type == MG_CONFIG_DURATION);
  *out = total;
  return *at == '\0';
}

static bool config_truth(const char *text, bool *out) {
  static const char *const words[2][5] = {{"false", "no", "off", "0", "n"},
                                          {"true", "yes", "on", "1", "y"}};
  char word[MG__CONFIG_NAME_BYTES];

  mg__config_normalise(word, text, strlen(text));
  for (int truth = 0; truth < 2; truth++)
    for (int i = 0; i < 5; i++)
      if (strcmp(word, words[truth][i]) == 0) {
        *out = truth == 1;
        return true;
      }
  return false;
}

static bool config_leak_check(const char *text, double *out) {
  static const char *const words[] = {"disabled", "simple", "advanced",
                                      "paranoid"};
  char word[MG__CONFIG_NAME_BYTES];

  mg__config_normalise(word, text, strlen(text));
  for (int level = 0; level < 4; level++)
    if (strcmp(word, words[level]) == 0) {
      *out = level;
      return true;
    }
  return false;
}

bool mg__config_parse(const char *text, mg_config_type type, bool bare_ms,
                      double *out) {
  bool truth = false;

  if (type == MG_CONFIG_LEAK_CHECK && config_leak_check(text, out)) return true;
  if (type != MG_CONFIG_BOOL)
    return config_quantity(text, type, bare_ms, out);
  if (!config_truth(text, &truth)) return false;
  *out = truth ? 1.0 : 0.0;
  return true;
}
