'use strict';

// A small service under memguard: says what came of it, as JSON.
//
//   node host.js [SECONDS]
const { ResourceManager } = require('../../node');

async function main(seconds) {
  const taken = [];
  const manager = new ResourceManager({ sampleInterval: '20ms', maxMemoryMb: 4096 });
  const rows = manager.createBuffer('rows', (items) => taken.push(...items));
  console.log('ready');
  const end = performance.now() + seconds * 1000;
  let put = 0;
  while (performance.now() < end) {
    for (let count = 0; count < 100; count++) {
      rows.push(put++);
      if (manager.shouldFlushBuffer('rows')) manager.flushBuffer('rows');
    }
    const rental = manager.pool.rent(5000);
    rental.buffer[0] = 1;
    rental.return();
    manager.getMemoryPressure();
    manager.memoryMonitor.collectMemoryStats();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const samples = manager.memoryMonitor.latest?.number ?? 0;
  await manager.close();
  const isWhole = taken.length === put && taken.every((value, index) => value === index);
  console.log(JSON.stringify({ is_whole: isWhole, has_samples: samples > 0, threads: 1 }));
}

main(Number(process.argv[2] ?? 0.5));
