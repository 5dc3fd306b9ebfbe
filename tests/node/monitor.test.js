'use strict';

const { EventEmitter } = require('events');
const { MemoryMonitor, ResourceManager } = require('../..');
const { MB, thrown, until } = require('./helpers');

let monitors = [];
let warnings;

function open(config) {
  const monitor = new MemoryMonitor(config);
  monitors.push(monitor);
  return monitor;
}

beforeEach(() => {
  warnings = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
});

afterEach(() => {
  for (const monitor of monitors) monitor.shutdown();
  monitors = [];
  warnings.mockRestore();
});

// Under a limit of 1 MB the engine collects; how long that takes is not for here.
function warned() {
  return warnings.mock.calls.map(([text]) => text).filter((text) => !text.includes('long_pause'));
}

const STATS = [
  'heapUsed', 'heapTotal', 'external', 'rss', 'arrayBuffers', 'timestamp',
  'heapUsedPercentage', 'heapUsedMB', 'heapTotalMB', 'rssMB',
];

describe('alone', () => {
  test('attributes of existing hosts', () => {
    const config = { max_memory_mb: 100, pressure_threshold: 0.7, monitoring_interval: 5 };
    const monitor = open(config);
    expect(monitor).toBeInstanceOf(EventEmitter);
    expect([monitor.maxMemoryMb, monitor.pressureThreshold, monitor.monitoringInterval]).toEqual([100, 0.7, 5]);
    expect([monitor.operationCount, monitor.peakMemory, monitor.gcCount, monitor.lastCheckTime]).toEqual([0, 0, 0, 0]);
    expect(monitor.pressureCallbacks).toEqual([]);
    expect(monitor.config).toBe(config);
    expect(monitor.latest).toBeNull();
  });

  test('checks the pressure of real memory', () => {
    const used = process.memoryUsage().rss / MB;
    const monitor = open({ max_memory_mb: Math.ceil(used * 2) });
    const before = Date.now();
    const pressure = monitor.checkMemoryPressure();
    expect(pressure).toBeGreaterThan(0.3);
    expect(pressure).toBeLessThan(0.8);
    expect(monitor.operationCount).toBe(1);
    expect(Math.abs(monitor.peakMemory - used)).toBeLessThan(0.2 * used);
    expect(Math.abs(monitor.lastCheckTime - before)).toBeLessThan(10000);
    expect(monitor.latest).toMatchObject({ number: 1, pressure, domain: 'max_memory', level: 'normal' });
    expect(Object.isFrozen(monitor.latest)).toBe(true);
    expect(monitor.latest).toBe(monitor.latest);
  });

  test('calls pressure callbacks, which may fail', () => {
    const monitor = open({ max_memory_mb: 1 });
    const seen = [];
    const bad = () => { throw new Error('bad callback'); };
    monitor.registerPressureCallback(bad);
    monitor.registerPressureCallback((pressure) => seen.push(pressure));
    monitor.pressureCallbacks.push(5, (pressure) => seen.push(-pressure));
    monitor.collectMemoryStats();
    monitor.collectMemoryStats();
    expect(seen).toEqual([1, -1, 1, -1]);
    expect(warned()).toEqual([expect.stringContaining('bad callback'), expect.stringContaining('pressure callback')]);
    monitor.pressureCallbacks.length = 0;
    monitor.collectMemoryStats();
    expect(seen).toHaveLength(4);
    expect(thrown(() => monitor.registerPressureCallback('f')).code).toBe('ERR_MEMGUARD_TYPE');
  });

  test('a callback that re-enters the monitor', () => {
    const monitor = open({ max_memory_mb: 1 });
    let calls = 0;
    monitor.registerPressureCallback(() => {
      calls++;
      monitor.checkMemoryPressure();
      if (calls < 3) monitor.collectMemoryStats();
    });
    monitor.collectMemoryStats();
    expect(calls).toBe(3);
  });

  test('a listener that never stops asking does not block', async () => {
    const monitor = open();
    let calls = 0;
    monitor.on('stats:collected', () => {
      calls++;
      monitor.collectMemoryStats();
    });
    monitor.collectMemoryStats();
    const atOnce = calls;
    expect(atOnce).toBeGreaterThan(1);
    expect(atOnce).toBeLessThanOrEqual(64);
    await until(() => calls > atOnce);
    monitor.removeAllListeners();
  });

  test('defaults of the queue service', () => {
    const { settings, thresholds } = open();
    expect(settings.memory.monitorInterval).toBe(30);
    expect(settings.memory.historySize).toBe(1000);
    expect(settings.memory.rapidGrowthMbPerMinute).toBe(10);
    expect(thresholds).toEqual({
      heapUsedWarning: 70, heapUsedCritical: 85, rssWarning: 512, rssCritical: 1024, leakWarningCount: 100, leakCriticalCount: 500,
    });
  });
});

