'use strict';

// MemoryOptimizationService: gives memory back when asked, and by itself when the
// core says that it is time. The reclaim engine acts natively and needs no service;
// this adds what only the host can give up, and tells what was brought.
const EventEmitter = require('events');
const native = require('./native');
const { codes, failure, kindOf, requireFunction, requireName, requireNumber } = require('./errors');
const { defineDisposal } = require('./disposal');
const { isPlain } = require('./config');
const { MemoryMonitor, TARGET } = require('./monitor');
const { Optimizer, freedBetween, nameOf, reasons, reportOf, rounds, step, strategies, strategyFor } = require('./optimize');
const { BYTES_PER_MB } = require('./sample');
const { emitSafely, isThenable, warn } = require('./report');

const KEPT = native.optimizeReports; // reports and snapshots
const TRIMMERS = ['trim', 'releaseIdle', 'closeIdle', 'prune']; // of a connection pool
const BUILT_IN = Symbol('built in');
const REASONS = reasons.filter((reason) => reason !== 'none');
const TIMED_OUT = Symbol('timed out');

/* ---- arguments ------------------------------------------------------------------ */

function allowed(names) {
  return names.map((name) => `"${name}"`).join(', ');
}

function flagOf(options, name) {
  const value = options[name] ?? false;
  if (typeof value !== 'boolean') throw failure('ETYPE', `${name} must be a boolean, not ${kindOf(value)}`);
  return value;
}

function requireKeys(options, what, names) {
  if (!isPlain(options)) throw failure('ETYPE', `${what} must be a plain object, not ${kindOf(options)}`);
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw failure('EKEY', `unknown option ${name}, allowed: ${names.join(', ')}`);
  }
}

function requestOf(reason, options) {
  if (!REASONS.includes(reason)) {
    throw failure('EINVAL', `reason is ${typeof reason === 'string' ? `"${reason}"` : kindOf(reason)}, allowed: ${allowed(REASONS)}`);
  }
  requireKeys(options, 'options', ['aggressive', 'force']);
  return { reason, aggressive: flagOf(options, 'aggressive'), force: flagOf(options, 'force'), waits: true };
}

function lastOf(list, count) {
  if (count === undefined) return [...list];
  requireNumber(count, 'count', 0);
  return count < 1 ? [] : list.slice(-Math.floor(count));
}

function keep(list, item) {
  list.push(item);
  if (list.length > KEPT) list.shift();
}

