'use strict';

// decide.Policy: what it refuses. What it decides is in tests/vectors.
const { decide } = require('../..');
const { thrown } = require('./helpers');

const VIEW = { nowMs: 0, usage: 0.5, level: 'normal' };

test.each([
  [{ level: 'hihg' }, 'ERR_MEMGUARD_INVALID', '"hihg", allowed: normal,'],
  [{ level: 3 }, 'ERR_MEMGUARD_TYPE', 'level'],
  [{ level: undefined }, 'ERR_MEMGUARD_TYPE', 'level'],
  [{ available: ['gc'] }, 'ERR_MEMGUARD_INVALID', '"gc", allowed: caches,'],
  [{ available: ['none'] }, 'ERR_MEMGUARD_INVALID', '"none"'],
  [{ usage: '80%' }, 'ERR_MEMGUARD_TYPE', 'usage'],
  [{ limitBytes: 1n }, 'ERR_MEMGUARD_TYPE', 'limitBytes'],
])('a view with %p is refused', (part, code, text) => {
  const policy = new decide.Policy();
  const error = thrown(() => policy.next({ ...VIEW, ...part }));
  expect([error.code, error.message]).toEqual([code, expect.stringContaining(text)]);
  expect(policy.next(VIEW).action).toBe('none');
});

test('actions that are refused', () => {
  const policy = new decide.Policy();
  expect(thrown(() => policy.done('collect', {}, 0)).message).toContain('"collect", allowed: caches,');
  expect(thrown(() => policy.done('full', { tookMs: '1s' }, 0)).code).toBe('ERR_MEMGUARD_TYPE');
  expect(thrown(() => policy.mayCollect('hot', 1, 0)).message).toContain('"hot"');
  expect(thrown(() => policy.spent('x')).code).toBe('ERR_MEMGUARD_TYPE');
});

test('settings are checked', () => {
  expect(thrown(() => new decide.Policy({ gcIntervall: 5 })).message).toContain('gc_interval');
});

test('what is not known of an outcome may be left out', () => {
  const policy = new decide.Policy();
  const high = { nowMs: 0, usage: 0.9, level: 'high' };
  expect(policy.next(high).action).toBe('caches');
  policy.done('caches', {}, 1);
  expect(policy.next(high).action).toBe('pools');
});
