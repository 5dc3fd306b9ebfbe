'use strict';
/* Templates compiled into functions when first used, and made fast by the engine
 * one after another: code and its feedback grow for a third of the run. */

const { SECONDS, serve } = require('./service');

const TEMPLATES = 300;
const compiled = [];

function compile(number) {
  const lines = Array.from({ length: 60 }, (_, i) => `sum += row.a * ${i} + row.b - ${number};`);
  return new Function('row', `let sum = 0; ${lines.join(' ')} return 't' + sum;`);
}

const start = performance.now();

serve(60, (n) => {
  const share = (performance.now() - start) / 1000 / (SECONDS / 3);
  const known = Math.min(TEMPLATES, Math.ceil(TEMPLATES * share));
  while (compiled.length < known) compiled.push(compile(compiled.length));
  const template = compiled[n % compiled.length];
  let length = 0;
  for (let i = 0; i < 50; i++) length += template({ a: n, b: i }).length;
  return length;
});
