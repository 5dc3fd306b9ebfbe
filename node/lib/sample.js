'use strict';

// Samples arrive as rows of numbers in the order of native.sampleFields.
const native = require('./native');
const { camel } = require('./names');

const BYTES_PER_MB = 1048576;

/** Index of each field in a row. */
const at = {};
native.sampleFields.forEach((field, index) => {
  at[camel(field)] = index;
});
Object.freeze(at);

const fields = Object.keys(at);
const LENGTH = fields.length;

function named(names, index) {
  return names[index] ?? 'unknown';
}

/** The sample in a row, frozen; null stands for what is not known here. */
function sampleOf(row) {
  const sample = {};
  for (let index = 0; index < LENGTH; index++) {
    sample[fields[index]] = Number.isNaN(row[index]) ? null : row[index];
  }
  sample.domain = named(native.domainNames, row[at.domain]);
  sample.level = named(native.levelNames, row[at.level]);
  return Object.freeze(sample);
}

/** The statistics in row `index` of `rows`. */
function statsOf(rows, index = 0) {
  const row = index * LENGTH;
  const heapUsed = rows[row + at.heapUsedBytes];
  const heapTotal = rows[row + at.heapTotalBytes];
  const rss = rows[row + at.rssBytes];
  return {
    heapUsed,
    heapTotal,
    external: rows[row + at.externalBytes],
    rss,
    arrayBuffers: rows[row + at.arrayBufferBytes],
    timestamp: rows[row + at.unixMs],
    heapUsedPercentage: (100 * heapUsed) / rows[row + at.heapLimitBytes],
    heapUsedMB: heapUsed / BYTES_PER_MB,
    heapTotalMB: heapTotal / BYTES_PER_MB,
    rssMB: rss / BYTES_PER_MB,
  };
}

module.exports = { BYTES_PER_MB, LENGTH, at, named, sampleOf, statsOf };
