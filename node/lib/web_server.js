'use strict';

// A server of our own for the site of this process. It keeps no program alive, takes
// bounded time and room of it, and ends with its manager. http is not loaded before.
const native = require('./native');
const { Site, checks, dispatch, optionsOf, requireBoolean, requireString, requireWithin, tokenOf } = require('./web');
const { defineDisposal } = require('./disposal');
const { failure, kindOf, requireCount } = require('./errors');
const { reportOnce, textOf } = require('./report');

const PORT = 9478;
const PORT_MOST = 65535;
const CONNECTIONS = 128; // at once; then idle ones are closed, oldest first
const HEADERS_BYTES = 16384;
const HEADERS_MS = 10_000;
const REQUEST_MS = 20_000;
const IDLE_MS = 5000;
const LOOK_MS = 2000; // for requests that take too long
const CLOSE_MS = 1000; // for answers under way

const serverChecks = {
  ...checks,
  host: (value) => requireString(value, 'host'),
  port(value) {
    requireWithin(value, 'port', 0, PORT_MOST);
    requireCount(value, 'port', 0);
  },
  allowRemote: (value) => requireBoolean(value, 'allowRemote'),
  manager(value) {
    if (typeof value?.managedResource !== 'function') {
      throw failure('ETYPE', `manager must be a ResourceManager, not ${kindOf(value)}`);
    }
  },
};
delete serverChecks.prefix; // the server is all ours

const ANY_ADDRESS = ['', '0.0.0.0', '::'];

// Elsewhere than on loopback a site is for those who have its token.
function siteOf(host, options) {
  const token = tokenOf(options);
  if (native.webIsLoopback(host)) return new Site(token, options);
  const what = `host is ${JSON.stringify(host)}`;
  if (options.allowRemote !== true) {
    throw failure('EINVAL', `${what}, allowed: 127.0.0.1, ::1 or localhost; any other only with allowRemote: true and a token`);
  }
  if (token === '') throw failure('ECONFLICT', `${what} and there is no token, allowed: a host of loopback, or a token`);
  const own = ANY_ADDRESS.includes(host) ? [] : [host.includes(':') ? `[${host}]` : host];
  return new Site(token, { ...options, readNeedsToken: true, allowedHosts: [...(options.allowedHosts ?? []), ...own] });
}

/* ---- requests that are none --------------------------------------------------- */

const REFUSALS = {
  HPE_HEADER_OVERFLOW: [431, `the headers are larger than ${HEADERS_BYTES} bytes`],
  ERR_HTTP_REQUEST_TIMEOUT: [408, `the request did not come within ${REQUEST_MS / 1000} s`],
};

// Written by hand: there is no response object for what was no request.
function refuse(error, socket) {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const [status, text] = REFUSALS[error.code] ?? [400, `this is no HTTP request: ${textOf(error)}`];
  const { STATUS_CODES } = require('http');
  const [, , body, ...headers] = native.webRefuse(status, text);
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, 'Connection: close', `Content-Length: ${body.length}`];
  for (let at = 0; at < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`);
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`);
  socket.destroySoon();
}

/* ---- the server ----------------------------------------------------------------- */

function newServer(onRequest) {
  const options = {
    maxHeaderSize: HEADERS_BYTES,
    headersTimeout: HEADERS_MS,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: IDLE_MS,
    connectionsCheckingInterval: LOOK_MS,
  };
  const server = require('http').createServer(options, onRequest);
  server.headersTimeout = HEADERS_MS; // where the options do not know them
  server.requestTimeout = REQUEST_MS;
  server.keepAliveTimeout = IDLE_MS;
  return server.on('clientError', refuse);
}

class WebServer {
  #server;
  #sockets = new Set(); // oldest first
  #busy = new Set(); // those of a request under way
  #isKept = false; // whether it keeps the process alive
  #resource = null;
  #closed = null;

  constructor(site) {
    this.#server = newServer((request, response) => {
      const { socket } = request;
      this.#busy.add(socket);
      response.once('close', () => this.#busy.delete(socket));
      dispatch(site, '', request, response);
    });
    this.#server.unref();
    this.#server.on('connection', (socket) => this.#take(socket));
  }

  // Idle connections may not keep others out.
  #take(socket) {
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#busy.delete(socket);
    });
    if (!this.#isKept) socket.unref();
    if (this.#sockets.size <= CONNECTIONS) return;
    for (const one of this.#sockets) {
      if (this.#busy.has(one)) continue;
      one.destroy();
      return;
    }
  }

  /** For serve(): listens, or throws. */
  async listen(host, port, manager) {
    if (manager !== undefined) this.#resource = manager.managedResource(this, () => this.#end());
    const server = this.#server;
    try {
      await new Promise((resolve, reject) => {
        server.once('error', reject);
        // A worker of a cluster shows itself, not whichever worker is asked.
        server.listen({ host, port, exclusive: true }, () => {
          server.removeListener('error', reject);
          resolve();
        });
      });
    } catch (error) {
      this.close();
      throw failure('ESYS', `cannot listen on host ${host}, port ${port}: ${textOf(error)}`);
    }
    server.on('error', (error) => reportOnce(server, 'the server of memguard', error));
    return this;
  }

  get address() {
    const { address, port } = this.#server.address() ?? { address: null, port: null };
    return { host: address, port };
  }

  get url() {
    const { host, port } = this.address;
    if (host === null) return null;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}/`;
  }

  get isClosed() {
    return this.#closed !== null;
  }

  ref() {
    this.#isKept = true;
    this.#server.ref();
    return this;
  }

  unref() {
    this.#isKept = false;
    this.#server.unref();
    for (const socket of this.#sockets) socket.unref();
    return this;
  }

  close() {
    this.#end();
    this.#resource?.dispose();
    this.#resource = null;
    return this.#closed;
  }

  #end() {
    this.#closed ??= new Promise((resolve) => {
      const timer = setTimeout(() => this.#cut(), CLOSE_MS);
      timer.unref();
      this.#server.close(() => {
        clearTimeout(timer);
        resolve();
      });
      if (typeof this.#server.closeIdleConnections === 'function') this.#server.closeIdleConnections();
      else this.#cut();
    });
    return this.#closed;
  }

  #cut() {
    for (const socket of this.#sockets) socket.destroy();
  }
}

defineDisposal(WebServer);

/** Serves the site of this process. */
async function serve(given = {}) {
  const { host = '127.0.0.1', port = PORT, manager, ...options } = optionsOf(given, serverChecks);
  return new WebServer(siteOf(host, options)).listen(host, port, manager);
}

module.exports = { WebServer, serve };
