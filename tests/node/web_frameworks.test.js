'use strict';

// The site inside real applications: Express, Connect, Fastify, plain http.
const http2 = require('http2');
const connect = require('connect');
const express = require('express');
const fastify = require('fastify');
const { ResourceManager, fastifyPlugin, middleware } = require('../..');
const { rejection, until } = require('./helpers');
const { AUTHORIZED, GOOD_TOKEN, ask, listen, stopServers } = require('./http');

const CONFIG = '/memguard/api/v1/memory/config';
const SITE = { token: GOOD_TOKEN, writesPerMinute: 100_000 };
const WRITE = { ...AUTHORIZED, 'Content-Type': 'application/json' };

let manager;
const apps = [];

beforeAll(async () => {
  manager = new ResourceManager({ sampleInterval: '50ms' });
  await until(() => manager.memoryMonitor.latest !== null);
});

afterEach(async () => {
  await stopServers();
  for (const app of apps.splice(0)) await app.close();
});

afterAll(() => manager.close());

const limit = () => manager.settings.memory.maxMemoryMb;

async function setLimit(port, value, headers = WRITE) {
  const body = JSON.stringify({ memory: { max_memory_mb: value } });
  return (await ask(port, CONFIG, { method: 'PUT', headers, body })).status;
}

function plain() {
  const site = middleware({ ...SITE, prefix: '/memguard' });
  return listen((request, response) => {
    if (request.url === '/mine') response.end('mine');
    else site(request, response);
  });
}

function withConnect() {
  const app = connect();
  app.use('/memguard', middleware(SITE));
  app.use('/mine', (request, response) => response.end('mine'));
  return listen(app);
}

function withExpress() {
  const app = express();
  app.use(express.json());
  app.use('/memguard', middleware(SITE));
  app.get('/mine', (request, response) => response.send('mine'));
  return listen(app);
}

async function withFastify() {
  const app = fastify();
  apps.push(app);
  await app.register(fastifyPlugin, { ...SITE, prefix: '/memguard' });
  app.get('/mine', async () => 'mine');
  app.post('/echo', async (request) => request.body);
  await app.listen({ host: '127.0.0.1', port: 0 });
  return { port: app.server.address().port };
}

