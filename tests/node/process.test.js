'use strict';

// Ends of processes and Workers, each in a process of its own.
const fs = require('fs');
const path = require('path');
const { removeTemporary, run, runJson, temporaryDirectory } = require('./helpers');

afterAll(removeTemporary);

async function exit(way) {
  const directory = temporaryDirectory();
  const result = await run('exit.js', [way, directory]);
  return { ...result, files: fs.readdirSync(directory) };
}

describe('a process that ends cleans up, once', () => {
  test.each([
    ['return', 0],
    ['later', 0],
    ['exit', 3],
    ['exit-code', 4],
    ['throw', 1],
    ['reject', 1],
    ['closed', 0],
    ['async-sink', 0],
    ['exit-in-callback', 5],
  ])('%s', async (way, code) => {
    const result = await exit(way);
    expect([result.code, result.signal, result.files]).toEqual([code, null, []]);
    expect(result.stdout.split('\n').sort()).toEqual(['', 'alone 4', 'callback', 'sink 1,2']);
    expect(result.stdout.indexOf('sink')).toBeLessThan(result.stdout.indexOf('callback'));
    expect(result.stderr).toContain('callback failed');
    expect(result.stderr).toContain('buffer "kept" is gone: its 1 items stay in the array');
    expect(result.stderr.includes('unhandled')).toBe(way === 'reject');
  });
});

test('signals are the host\'s: none is caught', async () => {
  const directory = temporaryDirectory();
  const { spawn } = require('child_process');
  const child = spawn(process.execPath, [path.join(__dirname, 'fixtures', 'exit.js'), 'signal', directory]);
  const end = new Promise((resolve) => child.on('close', (code, signal) => resolve([code, signal])));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGTERM');
  expect(await end).toEqual([null, 'SIGTERM']);
});

describe('Workers', () => {
  test('that end by themselves', async () => {
    expect(await runJson('workers.js', ['own'])).toEqual({ result: [0, 7, 8], sampled: true });
  });

  test('50 that are terminated at any moment', async () => {
    expect(await runJson('workers.js', ['storm'])).toEqual({ result: 50, sampled: true });
  });

  test('a terminated one leaves no temporary file', async () => {
    const file = path.join(temporaryDirectory(), 'temporary');
    fs.writeFileSync(file, 'x');
    expect(await runJson('workers.js', ['file', file])).toEqual({ result: 'terminated', sampled: true });
    expect(fs.existsSync(file)).toBe(false);
  });
});

test('loaded many times in one isolate', async () => {
  const { classes, counted, heard } = await runJson('reload.js');
  expect([classes, counted, heard]).toEqual([20, [2], 20]);
});

test('as a module', async () => {
  const { names, same, items } = await runJson('import.mjs');
  expect(names).toEqual([
    'BufferManager', 'FdWatch', 'HeapTuner', 'IndicatorCache', 'LeakCulprit', 'LeakDetector', 'LeakFinding',
    'ManagedConnectionPool', 'MemoryLeakDetected', 'MemoryMonitor', 'MemoryOptimizationService',
    'MemoryPool', 'ObjectPool', 'PooledArray', 'PooledBuffer', 'PooledBufferWriter', 'QueueMemory', 'ResourceManager',
    'ResourceStats', 'ResourceType', 'ReusePool', 'RingBuffer', 'StageBase', 'adviseNodeOptions', 'adviseWorker', 'alerts', 'bullmq', 'cacheStats',
    'capabilities', 'collectMetrics', 'decide', 'default', 'encoding', 'errorCodes', 'fastifyPlugin', 'leak', 'loadConfig',
    'metricsText', 'middleware', 'poolStats', 'processInfo', 'registerCache', 'registerOpenTelemetry', 'registerPool',
    'registerPromClient', 'rssBytes', 'serializers', 'serve', 'sharedPool', 'transports', 'version',
  ]);
  expect([same, items]).toEqual([true, [1]]);
});
