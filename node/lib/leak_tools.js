'use strict';

// What memguard.leak offers: looking for leaks by hand.
const { assertNoLeak, findLeaks } = require('./leak_assert');
const { HEAP_LIMIT_BYTES, census, censusDifference } = require('./leak_census');
const { requireNumber } = require('./errors');
const { isPlain } = require('./config');
const { failure, kindOf } = require('./errors');

const BYTES_PER_MB = 1048576;

/** What this isolate holds now, as plain objects of counts by name. */
function takeCensus(options = {}) {
  if (!isPlain(options)) throw failure('ETYPE', `options must be a plain object, not ${kindOf(options)}`);
  const { heapLimitMb = HEAP_LIMIT_BYTES / BYTES_PER_MB, ...rest } = options;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw failure('EKEY', `${unknown} is no option, allowed: heapLimitMb`);
  requireNumber(heapLimitMb, 'heapLimitMb', 0);
  return census({ heapLimitBytes: heapLimitMb * BYTES_PER_MB });
}

module.exports = { assertNoLeak, census: takeCensus, censusDifference, findLeaks };