/** The numbers of an object of the host, and nothing else of it. */
function numbersOf(value) {
  if (Object(value) !== value) return null;
  return Object.fromEntries(Object.entries(value).filter(([, number]) => typeof number === 'number'));
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

/* ---- the service ---------------------------------------------------------------- */

class MemoryOptimizationService extends EventEmitter {
  #monitor;
  #target;
  #owns;
  #optimizer = new Optimizer();
  #strategies = [{ name: BUILT_IN, priority: 0 }];
  #cleanups = [];
  #pool = null; // { name, run, isBusy, stats }
  #reports = [];
  #snapshots = [];
  #running = null; // promise of a report
  #waiting = null; // { request, promise }: the one to run next
  #startedMonitor = false;
  #listening = null; // [event, listener] while started
  #engineActedAt = -1; // as performance.now()
  #closed = false;

  constructor(config = {}, options = {}) {
    super();
    const { monitor, ...sources } = options;
    this.#owns = monitor === undefined;
    if (!this.#owns && !(monitor instanceof MemoryMonitor)) {
      throw failure('ETYPE', `monitor must be a MemoryMonitor, not ${kindOf(monitor)}`);
    }
    this.#monitor = this.#owns ? new MemoryMonitor(config, sources) : monitor;
    if (!this.#owns) this.#monitor.updateConfig(config);
    this.#target = this.#monitor[TARGET];
  }

  #emit(name, payload) {
    emitSafely(this, name, payload);
  }

  #requireOpen() {
    if (this.#closed) throw failure('ECLOSED', 'MemoryOptimizationService used after close()');
  }

  /* ---- life ---------------------------------------------------------------------- */

  start() {
    this.#requireOpen();
    if (this.#listening !== null) return;
    this.#listening = this.#listeners();
    for (const [name, listener] of this.#listening) this.#monitor.on(name, listener);
    this.#startedMonitor = !this.#monitor.isMonitoring;
    try {
      this.#monitor.startMonitoring();
    } catch (error) {
      // No thread to be had: what the program checks by itself goes on working.
      if (error.code !== codes.ESYS) {
        this.#silence();
        throw error;
      }
      warn(`memory is not sampled in the background: ${error.message}`, codes.ESYS);
    }
    this.#emit('service:started', { config: this.getConfig() });
  }

  #listeners() {
    const look = () => this.#consider(false);
    const leak = (level) => (event) => this.#emit('alert:memory-leak', { level, ...event });
    return [
      ['stats:collected', look],
      ['level:changed', look],
      ['pressure', look],
      ['threshold:exceeded', (event) => {
        this.#emit('alert:memory-threshold', event);
        this.#consider(false);
      }],
      ['trend:rapid-growth', (event) => {
        this.#emit('alert:rapid-growth', event);
        this.#consider(true);
      }],
      ['leak:warning', leak('warning')],
      ['leak:critical', leak('critical')],
      ['optimization:automatic', () => {
        this.#engineActedAt = performance.now();
      }],
    ];
  }

  #silence() {
    for (const [name, listener] of this.#listening) this.#monitor.off(name, listener);
    this.#listening = null;
  }

  stop() {
    if (this.#listening !== null) {
      this.#silence();
      if (this.#startedMonitor) this.#monitor.stopMonitoring();
      this.#emit('service:stopped');
    }
    return this.#settled();
  }

  async #settled() {
    while (this.#running !== null || this.#waiting !== null) await (this.#running ?? this.#waiting.promise);
  }

  async close() {
    if (this.#closed) return;
    const settled = this.stop();
    this.#closed = true;
    await settled;
    if (this.#owns) this.#monitor.close();
    this.removeAllListeners();
  }

  /* ---- what the host adds ---------------------------------------------------------- */

  registerStrategy(name, strategy, options = {}) {
    requireName(name, 'the name of a strategy');
    requireFunction(strategy, 'a strategy');
    requireKeys(options, 'options', ['priority']);
    const { priority = 0 } = options;
    requireNumber(priority, 'priority', -Number.MAX_VALUE);
    if (strategies.includes(name) || this.#strategies.some((other) => other.name === name)) {
      throw failure('EEXISTS', `there is a strategy "${name}" already`);
    }
    this.#strategies.push({ name, kind: 'strategy', priority, run: strategy, isBusy: false });
    this.#strategies.sort((a, b) => b.priority - a.priority);
  }

  unregisterStrategy(name) {
    const index = this.#strategies.findIndex((other) => other.name === name);
    if (index >= 0) this.#strategies.splice(index, 1);
    return index >= 0;
  }

  registerCleanup(callback) {
    requireFunction(callback, 'a clean-up callback');
    this.#cleanups.push({ name: callback.name || 'cleanup', kind: 'cleanup', run: callback, isBusy: false });
  }

  unregisterCleanup(callback) {
    const index = this.#cleanups.findIndex((other) => other.run === callback);
    if (index >= 0) this.#cleanups.splice(index, 1);
    return index >= 0;
  }

  setConnectionPool(pool) {
    if (pool === null || pool === undefined) {
      this.#pool = null;
      return;
    }
    requireFunction(pool.getStats, 'getStats of a connection pool');
    const trimmer = TRIMMERS.find((name) => typeof pool[name] === 'function');
    this.#pool = {
      name: 'connection-pool',
      kind: 'pool',
      run: trimmer === undefined ? null : () => pool[trimmer](),
      isBusy: false,
      stats: () => pool.getStats(),
    };
  }

  /* ---- by itself --------------------------------------------------------------------- */

  #consider(isGrowing) {
    const { latest } = this.#monitor;
    if (latest === null || this.#running !== null || this.#closed) return;
    const nowMs = performance.now();
    const reason = this.#optimizer.due(this.#target.core.config, {
      nowMs,
      usage: latest.usage,
      level: latest.level,
      isGrowing,
      timeToLimitMs: this.#target.timeToLimitMs(),
      engineActedMs: this.#engineActedAt < 0 ? -1 : nowMs - this.#engineActedAt,
    });
    if (reason !== 'none') this.#enter({ reason, aggressive: false, force: false, waits: false });
  }

  /* ---- one at a time ------------------------------------------------------------------ */

  async performOptimization(reason = 'manual', options = {}) {
    this.#requireOpen();
    return this.#enter(requestOf(reason, options));
  }

  #enter(request) {
    const { reason, force, aggressive } = request;
    if (!this.#optimizer.may(reason, force, performance.now())) return this.#refuse(request);
    if (this.#running === null && this.#waiting === null) return this.#launch(request);
    if (!force) return this.#running ?? this.#waiting.promise;
    // However many force one: they share the next.
    if (this.#waiting === null) this.#waiting = { request, promise: this.#running.then(() => this.#launchWaiting()) };
    else this.#waiting.request.aggressive ||= aggressive;
    return this.#waiting.promise;
  }

  #launchWaiting() {
    const { request } = this.#waiting;
    this.#waiting = null;
    return this.#launch(request);
  }

  #launch(request) {
    this.#running = this.#run(request);
    return this.#running;
  }

  async #refuse({ reason, aggressive }) {
    const stats = this.#monitor.getCurrentStats();
    const report = reportOf(reason, strategyFor(reason, aggressive), performance.now(), stats, stats, []);
    return { ...report, refused: 'degraded' };
  }

  async #run(request) {
    const method = strategyFor(request.reason, request.aggressive);
    const beganMs = performance.now();
    // Whoever asks, asks a promise: nothing happens before it is there.
    await null;
    this.#emit('optimization:started', { timestamp: Date.now(), reason: request.reason, method });
    let report;
    try {
      report = await this.#carryOut(method, request, beganMs);
    } catch (error) {
      report = this.#failed(method, request, beganMs, error);
    }
    const freed = report.freedMemoryMB * BYTES_PER_MB;
    this.#optimizer.done(request.reason, report.success, freed, report.durationMs, performance.now());
    keep(this.#reports, report);
    this.#running = null;
    this.#emit(report.success ? 'optimization:completed' : 'optimization:failed', report);
    return report;
  }

  // The monitor itself failed: it was closed meanwhile, or memory is short.
  #failed(method, { reason }, beganMs, error) {
    return {
      timestamp: Date.now(),
      reason,
      method,
      success: false,
      durationMs: performance.now() - beganMs,
      freedMemoryMB: 0,
      beforeStats: null,
      afterStats: null,
      optimizations: [],
      error: nameOf(error),
    };
  }

  /* ---- what it does -------------------------------------------------------------------- */

  async #carryOut(method, request, beganMs) {
    const before = this.#target.measure();
    const steps = [];
    for (const strategy of [...this.#strategies]) {
      if (strategy.name === BUILT_IN) await this.#builtIn(method, request, steps);
      else await this.#guard(strategy, request, steps);
    }
    return reportOf(request.reason, method, beganMs, before, this.#target.measure(), steps);
  }

  async #builtIn(method, request, steps) {
    for (const plan of rounds(this.#target, method, request.reason, steps)) {
      if (plan.cleans) {
        for (const cleanup of [...this.#cleanups]) await this.#guard(cleanup, request, steps);
        if (this.#pool?.run) await this.#guard(this.#pool, request, steps);
      }
      // What finalizers hold is let go of between turns of the event loop.
      await nextTurn();
    }
  }

  // Code of the host: what it throws, and that it never ends, stays in here.
  async #guard(entry, request, steps) {
    if (entry.isBusy) {
      steps.push({ ...step(entry.name, entry.kind, 'skipped', 0), error: 'busy' });
      return;
    }
    const before = this.#target.measure();
    const beganMs = performance.now();
    const { outcome, error } = await this.#attempt(entry, request);
    const durationMs = performance.now() - beganMs;
    const done = step(entry.name, entry.kind, outcome, durationMs, freedBetween(before, this.#target.measure()));
    if (error !== undefined) done.error = error;
    steps.push(done);
  }

  async #attempt(entry, { reason, aggressive, waits }) {
    const abort = new AbortController();
    const context = { reason, aggressive, signal: abort.signal };
    let timer;
    try {
      const result = entry.run(context);
      if (isThenable(result)) {
        const timeout = new Promise((resolve) => {
          timer = setTimeout(resolve, this.#monitor.settings.memory.strategyTimeout * 1000, TIMED_OUT);
          if (!waits) timer.unref();
        });
        if ((await Promise.race([this.#occupy(entry, result), timeout])) === TIMED_OUT) {
          abort.abort();
          this.#complain(entry, 'did not end in time');
          return { outcome: 'timeout' };
        }
      }
      return { outcome: 'done' };
    } catch (error) {
      this.#complain(entry, `failed: ${nameOf(error)}`);
      return { outcome: 'failed', error: nameOf(error) };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Not begun again before it has ended. */
  async #occupy(entry, result) {
    entry.isBusy = true;
    try {
      await result;
    } finally {
      entry.isBusy = false;
    }
  }

  // Once per entry, and by the name of an error: its text may hold data.
  #complain(entry, what) {
    if (entry.hasFailed) return;
    entry.hasFailed = true;
    warn(`${entry.kind} "${entry.name}" of an optimization ${what} (told once)`, codes.EHOST);
  }

  /* ---- what was seen ---------------------------------------------------------------------- */

  createUsageSnapshot() {
    this.#requireOpen();
    const stats = this.#target.measure();
    const { usage, domain, level } = this.#monitor.latest;
    const { count, totalMs, maxMs } = this.#monitor.getGCStats();
    const snapshot = {
      timestamp: stats.timestamp,
      stats,
      usage,
      domain,
      level,
      gc: { count, totalMs, maxMs },
      counters: this.#monitor.getObjectCounters(),
      connectionPool: this.#poolStats(),
    };
    keep(this.#snapshots, snapshot);
    return snapshot;
  }

  #poolStats() {
    if (this.#pool === null) return null;
    try {
      return numbersOf(this.#pool.stats());
    } catch (error) {
      this.#complain(this.#pool, `failed: ${nameOf(error)}`);
      return null;
    }
  }

  getUsageSnapshots(count) {
    return lastOf(this.#snapshots, count);
  }

  getOptimizationHistory(count) {
    return lastOf(this.#reports, count);
  }

  getServiceStats() {
    const { state } = this.#optimizer;
    const { total } = state;
    return {
      isRunning: this.#listening !== null,
      isOptimizing: this.#running !== null,
      total,
      succeeded: state.succeeded,
      failed: total - state.succeeded,
      refused: state.refused,
      successRate: total === 0 ? null : state.succeeded / total,
      byReason: Object.fromEntries(REASONS.map((reason) => [reason, state[reason]])),
      freedMemoryMB: state.freedBytes / BYTES_PER_MB,
      averageFreedMemoryMB: total === 0 ? null : state.freedBytes / BYTES_PER_MB / total,
      averageDurationMs: total === 0 ? null : state.tookMs / total,
      maxDurationMs: state.longestMs,
      failuresInRow: state.failures,
      degraded: state.isDegraded === 1,
      resumesInMs: state.isDegraded === 1 ? Math.max(0, state.resumeMs - performance.now()) : null,
      lastOptimization: this.#reports.length === 0 ? null : this.#reports[this.#reports.length - 1].timestamp,
      strategies: this.#strategies.map(({ name }) => name).filter((name) => name !== BUILT_IN),
      cleanups: this.#cleanups.length,
      connectionPool: this.#poolStats(),
      snapshots: this.#snapshots.length,
    };
  }

  healthCheck() {
    const health = this.#monitor.healthCheck();
    const degraded = this.#optimizer.state.isDegraded === 1;
    if (!degraded) return { ...health, degraded };
    return {
      ...health,
      degraded,
      healthy: false,
      status: health.status === 'healthy' ? 'warning' : health.status,
      recommendations: [
        ...health.recommendations,
        'Optimizations failed repeatedly and are paused: see getOptimizationHistory() for which step failed.',
      ],
    };
  }

  getMemoryMonitor() {
    return this.#monitor;
  }

  getConfig() {
    const { memory } = this.#monitor.settings;
    return {
      enabled: memory.enabled,
      autoOptimization: memory.enableAutoGc,
      threshold: memory.highWaterMarkPercent,
      intervalMs: memory.monitorInterval * 1000,
      maxHeapSizeMB: memory.maxHeapMb,
      maxRSSSizeMB: memory.maxMemoryMb,
    };
  }

  updateConfig(changes) {
    this.#requireOpen();
    this.#monitor.updateConfig(changes);
  }
}

defineDisposal(MemoryOptimizationService);

module.exports = { MemoryOptimizationService };
