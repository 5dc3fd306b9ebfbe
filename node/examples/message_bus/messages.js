'use strict';

// What the sides say to each other, as in python/examples/message_bus/messages.py. What
// comes from outside may be anything: what is wrong with it is a BadMessageError.
const crypto = require('node:crypto');

const LARGEST_BYTES = 128 * 1024; // of a message
const MOST_ANSWERS = 1000; // in one message
const SESSION_LETTERS = 16;
const [LARGE_BYTES, MEDIUM_BYTES, SMALL_BYTES] = [65536, 4096, 100];
const NUMBERS = 2 ** 31;

/** `reason` is one of: unreadable, no map, kind, field, large, sum. */
class BadMessageError extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

/** The body of a side's message `number`: mostly small, some 4 KB, few 64 KB. */
function bodyOf(number) {
  let size = SMALL_BYTES + (number % 700);
  if (number % 64 === 63) size = LARGE_BYTES;
  else if (number % 8 === 7) size = MEDIUM_BYTES + (number % 100);
  return Buffer.alloc(size, `${number}/`);
}

function sumOf(body) {
  return crypto.createHash('sha256').update(body).digest().readUInt32BE(0);
}

/** A message; its checksum is its `sum`. */
function data(session, number) {
  const body = bodyOf(number);
  return { kind: 'data', session, n: number, sum: sumOf(body), body };
}

function answers(session, sums) {
  return { kind: 'answers', session, sums };
}

function isNumber(value, below) {
  return Number.isInteger(value) && value >= 0 && value < below;
}

function isMap(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !Buffer.isBuffer(value);
}

/** What a message says. @throws {BadMessageError} */
function read(serializer, bytes) {
  if (bytes.length > LARGEST_BYTES) throw new BadMessageError('large');
  let value;
  try {
    value = serializer.deserialize(bytes);
  } catch (error) {
    if (error.code !== 'ERR_MEMGUARD_ENCODING') throw error;
    throw new BadMessageError('unreadable');
  }
  if (!isMap(value)) throw new BadMessageError('no map');
  const { kind, session } = value;
  if (kind !== 'data' && kind !== 'answers') throw new BadMessageError('kind');
  if (typeof session !== 'string' || session.length === 0 || session.length > SESSION_LETTERS) {
    throw new BadMessageError('field');
  }
  if (kind === 'data') checkData(value);
  else checkAnswers(value.sums);
  return value;
}

function checkData({ n, body, sum }) {
  if (!isNumber(n, NUMBERS) || !(body instanceof Uint8Array)) throw new BadMessageError('field');
  if (sum !== sumOf(body)) throw new BadMessageError('sum');
}

function checkAnswers(sums) {
  if (!Array.isArray(sums) || sums.length > MOST_ANSWERS) throw new BadMessageError('field');
  const isPair = (pair) => Array.isArray(pair) && pair.length === 2 && isNumber(pair[0], NUMBERS) && isNumber(pair[1], 2 ** 32);
  if (!sums.every(isPair)) throw new BadMessageError('field');
}

module.exports = { BadMessageError, MOST_ANSWERS, NUMBERS, answers, data, read };
