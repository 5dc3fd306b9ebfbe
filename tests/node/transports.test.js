'use strict';

// On real servers: redis-server and nats-server.
const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const Redis = require('ioredis');
const { connect } = require('@nats-io/transport-node');
const { MemoryPool, serializers, transports } = require('../..');
const { rejection, removeTemporary, temporaryDirectory, thrown, until } = require('./helpers');
const { freePort, startNats, startProxy, startRedis, stopServers } = require('./servers');

const { NatsTransport, RedisOutbox, RedisTransport } = transports;

let redis;
let nats;
let pool;
const opened = [];

beforeAll(async () => {
  [redis, nats] = await Promise.all([startRedis(), startNats()]);
});

beforeEach(() => {
  pool = new MemoryPool({ leak_check: 'paranoid' });
});

afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
  await until(() => pool.stats().current === 0);
  expect(pool.findings()).toEqual([]);
  pool.close();
});

afterAll(async () => {
  await stopServers();
  removeTemporary();
});

/** Is closed after the test. */
function open(one) {
  opened.push(one);
  return one;
}

/** A handler that keeps what it gets as text. */
function collector() {
  const texts = [];
  const handler = (rental, topic) => {
    texts.push(`${topic}: ${rental.buffer.toString('latin1')}`);
    rental.return();
  };
  return { texts, handler };
}

function clientOf(server) {
  const client = new Redis(server.port, '127.0.0.1', { retryStrategy: null });
  client.on('error', () => {});
  open({ close: () => client.disconnect() });
  return client;
}

const kinds = [
  ['Redis by URL', async (options) => new RedisTransport(redis.url, pool, options)],
  ['Redis by a client of ioredis', async (options) => new RedisTransport(clientOf(redis), pool, options)],
  ['NATS by URL', async (options) => new NatsTransport(nats.url, pool, options)],
  ['NATS by a connection', async (options) => {
    const connection = await connect({ servers: nats.url });
    open({ close: () => connection.close() });
    return new NatsTransport(connection, pool, options);
  }],
];

