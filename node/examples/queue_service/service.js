'use strict';

// A queue service under memguard, on BullMQ and Redis or on a queue in this process.
// Each job that add() accepted has one result. QueueMemory gives the service its
// memory side: optimizeMemory(), getMemoryStatus() and so on, and the events
// 'memory:*'. Of its own it emits 'paused', 'resumed', 'job:done', 'redis:error'.
const crypto = require('node:crypto');
const { EventEmitter, once } = require('node:events');
const { createHistogram } = require('node:perf_hooks');
const { MemoryOptimizationService, QueueMemory, ResourceManager, bullmq } = require('../../index.js');
const { checkJob, handle } = require('./jobs');
const { MemoryQueue } = require('./memory_queue');
const { Results, openFile, redisWriter } = require('./results');

const BUFFER_RESULTS = 200;

class QueueService extends EventEmitter {
  #options;
  #manager;
  #memory;
  #queueMemory;
  #guard;
  #queue;
  #results;
  #connections = null; // the pool, with Redis
  #output = null; // the file, without
  #outstanding = new Map(); // id to { addedMs, isAccepted }
  #latency = createHistogram(); // of jobs, in microseconds
  #closing = null;
  #counts = { accepted: 0, done: 0, refused: 0, redisErrors: 0 };
  #leaks = new Set();

