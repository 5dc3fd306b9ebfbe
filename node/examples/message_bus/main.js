'use strict';

// The Node side of the message bus: see python/examples/message_bus.
//
//   node message_bus.js [--broker redis|redis-channels|nats] [--url URL] [--name NAME]
//                       [--messages N] [--seconds S] [--patience S]
//                       [--max-memory-mb M] [--json] [--watched]
//
// The URL is that of a broker, by default on its usual port of this machine; NAME that of
// the bus. --watched: answers until its input ends; otherwise until the other side has
// been silent for 3 seconds. SIGINT and SIGTERM end the publishing, a second one the
// waiting for answers. Exit code: 0 all answered, 1 failed or something was lost, 2 wrong
// use.
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const { ResourceManager } = require('../../index.js');
const { roads } = require('./roads');
const { Side } = require('./side');
const { positive, usageError } = require('../options').optionsOf('message_bus');

const LINE_MS = 500;
const LINGER_MS = 3000;
const URLS = { redis: 'redis://127.0.0.1:6379', 'redis-channels': 'redis://127.0.0.1:6379', nats: 'nats://127.0.0.1:4222' };

function parse() {
  let values;
  try {
    const text = { type: 'string' };
    const flag = { type: 'boolean', default: false };
    ({ values } = parseArgs({
      options: {
        broker: { ...text, default: 'redis' }, url: text, name: { ...text, default: 'message-bus' },
        messages: text, seconds: text, patience: { ...text, default: '20' },
        'max-memory-mb': { ...text, default: '256' }, json: flag, watched: flag,
      },
    }));
  } catch (error) {
    usageError(error.message);
  }
  const { broker } = values;
  if (!Object.hasOwn(roads, broker)) usageError(`--broker is "${broker}", allowed: ${Object.keys(roads).join(', ')}`);
  const messages = positive('messages', values.messages);
  return {
    broker,
    url: values.url ?? URLS[broker],
    name: values.name,
    messages: messages === undefined ? undefined : Math.ceil(messages),
    seconds: positive('seconds', values.seconds) ?? (messages === undefined ? 10 : undefined),
    patience: positive('patience', values.patience),
    maxMemoryMb: positive('max-memory-mb', values['max-memory-mb']),
    isJson: values.json,
    isWatched: values.watched,
  };
}

function print(options, event, state) {
  if (options.isJson) {
    process.stdout.write(`${JSON.stringify({ event, ...state })}\n`);
    return;
  }
  const { published, acknowledged, received, rss_bytes: rss } = state;
  console.log(`published ${published}  acknowledged ${acknowledged}  received ${received}  rss ${(rss / 2 ** 20).toFixed(1)} MB`);
  if (event !== 'end') return;
  const { lost, unpublished, duplicated, resent, peak_bytes: peak } = state;
  console.log(`lost ${lost + unpublished}, duplicated ${duplicated}, sent again ${resent}, pool hit rate ${(100 * state.pool_hit_rate).toFixed(1)} %, peak rss ${(peak / 2 ** 20).toFixed(1)} MB`);
  for (const name of ['failures', 'rejected']) {
    for (const [what, number] of Object.entries(state[name])) console.log(`${name}: ${number} ${what}`);
  }
}

/** Settles when the other side needs no answers any more. */
async function linger(side, isWatched, inputEnded) {
  if (isWatched) {
    await inputEnded;
    return;
  }
  for (let before = -1; side.state().received > before && !side.hasGivenUp;) {
    before = side.state().received;
    await sleep(LINGER_MS);
  }
}

async function exchange(side, options, inputEnded) {
  await side.open();
  print(options, 'open', side.state());
  const lines = setInterval(() => print(options, 'line', side.state()), LINE_MS);
  try {
    await side.run();
    print(options, 'sent', side.state());
    await linger(side, options.isWatched, inputEnded);
  } finally {
    clearInterval(lines);
  }
}

async function main() {
  const options = parse();
  const manager = new ResourceManager({ memoryMonitor: { maxMemoryMb: options.maxMemoryMb } });
  manager.getMemoryPressure(); // there is a latest sample from now on
  const road = roads[options.broker](options.url, options.name, 'node', 'python', manager.pool);
  const side = new Side(road, manager, options);
  let signals = 0;
  const onSignal = () => (++signals === 1 ? side.stop() : side.giveUp());
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  process.stdout.on('error', () => side.stop()); // the reader has gone away
  let inputEnded = null;
  if (options.isWatched) {
    inputEnded = new Promise((resolve) => process.stdin.on('end', resolve).on('error', resolve).resume());
    inputEnded.then(() => side.giveUp()); // nobody is there who would wait
  }
  try {
    await exchange(side, options, inputEnded);
  } catch (error) {
    console.error(`message_bus: ${error.code ?? error.name}: ${error.message}`);
    process.exitCode = 1;
  }
  const pending = await side.pending();
  await side.close();
  const { in_flight: lost, ...state } = side.state();
  if (lost + state.unpublished > 0) process.exitCode = 1;
  print(options, 'end', { ...state, lost, pending });
  await manager.close();
  process.stdin.destroy();
}

module.exports = { main };
