'use strict';

// Memory that is reclaimed: by hand, by the worker thread, and wherever a program
// may ask. What needs a heap of its own runs in a process of its own.
const { MB, lastLine, run, runJson, thrown, until } = require('./helpers');

const { MemoryMonitor, registerCache, registerPool } = require('../..');
const { reclaim, rounds } = require('../../node/lib/reclaim');

// As much as a program may have: nothing happens by itself.
const AMPLE = { maxMemoryMb: '16TB', enableAutoGc: false, longPause: '60s' };
const BY_HAND = { shedCallbacks: [], latest: null }; // in place of a monitor's core

const opened = [];
function open(config) {
  const monitor = new MemoryMonitor(config);
  opened.push(monitor);
  return monitor;
}

let warnings;
beforeEach(() => {
  warnings = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
});
afterEach(() => {
  for (const monitor of opened.splice(0)) monitor.shutdown();
  warnings.mockRestore();
});

function warned(code) {
  return warnings.mock.calls.filter(([, options]) => options.code === code).map(([text]) => text);
}

function done({ steps }) {
  return steps.map(({ action, wasDone }) => [action, wasDone]);
}

/* ---- by hand ---------------------------------------------------------------- */

test('a dead heap goes back to the system', async () => {
  const { rssMb, heapMb, freedMb, step, steps } = await runJson('reclaim.js', ['release']);
  expect([step.action, step.wasDone, steps]).toEqual(['release', true, 1]);
  expect(step.gcMs).toBeGreaterThan(0);
  expect(step.tookMs).toBeGreaterThanOrEqual(step.gcMs);
  expect(heapMb).toBeGreaterThan(60);
  expect(rssMb).toBeGreaterThan(60);
  expect(freedMb).toBeGreaterThan(60);
});

test('dead Buffers go back to the system', async () => {
  const { rssMb, freedMb, kept } = await runJson('reclaim.js', ['buffers']);
  expect(kept).toBeNull();
  expect(rssMb).toBeGreaterThan(120);
  expect(freedMb).toBeGreaterThan(120);
});

test('a round tells what was done', () => {
  const monitor = open(AMPLE);
  const before = monitor.getReclaimStats();
  const round = monitor.releaseMemory();
  expect(round).toMatchObject({ reason: 'manual', level: expect.any(String), isUnreclaimable: false });
  expect(round.rssBeforeBytes).toBeGreaterThan(MB);
  expect(round.heapBeforeBytes).toBeGreaterThan(MB);
  expect(round.heapAfterBytes).toBeGreaterThan(MB);
  expect(round.number).toBe(before.rounds + 1);
  expect(monitor.getReclaimHistory(1)).toEqual([round]);
  const after = monitor.getReclaimStats();
  expect(after.rounds).toBe(before.rounds + 1);
  expect(after.actions.release).toBe(before.actions.release + 1);
  expect(after.gcMs).toBeGreaterThan(before.gcMs);
  expect(Object.keys(after.actions)).toEqual(['caches', 'pools', 'trim', 'young', 'full', 'release', 'shed']);
});

test('a collection that is asked for is a round as well', () => {
  const monitor = open(AMPLE);
  const before = monitor.getReclaimStats();
  monitor.triggerGc();
  const after = monitor.getReclaimStats();
  expect(after.actions.full).toBe(before.actions.full + 1);
  expect(after.gcMs).toBeGreaterThan(before.gcMs);
  expect(monitor.getReclaimHistory(1)[0]).toMatchObject({ reason: 'manual', steps: [{ action: 'full', wasDone: true }] });
});

test('listeners are told of each round', () => {
  const monitor = open(AMPLE);
  const seen = [];
  monitor.on('optimization:automatic', (round) => seen.push(round));
  const round = monitor.releaseMemory();
  monitor.collectMemoryStats();
  expect(seen).toEqual([round]);
});

