'use strict';

// The queue service (node/examples/queue_service) as a program, on a real Redis and on
// the queue in its process: every job accepted has one result.
const { spawn } = require('child_process');
const { once } = require('events');
const fs = require('fs');
const path = require('path');
const Redis = require('ioredis');
const { NO_DEADLOCK, removeTemporary, temporaryDirectory, until } = require('./helpers');
const { freePort, startRedis, stopServers } = require('./servers');

const MAIN = path.join(__dirname, '../../node/examples/queue_service/main.js');
const LONG_MS = 150000; // of tests that start several processes on a busy machine

let redis;
let client;
let folder;
const children = new Set();

beforeAll(async () => {
  redis = await startRedis();
  client = new Redis(redis.port, '127.0.0.1');
  client.on('error', () => {});
});

beforeEach(async () => {
  folder = temporaryDirectory();
  await client.flushall();
});

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});

afterAll(async () => {
  client.disconnect();
  await stopServers();
  removeTemporary();
});

function start(words, env = {}) {
  const child = spawn(process.execPath, [...NO_DEADLOCK, MAIN, ...words], {
    env: { ...process.env, MEMGUARD_LONG_PAUSE: '60s', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  child.said = '';
  child.complaint = '';
  child.stdout.on('data', (data) => (child.said += data));
  child.stderr.on('data', (data) => (child.complaint += data));
  child.ended = once(child, 'close').then(([code]) => {
    children.delete(child);
    const lines = child.said.split('\n').filter((line) => line.startsWith('{'));
    return { code, complaint: child.complaint, end: lines.length > 0 ? JSON.parse(lines.at(-1)) : null };
  });
  return child;
}

const output = () => path.join(folder, 'results.ndjson');
const inFile = () => fs.readFileSync(output(), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
const inRedis = async () => (await client.hvals('queue-service:results')).map((text) => JSON.parse(text));
const numberOf = ({ id }) => Number(id.split('-').at(-1));
const numbers = (results) => results.map(numberOf).sort((a, b) => a - b);
const upTo = (count) => Array.from({ length: count }, (_, number) => number);

const HOSTS = [
  ['in process', () => ['--output', output()], async () => inFile()],
  ['redis', () => ['--redis', redis.url], inRedis],
];

describe.each(HOSTS)('%s', (_name, where, results) => {
  test('each job has one result', async () => {
    const { code, end } = await start([...where(), '--jobs', '500', '--json']).ended;
    expect(code).toBe(0);
    expect(end).toMatchObject({ event: 'end', in: 500, done: 500, duplicates: 0, error: null });
    const all = await results();
    expect(numbers(all)).toEqual(upTo(500));

    const byNumber = new Map(all.map(({ id, ...result }) => [numberOf({ id }), result]));
    expect(byNumber.get(1)).toEqual({
      kind: 'order', ok: true, customer: 'customer-1979', cents: 481846,
      digest: '8e078c6c27dd6e5e805e3a2612849511217218dc52b9b8534910938f32d67540',
    });
    expect(byNumber.get(7)).toEqual({ kind: 'order', ok: false, error: expect.stringContaining('JSON') });
    expect(byNumber.get(6)).toEqual({ kind: 'session', ok: true, user: 'user-6', pages: 2 });
    expect(byNumber.get(3)).toEqual({
      kind: 'image', ok: true, width: 33, height: 32,
      digest: '64e59e336532ed5afa8fb3c45fe811a59a6699e324edd5372804cb1ffe87c5b9',
    });
    expect(all.filter(({ ok }) => !ok)).toHaveLength(9);
  });

  test('under pressure it pauses, reclaims and resumes, and nothing is lost', async () => {
    // Less than Node itself takes: it goes on, as well as it can.
    const { code, end } = await start([...where(), '--jobs', '2000', '--max-memory-mb', '48', '--json']).ended;
    expect(code).toBe(0);
    expect(end).toMatchObject({ in: 2000, done: 2000, error: null, phase: 'done' });
    expect(end.pauses).toBeGreaterThan(0);
    expect(end.optimizations).toBeGreaterThan(0);
    expect(Object.keys(end.levels)).toContain('critical');
    expect(numbers(await results())).toEqual(upTo(2000));
  }, LONG_MS);

  test.each(['SIGTERM', 'SIGINT'])('%s ends the intake, what was accepted is done', async (signal) => {
    const child = start([...where(), '--seconds', '100', '--json']);
    await until(() => /"in":[1-9]/.test(child.said), 50);
    child.kill(signal);
    const { code, end } = await child.ended;
    expect(code).toBe(0);
    expect(end.error).toBeNull();
    expect(end.done).toBe(end.in);
    expect(numbers(await results())).toEqual(upTo(end.in));
  }, LONG_MS);
});

test('the handler that leaks is named', async () => {
  const env = { MEMGUARD_LEAK_TIME_SCALE: '80', MEMGUARD_LEAK_COLLECT: '10s' };
  const child = start(['--seconds', '230', '--rate', '300', '--leak', '--max-memory-mb', '1000', '--json'], env);
  await until(() => child.said.includes('heap: VisitorSession'), 220);
  child.kill('SIGTERM');
  const { code, end } = await child.ended;
  expect(code).toBe(0);
  expect(end.leaks).toContain('heap: VisitorSession');
  expect(end.done).toBe(end.in);
}, 2 * LONG_MS);

test('a sandboxed worker runs under memguard, and its results are there once', async () => {
  const directory = fs.mkdtempSync('/dev/shm/memguard-test-');
  try {
    const child = start(['--redis', redis.url, '--apart', '--seconds', '140', '--json'], { MEMGUARD_DIR: directory });
    await until(() => /"in":[1-9]/.test(child.said), 50);
    const segments = () => fs.readdirSync(directory).filter((name) => !name.includes('.'));
    await until(() => segments().length === 2, 50);
    child.kill('SIGTERM');
    const { code, end } = await child.ended;
    expect(code).toBe(0);
    const results = await inRedis();
    expect(numbers(results)).toEqual(upTo(end.in));
    expect(end.done).toBe(end.in);
    const pids = new Set(results.filter(({ kind }) => kind === 'image').map(({ pid }) => pid));
    expect([...pids]).toEqual([expect.any(Number)]);
    expect(pids.has(end.pid)).toBe(false);
    expect(results.filter(({ kind }) => kind !== 'image').every(({ pid }) => pid === undefined)).toBe(true);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}, LONG_MS);

test('Redis that is not there is a clear error', async () => {
  const { code, complaint } = await start(['--redis', `redis://127.0.0.1:${await freePort()}`, '--jobs', '1']).ended;
  expect(code).toBe(1);
  expect(complaint).toMatch(/queue_service: Error: Redis at 127\.0\.0\.1:\d+: /);
});

test('an output file that exists is not overwritten', async () => {
  fs.writeFileSync(output(), 'mine');
  const { code, complaint } = await start(['--output', output(), '--jobs', '1']).ended;
  expect(code).toBe(1);
  expect(complaint).toContain('queue_service: Error: EEXIST');
  expect(fs.readFileSync(output(), 'utf8')).toBe('mine');
});

test.each([
  [['--jobs', 'many'], '--jobs is "many", not a number above 0'],
  [['--max-memory-mb=-1'], '--max-memory-mb is "-1", not a number above 0'],
  [['--redis', 'no url'], '--redis is "no url", not a URL'],
  [['--apart'], '--apart needs --redis'],
  [['--jobs', '1', '--seconds', '1'], '--jobs or --seconds, not both'],
  [['--colour'], "Unknown option '--colour'"],
])('wrong usage: %j', async (words, complaint) => {
  const ended = await start(words).ended;
  expect(ended.code).toBe(2);
  expect(ended.complaint).toContain(`queue_service: ${complaint}`);
});
