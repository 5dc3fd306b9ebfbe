/* pool_class.c - the pool's decisions: sizes, tiers, what to keep, what to trim.
 *
 * Classes by index: 64, 128, 256, then for each power of two p from 512 bytes to
 * 32 KiB the pair p, p + p/8, then 64 KiB to 1 MiB. */
#include "memguard/pool.h"

#include "internal.h"
#include "pool_parts.h"

#define CLASS_HUGE_SHIFT 3u /* huge capacities are eighths of a power of two */

/* What a request of 2^p + 1 to 2^(p+1) bytes is given: class `first` up to
 * `limit`, above that the next one. Row 0 is for 1 to 64 bytes. */
const mg__class_row mg__class_rows[MG__CLASS_ROWS] = {
    {0, 64},         {1, 128},        {2, 256},        {3, 512},
    {4, 576},        {6, 1152},       {8, 2304},       {10, 4608},
    {12, 9216},      {14, 18432},     {16, 36864},     {18, 131072},
    {19, 262144},    {20, 524288},    {21, 1048576}};

const uint32_t mg__class_bytes[MG_POOL_CLASSES] = {
    64,   128,  256,   512,   576,   1024,  1152,  2048,   2304,   4096,   4608,
    8192, 9216, 16384, 18432, 32768, 36864, 65536, 131072, 262144, 524288, 1048576};

uint32_t mg_pool_class(uint64_t bytes) {
  if (bytes > MG_POOL_CLASS_MAX_BYTES) return MG_POOL_CLASSES;
  return mg__pool_class_of(bytes == 0 ? 1 : (size_t)bytes);
}

uint64_t mg_pool_class_bytes(uint32_t index) {
  return index < MG_POOL_CLASSES ? mg__class_bytes[index] : 0;
}

uint64_t mg_pool_capacity(uint64_t bytes) {
  uint64_t step = 1;

  if (bytes <= MG_POOL_CLASS_MAX_BYTES)
    return mg__class_bytes[mg_pool_class(bytes)];
  if (bytes > MG_POOL_MAX_BYTES) return bytes;
  while (step << 1 < bytes) step <<= 1; /* step < bytes <= 2 * step */
  step >>= CLASS_HUGE_SHIFT;
  return (bytes + step - 1) / step * step;
}

mg_pool_tier mg_pool_tier_of(uint64_t capacity) {
#define CLASS_TIER(id, name, bytes) \
  if (capacity <= (bytes)) return MG_POOL_TIER_##id;
  MG_POOL_TIER_MAP(CLASS_TIER)
#undef CLASS_TIER
  return MG_POOL_TIER_HUGE;
}

uint32_t mg_pool_trim(uint32_t low_water) {
  return low_water / 2 + low_water % 2;
}

uint32_t mg_pool_cache_limit(uint64_t class_bytes, uint64_t cache_bytes,
                             mg_level level) {
  uint64_t count;

  if (class_bytes == 0 || class_bytes >= MG_POOL_SITE_BYTES) return 0;
  switch (level) {
    case MG_LEVEL_NORMAL:
      break;
    case MG_LEVEL_ELEVATED:
      cache_bytes /= 2;
      break;
    case MG_LEVEL_HIGH:
      cache_bytes /= 4;
      break;
    default:
      return 0;
  }
  count = cache_bytes / class_bytes;
  return count < MG__CACHE_MOST ? (uint32_t)count : MG__CACHE_MOST;
}

uint32_t mg_pool_cache_next(uint32_t capacity, uint32_t limit, uint32_t misses,
                            uint32_t low_water) {
  uint32_t least = limit < MG_POOL_BATCH ? limit : MG_POOL_BATCH;
  uint32_t taken = mg_pool_trim(low_water);

  if (misses > 0)
    capacity = capacity > limit / 2 ? limit : capacity * 2;
  else
    capacity = capacity > taken ? capacity - taken : 0;
  if (capacity < least) capacity = least;
  return capacity < limit ? capacity : limit;
}

const char *mg_pool_tier_name(mg_pool_tier tier) {
  switch (tier) {
#define CLASS_TIER_NAME(id, name, bytes) \
  case MG_POOL_TIER_##id:                \
    return name;
    MG_POOL_TIER_MAP(CLASS_TIER_NAME)
#undef CLASS_TIER_NAME
    case MG_POOL_TIERS:
      break;
  }
  return "unknown";
}

const char *mg_finding_name(mg_finding_kind kind) {
  switch (kind) {
#define CLASS_FINDING_NAME(id, name) \
  case MG_FINDING_##id:              \
    return name;
    MG_FINDING_MAP(CLASS_FINDING_NAME)
#undef CLASS_FINDING_NAME
    case MG_FINDING_KINDS:
      break;
  }
  return "unknown";
}

const char *mg_leak_check_name(mg_leak_check level) {
  static const char *const names[MG_LEAK_CHECKS] = {"disabled", "simple",
                                                    "advanced", "paranoid"};

  return (unsigned)level < MG_LEAK_CHECKS ? names[level] : "unknown";
}
