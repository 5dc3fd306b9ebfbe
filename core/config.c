/* config.c - lookup, units and rules over the table of config.h.
 *
 * Names are compared without case, '_' and '-', so that one row serves YAML,
 * camelCase objects and environment variables alike. */
#include "memguard/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define CONFIG_NAME_BYTES MG__CONFIG_NAME_BYTES
#define CONFIG_SHOWN_BYTES 64 /* of a host's text that an error repeats */

#define CONFIG_OR(cell, fallback) ((cell) < 0 ? (double)(fallback) : (cell))

static const mg_config_row config_rows[] = {
#define CONFIG_ROW(id, section, name, type, fallback, min, max, dev, prod, \
                   high, qdev, qprod, aliases, doc)                        \
  {section,                                                                \
   name,                                                                   \
   MG_CONFIG_##type,                                                       \
   fallback,                                                               \
   min,                                                                    \
   max,                                                                    \
   {fallback, CONFIG_OR(dev, fallback), CONFIG_OR(prod, fallback),         \
    CONFIG_OR(high, fallback), CONFIG_OR(qdev, fallback),                  \
    CONFIG_OR(qprod, fallback)},                                           \
   aliases,                                                                \
   doc},
    MG_CONFIG_MAP(CONFIG_ROW)
#undef CONFIG_ROW
};

static const char *const config_profiles[MG_PROFILES] = {
    "default",   "development",       "production",
    "high-load", "queue-development", "queue-production"};

const mg_config_row *mg_config_row_at(mg_config_id id) {
  return (unsigned)id < MG_CONFIG_IDS ? &config_rows[id] : NULL;
}

/* ---- names ------------------------------------------------------------- */

/* The next name of a row: its own path, then each alias. `*at` starts as NULL.
 * @return false at the end; else section and name as spans. */
typedef struct config_span {
  const char *text;
  size_t bytes;
} config_span;

static bool config_next_name(const mg_config_row *row, const char **at,
                             config_span *section, config_span *name) {
  const char *end, *dot;

  if (*at == NULL) {
    *at = row->aliases;
    *section = (config_span){row->section, strlen(row->section)};
    *name = (config_span){row->name, strlen(row->name)};
    return true;
  }
  if (**at == '\0') return false;
  end = strchr(*at, ' ');
  if (end == NULL) end = *at + strlen(*at);
  dot = memchr(*at, '.', (size_t)(end - *at));
  *section = (config_span){*at, (size_t)(dot - *at)};
  *name = (config_span){dot + 1, (size_t)(end - dot - 1)};
  *at = *end == ' ' ? end + 1 : end;
  return true;
}

/* How a path of the host is compared with a name of a row. */
typedef enum config_form {
  CONFIG_FORM_BARE,   /* name */
  CONFIG_FORM_DOTTED, /* section.name */
  CONFIG_FORM_JOINED  /* section_name, as environment variables have it */
} config_form;

static void config_compose(char out[CONFIG_NAME_BYTES], config_form form,
                           config_span section, config_span name) {
  char joined[2 * CONFIG_NAME_BYTES];
  int length;

  if (form == CONFIG_FORM_BARE)
    length = snprintf(joined, sizeof joined, "%.*s", (int)name.bytes, name.text);
  else
    length = snprintf(joined, sizeof joined, "%.*s%s%.*s", (int)section.bytes,
                      section.text, form == CONFIG_FORM_DOTTED ? "." : "_",
                      (int)name.bytes, name.text);
  mg__config_normalise(out, joined, (size_t)length);
}

/* @return whether some name of some row, composed as `form`, is `wanted`. */
static bool config_match(mg_config_id *out, const char *wanted,
                         config_form form) {
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const char *at = NULL;
    config_span section, name;
    char known[CONFIG_NAME_BYTES];
    while (config_next_name(&config_rows[id], &at, &section, &name)) {
      config_compose(known, form, section, name);
      if (strcmp(known, wanted) != 0) continue;
      *out = (mg_config_id)id;
      return true;
    }
  }
  return false;
}

