'use strict';

// What this process holds, as the detector sees it: rows of [name, count, bytes].
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');
const native = require('../../node/lib/native');
const { decide } = require('../..');
const { thrown } = require('./helpers');

const grown = (before, after, by = 'count') => decide.censusDifference(before, after, { by });

test('open descriptors by target', async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'memguard-'));
  const server = net.createServer(() => {});
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const before = native.censusFds();
  const files = [1, 2, 3].map((number) => fs.openSync(path.join(directory, `part${number}`), 'w'));
  const clients = [1, 2, 3, 4].map(() => net.connect(port, '127.0.0.1'));
  await Promise.all(clients.map((client) => new Promise((resolve) => client.once('connect', resolve))));
  const culprits = grown(before, native.censusFds());
  files.forEach((file) => fs.closeSync(file));
  clients.forEach((client) => client.destroy());
  await new Promise((resolve) => server.close(resolve));
  fs.rmSync(directory, { recursive: true });
  const growth = Object.fromEntries(culprits.map(([name, more]) => [name, more]));
  expect(growth[`socket tcp 127.0.0.1:${port}`]).toBe(4);
  const [[, parts]] = Object.entries(growth).filter(([name]) => name.endsWith('/part#'));
  expect(parts).toBe(3);
});

test('private memory by mapping', () => {
  const before = native.censusMaps();
  const block = Buffer.alloc(64 << 20, 1);
  const [[name, , bytes]] = grown(before, native.censusMaps(), 'bytes');
  expect(name).toMatch(/^(anon|heap)/);
  expect(bytes).toBeGreaterThan(60 << 20);
  expect(block.length).toBe(64 << 20);
});

test.each([
  [[5], 'ERR_MEMGUARD_TYPE', 'a row must be [name, count, bytes]'],
  [[[5, 1, 1]], 'ERR_MEMGUARD_TYPE', 'a row must be [name, count, bytes]'],
  [[['a', -1, 1]], 'ERR_MEMGUARD_RANGE', 'not negative'],
  [[['a', 1.5, 1]], 'ERR_MEMGUARD_RANGE', 'whole number'],
])('rows that are none: %j', (rows, code, text) => {
  const error = thrown(() => decide.censusDifference(rows, []));
  expect(error.code).toBe(code);
  expect(error.message).toContain(text);
});

test('bounds', () => {
  expect(thrown(() => decide.censusDifference([], [], { limit: 1001 })).code).toBe('ERR_MEMGUARD_RANGE');
  expect(thrown(() => decide.censusDifference([], [], { maxNames: 100_001 })).code).toBe('ERR_MEMGUARD_RANGE');
});
