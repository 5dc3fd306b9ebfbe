'use strict';

// A line a second of what the service does: for people, or as JSON with the fields of
// the other examples.
const LOOK_MS = 50; // between looks at the latest sample
const LINE_MS = 1000;

class Reporter {
  #timers;
  #levels = { normal: 0 };
  #level = 'normal';
  #peakBytes = 0;

  constructor(service, { isJson, maxMemoryMb, redis }) {
    this.phase = 'work';
    this.service = service;
    this.isJson = isJson;
    this.limitMb = maxMemoryMb;
    this.queue = redis === undefined ? 'in process' : 'redis';
    service.monitor.checkMemoryPressure(); // there is a latest sample from now on
    this.#timers = [setInterval(() => this.#look(), LOOK_MS), setInterval(() => this.#line(), LINE_MS)];
  }

  end(error) {
    this.#timers.forEach(clearInterval);
    this.phase = 'done';
    const state = this.#state();
    if (this.isJson) {
      this.#print({ event: 'end', ...state, error });
      return;
    }
    console.log(`${state.in} jobs in, ${state.done} done, ${state.duplicates} run twice without effect`);
    console.log(`peak rss ${(state.peak_bytes / 2 ** 20).toFixed(1)} of ${state.limit_mb} MB, ${state.pauses} pauses`);
    for (const leak of state.leaks) console.log(`likely leak: ${leak}`);
  }

  #look() {
    const { latest } = this.service.monitor;
    this.#peakBytes = Math.max(this.#peakBytes, latest.peakRssBytes);
    if (latest.level !== this.#level) {
      this.#level = latest.level;
      this.#levels[this.#level] = (this.#levels[this.#level] ?? 0) + 1;
    }
    return latest;
  }

  #line() {
    const state = this.#state();
    if (this.isJson) {
      this.#print({ event: 'line', ...state });
      return;
    }
    const mb = (state.rss_bytes / 2 ** 20).toFixed(1).padStart(6);
    console.log(`${state.phase.padEnd(8)} rss ${mb} MB  level ${state.level.padEnd(8)}  jobs ${state.in}  done ${state.done}`);
  }

  #state() {
    const latest = this.#look();
    const stats = this.service.getStats();
    return {
      host: 'queue service',
      pid: process.pid,
      runtime: `Node ${process.versions.node}`,
      queue: this.queue,
      phase: stats.isPaused ? 'paused' : this.phase,
      limit_mb: this.limitMb,
      rss_bytes: latest.rssBytes,
      peak_bytes: this.#peakBytes,
      heap_bytes: latest.heapUsedBytes,
      level: latest.level,
      usage: latest.usage,
      domain: latest.domain,
      fds: latest.fdCount,
      collections: this.service.monitor.getGCStats().count,
      flushes: stats.batches,
      failed_flushes: stats.failedBatches,
      pauses: stats.pauses,
      paused_ms: Math.round(stats.pausedMs),
      optimizations: this.service.getMemoryStatus().optimization.total,
      p50_ms: stats.p50Ms,
      p99_ms: stats.p99Ms,
      levels: this.#levels,
      leaks: this.service.leaks,
      findings: this.service.findings,
      in: stats.accepted,
      done: stats.done,
      refused: stats.refused,
      duplicates: stats.duplicates,
      redis_errors: stats.redisErrors,
    };
  }

  #print(value) {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }
}

module.exports = { Reporter };
