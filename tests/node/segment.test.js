'use strict';

// What a process shows of itself in memory, requests from outside, ends of all kinds.
const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');
const { ask } = require('./control');
const { run, runJson, until } = require('./helpers');

const STATE_AT = 800;
const STATES = ['running', 'stopped', 'exited'];

let directory;

beforeEach(() => {
  directory = fs.mkdtempSync('/dev/shm/memguard-test-');
});

afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

const files = () => fs.readdirSync(directory).filter((name) => !name.includes('.'));
const stateOf = (name) => STATES[fs.readFileSync(path.join(directory, name)).readUInt32LE(STATE_AT)];

const COLLECT = 1;
const SNAPSHOT = 3;
const CENSUS = 4;
const READ_CONFIG = 5;
const UPDATE_CONFIG = 6;

const json = (mode) => runJson('segment.js', [mode], { env: { MEMGUARD_DIR: directory } });

/** Runs `body` with the path of the segment of a host, which is ended afterwards. */
async function withHost(body) {
  const host = spawn(process.execPath, [path.join(__dirname, 'fixtures/segment.js'), 'wait'], {
    env: { ...process.env, MEMGUARD_DIR: directory },
    stdio: 'ignore',
  });
  try {
    await until(() => fs.readdirSync(directory).some((name) => name.endsWith('.sock')));
    await body(path.join(directory, files()[0]));
  } finally {
    host.kill('SIGKILL');
    await new Promise((resolve) => {
      if (host.exitCode !== null || host.signalCode !== null) resolve();
      else host.once('exit', resolve);
    });
  }
}

test('the path of the file, while a monitor runs', async () => {
  const seen = await json('paths');
  expect(path.dirname(seen.first)).toBe(directory);
  expect(path.basename(seen.first)).toContain(`-${seen.pid}-`);
  expect(seen).toMatchObject({ ofMonitor: seen.first, stopped: null, second: seen.first, closed: null, mode: 0o600 });
  const bytes = fs.readFileSync(seen.first);
  expect(bytes.subarray(0, 8).toString('latin1')).toBe('MGSEG\r\n\x1a');
  expect(bytes.subarray(104, 108).toString()).toBe('node');
  expect(bytes.subarray(152, 162).toString()).toBe('segment.js');
});

test('nothing is published where that is not wanted', async () => {
  const seen = await json('disabled');
  expect(seen.before).toBeNull();
  expect(path.dirname(seen.after)).toBe(directory);
});

test('requests are answered on the JS thread, with the keys of Python', async () => {
  await withHost(async (segmentPath) => {
    let [status, text] = await ask(segmentPath, COLLECT, '{"kind": "full"}');
    expect([status, JSON.parse(text).steps[0].action, JSON.parse(text).reason]).toEqual([0, 'full', 'manual']);
    [status, text] = await ask(segmentPath, SNAPSHOT);
    expect(status).toBe(0);
    expect(JSON.parse(text).memory_stats.heap_used).toBeGreaterThan(100000);
    expect(JSON.parse(text).counters).toEqual({ openSockets: 0 });
    expect(JSON.parse(text).leak_detection).toEqual([]);
    [status, text] = await ask(segmentPath, CENSUS, '{"top": 2}');
    expect([status, JSON.parse(text)]).toEqual([0, [
      { type: expect.any(String), count: expect.any(Number) },
      { type: expect.any(String), count: expect.any(Number) },
    ]]);
    expect(await ask(segmentPath, CENSUS, '{"top": 0}')).toEqual([1, 'top is 0, allowed: 1 to 10000']);
    [status, text] = await ask(segmentPath, UPDATE_CONFIG, '{"max_memory_mb": 777}');
    expect([status, JSON.parse(text).memory.max_memory_mb]).toEqual([0, 777]);
  });
});

test('bad requests change nothing', async () => {
  await withHost(async (segmentPath) => {
    const statuses = [];
    for (const text of ['{"max_memory": 1}', '{"max_memory_mb": -1}', '[1]', '{']) {
      statuses.push((await ask(segmentPath, UPDATE_CONFIG, text))[0]);
    }
    expect(statuses).toEqual([4, 6, 5, 1]);
    expect((await ask(segmentPath, COLLECT, '{"kind": "all"}'))[0]).toBe(1);
    const [, text] = await ask(segmentPath, READ_CONFIG);
    expect(JSON.parse(text).memory.max_memory_mb).toBe(2048);
  });
});

// The event loop waits for the worker while a monitor is closed: neither may wait for
// the other.
test('closing while a request is on its way', async () => {
  const seen = await json('closing');
  expect(seen.rounds).toBe(10);
  expect(files()).toHaveLength(1);
});

test.each([
  ['return', 0],
  ['exit', 3],
  ['throw', 1],
])('an end by %s is clean', async (end, code) => {
  const result = await run('segment.js', [end], { env: { MEMGUARD_DIR: directory } });
  expect(result.code).toBe(code);
  expect(files().map(stateOf)).toEqual(['exited']);
});

test('Workers share the file of their process', async () => {
  const seen = await runJson('segment.js', ['workers'], { env: { MEMGUARD_DIR: directory } });
  expect(seen.paths).toEqual([seen.path, seen.path, seen.path]);
  expect(files()).toEqual([path.basename(seen.path)]);
  expect(files().map(stateOf)).toEqual(['exited']);
});

test('a directory that cannot be used is told once', async () => {
  const { code, stdout, stderr } = await run('segment.js', ['problem'], { env: { MEMGUARD_DIR: '/proc/memguard' } });
  expect([code, stdout]).toEqual([0, 'null\n']);
  expect(stderr.split('the memguard tool cannot see this process')).toHaveLength(2);
});
