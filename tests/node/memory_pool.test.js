'use strict';

// MemoryPool and what it rents.
const { MemoryPool, PooledBuffer, ResourceManager, poolStats, sharedPool } = require('../..');
const { trimPools } = require('../../node/lib/caches');
const gc = require('../../node/lib/gc');
const life = require('../../node/lib/pool_life');
const { MB, runJson, thrown, until } = require('./helpers');

const pools = [];

function open(config = {}) {
  const pool = new MemoryPool({ leak_check: 'disabled', ...config }, { environment: false });
  pools.push(pool);
  return pool;
}

let clockMs = 1e9; // far ahead of the real one, which ticks meanwhile

/** A second passes. */
function tick() {
  clockMs += 1000;
  life.tick(clockMs);
}

afterEach(() => {
  for (const pool of pools.splice(0)) pool.close();
});

describe('renting', () => {
  test.each([
    [1, 64], [64, 64], [65, 128], [1000, 1024], [1025, 1152], [4096, 4096], [4097, 4608], [65536, 65536], [65537, 131072],
    [1048576, 1048576], [1048577, 1179648], [3000000, 3145728],
  ])('%d bytes', (bytes, capacity) => {
    const rental = open().rent(bytes);
    expect([rental.length, rental.capacity, rental.returned]).toEqual([bytes, capacity, false]);
    expect(Buffer.isBuffer(rental.buffer)).toBe(true);
    expect(rental.buffer).toHaveLength(bytes);
    rental.buffer.fill(7);
    expect(rental.buffer[bytes - 1]).toBe(7);
    rental.return();
    expect([rental.length, rental.capacity, rental.returned]).toEqual([0, 0, true]);
  });

  test('rentals never overlap', () => {
    const pool = open();
    const rentals = [];
    for (let round = 0; round < 300; round++) {
      const rental = pool.rent(1 + ((round * 997) % 9000));
      rental.buffer.fill(round % 251);
      rentals.push([rental, round % 251]);
      if (round % 3 === 0) rentals.splice((round * 7) % rentals.length, 1)[0][0].return();
    }
    for (const [rental, value] of rentals) expect(rental.buffer.every((byte) => byte === value)).toBe(true);
  });

  test('memory is used again, in another object', () => {
    const pool = open();
    const first = pool.rent(1000);
    const view = first.buffer;
    first.return();
    const second = pool.rent(1000);
    expect(second.buffer).toBe(view);
    expect(second).not.toBe(first);
    expect(thrown(() => first.return()).code).toBe('ERR_MEMGUARD_RETURNED');
    expect(second.returned).toBe(false);
    second.buffer.fill(1);
  });

  test('many, or none', () => {
    const pool = open();
    expect(pool.rentMany(0, 10)).toEqual([]);
    const rentals = pool.rentMany(100, 5000);
    expect(new Set(rentals.map(({ buffer }) => buffer.byteOffset + buffer.buffer.byteLength)).size).toBeGreaterThan(1);
    expect(pool.stats()).toMatchObject({ rented: 100, current: 100, currentBytes: 819200 });
    for (const rental of rentals) pool.return(rental);
    expect(thrown(() => pool.rentMany(2, 2 ** 40)).code).toBe('ERR_MEMGUARD_NO_MEMORY');
    expect(pool.stats()).toMatchObject({ current: 0, currentBytes: 0 });
  });

  test('10000 at once', () => {
    const pool = open();
    const rentals = Array.from({ length: 10000 }, (_, index) => pool.rent(1 + ((index * 31) % 20000)));
    for (const rental of rentals) rental.return();
    expect(pool.stats()).toMatchObject({ rented: 10000, returned: 10000, current: 0, currentBytes: 0, lost: 0 });
    expect(pool.findings()).toEqual([]);
  });

  test('an end by hand, or by using', () => {
    const pool = open();
    const [one, two, three] = pool.rentMany(3, 100);
    one.release();
    two.dispose();
    two.dispose();
    if (typeof Symbol.dispose === 'symbol') three[Symbol.dispose]();
    else three.return();
    expect(pool.stats()).toMatchObject({ returned: 3, doubleReturns: 0 });
  });

  test('an array for a batch', () => {
    const items = open().rentArray(100);
    items.push(1, 2);
    expect(Array.isArray(items)).toBe(true);
    expect(items.map((item) => 2 * item)).toEqual([2, 4]);
    items.return();
    expect([items.length, items.returned]).toEqual([0, true]);
    expect(thrown(() => items.return()).code).toBe('ERR_MEMGUARD_RETURNED');
  });
});

