'use strict';

// Ways to the other side, as in python/examples/message_bus/roads.py. A road has
//
//   isDurable        whether the broker keeps what it has acknowledged
//   open(...)        connects, and has what comes in handled
//   send(views)      publishes messages that are to arrive
//   reply(views)     publishes answers
//   setAside(views)  publishes what nobody could read, for who wants to look
//   pending()        messages that wait in the outbox; null if there is none
//   close()
//
// Each throws errors with a code: of memguard's transports, EBROKEN, EREFUSED.
const { setTimeout: sleep } = require('node:timers/promises');
const { transports } = require('../../index.js');

const RETRY_MS = 200; // after a failure
const RELAY = 100; // messages at a time
const ASIDE = 100; // unreadable messages that a stream of them keeps

function topicsOf(name, me, peer) {
  return { out: `${name}.${peer}`, in: `${name}.${me}`, aside: `${name}.aside` };
}

/** Outbox -> stream -> the other side. */
class StreamRoad {
  isDurable = true;
  #topics;
  #stream;
  #outbox;
  #failed;
  #wake = () => {};
  #relay = null;
  #isClosed = false;

  constructor(url, name, me, peer, pool) {
    const { RedisStream } = require('./stream');
    this.#topics = topicsOf(name, me, peer);
    this.#stream = new RedisStream(url, me);
    // Both ways have an outbox of their own: who fills it empties it.
    this.#outbox = new transports.RedisOutbox(url, this.#topics.out, pool);
  }

  async open(handler, settled, failed) {
    this.#failed = failed;
    await this.#stream.subscribe(this.#topics.in, handler, settled, failed);
    await this.#outbox.pending();
    this.#relay = this.#passOn();
  }

  async send(views) {
    await this.#outbox.putBatch(views.map((view) => [this.#topics.out, view]));
    this.#wake();
  }

  async #passOn() {
    while (!this.#isClosed) {
      const kept = new Promise((resolve) => (this.#wake = resolve));
      try {
        const count = await this.#outbox.relay((topic, view) => this.#stream.publish(topic, view), RELAY);
        if (count === 0 && !this.#isClosed) await kept;
      } catch (error) {
        if (this.#isClosed) return;
        this.#failed(error);
        await sleep(RETRY_MS);
      }
    }
  }

  reply(views) {
    return this.#stream.publishBatch(this.#topics.out, views);
  }

  setAside(views) {
    return this.#stream.publishBatch(this.#topics.aside, views, ASIDE);
  }

  pending() {
    return this.#outbox.pending();
  }

  async close() {
    this.#isClosed = true;
    this.#wake();
    await this.#outbox.close();
    await this.#stream.close();
    await this.#relay;
  }
}

/** One of memguard's transports, to who listens at that moment. */
class TransportRoad {
  isDurable = false;
  #topics;
  #bus;
  #isDue = false;
  #isSettling = false;
  #isClosed = false;

  constructor(bus, name, me, peer) {
    this.#topics = topicsOf(name, me, peer);
    this.#bus = bus;
  }

  async open(handler, settled, failed) {
    await this.#bus.subscribe(this.#topics.in, (message, topic) => {
      try {
        handler(message.buffer, topic);
      } finally {
        message.return();
      }
      this.#settle(settled, failed);
    });
  }

  async #settle(settled, failed) {
    this.#isDue = true;
    if (this.#isSettling) return; // two at a time would send the same answers
    this.#isSettling = true;
    try {
      await sleep(0); // for all that came at once
      while (this.#isDue && !this.#isClosed) {
        this.#isDue = false;
        try {
          await settled();
        } catch (error) {
          if (this.#isClosed) return;
          failed(error);
          this.#isDue = true;
          await sleep(RETRY_MS);
        }
      }
    } finally {
      this.#isSettling = false;
    }
  }

  async send(views) {
    await this.#bus.publishBatch(this.#topics.out, views);
  }

  async reply(views) {
    await this.#bus.publishBatch(this.#topics.out, views);
  }

  async setAside(views) {
    await this.#bus.publishBatch(this.#topics.aside, views);
  }

  async pending() {
    return null;
  }

  async close() {
    this.#isClosed = true;
    await this.#bus.close();
  }
}

const roads = {
  redis: (url, ...rest) => new StreamRoad(url, ...rest),
  'redis-channels': (url, name, me, peer, pool) => new TransportRoad(new transports.RedisTransport(url, pool), name, me, peer),
  nats: (url, name, me, peer, pool) => new TransportRoad(new transports.NatsTransport(url, pool), name, me, peer),
};

module.exports = { roads };
