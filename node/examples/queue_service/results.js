'use strict';

// Results wait in a managed buffer and are written in batches. put() settles when the
// batch with that result is written, so a job that awaits it is not done before.
const fs = require('node:fs/promises');

const BATCH_MS = 4; // a batch waits so long for more
const RETRY_MS = 250;

class Results {
  #manager;
  #items;
  #write;
  #timer = null;
  batches = 0;
  written = 0;
  duplicates = 0; // of jobs that ran twice: their first result stays
  failures = 0;

  /** @param write async (results) => how many of them were there already. */
  constructor(manager, write) {
    this.#manager = manager;
    this.#write = write;
    this.#items = manager.createBuffer('results', (items) => this.#deliver(items));
  }

  get waiting() {
    return this.#items.length;
  }

  put(result) {
    return new Promise((resolve) => {
      this.#items.push({ result, resolve });
      if (this.#manager.shouldFlushBuffer('results')) this.flush();
      else this.#later(BATCH_MS);
    });
  }

  #later(ms) {
    this.#timer ??= setTimeout(() => this.flush(), ms);
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    // A batch that fails is back in the buffer; it is written later.
    const flushed = this.#manager.flushBuffer('results');
    return Promise.resolve(flushed).catch(() => this.#later(RETRY_MS));
  }

  /** The buffer's sink, also called by memguard itself under pressure. */
  async #deliver(items) {
    let duplicates;
    try {
      duplicates = await this.#write(items.map(({ result }) => result));
    } catch (error) {
      this.failures++;
      this.#later(RETRY_MS);
      throw error;
    }
    this.batches++;
    this.duplicates += duplicates;
    this.written += items.length - duplicates;
    for (const { resolve } of items.splice(0)) resolve();
  }
}

/** Writes to a hash in Redis, over a pool of connections: id to result. */
function redisWriter(pool, key) {
  return async (results) => {
    const replies = await pool.connection((redis) => {
      const batch = redis.pipeline();
      for (const result of results) batch.hsetnx(key, result.id, JSON.stringify(result));
      return batch.exec();
    });
    const failed = replies.find(([error]) => error !== null);
    if (failed !== undefined) throw failed[0];
    return replies.filter(([, isNew]) => isNew === 0).length;
  };
}

/** Appends JSON lines to an open file. A batch that failed half-way is written over. */
function fileWriter(file) {
  let at = 0;
  return async (results) => {
    const bytes = Buffer.from(results.map((result) => `${JSON.stringify(result)}\n`).join(''));
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
      done += bytesWritten;
    }
    at += bytes.length;
    return 0;
  };
}

/** @returns { write, close } for a new file. */
async function openFile(path) {
  const file = await fs.open(path, 'wx');
  return { write: fileWriter(file), close: () => file.close() };
}

module.exports = { Results, openFile, redisWriter };
