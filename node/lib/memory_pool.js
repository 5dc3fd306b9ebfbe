'use strict';

// MemoryPool: Buffers that are rented and returned instead of allocated.
//
// Each rental is a PooledBuffer of its own and points at its slot until it is
// returned, so one that was returned can never be taken for a later rental of the
// same memory. A rental that finds an idle slot makes no call into the addon.
const native = require('./native');
const config = require('./config');
const { registerPool } = require('./caches');
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireCount, requireNumber } = require('./errors');
const { CLASS_MAX_BYTES, CLASS_SHIFT, CLASS_STEP_BYTES, MAX_BYTES, PoolMemory, classTable } = require('./pool_memory');

const CONFIGURE = Symbol('configure');
const MOVE = Symbol('move');
const TRIM = Symbol('trim');
const ROUND_UP = CLASS_STEP_BYTES - 1;
const ARRAY_MOST = 2 ** 30; // items
const WRITER_BYTES = 256;

let memoryOf; // of a PooledBuffer; undefined for anything else

class PooledBuffer {
  #slot;
  #length;

  static {
    memoryOf = (value) => (Object(value) === value && #slot in value ? value.#slot.list.owner : undefined);
  }

  constructor(slot, length) {
    this.#slot = slot;
    this.#length = length;
  }

  get buffer() {
    const slot = this.#slot;
    const { view } = slot;
    if (view !== null && view.length === this.#length) return view;
    return slot.list.owner.viewOf(slot, this.#length);
  }

  get length() {
    return this.#slot.slab.slotBytes === 0 ? 0 : this.#length;
  }

  get capacity() {
    return this.#slot.slab.slotBytes;
  }

  get returned() {
    const slot = this.#slot;
    return slot === slot.list.gone;
  }

  return() {
    const slot = this.#slot;
    const { list, record } = slot;
    if (record.watch !== null || list.idle.length >= list.limit) {
      list.owner.end(slot); // throws for one that was returned
    } else {
      record.stamp = 0;
      list.idle.push(slot);
    }
    this.#slot = list.gone;
  }

  release() {
    this.return();
  }

  /** The same rental in another object, with another length. */
  [MOVE](length) {
    const moved = new PooledBuffer(this.#slot, length);
    this.#slot = this.#slot.list.gone;
    return moved;
  }
}

// A rental that was returned by hand inside `using` has ended well.
defineDisposal(PooledBuffer, 'dispose');
Object.defineProperty(PooledBuffer.prototype, 'dispose', {
  value() {
    if (!this.returned) this.return();
  },
  configurable: true,
  writable: true,
});

class MemoryPool {
  #memory = new PoolMemory();
  #classes = this.#memory.classes;
  #handle;
  #settings;
  #registration;

  constructor(mapping = {}, options = {}, handle = config.resolve(mapping, options)) {
    this[CONFIGURE](handle);
    this.#registration = registerPool(this, { name: 'MemoryPool', trim: trimCounting });
  }

  [CONFIGURE](handle) {
    this.#handle = handle;
    this.#settings = config.settingsOf(handle).pool;
    this.#memory.configure(this.#settings);
  }

  /* ---- renting ------------------------------------------------------------------ */

  rent(bytes) {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes || bytes === 0 || bytes > CLASS_MAX_BYTES) {
      return this.#rentOther(bytes);
    }
    const index = classTable[(bytes + ROUND_UP) >>> CLASS_SHIFT];
    const list = this.#classes[index];
    const { idle } = list;
    let slot;
    if (idle.length > 0) {
      slot = idle.pop();
      if (idle.length < list.low) list.low = idle.length;
      slot.record.stamp = list.stamp;
    } else {
      slot = this.#memory.refill(index, bytes);
    }
    if (--list.left === 0) slot = this.#memory.watch.sample(slot, list, bytes);
    return new PooledBuffer(slot, bytes);
  }

  #rentOther(bytes) {
    const memory = this.#memory;
    requireBytes(bytes);
    const slot = memory.rentHuge(bytes);
    if (--memory.huge.left > 0) return new PooledBuffer(slot, bytes);
    return new PooledBuffer(memory.watch.sample(slot, memory.huge, bytes), bytes);
  }

  rentMemory(bytes) {
    return this.rent(bytes);
  }

  rentMany(count, bytes) {
    requireCount(count, 'count', 0);
    requireBytes(bytes);
    this.#memory.requireOpen();
    const rentals = [];
    try {
      while (rentals.length < count) rentals.push(this.rent(bytes));
    } catch (error) {
      for (const rental of rentals) rental.return();
      throw error;
    }
    return rentals;
  }

  rentWriter(sizeHint = WRITER_BYTES, maxBytes = undefined) {
    const { PooledBufferWriter } = require('./pooled_writer');
    return new PooledBufferWriter(this, sizeHint, maxBytes);
  }

  rentArray(capacity = 0) {
    requireCount(capacity, 'capacity', 0);
    if (capacity > ARRAY_MOST) throw failure('ERANGE', `capacity is ${capacity}, allowed: 0 to ${ARRAY_MOST}`);
    this.#memory.requireOpen();
    const { PooledArray } = require('./object_pool');
    return new PooledArray();
  }

  return(rental) {
    const memory = memoryOf(rental);
    if (memory === undefined) throw failure('ETYPE', `what is returned must be a PooledBuffer, not ${kindOf(rental)}`);
    if (memory !== this.#memory) {
      this.#memory.watch.report('foreign_return', null, rental.returned ? null : rental.capacity, 0);
      throw failure('EFOREIGN', 'this buffer is of another pool');
    }
    rental.return();
  }

  /* ---- looking -------------------------------------------------------------------- */

  stats() {
    const memory = this.#memory;
    memory.requireOpen();
    const { watch } = memory;
    const { counts } = watch;
    const rentals = memory.rentals();
    const all = tierStats();
    const tiers = Object.fromEntries(native.poolTierNames.map((name) => [name, tierStats()]));
    let lost = 0;
    let misses = 0;
    for (const list of memory.lists) {
      const { current, currentBytes } = rentals.get(list);
      for (const sums of [all, tiers[native.poolTierNames[list.tier]]]) {
        sums.rented += list.rented;
        sums.returned += list.rented - list.lost - current;
        sums.current += current;
        sums.currentBytes += currentBytes;
      }
      lost += list.lost;
      misses += list.misses;
    }
    const plain = memory.plain.reduce((sum, list) => sum + list.rented, 0);
    return {
      ...all,
      lost,
      heldBytes: memory.heldBytes,
      peakHeldBytes: memory.peakHeldBytes,
      idleBytes: memory.idleBytes,
      cacheHits: all.rented - misses,
      plain,
      givenBackBytes: memory.givenBackBytes,
      sitesKept: watch.sitesKept,
      suspected: watch.suspected,
      withdrawn: watch.withdrawn,
      doubleReturns: counts.double_return,
      foreignReturns: counts.foreign_return,
      writesAfterReturn: counts.write_after_return,
      findingsLost: watch.findingsLost,
      tiers,
    };
  }

  findings() {
    this.#memory.requireOpen();
    return this.#memory.watch.takeFindings();
  }

  suspects() {
    this.#memory.requireOpen();
    return this.#memory.watch.suspects();
  }

  get config() {
    return this.#settings;
  }

  get enabled() {
    return this.#settings.poolEnabled;
  }

  get closed() {
    return this.#memory.isClosed;
  }

  /* ---- memory ----------------------------------------------------------------------- */

  trim(share = 1) {
    requireNumber(share, 'share', 0);
    if (share > 1) throw failure('ERANGE', `share is ${share}, allowed: 0 to 1`);
    this.#memory.requireOpen();
    return this.#memory.relieve(share);
  }

  /** @returns how many buffers are gone. */
  [TRIM](share) {
    const before = this.#memory.idleCount;
    this.#memory.relieve(share);
    return before - this.#memory.idleCount;
  }

  updateConfig(changes) {
    this.#memory.requireOpen();
    this[CONFIGURE](config.changed(this.#handle, changes));
  }

  close() {
    this.#registration.unregister();
    this.#memory.close();
  }
}

defineDisposal(MemoryPool);

// For registerPool(); holds no pool.
function trimCounting(share) {
  return this[TRIM](share);
}

function tierStats() {
  return { rented: 0, returned: 0, current: 0, currentBytes: 0 };
}

function requireBytes(bytes) {
  if (typeof bytes !== 'number') throw failure('ETYPE', `the size must be a number, not ${kindOf(bytes)}`);
  if (Number.isInteger(bytes) && bytes >= 1 && bytes <= MAX_BYTES) return;
  const isWhole = Number.isInteger(bytes) || Math.abs(bytes) === Infinity;
  throw failure(isWhole ? 'ERANGE' : 'ETYPE', `the size is ${bytes}, allowed: a whole number of 1 to ${MAX_BYTES} bytes`);
}

/* ---- the pool of this isolate -------------------------------------------------------- */

let shared = null;

function sharedPool() {
  if (shared === null || shared.closed) shared = new MemoryPool();
  return shared;
}

module.exports = { CONFIGURE, MOVE, MemoryPool, PooledBuffer, sharedPool };
