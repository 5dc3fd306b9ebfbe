'use strict';

// The jobs of queue.py: queue.js WAY REDIS_URL NAME JOBS [MAX_MEMORY_MB]
//
// guarded: the queue service of node/examples as it is. plain: the same BullMQ
// worker, handlers and batches with nothing of memguard: arrays, Buffers, no pauses.
// own: what memguard itself takes in a process that has worked and waits. Prints one JSON object at its end.
const fs = require('fs');
const path = require('path');
const { createHistogram } = require('perf_hooks');
const { setTimeout: sleep } = require('timers/promises');

const EXAMPLE = path.join(__dirname, '../../node/examples/queue_service');
const MEMGUARD = path.join(__dirname, '../../node');
const OUTSTANDING = 200;
const CONCURRENCY = 32;
const BATCH = 200;
const [way, redis, name, jobs, maxMemoryMb] = process.argv.slice(2);

/** CPU seconds of memguard's own threads, the sampler and its worker. */
function memguardSeconds() {
  let seconds = 0;
  for (const task of fs.readdirSync('/proc/self/task')) {
    const folder = `/proc/self/task/${task}`;
    if (!fs.readFileSync(`${folder}/comm`, 'utf8').startsWith('memguard')) continue;
    seconds += Number(fs.readFileSync(`${folder}/schedstat`, 'utf8').split(' ')[0]) / 1e9;
  }
  return seconds;
}

function plainManager() {
  const items = [];
  let sink;
  return {
    createBuffer: (_name, body) => {
      sink = body;
      return items;
    },
    shouldFlushBuffer: () => items.length >= BATCH,
    flushBuffer: () => (items.length === 0 ? [] : sink(items.splice(0))),
  };
}

const plainPool = {
  rentMany: (count, bytes) => Array.from({ length: count }, () => ({ buffer: Buffer.allocUnsafe(bytes), return() {} })),
};

/** As much of QueueService as the workload uses. */
async function openPlain() {
  const { RedisQueue, connectionPool } = require(`${EXAMPLE}/redis_queue`);
  const { Results, redisWriter } = require(`${EXAMPLE}/results`);
  const { handle } = require(`${EXAMPLE}/jobs`);
  const connections = connectionPool(redis);
  const results = new Results(plainManager(), redisWriter(connections, `${name}:results`));
  const addedMs = new Map();
  const latency = createHistogram();
  const work = async (job) => {
    await results.put(handle(job, { pool: plainPool, leaks: false }));
    latency.record(Math.max(1, Math.round(1000 * (performance.now() - addedMs.get(job.id)))));
    addedMs.delete(job.id);
  };
  const queue = new RedisQueue(work, { url: redis, name, concurrency: CONCURRENCY, onError: () => {} });
  await queue.ready();
  return {
    get outstanding() {
      return addedMs.size;
    },
    add(kind, data, { id }) {
      addedMs.set(id, performance.now());
      return queue.add({ id, kind, data });
    },
    getStats: () => ({
      duplicates: results.duplicates,
      pauses: 0,
      p50Ms: latency.percentile(50) / 1000,
      p99Ms: latency.percentile(99) / 1000,
    }),
    async close() {
      await queue.close();
      await connections.close();
    },
  };
}

async function openGuarded() {
  const { QueueService } = require(`${EXAMPLE}/service`);
  const service = new QueueService({ redis, name, concurrency: CONCURRENCY, maxMemoryMb: Number(maxMemoryMb) });
  return service.open();
}

async function run() {
  const { jobOf } = require(`${EXAMPLE}/jobs`);
  const service = await (way === 'guarded' ? openGuarded() : openPlain());
  const beganMs = performance.now();
  const beganCpu = process.cpuUsage();
  for (let number = 0; number < Number(jobs); number++) {
    while (service.outstanding >= OUTSTANDING) await sleep(1);
    const { kind, data } = jobOf(number);
    await service.add(kind, data, { id: `job-${number}` });
  }
  while (service.outstanding > 0) await sleep(5);
  const seconds = (performance.now() - beganMs) / 1000;
  const { user, system } = process.cpuUsage(beganCpu);
  const cpuUs = (user + system) / Number(jobs);
  const { duplicates, pauses, p50Ms, p99Ms } = service.getStats();
  const said = { seconds, cpuUs, duplicates, pauses, p50Ms, p99Ms, memguardSeconds: memguardSeconds() };
  await service.close();
  console.log(JSON.stringify({ ...said, peakMb: process.resourceUsage().maxRSS / 1024 }));
}

/** Garbage of a program at work, so that its young generation is resident whether
 *  memguard is loaded or not. */
function churn() {
  for (let round = 0; round < 40; round++) Array.from({ length: 20_000 }, (_, number) => ({ number, list: [number] }));
}

async function own() {
  require('v8').setFlagsFromString('--expose-gc');
  const collect = require('vm').runInNewContext('gc');
  const settled = async () => {
    churn();
    for (let round = 0; round < 5; round++) {
      collect();
      await sleep(300); // V8 gives pages back when it is idle
    }
    const text = fs.readFileSync('/proc/self/smaps_rollup', 'utf8');
    return ['Private_Dirty', 'Rss'].map((field) => Number(text.match(new RegExp(`${field}:\\s+(\\d+)`))[1]) / 1024);
  };
  const [dirtyMb, rssMb] = await settled();
  const { MemoryOptimizationService, ResourceManager } = require(MEMGUARD);
  const manager = new ResourceManager();
  const service = new MemoryOptimizationService({}, { monitor: manager.memoryMonitor });
  service.start();
  const { memoryMonitor } = manager;
  memoryMonitor.startMonitoring(100);
  await sleep(500); // some samples
  const [dirtyAfterMb, rssAfterMb] = await settled();
  console.log(JSON.stringify({ dirtyMb: dirtyAfterMb - dirtyMb, rssMb: rssAfterMb - rssMb }));
  await service.close();
  await manager.close();
}

(way === 'own' ? own() : run()).catch((error) => {
  console.error(error);
  process.exit(1);
});
