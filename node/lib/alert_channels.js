'use strict';

// Where alerts go. A channel works on the event loop and keeps no process alive.
const os = require('os');
const path = require('path');
const native = require('./native');
const { codes, failure, kindOf, requireFunction, requireName, requireNumber } = require('./errors');
const { isThenable, textOf, warn } = require('./report');
const { toldOf } = require('./alert_told');

const WEBHOOK = 0;
const ALERTMANAGER = 1;
const DAY_S = 86400;
const LAST_TRY_MS = 2000;
const LONGEST_TIMER_MS = 2147483647;
const ANSWER_BYTES = 4096; // of an answer that are read
const STATS = ['waiting', 'sent', 'delivered', 'failures', 'failuresInARow', 'overflow'];

// By which Alerts drives a channel: no part of what a program calls.
const BEGIN = Symbol('begin');
const POKE = Symbol('poke');
const END = Symbol('end');
const END_AT_EXIT = Symbol('end at exit');
const CHECK = Symbol('check');

function nowMs() {
  return performance.now();
}

function programName() {
  const script = process.argv[1];
  return typeof script === 'string' && script !== '' ? path.basename(script) : 'node';
}

function requireSeconds(value, what, least) {
  requireNumber(value, what, least);
  if (value > DAY_S) throw failure('ERANGE', `${what} is ${value}, allowed: ${least} to ${DAY_S} s`);
  return value;
}

function requireText(value, what) {
  requireName(value, what);
  if (value.includes('\0')) throw failure('EINVAL', `${what} holds a NUL`);
  return value;
}

/** { active, changes, lost, stats } of a manager. */
function readAlerts(handle, after) {
  return toldOf(native.alertsText(handle, after));
}

class Channel {
  #handle = null; // of the manager while it is added
  #hasBegun = false;
  #seen = 0;
  #complained = false;
  #delivered = 0;
  #failures = 0;

  constructor(name) {
    this.name = requireText(name, 'the name of a channel');
  }

  deliver() {
    throw failure('EABSENT', `channel ${this.name} has no deliver()`);
  }

  get stats() {
    return {
      waiting: 0,
      sent: this.#delivered,
      delivered: this.#delivered,
      failures: this.#failures,
      failuresInARow: 0,
      overflow: 0,
    };
  }

  // Warns of the first failure in a row.
  failed(error) {
    this.#failures++;
    if (this.#complained) return;
    this.#complained = true;
    warn(`alert channel ${this.name} failed: ${textOf(error)} (told once until it works again)`, codes.EHOST);
  }

  worked() {
    this.#complained = false;
  }

  #tell(alert) {
    const done = () => {
      this.#delivered++;
      this.worked();
    };
    try {
      const result = this.deliver(alert);
      if (isThenable(result)) result.then(done, (error) => this.failed(error));
      else done();
    } catch (error) {
      this.failed(error);
    }
  }

