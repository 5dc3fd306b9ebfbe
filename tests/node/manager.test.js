'use strict';

const fs = require('fs');
const path = require('path');
const { pathToFileURL } = require('url');
const { ResourceManager, ResourceStats, ResourceType, StageBase } = require('../..');
const { MB, removeTemporary, temporaryDirectory, thrown, until } = require('./helpers');

let managers = [];
let warnings;

function open(config, options) {
  const manager = new ResourceManager(config, options);
  managers.push(manager);
  return manager;
}

beforeEach(() => {
  warnings = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
});

afterEach(async () => {
  for (const manager of managers) await manager.close();
  managers = [];
  warnings.mockRestore();
});

afterAll(removeTemporary);

function warned() {
  return warnings.mock.calls.map(([text]) => text);
}

describe('names of existing hosts', () => {
  test('manager', () => {
    const config = { memory_monitor: { max_memory_mb: 4096, pressure_threshold: 0.85 }, buffer_manager: { default_buffer_size: 200 } };
    const manager = open(config);
    expect(manager.config).toBe(config);
    expect(manager.memoryMonitor.maxMemoryMb).toBe(4096);
    expect(manager.memoryMonitor.pressureThreshold).toBe(0.85);
    expect(manager.bufferManager.defaultBufferSize).toBe(200);
    expect([manager.tempFiles, manager.managedResources, manager.cleanupCallbacks]).toEqual([[], [], []]);
    expect(manager.isClosed).toBe(false);
  });

  test('defaults', () => {
    const { settings } = open();
    expect(settings.profile).toBe('default');
    expect(settings.memory.maxMemoryMb).toBe(2048);
    expect(settings.memory.monitorInterval).toBe(30);
    expect(settings.memory.historySize).toBe(1000);
    expect(settings.memoryMonitor).toEqual({ pressureThreshold: 0.8, monitoringInterval: 100 });
    expect(settings.bufferManager).toEqual({ defaultBufferSize: 100, maxBufferSize: 1000, minBufferSize: 10, autoResize: true });
  });

  test('resource statistics', async () => {
    const manager = open();
    const directory = temporaryDirectory();
    manager.createBuffer('a');
    manager.createBuffer('b');
    manager.registerTempFile(path.join(directory, 'one'));
    manager.memoryMonitor.triggerGc();
    const stats = manager.getResourceStats();
    expect(stats).toBeInstanceOf(ResourceStats);
    expect(Object.keys(stats)).toEqual([
      'memoryUsageMb', 'bufferCount', 'fileHandles', 'tempFiles', 'peakMemoryMb', 'gcCollections', 'lastCleanupTime',
    ]);
    expect([stats.bufferCount, stats.tempFiles, stats.gcCollections, stats.lastCleanupTime]).toEqual([2, 1, 1, 0]);
    const rssMb = process.memoryUsage().rss / MB;
    expect(Math.abs(stats.memoryUsageMb - rssMb)).toBeLessThan(0.2 * rssMb);
    expect(stats.peakMemoryMb).toBeGreaterThanOrEqual(stats.memoryUsageMb);
    await until(() => { // some are opened or closed between the two counts
      manager.memoryMonitor.collectMemoryStats();
      const files = fs.readdirSync('/proc/self/fd').length;
      return Math.abs(manager.getResourceStats().fileHandles - files) <= 2;
    });
    const before = Date.now();
    await manager.cleanup();
    expect(manager.getResourceStats().lastCleanupTime).toBeGreaterThanOrEqual(before);
  });

  test('resource types', () => {
    expect(ResourceType).toEqual({ MEMORY: 'memory', FILE_HANDLE: 'file_handle', TEMP_FILE: 'temp_file', BUFFER: 'buffer', NETWORK: 'network' });
  });

  test('pressure', () => {
    const manager = open({ max_memory_mb: 1 });
    expect(manager.getMemoryPressure()).toBe(1);
    manager.updateConfig({ max_memory_mb: 1024 * 1024 });
    manager.memoryMonitor.collectMemoryStats();
    expect(manager.getMemoryPressure()).toBeLessThan(0.9);
  });
});

