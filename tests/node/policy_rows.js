'use strict';

// Runs the rows of tests/vectors/policy.json; tests/vectors/README.md says how they
// are made. tests/core/test_policy.c and tests/python/policy_rows.py do the same.
/* global expect */ // jest's
const { decide } = require('../..');

const BUCKET_MS = 1000;
const KB = 1024;
const MB = 1024 * 1024;
const WORDS = { nan: NaN, inf: Infinity, '-inf': -Infinity };
const OUTCOME = { took_ms: 1, gc_ms: 0, freed_bytes: 0, used_bytes: 100 * MB };
const VIEW = ['now_ms', 'usage', 'level', 'limit_bytes', 'grown_bytes', 'available'];

function camel(mapping) {
  return Object.fromEntries(
    Object.entries(mapping).map(([key, value]) => [key.replace(/_(.)/g, (_, letter) => letter.toUpperCase()), value]),
  );
}

/** JSON has no word for what is no number, so the rows write it as text. */
function numbers(mapping) {
  return Object.fromEntries(Object.entries(mapping).map(([key, value]) => [key, WORDS[value] ?? value]));
}

/** Expects that the parts of `found` named by `wanted` are as they should. */
function same(found, wanted, step) {
  expect([found, step]).toEqual([wanted, step]);
}

/** A row with `steps`. */
class Steps {
  constructor(row) {
    this.policy = new decide.Policy(row.config);
    this.view = { now_ms: 0, usage: 0, level: 'normal' };
    this.outcomes = {};
    for (const step of row.steps) this.run(step);
  }

  run(step) {
    const given = VIEW.filter((key) => key in step).map((key) => [key, step[key]]);
    Object.assign(this.view, numbers(Object.fromEntries(given)));
    Object.assign(this.outcomes, step.outcomes);
    if ('spent' in step) this.policy.spent(step.spent);
    if ('next' in step) {
      const decision = this.policy.next(camel(this.view));
      const wanted = camel(step.next);
      same(Object.fromEntries(Object.keys(wanted).map((key) => [key, decision[key]])), wanted, step);
    }
    if ('done' in step) this.done(step.done);
    if ('rounds' in step) same(this.rounds(), step.rounds, step);
    if ('may_collect' in step) {
      const [level, gcMs, wanted] = step.may_collect;
      same(this.policy.mayCollect(level, gcMs, this.view.now_ms), wanted, step);
    }
    if ('time_to_limit_ms' in step) {
      const ms = this.policy.timeToLimitMs;
      same(ms === null ? null : Math.round(ms * 1e6), step.time_to_limit_ms && Math.round(step.time_to_limit_ms * 1e6), step);
    }
    if ('is_unreclaimable' in step) same(this.policy.isUnreclaimable, step.is_unreclaimable, step);
  }

  /** Acts as an engine does until nothing is left to do. */
  rounds() {
    const found = [];
    for (let asked = 0; asked < 60; asked++) {
      const { action, reason, level, beginsRound } = this.policy.next(camel(this.view));
      if (action === 'none') return found;
      if (beginsRound) found.push([reason, level]);
      else if (found.length === 0) found.push(['continued', level]);
      found[found.length - 1].push(action);
      this.done(action);
    }
    throw new Error(`no end: ${JSON.stringify(found)}`);
  }

  done(action) {
    const outcome = numbers({ ...OUTCOME, ...this.outcomes.all, ...this.outcomes[action] });
    const tookMs = outcome.took_ms;
    if (tookMs > 0 && tookMs < Infinity) this.view.now_ms += tookMs;
    if ('usage_after' in outcome) this.view.usage = outcome.usage_after;
    if ('grown_after' in outcome) this.view.grown_bytes = outcome.grown_after;
    this.policy.done(action, camel(outcome), this.view.now_ms);
  }
}

/** A row with `simulate`: a process that allocates, seen by an engine, for hours.
 *  Whole numbers only, so that it goes alike in every language. */
