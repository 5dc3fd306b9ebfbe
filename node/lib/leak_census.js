'use strict';

// A census of what this isolate holds, and what differs between two of them. Taken
// when something is suspected, never periodically. Counts and names only.
const native = require('./native');
const { heapStatistics } = require('./heap');
const { Tally, countObjects } = require('./leak_objects');
const { inspectorAbsence } = require('./inspect');

const HEAP_LIMIT_BYTES = 64 * 1048576; // above it objects are not counted: 10 ms per MB
const MAX_CULPRITS = 8;
const FEW = 2; // what grew by less is noise

function nowMs() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** What keeps the event loop busy, counted by type; null where Node does not say. */
function activeResources() {
  if (typeof process.getActiveResourcesInfo !== 'function') return null;
  const counts = new Tally();
  for (const type of process.getActiveResourcesInfo()) counts.add(type, 1);
  return counts;
}

/** Bytes in use by space of the heap. */
function heapSpaces() {
  const spaces = new Tally();
  for (const space of require('v8').getHeapSpaceStatistics()) spaces.set(space.space_name, space.space_used_size);
  return spaces;
}

/** Open file descriptors by target; null where the kernel does not tell. */
function fileDescriptors() {
  try {
    return new Tally(native.censusFds());
  } catch {
    return null;
  }
}

// As the addon takes and gives them: [name, count, bytes].
function rowsOf(counts) {
  return Array.from(counts, ([name, count]) => [name, count, 0]);
}

function objectsAbsence(heapLimitBytes) {
  const heap = heapStatistics().used_heap_size;
  if (heap > heapLimitBytes) {
    return `the heap has ${(heap / 1048576).toFixed(1)} MB, objects are counted up to ${(heapLimitBytes / 1048576).toFixed(1)} MB now`;
  }
  return inspectorAbsence();
}

/** What this isolate holds now.
 *  @param heapLimitBytes of a larger heap the objects are not counted.
 *  @param objects false: they are not counted either. */
function census({ heapLimitBytes = HEAP_LIMIT_BYTES, objects = true } = {}) {
  const began = nowMs();
  const absent = {};
  const result = { types: null, entries: null, listeners: null, spaces: heapSpaces() };
  result.handles = activeResources();
  result.fds = fileDescriptors();
  if (result.handles === null) absent.handles = 'this Node does not list active resources';
  if (result.fds === null) absent.fds = 'open file descriptors cannot be listed here';
  const absence = objects ? objectsAbsence(heapLimitBytes) : 'not asked for';
  if (absence === null) {
    try {
      Object.assign(result, countObjects());
    } catch (error) {
      absent.types = error.message;
    }
  } else {
    absent.types = absence;
  }
  return { ...result, absent, tookMs: nowMs() - began };
}

/** What is more in `after`, the most first: { name, growth, count, share of all
 *  that grew }. */
function grown(before, after, least = FEW) {
  if (before === null || after === null) return [];
  return native
    .censusDifference(rowsOf(before), rowsOf(after), false, MAX_CULPRITS, 0)
    .map(([name, growth, , count, share]) => ({ name, growth, count, share }))
    .filter(({ growth }) => growth >= least);
}

// How a row of each kind of count is told.
const TOLD = {
  types: (row) => ({ ...row, kind: 'type' }),
  entries: (row) => ({ ...row, kind: 'type', name: `entries of ${row.name}`, share: 0 }),
  listeners: (row) => ({ ...row, kind: 'type', name: `listeners of ${row.name}`, share: 0 }),
  handles: (row) => ({ ...row, kind: 'type', name: `active ${row.name}` }),
  fds: (row) => ({ ...row, kind: 'fd' }),
  sites: ({ name, growth, share }) => ({ kind: 'site', name, growth, growthBytes: growth, share }),
};

/** A row of grown() as a culprit. */
function culpritOf(kind, row) {
  return TOLD[kind](row);
}

/** Of two censuses: what grew, by kind. */
function censusDifference(before, after, least) {
  const difference = {};
  for (const kind of ['types', 'entries', 'listeners', 'handles', 'fds', 'spaces']) {
    difference[kind] = grown(before[kind], after[kind], least);
  }
  return difference;
}

module.exports = { HEAP_LIMIT_BYTES, activeResources, census, censusDifference, culpritOf, fileDescriptors, grown, heapSpaces, nowMs };
