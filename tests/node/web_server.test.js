'use strict';

// serve(): where it listens, how it ends, and that it keeps nothing alive.
const net = require('net');
const { ResourceManager, serve } = require('../..');
const { lastLine, rejection, removeTemporary, run, runJson, until } = require('./helpers');
const { AUTHORIZED, GOOD_TOKEN, ask, askRaw } = require('./http');

let manager;
const open = new Set();

beforeAll(async () => {
  manager = new ResourceManager({ sampleInterval: '50ms' });
  await until(() => manager.memoryMonitor.latest !== null);
});

afterEach(async () => {
  for (const server of open) await server.close();
  open.clear();
});

afterAll(async () => {
  await manager.close();
  removeTemporary();
});

async function start(options = {}) {
  const server = await serve({ port: 0, token: GOOD_TOKEN, ...options });
  open.add(server);
  return server;
}

test('on loopback, on a port that is free', async () => {
  const server = await start();
  const { host, port } = server.address;
  expect([host, server.url, server.isClosed]).toEqual(['127.0.0.1', `http://127.0.0.1:${port}/`, false]);
  expect((await ask(port, '/livez')).json).toEqual({ status: 'ok' });
  expect((await ask(port, '/api/v1/memory/gc', { method: 'POST', headers: AUTHORIZED })).status).toBe(200);
  await Promise.all([server.close(), server.close()]);
  expect([server.address, server.url, server.isClosed]).toEqual([{ host: null, port: null }, null, true]);
  expect((await rejection(ask(port, '/livez'))).code).toBe('ECONNREFUSED');
});

test('a port that is taken', async () => {
  const { port } = (await start()).address;
  const error = await rejection(serve({ port }));
  expect([error.code, error.message]).toEqual([
    'ERR_MEMGUARD_SYSTEM', expect.stringMatching(new RegExp(`^cannot listen on host 127.0.0.1, port ${port}: .*EADDRINUSE`)),
  ]);
});

test('another address needs to be allowed, and a token for everything', async () => {
  const error = await rejection(serve({ host: '0.0.0.0', port: 0, token: GOOD_TOKEN }));
  expect([error.code, error.message]).toEqual([
    'ERR_MEMGUARD_INVALID', expect.stringMatching(/^host is "0.0.0.0", allowed: 127.0.0.1, .* allowRemote: true and a token$/),
  ]);
  const other = await rejection(serve({ host: '0.0.0.0', port: 0, token: '', allowRemote: true }));
  expect([other.code, other.message]).toEqual([
    'ERR_MEMGUARD_CONFLICT', expect.stringMatching(/^host is "0.0.0.0" and there is no token/),
  ]);
  const { address } = await start({ host: '0.0.0.0', allowRemote: true, readNeedsToken: false });
  expect((await ask(address.port, '/metrics')).status).toBe(401);
  expect((await ask(address.port, '/metrics', { headers: AUTHORIZED })).status).toBe(200);
});

test.each([
  [{ port: 70000 }, 'ERR_MEMGUARD_RANGE', 'port is 70000, allowed: 0 to 65535'],
  [{ port: '80' }, 'ERR_MEMGUARD_TYPE', 'port must be a number, not a string'],
  [{ port: 1.5 }, 'ERR_MEMGUARD_RANGE', 'port is 1.5, allowed: a whole number'],
  [{ host: 5 }, 'ERR_MEMGUARD_TYPE', 'host must be a string, not a number'],
  [{ allowRemote: 1 }, 'ERR_MEMGUARD_TYPE', 'allowRemote must be true or false, not a number'],
  [{ manager: {} }, 'ERR_MEMGUARD_TYPE', 'manager must be a ResourceManager, not an object'],
])('options that are wrong: %j', async (options, code, text) => {
  const error = await rejection(serve(options));
  expect([error.code, error.message]).toEqual([code, text]);
});

test('it ends with its manager', async () => {
  const one = new ResourceManager({ sampleInterval: '1h' });
  const server = await start({ manager: one });
  const { port } = server.address;
  await one.close();
  expect(server.isClosed).toBe(true);
  await server.close();
  expect((await rejection(ask(port, '/livez'))).code).toBe('ECONNREFUSED');
  expect((await rejection(serve({ port: 0, manager: one }))).code).toBe('ERR_MEMGUARD_CLOSED');
});

test('a manager does not hold a server that is closed', async () => {
  const one = new ResourceManager({ sampleInterval: '1h' });
  await (await start({ manager: one })).close();
  expect(one.managedResources).toEqual([]);
  await one.close();
});

test('what is no request', async () => {
  const { port } = (await start()).address;
  const nonsense = await askRaw(port, 'NONSENSE\r\n\r\n');
  expect(nonsense).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
  expect(nonsense).toMatch(/\r\n\r\n\{"error":"this is no HTTP request: .*"\}\n$/);
  const large = await askRaw(port, `GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20000)}\r\n\r\n`);
  expect(large).toMatch(/^HTTP\/1\.1 431 /);
});

test('idle connections keep nobody out', async () => {
  const { port } = (await start()).address;
  let ended = 0;
  const sockets = [];
  try {
    for (let count = 0; count < 300; count++) {
      const socket = net.connect(port, '127.0.0.1');
      socket.on('error', () => {}).on('close', () => ended++).resume();
      sockets.push(socket);
      await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve));
    }
    expect((await ask(port, '/livez')).status).toBe(200);
    await until(() => ended >= 300 - 128);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
});

test('closing does not wait for clients', async () => {
  const server = await start();
  const { port } = server.address;
  const socket = net.connect(port, '127.0.0.1', () => socket.write('PUT /api/v1/memory/config HTTP/1.1\r\nContent-Length: 9\r\n'));
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await server.close();
  await closed;
});

test('a process ends though it serves', async () => {
  const { code, stdout } = await run('web.js', ['idle']);
  expect([code, lastLine(stdout)]).toEqual([0, '200']);
});

test('a process that asks for it goes on until the server is closed', async () => {
  expect(await runJson('web.js', ['kept'])).toEqual({ status: 200 });
});

test('each worker of a cluster shows itself', async () => {
  const { workers, main } = await runJson('web.js', ['cluster']);
  expect(workers.map(({ shown }) => shown)).toEqual(workers.map(({ pid }) => pid));
  expect(new Set(workers.map(({ port }) => port)).size).toBe(2);
  expect(main).toBe('ERR_MEMGUARD_SYSTEM'); // the port of a worker is taken
});

test('a Worker serves, and ends at any time', async () => {
  const seen = await runJson('web.js', ['worker']);
  expect(seen).toEqual({ status: 200, collected: 200, refused: true });
});

test('the tokens of the environment', async () => {
  const env = { MEMGUARD_WEB_TOKEN: GOOD_TOKEN };
  expect(await runJson('web.js', ['token', AUTHORIZED.Authorization], { env })).toEqual({ status: 200 });
  const bad = await runJson('web.js', ['token', ''], { env: { MEMGUARD_WEB_TOKEN: 'short' } });
  expect(bad).toEqual({ code: 'ERR_MEMGUARD_INVALID' });
});

test('nothing of it is loaded before it is used', async () => {
  expect(await runJson('web.js', ['loaded'])).toEqual([]);
});

test('clients of all kinds leave nothing behind', async () => {
  const { listeners, handles, status } = await runJson('web.js', ['abuse']);
  expect([listeners.after, handles, status]).toEqual([listeners.before, 0, 200]);
});
