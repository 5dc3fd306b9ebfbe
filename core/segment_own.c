/* segment_own.c - a process reads what it shows itself.
 *
 * What is being written is read where it is: that memory stays mapped for ever.
 * What a stopped monitor left is read from its file. */
#include "memguard/segment.h"

#include <string.h>

#include "internal.h"
#include "os.h"
#include "segment_parts.h"

static void own_fill_now(mg_segment_now *now) {
  mg__pools_total pools;
  mg_reading reading;

  mg_read_process(&reading);
  mg__pools_read_total(&pools);
  *now = (mg_segment_now){.number = 1,
                          .clock_ns = mg_clock_ns(),
                          .unix_ms = mg__os_unix_ms(),
                          .peak_rss_bytes = reading.rss_bytes,
                          .gc_ppm = UINT32_MAX,
                          .pools = pools.pools,
                          .pool_rented = pools.rented,
                          .pool_rented_bytes = pools.rented_bytes,
                          .pool_held_bytes = pools.held_bytes,
                          .pool_suspected = pools.suspected,
                          .readings = sizeof reading / sizeof(uint64_t)};
  memcpy(now->reading, &reading, sizeof reading);
  now->check = mg_segment_check(now, sizeof *now);
}

/* Of a process that never showed anything: what can be read right now. */
static mg_status own_read_plain(mg_segment **out, mg_error *err) {
  mg_segment_layout *layout = mg__alloc(sizeof *layout);
  mg__os_identity who;
  mg_status st;

  if (layout == NULL)
    return mg__fail(err, MG_ENOMEM, "segment, %zu bytes", sizeof *layout);
  mg__os_identify(&who);
  mg__lock(&mg__self.lock);
  mg__segment_fill_header(&layout->header, &who);
  mg__unlock(&mg__self.lock);
  layout->header.opened_unix_ms = 0; /* nothing is recorded */
  layout->header.crc =
      mg__segment_crc(&layout->header, offsetof(mg_segment_header, crc));
  layout->life.oom_kills = MG_ABSENT;
  layout->life.heartbeat_unix_ms = layout->life.next_unix_ms =
      mg__os_unix_ms();
  own_fill_now(&layout->now[1]);
  st = mg_segment_open_bytes(out, layout, sizeof *layout, err);
  if (st == MG_OK)
    (*out)->owned = layout;
  else
    mg__free(layout);
  return st;
}

mg_status mg_segment_open_own(mg_segment **out, mg_error *err) {
  char path[MG_SEGMENT_PATH_BYTES];
  const mg_segment_layout *map;
  mg_status st = MG_OK;

  *out = NULL;
  mg__lock(&mg__self.lock);
  map = mg__segment_map();
  memcpy(path, mg__self.path, sizeof path);
  if (map != NULL) {
    st = mg_segment_open_bytes(out, map, sizeof *map, err);
    if (st == MG_OK) (*out)->is_live = true;
  }
  mg__unlock(&mg__self.lock);
  if (map != NULL) return st;
  if (path[0] != '\0' && mg_segment_open(out, path, NULL) == MG_OK)
    return MG_OK;
  return own_read_plain(out, err);
}
