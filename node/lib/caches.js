'use strict';

// Caches and pools of the program that give something up under pressure.
//
// memguard does not stand between a program and its cache: an operation on a
// registered cache costs what it cost before. Shrinking takes entries out through
// the cache's own methods, in batches, for BUDGET_MS per call at most; the next
// call goes on where one stopped.
const { OwnKind, PoolKind, kindFor } = require('./cache_kinds');
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireCount, requireFunction, requireName } = require('./errors');
const { isThenable, reportOnce } = require('./report');

const BUDGET_MS = 50;
const BATCH = 256;

const budget = { ms: BUDGET_MS };
const registered = new Set();
const byTarget = new WeakMap();
const departed = new FinalizationRegistry((registration) => registered.delete(registration));
let turns = 0;
let isShrinking = false;

class Registration {
  #target;
  #kind;
  #minEntries;
  #onEvict = null;
  #left = 0; // entries that the calls so far have still to take out
  #share = 0; // that #left was made of
  #shrinks = 0;
  #dropped = 0;
  #failures = 0;

  constructor(target, kind, { name, minEntries = 0, onEvict = null, owner = null }) {
    // A function has no other owner as a rule: held weakly it would be gone at once.
    this.#target = typeof target === 'function' ? { deref: () => target } : new WeakRef(target);
    this.#kind = kind;
    this.#minEntries = minEntries;
    if (onEvict !== null) this.#onEvict = (key, value) => this.#tell(onEvict, key, value);
    this.name = name ?? (typeof target === 'function' ? target.name || 'function' : nameOf(target));
    this.isPool = kind instanceof PoolKind;
    this.owner = owner;
    this.turn = 0; // when it was last served
    Object.defineProperties(this, { owner: { enumerable: false }, turn: { enumerable: false } });
  }

  unregister() {
    const target = this.#target?.deref();
    if (target !== undefined && byTarget.get(target) === this) byTarget.delete(target);
    registered.delete(this);
    departed.unregister(this);
    this.#target = null;
    this.#onEvict = null;
  }

