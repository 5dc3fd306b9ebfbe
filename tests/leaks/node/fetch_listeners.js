'use strict';
/* A client that keeps its connection and gets its answers in chunks. */

const http = require('node:http');
const { imported, serve } = require('./service');

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const server = http.createServer((request, response) => {
  response.write('one, ');
  response.end('two');
});

server.listen(0, '127.0.0.1', async () => {
  const { default: fetch } = await imported('node-fetch');
  const url = `http://127.0.0.1:${server.address().port}/`;
  serve(3, async () => (await fetch(url, { agent })).text());
});
