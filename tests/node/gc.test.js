'use strict';

const v8 = require('v8');
const vm = require('vm');
const { MemoryMonitor, capabilities } = require('../..');
const gc = require('../../node/lib/gc');
const native = require('../../node/lib/native');
const { MB, runJson, until } = require('./helpers');

const monitor = new MemoryMonitor({ longPause: '60s' });
afterAll(() => monitor.shutdown());

function fullCollections() {
  return monitor.getGCStats().kinds.markSweepCompact;
}

test('hooks are those of V8', () => {
  expect(capabilities.gcHooks).toBe('native');
  expect(monitor.getGCStats().source).toBe('native');
});

test('a heap that moves between two readings is told, and stays so', async () => {
  expect(await runJson('heap_moves.js', [])).toEqual({ first: true, later: true });
});

test('each forced collection is counted, and timed', () => {
  monitor.triggerGc();
  const before = fullCollections();
  for (let count = 0; count < 7; count++) monitor.triggerGc();
  const after = fullCollections();
  expect(after.count - before.count).toBe(7);
  expect(after.totalMs).toBeGreaterThan(before.totalMs);
  expect(after.maxMs).toBeGreaterThanOrEqual(after.lastMs);
  expect(after.lastMs).toBeGreaterThan(0);
});

test('quantiles are in order, and CPU time of full collections is told', () => {
  for (let count = 0; count < 20; count++) monitor.triggerGc();
  const stats = monitor.getGCStats();
  for (const one of [stats, stats.kinds.markSweepCompact]) {
    expect(one.p50Ms).toBeGreaterThan(0);
    expect(one.p95Ms).toBeGreaterThanOrEqual(one.p50Ms);
    expect(one.p99Ms).toBeGreaterThanOrEqual(one.p95Ms);
    expect(one.maxMs).toBeGreaterThanOrEqual(one.p99Ms);
  }
  expect(stats.kinds.markSweepCompact.cpuMs).toBeGreaterThan(0);
  expect(stats.kinds.scavenge.cpuMs).toBeNull();
  expect(stats.cpuMs).toBeNull();
  expect(stats.lastMs).toBeGreaterThan(0);
});

test('10 000 collections, 10 000 recorded', async () => {
  const { minor, full, total } = await runJson('collections.js', ['hooks', '9900', '100'], { flags: ['--expose-gc'] });
  expect(minor).toBe(9900);
  expect(full).toBe(100);
  expect(total).toBe(10000);
});

// The hooks are there as well and share the record: each is in it twice. Only full
// ones are forced: what is told to the observer makes V8 scavenge by itself.
test('a PerformanceObserver records each as well', async () => {
  const { full } = await runJson('collections.js', ['both', '0', '1000'], { flags: ['--expose-gc'] });
  expect(full).toBe(2000);
});

test('scavenges are counted', async () => {
  const before = monitor.getGCStats().kinds.scavenge.count;
  await until(() => {
    for (let count = 0; count < 100000; count++) void { count };
    const rows = Array.from({ length: 20000 }, (_, index) => ({ index }));
    return rows.length > 0 && monitor.getGCStats().kinds.scavenge.count > before;
  });
  const stats = monitor.getGCStats();
  expect(stats.count).toBeGreaterThanOrEqual(stats.kinds.scavenge.count);
});

test('collections tell the heap while the event loop is blocked', () => {
  const blocked = new MemoryMonitor({ sampleInterval: '10ms', longPause: '60s' });
  blocked.startMonitoring();
  const before = blocked.latest?.heapUsedBytes ?? 0;
  const grown = () => (blocked.latest?.heapUsedBytes ?? 0) - before;
  const kept = Array.from({ length: 600000 }, (_, index) => ({ index }));
  const deadline = Date.now() + 20000;
  // Goes on allocating: how much fits before V8 collects is its own affair.
  while (grown() <= 10 * MB && Date.now() < deadline) void kept.slice(0, 1000);
  expect(grown()).toBeGreaterThan(10 * MB);
  expect(kept).toHaveLength(600000);
  blocked.shutdown();
});

test('a collection frees what is dead, and says how much', () => {
  const holder = { dead: Array.from({ length: 500000 }, (_, index) => ({ index })) };
  monitor.triggerGc();
  expect(holder.dead).toHaveLength(500000);
  holder.dead = null;
  const freed = monitor.triggerGc();
  expect(freed).toBeGreaterThan(5 * MB);
  expect(freed).toBeLessThan(200 * MB);
});

test('the flag of V8 is put back', () => {
  monitor.triggerGc();
  expect(vm.runInNewContext('typeof gc')).toBe('undefined');
  expect(monitor.gcCount).toBeGreaterThan(0);
});

