'use strict';

// MemoryMonitor: watches this process and says what it sees. Sampling goes on in
// a thread of its own; listeners run here, when the event loop is free.
const EventEmitter = require('events');
const native = require('./native');
const gc = require('./gc');
const { segmentPath } = require('./segment');
const { Core } = require('./core');
const { defineDisposal } = require('./disposal');
const { failure, requireFunction, requireName, requireNumber } = require('./errors');
const { alertsOf, describe } = require('./events');
const { BYTES_PER_MB, LENGTH, at, named, statsOf } = require('./sample');
const { Target, optimizeNow } = require('./optimize');
const { callSafely, emitSafely } = require('./report');

const MS_PER_MINUTE = 60000;
const TREND_VALUES = 4;
const TARGET = Symbol('target');

function trendOf(values, offset) {
  return {
    direction: named(native.directionNames, values[offset]),
    mbPerMinute: values[offset + 1],
    tau: values[offset + 2],
    points: values[offset + 3],
  };
}

class MemoryMonitor extends EventEmitter {
  #core;
  #isShared;
  #leakDetector = null;
  #alerts = null;
  #target;
  #managerStats = new Float64Array(7);

  constructor(config = {}, options = {}) {
    super();
    this.#isShared = config instanceof Core;
    this.#core = this.#isShared ? config : new Core(config, options);
    this.#target = new Target(this.#core, this.#isShared ? options.shed : null);
    /** Called with the pressure on each sample at or above pressureThreshold. */
    this.pressureCallbacks = [];
    this.#core.monitor = this;
    this.#core.onEvent = (event) => this.#deliver(event);
    this.#noteInterest();
  }

  /* ---- events ----------------------------------------------------------------- */

  // The core raises, and wakes the event loop for, what somebody listens to; and
  // pressure, which moves buffers too.
  #noteInterest() {
    if (this.#core.closed) return;
    const wanted = native.eventNames.map((name) => this.#wants(name));
    native.monitorSetInterest(
      this.#core.handle,
      wanted.reduce((bits, is, kind) => (is ? bits | (1 << kind) : bits), 0),
    );
  }

  #wants(name) {
    if (this.listenerCount(name) > 0 || name === 'pressure') return true;
    return name === 'alert' && (this.#alerts?.channels.length ?? 0) > 0;
  }

  /** Made when first asked for. */
  get alerts() {
    if (this.#alerts === null) {
      const { Alerts } = require('./alerts');
      this.#alerts = new Alerts(this.#core, () => this.#noteInterest());
    }
    return this.#alerts;
  }

  #deliverAlerts() {
    this.alerts.poke();
    if (this.listenerCount('alert') === 0) return;
    for (const alert of this.alerts.take()) emitSafely(this, 'alert', alert);
  }

  // once() and prependOnceListener() come by here as well.
  on(name, listener) {
    super.on(name, listener);
    this.#noteInterest();
    return this;
  }

  addListener(name, listener) {
    return this.on(name, listener);
  }

  prependListener(name, listener) {
    super.prependListener(name, listener);
    this.#noteInterest();
    return this;
  }

  removeListener(name, listener) {
    super.removeListener(name, listener);
    this.#noteInterest();
    return this;
  }

  off(name, listener) {
    return this.removeListener(name, listener);
  }

  removeAllListeners(...names) {
    super.removeAllListeners(...names);
    this.#noteInterest();
    return this;
  }

  #deliver(event) {
    if (native.eventNames[event.kind] === 'alert') {
      this.#deliverAlerts();
      return;
    }
    const { name, payload } = describe(event, this.#core.settings);
    if (name === 'pressure') this.#tellPressure(payload.pressure);
    if (payload?.finding !== undefined) payload.finding = this.#core.findingAt?.(payload.finding) ?? null;
    if (payload !== null) emitSafely(this, name, payload); // null: a round that is forgotten
  }

