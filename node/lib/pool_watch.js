'use strict';

// What is looked for in the rentals of one pool, and what was found, by the rules of
// the core's header: rentals forgotten, too old, returned wrongly, written to after
// their return. What Node has in place of guard pages: memory of its own for one
// rental of 4000, taken away at the return, so that a Buffer somebody kept is empty.
const path = require('path');
const native = require('./native');
const { warn } = require('./report');

const { sample: SAMPLE, guard: GUARD, siteBytes, findings: FINDINGS, tickMs } = native.poolConstants;
const [DISABLED, , ADVANCED, PARANOID] = [0, 1, 2, 3]; // values of leak_check
const NEVER = 2 ** 30;
const LEAK = 'MEMGUARD_POOL_LEAK';
const SITE_FRAMES = 12; // looked at, ours among them
const SITE_KEPT = 4;
const SITE_LEAST_MS = 1; // noting one takes 10 us
const PATTERN = 0xd9;
const EDGE_BYTES = 128;
const HELD_MOST = 64;
const HELD_MOST_BYTES = 4194304;

const told = new Set(); // sites that were logged, of all pools

/* ---- sites ------------------------------------------------------------------------ */

function isOurs(line) {
  return line.includes(__dirname + path.sep);
}

/** Where the host is now: functions and lines, no values; null if that is not to be
 *  had. As text at once: V8's own form of it would keep what the functions belong to. */
