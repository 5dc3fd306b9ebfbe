'use strict';

// The core's decisions as plain functions: no clock, no process, no state but
// the tracker's. They answer alike in C, Python and Node (tests/vectors).
const native = require('./native');
const config = require('./config');
const { camel } = require('./names');
const { named } = require('./sample');
const { failure, kindOf, requireName } = require('./errors');
const { toldOf } = require('./alert_told');
const optimize = require('./optimize');
const tuning = require('./advice');

const { HEADROOM } = tuning;

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

/** Index of a name, as the addon counts. */
function indexOf(names, name, what) {
  requireName(name, what);
  const index = names.indexOf(name);
  if (index < 0) throw failure('EINVAL', `${what} is "${name}", allowed: ${names.join(', ')}`);
  return index;
}

/** A number, or NaN where it is not known. */
function known(value, what) {
  if (value === null || value === undefined) return NaN;
  if (typeof value !== 'number') throw failure('ETYPE', `${what} must be a number, not ${kindOf(value)}`);
  return value;
}

const actions = native.actionNames.slice(1); // without "none"

/** Which reclaim action now, if any: rounds, budget, back-off and forecast. */
class Policy {
  #handle;
  #view = new Float64Array(6);
  #out = new Float64Array(6);
  #outcome = new Float64Array(7);

  constructor(mapping) {
    this.#handle = native.policyOpen(handleOf(mapping));
  }

