'use strict';

// One side of the bus: publishes numbered messages, answers those of the other side, and
// sends again what was not answered. As python/examples/message_bus/side.py.
const crypto = require('node:crypto');
const { serializers } = require('../../index.js');
const messages = require('./messages');

const WINDOW = 256; // messages published and not answered, at most
const BATCH = 32;
const RESEND_MS = 2000; // without an answer, if the broker does not keep messages
const LOOK_MS = 50; // between looks at the memory pressure
const RETRY_MS = 200; // after a failure
const ANSWERS = 10000; // that wait to be published, at most
const ASIDE = 64; // unreadable messages that wait to be set aside, at most: all of a read
const SUM_BELOW = 2 ** 48;

function count(counts, name) {
  counts[name] = (counts[name] ?? 0) + 1;
}

/** Which messages of a session have come. */
class Seen {
  #below = 0; // all of these
  #others = new Set(); // no more than the other side's window

  constructor(session) {
    this.session = session;
  }

  /** @returns false if it was there before. */
  add(number) {
    if (number < this.#below || this.#others.has(number)) return false;
    this.#others.add(number);
    while (this.#others.delete(this.#below)) this.#below++;
    return true;
  }
}

/** A message on its way. Its rental is kept until the broker has it for sure, or the
 *  other side has answered. */
class Flight {
  isPublished = false;
  isSending = false;
  triedAtMs = null;

  constructor(number, rental, sum) {
    Object.assign(this, { number, rental, sum });
  }

  letGo() {
    if (this.rental === null || this.isSending) return;
    this.rental.return();
    this.rental = null;
  }
}

class Side {
  #road;
  #manager;
  #limits;
  #serializer;
  #session = crypto.randomBytes(4).toString('hex');
  #flying = new Map(); // by number
  #seen = new Seen('');
  #answers = []; // [session, number, sum]
  #aside = [];
  #moved = () => {};
  #progressAtMs = performance.now();
  #lookedAtMs = -LOOK_MS;
  #isPressed = false;
  #isStopping = false; // publishes nothing new
  #hasGivenUp = false;
  #bytes = 0; // that went through the pool
  #counts = {
    published: 0, acknowledged: 0, resent: 0, received: 0, duplicated: 0,
    slowed: 0, sent_sum: 0, received_sum: 0, rejected: {}, failures: {},
  };

  /** @param limits { messages, seconds, patience }, see run(). */
  constructor(road, manager, limits) {
    this.#road = road;
    this.#manager = manager;
    this.#limits = limits;
    this.#serializer = new serializers.MessagePackSerializer(manager.pool);
  }

  open() {
    return this.#road.open((bytes) => this.#take(bytes), () => this.#settled(), (error) => this.#failed(error));
  }

  stop() {
    this.#isStopping = true;
    this.#moved();
  }

  giveUp() {
    this.#hasGivenUp = true;
    this.stop();
  }

  get hasGivenUp() {
    return this.#hasGivenUp;
  }

  #failed(error) {
    count(this.#counts.failures, error.code ?? error.name);
  }

  /* ---- publishing ----------------------------------------------------------------- */

  /** Publishes as many messages as it should, or as long, or until stop(). Then waits
   *  for the answers, until there was none for `patience` seconds. */
  async run() {
    const { messages: most = messages.NUMBERS, seconds = Infinity, patience } = this.#limits;
    const endMs = performance.now() + seconds * 1000;
    let number = 0;
    while (!this.#hasGivenUp) {
      const isOver = this.#isStopping || performance.now() >= endMs || number >= most;
      let due = this.#due();
      if (due.length === 0 && !isOver) {
        due = this.#begin(number, most);
        number += due.length;
      }
      if (due.length > 0) await this.#send(due);
      else if (isOver && this.#flying.size === 0) return;
      else await this.#wait();
      if (!isOver) this.#progressAtMs = performance.now();
      else if (performance.now() - this.#progressAtMs > patience * 1000) this.giveUp();
    }
  }

  /** How many may be on their way: few under pressure. */
  #window() {
    if (performance.now() - this.#lookedAtMs >= LOOK_MS) {
      this.#lookedAtMs = performance.now();
      const wasPressed = this.#isPressed;
      this.#manager.getMemoryPressure();
      this.#isPressed = ['high', 'critical'].includes(this.#manager.memoryMonitor.latest.level);
      if (this.#isPressed && !wasPressed) this.#counts.slowed++;
    }
    return this.#isPressed ? BATCH : WINDOW;
  }

  /** What is to be sent again: the broker does not have it, or has no memory. */
  #due() {
    const nowMs = performance.now();
    const found = [];
    for (const flight of this.#flying.values()) {
      if (flight.rental === null) continue;
      if (nowMs - flight.triedAtMs < (flight.isPublished ? RESEND_MS : RETRY_MS)) continue;
      if (found.push(flight) === BATCH) break;
    }
    return found;
  }

  #begin(number, most) {
    const room = Math.min(BATCH, this.#window() - this.#flying.size, most - number);
    const begun = [];
    for (let one = number; one < number + room; one++) {
      const value = messages.data(this.#session, one);
      const flight = new Flight(one, this.#serializer.serializePooled(value), value.sum);
      this.#flying.set(one, flight);
      begun.push(flight);
    }
    return begun;
  }

  async #send(flights) {
    for (const flight of flights) {
      flight.isSending = true;
      if (flight.triedAtMs !== null) this.#counts.resent++;
      this.#bytes += flight.rental.buffer.length;
    }
    let isDone = false;
    try {
      await this.#road.send(flights.map(({ rental }) => rental.buffer));
      isDone = true;
    } catch (error) {
      this.#failed(error);
    }
    for (const flight of flights) {
      flight.isSending = false;
      flight.triedAtMs = performance.now();
      if (isDone) this.#published(flight);
      if (!this.#flying.has(flight.number)) flight.letGo(); // answered meanwhile
    }
  }

  #published(flight) {
    if (!flight.isPublished) {
      flight.isPublished = true;
      this.#counts.published++;
    }
    if (this.#road.isDurable) flight.letGo();
  }

  #wait() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS);
      this.#moved = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /* ---- receiving ------------------------------------------------------------------ */

  /** A message that came, whatever it is. */
  #take(bytes) {
    this.#bytes += bytes.length;
    let value;
    try {
      value = messages.read(this.#serializer, bytes);
    } catch (error) {
      if (!(error instanceof messages.BadMessageError)) throw error;
      count(this.#counts.rejected, error.reason);
      if (this.#aside.push(Buffer.from(bytes)) > ASIDE) this.#aside.shift();
      return;
    }
    if (value.kind === 'data') this.#takeData(value);
    else if (value.session === this.#session) for (const pair of value.sums) this.#takeAnswer(...pair);
  }

  #takeData({ session, n, sum }) {
    const counts = this.#counts;
    if (session !== this.#seen.session) this.#seen = new Seen(session); // the other side was started anew
    if (this.#seen.add(n)) {
      counts.received++;
      counts.received_sum = (counts.received_sum + sum) % SUM_BELOW;
    } else {
      counts.duplicated++;
    }
    if (this.#answers.length < ANSWERS) this.#answers.push([session, n, sum]); // else it comes again
  }

  #takeAnswer(number, sum) {
    const flight = this.#flying.get(number);
    if (flight === undefined) return; // the second answer
    const counts = this.#counts;
    if (sum !== flight.sum) {
      count(counts.rejected, 'answer');
      return;
    }
    this.#flying.delete(number);
    this.#published(flight); // also if nobody had said so
    flight.letGo();
    counts.acknowledged++;
    counts.sent_sum = (counts.sent_sum + sum) % SUM_BELOW;
    this.#progressAtMs = performance.now();
    this.#moved();
  }

  /** Publishes the answers to what has come. Rejects: they wait. */
  async #settled() {
    for (let bytes = this.#aside.shift(); bytes !== undefined; bytes = this.#aside.shift()) {
      try {
        await this.#road.setAside([bytes]);
      } catch (error) {
        this.#aside.unshift(bytes);
        throw error;
      }
    }
    while (this.#answers.length > 0) {
      const [[session]] = this.#answers;
      const some = this.#answers.slice(0, messages.MOST_ANSWERS).filter(([other]) => other === session);
      const reply = this.#serializer.serializePooled(messages.answers(session, some.map(([, ...pair]) => pair)));
      this.#bytes += reply.buffer.length;
      try {
        await this.#road.reply([reply.buffer]);
      } finally {
        reply.return();
      }
      const done = new Set(some);
      this.#answers = this.#answers.filter((answer) => !done.has(answer));
    }
  }

  /* ---- reports -------------------------------------------------------------------- */

  /** Messages in the outbox; null if there is none, or the broker is away. */
  async pending() {
    try {
      return await this.#road.pending();
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  /** The share of what was rented for which the pool had memory already. */
  #hitRate() {
    const { peakHeldBytes, plain, rented } = this.#manager.pool.stats();
    return (1 - Math.min(1, peakHeldBytes / Math.max(1, this.#bytes))) * (1 - plain / Math.max(1, rented));
  }

  state() {
    const { latest } = this.#manager.memoryMonitor;
    return {
      ...this.#counts,
      in_flight: this.#counts.published - this.#counts.acknowledged,
      unpublished: [...this.#flying.values()].filter(({ isPublished }) => !isPublished).length,
      pool_hit_rate: Math.round(this.#hitRate() * 1e4) / 1e4,
      level: latest.level,
      rss_bytes: latest.rssBytes,
      peak_bytes: latest.peakRssBytes,
    };
  }

  /** Closes the road; what is not answered is let go of. */
  async close() {
    await this.#road.close().catch((error) => this.#failed(error));
    for (const flight of this.#flying.values()) flight.letGo();
  }
}

module.exports = { Side };
