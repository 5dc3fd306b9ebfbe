'use strict';

// memguard/jest: matchers for jest. In a test file `require('memguard/jest')`, or
// for all of them "setupFilesAfterEnv": ["memguard/jest"].
const { findLeaks, leakError } = require('./lib/leak_assert');
const { isThenable } = require('./lib/report');

const matchers = {
  /** expect(fn).not.toLeak({ iterations, warmup, signals }); await it if fn is
   *  asynchronous. */
  toLeak(fn, options) {
    const verdictOf = (findings) => ({
      pass: findings.length > 0,
      message: () => leakError(fn, findings)?.message ?? 'expected a leak, found none',
    });
    const findings = findLeaks(fn, options);
    return isThenable(findings) ? findings.then(verdictOf) : verdictOf(findings);
  },
};

if (typeof globalThis.expect?.extend === 'function') globalThis.expect.extend(matchers);

module.exports = { matchers };
