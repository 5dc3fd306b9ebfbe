'use strict';

// queue_worker.js - a queue worker under memguard.
//
// Orders arrive as JSON texts in an in-process queue (fastq). A worker parses, checks
// and normalizes each, keeps totals, and packs some. Results wait in a managed buffer
// whose sink appends them to a file of JSON lines. When memory gets tight the intake
// pauses, the buffer is flushed, garbage is collected, and the intake resumes. Every
// order that was accepted has one result in the file, whatever ends the program:
// SIGINT and SIGTERM stop the intake and let it finish. Exit code: 0 done, 1 failed,
// 2 wrong usage.
//
//   node queue_worker.js --output FILE [--seconds S | --jobs N] [--max-memory-mb M]
//                        [--concurrency N] [--json]

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs, promisify } = require('node:util');
const gzip = promisify(require('node:zlib').gzip);

const fastq = require('fastq');
const { ResourceManager } = require('../index.js');

const QUEUE_JOBS = 1000; // accepted and not yet worked on, at most
const BATCH_JOBS = 50; // accepted at a time
const BURST_ORDERS = 8000; // orders come in bursts
const REST_MS = 2500;
const BUFFER_RESULTS = 6000;
const RESUME_PRESSURE = 0.75;
const IDLE_PRESSURE = 0.55; // from it an idle moment is used to collect garbage
const LONGEST_PAUSE_MS = 500; // what is left after it cannot be given back
const GROWTH = 0.04; // after a pause in vain: pressure to grow by before the next

// --- Orders -------------------------------------------------------------------

const COUNTRIES = ['AT', 'BR', 'CA', 'DE', 'FR', 'IN', 'JP', 'KE', 'NZ', 'US'];
const WORDS = 'amber basil cedar delta ember fjord grove haven inlet jetty'.split(' ');

