'use strict';

// Objects that are rented and returned: ObjectPool; and arrays for batches of them.
const { registerPool } = require('./caches');
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireFunction, requireNumber } = require('./errors');
const { during, poolOptions, renew } = require('./lending');

/* ---- ObjectPool -------------------------------------------------------------------- */

/** What borrow() gives: a rental that `using` ends. */
class Borrowed {
  #pool;
  #value;

  constructor(pool, value) {
    this.#pool = pool;
    this.#value = value;
  }

  get value() {
    if (this.#pool === null) throw failure('ERETURNED', 'this object was returned');
    return this.#value;
  }

  dispose() {
    const [pool, value] = [this.#pool, this.#value];
    this.#pool = this.#value = null;
    pool?.return(value);
  }
}

defineDisposal(Borrowed, 'dispose');

const RENTED = 1;
const IDLE = 2;

class ObjectPool {
  #factory;
  #reset;
  #maxSize;
  #idle = []; // longest idle first
  #states = new WeakMap(); // of objects of this pool
  #isClosed = false;
  #counts = { created: 0, rented: 0, returned: 0, dropped: 0, lost: 0, doubleReturns: 0, foreignReturns: 0 };
  #forgotten = new FinalizationRegistry(() => this.#counts.lost++);
  #registration;

  constructor(factory, options = {}) {
    const { reset, maxSize, name } = poolOptions(factory, options);
    this.#factory = factory;
    this.#reset = reset;
    this.#maxSize = maxSize;
    this.#registration = registerPool(this, { name });
  }

  rent() {
    if (this.#isClosed) throw failure('ECLOSED', 'ObjectPool used after close()');
    const item = this.#idle.length > 0 ? this.#idle.pop() : this.#make();
    this.#states.set(item, RENTED);
    this.#counts.rented++;
    return item;
  }

  #make() {
    const item = (0, this.#factory)();
    if (Object(item) !== item || this.#states.has(item)) {
      throw failure('ETYPE', `factory must return a new object, not ${Object(item) === item ? 'one of before' : kindOf(item)}`);
    }
    this.#counts.created++;
    this.#forgotten.register(item, undefined, item);
    return item;
  }

  return(item) {
    switch (Object(item) === item ? this.#states.get(item) : undefined) {
      case RENTED:
        break;
      case IDLE:
        this.#counts.doubleReturns++;
        throw failure('ERETURNED', 'this object was returned before');
      default:
        this.#counts.foreignReturns++;
        throw failure('EFOREIGN', `${kindOf(item)} that is not of this pool`);
    }
    this.#states.set(item, IDLE);
    this.#counts.returned++;
    const isKept = !this.#isClosed && this.#idle.length < this.#maxSize && renew(this.#reset, item, 'an ObjectPool');
    // reset() may have closed the pool.
    if (isKept && !this.#isClosed) this.#idle.push(item);
    else this.#drop([item]);
  }

  #drop(items) {
    for (const item of items) this.#forgotten.unregister(item);
    this.#counts.dropped += items.length;
  }

  borrow(body) {
    if (body !== undefined) requireFunction(body, 'the body that uses an object');
    const borrowed = new Borrowed(this, this.rent());
    if (body === undefined) return borrowed;
    return during(body, borrowed.value, () => borrowed.dispose());
  }

  trim(share = 1) {
    const amount = amountOf(share, this.#idle.length);
    this.#drop(this.#idle.splice(0, amount));
    return amount;
  }

  stats() {
    const { rented, returned, lost } = this.#counts;
    return { ...this.#counts, current: rented - returned - lost, idle: this.#idle.length, max: this.#maxSize };
  }

  getStats() {
    const { current, idle } = this.stats();
    return { active: current, idle };
  }

  get closed() {
    return this.#isClosed;
  }

  close() {
    this.#isClosed = true;
    this.#registration.unregister();
    this.trim();
  }
}

defineDisposal(ObjectPool);

function amountOf(share, length) {
  requireNumber(share, 'share', 0);
  return Math.ceil(length * Math.min(share, 1));
}

/* ---- arrays ------------------------------------------------------------------------ */

/** An array for a batch of objects. V8 frees the room of one that is emptied, so each
 *  rental is an array of its own, and a stale reference never leads to another's. */
class PooledArray extends Array {
  #isReturned = false;

  static get [Symbol.species]() {
    return Array; // what map() and the like make is not rented
  }

  get returned() {
    return this.#isReturned;
  }

  return() {
    if (this.#isReturned) throw failure('ERETURNED', 'this array was returned before');
    this.#isReturned = true;
    this.length = 0;
  }

  release() {
    this.return();
  }

  dispose() {
    if (!this.#isReturned) this.return();
  }
}

defineDisposal(PooledArray, 'dispose');

module.exports = { ObjectPool, PooledArray };
