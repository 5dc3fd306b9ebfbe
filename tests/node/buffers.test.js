'use strict';

const { BufferManager, ResourceManager } = require('../..');
const { MB, thrown, until } = require('./helpers');

let managers = [];
let warnings;

function open(config) {
  const manager = new ResourceManager(config);
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

function warned() {
  return warnings.mock.calls.map(([text]) => text);
}

/** Sets the pressure by the limit: 1, or close to 0. */
function setPressure(manager, isFull) {
  manager.updateConfig({ max_memory_mb: isFull ? 1 : 16 * 1024 * 1024 });
  manager.memoryMonitor.collectMemoryStats();
}

describe('a buffer', () => {
  test('is a real array that stays the same', () => {
    const manager = open();
    const items = manager.createBuffer('a');
    expect(Array.isArray(items)).toBe(true);
    expect(manager.createBuffer('a')).toBe(items);
    expect(manager.bufferManager.activeBuffers.a).toBe(items);
    items.push(1, 2, 3);
    expect(manager.flushBuffer('a')).toEqual([1, 2, 3]);
    expect(items).toEqual([]);
    expect(manager.createBuffer('a')).toBe(items);
  });

  test('should be flushed from its size on', () => {
    const manager = open({ default_buffer_size: 3, auto_resize: false, max_memory_mb: '16TB' });
    const items = manager.createBuffer('a');
    const answers = [];
    for (let length = 0; length <= 3; length++) {
      answers.push(manager.shouldFlushBuffer('a'));
      items.push(length);
    }
    expect(answers).toEqual([false, false, false, true]);
  });

  test('keeps statistics', () => {
    const manager = open({ auto_resize: false });
    const before = Date.now();
    const items = manager.createBuffer('a');
    items.push(1, 2, 3);
    manager.shouldFlushBuffer('a');
    items.pop();
    manager.flushBuffer('a');
    manager.flushBuffer('a');
    const { createdTime, ...rest } = manager.bufferManager.bufferStats.a;
    expect(rest).toEqual({ maxSizeReached: 3, flushCount: 1, flushedItems: 2, currentSize: 100, flushAt: 100 });
    expect(Math.abs(createdTime - before)).toBeLessThan(10000);
  });

  test('any name that is text', () => {
    const manager = open();
    for (const name of ['__proto__', 'constructor', 'ü€😀', ' ', 'a.b', 'x'.repeat(255)]) {
      manager.createBuffer(name).push(name);
      expect(Object.keys(manager.bufferManager.bufferStats)).toContain(name);
      expect(manager.bufferManager.activeBuffers[name]).toEqual([name]);
      expect(manager.flushBuffer(name)).toEqual([name]);
    }
  });

  test('bad names, sinks, pressures', () => {
    const manager = open();
    manager.createBuffer('a');
    manager.createBuffer('b', () => {});
    const uses = [
      [() => manager.createBuffer(5), 'ERR_MEMGUARD_TYPE'],
      [() => manager.createBuffer(), 'ERR_MEMGUARD_TYPE'],
      [() => manager.createBuffer(Symbol('s')), 'ERR_MEMGUARD_TYPE'],
      [() => manager.createBuffer(''), 'ERR_MEMGUARD_INVALID'],
      [() => manager.createBuffer('x'.repeat(256)), 'ERR_MEMGUARD_INVALID'],
      [() => manager.createBuffer('x'.repeat(100000)), 'ERR_MEMGUARD_INVALID'],
      [() => manager.createBuffer('a\u0000b'), 'ERR_MEMGUARD_INVALID'],
      [() => manager.createBuffer('a', 5), 'ERR_MEMGUARD_TYPE'],
      [() => manager.createBuffer('a', () => {}), 'ERR_MEMGUARD_CONFLICT'],
      [() => manager.createBuffer('b', () => {}), 'ERR_MEMGUARD_CONFLICT'],
      [() => manager.shouldFlushBuffer('no'), 'ERR_MEMGUARD_NOT_FOUND'],
      [() => manager.shouldFlushBuffer(5), 'ERR_MEMGUARD_TYPE'],
      [() => manager.flushBuffer('no'), 'ERR_MEMGUARD_NOT_FOUND'],
      [() => manager.flushBuffer(null), 'ERR_MEMGUARD_TYPE'],
      [() => manager.bufferManager.shouldFlushBuffer('a', 2), 'ERR_MEMGUARD_RANGE'],
      [() => manager.bufferManager.shouldFlushBuffer('a', NaN), 'ERR_MEMGUARD_RANGE'],
      [() => manager.bufferManager.shouldFlushBuffer('a', 'high'), 'ERR_MEMGUARD_TYPE'],
      [() => manager.bufferManager.cleanupBuffer(5), 'ERR_MEMGUARD_TYPE'],
    ];
    expect(uses.map(([use]) => thrown(use).code)).toEqual(uses.map(([, code]) => code));
  });
});

describe('under pressure', () => {
  test('thresholds follow at once, sizes step by step', () => {
    const manager = open({ default_buffer_size: 100, monitor_interval: '1h' });
    const items = manager.createBuffer('a');
    setPressure(manager, false);
    items.push(1);
    expect(manager.shouldFlushBuffer('a')).toBe(false);
    setPressure(manager, true);
    expect(manager.shouldFlushBuffer('a')).toBe(true);
    items.length = 0;
    expect(manager.shouldFlushBuffer('a')).toBe(false);
  });

  test('every buffer with a sink is flushed, the others are kept', () => {
    const manager = open();
    setPressure(manager, false);
    const taken = [];
    manager.createBuffer('with', (items) => taken.push(...items)).push(1, 2);
    const without = manager.createBuffer('without');
    without.push(3, 4);
    setPressure(manager, true);
    expect(taken).toEqual([1, 2]);
    expect(without).toEqual([3, 4]);
    expect(manager.shouldFlushBuffer('without')).toBe(true);
  });

  test('of memory that is really there', async () => {
    // What this process has freed by then is not known beforehand, so the ballast
    // grows as long as it has to.
    const limit = Math.ceil(process.memoryUsage().rss / MB) + 200;
    const manager = open({ max_memory_mb: limit, sample_interval: '20ms' });
    const taken = [];
    const ballast = [];
    manager.createBuffer('a', (items) => taken.push(...items)).push('kept safe');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(taken).toEqual([]);
    await until(() => {
      if (process.memoryUsage().rss / MB < limit) ballast.push(Buffer.alloc(8 * MB, 1));
      return taken.length > 0;
    }, 40);
    expect(taken).toEqual(['kept safe']);
    expect(manager.memoryMonitor.latest.domain).toBe('max_memory');
    expect(manager.memoryMonitor.latest.usage).toBeGreaterThan(0.9);
  });

  test('buffers that stand alone follow the pressure they are told', () => {
    const buffers = new BufferManager({ default_buffer_size: 100 });
    const items = buffers.createBuffer('a');
    for (let count = 0; count < 60; count++) items.push(count);
    expect(buffers.shouldFlushBuffer('a', 0.1)).toBe(false);
    expect(buffers.shouldFlushBuffer('a', 0.95)).toBe(true);
    expect(buffers.bufferStats.a.currentSize).toBeGreaterThanOrEqual(10);
    expect(buffers.flushBuffer('a')).toHaveLength(60);
    expect(buffers.shouldFlushBuffer('a', 1)).toBe(false);
    expect(typeof buffers.shouldFlushBuffer('a')).toBe('boolean');
  });
});

describe('sinks', () => {
  test('get the items of each flush', () => {
    const manager = open();
    const batches = [];
    const items = manager.createBuffer('a', (batch) => batches.push(batch));
    items.push(1, 2);
    expect(manager.flushBuffer('a')).toEqual([]);
    items.push(3);
    manager.flushBuffer('a');
    manager.flushBuffer('a');
    expect(batches).toEqual([[1, 2], [3]]);
    expect(manager.bufferManager.bufferStats.a).toMatchObject({ flushCount: 2, flushedItems: 3 });
  });

  test('one that throws loses nothing', () => {
    const manager = open();
    const taken = [];
    let isBroken = true;
    const items = manager.createBuffer('a', (batch) => {
      taken.push(batch.shift());
      if (isBroken) throw new Error('disk full');
      taken.push(...batch);
    });
    items.push(1, 2, 3);
    expect(thrown(() => manager.flushBuffer('a')).message).toBe('disk full');
    items.push(4);
    expect(items).toEqual([2, 3, 4]);
    expect(manager.bufferManager.bufferStats.a.flushedItems).toBe(1);
    isBroken = false;
    manager.flushBuffer('a');
    expect(taken).toEqual([1, 2, 3, 4]);
    expect(warned()).toEqual([]);
  });

  test('one that throws in a flush of our own is reported once', () => {
    const manager = open();
    setPressure(manager, false);
    const items = manager.createBuffer('a', () => { throw new Error('no route'); });
    items.push(1);
    setPressure(manager, true);
    setPressure(manager, true);
    expect(items).toEqual([1]);
    expect(warned()).toEqual([expect.stringContaining('no route')]);
  });

  test('one that flushes its own buffer', () => {
    const manager = open();
    const batches = [];
    const items = manager.createBuffer('a', (batch) => {
      items.push('more');
      expect(manager.flushBuffer('a')).toEqual([]);
      batches.push(batch);
    });
    items.push(1);
    manager.flushBuffer('a');
    expect([batches, items]).toEqual([[[1]], ['more']]);
    items.length = 0;
  });

  test('one that closes the manager', async () => {
    const manager = open();
    const batches = [];
    manager.createBuffer('a', (batch) => {
      batches.push(batch);
      manager.close();
    }).push(1);
    manager.flushBuffer('a');
    expect([batches, manager.isClosed]).toEqual([[[1]], true]);
  });

  test('large batches go back whole', () => {
    const manager = open();
    const items = manager.createBuffer('a', () => { throw new Error('no'); });
    for (let count = 0; count < 300000; count++) items.push(count);
    thrown(() => manager.flushBuffer('a'));
    expect([items.length, items[0], items[299999]]).toEqual([300000, 0, 299999]);
    items.length = 0;
  });
});

describe('asynchronous sinks', () => {
  /** A sink whose calls are settled by hand. */
  function manual() {
    const calls = [];
    const sink = (items) => new Promise((resolve, reject) => calls.push({ items, resolve, reject }));
    return { calls, sink };
  }

  test('flushes of one buffer follow each other', async () => {
    const manager = open();
    const { calls, sink } = manual();
    const items = manager.createBuffer('a', sink);
    items.push(1, 2);
    const first = manager.flushBuffer('a');
    items.push(3);
    const second = manager.flushBuffer('a');
    items.push(4);
    const third = manager.flushBuffer('a');
    expect(calls.map((call) => call.items)).toEqual([[1, 2]]);
    expect(second).toBe(third);
    calls[0].resolve();
    expect(await first).toEqual([]);
    await until(() => calls.length === 2);
    expect(calls[1].items).toEqual([3, 4]);
    calls[1].resolve();
    expect(await third).toEqual([]);
    expect(manager.bufferManager.bufferStats.a).toMatchObject({ flushCount: 2, flushedItems: 4 });
  });

  test('one that rejects loses nothing', async () => {
    const manager = open();
    const { calls, sink } = manual();
    const items = manager.createBuffer('a', sink);
    items.push(1, 2, 3);
    const flush = manager.flushBuffer('a');
    items.push(4);
    calls[0].items.shift();
    calls[0].reject(new Error('connection reset'));
    await expect(flush).rejects.toThrow('connection reset');
    expect(items).toEqual([2, 3, 4]);
    expect(warned()).toEqual([expect.stringContaining('connection reset')]);
    const again = manager.flushBuffer('a');
    expect(calls[1].items).toEqual([2, 3, 4]);
    calls[1].resolve();
    await again;
    expect(items).toEqual([]);
  });

  test('clean-up waits for them, and its callbacks come after', async () => {
    const manager = open();
    const order = [];
    const items = manager.createBuffer('a', async (batch) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push(batch);
    });
    manager.registerCleanupCallback(() => order.push('connection closed'));
    items.push(1);
    const cleaned = manager.cleanup();
    expect(manager.cleanup()).toBe(cleaned);
    expect(order).toEqual([]);
    await cleaned;
    expect(order).toEqual([[1], 'connection closed']);
    expect(manager.bufferManager.activeBuffers.a).toBeUndefined();
  });

  test('close() during one', async () => {
    const manager = open();
    const { calls, sink } = manual();
    manager.createBuffer('a', sink).push(1);
    const closed = manager.close();
    expect(thrown(() => manager.createBuffer('b')).code).toBe('ERR_MEMGUARD_CLOSED');
    calls[0].resolve();
    await closed;
    await manager.close();
    expect(calls.map((call) => call.items)).toEqual([[1]]);
  });
});

