'use strict';
/* Events gathered in memory, written in one piece every few seconds. */

const zlib = require('node:zlib');
const { promisify } = require('node:util');
const { serve } = require('./service');

const pack = promisify(zlib.gzip);
const BATCH = 9000;
let batch = [];

serve(90, async (n) => {
  batch.push({ n, at: Date.now(), values: new Array(60).fill(n) });
  if (batch.length < BATCH) return;
  await pack(JSON.stringify(batch.slice(0, 500)));
  batch = [];
});
