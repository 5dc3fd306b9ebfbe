'use strict';

// LeakDetector and FdWatch on programs that leak, in processes of their own.
const { FdWatch, LeakDetector, MemoryMonitor, ResourceManager } = require('../..');
const { runJson, run, thrown } = require('./helpers');

const namesOf = ({ culprits }, kind) => culprits.filter((one) => one.kind === kind).map(({ name }) => name);

describe('what leaks is found and named', () => {
  test('objects, by type', async () => {
    const { heap, events, stats, report } = await runJson('leak_detector.js', ['objects']);
    expect(heap.unit).toBe('bytes');
    expect(['suspect', 'likely', 'confirmed', 'critical']).toContain(heap.tier);
    expect(['low', 'medium', 'high']).toContain(heap.severity);
    expect(heap.growth).toBeGreaterThan(500_000);
    expect(heap.growthPerMinute).toBeGreaterThan(0);
    expect(namesOf(heap, 'type')[0]).toBe('Order');
    expect(heap.advice.join()).toContain('memlab');
    expect(events.some(([name, signal]) => signal === 'heap' && name !== 'leak:withdrawn')).toBe(true);
    expect(stats.censuses).toBeGreaterThanOrEqual(2);
    expect(stats.objectCensuses).toBeGreaterThanOrEqual(2);
    expect(stats.censusMs).toBeGreaterThan(0);
    expect(stats.longestPauseMs).toBeGreaterThan(0);
    expect(report).toContain('type Order');
  });

  test('objects, by the place that allocates', async () => {
    const { heap } = await runJson('leak_detector.js', ['sites']);
    expect(namesOf(heap, 'site').join()).toMatch(/leak_detector\.js:\d+/);
  });

  test('a mere suspicion does not stop the program for long', async () => {
    const { tier, why, stats } = await runJson('leak_detector.js', ['patient']);
    expect(tier).toBe('suspect');
    expect(why).toMatch(/^to count the objects takes about \d+ ms, it is done once the leak is likely$/);
    expect(stats.objectCensuses).toBe(0);
  });

  test('files, by target', async () => {
    const { fds } = await runJson('leak_detector.js', ['files']);
    expect(namesOf(fds, 'fd').join()).toMatch(/file .*leak_detector\.js/);
    expect(fds.advice.join()).toContain('lsof');
  });

  test('timers, by kind', async () => {
    const { handles } = await runJson('leak_detector.js', ['timers']);
    expect(namesOf(handles, 'type')).toContain('active Timeout');
  });

  test('beside a debugger nothing is inspected, and that is said', async () => {
    const { code, stdout } = await run('leak_detector.js', ['sites'], { flags: ['--inspect=0'] });
    expect(code).toBe(0);
    const { heap } = JSON.parse(stdout);
    expect(heap.absent).toEqual({ types: 'a debugger has this process', sites: 'a debugger has this process' });
    expect(namesOf(heap, 'type')).toEqual([]);
  });

  test('a heap profiler of the program goes on', async () => {
    expect(await runJson('leak_detector.js', ['profiled'])).toEqual({
      sites: 'the program runs the heap profiler itself',
      isRunning: true,
    });
  });
});

test('FdWatch has the program clean up, again when it is due', async () => {
  const { reports, failures, count } = await runJson('leak_detector.js', ['watch']);
  expect(reports).toHaveLength(2);
  for (const report of reports) {
    expect(report.count).toBeGreaterThanOrEqual(200);
    expect(report.threshold).toBe(200);
    expect(report.target).toMatch(/^file .*leak_detector\.js$/);
  }
  expect(failures).toBe(1);
  expect(count).toBeLessThan(200);
});

test('a detector keeps no process alive', async () => {
  expect(await runJson('leak_detector.js', ['unref'])).toEqual({});
});

test('workers with a detector end at any moment', async () => {
  const { code, signal, stdout } = await run('leak_workers.js');
  expect([code, signal, stdout.includes('"ended":true')]).toEqual([0, null, true]);
});

