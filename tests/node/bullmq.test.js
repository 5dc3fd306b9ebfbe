'use strict';

// Workers that pause under pressure, and a BullMQ service in this process whose Redis
// is killed, slow, full.
const fastq = require('fastq');
const Redis = require('ioredis');
const { MemoryOptimizationService, bullmq } = require('../..');
const { QueueService } = require('../../node/examples/queue_service/service');
const { rejection, removeTemporary, temporaryDirectory, thrown, until } = require('./helpers');
const { startProxy, startRedis, stopServers } = require('./servers');

const LONG_MS = 150000;

afterAll(async () => {
  await stopServers();
  removeTemporary();
});

describe('guardWorkers', () => {
  let service;
  let guard;

  beforeEach(() => {
    // More memory is in use than that, whatever is given back.
    service = new MemoryOptimizationService({ maxMemoryMb: 2, sampleInterval: '20ms', autoOptimization: false });
    service.start();
  });

  afterEach(async () => {
    await guard?.close();
    await service.close();
  });

  function recorder() {
    const calls = [];
    return { calls, pause: (...values) => calls.push(['pause', ...values]), resume: () => calls.push(['resume']) };
  }

  test('workers pause, the service optimizes, workers resume, also in vain', async () => {
    const workers = [recorder(), recorder()];
    const events = [];
    guard = bullmq.guardWorkers(workers, service, { longestPause: 5 });
    for (const name of ['paused', 'resumed']) guard.on(name, ({ pressure }) => events.push([name, pressure]));
    await until(() => guard.getStats().pauses === 1 && !guard.isPaused, 50);
    expect(events).toEqual([['paused', 1], ['resumed', 1]]);
    for (const { calls } of workers) expect(calls).toEqual([['pause', true], ['resume']]);
    expect(guard.getStats()).toEqual({
      pauses: 1, inVain: 1, workers: 2, isPaused: false,
      pausedMs: expect.any(Number), longestPauseMs: expect.any(Number),
    });
    expect(service.getOptimizationHistory().map(({ reason }) => reason)).toContain('scheduled');
  });

  test('close() resumes what is paused, and a worker that joins or leaves follows', async () => {
    const [first, second] = [recorder(), recorder()];
    let goOn;
    service.registerCleanup(() => new Promise((resolve) => (goOn = resolve)));
    guard = bullmq.guardWorkers(first, service);
    await until(() => guard.isPaused && goOn !== undefined, 50);
    guard.add(second);
    expect(second.calls).toEqual([['pause', true]]);
    expect(guard.remove(second)).toBe(true);
    expect(guard.remove(second)).toBe(false);
    expect(second.calls).toEqual([['pause', true], ['resume']]);
    const closed = guard.close();
    goOn();
    await closed;
    expect(first.calls).toEqual([['pause', true], ['resume']]);
    expect(guard.isPaused).toBe(false);
    expect(thrown(() => guard.add(second)).code).toBe('ERR_MEMGUARD_CLOSED');
  });

  test('a worker that fails to pause does not stop the others', async () => {
    const good = recorder();
    const bad = {
      pause() {
        throw new Error('no');
      },
      resume: () => Promise.reject(new Error('never')),
    };
    guard = bullmq.guardWorkers([bad, good], service);
    await until(() => good.calls.length === 2, 50);
    expect(good.calls).toEqual([['pause', true], ['resume']]);
  });

  test('a queue of fastq is a worker, too', async () => {
    const done = [];
    const queue = fastq.promise(async (job) => void done.push(job), 1);
    guard = bullmq.guardWorkers(queue, service);
    await until(() => guard.isPaused, 50);
    const jobs = [1, 2, 3].map((job) => queue.push(job));
    await Promise.all(jobs);
    expect(done).toEqual([1, 2, 3]);
  });

  test.each([
    [[{}], {}, 'ERR_MEMGUARD_TYPE', 'pause of a worker must be a function, not undefined'],
    [null, {}, 'ERR_MEMGUARD_TYPE', 'pause of a worker must be a function, not undefined'],
    [[], { pauseAt: 2 }, 'ERR_MEMGUARD_RANGE', 'pauseAt is 2, allowed: 0 to 1'],
    [[], { resumeAt: 0.9 }, 'ERR_MEMGUARD_RANGE', 'resumeAt is 0.9, allowed: 0 to pauseAt, which is 0.8'],
    [[], { longestPause: '1s' }, 'ERR_MEMGUARD_TYPE', 'longestPause must be a number, not a string'],
    [[], { pausedAt: 1 }, 'ERR_MEMGUARD_UNKNOWN_KEY', 'unknown option pausedAt, allowed: pauseAt, resumeAt, longestPause'],
  ])('%j %j is refused', (workers, options, code, message) => {
    expect(thrown(() => bullmq.guardWorkers(workers, service, options))).toMatchObject({ code, message });
  });

  test('a guard needs a service', () => {
    expect(thrown(() => bullmq.guardWorkers([], {})).message).toBe(
      'service must be a MemoryOptimizationService, not an object',
    );
  });
});

