'use strict';

/** A rental of `length` bytes, which may be none: a message can be empty, while a
 *  pool rents no less than one byte. */
function rentOf(pool, length) {
  return length > 0 ? pool.rent(length) : pool.rentWriter(1).detach();
}

module.exports = { rentOf };
