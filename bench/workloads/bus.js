'use strict';

// Messages from a program to itself over Redis: serialize, publish, receive,
// deserialize; or serialize and deserialize alone. Command line:
//
//   bus.js MEASURE SIDE FORMAT BYTES [URL]
//
// MEASURE is `run` or `alloc`; SIDE is `pooled`, `off` (the same code, its pool
// switched off) or `plain` (ioredis and the serializer as they come); FORMAT is
// `msgpack` or `json`; without a URL it is serialization alone. Prints one JSON object.

const { PerformanceObserver, performance } = require('perf_hooks');
const v8 = require('v8');

const [measure, side, format, bytesText, url] = process.argv.slice(2);
const BYTES = Number(bytesText);
const BATCH = 32; // messages on their way at a time
const TOPIC = 'bench.orders';
const WARM_UP_S = 1.5;
const SECONDS = 4;
const ALLOC_ROUNDS = 30;
const ROUNDS_PER_TURN = 8; // of the event loop, without Redis

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

function pooledSide() {
  const memguard = require('../../node');
  const { JsonSerializer, MessagePackSerializer } = memguard.serializers;
  const pool = new memguard.MemoryPool({ pool_enabled: side === 'pooled' });
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
    publish: (messages) => Promise.all(messages.map((message) => publisher.publish(TOPIC, encode(message)))),
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

/** @param latencies [out] ms from the start of a round to each arrival. */
async function busRound(latencies) {
  const began = performance.now();
  arrived = 0;
  const all = new Promise((resolve) => {
    onArrival = () => {
      latencies?.push(performance.now() - began);
      if (++arrived === BATCH) resolve();
    };
  });
  await Promise.all([bus.publish(batch()), all]);
}

async function serializeRound(latencies) {
  const began = performance.now();
  bus.round(batch());
  latencies?.push((performance.now() - began) / BATCH);
  if (next % (BATCH * ROUNDS_PER_TURN) === 0) await new Promise(setImmediate);
}

const round = url === undefined ? serializeRound : busRound;

async function rounds(seconds, latencies) {
  const began = performance.now();
  const first = next;
  while (performance.now() - began < seconds * 1000) await round(latencies);
  return { messages: next - first, ms: performance.now() - began };
}

/* ---- what is measured ---------------------------------------------------------------- */

async function run() {
  let collections = 0;
  const observer = new PerformanceObserver((list) => (collections += list.getEntries().length));
  observer.observe({ entryTypes: ['gc'] });
  await rounds(WARM_UP_S, []);
  await new Promise((resolve) => setTimeout(resolve, 100)); // entries come late
  collections = 0;
  const latencies = [];
  const { messages, ms } = await rounds(SECONDS, latencies);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const sorted = Float64Array.from(latencies).sort();
  return {
    throughput: (messages * 1000) / ms,
    p99: sorted[Math.ceil(sorted.length * 0.99) - 1],
    p50: sorted[sorted.length >> 1],
    peak_rss: process.resourceUsage().maxRSS / 1024,
    gc: (collections * 1e6) / messages,
  };
}

/** Bytes that a message allocates in the heap of V8 and in ArrayBuffers, the median
 *  of rounds during which nothing was collected. */
async function alloc() {
  const held = () => v8.getHeapStatistics().used_heap_size + process.memoryUsage().arrayBuffers;
  for (let warm = 0; warm < 200; warm++) await round(null);
  const made = [];
  for (let turn = 0; turn < ALLOC_ROUNDS; turn++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const before = held();
    for (let count = 0; count < 4; count++) await round(null);
    made.push((held() - before) / BATCH / 4);
  }
  made.sort((a, b) => a - b);
  return { alloc: made[ALLOC_ROUNDS >> 1] };
}

async function main() {
  await bus.open?.(() => onArrival());
  const figures = measure === 'alloc' ? await alloc() : await run();
  if (seen !== next) throw new Error(`${seen} of ${next} messages arrived`);
  console.log(JSON.stringify(figures));
  await bus.close();
}

main();
