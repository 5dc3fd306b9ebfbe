'use strict';
/* Puts the program that starts here under a LeakDetector. It does not notice.
 *
 * Comes in by NODE_OPTIONS=--require. Lines of JSON go to the file LEAK_VERDICT:
 * the findings whenever one changes, more of them is known, and at the end; after
 * each full collection how much is live. LEAK_TIME_SCALE: how much faster time goes
 * by; LEAK_LIMIT_MB: what the process may use. */

const fs = require('node:fs');
const { constants, PerformanceObserver } = require('node:perf_hooks');
const { getHeapStatistics } = require('node:v8');
const { isMainThread } = require('node:worker_threads');

const EVENTS = ['leak:suspected', 'leak:warning', 'leak:critical', 'leak:withdrawn'];
const LOOK_MS = 1000; // culprits are named without an event

/** What of findings is news: not that they grew. */
function gist(findings) {
  const names = (finding) => finding.culprits.map(({ name }) => name);
  return JSON.stringify(findings.map((one) => [one.signal, one.tier, names(one)]));
}

function watch(fileName, config) {
  const { LeakDetector } = require('../../node');
  const verdict = fs.openSync(fileName, 'a');
  const detector = new LeakDetector(config);
  let told = gist([]);

  function tell(fields) {
    fs.writeSync(verdict, `${JSON.stringify({ at: Date.now() / 1000, ...fields })}\n`);
  }

  function look() {
    const { findings } = detector;
    if (gist(findings) === told) return;
    told = gist(findings);
    tell({ findings: detector.asDict() });
  }

  for (const name of EVENTS) detector.on(name, look);
  setInterval(look, LOOK_MS).unref();
  process.on('exit', look);
  const collections = new PerformanceObserver((list) => {
    const isFull = ({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
    if (list.getEntries().some(isFull)) tell({ live: getHeapStatistics().used_heap_size });
  });
  collections.observe({ entryTypes: ['gc'] });
  detector.start();
}

/** Workers and programs that this one starts are not watched. */
function begin() {
  const { LEAK_VERDICT, LEAK_TIME_SCALE, LEAK_LIMIT_MB } = process.env;
  if (!LEAK_VERDICT || !isMainThread) return;
  delete process.env.LEAK_VERDICT;
  const config = { timeScale: Number(LEAK_TIME_SCALE) };
  if (LEAK_LIMIT_MB) config.maxMemoryMb = Number(LEAK_LIMIT_MB);
  watch(LEAK_VERDICT, config);
}

begin();
