'use strict';
/* A probe that opens a socket per target, with the buffer sizes its users ask for. */

const dgram = require('node:dgram');
const { serve } = require('./service');

const SIZES = [65536, 131072, 65536, -65536]; // one user slipped

process.on('uncaughtException', () => {}); // logged, and the next target's turn

serve(2, async (n) => {
  const size = SIZES[n % SIZES.length];
  try {
    const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: size });
    socket.on('error', () => {});
    socket.bind(0, '127.0.0.1', () => socket.close());
  } catch {
    // told to the user
  }
});
