'use strict';
/* A poller whose requests share one token, so that shutdown can cancel them all. */

const http = require('node:http');
const { packaged, serve } = require('./service');

const axios = packaged('axios');

const shutdown = axios.CancelToken.source();
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const server = http.createServer((request, response) => response.end('{"ok":true}'));

server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}/health`;
  serve(8, () =>
    axios.get(url, { cancelToken: shutdown.token, httpAgent: agent, proxy: false }),
  );
});
