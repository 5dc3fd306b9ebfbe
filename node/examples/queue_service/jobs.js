'use strict';

// The jobs of the service. A payload comes from outside: what is wrong with it is the
// result of its job, and nothing worse.
const crypto = require('node:crypto');
const { check, normalize, orderText } = require('../queue_worker');

const KINDS = ['order', 'image', 'session'];
const PAYLOAD_BYTES = 256 * 1024; // of JSON, at most
const SIDE_PIXELS = 1024; // of an image, at most
const ERROR_LETTERS = 200;

function refusal(code, text) {
  return Object.assign(new TypeError(text), { code });
}

/** @throws {TypeError} with a code, of what the queue does not take. */
function checkJob(kind, data) {
  if (!KINDS.includes(kind)) {
    throw refusal('EKIND', `kind is ${JSON.stringify(String(kind).slice(0, 40))}, allowed: ${KINDS.join(', ')}`);
  }
  let text;
  try {
    text = JSON.stringify(data);
  } catch (error) {
    throw refusal('EDATA', `data is not JSON: ${error.message.split('\n')[0]}`);
  }
  if (text === undefined) throw refusal('EDATA', `data is not JSON: ${typeof data}`);
  const bytes = Buffer.byteLength(text);
  if (bytes > PAYLOAD_BYTES) throw refusal('ELARGE', `data is of ${bytes} bytes, allowed: ${PAYLOAD_BYTES}`);
}

/** Job number `id` of a producer: an order mostly, images and sessions between.
 *  @param pages of each session; without it 1 to 5 */
function jobOf(id, { pages = 1 + (id % 5) } = {}) {
  if (id % 10 === 3) return { kind: 'image', data: { seed: id, width: 64 + (id % 64), height: 64 } };
  if (id % 10 === 6) return { kind: 'session', data: { user: `user-${id}`, pages } };
  return { kind: 'order', data: { text: orderText(id) } };
}

// --- Handlers -----------------------------------------------------------------

function order({ text }) {
  if (typeof text !== 'string') throw new Error('text: not a string');
  const value = JSON.parse(text);
  if (Object(value) !== value) throw new Error('text: not an object');
  check(value);
  const normal = normalize(value);
  const digest = crypto.createHash('sha256').update(JSON.stringify(normal)).digest('hex');
  return { customer: normal.customer, cents: normal.cents, digest };
}

function side(value, name) {
  if (Number.isInteger(value) && value >= 2 && value <= SIDE_PIXELS) return value;
  throw new Error(`${name}: not a whole number of 2 to ${SIDE_PIXELS}`);
}

/** Draws gray pixels and halves the picture, both in memory of the pool. */
function image({ seed, width, height }, { pool }) {
  if (!Number.isSafeInteger(seed)) throw new Error('seed: not a whole number');
  side(width, 'width');
  side(height, 'height');
  const [halfWidth, halfHeight] = [width >> 1, height >> 1];
  const [full, half] = pool.rentMany(2, width * height);
  try {
    const pixels = full.buffer;
    for (let at = 0; at < pixels.length; at++) pixels[at] = (at * 31 + seed * 17 + ((at * seed) % 251)) & 255;
    const thumbnail = half.buffer.subarray(0, halfWidth * halfHeight);
    for (let y = 0, to = 0; y < halfHeight; y++) {
      for (let x = 0; x < halfWidth; x++) {
        const from = 2 * (y * width + x);
        thumbnail[to++] = (pixels[from] + pixels[from + 1] + pixels[from + width] + pixels[from + width + 1]) >> 2;
      }
    }
    return { width: halfWidth, height: halfHeight, digest: crypto.createHash('sha256').update(thumbnail).digest('hex') };
  } finally {
    full.return();
    half.return();
  }
}

class VisitorSession {
  constructor(user, pages) {
    this.user = user;
    this.pages = Array.from({ length: pages }, (_, page) => `/page/${page}?user=${user}`);
    this.seen = new Array(5000).fill(pages);
  }
}

const kept = []; // what the leaking handler forgets to let go of

function session({ user, pages }, { leaks }) {
  if (typeof user !== 'string' || user.length > 100) throw new Error('user: not a string of up to 100 letters');
  if (!Number.isInteger(pages) || pages < 0 || pages > 1000) throw new Error('pages: not a whole number of 0 to 1000');
  const visit = new VisitorSession(user, pages);
  if (leaks) kept.push(visit);
  return { user, pages: visit.pages.length };
}

const handlers = { order, image, session };

/** @param tools { pool, leaks }
 *  @returns the result of a job, whatever its payload is. */
function handle({ id, kind, data }, tools) {
  try {
    if (!Object.hasOwn(handlers, kind)) throw new Error('kind: unknown');
    if (Object(data) !== data) throw new Error('data: not an object');
    return { id, kind, ok: true, ...handlers[kind](data, tools) };
  } catch (error) {
    return { id, kind, ok: false, error: error.message.slice(0, ERROR_LETTERS) };
  }
}

module.exports = { KINDS, checkJob, handle, jobOf };
