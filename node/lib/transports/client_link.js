'use strict';

// The connection of a host's own ioredis client. The client decides when it sends
// and may send again after it reconnected, so it gets copies: the caller's memory
// is the caller's again when a call ends, however it ends.
const { failure } = require('../errors');
const { broken } = require('./broken');
const { copyOf, deliverCopy } = require('./delivery');
const { Refusal } = require('./incoming');

function isClient(value) {
  return typeof value?.call === 'function' && typeof value.callBuffer === 'function' && typeof value.duplicate === 'function';
}

const isRefusal = (error) => error?.name === 'ReplyError';

class ClientLink {
  #pool;
  #client;
  #timeoutMs;
  #isClosed = false;

  constructor(pool, client, timeoutMs) {
    this.#pool = pool;
    this.#client = client;
    this.#timeoutMs = timeoutMs;
  }

  connect() {
    if (this.#isClosed) throw failure('ECLOSED', 'used after close()');
    return null;
  }

  /** Waits until all of `calls` are settled or the time is up.
   *  @returns { value } or { reason } of each, undefined for those still waiting. */
  async #outcomes(calls) {
    const outcomes = new Array(calls.length).fill(undefined);
    const all = calls.map((call, index) =>
      call.then(
        (value) => (outcomes[index] = { value }),
        (reason) => (outcomes[index] = { reason }),
      ),
    );
    let timer;
    const limit = new Promise((resolve) => (timer = setTimeout(resolve, this.#timeoutMs)));
    await Promise.race([Promise.all(all), limit]);
    clearTimeout(timer);
    return outcomes;
  }

  /** Fails if a call has; else the values. */
  #values(outcomes) {
    const confirmed = outcomes.filter((one) => one !== undefined && !('reason' in one)).length;
    const refusals = outcomes.filter((one) => isRefusal(one?.reason)).length;
    const unknown = outcomes.length - confirmed - refusals;
    if (unknown > 0) {
      const cause = outcomes.find((one) => one?.reason !== undefined && !isRefusal(one.reason))?.reason;
      const what = cause?.message ?? `no answer within ${this.#timeoutMs / 1000} s`;
      throw broken(`the connection to Redis broke: ${what}; ${confirmed} confirmed, ${unknown} unknown`, confirmed, unknown, cause);
    }
    if (refusals === 0) return outcomes.map(({ value }) => value);
    const { reason } = outcomes.find((one) => isRefusal(one.reason));
    throw Object.assign(failure('ESYS', `Redis refused a command: ${reason.message}`), { confirmed, unknown: 0 });
  }

  async publishAll(topic, views) {
    this.connect();
    const calls = views.map((view) => this.#client.call('PUBLISH', topic, Buffer.from(view)));
    return this.#values(await this.#outcomes(calls)).length;
  }

  async send(commands, pooledIndex = -1) {
    this.connect();
    const copies = commands.map((command) => command.map((part) => (Buffer.isBuffer(part) ? Buffer.from(part) : part)));
    const calls = this.#calls(copies);
    const replies = this.#values(await this.#outcomes(calls));
    return replies.map((reply) => this.#converted(reply, pooledIndex));
  }

  #calls(commands) {
    if (commands[0][0] !== 'MULTI') return commands.map((command) => this.#client.callBuffer(...command));
    const transaction = this.#client.multi();
    for (const [name, ...values] of commands.slice(1, -1)) transaction.call(name, ...values);
    return [transaction.exec().then((rows) => rows.map(([error, value]) => (error ? new Refusal(error.message) : value)))];
  }

  #converted(reply, pooledIndex) {
    if (Buffer.isBuffer(reply)) return reply.toString();
    if (!Array.isArray(reply)) return reply;
    return reply.map((item, index) => {
      if (index === pooledIndex && item !== null) return copyOf(this.#pool, item);
      return this.#converted(item, -1);
    });
  }

  listener() {
    return new ClientListener(this.#pool, this.#client);
  }

  /** The client stays open: it is the host's. */
  close() {
    this.#isClosed = true;
  }
}

/** Subscribes with a duplicate of the client, which reconnects by itself. */
class ClientListener {
  #pool;
  #client;
  #duplicate = null;
  #handlers = new Map();
  #isClosed = false;

  constructor(pool, client) {
    this.#pool = pool;
    this.#client = client;
    this.reconnects = 0;
  }

  #connection() {
    if (this.#isClosed) throw failure('ECLOSED', 'used after close()');
    if (this.#duplicate !== null) return this.#duplicate;
    this.#duplicate = this.#client.duplicate();
    this.#duplicate.on('error', () => {}); // it tries again
    this.#duplicate.on('reconnecting', () => this.reconnects++);
    this.#duplicate.on('messageBuffer', (channel, message) => {
      const topic = channel.toString();
      deliverCopy(this.#pool, this.#handlers.get(topic), message, topic);
    });
    return this.#duplicate;
  }

  async subscribe(subscription) {
    const { topic } = subscription;
    const connection = this.#connection();
    const handlers = this.#handlers.get(topic) ?? new Set();
    this.#handlers.set(topic, handlers.add(subscription));
    try {
      await connection.subscribe(topic);
    } catch (cause) {
      handlers.delete(subscription);
      throw broken(`the connection to Redis broke: ${cause.message}`, 0, 1, cause);
    }
  }

  async leave(subscription) {
    const { topic } = subscription;
    const handlers = this.#handlers.get(topic);
    handlers?.delete(subscription);
    if (handlers?.size !== 0) return;
    this.#handlers.delete(topic);
    if (!this.#isClosed) await this.#duplicate.unsubscribe(topic);
  }

  close() {
    this.#isClosed = true;
    this.#handlers.clear();
    this.#duplicate?.disconnect();
  }
}

module.exports = { ClientLink, isClient };
