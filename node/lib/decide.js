'use strict';

// The core's decisions as plain functions: no clock, no process, no state but
// the tracker's. They answer alike in C, Python and Node (tests/vectors).
const native = require('./native');
const config = require('./config');
const { camel } = require('./names');
const { named } = require('./sample');
const { failure, kindOf } = require('./errors');

const readingFields = new Map();
native.readingFields.forEach((field, index) => {
  readingFields.set(field, index);
  readingFields.set(camel(field), index);
});

function handleOf(mapping, options = {}) {
  return config.resolve(mapping, { environment: false, ...options });
}

/** Resolves a configuration. @returns stored numbers by path. */
function resolveConfig(mapping, options) {
  return config.numbersOf(handleOf(mapping, options));
}

/** The highest ratio of a reading over the domains. */
function usage(reading, mapping) {
  const row = new Float64Array(native.readingFields.length).fill(NaN);
  for (const [name, value] of Object.entries(reading)) {
    const index = readingFields.get(name);
    if (index === undefined) throw failure('EKEY', `unknown reading ${name}`);
    if (value === null || value === undefined) continue;
    if (typeof value !== 'number') throw failure('ETYPE', `${name} must be a number, not ${kindOf(value)}`);
    row[index] = value;
  }
  const out = new Float64Array(1);
  const domain = native.usage(handleOf(mapping), row, out);
  return { usage: out[0], domain: named(native.domainNames, domain) };
}

/** From usage to a level, with hysteresis. */
class LevelTracker {
  #config;
  #state = new Float64Array(3);

  constructor(mapping) {
    this.#config = handleOf(mapping);
  }

  update(ratio, nowMs) {
    native.levelUpdate(this.#config, this.#state, ratio, nowMs);
    return this.level;
  }

  get level() {
    return named(native.levelNames, this.#state[0]);
  }
}

/** Direction and slope of points [timeMs, bytes]; bytes may be null. */
function trend(points) {
  // One more, absent and so passed over: an empty series has no memory to name.
  const time = Float64Array.from([...points.map(([ms]) => ms), 0]);
  const bytes = Float64Array.from([...points.map(([, value]) => value ?? NaN), NaN]);
  const out = new Float64Array(4);
  native.trendOf(time, bytes, out);
  return { direction: named(native.directionNames, out[0]), mbPerMinute: out[1], tau: out[2], points: out[3] };
}

function bufferSizeNext(size, pressure, mapping) {
  return native.bufferSizeNext(handleOf(mapping), size, pressure);
}

function bufferFlushAt(size, pressure, mapping) {
  return native.bufferFlushAt(handleOf(mapping), size, pressure);
}

function sampleDueMs(ratio, ratePerMs, longestMs) {
  return native.sampleDueMs(ratio, ratePerMs, longestMs);
}

module.exports = { LevelTracker, bufferFlushAt, bufferSizeNext, resolveConfig, sampleDueMs, trend, usage };
