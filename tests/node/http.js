'use strict';

// A client of HTTP for the tests, and servers that are stopped.
const http = require('http');
const net = require('net');

const GOOD_TOKEN = 'a-token-of-the-tests';
const AUTHORIZED = { Authorization: `Bearer ${GOOD_TOKEN}`, 'X-Memguard': '1' };

/** One request on a connection of its own.
 *  @returns { status, headers, text, json } */
function ask(port, path, { method = 'GET', headers = {}, body = undefined, host = '127.0.0.1' } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, path, method, headers, agent: false }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(parts).toString();
        const isJson = /json/.test(response.headers['content-type']) && text !== '';
        resolve({ status: response.statusCode, headers: response.headers, text, json: isJson ? JSON.parse(text) : null });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Sends `text` as it is. @returns all that comes back until the connection ends. */
function askRaw(port, text) {
  return new Promise((resolve) => {
    let answer = '';
    const socket = net.connect(port, '127.0.0.1', () => socket.write(text));
    socket.setEncoding('latin1').on('data', (part) => {
      answer += part;
    });
    socket.on('error', () => {}).on('close', () => resolve(answer));
  });
}

const servers = new Set();

/** Starts a server of plain http. @returns its port. */
async function listen(handler) {
  const server = http.createServer(handler);
  servers.add(server);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: server.address().port, server };
}

async function stopServers() {
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  servers.clear();
}

module.exports = { AUTHORIZED, GOOD_TOKEN, ask, askRaw, listen, stopServers };