describe.each(kinds)('%s', (_, make) => {
  test('messages of any length arrive as they were, in order', async () => {
    const transport = open(await make());
    const lengths = [0, 1, 100, 4095, 16383, 16384, 65535, 65536, 65537, 131072, 300000];
    const sent = lengths.map((length, index) => Buffer.alloc(length, `message ${index} \r\n`));
    const received = [];
    await transport.subscribe('all.lengths', (rental, topic) => {
      received.push([topic, Buffer.from(rental.buffer)]);
      rental.return();
    });
    expect(await transport.publishBatch('all.lengths', sent)).toBe(11);
    await until(() => received.length === 11);
    received.forEach(([topic, bytes], index) => {
      expect(topic).toBe('all.lengths');
      expect(bytes.equals(sent[index])).toBe(true);
    });
  });

  test('many small ones in many calls at once', async () => {
    const transport = open(await make());
    const { texts, handler } = collector();
    await transport.subscribe('many', handler);
    const calls = Array.from({ length: 500 }, (_, number) => transport.publish('many', Buffer.from(`${number}`)));
    await Promise.all(calls);
    await until(() => texts.length === 500);
    expect(texts[0]).toBe('many: 0');
    expect(texts[499]).toBe('many: 499');
  });

  test('rentals are published from where they are', async () => {
    const transport = open(await make());
    const serializer = new serializers.MessagePackSerializer(pool);
    const values = [];
    await transport.subscribe('values', (rental) => {
      values.push(serializer.deserialize(rental));
      rental.return();
    });
    const rental = serializer.serializePooled({ id: 5, text: 'é'.repeat(40000) });
    await transport.publish('values', rental);
    rental.return();
    await until(() => values.length === 1);
    expect(values[0]).toEqual({ id: 5, text: 'é'.repeat(40000) });
  });

  test('several handlers of a topic each get one; topics are told apart', async () => {
    const transport = open(await make());
    const one = collector();
    const two = collector();
    const other = collector();
    const first = await transport.subscribe('both', one.handler);
    const second = await transport.subscribe('both', two.handler);
    await transport.subscribe('other', other.handler);
    await transport.publish('both', Buffer.from('a'));
    await transport.publish('other', Buffer.from('b'));
    await until(() => one.texts.length === 1 && two.texts.length === 1 && other.texts.length === 1);
    await first.close();
    await first.close();
    await transport.publish('both', Buffer.from('c'));
    await until(() => two.texts.length === 2);
    await second.close();
    await transport.publish('both', Buffer.from('d'));
    await transport.publish('other', Buffer.from('e'));
    await until(() => other.texts.length === 2);
    expect(one.texts).toEqual(['both: a']);
    expect(two.texts).toEqual(['both: a', 'both: c']);
    expect(other.texts).toEqual(['other: b', 'other: e']);
    expect([first.closed, first.messages, second.messages]).toEqual([true, 1, 2]);
  });

  test('a handler that fails stops nothing, and what it got is returned', async () => {
    const transport = open(await make());
    const { texts, handler } = collector();
    let calls = 0;
    const failing = await transport.subscribe('fails', () => {
      if (++calls === 1) throw new Error('a test: at once');
      return Promise.reject(new Error('a test: later'));
    });
    await transport.subscribe('fails', handler);
    await transport.publishBatch('fails', ['a', 'b', 'c'].map((text) => Buffer.from(text)));
    await until(() => texts.length === 3 && failing.failures === 3);
    expect(failing.messages).toBe(3);
  });

  test('a handler with a promise gets one after the other', async () => {
    const transport = open(await make());
    const log = [];
    await transport.subscribe('turns', async (rental) => {
      const number = rental.buffer.readUInt16LE();
      log.push(`+${number}`);
      await new Promise(setImmediate);
      log.push(`-${number}`);
      rental.return();
    });
    await transport.publishBatch('turns', Array.from({ length: 100 }, (_, number) => Buffer.from([number, 0])));
    await until(() => log.length === 200);
    expect(log).toEqual(Array.from({ length: 100 }, (_, number) => [`+${number}`, `-${number}`]).flat());
  });

  test('what is waiting when it is closed is returned', async () => {
    const transport = await make();
    let release;
    const released = new Promise((resolve) => {
      release = resolve;
    });
    let calls = 0;
    await transport.subscribe('waits', async (rental) => {
      calls++;
      await released;
      rental.return();
    });
    await transport.publishBatch('waits', Array.from({ length: 50 }, () => Buffer.alloc(100)));
    await until(() => calls === 1);
    await transport.close();
    release();
    await until(() => pool.stats().current === 0);
    expect(calls).toBe(1);
  });

  test('bad input', async () => {
    const transport = open(await make());
    const view = Buffer.from('a');
    const wrong = [
      [() => transport.publish(5, view), 'TYPE'],
      [() => transport.publish('', view), 'RANGE'],
      [() => transport.publish('x'.repeat(16385), view), 'RANGE'],
      [() => transport.publish('a', 'text'), 'TYPE'],
      [() => transport.publishBatch('a', view), 'TYPE'],
      [() => transport.publishBatch('a', [view, null]), 'TYPE'],
      [() => transport.subscribe('', () => {}), 'RANGE'],
      [() => transport.subscribe('a', null), 'TYPE'],
    ];
    for (const [body, kind] of wrong) expect((await rejection(body())).code).toBe(`ERR_MEMGUARD_${kind}`);
    expect(await transport.publishBatch('a', [])).toBe(0);
    const returned = pool.rent(5);
    returned.return();
    expect((await rejection(transport.publish('a', returned))).code).toBe('ERR_MEMGUARD_RETURNED');
  });

  test('after close() nothing works, and close() may be repeated', async () => {
    const transport = await make();
    await transport.publish('a', Buffer.from('a'));
    const subscription = await transport.subscribe('a', () => {});
    await transport.close();
    await transport.close();
    await subscription.close();
    expect((await rejection(transport.publish('a', Buffer.from('a')))).code).toBe('ERR_MEMGUARD_CLOSED');
    expect((await rejection(transport.subscribe('a', () => {}))).code).toBe('ERR_MEMGUARD_CLOSED');
  });
});

