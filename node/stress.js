#!/usr/bin/env node
'use strict';

// A function under load for hours: does it leak?
//
//   node stress.js --hours 24 FILE
//   node stress.js --hours 24 --time-scale 1440 --json out.json FILE
//
// FILE exports the function, alone or as default; it is called again and again while
// a LeakDetector watches. With --time-scale K all times of the detector are divided
// by K and the run takes hours / K: a day in a minute. In the end the verdict, and
// who grew:
//
//   ok       nothing leaks
//   leak     the detector found one at least likely, or each call leaves something
//   growth   resident memory grew by more than --max-growth percent, the first 30 %
//            of the run left out
//   failed   the function threw, or its promise was rejected
//
// Exit code: 0 ok; 1 leak or growth; 2 wrong usage; 3 failed; 130 interrupted (the
// verdict is of what there was until then).
const fs = require('fs');
const path = require('path');
const { pathToFileURL } = require('url');
const { failure, kindOf, requireFunction, requireNumber } = require('./lib/errors');
const { isPlain } = require('./lib/config');
const { LeakDetector } = require('./lib/leak');
const { findLeaks } = require('./lib/leak_assert');
const { textOf } = require('./lib/leak_finding');
const { rssBytes } = require('./lib/process');
const { isThenable, textOf: messageOf } = require('./lib/report');

const BYTES_PER_MB = 1048576;
const SECONDS_PER_HOUR = 3600;
const POINTS = 512; // readings kept; then every second one goes
const WARMUP = 0.3; // share of the run that growth does not count in
const ALARMS = ['likely', 'confirmed', 'critical'];
const CHECK_SHARE = 0.1; // of the run, that the final calls may take
const CHECK_SECONDS = 60; // and at most
const CHECK_CALLS = [8, 200];
const CHECK_ROUNDS = 32; // find() may call it that many times its iterations
const TURN_MS = 10; // between turns of the event loop
const EXIT = { ok: 0, leak: 1, growth: 1, failed: 3 };
const USAGE = 2;
const INTERRUPTED = 130;

function nowSeconds() {
  return Number(process.hrtime.bigint()) / 1e9;
}

function turn(ms = 0) {
  return new Promise((resolve) => (ms > 0 ? setTimeout(resolve, ms) : setImmediate(resolve)));
}

/** The course of the resident set, in a bounded number of readings. */
class Floor {
  #points = [];
  #every = 1;
  #skipped = 0;

