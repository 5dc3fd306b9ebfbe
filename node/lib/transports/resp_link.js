'use strict';

// One connection to Redis. Bytes go out from rented memory and come in through
// one buffer of the connection, so that a message costs no allocation of its own
// size. What was sent is answered, or fails, in bounded time.
const net = require('net');
const { failure, kindOf } = require('../errors');
const { broken } = require('./delivery');
const { Incoming, Refusal } = require('./incoming');
const { Outgoing } = require('./outgoing');

const ARRAY = 42; // *
const BULK = 36; // $
const KEEP_ALIVE_MS = 30000; // finds out that the other side is gone

/** Replies that belong together: those of one call. */
class Expected {
  constructor(count, pooledIndex, keeps, settle) {
    this.total = count;
    this.answered = 0; // not refused
    this.missing = count;
    this.refusal = null;
    this.replies = keeps ? [] : null;
    this.pooledIndex = pooledIndex;
    this.settle = settle; // (error or null, expected) => void
  }
}

class RespLink {
  #pool;
  #options;
  #onMessage;
  #onBreak;
  #socket = null;
  #connecting = null;
  #incoming = null;
  #outgoing = null;
  #expected = []; // oldest first, from #first on
  #first = 0;
  #isFlushDue = false;
  #timer = null;
  #heardAt = 0; // when bytes last came, or the first question was asked
  #isClosed = false;
  #topic = null; // of the latest PUBLISH, with what each one begins with
  #head = null;

  /** @param options from optionsOf().
   *  @param onMessage (topic, rental) => void, for a connection that subscribes.
   *  @param onBreak (error) => void */
  constructor(pool, options, onMessage = null, onBreak = null) {
    this.#pool = pool;
    this.#options = options;
    this.#onMessage = onMessage;
    this.#onBreak = onBreak;
  }

  get isOpen() {
    return this.#socket !== null;
  }

  /* ---- connecting --------------------------------------------------------------- */

  /** Connects if there is no connection. */
  connect() {
    if (this.#isClosed) throw failure('ECLOSED', 'used after close()');
    if (this.#socket !== null) return null;
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = null;
    });
    return this.#connecting;
  }

  async #open() {
    const socket = await this.#reach();
    if (this.#isClosed) {
      socket.destroy();
      throw failure('ECLOSED', 'closed while connecting');
    }
    this.#outgoing = new Outgoing(this.#pool, socket);
    this.#socket = socket;
    socket.on('close', () => this.#break(socket, 'the connection was closed'));
    await this.#greet();
  }

  #reach() {
    const { host, port, path, tls, timeoutMs } = this.#options;
    const incoming = new Incoming(
      this.#pool,
      (reply) => this.#onReply(reply),
      () => this.#expected[this.#first]?.pooledIndex ?? -1,
      this.#onMessage,
    );
    this.#incoming = incoming;
    const onread = {
      buffer: () => incoming.space,
      callback: (count) => this.#take(socket, incoming, count),
    };
    const where = path === undefined ? { host, port } : { path };
    const socket = tls ? require('tls').connect({ ...where, ...tls, onread }) : net.connect({ ...where, onread });
    return new Promise((resolve, reject) => {
      const fail = (cause) => {
        clearTimeout(timer);
        socket.on('error', () => {}).destroy();
        reject(broken(`no connection to Redis: ${cause.code ?? cause.message}`, 0, 0, cause));
      };
      const timer = setTimeout(() => fail(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
      socket.once('error', fail);
      socket.once(tls ? 'secureConnect' : 'connect', () => {
        clearTimeout(timer);
        socket.removeListener('error', fail);
        socket.on('error', (error) => this.#break(socket, error.code ?? error.message, error));
        socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
        resolve(socket);
      });
    });
  }

  async #greet() {
    const { username, password, db } = this.#options;
    const commands = [];
    if (password !== undefined) commands.push(username ? ['AUTH', username, password] : ['AUTH', password]);
    if (db > 0) commands.push(['SELECT', String(db)]);
    if (commands.length === 0) return;
    try {
      await this.send(commands);
    } catch (error) {
      this.#break(this.#socket, 'Redis refused the login or the database', error);
      throw error;
    }
  }

  /* ---- reading ---------------------------------------------------------------------- */

  #take(socket, incoming, count) {
    if (socket !== this.#socket) return false;
    this.#heardAt = Date.now();
    try {
      incoming.take(count);
    } catch (error) {
      this.#break(socket, `what came cannot be read: ${error.message}`, error);
    }
    return socket === this.#socket;
  }

  #onReply(reply) {
    const one = this.#expected[this.#first];
    if (one === undefined) throw new Error('a reply nobody asked for');
    if (reply instanceof Refusal) one.refusal ??= reply;
    else one.answered++;
    one.replies?.push(reply);
    if (--one.missing > 0) return;
    this.#shift();
    one.settle(one.refusal === null ? null : refused(one), one);
  }

