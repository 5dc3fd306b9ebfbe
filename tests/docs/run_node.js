'use strict';

// Runs blocks of a page, each a function of its own; what the unseen text before a block
// sets on `globalThis` is there for all that follow, as are the names that memguard
// exports. Input: a JSON list of { given, text, line } on stdin; argument: the page.
const fs = require('fs');
const path = require('path');
const vm = require('vm');

const root = path.resolve(__dirname, '../..');
const page = process.argv[2];
const memguard = require(path.join(root, 'node'));
const AsyncFunction = (async () => {}).constructor;

// As in a program that has memguard installed.
function requireForReaders(name) {
  if (name === 'memguard') return memguard;
  if (name.startsWith('memguard/')) return require(path.join(root, 'node', name.slice('memguard/'.length)));
  return require(require.resolve(name, { paths: [root] }));
}

async function main() {
  for (const name of Object.keys(memguard)) {
    Object.defineProperty(globalThis, name, { configurable: true, get: () => memguard[name] });
  }
  globalThis.require = requireForReaders;
  for (const { given, text, line } of JSON.parse(fs.readFileSync(0, 'utf8'))) {
    vm.runInThisContext(given, { filename: page });
    try {
      await new AsyncFunction('require', text)(requireForReaders);
    } catch (error) {
      error.message = `block at line ${line}: ${error.message}`;
      throw error;
    }
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
