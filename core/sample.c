/* sample.c - usage: the highest ratio over separate domains. */
#include "memguard/sample.h"

#include "internal.h"

void mg_reading_init(mg_reading *out) {
#define SAMPLE_ABSENT(field, doc) out->field = MG_ABSENT;
  MG_READING_MAP(SAMPLE_ABSENT)
#undef SAMPLE_ABSENT
}

/* Share of `limit` that `used` takes; -1 = no vote. */
static double sample_ratio(uint64_t used, double limit_bytes) {
  if (used == MG_ABSENT || !(limit_bytes > 0)) return -1.0;
  return (double)used / limit_bytes;
}

static double sample_limit(uint64_t limit) {
  return limit == MG_ABSENT ? 0.0 : (double)limit;
}

static double sample_machine(const mg_reading *r) {
  uint64_t available = r->machine_available_bytes;

  if (available == MG_ABSENT || r->machine_total_bytes == MG_ABSENT) return -1.0;
  if (available > r->machine_total_bytes) available = r->machine_total_bytes;
  return sample_ratio(r->machine_total_bytes - available,
                      (double)r->machine_total_bytes);
}

double mg_usage(const mg_reading *r, const mg_config *config,
                mg_domain *out_domain) {
  double max_memory = mg_config_get(config, MG_CONFIG_MAX_MEMORY_MB);
  double max_heap = mg_config_get(config, MG_CONFIG_MAX_HEAP_MB);
  double usage = -1.0;
  const double ratio[MG_DOMAINS] = {
      [MG_DOMAIN_NONE] = -1.0,
      [MG_DOMAIN_CGROUP] = sample_ratio(r->cgroup_used_bytes,
                                        sample_limit(r->cgroup_limit_bytes)),
      [MG_DOMAIN_MACHINE] = sample_machine(r),
      [MG_DOMAIN_ADDRESS] = sample_ratio(r->virtual_bytes,
                                         sample_limit(r->address_limit_bytes)),
      [MG_DOMAIN_DATA] =
          sample_ratio(r->data_bytes, sample_limit(r->data_limit_bytes)),
      [MG_DOMAIN_HEAP] =
          sample_ratio(r->heap_used_bytes, sample_limit(r->heap_limit_bytes)),
      [MG_DOMAIN_MAX_HEAP] =
          sample_ratio(r->heap_used_bytes, max_heap * MG_BYTES_PER_MB),
      [MG_DOMAIN_MAX_MEMORY] =
          sample_ratio(r->rss_bytes, max_memory * MG_BYTES_PER_MB)};

  *out_domain = MG_DOMAIN_NONE;
  for (int domain = 0; domain < MG_DOMAINS; domain++) {
    if (ratio[domain] <= usage) continue;
    usage = ratio[domain];
    *out_domain = (mg_domain)domain;
  }
  return usage < 0 ? 0.0 : usage;
}

uint64_t mg_fall_bytes(uint64_t before, uint64_t after) {
  if (before == MG_ABSENT || after == MG_ABSENT || after > before) return 0;
  return before - after;
}

const char *mg_domain_name(mg_domain domain) {
  static const char *const names[] = {
#define SAMPLE_NAME(id, name) name,
      MG_DOMAIN_MAP(SAMPLE_NAME)};
  return (unsigned)domain < MG_DOMAINS ? names[domain] : "unknown";
}

const char *mg_level_name(mg_level level) {
  static const char *const names[] = {MG_LEVEL_MAP(SAMPLE_NAME)};
#undef SAMPLE_NAME
  return (unsigned)level < MG_LEVELS ? names[level] : "unknown";
}
