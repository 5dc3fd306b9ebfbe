'use strict';

// The module v8 takes longer to load than all of memguard's own: not before it is
// needed.
let v8 = null;

function loaded() {
  v8 ??= require('v8');
  return v8;
}

function heapStatistics() {
  return loaded().getHeapStatistics();
}

function setFlags(flags) {
  loaded().setFlagsFromString(flags);
}

module.exports = { heapStatistics, setFlags };
