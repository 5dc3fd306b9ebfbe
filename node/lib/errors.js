'use strict';

// Errors carry a `code` from the core's one list of statuses. The addon throws
// most of them; what JavaScript alone can know is thrown from here.
const native = require('./native');

/** Status name ("ECLOSED") to code ("ERR_MEMGUARD_CLOSED"). */
const codes = {};
native.statusNames.forEach((name, index) => {
  if (name !== 'OK') codes[name] = native.statusCodes[index];
});
Object.freeze(codes);

const bases = { EINVAL: TypeError, ETYPE: TypeError, ERANGE: RangeError };

function failure(name, text) {
  const error = new (bases[name] ?? Error)(text);
  error.code = codes[name];
  return error;
}

/** What a value is, for the text of an error. */
function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'undefined') return 'undefined';
  return `${/^[aeiou]/.test(typeof value) ? 'an' : 'a'} ${typeof value}`;
}

function requireFunction(value, what) {
  if (typeof value !== 'function') throw failure('ETYPE', `${what} must be a function, not ${kindOf(value)}`);
}

function requireName(value, what) {
  if (typeof value !== 'string') throw failure('ETYPE', `${what} must be a string, not ${kindOf(value)}`);
}

/** A finite number of at least `least`. */
function requireNumber(value, what, least) {
  if (typeof value !== 'number') throw failure('ETYPE', `${what} must be a number, not ${kindOf(value)}`);
  if (!(value >= least && value < Infinity)) {
    throw failure('ERANGE', `${what} is ${value}, allowed: a finite number of at least ${least}`);
  }
}

/** A whole number of at least `least`. */
function requireCount(value, what, least) {
  requireNumber(value, what, least);
  if (!Number.isInteger(value)) throw failure('ERANGE', `${what} is ${value}, allowed: a whole number`);
}

module.exports = { codes, failure, kindOf, requireCount, requireFunction, requireName, requireNumber };