describe('what is refused', () => {
  test.each([
    [0, 'RANGE'], [-0, 'RANGE'], [-1, 'RANGE'], [2 ** 40 + 1, 'RANGE'], [Infinity, 'RANGE'], [-Infinity, 'RANGE'], [2 ** 40, 'NO_MEMORY'],
    [1.5, 'TYPE'], [NaN, 'TYPE'], ['5', 'TYPE'], [5n, 'TYPE'], [null, 'TYPE'], [undefined, 'TYPE'], [{}, 'TYPE'], [Symbol('s'), 'TYPE'],
  ])('rent(%p)', (bytes, code) => {
    const pool = open();
    for (const call of [() => pool.rent(bytes), () => pool.rentMemory(bytes), () => pool.rentMany(1, bytes)]) {
      expect(thrown(call).code).toBe(`ERR_MEMGUARD_${code}`);
    }
    expect(pool.stats()).toMatchObject({ rented: 0, current: 0 });
  });

  test('the error names what is allowed', () => {
    expect(thrown(() => open().rent(-1)).message).toBe('the size is -1, allowed: a whole number of 1 to 1099511627776 bytes');
    expect(thrown(() => open().rent(-1))).toBeInstanceOf(RangeError);
  });

  const ends = {
    return: (pool, rental) => rental.return(),
    release: (pool, rental) => rental.release(),
    'pool.return': (pool, rental) => pool.return(rental),
    dispose: (pool, rental) => rental.dispose(),
  };
  const firsts = Object.keys(ends);
  const kinds = firsts.flatMap((first) => firsts.slice(0, 3).flatMap((second) => [[first, second, false], [first, second, true]]));

  test('there are 24 kinds', () => expect(kinds).toHaveLength(24));

  test.each(kinds)('returned by %s, then by %s; rented between: %p', (first, second, isRented) => {
    for (const bytes of [100, 40000, 600000, 2000000]) {
      const pool = open();
      const rental = pool.rent(bytes);
      ends[first](pool, rental);
      const other = isRented ? pool.rent(bytes) : null;
      expect(thrown(() => ends[second](pool, rental)).code).toBe('ERR_MEMGUARD_RETURNED');
      expect(thrown(() => rental.buffer).code).toBe('ERR_MEMGUARD_RETURNED');
      expect(pool.stats()).toMatchObject({ doubleReturns: 1, rented: isRented ? 2 : 1, returned: 1 });
      expect(pool.findings()).toEqual([{ kind: 'double_return', count: 1, site: null, capacity: null, ageMs: 0 }]);
      expect(pool.findings()).toEqual([]);
      other?.return();
    }
  });

  test('to another pool', () => {
    const [one, other] = [open(), open()];
    const rental = one.rent(100);
    expect(thrown(() => other.return(rental)).code).toBe('ERR_MEMGUARD_FOREIGN');
    expect(other.findings()).toEqual([{ kind: 'foreign_return', count: 1, site: null, capacity: 128, ageMs: 0 }]);
    expect(rental.returned).toBe(false);
    one.return(rental);
    expect(thrown(() => other.return(rental)).code).toBe('ERR_MEMGUARD_FOREIGN');
    for (const value of [undefined, null, 5, {}, Buffer.alloc(5), Object.create(PooledBuffer.prototype)]) {
      expect(thrown(() => one.return(value)).code).toBe('ERR_MEMGUARD_TYPE');
    }
  });

  test('after close()', () => {
    const pool = open();
    const rentals = [pool.rent(100), pool.rent(2000000), pool.rent(100)];
    rentals[0].buffer.fill(5);
    pool.close();
    pool.close();
    for (const call of [
      () => pool.rent(100), () => pool.rent(2000000), () => pool.rentMany(1, 100), () => pool.rentWriter(), () => pool.rentArray(),
      () => pool.stats(), () => pool.findings(), () => pool.suspects(), () => pool.trim(), () => pool.updateConfig({}),
    ]) expect(thrown(call).code).toBe('ERR_MEMGUARD_CLOSED');
    expect(pool.closed).toBe(true);
    expect(rentals[0].buffer[99]).toBe(5);
    for (const rental of rentals) rental.return();
    expect(thrown(() => rentals[0].return()).code).toBe('ERR_MEMGUARD_RETURNED');
    expect(thrown(() => pool.rent(100)).code).toBe('ERR_MEMGUARD_CLOSED');
  });

  test.each([[-1, 'RANGE'], [1.5, 'RANGE'], [NaN, 'RANGE'], ['1', 'TYPE']])('trim(%p)', (share, code) => {
    expect(thrown(() => open().trim(share)).code).toBe(`ERR_MEMGUARD_${code}`);
  });

  test('settings', () => {
    expect(thrown(() => new MemoryPool({ leak_check: 'loud' })).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => new MemoryPool({ max_pool_mb: 0 })).code).toBe('ERR_MEMGUARD_RANGE');
    const pool = open();
    expect(thrown(() => pool.updateConfig({ max_pool_mb: -1 })).code).toBe('ERR_MEMGUARD_RANGE');
    expect(pool.config.maxPoolMb).toBe(1024);
  });

  test('a transferred ArrayBuffer harms no one else', () => {
    const pool = open();
    const [one, other] = pool.rentMany(2, 100);
    structuredClone(one.buffer.buffer, { transfer: [one.buffer.buffer] });
    for (const rental of [one, other]) expect(thrown(() => rental.buffer).code).toBe('ERR_MEMGUARD_CONFLICT');
    one.return();
    other.return();
    const rentals = pool.rentMany(50, 100);
    for (const rental of rentals) expect(rental.buffer).toHaveLength(100);
    for (const rental of rentals) rental.return();
    expect(pool.stats()).toMatchObject({ current: 0, rented: 52 });
  });
});

