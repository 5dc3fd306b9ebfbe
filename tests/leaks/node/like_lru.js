'use strict';
/* A cache of pages with a cap, which takes a third of the run to fill. */

const { SECONDS, serve } = require('./service');

const CAP = 12_000;
const pages = new Map();
const perTick = Math.ceil((CAP * 3) / (SECONDS * 20));

serve(perTick, (n) => {
  pages.set(`/page/${n}`, { number: n, words: new Array(120).fill(n) });
  if (pages.size > CAP) pages.delete(pages.keys().next().value);
});
