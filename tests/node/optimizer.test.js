'use strict';

// MemoryOptimizationService and QueueMemory: real memory, real failures. Times of
// the scheduler and the degraded mode are in tests/vectors/optimize.json.
const { EventEmitter } = require('events');
const { MemoryMonitor, MemoryOptimizationService, QueueMemory, errorCodes } = require('../..');
const { MB, until } = require('./helpers');

const FAR = { maxMemoryMb: '16TB', rssWarning: '16TB', rssCritical: '16TB', strategyTimeout: '100ms' };
const opened = [];
let warnings;

function open(config = {}, options = {}) {
  const service = new MemoryOptimizationService({ ...FAR, ...config }, { environment: false, ...options });
  opened.push(service);
  return service;
}

beforeEach(() => {
  warnings = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
});

afterEach(async () => {
  for (const service of opened.splice(0)) await service.close();
  warnings.mockRestore();
});

const rejected = (promise) => promise.then(() => null, (error) => error.code);
const stepOf = (report, name) => report.optimizations.find((taken) => taken.name === name);
const never = () => new Promise(() => {});

/** 64 MB in buffers, and what drops them. */
function fill() {
  let held = Array.from({ length: 64 }, () => Buffer.alloc(MB, 1));
  return { drop() { held = []; }, get count() { return held.length; } };
}

describe('performOptimization()', () => {
  test('reports what it measured', async () => {
    const service = open();
    const data = fill();
    const started = [];
    const completed = [];
    service.on('optimization:started', (event) => started.push(event));
    service.on('optimization:completed', (report) => completed.push(report));
    service.registerCleanup(function dropRows() { data.drop(); });
    const report = await service.performOptimization('manual', { aggressive: true });
    expect(report).toMatchObject({ reason: 'manual', method: 'aggressive', success: true });
    const { beforeStats: before, afterStats: after } = report;
    const falls = [before.rss - after.rss, before.heapUsed + before.external - after.heapUsed - after.external];
    expect(report.freedMemoryMB).toBeCloseTo(Math.max(...falls) / MB, 6);
    expect(report.freedMemoryMB).toBeGreaterThan(50);
    expect(report.durationMs).toBeGreaterThan(0);
    expect(stepOf(report, 'dropRows')).toMatchObject({ kind: 'cleanup', outcome: 'done' });
    expect(stepOf(report, 'full')).toMatchObject({ kind: 'action', outcome: 'done' });
    expect(started).toEqual([{ timestamp: expect.any(Number), reason: 'manual', method: 'aggressive' }]);
    expect(completed).toEqual([report]);
    expect(service.getOptimizationHistory()).toEqual([report]);
  });

  test('garbage is collected, and more than once if that brings more', async () => {
    const service = open();
    (() => Array.from({ length: 300000 }, (_, index) => ({ index })))();
    const report = await service.performOptimization('manual', { aggressive: true });
    expect(report.freedMemoryMB).toBeGreaterThan(1);
    expect(report.optimizations.filter(({ name }) => name === 'full').length).toBeGreaterThan(1);
  });

  test.each([
    ['manual', {}, 'standard', true],
    ['scheduled', {}, 'standard', true],
    ['emergency', {}, 'aggressive', true],
    ['preventive', {}, 'preventive', false],
    ['preventive', { aggressive: true }, 'aggressive', true],
  ])('%s %j is %s', async (reason, options, method, cleans) => {
    const service = open();
    let cleaned = 0;
    let trimmed = 0;
    service.registerCleanup(() => { cleaned++; });
    service.setConnectionPool({ getStats: () => ({ active: 1, idle: 2 }), releaseIdle() { trimmed++; } });
    expect(await service.performOptimization(reason, options)).toMatchObject({ reason, method });
    expect([cleaned, trimmed]).toEqual(cleans ? [1, 1] : [0, 0]);
  });

  test('refuses what it does not know', async () => {
    const service = open();
    expect(await rejected(service.performOptimization('bored'))).toBe(errorCodes.EINVAL);
    expect(await rejected(service.performOptimization(5))).toBe(errorCodes.EINVAL);
    expect(await rejected(service.performOptimization('manual', { agressive: true }))).toBe(errorCodes.EKEY);
    expect(await rejected(service.performOptimization('manual', { force: 1 }))).toBe(errorCodes.ETYPE);
    expect(await rejected(service.performOptimization('manual', null))).toBe(errorCodes.ETYPE);
    expect(() => open({ max_memry_mb: 1 })).toThrow(/max_memory_mb/);
    expect(() => new MemoryOptimizationService({}, { monitor: {} })).toThrow(/MemoryMonitor/);
    expect(() => service.getOptimizationHistory(-1)).toThrow(/count/);
    await service.close();
    expect(await rejected(service.performOptimization())).toBe(errorCodes.ECLOSED);
    expect(service.getServiceStats().total).toBe(0);
  });

  test('a listener that throws stops nothing', async () => {
    const service = open();
    let told = 0;
    service.on('optimization:completed', () => { throw new Error('listener'); });
    service.on('optimization:completed', () => { told++; });
    expect((await service.performOptimization()).success).toBe(true);
    expect(told).toBe(1);
  });

  test('a monitor that is closed under it fails the report only', async () => {
    const monitor = new MemoryMonitor(FAR);
    const service = open({}, { monitor });
    service.registerCleanup(() => monitor.close());
    const report = await service.performOptimization();
    expect(report).toMatchObject({ success: false, error: errorCodes.ECLOSED, beforeStats: null });
  });
});

