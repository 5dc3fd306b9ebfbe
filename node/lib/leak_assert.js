'use strict';

// Whether calls of a function leave something behind. Not a matter of time: the
// function is called in batches of n, 2n, 4n, ... with full collections in between.
// A leak is what grows with the calls: by the same per call, batch after batch. What
// is made once, or fills up and stops, grows by less and less.
//
// An engine makes and drops things of its own all the time, so bytes only raise a
// suspicion. Two batches more, with a census before, between and after, confirm it:
// by objects, entries or listeners that grow with the calls, which are exact, or by
// bytes far above what an engine moves. V8 counts up to a page of 256 KB in one look
// and not in the next, so where bytes are many but differ, they are compared with
// those of one batch more, as long as both.
const { setImmediate } = require('timers'); // not those that a test may have faked
const gc = require('./gc');
const { failure, kindOf, requireCount, requireFunction } = require('./errors');
const { heapStatistics } = require('./heap');
const { activeResources, census, censusDifference, culpritOf, fileDescriptors, grown, nowMs } = require('./leak_census');
const { LeakFinding, MemoryLeakDetected, textOf } = require('./leak_finding');
const { SiteWindow } = require('./leak_sites');
const { isPlain } = require('./config');
const { isThenable } = require('./report');
const { processInfo } = require('./process');

const ITERATIONS = 100;
const LEAST_ITERATIONS = 4;
const MOST_ITERATIONS = 10_000_000;
const FIRST_BATCHES = 3;
const MOST_BATCHES = 6; // that raise a suspicion, or do not
const STEADY = 0.65; // growth per call, one batch after another, as a quotient
const STILL_BYTES = 1024; // growth of a batch below this, or this per call, is none
const STILL_BYTES_PER_CALL = 8;
const SURE_BYTES = 262144; // growth of a batch that no engine causes, twice
const FEW = 16; // of what is counted; or one in SELDOM calls
const SELDOM = 20;
const FEW_ENTRIES = 32; // engines and jest keep maps too
const COLLECTIONS = 3; // what the first one finalizes is gone after the next
const CENSUS = { heapLimitBytes: 512 * 1048576 }; // a test may take its time
const MS_PER_MINUTE = 60000;
const SITE_SAMPLES = 256; // wanted of what stays
const SITE_BYTES = [512, 16384]; // the profiler's interval
const CULPRITS = 8;
const HIGH_BYTES = 65536; // per call
const MEDIUM_BYTES = 1024;

// Now and then the kernel's list of processes is read while it changes, and ours is
// not found in it.
function threadCount() {
  try {
    return processInfo().threads ?? NaN;
  } catch {
    return NaN;
  }
}

/** What is measured, and what of a census tells of it. */
const SIGNALS = {
  heap: { unit: 'bytes', kinds: ['types', 'entries', 'listeners'], read: () => heapStatistics().used_heap_size },
  external: { unit: 'bytes', kinds: [], read: () => heapStatistics().external_memory },
  handles: { unit: 'count', kinds: ['handles'], read: () => sumOf(activeResources()) },
  fds: { unit: 'count', kinds: ['fds'], read: () => sumOf(fileDescriptors()) },
  threads: { unit: 'count', kinds: [], read: threadCount },
};
const NAMES = Object.keys(SIGNALS);

function sumOf(counts) {
  if (counts === null) return NaN;
  let sum = 0;
  for (const count of counts.values()) sum += count;
  return sum;
}

/* ---- the trial ------------------------------------------------------------------- */

