'use strict';
/* The last lines of the log, kept in a ring for whoever asks. */

const { SECONDS, serve } = require('./service');

const RING = 15_000;
const lines = new Array(RING);

const perTick = Math.ceil((RING * 6) / (SECONDS * 20)); // full after a sixth of the run

serve(perTick, (n) => {
  const tags = new Array(40).fill(n);
  lines[n % RING] = { at: Date.now(), text: `request ${n} answered`, tags };
});
