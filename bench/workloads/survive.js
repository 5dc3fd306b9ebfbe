'use strict';

// The Node jobs of survive.py, one case per call: survive.js CASE [memguard]
//
// Prints a JSON object a line, as survive.py beside it does. With `memguard` a
// ResourceManager is opened around the very same job.

const crypto = require('crypto');
const { spawn } = require('child_process');
const { generator } = require('./numbers');

const MIB = 1048576;
// A service answers others in between: after each job the event loop turns.
const breath = () => new Promise(setImmediate);
// Since an unknown start, as Python's time.monotonic().
const monotonicS = () => Number(process.hrtime.bigint()) / 1e9;

function tell(fields) {
  console.log(JSON.stringify(fields));
}

function progress(done, every) {
  if (done % every === 0) tell({ jobs: done });
}

// --- d: dead buffers ------------------------------------------------------------

// Messages are of 6 to 12 KB: 135 MB a backlog, 400 MB in all.
const ALONE = { backlogs: 3, messages: 15000, images: 120 };
const BESIDE_PYTHON = { backlogs: 9, messages: 5000, images: 50 };
const KEPT = 64; // one message in so many stays: they are scattered over all pages

function message(draw) {
  const bytes = Buffer.alloc(6144 + draw(6145), 'message ');
  return { bytes, digest: crypto.createHash('sha1').update(bytes).digest('hex') };
}

async function image(number) {
  const pixels = Buffer.alloc(MIB);
  for (let at = 0; at < MIB; at += 4) pixels.writeUInt32LE((at * number) >>> 0, at);
  return { pixels, digest: crypto.createHash('sha1').update(pixels).digest('hex') };
}

/** Backlogs of messages build up and are worked off, then images are kept. */
async function buffers({ backlogs, messages, images }) {
  const draw = generator(7);
  const kept = [];
  let jobs = 0;
  for (let backlog = 0; backlog < backlogs; backlog++) {
    const queue = [];
    for (let number = 0; number < messages; number++) {
      queue.push(message(draw));
      if (++jobs % 100 === 0) await breath();
      progress(jobs, 1000);
    }
    while (queue.length > 0) {
      const done = queue.pop();
      if (queue.length % KEPT === 0) kept.push(done);
    }
  }
  const album = [];
  for (let number = 1; number <= images; number++) {
    album.push(await image(number));
    await breath();
    progress(++jobs, 5);
  }
  return kept.length && jobs;
}

// --- e: a heap that grew to a peak ----------------------------------------------

const ORDERS = 700000;
const CUSTOMERS = 100000;
const REGIONS = 20;
const REPORTS = 2;
const REPORT_MB = 120;

function order(number, draw) {
  return { number, customer: `c-${draw(CUSTOMERS)}`, items: [draw(1000), draw(1000)], price: draw(10000) / 100 };
}

function evaluate(orders, region, turnover) {
  for (const { customer, price, items } of orders) {
    const number = Number(customer.slice(2));
    if (number % REGIONS === region) turnover[number] += price * items.length;
  }
}

// What many services leave to a program of its own: it holds what it has made.
const REPORT = `
  const { createHash } = require('crypto');
  const pages = [];
  for (let number = 0; number < ${REPORT_MB}; number++) {
    const page = Buffer.alloc(${MIB}, 'page ' + number);
    for (let round = 0; round < 10; round++) page.write(createHash('sha1').update(page).digest('hex'));
    pages.push(page);
  }`;

function report() {
  const program = spawn(process.execPath, ['-e', REPORT], { stdio: 'inherit' });
  return new Promise((resolve) => program.on('exit', (code, signal) => resolve(code ?? signal)));
}

async function evaluation() {
  const draw = generator(11);
  const orders = [];
  for (let number = 0; number < ORDERS; number++) {
    orders.push(order(number, draw));
    if (number % 1000 === 999) {
      await breath();
      progress((number + 1) / 1000, 20);
    }
  }
  const turnover = new Float64Array(CUSTOMERS);
  for (let region = 0; region < REGIONS; region++) {
    evaluate(orders, region, turnover);
    await breath();
  }
  return turnover;
}

/** An evaluation of all orders at once, then reports by another program. */
async function heap() {
  const turnover = await evaluation();
  let jobs = ORDERS / 1000;
  for (let number = 1; number <= REPORTS; number++) {
    const status = await report();
    if (status !== 0) throw new Error(`a report ended with ${status}`);
    progress(++jobs, 1);
  }
  return turnover.length && jobs;
}

const cases = { d: () => buffers(ALONE), e: heap, f: () => buffers(BESIDE_PYTHON) };

async function main(name, ...options) {
  const manager = options.includes('memguard') ? new (require('../../node').ResourceManager)() : null;
  tell({ began_s: monotonicS() });
  const jobs = await cases[name]();
  tell({ jobs, ended_s: monotonicS() });
  if (manager) manager.cleanup();
}

main(...process.argv.slice(2));