describe('strategies of the host', () => {
  test('run by priority around the built-in actions, with a context', async () => {
    const service = open();
    const calls = [];
    const note = (name) => (context) => calls.push([name, context.reason, context.aggressive, context.signal.aborted]);
    service.registerStrategy('last', note('last'), { priority: -1 });
    service.registerStrategy('after', note('after'));
    service.registerStrategy('first', note('first'), { priority: 9 });
    const report = await service.performOptimization('manual');
    expect(calls).toEqual([['first', 'manual', false, false], ['after', 'manual', false, false], ['last', 'manual', false, false]]);
    const names = report.optimizations.map(({ name }) => name);
    expect([names[0], ...names.slice(-2)]).toEqual(['first', 'after', 'last']);
    expect(names).toContain('full');
    expect(service.unregisterStrategy('first')).toBe(true);
    expect(service.unregisterStrategy('first')).toBe(false);
    expect(service.getServiceStats().strategies).toEqual(['after', 'last']);
  });

  test('one that throws, one that rejects, one that never ends: the rest runs', async () => {
    const service = open();
    const failed = [];
    let signal;
    service.on('optimization:failed', (report) => failed.push(report));
    service.registerStrategy('throws', () => { throw new RangeError('card of bob'); }, { priority: 3 });
    service.registerStrategy('rejects', () => Promise.reject(new SyntaxError('card of bob')), { priority: 2 });
    service.registerStrategy('hangs', (context) => {
      signal = context.signal;
      return never();
    }, { priority: 1 });
    service.registerStrategy('works', async () => 'card of bob');
    const report = await service.performOptimization();
    expect(report.success).toBe(false);
    expect(stepOf(report, 'throws')).toMatchObject({ outcome: 'failed', error: 'RangeError' });
    expect(stepOf(report, 'rejects')).toMatchObject({ outcome: 'failed', error: 'SyntaxError' });
    expect(stepOf(report, 'hangs')).toMatchObject({ outcome: 'timeout' });
    expect(stepOf(report, 'works')).toMatchObject({ outcome: 'done' });
    expect(stepOf(report, 'full')).toMatchObject({ outcome: 'done' });
    expect(signal.aborted).toBe(true);
    expect(failed).toEqual([report]);
    const second = await service.performOptimization();
    expect(stepOf(second, 'hangs')).toMatchObject({ outcome: 'skipped', error: 'busy' });
    const texts = warnings.mock.calls.map(([text]) => text).filter((text) => text.startsWith('strategy'));
    expect(texts).toEqual([
      'strategy "throws" of an optimization failed: RangeError (told once)',
      'strategy "rejects" of an optimization failed: SyntaxError (told once)',
      'strategy "hangs" of an optimization did not end in time (told once)',
    ]);
    expect(JSON.stringify(service.getOptimizationHistory())).not.toMatch(/bob/);
  });

  test('one that ends late is taken in again', async () => {
    const service = open();
    let end;
    let calls = 0;
    service.registerStrategy('late', () => {
      calls++;
      return new Promise((resolve) => { end = resolve; });
    });
    expect(stepOf(await service.performOptimization(), 'late').outcome).toBe('timeout');
    end();
    await new Promise(setImmediate);
    expect(stepOf(await service.performOptimization(), 'late').outcome).toBe('timeout');
    expect(calls).toBe(2);
  });

  test('bad ones are refused', () => {
    const service = open();
    service.registerStrategy('mine', () => {});
    expect(() => service.registerStrategy('mine', () => {})).toThrow(/"mine"/);
    expect(() => service.registerStrategy('standard', () => {})).toThrow(/"standard"/);
    expect(() => service.registerStrategy('x', 5)).toThrow(/function/);
    expect(() => service.registerStrategy(5, () => {})).toThrow(/string/);
    expect(() => service.registerStrategy('x', () => {}, { priority: 'high' })).toThrow(/priority/);
    expect(() => service.registerCleanup('x')).toThrow(/function/);
    expect(() => service.setConnectionPool({})).toThrow(/getStats/);
  });
});

