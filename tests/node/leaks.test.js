'use strict';

// Every use of the public interface, repeated: what the process holds may not
// grow with the rounds.
const { MB, removeTemporary, runJson, temporaryDirectory } = require('./helpers');

afterAll(removeTemporary);

// Each use is repeated for some seconds; a busy machine takes many times as long.
const SECONDS = 170;
jest.setTimeout((SECONDS + 10) * 1000);

const USES = [
  'manager closed', 'manager cleaned up and dropped', 'monitor dropped', 'monitor started and stopped',
  'buffer manager dropped', 'stage', 'buffers', 'resources', 'cleanup', 'statistics', 'samples and counters',
  'configuration', 'decisions', 'errors', 'caches', 'reuse', 'memory pools', 'memory pools dropped', 'object pools',
  'connection pools', 'tuning', 'process', 'collections', 'services', 'optimizations', 'reclaiming',
  'encoding', 'serializers', 'transports', 'nats', 'leak detectors',
  'web', 'bridges', 'leak tests',
  'accessors', 'monitor, changed', 'buffers and stages', 'reused and rings', 'pools, further', 'writers',
  'texts into what is there', 'services, asked', 'workers guarded', 'channels', 'fastify', 'metrics and decisions',
  'asserted',
  'a leak',
];

test('the list is complete', async () => {
  expect(await runJson('leaks.js', [])).toEqual(USES);
});

// What only the library makes or calls is all that no use names; Channel's deliver(), which
// stands under the first class that has it, is there to be overridden.
test('every public name is used', async () => {
  const options = { flags: ['--no-warnings'], seconds: SECONDS };
  expect(await runJson('leaks.js', ['--unused', temporaryDirectory()], options)).toEqual([
    'LeakCulprit', 'LeakCulprit.toString', 'LeakFinding', 'LeakFinding.asDict', 'LeakFinding.toString', 'MemoryLeakDetected',
    'PooledArray', 'PooledBuffer', 'PooledBufferWriter', 'ResourceStats', 'alerts.Alertmanager.deliver', 'alerts.Alerts',
    'alerts.Alerts.take',
  ]);
});

test.each(USES.slice(0, -1))('%s', async (name) => {
  const options = { flags: ['--max-semi-space-size=1'], env: { MALLOC_ARENA_MAX: '1' }, seconds: SECONDS };
  const growth = await runJson('leaks.js', [name, temporaryDirectory()], options);
  const last = growth[growth.length - 1];
  expect(last.fds).toBeLessThanOrEqual(0);
  expect(last.threads).toBeLessThanOrEqual(0);
  expect(last.heap / MB).toBeLessThan(0.5);
  expect(last.rss / MB).toBeLessThan(2);
});

test('the measurement finds a leak', async () => {
  const options = { flags: ['--max-semi-space-size=1'], env: { MALLOC_ARENA_MAX: '1' }, seconds: SECONDS };
  const growth = await runJson('leaks.js', ['a leak', temporaryDirectory()], options);
  expect(growth).toHaveLength(24);
  for (const window of growth) expect(window.heap / MB).toBeGreaterThan(0.5);
});
