'use strict';

// What has to be ended when the process ends, newest first. One listener per
// process, there only while something is held; it keeps nothing alive that the
// event loop would wait for.
const { beginExit, textOf, warn } = require('./report');

const live = new Map();

function endAll() {
  beginExit();
  for (const end of [...live.values()].reverse()) {
    try {
      end();
    } catch (error) {
      warn(`clean-up at exit failed: ${textOf(error)}`);
    }
  }
}

/** Keeps `owner` alive and calls `end` at exit, until letGo(). */
function hold(owner, end) {
  if (live.size === 0) process.on('exit', endAll);
  live.set(owner, end);
}

function letGo(owner) {
  if (live.delete(owner) && live.size === 0) process.removeListener('exit', endAll);
}

module.exports = { hold, letGo };
