'use strict';

// ObjectPool.
const { ObjectPool, poolStats } = require('../..');
const { trimPools } = require('../../node/lib/caches');
const { runJson, thrown } = require('./helpers');

const pools = [];

function open(...values) {
  const pool = new ObjectPool(...values);
  pools.push(pool);
  return pool;
}

afterEach(() => {
  for (const pool of pools.splice(0)) pool.close();
});

test('objects come back clean', () => {
  const pool = open(() => new Map(), { reset: (item) => item.clear() });
  const [one, other] = [pool.rent(), pool.rent()];
  one.set('a', 1);
  pool.return(one);
  expect(pool.rent()).toBe(one);
  expect(one.size).toBe(0);
  pool.return(one);
  pool.return(other);
  expect(pool.stats()).toEqual({
    rented: 3, returned: 3, lost: 0, current: 0, idle: 2, max: 64, created: 2, dropped: 0, doubleReturns: 0, foreignReturns: 0,
  });
});

test('twice, or of another pool', () => {
  const pool = open(() => ({}), { maxSize: 1 });
  const [one, dropped] = [pool.rent(), pool.rent()];
  pool.return(one);
  pool.return(dropped);
  for (const item of [one, dropped]) expect(thrown(() => pool.return(item)).code).toBe('ERR_MEMGUARD_RETURNED');
  const other = open(() => []);
  for (const item of [other.rent(), {}, null, undefined, 5, 'text']) {
    expect(thrown(() => pool.return(item)).code).toBe('ERR_MEMGUARD_FOREIGN');
  }
  expect(pool.stats()).toMatchObject({ doubleReturns: 2, foreignReturns: 6, idle: 1, dropped: 1, current: 0 });
});

test('borrow', async () => {
  const pool = open(() => ({ used: 0 }));
  const borrowed = pool.borrow();
  borrowed.value.used++;
  borrowed.dispose();
  borrowed.dispose();
  expect(thrown(() => borrowed.value).code).toBe('ERR_MEMGUARD_RETURNED');
  expect(pool.borrow((item) => ++item.used)).toBe(2);
  expect(thrown(() => pool.borrow(() => { throw new Error('now'); })).message).toBe('now');
  await expect(pool.borrow(async () => { throw new Error('later'); })).rejects.toThrow('later');
  expect(await pool.borrow(async (item) => ++item.used)).toBe(3);
  expect(pool.stats()).toMatchObject({ created: 1, rented: 5, returned: 5, idle: 1 });
});

test('a reset that throws drops the object', () => {
  const emit = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const pool = open(() => ({}), { reset: (item) => item.missing.gone });
  for (let round = 0; round < 3; round++) pool.return(pool.rent());
  const texts = emit.mock.calls.map(([text]) => text).filter((text) => text.includes('reset'));
  emit.mockRestore();
  expect(pool.stats()).toMatchObject({ idle: 0, dropped: 3, current: 0 });
  expect(texts).toHaveLength(1);
  expect(texts[0]).toMatch(/^reset of an ObjectPool failed: /);
});

test('a reset that closes the pool', () => {
  const pool = open(() => ({}), { reset: () => pool.close() });
  pool.return(pool.rent());
  expect(pool.stats()).toMatchObject({ idle: 0, dropped: 1 });
});

test('trimming, also by pressure', () => {
  const pool = open(() => ({}), { name: 'frames' });
  const items = Array.from({ length: 8 }, () => pool.rent());
  for (const item of items) pool.return(item);
  expect(pool.trim(0.25)).toBe(2);
  expect(trimPools(0.5)).toBeGreaterThanOrEqual(3);
  expect(pool.rent()).toBe(items[7]);
  expect(poolStats().find(({ name }) => name === 'frames')).toMatchObject({ active: 1, idle: 2 });
});

// In a process of its own: among other tests, V8 may find one of them on its stack.
test('forgotten ones are counted', async () => {
  const [stats, isKept] = await runJson('object_pool_lost.js');
  expect(isKept).toBe(true);
  expect(stats).toMatchObject({ lost: 10, current: 1, idle: 1 });
});

test('a closed one', () => {
  const pool = open(() => ({}));
  const item = pool.rent();
  pool.return(pool.rent());
  pool.close();
  pool.close();
  pool.return(item);
  expect(pool.stats()).toMatchObject({ idle: 0, current: 0, dropped: 2 });
  expect(thrown(() => pool.rent()).code).toBe('ERR_MEMGUARD_CLOSED');
  expect(thrown(() => pool.borrow()).code).toBe('ERR_MEMGUARD_CLOSED');
});

test.each([
  [[5], 'TYPE', 'factory must be a function, not a number'],
  [[() => ({}), { reset: 5 }], 'TYPE', 'reset must be a function'],
  [[() => ({}), { maxSize: -1 }], 'RANGE', 'maxSize is -1'],
  [[() => ({}), { maxSize: '2' }], 'TYPE', 'maxSize must be a number'],
])('bad input %#', (values, code, text) => {
  const error = thrown(() => new ObjectPool(...values));
  expect(error.code).toBe(`ERR_MEMGUARD_${code}`);
  expect(error.message).toContain(text);
});

test('a factory of no new objects', () => {
  const one = {};
  const pool = open(() => one);
  pool.rent();
  expect(thrown(() => pool.rent()).message).toBe('factory must return a new object, not one of before');
  expect(thrown(() => open(() => 5).rent()).message).toBe('factory must return a new object, not a number');
  expect(thrown(() => open(() => { throw new Error('none'); }).rent()).message).toBe('none');
});
