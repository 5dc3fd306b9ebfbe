'use strict';

// What waits to be written to a socket. Small pieces are gathered in rented
// memory, large ones are written from where they are; both stay untouched until
// the socket has taken them.

const SEGMENT_BYTES = 65536;
const DIRECT_BYTES = 16384; // from here on copying costs more than a piece of its own
const LINE_BYTES = 24; // room for "$", a length and the end of the line
const DIGIT_0 = 48;
const RETURN = 13;
const LINE = 10;

class Segment {
  constructor(rental, onIdle) {
    this.rental = rental;
    this.memory = rental.buffer;
    this.used = 0;
    this.sent = 0;
    this.writing = 0;
    this.written = () => {
      this.writing--;
      onIdle(this);
    };
  }
}

class Outgoing {
  #pool;
  #socket;
  #segment = null;
  #open = new Set(); // segments not returned yet
  #settle = (segment) => this.#settled(segment);

  constructor(pool, socket) {
    this.#pool = pool;
    this.#socket = socket;
  }

  /** The segment, with room for so many bytes. */
  #room(bytes) {
    const segment = this.#segment;
    if (segment !== null && segment.used + bytes <= segment.memory.length) return segment;
    this.flush();
    this.#segment = new Segment(this.#pool.rent(Math.max(SEGMENT_BYTES, bytes)), this.#settle);
    this.#open.add(this.#segment);
    if (segment !== null) this.#settled(segment);
    return this.#segment;
  }

  /** "$" or "*" and a number as a line. */
  count(mark, number) {
    const segment = this.#room(LINE_BYTES);
    const { memory } = segment;
    let at = segment.used;
    memory[at++] = mark;
    let scale = 1;
    while (scale * 10 <= number) scale *= 10;
    for (let rest = number; scale >= 1; scale = Math.floor(scale / 10)) {
      const digit = Math.floor(rest / scale);
      memory[at++] = DIGIT_0 + digit;
      rest -= digit * scale;
    }
    memory[at++] = RETURN;
    memory[at++] = LINE;
    segment.used = at;
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
    segment.memory.set(bytes, segment.used);
    segment.used += bytes.length;
  }

  endLine() {
    const segment = this.#room(2);
    segment.memory[segment.used++] = RETURN;
    segment.memory[segment.used++] = LINE;
  }

  /** Pieces from here to release() leave together. */
  gather() {
    this.#socket.cork();
  }

  /** Hands all to the socket. */
  flush() {
    const segment = this.#segment;
    if (segment === null || segment.used === segment.sent) return;
    segment.writing++;
    const part = segment.memory.subarray(segment.sent, segment.used);
    segment.sent = segment.used;
    this.#socket.write(part, segment.written);
  }

  /** Hands all to the socket and lets it leave. */
  release() {
    this.flush();
    this.#socket.uncork();
  }

  #settled(segment) {
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
