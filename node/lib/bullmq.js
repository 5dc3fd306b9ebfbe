'use strict';

// BullMQ under memguard: workers that pause while memory is tight, and options for
// sandboxed ones. It needs nothing of BullMQ itself: whatever can pause and resume
// is guarded, a queue of fastq too.
const EventEmitter = require('events');
const path = require('path');
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireFunction, requireNumber } = require('./errors');
const { MemoryOptimizationService } = require('./optimizer');
const { emitSafely, isThenable, reportOnce } = require('./report');
const { BYTES_PER_MB } = require('./sample');
const { adviseNodeOptions, adviseWorker } = require('./tuning');

const START = path.join(__dirname, '../start.js');
const LONGEST_PAUSE_S = 2;
const RESUME_PART = 0.9; // of the pressure at which workers pause
const LOOK_MS = 20;
const STILL_MS = 150; // pressure that does not fall for so long after a reclaim stays
const FALL = 0.01; // pressure
const GAIN = 0.04; // a pause that brings less pressure than this was in vain; after it
// pressure has to grow by as much before the next
const URGENT = 0.95; // pressure; below it pauses take 1 % of the time at most, so that
const REST_PART = 99; // P99 of the jobs' latency is not theirs
const VAIN_PAUSES = 10; // longest pauses for which that holds
const SHARE = 0.25;

function requireOptions(options, names) {
  if (Object(options) !== options) throw failure('ETYPE', `options must be an object, not ${kindOf(options)}`);
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw failure('EKEY', `unknown option ${name}, allowed: ${names.join(', ')}`);
  }
}

function requirePressure(value, what) {
  requireNumber(value, what, 0);
  if (value > 1) throw failure('ERANGE', `${what} is ${value}, allowed: 0 to 1`);
  return value;
}

class WorkerGuard extends EventEmitter {
  #service;
  #monitor;
  #workers = new Set();
  #pauseAt;
  #resumeAt;
  #longestMs;
  #paused = null; // promise while workers are paused
  #vainAbove = 0; // pressure that a pause could not lower
  #vainUntil = 0; // as performance.now()
  #restUntil = 0; // the same
  #stats = { pauses: 0, inVain: 0, pausedMs: 0, longestPauseMs: 0 };
  #isClosed = false;
  #wake = null; // ends the wait between two looks
  #listener = ({ pressure }) => this.#feel(pressure);

