'use strict';

// What the transports have in common: their arguments, broken connections, and
// handing messages to handlers.
const { bytesOf } = require('../encoding');
const { failure, kindOf, requireFunction, requireName, requireNumber } = require('../errors');
const { isThenable, reportOnce } = require('../report');
const { rentOf } = require('../rental');

const TIMEOUT_S = 5;
const TOPIC_BYTES = 16384;
const INBOX = 128;

/** A connection that broke. @param confirmed, unknown counts or ids: what the
 *  server acknowledged, and what was sent and never answered. */
function broken(what, confirmed, unknown, cause = undefined) {
  return Object.assign(failure('EBROKEN', what), { confirmed, unknown }, cause && { cause });
}

function requireTopic(topic, what = 'the topic', forbidden = null) {
  requireName(topic, what);
  const length = Buffer.byteLength(topic);
  if (length === 0 || length > TOPIC_BYTES) {
    throw failure('ERANGE', `${what} has ${length} bytes, allowed: 1 to ${TOPIC_BYTES}`);
  }
  if (forbidden?.test(topic)) throw failure('EINVAL', `${what} ${JSON.stringify(topic)} contains white space`);
}

function viewsOf(views) {
  if (!Array.isArray(views)) throw failure('ETYPE', `views must be an array, not ${kindOf(views)}`);
  return views.map((view) => bytesOf(view, 'a message'));
}

function timeoutOf({ timeout = TIMEOUT_S } = {}) {
  requireNumber(timeout, 'timeout', 0.001);
  return timeout * 1000;
}

/** @returns a rental with the same bytes. */
function copyOf(pool, bytes) {
  const rental = rentOf(pool, bytes.length);
  rental.buffer.set(bytes);
  return rental;
}

function giveBack(rental) {
  if (!rental.returned) rental.return();
}

/** One handler of one topic. Messages that come while a handler's promise is
 *  pending wait for it; beyond INBOX of them `hold` is asked to stop reading, and
 *  if that cannot be they are dropped. */
class Subscription {
  #handler;
  #leave;
  #hold;
  #inbox = [];
  #isBusy = false;
  #isHeld = false;

  constructor(topic, handler, leave, hold = null) {
    this.topic = topic;
    this.messages = 0;
    this.failures = 0;
    this.gaps = 0;
    this.dropped = 0;
    this.closed = false;
    this.#handler = handler;
    this.#leave = leave;
    this.#hold = hold;
  }

  /** Has a message handled, in its turn. */
  push(rental, topic) {
    if (this.closed) {
      giveBack(rental);
    } else if (!this.#isBusy) {
      this.#call(rental, topic);
    } else if (this.#hold === null && this.#inbox.length >= INBOX) {
      this.dropped++;
      giveBack(rental);
    } else {
      this.#inbox.push([rental, topic]);
      this.#setHeld(this.#isHeld || this.#inbox.length >= INBOX);
    }
  }

  #setHeld(isHeld) {
    if (this.#hold === null || isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    this.#hold(this, isHeld);
  }

  #call(rental, topic) {
    this.messages++;
    try {
      const result = this.#handler(rental, topic);
      if (isThenable(result)) this.#wait(result, rental);
    } catch (error) {
      this.#failed(rental, error);
    }
  }

  #wait(result, rental) {
    this.#isBusy = true;
    result
      .then(undefined, (error) => this.#failed(rental, error))
      .then(() => {
        this.#isBusy = false;
        while (!this.#isBusy && this.#inbox.length > 0) this.#call(...this.#inbox.shift());
        this.#setHeld(this.#isHeld && this.#inbox.length > INBOX / 2);
      });
  }

  #failed(rental, error) {
    this.failures++;
    giveBack(rental);
    reportOnce(this.#handler, `the handler of topic "${this.topic}"`, error);
  }

  /** The handler is not called any more; one that is under way ends by itself. */
  async close() {
    if (this.closed) return;
    this.closed = true;
    for (const [rental] of this.#inbox.splice(0)) giveBack(rental);
    this.#setHeld(false);
    await this.#leave(this);
  }
}

/** Gives each of `subscriptions` the message: the first the rental itself, the
 *  others a copy. */
function deliver(pool, subscriptions, rental, topic) {
  if (subscriptions === undefined) {
    giveBack(rental);
    return;
  }
  // The array is never changed, only replaced: a handler may end subscriptions.
  for (let index = 1; index < subscriptions.length; index++) {
    subscriptions[index].push(copyOf(pool, rental.buffer), topic);
  }
  subscriptions[0].push(rental, topic);
}

function subscriptionOf(topic, handler, leave, hold, forbidden = null) {
  requireTopic(topic, 'the topic', forbidden);
  requireFunction(handler, 'a handler');
  return new Subscription(topic, handler, leave, hold);
}

module.exports = { Subscription, broken, copyOf, deliver, requireTopic, subscriptionOf, timeoutOf, viewsOf };
