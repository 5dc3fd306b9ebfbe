'use strict';
/* Visitors come and go with the day: each morning their number grows. */

const { SECONDS, serve, wave } = require('./service');

const STAY_MS = 2000;
const visitors = new Map();

serve(wave(90, SECONDS / 4), (n) => {
  const now = performance.now();
  visitors.set(n, { until: now + STAY_MS, cart: new Array(100).fill(n) });
  for (const [id, { until }] of visitors) {
    if (until > now) break;
    visitors.delete(id);
  }
});
