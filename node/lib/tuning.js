'use strict';

// What can be tuned about V8: the sizes it is started with, as advice, and when it
// collects. Flags that take effect after the start are left alone: none of them
// helps clearly (--semi-space-growth-factor of 4 and 8 made for fewer scavenges, and
// not for more throughput, on Node 20 to 26).
const { performance } = require('perf_hooks');
const gc = require('./gc');
const { HEADROOM, Idle, v8Advice } = require('./advice');
const { codes, failure, kindOf, requireNumber } = require('./errors');
const { defineDisposal } = require('./disposal');
const { heapStatistics } = require('./heap');
const { isPlain } = require('./config');
const { MemoryMonitor, TARGET } = require('./monitor');
const { reportOnce } = require('./report');
const { BYTES_PER_MB } = require('./sample');

/* ---- sizes -------------------------------------------------------------------- */

const NODE_MAJOR = Number(process.versions.node.split('.')[0]);
const WORKER_SHARE = 0.25;

function requireOptions(options, names) {
  if (!isPlain(options)) throw failure('ETYPE', `options must be a plain object, not ${kindOf(options)}`);
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw failure('EKEY', `unknown option ${name}, allowed: ${names.join(', ')}`);
  }
}

function requireMonitor(monitor) {
  if (!(monitor instanceof MemoryMonitor)) {
    throw failure('ETYPE', `monitor must be a MemoryMonitor, not ${kindOf(monitor)}`);
  }
  return monitor;
}

/** The cgroup and the machine as a monitor reads them. */
function readLimits(monitor) {
  const { core } = monitor[TARGET];
  core.requireOpen();
  if (core.latest === null) core.pass(false);
  const { cgroupLimitBytes, machineTotalBytes } = core.latest ?? {};
  return [
    [cgroupLimitBytes, 'of the control group'],
    [machineTotalBytes, 'of the machine'],
  ];
}

function limitsFor(monitor) {
  if (monitor !== undefined) {
    const limits = readLimits(requireMonitor(monitor));
    return [...limits, [monitor.maxMemoryMb * BYTES_PER_MB, 'max_memory_mb']];
  }
  const reader = new MemoryMonitor();
  try {
    return readLimits(reader);
  } finally {
    reader.close();
  }
}

/** The nearest limit, and whose it is. */
function limitOf({ limitBytes, monitor }) {
  if (limitBytes !== undefined && limitBytes !== null) {
    requireNumber(limitBytes, 'limitBytes', 1);
    return { bytes: limitBytes, whose: 'as given' };
  }
  const known = limitsFor(monitor).filter(([bytes]) => bytes > 0 && bytes < Infinity);
  if (known.length === 0) return { bytes: null, whose: 'unknown' };
  const [bytes, whose] = known.reduce((least, one) => (one[0] < least[0] ? one : least));
  return { bytes, whose };
}

function adviceFor(limit, headroom, share = 1) {
  requireNumber(headroom, 'headroom', 0);
  requireNumber(share, 'share', 0);
  return v8Advice(limit.bytes ?? NaN, NODE_MAJOR, headroom, share);
}

function reasonsFor({ bytes, whose }, headroom, advice) {
  const reasons = [];
  if (bytes === null) {
    reasons.push('the limit is unknown: the old space is left to V8');
  } else {
    const mb = Math.floor(bytes / BYTES_PER_MB);
    reasons.push(`the limit is ${mb} MB (${whose}), of which ${Math.round(100 * headroom)} % are for other things than V8's heap`);
    if (advice.isCapped) reasons.push(`the old space is not above ${advice.oldSpaceMb} MB, what V8 allows itself where memory is plentiful`);
    if (advice.isTight) reasons.push('the limit is too low for Node to work well');
  }
  reasons.push(`the young generation uses up to ${advice.youngMb} MB, three semi spaces`);
  if (!advice.takesSemiOption) {
    reasons.push('this Node takes --max-semi-space-size on its command line only, not in NODE_OPTIONS');
  }
  return reasons;
}

/** What to start this program with. */
function adviseNodeOptions(options = {}) {
  requireOptions(options, ['limitBytes', 'headroom', 'monitor']);
  const { headroom = HEADROOM } = options;
  const limit = limitOf(options);
  const advice = adviceFor(limit, headroom);
  const words = [];
  if (advice.oldSpaceMb !== null) words.push(`--max-old-space-size=${advice.oldSpaceMb}`);
  if (advice.takesSemiOption) words.push(`--max-semi-space-size=${advice.semiSpaceMb}`);
  return {
    limitBytes: limit.bytes,
    maxOldSpaceSizeMb: advice.oldSpaceMb,
    maxSemiSpaceSizeMb: advice.semiSpaceMb,
    nodeOptions: words.join(' '),
    reasons: reasonsFor(limit, headroom, advice),
  };
}

