'use strict';

// Registered caches: what goes first, how much, and what goes wrong.
const fs = require('fs');
const path = require('path');
const { LRUCache } = require('lru-cache');
const { ResourceManager, cacheStats, poolStats, registerCache, registerPool } = require('../..');
const { budget, shrink, trimPools } = require('../../node/lib/caches');
const { runJson, thrown, until } = require('./helpers');

const file = path.join(__dirname, '..', 'vectors', 'caches.json');
const { rows } = JSON.parse(fs.readFileSync(file, 'utf8'));
const registrations = [];

function register(cache, options) {
  const registration = registerCache(cache, options);
  registrations.push(registration);
  return registration;
}

function filled(entries) {
  return new Map(Array.from({ length: entries }, (_, index) => [index, String(index)]));
}

async function warnings(body) {
  const emit = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  try {
    await body();
    return emit.mock.calls.map(([text]) => text);
  } finally {
    emit.mockRestore();
  }
}

beforeEach(() => {
  budget.ms = 60000; // one call does it all, however slow the machine is now
});

afterEach(() => {
  for (const registration of registrations.splice(0)) registration.unregister();
  expect(cacheStats()).toEqual([]);
  expect(poolStats()).toEqual([]);
});

describe('caches.json', () => {
  test.each(rows.map((row) => [row.name, row]))('%s', (_, row) => {
    const cache = filled(row.entries);
    const registration = register(cache, { minEntries: row.min_entries });
    let total = 0;
    for (const [share, dropped] of row.steps) {
      expect(shrink(share)).toBe(dropped);
      total += dropped;
    }
    expect(registration.getStats()).toMatchObject({ dropped: total, entries: cache.size });
  });
});

describe('kinds', () => {
  test('a Map loses its oldest insertions', () => {
    const cache = filled(100);
    const told = [];
    register(cache, { onEvict: (key, value) => told.push(key, value) });
    expect(shrink(0.25)).toBe(25);
    expect([...cache.keys()][0]).toBe(25);
    expect(told.slice(0, 4)).toEqual([0, '0', 1, '1']);
    expect(told).toHaveLength(50);
  });

  test('a Set loses its oldest members', () => {
    const cache = new Set([1, 2, 3, 4]);
    const told = [];
    register(cache, { onEvict: (member, again) => told.push([member, again]) });
    expect(shrink(0.5)).toBe(2);
    expect([...cache]).toEqual([3, 4]);
    expect(told).toEqual([[1, 1], [2, 2]]);
  });

  test.each([['plain', {}], ['without a prototype', Object.create(null)]])('an object, %s', (_, cache) => {
    Object.assign(cache, { a: 1, b: 2, c: 3, d: 4 });
    const told = [];
    const registration = register(cache, { name: 'prices', onEvict: (key, value) => told.push([key, value]) });
    expect(shrink(0.5)).toBe(2);
    expect(Object.keys(cache)).toEqual(['c', 'd']);
    expect(told).toEqual([['a', 1], ['b', 2]]);
    expect(registration.getStats()).toEqual({ name: 'prices', entries: 2, shrinks: 1, dropped: 2, failures: 0 });
  });

  test.each([[false], [true]])('lru-cache evicts by its own policy (onEvict: %s)', (hasOnEvict) => {
    const disposed = [];
    const told = [];
    const cache = new LRUCache({ max: 10, dispose: (value, key) => disposed.push(key) });
    for (let key = 0; key < 10; key++) cache.set(key, `v${key}`);
    for (const used of [0, 1, 2]) cache.get(used);
    register(cache, hasOnEvict ? { onEvict: (key, value) => told.push([key, value]) } : {});
    expect(shrink(0.5)).toBe(5);
    expect([...cache.keys()].sort()).toEqual([0, 1, 2, 8, 9]);
    expect(disposed).toEqual([3, 4, 5, 6, 7]);
    expect(told).toEqual(hasOnEvict ? [[3, 'v3'], [4, 'v4'], [5, 'v5'], [6, 'v6'], [7, 'v7']] : []);
  });

  test('an object with shrink(), a function, an asynchronous one', async () => {
    const shares = [];
    const told = { shrink: (share) => shares.push(share) && 7 };
    const seen = { size: 10, shrink() { this.size -= 3; } };
    const measured = { items: 10, shrink() { this.items -= 2; } };
    const late = { shrink: async () => 5 };
    register(told);
    register(seen);
    register(measured, { sizeOf: (cache) => cache.items });
    const registration = register(late);
    register((share) => { shares.push(share); });
    expect(shrink(0.25)).toBe(12);
    expect(shares).toEqual([0.25, 0.25]);
    await until(() => registration.getStats().dropped === 5);
  });
});

describe('slices', () => {
  test('a large cache is shrunk call by call', () => {
    budget.ms = 0;
    const [one, two] = [filled(1000), filled(1000)];
    register(one);
    register(two);
    expect(Array.from({ length: 4 }, () => shrink(0.5))).toEqual([256, 256, 244, 244]);
    expect([one.size, two.size, one.keys().next().value]).toEqual([500, 500, 500]);
  });

  test('more pressure changes an unfinished goal', () => {
    budget.ms = 0;
    const cache = filled(1000);
    register(cache);
    expect(shrink(0.5)).toBe(256);
    while (shrink(1) > 0);
    expect(cache.size).toBe(0);
  });
});

