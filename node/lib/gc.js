'use strict';

// Collections: how many, how long, which were too long, and how to ask for one.
// The addon has the one record of them, whoever sees them: V8's hooks or, where
// those are missing, a PerformanceObserver.
const native = require('./native');
const { codes } = require('./errors');
const { heapStatistics, setFlags } = require('./heap');
const { warn } = require('./report');

// As the addon numbers them; the last two are phases of a collection.
const KINDS = ['scavenge', 'minorMarkSweep', 'markSweepCompact', 'incrementalMarking', 'processWeakCallbacks'];
const MINORS = 2; // kinds whose CPU time is not measured
const TOTAL = KINDS.length; // row of all collections together
const VALUES = 8; // of a row
const SECONDS_P95 = VALUES * (TOTAL + 1); // follows the rows
const LONG_KEPT = 5; // long pauses told one by one
const LONG_PAUSE = 'MEMGUARD_LONG_PAUSE';
const LONG_QUIET_MS = 60_000; // between two reports: a slow heap must not fill a log
const TRUST_ATTEMPTS = 10;
const NS_PER_MS = 1e6;
const NS_PER_SECOND = 1e9;

const rows = new Float64Array(SECONDS_P95 + 1); // as gcRead() fills it
const longs = new Float64Array(2 * LONG_KEPT); // as gcTakeLong() does

/* ---- who sees them ---------------------------------------------------------- */

let observer = null;

function noteEntry(entry, nowMs) {
  const agoMs = Math.max(entry.duration, nowMs - entry.startTime);
  native.gcRecord(
    entry.detail?.kind ?? entry.kind,
    Math.round(agoMs * NS_PER_MS),
    Math.round(entry.duration * NS_PER_MS),
  );
}

/** Records through a PerformanceObserver: complete, but late and costlier. */
function observe({ PerformanceObserver, performance } = require('perf_hooks')) {
  if (observer !== null || !PerformanceObserver.supportedEntryTypes.includes('gc')) return;
  observer = new PerformanceObserver((list) => {
    const nowMs = performance.now();
    for (const entry of list.getEntries()) noteEntry(entry, nowMs);
  });
  observer.observe({ entryTypes: ['gc'] });
}

/** Who sees the collections: 'native', 'observer' or 'none'. */
function source() {
  if (native.gcHooked()) return 'native';
  return observer === null ? 'none' : 'observer';
}

/** Sees to it that collections are recorded from now on, if that is possible. */
function startCounting() {
  if (native.gcHooked() === false) observe();
}

/** Whether each collection tells the heap to the monitors of this isolate. Two
 *  readings differ by what happened between them, a new page or the end of a
 *  collection: of several pairs one agrees, if the addon reads it right. */
function tellsHeap() {
  for (let attempt = 0; attempt < TRUST_ATTEMPTS; attempt++) {
    const heap = heapStatistics();
    if (native.gcTrustHeap(heap.used_heap_size, heap.total_heap_size, heap.heap_size_limit)) return true;
  }
  return false;
}

/* ---- what was recorded ------------------------------------------------------- */

function rowStats(index, hasCpu) {
  const [count, ...ns] = rows.subarray(VALUES * index, VALUES * (index + 1));
  const [totalMs, cpuMs, p50Ms, p95Ms, p99Ms, maxMs, lastMs] = ns.map((value) => value / NS_PER_MS);
  return { count, totalMs, cpuMs: hasCpu ? cpuMs : null, p50Ms, p95Ms, p99Ms, maxMs, lastMs };
}

/** What the collector did since memguard was loaded in this isolate. */
function gcStats() {
  const from = source();
  const hasCpu = from === 'native';
  native.gcRead(rows);
  const kinds = {};
  KINDS.forEach((kind, index) => {
    kinds[kind] = rowStats(index, hasCpu && index >= MINORS);
  });
  return {
    source: from,
    ...rowStats(TOTAL, false),
    longestPerSecondP95Ms: rows[SECONDS_P95] / NS_PER_MS,
    kinds,
  };
}

let longPause = Infinity; // seconds, as the addon knows it
let quietUntil = 0;

/** Warns of the pauses that were long since the last report, at most once a
 *  minute: the first ones, and how many more.
 *  @param longSeconds from now on longer ones are. */
function reportLongPauses(longSeconds) {
  const now = Date.now();
  if (now < quietUntil && now >= quietUntil - LONG_QUIET_MS && longSeconds === longPause) return;
  longPause = longSeconds;
  const count = native.gcTakeLong(Math.round(longSeconds * NS_PER_SECOND), longs);
  for (let index = 0; index < Math.min(count, LONG_KEPT); index++) {
    const ms = (longs[2 * index + 1] / NS_PER_MS).toFixed(1);
    warn(`a garbage collection (${KINDS[longs[2 * index]]}) paused for ${ms} ms, longer than memory.long_pause`, LONG_PAUSE);
  }
  if (count > LONG_KEPT) warn(`and ${count - LONG_KEPT} more pauses longer than memory.long_pause`, LONG_PAUSE);
  if (count > 0) quietUntil = now + LONG_QUIET_MS;
}

/* ---- asking for a collection ----------------------------------------------- */

let collector; // V8's gc(); null where it cannot be had

// A new context has a global gc() if the flag is set while it is made; the
// flag is put back at once. A host that was started with it keeps it.
function findCollector() {
  const vm = require('vm');
  const given = vm.runInNewContext('typeof gc === "function" ? gc : null');
  if (given !== null) return given;
  setFlags('--expose-gc');
  try {
    return vm.runInNewContext('typeof gc === "function" ? gc : null');
  } finally {
    setFlags('--no-expose-gc');
  }
}

function heldBytes() {
  const heap = heapStatistics();
  return heap.used_heap_size + heap.external_memory;
}

/** Whether collect() can work here; finds out on first use. */
function canCollect() {
  if (collector === undefined) {
    try {
      collector = findCollector();
    } catch {
      collector = null;
    }
    if (collector === null) warn('this runtime offers no way to ask for a collection', codes.EABSENT);
  }
  return collector !== null;
}

/** As collect(), of young objects only. */
function collectYoung() {
  const before = heldBytes();
  collector({ type: 'minor' });
  return Math.max(0, before - heldBytes());
}

/** A full collection, now; only where canCollect(). @returns bytes of heap and
 *  external memory it freed, measured. */
function collect() {
  const before = heldBytes();
  collector();
  return Math.max(0, before - heldBytes());
}

module.exports = {
  canCollect, collect, collectYoung, gcStats, heldBytes, observe, reportLongPauses, source, startCounting, tellsHeap,
};
