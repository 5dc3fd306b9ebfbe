'use strict';

// memguard/jest-environment: jest's environment for Node, in which a test fails that
// leaves something open behind it - a timer, a socket, a server, a file - and a file
// does whose tests together left something. In jest's configuration:
//   "testEnvironment": "memguard/jest-environment",
//   "testEnvironmentOptions": { "memguard": { "perTest": true, "perFile": true } }
const { createRequire } = require('module');
const path = require('path');
const { setImmediate, setTimeout } = require('timers');
const { failure, kindOf } = require('./lib/errors');
const { activeResources, culpritOf, fileDescriptors, grown } = require('./lib/leak_census');
const { LeakFinding, MemoryLeakDetected, textOf } = require('./lib/leak_finding');
const { isPlain } = require('./lib/config');

const SETTLE_MS = [0, 0, 10, 50, 200, 500]; // what is being closed gets that long
// Not the program's, jest's own output, or Node's work that ends by itself. Jest has
// timers too: those of tests are counted where tests get them.
const PASSING = new Set([
  'Timeout',
  'FSReqCallback', 'FSReqPromise', 'Immediate', 'PipeWrap', 'TTYWrap', 'WriteWrap', 'ShutdownWrap', 'CloseReq',
  'FileHandleCloseReq', 'GetAddrInfoReqWrap', 'RandomBytesRequest', 'ConnectReqWrap', 'PipeConnectWrap',
]);

/** jest-environment-node, from where jest is installed. */
function nodeEnvironment() {
  const places = [module.filename, path.join(process.cwd(), 'package.json')];
  for (const place of places) {
    try {
      const found = createRequire(place)('jest-environment-node');
      return found.TestEnvironment ?? found.default ?? found;
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw failure('EABSENT', 'memguard/jest-environment needs the package "jest-environment-node": npm install jest-environment-node');
}

function optionsOf(given = {}) {
  if (!isPlain(given)) throw failure('ETYPE', `testEnvironmentOptions.memguard must be a plain object, not ${kindOf(given)}`);
  const options = { perTest: true, perFile: true, ...given };
  for (const [name, value] of Object.entries(options)) {
    if (name !== 'perTest' && name !== 'perFile') {
      throw failure('EKEY', `${name} is no option of memguard/jest-environment, allowed: perTest, perFile`);
    }
    if (typeof value !== 'boolean') throw failure('ETYPE', `${name} must be a boolean, not ${kindOf(value)}`);
  }
  return options;
}

const PRUNED_AT = 1000; // timers that may have ended

/** Timers that a global of tests makes. */
class Timers {
  #made = new Set();

  /** The function with its calls noted. */
  follow(make) {
    return new Proxy(make, {
      apply: (target, receiver, values) => {
        const timer = Reflect.apply(target, receiver, values);
        this.#made.add(timer);
        if (this.#made.size % PRUNED_AT === 0) this.count();
        return timer;
      },
    });
  }

  /** How many of them keep the process alive. */
  count() {
    let count = 0;
    for (const timer of this.#made) {
      if (timer._destroyed) this.#made.delete(timer);
      else if (timer.hasRef()) count++;
    }
    return count;
  }
}

function look(timers) {
  const handles = activeResources() ?? new Map();
  for (const type of PASSING) handles.delete(type);
  handles.set('Timeout', timers.count());
  return { handles, fds: fileDescriptors(), timers };
}

function findingOf(signal, kind, rows, minutes) {
  const growth = rows.reduce((sum, row) => sum + row.growth, 0);
  return new LeakFinding({
    signal,
    tier: 'confirmed',
    severity: 'high',
    growth,
    growthPerMinute: growth / minutes,
    unit: 'count',
    since: Date.now() - minutes * 60000,
    culprits: rows.map((row) => culpritOf(kind, row)),
    calls: 1,
  });
}

/** What is open now and was not at `before`. */
function leftSince({ handles, fds, timers, atMs }) {
  const now = look(timers);
  const minutes = Math.max(1, Date.now() - atMs) / 60000;
  const findings = [];
  const rows = { handles: grown(handles, now.handles, 1), fds: grown(fds, now.fds, 1) };
  for (const [kind, some] of Object.entries(rows)) if (some.length > 0) findings.push(findingOf(kind, kind, some, minutes));
  return findings;
}

/** As leftSince(), after what is being closed had its time. */
async function leftAtLast(before) {
  let findings = leftSince(before);
  for (const ms of SETTLE_MS) {
    if (findings.length === 0) break;
    await new Promise((resolve) => (ms === 0 ? setImmediate(resolve) : setTimeout(resolve, ms)));
    findings = leftSince(before);
  }
  return findings;
}

function start(timers) {
  return { ...look(timers), atMs: Date.now() };
}

class MemguardEnvironment extends nodeEnvironment() {
  #options;
  #file = null;
  #test = null;
  #timers = new Timers();
  #told = false; // a test of this file was told of what it left

  constructor(config, context) {
    super(config, context);
    this.#options = optionsOf(config.projectConfig?.testEnvironmentOptions?.memguard);
  }

  async setup() {
    await super.setup();
    for (const name of ['setInterval', 'setTimeout']) this.global[name] = this.#timers.follow(this.global[name]);
  }

  async handleTestEvent(event, state) {
    await super.handleTestEvent?.(event, state);
    if (event.name === 'run_start' && this.#options.perFile) this.#file = start(this.#timers);
    if (event.name === 'test_start' && this.#options.perTest) this.#test = start(this.#timers);
    if (event.name === 'test_done' && this.#test !== null) {
      await this.#check(this.#test, event.test.name, (error) => event.test.errors.push(error));
      this.#test = null;
    }
    if (event.name === 'run_finish' && this.#file !== null) {
      if (!this.#told) await this.#check(this.#file, 'the test file', (error) => state.unhandledErrors.push(error));
      this.#file = null;
    }
  }

  async #check(before, what, report) {
    const findings = await leftAtLast(before);
    if (findings.length === 0) return;
    this.#told = true;
    report(new MemoryLeakDetected(`${what} leaves open\n${textOf(findings)}`, findings));
  }
}

module.exports = MemguardEnvironment;
