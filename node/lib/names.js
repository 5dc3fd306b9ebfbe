'use strict';

/** "max_memory_mb" to "maxMemoryMb". */
function camel(name) {
  return name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());
}

module.exports = { camel };
