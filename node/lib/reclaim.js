'use strict';

// Reclaiming memory in this isolate: what the engine asks of JavaScript, and rounds
// as objects. The engine itself is in the addon, one per isolate.
const native = require('./native');
const caches = require('./caches');
const gc = require('./gc');
const { camel } = require('./names');
const { codes, failure, kindOf, requireNumber } = require('./errors');
const { callSafely, isExiting, reportOnce, warn } = require('./report');
const { named } = require('./sample');

const ROUND_FIELDS = [
  'number', 'unixMs', 'reason', 'level', 'tookMs', 'gcMs', 'usageBefore', 'usageAfter', 'rssBeforeBytes',
  'rssAfterBytes', 'heapBeforeBytes', 'heapAfterBytes', 'freedBytes', 'isUnreclaimable',
];
const STEPS = ROUND_FIELDS.length; // how many follow
const STEP_VALUES = 5;
const ROUND_VALUES = STEPS + 1 + STEP_VALUES * native.roundSteps;
const STATS_FIELDS = ['rounds', 'usefulRounds', 'failed', 'freedBytes', 'tookMs', 'gcMs'];
const MS_PER_NS = 1e-6;
const COLLECTIONS = ['young', 'full', 'release'];

const outcome = new Float64Array(3); // of one action: bytes freed, bytes in use before, ms
const round = new Float64Array(ROUND_VALUES);
const stats = new Float64Array(STATS_FIELDS.length + 2 + native.actionNames.length);

// Whose monitors run, each with what its copy of this module can do: copies that
// share the addon, as jest makes them, share its engine.
native.reclaimCores ??= new Map();
const cores = native.reclaimCores;

/* ---- what the engine asks for ---------------------------------------------- */

function shrinkCaches(share) {
  caches.shrink(share);
  return true;
}

function trimPools(share) {
  caches.trimPools(share);
  return true;
}

/** Tells every shed callback. @returns whether one of them went well. */
function shed(share, reason) {
  let isShed = false;
  for (const [core, its] of [...cores]) {
    if (its !== acts) continue;
    for (const callback of [...core.shedCallbacks]) {
      isShed = callSafely(callback, undefined, [{ reason, sample: core.latest }], 'a shed callback') || isShed;
    }
  }
  return isShed;
}

function measured(collect, out) {
  if (!gc.canCollect()) return false;
  const began = process.hrtime.bigint();
  out[1] = gc.heldBytes();
  out[0] = collect();
  out[2] = Number(process.hrtime.bigint() - began) * MS_PER_NS;
  return true;
}

const acts = {
  caches: shrinkCaches,
  pools: trimPools,
  young: (share, reason, out) => measured(gc.collectYoung, out),
  full: (share, reason, out) => measured(gc.collect, out),
  release: (share, reason, out) => measured(gc.collect, out),
  shed,
};

function attempt(its, name, share, reason) {
  try {
    return its[name](share, reason, outcome);
  } catch (error) {
    reportOnce(its[name], `reclaiming memory (${name})`, error);
    return false;
  }
}

// Called by the addon on this thread, of all copies of this module the first one's.
// @returns whether it was done.
function act(action, reason, share) {
  const name = native.actionNames[action];
  let isDone = false;
  outcome.fill(0);
  for (const its of new Set(cores.values())) {
    isDone = attempt(its, name, share, native.reasonNames[reason]) || isDone;
    if (isDone && COLLECTIONS.includes(name)) break; // one copy collects for all
  }
  return isDone;
}

/* ---- rounds ------------------------------------------------------------------ */

function known(number) {
  return Number.isNaN(number) ? null : number;
}

function roundOf(row, start = 0) {
  const result = {};
  ROUND_FIELDS.forEach((field, index) => {
    result[field] = known(row[start + index]);
  });
  result.reason = named(native.reasonNames, result.reason);
  result.level = named(native.levelNames, result.level);
  result.isUnreclaimable = result.isUnreclaimable === 1;
  result.steps = [];
  for (let step = 0; step < row[start + STEPS]; step++) {
    const at = start + STEPS + 1 + STEP_VALUES * step;
    result.steps.push({
      action: named(native.actionNames, row[at]),
      wasDone: row[at + 1] === 1,
      tookMs: row[at + 2],
      gcMs: row[at + 3],
      freedBytes: row[at + 4],
    });
  }
  return result;
}

