'use strict';

// ReusePool, IndicatorCache and RingBuffer.
const fs = require('fs');
const path = require('path');
const { IndicatorCache, ReusePool, RingBuffer, poolStats } = require('../..');
const { budget, shrink, trimPools } = require('../../node/lib/caches');
const { thrown } = require('./helpers');

budget.ms = 60000; // one call does it all, however slow the machine is now

function rowsOf(name) {
  const { rows } = JSON.parse(fs.readFileSync(path.join(__dirname, '..', 'vectors', name), 'utf8'));
  if (rows.length === 0) throw new Error(`${name} has no rows`);
  return rows.map((row) => [row.name, row]);
}

describe('ReusePool', () => {
  const pools = [];

  function open(...values) {
    const pool = new ReusePool(...values);
    pools.push(pool);
    return pool;
  }

  afterEach(() => {
    for (const pool of pools.splice(0)) pool.close();
  });

  test('objects come back clean', () => {
    const pool = open(() => Buffer.alloc(8), { reset: (item) => item.fill(0) });
    const [first, second] = [pool.acquire(), pool.acquire()];
    second[0] = 5;
    pool.release(first);
    pool.release(second);
    expect(pool.acquire()).toBe(second);
    expect(second[0]).toBe(0);
    expect(pool.using((item) => item === first)).toBe(true);
    expect(pool.getStats()).toEqual({
      active: 1, idle: 1, max: 64, created: 2, acquired: 4, released: 3, dropped: 0,
    });
  });

  test('no more than maxSize are kept', () => {
    const pool = open(() => [], { maxSize: 2 });
    const items = Array.from({ length: 5 }, () => pool.acquire());
    for (const item of items) pool.release(item);
    expect(pool.getStats()).toMatchObject({ idle: 2, dropped: 3, active: 0 });
    expect(pool.trim(0.5)).toBe(1);
    expect(pool.acquire()).toBe(items[1]);
  });

  test('released twice', () => {
    const pool = open(() => []);
    const item = pool.acquire();
    pool.release(item);
    expect(thrown(() => pool.release(item)).code).toBe('ERR_MEMGUARD_CONFLICT');
    expect(pool.getStats().idle).toBe(1);
  });

  test('a reset that throws lets the object go', () => {
    const emit = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const pool = open(() => ({}), { reset: (item) => item.missing.gone });
    for (let round = 0; round < 3; round++) pool.release(pool.acquire());
    const texts = emit.mock.calls.map(([text]) => text);
    emit.mockRestore();
    expect(pool.getStats()).toMatchObject({ idle: 0, dropped: 3 });
    expect(texts).toHaveLength(1);
    expect(texts[0]).toMatch(/^reset of a ReusePool failed: /);
  });

  test('an object comes back from a body that throws or rejects', async () => {
    const pool = open(() => []);
    expect(thrown(() => pool.using(() => { throw new Error('now'); })).message).toBe('now');
    await expect(pool.using(async () => { throw new Error('later'); })).rejects.toThrow('later');
    expect(await pool.using(async (item) => item.length)).toBe(0);
    expect(pool.getStats()).toMatchObject({ idle: 1, active: 0, acquired: 3 });
  });

  test('pressure trims it', () => {
    const pool = open(() => ({}), { name: 'frames' });
    const items = Array.from({ length: 8 }, () => pool.acquire());
    for (const item of items) pool.release(item);
    expect(trimPools(0.25)).toBe(2);
    expect(pool.acquire()).toBe(items[7]);
    expect(poolStats()[0]).toMatchObject({ name: 'frames', idle: 5, active: 1, dropped: 2 });
  });

  test('a closed one lets go', () => {
    const pool = open(() => ({}));
    const [item, other] = [pool.acquire(), pool.acquire()];
    pool.release(item);
    pool.close();
    pool.close();
    pool.release(other);
    expect(pool.getStats().idle).toBe(0);
    expect(thrown(() => pool.acquire()).code).toBe('ERR_MEMGUARD_CLOSED');
    expect(poolStats()).toEqual([]);
  });

  test.each([
    [[5], 'TYPE', 'factory must be a function, not a number'],
    [[() => 1, { reset: 5 }], 'TYPE', 'reset must be a function'],
    [[() => 1, { maxSize: -1 }], 'RANGE', 'maxSize is -1'],
    [[() => 1, { maxSize: '2' }], 'TYPE', 'maxSize must be a number'],
  ])('bad input %#', (values, code, text) => {
    const error = thrown(() => new ReusePool(...values));
    expect(error.code).toBe(`ERR_MEMGUARD_${code}`);
    expect(error.message).toContain(text);
  });
});