function turn() {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function leastCount(calls) {
  return Math.max(FEW, calls / SELDOM);
}

function isSteady(one, other) {
  return one > 0 && one / other >= STEADY && other / one >= STEADY;
}

/** What grew with the calls from each of three censuses to the next, by kind. */
function steadyGrowth([zeroth, first, second], calls) {
  const least = leastCount(calls);
  const before = censusDifference(zeroth, first, least);
  const after = censusDifference(first, second, least);
  after.entries = after.entries.filter(({ growth }) => growth >= FEW_ENTRIES);
  const steady = {};
  for (const kind of Object.keys(after)) {
    const growths = new Map(before[kind].map(({ name, growth }) => [name, growth]));
    steady[kind] = after[kind].filter(({ name, growth }) => isSteady(growth, growths.get(name) ?? 0));
  }
  return steady;
}

/** Two batches as one. */
function together(first, second) {
  const names = Object.keys(first.grown);
  const grownBy = Object.fromEntries(names.map((name) => [name, first.grown[name] + second.grown[name]]));
  return { calls: first.calls + second.calls, grown: grownBy };
}

/** Whether more bytes came in both batches together than an engine moves. */
function isLarge(name, first, second) {
  return SIGNALS[name].unit === 'bytes' && first.grown[name] + second.grown[name] >= SURE_BYTES;
}

/** Whether what is measured grew in one batch as in another of as many calls. */
function isSure(name, one, other) {
  const growth = [one.grown[name], other.grown[name]];
  const least = SIGNALS[name].unit === 'bytes' ? SURE_BYTES : leastCount(one.calls);
  return growth.every((bytes) => bytes >= least) && isSteady(...growth);
}

/** What of `steady` tells of a signal, with the sites for the heap. */
function culpritsOf(kinds, steady, sites) {
  const culprits = kinds.flatMap((kind) => steady[kind].map((row) => culpritOf(kind, row)));
  if (kinds.includes('types')) culprits.push(...sites.map((row) => culpritOf('sites', row)));
  return culprits.slice(0, CULPRITS);
}

function severityOf(unit, perCall) {
  if (unit !== 'bytes' || perCall >= HIGH_BYTES) return 'high';
  return perCall >= MEDIUM_BYTES ? 'medium' : 'low';
}

// Written once for functions of both kinds: it yields what is to be waited for.
class Trial {
  #fn;
  #options;
  #isAsync = false;
  #signals;

  constructor(fn, options) {
    this.#fn = fn;
    this.#options = options;
    this.#signals = options.signals;
  }

  *#call(count) {
    for (let index = 0; index < count; index++) {
      const result = this.#fn();
      if (!isThenable(result)) continue;
      this.#isAsync = true;
      yield result;
    }
  }

  *#look() {
    for (let round = 0; round < COLLECTIONS; round++) {
      if (this.#isAsync) yield turn();
      gc.collect();
    }
    return Object.fromEntries(this.#signals.map((name) => [name, SIGNALS[name].read()]));
  }

  *#batch(calls, from) {
    yield* this.#call(calls);
    const look = yield* this.#look();
    return { calls, look, grown: Object.fromEntries(this.#signals.map((name) => [name, look[name] - from[name]])) };
  }

  /** Whether that signal grew in this batch as in the one before it: 1 yes, 0 not at
   *  all, NaN something else happened. */
  #trend(name, { calls, grown: now }, before) {
    const least = SIGNALS[name].unit === 'bytes'
      ? Math.max(STILL_BYTES, STILL_BYTES_PER_CALL * calls)
      : leastCount(calls);
    if (!(Math.abs(now[name]) >= least)) return 0;
    return isSteady(now[name] / calls, before.grown[name] / before.calls) ? 1 : NaN;
  }

  /** @returns findings. */
  *run() {
    let calls = Math.ceil(this.#options.iterations / 2 ** (FIRST_BATCHES - 1));
    yield* this.#call(this.#options.warmup ?? calls);
    let last = { calls: 0, look: yield* this.#look(), grown: {} };
    let wasStill = false;
    for (let count = 1; count <= MOST_BATCHES; count++, calls *= 2) {
      const batch = yield* this.#batch(calls, last.look);
      const trends = this.#signals.map((name) => this.#trend(name, batch, last));
      const isStill = trends.every((trend) => trend === 0);
      last = batch;
      if (count >= FIRST_BATCHES) {
        if (isStill && wasStill) return [];
        if (trends.includes(1) || (count === MOST_BATCHES && !isStill)) {
          return yield* this.#confirm(this.#signals.filter((_, index) => trends[index] !== 0), batch);
        }
      }
      wasStill = isStill;
    }
    return [];
  }

  *#confirm(suspects, { calls: callsBefore, grown: before }) {
    const calls = 2 * callsBefore;
    const absent = {};
    const began = nowMs();
    const needed = { ...CENSUS, objects: suspects.some((name) => SIGNALS[name].unit === 'bytes') };
    const censuses = [census(needed)];
    const first = yield* this.#batch(calls, yield* this.#look());
    censuses.push(census(needed));
    const sites = this.#openSites(suspects, before, absent);
    try {
      const second = yield* this.#batch(calls, yield* this.#markedLook(sites));
      const grownSites = sites === null ? [] : grown(new Map(), sites.end());
      censuses.push(census(needed));
      const steady = steadyGrowth(censuses, calls);
      Object.assign(absent, censuses[2].absent);
      const minutes = (nowMs() - began) / MS_PER_MINUTE;
      const leaks = suspects.filter((name) => this.#isLeak(name, first, second, steady));
      const open = suspects.filter((name) => !leaks.includes(name) && isLarge(name, first, second));
      if (open.length > 0) {
        const both = together(first, second);
        const third = yield* this.#batch(both.calls, yield* this.#look());
        leaks.push(...open.filter((name) => isSure(name, both, third)));
      }
      return suspects
        .filter((name) => leaks.includes(name))
        .map((name) => this.#findingOf(name, [first, second], { steady, sites: grownSites, minutes, absent }));
    } finally {
      sites?.close();
    }
  }

  #findingOf(signal, [first, second], { steady, sites, minutes, absent }) {
    const { unit, kinds } = SIGNALS[signal];
    const growth = Math.max(first.grown[signal], second.grown[signal], 0);
    const { calls } = first;
    return new LeakFinding({
      signal,
      tier: 'confirmed',
      severity: severityOf(unit, growth / calls),
      growth,
      growthPerMinute: (2 * growth) / minutes,
      unit,
      since: Date.now() - minutes * MS_PER_MINUTE,
      culprits: culpritsOf(kinds, steady, sites),
      calls,
      absent: Object.fromEntries(kinds.concat('sites').filter((kind) => kind in absent).map((kind) => [kind, absent[kind]])),
    });
  }

  #isLeak(name, first, second, steady) {
    return SIGNALS[name].kinds.some((kind) => steady[kind].length > 0) || isSure(name, first, second);
  }

  *#markedLook(sites) {
    const look = yield* this.#look();
    sites?.mark();
    return look;
  }

  #openSites(suspects, before, absent) {
    if (!suspects.includes('heap')) return null;
    const [least, most] = SITE_BYTES;
    try {
      const interval = Math.min(most, Math.max(least, Math.round(before.heap / SITE_SAMPLES)));
      return new SiteWindow(interval, `${this.#fn.name || '(anonymous)'} itself`);
    } catch (error) {
      absent.sites = error.message;
      return null;
    }
  }
}

