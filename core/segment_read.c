/* segment_read.c - reads segments: hostile input.
 *
 * Everything is copied out of the file first, with pread, and believed only after
 * its check value agrees. Sizes and offsets come from this library's own layout,
 * never from the file. */
#include "memguard/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "os.h"
#include "segment_parts.h"

#define READ_TRIES 4
#define READ_LARGEST 1e15
#define READ_HEX "0123456789abcdef"

/* ---- names and check values; pure ---------------------------------------- */

uint64_t mg_segment_check(const void *whole, size_t bytes) {
  const char *at = whole;
  uint64_t hash = bytes, word;

  for (size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
    if (i == sizeof word) continue; /* the check itself */
    memcpy(&word, at + i, sizeof word);
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 32;
  }
  return hash;
}

uint32_t mg__segment_crc(const void *data, size_t bytes) {
  const unsigned char *at = data;
  uint32_t crc = UINT32_MAX;

  for (size_t i = 0; i < bytes; i++) {
    crc ^= at[i];
    for (int bit = 0; bit < 8; bit++)
      crc = crc >> 1 ^ (UINT32_C(0xedb88320) & (0u - (crc & 1u)));
  }
  return ~crc;
}

void mg__segment_name(char *out, const char *boot_id, uint64_t pid_namespace,
                      uint32_t pid, uint64_t start_time) {
  snprintf(out, MG_SEGMENT_NAME_BYTES, "%.32s-%llu-%u-%llu", boot_id,
           (unsigned long long)pid_namespace, pid,
           (unsigned long long)start_time);
}

bool mg__segment_is_name(const char *name) {
  size_t digits, length = strlen(name);

  if (length >= MG_SEGMENT_NAME_BYTES || strspn(name, READ_HEX) != 32)
    return false;
  name += 32;
  for (int part = 0; part < 3; part++) {
    if (*name++ != '-') return false;
    digits = strspn(name, "0123456789");
    if (digits < 1 || digits > 20) return false;
    name += digits;
  }
  return *name == '\0';
}

void mg__segment_copy_text(char *out, size_t out_bytes, const char *text) {
  size_t length = strnlen(text, out_bytes - 1);

  /* Not in the middle of a character of UTF-8. */
  if (text[length] != '\0')
    while (length > 0 && ((unsigned char)text[length] & 0xc0u) == 0x80u)
      length--;
  memcpy(out, text, length);
  memset(out + length, 0, out_bytes - length);
}

mg_status mg_segment_directory(char *out, size_t out_bytes, mg_error *err) {
  const char *given = getenv("MEMGUARD_DIR");
  int length;

  if (given != NULL && given[0] != '\0') {
    if (given[0] != '/')
      return mg__fail(err, MG_EINVAL,
                      "MEMGUARD_DIR is \"%.100s\", need an absolute path",
                      given);
    length = snprintf(out, out_bytes, "%s", given);
  } else {
    length = snprintf(out, out_bytes, "/dev/shm/memguard-%u", mg__os_user());
  }
  if (length < 0 || (size_t)length >= out_bytes)
    return mg__fail(err, MG_EINVAL,
                    "MEMGUARD_DIR is %d bytes long, at most %zu allowed",
                    length, out_bytes - 1);
  return MG_OK;
}

/* ---- bytes ---------------------------------------------------------------- */

/* Word by word, as it is written; all offsets and sizes are those of words. */
static void read_live(void *out, const uint8_t *from, size_t bytes) {
  const uint64_t *words = (const uint64_t *)(const void *)from;
  uint64_t word;

  for (size_t i = 0; i < bytes / sizeof word; i++) {
    word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    memcpy((char *)out + i * sizeof word, &word, sizeof word);
  }
}

/* @return whether all of it is there. */
static bool read_bytes(const mg_segment *s, void *out, size_t bytes,
                       size_t offset) {
  if (s->file.fd >= 0)
    return mg__os_read_at(s->file.fd, out, bytes, offset) == (long)bytes;
  if (offset > s->count || bytes > s->count - offset) return false;
  if (s->is_live)
    read_live(out, s->bytes + offset, bytes);
  else
    memcpy(out, s->bytes + offset, bytes);
  return true;
}

bool mg__segment_copy(const mg_segment *s, void *out, size_t bytes,
                      size_t offset) {
  return read_bytes(s, out, bytes, offset);
}