  #tellPressure(pressure) {
    for (const callback of [...this.pressureCallbacks]) {
      callSafely(callback, undefined, [pressure], 'a pressure callback');
    }
  }

  registerPressureCallback(callback) {
    requireFunction(callback, 'a pressure callback');
    this.pressureCallbacks.push(callback);
  }

  /* ---- pressure ------------------------------------------------------------------ */

  checkMemoryPressure() {
    this.#core.operations++;
    this.#core.check();
    return this.#core.pressure;
  }

  get latest() {
    return this.#core.latest;
  }

  triggerGc() {
    if (!gc.canCollect()) return 0;
    return this.#core.collect();
  }

  releaseMemory() {
    return this.#core.reclaim(['release'], 'manual', 0);
  }

  get shedCallbacks() {
    return this.#core.shedCallbacks;
  }

  registerShedCallback(callback) {
    requireFunction(callback, 'a shed callback');
    this.#core.shedCallbacks.push(callback);
  }

  getReclaimStats() {
    return this.#core.reclaimStats();
  }

  getReclaimHistory(count = native.roundsKept) {
    return this.#core.rounds(count);
  }

  /* ---- background -------------------------------------------------------------- */

  startMonitoring(intervalMs) {
    if (intervalMs !== undefined) this.#core.update({ 'memory.monitor_interval_ms': intervalMs });
    this.#core.start();
  }

  stopMonitoring() {
    this.#core.stop();
  }

  get segmentPath() {
    return segmentPath();
  }

  get isMonitoring() {
    return this.#core.isRunning;
  }

  /* ---- statistics --------------------------------------------------------------- */

  collectMemoryStats() {
    this.#core.pass(true);
    return this.getCurrentStats();
  }

  getCurrentStats() {
    const row = new Float64Array(LENGTH);
    if (this.#core.latest === null) this.#core.pass(false);
    native.monitorLatest(this.#core.handle, row);
    return statsOf(row);
  }

  getMemoryHistory(minutes) {
    let since = 0;
    if (minutes !== undefined) {
      requireNumber(minutes, 'minutes', 0);
      since = Math.max(0, Math.floor(Date.now() - minutes * MS_PER_MINUTE));
    }
    const held = native.monitorHistory(this.#core.handle, since, null);
    const rows = new Float64Array(LENGTH * Math.max(1, held));
    const count = native.monitorHistory(this.#core.handle, since, rows);
    return Array.from({ length: count }, (_, index) => statsOf(rows, index));
  }

  getMemoryTrends(count = 10) {
    requireNumber(count, 'count', 1);
    const values = new Float64Array(2 * TREND_VALUES);
    native.monitorTrends(this.#core.handle, Math.floor(count), values);
    const rss = trendOf(values, 0);
    const heap = trendOf(values, TREND_VALUES);
    const steeper = Math.abs(heap.mbPerMinute) > Math.abs(rss.mbPerMinute) ? heap : rss;
    return { trend: steeper.direction, mbPerMinute: steeper.mbPerMinute, rss, heap };
  }

  getGCStats() {
    return { ...gc.gcStats(), triggered: this.gcCount };
  }

  getMemoryReport() {
    const health = this.healthCheck();
    return {
      timestamp: Date.now(),
      current: health.stats,
      trends: this.getMemoryTrends(),
      gc: this.getGCStats(),
      thresholds: this.thresholds,
      counters: this.getObjectCounters(),
      history: {
        count: native.monitorHistory(this.#core.handle, 0, null),
        capacity: this.#core.settings.memory.historySize,
      },
      peakMemoryMB: this.peakMemory,
      eventsLost: native.monitorEventsLost(this.#core.handle),
      health,
      recommendations: health.recommendations,
    };
  }

  healthCheck() {
    const issues = new Float64Array(1);
    this.#core.check();
    const status = named(native.healthNames, native.monitorHealth(this.#core.handle, issues));
    const stats = this.getCurrentStats();
    const alerts = alertsOf(issues[0], stats, this.#core.values[at.usage], this.#core.settings);
    return {
      status,
      healthy: status === 'healthy',
      issues: alerts,
      recommendations: alerts.map((alert) => alert.message),
      stats,
      timestamp: stats.timestamp,
    };
  }

  /** Made when first asked for; started by its start() or by a ResourceManager. */
  get leakDetector() {
    if (this.#leakDetector === null) {
      const { LeakDetector } = require('./leak');
      this.#leakDetector = new LeakDetector(undefined, { monitor: this });
    }
    return this.#leakDetector;
  }

  /** For a MemoryOptimizationService. */
  get [TARGET]() {
    return this.#target;
  }

  /* ---- action ------------------------------------------------------------------ */

  optimizeMemory(method = 'gc') {
    if (method !== 'gc' && method !== 'aggressive') {
      throw failure('EINVAL', `method is ${JSON.stringify(method)}, allowed: "gc", "aggressive"`);
    }
    return optimizeNow(this.#target, method);
  }

  /* ---- object counters ------------------------------------------------------------ */

  registerObjectCounter(key) {
    requireName(key, 'the key of an object counter');
    native.counterRegister(this.#core.handle, key);
  }

  incrementObjectCounter(key, delta = 1) {
    requireName(key, 'the key of an object counter');
    const value = native.counterAdd(this.#core.handle, key, delta);
    this.#core.drain();
    return value;
  }

  resetObjectCounter(key) {
    requireName(key, 'the key of an object counter');
    native.counterReset(this.#core.handle, key);
  }

  getObjectCounters() {
    const counters = Object.create(null);
    const value = new Float64Array(1);
    for (let index = 0; ; index++) {
      const key = native.counterAt(this.#core.handle, index, value);
      if (key === false) return counters;
      counters[key] = value[0];
    }
  }

  /* ---- settings -------------------------------------------------------------------- */

  get config() {
    return this.#core.given;
  }

  get settings() {
    return this.#core.settings;
  }

  updateConfig(changes) {
    this.#core.update(changes);
  }

  get thresholds() {
    return this.#core.settings.thresholds;
  }

  updateThresholds(changes) {
    this.#core.update({ thresholds: changes });
  }

  get maxMemoryMb() {
    return this.#core.settings.memory.maxMemoryMb;
  }

  set maxMemoryMb(value) {
    this.#core.update({ 'memory.max_memory_mb': value });
  }

  get pressureThreshold() {
    return this.#core.settings.memoryMonitor.pressureThreshold;
  }

  set pressureThreshold(value) {
    this.#core.update({ 'memory_monitor.pressure_threshold': value });
  }

  get monitoringInterval() {
    return this.#core.settings.memoryMonitor.monitoringInterval;
  }

  set monitoringInterval(value) {
    this.#core.update({ 'memory_monitor.monitoring_interval': value });
  }

  /* ---- what was seen ------------------------------------------------------------------ */

  get operationCount() {
    return this.#core.operations;
  }

  get peakMemory() {
    const peak = this.#core.latest?.peakRssBytes ?? 0;
    return peak / BYTES_PER_MB;
  }

  get gcCount() {
    native.managerStats(this.#core.handle, this.#managerStats);
    return this.#managerStats[5];
  }

  get lastCheckTime() {
    return this.#core.latest?.unixMs ?? 0;
  }

  reset() {
    native.monitorReset(this.#core.handle);
    this.#core.operations = 0;
    this.#core.nextCheck = this.#core.settings.memoryMonitor.monitoringInterval;
  }

  /* ---- end ------------------------------------------------------------------------------ */

  shutdown() {
    this.#leakDetector?.close();
    this.#leakDetector = null;
    this.#alerts?.close();
    if (this.#isShared) this.#core.stop();
    else this.#core.close();
  }

  close() {
    this.shutdown();
  }
}

defineDisposal(MemoryMonitor);

module.exports = { MemoryMonitor, TARGET };