async function driveOn(steps, first) {
  let step = first;
  while (!step.done) {
    try {
      await step.value;
    } catch (error) {
      step = steps.throw(error);
      continue;
    }
    step = steps.next();
  }
  return step.value;
}

/** Runs to the end at once, or as a promise from the first thing to wait for. */
function drive(steps) {
  let step = steps.next();
  while (!step.done) {
    if (isThenable(step.value)) return driveOn(steps, step);
    step = steps.next();
  }
  return step.value;
}

function checkedCount(value, what, least) {
  requireCount(value, what, least);
  if (value > MOST_ITERATIONS) throw failure('ERANGE', `${what} is ${value}, allowed: ${least} to ${MOST_ITERATIONS}`);
  return value;
}

function checked(options) {
  if (!isPlain(options)) throw failure('ETYPE', `options must be a plain object, not ${kindOf(options)}`);
  const { iterations = ITERATIONS, warmup, signals = NAMES, ...rest } = options;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw failure('EKEY', `${unknown} is no option, allowed: iterations, warmup, signals`);
  checkedCount(iterations, 'iterations', LEAST_ITERATIONS);
  if (warmup !== undefined) checkedCount(warmup, 'warmup', 0);
  if (!Array.isArray(signals)) throw failure('ETYPE', `signals must be an array, not ${kindOf(signals)}`);
  const wrong = signals.find((name) => !NAMES.includes(name));
  if (wrong !== undefined) throw failure('EINVAL', `signals has ${JSON.stringify(wrong)}, allowed: ${NAMES.join(', ')}`);
  return { iterations, warmup, signals: NAMES.filter((name) => signals.includes(name)) };
}

/** What calls of `fn` leave behind, each time, for ever.
 *  @returns LeakFindings, none if nothing leaks; a promise of them where `fn`
 *  returns promises. */
function findLeaks(fn, options = {}) {
  requireFunction(fn, 'the function to call');
  const trial = new Trial(fn, checked(options));
  if (!gc.canCollect()) throw failure('EABSENT', 'this runtime offers no way to ask for a collection');
  return drive(trial.run());
}

/** The error that tells of findings; null if there are none. */
function leakError(fn, findings) {
  if (findings.length === 0) return null;
  return new MemoryLeakDetected(`${fn.name || 'the function'} leaks\n${textOf(findings)}`, findings);
}

/** @throws MemoryLeakDetected, or returns a promise that is rejected with it. */
function assertNoLeak(fn, options) {
  const raise = (findings) => {
    const error = leakError(fn, findings);
    if (error !== null) throw error;
  };
  const findings = findLeaks(fn, options);
  return isThenable(findings) ? findings.then(raise) : raise(findings);
}

module.exports = { assertNoLeak, findLeaks, leakError };
