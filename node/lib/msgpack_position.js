'use strict';

// Where MessagePack goes wrong: asked only once a decoder has refused the bytes.
// Source: the MessagePack specification, "Formats".

// From 0xc4 on: bytes that hold the length (or count), bytes beside it, and what
// the length counts: 0 bytes, 1 items of an array, 2 of a map.
const SIZED = {
  0xc4: [1, 0, 0], 0xc5: [2, 0, 0], 0xc6: [4, 0, 0],
  0xc7: [1, 1, 0], 0xc8: [2, 1, 0], 0xc9: [4, 1, 0],
  0xd9: [1, 0, 0], 0xda: [2, 0, 0], 0xdb: [4, 0, 0],
  0xdc: [2, 0, 1], 0xdd: [4, 0, 1], 0xde: [2, 0, 2], 0xdf: [4, 0, 2],
};
const FIXED = {
  0xca: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8,
  0xd4: 2, 0xd5: 3, 0xd6: 5, 0xd7: 9, 0xd8: 17,
};

let inside = 0; // values inside of the one that was looked at last

/** Bytes that the value at `at` takes; Infinity if no value begins so, or so late. */
function extent(bytes, at) {
  const first = bytes[at];
  inside = 0;
  if (first < 0x80 || first >= 0xe0 || first === 0xc0 || first === 0xc2 || first === 0xc3) return 1;
  if (first < 0xa0) {
    inside = (first & 15) * (first < 0x90 ? 2 : 1);
    return 1;
  }
  if (first < 0xc0) return 1 + (first & 31);
  if (FIXED[first] !== undefined) return 1 + FIXED[first];
  if (SIZED[first] === undefined) return Infinity;
  const [width, beside, items] = SIZED[first];
  if (at + 1 + width > bytes.length) return Infinity;
  const size = bytes.readUIntBE(at + 1, width);
  inside = items * size;
  return 1 + width + (items === 0 ? beside + size : 0);
}

/** The byte at which a value begins that cannot be there or is cut off; the length
 *  if one is missing altogether, or nothing is found. */
function msgpackErrorPosition(bytes) {
  let at = 0;
  for (let missing = 1; missing > 0 && at < bytes.length; ) {
    const length = extent(bytes, at);
    if (at + length > bytes.length) return at;
    at += length;
    missing += inside - 1;
  }
  return at;
}

module.exports = { msgpackErrorPosition };