describe('IndicatorCache', () => {
  test('a value is computed once', () => {
    const cache = new IndicatorCache();
    let computed = 0;
    for (const params of [{ fast: 12, slow: 26 }, { slow: 26, fast: 12 }]) {
      const key = IndicatorCache.makeKey('BTC', '1m', 'macd', params, 1700000000);
      expect(cache.getOrCompute(key, () => ++computed)).toBe(1);
      expect(cache.has(key)).toBe(true);
    }
    expect(cache.getStats()).toEqual({
      entries: 1, maxEntries: 1000, hits: 1, misses: 1, hitRatio: 0.5, evicted: 0, dropped: 0,
    });
  });

  test('undefined is a value too', () => {
    const cache = new IndicatorCache();
    let computed = 0;
    for (let round = 0; round < 3; round++) cache.getOrCompute('a', () => { computed++; });
    expect(computed).toBe(1);
  });

  test('the least recently used goes first', () => {
    const cache = new IndicatorCache({ maxEntries: 3 });
    const there = () => ['a', 'b', 'c', 'd'].filter((key) => cache.has(key));
    for (const key of ['a', 'b', 'c', 'a', 'd']) cache.getOrCompute(key, () => 1);
    expect(there()).toEqual(['a', 'c', 'd']);
    cache.getOrCompute('a', () => 1);
    expect(shrink(0.5)).toBeGreaterThanOrEqual(2); // caches of other tests may be alive
    expect(there()).toEqual(['a']);
    expect(cache.getStats()).toMatchObject({ evicted: 1, dropped: 2, entries: 1 });
    cache.clear();
    expect(cache.size).toBe(0);
  });

  test('a promise is shared, and forgotten if it rejects', async () => {
    const cache = new IndicatorCache();
    let computed = 0;
    const compute = async () => {
      computed++;
      if (computed === 1) throw new Error('first');
      return computed;
    };
    const [one, two] = [cache.getOrCompute('a', compute), cache.getOrCompute('a', compute)];
    expect(one).toBe(two);
    await expect(one).rejects.toThrow('first');
    expect(await cache.getOrCompute('a', compute)).toBe(2);
    expect(await cache.getOrCompute('a', compute)).toBe(2);
  });

  test('a computation that throws leaves no entry', () => {
    const cache = new IndicatorCache();
    expect(thrown(() => cache.getOrCompute('a', () => { throw new Error('no'); })).message).toBe('no');
    expect(cache.getOrCompute('a', () => 2)).toBe(2);
  });

  describe('keys.json', () => {
    test.each(rowsOf('keys.json'))('%s', (_, row) => {
      const same = IndicatorCache.makeKey(...row.one) === IndicatorCache.makeKey(...row.other);
      expect(same).toBe(row.same);
    });
  });

  test.each([['text'], [5], [0.5], [Infinity], [null], [true], [5n], [new Date(5)], [['a', 1]], [{ a: { b: [1] } }]])(
    'metadata: %p',
    (value) => {
      const key = IndicatorCache.makeKey('s', '1m', 'ema', [value]);
      expect(key).toBe(IndicatorCache.makeKey('s', '1m', 'ema', [value]));
      expect(key).not.toBe(IndicatorCache.makeKey('s', '1m', 'ema', ['other']));
    },
  );

  class Frame {}

  test.each([
    [['s', '1m', 'ema', { prices: new Float64Array(3) }], 'TYPE', 'params.prices is a Float64Array, allowed in a key: text'],
    [[Buffer.alloc(3)], 'TYPE', 'symbol is a Buffer'],
    [['s', '1m', 'ema', [1, new Frame()]], 'TYPE', 'params[1] is a Frame'],
    [['s', '1m', 'ema', new Array(65).fill(1)], 'TYPE', 'params is a Array'],
    [['s', new Set([1])], 'TYPE', 'timeframe is a Set'],
    [['s', '1m', () => 1], 'TYPE', 'indicator is a function'],
    [['s', '1m', 'ema', { p: NaN }], 'INVALID', 'params.p is NaN, which is equal to nothing'],
    [['s', '1m', 'ema', null, new Date(NaN)], 'INVALID', 'candleTime is NaN'],
  ])('data: %p', (parts, code, text) => {
    const error = thrown(() => IndicatorCache.makeKey(...parts));
    expect(error.code).toBe(`ERR_MEMGUARD_${code}`);
    expect(error.message).toContain(text);
  });

  test('bad input', () => {
    expect(thrown(() => new IndicatorCache({ maxEntries: 0 })).code).toBe('ERR_MEMGUARD_RANGE');
    const error = thrown(() => new IndicatorCache().getOrCompute(new Float64Array(2), () => 1));
    expect(error.code).toBe('ERR_MEMGUARD_TYPE');
    expect(error.message).toBe('key is a Float64Array, allowed: what makeKey() returns');
  });
});

