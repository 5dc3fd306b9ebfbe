'use strict';

// memguard's readings as instruments of OpenTelemetry, under the names of its semantic
// conventions (1.44) where it has one. Read when a reader collects; nothing runs in
// between. What is not known here is not observed.
const native = require('../native');
const { failure, kindOf } = require('../errors');
const { optional } = require('../optional');
const { samplesByFamily } = require('./families');
const { processInfo, rssBytes } = require('../process');
const { reportOnce, textOf } = require('../report');

const US_PER_SECOND = 1e6;

/* ---- what is read ------------------------------------------------------------- */

// One reading of all sources.
class Reading {
  constructor() {
    this.info = processInfo();
    this.usage = process.resourceUsage();
    this.spaces = require('v8').getHeapSpaceStatistics();
    this.families = samplesByFamily();
  }

  /** Samples of a metric of memguard, each with the attributes that `labels` names. */
  family(name, labels = {}) {
    return (this.families.get(name) ?? []).map((sample) => {
      const attributes = Object.entries(labels).map(([label, attribute]) => [attribute, sample.labels[label]]);
      return [sample.value, Object.fromEntries(attributes)];
    });
  }

  space(field) {
    return this.spaces.map((space) => [space[field], { 'v8js.heap.space.name': space.space_name }]);
  }
}

const counter = 'createObservableCounter';
const gauge = 'createObservableGauge';
const upDown = 'createObservableUpDownCounter';

// [name, maker, unit, description, (reading) => [[value, attributes], ...]]
const INSTRUMENTS = [
  ['process.memory.usage', upDown, 'By', 'Resident set.', () => [[rssBytes()]]],
  ['process.memory.virtual', upDown, 'By', 'Mapped address space.',
    (now) => now.family('memguard_process_virtual_memory_bytes')],
  ['process.unix.file_descriptor.count', upDown, '{file_descriptor}', 'Open file descriptors.',
    (now) => now.family('memguard_process_open_fds')],
  ['process.thread.count', upDown, '{thread}', 'Threads.', (now) => [[now.info.threads]]],
  ['process.cpu.time', counter, 's', 'CPU time.', ({ usage }) => [
    [usage.userCPUTime / US_PER_SECOND, { 'cpu.mode': 'user' }],
    [usage.systemCPUTime / US_PER_SECOND, { 'cpu.mode': 'system' }],
  ]],
  ['process.paging.faults', counter, '{fault}', 'Page faults.', ({ usage }) => [
    [usage.majorPageFault, { 'system.paging.fault.type': 'major' }],
    [usage.minorPageFault, { 'system.paging.fault.type': 'minor' }],
  ]],
  ['process.context_switches', counter, '{context_switch}', 'Context switches.', ({ usage }) => [
    [usage.voluntaryContextSwitches, { 'process.context_switch.type': 'voluntary' }],
    [usage.involuntaryContextSwitches, { 'process.context_switch.type': 'involuntary' }],
  ]],
  ['process.uptime', gauge, 's', 'Time since the process started.', () => [[process.uptime()]]],
  ['v8js.memory.heap.used', upDown, 'By', 'Used part of a heap space.', (now) => now.space('space_used_size')],
  ['v8js.memory.heap.space.size', upDown, 'By', 'Size of a heap space.', (now) => now.space('space_size')],
  ['v8js.memory.heap.space.available_size', upDown, 'By', 'Free part of a heap space.',
    (now) => now.space('space_available_size')],
  ['v8js.memory.heap.space.physical_size', upDown, 'By', 'Committed part of a heap space.',
    (now) => now.space('physical_space_size')],
  ['memguard.memory.usage', gauge, '1', 'Use of the limit that is nearest.',
    (now) => now.family('memguard_memory_usage_ratio')],
  ['memguard.memory.limit', upDown, 'By', 'Limits of memory.',
    (now) => now.family('memguard_memory_limit_bytes', { domain: 'memguard.domain' })],
  ['memguard.memory.level', gauge, '1', '1 for the level in force, 0 for the others.',
    (now) => now.family('memguard_memory_level', { level: 'memguard.level' })],
  ['memguard.reclaim.rounds', counter, '{round}', 'Rounds of reclaiming memory.',
    (now) => now.family('memguard_reclaim_rounds_total')],
  ['memguard.reclaim.freed', counter, 'By', 'What these rounds freed, measured.',
    (now) => now.family('memguard_reclaim_freed_bytes_total')],
  ['memguard.alerts', counter, '{alert}', 'Alerts raised, repeats included.', (now) => now.family('memguard_alerts_total')],
];

/* ---- pauses --------------------------------------------------------------------- */

