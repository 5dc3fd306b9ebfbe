'use strict';

// FdWatch: warns of too many open descriptors before the process runs out of them.
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireFunction } = require('./errors');
const { isPlain } = require('./config');
const { fileDescriptors } = require('./leak_census');
const { MemoryMonitor } = require('./monitor');
const { isThenable, reportOnce } = require('./report');

const TARGETS = 8; // told with a warning
const OPTIONS = ['threshold', 'growthPerMinute', 'cleanup', 'monitor'];

function checked(options) {
  if (!isPlain(options)) throw failure('ETYPE', `options must be a plain object, not ${kindOf(options)}`);
  const unknown = Object.keys(options).find((name) => !OPTIONS.includes(name));
  if (unknown !== undefined) throw failure('EKEY', `${unknown} is no option, allowed: ${OPTIONS.join(', ')}`);
  const { cleanup, monitor } = options;
  if (cleanup !== undefined) requireFunction(cleanup, 'cleanup');
  if (monitor !== undefined && !(monitor instanceof MemoryMonitor)) {
    throw failure('ETYPE', `monitor must be a MemoryMonitor, not ${kindOf(monitor)}`);
  }
  return { threshold: 800, growthPerMinute: 50, ...options };
}

class FdWatch {
  #cleanup;
  #detector;
  #failures = 0;
  #isClosed = false;
  #listener = (event) => this.#warn(event);
  #monitor;
  #owns;
  #warnings = 0;

  constructor(options = {}) {
    const { threshold, growthPerMinute, cleanup, monitor } = checked(options);
    const settings = { leak: { fdWarningCount: threshold, fdGrowthPerMinute: growthPerMinute } };
    this.#cleanup = cleanup;
    this.#owns = monitor === undefined;
    this.#monitor = this.#owns ? new MemoryMonitor(settings) : monitor;
    if (!this.#owns) monitor.updateConfig(settings);
    this.#detector = this.#monitor.leakDetector;
    this.#detector.on('fd:warning', this.#listener);
    this.#detector.start();
  }

  /** Descriptors that are open now; null where the kernel does not tell. */
  get count() {
    const targets = fileDescriptors();
    return targets === null ? null : [...targets.values()].reduce((sum, count) => sum + count, 0);
  }

  get warnings() {
    return this.#warnings;
  }

  /** Times that the clean-up failed. */
  get failures() {
    return this.#failures;
  }

  get growthPerMinute() {
    return this.#isClosed ? null : this.#detector.stats().fdGrowthPerMinute;
  }

  targets() {
    const rows = [...(fileDescriptors() ?? [])];
    return new Map(rows.sort(([a, more], [b, less]) => less - more || (a < b ? -1 : 1)));
  }

  #warn({ count, threshold, growthPerMinute }) {
    this.#warnings++;
    if (this.#cleanup === undefined) return;
    const failed = (error) => {
      this.#failures++;
      reportOnce(this.#cleanup, 'the clean-up of descriptors', error);
    };
    try {
      const result = this.#cleanup({
        count,
        threshold,
        growthPerMinute,
        targets: new Map([...this.targets()].slice(0, TARGETS)),
      });
      if (isThenable(result)) result.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#detector.off('fd:warning', this.#listener);
    if (this.#owns) this.#monitor.close();
  }
}

defineDisposal(FdWatch);

module.exports = { FdWatch };
