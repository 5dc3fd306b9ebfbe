'use strict';
/* Sessions that end after a while; from a third of the run on twice as many come. */

const { SECONDS, serve } = require('./service');

const STAY_MS = SECONDS * 100;
const sessions = new Map();

const load = (seconds) => (seconds < SECONDS / 3 ? 30 : 60);

serve(load, (n) => {
  const timer = setTimeout(() => sessions.delete(n), STAY_MS);
  sessions.set(n, { user: `user ${n}`, cart: new Array(60).fill(n), timer });
});
