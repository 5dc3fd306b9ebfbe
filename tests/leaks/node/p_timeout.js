'use strict';
/* Calls with a time limit each, all under one signal that means shutdown. They
 * come in bursts. */

const { bursts, imported, serve } = require('./service');

const stopping = new AbortController();

async function call(n) {
  await null;
  return new Array(30).fill(n);
}

const limits = { milliseconds: 1000, signal: stopping.signal };

imported('p-timeout').then(({ default: pTimeout }) =>
  serve(bursts(150, 2, 0.2), (n) => pTimeout(call(n), limits)),
);