/** A small generator of pseudo-random numbers (xorshift32), the same for a seed. */
function numbers(seed) {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Order `id` as it comes from the wire; a few are broken. */
function orderText(id) {
  const next = numbers(id);
  const lines = Array.from({ length: 4 + next(40) }, (_, position) => ({
    position,
    sku: `${WORDS[next(10)]}-${next(5000)}`,
    quantity: 1 + next(9),
    unitCents: 50 + next(20000),
    note: Array.from({ length: 6 }, () => WORDS[next(10)]).join(' '),
  }));
  const totalCents = lines.reduce((sum, line) => sum + line.quantity * line.unitCents, 0);
  const order = {
    id,
    customer: `customer-${next(3000)}`,
    country: COUNTRIES[next(COUNTRIES.length)],
    placed: new Date(1.7e12 + id * 1000).toISOString(),
    lines,
    totalCents: id % 97 === 13 ? totalCents + 1 : totalCents,
  };
  const text = JSON.stringify(order);
  return id % 89 === 7 ? text.slice(0, -20) : text;
}

/** @throws {Error} saying what is wrong with the order */
function check(order) {
  if (!Number.isSafeInteger(order.id)) throw new Error('id: not a whole number');
  if (!COUNTRIES.includes(order.country)) throw new Error('country: unknown');
  if (Number.isNaN(Date.parse(order.placed))) throw new Error('placed: not a time');
  if (!Array.isArray(order.lines) || order.lines.length === 0) throw new Error('lines: none');
  let sum = 0;
  for (const { position, quantity, unitCents } of order.lines) {
    if (!(quantity > 0 && unitCents > 0)) throw new Error(`lines[${position}]: no amount`);
    sum += quantity * unitCents;
  }
  if (sum !== order.totalCents) throw new Error(`totalCents: ${order.totalCents}, not ${sum}`);
}

/** One sku once, in a fixed order. */
function normalize(order) {
  const bySku = new Map();
  for (const { sku, quantity, unitCents, note } of order.lines) {
    const line = bySku.get(sku) ?? { sku, quantity: 0, cents: 0, notes: [] };
    line.quantity += quantity;
    line.cents += quantity * unitCents;
    line.notes.push(note);
    bySku.set(sku, line);
  }
  return {
    id: order.id,
    customer: order.customer,
    country: order.country,
    placed: order.placed,
    cents: order.totalCents,
    lines: [...bySku.values()].sort((a, b) => (a.sku < b.sku ? -1 : 1)),
  };
}

// --- The worker ---------------------------------------------------------------

class QueueWorker {
  constructor(options) {
    this.options = options;
    this.accepted = 0;
    this.written = 0;
    this.flushes = 0;
    this.pressureFlushes = 0;
    this.pauses = 0;
    this.revenueCents = new Map(COUNTRIES.map((country) => [country, 0]));
    this.isStopping = false;
    this.failure = null;
    this.phase = 'starting';

    this.temporary = path.join(
      path.dirname(options.output),
      `.${path.basename(options.output)}.${process.pid}.part`,
    );
    this.manager = new ResourceManager({
      // In little room the heap is collected as often as it pays, start flags or none.
      memory: { sampleInterval: '100ms', gcInterval: '1s' },
      memoryMonitor: { maxMemoryMb: options.maxMemoryMb, monitoringInterval: 20 },
      bufferManager: {
        defaultBufferSize: BUFFER_RESULTS,
        maxBufferSize: BUFFER_RESULTS * 4,
      },
    });
    this.monitor = this.manager.memoryMonitor;
    this.results = this.manager.createBuffer('results', (items) => this.#write(items));
    this.queue = fastq.promise(this, this.#work, options.concurrency);
    this.leaks = new Set(); // what is likely to leak, as "signal: culprit"
    this.manager.leakDetector.on('leak:warning', ({ signal, culprits }) => {
      this.leaks.add(`${signal}: ${culprits[0]?.name ?? 'not known yet'}`);
    });
    this.mustPause = false;
    this.pauseAbove = 0;
    this.monitor.registerPressureCallback((pressure) => {
      if (pressure > this.pauseAbove) this.mustPause = true;
    });
  }

  stop() {
    this.isStopping = true;
  }

  /** After a failure: the output is given up, nothing more is written to it. */
  abandon() {
    this.queue.kill();
    this.results.length = 0;
  }

  /** Takes in orders until the time is up, all are in, or stop(); then finishes. */
  async run() {
    this.file = fs.openSync(this.temporary, 'wx');
    this.manager.registerTempFile(this.temporary);
    this.manager.registerCleanupCallback(() => {
      if (this.file !== null) fs.closeSync(this.file);
    });
    await this.#takeIn();
    this.phase = 'finish';
    await this.queue.drained();
    this.#flush();
    fs.closeSync(this.file);
    this.file = null;
    fs.renameSync(this.temporary, this.options.output);
    this.phase = 'done';
  }

  async #takeIn() {
    const { jobs, seconds } = this.options;
    const endsAt = jobs === undefined ? Date.now() + seconds * 1000 : Infinity;
    const last = jobs ?? Infinity;
    const isDue = () => !this.isStopping && Date.now() < endsAt && this.accepted < last;
    while (isDue()) {
      this.phase = 'burst';
      const burstEnds = Math.min(last, this.accepted + BURST_ORDERS);
      while (isDue() && this.accepted < burstEnds) {
        if (this.mustPause) await this.#pause();
        if (this.queue.length() < QUEUE_JOBS) this.#accept(burstEnds);
        await sleep(1);
      }
      if (jobs === undefined) await this.#rest(isDue);
    }
  }

  #accept(burstEnds) {
    for (let count = 0; count < BATCH_JOBS && this.accepted < burstEnds; count++) {
      const id = this.accepted++;
      this.queue.push({ id, text: orderText(id) }).catch((error) => this.#fail(error));
    }
  }

  async #rest(isDue) {
    this.phase = 'rest';
    await this.#giveBack(IDLE_PRESSURE);
    const endsAt = Date.now() + REST_MS;
    while (isDue() && Date.now() < endsAt) await sleep(20);
  }

  /** No intake until memory is back, or until it is clear that it will not be. */
  async #pause() {
    this.pauses++;
    this.phase = 'paused';
    await this.#giveBack(RESUME_PRESSURE);
    const endsAt = Date.now() + LONGEST_PAUSE_MS;
    let pressure = this.monitor.checkMemoryPressure();
    while (pressure >= RESUME_PRESSURE && !this.isStopping && Date.now() < endsAt) {
      await sleep(20);
      pressure = this.monitor.checkMemoryPressure();
    }
    this.pauseAbove = pressure < RESUME_PRESSURE ? 0 : pressure + GROWTH;
    this.mustPause = false;
    this.phase = 'burst';
  }

  async #giveBack(pressure) {
    await this.queue.drained();
    this.#flush();
    if (this.monitor.checkMemoryPressure() >= pressure) this.monitor.triggerGc();
  }

  async #work({ id, text }) {
    const result = await this.#process(id, text);
    this.results.push(result);
    if (this.manager.shouldFlushBuffer('results')) this.#flush();
  }

  async #process(id, text) {
    let order;
    try {
      order = JSON.parse(text);
      check(order);
    } catch (error) {
      return { id, ok: false, error: error.message };
    }
    const normal = normalize(order);
    const canonical = JSON.stringify(normal);
    const digest = crypto.createHash('sha256').update(canonical).digest('hex');
    this.revenueCents.set(
      normal.country,
      this.revenueCents.get(normal.country) + normal.cents,
    );
    const result = { ok: true, digest, ...normal };
    if (id % 10 === 0) result.archive = (await gzip(canonical)).toString('base64');
    return result;
  }

  #flush() {
    this.manager.flushBuffer('results');
    if (this.failure !== null) throw this.failure;
  }

  /** The buffer's sink. */
  #write(items) {
    this.flushes++;
    const { latest, pressureThreshold } = this.monitor;
    if (latest.pressure >= pressureThreshold) this.pressureFlushes++;
    try {
      for (let at = 0; at < items.length; at += BATCH_JOBS) {
        const some = items.slice(at, at + BATCH_JOBS);
        fs.writeFileSync(this.file, some.map((item) => `${JSON.stringify(item)}\n`).join(''));
        this.written += some.length;
      }
    } catch (error) {
      this.#fail(error); // a flush by memguard itself has nobody to throw to
      throw error;
    }
  }

  #fail(error) {
    this.failure ??= error;
    this.stop();
  }
}

