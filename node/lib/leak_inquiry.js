'use strict';

// Answers what a detector of the core asks this isolate for while it suspects a
// leak: a full collection; a census, and what grew since the one before. With each
// census goes a window of the sampling heap profiler, as long as the growth needs
// to show in it.
//
// Most suspicions come to nothing, so they must not cost much: while one is no more
// than that, the program does not stand still for longer than leak.leak_collect at a
// time, as far as can be known before. Objects of a larger heap are counted twice,
// once the leak is likely.
const gc = require('./gc');
const { census, censusDifference, culpritOf, grown, nowMs } = require('./leak_census');
const { ranked, rankedNamed } = require('./leak_rank');
const { SiteWindow, inspectorAbsence } = require('./leak_sites');
const { codeBytes, heapStatistics } = require('./heap');
const reclaim = require('./reclaim');
const { reportOnce } = require('./report');

const INTERVAL_BYTES = 512 * 1024;
const LEAST_INTERVAL_BYTES = 128 * 1024; // for what grows slowly
const FINE_INTERVAL_BYTES = 64 * 1024; // where leak.leak_trace allows
const SITE_SAMPLES = 16; // wanted of what grows
const LEAST_SAMPLES = 3; // of a site; fewer are chance
const LEAST_OBJECTS = 16; // the same of what is counted
const COUNTED_BYTES = 1048576; // of growth, in which it shows who grows
const LEAST_WINDOW_MS = 2000;
const MOST_WINDOW_MS = 600_000;
const MOST_WINDOWS = 8; // of one suspicion
const COSTLY_CENSUSES = 2; // of one suspicion: the base and one later
const MS_PER_MINUTE = 60_000;
const MS_PER_SECOND = 1000;
const BYTES_PER_MB = 1048576;
const ROOM_PER_HEAP = 4; // V8 takes up to so much memory while it counts objects
const OF_THE_LAST = -1; // collection, which was told
const HEAP_SERIES = ['heap', 'blocks', 'native', 'code'];
const BESIDE_NATIVE = 2; // objects may hold native memory; what is mapped is told too
const SUSPECT = 'suspect';
const CENSUS_MS_PER_MB = 15; // until one was measured
const READING_MS_PER_MB = 1.5; // of the heap profiler, with its collection

/** What work over the whole heap takes, going by the last time. */
class Pace {
  #msPerMb;

  constructor(msPerMb) {
    this.#msPerMb = msPerMb;
  }

  expectedMs() {
    return (this.#msPerMb * heapStatistics().used_heap_size) / BYTES_PER_MB;
  }

  /** What it took now. */
  took(ms) {
    this.#msPerMb = ms / Math.max(1, heapStatistics().used_heap_size / BYTES_PER_MB);
  }
}

/** Within bounds. @returns ms. */
function timeToGrow(bytes, { growthPerMinute }) {
  return Math.min(MOST_WINDOW_MS, Math.max(LEAST_WINDOW_MS, (bytes / Math.max(1, growthPerMinute)) * MS_PER_MINUTE));
}

class Inquiry {
  #base = null;
  #censusPace = new Pace(CENSUS_MS_PER_MB);
  #core;
  #costly = 0;
  #detector;
  #difference = {}; // the last one of objects, and of sites
  #heapLimitBytes;
  #readingPace = new Pace(READING_MS_PER_MB);
  #signal = 'heap'; // that was asked about last
  #window = null;
  #windows = 0;
  #timers = new Set();
  #stats = { censuses: 0, objectCensuses: 0, censusMs: 0, windows: 0, windowMs: 0, forcedCollections: 0, collectMs: 0, longestPauseMs: 0 };
  /** What could not be told, and why. */
  absent = {};

  constructor(core, detector, heapLimitBytes) {
    this.#core = core;
    this.#detector = detector;
    this.#heapLimitBytes = heapLimitBytes;
  }

  stats() {
    return { ...this.#stats };
  }

  /** Does what the detector asks for. */
  answer({ requests, signal }) {
    this.#signal = signal;
    if (requests.includes('collect')) this.#collect();
    if (requests.includes('census_base')) this.end();
    if (requests.includes('census_base') || requests.includes('census')) this.#look();
  }

  #finding() {
    return this.#detector.findings().find(({ signal }) => signal === this.#signal);
  }

  /* ---- what it costs ---------------------------------------------------------------- */

  #spent(kind, ms) {
    this.#stats[kind] += ms;
    this.#stats.longestPauseMs = Math.max(this.#stats.longestPauseMs, ms);
    reclaim.spent(ms);
  }

