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

/** Code that was made of the program's text, with what belongs to it: part of the
 *  heap that is used. V8 looks through its old spaces for it, some ms. NaN where it
 *  is not told. */
function codeBytes() {
  if (typeof loaded().getHeapCodeStatistics !== 'function') return NaN;
  const { code_and_metadata_size: code, bytecode_and_metadata_size: bytecode } = loaded().getHeapCodeStatistics();
  return code + bytecode;
}

function setFlags(flags) {
  loaded().setFlagsFromString(flags);
}

module.exports = { codeBytes, heapStatistics, setFlags };
