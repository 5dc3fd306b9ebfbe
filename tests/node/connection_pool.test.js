'use strict';

// Connection pools: limits, order, ends; real sockets.
const net = require('net');
const { ManagedConnectionPool, poolStats } = require('../..');
const { budget, trimPools } = require('../../node/lib/caches');
const { thrown, until } = require('./helpers');

budget.ms = 60000; // one call does it all, however slow the machine is now

class Connection {
  closed = false;
  closings = 0;

  async close() {
    this.closings++;
    await null;
    this.closed = true;
  }
}

const connect = async () => new Connection();
const pools = [];

function open(factory = connect, options = { maxConnections: 2 }) {
  const pool = new ManagedConnectionPool(factory, options);
  pools.push(pool);
  return pool;
}

async function warnings(body) {
  const emit = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  try {
    await body();
    return emit.mock.calls.map(([text]) => text);
  } finally {
    emit.mockRestore();
  }
}

afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close();
  expect(poolStats()).toEqual([]);
});

describe('use', () => {
  test('connections are used again', async () => {
    const pool = open();
    const [first, second] = [await pool.acquire(), await pool.acquire()];
    expect(first).not.toBe(second);
    pool.release(first);
    pool.release(second);
    expect(await pool.connection((connection) => connection === second)).toBe(true);
    expect(pool.getStats()).toEqual({
      active: 0, idle: 2, waiting: 0, max: 2, created: 2, closed: 0, timedOut: 0, failures: 0,
    });
  });

  test('no more than maxConnections', async () => {
    const pool = open();
    const held = [await pool.acquire(), await pool.acquire()];
    for (const timeout of [0, 0.01]) {
      await expect(pool.acquire({ timeout })).rejects.toMatchObject({
        code: 'ERR_MEMGUARD_TIMEOUT', message: `no connection within ${timeout} s: 2 are in use`,
      });
    }
    expect(pool.getStats()).toMatchObject({ timedOut: 2, waiting: 0, created: 2 });
    for (const connection of held) pool.release(connection);
    pool.release(await pool.acquire({ timeout: 0 }));
  });

  test('who waits is served in order', async () => {
    const pool = open();
    const held = [await pool.acquire(), await pool.acquire()];
    const order = [];
    const users = [0, 1, 2, 3, 4].map((number) => pool.connection(() => order.push(number), { timeout: 20 }));
    expect(pool.getStats().waiting).toBe(5);
    pool.release(held[0]);
    await Promise.all(users);
    expect(order).toEqual([0, 1, 2, 3, 4]);
    expect(pool.getStats()).toMatchObject({ created: 2, active: 1, idle: 1 });
    pool.release(held[1]);
  });

  test('a newcomer does not overtake', async () => {
    const pool = open(connect, { maxConnections: 1 });
    const order = [];
    const held = await pool.acquire();
    const waits = pool.connection(() => order.push('first'));
    pool.release(held);
    await Promise.all([waits, pool.connection(() => order.push('second'))]);
    expect(order).toEqual(['first', 'second']);
  });

  test('released twice or not of the pool', async () => {
    const pool = open();
    const connection = await pool.acquire();
    pool.release(connection);
    expect(thrown(() => pool.release(connection)).code).toBe('ERR_MEMGUARD_CONFLICT');
    expect(thrown(() => pool.release(new Connection())).code).toBe('ERR_MEMGUARD_NOT_FOUND');
    expect(pool.getStats().idle).toBe(1);
  });

  test('many users', async () => {
    const pool = open();
    let inside = 0;
    let most = 0;
    await Promise.all(Array.from({ length: 500 }, () => pool.connection(async () => {
      most = Math.max(most, ++inside);
      await null;
      inside--;
    }, { timeout: 30 })));
    expect(most).toBe(2);
    expect(pool.getStats()).toMatchObject({ active: 0, waiting: 0, created: 2 });
  });

  test('a body that fails gives back', async () => {
    const pool = open();
    await expect(pool.connection(() => { throw new Error('body'); })).rejects.toThrow('body');
    expect(pool.getStats()).toMatchObject({ active: 0, idle: 1 });
  });
});

