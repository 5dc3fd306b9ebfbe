'use strict';

// Messages over NATS subjects, with the client of the NATS project.
const { failure, kindOf } = require('../errors');
const { defineDisposal } = require('../disposal');
const { sharedPool } = require('../memory_pool');
const { optional } = require('../optional');
const { reportOnce } = require('../report');
const { broken, copyOf, requireTopic, subscriptionOf, timeoutOf, viewsOf } = require('./delivery');

const FORBIDDEN = /[ \t\r\n]/;
const RETRY_MS = 100;

function isClient(value) {
  return typeof value?.publish === 'function' && typeof value.flush === 'function' && typeof value.subscribe === 'function';
}

// Its public state comes later than what it does with what is published.
function isConnected(client) {
  const { connected = true, infoReceived = true } = client.protocol ?? {};
  return !client.isClosed() && connected && infoReceived;
}

class NatsTransport {
  #target;
  #timeoutMs;
  #client = null; // a promise of it
  #isOwn;
  #isClosed = false;
  #subscriptions = new Map(); // ours to the client's

  constructor(target, pool = sharedPool(), options = {}) {
    this.#isOwn = typeof target === 'string';
    if (!this.#isOwn && !isClient(target)) {
      throw failure('ETYPE', `a connection to NATS or a URL is needed, not ${kindOf(target)}`);
    }
    this.pool = pool;
    this.#target = target;
    this.#timeoutMs = timeoutOf(options);
  }

  async #connection() {
    if (this.#isClosed) throw failure('ECLOSED', 'used after close()');
    if (!this.#isOwn) return this.#target;
    const { connect } = optional('@nats-io/transport-node', 'NatsTransport');
    this.#client ??= connect({ servers: this.#target, timeout: this.#timeoutMs, maxReconnectAttempts: -1, reconnectTimeWait: RETRY_MS });
    try {
      return await this.#client;
    } catch (cause) {
      this.#client = null;
      throw broken(`no connection to NATS: ${cause.message}`, 0, 0, cause);
    }
  }

  async publish(topic, view) {
    await this.publishBatch(topic, [view]);
  }

  /** NATS acknowledges a batch as a whole. */
  async publishBatch(topic, views) {
    requireTopic(topic, 'the topic', FORBIDDEN);
    const all = viewsOf(views);
    const client = await this.#connection();
    if (all.length === 0) return 0;
    // What is published while there is no connection the client would keep, and
    // send when the memory has another owner.
    if (!isConnected(client)) throw broken('no connection to NATS', 0, 0);
    const limit = client.info?.max_payload ?? Infinity;
    const tooLong = all.find((view) => view.length > limit);
    if (tooLong !== undefined) {
      throw failure('ERANGE', `a message has ${tooLong.length} bytes, allowed by the server: ${limit}`);
    }
    for (const view of all) client.publish(topic, view);
    // Called at once: the client copies what it sends.
    await this.#answered(client.flush(), all.length);
    return all.length;
  }

  async #answered(answer, count) {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${this.#timeoutMs / 1000} s`)), this.#timeoutMs);
    });
    try {
      await Promise.race([answer, limit]);
    } catch (cause) {
      throw broken(`the connection to NATS broke: ${cause.message}; 0 confirmed, ${count} unknown`, 0, count, cause);
    } finally {
      clearTimeout(timer);
    }
  }

  async subscribe(topic, handler) {
    const subscription = subscriptionOf(topic, handler, (one) => this.#leave(one), null, FORBIDDEN);
    const client = await this.#connection();
    const callback = (error, message) => {
      if (error === null) this.#deliver(subscription, message);
    };
    this.#subscriptions.set(subscription, client.subscribe(topic, { callback }));
    try {
      await this.#answered(client.flush(), 0);
    } catch (error) {
      await subscription.close();
      throw error;
    }
    return subscription;
  }

  // What fails in here would end the client's reading.
  #deliver(subscription, { data, subject }) {
    try {
      subscription.push(copyOf(this.pool, data), subject);
    } catch (error) {
      reportOnce(this.pool, 'handing out a message', error);
    }
  }

  async #leave(subscription) {
    const theirs = this.#subscriptions.get(subscription);
    this.#subscriptions.delete(subscription);
    if (theirs !== undefined && !theirs.isClosed()) theirs.unsubscribe();
  }

  async close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const subscription of [...this.#subscriptions.keys()]) await subscription.close();
    if (!this.#isOwn || this.#client === null) return;
    const client = await this.#client.catch(() => null);
    await client?.close();
  }
}

defineDisposal(NatsTransport);

module.exports = { NatsTransport };
