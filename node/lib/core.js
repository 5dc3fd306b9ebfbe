'use strict';

// One manager of the core, as MemoryMonitor, BufferManager and ResourceManager
// share it. The core mirrors each sample into `page`, so that reading the latest
// one and asking whether a buffer is full need no call into the addon.
const native = require('./native');
const config = require('./config');
const poolLife = require('./pool_life');
const reclaim = require('./reclaim');
const segment = require('./segment');
const { failure } = require('./errors');
const { heapStatistics } = require('./heap');
const { hold, letGo } = require('./live');
const { LENGTH, at, sampleOf } = require('./sample');
const { reportLongPauses, startCounting, tellsHeap } = require('./gc');

const SEQUENCE = 0; // words of the page
const GENERATION = 1;
const PAGE_HEADER_BYTES = 8;
const READ_ATTEMPTS = 100;
const EVENTS_PER_TURN = 64;
const HEAP_FRESH_MS = 20;
const ARRAY_BUFFERS_FRESH_MS = 5000; // Node reads the resident set with them

// What follows the sample in a row of monitorNextEvent().
const EVENT_FIELDS = [
  'kind',
  'severity',
  'previous',
  'issues',
  'growthIsHeap',
  'mbPerMinute',
  'count',
  'threshold',
  'round',
  'finding',
  'growthPerMinute',
];

const eventRow = new Float64Array(LENGTH + EVENT_FIELDS.length);
const running = new Set();

// Called by the addon on this thread when events wait.
function dispatch() {
  for (const core of [...running]) core.afterPass();
}

// Pauses belong to the isolate, settings to a monitor: the strictest one counts.
function strictestLongPause(core) {
  let least = core.settings.memory.longPause;
  for (const other of running) least = Math.min(least, other.settings.memory.longPause);
  return least;
}

class Core {
  constructor(mapping, options) {
    this.given = mapping ?? {};
    this.config = config.resolve(mapping, options);
    this.settings = config.settingsOf(this.config);
    const page = new ArrayBuffer(native.pageBytes);
    this.words = new Int32Array(page, 0, 2);
    this.values = new Float64Array(page, PAGE_HEADER_BYTES);
    reclaim.open();
    this.handle = native.managerOpen(this.config, page, dispatch);
    this.operations = 0;
    this.nextCheck = this.settings.memoryMonitor.monitoringInterval;
    this.shedCallbacks = []; // (report) => void, when memory is unreclaimable
    this.onEvent = null; // (event) => void
    this.onPass = null; // (pressure) => void
    this.findingAt = null; // (number) => LeakFinding, of a leak detector
    this.onDetect = null; // () => void, after each pass: a leak detector may ask
    this.onChange = null; // () => void, the settings have changed
    this.monitor = null; // the MemoryMonitor over it
    this.closed = false;
    this.draining = false;
    this.heapTimer = null; // where collections do not tell the heap
    this.heapReadAt = 0;
    this.arrayBuffers = 0;
    this.arrayBuffersReadAt = 0;
    this.sequence = Atomics.load(this.words, SEQUENCE);
    this.sample = null;
  }

  /* ---- the page ------------------------------------------------------------ */

  /** The latest sample, frozen; null before the first. */
  get latest() {
    if (Atomics.load(this.words, SEQUENCE) === this.sequence) return this.sample;
    return this.readLatest();
  }

