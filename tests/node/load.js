'use strict';

// What has to work on every Node that can load the addon, also on those before
// the supported ones (16 and 18), without jest. Exits with 1 on a failure.
const assert = require('assert');
const memguard = require('../..');

const major = Number(process.versions.node.split('.')[0]);

async function main() {
  const { capabilities } = memguard;
  assert.strictEqual(capabilities.node, process.versions.node);
  assert.strictEqual(capabilities.supported, major >= 20);
  assert.strictEqual(capabilities.gcHooks, 'native');
  assert.strictEqual(capabilities.symbolDispose, typeof Symbol.dispose === 'symbol');
  assert.strictEqual(capabilities.symbolAsyncDispose, typeof Symbol.asyncDispose === 'symbol');
  assert.strictEqual(capabilities.queryObjects, typeof require('v8').queryObjects === 'function');
  assert.strictEqual(capabilities.arrayBufferTransfer, 'transfer' in ArrayBuffer.prototype);
  assert.strictEqual(memguard.version, require('../../package.json').version);

  const manager = new memguard.ResourceManager({ max_memory_mb: '16TB', sample_interval: '10ms' });
  const { memoryMonitor: monitor } = manager;
  const taken = [];
  const items = manager.createBuffer('a', async (batch) => taken.push(...batch));
  items.push(1, 2);
  assert.strictEqual(manager.shouldFlushBuffer('a'), false);
  await manager.flushBuffer('a');
  assert.deepStrictEqual(taken, [1, 2]);

  const stats = new Promise((resolve) => monitor.once('stats:collected', resolve));
  monitor.startMonitoring(10);
  assert.ok((await stats).rss > 0);
  const before = monitor.getGCStats().kinds.markSweepCompact.count;
  monitor.triggerGc();
  assert.strictEqual(monitor.getGCStats().kinds.markSweepCompact.count, before + 1);
  assert.ok(monitor.getMemoryReport().current.heapUsed > 0);
  assert.ok(memguard.rssBytes() > 0);
  assert.throws(() => manager.updateConfig({ maxMemoryMb: -1 }), { name: 'RangeError', code: 'ERR_MEMGUARD_RANGE' });

  const rental = manager.pool.rent(1000);
  rental.buffer.fill(7);
  rental.return();
  assert.throws(() => rental.return(), { code: 'ERR_MEMGUARD_RETURNED' });
  assert.strictEqual(manager.pool.trim(), 65536);
  assert.strictEqual(manager.pool.stats().heldBytes, 0);

  const kept = [];
  const [found] = memguard.leak.findLeaks(() => kept.push(new Date()), { signals: ['heap'] });
  assert.ok(found.culprits.some(({ name }) => name === 'Date'), String(found));
  assert.strictEqual(manager.leakDetector.isRunning, true);
  assert.deepStrictEqual('handles' in memguard.leak.census().absent, typeof process.getActiveResourcesInfo !== 'function');

  const server = await memguard.serve({ port: 0, manager });
  const answer = await new Promise((resolve, reject) => {
    require('http').get(`${server.url}livez`, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => resolve(text));
    }).on('error', reject);
  });
  assert.strictEqual(answer, '{"status":"ok"}\n');
  await server.close();

  const ended = [];
  manager.managedResource('value', (value) => ended.push(value)).dispose();
  assert.deepStrictEqual(ended, ['value']);
  await manager.close();
  assert.throws(() => manager.createBuffer('b'), { code: 'ERR_MEMGUARD_CLOSED' });
  console.log(`memguard ${memguard.version} on Node ${process.versions.node}:`, JSON.stringify(capabilities));
}

// Nothing of memguard keeps the process alive, so this has to.
const timer = setInterval(() => {}, 1000);
main()
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => clearInterval(timer));
