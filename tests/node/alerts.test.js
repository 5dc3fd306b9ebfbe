'use strict';

// Channels: what they carry, what a failing one does, and their end.
const { spawn } = require('child_process');
const net = require('net');
const path = require('path');
const { MemoryMonitor, alerts } = require('../..');
const { startReceiver } = require('./alertmanagers');
const { rejection, thrown, until } = require('./helpers');

const LOUD = {
  sampleInterval: '10ms', longPause: 60, enableAutoGc: false,
  leak: { leakDetection: false }, alert: { highUsageFor: 0, resolveAfter: 0 },
};
const TIGHT = ['critical', 'high_usage', 'out_of_memory'];
const SECONDS = 40;

let monitor;
let receiver;

beforeEach(async () => {
  receiver = await startReceiver();
  monitor = new MemoryMonitor({ ...LOUD, maxMemoryMb: 1 << 20 }, { environment: false });
  monitor.startMonitoring();
});

afterEach(async () => {
  monitor.close();
  await receiver.stop();
});

function isTight(kinds) {
  return TIGHT.every((kind) => kinds.includes(kind));
}

async function raiseAlerts() {
  monitor.updateConfig({ maxMemoryMb: 1 });
  await until(() => isTight(monitor.alerts.active.map(({ kind }) => kind)), SECONDS);
}

async function calm() {
  monitor.updateConfig({ maxMemoryMb: 1 << 20 });
  await until(() => monitor.alerts.active.length === 0, SECONDS);
}

test('active and history', async () => {
  const told = [];
  monitor.on('alert', (alert) => told.push(alert));
  expect(monitor.alerts.active).toEqual([]);
  await raiseAlerts();
  const critical = monitor.alerts.active.find(({ kind }) => kind === 'critical');
  expect(critical).toMatchObject({
    severity: 'critical', state: 'firing', resolvedUnixMs: null, unit: 'ratio', threshold: 0.95, culprit: '', subject: '',
  });
  expect(critical.summary).toMatch(/^Memory use is critical: /);
  await calm();
  const history = monitor.alerts.history();
  expect(isTight(history.filter(({ state }) => state === 'resolved').map(({ kind }) => kind))).toBe(true);
  expect(monitor.alerts.history(history[0].number)).toEqual(history.slice(1));
  expect(monitor.alerts.stats).toMatchObject({ changes: history.length, evicted: 0 });
  await until(() => told.length === history.length, SECONDS);
  expect(told).toEqual(history);
});

test('callbacks and logging', async () => {
  const told = [];
  const logged = [];
  const logger = {};
  for (const level of ['error', 'warn', 'info']) logger[level] = (text, { kind, state }) => logged.push(`${level} ${kind} ${state}`);
  await raiseAlerts(); // a channel that comes later is told what fires
  monitor.alerts.add(async (alert) => told.push(alert));
  monitor.alerts.add(new alerts.Logging(logger));
  expect(isTight(told.map(({ kind }) => kind))).toBe(true);
  await calm();
  expect(await monitor.alerts.flush(SECONDS)).toBe(true);
  expect(isTight(told.filter(({ state }) => state === 'resolved').map(({ kind }) => kind))).toBe(true);
  for (const line of ['warn high_usage firing', 'error critical firing', 'info critical resolved']) expect(logged).toContain(line);
});

test('webhook', async () => {
  const options = { headers: { Authorization: 'Bearer t' }, service: 'orders', instance: 'host-1' };
  const hook = new alerts.Webhook(`${receiver.url}/hook?x=1`, options);
  expect(monitor.alerts.add(hook)).toBe(hook);
  await raiseAlerts();
  expect(await monitor.alerts.flush(SECONDS)).toBe(true);
  expect(isTight(receiver.kinds('/hook?x=1', 'firing'))).toBe(true);
  expect(receiver.bodies[0][1]).toMatchObject({
    version: 1, service: 'orders', runtime: 'node', pid: process.pid, instance: 'host-1',
  });
  expect(hook.stats.delivered).toBeGreaterThanOrEqual(3);
});

test('a failing channel hurts nobody', async () => {
  const told = [];
  const emit = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const broken = monitor.alerts.add(() => {
    throw new Error('broken');
  });
  const rejects = monitor.alerts.add(() => Promise.reject(new Error('broken as well')));
  monitor.alerts.add(({ kind }) => told.push(kind));
  Object.assign(receiver.answer, { status: 503, headers: { 'Retry-After': 'nonsense' } });
  const hook = monitor.alerts.add(new alerts.Webhook(receiver.url, { retryFirst: 0.05, retryMost: 0.1 }));
  await raiseAlerts();
  await until(() => broken.stats.failures >= 3 && rejects.stats.failures >= 3 && isTight(told), SECONDS);
  await until(() => hook.stats.failuresInARow >= 3, SECONDS);
  expect(await monitor.alerts.flush(0.1)).toBe(false);
  receiver.answer.status = 200;
  await until(() => hook.stats.waiting === 0, SECONDS);
  expect(isTight(receiver.kinds('/', 'firing'))).toBe(true);
  const warnings = emit.mock.calls.map(([text]) => text);
  emit.mockRestore();
  expect(warnings.filter((text) => text.includes('channel webhook failed'))).toHaveLength(1);
  expect(warnings.filter((text) => text.includes('channel callback failed: broken ('))).toHaveLength(1);
});