describe('one at a time', () => {
  test('who asks meanwhile gets the same report, who forces the next', async () => {
    const service = open();
    let running = 0;
    let most = 0;
    service.registerStrategy('slow', async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running--;
    });
    const reports = await Promise.all([
      service.performOptimization(),
      service.performOptimization('scheduled'),
      service.performOptimization('manual', { force: true }),
      service.performOptimization('emergency', { force: true, aggressive: true }),
    ]);
    expect(reports[1]).toBe(reports[0]);
    expect(reports[3]).toBe(reports[2]);
    expect(reports[2]).not.toBe(reports[0]);
    expect(reports[2].method).toBe('aggressive');
    expect(most).toBe(1);
    expect(service.getServiceStats()).toMatchObject({ total: 2, isOptimizing: false });
  });
});

describe('the degraded mode', () => {
  test('three failures pause it, a success resumes', async () => {
    const service = open();
    let isBroken = true;
    service.registerStrategy('breaks', () => {
      if (isBroken) throw new Error('x');
    });
    for (let round = 0; round < 3; round++) expect((await service.performOptimization('scheduled')).success).toBe(false);
    expect(service.getServiceStats()).toMatchObject({ degraded: true, failuresInRow: 3, successRate: 0, failed: 3 });
    expect(service.getServiceStats().resumesInMs).toBeGreaterThan(0);
    const health = service.healthCheck();
    expect(health).toMatchObject({ degraded: true, healthy: false });
    expect(health.recommendations.some((text) => text.includes('paused'))).toBe(true);
    for (const reason of ['scheduled', 'preventive', 'emergency']) {
      const refused = await service.performOptimization(reason);
      expect(refused).toMatchObject({ reason, success: false, refused: 'degraded', freedMemoryMB: 0, optimizations: [] });
    }
    expect(service.getServiceStats()).toMatchObject({ total: 3, refused: 3 });
    isBroken = false;
    expect((await service.performOptimization('emergency', { force: true })).success).toBe(true);
    expect(service.getServiceStats()).toMatchObject({ degraded: false, resumesInMs: null, total: 4, succeeded: 1 });
    expect(service.healthCheck().degraded).toBe(false);
  });
});