test('a slow handler makes Redis wait instead of filling memory', async () => {
  const transport = open(new RedisTransport(redis.url, pool));
  let release;
  const released = new Promise((resolve) => {
    release = resolve;
  });
  let calls = 0;
  await transport.subscribe('slow', async (rental) => {
    calls++;
    await released;
    rental.return();
  });
  for (let count = 0; count < 10; count++) {
    await transport.publishBatch('slow', Array.from({ length: 100 }, () => Buffer.alloc(4096)));
  }
  await until(() => calls === 1);
  expect(pool.stats().current).toBeLessThan(400);
  release();
  await until(() => calls === 1000);
});

describe('settings of a connection to Redis', () => {
  test('password and database', async () => {
    const server = await startRedis(['--requirepass', 'p@ss']);
    const url = `redis://:p%40ss@127.0.0.1:${server.port}/3`;
    const outbox = open(new RedisOutbox(url, 'db', pool));
    await outbox.put('a', Buffer.from('b'));
    const client = new Redis(url);
    open({ close: () => client.disconnect() });
    expect(await client.keys('*')).toHaveLength(3);
    const same = open(new RedisOutbox(client, 'db', pool));
    expect(await same.pending()).toBe(1);

    const wrong = open(new RedisTransport(`redis://:wrong@127.0.0.1:${server.port}`, pool));
    const error = await rejection(wrong.publish('a', Buffer.from('a')));
    expect(error.code).toBe('ERR_MEMGUARD_INVALID');
    expect(error.message).toContain('WRONGPASS');
    const none = open(new RedisTransport(`redis://127.0.0.1:${server.port}`, pool));
    expect((await rejection(none.publish('a', Buffer.from('a')))).message).toContain('NOAUTH');
    expect((await rejection(none.subscribe('a', () => {}))).message).toContain('NOAUTH');
  });

  test('a socket in the file system', async () => {
    const file = path.join(temporaryDirectory(), 'redis.sock');
    await startRedis(['--unixsocket', file]);
    const transport = open(new RedisTransport(`unix:${file}`, pool));
    const { texts, handler } = collector();
    await transport.subscribe('a', handler);
    await transport.publish('a', Buffer.from('b'));
    await until(() => texts.length === 1);
  });

  test('TLS, as a client of ioredis is told', async () => {
    const directory = temporaryDirectory();
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(directory, name));
    execFileSync('openssl', [
      'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
      '-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert,
    ], { stdio: 'ignore', timeout: 30000 });
    const server = await startRedis((port) => [
      '--port', '0', '--tls-port', String(port), '--tls-cert-file', cert, '--tls-key-file', key, '--tls-auth-clients', 'no',
    ]);
    const client = new Redis({ host: '127.0.0.1', port: server.port, tls: { ca: fs.readFileSync(cert) }, lazyConnect: true });
    const transport = open(new RedisTransport(client, pool));
    const { texts, handler } = collector();
    await transport.subscribe('secret', handler);
    await transport.publishBatch('secret', [Buffer.from('a'), Buffer.alloc(200000, 'b'), Buffer.from('c')]);
    await until(() => texts.length === 3);
    expect(texts).toEqual(['secret: a', `secret: ${'b'.repeat(200000)}`, 'secret: c']);
    const stranger = open(new RedisTransport(`rediss://127.0.0.1:${server.port}`, pool));
    expect((await rejection(stranger.publish('a', Buffer.from('a')))).code).toBe('ERR_MEMGUARD_BROKEN');
  });

  test.each([
    ['nonsense', 'INVALID'], ['http://127.0.0.1', 'INVALID'], ['redis://127.0.0.1/x', 'INVALID'], [5, 'TYPE'], [null, 'TYPE'], [{}, 'INVALID'],
  ])('%j is refused', (target, kind) => {
    expect(thrown(() => new RedisTransport(target, pool)).code).toBe(`ERR_MEMGUARD_${kind}`);
    expect(thrown(() => new RedisOutbox(target, 'a', pool)).code).toBe(`ERR_MEMGUARD_${kind}`);
  });

  test('timeouts and names out of range', () => {
    expect(thrown(() => new RedisTransport(redis.url, pool, { timeout: 0 })).code).toBe('ERR_MEMGUARD_RANGE');
    expect(thrown(() => new NatsTransport(nats.url, pool, { timeout: '5' })).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => new NatsTransport(5, pool)).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => new RedisOutbox(redis.url, '', pool)).code).toBe('ERR_MEMGUARD_RANGE');
    expect(thrown(() => new RedisOutbox(redis.url, 'n'.repeat(201), pool)).code).toBe('ERR_MEMGUARD_RANGE');
  });
});