describe('size', () => {
  test('nothing grows past max_pool_mb', () => {
    const pool = open({ max_pool_mb: 1 });
    const rentals = pool.rentMany(64, 65536);
    expect(pool.stats()).toMatchObject({ rented: 64, current: 64, currentBytes: 4 * MB, heldBytes: MB, plain: 48 });
    for (const rental of rentals) rental.buffer.fill(1);
    for (const rental of rentals) rental.return();
    expect(pool.stats()).toMatchObject({ current: 0, currentBytes: 0, heldBytes: MB, idleBytes: MB });
    pool.updateConfig({ max_pool_mb: 2 });
    expect(pool.rent(2000000).capacity).toBe(2000000);
    expect(pool.stats().plain).toBe(49);
  });

  test('switched off it allocates plainly, with the same checks', () => {
    const pool = open({ pool_enabled: false });
    expect(pool.enabled).toBe(false);
    for (const bytes of [10, 5000, 100000, 2000000]) {
      const rental = pool.rent(bytes);
      expect([rental.length, rental.capacity]).toEqual([bytes, bytes]);
      rental.buffer.fill(1);
      rental.return();
      expect(thrown(() => rental.return()).code).toBe('ERR_MEMGUARD_RETURNED');
    }
    expect(pool.stats()).toMatchObject({ rented: 4, returned: 4, plain: 4, heldBytes: 0, givenBackBytes: 2105010, doubleReturns: 4 });
    pool.updateConfig({ pool_enabled: true });
    pool.rent(10).return();
    expect(pool.stats()).toMatchObject({ plain: 4, heldBytes: 65536 });
    const [one, two] = pool.rentMany(2, 10);
    one.return();
    pool.updateConfig({ pool_enabled: false });
    expect(pool.stats()).toMatchObject({ heldBytes: 65536, idleBytes: 0, current: 1 });
    two.return();
    expect(pool.stats()).toMatchObject({ heldBytes: 0, idleBytes: 0, current: 0 });
  });

  test('huge ones are kept up to huge_cache_mb', () => {
    const pool = open({ huge_cache_mb: 4 });
    const rentals = pool.rentMany(3, 2 * MB);
    for (const rental of rentals) rental.return();
    expect(pool.stats()).toMatchObject({ heldBytes: 4 * MB, idleBytes: 4 * MB, givenBackBytes: 2 * MB });
    pool.rent(2 * MB - 5).return();
    expect(pool.stats()).toMatchObject({ rented: 4, returned: 4, cacheHits: 1 });
    thrown(() => pool.rent(2 ** 40));
    expect(pool.stats()).toMatchObject({ rented: 4, cacheHits: 1, plain: 0 });
  });

  test('trim() gives idle memory up, and only that', () => {
    const pool = open();
    const rental = pool.rent(65536);
    for (const other of pool.rentMany(64, 65536)) other.return();
    expect(pool.trim(0)).toBe(0);
    expect(pool.trim(0.5)).toBe(9 * 262144);
    expect(pool.trim()).toBe(7 * 262144);
    expect(pool.stats()).toMatchObject({ heldBytes: 262144, givenBackBytes: 16 * 262144, current: 1 });
    expect(rental.buffer).toHaveLength(65536);
    rental.return();
    expect(pool.trim()).toBe(262144);
    expect(pool.stats().heldBytes).toBe(0);
  });

  test('each tick gives up half of what nobody needed', () => {
    const pool = open();
    for (const rental of pool.rentMany(64, 65536)) rental.return();
    tick(); // there was a moment without an idle one
    expect(pool.stats().idleBytes).toBe(4 * MB);
    const idle = [];
    for (let count = 0; count < 6; count++) {
      tick();
      idle.push(pool.stats().idleBytes / 65536);
    }
    expect(idle).toEqual([32, 16, 8, 4, 0, 0]);
    expect(pool.stats().heldBytes).toBe(0);
  });

  test('what is used stays', () => {
    const pool = open();
    for (let count = 0; count < 5; count++) {
      for (const rental of pool.rentMany(64, 65536)) rental.return();
      tick();
    }
    expect(pool.stats()).toMatchObject({ heldBytes: 4 * MB, givenBackBytes: 0 });
  });

  test('memory pressure of an engine trims it', () => {
    const pool = open();
    for (const rental of pool.rentMany(16, 65536)) rental.return();
    expect(poolStats().some(({ name }) => name === 'MemoryPool')).toBe(true);
    expect(trimPools(1)).toBeGreaterThanOrEqual(16);
    expect(pool.stats().heldBytes).toBe(0);
  });

  test('levels', () => {
    const pool = open({ thread_cache_mb: 1 });
    const core = { values: [] };
    const { at } = require('../../node/lib/sample');
    const idleAt = (level) => {
      core.values[at.level] = level;
      life.press();
      for (const rental of pool.rentMany(64, 65536)) rental.return();
      return pool.stats().idleBytes / 65536;
    };
    life.follow(core);
    try {
      expect(idleAt(0)).toBe(64);
      expect(idleAt(1)).toBe(8); // half of thread_cache_mb
      expect(idleAt(2)).toBe(4);
      expect(pool.stats().plain).toBe(0);
      expect(idleAt(3)).toBe(0);
      expect(pool.stats()).toMatchObject({ plain: 64, heldBytes: 0 });
    } finally {
      life.unfollow(core);
    }
    expect(idleAt(3)).toBe(64); // it is followed no more
    expect(pool.stats().plain).toBe(64);
  });
});

