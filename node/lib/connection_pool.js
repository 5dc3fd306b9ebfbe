'use strict';

// ManagedConnectionPool. It has no timer of its own: connections that are closed or
// were idle for too long are removed when it is used, at prune() and under memory
// pressure, when it also gives up idle ones that are good.
const { performance } = require('perf_hooks');
const native = require('./native');
const { registerPool } = require('./caches');
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireCount, requireFunction, requireNumber } = require('./errors');
const { isThenable, reportOnce } = require('./report');

const LONGEST_TIMER_MS = 2 ** 31 - 1;

// What a waiter is given besides a connection: leave to make one, counted as moving.
const PERMIT = Symbol('permit');

function close(connection) {
  for (const name of ['close', 'end', 'destroy']) {
    if (typeof connection[name] === 'function') return connection[name]();
  }
  return undefined;
}

function isClosed(connection) {
  return connection.destroyed === true || connection.closed === true;
}

// Of pools that were dropped without close().
const dropped = new FinalizationRegistry((held) => native.metricsAddConnections(-held.count));

/** Connections in use, counted for the metrics of the process. */
class Active extends Set {
  #held = { count: 0 };

  constructor() {
    super();
    native.metricsAddConnections(0); // from now on their number is known
    dropped.register(this, this.#held);
  }

  #count(change) {
    this.#held.count += change;
    native.metricsAddConnections(change);
  }

  add(connection) {
    if (!this.has(connection)) this.#count(1);
    return super.add(connection);
  }

  delete(connection) {
    const wasThere = super.delete(connection);
    if (wasThere) this.#count(-1);
    return wasThere;
  }
}

class ManagedConnectionPool {
  #factory;
  #close;
  #isClosed;
  #max;
  #idleMs;
  // Every connection is in one place: idle, active, or moving (being made).
  // Together they are at most #max.
  #idle = []; // { connection, since }, longest idle first
  #active = new Active();
  #moving = 0;
  #waiters = [];
  #closing = new Set();
  #isEnded = false;
  #created = 0;
  #closed = 0;
  #timedOut = 0;
  #failures = 0;
  #registration;

  constructor(factory, options = {}) {
    const { maxConnections = 10, idleTimeout = 300, name } = options ?? {};
    requireFunction(factory, 'factory');
    requireCount(maxConnections, 'maxConnections', 1);
    requireNumber(idleTimeout, 'idleTimeout', 0);
    for (const what of ['close', 'isClosed']) {
      if (options?.[what] !== undefined) requireFunction(options[what], what);
    }
    this.#factory = factory;
    // Functions of this pool alone: each has its first failure reported.
    this.#close = options?.close ?? ((connection) => close(connection));
    this.#isClosed = options?.isClosed ?? ((connection) => isClosed(connection));
    this.#max = maxConnections;
    this.#idleMs = idleTimeout * 1000;
    this.#registration = registerPool(this, { name });
  }

  /* ---- use --------------------------------------------------------------------- */

