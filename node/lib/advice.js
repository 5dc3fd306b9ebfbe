'use strict';

// The core's decisions about V8's spaces and about collections at idle.
const native = require('./native');

const HEADROOM = 0.25; // as the core's MG_V8_HEADROOM

const view = new Float64Array(4);
const out = new Float64Array(6);

/** How large V8's spaces should be. @param limitBytes NaN: unknown. */
function v8Advice(limitBytes, nodeMajor, headroom, share) {
  view.set([limitBytes, nodeMajor, headroom, share]);
  native.v8Advice(view, out);
  const [oldSpaceMb, semiSpaceMb, youngMb, isCapped, isTight, takesSemiOption] = out;
  return {
    oldSpaceMb: Number.isNaN(oldSpaceMb) ? null : oldSpaceMb,
    semiSpaceMb,
    youngMb,
    isCapped: isCapped === 1,
    isTight: isTight === 1,
    takesSemiOption: takesSemiOption === 1,
  };
}

/** When to collect because nobody waits. */
class Idle {
  #state = new Float64Array(4); // is idle, since, last collection, was there one
  #view = new Float64Array(4);

  /** @param load 0 to 1; NaN: unknown. */
  due(config, nowMs, load, expectedMs, isWorth) {
    this.#view.set([nowMs, load, expectedMs, isWorth ? 1 : 0]);
    return native.idleDue(config, this.#state, this.#view);
  }

  get isIdle() {
    return this.#state[0] === 1;
  }
}

module.exports = { HEADROOM, Idle, v8Advice };