  #shift() {
    this.#expected[this.#first++] = undefined;
    if (this.#first < this.#expected.length) return;
    this.#expected.length = 0;
    this.#first = 0;
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  /* ---- asking ----------------------------------------------------------------------- */

  #expect(one) {
    if (this.#expected.length === 0) {
      this.#heardAt = Date.now();
      this.#watch(this.#options.timeoutMs);
    }
    this.#expected.push(one);
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    // After all that this turn asks.
    process.nextTick(() => {
      this.#isFlushDue = false;
      if (this.#socket !== null) this.#outgoing.flush();
    });
  }

  #watch(ms) {
    this.#timer = setTimeout(() => {
      const silentMs = Date.now() - this.#heardAt;
      const { timeoutMs } = this.#options;
      if (silentMs >= timeoutMs) this.#break(this.#socket, `no answer within ${timeoutMs / 1000} s`);
      else this.#watch(timeoutMs - silentMs);
    }, Math.max(ms, 1));
  }

  #write(parts) {
    const out = this.#outgoing;
    out.count(ARRAY, parts.length);
    for (const part of parts) {
      const isText = typeof part === 'string';
      out.count(BULK, isText ? Buffer.byteLength(part) : part.length);
      if (isText) out.text(part);
      else out.bytes(part);
      out.endLine();
    }
  }

  /** Sends commands (arrays of strings and Buffers) in one go. The connection is
   *  open. @param pooledIndex which item of each reply becomes a rental.
   *  @returns their replies. */
  send(commands, pooledIndex = -1) {
    return new Promise((resolve, reject) => {
      const settle = (error, { replies }) => {
        if (error === null) resolve(replies);
        else reject(giveBack(error, replies));
      };
      this.#writing(() => {
        for (const command of commands) this.#write(command);
      });
      this.#expect(new Expected(commands.length, pooledIndex, true, settle));
    });
  }

  /** Half a command must not stay: if `body` fails, the connection ends. */
  #writing(body) {
    const socket = this.#socket;
    if (socket === null) throw broken('the connection to Redis broke before anything was sent', 0, 0);
    try {
      body();
    } catch (error) {
      this.#break(socket, error.message, error);
      throw error;
    }
  }

  /** PUBLISH of each view, which stays untouched until the end. @returns how many. */
  async publishAll(topic, views) {
    await this.connect();
    if (views.length === 0) return 0;
    return new Promise((resolve, reject) => {
      const settle = (error, { answered }) => (error === null ? resolve(answered) : reject(error));
      this.#writing(() => this.#writeMessages(this.#headOf(topic), views));
      this.#expect(new Expected(views.length, -1, false, settle));
    });
  }

  #writeMessages(head, views) {
    const out = this.#outgoing;
    out.gather();
    for (const view of views) {
      out.bytes(head);
      out.count(BULK, view.length);
      out.bytes(view);
      out.endLine();
    }
    out.release();
  }

  #headOf(topic) {
    if (topic !== this.#topic) {
      this.#topic = topic;
      this.#head = Buffer.from(`*3\r\n$7\r\nPUBLISH\r\n$${Buffer.byteLength(topic)}\r\n${topic}\r\n`);
    }
    return this.#head;
  }

  /* ---- ending ------------------------------------------------------------------------ */

  #break(socket, what, cause = undefined) {
    if (socket === null || socket !== this.#socket) return;
    this.#socket = null;
    clearTimeout(this.#timer);
    this.#timer = null;
    socket.destroy();
    this.#outgoing.abandon();
    this.#incoming.end();
    const waiting = this.#expected.splice(0).slice(this.#first);
    this.#first = 0;
    for (const one of waiting) {
      const text = `the connection to Redis broke: ${what}; ${one.answered} confirmed, ${one.missing} unknown`;
      one.settle(this.#isClosed ? closedUnder(one) : broken(text, one.answered, one.missing, cause), one);
    }
    if (!this.#isClosed) this.#onBreak?.(cause);
  }

  /** Stops or goes on reading. */
  setReading(isOn) {
    if (isOn) this.#socket?.resume();
    else this.#socket?.pause();
  }

  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#break(this.#socket, 'close()');
  }
}

function closedUnder({ answered, missing }) {
  return Object.assign(failure('ECLOSED', 'closed while waiting for an answer'), { confirmed: answered, unknown: missing });
}

function refused({ refusal, answered }) {
  return Object.assign(failure('EINVAL', `Redis refused a command: ${refusal.text}`), { confirmed: answered, unknown: 0 });
}

/** What came before it went wrong is of no use to anybody. */
function giveBack(error, replies) {
  for (const reply of replies) {
    for (const item of Array.isArray(reply) ? reply : []) if (typeof item?.return === 'function') item.return();
  }
  return error;
}

/* ---- where to connect -------------------------------------------------------------- */

/** Where a client of ioredis connects to: the same, with connections of our own. */
function optionsOfClient(client, timeoutMs) {
  const { host, port, path, username, password, db, tls, sentinels } = client.options ?? {};
  if (typeof client.duplicate !== 'function' || (host === undefined && path === undefined) || sentinels) {
    throw failure('EINVAL', 'this client does not say which one server it is connected to; allowed: ioredis, one server');
  }
  const login = { username: username ?? undefined, password: password ?? undefined, db: db ?? 0, timeoutMs };
  return path ? { ...login, path } : { ...login, host: host ?? '127.0.0.1', port: port ?? 6379, tls };
}

/** @param target a URL or a client of ioredis. */
function optionsOf(target, timeoutMs) {
  if (typeof target === 'string') return optionsOfUrl(target, timeoutMs);
  if (Object(target) === target) return optionsOfClient(target, timeoutMs);
  throw failure('ETYPE', `a URL or a client of ioredis is needed, not ${kindOf(target)}`);
}

/** Options of a URL redis[s]://[[user]:password@]host[:port][/db] or unix:/path. */
function optionsOfUrl(text, timeoutMs) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw failure('EINVAL', 'not a URL; allowed: redis://, rediss:// or unix:');
  }
  const name = (part) => (part === '' ? undefined : decodeURIComponent(part));
  const login = { username: name(url.username), password: name(url.password), timeoutMs };
  if (url.protocol === 'unix:') return { ...login, path: url.pathname, db: Number(url.searchParams.get('db') ?? 0) };
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') {
    throw failure('EINVAL', `a URL of ${url.protocol} is unknown; allowed: redis://, rediss:// or unix:`);
  }
  const db = url.pathname.length > 1 ? Number(url.pathname.slice(1)) : 0;
  if (!Number.isInteger(db) || db < 0) throw failure('EINVAL', 'the database in the URL must be a whole number');
  const host = url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
  const tls = url.protocol === 'rediss:' ? (net.isIP(host) ? {} : { servername: host }) : undefined;
  return { ...login, host, port: Number(url.port || 6379), db, tls };
}

module.exports = { RespLink, optionsOf };
