'use strict';

// Messages from a program to itself over Redis: serialize, publish, receive,
// deserialize; or serialize and deserialize alone. Command line:
//
//   bus.js MEASURE SIDE FORMAT BYTES [URL]
//
// MEASURE is `run` or `alloc`; SIDE is `pooled`, `off` (the same code, its pool
// switched off) or `plain` (ioredis and the serializer as they come); FORMAT is
// `msgpack` or `json`; without a URL it is serialization alone. Prints one JSON object.

const { execFileSync } = require('child_process');
const { PerformanceObserver, performance } = require('perf_hooks');
const v8 = require('v8');

const [measure, side, format, bytesText, url] = process.argv.slice(2);
const BYTES = Number(bytesText);
const BATCH = 32; // messages on their way at a time
const TOPIC = 'bench.orders';
const WARM_UP_S = 1;
const SECONDS = 3;
const LATENCIES = 20000; // the latest ones; more would show in the resident set
const ALLOC_ROUNDS = 30;
const ROUNDS_PER_TURN = 8; // of the event loop, without Redis

const ALLOC_FLAGS = ['--expose-gc', '--max-semi-space-size=256', '--min-semi-space-size=256'];
if (measure === 'alloc' && !process.execArgv.includes(ALLOC_FLAGS[1])) {
  execFileSync(process.execPath, [...ALLOC_FLAGS, __filename, ...process.argv.slice(2)], { stdio: 'inherit' });
  process.exit();
}

/* ---- the messages ------------------------------------------------------------ */

const ENVELOPE_BYTES = 180;
const bodyBytes = Math.max(0, BYTES - ENVELOPE_BYTES);
const body = format === 'json' ? 'order line, '.repeat(bodyBytes / 12 + 1).slice(0, bodyBytes) : Buffer.alloc(bodyBytes, 'order line, ');

function messageOf(number) {
  return {
    id: number,
    type: 'order.created',
    source: 'shop-frontend',
    at: 1700000000 + number,
    trace: 'c0ffee00-1234-5678-9abc-def012345678',
    attempt: 1,
    amount: 1234.56,
    tags: ['new', 'web'],
    body,
  };
}

let seen = 0;
function take(message) {
  if (message.body.length !== bodyBytes || message.type !== 'order.created') throw new Error('a wrong message');
  seen++;
}

/* ---- the sides ----------------------------------------------------------------- */

let spent = 0;

function pooledSide() {
  const memguard = require('../../node');
  const { JsonSerializer, MessagePackSerializer } = memguard.serializers;
  const pool = new memguard.MemoryPool({ pool_enabled: side === 'pooled' });
  // With its pool off memory goes back at the return, so that what is held tells
  // nothing: it is counted as it is rented.
  const rent = pool.rent.bind(pool);
  if (measure === 'alloc' && side === 'off') {
    pool.rent = (bytes) => {
      spent += bytes;
      return rent(bytes);
    };
  }
  // Bodies are read while the message is held: they may be views of it.
  const serializer = format === 'json' ? new JsonSerializer(pool) : new MessagePackSerializer(pool, { copyBuffers: false });
  const receive = (rental) => {
    take(serializer.deserialize(rental));
    rental.return();
  };
  if (url === undefined) {
    return { round: (messages) => messages.forEach((message) => receive(serializer.serializePooled(message))), close() {} };
  }
  const transport = new memguard.transports.RedisTransport(url, pool);
  return {
    open: (told) =>
      transport.subscribe(TOPIC, (rental) => {
        receive(rental);
        told();
      }),
    async publish(messages) {
      const rentals = messages.map((message) => serializer.serializePooled(message));
      await transport.publishBatch(TOPIC, rentals);
      for (const rental of rentals) rental.return();
    },
    close: () => transport.close(),
  };
}