describe('by itself', () => {
  test('emergency at critical', async () => {
    const service = open({ maxMemoryMb: 1, rssWarning: 1, rssCritical: 1 });
    const reports = [];
    const alerts = [];
    service.on('optimization:completed', (report) => reports.push(report));
    service.on('alert:memory-threshold', (event) => alerts.push(event.level));
    service.start();
    service.getMemoryMonitor().checkMemoryPressure();
    await until(() => reports.length > 0);
    expect(reports[0]).toMatchObject({ reason: 'emergency', method: 'aggressive', success: true });
    expect(alerts).toContain('critical');
    expect(service.getServiceStats().byReason.emergency).toBe(1);
  });

  test('scheduled at the threshold', async () => {
    const service = open({ lowWaterMarkPercent: 0.01, threshold: '1%', alertThreshold: '100%', forceGcThreshold: '100%', maxMemoryMb: '1GB' });
    const reports = [];
    service.on('optimization:completed', (report) => reports.push(report.reason));
    service.start();
    service.getMemoryMonitor().collectMemoryStats();
    await until(() => reports.length > 0);
    expect(reports).toEqual(['scheduled']);
  });

  test('nothing with autoOptimization off', async () => {
    const service = open({ maxMemoryMb: 1, memoryOptimization: { autoOptimization: false } });
    service.start();
    service.getMemoryMonitor().checkMemoryPressure();
    service.getMemoryMonitor().collectMemoryStats();
    await service.stop();
    expect(service.getServiceStats().total).toBe(0);
  });

  test('leaks and events of its life', async () => {
    const service = open();
    const told = [];
    for (const name of ['service:started', 'service:stopped', 'alert:memory-leak']) {
      service.on(name, (event) => told.push([name, event?.level, event?.key]));
    }
    service.start();
    service.start();
    const monitor = service.getMemoryMonitor();
    expect(monitor.isMonitoring).toBe(true);
    monitor.registerObjectCounter('sockets');
    monitor.incrementObjectCounter('sockets', 200);
    monitor.incrementObjectCounter('sockets', 400);
    await service.stop();
    expect(told).toEqual([
      ['service:started', undefined, undefined],
      ['alert:memory-leak', 'warning', 'sockets'],
      ['alert:memory-leak', 'critical', 'sockets'],
      ['service:stopped', undefined, undefined],
    ]);
    expect(monitor.isMonitoring).toBe(false);
    expect(monitor.eventNames()).toEqual([]);
    service.start();
    expect(service.getServiceStats().isRunning).toBe(true);
  });

  test('a monitor of the host goes on', async () => {
    const monitor = new MemoryMonitor(FAR);
    monitor.startMonitoring();
    const service = open({}, { monitor });
    service.start();
    await service.close();
    expect(monitor.isMonitoring).toBe(true);
    expect(monitor.eventNames()).toEqual([]);
    monitor.close();
  });
});