describe('stale connections', () => {
  test('a closed one is not handed out', async () => {
    const pool = open();
    const connection = await pool.acquire();
    pool.release(connection);
    connection.closed = true;
    expect(await pool.acquire()).not.toBe(connection);
    expect([pool.getStats().closed, connection.closings]).toEqual([1, 0]);
  });

  test('one that comes back closed or discarded is removed', async () => {
    const pool = open();
    const [closed, discarded] = [await pool.acquire(), await pool.acquire()];
    closed.closed = true;
    pool.release(closed);
    pool.release(discarded, { discard: true });
    expect(discarded.closings).toBe(1);
    expect(pool.getStats()).toMatchObject({ idle: 0, active: 0, closed: 2 });
  });

  test('idle for too long', async () => {
    let now = 0;
    const clock = jest.spyOn(require('perf_hooks').performance, 'now').mockImplementation(() => now);
    try {
      const pool = open(connect, { maxConnections: 4 });
      const held = [];
      while (held.length < 4) held.push(await pool.acquire());
      const closings = () => held.map((connection) => connection.closings);
      pool.release(held[0]);
      now += 200e3;
      pool.release(held[1]);
      now += 101e3;
      pool.release(held[2]);
      expect(closings()).toEqual([1, 0, 0, 0]);
      now += 200e3;
      expect(pool.prune()).toBe(1);
      expect(closings()).toEqual([1, 1, 0, 0]);
      now += 301e3;
      pool.release(held[3]);
      expect(await pool.acquire()).toBe(held[3]);
      expect(closings()).toEqual([1, 1, 1, 0]);
    } finally {
      clock.mockRestore();
    }
  });

  test('prune looks at all idle ones', async () => {
    const pool = open();
    const held = [await pool.acquire(), await pool.acquire()];
    for (const connection of held) pool.release(connection);
    held[0].closed = true;
    expect([pool.prune(), pool.prune()]).toEqual([1, 0]);
    expect(await pool.acquire()).toBe(held[1]);
  });

  test('pressure trims idle connections', async () => {
    const pool = open(connect, { maxConnections: 8, name: 'db' });
    const held = [];
    while (held.length < 8) held.push(await pool.acquire());
    for (const connection of held.slice(0, 6)) pool.release(connection);
    expect(trimPools(0.5)).toBe(3);
    expect(held.map((connection) => connection.closings)).toEqual([1, 1, 1, 0, 0, 0, 0, 0]);
    expect(poolStats()).toEqual([{ name: 'db', active: 2, idle: 3, shrinks: 1, dropped: 3, failures: 0 }]);
    expect(pool.trim()).toBe(3);
    expect(pool.getStats().closed).toBe(6);
  });
});

describe('failures', () => {
  test('a factory that fails costs no place', async () => {
    const answers = [() => { throw new Error('now'); }, async () => { throw new Error('later'); }, connect, () => null];
    const pool = open(() => answers.shift()(), { maxConnections: 1 });
    await expect(pool.acquire({ timeout: 1 })).rejects.toThrow('now');
    await expect(pool.acquire({ timeout: 1 })).rejects.toThrow('later');
    pool.release(await pool.acquire({ timeout: 1 }), { discard: true });
    await expect(pool.acquire({ timeout: 1 })).rejects.toMatchObject({ code: 'ERR_MEMGUARD_INVALID' });
    expect(pool.getStats()).toMatchObject({ failures: 3, active: 0 });
  });

  test('a factory that fails lets the next one try', async () => {
    let calls = 0;
    const pool = open(async () => {
      await new Promise(setImmediate);
      if (++calls === 1) throw new Error('refused');
      return new Connection();
    }, { maxConnections: 1 });
    const [one, two] = await Promise.allSettled([pool.acquire(), pool.acquire({ timeout: 20 })]);
    expect([one.status, two.status]).toEqual(['rejected', 'fulfilled']);
  });

  test('the same connection made twice is refused', async () => {
    const one = new Connection();
    const pool = open(() => one);
    expect(await pool.acquire()).toBe(one);
    await expect(pool.acquire({ timeout: 1 })).rejects.toMatchObject({ code: 'ERR_MEMGUARD_CONFLICT' });
    expect(pool.getStats().active).toBe(1);
    pool.release(one);
  });

  test('close and isClosed that fail are told once', async () => {
    const texts = await warnings(async () => {
      const fails = open(connect, { close: async () => { throw new Error('later'); } });
      for (let round = 0; round < 2; round++) fails.release(await fails.acquire(), { discard: true });
      await until(() => fails.getStats().failures === 2);
      expect(fails.getStats().closed).toBe(2);
      const throws = open(connect, { isClosed: () => { throw new Error('now'); } });
      for (let round = 0; round < 2; round++) throws.release(await throws.acquire());
      expect(throws.getStats()).toMatchObject({ idle: 0, failures: 2 });
    });
    expect(texts.sort()).toEqual([
      'close of a connection pool failed: later (further failures of it are not reported)',
      'isClosed of a connection pool failed: now (further failures of it are not reported)',
    ]);
  });
});

