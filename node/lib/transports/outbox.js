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
const { requireTopic, timeoutOf } = require('./delivery');
const { Refusal } = require('./incoming');
const { BATCH } = require('./redis');
const { RespLink, optionsOf } = require('./resp_link');

const NAME_MAX = 200;
const PAYLOAD = 1; // of a reply to HMGET: topic, payload

class RedisOutbox {
  #link;
  #prefix;
  #pending;

  constructor(target, name, pool = sharedPool(), options = {}) {
    requireTopic(name, 'the name of the outbox');
    if (name.length > NAME_MAX) throw failure('ERANGE', `the name has ${name.length} characters, allowed: 1 to ${NAME_MAX}`);
    this.name = name;
    this.#prefix = `memguard:outbox:${name}`;
    this.#pending = `${this.#prefix}:pending`;
    this.#link = new RespLink(pool, optionsOf(target, timeoutOf(options)));
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
    if (wrong !== undefined) throw failure('EINVAL', `Redis refused a command: ${wrong.text}`);
  }

  async put(topic, view) {
    const [id] = await this.putBatch([[topic, view]]);
    return id;
  }

  /** All or none. @returns their ids. */
  async putBatch(messages) {
    if (!Array.isArray(messages)) throw failure('ETYPE', `messages must be an array, not ${kindOf(messages)}`);
    if (messages.length > BATCH) throw failure('ERANGE', `${messages.length} messages, allowed: up to ${BATCH}`);
    const rows = messages.map(rowOf);
    if (rows.length === 0) return [];
    const last = await this.#telling([], () => this.#ask('INCRBY', `${this.#prefix}:sequence`, String(rows.length)));
    const ids = rows.map((_, index) => last - rows.length + 1 + index);
    const commands = rows.map(([topic, bytes], index) => [
      'HSET', this.#messageKey(ids[index]), 'topic', topic, 'payload', bytes,
    ]);
    const members = ids.flatMap((id) => [String(id), String(id)]);
    await this.#telling(ids, () => this.#transact([...commands, ['ZADD', this.#pending, ...members]]));
    return ids;
  }

  /** A connection that breaks in `body` leaves `ids` unknown: only the last answer,
   *  to EXEC, would have confirmed anything. */
  async #telling(ids, body) {
    try {
      return await body();
    } catch (error) {
      if (error.code !== codes.EBROKEN) throw error;
      const unknown = error.unknown === 0 ? [] : ids; // 0: nothing was sent
      throw Object.assign(error, { confirmed: [], unknown });
    }
  }

  /** Passes on the oldest messages, up to `limit`: calls `publish(topic, view)` for
   *  each, one after the other, and takes out those for which it did not fail.
   *  @returns how many. */
  async relay(publish, limit = 100) {
    requireFunction(publish, 'publish');
    requireCount(limit, 'limit', 1);
    if (limit > BATCH) throw failure('ERANGE', `limit is ${limit}, allowed: 1 to ${BATCH}`);
    const ids = await this.#telling([], () => this.#ask('ZRANGE', this.#pending, '0', String(limit - 1)));
    if (ids.length === 0) return 0;
    const commands = ids.map((id) => ['HMGET', this.#messageKey(id), 'topic', 'payload']);
    const rows = await this.#telling([], () => this.#link.send(commands, PAYLOAD));
    const done = []; // also those that are not there any more
    let published = 0;
    try {
      for (const [index, [topic, rental]] of rows.entries()) {
        if (topic !== null && rental !== null) {
          await publish(topic, rental.buffer);
          published++;
        }
        done.push(ids[index]);
      }
    } finally {
      for (const [, rental] of rows) rental?.return();
      if (done.length > 0) await this.#remove(done);
    }
    return published;
  }

  async #remove(ids) {
    const keys = ids.map((id) => this.#messageKey(id));
    const body = () => this.#transact([['ZREM', this.#pending, ...ids], ['DEL', ...keys]]);
    await this.#telling(ids.map(Number), body);
  }

  /** How many wait. */
  async pending() {
    return this.#telling([], () => this.#ask('ZCARD', this.#pending));
  }

  async close() {
    this.#link.close();
  }
}

defineDisposal(RedisOutbox);

function rowOf(message) {
  if (!Array.isArray(message) || message.length !== 2) {
    throw failure('ETYPE', `a message must be an array [topic, view], not ${kindOf(message)}`);
  }
  requireTopic(message[0]);
  return [message[0], bytesOf(message[1], 'a message')];
}

module.exports = { RedisOutbox };
