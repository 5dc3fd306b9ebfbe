'use strict';

// Reads the protocol of Redis (RESP 2) as it comes. A reply becomes a string, a
// number, null, an array or a Refusal; long strings that the reader asked for
// become rentals, filled as their bytes come in.

const { rentOf } = require('../rental');

const REPLY_BYTES = 65536; // read at a time
const MESSAGE_BYTES = 131072;
const LINE = 10;
const DIGIT_7 = 55;
const WORD_BYTES = 13; // of "$7", "message" and the ends of their lines
const AROUND_BYTES = 16; // of a string: its length and the ends of lines
const MAX_DEPTH = 8;
const MAX_ITEMS = 1 << 24;
const MAX_BULK_BYTES = 536870912; // Redis's own limit

/** What Redis answers instead of a result. */
class Refusal {
  constructor(text) {
    this.text = text;
  }
}

class ProtocolError extends Error {}

class Incoming {
  #pool;
  #onReply;
  #onMessage;
  #pooledIndex;
  #memory;
  #topic = ''; // of the latest message; most are of the same
  #topicBytes = Buffer.alloc(0);
  #isMessage = false; // what is being filled is the payload of one
  #kept = 0; // bytes of an element that has not come whole
  #at = 0;
  #end = 0;
  #levels = []; // arrays that are not full yet: { items, missing }
  #rental = null; // being filled
  #filled = 0;
  #skip = 0; // bytes to pass over
  #isEnded = false;

  /** @param onReply (reply) => void
   *  @param pooledIndex () => which item of an outer array becomes a rental.
   *  @param onMessage (topic, rental) => void, if messages are pushed. */
  constructor(pool, onReply, pooledIndex, onMessage) {
    this.#pool = pool;
    this.#onReply = onReply;
    this.#onMessage = onMessage;
    this.#pooledIndex = pooledIndex;
    this.#memory = Buffer.allocUnsafeSlow(onMessage === null ? REPLY_BYTES : MESSAGE_BYTES);
  }

  /** Where the next bytes go. */
  get space() {
    return this.#kept === 0 ? this.#memory : this.#memory.subarray(this.#kept);
  }

