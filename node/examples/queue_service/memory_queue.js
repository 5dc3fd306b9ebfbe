'use strict';

// The in-process queue: fastq, bounded.
const fastq = require('fastq');

const WAITING_JOBS = 10000;

class MemoryQueue {
  #queue;

  /** @param work async ({ id, kind, data }) => void, which does not reject. */
  constructor(work, { concurrency }) {
    this.#queue = fastq.promise(work, concurrency);
  }

  get workers() {
    return [this.#queue];
  }

  async ready() {}

  async add(job) {
    if (this.#queue.length() >= WAITING_JOBS) {
      throw Object.assign(new RangeError(`the queue is full: ${WAITING_JOBS} jobs wait`), { code: 'EFULL' });
    }
    // As a job from Redis: nobody else holds what it holds.
    this.#queue.push({ ...job, data: JSON.parse(JSON.stringify(job.data)) });
  }

  /** Nothing that was accepted is left behind: there is no other place for it. */
  async close() {
    this.#queue.resume();
    await this.#queue.drained();
  }
}

module.exports = { MemoryQueue };
