'use strict';

const { execFileSync } = require('child_process');
const path = require('path');
const memguard = require('../..');
const { thrown } = require('./helpers');

test('the smallest program that runs everywhere', () => {
  const text = execFileSync(process.execPath, [path.join(__dirname, 'load.js')], { encoding: 'utf8', timeout: 30000 });
  expect(text).toContain(`on Node ${process.versions.node}`);
});

test('names', () => {
  expect(Object.keys(memguard).sort()).toEqual([
    'BufferManager', 'FdWatch', 'HeapTuner', 'IndicatorCache', 'LeakCulprit', 'LeakDetector', 'LeakFinding',
    'ManagedConnectionPool', 'MemoryLeakDetected', 'MemoryMonitor', 'MemoryOptimizationService', 'MemoryPool', 'ObjectPool', 'PooledArray', 'PooledBuffer',
    'PooledBufferWriter', 'QueueMemory', 'ResourceManager', 'ResourceStats', 'ResourceType', 'ReusePool',
    'RingBuffer', 'StageBase', 'adviseNodeOptions', 'adviseWorker', 'alerts', 'bullmq', 'cacheStats', 'capabilities', 'collectMetrics', 'decide',
    'encoding', 'errorCodes', 'fastifyPlugin', 'leak', 'loadConfig', 'metricsText', 'middleware', 'poolStats', 'processInfo',
    'registerCache', 'registerOpenTelemetry', 'registerPool', 'registerPromClient', 'rssBytes', 'serializers', 'serve', 'sharedPool', 'transports', 'version',
  ]);
});

test('error codes', () => {
  expect(memguard.errorCodes).toEqual({
    EINVAL: 'ERR_MEMGUARD_INVALID',
    ENOMEM: 'ERR_MEMGUARD_NO_MEMORY',
    ESYS: 'ERR_MEMGUARD_SYSTEM',
    EKEY: 'ERR_MEMGUARD_UNKNOWN_KEY',
    ETYPE: 'ERR_MEMGUARD_TYPE',
    ERANGE: 'ERR_MEMGUARD_RANGE',
    ECONFLICT: 'ERR_MEMGUARD_CONFLICT',
    ECLOSED: 'ERR_MEMGUARD_CLOSED',
    EABSENT: 'ERR_MEMGUARD_ABSENT',
    EEXISTS: 'ERR_MEMGUARD_EXISTS',
    ENOTFOUND: 'ERR_MEMGUARD_NOT_FOUND',
    EHOST: 'ERR_MEMGUARD_HOST',
    ETIMEOUT: 'ERR_MEMGUARD_TIMEOUT',
    ERETURNED: 'ERR_MEMGUARD_RETURNED',
    EFOREIGN: 'ERR_MEMGUARD_FOREIGN',
    EENCODING: 'ERR_MEMGUARD_ENCODING',
    EBROKEN: 'ERR_MEMGUARD_BROKEN',
    ELEAK: 'ERR_MEMGUARD_LEAK',
  });
});

test('readings of the process', () => {
  const { rss } = process.memoryUsage();
  expect(Math.abs(memguard.rssBytes() - rss)).toBeLessThan(0.2 * rss);
  const info = memguard.processInfo();
  expect(Object.keys(info)).toEqual([
    'rssPeakBytes', 'rssAnonymousBytes', 'rssFileBytes', 'rssSharedBytes', 'swapBytes', 'lockedBytes', 'majorFaults',
    'minorFaults', 'threads', 'cpuMs', 'machineTotalBytes', 'machineAvailableBytes', 'machineCachedBytes',
    'machineSwapTotalBytes', 'machineSwapFreeBytes',
  ]);
  expect(info.machineTotalBytes).toBe(require('os').totalmem());
  expect(info.rssPeakBytes).toBeGreaterThanOrEqual(rss * 0.8);
  expect(info.threads).toBeGreaterThan(1);
});

describe('decisions', () => {
  test('refuse what they do not know', () => {
    expect(thrown(() => memguard.decide.usage({ rss: 1 })).code).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
    expect(thrown(() => memguard.decide.usage({ rss_bytes: '1' })).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => memguard.decide.bufferSizeNext(-1, 0.5)).code).toBe('ERR_MEMGUARD_RANGE');
    expect(thrown(() => memguard.decide.bufferSizeNext(2 ** 32, 0.5)).code).toBe('ERR_MEMGUARD_RANGE');
    expect(thrown(() => memguard.decide.sampleDueMs('x', 0, 0)).code).toBe('ERR_MEMGUARD_TYPE');
  });

  test('take names of either kind', () => {
    expect(memguard.decide.usage({ rssBytes: 1048576, fd_count: null }, { maxMemoryMb: 2 })).toEqual({ usage: 0.5, domain: 'max_memory' });
  });
});

describe('the addon itself', () => {
  const native = require('../../node/lib/native');

  test('survives any argument', () => {
    const values = [undefined, null, 0, -1, 1.5, NaN, 2 ** 60, '', 'x'.repeat(9000), {}, [], new Map(), () => {}, Symbol('s'), 5n,
      new Float64Array(0), new Float64Array(200), new Uint8Array(200), new ArrayBuffer(8), new ArrayBuffer(4096),
      native.configOpen('default')];
    let calls = 0;
    for (const [name, call] of Object.entries(native)) {
      if (typeof call !== 'function') continue;
      for (let count = 0; count <= 6; count++) {
        for (let turn = 0; turn < values.length; turn++) {
          const given = Array.from({ length: count }, (_, at) => values[(turn + at * 7) % values.length]);
          calls++;
          try {
            call(...given);
          } catch (error) {
            expect([name, typeof error.code, error.code?.startsWith('ERR_MEMGUARD_')]).toEqual([name, 'string', true]);
          }
        }
      }
    }
    expect(calls).toBeGreaterThan(5000);
  });
});