static size_t config_distance(const char *a, const char *b) {
  size_t row[CONFIG_NAME_BYTES + 1], m = strlen(a), n = strlen(b);

  for (size_t j = 0; j <= n; j++) row[j] = j;
  for (size_t i = 1; i <= m; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= n; j++) {
      size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0u : 1u);
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      diagonal = row[j];
      row[j] = best;
    }
  }
  return row[n];
}

/* Writes the known path nearest to `wanted` (normalised). */
static void config_nearest(char *out, size_t out_bytes, const char *wanted,
                           config_form form) {
  size_t best = SIZE_MAX;

  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const char *at = NULL;
    config_span section, name;
    char known[CONFIG_NAME_BYTES];
    while (config_next_name(&config_rows[id], &at, &section, &name)) {
      config_compose(known, form, section, name);
      size_t distance = config_distance(wanted, known);
      if (distance >= best) continue;
      best = distance;
      snprintf(out, out_bytes, "%.*s.%.*s", (int)section.bytes, section.text,
               (int)name.bytes, name.text);
    }
  }
}

/* Copies a host's text for an error: no control characters, bounded. */
static const char *config_shown(char out[CONFIG_SHOWN_BYTES],
                                const char *text) {
  size_t n = 0;

  for (; text[n] != '\0' && n + 4 < CONFIG_SHOWN_BYTES; n++)
    out[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
  if (text[n] != '\0') {
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    memcpy(out + n, "...", 3);
    n += 3;
  }
  out[n] = '\0';
  return out;
}

static mg_status config_unknown(const char *path, const char *wanted,
                                config_form form, mg_error *err) {
  char shown[CONFIG_SHOWN_BYTES], nearest[CONFIG_NAME_BYTES];

  config_nearest(nearest, sizeof nearest, wanted, form);
  return mg__fail(err, MG_EKEY, "unknown key %s; the nearest known one is %s",
                  config_shown(shown, path), nearest);
}

mg_status mg_config_find(mg_config_id *out, const char *path, mg_error *err) {
  config_form form =
      strchr(path, '.') == NULL ? CONFIG_FORM_BARE : CONFIG_FORM_DOTTED;
  char wanted[CONFIG_NAME_BYTES];

  if (mg__config_normalise(wanted, path, strlen(path)) > 0 &&
      config_match(out, wanted, form))
    return MG_OK;
  if (mg_config_is_section(path))
    return mg__fail(err, MG_ETYPE,
                    "%s is a section, allowed: a mapping of its settings",
                    path);
  return config_unknown(path, wanted, form, err);
}

bool mg_config_is_section(const char *name) {
  char wanted[CONFIG_NAME_BYTES], known[CONFIG_NAME_BYTES];

  if (mg__config_normalise(wanted, name, strlen(name)) == 0) return false;
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    const char *at = NULL;
    config_span section, key;
    while (config_next_name(&config_rows[id], &at, &section, &key)) {
      mg__config_normalise(known, section.text, section.bytes);
      if (strcmp(known, wanted) == 0) return true;
    }
  }
  return false;
}

/* ---- values ------------------------------------------------------------ */

const char *mg_config_expected(mg_config_type type) {
  switch (type) {
    case MG_CONFIG_BOOL:
      return "true or false";
    case MG_CONFIG_COUNT:
      return "a whole number";
    case MG_CONFIG_MB:
      return "a number of MB, or text such as \"512MB\" or \"2GB\"";
    case MG_CONFIG_PERCENT:
      return "a percentage such as 85 or \"85%\"";
    case MG_CONFIG_RATIO:
      return "a ratio such as 0.8 or \"80%\"";
    case MG_CONFIG_DURATION:
      return "seconds, or text such as \"250ms\", \"30s\" or \"5m\"";
    case MG_CONFIG_RATE:
      return "a number of MB per minute";
    case MG_CONFIG_LEAK_CHECK:
      return "\"disabled\", \"simple\", \"advanced\", \"paranoid\" or 0 to 3";
  }
  return "a number";
}

