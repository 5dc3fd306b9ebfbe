'use strict';
/* Clients that stay connected: their number grows to what the service is made
 * for. */

const net = require('node:net');
const { once } = require('node:events');
const { SECONDS, serve } = require('./service');

const CLIENTS = 24;
const clients = [];
const server = net.createServer((socket) => socket.on('data', (data) => socket.write(data)));
const load = (seconds) => (seconds > (SECONDS * clients.length) / (3 * CLIENTS) ? 2 : 1);

async function greet(client, n) {
  client.write(`hello ${n}`);
  await once(client, 'data');
}

server.listen(0, '127.0.0.1', () => {
  serve(load, async (n) => {
    if (n % 2 && clients.length < CLIENTS) {
      const client = net.connect(server.address().port, '127.0.0.1');
      await once(client, 'connect');
      clients.push(client);
    }
    if (clients.length) await greet(clients[n % clients.length], n);
  });
});