describe('temporary files', () => {
  test('are removed, in any form of path', async () => {
    const manager = open();
    const directory = temporaryDirectory();
    const [a, b, c] = ['a', 'b', 'c'].map((name) => path.join(directory, name));
    for (const file of [a, b, c]) fs.writeFileSync(file, 'x');
    manager.registerTempFile(a);
    manager.registerTempFile(pathToFileURL(b));
    manager.registerTempFile(Buffer.from(c));
    manager.registerTempFile(a);
    expect(manager.tempFiles).toEqual([a, b, c]);
    await manager.cleanup();
    expect(fs.readdirSync(directory)).toEqual([]);
    expect(manager.tempFiles).toEqual([]);
  });

  test('one that is gone, one that cannot be removed', async () => {
    const manager = open();
    const directory = temporaryDirectory();
    const kept = path.join(directory, 'kept');
    fs.mkdirSync(kept);
    manager.registerTempFile(path.join(directory, 'gone'));
    manager.registerTempFile(kept);
    await manager.cleanup();
    expect(warned()).toEqual([expect.stringContaining(kept)]);
    expect(warned()[0]).toMatch(/EISDIR|EPERM/);
  });

  test.each([[5], [null], [undefined], [{}]])('%p is no path', (path_) => {
    expect(thrown(() => open().registerTempFile(path_)).code).toBe('ERR_MEMGUARD_TYPE');
  });

  test.each([['', 'ERR_MEMGUARD_INVALID'], ['a\u0000b', 'ERR_MEMGUARD_INVALID'], ['x'.repeat(5000), 'ERR_MEMGUARD_INVALID']])('bad path %#', (path_, code) => {
    expect(thrown(() => open().registerTempFile(path_)).code).toBe(code);
  });
});

describe('clean-up', () => {
  test('newest first, each once, failures stop nothing', async () => {
    const manager = open();
    const ran = [];
    const bad = () => {
      ran.push('bad');
      throw new Error('bad callback');
    };
    manager.registerCleanupCallback(() => ran.push('first'));
    manager.managedResource('object', (value) => ran.push(value));
    manager.registerCleanupCallback(bad);
    manager.registerCleanupCallback(() => ran.push('last'));
    expect(manager.cleanupCallbacks[1]).toBe(bad);
    expect(manager.managedResources).toEqual(['object']);
    await manager.cleanup();
    expect(ran).toEqual(['last', 'bad', 'object', 'first']);
    expect(warned()).toEqual([expect.stringContaining('bad callback')]);
    await manager.cleanup();
    await manager.close();
    expect(ran).toHaveLength(4);
    expect([manager.cleanupCallbacks, manager.managedResources]).toEqual([[], []]);
  });

  test('re-entered from a callback', async () => {
    const manager = open();
    const ran = [];
    manager.registerCleanupCallback(() => ran.push('old'));
    manager.registerCleanupCallback(() => {
      ran.push('re-enters');
      manager.cleanup();
      manager.registerCleanupCallback(() => ran.push('late'));
    });
    await manager.cleanup();
    expect(ran).toEqual(['re-enters', 'late', 'old']);
  });

  test('closed from a callback', async () => {
    const manager = open();
    const ran = [];
    manager.registerCleanupCallback(() => ran.push('old'));
    manager.registerCleanupCallback(() => {
      manager.close();
      ran.push(thrown(() => manager.createBuffer('x')).code);
    });
    await manager.cleanup();
    expect(ran).toEqual(['ERR_MEMGUARD_CLOSED', 'old']);
    expect(manager.isClosed).toBe(true);
  });

  test('without end is bounded', async () => {
    const manager = open();
    let count = 0;
    const again = () => {
      count++;
      manager.registerCleanupCallback(again);
    };
    manager.registerCleanupCallback(again);
    await manager.cleanup();
    expect(count).toBe(10001);
    expect(warned()).toContainEqual(expect.stringContaining('1 were not run'));
  });

  test('asynchronous callbacks are awaited', async () => {
    const manager = open();
    const ran = [];
    manager.registerCleanupCallback(async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      ran.push('done');
    });
    manager.registerCleanupCallback(async () => {
      throw new Error('late failure');
    });
    await manager.cleanup();
    expect(ran).toEqual(['done']);
    expect(warned()).toEqual([expect.stringContaining('late failure')]);
  });

  test('the manager can be used again, with one warning', async () => {
    const manager = open();
    const ran = [];
    await manager.cleanup();
    expect(manager.memoryMonitor.isMonitoring).toBe(false);
    manager.createBuffer('again').push(1);
    expect(manager.memoryMonitor.isMonitoring).toBe(true);
    manager.registerCleanupCallback(() => ran.push(1));
    expect(warned()).toEqual([expect.stringContaining('used again after cleanup()')]);
    expect(manager.flushBuffer('again')).toEqual([1]);
    await manager.cleanup();
    expect(ran).toEqual([1]);
    manager.registerCleanupCallback(() => ran.push(2));
    expect(warned()).toHaveLength(2);
    await manager.close();
    expect(ran).toEqual([1, 2]);
  });

  test.each([[undefined], [null], [5], ['f']])('%p is no callback', (callback) => {
    const manager = open();
    expect(thrown(() => manager.registerCleanupCallback(callback)).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => manager.managedResource({}, callback)).code).toBe('ERR_MEMGUARD_TYPE');
  });
});