  async acquire(options = {}) {
    const { timeout = null } = options ?? {};
    if (timeout !== null) requireNumber(timeout, 'timeout', 0);
    if (this.#isEnded) throw failure('ECLOSED', 'ManagedConnectionPool used after close()');
    this.#closeAll(this.#takeStale());
    let given = await this.#wait(timeout);
    while (given !== PERMIT && !this.#isGood(given)) {
      this.#active.delete(given);
      this.#closed++;
      given = this.#next();
    }
    return given === PERMIT ? this.#make() : given;
  }

  release(connection, options = {}) {
    const { discard = false } = options ?? {};
    if (!this.#active.delete(connection)) this.#refuse(connection);
    const isGood = !discard && this.#isGood(connection);
    if (isGood && !this.#isEnded) {
      this.#idle.push({ connection, since: performance.now() });
      this.#match();
      this.#closeAll(this.#takeStale());
      return;
    }
    this.#match();
    if (isGood || discard) this.#closeAll([connection]);
    else this.#closed++; // by itself: nothing to close
  }

  async connection(body, options = {}) {
    requireFunction(body, 'the body that uses a connection');
    const connection = await this.acquire(options);
    try {
      return await body(connection);
    } finally {
      this.release(connection);
    }
  }

  /** First come, first served. @returns the connection or PERMIT. */
  #wait(timeout) {
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject, timer: null };
      this.#waiters.push(waiter);
      this.#match();
      if (timeout === null || !this.#waiters.includes(waiter)) return;
      const ms = Math.min(timeout * 1000, LONGEST_TIMER_MS);
      waiter.timer = setTimeout(() => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        this.#timedOut++;
        reject(failure('ETIMEOUT', `no connection within ${timeout} s: ${this.#max} are in use`));
      }, ms);
    });
  }

  #match() {
    while (this.#waiters.length > 0 && (this.#idle.length > 0 || this.#hasRoom())) {
      const waiter = this.#waiters.shift();
      clearTimeout(waiter.timer);
      waiter.resolve(this.#next());
    }
  }

  #hasRoom() {
    return this.#idle.length + this.#active.size + this.#moving < this.#max;
  }

  #next() {
    if (this.#idle.length === 0) {
      this.#moving++;
      return PERMIT;
    }
    const { connection } = this.#idle.pop();
    this.#active.add(connection);
    return connection;
  }

  async #make() {
    try {
      const connection = await this.#factory();
      if (Object(connection) !== connection) {
        throw failure('EINVAL', `factory returned ${kindOf(connection)}, allowed: a connection`);
      }
      if (this.#active.has(connection)) throw failure('ECONFLICT', 'factory returned a connection that is in use');
      this.#created++;
      if (this.#isEnded) {
        this.#closeAll([connection]);
        throw failure('ECLOSED', 'ManagedConnectionPool was closed meanwhile');
      }
      this.#active.add(connection);
      this.#moving--;
      return connection;
    } catch (error) {
      this.#moving--;
      if (!this.#isEnded) this.#failures++;
      this.#match();
      throw error;
    }
  }

  #refuse(connection) {
    if (this.#idle.some((entry) => entry.connection === connection)) {
      throw failure('ECONFLICT', 'a connection was released twice');
    }
    throw failure('ENOTFOUND', 'what was released is not a connection of this pool');
  }

  /* ---- removal ------------------------------------------------------------------ */

  #isGood(connection) {
    try {
      return !this.#isClosed(connection);
    } catch (error) {
      this.#failures++;
      reportOnce(this.#isClosed, 'isClosed of a connection pool', error);
      return false;
    }
  }

  #takeStale() {
    const end = performance.now() - this.#idleMs;
    let stale = 0;
    while (stale < this.#idle.length && this.#idle[stale].since < end) stale++;
    return this.#idle.splice(0, stale).map((entry) => entry.connection);
  }

  #closeAll(connections) {
    for (const connection of connections) {
      this.#closed++;
      try {
        const result = this.#close(connection);
        if (isThenable(result)) this.#follow(result);
      } catch (error) {
        this.#closeFailed(error);
      }
    }
  }

  #follow(promise) {
    const settled = Promise.resolve(promise)
      .catch((error) => this.#closeFailed(error))
      .then(() => {
        this.#closing.delete(settled);
      });
    this.#closing.add(settled);
  }

  #closeFailed(error) {
    this.#failures++;
    reportOnce(this.#close, 'close of a connection pool', error);
  }

  prune() {
    const stale = this.#takeStale();
    const there = this.#idle.length;
    this.#idle = this.#idle.filter((entry) => this.#isGood(entry.connection));
    const ended = there - this.#idle.length;
    this.#closed += ended;
    this.#match();
    this.#closeAll(stale);
    return stale.length + ended;
  }

  trim(share = 1) {
    const pruned = this.prune();
    const amount = Math.ceil(this.#idle.length * Math.min(Math.max(share, 0), 1));
    const taken = this.#idle.splice(0, amount).map((entry) => entry.connection);
    this.#match();
    this.#closeAll(taken);
    return pruned + taken.length;
  }

  getStats() {
    return {
      active: this.#active.size + this.#moving,
      idle: this.#idle.length,
      waiting: this.#waiters.length,
      max: this.#max,
      created: this.#created,
      closed: this.#closed,
      timedOut: this.#timedOut,
      failures: this.#failures,
    };
  }

  get isClosed() {
    return this.#isEnded;
  }

  async close() {
    if (!this.#isEnded) {
      this.#isEnded = true;
      this.#registration.unregister();
      for (const waiter of this.#waiters.splice(0)) {
        clearTimeout(waiter.timer);
        waiter.reject(failure('ECLOSED', 'ManagedConnectionPool was closed meanwhile'));
      }
      this.#closeAll(this.#idle.splice(0).map((entry) => entry.connection));
    }
    await Promise.all(this.#closing);
  }
}

defineDisposal(ManagedConnectionPool);

module.exports = { ManagedConnectionPool };
