'use strict';

// What this process shows of itself, and what the memguard tool asks of it. Workers
// share the file of their process; the environment that started a monitor first
// answers.
const native = require('./native');
const { codes } = require('./errors');
const { warn } = require('./report');

const KINDS = ['scavenge', 'minor_mark_sweep', 'mark_sweep_compact', 'incremental_marking', 'weak_callbacks'];
const WHOLE_KINDS = 3; // the others are phases of a collection

let begun = false;

function programName() {
  const script = process.argv[1];
  if (typeof script !== 'string' || script === '') return 'node';
  return require('path').basename(script);
}

function serve(id, command, text) {
  require('./control').run(command, text).then(([code, answer]) => native.controlAnswer(id, code, answer));
}

/** Before a monitor starts. */
function begin() {
  if (begun) return;
  begun = true;
  native.segmentDescribe(programName(), process.versions.node, KINDS, WHOLE_KINDS);
}

/** Once the way from other threads to this one is open. */
function listen() {
  native.controlServe(serve);
}

/** Says once why nothing is published. */
function tellProblem() {
  const problem = native.segmentProblem();
  if (problem !== '') warn(`the memguard tool cannot see this process: ${problem}`, codes.ESYS);
}

/** Path of the file; null while there is none. */
function segmentPath() {
  const path = native.segmentPath();
  return path === '' ? null : path;
}

module.exports = { begin, listen, segmentPath, tellProblem };