describe('statistics', () => {
  test('have the shape of existing hosts', () => {
    const monitor = open();
    const stats = monitor.collectMemoryStats();
    const memory = process.memoryUsage();
    expect(Object.keys(stats)).toEqual(STATS);
    for (const name of STATS) expect([name, Number.isFinite(stats[name])]).toEqual([name, true]);
    expect(Math.abs(stats.rss - memory.rss)).toBeLessThan(0.2 * memory.rss);
    expect(Math.abs(stats.heapUsed - memory.heapUsed)).toBeLessThan(0.5 * memory.heapUsed);
    expect(stats.heapUsedMB).toBe(stats.heapUsed / MB);
    expect(stats.heapTotalMB).toBe(stats.heapTotal / MB);
    expect(stats.rssMB).toBe(stats.rss / MB);
    const limit = require('v8').getHeapStatistics().heap_size_limit;
    expect(stats.heapUsedPercentage).toBeCloseTo((100 * stats.heapUsed) / limit, 9);
    expect(monitor.getCurrentStats()).toEqual(stats);
  });

  test('getCurrentStats() takes a sample if there is none, and records nothing', () => {
    const monitor = open();
    expect(Object.keys(monitor.getCurrentStats())).toEqual(STATS);
    expect(monitor.getMemoryHistory()).toEqual([]);
  });

  test('history is bounded and in order', () => {
    const monitor = open({ history_size: 5 });
    const all = Array.from({ length: 8 }, () => monitor.collectMemoryStats());
    expect(monitor.getMemoryHistory()).toEqual(all.slice(3));
    expect(monitor.getMemoryHistory(5)).toEqual(all.slice(3));
    expect(monitor.getMemoryHistory(0).length).toBeLessThanOrEqual(5);
    monitor.reset();
    expect(monitor.getMemoryHistory()).toEqual([]);
    expect(monitor.operationCount).toBe(0);
    expect(thrown(() => monitor.getMemoryHistory('x')).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => monitor.getMemoryHistory(-1)).code).toBe('ERR_MEMGUARD_RANGE');
  });

  test('trends', () => {
    const monitor = open();
    monitor.collectMemoryStats();
    const trends = monitor.getMemoryTrends(10);
    expect(trends.trend).toBe('stable');
    expect(trends.mbPerMinute).toBe(0);
    expect(trends.rss).toEqual({ direction: 'stable', mbPerMinute: 0, tau: 0, points: 1 });
    expect(trends.heap).toEqual({ direction: 'stable', mbPerMinute: 0, tau: 0, points: 1 });
    expect(thrown(() => monitor.getMemoryTrends(0)).code).toBe('ERR_MEMGUARD_RANGE');
  });

  test('a report', () => {
    const monitor = open({ rss_warning: 1, rss_critical: 2 });
    monitor.registerObjectCounter('sockets');
    monitor.incrementObjectCounter('sockets', 3);
    monitor.collectMemoryStats();
    const report = monitor.getMemoryReport();
    expect(Object.keys(report)).toEqual([
      'timestamp', 'current', 'trends', 'gc', 'thresholds', 'counters', 'history', 'peakMemoryMB', 'eventsLost', 'health', 'recommendations',
    ]);
    expect(report.counters).toEqual({ sockets: 3 });
    expect(report.history).toEqual({ count: 1, capacity: 1000 });
    expect(report.health.status).toBe('critical');
    expect(report.recommendations).toContain('Resident memory is critical: shed load or restart soon.');
  });

  test('health', () => {
    const monitor = open({ rss_warning: '1TB', rss_critical: '1TB' });
    expect(monitor.healthCheck()).toMatchObject({ status: 'healthy', healthy: true, issues: [], recommendations: [] });
    monitor.updateThresholds({ rssWarning: 1 });
    const health = monitor.healthCheck();
    expect([health.status, health.healthy]).toEqual(['warning', false]);
    expect(health.issues).toEqual([{ type: 'rss_warning', level: 'warning', message: expect.any(String), value: health.stats.rssMB, threshold: 1 }]);
  });
});