// Kinds and pauses that do not happen by themselves: a minor mark-sweep, seconds.
describe('without the hooks', () => {
  let callback;
  class PerformanceObserver {
    constructor(given) {
      callback = given;
    }

    observe(options) {
      this.options = options;
    }
  }
  PerformanceObserver.supportedEntryTypes = ['gc'];
  const performance = { now: () => 100000 };
  const tell = (...entries) => callback({ getEntries: () => entries });

  beforeAll(() => gc.observe({ PerformanceObserver, performance }));

  test('a PerformanceObserver records', () => {
    tell({ detail: { kind: 2 }, duration: 5, startTime: 99990 }, { kind: 2, duration: 3, startTime: 99996 });
    expect(gc.gcStats().kinds.minorMarkSweep).toEqual({
      count: 2,
      totalMs: 8,
      cpuMs: null,
      p50Ms: 3.014655,
      p95Ms: 5,
      p99Ms: 5,
      maxMs: 5,
      lastMs: 3,
    });
  });

  test('what is no kind of V8 is left out', () => {
    const { kinds } = gc.gcStats();
    tell({ detail: { kind: 3 }, duration: 11000, startTime: 80000 }, { detail: { kind: 64 }, duration: 11000, startTime: 80000 });
    const now = gc.gcStats();
    expect(now.kinds.minorMarkSweep).toEqual(kinds.minorMarkSweep);
    expect(now.maxMs).toBeLessThan(11000);
  });

  test('phases are no collections', () => {
    tell({ detail: { kind: 8 }, duration: 9000, startTime: 80000 });
    const stats = gc.gcStats();
    expect(stats.kinds.incrementalMarking.maxMs).toBe(9000);
    expect(stats.maxMs).toBeLessThan(9000);
    const { scavenge, minorMarkSweep, markSweepCompact } = stats.kinds;
    expect(stats.count).toBe(scavenge.count + minorMarkSweep.count + markSweepCompact.count);
  });

  test('the longest pause of each second counts', () => {
    for (let ago = 10; ago <= 20; ago++) tell({ detail: { kind: 2 }, duration: 4000, startTime: 100000 - ago * 1000 });
    expect(gc.gcStats().longestPerSecondP95Ms).toBe(4000);
  });
});

describe('long pauses', () => {
  let warnings;
  let clock;
  let passed = 0; // ms by which the clock is ahead
  const { now } = Date;
  beforeEach(() => {
    warnings = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    clock = jest.spyOn(Date, 'now').mockImplementation(() => now() + passed);
    minuteLater();
  });
  afterEach(() => {
    warnings.mockRestore();
    clock.mockRestore();
  });

  // Reports are a minute apart.
  const minuteLater = () => (passed += 60_001);
  const texts = () => warnings.mock.calls.map(([text]) => text);
  const fullPause = (seconds) => native.gcRecord(4, 0, seconds * 1e9);

  test('are reported once, when a monitor comes by', () => {
    const strict = new MemoryMonitor({ longPause: '40s' });
    strict.checkMemoryPressure();
    warnings.mockClear(); // what was kept for the monitors before
    minuteLater();
    fullPause(40);
    fullPause(41);
    expect(texts()).toEqual([]);
    strict.checkMemoryPressure();
    expect(texts()).toEqual([
      'a garbage collection (markSweepCompact) paused for 41000.0 ms, longer than memory.long_pause',
    ]);
    expect(warnings.mock.calls[0][1]).toMatchObject({ type: 'MemguardWarning', code: 'MEMGUARD_LONG_PAUSE' });
    minuteLater();
    strict.checkMemoryPressure();
    expect(warnings).toHaveBeenCalledTimes(1);
    strict.shutdown();
  });

  test('reports are a minute apart', () => {
    const strict = new MemoryMonitor({ longPause: '40s' });
    strict.checkMemoryPressure();
    warnings.mockClear();
    minuteLater();
    fullPause(41);
    strict.checkMemoryPressure();
    fullPause(42);
    fullPause(43);
    strict.checkMemoryPressure();
    expect(warnings).toHaveBeenCalledTimes(1);
    minuteLater();
    strict.checkMemoryPressure();
    expect(warnings).toHaveBeenCalledTimes(3);
    strict.shutdown();
  });

  test('at most five are reported one by one', () => {
    const strict = new MemoryMonitor({ longPause: '40s' });
    strict.checkMemoryPressure();
    warnings.mockClear();
    minuteLater();
    for (let seconds = 41; seconds < 53; seconds++) fullPause(seconds);
    strict.checkMemoryPressure();
    expect(warnings).toHaveBeenCalledTimes(6);
    expect(texts()[4]).toMatch('45000.0 ms');
    expect(texts()[5]).toBe('and 7 more pauses longer than memory.long_pause');
    strict.shutdown();
  });

  test('the strictest of the running monitors counts, and a change at once', () => {
    const strict = new MemoryMonitor({ longPause: '40s' });
    strict.startMonitoring();
    const mild = new MemoryMonitor({ longPause: '60s' });
    mild.checkMemoryPressure();
    warnings.mockClear();
    minuteLater();
    fullPause(50);
    mild.checkMemoryPressure();
    expect(warnings).toHaveBeenCalledTimes(1);
    strict.updateConfig({ longPause: '55s' });
    fullPause(54);
    minuteLater();
    mild.checkMemoryPressure();
    expect(warnings).toHaveBeenCalledTimes(1);
    mild.shutdown();
    strict.shutdown();
  });

  test('those that the hooks see are reported', () => {
    const strict = new MemoryMonitor({ longPause: '0.001ms' });
    strict.checkMemoryPressure();
    warnings.mockClear();
    minuteLater();
    strict.triggerGc();
    strict.checkMemoryPressure();
    expect(texts().join()).toMatch(/\((markSweepCompact)\) paused for [0-9.]+ ms/);
    strict.updateConfig({ longPause: '1min' });
    strict.shutdown();
  });
});

test('statistics of the heap are those of V8', () => {
  const limit = v8.getHeapStatistics().heap_size_limit;
  monitor.collectMemoryStats();
  expect(monitor.latest.heapLimitBytes).toBe(limit);
});