  next({ nowMs, usage: ratio, level, limitBytes, grownBytes, available = actions }) {
    let mask = 0;
    for (const name of available) mask |= 2 << indexOf(actions, name, 'action');
    this.#view.set([
      known(nowMs, 'nowMs'), known(ratio, 'usage'), indexOf(native.levelNames, level, 'level'),
      known(limitBytes, 'limitBytes'), known(grownBytes, 'grownBytes'), mask,
    ]);
    native.policyNext(this.#handle, this.#view, this.#out);
    return {
      action: named(native.actionNames, this.#out[0]),
      reason: named(native.reasonNames, this.#out[1]),
      level: named(native.levelNames, this.#out[2]),
      share: this.#out[3],
      beginsRound: this.#out[4] !== 0,
      endedRound: this.#out[5] !== 0,
    };
  }

  done(action, { wasDone = true, tookMs, gcMs, freedBytes, usedBytes, usageAfter }, nowMs) {
    this.#outcome.set([
      wasDone ? 1 : 0, known(tookMs, 'tookMs'), known(gcMs, 'gcMs'), known(freedBytes, 'freedBytes'),
      known(usedBytes, 'usedBytes'), known(usageAfter, 'usageAfter'), known(nowMs, 'nowMs'),
    ]);
    native.policyDone(this.#handle, 1 + indexOf(actions, action, 'action'), this.#outcome);
  }

  spent(gcMs) {
    native.policySpent(this.#handle, gcMs);
  }

  mayCollect(level, gcMs, nowMs) {
    return native.policyMayCollect(this.#handle, indexOf(native.levelNames, level, 'level'), gcMs, nowMs);
  }

  get timeToLimitMs() {
    const ms = native.policyTimeToLimitMs(this.#handle);
    return ms < 0 ? null : ms;
  }

  get isUnreclaimable() {
    return native.policyIsUnreclaimable(this.#handle);
  }
}

/** Growth of large blocks that makes a collection due; null without a limit. */
function budgetBytes(limitBytes, ratio) {
  const bytes = native.budgetBytes(known(limitBytes, 'limitBytes'), ratio);
  return Number.isNaN(bytes) ? null : bytes;
}

/** How large V8's spaces should be under a limit; null: not known. */
function v8Advice({ limitBytes, nodeMajor, headroom = HEADROOM, share = 1 }) {
  return tuning.v8Advice(known(limitBytes, 'limitBytes'), nodeMajor, headroom, share);
}

/** When to collect because nobody waits. */
class Idle {
  #config;
  #idle = new tuning.Idle();

  constructor(mapping) {
    this.#config = handleOf(mapping);
  }

  /** @param load 0 to 1; null: unknown. @returns whether to collect now, which is
   *  then taken as done. */
  due({ nowMs, load, expectedMs, isWorth }) {
    return this.#idle.due(this.#config, nowMs, load ?? NaN, expectedMs, isWorth);
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

const LEAK_LIMITS = ['memoryBytes', 'memoryUsedBytes', 'heapBytes', 'fds', 'threads', 'mappings'];
const LEAK_CHANGE = [
  'nowMs', 'name', 'tier', 'previous', 'isCritical', 'severity', 'growth', 'growthPerMinute', 'base', 'latest',
  'sinceMs', 'toLimitMs', 'windowMs', 'octaves',
];

/** What the leak detector would have said of recorded points [name, nowMs, value]. */
function leakReplay(points, mapping, limits = {}) {
  const names = [...new Set(points.map(([name]) => name))];
  const indices = new Map(names.map((name, index) => [name, index]));
  const flat = points.flatMap(([name, nowMs, value]) => [indices.get(name), nowMs, value]);
  const known = Float64Array.from(LEAK_LIMITS, (name) => limits[name] ?? 0);
  // One more, which is passed over: no points at all have no memory to name.
  const rows = native.leakReplay(handleOf(mapping), names, Float64Array.from([...flat, 0, 0, 0]), known);
  return rows.map((row) => Object.fromEntries(LEAK_CHANGE.map((field, index) => [field, row[index]])));
}

const ALERT_AT_REST = { level: 0, pause_ms: 0, unreclaimable: 0, fd_warned: 0 };

/** What alerts recorded facts would have raised. */
function alertReplay(steps, mapping) {
  const rows = steps.flatMap((step) => [
    ...native.alertFacts.map((name) => step[camel(name)] ?? ALERT_AT_REST[name] ?? NaN),
    step.leak === undefined ? NaN : native.leakSignalNames.indexOf(step.leak),
    step.severity ?? 0,
    step.growth ?? 0,
    step.over ?? 0,
  ]);
  // One more row, which is passed over: no rows at all have no memory to name.
  const last = new Array(native.alertFacts.length + 4).fill(NaN);
  return toldOf(native.alertReplay(handleOf(mapping), Float64Array.from([...rows, ...last])));
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

function poolCapacity(size) {
  return native.poolCapacity(size);
}

function poolTier(capacity) {
  return named(native.poolTierNames, native.poolTier(capacity));
}

function poolTrim(lowWater) {
  return native.poolTrim(lowWater);
}

function poolCacheLimit(classBytes, cacheBytes, level) {
  const index = native.levelNames.indexOf(level);
  if (index < 0) throw failure('EINVAL', `level must be one of ${native.levelNames.join(', ')}, not ${level}`);
  return native.poolCacheLimit(classBytes, cacheBytes, index);
}

function poolCacheNext(capacity, limit, misses, lowWater) {
  return native.poolCacheNext(capacity, limit, misses, lowWater);
}

/** The scheduler of optimizations, their statistics and the degraded mode. */
class Optimizer {
  #config;
  #optimizer = new optimize.Optimizer();

  constructor(mapping) {
    this.#config = handleOf(mapping);
  }

  due(view) {
    return this.#optimizer.due(this.#config, view);
  }

  may(reason, isForced, nowMs) {
    return this.#optimizer.may(reason, isForced, nowMs);
  }

  done(reason, { success, freedBytes = 0, durationMs = 0, nowMs }) {
    this.#optimizer.done(reason, success, freedBytes, durationMs, nowMs);
  }

  get state() {
    return this.#optimizer.state;
  }
}

/** When a worker of a service should make room for a new one; see recycle.h. */
class Recycle {
  #state = new Float64Array(9);
  #reading = new Float64Array(2);

  constructor({ limitBytes, sustainMs = 30000, jitterMs = 30000, minAgeMs = 60000, spread = 0, nowMs = 0 } = {}) {
    const given = { limitBytes, sustainMs, jitterMs, minAgeMs, spread, nowMs };
    this.#state.set(Object.entries(given).map(([name, value]) => known(value, name)));
    native.recycleInit(this.#state);
  }

  /** Takes in a reading. @param rssBytes null: unknown. @returns "keep", "over", "due" */
  offer(rssBytes, nowMs) {
    this.#reading[0] = known(rssBytes, 'rssBytes');
    this.#reading[1] = known(nowMs, 'nowMs');
    return named(native.recycleNames, native.recycleOffer(this.#state, this.#reading));
  }
}

const { freedBytes, strategyFor, strategyPlan } = optimize;

/** What grew between two tables of [name, count, bytes], the one that grew most first.
 * @returns [name, growth, growthBytes, count, share of all growth] */
function censusDifference(before, after, { by = 'count', limit = 8, maxNames = 0 } = {}) {
  return native.censusDifference(before, after, by === 'bytes', limit, maxNames);
}

module.exports = {
  Idle,
  LevelTracker,
  Optimizer,
  Policy,
  Recycle,
  alertReplay,
  budgetBytes,
  bufferFlushAt,
  bufferSizeNext,
  censusDifference,
  freedBytes,
  leakReplay,
  poolCacheLimit,
  poolCacheNext,
  poolCapacity,
  poolTier,
  poolTrim,
  resolveConfig,
  sampleDueMs,
  strategyFor,
  strategyPlan,
  trend,
  usage,
  v8Advice,
};
