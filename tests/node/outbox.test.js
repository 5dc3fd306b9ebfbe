'use strict';

// Messages kept in a real Redis until they are passed on.
const Redis = require('ioredis');
const { MemoryPool, transports } = require('../..');
const { rejection, removeTemporary, until } = require('./helpers');
const { startProxy, startRedis, stopServers } = require('./servers');

const { RedisOutbox, RedisTransport } = transports;

let redis;
let client;
let pool;
const opened = [];

beforeAll(async () => {
  redis = await startRedis();
  client = new Redis(redis.port, '127.0.0.1', { retryStrategy: null });
  client.on('error', () => {});
});

beforeEach(async () => {
  pool = new MemoryPool({ leak_check: 'paranoid' });
  await client.flushall();
});

afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
  await until(() => pool.stats().current === 0);
  expect(pool.findings()).toEqual([]);
  pool.close();
});

afterAll(async () => {
  client.disconnect();
  await stopServers();
  removeTemporary();
});

function outboxOf(target = redis.url, name = 'box', options = undefined) {
  const outbox = new RedisOutbox(target, name, pool, options);
  opened.push(outbox);
  return outbox;
}

/** Passes on, as texts. */
function collector() {
  const texts = [];
  return { texts, publish: (topic, view) => void texts.push(`${topic}: ${view.toString('latin1')}`) };
}

test('what lies in Redis', async () => {
  const outbox = outboxOf();
  expect(await outbox.put('orders', Buffer.from('one'))).toBe(1);
  expect(await outbox.putBatch([['orders', Buffer.from('two')], ['bills', new Uint8Array([1, 255])]])).toEqual([2, 3]);
  expect((await client.keys('*')).sort()).toEqual([
    'memguard:outbox:box:message:1', 'memguard:outbox:box:message:2', 'memguard:outbox:box:message:3',
    'memguard:outbox:box:pending', 'memguard:outbox:box:sequence',
  ]);
  expect(await client.get('memguard:outbox:box:sequence')).toBe('3');
  expect(await client.zrange('memguard:outbox:box:pending', 0, -1, 'WITHSCORES')).toEqual(['1', '1', '2', '2', '3', '3']);
  expect(await client.hgetall('memguard:outbox:box:message:1')).toEqual({ topic: 'orders', payload: 'one' });
  expect(await client.hgetBuffer('memguard:outbox:box:message:3', 'payload')).toEqual(Buffer.from([1, 255]));
  expect(await outbox.pending()).toBe(3);
});

test('messages are passed on once, in order, and nothing of them stays', async () => {
  const outbox = outboxOf();
  const { texts, publish } = collector();
  await outbox.putBatch(['a', '', 'c'.repeat(100000), 'd', 'e'].map((text) => ['t', Buffer.from(text)]));
  expect(await outbox.relay(publish, 2)).toBe(2);
  expect(await outbox.pending()).toBe(3);
  expect(await outbox.relay(publish)).toBe(3);
  expect(await outbox.relay(publish)).toBe(0);
  expect(texts).toEqual(['t: a', 't: ', `t: ${'c'.repeat(100000)}`, 't: d', 't: e']);
  expect(await client.keys('*')).toEqual(['memguard:outbox:box:sequence']);
});

test('ids grow also when several put', async () => {
  const boxes = [outboxOf(), outboxOf(), outboxOf(client)];
  const ids = await Promise.all(
    Array.from({ length: 60 }, (_, number) => boxes[number % 3].putBatch([['t', Buffer.from('x')], ['t', Buffer.from('y')]])),
  );
  expect(ids.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 120 }, (_, number) => number + 1));
  for (const [first, second] of ids) expect(second).toBe(first + 1);
  expect(await boxes[0].pending()).toBe(120);
});

test('a publish that fails leaves its message and the later ones', async () => {
  const outbox = outboxOf();
  const { texts, publish } = collector();
  await outbox.putBatch(['a', 'b', 'c', 'd'].map((text) => ['t', Buffer.from(text)]));
  const failing = async (topic, view) => {
    if (view.toString() === 'c') throw new Error('a test');
    publish(topic, view);
  };
  expect((await rejection(outbox.relay(failing))).message).toBe('a test');
  expect(await outbox.pending()).toBe(2);
  expect(await outbox.relay(publish)).toBe(2);
  expect(texts).toEqual(['t: a', 't: b', 't: c', 't: d']);
});

test('into a transport', async () => {
  const outbox = outboxOf();
  const transport = new RedisTransport(redis.url, pool);
  opened.push(transport);
  const texts = [];
  await transport.subscribe('t', (rental) => {
    texts.push(rental.buffer.toString());
    rental.return();
  });
  await outbox.putBatch(['a', 'b'].map((text) => ['t', Buffer.from(text)]));
  expect(await outbox.relay((topic, view) => transport.publish(topic, view))).toBe(2);
  await until(() => texts.length === 2);
  expect(texts).toEqual(['a', 'b']);
});

