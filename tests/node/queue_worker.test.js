'use strict';

// The queue worker (node/examples): every order accepted has one result in the file.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const WORKER = path.join(__dirname, '../../node/examples/queue_worker.js');
const { check, normalize, orderText } = require(WORKER);

let folder;
let child = null;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'queue-worker-'));
});

afterEach(() => {
  if (child !== null && child.exitCode === null) child.kill('SIGKILL');
  fs.rmSync(folder, { recursive: true });
});

function start(...words) {
  // How long a collection takes on a busy machine is not for here.
  const env = { ...process.env, MEMGUARD_LONG_PAUSE: '60s' };
  child = spawn(process.execPath, [WORKER, ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  child.complaint = '';
  child.stdout.on('data', (data) => (child.said += data));
  child.stderr.on('data', (data) => (child.complaint += data));
  child.ended = once(child, 'close').then(([code, signal]) => ({
    code,
    signal,
    complaint: child.complaint,
    end: JSON.parse(child.said.trim().split('\n').pop() || 'null'),
  }));
  return child;
}

/** Waits until the worker's report says so. */
async function said(pattern) {
  while (!pattern.test(child.said)) await once(child.stdout, 'data');
}

function results(name = 'results.ndjson') {
  const text = fs.readFileSync(path.join(folder, name), 'utf8');
  expect(text === '' || text.endsWith('\n')).toBe(true);
  return text.split('\n').slice(0, -1).map((line) => JSON.parse(line));
}

const ids = (count) => Array.from({ length: count }, (_, id) => id);
const sortedIds = () => results().map(({ id }) => id).sort((a, b) => a - b);
const output = () => path.join(folder, 'results.ndjson');

test('as many results as jobs, one each', async () => {
  const { code, end, complaint } = await start(
    '--output', output(), '--jobs', '3000', '--json',
  ).ended;
  expect(complaint).toBe('');
  expect(code).toBe(0);
  expect(end).toMatchObject({ event: 'end', in: 3000, done: 3000, error: null });
  expect(sortedIds()).toEqual(ids(3000));
  expect(fs.readdirSync(folder)).toEqual(['results.ndjson']);

  const byId = new Map(results().map((result) => [result.id, result]));
  expect(byId.get(1)).toMatchObject({
    ok: true,
    customer: 'customer-1979',
    country: 'DE',
    placed: '2023-11-14T22:13:21.000Z',
    cents: 481846,
    digest: '8e078c6c27dd6e5e805e3a2612849511217218dc52b9b8534910938f32d67540',
  });
  expect(byId.get(7)).toEqual({ id: 7, ok: false, error: expect.stringContaining('JSON') });
  expect(byId.get(13)).toMatchObject({ ok: false, error: expect.stringMatching(/^totalCents: /) });
  const archive = require('node:zlib').gunzipSync(Buffer.from(byId.get(20).archive, 'base64'));
  expect(JSON.parse(archive)).toMatchObject({ id: 20, customer: byId.get(20).customer });
  expect(byId.get(21).archive).toBeUndefined();
  expect(results().filter(({ ok }) => !ok)).toHaveLength(65);
});

test.each(['SIGTERM', 'SIGINT'])('%s in the middle loses nothing that was accepted', async (signal) => {
  start('--output', output(), '--seconds', '50', '--json');
  await said(/"phase":"burst"|"in":[1-9]/);
  child.kill(signal);
  const { code, end } = await child.ended;
  expect(code).toBe(0);
  expect(end.error).toBeNull();
  expect(end.in).toBeGreaterThan(0);
  expect(end.done).toBe(end.in);
  expect(sortedIds()).toEqual(ids(end.in));
  expect(fs.readdirSync(folder)).toEqual(['results.ndjson']);
});

test('under pressure the intake pauses, and nothing is lost', async () => {
  const { code, end } = await start(
    '--output', output(), '--jobs', '6000', '--max-memory-mb', '48', '--json',
  ).ended;
  expect(code).toBe(0);
  expect(end).toMatchObject({ in: 6000, done: 6000, error: null });
  expect(end.pauses).toBeGreaterThan(0);
  expect(end.pressure_flushes).toBeGreaterThan(0);
  expect(Object.keys(end.levels)).toContain('critical');
  expect(sortedIds()).toEqual(ids(6000));
});

test('a reader that goes away ends it, with all results', async () => {
  start('--output', output(), '--seconds', '50', '--json');
  await said(/"in":[1-9]/);
  child.stdout.destroy();
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(sortedIds()).toEqual(ids(results().length));
  expect(fs.readdirSync(folder)).toEqual(['results.ndjson']);
});

test('a folder that is not there is a clear error', async () => {
  const { code, complaint } = await start(
    '--output', path.join(folder, 'no/where.ndjson'), '--jobs', '10', '--json',
  ).ended;
  expect(complaint).toMatch(/^queue_worker: Error: ENOENT/);
  expect(code).toBe(1);
  expect(fs.readdirSync(folder)).toEqual([]);
});

test.each([
  [[], '--output FILE is missing'],
  [['--output', 'x', '--seconds=-1'], '--seconds is "-1", not a number above 0'],
  [['--output', 'x', '--jobs', 'many'], '--jobs is "many", not a number above 0'],
  [['--output', 'x', '--colour'], "Unknown option '--colour'"],
])('wrong usage: %j', async (words, complaint) => {
  const ended = start(...words);
  await once(ended, 'close');
  expect(ended.exitCode).toBe(2);
  expect(ended.complaint).toContain(`queue_worker: ${complaint}`);
});

test('an order is refused for a reason', () => {
  const order = JSON.parse(orderText(1));
  expect(() => check(order)).not.toThrow();
  expect(() => check({ ...order, id: 1.5 })).toThrow('id: not a whole number');
  expect(() => check({ ...order, country: 'XX' })).toThrow('country: unknown');
  expect(() => check({ ...order, placed: 'soon' })).toThrow('placed: not a time');
  expect(() => check({ ...order, lines: [] })).toThrow('lines: none');
  expect(() => check({ ...order, totalCents: 1 })).toThrow('totalCents: 1, not 481846');
});

test('normalizing puts the lines of one sku together, in order', () => {
  const order = {
    id: 5,
    customer: 'c',
    country: 'DE',
    placed: '2026-01-01T00:00:00.000Z',
    totalCents: 1000,
    lines: [
      { sku: 'b', quantity: 2, unitCents: 100, note: 'x' },
      { sku: 'a', quantity: 1, unitCents: 500, note: 'y' },
      { sku: 'b', quantity: 3, unitCents: 100, note: 'z' },
    ],
  };
  expect(normalize(order)).toEqual({
    id: 5,
    customer: 'c',
    country: 'DE',
    placed: '2026-01-01T00:00:00.000Z',
    cents: 1000,
    lines: [
      { sku: 'a', quantity: 1, cents: 500, notes: ['y'] },
      { sku: 'b', quantity: 5, cents: 500, notes: ['x', 'z'] },
    ],
  });
});
