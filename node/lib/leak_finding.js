'use strict';

// What a leak looks like when it is told: findings, culprits, their text. Names of
// types, places in the code and targets of descriptors get in here, no data of the
// program.
const { codes } = require('./errors');

const SHOWN = 4; // culprits in a text
const UNITS = [['GB', 2 ** 30], ['MB', 2 ** 20], ['KB', 2 ** 10]];
const TIMES = [['d', 86400], ['h', 3600], ['min', 60]];

/** A number of bytes or of things, for people. */
function amount(value, unit) {
  if (unit !== 'bytes') return String(Math.round(value * 100) / 100);
  const [name, size] = UNITS.find(([, least]) => Math.abs(value) >= least) ?? ['bytes', 1];
  return `${size === 1 ? Math.round(value) : (value / size).toFixed(1)} ${name}`;
}

function duration(seconds) {
  const [name, size] = TIMES.find(([, least]) => seconds >= least) ?? ['s', 1];
  return `${(seconds / size).toFixed(size === 1 ? 0 : 1)} ${name}`;
}

/** Who grew: kind is type, site, fd, mapping, rental or counter. */
class LeakCulprit {
  constructor({ kind, name, growth, growthBytes = null, share = 0, count = null }) {
    Object.assign(this, { kind, name, growth, growthBytes, share, count });
    Object.freeze(this);
  }

  toString() {
    const parts = this.growthBytes === null || this.growthBytes === this.growth
      ? [`+${amount(this.growth, this.growthBytes === null ? 'count' : 'bytes')}`]
      : [`+${amount(this.growth, 'count')}`, `${amount(this.growthBytes, 'bytes')}`];
    if (this.share > 0) parts.push(`${Math.round(100 * this.share)} % of the growth`);
    return `${this.kind} ${this.name}: ${parts.join(', ')}`;
  }
}

/** One signal that grows without end. */
class LeakFinding {
  constructor(values) {
    const { signal, tier, severity, growth, growthPerMinute, unit, timeToLimitSeconds = null } = values;
    const { since = 0, culprits = [], advice = [], calls = null, absent = {} } = values;
    Object.assign(this, { signal, tier, severity, growth, growthPerMinute, unit, timeToLimitSeconds, since, calls });
    this.culprits = Object.freeze(culprits.map((culprit) => new LeakCulprit(culprit)));
    this.advice = Object.freeze([...advice]);
    this.absent = Object.freeze({ ...absent });
    Object.freeze(this);
  }

  /** A row of a report: type (the first culprit's name, or the signal) and
   *  growth_rate (per minute, in unit) besides all fields. */
  asDict() {
    const { signal, culprits, growthPerMinute } = this;
    return {
      type: culprits[0]?.name ?? signal,
      growth_rate: growthPerMinute,
      ...this,
      culprits: culprits.map((culprit) => ({ ...culprit })),
    };
  }

  toString() {
    return linesOf(this).join('\n');
  }
}

function* linesInside({ signal, tier, severity, growth, growthPerMinute, unit, timeToLimitSeconds, calls, culprits, advice, absent }) {
  let how = `+${amount(growth, unit)}`;
  if (calls === null) how += `, ${amount(growthPerMinute, unit)} a minute`;
  else if (calls > 1) how += ` in ${calls} calls, ${amount(growth / calls, unit)} a call`;
  if (timeToLimitSeconds !== null) how += `, limit reached in ${duration(timeToLimitSeconds)}`;
  yield `${signal}: ${tier} leak, severity ${severity}: ${how}`;
  for (const culprit of culprits.slice(0, SHOWN)) yield `  ${culprit}`;
  for (const [what, why] of Object.entries(absent)) yield `  no ${what}: ${why}`;
  for (const command of advice) yield `  next: ${command}`;
}

function linesOf(finding) {
  return [...linesInside(finding)];
}

/** The report: one paragraph a finding. */
function textOf(findings) {
  return findings.length === 0 ? 'no leak found' : findings.join('\n');
}

/** Calls of a function leak: `findings` tell what and who. */
class MemoryLeakDetected extends Error {
  constructor(text, findings = []) {
    super(text);
    this.name = 'MemoryLeakDetected';
    this.code = codes.ELEAK;
    this.findings = findings;
  }
}

module.exports = { LeakCulprit, LeakFinding, MemoryLeakDetected, amount, textOf };
