'use strict';

// The addon's leak detector of a manager as an object; LeakDetector stands on it.
//
// What it finds comes as events of the monitor, if somebody listens to them:
// leak:suspected, leak:warning, leak:critical, leak:withdrawn with the number of a
// finding (without one: an object counter), and fd:warning.
const native = require('./native');
const { named } = require('./sample');

// Rows of the addon, in the order of node/src/detector.c.
const FINDING = [
  'series',
  'tier',
  'previous',
  'isCritical',
  'severity',
  'growth',
  'growthPerMinute',
  'base',
  'latest',
  'toLimitMs',
  'octaves',
  'windowMs',
  'sinceUnixMs',
  'updateUnixMs',
  'culprits',
];
const CULPRIT = ['kind', 'growth', 'growthBytes', 'count', 'share'];
const STATS = [
  'samples',
  'collections',
  'wide',
  'findings',
  'withdrawn',
  'alarms',
  'privateBytes',
  'nativeBytes',
  'sockets',
  'pipes',
  'files',
  'others',
  'mappings',
  'wideMs',
  'wideEveryMs',
  'fdGrowthPerMinute',
];
const FINDINGS_MAX = 32;
const CULPRITS_MAX = 8;

const findingRow = new Float64Array(FINDING.length);
const culpritRow = new Float64Array(CULPRIT.length);
const statsRow = new Float64Array(STATS.length);
const numbers = new Float64Array(FINDINGS_MAX);
const series = new Float64Array(1);

function objectOf(fields, row) {
  return Object.fromEntries(fields.map((field, index) => [field, row[index]]));
}

/** What `next(index)` returns, up to the first false. */
function listOf(next) {
  const list = [];
  for (let item = next(0); item !== false; item = next(list.length)) list.push(item);
  return list;
}

class Detector {
  #core;

  /** Joins the monitor of `core` (core.js). `answers`: names of requests that will be
   *  answered, of native.requestNames. Throws ERR_MEMGUARD_EXISTS if it has one. */
  constructor(core, answers = []) {
    const bits = answers.reduce((all, name) => all | (1 << native.requestNames.indexOf(name)), 0);
    native.detectorOpen(core.handle, bits);
    this.#core = core;
  }

  /** Leaves the monitor, which may then get another one. Idempotent. */
  close() {
    native.detectorClose(this.#core.handle);
  }

  /** Whether samples are taken in: not paused, leakDetection and enabled are on. */
  get active() {
    return native.detectorIsActive(this.#core.handle);
  }

  /** Pauses; or goes on, and starts anew. */
  setActive(active) {
    native.detectorSetActive(this.#core.handle, active);
  }

  /** A wide reading and a judgement now (some ms). */
  check() {
    native.detectorCheck(this.#core.handle);
  }

  /** A number that only JS knows, of 'connections' or 'handles'; counts until told
   *  anew. undefined: not known any more. 'code', right after a full collection. */
  tell(signal, value = NaN) {
    native.detectorTell(this.#core.handle, native.leakSignalNames.indexOf(signal), value);
  }

  /** A full collection that V8's hooks did not tell; NaN: not known. */
  collected(liveBytes, durationMs) {
    native.detectorCollected(this.#core.handle, liveBytes, NaN, durationMs);
  }

  /** Takes what to do now: { requests: names of native.requestNames, signal: what
   *  culprits are to be told for }. Ask after each pass: the event loop is woken. */
  request() {
    const bits = native.detectorRequest(this.#core.handle, series);
    const requests = native.requestNames.filter((name, bit) => (bits & (1 << bit)) !== 0);
    return { requests, signal: native.leakSignalNames[series[0]] };
  }

  /** What grew, largest first: { kind, name, growth, growthBytes, count, share }; kind
   *  of native.culpritNames. They take the place of those of the same kinds; 8 are
   *  kept. False: `signal` is not suspected any more. */
  culprits(signal, list) {
    const kept = list.slice(0, CULPRITS_MAX);
    const rows = Float64Array.from(
      kept.flatMap(({ kind, growth, growthBytes = 0, count, share }) => [
        native.culpritNames.indexOf(kind),
        growth,
        growthBytes,
        count,
        share,
      ]),
    );
    const names = kept.map((culprit) => culprit.name);
    return native.detectorCulprits(this.#core.handle, native.leakSignalNames.indexOf(signal), names, rows);
  }

  /** Findings that are not over, oldest first. */
  findings() {
    const count = native.detectorFindings(this.#core.handle, numbers);
    return [...numbers.subarray(0, count)].map((number) => this.finding(number)).filter(Boolean);
  }

  /** Finding `number`, also when it is over (tier 'none'); undefined if it is not
   *  remembered: the last 32 are. toLimitMs is Infinity without a limit. */
  finding(number) {
    const signal = native.findingAt(this.#core.handle, number, findingRow);
    if (signal === false) return undefined;
    const row = objectOf(FINDING, findingRow);
    return {
      number,
      signal,
      unit: native.leakSignalUnits[row.series] ?? 'count',
      tier: named(native.leakTierNames, row.tier),
      previous: named(native.leakTierNames, row.previous),
      isCritical: row.isCritical === 1,
      severity: named(native.leakSeverityNames, row.severity),
      growth: row.growth,
      growthPerMinute: row.growthPerMinute,
      base: row.base,
      latest: row.latest,
      toLimitMs: row.toLimitMs,
      octaves: row.octaves,
      windowMs: row.windowMs,
      sinceUnixMs: row.sinceUnixMs,
      updateUnixMs: row.updateUnixMs,
      culprits: listOf((index) => this.#culprit(number, index)),
      advice: listOf((index) => native.findingAdvice(this.#core.handle, number, index)),
    };
  }

  #culprit(number, index) {
    const name = native.findingCulprit(this.#core.handle, number, index, culpritRow);
    if (name === false) return false;
    const { kind, ...rest } = objectOf(CULPRIT, culpritRow);
    return { kind: named(native.culpritNames, kind), name, ...rest };
  }

  /** samples, collections (full ones), wide (readings), findings, withdrawn, alarms;
   *  privateBytes, nativeBytes, sockets, pipes, files, others, mappings (NaN: not
   *  known); wideMs, wideEveryMs, fdGrowthPerMinute (NaN: not known yet). */
  stats() {
    native.detectorStats(this.#core.handle, statsRow);
    return objectOf(STATS, statsRow);
  }
}

module.exports = { Detector };
