'use strict';
/* A client of an old device, which now and then answers a request twice. */

const http = require('node:http');
const net = require('node:net');
const { serve } = require('./service');

const answer = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';
const error = 'HTTP/1.1 400 Bad Request\r\ncontent-length: 50\r\n\r\nwhat';
let asked = 0;
const device = net.createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', () => socket.write(++asked % 2 ? answer : answer + error));
});

const agent = new http.Agent({ keepAlive: true });

device.listen(0, '127.0.0.1', () => {
  const { port } = device.address();
  const ask = () =>
    new Promise((resolve) => {
      const request = http.get({ host: '127.0.0.1', port, agent }, (response) => {
        response.on('end', resolve).resume();
      });
      request.on('error', resolve);
    });
  serve(6, ask);
});