const char *mg_config_unit(mg_config_type type) {
  switch (type) {
    case MG_CONFIG_MB:
      return "MB";
    case MG_CONFIG_PERCENT:
      return "%";
    case MG_CONFIG_DURATION:
      return "ms";
    case MG_CONFIG_RATE:
      return "MB/minute";
    case MG_CONFIG_BOOL:
    case MG_CONFIG_COUNT:
    case MG_CONFIG_RATIO:
    case MG_CONFIG_LEAK_CHECK:
      break;
  }
  return "";
}

static mg_status config_wrong_type(const char *path, const char *value,
                                   mg_config_type type, mg_error *err) {
  char shown[CONFIG_SHOWN_BYTES];

  return mg__fail(err, MG_ETYPE, "%s is %s, allowed: %s",
                  config_shown(shown, path), value, mg_config_expected(type));
}

/* A bare number under a name that ends in "ms" is milliseconds. */
static bool config_names_ms(const char *path) {
  size_t n = strlen(path);

  return n >= 2 && mg__config_lower(path[n - 2]) == 'm' &&
         mg__config_lower(path[n - 1]) == 's';
}

static mg_status config_store(mg_config *config, mg_config_id id,
                              const char *path, double value, mg_error *err) {
  const mg_config_row *row = &config_rows[id];
  char shown[CONFIG_SHOWN_BYTES];
  const char *unit = mg_config_unit(row->type);
  const char *space = *unit == '\0' ? "" : " ";
  bool is_whole = row->type == MG_CONFIG_COUNT ||
                  row->type == MG_CONFIG_LEAK_CHECK;

  /* Written so that NaN fails too. */
  if (!(value >= row->min && value <= row->max) ||
      (is_whole && value != floor(value)))
    return mg__fail(err, MG_ERANGE, "%s is %.15g%s%s, allowed: %s%.15g to %.15g%s%s",
                    config_shown(shown, path), value, space, unit,
                    is_whole ? "whole numbers from " : "",
                    row->min, row->max, space, unit);
  config->value[id] = value;
  config->is_set[id] = true;
  return MG_OK;
}

mg_status mg_config_set_number(mg_config *config, const char *path,
                               double value, mg_error *err) {
  mg_config_id id;
  mg_status st = mg_config_find(&id, path, err);
  char text[32];

  if (st != MG_OK) return st;
  if (config_rows[id].type == MG_CONFIG_BOOL) {
    snprintf(text, sizeof text, "%.15g", value);
    return config_wrong_type(path, text, MG_CONFIG_BOOL, err);
  }
  if (config_rows[id].type == MG_CONFIG_DURATION && !config_names_ms(path))
    value *= 1000.0;
  return config_store(config, id, path, value, err);
}

mg_status mg_config_set_bool(mg_config *config, const char *path, bool value,
                             mg_error *err) {
  mg_config_id id;
  mg_status st = mg_config_find(&id, path, err);

  if (st != MG_OK) return st;
  if (config_rows[id].type != MG_CONFIG_BOOL)
    return config_wrong_type(path, value ? "true" : "false",
                             config_rows[id].type, err);
  return config_store(config, id, path, value ? 1.0 : 0.0, err);
}

mg_status mg_config_refuse(const char *path, const char *kind, mg_error *err) {
  mg_config_id id;
  mg_status st = mg_config_find(&id, path, err);

  if (st != MG_OK) return st;
  return config_wrong_type(path, kind, config_rows[id].type, err);
}

static mg_status config_store_text(mg_config *config, mg_config_id id,
                                   const char *path, const char *text,
                                   mg_error *err) {
  char shown[CONFIG_SHOWN_BYTES], quoted[CONFIG_SHOWN_BYTES + 2];
  mg_config_type type = config_rows[id].type;
  double value;

  if (mg__config_parse(text, type, config_names_ms(path), &value))
    return config_store(config, id, path, value, err);
  snprintf(quoted, sizeof quoted, "\"%s\"", config_shown(shown, text));
  return config_wrong_type(path, quoted, type, err);
}

