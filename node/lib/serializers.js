'use strict';

// Values to bytes of the pool and back, as JSON and as MessagePack. Both write
// into a workspace of the isolate first and then rent exactly what is needed:
// copying costs less than renting too much, or twice.
const { bytesOf, utf8Decode } = require('./encoding');
const { failure, kindOf } = require('./errors');
const { jsonErrorPosition } = require('./json_position');
const { sharedPool } = require('./memory_pool');
const { msgpackErrorPosition } = require('./msgpack_position');
const { optional } = require('./optional');

const WORKSPACE_BYTES = 262144;
const WORKSPACE_MAX_BYTES = 1048576; // a larger one is left to the collector

let workspace = null;
let isInUse = false; // while code of the host may run in the middle of encoding

function unserializable(value, format, error) {
  let what = typeof value === 'object' && value !== null ? `an object of type ${nameOf(value)}` : kindOf(value);
  if (/call stack/i.test(error?.message)) what += ' nested too deep or inside itself';
  else if (/circular|cyclic/i.test(error?.message)) what += ' inside itself';
  else if (/bigint/i.test(error?.message) && typeof value !== 'bigint') what = `a bigint inside ${what}`;
  return Object.assign(failure('EENCODING', `${what} cannot become ${format}`), error && { cause: error });
}

function nameOf(value) {
  const name = value.constructor?.name;
  return typeof name === 'string' && name !== '' ? name : 'object';
}

/** What two formats share: `_encode(value)` leaves length bytes in `_bytes`, or in
 *  `_text` when they are more than the workspace takes. */
class Serializer {
  constructor(pool = sharedPool()) {
    this.pool = pool;
    this._bytes = null;
    this._text = null;
    Object.defineProperties(this, { _bytes: { enumerable: false }, _text: { enumerable: false } });
  }

  _moveTo(target, length) {
    if (this._text !== null) target.utf8Write(this._text, 0, length);
    else this._bytes.copy(target, 0, 0, length);
    this._drop();
  }

  _drop() {
    this._text = null;
    this._bytes = null;
  }

  serialize(value) {
    const length = this._encode(value);
    const target = Buffer.allocUnsafe(length);
    this._moveTo(target, length);
    return target;
  }

  serializePooled(value) {
    const length = this._encode(value);
    const rental = this.pool.rent(length);
    this._moveTo(rental.buffer, length);
    return rental;
  }

  serializeToMemory(value) {
    return this.serializePooled(value);
  }

  serializeInto(value, writer) {
    const length = this._encode(value);
    this._moveTo(writer.getSpan(length), length);
    writer.advance(length);
    return length;
  }

  trySerialize(value, destination) {
    const target = bytesOf(destination, 'the destination');
    const length = this._encode(value);
    if (length <= target.length) this._moveTo(target, length);
    else this._drop();
    return length <= target.length ? length : null;
  }

  getPooledWriter(sizeHint = undefined) {
    return this.pool.rentWriter(sizeHint);
  }
}

class JsonSerializer extends Serializer {
  _encode(value) {
    let text;
    try {
      text = JSON.stringify(value);
    } catch (error) {
      throw unserializable(value, 'JSON', error);
    }
    if (text === undefined) throw unserializable(value, 'JSON');
    workspace ??= Buffer.allocUnsafeSlow(WORKSPACE_BYTES);
    // Three bytes for a unit of UTF-16 are the most there can be.
    if (text.length * 3 <= workspace.length) {
      this._bytes = workspace;
      return workspace.utf8Write(text, 0, workspace.length);
    }
    this._text = text;
    return Buffer.byteLength(text);
  }

  deserialize(view) {
    const text = utf8Decode(view);
    try {
      return JSON.parse(text);
    } catch {
      const before = text.slice(0, jsonErrorPosition(text));
      const at = Buffer.byteLength(before);
      const what = before.length === text.length ? 'it ends too early' : 'what stands there cannot be';
      throw failure('EENCODING', `not JSON: byte ${at}: ${what}`);
    }
  }
}

/* ---- MessagePack ---------------------------------------------------------------- */

const REUSE_BUFFER = 512; // msgpackr: hand the buffer out with start and end in it
// msgpackr has one buffer for all its users in the isolate. Ours must not stay in
// there, and one too small to begin in makes it take a new one of its own.
const NEUTRAL = Buffer.allocUnsafeSlow(2048);

const NEVER_USED = 0xc1;

const FORMAT = {
  useRecords: false, // plain MessagePack, which others read
  mapsAsObjects: true,
  int64AsType: 'auto',
  encodeUndefinedAsNil: true,
};

class MessagePackSerializer extends Serializer {
  #packr;

  constructor(pool = undefined, { copyBuffers = true } = {}) {
    super(pool);
    const { Packr } = optional('msgpackr', 'MessagePackSerializer');
    this.#packr = new Packr({ ...FORMAT, copyBuffers });
  }

  _encode(value) {
    if (typeof value === 'function' || typeof value === 'symbol' || value === undefined) {
      throw unserializable(value, 'MessagePack');
    }
    if (isInUse) return this.#encodeNested(value);
    workspace ??= Buffer.allocUnsafeSlow(WORKSPACE_BYTES);
    isInUse = true;
    try {
      this.#packr.useBuffer(workspace);
      const made = this.#packr.pack(value, REUSE_BUFFER);
      this._bytes = made;
      // It grew: keep the larger one.
      if (made.length > workspace.length && made.length <= WORKSPACE_MAX_BYTES) workspace = made;
      return made.end;
    } catch (error) {
      throw unserializable(value, 'MessagePack', error);
    } finally {
      this.#packr.useBuffer(NEUTRAL);
      isInUse = false;
    }
  }

  // Called by a toJSON() of the host while the outer call fills the workspace.
  #encodeNested(value) {
    try {
      this._bytes = this.#packr.pack(value);
      return this._bytes.length;
    } catch (error) {
      throw unserializable(value, 'MessagePack', error);
    }
  }

  deserialize(view) {
    const bytes = bytesOf(view, 'what is deserialized');
    // msgpackr lets the one byte pass that begins nothing.
    const isSuspect = bytes.includes(NEVER_USED) && msgpackErrorPosition(bytes) < bytes.length;
    if (!isSuspect) {
      try {
        return this.#packr.unpack(bytes);
      } catch {
        // Its text quotes the message.
      }
    }
    const at = msgpackErrorPosition(bytes);
    const what = at === bytes.length ? 'it ends too early' : 'what begins there cannot be, or is cut off';
    throw failure('EENCODING', `not MessagePack: byte ${at}: ${what}`);
  }
}

module.exports = { JsonSerializer, MessagePackSerializer };