describe('after close()', () => {
  test('every use throws, close() and cleanup() do not', async () => {
    const manager = open();
    const { memoryMonitor: monitor, bufferManager: buffers } = manager;
    manager.createBuffer('x');
    await manager.close();
    await manager.close();
    await manager.cleanup();
    const uses = [
      () => manager.createBuffer('x'),
      () => manager.shouldFlushBuffer('x'),
      () => manager.flushBuffer('x'),
      () => manager.registerTempFile('/nowhere'),
      () => manager.registerCleanupCallback(() => {}),
      () => manager.managedResource(1, () => {}),
      () => manager.getMemoryPressure(),
      () => manager.getResourceStats(),
      () => manager.updateConfig({}),
      () => buffers.createBuffer('y'),
      () => buffers.shouldFlushBuffer('x', 0.5),
      () => monitor.checkMemoryPressure(),
      () => monitor.collectMemoryStats(),
      () => monitor.triggerGc(),
      () => monitor.startMonitoring(),
      () => monitor.getMemoryReport(),
      () => monitor.registerObjectCounter('k'),
    ];
    expect(uses.map((use) => thrown(use).code)).toEqual(uses.map(() => 'ERR_MEMGUARD_CLOSED'));
    expect([manager.isClosed, manager.tempFiles]).toEqual([true, []]);
    monitor.stopMonitoring();
    monitor.shutdown();
  });
});

