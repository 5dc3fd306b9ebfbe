'use strict';
/* Blobs of all sizes replaced at random: the allocator's holes grow for a while. */

const { serve } = require('./service');

const BLOBS = 3000;
const blobs = new Array(BLOBS);
let seed = 1;

function random() {
  seed = (seed * 48271) % 2147483647;
  return seed / 2147483647;
}

serve(60, () => {
  const bytes = Math.floor(64 * 2 ** (random() * 9)); // 64 bytes to 32 KB
  blobs[Math.floor(random() * BLOBS)] = Buffer.alloc(bytes, 1);
});
