'use strict';

// What an optimization is made of: the core's decisions about it, and rounds of
// actions that are measured. MemoryMonitor runs them at once, a
// MemoryOptimizationService with what else it knows around them.
const native = require('./native');
const { codes } = require('./errors');
const { camel } = require('./names');
const { BYTES_PER_MB, LENGTH, named, statsOf } = require('./sample');

const reasons = native.optimizeReasons;
const strategies = native.strategyNames;
const fields = native.optimizerFields.map(camel);

/** What { rssBytes, heapBytes } fell by, the larger; null: not known. */
function freedBytes(before, after) {
  return native.freedBytes(
    before.rssBytes ?? NaN, before.heapBytes ?? NaN, after.rssBytes ?? NaN, after.heapBytes ?? NaN,
  );
}

// The heap with what it owns outside.
const measureOf = (stats) => ({ rssBytes: stats.rss, heapBytes: stats.heapUsed + stats.external });

/** The same of statistics. */
function freedBetween(before, after) {
  return freedBytes(measureOf(before), measureOf(after));
}

/* ---- decisions --------------------------------------------------------------- */

const view = new Float64Array(6);

/** The scheduler, the statistics and the degraded mode. Times are ms of any clock
 *  that does not jump. */
class Optimizer {
  #row = new Float64Array(fields.length);

  constructor() {
    native.optimizerInit(this.#row);
  }

  /** Why an optimization is due; 'none' if it is not. */
  due(config, { nowMs, usage, level, isGrowing = false, timeToLimitMs = -1, engineActedMs = -1 }) {
    view.set([nowMs, usage, native.levelNames.indexOf(level), isGrowing ? 1 : 0, timeToLimitMs, engineActedMs]);
    return named(reasons, native.optimizerDue(this.#row, config, view));
  }

  /** Whether one that is asked for may run. */
  may(reason, isForced, nowMs) {
    return native.optimizerMay(this.#row, reasons.indexOf(reason), isForced, nowMs);
  }

  done(reason, isSuccess, freed, tookMs, nowMs) {
    native.optimizerDone(this.#row, reasons.indexOf(reason), isSuccess, freed, tookMs, nowMs);
  }

  get state() {
    return Object.fromEntries(fields.map((field, index) => [field, this.#row[index]]));
  }
}

function strategyFor(reason, isAggressive) {
  return named(strategies, native.strategyFor(reasons.indexOf(reason), isAggressive));
}

const progressRow = new Float64Array(4);
const planRow = new Float64Array(3);

/** What round `round` of a strategy does; no actions: it is through. */
function strategyPlan(strategy, { round = 0, elapsedMs = 0, freedBytes: freed, usedBytes } = {}) {
  progressRow.set([round, elapsedMs, freed ?? NaN, usedBytes ?? NaN]);
  const bits = native.strategyPlan(strategies.indexOf(strategy), progressRow, planRow);
  const [share, cleans, flushes] = planRow;
  const actions = native.actionNames.filter((_, bit) => (bits & (1 << bit)) !== 0);
  return { actions, share, cleans: cleans === 1, flushes: flushes === 1 };
}

/* ---- acting ------------------------------------------------------------------- */

/** One thing that an optimization did, for its report. */
function step(name, kind, outcome, durationMs, freed = null) {
  return { name, kind, outcome, durationMs, freedMemoryMB: freed === null ? null : freed / BYTES_PER_MB };
}

// What the engine is told.
const ENGINE_REASONS = { manual: 'manual', scheduled: 'water_mark', emergency: 'forced', preventive: 'forecast' };

function stepOf({ action, wasDone, tookMs, freedBytes: freed }) {
  return step(action, 'action', wasDone ? 'done' : 'skipped', tookMs, freed);
}

/** A monitor as something to optimize. */
class Target {
  #row = new Float64Array(LENGTH);

  /** @param flush gives buffers to their sinks; null without buffers. */
  constructor(core, flush = null) {
    this.core = core;
    this.flush = flush;
  }

  /** Statistics of now. */
  measure() {
    this.core.pass(false);
    native.monitorLatest(this.core.handle, this.#row);
    return statsOf(this.#row);
  }

  /** Does `actions`, the part that can be done now. @returns a step for each. */
  act(actions, reason, share) {
    try {
      return this.core.reclaim(actions, ENGINE_REASONS[reason], share).steps.map(stepOf);
    } catch (error) {
      if (error.code !== codes.ECONFLICT) throw error;
      return actions.map((action) => ({ ...step(action, 'action', 'skipped', 0), error: 'busy' }));
    }
  }

  /** As the engine forecasts it; below 0: not growing, or unknown. */
  timeToLimitMs() {
    return this.core.reclaimStats().timeToLimitMs ?? -1;
  }
}

/** Runs a strategy on `target`, adding to `steps`. Yields in each round, before it
 *  acts, the plan: the host's part of it is the caller's. */
function* rounds(target, strategy, reason, steps) {
  const beganMs = performance.now();
  let progress = {};
  for (let round = 1; ; round++) {
    const plan = strategyPlan(strategy, progress);
    if (plan.actions.length === 0) return;
    const before = target.measure();
    if (plan.flushes && target.flush !== null) {
      const flushedMs = performance.now();
      target.flush();
      steps.push(step('buffers', 'action', 'done', performance.now() - flushedMs));
    }
    yield plan;
    steps.push(...target.act(plan.actions, reason, plan.share));
    progress = {
      round,
      elapsedMs: performance.now() - beganMs,
      freedBytes: freedBetween(before, target.measure()),
      usedBytes: before.rss,
    };
  }
}

/* ---- reports ------------------------------------------------------------------- */

/** Whether something was done and nothing failed. */
function isSuccess(steps) {
  return steps.some(({ outcome }) => outcome === 'done') &&
    steps.every(({ outcome }) => outcome === 'done' || outcome === 'skipped');
}

function reportOf(reason, method, beganMs, before, after, steps) {
  return {
    timestamp: Date.now(),
    reason,
    method,
    success: isSuccess(steps),
    durationMs: performance.now() - beganMs,
    freedMemoryMB: freedBetween(before, after) / BYTES_PER_MB,
    beforeStats: before,
    afterStats: after,
    optimizations: steps,
  };
}

/** An optimization at once, without anything of the host but its sinks. */
function optimizeNow(target, strategy) {
  const beganMs = performance.now();
  const before = target.measure();
  const steps = [];
  for (const plan of rounds(target, strategy, 'manual', steps)) void plan;
  return reportOf('manual', strategy, beganMs, before, target.measure(), steps);
}

/** What went wrong, as a name: a message may hold data of the host. */
function nameOf(error) {
  try {
    const code = typeof error?.code === 'string' && Object.values(codes).includes(error.code) ? error.code : null;
    return code ?? (typeof error?.name === 'string' ? error.name : typeof error);
  } catch {
    return 'unknown';
  }
}

module.exports = {
  Optimizer,
  Target,
  freedBetween,
  freedBytes,
  nameOf,
  optimizeNow,
  reasons,
  reportOf,
  rounds,
  step,
  strategies,
  strategyFor,
  strategyPlan,
};
