'use strict';

const { createPool } = require('generic-pool');
const { MemoryPool } = require('../node');
const { medianNs, print } = require('./measure');

const SIZE = 1024;
const CALLS = 2_000_000;
const SETTINGS = { environment: false };

const pool = new MemoryPool({}, SETTINGS);
let sum = 0;
let last;

/** Rented and returned; the rental is a real object, whatever the compiler can do. */
function pair(rent, end) {
  return medianNs(() => {
    last = rent();
    end(last);
  }, CALLS);
}

/** As generic-pool lets it be done: acquire() gives a promise. */
async function genericPair() {
  const peer = createPool({ create: async () => Buffer.allocUnsafeSlow(SIZE), destroy: async () => {} }, { max: 1 });
  const rounds = [];
  for (let round = 0; round < 6; round++) {
    const calls = 20_000;
    const began = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) peer.release(await peer.acquire());
    rounds.push(Number(process.hrtime.bigint() - began) / calls);
  }
  await peer.drain();
  await peer.clear();
  return rounds.slice(1).sort((a, b) => a - b)[2];
}

function rentAndShow() {
  const rental = pool.rent(SIZE);
  sum += rental.buffer.length;
  return rental;
}

function fillOurs(bytes) {
  return () => {
    const rental = pool.rent(bytes);
    rental.buffer.fill(1);
    rental.return();
  };
}

async function main() {
  const end = (rental) => rental.return();
  const ours = pair(() => pool.rent(SIZE), end);
  const shown = pair(rentAndShow, end);
  const plain = pair(() => Buffer.allocUnsafe(SIZE), (buffer) => {
    sum += buffer.length;
  });
  print('pool.node.pair', 'ns', ours, plain, 'Buffer.allocUnsafe');
  print('pool.node.pair', 'ns', ours, await genericPair(), 'generic-pool');
  print('pool.node.pair.buffer', 'ns', shown, plain, 'Buffer.allocUnsafe');
  for (const [bytes, calls] of [[4096, 200_000], [65536, 20_000], [1048576, 1_000]]) {
    const peer = medianNs(() => Buffer.allocUnsafe(bytes).fill(1), calls);
    print(`pool.node.fill.${bytes}`, 'ns', medianNs(fillOurs(bytes), calls), peer, 'Buffer.allocUnsafe');
  }
  pool.close();
  if (sum === 0) process.exit(1);
}

main();
