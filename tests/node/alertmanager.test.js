'use strict';

// Each kind of alert through a real Alertmanager to a webhook, also after an outage.
const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');
const { MemoryMonitor, alerts } = require('../..');
const { prepareAlertmanager, startReceiver } = require('./alertmanagers');
const { removeTemporary, run, temporaryDirectory, until } = require('./helpers');
const { stopServers } = require('./servers');

const HOST = path.join(__dirname, 'fixtures', 'alert_host.js');
const PEOPLE = '/alertmanager';
const KINDS = [
  'critical', 'fd_leak', 'gc_high', 'high_usage', 'long_pause', 'memory_leak', 'out_of_memory', 'previous_oom',
  'rapid_growth', 'unreclaimable',
];
const SECONDS = 100;

let receiver;
let manager;
let segments;
const children = new Set();

beforeEach(async () => {
  receiver = await startReceiver();
  manager = await prepareAlertmanager(temporaryDirectory(), receiver);
  segments = fs.mkdtempSync('/dev/shm/memguard-test-');
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  await stopServers();
  await receiver.stop();
  fs.rmSync(segments, { recursive: true, force: true });
  removeTemporary();
});

function lacks(kinds) {
  return KINDS.filter((kind) => !kinds.includes(kind));
}

async function told(at, state) {
  try {
    await until(() => lacks(receiver.kinds(at, state)).length === 0, SECONDS);
  } catch {
    throw new Error(`not told as ${state} at ${at}: ${lacks(receiver.kinds(at, state))}`);
  }
}

test('every kind is delivered', async () => {
  const values = [manager.url, `${receiver.url}/webhook`];
  const flags = ['--expose-gc', '--max-old-space-size=256'];
  const env = { MEMGUARD_DIR: segments };
  expect([...alerts.KINDS].sort()).toEqual(KINDS);
  // The command lines of both runs are the same.
  const oom = await run('alert_host.js', values, { env: { ...env, ALERT_HOST: 'oom' }, flags, seconds: SECONDS });
  expect(oom.signal).toBe('SIGKILL');
  const command = ['--no-concurrent-recompilation', '--no-concurrent-sparkplug', ...flags, HOST, ...values];
  const child = spawn(process.execPath, command, { env: { ...process.env, ...env }, stdio: ['pipe', 'ignore', 'ignore'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  children.add(child);
  await told('/webhook', 'firing'); // while Alertmanager is down
  expect(receiver.kinds(PEOPLE, 'firing')).toEqual([]);
  await manager.start();
  await told(PEOPLE, 'firing');
  child.stdin.write('\n');
  await told('/webhook', 'resolved');
  await told(PEOPLE, 'resolved');
  child.stdin.write('\n');
  expect(await ended).toBe(0);

  const posted = receiver.bodies.filter(([at]) => at === PEOPLE).flatMap(([, body]) => body.alerts);
  const leak = posted.find(({ labels }) => labels.alertname === 'memory_leak' && labels.subject === 'heap');
  expect(leak.labels).toMatchObject({
    subject: 'heap', service: 'alert host', program: 'alert_host.js', runtime: 'node', pid: String(child.pid),
  });
  expect(leak.annotations.runbook_url).toBe('https://r.example#memory_leak');
  expect(leak.annotations.summary).toMatch(/^Memory leaks \(heap\): /);
}, 400000);

test('an outage loses nothing', async () => {
  const server = await manager.start();
  const monitor = new MemoryMonitor({
    maxMemoryMb: 1 << 20,
    sampleInterval: '10ms',
    leak: { leakDetection: false, fdWarningCount: 1 },
    alert: { highUsageFor: 0, resolveAfter: 0, cooldown: 0 },
  }, { environment: false });
  const times = { resend: 5, least: 10, retryFirst: 0.1, retryMost: 0.5 };
  try {
    const channel = monitor.alerts.add(new alerts.Alertmanager(manager.url, times));
    const lost = ['critical', 'high_usage', 'out_of_memory'];
    monitor.startMonitoring();
    await until(() => receiver.kinds(PEOPLE, 'firing').includes('fd_leak'), SECONDS);
    await server.stop();
    monitor.updateConfig({ fdWarningCount: 1000000 });
    await until(() => monitor.alerts.active.length === 0, SECONDS);
    monitor.updateConfig({ maxMemoryMb: 1 });
    await until(() => monitor.alerts.active.length >= 3, SECONDS);
    monitor.updateConfig({ maxMemoryMb: 1 << 20 });
    await until(() => monitor.alerts.active.length === 0, SECONDS);
    await until(() => channel.stats.failuresInARow >= 5, SECONDS);
    expect(channel.stats.waiting).toBeGreaterThanOrEqual(3);
    await manager.start();
    await until(() => lost.every((kind) => receiver.kinds(PEOPLE, 'firing').includes(kind)), SECONDS);
    await until(() => lost.every((kind) => receiver.kinds(PEOPLE, 'resolved').includes(kind)), SECONDS);
    await until(() => channel.stats.waiting === 0, SECONDS);
    expect(channel.stats.overflow).toBe(0);
  } finally {
    monitor.close();
  }
}, 400000);