describe('what was seen', () => {
  test('snapshots hold numbers and no data of the host', async () => {
    const service = open();
    service.setConnectionPool({ getStats: () => ({ active: 3, idle: 4, user: 'bob', hosts: ['h'] }) });
    const snapshot = service.createUsageSnapshot();
    expect(snapshot.connectionPool).toEqual({ active: 3, idle: 4 });
    expect(snapshot.stats.rss).toBeGreaterThan(MB);
    expect(snapshot).toMatchObject({ level: 'normal', counters: {}, usage: expect.any(Number) });
    for (let count = 0; count < 120; count++) service.createUsageSnapshot();
    expect(service.getUsageSnapshots()).toHaveLength(100);
    expect(service.getUsageSnapshots(2)).toHaveLength(2);
    expect(service.getUsageSnapshots(0)).toEqual([]);
  });

  test('a pool that throws is no pool', () => {
    const service = open();
    service.setConnectionPool({ getStats() { throw new Error('x'); } });
    expect(service.createUsageSnapshot().connectionPool).toBeNull();
    service.setConnectionPool(null);
    expect(service.getServiceStats().connectionPool).toBeNull();
  });

  test('history keeps the newest hundred', async () => {
    const service = open();
    for (let count = 0; count < 103; count++) await service.performOptimization('preventive', { force: true });
    expect(service.getOptimizationHistory()).toHaveLength(100);
    expect(service.getOptimizationHistory(5)).toEqual(service.getOptimizationHistory().slice(95));
    expect(service.getServiceStats()).toMatchObject({ total: 103, byReason: { preventive: 103 } });
  });

  test('settings by the names of memoryOptimization', () => {
    const service = open({}, { profile: 'queue-production' });
    expect(service.getConfig()).toEqual({
      enabled: true, autoOptimization: true, threshold: 85, intervalMs: 60000, maxHeapSizeMB: 4096, maxRSSSizeMB: 16777216,
    });
    service.updateConfig({ threshold: 70, intervalMs: 5000 });
    service.updateConfig({ memoryOptimization: { maxRSSSizeMB: 2048, autoOptimization: false } });
    expect(service.getConfig()).toMatchObject({ threshold: 70, intervalMs: 5000, maxRSSSizeMB: 2048, autoOptimization: false });
    expect(() => service.updateConfig({ threshhold: 1 })).toThrow(/threshold/);
  });
});

describe('QueueMemory', () => {
  test('gives a queue manager its methods and events, and takes them back', async () => {
    const service = open();
    const queue = new EventEmitter();
    const told = [];
    for (const name of ['memory:alert', 'memory:leak', 'memory:optimization:completed', 'memory:optimization:failed']) {
      queue.on(name, () => told.push(name));
    }
    queue.on('memory:optimization:completed', () => { throw new Error('listener'); });
    const memory = new QueueMemory(service);
    expect(memory.attach(queue)).toBe(queue);
    expect(Object.keys(queue)).not.toContain('optimizeMemory');
    service.start();
    service.getMemoryMonitor().registerObjectCounter('jobs');
    service.getMemoryMonitor().incrementObjectCounter('jobs', 100);
    const report = await queue.optimizeMemory({ aggressive: true, reason: 'scheduled' });
    expect(report).toMatchObject({ reason: 'scheduled', method: 'aggressive', success: true });
    service.registerStrategy('breaks', () => { throw new Error('x'); });
    expect((await queue.optimizeMemory()).reason).toBe('manual');
    expect(told).toEqual(['memory:leak', 'memory:optimization:completed', 'memory:optimization:failed']);
    const status = queue.getMemoryStatus();
    expect(Object.keys(status)).toEqual(['enabled', 'current', 'optimization', 'health', 'recommendations']);
    expect(status).toMatchObject({ enabled: true, optimization: { total: 2 }, health: { degraded: false } });
    expect(status.current.rssMB).toBeGreaterThan(1);
    expect(queue.getMemoryOptimizationHistory(1)[0].success).toBe(false);
    expect(queue.createMemorySnapshot().stats.rss).toBeGreaterThan(MB);
    queue.updateMemoryOptimizationConfig({ threshold: 66 });
    expect(service.getConfig().threshold).toBe(66);
    expect(await rejected(queue.optimizeMemory(5))).toBe(errorCodes.ETYPE);
    memory.detach();
    memory.detach();
    expect(queue.optimizeMemory).toBeUndefined();
    expect(service.eventNames()).toEqual([]);
  });

  test('refuses what it cannot attach to', () => {
    const service = open();
    const memory = new QueueMemory(service);
    expect(() => new QueueMemory({})).toThrow(/MemoryOptimizationService/);
    expect(() => memory.attach(null)).toThrow(/object/);
    expect(() => memory.attach({ getMemoryStatus() {} })).toThrow(/getMemoryStatus/);
    memory.attach({});
    expect(() => memory.attach({})).toThrow(/already/);
    memory.detach();
  });
});