// --- Reports ------------------------------------------------------------------

const LOOK_MS = 50; // between looks at the latest sample
const LINE_MS = 1000;

/** Prints a line a second: for people, or as JSON. */
class Reporter {
  constructor(worker, isJson) {
    this.worker = worker;
    this.isJson = isJson;
    this.levels = { normal: 0 };
    this.level = 'normal';
    this.peakBytes = 0;
    worker.monitor.checkMemoryPressure(); // there is a latest sample from now on
    this.timers = [
      setInterval(() => this.#look(), LOOK_MS),
      setInterval(() => this.#line(), LINE_MS),
    ];
  }

  end(error) {
    this.timers.forEach(clearInterval);
    const { worker } = this;
    const state = this.#state();
    if (this.isJson) {
      this.#print({ event: 'end', ...state, error, output: worker.options.output });
      return;
    }
    console.log(`${state.in} jobs in, ${state.done} results out (${worker.options.output})`);
    console.log(
      `peak rss ${(state.peak_bytes / 2 ** 20).toFixed(1)} of ${state.limit_mb} MB, ` +
        `${worker.pauses} pauses`,
    );
    for (const leak of worker.leaks) console.log(`likely leak: ${leak}`);
  }

  #look() {
    const { latest } = this.worker.monitor;
    this.peakBytes = Math.max(this.peakBytes, latest.peakRssBytes);
    if (latest.level !== this.level) {
      this.level = latest.level;
      this.levels[this.level] = (this.levels[this.level] ?? 0) + 1;
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
    console.log(
      `${state.phase.padEnd(8)} rss ${mb} MB  level ${state.level.padEnd(8)}  ` +
        `jobs ${state.in}  results ${state.done}`,
    );
  }

  #state() {
    const { worker } = this;
    const latest = this.#look();
    return {
      host: 'queue worker',
      pid: process.pid,
      runtime: `Node ${process.versions.node}`,
      phase: worker.phase,
      limit_mb: worker.options.maxMemoryMb,
      rss_bytes: latest.rssBytes,
      peak_bytes: this.peakBytes,
      heap_bytes: latest.heapUsedBytes,
      level: latest.level,
      usage: latest.usage,
      domain: latest.domain,
      fds: latest.fdCount,
      collections: worker.monitor.getGCStats().count,
      flushes: worker.flushes,
      pressure_flushes: worker.pressureFlushes,
      pauses: worker.pauses,
      levels: this.levels,
      leaks: [...worker.leaks],
      in: worker.accepted,
      done: worker.written,
    };
  }

  #print(value) {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }
}

// --- Command line -------------------------------------------------------------

function usageError(text) {
  console.error(`queue_worker: ${text}`);
  process.exit(2);
}

function positive(name, text) {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) {
    usageError(`--${name} is "${text}", not a number above 0`);
  }
  return value;
}

function parse() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        output: { type: 'string' },
        seconds: { type: 'string', default: '10' },
        jobs: { type: 'string' },
        'max-memory-mb': { type: 'string', default: '256' },
        concurrency: { type: 'string', default: '8' },
        json: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    usageError(error.message);
  }
  if (values.output === undefined) usageError('--output FILE is missing');
  return {
    output: values.output,
    seconds: positive('seconds', values.seconds),
    jobs: values.jobs === undefined ? undefined : positive('jobs', values.jobs),
    maxMemoryMb: positive('max-memory-mb', values['max-memory-mb']),
    concurrency: positive('concurrency', values.concurrency),
    isJson: values.json,
  };
}

async function main() {
  const options = parse();
  const worker = new QueueWorker(options);
  const reporter = new Reporter(worker, options.isJson);
  process.on('SIGINT', () => worker.stop());
  process.on('SIGTERM', () => worker.stop());
  process.stdout.on('error', () => worker.stop()); // the reader has gone away
  let error = null;
  try {
    await worker.run();
  } catch (reason) {
    error = `${reason.name}: ${reason.message}`;
    console.error(`queue_worker: ${error}`);
    process.exitCode = 1;
    worker.abandon();
  }
  reporter.end(error);
  await worker.manager.close();
}

if (require.main === module) main();

module.exports = { orderText, check, normalize };
