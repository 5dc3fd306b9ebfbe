/* track.js - what is known of one process over time: bounded columns.
 *
 * A point is one place in every column; null is a gap. The recorder counts what was
 * spent on collections since it began: a count that fell is one that began anew. */
const levels = ['normal', 'elevated', 'high', 'critical'];
const columns = ['time', 'rss', 'heap', 'native', 'limit', 'usage', 'gc', 'level'];
const wrap = 2 ** 32;
const leastGapS = 4;

function levelOf(value) {
  return typeof value === 'number' ? value : levels.indexOf(value);
}

function rise(before, now, modulus = Infinity) {
  if (before === null || now === null) return null;
  if (now >= before) return now - before;
  // 32 bits ran over only if it was near their end; else somebody began anew.
  return before > modulus * 0.9 ? now + modulus - before : now;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

export class Track {
  /** Holds at most `capacity` points, gaps included. */
  constructor(capacity) {
    this.capacity = capacity;
    this.clear();
  }

  clear() {
    for (const name of columns) this[name] = [];
    this.lastUnixMs = 0;
    this.lastGcNs = null;
    this.lastGcCount = null;
    this.collections = 0;
    this.stepS = 0;
  }

  get length() {
    return this.time.length;
  }

  /** Adds points of the API, oldest first; those already known are left out.
   *  @returns how many were new. */
  add(fields, points, limitBytes) {
    const at = Object.fromEntries(fields.map((name, index) => [name, index]));
    const fresh = points.filter((point) => point[at.unix_ms] > this.lastUnixMs);
    this.#learnStep(fresh.map((point) => point[at.unix_ms] / 1000));
    for (const point of fresh) this.#addOne((name) => point[at[name]] ?? null, limitBytes);
    this.#trim();
    return fresh.length;
  }

  #learnStep(times) {
    const steps = [...this.time.slice(-20), ...times].slice(-60);
    const between = steps.slice(1).map((time, index) => time - steps[index]);
    if (between.length > 0) this.stepS = median(between);
  }

  #addOne(value, limitBytes) {
    const unixMs = value('unix_ms');
    const spentS = (unixMs - this.lastUnixMs) / 1000;
    const isGap = this.lastUnixMs > 0 && spentS > Math.max(leastGapS, 4 * this.stepS);
    if (isGap) this.#push((this.lastUnixMs + 1) / 1000, {});
    const gcNs = rise(this.lastGcNs, value('gc_wall_ns'));
    const rss = value('rss_bytes');
    const heap = value('heap_used_bytes');
    const ppm = value('usage_ppm');
    const level = levelOf(value('level'));
    this.#push(unixMs / 1000, {
      rss, heap,
      native: rss === null || heap === null ? null : Math.max(0, rss - heap),
      limit: limitBytes,
      usage: ppm === null ? null : ppm / 1e4,
      gc: gcNs === null || isGap || spentS <= 0 ? null : gcNs / 1e6 / Math.max(1, spentS),
      level: level < 0 ? null : level,
    });
    this.collections += rise(this.lastGcCount, value('gc_count'), wrap) ?? 0;
    this.lastUnixMs = unixMs;
    this.lastGcNs = value('gc_wall_ns');
    this.lastGcCount = value('gc_count');
  }

  #push(time, point) {
    this.time.push(time);
    for (const name of columns.slice(1)) this[name].push(point[name] ?? null);
  }

  #trim() {
    const over = this.length - this.capacity;
    if (over > 0) for (const name of columns) this[name].splice(0, over);
  }
}

/** The last `capacity` values of one number, for a sparkline. */
export class Spark {
  constructor(capacity) {
    this.capacity = capacity;
    this.times = [];
    this.values = [];
  }

  get lastMs() {
    return this.times.at(-1) ?? 0;
  }

  add(unixMs, value) {
    if (unixMs <= this.lastMs) return;
    this.times.push(unixMs);
    this.values.push(value);
    if (this.times.length > this.capacity) {
      this.times.shift();
      this.values.shift();
    }
  }

  /** Puts older points, of the recorder, before those that came since. */
  fillBefore(points) {
    const first = this.times[0] ?? Infinity;
    const older = points.filter(([unixMs]) => unixMs < first);
    const room = this.capacity - this.times.length;
    const kept = room > 0 ? older.slice(-room) : [];
    this.times.unshift(...kept.map(([unixMs]) => unixMs));
    this.values.unshift(...kept.map(([, value]) => value));
  }
}
