'use strict';

// What the transports have in common: arguments, and handing messages out.
const { bytesOf } = require('../encoding');
const { failure, kindOf, requireFunction, requireName, requireNumber } = require('../errors');
const { isThenable, reportOnce } = require('../report');
const { rentOf } = require('../rental');

const TIMEOUT_S = 10;

function requireTopic(topic, what = 'a topic') {
  requireName(topic, what);
  if (topic === '') throw failure('EINVAL', `${what} must not be empty`);
}

function viewsOf(views) {
  if (!Array.isArray(views)) throw failure('ETYPE', `views must be an array, not ${kindOf(views)}`);
  return views.map((view) => bytesOf(view, 'a message'));
}

function timeoutOf({ timeout = TIMEOUT_S } = {}) {
  requireNumber(timeout, 'timeout', 0.001);
  return timeout * 1000;
}

/** One handler of one topic. */
class Subscription {
  #handler;
  #leave;

  constructor(topic, handler, leave) {
    requireTopic(topic);
    requireFunction(handler, 'a handler');
    this.topic = topic;
    this.received = 0;
    this.#handler = handler;
    this.#leave = leave;
  }

  /** Hands `rental` to the handler, which returns it; if the handler fails, it is
   *  returned here. */
  deliver(rental, topic) {
    this.received++;
    const fail = (error) => {
      if (!rental.returned) rental.return();
      reportOnce(this.#handler, `a handler of "${this.topic}"`, error);
    };
    try {
      const result = this.#handler(rental, topic);
      if (isThenable(result)) result.then(undefined, fail);
    } catch (error) {
      fail(error);
    }
  }

  /** Ends it; repeating it does nothing. */
  async close() {
    const leave = this.#leave;
    this.#leave = null;
    if (leave !== null) await leave(this);
  }
}

/** Gives each of `handlers` (a Set) the message: the last one the rental itself,
 *  the others a copy. */
function deliverAll(pool, handlers, rental, topic) {
  const all = [...(handlers ?? [])];
  if (all.length === 0) rental.return();
  all.forEach((handler, index) => {
    handler.deliver(index === all.length - 1 ? rental : copyOf(pool, rental.buffer), topic);
  });
}

/** For clients that come with memory of their own, and must not see it fail. */
function deliverCopy(pool, handlers, bytes, topic) {
  try {
    deliverAll(pool, handlers, copyOf(pool, bytes), topic);
  } catch (error) {
    reportOnce(pool, 'handing out a message', error);
  }
}

/** @returns a rental with the same bytes. */
function copyOf(pool, bytes) {
  const rental = rentOf(pool, bytes.length);
  rental.buffer.set(bytes);
  return rental;
}

module.exports = { Subscription, copyOf, deliverAll, deliverCopy, requireTopic, timeoutOf, viewsOf };
