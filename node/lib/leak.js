'use strict';

// LeakDetector: looks for leaks while a program runs. The core takes the numbers in
// with each sample and judges them on its own thread; what only this isolate can
// tell - a collection, a census, the places that allocate - it asks for, and is
// answered here, on the event loop; what answers is loaded with the first question.
// Nothing of it keeps a process alive.
const EventEmitter = require('events');
const gc = require('./gc');
const { defineDisposal } = require('./disposal');
const { codes, failure, kindOf, requireNumber } = require('./errors');
const { Detector } = require('./detector');
const { MemoryMonitor, TARGET } = require('./monitor');
const { LeakFinding, textOf } = require('./leak_finding');
const { emitSafely, reportOnce, warn } = require('./report');

const BYTES_PER_MB = 1048576;
const MS_PER_SECOND = 1000;
const CENSUS_HEAP_MB = 64;
const BLOCKS = 16; // of a window; the number of handles is told once in each
const LEAST_TELL_MS = 50;
const EVENTS = ['leak:suspected', 'leak:warning', 'leak:critical', 'leak:withdrawn'];
const FD_EVENT = 'fd:warning';
const ANSWERED = ['collect', 'census_base', 'census']; // by an Inquiry

function known(number) {
  return Number.isNaN(number) ? null : number;
}

/** What the core found, for the program. */
function findingOf(found, absent) {
  const { signal, growth, growthPerMinute, severity, unit, toLimitMs, culprits } = found;
  return new LeakFinding({
    signal,
    tier: found.isCritical && found.tier !== 'none' ? 'critical' : found.tier,
    severity,
    growth,
    growthPerMinute,
    unit,
    timeToLimitSeconds: Number.isFinite(toLimitMs) ? toLimitMs / MS_PER_SECOND : null,
    since: found.sinceUnixMs,
    culprits: culprits.map(({ growthBytes, count, ...rest }) => ({ ...rest, growthBytes: growthBytes || null, count: known(count) })),
    advice: found.advice,
    absent,
  });
}

class LeakDetector extends EventEmitter {
  #core;
  #detector = null;
  #heapLimitBytes;
  #inquiry = null; // made when there is something to be asked
  #listeners = [];
  #monitor;
  #owns;
  #startedMonitor = false;
  #timer = null;

  constructor(config = undefined, options = {}) {
    super();
    const { monitor, censusHeapMb = CENSUS_HEAP_MB, ...sources } = options;
    requireNumber(censusHeapMb, 'censusHeapMb', 0);
    this.#owns = monitor === undefined;
    if (!this.#owns && !(monitor instanceof MemoryMonitor)) {
      throw failure('ETYPE', `monitor must be a MemoryMonitor, not ${kindOf(monitor)}`);
    }
    this.#monitor = this.#owns ? new MemoryMonitor(config, sources) : monitor;
    try {
      if (!this.#owns && config !== undefined) this.#monitor.updateConfig(config);
      this.#core = this.#monitor[TARGET].core;
      this.#detector = new Detector(this.#core, ANSWERED);
    } catch (error) {
      if (this.#owns) this.#monitor.close();
      throw error;
    }
    this.#detector.setActive(false);
    this.#core.findingAt = (number) => this.#findingAt(number);
    this.#heapLimitBytes = censusHeapMb * BYTES_PER_MB;
  }

  #asked() {
    const { Inquiry } = require('./leak_inquiry');
    this.#inquiry ??= new Inquiry(this.#core, this.#detector, this.#heapLimitBytes);
    return this.#inquiry;
  }

  #findingOf(found) {
    return findingOf(found, this.#inquiry?.absent ?? {});
  }

  #findingAt(number) {
    const found = this.#detector.finding(number);
    return found === undefined ? null : this.#findingOf(found);
  }

  #requireOpen() {
    if (this.#detector === null) throw failure('ECLOSED', 'LeakDetector used after close()');
  }

