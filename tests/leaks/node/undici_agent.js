'use strict';
/* Webhooks: each customer has a host of their own, called now and then. */

const http = require('node:http');
const { packaged, serve } = require('./service');

const { Agent, request } = packaged('undici');

const server = http.createServer((_, response) => {
  response.setHeader('connection', 'close');
  response.end('thank you');
});
const here = [{ address: '127.0.0.1', family: 4 }];
const agent = new Agent({ connect: { lookup: (_, options, done) => done(null, here) } });

server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  serve(2, async (n) => {
    const url = `http://customer-${n}.test:${port}/hook`;
    const { body } = await request(url, { dispatcher: agent, method: 'POST', body: `${n}` });
    await body.text();
  });
});
