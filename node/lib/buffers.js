'use strict';

// Buffers are arrays of the host. The core decides from which length one should
// be flushed; `flushAt` is a copy of that, renewed when the page says that the
// thresholds have changed.
//
// Items are never lost: they leave the array only into the hands of the caller
// or of the sink, and what a sink that fails has left of them goes back to the
// front. While an asynchronous sink is at work its buffer takes no second flush:
// one waits behind it and takes all that has come meanwhile, in order.
const native = require('./native');
const { Core } = require('./core');
const { codes, failure, kindOf, requireFunction, requireName } = require('./errors');
const { defineDisposal } = require('./disposal');
const { hold, letGo } = require('./live');
const { isExiting, isThenable, reportOnce, warn } = require('./report');

const FULL_PRESSURE = 0.9;
const END_ROUNDS = 10;

const stats = new Float64Array(6);

function ignore() {}

function requirePressure(pressure) {
  if (typeof pressure !== 'number') {
    throw failure('ETYPE', `memoryPressure must be a number, not ${kindOf(pressure)}`);
  }
  if (!(pressure >= 0 && pressure <= 1)) {
    throw failure('ERANGE', `memoryPressure is ${pressure}, allowed: 0 to 1`);
  }
}

class ManagedBuffer {
  constructor(name, slot, sink) {
    this.name = name;
    this.slot = slot;
    this.sink = sink;
    this.items = []; // the host's: always the same array
    this.flushAt = Infinity; // filled in by refresh()
    this.maxLength = 0;
    this.isInSink = false; // a call of the sink is on the stack
    this.inFlight = null; // promise of an asynchronous sink
    this.next = null; // promise of the flush that waits behind it
  }
}

class BufferTable {
  constructor(core) {
    this.core = core;
    this.byName = new Map();
    this.thresholds = new Float64Array(8);
    this.generation = 0;
  }

  /* ---- the table -------------------------------------------------------------- */

  /** Adds a buffer, or finds it again: with the same sink or none named. */
  open(name, sink) {
    requireName(name, 'the name of a buffer');
    if (sink !== undefined && sink !== null) requireFunction(sink, `the sink of buffer "${name}"`);
    let buffer = this.byName.get(name);
    if (buffer === undefined) {
      buffer = new ManagedBuffer(name, native.bufferAdd(this.core.handle, name), sink ?? null);
      this.byName.set(name, buffer);
      this.refresh();
    } else if (sink && sink !== buffer.sink) {
      const has = buffer.sink === null ? 'no' : 'another';
      throw failure('ECONFLICT', `buffer "${name}" exists already with ${has} sink`);
    }
    return buffer;
  }

  check(name) {
    requireName(name, 'the name of a buffer');
    if (this.core.closed) throw failure('ECLOSED', 'used after close()');
  }

  /** The buffer; throws if there is none. */
  find(name) {
    this.check(name);
    const buffer = this.byName.get(name);
    if (buffer === undefined) throw failure('ENOTFOUND', `there is no buffer "${name}"; make it with createBuffer()`);
    return buffer;
  }

  drop(buffer) {
    if (this.byName.get(buffer.name) !== buffer) return;
    this.byName.delete(buffer.name);
    native.bufferDrop(this.core.handle, buffer.slot);
  }

  /** Copies the thresholds of all buffers from the core. */
  refresh() {
    let last = 0;
    for (const buffer of this.byName.values()) last = Math.max(last, buffer.slot);
    if (last >= this.thresholds.length) this.thresholds = new Float64Array(2 * (last + 1));
    // Before the copy: what changes during it is noticed the next time.
    this.generation = this.core.generation;
    native.bufferReadThresholds(this.core.handle, this.thresholds);
    for (const buffer of this.byName.values()) buffer.flushAt = this.thresholds[buffer.slot];
  }

  statsOf(buffer) {
    native.bufferStats(this.core.handle, buffer.slot, stats);
    return {
      createdTime: stats[0],
      maxSizeReached: Math.max(stats[1], buffer.maxLength, buffer.items.length),
      flushCount: stats[2],
      flushedItems: stats[3],
      currentSize: stats[4],
      flushAt: stats[5],
    };
  }

  /* ---- flushing ----------------------------------------------------------------- */