describe('events', () => {
  test('of a collection of statistics', () => {
    const monitor = open({ rss_warning: 1, rss_critical: 2 });
    const seen = [];
    monitor.on('stats:collected', (stats) => seen.push(['stats', stats]));
    monitor.on('threshold:exceeded', (event) => seen.push(['threshold', event]));
    const stats = monitor.collectMemoryStats();
    expect(seen.map(([name]) => name)).toEqual(['stats', 'threshold']);
    expect(seen[0][1]).toEqual(stats);
    const { level, alerts, stats: theirs } = seen[1][1];
    expect([level, theirs]).toEqual(['critical', stats]);
    expect(alerts.map(({ type }) => type)).toContain('rss_critical');
    expect(alerts.find(({ type }) => type === 'rss_critical')).toEqual({
      type: 'rss_critical', level: 'critical', message: 'Resident memory is critical: shed load or restart soon.', value: stats.rssMB, threshold: 2,
    });
  });

  test('of levels', () => {
    const monitor = open({ max_memory_mb: 1 });
    const seen = [];
    monitor.on('level:changed', (event) => seen.push(event));
    monitor.collectMemoryStats();
    monitor.collectMemoryStats();
    expect(seen).toEqual([expect.objectContaining({ level: 'critical', previous: 'normal', domain: 'max_memory' })]);
  });

  test('of object counters', () => {
    const monitor = open();
    const seen = [];
    monitor.on('leak:warning', ({ key, count, threshold }) => seen.push(['warning', key, count, threshold]));
    monitor.on('leak:critical', ({ key, count, threshold }) => seen.push(['critical', key, count, threshold]));
    monitor.registerObjectCounter('sockets');
    expect(monitor.incrementObjectCounter('sockets', 99)).toBe(99);
    expect(seen).toEqual([]);
    expect(monitor.incrementObjectCounter('sockets')).toBe(100);
    monitor.incrementObjectCounter('sockets');
    monitor.incrementObjectCounter('sockets', 399);
    expect(seen).toEqual([['warning', 'sockets', 100, 100], ['critical', 'sockets', 500, 500]]);
    expect(monitor.incrementObjectCounter('sockets', -1000)).toBe(0);
    monitor.incrementObjectCounter('sockets', 100);
    expect(seen).toHaveLength(3);
    monitor.resetObjectCounter('sockets');
    expect(monitor.getObjectCounters()).toEqual({ sockets: 0 });
  });

  test('bad counters', () => {
    const monitor = open();
    monitor.registerObjectCounter('a');
    const uses = [
      [() => monitor.registerObjectCounter(5), 'ERR_MEMGUARD_TYPE'],
      [() => monitor.registerObjectCounter(''), 'ERR_MEMGUARD_INVALID'],
      [() => monitor.registerObjectCounter('x'.repeat(64)), 'ERR_MEMGUARD_INVALID'],
      [() => monitor.incrementObjectCounter('b'), 'ERR_MEMGUARD_NOT_FOUND'],
      [() => monitor.incrementObjectCounter('a', 0.5), 'ERR_MEMGUARD_RANGE'],
      [() => monitor.incrementObjectCounter('a', Infinity), 'ERR_MEMGUARD_RANGE'],
      [() => monitor.incrementObjectCounter('a', '1'), 'ERR_MEMGUARD_TYPE'],
      [() => monitor.resetObjectCounter('b'), 'ERR_MEMGUARD_NOT_FOUND'],
      [() => { for (let n = 0; n < 300; n++) monitor.registerObjectCounter(`k${n}`); }, 'ERR_MEMGUARD_RANGE'],
    ];
    expect(uses.map(([use]) => thrown(use).code)).toEqual(uses.map(([, code]) => code));
  });

  test('a listener that throws or rejects stops nobody', async () => {
    const monitor = open();
    const seen = [];
    monitor.on('stats:collected', () => { throw new Error('bad listener'); });
    monitor.on('stats:collected', async () => { throw new Error('bad promise'); });
    monitor.once('stats:collected', () => seen.push('once'));
    monitor.on('stats:collected', function listener() {
      seen.push(this === monitor);
    });
    monitor.collectMemoryStats();
    monitor.collectMemoryStats();
    await null;
    expect(seen).toEqual(['once', true, true]);
    await until(() => warned().length === 2);
    expect(warned()).toEqual([expect.stringContaining('bad listener'), expect.stringContaining('bad promise')]);
  });

  test('thresholds change all or none', () => {
    const monitor = open();
    monitor.updateThresholds({ heapUsedWarning: 60, rssCritical: '2GB' });
    expect(monitor.thresholds).toMatchObject({ heapUsedWarning: 60, rssCritical: 2048 });
    expect(thrown(() => monitor.updateThresholds({ heapUsedWarning: 65, heapUsedCritical: 50 })).code).toBe('ERR_MEMGUARD_CONFLICT');
    expect(thrown(() => monitor.updateThresholds({ heapUsed: 65 })).code).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
    expect(monitor.thresholds).toMatchObject({ heapUsedWarning: 60, rssCritical: 2048 });
  });
});

