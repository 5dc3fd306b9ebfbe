'use strict';

// Metrics of a process: the text that every reader gets, and what it counts.
const fs = require('fs');
const path = require('path');
const promClient = require('prom-client');
const memguard = require('../..');
const native = require('../../node/lib/native');
const { runJson, thrown, until } = require('./helpers');
const { segment } = require('./metric_rows');

const { rows } = JSON.parse(fs.readFileSync(path.join(__dirname, '..', 'vectors', 'metrics.json'), 'utf8'));

test.each(rows.map((row) => [row.name, row]))('metrics.json: %s', (_, row) => {
  expect(native.metricsRead(segment(row), row.openmetrics, row.groups).split('\n')).toEqual(row.expect);
});

test('a damaged segment and foreign groups are refused', () => {
  const made = segment(rows[0]);
  expect(thrown(() => native.metricsRead(made.subarray(1), false, 3)).code).toBe(memguard.errorCodes.EFOREIGN);
  expect(thrown(() => native.metricsRead(made, false, 8)).message).toBe('groups is 8, need 1 to 3');
});

function valuesOf(text, name) {
  const found = text.matchAll(new RegExp(`^${name}\\{.*?="([^"]*)"\\} ([-0-9.]+)$`, 'gm'));
  return Object.fromEntries([...found].map(([, last, value]) => [last, Number(value)]));
}

describe('of this process', () => {
  let manager;

  beforeAll(async () => {
    manager = new memguard.ResourceManager({ sampleInterval: '20ms' });
    await until(() => memguard.metricsText().includes('memguard_memory_usage_ratio'));
  });

  afterAll(() => manager.cleanup());

  test('the heap adds up', () => {
    const text = memguard.metricsText();
    const [alloc, inuse, idle, sys] = ['alloc', 'inuse', 'idle', 'sys'].map(
      (part) => valuesOf(text, `memory_heap_${part}_bytes`).node,
    );
    expect(alloc).toBeGreaterThan(1e6);
    expect(alloc).toBeLessThanOrEqual(inuse);
    expect(inuse).toBeLessThanOrEqual(sys);
    expect(idle + inuse).toBe(sys);
    expect(valuesOf(text, 'memory_alloc_bytes').node).toBeGreaterThan(alloc);
    expect(valuesOf(text, 'memory_sys_bytes').node).toBeGreaterThan(sys);
    expect(text).not.toMatch(/memory_heap_objects|NaN/);
  });

  test('bytes allocated so far never fall and follow what is allocated', async () => {
    const before = valuesOf(memguard.metricsText(), 'memory_total_alloc_bytes').node;
    const kept = [];
    for (let count = 0; count < 40_000; count++) kept.push(new Array(100).fill(count));
    await until(() => {
      const now = valuesOf(memguard.metricsText(), 'memory_total_alloc_bytes').node;
      expect(now).toBeGreaterThanOrEqual(before);
      manager.getMemoryPressure();
      return now > before + 30e6;
    });
    expect(kept.length).toBe(40_000);
  }, 60_000);

  test('groups and formats', () => {
    const canonical = memguard.metricsText({ compatible: false, openMetrics: true });
    expect(canonical.endsWith('# EOF\n')).toBe(true);
    for (const [, name] of canonical.matchAll(/^# TYPE (\S+)/gm)) expect(name).toMatch(/^memguard_/);
    expect(memguard.metricsText()).toContain('\nprocess_memory_rss_bytes{');
    expect(thrown(() => memguard.metricsText({ openMetrics: 1 })).message).toBe(
      'openMetrics must be a boolean, not a number',
    );
  });

  test('the same as objects', () => {
    const families = new Map(memguard.collectMetrics().map((family) => [family.name, family]));
    const rss = families.get('process_memory_rss_bytes');
    expect(rss).toMatchObject({
      type: 'gauge',
      unit: 'bytes',
      help: 'As memguard_process_resident_memory_bytes.',
      samples: [{ labels: { pid: String(process.pid), runtime: 'node' }, buckets: null }],
    });
    expect(rss.samples[0].value).toBeGreaterThan(1e7);
    const { buckets } = families.get('memory_gc_pause_ns').samples[0];
    expect(buckets.map(({ le }) => le)).toEqual([
      1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 5e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 5e9, Infinity,
    ]);
    expect(families.get('gc_pause_duration_seconds').samples[0].buckets[0].le).toBe(0.00001);
    const canonical = memguard.collectMetrics({ compatible: false }).map(({ name }) => name);
    expect(canonical.filter((name) => !name.startsWith('memguard_'))).toEqual([]);
  });

  test('beside the default metrics of prom-client no name is taken twice', async () => {
    const registry = new promClient.Registry();
    promClient.collectDefaultMetrics({ register: registry });
    const theirs = (await registry.getMetricsAsJSON()).map(({ name }) => name);
    registry.clear();
    const ours = memguard.collectMetrics().map(({ name }) => name);
    expect(theirs.length).toBeGreaterThan(20);
    expect(ours.filter((name) => theirs.includes(name))).toEqual(['process_open_fds']);
  });
});

// In a process of its own: pools that other files dropped are taken off the count
// whenever the collector comes by.
test('connections in use are counted', async () => {
  expect(await runJson('connections_count.js', [], { seconds: 250 })).toEqual([0, 2, 1, 0]);
}, 260_000);

test('counts of collections are those of the runtime, over 10 000', async () => {
  const { counted, seen, text } = await runJson('metrics_count.js', ['10100', '20'], {
    seconds: 150,
    flags: ['--expose-gc'],
  });
  expect(counted).toEqual(seen);
  expect(counted.scavenge + counted.minor_mark_sweep).toBeGreaterThanOrEqual(10_000);
  expect(counted.mark_sweep_compact).toBeGreaterThanOrEqual(20);
  const count = /^memory_gc_count_total\{.*\} (\d+)$/m.exec(text)[1];
  expect(text).toMatch(new RegExp(`^memory_gc_pause_ns_count\\{.*\\} ${count}$`, 'm'));
}, 170_000);
