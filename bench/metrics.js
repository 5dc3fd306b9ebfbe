'use strict';

const promClient = require('prom-client');
const memguard = require('../node');
const { medianNs, print } = require('./measure');

const ROUNDS = 9;
const CALLS = 300;

/** Median time of one turn of `run`, which promises, in ns. */
async function medianPromisedNs(run) {
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    const began = process.hrtime.bigint();
    for (let call = 0; call < CALLS; call++) await run();
    rounds.push(Number(process.hrtime.bigint() - began) / CALLS);
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1];
}

async function main() {
  const registry = new promClient.Registry();
  promClient.collectDefaultMetrics({ register: registry });
  const manager = new memguard.ResourceManager();
  await new Promise((resolve) => {
    setTimeout(resolve, 500);
  });
  const peer = await medianPromisedNs(() => registry.metrics());
  const ours = medianNs(() => memguard.metricsText(), CALLS);
  print('metrics.text.node', 'us', ours / 1e3, peer / 1e3, 'prom-client register.metrics()');
  registry.clear();
  await manager.cleanup();
}

main();