  /** Takes the items out for the caller, or hands them to the sink.
   *  @returns the items; [] with a sink; a promise of [] with an asynchronous one.
   *  Throws what the sink throws. */
  flush(buffer) {
    if (buffer.sink === null) return this.take(buffer);
    if (buffer.inFlight !== null) return this.flushNext(buffer);
    // A sink that flushes the buffer it serves: what came meanwhile waits.
    return buffer.isInSink ? [] : this.deliver(buffer);
  }

  take(buffer) {
    const items = buffer.items.splice(0);
    this.count(buffer, items.length);
    return items;
  }

  deliver(buffer) {
    if (buffer.items.length === 0) return [];
    const items = buffer.items.splice(0);
    const total = items.length;
    const { sink } = buffer; // called without a receiver
    let result;
    buffer.isInSink = true;
    try {
      result = sink(items);
      if (isThenable(result)) return this.follow(buffer, items, total, result);
    } catch (error) {
      this.putBack(buffer, items, total);
      throw error;
    } finally {
      buffer.isInSink = false;
    }
    this.count(buffer, total);
    return [];
  }

  follow(buffer, items, total, result) {
    buffer.inFlight = Promise.resolve(result).then(
      () => {
        buffer.inFlight = null;
        this.count(buffer, total);
        return [];
      },
      (error) => {
        buffer.inFlight = null;
        this.putBack(buffer, items, total);
        this.report(buffer, error);
        throw error;
      },
    );
    // It is reported already: a host that does not await it is not to be ended
    // by an unhandled rejection.
    buffer.inFlight.catch(ignore);
    return buffer.inFlight;
  }

  flushNext(buffer) {
    if (buffer.next === null) {
      const next = () => {
        buffer.next = null;
        return this.flush(buffer);
      };
      buffer.next = buffer.inFlight.then(next, next);
      buffer.next.catch(ignore);
    }
    return buffer.next;
  }

  // What the sink left in the array it was given was not delivered.
  putBack(buffer, items, total) {
    this.count(buffer, Math.max(0, total - items.length));
    const newer = buffer.items.splice(0);
    for (const item of items) buffer.items.push(item);
    for (const item of newer) buffer.items.push(item);
  }

  count(buffer, delivered) {
    if (delivered > buffer.maxLength) buffer.maxLength = delivered;
    if (this.core.closed || this.byName.get(buffer.name) !== buffer) return;
    native.bufferFlushed(this.core.handle, buffer.slot, delivered);
  }

  /** Under full pressure everything that has a sink goes there, however little.
   *  Nobody asked for it by name: failures are reported, not thrown. */
  relieve(pressure) {
    if (pressure > FULL_PRESSURE) this.flushSinks();
  }

  flushSinks() {
    for (const buffer of this.byName.values()) {
      if (buffer.sink === null || buffer.items.length === 0 || buffer.inFlight !== null) continue;
      try {
        this.flush(buffer);
      } catch (error) {
        this.report(buffer, error);
      }
    }
  }

  report(buffer, error) {
    reportOnce(buffer.sink, `the sink of buffer "${buffer.name}"`, error);
  }

  /* ---- the end of a buffer --------------------------------------------------------- */

  /** Flushes to the sink until the buffer is empty; a sink that appends to its own
   *  buffer is served a bounded number of times. Throws what the sink throws.
   *  @returns a promise if the sink is asynchronous. */
  empty(buffer, rounds = END_ROUNDS) {
    if (buffer.sink === null) return undefined;
    for (let left = rounds; left > 0 && !buffer.isInSink; left--) {
      if (buffer.items.length === 0 && buffer.inFlight === null) return undefined;
      const flushed = this.flush(buffer);
      if (isThenable(flushed)) return flushed.then(() => this.empty(buffer, left - 1));
    }
    return undefined;
  }

  /** Empties a buffer and forgets it. Items without a sink stay in the array, which
   *  is the host's; a buffer whose sink failed or is at work stays.
   *  @returns whether it is gone; a promise of that if the sink is asynchronous. */
  end(buffer) {
    const emptied = this.empty(buffer);
    return isThenable(emptied) ? emptied.then(() => this.forget(buffer)) : this.forget(buffer);
  }