describe.each([
  ['plain http', plain], ['Connect', withConnect], ['Express', withExpress], ['Fastify', withFastify],
])('%s', (name, start) => {
  let port;

  beforeEach(async () => {
    ({ port } = await start());
  });

  test('reads', async () => {
    const { status, json } = await ask(port, '/memguard/api/v1/memory/stats?pid=' + process.pid);
    expect([status, json.process.pid]).toEqual([200, process.pid]);
    expect((await ask(port, '/memguard/metrics')).headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect((await ask(port, '/memguard/livez', { method: 'HEAD' })).headers['content-length']).toBe('16');
  });

  test('writes', async () => {
    expect([await setLimit(port, 1500), limit()]).toEqual([200, 1500]);
    expect([await setLimit(port, 1400, { ...WRITE, Authorization: 'Bearer wrong-token-of-somebody' }), limit()]).toEqual([401, 1500]);
    expect([await setLimit(port, -1), limit()]).toEqual([400, 1500]);
    expect([await setLimit(port, 2048), limit()]).toEqual([200, 2048]);
    const gc = await ask(port, '/memguard/api/v1/memory/gc', { method: 'POST', headers: AUTHORIZED });
    expect([gc.status, gc.json.message]).toEqual([200, 'Garbage collection completed']);
  });

  test('a body that is too large', async () => {
    const body = JSON.stringify({ max_memory_mb: 5, other: 'x'.repeat(70000) });
    const { status, json } = await ask(port, CONFIG, { method: 'PUT', headers: WRITE, body });
    expect([status, Object.keys(json), limit()]).toEqual([413, ['error'], 2048]);
  });

  test('the dashboard lies in a folder', async () => {
    const { status, headers } = await ask(port, '/memguard');
    expect([status, headers.location]).toEqual([308, './memguard/']);
    expect(new URL(headers.location, `http://localhost:${port}/memguard`).pathname).toBe('/memguard/');
    expect((await ask(port, '/memguard/')).headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self'/);
  });

  test('other paths are those of the application', async () => {
    expect((await ask(port, '/mine')).text).toBe('mine');
    expect((await ask(port, '/memguard/other')).status).toBe(404);
    expect((await ask(port, '/memguardian')).status).toBe(404);
    expect((await ask(port, '/livez')).status).toBe(404);
  });
});

// Host is the client's word, or that of the proxy before us.
describe.each([
  ['middleware', async (options) => (await listen(middleware({ ...options, prefix: '/memguard' }))).port],
  ['fastifyPlugin', async (options) => {
    const app = fastify();
    apps.push(app);
    await app.register(fastifyPlugin, { ...options, prefix: '/memguard' });
    await app.listen({ host: '127.0.0.1', port: 0 });
    return app.server.address().port;
  }],
])('who reads a mounted site, %s', (name, start) => {
  const bearer = { Authorization: AUTHORIZED.Authorization };
  const shop = { Host: 'shop.example' };

  async function statuses(options, ...several) {
    const port = await start({ ...SITE, ...options });
    return Promise.all(several.map(async (headers) => (await ask(port, '/memguard/metrics', { headers })).status));
  }

  test('who reaches the application reads', async () => {
    expect(await statuses({}, { Host: 'localhost' }, shop)).toEqual([200, 421]);
    expect(await statuses({ allowedHosts: ['shop.example'] }, { Host: 'localhost' }, shop)).toEqual([200, 200]);
  });

  test('reading needs the token where told', async () => {
    const options = { readNeedsToken: true, allowedHosts: ['shop.example'] };
    const wrong = { Authorization: 'Bearer wrong-token-of-somebody' };
    expect(await statuses(options, {}, shop, wrong)).toEqual([401, 401, 401]);
    expect(await statuses(options, bearer, { ...shop, ...bearer })).toEqual([200, 200]);
  });
});

test('at the root of an application, which goes on by itself', async () => {
  const app = express();
  app.get('/', (request, response) => response.send('mine'));
  app.use(middleware(SITE));
  app.get('/other', (request, response) => response.send('other'));
  const { port } = await listen(app);
  expect((await ask(port, '/')).text).toBe('mine');
  expect((await ask(port, '/livez')).json).toEqual({ status: 'ok' });
  expect((await ask(port, '/other')).text).toBe('other');
  expect((await ask(port, '/none')).text).toContain('Cannot GET /none'); // Express' own
});

test('at the root of a Fastify application', async () => {
  const app = fastify();
  apps.push(app);
  await app.register(fastifyPlugin, SITE);
  app.post('/echo', async (request) => request.body);
  app.setNotFoundHandler((request, reply) => reply.code(404).send('theirs'));
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address();
  expect((await ask(port, '/livez')).json).toEqual({ status: 'ok' });
  expect((await ask(port, '/none')).text).toBe('theirs');
  const headers = { 'Content-Type': 'application/json' };
  expect((await ask(port, '/echo', { method: 'POST', headers, body: '{"a":1}' })).json).toEqual({ a: 1 }); // parsed as before
});

test('over HTTP/2', async () => {
  const server = http2.createServer(middleware(SITE));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = http2.connect(`http://127.0.0.1:${server.address().port}`);
  const request = (headers, body) => new Promise((resolve, reject) => {
    const stream = client.request(headers).on('error', reject);
    let text = '';
    let status;
    stream.on('response', (answer) => {
      status = answer[':status'];
    });
    stream.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    stream.on('end', () => resolve([status, JSON.parse(text)]));
    stream.end(body);
  });
  try {
    expect(await request({ ':path': '/livez' })).toEqual([200, { status: 'ok' }]);
    const put = { ':method': 'PUT', ':path': '/api/v1/memory/config' };
    const authorized = { ...put, authorization: AUTHORIZED.Authorization, 'x-memguard': '1' };
    expect((await request(put, '{"max_memory_mb": 5}'))[0]).toBe(401);
    expect([(await request(authorized, '{"max_memory_mb": 1700}'))[0], limit()]).toEqual([200, 1700]);
    expect([(await request(authorized, '{"max_memory_mb": 2048}'))[0], limit()]).toEqual([200, 2048]);
    expect((await request(authorized, `{"max_memory_mb": 5${' '.repeat(70000)}}`))[0]).toBe(413);
    expect((await request({ ':path': '/livez', ':authority': 'evil.example' }))[0]).toBe(421);
  } finally {
    client.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a body that was read and is gone', async () => {
  const site = middleware({ ...SITE, prefix: '/memguard' });
  const { port } = await listen((request, response) => {
    request.resume().on('end', () => setImmediate(site, request, response));
  });
  expect([await setLimit(port, 1000), limit()]).toEqual([500, 2048]);
});

test('an answer that is given already is left alone', async () => {
  const site = middleware({ ...SITE, prefix: '/memguard' });
  const { port } = await listen((request, response) => {
    site(request, response);
    response.end('mine');
  });
  expect((await ask(port, '/memguard/livez')).text).toBe('mine');
});

test('bad options make register() fail', async () => {
  const app = fastify();
  apps.push(app);
  const error = await rejection(Promise.resolve(app.register(fastifyPlugin, { token: 'short' })));
  expect(error.code).toBe('ERR_MEMGUARD_INVALID');
});
