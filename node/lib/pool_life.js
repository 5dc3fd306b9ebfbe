'use strict';

// What all pools of this isolate go by: the time, the level of memory pressure, and
// the moment to give freed memory on to the system.
//
// One timer, there only while a pool has memory; it keeps no process alive. A pool
// that was dropped without close() stays until ticks have given its memory up.
const native = require('./native');
const { at } = require('./sample');

const LEVEL_NORMAL = native.levelNames.indexOf('normal');
const LEVEL_CRITICAL = native.levelNames.indexOf('critical');
const { tickMs } = native.poolConstants;
const SETTLE_LEAST_BYTES = 1048576;
const SETTLE_LEAST_MS = 10_000; // it looks through all that malloc has

const pools = new Set(); // those with memory
const monitors = new Set(); // that run
const freedNow = { bytes: 0, settledAt: -Infinity }; // not yet given on
let timer = null;

function nowMs() {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

function stampOf(now) {
  return 1 + Math.floor(now / tickMs);
}

/** The strictest level that a running monitor of this isolate sees. */
function level() {
  let highest = LEVEL_NORMAL;
  for (const { values } of monitors) highest = Math.max(highest, values[at.level] || LEVEL_NORMAL);
  return highest;
}

/** Tells the pools the level there is now. */
function press() {
  if (pools.size === 0) return;
  const now = level();
  for (const pool of [...pools]) pool.tellLevel(now);
}

function settle(now) {
  if (freedNow.bytes < SETTLE_LEAST_BYTES || now - freedNow.settledAt < SETTLE_LEAST_MS) return;
  freedNow.bytes = 0;
  freedNow.settledAt = now;
  native.poolSettle();
}

function tick(now = nowMs()) {
  press();
  for (const pool of [...pools]) pool.tick(stampOf(now));
  settle(now);
  if (pools.size === 0 && freedNow.bytes < SETTLE_LEAST_BYTES) {
    clearInterval(timer);
    timer = null;
  }
}

/** A pool that has memory from now on. */
function enter(pool) {
  pool.stamp = stampOf(nowMs());
  pools.add(pool);
  if (timer === null) timer = setInterval(tick, tickMs, undefined).unref();
}

function leave(pool) {
  pools.delete(pool);
}

function freed(bytes) {
  freedNow.bytes += bytes;
}

function follow(core) {
  monitors.add(core);
}

function unfollow(core) {
  if (monitors.delete(core)) press();
}

module.exports = { LEVEL_CRITICAL, LEVEL_NORMAL, enter, follow, freed, leave, level, press, tick, unfollow };