  add(at, rss) {
    if (++this.#skipped < this.#every || Number.isNaN(rss)) return;
    this.#skipped = 0;
    this.#points.push([at, rss]);
    if (this.#points.length < POINTS) return;
    this.#points = this.#points.filter((_, index) => index % 2 === 1);
    this.#every *= 2;
  }

  /** Lowest resident set of the first and of the last quarter after the warm-up;
   *  null if there is too little to tell. */
  growth() {
    const end = this.#points[this.#points.length - 1]?.[0] ?? 0;
    const rest = this.#points.filter(([at]) => at >= end * WARMUP).map(([, rss]) => rss);
    const quarter = Math.floor(rest.length / 4);
    return quarter < 2 ? null : [Math.min(...rest.slice(0, quarter)), Math.min(...rest.slice(-quarter))];
  }
}

class Stress {
  #calls = 0;
  #error = null;
  #findings = [];
  #floor = new Floor();
  #fn;
  #options;
  #took = 0;
  #wasChecked = false;
  #wasInterrupted = false;

  constructor(fn, options) {
    this.#fn = fn;
    this.#options = options;
    this.seconds = (options.hours * SECONDS_PER_HOUR) / options.timeScale;
  }

  interrupt() {
    this.#wasInterrupted = true;
  }

  /** Runs to the end, or to an interruption. @returns the verdict. */
  async run() {
    const detector = new LeakDetector({ leak: { timeScale: this.#options.timeScale } });
    try {
      detector.start();
      await this.#load();
      this.#findings = detector.check().filter(({ tier }) => ALARMS.includes(tier));
    } finally {
      detector.close();
    }
    if (this.#error === null && !this.#wasInterrupted) await this.#check();
    return this.#verdict();
  }

  async #load() {
    const began = nowSeconds();
    const every = Math.max(this.seconds / (4 * POINTS), 0.005);
    let readAt = 0;
    let turnAt = 0;
    try {
      for (let now = 0; now < this.seconds && !this.#wasInterrupted; now = nowSeconds() - began) {
        if (now >= readAt) {
          this.#floor.add(now, rssBytes());
          readAt = now + every;
        }
        const result = this.#fn();
        if (isThenable(result)) await result;
        this.#calls++;
        const aheadMs = this.#aheadMs(nowSeconds() - began);
        if (aheadMs > 0 || now >= turnAt) {
          await turn(aheadMs);
          turnAt = nowSeconds() - began + TURN_MS / 1000;
        }
      }
    } catch (error) {
      this.#error = `${messageOf(error)} (after ${this.#calls} calls)`;
    } finally {
      this.#took = nowSeconds() - began;
    }
  }

  #aheadMs(now) {
    const { rate } = this.#options;
    return rate === 0 ? 0 : Math.min(this.#calls / rate - now, this.seconds - now) * 1000;
  }

  // Growth in proportion to calls, if so many calls fit in.
  async #check() {
    const allowed = Math.min(this.#took * CHECK_SHARE, CHECK_SECONDS);
    const [least, most] = CHECK_CALLS;
    const fitting = Math.floor((allowed / CHECK_ROUNDS) * (this.#calls / this.#took));
    if (fitting < least) return;
    this.#wasChecked = true;
    const known = new Set(this.#findings.map(({ signal }) => signal));
    const found = await findLeaks(this.#fn, { iterations: Math.min(fitting, most) });
    this.#findings.push(...found.filter(({ signal }) => !known.has(signal)));
  }

  #verdict() {
    const { timeScale, maxGrowth } = this.#options;
    const [start, end] = this.#floor.growth() ?? [null, null];
    const percent = start === null ? null : ((end - start) / start) * 100;
    let verdict = 'ok';
    if (this.#error !== null) verdict = 'failed';
    else if (this.#findings.length > 0) verdict = 'leak';
    else if (percent !== null && percent > maxGrowth) verdict = 'growth';
    return {
      verdict,
      exit_code: this.#wasInterrupted ? INTERRUPTED : EXIT[verdict],
      error: this.#error,
      interrupted: this.#wasInterrupted,
      hours: (this.#took * timeScale) / SECONDS_PER_HOUR,
      time_scale: timeScale,
      seconds: this.#took,
      calls: this.#calls,
      growth_percent: percent,
      max_growth_percent: maxGrowth,
      rss_start_mb: start === null ? null : start / BYTES_PER_MB,
      rss_end_mb: end === null ? null : end / BYTES_PER_MB,
      was_checked_by_calls: this.#wasChecked,
      leak_detection: this.#findings.map((finding) => finding.asDict()),
      report: textOf(this.#findings),
    };
  }
}

function checked(options) {
  if (!isPlain(options)) throw failure('ETYPE', `options must be a plain object, not ${kindOf(options)}`);
  const all = { hours: 1, timeScale: 1, rate: 0, maxGrowth: 5, ...options };
  const least = { hours: 0.001, timeScale: 1, rate: 0, maxGrowth: 0 };
  const unknown = Object.keys(all).find((name) => !(name in least));
  if (unknown !== undefined) throw failure('EKEY', `${unknown} is no option, allowed: ${Object.keys(least).join(', ')}`);
  for (const [name, low] of Object.entries(least)) requireNumber(all[name], name, low);
  if ((all.hours * SECONDS_PER_HOUR) / all.timeScale < 1) throw failure('ERANGE', 'hours / timeScale is less than a second');
  return all;
}

/** Calls `fn` for `hours` of told time. @returns the verdict. */
function stress(fn, options = {}) {
  requireFunction(fn, 'the function to call');
  return new Stress(fn, checked(options)).run();
}

/* ---- command line ------------------------------------------------------------------- */

const FLAGS = { '--hours': 'hours', '--time-scale': 'timeScale', '--rate': 'rate', '--max-growth': 'maxGrowth' };
const HELP = `usage: node stress.js [--hours H] [--time-scale K] [--rate N] [--max-growth PERCENT]
                      [--json FILE] FILE

Calls the function that FILE exports for hours and says whether it leaks.

  --hours H            of told time (1)
  --time-scale K       hours pass K times as fast (1)
  --rate N             calls a second of real time; 0: as many as go (0)
  --max-growth PERCENT of resident memory after the warm-up (5)
  --json FILE          the verdict as JSON; - for stdout

Exit code: 0 ok, 1 leak or growth, 2 wrong usage, 3 the function failed, 130 interrupted.`;

function parse(words) {
  const options = {};
  let json = null;
  let file = null;
  for (let index = 0; index < words.length; index++) {
    const word = words[index];
    if (word in FLAGS) options[FLAGS[word]] = Number(words[++index]);
    else if (word === '--json') json = words[++index];
    else if (!word.startsWith('-') && file === null) file = word;
    else throw failure('EINVAL', `${word} is no option`);
  }
  if (file === null) throw failure('EINVAL', 'FILE is missing');
  if (json === undefined) throw failure('EINVAL', '--json needs a file');
  return { options: checked(options), json, file };
}

async function functionOf(file) {
  const place = path.resolve(file);
  const found = await import(pathToFileURL(fs.existsSync(place) ? place : require.resolve(place)).href);
  const fn = [found.default, found.default?.default].find((one) => typeof one === 'function');
  if (fn === undefined) throw failure('EINVAL', `${file} exports no function`);
  return fn;
}

function linesOf(verdict) {
  const lines = [`${verdict.verdict}: ${verdict.calls} calls in ${verdict.seconds.toFixed(1)} s, ${verdict.hours.toFixed(2)} hours of told time`];
  if (verdict.error !== null) lines.push(`the function failed: ${verdict.error}`);
  if (verdict.growth_percent !== null) {
    lines.push(`resident memory ${verdict.rss_start_mb.toFixed(1)} -> ${verdict.rss_end_mb.toFixed(1)} MB, ` +
      `${verdict.growth_percent.toFixed(1)} % (allowed: ${verdict.max_growth_percent} %)`);
  }
  if (!verdict.was_checked_by_calls) lines.push('too few calls to tell what each call leaves');
  return [...lines, verdict.report];
}

async function main(words) {
  if (words.includes('--help') || words.includes('-h')) {
    console.log(HELP);
    return 0;
  }
  let run;
  let fn;
  try {
    run = parse(words);
    fn = await functionOf(run.file);
  } catch (error) {
    console.error(`memguard/stress: ${messageOf(error)}`);
    return USAGE;
  }
  const job = new Stress(fn, run.options);
  process.once('SIGINT', () => job.interrupt());
  const verdict = await job.run();
  const text = JSON.stringify(verdict, null, 2);
  console.log(run.json === '-' ? text : linesOf(verdict).join('\n'));
  if (run.json !== null && run.json !== '-') fs.writeFileSync(run.json, `${text}\n`);
  return verdict.exit_code;
}

// What the function has left, as timers, does not keep the process alive.
if (require.main === module) main(process.argv.slice(2)).then((code) => process.exit(code));

module.exports = { stress };