describe('in the background', () => {
  test('records at its interval until it is stopped', async () => {
    const monitor = open({ sample_interval: '10ms' });
    const life = [];
    monitor.on('monitoring:started', (event) => life.push(event));
    monitor.on('monitoring:stopped', () => life.push('stopped'));
    const stats = [];
    monitor.on('stats:collected', (event) => stats.push(event));
    monitor.startMonitoring(20);
    monitor.startMonitoring();
    expect(monitor.isMonitoring).toBe(true);
    await until(() => stats.length >= 4);
    expect(Object.keys(stats[3])).toEqual(STATS);
    expect(stats[3].heapUsed).toBeGreaterThan(0);
    expect(monitor.getMemoryHistory().length).toBeGreaterThanOrEqual(4);
    monitor.stopMonitoring();
    monitor.stopMonitoring();
    expect(monitor.isMonitoring).toBe(false);
    expect(life).toEqual([{ intervalMs: 20 }, 'stopped']);
    const { number } = monitor.latest;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(monitor.latest.number).toBe(number);
  });

  test('goes on while the event loop is blocked; events come after', async () => {
    const monitor = open({ sample_interval: '10ms' });
    const events = [];
    monitor.on('stats:collected', (event) => events.push(event));
    monitor.startMonitoring(10);
    await until(() => events.length > 0);
    const end = Date.now() + 20000;
    const { number } = monitor.latest;
    const before = events.length;
    while (monitor.latest.number < number + 20 && Date.now() < end);
    const reached = monitor.latest.number;
    expect(reached).toBeGreaterThanOrEqual(number + 20);
    expect(events.length).toBe(before);
    await until(() => events.length > before);
    expect(monitor.getMemoryHistory().length).toBeGreaterThanOrEqual(10);
  });

  test('sees the heap grow', async () => {
    const monitor = open({ sample_interval: '10ms' });
    monitor.startMonitoring(10);
    monitor.triggerGc();
    const { number } = monitor.latest ?? { number: 0 };
    await until(() => monitor.latest?.number > number + 2);
    const before = monitor.latest.heapUsedBytes;
    const kept = Array.from({ length: 400000 }, (_, index) => ({ index }));
    await until(() => monitor.latest.heapUsedBytes > before + 5 * MB);
    expect(kept).toHaveLength(400000);
  });

  test('bad intervals', () => {
    const monitor = open();
    for (const [interval, code] of [[0, 'ERR_MEMGUARD_RANGE'], [-5, 'ERR_MEMGUARD_RANGE'], [NaN, 'ERR_MEMGUARD_RANGE'], ['soon', 'ERR_MEMGUARD_TYPE'], [null, 'ERR_MEMGUARD_TYPE'], [{}, 'ERR_MEMGUARD_TYPE']]) {
      expect([interval, thrown(() => monitor.startMonitoring(interval)).code]).toEqual([interval, code]);
    }
    expect(monitor.isMonitoring).toBe(false);
  });

  test('not while it is not enabled', () => {
    const monitor = open({ enabled: false });
    monitor.startMonitoring(20);
    expect(monitor.isMonitoring).toBe(false);
    expect(Object.keys(monitor.collectMemoryStats())).toEqual(STATS);
  });

  test('many monitors', async () => {
    const many = Array.from({ length: 20 }, () => open({ sample_interval: '10ms' }));
    for (const monitor of many) monitor.startMonitoring(10);
    await until(() => many.every((monitor) => monitor.getMemoryHistory().length >= 3));
    for (const monitor of many) monitor.shutdown();
    expect(many.map((monitor) => monitor.isMonitoring)).toEqual(many.map(() => false));
  });
});

