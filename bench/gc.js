'use strict';

// What watching the collector costs, per forced minor collection: each way of
// watching in processes of its own, in turns, beside processes that do not watch.
const { execFileSync } = require('child_process');
const { print } = require('./measure');

const { gc } = globalThis;
const RUNS = 9;
const BATCHES = 400;
const COLLECTIONS = 20; // of a batch
const TURNS = 4;
const HOOKS = 32;
const MINOR = { type: 'minor' };

function reload() {
  for (const name of Object.keys(require.cache)) if (!name.includes('node_modules')) delete require.cache[name];
  const { MemoryMonitor } = require('../node');
  // The heap is told to it after each collection, as to a running one.
  const monitor = new MemoryMonitor({ longPause: '60s' });
  monitor.startMonitoring();
  monitor.stopMonitoring();
  return monitor;
}

const watch = {
  nobody: () => {},
  // One pair of hooks is lost in the noise: each load of the addon adds another.
  hooks: () => Array.from({ length: HOOKS }, reload),
  observer: () => {
    let seen = 0;
    const { PerformanceObserver } = require('perf_hooks');
    new PerformanceObserver((list) => (seen += list.getEntries().length)).observe({ entryTypes: ['gc'] });
  },
};

// The turns of the event loop in which an observer is told belong to the cost.
async function batchNs() {
  const began = process.hrtime.bigint();
  for (let count = 0; count < COLLECTIONS; count++) gc(MINOR);
  for (let turn = 0; turn < TURNS; turn++) await new Promise(setImmediate);
  return Number(process.hrtime.bigint() - began) / COLLECTIONS;
}

function quantileOf(values, share) {
  return values.sort((a, b) => a - b)[Math.floor(values.length * share)];
}

function medianOf(values) {
  return quantileOf(values, 0.5);
}

async function child(way) {
  const watcher = watch[way]();
  gc();
  const batches = [];
  for (let batch = 0; batch < BATCHES; batch++) batches.push(await batchNs());
  // Low in the distribution: what else the machine does lies above.
  console.log(quantileOf(batches, 0.05));
  return watcher;
}

function parent() {
  const taken = { nobody: [], hooks: [], observer: [] };
  for (let run = 0; run < RUNS; run++) {
    for (const way of Object.keys(taken)) {
      taken[way].push(Number(execFileSync(process.execPath, ['--expose-gc', __filename, way])));
    }
  }
  const nobody = medianOf(taken.nobody);
  const hooks = (medianOf(taken.hooks) - nobody) / HOOKS;
  print('gc.observe.node', 'ns', hooks, medianOf(taken.observer) - nobody, 'PerformanceObserver');
}

const [way] = process.argv.slice(2);
if (way === undefined) parent();
else child(way);