describe('the end of buffers', () => {
  test('cleanupBuffer() tells whether it is gone', async () => {
    const manager = open();
    const buffers = manager.bufferManager;
    const taken = [];
    const plain = manager.createBuffer('plain');
    plain.push(1);
    manager.createBuffer('sunk', (items) => taken.push(...items)).push(2);
    const broken = manager.createBuffer('broken', () => { throw new Error('no'); });
    broken.push(3);
    manager.createBuffer('later', async (items) => { taken.push(...items); }).push(4);
    expect(buffers.cleanupBuffer('no')).toBe(false);
    expect(buffers.cleanupBuffer('plain')).toBe(true);
    expect(warned()).toEqual(['buffer "plain" is gone: its 1 items stay in the array']);
    expect(plain).toEqual([1]);
    expect(buffers.cleanupBuffer('sunk')).toBe(true);
    expect(thrown(() => buffers.cleanupBuffer('broken')).message).toBe('no');
    expect(await buffers.cleanupBuffer('later')).toBe(true);
    expect(taken).toEqual([2, 4]);
    expect(buffers.activeBuffers).toEqual({ broken: [3] });
    expect(manager.createBuffer('plain')).not.toBe(plain);
    broken.length = 0;
  });

  test('cleanupAllBuffers() goes on after a failure', async () => {
    const manager = open();
    const buffers = manager.bufferManager;
    const taken = [];
    const broken = manager.createBuffer('broken', () => { throw new Error('no route'); });
    broken.push(1);
    manager.createBuffer('sunk', (items) => taken.push(...items)).push(2);
    await buffers.cleanupAllBuffers();
    expect([taken, Object.keys(buffers.activeBuffers)]).toEqual([[2], ['broken']]);
    expect(warned()).toEqual([expect.stringContaining('no route')]);
    await manager.close();
    expect(broken).toEqual([1]);
    expect(warned()[1]).toBe('buffer "broken" is gone: its 1 items stay in the array');
  });

  test('a sink that feeds its own buffer is served a bounded number of times', async () => {
    const manager = open();
    let calls = 0;
    const items = manager.createBuffer('a', () => items.push(++calls));
    items.push(0);
    expect(manager.bufferManager.cleanupBuffer('a')).toBe(false);
    expect(calls).toBe(10);
    let left = 3;
    const taken = [];
    const finite = manager.createBuffer('b', async (batch) => {
      taken.push(...batch);
      if (left-- > 0) finite.push(left);
    });
    finite.push('first');
    expect(await manager.bufferManager.cleanupBuffer('b')).toBe(true);
    expect(taken).toEqual(['first', 2, 1, 0]);
  });

  test('buffers that stand alone', async () => {
    const buffers = new BufferManager();
    const taken = [];
    buffers.createBuffer('a', async (items) => taken.push(...items)).push(1);
    await buffers.close();
    await buffers.close();
    expect(taken).toEqual([1]);
    expect(thrown(() => buffers.createBuffer('b')).code).toBe('ERR_MEMGUARD_CLOSED');
  });
});