test('the end of channels', async () => {
  const hook = monitor.alerts.add(new alerts.Webhook(receiver.url));
  expect(thrown(() => monitor.alerts.add(hook)).code).toBe('ERR_MEMGUARD_INVALID');
  await monitor.alerts.remove(hook);
  await monitor.alerts.remove(hook);
  await raiseAlerts();
  expect(receiver.kinds('/', 'firing')).toEqual([]);
  const late = monitor.alerts.add(new alerts.Webhook(`${receiver.url}/late`));
  const told = monitor.alerts;
  monitor.close();
  await until(() => isTight(receiver.kinds('/late', 'firing')), SECONDS);
  expect(told.channels).toEqual([]);
  expect(thrown(() => told.add(late)).code).toBe('ERR_MEMGUARD_CLOSED');
  expect(thrown(() => told.active).code).toBe('ERR_MEMGUARD_CLOSED');
});

test('a receiver that hangs delays nobody', async () => {
  const sockets = [];
  const server = net.createServer((socket) => sockets.push(socket.on('error', () => {}))); // never answers
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const hook = monitor.alerts.add(new alerts.Webhook(`http://127.0.0.1:${server.address().port}`, { timeout: 0.2 }));
  await raiseAlerts();
  await until(() => hook.stats.failures >= 1, SECONDS);
  await monitor.alerts.close();
  sockets.forEach((socket) => socket.destroy());
  await new Promise((resolve) => server.close(resolve));
});

test.each(['exit', 'dry'])('at exit there is a last try: %s', async (how) => {
  receiver.answer.status = 500;
  const child = spawn(process.execPath, [path.join(__dirname, 'fixtures', 'alert_exit.js'), receiver.url, how], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  try {
    const ended = new Promise((resolve) => child.once('close', resolve));
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    await until(() => text === 'ready\n', SECONDS);
    receiver.answer.status = 200;
    child.stdin.write('\n');
    expect(await ended).toBe(0);
    expect(isTight(receiver.kinds('/', 'firing'))).toBe(true);
  } finally {
    child.kill('SIGKILL');
  }
});

test.each([
  ['ERR_MEMGUARD_INVALID', 'http://HOST', () => new alerts.Webhook('ftp://host')],
  ['ERR_MEMGUARD_INVALID', 'http://HOST', () => new alerts.Webhook('nonsense')],
  ['ERR_MEMGUARD_INVALID', 'headers', () => new alerts.Webhook('http://u:p@h')],
  ['ERR_MEMGUARD_TYPE', 'url must be a string', () => new alerts.Webhook(5)],
  ['ERR_MEMGUARD_INVALID', 'no header', () => new alerts.Webhook('http://h', { headers: { X: 'a\r\nb' } })],
  ['ERR_MEMGUARD_TYPE', 'headers must be an object', () => new alerts.Webhook('http://h', { headers: 'x' })],
  ['ERR_MEMGUARD_RANGE', 'timeout is 0', () => new alerts.Webhook('http://h', { timeout: 0 })],
  ['ERR_MEMGUARD_RANGE', 'timeout is NaN', () => new alerts.Webhook('http://h', { timeout: NaN })],
  ['ERR_MEMGUARD_RANGE', 'resend is -1', () => new alerts.Alertmanager('http://h', { resend: -1 })],
  ['ERR_MEMGUARD_RANGE', 'least is 86401', () => new alerts.Alertmanager('http://h', { least: 86401 })],
  ['ERR_MEMGUARD_INVALID', 'service holds a NUL', () => new alerts.Webhook('http://h', { service: 'a\0b' })],
  ['ERR_MEMGUARD_TYPE', 'an alert callback must be a function', () => new alerts.Callback(3)],
  ['ERR_MEMGUARD_TYPE', 'logger.error must be a function', () => new alerts.Logging({})],
])('bad input: %s %s', (code, text, make) => {
  const error = thrown(make);
  expect(error.code).toBe(code);
  expect(error.message).toContain(text);
});

test('bad questions', async () => {
  expect(thrown(() => monitor.alerts.history(-1)).code).toBe('ERR_MEMGUARD_RANGE');
  expect(thrown(() => monitor.alerts.history('x')).code).toBe('ERR_MEMGUARD_TYPE');
  expect(thrown(() => monitor.alerts.add(5)).code).toBe('ERR_MEMGUARD_TYPE');
  expect((await rejection(monitor.alerts.flush('x'))).code).toBe('ERR_MEMGUARD_TYPE');
});
