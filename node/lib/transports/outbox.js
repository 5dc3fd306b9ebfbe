'use strict';

// Messages kept in Redis until they are passed on: at least once, in order.
//
//   memguard:outbox:<name>:sequence       the last id given out
//   memguard:outbox:<name>:message:<id>   hash of topic and payload
//   memguard:outbox:<name>:pending        sorted set, score = member = id
//
// What Python puts in, Node passes on, and the other way round.
const { bytesOf } = require('../encoding');
const { codes, failure, kindOf, requireCount, requireFunction } = require('../errors');
const { defineDisposal } = require('../disposal');
const { sharedPool } = require('../memory_pool');
const { requireTopic } = require('./delivery');
const { Refusal } = require('./incoming');
const { linkFor } = require('./redis');

const PAYLOAD = 1; // of a reply to HMGET: topic, payload

class RedisOutbox {
  #link;
  #prefix;

  constructor(target, name, pool = sharedPool(), options = {}) {
    requireTopic(name, 'the name of an outbox');
    this.name = name;
    this.#prefix = `memguard:outbox:${name}`;
    this.#link = linkFor(target, pool, options);
  }

  #messageKey(id) {
    return `${this.#prefix}:message:${id}`;
  }

  async #ask(...command) {
    await this.#link.connect();
    const [reply] = await this.#link.send([command]);
    return reply;
  }

  async #transact(commands) {
    await this.#link.connect();
    const replies = await this.#link.send([['MULTI'], ...commands, ['EXEC']]);
    const wrong = replies.at(-1).find((reply) => reply instanceof Refusal);
    if (wrong !== undefined) throw failure('ESYS', `Redis refused a command: ${wrong.text}`);
  }

  async put(topic, view) {
    const [id] = await this.putBatch([[topic, view]]);
    return id;
  }

  /** All or none. @returns their ids. */
  async putBatch(messages) {
    if (!Array.isArray(messages)) throw failure('ETYPE', `messages must be an array, not ${kindOf(messages)}`);
    const rows = messages.map(([topic, view]) => {
      requireTopic(topic);
      return [topic, bytesOf(view, 'a message')];
    });
    if (rows.length === 0) return [];
    const last = await this.#ask('INCRBY', `${this.#prefix}:sequence`, String(rows.length));
    const ids = rows.map((_, index) => last - rows.length + 1 + index);
    const commands = rows.map(([topic, bytes], index) => [
      'HSET', this.#messageKey(ids[index]), 'topic', topic, 'payload', bytes,
    ]);
    const pending = ids.flatMap((id) => [String(id), String(id)]);
    try {
      await this.#transact([...commands, ['ZADD', `${this.#prefix}:pending`, ...pending]]);
    } catch (error) {
      // Only the last answer, to EXEC, would have confirmed anything.
      if (error.code === codes.EBROKEN) Object.assign(error, { confirmed: [], unknown: ids });
      throw error;
    }
    return ids;
  }

  /** Passes up to `limit` messages on: calls `publish(topic, view)` for each, one
   *  after the other, and takes those out for which it did not fail.
   *  @returns how many. */
  async relay(publish, limit = 100) {
    requireFunction(publish, 'publish');
    requireCount(limit, 'limit', 1);
    const ids = await this.#ask('ZRANGE', `${this.#prefix}:pending`, '0', String(limit - 1));
    if (ids.length === 0) return 0;
    const commands = ids.map((id) => ['HMGET', this.#messageKey(id), 'topic', 'payload']);
    const rows = await this.#link.send(commands, PAYLOAD);
    let done = 0;
    let failed = null;
    for (const [topic, rental] of rows) {
      try {
        if (failed === null && topic !== null && rental !== null) await publish(topic, rental.buffer);
        if (failed === null) done++;
      } catch (error) {
        failed = { error };
      } finally {
        rental?.return();
      }
    }
    await this.#remove(ids.slice(0, done), failed);
    if (failed !== null) throw failed.error;
    return done;
  }

  async #remove(ids, failed) {
    if (ids.length === 0) return;
    try {
      const keys = ids.map((id) => this.#messageKey(id));
      await this.#transact([['ZREM', `${this.#prefix}:pending`, ...ids], ['DEL', ...keys]]);
    } catch (error) {
      // They are passed on once more; what publish() failed with says more.
      if (failed === null) throw error;
    }
  }

  /** How many wait. */
  async pending() {
    return this.#ask('ZCARD', `${this.#prefix}:pending`);
  }

  async close() {
    this.#link.close();
  }
}

defineDisposal(RedisOutbox);

module.exports = { RedisOutbox };