/* ---- what breaks ------------------------------------------------------------------------ */

describe('a connection that breaks', () => {
  const views = (count, bytes) => Array.from({ length: count }, () => Buffer.alloc(bytes, 'x'));

  test.each([
    ['small messages', 1000, 100],
    ['large messages', 40, 100000],
  ])('Redis, in the middle of a batch of %s', async (_, count, bytes) => {
    const proxy = await startProxy(redis.port);
    const transport = open(new RedisTransport(`redis://127.0.0.1:${proxy.port}`, pool));
    await transport.publish('q', Buffer.from('a'));
    proxy.cutAfter((count * bytes) / 4);
    const error = await rejection(transport.publishBatch('q', views(count, bytes)));
    expect(error.code).toBe('ERR_MEMGUARD_BROKEN');
    expect(error.confirmed).toBeLessThanOrEqual(count / 4);
    expect(error.confirmed + error.unknown).toBe(count);
    expect(pool.stats().current).toBe(0);
    proxy.heal();
    expect(await transport.publishBatch('q', views(3, 10))).toBe(3);
  });

  test('what is confirmed was published, and no more than what is unknown besides', async () => {
    const proxy = await startProxy(redis.port);
    const transport = open(new RedisTransport(`redis://127.0.0.1:${proxy.port}`, pool));
    const listener = open(new RedisTransport(redis.url, pool));
    const { texts, handler } = collector();
    await listener.subscribe('counted', handler);
    await transport.publish('counted', Buffer.from('first'));
    proxy.cutAfter(30000);
    const error = await rejection(transport.publishBatch('counted', views(1000, 100)));
    await listener.publish('counted', Buffer.from('last'));
    await until(() => texts.at(-1) === 'counted: last');
    expect(texts.length - 2).toBeGreaterThanOrEqual(error.confirmed);
    expect(texts.length - 2).toBeLessThanOrEqual(error.confirmed + error.unknown);
    expect(error.unknown).toBeGreaterThan(0);
  });

  test('Redis, which answers nothing any more', async () => {
    const proxy = await startProxy(redis.port);
    const transport = open(new RedisTransport(`redis://127.0.0.1:${proxy.port}`, pool, { timeout: 2 }));
    await transport.publish('q', Buffer.from('a'));
    proxy.freeze();
    const error = await rejection(transport.publishBatch('q', views(10, 100)));
    expect(error).toMatchObject({ code: 'ERR_MEMGUARD_BROKEN', confirmed: 0, unknown: 10 });
    expect(error.message).toContain('no answer within 2 s');
  });

  test('subscriptions to Redis come back and count the gap', async () => {
    const proxy = await startProxy(redis.port);
    const transport = open(new RedisTransport(`redis://127.0.0.1:${proxy.port}`, pool));
    const other = open(new RedisTransport(redis.url, pool));
    const { texts, handler } = collector();
    const subscription = await transport.subscribe('again', handler);
    await other.publish('again', Buffer.from('a'));
    await until(() => texts.length === 1);
    proxy.cut();
    await until(() => subscription.gaps === 1);
    await other.publish('again', Buffer.from('b'));
    await until(() => texts.length === 2);
    expect(texts).toEqual(['again: a', 'again: b']);
  });

  test('in the middle of a message that comes in', async () => {
    const proxy = await startProxy(redis.port);
    const transport = open(new RedisTransport(`redis://127.0.0.1:${proxy.port}`, pool));
    const other = open(new RedisTransport(redis.url, pool));
    const { texts, handler } = collector();
    const subscription = await transport.subscribe('cut', handler);
    proxy.cutBackAfter(50000);
    await other.publish('cut', Buffer.alloc(500000, 'x'));
    await until(() => subscription.gaps === 1);
    expect(texts).toEqual([]);
    expect(pool.stats().current).toBe(0);
  });

  test('nobody listens', async () => {
    const port = await freePort();
    const transport = open(new RedisTransport(`redis://127.0.0.1:${port}`, pool));
    const outbox = open(new RedisOutbox(`redis://127.0.0.1:${port}`, 'none', pool));
    const bus = open(new NatsTransport(`nats://127.0.0.1:${port}`, pool, { timeout: 1 }));
    const nothing = { code: 'ERR_MEMGUARD_BROKEN', confirmed: 0, unknown: 0 };
    expect(await rejection(transport.publishBatch('a', views(5, 10)))).toMatchObject(nothing);
    expect(await rejection(transport.subscribe('a', () => {}))).toMatchObject(nothing);
    expect(await rejection(bus.publishBatch('a', views(5, 10)))).toMatchObject(nothing);
    expect(await rejection(bus.subscribe('a', () => {}))).toMatchObject(nothing);
    const none = { code: 'ERR_MEMGUARD_BROKEN', confirmed: [], unknown: [] };
    expect(await rejection(outbox.put('a', Buffer.from('b')))).toMatchObject(none);
    expect(await rejection(outbox.pending())).toMatchObject(none);
  });

  test('a pool that was closed', async () => {
    const closed = new MemoryPool();
    const transport = open(new RedisTransport(redis.url, closed));
    await transport.publish('a', Buffer.from('a'));
    closed.close();
    expect((await rejection(transport.publish('a', Buffer.from('a')))).code).toBe('ERR_MEMGUARD_CLOSED');
  });

  test('somebody else answers', async () => {
    const transport = open(new RedisTransport(`redis://127.0.0.1:${nats.port}`, pool));
    const error = await rejection(transport.publish('a', Buffer.from('a')));
    expect(error.code).toBe('ERR_MEMGUARD_BROKEN');
    expect(error.message).toContain('cannot be read');
  });

  test('NATS, in the middle of a batch', async () => {
    const proxy = await startProxy(nats.port);
    const transport = open(new NatsTransport(`nats://127.0.0.1:${proxy.port}`, pool));
    await transport.publish('q', Buffer.from('a'));
    proxy.cutAfter(20000);
    const error = await rejection(transport.publishBatch('q', views(1000, 100)));
    expect(error).toMatchObject({ code: 'ERR_MEMGUARD_BROKEN', confirmed: 0, unknown: 1000 });
    proxy.heal();
    let isBack = false;
    const tries = setInterval(() => transport.publish('q', Buffer.from('a')).then(() => (isBack = true), () => {}), 50);
    try {
      await until(() => isBack);
    } finally {
      clearInterval(tries);
    }
  });

  test('a message longer than NATS takes is refused before anything is sent', async () => {
    const transport = open(new NatsTransport(nats.url, pool));
    const { texts, handler } = collector();
    await transport.subscribe('long', handler);
    const error = await rejection(transport.publishBatch('long', [Buffer.from('a'), Buffer.alloc(1048577)]));
    expect(error.code).toBe('ERR_MEMGUARD_RANGE');
    await transport.publish('long', Buffer.from('b'));
    await until(() => texts.length === 1);
    expect(texts).toEqual(['long: b']);
  });

  test('NATS takes no white space in a subject', async () => {
    const transport = open(new NatsTransport(nats.url, pool));
    expect((await rejection(transport.publish('a b', Buffer.from('a')))).code).toBe('ERR_MEMGUARD_INVALID');
    expect((await rejection(transport.subscribe('a\n', () => {}))).code).toBe('ERR_MEMGUARD_INVALID');
  });
});