  /** Takes `count` bytes that came into `space`. */
  take(count) {
    this.#at = 0;
    this.#end = this.#kept + count;
    while (!this.#isEnded && this.#at < this.#end && this.#step());
    this.#kept = this.#isEnded ? 0 : this.#end - this.#at;
    if (this.#kept === 0) return;
    if (this.#kept === this.#memory.length) throw new ProtocolError('a line is too long');
    this.#memory.copyWithin(0, this.#at, this.#end);
  }

  /** One element. @returns false if it has not come whole. */
  #step() {
    if (this.#skip > 0) {
      const count = Math.min(this.#skip, this.#end - this.#at);
      this.#skip -= count;
      this.#at += count;
      return true;
    }
    if (this.#rental !== null) return this.#fill();
    const begin = this.#at;
    const isWhole = this.#element();
    if (!isWhole) this.#at = begin;
    return isWhole;
  }

  #element() {
    const memory = this.#memory;
    const mark = memory[this.#at];
    switch (mark) {
      case 36: // $
        return this.#bulk();
      case 42: // *
        return this.#array();
      case 58: { // :
        const number = this.#number();
        return number !== null && this.#deliver(number);
      }
      case 43: // +
      case 45: { // -
        const end = memory.indexOf(LINE, this.#at);
        if (end < 0 || end >= this.#end) return false;
        const text = memory.utf8Slice(this.#at + 1, end - 1);
        this.#at = end + 1;
        return this.#deliver(mark === 43 ? text : new Refusal(text));
      }
      default:
        throw new ProtocolError(`byte ${mark} begins no reply`);
    }
  }

  /** The number of this line; null if the line has not come whole. */
  #number() {
    const memory = this.#memory;
    let at = this.#at + 1;
    const isNegative = memory[at] === 45;
    if (isNegative) at++;
    let number = 0;
    for (; at < this.#end && memory[at] !== 13; at++) {
      const digit = memory[at] - 48;
      if (!(digit >= 0 && digit <= 9)) throw new ProtocolError('a number was expected');
      number = number * 10 + digit;
    }
    if (at + 1 >= this.#end) return null;
    this.#at = at + 2;
    return isNegative ? -number : number;
  }

  #array() {
    const count = this.#number();
    if (count === null) return false;
    if (count < 0) return this.#deliver(null);
    if (count > MAX_ITEMS || this.#levels.length >= MAX_DEPTH) throw new ProtocolError('an array is too large');
    if (count === 0) return this.#deliver([]);
    if (this.#onMessage !== null && this.#levels.length === 0) {
      if (this.#at + 2 > this.#end) return false;
      // Of what is pushed only "message" has seven letters.
      if (count === 3 && this.#memory[this.#at + 1] === DIGIT_7) return this.#message();
    }
    this.#levels.push({ items: [], missing: count });
    return true;
  }

  /** The head of a message, "$7 message $n topic $n", up to its payload. */
  #message() {
    this.#at += WORD_BYTES;
    if (this.#at >= this.#end) return false;
    const topicLength = this.#number();
    if (topicLength === null || this.#at + topicLength + 2 > this.#end) return this.#isTooLong(topicLength);
    this.#readTopic(topicLength);
    this.#at += topicLength + 2;
    if (this.#at >= this.#end) return false;
    const length = this.#number();
    if (length === null) return false;
    return this.#begin(length, true);
  }

  #isTooLong(length) {
    if (length + AROUND_BYTES * 4 > this.#memory.length) throw new ProtocolError('a string is too long');
    return false;
  }

  #readTopic(length) {
    const known = this.#topicBytes;
    let at = 0;
    if (known.length === length) while (at < length && known[at] === this.#memory[this.#at + at]) at++;
    if (at === length && known.length === length) return;
    this.#topicBytes = Buffer.from(this.#memory.subarray(this.#at, this.#at + length));
    this.#topic = this.#topicBytes.toString();
  }

  /** Begins to fill a rental. */
  #begin(length, isMessage) {
    if (!(length >= 0 && length <= MAX_BULK_BYTES)) throw new ProtocolError('a string is too long');
    this.#filled = 0;
    this.#isMessage = isMessage;
    this.#rental = rentOf(this.#pool, length);
    return length > 0 || this.#fill();
  }

  #bulk() {
    const length = this.#number();
    if (length === null) return false;
    if (length < 0) return this.#deliver(null);
    const [level] = this.#levels;
    if (this.#levels.length === 1 && level.items.length === this.#pooledIndex()) {
      return this.#begin(length, false);
    }
    if (this.#at + length + 2 > this.#end) return this.#isTooLong(length);
    const text = this.#memory.utf8Slice(this.#at, this.#at + length);
    this.#at += length + 2;
    return this.#deliver(text);
  }

  #fill() {
    const rental = this.#rental;
    const { buffer } = rental;
    const count = Math.min(buffer.length - this.#filled, this.#end - this.#at);
    if (count > 0) this.#memory.copy(buffer, this.#filled, this.#at, this.#at + count);
    this.#at += count;
    this.#filled += count;
    if (this.#filled < buffer.length) return true;
    this.#rental = null;
    this.#skip = 2;
    if (!this.#isMessage) return this.#deliver(rental);
    this.#onMessage(this.#topic, rental);
    return true;
  }

  #deliver(value) {
    let whole = value;
    for (;;) {
      const level = this.#levels.at(-1);
      if (level === undefined) break;
      level.items.push(whole);
      if (--level.missing > 0) return true;
      this.#levels.pop();
      whole = level.items;
    }
    this.#onReply(whole);
    return true;
  }

  /** Returns what was being filled; nothing is taken after it. */
  end() {
    this.#isEnded = true;
    const rentals = [this.#rental, ...this.#levels.flatMap(({ items }) => items)];
    for (const one of rentals) if (typeof one?.return === 'function') one.return();
    this.#rental = null;
    this.#levels.length = 0;
  }
}

module.exports = { Incoming, ProtocolError, Refusal };