test('a message that somebody deleted is passed over', async () => {
  const outbox = outboxOf();
  const { texts, publish } = collector();
  await outbox.putBatch(['a', 'b', 'c'].map((text) => ['t', Buffer.from(text)]));
  await client.del('memguard:outbox:box:message:2');
  expect(await outbox.relay(publish)).toBe(2);
  expect(texts).toEqual(['t: a', 't: c']);
  expect(await outbox.pending()).toBe(0);
});

test('a key of another kind is reported', async () => {
  await client.set('memguard:outbox:box:pending', 'text');
  const error = await rejection(outboxOf().put('t', Buffer.from('a')));
  expect(error.code).toBe('ERR_MEMGUARD_INVALID');
  expect(error.message).toContain('WRONGTYPE');
});

test('bad input', async () => {
  const outbox = outboxOf();
  const view = Buffer.from('a');
  const wrong = [
    [() => outbox.put(5, view), 'TYPE'],
    [() => outbox.put('', view), 'RANGE'],
    [() => outbox.put('t', 'text'), 'TYPE'],
    [() => outbox.putBatch('t'), 'TYPE'],
    [() => outbox.putBatch([['t']]), 'TYPE'],
    [() => outbox.putBatch([['t', view], null]), 'TYPE'],
    [() => outbox.putBatch(Array(10001).fill(['t', view])), 'RANGE'],
    [() => outbox.relay(null), 'TYPE'],
    [() => outbox.relay(() => {}, 0), 'RANGE'],
    [() => outbox.relay(() => {}, 1.5), 'RANGE'],
    [() => outbox.relay(() => {}, 10001), 'RANGE'],
  ];
  for (const [body, kind] of wrong) expect((await rejection(body())).code).toBe(`ERR_MEMGUARD_${kind}`);
  expect(await outbox.putBatch([])).toEqual([]);
  expect(await client.keys('*')).toEqual([]);
  await outbox.close();
  await outbox.close();
  expect((await rejection(outbox.put('t', view))).code).toBe('ERR_MEMGUARD_CLOSED');
  expect((await rejection(outbox.pending())).code).toBe('ERR_MEMGUARD_CLOSED');
});

describe('a connection that breaks', () => {
  const batch = (count, bytes) => Array.from({ length: count }, () => ['t', Buffer.alloc(bytes, 'x')]);

  test('while a batch is put: all of it is unknown, and none of it is there', async () => {
    const proxy = await startProxy(redis.port);
    const outbox = outboxOf(`redis://127.0.0.1:${proxy.port}`);
    await outbox.put('t', Buffer.from('a'));
    proxy.cutAfter(5000);
    const error = await rejection(outbox.putBatch(batch(100, 1000)));
    expect(error).toMatchObject({ code: 'ERR_MEMGUARD_BROKEN', confirmed: [] });
    expect(error.unknown).toEqual(Array.from({ length: 100 }, (_, index) => index + 2));
    expect(pool.stats().current).toBe(0);
    proxy.heal();
    expect(await outbox.pending()).toBe(1);
    expect(await outbox.put('t', Buffer.from('b'))).toBe(102);
  });

  test('before the answer to a batch comes: it is unknown, and there', async () => {
    const proxy = await startProxy(redis.port);
    const outbox = outboxOf(`redis://127.0.0.1:${proxy.port}`);
    await outbox.put('t', Buffer.from('a'));
    proxy.cutBackAfter(10); // the answer to INCRBY, and a bit
    const error = await rejection(outbox.putBatch(batch(3, 10)));
    expect(error).toMatchObject({ code: 'ERR_MEMGUARD_BROKEN', confirmed: [], unknown: [2, 3, 4] });
    expect(await outboxOf().pending()).toBe(4);
  });

  test('while messages are fetched: all come again', async () => {
    const proxy = await startProxy(redis.port);
    const outbox = outboxOf(`redis://127.0.0.1:${proxy.port}`);
    const { texts, publish } = collector();
    await outbox.putBatch(batch(20, 10000));
    proxy.cutBackAfter(100000);
    expect((await rejection(outbox.relay(publish))).code).toBe('ERR_MEMGUARD_BROKEN');
    expect(texts).toEqual([]);
    expect(pool.stats().current).toBe(0);
    expect(await outbox.relay(publish)).toBe(20);
    expect(await outbox.pending()).toBe(0);
  });

  test('before they are taken out: they come again', async () => {
    const proxy = await startProxy(redis.port);
    const outbox = outboxOf(`redis://127.0.0.1:${proxy.port}`);
    const { texts, publish } = collector();
    await outbox.putBatch([['t', Buffer.from('a')], ['t', Buffer.from('b')]]);
    const cutting = (topic, view) => {
      publish(topic, view);
      proxy.cutAfter(0);
    };
    const error = await rejection(outbox.relay(cutting));
    expect(error).toMatchObject({ code: 'ERR_MEMGUARD_BROKEN', confirmed: [], unknown: [1, 2] });
    proxy.heal();
    expect(await outbox.relay(publish)).toBe(2);
    expect(texts).toEqual(['t: a', 't: b', 't: a', 't: b']);
  });
});
