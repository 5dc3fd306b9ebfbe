'use strict';

// The memory of one pool: slabs from V8's own allocator, cut into slots of one size,
// and for each size class of the core a stack of idle slots, used last goes first.
//
// Why V8's memory and not the core's: handing memory of C to V8 costs up to 20 us a
// piece and is taken back late. V8's own is freed at once by detaching it, costs
// nothing at the end of a Worker, and can never be freed under a view of it.
//
//   PooledBuffer --> Slot --> Slab (one ArrayBuffer)
//                      \         |
//                       Record <-+     what is known of a slot without keeping it
//
// The pool holds idle slots alone. One that is rented hangs on its PooledBuffer, so
// if that is forgotten the slot is collected, which a FinalizationRegistry tells; it
// is asked once per slot, not once per rental.
const native = require('./native');
const { failure } = require('./errors');
const life = require('./pool_life');
const { PoolWatch } = require('./pool_watch');
const { BYTES_PER_MB } = require('./sample');

const { classBytes, maxBytes } = native.poolConstants;
const CLASSES = classBytes.length;
const CLASS_MAX_BYTES = classBytes[CLASSES - 1];
const CLASS_STEP_BYTES = classBytes[0]; // all sizes are multiples of it
const CLASS_SHIFT = Math.log2(CLASS_STEP_BYTES);
const NO_LIMIT = 2 ** 30; // a small integer to V8
const BATCH = 32; // slots cut at a time
const SLAB_SLOTS = 8; // at least, but for SLAB_MOST_BYTES
const SLAB_LEAST_BYTES = 65536;
const SLAB_MOST_BYTES = 262144;
const TICK_MOST_BYTES = 64 * BYTES_PER_MB; // given up in one tick: it takes 0.1 ms a MB
const TIER_HUGE = native.poolTierNames.length - 1;

/** Class of a request, by its size in steps, rounded up. */
const classTable = new Uint8Array(CLASS_MAX_BYTES / CLASS_STEP_BYTES + 1);
classBytes.reduce((previous, bytes, index) => {
  classTable.fill(index, previous / CLASS_STEP_BYTES + 1, bytes / CLASS_STEP_BYTES + 1);
  return bytes;
}, 0);

/** Frees ArrayBuffers now, not when V8 next collects; views that somebody kept are
 *  empty from then on. What the host made untransferable is left to the collector:
 *  V8 has a key for it, and the call of Node-API ends the process then.
 *  @returns bytes freed. */
function detach(memories) {
  if (typeof ArrayBuffer.prototype.transfer !== 'function') return native.poolDetach(memories);
  let freed = 0;
  for (const memory of memories) {
    const { byteLength } = memory;
    try {
      memory.transfer(0);
      freed += byteLength;
    } catch {
      // As said above.
    }
  }
  return freed;
}

class Slab {
  constructor(memory, slotBytes, isSpent) {
    this.memory = memory; // an ArrayBuffer
    this.bytes = memory.byteLength; // also when somebody took it away
    this.slotBytes = slotBytes;
    this.slots = isSpent ? 1 : Math.max(1, Math.floor(memory.byteLength / slotBytes));
    this.isSpent = isSpent; // used once: plain or guarded
    this.isGone = false; // nothing of it belongs to the pool any more
    this.records = [];
    this.lost = 0;
    this.parked = 0; // idle, but not to be rented any more
    this.seen = 0; // idle slots, while slabs are looked for that may go
  }
}

/** What lives on when a slot is collected. */
class Record {
  constructor(list, slab) {
    this.list = list;
    this.slab = slab;
    this.stamp = 0; // the tick in which it was rented; 0: idle
    this.watch = null;
  }
}

class Slot {
  constructor(list, slab, offset) {
    this.list = list;
    this.slab = slab;
    this.offset = offset;
    this.view = null; // Buffer of the length last asked for
    this.record = new Record(list, slab);
  }
}

/** Slots of one class; of huge ones; of plain ones by tier. */
class List {
  constructor(owner, capacity, tier) {
    this.owner = owner;
    this.capacity = capacity; // 0: each slot its own
    this.tier = tier;
    this.idle = []; // longest idle first
    this.low = 0; // fewest idle since the last tick
    this.limit = 0; // a return makes no more idle than that without a closer look
    this.stamp = 1; // time of the last tick, in ticks; as in all lists of the pool
    this.left = 1; // rentals until the next sample, counted down
    this.span = 1; // what it was counted down from
    this.rentedBefore = 0; // that
    this.slab = null; // that is being cut
    this.gone = null; // what a returned PooledBuffer shows to
    this.lost = 0;
    this.misses = 0; // rentals that found nothing idle
  }