  #isShort(pace) {
    return pace.expectedMs() <= this.#core.settings.leak.leakCollect * MS_PER_SECOND;
  }

  #collect() {
    if (!gc.canCollect()) return;
    const began = nowMs();
    gc.collect();
    this.#detector.tell('code', codeBytes()); // what is garbage of it has gone
    this.#detector.collected(gc.heldBytes(), OF_THE_LAST); // V8's hooks may be missing
    this.#stats.forcedCollections++;
    this.#spent('collectMs', nowMs() - began);
  }

  /* ---- censuses ----------------------------------------------------------------------- */

  /** Why objects are not counted now; null if they are. */
  #postponed(tier) {
    if (this.#isShort(this.#censusPace) || inspectorAbsence() !== null) return null;
    const what = `to count the objects takes about ${Math.round(this.#censusPace.expectedMs())} ms`;
    if (tier === SUSPECT) return `${what}, it is done once the leak is likely`;
    return this.#costly === COSTLY_CENSUSES ? `${what}, it was done twice` : null;
  }

  #count({ tier }) {
    const isHeap = HEAP_SERIES.includes(this.#signal);
    const isCostly = !this.#isShort(this.#censusPace);
    const postponed = isHeap ? this.#postponed(tier) : 'objects do not tell';
    const heapLimitBytes = Math.min(this.#heapLimitBytes, this.#room());
    const result = census({ heapLimitBytes, objects: postponed === null });
    this.#stats.censuses++;
    this.#spent('censusMs', result.tookMs);
    if (result.types !== null) {
      this.#stats.objectCensuses++;
      this.#censusPace.took(result.tookMs);
      if (isCostly) this.#costly++;
    } else if (!isHeap) {
      delete result.absent.types;
    } else if (postponed !== null) {
      result.absent.types = postponed;
    }
    return result;
  }

  /** Heap of which the objects may be counted: of what is left of the limit. */
  #room() {
    const { usage, rssBytes } = this.#core.latest ?? {};
    if (!(usage > 0)) return Infinity;
    return Math.max(0, (rssBytes / usage - rssBytes) / ROOM_PER_HEAP);
  }

  /** The first census is the base, of objects the first that counted them. */
  #look() {
    const finding = this.#finding();
    if (finding === undefined) return;
    const now = this.#count(finding);
    this.absent = { ...this.absent, ...now.absent };
    if (this.#base === null) this.#base = now;
    else this.#compare(now);
    if (now.types !== null) {
      delete this.absent.types;
      if (this.#base.types === null) this.#takeBase(now, finding);
    } else if (this.#difference.types !== undefined) {
      delete this.absent.types;
    }
    this.#openWindow(finding);
  }

  /** What grew since a base that comes late is not asked for again soon. */
  #takeBase({ types, entries, listeners }, finding) {
    Object.assign(this.#base, { types, entries, listeners });
    this.#later(timeToGrow(COUNTED_BYTES, finding), () => this.#look());
  }

  #compare(now) {
    const isHeap = HEAP_SERIES.includes(this.#signal);
    const difference = censusDifference(this.#base, now, isHeap ? LEAST_OBJECTS : undefined);
    if (isHeap) {
      if (this.#base.types === null || now.types === null) return;
      const { types, entries, listeners } = difference;
      Object.assign(this.#difference, { types, entries, listeners });
      this.#tellHeap(this.#signal);
    } else {
      this.#detector.culprits(this.#signal, difference.handles.map((row) => culpritOf('handles', row)));
    }
  }

  // Objects that grow are told with the heap, if that is suspected too.
  #tellHeap(signal) {
    const told = (list) => list.map(([kind, row]) => culpritOf(kind, row));
    const culprits = told(ranked(this.#difference));
    if (culprits.length === 0 || this.#detector.culprits('heap', culprits) || signal !== 'native') return;
    const beside = told(rankedNamed(this.#difference)).slice(0, BESIDE_NATIVE);
    if (beside.length > 0) this.#detector.culprits(signal, beside);
  }

  /* ---- sites ---------------------------------------------------------------------- */

  #interval(finding) {
    if (this.#core.settings.leak.leakTrace) return FINE_INTERVAL_BYTES;
    const within = Math.min(MOST_WINDOW_MS, finding.windowMs);
    const bytes = (finding.growthPerMinute / MS_PER_MINUTE) * within;
    return Math.min(INTERVAL_BYTES, Math.max(LEAST_INTERVAL_BYTES, Math.round(bytes / SITE_SAMPLES)));
  }

  #openWindow(finding) {
    const { signal, tier } = finding;
    if (this.#window !== null || this.#windows === MOST_WINDOWS || !HEAP_SERIES.includes(signal)) return;
    if (tier === SUSPECT && !this.#isShort(this.#readingPace)) {
      this.absent.sites = 'to read the heap profiler takes long here, it is done once the leak is likely';
      return;
    }
    const interval = this.#interval(finding);
    const halfMs = timeToGrow(SITE_SAMPLES * interval, finding) / 2;
    try {
      this.#window = new SiteWindow(interval);
    } catch (error) {
      this.absent.sites = error.message;
      return;
    }
    delete this.absent.sites;
    this.#windows++;
    this.#stats.windows++;
    this.#later(halfMs, () => {
      this.#read(() => this.#window.mark());
      this.#later(halfMs, () => this.#closeWindow(signal, interval));
    });
  }

  #read(work) {
    const began = nowMs();
    const result = work();
    const tookMs = nowMs() - began;
    this.#readingPace.took(tookMs);
    this.#spent('windowMs', tookMs);
    return result;
  }

  #closeWindow(signal, interval) {
    const window = this.#window;
    this.#window = null;
    const bytes = this.#read(() => window.end());
    const rows = grown(new Map(), bytes).filter(({ growth }) => growth >= LEAST_SAMPLES * interval);
    if (rows.length > 0) this.#difference.sites = rows;
    this.#tellHeap(signal);
    const finding = this.#finding();
    if (rows.length === 0 && finding !== undefined) this.#openWindow(finding);
  }

  #later(ms, work) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      try {
        work();
      } catch (error) {
        this.end();
        reportOnce(Inquiry, 'the window of the heap profiler', error);
      }
    }, ms);
    timer.unref();
    this.#timers.add(timer);
  }

  /** Gives up what is under way, and forgets what was seen. */
  end() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const window = this.#window;
    this.#window = null;
    this.#windows = 0;
    this.#base = null;
    this.#difference = {};
    this.#costly = 0;
    this.absent = {};
    try {
      window?.close();
    } catch {
      // The profiler has gone with its session.
    }
  }
}

module.exports = { Inquiry };
