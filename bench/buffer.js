'use strict';

const memguard = require('../node');
const { medianNs, print } = require('./measure');

const MAX_MEMORY_MB = 100_000; // far away: the buffer's own size decides
const SIZE = 100;

const manager = new memguard.ResourceManager({ maxMemoryMb: MAX_MEMORY_MB });
manager.createBuffer('rows').push(1, 2, 3);

// The same rule, reading the resident set on each call.
const buffers = new Map([['rows', [1, 2, 3]]]);
function plainShouldFlush(name) {
  const length = buffers.get(name).length;
  const pressure = Math.min(process.memoryUsage.rss() / (MAX_MEMORY_MB * 1048576), 1);
  if (pressure > 0.9) return length > 0;
  return length >= (pressure >= 0.8 ? SIZE / 2 : SIZE);
}

let flushes = 0;
const ours = medianNs(() => (flushes += manager.shouldFlushBuffer('rows') ? 1 : 0), 2_000_000);
const peer = medianNs(() => (flushes += plainShouldFlush('rows') ? 1 : 0), 20_000);
print('buffer.should_flush.node', 'ns', ours, peer, 'plain JS and process.memoryUsage.rss');
manager.flushBuffer('rows');
manager.close();
if (flushes > 0) process.exit(1);
