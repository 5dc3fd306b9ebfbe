'use strict';

// What ReusePool and ObjectPool share: pools of objects that a program makes.
const { requireCount, requireFunction } = require('./errors');
const { isThenable, reportOnce } = require('./report');

const MAX_SIZE = 64;

/** Options of a pool, checked. @returns { reset, maxSize, name } */
function poolOptions(factory, options) {
  const { reset = null, maxSize = MAX_SIZE, name } = options ?? {};
  requireFunction(factory, 'factory');
  if (reset !== null) requireFunction(reset, 'reset');
  requireCount(maxSize, 'maxSize', 0);
  return { reset, maxSize, name };
}

/** Makes `item` ready for its next user. @returns whether that went well. */
function renew(reset, item, what) {
  if (reset === null) return true;
  try {
    reset(item);
    return true;
  } catch (error) {
    reportOnce(reset, `reset of ${what}`, error);
    return false;
  }
}

/** Calls `body(value)`, and `end()` when it is over, also that of its promise.
 *  @returns what `body` does. */
function during(body, value, end) {
  let result;
  try {
    result = body(value);
  } catch (error) {
    end();
    throw error;
  }
  if (isThenable(result)) return Promise.resolve(result).finally(end);
  end();
  return result;
}

module.exports = { during, poolOptions, renew };
