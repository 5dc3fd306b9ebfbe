'use strict';

// PooledBufferWriter: bytes written one after the other into memory of a pool.
const { isAnyArrayBuffer } = require('util').types;
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireCount } = require('./errors');
const { MOVE } = require('./memory_pool');

const MAX_BYTES = require('./native').poolConstants.maxBytes;

function bytesOf(data) {
  if (data instanceof Uint8Array) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (isAnyArrayBuffer(data)) return new Uint8Array(data);
  throw failure('ETYPE', `what is written must be a Buffer, a typed array, a DataView or an ArrayBuffer, not ${kindOf(data)}`);
}

class PooledBufferWriter {
  #pool;
  #maxBytes;
  #rental; // null once disposed of
  #memory; // all of it
  #count = 0;

  constructor(pool, sizeHint, maxBytes = MAX_BYTES) {
    requireCount(sizeHint, 'sizeHint', 0);
    requireCount(maxBytes, 'maxBytes', 1);
    this.#pool = pool;
    this.#maxBytes = Math.min(maxBytes, MAX_BYTES);
    this.#take(Math.min(Math.max(sizeHint, 1), this.#maxBytes));
  }

  #take(bytes) {
    const rental = this.#pool.rent(bytes);
    this.#rental = rental[MOVE](Math.min(rental.capacity, this.#maxBytes));
    this.#memory = this.#rental.buffer;
  }

  #requireOpen() {
    if (this.#rental === null) throw failure('ECLOSED', 'PooledBufferWriter used after dispose()');
  }

  // @returns the memory there was before, to be returned when it was copied; or null.
  #reserve(bytes) {
    const needed = this.#count + bytes;
    if (needed <= this.#memory.length) return null;
    if (needed > this.#maxBytes) {
      throw failure('ERANGE', `${bytes} bytes after ${this.#count} are more than maxBytes, which is ${this.#maxBytes}`);
    }
    const [rental, memory] = [this.#rental, this.#memory];
    this.#take(Math.min(Math.max(needed, 2 * memory.length), this.#maxBytes));
    this.#memory.set(memory.subarray(0, this.#count));
    return rental;
  }

  get written() {
    this.#requireOpen();
    return this.#memory.subarray(0, this.#count);
  }

  get writtenCount() {
    this.#requireOpen();
    return this.#count;
  }

  get capacity() {
    this.#requireOpen();
    return this.#memory.length;
  }

  getSpan(sizeHint = 0) {
    this.#requireOpen();
    requireCount(sizeHint, 'sizeHint', 0);
    this.#reserve(Math.max(sizeHint, 1))?.return();
    return this.#memory.subarray(this.#count);
  }

  advance(count) {
    this.#requireOpen();
    requireCount(count, 'count', 0);
    const free = this.#memory.length - this.#count;
    if (count > free) throw failure('ERANGE', `count is ${count}, allowed: 0 to ${free}, what getSpan() gave`);
    this.#count += count;
  }

  write(data) {
    this.#requireOpen();
    const bytes = bytesOf(data);
    const old = this.#reserve(bytes.length);
    this.#memory.set(bytes, this.#count);
    this.#count += bytes.length;
    old?.return(); // now: `data` may be a part of it
    return bytes.length;
  }

  clear() {
    this.#requireOpen();
    this.#count = 0;
  }

  detach() {
    this.#requireOpen();
    const detached = this.#rental[MOVE](this.#count);
    this.#rental = this.#memory = null;
    return detached;
  }

  dispose() {
    const rental = this.#rental;
    this.#rental = this.#memory = null;
    rental?.return();
  }

  return() {
    this.dispose();
  }

  close() {
    this.dispose();
  }
}

defineDisposal(PooledBufferWriter, 'dispose');

module.exports = { PooledBufferWriter };