function siteNow() {
  const { stackTraceLimit } = Error;
  const holder = {};
  try {
    Error.stackTraceLimit = SITE_FRAMES;
    Error.captureStackTrace(holder);
    const lines = holder.stack.split('\n').slice(1).map((line) => line.trim().replace(/^at /, ''));
    const first = lines.findIndex((line) => !isOurs(line));
    return first < 0 ? null : lines.slice(first, first + SITE_KEPT);
  } catch {
    return null; // Error.prepareStackTrace of the host
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/* ---- the pattern -------------------------------------------------------------------- */

function edgesOf(slot) {
  const { slab: { memory, slotBytes }, offset } = slot;
  if (slotBytes <= 2 * EDGE_BYTES) return [Buffer.from(memory, offset, slotBytes)];
  return [Buffer.from(memory, offset, EDGE_BYTES), Buffer.from(memory, offset + slotBytes - EDGE_BYTES, EDGE_BYTES)];
}

function isWhole(slot) {
  return edgesOf(slot).every((edge) => edge[0] === PATTERN && edge.compare(edge, 1, edge.length, 0, edge.length - 1) === 0);
}

class PoolWatch {
  #memory;
  #check = DISABLED;
  #suspectMs = Infinity;
  #untilGuard = GUARD;
  #sitedAt = -Infinity;
  #found = []; // findings, oldest first
  #held = []; // slots that wait, with the site of their rental
  #heldBytes = 0;
  counts = Object.fromEntries(native.poolFindingNames.map((name) => [name, 0]));
  sitesKept = 0;
  suspected = 0;
  withdrawn = 0;
  findingsLost = 0;

  constructor(memory) {
    this.#memory = memory;
  }

  configure(settings) {
    this.#check = settings.leakCheck;
    this.#suspectMs = settings.suspectAfter * 1000;
    for (const list of this.#memory.lists) list.arm(this.#step(list));
  }

  /** Has the return of a rental looked at. */
  mark(record) {
    if (record.watch !== null) return;
    record.watch = { site: null, isSampled: false, isSuspected: false };
    this.sitesKept++;
  }

  // Rentals until the next sample, at random so that no rhythm of the host hides one.
  #step(list) {
    if (this.#check === DISABLED) return NEVER;
    if (this.#check === PARANOID || list === this.#memory.huge || list.capacity >= siteBytes) return 1;
    return 1 + Math.floor(Math.random() * 2 * SAMPLE);
  }

  /** A rental is watched. @returns its slot, which may be another one. */
  sample(slot, list, bytes) {
    list.arm(this.#step(list));
    if (this.#check === DISABLED) return slot;
    const isLarge = slot.slab.slotBytes >= siteBytes;
    const isParanoid = this.#check === PARANOID;
    const chosen = this.#check >= ADVANCED && !isLarge && !slot.slab.isSpent ? this.#guarded(slot, list, bytes) : slot;
    chosen.record.watch = { site: this.#site(isParanoid), isSampled: isParanoid || !isLarge, isSuspected: false };
    this.sitesKept++;
    return chosen;
  }

  #guarded(slot, list, bytes) {
    this.#untilGuard -= this.#check === PARANOID ? 1 : SAMPLE;
    if (this.#untilGuard > 0) return slot;
    this.#untilGuard = GUARD;
    const chosen = this.#memory.guard(list, bytes);
    chosen.record.stamp = slot.record.stamp;
    slot.record.stamp = 0;
    this.#memory.takeBack(slot);
    return chosen;
  }

  #site(isCertain) {
    const now = performance.now();
    if (!isCertain && now - this.#sitedAt < SITE_LEAST_MS) return null;
    this.#sitedAt = now;
    return siteNow();
  }

  #unwatch(record) {
    const { watch } = record;
    if (watch === null) return null;
    record.watch = null;
    this.sitesKept--;
    if (watch.isSuspected) this.suspected--;
    return watch;
  }

  /** A watched rental ends. @returns whether its slot is held back. */
  end(slot) {
    const watch = this.#unwatch(slot.record);
    if (watch.isSuspected) this.withdrawn++;
    const { slab } = slot;
    if (!watch.isSampled || slab.isSpent || this.#memory.isPlain || slab.slotBytes > HELD_MOST_BYTES) return false;
    try {
      for (const edge of edgesOf(slot)) edge.fill(PATTERN);
    } catch {
      return false; // the host took the memory away
    }
    this.#held.push({ slot, site: watch.site });
    this.#heldBytes += slab.slotBytes;
    while (this.#held.length > HELD_MOST || this.#heldBytes > HELD_MOST_BYTES) this.#letOneGo();
    return true;
  }

  #letOneGo() {
    const { slot, site } = this.#held.shift();
    this.#heldBytes -= slot.slab.slotBytes;
    try {
      if (!isWhole(slot)) this.report('write_after_return', site, slot.slab.slotBytes, 0);
    } catch {
      // As above.
    }
    this.#memory.takeBack(slot);
  }

  /** Checks all that wait, and has them used again. */
  letGo() {
    while (this.#held.length > 0) this.#letOneGo();
  }

  #ageMs(record) {
    return Math.max(0, this.#memory.stamp - record.stamp) * tickMs;
  }

  /** Reports a slot that was collected while it was rented. */
  lose(record, capacity) {
    const site = this.#unwatch(record)?.site ?? null;
    this.report('lost', site, capacity, this.#ageMs(record));
    const text = site === null ? 'at a place that was not noted (leak_check "paranoid" notes each)' : `at ${site[0]}`;
    if (told.has(text) || told.size >= FINDINGS) return;
    told.add(text);
    warn(`a buffer of ${capacity} bytes was never returned to its pool; it was rented ${text}`, LEAK, site?.join('\n'));
  }

  report(kind, site, capacity, ageMs) {
    this.counts[kind]++;
    const key = site?.join('\n');
    const known = this.#found.find((one) => one.kind === kind && one.capacity === capacity && one.site?.join('\n') === key);
    if (known !== undefined) {
      known.count++;
      known.ageMs = ageMs;
      return;
    }
    if (this.#found.length === FINDINGS) {
      this.#found.shift();
      this.findingsLost++;
    }
    this.#found.push({ kind, count: 1, site, capacity, ageMs });
  }

  takeFindings() {
    return this.#found.splice(0);
  }

  suspects() {
    const found = [];
    if (this.#check === DISABLED) return found;
    for (const { records, slotBytes } of this.#memory.slabs) {
      for (const record of records) {
        const ageMs = this.#ageMs(record);
        if (record.stamp === 0 || ageMs < this.#suspectMs) continue;
        this.mark(record);
        if (!record.watch.isSuspected) this.suspected++;
        record.watch.isSuspected = true;
        found.push({ kind: 'suspected', count: 1, site: record.watch.site, capacity: slotBytes, ageMs });
      }
    }
    return found;
  }
}

module.exports = { PoolWatch };
