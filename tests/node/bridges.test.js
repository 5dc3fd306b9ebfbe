'use strict';

// memguard's metrics in registries and meters that a program has: prom-client,
// @prometheus-io/client and the SDK of OpenTelemetry themselves.
const promClient = require('prom-client');
const { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');
const { ResourceManager, registerOpenTelemetry, registerPromClient } = require('../..');
const { newValues } = require('../../node/lib/bridges/open_telemetry');
const { runJson, thrown, until } = require('./helpers');

// The successor of prom-client needs Node 22.
const hasSuccessor = Number(process.versions.node.split('.')[0]) >= 22;
const libraries = [['prom-client', promClient]];
if (hasSuccessor) libraries.push(['@prometheus-io/client', require('@prometheus-io/client')]);

let manager;

beforeAll(async () => {
  manager = new ResourceManager({ sampleInterval: '20ms' });
  await until(() => manager.memoryMonitor.latest?.number > 2);
});

afterAll(() => manager.close());

/** Lines of a text of metrics by name. */
function linesOf(text) {
  const lines = {};
  for (const line of text.split('\n')) {
    if (line !== '' && !line.startsWith('#')) (lines[line.split(/[{ ]/, 1)[0]] ??= []).push(line);
  }
  return lines;
}

const valueOf = (line) => Number(line.slice(line.lastIndexOf(' ') + 1));

describe.each(libraries)('%s', (name, { Gauge, Registry, collectDefaultMetrics }) => {
  let registry;
  const bridges = [];
  const register = (...values) => {
    const bridge = registerPromClient(registry, ...values);
    bridges.push(bridge);
    return bridge;
  };

  beforeEach(() => {
    registry = new Registry();
  });

  afterEach(() => bridges.splice(0).forEach((bridge) => bridge.unregister()));

  test('a scrape shows what the process is now', async () => {
    const bridge = register();
    expect([bridge.isRegistered, bridge.skipped]).toEqual([
      true, [{ name: 'process_open_fds', reason: 'the library has it itself' }],
    ]);
    expect(bridge.names).toEqual(expect.arrayContaining(['memguard_gc_pause_seconds', 'memory_alloc_bytes']));
    const before = linesOf(await registry.metrics());
    const rss = valueOf(before.memguard_process_resident_memory_bytes[0]);
    expect(rss).toBeGreaterThan(1e7);
    expect(rss).toBeLessThan(1e10);
    expect(before.memguard_process_up[0]).toContain(`pid="${process.pid}"`);
    expect(before.process_memory_rss_bytes).toHaveLength(1);

    const full = (lines) => valueOf(lines.memguard_gc_collections_total.find((line) => line.includes('kind="mark_sweep_compact"')));
    manager.memoryMonitor.triggerGc();
    manager.memoryMonitor.triggerGc();
    expect(full(linesOf(await registry.metrics())) - full(before)).toBeGreaterThanOrEqual(2);
  });

  test('histograms', async () => {
    register();
    manager.memoryMonitor.triggerGc();
    const lines = linesOf(await registry.metrics());
    const buckets = lines.memory_gc_pause_ns_bucket.map(valueOf);
    expect(buckets).toHaveLength(16);
    expect(buckets).toEqual([...buckets].sort((one, other) => one - other));
    expect(lines.memory_gc_pause_ns_bucket.at(-1)).toContain('le="+Inf"');
    expect(buckets.at(-1)).toBe(valueOf(lines.memory_gc_pause_ns_count[0]));
    expect(buckets.at(-1)).toBe(valueOf(lines.memory_gc_count_total[0]));
    expect(valueOf(lines.memory_gc_pause_ns_sum[0])).toBeGreaterThan(0);
  });

  test('beside the metrics of the library, before and after', async () => {
    collectDefaultMetrics({ register: registry });
    register().unregister();
    registry.clear();
    register();
    collectDefaultMetrics({ register: registry });
    const lines = linesOf(await registry.metrics());
    expect(lines.process_open_fds).toHaveLength(1);
    expect(lines.memguard_process_open_fds).toHaveLength(1);
    registry.clear();
  });

  test('names that are taken are left alone', async () => {
    const theirs = new Gauge({ name: 'memory_sys_bytes', help: 'theirs', registers: [registry] });
    theirs.set(7);
    const bridge = register({ processOpenFds: true });
    expect(bridge.skipped).toEqual([{ name: 'memory_sys_bytes', reason: 'the name is taken' }]);
    const lines = linesOf(await registry.metrics());
    expect([lines.memory_sys_bytes, lines.process_open_fds.length]).toEqual([['memory_sys_bytes 7'], 1]);
    bridge.unregister();
    expect(linesOf(await registry.metrics())).toEqual({ memory_sys_bytes: ['memory_sys_bytes 7'] });
  });

  test('a prefix', async () => {
    const bridge = register({ prefix: 'shop_' });
    expect(bridge.skipped).toEqual([]);
    const lines = linesOf(await registry.metrics());
    expect(Object.keys(lines).filter((key) => !key.startsWith('shop_'))).toEqual([]);
    expect(lines.shop_process_open_fds).toHaveLength(1);
    expect(lines.shop_memory_gc_pause_ns_count).toHaveLength(1);
  });

  test('once', () => {
    const bridge = register();
    expect(register()).toBe(bridge);
    expect(register({})).toBe(bridge);
    expect(thrown(() => register({ prefix: 'other_' })).code).toBe('ERR_MEMGUARD_CONFLICT');
    bridge.unregister();
    bridge.unregister();
    expect(bridge.isRegistered).toBe(false);
    expect(registry.getMetricsAsArray()).toEqual([]);
    expect(register({ prefix: 'other_' })).not.toBe(bridge);
  });

  test('as OpenMetrics', async () => {
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    const bridge = register();
    const text = await registry.metrics();
    expect(text.slice(-7)).toBe('\n# EOF\n');
    expect(linesOf(text).memguard_gc_collections_total.length).toBeGreaterThan(0);
    expect(text.split('\n')).toContain('# TYPE memguard_gc_collections counter');
    bridge.unregister();
    expect(registry.getMetricsAsArray()).toEqual([]);
  });

  test('resetting a registry resets nothing of ours', async () => {
    register();
    registry.resetMetrics();
    expect(valueOf(linesOf(await registry.metrics()).memguard_process_samples_total[0])).toBeGreaterThan(0);
  });
});

test('a registry that fails hurts nobody', async () => {
  const registry = new promClient.Registry();
  const real = registry.registerMetric.bind(registry);
  registry.registerMetric = (metric) => {
    if (metric.name === 'memguard_process_up') throw new Error('no more room');
    real(metric);
  };
  const bridge = registerPromClient(registry);
  expect(bridge.skipped).toContainEqual({ name: 'memguard_process_up', reason: 'no more room' });
  expect(linesOf(await registry.metrics()).memguard_process_threads).toHaveLength(1);
  registry.removeSingleMetric = () => {
    throw new Error('on purpose');
  };
  bridge.unregister();
  expect(bridge.isRegistered).toBe(false);
  expect(linesOf(await registry.metrics())).toEqual({});
});

test.each([
  [[null], 'ERR_MEMGUARD_TYPE', /^registry must be a Registry of prom-client/],
  [[{}], 'ERR_MEMGUARD_TYPE', /^registry must be/],
  [[new promClient.Registry(), { prefix: '1-' }], 'ERR_MEMGUARD_INVALID', /^prefix is "1-", allowed: letters/],
  [[new promClient.Registry(), { prefix: 5 }], 'ERR_MEMGUARD_TYPE', /^prefix must be a string/],
  [[new promClient.Registry(), { processOpenFds: 1 }], 'ERR_MEMGUARD_TYPE', /^processOpenFds must be true or false/],
  [[new promClient.Registry(), { other: 1 }], 'ERR_MEMGUARD_INVALID', /^option "other" is unknown, allowed: prefix, processOpenFds$/],
  [[new promClient.Registry(), null], 'ERR_MEMGUARD_TYPE', /^options must be an object/],
])('arguments that are wrong %#', (values, code, text) => {
  const error = thrown(() => registerPromClient(...values));
  expect([error.code, error.message]).toEqual([code, expect.stringMatching(text)]);
});

test.each(libraries.map(([name]) => name))('the workers of a cluster add up: %s', async (name) => {
  const { pids, lines } = await runJson('bridges.js', ['cluster', name]);
  expect(pids).toHaveLength(2);
  for (const pid of pids) {
    expect(lines.filter((line) => line.startsWith('memguard_process_up{') && line.includes(`pid="${pid}"`))).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith('memory_gc_pause_ns_count{') && line.includes(`pid="${pid}"`))).toHaveLength(1);
  }
});

