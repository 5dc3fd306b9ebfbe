'use strict';

const { Worker } = require('worker_threads');
const { HeapTuner, MemoryMonitor, ResourceManager, adviseNodeOptions, adviseWorker } = require('../..');
const { MB, run, runJson, thrown, until } = require('./helpers');

const GIB = 1024 * MB;
const quiet = { longPause: '60s', monitorInterval: '1h' };
const monitor = new MemoryMonitor({ ...quiet, maxMemoryMb: 256 });
afterAll(() => monitor.close());

describe('advice', () => {
  test('on what to start with', () => {
    const advice = adviseNodeOptions({ limitBytes: GIB });
    expect(advice).toEqual({
      limitBytes: 1073741824,
      maxOldSpaceSizeMb: 720,
      maxSemiSpaceSizeMb: 16,
      nodeOptions: '--max-old-space-size=720 --max-semi-space-size=16',
      reasons: [
        'the limit is 1024 MB (as given), of which 25 % are for other things than V8\'s heap',
        'the young generation uses up to 48 MB, three semi spaces',
      ],
    });
    expect(adviseNodeOptions({ limitBytes: GIB, headroom: 0.5 }).nodeOptions).toBe('--max-old-space-size=464 --max-semi-space-size=16');
  });

  test('says when it is bounded', () => {
    const [, capped] = adviseNodeOptions({ limitBytes: 64 * GIB }).reasons;
    expect(capped).toBe('the old space is not above 4096 MB, what V8 allows itself where memory is plentiful');
    const [, tight] = adviseNodeOptions({ limitBytes: 20 * MB }).reasons;
    expect(tight).toBe('the limit is too low for Node to work well');
  });

  test('takes the nearest limit: a monitor\'s own, or the machine\'s', () => {
    const own = adviseNodeOptions({ monitor });
    expect([own.limitBytes, own.nodeOptions]).toEqual([256 * MB, '--max-old-space-size=144 --max-semi-space-size=16']);
    expect(own.reasons[0]).toContain('(max_memory_mb)');
    const found = adviseNodeOptions();
    expect(found.limitBytes).toBeGreaterThan(16 * MB);
    expect(found.limitBytes).toBeLessThanOrEqual(require('os').totalmem());
  });

  test('is what Node then has', async () => {
    const { nodeOptions, maxOldSpaceSizeMb, maxSemiSpaceSizeMb } = adviseNodeOptions({ limitBytes: 256 * MB });
    const { limit } = await runJson('heap_limit.js', [], { env: { NODE_OPTIONS: nodeOptions } });
    expect(limit).toBe((maxOldSpaceSizeMb + 3 * maxSemiSpaceSizeMb) * MB);
  });

  test('is what a Worker then has', async () => {
    const resourceLimits = adviseWorker({ limitBytes: GIB, share: 0.5 });
    expect(resourceLimits).toEqual({ maxYoungGenerationSizeMb: 48, maxOldGenerationSizeMb: 336 });
    const code = 'require("worker_threads").parentPort.postMessage(require("v8").getHeapStatistics().heap_size_limit)';
    const worker = new Worker(code, { eval: true, resourceLimits });
    const limit = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(limit).toBe(384 * MB);
    await worker.terminate();
  });

  test.each([
    [{ limitBytes: '1GB' }, 'ERR_MEMGUARD_TYPE', 'limitBytes must be a number, not a string'],
    [{ limitBytes: 0 }, 'ERR_MEMGUARD_RANGE', 'limitBytes is 0, allowed: a finite number of at least 1'],
    [{ limitBytes: NaN }, 'ERR_MEMGUARD_RANGE', 'limitBytes is NaN, allowed: a finite number of at least 1'],
    [{ headroom: 0.95 }, 'ERR_MEMGUARD_RANGE', 'headroom is 0.95, allowed: 0 to 0.9'],
    [{ headroom: null }, 'ERR_MEMGUARD_TYPE', 'headroom must be a number, not null'],
    [{ share: 0 }, 'ERR_MEMGUARD_RANGE', 'share is 0, allowed: above 0, to 1'],
    [{ share: 1.5 }, 'ERR_MEMGUARD_RANGE', 'share is 1.5, allowed: above 0, to 1'],
    [{ monitor: {} }, 'ERR_MEMGUARD_TYPE', 'monitor must be a MemoryMonitor, not an object'],
    [{ limit: 5 }, 'ERR_MEMGUARD_UNKNOWN_KEY', 'unknown option limit, allowed: limitBytes, headroom, monitor, share'],
    [5, 'ERR_MEMGUARD_TYPE', 'options must be a plain object, not a number'],
  ])('refuses %p', (options, code, message) => {
    const error = thrown(() => adviseWorker(options));
    expect([error.code, error.message]).toEqual([code, message]);
  });

  test('refuses a closed monitor', () => {
    const closed = new MemoryMonitor();
    closed.close();
    expect(thrown(() => adviseNodeOptions({ monitor: closed })).code).toBe('ERR_MEMGUARD_CLOSED');
    expect(thrown(() => new HeapTuner(closed).start()).code).toBe('ERR_MEMGUARD_CLOSED');
  });
});

