'use strict';

// Rounds and medians for the scripts of this folder.

const ROUNDS = 9;

/** Median time of one call of `run`, in ns. */
function medianNs(run, calls) {
  const rounds = [];
  for (let round = 0; round < ROUNDS + 1; round++) {
    const began = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) run(i);
    rounds.push(Number(process.hrtime.bigint() - began) / calls);
  }
  rounds.shift(); // the compiler's warm-up
  rounds.sort((a, b) => a - b);
  return rounds[ROUNDS >> 1];
}

function print(name, unit, ours, peer, peerName) {
  console.log(JSON.stringify({ name, unit, ours, peer, peer_name: peerName }));
}

module.exports = { medianNs, print };