describe('life', () => {
  test('a dead cache leaves by itself, with its statistics; a function stays', async () => {
    expect(await runJson('cache_life.js', [], { flags: ['--expose-gc'] })).toEqual({
      before: ['kept', 'Map', 'lru', 'pool'], after: ['kept'],
    });
  });

  test('registered twice and again', () => {
    const cache = filled(1);
    const first = register(cache, { name: 'prices' });
    expect(thrown(() => registerCache(cache)).code).toBe('ERR_MEMGUARD_EXISTS');
    first.unregister();
    first.unregister();
    expect(shrink(1)).toBe(0);
    expect(first.getStats().entries).toBe(null);
    register(cache);
    expect(shrink(1)).toBe(1);
  });

  test('a manager unregisters at clean-up', async () => {
    const manager = new ResourceManager({ enabled: false });
    const [mine, other] = [filled(2), filled(2)];
    manager.registerCache(mine, { name: 'mine', minEntries: 1 });
    register(other, { name: 'other' });
    expect(cacheStats().map(({ name }) => name)).toEqual(['mine', 'other']);
    await manager.cleanup();
    expect(cacheStats().map(({ name }) => name)).toEqual(['other']);
    await manager.close();
    expect(thrown(() => manager.registerCache(mine)).code).toBe('ERR_MEMGUARD_CLOSED');
  });
});

describe('failures', () => {
  test('a cache that throws is told once and others go on', async () => {
    const broken = { shrink() { throw new Error('broken'); } };
    const late = { shrink: async () => { throw new Error('late'); } };
    const good = filled(4);
    const registration = register(broken, { name: 'broken' });
    const lateRegistration = register(late, { name: 'late' });
    register(good);
    const texts = await warnings(async () => {
      expect([shrink(0.5), shrink(0.5)]).toEqual([2, 1]);
      await until(() => lateRegistration.getStats().failures === 2);
    });
    expect(registration.getStats().failures).toBe(2);
    expect(texts).toEqual([
      'shrinking of cache "broken" failed: broken (further failures of it are not reported)',
      'shrinking of cache "late" failed: late (further failures of it are not reported)',
    ]);
  });

  test('an onEvict that throws stops nothing', async () => {
    const registration = register(filled(4), { name: 'x', onEvict: () => { throw new Error('told'); } });
    const texts = await warnings(() => {
      expect(shrink(1)).toBe(4);
    });
    expect(registration.getStats()).toMatchObject({ failures: 4, dropped: 4 });
    expect(texts).toEqual(['onEvict of "x" failed: told (further failures of it are not reported)']);
  });

  test('an onEvict that fills the cache again, and shrinks', () => {
    const cache = filled(4);
    const nested = [];
    register(cache, {
      onEvict: (key) => {
        cache.set(`again ${key}`, 1);
        nested.push(shrink(1));
      },
    });
    expect(shrink(1)).toBe(4);
    expect(nested).toEqual([0, 0, 0, 0]);
    expect([...cache.keys()]).toEqual(['again 0', 'again 1', 'again 2', 'again 3']);
  });
});

describe('bad input', () => {
  test.each([
    [5, {}, 'TYPE', 'a cache must be a Map, a Set'],
    [null, {}, 'TYPE', 'not null'],
    [[1], {}, 'TYPE', 'not an array'],
    [new WeakMap(), {}, 'TYPE', 'not an object'],
    [new Map(), { name: 5 }, 'TYPE', 'the name of a cache must be a string'],
    [new Map(), { minEntries: -1 }, 'RANGE', 'minEntries is -1'],
    [new Map(), { minEntries: 1.5 }, 'RANGE', 'minEntries is 1.5, allowed: a whole number'],
    [new Map(), { onEvict: 1 }, 'TYPE', 'onEvict must be a function'],
    [new Map(), { sizeOf: () => 1 }, 'INVALID', 'sizeOf is of no use'],
    [() => 1, { onEvict: () => 1 }, 'INVALID', 'onEvict is of no use'],
  ])('%p %p', (cache, options, code, text) => {
    const error = thrown(() => registerCache(cache, options));
    expect(error.code).toBe(`ERR_MEMGUARD_${code}`);
    expect(error.message).toContain(text);
  });

  test.each([[0], [-1], [1.5], [NaN], [undefined]])('a share of %p drops nothing', (share) => {
    register(filled(4));
    expect(shrink(share)).toBe(0);
  });
});

describe('pools', () => {
  class AnyPool {
    idle = 8;

    getStats() {
      return { active: 3, idle: this.idle, more: 1 };
    }
  }

  test('any pool', () => {
    const pool = new AnyPool();
    registrations.push(registerPool(pool, {
      name: 'db',
      trim(share) {
        this.idle -= this.idle * share;
      },
    }));
    expect(shrink(0.5)).toBe(0);
    expect(trimPools(0.5)).toBe(4);
    expect(cacheStats()).toEqual([]);
    expect(poolStats()).toEqual([{ name: 'db', active: 3, idle: 4, shrinks: 1, dropped: 4, failures: 0 }]);
    pool.idle = 0;
    expect(trimPools(1)).toBe(0);
  });

  test('one that trims itself, later', async () => {
    const pool = { trim: async (share) => 100 * share };
    const registration = registerPool(pool);
    registrations.push(registration);
    expect(trimPools(0.25)).toBe(0);
    await until(() => registration.getStats().dropped === 25);
    expect(registration.getStats()).toMatchObject({ active: null, idle: null });
    expect(registration.isPool).toBe(true);
  });

  test.each([
    [{}, {}, 'trim, or trim() of the pool, must be a function'],
    [{}, { trim: 5 }, 'trim must be a function'],
    [null, {}, 'a pool must be an object, not null'],
  ])('%p %p', (pool, options, text) => {
    const error = thrown(() => registerPool(pool, options));
    expect(error.code).toBe('ERR_MEMGUARD_TYPE');
    expect(error.message).toContain(text);
  });
});