describe('the end', () => {
  test('shutdown() of a monitor alone ends it for good', () => {
    const monitor = open();
    monitor.startMonitoring();
    monitor.shutdown();
    monitor.shutdown();
    expect(thrown(() => monitor.collectMemoryStats()).code).toBe('ERR_MEMGUARD_CLOSED');
    expect(thrown(() => monitor.startMonitoring()).code).toBe('ERR_MEMGUARD_CLOSED');
  });

  test('from inside a listener', () => {
    const monitor = open({ rss_warning: 1 });
    const seen = [];
    monitor.on('stats:collected', () => monitor.shutdown());
    monitor.on('threshold:exceeded', () => seen.push('after the end'));
    expect(thrown(() => monitor.collectMemoryStats()).code).toBe('ERR_MEMGUARD_CLOSED');
    expect(seen).toEqual([]);
  });

  test('a monitor of a manager can start again', async () => {
    const manager = new ResourceManager({ sample_interval: '10ms' });
    const monitor = manager.memoryMonitor;
    expect(monitor.isMonitoring).toBe(true);
    monitor.shutdown();
    expect(monitor.isMonitoring).toBe(false);
    monitor.startMonitoring(10);
    await until(() => monitor.getMemoryHistory().length > 1);
    await manager.close();
    expect(monitor.isMonitoring).toBe(false);
  });
});

describe('action', () => {
  test('optimizeMemory() measures what it frees', () => {
    const monitor = open();
    (() => Array.from({ length: 300000 }, (_, index) => ({ index })))();
    const report = monitor.optimizeMemory('gc');
    expect(report).toMatchObject({ method: 'gc', success: true });
    expect(Object.keys(report)).toEqual([
      'timestamp', 'reason', 'method', 'success', 'durationMs', 'freedMemoryMB', 'beforeStats', 'afterStats', 'optimizations',
    ]);
    expect(report.freedMemoryMB).toBeGreaterThan(1);
    expect(report.afterStats.heapUsed).toBeLessThan(report.beforeStats.heapUsed);
    expect(monitor.gcCount).toBe(1);
    monitor.optimizeMemory('aggressive');
    expect(monitor.gcCount).toBeGreaterThan(1);
    for (const method of ['hard', null, 5]) expect(thrown(() => monitor.optimizeMemory(method)).code).toBe('ERR_MEMGUARD_INVALID');
  });

  test('"aggressive" flushes buffers of a manager', async () => {
    const manager = new ResourceManager({ max_memory_mb: '16TB' });
    const taken = [];
    manager.createBuffer('a', (items) => taken.push(...items)).push(1);
    manager.memoryMonitor.optimizeMemory('gc');
    expect(taken).toEqual([]);
    manager.memoryMonitor.optimizeMemory('aggressive');
    expect(taken).toEqual([1]);
    await manager.close();
  });
});
