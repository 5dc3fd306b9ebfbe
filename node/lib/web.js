'use strict';

// The HTTP site of this process: the core judges requests and renders responses; here
// are the sockets. A response comes from the addon as [status, isHead, body, name,
// value, ...]; what the monitor has to do first as [route, isHead, command, arguments].
const native = require('./native');
const { failure, kindOf, requireCount } = require('./errors');
const { run } = require('./control');
const { textOf } = require('./report');
const segment = require('./segment');

const BODY_MOST_BYTES = native.webBodyBytes;
const STATUS = 0;
const IS_HEAD = 1;
const BODY = 2;
const HEADERS = 3; // the first of them
const NOT_MODIFIED = 304;
const LATE = 408;
const BUFFER_OF_NONE = Buffer.alloc(0);
const BODY_SECONDS = 10;
const RESPONSE_SECONDS = 30;
const SECONDS_MOST = 3600;
const DRAIN_MS = 1000;
const DRAIN_BYTES = 1048576;
const WRITES_PER_MINUTE = 60;
const WRITES_MOST = 1e6;
const MS_PER_SECOND = 1000;
const METHODS_WITH_BODY = ['POST', 'PUT'];

const ownPaths = new Set(native.webPaths.filter((path) => path === '/' || !path.endsWith('/')));
const ownFolders = native.webPaths.filter((path) => path !== '/' && path.endsWith('/'));

/* ---- options ----------------------------------------------------------------- */

// By what each option has to be. `undefined` takes the default.
const checks = {
  token(value) {
    if (value !== null && typeof value !== 'string') {
      throw failure('ETYPE', `token must be a string or null, not ${kindOf(value)}`);
    }
  },
  tokenFile: (value) => requireString(value, 'tokenFile'),
  readNeedsToken: (value) => requireBoolean(value, 'readNeedsToken'),
  allowedHosts(value) {
    if (!Array.isArray(value)) throw failure('ETYPE', `allowedHosts must be an array of strings, not ${kindOf(value)}`);
  },
  writesPerMinute(value) {
    requireWithin(value, 'writesPerMinute', 1, WRITES_MOST);
    requireCount(value, 'writesPerMinute', 1);
  },
  readyBelowPercent: (value) => requireWithin(value, 'readyBelowPercent', 0, 100),
  bodyTimeout: (value) => requireWithin(value, 'bodyTimeout', 0, SECONDS_MOST),
  responseTimeout: (value) => requireWithin(value, 'responseTimeout', 0, SECONDS_MOST),
  prefix(value) {
    requireString(value, 'prefix');
    if (value === '' || (/^\/[!-~]*[!-.0-~]$/.test(value) && !/[%?#]/.test(value))) return;
    throw failure('EINVAL', `prefix is ${JSON.stringify(value)}, allowed: "" or a path such as /memguard, without / at its end`);
  },
};

function requireString(value, what) {
  if (typeof value !== 'string') throw failure('ETYPE', `${what} must be a string, not ${kindOf(value)}`);
}

function requireBoolean(value, what) {
  if (typeof value !== 'boolean') throw failure('ETYPE', `${what} must be true or false, not ${kindOf(value)}`);
}

/** A number of `least` to `most`. */
function requireWithin(value, what, least, most) {
  if (typeof value !== 'number') throw failure('ETYPE', `${what} must be a number, not ${kindOf(value)}`);
  if (!(value >= least && value <= most)) throw failure('ERANGE', `${what} is ${value}, allowed: ${least} to ${most}`);
}

/** The options of a call; a copy, without what is undefined.
 *  @param its checks by the names of the options that it takes. */
function optionsOf(given, its) {
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    throw failure('ETYPE', `options must be an object, not ${kindOf(given)}`);
  }
  const options = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(its, name)) {
      throw failure('EINVAL', `option ${JSON.stringify(name)} is unknown, allowed: ${Object.keys(its).join(', ')}`);
    }
    its[name](value);
    options[name] = value;
  }
  return options;
}

/* ---- reading ------------------------------------------------------------------ */

// What is no request, or one that cannot be answered any more.
class Refusal {
  constructor(status, text) {
    this.status = status;
    this.text = text;
  }
}
const GONE = new Refusal(0, 'the client is gone');

function tooLarge() {
  return new Refusal(413, `the body is larger than ${BODY_MOST_BYTES} bytes`);
}

// HTTP/2 has the parts of a request line, and Host, among its headers.
function headersOf({ httpVersionMajor, rawHeaders }) {
  if (httpVersionMajor < 2) return rawHeaders;
  const names = rawHeaders.map((name, at) => (at % 2 === 0 && name === ':authority' ? 'Host' : name));
  return names.filter((_, at) => !names[at - (at % 2)].startsWith(':'));
}