static bool read_is_whole(const void *whole, size_t bytes) {
  uint64_t word[2];

  memcpy(word, whole, sizeof word);
  return word[0] != 0 && word[1] == mg_segment_check(whole, bytes);
}

/* ---- opening --------------------------------------------------------------- */

static mg_status read_check_header(const mg_segment *s, mg_error *err) {
  const mg_segment_header *h = &s->header;

  if (memcmp(h->magic, MG_SEGMENT_MAGIC, sizeof h->magic) != 0)
    return mg__fail(err, MG_EFOREIGN, "no segment: it begins otherwise");
  if (h->byte_order != MG_SEGMENT_BYTE_ORDER)
    return mg__fail(err, MG_EFOREIGN, "a segment of another byte order");
  if (h->version != MG_SEGMENT_VERSION)
    return mg__fail(err, MG_EFOREIGN,
                    "a segment of version %u, need %u: use the memguard that "
                    "wrote it",
                    h->version, MG_SEGMENT_VERSION);
  if (h->header_bytes != sizeof *h ||
      h->segment_bytes != sizeof(mg_segment_layout))
    return mg__fail(err, MG_EFOREIGN,
                    "a segment of %u bytes with a header of %u, need %zu and "
                    "%zu",
                    h->segment_bytes, h->header_bytes,
                    sizeof(mg_segment_layout), sizeof *h);
  if (h->crc != mg__segment_crc(h, offsetof(mg_segment_header, crc)))
    return mg__fail(err, MG_EFOREIGN, "a segment with a damaged header");
  return MG_OK;
}

static void read_end_texts(mg_segment_header *h) {
#define READ_END(field) h->field[sizeof h->field - 1] = '\0';
  READ_END(boot_id)
  READ_END(runtime)
  READ_END(runtime_version)
  READ_END(program)
  READ_END(library_version)
  for (size_t i = 0; i < MG_PAUSE_KINDS; i++) READ_END(kind[i])
#undef READ_END
}

static mg_status read_header(mg_segment *s, mg_error *err) {
  mg_status st;

  if (!read_bytes(s, &s->header, sizeof s->header, 0))
    return mg__fail(err, MG_EFOREIGN, "cut off in its header");
  st = read_check_header(s, err);
  if (st == MG_OK && s->count != sizeof(mg_segment_layout))
    st = mg__fail(err, MG_EFOREIGN, "a segment of %zu bytes, need %zu",
                  s->count, sizeof(mg_segment_layout));
  read_end_texts(&s->header);
  return st;
}

mg_status mg__segment_open_file(mg_segment *out, mg__file file,
                                mg_error *err) {
  mg_status st;

  *out = (mg_segment){.file = file,
                      .count = (size_t)mg__os_file_bytes(file.fd)};
  st = read_header(out, err);
  if (st != MG_OK) mg__file_close(&out->file);
  return st;
}

mg_status mg_segment_open(mg_segment **out, const char *path, mg_error *err) {
  mg_segment *s;
  mg__file file;
  mg_status st;

  *out = NULL;
  st = mg__os_open_plain(&file, path, err);
  if (st != MG_OK) return st;
  s = mg__alloc(sizeof *s);
  if (s == NULL) {
    mg__file_close(&file);
    return mg__fail(err, MG_ENOMEM, "segment, %zu bytes", sizeof *s);
  }
  st = mg__segment_open_file(s, file, err);
  if (st == MG_OK)
    *out = s;
  else
    mg__free(s);
  return st;
}

mg_status mg_segment_open_bytes(mg_segment **out, const void *bytes,
                                size_t count, mg_error *err) {
  mg_segment *s = mg__alloc(sizeof *s);
  mg_status st;

  *out = NULL;
  if (s == NULL)
    return mg__fail(err, MG_ENOMEM, "segment, %zu bytes", sizeof *s);
  *s = (mg_segment){
      .file = MG__FILE_NONE, .bytes = (const uint8_t *)bytes, .count = count};
  st = read_header(s, err);
  if (st == MG_OK)
    *out = s;
  else
    mg__free(s);
  return st;
}

void mg_segment_close(mg_segment *s) {
  if (s == NULL) return;
  mg__file_close(&s->file);
  mg__free(s->owned);
  mg__free(s);
}

