'use strict';

// What waits to be written to a socket. Small pieces are gathered in rented
// memory, large ones are written from where they are; both stay untouched until
// the socket has taken them.

const SEGMENT_BYTES = 65536;
const DIRECT_BYTES = 16384; // from here on copying costs more than a piece of its own
const DIGITS = 16; // room for "$", a length and the end of the line

class Outgoing {
  #pool;
  #socket;
  #segment = null; // { rental, memory, used, sent, writing }
  #open = new Set(); // segments not returned yet

  constructor(pool, socket) {
    this.#pool = pool;
    this.#socket = socket;
  }

  #room(bytes) {
    const segment = this.#segment;
    if (segment !== null && segment.used + bytes <= segment.memory.length) return segment;
    this.flush();
    const rental = this.#pool.rent(Math.max(SEGMENT_BYTES, bytes));
    this.#segment = { rental, memory: rental.buffer, used: 0, sent: 0, writing: 0 };
    this.#open.add(this.#segment);
    if (segment !== null) this.#settle(segment);
    return this.#segment;
  }

  /** Appends "$" or "*" and a number as a line. */
  count(mark, number) {
    const segment = this.#room(DIGITS);
    const { memory } = segment;
    memory[segment.used++] = mark;
    let scale = 1;
    while (scale * 10 <= number) scale *= 10;
    for (let rest = number; scale >= 1; scale = Math.floor(scale / 10)) {
      const digit = Math.floor(rest / scale);
      memory[segment.used++] = 48 + digit;
      rest -= digit * scale;
    }
    memory[segment.used++] = 13;
    memory[segment.used++] = 10;
  }

  text(text) {
    const segment = this.#room(text.length * 3);
    segment.used += segment.memory.utf8Write(text, segment.used);
  }

  bytes(bytes) {
    if (bytes.length >= DIRECT_BYTES) {
      this.flush();
      this.#socket.write(bytes);
      return;
    }
    const segment = this.#room(bytes.length);
    bytes.copy(segment.memory, segment.used);
    segment.used += bytes.length;
  }

  endLine() {
    const segment = this.#room(2);
    segment.memory[segment.used++] = 13;
    segment.memory[segment.used++] = 10;
  }

  /** Hands everything to the socket. */
  flush() {
    const segment = this.#segment;
    if (segment === null || segment.used === segment.sent) return;
    segment.writing++;
    const part = segment.memory.subarray(segment.sent, segment.used);
    segment.sent = segment.used;
    this.#socket.write(part, () => {
      segment.writing--;
      this.#settle(segment);
    });
  }

  #settle(segment) {
    if (segment.writing > 0 || segment.sent < segment.used || !this.#open.delete(segment)) return;
    if (this.#segment === segment) this.#segment = null;
    segment.rental.return();
  }

  /** The socket is destroyed and reads nothing any more. */
  abandon() {
    for (const segment of this.#open) segment.rental.return();
    this.#open.clear();
    this.#segment = null;
  }
}

module.exports = { Outgoing };
