'use strict';

// Serves a workload of tune.py and measures it, the same way for every variant:
// collections are timed by a PerformanceObserver, memguard's own figures are not
// used. Command line: VARIANT WARM_UP_SECONDS SECONDS. Prints one JSON object.

const { PerformanceObserver, performance } = require('perf_hooks');

const WINDOW_MS = 1000;
const JOBS_PER_TURN = 10; // of the event loop

/** Nearest rank; 0 for no values. */
function quantile(values, share) {
  if (values.length === 0) return 0;
  return Float64Array.from(values).sort()[Math.ceil(share * values.length) - 1];
}

/** The longest pause that began in each window; 0 where none did. */
function longestByWindow(pauses, startMs, windows) {
  const longest = new Array(windows).fill(0);
  for (const { beganMs, tookMs } of pauses) {
    const window = Math.min(Math.floor((beganMs - startMs) / WINDOW_MS), windows - 1);
    longest[window] = Math.max(longest[window], tookMs);
  }
  return longest;
}

const nextTurn = () => new Promise(setImmediate);

/** Jobs one after the other, the event loop turns in between. */
async function runFor(job, first, ms) {
  const until = performance.now() + ms;
  let number = first;
  let longestMs = 0;
  for (let now = performance.now(); now < until; ) {
    for (let turn = 0; turn < JOBS_PER_TURN; turn++) job(number++);
    await nextTurn();
    const before = now;
    now = performance.now();
    longestMs = Math.max(longestMs, now - before);
  }
  return { jobs: number - first, longestMs };
}

async function measure(job, warmUpMs, ms) {
  const pauses = [];
  const observer = new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) pauses.push({ beganMs: startTime, tookMs: duration });
  });
  observer.observe({ entryTypes: ['gc'] });
  const { jobs: first } = await runFor(job, 0, warmUpMs);
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  const { jobs, longestMs } = await runFor(job, first, ms);
  const { user, system } = process.cpuUsage(startCpu);
  const endMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 100)); // entries come late
  const seen = pauses.filter(({ beganMs }) => beganMs >= startMs && beganMs < endMs);
  const took = seen.map(({ tookMs }) => tookMs);
  const total = took.reduce((sum, each) => sum + each, 0);
  return {
    pause_p95: quantile(longestByWindow(seen, startMs, Math.ceil(ms / WINDOW_MS)), 0.95),
    gc_cpu: (100 * total) / (endMs - startMs),
    peak_rss: process.resourceUsage().maxRSS / 1024,
    throughput: (jobs * 1000) / (endMs - startMs),
    plain_p95: quantile(took, 0.95),
    max: quantile(took, 1),
    total,
    collections: took.length,
    longest_job: longestMs,
    cpu: (user + system) / 10 / (endMs - startMs),
  };
}

async function serve(build) {
  const [variant, warmUpS, seconds] = process.argv.slice(2);
  const manager = variant === 'memguard' ? new (require('../../node').ResourceManager)() : null;
  console.log(JSON.stringify(await measure(build(), warmUpS * 1000, seconds * 1000)));
  if (manager) manager.cleanup();
}

module.exports = { serve };
