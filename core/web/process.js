/* process.js - one process as the page knows it. */
import { Spark } from './track.js';

export const sparkMs = 120000;
const sparkPoints = 130;
const verdicts = {
  'clean exit': { name: 'verdict_clean_exit', text: 'clean_exit_text', tone: 'normal' },
  'OOM likely': { name: 'verdict_oom', text: 'oom_text', tone: 'critical' },
  'killed, not memory': { name: 'verdict_killed', text: 'killed_text', tone: 'high' },
};

export class Process {
  constructor(key) {
    this.key = key;
    this.spark = new Spark(sparkPoints);
    this.hasHistory = false;
  }

  /** Takes what /api/v1/processes says of it. */
  apply(facts) {
    this.facts = facts;
    if (facts.alive) this.spark.add(facts.heartbeat_unix_ms, facts.reading.rss_bytes);
  }

  get pid() {
    return this.facts.pid;
  }

  /** A host that stopped its last monitor lives on, and shows nothing new. */
  get isStopped() {
    return this.facts.alive && this.facts.state === 'stopped';
  }

  /** {name, text, tone}: keys of strings and a colour; null while it lives. */
  get verdict() {
    if (this.facts.alive) return null;
    return verdicts[this.facts.verdict] ?? { name: this.facts.verdict, text: '', tone: 'high' };
  }

  /** Its state in one key of strings, and the colour of that. */
  get state() {
    if (this.verdict) return this.verdict;
    if (this.isStopped) return { name: 'stopped', tone: 'none' };
    return { name: this.facts.level, tone: this.facts.level };
  }

  get collections() {
    return Object.values(this.facts.gc ?? {}).reduce((sum, kind) => sum + kind.count, 0);
  }

  get collectionsMs() {
    return Object.values(this.facts.gc ?? {}).reduce((sum, kind) => sum + kind.total_ms, 0);
  }

  /** Alerts that hold now: of a dead process none, whatever it said last. */
  get firing() {
    if (!this.facts.alive) return [];
    return (this.facts.alerts_active ?? []).filter((alert) => alert.state !== 'resolved');
  }

  /** Resident memory beside the heap that is reserved, else beside the heap in use. */
  get nativeBytes() {
    const { rss_bytes: rss, heap_used_bytes: heap } = this.facts.reading;
    const isUnknown = rss === null || heap === null;
    return this.facts.native_bytes ?? (isUnknown ? null : Math.max(0, rss - heap));
  }

  /** The limit its usage is judged by; usage itself is null without one. */
  get usage() {
    return this.facts.domain === 'none' ? null : this.facts.usage_percent;
  }
}

/** Brings the page's processes in line with an answer of the API.
 *  @param known Map by key; @param list as answered. Of several with one pid the
 *  living one, then the last, has the pid as its key: the API speaks of that one. */
export function reconcile(known, list) {
  const main = new Map();
  for (const facts of list)
    if (!main.has(facts.pid) || facts.alive || !main.get(facts.pid).alive) main.set(facts.pid, facts);
  const seen = new Set();
  const others = new Map();
  for (const facts of list) {
    let key = String(facts.pid);
    if (main.get(facts.pid) !== facts) {
      others.set(facts.pid, (others.get(facts.pid) ?? 0) + 1);
      key = `${facts.pid}/${others.get(facts.pid)}`;
    }
    seen.add(key);
    let one = known.get(key);
    if (!one || isAnother(one.facts, facts)) known.set(key, (one = new Process(key)));
    one.apply(facts);
  }
  for (const key of known.keys()) if (!seen.has(key)) known.delete(key);
}

/** Whether a pid was given to another program since. */
function isAnother(before, now) {
  return before.program !== now.program || before.runtime !== now.runtime || (!before.alive && now.alive);
}
