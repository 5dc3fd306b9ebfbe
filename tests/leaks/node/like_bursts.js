'use strict';
/* A queue that fills in bursts, faster than it can be worked off. */

const { bursts, serve } = require('./service');

const queue = [];

setInterval(() => {
  for (const job of queue.splice(0, 120)) job.rows.length = 0;
}, 20);

serve(bursts(1600, 4, 0.5), (n) => {
  queue.push({ n, rows: new Array(80).fill(n), body: Buffer.alloc(300) });
});
