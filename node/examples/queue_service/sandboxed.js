'use strict';

// The processor of the sandboxed worker, in a child process that memguard's start file
// has opened a manager in, or in a worker thread. It writes its results itself: when
// BullMQ hears that a job is done, its result is in Redis.
const { ResourceManager } = require('../../index.js');
const { handle } = require('./jobs');
const { connectionPool } = require('./redis_queue');
const { Results, redisWriter } = require('./results');

const { QUEUE_SERVICE_REDIS: url, QUEUE_SERVICE_NAME: name } = process.env;
const manager = globalThis[Symbol.for('memguard.start')] ?? new ResourceManager();
const results = new Results(manager, redisWriter(connectionPool(url), `${name}:results`));

module.exports = async function sandboxed(job) {
  const result = handle({ id: job.id, kind: job.name, data: job.data }, { pool: manager.pool, leaks: false });
  await results.put({ ...result, pid: process.pid });
};
