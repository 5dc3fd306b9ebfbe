'use strict';

// What bridges show: memguard's metrics by name.
const { collectMetrics } = require('../metrics');
const { codes } = require('../errors');
const { reportOnce } = require('../report');

/** Samples by family; none while no monitor runs. Never fails. */
function samplesByFamily() {
  try {
    return new Map(collectMetrics().map(({ name, samples }) => [name, samples]));
  } catch (error) {
    if (error.code !== codes.EABSENT) reportOnce(samplesByFamily, 'collecting metrics', error);
    return new Map();
  }
}

module.exports = { samplesByFamily };
