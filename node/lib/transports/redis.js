'use strict';

// Messages over Redis channels: one connection to publish, one that subscribes.
const { failure } = require('../errors');
const { defineDisposal } = require('../disposal');
const { sharedPool } = require('../memory_pool');
const { deliver, requireTopic, subscriptionOf, timeoutOf, viewsOf } = require('./delivery');
const { RespLink, optionsOf } = require('./resp_link');

const BATCH = 10000; // messages of a call
const RETRY_MS = 100; // doubled with each attempt, up to
const RETRY_MOST_MS = 5000;

/** The subscribing connection, which is made anew when it broke. */
class Listener {
  #link;
  #topics = new Map(); // topic to its Subscriptions
  #held = new Set();
  #timer = null;
  #delayMs = RETRY_MS;
  #isClosed = false;

  constructor(pool, options) {
    const onMessage = (topic, rental) => deliver(pool, this.#topics.get(topic), rental, topic);
    this.#link = new RespLink(pool, options, onMessage, () => this.#retry());
  }

  async subscribe(topic, handler) {
    const subscription = subscriptionOf(topic, handler, (one) => this.#leave(one), (one, isOn) => this.#hold(one, isOn));
    if (this.#isClosed) throw failure('ECLOSED', 'RedisTransport used after close()');
    this.#topics.set(topic, [...(this.#topics.get(topic) ?? []), subscription]);
    try {
      await this.#link.connect();
      await this.#link.send([['SUBSCRIBE', topic]]);
    } catch (error) {
      this.#forget(subscription);
      throw error;
    }
    return subscription;
  }

  /** @returns whether it was the last of its topic. */
  #forget(subscription) {
    const { topic } = subscription;
    const left = (this.#topics.get(topic) ?? []).filter((one) => one !== subscription);
    if (left.length === 0) return this.#topics.delete(topic);
    this.#topics.set(topic, left);
    return false;
  }

  async #leave(subscription) {
    if (!this.#forget(subscription) || !this.#link.isOpen) return;
    try {
      await this.#link.send([['UNSUBSCRIBE', subscription.topic]]);
    } catch {
      // The connection is gone: it is not subscribed any more.
    }
  }

  #hold(subscription, isOn) {
    if (isOn) this.#held.add(subscription);
    else this.#held.delete(subscription);
    this.#link.setReading(this.#held.size === 0);
  }

  #retry() {
    if (this.#isClosed || this.#timer !== null || this.#topics.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#resume().then(
        () => (this.#delayMs = RETRY_MS),
        () => this.#retry(),
      );
    }, this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, RETRY_MOST_MS);
  }

  async #resume() {
    const topics = [...this.#topics.keys()];
    await this.#link.connect();
    await this.#link.send(topics.map((topic) => ['SUBSCRIBE', topic]));
    this.#link.setReading(this.#held.size === 0);
    for (const subscription of [...this.#topics.values()].flat()) subscription.gaps++;
  }

  async close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#link.close();
    for (const subscription of [...this.#topics.values()].flat()) await subscription.close();
  }
}

class RedisTransport {
  #link;
  #listener;

  constructor(target, pool = sharedPool(), options = {}) {
    const where = optionsOf(target, timeoutOf(options));
    this.pool = pool;
    this.#link = new RespLink(pool, where);
    this.#listener = new Listener(pool, where);
  }

  async publish(topic, view) {
    await this.publishBatch(topic, [view]);
  }

  async publishBatch(topic, views) {
    requireTopic(topic);
    const bytes = viewsOf(views);
    if (bytes.length > BATCH) throw failure('ERANGE', `${bytes.length} messages, allowed: up to ${BATCH}`);
    return this.#link.publishAll(topic, bytes);
  }

  subscribe(topic, handler) {
    return this.#listener.subscribe(topic, handler);
  }

  async close() {
    this.#link.close();
    await this.#listener.close();
  }
}

defineDisposal(RedisTransport);

module.exports = { BATCH, RedisTransport };
