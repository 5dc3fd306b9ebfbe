'use strict';

// Messages over Redis channels. With a URL, connections of our own are used, which
// read and write pooled memory; with a client of the host (ioredis), that client.
const { failure, kindOf } = require('../errors');
const { defineDisposal } = require('../disposal');
const { sharedPool } = require('../memory_pool');
const { ClientLink, isClient } = require('./client_link');
const { Subscription, deliverAll, requireTopic, timeoutOf, viewsOf } = require('./delivery');
const { RespLink, optionsOf } = require('./resp_link');

const RETRY_LEAST_MS = 50;
const RETRY_MOST_MS = 2000;

/** Whether a link is to be made from a URL, and its options. */
function linkFor(target, pool, options) {
  const timeoutMs = timeoutOf(options);
  if (typeof target === 'string') return new RespLink(pool, optionsOf(target, timeoutMs));
  if (isClient(target)) return new ClientLink(pool, target, timeoutMs);
  throw failure('ETYPE', `a client of ioredis or a URL is needed, not ${kindOf(target)}`);
}

/** A subscribing connection that comes back after it broke. */
class Listener {
  #pool;
  #link;
  #handlers = new Map(); // topic to its Subscriptions
  #timer = null;
  #delayMs = RETRY_LEAST_MS;
  #isClosed = false;

  constructor(pool, options) {
    this.#pool = pool;
    this.reconnects = 0;
    this.#link = new RespLink(pool, options, (push) => this.#deliver(push), () => this.#retry());
  }

  async subscribe(subscription) {
    const { topic } = subscription;
    await this.#link.connect();
    let handlers = this.#handlers.get(topic);
    if (handlers === undefined) this.#handlers.set(topic, (handlers = new Set()));
    handlers.add(subscription);
    try {
      // Also for a further handler: once it is answered, the topic is subscribed.
      await this.#link.send([['SUBSCRIBE', topic]]);
    } catch (error) {
      this.#remove(subscription);
      throw error;
    }
  }

  async leave(subscription) {
    this.#remove(subscription);
    if (this.#handlers.has(subscription.topic) || !this.#link.isOpen) return;
    await this.#link.send([['UNSUBSCRIBE', subscription.topic]]);
  }

  #remove(subscription) {
    const handlers = this.#handlers.get(subscription.topic);
    handlers?.delete(subscription);
    if (handlers?.size === 0) this.#handlers.delete(subscription.topic);
  }

  #deliver([, topic, rental]) {
    deliverAll(this.#pool, this.#handlers.get(topic), rental, topic);
  }

  #retry() {
    if (this.#isClosed || this.#timer !== null || this.#handlers.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#resume().then(
        () => (this.#delayMs = RETRY_LEAST_MS),
        () => this.#retry(),
      );
    }, this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, RETRY_MOST_MS);
  }

  async #resume() {
    await this.#link.connect();
    const topics = [...this.#handlers.keys()];
    if (topics.length > 0) await this.#link.send(topics.map((topic) => ['SUBSCRIBE', topic]));
    this.reconnects++;
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#handlers.clear();
    this.#link.close();
  }
}

class RedisTransport {
  #pool;
  #link;
  #listener;

  constructor(target, pool = sharedPool(), options = {}) {
    this.#pool = pool;
    this.#link = linkFor(target, pool, options);
    this.#listener =
      typeof target === 'string' ? new Listener(pool, optionsOf(target, timeoutOf(options))) : this.#link.listener();
  }

  get pool() {
    return this.#pool;
  }

  /** Times the subscribing connection broke and came back. */
  get reconnects() {
    return this.#listener.reconnects;
  }

  async publish(topic, view) {
    return this.publishBatch(topic, [view]);
  }

  async publishBatch(topic, views) {
    requireTopic(topic);
    const bytes = viewsOf(views);
    return bytes.length === 0 ? 0 : this.#link.publishAll(topic, bytes);
  }

  async subscribe(topic, handler) {
    const subscription = new Subscription(topic, handler, (one) => this.#listener.leave(one));
    await this.#listener.subscribe(subscription);
    return subscription;
  }

  async close() {
    this.#listener.close();
    this.#link.close();
  }
}

defineDisposal(RedisTransport);

module.exports = { RedisTransport, linkFor };