describe('what is found', () => {
  let warnings;

  beforeEach(() => {
    warnings = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  });

  afterEach(() => warnings.mockRestore());

  function collectUntil(condition) {
    gc.canCollect();
    return until(() => {
      gc.collect();
      return condition();
    });
  }

  function forget(pool, count, bytes) {
    for (let index = 0; index < count; index++) pool.rent(bytes).buffer.fill(1);
  }

  test.each([100, 4096, 65536, 600000, 2000000])('forgotten ones of %d bytes', async (bytes) => {
    const pool = open({ leak_check: 'paranoid' });
    forget(pool, 3, bytes);
    await collectUntil(() => pool.stats().lost === 3);
    expect(pool.stats()).toMatchObject({ rented: 3, returned: 0, current: 0, currentBytes: 0, sitesKept: 0 });
    const [found, ...others] = pool.findings();
    expect(others).toEqual([]);
    expect(found).toMatchObject({ kind: 'lost', count: 3, capacity: pool.rent(bytes).capacity });
    expect(found.site[0]).toMatch(/memory_pool\.test\.js:\d+:\d+\)$/);
  });

  test('a place is logged once, for all pools', async () => {
    const both = [open({ leak_check: 'paranoid' }), open({ leak_check: 'paranoid' })];
    (() => {
      for (const pool of [...both, ...both]) pool.rent(700);
    })();
    await collectUntil(() => both.every((pool) => pool.stats().lost === 2));
    const [{ site }] = both[0].findings();
    const texts = warnings.mock.calls.map(([text]) => text).filter((text) => text.endsWith(site[0]));
    expect(texts).toEqual([`a buffer of 1024 bytes was never returned to its pool; it was rented at ${site[0]}`]);
  });

  test('the memory of forgotten ones comes back', async () => {
    const pool = open();
    for (let round = 0; round < 4; round++) forget(pool, 16, 65536);
    await collectUntil(() => pool.stats().lost === 64);
    expect(pool.stats()).toMatchObject({ heldBytes: 0, current: 0 });
    expect(pool.findings()).toMatchObject([{ kind: 'lost', count: 64, site: null, capacity: 65536 }]);
  });

  test('of a forgotten one that is still looked at nothing is used again', async () => {
    const pool = open();
    const views = Array.from({ length: 20 }, () => pool.rent(4096).buffer.fill(9).subarray(1));
    await collectUntil(() => pool.stats().lost === 20);
    const rentals = pool.rentMany(200, 4096);
    for (const rental of rentals) rental.buffer.fill(1);
    for (const rental of rentals) rental.return();
    pool.trim();
    tick();
    expect(views.every((view) => view.length === 4095 && view.every((byte) => byte === 9))).toBe(true);
  });

  test('what is returned, closed or dropped is not lost', async () => {
    const pool = open({ leak_check: 'paranoid' });
    for (const rental of pool.rentMany(100, 1000)) rental.return();
    pool.trim();
    const dropped = Array.from({ length: 3 }, () => new WeakRef(new MemoryPool()));
    for (const reference of dropped) reference.deref().rent(100).return();
    await new Promise(setImmediate);
    for (let count = 0; count < 3; count++) tick();
    await collectUntil(() => dropped.every((reference) => reference.deref() === undefined));
    expect(pool.stats().lost).toBe(0);
    expect(pool.findings()).toEqual([]);
  });

  test('writing after the return', () => {
    const pool = open({ leak_check: 'paranoid' });
    for (const [bytes, at] of [[100, 50], [5000, 0], [4096, 4095]]) {
      const rental = pool.rent(bytes);
      const kept = rental.buffer;
      rental.return();
      kept[at] = 1;
    }
    const clean = pool.rent(3000);
    clean.return();
    tick();
    expect(pool.stats().writesAfterReturn).toBe(3);
    expect(pool.findings().map(({ kind, capacity, count }) => [kind, capacity, count])).toEqual([
      ['write_after_return', 128, 1], ['write_after_return', 8192, 1], ['write_after_return', 4096, 1],
    ]);
    expect(pool.stats()).toMatchObject({ current: 0, sitesKept: 0 });
  });

  test('advanced takes the memory of some away', () => {
    const pool = open({ leak_check: 'advanced' });
    let empty = 0;
    for (let count = 0; count < 20000; count++) {
      const rental = pool.rent(256);
      const kept = rental.buffer;
      if (kept.length !== 256) throw new Error('short');
      rental.return();
      if (kept.length === 0) empty++;
    }
    expect(empty).toBeGreaterThan(0);
    expect(empty).toBeLessThan(50);
    expect(pool.stats()).toMatchObject({ rented: 20000, returned: 20000, current: 0, lost: 0 });
  });

  test('suspects', () => {
    const pool = open({ leak_check: 'simple', suspect_after: 60 });
    pool.rent(100).return(); // its clock goes from now on
    tick();
    const small = pool.rent(100);
    // One in 128 small rentals has its place noted, and then none has for a millisecond.
    for (const end = performance.now() + 2; performance.now() < end; );
    const large = pool.rent(600000);
    expect(pool.suspects()).toEqual([]);
    for (let count = 0; count < 60; count++) tick();
    const found = pool.suspects();
    expect(found).toMatchObject([
      { kind: 'suspected', count: 1, capacity: 128, ageMs: 60000 }, { kind: 'suspected', capacity: 1048576, ageMs: 60000 },
    ]);
    expect(found[1].site[0]).toContain('memory_pool.test.js:');
    expect(pool.stats()).toMatchObject({ suspected: 2, withdrawn: 0 });
    small.return();
    expect(pool.suspects()).toHaveLength(1);
    large.return();
    expect(pool.suspects()).toEqual([]);
    expect(pool.stats()).toMatchObject({ suspected: 0, withdrawn: 2, sitesKept: 0 });
    expect(pool.findings()).toEqual([]);
  });

  test('findings are bounded', () => {
    const pool = open();
    const other = open();
    const sizes = Array.from({ length: 100 }, (_, index) => 1048577 + 131072 * index);
    for (const bytes of sizes) thrown(() => pool.return(other.rent(bytes)));
    expect(pool.stats()).toMatchObject({ foreignReturns: 100 });
    expect(pool.findings().length + pool.stats().findingsLost).toBeLessThanOrEqual(100);
    expect(pool.findings()).toEqual([]);
  });
});

