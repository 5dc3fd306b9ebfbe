'use strict';
/* A cache of pages with a cap, a few of which are asked for most of the time: it
 * fills ever more slowly, for nearly half of the run. */

const { serve } = require('./service');

const CAP = 12_000;
const PAGES = 20_000;
const pages = new Map();

let state = 5;
/** Evenly between 0 and 1: a linear congruence, the same in each run. */
function random() {
  state = (state * 1664525 + 1013904223) % 2 ** 32;
  return state / 2 ** 32;
}

/** Zipf's law with an exponent of 0.9, by its inverse. */
function popular() {
  return Math.floor(((PAGES ** 0.1 - 1) * random() + 1) ** 10);
}

serve(75, () => {
  const key = `/page/${popular()}`;
  const page = pages.get(key) ?? { key, words: new Array(50).fill(0) };
  pages.delete(key); // the one used last comes last
  pages.set(key, page);
  if (pages.size > CAP) pages.delete(pages.keys().next().value);
});
