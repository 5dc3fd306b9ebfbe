'use strict';

// What goes wrong in code of the host is reported here and stops nothing: one
// process warning ('MemguardWarning') per callback, so that a callback which
// fails on every sample does not fill a log.
const fs = require('fs');
const { codes } = require('./errors');

const reported = new WeakSet();
const reportedValues = new Set(); // what a host put in place of a function
const waiting = new Set(); // warnings that the next tick will emit
let exiting = false;

/** From now on warnings are written at once: no tick is left to emit them. */
function beginExit() {
  exiting = true;
  for (const { text, code } of waiting) write(text, code);
  waiting.clear();
}

function isExiting() {
  return exiting;
}

function write(text, code) {
  try {
    fs.writeSync(2, `(memguard:${process.pid}) [${code}] ${text}\n`);
  } catch {
    // stderr is closed: there is no one left to tell.
  }
}

function warn(text, code = codes.EHOST, detail = undefined) {
  if (exiting) {
    write(text, code);
    return;
  }
  const entry = { text, code };
  waiting.add(entry);
  process.emitWarning(text, { type: 'MemguardWarning', code, detail });
  process.nextTick(() => waiting.delete(entry));
}

/** The text of anything that can be thrown. */
function textOf(error) {
  try {
    return error instanceof Error || typeof error?.message === 'string' ? error.message : String(error);
  } catch {
    return 'a value without a text';
  }
}

function stackOf(error) {
  try {
    return typeof error?.stack === 'string' ? error.stack : undefined;
  } catch {
    return undefined;
  }
}

/** Warns that `callback` of the host failed; only the first time. */
function reportOnce(callback, what, error) {
  const seen = Object(callback) === callback ? reported : reportedValues;
  if (seen.has(callback)) return;
  seen.add(callback);
  warn(`${what} failed: ${textOf(error)} (further failures of it are not reported)`, codes.EHOST, stackOf(error));
}

function isThenable(value) {
  return value !== null && (typeof value === 'object' || typeof value === 'function') && typeof value.then === 'function';
}

/** Calls code of the host; reports what it throws or rejects with.
 *  @returns whether it did not throw. */
function callSafely(callback, receiver, values, what) {
  try {
    const result = Reflect.apply(callback, receiver, values);
    if (isThenable(result)) result.then(undefined, (error) => reportOnce(callback, what, error));
    return true;
  } catch (error) {
    reportOnce(callback, what, error);
    return false;
  }
}

/** As emitter.emit(), but a listener that throws neither stops the others nor us. */
function emitSafely(emitter, name, payload) {
  const values = payload === undefined ? [] : [payload];
  for (const listener of emitter.rawListeners(name)) {
    callSafely(listener, emitter, values, `a listener of '${name}'`);
  }
}

module.exports = { beginExit, callSafely, emitSafely, isExiting, isThenable, reportOnce, textOf, warn };