function plainSide() {
  const { Packr } = require('msgpackr');
  const packr = new Packr({ useRecords: false, int64AsType: 'auto' });
  const encode = format === 'json' ? (value) => Buffer.from(JSON.stringify(value)) : (value) => packr.pack(value);
  const decode = format === 'json' ? (bytes) => JSON.parse(bytes.toString()) : (bytes) => packr.unpack(bytes);
  if (url === undefined) {
    return { round: (messages) => messages.forEach((message) => take(decode(encode(message)))), close() {} };
  }
  const Redis = require('ioredis');
  const publisher = new Redis(url);
  const subscriber = new Redis(url);
  return {
    async open(told) {
      subscriber.on('messageBuffer', (_, bytes) => {
        take(decode(bytes));
        told();
      });
      await subscriber.subscribe(TOPIC);
    },
    publish(messages) {
      const pipeline = publisher.pipeline();
      for (const message of messages) pipeline.publish(TOPIC, encode(message));
      return pipeline.exec();
    },
    close() {
      publisher.disconnect();
      subscriber.disconnect();
    },
  };
}

const bus = side === 'plain' ? plainSide() : pooledSide();

/* ---- rounds of BATCH messages ------------------------------------------------------ */

let next = 0;
let arrived = 0;
let onArrival = null;
const batch = () => Array.from({ length: BATCH }, () => messageOf(next++));

const latencies = new Float64Array(LATENCIES); // ms
let noted = 0;
const note = (ms) => (latencies[noted++ % LATENCIES] = ms);

/** Latency: from the start of a round to each arrival. */
async function busRound() {
  const began = performance.now();
  arrived = 0;
  const all = new Promise((resolve) => {
    onArrival = () => {
      note(performance.now() - began);
      if (++arrived === BATCH) resolve();
    };
  });
  await Promise.all([bus.publish(batch()), all]);
}

async function serializeRound() {
  const began = performance.now();
  bus.round(batch());
  note((performance.now() - began) / BATCH);
  if (next % (BATCH * ROUNDS_PER_TURN) === 0) await new Promise(setImmediate);
}

const round = url === undefined ? serializeRound : busRound;

/** @returns messages and the ms they took. */
async function rounds(seconds) {
  const began = performance.now();
  const first = next;
  while (performance.now() - began < seconds * 1000) await round();
  return { messages: next - first, ms: performance.now() - began };
}

/* ---- what is measured ---------------------------------------------------------------- */

async function run() {
  let collections = 0;
  const observer = new PerformanceObserver((list) => (collections += list.getEntries().length));
  observer.observe({ entryTypes: ['gc'] });
  await rounds(WARM_UP_S);
  await new Promise((resolve) => setTimeout(resolve, 100)); // entries come late
  collections = 0;
  noted = 0;
  const { messages, ms } = await rounds(SECONDS);
  const peakRss = process.resourceUsage().maxRSS / 1024;
  await new Promise((resolve) => setTimeout(resolve, 100));
  const sorted = latencies.slice(0, noted).sort();
  return {
    throughput: (messages * 1000) / ms,
    p99: sorted[Math.ceil(sorted.length * 0.99) - 1],
    peak_rss: peakRss,
    gc: (collections * 1e6) / messages,
  };
}

/** Bytes that a message allocates in the heap of V8 and in ArrayBuffers, the median
 *  of rounds; a nursery this large is not collected meanwhile. */
async function alloc() {
  const held = () => spent + v8.getHeapStatistics().used_heap_size + process.memoryUsage().arrayBuffers;
  for (let warm = 0; warm < 200; warm++) await round();
  const made = [];
  for (let turn = 0; turn < ALLOC_ROUNDS; turn++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const before = held();
    await round();
    made.push((held() - before) / BATCH);
  }
  made.sort((a, b) => a - b);
  return { alloc: made[ALLOC_ROUNDS >> 1] };
}

async function main() {
  await bus.open?.(() => onArrival());
  const figures = measure === 'alloc' ? await alloc() : await run();
  if (seen !== next) throw new Error(`${seen} of ${next} messages arrived`);
  await bus.close();
  console.log(JSON.stringify(figures));
}

main();