describe('nothing is lost and nothing comes twice', () => {
  const BUFFERS = 8;
  const ITEMS = 1000000;

  /** Checks that items arrive in order: each buffer counts up from 0. */
  function ledger() {
    const expected = new Array(BUFFERS).fill(0);
    let wrong = 0;
    return {
      take(buffer, items) {
        for (const item of items) {
          if (item !== expected[buffer]) wrong++;
          expected[buffer] = item + 1;
        }
      },
      expected,
      get wrong() {
        return wrong;
      },
    };
  }

  test('1 000 000 items in each of 8 buffers, pressure toggling, sinks that fail', () => {
    const manager = open({ monitoring_interval: 1000 });
    const book = ledger();
    let failures = 0;
    const lists = Array.from({ length: BUFFERS }, (_, buffer) => {
      let calls = 0;
      return manager.createBuffer(`b${buffer}`, (items) => {
        if (++calls % 50 === 0) {
          book.take(buffer, items.splice(0, items.length >> 1));
          failures++;
          throw new Error('now and then');
        }
        book.take(buffer, items);
      });
    });
    const names = lists.map((_, buffer) => `b${buffer}`);
    for (let item = 0; item < ITEMS; item++) {
      if (item % 50000 === 0) setPressure(manager, (item / 50000) % 2 === 1);
      for (let buffer = 0; buffer < BUFFERS; buffer++) {
        lists[buffer].push(item);
        if (!manager.shouldFlushBuffer(names[buffer])) continue;
        try {
          manager.flushBuffer(names[buffer]);
        } catch {
          // What is left is in the buffer still.
        }
      }
    }
    for (const name of names) {
      while (manager.bufferManager.activeBuffers[name].length > 0) {
        try {
          manager.flushBuffer(name);
        } catch {
          // Again.
        }
      }
    }
    expect(failures).toBeGreaterThan(100);
    expect([book.wrong, book.expected]).toEqual([0, new Array(BUFFERS).fill(ITEMS)]);
  }, 120000);

  test('the same with asynchronous sinks', async () => {
    const manager = open({ monitoring_interval: 1000 });
    const book = ledger();
    let failures = 0;
    const lists = Array.from({ length: BUFFERS }, (_, buffer) => {
      let calls = 0;
      return manager.createBuffer(`b${buffer}`, async (items) => {
        const isBad = ++calls % 20 === 0;
        await new Promise(setImmediate);
        if (!isBad) {
          book.take(buffer, items);
          return;
        }
        failures++;
        book.take(buffer, items.splice(0, items.length >> 1));
        throw new Error('now and then');
      });
    });
    const names = lists.map((_, buffer) => `b${buffer}`);
    for (let item = 0; item < ITEMS; item++) {
      if (item % 50000 === 0) setPressure(manager, (item / 50000) % 2 === 1);
      for (let buffer = 0; buffer < BUFFERS; buffer++) {
        lists[buffer].push(item);
        if (manager.shouldFlushBuffer(names[buffer])) manager.flushBuffer(names[buffer]);
      }
      if (item % 2000 === 0) await new Promise(setImmediate);
    }
    for (const name of names) {
      while (manager.bufferManager.activeBuffers[name].length > 0) await Promise.allSettled([manager.flushBuffer(name)]);
    }
    await manager.cleanup();
    expect(failures).toBeGreaterThan(10);
    expect([book.wrong, book.expected]).toEqual([0, new Array(BUFFERS).fill(ITEMS)]);
  }, 120000);
});
