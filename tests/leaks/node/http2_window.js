'use strict';
/* An HTTP/2 server, and peers that open their window further than the protocol
 * allows before they leave. */

const http2 = require('node:http2');
const net = require('node:net');
const { once } = require('node:events');
const { serve } = require('./service');

function frame(type, payload) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  return Buffer.concat([head, payload]);
}

const greeting = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(4, Buffer.alloc(0)),
  frame(8, Buffer.from([0x7f, 0xff, 0xff, 0xff])),
]);

const server = http2.createServer((request, response) => response.end('hello'));
server.on('sessionError', () => {});

server.listen(0, '127.0.0.1', () => {
  serve(1, async () => {
    const peer = net.connect(server.address().port, '127.0.0.1');
    peer.on('error', () => {});
    await once(peer, 'connect');
    peer.write(greeting);
    peer.resume();
    await new Promise((resolve) => setTimeout(resolve, 10));
    peer.destroy();
  });
});