/** The newest rounds of this isolate, oldest first. */
function rounds(max) {
  requireNumber(max, 'count', 0);
  const count = Math.min(Math.floor(max), native.roundsKept);
  const rows = new Float64Array(Math.max(1, count) * ROUND_VALUES);
  const held = native.reclaimRounds(count, rows);
  return Array.from({ length: held }, (_, index) => roundOf(rows, index * ROUND_VALUES));
}

/** The round of that number; null if it is not kept any more. */
function roundAt(number) {
  return native.reclaimRound(number, round) ? roundOf(round) : null;
}

function reclaimStats() {
  native.reclaimStats(stats);
  const result = {};
  STATS_FIELDS.forEach((field, index) => {
    result[field] = stats[index];
  });
  const [isUnreclaimable, timeToLimitMs, ...actions] = stats.subarray(STATS_FIELDS.length);
  result.isUnreclaimable = isUnreclaimable === 1;
  result.timeToLimitMs = timeToLimitMs < 0 ? null : timeToLimitMs;
  result.actions = {};
  native.actionNames.forEach((name, index) => {
    if (index > 0) result.actions[camel(name)] = actions[index]; // the first is no action
  });
  return result;
}

/* ---- by hand -------------------------------------------------------------------- */

function indexOf(names, name, what) {
  const index = names.indexOf(name, 1); // the first is "none"
  if (index >= 1) return index;
  const text = typeof name === 'string' ? JSON.stringify(name) : kindOf(name);
  throw failure('EINVAL', `${what} is ${text}, allowed: ${names.slice(1).map((one) => `"${one}"`).join(', ')}`);
}

/** Does `actions` now, whatever policy and budget say. @returns the round. */
function reclaim(core, actions, reason = 'manual', share = 1) {
  const bits = actions.reduce((sum, name) => sum | (1 << indexOf(native.actionNames, name, 'an action')), 0);
  const why = indexOf(native.reasonNames, reason, 'reason');
  gc.tellsHeap();
  const wasAwake = cores.has(core);
  cores.set(core, acts);
  try {
    native.reclaimRun(bits, why, share, round);
  } finally {
    if (!wasAwake) cores.delete(core);
  }
  return roundOf(round);
}

/** Charges time that the program waited for memguard to the budget of collections. */
function spent(ms) {
  if (isOpen) native.reclaimSpent(ms);
}

/** As reclaim() with "full"; also from inside an action of the engine, then without
 *  a round. @returns bytes of heap and external memory it freed, measured. */
function collect(core) {
  try {
    return reclaim(core, ['full']).steps[0].freedBytes;
  } catch (error) {
    if (error.code !== codes.ECONFLICT && error.code !== codes.ESYS) throw error;
    native.managerCollected(core.handle);
    measured(gc.collect, outcome);
    spent(outcome[2]);
    return outcome[0];
  }
}

/* ---- life ------------------------------------------------------------------------- */

let isOpen;

/** Sees to it that this isolate has its engine.
 *  @param byPressure false: as where V8's own functions cannot be had. */
function open(byPressure = true) {
  if (isOpen !== undefined) return;
  isOpen = native.reclaimOpen(act, outcome, byPressure);
  if (!isOpen) warn('no memory is reclaimed automatically: there was no room for the engine', codes.ENOMEM);
}

/** The worker may call here, and V8, while a monitor runs; not when the process
 *  ends: V8's platform ends before our threads do. */
function enter(core) {
  if (isExiting()) return;
  cores.set(core, acts);
  native.reclaimWake(true);
}

function leave(core) {
  cores.delete(core);
  if (cores.size === 0) native.reclaimWake(false);
}

/** Does what is due, for a monitor that nothing runs for in the background. */
function poll(core) {
  if (!isOpen || cores.size > 0) return;
  cores.set(core, acts);
  try {
    native.reclaimPoll();
  } finally {
    cores.delete(core);
  }
}

module.exports = { collect, enter, leave, open, poll, reclaim, reclaimStats, roundAt, rounds, spent };
