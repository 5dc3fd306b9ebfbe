'use strict';

// The handle of the leak detector: what it is told, asks for, finds and says.
const fs = require('fs');
const v8 = require('v8');
const vm = require('vm');
const { Core } = require('../../node/lib/core');
const { Detector } = require('../../node/lib/detector');
const native = require('../../node/lib/native');
const { MB, thrown, until } = require('./helpers');

const SETTINGS = { memory: { sampleInterval: 0.01 }, leak: { timeScale: 1000, criticalWithin: 0 } };

let core;
let detector;
let events;

beforeEach(() => {
  core = new Core(SETTINGS, { environment: false });
  detector = new Detector(core, ['collect', 'census_base', 'census']);
  events = [];
  core.onEvent = (event) => events.push({ ...event, name: native.eventNames[event.kind] });
});

afterEach(() => {
  detector.close();
  core.close();
});

function fullCollection() {
  v8.setFlagsFromString('--expose-gc');
  vm.runInNewContext('gc')();
  v8.setFlagsFromString('--no-expose-gc');
}

/** A heap of 20 MB and 0.5 MB more each ms, as told after full collections. */
function growing() {
  const began = performance.now();
  return () => {
    detector.collected(20 * MB + (performance.now() - began) * 500_000, 1);
    core.pass(false);
  };
}

test('a leak is told, asked about and explained', async () => {
  const step = growing();
  const asked = [];
  core.onDetect = () => asked.push(detector.request());
  let finding;
  await until(() => {
    step();
    const warned = events.filter(({ name }) => name === 'leak:warning').map((event) => detector.finding(event.finding));
    finding = warned.find((one) => one?.signal === 'heap');
    return finding !== undefined && asked.some(({ requests }) => requests.includes('census_base'));
  });
  expect(['likely', 'confirmed']).toContain(finding.tier);
  expect(finding).toMatchObject({ unit: 'bytes', isCritical: false });
  expect(finding.growth).toBeGreaterThanOrEqual(4 * MB);
  expect(finding.sinceUnixMs).toBeGreaterThan(1.7e12);

  const culprit = { kind: 'type', name: 'Séssion', growth: 10, growthBytes: 100, count: 20, share: 0.75 };
  expect(detector.culprits('heap', [culprit])).toBe(true);
  const explained = detector.finding(finding.number);
  expect(explained.culprits).toEqual([culprit]);
  expect(explained.advice[1]).toBe(`kill -USR1 ${process.pid} && node inspect -p ${process.pid}`);
  expect(detector.findings().map(({ number }) => number)).toContain(finding.number);
});

test('full collections of V8 are seen', () => {
  const before = detector.stats().collections;
  fullCollection();
  expect(detector.stats().collections).toBeGreaterThan(before);
});

test('readings', () => {
  core.start();
  // The test runner opens and closes files of its own.
  const held = Array.from({ length: 100 }, () => fs.openSync('/dev/null'));
  detector.check();
  const before = detector.stats();
  held.forEach((file) => fs.closeSync(file));
  detector.check();
  detector.check();
  const stats = detector.stats();
  expect(Math.abs(before.files - stats.files - 100)).toBeLessThan(50);
  expect(stats.privateBytes).toBeGreaterThan(MB);
  expect(stats.nativeBytes).toBeGreaterThanOrEqual(0);
  expect(stats.wide).toBeGreaterThanOrEqual(3);
  expect(stats.fdGrowthPerMinute).toBeNaN();
});

test('many descriptors', () => {
  core.update({ leak: { fdWarningCount: 300, fdGrowthPerMinute: 1e9 } });
  const held = Array.from({ length: 300 }, () => fs.openSync('/dev/null'));
  for (let i = 0; i < 3; i++) core.pass(false);
  held.forEach((file) => fs.closeSync(file));
  const warnings = events.filter(({ name }) => name === 'fd:warning');
  expect(warnings).toHaveLength(1);
  expect(warnings[0].count).toBeGreaterThanOrEqual(300);
  expect(warnings[0].threshold).toBe(300);
});

test('a pause', () => {
  expect(detector.active).toBe(true);
  detector.setActive(false);
  expect(detector.active).toBe(false);
  const { samples } = detector.stats();
  core.pass(false);
  expect(detector.stats().samples).toBe(samples);
  detector.setActive(true);
  expect(detector.active).toBe(true);
});

test('one detector of a monitor; either may go first', () => {
  expect(thrown(() => new Detector(core, [])).code).toBe('ERR_MEMGUARD_EXISTS');
  detector.close();
  detector.close();
  expect(thrown(() => detector.findings()).code).toBe('ERR_MEMGUARD_CLOSED');
  const other = new Detector(core, []);
  expect(other.active).toBe(true);
  core.close();
  expect(thrown(() => other.check()).code).toBe('ERR_MEMGUARD_CLOSED');
  other.close();
});

test('what makes no sense is refused', () => {
  expect(thrown(() => detector.tell('rss', 5))).toMatchObject({ code: 'ERR_MEMGUARD_INVALID' });
  expect(thrown(() => detector.tell('nonsense', 5)).code).toBeDefined();
  detector.tell('handles', 5);
  detector.tell('connections');
  const culprit = { kind: 'nonsense', name: 'n', growth: 1, count: 1, share: 1 };
  expect(thrown(() => detector.culprits('heap', [culprit])).code).toBe('ERR_MEMGUARD_RANGE');
  expect(detector.culprits('heap', [{ ...culprit, kind: 'type' }])).toBe(false);
  expect(thrown(() => detector.culprits('heap', [{ ...culprit, kind: 'type', name: 3 }])).message).toMatch(/string/);
  expect(detector.finding(1)).toBeUndefined();
  expect(thrown(() => detector.finding(-1)).code).toBe('ERR_MEMGUARD_RANGE');
});
