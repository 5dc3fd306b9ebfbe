'use strict';

const { failure } = require('../errors');

/** A connection that broke. @param confirmed, unknown counts or ids: what the
 *  server acknowledged, and what was sent and never answered. */
function broken(what, confirmed, unknown, cause = undefined) {
  const error = failure('EBROKEN', what);
  error.confirmed = confirmed;
  error.unknown = unknown;
  if (cause !== undefined) error.cause = cause;
  return error;
}

module.exports = { broken };
