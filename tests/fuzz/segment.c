/* fuzz/segment.c - any bytes as a segment.
 *
 * Input: bytes of a whole file, or (first byte odd) patches to an empty one whose
 * header is valid: 3 bytes of offset, 1 of length, that many bytes. A second flag
 * mends the check values, so that what is behind them is reached. */
#include <stdlib.h>
#include <string.h>

#include "memguard.h"
#include "segment_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void patch(uint8_t *file, const uint8_t *data, size_t bytes) {
  while (bytes > 4) {
    size_t at = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16;
    size_t length = data[3] < bytes - 4 ? data[3] : bytes - 4;
    at %= sizeof(mg_segment_layout) - 255;
    memcpy(file + at, data + 4, length);
    data += 4 + length;
    bytes -= 4 + length;
  }
}

static void mend(void *wholes, size_t count, size_t bytes) {
  for (size_t i = 0; i < count; i++) {
    char *whole = (char *)wholes + i * bytes;
    uint64_t check = mg_segment_check(whole, bytes);
    memcpy(whole + sizeof check, &check, sizeof check);
  }
}

static void mend_all(mg_segment_layout *l) {
  mend(l->now, 2, sizeof *l->now);
  mend(l->group, 2, sizeof *l->group);
  mend(l->types, 2, sizeof *l->types);
  mend(l->alerts, 2, sizeof *l->alerts);
  mend(l->note, MG_SEGMENT_NOTES, sizeof *l->note);
  mend(l->gc_event, MG_SEGMENT_GC_EVENTS, sizeof *l->gc_event);
  mend(l->second, MG_SEGMENT_SECONDS, sizeof *l->second);
  mend(l->minute, MG_SEGMENT_MINUTES, sizeof *l->minute);
}

static void seal(mg_segment_header *h) {
  memcpy(h->magic, MG_SEGMENT_MAGIC, sizeof h->magic);
  h->byte_order = MG_SEGMENT_BYTE_ORDER;
  h->version = MG_SEGMENT_VERSION;
  h->header_bytes = sizeof *h;
  h->segment_bytes = sizeof(mg_segment_layout);
  h->crc = mg__segment_crc(h, offsetof(mg_segment_header, crc));
}

static void must(bool is_true) {
  if (!is_true) abort();
}

static void read_rings(mg_segment *segment) {
  static mg_segment_point points[MG_SEGMENT_SECONDS];
  static mg_segment_note notes[MG_SEGMENT_NOTES];
  static mg_segment_gc_event events[MG_SEGMENT_GC_EVENTS];
  size_t count = mg_segment_points(segment, MG_SEGMENT_BY_SECOND, points,
                                   MG_SEGMENT_SECONDS);

  for (size_t i = 0; i < count; i++) {
    must(points[i].level < MG_LEVELS && points[i].domain < MG_DOMAINS);
    must(i == 0 || points[i].number > points[i - 1].number);
  }
  (void)mg_segment_points(segment, MG_SEGMENT_BY_MINUTE, points, 7);
  count = mg_segment_notes(segment, notes, MG_SEGMENT_NOTES);
  for (size_t i = 0; i < count; i++) {
    must(notes[i].kind < MG_SEGMENT_NOTE_KINDS && notes[i].event < MG_EVENTS);
    must(strlen(notes[i].counter) < sizeof notes[i].counter);
  }
  count = mg_segment_gc_events(segment, events, MG_SEGMENT_GC_EVENTS);
  for (size_t i = 0; i < count; i++) must(events[i].kind < MG_PAUSE_KINDS);
}

static void read_alerts(mg_segment *segment) {
  static mg_segment_alerts alerts;

  mg_segment_read_alerts(segment, &alerts);
  must(alerts.count <= MG_SEGMENT_ALERTS);
  for (uint32_t i = 0; i < alerts.count; i++) {
    must(alerts.alert[i].kind < MG_ALERTS);
    must((unsigned)alerts.alert[i].severity < MG_SEVERITIES);
  }
}

static void read_rest(mg_segment *segment) {
  mg_postmortem_report report;
  mg_postmortem_facts facts;
  mg_segment_types types;
  mg_segment_view view;
  mg_pause_stats stats;

  if (mg_segment_read(segment, &view, NULL) == MG_OK) {
    must((unsigned)view.sample.level < MG_LEVELS);
    must((unsigned)view.sample.domain < MG_DOMAINS);
    must((unsigned)view.state < MG_SEGMENT_STATES);
    must(view.sample.pressure >= 0 && view.sample.pressure <= 1);
  }
  mg_segment_read_types(segment, &types);
  must(types.count <= MG_SEGMENT_TYPES);
  for (uint32_t i = 0; i < types.count; i++)
    must(strlen(types.type[i].name) < sizeof types.type[i].name);
  for (uint32_t kind = 0; kind <= MG_PAUSE_KINDS; kind++)
    mg_segment_gc_stats(segment, kind, &stats);
  if (mg_segment_facts(segment, &facts, NULL) != MG_OK) return;
  mg_postmortem(&facts, &report);
  must((unsigned)report.verdict < MG_VERDICTS);
}

static void read_bytes_of(const void *bytes, size_t count) {
  mg_segment *segment;

  if (mg_segment_open_bytes(&segment, bytes, count, NULL) == MG_OK) {
    must(strlen(mg_segment_header_of(segment)->program) < 64);
    read_rings(segment);
    read_alerts(segment);
    read_rest(segment);
  }
  mg_segment_close(segment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  mg_segment_layout *file;

  if (bytes == 0) return 0;
  if ((data[0] & 1) == 0) {
    read_bytes_of(data + 1, bytes - 1);
    return 0;
  }
  file = calloc(1, sizeof *file);
  if (file == NULL) return 0;
  patch((uint8_t *)file, data + 1, bytes - 1);
  if ((data[0] & 2) != 0) mend_all(file);
  if ((data[0] & 4) == 0) seal(&file->header);
  read_bytes_of(file, sizeof *file);
  free(file);
  return 0;
}