mg_status mg_config_set_text(mg_config *config, const char *path,
                             const char *text, mg_error *err) {
  mg_config_id id;
  mg_status st = mg_config_find(&id, path, err);

  return st != MG_OK ? st : config_store_text(config, id, path, text, err);
}

/* ---- profiles and environment ------------------------------------------ */

mg_status mg_profile_find(mg_profile *out, const char *name, mg_error *err) {
  char wanted[CONFIG_NAME_BYTES], known[CONFIG_NAME_BYTES],
      shown[CONFIG_SHOWN_BYTES];

  mg__config_normalise(wanted, name, strlen(name));
  for (int i = 0; i < MG_PROFILES; i++) {
    mg__config_normalise(known, config_profiles[i], strlen(config_profiles[i]));
    if (strcmp(known, wanted) != 0) continue;
    *out = (mg_profile)i;
    return MG_OK;
  }
  return mg__fail(err, MG_EINVAL,
                  "unknown profile \"%s\", allowed: default, development, "
                  "production, high-load, queue-development, queue-production",
                  config_shown(shown, name));
}

const char *mg_profile_name(mg_profile profile) {
  return (unsigned)profile < MG_PROFILES ? config_profiles[profile] : "unknown";
}

void mg_config_init(mg_config *out, mg_profile profile) {
  if ((unsigned)profile >= MG_PROFILES) profile = MG_PROFILE_DEFAULT;
  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    out->value[id] = config_rows[id].profile[profile];
    out->is_set[id] = false;
  }
  out->profile = profile;
}

#define CONFIG_PREFIX "MEMGUARD_"

/* Variables of memguard that are not settings of the table; `prebuild` is what
 * the loader of the Node addon looks for under our name, MEMGUARD_VERDICT_DIR where
 * `memguard run --leak-check` wants to be told what leaked, the last two are those of
 * web.h. */
static bool config_is_reserved(const char *wanted) {
  static const char *const names[] = {"profile", "config", "dir", "prebuild",
                                      "verdictdir", "webtoken",
                                      "webtokenfile"}; /* without _ */

  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(wanted, names[i]) == 0) return true;
  return false;
}

static mg_status config_set_variable(mg_config *config, const char *variable,
                                     mg_error *err) {
  const char *name = variable + strlen(CONFIG_PREFIX);
  const char *equals = strchr(name, '=');
  char wanted[CONFIG_NAME_BYTES], path[CONFIG_NAME_BYTES];
  mg_config_id id;

  if (equals == NULL) return MG_OK;
  mg__config_normalise(wanted, name, (size_t)(equals - name));
  if (config_is_reserved(wanted)) return MG_OK;
  snprintf(path, sizeof path, "%.*s", (int)(equals - variable), variable);
  if (!config_match(&id, wanted, CONFIG_FORM_JOINED) &&
      !config_match(&id, wanted, CONFIG_FORM_BARE))
    return config_unknown(path, wanted, CONFIG_FORM_JOINED, err);
  /* The variable's own name is what an error shows and what tells ms. */
  return config_store_text(config, id, path, equals + 1, err);
}

mg_status mg_config_set_environment(mg_config *config, const char *const *block,
                                    mg_error *err) {
  mg_config changed = *config;

  for (; *block != NULL; block++) {
    mg_status st;
    if (strncmp(*block, CONFIG_PREFIX, strlen(CONFIG_PREFIX)) != 0) continue;
    st = config_set_variable(&changed, *block, err);
    if (st != MG_OK) return st;
  }
  *config = changed;
  return MG_OK;
}

/* ---- rules between keys ------------------------------------------------ */

typedef struct config_rule {
  mg_config_id low, high; /* value[low] <= value[high] */
  double gap;             /* kept by a key that moves; > 0: strictly below */
} config_rule;