describe('life', () => {
  const QUIET = { sampleInterval: '1h' };

  test('it runs with a manager', async () => {
    const manager = new ResourceManager(QUIET);
    const { leakDetector } = manager;
    expect(leakDetector).toBeInstanceOf(LeakDetector);
    expect(leakDetector).toBe(manager.memoryMonitor.leakDetector);
    expect(leakDetector.isRunning).toBe(true);
    manager.updateConfig({ leak: { leakDetection: false } });
    expect(leakDetector.isRunning).toBe(false);
    manager.updateConfig({ leak: { leakDetection: true } });
    expect(leakDetector.isRunning).toBe(true);
    await manager.close();
    expect([leakDetector.isClosed, leakDetector.isRunning]).toEqual([true, false]);
    expect(thrown(() => leakDetector.findings).code).toBe('ERR_MEMGUARD_CLOSED');
    leakDetector.close();
  });

  test('alone it has a monitor of its own', () => {
    const detector = new LeakDetector(QUIET);
    expect(detector.isRunning).toBe(false);
    detector.start();
    detector.start();
    expect(detector.monitor.isMonitoring).toBe(true);
    expect(detector.check()).toEqual([]);
    expect([detector.report(), detector.asDict()]).toEqual(['no leak found', []]);
    expect(detector.stats().wide).toBeGreaterThan(0);
    detector.stop();
    expect([detector.isRunning, detector.monitor.isMonitoring]).toEqual([false, false]);
    detector.start();
    expect(detector.isRunning).toBe(true);
    detector.close();
    expect(thrown(() => detector.start()).code).toBe('ERR_MEMGUARD_CLOSED');
  });

  test('a monitor has one at most, and goes on without it', () => {
    const monitor = new MemoryMonitor(QUIET);
    const detector = new LeakDetector({ leak: { leakWindow: '1m' } }, { monitor });
    expect(monitor.settings.leak.leakWindow).toBe(60);
    expect(thrown(() => new LeakDetector(undefined, { monitor })).code).toBe('ERR_MEMGUARD_EXISTS');
    detector.close();
    expect(monitor.collectMemoryStats().rss).toBeGreaterThan(0);
    new LeakDetector(undefined, { monitor }).close();
    monitor.close();
  });

  test('a monitor that is closed first', () => {
    const monitor = new MemoryMonitor(QUIET);
    const { leakDetector } = monitor;
    leakDetector.start();
    monitor.close();
    expect(leakDetector.isRunning).toBe(false);
    leakDetector.close();

    const other = new MemoryMonitor(QUIET);
    const detector = new LeakDetector(undefined, { monitor: other });
    detector.start();
    other.close();
    detector.stop();
    detector.close();
  });

  test('counters of the program raise their events with no finding', () => {
    const detector = new LeakDetector(QUIET);
    const told = [];
    detector.start();
    detector.on('leak:warning', (finding) => told.push(finding));
    detector.monitor.registerObjectCounter('jobs');
    detector.monitor.on('leak:warning', ({ key }) => told.push(key));
    detector.monitor.incrementObjectCounter('jobs', 200);
    expect(told).toEqual(['jobs']);
    detector.close();
  });

  test('what it refuses', () => {
    const codeOf = (...values) => thrown(() => new LeakDetector(...values)).code;
    expect(codeOf({ leak: { leakWindow: '1ms' } })).toBe('ERR_MEMGUARD_RANGE');
    expect(codeOf({ leak: { timeScale: 0 } })).toBe('ERR_MEMGUARD_RANGE');
    expect(codeOf({ leak: { nonsense: 1 } })).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
    expect(codeOf({}, { monitor: {} })).toBe('ERR_MEMGUARD_TYPE');
    expect(codeOf({}, { censusHeapMb: -1 })).toBe('ERR_MEMGUARD_RANGE');
    const watchCodeOf = (options) => thrown(() => new FdWatch(options)).code;
    expect(watchCodeOf({ threshold: 0 })).toBe('ERR_MEMGUARD_RANGE');
    expect(watchCodeOf({ cleanup: 5 })).toBe('ERR_MEMGUARD_TYPE');
    expect(watchCodeOf({ limit: 5 })).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
    expect(watchCodeOf({ monitor: 5 })).toBe('ERR_MEMGUARD_TYPE');
  });
});
