'use strict';

/* A site like memguard's, of made-up processes: for time that runs faster than a
 * clock and for what no real host does. Everything real is tested on real hosts.
 *
 * `node tests/web/double.js` serves three of them until it is stopped. */
const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const root = path.resolve(__dirname, '../..');
const mebibyte = 1 << 20;
const csp =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const types = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', txt: 'text/plain' };
const fields = [
  'unix_ms', 'rss_bytes', 'heap_used_bytes', 'external_bytes', 'cgroup_used_bytes', 'gc_wall_ns',
  'gc_count', 'usage_ppm', 'fd_count', 'thread_count', 'level', 'domain',
];

function levelOf(usage) {
  if (usage > 0.95) return 'critical';
  if (usage > 0.85) return 'high';
  return usage > 0.7 ? 'elevated' : 'normal';
}

/** One made-up process: its memory swings, its collections go on. */
class Host {
  constructor(pid, facts = {}) {
    this.pid = pid;
    this.program = 'service';
    this.runtime = 'python';
    this.alive = true;
    this.verdict = 'running';
    this.baseMb = 160;
    this.swingMb = 60;
    this.limitMb = 400;
    this.types = [];
    Object.assign(this, facts);
    this.points = [];
    this.gcNs = 0;
    this.gcCount = 0;
    this.alerts = [];
    this.rounds = [];
  }

  tick(unixMs) {
    const second = unixMs / 1000;
    const saw = ((second + this.pid * 7) % 40) / 40;
    const rss = (this.baseMb + this.swingMb * (saw + 0.12 * Math.sin(second / 3))) * mebibyte;
    const heap = rss * 0.62;
    const usage = rss / (this.limitMb * mebibyte);
    this.gcNs += 2e6 + (saw < 0.05 ? 31e6 : 0);
    this.gcCount += saw < 0.05 ? 3 : 1;
    this.last = { unixMs, rss, heap, usage };
    this.points.push([
      unixMs, Math.round(rss), Math.round(heap), null, null, this.gcNs, this.gcCount,
      Math.round(usage * 1e6), 24, 7, levelOf(usage), 'max_memory',
    ]);
    if (this.points.length > 600) this.points.shift();
  }

  toJSON() {
    const { rss, heap, usage, unixMs } = this.last;
    const reading = { rss_bytes: Math.round(rss), heap_used_bytes: Math.round(heap), heap_total_bytes: Math.round(heap * 1.2) };
    return {
      pid: this.pid, program: this.program, runtime: this.runtime,
      runtime_version: this.runtime === 'node' ? '24.1.0' : '3.12.1', alive: this.alive,
      state: 'running', verdict: this.verdict, heartbeat_unix_ms: unixMs, level: levelOf(usage),
      usage_percent: usage * 100, domain: 'max_memory', limit_bytes: this.limitMb * mebibyte,
      native_bytes: Math.round(rss - heap * 1.2), peak_rss_bytes: Math.round(rss * 1.1),
      reading: { ...reading, fd_count: 24, thread_count: 7 },
      gc: { full: { count: this.gcCount, total_ms: this.gcNs / 1e6, p95_ms: 21.5, max_ms: 33, collected: 0 } },
      alerts: this.alerts.length, rounds: this.rounds.length, freed_bytes: 12.5 * mebibyte,
      last_pause_ms: 4.2, alerts_active: this.alerts,
    };
  }
}

class Double {
  /** @param options {token, readNeedsToken, stepS}: with stepS every look at the
   *  processes finds them so many seconds, and points, older. */
  constructor(options = {}) {
    this.options = options;
    this.nowMs = Date.now();
    this.hosts = [];
    this.actions = [];
    this.looks = 0;
    this.server = http.createServer((request, response) => this.#answer(request, response));
  }

  add(pid, facts, pastSeconds = 120) {
    const host = new Host(pid, facts);
    for (let ago = pastSeconds; ago >= 0; ago -= 1) host.tick(this.nowMs - ago * 1000);
    this.hosts.push(host);
    return host;
  }

  advance(ms) {
    this.nowMs += ms;
    for (const host of this.hosts) if (host.alive) host.tick(this.nowMs);
  }

  async start(port = 0) {
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
    return this;
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** The site goes and comes again under the same address. */
  async restart() {
    this.server = http.createServer((request, response) => this.#answer(request, response));
    return this.start(this.port);
  }

  #send(response, status, body) {
    response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Cache-Control': 'no-store' });
    response.end(JSON.stringify(body));
  }

  #file(response, name) {
    const file = {
      'uplot.js': 'node_modules/uplot/dist/uPlot.iife.min.js',
      'uplot.css': 'node_modules/uplot/dist/uPlot.min.css',
      'uplot-licence.txt': 'node_modules/uplot/LICENSE',
    }[name] ?? `core/web/${name}`;
    const type = types[path.extname(name).slice(1)];
    if (!type || name.includes('/') || !fs.existsSync(path.join(root, file))) return this.#send(response, 404, { error: name });
    response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8`, 'Content-Security-Policy': csp });
    return response.end(fs.readFileSync(path.join(root, file)));
  }

  #answer(request, response) {
    const url = new URL(request.url, this.url);
    if (url.pathname === '/') return this.#file(response, 'index.html');
    if (url.pathname.startsWith('/assets/')) return this.#file(response, url.pathname.slice(8));
    const isAllowed = request.headers.authorization === `Bearer ${this.options.token}`;
    if ((request.method !== 'GET' || this.options.readNeedsToken) && !isAllowed)
      return this.#send(response, 401, { error: 'the token is wrong' });
    const host = this.hosts.find((one) => one.pid === Number(url.searchParams.get('pid')));
    const route = url.pathname.replace('/api/v1/', '').replace('memory/', '');
    if (route === 'processes') return this.#processes(response);
    if (!host) return this.#send(response, 404, { error: 'pid: no such process' });
    return this.#send(response, 200, this.#read(route, host, url.searchParams));
  }

  #processes(response) {
    this.looks += 1;
    for (let second = 0; second < (this.options.stepS ?? 0); second += 1) this.advance(1000);
    this.#send(response, 200, { unix_ms: this.nowMs, processes: this.hosts });
  }

  #read(route, host, query) {
    switch (route) {
      case 'history': {
        const since = Number(query.get('since_unix_ms') ?? 0);
        const points = host.points.filter(([unixMs]) => unixMs > since).slice(-Number(query.get('max')));
        return { pid: host.pid, ring: query.get('ring'), fields, points };
      }
      case 'alerts': return { active: host.alerts, history: [] };
      case 'leaks': return { leaks: host.alerts.filter(({ kind }) => kind === 'memory_leak'), types: host.types, span_ms: 60000 };
      case 'optimizations': return { optimizations: host.rounds };
      default:
        this.actions.push(`${route} ${host.pid}`);
        return { message: 'Garbage collection completed', round: { freed_bytes: 3 * mebibyte, took_ms: 12 } };
    }
  }
}

module.exports = { Double, mebibyte };

if (require.main === module) {
  const site = new Double({ token: randomBytes(8).toString('hex') });
  site.add(100, { program: 'api' }, 590);
  site.add(200, { program: 'worker', runtime: 'node', limitMb: 240 }, 590);
  site.add(300, { program: 'batch', alive: false, verdict: 'OOM likely' }, 300);
  setInterval(() => site.advance(1000), 1000);
  site.start(Number(process.env.PORT ?? 0)).then(() => console.log(`${site.url} ${site.options.token}`));
}