const mg_segment_header *mg_segment_header_of(const mg_segment *s) {
  return &s->header;
}

/* ---- the present ----------------------------------------------------------- */

/* What one read brings: life, now, group, gc. */
typedef struct read_front {
  mg_segment_life life;
  mg_segment_now now[2];
  mg_segment_group group[2];
  mg_segment_gc gc[MG_PAUSE_KINDS];
} read_front;

_Static_assert(sizeof(read_front) == offsetof(mg_segment_layout, types) -
                                         offsetof(mg_segment_layout, life),
               "one piece of the layout");

/* Finite, and of a size that prints. */
static void read_hold_number(double *number) {
  if (!(*number > -READ_LARGEST && *number < READ_LARGEST)) *number = 0.0;
}

/* The newer of two halves; -1 if none is whole. `*out_is_empty`: both are zero. */
static int read_newer(const void *halves, size_t bytes, bool *out_is_empty) {
  uint64_t number[2];
  int newer = -1;

  for (int i = 0; i < 2; i++) {
    const char *half = (const char *)halves + (size_t)i * bytes;
    memcpy(&number[i], half, sizeof number[i]);
    if (read_is_whole(half, bytes) && number[i] % 2 == (uint64_t)i &&
        (newer < 0 || number[i] > number[newer]))
      newer = i;
  }
  *out_is_empty = number[0] == 0 && number[1] == 0;
  return newer;
}

int mg__segment_halves(mg_segment *s, void *halves, size_t bytes, size_t at) {
  bool is_empty = false;
  int newer = -1;

  for (int i = 0; i < READ_TRIES && newer < 0 && !is_empty; i++) {
    if (!read_bytes(s, halves, 2 * bytes, at)) return -1;
    newer = read_newer(halves, bytes, &is_empty);
  }
  return newer;
}

static void read_sample(const mg_segment_now *now, mg_sample *out) {
  uint32_t known = sizeof(mg_reading) / sizeof(uint64_t);

  *out = (mg_sample){
      .number = now->number,
      .clock_ns = now->clock_ns,
      .unix_ms = now->unix_ms,
      .peak_rss_bytes = now->peak_rss_bytes,
      .usage = now->usage,
      .pressure = now->pressure,
      .domain = (mg_domain)mg__segment_held(now->domain, MG_DOMAINS,
                                            MG_DOMAIN_NONE),
      .level = (mg_level)mg__segment_held(now->level, MG_LEVELS,
                                          MG_LEVEL_NORMAL)};
  read_hold_number(&out->usage);
  if (!(out->pressure >= 0 && out->pressure <= 1)) out->pressure = 0.0;
  mg_reading_init(&out->reading);
  if (now->readings < known) known = now->readings;
  memcpy(&out->reading, now->reading, known * sizeof(uint64_t));
}

/* @return the half that is current, or -1. */
static int read_present(mg_segment *s, read_front *front, bool *out_is_empty,
                        mg_status *out_status) {
  const size_t at = offsetof(mg_segment_layout, life);
  int newer = -1;

  *out_is_empty = false;
  for (int i = 0; i < READ_TRIES && newer < 0 && !*out_is_empty; i++) {
    if (!read_bytes(s, front, sizeof *front, at)) {
      *out_status = MG_EFOREIGN;
      return -1;
    }
    newer = read_newer(front->now, sizeof *front->now, out_is_empty);
  }
  *out_status = newer < 0 && !*out_is_empty ? MG_EFOREIGN : MG_OK;
  return newer;
}

mg_status mg_segment_read(mg_segment *s, mg_segment_view *out, mg_error *err) {
  read_front front;
  mg_status st;
  bool is_empty;
  int newer = read_present(s, &front, &is_empty, &st);

  *out = (mg_segment_view){0};
  if (st != MG_OK)
    return mg__fail(err, st, "no whole sample: cut off or damaged");
  out->state = (mg_segment_state)mg__segment_held(
      front.life.state, MG_SEGMENT_STATES, MG_SEGMENT_RUNNING);
  out->is_folded = front.life.is_folded != 0;
  out->heartbeat_unix_ms = front.life.heartbeat_unix_ms;
  out->next_unix_ms = front.life.next_unix_ms;
  out->ended_unix_ms = front.life.ended_unix_ms;
  out->oom_kills = front.life.oom_kills;
  for (int i = 0; i < MG_SEGMENT_MARKS; i++)
    out->mark_percent[i] = (double)(front.life.marks >> 16 * i & 0xffffu) / 100;
  out->events_lost = front.life.events_lost;
  out->own_cpu_us = front.life.own_cpu_us;
  memcpy(out->gc, front.gc, sizeof out->gc);
  mg_reading_init(&out->sample.reading);
  if (newer < 0) return MG_OK;
  out->now = front.now[newer];
  read_sample(&out->now, &out->sample);
  return MG_OK;
}

