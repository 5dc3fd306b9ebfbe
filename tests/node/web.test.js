'use strict';

// The site of this process, served by plain http: what it answers, who may, and what
// clients may do to it.
const http = require('http');
const net = require('net');
const fs = require('fs');
const path = require('path');
const { ResourceManager, middleware } = require('../..');
const native = require('../../node/lib/native');
const { removeTemporary, temporaryDirectory, thrown, until } = require('./helpers');
const { AUTHORIZED, GOOD_TOKEN, ask, askRaw, listen, stopServers } = require('./http');

const CONFIG = '/api/v1/memory/config';
const GC = '/api/v1/memory/gc';
const WRITES = 100_000; // no test is about the rate but one

let manager;
let port;

beforeAll(async () => {
  manager = new ResourceManager({ sampleInterval: '50ms' });
  await until(() => manager.memoryMonitor.latest !== null);
  ({ port } = await listen(middleware({ token: GOOD_TOKEN, writesPerMinute: WRITES, bodyTimeout: 30 })));
});

afterAll(async () => {
  await stopServers();
  await manager.close();
  removeTemporary();
});

const get = (url, headers) => ask(port, url, { headers });
const write = (method, url, body, headers = AUTHORIZED) => ask(port, url, { method, body, headers });

describe('what it answers', () => {
  test('the numbers of a memory monitor', async () => {
    const { status, headers, json } = await get('/api/v1/memory/stats');
    expect([status, headers['content-type'], headers['cache-control'], headers['x-content-type-options']]).toEqual([
      200, 'application/json; charset=utf-8', 'no-store', 'nosniff',
    ]);
    expect(Object.keys(json.memory)).toEqual([
      'alloc_bytes', 'total_alloc_bytes', 'sys_bytes', 'heap_alloc_bytes', 'heap_sys_bytes', 'heap_idle_bytes',
      'heap_inuse_bytes', 'heap_objects', 'gc_count', 'gc_cpu_fraction', 'usage_percent', 'max_memory_mb',
      'high_water_mark', 'low_water_mark', 'alert_threshold',
    ]);
    expect(json.memory.max_memory_mb).toBe(2048);
    expect(json.process.pid).toBe(process.pid);
  });

  test('health', async () => {
    const { status, json } = await get('/livez');
    expect([status, json]).toEqual([200, { status: 'ok' }]);
    const health = (await get('/health')).json;
    expect(Object.keys(health)).toEqual(['status', 'time', 'services']);
    expect(['ok', 'warning']).toContain(health.services.memory);
  });

  test('metrics, as the client wants them', async () => {
    const plain = await get('/metrics');
    expect([plain.status, plain.headers['content-type']]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
    const names = plain.text.split('\n').filter((line) => !line.startsWith('#')).map((line) => line.split('{')[0]);
    expect(names).toEqual(expect.arrayContaining(['memguard_process_up', 'memguard_heap_allocated_bytes', 'memory_heap_alloc_bytes']));
    expect(plain.text.split('\n').filter((line) => line.startsWith(`memguard_process_up{pid="${process.pid}"`))).toHaveLength(1);
    const open = await get('/metrics', { Accept: 'application/openmetrics-text; version=1.0.0' });
    expect(open.headers['content-type']).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8');
    expect(open.text.slice(-7)).toBe('\n# EOF\n');
  });

  test('HEAD: the headers of GET and no body', async () => {
    const { status, headers, text } = await ask(port, '/livez', { method: 'HEAD' });
    expect([status, headers['content-length'], text]).toEqual([200, '16', '']);
  });

  test('the history, oldest first', async () => {
    await until(() => manager.memoryMonitor.latest.number > 3);
    const { json } = await get('/api/v1/memory/history?ring=second&max=2');
    expect([json.pid, json.ring, json.fields[0], json.fields[1]]).toEqual([process.pid, 'second', 'unix_ms', 'rss_bytes']);
    expect(json.points.length).toBeLessThanOrEqual(2);
  });

  test('the dashboard, which a browser keeps', async () => {
    const { status, headers, text } = await get('/');
    expect([status, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
    expect(text).toContain('<title>');
    const again = await get('/', { 'If-None-Match': headers.etag });
    expect([again.status, again.headers['content-length'], again.text]).toEqual([304, undefined, '']);
  });

  test('this process and no other', async () => {
    expect((await get(`/api/v1/memory/stats?pid=${process.pid}`)).status).toBe(200);
    const other = await get('/api/v1/memory/stats?pid=1');
    expect([other.status, Object.keys(other.json)]).toEqual([404, ['error']]);
  });
});

describe('what it does', () => {
  test('a collection', async () => {
    const kind = () => manager.memoryMonitor.getGCStats().kinds.markSweepCompact.count;
    const before = kind();
    const { status, json } = await write('POST', GC, '{}');
    expect([status, json.message]).toEqual([200, 'Garbage collection completed']);
    expect(json.round).toMatchObject({ reason: 'manual', steps: [{ action: 'full', was_done: true }] });
    expect(kind()).toBeGreaterThan(before);
    const young = await write('POST', GC, '{"kind": "young"}');
    expect(young.json.round.steps[0].action).toBe('young');
  });

  test('an optimization', async () => {
    const { status, json } = await write('POST', '/api/v1/memory/optimize', '');
    expect([status, json.method]).toEqual([200, 'aggressive']);
    expect(json.optimizations.length).toBeGreaterThan(0);
  });

  test('settings are read and changed', async () => {
    expect((await get(CONFIG)).json.memory.max_memory_mb).toBe(2048);
    const { status } = await write('PUT', CONFIG, '{"memory": {"max_memory_mb": 1999}}');
    expect([status, manager.settings.memory.maxMemoryMb]).toEqual([200, 1999]);
    await write('PUT', CONFIG, '{"memory.max_memory_mb": 2048}');
    expect(manager.settings.memory.maxMemoryMb).toBe(2048);
  });

  test('chunked bodies', async () => {
    const answer = new Promise((resolve) => {
      const request = http.request({ port, host: '127.0.0.1', path: GC, method: 'POST', headers: AUTHORIZED, agent: false }, resolve);
      for (const part of ['{"ki', 'nd": "yo', 'ung"}']) request.write(part);
      request.end();
    });
    const response = await answer;
    response.resume();
    expect(response.statusCode).toBe(200);
  });
});

describe('nothing of a refused request is done', () => {
  const authorized = (headers) => ({ ...AUTHORIZED, ...headers });

  test.each([
    ['no token', 'PUT', CONFIG, '{"max_memory_mb": 5}', { 'X-Memguard': '1' }, 401],
    ['a wrong token', 'PUT', CONFIG, '{"max_memory_mb": 5}', authorized({ Authorization: 'Bearer other-token-of-some' }), 401],
    ['no X-Memguard', 'PUT', CONFIG, '{"max_memory_mb": 5}', { Authorization: AUTHORIZED.Authorization }, 403],
    ['a foreign Host', 'PUT', CONFIG, '{"max_memory_mb": 5}', authorized({ Host: 'evil.example' }), 421],
    ['a foreign Origin', 'PUT', CONFIG, '{"max_memory_mb": 5}', authorized({ Origin: 'http://evil.example' }), 403],
    ['no JSON', 'PUT', CONFIG, '{"max_memory_mb": 5', AUTHORIZED, 400],
    ['no object', 'PUT', CONFIG, '[5]', AUTHORIZED, 400],
    ['an unknown setting', 'PUT', CONFIG, '{"max_memory_mb": 5, "other": 1}', AUTHORIZED, 400],
    ['a setting out of range', 'PUT', CONFIG, '{"max_memory_mb": -5}', AUTHORIZED, 400],
    ['a wrong type', 'PUT', CONFIG, '{"max_memory_mb": true}', AUTHORIZED, 400],
    ['a wrong kind', 'POST', GC, '{"kind": "all"}', AUTHORIZED, 400],
    ['a wrong method', 'DELETE', CONFIG, undefined, AUTHORIZED, 405],
    ['GET of an action', 'GET', GC, undefined, AUTHORIZED, 405],
    ['an unknown path', 'GET', '/api/v2/memory', undefined, {}, 404],
    ['a path that climbs', 'GET', '/assets/../../package.json', undefined, {}, 404],
    ['the same encoded', 'GET', '/assets/%2e%2e%2fpackage.json', undefined, {}, 404],
    ['an unknown key', 'GET', '/api/v1/memory/history?rings=second', undefined, {}, 400],
    ['a negative value', 'GET', '/api/v1/memory/history?max=-1', undefined, {}, 400],
    ['an absurd value', 'GET', '/api/v1/memory/history?since_unix_ms=99999999999999999999', undefined, {}, 400],
    ['a long target', 'GET', `/livez?${'x'.repeat(3000)}`, undefined, {}, 414],
    ['a large body', 'PUT', CONFIG, `{"max_memory_mb": 5${' '.repeat(70000)}}`, AUTHORIZED, 413],
  ])('%s', async (name, method, url, body, headers, status) => {
    const answer = await ask(port, url, { method, body, headers });
    expect(answer.status).toBe(status);
    expect(Object.keys(answer.json)).toEqual(['error']);
    expect(answer.text.trimEnd()).not.toContain('\n');
    expect(manager.settings.memory.maxMemoryMb).toBe(2048);
  });

  test('a chunked body that is too large', async () => {
    const head = `PUT ${CONFIG} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${AUTHORIZED.Authorization}\r\nX-Memguard: 1\r\n`;
    const chunk = `4000\r\n${' '.repeat(0x4000)}\r\n`;
    const text = `${head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(8)}0\r\n\r\n`;
    expect(await askRaw(port, text)).toMatch(/^HTTP\/1\.1 413 /);
    expect((await get('/livez')).status).toBe(200);
  });

  test('more writes than allowed', async () => {
    const rare = (await listen(middleware({ token: GOOD_TOKEN, writesPerMinute: 2 }))).port;
    const statuses = [];
    for (let count = 0; count < 3; count++) {
      statuses.push((await ask(rare, GC, { method: 'POST', headers: AUTHORIZED, body: '{"kind": "all"}' })).status);
    }
    expect(statuses[0]).toBe(400);
    expect(statuses[2]).toBe(429);
  });

  test('without a token all writes', async () => {
    const closed = (await listen(middleware({ token: '' }))).port;
    const { status, json } = await ask(closed, GC, { method: 'POST', headers: AUTHORIZED });
    expect([status, json.error]).toEqual([403, expect.stringContaining('MEMGUARD_WEB_TOKEN')]);
    expect((await ask(closed, '/livez')).status).toBe(200);
  });

  test('reading, where that needs the token', async () => {
    const file = path.join(temporaryDirectory(), 'token');
    fs.writeFileSync(file, `${GOOD_TOKEN}\n`);
    const shut = (await listen(middleware({ tokenFile: file, readNeedsToken: true }))).port;
    expect((await ask(shut, '/metrics')).status).toBe(401);
    expect((await ask(shut, '/metrics', { headers: AUTHORIZED })).status).toBe(200);
    expect((await ask(shut, '/livez')).status).toBe(200);
  });
});

describe('clients that behave badly', () => {
  const head = `PUT ${CONFIG} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${AUTHORIZED.Authorization}\r\nX-Memguard: 1\r\n`;

  test('a body that does not come', async () => {
    const hasty = (await listen(middleware({ token: GOOD_TOKEN, bodyTimeout: 0.05 }))).port;
    const answer = await askRaw(hasty, `${head}Content-Length: 30\r\n\r\n{"max_memory_mb":`);
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(answer).toContain('{"error":"the body did not come within 0.05 s"}');
  });

  test('a request that is broken off', async () => {
    const seen = [];
    const handle = middleware({ token: GOOD_TOKEN });
    const { port: watched } = await listen((request, response) => {
      seen.push(request);
      handle(request, response);
    });
    const socket = net.connect(watched, '127.0.0.1', () => socket.write(`${head}Content-Length: 22\r\n\r\n{"max_memory_mb": 5`));
    await until(() => seen.length === 1 && seen[0].listenerCount('data') === 1);
    socket.destroy();
    await until(() => seen[0].destroyed && seen[0].listenerCount('data') === 0);
    expect(manager.settings.memory.maxMemoryMb).toBe(2048);
    expect((await ask(watched, '/livez')).status).toBe(200);
  });

  test('a client that never reads', async () => {
    const handle = middleware({ token: GOOD_TOKEN, responseTimeout: 0.2 });
    const { port: watched, server } = await listen(handle);
    const socket = net.connect(watched, '127.0.0.1').pause();
    socket.on('error', () => {});
    const request = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n';
    for (let count = 0; count < 2000; count++) socket.write(request);
    const connections = () => new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
    let open = -1;
    const asking = setInterval(() => connections().then((count) => (open = count)), 10);
    try {
      await until(() => open === 1);
      await until(() => open === 0);
    } finally {
      clearInterval(asking);
      socket.destroy();
    }
  });

  test('nothing stays with a request that was answered', async () => {
    const seen = [];
    const handle = middleware({ token: GOOD_TOKEN });
    const { port: watched } = await listen((request, response) => {
      // Node itself waits for the end of a body that nobody read.
      const events = [[request, 'data'], [request, 'error'], [request, 'close'], [response, 'close'], [response, 'finish']];
      const count = () => events.map(([one, name]) => one.listenerCount(name)).join();
      seen.push({ before: count(), count });
      handle(request, response);
    });
    for (const body of ['{"kind": "young"}', '', ' '.repeat(70000)]) {
      await ask(watched, GC, { method: 'POST', headers: AUTHORIZED, body });
    }
    for (const { before, count } of seen) {
      await until(() => count() === before);
    }
    expect(seen).toHaveLength(3);
  });
});

// The rows that the core's own tests run.
describe('web.json', () => {
  const { rows } = JSON.parse(fs.readFileSync(path.join(__dirname, '..', 'vectors', 'web.json'), 'utf8'));
  const longer = (text = '', more = ['', 0]) => text + more[0].repeat(more[1]);
  const asSent = (text) => Buffer.from(text).toString('latin1');

  function check(row, [status, isHead, body, ...headers]) {
    expect([status, isHead]).toEqual([row.status, row.request.method === 'HEAD']);
    const found = Object.fromEntries(headers.map((name, at) => [name, headers[at + 1]]).filter((_, at) => at % 2 === 0));
    expect(found).toMatchObject(row.headers ?? {});
    if (row.body !== undefined) expect(body.toString()).toBe(row.body);
    if (status < 400) return;
    const { error } = JSON.parse(body);
    expect(body.toString().indexOf('\n')).toBe(body.length - 1);
    for (const text of row.error ?? []) expect(error).toContain(text);
  }

  test('has rows', () => expect(rows.length).toBeGreaterThan(100));

  test.each(rows.map((row) => [row.name, row]))('%s', (_, row) => {
    const { request, options = {} } = row;
    const site = native.webOpen(
      options.token ?? '', options.read_needs_token ?? false, options.allowed_hosts ?? [], options.writes_per_minute ?? 60, 0,
    );
    const words = [request.method, longer(request.target, request.target_more), ...(request.headers ?? [['Host', 'localhost']]).flat()];
    const body = Buffer.from(longer(request.body, request.body_more));
    let job;
    for (let count = 0; count < (request.times ?? 1); count++) {
      const clockMs = (request.clock_ms ?? 0) + count * (request.clock_step_ms ?? 0);
      job = native.webServe(site, words.map(asSent), body, clockMs);
    }
    if (row.ask === undefined) {
      check(row, job);
      return;
    }
    const [route, isHead, command, values] = job;
    expect([command, row.ask[1] === null ? null : values]).toEqual(row.ask);
    if (row.answer === undefined) return;
    const [status, text] = row.answer;
    check(row, native.webAnswered(site, route, isHead, native.statusNames.indexOf(status), text));
  });
});

test.each([
  [{ other: 1 }, 'ERR_MEMGUARD_INVALID', /^option "other" is unknown, allowed: token, /],
  [5, 'ERR_MEMGUARD_TYPE', /^options must be an object, not a number$/],
  [{ token: 'short' }, 'ERR_MEMGUARD_INVALID', /5 characters, allowed: 16 to 256/],
  [{ token: 5 }, 'ERR_MEMGUARD_TYPE', /^token must be a string or null, not a number$/],
  [{ token: GOOD_TOKEN, tokenFile: '/none' }, 'ERR_MEMGUARD_CONFLICT', /^token and tokenFile/],
  [{ tokenFile: '/nowhere/token' }, 'ERR_MEMGUARD_SYSTEM', /\/nowhere\/token/],
  [{ token: '', readNeedsToken: true }, 'ERR_MEMGUARD_CONFLICT', /^readNeedsToken is true without a token/],
  [{ allowedHosts: 'a' }, 'ERR_MEMGUARD_TYPE', /^allowedHosts must be an array/],
  [{ allowedHosts: ['a b'] }, 'ERR_MEMGUARD_INVALID', /host is "a b"/],
  [{ writesPerMinute: 0 }, 'ERR_MEMGUARD_RANGE', /^writesPerMinute is 0, allowed: 1 to 1000000$/],
  [{ readyBelowPercent: 101 }, 'ERR_MEMGUARD_RANGE', /^readyBelowPercent is 101, allowed: 0 to 100$/],
  [{ bodyTimeout: 1e9 }, 'ERR_MEMGUARD_RANGE', /^bodyTimeout is 1000000000, allowed: 0 to 3600$/],
  [{ prefix: 'memguard' }, 'ERR_MEMGUARD_INVALID', /^prefix is "memguard", allowed: /],
])('options that are wrong: %j', (options, code, text) => {
  const error = thrown(() => middleware(options));
  expect([error.code, error.message]).toEqual([code, expect.stringMatching(text)]);
});
