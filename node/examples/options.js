'use strict';

/** What the command lines of the examples share, for a program's name:
 *  usageError(text) ends it over wrong use, with exit code 2; positive(name, text) is
 *  the number of an option, undefined if it is not given. */
function optionsOf(program) {
  function usageError(text) {
    console.error(`${program}: ${text}`);
    process.exit(2);
  }

  function positive(name, text) {
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!(value > 0 && Number.isFinite(value))) usageError(`--${name} is "${text}", not a number above 0`);
    return value;
  }

  return { positive, usageError };
}

module.exports = { optionsOf };
