'use strict';

// Small classes that save allocations: ReusePool, IndicatorCache, RingBuffer. The
// first two give up what they hold under memory pressure.
const { registerCache, registerPool } = require('./caches');
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireCount, requireFunction, requireName } = require('./errors');
const { during, poolOptions, renew } = require('./lending');
const { isThenable } = require('./report');

const CANDLE = ['time', 'open', 'high', 'low', 'close', 'volume'];

// A list longer than this in a key is taken for data.
const KEY_ITEMS = 64;

/* ---- ReusePool --------------------------------------------------------------------- */

class ReusePool {
  #factory;
  #reset;
  #maxSize;
  #idle = []; // longest idle first
  #members = new Set(); // of #idle
  #isClosed = false;
  #created = 0;
  #acquired = 0;
  #released = 0;
  #dropped = 0;
  #registration;

  constructor(factory, options = {}) {
    const { reset, maxSize, name } = poolOptions(factory, options);
    this.#factory = factory;
    this.#reset = reset;
    this.#maxSize = maxSize;
    this.#registration = registerPool(this, { name });
  }

  acquire() {
    if (this.#isClosed) throw failure('ECLOSED', 'ReusePool used after close()');
    let item;
    if (this.#idle.length > 0) {
      item = this.#idle.pop();
      this.#members.delete(item);
    } else {
      item = (0, this.#factory)();
      this.#created++;
    }
    this.#acquired++;
    return item;
  }

  release(item) {
    if (this.#members.has(item)) throw failure('ECONFLICT', `${kindOf(item)} was released twice`);
    this.#released++;
    if (this.#isClosed || this.#idle.length >= this.#maxSize || !renew(this.#reset, item, 'a ReusePool')) {
      this.#dropped++;
      return;
    }
    this.#members.add(item);
    this.#idle.push(item);
  }

  using(body) {
    requireFunction(body, 'the body that uses an object');
    const item = this.acquire();
    return during(body, item, () => this.release(item));
  }

  trim(share = 1) {
    const amount = Math.ceil(this.#idle.length * Math.min(Math.max(share, 0), 1));
    for (const item of this.#idle.splice(0, amount)) this.#members.delete(item);
    this.#dropped += amount;
    return amount;
  }

  getStats() {
    return {
      active: Math.max(0, this.#acquired - this.#released),
      idle: this.#idle.length,
      max: this.#maxSize,
      created: this.#created,
      acquired: this.#acquired,
      released: this.#released,
      dropped: this.#dropped,
    };
  }

  close() {
    this.#isClosed = true;
    this.#registration.unregister();
    this.trim();
  }
}

defineDisposal(ReusePool);

/* ---- IndicatorCache ------------------------------------------------------------------- */

class IndicatorCache {
  #maxEntries;
  #entries = new Map(); // least recently used first
  #hits = 0;
  #misses = 0;
  #evicted = 0;
  #registration;

  constructor(options = {}) {
    const { maxEntries = 1000, name = 'IndicatorCache' } = options ?? {};
    requireCount(maxEntries, 'maxEntries', 1);
    this.#maxEntries = maxEntries;
    // Not this object: its map is what shrinks, oldest use first.
    this.#registration = registerCache(this.#entries, { name });
  }

  static makeKey(symbol, timeframe, indicator, params = null, candleTime = null) {
    return JSON.stringify([
      keyPart(symbol, 'symbol'),
      keyPart(timeframe, 'timeframe'),
      keyPart(indicator, 'indicator'),
      keyPart(params, 'params'),
      keyPart(candleTime, 'candleTime'),
    ]);
  }

  getOrCompute(key, compute) {
    const entries = this.#entries;
    const value = entries.get(key);
    if (value === undefined && !entries.has(key)) return this.#compute(key, compute);
    this.#hits++;
    entries.delete(key);
    entries.set(key, value);
    return value;
  }

  #compute(key, compute) {
    if (typeof key !== 'string') throw failure('ETYPE', `key is ${whatIs(key)}, allowed: what makeKey() returns`);
    this.#misses++;
    const value = compute();
    this.#entries.set(key, value);
    if (isThenable(value)) value.then(undefined, () => this.#forget(key, value));
    while (this.#entries.size > this.#maxEntries) {
      this.#entries.delete(this.#entries.keys().next().value);
      this.#evicted++;
    }
    return value;
  }

  #forget(key, value) {
    if (this.#entries.get(key) === value) this.#entries.delete(key);
  }

  has(key) {
    return this.#entries.has(key);
  }

  get size() {
    return this.#entries.size;
  }

  clear() {
    this.#entries.clear();
  }

  getStats() {
    const asked = this.#hits + this.#misses;
    return {
      entries: this.#entries.size,
      maxEntries: this.#maxEntries,
      hits: this.#hits,
      misses: this.#misses,
      hitRatio: asked > 0 ? this.#hits / asked : 0,
      evicted: this.#evicted,
      dropped: this.#registration.getStats().dropped,
    };
  }
}

function whatIs(value) {
  const name = Object(value) === value ? value.constructor?.name : undefined;
  return name && typeof value !== 'function' ? `a ${name}` : kindOf(value);
}

/** A part of a key as JSON tells apart: text and numbers as they are, the rest as
 *  lists that begin with what they are. */
function keyPart(value, where) {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'bigint') return ['bigint', String(value)];
  if (typeof value === 'number') return numberPart(value, where);
  if (value instanceof Date) return ['date', numberPart(value.getTime(), where)];
  if (Array.isArray(value) && value.length <= KEY_ITEMS) {
    return ['list', ...value.map((item, index) => keyPart(item, `${where}[${index}]`))];
  }
  if (isMapping(value)) {
    const names = Object.keys(value).sort();
    if (names.length <= KEY_ITEMS) {
      return ['mapping', ...names.map((name) => [name, keyPart(value[name], `${where}.${name}`)])];
    }
  }
  throw failure('ETYPE', `${where} is ${whatIs(value)}, allowed in a key: text, numbers, dates, null, short lists `
    + 'and mappings of those');
}

function numberPart(value, where) {
  if (Number.isNaN(value)) throw failure('EINVAL', `${where} is NaN, which is equal to nothing`);
  return Number.isFinite(value) ? value : ['number', String(value)];
}

function isMapping(value) {
  if (typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/* ---- RingBuffer ------------------------------------------------------------------------ */

// Each number is written twice, one ring behind the other, so that the newest rows
// of a column lie side by side wherever the ring begins:
//
//     slot   0 1 2 3 | 4 5 6 7
//     row    4 5 2 3 | 4 5 2 3     newest three: slots 3 to 5
//
// There is one slot more than rows, the one written to: a view of all rows stays as
// it is for one more append.
class RingBuffer {
  #slots;
  #names;
  #data;
  #next = 0;
  #length = 0;

  constructor(options = {}) {
    const { maxCandles = 200, columns = CANDLE } = options ?? {};
    requireCount(maxCandles, 'maxCandles', 1);
    if (!Array.isArray(columns)) throw failure('ETYPE', `columns must be an array of names, not ${kindOf(columns)}`);
    for (const name of columns) requireName(name, 'the name of a column');
    if (columns.length === 0 || new Set(columns).size < columns.length) {
      throw failure('EINVAL', `columns is [${columns}], allowed: different names`);
    }
    this.#slots = maxCandles + 1;
    this.#names = [...columns];
    this.#data = columns.map(() => new Float64Array(2 * this.#slots));
  }

  get columns() {
    return [...this.#names];
  }

  get maxCandles() {
    return this.#slots - 1;
  }

  get length() {
    return this.#length;
  }

  append(...values) {
    const data = this.#data;
    if (values.length !== data.length) {
      throw failure('EINVAL', `${values.length} values, allowed: ${this.#names.join(', ')}`);
    }
    for (let column = 0; column < data.length; column++) {
      const value = values[column];
      if (typeof value !== 'number') {
        throw failure('ETYPE', `${this.#names[column]} must be a number, not ${kindOf(value)}`);
      }
      data[column][this.#next] = value;
      data[column][this.#next + this.#slots] = value;
    }
    this.#next = this.#next + 1 < this.#slots ? this.#next + 1 : 0;
    if (this.#length < this.#slots - 1) this.#length++;
  }

  column(name, n) {
    const index = this.#names.indexOf(name);
    if (index < 0) throw failure('EINVAL', `column is ${String(name)}, allowed: ${this.#names.join(', ')}`);
    return this.#window(this.#data[index], n);
  }

  latest(n) {
    const found = {};
    this.#names.forEach((name, index) => {
      found[name] = this.#window(this.#data[index], n);
    });
    return found;
  }

  #window(data, n) {
    if (n !== undefined && n !== null) requireCount(n, 'n', 0);
    const end = this.#next + this.#slots;
    return data.subarray(end - Math.min(n ?? this.#length, this.#length), end);
  }

  clear() {
    this.#length = 0;
  }
}

module.exports = { IndicatorCache, ReusePool, RingBuffer };