/* ---- rings ----------------------------------------------------------------- */

/* Sorted by number by insertion: a ring is two sorted runs. */
static void read_insert(char *out, size_t *count, const char *whole,
                        size_t bytes) {
  uint64_t number, other;
  size_t at = *count;

  memcpy(&number, whole, sizeof number);
  for (; at > 0; at--) {
    memcpy(&other, out + (at - 1) * bytes, sizeof other);
    if (other <= number) break;
  }
  memmove(out + (at + 1) * bytes, out + at * bytes, (*count - at) * bytes);
  memcpy(out + at * bytes, whole, bytes);
  ++*count;
}

/* The newest number of a ring whose slot i holds numbers of i modulo `slots`. */
static uint64_t read_newest(const char *ring, size_t slots, size_t bytes) {
  uint64_t newest = 0, number;

  for (size_t i = 0; i < slots; i++) {
    memcpy(&number, ring + i * bytes, sizeof number);
    if (number > newest && number % slots == i &&
        read_is_whole(ring + i * bytes, bytes))
      newest = number;
  }
  return newest;
}

/* Copies what is whole of the newest round of a ring, oldest first. */
static size_t read_ring(mg_segment *s, size_t offset, size_t slots,
                        size_t bytes, void *out, size_t max) {
  char *ring = mg__alloc_untouched(slots * bytes), *to = out;
  size_t count = 0;
  uint64_t newest, number, first;

  if (ring == NULL) return 0;
  if (max > slots) max = slots;
  if (!read_bytes(s, ring, slots * bytes, offset)) max = 0;
  newest = max == 0 ? 0 : read_newest(ring, slots, bytes);
  if (newest == 0) max = 0;
  first = newest > max ? newest - max + 1 : 1;
  /* Counted by i: a number may be the largest there is. */
  for (size_t i = 0; i < max && i <= newest - first; i++) {
    const char *slot = ring + (size_t)((first + i) % slots) * bytes;
    memcpy(&number, slot, sizeof number);
    if (number != first + i || !read_is_whole(slot, bytes)) continue;
    read_insert(to, &count, slot, bytes);
  }
  mg__free(ring);
  return count;
}

static void read_hold_point(mg_segment_point *p) {
  p->level = mg__segment_held(p->level, MG_LEVELS, MG_LEVEL_NORMAL);
  p->domain = mg__segment_held(p->domain, MG_DOMAINS, MG_DOMAIN_NONE);
}

size_t mg_segment_points(mg_segment *s, mg_segment_ring ring,
                         mg_segment_point *out, size_t max) {
  bool by_minute = ring == MG_SEGMENT_BY_MINUTE;
  size_t count = read_ring(s,
                           by_minute ? offsetof(mg_segment_layout, minute)
                                     : offsetof(mg_segment_layout, second),
                           by_minute ? MG_SEGMENT_MINUTES : MG_SEGMENT_SECONDS,
                           sizeof *out, out, max);

  for (size_t i = 0; i < count; i++) read_hold_point(&out[i]);
  return count;
}

size_t mg_segment_gc_events(mg_segment *s, mg_segment_gc_event *out,
                            size_t max) {
  size_t count = read_ring(s, offsetof(mg_segment_layout, gc_event),
                           MG_SEGMENT_GC_EVENTS, sizeof *out, out, max);

  for (size_t i = 0; i < count; i++)
    out[i].kind =
        mg__segment_held(out[i].kind, MG_PAUSE_KINDS, MG_PAUSE_KINDS - 1);
  return count;
}