const PAUSES = 'memguard_gc_pause_seconds';
const LONGEST = 'memguard_gc_pause_longest_seconds';
const GC_TYPES = {
  scavenge: 'minor',
  minor_mark_sweep: 'minor',
  mark_sweep_compact: 'major',
  incremental_marking: 'incremental',
  weak_callbacks: 'weakcb',
};
const NO_PAUSES = { value: 0, buckets: [] };

/** What came to a histogram, as single values: as many as came, with the same sum, and
 *  each inside its bucket. A histogram of OpenTelemetry cannot be observed, only told
 *  value by value.
 *  @param before the sample of last time. @param longest any value so far. */
function newValues(before, now, longest) {
  // Counted from the start again?
  if (before.buckets.some(({ count }, index) => count > now.buckets[index].count)) return newValues(NO_PAUSES, now, longest);
  const parts = [];
  let told = 0;
  let low = 0;
  now.buckets.forEach(({ le, count }, index) => {
    const upTo = count - (before.buckets[index]?.count ?? 0);
    if (upTo > told) parts.push({ added: upTo - told, low, high: le === Infinity ? Math.max(low, longest) : le });
    told = upTo;
    low = le;
  });
  const least = parts.reduce((sum, part) => sum + part.added * part.low, 0);
  const room = parts.reduce((sum, part) => sum + part.added * (part.high - part.low), 0);
  const share = room === 0 ? 0 : (now.value - before.value - least) / room;
  return parts.flatMap((part) => Array(part.added).fill(Math.max(0, part.low + share * (part.high - part.low))));
}

class Pauses {
  #last = new Map(); // histograms by kind
  #instrument;

  constructor(meter) {
    this.#instrument = meter.createHistogram('v8js.gc.duration', {
      unit: 's',
      description: 'Duration of garbage collections.',
      advice: { explicitBucketBoundaries: [0.01, 0.1, 1, 10] },
    });
    this.tell(new Reading(), false); // what was before is not told
  }

  tell(now, isTold = true) {
    const longest = new Map(now.family(LONGEST, { kind: 'kind' }).map(([value, { kind }]) => [kind, value]));
    for (const sample of now.families.get(PAUSES) ?? []) {
      const { kind } = sample.labels;
      const values = newValues(this.#last.get(kind) ?? NO_PAUSES, sample, longest.get(kind) ?? 0);
      this.#last.set(kind, sample);
      if (!isTold) continue;
      for (const value of values) this.#instrument.record(value, { 'v8js.gc.type': GC_TYPES[kind] ?? kind });
    }
  }
}

/* ---- registration ------------------------------------------------------------------ */

const bridges = new WeakMap(); // by what was given

class OpenTelemetryBridge {
  #source; // null: unregistered
  #meter;
  #pauses;
  #readers = new Map(); // by instrument
  #callback = (result) => this.#observe(result);

  constructor(source, meter) {
    this.#source = source;
    this.#meter = meter;
    for (const [name, maker, unit, description, read] of INSTRUMENTS) {
      this.#readers.set(meter[maker](name, { unit, description }), read);
    }
    this.#pauses = new Pauses(meter);
    meter.addBatchObservableCallback(this.#callback, [...this.#readers.keys()]);
  }

  #observe(result) {
    try {
      const now = new Reading();
      for (const [instrument, read] of this.#readers) {
        for (const [value, attributes] of read(now)) {
          if (Number.isFinite(value)) result.observe(instrument, value, attributes);
        }
      }
      this.#pauses.tell(now);
    } catch (error) {
      reportOnce(OpenTelemetryBridge, 'observing for OpenTelemetry', error);
    }
  }

  get isRegistered() {
    return this.#source !== null;
  }

  unregister() {
    if (this.#source === null) return;
    bridges.delete(this.#source);
    this.#source = null;
    try {
      this.#meter.removeBatchObservableCallback(this.#callback, [...this.#readers.keys()]);
    } catch (error) {
      reportOnce(OpenTelemetryBridge, 'removing a callback of OpenTelemetry', error);
    }
  }
}

function meterOf(source) {
  if (typeof source?.getMeter === 'function') return source.getMeter('memguard', native.version);
  if (typeof source?.addBatchObservableCallback === 'function') return source;
  throw failure('ETYPE', `expected a MeterProvider or a Meter of OpenTelemetry, not ${kindOf(source)}`);
}

/** Observes for a MeterProvider or Meter; by default for the global provider. */
function registerOpenTelemetry(given) {
  const source = given ?? optional('@opentelemetry/api', 'registerOpenTelemetry()').metrics.getMeterProvider();
  const there = bridges.get(Object(source));
  if (there !== undefined) return there;
  const meter = meterOf(source);
  try {
    bridges.set(source, new OpenTelemetryBridge(source, meter));
  } catch (cause) {
    throw failure('EHOST', `the meter of OpenTelemetry failed: ${textOf(cause)}`);
  }
  return bridges.get(source);
}

module.exports = { newValues, registerOpenTelemetry };