describe('RingBuffer', () => {
  describe('ring.json', () => {
    test.each(rowsOf('ring.json'))('%s', (_, row) => {
      const ring = new RingBuffer({ maxCandles: row.max_candles, columns: ['a', 'b'] });
      for (let number = 0; number < row.appends; number++) ring.append(number, number + 1);
      expect([...ring.column('a', row.n)]).toEqual(row.expect);
      expect([...ring.latest(row.n).b]).toEqual(row.expect.map((number) => number + 1));
      expect(ring.length).toBe(row.length);
    });
  });

  test('candles', () => {
    const ring = new RingBuffer();
    expect(ring.maxCandles).toBe(200);
    expect(ring.columns).toEqual(['time', 'open', 'high', 'low', 'close', 'volume']);
    for (let number = 0; number < 500; number++) ring.append(number, 1, 2, 0.5, 1.5, 100);
    const { time, close } = ring.latest(2);
    expect([[...time], [...close]]).toEqual([[498, 499], [1.5, 1.5]]);
    ring.clear();
    expect(ring.length).toBe(0);
  });

  test('views are the memory itself', () => {
    const ring = new RingBuffer({ maxCandles: 4, columns: ['price'] });
    for (let number = 0; number < 6; number++) ring.append(number);
    const view = ring.column('price');
    expect(view.buffer).toBe(ring.column('price', 2).buffer);
    ring.append(6);
    expect([...view]).toEqual([2, 3, 4, 5]); // the next row is written beside
    expect([...ring.column('price')]).toEqual([3, 4, 5, 6]);
  });

  test('a row that is refused changes nothing', () => {
    const ring = new RingBuffer({ maxCandles: 2, columns: ['a', 'b'] });
    ring.append(1, 2);
    ring.append(3, 4);
    expect(thrown(() => ring.append(5, '6')).message).toBe('b must be a number, not a string');
    expect(thrown(() => ring.append(5)).message).toBe('1 values, allowed: a, b');
    expect([[...ring.column('a')], [...ring.column('b')]]).toEqual([[1, 3], [2, 4]]);
  });

  test.each([
    [() => new RingBuffer({ maxCandles: 0 }), 'RANGE'],
    [() => new RingBuffer({ columns: [] }), 'INVALID'],
    [() => new RingBuffer({ columns: 'ab' }), 'TYPE'],
    [() => new RingBuffer({ columns: ['a', 'a'] }), 'INVALID'],
    [() => new RingBuffer().column('x'), 'INVALID'],
    [() => new RingBuffer().latest(-1), 'RANGE'],
  ])('bad input %#', (body, code) => {
    expect(thrown(body).code).toBe(`ERR_MEMGUARD_${code}`);
  });
});