describe('a tuner', () => {
  // In a process of its own: jest's heap is large.
  test('collects what was allocated, while the event loop is idle', async () => {
    const { before, idle, rounds } = await runJson('idle.js', ['loop']);
    expect([before.collections, before.load]).toEqual([{ young: 0, full: 0, failed: 0 }, null]);
    expect([idle.isRunning, idle.collections]).toEqual([true, { young: 0, full: 1, failed: 0 }]);
    expect(idle.gcMs).toBeGreaterThan(0);
    expect(idle.load).toBeLessThan(1);
    expect(rounds).toEqual([['idle', 'full']]);
  });

  test('waits while the host says that it is busy', async () => {
    const { busy, idle } = await runJson('idle.js', ['host']);
    expect([busy.load, busy.isIdle, busy.collections]).toEqual([0.9, false, { young: 0, full: 0, failed: 0 }]);
    expect([idle.load, idle.collections.full]).toEqual([0.1, 1]);
  });

  test('collects the young alone where all would take long', async () => {
    const { idle } = await runJson('idle.js', ['large']);
    expect(idle.collections).toEqual({ young: 1, full: 0, failed: 0 });
  });

  test('keeps no process alive, stopped or not', async () => {
    expect(await run('idle.js', ['left'])).toMatchObject({ code: 0, stdout: 'left', stderr: '' });
  });

  test('stops with its monitor', async () => {
    const own = new MemoryMonitor(quiet);
    const tuner = new HeapTuner(own);
    tuner.start();
    tuner.start();
    expect(tuner.isRunning).toBe(true);
    own.close();
    await until(() => !tuner.isRunning);
  });

  test.each([
    ['0.5', 'ERR_MEMGUARD_TYPE', 'load must be a number, not a string'],
    [-0.1, 'ERR_MEMGUARD_RANGE', 'load is -0.1, allowed: a finite number of at least 0'],
    [1.1, 'ERR_MEMGUARD_RANGE', 'load is 1.1, allowed: 0 to 1'],
  ])('refuses the load %p', (load, code, message) => {
    const error = thrown(() => new HeapTuner(monitor).reportLoad(load));
    expect([error.code, error.message]).toEqual([code, message]);
  });

  test('needs a monitor', () => {
    expect(thrown(() => new HeapTuner()).message).toBe('monitor must be a MemoryMonitor, not undefined');
  });
});

describe('the tuner of a manager', () => {
  test('is made once, starts when told and stops with it', () => {
    const manager = new ResourceManager(quiet);
    const { heapTuner } = manager;
    expect([manager.heapTuner === heapTuner, heapTuner.isRunning]).toEqual([true, false]);
    heapTuner.start();
    manager.cleanup();
    expect(heapTuner.isRunning).toBe(false);
    manager.close();
  });

  test('starts with it where auto_tune is set', () => {
    const manager = new ResourceManager({ ...quiet, autoTune: true });
    expect(manager.heapTuner.isRunning).toBe(true);
    manager.close();
    expect(manager.heapTuner.isRunning).toBe(false);
  });

  test('follows auto_tune, unless the program has started it', () => {
    const manager = new ResourceManager(quiet);
    const { heapTuner, memoryMonitor } = manager;
    const turn = (autoTune) => {
      memoryMonitor.updateConfig({ autoTune });
      return heapTuner.isRunning;
    };
    expect([turn(true), turn(true), turn(false)]).toEqual([true, true, false]);
    heapTuner.start();
    expect(turn(false)).toBe(true);
    expect([turn(true), turn(false)]).toEqual([true, false]);
    manager.close();
  });
});
