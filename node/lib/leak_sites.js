'use strict';

// Where what stays was allocated: V8's sampling heap profiler, on for a bounded
// time. Its profile holds living objects only, so what is more in it at the end
// than at the middle came in between and has not gone.
const path = require('path');
const { failure } = require('./errors');
const { Tally, cleanName } = require('./leak_objects');
const { Session, inspectorAbsence } = require('./inspect');

const INTERVAL_BYTES = 512 * 1024; // costs a program 0 to 7 %
const OWN = path.dirname(__dirname);

/** "function file:line" of a frame; null for V8's and Node's own. */
function siteOf({ functionName, url, lineNumber }) {
  if (url === '' || url.startsWith('node:')) return null;
  const file = url.startsWith('file://') ? decodeURIComponent(url.slice('file://'.length)) : url;
  const near = path.relative(process.cwd(), file);
  return cleanName(`${functionName || '(anonymous)'} ${near.startsWith('..') ? file : near}:${lineNumber + 1}`);
}

function isOurs(url) {
  return url.startsWith(OWN) || url.startsWith(`file://${OWN}`);
}

// V8 tells of a function that it inlined as of the one that it is part of; so what is
// allocated right where functions are called again and again is that of the called.
function isCaller({ functionName, url }) {
  return functionName === '#call' && url.endsWith('leak_assert.js');
}

/** Bytes alive by the host's innermost function that allocated them.
 *  @param called name of the function that is called again and again. */
function bytesBySite(profile, called) {
  const bytes = new Tally();
  const waiting = [[profile.head, null]];
  while (waiting.length > 0) {
    const [node, outer] = waiting.pop();
    // What memguard itself allocates is nobody's leak, nor that of who called it.
    let site = siteOf(node.callFrame) ?? outer;
    if (isOurs(node.callFrame.url)) site = isCaller(node.callFrame) ? called : null;
    if (site !== null && node.selfSize > 0) bytes.add(site, node.selfSize);
    for (const child of node.children) waiting.push([child, site]);
  }
  return bytes;
}

/** One window of the sampling heap profiler. V8 has one such profiler for all: where
 *  the host runs it already, this throws EABSENT. */
class SiteWindow {
  #session = new Session();
  #middle = null;
  #called;

  constructor(intervalBytes = INTERVAL_BYTES, called = null) {
    this.#called = called;
    try {
      if (this.#isTaken()) throw failure('EABSENT', 'the program runs the heap profiler itself');
      this.#session.post('HeapProfiler.startSampling', { samplingInterval: intervalBytes });
    } catch (error) {
      this.#session.close();
      throw error;
    }
  }

  // Of a profiler that runs, any session gets the profile.
  #isTaken() {
    try {
      this.#session.post('HeapProfiler.getSamplingProfile');
      return true;
    } catch {
      return false;
    }
  }

  // V8 makes a full collection for either of the two.
  #read(method) {
    return bytesBySite(this.#session.post(`HeapProfiler.${method}`).profile, this.#called);
  }

  /** What is alive from here on is not news. */
  mark() {
    this.#middle = this.#read('getSamplingProfile');
  }

  /** Ends the window.
   *  @returns Map of bytes by site, as they grew since mark(). */
  end() {
    try {
      const grown = new Tally();
      for (const [site, bytes] of this.#read('stopSampling')) {
        const more = bytes - (this.#middle?.get(site) ?? 0);
        if (more > 0) grown.set(site, more);
      }
      return grown;
    } finally {
      this.close();
    }
  }

  /** Ends the window without a result. */
  close() {
    if (this.#session === null) return;
    const session = this.#session;
    this.#session = null;
    try {
      session.post('HeapProfiler.disable'); // stops it, and collects nothing
    } finally {
      session.close();
    }
  }
}

module.exports = { SiteWindow, inspectorAbsence };
