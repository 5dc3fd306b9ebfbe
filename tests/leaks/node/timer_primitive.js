'use strict';
/* A job runner that knows the timers of its jobs by number, as a browser would. */

const { serve } = require('./service');

const running = new Map();

function start(job) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      running.delete(job.id);
      resolve(job.rows.length);
    }, 1);
    running.set(job.id, Number(timer));
  });
}

serve(4, (n) => {
  const rows = Array.from({ length: 400 }, (_, i) => n + i);
  return start({ id: n, rows });
});
