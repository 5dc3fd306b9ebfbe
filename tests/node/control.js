'use strict';

// Asks a process over its control socket, as the memguard tool does.
const net = require('net');

const FRAME_BYTES = 16;

/** Asks over the socket, as the tool does. @returns [status, text] */
function ask(segmentPath, command, text = '') {
  const payload = Buffer.from(text);
  const head = Buffer.alloc(FRAME_BYTES);
  head.write('MGC1');
  [payload.length, command, 1].forEach((value, index) => head.writeUInt32LE(value, 4 + 4 * index));
  return new Promise((resolve, reject) => {
    const socket = net.connect(`${segmentPath}.sock`);
    const parts = [];
    socket.write(Buffer.concat([head, payload]));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the process broke off')));
    socket.on('data', (part) => {
      parts.push(part);
      const all = Buffer.concat(parts);
      if (all.length < FRAME_BYTES || all.length < FRAME_BYTES + all.readUInt32LE(4)) return;
      socket.destroy();
      resolve([all.readUInt32LE(8), all.subarray(FRAME_BYTES).toString()]);
    });
  });
}

module.exports = { ask };