  get rented() {
    return this.rentedBefore + this.span - this.left;
  }

  /** Samples the rental after so many. */
  arm(rentals) {
    this.rentedBefore = this.rented;
    this.span = this.left = rentals;
  }
}

class PoolMemory {
  constructor() {
    this.classes = classBytes.map((bytes) => new List(this, bytes, native.poolTier(bytes)));
    this.huge = new List(this, 0, TIER_HUGE);
    this.plain = native.poolTierNames.map((_, tier) => new List(this, 0, tier));
    this.lists = [...this.classes, this.huge, ...this.plain];
    this.slabs = new Set();
    this.level = 0;
    this.isClosed = false;
    this.heldBytes = 0;
    this.peakHeldBytes = 0;
    this.givenBackBytes = 0;
    this.hugeIdleBytes = 0;
    this.watch = new PoolWatch(this);
    const gone = new Slot(new List(this, 0, TIER_HUGE), new Slab(new ArrayBuffer(0), 0, true), 0);
    for (const list of [...this.lists, gone.list]) list.gone = gone;
    this.gone = gone;
    this.forgotten = new FinalizationRegistry((record) => this.#lose(record));
  }

  get stamp() {
    return this.huge.stamp;
  }

  set stamp(stamp) {
    for (const list of this.lists) list.stamp = stamp;
  }

  /** @param settings of section `pool`. */
  configure(settings) {
    this.settings = settings;
    this.maxBytes = settings.maxPoolMb * BYTES_PER_MB;
    this.hugeCacheBytes = settings.hugeCacheMb * BYTES_PER_MB;
    this.watch.configure(settings);
    this.#adapt();
    if (this.heldBytes > this.maxBytes) this.relieve(1);
  }

  /** Limits of the level and the settings in force now. */
  #adapt() {
    const cacheBytes = Math.floor(this.settings.threadCacheMb * BYTES_PER_MB);
    this.isPlain = !this.settings.poolEnabled || this.isClosed || this.level >= life.LEVEL_CRITICAL;
    for (const list of this.classes) {
      if (this.isPlain) list.limit = 0;
      else if (this.level === life.LEVEL_NORMAL) list.limit = NO_LIMIT;
      else list.limit = native.poolCacheLimit(list.capacity, cacheBytes, this.level);
      if (list.idle.length > list.limit) this.#giveUp(list, list.idle.length - list.limit);
      if (this.isPlain) this.#park(list);
    }
    if (this.level !== life.LEVEL_NORMAL || this.isPlain) this.#giveUp(this.huge, Infinity);
  }

