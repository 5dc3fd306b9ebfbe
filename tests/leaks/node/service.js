'use strict';
/* The loop that every program here runs: work at some pace, for a while. */

const { createRequire } = require('node:module');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { pathToFileURL } = require('node:url');

const TICK_MS = 50;
const SECONDS = Number(process.env.LEAK_SECONDS ?? 60); // of the whole run

/** A record in a cycle, such as any service makes and drops all the time. */
function makeGarbage(number) {
  const record = { number, values: new Array(16).fill(number) };
  record.self = record;
}

/** Awaits `work(n)` for n = 0, 1, 2 ... for SECONDS, `perTick` times every 50 ms;
 *  prints each second and at the end how often, then ends the process. `perTick` may
 *  be a function of the seconds since the start, for load that changes. */
async function serve(perTick, work) {
  const start = performance.now();
  const end = start + SECONDS * 1000;
  let operations = 0;
  let told = 0;
  for (let due = start; due < end; due = Math.max(due + TICK_MS, performance.now())) {
    await sleep(Math.max(0, due - performance.now()));
    const seconds = (performance.now() - start) / 1000;
    const count = typeof perTick === 'function' ? perTick(seconds) : perTick;
    for (let i = 0; i < count; i++) await work(operations++);
    for (let i = 0; i < 20; i++) makeGarbage(i);
    if (seconds < told + 1) continue;
    told = Math.floor(seconds);
    console.log(operations);
  }
  console.log(operations);
  process.exit(0); // what leaked may keep the loop alive
}

/** Load that comes every `everySeconds`, for `lengthSeconds`, and all at once. */
function bursts(perTick, everySeconds, lengthSeconds) {
  return (seconds) => (seconds % everySeconds < lengthSeconds ? perTick : 0);
}

/** Load that follows the day, between nothing and twice `perTick`. */
function wave(perTick, daySeconds) {
  return (seconds) => Math.round(perTick * (1 + Math.sin((2 * Math.PI * seconds) / daySeconds)));
}

/** Requires a package from the folder LEAK_MODULES, where the version to run is:
 *  an ordinary `require` would find the one this repository itself uses. */
function packaged(name) {
  return createRequire(path.join(process.env.LEAK_MODULES, 'program.js'))(name);
}

/** The same for a package that is an ES module. */
function imported(name) {
  const { resolve } = createRequire(path.join(process.env.LEAK_MODULES, 'program.js'));
  return import(pathToFileURL(resolve(name)).href);
}

module.exports = { SECONDS, bursts, imported, packaged, serve, wave };