test('registries and providers that are dropped are freed', async () => {
  const { registry, provider } = await runJson('bridges.js', ['dropped'], { flags: ['--expose-gc'] });
  expect([registry, provider]).toEqual([true, true]);
});

/* ---- OpenTelemetry ------------------------------------------------------------- */

describe('OpenTelemetry', () => {
  let exporter;
  let reader;
  let provider;

  beforeEach(() => {
    exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
    provider = new MeterProvider({ readers: [reader] });
  });

  afterEach(() => provider.shutdown());

  /** Metrics by name, of one collection. */
  async function collect() {
    const { resourceMetrics, errors } = await reader.collect();
    expect(errors).toEqual([]);
    const metrics = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics);
    return Object.fromEntries(metrics.map((metric) => [metric.descriptor.name, metric]));
  }

  const values = (metric, attribute) => Object.fromEntries(
    metric.dataPoints.map(({ attributes, value }) => [attributes[attribute], value]),
  );

  test('the names of the semantic conventions, with their units', async () => {
    registerOpenTelemetry(provider);
    manager.memoryMonitor.triggerGc();
    const metrics = await collect();
    const units = Object.fromEntries(Object.entries(metrics).map(([name, { descriptor }]) => [name, descriptor.unit]));
    expect(units).toMatchObject({
      'process.memory.usage': 'By',
      'process.memory.virtual': 'By',
      'process.unix.file_descriptor.count': '{file_descriptor}',
      'process.thread.count': '{thread}',
      'process.cpu.time': 's',
      'process.paging.faults': '{fault}',
      'process.context_switches': '{context_switch}',
      'process.uptime': 's',
      'v8js.memory.heap.used': 'By',
      'v8js.memory.heap.space.size': 'By',
      'v8js.memory.heap.space.available_size': 'By',
      'v8js.memory.heap.space.physical_size': 'By',
      'v8js.gc.duration': 's',
      'memguard.memory.usage': '1',
      'memguard.memory.limit': 'By',
      'memguard.memory.level': '1',
      'memguard.reclaim.rounds': '{round}',
    });
  });

  test('their values', async () => {
    registerOpenTelemetry(provider);
    const metrics = await collect();
    expect(metrics['process.memory.usage'].dataPoints[0].value).toBeGreaterThan(1e7);
    expect(metrics['process.memory.usage'].dataPoints[0].value).toBeLessThan(1e10);
    const spaces = values(metrics['v8js.memory.heap.used'], 'v8js.heap.space.name');
    expect(spaces.old_space).toBeGreaterThan(1_000_000);
    expect(Object.keys(values(metrics['process.cpu.time'], 'cpu.mode'))).toEqual(['user', 'system']);
    expect(metrics['process.unix.file_descriptor.count'].dataPoints[0].value).toBeGreaterThan(3);
    const levels = values(metrics['memguard.memory.level'], 'memguard.level');
    expect(Object.values(levels).reduce((sum, value) => sum + value)).toBe(1);
  });

  test('every collection is a value of v8js.gc.duration', async () => {
    const monitor = manager.memoryMonitor;
    const counted = () => monitor.getGCStats().kinds.markSweepCompact.count;
    // Both at a moment when there was no collection in between.
    async function full() {
      for (;;) {
        const before = counted();
        const points = (await collect())['v8js.gc.duration']?.dataPoints ?? [];
        const { count, sum } = points.find(({ attributes }) => attributes['v8js.gc.type'] === 'major')?.value ?? { count: 0, sum: 0 };
        if (counted() === before) return { count, sum, counted: before };
      }
    }
    registerOpenTelemetry(provider);
    const first = await full();
    for (let round = 0; round < 20; round++) monitor.triggerGc();
    const second = await full();
    expect(second.counted - first.counted).toBeGreaterThanOrEqual(20);
    expect(second.count - first.count).toBe(second.counted - first.counted);
    expect(second.sum).toBeGreaterThan(first.sum);
  });

  test('once, and not after unregister()', async () => {
    const bridge = registerOpenTelemetry(provider);
    expect(registerOpenTelemetry(provider)).toBe(bridge);
    expect((await collect())['process.memory.usage'].dataPoints).toHaveLength(1);
    bridge.unregister();
    bridge.unregister();
    expect(bridge.isRegistered).toBe(false);
    const again = registerOpenTelemetry(provider);
    expect(again).not.toBe(bridge);
    again.unregister();
  });

  test('the global provider', async () => {
    const { metrics } = require('@opentelemetry/api');
    metrics.setGlobalMeterProvider(provider);
    try {
      const bridge = registerOpenTelemetry();
      expect(Object.keys(await collect())).toContain('process.memory.usage');
      bridge.unregister();
    } finally {
      metrics.disable();
    }
  });

  test('a meter that fails', async () => {
    const broken = provider.getMeter('broken');
    broken.createHistogram = () => {
      throw new Error('no more room');
    };
    const error = thrown(() => registerOpenTelemetry(broken));
    expect([error.code, error.message]).toEqual(['ERR_MEMGUARD_HOST', 'the meter of OpenTelemetry failed: no more room']);
    expect(Object.keys(await collect())).toEqual([]);
  });

  test('a Meter, or what is none', async () => {
    const bridge = registerOpenTelemetry(provider.getMeter('shop'));
    expect(Object.keys(await collect())).toContain('process.memory.usage');
    bridge.unregister();
    for (const wrong of [5, {}, 'meter']) {
      const error = thrown(() => registerOpenTelemetry(wrong));
      expect([error.code, error.message]).toEqual(['ERR_MEMGUARD_TYPE', expect.stringMatching(/^expected a MeterProvider or a Meter/)]);
    }
  });
});

test.each([
  ['one pause', [], [[0.01, 1]], 0.004, 0, [0.004]],
  ['one above the last bound', [], [[0.01, 0], [Infinity, 1]], 3, 3, [3]],
  ['two in one bucket', [[0.01, 5], [0.1, 5]], [[0.01, 5], [0.1, 7]], 0.06, 0, [0.03, 0.03]],
  ['two buckets', [], [[1, 1], [3, 2]], 2.5, 0, [0.5, 2]],
  ['none', [[1, 4]], [[1, 4]], 0, 0, []],
  ['from the start again', [[1, 4]], [[1, 2]], 1, 0, [0.5, 0.5]],
])('single values of a histogram: %s', (name, before, now, sum, longest, expected) => {
  const earlier = name === 'from the start again' ? 9 : 0;
  const bucketsOf = (pairs) => pairs.map(([le, count]) => ({ le, count }));
  const found = newValues({ value: earlier, buckets: bucketsOf(before) }, { value: sum, buckets: bucketsOf(now) }, longest);
  expect(found).toHaveLength(expected.length);
  found.forEach((value, index) => expect(value).toBeCloseTo(expected[index], 9));
});
