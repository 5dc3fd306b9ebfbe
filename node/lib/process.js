'use strict';

// Readings of this process.
const native = require('./native');
const gc = require('./gc');
const { camel } = require('./names');

const fields = native.processFields.map(camel);

/** The resident set now, in bytes; NaN where the kernel does not tell. */
const { rssBytes } = native;

/** The wide reading; null stands for what is not known here. */
function processInfo() {
  const row = new Float64Array(fields.length);
  native.processInfo(row);
  return Object.fromEntries(fields.map((field, index) => [field, Number.isNaN(row[index]) ? null : row[index]]));
}

const OLDEST_SUPPORTED = 20;

/** What this runtime has of what memguard can use. */
function capabilities() {
  gc.startCounting();
  return Object.freeze({
    node: process.versions.node,
    supported: Number(process.versions.node.split('.')[0]) >= OLDEST_SUPPORTED,
    gcHooks: gc.source(),
    symbolDispose: typeof Symbol.dispose === 'symbol',
    symbolAsyncDispose: typeof Symbol.asyncDispose === 'symbol',
    queryObjects: typeof require('v8').queryObjects === 'function',
    arrayBufferTransfer: typeof ArrayBuffer.prototype.transfer === 'function',
  });
}

module.exports = { capabilities, processInfo, rssBytes };