// Somebody before us read the body; what they left is what it was.
function parsedBody(body) {
  if (Buffer.isBuffer(body)) return body;
  if (body instanceof Uint8Array) return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

function readParsed(request) {
  if (request.body === undefined || request.body === null) {
    if (Number(request.headers['content-length'] ?? 0) === 0) return BUFFER_OF_NONE;
    throw new Refusal(500, 'the body was read before it came to memguard, and is not in request.body');
  }
  const body = parsedBody(request.body);
  if (body.length > BODY_MOST_BYTES) throw tooLarge();
  return body;
}

/** The body, at most BODY_MOST_BYTES of it. Rejects with a Refusal; leaves nothing on
 *  the request. */
function readBody(request, seconds) {
  if (!METHODS_WITH_BODY.includes(request.method)) return Promise.resolve(BUFFER_OF_NONE);
  return new Promise((resolve, reject) => {
    if (request.destroyed && !request.readableEnded) return reject(GONE);
    if (request.readableEnded) return resolve(readParsed(request)); // what it throws rejects
    if (Number(request.headers['content-length']) > BODY_MOST_BYTES) return reject(tooLarge());
    const parts = [];
    let bytes = 0;
    const late = new Refusal(LATE, `the body did not come within ${seconds} s`);
    const timer = setTimeout(() => end(late), seconds * MS_PER_SECOND);
    timer.unref?.();
    const end = (refusal) => {
      clearTimeout(timer);
      for (const [name, listener] of Object.entries(listeners)) request.removeListener(name, listener);
      request.pause();
      if (refusal === null) resolve(Buffer.concat(parts, bytes));
      else reject(refusal);
    };
    const listeners = {
      data(part) {
        bytes += part.length;
        parts.push(typeof part === 'string' ? Buffer.from(part) : part);
        if (bytes > BODY_MOST_BYTES) end(tooLarge());
      },
      end: () => end(null),
      error: () => end(GONE),
      close: () => end(GONE),
    };
    for (const [name, listener] of Object.entries(listeners)) request.on(name, listener);
    return undefined;
  });
}

/* ---- writing ------------------------------------------------------------------- */

function isOver(response) {
  return response.headersSent || response.writableEnded || response.destroyed || response.socket?.destroyed === true;
}

// Reads on after a refusal, a while: a client that still sends would not read the answer.
function drain(request) {
  return new Promise((resolve) => {
    let bytes = 0;
    const count = (part) => {
      bytes += part.length;
      if (bytes > DRAIN_BYTES) done();
    };
    const done = () => {
      clearTimeout(timer);
      request.removeListener('data', count);
      for (const name of ['end', 'error', 'close']) request.removeListener(name, done);
      resolve();
    };
    const timer = setTimeout(done, DRAIN_MS);
    timer.unref?.();
    for (const name of ['end', 'error', 'close']) request.once(name, done);
    request.on('data', count);
  });
}

// A client that does not read would hold the response for ever.
function writeAll(response, body, seconds) {
  const done = () => {
    clearTimeout(timer);
    response.removeListener('finish', done);
    response.removeListener('close', done);
  };
  const timer = setTimeout(() => {
    done();
    response.destroy();
  }, seconds * MS_PER_SECOND);
  timer.unref?.();
  response.once('finish', done);
  response.once('close', done);
  response.end(body);
}

function send(response, whole, seconds) {
  if (isOver(response)) return;
  response.statusCode = whole[STATUS];
  for (let at = HEADERS; at < whole.length; at += 2) response.setHeader(whole[at], whole[at + 1]);
  if (whole[STATUS] !== NOT_MODIFIED) response.setHeader('Content-Length', whole[BODY].length);
  writeAll(response, whole[IS_HEAD] ? undefined : whole[BODY], seconds);
}

/** The token of a call; '' if there is none. */
function tokenOf({ token = null, tokenFile }) {
  if (token !== null && tokenFile !== undefined) {
    throw failure('ECONFLICT', 'token and tokenFile are both there, allowed: one of them');
  }
  return token ?? native.webFindToken(tokenFile ?? '');
}

/* ---- site ----------------------------------------------------------------------- */

/** What is answered, without where it came from. */
class Site {
  #handle;
  #bodySeconds;
  #responseSeconds;

  /** @param token '': there is none. */
  constructor(token, options) {
    if (token === '' && options.readNeedsToken === true) {
      throw failure('ECONFLICT', 'readNeedsToken is true without a token, allowed: false');
    }
    segment.begin();
    this.#handle = native.webOpen(
      token,
      options.readNeedsToken ?? false,
      options.allowedHosts ?? [],
      options.writesPerMinute ?? WRITES_PER_MINUTE,
      options.readyBelowPercent ?? 0,
    );
    this.#bodySeconds = options.bodyTimeout ?? BODY_SECONDS;
    this.#responseSeconds = options.responseTimeout ?? RESPONSE_SECONDS;
  }

  async #answer(request, target) {
    const body = await readBody(request, this.#bodySeconds);
    const words = [request.method, target, ...headersOf(request)];
    const job = native.webServe(this.#handle, words, body, 0);
    if (typeof job[BODY] !== 'string') return job;
    const [route, isHead, command, values] = job;
    const [code, text] = await run(command, values);
    const status = native.statusCodes.indexOf(code);
    return native.webAnswered(this.#handle, route, isHead, status === -1 ? native.statusCodes.length : status, text);
  }

  /** Answers, and never fails: what goes wrong is a response, or nobody is there. */
  async handle(request, response, target) {
    try {
      send(response, await this.#answer(request, target), this.#responseSeconds);
    } catch (error) {
      await this.refuse(request, response, error instanceof Refusal ? error : new Refusal(500, `memguard failed: ${textOf(error)}`));
    }
  }

  async refuse(request, response, refusal) {
    if (refusal === GONE) return;
    const { status, text } = refusal;
    try {
      const isSending = !isOver(response) && !request.complete && !request.destroyed;
      if (isSending && status !== LATE) await drain(request);
      if (isSending && !request.complete) response.setHeader('Connection', 'close');
      send(response, native.webRefuse(status, text.slice(0, 300)), this.#responseSeconds);
    } catch {
      response.destroy(); // it is not what a server makes
    }
  }
}

/* ---- where it stands --------------------------------------------------------------- */

const PATH_END = /[?#]/;

/** `target` as seen from `prefix`; null if it does not lie there. "" stands for the
 *  prefix itself without a "/". */
function below(prefix, target) {
  if (!target.startsWith(prefix)) return null;
  const rest = target.slice(prefix.length);
  return rest === '' || rest[0] === '/' || PATH_END.test(rest[0]) ? rest : null;
}

function knows(target) {
  const [path] = target.split(PATH_END, 1);
  return path === '' || ownPaths.has(path) || ownFolders.some((folder) => path.startsWith(folder));
}

// Links of the dashboard are relative to a folder. The last part of a path can name no
// other host.
function redirect(response, path) {
  if (isOver(response)) return;
  response.statusCode = 308;
  response.setHeader('Location', `./${path.slice(path.lastIndexOf('/') + 1)}/`);
  response.setHeader('Content-Length', 0);
  response.end();
}

/** What a framework cut off before the request came here. */
function mountOf(request) {
  const { originalUrl } = request;
  if (typeof originalUrl !== 'string') return null;
  const [path] = originalUrl.split(PATH_END, 1);
  return path.length > 1 && !path.endsWith('/') && /^\/?(\?|$)/.test(request.url) ? path : null;
}

function dispatch(site, prefix, request, response, next) {
  const target = below(prefix, request.url);
  if (target === null || (next !== undefined && !knows(target))) {
    if (next !== undefined) return next();
    return site.refuse(request, response, new Refusal(404, `the site lies under ${prefix}/`));
  }
  const bare = target === '' || PATH_END.test(target[0]);
  const folder = bare ? prefix : mountOf(request);
  if (folder !== null && ['GET', 'HEAD'].includes(request.method)) return redirect(response, folder);
  return site.handle(request, response, bare ? `/${target}` : target);
}

/** For plain http, Connect and Express. */
function middleware(given = {}) {
  const options = optionsOf(given, checks);
  const site = new Site(tokenOf(options), options);
  const prefix = options.prefix ?? '';
  return function memguard(request, response, next) {
    dispatch(site, prefix, request, response, next);
  };
}

const OF_FASTIFY = ['logLevel', 'logSerializers']; // options of register() itself

/** A plugin of Fastify: fastify.register(fastifyPlugin, { prefix: '/memguard' }). */
function fastifyPlugin(fastify, given, done) {
  try {
    const ours = Object.entries(given).filter(([name]) => !OF_FASTIFY.includes(name));
    const options = optionsOf(Object.fromEntries(ours), checks);
    const site = new Site(tokenOf(options), options);
    fastify.removeAllContentTypeParsers();
    fastify.addContentTypeParser('*', (request, payload, parsed) => parsed(null)); // we read it
    const handler = (request, reply) => {
      const next = fastify.prefix === '' ? () => reply.callNotFound() : undefined;
      const target = below(fastify.prefix, request.raw.url);
      if (next !== undefined && !knows(target)) return next();
      reply.hijack();
      return dispatch(site, fastify.prefix, request.raw, reply.raw);
    };
    fastify.all('/', handler);
    fastify.all('/*', handler);
    done();
  } catch (error) {
    done(error);
  }
}

module.exports = {
  Site, checks, dispatch, fastifyPlugin, middleware, optionsOf, requireBoolean, requireString, requireWithin, tokenOf,
};