  [CHECK]() {
    if (this.#hasBegun) throw failure('EINVAL', `channel ${this.name} was added before`);
    this.#hasBegun = true;
  }

  [BEGIN](handle) {
    const told = readAlerts(handle, 0);
    this.#handle = handle;
    this.#seen = told.stats.changes;
    for (const alert of told.active) this.#tell(alert);
  }

  /** There may be something new. */
  [POKE]() {
    if (this.#handle === null || native.alertNumber(this.#handle) === this.#seen) return;
    const told = readAlerts(this.#handle, this.#seen);
    this.#seen = told.stats.changes;
    for (const alert of told.changes) this.#tell(alert);
  }

  async [END]() {
    this[END_AT_EXIT]();
  }

  [END_AT_EXIT]() {
    try {
      this[POKE]();
    } finally {
      this.#handle = null;
    }
  }
}

class Callback extends Channel {
  #callback;

  constructor(callback) {
    requireFunction(callback, 'an alert callback');
    super('callback');
    this.#callback = callback;
  }

  deliver(alert) {
    return this.#callback(alert);
  }
}

const processLogger = {
  error: (text) => warn(text, 'MEMGUARD_ALERT'),
  warn: (text) => warn(text, 'MEMGUARD_ALERT'),
  info: (text) => warn(text, 'MEMGUARD_ALERT'),
};

class Logging extends Channel {
  #logger;

  constructor(logger = processLogger) {
    super('logging');
    for (const name of ['error', 'warn', 'info']) requireFunction(logger?.[name], `logger.${name}`);
    this.#logger = logger;
  }

  deliver(alert) {
    const text = `${alert.kind} ${alert.state}: ${alert.summary}`;
    if (alert.state !== 'firing' || alert.severity === 'info') return this.#logger.info(text, alert);
    return alert.severity === 'warning' ? this.#logger.warn(text, alert) : this.#logger.error(text, alert);
  }
}

/* ---- channels that post ------------------------------------------------------- */

function targetOf(url, suffix) {
  const allowed = 'allowed: http://HOST[:PORT][/PATH] or https://...';
  let target;
  requireName(url, 'url');
  try {
    target = new URL(url);
  } catch {
    throw failure('EINVAL', `url is ${JSON.stringify(url)}, ${allowed}`);
  }
  if (target.protocol !== 'http:' && target.protocol !== 'https:') {
    throw failure('EINVAL', `url is ${JSON.stringify(url)}, ${allowed}`);
  }
  if (target.username !== '' || target.password !== '') {
    throw failure('EINVAL', 'url has a password, allowed: headers: { Authorization: ... }');
  }
  if (suffix !== '') target.pathname = target.pathname.replace(/\/+$/, '') + suffix;
  target.hash = '';
  return target;
}

function headersOf(headers) {
  if (headers === null || typeof headers !== 'object') {
    throw failure('ETYPE', `headers must be an object, not ${kindOf(headers)}`);
  }
  for (const [name, value] of Object.entries(headers)) {
    requireName(value, `headers[${JSON.stringify(name)}]`);
    const http = require('http'); // some ms, for who posts
    try {
      http.validateHeaderName(name);
      http.validateHeaderValue(name, value);
    } catch {
      throw failure('EINVAL', `headers[${JSON.stringify(name)}] is no header of HTTP`);
    }
  }
  return { ...headers };
}

// The last try at exit, when no event loop turns any more: run by a Node of its own.
const LAST_TRY = `
const { url, headers, body, ms } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
setTimeout(() => process.exit(1), ms).unref();
require(url.startsWith('https:') ? 'https' : 'http')
  .request(url, { method: 'POST', headers, agent: false }, (response) =>
    process.exit(response.statusCode >= 200 && response.statusCode < 300 ? 0 : 1))
  .on('error', () => process.exit(1))
  .end(body);
`;

function postAtExit(url, headers, body, ms) {
  const env = { ...process.env };
  delete env.NODE_OPTIONS; // what it loads belongs to the program
  const { status } = require('child_process').spawnSync(process.execPath, ['-e', LAST_TRY], {
    env,
    input: JSON.stringify({ url: url.href, headers, body, ms }),
    stdio: ['pipe', 'ignore', 'ignore'],
    timeout: ms + 1000,
    killSignal: 'SIGKILL',
  });
  return status === 0;
}

/** Posts `body`. @returns { status, retryAfterMs }; rejects on any failure. */
function post(url, headers, body, timeoutMs) {
  return new Promise((resolve, reject) => {
    const request = require(url.protocol === 'https:' ? 'https' : 'http').request(url, { method: 'POST', headers, agent: false });
    const timer = setTimeout(() => request.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    timer.unref();
    request.on('socket', (socket) => socket.unref());
    request.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    request.on('response', (response) => {
      let bytes = 0;
      const end = () => {
        clearTimeout(timer);
        const seconds = /^\d{1,8}$/.test(response.headers['retry-after']) ? Number(response.headers['retry-after']) : 0;
        resolve({ status: response.statusCode, retryAfterMs: seconds * 1000 });
        request.destroy();
      };
      response.on('data', (chunk) => {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES) end();
      });
      response.on('end', end).on('error', reject);
    });
    request.end(body);
  });
}

class Posting extends Channel {
  #url;
  #headers;
  #timeoutMs;
  #box;
  #handle = null;
  #timer = null;
  #isPosting = null; // a promise while it is
  #hasEnded = false;
  #statsRow = new Float64Array(STATS.length);

  constructor(kind, url, suffix, options) {
    const {
      headers = {}, timeout = 5, resend = 0, least = 0, retryFirst = 1, retryMost = 60,
      service = programName(), instance = os.hostname(), runbook = '', name,
    } = options;
    super(name);
    this.#url = targetOf(url, suffix);
    this.#headers = { 'Content-Type': 'application/json', 'User-Agent': `memguard/${native.version}`, ...headersOf(headers) };
    this.#timeoutMs = requireSeconds(timeout, 'timeout', 0.001) * 1000;
    const numbers = Float64Array.of(
      kind,
      requireSeconds(resend, 'resend', 0) * 1000,
      requireSeconds(least, 'least', 0) * 1000,
      requireSeconds(retryFirst, 'retryFirst', 0.001) * 1000,
      requireSeconds(retryMost, 'retryMost', 0.001) * 1000,
      process.pid,
    );
    const texts = Object.entries({ service, program: programName(), runtime: 'node', instance, runbook });
    this.#box = native.outboxOpen(numbers, ...texts.map(([what, text]) => requireText(text, what)));
  }

  get stats() {
    native.outboxStats(this.#box, this.#statsRow);
    return Object.fromEntries(STATS.map((name, index) => [name, this.#statsRow[index]]));
  }

  [BEGIN](handle) {
    this.#handle = handle;
    native.outboxBegin(this.#box, handle, true, nowMs());
    this.#work(false);
  }

  [POKE]() {
    if (this.#handle !== null && !this.#hasEnded) this.#work(false);
  }

  #follow() {
    if (this.#handle !== null) native.outboxFollow(this.#box, this.#handle, nowMs());
  }

  #work(isLast) {
    if (this.#isPosting !== null) return;
    this.#follow();
    const body = native.outboxTake(this.#box, nowMs(), Date.now(), isLast);
    if (body === null) {
      if (!isLast) this.#schedule();
      return;
    }
    const timeoutMs = isLast ? Math.min(this.#timeoutMs, LAST_TRY_MS) : this.#timeoutMs;
    this.#isPosting = this.#post(body, timeoutMs).finally(() => {
      this.#isPosting = null;
      if (!this.#hasEnded) this.#work(false);
    });
  }

  async #post(body, timeoutMs) {
    let retryAfterMs = 0;
    try {
      const answer = await post(this.#url, this.#headers, body, timeoutMs);
      if (answer.status >= 200 && answer.status < 300) {
        native.outboxDone(this.#box, true, 0, nowMs());
        this.worked();
        return;
      }
      retryAfterMs = answer.retryAfterMs;
      throw new Error(`${this.#url.host} answered ${answer.status}`);
    } catch (error) {
      native.outboxDone(this.#box, false, retryAfterMs, nowMs());
      this.failed(error);
    }
  }

  #schedule() {
    const dueMs = native.outboxDue(this.#box, nowMs());
    clearTimeout(this.#timer);
    if (!Number.isFinite(dueMs)) return;
    this.#timer = setTimeout(() => this[POKE](), Math.min(Math.ceil(dueMs), LONGEST_TIMER_MS));
    this.#timer.unref();
  }

  #quit() {
    this.#follow();
    this.#hasEnded = true;
    this.#handle = null;
    clearTimeout(this.#timer);
  }

  async [END]() {
    if (this.#hasEnded) return;
    this.#quit();
    await this.#isPosting;
    this.#work(true);
    await this.#isPosting;
  }

  [END_AT_EXIT]() {
    if (!this.#hasEnded) this.#quit();
    // What was under way ends with the event loop.
    native.outboxDone(this.#box, false, 0, nowMs());
    const body = native.outboxTake(this.#box, nowMs(), Date.now(), true);
    if (body === null) return;
    const wasAccepted = postAtExit(this.#url, this.#headers, body, Math.min(this.#timeoutMs, LAST_TRY_MS));
    native.outboxDone(this.#box, wasAccepted, 0, nowMs());
  }
}

class Webhook extends Posting {
  constructor(url, { headers, timeout, retryFirst, retryMost, service, instance, name = 'webhook' } = {}) {
    super(WEBHOOK, url, '', { headers, timeout, retryFirst, retryMost, service, instance, name });
  }
}

class Alertmanager extends Posting {
  constructor(url, { resend = 60, least = 60, name = 'alertmanager', ...options } = {}) {
    super(ALERTMANAGER, url, '/api/v2/alerts', { ...options, resend, least, name });
  }
}

module.exports = {
  Alertmanager,
  BEGIN,
  CHECK,
  Callback,
  Channel,
  END,
  END_AT_EXIT,
  Logging,
  POKE,
  Webhook,
  readAlerts,
};
