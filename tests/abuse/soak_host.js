'use strict';

// A service that uses all of memguard until its input ends.
//
//   node --expose-gc soak_host.js SECONDS_BETWEEN_ROUNDS
const { ResourceManager, leak, registerCache, serve } = require('../../node');

const pauseMs = Number(process.argv[2]) * 1000;
let rounds = 0;
let answers = 0;

async function oneRound(manager, rows, url) {
  const monitor = manager.memoryMonitor;
  for (let number = 0; number < 200; number++) {
    rows.push(number);
    if (manager.shouldFlushBuffer('rows')) manager.flushBuffer('rows');
  }
  const rented = manager.pool.rent(5000 + (rounds % 7) * 3000);
  rented.buffer[0] = 1;
  rented.return();
  manager.getResourceStats();
  monitor.getMemoryReport();
  monitor.collectMemoryStats();
  // Where time is fast, time-outs are short.
  const text = await fetch(url).then((answer) => answer.text()).catch(() => '');
  if (text.includes('memguard_')) answers++;
}

// What a service does a few times a day.
async function nowAndThen(manager) {
  const monitor = manager.memoryMonitor;
  global.gc();
  leak.census();
  monitor.optimizeMemory('aggressive');
  const other = new ResourceManager();
  other.createBuffer('rows', () => {}).push(1);
  other.memoryMonitor.startMonitoring();
  await other.close();
  // Critical, with everything that follows from it, and well again.
  manager.updateConfig({ maxMemoryMb: 1 });
  monitor.checkMemoryPressure();
  manager.updateConfig({ maxMemoryMb: 4096 });
  monitor.checkMemoryPressure();
}

async function main() {
  const manager = new ResourceManager({ maxMemoryMb: 4096 });
  const monitor = manager.memoryMonitor;
  const server = await serve({ port: 0, manager });
  const url = `http://127.0.0.1:${server.address.port}/metrics`;
  const rows = manager.createBuffer('rows', () => {});
  registerCache(new Map(Array.from({ length: 1000 }, (_, number) => [number, `${number}`])));
  monitor.alerts.add(() => {});
  monitor.startMonitoring();
  manager.leakDetector.start();
  let isOver = false;
  process.stdin.once('end', () => (isOver = true)).resume();
  while (!isOver) {
    await oneRound(manager, rows, url);
    rounds++;
    if (rounds % 100 === 0) await nowAndThen(manager);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  const samples = monitor.latest?.number ?? 0;
  await server.close();
  await manager.close();
  console.log(rounds, samples, answers);
}

main();