  forget(buffer) {
    if (this.core.closed) return true;
    if (buffer.isInSink || buffer.inFlight !== null) return false;
    if (buffer.sink !== null && buffer.items.length > 0) return false;
    this.giveUp(buffer);
    return true;
  }

  giveUp(buffer) {
    const { length } = buffer.items;
    if (length > 0) warn(`buffer "${buffer.name}" is gone: its ${length} items stay in the array`, codes.EHOST);
    this.drop(buffer);
  }

  /** end() for each, failures reported. @returns promises still at work, which do
   *  not reject. */
  endAll() {
    const pending = [];
    for (const buffer of [...this.byName.values()]) {
      try {
        const gone = this.end(buffer);
        if (isThenable(gone)) pending.push(gone.then(ignore, ignore));
      } catch (error) {
        this.report(buffer, error);
      }
    }
    return pending;
  }

  /** At the end of the manager: forgets what could not be emptied. */
  giveUpAll() {
    for (const buffer of [...this.byName.values()]) this.giveUp(buffer);
  }
}

class BufferManager {
  #table;
  #isShared;

  constructor(config = {}, options = {}) {
    this.#isShared = config instanceof BufferTable;
    this.#table = this.#isShared ? config : new BufferTable(new Core(config, options));
  }

  createBuffer(name, sink) {
    const { items } = this.#table.open(name, sink);
    // Alone, it sees to it itself that a sink gets what is left at exit.
    if (!this.#isShared && sink) hold(this, () => this.close());
    return items;
  }

  shouldFlushBuffer(name, memoryPressure) {
    const buffer = this.#table.find(name);
    const pressure = memoryPressure === undefined ? this.#pressure() : memoryPressure;
    requirePressure(pressure);
    // No monitor drives the sizes of buffers that stand alone.
    if (!this.#isShared) native.buffersUpdate(this.#table.core.handle, pressure);
    return native.bufferShouldFlushAt(this.#table.core.handle, buffer.slot, buffer.items.length, pressure);
  }

  #pressure() {
    if (!this.#table.core.isRunning) this.#table.core.check();
    return this.#table.core.pressure;
  }

  flushBuffer(name) {
    return this.#table.flush(this.#table.find(name));
  }

  cleanupBuffer(name) {
    this.#table.check(name);
    const buffer = this.#table.byName.get(name);
    return buffer === undefined ? false : this.#table.end(buffer);
  }

  cleanupAllBuffers() {
    const pending = this.#table.core.closed ? [] : this.#table.endAll();
    return Promise.all(pending).then(() => {
      if (this.#table.byName.size === 0) letGo(this);
    });
  }

  close() {
    const pending = this.#table.core.closed ? [] : this.#table.endAll();
    if (this.#isShared) return Promise.all(pending).then(ignore);
    if (pending.length > 0 && !isExiting()) return Promise.all(pending).then(() => this.#end());
    return Promise.resolve(this.#end());
  }

  #end() {
    if (this.#table.core.closed) return;
    this.#table.giveUpAll();
    this.#table.core.close();
    letGo(this);
  }

  get activeBuffers() {
    const buffers = Object.create(null);
    for (const buffer of this.#table.byName.values()) buffers[buffer.name] = buffer.items;
    return buffers;
  }

  get bufferStats() {
    const all = Object.create(null);
    for (const buffer of this.#table.byName.values()) all[buffer.name] = this.#table.statsOf(buffer);
    return all;
  }

  get config() {
    return this.#table.core.given;
  }

  get settings() {
    return this.#table.core.settings;
  }

  updateConfig(changes) {
    this.#table.core.update(changes);
    this.#table.refresh();
  }
}

for (const [name, setting] of [
  ['defaultBufferSize', 'default_buffer_size'],
  ['maxBufferSize', 'max_buffer_size'],
  ['minBufferSize', 'min_buffer_size'],
  ['autoResize', 'auto_resize'],
]) {
  Object.defineProperty(BufferManager.prototype, name, {
    configurable: true,
    get() {
      return this.settings.bufferManager[name];
    },
    set(value) {
      this.updateConfig({ [`buffer_manager.${setting}`]: value });
    },
  });
}

defineDisposal(BufferManager);

module.exports = { BufferManager, BufferTable };