/** The resourceLimits of a Worker that may use `share` of what V8 may use. */
function adviseWorker(options = {}) {
  requireOptions(options, ['limitBytes', 'headroom', 'monitor', 'share']);
  const { headroom = HEADROOM, share = WORKER_SHARE } = options;
  const { oldSpaceMb, youngMb } = adviceFor(limitOf(options), headroom, share);
  const limits = { maxYoungGenerationSizeMb: youngMb };
  if (oldSpaceMb !== null) limits.maxOldGenerationSizeMb = oldSpaceMb;
  return limits;
}

/* ---- collections at idle ------------------------------------------------------ */

const TICK_MS = 500;
const LOAD_FRESH_MS = 5000; // for so long a load that the host tells counts
const FULL_LONGEST_MS = 50; // a request that comes meanwhile waits for all of it
const YOUNG_EXPECTED_MS = 5;
const GROWN_LEAST_BYTES = 8 * BYTES_PER_MB;
const GROWN_LEAST_PART = 0.1; // of the heap, to be worth a full collection
const FULL_MS_PER_MB = 1; // until one was measured

function fullCount() {
  return gc.gcStats().kinds.markSweepCompact.count;
}

class HeapTuner {
  #monitor;
  #idle = new Idle();
  #timer = null;
  #load = NaN;
  #reportedLoad = NaN;
  #reportedAt = -Infinity;
  #utilization; // of the event loop, at the last tick
  #baseBytes = Infinity; // held after the last collection
  #fullCount = 0; // as V8 counts, at the last tick
  #msPerMb = FULL_MS_PER_MB;
  #done = { young: 0, full: 0, failed: 0, gcMs: 0, freedBytes: 0 };

  constructor(monitor) {
    this.#monitor = requireMonitor(monitor);
  }

  get #core() {
    return this.#monitor[TARGET].core;
  }

  start() {
    this.#core.requireOpen();
    if (this.#timer !== null) return;
    gc.startCounting();
    this.#utilization = performance.eventLoopUtilization();
    this.#fullCount = fullCount();
    this.#baseBytes = gc.heldBytes();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#load = NaN;
  }

  get isRunning() {
    return this.#timer !== null;
  }

  /** From the host, which knows better than the event loop how busy it is. */
  reportLoad(load) {
    requireNumber(load, 'load', 0);
    if (load > 1) throw failure('ERANGE', `load is ${load}, allowed: 0 to 1`);
    this.#reportedLoad = load;
    this.#reportedAt = performance.now();
  }

  report() {
    const load = this.#load;
    return {
      isRunning: this.isRunning,
      isIdle: this.isRunning && this.#idle.isIdle,
      load: Number.isNaN(load) ? null : load,
      collections: { young: this.#done.young, full: this.#done.full, failed: this.#done.failed },
      gcMs: this.#done.gcMs,
      freedBytes: this.#done.freedBytes,
    };
  }

  #tick() {
    if (this.#core.closed) {
      this.stop();
      return;
    }
    try {
      this.#collectIfDue(performance.now());
    } catch (error) {
      this.#done.failed++;
      if (error.code !== codes.ECONFLICT) reportOnce(this, 'collecting at idle', error);
    }
  }

  #measureLoad(nowMs) {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, this.#utilization);
    this.#utilization = now;
    this.#load = nowMs - this.#reportedAt < LOAD_FRESH_MS ? this.#reportedLoad : utilization;
  }

  // What there is more of than after the last collection, ours or V8's own.
  #grownBytes(heldBytes) {
    const count = fullCount();
    if (count !== this.#fullCount) this.#baseBytes = heldBytes;
    this.#fullCount = count;
    this.#baseBytes = Math.min(this.#baseBytes, heldBytes);
    return heldBytes - this.#baseBytes;
  }

  #collectIfDue(nowMs) {
    this.#measureLoad(nowMs);
    const heap = heapStatistics();
    const grown = this.#grownBytes(heap.used_heap_size + heap.external_memory);
    const fullMs = (this.#msPerMb * heap.used_heap_size) / BYTES_PER_MB;
    const isFull = fullMs <= FULL_LONGEST_MS;
    const least = Math.max(GROWN_LEAST_BYTES, isFull ? GROWN_LEAST_PART * this.#baseBytes : 0);
    const expectedMs = isFull ? fullMs : YOUNG_EXPECTED_MS;
    if (this.#idle.due(this.#core.config, nowMs, this.#load, expectedMs, grown >= least)) {
      this.#collect(isFull ? 'full' : 'young', heap.used_heap_size);
    }
  }

  #collect(action, usedBytes) {
    const [step] = this.#core.reclaim([action], 'idle', 0).steps;
    this.#baseBytes = gc.heldBytes();
    if (step === undefined || !step.wasDone) {
      this.#done.failed++;
      return;
    }
    this.#done[action]++;
    this.#done.gcMs += step.gcMs;
    this.#done.freedBytes += step.freedBytes ?? 0;
    if (action === 'full') this.#msPerMb = (step.gcMs * BYTES_PER_MB) / usedBytes;
  }
}

defineDisposal(HeapTuner, 'stop');

module.exports = { HeapTuner, adviseNodeOptions, adviseWorker };