static const config_rule config_rules[] = {
    {MG_CONFIG_LOW_WATER_MARK, MG_CONFIG_HIGH_WATER_MARK, 5},
    {MG_CONFIG_HIGH_WATER_MARK, MG_CONFIG_ALERT_THRESHOLD, 0},
    {MG_CONFIG_ALERT_THRESHOLD, MG_CONFIG_FORCE_GC_THRESHOLD, 0},
    {MG_CONFIG_MIN_BUFFER_SIZE, MG_CONFIG_DEFAULT_BUFFER_SIZE, 0},
    {MG_CONFIG_DEFAULT_BUFFER_SIZE, MG_CONFIG_MAX_BUFFER_SIZE, 0},
    {MG_CONFIG_HEAP_USED_WARNING, MG_CONFIG_HEAP_USED_CRITICAL, 0},
    {MG_CONFIG_RSS_WARNING, MG_CONFIG_RSS_CRITICAL, 0},
    {MG_CONFIG_LEAK_WARNING_COUNT, MG_CONFIG_LEAK_CRITICAL_COUNT, 0}};
#define CONFIG_RULES ((int)(sizeof config_rules / sizeof *config_rules))

static bool config_holds(const mg_config *config, const config_rule *rule) {
  double low = config->value[rule->low], high = config->value[rule->high];

  return rule->gap > 0 ? low < high : low <= high;
}

/* Raises unset upper keys above lower ones: rules in order, so that a move
 * travels up a chain. */
static void config_raise(mg_config *config, bool anchored[MG_CONFIG_IDS]) {
  for (int i = 0; i < CONFIG_RULES; i++) {
    const config_rule *rule = &config_rules[i];
    double moved = config->value[rule->low] + rule->gap;
    if (!anchored[rule->low] || anchored[rule->high] ||
        config_holds(config, rule))
      continue;
    config->value[rule->high] = fmin(moved, config_rows[rule->high].max);
    anchored[rule->high] = true;
  }
}

/* Lowers unset lower keys below upper ones: rules backwards. */
static void config_sink(mg_config *config, bool anchored[MG_CONFIG_IDS]) {
  for (int i = CONFIG_RULES - 1; i >= 0; i--) {
    const config_rule *rule = &config_rules[i];
    double moved = config->value[rule->high] - rule->gap;
    if (!anchored[rule->high] || anchored[rule->low] ||
        config_holds(config, rule))
      continue;
    config->value[rule->low] = fmax(moved, config_rows[rule->low].min);
    anchored[rule->low] = true;
  }
}

/* The key that `id` moved along with, following rules down or up; `id` itself if
 * somebody set it. What nobody set is no help in an error. */
static mg_config_id config_cause(const mg_config *config, mg_config_id id,
                                 bool down) {
  for (int step = 0; step < CONFIG_RULES && !config->is_set[id]; step++)
    for (int i = 0; i < CONFIG_RULES; i++) {
      const config_rule *rule = &config_rules[i];
      if (id != (down ? rule->high : rule->low)) continue;
      id = down ? rule->low : rule->high;
      break;
    }
  return id;
}

static mg_status config_contradiction(const mg_config *config,
                                      const config_rule *rule, mg_error *err) {
  mg_config_id low_id = config_cause(config, rule->low, true);
  mg_config_id high_id = config_cause(config, rule->high, false);
  const mg_config_row *low = &config_rows[low_id];
  const mg_config_row *high = &config_rows[high_id];

  return mg__fail(err, MG_ECONFLICT,
                  "%s.%s is %.15g, which must be %s %s.%s, %.15g", low->section,
                  low->name, config->value[low_id],
                  rule->gap > 0 ? "below" : "at most", high->section,
                  high->name, config->value[high_id]);
}

mg_status mg_config_check(mg_config *config, mg_error *err) {
  mg_config fitted = *config;
  bool anchored[MG_CONFIG_IDS];

  for (int id = 0; id < MG_CONFIG_IDS; id++) {
    anchored[id] = config->is_set[id];
    if (!config->is_set[id])
      fitted.value[id] = config_rows[id].profile[config->profile];
  }
  config_raise(&fitted, anchored);
  config_sink(&fitted, anchored);
  for (int i = 0; i < CONFIG_RULES; i++)
    if (!config_holds(&fitted, &config_rules[i]))
      return config_contradiction(&fitted, &config_rules[i], err);
  *config = fitted;
  return MG_OK;
}