  /* ---- life ----------------------------------------------------------------------- */

  start() {
    this.#requireOpen();
    if (this.#timer !== null) return;
    this.#listen();
    this.#detector.setActive(true);
    this.#core.onDetect = () => this.#answer();
    this.#startedMonitor = !this.#monitor.isMonitoring;
    try {
      if (this.#startedMonitor) this.#monitor.startMonitoring();
    } catch (error) {
      // No thread to be had: what the program checks by itself goes on working.
      if (error.code !== codes.ESYS) {
        this.stop();
        throw error;
      }
      warn(`leaks are not looked for in the background: ${error.message}`, codes.ESYS);
    }
    gc.startCounting();
    this.#startTimer();
  }

  #listen() {
    // Object counters raise leak:warning and leak:critical too, without a finding.
    this.#listeners = EVENTS.map((name) => [name, ({ finding }) => {
      if (finding) emitSafely(this, name, finding);
    }]);
    this.#listeners.push([FD_EVENT, (payload) => emitSafely(this, FD_EVENT, payload)]);
    for (const [name, listener] of this.#listeners) this.#monitor.on(name, listener);
  }

  // The event loop of a program that waits hears of no sample.
  #startTimer() {
    const { leakWindow, timeScale } = this.#core.settings.leak;
    const everyMs = Math.max(LEAST_TELL_MS, (leakWindow * MS_PER_SECOND) / BLOCKS / timeScale);
    this.#timer = setInterval(() => this.#look(), Math.min(everyMs, 2 ** 31 - 1));
    this.#timer.unref();
    this.#look();
  }

  #look() {
    if (this.#detector === null || this.#core.closed) return;
    const resources = process.getActiveResourcesInfo?.();
    if (resources !== undefined) this.#detector.tell('handles', resources.length);
    this.#answer();
  }

  #answer() {
    if (this.#detector === null || this.#core.closed) return;
    try {
      const asked = this.#detector.request();
      if (asked.requests.length > 0) this.#asked().answer(asked);
    } catch (error) {
      reportOnce(LeakDetector, 'looking for what leaks', error);
    }
  }

  stop() {
    if (this.#detector === null || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#core.onDetect = null;
    this.#inquiry?.end();
    if (!this.#core.closed) this.#detector.setActive(false);
    for (const [name, listener] of this.#listeners) this.#monitor.off(name, listener);
    this.#listeners = [];
    if (this.#startedMonitor) this.#monitor.stopMonitoring();
    this.#startedMonitor = false;
  }

  get isRunning() {
    return this.#timer !== null && !this.#core.closed && this.#detector.active;
  }

  close() {
    if (this.#detector === null) return;
    this.stop();
    this.#detector.close();
    this.#core.findingAt = null;
    this.#detector = null;
    if (this.#owns) this.#monitor.close();
  }

  get isClosed() {
    return this.#detector === null;
  }

  /* ---- what was found ----------------------------------------------------------------- */

  /** What grows now, oldest first. */
  get findings() {
    this.#requireOpen();
    return this.#detector.findings().map((found) => this.#findingOf(found));
  }

  /** Reads and judges now, instead of when it is due. */
  check() {
    this.#requireOpen();
    this.#core.pass(false);
    this.#detector.check();
    this.#answer();
    this.#core.drain();
    return this.findings;
  }

  report() {
    return textOf(this.findings);
  }

  /** Rows for a report in JSON. */
  asDict() {
    return this.findings.map((finding) => finding.asDict());
  }

  /** What it did so far. */
  stats() {
    this.#requireOpen();
    const stats = Object.entries(this.#detector.stats()).map(([name, value]) => [name, known(value)]);
    return { ...Object.fromEntries(stats), ...this.#asked().stats() };
  }

  get monitor() {
    return this.#monitor;
  }
}

defineDisposal(LeakDetector);

module.exports = { LeakDetector };