describe('the end', () => {
  test('close closes what is idle, and the others when they come back', async () => {
    const pool = open();
    const [idle, active] = [await pool.acquire(), await pool.acquire()];
    pool.release(idle);
    await pool.close();
    await pool.close();
    expect([idle.closed, active.closed, pool.isClosed]).toEqual([true, false, true]);
    pool.release(active);
    await pool.close();
    expect(active.closed).toBe(true);
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'ERR_MEMGUARD_CLOSED' });
    expect(trimPools(1)).toBe(0);
  });

  test('close while some wait', async () => {
    const pool = open(connect, { maxConnections: 1 });
    await pool.acquire();
    const waiting = Promise.allSettled([pool.acquire(), pool.acquire({ timeout: 100 })]);
    await pool.close();
    const codes = (await waiting).map(({ reason }) => reason.code);
    expect(codes).toEqual(['ERR_MEMGUARD_CLOSED', 'ERR_MEMGUARD_CLOSED']);
  });

  test('closed while a connection is made', async () => {
    const made = [];
    const pool = open(async () => {
      void pool.close();
      made.push(new Connection());
      return made[0];
    });
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'ERR_MEMGUARD_CLOSED' });
    expect(made[0].closings).toBe(1);
    expect(pool.getStats().active).toBe(0);
  });
});

test('sockets', async () => {
  const server = net.createServer((socket) => socket.pipe(socket));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const pool = open(() => new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => resolve(socket)).on('error', reject);
  }), { maxConnections: 3, close: (socket) => new Promise((resolve) => socket.end(resolve)) });

  const ask = (text) => pool.connection((socket) => new Promise((resolve) => {
    socket.once('data', (data) => resolve(String(data)));
    socket.write(text);
  }), { timeout: 20 });

  const answers = await Promise.all(Array.from({ length: 30 }, (_, number) => ask(String(number))));
  expect(answers).toEqual(Array.from({ length: 30 }, (_, number) => String(number)));
  expect(pool.getStats()).toMatchObject({ created: 3, idle: 3 });
  const socket = await pool.acquire();
  socket.destroy();
  pool.release(socket);
  expect(await ask('again')).toBe('again');
  expect(pool.getStats()).toMatchObject({ created: 3, closed: 1 });
  expect(trimPools(1)).toBe(2);
  await pool.close();
  await new Promise((resolve) => server.close(resolve));
});

test.each([
  [[5], 'TYPE', 'factory must be a function, not a number'],
  [[connect, { maxConnections: 0 }], 'RANGE', 'maxConnections is 0'],
  [[connect, { maxConnections: 1.5 }], 'RANGE', 'maxConnections is 1.5'],
  [[connect, { close: 5 }], 'TYPE', 'close must be a function'],
  [[connect, { isClosed: 5 }], 'TYPE', 'isClosed must be a function'],
  [[connect, { idleTimeout: -1 }], 'RANGE', 'idleTimeout is -1'],
  [[connect, { idleTimeout: '1s' }], 'TYPE', 'idleTimeout must be a number'],
  [[connect, { name: 1 }], 'TYPE', 'the name of a pool must be a string'],
])('bad input %#', (values, code, text) => {
  const error = thrown(() => new ManagedConnectionPool(...values));
  expect(error.code).toBe(`ERR_MEMGUARD_${code}`);
  expect(error.message).toContain(text);
});

test('a bad timeout', async () => {
  const pool = open();
  await expect(pool.acquire({ timeout: -1 })).rejects.toMatchObject({ code: 'ERR_MEMGUARD_RANGE' });
  expect(pool.getStats().active).toBe(0);
});
