'use strict';

function define(Class, symbol, value) {
  if (typeof symbol !== 'symbol') return; // the runtime has no such thing
  Object.defineProperty(Class.prototype, symbol, { value, configurable: true, writable: true });
}

/** Makes the method `name` serve `using` and `await using`. */
function defineDisposal(Class, name = 'close') {
  define(Class, Symbol.dispose, function dispose() {
    this[name]();
  });
  define(Class, Symbol.asyncDispose, async function asyncDispose() {
    await this[name]();
  });
}

module.exports = { defineDisposal };
