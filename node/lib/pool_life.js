'use strict';

// What all pools of this isolate go by: the time, the level of memory pressure, and
// the moment to give freed memory on to the system.
//
// One timer, there only while a pool has memory; it keeps no process alive. A pool
// that was dropped without close() stays until ticks have given its memory up.
const native = require('./native');
const { reportOnce } = require('./report');
const { at } = require('./sample');

const LEVEL_NORMAL = native.levelNames.indexOf('normal');
const LEVEL_CRITICAL = native.levelNames.indexOf('critical');
const { tickMs } = native.poolConstants;
const SETTLE_LEAST_BYTES = 1048576;
const SETTLE_SOON_BYTES = 67108864;
const SETTLE_LEAST_MS = 10_000; // it looks through all that malloc has
const SWEEP_LEAST_SLOTS = 4096; // one leaves some 500 bytes of V8's heap behind
const SWEEP_LEAST_MS = 10_000;

const pools = new Set(); // those with memory
const monitors = new Set(); // that run
// What was freed, but is still with malloc, and with V8.
const left = { bytes: 0, slots: 0, settledAt: -Infinity, sweptAt: -Infinity, isSweptOnce: false };
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
  if (left.bytes < SETTLE_LEAST_BYTES) return;
  if (left.bytes < SETTLE_SOON_BYTES && now - left.settledAt < SETTLE_LEAST_MS) return;
  left.bytes = 0;
  left.settledAt = now;
  native.poolSettle();
}

// After a burst V8 may see no reason to collect for hours. Twice, when it is over: what
// a FinalizationRegistry has of a slot goes with the second collection. What V8 frees
// is settled later.
function sweep(now) {
  if (left.slots < SWEEP_LEAST_SLOTS || now - left.sweptAt < SWEEP_LEAST_MS) return;
  left.isSweptOnce = !left.isSweptOnce;
  left.slots = left.isSweptOnce ? SWEEP_LEAST_SLOTS : 0;
  left.sweptAt = now;
  left.bytes += SETTLE_LEAST_BYTES;
  native.poolSweep();
}

function tick(now = nowMs()) {
  const before = left.bytes;
  press();
  for (const pool of [...pools]) pool.tick(stampOf(now));
  if (left.bytes === before) sweep(now);
  settle(now);
  if (pools.size > 0 || left.bytes >= SETTLE_LEAST_BYTES || left.slots >= SWEEP_LEAST_SLOTS) return;
  clearInterval(timer);
  timer = null;
}

function tickSafely() {
  try {
    tick();
  } catch (error) {
    reportOnce(tick, 'trimming of pools', error);
  }
}

/** A pool that has memory from now on. */
function enter(pool) {
  pool.stamp = stampOf(nowMs());
  pools.add(pool);
  if (timer === null) timer = setInterval(tickSafely, tickMs).unref();
}

function leave(pool) {
  pools.delete(pool);
}

function freed(bytes, slots) {
  left.bytes += bytes;
  left.slots += slots;
}

function follow(core) {
  monitors.add(core);
}

function unfollow(core) {
  if (monitors.delete(core)) press();
}

module.exports = { LEVEL_CRITICAL, LEVEL_NORMAL, enter, follow, freed, leave, level, press, tick, unfollow };
