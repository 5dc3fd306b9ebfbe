'use strict';

// Tells `memguard run --leak-check` what leaks in this process.
const fs = require('fs');
const path = require('path');
const { findingRow } = require('./control');

const ALARMS = ['likely', 'confirmed', 'critical'];
const RANK = ['suspect', ...ALARMS];
// Culprits are named without an event.
const EVENTS = ['leak:suspected', 'leak:warning', 'leak:critical', 'leak:withdrawn', 'stats:collected'];
const MS_PER_SECOND = 1000;

function worse(one, other) {
  return RANK.indexOf(one) > RANK.indexOf(other) ? one : other;
}

/** Keeps <pid>.json in a folder: the findings of this process so far, each as bad as
 *  it ever was. Replaced whole whenever one changes; a folder that is gone is no
 *  failure of the program. */
class Verdict {
  #detector;
  #file;
  #told = '';
  #worst = new Map();

  constructor(detector, folder) {
    this.#detector = detector;
    this.#file = path.join(folder, `${process.pid}.json`);
    this.#write();
  }

  look() {
    if (this.#detector.isClosed) return;
    const seen = new Set();
    for (const finding of this.#detector.findings) {
      const key = `${finding.signal} ${finding.since}`;
      seen.add(key);
      this.#take(key, finding);
    }
    for (const [key, row] of this.#worst) row.is_withdrawn = !seen.has(key);
    this.#write();
  }

  #take(key, finding) {
    const known = this.#worst.get(key);
    const row = findingRow(finding);
    row.tier = worse(finding.tier, known?.tier ?? 'suspect');
    if (ALARMS.includes(row.tier)) row.alarm_unix_s = known?.alarm_unix_s ?? Date.now() / MS_PER_SECOND;
    this.#worst.set(key, row);
  }

  #write() {
    const told = {
      pid: process.pid,
      program: path.basename(process.argv[1] ?? process.argv0),
      findings: [...this.#worst.values()],
    };
    const text = JSON.stringify(told);
    if (text === this.#told) return;
    try {
      fs.writeFileSync(`${this.#file}.new`, text);
      fs.renameSync(`${this.#file}.new`, this.#file);
      this.#told = text;
    } catch {
      // The tool is gone, or has no room: the program goes on.
    }
  }
}

function tell(manager) {
  const verdict = new Verdict(manager.leakDetector, process.env.MEMGUARD_VERDICT_DIR);
  for (const name of EVENTS) manager.memoryMonitor.on(name, () => verdict.look());
  process.on('exit', () => verdict.look());
}

module.exports = { tell };
