'use strict';

const fs = require('fs');
const path = require('path');
const { MemoryMonitor, ResourceManager, decide, loadConfig } = require('../..');
const { removeTemporary, temporaryDirectory, thrown } = require('./helpers');

afterAll(removeTemporary);

function written(name, text) {
  const file = path.join(temporaryDirectory(), name);
  fs.writeFileSync(file, text);
  return file;
}

describe('sources', () => {
  test('each wins over those before it', () => {
    const file = written('m.json', '{"memory": {"max_memory_mb": 300, "gc_interval": "2m", "alert_threshold": 91}}');
    const environment = { MEMGUARD_MAX_MEMORY_MB: '400', MEMGUARD_GC_INTERVAL: '3m' };
    const numbers = decide.resolveConfig({ gcInterval: '4m' }, { profile: 'production', file, environment });
    expect(numbers['memory.high_water_mark_percent']).toBe(75);
    expect(numbers['memory.alert_threshold']).toBe(91);
    expect(numbers['memory.max_memory_mb']).toBe(400);
    expect(numbers['memory.gc_interval']).toBe(240000);
  });

  test('profile and file come from the environment too, options first', () => {
    const file = written('m.json', '{"history_size": 7}');
    const environment = { MEMGUARD_PROFILE: 'development', MEMGUARD_CONFIG: file };
    const numbers = decide.resolveConfig({}, { environment });
    expect([numbers['memory.max_memory_mb'], numbers['memory.history_size']]).toEqual([512, 7]);
    expect(decide.resolveConfig({}, { environment, profile: 'high-load' })['memory.max_memory_mb']).toBe(4096);
  });

  test.each([
    ['m.yaml', 'memory:\n  max_memory_mb: 77\n  monitor_interval: 5m\n'],
    ['m.yml', '{memory: {max_memory_mb: 77, monitor_interval: 5m}}'],
    ['m.toml', '[memory]\nmax_memory_mb = 77\nmonitor_interval = "5m"\n'],
    ['m.json', '\uFEFF{"memory": {"max_memory_mb": 77, "monitor_interval": "5m"}}'],
  ])('%s', (name, text) => {
    const file = written(name, text);
    expect(loadConfig(file)).toEqual({ memory: { max_memory_mb: 77, monitor_interval: '5m' } });
    const numbers = decide.resolveConfig({}, { file });
    expect([numbers['memory.max_memory_mb'], numbers['memory.monitor_interval']]).toEqual([77, 300000]);
  });

  test('an empty file is an empty mapping', () => {
    expect(loadConfig(written('m.yaml', ''))).toEqual({});
  });

  test.each([
    ['is not there', () => path.join(temporaryDirectory(), 'no.json'), 'ERR_MEMGUARD_SYSTEM', 'ENOENT'],
    ['cannot be parsed', () => written('m.json', '{"memory": '), 'ERR_MEMGUARD_INVALID', 'm.json'],
    ['is broken YAML', () => written('m.yaml', 'a: [1'), 'ERR_MEMGUARD_INVALID', 'm.yaml'],
    ['is broken TOML', () => written('m.toml', 'a = '), 'ERR_MEMGUARD_INVALID', 'm.toml'],
    ['holds a list', () => written('m.json', '[1]'), 'ERR_MEMGUARD_TYPE', 'an array'],
    ['is of no known kind', () => written('m.ini', 'a=1'), 'ERR_MEMGUARD_INVALID', '.toml'],
  ])('a file that %s', (_, make, code, text) => {
    const error = thrown(() => loadConfig(make()));
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(text)]);
  });
});