  // The sampler may write meanwhile: a copy counts only if the sequence is even
  // and the same before and after.
  readLatest() {
    const row = new Float64Array(LENGTH);
    for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
      const sequence = Atomics.load(this.words, SEQUENCE);
      if ((sequence & 1) !== 0) continue;
      row.set(this.values);
      if (Atomics.load(this.words, SEQUENCE) !== sequence) continue;
      this.sequence = sequence;
      this.sample = row[at.number] > 0 ? sampleOf(row) : null;
      break;
    }
    return this.sample;
  }

  /** Pressure of the latest sample, 0 to 1; 0 before the first. */
  get pressure() {
    return this.values[at.pressure];
  }

  get generation() {
    return Atomics.load(this.words, GENERATION);
  }

  /* ---- passes --------------------------------------------------------------- */

  // V8 tells its numbers on this thread only. They are handed over each time this
  // thread comes by, and by the addon after each collection: an idle heap does not
  // change, and waking the event loop for every sample would cost more than all
  // the rest.
  feedHeap(buffersFreshMs = ARRAY_BUFFERS_FRESH_MS) {
    const now = Date.now();
    if (Math.abs(now - this.arrayBuffersReadAt) >= buffersFreshMs) {
      this.arrayBuffers = process.memoryUsage().arrayBuffers;
      this.arrayBuffersReadAt = now;
    }
    const heap = heapStatistics();
    native.monitorSetHeap(
      this.handle,
      heap.used_heap_size,
      heap.total_heap_size,
      heap.heap_size_limit,
      heap.external_memory,
      this.arrayBuffers,
      heap.total_physical_size,
      heap.malloced_memory,
      heap.total_allocated_bytes ?? NaN,
    );
    this.heapReadAt = now;
  }

  refreshHeap() {
    if (Math.abs(Date.now() - this.heapReadAt) >= HEAP_FRESH_MS) this.feedHeap();
  }

  /** One pass now. @param record also append to the history. */
  pass(record) {
    this.feedHeap(0);
    native.monitorPass(this.handle, record);
    reclaim.poll(this);
    this.afterPass();
  }

  /** A pass unless the latest sample is very young. */
  check() {
    this.refreshHeap();
    native.monitorCheck(this.handle);
    reclaim.poll(this);
    this.afterPass();
  }

  /** The check that is due after monitoringInterval operations. */
  checkOperations() {
    this.nextCheck = this.operations + this.settings.memoryMonitor.monitoringInterval;
    this.refreshHeap();
    native.monitorGlance(this.handle);
    reclaim.poll(this);
    this.afterPass();
  }

  afterPass() {
    if (this.closed) return;
    this.refreshHeap();
    this.onPass?.(this.pressure);
    poolLife.press();
    this.drain();
    this.onDetect?.();
  }

  /* ---- events ---------------------------------------------------------------- */

  nextEvent() {
    const counter = native.monitorNextEvent(this.handle, eventRow);
    if (counter === false) return null;
    const event = { counter, row: eventRow.slice(0, LENGTH) };
    EVENT_FIELDS.forEach((field, index) => {
      event[field] = eventRow[LENGTH + index];
    });
    return event;
  }

  /** Takes waiting events. What listeners raise meanwhile is taken too, up to a
   *  bound: the rest comes in a later turn of the event loop. Long pauses are
   *  reported here as well. */
  drain() {
    reportLongPauses(strictestLongPause(this));
    segment.tellProblem();
    if (this.draining || this.onEvent === null) return;
    this.draining = true;
    try {
      for (let count = 0; count < EVENTS_PER_TURN && !this.closed; count++) {
        const event = this.nextEvent();
        if (event === null) return;
        this.onEvent(event);
      }
    } finally {
      this.draining = false;
    }
    if (!this.closed) setImmediate(() => this.closed || this.drain()).unref();
  }

  /* ---- reclaiming memory ------------------------------------------------------ */

  requireOpen() {
    if (this.closed) throw failure('ECLOSED', 'used after close()');
  }

  /** Does `actions` now, on this thread. @returns the round. */
  reclaim(actions, reason, share) {
    this.requireOpen();
    this.feedHeap(0);
    const round = reclaim.reclaim(this, actions, reason, share);
    this.feedHeap(0);
    return round;
  }

  /** A full collection. @returns bytes it freed. */
  collect() {
    this.requireOpen();
    return reclaim.collect(this);
  }

  /** The newest rounds of this isolate, oldest first. */
  rounds(max) {
    return reclaim.rounds(max);
  }

  reclaimStats() {
    return reclaim.reclaimStats();
  }

  /* ---- life ------------------------------------------------------------------ */

  get isRunning() {
    return !this.closed && native.monitorIsRunning(this.handle);
  }

  start() {
    startCounting();
    const isTold = tellsHeap();
    this.feedHeap(0);
    segment.begin();
    native.monitorStart(this.handle);
    segment.listen();
    if (native.monitorIsRunning(this.handle) && !running.has(this)) {
      running.add(this);
      hold(this, () => this.stop());
      reclaim.enter(this);
      poolLife.follow(this);
      if (!isTold) this.startHeapTimer();
    }
    this.drain();
  }

  startHeapTimer() {
    this.heapTimer = setInterval(() => this.refreshHeap(), this.settings.memory.sampleInterval * 1000);
    this.heapTimer.unref();
  }

  stop() {
    if (this.closed) return;
    native.monitorStop(this.handle);
    clearInterval(this.heapTimer);
    running.delete(this);
    reclaim.leave(this);
    poolLife.unfollow(this);
    letGo(this);
    this.drain();
  }

  /** Puts `changes` in force, whole or not at all. */
  update(changes) {
    const next = config.changed(this.config, changes);
    native.managerConfigure(this.handle, next);
    this.config = next;
    this.settings = config.settingsOf(next);
    this.nextCheck = this.operations + this.settings.memoryMonitor.monitoringInterval;
    if (running.has(this)) reportLongPauses(strictestLongPause(this));
    this.onChange?.();
  }

  close() {
    if (this.closed) return;
    this.stop();
    this.closed = true;
    native.managerClose(this.handle);
  }
}

/** The monitor that has been running for longest. */
function oldestMonitor() {
  for (const core of running) if (core.monitor !== null) return core.monitor;
  throw failure('EABSENT', 'no monitor runs');
}

module.exports = { Core, GENERATION, oldestMonitor };
