'use strict';

// Real servers for the tests, on free ports of the loopback, and a proxy in front
// of them that can break a connection in the middle.
const { spawn } = require('child_process');
const net = require('net');
const { temporaryDirectory, until } = require('./helpers');

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Whether something listens there. */
function answers(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    const end = (isThere) => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once('connect', () => end(true)).once('error', () => end(false));
  });
}

const running = new Set();

// A server ends with its test, also when that is killed: then its stdin closes.
const WATCHED = 'exec 3<&0; (cat <&3 >/dev/null; kill -KILL $$) & exec "$@" </dev/null 3<&-';
// Debian keeps some servers where users have no PATH to.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` };
const ATTEMPTS = 5; // somebody else may take a free port first

/** Starts a server and waits until it answers.
 *  @param words (port, directory) => command line.
 *  @returns { port, url, stop } */
async function start(scheme, words) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startAt(await freePort(), scheme, words);
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

async function startAt(port, scheme, words) {
  const command = words(port, temporaryDirectory());
  const child = spawn('sh', ['-c', WATCHED, 'sh', ...command], { env, stdio: ['pipe', 'ignore', 'ignore'] });
  child.stdin.on('error', () => {});
  const ended = new Promise((resolve) => child.once('close', resolve).once('error', resolve));
  const stop = async () => {
    running.delete(stop);
    child.stdin.end();
    await ended;
  };
  running.add(stop);
  let isThere = false;
  const asking = setInterval(() => answers(port).then((yes) => (isThere ||= yes)), 20);
  try {
    await until(() => isThere || child.exitCode !== null, 30);
  } finally {
    clearInterval(asking);
  }
  if (!isThere || child.exitCode !== null) {
    await stop();
    throw new Error(`${command[0]} ended with ${child.exitCode}`);
  }
  return { port, url: `${scheme}://127.0.0.1:${port}`, stop };
}

/** @param options words of the command line, or (port) => words.
 *  @param port of a server that was stopped and is to be there again. */
function startRedis(options = [], port = undefined) {
  const words = (number, directory) => [
    'redis-server', '--bind', '127.0.0.1', '--port', String(number), '--save', '', '--appendonly', 'no',
    '--dir', directory, ...(typeof options === 'function' ? options(number) : options),
  ];
  return port === undefined ? start('redis', words) : startAt(port, 'redis', words);
}

function startNats() {
  return start('nats', (number) => ['nats-server', '--addr', '127.0.0.1', '--port', String(number)]);
}

/** Stands before a server.
 *  @returns port; cutAfter(bytes), cutBackAfter(bytes): lets so many more through to
 *  the server, to the client, then cuts; heal(); cut(); freeze(): passes nothing
 *  on any more; stop() */
async function startProxy(target) {
  const pairs = new Set();
  const left = { to: Infinity, back: Infinity }; // bytes that still get through
  const cut = () => {
    for (const socket of pairs) socket.destroy();
    pairs.clear();
    left.back = Infinity;
  };
  function pass(from, into, way) {
    from.on('data', (bytes) => {
      const count = Math.min(left[way], bytes.length);
      left[way] -= count;
      if (count === bytes.length) {
        into.write(bytes);
        return;
      }
      from.pause();
      // What comes back meanwhile still arrives.
      if (left.isFrozen !== true) into.write(bytes.subarray(0, count), () => setTimeout(cut, 50));
    });
  }
  const server = net.createServer((client) => {
    const upstream = net.connect(target, '127.0.0.1');
    for (const socket of [client, upstream]) {
      pairs.add(socket);
      socket.on('error', () => {}).on('close', () => {
        client.destroy();
        upstream.destroy();
      });
    }
    pass(client, upstream, 'to');
    pass(upstream, client, 'back');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stop = async () => {
    running.delete(stop);
    cut();
    await new Promise((resolve) => server.close(resolve));
  };
  running.add(stop);
  return {
    port: server.address().port,
    cutAfter(bytes) {
      left.to = bytes;
    },
    cutBackAfter(bytes) {
      left.back = bytes;
    },
    freeze() {
      Object.assign(left, { to: 0, isFrozen: true });
    },
    heal() {
      left.to = left.back = Infinity;
    },
    cut,
    stop,
  };
}

async function stopServers() {
  await Promise.all([...running].map((stop) => stop()));
}

module.exports = { freePort, startAt, startNats, startProxy, startRedis, stopServers };