  /**
   * @param options.redis URL; without it jobs stay in this process
   * @param options.name of the queue in Redis; results go to the hash NAME:results
   * @param options.output file for results, without Redis; none: they are only counted
   * @param options.maxMemoryMb, concurrency
   * @param options.leaks switches the handler on that leaks
   * @param options.apart kinds of jobs for a sandboxed worker; useWorkerThreads
   * @param options.stalledMs after which the work of a lost worker is done again
   */
  constructor({ maxMemoryMb = 256, concurrency = 16, leaks = false, ...rest } = {}) {
    super();
    this.#options = { name: 'queue-service', concurrency, leaks, ...rest };
    this.#manager = new ResourceManager({
      memory: { gcInterval: '1s' },
      memoryMonitor: { maxMemoryMb, monitoringInterval: 20 },
      bufferManager: { defaultBufferSize: BUFFER_RESULTS, maxBufferSize: 4 * BUFFER_RESULTS },
    });
    this.#memory = new MemoryOptimizationService({}, { monitor: this.#manager.memoryMonitor });
    this.#queueMemory = new QueueMemory(this.#memory);
    this.#queueMemory.attach(this);
  }

  /** Connects, and begins to work. @throws {Error} EREDIS, or of the file. */
  async open() {
    try {
      await (this.#options.redis === undefined ? this.#openHere() : this.#openRedis());
    } catch (error) {
      await this.close({ force: true });
      throw error;
    }
    this.#memory.registerCleanup(() => this.#results.flush());
    this.#memory.start();
    this.#guard = bullmq.guardWorkers(this.#queue.workers, this.#memory);
    for (const name of ['paused', 'resumed']) this.#guard.on(name, (event) => this.emit(name, event));
    for (const name of ['leak:warning', 'leak:critical']) {
      this.#manager.leakDetector.on(name, (finding) => this.#noteLeak(finding));
    }
    return this;
  }

  async #openHere() {
    const { output, concurrency } = this.#options;
    if (output !== undefined) this.#output = await openFile(output);
    this.#results = new Results(this.#manager, this.#output?.write ?? (async () => 0));
    this.#queue = new MemoryQueue((job) => this.#work(job), { concurrency });
  }

  async #openRedis() {
    const { RedisQueue, connectionPool } = require('./redis_queue'); // BullMQ is needed here only
    const { redis: url, name } = this.#options;
    const onError = (error) => this.#redisFailed(error);
    this.#connections = connectionPool(url, onError);
    this.#memory.setConnectionPool(this.#connections);
    this.#results = new Results(this.#manager, redisWriter(this.#connections, `${name}:results`));
    const onDone = (id) => this.#finish(id);
    this.#queue = new RedisQueue((job) => this.#work(job), { ...this.#options, url, onDone, onError });
    await this.#queue.ready();
  }

  #noteLeak({ signal, culprits }) {
    for (const { name } of culprits) this.#leaks.add(`${signal}: ${name}`);
  }

  #redisFailed(error) {
    this.#counts.redisErrors++;
    this.emit('redis:error', error);
  }

  /* ---- jobs ---------------------------------------------------------------------- */

  /** Settles with the id when the queue has accepted it. A call that failed may be
   *  repeated with its id: the job has one result.
   *  @throws {TypeError} EKIND, EDATA, ELARGE; {Error} what the queue says. */
  async add(kind, data, { id = crypto.randomUUID() } = {}) {
    if (this.#closing !== null) throw Object.assign(new Error('the service is closed'), { code: 'ECLOSED' });
    const job = this.#outstanding.get(id) ?? { addedMs: performance.now(), isAccepted: false };
    try {
      checkJob(kind, data);
      this.#outstanding.set(id, job);
      await this.#queue.add({ id, kind, data });
    } catch (error) {
      this.#counts.refused++;
      if (!job.isAccepted && this.#outstanding.get(id) === job) this.#outstanding.delete(id);
      throw error;
    }
    if (!job.isAccepted) this.#accept(id, job);
    return id;
  }

  #accept(id, job) {
    job.isAccepted = true;
    this.#counts.accepted++;
    if (!this.#outstanding.has(id)) this.#counts.done++; // before its acknowledgement was here
  }

  async #work(job) {
    const { leaks } = this.#options;
    const result = handle(job, { pool: this.#manager.pool, leaks });
    await this.#results.put(result);
    this.#finish(job.id);
  }

  #finish(id) {
    const job = this.#outstanding.get(id);
    if (job === undefined) return; // of another producer, or a second time
    this.#outstanding.delete(id);
    if (job.isAccepted) this.#counts.done++;
    this.#latency.record(Math.max(1, Math.round(1000 * (performance.now() - job.addedMs))));
    this.emit('job:done', id);
  }

  /** Accepted here and not done yet. */
  get outstanding() {
    return this.#outstanding.size;
  }

  /** Settles when all that was accepted here is done. */
  async drained() {
    while (this.#outstanding.size > 0) await once(this, 'job:done');
  }

  /** Whether the handler that leaks does so, from the next job on. */
  setLeaking(leaks) {
    this.#options.leaks = leaks;
  }

  pause() {
    for (const worker of this.#queue.workers) worker.pause(true);
  }

  resume() {
    for (const worker of this.#queue.workers) worker.resume();
  }

  /* ---- what it did ---------------------------------------------------------------- */

  get monitor() {
    return this.#manager.memoryMonitor;
  }

  get leaks() {
    return [...this.#leaks];
  }

  /** What the detector finds now. */
  get findings() {
    return this.#manager.leakDetector.findings.map(({ signal, tier, culprits }) => ({
      signal, tier, culprits: culprits.map(({ name }) => name),
    }));
  }

  getStats() {
    const { batches, duplicates, waiting, failures } = this.#results;
    const { pauses, pausedMs, isPaused } = this.#guard.getStats();
    return {
      ...this.#counts,
      outstanding: this.#outstanding.size,
      batches,
      duplicates,
      unwritten: waiting,
      failedBatches: failures,
      pauses,
      pausedMs,
      isPaused,
      p50Ms: this.#latency.percentile(50) / 1000,
      p99Ms: this.#latency.percentile(99) / 1000,
      connections: this.#connections?.getStats() ?? null,
    };
  }

  /* ---- end ------------------------------------------------------------------------ */

  /** Takes no more jobs, finishes those at work and writes their results; in this
   *  process those that wait as well. With `force` (Redis is gone) nothing is waited
   *  for: what Redis has acknowledged is there for the next worker. Idempotent. */
  close({ force = false } = {}) {
    this.#closing ??= this.#end(force);
    return this.#closing;
  }

  async #end(force) {
    await this.#guard?.close();
    await this.#queue?.close({ force });
    await this.#connections?.close();
    await this.#memory.close();
    this.#queueMemory.detach();
    await this.#manager.close();
    await this.#output?.close();
  }
}

module.exports = { QueueService };