describe('managed resources', () => {
  test('dispose() runs the clean-up once', async () => {
    const manager = open();
    const ended = [];
    const resource = manager.managedResource({ id: 1 }, (value) => ended.push(value.id));
    expect(resource.value).toEqual({ id: 1 });
    resource.dispose();
    resource.dispose();
    await manager.cleanup();
    expect(ended).toEqual([1]);
  });

  test('dispose() after close() does nothing', async () => {
    const manager = open();
    const ended = [];
    const resource = manager.managedResource(1, (value) => ended.push(value));
    await manager.close();
    resource.dispose();
    expect(ended).toEqual([1]);
  });

  test('Symbol.dispose and Symbol.asyncDispose where there are any', async () => {
    const manager = open();
    const ended = [];
    if (typeof Symbol.dispose === 'symbol') {
      manager.managedResource('sync', (value) => ended.push(value))[Symbol.dispose]();
      expect(ended).toEqual(['sync']);
    }
    if (typeof Symbol.asyncDispose === 'symbol') {
      const resource = manager.managedResource('async', async (value) => {
        await null;
        ended.push(value);
      });
      await resource[Symbol.asyncDispose]();
      expect(ended.pop()).toBe('async');
      await manager[Symbol.asyncDispose]();
      expect(manager.isClosed).toBe(true);
    }
  });

  test('around a function', async () => {
    const manager = open();
    const ended = [];
    const end = (value) => ended.push(value);
    expect(manager.managedResource(1, end, (value) => value + 1)).toBe(2);
    expect(ended).toEqual([1]);
    expect(thrown(() => manager.managedResource(2, end, () => { throw new Error('body'); })).message).toBe('body');
    expect(ended).toEqual([1, 2]);
    const pending = manager.managedResource(3, end, async (value) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(ended).toEqual([1, 2]);
      return value * 10;
    });
    expect(await pending).toBe(30);
    expect(ended).toEqual([1, 2, 3]);
    await expect(manager.managedResource(4, end, async () => { throw new Error('late'); })).rejects.toThrow('late');
    expect(ended).toEqual([1, 2, 3, 4]);
    expect(await manager.managedResource(5, async (value) => { await null; end(value); }, (value) => value)).toBe(5);
    expect(ended).toEqual([1, 2, 3, 4, 5]);
    expect(manager.managedResources).toEqual([]);
  });

  test('a clean-up that fails is reported', () => {
    const manager = open();
    manager.managedResource(1, () => { throw new Error('cannot end it'); }).dispose();
    expect(warned()).toEqual([expect.stringContaining('cannot end it')]);
  });
});

describe('StageBase', () => {
  class Stage extends StageBase {
    constructor(config) {
      super(config);
      managers.push(this.resourceManager);
      this.order = [];
      this.resourceManager.registerCleanupCallback(() => this.order.push(`manager, initialized ${this._initialized}`));
      this._initialized = true;
    }

    _cleanupStageSpecific() {
      this.order.push('stage');
    }
  }

  test('owns a manager of its configuration', () => {
    const config = { chunk_size: 1000, resource_manager: { memory_monitor: { max_memory_mb: 4096, pressure_threshold: 0.85 }, buffer_manager: { default_buffer_size: 200 } } };
    const stage = new Stage(config);
    expect(stage.config).toBe(config);
    expect(stage.resourceManager.memoryMonitor.maxMemoryMb).toBe(4096);
    expect(stage.resourceManager.bufferManager.defaultBufferSize).toBe(200);
    const other = new Stage({ resourceManager: { maxMemoryMb: 99 } });
    expect(other.resourceManager.memoryMonitor.maxMemoryMb).toBe(99);
  });

  test('cleans up in order', async () => {
    const stage = new Stage({});
    await stage.cleanup();
    expect(stage.order).toEqual(['stage', 'manager, initialized true']);
    expect(stage._initialized).toBe(false);
  });

  test('can be made ready again, and closed', async () => {
    const stage = new Stage({});
    await stage.cleanup();
    expect(stage.initialize()).toBe(true);
    expect([stage._initialized, stage.resourceManager.memoryMonitor.isMonitoring]).toEqual([true, true]);
    await stage.close();
    await stage.close();
    expect(stage.order).toEqual(['stage', 'manager, initialized true', 'stage']);
    expect([stage._initialized, stage.resourceManager.isClosed]).toEqual([false, true]);
    expect(thrown(() => stage.initialize()).code).toBe('ERR_MEMGUARD_CLOSED');
    expect(warned()).toEqual([]);
  });

  test('a stage that fails does not stop the manager', async () => {
    class Bad extends Stage {
      _cleanupStageSpecific() {
        throw new Error('stage failed');
      }
    }
    class BadLater extends Stage {
      async _cleanupStageSpecific() {
        await null;
        this.order.push('stage');
        throw new Error('stage failed later');
      }
    }
    const stages = [new Bad({}), new BadLater({})];
    for (const stage of stages) await stage.cleanup();
    expect(stages.map((stage) => stage.order)).toEqual([['manager, initialized true'], ['stage', 'manager, initialized true']]);
    expect(stages.map((stage) => stage._initialized)).toEqual([false, false]);
    expect(warned()).toEqual([expect.stringContaining('stage failed'), expect.stringContaining('stage failed later')]);
  });
});
