'use strict';

// Loaded by a Node that `memguard run` started, before its program (--require). The
// main thread's manager watches the process; Workers are part of it.
//
// A program must run as it would without us: whatever fails is one line on stderr.
const { isMainThread } = require('worker_threads');

const MANAGER = Symbol.for('memguard.start');

function begin() {
  try {
    const { ResourceManager } = require('./index.js');
    globalThis[MANAGER] ??= new ResourceManager();
    if (process.env.MEMGUARD_VERDICT_DIR) require('./lib/verdict').tell(globalThis[MANAGER]);
  } catch (error) {
    process.stderr.write(`memguard: not started in Node ${process.versions.node}: ${error.message}\n`);
  }
}

if (isMainThread) begin();
