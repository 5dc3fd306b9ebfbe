'use strict';

// Collections: how many, how long, and how to ask for one.
const native = require('./native');
const { codes } = require('./errors');
const { heapStatistics, setFlags } = require('./heap');
const { warn } = require('./report');

// Which bit of v8::GCType stands for which kind: V8 10 (Node 18) put the minor
// mark-sweep in second place. The last two are phases of a collection.
const BITS = 5;
const KINDS = ['scavenge', 'minorMarkSweep', 'markSweepCompact', 'incrementalMarking', 'processWeakCallbacks'];
const COLLECTIONS = 3;
const hasMinorMarkSweep = Number(process.versions.v8.split('.')[0]) >= 10;
const bitOf = hasMinorMarkSweep ? [0, 1, 2, 3, 4] : [0, 4, 1, 2, 3];
const NS_PER_MS = 1e6;

const row = new Float64Array(4 * BITS); // as gcRead() fills it

/* ---- counting without V8's hooks ------------------------------------------ */

const observed = new Float64Array(4 * BITS);
let observer = null;

function noteEntry(kind, durationNs) {
  const at = 4 * Math.log2(kind);
  if (!Number.isInteger(at) || at >= observed.length) return;
  observed[at]++;
  observed[at + 1] += durationNs;
  observed[at + 2] = Math.max(observed[at + 2], durationNs);
  observed[at + 3] = durationNs;
}

/** Counts through a PerformanceObserver: complete, but late and costlier. */
function observe(PerformanceObserver = require('perf_hooks').PerformanceObserver) {
  if (observer !== null || !PerformanceObserver.supportedEntryTypes.includes('gc')) return;
  observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      noteEntry(entry.detail?.kind ?? entry.kind, entry.duration * NS_PER_MS);
    }
  });
  observer.observe({ entryTypes: ['gc'] });
}

/** Where the counts come from: 'native', 'observer' or 'none'. */
function source() {
  if (native.gcRead(row)) return 'native';
  return observer === null ? 'none' : 'observer';
}

/** Sees to it that collections are counted from now on. */
function startCounting() {
  if (source() === 'none') observe();
}

/** Whether each collection tells the heap to the monitors of this isolate.
 *  @param heap what v8.getHeapStatistics() says now. */
function tellsHeap(heap) {
  return native.gcTrustHeap(heap.used_heap_size, heap.total_heap_size, heap.heap_size_limit);
}

function kindStats(counts, bit) {
  const [count, totalNs, maxNs, lastNs] = counts.subarray(4 * bit, 4 * bit + 4);
  return { count, totalMs: totalNs / NS_PER_MS, maxMs: maxNs / NS_PER_MS, lastMs: lastNs / NS_PER_MS };
}

/** What the collector did since memguard was loaded in this isolate. */
function gcStats() {
  return statsFrom(source());
}

function statsFrom(from) {
  const counts = from === 'native' ? row : observed;
  const stats = { source: from, count: 0, totalMs: 0, maxMs: 0, kinds: {} };
  KINDS.forEach((kind, index) => {
    const one = kindStats(counts, bitOf[index]);
    stats.kinds[kind] = one;
    if (index < COLLECTIONS) stats.count += one.count;
    stats.totalMs += one.totalMs;
    stats.maxMs = Math.max(stats.maxMs, one.maxMs);
  });
  return stats;
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

/** A full collection, now; only where canCollect(). @returns bytes of heap and
 *  external memory it freed, measured. */
function collect() {
  const before = heldBytes();
  collector();
  return Math.max(0, before - heldBytes());
}

module.exports = { canCollect, collect, gcStats, observe, source, startCounting, statsFrom, tellsHeap };