describe('whose pool it is', () => {
  test('shared', () => {
    const pool = sharedPool();
    expect(sharedPool()).toBe(pool);
    pool.close();
    const next = sharedPool();
    expect(next).not.toBe(pool);
    next.rent(10).return();
    next.close();
  });

  test("a manager's", async () => {
    const manager = new ResourceManager({ max_pool_mb: 5 });
    const { pool } = manager;
    expect(manager.pool).toBe(pool);
    expect(pool.config.maxPoolMb).toBe(5);
    manager.updateConfig({ max_pool_mb: 7, leak_check: 'paranoid' });
    expect(pool.config).toEqual({ poolEnabled: true, maxPoolMb: 7, threadCacheMb: 0.25, hugeCacheMb: 64, leakCheck: 3, suspectAfter: 300 });
    const rental = pool.rent(100);
    await manager.close();
    expect(pool.closed).toBe(true);
    rental.return();
    expect(thrown(() => manager.pool).code).toBe('ERR_MEMGUARD_CLOSED');
  });
});

test('under pressure a pool allocates plainly, and comes back', async () => {
  const manager = new ResourceManager({ max_memory_mb: 16, enable_auto_gc: false, sample_interval: '10ms', leak_check: 'disabled' });
  const pool = open();
  try {
    await until(() => manager.memoryMonitor.latest?.level === 'critical');
    for (const one of [pool, manager.pool]) {
      one.rent(1000).return();
      expect(one.stats()).toMatchObject({ plain: 1, heldBytes: 0, idleBytes: 0 });
    }
    manager.updateConfig({ max_memory_mb: '16TB' });
    await until(() => {
      manager.getMemoryPressure();
      pool.rent(1000).return();
      return pool.stats().heldBytes > 0;
    }, 40);
  } finally {
    await manager.close();
  }
});

describe('processes', () => {
  test('after a burst the memory comes back', async () => {
    for (const { size, start, peak, end } of await runJson('pool_burst.js', [], { seconds: 170 })) {
      expect([size, peak - start > 700 * MB]).toEqual([size, true]);
      expect([size, end < 1.1 * start]).toEqual([size, true]);
    }
  }, 180000);

  test('200 Workers, ended in all ways', async () => {
    expect(await runJson('pool_workers.js', [], { seconds: 150 })).toEqual({ ended: 200, errors: [] });
  }, 160000);
});
