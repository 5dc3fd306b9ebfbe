'use strict';

// Messages over Redis streams, with ioredis. It is used like the transports of memguard.
// A message stays in its stream until the handler is done with it and `settled` was
// awaited, then it is removed: each arrives at least once, also when a connection, a
// process or Redis ends in between.
const { setTimeout: sleep } = require('node:timers/promises');
const Redis = require('ioredis');

const FIELD = 'payload';
const FIELD_NAME = Buffer.from(FIELD);
const AT_ONCE = 64; // messages of one read
const BLOCK_MS = 200;
const RETRY_MS = 200;
const TIMEOUT_MS = 10000;

function failure(code, text, cause) {
  return Object.assign(new Error(text, { cause }), { code });
}

/** @throws {Error} EBROKEN, EREFUSED of what ioredis says. */
async function typed(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === 'ReplyError') throw failure('EREFUSED', `Redis refused: ${error.message}`, error);
    throw failure('EBROKEN', `Redis: ${error.message || error.code}`, error);
  }
}

function connection(url) {
  const redis = new Redis(url, {
    autoResendUnfulfilledCommands: false, // who sent it knows better
    commandTimeout: TIMEOUT_MS,
    connectTimeout: TIMEOUT_MS,
    enableOfflineQueue: false,
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    retryStrategy: () => RETRY_MS,
  });
  redis.on('error', () => {}); // calls that fail say so themselves
  return redis;
}

class RedisStream {
  #writing;
  #reading;
  #group;
  #loops = [];
  #isClosed = false;

  /** @param group who reads: of several groups each gets every message. */
  constructor(url, group) {
    this.#group = group;
    this.#writing = connection(url);
    this.#reading = connection(url); // waits for what comes
  }

  async #open() {
    for (const redis of [this.#writing, this.#reading]) {
      if (redis.status === 'wait') await typed(redis.connect());
    }
  }

  publish(topic, view) {
    return this.publishBatch(topic, [view]);
  }

  /** @param keep about so many messages stay in the stream, older ones go.
   *  @throws {Error} EBROKEN: any of the messages may be there; EREFUSED. */
  async publishBatch(topic, views, keep = undefined) {
    const limit = keep === undefined ? [] : ['MAXLEN', '~', keep];
    const batch = this.#writing.pipeline();
    for (const view of views) batch.xadd(topic, ...limit, '*', FIELD, bufferOf(view));
    await this.#exec(batch);
    return views.length;
  }

  async #exec(batch) {
    const replies = await typed(batch.exec());
    const failed = replies.find(([error]) => error !== null);
    if (failed !== undefined) await typed(Promise.reject(failed[0]));
  }

  /** Has `handler(bytes, topic)` called with each message. Those of a read are
   *  acknowledged when `settled` has resolved; while it rejects it is called again.
   *  @throws {Error} EBROKEN, EREFUSED; later ones `failed` is told. */
  async subscribe(topic, handler, settled, failed) {
    await this.#open();
    await this.#makeGroup(topic);
    this.#loops.push(this.#read(topic, handler, settled, failed));
  }

  async #makeGroup(topic) {
    try {
      await typed(this.#writing.xgroup('CREATE', topic, this.#group, '0', 'MKSTREAM'));
    } catch (error) {
      if (!error.message.includes('BUSYGROUP')) throw error; // it is there
    }
  }

  async #read(topic, handler, settled, failed) {
    let begin = '0'; // first what was handed to us and is not acknowledged
    while (!this.#isClosed) {
      try {
        const entries = await this.#next(topic, begin);
        if (entries.length === 0) {
          begin = '>';
          continue;
        }
        for (const [, fields] of entries) handler(payloadOf(fields), topic);
        await this.#settle(settled, failed);
        await this.#acknowledge(topic, entries.map(([number]) => number));
      } catch (error) {
        if (this.#isClosed) return;
        failed(error);
        begin = '0';
        await sleep(RETRY_MS);
        if (error.message.includes('NOGROUP')) await this.#makeGroup(topic).catch(failed); // a Redis that has forgotten
      }
    }
  }

  /** @returns the next messages, [number, fields] each. */
  async #next(topic, begin) {
    const words = ['GROUP', this.#group, this.#group, 'COUNT', AT_ONCE, 'BLOCK', BLOCK_MS, 'STREAMS', topic, begin];
    const found = await typed(this.#reading.xreadgroupBuffer(...words));
    return found === null ? [] : found[0][1];
  }

  async #settle(settled, failed) {
    while (!this.#isClosed) {
      try {
        await settled();
        return;
      } catch (error) {
        failed(error);
        await sleep(RETRY_MS);
      }
    }
  }

  async #acknowledge(topic, numbers) {
    if (this.#isClosed) return;
    await this.#exec(this.#writing.pipeline().xack(topic, this.#group, ...numbers).xdel(topic, ...numbers));
  }

  async close() {
    this.#isClosed = true;
    this.#writing.disconnect();
    this.#reading.disconnect();
    await Promise.all(this.#loops);
  }
}

/** @param fields names and values, by turns; null of an entry that was deleted. */
function payloadOf(fields) {
  const at = (fields ?? []).findIndex((name, index) => index % 2 === 0 && name.equals(FIELD_NAME));
  return at < 0 ? Buffer.alloc(0) : fields[at + 1];
}

function bufferOf(view) {
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength);
}

module.exports = { RedisStream };