test('options of a sandboxed worker', () => {
  const { useWorkerThreads, workerForkOptions } = bullmq.workerOptions({
    limitBytes: 1024 * 1048576, env: { A: 'b', NODE_OPTIONS: '--no-deprecation' },
  });
  expect(useWorkerThreads).toBe(false);
  expect(workerForkOptions.env).toEqual({
    A: 'b',
    MEMGUARD_MAX_MEMORY_MB: '256',
    NODE_OPTIONS: expect.stringMatching(/^--no-deprecation --require ".*\/node\/start\.js" --max-old-space-size=\d+ /),
  });
  const threads = bullmq.workerOptions({ useWorkerThreads: true, limitBytes: 1024 * 1048576, env: {} });
  expect(threads).toEqual({
    useWorkerThreads: true,
    workerThreadsOptions: {
      env: {},
      resourceLimits: { maxYoungGenerationSizeMb: expect.any(Number), maxOldGenerationSizeMb: expect.any(Number) },
    },
  });
  expect(thrown(() => bullmq.workerOptions({ share: 0 })).message).toBe('share is 0, allowed: above 0, to 1');
  expect(thrown(() => bullmq.workerOptions({ file: '' })).code).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
});

describe('the service', () => {
  const opened = [];
  let redis;
  let client;

  beforeAll(async () => {
    redis = await startRedis();
    client = new Redis(redis.port, '127.0.0.1');
    client.on('error', () => {});
  });

  beforeEach(() => client.flushall());

  afterEach(async () => {
    for (const service of opened.splice(0)) await service.close({ force: true });
  });

  afterAll(() => client.disconnect());

  async function open(options) {
    const service = new QueueService({ maxMemoryMb: 8000, stalledMs: 2000, ...options });
    opened.push(service);
    service.on('redis:error', () => {});
    return service.open();
  }

  const resultsOf = async (from = client) => {
    const all = Object.entries(await from.hgetall('queue-service:results'));
    return new Map(all.map(([id, text]) => [id, JSON.parse(text)]));
  };

  test('has the API and the events of a queue manager, and trims its connections', async () => {
    const service = await open({ redis: redis.url });
    const events = [];
    service.on('memory:optimization:completed', ({ reason }) => events.push(reason));
    await service.add('session', { user: 'a', pages: 2 }, { id: 'one' });
    await service.drained();
    expect(service.getStats().connections).toMatchObject({ active: 0, idle: 1 });
    const report = await service.optimizeMemory({ aggressive: true, reason: 'manual' });
    expect(report).toMatchObject({ success: true, reason: 'manual', method: 'aggressive' });
    expect(report.optimizations.map(({ name }) => name)).toContain('connection-pool');
    expect(service.getStats().connections).toMatchObject({ active: 0, idle: 0 });
    expect(events).toContain('manual');
    expect(service.getMemoryOptimizationHistory(1)).toEqual([report]);
    expect(Object.keys(service.getMemoryStatus())).toEqual([
      'enabled', 'current', 'optimization', 'health', 'recommendations',
    ]);
    expect(service.createMemorySnapshot().connectionPool).toMatchObject({ active: 0, idle: 0 });
    service.updateMemoryOptimizationConfig({ memoryOptimization: { maxRSSSizeMB: 7000 } });
    expect(service.monitor.maxMemoryMb).toBe(7000);
    await service.close();
    expect((await rejection(service.add('session', {}))).code).toBe('ECLOSED');
    expect((await resultsOf()).get('one')).toEqual({ id: 'one', kind: 'session', ok: true, user: 'a', pages: 2 });
  });

  const REFUSED = [
    ['drop', {}, 'EKIND', 'kind is "drop", allowed: order, image, session'],
    ['__proto__', {}, 'EKIND', 'kind is "__proto__", allowed: order, image, session'],
    [{ toString: () => 'order' }, {}, 'EKIND', 'kind is "order", allowed: order, image, session'],
    ['order', undefined, 'EDATA', 'data is not JSON: undefined'],
    ['order', { cents: 1n }, 'EDATA', expect.stringContaining('data is not JSON: ')],
    ['order', { text: 'x'.repeat(300000) }, 'ELARGE', 'data is of 300011 bytes, allowed: 262144'],
  ];
  const HOSTILE = [
    ['order', null, 'data: not an object'],
    ['order', 'text', 'data: not an object'],
    ['order', { text: '' }, expect.stringContaining('JSON')],
    ['order', { text: 'null' }, 'text: not an object'],
    ['order', { text: `${'['.repeat(100000)}${']'.repeat(100000)}` }, expect.any(String)],
    ['order', { text: '{"id": 1, "country": "AT", "placed": "2026-01-01", "lines": {"length": 1e9}}' }, 'lines: none'],
    ['image', { seed: 1, width: 1e9, height: 1e9 }, 'width: not a whole number of 2 to 1024'],
    ['image', { seed: 'NaN', width: 2, height: 2 }, 'seed: not a whole number'],
    ['session', JSON.parse('{"__proto__": {"user": "x"}, "pages": 1}'), 'user: not a string of up to 100 letters'],
    ['session', { user: 'a', pages: -1 }, 'pages: not a whole number of 0 to 1000'],
  ];

  test.each([['redis'], ['in process']])('hostile jobs are refused or fail alone: %s', async (host) => {
    const service = await open(host === 'redis' ? { redis: redis.url } : {});
    for (const [kind, data, code, message] of REFUSED) {
      expect(await rejection(service.add(kind, data))).toMatchObject({ code, message });
    }
    const loop = {};
    loop.loop = loop;
    expect((await rejection(service.add('order', loop))).code).toBe('EDATA');
    for (const [index, [kind, data]] of HOSTILE.entries()) await service.add(kind, data, { id: `hostile-${index}` });
    await service.add('session', { user: '\u0000\ud800', pages: 0 }, { id: 'fine' });
    await service.drained();
    expect(service.getStats()).toMatchObject({ accepted: 11, done: 11, refused: 7, outstanding: 0 });
    if (host !== 'redis') return;
    const results = await resultsOf();
    for (const [index, [kind, , error]] of HOSTILE.entries()) {
      expect(results.get(`hostile-${index}`)).toEqual({ id: `hostile-${index}`, kind, ok: false, error });
    }
    expect(results.get('fine').ok).toBe(true);
  });

  test('a second worker does what the first one left', async () => {
    const first = await open({ redis: redis.url });
    first.pause();
    await first.add('session', { user: 'a', pages: 1 }, { id: 'left' });
    await first.close({ force: true });
    await open({ redis: redis.url });
    for (let tries = 0; tries < 500 && (await client.hlen('queue-service:results')) === 0; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect([...(await resultsOf()).keys()]).toEqual(['left']);
  }, LONG_MS);

  test('results of a worker thread are there, too', async () => {
    const service = await open({ redis: redis.url, apart: ['image'], useWorkerThreads: true });
    for (let seed = 0; seed < 5; seed++) await service.add('image', { seed, width: 4, height: 4 }, { id: `image-${seed}` });
    await service.drained();
    const results = [...(await resultsOf()).values()];
    expect(results.map(({ ok, pid }) => [ok, pid])).toEqual(new Array(5).fill([true, process.pid]));
  }, LONG_MS);

  /** Adds a job until it is accepted. */
  async function addSurely(service, id, end) {
    for (;;) {
      try {
        return await service.add('session', { user: id, pages: 1 }, { id });
      } catch (error) {
        if (Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  test('Redis killed and there again: what it had acknowledged is done once', async () => {
    const directory = temporaryDirectory();
    const durable = ['--dir', directory, '--appendonly', 'yes', '--appendfsync', 'always'];
    const server = await startRedis(durable);
    const service = await open({ redis: server.url });
    const end = Date.now() + 100000;
    const ids = Array.from({ length: 300 }, (_, number) => `job-${number}`);
    const adding = (async () => {
      for (const id of ids) await addSurely(service, id, end);
    })();
    await until(() => service.getStats().accepted >= 100, 50);
    await server.stop(); // SIGKILL
    await until(() => service.getStats().redisErrors > 0, 50);
    await startRedis(durable, server.port);
    await adding;
    await until(() => service.outstanding === 0, 100);
    expect(service.getStats()).toMatchObject({ accepted: 300, done: 300 });
    const reader = new Redis(server.port, '127.0.0.1');
    const results = await resultsOf(reader);
    reader.disconnect();
    expect([...results.keys()].sort()).toEqual([...ids].sort());
  }, LONG_MS);

  test('Redis without memory refuses jobs; those it had accepted are done once it has some', async () => {
    const server = await startRedis();
    const admin = new Redis(server.port, '127.0.0.1');
    const service = await open({ redis: server.url });
    service.pause();
    const ids = Array.from({ length: 20 }, (_, number) => `job-${number}`);
    for (const id of ids) await service.add('session', { user: id, pages: 1 }, { id });
    await admin.config('SET', 'maxmemory', '1');
    expect((await rejection(service.add('session', { user: 'x', pages: 1 }))).message).toMatch(/OOM/);
    service.resume();
    await until(() => service.getStats().redisErrors > 0 || service.getStats().failedBatches > 0, 50);
    await admin.config('SET', 'maxmemory', '0');
    await until(() => service.outstanding === 0, 100);
    expect(service.getStats()).toMatchObject({ accepted: 20, done: 20, refused: 1 });
    expect([...(await resultsOf(admin)).keys()].sort()).toEqual([...ids].sort());
    admin.disconnect();
  }, LONG_MS);

  test('Redis that hangs is an error of the call, and forgotten when it answers again', async () => {
    const proxy = await startProxy(redis.port);
    const service = await open({ redis: `redis://127.0.0.1:${proxy.port}` });
    await addSurely(service, 'before', Date.now() + 50000);
    await service.drained();
    proxy.freeze();
    expect((await rejection(service.add('session', { user: 'a', pages: 1 }, { id: 'lost' }))).message).toMatch(/timed out|no answer/);
    proxy.cut();
    proxy.heal();
    await addSurely(service, 'after', Date.now() + 100000);
    await until(() => service.outstanding === 0, 100);
    expect((await resultsOf()).get('after').ok).toBe(true);
  }, LONG_MS);
});
