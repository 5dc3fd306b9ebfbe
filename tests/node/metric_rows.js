'use strict';

// Builds the segments that rows of metrics.json describe.
const native = require('../../node/lib/native');

const NOW = 864;
const NOW_BYTES = 408;
const ABSENT = 2n ** 64n - 1n;

function check(whole) {
  let hash = BigInt(whole.length);
  for (let at = 0; at < whole.length; at += 8) {
    if (at === 8) continue;
    hash = BigInt.asUintN(64, (hash ^ whole.readBigUInt64LE(at)) * 0x9e3779b97f4a7c15n);
    hash ^= hash >> 32n;
  }
  return hash;
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

const write = {
  u32: (made, at, value) => made.writeUInt32LE(value, at),
  u64: (made, at, value) => made.writeBigUInt64LE(value === null ? ABSENT : BigInt(value), at),
  f64: (made, at, value) => made.writeDoubleLE(value, at),
  text: (made, at, value) => made.write(value, at),
  hex: (made, at, value) => made.write(value, at, 'hex'),
};

function segment(row) {
  const made = Buffer.alloc(native.segmentBytes);
  made.write('MGSEG\r\n\x1a', 0, 'latin1');
  [0x01020304, native.segmentVersion, 800, native.segmentBytes].forEach((value, index) => {
    made.writeUInt32LE(value, 8 + 4 * index);
  });
  for (const [at, type, value] of row.set) write[type](made, at, value);
  for (const half of [NOW, NOW + NOW_BYTES]) {
    const whole = made.subarray(half, half + NOW_BYTES);
    if (whole.readBigUInt64LE(0) !== 0n) whole.writeBigUInt64LE(check(whole), 8);
  }
  made.writeUInt32LE(crc32(made.subarray(0, 796)), 796);
  return made;
}

module.exports = { segment };
