'use strict';

// The queue in Redis: BullMQ. Jobs of the kinds that are to be apart go to a second
// queue, whose processor runs in a process (or thread) of its own.
const path = require('node:path');
const { Queue, Worker } = require('bullmq');
const Redis = require('ioredis');
const { ManagedConnectionPool, bullmq } = require('../../index.js');

const CONNECT_MS = 10000;
const COMMAND_MS = 5000; // Redis that is slower is an error of the call
const RETRY_MS = 500;
const STALLED_MOST = 20; // times that the work on a job may be lost with its worker
const POOL_CONNECTIONS = 4;
const POOL_IDLE_S = 60;

const retryStrategy = (times) => Math.min(50 * times, 1000);

function failure(text) {
  return Object.assign(new Error(text), { code: 'EREDIS' });
}

async function within(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(failure(`no answer within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A pool of connections for results. */
function connectionPool(url, onError = () => {}) {
  const make = async () => {
    const redis = new Redis(url, {
      commandTimeout: COMMAND_MS,
      lazyConnect: true,
      maxRetriesPerRequest: 0,
      retryStrategy: null, // a connection that broke is replaced by the pool
    });
    redis.on('error', onError);
    await redis.connect();
    return redis;
  };
  return new ManagedConnectionPool(make, {
    maxConnections: POOL_CONNECTIONS,
    idleTimeout: POOL_IDLE_S,
    close: (redis) => redis.disconnect(),
    isClosed: (redis) => redis.status !== 'ready',
  });
}

class RedisQueue {
  #url;
  #queues = new Map(); // kind to queue; null: the others
  workers = [];
  #onError;

  /** @param options.apart kinds for the sandbox; onDone(id) when such a job is done;
   *  onError(error) when Redis is away. */
  constructor(work, { url, name, concurrency, apart = [], useWorkerThreads = false, stalledMs = 30000, onDone, onError }) {
    this.#url = url;
    this.#onError = onError;
    const shared = {
      connection: { url, retryStrategy, maxRetriesPerRequest: null },
      concurrency,
      lockDuration: 2 * stalledMs,
      stalledInterval: stalledMs,
      maxStalledCount: STALLED_MOST,
      runRetryDelay: RETRY_MS,
      removeOnComplete: { count: 0 },
      autorun: false,
    };
    const main = (job) => work({ id: job.id, kind: job.name, data: job.data });
    this.#open(name, [null], main, shared);
    if (apart.length === 0) return;
    const sandbox = bullmq.workerOptions({
      useWorkerThreads,
      env: { ...process.env, QUEUE_SERVICE_REDIS: url, QUEUE_SERVICE_NAME: name },
    });
    const worker = this.#open(`${name}-apart`, apart, path.join(__dirname, 'sandboxed.js'), {
      ...shared,
      ...sandbox,
      concurrency: 1,
    });
    worker.on('completed', (job) => onDone(job.id));
  }

  #open(name, kinds, processor, options) {
    const connection = { url: this.#url, retryStrategy, commandTimeout: COMMAND_MS, maxRetriesPerRequest: 1 };
    const queue = new Queue(name, { connection, defaultJobOptions: { removeOnComplete: true } });
    const worker = new Worker(name, processor, options);
    for (const part of [queue, worker]) part.on('error', (error) => this.#onError(error));
    for (const kind of kinds) this.#queues.set(kind, queue);
    this.workers.push(worker);
    return worker;
  }

  #queueOf(kind) {
    return this.#queues.get(kind) ?? this.#queues.get(null);
  }

  /** @throws {Error} EREDIS */
  async ready() {
    const parts = [...new Set(this.#queues.values()), ...this.workers];
    try {
      await within(Promise.all(parts.map((part) => part.waitUntilReady())), CONNECT_MS);
    } catch (error) {
      const { host } = new URL(this.#url);
      throw failure(`Redis at ${host}: ${error.message || error.code}`);
    }
    for (const worker of this.workers) worker.run().catch((error) => this.#onError(error));
  }

  /** Settles when Redis has acknowledged it. To add the same id again is harmless. */
  async add({ id, kind, data }) {
    await within(this.#queueOf(kind).add(kind, data, { jobId: id }), 2 * COMMAND_MS);
  }

  /** Jobs at work are finished; those that wait stay in Redis for the next worker. */
  async close({ force = false } = {}) {
    await Promise.all(this.workers.map((worker) => worker.close(force)));
    await Promise.all([...new Set(this.#queues.values())].map((queue) => queue.close()));
  }
}

module.exports = { RedisQueue, connectionPool };