test('actions by hand, and what is no action', () => {
  const monitor = open(AMPLE);
  monitor.releaseMemory();
  const shares = [];
  const cache = registerCache((share) => shares.push(share));
  const pool = registerPool({ trim: (share) => shares.push(-share) });
  const round = reclaim(BY_HAND, ['trim', 'young', 'pools', 'caches'], 'idle', 0.5);
  expect(done(round)).toEqual([['caches', true], ['pools', true], ['trim', true], ['young', true]]);
  expect(shares).toEqual([0.5, -0.5]);
  cache.unregister();
  pool.unregister();
  expect(rounds(1)[0].reason).toBe('idle');
  const error = thrown(() => reclaim(BY_HAND, ['everything']));
  expect(error).toBeInstanceOf(TypeError);
  expect(error.code).toBe('ERR_MEMGUARD_INVALID');
  expect(error.message).toBe(
    'an action is "everything", allowed: "caches", "pools", "trim", "young", "full", "release", "shed"',
  );
  expect(thrown(() => reclaim(BY_HAND, ['trim'], 'boredom')).message).toMatch('reason is "boredom", allowed: "bytes"');
});

test('the history is bounded and checks its argument', () => {
  const monitor = open(AMPLE);
  for (let count = 0; count < 70; count++) reclaim(BY_HAND, ['caches']);
  const history = monitor.getReclaimHistory();
  expect(history).toHaveLength(64);
  expect(history[63].number - history[0].number).toBe(63);
  expect(monitor.getReclaimHistory(1e9)).toHaveLength(64);
  expect(monitor.getReclaimHistory(0)).toEqual([]);
  expect(thrown(() => monitor.getReclaimHistory(-1)).code).toBe('ERR_MEMGUARD_RANGE');
  expect(thrown(() => monitor.getReclaimHistory('all')).code).toBe('ERR_MEMGUARD_TYPE');
});

test('after shutdown() nothing is reclaimed', () => {
  const monitor = new MemoryMonitor(AMPLE);
  monitor.shutdown();
  expect(thrown(() => monitor.releaseMemory()).code).toBe('ERR_MEMGUARD_CLOSED');
  expect(thrown(() => monitor.triggerGc()).code).toBe('ERR_MEMGUARD_CLOSED');
});

/* ---- by itself ----------------------------------------------------------------- */

test('an idle event loop is collected by the worker thread', async () => {
  const { heapMb } = await runJson('reclaim.js', ['idle']);
  expect(heapMb).toBeGreaterThan(60);
});

test('a blocked event loop is collected while it is blocked', async () => {
  const { heapMb, released } = await runJson('reclaim.js', ['blocked']);
  expect(heapMb).toBeGreaterThan(60);
  expect(released).toBeGreaterThan(0);
});

test('where V8\'s own functions cannot be had, JavaScript collects', async () => {
  const { heapMb, freedMb, wasDone } = await runJson('reclaim.js', ['fallback']);
  expect(heapMb).toBeGreaterThan(60);
  expect(freedMb).toBeGreaterThan(60);
  expect(wasDone).toBe(true);
});

test('without a thread the checks of the program reclaim', async () => {
  const { share, round } = await runJson('reclaim.js', ['checked']);
  expect(share).toBe(1);
  expect([round.number, round.reason, round.level]).toEqual([1, 'forced', 'critical']);
  expect(done(round)[0]).toEqual(['caches', true]);
  expect(round.steps.map(({ action }) => action)).toContain('full');
});

test('not where it is switched off', async () => {
  const monitor = open({ ...AMPLE, maxMemoryMb: 1, sampleInterval: '10ms' });
  const { rounds: before } = monitor.getReclaimStats();
  monitor.startMonitoring();
  await until(() => monitor.latest?.number > 5);
  monitor.checkMemoryPressure();
  expect(monitor.getReclaimStats().rounds).toBe(before);
});

test('what a blocked event loop was asked for is done after it, once', async () => {
  const { round, during, after } = await runJson('reclaim.js', ['late']);
  expect(done(round).slice(0, 2)).toEqual([['caches', false], ['pools', false]]);
  expect([during, after]).toEqual([0, 1]);
});

test('a manager reclaims as well, and tells', async () => {
  const round = await runJson('reclaim.js', ['manager']);
  expect(done(round)).toEqual(expect.arrayContaining([['caches', true], ['trim', true], ['full', true]]));
});