  // What lies in slabs that are in use goes with these.
  #park(list) {
    for (const { slab } of list.idle) slab.parked++;
    list.idle = [];
    list.low = 0;
  }

  /** @param level of memory pressure, as the core numbers them. */
  tellLevel(level) {
    if (level === this.level) return;
    this.level = level;
    if (level !== life.LEVEL_NORMAL) this.watch.letGo();
    this.#adapt();
  }

  /* ---- renting ------------------------------------------------------------------ */

  /** A slot of class `index` when none is idle. */
  refill(index, bytes) {
    const list = this.classes[index];
    this.#look();
    if (this.isPlain) return this.#spend(list, bytes);
    if (list.slab === null) {
      list.slab = this.#newSlab(list.capacity, slabBytes(list.capacity));
      if (list.slab === null) return this.#spend(list, bytes);
    }
    const { slab } = list;
    const fresh = Math.min(BATCH, slab.slots - slab.records.length);
    for (let count = 0; count < fresh; count++) list.idle.push(this.#cut(list, slab));
    if (slab.records.length === slab.slots) list.slab = null;
    list.low = 0;
    list.misses++;
    return this.#begin(list.idle.pop());
  }

  rentHuge(bytes) {
    const list = this.huge;
    const capacity = native.poolCapacity(bytes);
    this.#look();
    if (this.isPlain) return this.#spend(list, bytes);
    const at = list.idle.findIndex((slot) => slot.slab.slotBytes === capacity);
    let slot;
    if (at >= 0) {
      [slot] = list.idle.splice(at, 1);
      this.hugeIdleBytes -= capacity;
      list.low = Math.min(list.low, list.idle.length);
    } else {
      const slab = this.#newSlab(capacity, capacity);
      if (slab === null) return this.#spend(list, bytes);
      slot = this.#cut(list, slab);
      list.misses++;
    }
    return this.#begin(slot);
  }

  /** Memory of its own for one rental, counted as one of `list`. */
  guard(list, bytes) {
    const capacity = list.capacity > 0 ? list.capacity : native.poolCapacity(bytes);
    return this.#cut(list, this.#add(new Slab(allocate(capacity), capacity, true)));
  }

  // Plainly: goes back to the allocator when it is returned. Counted here, not by
  // the list that it was asked from.
  #spend(from, bytes) {
    const list = this.plain[native.poolTier(bytes)];
    const slot = this.#cut(list, this.#add(new Slab(allocate(bytes), bytes, true)));
    list.rentedBefore++;
    list.misses++;
    from.rentedBefore--;
    return this.#begin(slot);
  }

  #begin(slot) {
    slot.record.stamp = this.stamp;
    return slot;
  }

  requireOpen() {
    if (this.isClosed) throw failure('ECLOSED', 'MemoryPool used after close()');
  }

  #look() {
    this.requireOpen();
    this.tellLevel(life.level());
  }

  #newSlab(slotBytes, bytes) {
    if (this.heldBytes + bytes > this.maxBytes) return null;
    const slab = this.#add(new Slab(allocate(bytes), slotBytes, false));
    this.heldBytes += bytes;
    if (this.heldBytes > this.peakHeldBytes) this.peakHeldBytes = this.heldBytes;
    return slab;
  }

  #add(slab) {
    if (this.slabs.size === 0) life.enter(this);
    this.slabs.add(slab);
    return slab;
  }

  #cut(list, slab) {
    const slot = new Slot(list, slab, slab.records.length * slab.slotBytes);
    slab.records.push(slot.record);
    this.forgotten.register(slot, slot.record);
    return slot;
  }

  /** The Buffer of `length` bytes that a rental shows. */
  viewOf(slot, length) {
    if (slot === this.gone) throw failure('ERETURNED', 'this buffer was returned');
    try {
      slot.view = Buffer.from(slot.slab.memory, slot.offset, length);
    } catch {
      this.#robbed(slot.slab);
      throw failure('ECONFLICT', 'the memory of this buffer is gone: an ArrayBuffer of the pool was transferred');
    }
    return slot.view;
  }

  // Nobody else shall be given a part of it.
  #robbed(slab) {
    for (const list of this.classes) {
      list.idle = list.idle.filter((slot) => slot.slab !== slab);
      list.low = Math.min(list.low, list.idle.length);
    }
    for (const record of slab.records) this.watch.mark(record); // their returns are looked at
    if (!slab.isGone) this.#forget(slab);
  }

  /* ---- returning ------------------------------------------------------------------ */

  /** A return that is more than a push: watched, over a limit, or wrong. */
  end(slot) {
    const { record } = slot;
    if (slot === this.gone) {
      this.watch.report('double_return', null, null, 0);
      throw failure('ERETURNED', 'this buffer was returned before');
    }
    record.stamp = 0;
    if (record.watch !== null && this.watch.end(slot)) return;
    this.takeBack(slot);
  }

  takeBack(slot) {
    const { list, slab } = slot;
    if (slab.isGone) return; // robbed meanwhile
    if (slab.isSpent) {
      this.#drop([slab]);
    } else if (list === this.huge) {
      this.#takeBackHuge(slot);
    } else if (this.isPlain) {
      slab.parked++;
      if (slab.parked + slab.lost === slab.records.length) this.#drop([slab]);
    } else {
      list.idle.push(slot);
      const surplus = list.idle.length - list.limit;
      // What lies in slabs that are in use cannot go: not tried at every return.
      if (surplus >= slab.slots) this.#giveUp(list, surplus);
    }
  }

  #takeBackHuge(slot) {
    const capacity = slot.slab.slotBytes;
    if (this.isPlain || this.level !== life.LEVEL_NORMAL || this.hugeIdleBytes + capacity > this.hugeCacheBytes) {
      this.#drop([slot.slab]);
      return;
    }
    this.huge.idle.push(slot);
    this.hugeIdleBytes += capacity;
  }

  #lose(record) {
    const { list, slab } = record;
    if (slab.isGone || record.stamp === 0) return; // it was idle when it was given up
    list.lost++;
    slab.lost++;
    this.watch.lose(record, slab.slotBytes);
    record.stamp = 0;
    // Views of it may be about: V8 frees it when the last one is gone.
    if (slab.parked + slab.lost === slab.records.length) this.#forget(slab);
  }

  /* ---- giving up -------------------------------------------------------------------- */

  /** Gives whole slabs up until at least `wanted` idle slots are gone, longest idle
   *  first, and no more than `mostBytes`. @returns bytes freed. */
  #giveUp(list, wanted, mostBytes = Infinity) {
    const { idle } = list;
    if (idle.length === 0 || wanted <= 0) return 0;
    for (const { slab } of idle) slab.seen++;
    const slabs = new Set();
    let slots = 0;
    let bytes = 0;
    for (const { slab } of idle) {
      if (slots >= wanted || bytes >= mostBytes) break;
      if (slabs.has(slab) || slab.seen + slab.parked + slab.lost < slab.records.length) continue;
      slabs.add(slab);
      slots += slab.seen;
      bytes += slab.bytes;
    }
    for (const { slab } of idle) slab.seen = 0;
    if (slabs.size === 0) return 0;
    list.idle = idle.filter(({ slab }) => !slabs.has(slab));
    list.low = Math.min(list.low, list.idle.length);
    if (list === this.huge) this.hugeIdleBytes -= bytes;
    return this.#drop(slabs);
  }

  // Of a slab with a slot lost, views may be about: V8 frees it after the last one.
  #drop(slabs) {
    const memories = [];
    let slots = 0;
    for (const slab of slabs) {
      slots += slab.records.length;
      if (slab.lost === 0) memories.push(slab.memory);
      this.#forget(slab);
    }
    const bytes = detach(memories);
    this.givenBackBytes += bytes;
    life.freed(bytes, slots);
    return bytes;
  }

  #forget(slab) {
    const [{ list }] = slab.records;
    if (list.slab === slab) list.slab = null;
    slab.isGone = true;
    this.slabs.delete(slab);
    if (!slab.isSpent) this.heldBytes -= slab.bytes;
    if (this.slabs.size === 0) life.leave(this);
  }

  /** Gives up half of what was idle all the time since the last tick.
   *  @param stamp of now. */
  tick(stamp) {
    let left = TICK_MOST_BYTES;
    this.stamp = stamp;
    this.watch.letGo();
    for (const list of [...this.classes, this.huge]) {
      const { low } = list;
      list.low = list.idle.length;
      if (low > 0 && left > 0) left -= this.#giveUp(list, native.poolTrim(low), left);
    }
  }

  /** Gives up a share of what is idle, 0 to 1. @returns bytes freed. */
  relieve(share) {
    let bytes = 0;
    this.watch.letGo();
    for (const list of [...this.classes, this.huge]) {
      bytes += this.#giveUp(list, Math.ceil(list.idle.length * share));
    }
    return bytes;
  }

  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    this.watch.letGo();
    this.#adapt();
    this.relieve(1);
  }

  /** What is rented now, by list: how many, and their bytes. Not counted at every
   *  rental: nobody asks that often. */
  rentals() {
    const rentals = new Map(this.lists.map((list) => [list, { current: 0, currentBytes: 0 }]));
    for (const { records, slotBytes } of this.slabs) {
      const sums = rentals.get(records[0].list);
      for (const { stamp } of records) {
        if (stamp === 0) continue;
        sums.current++;
        sums.currentBytes += slotBytes;
      }
    }
    return rentals;
  }

  get idleCount() {
    return this.lists.reduce((sum, list) => sum + list.idle.length, 0);
  }

  /** Idle bytes; those of slabs that are cut up later are not among them. */
  get idleBytes() {
    return this.classes.reduce((sum, list) => sum + list.idle.length * list.capacity, this.hugeIdleBytes);
  }
}

function slabBytes(capacity) {
  return native.poolCapacity(Math.max(SLAB_LEAST_BYTES, Math.min(SLAB_SLOTS * capacity, Math.max(SLAB_MOST_BYTES, capacity))));
}

/** An ArrayBuffer whose contents are not cleared. */
function allocate(bytes) {
  try {
    return Buffer.allocUnsafeSlow(bytes).buffer;
  } catch (cause) {
    const error = failure('ENOMEM', `no memory for a buffer of ${bytes} bytes`);
    error.cause = cause;
    throw error;
  }
}

module.exports = { CLASS_MAX_BYTES, CLASS_SHIFT, CLASS_STEP_BYTES, MAX_BYTES: maxBytes, PoolMemory, classTable };