describe('bad mappings', () => {
  const cases = [
    [{ max_memory_mb: -1 }, 'ERR_MEMGUARD_RANGE', 'RangeError', ['max_memory_mb', '-1', '1 to 16777216 MB']],
    [{ max_memory_mb: 'lots' }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['max_memory_mb', '"lots"', '512MB']],
    [{ max_memory_mb: 1e30 }, 'ERR_MEMGUARD_RANGE', 'RangeError', ['max_memory_mb', '1e+30']],
    [{ max_memory_mb: NaN }, 'ERR_MEMGUARD_RANGE', 'RangeError', ['max_memory_mb', 'nan']],
    [{ max_memory_mb: null }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['max_memory_mb', 'null']],
    [{ max_memory_mb: [1] }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['max_memory_mb', 'an array']],
    [{ max_memory_mb: { value: 1 } }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['max_memory_mb', 'an object']],
    [{ max_memory_mb: 5n }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['max_memory_mb', 'a bigint']],
    [{ max_memory_mb: () => 5 }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['max_memory_mb', 'a function']],
    [{ max_memory_mb: new Date(0) }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['max_memory_mb', 'an object']],
    [{ max_memory_mb: '1\u00002' }, 'ERR_MEMGUARD_INVALID', 'TypeError', ['max_memory_mb', 'NUL']],
    [{ max_memory_mb: '9'.repeat(5000) }, 'ERR_MEMGUARD_INVALID', 'TypeError', ['max_memory_mb', '5000 bytes']],
    [{ auto_resize: 1 }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['auto_resize', 'true or false']],
    [{ maxMemry: 1 }, 'ERR_MEMGUARD_UNKNOWN_KEY', 'Error', ['maxMemry', 'memory.max_memory_mb']],
    [{ memory: { gcIntervall: 1 } }, 'ERR_MEMGUARD_UNKNOWN_KEY', 'Error', ['memory.gcIntervall', 'memory.gc_interval']],
    [{ memori: {} }, 'ERR_MEMGUARD_UNKNOWN_KEY', 'Error', ['memori']],
    [{ [Symbol('s')]: 1 }, 'ERR_MEMGUARD_TYPE', 'TypeError', ['Symbol(s)']],
    [new Map([['max_memory_mb', 1]]), 'ERR_MEMGUARD_TYPE', 'TypeError', ['plain object']],
    [7, 'ERR_MEMGUARD_TYPE', 'TypeError', ['plain object', 'a number']],
    ['x', 'ERR_MEMGUARD_TYPE', 'TypeError', ['plain object', 'a string']],
    [{ low_water_mark_percent: 90, high_water_mark_percent: 80 }, 'ERR_MEMGUARD_CONFLICT', 'Error', ['low_water_mark_percent', '90', '80']],
  ];

  test.each(cases)('%p', (mapping, code, name, texts) => {
    const error = thrown(() => new ResourceManager(mapping));
    expect([error.code, error.name]).toEqual([code, name]);
    for (const text of texts) expect(error.message).toContain(text);
  });

  test('options', () => {
    expect(thrown(() => new MemoryMonitor({}, { profil: 'x' }))).toMatchObject({
      code: 'ERR_MEMGUARD_UNKNOWN_KEY',
      message: expect.stringContaining('profile, file, environment'),
    });
    expect(thrown(() => new MemoryMonitor({}, { profile: 'staging' })).code).toBe('ERR_MEMGUARD_INVALID');
    expect(thrown(() => new MemoryMonitor({}, { profile: 5 })).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => new MemoryMonitor({}, { environment: 'x' })).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => new MemoryMonitor({}, 5)).code).toBe('ERR_MEMGUARD_TYPE');
    const environment = { MEMGUARD_MAX_MEMORY_MB: 'much' };
    expect(thrown(() => new MemoryMonitor({}, { environment })).message).toContain('MEMGUARD_MAX_MEMORY_MB');
  });

  test('undefined is no value', () => {
    expect(decide.resolveConfig({ max_memory_mb: undefined })['memory.max_memory_mb']).toBe(2048);
    expect(decide.resolveConfig(undefined)['memory.max_memory_mb']).toBe(2048);
  });
});

describe('changes at run time', () => {
  const manager = new ResourceManager({ max_memory_mb: 1000 });
  afterAll(() => manager.close());

  test('all', () => {
    manager.updateConfig({ memory: { maxMemoryMb: '2GB' }, bufferManager: { minBufferSize: 5 } });
    expect(manager.settings.memory.maxMemoryMb).toBe(2048);
    expect(manager.settings.bufferManager.minBufferSize).toBe(5);
    expect(manager.memoryMonitor.maxMemoryMb).toBe(2048);
  });

  test('or nothing', () => {
    const before = manager.settings;
    expect(thrown(() => manager.updateConfig({ gc_interval: '9m', max_memory_mb: 0 })).code).toBe('ERR_MEMGUARD_RANGE');
    expect(thrown(() => manager.updateConfig({ gc_interval: '9m', nonsense: 0 })).code).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
    expect(thrown(() => manager.updateConfig(5)).code).toBe('ERR_MEMGUARD_TYPE');
    expect(manager.settings).toBe(before);
    expect(manager.settings.memory.gcInterval).toBe(300);
  });

  test('by attribute', () => {
    const { memoryMonitor: monitor, bufferManager: buffers } = manager;
    monitor.maxMemoryMb = 512;
    monitor.pressureThreshold = 0.5;
    monitor.monitoringInterval = 7;
    buffers.defaultBufferSize = 50;
    buffers.maxBufferSize = 60;
    buffers.minBufferSize = 2;
    buffers.autoResize = false;
    expect(manager.settings.memory.maxMemoryMb).toBe(512);
    expect(manager.settings.memoryMonitor).toEqual({ pressureThreshold: 0.5, monitoringInterval: 7 });
    expect(manager.settings.bufferManager).toEqual({ defaultBufferSize: 50, maxBufferSize: 60, minBufferSize: 2, autoResize: false });
    expect(thrown(() => (monitor.pressureThreshold = 3)).code).toBe('ERR_MEMGUARD_RANGE');
    expect(monitor.pressureThreshold).toBe(0.5);
  });

  test('of alerts', () => {
    manager.updateConfig({ alert: { cooldown: '2m' }, gcHighPercent: '15%' });
    expect(manager.settings.alert).toEqual({
      alertsEnabled: true,
      alertCooldown: 120,
      alertResolveAfter: 60,
      alertHistorySize: 200,
      highUsageFor: 10,
      criticalFor: 0,
      gcHighPercent: 15,
      gcHighFor: 180,
    });
  });

  test('settings cannot be written to', () => {
    expect(Object.isFrozen(manager.settings)).toBe(true);
    expect(Object.isFrozen(manager.settings.memory)).toBe(true);
  });
});