static void read_hold_note(mg_segment_note *n) {
  n->kind = mg__segment_held(n->kind, MG_SEGMENT_NOTE_KINDS, MG_SEGMENT_ALERT);
  n->event = mg__segment_held(n->event, MG_EVENTS, MG_EVENT_STARTED);
  n->severity = mg__segment_held(n->severity, MG_HEALTH_CRITICAL + 1,
                                 MG_HEALTH_HEALTHY);
  n->level = mg__segment_held(n->level, MG_LEVELS, MG_LEVEL_NORMAL);
  n->previous = mg__segment_held(n->previous, MG_LEVELS, MG_LEVEL_NORMAL);
  n->reason = mg__segment_held(n->reason, MG_REASONS, MG_REASON_NONE);
  read_hold_number(&n->mb_per_minute);
  read_hold_number(&n->took_ms);
  read_hold_number(&n->gc_ms);
  read_hold_number(&n->usage_before);
  read_hold_number(&n->usage_after);
  n->counter[sizeof n->counter - 1] = '\0';
}

size_t mg_segment_notes(mg_segment *s, mg_segment_note *out, size_t max) {
  size_t count = read_ring(s, offsetof(mg_segment_layout, note),
                           MG_SEGMENT_NOTES, sizeof *out, out, max);

  for (size_t i = 0; i < count; i++) read_hold_note(&out[i]);
  return count;
}

void mg_segment_read_types(mg_segment *s, mg_segment_types *out) {
  mg_segment_types half[2];
  int newer = mg__segment_halves(s, half, sizeof *half,
                                 offsetof(mg_segment_layout, types));

  memset(out, 0, sizeof *out);
  if (newer < 0) return;
  *out = half[newer];
  out->count =
      mg__segment_held(out->count, MG_SEGMENT_TYPES + 1, MG_SEGMENT_TYPES);
  for (uint32_t i = 0; i < out->count; i++)
    out->type[i].name[sizeof out->type[i].name - 1] = '\0';
}

/* ---- alive ------------------------------------------------------------------ */

/* A process of this boot that is found under pid and start time. */
static bool read_is_found(const mg_segment_header *h,
                          const mg__os_identity *here) {
  return h->pid_namespace == here->pid_namespace && h->start_time != 0 &&
         mg__os_start_time(h->pid) == h->start_time;
}

static bool read_is_fresh(mg_segment *s) {
  uint64_t now_ms = mg__os_unix_ms();
  mg_segment_life life;

  if (!read_bytes(s, &life, sizeof life, offsetof(mg_segment_layout, life)))
    return false;
  /* Twice the interval, and some seconds for a machine that is busy. */
  return life.state == MG_SEGMENT_RUNNING &&
         life.heartbeat_unix_ms <= life.next_unix_ms &&
         now_ms < life.next_unix_ms +
                      (life.next_unix_ms - life.heartbeat_unix_ms) + 10000u;
}

bool mg_segment_is_alive(mg_segment *s) {
  mg_segment_life life;
  mg__os_identity here;

  if (s->file.fd < 0)
    return read_bytes(s, &life, sizeof life,
                      offsetof(mg_segment_layout, life)) &&
           life.state == MG_SEGMENT_RUNNING;
  if (!mg__os_lock(s->file.fd, false)) return true;
  mg__os_unlock(s->file.fd);
  mg__os_identify(&here);
  if (memcmp(s->header.boot_id, here.boot_id, sizeof here.boot_id) != 0)
    return false;
  if (read_is_found(&s->header, &here)) return true;
  /* Of another namespace only the heartbeat tells. */
  return s->header.pid_namespace != here.pid_namespace && read_is_fresh(s);
}

mg_status mg_segment_facts(mg_segment *s, mg_postmortem_facts *out,
                           mg_error *err) {
  read_front front;
  mg_segment_view view;
  mg_status st = mg_segment_read(s, &view, err);
  bool is_empty;
  int newer;

  if (st != MG_OK) return st;
  *out = (mg_postmortem_facts){.is_alive = mg_segment_is_alive(s),
                               .state = view.state,
                               .last = view.sample.reading,
                               .oom_kills_then = view.oom_kills,
                               .oom_kills_after = MG_ABSENT};
  if (!read_bytes(s, &front, sizeof front, offsetof(mg_segment_layout, life)))
    return MG_OK;
  newer = read_newer(front.group, sizeof *front.group, &is_empty);
  if (newer < 0) return MG_OK;
  front.group[newer].file[sizeof front.group[newer].file - 1] = '\0';
  out->oom_kills_after = mg__os_oom_kills(front.group[newer].file);
  return MG_OK;
}