  constructor(workers, service, options) {
    super();
    if (!(service instanceof MemoryOptimizationService)) {
      throw failure('ETYPE', `service must be a MemoryOptimizationService, not ${kindOf(service)}`);
    }
    requireOptions(options, ['pauseAt', 'resumeAt', 'longestPause']);
    this.#service = service;
    this.#monitor = service.getMemoryMonitor();
    const { pauseAt = this.#monitor.pressureThreshold, longestPause = LONGEST_PAUSE_S } = options;
    this.#pauseAt = requirePressure(pauseAt, 'pauseAt');
    this.#resumeAt = requirePressure(options.resumeAt ?? RESUME_PART * pauseAt, 'resumeAt');
    if (this.#resumeAt > this.#pauseAt) {
      throw failure('ERANGE', `resumeAt is ${this.#resumeAt}, allowed: 0 to pauseAt, which is ${this.#pauseAt}`);
    }
    requireNumber(longestPause, 'longestPause', 0);
    this.#longestMs = longestPause * 1000;
    for (const worker of Array.isArray(workers) ? workers : [workers]) this.add(worker);
    this.#monitor.on('pressure', this.#listener);
  }

  add(worker) {
    if (this.#isClosed) throw failure('ECLOSED', 'WorkerGuard used after close()');
    for (const name of ['pause', 'resume']) requireFunction(worker?.[name], `${name} of a worker`);
    this.#workers.add(worker);
    if (this.#paused !== null) this.#tell(worker, 'pause');
  }

  /** It is resumed if it was paused. @returns whether it was guarded. */
  remove(worker) {
    if (!this.#workers.delete(worker)) return false;
    if (this.#paused !== null) this.#tell(worker, 'resume');
    return true;
  }

  #feel(pressure) {
    if (this.#paused !== null || this.#isClosed || pressure < this.#pauseAt || this.#workers.size === 0) return;
    if (pressure < URGENT && performance.now() < this.#restUntil) return;
    if (pressure < this.#vainAbove && performance.now() < this.#vainUntil) return;
    this.#paused = this.#relieve(pressure)
      .catch((error) => reportOnce(WorkerGuard, 'a pause of workers', error))
      .then(() => {
        this.#paused = null;
      });
  }

  // Jobs at work go on: a pause does not wait for them, BullMQ's Redis may be away.
  #tell(worker, name) {
    try {
      const result = name === 'pause' ? worker.pause(true) : worker.resume();
      if (isThenable(result)) result.then(undefined, (error) => reportOnce(worker[name], `${name} of a worker`, error));
    } catch (error) {
      reportOnce(worker[name], `${name} of a worker`, error);
    }
  }

  async #relieve(pressure) {
    const beganMs = performance.now();
    this.#stats.pauses++;
    for (const worker of this.#workers) this.#tell(worker, 'pause');
    emitSafely(this, 'paused', { pressure });
    let left;
    try {
      left = await this.#untilLower(beganMs + this.#longestMs);
    } finally {
      for (const worker of this.#workers) this.#tell(worker, 'resume');
    }
    const durationMs = performance.now() - beganMs;
    this.#note(pressure, left, durationMs);
    emitSafely(this, 'resumed', { pressure: left, durationMs });
  }

  #note(before, left, durationMs) {
    this.#stats.pausedMs += durationMs;
    this.#stats.longestPauseMs = Math.max(this.#stats.longestPauseMs, durationMs);
    this.#restUntil = performance.now() + REST_PART * durationMs;
    if (left <= Math.max(this.#resumeAt, before - GAIN)) return;
    // What is left is in use: to wait for it again would only cost time.
    this.#stats.inVain++;
    this.#vainAbove = left + GAIN;
    this.#vainUntil = performance.now() + VAIN_PAUSES * this.#longestMs;
  }

  /** Reclaims, then waits for jobs at work to end as long as that helps.
   *  @returns the pressure at the end. */
  async #untilLower(endMs) {
    await this.#service.performOptimization('scheduled');
    let pressure = this.#monitor.checkMemoryPressure();
    let lowest = pressure;
    let stillMs = performance.now() + STILL_MS;
    while (pressure > this.#resumeAt && performance.now() < Math.min(endMs, stillMs) && !this.#isClosed) {
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, LOOK_MS);
      });
      if (this.#isClosed) break;
      pressure = this.#monitor.checkMemoryPressure();
      if (pressure > lowest - FALL) continue;
      lowest = pressure;
      stillMs = performance.now() + STILL_MS;
    }
    return pressure;
  }

  get isPaused() {
    return this.#paused !== null;
  }

  getStats() {
    return { ...this.#stats, workers: this.#workers.size, isPaused: this.isPaused };
  }

  /** Workers that are paused are resumed. Idempotent. */
  async close() {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#monitor.off('pressure', this.#listener);
      this.#wake?.();
    }
    await this.#paused;
  }
}

defineDisposal(WorkerGuard);

/** Has `workers` pause while memory is tight. */
function guardWorkers(workers, service, options = {}) {
  return new WorkerGuard(workers, service, options);
}

function words(...parts) {
  return parts.filter(Boolean).join(' ');
}

/** Options of a BullMQ Worker whose processor is a file. */
function workerOptions(options = {}) {
  requireOptions(options, ['env', 'limitBytes', 'monitor', 'share', 'useWorkerThreads']);
  const { env = process.env, share = SHARE, useWorkerThreads = false, ...rest } = options;
  requireNumber(share, 'share', 0);
  if (!(share > 0 && share <= 1)) throw failure('ERANGE', `share is ${share}, allowed: above 0, to 1`);
  if (useWorkerThreads) {
    // Workers are part of this process: its memguard watches them. BullMQ would hand
    // on flags of this process that a Worker refuses; left out, they are inherited.
    const resourceLimits = adviseWorker({ ...rest, share });
    return { useWorkerThreads, workerThreadsOptions: { resourceLimits, env, execArgv: undefined } };
  }
  const { limitBytes } = adviseNodeOptions(rest);
  const ours = { NODE_OPTIONS: words(env.NODE_OPTIONS, `--require ${JSON.stringify(START)}`) };
  if (limitBytes !== null) {
    const part = Math.max(BYTES_PER_MB, Math.floor(limitBytes * share));
    ours.NODE_OPTIONS = words(ours.NODE_OPTIONS, adviseNodeOptions({ limitBytes: part }).nodeOptions);
    ours.MEMGUARD_MAX_MEMORY_MB = String(Math.floor(part / BYTES_PER_MB));
  }
  return { useWorkerThreads, workerForkOptions: { env: { ...env, ...ours } } };
}

module.exports = { WorkerGuard, guardWorkers, workerOptions };
