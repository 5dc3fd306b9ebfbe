'use strict';

// Answers what a detector of the core asks this isolate for while it suspects a
// leak: a full collection; a census, and what grew since the one before. With each
// census goes a window of the sampling heap profiler, as long as the growth needs
// to show in it.
const gc = require('./gc');
const { census, censusDifference, culpritOf, grown, nowMs } = require('./leak_census');
const { SiteWindow } = require('./leak_sites');
const reclaim = require('./reclaim');
const { reportOnce } = require('./report');

const ANSWERED = ['collect', 'census_base', 'census'];
const CULPRITS = 8;
const SITES = 4; // of them
const LEAST_SHARE = 0.02; // of all that grew
const SITE_SAMPLES = 16; // wanted of what grows
const INTERVAL_BYTES = 512 * 1024;
const FINE_INTERVAL_BYTES = 64 * 1024; // where leak.leak_trace allows
const LEAST_WINDOW_MS = 2000;
const MOST_WINDOW_MS = 600_000;
const MS_PER_MINUTE = 60_000;
const ROOM_PER_HEAP = 4; // V8 takes up to so much memory while it counts objects
const HEAP_SERIES = ['heap', 'blocks', 'native'];

class Inquiry {
  #base = null;
  #core;
  #detector;
  #heapLimitBytes;
  #signal = 'heap'; // that was asked about last
  #window = null;
  #timer = null;
  #stats = { censuses: 0, censusMs: 0, windows: 0, collections: 0 };
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

  /** Does what is asked for now. */
  answer() {
    const { requests, signal } = this.#detector.request();
    if (requests.length === 0) return;
    this.#signal = signal;
    if (requests.includes('collect')) this.#collect();
    if (requests.includes('census_base')) this.#begin();
    if (requests.includes('census')) this.#compare();
  }

  #collect() {
    if (!gc.canCollect()) return;
    const began = nowMs();
    gc.collect();
    this.#stats.collections++;
    reclaim.spent(nowMs() - began);
  }

  #count() {
    const result = census({ heapLimitBytes: Math.min(this.#heapLimitBytes, this.#room()) });
    this.#stats.censuses++;
    this.#stats.censusMs += result.tookMs;
    reclaim.spent(result.tookMs);
    this.absent = { ...result.absent };
    return result;
  }

  /** Heap of which the objects may be counted: of what is left of the limit. */
  #room() {
    const { usage, rssBytes } = this.#core.latest ?? {};
    if (!(usage > 0)) return Infinity;
    return Math.max(0, (rssBytes / usage - rssBytes) / ROOM_PER_HEAP);
  }

  #begin() {
    this.#base = this.#count();
    this.#openWindow();
  }

  #compare() {
    if (this.#base === null) {
      this.#begin();
      return;
    }
    const { types, entries, listeners, handles } = censusDifference(this.#base, this.#count());
    const isHeap = HEAP_SERIES.includes(this.#signal);
    const rows = isHeap
      ? [...this.#of('types', types), ...this.#of('entries', entries).slice(0, 1), ...this.#of('listeners', listeners).slice(0, 1)]
      : this.#of('handles', handles);
    this.#tell(this.#signal, rows.slice(0, CULPRITS - SITES));
    this.#openWindow();
  }

  #of(kind, rows) {
    return rows.filter(({ share }) => share >= LEAST_SHARE).slice(0, CULPRITS / 2).map((row) => culpritOf(kind, row));
  }

  // Objects that grow are told with the heap, if that is suspected too.
  #tell(signal, culprits) {
    if (culprits.length === 0) return;
    const inHeap = HEAP_SERIES.includes(signal) && [this.#detector.culprits('heap', culprits), this.#detector.culprits('blocks', culprits)];
    if (!inHeap || !inHeap.includes(true)) this.#detector.culprits(signal, culprits);
  }

  /* ---- sites ---------------------------------------------------------------------- */

  #openWindow() {
    const finding = this.#detector.findings().find(({ signal }) => signal === this.#signal);
    if (this.#window !== null || finding === undefined || !HEAP_SERIES.includes(finding.signal)) return;
    const { signal } = finding;
    const interval = this.#core.settings.leak.leakTrace ? FINE_INTERVAL_BYTES : INTERVAL_BYTES;
    const wantedMs = ((SITE_SAMPLES * interval) / Math.max(1, finding.growthPerMinute)) * MS_PER_MINUTE;
    const halfMs = Math.min(MOST_WINDOW_MS, Math.max(LEAST_WINDOW_MS, wantedMs)) / 2;
    try {
      this.#window = new SiteWindow(interval);
    } catch (error) {
      this.absent.sites = error.message;
      return;
    }
    this.#stats.windows++;
    this.#later(halfMs, () => {
      this.#collect();
      this.#window.mark();
      this.#later(halfMs, () => this.#closeWindow(signal));
    });
  }

  #closeWindow(signal) {
    this.#collect();
    const window = this.#window;
    this.#window = null;
    const rows = grown(new Map(), window.end()).slice(0, SITES);
    this.#tell(signal, rows.map((row) => culpritOf('sites', row)));
  }

  #later(ms, work) {
    this.#timer = setTimeout(() => {
      const began = nowMs();
      try {
        work();
      } catch (error) {
        this.end();
        reportOnce(Inquiry, 'the window of the heap profiler', error);
      }
      reclaim.spent(nowMs() - began);
    }, ms);
    this.#timer.unref();
  }

  /** Gives up what is under way. */
  end() {
    clearTimeout(this.#timer);
    const window = this.#window;
    this.#window = null;
    this.#base = null;
    try {
      window?.close();
    } catch {
      // The profiler has gone with its session.
    }
  }
}

module.exports = { ANSWERED, Inquiry };
