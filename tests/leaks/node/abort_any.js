'use strict';
/* A service whose calls stop when their own time is up or when the service stops. */

const { serve } = require('./service');

const stopping = new AbortController();

async function call(n) {
  const own = new AbortController();
  const signal = AbortSignal.any([stopping.signal, own.signal]);
  const answer = { n, rows: new Array(50).fill(n) };
  signal.addEventListener('abort', () => answer.rows.fill(0));
  setTimeout(() => own.abort(), 5); // it had its time
  return answer;
}

serve(30, call);