  getStats() {
    const target = this.#target?.deref();
    const counts = { shrinks: this.#shrinks, dropped: this.#dropped, failures: this.#failures };
    try {
      if (this.isPool) return { name: this.name, ...this.#kind.stats(target), ...counts };
      return { name: this.name, entries: target === undefined ? null : this.#kind.size(target), ...counts };
    } catch (error) {
      this.#failed(error);
      return { name: this.name, entries: null, ...counts };
    }
  }

  /** Takes one batch out. @returns [how many, whether more is to do]. */
  step(share, isFirst) {
    const target = this.#target?.deref();
    if (target === undefined) return [0, false];
    try {
      if (isFirst) this.#plan(target, share);
      if (this.#left === 0) return [0, false];
      const amount = this.#kind.drop(target, Math.min(this.#left, BATCH), share, this.#onEvict);
      return isThenable(amount) ? this.#follow(amount) : this.#account(amount, isFirst);
    } catch (error) {
      this.#left = 0;
      this.#failed(error);
      return [0, false];
    }
  }

  rest() {
    this.#kind.rest();
  }

  #plan(target, share) {
    const entries = this.#kind.size(target);
    if (typeof entries !== 'number') {
      this.#left = 1;
    } else if (this.#left > 0 && share <= this.#share) {
      this.#left = Math.min(this.#left, Math.max(0, entries - this.#minEntries));
    } else {
      this.#share = share;
      this.#left = Math.max(0, Math.min(Math.ceil(entries * share), entries - this.#minEntries));
    }
  }

  #account(amount, isFirst) {
    this.#left = this.#kind.canName && amount > 0 ? Math.max(0, this.#left - amount) : 0;
    this.#dropped += amount;
    if (isFirst && amount > 0) this.#shrinks++;
    return [amount, this.#left > 0];
  }

  #follow(promise) {
    this.#left = 0;
    promise.then((amount) => this.#account(amount, true), (error) => this.#failed(error));
    return [0, false];
  }

  #tell(onEvict, key, value) {
    try {
      onEvict(key, value);
    } catch (error) {
      this.#failures++;
      reportOnce(onEvict, `onEvict of "${this.name}"`, error);
    }
  }

  #failed(error) {
    this.#failures++;
    reportOnce(this, `shrinking of ${this.isPool ? 'pool' : 'cache'} "${this.name}"`, error);
  }
}

defineDisposal(Registration, 'unregister');

function nameOf(target) {
  const { constructor } = target;
  return typeof constructor === 'function' && constructor.name ? constructor.name : 'Object';
}

function add(target, registration) {
  if (byTarget.has(target)) throw failure('EEXISTS', `"${registration.name}" is registered already`);
  byTarget.set(target, registration);
  registered.add(registration);
  if (typeof target !== 'function') departed.register(target, registration, registration);
  return registration;
}

/** @param owner a manager that will unregister it, or null. */
function register(cache, options, owner) {
  const { name = null, minEntries = 0, sizeOf = null, onEvict = null } = options ?? {};
  if (name !== null) requireName(name, 'the name of a cache');
  requireCount(minEntries, 'minEntries', 0);
  if (sizeOf !== null) requireFunction(sizeOf, 'sizeOf');
  if (onEvict !== null) requireFunction(onEvict, 'onEvict');
  const kind = kindFor(cache, sizeOf);
  if (onEvict !== null && !kind.canName) {
    throw failure('EINVAL', 'onEvict is of no use: this cache does not name entries');
  }
  if (sizeOf !== null && !(kind instanceof OwnKind)) {
    throw failure('EINVAL', 'sizeOf is of no use: the size of this cache is known');
  }
  return add(cache, new Registration(cache, kind, { name, minEntries, onEvict, owner }));
}

function registerCache(cache, options = {}) {
  return register(cache, options, null);
}

function registerPool(pool, options = {}) {
  const { trim = null, name = null } = options ?? {};
  if (name !== null) requireName(name, 'the name of a pool');
  if (Object(pool) !== pool) throw failure('ETYPE', `a pool must be an object, not ${kindOf(pool)}`);
  if (trim !== null) requireFunction(trim, 'trim');
  else requireFunction(pool.trim, 'trim, or trim() of the pool,');
  return add(pool, new Registration(pool, new PoolKind(trim), { name }));
}

function unregisterOf(owner) {
  for (const registration of [...registered]) {
    if (registration.owner === owner) registration.unregister();
  }
}

function all(isPool) {
  return [...registered].filter((registration) => registration.isPool === isPool);
}

function cacheStats() {
  return all(false).map((registration) => registration.getStats());
}

function poolStats() {
  return all(true).map((registration) => registration.getStats());
}

// A batch of each in turn, whoever waited longest first.
function rounds(share, all_) {
  const { performance } = require('perf_hooks'); // not before it is needed
  const end = performance.now() + budget.ms;
  let work = all_.sort((one, other) => one.turn - other.turn);
  let dropped = 0;
  for (let isFirst = true; work.length > 0; isFirst = false) {
    const rest = [];
    for (const registration of work) {
      const [amount, hasMore] = registration.step(share, isFirst);
      registration.turn = ++turns;
      dropped += amount;
      if (hasMore) rest.push(registration);
      if (performance.now() >= end) return dropped;
    }
    work = rest;
  }
  return dropped;
}

function run(share, isPool) {
  if (isShrinking || !(share > 0 && share <= 1)) return 0;
  isShrinking = true;
  const work = all(isPool);
  try {
    return rounds(share, [...work]);
  } finally {
    for (const registration of work) registration.rest();
    isShrinking = false;
  }
}

/** Shrinks all caches by `share`, 0 to 1. @returns entries dropped; 0 from inside
 *  itself. */
function shrink(share) {
  return run(share, false);
}

/** Trims all pools; as shrink(). */
function trimPools(share) {
  return run(share, true);
}

module.exports = { budget, cacheStats, poolStats, register, registerCache, registerPool, shrink, trimPools, unregisterOf };
