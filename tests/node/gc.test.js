'use strict';

const v8 = require('v8');
const vm = require('vm');
const { MemoryMonitor, capabilities } = require('../..');
const gc = require('../../node/lib/gc');
const { MB, until } = require('./helpers');

const monitor = new MemoryMonitor();
afterAll(() => monitor.shutdown());

function fullCollections() {
  return monitor.getGCStats().kinds.markSweepCompact;
}

test('hooks are those of V8', () => {
  expect(capabilities.gcHooks).toBe('native');
  expect(monitor.getGCStats().source).toBe('native');
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
  const blocked = new MemoryMonitor({ sampleInterval: '10ms' });
  blocked.startMonitoring();
  const { number, heapUsedBytes } = blocked.latest ?? { number: 0, heapUsedBytes: 0 };
  const kept = Array.from({ length: 600000 }, (_, index) => ({ index }));
  const deadline = Date.now() + 20000;
  const begun = (blocked.latest?.number ?? number) + 3;
  while ((blocked.latest?.number ?? 0) < begun && Date.now() < deadline) void kept.slice(0, 1000);
  expect(blocked.latest.number).toBeGreaterThanOrEqual(begun);
  expect(blocked.latest.heapUsedBytes - heapUsedBytes).toBeGreaterThan(10 * MB);
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

test('without the hooks a PerformanceObserver counts', () => {
  let callback;
  class Observer {
    constructor(given) {
      callback = given;
    }

    observe(options) {
      this.options = options;
    }
  }
  Observer.supportedEntryTypes = ['gc'];
  gc.observe(Observer);
  callback({
    getEntries: () => [
      { detail: { kind: 4 }, duration: 5 },
      { detail: { kind: 4 }, duration: 3 },
      { kind: 1, duration: 1 },
      { detail: { kind: 3 }, duration: 9 },
      { detail: { kind: 64 }, duration: 9 },
    ],
  });
  const stats = gc.statsFrom('observer');
  expect(stats.source).toBe('observer');
  expect([stats.count, stats.totalMs, stats.maxMs]).toEqual([3, 9, 5]);
  expect(stats.kinds.markSweepCompact).toEqual({ count: 2, totalMs: 8, maxMs: 5, lastMs: 3 });
  expect(stats.kinds.scavenge).toEqual({ count: 1, totalMs: 1, maxMs: 1, lastMs: 1 });
});

test('statistics of the heap are those of V8', () => {
  const limit = v8.getHeapStatistics().heap_size_limit;
  monitor.collectMemoryStats();
  expect(monitor.latest.heapLimitBytes).toBe(limit);
});