test('what is asked for in the background keeps no process alive', async () => {
  const { code, signal, stdout } = await run('reclaim.js', ['return']);
  expect([code, signal, stdout]).toEqual([0, null, '']);
});

/* ---- code of the host that fails ------------------------------------------------ */

test('a cache that throws does not stop the rest', () => {
  const cache = registerCache(() => {
    throw new Error('no cache here');
  }, { name: 'broken' });
  for (let count = 0; count < 2; count++) {
    expect(done(reclaim(BY_HAND, ['caches', 'trim']))).toEqual([['caches', true], ['trim', true]]);
  }
  cache.unregister();
  expect(warned('ERR_MEMGUARD_HOST')).toEqual([
    'shrinking of cache "broken" failed: no cache here (further failures of it are not reported)',
  ]);
});

test('a shed callback that throws is reported once, the others are called', () => {
  const monitor = open(AMPLE);
  const reports = [];
  monitor.registerShedCallback(() => {
    throw new Error('nothing to shed');
  });
  monitor.registerShedCallback((report) => reports.push(report));
  monitor.collectMemoryStats();
  for (let count = 0; count < 2; count++) {
    reclaim({ shedCallbacks: monitor.shedCallbacks, latest: monitor.latest }, ['shed'], 'unreclaimable');
  }
  expect(reports).toEqual([
    { reason: 'unreclaimable', sample: monitor.latest },
    { reason: 'unreclaimable', sample: monitor.latest },
  ]);
  expect(warned('ERR_MEMGUARD_HOST')).toEqual([
    'a shed callback failed: nothing to shed (further failures of it are not reported)',
  ]);
  expect(thrown(() => monitor.registerShedCallback(1)).code).toBe('ERR_MEMGUARD_TYPE');
});

test('from inside an action nothing is reclaimed, but a collection is', () => {
  const monitor = open(AMPLE);
  const results = [];
  monitor.registerShedCallback(() => {
    results.push(thrown(() => monitor.releaseMemory()).code, monitor.triggerGc() >= 0);
  });
  reclaim({ shedCallbacks: monitor.shedCallbacks, latest: null }, ['shed']);
  expect(results).toEqual(['ERR_MEMGUARD_CONFLICT', true]);
});

test('a limit below what is in use: a few rounds, then the host is told', async () => {
  const result = await runJson('reclaim.js', ['lowered']);
  expect([result.kept, result.isUnreclaimable, result.unreclaimable]).toEqual([200, true, 1]);
  expect(result.shed).toBeGreaterThanOrEqual(2); // both callbacks, though one throws
  expect(result.collections).toBeLessThan(40);
  expect(result.later).toBeLessThanOrEqual(4);
});

/* ---- wherever a program may ask -------------------------------------------------- */

test('in a finalizer', async () => {
  expect(await runJson('reclaim.js', ['finalizer'])).toEqual([true, true]);
});

test('in a listener of a signal', async () => {
  expect(await runJson('reclaim.js', ['signal'])).toEqual([true, true]);
});

test('when the process ends', async () => {
  expect(await runJson('reclaim.js', ['exit'])).toEqual([true, true]);
});

test('in many Workers at once', async () => {
  expect(await runJson('reclaim.js', ['workers'])).toEqual([7, 7, 7, 7, 7, 7]);
});

test('in Workers that are terminated at any moment', async () => {
  const { code, signal, stdout } = await run('reclaim.js', ['storm']);
  expect([code, signal, lastLine(stdout)]).toEqual([0, null, '48']);
});

test('two copies of the module in one isolate have one engine', () => {
  const monitor = open(AMPLE);
  const { rounds: before } = monitor.getReclaimStats();
  jest.isolateModules(() => {
    const other = new (require('../..').MemoryMonitor)(AMPLE);
    other.releaseMemory();
    expect(other.getReclaimStats().rounds).toBe(before + 1);
    other.shutdown();
  });
  expect(monitor.getReclaimStats().rounds).toBe(before + 1);
});