class Simulation {
  constructor(row) {
    this.setup = row.simulate;
    this.policy = new decide.Policy(row.config);
    this.tracker = new decide.LevelTracker(row.config);
    this.random = 2463534242;
    this.nowMs = 0;
    this.liveKb = this.setup.live_mb * KB;
    this.garbageKb = 0;
    this.baseKb = this.liveKb;
    this.level = 'normal';
    this.wasUnreclaimable = false;
    this.balanceMs = 0; // GC time less budget
    this.leastMs = 0; // its minimum
    this.found = { rounds: {}, actions: {}, gc_ms: 0, unreclaimable: 0, peak_percent: 0 };
    this.run();
  }

  /** Xorshift (Marsaglia, J. Stat. Soft. 8(14), 2003). */
  chance(below) {
    let x = this.random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.random = x >>> 0;
    return this.random % below;
  }

  usage() {
    return (this.liveKb + this.garbageKb) / (this.setup.limit_mb * KB);
  }

  passTime(ms) {
    this.balanceMs -= (ms * this.setup.budget[this.level === 'critical' ? 1 : 0]) / 100;
  }

  allocate(step) {
    const { phases } = this.setup;
    let at = step % phases.reduce((sum, phase) => sum + phase.steps, 0);
    const phase = phases.find(({ steps }) => {
      at -= steps;
      return at < 0;
    });
    this.liveKb = Math.max(Math.min(this.liveKb + phase.live_kb, this.setup.live_max_mb * KB), 0);
    this.garbageKb += phase.garbage_kb + this.chance(phase.noise_kb + 1);
    this.found.peak_percent = Math.max(this.found.peak_percent, Math.trunc(this.usage() * 100));
  }

  act({ action }) {
    const takes = this.setup.actions[action];
    const freedKb = Math.floor((this.garbageKb * takes.percent) / 100);
    const gcMs = takes.gc_ms && takes.gc_ms + this.chance(takes.jitter_ms + 1);
    const usedKb = this.liveKb + this.garbageKb;
    this.garbageKb -= freedKb;
    if (action === 'full' || action === 'release') this.baseKb = usedKb - freedKb;
    this.nowMs += gcMs + takes.other_ms;
    this.passTime(gcMs + takes.other_ms);
    this.leastMs = Math.min(this.leastMs, this.balanceMs);
    this.balanceMs += gcMs;
    if (this.balanceMs - this.leastMs > BUCKET_MS + this.setup.overrun_ms + 1e-6) {
      throw new Error(`over the budget at ${this.nowMs}`);
    }
    this.policy.done(
      action,
      { tookMs: gcMs + takes.other_ms, gcMs, freedBytes: freedKb * KB, usedBytes: usedKb * KB, usageAfter: this.usage() },
      this.nowMs,
    );
    this.count('actions', action);
    this.found.gc_ms += gcMs;
  }

  count(what, name) {
    this.found[what][name] = (this.found[what][name] ?? 0) + 1;
  }

  ask() {
    const grownKb = Math.max(this.liveKb + this.garbageKb - this.baseKb, 0);
    const decision = this.policy.next({
      nowMs: this.nowMs,
      usage: this.usage(),
      level: this.level,
      limitBytes: this.setup.limit_mb * MB,
      grownBytes: this.setup.counts_bytes ? grownKb * KB : null,
      available: Object.keys(this.setup.actions),
    });
    if (decision.beginsRound) this.count('rounds', decision.reason);
    const gaveUp = this.policy.isUnreclaimable;
    if (gaveUp && !this.wasUnreclaimable) this.found.unreclaimable++;
    this.wasUnreclaimable = gaveUp;
    return decision;
  }

  run() {
    let seenMs = 0;
    for (let step = 0; this.nowMs < this.setup.minutes * 60000; step++) {
      this.allocate(step);
      this.level = this.tracker.update(this.usage(), this.nowMs);
      this.passTime(this.nowMs - seenMs);
      for (let decision = this.ask(); decision.action !== 'none'; decision = this.ask()) this.act(decision);
      seenMs = this.nowMs;
      this.nowMs += this.setup.step_ms;
    }
  }
}

module.exports = { Simulation, Steps, numbers };
