'use strict';

// Which of all that grew explains a leak: the order in which culprits are told. Pure.
//
// First who can be looked up in the program: places that allocate, and types that
// have a name of their own, by turns and the largest share first. What every program
// is made of - objects, arrays, functions - grows along with them, mostly by more, and
// helps only where nothing else grew.
const CULPRITS = 8;
const LEAST_SHARE = 0.05; // of all that grew of its kind
const LISTENERS = 2; // one leaked emitter may have many
const RARE_SHARE = 0.01; // one leaked thing may be made of a hundred parts

const GENERIC = new Set([
  'Object', 'Array', 'Function', 'AsyncFunction', 'GeneratorFunction', 'AsyncGeneratorFunction', 'Generator', 'AsyncGenerator',
  'Iterator', 'AsyncIterator', 'Map', 'Set', 'WeakMap', 'WeakSet', 'WeakRef', 'FinalizationRegistry', 'Promise', 'Symbol', 'String',
  'Number', 'Boolean', 'BigInt', 'Date', 'RegExp', 'Error', 'ArrayBuffer', 'SharedArrayBuffer', 'DataView', 'Buffer', 'FastBuffer',
  'Uint8Array', 'Uint8ClampedArray', 'Uint16Array', 'Uint32Array', 'Int8Array', 'Int16Array', 'Int32Array', 'Float32Array',
  'Float64Array', 'BigInt64Array', 'BigUint64Array', 'Module', '(anonymous)', '(other)',
]);

function byShare(one, other) {
  return other.share - one.share;
}

/** Elements of both lists by turns; the one with the larger share begins. */
function byTurns(some, others) {
  const [first, second] = (some[0]?.share ?? 0) >= (others[0]?.share ?? 0) ? [some, others] : [others, some];
  return first.flatMap((row, index) => [row, ...second.slice(index, index + 1)]).concat(second.slice(first.length));
}

/** Rows of counts as shares of all objects that grew: one object more and one entry
 *  more are about the same news. */
function shared(rows, types) {
  const all = types.reduce((sum, { growth, share }) => (share > 0 ? Math.max(sum, growth / share) : sum), 0);
  return rows.map((row) => ({ ...row, share: all > 0 ? Math.min(1, row.growth / all) : row.share }));
}

function isLarge({ share }) {
  return share >= LEAST_SHARE;
}

/** Those that are large enough; else the largest, unless it is nothing. */
function telling(rows) {
  const sorted = [...rows].sort(byShare);
  const large = sorted.filter(isLarge);
  return large.length > 0 ? large : sorted.slice(0, 1).filter(({ share }) => share >= RARE_SHARE);
}

/** As ranked(), of what the program names only. */
function rankedNamed({ types = [], listeners = [], sites = [] }) {
  const own = types.filter(({ name }) => !GENERIC.has(name)).map((row) => ({ ...row, of: 'types' }));
  const heard = shared(listeners, types).slice(0, LISTENERS).map((row) => ({ ...row, of: 'listeners' }));
  const placed = sites.filter(isLarge).map((row) => ({ ...row, of: 'sites' }));
  return byTurns(placed.sort(byShare), telling([...own, ...heard])).map(({ of, ...row }) => [of, row]);
}

function rankedGeneric({ types = [], entries = [] }) {
  const generic = types.filter(({ name }) => GENERIC.has(name)).map((row) => ({ ...row, of: 'types' }));
  const held = shared(entries, types).map((row) => ({ ...row, of: 'entries' }));
  return [...generic, ...held].filter(isLarge).sort(byShare).map(({ of, ...row }) => [of, row]);
}

/** @param difference rows of grown() by kind: types, entries, listeners, sites.
 *  @returns [kind, row] of the culprits, the likeliest first. */
function ranked(difference) {
  return [...rankedNamed(difference), ...rankedGeneric(difference)].slice(0, CULPRITS);
}

module.exports = { ranked, rankedNamed };
