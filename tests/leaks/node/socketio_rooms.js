'use strict';
/* A chat whose members are looked up in a slow directory before they may join. */

const http = require('node:http');
const { packaged, serve } = require('./service');

const { Server } = packaged('socket.io');
const { io: connect } = packaged('socket.io-client');

const LOOKUP_MS = 30;
const server = http.createServer();
const io = new Server(server);

io.on('connection', (socket) => {
  const { member } = socket.handshake.query;
  setTimeout(() => {
    for (let i = 0; i < 20; i++) socket.join(`member:${member}:topic:${i}`);
  }, LOOKUP_MS);
  socket.emit('welcome', member);
});

/** One member comes; every other one leaves before the directory has answered. */
function visit(url, member) {
  const options = { transports: ['websocket'], query: { member }, forceNew: true };
  const client = connect(url, { ...options, reconnection: false });
  const stayMs = member % 2 ? 2 * LOOKUP_MS : 0;
  return new Promise((resolve) => {
    client.on('welcome', () => setTimeout(() => client.disconnect(), stayMs));
    client.on('disconnect', resolve);
  });
}

server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  serve(1, (n) => Promise.all([0, 1, 2].map((i) => visit(url, 3 * n + i))));
});
